/* scm_msg_test.c – what SCM says becomes one error, one date, one word. */
#include "scm/scm_msg.h"

#include <stdlib.h>

#include "unit.h"

static sr_err failure;
static sr_scm_reason reason;

static const sr_err *explain(const char *op, int status, const char *body) {
    sr_scm_answer answer = {
        .op = op, .host = "h", .status = status, .body = body, .len = strlen(body)};
    failure = (sr_err){0};
    sr_scm_explain(&answer, &reason, &failure);
    return &failure;
}

TEST(scm_codes_decide_over_the_status) {
    explain("ssl.enroll", 400, "{\"code\":-107,\"description\":\"x ''a'' <br>y\"}");
    CHECK_INT(failure.kind, SR_DENIED);
    CHECK_STR(failure.code, "-107");
    CHECK_INT(failure.status, 400);
    CHECK(!failure.retryable);
    CHECK_STR(reason.description, "x 'a' y");
    explain("ssl.enroll", 400, "{\"code\":\"-195\",\"description\":\"x\"}");
    CHECK(failure.retryable);
    CHECK_INT(failure.kind, SR_HTTP);
}

TEST(scm_the_same_code_means_other_things_in_other_calls) {
    explain("ssl.collect", 400, "{\"code\":-618,\"description\":\"x\"}");
    CHECK_INT(failure.kind, SR_PENDING);
    explain("discovery.start_network", 400, "{\"code\":-618,\"description\":\"x\"}");
    CHECK_INT(failure.kind, SR_CONFLICT);
    CHECK(failure.retryable);
    explain("person.find_by_email", 404, "{\"code\":-105,\"description\":\"x\"}");
    CHECK_INT(failure.kind, SR_NOT_FOUND);
    explain("ssl.renew", 400, "{\"code\":-105,\"description\":\"x\"}");
    CHECK_INT(failure.kind, SR_CONFLICT);
}

TEST(scm_zero_is_pending_only_with_its_text) {
    explain("ssl.collect", 400, "{\"code\":0,\"description\":\"Being processed by X\"}");
    CHECK_INT(failure.kind, SR_PENDING);
    CHECK(failure.retryable);
    explain("ssl.collect", 400, "{\"code\":0,\"description\":\"Something\"}");
    CHECK_INT(failure.kind, SR_HTTP);
}

TEST(scm_bodies_that_are_none_still_explain) {
    explain("ssl.get", 401, "");
    CHECK_INT(failure.kind, SR_AUTH);
    explain("ssl.get", 502, "<html><TITLE>Bad\n Gateway</title>");
    CHECK(strstr(failure.message, "Bad Gateway"));
    CHECK(failure.retryable);
    explain("ssl.get", 400, "{\"code\":");
    CHECK(strstr(failure.message, "{\"code\":"));
    explain("ssl.get", 500, "[1,2]");
    CHECK_INT(failure.kind, SR_HTTP);
    explain("ssl.get", 400, "{\"code\":7e300,\"description\":\"\\u0001\\u001b[2J\"}");
    CHECK(!strchr(failure.message, 27));
    explain("ssl.get", 400,
            "{\"code\":null,\"description\":null,\"items\":[1,\"a\",\"b\"]}");
    CHECK_STR(reason.description, "a; b");
}

TEST(scm_long_texts_are_cut_at_a_character) {
    sr_buf body = {0};
    sr_buf_puts(&body, "{\"code\":-7,\"description\":\"");
    for (int i = 0; i < 700; i++)
        sr_buf_puts(&body, "\xc3\xbc");
    sr_buf_puts(&body, "\"}");
    explain("ssl.enroll", 400, body.data);
    sr_buf_free(&body);
    size_t len = strlen(reason.description);
    CHECK(len > 900 && len % 2 == 0);
}

TEST(scm_every_code_has_meaning_and_kind) {
    int rows = 0;
    for (const sr_scm_code *row = sr_scm_codes(); row->meaning; row++, rows++) {
        CHECK(row->kind > SR_NONE && row->kind < SR_KINDS);
        CHECK((row->again == SR_SCM_PENDING) == (row->kind == SR_PENDING));
        CHECK(strlen(row->meaning) > 5);
    }
    CHECK(rows > 130);
    CHECK(!sr_scm_code_of(-424242, "ssl.get"));
}

TEST(scm_token_servers_are_found_in_www_authenticate) {
    char url[64];
    CHECK(
        sr_scm_token_url("Bearer realm=\"https://a.test/token\", x=1", url, sizeof url));
    CHECK_STR(url, "https://a.test/token");
    CHECK(sr_scm_token_url("Bearer http=1, uri=http://b/t", url, sizeof url));
    CHECK_STR(url, "http://b/t");
    CHECK(!sr_scm_token_url("Basic realm=\"SCM\"", url, sizeof url));
    CHECK(!sr_scm_token_url(NULL, url, sizeof url));
    CHECK(!sr_scm_token_url("https://", url, sizeof url));
}

TEST(scm_urls_are_https_and_no_portal) {
    CHECK(sr_scm_check_url("https://cert-manager.com", &failure) == 0);
    CHECK(sr_scm_check_url("https://proxy.test/scm/", &failure) == 0);
    CHECK(sr_scm_check_url("http://127.0.0.1:8080", &failure) == 0);
    CHECK(sr_scm_check_url("http://[::1]:8080", &failure) == 0);
    CHECK(sr_scm_check_url("http://127.0.0.1.evil.test", &failure) == -1);
    CHECK(sr_scm_check_url("http://cert-manager.com", &failure) == -1);
    CHECK(sr_scm_check_url("cert-manager.com", &failure) == -1);
    CHECK(sr_scm_check_url("https://", &failure) == -1);
    CHECK(sr_scm_check_url("https://u:p@h", &failure) == -1);
    CHECK(sr_scm_check_url("https://h/?a", &failure) == -1);
    CHECK(sr_scm_check_url("https://h/api", &failure) == -1);
    CHECK(sr_scm_check_url("https://h/customer/x", &failure) == -1);
    CHECK(strstr(failure.message, "customer_uri"));
}

TEST(scm_nulls_are_taken_out_of_objects) {
    cJSON *doc = cJSON_Parse("{\"a\":null,\"b\":[null,{\"c\":null,\"d\":1}],\"e\":null}");
    sr_scm_prune(doc);
    char *text = cJSON_PrintUnformatted(doc);
    bool same = strcmp(text, "{\"b\":[null,{\"d\":1}]}") == 0;
    free(text);
    cJSON_Delete(doc);
    CHECK(same);
}

/* ---------------------------------------------------------------- dates */

static double date(const char *text, const char *format) {
    double seconds = -1;
    if (sr_scm_date(text, strlen(text), format, &seconds, &failure) != 0) return -1;
    return seconds;
}

TEST(scm_dates_are_read_in_every_form) {
    const double day = 1747785600; /* 2025-05-21 */
    const double noon = day + 12 * 3600 + 24 * 60 + 27;
    CHECK(date("2025-05-21", NULL) == day);
    CHECK(date("05/21/2025", NULL) == day);
    CHECK(date("2025/05/21", NULL) == day);
    CHECK(date("21.05.2025", NULL) == day);
    CHECK(date("21/05/2025", "UK") == day);
    CHECK(date("2025-05-21 12:24:27", NULL) == noon);
    CHECK(date("2025-05-21T12:24:27.500Z", NULL) == noon + 0.5);
    CHECK(date("2025-05-21T12:24:27.500000Z", NULL) == noon + 0.5);
    CHECK(date("2025-05-21T14:24:27+02:00", NULL) == noon);
    CHECK(date("2025-05-21T12:24:27.0+0000", NULL) == noon);
    CHECK(date("05/21/2025 12:24:27 GMT", NULL) == noon);
    CHECK(date("21.05.2025 12:24:27", "EU_HMS") == noon);
    CHECK(date("02/29/2024", NULL) > 0);
}

TEST(scm_what_is_no_date_is_refused) {
    static const char *const bad[] = {"",
                                      "2025",
                                      "2025-13-01",
                                      "2025-02-29",
                                      "2025-05-21T",
                                      "2025-05-21X12:00:00",
                                      "2025-05-21 25:00:00",
                                      "2025-05-21 12:60:00",
                                      "2025-05-21 12:00:00 CET",
                                      "21/05/2025",
                                      "2025-05-21T12:00:00+99:00",
                                      "0000-01-01",
                                      "2025-05-21 12:00:00.",
                                      "2025-05-211"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(date(bad[i], NULL) == -1);
    CHECK(date("2025-05-21", "US") == -1);
    CHECK(date("2025-05-21", "XX") == -1);
    CHECK_INT(failure.kind, SR_USAGE);
}

static bool round_trip(double seconds, const char *format) {
    sr_buf out = {0};
    double back = -1;
    int rc = sr_scm_date_text(seconds, format, &out, &failure);
    if (rc == 0) rc = sr_scm_date(out.data, out.len, format, &back, &failure);
    sr_buf_free(&out);
    return rc == 0 && back == seconds;
}

TEST(scm_dates_are_written_as_they_are_read) {
    static const char *const forms[] = {"ISO", "EU", "US", "UK", "JP"};
    static const char *const timed[] = {"iso_hms", "EU_HMS", "US_HMS", "UK_HMS",
                                        "JP_HMS"};
    for (int day = 0; day < 80000; day += 13)
        for (size_t i = 0; i < 5; i++) {
            CHECK(round_trip(day * 86400.0, forms[i]));
            CHECK(round_trip(day * 86400.0 + 86399, timed[i]));
        }
}

/* ---------------------------------------------------------------- words */

TEST(scm_statuses_are_known_in_every_spelling) {
    sr_scm_state state;
    CHECK_STR(sr_scm_status("SA Approved", &state), "SAApproved");
    CHECK(state == SR_SCM_OPEN);
    CHECK_STR(sr_scm_status("enrolled - pending download", &state), "Issued");
    CHECK(state == SR_SCM_ISSUED);
    CHECK_STR(sr_scm_status("DECLINED", &state), "Declined");
    CHECK(state == SR_SCM_DEAD);
    CHECK_STR(sr_scm_status("Revoked", &state), "Revoked");
    CHECK(state == SR_SCM_GONE);
    CHECK(!sr_scm_status("", &state));
    CHECK(!sr_scm_status("Issuedd", &state));
}

TEST(scm_filters_are_spelt_as_the_face_wants) {
    const char *word = NULL;
    CHECK(sr_scm_word("ssl.requestedVia", "web api", false, &word, &failure) == 0);
    CHECK_STR(word, "API");
    CHECK(sr_scm_word("ssl.requestedVia", "API", true, &word, &failure) == 0);
    CHECK_STR(word, "Web API");
    CHECK(sr_scm_word("dcv.orderStatus", "not initiated", false, &word, &failure) == 0);
    CHECK_STR(word, "NOT_INITIATED");
    CHECK(sr_scm_word("ssl.commonName", "x", true, &word, &failure) == 0);
    CHECK_STR(word, "x");
    CHECK(sr_scm_word("ssl.status", "isued", true, &word, &failure) == -1);
    CHECK(strstr(failure.message, "Issued"));
}

TEST(scm_server_types_have_codes) {
    int code = 0;
    CHECK(sr_scm_server_type("apache / modssl", &code, &failure) == 0);
    CHECK_INT(code, 2);
    CHECK(sr_scm_server_type("other", &code, &failure) == 0);
    CHECK_INT(code, -1);
    CHECK(sr_scm_server_type("Tomcatt", &code, &failure) == -1);
    CHECK(strstr(failure.message, "Tomcat"));
}

/* ---------------------------------------------------------------- comments */

static int comment(const char *text, const char *key) {
    sr_buf out = {0};
    int rc = sr_scm_comment(text, strlen(text), key, &out, &failure);
    bool found = rc == 0 && sr_scm_has_key(out.data, out.len, key);
    sr_buf_free(&out);
    return found ? 0 : -1;
}

TEST(scm_a_comment_carries_the_key_within_its_length) {
    char text[1100];
    memset(text, 'x', sizeof text);
    CHECK(comment("", "k-1") == 0);
    CHECK(comment("for the shop", "a.b_c:d-9") == 0);
    text[1024 - strlen(" [secrun:k-1]")] = '\0';
    CHECK(comment(text, "k-1") == 0);
    text[1024 - strlen(" [secrun:k-1]")] = 'x';
    text[1025 - strlen(" [secrun:k-1]")] = '\0';
    CHECK(comment(text, "k-1") == -1);
    CHECK(strstr(failure.message, "shorten the comment by 1"));
}

TEST(scm_keys_are_of_a_small_alphabet) {
    CHECK(comment("", "") == -1);
    CHECK(comment("", "a]b") == -1);
    CHECK(comment("", "a b") == -1);
    CHECK(!sr_scm_has_key("x [secrun:ab]", 13, "a"));
    CHECK(!sr_scm_has_key("x [secrun:ab", 12, "ab"));
    CHECK(sr_scm_has_key("[secrun:ab] and more", 20, "ab"));
}
