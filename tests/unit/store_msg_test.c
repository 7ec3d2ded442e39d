/* store_msg_test.c – SQL texts: statements, parameters, what is refused. */
#include "store/store_msg.h"

#include "unit.h"

/* The statement's names, "a b c", or "!" and why. */
static const char *names(const char *text) {
    static char out[1200];
    sr_sql sql;
    sr_err err = {0};
    size_t n = 0;
    if (sr_sql_single(text, strlen(text), &sql, &err) != 0) {
        snprintf(out, sizeof out, "!%s", err.message);
        return out;
    }
    out[0] = '\0';
    for (uint32_t i = 0; i < sql.count; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s", i ? " " : "",
                              (int)sql.names[i].len, text + sql.names[i].at);
    return out;
}

static const char *numbered(const char *text) {
    static char out[256];
    sr_sql sql;
    sr_err err = {0};
    sr_buf buf = {0};
    CHECK(sr_sql_single(text, strlen(text), &sql, &err) == 0);
    CHECK(sr_sql_numbered(text, &sql, &buf, &err) == 0);
    snprintf(out, sizeof out, "%s", buf.data);
    sr_buf_free(&buf);
    return out;
}

static bool refused(const char *text, const char *why) {
    const char *got = names(text);
    return got[0] == '!' && strstr(got, why);
}

TEST(sql_parameters_in_order_of_first_appearance) {
    CHECK_STR(names("SELECT $b, $a, $b WHERE x=$c_1"), "b a c_1");
    CHECK_STR(names("SELECT 1"), "");
    CHECK_STR(names("SELECT $a;  -- done\n"), "a");
    CHECK_STR(names("SELECT x->>'$.k' WHERE y=$y"), "y");
}

TEST(sql_parameters_in_strings_names_and_comments_are_none) {
    CHECK_STR(names("SELECT '$a', \"$b\", x -- $c\n, /* $d ' */ $e"), "e");
    CHECK_STR(names("SELECT 'it''s $a', $b"), "b");
    CHECK_STR(names("SELECT a$b, 1$c"), "");
}

TEST(sql_is_numbered_for_postgresql) {
    CHECK_STR(numbered("SELECT $b, '$b', $a, $b -- $b"), "SELECT $1, '$b', $2, $1");
    CHECK_STR(numbered("  SELECT $ab,$a;"), "SELECT $1,$2");
}

TEST(sql_that_the_engines_read_differently_is_refused) {
    CHECK(refused("SELECT ?", "write $name"));
    CHECK(refused("SELECT @a", "write $name"));
    CHECK(refused("SELECT :a", "CAST"));
    CHECK(refused("SELECT a::text", "CAST"));
    CHECK(refused("SELECT $1", "name it"));
    CHECK(refused("SELECT $$x$$", "write $name"));
    CHECK(refused("SELECT $x$ $a $x$", "write $name"));
    CHECK(refused("SELECT `a`", "line 1"));
    CHECK(refused("SELECT\n\n[a]", "line 3"));
    CHECK(refused("SELECT /* a /* b */", "comment in a comment"));
    CHECK(refused("SELECT /* a", "closing */"));
    CHECK(refused("SELECT 'a", "closing quote"));
    CHECK(refused("SELECT \"a", "closing quote"));
}

TEST(sql_asks_nobody_for_the_time) {
    CHECK(refused("SELECT current_timestamp", "time"));
    CHECK(refused("SELECT NOW ()", "time"));
    CHECK(refused("SELECT strftime('%s')", "time"));
    CHECK_STR(names("SELECT now, 'now()' FROM t"), "");
}

TEST(sql_text_is_one_statement) {
    CHECK(refused("", "empty"));
    CHECK(refused(" ; ", "empty"));
    CHECK(refused("-- x", "empty"));
    CHECK(refused("SELECT 1; SELECT 2", "more than one"));
    CHECK_STR(names("SELECT 1;;"), "");
    CHECK(refused("BEGIN", "db:batch"));
    CHECK(refused(" /* x */ rollback", "db:batch"));
    CHECK(refused("PRAGMA x", "sets"));
}

TEST(sql_parameters_are_bounded) {
    char text[4000], *end = text + sizeof text, *at = text;
    at += snprintf(at, (size_t)(end - at), "SELECT ");
    for (int i = 0; i < SR_SQL_NAMES; i++)
        at += snprintf(at, (size_t)(end - at), "$a%d, ", i);
    at += snprintf(at, (size_t)(end - at), "$a0");
    CHECK(names(text)[0] == 'a');
    snprintf(at, (size_t)(end - at), ", $more");
    CHECK(refused(text, "200 parameters"));
}

TEST(store_text_is_utf8_without_nul) {
    CHECK(sr_store_is_text("", 0));
    CHECK(sr_store_is_text("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10));
    CHECK(!sr_store_is_text("a\0b", 3));
    CHECK(!sr_store_is_text("\xc3", 1));
    CHECK(!sr_store_is_text("\xc0\x80", 2));
    CHECK(!sr_store_is_text("\xed\xa0\x80", 3));
    CHECK(!sr_store_is_text("\xf4\x90\x80\x80", 4));
    CHECK(!sr_store_is_text("\x80", 1));
}

TEST(network_file_systems_are_known) {
    CHECK_STR(sr_store_network_fs(0x6969), "NFS");
    CHECK_STR(sr_store_network_fs((long)(int)0xff534d42), "CIFS");
    CHECK(!sr_store_network_fs(0xef53));     /* ext4 */
    CHECK(!sr_store_network_fs(0x01021994)); /* tmpfs */
}
