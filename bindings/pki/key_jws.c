/* key_jws.c – keys in the clothes of JOSE: JWK, thumbprint and raw signatures.
 *
 * RFC 7518 wants ECDSA signatures as r and s of fixed length, left-padded, where X.509
 * has DER; RFC 7638 wants the members of a JWK in alphabetical order without white space,
 * and P-521 coordinates are 66 bytes also when they start with zeros.
 */
#include "pki.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>

#define MAX_FIELD 66     /* bytes of a P-521 coordinate */
#define MAX_MODULUS 2048 /* bytes: RSA of 16,384 bits */

static size_t field_bytes(const sr_key_info *info) {
    return ((size_t)info->bits + 7) / 8;
}

static int check_alg(const sr_key *key, const char *alg, sr_key_info *ret_info,
                     sr_err *err) {
    sr_key_describe(key->pkey, ret_info);
    if (!ret_info->jws)
        return sr_fail(err, SR_USAGE, NULL, "%s keys have no JWS algorithm",
                       ret_info->label);
    if (alg && strcmp(alg, ret_info->jws) != 0)
        return sr_fail(err, SR_USAGE, NULL, "a %s key signs JWS with %s, not %s",
                       ret_info->label, ret_info->jws, alg);
    return 0;
}

static int der_to_raw(const sr_buf *der, size_t field, sr_buf *buf) {
    const unsigned char *p = (const unsigned char *)der->data;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)der->len);
    unsigned char *out = (unsigned char *)sr_buf_reserve(buf, field * 2);
    bool good = sig && out && BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, (int)field) > 0 &&
                BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + field, (int)field) > 0;
    if (good) {
        buf->len += field * 2;
        buf->data[buf->len] = '\0';
    }
    ECDSA_SIG_free(sig);
    return good ? 0 : -1;
}

static int raw_to_der(const unsigned char *raw, size_t field, sr_buf *buf) {
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, (int)field, NULL);
    BIGNUM *s = BN_bin2bn(raw + field, (int)field, NULL);
    unsigned char *der = NULL;
    int len = 0, rc = -1;
    if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1)
        len = i2d_ECDSA_SIG(sig, &der);
    else {
        BN_free(r);
        BN_free(s);
    }
    if (len > 0) rc = sr_buf_append(buf, der, (size_t)len);
    OPENSSL_free(der);
    ECDSA_SIG_free(sig);
    return rc;
}

int sr_key_sign_jws(const sr_key *key, const char *alg, const void *data, size_t len,
                    sr_buf *buf, sr_err *err) {
    sr_key_info info;
    sr_buf der = {0};
    if (check_alg(key, alg, &info, err) < 0) return -1;
    if (strcmp(info.algorithm, "ec") != 0)
        return sr_key_sign(key, NULL, data, len, buf, err);
    int rc = sr_key_sign(key, NULL, data, len, &der, err);
    if (rc == 0 && der_to_raw(&der, field_bytes(&info), buf) < 0)
        rc = sr_pki_fail(err, SR_INTERNAL, "SIGN", "the signature cannot be encoded");
    sr_buf_free(&der);
    return rc;
}

int sr_key_verify_jws(const sr_key *key, const char *alg, const void *data, size_t len,
                      const void *sig, size_t sig_len, sr_err *err) {
    sr_key_info info;
    sr_buf der = {0};
    if (check_alg(key, alg, &info, err) < 0) return -1;
    if (strcmp(info.algorithm, "ec") != 0)
        return sr_key_verify(key, NULL, data, len, sig, sig_len, err);
    if (sig_len != field_bytes(&info) * 2) return 0;
    int rc = raw_to_der(sig, field_bytes(&info), &der);
    if (rc == 0)
        rc = sr_key_verify(key, NULL, data, len, der.data, der.len, err);
    else
        sr_pki_fail(err, SR_INTERNAL, NULL, "the signature cannot be decoded");
    sr_buf_free(&der);
    return rc;
}

/* ---------------------------------------------------------------- JWK */

/* Append ,"name":"base64url(number)"; size 0: as long as the number is. */
static int put_number(sr_buf *buf, EVP_PKEY *pkey, const char *param, size_t size) {
    unsigned char bytes[MAX_MODULUS];
    BIGNUM *bn = NULL;
    int len = -1;
    if (EVP_PKEY_get_bn_param(pkey, param, &bn) == 1) {
        if (!size) size = (size_t)BN_num_bytes(bn);
        if (size <= sizeof bytes) len = BN_bn2binpad(bn, bytes, (int)size);
    }
    BN_free(bn);
    return len < 0 ? -1 : sr_pki_base64url(buf, bytes, (size_t)len);
}

static int put_ec(sr_buf *buf, EVP_PKEY *pkey, const sr_key_info *info) {
    size_t field = field_bytes(info);
    sr_buf_printf(buf, "{\"crv\":\"%s\",\"kty\":\"EC\",\"x\":\"", info->label);
    if (put_number(buf, pkey, OSSL_PKEY_PARAM_EC_PUB_X, field) < 0) return -1;
    sr_buf_puts(buf, "\",\"y\":\"");
    if (put_number(buf, pkey, OSSL_PKEY_PARAM_EC_PUB_Y, field) < 0) return -1;
    return sr_buf_puts(buf, "\"}");
}

static int put_rsa(sr_buf *buf, EVP_PKEY *pkey) {
    sr_buf_puts(buf, "{\"e\":\"");
    if (put_number(buf, pkey, OSSL_PKEY_PARAM_RSA_E, 0) < 0) return -1;
    sr_buf_puts(buf, "\",\"kty\":\"RSA\",\"n\":\"");
    if (put_number(buf, pkey, OSSL_PKEY_PARAM_RSA_N, 0) < 0) return -1;
    return sr_buf_puts(buf, "\"}");
}

static int put_okp(sr_buf *buf, EVP_PKEY *pkey, const sr_key_info *info) {
    unsigned char bytes[MAX_FIELD];
    size_t len = sizeof bytes;
    if (EVP_PKEY_get_raw_public_key(pkey, bytes, &len) != 1) return -1;
    sr_buf_printf(buf, "{\"crv\":\"%s\",\"kty\":\"OKP\",\"x\":\"", info->label);
    sr_pki_base64url(buf, bytes, len);
    return sr_buf_puts(buf, "\"}");
}

int sr_key_jwk(const sr_key *key, sr_buf *buf, sr_err *err) {
    sr_key_info info;
    if (check_alg(key, NULL, &info, err) < 0) return -1;
    int rc = strcmp(info.algorithm, "ec") == 0    ? put_ec(buf, key->pkey, &info)
             : strcmp(info.algorithm, "rsa") == 0 ? put_rsa(buf, key->pkey)
                                                  : put_okp(buf, key->pkey, &info);
    if (rc < 0) return sr_pki_fail(err, SR_INTERNAL, NULL, "the key has no JWK form");
    return 0;
}

int sr_key_thumbprint(const sr_key *key, sr_buf *buf, sr_err *err) {
    unsigned char digest[32];
    sr_buf jwk = {0};
    int rc = sr_key_jwk(key, &jwk, err);
    if (rc == 0 && !EVP_Digest(jwk.data, jwk.len, digest, NULL, EVP_sha256(), NULL))
        rc = sr_pki_fail(err, SR_INTERNAL, NULL, "SHA-256 failed");
    sr_buf_free(&jwk);
    if (rc == 0 && sr_pki_base64url(buf, digest, sizeof digest) < 0)
        rc = sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    return rc;
}
