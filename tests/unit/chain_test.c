/* chain_test.c – chains ordered, built and verified at a time of our own. */
#include "pki_fixture.h"

static struct world { made root, middle, leaf; } world_new(void) {
    struct world w;
    w.root = make_ca("Test Root", NULL);
    w.middle = make_ca("Test Intermediate", &w.root);
    w.leaf = make_leaf("www.example.com", &w.middle);
    return w;
}

static void world_free(struct world *w) {
    made_free(&w->leaf);
    made_free(&w->middle);
    made_free(&w->root);
}

static STACK_OF(X509) * list_of(X509 *a, X509 *b, X509 *c, X509 *d) {
    X509 *all[] = {a, b, c, d};
    STACK_OF(X509) *list = sk_X509_new_null();
    for (int i = 0; i < 4; i++)
        if (all[i]) sk_X509_push(list, all[i]);
    return list;
}

static int verify(const struct world *w, bool with_middle, const char *name, double at,
                  STACK_OF(X509_CRL) * crls, sr_err *err) {
    STACK_OF(X509) *chain =
        list_of(with_middle ? w->middle.cert : NULL, NULL, NULL, NULL);
    STACK_OF(X509) *roots = list_of(w->root.cert, NULL, NULL, NULL), *path = NULL;
    int rc = sr_chain_verify(&(sr_verify_spec){.cert = w->leaf.cert,
                                               .chain = chain,
                                               .roots = roots,
                                               .crls = crls,
                                               .name = name,
                                               .purpose = "server",
                                               .at = at},
                             &path, err);
    if (rc == 0) CHECK_INT(sk_X509_num(path), 3);
    sk_X509_pop_free(path, X509_free);
    sk_X509_free(chain);
    sk_X509_free(roots);
    return rc;
}

TEST(chain_in_disorder_with_duplicates_is_ordered) {
    sr_err err = {0};
    struct world w = world_new();
    STACK_OF(X509) * path, *unused;
    STACK_OF(X509) *mixed = list_of(w.root.cert, w.leaf.cert, w.middle.cert, w.leaf.cert);
    CHECK(sr_chain_order(mixed, &path, &unused, &err) == 0);
    CHECK_INT(sk_X509_num(path), 3);
    CHECK(sk_X509_value(path, 0) == w.leaf.cert);
    CHECK(sk_X509_value(path, 1) == w.middle.cert);
    CHECK(sk_X509_value(path, 2) == w.root.cert);
    CHECK_INT(sk_X509_num(unused), 0);
    sk_X509_pop_free(path, X509_free);
    sk_X509_pop_free(unused, X509_free);
    sk_X509_free(mixed);
    world_free(&w);
}

TEST(chain_with_a_hole_ends_before_it) {
    sr_err err = {0};
    struct world w = world_new();
    STACK_OF(X509) * path, *unused,
        *holed = list_of(w.root.cert, w.leaf.cert, NULL, NULL);
    CHECK(sr_chain_order(holed, &path, &unused, &err) == 0);
    CHECK_INT(sk_X509_num(path), 1);
    CHECK(sk_X509_value(path, 0) == w.leaf.cert);
    CHECK_INT(sk_X509_num(unused), 1);
    sk_X509_pop_free(path, X509_free);
    sk_X509_pop_free(unused, X509_free);
    sk_X509_free(holed);
    world_free(&w);
}

TEST(good_chain_verifies_at_its_time) {
    sr_err err = {0};
    struct world w = world_new();
    CHECK(verify(&w, true, "www.example.com", NOON, NULL, &err) == 0);
    world_free(&w);
}

TEST(expired_and_not_yet_valid_are_judged_by_the_given_time) {
    sr_err err = {0};
    struct world w = world_new();
    CHECK_INT(verify(&w, true, NULL, NOON + 90 * DAY, NULL, &err), -1);
    CHECK_STR(err.code, "X509_V_ERR_CERT_HAS_EXPIRED");
    CHECK_INT(err.kind, SR_TLS);
    CHECK(strstr(err.message, "\"CN=leaf\": expired at 2025-09-12T") != NULL);
    CHECK_INT(verify(&w, true, NULL, NOON - 2 * DAY, NULL, &err), -1);
    CHECK_STR(err.code, "X509_V_ERR_CERT_NOT_YET_VALID");
    world_free(&w);
}

TEST(missing_intermediate_is_named) {
    sr_err err = {0};
    struct world w = world_new();
    CHECK_INT(verify(&w, false, NULL, NOON, NULL, &err), -1);
    CHECK_STR(err.code, "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY");
    CHECK(strstr(err.message, "its issuer \"CN=Test Intermediate\" is missing") != NULL);
    CHECK(strstr(err.message, "add the missing intermediate") != NULL);
    world_free(&w);
}

TEST(name_that_is_not_covered_is_told_with_those_that_are) {
    sr_err err = {0};
    struct world w = world_new();
    CHECK_INT(verify(&w, true, "other.example.com", NOON, NULL, &err), -1);
    CHECK_STR(err.code, "X509_V_ERR_HOSTNAME_MISMATCH");
    CHECK(
        strstr(err.message, "does not cover \"other.example.com\", but www.example.com"));
    world_free(&w);
}

TEST(self_signed_leaf_is_refused_unless_it_is_an_anchor) {
    sr_err err = {0};
    made m = make_leaf("a.example", NULL), ca = make_ca("Other", NULL);
    STACK_OF(X509) *roots = list_of(ca.cert, NULL, NULL, NULL), *path = NULL;
    sr_verify_spec spec = {.cert = m.cert, .roots = roots, .purpose = "any", .at = NOON};
    CHECK_INT(sr_chain_verify(&spec, &path, &err), -1);
    CHECK_STR(err.code, "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT");
    sk_X509_push(roots, m.cert);
    CHECK(sr_chain_verify(&spec, &path, &err) == 0);
    CHECK_INT(sk_X509_num(path), 1);
    sk_X509_pop_free(path, X509_free);
    sk_X509_free(roots);
    made_free(&ca);
    made_free(&m);
}

TEST(client_certificate_is_no_server_certificate) {
    sr_err err = {0};
    made ca = make_ca("Test CA", NULL);
    const char *use = "clientAuth";
    made m = make_cert_of(
        (sr_cert_spec){.what = {.has_ext_key_usage = true, .ext_key_usage = {&use, 1}},
                       .not_before = NOON - DAY,
                       .not_after = NOON + DAY,
                       .path_len = -1},
        &ca);
    STACK_OF(X509) *roots = list_of(ca.cert, NULL, NULL, NULL), *path = NULL;
    sr_verify_spec spec = {
        .cert = m.cert, .roots = roots, .purpose = "server", .at = NOON};
    CHECK_INT(sr_chain_verify(&spec, &path, &err), -1);
    CHECK_STR(err.code, "X509_V_ERR_INVALID_PURPOSE");
    spec.purpose = "client";
    CHECK(sr_chain_verify(&spec, &path, &err) == 0);
    sk_X509_pop_free(path, X509_free);
    sk_X509_free(roots);
    made_free(&m);
    made_free(&ca);
}

/* The same CA key and name, once self-signed and once signed by an older root. */
TEST(cross_signed_chain_is_built_to_either_root) {
    sr_err err = {0};
    made old = make_ca("Old Root", NULL), root = make_ca("New Root", NULL);
    made leaf = make_leaf("a.example", &root);
    sr_attribute cn = {"CN", "New Root"};
    X509 *cross = NULL;
    sr_cert_spec spec = {.what = {.subject = &cn, .subject_count = 1},
                         .issuer = old.cert,
                         .public_key = root.key.pkey,
                         .not_before = NOON - DAY,
                         .not_after = NOON + DAY,
                         .is_ca = true,
                         .path_len = -1};
    CHECK(sr_cert_build(&spec, &cross, &err) == 0);
    CHECK(sr_cert_sign(cross, &old.key, NULL, &err) == 0);
    STACK_OF(X509) *path = NULL, *unused = NULL;
    STACK_OF(X509) *all = list_of(old.cert, root.cert, cross, leaf.cert);
    CHECK(sr_chain_order(all, &path, &unused, &err) == 0);
    CHECK_INT(sk_X509_num(path), 3);
    CHECK(sk_X509_value(path, 1) == cross);
    CHECK_INT(sk_X509_num(unused), 1);
    sk_X509_pop_free(path, X509_free);
    sk_X509_pop_free(unused, X509_free);
    X509 *anchors[] = {old.cert, root.cert};
    for (int i = 0; i < 2; i++) {
        STACK_OF(X509) *roots = list_of(anchors[i], NULL, NULL, NULL);
        STACK_OF(X509) *chain = list_of(cross, NULL, NULL, NULL);
        sr_verify_spec v = {.cert = leaf.cert,
                            .chain = chain,
                            .roots = roots,
                            .purpose = "server",
                            .at = NOON};
        CHECK(sr_chain_verify(&v, &path, &err) == 0);
        CHECK_INT(sk_X509_num(path), i == 0 ? 3 : 2);
        sk_X509_pop_free(path, X509_free);
        sk_X509_free(roots);
        sk_X509_free(chain);
    }
    sk_X509_free(all);
    X509_free(cross);
    made_free(&leaf);
    made_free(&root);
    made_free(&old);
}

static X509_CRL *crl_of(const made *ca, const char *serial, double next) {
    sr_err err = {0};
    X509_CRL *crl = NULL;
    sr_revoked revoked = {serial, NOON - DAY, "keyCompromise"};
    CHECK(sr_crl_build(&(sr_crl_spec){.issuer = ca->cert,
                                      .revoked = &revoked,
                                      .revoked_count = serial ? 1 : 0,
                                      .this_update = NOON - DAY,
                                      .next_update = next},
                       &crl, &err) == 0);
    CHECK(sr_crl_sign(crl, &ca->key, NULL, &err) == 0);
    return crl;
}

static void check_crl(const struct world *w, const made *ca, const char *serial,
                      double next, const char *code) {
    sr_err err = {0};
    STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
    X509_CRL *crl = crl_of(ca, serial, next);
    sk_X509_CRL_push(crls, crl);
    int rc = verify(w, true, NULL, NOON, crls, &err);
    if (code) {
        CHECK_INT(rc, -1);
        CHECK_STR(err.code, code);
    } else
        CHECK_INT(rc, 0);
    sk_X509_CRL_free(crls);
    X509_CRL_free(crl);
}

TEST(revocation_lists_are_honoured) {
    sr_err err = {0};
    sr_cert_info info;
    struct world w = world_new();
    CHECK(sr_cert_info_read(w.leaf.cert, &info, &err) == 0);
    check_crl(&w, &w.middle, NULL, NOON + DAY, NULL);
    check_crl(&w, &w.middle, info.serial, NOON + DAY, "X509_V_ERR_CERT_REVOKED");
    check_crl(&w, &w.middle, NULL, NOON - DAY / 2, "X509_V_ERR_CRL_HAS_EXPIRED");
    check_crl(&w, &w.root, NULL, NOON + DAY, "X509_V_ERR_UNABLE_TO_GET_CRL");
    sr_cert_info_free(&info);
    world_free(&w);
}

TEST(system_roots_do_not_know_our_ca) {
    sr_err err = {0};
    struct world w = world_new();
    STACK_OF(X509) *path = NULL, *chain = list_of(w.middle.cert, w.root.cert, NULL, NULL);
    sr_verify_spec spec = {
        .cert = w.leaf.cert, .chain = chain, .purpose = "any", .at = NOON};
    CHECK_INT(sr_chain_verify(&spec, &path, &err), -1);
    CHECK_STR(err.code, "X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN");
    sk_X509_free(chain);
    world_free(&w);
}

TEST(chain_of_too_many_certificates_is_refused) {
    sr_err err = {0};
    made m = make_leaf("a.example", NULL);
    STACK_OF(X509) * path, *unused, *list = sk_X509_new_null();
    for (int i = 0; i <= SR_CHAIN_MAX; i++)
        sk_X509_push(list, m.cert);
    CHECK_INT(sr_chain_order(list, &path, &unused, &err), -1);
    CHECK_INT(err.kind, SR_LIMIT);
    sk_X509_free(list);
    made_free(&m);
}
