/* stream_test.c – streams and the pump from C, without Lua, on a loop with virtual time.
 *
 *     client ──TLS── wire ──TLS── pump ──plain── app
 *
 * All four are streams of one process. A guard timer ends a test that hangs.
 */
#include "net/stream.h"

#include "loop.h"
#include "made_certs.h"
#include "unit.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct bench {
    sr_loop *loop;
    sr_timer guard;
    bool late;
    sr_stream *client, *app;
    sr_pump *pump;
    sr_tls_ctx *cctx, *sctx;
    bool done;
    sr_err why; /* of the pump */
    size_t sent, received, limit;
    bool (*until)(struct bench *b);
} bench;

static void on_guard(sr_timer *timer) {
    bench *b = (bench *)((char *)timer - offsetof(bench, guard));
    b->late = true;
}

static void on_done(void *arg, const sr_err *err) {
    bench *b = arg;
    b->done = true;
    b->pump = NULL;
    if (err) b->why = *err;
}

static void contexts(bench *b) {
    sr_err err = {0};
    size_t len;
    entity ca = make("CA", NULL, NULL, 100), leaf = make("srv", "DNS:srv", &ca, 100);
    char *pem = pem_of(&ca, false, &len);
    X509_STORE *store = sr_tls_trust_pem(pem, len, &err);
    b->cctx = sr_tls_ctx_new(false);
    b->sctx = sr_tls_ctx_new(true);
    sr_tls_ctx_trust(b->cctx, store);
    CHECK(sr_tls_ctx_identity(b->sctx, leaf.cert, NULL, leaf.key, &err) == 0);
    X509_STORE_free(store);
    free(pem);
    entity_free(&ca);
    entity_free(&leaf);
}

static void open_pair(bench *b, sr_stream **one, int *fd) {
    sr_err err = {0};
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    *one = sr_stream_open(b->loop, pair[0], &err);
    CHECK(*one != NULL);
    *fd = pair[1];
}

static void bench_new(bench *b) {
    sr_err err = {0};
    int wire, inner;
    memset(b, 0, sizeof *b);
    signal(SIGPIPE, SIG_IGN); /* as main does */
    CHECK(sr_loop_new(&b->loop, &err) == 0);
    sr_clock_virtual(b->loop, NOW);
    contexts(b);
    open_pair(b, &b->client, &wire);
    open_pair(b, &b->app, &inner);
    sr_stream *server = sr_stream_open(b->loop, wire, &err);
    CHECK(server != NULL);
    CHECK(sr_stream_starttls(server, b->sctx, NULL, &err) == 0);
    b->pump = sr_tls_pump(server, inner, on_done, b, &err);
    CHECK(b->pump != NULL);
}

static void bench_free(bench *b) {
    if (b->pump) sr_pump_stop(b->pump);
    sr_stream_close(b->client);
    sr_stream_unref(b->client);
    sr_stream_close(b->app);
    sr_stream_unref(b->app);
    sr_tls_ctx_unref(b->cctx);
    sr_tls_ctx_unref(b->sctx);
    sr_timer_stop(b->loop, &b->guard);
    sr_loop_free(b->loop);
}

static bool stop(void *arg) {
    bench *b = arg;
    return b->late || b->until(b);
}

/* Run until the condition holds; false if it does not within a minute of virtual time.
 * The loop lets everything settle before it looks, and time may jump once more by then.
 */
static bool run(bench *b, bool (*until)(bench *b)) {
    sr_err err = {0};
    b->until = until;
    b->late = false;
    sr_timer_start(b->loop, &b->guard, sr_mono(b->loop) + 60 * SR_NS, on_guard);
    CHECK(sr_loop_run(b->loop, stop, b, &err) == 0);
    sr_timer_stop(b->loop, &b->guard);
    return until(b);
}

static bool client_open(bench *b) {
    return sr_stream_get_state(b->client) == SR_STREAM_OPEN;
}

static void start_tls(bench *b) {
    sr_err err = {0};
    CHECK(sr_stream_starttls(b->client, b->cctx, "srv", &err) == 0);
    CHECK(run(b, client_open));
}

static bool app_has(bench *b) {
    size_t len;
    sr_stream_peek(b->app, &len);
    return len >= b->limit;
}

static bool client_has(bench *b) {
    size_t len;
    sr_stream_peek(b->client, &len);
    return len >= b->limit;
}

static bool app_ended(bench *b) {
    return sr_stream_eof(b->app);
}

static bool client_ended(bench *b) {
    return sr_stream_eof(b->client) || sr_stream_error(b->client);
}

static bool pump_done(bench *b) {
    return b->done;
}

static void put(sr_stream *s, const char *text) {
    size_t n = 0;
    sr_err err = {0};
    CHECK(sr_stream_write(s, text, strlen(text), &n, &err) == 0);
    CHECK_INT(n, strlen(text));
}

static void get(sr_stream *s, const char *text) {
    size_t len;
    const char *data = sr_stream_peek(s, &len);
    CHECK_INT(len, strlen(text));
    CHECK(memcmp(data, text, len) == 0);
    sr_stream_consume(s, len);
}

TEST(pump_carries_both_ways) {
    bench b;
    bench_new(&b);
    start_tls(&b);
    put(b.client, "GET /");
    b.limit = 5;
    CHECK(run(&b, app_has));
    get(b.app, "GET /");
    put(b.app, "200 OK");
    b.limit = 6;
    CHECK(run(&b, client_has));
    get(b.client, "200 OK");
    CHECK(!b.done);
    bench_free(&b);
}

TEST(pump_passes_half_closing_on) {
    bench b;
    sr_err err = {0};
    bench_new(&b);
    start_tls(&b);
    put(b.client, "question");
    CHECK(sr_stream_shutdown(b.client, &err) == 0);
    CHECK(run(&b, app_ended));
    get(b.app, "question");
    put(b.app, "answer");
    CHECK(sr_stream_shutdown(b.app, &err) == 0);
    CHECK(run(&b, client_ended));
    CHECK(sr_stream_error(b.client) == NULL);
    get(b.client, "answer");
    CHECK(run(&b, pump_done));
    CHECK_INT(b.why.kind, SR_NONE);
    bench_free(&b);
}

TEST(pump_lets_the_peer_read_after_the_server_closed) {
    bench b;
    bench_new(&b);
    start_tls(&b);
    int64_t before = sr_mono(b.loop);
    put(b.app, "last words");
    sr_stream_close(b.app);
    CHECK(run(&b, client_ended));
    CHECK(sr_stream_error(b.client) == NULL);
    get(b.client, "last words");
    CHECK(run(&b, pump_done));
    CHECK_INT((sr_mono(b.loop) - before) / SR_NS, 5);
    bench_free(&b);
}

TEST(pump_ends_when_the_peer_vanishes) {
    bench b;
    bench_new(&b);
    start_tls(&b);
    sr_stream_close(b.client);
    CHECK(run(&b, app_ended));
    sr_stream_close(b.app);
    CHECK(run(&b, pump_done));
    bench_free(&b);
}

TEST(pump_reports_a_failed_handshake) {
    bench b;
    bench_new(&b);
    put(b.client, "GET / HTTP/1.0\r\n\r\n");
    CHECK(run(&b, pump_done));
    CHECK_INT(b.why.kind, SR_TLS);
    CHECK_STR(b.why.code, "http_request");
    CHECK(run(&b, app_ended));
    bench_free(&b);
}

TEST(pump_gives_up_on_a_peer_that_does_not_shake_hands) {
    bench b;
    bench_new(&b);
    int64_t before = sr_mono(b.loop);
    CHECK(run(&b, pump_done));
    CHECK_INT(b.why.kind, SR_TIMEOUT);
    CHECK_INT((sr_mono(b.loop) - before) / SR_NS, 30);
    bench_free(&b);
}

TEST(pump_can_be_stopped) {
    bench b;
    bench_new(&b);
    start_tls(&b);
    sr_pump_stop(b.pump);
    CHECK(b.done);
    CHECK(run(&b, client_ended));
    bench_free(&b);
}

/* Write until the queue takes no more; the bytes count up. */
static void fill(bench *b, sr_stream *s) {
    char block[5000];
    size_t n = 1;
    sr_err err = {0};
    while (n && b->sent < b->limit) {
        size_t len =
            b->limit - b->sent < sizeof block ? b->limit - b->sent : sizeof block;
        for (size_t i = 0; i < len; i++)
            block[i] = (char)((b->sent + i) % 251);
        CHECK(sr_stream_write(s, block, len, &n, &err) == 0);
        b->sent += n;
    }
}

static void on_client(sr_stream *s, void *arg) {
    fill(arg, s);
}

static bool never(bench *b) {
    (void)b;
    return false;
}

static void on_app(sr_stream *s, void *arg) {
    bench *b = arg;
    size_t len;
    const char *data = sr_stream_peek(s, &len);
    for (size_t i = 0; i < len; i++)
        CHECK_INT((unsigned char)data[i], (b->received + i) % 251);
    b->received += len;
    sr_stream_consume(s, len);
}

static bool all_received(bench *b) {
    return b->received >= b->limit;
}

TEST(pump_pushes_back_and_loses_nothing) {
    bench b;
    bench_new(&b);
    start_tls(&b);
    b.limit = 8 << 20;
    sr_stream_notify(b.client, on_client, &b);
    fill(&b, b.client);
    CHECK(!run(&b, never));
    CHECK(b.sent > 500000 && b.sent < 4 << 20);
    sr_stream_notify(b.app, on_app, &b);
    on_app(b.app, &b);
    CHECK(run(&b, all_received));
    CHECK_INT(b.received, b.sent);
    sr_stream_notify(b.client, NULL, NULL);
    sr_stream_notify(b.app, NULL, NULL);
    bench_free(&b);
}

/* A TLS client by hand on the other end of a socket pair. */
typedef struct hand {
    sr_stream *server;
    int fd;
    sr_tls *tls;
} hand;

static void hand_send(hand *h, sr_buf *wire, bool *ret_stuck) {
    CHECK(sr_tls_take(h->tls, wire) == 0);
    ssize_t n = send(h->fd, wire->data, wire->len, MSG_DONTWAIT | MSG_NOSIGNAL);
    *ret_stuck = n <= 0 && wire->len > 0;
    if (n <= 0) return;
    memmove(wire->data, wire->data + n, wire->len - (size_t)n);
    wire->len -= (size_t)n;
}

static void turn(bench *b) {
    for (int i = 0; i < 3; i++)
        uv_run(sr_uv(b->loop), UV_RUN_NOWAIT);
}

static void hand_shake(bench *b, hand *h) {
    sr_err err = {0};
    sr_buf wire = {0};
    char data[8192];
    bool stuck;
    for (int i = 0; i < 20 && sr_tls_handshake(h->tls, &err) != SR_TLS_DONE; i++) {
        hand_send(h, &wire, &stuck);
        turn(b);
        ssize_t n = recv(h->fd, data, sizeof data, MSG_DONTWAIT);
        if (n > 0) CHECK_INT(sr_tls_feed(h->tls, data, (size_t)n), n);
    }
    CHECK(sr_tls_handshake(h->tls, &err) == SR_TLS_DONE);
    while (wire.len || sr_tls_pending(h->tls))
        hand_send(h, &wire, &stuck);
    turn(b);
    sr_buf_free(&wire);
    CHECK_INT(sr_stream_get_state(h->server), SR_STREAM_OPEN);
}

/* Each request for a new key makes us answer; who never reads the answers must not be
 * able to pile them up here. */
TEST(stream_stops_reading_a_peer_that_makes_it_answer_and_reads_nothing) {
    bench b;
    sr_err err = {0};
    bool stuck = false;
    sr_buf wire = {0};
    bench_new(&b);
    hand h = {.fd = -1};
    open_pair(&b, &h.server, &h.fd);
    h.tls = sr_tls_new(b.cctx, "srv", "srv", NOW, &err);
    CHECK(h.tls != NULL);
    CHECK(sr_stream_starttls(h.server, b.sctx, NULL, &err) == 0);
    hand_shake(&b, &h);
    size_t most = 0;
    int turns = 0;
    for (; turns < 200; turns++) {
        for (int i = 0; i < 1000 && wire.len < 65536; i++) {
            CHECK(SSL_key_update(sr_tls_ssl(h.tls), SSL_KEY_UPDATE_REQUESTED) == 1);
            CHECK(SSL_do_handshake(sr_tls_ssl(h.tls)) == 1);
        }
        hand_send(&h, &wire, &stuck);
        if (stuck) break;
        turn(&b);
        if (sr_stream_queued(h.server) > most) most = sr_stream_queued(h.server);
    }
    CHECK(stuck);
    CHECK(most < 1 << 20);
    sr_buf_free(&wire);
    sr_tls_free(h.tls);
    close(h.fd);
    sr_stream_close(h.server);
    sr_stream_unref(h.server);
    bench_free(&b);
}

/* ---------------------------------------------------------------- addresses */

static void check_addr(const char *host, int port, const char *text) {
    struct sockaddr_storage sa;
    sr_err err = {0};
    char got[100];
    CHECK(sr_addr_parse(host, port, &sa, &err) == 0);
    sr_addr_text((struct sockaddr *)&sa, got, sizeof got);
    CHECK_STR(got, text);
    CHECK_INT(sr_addr_port((struct sockaddr *)&sa), port);
}

TEST(addresses_as_text_and_back) {
    struct sockaddr_storage sa;
    sr_err err = {0};
    check_addr("127.0.0.1", 80, "127.0.0.1:80");
    check_addr("::1", 443, "[::1]:443");
    check_addr("localhost", 0, "127.0.0.1:0");
    CHECK(sr_addr_parse("example.com", 80, &sa, &err) == -1);
    CHECK(sr_addr_parse("127.0.0.1", 65536, &sa, &err) == -1);
    CHECK(sr_addr_parse("1.2.3", 1, &sa, &err) == -1);
    CHECK_INT(err.kind, SR_USAGE);
}
