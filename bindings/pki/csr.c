/* csr.c – certificate requests (PKCS#10, RFC 2986), built, signed and read.
 *
 * Names go into the subjectAltName and nowhere else: CAs ignore or refuse a CN (baseline
 * requirements 7.1.4.2.2), so there is none unless the script asks for it.
 */
#include "pki.h"

#include <string.h>

#include <openssl/err.h>

static int bad_csr(sr_err *err, const char *what) {
    return sr_pki_fail(err, SR_USAGE, "BAD_CSR", "%s", what);
}

int sr_csr_build(const sr_subject_spec *spec, const sr_key *key, X509_REQ **ret_csr,
                 sr_err *err) {
    X509V3_CTX ctx;
    STACK_OF(X509_EXTENSION) *list = NULL;
    int rc = -1;
    X509_REQ *csr = X509_REQ_new();
    X509_NAME *name = sr_dn_build(spec->subject, spec->subject_count, err);
    if (!csr || !name) goto out;
    X509V3_set_ctx(&ctx, NULL, NULL, csr, NULL, 0);
    if (!X509_REQ_set_version(csr, X509_REQ_VERSION_1) ||
        !X509_REQ_set_subject_name(csr, name) || !sr_req_set_pubkey(csr, key->pkey)) {
        sr_pki_fail(err, SR_INTERNAL, NULL, "cannot build the request");
        goto out;
    }
    if (sr_extensions_build(spec, &ctx, &list, err) < 0) goto out;
    if (sk_X509_EXTENSION_num(list) > 0 && !X509_REQ_add_extensions(csr, list)) {
        sr_pki_fail(err, SR_INTERNAL, NULL, "cannot add the request's extensions");
        goto out;
    }
    *ret_csr = csr;
    csr = NULL;
    rc = 0;
out:
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    X509_NAME_free(name);
    X509_REQ_free(csr);
    return rc;
}

int sr_csr_sign(X509_REQ *csr, const sr_key *key, const char *hash, sr_err *err) {
    const EVP_MD *md;
    if (!key->is_private) return sr_fail(err, SR_USAGE, NULL, "a public key cannot sign");
    if (sr_key_digest(key, hash, &md, err) < 0) return -1;
    if (X509_REQ_sign(csr, key->pkey, md) <= 0)
        return sr_pki_fail(err, SR_INTERNAL, "SIGN", "signing the request failed");
    return 0;
}

static int decode_csr(const unsigned char *der, size_t len, X509_REQ **ret_csr,
                      sr_err *err) {
    const unsigned char *p = der;
    X509_REQ *csr = d2i_X509_REQ(NULL, &p, (long)len);
    if (!csr || p != der + len) {
        X509_REQ_free(csr);
        return bad_csr(err, "the request is damaged or followed by foreign bytes");
    }
    *ret_csr = csr;
    return 0;
}

int sr_csr_read(const void *data, size_t len, X509_REQ **ret_csr, sr_err *err) {
    sr_pem pem = {.next = data, .end = (const char *)data + len};
    int found, rc = -1;
    ERR_clear_error();
    if (len > SR_PKI_MAX_INPUT)
        return sr_fail(err, SR_LIMIT, "TOO_LARGE",
                       "request of %zu bytes; at most %u are read", len,
                       SR_PKI_MAX_INPUT);
    if (len > 1 && *(const unsigned char *)data == 0x30 &&
        !memmem(data, len, "-----BEGIN ", 11))
        return decode_csr(data, len, ret_csr, err);
    while ((found = sr_pem_next(&pem, err)) > 0)
        if (strcmp(pem.label, "CERTIFICATE REQUEST") == 0 ||
            strcmp(pem.label, "NEW CERTIFICATE REQUEST") == 0) {
            rc = decode_csr((unsigned char *)pem.der.data, pem.der.len, ret_csr, err);
            break;
        }
    if (found == 0)
        rc = bad_csr(err, "no request found: expected a \"-----BEGIN CERTIFICATE "
                          "REQUEST-----\" block or DER bytes");
    sr_pem_free(&pem);
    return rc;
}

int sr_csr_verify(X509_REQ *csr, sr_err *err) {
    EVP_PKEY *pkey = sr_req_get0_pubkey(csr);
    if (!pkey) return bad_csr(err, "the request's key is damaged or of an unknown type");
    int good = X509_REQ_verify(csr, pkey);
    ERR_clear_error();
    return good == 1;
}

int sr_csr_der(X509_REQ *csr, sr_buf *buf, sr_err *err) {
    unsigned char *der = NULL;
    int len = i2d_X509_REQ(csr, &der);
    return sr_pki_put_der(buf, NULL, der, len, err);
}

int sr_csr_pem(X509_REQ *csr, sr_buf *buf, sr_err *err) {
    unsigned char *der = NULL;
    int len = i2d_X509_REQ(csr, &der);
    return sr_pki_put_der(buf, "CERTIFICATE REQUEST", der, len, err);
}

int sr_csr_info_read(X509_REQ *csr, sr_csr_info *ret_info, sr_err *err) {
    sr_csr_info info = {0};
    const X509_ALGOR *alg;
    const ASN1_OBJECT *oid;
    ERR_clear_error();
    STACK_OF(X509_EXTENSION) *list = X509_REQ_get_extensions(csr);
    GENERAL_NAMES *names = X509V3_get_d2i(list, NID_subject_alt_name, NULL, NULL);
    TLS_FEATURE *features = X509V3_get_d2i(list, NID_tlsfeature, NULL, NULL);
    sr_dn_read(X509_REQ_get_subject_name(csr), &info.arena, &info.subject);
    sr_sans_read(names, &info.arena, &info.sans);
    sr_extensions_read(list, &info.arena, &info.extensions);
    sr_key_describe(sr_req_get0_pubkey(csr), &info.key);
    sr_pki_spki_hex(X509_REQ_get_X509_PUBKEY(csr), info.spki_sha256);
    X509_REQ_get0_signature(csr, NULL, &alg);
    X509_ALGOR_get0(&oid, NULL, NULL, alg);
    info.signature_algorithm = sr_pki_object_name(oid, &info.arena);
    info.must_staple = sr_tls_feature_has_staple(features);
    TLS_FEATURE_free(features);
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    ERR_clear_error();
    if (info.arena.oom) {
        sr_arena_free(&info.arena);
        return sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    }
    *ret_info = info;
    return 0;
}

void sr_csr_info_free(sr_csr_info *info) {
    sr_arena_free(&info->arena);
    *info = (sr_csr_info){0};
}
