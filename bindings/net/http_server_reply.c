/* http_server_reply.c – an answer: its fields checked, its body a string, a file or a
 * stream.
 *
 * Owns the response until libmicrohttpd takes it in the next run. A stream's bytes wait
 * in a bounded buffer: libmicrohttpd's reader takes from it, and suspends the connection
 * when it is empty; the writer is told to wait when it is full.
 */
#include "http_server_int.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { HIGH = 128 * 1024, LOW = 32 * 1024, BLOCK = 16 * 1024 };

/* ------------------------------------------------------------------ fields */

/* IMF-fixdate (RFC 9110, 5.6.7), from our clock and in no locale. */
static void http_date(double now, char out[32]) {
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)now;
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    snprintf(out, 32, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday % 7],
             tm.tm_mday % 100, months[tm.tm_mon % 12], (tm.tm_year + 1900) % 10000,
             tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
}

/* Fields that say how the message is framed or when it was made are the server's. */
static bool is_reserved(const sr_http_field *field) {
    static const char *const names[] = {"Content-Length", "Transfer-Encoding", "Trailer",
                                        "Upgrade",        "Keep-Alive",        "Date"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sr_http_field_is(field, names[i])) return true;
    return false;
}

static int check_field(const sr_http_field *field, sr_err *err) {
    int shown = field->name_len < 64 ? (int)field->name_len : 64;
    if (!sr_http_is_token(field->name, field->name_len))
        return sr_fail(err, SR_USAGE, NULL, "response header name \"%.*s\" is no token",
                       shown, field->name);
    if (!sr_http_is_value(field->value, field->value_len))
        return sr_fail(err, SR_USAGE, NULL,
                       "response header %.*s holds a line break or another control "
                       "character; encode it first",
                       shown, field->name);
    if (is_reserved(field))
        return sr_fail(err, SR_USAGE, NULL, "response header %.*s is set by the server",
                       shown, field->name);
    return 0;
}

static int check_answer(const sr_httpd_answer *answer, sr_err *err) {
    size_t total = 0;
    if (answer->status < 200 || answer->status > 599)
        return sr_fail(err, SR_USAGE, NULL, "response status %u: 200 to 599 are possible",
                       answer->status);
    for (size_t i = 0; i < answer->field_count; i++) {
        if (check_field(&answer->fields[i], err) != 0) return -1;
        total += answer->fields[i].name_len + answer->fields[i].value_len + 4;
    }
    if (total > SR_HTTPD_REPLY_HEADERS_MAX)
        return sr_fail(err, SR_LIMIT, NULL,
                       "the response header fields have over %d bytes",
                       SR_HTTPD_REPLY_HEADERS_MAX);
    return 0;
}

static bool has(const sr_httpd_answer *answer, const char *name) {
    for (size_t i = 0; i < answer->field_count; i++)
        if (sr_http_field_is(&answer->fields[i], name)) return true;
    return false;
}

static void add_standard(sr_httpd *server, struct MHD_Response *response) {
    char date[32];
    http_date(sr_now(server->loop), date);
    MHD_add_response_header(response, "Date", date);
    if (server->config.server_header)
        MHD_add_response_header(response, "Server", "secrun");
}

static int add_fields(sr_httpd *server, struct MHD_Response *response,
                      const sr_httpd_answer *answer, sr_err *err) {
    add_standard(server, response);
    if (!has(answer, "Content-Type") && answer->status != 204 && answer->status != 304)
        MHD_add_response_header(response, "Content-Type", "text/plain; charset=utf-8");
    if (!has(answer, "X-Content-Type-Options"))
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (server->draining) MHD_add_response_header(response, "Connection", "close");
    for (size_t i = 0; i < answer->field_count; i++) {
        const sr_http_field *field = &answer->fields[i];
        if (MHD_add_response_header(response, field->name, field->value) != MHD_YES)
            return sr_fail(err, SR_USAGE, NULL,
                           "response header %s: \"%s\" is not possible", field->name,
                           field->value);
    }
    return 0;
}

struct MHD_Response *sr_httpd_reply_plain(sr_httpd *server, const char *text,
                                          const char *extra_name,
                                          const char *extra_value) {
    struct MHD_Response *response = MHD_create_response_from_buffer(
        strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    if (!response) return NULL;
    add_standard(server, response);
    MHD_add_response_header(response, "Content-Type", "text/plain; charset=utf-8");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (extra_name) MHD_add_response_header(response, extra_name, extra_value);
    return response;
}

/* ------------------------------------------------------------------ streams */

static void tell_ready(sr_httpd_request *req) {
    if (!req->stream.full) return;
    req->stream.full = false;
    if (req->stream.ready) req->stream.ready(req->stream.arg);
}

/* libmicrohttpd wants up to max bytes of the body. */
static ssize_t read_stream(void *cls, uint64_t pos, char *out, size_t max) {
    sr_httpd_request *req = cls;
    sr_buf *pending = &req->stream.pending;
    (void)pos;
    if (req->stream.broken || req->aborted) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (pending->len) {
        size_t len = pending->len < max ? pending->len : max;
        memcpy(out, pending->data, len);
        memmove(pending->data, pending->data + len, pending->len - len);
        pending->len -= len;
        if (pending->len < LOW) tell_ready(req);
        return (ssize_t)len;
    }
    if (req->stream.finished) return MHD_CONTENT_READER_END_OF_STREAM;
    if (!req->conn) return MHD_CONTENT_READER_END_WITH_ERROR;
    MHD_suspend_connection(req->conn->mhd);
    req->suspended = true;
    return 0;
}

static void release_stream(void *cls) {
    sr_httpd_request_unref(cls);
}

int sr_httpd_stream_write(sr_httpd_request *req, const void *data, size_t len,
                          bool *ret_full, sr_err *err) {
    sr_buf *pending = &req->stream.pending;
    if (!req->stream.used || req->stream.finished)
        return sr_fail(err, SR_USAGE, NULL, "this response has no body to write to");
    if (req->gone || !req->conn)
        return sr_fail(err, SR_CONNECT, "EPIPE", "the client went away");
    if (sr_buf_append(pending, data, len) != 0)
        return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for the response body");
    sr_httpd_request_resume(req);
    sr_httpd_run(req->server);
    req->stream.full = pending->len > HIGH && !req->gone && req->conn;
    *ret_full = req->stream.full;
    return 0;
}

bool sr_httpd_stream_ready(const sr_httpd_request *req) {
    return !req->stream.full || req->gone || !req->conn;
}

void sr_httpd_stream_notify(sr_httpd_request *req, void (*ready)(void *arg), void *arg) {
    req->stream.ready = ready;
    req->stream.arg = arg;
}

void sr_httpd_stream_end(sr_httpd_request *req, bool broken) {
    if (!req->stream.used || req->stream.finished) return;
    req->stream.finished = true;
    req->stream.broken |= broken;
    sr_httpd_request_resume(req);
    sr_httpd_run(req->server);
}

/* ------------------------------------------------------------------ answering */

/* Without a length libmicrohttpd (0.9.75) ends even a HEAD response with an empty chunk;
 * as for HTTP/1.0 it closes instead. */
static struct MHD_Response *make_stream(sr_httpd_request *req) {
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, BLOCK, read_stream, req, release_stream);
    if (!response) return NULL;
    sr_httpd_request_ref(req); /* the response's */
    req->stream.used = true;
    if (strcmp(req->method, "HEAD") == 0)
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    return response;
}

static struct MHD_Response *make_response(sr_httpd_request *req,
                                          const sr_httpd_answer *answer) {
    switch (answer->kind) {
    case SR_HTTPD_FILE:
        return MHD_create_response_from_fd64(answer->file_size, answer->fd);
    case SR_HTTPD_STREAM: return make_stream(req);
    case SR_HTTPD_BYTES: break;
    }
    return MHD_create_response_from_buffer(
        answer->bytes.len, (void *)(uintptr_t)answer->bytes.data, MHD_RESPMEM_MUST_COPY);
}

int sr_httpd_respond(sr_httpd_request *req, const sr_httpd_answer *answer, sr_err *err) {
    struct MHD_Response *response = NULL;
    bool taken = false;
    int rc = -1;
    if (req->stage == REQ_ANSWERED) {
        sr_fail(err, SR_USAGE, NULL, "this request was answered before");
        goto out;
    }
    if (check_answer(answer, err) != 0) goto out;
    if (req->gone || !req->conn) {
        req->stage = REQ_ANSWERED;
        rc = 0;
        goto out;
    }
    response = make_response(req, answer);
    if (!response) {
        sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for the response");
        goto out;
    }
    taken = true;
    if (add_fields(req->server, response, answer, err) != 0) goto out;
    req->status = answer->status;
    req->response = response;
    response = NULL;
    req->stage = REQ_ANSWERED;
    sr_httpd_conn_deadline(req->conn, HTTP_REPLY);
    sr_httpd_request_resume(req);
    sr_httpd_run(req->server);
    rc = 0;
out:
    if (response) {
        req->stream.used = false;
        MHD_destroy_response(response);
    }
    if (answer->kind == SR_HTTPD_FILE && !taken) close(answer->fd);
    return rc;
}
