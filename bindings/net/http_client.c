/* http_client.c – one exchange: a request, its redirects, its end; see http_client.h.
 *
 * States: started → (hop: queued → connecting → sending → receiving)+ → finished. A hop
 * is one transfer of libcurl, on the same easy handle. Redirects are ours, not libcurl's,
 * because each hop asks the permissions, drops credentials at another origin and may need
 * another pool.
 *
 * The callbacks of libcurl only copy bytes and note why they stop (x->stop). Time-outs:
 * `total` runs from the start, `connect` from the first sign of a new connection (name
 * look-up or socket) until it is ready to carry the request, so waiting for a free place
 * in the pool does not count as connecting.
 */
#include "net/http_exchange.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    HEAD_BYTES = 256 << 10, /* of one response, interim ones included */
    HEAD_LINES = 1000,
    DROPPED_BYTES = 1 << 20 /* body of a redirect that we read to keep the connection */
};

#define OF(timer, member)                                                                \
    ((sr_http_exchange *)(void *)((char *)(timer)-offsetof(sr_http_exchange, member)))

static int64_t ns_of(double seconds) {
    return seconds > 1e9 ? (int64_t)1000000000 * SR_NS : (int64_t)(seconds * 1e9);
}

/* Hold the virtual clock while only the outside can move this exchange on: the peer is
 * away, and we are not the ones who wait. */
static void hold_clock(sr_http_exchange *x) {
    bool outside = x->away && !x->paused;
    if (outside == x->outside) return;
    x->outside = outside;
    if (outside)
        sr_outside_begin(x->loop);
    else
        sr_outside_end(x->loop);
}

static void set_away(sr_http_exchange *x, bool away) {
    x->away = away;
    hold_clock(x);
}

void sr_http_set_paused(sr_http_exchange *x, bool paused) {
    x->paused = paused;
    hold_clock(x);
}

void sr_http_describe(const sr_http_exchange *x, char *buf, size_t size) {
    snprintf(buf, size, "%s %s", x->req->method, x->req->url.shown);
}

const sr_http_result *sr_http_result_of(const sr_http_exchange *x) {
    return &x->result;
}

const sr_http_request *sr_http_request_of(const sr_http_exchange *x) {
    return x->req;
}

bool sr_http_has_head(const sr_http_exchange *x) {
    return x->head_done;
}

/* ---------------------------------------------------------------- the end */

static double seconds(CURL *easy, CURLINFO info) {
    curl_off_t us = 0;
    curl_easy_getinfo(easy, info, &us);
    return (double)us / 1e6;
}

static void note_peer(sr_http_exchange *x) {
    char *address = NULL;
    long port = 0;
    CURL *easy = x->transfer.easy;
    sr_http_result *r = &x->result;
    curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &address);
    curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &port);
    snprintf(r->address, sizeof r->address, "%s", address ? address : "");
    r->port = (int)port;
    r->dns = seconds(easy, CURLINFO_NAMELOOKUP_TIME_T);
    r->connect = seconds(easy, CURLINFO_CONNECT_TIME_T);
    r->tls = seconds(easy, CURLINFO_APPCONNECT_TIME_T);
    r->first_byte = seconds(easy, CURLINFO_STARTTRANSFER_TIME_T);
    r->total = seconds(easy, CURLINFO_TOTAL_TIME_T);
}

/* Stop everything; the exchange stays readable. */
static void detach(sr_http_exchange *x) {
    sr_timer_stop(x->loop, &x->total);
    sr_timer_stop(x->loop, &x->connect);
    sr_http_pool_remove(&x->transfer);
    set_away(x, false);
    x->done = true;
}

/* A handle whose transfer went well is kept by its pool, without any pointer to us. */
static void keep_easy(sr_http_exchange *x, sr_http_pool *pool) {
    CURL *easy = x->transfer.easy;
    if (!pool || x->result.err.kind != SR_NONE || !sr_http_is_plain(x)) return;
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, NULL);
    x->transfer.easy = NULL;
    sr_http_pool_keep(pool, easy);
}

/* The end, good or bad: tell the caller. */
static void finish(sr_http_exchange *x) {
    sr_http_pool *pool = x->transfer.pool;
    note_peer(x);
    detach(x);
    keep_easy(x, pool);
    x->events.done(x->arg, x);
}

/* Whether bytes of the request have left; the peer may have acted on them. */
static bool was_sent(const sr_http_exchange *x) {
    long bytes = 0;
    curl_easy_getinfo(x->transfer.easy, CURLINFO_REQUEST_SIZE, &bytes);
    return bytes > 0;
}

static const char *ca_label(const sr_http_exchange *x) {
    const sr_http_pool *pool = x->transfer.pool;
    const sr_http_ca *ca = pool ? sr_http_pool_key_of(pool)->ca : NULL;
    return ca ? sr_http_ca_label(ca) : NULL;
}

static void fail_code(sr_http_exchange *x, CURLcode code, const char *text) {
    sr_http_failure failure = {code, text, 0, was_sent(x), ca_label(x)};
    curl_easy_getinfo(x->transfer.easy, CURLINFO_SSL_VERIFYRESULT, &failure.verify);
    sr_http_fail(&x->result.err, x->req, &failure);
}

/* An error of ours in place of libcurl's, with the fields every one has. */
static void fail_stop(sr_http_exchange *x) {
    x->result.err = x->stop;
    sr_err *err = &x->result.err;
    if (!*err->op) sr_http_describe(x, err->op, sizeof err->op);
}

static void fail_timeout(sr_http_exchange *x, const char *option, double limit) {
    char text[200];
    const char *doing = x->connecting  ? "connecting"
                        : x->head_done ? "receiving the body"
                        : was_sent(x)  ? "waiting for the answer"
                                       : "waiting for a connection";
    snprintf(text, sizeof text, "%s took longer than %s = %gs", doing, option, limit);
    fail_code(x, CURLE_OPERATION_TIMEDOUT, text);
}

static void on_total(sr_timer *timer) {
    sr_http_exchange *x = OF(timer, total);
    fail_timeout(x, "timeout", x->req->timeout);
    finish(x);
}

static void on_connect_timeout(sr_timer *timer) {
    sr_http_exchange *x = OF(timer, connect);
    fail_timeout(x, "connect_timeout", x->req->connect_timeout);
    finish(x);
}

/* ---------------------------------------------------------------- connecting */

static void begin_connecting(sr_http_exchange *x) {
    if (x->connecting) return;
    x->connecting = true;
    if (x->req->connect_timeout <= 0) return;
    sr_timer_start(x->loop, &x->connect,
                   sr_mono(x->loop) + ns_of(x->req->connect_timeout), on_connect_timeout);
}

static int on_resolve(void *state, void *reserved, void *arg) {
    (void)state, (void)reserved;
    begin_connecting(arg);
    set_away(arg, true);
    return 0;
}

/* Ask the permissions about the address that a name led to. */
static int check_address(sr_http_exchange *x, const char *address, int port,
                         sr_err *err) {
    char text[80];
    if (!x->req->vm) return 0;
    snprintf(text, sizeof text, strchr(address, ':') ? "[%s]:%d" : "%s:%d", address,
             port);
    return sr_allowed_peer(x->req->vm, x->req->url.peer, text, err);
}

static int check_socket(sr_http_exchange *x, const struct sockaddr *sa) {
    char address[64] = "";
    int port = 0;
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
        uv_ip4_name(in, address, sizeof address);
        port = ntohs(in->sin_port);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
        uv_ip6_name(in6, address, sizeof address);
        port = ntohs(in6->sin6_port);
    }
    return check_address(x, address, port, &x->refused);
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *to) {
    sr_http_exchange *x = arg;
    begin_connecting(x);
    if (x->req->public_only && !x->proxied && purpose == CURLSOCKTYPE_IPCXN &&
        sr_http_private_address(&to->addr)) {
        sr_fail(
            &x->stop, SR_DENIED, "PRIVATE_ADDRESS",
            "%s: its address is not of the public Internet, and this URL was given by "
            "somebody else; refused",
            x->req->url.peer);
        return CURL_SOCKET_BAD;
    }
    if (check_socket(x, &to->addr) < 0) return CURL_SOCKET_BAD;
    set_away(x, !sr_own_has(x->loop, &to->addr));
    return sr_http_pool_socket(x->transfer.pool, to);
}

/* The connection is ready, new or kept: the request goes out now. */
static int on_ready(void *arg, char *address, char *local, int port, int local_port) {
    (void)local, (void)local_port;
    sr_http_exchange *x = arg;
    struct sockaddr_storage at = {0};
    sr_timer_stop(x->loop, &x->connect);
    x->connecting = false;
    int rc = strchr(address, ':')
                 ? uv_ip6_addr(address, port, (struct sockaddr_in6 *)(void *)&at)
                 : uv_ip4_addr(address, port, (struct sockaddr_in *)(void *)&at);
    set_away(x, rc < 0 || !sr_own_has(x->loop, (struct sockaddr *)&at));
    return check_address(x, address, port, &x->stop) < 0 ? CURL_PREREQFUNC_ABORT
                                                         : CURL_PREREQFUNC_OK;
}

/* ---------------------------------------------------------------- the response */

static bool head_too_big(sr_http_exchange *x, size_t len) {
    x->head_bytes += len;
    x->head_lines++;
    if (x->head_bytes <= HEAD_BYTES && x->head_lines <= HEAD_LINES) return false;
    sr_fail(&x->stop, SR_LIMIT, "HTTP_HEAD", "%s: more than %d header lines or %d bytes",
            x->req->url.peer, HEAD_LINES, HEAD_BYTES);
    return true;
}

static size_t on_header(char *data, size_t size, size_t count, void *arg) {
    sr_http_exchange *x = arg;
    sr_http_result *r = &x->result;
    size_t len = size * count;
    if (head_too_big(x, len)) return 0;
    if (len > 5 && memcmp(data, "HTTP/", 5) == 0) {
        if (sr_http_status_line(data, len, &r->version, &r->status) < 0) {
            sr_fail(&x->stop, SR_PROTOCOL, "HTTP_STATUS_LINE",
                    "%s: its first line is not HTTP; see what listens there",
                    x->req->url.peer);
            return 0;
        }
        r->head.len = 0;
        x->head_done = false;
    } else if (len <= 2 && (*data == '\r' || *data == '\n')) {
        x->head_done = r->status >= 200;
    } else if (!x->head_done) { /* else: trailers, which nobody asked for */
        sr_buf_append(&r->head, data, len);
    }
    return len;
}

/* Room for the announced length at once, within reason. */
static void reserve_body(sr_http_exchange *x) {
    curl_off_t announced = -1;
    curl_easy_getinfo(x->transfer.easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
    if (announced > 0 && announced <= 1 << 20)
        sr_buf_reserve(&x->result.body, (size_t)announced);
}

static size_t take_body(sr_http_exchange *x, const char *data, size_t len) {
    if (!x->events.body) {
        if (!x->result.body.cap) reserve_body(x);
        if (sr_buf_append(&x->result.body, data, len) == 0) return len;
        sr_fail(&x->stop, SR_LIMIT, "ENOMEM", "%s: no memory for the body",
                x->req->url.peer);
        return 0;
    }
    int rc = x->events.body(x->arg, data, len, &x->stop);
    if (rc == SR_HTTP_PAUSE) {
        x->taken -= (int64_t)len;
        sr_http_set_paused(x, true);
        return CURL_WRITEFUNC_PAUSE;
    }
    return rc < 0 ? 0 : len;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg) {
    sr_http_exchange *x = arg;
    size_t len = size * count;
    if (x->stop.kind != SR_NONE) return 0;
    bool dropped = sr_http_will_follow(x);
    int64_t most = dropped ? DROPPED_BYTES : x->req->max_body;
    x->taken += (int64_t)len;
    if (most >= 0 && x->taken > most) {
        sr_fail(
            &x->stop, SR_LIMIT, "HTTP_BODY",
            "%s: the body is longer than %lld bytes; raise max_body= if that is expected",
            x->req->url.peer, (long long)most);
        return 0;
    }
    return dropped ? len : take_body(x, data, len);
}

/* ---------------------------------------------------------------- hops */

void sr_http_set_callbacks(sr_http_exchange *x, CURL *easy) {
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->text);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, x);
    curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, on_resolve);
    curl_easy_setopt(easy, CURLOPT_RESOLVER_START_DATA, x);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_ready);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, x);
}

/* A transfer has ended: another hop, or the end. */
static void on_done(sr_http_transfer *transfer, CURLcode code) {
    sr_http_exchange *x = (sr_http_exchange *)transfer;
    if (code != CURLE_OK) {
        if (code == CURLE_COULDNT_CONNECT && x->refused.kind != SR_NONE)
            x->stop = x->refused;
        if (x->stop.kind != SR_NONE)
            fail_stop(x);
        else
            fail_code(x, code, x->text);
    } else if (sr_http_will_follow(x)) {
        sr_timer_stop(x->loop, &x->connect);
        sr_http_pool_remove(&x->transfer);
        set_away(x, false);
        sr_err err = {0};
        if (sr_http_follow(x, &err) == 0) return;
        x->stop = err;
        fail_stop(x);
    }
    finish(x);
}

static void on_abandon(sr_http_transfer *transfer) {
    sr_http_exchange *x = (sr_http_exchange *)transfer;
    fail_code(x, CURLE_ABORTED_BY_CALLBACK, "");
    finish(x);
}

/* ---------------------------------------------------------------- life */

int sr_http_start(sr_loop *loop, sr_http_request *req, const sr_http_events *events,
                  void *arg, sr_http_exchange **ret_exchange, sr_err *err) {
    sr_http_exchange *x = calloc(1, sizeof *x);
    if (!x) {
        sr_http_request_free(req);
        return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a request");
    }
    x->loop = loop;
    x->req = req;
    x->events = *events;
    x->arg = arg;
    x->transfer.done = on_done;
    x->transfer.abandon = on_abandon;
    bool proxy_tls = req->proxy && strncasecmp(req->proxy, "https:", 6) == 0;
    int rc =
        req->identity && proxy_tls
            ? sr_fail(err, SR_USAGE, "BAD_PROXY",
                      "cert: would be shown to the https proxy too; use an http proxy")
            : sr_http_start_hop(x, err);
    if (rc < 0) {
        sr_http_free(x);
        return -1;
    }
    if (req->timeout > 0)
        sr_timer_start(loop, &x->total, sr_mono(loop) + ns_of(req->timeout), on_total);
    *ret_exchange = x;
    return 0;
}

void sr_http_resume(sr_http_exchange *x) {
    if (x->done || !x->paused) return;
    sr_http_set_paused(x, false);
    CURLcode code = curl_easy_pause(x->transfer.easy, CURLPAUSE_CONT);
    if (code != CURLE_OK)
        on_done(&x->transfer, code); /* libcurl would go on regardless */
}

void sr_http_free(sr_http_exchange *x) {
    if (!x) return;
    if (!x->done) detach(x);
    if (x->transfer.easy) curl_easy_cleanup(x->transfer.easy);
    free(x->lines);
    sr_buf_free(&x->result.head);
    sr_buf_free(&x->result.body);
    sr_http_request_free(x->req);
    free(x);
}
