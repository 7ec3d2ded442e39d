/* tls.c – one TLS connection between two memory BIOs.
 *
 *     transport → sr_tls_feed → [in] → SSL → sr_tls_read  → owner
 *     transport ← sr_tls_take ← [out] ← SSL ← sr_tls_write ← owner
 *
 * States: shaking hands → open → failed. A failure is final and repeated to every later
 * caller; what is in [out] then is the alert, which should still be sent.
 *
 * There is one SSL_CTX per role for the whole process, made at first use: making one
 * costs more than a handshake's bookkeeping, and a client's and a server's differ in
 * callbacks only. The callbacks find their connection through ex_data.
 */
#include "tls_int.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

enum { CA_NAMES_MAX = 64, DEPTH_MAX = 10 };

struct sr_tls {
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    sr_tls_ctx *ctx;
    char *peer, *name;
    bool open, failed, ended, shut;
    int verify_code; /* of the first fault that was found, X509_V_OK: none */
    char verify_name[64];
    sr_err err; /* valid once failed */
};

static SSL_CTX *roles[2]; /* client, server */
static int self_index = -1;

/* ---------------------------------------------------------------- callbacks of OpenSSL
 */

/* Note the first fault; it stops the handshake unless the context does not verify. */
static int on_verify(int ok, X509_STORE_CTX *store) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    sr_tls *tls = SSL_get_ex_data(ssl, self_index);
    if (ok) return 1;
    if (tls->verify_code == X509_V_OK) {
        tls->verify_code = X509_STORE_CTX_get_error(store);
        (void)sr_tls_fail_verify(&tls->err, tls->peer, tls->name, tls->verify_code,
                                 X509_STORE_CTX_get_current_cert(store));
        memcpy(tls->verify_name, tls->err.code, sizeof tls->verify_name);
    }
    return !tls->ctx->verify;
}

/* Choose our certificate; a server knows the client's server name by now. */
static int on_certificate(SSL *ssl, void *arg) {
    sr_tls *tls = arg;
    const char *name =
        tls->ctx->server ? SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) : NULL;
    return sr_tls_ctx_use(tls->ctx, ssl, name) == 0;
}

/* The name is used in on_certificate; this only acknowledges it (RFC 6066 section 3). */
static int on_servername(SSL *ssl, int *alert, void *arg) {
    (void)alert;
    (void)arg;
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) ? SSL_TLSEXT_ERR_OK
                                                              : SSL_TLSEXT_ERR_NOACK;
}

/* Our most wanted protocol that the client offers, or the alert of RFC 7301. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *offered, unsigned int offered_len, void *arg) {
    const sr_tls_ctx *ctx = ((sr_tls *)SSL_get_ex_data(ssl, self_index))->ctx;
    unsigned char *choice = NULL;
    (void)arg;
    if (!ctx->alpn_len) return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&choice, out_len, ctx->alpn, (unsigned int)ctx->alpn_len,
                              offered, offered_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = choice;
    return SSL_TLSEXT_ERR_OK;
}

/* The process's SSL_CTX of a role; NULL without memory. */
static SSL_CTX *role(bool server) {
    if (roles[server]) return roles[server];
    if (self_index < 0) self_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!ctx || self_index < 0) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_verify_depth(ctx, DEPTH_MAX);
    if (server) {
        SSL_CTX_set_tlsext_servername_callback(ctx, on_servername);
        SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    }
    return roles[server] = ctx;
}

/* ---------------------------------------------------------------- set up */

static bool is_address(const char *name) {
    unsigned char addr[16];
    return inet_pton(AF_INET, name, addr) == 1 || inet_pton(AF_INET6, name, addr) == 1;
}

/* What the certificate must carry, and when it is judged. */
static int expect(sr_tls *tls, const char *name, double now) {
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);
    X509_VERIFY_PARAM_set_time(param, (time_t)now);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (!name) return 0;
    if (is_address(name)) return X509_VERIFY_PARAM_set1_ip_asc(param, name) ? 0 : -1;
    if (!X509_VERIFY_PARAM_set1_host(param, name, 0)) return -1;
    return SSL_set_tlsext_host_name(tls->ssl, name) == 1 ? 0 : -1;
}

/* Tell clients which CAs we take, if that is a short list (RFC 8446 section 4.2.4). */
static void offer_ca_names(SSL *ssl, X509_STORE *trust) {
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(trust);
    STACK_OF(X509_NAME) * names;
    if (sk_X509_OBJECT_num(objects) > CA_NAMES_MAX) return;
    names = sk_X509_NAME_new_null();
    for (int i = 0; names && i < sk_X509_OBJECT_num(objects); i++) {
        X509 *cert = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
        X509_NAME *copy = cert ? X509_NAME_dup(X509_get_subject_name(cert)) : NULL;
        if (copy && !sk_X509_NAME_push(names, copy)) X509_NAME_free(copy);
    }
    if (names) SSL_set0_CA_list(ssl, names);
}

static int set_verify(sr_tls *tls) {
    const sr_tls_ctx *ctx = tls->ctx;
    int mode = ctx->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
    if (ctx->server) {
        mode = ctx->client_auth == SR_TLS_AUTH_NONE ? SSL_VERIFY_NONE : SSL_VERIFY_PEER;
        if (ctx->client_auth == SR_TLS_AUTH_REQUIRE)
            mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    SSL_set_verify(tls->ssl, mode, on_verify);
    if (!ctx->trust) return 0;
    if (ctx->server && mode != SSL_VERIFY_NONE) offer_ca_names(tls->ssl, ctx->trust);
    return SSL_set1_verify_cert_store(tls->ssl, ctx->trust) == 1 ? 0 : -1;
}

/* Everything that differs between connections of a role. */
static int set_up(sr_tls *tls, double now) {
    const sr_tls_ctx *ctx = tls->ctx;
    SSL *ssl = tls->ssl;
    if (SSL_set_ex_data(ssl, self_index, tls) != 1) return -1;
    if (SSL_set_min_proto_version(ssl, ctx->min_version) != 1) return -1;
    if (SSL_set_max_proto_version(ssl, ctx->max_version) != 1) return -1;
    if (set_verify(tls) != 0 || expect(tls, tls->name, now) != 0) return -1;
    SSL_set_cert_cb(ssl, on_certificate, tls);
    if (ctx->server) {
        SSL_set_accept_state(ssl);
        return 0;
    }
    SSL_set_connect_state(ssl);
    return ctx->alpn_len &&
                   SSL_set_alpn_protos(ssl, ctx->alpn, (unsigned int)ctx->alpn_len) != 0
               ? -1
               : 0;
}

/* A host name without the root's dot, which is no part of certificates or SNI. */
static char *plain_name(const char *name) {
    size_t len = strlen(name);
    if (len > 1 && name[len - 1] == '.') len--;
    return strndup(name, len);
}

sr_tls *sr_tls_new(sr_tls_ctx *ctx, const char *peer, const char *name, double now,
                   sr_err *err) {
    sr_tls *tls = calloc(1, sizeof *tls);
    SSL_CTX *base = role(ctx->server);
    if (!tls || !base) goto fail;
    tls->ctx = sr_tls_ctx_ref(ctx);
    tls->peer = strdup(peer ? peer : "the peer");
    if (name && !ctx->server && !(tls->name = plain_name(name))) goto fail;
    tls->ssl = tls->peer ? SSL_new(base) : NULL;
    if (!tls->ssl) goto fail;
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (!tls->in || !tls->out) {
        BIO_free(tls->in);
        BIO_free(tls->out);
        goto fail;
    }
    BIO_set_mem_eof_return(tls->in, -1);
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    if (set_up(tls, now) != 0) goto fail;
    return tls;
fail:
    ERR_clear_error();
    sr_tls_free(tls);
    sr_fail(err, SR_TLS, NULL, "TLS with %s cannot be set up", peer ? peer : "the peer");
    return NULL;
}

void sr_tls_free(sr_tls *tls) {
    if (!tls) return;
    SSL_free(tls->ssl);
    sr_tls_ctx_unref(tls->ctx);
    free(tls->peer);
    free(tls->name);
    free(tls);
}

/* ---------------------------------------------------------------- ciphertext */

size_t sr_tls_room(const sr_tls *tls) {
    size_t held = BIO_ctrl_pending(tls->in);
    return held < SR_TLS_IN_MAX ? SR_TLS_IN_MAX - held : 0;
}

size_t sr_tls_feed(sr_tls *tls, const void *data, size_t len) {
    size_t room = sr_tls_room(tls);
    if (len > room) len = room;
    int n = len ? BIO_write(tls->in, data, (int)len) : 0;
    return n > 0 ? (size_t)n : 0;
}

void sr_tls_eof(sr_tls *tls) {
    BIO_set_mem_eof_return(tls->in, 0);
}

size_t sr_tls_pending(const sr_tls *tls) {
    return BIO_ctrl_pending(tls->out);
}

int sr_tls_take(sr_tls *tls, sr_buf *out) {
    size_t len = sr_tls_pending(tls);
    if (!len) return 0;
    char *room = sr_buf_reserve(out, len);
    if (!room) return -1;
    int n = BIO_read(tls->out, room, len > INT_MAX ? INT_MAX : (int)len);
    if (n > 0) out->len += (size_t)n;
    if (n > 0) out->data[out->len] = 0;
    return 0;
}

/* ---------------------------------------------------------------- plaintext */

/* Make a failure final. A certificate's fault was described when it was found. */
static sr_tls_result fail(sr_tls *tls, sr_err *err) {
    if (!tls->failed) {
        bool verify = ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED;
        if (verify && tls->verify_code != X509_V_OK)
            ERR_clear_error();
        else
            (void)sr_tls_fail_queue(&tls->err, tls->peer, !tls->open);
        tls->failed = true;
    }
    *err = tls->err;
    return SR_TLS_FAILED;
}

/* What a call on SSL that did not succeed means. */
static sr_tls_result judge(sr_tls *tls, int rc, sr_err *err) {
    switch (SSL_get_error(tls->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return SR_TLS_MORE;
    case SSL_ERROR_ZERO_RETURN: tls->ended = true; return SR_TLS_END;
    default: break;
    }
    int reason = ERR_GET_REASON(ERR_peek_error());
    bool cut = !ERR_peek_error() || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING;
    if (tls->open && cut && tls->ctx->allow_truncated) {
        ERR_clear_error();
        tls->ended = true;
        return SR_TLS_END;
    }
    return fail(tls, err);
}

sr_tls_result sr_tls_handshake(sr_tls *tls, sr_err *err) {
    if (tls->failed) return fail(tls, err);
    if (tls->open) return SR_TLS_DONE;
    ERR_clear_error();
    int rc = SSL_do_handshake(tls->ssl);
    if (rc != 1) {
        sr_tls_result result = judge(tls, rc, err);
        return result == SR_TLS_END ? fail(tls, err) : result;
    }
    tls->open = true;
    return SR_TLS_DONE;
}

sr_tls_result sr_tls_read(sr_tls *tls, void *data, size_t size, size_t *ret_len,
                          sr_err *err) {
    sr_tls_result result = sr_tls_handshake(tls, err);
    if (result != SR_TLS_DONE) return result;
    if (tls->ended) return SR_TLS_END;
    ERR_clear_error();
    int rc = SSL_read_ex(tls->ssl, data, size, ret_len);
    return rc == 1 ? SR_TLS_DONE : judge(tls, rc, err);
}

int sr_tls_write(sr_tls *tls, const void *data, size_t len, size_t *ret_len,
                 sr_err *err) {
    size_t done = 0;
    if (tls->failed) return fail(tls, err);
    if (tls->shut || !tls->open)
        return sr_fail(err, SR_USAGE, NULL, "TLS with %s: %s", tls->peer,
                       tls->shut ? "this direction is shut down"
                                 : "the handshake is not done");
    while (done < len && sr_tls_pending(tls) < SR_TLS_OUT_MAX) {
        size_t chunk = len - done < 16384 ? len - done : 16384, n = 0;
        ERR_clear_error();
        int rc = SSL_write_ex(tls->ssl, (const char *)data + done, chunk, &n);
        if (rc != 1) {
            sr_tls_result result = judge(tls, rc, err);
            if (result == SR_TLS_MORE) break;
            return result == SR_TLS_FAILED ? -1 : fail(tls, err);
        }
        done += n;
    }
    *ret_len = done;
    return 0;
}

void sr_tls_shutdown(sr_tls *tls) {
    if (tls->shut || tls->failed || !tls->open) return;
    tls->shut = true;
    ERR_clear_error();
    (void)SSL_shutdown(tls->ssl); /* the peer's answer is none of our business */
    ERR_clear_error();
}

/* ---------------------------------------------------------------- what was agreed */

/* The negotiated protocol lives in OpenSSL's memory without a NUL; keep it by length. */
static const char *alpn_text(const sr_tls *tls) {
    static _Thread_local char text[256];
    const unsigned char *data = NULL;
    unsigned int len = 0;
    SSL_get0_alpn_selected(tls->ssl, &data, &len);
    if (!data || len == 0 || len >= sizeof text) return NULL;
    memcpy(text, data, len);
    text[len] = 0;
    return text;
}

void sr_tls_get_info(const sr_tls *tls, sr_tls_info *ret_info) {
    bool fault = tls->verify_code != X509_V_OK;
    *ret_info = (sr_tls_info){
        .open = tls->open,
        .version = SSL_get_version(tls->ssl),
        .cipher = SSL_get_cipher_name(tls->ssl),
        .alpn = alpn_text(tls),
        .servername = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name),
        .verified = tls->open && !fault && SSL_get0_peer_certificate(tls->ssl),
        .verify_code = fault ? tls->verify_name : NULL,
    };
}

X509 *sr_tls_peer_cert(const sr_tls *tls, size_t index) {
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls->ssl);
    if (index == 0) return SSL_get0_peer_certificate(tls->ssl);
    if (index > INT_MAX - 1 || !chain) return NULL;
    /* A server's copy of the chain lacks the leaf. */
    int at = (int)index - (tls->ctx->server ? 1 : 0);
    return at < sk_X509_num(chain) ? sk_X509_value(chain, at) : NULL;
}

SSL *sr_tls_ssl(sr_tls *tls) {
    return tls->ssl;
}
