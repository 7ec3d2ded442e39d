/* acme_msg_test.c – what a CA says is checked before anything believes it. */
#include "acme/acme_msg.h"

#include <stdlib.h>

#include "unit.h"

#define DIRECTORY "https://ca.example/dir"
#define TOKEN "DGyRejmCefe7v4NfDGDKfA-_DGyRejmCefe7v4NfDGDKfA"
#define ORDER_HEAD                                                                       \
    "\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.example\"}],"                      \
    "\"finalize\":\"https://ca.example/f/1\""

static sr_err failure;

static cJSON *parse(const sr_acme_shape *shape, const char *text) {
    cJSON *doc = NULL;
    failure = (sr_err){0};
    if (sr_acme_parse(shape, text, strlen(text), "https://ca.example/x", DIRECTORY, &doc,
                      &failure) != 0)
        return NULL;
    return doc;
}

static bool accepts(const sr_acme_shape *shape, const char *text) {
    cJSON *doc = parse(shape, text);
    cJSON_Delete(doc);
    return doc != NULL;
}

/* The text is refused, and the reason names `word`. */
static bool refuses(const sr_acme_shape *shape, const char *text, const char *word) {
    if (accepts(shape, text)) return false;
    return strstr(failure.message, word) != NULL;
}

TEST(acme_directory_with_extra_keys_and_null_meta_is_read) {
    CHECK(accepts(&sr_acme_directory,
                  "{\"newNonce\":\"https://ca.example/n\",\"xyz\":\"random\","
                  "\"newAccount\":\"https://ca.example/a\",\"meta\":null,"
                  "\"newOrder\":\"https://ca.example/o\"}"));
}

TEST(acme_directory_without_new_order_is_refused_by_name) {
    CHECK(refuses(&sr_acme_directory,
                  "{\"newNonce\":\"https://ca.example/n\","
                  "\"newAccount\":\"https://ca.example/a\"}",
                  "\"newOrder\" is missing"));
    CHECK_INT(failure.kind, SR_PROTOCOL);
}

TEST(acme_malformed_meta_is_dropped_not_fatal) {
    cJSON *doc = parse(&sr_acme_directory,
                       "{\"newNonce\":\"https://ca.example/n\",\"meta\":{\"website\":7,"
                       "\"externalAccountRequired\":true},"
                       "\"newAccount\":\"https://ca.example/a\","
                       "\"newOrder\":\"https://ca.example/o\"}");
    CHECK(doc);
    cJSON *meta = cJSON_GetObjectItemCaseSensitive(doc, "meta");
    bool website = cJSON_HasObjectItem(meta, "website");
    bool eab =
        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(meta, "externalAccountRequired"));
    cJSON_Delete(doc);
    CHECK(!website);
    CHECK(eab);
}

TEST(acme_html_and_truncated_json_are_refused) {
    CHECK(refuses(&sr_acme_order, "<html><body>busy</body></html>", "order from"));
    CHECK(refuses(&sr_acme_order, "{\"status\":\"pending\",", "order from"));
    CHECK(!accepts(&sr_acme_order, ""));
    CHECK(!accepts(&sr_acme_order, "[]"));
    CHECK(!accepts(&sr_acme_order, "{} {}"));
}

TEST(acme_document_beyond_the_limit_is_refused) {
    size_t len = SR_ACME_DOC_MAX + 1;
    char *big = malloc(len + 1);
    memset(big, ' ', len);
    big[len] = 0;
    CHECK(!accepts(&sr_acme_order, big));
    free(big);
    CHECK_INT(failure.kind, SR_LIMIT);
}

TEST(acme_order_with_empty_authorizations_is_read) {
    CHECK(accepts(&sr_acme_order,
                  "{\"status\":\"ready\",\"authorizations\":[]," ORDER_HEAD "}"));
    CHECK(accepts(&sr_acme_order,
                  "{\"status\":\"ready\",\"authorizations\":null," ORDER_HEAD "}"));
}

TEST(acme_order_of_unknown_status_is_refused) {
    CHECK(
        refuses(&sr_acme_order, "{\"status\":\"val\"," ORDER_HEAD "}", "status \"val\""));
    CHECK(refuses(&sr_acme_order, "{\"status\":\"\"," ORDER_HEAD "}", "status"));
}

TEST(acme_valid_order_needs_its_certificate_url) {
    CHECK(refuses(&sr_acme_order, "{\"status\":\"valid\"," ORDER_HEAD "}",
                  "no certificate URL"));
    CHECK(accepts(&sr_acme_order, "{\"status\":\"valid\",\"certificate\":"
                                  "\"https://ca.example/c\"," ORDER_HEAD "}"));
    CHECK(accepts(&sr_acme_order,
                  "{\"status\":\"pending\",\"certificate\":\"\"," ORDER_HEAD "}"));
}

TEST(acme_urls_from_the_ca_are_https_and_public) {
    static const char *const bad[] = {"http://ca.example/o",
                                      "ftp://ca.example/o",
                                      "/o",
                                      "https://127.0.0.1/o",
                                      "https://10.1.2.3/o",
                                      "https://192.168.0.1/o",
                                      "https://169.254.169.254/o",
                                      "https://[::1]/o",
                                      "https://[fe80::1]/o",
                                      "https://[::ffff:10.0.0.1]/o",
                                      "https://localhost/o",
                                      "https://user@ca.example/o",
                                      "https://ca.example/o#x",
                                      "https://ca.example/a b",
                                      "https://ca.example/a\"b",
                                      "https://0x7f000001/o",
                                      "https://2130706433/o",
                                      "",
                                      "https:///o"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sr_err err = {0};
        if (sr_acme_check_url(bad[i], DIRECTORY, &err) == 0)
            unit_fail(__FILE__, __LINE__, "accepted %s", bad[i]);
        CHECK_INT(err.kind, SR_PROTOCOL);
    }
    sr_err err = {0};
    CHECK(sr_acme_check_url("https://other.example:8443/o?x=1", DIRECTORY, &err) == 0);
}

TEST(acme_private_addresses_are_fine_for_a_private_ca) {
    sr_err err = {0};
    CHECK(sr_acme_check_url("https://10.9.9.9/o", "https://10.0.0.1/dir", &err) == 0);
    CHECK(sr_acme_check_url("http://127.0.0.1:80/o", "http://127.0.0.1:4000/", &err) ==
          0);
    CHECK(sr_acme_check_url("http://10.0.0.1/o", "https://10.0.0.1/dir", &err) != 0);
}

TEST(acme_directory_url_is_https_unless_loopback) {
    sr_err err = {0};
    CHECK(sr_acme_check_directory_url("https://ca.example", &err) == 0);
    CHECK(sr_acme_check_directory_url("http://127.0.0.1:14000/dir", &err) == 0);
    CHECK(sr_acme_check_directory_url("http://localhost/dir", &err) == 0);
    CHECK(sr_acme_check_directory_url("http://ca.example/dir", &err) != 0);
    CHECK_INT(err.kind, SR_USAGE);
}

TEST(acme_token_is_base64url_of_bounded_length) {
    CHECK(sr_acme_token_ok(TOKEN, strlen(TOKEN)));
    CHECK(!sr_acme_token_ok("short", 5));
    CHECK(!sr_acme_token_ok("../../../../etc/passwd-aaaaaaaa", 31));
    CHECK(!sr_acme_token_ok("DGyRejmCefe7v4NfDGDKfA==", 24));
    CHECK(!sr_acme_token_ok("DGyRejmCefe7v4NfDGDKf\0aaa", 25));
    CHECK(!sr_acme_token_ok("$(reboot)DGyRejmCefe7v4NfD", 26));
    char longer[200];
    memset(longer, 'a', sizeof longer);
    CHECK(sr_acme_token_ok(longer, 128));
    CHECK(!sr_acme_token_ok(longer, 129));
}

TEST(acme_challenge_with_a_path_as_token_is_refused) {
    CHECK(refuses(&sr_acme_challenge,
                  "{\"type\":\"http-01\",\"url\":\"https://ca.example/c\","
                  "\"status\":\"pending\",\"token\":\"../../../../etc/cron.d/evil-x\"}",
                  "token"));
    CHECK(refuses(&sr_acme_challenge,
                  "{\"type\":\"http-01\",\"url\":\"https://ca.example/c\","
                  "\"status\":\"pending\"}",
                  "without a token"));
    CHECK(accepts(&sr_acme_challenge,
                  "{\"type\":\"x-99\",\"url\":\"https://ca.example/c\","
                  "\"status\":\"processing\"}"));
}

TEST(acme_times_are_utc_seconds) {
    int64_t t = 0;
    CHECK(sr_acme_parse_time("1970-01-01T00:00:00Z", &t) == 0);
    CHECK_INT(t, 0);
    CHECK(sr_acme_parse_time("2026-11-23T17:31:06.25Z", &t) == 0);
    CHECK_INT(t, 1795455066);
    CHECK(sr_acme_parse_time("2024-02-29T23:59:60+01:30", &t) == 0);
    CHECK_INT(t, 1709245800);
    CHECK(sr_acme_parse_time("2016-01-02t03:04:05z", &t) == 0);
    CHECK(sr_acme_parse_time("2016-13-02T03:04:05Z", &t) != 0);
    CHECK(sr_acme_parse_time("2016-01-02 03:04:05Z", &t) != 0);
    CHECK(sr_acme_parse_time("2016-01-02T03:04:05", &t) != 0);
    CHECK(sr_acme_parse_time("tomorrow", &t) != 0);
    CHECK(sr_acme_parse_time("", &t) != 0);
}

static int add(sr_acme_names *names, const char *name) {
    failure = (sr_err){0};
    return sr_acme_names_add(names, name, strlen(name), &failure);
}

TEST(acme_names_compare_as_lower_case_sets) {
    sr_acme_names a = {0}, b = {0};
    CHECK(add(&a, "WWW.Example.COM.") == 0 && add(&a, "example.com") == 0);
    CHECK(add(&a, "*.example.com") == 0 && add(&a, "2001:DB8:0::1") == 0);
    CHECK(add(&b, "2001:db8::1") == 0 && add(&b, "*.example.com") == 0);
    CHECK(add(&b, "example.com") == 0 && add(&b, "www.example.com") == 0);
    CHECK(add(&b, "EXAMPLE.com") == 0);
    sr_acme_names_finish(&a);
    sr_acme_names_finish(&b);
    CHECK_INT(b.count, 4);
    CHECK(sr_acme_names_equal(&a, &b));
    sr_acme_names_free(&b);
    CHECK(!sr_acme_names_equal(&a, &b));
    sr_acme_names_free(&a);
}

TEST(acme_what_cannot_be_an_identifier_is_refused) {
    static const char *const bad[] = {
        "",           ".",           "a..b",
        "-a.example", "a b.example", "a/../b",
        "*.*.x",      "w.*.x",       "a_b.example",
        "1.2.3",      "1.2.3.400",   "m\xc3\xbcller.example",
        "a.123"};
    sr_acme_names names = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (add(&names, bad[i]) == 0)
            unit_fail(__FILE__, __LINE__, "accepted \"%s\"", bad[i]);
        CHECK_INT(failure.kind, SR_USAGE);
    }
    sr_acme_names_free(&names);
}

static int explain(int status, const char *type, const char *body) {
    sr_acme_answer answer = {.what = "newOrder https://ca.example/o",
                             .status = status,
                             .content_type = type,
                             .body = body,
                             .len = strlen(body)};
    failure = (sr_err){0};
    return sr_acme_explain(&answer, NULL, &failure);
}

TEST(acme_problem_names_each_identifier) {
    CHECK(
        explain(403, "application/problem+json",
                "{\"type\":\"urn:ietf:params:acme:error:rejectedIdentifier\","
                "\"detail\":\"not these\",\"subproblems\":[{"
                "\"type\":\"urn:ietf:params:acme:error:caa\",\"detail\":\"CAA forbids\","
                "\"identifier\":{\"type\":\"dns\",\"value\":\"b.example\"}}]}") == -1);
    CHECK_INT(failure.kind, SR_DENIED);
    CHECK_INT(failure.status, 403);
    CHECK_STR(failure.code, "urn:ietf:params:acme:error:rejectedIdentifier");
    CHECK(strstr(failure.message, "not these (b.example: caa: CAA forbids)"));
}

TEST(acme_rate_limit_is_retryable) {
    explain(429, "application/problem+json",
            "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"slow\"}");
    CHECK_INT(failure.kind, SR_RATE_LIMITED);
    CHECK(failure.retryable);
}

TEST(acme_html_from_a_proxy_keeps_its_status_and_title) {
    explain(502, "text/html; charset=utf-8",
            "<html><head><TITLE> 502 Bad Gateway </TITLE></head></html>");
    CHECK_INT(failure.status, 502);
    CHECK(failure.retryable);
    CHECK(strstr(failure.message, "502 Bad Gateway"));
    explain(429, "Text/HTML", "<html></html>");
    CHECK_INT(failure.kind, SR_RATE_LIMITED);
    explain(503, NULL, "");
    CHECK(strstr(failure.message, "empty answer"));
}

TEST(acme_401_counts_as_refusal) {
    explain(401, "application/problem+json", "{\"detail\":\"who are you\"}");
    CHECK_INT(failure.kind, SR_AUTH);
    CHECK(strstr(failure.message, "who are you"));
}

TEST(acme_problem_of_unknown_type_and_odd_fields_is_still_shown) {
    explain(400, "APPLICATION/Problem+JSON; charset=UTF-8",
            "{\"type\":\"https://ca.example/odd\",\"detail\":\"went wrong\","
            "\"status\":\"four\",\"subproblems\":{}}");
    CHECK_STR(failure.code, "https://ca.example/odd");
    CHECK(strstr(failure.message, "went wrong"));
    CHECK_INT(failure.status, 400);
}

TEST(acme_problem_cannot_write_control_characters) {
    explain(400, "application/problem+json",
            "{\"type\":\"urn:ietf:params:acme:error:malformed\","
            "\"detail\":\"a\\u001b[31m\\nb\"}");
    CHECK(!strchr(failure.message, '\033'));
    CHECK(!strchr(failure.message, '\n'));
}
