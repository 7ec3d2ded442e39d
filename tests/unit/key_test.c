/* key_test.c – keys: made, written, read back, encrypted, used. */
#include "pki/pki.h"

#include "unit.h"

#include <openssl/pem.h>
#include <openssl/pkcs12.h>

static const char *const types[] = {"p256", "p384", "p521", "rsa2048", "ed25519"};

static sr_key make(const char *type) {
    sr_key key = {0};
    sr_err err = {0};
    CHECK(sr_key_generate(&key, type, &err) == 0);
    return key;
}

TEST(key_of_every_type_survives_pem) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        sr_err err = {0};
        sr_buf pem = {.secret = true};
        sr_key back = {0}, key = make(types[i]);
        sr_key_info info;
        sr_key_describe(key.pkey, &info);
        CHECK_STR(info.type, types[i]);
        CHECK(sr_key_pem(&key, NULL, 0, &pem, &err) == 0);
        CHECK(sr_key_read(&back, pem.data, pem.len, NULL, 0, &err) == 0);
        CHECK(back.is_private);
        CHECK_INT(EVP_PKEY_eq(key.pkey, back.pkey), 1);
        sr_key_clear(&key);
        sr_key_clear(&back);
        sr_buf_free(&pem);
    }
}

static void check_pkcs8(EVP_PKEY *pkey) {
    unsigned char *ours = NULL, *theirs = NULL;
    PKCS8_PRIV_KEY_INFO *a = sr_pkcs8(pkey), *b = EVP_PKEY2PKCS8(pkey);
    int len = i2d_PKCS8_PRIV_KEY_INFO(a, &ours);
    CHECK_INT(len, i2d_PKCS8_PRIV_KEY_INFO(b, &theirs));
    CHECK(len > 0 && memcmp(ours, theirs, (size_t)len) == 0);
    OPENSSL_free(ours);
    OPENSSL_free(theirs);
    PKCS8_PRIV_KEY_INFO_free(a);
    PKCS8_PRIV_KEY_INFO_free(b);
}

TEST(pkcs8_is_byte_for_byte_what_openssl_writes) {
    static const char *const curves[] = {"secp256k1", "secp224r1", "brainpoolP256r1",
                                         "sect233k1"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        sr_key key = make(types[i]);
        check_pkcs8(key.pkey);
        sr_key_clear(&key);
    }
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", curves[i]);
        CHECK(pkey != NULL);
        check_pkcs8(pkey);
        EVP_PKEY_free(pkey);
    }
    for (int i = 0; i < 600; i++) { /* scalars that begin with zero bytes */
        sr_key key = make("p256");
        check_pkcs8(key.pkey);
        sr_key_clear(&key);
    }
}

TEST(encrypted_key_tells_missing_from_wrong_passphrase) {
    sr_err err = {0};
    sr_buf pem = {.secret = true};
    sr_key back = {0}, key = make("p256");
    CHECK(sr_key_pem(&key, "horse", 5, &pem, &err) == 0);
    CHECK(strstr(pem.data, "BEGIN ENCRYPTED PRIVATE KEY") != NULL);
    CHECK(sr_key_is_encrypted(pem.data, pem.len));
    CHECK_INT(sr_key_read(&back, pem.data, pem.len, NULL, 0, &err), -1);
    CHECK_STR(err.code, "PASSPHRASE_REQUIRED");
    CHECK_INT(sr_key_read(&back, pem.data, pem.len, "cow", 3, &err), -1);
    CHECK_STR(err.code, "WRONG_PASSPHRASE");
    CHECK_INT(err.kind, SR_AUTH);
    CHECK(sr_key_read(&back, pem.data, pem.len, "horse", 5, &err) == 0);
    CHECK_INT(EVP_PKEY_eq(key.pkey, back.pkey), 1);
    sr_key_clear(&key);
    sr_key_clear(&back);
    sr_buf_free(&pem);
}

/* The same key through OpenSSL's own writers of old formats. */
static void check_old_format(const char *type, const char *label,
                             const EVP_CIPHER *cipher) {
    sr_err err = {0};
    sr_key back = {0}, key = make(type);
    BIO *bio = BIO_new(BIO_s_mem());
    char *data, pass[] = "old horse";
    CHECK_INT(PEM_write_bio_PrivateKey_traditional(
                  bio, key.pkey, cipher, (unsigned char *)(cipher ? pass : NULL),
                  cipher ? 9 : 0, NULL, NULL),
              1);
    size_t len = (size_t)BIO_get_mem_data(bio, &data);
    CHECK(memmem(data, len, label, strlen(label)) != NULL);
    if (cipher) {
        CHECK_INT(sr_key_read(&back, data, len, NULL, 0, &err), -1);
        CHECK_STR(err.code, "PASSPHRASE_REQUIRED");
        CHECK_INT(sr_key_read(&back, data, len, "new horse", 9, &err), -1);
        CHECK_STR(err.code, "WRONG_PASSPHRASE");
    }
    CHECK(sr_key_read(&back, data, len, cipher ? pass : NULL, 9, &err) == 0);
    CHECK_INT(EVP_PKEY_eq(key.pkey, back.pkey), 1);
    BIO_free(bio);
    sr_key_clear(&key);
    sr_key_clear(&back);
}

TEST(key_in_pkcs1_and_sec1_is_read) {
    check_old_format("rsa2048", "BEGIN RSA PRIVATE KEY", NULL);
    check_old_format("p256", "BEGIN EC PRIVATE KEY", NULL);
}

TEST(key_with_proc_type_encryption_is_read) {
    check_old_format("p256", "Proc-Type", EVP_aes_128_cbc());
}

TEST(key_in_der_is_read_by_its_shape) {
    sr_err err = {0};
    sr_key back = {0}, key = make("p384");
    sr_buf spki = {0};
    unsigned char *der = NULL;
    int len = i2d_PrivateKey(key.pkey, &der);
    CHECK(sr_key_read(&back, der, (size_t)len, NULL, 0, &err) == 0);
    CHECK(back.is_private);
    sr_key_clear(&back);
    CHECK(sr_key_spki(&key, &spki, &err) == 0);
    CHECK(sr_key_read(&back, spki.data, spki.len, NULL, 0, &err) == 0);
    CHECK(!back.is_private);
    CHECK_INT(sr_key_sign(&back, NULL, "x", 1, &spki, &err), -1);
    sr_key_clear(&back);
    sr_key_clear(&key);
    sr_buf_free(&spki);
    OPENSSL_free(der);
}

TEST(key_with_trailing_bytes_is_refused) {
    sr_err err = {0};
    sr_key back = {0}, key = make("p256");
    unsigned char der[512], *p = der;
    int len = i2d_PrivateKey(key.pkey, &p);
    der[len] = 0;
    CHECK_INT(sr_key_read(&back, der, (size_t)len + 1, NULL, 0, &err), -1);
    CHECK_STR(err.code, "BAD_KEY");
    sr_key_clear(&key);
}

TEST(key_pem_cut_short_is_called_truncated) {
    sr_err err = {0};
    sr_buf pem = {.secret = true};
    sr_key back = {0}, key = make("p256");
    CHECK(sr_key_pem(&key, NULL, 0, &pem, &err) == 0);
    CHECK_INT(sr_key_read(&back, pem.data, pem.len - 30, NULL, 0, &err), -1);
    CHECK_STR(err.code, "BAD_PEM");
    CHECK(strstr(err.message, "truncated") != NULL);
    CHECK_INT(sr_key_read(&back, "", 0, NULL, 0, &err), -1);
    CHECK_STR(err.code, "NO_KEY");
    sr_key_clear(&key);
    sr_buf_free(&pem);
}

static X509_ALGOR *pbe_of(int rounds) {
    return PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), rounds, NULL, 0, NULL,
                             NID_hmacWithSHA256);
}

TEST(encrypted_key_with_absurd_rounds_is_refused_at_once) {
    sr_err err = {0};
    sr_key back = {0}, key = make("p256");
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key.pkey);
    X509_SIG *sealed = PKCS8_set0_pbe("x", 1, info, pbe_of(1000));
    X509_ALGOR *inside, *hostile = pbe_of(2000000000);
    X509_SIG_getm(sealed, &inside, NULL);
    CHECK_INT(X509_ALGOR_copy(inside, hostile), 1);
    unsigned char *der = NULL;
    int len = i2d_X509_SIG(sealed, &der);
    CHECK_INT(sr_key_read(&back, der, (size_t)len, "x", 1, &err), -1);
    CHECK_STR(err.code, "TOO_MANY_ROUNDS");
    X509_ALGOR_free(hostile);
    X509_SIG_free(sealed);
    OPENSSL_free(der);
    PKCS8_PRIV_KEY_INFO_free(info);
    sr_key_clear(&key);
}

TEST(key_signs_and_verifies) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        sr_err err = {0};
        sr_buf sig = {0};
        sr_key key = make(types[i]);
        CHECK(sr_key_sign(&key, NULL, "data", 4, &sig, &err) == 0);
        CHECK_INT(sr_key_verify(&key, NULL, "data", 4, sig.data, sig.len, &err), 1);
        CHECK_INT(sr_key_verify(&key, NULL, "date", 4, sig.data, sig.len, &err), 0);
        CHECK_INT(sr_key_verify(&key, NULL, "data", 4, "", 0, &err), 0);
        sr_key_clear(&key);
        sr_buf_free(&sig);
    }
}

TEST(jws_signature_has_fixed_length_and_verifies) {
    static const struct {
        const char *type, *alg;
        size_t len;
    } rows[] = {{"p256", "ES256", 64},
                {"p384", "ES384", 96},
                {"p521", "ES512", 132},
                {"rsa2048", "RS256", 256},
                {"ed25519", "EdDSA", 64}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sr_err err = {0};
        sr_key key = make(rows[i].type);
        for (int round = 0; round < 40; round++) { /* r or s starts with zero 1 in 128 */
            sr_buf sig = {0};
            CHECK(sr_key_sign_jws(&key, rows[i].alg, "data", 4, &sig, &err) == 0);
            CHECK_INT(sig.len, rows[i].len);
            CHECK_INT(sr_key_verify_jws(&key, NULL, "data", 4, sig.data, sig.len, &err),
                      1);
            CHECK_INT(sr_key_verify_jws(&key, NULL, "dat", 3, sig.data, sig.len, &err),
                      0);
            sr_buf_free(&sig);
        }
        sr_key_clear(&key);
    }
}

TEST(jws_algorithm_must_fit_the_key) {
    sr_err err = {0};
    sr_buf sig = {0};
    sr_key key = make("p256");
    CHECK_INT(sr_key_sign_jws(&key, "RS256", "x", 1, &sig, &err), -1);
    CHECK(strstr(err.message, "ES256") != NULL);
    sr_key_clear(&key);
}

/* RFC 8037, appendix A.1 to A.3: an Ed25519 key, its JWK and its thumbprint. */
TEST(jwk_and_thumbprint_of_rfc_8037) {
    static const unsigned char pub[32] = {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7,
                                          0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
                                          0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25,
                                          0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};
    sr_err err = {0};
    sr_buf jwk = {0}, print = {0};
    sr_key key = {.pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, pub, 32)};
    CHECK(sr_key_jwk(&key, &jwk, &err) == 0);
    CHECK_STR(jwk.data, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\","
                        "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}");
    CHECK(sr_key_thumbprint(&key, &print, &err) == 0);
    CHECK_STR(print.data, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    sr_key_clear(&key);
    sr_buf_free(&jwk);
    sr_buf_free(&print);
}

TEST(jwk_coordinates_are_padded) {
    for (int i = 0; i < 20; i++) { /* P-521 coordinates nearly always start with zeros */
        sr_err err = {0};
        sr_buf jwk = {0};
        sr_key key = make("p521");
        CHECK(sr_key_jwk(&key, &jwk, &err) == 0);
        CHECK_INT(jwk.len - 2 * 88UL,
                  strlen("{\"crv\":\"P-521\",\"kty\":\"EC\",\"x\":\"\",\"y\":\"\"}"));
        sr_key_clear(&key);
        sr_buf_free(&jwk);
    }
}

TEST(pem_blocks_survive_windows_and_comments) {
    static const char text[] = "subject=CN = x\r\n-----BEGIN THING-----\r\n  aGVs\r\n"
                               "  bG8=\r\n-----END THING-----\r\njunk\r\n";
    sr_err err = {0};
    sr_pem pem = {.next = text, .end = text + sizeof text - 1};
    CHECK_INT(sr_pem_next(&pem, &err), 1);
    CHECK_STR(pem.label, "THING");
    CHECK_STR(pem.der.data, "hello");
    CHECK_INT(sr_pem_next(&pem, &err), 0);
    sr_pem_free(&pem);
}

TEST(pem_with_broken_armour_is_refused) {
    static const char *const bad[] = {
        "-----BEGIN A-----\naGVs\n",
        "-----BEGIN A-----\naGVs\n-----END B-----\n",
        "-----BEGIN A-----\naGV!\n-----END A-----\n",
        "-----BEGIN A-----\naGVsb\n-----END A-----\n",
        "-----BEGIN A-----\naG=s\n-----END A-----\n",
        "-----BEGIN A-----\naGVsbG8==\n-----END A-----\n",
        "-----BEGIN A\naGVs\n-----END A-----\n",
        "-----BEGIN A-----\naGVs\n-----BEGIN A-----\naGVs\n-----END A-----\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sr_err err = {0};
        sr_pem pem = {.next = bad[i], .end = bad[i] + strlen(bad[i])};
        if (sr_pem_next(&pem, &err) != -1) unit_fail(__FILE__, __LINE__, "%s", bad[i]);
        CHECK_STR(err.code, "BAD_PEM");
        sr_pem_free(&pem);
    }
}
