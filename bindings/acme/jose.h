/* jose.h – the signatures of ACME: JWS, external account binding, key authorization.
 *
 * Pure: no Lua, no I/O. Signing itself is the key's business (pki/pki.h); here the bytes
 * around it are put in the one form that every CA takes.
 */
#ifndef SR_JOSE_H
#define SR_JOSE_H

#include "base.h"
#include "pki/pki.h"

/* One request to sign. */
typedef struct sr_jws {
    const char *url;   /* exactly the URL of the request */
    const char *nonce; /* NULL: none, as in the inner JWS of a key change */
    const char *kid;   /* account URL; NULL: the public key itself is embedded as jwk */
    const char *payload;
    size_t payload_len; /* 0: the empty payload of POST-as-GET */
} sr_jws;

/* Append the flattened JSON serialisation (RFC 7515 section 7.2.2, RFC 8555 section 6.2),
 * signed with the key's own algorithm: ES256, ES384, ES512, RS256 or EdDSA. The key must
 * be private. Kind usage for a key that cannot sign JWS. */
int sr_jose_sign(const sr_key *key, const sr_jws *jws, sr_buf *ret, sr_err *err);

/* Whether a Replay-Nonce is base64url text (RFC 8555 section 6.5.1); others are ignored.
 */
bool sr_jose_nonce_ok(const char *nonce, size_t len);

/* External account binding, RFC 8555 section 7.3.4. */
typedef struct sr_eab {
    const char *url; /* of newAccount */
    const char *kid; /* from the CA */
    const char *alg; /* HS256, HS384 or HS512 */
    const void *mac; /* decoded MAC key */
    size_t mac_len;
} sr_eab;

/* Append the JWS object that binds the public part of `account`. */
int sr_jose_eab(const sr_key *account, const sr_eab *eab, sr_buf *ret, sr_err *err);

/* Decode a MAC key as a CA prints it, into a secret buffer. encoding: "base64url" (the
 * default when NULL; base64, padding and white space are taken too), "twice" (base64 of
 * base64url, as some consoles export it) or "raw" (the bytes themselves). */
int sr_jose_mac_key(const char *text, size_t len, const char *encoding, sr_buf *ret,
                    sr_err *err);
/* Whether decoded key bytes look like base64 text once more: worth a hint after a
 * refusal, never decided by guessing. */
bool sr_jose_mac_looks_encoded(const void *mac, size_t len);

/* Append token "." thumbprint (RFC 8555 section 8.1). The token is checked first, kind
 * protocol. */
int sr_jose_key_authorization(const sr_key *account, const char *token, size_t len,
                              sr_buf *ret, sr_err *err);

#endif
