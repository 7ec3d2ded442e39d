/* tls_ctx.c – how to speak TLS: role, trust, identities, ALPN, versions.
 *
 * A context is plain data. The expensive SSL_CTX exists once per role (tls.c); everything
 * that differs is set on each connection, so that ten thousand contexts cost nothing.
 */
#include "tls_int.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum { CHAIN_MAX = 20, IDENTITIES_MAX = 1000 };

sr_tls_ctx *sr_tls_ctx_new(bool server) {
    sr_tls_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx) return NULL;
    ctx->refs = 1;
    ctx->server = server;
    ctx->verify = true;
    ctx->min_version = TLS1_2_VERSION;
    return ctx;
}

sr_tls_ctx *sr_tls_ctx_ref(sr_tls_ctx *ctx) {
    ctx->refs++;
    return ctx;
}

static void identity_free(sr_tls_identity *identity) {
    X509_free(identity->cert);
    sk_X509_pop_free(identity->chain, X509_free);
    EVP_PKEY_free(identity->key);
}

void sr_tls_ctx_unref(sr_tls_ctx *ctx) {
    if (!ctx || --ctx->refs) return;
    for (size_t i = 0; i < ctx->identity_count; i++)
        identity_free(&ctx->identities[i]);
    free(ctx->identities);
    X509_STORE_free(ctx->trust);
    free(ctx);
}

void sr_tls_ctx_trust(sr_tls_ctx *ctx, X509_STORE *store) {
    if (store) X509_STORE_up_ref(store);
    X509_STORE_free(ctx->trust);
    ctx->trust = store;
}

void sr_tls_ctx_verify(sr_tls_ctx *ctx, bool verify) {
    ctx->verify = verify;
}

void sr_tls_ctx_client_auth(sr_tls_ctx *ctx, sr_tls_auth auth) {
    ctx->client_auth = auth;
}

void sr_tls_ctx_allow_truncated(sr_tls_ctx *ctx, bool allow) {
    ctx->allow_truncated = allow;
}

bool sr_tls_ctx_is_server(const sr_tls_ctx *ctx) {
    return ctx->server;
}

/* "1.2" or "1.3" to OpenSSL's number; 0: unknown. */
static int version_of(const char *text) {
    if (strcmp(text, "1.2") == 0) return TLS1_2_VERSION;
    return strcmp(text, "1.3") == 0 ? TLS1_3_VERSION : 0;
}

int sr_tls_ctx_versions(sr_tls_ctx *ctx, const char *min, const char *max, sr_err *err) {
    int low = min ? version_of(min) : ctx->min_version;
    int high = max ? version_of(max) : ctx->max_version;
    if (!low || (max && !high))
        return sr_fail(err, SR_USAGE, NULL, "TLS version '%s' is unknown; use 1.2 or 1.3",
                       low ? max : min);
    if (high && high < low)
        return sr_fail(err, SR_USAGE, NULL, "max_version is below min_version");
    ctx->min_version = low;
    ctx->max_version = high;
    return 0;
}

int sr_tls_ctx_alpn(sr_tls_ctx *ctx, const char *protocol, sr_err *err) {
    size_t len = strlen(protocol);
    if (len == 0 || len > 255)
        return sr_fail(err, SR_USAGE, NULL,
                       "an ALPN protocol has 1 to 255 bytes, this one has %zu", len);
    if (ctx->alpn_len + 1 + len > sizeof ctx->alpn)
        return sr_fail(err, SR_USAGE, NULL, "too many ALPN protocols");
    ctx->alpn[ctx->alpn_len] = (unsigned char)len;
    memcpy(ctx->alpn + ctx->alpn_len + 1, protocol, len);
    ctx->alpn_len += 1 + len;
    return 0;
}

/* ---------------------------------------------------------------- identities */

/* Room for one more identity, zeroed, not counted yet. */
static sr_tls_identity *identity_room(sr_tls_ctx *ctx, sr_err *err) {
    size_t size = (ctx->identity_count + 1) * sizeof *ctx->identities;
    sr_tls_identity *list =
        ctx->identity_count < IDENTITIES_MAX ? realloc(ctx->identities, size) : NULL;
    if (!list) {
        sr_fail(err, SR_LIMIT, NULL, "a TLS context takes at most %d certificates",
                IDENTITIES_MAX);
        return NULL;
    }
    ctx->identities = list;
    memset(&list[ctx->identity_count], 0, sizeof *list);
    return &list[ctx->identity_count];
}

int sr_tls_ctx_identity(sr_tls_ctx *ctx, X509 *cert, STACK_OF(X509) * chain,
                        EVP_PKEY *key, sr_err *err) {
    if (!X509_check_private_key(cert, key)) {
        ERR_clear_error();
        return sr_fail(err, SR_USAGE, NULL,
                       "the private key does not belong to the certificate; give the key "
                       "that its request was made with");
    }
    STACK_OF(X509) *copy = NULL;
    if (chain && sk_X509_num(chain) > 0) {
        copy = X509_chain_up_ref(chain);
        if (!copy) return sr_fail(err, SR_INTERNAL, NULL, "no memory for a chain");
    }
    sr_tls_identity *identity = identity_room(ctx, err);
    if (!identity) {
        sk_X509_pop_free(copy, X509_free);
        return -1;
    }
    X509_up_ref(cert);
    EVP_PKEY_up_ref(key);
    *identity = (sr_tls_identity){.cert = cert, .chain = copy, .key = key};
    ctx->identity_count++;
    return 0;
}

/* Answers OpenSSL's question for a passphrase; without one it must not ask the terminal.
 */
static int give_passphrase(char *buf, int size, int rwflag, void *arg) {
    size_t len = arg ? strnlen(arg, (size_t)size + 1) : 0;
    (void)rwflag;
    if (len == 0 || len > (size_t)size) return -1;
    memcpy(buf, arg, len);
    return (int)len;
}

static EVP_PKEY *read_key(const char *pem, size_t len, const char *passphrase,
                          sr_err *err) {
    BIO *bio = len <= INT_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
    EVP_PKEY *key =
        bio ? PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, (void *)passphrase)
            : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (!key)
        sr_fail(
            err, SR_USAGE, NULL,
            "the private key cannot be read; expected PEM (-----BEGIN PRIVATE KEY-----)"
            "%s",
            passphrase ? " and its passphrase" : ", not encrypted");
    return key;
}

/* Read the certificate and the chain behind it. 0 or -1, then nothing is owned. */
static int read_chain(const char *pem, size_t len, X509 **ret_cert,
                      STACK_OF(X509) * *ret_chain, sr_err *err) {
    BIO *bio = len <= INT_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
    STACK_OF(X509) *chain = sk_X509_new_null();
    X509 *leaf = NULL, *cert;
    int rc = -1;
    if (!bio || !chain) {
        sr_fail(err, SR_INTERNAL, NULL, "no memory for a certificate");
        goto out;
    }
    leaf = PEM_read_bio_X509(bio, NULL, give_passphrase, NULL);
    if (!leaf) {
        sr_fail(
            err, SR_USAGE, NULL,
            "the certificate cannot be read; expected PEM (-----BEGIN CERTIFICATE-----)");
        goto out;
    }
    while ((cert = PEM_read_bio_X509(bio, NULL, give_passphrase, NULL)))
        if (sk_X509_num(chain) >= CHAIN_MAX || !sk_X509_push(chain, cert)) {
            X509_free(cert);
            sr_fail(err, SR_LIMIT, NULL, "the chain has more than %d certificates",
                    CHAIN_MAX);
            goto out;
        }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        sr_fail(err, SR_USAGE, NULL, "certificate %d of the chain is broken; replace it",
                sk_X509_num(chain) + 2);
        goto out;
    }
    *ret_cert = leaf;
    *ret_chain = chain;
    leaf = NULL;
    chain = NULL;
    rc = 0;
out:
    ERR_clear_error();
    BIO_free(bio);
    X509_free(leaf);
    sk_X509_pop_free(chain, X509_free);
    return rc;
}

int sr_tls_ctx_identity_key(sr_tls_ctx *ctx, const char *cert, size_t cert_len,
                            EVP_PKEY *key, sr_err *err) {
    X509 *leaf = NULL;
    STACK_OF(X509) *chain = NULL;
    ERR_clear_error();
    if (read_chain(cert, cert_len, &leaf, &chain, err) != 0) return -1;
    int rc = sr_tls_ctx_identity(ctx, leaf, chain, key, err);
    X509_free(leaf);
    sk_X509_pop_free(chain, X509_free);
    return rc;
}

int sr_tls_ctx_identity_pem(sr_tls_ctx *ctx, const char *cert, size_t cert_len,
                            const char *key, size_t key_len, const char *passphrase,
                            sr_err *err) {
    ERR_clear_error();
    EVP_PKEY *pkey = read_key(key, key_len, passphrase, err);
    if (!pkey) return -1;
    int rc = sr_tls_ctx_identity_key(ctx, cert, cert_len, pkey, err);
    EVP_PKEY_free(pkey);
    return rc;
}

int sr_tls_ctx_check(sr_tls_ctx *ctx, sr_err *err) {
    if (ctx->server && ctx->identity_count == 0)
        return sr_fail(err, SR_USAGE, NULL,
                       "a TLS server needs a certificate; give cert = … and key = …");
    if (ctx->server && ctx->client_auth != SR_TLS_AUTH_NONE && ctx->verify && !ctx->trust)
        return sr_fail(err, SR_USAGE, NULL,
                       "client certificates need the CA they come from; give ca = …");
    if (!ctx->server && ctx->verify && !ctx->trust) {
        ctx->trust = sr_tls_trust_system(err);
        if (!ctx->trust) return -1;
    }
    return 0;
}

/* How well an identity fits a name: 2 exactly, 1 by wildcard, 0 not. */
static int fit(const sr_tls_identity *identity, const char *name) {
    if (X509_check_host(identity->cert, name, 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1)
        return 2;
    return X509_check_host(identity->cert, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
                           NULL) == 1;
}

int sr_tls_ctx_use(const sr_tls_ctx *ctx, SSL *ssl, const char *name) {
    int best = 0;
    for (size_t i = 0; name && i < ctx->identity_count && best < 2; i++) {
        int got = fit(&ctx->identities[i], name);
        if (got > best) best = got;
    }
    for (size_t i = 0; i < ctx->identity_count; i++) {
        const sr_tls_identity *identity = &ctx->identities[i];
        if (best ? fit(identity, name) != best : i > 0) continue;
        if (SSL_use_cert_and_key(ssl, identity->cert, identity->key, identity->chain,
                                 1) != 1)
            return -1;
    }
    return 0;
}
