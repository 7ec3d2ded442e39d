/* http_path_test.c – request targets, paths, queries and routes. */
#include "net/http_path.h"

#include "unit.h"

/* The decoded path, or "!" for a refusal. */
static const char *decoded(const char *raw) {
    static char out[256];
    size_t len;
    if (sr_http_path_decode(raw, strlen(raw), out, &len) != 0) return "!";
    return len == strlen(out) ? out : "length!";
}

/* "path|query", or "!". */
static const char *target(const char *text) {
    static char out[256];
    sr_http_slice path, query;
    if (sr_http_target_split(text, strlen(text), &path, &query) != 0) return "!";
    snprintf(out, sizeof out, "%.*s|%.*s", (int)path.len, path.data, (int)query.len,
             query.data ? query.data : "");
    return out;
}

TEST(http_target_forms) {
    CHECK_STR(target("/"), "/|");
    CHECK_STR(target("/a/b?c=d&e"), "/a/b|c=d&e");
    CHECK_STR(target("/a?b?c"), "/a|b?c");
    CHECK_STR(target("*"), "*|");
    CHECK_STR(target("http://example.com/a?b"), "/a|b");
    CHECK_STR(target("HTTPS://example.com:8443"), "/|");
    CHECK_STR(target("http://example.com?q"), "/|q");
}

TEST(http_target_refuses_other_forms) {
    CHECK_STR(target(""), "!");
    CHECK_STR(target("a"), "!");
    CHECK_STR(target("?a"), "!");
    CHECK_STR(target("example.com:443"), "!");
    CHECK_STR(target("http:///a"), "!");
    CHECK_STR(target("/a b"), "!");
    CHECK_STR(target("/a#b"), "!");
    CHECK_STR(target("/a\x01"), "!");
    CHECK_STR(target("*/"), "!");
}

TEST(http_path_is_decoded_once_and_normalised) {
    CHECK_STR(decoded("/"), "/");
    CHECK_STR(decoded("/a/b"), "/a/b");
    CHECK_STR(decoded("/a/b/"), "/a/b/");
    CHECK_STR(decoded("//a///b"), "/a/b");
    CHECK_STR(decoded("/a/./b/."), "/a/b/");
    CHECK_STR(decoded("/a/../b"), "/b");
    CHECK_STR(decoded("/a/b/.."), "/a/");
    CHECK_STR(decoded("/a/.."), "/");
    CHECK_STR(decoded("/%41%c3%a9"), "/A\xc3\xa9");
    CHECK_STR(decoded("/%252e%252e/"), "/%2e%2e/");
    CHECK_STR(decoded("/..a/.b/c.."), "/..a/.b/c..");
    CHECK_STR(decoded("*"), "*");
}

TEST(http_path_cannot_climb_above_the_root) {
    CHECK_STR(decoded("/.."), "!");
    CHECK_STR(decoded("/a/../../etc/passwd"), "!");
    CHECK_STR(decoded("/%2e%2e/etc/passwd"), "!");
    CHECK_STR(decoded("/a/..%2f..%2fetc"), "!");
    CHECK_STR(decoded("/a/%2e%2e%2f%2e%2e/etc"), "!");
    CHECK_STR(decoded("/a%2f..%2fb"), "/b");
}

TEST(http_path_refuses_bad_escapes_and_control_bytes) {
    CHECK_STR(decoded("/%"), "!");
    CHECK_STR(decoded("/%4"), "!");
    CHECK_STR(decoded("/%zz"), "!");
    CHECK_STR(decoded("/%00"), "!");
    CHECK_STR(decoded("/a%0d%0aSet-Cookie:x"), "!");
    CHECK_STR(decoded("/%7f"), "!");
    CHECK_STR(decoded("a"), "!");
    CHECK_STR(decoded(""), "!");
    CHECK_STR(decoded("%2fa"), "/a");
}

/* "k=v;k=v;" */
static const char *pairs(const char *query) {
    static char out[256];
    sr_buf key = {0}, value = {0};
    sr_http_slice rest = {query, strlen(query)};
    out[0] = '\0';
    while (sr_http_query_next(&rest, &key, &value))
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s=%s;", key.data,
                 value.data);
    sr_buf_free(&key);
    sr_buf_free(&value);
    return out;
}

TEST(http_query_pairs) {
    CHECK_STR(pairs(""), "");
    CHECK_STR(pairs("a=1&b=2"), "a=1;b=2;");
    CHECK_STR(pairs("a&b="), "a=;b=;");
    CHECK_STR(pairs("&&a=b=c&"), "a=b=c;");
    CHECK_STR(pairs("=x"), "=x;");
    CHECK_STR(pairs("a+b=c%20d%2B"), "a b=c d+;");
    CHECK_STR(pairs("a=1&a=2"), "a=1;a=2;");
}

TEST(http_query_keeps_a_bad_escape_as_it_is) {
    CHECK_STR(pairs("a=100%"), "a=100%;");
    CHECK_STR(pairs("a=%zz%4"), "a=%zz%4;");
}

TEST(http_query_value_may_hold_nul) {
    sr_buf key = {0}, value = {0};
    sr_http_slice rest = {"a=x%00y", 7};
    CHECK(sr_http_query_next(&rest, &key, &value));
    CHECK_INT(value.len, 3);
    CHECK(memcmp(value.data, "x\0y", 3) == 0);
    CHECK(!sr_http_query_next(&rest, &key, &value));
    sr_buf_free(&key);
    sr_buf_free(&value);
}

static sr_http_first first(const char *text) {
    return sr_http_first_bytes(text, strlen(text));
}

TEST(http_first_bytes_of_a_connection) {
    CHECK_INT(first(""), SR_HTTP_FIRST_MORE);
    CHECK_INT(first("GE"), SR_HTTP_FIRST_MORE);
    CHECK_INT(first("GET / HTTP/1.1\r\n"), SR_HTTP_FIRST_MORE);
    CHECK_INT(first("\r\nGET / HTTP/1.1\r\n"), SR_HTTP_FIRST_MORE);
    CHECK_INT(first("GARBAGE\r\n"), SR_HTTP_FIRST_BAD);
    CHECK_INT(first(" GET /"), SR_HTTP_FIRST_BAD);
    CHECK_INT(first("\x16\x03\x01"), SR_HTTP_FIRST_TLS);
    CHECK_INT(first("\x01\x02"), SR_HTTP_FIRST_BAD);
}

/* ------------------------------------------------------------------ routes */

/* Builds routes whose ids are 0, 1, …, and says which one serves "METHOD /path", with its
 * captures: "1 name=value", "405 GET, HEAD, OPTIONS" or "404". */
static const char *served(const char *const *patterns, const char *method,
                          const char *path) {
    static char out[256];
    sr_err err = {0};
    sr_http_match m;
    sr_http_routes *routes = sr_http_routes_new();
    for (int i = 0; patterns[i]; i++)
        if (sr_http_routes_add(routes, patterns[i], i, &err) != 0)
            unit_fail(__FILE__, __LINE__, "%s", err.message);
    sr_http_slice slice = {path, strlen(path)};
    switch (sr_http_routes_match(routes, method, slice, &m)) {
    case SR_HTTP_NO_ROUTE: snprintf(out, sizeof out, "404"); break;
    case SR_HTTP_OTHER_METHOD: snprintf(out, sizeof out, "405 %s", m.allow); break;
    case SR_HTTP_ROUTE:
        snprintf(out, sizeof out, "%d", m.id);
        for (unsigned i = 0; i < m.captures; i++)
            snprintf(out + strlen(out), sizeof out - strlen(out), " %.*s=%.*s",
                     (int)m.capture[i].name.len, m.capture[i].name.data,
                     (int)m.capture[i].value.len, m.capture[i].value.data);
    }
    sr_http_routes_free(routes);
    return out;
}

TEST(http_route_captures_segments_and_the_rest) {
    const char *p[] = {"GET /.well-known/acme-challenge/{token}", "GET /f/{path...}",
                       "POST /a/{x}/b/{y}", NULL};
    CHECK_STR(served(p, "GET", "/.well-known/acme-challenge/abc"), "0 token=abc");
    CHECK_STR(served(p, "GET", "/.well-known/acme-challenge/"), "404");
    CHECK_STR(served(p, "GET", "/.well-known/acme-challenge/a/b"), "404");
    CHECK_STR(served(p, "GET", "/f/x/y.z"), "1 path=x/y.z");
    CHECK_STR(served(p, "GET", "/f/"), "1 path=");
    CHECK_STR(served(p, "GET", "/f"), "404");
    CHECK_STR(served(p, "POST", "/a/1/b/2"), "2 x=1 y=2");
    CHECK_STR(served(p, "POST", "/a/1/b/2/"), "404");
    CHECK_STR(served(p, "GET", "/"), "404");
}

TEST(http_route_prefers_the_specific_one_in_any_order) {
    const char *p[] = {"/{rest...}", "GET /a/{x}", "GET /a/b",
                       "/a/b",       "GET /{x}/b", NULL};
    CHECK_STR(served(p, "GET", "/a/b"), "2");
    CHECK_STR(served(p, "PUT", "/a/b"), "3");
    CHECK_STR(served(p, "GET", "/a/c"), "1 x=c");
    CHECK_STR(served(p, "GET", "/c/b"), "4 x=c");
    CHECK_STR(served(p, "GET", "/"), "0 rest=");
}

TEST(http_route_get_serves_head_unless_head_has_its_own) {
    const char *p[] = {"GET /a", "GET /b", "HEAD /b", NULL};
    CHECK_STR(served(p, "HEAD", "/a"), "0");
    CHECK_STR(served(p, "HEAD", "/b"), "2");
    CHECK_STR(served(p, "GET", "/b"), "1");
}

TEST(http_route_names_the_allowed_methods) {
    const char *p[] = {"GET /a", "POST /a", "PUT /{x}", NULL};
    CHECK_STR(served(p, "DELETE", "/a"), "405 GET, HEAD, POST, PUT, OPTIONS");
    CHECK_STR(served(p, "GET", "/b"), "405 PUT, OPTIONS");
    CHECK_STR(served(p, "OPTIONS", "/a"), "405 GET, HEAD, POST, PUT, OPTIONS");
}

TEST(http_route_refuses_malformed_patterns) {
    const char *bad[] = {"GET",     "GET a",     "G T /a",   "/a/{x", "/a/x}", "/a/{}",
                         "/a/{1x}", "/{x...}/b", "/{x}/{x}", "",      " /a",   "/a{x}"};
    sr_http_routes *routes = sr_http_routes_new();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sr_err err = {0};
        if (sr_http_routes_add(routes, bad[i], 0, &err) == 0)
            unit_fail(__FILE__, __LINE__, "accepted \"%s\"", bad[i]);
        CHECK_INT(err.kind, SR_USAGE);
    }
    sr_http_routes_free(routes);
}

TEST(http_route_refuses_two_that_match_the_same) {
    sr_err err = {0};
    sr_http_routes *routes = sr_http_routes_new();
    CHECK_INT(sr_http_routes_add(routes, "GET /a/{x}", 0, &err), 0);
    CHECK_INT(sr_http_routes_add(routes, "GET /a/{y}", 1, &err), -1);
    CHECK_STR(err.message, "route \"GET /a/{y}\" matches the same as \"GET /a/{x}\"");
    sr_http_routes_free(routes);
}
