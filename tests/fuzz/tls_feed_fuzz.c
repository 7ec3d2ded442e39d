/* tls_feed_fuzz.c – TLS records from a hostile peer, to a client, to a server, and into
 * the middle of an open connection.
 *
 * The first byte of an input chooses the role, whether the handshake is done first, and
 * the size of the pieces; the rest is what the peer sends. Whatever comes: no crash, a
 * failure is final and described, no plaintext is made up before the handshake is done,
 * and what is held for the peer stays bounded.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "net/tls.h"

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

#define NOW 4102444800.0 /* 2100-01-01 */

static sr_tls_ctx *client_ctx, *server_ctx;

/* A self-signed certificate for "srv", which the client trusts. */
static void set_up(void) {
    sr_err err = {0};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_STORE *store = X509_STORE_new();
    MUST(key && cert && store);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"srv", -1,
                               -1, 0);
    X509_set_version(cert, 2);
    ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)NOW - 86400);
    ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)NOW + 86400);
    X509_set_pubkey(cert, key);
    X509_set_issuer_name(cert, name);
    X509_EXTENSION *san =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:srv");
    X509_add_ext(cert, san, -1);
    X509_EXTENSION_free(san);
    MUST(X509_sign(cert, key, EVP_sha256()) > 0);
    X509_STORE_add_cert(store, cert);
    client_ctx = sr_tls_ctx_new(false);
    server_ctx = sr_tls_ctx_new(true);
    MUST(client_ctx && server_ctx);
    sr_tls_ctx_trust(client_ctx, store);
    MUST(sr_tls_ctx_alpn(client_ctx, "h2", &err) == 0);
    MUST(sr_tls_ctx_alpn(server_ctx, "h2", &err) == 0);
    MUST(sr_tls_ctx_identity(server_ctx, cert, NULL, key, &err) == 0);
    X509_STORE_free(store);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void carry(sr_tls *from, sr_tls *to) {
    sr_err err = {0};
    sr_buf wire = {0};
    MUST(sr_tls_take(from, &wire) == 0);
    if (wire.len) MUST(sr_tls_feed(to, wire.data, wire.len) == wire.len);
    (void)sr_tls_handshake(to, &err);
    sr_buf_free(&wire);
}

static void shake(sr_tls *client, sr_tls *server) {
    sr_err err = {0};
    (void)sr_tls_handshake(client, &err);
    for (int i = 0; i < 4; i++) {
        carry(client, server);
        carry(server, client);
    }
    MUST(sr_tls_handshake(client, &err) == SR_TLS_DONE);
    MUST(sr_tls_handshake(server, &err) == SR_TLS_DONE);
}

/* Read until more is needed or it is over. true: it is over. */
static bool take_all(sr_tls *tls, bool open, sr_err *err) {
    char plain[512];
    size_t n = 0;
    sr_tls_info info;
    for (;;) {
        sr_tls_result result = sr_tls_read(tls, plain, sizeof plain, &n, err);
        if (result == SR_TLS_MORE) return false;
        if (result == SR_TLS_END) return true;
        if (result == SR_TLS_FAILED) {
            MUST(err->kind != SR_NONE && *err->message);
            return true;
        }
        sr_tls_get_info(tls, &info);
        MUST(open && info.open && n > 0 && n <= sizeof plain);
    }
}

static void attack(sr_tls *tls, bool open, const uint8_t *data, size_t size,
                   size_t step) {
    sr_err err = {0}, again = {0};
    size_t n;
    char byte;
    bool over = false;
    for (size_t at = 0; at < size && !over; at += step) {
        size_t len = size - at < step ? size - at : step;
        if (sr_tls_feed(tls, data + at, len) != len) break;
        over = take_all(tls, open, &err);
        MUST(sr_tls_pending(tls) <= SR_TLS_OUT_MAX);
    }
    sr_tls_eof(tls);
    (void)take_all(tls, open, &err);
    sr_tls_result result = sr_tls_read(tls, &byte, 1, &n, &again);
    MUST(result == SR_TLS_END || result == SR_TLS_FAILED);
    if (result == SR_TLS_FAILED && err.kind)
        MUST(strcmp(err.message, again.message) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sr_err err = {0};
    if (size < 1 || size > 1 << 16) return 0;
    if (!client_ctx) set_up();
    bool to_server = data[0] & 1, open = data[0] & 2;
    size_t step = data[0] & 4 ? 7 : 65536;
    sr_tls *client = sr_tls_new(client_ctx, "peer", "srv", NOW, &err);
    sr_tls *server = sr_tls_new(server_ctx, "peer", NULL, NOW, &err);
    MUST(client && server);
    if (open) shake(client, server);
    attack(to_server ? server : client, open, data + 1, size - 1, step);
    sr_tls_free(client);
    sr_tls_free(server);
    return 0;
}
