/* stream.c – one connected socket: buffers, back-pressure, TLS, the end.
 *
 *     socket → (tls in → SSL) → in  → owner     stops reading when `in` reaches its bound
 *     socket ← flight ← out ← (SSL → tls out) ← owner    takes no more than the bound
 *
 * CONNECTING → HANDSHAKE → OPEN → CLOSED. A failure is kept in err (reading) or write_err
 * (writing) and leaves the state as it is: the owner closes. Reading failures show only
 * after the bytes before them were consumed.
 *
 * One uv_write is under way at most; what is queued meanwhile goes with the next. Small
 * writes do not come that far: uv_try_write takes them at once.
 */
#include "stream_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Filled and emptied within one callback. */
static _Thread_local char scratch[SR_STREAM_CHUNK];

static void settle(sr_stream *s);

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* ---------------------------------------------------------------- life */

int sr_stream_init_handle(sr_stream *s) {
    uv_loop_t *uv = sr_uv(s->loop);
    int rc =
        s->local_socket ? uv_pipe_init(uv, &s->u.pipe, 0) : uv_tcp_init(uv, &s->u.tcp);
    if (rc != 0) return rc;
    s->u.handle.data = s;
    s->handle = SR_HANDLE_LIVE;
    s->refs++;
    return 0;
}

sr_stream *sr_stream_alloc(sr_loop *loop, bool local_socket, const char *name) {
    sr_stream *s = calloc(1, sizeof *s);
    char *copy = s ? strdup(name) : NULL;
    if (!copy) {
        free(s);
        return NULL;
    }
    s->refs = 1;
    s->loop = loop;
    s->local_socket = local_socket;
    s->bound = SR_STREAM_BOUND;
    s->name = copy;
    return s;
}

sr_stream *sr_stream_ref(sr_stream *s) {
    s->refs++;
    return s;
}

void sr_stream_unref(sr_stream *s) {
    if (!s || --s->refs) return;
    sr_tls_free(s->tls);
    sr_buf_free(&s->in);
    sr_buf_free(&s->out);
    sr_buf_free(&s->flight);
    free(s->name);
    free(s->host);
    free(s);
}

void sr_stream_notify(sr_stream *s, void (*notify)(sr_stream *s, void *arg), void *arg) {
    s->notify = notify;
    s->arg = arg;
}

void sr_stream_changed(sr_stream *s) {
    if (s->notify) s->notify(s, s->arg);
}

void sr_stream_hold(sr_stream *s, bool hold) {
    if (s->held == hold) return;
    s->held = hold;
    if (hold)
        sr_outside_begin(s->loop);
    else
        sr_outside_end(s->loop);
}

static void on_closed(uv_handle_t *handle) {
    sr_stream *s = handle->data;
    s->handle = SR_HANDLE_NONE;
    if (s->dial) sr_dial_next(s);
    sr_stream_unref(s);
}

void sr_stream_close_handle(sr_stream *s) {
    if (s->own) sr_own_remove(s->loop, (struct sockaddr *)&s->local);
    s->own = false;
    s->reading = false;
    if (s->handle != SR_HANDLE_LIVE) return;
    s->handle = SR_HANDLE_CLOSING;
    uv_close(&s->u.handle, on_closed);
}

/* A last close_notify, if the kernel takes it at once and nothing is half sent. */
static void say_goodbye(sr_stream *s) {
    if (!s->tls || s->state != SR_STREAM_OPEN || s->writing || s->out.len) return;
    if (s->write_err.kind) return;
    sr_tls_shutdown(s->tls);
    if (sr_tls_take(s->tls, &s->out) != 0 || !s->out.len) return;
    uv_buf_t buf = uv_buf_init(s->out.data, (unsigned)s->out.len);
    (void)uv_try_write(&s->u.stream, &buf, 1); /* the peer may be gone already */
}

/* Closing with unread bytes makes the kernel reset the connection, which can cost the
 * peer our last words. Take what is there, within reason. */
static void drain_kernel(sr_stream *s) {
    uv_os_fd_t fd;
    if (s->local_socket || uv_fileno(&s->u.handle, &fd) != 0) return;
    for (int i = 0; i < 16 && recv(fd, scratch, sizeof scratch, MSG_DONTWAIT) > 0; i++)
        ;
}

void sr_stream_close(sr_stream *s) {
    if (s->state == SR_STREAM_CLOSED) return;
    if (s->state != SR_STREAM_CONNECTING && s->handle == SR_HANDLE_LIVE) {
        say_goodbye(s);
        drain_kernel(s);
    }
    s->state = SR_STREAM_CLOSED;
    sr_timer_stop(s->loop, &s->timer);
    sr_stream_hold(s, false);
    sr_stream_ref(s);
    sr_dial_stop(s);
    sr_stream_close_handle(s);
    sr_stream_changed(s);
    sr_stream_unref(s);
}

sr_stream_state sr_stream_get_state(const sr_stream *s) {
    return s->state;
}

const sr_err *sr_stream_error(const sr_stream *s) {
    return s->err.kind ? &s->err : NULL;
}

const sr_err *sr_stream_write_error(const sr_stream *s) {
    return s->write_err.kind ? &s->write_err : NULL;
}

/* ---------------------------------------------------------------- failures */

/* A socket failed in use: always kind io, whatever errno would mean elsewhere. */
static void fail_io(sr_stream *s, sr_err *err, const char *verb, int uv_code) {
    (void)sr_fail(err, SR_IO, uv_err_name(uv_code), "%s %s: %s", verb, s->name,
                  uv_strerror(uv_code));
    err->retryable = true;
}

static void write_failed(sr_stream *s, int uv_code) {
    if (!s->write_err.kind) fail_io(s, &s->write_err, "writing to", uv_code);
    s->out.len = 0;
}

void sr_stream_lost(sr_stream *s, const sr_err *err) {
    if (!s->err.kind) s->err = *err;
    if (!s->write_err.kind) s->write_err = *err;
    s->out.len = 0;
    sr_timer_stop(s->loop, &s->timer);
    sr_stream_hold(s, false);
}

/* ---------------------------------------------------------------- writing */

size_t sr_stream_queued(const sr_stream *s) {
    size_t flying = s->writing ? s->flight.len - s->flight_at : 0;
    return s->out.len + flying + (s->tls ? sr_tls_pending(s->tls) : 0);
}

static void flush(sr_stream *s);

static void on_written(uv_write_t *req, int status) {
    sr_stream *s = req->data;
    s->writing = false;
    if (s->flight.cap > 16384)
        sr_buf_free(&s->flight);
    else
        s->flight.len = 0;
    if (s->state == SR_STREAM_CLOSED) return;
    if (status != 0) write_failed(s, status);
    settle(s);
}

static void on_shut(uv_shutdown_t *req, int status) {
    sr_stream *s = req->data;
    (void)status; /* a peer that is gone needs no end */
    s->shut = true;
    if (s->state != SR_STREAM_CLOSED) sr_stream_changed(s);
}

/* Hand `out` from byte n on to libuv. */
static void send_rest(sr_stream *s, size_t n) {
    sr_buf swap = s->flight;
    s->flight = s->out;
    s->out = swap;
    s->out.len = 0;
    s->flight_at = n;
    s->write_req.data = s;
    uv_buf_t rest = uv_buf_init(s->flight.data + n, (unsigned)(s->flight.len - n));
    int rc = uv_write(&s->write_req, &s->u.stream, &rest, 1, on_written);
    if (rc == 0)
        s->writing = true;
    else
        write_failed(s, rc);
}

static void send_end(sr_stream *s) {
    if (!s->want_shut || s->shut_asked) return;
    s->shut_asked = true;
    s->shut_req.data = s;
    if (uv_shutdown(&s->shut_req, &s->u.stream, on_shut) != 0) s->shut = true;
}

/* Bring as much to the kernel as it takes. */
static void flush(sr_stream *s) {
    if (s->writing || s->handle != SR_HANDLE_LIVE || s->write_err.kind) return;
    if (s->state == SR_STREAM_CONNECTING || s->state == SR_STREAM_CLOSED) return;
    if (s->tls && sr_tls_take(s->tls, &s->out) != 0) return write_failed(s, UV_ENOMEM);
    if (s->out.len) {
        uv_buf_t all = uv_buf_init(s->out.data, (unsigned)s->out.len);
        int n = uv_try_write(&s->u.stream, &all, 1);
        if (n < 0 && n != UV_EAGAIN) return write_failed(s, n);
        if (n < 0) n = 0;
        if ((size_t)n < s->out.len) return send_rest(s, (size_t)n);
        s->out.len = 0;
    }
    if (s->out.cap > 16384) sr_buf_free(&s->out);
    send_end(s);
}

/* Plain bytes: past the buffers if they are empty, the rest into them. */
static int write_plain(sr_stream *s, const char *data, size_t len, size_t *ret_len) {
    size_t done = 0;
    if (!s->writing && !s->out.len) {
        uv_buf_t all = uv_buf_init((char *)data, (unsigned)smaller(len, 1 << 30));
        int n = uv_try_write(&s->u.stream, &all, 1);
        if (n < 0 && n != UV_EAGAIN) return n;
        if (n > 0) done = (size_t)n;
    }
    size_t queued = sr_stream_queued(s);
    size_t room = queued < SR_STREAM_BOUND ? SR_STREAM_BOUND - queued : 0;
    size_t rest = smaller(len - done, room);
    if (rest && sr_buf_append(&s->out, data + done, rest) != 0) return UV_ENOMEM;
    *ret_len = done + rest;
    return 0;
}

int sr_stream_write(sr_stream *s, const void *data, size_t len, size_t *ret_len,
                    sr_err *err) {
    size_t done = 0;
    if (s->state == SR_STREAM_CLOSED || s->want_shut)
        return sr_fail(err, SR_IO, "closed", "writing to %s: this side is closed",
                       s->name);
    if (!s->write_err.kind && s->state == SR_STREAM_OPEN &&
        sr_stream_queued(s) < SR_STREAM_BOUND) {
        if (s->tls) {
            if (sr_tls_write(s->tls, data, len, &done, err) != 0) return -1;
        } else {
            int rc = write_plain(s, data, len, &done);
            if (rc != 0) write_failed(s, rc);
        }
        flush(s);
    }
    if (s->write_err.kind) {
        *err = s->write_err;
        return -1;
    }
    *ret_len = done;
    return 0;
}

int sr_stream_shutdown(sr_stream *s, sr_err *err) {
    if (s->state != SR_STREAM_OPEN)
        return sr_fail(err, SR_IO, "closed", "shutting down %s: it is not open", s->name);
    if (s->want_shut) return 0;
    s->want_shut = true;
    if (s->tls) sr_tls_shutdown(s->tls);
    flush(s);
    if (s->write_err.kind) {
        *err = s->write_err;
        return -1;
    }
    return 0;
}

bool sr_stream_is_shut(const sr_stream *s) {
    return s->shut;
}

/* ---------------------------------------------------------------- reading */

static size_t buffered(const sr_stream *s) {
    return s->in.len - s->in_at;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    sr_stream *s = handle->data;
    size_t room = sizeof scratch;
    (void)suggested;
    if (!s->tls)
        room = smaller(room, s->bound > buffered(s) ? s->bound - buffered(s) : 1);
    *buf = uv_buf_init(scratch, (unsigned)room);
}

static void read_failed(sr_stream *s, int uv_code) {
    sr_err err = {0};
    bool shaking = s->state == SR_STREAM_HANDSHAKE;
    fail_io(s, &err, shaking ? "TLS handshake with" : "reading from", uv_code);
    s->transport_end = true;
    if (shaking) sr_stream_lost(s, &err);
    if (!s->err.kind) s->err = err;
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf) {
    sr_stream *s = stream->data;
    if (nread == 0) return;
    if (nread > 0 && s->tls) {
        (void)sr_tls_feed(s->tls, buf->base, (size_t)nread); /* reading waits for room */
    } else if (nread > 0) {
        if (sr_buf_append(&s->in, buf->base, (size_t)nread) != 0)
            fail_io(s, &s->err, "reading from", UV_ENOMEM);
    } else if (nread == UV_EOF) {
        s->transport_end = true;
        if (s->tls) sr_tls_eof(s->tls);
    } else {
        read_failed(s, (int)nread);
    }
    settle(s);
}

/* Requests for new keys or to renegotiate make TLS answer by itself. Our own writing
 * stops well below this bound, so a peer above it sends such and does not read. */
static bool answers_pile_up(const sr_stream *s) {
    return sr_tls_pending(s->tls) > SR_TLS_OUT_MAX + SR_STREAM_CHUNK;
}

/* Read from the socket if there is room for it, else let the kernel push back. */
static void set_reading(sr_stream *s) {
    bool want = s->handle == SR_HANDLE_LIVE && !s->transport_end && !s->err.kind &&
                (s->state == SR_STREAM_HANDSHAKE || s->state == SR_STREAM_OPEN) &&
                buffered(s) < s->bound;
    if (want && s->tls)
        want = sr_tls_room(s->tls) >= SR_STREAM_CHUNK && !answers_pile_up(s);
    if (want == s->reading) return;
    if (want) {
        int rc = uv_read_start(&s->u.stream, on_alloc, on_read);
        if (rc != 0) fail_io(s, &s->err, "reading from", rc);
        s->reading = rc == 0;
    } else {
        if (s->handle == SR_HANDLE_LIVE) uv_read_stop(&s->u.stream);
        s->reading = false;
    }
}

/* TLS failed: let its alert out, then both directions are lost. */
static void tls_lost(sr_stream *s, const sr_err *err) {
    flush(s);
    sr_stream_lost(s, err);
}

/* Decrypt what fits under the bound. */
static void decrypt(sr_stream *s) {
    sr_err err = {0};
    while (!s->eof && buffered(s) < s->bound) {
        size_t n = 0, room = smaller(sizeof scratch, s->bound - buffered(s));
        sr_tls_result result = sr_tls_read(s->tls, scratch, room, &n, &err);
        if (result == SR_TLS_MORE) return;
        if (result == SR_TLS_END) {
            s->eof = true;
            return;
        }
        if (result == SR_TLS_FAILED) {
            tls_lost(s, &err);
            return;
        }
        if (sr_buf_append(&s->in, scratch, n) != 0)
            return fail_io(s, &s->err, "reading from", UV_ENOMEM);
    }
}

/* Do everything that the bytes at hand allow. */
static void advance(sr_stream *s) {
    sr_err err = {0};
    if (s->state == SR_STREAM_CLOSED || s->state == SR_STREAM_CONNECTING) return;
    if (!s->tls) {
        if (s->transport_end && !s->err.kind) s->eof = true;
        return;
    }
    if (s->state == SR_STREAM_HANDSHAKE && !s->err.kind) {
        sr_tls_result result = sr_tls_handshake(s->tls, &err);
        if (result == SR_TLS_FAILED) return tls_lost(s, &err);
        if (result != SR_TLS_DONE) return;
        s->state = SR_STREAM_OPEN;
        sr_timer_stop(s->loop, &s->timer);
        sr_stream_hold(s, false);
    }
    if (s->state == SR_STREAM_OPEN) decrypt(s);
}

static void advance_all(sr_stream *s) {
    advance(s);
    flush(s);
    set_reading(s);
}

/* After anything happened: go on, and tell the owner. */
static void settle(sr_stream *s) {
    if (s->state == SR_STREAM_CLOSED) return;
    sr_stream_ref(s);
    advance_all(s);
    sr_stream_changed(s);
    sr_stream_unref(s);
}

const char *sr_stream_peek(sr_stream *s, size_t *ret_len) {
    *ret_len = buffered(s);
    return s->in.data ? s->in.data + s->in_at : "";
}

void sr_stream_consume(sr_stream *s, size_t len) {
    s->in_at += smaller(len, buffered(s));
    if (s->in_at == s->in.len) {
        s->in.len = s->in_at = 0;
        if (s->in.cap > 16384) sr_buf_free(&s->in);
    } else if (s->in_at > s->in.len / 2) {
        memmove(s->in.data, s->in.data + s->in_at, buffered(s));
        s->in.len -= s->in_at;
        s->in_at = 0;
    }
    advance_all(s);
}

bool sr_stream_eof(const sr_stream *s) {
    return s->eof;
}

void sr_stream_set_bound(sr_stream *s, size_t bound) {
    s->bound = bound ? bound : SR_STREAM_BOUND;
    advance_all(s);
}

/* ---------------------------------------------------------------- TLS */

static void on_late(sr_timer *timer) {
    sr_stream *s = (sr_stream *)((char *)timer - offsetof(sr_stream, timer));
    sr_err err;
    (void)sr_fail(&err, SR_TIMEOUT, "handshake",
                  "TLS with %s: the handshake was not finished in %.0f s", s->name,
                  SR_HANDSHAKE_TIME);
    err.retryable = true;
    sr_stream_ref(s);
    sr_stream_lost(s, &err);
    set_reading(s);
    sr_stream_changed(s);
    sr_stream_unref(s);
}

/* Put TLS between socket and buffers. */
static int add_tls(sr_stream *s, sr_tls_ctx *ctx, const char *servername, sr_err *err) {
    sr_tls *tls = sr_tls_new(ctx, s->name, servername, sr_now(s->loop), err);
    if (!tls) return -1;
    s->tls = tls;
    s->state = SR_STREAM_HANDSHAKE;
    int64_t due = sr_mono(s->loop) + (int64_t)(SR_HANDSHAKE_TIME * (double)SR_NS);
    (void)sr_timer_start(s->loop, &s->timer, due,
                         on_late); /* owners have deadlines too */
    return 0;
}

void sr_stream_begin(sr_stream *s, sr_tls_ctx *ctx, const char *servername) {
    sr_err err = {0};
    s->state = SR_STREAM_OPEN;
    if (ctx && add_tls(s, ctx, servername, &err) != 0) sr_stream_lost(s, &err);
    if (s->state == SR_STREAM_OPEN) sr_stream_hold(s, false);
    advance_all(s);
}

int sr_stream_starttls(sr_stream *s, sr_tls_ctx *ctx, const char *name, sr_err *err) {
    size_t len = buffered(s);
    if (s->state != SR_STREAM_OPEN || s->tls || s->want_shut)
        return sr_fail(err, SR_USAGE, NULL, "starttls with %s: the connection %s",
                       s->name,
                       s->tls         ? "speaks TLS already"
                       : s->want_shut ? "is shut down"
                                      : "is not open");
    if (s->err.kind) {
        *err = s->err;
        return -1;
    }
    if (len > SR_TLS_IN_MAX)
        return sr_fail(err, SR_PROTOCOL, NULL,
                       "starttls with %s: %zu bytes came before the handshake", s->name,
                       len);
    if (add_tls(s, ctx, name, err) != 0) return -1;
    if (!sr_tls_ctx_is_server(ctx)) sr_stream_hold(s, s->outside);
    if (len) (void)sr_tls_feed(s->tls, s->in.data + s->in_at, len);
    if (s->transport_end) sr_tls_eof(s->tls);
    s->in.len = s->in_at = 0;
    s->eof = false;
    advance_all(s);
    return 0;
}

sr_tls *sr_stream_tls(sr_stream *s) {
    return s->tls;
}
