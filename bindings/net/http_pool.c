/* http_pool.c – libcurl's multi interface on libuv; see http_pool.h.
 *
 * libcurl tells us which sockets to watch and when to call again; we tell it what
 * happened. Its callbacks (sockets, timer, open, close) only note what to do, and
 * finished transfers are handed out after curl_multi_socket_action() has returned, so
 * nothing of a binding ever runs inside libcurl.
 *
 * A watcher lives as long as its file descriptor, not as long as libcurl's interest:
 * between two requests of a kept connection libcurl removes and adds the socket, and
 * stopping it really would cost two system calls each time. A watcher that fires while
 * nobody is interested is stopped then. Descriptors that libcurl opens itself (its
 * resolver's) are closed without telling us, so they are dropped at once.
 *
 * The virtual clock: libcurl's short timers drive its state machine. While one is armed
 * the clock is held. Long ones are guards that we replaced by timers of our own.
 */
#include "net/http_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IDLE_POOLS = 16, KEPT_HANDLES = 16, HOLD_BELOW_MS = 10000 };

struct engine {
    sr_loop *loop;
    sr_http_pool *pools;    /* the last used first */
    struct watch **watches; /* by descriptor */
    size_t size;
};

struct sr_http_pool {
    sr_http_pool_key key;
    char *resolve;
    struct curl_slist *resolve_list;
    struct engine *engine;
    CURLM *multi;
    uv_timer_t timer;
    bool held;  /* the virtual clock is, for our timer */
    int inside; /* depth of calls that may end in done functions */
    sr_http_transfer *first;
    CURL *kept[KEPT_HANDLES]; /* easy handles that are set up */
    int kept_count;
    sr_http_pool *next;
};

struct watch {
    uv_poll_t poll;
    sr_http_pool *pool;
    int armed;   /* what libuv watches for */
    bool wanted; /* libcurl is interested */
    bool ours;   /* opened by us, so we hear when it is closed */
    bool ready;  /* poll is initialised */
};

/* ---------------------------------------------------------------- finished transfers */

static void link_transfer(sr_http_pool *pool, sr_http_transfer *t) {
    t->pool = pool;
    t->prev = NULL;
    t->next = pool->first;
    if (pool->first) pool->first->prev = t;
    pool->first = t;
}

static void unlink_transfer(sr_http_transfer *t) {
    if (t->prev)
        t->prev->next = t->next;
    else
        t->pool->first = t->next;
    if (t->next) t->next->prev = t->prev;
    t->pool = NULL;
}

void sr_http_pool_remove(sr_http_transfer *transfer) {
    if (!transfer->pool) return;
    curl_multi_remove_handle(transfer->pool->multi, transfer->easy);
    unlink_transfer(transfer);
}

/* Hand out what has ended. A done function may add and remove transfers. */
static void drain(sr_http_pool *pool) {
    int left;
    CURLMsg *msg;
    while ((msg = curl_multi_info_read(pool->multi, &left))) {
        if (msg->msg != CURLMSG_DONE) continue;
        CURLcode code = msg->data.result;
        char *owner = NULL;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &owner);
        sr_http_transfer *t = (sr_http_transfer *)(void *)owner;
        sr_crash_point("reply");
        t->done(t, code);
    }
}

static void action(sr_http_pool *pool, curl_socket_t fd, int what) {
    int running;
    pool->inside++;
    curl_multi_socket_action(pool->multi, fd, what, &running);
    drain(pool);
    pool->inside--;
}

/* ---------------------------------------------------------------- sockets */

static void watch_closed(uv_handle_t *handle) {
    free(handle->data);
}

/* Forget the watcher of a descriptor; before the descriptor is closed. */
static void drop_watch(struct engine *engine, curl_socket_t fd) {
    struct watch *w = (size_t)fd < engine->size ? engine->watches[fd] : NULL;
    if (!w) return;
    engine->watches[fd] = NULL;
    if (w->ready)
        uv_close((uv_handle_t *)&w->poll, watch_closed);
    else
        free(w);
}

static bool make_room(struct engine *engine, size_t fd) {
    if (fd < engine->size) return true;
    size_t size = fd + 64;
    struct watch **watches = realloc(engine->watches, size * sizeof *watches);
    if (!watches) return false;
    memset(watches + engine->size, 0, (size - engine->size) * sizeof *watches);
    engine->watches = watches;
    engine->size = size;
    return true;
}

/* The watcher of a descriptor, made when there is none; NULL without memory. */
static struct watch *watch_of(sr_http_pool *pool, curl_socket_t fd) {
    struct engine *engine = pool->engine;
    if (fd < 0 || !make_room(engine, (size_t)fd)) return NULL;
    struct watch *w = engine->watches[fd];
    if (w) return w;
    w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->pool = pool;
    w->poll.data = w;
    engine->watches[fd] = w;
    return w;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct watch *w = poll->data;
    if (!w->wanted) {
        uv_poll_stop(poll);
        w->armed = 0;
        return;
    }
    int what = status < 0 ? CURL_CSELECT_ERR : 0;
    if (events & UV_READABLE) what |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE) what |= CURL_CSELECT_OUT;
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)poll, &fd) == 0) action(w->pool, fd, what);
}

/* Watch a descriptor for these events. 0 or -1. */
static int arm(struct watch *w, curl_socket_t fd, int events) {
    w->wanted = true;
    if (!w->ready && uv_poll_init_socket(sr_uv(w->pool->engine->loop), &w->poll, fd) < 0)
        return -1;
    w->ready = true;
    if (w->armed == events) return 0;
    w->armed = events;
    return uv_poll_start(&w->poll, events, on_poll);
}

static int lose_interest(struct engine *engine, curl_socket_t fd) {
    struct watch *w = (size_t)fd < engine->size ? engine->watches[fd] : NULL;
    if (w) w->wanted = false;
    if (w && !w->ours) drop_watch(engine, fd);
    return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socketp) {
    (void)easy, (void)socketp;
    sr_http_pool *pool = arg;
    if (what == CURL_POLL_REMOVE) return lose_interest(pool->engine, fd);
    struct watch *w = watch_of(pool, fd);
    if (!w) return -1;
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) |
                 (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return arm(w, fd, events) < 0 ? -1 : 0;
}

curl_socket_t sr_http_pool_socket(sr_http_pool *pool,
                                  const struct curl_sockaddr *address) {
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    address->protocol);
    if (fd < 0) return CURL_SOCKET_BAD;
    struct watch *w = watch_of(pool, fd);
    if (w) {
        w->ours = true;
        return fd;
    }
    close(fd);
    return CURL_SOCKET_BAD;
}

int sr_http_pool_close_socket(sr_http_pool *pool, curl_socket_t fd) {
    drop_watch(pool->engine, fd);
    return close(fd);
}

static int on_close(void *arg, curl_socket_t fd) {
    return sr_http_pool_close_socket(arg, fd);
}

/* ---------------------------------------------------------------- libcurl's timer */

static void hold_clock(sr_http_pool *pool, bool hold) {
    if (hold == pool->held) return;
    pool->held = hold;
    if (hold)
        sr_outside_begin(pool->engine->loop);
    else
        sr_outside_end(pool->engine->loop);
}

static void on_timer(uv_timer_t *timer) {
    sr_http_pool *pool = timer->data;
    hold_clock(pool, false);
    action(pool, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout(CURLM *multi, long ms, void *arg) {
    (void)multi;
    sr_http_pool *pool = arg;
    hold_clock(pool, ms >= 0 && ms < HOLD_BELOW_MS);
    if (ms < 0) return uv_timer_stop(&pool->timer);
    if (ms > 0) uv_update_time(sr_uv(pool->engine->loop)); /* or it fires early */
    return uv_timer_start(&pool->timer, on_timer, (uint64_t)ms, 0) < 0 ? -1 : 0;
}

/* ---------------------------------------------------------------- pools */

static const char engine_key; /* its address names our slot */

static void pool_closed(uv_handle_t *handle) {
    sr_http_pool *pool = handle->data;
    free(pool);
}

/* Close every connection; frees the pool once libuv let go of its timer. */
static void close_pool(sr_http_pool *pool) {
    while (pool->kept_count)
        curl_easy_cleanup(pool->kept[--pool->kept_count]);
    curl_multi_cleanup(pool->multi);
    hold_clock(pool, false);
    sr_http_ca_unref(pool->key.ca);
    sr_http_identity_unref(pool->key.identity);
    curl_slist_free_all(pool->resolve_list);
    free(pool->resolve);
    uv_close((uv_handle_t *)&pool->timer, pool_closed);
}

static void close_engine(void *arg) {
    struct engine *engine = arg;
    *sr_loop_slot(engine->loop, &engine_key) = NULL;
    while (engine->pools) {
        sr_http_pool *pool = engine->pools;
        while (pool->first) {
            sr_http_transfer *t = pool->first;
            sr_http_pool_remove(t);
            t->abandon(t);
        }
        engine->pools = pool->next;
        close_pool(pool);
    }
    for (size_t fd = 0; fd < engine->size; fd++)
        drop_watch(engine, (curl_socket_t)fd);
    free(engine->watches);
    free(engine);
}

static struct engine *engine_of(sr_loop *loop) {
    void **slot = sr_loop_slot(loop, &engine_key);
    struct engine *engine = *slot;
    if (engine) return engine;
    engine = calloc(1, sizeof *engine);
    if (!engine) return NULL;
    engine->loop = loop;
    *slot = engine;
    sr_at_loop_close(loop, close_engine, engine);
    return engine;
}

static bool same_text(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_key(const sr_http_pool_key *a, const sr_http_pool_key *b) {
    return a->ca == b->ca && a->identity == b->identity && a->verify == b->verify &&
           a->public_only == b->public_only && a->total == b->total &&
           a->per_host == b->per_host && same_text(a->resolve, b->resolve);
}

/* The list that CURLOPT_RESOLVE takes, from its text. */
static int fill_resolve(sr_http_pool *pool, const char *text) {
    pool->resolve = strdup(text);
    if (!pool->resolve) return -1;
    pool->key.resolve = pool->resolve;
    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n");
        char *entry = strndup(line, len);
        struct curl_slist *list =
            entry ? curl_slist_append(pool->resolve_list, entry) : NULL;
        free(entry);
        if (!list) return -1;
        pool->resolve_list = list;
        line += len + (line[len] == '\n');
    }
    return 0;
}

static sr_http_pool *new_pool(struct engine *engine, const sr_http_pool_key *key) {
    sr_http_pool *pool = calloc(1, sizeof *pool);
    CURLM *multi = pool ? curl_multi_init() : NULL;
    if (!multi) {
        free(pool);
        return NULL;
    }
    pool->key = *key;
    pool->key.resolve = NULL;
    pool->engine = engine;
    pool->multi = multi;
    if (key->ca) sr_http_ca_ref(key->ca);
    if (key->identity) sr_http_identity_ref(key->identity);
    uv_timer_init(sr_uv(engine->loop), &pool->timer);
    pool->timer.data = pool;
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, pool);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, pool);
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)key->total);
    curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)key->per_host);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)key->total);
    if (key->resolve && fill_resolve(pool, key->resolve) < 0) {
        close_pool(pool);
        return NULL;
    }
    return pool;
}

/* Close idle pools beyond `keep`. */
static void trim_pools(struct engine *engine, int keep) {
    int idle = 0;
    for (sr_http_pool **at = &engine->pools; *at;) {
        sr_http_pool *pool = *at;
        if (pool->first || pool->inside || ++idle <= keep) {
            at = &pool->next;
            continue;
        }
        *at = pool->next;
        close_pool(pool);
    }
}

void sr_http_pool_close_idle(sr_loop *loop) {
    struct engine *engine = *sr_loop_slot(loop, &engine_key);
    if (engine) trim_pools(engine, 0);
}

int sr_http_global_init(sr_err *err) {
    static bool done;
    if (!done && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return sr_fail(err, SR_INTERNAL, "CURLE_FAILED_INIT", "libcurl cannot start");
    done = true;
    return 0;
}

int sr_http_pool_get(sr_loop *loop, const sr_http_pool_key *key, sr_http_pool **ret_pool,
                     sr_err *err) {
    if (sr_http_global_init(err) < 0) return -1;
    struct engine *engine = engine_of(loop);
    if (!engine) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a connection");
    for (sr_http_pool **at = &engine->pools; *at; at = &(*at)->next) {
        sr_http_pool *pool = *at;
        if (!same_key(&pool->key, key)) continue;
        *at = pool->next;
        pool->next = engine->pools;
        engine->pools = pool;
        *ret_pool = pool;
        return 0;
    }
    sr_http_pool *pool = new_pool(engine, key);
    if (!pool) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a connection");
    trim_pools(engine, IDLE_POOLS);
    pool->next = engine->pools;
    engine->pools = pool;
    *ret_pool = pool;
    return 0;
}

const sr_http_pool_key *sr_http_pool_key_of(const sr_http_pool *pool) {
    return &pool->key;
}

/* Runs when libcurl has made an SSL_CTX: trust, time and client certificate are ours. */
static CURLcode on_ssl_ctx(CURL *easy, void *ctx, void *arg) {
    (void)easy;
    const sr_http_pool *pool = arg;
    double now = sr_now(pool->engine->loop);
    if (pool->key.ca && sr_http_ca_install(pool->key.ca, ctx, now) < 0)
        return CURLE_SSL_CACERT_BADFILE;
    if (pool->key.identity && sr_http_identity_install(pool->key.identity, ctx) < 0)
        return CURLE_SSL_CERTPROBLEM;
    return CURLE_OK;
}

static void set_pool_options(sr_http_pool *pool, CURL *easy) {
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, pool);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, pool);
    curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, NULL);
    curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, pool->key.verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, pool->key.verify ? 2L : 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYPEER, pool->key.verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYHOST, pool->key.verify ? 2L : 0L);
    if (pool->resolve_list) curl_easy_setopt(easy, CURLOPT_RESOLVE, pool->resolve_list);
}

/* What is the same for every request. */
static void set_common_options(CURL *easy) {
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 86400000L); /* ours counts */
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "secrun/" SR_VERSION);
}

CURL *sr_http_pool_new_easy(sr_http_pool *pool) {
    CURL *easy = curl_easy_init();
    if (!easy) return NULL;
    set_common_options(easy);
    set_pool_options(pool, easy);
    return easy;
}

CURL *sr_http_pool_easy(sr_http_pool *pool, bool *ret_used) {
    *ret_used = pool->kept_count > 0;
    return *ret_used ? pool->kept[--pool->kept_count] : sr_http_pool_new_easy(pool);
}

void sr_http_pool_keep(sr_http_pool *pool, CURL *easy) {
    if (pool->kept_count < KEPT_HANDLES)
        pool->kept[pool->kept_count++] = easy;
    else
        curl_easy_cleanup(easy);
}

int sr_http_pool_add(sr_http_pool *pool, sr_http_transfer *transfer, sr_err *err) {
    curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, (char *)transfer);
    sr_crash_point("request");
    if (curl_multi_add_handle(pool->multi, transfer->easy) != CURLM_OK)
        return sr_fail(err, SR_INTERNAL, "CURLE_FAILED_INIT",
                       "libcurl takes no transfer");
    link_transfer(pool, transfer);
    return 0;
}
