/* terminal_test.c – what of outside text reaches a terminal or a log line. */
#include "terminal.h"
#include "unit.h"

static bool escapes_to(const char *text, const char *want) {
    sr_buf out = {0};
    sr_escape(&out, text, "|");
    bool same = strcmp(out.data ? out.data : "", want) == 0;
    sr_buf_free(&out);
    return same;
}

TEST(plain_text_and_utf8_pass) {
    CHECK(escapes_to("plain\ttext", "plain\ttext"));
    CHECK(escapes_to("h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x94\x92",
                     "h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x94\x92"));
}

TEST(control_characters_are_escaped) {
    CHECK(escapes_to("\033[2J\r\177", "\\x1b[2J\\x0d\\x7f"));
    CHECK(escapes_to("\xc2\x9b"
                     "31m",
                     "\\xc2\\x9b31m")); /* C1 in UTF-8 */
    CHECK(escapes_to("a\nb", "a|b"));
}

TEST(changes_of_direction_are_escaped) {
    CHECK(escapes_to("\xe2\x80\xae", "\\xe2\\x80\\xae"));
    CHECK(escapes_to("\xe2\x81\xa6", "\\xe2\\x81\\xa6"));
}

TEST(bytes_that_are_not_utf8_are_escaped) {
    CHECK(escapes_to("\xff", "\\xff"));
    CHECK(escapes_to("\xc3", "\\xc3"));          /* cut off */
    CHECK(escapes_to("\xc0\xaf", "\\xc0\\xaf")); /* overlong */
    CHECK(escapes_to("\xe0\x80\x80", "\\xe0\\x80\\x80"));
    CHECK(escapes_to("\xed\xa0\x80", "\\xed\\xa0\\x80")); /* a surrogate */
    CHECK(escapes_to("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"));
}
