/* dns_msg.c – whole DNS messages: reading them into plain values, building them.
 *
 * ldns parses and writes the wire; everything it hands over is copied and freed here. The
 * table `shapes` says which parts of the rdata get names; all other types only have their
 * zone-file text. TXT text is joined from its strings, as every reader of a TXT record
 * (ACME, SPF, CAA issuers) does.
 *
 * Whether bytes are an answer at all is decided on the raw bytes (sr_dns_answers), before
 * anything is parsed.
 */
#include "dcv/dns_msg.h"

#include <ctype.h>
#include <ldns/ldns.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEADER = 12, STRING_MAX = 255 };

/* ---------------------------------------------------------------- shapes of rdata */

typedef struct shape {
    ldns_rr_type type;
    const char *field[SR_DNS_FIELDS];
} shape;

static const shape shapes[] = {
    {LDNS_RR_TYPE_A, {"address"}},
    {LDNS_RR_TYPE_AAAA, {"address"}},
    {LDNS_RR_TYPE_NS, {"target"}},
    {LDNS_RR_TYPE_CNAME, {"target"}},
    {LDNS_RR_TYPE_DNAME, {"target"}},
    {LDNS_RR_TYPE_PTR, {"target"}},
    {LDNS_RR_TYPE_MX, {"preference", "exchange"}},
    {LDNS_RR_TYPE_SOA,
     {"mname", "rname", "serial", "refresh", "retry", "expire", "minimum"}},
    {LDNS_RR_TYPE_CAA, {"flags", "tag", "content"}},
    {LDNS_RR_TYPE_SRV, {"priority", "weight", "port", "target"}},
};

static const shape *shape_of(ldns_rr_type type) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].type == type) return &shapes[i];
    return NULL;
}

/* ---------------------------------------------------------------- reading: rdata */

/* The text of one part, to be freed; names without the dot at the end. */
static char *part_text(const ldns_rdf *part) {
    char *text = ldns_rdf2str(part);
    size_t len = text ? strlen(text) : 0;
    if (len > 1 && ldns_rdf_get_type(part) == LDNS_RDF_TYPE_DNAME) text[len - 1] = 0;
    return text;
}

static bool part_number(const ldns_rdf *part, uint32_t *ret_number) {
    switch (ldns_rdf_get_type(part)) {
    case LDNS_RDF_TYPE_INT8: *ret_number = ldns_rdf2native_int8(part); return true;
    case LDNS_RDF_TYPE_INT16: *ret_number = ldns_rdf2native_int16(part); return true;
    case LDNS_RDF_TYPE_INT32:
    case LDNS_RDF_TYPE_PERIOD: *ret_number = ldns_rdf2native_int32(part); return true;
    default: return false;
    }
}

static bool keep_bytes(sr_dns_field *field, const void *data, size_t len) {
    field->text = malloc(len + 1);
    if (!field->text) return false;
    memcpy(field->text, data, len);
    field->text[len] = 0;
    field->len = len;
    return true;
}

static bool read_field(sr_dns_field *field, const char *name, const ldns_rdf *part) {
    const uint8_t *data = ldns_rdf_data(part);
    size_t len = ldns_rdf_size(part);
    field->name = name;
    if (part_number(part, &field->number)) return true;
    if (ldns_rdf_get_type(part) == LDNS_RDF_TYPE_LONG_STR)
        return keep_bytes(field, data, len);
    if (ldns_rdf_get_type(part) == LDNS_RDF_TYPE_TAG && len)
        return keep_bytes(field, data + 1, len - 1);
    field->text = part_text(part);
    field->len = field->text ? strlen(field->text) : 0;
    return field->text != NULL;
}

/* All strings of a TXT record, joined. */
static bool join_strings(sr_dns_record *record, const ldns_rr *rr) {
    sr_buf all = {0};
    for (size_t i = 0; i < ldns_rr_rd_count(rr); i++) {
        const ldns_rdf *part = ldns_rr_rdf(rr, i);
        size_t len = ldns_rdf_size(part);
        if (len > 1) sr_buf_append(&all, ldns_rdf_data(part) + 1, len - 1);
    }
    sr_dns_field *field = &record->field[record->fields++];
    field->name = "text";
    bool ok = !all.oom && keep_bytes(field, all.data ? all.data : "", all.len);
    sr_buf_free(&all);
    return ok;
}

static bool read_value(sr_dns_record *record, const ldns_rr *rr) {
    sr_buf all = {0};
    for (size_t i = 0; i < ldns_rr_rd_count(rr); i++) {
        char *text = part_text(ldns_rr_rdf(rr, i));
        if (i) sr_buf_puts(&all, " ");
        if (text)
            sr_buf_puts(&all, text);
        else
            all.oom = true;
        free(text);
    }
    record->value = all.oom ? NULL : all.data;
    if (all.oom) sr_buf_free(&all);
    return record->value != NULL;
}

static bool read_rdata(sr_dns_record *record, const ldns_rr *rr) {
    const shape *known = shape_of(ldns_rr_get_type(rr));
    if (ldns_rr_rd_count(rr) == 0) return true;
    if (!read_value(record, rr)) return false;
    if (ldns_rr_get_type(rr) == LDNS_RR_TYPE_TXT) return join_strings(record, rr);
    for (size_t i = 0; known && i < ldns_rr_rd_count(rr) && i < SR_DNS_FIELDS; i++) {
        if (!known->field[i]) break;
        record->fields++;
        if (!read_field(&record->field[i], known->field[i], ldns_rr_rdf(rr, i)))
            return false;
    }
    return true;
}

/* ---------------------------------------------------------------- reading: messages */

static void lower_names(ldns_rr *rr) {
    ldns_dname2canonical(ldns_rr_owner(rr));
    for (size_t i = 0; i < ldns_rr_rd_count(rr); i++)
        if (ldns_rdf_get_type(ldns_rr_rdf(rr, i)) == LDNS_RDF_TYPE_DNAME)
            ldns_dname2canonical(ldns_rr_rdf(rr, i));
}

static void copy_word(char *out, size_t size, char *word) {
    snprintf(out, size, "%s", word ? word : "");
    free(word);
}

static bool read_record(sr_dns_record *record, ldns_rr *rr) {
    lower_names(rr);
    record->name = part_text(ldns_rr_owner(rr));
    record->ttl = ldns_rr_ttl(rr);
    if (record->ttl > INT32_MAX) record->ttl = 0; /* RFC 2181 section 8 */
    copy_word(record->type, sizeof record->type, ldns_rr_type2str(ldns_rr_get_type(rr)));
    copy_word(record->class_, sizeof record->class_,
              ldns_rr_class2str(ldns_rr_get_class(rr)));
    return record->name && read_rdata(record, rr);
}

static bool read_list(sr_dns_list *list, const ldns_rr_list *from) {
    size_t count = from ? ldns_rr_list_rr_count(from) : 0;
    list->at = calloc(count ? count : 1, sizeof *list->at);
    if (!list->at) return false;
    for (size_t i = 0; i < count; i++) {
        list->count++;
        if (!read_record(&list->at[i], ldns_rr_list_rr(from, i))) return false;
    }
    return true;
}

static bool read_question(sr_dns_message *message, const ldns_pkt *packet) {
    const ldns_rr_list *list = ldns_pkt_question(packet);
    if (!list || ldns_rr_list_rr_count(list) == 0) return true;
    ldns_rr *rr = ldns_rr_list_rr(list, 0);
    lower_names(rr);
    message->has_question = true;
    message->name = part_text(ldns_rr_owner(rr));
    copy_word(message->type, sizeof message->type,
              ldns_rr_type2str(ldns_rr_get_type(rr)));
    copy_word(message->class_, sizeof message->class_,
              ldns_rr_class2str(ldns_rr_get_class(rr)));
    return message->name != NULL;
}

static void opcode_name(int opcode, char *out, size_t size) {
    if (opcode == LDNS_PACKET_QUERY)
        snprintf(out, size, "QUERY");
    else if (opcode == LDNS_PACKET_NOTIFY)
        snprintf(out, size, "NOTIFY");
    else if (opcode == LDNS_PACKET_UPDATE)
        snprintf(out, size, "UPDATE");
    else
        snprintf(out, size, "OP%d", opcode & 15);
}

static sr_dns_head read_head(const ldns_pkt *packet) {
    sr_dns_head head = {
        .id = ldns_pkt_id(packet),
        .qr = ldns_pkt_qr(packet),
        .aa = ldns_pkt_aa(packet),
        .tc = ldns_pkt_tc(packet),
        .rd = ldns_pkt_rd(packet),
        .ra = ldns_pkt_ra(packet),
        .ad = ldns_pkt_ad(packet),
        .cd = ldns_pkt_cd(packet),
        .rcode = ldns_pkt_get_rcode(packet),
        .has_edns = ldns_pkt_edns(packet),
    };
    opcode_name((int)ldns_pkt_get_opcode(packet), head.opcode, sizeof head.opcode);
    if (head.has_edns) {
        head.rcode |= ldns_pkt_edns_extended_rcode(packet) << 4;
        head.edns_size = ldns_pkt_edns_udp_size(packet);
        head.edns_version = ldns_pkt_edns_version(packet);
        head.edns_do = ldns_pkt_edns_do(packet);
    }
    return head;
}

static bool read_message(sr_dns_message *message, ldns_pkt *packet) {
    message->head = read_head(packet);
    message->has_tsig = ldns_pkt_tsig(packet) != NULL;
    return read_question(message, packet) &&
           read_list(&message->section[SR_DNS_ANSWER], ldns_pkt_answer(packet)) &&
           read_list(&message->section[SR_DNS_AUTHORITY], ldns_pkt_authority(packet)) &&
           read_list(&message->section[SR_DNS_ADDITIONAL], ldns_pkt_additional(packet));
}

int sr_dns_decode(const void *wire, size_t len, sr_dns_message *ret_message,
                  sr_err *err) {
    ldns_pkt *packet = NULL;
    *ret_message = (sr_dns_message){0};
    if (len < HEADER || len > SR_DNS_MAX)
        return sr_fail(err, SR_PROTOCOL, "FORMERR",
                       "a DNS message has %d to %d bytes, "
                       "got %zu",
                       HEADER, SR_DNS_MAX, len);
    ldns_status status = ldns_wire2pkt(&packet, wire, len);
    if (status != LDNS_STATUS_OK)
        return sr_fail(err, SR_PROTOCOL, "FORMERR", "the DNS message is malformed: %s",
                       ldns_get_errorstr_by_id(status));
    bool ok = read_message(ret_message, packet);
    ldns_pkt_free(packet);
    if (!ok) {
        sr_dns_message_free(ret_message);
        return sr_fail(err, SR_INTERNAL, "ENOMEM", "not enough memory");
    }
    return 0;
}

static void list_free(sr_dns_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        sr_dns_record *record = &list->at[i];
        for (int k = 0; k < record->fields; k++)
            free(record->field[k].text);
        free(record->name);
        free(record->value);
    }
    free(list->at);
}

void sr_dns_message_free(sr_dns_message *message) {
    for (int i = 0; i < SR_DNS_SECTIONS; i++)
        list_free(&message->section[i]);
    free(message->name);
    *message = (sr_dns_message){0};
}

/* ---------------------------------------------------------------- is it the answer? */

/* The end of an uncompressed question at HEADER, or 0. */
static size_t question_end(const uint8_t *wire, size_t len) {
    size_t at = HEADER;
    while (at < len && wire[at] != 0) {
        if (wire[at] > 63) return 0;
        at += (size_t)wire[at] + 1;
    }
    return at + 5 <= len ? at + 5 : 0;
}

static bool same_question(const uint8_t *a, const uint8_t *b, size_t end) {
    for (size_t i = HEADER; i < end - 4; i++) /* length bytes are below 64: no letters */
        if (tolower(a[i]) != tolower(b[i])) return false;
    return memcmp(a + end - 4, b + end - 4, 4) == 0;
}

bool sr_dns_answers(const void *query, size_t query_len, const void *wire, size_t len,
                    const char **ret_why) {
    const uint8_t *q = query, *a = wire;
    size_t end = query_len > HEADER ? question_end(q, query_len) : 0;
    const char *why = NULL;
    if (len < HEADER || !end)
        why = "it is too short";
    else if (memcmp(q, a, 2) != 0)
        why = "its id is another one";
    else if (!(a[2] & 0x80))
        why = "it is a query";
    else if ((q[2] & 0x78) != (a[2] & 0x78))
        why = "it is about another operation";
    else if (a[4] == 0 && a[5] == 0 && (a[3] & 15) != 0)
        why = NULL; /* an error may leave the question out */
    else if (a[4] != q[4] || a[5] != q[5] || len < end || !same_question(q, a, end))
        why = "its question is another one";
    if (ret_why) *ret_why = why;
    return why == NULL;
}

/* ---------------------------------------------------------------- building */

struct sr_dns_draft {
    ldns_pkt *packet;
};

static int no_memory(sr_err *err) {
    return sr_fail(err, SR_INTERNAL, "ENOMEM", "not enough memory");
}

static int opcode_of(const char *name, sr_err *err) {
    if (!*name || strcmp(name, "QUERY") == 0) return LDNS_PACKET_QUERY;
    if (strcmp(name, "NOTIFY") == 0) return LDNS_PACKET_NOTIFY;
    if (strcmp(name, "UPDATE") == 0) return LDNS_PACKET_UPDATE;
    return sr_fail(err, SR_USAGE, "BAD_ARGUMENT",
                   "opcode is QUERY, NOTIFY or UPDATE, got %s", name);
}

static int class_of(const char *name, ldns_rr_class *ret_class, sr_err *err) {
    ldns_rr_class class_ = name ? ldns_get_rr_class_by_name(name) : LDNS_RR_CLASS_IN;
    if (class_ == 0)
        return sr_fail(err, SR_USAGE, "BAD_ARGUMENT",
                       "class is IN, CH, NONE or ANY, got %.40s", name);
    *ret_class = class_;
    return 0;
}

static void write_head(ldns_pkt *packet, const sr_dns_head *head, int opcode) {
    ldns_pkt_set_id(packet, head->id);
    ldns_pkt_set_opcode(packet, (ldns_pkt_opcode)opcode);
    ldns_pkt_set_qr(packet, head->qr);
    ldns_pkt_set_aa(packet, head->aa);
    ldns_pkt_set_tc(packet, head->tc);
    ldns_pkt_set_rd(packet, head->rd);
    ldns_pkt_set_ra(packet, head->ra);
    ldns_pkt_set_ad(packet, head->ad);
    ldns_pkt_set_cd(packet, head->cd);
    ldns_pkt_set_rcode(packet, (uint8_t)(head->rcode & 15));
    if (!head->has_edns) return;
    ldns_pkt_set_edns_udp_size(packet, (uint16_t)head->edns_size);
    ldns_pkt_set_edns_extended_rcode(packet, (uint8_t)(head->rcode >> 4));
    ldns_pkt_set_edns_do(packet, head->edns_do);
}

/* A record without rdata, or the question; NULL with *err filled. */
static ldns_rr *bare_record(const char *name, const char *type, const char *class_,
                            sr_err *err) {
    uint8_t wire[255];
    size_t len;
    uint16_t number;
    ldns_rr_class in;
    if (sr_dns_name_wire(name, wire, &len, err) != 0 ||
        sr_dns_type(type, &number, err) != 0 || class_of(class_, &in, err) != 0)
        return NULL;
    ldns_rr *rr = ldns_rr_new();
    ldns_rdf *owner = ldns_dname_new_frm_data((uint16_t)len, wire);
    if (!rr || !owner) {
        ldns_rr_free(rr);
        ldns_rdf_deep_free(owner);
        (void)no_memory(err);
        return NULL;
    }
    ldns_rr_set_owner(rr, owner);
    ldns_rr_set_type(rr, (ldns_rr_type)number);
    ldns_rr_set_class(rr, in);
    return rr;
}

sr_dns_draft *sr_dns_draft_new(const sr_dns_head *head, const char *name,
                               const char *type, const char *class_, sr_err *err) {
    int opcode = opcode_of(head->opcode, err);
    ldns_rr *question = opcode < 0 ? NULL : bare_record(name, type, class_, err);
    if (!question) return NULL;
    ldns_rr_set_question(question, true);
    sr_dns_draft *draft = malloc(sizeof *draft);
    ldns_pkt *packet = draft ? ldns_pkt_new() : NULL;
    if (!packet || !ldns_pkt_push_rr(packet, LDNS_SECTION_QUESTION, question)) {
        ldns_rr_free(question);
        ldns_pkt_free(packet);
        free(draft);
        (void)no_memory(err);
        return NULL;
    }
    write_head(packet, head, opcode);
    draft->packet = packet;
    return draft;
}

void sr_dns_draft_free(sr_dns_draft *draft) {
    if (!draft) return;
    ldns_pkt_free(draft->packet);
    free(draft);
}

static bool push_string(ldns_rr *rr, const char *text, size_t len) {
    uint8_t data[STRING_MAX + 1];
    data[0] = (uint8_t)len;
    memcpy(data + 1, text, len);
    ldns_rdf *part = ldns_rdf_new_frm_data(LDNS_RDF_TYPE_STR, len + 1, data);
    if (part && ldns_rr_push_rdf(rr, part)) return true;
    ldns_rdf_deep_free(part);
    return false;
}

static int put_text(ldns_rr *rr, const sr_dns_add *add, sr_err *err) {
    if (ldns_rr_get_type(rr) != LDNS_RR_TYPE_TXT)
        return sr_fail(err, SR_USAGE, "BAD_ARGUMENT",
                       "%s %s: only TXT records are given as text; give a value",
                       add->name, add->type);
    if (add->text_len + add->text_len / STRING_MAX + 1 > SR_DNS_MAX / 2)
        return sr_fail(err, SR_LIMIT, "TOO_LONG",
                       "%s TXT: %zu bytes do not fit into a message", add->name,
                       add->text_len);
    size_t at = 0;
    do {
        size_t len = add->text_len - at;
        if (len > STRING_MAX) len = STRING_MAX;
        if (!push_string(rr, add->text + at, len)) return no_memory(err);
        at += len;
    } while (at < add->text_len);
    return 0;
}

/* Types whose zone-file text is read. ldns leaks on some wrong texts of rarer ones; those
 * are given in the general form "\\# LENGTH HEX" (RFC 3597), which fits every type. */
static bool reads_text(ldns_rr_type type) {
    return shape_of(type) || type == LDNS_RR_TYPE_TXT || type == LDNS_RR_TYPE_TLSA ||
           type == LDNS_RR_TYPE_DS || type == LDNS_RR_TYPE_SSHFP;
}

static int check_text(const ldns_rr *rr, const sr_dns_add *add, sr_err *err) {
    for (const char *c = add->value; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return sr_fail(err, SR_USAGE, "BAD_VALUE",
                           "%s %s: the value has a control character", add->name,
                           add->type);
    if (strncmp(add->value, "\\#", 2) == 0 || reads_text(ldns_rr_get_type(rr))) return 0;
    return sr_fail(err, SR_USAGE, "BAD_VALUE",
                   "%s %s: give the value as \\# LENGTH HEX (RFC 3597); only the common "
                   "types are read as text",
                   add->name, add->type);
}

/* Rdata from its zone-file text, by way of a line that ldns reads. */
static int put_value(ldns_rr *rr, const sr_dns_add *add, sr_err *err) {
    sr_buf line = {0};
    ldns_rr *read = NULL;
    int rc = 0;
    if (check_text(rr, add, err) != 0) return -1;
    char *type = ldns_rr_type2str(ldns_rr_get_type(rr));
    if (!type) return no_memory(err);
    sr_buf_printf(&line, ". 0 IN %s %s", type, add->value);
    free(type);
    if (line.oom) {
        sr_buf_free(&line);
        return no_memory(err);
    }
    ldns_status status = ldns_rr_new_frm_str(&read, line.data, 0, NULL, NULL);
    sr_buf_free(&line);
    if (status != LDNS_STATUS_OK || ldns_rr_rd_count(read) == 0)
        rc = sr_fail(err, SR_USAGE, "BAD_VALUE",
                     "%s %s: \"%.200s\" is not a value of "
                     "that type: %s",
                     add->name, add->type, add->value,
                     status ? ldns_get_errorstr_by_id(status) : "it is empty");
    for (size_t i = 0; rc == 0 && i < ldns_rr_rd_count(read); i++) {
        ldns_rdf *part = ldns_rdf_clone(ldns_rr_rdf(read, i));
        if (!part || !ldns_rr_push_rdf(rr, part)) rc = no_memory(err);
    }
    if (status == LDNS_STATUS_OK) ldns_rr_free(read);
    return rc;
}

int sr_dns_draft_add(sr_dns_draft *draft, sr_dns_section section, const sr_dns_add *add,
                     sr_err *err) {
    static const ldns_pkt_section place[] = {LDNS_SECTION_ANSWER, LDNS_SECTION_AUTHORITY,
                                             LDNS_SECTION_ADDITIONAL};
    ldns_rr *rr = bare_record(add->name, add->type, add->class_, err);
    if (!rr) return -1;
    ldns_rr_set_ttl(rr, add->ttl);
    int rc = 0;
    if (add->text)
        rc = put_text(rr, add, err);
    else if (add->value)
        rc = put_value(rr, add, err);
    if (rc == 0 && !ldns_pkt_push_rr(draft->packet, place[section], rr))
        rc = no_memory(err);
    if (rc != 0) ldns_rr_free(rr);
    return rc;
}

/* The message without its records, and the TC flag up. */
static int encode_truncated(const ldns_pkt *packet, uint8_t **ret_wire, size_t *ret_len) {
    ldns_pkt *bare = ldns_pkt_clone(packet);
    if (!bare) return -1;
    ldns_pkt_section sections[] = {LDNS_SECTION_ANSWER, LDNS_SECTION_AUTHORITY,
                                   LDNS_SECTION_ADDITIONAL};
    ldns_rr_list *lists[] = {ldns_pkt_answer(bare), ldns_pkt_authority(bare),
                             ldns_pkt_additional(bare)};
    for (int i = 0; i < 3; i++) {
        while (lists[i] && ldns_rr_list_rr_count(lists[i]))
            ldns_rr_free(ldns_rr_list_pop_rr(lists[i]));
        ldns_pkt_set_section_count(bare, sections[i], 0);
    }
    ldns_pkt_set_tc(bare, true);
    ldns_status status = ldns_pkt2wire(ret_wire, bare, ret_len);
    ldns_pkt_free(bare);
    return status == LDNS_STATUS_OK ? 0 : -1;
}

int sr_dns_draft_encode(const sr_dns_draft *draft, size_t max, sr_buf *out,
                        bool *ret_truncated, sr_err *err) {
    uint8_t *wire = NULL;
    size_t len = 0;
    bool truncated = false;
    if (max == 0 || max > SR_DNS_MAX) max = SR_DNS_MAX;
    if (ldns_pkt2wire(&wire, draft->packet, &len) != LDNS_STATUS_OK)
        return sr_fail(err, SR_LIMIT, "TOO_LONG", "the DNS message cannot be written");
    if (len > max) {
        truncated = true;
        free(wire);
        wire = NULL;
        if (encode_truncated(draft->packet, &wire, &len) != 0) return no_memory(err);
    }
    int rc = sr_buf_append(out, wire, len);
    free(wire);
    if (rc != 0) return no_memory(err);
    if (ret_truncated) *ret_truncated = truncated;
    return 0;
}
