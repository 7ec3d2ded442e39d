/* csr_test.c – requests built, signed, read back; names refused at once. */
#include "pki_fixture.h"

#include <stdio.h>

static X509_REQ *make_csr(const sr_subject_spec *spec, const sr_key *key) {
    X509_REQ *csr = NULL;
    sr_err err = {0};
    if (sr_csr_build(spec, key, &csr, &err) < 0 || sr_csr_sign(csr, key, NULL, &err) < 0)
        unit_fail(__FILE__, __LINE__, "%s", err.message);
    return csr;
}

TEST(request_of_every_key_type_survives_pem) {
    static const char *const types[] = {"p256", "p384", "p521", "rsa2048", "ed25519"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        sr_err err = {0};
        sr_buf pem = {0};
        sr_csr_info info;
        X509_REQ *back = NULL;
        sr_key key = make_key(types[i]);
        sr_san sans[] = {{NULL, "A.example"},   {NULL, "*.b.example"},
                         {NULL, "192.0.2.1"},   {NULL, "2001:db8::1"},
                         {NULL, "u@c.example"}, {NULL, "https://d.example/x"},
                         {"dns", "a.example."}};
        X509_REQ *csr = make_csr(
            &(sr_subject_spec){.sans = sans, .san_count = 7, .must_staple = true}, &key);
        CHECK(sr_csr_pem(csr, &pem, &err) == 0);
        CHECK(sr_csr_read(pem.data, pem.len, &back, &err) == 0);
        CHECK_INT(sr_csr_verify(back, &err), 1);
        CHECK(sr_csr_info_read(back, &info, &err) == 0);
        CHECK_STR(info.subject.text, "");
        CHECK_INT(info.sans.count, 6);
        CHECK_STR(info.sans.items[0].value, "a.example");
        CHECK_STR(info.sans.items[2].type, "ip");
        CHECK_STR(info.sans.items[3].value, "2001:db8::1");
        CHECK_STR(info.sans.items[4].type, "email");
        CHECK_STR(info.sans.items[5].type, "uri");
        CHECK_STR(info.key.type, types[i]);
        CHECK(info.must_staple);
        sr_csr_info_free(&info);
        X509_REQ_free(csr);
        X509_REQ_free(back);
        sr_buf_free(&pem);
        sr_key_clear(&key);
    }
}

TEST(names_no_ca_would_take_are_refused) {
    static const struct {
        const char *type, *name, *why;
    } rows[] = {
        {NULL, "", "empty"},
        {NULL, "a..b", "empty label"},
        {NULL, "*", "needs a domain"},
        {NULL, "a.*.b", "not its first label"},
        {NULL, "*a.b", "inside a label"},
        {NULL, "-a.b", "hyphen"},
        {NULL, "a b.c", "no host name"},
        {NULL, "m\xc3\xbcller.de", "xn--"},
        {"ip", "a.example", "not an IP"},
        {"dnss", "a.example", "not one of"},
        {NULL, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b",
         "63"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sr_err err = {0};
        sr_san san = {rows[i].type, rows[i].name};
        GENERAL_NAMES *names = sr_sans_build(&san, 1, &err);
        if (names) unit_fail(__FILE__, __LINE__, "\"%s\" was accepted", rows[i].name);
        if (!strstr(err.message, rows[i].why))
            unit_fail(__FILE__, __LINE__, "\"%s\": %s", rows[i].name, err.message);
    }
}

TEST(common_name_of_65_characters_is_refused) {
    sr_err err = {0};
    char cn[66];
    memset(cn, 'a', 65);
    cn[65] = '\0';
    sr_attribute item = {"CN", cn};
    CHECK(sr_dn_build(&item, 1, &err) == NULL);
    CHECK(strstr(err.message, "64") != NULL);
    cn[64] = '\0';
    X509_NAME *name = sr_dn_build(&item, 1, &err);
    CHECK(name != NULL);
    X509_NAME_free(name);
    item = (sr_attribute){"Country", "DE"};
    CHECK(sr_dn_build(&item, 1, &err) == NULL);
    CHECK(strstr(err.message, "Country") != NULL);
}

TEST(request_with_500_names_is_built) {
    sr_err err = {0};
    sr_csr_info info;
    static char text[500][32];
    static sr_san sans[500];
    for (int i = 0; i < 500; i++) {
        snprintf(text[i], sizeof text[i], "host-%d.example.com", i);
        sans[i].value = text[i];
    }
    sr_key key = make_key("p256");
    X509_REQ *csr = make_csr(&(sr_subject_spec){.sans = sans, .san_count = 500}, &key);
    CHECK(sr_csr_info_read(csr, &info, &err) == 0);
    CHECK_INT(info.sans.count, 500);
    sr_csr_info_free(&info);
    X509_REQ_free(csr);
    sr_key_clear(&key);
}

TEST(altered_request_does_not_verify) {
    sr_err err = {0};
    sr_buf der = {0};
    X509_REQ *back = NULL;
    sr_key key = make_key("p256");
    sr_san san = {NULL, "a.example"};
    X509_REQ *csr = make_csr(&(sr_subject_spec){.sans = &san, .san_count = 1}, &key);
    CHECK(sr_csr_der(csr, &der, &err) == 0);
    char *at = memmem(der.data, der.len, "a.example", 9);
    CHECK(at != NULL);
    *at = 'b';
    CHECK(sr_csr_read(der.data, der.len, &back, &err) == 0);
    CHECK_INT(sr_csr_verify(back, &err), 0);
    X509_REQ_free(back);
    X509_REQ_free(csr);
    sr_buf_free(&der);
    sr_key_clear(&key);
}

TEST(text_that_is_no_request_is_refused) {
    sr_err err = {0};
    X509_REQ *csr = NULL;
    CHECK_INT(sr_csr_read("hello", 5, &csr, &err), -1);
    CHECK_STR(err.code, "BAD_CSR");
    CHECK_INT(sr_csr_read("0\x03\x02\x01\x05", 5, &csr, &err), -1);
    CHECK_STR(err.code, "BAD_CSR");
}
