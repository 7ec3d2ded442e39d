/* scm_ops_test.c – the table of SCM operations: names, fields, paths. */
#include "scm/scm_ops.h"

#include "unit.h"

static sr_err failure;

static const sr_scm_op *find(const char *name, sr_scm_face face, int version, int *ret) {
    const sr_scm_op *op = NULL;
    failure = (sr_err){0};
    if (sr_scm_find(name, face, version, &op, ret, &failure) != 0) return NULL;
    return op;
}

TEST(scm_operations_are_found_by_name_and_by_vendor_id) {
    int version = 0;
    const sr_scm_op *op = find("ssl.list", SR_SCM_CLASSIC, 0, &version);
    CHECK(op);
    CHECK_INT(version, 1);
    CHECK(find("ssl.list", SR_SCM_ADMIN, 0, &version) == op);
    CHECK_INT(version, 2);
    CHECK(find("get-ssl-certificates-list", SR_SCM_ADMIN, 0, &version) == op);
    CHECK_INT(version, 2);
    CHECK(find("get-ssl-certificates-list_1", SR_SCM_ADMIN, 0, &version) == op);
    CHECK_INT(version, 1);
}

TEST(scm_unknown_operations_get_a_suggestion) {
    int version = 0;
    CHECK(!find("ssl.enrol", SR_SCM_CLASSIC, 0, &version));
    CHECK_INT(failure.kind, SR_USAGE);
    CHECK(strstr(failure.message, "did you mean \"ssl.enroll\""));
    CHECK(!find("", SR_SCM_CLASSIC, 0, &version));
    CHECK(!find("ssl.get", SR_SCM_CLASSIC, 9, &version));
    CHECK(strstr(failure.message, "no version 9"));
    CHECK(!find("ca_backend.list", SR_SCM_ADMIN, 0, &version));
    CHECK(strstr(failure.message, "only on the classic face"));
}

TEST(scm_lines_of_one_name_are_told_apart_by_version) {
    int version = 0;
    const sr_scm_op *v2 = find("acme.add_domains", SR_SCM_CLASSIC, 0, &version);
    CHECK_INT(version, 2);
    const sr_scm_op *v1 = find("acme.add_domains", SR_SCM_CLASSIC, 1, &version);
    CHECK(v1 && v1 != v2);
    CHECK(strstr(v1->path, "/domains"));
}

TEST(scm_fields_know_their_place_and_type) {
    int version = 0;
    sr_scm_field field;
    const sr_scm_op *op = find("ssl.enroll", SR_SCM_CLASSIC, 0, &version);
    CHECK(sr_scm_field_of(op, "csr", &field));
    CHECK(field.place == SR_SCM_BODY && field.type == 's' && field.required);
    CHECK(sr_scm_field_of(op, "numberServers", &field));
    CHECK(!field.required);
    op = find("ssl.enroll", SR_SCM_ADMIN, 0, &version);
    CHECK(!sr_scm_field_of(op, "numberServers", &field));
    op = find("ssl.list", SR_SCM_ADMIN, 0, &version);
    CHECK(sr_scm_field_of(op, "position", &field));
    CHECK(field.place == SR_SCM_QUERY);
    op = find("admin.change_password", SR_SCM_ADMIN, 0, &version);
    CHECK(sr_scm_field_of(op, "password", &field));
    CHECK(field.place == SR_SCM_HEADER);
    CHECK(sr_scm_unknown_field(op, "newPasword", &failure) == -1);
    CHECK(strstr(failure.message, "newPassword"));
}

TEST(scm_every_line_of_the_table_is_well_formed) {
    size_t count;
    sr_scm_field field;
    const sr_scm_op *ops = sr_scm_ops(&count);
    CHECK(count > 270);
    for (size_t i = 0; i < count; i++) {
        size_t fields = 0;
        CHECK(strchr(ops[i].name, '.'));
        CHECK(strstr(ops[i].path, "/v*"));
        CHECK(*ops[i].versions[0] || *ops[i].versions[1]);
        for (size_t at = 0; sr_scm_next_field(&ops[i], &at, &field); fields++)
            CHECK(strchr("snblopcmx", field.type));
        CHECK(fields < 60);
        CHECK(strcmp(ops[i].method, "HEAD") != 0 || ops[i].result == SR_SCM_COUNT);
        CHECK(ops[i].reads || (strcmp(ops[i].method, "GET") != 0));
        CHECK(sr_scm_body_kind(&ops[i]) == 0 || strcmp(ops[i].method, "GET") != 0);
    }
}

static const char *path(const char *name, const char *a, const char *b) {
    static sr_buf out;
    int version = 0;
    const char *values[] = {a, b};
    sr_buf_free(&out);
    const sr_scm_op *op = find(name, SR_SCM_ADMIN, 0, &version);
    if (!op || sr_scm_path(op, version, values, &out, &failure) != 0) return NULL;
    return out.data;
}

TEST(scm_ids_are_encoded_into_paths) {
    CHECK_STR(path("ssl.get_location", "7", "a/b c?#"),
              "/api/ssl/v2/7/location/a%2Fb%20c%3F%23");
    CHECK_STR(path("ssl.revoke_serial", "AB:CD", NULL),
              "/api/ssl/v2/revoke/serial/AB%3ACD");
    CHECK(!path("ssl.get", "", NULL));
    CHECK(!path("ssl.get", "..", NULL));
    CHECK(strstr(failure.message, "sslId"));
    CHECK(!path("ssl.get", NULL, NULL));
    path("ssl.list", NULL, NULL);
    sr_buf_free(&(sr_buf){0});
}
