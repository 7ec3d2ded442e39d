/* key.c – keys made, described, written and used to sign.
 *
 * One table says what we know of each kind of key; everything else looks there. Reading
 * is in key_read.c, JSON Web Signatures are in key_jws.c.
 *
 * A key never leaves as plain bytes but through sr_key_pem(), into a buffer that wipes
 * itself. Nothing here writes key material into an error message.
 */
#include "pki.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>

#define KDF_ROUNDS 600000 /* PBKDF2-HMAC-SHA256, OWASP's figure */

static const struct kind {
    sr_key_info info;
    const char *name;  /* OpenSSL's name of the algorithm */
    const char *group; /* the curve */
    bool made;         /* scripts may ask for one */
} kinds[] = {
    {{"p256", "P-256", "ec", "SHA256", "ES256", 256, false}, "EC", "prime256v1", true},
    {{"p384", "P-384", "ec", "SHA384", "ES384", 384, true}, "EC", "secp384r1", true},
    {{"p521", "P-521", "ec", "SHA512", "ES512", 521, true}, "EC", "secp521r1", true},
    {{"rsa2048", "RSA-2048", "rsa", "SHA256", "RS256", 2048, true}, "RSA", NULL, true},
    {{"rsa3072", "RSA-3072", "rsa", "SHA256", "RS256", 3072, true}, "RSA", NULL, true},
    {{"rsa4096", "RSA-4096", "rsa", "SHA256", "RS256", 4096, true}, "RSA", NULL, true},
    {{"ed25519", "Ed25519", "ed25519", NULL, "EdDSA", 256, false}, "ED25519", NULL, true},
    {{"ed448", "Ed448", "ed448", NULL, NULL, 456, false}, "ED448", NULL, false},
    {{"rsa", "RSA", "rsa", "SHA256", "RS256", 0, true}, "RSA", NULL, false},
    {{"ec", "EC", "ec", "SHA256", NULL, 0, true}, "EC", NULL, false},
    {{"rsa-pss", "RSA-PSS", "rsa-pss", "SHA256", NULL, 0, true}, "RSA-PSS", NULL, false},
    {{"dsa", "DSA", "dsa", "SHA256", NULL, 0, true}, "DSA", NULL, false},
    {{"unknown", "unknown", "unknown", NULL, NULL, 0, true}, NULL, NULL, false},
};

void sr_key_ref(sr_key *ret_key, const sr_key *key) {
    if (key->pkey) EVP_PKEY_up_ref(key->pkey);
    *ret_key = *key;
}

void sr_key_clear(sr_key *key) {
    EVP_PKEY_free(key->pkey);
    *key = (sr_key){0};
}

static bool fits(const struct kind *kind, EVP_PKEY *pkey, const char *group, int bits) {
    if (!kind->name) return true;
    if (!EVP_PKEY_is_a(pkey, kind->name)) return false;
    if (kind->group) return strcmp(kind->group, group) == 0;
    return kind->info.bits == 0 || kind->info.bits == bits || !EVP_PKEY_is_a(pkey, "RSA");
}

void sr_key_describe(EVP_PKEY *pkey, sr_key_info *ret_info) {
    char group[64] = "";
    size_t len = 0;
    int bits = pkey ? EVP_PKEY_get_bits(pkey) : 0;
    const struct kind *kind = kinds;
    if (pkey && EVP_PKEY_is_a(pkey, "EC"))
        EVP_PKEY_get_group_name(pkey, group, sizeof group, &len);
    while (kind->name && !(pkey && fits(kind, pkey, group, bits)))
        kind++;
    ERR_clear_error();
    *ret_info = kind->info;
    if (!kind->info.bits) ret_info->bits = bits;
}

static const struct kind *made_kind(const char *type) {
    for (const struct kind *kind = kinds; kind->name; kind++)
        if (kind->made && strcmp(kind->info.type, type) == 0) return kind;
    return NULL;
}

int sr_key_type_slow(const char *type) {
    const struct kind *kind = made_kind(type);
    return kind ? kind->info.slow : -1;
}

int sr_key_generate(sr_key *ret_key, const char *type, sr_err *err) {
    const struct kind *kind = made_kind(type);
    EVP_PKEY *pkey = NULL;
    if (!kind)
        return sr_fail(
            err, SR_USAGE, NULL,
            "key type \"%s\" is not one of p256, p384, p521, rsa2048, rsa3072, "
            "rsa4096, ed25519",
            type);
    if (kind->group)
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", kind->group);
    else if (strcmp(kind->name, "RSA") == 0)
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)kind->info.bits);
    else
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, kind->name);
    if (!pkey)
        return sr_pki_fail(err, SR_INTERNAL, "KEYGEN", "could not make a %s key",
                           kind->info.label);
    *ret_key = (sr_key){.pkey = pkey, .is_private = true};
    return 0;
}

int sr_pkey_spki(EVP_PKEY *pkey, sr_buf *buf, sr_err *err) {
    unsigned char *der = NULL;
    int len = sr_spki_der(pkey, &der);
    if (len <= 0)
        return sr_pki_fail(err, SR_USAGE, "BAD_KEY", "the public key cannot be encoded");
    int rc = sr_buf_append(buf, der, (size_t)len);
    OPENSSL_free(der);
    return rc < 0 ? sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory") : 0;
}

int sr_pkey_spki_sha256(EVP_PKEY *pkey, unsigned char ret_digest[32], sr_err *err) {
    sr_buf der = {0};
    int rc = sr_pkey_spki(pkey, &der, err);
    if (rc == 0 && !EVP_Digest(der.data, der.len, ret_digest, NULL, EVP_sha256(), NULL))
        rc = sr_pki_fail(err, SR_INTERNAL, NULL, "SHA-256 failed");
    sr_buf_free(&der);
    return rc;
}

int sr_key_spki(const sr_key *key, sr_buf *buf, sr_err *err) {
    return sr_pkey_spki(key->pkey, buf, err);
}

int sr_key_public_pem(const sr_key *key, sr_buf *buf, sr_err *err) {
    sr_buf der = {0};
    int rc = sr_pkey_spki(key->pkey, &der, err);
    if (rc == 0 && sr_pem_write(buf, "PUBLIC KEY", der.data, der.len) < 0)
        rc = sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    sr_buf_free(&der);
    return rc;
}

/* PKCS#8 in the clear; the caller wipes it. */
static unsigned char *plain_pkcs8(const sr_key *key, int *ret_len) {
    PKCS8_PRIV_KEY_INFO *info = sr_pkcs8(key->pkey);
    unsigned char *der = NULL;
    *ret_len = info ? i2d_PKCS8_PRIV_KEY_INFO(info, &der) : 0;
    PKCS8_PRIV_KEY_INFO_free(info);
    return der;
}

/* EncryptedPrivateKeyInfo (RFC 5958): PBES2 of PBKDF2-HMAC-SHA256 and AES-256-CBC. */
static unsigned char *encrypted_pkcs8(const sr_key *key, const char *passphrase,
                                      size_t passphrase_len, int *ret_len) {
    unsigned char salt[16], *der = NULL;
    X509_SIG *sealed = NULL;
    PKCS8_PRIV_KEY_INFO *info = sr_pkcs8(key->pkey);
    X509_ALGOR *pbe = RAND_bytes(salt, sizeof salt) == 1
                          ? PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), KDF_ROUNDS, salt,
                                              sizeof salt, NULL, NID_hmacWithSHA256)
                          : NULL;
    *ret_len = 0;
    if (info && pbe) sealed = PKCS8_set0_pbe(passphrase, (int)passphrase_len, info, pbe);
    if (sealed)
        *ret_len = i2d_X509_SIG(sealed, &der);
    else
        X509_ALGOR_free(pbe);
    X509_SIG_free(sealed);
    PKCS8_PRIV_KEY_INFO_free(info);
    return der;
}

int sr_key_pem(const sr_key *key, const char *passphrase, size_t passphrase_len,
               sr_buf *buf, sr_err *err) {
    int len = 0, rc = 0;
    if (!key->is_private)
        return sr_fail(err, SR_USAGE, NULL,
                       "this is a public key; ask for public = true");
    unsigned char *der = passphrase
                             ? encrypted_pkcs8(key, passphrase, passphrase_len, &len)
                             : plain_pkcs8(key, &len);
    if (len <= 0)
        rc = sr_pki_fail(err, SR_INTERNAL, NULL, "the key cannot be encoded");
    else if (sr_pem_write(buf, passphrase ? "ENCRYPTED PRIVATE KEY" : "PRIVATE KEY", der,
                          (size_t)len) < 0)
        rc = sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    OPENSSL_clear_free(der, len > 0 ? (size_t)len : 0);
    return rc;
}

/* ---------------------------------------------------------------- signatures */

/* The digest to use, NULL for keys that have their own (then `hash` must not be given).
 */
int sr_key_digest(const sr_key *key, const char *hash, const EVP_MD **ret_md,
                  sr_err *err) {
    static const struct {
        const char *name;
        const EVP_MD *(*md)(void);
    } hashes[] = {{"sha256", EVP_sha256}, {"sha384", EVP_sha384}, {"sha512", EVP_sha512}};
    sr_key_info info;
    sr_key_describe(key->pkey, &info);
    if (!hash) hash = info.hash;
    *ret_md = NULL;
    if (!info.hash && !hash) return 0;
    if (!info.hash)
        return sr_fail(err, SR_USAGE, NULL, "%s keys hash by themselves; leave hash out",
                       info.label);
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++)
        if (OPENSSL_strcasecmp(hash, hashes[i].name) == 0) {
            *ret_md = hashes[i].md();
            return 0;
        }
    return sr_fail(err, SR_USAGE, NULL,
                   "hash \"%s\" is not one of sha256, sha384, sha512", hash);
}

int sr_key_sign(const sr_key *key, const char *hash, const void *data, size_t len,
                sr_buf *buf, sr_err *err) {
    const EVP_MD *md;
    size_t size = 0;
    int rc = -1;
    if (!key->is_private) return sr_fail(err, SR_USAGE, NULL, "a public key cannot sign");
    if (sr_key_digest(key, hash, &md, err) < 0) return -1;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestSignInit(ctx, NULL, md, NULL, key->pkey) != 1 ||
        EVP_DigestSign(ctx, NULL, &size, data, len) != 1) {
        sr_pki_fail(err, SR_INTERNAL, "SIGN", "signing failed");
        goto out;
    }
    unsigned char *sig = (unsigned char *)sr_buf_reserve(buf, size);
    if (!sig) {
        sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
        goto out;
    }
    if (EVP_DigestSign(ctx, sig, &size, data, len) != 1) {
        sr_pki_fail(err, SR_INTERNAL, "SIGN", "signing failed");
        goto out;
    }
    buf->len += size;
    buf->data[buf->len] = '\0';
    rc = 0;
out:
    EVP_MD_CTX_free(ctx);
    return rc;
}

int sr_key_verify(const sr_key *key, const char *hash, const void *data, size_t len,
                  const void *sig, size_t sig_len, sr_err *err) {
    const EVP_MD *md;
    if (sr_key_digest(key, hash, &md, err) < 0) return -1;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int rc = -1;
    if (ctx && EVP_DigestVerifyInit(ctx, NULL, md, NULL, key->pkey) == 1)
        rc = EVP_DigestVerify(ctx, sig, sig_len, data, len) == 1;
    else
        sr_pki_fail(err, SR_USAGE, "VERIFY", "this key cannot verify signatures");
    ERR_clear_error();
    EVP_MD_CTX_free(ctx);
    return rc;
}
