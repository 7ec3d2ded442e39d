/* store_writer.c – the thread that writes: many transactions, one commit.
 *
 * It takes whatever waits in its queue, begins, runs each request within a savepoint,
 * commits, and gives all of them back at once: the more there is to do, the more share
 * one fsync. A request that fails goes back to its savepoint and takes nobody along. When
 * the group itself fails (the disk is full, so the engine ended the transaction, or the
 * commit was refused), each is run again in a transaction of its own: so one that does
 * not fit does not cost those that do.
 *
 * An interactive transaction (BEGIN) ends the group and has the writer to itself until it
 * commits, is abandoned, or has taken longer than limits.hold.
 */
#include <string.h>

#include "store/store_int.h"

enum { GROUP = 512 };

static const sr_store_engine *engine_of(const sr_store_lane *lane) {
    return lane->db->engine;
}

/* ---------------------------------------------------------------- one request */

static int unexpected(sr_store_request *r, uint32_t i) {
    const sr_store_stmt *s = &r->stmts[i];
    return sr_fail(&r->err, SR_CONFLICT, s->code ? s->code : "EXPECT",
                   "statement %u of %u affected %lld rows where exactly %lld were "
                   "expected; nothing of the batch is kept",
                   i + 1, r->count, (long long)sr_store_affected(s),
                   (long long)s->expect);
}

static int run_stmt(sr_store_lane *lane, sr_store_request *r, uint32_t i) {
    sr_store_stmt *s = &r->stmts[i];
    s->skipped = s->when && (r->stmts[s->when - 1].skipped ||
                             sr_store_affected(&r->stmts[s->when - 1]) == 0);
    if (s->skipped) return 0;
    if (engine_of(lane)->run(lane->conn, s, &r->err) != 0) return -1;
    if (s->expect >= 0 && sr_store_affected(s) != s->expect) return unexpected(r, i);
    r->changed |= s->changes != 0;
    return 0;
}

static int run_stmts(sr_store_lane *lane, sr_store_request *r) {
    r->err = (sr_err){0};
    r->failed = 0;
    r->changed = false;
    for (uint32_t i = 0; i < r->count; i++)
        if (run_stmt(lane, r, i) != 0) {
            r->failed = i + 1;
            r->changed = false;
            return -1;
        }
    return 0;
}

static void fail_all(sr_store_queue *group, const sr_err *err) {
    for (sr_store_request *r = group->first; r; r = r->next) {
        r->err = *err;
        r->failed = 0;
        r->changed = false;
    }
}

/* ---------------------------------------------------------------- a group */

/* Alone: no savepoint needed. */
static void run_alone(sr_store_lane *lane, sr_store_request *r) {
    const sr_store_engine *e = engine_of(lane);
    r->changed = false;
    if (e->begin(lane->conn, &r->err) != 0) return;
    if (run_stmts(lane, r) == 0 && e->commit(lane->conn, &r->err) == 0) return;
    r->changed = false;
    if (e->alive(lane->conn)) e->rollback(lane->conn);
}

static int run_within(sr_store_lane *lane, sr_store_request *r) {
    const sr_store_engine *e = engine_of(lane);
    if (e->save(lane->conn, &r->err) != 0) return -1;
    if (run_stmts(lane, r) == 0) return e->release(lane->conn, &r->err);
    if (!e->alive(lane->conn)) return -1;
    e->back(lane->conn);
    return 0;
}

/* 0: all have their result. -1: the transaction is gone and nothing of it is kept. */
static int run_together(sr_store_lane *lane, sr_store_queue *group) {
    const sr_store_engine *e = engine_of(lane);
    sr_err err = {0};
    if (e->begin(lane->conn, &err) != 0) {
        fail_all(group, &err);
        return 0;
    }
    for (sr_store_request *r = group->first; r; r = r->next)
        if (run_within(lane, r) != 0) {
            if (e->alive(lane->conn)) e->rollback(lane->conn);
            return -1;
        }
    if (e->commit(lane->conn, &err) == 0) return 0;
    if (e->alive(lane->conn)) e->rollback(lane->conn);
    return -1;
}

static void run_group(sr_store_lane *lane, sr_store_queue *group) {
    if (group->first == group->last) {
        run_alone(lane, group->first);
        return;
    }
    if (run_together(lane, group) == 0) return;
    for (sr_store_request *r = group->first; r; r = r->next)
        run_alone(lane, r);
}

/* The leading requests that can share a commit. */
static void split(sr_store_queue *queue, sr_store_queue *group) {
    for (int n = 0; n < GROUP && queue->first && queue->first->kind == SR_STORE_WRITE;
         n++)
        sr_store_queue_push(group, sr_store_queue_take(queue));
}

/* ---------------------------------------------------------------- interactive */

static void tx_fail(sr_store_tx *tx, const sr_err *err) {
    if (!tx->failure.kind) tx->failure = *err;
}

/* The next request of the transaction; NULL: it was abandoned or took too long. */
static sr_store_request *tx_next(sr_store_lane *lane, sr_store_tx *tx, int64_t until) {
    sr_store_db *db = lane->db;
    sr_store_request *r = NULL;
    sr_err err;
    uv_mutex_lock(&db->mutex);
    while (!tx->abandoned) {
        int64_t left = until - sr_cpu();
        if (left <= 0) {
            sr_set_err(
                &err, SR_TIMEOUT, "TRANSACTION",
                "the transaction held the store for %.0f s and was rolled back: in "
                "db:transaction wait for nothing but the store",
                (double)db->limits.hold / 1e9);
            tx_fail(tx, &err);
            break;
        }
        if ((r = sr_store_queue_take(&tx->queue))) break;
        (void)uv_cond_timedwait(&lane->wake, &db->mutex, (uint64_t)left);
    }
    uv_mutex_unlock(&db->mutex);
    return r;
}

/* Nothing is queued to it any more; what is queued fails. */
static void tx_end(sr_store_lane *lane, sr_store_tx *tx, sr_store_queue *done) {
    sr_store_db *db = lane->db;
    sr_err over;
    sr_set_err(&over, SR_USAGE, "TRANSACTION", "the transaction is over");
    uv_mutex_lock(&db->mutex);
    tx->ended = true;
    tx_fail(tx, &over);
    for (sr_store_request *r; (r = sr_store_queue_take(&tx->queue));) {
        r->err = tx->failure;
        sr_store_queue_push(done, r);
    }
    uv_mutex_unlock(&db->mutex);
}

/* A failed statement may have left anything: the transaction cannot be committed. */
static void tx_step(sr_store_lane *lane, sr_store_tx *tx, sr_store_request *r) {
    if (tx->failure.kind)
        r->err = tx->failure;
    else if (run_stmts(lane, r) != 0)
        tx_fail(tx, &r->err);
}

static void tx_commit(sr_store_lane *lane, sr_store_tx *tx, sr_store_request *r,
                      bool changed) {
    if (tx->failure.kind)
        r->err = tx->failure;
    else if (engine_of(lane)->commit(lane->conn, &r->err) == 0)
        r->changed = changed;
}

static void serve(sr_store_lane *lane, sr_store_request *begin, sr_store_queue *done) {
    const sr_store_engine *e = engine_of(lane);
    sr_store_tx *tx = sr_store_tx_ref(begin->tx); /* begin is given back at once */
    int64_t until = sr_cpu() + lane->db->limits.hold;
    bool changed = false, over = e->begin(lane->conn, &begin->err) != 0;
    if (over) tx_fail(tx, &begin->err);
    sr_store_queue_push(done, begin);
    while (!over) {
        sr_store_give_back(lane->db, done);
        sr_store_request *r = tx_next(lane, tx, until);
        if (!r) break;
        over = r->kind == SR_STORE_COMMIT;
        if (over)
            tx_commit(lane, tx, r, changed);
        else
            tx_step(lane, tx, r);
        changed |= r->changed;
        if (!over) r->changed = false; /* nothing is known to others yet */
        sr_store_queue_push(done, r);
    }
    if (e->alive(lane->conn)) e->rollback(lane->conn);
    tx_end(lane, tx, done);
    sr_store_tx_unref(tx);
}

/* ---------------------------------------------------------------- the thread */

static void run_queue(sr_store_lane *lane, sr_store_queue *queue) {
    while (queue->first) {
        sr_store_queue group = {0};
        split(queue, &group);
        if (group.first) {
            run_group(lane, &group);
        } else {
            sr_store_request *r = sr_store_queue_take(queue);
            if (r->kind == SR_STORE_BEGIN)
                serve(lane, r, &group);
            else
                sr_store_queue_push(&group, r);
        }
        sr_store_give_back(lane->db, &group);
    }
}

static void refuse_queue(sr_store_lane *lane, sr_store_queue *queue) {
    fail_all(queue, &lane->failure);
    for (sr_store_request *r = queue->first; r; r = r->next)
        if (r->tx) {
            uv_mutex_lock(&lane->db->mutex);
            r->tx->ended = true;
            r->tx->failure = lane->failure;
            uv_mutex_unlock(&lane->db->mutex);
        }
    sr_store_give_back(lane->db, queue);
}

/* The last connection of a file takes its log away; of two that close at once neither
 * knows that it is the last. So the reader goes first. */
static void close_last(sr_store_lane *lane) {
    sr_store_db *db = lane->db;
    uv_mutex_lock(&db->mutex);
    while (db->reader.started && !db->reader.ended)
        uv_cond_wait(&lane->wake, &db->mutex);
    uv_mutex_unlock(&db->mutex);
    if (lane->conn) db->engine->close(lane->conn);
}

void sr_store_writer_body(sr_store_lane *lane) {
    sr_store_db *db = lane->db;
    sr_store_queue queue;
    if (db->engine->open(db->place, lane->role, &db->limits, &lane->conn,
                         &lane->failure) != 0)
        lane->conn = NULL;
    for (;;) {
        uv_mutex_lock(&db->mutex);
        bool more = sr_store_lane_next(lane, &queue);
        uv_mutex_unlock(&db->mutex);
        if (!more) break;
        if (lane->conn)
            run_queue(lane, &queue);
        else
            refuse_queue(lane, &queue);
        sr_store_lane_look(lane);
    }
    close_last(lane);
}
