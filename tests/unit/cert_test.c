/* cert_test.c – certificates read, field by field, and names matched. */
#include "pki_fixture.h"

static sr_cert_info info_of(X509 *cert) {
    sr_cert_info info = {0};
    sr_err err = {0};
    if (sr_cert_info_read(cert, &info, &err) < 0)
        unit_fail(__FILE__, __LINE__, "%s", err.message);
    return info;
}

static bool covers(const char *type, const char *pattern, const char *name) {
    sr_san san = {type, pattern};
    return sr_sans_cover(&(sr_sans){&san, 1}, name);
}

TEST(wildcard_covers_exactly_one_label) {
    CHECK(covers("dns", "*.example.com", "a.example.com"));
    CHECK(covers("dns", "*.example.com", "A.EXAMPLE.com."));
    CHECK(covers("dns", "*.example.com", "*.example.com"));
    CHECK(!covers("dns", "*.example.com", "example.com"));
    CHECK(!covers("dns", "*.example.com", ".example.com"));
    CHECK(!covers("dns", "*.example.com", "a.b.example.com"));
    CHECK(!covers("dns", "*.example.com", "aexample.com"));
    CHECK(!covers("dns", "a*.example.com", "ab.example.com"));
    CHECK(!covers("dns", "*.*.com", "a.b.com"));
    CHECK(!covers("dns", "*", "com"));
    CHECK(!covers("dns", "a.example.com", "*.example.com"));
}

TEST(addresses_are_covered_by_value_and_only_as_addresses) {
    CHECK(covers("ip", "192.0.2.1", "192.0.2.1"));
    CHECK(!covers("dns", "192.0.2.1", "192.0.2.1"));
    CHECK(covers("ip", "2001:db8::1", "2001:DB8:0:0::1"));
    CHECK(!covers("ip", "2001:db8::1", "2001:db8::2"));
    CHECK(covers("email", "a@example.com", "A@example.com"));
    CHECK(!covers("dns", "a@example.com", "a@example.com"));
}

TEST(certificate_tells_its_fields) {
    made ca = make_ca("Test CA", NULL), leaf = make_leaf("www.example.com", &ca);
    sr_cert_info info = info_of(leaf.cert);
    CHECK_STR(info.subject.text, "CN=leaf");
    CHECK_STR(info.issuer.text, "CN=Test CA");
    CHECK_STR(info.issuer.items[0].type, "CN");
    CHECK_INT(info.not_before, (long long)(NOON - DAY));
    CHECK_INT(info.not_after, (long long)(NOON + 89 * DAY));
    CHECK_INT(info.sans.count, 1);
    CHECK_STR(info.sans.items[0].type, "dns");
    CHECK_STR(info.key.type, "p256");
    CHECK_STR(info.signature_algorithm, "ecdsa-with-SHA256");
    CHECK_STR(info.key_usage.items[0], "digitalSignature");
    CHECK_STR(info.ext_key_usage.items[0], "serverAuth");
    CHECK_INT(strlen(info.serial), 32);
    CHECK_INT(strlen(info.sha256), 64);
    CHECK_INT(strlen(info.sha1), 40);
    CHECK(!info.is_ca && !info.self_signed && !info.must_staple);
    CHECK_INT(info.broken.count, 0);
    sr_cert_info issuer = info_of(ca.cert);
    CHECK(issuer.is_ca && issuer.self_signed);
    CHECK_STR(info.aki, issuer.ski);
    sr_cert_info_free(&issuer);
    sr_cert_info_free(&info);
    made_free(&leaf);
    made_free(&ca);
}

/* RFC 9773, 4.1: AKI 69:88:5b:…, serial 87:65:43:21 (its INTEGER has a leading zero). */
TEST(ari_id_of_rfc_9773) {
    static const char aki[] =
        "keyid:69:88:5B:6B:87:46:40:41:E1:B3:7B:84:7B:A0:AE:2C:DE:01:"
        "C8:D4";
    (void)aki;
    static const unsigned char der[] = {0x30, 0x16, 0x80, 0x14, 0x69, 0x88, 0x5b, 0x6b,
                                        0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84,
                                        0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4};
    sr_extension_spec ext = {
        .oid = "authorityKeyIdentifier", .der = (const char *)der, .der_len = sizeof der};
    made m =
        make_cert_of((sr_cert_spec){.what = {.extensions = &ext, .extension_count = 1},
                                    .serial = "87654321",
                                    .not_before = NOON,
                                    .not_after = NOON + DAY,
                                    .path_len = -1},
                     NULL);
    sr_cert_info info = info_of(m.cert);
    CHECK_STR(info.ari_id, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    CHECK_STR(info.serial, "87654321");
    sr_cert_info_free(&info);
    made_free(&m);
}

/* Public CAs put these into every certificate. */
TEST(urls_policies_and_staple_are_found) {
    sr_extension_spec exts[] = {
        {.oid = "authorityInfoAccess",
         .value = "OCSP;URI:http://o.example/,caIssuers;URI:http://i.example/ca.crt"},
        {.oid = "crlDistributionPoints", .value = "URI:http://c.example/1.crl"},
        {.oid = "certificatePolicies", .value = "2.23.140.1.2.2"}};
    made m = make_cert_of(
        (sr_cert_spec){
            .what = {.extensions = exts, .extension_count = 3, .must_staple = true},
            .not_before = NOON,
            .not_after = NOON + DAY,
            .path_len = -1},
        NULL);
    sr_cert_info info = info_of(m.cert);
    CHECK_STR(info.ocsp_urls.items[0], "http://o.example/");
    CHECK_STR(info.ca_issuers.items[0], "http://i.example/ca.crt");
    CHECK_STR(info.crl_urls.items[0], "http://c.example/1.crl");
    CHECK_STR(info.policies.items[0], "2.23.140.1.2.2");
    CHECK_STR(info.validation, "ov");
    CHECK(info.must_staple);
    sr_cert_info_free(&info);
    made_free(&m);
}

TEST(nul_in_a_name_is_shown_and_matches_nothing) {
    /* SEQUENCE { [2] "good.example\0.evil.example" } */
    static const char der[] = "\x30\x1c\x82\x1agood.example\0.evil.example";
    sr_extension_spec ext = {
        .oid = "subjectAltName", .der = der, .der_len = sizeof der - 1};

    made m =
        make_cert_of((sr_cert_spec){.what = {.extensions = &ext, .extension_count = 1},
                                    .not_before = NOON,
                                    .not_after = NOON + DAY,
                                    .path_len = -1},
                     NULL);
    sr_cert_info info = info_of(m.cert);
    CHECK_INT(info.sans.count, 1);
    CHECK_STR(info.sans.items[0].value, "good.example\\x00.evil.example");
    CHECK(!sr_sans_cover(&info.sans, "good.example"));
    sr_cert_info_free(&info);
    made_free(&m);
}

TEST(address_of_a_wrong_length_matches_nothing) {
    /* SEQUENCE { [7] seven bytes that read "1.1.1.1" } */
    static const char der[] = "\x30\x09\x87\x07"
                              "1.1.1.1";
    sr_extension_spec ext = {
        .oid = "subjectAltName", .der = der, .der_len = sizeof der - 1};

    made m =
        make_cert_of((sr_cert_spec){.what = {.extensions = &ext, .extension_count = 1},
                                    .not_before = NOON,
                                    .not_after = NOON + DAY,
                                    .path_len = -1},
                     NULL);
    sr_cert_info info = info_of(m.cert);
    CHECK_INT(info.sans.count, 1);
    CHECK_STR(info.sans.items[0].type, "ip");
    CHECK_STR(info.sans.items[0].value, "\\x31\\x2e\\x31\\x2e\\x31\\x2e\\x31");
    CHECK(!sr_sans_cover(&info.sans, "1.1.1.1"));
    sr_cert_info_free(&info);
    made_free(&m);
}

TEST(broken_extension_is_named_and_counts_as_absent) {
    sr_extension_spec ext = {
        .oid = "subjectAltName", .der = "\x02\x01\x05", .der_len = 3};
    made m =
        make_cert_of((sr_cert_spec){.what = {.extensions = &ext, .extension_count = 1},
                                    .not_before = NOON,
                                    .not_after = NOON + DAY,
                                    .path_len = -1},
                     NULL);
    sr_cert_info info = info_of(m.cert);
    CHECK_INT(info.sans.count, 0);
    CHECK_INT(info.broken.count, 1);
    CHECK_STR(info.broken.items[0], "subjectAltName");
    sr_cert_info_free(&info);
    made_free(&m);
}

TEST(negative_serial_keeps_its_sign) {
    made m = make_leaf("a.example", NULL);
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    sr_err err = {0};
    ASN1_INTEGER_set(serial, -5);
    X509_set_serialNumber(m.cert, serial);
    ASN1_INTEGER_free(serial);
    CHECK(sr_cert_sign(m.cert, &m.key, NULL, &err) == 0);
    sr_cert_info info = info_of(m.cert);
    CHECK_STR(info.serial, "-05");
    sr_cert_info_free(&info);
    made_free(&m);
}

TEST(chain_file_with_windows_lines_and_comments_is_read) {
    sr_err err = {0};
    sr_buf pem = {0}, text = {0};
    made ca = make_ca("Test CA", NULL), leaf = make_leaf("a.example", &ca);
    STACK_OF(X509) *chain = NULL;
    CHECK(sr_cert_pem(leaf.cert, &pem, &err) == 0);
    sr_buf_puts(&pem, "some words\n");
    CHECK(sr_key_pem(&leaf.key, NULL, 0, &pem, &err) == 0);
    CHECK(sr_cert_pem(ca.cert, &pem, &err) == 0);
    for (size_t i = 0; i < pem.len; i++) {
        if (pem.data[i] == '\n') sr_buf_puts(&text, "\r");
        sr_buf_append(&text, &pem.data[i], 1);
    }
    CHECK(sr_chain_read(text.data, text.len, &chain, &err) == 0);
    CHECK_INT(sk_X509_num(chain), 2);
    CHECK_INT(X509_cmp(sk_X509_value(chain, 1), ca.cert), 0);
    sk_X509_pop_free(chain, X509_free);
    sr_buf_free(&pem);
    sr_buf_free(&text);
    made_free(&leaf);
    made_free(&ca);
}

TEST(pkcs7_gives_its_certificates) {
    sr_err err = {0};
    unsigned char *der = NULL;
    made ca = make_ca("Test CA", NULL);
    STACK_OF(X509) *chain = NULL;
    PKCS7 *p7 = PKCS7_new();
    PKCS7_set_type(p7, NID_pkcs7_signed);
    PKCS7_content_new(p7, NID_pkcs7_data);
    PKCS7_add_certificate(p7, ca.cert);
    int len = i2d_PKCS7(p7, &der);
    PKCS7_free(p7);
    CHECK(sr_chain_read(der, (size_t)len, &chain, &err) == 0);
    CHECK_INT(sk_X509_num(chain), 1);
    CHECK_INT(err.kind, SR_NONE);
    sk_X509_pop_free(chain, X509_free);
    OPENSSL_free(der);
    made_free(&ca);
}

TEST(hostile_certificate_files_are_refused) {
    sr_err err = {0};
    X509 *cert = NULL;
    made m = make_leaf("a.example", NULL);
    sr_buf der = {0}, big = {0};
    CHECK_INT(sr_cert_read("", 0, &cert, &err), -1);
    CHECK_STR(err.code, "BAD_CERT");
    CHECK(sr_cert_der(m.cert, &der, &err) == 0);
    sr_buf_append(&der, "x", 1);
    CHECK_INT(sr_cert_read(der.data, der.len, &cert, &err), -1);
    CHECK_STR(err.code, "BAD_CERT");
    CHECK_INT(sr_cert_read(der.data, der.len / 2, &cert, &err), -1);
    CHECK(sr_buf_reserve(&big, 10 << 20) != NULL);
    memset(big.data, 'A', 10 << 20);
    CHECK_INT(sr_cert_read(big.data, 10 << 20, &cert, &err), -1);
    CHECK_INT(err.kind, SR_LIMIT);
    sr_buf_free(&der);
    sr_buf_free(&big);
    made_free(&m);
}
