/* jose_test.c – signatures that every CA takes, against published vectors where they
 * exist. */
#include "acme/jose.h"

#include <stdlib.h>

#include <cjson/cJSON.h>
#include <openssl/hmac.h>

#include "data/encoding.h"
#include "unit.h"

#define TOKEN "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
#define URL "https://ca.example/acme/new-order"

static sr_err failure;

/* A JWS taken apart again. */
typedef struct opened {
    cJSON *root, *header;
    sr_buf input, payload, signature;
} opened;

static void append_field(const opened *o, const char *key, sr_buf *out) {
    const char *text =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o->root, key));
    CHECK(text);
    if (*text) CHECK(sr_base64url_decode(out, text, strlen(text), &failure) == 0);
}

static opened open_jws(const sr_buf *jws) {
    opened o = {0};
    sr_buf header = {0};
    o.root = cJSON_Parse(jws->data);
    CHECK(o.root);
    CHECK_INT(cJSON_GetArraySize(o.root), 3);
    append_field(&o, "protected", &header);
    append_field(&o, "payload", &o.payload);
    append_field(&o, "signature", &o.signature);
    o.header = cJSON_Parse(header.data);
    sr_buf_free(&header);
    CHECK(o.header);
    sr_buf_printf(&o.input, "%s.%s",
                  cJSON_GetStringValue(cJSON_GetObjectItem(o.root, "protected")),
                  cJSON_GetStringValue(cJSON_GetObjectItem(o.root, "payload")));
    return o;
}

static void close_jws(opened *o) {
    cJSON_Delete(o->root);
    cJSON_Delete(o->header);
    sr_buf_free(&o->input);
    sr_buf_free(&o->payload);
    sr_buf_free(&o->signature);
}

static const char *header_text(const opened *o, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o->header, key));
}

/* Sign with a fresh key of this type, take apart, and verify with the public half. */
static void sign_and_verify(const char *type, const char *alg, size_t length) {
    sr_key key = {0};
    sr_buf jws = {0};
    sr_jws parts = {.url = URL,
                    .nonce = "abc-_1",
                    .kid = "https://ca.example/acct/\"1",
                    .payload = "{}",
                    .payload_len = 2};
    CHECK(sr_key_generate(&key, type, &failure) == 0);
    CHECK(sr_jose_sign(&key, &parts, &jws, &failure) == 0);
    opened o = open_jws(&jws);
    CHECK_STR(header_text(&o, "alg"), alg);
    CHECK_STR(header_text(&o, "url"), URL);
    CHECK_STR(header_text(&o, "nonce"), "abc-_1");
    CHECK_STR(header_text(&o, "kid"), "https://ca.example/acct/\"1");
    CHECK(!cJSON_HasObjectItem(o.header, "jwk"));
    CHECK_STR(o.payload.data, "{}");
    CHECK_INT(o.signature.len, length);
    CHECK_INT(sr_key_verify_jws(&key, alg, o.input.data, o.input.len, o.signature.data,
                                o.signature.len, &failure),
              1);
    o.signature.data[3] ^= 1;
    CHECK(sr_key_verify_jws(&key, alg, o.input.data, o.input.len, o.signature.data,
                            o.signature.len, &failure) != 1);
    close_jws(&o);
    sr_buf_free(&jws);
    sr_key_clear(&key);
}

TEST(jws_of_each_key_type_verifies_and_has_fixed_length) {
    for (int i = 0; i < 20; i++)
        sign_and_verify("p256", "ES256", 64);
    sign_and_verify("p384", "ES384", 96);
    for (int i = 0; i < 10; i++)
        sign_and_verify("p521", "ES512", 132);
    sign_and_verify("rsa2048", "RS256", 256);
    sign_and_verify("ed25519", "EdDSA", 64);
}

TEST(jws_without_kid_carries_the_public_key_only) {
    sr_key key = {0};
    sr_buf jws = {0};
    sr_jws parts = {.url = URL, .nonce = "n1"};
    CHECK(sr_key_generate(&key, "p256", &failure) == 0);
    CHECK(sr_jose_sign(&key, &parts, &jws, &failure) == 0);
    opened o = open_jws(&jws);
    cJSON *jwk = cJSON_GetObjectItemCaseSensitive(o.header, "jwk");
    CHECK_INT(cJSON_GetArraySize(jwk), 4);
    CHECK(!cJSON_HasObjectItem(jwk, "d"));
    CHECK(!header_text(&o, "kid"));
    CHECK_STR(cJSON_GetStringValue(cJSON_GetObjectItem(o.root, "payload")), "");
    close_jws(&o);
    sr_buf_free(&jws);
    sr_key_clear(&key);
}

/* RFC 7638 section 3.1. */
static const char rfc7638_key[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0vx7agoebGcQSuuPiLJX\n"
    "ZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tS\n"
    "oc/BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ/2W+5JsGY4Hc5n9yBXArwl93lqt\n"
    "7/RN5w6Cf0h4QyQ5v+65YGjQR0/FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0\n"
    "zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt+bFTWhAI4vMQFh6WeZu0f\n"
    "M4lFd2NcRwr3XPksINHaQ+G/xBniIqbw0Ls1jF44+csFCur+kEgU8awapJzKnqDK\n"
    "gwIDAQAB\n"
    "-----END PUBLIC KEY-----\n";

TEST(key_authorization_is_token_dot_thumbprint) {
    sr_key key = {0};
    sr_buf text = {0};
    CHECK(sr_key_read(&key, rfc7638_key, strlen(rfc7638_key), NULL, 0, &failure) == 0);
    CHECK(sr_jose_key_authorization(&key, TOKEN, strlen(TOKEN), &text, &failure) == 0);
    CHECK_STR(text.data, TOKEN ".NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    sr_buf_free(&text);
    CHECK(sr_jose_key_authorization(&key, "../../etc/passwd/aaaaaaaaaaaa", 29, &text,
                                    &failure) != 0);
    CHECK_INT(failure.kind, SR_PROTOCOL);
    sr_buf_free(&text);
    sr_key_clear(&key);
}

TEST(public_key_cannot_sign) {
    sr_key key = {0};
    sr_buf jws = {0};
    sr_jws parts = {.url = URL, .nonce = "n1"};
    CHECK(sr_key_read(&key, rfc7638_key, strlen(rfc7638_key), NULL, 0, &failure) == 0);
    CHECK(sr_jose_sign(&key, &parts, &jws, &failure) != 0);
    CHECK_INT(failure.kind, SR_USAGE);
    sr_key_clear(&key);
}

static void bind_and_verify(const char *alg, const EVP_MD *digest, const char *mac) {
    sr_key key = {0};
    sr_buf jws = {0}, jwk = {0};
    unsigned char want[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    sr_eab eab = {
        .url = URL, .kid = "kid-1", .alg = alg, .mac = mac, .mac_len = strlen(mac)};
    CHECK(sr_key_generate(&key, "p256", &failure) == 0);
    CHECK(sr_jose_eab(&key, &eab, &jws, &failure) == 0);
    opened o = open_jws(&jws);
    CHECK_STR(header_text(&o, "alg"), alg);
    CHECK_STR(header_text(&o, "kid"), "kid-1");
    CHECK_STR(header_text(&o, "url"), URL);
    CHECK_INT(cJSON_GetArraySize(o.header), 3);
    CHECK(sr_key_jwk(&key, &jwk, &failure) == 0);
    CHECK_STR(o.payload.data, jwk.data);
    HMAC(digest, mac, (int)strlen(mac), (unsigned char *)o.input.data, o.input.len, want,
         &len);
    CHECK_INT(o.signature.len, len);
    CHECK(memcmp(o.signature.data, want, len) == 0);
    close_jws(&o);
    sr_buf_free(&jwk);
    sr_buf_free(&jws);
    sr_key_clear(&key);
}

TEST(external_account_binding_signs_our_key_with_theirs) {
    bind_and_verify("HS256", EVP_sha256(), "short");
    bind_and_verify("HS384", EVP_sha384(), "0123456789abcdef0123456789abcdef");
    bind_and_verify(
        "HS512", EVP_sha512(),
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
        "abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234567");
}

TEST(external_account_binding_refuses_odd_algorithm_and_empty_key) {
    sr_key key = {0};
    sr_buf jws = {0};
    sr_eab eab = {.url = URL, .kid = "k", .alg = "RS256", .mac = "m", .mac_len = 1};
    CHECK(sr_key_generate(&key, "p256", &failure) == 0);
    CHECK(sr_jose_eab(&key, &eab, &jws, &failure) != 0);
    eab = (sr_eab){.url = URL, .kid = "k", .alg = "HS256", .mac = "", .mac_len = 0};
    CHECK(sr_jose_eab(&key, &eab, &jws, &failure) != 0);
    CHECK_INT(failure.kind, SR_USAGE);
    sr_key_clear(&key);
}

static bool decodes(const char *text, const char *encoding, const char *want) {
    sr_buf out = {0};
    failure = (sr_err){0};
    int rc = sr_jose_mac_key(text, strlen(text), encoding, &out, &failure);
    bool same = rc == 0 && out.secret && out.len == strlen(want) &&
                memcmp(out.data, want, out.len) == 0;
    sr_buf_free(&out);
    return same;
}

TEST(mac_key_is_taken_as_cas_print_it) {
    CHECK(decodes("c2VjcmV0P2tleT4-", NULL, "secret?key>>"));
    CHECK(decodes("c2VjcmV0P2tleT4+", "base64url", "secret?key>>"));
    CHECK(decodes("c2VjcmV0P2tleQ==\n", NULL, "secret?key"));
    CHECK(decodes("YzJWamNtVjBQMnRsZVE9PQ==", "twice", "secret?key"));
    CHECK(decodes("plain bytes!", "raw", "plain bytes!"));
    CHECK(!decodes("not base64 at all!", NULL, ""));
    CHECK_INT(failure.kind, SR_USAGE);
    CHECK(!strstr(failure.message, "not base64 at all"));
}

TEST(mac_key_encoded_twice_is_recognised) {
    CHECK(
        sr_jose_mac_looks_encoded("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nM", 47));
    CHECK(!sr_jose_mac_looks_encoded("\x01\x02zWNDZM6eQGHWpSRTPal5eIUYFTu7Eaj", 33));
    CHECK(!sr_jose_mac_looks_encoded("short", 5));
}

TEST(nonce_is_base64url) {
    CHECK(sr_jose_nonce_ok("oFvnlFP1wIhRlYS2jTaXbA", 22));
    CHECK(!sr_jose_nonce_ok("", 0));
    CHECK(!sr_jose_nonce_ok("a\"b", 3));
    CHECK(!sr_jose_nonce_ok("a=", 2));
}
