/* http_server_request.c – from libmicrohttpd's callbacks to a whole, checked request in a
 * queue.
 *
 * libmicrohttpd calls begin (request line), handle (once with the header section, then
 * for each piece of the body, then once at the end, and again after each resumption) and
 * completed. A whole request is suspended and queued. What it lets pass is checked here:
 * Host, contradicting lengths (RFC 9112, 6.3: request smuggling), field syntax, sizes.
 *
 * A request is shared by its connection, the queue and the owner; `conn` is NULL once the
 * connection is through with it.
 */
#include "http_server_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Bodies of all requests together, as a multiple of the largest single one; beyond it a
 * request is turned away with 503. */
enum { BODIES = 64 };

/* ------------------------------------------------------------------ references */

void sr_httpd_request_ref(sr_httpd_request *req) {
    req->refs++;
}

static void free_request(sr_httpd_request *req) {
    req->server->buffered -= req->body.len;
    if (req->response) MHD_destroy_response(req->response);
    X509_free(req->client_cert);
    sr_buf_free(&req->text);
    sr_buf_free(&req->body);
    sr_buf_free(&req->stream.pending);
    free(req->fields);
    free(req->target);
    free(req->path);
    sr_httpd_drop(req->server);
    free(req);
}

static void give_up(sr_httpd_request *req) {
    static const sr_httpd_answer failed = {.status = 500,
                                           .bytes = {"500 internal server error\n", 26}};
    sr_err err = {0};
    if (sr_httpd_respond(req, &failed, &err) != 0) sr_httpd_request_abort(req);
}

void sr_httpd_request_unref(sr_httpd_request *req) {
    if (req && --req->refs == 0) free_request(req);
}

void sr_httpd_request_release(sr_httpd_request *req) {
    if (!req) return;
    if (req->stage == REQ_TAKEN && req->conn && !req->gone) give_up(req);
    sr_httpd_stream_end(req, true);
    sr_httpd_stream_notify(req, NULL, NULL);
    sr_httpd_request_unref(req);
}

/* ------------------------------------------------------------------ begin */

static void copy_identity(sr_httpd_request *req, const sr_httpd_conn *conn) {
    req->peer = conn->peer;
    req->has_cred = conn->has_cred;
    req->pid = conn->pid;
    req->uid = conn->uid;
    req->gid = conn->gid;
    req->tls = conn->tls;
    req->verified = conn->verified;
    memcpy(req->tls_version, conn->tls_version, sizeof req->tls_version);
    memcpy(req->servername, conn->servername, sizeof req->servername);
    req->client_cert = conn->client_cert;
    if (req->client_cert) X509_up_ref(req->client_cert);
}

static sr_httpd_conn *conn_of(struct MHD_Connection *mhd) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

void *sr_httpd_request_begin(void *cls, const char *uri, struct MHD_Connection *mhd) {
    sr_httpd *server = cls;
    sr_httpd_conn *conn = conn_of(mhd);
    sr_httpd_request *req = calloc(1, sizeof *req);
    if (!req || !conn || !(req->target = strdup(uri ? uri : ""))) {
        free(req);
        return NULL;
    }
    req->refs = 1;
    req->server = server;
    sr_httpd_hold(server);
    req->conn = conn;
    req->started = sr_mono(server->loop);
    copy_identity(req, conn);
    conn->request = req;
    if (conn->phase != HTTP_RECEIVE) sr_httpd_conn_deadline(conn, HTTP_RECEIVE);
    return req;
}

/* ------------------------------------------------------------------ the header section
 */

typedef struct refusal {
    unsigned status;
    const char *text;
} refusal;

static const refusal accepted = {0};

struct count {
    sr_httpd_request *req;
    bool bad;
    size_t host, length, encoding; /* how often each stands there */
    bool chunked;
    uint64_t size;
};

static void note_field(struct count *count, const char *name, const char *value) {
    if (strcasecmp(name, "host") == 0) count->host++;
    if (strcasecmp(name, "content-length") == 0) {
        count->length++;
        count->size = strtoull(value, NULL, 10);
    }
    if (strcasecmp(name, "transfer-encoding") == 0) {
        count->encoding++;
        count->chunked = strcasecmp(value, "chunked") == 0;
    }
}

/* libmicrohttpd before 1.0 glues a folded line (RFC 9112, 5.2) to the field's name, so
 * that a folded Content-Length disappears, and ends a value at a NUL. Both show in where
 * it left the strings of a line: "name", ':' made NUL, white space, "value", CRLF made
 * NULs. */
static bool is_whole_line(const char *name, size_t name_len, const char *value,
                          size_t value_len) {
    const char *at = name + name_len + 1;
    uintptr_t from = (uintptr_t)at, to = (uintptr_t)value;
    if (MHD_get_version()[0] != '0') return true;
    if (to < from || to - from > SR_HTTPD_TARGET_MAX) return false;
    for (; at < value; at++)
        if (*at != ' ' && *at != '\t') return false;
    return value[value_len] == '\0' && value[value_len + 1] == '\0';
}

/* First offsets, since the text may move while it grows. */
static enum MHD_Result on_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                size_t name_len, const char *value, size_t value_len) {
    struct count *count = cls;
    sr_httpd_request *req = count->req;
    (void)kind;
    if (!value || !is_whole_line(name, name_len, value, value_len)) count->bad = true;
    if (!value) value = "";
    sr_http_field field = {.name_len = name_len, .value_len = value_len};
    sr_http_field *fields = realloc(req->fields, (req->field_count + 1) * sizeof *fields);
    if (!fields) return MHD_NO;
    req->fields = fields;
    fields[req->field_count++] = field;
    sr_buf_append(&req->text, name, name_len + 1);
    sr_buf_append(&req->text, value, value_len + 1);
    if (!sr_http_is_token(name, name_len) || !sr_http_is_value(value, value_len))
        count->bad = true;
    note_field(count, name, value);
    return req->text.oom ? MHD_NO : MHD_YES;
}

static void point_fields(sr_httpd_request *req) {
    const char *at = req->text.data;
    for (size_t i = 0; i < req->field_count; i++) {
        req->fields[i].name = at;
        at += req->fields[i].name_len + 1;
        req->fields[i].value = at;
        at += req->fields[i].value_len + 1;
    }
}

static refusal check_fields(sr_httpd_request *req, struct MHD_Connection *mhd) {
    struct count count = {.req = req};
    int all = MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, NULL, NULL);
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, on_field, &count);
    if (all < 0 || req->text.oom || (size_t)all != req->field_count)
        return (refusal){503, "503 no memory\n"};
    point_fields(req);
    if (count.bad) return (refusal){400, "400 malformed header field\n"};
    bool old = strcmp(req->version, "HTTP/1.0") == 0;
    if (count.host > 1 || (count.host == 0 && !old))
        return (refusal){400, "400 exactly one Host is needed\n"};
    if (count.encoding + count.length > 1)
        return (refusal){400, "400 contradicting body lengths\n"};
    if (count.encoding && (!count.chunked || old))
        return (refusal){501, "501 unknown transfer encoding\n"};
    if (count.size > req->server->config.max_body)
        return (refusal){413, "413 the request body is too long\n"};
    return accepted;
}

static refusal check_target(sr_httpd_request *req) {
    size_t len = strlen(req->target);
    if (len > SR_HTTPD_TARGET_MAX)
        return (refusal){414, "414 the request target is too long\n"};
    req->path = malloc(len + 1);
    if (!req->path) return (refusal){503, "503 no memory\n"};
    if (sr_http_target_split(req->target, len, &req->raw_path, &req->query) != 0 ||
        sr_http_path_decode(req->raw_path.data, req->raw_path.len, req->path,
                            &req->path_len) != 0)
        return (refusal){400, "400 malformed request target\n"};
    return accepted;
}

static refusal check_head(sr_httpd_request *req, struct MHD_Connection *mhd) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    refusal no = check_target(req);
    if (no.status) return no;
    if (!sr_http_is_token(req->method, strlen(req->method)))
        return (refusal){400, "400 malformed method\n"};
    if (info && info->header_size > req->server->config.max_headers)
        return (refusal){431, "431 the header fields are too long\n"};
    return check_fields(req, mhd);
}

/* ------------------------------------------------------------------ answers of our own
 */

static enum MHD_Result refuse(sr_httpd_request *req, struct MHD_Connection *mhd,
                              refusal no) {
    struct MHD_Response *response = sr_httpd_reply_plain(
        req->server, no.text, no.status == 503 ? "Retry-After" : NULL, "1");
    if (!response) return MHD_NO;
    req->status = no.status;
    req->stage = REQ_ANSWERED;
    if (req->conn) {
        req->conn->linger = true;
        sr_httpd_conn_deadline(req->conn, HTTP_REPLY);
    }
    MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result queued = MHD_queue_response(mhd, no.status, response);
    MHD_destroy_response(response);
    return queued;
}

/* In the middle of the body libmicrohttpd takes no answer: it is written past it, and
 * MHD_NO makes it close. */
static enum MHD_Result cut_off(sr_httpd_request *req, refusal no) {
    req->status = no.status;
    req->stage = REQ_ANSWERED;
    if (req->conn) sr_httpd_conn_raw(req->conn, no.status, no.text);
    return MHD_NO;
}

/* ------------------------------------------------------------------ handle */

static enum MHD_Result on_head(sr_httpd_request *req, struct MHD_Connection *mhd,
                               const char *method, const char *version) {
    req->headed = true;
    size_t len = strlen(method);
    snprintf(req->method, sizeof req->method, "%s",
             len < sizeof req->method ? method : "");
    snprintf(req->version, sizeof req->version, "%s", version);
    refusal no = check_head(req, mhd);
    return no.status ? refuse(req, mhd, no) : MHD_YES;
}

static enum MHD_Result on_data(sr_httpd_request *req, const char *data, size_t *size) {
    sr_httpd *server = req->server;
    size_t len = *size;
    *size = 0;
    if (req->stage != REQ_RECEIVING) return MHD_YES;
    if (len > server->config.max_body - req->body.len)
        return cut_off(req, (refusal){413, "413 the request body is too long\n"});
    if (server->buffered + len > server->config.max_body * BODIES ||
        sr_buf_append(&req->body, data, len) != 0)
        return cut_off(req, (refusal){503, "503 too many requests at once\n"});
    server->buffered += len;
    return MHD_YES;
}

static enum MHD_Result on_whole(sr_httpd_request *req, struct MHD_Connection *mhd) {
    sr_httpd *server = req->server;
    if (server->waiting >= server->config.queue)
        return refuse(req, mhd, (refusal){503, "503 too many requests at once\n"});
    MHD_suspend_connection(mhd);
    req->suspended = true;
    req->stage = REQ_QUEUED;
    if (server->last)
        server->last->next = req;
    else
        server->first = req;
    server->last = req;
    server->waiting++;
    sr_httpd_conn_deadline(req->conn, HTTP_HANDLE);
    sr_httpd_changed(server);
    return MHD_YES;
}

static enum MHD_Result send_answer(sr_httpd_request *req, struct MHD_Connection *mhd) {
    struct MHD_Response *response = req->response;
    req->response = NULL;
    if (!response) return MHD_NO;
    enum MHD_Result queued = MHD_queue_response(mhd, req->status, response);
    MHD_destroy_response(response);
    return queued;
}

enum MHD_Result sr_httpd_request_handle(void *cls, struct MHD_Connection *mhd,
                                        const char *url, const char *method,
                                        const char *version, const char *data,
                                        size_t *size, void **context) {
    sr_httpd_request *req = *context;
    (void)cls;
    (void)url;
    if (!req || req->aborted || !req->conn) return MHD_NO;
    if (!req->headed) return on_head(req, mhd, method, version);
    if (*size) return on_data(req, data, size);
    if (req->stage == REQ_RECEIVING) return on_whole(req, mhd);
    return req->stage == REQ_ANSWERED ? send_answer(req, mhd) : MHD_NO;
}

/* ------------------------------------------------------------------ the end */

static void unqueue(sr_httpd_request *req) {
    sr_httpd *server = req->server;
    sr_httpd_request *before = NULL;
    for (sr_httpd_request *at = server->first; at != req; at = at->next)
        before = at;
    if (before)
        before->next = req->next;
    else
        server->first = req->next;
    if (server->last == req) server->last = before;
    server->waiting--;
    req->next = NULL;
    req->stage = REQ_ANSWERED;
}

static void tell_gone(sr_httpd_request *req) {
    sr_httpd *server = req->server;
    if (req->told || server->stopped) return;
    req->told = true;
    sr_httpd_request_ref(req);
    if (server->gone_last)
        server->gone_last->next = req;
    else
        server->gone_first = req;
    server->gone_last = req;
    sr_httpd_changed(server);
}

void sr_httpd_request_resume(sr_httpd_request *req) {
    if (!req->suspended || !req->conn) return;
    req->suspended = false;
    MHD_resume_connection(req->conn->mhd);
}

void sr_httpd_request_abort(sr_httpd_request *req) {
    bool streaming = req->stream.used && !req->stream.finished;
    if (req->gone || (req->stage == REQ_ANSWERED && !streaming)) return;
    req->gone = true;
    req->aborted = true;
    req->stream.broken = true;
    sr_httpd_request_resume(req);
    if (req->stage == REQ_QUEUED)
        unqueue(req);
    else if (req->stage == REQ_TAKEN)
        tell_gone(req);
    else if (streaming && req->stream.ready)
        req->stream.ready(req->stream.arg);
}

void sr_httpd_request_cut(sr_httpd_request *req, const void *data, size_t len) {
    if (req->stage != REQ_TAKEN) return;
    if (len && req->conn) {
        req->conn->linger = true; /* the client is to read it */
        (void)!send(req->conn->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    req->stage = REQ_ANSWERED; /* so that nobody answers it, and nobody is told */
    req->gone = true;
    req->aborted = true;
    sr_httpd_request_resume(req);
    sr_httpd_run(req->server);
}

/* The path as sent, without the query, which may hold what is not for a log. */
static void log_request(const sr_httpd_request *req, bool whole) {
    char peer[128];
    sr_http_slice path = req->raw_path;
    double ms = (double)(sr_mono(req->server->loop) - req->started) / 1e6;
    sr_addr_text((const struct sockaddr *)&req->peer, peer, sizeof peer);
    sr_log(NULL, SR_INFO, "http", "%s %s %.*s -> %u in %.1f ms%s", peer,
           req->method[0] ? req->method : "-", path.len ? (int)path.len : 1,
           path.len ? path.data : "-", req->status, ms, whole ? "" : ", cut off");
}

void sr_httpd_request_completed(void *cls, struct MHD_Connection *mhd, void **context,
                                enum MHD_RequestTerminationCode code) {
    sr_httpd_request *req = *context;
    sr_httpd_conn *conn = conn_of(mhd);
    bool whole = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    (void)cls;
    *context = NULL;
    if (!req) return;
    if (!whole) sr_httpd_request_abort(req);
    req->conn = NULL;
    if (req->server->config.log) log_request(req, whole);
    if (conn) {
        conn->request = NULL;
        conn->served++;
        sr_httpd_conn_deadline(conn, HTTP_IDLE);
        if (req->server->draining) sr_httpd_conn_drain(conn);
    }
    sr_httpd_request_unref(req);
}

/* ------------------------------------------------------------------ looking */

bool sr_httpd_request_gone(const sr_httpd_request *req) {
    return req->gone || (!req->conn && req->stage != REQ_ANSWERED);
}

void sr_httpd_request_get(const sr_httpd_request *req, sr_httpd_request_info *ret_info) {
    *ret_info = (sr_httpd_request_info){
        .method = req->method,
        .version = req->version,
        .path = {req->path, req->path_len},
        .raw_path = req->raw_path,
        .query = req->query,
        .body = {req->body.data ? req->body.data : "", req->body.len},
        .fields = req->fields,
        .field_count = req->field_count,
        .peer = (const struct sockaddr *)&req->peer,
        .has_cred = req->has_cred,
        .pid = req->pid,
        .uid = req->uid,
        .gid = req->gid,
        .tls = req->tls,
        .verified = req->verified,
        .tls_version = req->tls_version,
        .servername = req->servername,
        .client_cert = req->client_cert,
    };
}
