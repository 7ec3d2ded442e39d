/* http_build.c – requests of the HTTP client before they start; see http_client.h.
 *
 * Everything that a caller can put into a request line or a field goes through here, and
 * nothing that could end a line or reframe the message passes.
 */
#include "data/encoding.h"
#include "net/http_client.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { MOST_HEADERS = 200, LONGEST_VALUE = 64 << 10 };

sr_http_request *sr_http_request_new(void) {
    sr_http_request *req = calloc(1, sizeof *req);
    if (!req) return NULL;
    memcpy(req->method, "GET", 4);
    req->fd = -1;
    req->timeout = 30;
    req->connect_timeout = 10;
    req->max_body = 16 << 20;
    req->verify = true;
    req->idempotent = true;
    req->pool_total = 64;
    req->pool_host = 8;
    return req;
}

static void wipe_text(char *text) {
    if (text) sr_wipe(text, strlen(text));
    free(text);
}

void sr_http_request_free(sr_http_request *req) {
    if (!req) return;
    sr_http_url_free(&req->url);
    for (size_t i = 0; i < req->header_count; i++)
        if (req->headers[i].private)
            wipe_text(req->headers[i].line);
        else
            free(req->headers[i].line);
    free(req->headers);
    sr_buf_free(&req->bytes);
    if (req->fd >= 0) close(req->fd);
    wipe_text(req->proxy); /* may carry a password */
    free(req->no_proxy);
    free(req->resolve);
    sr_http_ca_unref(req->ca);
    sr_http_identity_unref(req->identity);
    free(req);
}

int sr_http_request_url(sr_http_request *req, const char *url, size_t len, sr_err *err) {
    sr_http_url parsed;
    if (sr_http_url_parse(url, len, &parsed, err) < 0) return -1;
    sr_http_url_free(&req->url);
    req->url = parsed;
    if (!parsed.user && !parsed.password) return 0;
    const char *password = parsed.password ? parsed.password : "";
    return sr_http_request_basic(req, parsed.user ? parsed.user : "", password,
                                 strlen(password), err);
}

int sr_http_request_method(sr_http_request *req, const char *method, sr_err *err) {
    size_t len = strlen(method);
    if (!sr_http_is_token(method, len) || len >= sizeof req->method)
        return sr_fail(err, SR_USAGE, "BAD_METHOD",
                       "method: expected a word such as GET or POST");
    if (strcmp(method, "CONNECT") == 0)
        return sr_fail(err, SR_USAGE, "BAD_METHOD", "method: CONNECT is not a request");
    memcpy(req->method, method, len + 1);
    req->idempotent = sr_http_idempotent(method);
    return 0;
}

/* Fields that frame the message or steer the connection are libcurl's alone. */
static bool is_reserved(const char *name) {
    static const char *const list[] = {
        "content-length", "transfer-encoding",   "host",    "connection", "expect", "te",
        "trailer",        "proxy-authorization", "upgrade", "keep-alive"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (strcasecmp(name, list[i]) == 0) return true;
    return false;
}

static int check_header(const sr_http_request *req, const char *name, const char *value,
                        size_t len, sr_err *err) {
    if (!sr_http_is_token(name, strlen(name)))
        return sr_fail(err, SR_USAGE, "BAD_HEADER", "headers: \"%.60s\" is no field name",
                       name);
    if (is_reserved(name))
        return sr_fail(err, SR_USAGE, "BAD_HEADER",
                       "headers: %s is set by the client itself; leave it out", name);
    if (!sr_http_is_value(value, len))
        return sr_fail(err, SR_USAGE, "BAD_HEADER",
                       "headers: the value of %s has a line break, NUL or other control",
                       name);
    if (len > LONGEST_VALUE || req->header_count >= MOST_HEADERS)
        return sr_fail(err, SR_LIMIT, "BAD_HEADER",
                       "headers: %s is one too many or too long", name);
    return 0;
}

int sr_http_request_header(sr_http_request *req, const char *name, const char *value,
                           size_t len, bool private, sr_err *err) {
    if (check_header(req, name, value, len, err) < 0) return -1;
    sr_http_header *list =
        realloc(req->headers, (req->header_count + 1) * sizeof *req->headers);
    if (!list) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a request");
    req->headers = list;
    size_t name_len = strlen(name), size = name_len + len + 3;
    char *line = malloc(size);
    if (!line) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a request");
    memcpy(line, name, name_len);
    if (len) { /* libcurl sends an empty value for "Name;" and none for "Name:" */
        memcpy(line + name_len, ": ", 2);
        memcpy(line + name_len + 2, value, len);
        line[size - 1] = '\0';
    } else {
        memcpy(line + name_len, ";", 2);
    }
    req->headers[req->header_count].line = line;
    req->headers[req->header_count++].private = private;
    return 0;
}

bool sr_http_request_has(const sr_http_request *req, const char *name) {
    size_t len = strlen(name);
    for (size_t i = 0; i < req->header_count; i++) {
        const char *line = req->headers[i].line;
        if (strncasecmp(line, name, len) == 0 && (line[len] == ':' || line[len] == ';'))
            return true;
    }
    return false;
}

int sr_http_request_basic(sr_http_request *req, const char *user, const char *password,
                          size_t len, sr_err *err) {
    if (strchr(user, ':'))
        return sr_fail(err, SR_USAGE, "BAD_AUTH",
                       "auth: a user name cannot have a colon");
    sr_buf plain = {.secret = true}, value = {.secret = true};
    sr_buf_puts(&plain, user);
    sr_buf_puts(&plain, ":");
    sr_buf_append(&plain, password, len);
    sr_buf_puts(&value, "Basic ");
    int rc = plain.oom ? sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a request")
                       : sr_base64_encode(&value, plain.data, plain.len, err);
    if (rc == 0)
        rc = sr_http_request_header(req, "Authorization", value.data, value.len, true,
                                    err);
    if (rc == 0) {
        sr_redact_add(password, len);
        sr_redact_add(value.data + 6, value.len - 6);
    }
    sr_buf_free(&plain);
    sr_buf_free(&value);
    return rc;
}
