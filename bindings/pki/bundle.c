/* bundle.c – PKCS#12 files (RFC 7292), modern and legacy.
 *
 * Modern is what OpenSSL 3, Java 8u301, Windows Server 2019 and newer read: AES-256-CBC
 * with PBKDF2-HMAC-SHA256 and a SHA-256 MAC. Legacy is 3DES with SHA-1. Files found in
 * the field may use RC2, which lives in OpenSSL's legacy provider: it is loaded for that
 * one file into a library context of its own, so that nothing else ever sees it, and what
 * came out is re-encoded into the default context.
 */
#include "pki.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>

#define MODERN_ROUNDS 100000
#define LEGACY_ROUNDS 2048
#define MAX_ROUNDS 10000000L

static int bad_p12(sr_err *err, const char *what) {
    return sr_pki_fail(err, SR_USAGE, "BAD_PKCS12", "PKCS#12: %s", what);
}

void sr_pkcs12_clear(sr_pkcs12 *p12) {
    sr_key_clear(&p12->key);
    X509_free(p12->cert);
    sk_X509_pop_free(p12->chain, X509_free);
    *p12 = (sr_pkcs12){0};
}

/* ---------------------------------------------------------------- writing */

int sr_pkcs12_write(const sr_pkcs12 *p12, const char *password, bool legacy, sr_buf *buf,
                    sr_err *err) {
    int cipher = legacy ? NID_pbe_WithSHA1And3_Key_TripleDES_CBC : NID_aes_256_cbc;
    int rounds = legacy ? LEGACY_ROUNDS : MODERN_ROUNDS;
    unsigned char *der = NULL;
    ERR_clear_error();
    if (p12->key.pkey && !p12->key.is_private)
        return sr_fail(err, SR_USAGE, NULL, "PKCS#12: a public key cannot be bundled");
    if (p12->key.pkey && p12->cert &&
        EVP_PKEY_eq(X509_get0_pubkey(p12->cert), p12->key.pkey) != 1) {
        ERR_clear_error();
        return sr_fail(err, SR_USAGE, "KEY_MISMATCH",
                       "PKCS#12: the key is not that of the certificate");
    }
    PKCS12 *file = PKCS12_create(password, *p12->name ? p12->name : NULL, p12->key.pkey,
                                 p12->cert, p12->chain, cipher, cipher, rounds, -1, 0);
    if (!file || PKCS12_set_mac(file, password, -1, NULL, 0, rounds,
                                legacy ? EVP_sha1() : EVP_sha256()) != 1) {
        PKCS12_free(file);
        return sr_pki_fail(err, SR_INTERNAL, NULL, "PKCS#12: cannot build the file");
    }
    int len = i2d_PKCS12(file, &der);
    PKCS12_free(file);
    return sr_pki_put_der(buf, NULL, der, len, err);
}

/* ---------------------------------------------------------------- reading */

static int check_bags(const STACK_OF(PKCS12_SAFEBAG) * bags, sr_err *err) {
    int rc = 0;
    for (int i = 0; rc == 0 && i < sk_PKCS12_SAFEBAG_num(bags); i++) {
        const PKCS12_SAFEBAG *bag = sk_PKCS12_SAFEBAG_value(bags, i);
        const X509_ALGOR *alg;
        if (PKCS12_SAFEBAG_get_nid(bag) != NID_pkcs8ShroudedKeyBag) continue;
        const X509_SIG *sealed = PKCS12_SAFEBAG_get0_pkcs8(bag);
        if (!sealed) continue;
        X509_SIG_get0(sealed, &alg, NULL);
        rc = sr_pki_check_rounds(alg, err);
    }
    return rc;
}

/* Refuse work factors that would keep a thread for minutes, before any work is done. */
static int check_work(PKCS12 *file, sr_err *err) {
    const ASN1_INTEGER *rounds = NULL;
    int rc = 0;
    PKCS12_get0_mac(NULL, NULL, NULL, &rounds, file);
    if (rounds && (ASN1_INTEGER_get(rounds) < 0 || ASN1_INTEGER_get(rounds) > MAX_ROUNDS))
        return sr_fail(err, SR_LIMIT, "TOO_MANY_ROUNDS",
                       "PKCS#12: the MAC asks for more than %ld rounds; refused",
                       MAX_ROUNDS);
    STACK_OF(PKCS7) *safes = PKCS12_unpack_authsafes(file);
    if (!safes) return bad_p12(err, "the file is damaged");
    for (int i = 0; rc == 0 && i < sk_PKCS7_num(safes); i++) {
        PKCS7 *safe = sk_PKCS7_value(safes, i);
        if (PKCS7_type_is_encrypted(safe) && safe->d.encrypted) {
            rc = sr_pki_check_rounds(safe->d.encrypted->enc_data->algorithm, err);
        } else if (PKCS7_type_is_data(safe)) {
            STACK_OF(PKCS12_SAFEBAG) *bags = PKCS12_unpack_p7data(safe);
            rc = bags ? check_bags(bags, err) : 0;
            sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
        }
    }
    sk_PKCS7_pop_free(safes, PKCS7_free);
    ERR_clear_error();
    return rc;
}

static PKCS12 *decode(const unsigned char *data, size_t len, OSSL_LIB_CTX *ctx) {
    const unsigned char *p = data;
    PKCS12 *file = PKCS12_init_ex(NID_pkcs7_data, ctx, NULL);
    if (file && (!d2i_PKCS12(&file, &p, (long)len) || p != data + len)) {
        PKCS12_free(file);
        return NULL;
    }
    return file;
}

static X509 *copy_cert(X509 *cert) {
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    const unsigned char *p = der;
    X509 *copy = len > 0 ? d2i_X509(NULL, &p, len) : NULL;
    OPENSSL_free(der);
    return copy;
}

static EVP_PKEY *copy_key(EVP_PKEY *pkey) {
    unsigned char *der = NULL;
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
    int len = info ? i2d_PKCS8_PRIV_KEY_INFO(info, &der) : 0;
    const unsigned char *p = der;
    EVP_PKEY *copy = len > 0 ? d2i_AutoPrivateKey(NULL, &p, len) : NULL;
    OPENSSL_clear_free(der, len > 0 ? (size_t)len : 0);
    PKCS8_PRIV_KEY_INFO_free(info);
    return copy;
}

/* Move everything into the default library context. */
static int take_over(EVP_PKEY *pkey, X509 *cert, const STACK_OF(X509) * others,
                     sr_pkcs12 *p12) {
    int len = 0;
    const unsigned char *alias = cert ? X509_alias_get0(cert, &len) : NULL;
    if (alias) snprintf(p12->name, sizeof p12->name, "%.*s", len, (const char *)alias);
    if (pkey && !(p12->key.pkey = copy_key(pkey))) return -1;
    p12->key.is_private = pkey != NULL;
    if (cert && !(p12->cert = copy_cert(cert))) return -1;
    if (!(p12->chain = sk_X509_new_null())) return -1;
    for (int i = 0; i < sk_X509_num(others); i++) {
        X509 *copy = copy_cert(sk_X509_value(others, i));
        if (!copy || !sk_X509_push(p12->chain, copy)) {
            X509_free(copy);
            return -1;
        }
    }
    return 0;
}

static int unpack(const unsigned char *data, size_t len, const char *password,
                  OSSL_LIB_CTX *ctx, sr_pkcs12 *ret_p12) {
    EVP_PKEY *pkey = NULL;
    X509 *cert = NULL;
    STACK_OF(X509) *others = NULL;
    sr_pkcs12 p12 = {0};
    int rc = -1;
    PKCS12 *file = decode(data, len, ctx);
    if (file && PKCS12_parse(file, password, &pkey, &cert, &others) == 1)
        rc = take_over(pkey, cert, others, &p12);
    if (rc == 0)
        *ret_p12 = p12;
    else
        sr_pkcs12_clear(&p12);
    EVP_PKEY_free(pkey);
    X509_free(cert);
    sk_X509_pop_free(others, X509_free);
    PKCS12_free(file);
    return rc;
}

static int unpack_legacy(const unsigned char *data, size_t len, const char *password,
                         sr_pkcs12 *ret_p12) {
    int rc = -1;
    OSSL_LIB_CTX *ctx = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *modern = ctx ? OSSL_PROVIDER_load(ctx, "default") : NULL;
    OSSL_PROVIDER *legacy = ctx ? OSSL_PROVIDER_load(ctx, "legacy") : NULL;
    if (modern && legacy) rc = unpack(data, len, password, ctx, ret_p12);
    if (legacy) OSSL_PROVIDER_unload(legacy);
    if (modern) OSSL_PROVIDER_unload(modern);
    OSSL_LIB_CTX_free(ctx);
    return rc;
}

static bool opens(PKCS12 *file, const char *password) {
    if (!PKCS12_mac_present(file)) return true;
    if (PKCS12_verify_mac(file, password, -1) == 1) return true;
    return !*password && PKCS12_verify_mac(file, NULL, 0) == 1;
}

int sr_pkcs12_read(const void *data, size_t len, const char *password, sr_pkcs12 *ret_p12,
                   sr_err *err) {
    if (len > SR_PKI_MAX_INPUT)
        return sr_fail(err, SR_LIMIT, "TOO_LARGE",
                       "PKCS#12 of %zu bytes; at most %u are read", len,
                       SR_PKI_MAX_INPUT);
    ERR_clear_error();
    PKCS12 *file = decode(data, len, NULL);
    if (!file) return bad_p12(err, "the file is damaged, or is no PKCS#12");
    int rc = check_work(file, err);
    bool mac = PKCS12_mac_present(file);
    if (rc == 0 && !opens(file, password))
        rc = sr_fail(err, SR_AUTH, "WRONG_PASSWORD",
                     "PKCS#12: the password does not open this file");
    PKCS12_free(file);
    ERR_clear_error();
    if (rc < 0) return -1;
    if (unpack(data, len, password, NULL, ret_p12) == 0) return 0;
    ERR_clear_error();
    if (unpack_legacy(data, len, password, ret_p12) == 0) {
        ERR_clear_error();
        return 0;
    }
    if (mac) return bad_p12(err, "the contents cannot be decrypted or decoded");
    ERR_clear_error();
    return sr_fail(err, SR_AUTH, "WRONG_PASSWORD",
                   "PKCS#12: the password is wrong or the contents are damaged; the file "
                   "has no MAC to tell which");
}
