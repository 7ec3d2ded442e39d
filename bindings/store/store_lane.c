/* store_lane.c – a thread of the store and its queue; and the reader, the simpler one.
 *
 * The lane that knows about other processes (the writer, or the reader of a store that is
 * only read) looks for their commits while somebody watches. Not by the reader next to a
 * writer: its PRAGMA data_version would also move with each of our own commits.
 */
#include "store/store_int.h"

static bool looks(const sr_store_lane *lane) {
    return lane->role != SR_STORE_READER && lane->conn;
}

bool sr_store_lane_next(sr_store_lane *lane, sr_store_queue *ret_queue) {
    sr_store_db *db = lane->db;
    while (!lane->queue.first && !db->stopping) {
        if (!db->watched || !looks(lane)) {
            uv_cond_wait(&lane->wake, &db->mutex);
            continue;
        }
        int64_t left = lane->looked + db->limits.poll - sr_cpu();
        if (left <= 0) break; /* look, with an empty queue */
        (void)uv_cond_timedwait(&lane->wake, &db->mutex, (uint64_t)left);
    }
    *ret_queue = lane->queue;
    lane->queue = (sr_store_queue){0};
    return ret_queue->first || !db->stopping;
}

void sr_store_lane_look(sr_store_lane *lane) {
    sr_store_db *db = lane->db;
    bool changed = false;
    sr_err err;
    if (!looks(lane) || sr_cpu() - lane->looked < db->limits.poll) return;
    lane->looked = sr_cpu();
    /* A file that cannot be looked at fails the next request, which says so. */
    if (db->engine->changed(lane->conn, &changed, &err) != 0 || !changed) return;
    uv_mutex_lock(&db->mutex);
    db->foreign = true;
    uv_mutex_unlock(&db->mutex);
    uv_async_send(&db->async);
}

static void read_one(sr_store_lane *lane, sr_store_request *r) {
    if (!lane->conn) {
        r->err = lane->failure;
        return;
    }
    for (uint32_t i = 0; i < r->count; i++)
        if (lane->db->engine->run(lane->conn, &r->stmts[i], &r->err) != 0) {
            r->failed = i + 1;
            return;
        }
}

static void open_reader(sr_store_lane *lane) {
    sr_store_db *db = lane->db;
    if (lane->conn) return;
    if (db->engine->open(db->place, lane->role, &db->limits, &lane->conn,
                         &lane->failure) != 0)
        lane->conn = NULL;
}

/* Opens at its first request, when the writer has made the file what it is. */
void sr_store_reader_body(sr_store_lane *lane) {
    sr_store_db *db = lane->db;
    sr_store_queue queue, done = {0};
    for (;;) {
        uv_mutex_lock(&db->mutex);
        bool more = sr_store_lane_next(lane, &queue);
        uv_mutex_unlock(&db->mutex);
        if (!more) break;
        if (queue.first) open_reader(lane);
        for (sr_store_request *r; (r = sr_store_queue_take(&queue));) {
            read_one(lane, r);
            sr_store_queue_push(&done, r);
            sr_store_give_back(db, &done);
        }
        sr_store_lane_look(lane);
    }
    if (lane->conn) db->engine->close(lane->conn);
}
