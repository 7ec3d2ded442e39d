/* x509_fuzz.c – whatever is read as key, certificate, request, list or bundle is refused
 * in one line or decodes to fields that hold together.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pki/pki.h"

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

/* A failure says what it is and stays on one line. */
static void must_explain(const sr_err *err) {
    MUST(err->kind != SR_NONE && err->message[0]);
    MUST(!strpbrk(err->message, "\r\n"));
}

/* Texts shown to people hold no control characters. */
static void must_be_printable(const sr_sans *sans) {
    for (size_t i = 0; i < sans->count; i++) {
        MUST(sans->items[i].type && sans->items[i].value);
        for (const char *p = sans->items[i].value; *p; p++)
            MUST((unsigned char)*p >= 0x20 && *p != 0x7f);
    }
}

static void check_cert(X509 *cert) {
    sr_err err = {0};
    sr_cert_info info;
    sr_buf pem = {0};
    if (sr_cert_info_read(cert, &info, &err) < 0) {
        must_explain(&err);
        return;
    }
    MUST(info.subject.text && info.issuer.text && info.serial && info.key.type);
    MUST(strlen(info.sha256) == 64 && strlen(info.sha1) == 40);
    must_be_printable(&info.sans);
    (void)sr_sans_cover(&info.sans, "www.example.com");
    MUST(sr_cert_pem(cert, &pem, &err) == 0);
    sr_buf_free(&pem);
    sr_cert_info_free(&info);
}

static void read_certs(const void *data, size_t size) {
    sr_err err = {0};
    STACK_OF(X509) *chain = NULL, *path = NULL, *unused = NULL;
    if (sr_chain_read(data, size, &chain, &err) < 0) {
        must_explain(&err);
        return;
    }
    int count = sk_X509_num(chain);
    MUST(count > 0);
    for (int i = 0; i < count && i < 8; i++)
        check_cert(sk_X509_value(chain, i));
    if (count <= 8) {
        MUST(sr_chain_order(chain, &path, &unused, &err) == 0);
        MUST(sk_X509_num(path) > 0 && sk_X509_num(path) + sk_X509_num(unused) <= count);
        sk_X509_pop_free(unused, X509_free);
        sk_X509_pop_free(path, X509_free);
        sr_verify_spec spec = {.cert = sk_X509_value(chain, 0),
                               .chain = chain,
                               .roots = chain,
                               .purpose = "any",
                               .name = "www.example.com",
                               .at = 1750000000};
        if (sr_chain_verify(&spec, &path, &err) == 0)
            sk_X509_pop_free(path, X509_free);
        else
            must_explain(&err);
    }
    sk_X509_pop_free(chain, X509_free);
}

static void read_csr(const void *data, size_t size) {
    sr_err err = {0};
    sr_csr_info info;
    X509_REQ *csr = NULL;
    if (sr_csr_read(data, size, &csr, &err) < 0) {
        must_explain(&err);
        return;
    }
    (void)sr_csr_verify(csr, &err);
    if (sr_csr_info_read(csr, &info, &err) == 0) {
        must_be_printable(&info.sans);
        sr_csr_info_free(&info);
    }
    X509_REQ_free(csr);
}

static void read_crl(const void *data, size_t size) {
    sr_err err = {0};
    sr_crl_info info;
    X509_CRL *crl = NULL;
    if (sr_crl_read(data, size, &crl, &err) < 0) {
        must_explain(&err);
        return;
    }
    if (sr_crl_info_read(crl, &info, &err) == 0) {
        for (size_t i = 0; i < info.revoked_count; i++)
            MUST(info.revoked[i].serial);
        sr_crl_info_free(&info);
    }
    X509_CRL_free(crl);
}

static void read_key(const void *data, size_t size) {
    sr_err err = {0};
    sr_buf out = {0};
    sr_key key = {0};
    if (sr_key_read(&key, data, size, NULL, 0, &err) < 0) {
        must_explain(&err);
        return;
    }
    (void)sr_key_jwk(&key, &out, &err);
    (void)sr_key_public_pem(&key, &out, &err);
    sr_buf_free(&out);
    sr_key_clear(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    read_certs(data, size);
    read_csr(data, size);
    read_crl(data, size);
    read_key(data, size);
    return 0;
}
