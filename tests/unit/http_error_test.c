/* http_error_test.c – what becomes of libcurl's codes and of HTTP statuses. */
#include "net/http_client.h"
#include "unit.h"

static void fail(sr_err *err, const char *method, CURLcode code, bool sent, long verify) {
    sr_http_request *req = sr_http_request_new();
    sr_http_failure failure = {code, "libcurl's own words", verify, sent,
                               "the test's CAs"};
    CHECK(req && sr_http_request_method(req, method, err) == 0);
    CHECK_INT(sr_http_request_url(req, "https://ca.example/p?token=1", 28, err), 0);
    CHECK_INT(sr_http_fail(err, req, &failure), -1);
    sr_http_request_free(req);
}

TEST(http_every_curl_code_has_a_kind_and_a_retry_rule) {
    for (int code = 1; code < CURL_LAST; code++) {
        sr_err err = {0};
        fail(&err, "GET", (CURLcode)code, true, 0);
        CHECK(err.kind != SR_NONE);
        CHECK(strncmp(err.code, "CURLE_", 6) == 0);
        CHECK(strstr(err.message, "ca.example:443") != NULL);
        CHECK(strstr(err.message, "token") == NULL && strstr(err.op, "token") == NULL);
    }
}

TEST(http_failures_before_sending_are_retryable_for_every_method) {
    sr_err err = {0};
    fail(&err, "POST", CURLE_COULDNT_CONNECT, false, 0);
    CHECK(err.kind == SR_CONNECT && err.retryable);
    fail(&err, "POST", CURLE_RECV_ERROR, true, 0);
    CHECK(err.kind == SR_IO && !err.retryable);
    fail(&err, "PUT", CURLE_RECV_ERROR, true, 0);
    CHECK(err.retryable);
    fail(&err, "GET", CURLE_SEND_FAIL_REWIND, true, 0);
    CHECK(!err.retryable);
}

TEST(http_refused_certificates_name_reason_and_ca_set) {
    sr_err err = {0};
    fail(&err, "GET", CURLE_PEER_FAILED_VERIFICATION, false, 10);
    CHECK(err.kind == SR_TLS && !err.retryable);
    CHECK_STR(err.code, "CURLE_PEER_FAILED_VERIFICATION");
    CHECK(strstr(err.message, "libcurl's own words") &&
          strstr(err.message, "the test's CAs"));
    CHECK_STR(err.op, "GET https://ca.example/p");
}

static void answer(sr_err *err, int status, bool idempotent, const char *head,
                   const char *body) {
    sr_http_fail_status(err, "POST", "https://ca.example/p", status, head, strlen(head),
                        body, strlen(body), idempotent, 1000);
}

TEST(http_statuses_become_kinds) {
    static const struct {
        int status;
        sr_kind kind;
        bool again, again_post;
    } cases[] = {{400, SR_HTTP, false, false},      {401, SR_AUTH, false, false},
                 {404, SR_NOT_FOUND, false, false}, {409, SR_CONFLICT, false, false},
                 {413, SR_LIMIT, false, false},     {429, SR_RATE_LIMITED, true, true},
                 {500, SR_HTTP, true, false},       {501, SR_HTTP, false, false},
                 {503, SR_HTTP, true, true},        {599, SR_HTTP, true, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sr_err err = {0};
        answer(&err, cases[i].status, true, "", "");
        CHECK_INT(err.kind, cases[i].kind);
        CHECK_INT(err.status, cases[i].status);
        CHECK_INT(err.retryable, cases[i].again);
        answer(&err, cases[i].status, false, "", "");
        CHECK_INT(err.retryable, cases[i].again_post);
    }
}

TEST(http_status_errors_quote_a_clean_piece_of_the_body) {
    sr_err err = {0};
    char body[5000];
    memset(body, 'x', sizeof body - 1);
    memcpy(body, "a\x1b[31m\r\n\t  b", 12);
    body[sizeof body - 1] = '\0';
    answer(&err, 500, true, "Retry-After: 7\r\n", body);
    CHECK(strstr(err.message, "a [31m bxxx") != NULL);
    CHECK(strlen(err.message) < 300);
    CHECK(err.has_retry_after && err.retry_after == 7);
}

TEST(http_requests_refuse_what_breaks_a_line) {
    sr_http_request *req = sr_http_request_new();
    sr_err err = {0};
    CHECK(req != NULL);
    CHECK_INT(sr_http_request_header(req, "A", "b\r\nC: d", 7, false, &err), -1);
    CHECK_INT(sr_http_request_header(req, "A\r\n", "b", 1, false, &err), -1);
    CHECK_INT(sr_http_request_header(req, "host", "b", 1, false, &err), -1);
    CHECK_INT(sr_http_request_method(req, "GET /", &err), -1);
    CHECK_INT(sr_http_request_header(req, "A", "b", 1, false, &err), 0);
    CHECK_INT(req->header_count, 1);
    CHECK_STR(req->headers[0].line, "A: b");
    CHECK(sr_http_request_has(req, "a") && !sr_http_request_has(req, "ab"));
    sr_http_request_free(req);
}

TEST(http_basic_credentials_are_encoded) {
    sr_http_request *req = sr_http_request_new();
    sr_err err = {0};
    CHECK(req != NULL);
    CHECK_INT(sr_http_request_basic(req, "Aladdin", "open sesame", 11, &err), 0);
    CHECK_STR(req->headers[0].line, "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    CHECK(req->headers[0].private);
    CHECK_INT(sr_http_request_basic(req, "a:b", "c", 1, &err), -1);
    sr_http_request_free(req);
}
