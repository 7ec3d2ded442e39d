/* http_error.c – every CURLcode and every HTTP status as an error of ours.
 *
 * One row a code: the kind, whether trying again can help, and the mend. "Again" has
 * three grades: never; before anything was sent (any method may be repeated then); and
 * always for requests that may be repeated, which includes those that were not sent.
 */
#include "net/http_client.h"
#include "net/tls.h"

#include <ctype.h>
#include <string.h>

typedef enum again { NEVER, IF_SAFE } again;

struct row {
    CURLcode code;
    const char *name;
    sr_kind kind;
    again again;
    const char *what; /* in place of libcurl's text, or NULL */
    const char *mend;
};

#define ROW(code, kind, again, what, mend)                                               \
    { code, #code, kind, again, what, mend }

static const struct row rows[] = {
    ROW(CURLE_UNSUPPORTED_PROTOCOL, SR_PROTOCOL, NEVER, NULL,
        "see what listens there; it does not answer in HTTP/1 or HTTP/2"),
    ROW(CURLE_FAILED_INIT, SR_INTERNAL, NEVER, NULL, NULL),
    ROW(CURLE_URL_MALFORMAT, SR_USAGE, NEVER, NULL, "correct the URL"),
    ROW(CURLE_NOT_BUILT_IN, SR_INTERNAL, NEVER, NULL, "use a libcurl with this feature"),
    ROW(CURLE_COULDNT_RESOLVE_PROXY, SR_DNS, IF_SAFE, "the proxy's name does not resolve",
        "check proxy= and http_proxy"),
    ROW(CURLE_COULDNT_RESOLVE_HOST, SR_DNS, IF_SAFE, "the name does not resolve",
        "check its spelling and the resolver, or pin it with resolve="),
    ROW(CURLE_COULDNT_CONNECT, SR_CONNECT, IF_SAFE, NULL,
        "see whether it listens and no firewall is between"),
    ROW(CURLE_WEIRD_SERVER_REPLY, SR_PROTOCOL, NEVER, NULL, "see what listens there"),
    ROW(CURLE_REMOTE_ACCESS_DENIED, SR_AUTH, NEVER, NULL, NULL),
    ROW(CURLE_HTTP2, SR_PROTOCOL, IF_SAFE, NULL, "http_version = \"1.1\" avoids HTTP/2"),
    ROW(CURLE_PARTIAL_FILE, SR_PROTOCOL, IF_SAFE,
        "the body ended before its announced length",
        "the server or a proxy cut it off; try again"),
    ROW(CURLE_HTTP_RETURNED_ERROR, SR_HTTP, NEVER, NULL, NULL),
    ROW(CURLE_WRITE_ERROR, SR_IO, NEVER, "the body could not be taken", NULL),
    ROW(CURLE_UPLOAD_FAILED, SR_IO, NEVER, NULL, NULL),
    ROW(CURLE_READ_ERROR, SR_IO, NEVER, "the request's body could not be read", NULL),
    ROW(CURLE_OUT_OF_MEMORY, SR_LIMIT, NEVER, "no memory", NULL),
    ROW(CURLE_OPERATION_TIMEDOUT, SR_TIMEOUT, IF_SAFE, NULL,
        "raise timeout= or see whether it answers"),
    ROW(CURLE_RANGE_ERROR, SR_PROTOCOL, NEVER, NULL, NULL),
    ROW(CURLE_HTTP_POST_ERROR, SR_INTERNAL, NEVER, NULL, NULL),
    ROW(CURLE_SSL_CONNECT_ERROR, SR_TLS, IF_SAFE, NULL,
        "see whether it speaks TLS 1.2 or newer and asks for a client certificate"),
    ROW(CURLE_ABORTED_BY_CALLBACK, SR_CANCELLED, NEVER, "stopped", NULL),
    ROW(CURLE_BAD_FUNCTION_ARGUMENT, SR_INTERNAL, NEVER, NULL, NULL),
    ROW(CURLE_INTERFACE_FAILED, SR_CONNECT, NEVER, NULL, NULL),
    ROW(CURLE_TOO_MANY_REDIRECTS, SR_PROTOCOL, NEVER, NULL, NULL),
    ROW(CURLE_UNKNOWN_OPTION, SR_INTERNAL, NEVER, NULL, NULL),
    ROW(CURLE_GOT_NOTHING, SR_PROTOCOL, IF_SAFE,
        "the connection was closed without an answer",
        "the server broke off; its log may tell why"),
    ROW(CURLE_SSL_ENGINE_NOTFOUND, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_SSL_ENGINE_SETFAILED, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_SEND_ERROR, SR_IO, IF_SAFE, NULL, "the connection broke; try again"),
    ROW(CURLE_RECV_ERROR, SR_IO, IF_SAFE, NULL, "the connection broke; try again"),
    ROW(CURLE_SSL_CERTPROBLEM, SR_TLS, NEVER, "our client certificate cannot be used",
        "check cert= and key="),
    ROW(CURLE_SSL_CIPHER, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_PEER_FAILED_VERIFICATION, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_BAD_CONTENT_ENCODING, SR_PROTOCOL, NEVER,
        "the body's compression is broken", "see what the server sends"),
    ROW(CURLE_FILESIZE_EXCEEDED, SR_LIMIT, NEVER, NULL, "raise max_body="),
    ROW(CURLE_USE_SSL_FAILED, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_SEND_FAIL_REWIND, SR_IO, NEVER,
        "the connection broke after the request was sent; it is not sent twice",
        "find out whether it had an effect before trying again"),
    ROW(CURLE_SSL_ENGINE_INITFAILED, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_LOGIN_DENIED, SR_AUTH, NEVER, NULL, NULL),
    ROW(CURLE_SSL_CACERT_BADFILE, SR_TLS, NEVER, "the CA set cannot be used",
        "check ca="),
    ROW(CURLE_SSL_SHUTDOWN_FAILED, SR_TLS, IF_SAFE, NULL, NULL),
    ROW(CURLE_AGAIN, SR_INTERNAL, IF_SAFE, NULL, NULL),
    ROW(CURLE_SSL_CRL_BADFILE, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_SSL_ISSUER_ERROR, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_CHUNK_FAILED, SR_PROTOCOL, NEVER, NULL, NULL),
    ROW(CURLE_NO_CONNECTION_AVAILABLE, SR_LIMIT, IF_SAFE, NULL, NULL),
    ROW(CURLE_SSL_PINNEDPUBKEYNOTMATCH, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_SSL_INVALIDCERTSTATUS, SR_TLS, NEVER, NULL, NULL),
    ROW(CURLE_HTTP2_STREAM, SR_PROTOCOL, IF_SAFE, NULL,
        "http_version = \"1.1\" avoids HTTP/2"),
    ROW(CURLE_RECURSIVE_API_CALL, SR_INTERNAL, NEVER, NULL, NULL),
    ROW(CURLE_AUTH_ERROR, SR_AUTH, NEVER, NULL, NULL),
    ROW(CURLE_HTTP3, SR_PROTOCOL, IF_SAFE, NULL, NULL),
    ROW(CURLE_PROXY, SR_CONNECT, IF_SAFE, NULL, "check proxy= and what the proxy allows"),
    ROW(CURLE_SSL_CLIENTCERT, SR_TLS, NEVER, "it wants a client certificate",
        "give cert= and key="),
    ROW(CURLE_UNRECOVERABLE_POLL, SR_IO, IF_SAFE, NULL, NULL),
};

/* Codes of other protocols, which cannot happen with http and https alone; their text is
 * libcurl's. */
static const struct row other = {CURLE_OK, "CURLE_OTHER", SR_INTERNAL, NEVER, NULL, NULL};

static const struct row *row_of(CURLcode code) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].code == code) return &rows[i];
    return &other;
}

const char *sr_http_code_name(CURLcode code) {
    return row_of(code)->name;
}

/* A peer's certificate that was refused: why, by whom, and what to do. */
static int fail_verify(sr_err *err, const sr_http_request *req,
                       const sr_http_failure *f) {
    const char *code = f->verify ? sr_tls_verify_name((int)f->verify) : NULL;
    const char *mend = code ? sr_tls_mend(code) : NULL;
    sr_fail(err, SR_TLS, "CURLE_PEER_FAILED_VERIFICATION",
            "%s: its certificate is refused: %.200s (checked with %.120s); %s",
            req->url.peer, f->text, f->ca_label ? f->ca_label : "no CA set",
            mend ? mend : "use a name that the certificate carries, or renew it there");
    return -1;
}

/* The first sentence libcurl wrote, without its habit of repeating the URL's query. */
static const char *reason(const struct row *row, const sr_http_failure *f) {
    if (row->what) return row->what;
    return f->text && *f->text ? f->text : curl_easy_strerror(f->code);
}

int sr_http_fail(sr_err *err, const sr_http_request *req,
                 const sr_http_failure *failure) {
    const struct row *row = row_of(failure->code);
    bool verify = failure->code == CURLE_PEER_FAILED_VERIFICATION ||
                  (failure->code == CURLE_SSL_CONNECT_ERROR && failure->verify);
    if (verify)
        fail_verify(err, req, failure);
    else
        sr_fail(err, row->kind, row->name, "%s: %.240s%s%s", req->url.peer,
                reason(row, failure), row->mend ? "; " : "", row->mend ? row->mend : "");
    err->retryable =
        !verify && row->again == IF_SAFE && (req->idempotent || !failure->sent);
    snprintf(err->op, sizeof err->op, "%s %.70s", req->method, req->url.shown);
    return -1;
}

/* ---------------------------------------------------------------- statuses */

struct status {
    int status;
    sr_kind kind;
    bool again;
    const char *mend;
};

static const struct status statuses[] = {
    {401, SR_AUTH, false, "check the credentials"},
    {403, SR_AUTH, false, "the credentials lack the right"},
    {404, SR_NOT_FOUND, false, NULL},
    {407, SR_AUTH, false, "the proxy wants credentials"},
    {408, SR_HTTP, true, NULL},
    {409, SR_CONFLICT, false, NULL},
    {410, SR_NOT_FOUND, false, NULL},
    {412, SR_CONFLICT, false, NULL},
    {413, SR_LIMIT, false, "the request's body is too big for it"},
    {421, SR_HTTP, true, NULL},
    {425, SR_HTTP, true, NULL},
    {429, SR_RATE_LIMITED, true, "asked too often"},
    {501, SR_HTTP, false, NULL},
    {505, SR_HTTP, false, NULL},
};

static struct status status_row(int status) {
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status) return statuses[i];
    return (struct status){status, SR_HTTP, status >= 500, NULL};
}

/* The beginning of a body as one line: runs of white space and controls become a blank.
 */
static void excerpt(const char *body, size_t len, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < len && n + 2 < size; i++) {
        unsigned char c = (unsigned char)body[i];
        bool gap = c <= 0x20 || c == 0x7f;
        if (!gap)
            out[n++] = (char)c;
        else if (n && out[n - 1] != ' ')
            out[n++] = ' ';
    }
    while (n && (out[n - 1] == ' ' || (unsigned char)out[n - 1] >= 0x80))
        n--; /* also a character cut in the middle */
    out[n] = '\0';
}

int sr_http_fail_status(sr_err *err, const char *method, const char *shown, int status,
                        const char *head, size_t head_len, const char *body,
                        size_t body_len, bool idempotent, double now) {
    struct status row = status_row(status);
    char code[16], text[240];
    sr_http_field field;
    snprintf(code, sizeof code, "HTTP_%d", status);
    excerpt(body, body_len, text, sizeof text);
    sr_redact(text); /* servers like to echo what they were sent */
    sr_fail(err, row.kind, code, "status %d%s%s%s%s", status, row.mend ? "; " : "",
            row.mend ? row.mend : "", *text ? "; it says: " : "", text);
    err->status = status;
    /* 429 and 503 were refused before they had an effect */
    err->retryable = row.again && (idempotent || status == 429 || status == 503);
    if (sr_http_find(head, head_len, "retry-after", &field) &&
        sr_http_retry_after(field.value, field.value_len, now, &err->retry_after) == 0)
        err->has_retry_after = true;
    snprintf(err->op, sizeof err->op, "%s %.70s", method, shown);
    return -1;
}
