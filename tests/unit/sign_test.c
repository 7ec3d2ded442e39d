/* sign_test.c – certificates and lists built and signed. */
#include "pki_fixture.h"

static int build(sr_cert_spec spec, X509 **ret_cert, sr_err *err) {
    sr_key key = make_key("p256");
    spec.public_key = key.pkey;
    if (!spec.not_after) {
        spec.not_before = NOON;
        spec.not_after = NOON + DAY;
    }
    int rc = sr_cert_build(&spec, ret_cert, err);
    sr_key_clear(&key);
    return rc;
}

TEST(extension_given_by_hand_wins_over_the_derived_one) {
    sr_err err = {0};
    sr_cert_info info;
    X509 *cert = NULL;
    sr_extension_spec exts[] = {
        {.oid = "keyUsage", .critical = true, .value = "keyAgreement"},
        {.oid = "1.2.3.4", .value = "ASN1:UTF8String:hello"},
        {.oid = "acmeIdentifier",
         .critical = true,
         .der = "\x04\x20"
                "0123456789abcdef0123456789abcdef",
         .der_len = 34}};
    sr_san san = {NULL, "a.example"};
    CHECK(build((sr_cert_spec){.what = {.extensions = exts,
                                        .extension_count = 3,
                                        .sans = &san,
                                        .san_count = 1},
                               .path_len = -1},
                &cert, &err) == 0);
    sr_key key = make_key("p256");
    CHECK(sr_cert_sign(cert, &key, NULL, &err) == 0);
    CHECK(sr_cert_info_read(cert, &info, &err) == 0);
    CHECK_INT(info.key_usage.count, 1);
    CHECK_STR(info.key_usage.items[0], "keyAgreement");
    CHECK_STR(info.extensions.items[1].oid, "1.2.3.4");
    CHECK_STR(info.extensions.items[2].oid, "1.3.6.1.5.5.7.1.31");
    CHECK(info.extensions.items[2].critical);
    CHECK_INT(info.extensions.items[2].der_len, 34);
    sr_cert_info_free(&info);
    sr_key_clear(&key);
    X509_free(cert);
}

TEST(subject_alt_name_is_critical_without_a_subject) {
    sr_err err = {0};
    X509 *cert = NULL;
    sr_san san = {NULL, "a.example"};
    CHECK(build((sr_cert_spec){.what = {.sans = &san, .san_count = 1}, .path_len = -1},
                &cert, &err) == 0);
    int at = X509_get_ext_by_NID(cert, NID_subject_alt_name, -1);
    CHECK(at >= 0);
    CHECK_INT(X509_EXTENSION_get_critical(X509_get_ext(cert, at)), 1);
    X509_free(cert);
}

TEST(mistakes_in_a_certificate_are_refused) {
    sr_err err = {0};
    X509 *cert = NULL;
    sr_extension_spec bad_der = {.oid = "1.2.3", .der = "\x04\x05xx", .der_len = 4};
    sr_extension_spec bad_oid = {.oid = "noSuchThing", .value = "x"};
    sr_extension_spec twice[] = {{.oid = "1.2.3", .value = "ASN1:NULL"},
                                 {.oid = "1.2.3", .value = "ASN1:NULL"}};
    const char *word = "digitalSignatur";
    sr_words words = {&word, 1};
    CHECK_INT(build((sr_cert_spec){.serial = "-5"}, &cert, &err), -1);
    CHECK_INT(build((sr_cert_spec){.serial = "x"}, &cert, &err), -1);
    CHECK_INT(
        build((sr_cert_spec){.not_before = NOON, .not_after = NOON - 1}, &cert, &err),
        -1);
    CHECK_INT(build((sr_cert_spec){.not_before = NOON, .not_after = 1e12}, &cert, &err),
              -1);
    CHECK_INT(
        build((sr_cert_spec){.what = {.extensions = &bad_der, .extension_count = 1}},
              &cert, &err),
        -1);
    CHECK_STR(err.code, "BAD_EXTENSION");
    CHECK_INT(
        build((sr_cert_spec){.what = {.extensions = &bad_oid, .extension_count = 1}},
              &cert, &err),
        -1);
    CHECK_INT(build((sr_cert_spec){.what = {.extensions = twice, .extension_count = 2}},
                    &cert, &err),
              -1);
    CHECK(strstr(err.message, "twice") != NULL);
    CHECK_INT(build((sr_cert_spec){.what = {.has_key_usage = true, .key_usage = words}},
                    &cert, &err),
              -1);
    CHECK(strstr(err.message, "digitalSignature") != NULL);
}

TEST(issuer_must_be_a_ca_with_the_key) {
    sr_err err = {0};
    made ca = make_ca("Test CA", NULL), leaf = make_leaf("a.example", &ca);
    CHECK(sr_issuer_check(ca.cert, &ca.key, &err) == 0);
    CHECK_INT(sr_issuer_check(ca.cert, &leaf.key, &err), -1);
    CHECK_STR(err.code, "KEY_MISMATCH");
    CHECK_INT(sr_issuer_check(leaf.cert, &leaf.key, &err), -1);
    CHECK_STR(err.code, "NOT_A_CA");
    made_free(&leaf);
    made_free(&ca);
}

TEST(path_length_and_ca_flag_are_set) {
    sr_err err = {0};
    sr_cert_info info;
    X509 *cert = NULL;
    CHECK(build((sr_cert_spec){.is_ca = true, .path_len = 0}, &cert, &err) == 0);
    sr_key key = make_key("ed25519");
    CHECK(sr_cert_sign(cert, &key, NULL, &err) == 0);
    CHECK(sr_cert_info_read(cert, &info, &err) == 0);
    CHECK(info.is_ca);
    CHECK_INT(info.path_len, 0);
    CHECK_STR(info.key_usage.items[0], "keyCertSign");
    CHECK_STR(info.signature_algorithm, "ED25519");
    sr_cert_info_free(&info);
    sr_key_clear(&key);
    X509_free(cert);
}

TEST(revocation_list_survives_pem) {
    sr_err err = {0};
    sr_buf pem = {0};
    sr_crl_info info;
    X509_CRL *crl = NULL, *back = NULL;
    made ca = make_ca("Test CA", NULL);
    sr_revoked revoked[] = {{"0a", NOON - DAY, "keyCompromise"}, {"ff01", NOON, NULL}};
    CHECK(sr_crl_build(&(sr_crl_spec){.issuer = ca.cert,
                                      .revoked = revoked,
                                      .revoked_count = 2,
                                      .this_update = NOON,
                                      .next_update = NOON + DAY,
                                      .number = "07"},
                       &crl, &err) == 0);
    CHECK(sr_crl_sign(crl, &ca.key, NULL, &err) == 0);
    CHECK(sr_crl_pem(crl, &pem, &err) == 0);
    CHECK(sr_crl_read(pem.data, pem.len, &back, &err) == 0);
    CHECK_INT(X509_CRL_verify(back, ca.key.pkey), 1);
    CHECK(sr_crl_info_read(back, &info, &err) == 0);
    CHECK_STR(info.issuer.text, "CN=Test CA");
    CHECK_INT(info.revoked_count, 2);
    CHECK_STR(info.revoked[0].serial, "0a");
    CHECK_STR(info.revoked[0].reason, "keyCompromise");
    CHECK_INT(info.revoked[0].when, (long long)(NOON - DAY));
    CHECK(info.revoked[1].reason == NULL);
    CHECK_STR(info.number, "07");
    CHECK_INT(info.next_update, (long long)(NOON + DAY));
    sr_crl_info_free(&info);
    X509_CRL_free(crl);
    X509_CRL_free(back);
    sr_buf_free(&pem);
    made_free(&ca);
}

TEST(times_outside_the_calendar_are_refused) {
    sr_err err = {0};
    X509 *cert = NULL;
    CHECK_INT(build((sr_cert_spec){.not_before = 1e300, .not_after = 2e300}, &cert, &err),
              -1);
    CHECK_STR(err.code, "BAD_TIME");
    CHECK(sr_pki_time_new(-1e300, &err) == NULL);
    CHECK_INT(sr_pki_check_time(253402300799.0, &err), 0);
}

TEST(revocation_list_with_an_unknown_reason_is_refused) {
    sr_err err = {0};
    X509_CRL *crl = NULL;
    made ca = make_ca("Test CA", NULL);
    sr_revoked revoked = {"0a", NOON, "boredom"};
    CHECK_INT(sr_crl_build(&(sr_crl_spec){.issuer = ca.cert,
                                          .revoked = &revoked,
                                          .revoked_count = 1,
                                          .this_update = NOON,
                                          .next_update = NOON + DAY},
                           &crl, &err),
              -1);
    CHECK(strstr(err.message, "boredom") != NULL);
    made_free(&ca);
}
