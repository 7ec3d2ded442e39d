/* store.h – rows in a database: requests, the engines that run them, and the threads
 * between.
 *
 * A database (sr_store_db) is open once per loop and file, however many VMs use it. Two
 * threads serve it, each with a connection of its own: the writer, which drains its queue
 * so that all transactions waiting share one commit, and the reader. A request is built
 * on the loop, run by one of them and given back through one uv_async for all that are
 * done. It owns everything it carries, so a task that was cancelled or a VM that is gone
 * costs it nothing: what was queued is run.
 *
 * Whose is what: fields of a request belong to the loop before sr_store_submit() and
 * after its operation is done, and to the thread in between. sr_store_sql is read by the
 * threads and counted on the loop only. What the loop and the threads share is under
 * db->mutex.
 */
#ifndef SR_STORE_H
#define SR_STORE_H

#include <stdatomic.h>

#include "secrun.h"
#include "store/store_msg.h"

/* ---------------------------------------------------------------- statements, results */

/* An SQL text that was scanned: kept by the face, referenced by requests. */
typedef struct sr_store_sql {
    unsigned refs; /* on the loop */
    uint32_t hash;
    size_t len;
    sr_sql scan;
    char text[]; /* NUL-terminated */
} sr_store_sql;

typedef enum sr_store_type {
    SR_STORE_NULL,
    SR_STORE_INT,
    SR_STORE_FLOAT,
    SR_STORE_TEXT
} sr_store_type;

typedef struct sr_store_value {
    sr_store_type type;
    union {
        int64_t integer;
        double number;
        struct {
            const char *data;
            size_t len;
        } text;
    } as;
} sr_store_value;

/* Rows as they come: the names of the columns, each ended by NUL, then the cells. A cell
 * is its type in one byte, then 8 bytes, or 4 bytes of length and the text. */
typedef struct sr_store_rows {
    uint32_t columns, count;
    sr_buf cells;
} sr_store_rows;

typedef struct sr_store_stmt {
    sr_store_sql *sql;
    const sr_store_value *values; /* sql->scan.count of them */
    int64_t expect;               /* rows it must change or return; -1: any number */
    const char *code;             /* of the conflict otherwise; NULL: "EXPECT" */
    uint32_t when; /* run only if that statement affected a row; 0: always */
    /* results */
    bool skipped, reads;
    int64_t changes;
    sr_store_rows rows;
} sr_store_stmt;

/* Rows it changed, or returned when it only reads. */
static inline int64_t sr_store_affected(const sr_store_stmt *s) {
    return s->reads ? s->rows.count : s->changes;
}

/* ---------------------------------------------------------------- engines */

typedef struct sr_store_limits {
    uint32_t rows;    /* of one result */
    size_t bytes;     /* of one result */
    int64_t busy;     /* ns to wait for another process that writes */
    int64_t poll;     /* ns between two looks for commits of other processes */
    int64_t hold;     /* ns that an interactive transaction may take */
    int64_t max_size; /* of the file, bytes; 0: what the disk holds */
    /* Set when the database is to be closed: then nobody wants to wait for long. */
    const atomic_bool *hurry;
} sr_store_limits;

typedef struct sr_store_conn sr_store_conn;

typedef enum sr_store_role {
    SR_STORE_WRITER,
    SR_STORE_READER,
    SR_STORE_READ_ONLY
} sr_store_role;

/* What a database engine does for us, each call blocking, from one thread a connection.
 * Failures: kind store with code BUSY (retryable), FULL, CORRUPT, READONLY, IO; conflict
 * with code UNIQUE; usage with code SQL. */
typedef struct sr_store_engine {
    const char *name;
    int (*open)(const char *place, sr_store_role role, const sr_store_limits *limits,
                sr_store_conn **ret_conn, sr_err *err);
    void (*close)(sr_store_conn *conn);
    int (*begin)(sr_store_conn *conn, sr_err *err); /* to write, at once */
    int (*commit)(sr_store_conn *conn, sr_err *err);
    void (*rollback)(sr_store_conn *conn);
    int (*save)(sr_store_conn *conn, sr_err *err); /* one savepoint, not nested */
    int (*release)(sr_store_conn *conn, sr_err *err);
    void (*back)(sr_store_conn *conn); /* to the savepoint, and release it */
    /* Whether the transaction is still open: a full disk may have ended it. */
    bool (*alive)(sr_store_conn *conn);
    /* Bind, step, collect. Clears the results first, so a statement can be run again. */
    int (*run)(sr_store_conn *conn, sr_store_stmt *stmt, sr_err *err);
    /* Any change since the last call by another connection? */
    int (*changed)(sr_store_conn *conn, bool *ret_changed, sr_err *err);
} sr_store_engine;

extern const sr_store_engine sr_store_sqlite;

/* ---------------------------------------------------------------- databases */

typedef struct sr_store_db sr_store_db;
typedef struct sr_store_tx sr_store_tx;
typedef struct sr_store_request sr_store_request;
typedef struct sr_store_wait sr_store_wait;

typedef enum sr_store_kind {
    SR_STORE_OPENED, /* ends when the connection is open, or failed to */
    SR_STORE_READ,   /* on the reader */
    SR_STORE_WRITE,  /* one transaction of the group */
    SR_STORE_BEGIN,  /* an interactive transaction; the writer is its alone from here */
    SR_STORE_STEP,   /* a statement in it */
    SR_STORE_COMMIT
} sr_store_kind;

struct sr_store_request {
    sr_op op; /* first */
    sr_store_kind kind;
    bool single; /* one result instead of a list */
    bool plain;  /* only its rows */
    bool first;  /* only its first row, or nil */
    sr_store_db *db;
    sr_store_tx *tx; /* of BEGIN, STEP and COMMIT; counted */
    sr_store_request *next;
    sr_err err;
    uint32_t failed; /* the statement that failed, from 1; 0: none in particular */
    bool changed;    /* its commit changed the database */
    uint32_t count;
    sr_store_stmt *stmts;
    sr_store_value *values;
    char *bytes; /* of texts and codes */
};

/* Find or open; counted. place is a resolved path. The first request to it, kind OPENED,
 * tells whether it opened. NULL: no memory or no thread. */
sr_store_db *sr_store_open(sr_loop *loop, const sr_store_engine *engine,
                           const char *place, bool read_only,
                           const sr_store_limits *limits, sr_err *err);
/* Give it back. After the last of them the threads finish their queues and end. */
void sr_store_release(sr_store_db *db);
/* The same; `op` is done when the database is closed, or at once if others use it. */
void sr_store_close(sr_store_db *db, sr_op *op);

const char *sr_store_place(const sr_store_db *db);
bool sr_store_read_only(const sr_store_db *db);
const sr_store_limits *sr_store_limits_of(const sr_store_db *db);
sr_loop *sr_store_loop(const sr_store_db *db);

/* Memory for a request of `count` statements with so many values and bytes in all; the
 * operation is initialised with cls. NULL: no memory. */
sr_store_request *sr_store_request_new(sr_store_db *db, sr_store_kind kind,
                                       const sr_op_class *cls, uint32_t count,
                                       size_t values, size_t bytes);
void sr_store_request_free(sr_store_request *r);
/* Queue it. Its operation is done when it was run: durable, if it wrote. */
void sr_store_submit(sr_store_request *r);

/* One more handle on it. */
void sr_store_hold(sr_store_db *db);

/* An interactive transaction: for BEGIN, STEP and COMMIT; each request has a reference of
 * its own. Whoever can abandon it holds a handle on the database. */
sr_store_tx *sr_store_tx_new(sr_store_db *db);
sr_store_tx *sr_store_tx_ref(sr_store_tx *tx);
void sr_store_tx_unref(sr_store_tx *tx);
/* Roll back unless it was committed. Does not wait. */
void sr_store_tx_abandon(sr_store_tx *tx);

/* ---------------------------------------------------------------- watching */

/* Commits that became known: ours as they are acknowledged, others' as the writer sees
 * them, which it looks for while somebody waits. */
uint64_t sr_store_commits(const sr_store_db *db);

/* A wait for the next one; embed as first member. */
struct sr_store_wait {
    sr_op op; /* first */
    sr_store_db *db;
    sr_store_wait *prev, *next;
    sr_timer timer;
    bool waiting, seen;
};
/* Ends with seen = true once the count exceeds `after`, with false at due (INT64_MAX:
 * never) or when the database is closed. */
void sr_store_wait_start(sr_store_wait *w, sr_store_db *db, uint64_t after, int64_t due);
void sr_store_wait_cancel(sr_store_wait *w);

#endif
