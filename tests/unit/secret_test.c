/* secret_test.c – what logs do not show, and reading secrets from their sources. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "redact.h"
#include "secret.h"
#include "unit.h"

static const char *redacted(const char *text) {
    static char copy[512];
    snprintf(copy, sizeof copy, "%s", text);
    sr_redact(copy);
    return copy;
}

TEST(redact_replaces_every_place) {
    sr_redact_add("canary-redact", 13);
    CHECK_STR(redacted("a canary-redact, canary-redactcanary-redact."),
              "a [secret], [secret][secret].");
    CHECK_STR(redacted("canary-redac"), "canary-redac");
    CHECK_STR(redacted(""), "");
    sr_redact_clear();
}

TEST(redact_short_values_are_blotted_and_shorter_ones_left) {
    sr_redact_add("sixsix", 6);
    sr_redact_add("five5", 5);
    CHECK_STR(redacted("sixsix five5"), "****** five5");
    sr_redact_clear();
}

TEST(redact_longer_values_go_first) {
    sr_redact_add("password", 8);
    sr_redact_add("password-long", 13);
    CHECK_STR(redacted("password-long password"), "[secret] [secret]");
    sr_redact_clear();
}

TEST(redact_held_values_stay_however_many_come_after) {
    CHECK_INT(sr_redact_hold("held-value", 10), 0);
    for (int i = 0; i < 1000; i++) {
        char value[32];
        int n = snprintf(value, sizeof value, "loose-value-%06d", i);
        sr_redact_add(value, (size_t)n);
    }
    CHECK_STR(redacted("held-value loose-value-000000 loose-value-000999"),
              "[secret] loose-value-000000 [secret]");
    sr_redact_release("held-value", 10);
    CHECK_STR(redacted("held-value"), "[secret]");
    sr_redact_clear();
}

TEST(redact_counts_its_holders) {
    CHECK_INT(sr_redact_hold("shared-value", 12), 0);
    CHECK_INT(sr_redact_hold("shared-value", 12), 0);
    sr_redact_release("shared-value", 12);
    for (int i = 0; i < 1000; i++) {
        char value[32];
        int n = snprintf(value, sizeof value, "loose-value-%06d", i);
        sr_redact_add(value, (size_t)n);
    }
    CHECK_STR(redacted("shared-value"), "[secret]");
    sr_redact_release("shared-value", 12);
    sr_redact_release("shared-value", 12); /* once too often does no harm */
    sr_redact_release("never-seen", 10);
    sr_redact_clear();
}

TEST(secret_from_the_environment) {
    sr_buf value = {0};
    sr_err err = {0};
    setenv("SECRET_TEST", "canary-env", 1);
    CHECK_INT(sr_secret_read("env:SECRET_TEST", &value, &err), 0);
    CHECK_STR(value.data, "canary-env");
    sr_buf_free(&value);
    setenv("SECRET_TEST", "", 1);
    CHECK_INT(sr_secret_read("env:SECRET_TEST", &value, &err), -1);
    CHECK_INT(err.kind, SR_NOT_FOUND);
    unsetenv("SECRET_TEST");
    CHECK_INT(sr_secret_read("env:SECRET_TEST", &value, &err), -1);
    CHECK_INT(err.kind, SR_NOT_FOUND);
}

TEST(secret_from_a_systemd_credential) {
    char folder[] = "/tmp/secret_test_XXXXXX", path[64];
    sr_buf value = {0};
    sr_err err = {0};
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/scm", folder);
    FILE *file = fopen(path, "w");
    CHECK(file && fputs("canary-cred\n", file) >= 0 && fclose(file) == 0);
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    CHECK_INT(sr_secret_read("cred:scm", &value, &err), 0);
    CHECK_STR(value.data, "canary-cred");
    sr_buf_free(&value);
    CHECK_INT(sr_secret_read("cred:other", &value, &err), -1);
    CHECK_INT(err.kind, SR_NOT_FOUND);
    CHECK_INT(sr_secret_read("cred:../scm", &value, &err), -1);
    CHECK_INT(err.kind, SR_USAGE);
    unsetenv("CREDENTIALS_DIRECTORY");
    CHECK_INT(sr_secret_read("cred:scm", &value, &err), -1);
    CHECK_INT(err.kind, SR_NOT_FOUND);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

TEST(secret_file_that_is_too_long_or_a_pipe) {
    char folder[] = "/tmp/secret_test_XXXXXX", path[64], source[80];
    sr_buf value = {0};
    sr_err err = {0};
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/big", folder);
    snprintf(source, sizeof source, "file:%s", path);
    FILE *file = fopen(path, "w");
    CHECK(file);
    CHECK_INT(fchmod(fileno(file), 0600), 0);
    for (int i = 0; i < SR_SECRET_MAX + 1; i++)
        CHECK(fputc('x', file) == 'x');
    CHECK_INT(fclose(file), 0);
    CHECK_INT(sr_secret_read(source, &value, &err), -1);
    CHECK_INT(err.kind, SR_LIMIT);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(mkfifo(path, 0600), 0);
    CHECK_INT(sr_secret_read(source, &value, &err), -1);
    CHECK_INT(err.kind, SR_USAGE);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

TEST(secret_trims_one_newline_only) {
    static const char *const texts[][2] = {{"x\n", "x"},     {"x\r\n", "x"},
                                           {"x\n\n", "x\n"}, {"x\r", "x\r"},
                                           {"\n", ""},       {"x", "x"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        sr_buf buf = {.secret = true};
        CHECK_INT(sr_buf_puts(&buf, texts[i][0]), 0);
        sr_secret_trim(&buf);
        CHECK_STR(buf.data, texts[i][1]);
        sr_buf_free(&buf);
    }
}
