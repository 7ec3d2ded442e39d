/* made_certs.c – certificates made on the spot, for tests. */
#include "made_certs.h"

#include <string.h>

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "unit.h"

static void extend(X509 *cert, X509 *issuer, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    CHECK(ext != NULL);
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
}

/* A certificate for san ("DNS:a, IP:b"; NULL: a CA), valid from a day before NOW for
 * days; issuer NULL: self-signed. */
entity make(const char *cn, const char *san, const entity *issuer, double days) {
    static long serial = 1;
    entity e = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *name = X509_get_subject_name(e.cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1,
                               -1, 0);
    X509_set_version(e.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(e.cert), serial++);
    ASN1_TIME_set(X509_getm_notBefore(e.cert), (time_t)(NOW - DAY));
    ASN1_TIME_set(X509_getm_notAfter(e.cert), (time_t)(NOW + days * DAY));
    X509_set_pubkey(e.cert, e.key);
    X509_set_issuer_name(e.cert, issuer ? X509_get_subject_name(issuer->cert) : name);
    if (san)
        extend(e.cert, issuer ? issuer->cert : e.cert, NID_subject_alt_name, san);
    else
        extend(e.cert, e.cert, NID_basic_constraints, "critical,CA:TRUE");
    CHECK(X509_sign(e.cert, issuer ? issuer->key : e.key, EVP_sha256()) > 0);
    return e;
}

void entity_free(entity *e) {
    X509_free(e->cert);
    EVP_PKEY_free(e->key);
}

char *pem_of(const entity *e, bool key, size_t *ret_len) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *data, *text;
    if (key)
        PEM_write_bio_PrivateKey(bio, e->key, NULL, NULL, 0, NULL, NULL);
    else
        PEM_write_bio_X509(bio, e->cert);
    *ret_len = (size_t)BIO_get_mem_data(bio, &data);
    text = strndup(data, *ret_len);
    BIO_free(bio);
    return text;
}
