/* sign.c – certificates built and signed: self-signed, by a CA of ours, or as a CA.
 *
 * Defaults are those of a careful CA (RFC 5280): random serial, critical basic
 * constraints and key usage, SKI as SHA-1 of the key, AKI from the issuer. Anything else
 * a script can give as an extension of its own, which then wins.
 */
#include "pki.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/rand.h>

#define MAX_SERIAL 20 /* octets, RFC 5280 4.1.2.2 */

static int no_memory(sr_err *err) {
    return sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
}

ASN1_INTEGER *sr_pki_serial(const char *hex, sr_err *err) {
    BIGNUM *bn = NULL;
    ASN1_INTEGER *serial = NULL;
    size_t len = strspn(hex, "0123456789abcdefABCDEF");
    if (len == 0 || hex[len] || len > (size_t)MAX_SERIAL * 2)
        sr_fail(err, SR_USAGE, NULL,
                "serial \"%.60s\": expected 1 to %d hexadecimal digits, not negative",
                hex, MAX_SERIAL * 2);
    else if (!BN_hex2bn(&bn, hex) || !(serial = BN_to_ASN1_INTEGER(bn, NULL)))
        no_memory(err);
    BN_free(bn);
    return serial;
}

/* 127 random bits, never zero. */
static ASN1_INTEGER *random_serial(sr_err *err) {
    unsigned char bytes[16];
    ASN1_INTEGER *serial = NULL;
    BIGNUM *bn = NULL;
    if (RAND_bytes(bytes, sizeof bytes) == 1) {
        bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40);
        bn = BN_bin2bn(bytes, sizeof bytes, NULL);
    }
    if (bn) serial = BN_to_ASN1_INTEGER(bn, NULL);
    if (!serial) sr_pki_fail(err, SR_INTERNAL, NULL, "no random serial number");
    BN_free(bn);
    return serial;
}

int sr_issuer_check(X509 *issuer, const sr_key *key, sr_err *err) {
    char name[200];
    if (!key->is_private) return sr_fail(err, SR_USAGE, NULL, "a public key cannot sign");
    if (!issuer) return 0;
    sr_dn_text(X509_get_subject_name(issuer), name, sizeof name);
    if (X509_check_ca(issuer) == 0)
        return sr_fail(err, SR_USAGE, "NOT_A_CA", "the issuer \"%s\" is not a CA", name);
    if (EVP_PKEY_eq(X509_get0_pubkey(issuer), key->pkey) != 1) {
        ERR_clear_error();
        return sr_fail(err, SR_USAGE, "KEY_MISMATCH",
                       "issuer_key is not the key of the issuer \"%s\"", name);
    }
    return 0;
}

static int set_times(X509 *cert, const sr_cert_spec *spec, sr_err *err) {
    ASN1_TIME *from = sr_pki_time_new(spec->not_before, err);
    ASN1_TIME *to = from ? sr_pki_time_new(spec->not_after, err) : NULL;
    int rc = -1;
    if (from && to)
        rc = X509_set1_notBefore(cert, from) && X509_set1_notAfter(cert, to)
                 ? 0
                 : no_memory(err);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    if (rc == 0 && !(spec->not_after > spec->not_before))
        rc = sr_fail(err, SR_USAGE, "BAD_TIME", "not_after is not later than not_before");
    return rc;
}

static int set_fields(const sr_cert_spec *spec, X509 *cert, sr_err *err) {
    const sr_subject_spec *what = &spec->what;
    int rc = -1;
    ASN1_INTEGER *serial =
        spec->serial ? sr_pki_serial(spec->serial, err) : random_serial(err);
    X509_NAME *name = sr_dn_build(what->subject, what->subject_count, err);
    if (!serial || !name) goto out;
    const X509_NAME *issuer = spec->issuer ? X509_get_subject_name(spec->issuer) : name;
    if (set_times(cert, spec, err) < 0) goto out;
    if (!X509_set_version(cert, X509_VERSION_3) || !X509_set_serialNumber(cert, serial) ||
        !X509_set_subject_name(cert, name) || !X509_set_issuer_name(cert, issuer) ||
        !X509_set_pubkey(cert, spec->public_key)) {
        sr_pki_fail(err, SR_INTERNAL, NULL, "cannot build the certificate");
        goto out;
    }
    rc = 0;
out:
    X509_NAME_free(name);
    ASN1_INTEGER_free(serial);
    return rc;
}

/* ---------------------------------------------------------------- extensions */

/* What a careful CA would put where the script is silent. */
static void default_usages(const sr_cert_spec *spec, sr_subject_spec *what) {
    static const char *ca[] = {"keyCertSign", "cRLSign"};
    static const char *rsa[] = {"digitalSignature", "keyEncipherment"};
    static const char *server[] = {"serverAuth"};
    bool is_rsa = EVP_PKEY_is_a(spec->public_key, "RSA");
    if (!what->has_key_usage)
        what->key_usage =
            spec->is_ca ? (sr_words){ca, 2} : (sr_words){rsa, is_rsa ? 2 : 1};
    if (!what->has_ext_key_usage && !spec->is_ca && what->san_count)
        what->ext_key_usage = (sr_words){server, 1};
    what->has_key_usage = what->has_ext_key_usage = true;
}

static int add_basic_constraints(const sr_cert_spec *spec, X509 *cert, sr_err *err) {
    BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();
    bool good = bc != NULL;
    if (good && spec->is_ca) {
        bc->ca = 0xff;
        if (spec->path_len >= 0)
            good = (bc->pathlen = ASN1_INTEGER_new()) &&
                   ASN1_INTEGER_set(bc->pathlen, spec->path_len);
    }
    good = good && X509_add1_ext_i2d(cert, NID_basic_constraints, bc, 1,
                                     X509V3_ADD_KEEP_EXISTING) == 1;
    BASIC_CONSTRAINTS_free(bc);
    return good ? 0 : no_memory(err);
}

static ASN1_OCTET_STRING *key_id(X509 *cert) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    if (id && X509_pubkey_digest(cert, EVP_sha1(), digest, &len) &&
        ASN1_OCTET_STRING_set(id, digest, (int)len))
        return id;
    ASN1_OCTET_STRING_free(id);
    return NULL;
}

/* The issuer's key id: as its certificate states it, else computed. */
static ASN1_OCTET_STRING *issuer_id(const sr_cert_spec *spec, X509 *cert) {
    X509 *issuer = spec->issuer ? spec->issuer : cert;
    /* Decoded afresh: asking for the cached one would freeze the unfinished certificate.
     */
    ASN1_OCTET_STRING *id =
        X509_get_ext_d2i(issuer, NID_subject_key_identifier, NULL, NULL);
    return id ? id : key_id(issuer);
}

static int add_key_ids(const sr_cert_spec *spec, X509 *cert, sr_err *err) {
    int rc = -1;
    ASN1_OCTET_STRING *own = key_id(cert);
    AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    if (own && aki &&
        X509_add1_ext_i2d(cert, NID_subject_key_identifier, own, 0,
                          X509V3_ADD_KEEP_EXISTING) == 1 &&
        (aki->keyid = issuer_id(spec, cert)) &&
        X509_add1_ext_i2d(cert, NID_authority_key_identifier, aki, 0,
                          X509V3_ADD_KEEP_EXISTING) == 1)
        rc = 0;
    ASN1_OCTET_STRING_free(own);
    AUTHORITY_KEYID_free(aki);
    return rc < 0 ? sr_pki_fail(err, SR_INTERNAL, NULL, "cannot add the key ids") : 0;
}

static int set_extensions(const sr_cert_spec *spec, X509 *cert, sr_err *err) {
    X509V3_CTX ctx;
    sr_subject_spec what = spec->what;
    STACK_OF(X509_EXTENSION) *list = NULL;
    int rc = 0;
    default_usages(spec, &what);
    X509V3_set_ctx(&ctx, spec->issuer ? spec->issuer : cert, cert, NULL, NULL, 0);
    if (sr_extensions_build(&what, &ctx, &list, err) < 0) return -1;
    for (int i = 0; rc == 0 && i < sk_X509_EXTENSION_num(list); i++)
        if (!X509_add_ext(cert, sk_X509_EXTENSION_value(list, i), -1))
            rc = no_memory(err);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    if (rc == 0) rc = add_basic_constraints(spec, cert, err);
    if (rc == 0) rc = add_key_ids(spec, cert, err);
    return rc;
}

int sr_cert_build(const sr_cert_spec *spec, X509 **ret_cert, sr_err *err) {
    X509 *cert = X509_new();
    ERR_clear_error();
    if (!cert) return no_memory(err);
    if (set_fields(spec, cert, err) < 0 || set_extensions(spec, cert, err) < 0) {
        X509_free(cert);
        return -1;
    }
    *ret_cert = cert;
    return 0;
}

int sr_cert_sign(X509 *cert, const sr_key *key, const char *hash, sr_err *err) {
    const EVP_MD *md;
    if (!key->is_private) return sr_fail(err, SR_USAGE, NULL, "a public key cannot sign");
    if (sr_key_digest(key, hash, &md, err) < 0) return -1;
    if (X509_sign(cert, key->pkey, md) <= 0)
        return sr_pki_fail(err, SR_INTERNAL, "SIGN", "signing the certificate failed");
    return 0;
}
