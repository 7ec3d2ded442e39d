/* key_read.c – keys read from PEM and DER in every form the field has left behind.
 *
 * PKCS#8 (plain and encrypted), PKCS#1, SEC1, old "Proc-Type" encryption and public keys.
 * A missing passphrase, a wrong one and a damaged file are three different errors: the
 * first two are told apart by whether the format asked for one.
 *
 * An encrypted key names its own work factor, so a hostile file could keep a thread busy
 * for hours; more than MAX_ROUNDS is refused before any work is done.
 */
#include "pki.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>

#define MAX_ROUNDS 10000000L

struct passphrase {
    const char *text; /* NULL: none given */
    size_t len;
};

static int bad(sr_err *err, const char *what) {
    return sr_pki_fail(err, SR_USAGE, "BAD_KEY", "%s", what);
}

static int need_passphrase(sr_err *err) {
    ERR_clear_error();
    return sr_fail(err, SR_AUTH, "PASSPHRASE_REQUIRED",
                   "the key is encrypted; give its passphrase = secret \"…\"");
}

static int wrong_passphrase(sr_err *err) {
    ERR_clear_error();
    return sr_fail(err, SR_AUTH, "WRONG_PASSPHRASE",
                   "the passphrase does not open this key");
}

/* The work factor an AlgorithmIdentifier of PBES1 or PBES2 asks for; 0 when unknown. */
static long rounds_of(const X509_ALGOR *alg) {
    const ASN1_OBJECT *oid;
    const void *value;
    int type;
    long rounds = 0;
    X509_ALGOR_get0(&oid, &type, &value, alg);
    if (type != V_ASN1_SEQUENCE) return 0;
    if (OBJ_obj2nid(oid) != NID_pbes2) {
        PBEPARAM *pbe =
            ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBEPARAM), alg->parameter);
        if (pbe) rounds = ASN1_INTEGER_get(pbe->iter);
        PBEPARAM_free(pbe);
        return rounds;
    }
    PBE2PARAM *pbe2 =
        ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM), alg->parameter);
    if (pbe2 && OBJ_obj2nid(pbe2->keyfunc->algorithm) == NID_id_pbkdf2) {
        PBKDF2PARAM *kdf = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBKDF2PARAM),
                                                     pbe2->keyfunc->parameter);
        if (kdf) rounds = ASN1_INTEGER_get(kdf->iter);
        PBKDF2PARAM_free(kdf);
    }
    PBE2PARAM_free(pbe2);
    return rounds;
}

int sr_pki_check_rounds(const X509_ALGOR *alg, sr_err *err) {
    long rounds = rounds_of(alg);
    ERR_clear_error();
    if (rounds >= 0 && rounds <= MAX_ROUNDS) return 0;
    return sr_fail(err, SR_LIMIT, "TOO_MANY_ROUNDS",
                   "the key derivation asks for more than %ld rounds; refused",
                   MAX_ROUNDS);
}

static int open_sealed(sr_key *ret_key, const X509_SIG *sealed,
                       const struct passphrase *pass, sr_err *err) {
    const X509_ALGOR *alg;
    X509_SIG_get0(sealed, &alg, NULL);
    if (!pass->text) return need_passphrase(err);
    if (sr_pki_check_rounds(alg, err) < 0) return -1;
    PKCS8_PRIV_KEY_INFO *info = PKCS8_decrypt(sealed, pass->text, (int)pass->len);
    if (!info) {
        int reason = ERR_GET_REASON(ERR_peek_error());
        if (reason == EVP_R_UNSUPPORTED_CIPHER || reason == ERR_R_UNSUPPORTED)
            return bad(err, "the key is encrypted with a cipher this OpenSSL has not");
        return wrong_passphrase(err);
    }
    EVP_PKEY *pkey = EVP_PKCS82PKEY(info);
    PKCS8_PRIV_KEY_INFO_free(info);
    if (!pkey) return bad(err, "the decrypted key is damaged or of an unknown type");
    *ret_key = (sr_key){pkey, true};
    return 0;
}

static int read_sealed(sr_key *ret_key, const unsigned char *der, size_t len,
                       const struct passphrase *pass, sr_err *err) {
    const unsigned char *p = der;
    X509_SIG *sealed = d2i_X509_SIG(NULL, &p, (long)len);
    int rc = !sealed || p != der + len ? bad(err, "the encrypted key is damaged")
                                       : open_sealed(ret_key, sealed, pass, err);
    X509_SIG_free(sealed);
    return rc;
}

static int read_public(sr_key *ret_key, const unsigned char *der, size_t len,
                       sr_err *err) {
    const unsigned char *p = der;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &p, (long)len);
    if (!pkey || p != der + len) {
        EVP_PKEY_free(pkey);
        return bad(err, "the public key is damaged or of an unknown type");
    }
    *ret_key = (sr_key){pkey, false};
    return 0;
}

static int read_plain(sr_key *ret_key, const unsigned char *der, size_t len,
                      sr_err *err) {
    const unsigned char *p = der;
    EVP_PKEY *pkey = d2i_AutoPrivateKey(NULL, &p, (long)len);
    if (!pkey || p != der + len) {
        EVP_PKEY_free(pkey);
        return bad(err, "the private key is damaged or of an unknown type");
    }
    *ret_key = (sr_key){pkey, true};
    return 0;
}

/* ---------------------------------------------------------------- PEM */

static int give_passphrase(char *buf, int size, int writing, void *arg) {
    struct passphrase *pass = arg;
    (void)writing;
    if (!pass->text || pass->len > (size_t)size) return -1;
    memcpy(buf, pass->text, pass->len);
    return (int)pass->len;
}

/* "Proc-Type: 4,ENCRYPTED": one round of MD5, but still met. */
static int read_old_style(sr_key *ret_key, const sr_pem *pem, struct passphrase *pass,
                          sr_err *err) {
    if (!pass->text) return need_passphrase(err);
    BIO *bio = BIO_new_mem_buf(pem->block, (int)pem->block_len);
    EVP_PKEY *pkey =
        bio ? PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, pass) : NULL;
    BIO_free(bio);
    if (!pkey) return wrong_passphrase(err);
    *ret_key = (sr_key){pkey, true};
    return 0;
}

static int read_block(sr_key *ret_key, const sr_pem *pem, struct passphrase *pass,
                      sr_err *err) {
    const unsigned char *der = (const unsigned char *)pem->der.data;
    if (strcmp(pem->label, "OPENSSH PRIVATE KEY") == 0)
        return bad(err,
                   "this is an OpenSSH key; convert it: ssh-keygen -p -m PKCS8 -f FILE");
    if (pem->headers) return read_old_style(ret_key, pem, pass, err);
    if (strcmp(pem->label, "ENCRYPTED PRIVATE KEY") == 0)
        return read_sealed(ret_key, der, pem->der.len, pass, err);
    if (strcmp(pem->label, "PUBLIC KEY") == 0)
        return read_public(ret_key, der, pem->der.len, err);
    return read_plain(ret_key, der, pem->der.len, err);
}

static bool is_key_label(const char *label) {
    static const char *const labels[] = {"PRIVATE KEY",     "ENCRYPTED PRIVATE KEY",
                                         "RSA PRIVATE KEY", "EC PRIVATE KEY",
                                         "PUBLIC KEY",      "OPENSSH PRIVATE KEY"};
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        if (strcmp(label, labels[i]) == 0) return true;
    return false;
}

static int read_pem(sr_key *ret_key, sr_pem *pem, struct passphrase *pass, sr_err *err) {
    int found;
    while ((found = sr_pem_next(pem, err)) > 0)
        if (is_key_label(pem->label)) return read_block(ret_key, pem, pass, err);
    if (found < 0) return -1;
    return sr_fail(
        err, SR_USAGE, "NO_KEY",
        "no key found: expected a \"-----BEGIN PRIVATE KEY-----\" block or DER "
        "bytes");
}

/* DER says what it is only by its shape: try each, the sealed one first, as its error
 * matters. */
static int read_der(sr_key *ret_key, const unsigned char *der, size_t len,
                    const struct passphrase *pass, sr_err *err) {
    sr_err ignored = {0};
    const unsigned char *p = der;
    X509_SIG *sealed = d2i_X509_SIG(NULL, &p, (long)len);
    bool is_sealed = sealed && p == der + len;
    X509_SIG_free(sealed);
    ERR_clear_error();
    if (is_sealed) return read_sealed(ret_key, der, len, pass, err);
    if (read_public(ret_key, der, len, &ignored) == 0) return 0;
    return read_plain(ret_key, der, len, err);
}

static bool is_der(const void *data, size_t len) {
    return len > 1 && *(const unsigned char *)data == 0x30 &&
           !memmem(data, len, "-----BEGIN ", 11);
}

int sr_key_read(sr_key *ret_key, const void *data, size_t len, const char *passphrase,
                size_t passphrase_len, sr_err *err) {
    struct passphrase pass = {passphrase, passphrase_len};
    if (len > SR_PKI_MAX_INPUT)
        return sr_fail(err, SR_LIMIT, "TOO_LARGE",
                       "key of %zu bytes; at most %u are read", len, SR_PKI_MAX_INPUT);
    ERR_clear_error();
    if (is_der(data, len)) return read_der(ret_key, data, len, &pass, err);
    sr_pem pem = {.next = data, .end = (const char *)data + len};
    int rc = read_pem(ret_key, &pem, &pass, err);
    sr_pem_free(&pem);
    ERR_clear_error();
    return rc;
}

bool sr_key_is_encrypted(const void *data, size_t len) {
    sr_err ignored = {0};
    sr_key key = {0};
    int rc = sr_key_read(&key, data, len, NULL, 0, &ignored);
    sr_key_clear(&key);
    return rc < 0 && strcmp(ignored.code, "PASSPHRASE_REQUIRED") == 0;
}
