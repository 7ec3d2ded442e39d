/* http_server_conn.c – one connection: its deadline, its first bytes, its client's end.
 *
 * Owns the socket until libmicrohttpd has it, and the TLS stream until the pump has it.
 * The states are in http_server_int.h. Two things libmicrohttpd (0.9.75) does not do are
 * done here: garbage instead of a request line gets a 400 (it would just close), which is
 * why the first bytes are peeked at, and a client that is too slow gets a 408.
 *
 * A connection is freed when its socket, its poll handle and its pump are all gone.
 */
#include "http_server_int.h"

#include <errno.h>
#include <netinet/in.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PEEK = 512 };

/* ------------------------------------------------------------------ the end */

static void unlink_conn(sr_httpd_conn *conn) {
    sr_httpd *server = conn->server;
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        server->conns = conn->next;
    if (conn->next) conn->next->prev = conn->prev;
    server->conn_count--;
}

static void free_conn(sr_httpd_conn *conn) {
    sr_httpd *server = conn->server;
    unlink_conn(conn);
    X509_free(conn->client_cert);
    free(conn);
    if (server->conn_count == 0) sr_httpd_changed(server);
    if (server->full) sr_httpd_accept(server);
    sr_httpd_drop(server);
}

static void on_poll_closed(uv_handle_t *handle) {
    sr_httpd_conn *conn = handle->data;
    conn->polling = false;
    if (!conn->pump) free_conn(conn);
}

/* The socket is closed or somebody else's from here on. */
static void end(sr_httpd_conn *conn) {
    if (conn->phase == HTTP_CLOSED) return;
    conn->phase = HTTP_CLOSED;
    conn->fd = -1;
    conn->mhd = NULL;
    sr_timer_stop(conn->server->loop, &conn->timer);
    if (conn->polling)
        uv_close((uv_handle_t *)&conn->poll, on_poll_closed);
    else if (!conn->pump)
        free_conn(conn);
}

/* For a connection that libmicrohttpd does not have. */
static void drop(sr_httpd_conn *conn) {
    int fd = conn->fd;
    sr_stream *stream = conn->stream;
    conn->stream = NULL;
    end(conn);
    if (fd >= 0) close(fd);
    if (!stream) return;
    sr_stream_notify(stream, NULL, NULL);
    sr_stream_close(stream);
    sr_stream_unref(stream);
}

static void on_pumped(void *arg, const sr_err *err) {
    sr_httpd_conn *conn = arg;
    if (err) sr_log(NULL, SR_DEBUG, "http", "%s", err->message);
    conn->pump = NULL;
    if (conn->phase == HTTP_CLOSED && !conn->polling) free_conn(conn);
}

/* ------------------------------------------------------------------ raw answers */

void sr_httpd_conn_raw(sr_httpd_conn *conn, unsigned status, const char *text) {
    char out[512];
    const char *reason = MHD_get_reason_phrase_for(status);
    int len = snprintf(
        out, sizeof out,
        "HTTP/1.1 %u %s\r\nConnection: close\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "X-Content-Type-Options: nosniff\r\nContent-Length: %zu\r\n%s\r\n%s",
        status, reason, strlen(text), status == 503 ? "Retry-After: 1\r\n" : "", text);
    conn->linger = true;
    /* It fits an empty socket buffer; a client that fills even that gets none. */
    if (len > 0 && (size_t)len < sizeof out)
        (void)!send(conn->fd, out, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Answer and close a connection that libmicrohttpd does not have. */
static void refuse(sr_httpd_conn *conn, unsigned status, const char *text) {
    sr_httpd_conn_raw(conn, status, text);
    int fd = dup(conn->fd);
    shutdown(conn->fd, SHUT_WR);
    if (fd >= 0) sr_httpd_linger_start(conn->server, fd);
    drop(conn);
}

/* ------------------------------------------------------------------ deadlines */

static void on_deadline(sr_timer *timer) {
    sr_httpd_conn *conn = (void *)((char *)timer - offsetof(sr_httpd_conn, timer));
    if (!conn->mhd && conn->phase == HTTP_RECEIVE)
        refuse(conn, 408, "408 the request did not arrive in time\n");
    else if (!conn->mhd)
        drop(conn);
    else {
        if (conn->phase == HTTP_RECEIVE)
            sr_httpd_conn_raw(conn, 408, "408 the request did not arrive in time\n");
        if (conn->request) conn->request->status = 408;
        shutdown(conn->fd, SHUT_RDWR); /* libmicrohttpd sees the end and closes */
    }
}

void sr_httpd_conn_deadline(sr_httpd_conn *conn, sr_httpd_phase phase) {
    sr_httpd *server = conn->server;
    int64_t span =
        phase == HTTP_RECEIVE ? server->config.timeout : server->config.idle_timeout;
    conn->phase = phase;
    if (phase == HTTP_HANDLE || phase == HTTP_REPLY)
        sr_timer_stop(server->loop, &conn->timer);
    else
        sr_timer_start(server->loop, &conn->timer, sr_mono(server->loop) + span,
                       on_deadline);
}

/* ------------------------------------------------------------------ the client's end */

/* libmicrohttpd does not look at suspended connections, and of bytes that come together
 * with the end it only sees the bytes (0.9.75 clears its readiness after a short read).
 * So the end is watched for here, as long as the connection lives.
 *
 * Half-closed counts as gone, as the kernel does not tell the two apart; unless bytes are
 * left over, which are the next request, pipelined: then the deadlines decide. */
static void on_disconnect(uv_poll_t *handle, int status, int events) {
    sr_httpd_conn *conn = handle->data;
    char byte;
    (void)events;
    uv_poll_stop(handle);
    sr_httpd_run(conn->server); /* read what came with the end */
    if (!conn->mhd) return;
    if (status == 0 && recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) return;
    if (conn->phase == HTTP_RECEIVE || conn->phase == HTTP_IDLE)
        shutdown(conn->fd, SHUT_RDWR);
    else if (conn->request)
        sr_httpd_request_abort(conn->request);
    sr_httpd_run(conn->server);
}

static void watch_end(sr_httpd_conn *conn) {
    uv_poll_start(&conn->poll, UV_DISCONNECT, on_disconnect);
}

/* ------------------------------------------------------------------ to libmicrohttpd */

void sr_httpd_conn_notify(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code) {
    sr_httpd *server = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        server->adding->mhd = mhd;
        *context = server->adding;
        return;
    }
    sr_httpd_conn *conn = *context;
    char byte;
    if (!conn) return;
    uv_poll_stop(&conn->poll); /* before the descriptor is closed */
    bool unread = recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    int fd = (conn->linger || unread) && !server->stopped ? dup(conn->fd) : -1;
    if (fd >= 0) sr_httpd_linger_start(server, fd);
    end(conn);
}

static void hand_over(sr_httpd_conn *conn) {
    sr_httpd *server = conn->server;
    socklen_t len = conn->peer.ss_family == AF_INET6  ? sizeof(struct sockaddr_in6)
                    : conn->peer.ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                                      : sizeof(sa_family_t);
    uv_poll_stop(&conn->poll);
    sr_httpd_conn_deadline(conn, HTTP_RECEIVE);
    server->adding = conn;
    bool added = MHD_add_connection(server->daemon, conn->fd,
                                    (struct sockaddr *)&conn->peer, len) == MHD_YES;
    server->adding = NULL;
    if (added)
        watch_end(conn);
    else
        end(conn); /* it closed the socket */
    sr_httpd_run(server);
}

static void on_first(uv_poll_t *handle, int status, int events) {
    sr_httpd_conn *conn = handle->data;
    char data[PEEK];
    (void)events;
    ssize_t got =
        status < 0 ? 0 : recv(conn->fd, data, sizeof data, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        drop(conn);
        return;
    }
    switch (sr_http_first_bytes(data, (size_t)got)) {
    case SR_HTTP_FIRST_MORE: hand_over(conn); break;
    case SR_HTTP_FIRST_BAD: refuse(conn, 400, "400 this is not an HTTP request\n"); break;
    case SR_HTTP_FIRST_TLS: refuse(conn, 400, "400 no TLS on this port\n"); break;
    }
}

static void await_first(sr_httpd_conn *conn) {
    int rc = uv_poll_init(sr_uv(conn->server->loop), &conn->poll, conn->fd);
    if (rc != 0) {
        sr_log(NULL, SR_WARN, "http", "cannot watch a connection: %s", uv_strerror(rc));
        drop(conn);
        return;
    }
    conn->polling = true;
    conn->poll.data = conn;
    sr_httpd_conn_deadline(conn, HTTP_FIRST);
    uv_poll_start(&conn->poll, UV_READABLE, on_first);
}

/* ------------------------------------------------------------------ TLS */

static void note_tls(sr_httpd_conn *conn) {
    sr_tls *tls = sr_stream_tls(conn->stream);
    sr_tls_info info;
    sr_tls_get_info(tls, &info);
    conn->tls = true;
    conn->verified = info.verified;
    snprintf(conn->tls_version, sizeof conn->tls_version, "%s",
             info.version ? info.version : "");
    snprintf(conn->servername, sizeof conn->servername, "%s",
             info.servername ? info.servername : "");
    conn->client_cert = sr_tls_peer_cert(tls, 0);
    if (conn->client_cert) X509_up_ref(conn->client_cert);
}

/* The handshake is done: our end of a socketpair is the connection from here on. */
static void start_pump(sr_httpd_conn *conn) {
    sr_err err = {0};
    int pair[2];
    note_tls(conn);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        sr_fail_errno(&err, errno, "no socket pair for TLS");
        sr_httpd_pause(conn->server, &err);
        drop(conn);
        return;
    }
    sr_stream *stream = conn->stream;
    conn->stream = NULL;
    sr_stream_notify(stream, NULL, NULL);
    conn->fd = pair[0];
    conn->pump = sr_tls_pump(stream, pair[1], on_pumped, conn, &err);
    if (conn->pump) {
        await_first(conn);
        return;
    }
    sr_log(NULL, SR_WARN, "http", "%s", err.message);
    drop(conn);
}

static void on_stream(sr_stream *stream, void *arg) {
    sr_httpd_conn *conn = arg;
    const sr_err *err = sr_stream_error(stream);
    if (sr_stream_get_state(stream) == SR_STREAM_OPEN) {
        start_pump(conn);
    } else if (err || sr_stream_get_state(stream) == SR_STREAM_CLOSED) {
        if (err) sr_log(NULL, SR_DEBUG, "http", "%s", err->message);
        drop(conn);
    }
}

static void await_handshake(sr_httpd_conn *conn) {
    sr_httpd_conn_deadline(conn, HTTP_HANDSHAKE);
    sr_stream_notify(conn->stream, on_stream, conn);
    on_stream(conn->stream, conn); /* it may have failed already */
}

/* ------------------------------------------------------------------ the beginning */

static bool same_host(const struct sockaddr_storage *a,
                      const struct sockaddr_storage *b) {
    if (a->ss_family != b->ss_family) return false;
    if (a->ss_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return a->ss_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)b)->sin6_addr, 16) == 0;
}

static bool too_many(sr_httpd *server, const struct sockaddr_storage *peer) {
    unsigned count = 0;
    if (!server->config.max_per_ip) return false;
    for (sr_httpd_conn *conn = server->conns; conn; conn = conn->next)
        if (same_host(&conn->peer, peer)) count++;
    return count >= server->config.max_per_ip;
}

/* Plain: libmicrohttpd gets the socket itself. */
static void await_plain(sr_httpd_conn *conn, bool excess) {
    sr_err err = {0};
    sr_stream *stream = conn->stream;
    conn->stream = NULL;
    conn->fd = sr_stream_detach(stream, &err);
    if (conn->fd < 0) {
        sr_httpd_pause(conn->server, &err);
        drop(conn);
    } else if (excess) {
        refuse(conn, 503, "503 too many connections from this address\n");
    } else {
        await_first(conn);
    }
}

static void note_peer(sr_httpd_conn *conn) {
    sr_err err = {0};
    (void)sr_stream_peer(conn->stream, &conn->peer);
    if (conn->peer.ss_family != AF_UNIX) return;
    conn->has_cred =
        sr_stream_peer_cred(conn->stream, &conn->pid, &conn->uid, &conn->gid, &err) == 0;
}

void sr_httpd_conn_open(sr_httpd *server, sr_stream *stream) {
    sr_httpd_conn *conn = calloc(1, sizeof *conn);
    if (!conn) {
        sr_stream_close(stream);
        sr_stream_unref(stream);
        return;
    }
    conn->server = server;
    conn->stream = stream;
    conn->fd = -1;
    note_peer(conn);
    bool excess = too_many(server, &conn->peer);
    sr_httpd_hold(server);
    conn->next = server->conns;
    if (conn->next) conn->next->prev = conn;
    server->conns = conn;
    server->conn_count++;
    if (!server->tls)
        await_plain(conn, excess);
    else if (excess)
        drop(conn);
    else
        await_handshake(conn);
}

/* ------------------------------------------------------------------ from outside */

void sr_httpd_conn_drain(sr_httpd_conn *conn) {
    if (conn->mhd) {
        if (conn->phase == HTTP_IDLE) shutdown(conn->fd, SHUT_RDWR);
    } else if (conn->phase == HTTP_HANDSHAKE || conn->phase == HTTP_FIRST) {
        drop(conn);
    }
}

void sr_httpd_conn_stop(sr_httpd_conn *conn) {
    sr_pump *pump = conn->pump;
    if (conn->mhd) {
        if (conn->request) sr_httpd_request_abort(conn->request);
    } else if (conn->phase != HTTP_CLOSED) {
        drop(conn);
    }
    if (pump) sr_pump_stop(pump);
}
