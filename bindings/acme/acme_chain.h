/* acme_chain.h – is what the CA sent the certificate that was asked for? No Lua, no I/O.
 */
#ifndef SR_ACME_CHAIN_H
#define SR_ACME_CHAIN_H

#include "acme/acme_msg.h"
#include "pki/pki.h"

#define SR_ACME_CHAIN_BYTES ((size_t)256 * 1024)
#define SR_ACME_CHAIN_CERTS 10

/* Certificates above the leaf, kept between chains: a CA sends the same ones each time,
 * and decoding them costs more than all checks. Zero-initialise. */
typedef struct sr_acme_issuers {
    struct {
        sr_buf der;
        X509 *cert;
    } slot[8];
    unsigned next; /* the slot to be replaced */
} sr_acme_issuers;

void sr_acme_issuers_free(sr_acme_issuers *issuers);

/* What the chain must fit. */
typedef struct sr_acme_want {
    const sr_key *key;          /* its certificate is the first */
    const sr_acme_names *names; /* exactly these, finished */
    double now;                 /* UTC seconds */
    sr_acme_issuers *issuers;   /* NULL: everything is decoded anew */
    STACK_OF(X509) * roots;     /* verify up to one of these; NULL: not checked */
} sr_acme_want;

/* Check a downloaded PEM chain (RFC 8555 section 7.4.2): at most 256 KB and ten
 * certificates and nothing but certificates; the leaf first, with our key, exactly our
 * names, valid now, no CA; each certificate issued and signed by the next, which is a CA;
 * signatures and keys of at least 112 bits. On success *ret_chain holds the certificates
 * in order (sk_X509_pop_free). Kind protocol, or limit. */
int sr_acme_chain_check(const char *pem, size_t len, const sr_acme_want *want,
                        STACK_OF(X509) * *ret_chain, sr_err *err);

#endif
