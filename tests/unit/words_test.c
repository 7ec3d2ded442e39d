/* words_test.c – durations, suggestions, buffers, failures. */
#include <errno.h>
#include <stdlib.h>

#include "base.h"
#include "unit.h"

#include <uv.h>

static double duration(const char *text) {
    double s = -1;
    return sr_parse_duration(text, &s) == 0 ? s : -1;
}

TEST(durations_have_units_and_add_up) {
    CHECK(duration("250ms") == 0.25);
    CHECK(duration("5m") == 300);
    CHECK(duration("2m30s") == 150);
    CHECK(duration("1.5h") == 5400);
    CHECK(duration("30d") == 30 * 86400);
}

TEST(words_that_are_no_duration_are_refused) {
    static const char *const bad[] = {"",    "5",     "m",   "5x", "-5s",
                                      "5 s", "1e99s", "5m ", "nan"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(duration(bad[i]) == -1);
}

TEST(a_misspelt_word_finds_the_closest) {
    static const char *const words[] = {"timeout", "limit", "retry", NULL};
    CHECK_STR(sr_suggest("tiemout", words), "timeout");
    CHECK_STR(sr_suggest("Limit", words), "limit");
    CHECK(sr_suggest("frobnicate", words) == NULL);
    CHECK(sr_suggest("a_word_that_is_much_longer_than_any_option_name", words) == NULL);
}

TEST(a_buffer_grows_and_stays_terminated) {
    sr_buf buf = {0};
    for (int i = 0; i < 1000; i++)
        CHECK(sr_buf_printf(&buf, "%d,", i) == 0);
    CHECK_INT(strlen(buf.data), buf.len);
    CHECK(sr_buf_append(&buf, "", 0) == 0);
    sr_buf_free(&buf);
    CHECK(buf.data == NULL);
}

TEST(a_secret_buffer_moves_its_bytes) {
    sr_buf buf = {.secret = true};
    for (int i = 0; i < 500; i++)
        CHECK(sr_buf_puts(&buf, "0123456789") == 0);
    CHECK_INT(buf.len, 5000);
    CHECK(memcmp(buf.data + 4990, "0123456789", 10) == 0);
    sr_buf_free(&buf);
    CHECK(buf.secret);
}

TEST(an_impossible_size_is_refused_for_good) {
    sr_buf buf = {0};
    CHECK(sr_buf_reserve(&buf, SIZE_MAX - 10) == NULL);
    CHECK(buf.oom);
    CHECK(sr_buf_puts(&buf, "x") == -1);
    sr_buf_free(&buf);
}

TEST(failures_from_errno_have_kind_code_and_reason) {
    sr_err err;
    CHECK(sr_fail_errno(&err, ENOENT, "cannot read %s", "/x") == -1);
    CHECK_INT(err.kind, SR_NOT_FOUND);
    CHECK_STR(err.code, "ENOENT");
    CHECK_STR(err.message, "cannot read /x: No such file or directory");
    CHECK(sr_fail_uv(&err, UV_ECONNREFUSED, "connect") == -1);
    CHECK_INT(err.kind, SR_CONNECT);
}

TEST(control_characters_never_reach_a_message) {
    sr_err err;
    (void)sr_fail(&err, SR_IO, NULL, "a%sb", "\x1b[31m\n\x7f");
    CHECK_STR(err.message, "a?[31m??b");
}

TEST(kinds_have_names_both_ways) {
    for (int i = SR_USAGE; i < SR_KINDS; i++)
        CHECK_INT(sr_kind_of(sr_kind_name((sr_kind)i)), i);
    CHECK_INT(sr_kind_of("none"), SR_NONE);
    CHECK_INT(sr_kind_of("oops"), SR_NONE);
}
