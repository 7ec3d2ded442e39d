/* acme_chain.c – checks on a downloaded chain; see acme_chain.h.
 *
 * Nothing is installed that a server could not use: a chain with the wrong key, a missing
 * name or a broken link is refused here, with the certificate in service still in place.
 * The checks are a table, run in order over the parsed certificates.
 */
#include "acme/acme_chain.h"

#include <arpa/inet.h>
#include <string.h>
#include <time.h>

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#define MIN_SECURITY_BITS 112 /* RSA 2048, P-224, SHA-224 and better */
#define CLOCK_SKEW 300        /* seconds our clock may be behind the CA's */

/* ---------------------------------------------------------------- reading */

void sr_acme_issuers_free(sr_acme_issuers *issuers) {
    for (size_t i = 0; i < sizeof issuers->slot / sizeof *issuers->slot; i++) {
        sr_buf_free(&issuers->slot[i].der);
        X509_free(issuers->slot[i].cert);
        issuers->slot[i].cert = NULL;
    }
}

/* A reference to the certificate of these bytes, or NULL. */
static X509 *recall(const sr_acme_issuers *issuers, const sr_buf *der) {
    for (size_t i = 0; i < sizeof issuers->slot / sizeof *issuers->slot; i++) {
        X509 *cert = issuers->slot[i].cert;
        const sr_buf *known = &issuers->slot[i].der;
        if (!cert || known->len != der->len ||
            memcmp(known->data, der->data, der->len) != 0)
            continue;
        X509_up_ref(cert);
        return cert;
    }
    return NULL;
}

static void remember(sr_acme_issuers *issuers, const sr_buf *der, X509 *cert) {
    unsigned at = issuers->next++ % (sizeof issuers->slot / sizeof *issuers->slot);
    sr_buf_free(&issuers->slot[at].der);
    X509_free(issuers->slot[at].cert);
    issuers->slot[at].cert = NULL;
    if (sr_buf_append(&issuers->slot[at].der, der->data, der->len) != 0) return;
    X509_up_ref(cert);
    issuers->slot[at].cert = cert;
}

/* Decode the whole block; NULL if it is no certificate. The leaf is never kept. */
static X509 *decode(const sr_buf *der, bool leaf, sr_acme_issuers *issuers) {
    X509 *cert = issuers && !leaf ? recall(issuers, der) : NULL;
    if (cert) return cert;
    const unsigned char *data = (const unsigned char *)der->data;
    const unsigned char *end = data + der->len;
    cert = d2i_X509(NULL, &data, (long)der->len);
    if (cert && data != end) {
        X509_free(cert);
        cert = NULL;
    }
    if (cert && issuers && !leaf) remember(issuers, der, cert);
    return cert;
}

static int read_block(const sr_pem *pem, STACK_OF(X509) * chain, const sr_acme_want *want,
                      sr_err *err) {
    int count = sk_X509_num(chain);
    if (strcmp(pem->label, "CERTIFICATE") != 0)
        return sr_fail(err, SR_PROTOCOL, NULL, "the chain has a %s block", pem->label);
    if (count >= SR_ACME_CHAIN_CERTS)
        return sr_fail(err, SR_LIMIT, NULL, "the chain has more than %d certificates",
                       SR_ACME_CHAIN_CERTS);
    X509 *cert = decode(&pem->der, count == 0, want->issuers);
    if (cert && sk_X509_push(chain, cert)) return 0;
    X509_free(cert);
    return sr_pki_fail(err, SR_PROTOCOL, NULL, "certificate %d of the chain is malformed",
                       count + 1);
}

static int read_chain(const char *text, size_t len, const sr_acme_want *want,
                      STACK_OF(X509) * chain, sr_err *err) {
    sr_pem pem = {.next = text, .end = text + len};
    int found;
    while ((found = sr_pem_next(&pem, err)) > 0) {
        if (read_block(&pem, chain, want, err) == 0) continue;
        found = -1;
        break;
    }
    sr_pem_free(&pem);
    if (found < 0) return -1;
    if (sk_X509_num(chain) > 0) return 0;
    return sr_fail(err, SR_PROTOCOL, NULL, "the chain has no certificate");
}

/* ---------------------------------------------------------------- the leaf */

static int check_key(STACK_OF(X509) * chain, const sr_acme_want *want, sr_err *err) {
    EVP_PKEY *theirs = X509_get0_pubkey(sk_X509_value(chain, 0));
    if (theirs && EVP_PKEY_eq(theirs, want->key->pkey) == 1) return 0;
    ERR_clear_error();
    return sr_fail(err, SR_PROTOCOL, NULL,
                   "the first certificate of the chain is not for our key");
}

/* One subjectAltName entry as a name; other kinds than DNS and IP are not ours. */
static int add_name(const GENERAL_NAME *entry, sr_acme_names *names, sr_err *err) {
    char text[INET6_ADDRSTRLEN];
    const ASN1_STRING *value = entry->d.ia5;
    const unsigned char *data = ASN1_STRING_get0_data(value);
    int len = ASN1_STRING_length(value);
    if (entry->type == GEN_DNS)
        return sr_acme_names_add(names, (const char *)data, (size_t)len, err);
    int family = len == 4 ? AF_INET : len == 16 ? AF_INET6 : AF_UNSPEC;
    if (entry->type == GEN_IPADD && family != AF_UNSPEC &&
        inet_ntop(family, data, text, sizeof text))
        return sr_acme_names_add(names, text, strlen(text), err);
    return sr_fail(err, SR_PROTOCOL, NULL,
                   "the certificate has a name of a kind that was not ordered");
}

static int collect_names(X509 *leaf, sr_acme_names *names, sr_err *err) {
    int rc = 0;
    GENERAL_NAMES *entries = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; rc == 0 && i < sk_GENERAL_NAME_num(entries); i++)
        rc = add_name(sk_GENERAL_NAME_value(entries, i), names, err);
    GENERAL_NAMES_free(entries);
    sr_acme_names_finish(names);
    ERR_clear_error();
    return rc;
}

/* The first name of `a` that `b` lacks, or NULL. Both are sorted. */
static const char *missing(const sr_acme_names *a, const sr_acme_names *b) {
    for (size_t i = 0, j = 0; i < a->count; i++) {
        while (j < b->count && strcmp(b->list[j], a->list[i]) < 0)
            j++;
        if (j >= b->count || strcmp(b->list[j], a->list[i]) != 0) return a->list[i];
    }
    return NULL;
}

static int check_names(STACK_OF(X509) * chain, const sr_acme_want *want, sr_err *err) {
    sr_acme_names got = {0};
    sr_err cause = {0};
    int rc = -1;
    const char *name;
    if (collect_names(sk_X509_value(chain, 0), &got, &cause) != 0)
        sr_fail(err, SR_PROTOCOL, NULL, "names of the certificate: %s", cause.message);
    else if ((name = missing(want->names, &got)))
        sr_fail(err, SR_PROTOCOL, NULL, "the certificate lacks the name %s", name);
    else if ((name = missing(&got, want->names)))
        sr_fail(err, SR_PROTOCOL, NULL,
                "the certificate has the name %s, which was not ordered", name);
    else
        rc = 0;
    sr_acme_names_free(&got);
    return rc;
}

static int check_leaf(STACK_OF(X509) * chain, const sr_acme_want *want, sr_err *err) {
    (void)want;
    uint32_t flags = X509_get_extension_flags(sk_X509_value(chain, 0));
    if (flags & EXFLAG_INVALID)
        return sr_fail(err, SR_PROTOCOL, NULL, "the certificate has broken extensions");
    if (flags & EXFLAG_CA)
        return sr_fail(err, SR_PROTOCOL, NULL,
                       "the first certificate of the chain is a CA, not the leaf");
    return 0;
}

/* ---------------------------------------------------------------- every certificate */

static int check_time(STACK_OF(X509) * chain, const sr_acme_want *want, sr_err *err) {
    time_t early = (time_t)want->now + CLOCK_SKEW, now = (time_t)want->now;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *cert = sk_X509_value(chain, i);
        if (X509_cmp_time(X509_get0_notBefore(cert), &early) >= 0)
            return sr_fail(err, SR_PROTOCOL, NULL,
                           "certificate %d of the chain is not "
                           "valid yet; is the clock of this machine right?",
                           i + 1);
        if (X509_cmp_time(X509_get0_notAfter(cert), &now) <= 0)
            return sr_fail(err, SR_PROTOCOL, i == 0 ? "CHAIN_EXPIRED" : NULL,
                           "certificate %d of the chain has "
                           "expired",
                           i + 1);
    }
    return 0;
}

/* A self-signed certificate at the end may be signed as it likes: nobody relies on it. */
static int check_strength(STACK_OF(X509) * chain, const sr_acme_want *want, sr_err *err) {
    (void)want;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *cert = sk_X509_value(chain, i);
        EVP_PKEY *pkey = X509_get0_pubkey(cert);
        int bits = 0;
        bool self = X509_get_extension_flags(cert) & EXFLAG_SS;
        if (!pkey || EVP_PKEY_get_security_bits(pkey) < MIN_SECURITY_BITS)
            return sr_fail(err, SR_PROTOCOL, NULL,
                           "certificate %d of the chain has a key "
                           "that is too weak or unknown",
                           i + 1);
        if (!X509_get_signature_info(cert, NULL, NULL, &bits, NULL) ||
            (bits < MIN_SECURITY_BITS && !self))
            return sr_fail(err, SR_PROTOCOL, NULL,
                           "certificate %d of the chain has a weak "
                           "signature (MD5, SHA-1?)",
                           i + 1);
    }
    return 0;
}

static int check_links(STACK_OF(X509) * chain, const sr_acme_want *want, sr_err *err) {
    (void)want;
    for (int i = 0; i + 1 < sk_X509_num(chain); i++) {
        X509 *cert = sk_X509_value(chain, i), *issuer = sk_X509_value(chain, i + 1);
        if (!X509_check_ca(issuer))
            return sr_fail(err, SR_PROTOCOL, NULL, "certificate %d of the chain is no CA",
                           i + 2);
        if (X509_check_issued(issuer, cert) != X509_V_OK ||
            X509_verify(cert, X509_get0_pubkey(issuer)) != 1) {
            ERR_clear_error();
            return sr_fail(err, SR_PROTOCOL, NULL,
                           "certificate %d of the chain is not "
                           "signed by the one after it",
                           i + 1);
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- roots */

static X509_STORE_CTX *prepare(X509_STORE *store, STACK_OF(X509) * chain,
                               const sr_acme_want *want) {
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (!ctx || !X509_STORE_CTX_init(ctx, store, sk_X509_value(chain, 0), chain)) {
        X509_STORE_CTX_free(ctx);
        return NULL;
    }
    X509_STORE_CTX_set0_trusted_stack(ctx, want->roots);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)want->now);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    return ctx;
}

static int check_roots(STACK_OF(X509) * chain, const sr_acme_want *want, sr_err *err) {
    if (!want->roots) return 0;
    int rc = -1;
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = store ? prepare(store, chain, want) : NULL;
    if (!ctx)
        sr_pki_fail(err, SR_INTERNAL, NULL, "cannot prepare the check of the chain");
    else if (X509_verify_cert(ctx) == 1)
        rc = 0;
    else
        sr_fail(err, SR_PROTOCOL, NULL, "the chain does not lead to the given roots: %s",
                X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return rc;
}

int sr_acme_chain_check(const char *pem, size_t len, const sr_acme_want *want,
                        STACK_OF(X509) * *ret_chain, sr_err *err) {
    static int (*const checks[])(STACK_OF(X509) *, const sr_acme_want *, sr_err *) = {
        check_leaf,     check_key,   check_names, check_time,
        check_strength, check_links, check_roots};
    if (len > SR_ACME_CHAIN_BYTES)
        return sr_fail(err, SR_LIMIT, NULL, "the chain has %zu bytes, the limit is %zu",
                       len, SR_ACME_CHAIN_BYTES);
    STACK_OF(X509) *chain = sk_X509_new_null();
    if (!chain) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a chain");
    int rc = read_chain(pem, len, want, chain, err);
    for (size_t i = 0; rc == 0 && i < sizeof checks / sizeof *checks; i++)
        rc = checks[i](chain, want, err);
    if (rc == 0)
        *ret_chain = chain;
    else
        sk_X509_pop_free(chain, X509_free);
    return rc;
}
