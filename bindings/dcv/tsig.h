/* tsig.h – signed DNS messages, RFC 8945: HMAC-SHA256, -SHA384 and -SHA512.
 *
 * Pure: works on the bytes of a whole message, the time is a parameter (UTC seconds), no
 * Lua, no I/O. Signing appends the TSIG record; verifying finds it, checks the MAC in
 * constant time over the full length (truncated MACs are not taken) and then the time, in
 * the order of RFC 8945 section 5.2. Functions return 0, or -1 with *err filled.
 *
 * Codes of errors (kind auth): BADKEY, BADSIG, BADTIME, BADTRUNC, and UNSIGNED where a
 * signature was expected and there is none.
 */
#ifndef SR_DCV_TSIG_H
#define SR_DCV_TSIG_H

#include "base.h"

#define SR_TSIG_FUDGE 300 /* seconds two clocks may differ */
#define SR_TSIG_MAC 64

typedef struct sr_tsig_key {
    uint8_t name[255]; /* as on the wire, lower case */
    size_t name_len;
    char *shown;     /* the name for people */
    const char *alg; /* static: "hmac-sha256" … */
    sr_buf secret;
} sr_tsig_key;

typedef struct sr_tsig_mac {
    uint8_t bytes[SR_TSIG_MAC];
    size_t len;
} sr_tsig_mac;

/* alg: "hmac-sha256", "hmac-sha384" or "hmac-sha512"; secret: base64, as every DNS server
 * shows it. Errors: usage; none tells of the secret. */
int sr_tsig_key_init(sr_tsig_key *key, const char *name, const char *alg,
                     const char *secret, size_t secret_len, sr_err *err);
void sr_tsig_key_free(sr_tsig_key *key);

/* What a signature says beside its MAC. */
typedef struct sr_tsig_info {
    char *key;          /* name, to be freed with sr_tsig_info_free */
    char *alg;          /* "hmac-sha256.", as on the wire, without the dot */
    uint64_t signed_at; /* UTC seconds */
    int fudge;
    int error;            /* 0, 16 BADSIG, 17 BADKEY, 18 BADTIME, 22 BADTRUNC */
    uint64_t server_time; /* of a BADTIME response, else 0 */
    sr_tsig_mac mac;
} sr_tsig_info;

void sr_tsig_info_free(sr_tsig_info *info);

/* Append a TSIG record to the message in `wire`. prior: MAC of the request when signing a
 * response, else NULL. error: of a response (0 else); BADSIG and BADKEY responses carry
 * no MAC, BADTIME ones carry `now` as the server's time and the request's time as
 * signed_at. ret_mac may be NULL. */
int sr_tsig_sign(const sr_tsig_key *key, sr_buf *wire, const sr_tsig_mac *prior,
                 uint64_t signed_at, int error, uint64_t now, sr_tsig_mac *ret_mac,
                 sr_err *err);

/* Read the signature of a message without checking it. *ret_found false: there is none.
 * Errors: protocol (malformed, or a TSIG that is not the last record). */
int sr_tsig_read(const void *wire, size_t len, bool *ret_found, sr_tsig_info *ret_info,
                 sr_err *err);

/* Check the signature of a message. prior: MAC of our request when it is a response. peer
 * names who sent it, for messages. now: our time. A verified response that carries an
 * error (BADTIME), or an unsigned BADKEY or BADSIG one, is an error that tells what the
 * peer means. ret_info (may be NULL) is filled whenever there is a signature, also on
 * failure. */
int sr_tsig_verify(const sr_tsig_key *key, const void *wire, size_t len,
                   const sr_tsig_mac *prior, uint64_t now, const char *peer,
                   sr_tsig_info *ret_info, sr_err *err);

#endif
