/* json_test.c – the guards of the JSON reader, the getters and the writers. */
#include "data/json.h"
#include "unit.h"

#include <math.h>
#include <stdlib.h>

/* The message for a text that must be refused, "" when it was accepted. */
static const char *refusal(const char *text, size_t len, sr_kind kind) {
    static sr_err err;
    err = (sr_err){0};
    cJSON *tree = sr_json_parse(text, len, 0, &err);
    cJSON_Delete(tree);
    if (tree) return "";
    CHECK_INT(err.kind, kind);
    return err.message;
}

static bool refused(const char *text, const char *part) {
    const char *message = refusal(text, strlen(text), SR_PROTOCOL);
    bool ok = strstr(message, part) != NULL;
    if (!ok) printf("  %s gave \"%s\"\n", text, message);
    return ok;
}

static bool accepted(const char *text) {
    const char *message = refusal(text, strlen(text), SR_PROTOCOL);
    if (*message) printf("  %s gave \"%s\"\n", text, message);
    return !*message;
}

static cJSON *parsed(const char *text) {
    sr_err err = {0};
    cJSON *tree = sr_json_parse(text, strlen(text), 0, &err);
    if (!tree) unit_fail(__FILE__, __LINE__, "%s: %s", text, err.message);
    return tree;
}

TEST(json_every_kind_of_value_is_read) {
    CHECK(accepted("0"));
    CHECK(accepted(" \t\r\n null \n"));
    CHECK(accepted("\"\""));
    CHECK(accepted("[]"));
    CHECK(accepted("{}"));
    CHECK(accepted("[1, -2, 3.5e-2, 1E+3, true, false, null, \"x\", {\"a\": [{}]}]"));
    CHECK(accepted("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\uD83D\\uDE00\""));
    CHECK(accepted("\xef\xbb\xbf{}"));
}

TEST(json_what_is_outside_the_grammar_is_refused) {
    CHECK(refused("", "empty"));
    CHECK(refused("  ", "too early"));
    CHECK(refused("{\"a\":1,}", "comma"));
    CHECK(refused("[1,]", "comma"));
    CHECK(refused("[1 2]", "',' or ']'"));
    CHECK(refused("{a:1}", "double quotes"));
    CHECK(refused("{'a':1}", "double quotes"));
    CHECK(refused("{\"a\" 1}", "':'"));
    CHECK(refused("[01]", "needless 0"));
    CHECK(refused("[-]", "digit must follow"));
    CHECK(refused("[1.]", "digit must follow"));
    CHECK(refused("[1e]", "exponent"));
    CHECK(refused("[.5]", "value was expected"));
    CHECK(refused("[+1]", "value was expected"));
    CHECK(refused("[NaN]", "value was expected"));
    CHECK(refused("[Infinity]", "value was expected"));
    CHECK(refused("[True]", "value was expected"));
    CHECK(refused("tru", "value was expected"));
    CHECK(refused("/* no */ 1", "value was expected"));
    CHECK(refused("\"\\x41\"", "unknown escape"));
    CHECK(refused("\"\\u12g4\"", "four hex digits"));
    CHECK(refused("\"a\nb\"", "must be escaped"));
}

TEST(json_a_text_that_was_cut_says_so) {
    CHECK(refused("{\"a\": [1, 2", "the end of the text"));
    CHECK(refused("{\"a\":", "cut"));
    CHECK(refused("\"abc", "cut"));
    CHECK(refused("\"abc\\", "escape"));
}

TEST(json_html_instead_of_json_says_so) {
    CHECK(refused("<html><body>502</body></html>", "HTML"));
}

TEST(json_trailing_bytes_are_refused) {
    CHECK(refused("{} {}", "behind the end"));
    CHECK(refused("1,", "behind the end"));
    CHECK(strstr(refusal("{}\0", 3, SR_PROTOCOL), "behind the end"));
}

TEST(json_nul_in_strings_is_refused) {
    CHECK(refused("{\"name\":\"a\\u0000b\"}", "NUL"));
    CHECK(refused("{\"a\\u0000b\":1}", "NUL"));
    CHECK(strstr(refusal("\"a\0b\"", 5, SR_PROTOCOL), "must be escaped"));
}

TEST(json_invalid_utf8_and_lone_surrogates_are_refused) {
    CHECK(refused("\"\xff\"", "UTF-8"));
    CHECK(refused("\"\xc0\xaf\"", "UTF-8"));         /* overlong */
    CHECK(refused("\"\xe0\x80\x80\"", "UTF-8"));     /* overlong */
    CHECK(refused("\"\xed\xa0\x80\"", "UTF-8"));     /* surrogate */
    CHECK(refused("\"\xf4\x90\x80\x80\"", "UTF-8")); /* beyond U+10FFFF */
    CHECK(refused("\"\xc3\"", "UTF-8"));
    CHECK(refused("\"\\ud800\"", "surrogate"));
    CHECK(refused("\"\\udc00\"", "surrogate"));
    CHECK(refused("\"\\ud800\\u0041\"", "surrogate"));
    CHECK(accepted("\"\xf4\x8f\xbf\xbf \xed\x9f\xbf \xee\x80\x80\""));
}

TEST(json_integers_beyond_2_53_are_refused_with_their_path) {
    CHECK(accepted("[9007199254740992, -9007199254740992]"));
    CHECK(refused("[9007199254740993]", "integer 9007199254740993 cannot be represented "
                                        "exactly"));
    CHECK(refused("[-9007199254740993]", "integer -9007199254740993"));
    CHECK(refused("{\"orders\":[{},{},{\"id\": 123456789012345678901}]}",
                  "at .orders[3].id, line 1, byte 25"));
    CHECK(accepted(
        "[1e300, 9007199254740993.0]")); /* written as floats: rounding is usual */
    CHECK(refused("[1e999]", "too large (at [1])"));
}

TEST(json_a_number_longer_than_the_library_reads_is_refused) {
    CHECK(refused("0.1111111111222222222233333333334444444444555555555566666666667777",
                  "more than 63"));
}

TEST(json_duplicate_keys_are_refused_also_when_escaped) {
    CHECK(refused("{\"a\":1,\"a\":2}", ".a stands twice"));
    CHECK(refused("{\"x\":{\"ab\":1,\"\\u0061b\":2}}", ".x.ab stands twice"));
    CHECK(accepted("{\"a\":1,\"A\":2}"));
    char many[4096] = "{";
    for (int i = 0; i < 100; i++)
        sprintf(many + strlen(many), "\"k%d\":%d,", i, i);
    sprintf(many + strlen(many), "\"k57\":0}");
    CHECK(refused(many, ".k57 stands twice"));
}

TEST(json_depth_is_bounded) {
    char deep[1100];
    memset(deep, '[', 550);
    memset(deep + 550, ']', 550);
    sr_err err = {0};
    CHECK(strstr(refusal(deep, 1100, SR_LIMIT), "max_depth = 64"));
    CHECK(!sr_json_parse(deep, 1100, 100000, &err));
    CHECK(strstr(err.message, "max_depth = 512"));
    CHECK_STR(refusal(deep + 550 - 64, 128, SR_LIMIT), "");
}

TEST(json_places_name_line_byte_and_odd_keys) {
    CHECK(refused("{\n \"a b\": {\n  \"c\": x}}", "[\"a b\"].c, line 3, byte 20"));
    char deep[600] = "";
    for (int i = 0; i < 30; i++)
        sprintf(deep + strlen(deep), "{\"abcdefgh\":");
    CHECK(refused(deep, "(at \xe2\x80\xa6.abcdefgh.abcdefgh"));
}

TEST(json_getters_name_the_path) {
    cJSON *tree =
        parsed("{\"status\":\"valid\",\"Status\":1,\"id\":9007199254740992,"
               "\"half\":1.5,\"ok\":true,\"list\":[1],\"meta\":{},\"none\":null}");
    const char *text = "default";
    const cJSON *item = NULL;
    int64_t id = 0;
    bool ok = false;
    sr_err err = {0};
    CHECK(sr_json_string(tree, "order", "status", SR_JSON_REQUIRED, &text, &err) == 0);
    CHECK_STR(text, "valid");
    CHECK(sr_json_int(tree, "order", "id", SR_JSON_REQUIRED, &id, &err) == 0);
    CHECK(id == SR_JSON_EXACT);
    CHECK(sr_json_bool(tree, "order", "ok", SR_JSON_REQUIRED, &ok, &err) == 0 && ok);
    CHECK(sr_json_array(tree, "order", "list", SR_JSON_REQUIRED, &item, &err) == 0);
    CHECK_INT(cJSON_GetArraySize(item), 1);
    CHECK(sr_json_object(tree, "order", "meta", SR_JSON_REQUIRED, &item, &err) == 0);
    CHECK(sr_json_string(tree, "order", "Status", SR_JSON_OPTIONAL, &text, &err) == -1);
    CHECK_STR(err.message, "JSON: order.Status is a number, a string was expected");
    CHECK(sr_json_string(tree, "order", "STATUS", SR_JSON_REQUIRED, &text, &err) == -1);
    CHECK_STR(err.message, "JSON: order.STATUS is missing");
    CHECK(sr_json_int(tree, "order", "half", SR_JSON_REQUIRED, &id, &err) == -1);
    CHECK(sr_json_string(tree, "order", "none", SR_JSON_REQUIRED, &text, &err) == -1);
    CHECK_STR(text, "valid");
    CHECK(sr_json_string(tree, "order", "none", SR_JSON_OPTIONAL, &text, &err) == 0);
    CHECK_STR(text, "valid");
    CHECK(sr_json_string(item, "order.meta", "x", SR_JSON_OPTIONAL, &text, &err) == 0);
    CHECK(sr_json_string(NULL, "order", "x", SR_JSON_OPTIONAL, &text, &err) == -1);
    cJSON_Delete(tree);
}

static const char *number(double value) {
    static char text[64];
    sr_buf buf = {0};
    sr_err err = {0};
    if (sr_json_put_number(&buf, value, &err)) return "refused";
    snprintf(text, sizeof text, "%s", buf.data);
    sr_buf_free(&buf);
    return text;
}

TEST(json_floats_are_written_shortest_and_read_back_the_same) {
    CHECK_STR(number(0.1), "0.1");
    CHECK_STR(number(1.0), "1");
    CHECK_STR(number(1.0 / 3), "0.3333333333333333");
    CHECK_STR(number(0.1 + 0.2), "0.30000000000000004");
    CHECK_STR(number(9007199254740994.0), "9007199254740994.0");
    CHECK_STR(number(NAN), "refused");
    CHECK_STR(number(-INFINITY), "refused");
    double value = 1.1;
    for (int i = 0; i < 1000; i++) {
        cJSON *tree = parsed(number(value));
        CHECK(tree->valuedouble == value);
        cJSON_Delete(tree);
        value = fabs(value) > 1e300 ? 1e-300 : value * -1.37;
    }
}

TEST(json_strings_are_written_without_needless_escapes) {
    sr_buf buf = {0};
    sr_err err = {0};
    const char text[] = "a/b \"q\" \\ \n \x01 \x7f \xc3\xbc";
    CHECK(sr_json_put_string(&buf, text, sizeof text - 1, &err) == 0);
    CHECK_STR(buf.data, "\"a/b \\\"q\\\" \\\\ \\n \\u0001 \x7f \xc3\xbc\"");
    CHECK(sr_json_put_string(&buf, "a\0b", 3, &err) == -1);
    CHECK(strstr(err.message, "NUL byte (byte 2)"));
    CHECK(sr_json_put_string(&buf, "ab\xff", 3, &err) == -1);
    CHECK(strstr(err.message, "UTF-8 (byte 3)"));
    sr_buf_free(&buf);
}

TEST(json_a_tree_is_printed_on_one_line_without_loss) {
    const char *text = "{\"b\":[1,9007199254740992,\"a/b\"],\"a\":null}";
    cJSON *tree = parsed(text);
    sr_buf buf = {0};
    sr_err err = {0};
    CHECK(sr_json_print(&buf, tree, &err) == 0);
    CHECK_STR(buf.data, text);
    sr_buf_free(&buf);
    cJSON_Delete(tree);
}
