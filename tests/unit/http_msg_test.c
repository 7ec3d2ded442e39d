/* http_msg_test.c – reading what an unknown HTTP peer wrote. */
#include "net/http_msg.h"
#include "unit.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define TEXT(s) (s), strlen(s)

TEST(http_token_takes_names_and_nothing_else) {
    CHECK(sr_http_is_token(TEXT("X-Request_id.1")));
    CHECK(!sr_http_is_token(TEXT("")));
    CHECK(!sr_http_is_token(TEXT("a b")));
    CHECK(!sr_http_is_token(TEXT("a:b")));
    CHECK(!sr_http_is_token("a\0b", 3));
    CHECK(!sr_http_is_token(TEXT("caf\xc3\xa9")));
}

TEST(http_value_refuses_what_could_end_a_line) {
    CHECK(sr_http_is_value(TEXT("text\twith tab and \xc3\xa9")));
    CHECK(sr_http_is_value(TEXT("")));
    CHECK(!sr_http_is_value(TEXT("a\r\nSet-Cookie: b")));
    CHECK(!sr_http_is_value(TEXT("a\nb")));
    CHECK(!sr_http_is_value("a\0b", 3));
    CHECK(!sr_http_is_value(TEXT("a\x7f")));
}

TEST(http_status_line_is_read_strictly) {
    int version = 0, status = 0;
    CHECK_INT(sr_http_status_line(TEXT("HTTP/1.1 200 OK\r\n"), &version, &status), 0);
    CHECK_INT(version, 11);
    CHECK_INT(status, 200);
    CHECK_INT(sr_http_status_line(TEXT("HTTP/2 404"), &version, &status), 0);
    CHECK_INT(version, 20);
    CHECK_INT(status, 404);
    static const char *const bad[] = {"",
                                      "HTTP/1.1",
                                      "HTTP/1.1 2x0 no",
                                      "HTTP/1.1 20",
                                      "HTTP/1.1 2000 OK",
                                      "HTTP/1.1 099 low",
                                      "HTTP/x 200 OK",
                                      "HTTP/1. 200 OK",
                                      "ICY 200 OK  "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(sr_http_status_line(TEXT(bad[i]), &version, &status), -1);
    CHECK_INT(status, 404);
}

TEST(http_fields_are_walked_and_found_in_any_case) {
    const char *head =
        "HTTP/1.1 200 OK\r\nLink: <a>\r\n folded: no\r\nRetry-After:   7 \t\r\n"
        "bad line\r\nLINK:<b>\nEmpty:\r\n\r\n";
    const char *at = head, *end = head + strlen(head);
    sr_http_field f;
    int links = 0, all = 0;
    while (sr_http_next_field(&at, end, &f)) {
        all++;
        links += sr_http_field_is(&f, "link");
    }
    CHECK_INT(all, 4);
    CHECK_INT(links, 2);
    CHECK(sr_http_find(TEXT(head), "retry-after", &f));
    CHECK_INT(f.value_len, 1);
    CHECK(sr_http_find(TEXT(head), "empty", &f));
    CHECK_INT(f.value_len, 0);
    CHECK(!sr_http_find(TEXT(head), "location", &f));
}

TEST(http_date_reads_the_three_forms) {
    static const char *const same[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
                                       "Sunday, 06-Nov-94 08:49:37 GMT",
                                       "Sun Nov  6 08:49:37 1994"};
    for (size_t i = 0; i < 3; i++) {
        double t = 0;
        CHECK_INT(sr_http_date(TEXT(same[i]), &t), 0);
        CHECK_INT(t, 784111777);
    }
    double leap;
    CHECK_INT(sr_http_date(TEXT("Thu, 29 Feb 2024 00:00:00 GMT"), &leap), 0);
    CHECK_INT(leap, 1709164800);
}

TEST(http_date_refuses_days_and_hours_that_do_not_exist) {
    static const char *const bad[] = {"Thu, 29 Feb 2023 00:00:00 GMT",
                                      "Thu, 01 Foo 2023 00:00:00 GMT",
                                      "Thu, 01 Jan 2023 24:00:00 GMT",
                                      "Thu, 01 Jan 2023 00:60:00 GMT",
                                      "Thu, 01 Jan 2023 00:00:00 PST",
                                      "Thu, 01 Jan 2023 00:00:00",
                                      "Thu, 0x Jan 2023 00:00:00 GMT",
                                      "2023-01-01T00:00:00Z",
                                      "Thu,",
                                      ",",
                                      ""};
    double t = 5;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(sr_http_date(TEXT(bad[i]), &t), -1);
    CHECK_INT(t, 5);
}

TEST(http_retry_after_takes_seconds_and_dates) {
    double s = -1;
    CHECK_INT(sr_http_retry_after(TEXT("0"), 1000, &s), 0);
    CHECK_INT(s, 0);
    CHECK_INT(sr_http_retry_after(TEXT(" 86400 "), 1000, &s), 0);
    CHECK_INT(s, 86400);
    CHECK_INT(sr_http_retry_after(TEXT("Sun, 06 Nov 1994 08:49:37 GMT"), 784111717, &s),
              0);
    CHECK_INT(s, 60);
    CHECK_INT(sr_http_retry_after(TEXT("Sun, 06 Nov 1994 08:49:37 GMT"), 999999999, &s),
              0);
    CHECK_INT(s, 0);
    CHECK_INT(sr_http_retry_after(TEXT("99999999999999999999999"), 0, &s), 0);
    CHECK(s > 300000000 && s < 320000000);
}

TEST(http_retry_after_refuses_other_text) {
    static const char *const bad[] = {"", "-1", "1.5", "soon", "10s", "0x10"};
    double s = 9;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(sr_http_retry_after(TEXT(bad[i]), 0, &s), -1);
    CHECK_INT(s, 9);
}

static int count_links(const char *text, const char *rel, char *last, size_t size) {
    const char *at = text, *end = text + strlen(text);
    sr_http_link link;
    int n = 0;
    while (sr_http_next_link(&at, end, &link))
        if (sr_http_link_is(&link, rel)) {
            snprintf(last, size, "%.*s", (int)link.target_len, link.target);
            n++;
        }
    return n;
}

TEST(http_links_several_in_one_field) {
    char last[64];
    const char *text =
        "<https://ca/1>;rel=\"alternate\", <https://ca/2?a=1,2;3>; title=\"a, "
        "<b>\"; rel=alternate , <https://ca/dir> ; rel=\"index up\"";
    CHECK_INT(count_links(text, "alternate", last, sizeof last), 2);
    CHECK_STR(last, "https://ca/2?a=1,2;3");
    CHECK_INT(count_links(text, "index", last, sizeof last), 1);
    CHECK_INT(count_links(text, "UP", last, sizeof last), 1);
    CHECK_STR(last, "https://ca/dir");
    CHECK_INT(count_links(text, "next", last, sizeof last), 0);
}

TEST(http_links_unquoted_and_broken) {
    char last[64];
    CHECK_INT(count_links("<a>; rel=alternate;q", "alternate", last, sizeof last), 1);
    CHECK_INT(count_links("<a>; REL = \"Alternate\"", "alternate", last, sizeof last), 1);
    CHECK_INT(count_links("<a>; rel=next; rel=alternate", "alternate", last, sizeof last),
              0);
    CHECK_INT(count_links("<a>", "alternate", last, sizeof last), 0);
    CHECK_INT(count_links("<a; rel=alternate", "alternate", last, sizeof last), 0);
    CHECK_INT(count_links("<a>; rel=\"alternate", "alternate", last, sizeof last), 1);
    CHECK_INT(count_links("<a>; =; ==; rel=alternate", "alternate", last, sizeof last),
              1);
    CHECK_INT(count_links(",,, <a>;rel=x,,<b>;rel=x", "x", last, sizeof last), 2);
    CHECK_INT(count_links("<a>; title=\"\\", "x", last, sizeof last), 0);
}

TEST(http_media_type_is_lowered_and_split) {
    sr_http_media m;
    CHECK_INT(sr_http_media_type(TEXT("Application/Problem+JSON; Charset=\"UTF-8\""), &m),
              0);
    CHECK_STR(m.type, "application/problem+json");
    CHECK_STR(m.charset, "utf-8");
    CHECK(sr_http_media_is_json(&m));
    CHECK_INT(sr_http_media_type(TEXT("text/html"), &m), 0);
    CHECK_STR(m.charset, "");
    CHECK(!sr_http_media_is_json(&m));
    CHECK_INT(sr_http_media_type(TEXT("json"), &m), -1);
    CHECK_INT(sr_http_media_type(TEXT("a/b c"), &m), -1);
    CHECK_INT(sr_http_media_type(TEXT(""), &m), -1);
}

TEST(http_url_is_normalised_and_stripped_of_user) {
    sr_http_url u = {0};
    sr_err err = {0};
    const char *text = "HTTPS://user:p%40ss@WWW.Example.COM:443/a/../b?token=1#frag";
    CHECK_INT(sr_http_url_parse(TEXT(text), &u, &err), 0);
    CHECK_STR(u.host, "www.example.com");
    CHECK_STR(u.peer, "www.example.com:443");
    CHECK_STR(u.shown, "https://www.example.com/b");
    CHECK_STR(u.user, "user");
    CHECK_STR(u.password, "p@ss");
    CHECK(u.https && u.port == 443);
    CHECK(!strstr(u.text, "user") && !strstr(u.text, "frag") &&
          strstr(u.text, "token=1"));
    sr_http_url_free(&u);
    sr_http_url_free(&u);
}

TEST(http_url_hosts_of_every_shape) {
    static const char *const cases[][2] = {
        {"http://[::1]:8080/", "[::1]:8080"},
        {"http://127.1/", "127.0.0.1:80"},
        {"http://0x7f000001/", "127.0.0.1:80"},
        {"http://2130706433/", "127.0.0.1:80"},
        {"http://example.com./", "example.com:80"},
        {"http://b\xc3\xbc.example/", NULL},
        {"http://XN--bcher-KVA.example/", "xn--bcher-kva.example:80"},
        {"http://a@b@example.com/", NULL},
        {"http:///path", NULL},
        {"http://example.com:0/", NULL},
        {"http://example.com:99999/", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sr_http_url u = {0};
        sr_err err = {0};
        int rc = sr_http_url_parse(TEXT(cases[i][0]), &u, &err);
        if (rc == 0 && cases[i][1]) CHECK_STR(u.peer, cases[i][1]);
        if (rc != 0 && cases[i][1]) CHECK_STR(cases[i][0], err.message);
        if (rc == 0 && !cases[i][1]) CHECK_STR(u.host, "example.com");
        sr_http_url_free(&u);
    }
}

TEST(http_url_refuses_what_is_no_web_address) {
    static const char *const bad[] = {"",
                                      "example.com/x",
                                      "http:/example.com/",
                                      "ftp://example.com/",
                                      "file:///etc/passwd",
                                      "http://a b/",
                                      "http://a/\r\nX: y",
                                      "http://a\\@b/",
                                      "http://",
                                      "https://example.com../",
                                      "https://example..com/",
                                      "https://.example.com/",
                                      "https://./",
                                      "https://0./",
                                      "https://127.1./",
                                      "javascript:alert(1)"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sr_http_url u = {0};
        sr_err err = {0};
        CHECK_INT(sr_http_url_parse(TEXT(bad[i]), &u, &err), -1);
        CHECK_INT(err.kind, SR_USAGE);
        CHECK(!u.text);
    }
}

TEST(http_url_joins_relative_targets) {
    static const char *const cases[][2] = {
        {"/c?x=1", "https://ca.example/c?x=1"},
        {"d", "https://ca.example/a/d"},
        {"../e", "https://ca.example/e"},
        {"//other.example/f", "https://other.example/f"},
        {"http://plain.example/", "http://plain.example/"},
        {"?q", "https://ca.example/a/b?q"},
        {"", "https://ca.example/a/b"},
    };
    sr_http_url base = {0};
    sr_err err = {0};
    CHECK_INT(sr_http_url_parse(TEXT("https://ca.example/a/b"), &base, &err), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sr_http_url u = {0};
        CHECK_INT(sr_http_url_join(&base, TEXT(cases[i][0]), &u, &err), 0);
        CHECK_STR(u.text, cases[i][1]);
        CHECK(sr_http_url_same_origin(&base, &u) ==
              (strstr(u.text, "ca.example") != NULL));
        sr_http_url_free(&u);
    }
    sr_http_url u = {0};
    CHECK_INT(sr_http_url_join(&base, TEXT("gopher://x/"), &u, &err), -1);
    CHECK_INT(err.kind, SR_PROTOCOL);
    sr_http_url_free(&base);
}

/* A fragment sends the same URL through libcurl's parser and is dropped there. */
TEST(http_url_of_the_usual_form_reads_as_libcurl_reads_it) {
    static const char *const urls[] = {"http://example.com/",
                                       "https://example.com:8443/a/b?c=d&e=f/g",
                                       "http://127.0.0.1:14000/dir",
                                       "https://a-b.c0.example/~x/y_z.html?",
                                       "http://localhost:1/",
                                       "http://10.0.0.01/",
                                       "http://1.2.3/",
                                       "http://example.com:80/",
                                       "http://example.com:080/",
                                       "http://example.com/a/../b",
                                       "http://example.com/a/./b",
                                       "http://example.com/.x",
                                       "http://a..b.example/",
                                       "http://example.com./",
                                       "http://0x7f.1/",
                                       "http://256.1.1.1/",
                                       "https://example.com:443/x",
                                       "http://-a.example/",
                                       "http://a.example/x//y?z",
                                       "http://1.example/",
                                       "http://example.com",
                                       "http://example.com?x"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        char slow[100];
        sr_http_url a = {0}, b = {0};
        sr_err err = {0};
        snprintf(slow, sizeof slow, "%s#f", urls[i]);
        int rc = sr_http_url_parse(TEXT(urls[i]), &a, &err);
        CHECK_INT(sr_http_url_parse(TEXT(slow), &b, &err), rc);
        if (rc == 0) {
            CHECK_STR(a.text, b.text);
            CHECK_STR(a.shown, b.shown);
            CHECK_STR(a.host, b.host);
            CHECK_STR(a.peer, b.peer);
            CHECK(a.https == b.https && a.port == b.port && !a.user && !b.user);
        }
        sr_http_url_free(&a);
        sr_http_url_free(&b);
    }
}

static bool is_private(const char *text) {
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        return sr_http_private_address((struct sockaddr *)&in);
    CHECK(inet_pton(AF_INET6, text, &in6.sin6_addr) == 1);
    return sr_http_private_address((struct sockaddr *)&in6);
}

TEST(http_private_addresses_in_every_disguise) {
    static const char *const inside[] = {"127.0.0.1",
                                         "0.0.0.0",
                                         "10.1.2.3",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.168.9.9",
                                         "169.254.169.254",
                                         "100.64.0.1",
                                         "224.0.0.1",
                                         "255.255.255.255",
                                         "::1",
                                         "::",
                                         "::ffff:10.0.0.1",
                                         "64:ff9b::7f00:1",
                                         "2002:7f00:1::",
                                         "fe80::1",
                                         "fd00::1",
                                         "ff02::1",
                                         "::127.0.0.1",
                                         "2001:db8::1",
                                         "fec0::1"};
    static const char *const outside[] = {
        "8.8.8.8",        "172.32.0.1",       "100.128.0.1",
        "192.0.1.1",      "2606:4700::1111",  "2002:808:808::",
        "::ffff:8.8.8.8", "64:ff9b::808:808", "2001:4860::8888"};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        if (!is_private(inside[i])) CHECK_STR(inside[i], "private");
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (is_private(outside[i])) CHECK_STR(outside[i], "public");
}

TEST(http_idempotent_methods_by_name) {
    CHECK(sr_http_idempotent("GET") && sr_http_idempotent("DELETE"));
    CHECK(!sr_http_idempotent("POST") && !sr_http_idempotent("PATCH"));
    CHECK(!sr_http_idempotent("get"));
}
