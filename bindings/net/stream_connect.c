/* stream_connect.c – from a name to a connected stream.
 *
 * resolve → for each address in the resolver's order (RFC 6724): init, bind, connect →
 * begin. An attempt that fails is closed, and its close callback starts the next one in
 * the same memory. While other addresses are left an attempt has `attempt` seconds; the
 * last one has as long as the owner waits. What was tried goes into the final message.
 *
 * The dial outlives a stream that is closed in the middle: libuv still owes it a
 * callback.
 */
#include "stream_int.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { ADDRS_MAX = 16 };

struct sr_dial {
    sr_stream *s; /* a reference */
    bool resolving, connecting, stopped;
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    struct sockaddr_storage addrs[ADDRS_MAX];
    int count, at;
    struct sockaddr_storage local;
    bool has_local;
    int port;
    double attempt;
    sr_tls_ctx *tls;
    char *servername;
    sr_buf tried; /* "127.0.0.1:80: connection refused, …" */
    int last;     /* code of the last failure */
    sr_vm *vm;    /* asked before each attempt, NULL: nobody */
    sr_err denied;
};

static void dial_free(sr_dial *d) {
    sr_stream *s = d->s;
    sr_tls_ctx_unref(d->tls);
    free(d->servername);
    sr_buf_free(&d->tried);
    free(d);
    sr_stream_unref(s);
}

/* The stream needs it no more; it goes now or with its last callback. */
static void dial_drop(sr_dial *d) {
    d->stopped = true;
    if (!d->resolving && !d->connecting) dial_free(d);
}

void sr_dial_stop(sr_stream *s) {
    sr_dial *d = s->dial;
    if (!d) return;
    s->dial = NULL;
    if (d->resolving)
        (void)uv_cancel((uv_req_t *)&d->resolve); /* or it runs to its end */
    dial_drop(d);
}

/* ---------------------------------------------------------------- outcomes */

static void note(sr_dial *d, const char *where, int uv_code) {
    d->last = uv_code;
    sr_buf_printf(&d->tried, "%s%s: %s", d->tried.len ? ", " : "", where,
                  uv_strerror(uv_code));
}

static void note_addr(sr_dial *d, int uv_code) {
    char text[80];
    sr_addr_text((struct sockaddr *)&d->addrs[d->at - 1], text, sizeof text);
    note(d, text, uv_code);
}

static const char *mend_of(int uv_code) {
    switch (uv_code) {
    case UV_ECONNREFUSED: return "; is the server running?";
    case UV_ENOENT: return "; is the server running, and the path right?";
    case UV_EACCES: return "; may this user use it?";
    case UV_EADDRNOTAVAIL: return "; local_addr must be an address of this machine";
    case UV_ENETUNREACH:
    case UV_EHOSTUNREACH: return "; is the network up?";
    case UV_ETIMEDOUT: return "; is a firewall in the way?";
    default: return "";
    }
}

/* Everything was tried. */
static void give_up(sr_dial *d) {
    sr_stream *s = d->s;
    sr_err err = {0};
    bool same = d->count <= 1 && d->tried.data &&
                strncmp(d->tried.data, s->name, strlen(s->name)) == 0;
    if (d->denied.kind && !d->tried.len)
        err = d->denied;
    else
        (void)sr_fail(&err, SR_CONNECT, uv_err_name(d->last),
                      "cannot connect to %s%s%s%s", same ? "" : s->name, same ? "" : ": ",
                      d->tried.data ? d->tried.data : uv_strerror(d->last),
                      mend_of(d->last));
    err.retryable = err.kind == SR_CONNECT;
    sr_stream_ref(s);
    s->dial = NULL;
    dial_drop(d);
    sr_stream_lost(s, &err);
    sr_stream_changed(s);
    sr_stream_unref(s);
}

static void arrived(sr_dial *d) {
    sr_stream *s = d->s;
    sr_stream_ref(s);
    s->dial = NULL;
    if (!s->local_socket) (void)uv_tcp_nodelay(&s->u.tcp, 1); /* an optimisation only */
    if (s->local_socket) {
        uv_os_fd_t fd;
        s->outside = uv_fileno(&s->u.handle, &fd) != 0 || sr_stream_cred_outside(fd);
    }
    sr_stream_begin(s, d->tls, d->servername);
    dial_drop(d);
    sr_stream_changed(s);
    sr_stream_unref(s);
}

/* ---------------------------------------------------------------- attempts */

static void on_connected(uv_connect_t *req, int status) {
    sr_dial *d = req->data;
    sr_stream *s = d->s;
    d->connecting = false;
    if (d->stopped) return dial_free(d);
    if (status == UV_ECANCELED) return; /* too late; the close callback goes on */
    sr_timer_stop(s->loop, &s->timer);
    if (status == 0) return arrived(d);
    if (s->local_socket) {
        note(d, s->name, status);
        sr_stream_close_handle(s);
        return;
    }
    note_addr(d, status);
    sr_stream_close_handle(s);
}

static void on_attempt_late(sr_timer *timer) {
    sr_stream *s = (sr_stream *)((char *)timer - offsetof(sr_stream, timer));
    note_addr(s->dial, UV_ETIMEDOUT);
    sr_stream_close_handle(s);
}

/* Our address is known as soon as the attempt runs; peers in this process know it by
 * that. */
static void own_local(sr_stream *s) {
    if (!sr_stream_local(s, &s->local)) return;
    sr_own_add(s->loop, (struct sockaddr *)&s->local);
    s->own = true;
}

/* Start one attempt. 0 or a libuv code, then the handle may have to be closed. */
static int try_addr(sr_dial *d, const struct sockaddr *sa) {
    sr_stream *s = d->s;
    int rc = sr_stream_init_handle(s);
    if (rc != 0) return rc;
    if (d->has_local) rc = uv_tcp_bind(&s->u.tcp, (struct sockaddr *)&d->local, 0);
    if (rc != 0) return rc;
    s->outside = !sr_own_has(s->loop, sa);
    sr_stream_hold(s, s->outside);
    d->connect.data = d;
    rc = uv_tcp_connect(&d->connect, &s->u.tcp, sa, on_connected);
    if (rc != 0) return rc;
    d->connecting = true;
    own_local(s);
    if (d->at < d->count) {
        int64_t due = sr_mono(s->loop) + (int64_t)(d->attempt * (double)SR_NS);
        (void)sr_timer_start(s->loop, &s->timer, due,
                             on_attempt_late); /* owner's deadline */
    }
    return 0;
}

/* May the next address be connected to? */
static bool permitted(sr_dial *d) {
    char text[80];
    if (!d->vm) return true;
    sr_addr_text((struct sockaddr *)&d->addrs[d->at], text, sizeof text);
    return sr_allowed_peer(d->vm, d->s->name, text, &d->denied) == 0;
}

void sr_dial_next(sr_stream *s) {
    sr_dial *d = s->dial;
    while (!s->local_socket && d->at < d->count && !permitted(d))
        d->at++;
    if (s->local_socket || d->at == d->count) return give_up(d);
    d->at++;
    int rc = try_addr(d, (struct sockaddr *)&d->addrs[d->at - 1]);
    if (rc == 0) return;
    note_addr(d, rc);
    if (s->handle == SR_HANDLE_LIVE)
        sr_stream_close_handle(s); /* comes back here */
    else
        sr_dial_next(s);
}

/* ---------------------------------------------------------------- resolving */

static void add_addr(sr_dial *d, const struct sockaddr *sa, size_t len) {
    if (d->count == ADDRS_MAX || len > sizeof *d->addrs) return;
    if (d->has_local && d->local.ss_family != sa->sa_family) return;
    memcpy(&d->addrs[d->count++], sa, len);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list) {
    sr_dial *d = req->data;
    sr_stream *s = d->s;
    sr_err err = {0};
    d->resolving = false;
    if (status == 0)
        for (struct addrinfo *ai = list; ai; ai = ai->ai_next)
            add_addr(d, ai->ai_addr, ai->ai_addrlen);
    uv_freeaddrinfo(list);
    if (d->stopped) return dial_free(d);
    if (status == 0 && d->count > 0) return sr_dial_next(s);
    (void)sr_fail(&err, SR_DNS, status ? uv_err_name(status) : "EAI_FAMILY",
                  "cannot resolve the host of %s: %s; check the name and the resolver",
                  s->name,
                  status ? uv_strerror(status) : "no address of the right family");
    err.retryable = status == UV_EAI_AGAIN;
    sr_stream_ref(s);
    s->dial = NULL;
    dial_drop(d);
    sr_stream_lost(s, &err);
    sr_stream_changed(s);
    sr_stream_unref(s);
}

static int start_resolving(sr_dial *d, const char *host, sr_err *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char service[16];
    snprintf(service, sizeof service, "%d", d->port);
    d->resolve.data = d;
    int rc = uv_getaddrinfo(sr_uv(d->s->loop), &d->resolve, on_resolved, host, service,
                            &hints);
    if (rc != 0)
        return sr_fail(err, SR_DNS, uv_err_name(rc), "cannot resolve '%s': %s", host,
                       uv_strerror(rc));
    d->resolving = true;
    sr_stream_hold(d->s, true);
    return 0;
}

/* ---------------------------------------------------------------- start */

static int start_unix(sr_dial *d, const char *path, sr_err *err) {
    int rc = sr_stream_init_handle(d->s);
    if (rc != 0) return sr_fail_uv(err, rc, "cannot connect to %s", d->s->name);
    d->connect.data = d;
    d->connecting = true;
    uv_pipe_connect(&d->connect, &d->s->u.pipe, path, on_connected);
    return 0;
}

static int start(sr_dial *d, const sr_connect *how, sr_err *err) {
    struct sockaddr_storage sa;
    sr_err ignored;
    if (how->path) return start_unix(d, how->path, err);
    if (how->local_addr) {
        if (sr_addr_parse(how->local_addr, 0, &d->local, err) != 0) return -1;
        d->has_local = true;
    }
    if (strcmp(how->host, "localhost") == 0 ||
        sr_addr_parse(how->host, how->port, &sa, &ignored) != 0)
        return start_resolving(d, how->host, err);
    add_addr(d, (struct sockaddr *)&sa, sizeof sa);
    if (d->count == 0)
        return sr_fail(err, SR_USAGE, NULL,
                       "local_addr %s and %s are addresses of different families",
                       how->local_addr, how->host);
    sr_dial_next(d->s);
    return 0;
}

static int check(const sr_connect *how, sr_err *err) {
    if (how->path && strlen(how->path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return sr_fail(err, SR_USAGE, NULL,
                       "the path %s is too long for a unix socket; at most 107 bytes",
                       how->path);
    if (how->path && how->tls && !how->servername)
        return sr_fail(err, SR_USAGE, NULL,
                       "TLS over a unix socket needs servername, the name to verify");
    if (how->path) return 0;
    if (!how->host || !*how->host)
        return sr_fail(err, SR_USAGE, NULL, "connect needs host and port, or unix");
    if (how->port < 1 || how->port > 65535)
        return sr_fail(err, SR_USAGE, NULL, "port %d is not between 1 and 65535",
                       how->port);
    return 0;
}

sr_stream *sr_stream_connect(sr_loop *loop, const sr_connect *how, sr_err *err) {
    char name[320];
    if (check(how, err) != 0) return NULL;
    if (how->path)
        snprintf(name, sizeof name, "unix:%s", how->path);
    else
        snprintf(name, sizeof name, strchr(how->host, ':') ? "[%s]:%d" : "%s:%d",
                 how->host, how->port);
    sr_stream *s = sr_stream_alloc(loop, how->path != NULL, name);
    sr_dial *d = s ? calloc(1, sizeof *d) : NULL;
    if (!d) {
        sr_stream_unref(s);
        sr_fail(err, SR_INTERNAL, NULL, "no memory for a connection");
        return NULL;
    }
    d->s = sr_stream_ref(s);
    s->dial = d;
    d->port = how->port;
    d->vm = how->vm;
    d->attempt = how->attempt > 0 ? how->attempt : 5.0;
    d->tls = how->tls ? sr_tls_ctx_ref(how->tls) : NULL;
    const char *servername = how->servername ? how->servername : how->host;
    if (servername) d->servername = strdup(servername);
    if (how->host) s->host = strdup(how->host); /* a default for starttls only */
    if ((servername && !d->servername) || start(d, how, err) != 0) {
        if (servername && !d->servername)
            sr_fail(err, SR_INTERNAL, NULL, "no memory for a connection");
        sr_stream_close(s);
        sr_stream_unref(s);
        return NULL;
    }
    return s;
}
