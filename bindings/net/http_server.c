/* http_server.c – the server as a whole: start, accept, run, drain, stop.
 *
 * Owns the listener, libmicrohttpd's daemon and the watch on its epoll descriptor. The
 * daemon has no thread, no listening socket and no clock of its own; it works only inside
 * sr_httpd_run, which is never re-entered: a call from one of its callbacks is noted
 * and done after. MHD_get_timeout is asked after every run, else a resumed connection
 * hangs.
 *
 * Nothing below holds a pointer longer than its own reference to the server (`refs`), so
 * the order in which libuv calls its close callbacks does not matter.
 */
#include "http_server_int.h"

#include <stdlib.h>
#include <string.h>

enum {
    ACCEPT_BATCH = 64,     /* connections taken per turn of the loop */
    RUN_ROUNDS = 16,       /* runs in a row before others get their turn */
    POOL_SPARE = 32 * 1024 /* of a connection's memory, beyond the header section */
};

/* Memory of a connection up to this size comes from the heap, more is mapped and unmapped
 * by libmicrohttpd: two system calls and a TLB flush for each connection. */
#define POOL_HEAP ((size_t)32 * 1024)
#define POOL_LEAST ((size_t)16 * 1024) /* for the header of the response, beyond it */

#define PAUSE_NS (SR_NS / 10)

/* ------------------------------------------------------------------ references */

void sr_httpd_hold(sr_httpd *server) {
    server->refs++;
}

void sr_httpd_drop(sr_httpd *server) {
    if (--server->refs) return;
    free(server);
}

void sr_httpd_changed(sr_httpd *server) {
    if (server->changed) server->changed(server->arg);
}

static void on_closed(uv_handle_t *handle) {
    sr_httpd_drop(handle->data);
}

/* ------------------------------------------------------------------ running */

static void on_events(uv_poll_t *handle, int status, int events) {
    (void)status;
    (void)events;
    sr_httpd_run(handle->data);
}

static void on_wake(uv_timer_t *handle) {
    sr_httpd_run(handle->data);
}

static bool wants_run(sr_httpd *server, MHD_UNSIGNED_LONG_LONG *ret_ms) {
    *ret_ms = 0;
    if (server->again) return true;
    if (MHD_get_timeout(server->daemon, ret_ms) == MHD_YES) return *ret_ms == 0;
    *ret_ms = UINT64_MAX;
    return false;
}

void sr_httpd_run(sr_httpd *server) {
    MHD_UNSIGNED_LONG_LONG ms = 0;
    if (server->stopped) return;
    server->again = true;
    if (server->running) return;
    server->running = true;
    sr_httpd_hold(server);
    for (int round = 0; round < RUN_ROUNDS && wants_run(server, &ms); round++) {
        server->again = false;
        MHD_run(server->daemon);
    }
    (void)wants_run(server, &ms);
    server->running = false;
    if (ms == UINT64_MAX)
        uv_timer_stop(&server->wake);
    else
        uv_timer_start(&server->wake, on_wake, ms, 0);
    sr_httpd_drop(server);
}

/* ------------------------------------------------------------------ accepting */

static void on_pause(sr_timer *timer) {
    char *at = (char *)timer - offsetof(sr_httpd, pause);
    sr_httpd_accept((sr_httpd *)at);
}

/* Out of descriptors or memory: those who wait are served when some are free again. */
void sr_httpd_pause(sr_httpd *server, const sr_err *err) {
    if (server->pause.at || server->stopped) return;
    sr_log(NULL, SR_WARN, "http", "cannot accept: %s", err->message);
    sr_timer_start(server->loop, &server->pause, sr_mono(server->loop) + PAUSE_NS,
                   on_pause);
}

void sr_httpd_accept(sr_httpd *server) {
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        sr_err err = {0};
        if (server->draining || server->stopped || server->pause.at) return;
        server->full = server->conn_count >= server->config.max_connections;
        if (server->full) return;
        sr_stream *stream = sr_listener_accept(server->listener, &err);
        if (!stream && err.kind) sr_httpd_pause(server, &err);
        if (!stream) return;
        sr_httpd_conn_open(server, stream);
    }
}

static void on_ready(sr_listener *listener, void *arg) {
    (void)listener;
    sr_httpd_accept(arg);
}

/* ------------------------------------------------------------------ starting */

/* Paths and queries are decoded by http_path.c, so libmicrohttpd shall leave them alone.
 */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text) {
    (void)cls;
    (void)mhd;
    return strlen(text);
}

/* Whole seconds of inactivity after which a client that does not read its response is cut
 * off; our own deadlines of the other phases all come earlier. */
static unsigned inactivity(const sr_httpd_config *config) {
    int64_t longest = config->timeout;
    if (config->idle_timeout > longest) longest = config->idle_timeout;
    int64_t seconds = longest / SR_NS + 2;
    return seconds > 1000000 ? 1000000 : (unsigned)seconds;
}

static size_t connection_memory(const sr_httpd_config *config) {
    bool small = config->max_headers + POOL_LEAST <= POOL_HEAP;
    return small ? POOL_HEAP : config->max_headers + POOL_SPARE;
}

static int start_daemon(sr_httpd *server, sr_err *err) {
    const sr_httpd_config *config = &server->config;
    /* The limit of connections is kept in accept; reaching libmicrohttpd's own (0.9.75)
     * leaves one of its locks taken. */
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET |
            MHD_USE_SUPPRESS_DATE_NO_CLOCK,
        0, NULL, NULL, sr_httpd_request_handle, server, MHD_OPTION_CONNECTION_LIMIT,
        config->max_connections + 16, MHD_OPTION_CONNECTION_TIMEOUT, inactivity(config),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, connection_memory(config),
        MHD_OPTION_URI_LOG_CALLBACK, sr_httpd_request_begin, server,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, server, MHD_OPTION_NOTIFY_COMPLETED,
        sr_httpd_request_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        sr_httpd_conn_notify, server, MHD_OPTION_END);
    if (server->daemon) return 0;
    return sr_fail(err, SR_IO, "MHD",
                   "the HTTP server cannot start (descriptors: ulimit -n)");
}

static int watch_daemon(sr_httpd *server, sr_err *err) {
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info) return sr_fail(err, SR_INTERNAL, "MHD", "libmicrohttpd has no epoll");
    int rc = uv_poll_init(sr_uv(server->loop), &server->events, info->epoll_fd);
    if (rc != 0) return sr_fail_uv(err, rc, "cannot watch the HTTP server");
    uv_timer_init(sr_uv(server->loop), &server->wake);
    server->events.data = server->wake.data = server;
    server->refs += 2;
    uv_poll_start(&server->events, UV_READABLE, on_events);
    return 0;
}

int sr_httpd_new(sr_loop *loop, const sr_httpd_config *config, void (*changed)(void *arg),
                 void *arg, sr_httpd **ret_server, sr_err *err) {
    sr_httpd *server = calloc(1, sizeof *server);
    if (!server) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for an HTTP server");
    server->refs = 1;
    server->loop = loop;
    server->config = *config;
    server->config.where = (sr_listen){0}; /* the caller's strings */
    server->tls = config->where.tls != NULL;
    server->changed = changed;
    server->arg = arg;
    server->listener = sr_listener_new(loop, &config->where, on_ready, server, err);
    if (!server->listener) goto out;
    if (start_daemon(server, err) != 0 || watch_daemon(server, err) != 0) goto out;
    *ret_server = server;
    return 0;
out:
    if (server->daemon) MHD_stop_daemon(server->daemon);
    if (server->listener) sr_listener_free(server->listener);
    sr_httpd_drop(server);
    return -1;
}

/* ------------------------------------------------------------------ ending */

static void close_listener(sr_httpd *server) {
    sr_timer_stop(server->loop, &server->pause);
    if (server->listener) sr_listener_free(server->listener);
    server->listener = NULL;
}

void sr_httpd_drain(sr_httpd *server) {
    if (server->draining || server->stopped) return;
    server->draining = true;
    close_listener(server);
    for (sr_httpd_conn *conn = server->conns, *next; conn; conn = next) {
        next = conn->next;
        sr_httpd_conn_drain(conn);
    }
    sr_httpd_run(server);
}

static void forget_gone(sr_httpd *server) {
    while (server->gone_first) {
        sr_httpd_request *req = server->gone_first;
        server->gone_first = req->next;
        sr_httpd_request_unref(req);
    }
    server->gone_last = NULL;
}

void sr_httpd_stop(sr_httpd *server) {
    if (server->stopped) return;
    server->stopped = true;
    close_listener(server);
    for (sr_httpd_conn *conn = server->conns, *next; conn; conn = next) {
        next = conn->next;
        sr_httpd_conn_stop(conn);
    }
    uv_close((uv_handle_t *)&server->events, on_closed);
    uv_close((uv_handle_t *)&server->wake, on_closed);
    MHD_stop_daemon(server->daemon);
    server->daemon = NULL;
    sr_httpd_linger_stop_all(server);
    forget_gone(server);
    sr_httpd_changed(server);
}

void sr_httpd_free(sr_httpd *server) {
    if (!server) return;
    sr_httpd_stop(server);
    server->changed = NULL;
    sr_httpd_drop(server);
}

/* ------------------------------------------------------------------ looking */

int sr_httpd_set_tls(sr_httpd *server, sr_tls_ctx *tls, sr_err *err) {
    if (!server->tls || !server->listener)
        return sr_fail(err, SR_USAGE, NULL, "this HTTP server %s",
                       server->tls ? "has stopped" : "speaks no TLS");
    sr_listener_set_tls(server->listener, tls);
    return 0;
}

bool sr_httpd_stopped(const sr_httpd *server) {
    return server->stopped;
}

unsigned sr_httpd_connections(const sr_httpd *server) {
    return server->conn_count;
}

int sr_httpd_port(const sr_httpd *server) {
    return server->listener ? sr_listener_port(server->listener) : 0;
}

void sr_httpd_address(const sr_httpd *server, char *buf, size_t size) {
    struct sockaddr_storage addr = {0};
    buf[0] = '\0';
    if (!server->listener) return;
    sr_listener_address(server->listener, &addr);
    sr_addr_text((struct sockaddr *)&addr, buf, size);
}

sr_httpd_request *sr_httpd_next(sr_httpd *server) {
    sr_httpd_request *req = server->first;
    if (!req) return NULL;
    server->first = req->next;
    if (!server->first) server->last = NULL;
    server->waiting--;
    req->next = NULL;
    req->stage = REQ_TAKEN;
    sr_httpd_request_ref(req);
    return req;
}

sr_httpd_request *sr_httpd_next_gone(sr_httpd *server) {
    sr_httpd_request *req = server->gone_first;
    if (!req) return NULL;
    server->gone_first = req->next;
    if (!server->gone_first) server->gone_last = NULL;
    req->next = NULL;
    return req;
}
