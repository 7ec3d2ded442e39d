/* http_ca.h – whom the HTTP client trusts, and who it is: CA sets and client
 * certificates.
 *
 * Both are interned per loop and reference-counted, so equal sources give the same
 * pointer and a pool of connections can be keyed by it. A set made from files is made
 * anew when a file changed. Sources are PEM text, a file, a folder of hashed names, or
 * "system".
 */
#ifndef HTTP_CA_H
#define HTTP_CA_H

#include <openssl/ssl.h>

#include "secrun.h"

typedef struct sr_http_ca sr_http_ca;             /* one X509_STORE */
typedef struct sr_http_identity sr_http_identity; /* certificate, chain and key */

/* The set of these sources, with a reference for the caller. Fails with not_found or
 * usage when a source cannot be read or holds no certificate. Reads files on the loop:
 * they are small and read once. */
int sr_http_ca_get(sr_loop *loop, const char *const *sources, size_t count,
                   sr_http_ca **ret_ca, sr_err *err);
void sr_http_ca_ref(sr_http_ca *ca);
void sr_http_ca_unref(sr_http_ca *ca); /* NULL is allowed */
/* "the system's CA set" or "the CA set from /etc/ca.pem": for messages. */
const char *sr_http_ca_label(const sr_http_ca *ca);
/* Make the context verify against the set, at the instant `now` (UTC seconds). 0 or -1.
 */
int sr_http_ca_install(const sr_http_ca *ca, SSL_CTX *ctx, double now);

/* What a client certificate is made of. cert, key: PEM text or a path; key NULL: it is in
 * cert. pkey stands in place of key where it is given. password may be NULL: a key that
 * needs one then fails, nobody is asked. */
typedef struct sr_http_identity_source {
    const char *cert, *key, *password;
    EVP_PKEY *pkey;
} sr_http_identity_source;

/* Fails with not_found, or with usage when certificate and key do not belong together. */
int sr_http_identity_get(sr_loop *loop, const sr_http_identity_source *source,
                         sr_http_identity **ret_identity, sr_err *err);
void sr_http_identity_ref(sr_http_identity *identity);
void sr_http_identity_unref(sr_http_identity *identity);
int sr_http_identity_install(const sr_http_identity *identity, SSL_CTX *ctx);

#endif
