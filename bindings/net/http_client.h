/* http_client.h – HTTP exchanges for C: build a request, start it, be called back.
 *
 * Life cycle
 *     sr_http_request *req = sr_http_request_new();
 *     sr_http_request_url(req, url, len, &err);      … setters, public members …
 *     sr_http_start(loop, req, &events, arg, &x, &err);   // takes req, also on failure
 *     … events.done(arg, x) is called once from the loop …
 *     sr_http_free(x);                               // there or later; wipes secrets
 * sr_http_free() before done cancels: the connection is dropped if bytes were on their
 * way, and nothing is called any more. It must not be called from events.body or
 * events.pull, which run inside libcurl.
 *
 * An exchange is one request with its redirects. Time-outs are timers of our clock. Every
 * hop asks the permissions of req->vm. Nothing of a secret reaches an error message.
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include <curl/curl.h>

#include "net/http_ca.h"
#include "net/http_msg.h"
#include "secrun.h"

typedef struct sr_http_exchange sr_http_exchange;

typedef struct sr_http_header {
    char *line;   /* "Name: value" */
    bool private; /* credentials: never sent to another origin, wiped */
} sr_http_header;

typedef enum sr_http_body {
    SR_HTTP_NO_BODY,
    SR_HTTP_BYTES, /* req->bytes */
    SR_HTTP_FILE,  /* req->fd from its start, req->body_size bytes */
    SR_HTTP_PULL   /* events.pull until it says end; sent in chunks */
} sr_http_body;

/* Zero is the default of every member unless it says otherwise. */
typedef struct sr_http_request {
    sr_http_url url;
    char method[24]; /* "GET" */
    sr_http_header *headers;
    size_t header_count;
    sr_http_body body;
    sr_buf bytes;
    int fd; /* closed with the request */
    int64_t body_size;
    double timeout;         /* seconds for everything, ≤ 0: none; default 30 */
    double connect_timeout; /* seconds to a ready connection, ≤ 0: none; default 10 */
    int64_t max_body;       /* decoded bytes, < 0: no bound; default 16 MiB */
    int redirects;          /* hops followed */
    bool raw;               /* do not ask for compression */
    bool verify;            /* default true */
    bool public_only;       /* refuse private addresses on every hop */
    bool last;              /* the connection is closed behind it */
    bool idempotent;        /* sending twice has no other effect; by method at first */
    int version; /* 0: HTTP/2 where TLS offers it; 11: never; 20: also without TLS */
    int pool_total, pool_host; /* default 64 and 8 */
    char *proxy;               /* NULL: from the environment; "": none */
    char *no_proxy;
    char *resolve;  /* "host:port:address\n…" */
    sr_http_ca *ca; /* NULL: the system's; a reference is held */
    sr_http_identity *identity;
    sr_vm *vm; /* whose permissions; NULL: not asked */
} sr_http_request;

sr_http_request *sr_http_request_new(void); /* NULL without memory */
void sr_http_request_free(sr_http_request *req);
int sr_http_request_url(sr_http_request *req, const char *url, size_t len, sr_err *err);
/* Refuses what is no token or could end the line, and the fields that frame the message
 * (Content-Length, Transfer-Encoding, Host, Connection …), with usage. */
int sr_http_request_header(sr_http_request *req, const char *name, const char *value,
                           size_t len, bool private, sr_err *err);
/* Authorization: Basic, RFC 7617; private, and known to the redaction. */
int sr_http_request_basic(sr_http_request *req, const char *user, const char *password,
                          size_t len, sr_err *err);
bool sr_http_request_has(const sr_http_request *req, const char *name);
int sr_http_request_method(sr_http_request *req, const char *method, sr_err *err);

/* From events.body and events.pull: stop until sr_http_resume(). */
#define SR_HTTP_PAUSE (-2)

typedef struct sr_http_events {
    /* Decoded bytes of the last hop's body: 0, SR_HTTP_PAUSE (the same bytes come again)
     * or -1 with *err filled. NULL: collected in the result. Inside libcurl. */
    int (*body)(void *arg, const char *data, size_t len, sr_err *err);
    /* Up to size bytes of the request: their number, 0 at the end, SR_HTTP_PAUSE, or -1.
     * Inside libcurl. */
    ssize_t (*pull)(void *arg, char *data, size_t size, sr_err *err);
    /* The exchange ended; see the result. From the loop, or from sr_http_resume(). */
    void (*done)(void *arg, sr_http_exchange *x);
} sr_http_events;

typedef struct sr_http_result {
    sr_err err;       /* kind SR_NONE: there is a response */
    int status;       /* 200 */
    int version;      /* 10, 11, 20 */
    sr_buf head;      /* the field lines of the response */
    sr_buf body;      /* when events.body is NULL */
    char address[64]; /* the peer's */
    int port;
    double dns, connect, tls, first_byte, total; /* seconds since the last hop's start */
} sr_http_result;

/* Takes req in any case. -1: nothing was started, nothing will be called. */
int sr_http_start(sr_loop *loop, sr_http_request *req, const sr_http_events *events,
                  void *arg, sr_http_exchange **ret_exchange, sr_err *err);
/* Go on after SR_HTTP_PAUSE. Not from inside libcurl. */
void sr_http_resume(sr_http_exchange *x);
void sr_http_free(sr_http_exchange *x);

const sr_http_result *sr_http_result_of(const sr_http_exchange *x);
/* The request as it stands: its url is that of the last hop. */
const sr_http_request *sr_http_request_of(const sr_http_exchange *x);
/* Whether the response's head has come; result's status and head are then final. */
bool sr_http_has_head(const sr_http_exchange *x);
/* "POST https://host/path", for messages and dumps. */
void sr_http_describe(const sr_http_exchange *x, char *buf, size_t size);

/* ---------------------------------------------------------------- errors (http_error.c)
 */

/* What is known about a failed transfer. */
typedef struct sr_http_failure {
    CURLcode code;
    const char *text;     /* libcurl's error buffer, or "" */
    long verify;          /* X509_V_… of the peer's certificate, 0 if good */
    bool sent;            /* bytes of the request have left */
    const char *ca_label; /* which CA set, or NULL */
} sr_http_failure;

/* Fill err from a CURLcode: kind, code "CURLE_…", retryable, a message with peer, reason
 * and mend. Always -1. */
int sr_http_fail(sr_err *err, const sr_http_request *req, const sr_http_failure *failure);
/* "CURLE_COULDNT_CONNECT" */
const char *sr_http_code_name(CURLcode code);
/* Fill err from a response with a status of 400 or more: kind by status, an excerpt of
 * the body without control characters, retry_after. Always -1. */
int sr_http_fail_status(sr_err *err, const char *method, const char *shown, int status,
                        const char *head, size_t head_len, const char *body,
                        size_t body_len, bool idempotent, double now);

#endif
