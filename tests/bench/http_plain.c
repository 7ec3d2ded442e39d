/* http_plain.c – the reference of the HTTP benchmark: libcurl's multi interface on libuv,
 * as a C programmer writes it.
 *
 *     http_plain URL REQUESTS CONCURRENCY
 *
 * Each of CONCURRENCY slots has one easy handle that is used again and again; bodies are
 * collected and their status is checked. Prints requests per second.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct slot {
    CURL *easy;
    char *body;
    size_t len, cap;
};

struct socket {
    uv_poll_t poll;
    curl_socket_t fd;
};

static uv_loop_t *loop;
static uv_timer_t timer;
static CURLM *multi;
static long left, running, failed;

static size_t on_body(char *data, size_t size, size_t count, void *arg) {
    struct slot *slot = arg;
    size_t len = size * count;
    if (slot->len + len > slot->cap) {
        size_t cap = (slot->len + len) * 2;
        char *body = realloc(slot->body, cap);
        if (!body) return 0;
        slot->body = body;
        slot->cap = cap;
    }
    memcpy(slot->body + slot->len, data, len);
    slot->len += len;
    return len;
}

static void start(struct slot *slot) {
    if (left == 0) return;
    left--;
    running++;
    slot->len = 0;
    curl_multi_add_handle(multi, slot->easy);
}

static void drain(void) {
    CURLMsg *msg;
    int queued;
    while ((msg = curl_multi_info_read(multi, &queued))) {
        CURL *easy = msg->easy_handle;
        CURLcode code = msg->data.result;
        char *owner;
        long status = 0;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        curl_multi_remove_handle(multi, easy);
        running--;
        struct slot *slot = (struct slot *)(void *)owner;
        if (code != CURLE_OK || status != 200 || slot->len != 120) failed++;
        start(slot);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct socket *s = poll->data;
    int what = status < 0 ? CURL_CSELECT_ERR : 0, count;
    if (events & UV_READABLE) what |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE) what |= CURL_CSELECT_OUT;
    curl_multi_socket_action(multi, s->fd, what, &count);
    drain();
}

static void on_closed(uv_handle_t *handle) {
    free(handle->data);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socketp) {
    struct socket *s = socketp;
    (void)easy, (void)arg;
    if (what == CURL_POLL_REMOVE) {
        if (s) {
            uv_poll_stop(&s->poll);
            uv_close((uv_handle_t *)&s->poll, on_closed);
            curl_multi_assign(multi, fd, NULL);
        }
        return 0;
    }
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s) return -1;
        s->fd = fd;
        uv_poll_init_socket(loop, &s->poll, fd);
        s->poll.data = s;
        curl_multi_assign(multi, fd, s);
    }
    uv_poll_start(&s->poll,
                  (what & CURL_POLL_IN ? UV_READABLE : 0) |
                      (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  on_poll);
    return 0;
}

static void on_timer(uv_timer_t *handle) {
    int count;
    (void)handle;
    curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &count);
    drain();
}

static int on_timeout(CURLM *m, long ms, void *arg) {
    (void)m, (void)arg;
    if (ms < 0) return uv_timer_stop(&timer);
    return uv_timer_start(&timer, on_timer, (uint64_t)ms, 0);
}

static void open_multi(long concurrency) {
    multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, concurrency);
    uv_timer_init(loop, &timer);
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "http_plain URL REQUESTS CONCURRENCY\n"), 2;
    long total = strtol(argv[2], NULL, 10), concurrency = strtol(argv[3], NULL, 10);
    struct slot *slots = calloc((size_t)concurrency, sizeof *slots);
    loop = uv_default_loop();
    left = total;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    open_multi(concurrency);
    uint64_t began = uv_hrtime();
    for (long i = 0; slots && i < concurrency; i++) {
        slots[i].easy = curl_easy_init();
        curl_easy_setopt(slots[i].easy, CURLOPT_URL, argv[1]);
        curl_easy_setopt(slots[i].easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(slots[i].easy, CURLOPT_WRITEDATA, &slots[i]);
        curl_easy_setopt(slots[i].easy, CURLOPT_PRIVATE, &slots[i]);
        curl_easy_setopt(slots[i].easy, CURLOPT_NOSIGNAL, 1L);
        start(&slots[i]);
    }
    while (running && uv_run(loop, UV_RUN_ONCE)) {
    }
    double seconds = (double)(uv_hrtime() - began) / 1e9;
    printf("%.0f\n", (double)total / seconds);
    free(slots);
    return failed || left || running ? 1 : 0;
}
