/* stream_pump.c – bytes between a TLS stream and a plain socket, both ways.
 *
 * Two streams, `peer` and `server`; after each change of either, both directions are
 * looked at again: move what the other side takes, pass on an end, close when both ends
 * are through. Back-pressure is that of the streams: what cannot be written is not
 * consumed, and what is not consumed is not read.
 */
#include "stream_int.h"

#include <stdlib.h>
#include <unistd.h>

#define LINGER 5.0 /* seconds the peer has to read the rest once the server is gone */

struct sr_pump {
    sr_stream *peer, *server;
    sr_loop *loop;
    sr_timer timer;
    bool lingering, finished, running;
    sr_err err; /* why it was cut off */
    void (*done)(void *arg, const sr_err *err);
    void *arg;
};

static void run(sr_pump *pump);

static void on_change(sr_stream *s, void *arg) {
    (void)s;
    run(arg);
}

static void pump_free(sr_pump *pump) {
    sr_timer_stop(pump->loop, &pump->timer);
    sr_stream_notify(pump->peer, NULL, NULL);
    sr_stream_notify(pump->server, NULL, NULL);
    sr_stream_close(pump->peer);
    sr_stream_close(pump->server);
    sr_stream_unref(pump->peer);
    sr_stream_unref(pump->server);
    free(pump);
}

static void finish(sr_pump *pump, const sr_err *err) {
    if (pump->finished) return;
    pump->finished = true;
    if (err) pump->err = *err;
}

static void on_start(sr_timer *timer) {
    run((sr_pump *)((char *)timer - offsetof(sr_pump, timer)));
}

static void on_linger(sr_timer *timer) {
    sr_pump *pump = (sr_pump *)((char *)timer - offsetof(sr_pump, timer));
    finish(pump, NULL);
    run(pump);
}

/* Move bytes and the end of them one way. true: this direction is through. */
static bool move(sr_stream *from, sr_stream *to) {
    sr_err err = {0};
    for (;;) {
        size_t len, n = 0;
        const char *data = sr_stream_peek(from, &len);
        if (!len) break;
        if (sr_stream_is_shut(to) || sr_stream_write(to, data, len, &n, &err) != 0) {
            /* Nobody reads it any more: drop it, the other direction may go on. */
            sr_stream_consume(from, len);
            continue;
        }
        if (!n) return false;
        sr_stream_consume(from, n);
    }
    if (sr_stream_write_error(to) || sr_stream_get_state(to) == SR_STREAM_CLOSED)
        return true;
    if (!sr_stream_eof(from) && !sr_stream_error(from)) return false;
    if (sr_stream_get_state(to) != SR_STREAM_OPEN) return false;
    if (!sr_stream_is_shut(to) && sr_stream_shutdown(to, &err) != 0) return true;
    return sr_stream_is_shut(to);
}

/* The server is through: give the peer a moment to read, not for ever. */
static void linger(sr_pump *pump) {
    if (pump->lingering) return;
    pump->lingering = true;
    int64_t due = sr_mono(pump->loop) + (int64_t)(LINGER * (double)SR_NS);
    if (sr_timer_start(pump->loop, &pump->timer, due, on_linger) != 0) finish(pump, NULL);
}

static void step(sr_pump *pump) {
    const sr_err *peer_err = sr_stream_error(pump->peer);
    if (sr_stream_get_state(pump->peer) == SR_STREAM_HANDSHAKE) {
        if (peer_err) finish(pump, peer_err);
        return;
    }
    bool in = move(pump->peer, pump->server);
    bool out = move(pump->server, pump->peer);
    if ((in && out) || sr_stream_get_state(pump->peer) == SR_STREAM_CLOSED)
        finish(pump, NULL);
    else if (peer_err)
        finish(pump, peer_err);
    else if (out || sr_stream_write_error(pump->peer))
        linger(pump);
}

/* Not entered twice: consuming and writing may notify. */
static void run(sr_pump *pump) {
    if (pump->running) return;
    pump->running = true;
    if (!pump->finished) step(pump);
    pump->running = false;
    if (!pump->finished) return;
    void (*done)(void *, const sr_err *) = pump->done;
    void *arg = pump->arg;
    sr_err err = pump->err;
    pump_free(pump);
    if (done) done(arg, err.kind ? &err : NULL);
}

sr_pump *sr_tls_pump(sr_stream *s, int fd, void (*done)(void *arg, const sr_err *err),
                     void *arg, sr_err *err) {
    sr_pump *pump = calloc(1, sizeof *pump);
    sr_stream *server = NULL;
    if (pump)
        server = sr_stream_open(s->loop, fd, err);
    else
        close(fd);
    if (!server) {
        if (!pump) sr_fail(err, SR_INTERNAL, NULL, "no memory for a connection");
        free(pump);
        sr_stream_close(s);
        sr_stream_unref(s);
        return NULL;
    }
    *pump =
        (sr_pump){.peer = s, .server = server, .loop = s->loop, .done = done, .arg = arg};
    sr_stream_notify(s, on_change, pump);
    sr_stream_notify(server, on_change, pump);
    /* What the streams hold already is moved from the loop, so that done is called there.
     */
    if (sr_timer_start(pump->loop, &pump->timer, sr_mono(pump->loop), on_start) != 0) {
        sr_fail(err, SR_INTERNAL, NULL, "no memory for a timer");
        pump_free(pump);
        return NULL;
    }
    return pump;
}

void sr_pump_stop(sr_pump *pump) {
    finish(pump, NULL);
    run(pump);
}
