/* tls_test.c – the TLS engine, client against server in memory.
 *
 * Every test makes its own certificates with OpenSSL and judges them at NOW, a fixed
 * instant that is not today's, so that a use of the system's time would show.
 */
#include "made_certs.h"
#include "net/tls.h"
#include "unit.h"

#include <stdlib.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* ---------------------------------------------------------------- a pair */

typedef struct pair {
    entity ca;
    sr_tls_ctx *cctx, *sctx;
    sr_tls *client, *server;
    sr_err cerr, serr;
    size_t step; /* bytes carried at once */
} pair;

static void trust(sr_tls_ctx *ctx, const entity *ca) {
    size_t len;
    sr_err err = {0};
    char *pem = pem_of(ca, false, &len);
    X509_STORE *store = sr_tls_trust_pem(pem, len, &err);
    free(pem);
    CHECK(store != NULL);
    sr_tls_ctx_trust(ctx, store);
    X509_STORE_free(store);
}

static void identity(sr_tls_ctx *ctx, const entity *e) {
    sr_err err = {0};
    CHECK(sr_tls_ctx_identity(ctx, e->cert, NULL, e->key, &err) == 0);
}

/* Contexts that trust one CA; a server certificate for example.com unless san is given.
 */
static void pair_new(pair *p, const char *san, double days) {
    *p = (pair){.ca = make("Test CA", NULL, NULL, 1000), .step = 65536};
    p->cctx = sr_tls_ctx_new(false);
    p->sctx = sr_tls_ctx_new(true);
    trust(p->cctx, &p->ca);
    trust(p->sctx, &p->ca);
    entity leaf = make("leaf", san ? san : "DNS:example.com", &p->ca, days);
    identity(p->sctx, &leaf);
    entity_free(&leaf);
}

static void pair_start(pair *p, const char *name) {
    sr_err err = {0};
    CHECK(sr_tls_ctx_check(p->cctx, &err) == 0);
    CHECK(sr_tls_ctx_check(p->sctx, &err) == 0);
    p->client = sr_tls_new(p->cctx, "srv:443", name, NOW, &err);
    p->server = sr_tls_new(p->sctx, "cli:5000", NULL, NOW, &err);
    CHECK(p->client && p->server);
}

static void pair_free(pair *p) {
    sr_tls_free(p->client);
    sr_tls_free(p->server);
    sr_tls_ctx_unref(p->cctx);
    sr_tls_ctx_unref(p->sctx);
    entity_free(&p->ca);
}

/* Carry one way, p->step bytes at a time, with a handshake step after each. */
static bool carry(pair *p, sr_tls *from, sr_tls *to, sr_err *err) {
    sr_buf wire = {0};
    CHECK(sr_tls_take(from, &wire) == 0);
    for (size_t at = 0; at < wire.len; at += p->step) {
        size_t len = wire.len - at < p->step ? wire.len - at : p->step;
        CHECK_INT(sr_tls_feed(to, wire.data + at, len), len);
        (void)sr_tls_handshake(to, err);
    }
    bool any = wire.len > 0;
    sr_buf_free(&wire);
    return any;
}

static sr_tls_result shake(pair *p) {
    (void)sr_tls_handshake(p->client, &p->cerr);
    for (int i = 0; i < 20; i++) {
        bool any = carry(p, p->client, p->server, &p->serr);
        any |= carry(p, p->server, p->client, &p->cerr);
        if (!any) break;
    }
    return p->cerr.kind || p->serr.kind ? SR_TLS_FAILED
           : sr_tls_handshake(p->server, &p->serr) == SR_TLS_DONE
               ? sr_tls_handshake(p->client, &p->cerr)
               : SR_TLS_MORE;
}

/* Send text from one to the other and compare. */
static void say(pair *p, sr_tls *from, sr_tls *to, const char *text) {
    char got[256] = "";
    size_t n = 0;
    sr_err err = {0};
    CHECK(sr_tls_write(from, text, strlen(text), &n, &err) == 0);
    CHECK_INT(n, strlen(text));
    carry(p, from, to, &err);
    CHECK_INT(sr_tls_read(to, got, sizeof got - 1, &n, &err), SR_TLS_DONE);
    got[n] = 0;
    CHECK_STR(got, text);
}

static void check_version(const char *version, const char *label) {
    pair p;
    sr_tls_info info;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    CHECK(sr_tls_ctx_versions(p.cctx, version, version, &err) == 0);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    sr_tls_get_info(p.client, &info);
    CHECK_STR(info.version, label);
    CHECK(info.verified && !info.alpn);
    sr_tls_get_info(p.server, &info);
    CHECK_STR(info.servername, "example.com");
    CHECK(!info.verified);
    say(&p, p.client, p.server, "ping");
    say(&p, p.server, p.client, "pong");
    pair_free(&p);
}

/* ---------------------------------------------------------------- tests */

TEST(tls_13_carries_both_ways) {
    check_version("1.3", "TLSv1.3");
}

TEST(tls_12_carries_both_ways) {
    check_version("1.2", "TLSv1.2");
}

TEST(tls_one_byte_at_a_time) {
    pair p;
    pair_new(&p, NULL, 10);
    p.step = 1;
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    say(&p, p.client, p.server, "one byte at a time");
    say(&p, p.server, p.client, "and back");
    pair_free(&p);
}

TEST(tls_address_is_verified_as_address) {
    pair p;
    pair_new(&p, "IP:127.0.0.1, IP:::1", 10);
    pair_start(&p, "::1");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    sr_tls_info info;
    sr_tls_get_info(p.server, &info);
    CHECK(info.servername == NULL);
    pair_free(&p);
}

/* The client must fail with this code and a message that contains each text. */
static void check_refused(pair *p, const char *name, const char *code, const char *text,
                          const char *text2) {
    pair_start(p, name);
    CHECK_INT(shake(p), SR_TLS_FAILED);
    CHECK_INT(p->cerr.kind, SR_TLS);
    CHECK_STR(p->cerr.code, code);
    if (!strstr(p->cerr.message, text) || !strstr(p->cerr.message, text2))
        CHECK_STR(p->cerr.message, text);
    CHECK(strstr(p->cerr.message, "srv:443"));
    pair_free(p);
}

TEST(tls_expired_by_our_clock) {
    pair p;
    pair_new(&p, NULL, -0.5);
    check_refused(&p, "example.com", "X509_V_ERR_CERT_HAS_EXPIRED",
                  "not after 2099-12-31T12:00:00Z", "\"CN=leaf\"");
}

TEST(tls_valid_today_but_not_by_our_clock) {
    pair p;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    p.client = sr_tls_new(p.cctx, "srv:443", "example.com", 1700000000, &err);
    p.server = sr_tls_new(p.sctx, "cli", NULL, NOW, &err);
    CHECK_INT(shake(&p), SR_TLS_FAILED);
    CHECK_STR(p.cerr.code, "X509_V_ERR_CERT_NOT_YET_VALID");
    pair_free(&p);
}

TEST(tls_wrong_name) {
    pair p;
    pair_new(&p, "DNS:example.org, DNS:www.example.org", 10);
    check_refused(&p, "example.com", "X509_V_ERR_HOSTNAME_MISMATCH",
                  "for example.org, www.example.org", "example.com;");
}

TEST(tls_common_name_is_no_name) {
    pair p;
    pair_new(&p, "IP:127.0.0.1", 10);
    check_refused(&p, "leaf", "X509_V_ERR_HOSTNAME_MISMATCH", "CN=leaf", "");
}

TEST(tls_wrong_address) {
    pair p;
    pair_new(&p, NULL, 10);
    check_refused(&p, "127.0.0.1", "X509_V_ERR_IP_ADDRESS_MISMATCH", "127.0.0.1", "");
}

TEST(tls_self_signed_is_refused_until_trusted) {
    pair p;
    pair_new(&p, NULL, 10);
    entity self = make("self", "DNS:self.example", NULL, 10);
    sr_tls_ctx *ctx = sr_tls_ctx_new(true);
    identity(ctx, &self);
    sr_tls_ctx_unref(p.sctx);
    p.sctx = ctx;
    pair q = p;
    sr_tls_ctx_ref(p.cctx);
    sr_tls_ctx_ref(p.sctx);
    X509_up_ref(p.ca.cert);
    EVP_PKEY_up_ref(p.ca.key);
    check_refused(&p, "self.example", "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT", "CN=self",
                  "give it as ca");
    trust(q.cctx, &self);
    pair_start(&q, "self.example");
    CHECK_INT(shake(&q), SR_TLS_DONE);
    pair_free(&q);
    entity_free(&self);
}

TEST(tls_unknown_ca) {
    pair p;
    pair_new(&p, NULL, 10);
    entity other = make("Other CA", NULL, NULL, 10);
    trust(p.cctx, &other);
    entity_free(&other);
    check_refused(&p, "example.com", "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
                  "CN=leaf", "whole chain");
}

TEST(tls_server_learns_why_it_was_refused) {
    pair p;
    pair_new(&p, NULL, -0.5);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_FAILED);
    CHECK_STR(p.serr.code, "certificate_expired");
    CHECK(strstr(p.serr.message, "cli:5000"));
    pair_free(&p);
}

TEST(tls_unverified_connects_and_notes_the_fault) {
    pair p;
    sr_tls_info info;
    pair_new(&p, "DNS:example.org", -0.5);
    sr_tls_ctx_verify(p.cctx, false);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    sr_tls_get_info(p.client, &info);
    CHECK(!info.verified);
    CHECK_STR(info.verify_code, "X509_V_ERR_HOSTNAME_MISMATCH");
    CHECK(sr_tls_peer_cert(p.client, 0) != NULL);
    CHECK(sr_tls_peer_cert(p.client, 1) == NULL);
    pair_free(&p);
}

TEST(tls_alpn_picks_by_the_server_s_order) {
    pair p;
    sr_tls_info info;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    sr_tls_ctx_alpn(p.cctx, "http/1.1", &err);
    sr_tls_ctx_alpn(p.cctx, "h2", &err);
    sr_tls_ctx_alpn(p.sctx, "h2", &err);
    sr_tls_ctx_alpn(p.sctx, "http/1.1", &err);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    sr_tls_get_info(p.client, &info);
    CHECK_STR(info.alpn, "h2");
    sr_tls_get_info(p.server, &info);
    CHECK_STR(info.alpn, "h2");
    pair_free(&p);
}

TEST(tls_alpn_without_a_common_protocol) {
    pair p;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    sr_tls_ctx_alpn(p.cctx, "smtp", &err);
    sr_tls_ctx_alpn(p.sctx, "h2", &err);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_FAILED);
    CHECK_STR(p.cerr.code, "no_application_protocol");
    CHECK(strstr(p.cerr.message, "alpn on both sides"));
    CHECK(p.serr.kind == SR_TLS);
    pair_free(&p);
}

TEST(tls_alpn_bad_protocols_are_refused) {
    sr_tls_ctx *ctx = sr_tls_ctx_new(false);
    sr_err err = {0};
    char longest[300];
    memset(longest, 'x', 299);
    longest[299] = 0;
    CHECK_INT(sr_tls_ctx_alpn(ctx, "", &err), -1);
    CHECK_INT(sr_tls_ctx_alpn(ctx, longest, &err), -1);
    CHECK_INT(err.kind, SR_USAGE);
    sr_tls_ctx_unref(ctx);
}

/* Connect for a name and say which certificate came back. */
static void check_served(pair *p, const char *name, const char *cn) {
    char got[64] = "";
    sr_tls_ctx_verify(p->cctx, false);
    p->cerr = p->serr = (sr_err){0};
    pair_start(p, name);
    CHECK_INT(shake(p), SR_TLS_DONE);
    X509_NAME_get_text_by_NID(X509_get_subject_name(sr_tls_peer_cert(p->client, 0)),
                              NID_commonName, got, sizeof got);
    CHECK_STR(got, cn);
    sr_tls_free(p->client);
    sr_tls_free(p->server);
    p->client = p->server = NULL;
}

TEST(tls_server_name_chooses_the_certificate) {
    pair p;
    pair_new(&p, "DNS:example.com", 10);
    entity wild = make("wild", "DNS:*.example.com", &p.ca, 10);
    entity exact = make("exact", "DNS:www.example.com", &p.ca, 10);
    identity(p.sctx, &wild);
    identity(p.sctx, &exact);
    check_served(&p, "www.example.com", "exact");
    check_served(&p, "WWW.Example.com", "exact");
    check_served(&p, "api.example.com", "wild");
    check_served(&p, "a.b.example.com", "leaf");
    check_served(&p, "example.com.", "leaf");
    check_served(&p, NULL, "leaf");
    entity_free(&wild);
    entity_free(&exact);
    pair_free(&p);
}

TEST(tls_client_certificate_is_verified) {
    pair p;
    sr_tls_info info;
    pair_new(&p, NULL, 10);
    entity me = make("client", "DNS:client", &p.ca, 10);
    sr_tls_ctx_client_auth(p.sctx, SR_TLS_AUTH_REQUIRE);
    identity(p.cctx, &me);
    entity_free(&me);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    sr_tls_get_info(p.server, &info);
    CHECK(info.verified);
    CHECK(sr_tls_peer_cert(p.server, 0) != NULL);
    pair_free(&p);
}

/* A server that requires one meets a client without; the client hears the alert. */
static void check_no_client_certificate(const char *version, const char *client_code) {
    pair p;
    char buf[16];
    size_t n;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    sr_tls_ctx_client_auth(p.sctx, SR_TLS_AUTH_REQUIRE);
    CHECK(sr_tls_ctx_versions(p.cctx, version, version, &err) == 0);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_FAILED);
    CHECK_STR(p.serr.code, "peer_did_not_return_a_certificate");
    CHECK_INT(sr_tls_read(p.client, buf, sizeof buf, &n, &err), SR_TLS_FAILED);
    CHECK_STR(err.code, client_code);
    pair_free(&p);
}

TEST(tls_missing_client_certificate_13) {
    check_no_client_certificate("1.3", "certificate_required");
}

TEST(tls_missing_client_certificate_12) {
    check_no_client_certificate("1.2", "handshake_failure");
}

TEST(tls_expired_client_certificate_is_refused) {
    pair p;
    pair_new(&p, NULL, 10);
    entity me = make("client", "DNS:client", &p.ca, -0.5);
    sr_tls_ctx_client_auth(p.sctx, SR_TLS_AUTH_REQUEST);
    identity(p.cctx, &me);
    entity_free(&me);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_FAILED);
    CHECK_STR(p.serr.code, "X509_V_ERR_CERT_HAS_EXPIRED");
    CHECK(strstr(p.serr.message, "CN=client"));
    pair_free(&p);
}

TEST(tls_requested_client_certificate_may_be_missing) {
    pair p;
    pair_new(&p, NULL, 10);
    sr_tls_ctx_client_auth(p.sctx, SR_TLS_AUTH_REQUEST);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    pair_free(&p);
}

TEST(tls_close_notify_is_a_clean_end) {
    pair p;
    char buf[16];
    size_t n;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    sr_tls_shutdown(p.client);
    CHECK_INT(sr_tls_write(p.client, "x", 1, &n, &err), -1);
    carry(&p, p.client, p.server, &err);
    sr_tls_eof(p.server);
    CHECK_INT(sr_tls_read(p.server, buf, sizeof buf, &n, &err), SR_TLS_END);
    CHECK_INT(sr_tls_read(p.server, buf, sizeof buf, &n, &err), SR_TLS_END);
    say(&p, p.server, p.client, "half closed");
    pair_free(&p);
}

TEST(tls_end_without_close_notify_is_truncated) {
    pair p;
    char buf[16];
    size_t n;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    sr_tls_eof(p.client);
    CHECK_INT(sr_tls_read(p.client, buf, sizeof buf, &n, &err), SR_TLS_FAILED);
    CHECK_INT(err.kind, SR_TLS);
    CHECK_STR(err.code, "truncated");
    pair_free(&p);
}

TEST(tls_truncation_can_be_allowed) {
    pair p;
    char buf[16];
    size_t n;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    sr_tls_ctx_allow_truncated(p.cctx, true);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    sr_tls_eof(p.client);
    CHECK_INT(sr_tls_read(p.client, buf, sizeof buf, &n, &err), SR_TLS_END);
    pair_free(&p);
}

TEST(tls_end_during_the_handshake) {
    pair p;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    pair_start(&p, "example.com");
    CHECK_INT(sr_tls_handshake(p.client, &err), SR_TLS_MORE);
    sr_tls_eof(p.client);
    CHECK_INT(sr_tls_handshake(p.client, &err), SR_TLS_FAILED);
    CHECK_STR(err.code, "closed");
    CHECK(strstr(err.message, "during the handshake"));
    pair_free(&p);
}

static void check_greeting(const char *bytes, bool to_client, const char *code) {
    pair p;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    pair_start(&p, "example.com");
    sr_tls *side = to_client ? p.client : p.server;
    (void)sr_tls_handshake(side, &err);
    sr_tls_feed(side, bytes, strlen(bytes));
    CHECK_INT(sr_tls_handshake(side, &err), SR_TLS_FAILED);
    CHECK_STR(err.code, code);
    pair_free(&p);
}

TEST(tls_plain_peers_are_named_as_such) {
    check_greeting("220 mail.example.com ESMTP\r\n", true, "wrong_version_number");
    check_greeting("GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, "http_request");
    check_greeting("MAIL FROM:<a@example.com>\r\n", false, "wrong_version_number");
}

TEST(tls_version_in_common_is_needed) {
    pair p;
    sr_err err = {0};
    pair_new(&p, NULL, 10);
    CHECK(sr_tls_ctx_versions(p.cctx, "1.2", "1.2", &err) == 0);
    CHECK(sr_tls_ctx_versions(p.sctx, "1.3", NULL, &err) == 0);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_FAILED);
    CHECK_STR(p.cerr.code, "protocol_version");
    CHECK_INT(sr_tls_ctx_versions(p.cctx, "1.1", NULL, &err), -1);
    CHECK_INT(sr_tls_ctx_versions(p.cctx, "1.3", "1.2", &err), -1);
    pair_free(&p);
}

TEST(tls_renegotiation_is_refused) {
    pair p;
    sr_err err = {0};
    char buf[16];
    size_t n;
    pair_new(&p, NULL, 10);
    CHECK(sr_tls_ctx_versions(p.cctx, "1.2", "1.2", &err) == 0);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    SSL_clear_options(sr_tls_ssl(p.client), SSL_OP_NO_RENEGOTIATION);
    SSL_renegotiate(sr_tls_ssl(p.client));
    (void)SSL_do_handshake(sr_tls_ssl(p.client));
    ERR_clear_error();
    carry(&p, p.client, p.server, &err);
    CHECK_INT(sr_tls_read(p.server, buf, sizeof buf, &n, &err), SR_TLS_MORE);
    carry(&p, p.server, p.client, &err);
    CHECK_INT(sr_tls_read(p.client, buf, sizeof buf, &n, &err), SR_TLS_FAILED);
    CHECK_STR(err.code, "no_renegotiation");
    pair_free(&p);
}

TEST(tls_output_is_bounded) {
    pair p;
    sr_err err = {0};
    size_t n = 0;
    char *big = calloc(1, 1 << 20);
    pair_new(&p, NULL, 10);
    pair_start(&p, "example.com");
    CHECK_INT(shake(&p), SR_TLS_DONE);
    CHECK(sr_tls_write(p.client, big, 1 << 20, &n, &err) == 0);
    CHECK(n >= SR_TLS_OUT_MAX / 2 && n < SR_TLS_OUT_MAX + 16384);
    CHECK(sr_tls_pending(p.client) < SR_TLS_OUT_MAX + 20000);
    free(big);
    pair_free(&p);
}

TEST(tls_input_is_bounded) {
    pair p;
    char *big = calloc(1, SR_TLS_IN_MAX + 10);
    pair_new(&p, NULL, 10);
    pair_start(&p, "example.com");
    CHECK_INT(sr_tls_feed(p.server, big, SR_TLS_IN_MAX + 10), SR_TLS_IN_MAX);
    CHECK_INT(sr_tls_room(p.server), 0);
    CHECK_INT(sr_tls_feed(p.server, big, 1), 0);
    free(big);
    pair_free(&p);
}

TEST(tls_identity_from_pem) {
    sr_tls_ctx *ctx = sr_tls_ctx_new(true);
    sr_err err = {0};
    entity a = make("a", "DNS:a", NULL, 10), b = make("b", "DNS:b", NULL, 10);
    size_t cert_len, key_len, other_len;
    char *cert = pem_of(&a, false, &cert_len), *key = pem_of(&a, true, &key_len);
    char *other = pem_of(&b, true, &other_len);
    CHECK_INT(sr_tls_ctx_check(ctx, &err), -1);
    CHECK_INT(sr_tls_ctx_identity_pem(ctx, cert, cert_len, other, other_len, NULL, &err),
              -1);
    CHECK(strstr(err.message, "does not belong"));
    CHECK_INT(sr_tls_ctx_identity_pem(ctx, key, key_len, key, key_len, NULL, &err), -1);
    CHECK(strstr(err.message, "certificate cannot be read"));
    CHECK_INT(sr_tls_ctx_identity_pem(ctx, cert, cert_len, cert, cert_len, NULL, &err),
              -1);
    CHECK(strstr(err.message, "private key cannot be read"));
    CHECK_INT(sr_tls_ctx_identity_pem(ctx, cert, cert_len, key, key_len, NULL, &err), 0);
    CHECK_INT(sr_tls_ctx_check(ctx, &err), 0);
    free(cert);
    free(key);
    free(other);
    entity_free(&a);
    entity_free(&b);
    sr_tls_ctx_unref(ctx);
}

TEST(tls_encrypted_key_wants_its_passphrase) {
    sr_tls_ctx *ctx = sr_tls_ctx_new(true);
    sr_err err = {0};
    entity a = make("a", "DNS:a", NULL, 10);
    size_t cert_len;
    char *cert = pem_of(&a, false, &cert_len), *key;
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, a.key, EVP_aes_128_cbc(), (const unsigned char *)"open",
                             4, NULL, NULL);
    size_t key_len = (size_t)BIO_get_mem_data(bio, &key);
    CHECK_INT(sr_tls_ctx_identity_pem(ctx, cert, cert_len, key, key_len, NULL, &err), -1);
    CHECK_INT(sr_tls_ctx_identity_pem(ctx, cert, cert_len, key, key_len, "no", &err), -1);
    CHECK_INT(sr_tls_ctx_identity_pem(ctx, cert, cert_len, key, key_len, "open", &err),
              0);
    BIO_free(bio);
    free(cert);
    entity_free(&a);
    sr_tls_ctx_unref(ctx);
}

TEST(tls_client_auth_needs_a_ca) {
    sr_tls_ctx *ctx = sr_tls_ctx_new(true);
    sr_err err = {0};
    entity a = make("a", "DNS:a", NULL, 10);
    identity(ctx, &a);
    sr_tls_ctx_client_auth(ctx, SR_TLS_AUTH_REQUIRE);
    CHECK_INT(sr_tls_ctx_check(ctx, &err), -1);
    CHECK(strstr(err.message, "give ca"));
    entity_free(&a);
    sr_tls_ctx_unref(ctx);
}

TEST(tls_trust_is_built_once_per_set) {
    sr_err err = {0};
    entity a = make("a", NULL, NULL, 10);
    size_t len;
    char *pem = pem_of(&a, false, &len);
    X509_STORE *one = sr_tls_trust_pem(pem, len, &err);
    X509_STORE *two = sr_tls_trust_pem(pem, len, &err);
    CHECK(one && one == two);
    CHECK(sr_tls_trust_pem("nothing", 7, &err) == NULL);
    CHECK_INT(err.kind, SR_USAGE);
    pem[len / 2] = pem[len / 2] == 'A' ? 'B' : 'A';
    pem[len / 2 + 1] = '!';
    CHECK(sr_tls_trust_pem(pem, len, &err) == NULL);
    CHECK(strstr(err.message, "broken"));
    X509_STORE_free(one);
    X509_STORE_free(two);
    free(pem);
    entity_free(&a);
}

TEST(tls_trust_file_is_read_again_when_it_changed) {
    sr_err err = {0};
    char path[] = "/tmp/secrun-tls-XXXXXX";
    int fd = mkstemp(path);
    entity a = make("a", NULL, NULL, 10), b = make("b", NULL, NULL, 10);
    FILE *f = fdopen(fd, "w");
    PEM_write_X509(f, a.cert);
    fflush(f);
    X509_STORE *one = sr_tls_trust_file(path, &err);
    X509_STORE *two = sr_tls_trust_file(path, &err);
    CHECK(one && one == two);
    PEM_write_X509(f, b.cert);
    fclose(f);
    X509_STORE *three = sr_tls_trust_file(path, &err);
    CHECK(three && three != one);
    unlink(path);
    CHECK(sr_tls_trust_file(path, &err) == NULL);
    CHECK_INT(err.kind, SR_NOT_FOUND);
    X509_STORE_free(one);
    X509_STORE_free(two);
    X509_STORE_free(three);
    entity_free(&a);
    entity_free(&b);
}
