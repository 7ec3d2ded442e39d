/* store_int.h – a database from the inside: its two lanes and what they share. */
#ifndef SR_STORE_INT_H
#define SR_STORE_INT_H

#include "store/store.h"

typedef struct sr_store_queue {
    sr_store_request *first, *last;
} sr_store_queue;

/* A thread with its queue. */
typedef struct sr_store_lane {
    sr_store_db *db;
    uv_thread_t thread;
    uv_cond_t wake;
    void (*body)(struct sr_store_lane *lane);
    sr_store_role role;
    bool started;
    bool joined; /* loop only */
    /* under db->mutex */
    sr_store_queue queue;
    bool ended; /* it touches nothing any more */
    /* the thread's own */
    sr_store_conn *conn; /* NULL: it could not be opened, see failure */
    sr_err failure;
    int64_t looked; /* for other processes' commits, sr_cpu() */
} sr_store_lane;

struct sr_store_db {
    /* fixed */
    sr_loop *loop;
    const sr_store_engine *engine;
    char *place;
    bool read_only;
    sr_store_limits limits;
    int lock_fd; /* FILE.lock, -1: none */
    /* loop only */
    sr_store_db *next;
    unsigned handles;
    unsigned pending; /* requests under way, waits, closings: what keeps the loop */
    sr_op *closing;
    sr_store_wait *waits;
    uint64_t commits;
    uv_async_t async;
    /* shared */
    atomic_bool hurry;
    uv_mutex_t mutex;
    sr_store_queue done;
    bool stopping;
    bool foreign; /* another process has committed */
    bool watched; /* somebody waits for commits: look for them */
    sr_store_lane writer, reader;
};

struct sr_store_tx {
    sr_store_db *db;
    atomic_uint refs;
    /* under db->mutex */
    sr_store_queue queue;
    bool abandoned, ended;
    sr_err failure; /* why it ended early, or cannot be committed */
};

void sr_store_queue_push(sr_store_queue *queue, sr_store_request *r);
sr_store_request *sr_store_queue_take(sr_store_queue *queue);

/* Lanes: run a queue until the database stops and nothing waits. */
void sr_store_writer_body(sr_store_lane *lane);
void sr_store_reader_body(sr_store_lane *lane);

/* Give requests back to the loop (any thread). `done` becomes empty. */
void sr_store_give_back(sr_store_db *db, sr_store_queue *done);
/* Wait until the queue has something, the database stops, or it is time to look for
 * others' commits. Takes the whole queue. False: stop. mutex held. */
bool sr_store_lane_next(sr_store_lane *lane, sr_store_queue *ret_queue);
/* Look whether others committed, at most as often as limits.poll says. mutex not held. */
void sr_store_lane_look(sr_store_lane *lane);

#endif
