/* http_server.h – an HTTP/1.1 server on the loop: libmicrohttpd speaks, Lua answers.
 *
 * The server listens, reads whole requests within its limits and queues them; its owner
 * takes them one by one (sr_httpd_next), and answers each (sr_httpd_respond) or lets
 * go of it, which answers 500. libmicrohttpd parses and writes; it neither listens nor
 * polls nor measures time: connections come from net/stream, its epoll descriptor is
 * watched by the loop, and all deadlines are timers of ours.
 *
 * Life: sr_httpd_new gives one reference, each request another to its taker.
 * sr_httpd_stop ends everything at once, sr_httpd_drain by and by; the memory
 * goes with the last reference. No function here runs Lua; all belong to the loop's
 * thread.
 */
#ifndef SR_HTTP_SERVER_H
#define SR_HTTP_SERVER_H

#include <openssl/x509.h>

#include "net/http_msg.h"
#include "net/http_path.h"
#include "net/stream.h"

typedef struct sr_httpd sr_httpd;
typedef struct sr_httpd_request sr_httpd_request;

#define SR_HTTPD_TARGET_MAX 8192         /* bytes of a request target; more is 414 */
#define SR_HTTPD_REPLY_HEADERS_MAX 16384 /* bytes of the header fields of a response */

typedef struct sr_httpd_config {
    sr_listen where; /* with its TLS context, if any */
    size_t max_body;
    size_t max_headers;
    unsigned max_connections; /* more wait in the kernel */
    unsigned max_per_ip;      /* more are refused; 0: no bound */
    unsigned queue;           /* requests that wait for the owner; more are 503 */
    int64_t timeout;          /* ns to receive a request whole; later is 408 */
    int64_t idle_timeout;     /* ns a connection may be silent between requests */
    bool server_header;       /* send "Server: secrun" */
    bool log;                 /* one line a request */
} sr_httpd_config;

/* Start. changed(arg) is called, never from within a call of the owner's to _next, when a
 * request waits, when a taken one lost its client, when the last connection has gone and
 * when the server has stopped; it may come too often and must not call back. Errors:
 * usage, conflict (address in use), io (EACCES and its mend), limit. */
int sr_httpd_new(sr_loop *loop, const sr_httpd_config *config, void (*changed)(void *arg),
                 void *arg, sr_httpd **ret_server, sr_err *err);
/* Stop at once: no connection and no handle is left after the next turn of the loop.
 * Twice is harmless. */
void sr_httpd_stop(sr_httpd *server);
/* Accept nothing more, close what is idle and every other connection after its response.
 */
void sr_httpd_drain(sr_httpd *server);
bool sr_httpd_stopped(const sr_httpd *server);
unsigned sr_httpd_connections(const sr_httpd *server);
/* Drop the owner's reference, stopping first. NULL is fine. */
void sr_httpd_free(sr_httpd *server);

/* Connections accepted from now on use this context. Error: usage (the server is plain or
 * has stopped). */
int sr_httpd_set_tls(sr_httpd *server, sr_tls_ctx *tls, sr_err *err);
int sr_httpd_port(const sr_httpd *server);
/* "127.0.0.1:8080", "[::1]:8080", "unix:/run/x". */
void sr_httpd_address(const sr_httpd *server, char *buf, size_t size);

/* The next waiting request (a reference of the caller's), or NULL. */
sr_httpd_request *sr_httpd_next(sr_httpd *server);
/* A taken request whose client went away before the answer, told once, with another
 * reference; or NULL. */
sr_httpd_request *sr_httpd_next_gone(sr_httpd *server);

/* ------------------------------------------------------------------ a request */

void sr_httpd_request_unref(sr_httpd_request *req); /* NULL is fine */
/* The taker is through: unanswered becomes 500, an unfinished stream is cut off; then its
 * reference goes. NULL is fine. */
void sr_httpd_request_release(sr_httpd_request *req);
/* Close the connection without an answer, or after a few raw bytes (what the socket takes
 * at once): for servers that act out failures. No effect on a request that was answered.
 */
void sr_httpd_request_cut(sr_httpd_request *req, const void *data, size_t len);

typedef struct sr_httpd_request_info {
    const char *method;
    const char *version;    /* "HTTP/1.1" */
    sr_http_slice path;     /* decoded and normalised */
    sr_http_slice raw_path; /* as sent */
    sr_http_slice query;    /* as sent, without "?" */
    sr_http_slice body;
    const sr_http_field *fields;
    size_t field_count;
    const struct sockaddr *peer;
    bool has_cred; /* a unix socket: who is at the other end */
    int pid, uid, gid;
    bool tls;
    bool verified; /* the client's certificate was checked and is good */
    const char *tls_version, *servername;
    X509 *client_cert; /* borrowed, NULL if none */
} sr_httpd_request_info;

/* Everything is borrowed and valid as long as the request is. */
void sr_httpd_request_get(const sr_httpd_request *req, sr_httpd_request_info *ret_info);
bool sr_httpd_request_gone(const sr_httpd_request *req);

/* ------------------------------------------------------------------ an answer */

typedef enum sr_httpd_body {
    SR_HTTPD_BYTES,
    SR_HTTPD_FILE,
    SR_HTTPD_STREAM
} sr_httpd_body;

typedef struct sr_httpd_answer {
    unsigned status;
    const sr_http_field *fields; /* checked here: names are tokens, no CR, LF or NUL */
    size_t field_count;
    sr_httpd_body kind;
    sr_http_slice bytes; /* SR_HTTPD_BYTES, copied */
    int fd;              /* SR_HTTPD_FILE, taken over also on failure */
    uint64_t file_size;
} sr_httpd_answer;

/* Answer once. Unless given, Content-Type is text/plain, and X-Content-Type-Options and
 * Date are added. An answer to a client that went away is dropped without an error.
 * Errors: usage (answered before, status, a bad or reserved header field), limit. */
int sr_httpd_respond(sr_httpd_request *req, const sr_httpd_answer *answer, sr_err *err);

/* After an answer of kind SR_HTTPD_STREAM: append to the body. *ret_full says that the
 * client lags behind; go on when sr_httpd_stream_ready. Error: connect (client gone). */
int sr_httpd_stream_write(sr_httpd_request *req, const void *data, size_t len,
                          bool *ret_full, sr_err *err);
bool sr_httpd_stream_ready(const sr_httpd_request *req);
/* Called from the loop when a full stream became ready again or its client went away. */
void sr_httpd_stream_notify(sr_httpd_request *req, void (*ready)(void *arg), void *arg);
/* End the body; broken cuts the connection, so that the client sees that it is cut. */
void sr_httpd_stream_end(sr_httpd_request *req, bool broken);

#endif
