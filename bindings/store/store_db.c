/* store_db.c – the databases of a loop: opened once each, fed from the loop, reported to
 * it, closed when nobody holds them any more.
 *
 * Life: sr_store_open() lists the database and starts its threads; they open their
 * connections themselves. When the last handle is given back, it leaves the list (so that
 * the same file can be opened anew at once) and the threads are told to stop: they run
 * what is queued, close, and say that they ended; then on_async() joins them and closes
 * the async handle, whose callback frees it all. At the end of the loop the same happens
 * while it waits.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store_file.h"
#include "store/store_int.h"

typedef struct store_list {
    sr_store_db *first;
} store_list;

static char list_key;

/* ---------------------------------------------------------------- queues */

void sr_store_queue_push(sr_store_queue *queue, sr_store_request *r) {
    r->next = NULL;
    if (queue->last)
        queue->last->next = r;
    else
        queue->first = r;
    queue->last = r;
}

sr_store_request *sr_store_queue_take(sr_store_queue *queue) {
    sr_store_request *r = queue->first;
    if (!r) return NULL;
    queue->first = r->next;
    if (!queue->first) queue->last = NULL;
    r->next = NULL;
    return r;
}

void sr_store_give_back(sr_store_db *db, sr_store_queue *done) {
    if (!done->first) return;
    uv_mutex_lock(&db->mutex);
    if (db->done.last)
        db->done.last->next = done->first;
    else
        db->done.first = done->first;
    db->done.last = done->last;
    uv_mutex_unlock(&db->mutex);
    *done = (sr_store_queue){0};
    uv_async_send(&db->async);
}

/* ---------------------------------------------------------------- on the loop */

/* The async handle keeps the loop alive only while something is expected from it. */
static void hold(sr_store_db *db) {
    if (db->pending++ == 0) uv_ref((uv_handle_t *)&db->async);
}

static void let_go(sr_store_db *db) {
    if (--db->pending == 0) uv_unref((uv_handle_t *)&db->async);
}

static void deliver(sr_store_db *db, sr_store_request *r) {
    sr_outside_end(db->loop);
    let_go(db);
    sr_op_done(&r->op);
}

/* Whether the lane that knows shall look for commits of others. */
static void watch(sr_store_db *db, bool on) {
    uv_mutex_lock(&db->mutex);
    db->watched = on;
    if (on) uv_cond_signal(db->read_only ? &db->reader.wake : &db->writer.wake);
    uv_mutex_unlock(&db->mutex);
}

static void wait_end(sr_store_wait *w, bool seen) {
    sr_store_db *db = w->db;
    if (!w->waiting) return;
    w->waiting = false;
    w->seen = seen;
    sr_timer_stop(db->loop, &w->timer);
    if (w->prev)
        w->prev->next = w->next;
    else
        db->waits = w->next;
    if (w->next) w->next->prev = w->prev;
    if (!db->waits) watch(db, false);
    let_go(db);
    sr_op_done(&w->op);
}

static void tell_waits(sr_store_db *db, bool seen) {
    while (db->waits)
        wait_end(db->waits, seen);
}

static void note_commit(sr_store_db *db) {
    db->commits++;
    tell_waits(db, true);
}

static void on_closed(uv_handle_t *handle) {
    sr_store_db *db = handle->data;
    uv_cond_destroy(&db->writer.wake);
    uv_cond_destroy(&db->reader.wake);
    uv_mutex_destroy(&db->mutex);
    free(db->place);
    free(db);
}

static void join(sr_store_lane *lane) {
    if (lane->started && !lane->joined) uv_thread_join(&lane->thread);
    lane->joined = true;
}

static store_list *list_of(sr_loop *loop) {
    void **slot = sr_loop_slot(loop, &list_key);
    return slot ? *slot : NULL;
}

static void unlist(sr_store_db *db) {
    store_list *list = list_of(db->loop);
    sr_store_db **at = &list->first;
    while (*at && *at != db)
        at = &(*at)->next;
    if (*at) *at = db->next;
}

/* Both threads are gone. */
static void end(sr_store_db *db) {
    unlist(db);
    tell_waits(db, false);
    if (db->lock_fd >= 0) close(db->lock_fd);
    if (db->closing) {
        sr_outside_end(db->loop);
        sr_op_done(db->closing);
    }
    db->closing = NULL;
    uv_close((uv_handle_t *)&db->async, on_closed);
}

static void drain(sr_store_db *db) {
    uv_mutex_lock(&db->mutex);
    sr_store_queue done = db->done;
    bool foreign = db->foreign, committed = false;
    db->done = (sr_store_queue){0};
    db->foreign = false;
    uv_mutex_unlock(&db->mutex);
    for (sr_store_request *r = done.first; r; r = r->next)
        committed |= r->changed;
    if (committed || foreign) note_commit(db);
    for (sr_store_request *r; (r = sr_store_queue_take(&done));)
        deliver(db, r);
}

static bool lanes_ended(sr_store_db *db) {
    uv_mutex_lock(&db->mutex);
    bool ended = (!db->writer.started || db->writer.ended) &&
                 (!db->reader.started || db->reader.ended);
    uv_mutex_unlock(&db->mutex);
    return ended;
}

static void on_async(uv_async_t *async) {
    sr_store_db *db = async->data;
    bool ended = lanes_ended(db); /* first: what they gave back before it is drained */
    drain(db);
    if (!ended || uv_is_closing((uv_handle_t *)async)) return;
    join(&db->writer);
    join(&db->reader);
    end(db);
}

/* ---------------------------------------------------------------- opening */

static void run_lane(void *arg) {
    sr_store_lane *lane = arg;
    sr_store_db *db = lane->db;
    lane->body(lane);
    uv_mutex_lock(&db->mutex);
    lane->ended = true;
    uv_cond_signal(&db->writer.wake); /* which closes after the reader */
    uv_async_send(&db->async);        /* within: the loop frees it once it saw `ended` */
    uv_mutex_unlock(&db->mutex);
}

static int start(sr_store_lane *lane, sr_err *err) {
    int rc = uv_thread_create(&lane->thread, run_lane, lane);
    if (rc != 0)
        return sr_fail_uv(err, rc, "no thread for the store %s", lane->db->place);
    lane->started = true;
    return 0;
}

static void stop(sr_store_db *db) {
    atomic_store(&db->hurry, true);
    uv_mutex_lock(&db->mutex);
    db->stopping = true;
    uv_cond_signal(&db->writer.wake);
    uv_cond_signal(&db->reader.wake);
    uv_mutex_unlock(&db->mutex);
}

/* Every VM is gone; what they queued is run to its end. */
static void close_all(void *arg) {
    store_list *list = arg;
    while (list->first) {
        sr_store_db *db = list->first;
        stop(db);
        join(&db->writer);
        join(&db->reader);
        drain(db);
        end(db);
    }
    free(list);
}

static store_list *make_list(sr_loop *loop) {
    store_list *list = list_of(loop);
    void **slot = sr_loop_slot(loop, &list_key);
    if (list || !slot) return list;
    list = *slot = calloc(1, sizeof *list);
    if (list) sr_at_loop_close(loop, close_all, list);
    return list;
}

static void lane_init(sr_store_db *db, sr_store_lane *lane, sr_store_role role,
                      void (*body)(sr_store_lane *)) {
    lane->db = db;
    lane->role = role;
    lane->body = body;
}

static sr_store_db *db_new(sr_loop *loop, const sr_store_engine *engine,
                           const char *place, bool read_only,
                           const sr_store_limits *limits, sr_err *err) {
    sr_store_db *db = calloc(1, sizeof *db);
    char *copy = strdup(place);
    if (!db || !copy) {
        free(db);
        free(copy);
        sr_set_err(err, SR_LIMIT, "ENOMEM", "no memory to open %s", place);
        return NULL;
    }
    *db = (sr_store_db){.loop = loop,
                        .engine = engine,
                        .place = copy,
                        .read_only = read_only,
                        .limits = *limits,
                        .lock_fd = -1};
    atomic_init(&db->hurry, false);
    db->limits.hurry = &db->hurry;
    lane_init(db, &db->writer, SR_STORE_WRITER, sr_store_writer_body);
    lane_init(db, &db->reader, read_only ? SR_STORE_READ_ONLY : SR_STORE_READER,
              sr_store_reader_body);
    int rc = uv_mutex_init(&db->mutex);
    if (rc == 0) rc = uv_cond_init(&db->writer.wake);
    if (rc == 0) rc = uv_cond_init(&db->reader.wake);
    if (rc == 0) rc = uv_async_init(sr_uv(loop), &db->async, on_async);
    if (rc != 0) { /* out of memory or descriptors: the pieces go with the process */
        sr_set_uv(err, rc, "cannot open %s", place);
        free(copy);
        free(db);
        return NULL;
    }
    db->async.data = db;
    uv_unref((uv_handle_t *)&db->async);
    return db;
}

/* A database that could not start its threads ends like one that is closed. */
static sr_store_db *start_failed(sr_store_db *db) {
    stop(db);
    join(&db->writer);
    join(&db->reader);
    end(db);
    return NULL;
}

sr_store_db *sr_store_open(sr_loop *loop, const sr_store_engine *engine,
                           const char *place, bool read_only,
                           const sr_store_limits *limits, sr_err *err) {
    store_list *list = make_list(loop);
    if (!list) {
        sr_set_err(err, SR_LIMIT, "ENOMEM", "no memory to open %s", place);
        return NULL;
    }
    for (sr_store_db *db = list->first; db; db = db->next)
        if (db->handles && db->read_only == read_only && strcmp(db->place, place) == 0) {
            db->handles++;
            return db;
        }
    sr_store_db *db = db_new(loop, engine, place, read_only, limits, err);
    if (!db) return NULL;
    if (sr_store_file_lock(place, false, &db->lock_fd, err) != 0 ||
        (!read_only && start(&db->writer, err) != 0) || start(&db->reader, err) != 0)
        return start_failed(db);
    db->handles = 1;
    db->next = list->first;
    list->first = db;
    return db;
}

/* ---------------------------------------------------------------- closing */

void sr_store_close(sr_store_db *db, sr_op *op) {
    if (--db->handles > 0) {
        sr_op_done(op);
        return;
    }
    db->closing = op;
    hold(db);
    sr_outside_begin(db->loop); /* the threads are; a virtual clock waits for them */
    stop(db);
}

void sr_store_hold(sr_store_db *db) {
    db->handles++;
}

void sr_store_release(sr_store_db *db) {
    if (--db->handles == 0) stop(db);
}

const char *sr_store_place(const sr_store_db *db) {
    return db->place;
}

bool sr_store_read_only(const sr_store_db *db) {
    return db->read_only;
}

const sr_store_limits *sr_store_limits_of(const sr_store_db *db) {
    return &db->limits;
}

sr_loop *sr_store_loop(const sr_store_db *db) {
    return db->loop;
}

/* ---------------------------------------------------------------- requests */

sr_store_request *sr_store_request_new(sr_store_db *db, sr_store_kind kind,
                                       const sr_op_class *cls, uint32_t count,
                                       size_t values, size_t bytes) {
    size_t size = sizeof(sr_store_request) + count * sizeof(sr_store_stmt) +
                  values * sizeof(sr_store_value) + bytes;
    sr_store_request *r = malloc(size);
    if (!r) return NULL;
    memset(r, 0, sizeof *r + count * sizeof(sr_store_stmt));
    sr_op_init(&r->op, cls, db->loop);
    r->kind = kind;
    r->db = db;
    r->count = count;
    r->stmts = (sr_store_stmt *)(r + 1);
    r->values = (sr_store_value *)(r->stmts + count);
    r->bytes = (char *)(r->values + values);
    return r;
}

void sr_store_request_free(sr_store_request *r) {
    for (uint32_t i = 0; i < r->count; i++) {
        sr_buf_free(&r->stmts[i].rows.cells);
        if (r->stmts[i].sql && --r->stmts[i].sql->refs == 0) free(r->stmts[i].sql);
    }
    if (r->tx) sr_store_tx_unref(r->tx);
    free(r);
}

static sr_store_queue *queue_of(sr_store_request *r, uv_cond_t **ret_wake) {
    sr_store_db *db = r->db;
    bool reads = r->kind == SR_STORE_READ || db->read_only;
    *ret_wake = reads ? &db->reader.wake : &db->writer.wake;
    if (r->tx && r->kind != SR_STORE_BEGIN) return &r->tx->queue;
    return reads ? &db->reader.queue : &db->writer.queue;
}

void sr_store_submit(sr_store_request *r) {
    sr_store_db *db = r->db;
    uv_cond_t *wake;
    hold(db);
    sr_outside_begin(db->loop);
    uv_mutex_lock(&db->mutex);
    sr_store_queue *queue = queue_of(r, &wake);
    bool refused = r->tx && r->tx->ended;
    if (refused)
        r->err = r->tx->failure;
    else
        sr_store_queue_push(queue, r);
    uv_mutex_unlock(&db->mutex);
    if (refused)
        deliver(db, r);
    else
        uv_cond_signal(wake);
}

/* ---------------------------------------------------------------- transactions */

sr_store_tx *sr_store_tx_new(sr_store_db *db) {
    sr_store_tx *tx = calloc(1, sizeof *tx);
    if (!tx) return NULL;
    tx->db = db;
    atomic_init(&tx->refs, 1);
    return tx;
}

sr_store_tx *sr_store_tx_ref(sr_store_tx *tx) {
    atomic_fetch_add(&tx->refs, 1);
    return tx;
}

void sr_store_tx_unref(sr_store_tx *tx) {
    if (atomic_fetch_sub(&tx->refs, 1) == 1) free(tx);
}

void sr_store_tx_abandon(sr_store_tx *tx) {
    sr_store_db *db = tx->db;
    uv_mutex_lock(&db->mutex);
    bool open = !tx->ended;
    tx->abandoned = true;
    if (open) uv_cond_signal(&db->writer.wake);
    uv_mutex_unlock(&db->mutex);
}

/* ---------------------------------------------------------------- watching */

uint64_t sr_store_commits(const sr_store_db *db) {
    return db->commits;
}

static void on_due(sr_timer *timer) {
    sr_store_wait *w = (sr_store_wait *)((char *)timer - offsetof(sr_store_wait, timer));
    wait_end(w, false);
}

void sr_store_wait_start(sr_store_wait *w, sr_store_db *db, uint64_t after, int64_t due) {
    w->db = db;
    w->seen = db->commits > after;
    if (w->seen || uv_is_closing((uv_handle_t *)&db->async)) {
        sr_op_done(&w->op);
        return;
    }
    w->waiting = true;
    w->prev = NULL;
    w->next = db->waits;
    if (db->waits) db->waits->prev = w;
    db->waits = w;
    hold(db);
    if (due != INT64_MAX && sr_timer_start(db->loop, &w->timer, due, on_due) != 0)
        wait_end(w, false);
    else
        watch(db, true);
}

void sr_store_wait_cancel(sr_store_wait *w) {
    wait_end(w, false);
}
