/* bundle_test.c – PKCS#12 written and read, modern, legacy, and with foreign ciphers. */
#include "pki_fixture.h"

#include <openssl/pkcs12.h>
#include <openssl/provider.h>

static void check_round_trip(bool legacy) {
    sr_err err = {0};
    sr_buf file = {.secret = true};
    sr_pkcs12 back = {0};
    made ca = make_ca("Test CA", NULL), leaf = make_leaf("a.example", &ca);
    sr_pkcs12 p12 = {.key = leaf.key, .cert = leaf.cert, .chain = sk_X509_new_null()};
    snprintf(p12.name, sizeof p12.name, "web");
    sk_X509_push(p12.chain, ca.cert);
    CHECK(sr_pkcs12_write(&p12, "s3cret", legacy, &file, &err) == 0);
    CHECK_INT(sr_pkcs12_read(file.data, file.len, "wrong", &back, &err), -1);
    CHECK_STR(err.code, "WRONG_PASSWORD");
    CHECK_INT(err.kind, SR_AUTH);
    CHECK(sr_pkcs12_read(file.data, file.len, "s3cret", &back, &err) == 0);
    CHECK_INT(EVP_PKEY_eq(back.key.pkey, leaf.key.pkey), 1);
    CHECK_INT(X509_cmp(back.cert, leaf.cert), 0);
    CHECK_INT(sk_X509_num(back.chain), 1);
    CHECK_STR(back.name, "web");
    sr_pkcs12_clear(&back);
    CHECK_INT(sr_pkcs12_read(file.data, file.len - 1, "s3cret", &back, &err), -1);
    CHECK_STR(err.code, "BAD_PKCS12");
    sk_X509_free(p12.chain);
    sr_buf_free(&file);
    made_free(&leaf);
    made_free(&ca);
}

TEST(pkcs12_modern_survives) {
    check_round_trip(false);
}
TEST(pkcs12_legacy_survives) {
    check_round_trip(true);
}

TEST(pkcs12_with_rc2_is_read_through_the_legacy_provider) {
    sr_err err = {0};
    sr_pkcs12 back = {0};
    unsigned char *der = NULL;
    made leaf = make_leaf("a.example", NULL);
    OSSL_LIB_CTX *ctx = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *modern = OSSL_PROVIDER_load(ctx, "default");
    OSSL_PROVIDER *legacy = OSSL_PROVIDER_load(ctx, "legacy");
    CHECK(legacy != NULL);
    PKCS12 *file = PKCS12_create_ex("pw", NULL, leaf.key.pkey, leaf.cert, NULL,
                                    NID_pbe_WithSHA1And3_Key_TripleDES_CBC,
                                    NID_pbe_WithSHA1And40BitRC2_CBC, 1, 1, 0, ctx, NULL);
    CHECK(file != NULL);
    int len = i2d_PKCS12(file, &der);
    PKCS12_free(file);
    OSSL_PROVIDER_unload(legacy);
    OSSL_PROVIDER_unload(modern);
    OSSL_LIB_CTX_free(ctx);
    if (sr_pkcs12_read(der, (size_t)len, "pw", &back, &err) < 0)
        unit_fail(__FILE__, __LINE__, "%s", err.message);
    CHECK_INT(EVP_PKEY_eq(back.key.pkey, leaf.key.pkey), 1);
    CHECK_INT(X509_cmp(back.cert, leaf.cert), 0);
    sr_pkcs12_clear(&back);
    OPENSSL_free(der);
    made_free(&leaf);
}

TEST(pkcs12_with_another_key_is_refused) {
    sr_err err = {0};
    sr_buf file = {0};
    made a = make_leaf("a.example", NULL), b = make_leaf("b.example", NULL);
    sr_pkcs12 p12 = {.key = a.key, .cert = b.cert};
    CHECK_INT(sr_pkcs12_write(&p12, "pw", false, &file, &err), -1);
    CHECK_STR(err.code, "KEY_MISMATCH");
    made_free(&a);
    made_free(&b);
}

TEST(pkcs12_with_absurd_rounds_is_refused_at_once) {
    sr_err err = {0};
    sr_pkcs12 back = {0};
    unsigned char *der = NULL;
    made m = make_leaf("a.example", NULL);
    PKCS12 *file = PKCS12_create("pw", NULL, m.key.pkey, m.cert, NULL,
                                 NID_pbe_WithSHA1And3_Key_TripleDES_CBC,
                                 NID_pbe_WithSHA1And3_Key_TripleDES_CBC, 1000, -1, 0);
    CHECK(PKCS12_set_mac(file, "pw", -1, NULL, 0, 1000, NULL) == 1);
    const ASN1_INTEGER *rounds = NULL;
    PKCS12_get0_mac(NULL, NULL, NULL, &rounds, file);
    ASN1_INTEGER_set((ASN1_INTEGER *)(uintptr_t)rounds, 2000000000);
    int len = i2d_PKCS12(file, &der);
    PKCS12_free(file);
    CHECK_INT(sr_pkcs12_read(der, (size_t)len, "pw", &back, &err), -1);
    CHECK_STR(err.code, "TOO_MANY_ROUNDS");
    OPENSSL_free(der);
    made_free(&m);
}

TEST(text_that_is_no_pkcs12_is_refused) {
    sr_err err = {0};
    sr_pkcs12 back = {0};
    CHECK_INT(sr_pkcs12_read("hello", 5, "pw", &back, &err), -1);
    CHECK_STR(err.code, "BAD_PKCS12");
    CHECK_INT(sr_pkcs12_read("", 0, "pw", &back, &err), -1);
}
