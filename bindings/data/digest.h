/* digest.h – hashes, HMAC, random bytes, comparison in constant time.
 *
 * No Lua, safe on any thread; sr_digest_file reads the disk and belongs into a job. All
 * return 0, or -1 with *err filled and outputs untouched.
 *
 * Algorithms: "sha256" "sha384" "sha512", and "sha1" "md5" for checksums and for names
 * that others derived with them, never for anything an attacker may choose.
 */
#ifndef SR_DIGEST_H
#define SR_DIGEST_H

#include "base.h"

/* The static name of a known algorithm, NULL with *err filled otherwise. */
const char *sr_digest_known(const char *alg, sr_err *err);

typedef struct sr_digest {
    unsigned char bytes[64];
    size_t len;
} sr_digest;

int sr_digest_data(const char *alg, const void *data, size_t len, sr_digest *ret_digest,
                   sr_err *err);
/* A regular file of any size, in pieces. *stop (may be NULL) ends it with kind cancelled.
 */
int sr_digest_file(const char *path, const char *alg, const volatile bool *stop,
                   sr_digest *ret_digest, sr_err *err);
/* RFC 2104. An empty key is an error of kind usage: it authenticates nothing. */
int sr_hmac(const char *alg, const void *key, size_t key_len, const void *data,
            size_t len, sr_digest *ret_digest, sr_err *err);
/* Bytes fit for keys and nonces. */
int sr_random(void *ret_bytes, size_t len, sr_err *err);
/* Time depends on the lengths only. */
bool sr_equal(const void *a, size_t a_len, const void *b, size_t b_len);

#endif
