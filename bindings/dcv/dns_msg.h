/* dns_msg.h – DNS messages (RFC 1035, EDNS of RFC 6891, UPDATE of RFC 2136) and bytes.
 *
 * Pure: no Lua, no I/O, safe on any thread. ldns does names, compression and rdata; what
 * leaves here are plain C values. Names are lower case, without the dot at the end, "."
 * is the root; odd bytes are written \DDD. Functions return 0, or -1 with *err filled and
 * outputs untouched: usage for what the caller gave, protocol for what a peer sent.
 */
#ifndef SR_DCV_DNS_MSG_H
#define SR_DCV_DNS_MSG_H

#include "base.h"

#define SR_DNS_MAX 65535 /* bytes of a message */

typedef enum sr_dns_section {
    SR_DNS_ANSWER,    /* prerequisites of an UPDATE */
    SR_DNS_AUTHORITY, /* changes of an UPDATE */
    SR_DNS_ADDITIONAL,
    SR_DNS_SECTIONS
} sr_dns_section;

/* One part of the rdata: a number, or bytes. */
typedef struct sr_dns_field {
    const char *name; /* static: "preference" */
    char *text;       /* NULL: a number; NUL-terminated, may hold NULs */
    size_t len;
    uint32_t number;
} sr_dns_field;

#define SR_DNS_FIELDS 7

typedef struct sr_dns_record {
    char *name;
    char type[16];   /* "AAAA", "TYPE65280" */
    char class_[12]; /* "IN", "ANY", "NONE" */
    uint32_t ttl;
    char *value; /* the rdata as in a zone file; NULL: there is none */
    sr_dns_field field[SR_DNS_FIELDS];
    int fields;
} sr_dns_record;

typedef struct sr_dns_list {
    sr_dns_record *at;
    size_t count;
} sr_dns_list;

typedef struct sr_dns_head {
    uint16_t id;
    char opcode[8]; /* "QUERY", "NOTIFY", "UPDATE", "OP3" */
    bool qr, aa, tc, rd, ra, ad, cd;
    int rcode; /* with the upper bits of EDNS */
    bool has_edns;
    int edns_size, edns_version;
    bool edns_do;
} sr_dns_head;

typedef struct sr_dns_message {
    sr_dns_head head;
    bool has_question;
    char *name; /* of the question, or the zone of an UPDATE */
    char type[16], class_[12];
    sr_dns_list section[SR_DNS_SECTIONS];
    bool has_tsig;
} sr_dns_message;

/* Read a whole message. Free it in any case. */
int sr_dns_decode(const void *wire, size_t len, sr_dns_message *ret_message, sr_err *err);
void sr_dns_message_free(sr_dns_message *message);

/* Whether the bytes answer the query: same id, same question, marked as a response.
 * ret_why (may be NULL) is set to a static text if not. Looks at nothing else, so that
 * what anybody may send costs nothing. */
bool sr_dns_answers(const void *query, size_t query_len, const void *wire, size_t len,
                    const char **ret_why);

/* ---------------------------------------------------------------- building */

typedef struct sr_dns_draft sr_dns_draft;

/* The question (zone) is given by words. class_ NULL: IN. */
sr_dns_draft *sr_dns_draft_new(const sr_dns_head *head, const char *name,
                               const char *type, const char *class_, sr_err *err);
void sr_dns_draft_free(sr_dns_draft *draft);

typedef struct sr_dns_add {
    const char *name, *type, *class_; /* class_ NULL: IN */
    uint32_t ttl;
    const char *value; /* as in a zone file; NULL with text NULL: no rdata */
    const char *text;  /* TXT: any bytes, split into strings of 255 */
    size_t text_len;
} sr_dns_add;

int sr_dns_draft_add(sr_dns_draft *draft, sr_dns_section section, const sr_dns_add *add,
                     sr_err *err);
/* Append the message to out. Beyond max bytes (0: SR_DNS_MAX) the sections are left out
 * and the TC flag is set, *ret_truncated with it (may be NULL). */
int sr_dns_draft_encode(const sr_dns_draft *draft, size_t max, sr_buf *out,
                        bool *ret_truncated, sr_err *err);

/* ---------------------------------------------------------------- words */

/* The canonical form of a name, to be freed. Explains what is wrong with it: an empty or
 * long label, letters beyond ASCII, a URL. */
int sr_dns_name(const char *text, size_t len, char **ret_name, sr_err *err);
/* The name as the wire has it, lower case, uncompressed; at most 255 bytes. */
int sr_dns_name_wire(const char *text, uint8_t ret_wire[255], size_t *ret_len,
                     sr_err *err);
/* Whether there is such a record type; the error suggests one. */
int sr_dns_type(const char *text, uint16_t *ret_type, sr_err *err);
/* Its usual spelling: "CAA" also for "type257". */
void sr_dns_type_name(uint16_t type, char ret_name[16]);
/* "NXDOMAIN", "RCODE42"; valid until the next call of this thread. */
const char *sr_dns_rcode_name(int rcode);
/* -1: there is none of that name. */
int sr_dns_rcode_of(const char *name);

#endif
