/* tls_int.h – what tls_ctx.c and tls.c share. */
#ifndef SR_NET_TLS_INT_H
#define SR_NET_TLS_INT_H

#include "net/tls.h"

/* One certificate with its key. */
typedef struct sr_tls_identity {
    X509 *cert;
    STACK_OF(X509) * chain; /* below the root, may be NULL */
    EVP_PKEY *key;
} sr_tls_identity;

struct sr_tls_ctx {
    unsigned refs;
    bool server, verify, allow_truncated;
    sr_tls_auth client_auth;
    int min_version, max_version; /* TLS1_2_VERSION …; 0: no bound */
    X509_STORE *trust;            /* NULL: the system's, for a client */
    sr_tls_identity *identities;
    size_t identity_count;
    unsigned char alpn[512]; /* length-prefixed names (RFC 7301 section 3.1) */
    size_t alpn_len;
};

/* Give ssl every identity that fits name best; the first identity if none does. */
int sr_tls_ctx_use(const sr_tls_ctx *ctx, SSL *ssl, const char *name);

#endif
