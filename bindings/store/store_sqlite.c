/* store_sqlite.c – the engine on SQLite: connections and transactions.
 *
 * WAL, so that readers see a snapshot and never wait for the writer; synchronous FULL, so
 * that a commit that returned is on the disk: a flow whose last step was forgotten would
 * order twice. Other processes write to the same file: BEGIN IMMEDIATE takes the lock
 * before anything is read, and a busy lock is waited for in short naps of random length,
 * so that no process is shut out by the rhythm of another.
 *
 * A file that is not a store (no application id of ours, yet not empty) is not touched.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/store_file.h"
#include "store/store_sqlite.h"

typedef struct sqlite_conn {
    sqlite3 *db;
    sr_stmt_cache *cache;
    char *place;
    bool may_write;
    const sr_store_limits *limits;
    int64_t waiting_since; /* for the lock, sr_cpu() */
    uint64_t random;
    int64_t version; /* PRAGMA data_version */
    sqlite3_stmt *begin, *commit, *save, *release, *look;
} sqlite_conn;

static sqlite_conn *of(sr_store_conn *conn) {
    return (sqlite_conn *)conn;
}

/* ---------------------------------------------------------------- waiting for the lock
 */

enum { NAP_US = 300, LONGEST_NAP_US = 12000, HURRY_NS = 2000000000 };

/* A nap between half and all of a span that grows with the tries (xorshift64). */
static void nap(sqlite_conn *c, int tries) {
    uint64_t span = NAP_US * (uint64_t)(tries + 1);
    if (span > LONGEST_NAP_US) span = LONGEST_NAP_US;
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    uint64_t us = span / 2 + c->random % (span / 2);
    struct timespec pause = {.tv_nsec = (long)us * 1000};
    (void)nanosleep(&pause, NULL); /* a signal only shortens it */
}

static int on_busy(void *arg, int tries) {
    sqlite_conn *c = arg;
    if (tries == 0) c->waiting_since = sr_cpu();
    int64_t waited = sr_cpu() - c->waiting_since;
    if (waited > c->limits->busy) return 0;
    if (atomic_load(c->limits->hurry) && waited > HURRY_NS) return 0;
    nap(c, tries);
    return 1;
}

/* ---------------------------------------------------------------- opening */

int sr_sqlite_exec(sqlite3 *db, const char *sql, const char *place, sr_err *err) {
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : sr_sqlite_fail(err, db, rc, place, sql);
}

int sr_sqlite_integer(sqlite3 *db, const char *sql, const char *place, int64_t *ret_value,
                      sr_err *err) {
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) *ret_value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW ? 0 : sr_sqlite_fail(err, db, rc, place, sql);
}

int sr_sqlite_recognise(sqlite3 *db, const char *place, bool *ret_new, sr_err *err) {
    int64_t id, tables;
    if (sr_sqlite_integer(db, "PRAGMA application_id", place, &id, err) ||
        sr_sqlite_integer(db, "SELECT count(*) FROM sqlite_master", place, &tables, err))
        return -1;
    *ret_new = id == 0 && tables == 0;
    if (id == SR_STORE_APPLICATION || *ret_new) return 0;
    return sr_fail(err, SR_STORE, "NOT_A_STORE",
                   "%s is a database of another program; name a file of its own for the "
                   "store",
                   place);
}

/* A file the first time: make it ours before anything else is in it. */
static int make_ours(sqlite_conn *c, sr_err *err) {
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d", SR_STORE_APPLICATION);
    return sr_sqlite_exec(c->db, sql, c->place, err);
}

static int use_wal(sqlite_conn *c, sr_err *err) {
    sqlite3_stmt *stmt = NULL;
    char mode[16] = "";
    int rc = sqlite3_prepare_v2(c->db, "PRAGMA journal_mode = WAL", -1, &stmt, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        snprintf(mode, sizeof mode, "%s", (const char *)sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    if (rc != SQLITE_ROW)
        return sr_sqlite_fail(err, c->db, rc, c->place, "switch to a write-ahead log");
    if (strcmp(mode, "wal") == 0) return 0;
    return sr_fail(err, SR_STORE, "NO_WAL",
                   "%s cannot have a write-ahead log (it stays in mode %s): this file "
                   "system lacks shared memory; put the store on a local disk",
                   c->place, mode);
}

static int set_up(sqlite_conn *c, sr_store_role role, sr_err *err) {
    bool fresh;
    char sql[96];
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    sqlite3_limit(c->db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_busy_handler(c->db, on_busy, c);
    if (sr_sqlite_recognise(c->db, c->place, &fresh, err) ||
        sr_sqlite_exec(c->db,
                       "PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON;"
                       "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000",
                       c->place, err))
        return -1;
    if (role != SR_STORE_WRITER)
        return sr_sqlite_exec(c->db, "PRAGMA query_only = ON", c->place, err);
    if (use_wal(c, err) || (fresh && make_ours(c, err)) ||
        sr_sqlite_exec(c->db,
                       "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000;"
                       "PRAGMA journal_size_limit = 67108864",
                       c->place, err))
        return -1;
    if (!c->limits->max_size) return 0;
    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %lld",
             (long long)(c->limits->max_size / 4096));
    return sr_sqlite_exec(c->db, sql, c->place, err);
}

static int prepare(sqlite_conn *c, const char *sql, sqlite3_stmt **ret, sr_err *err) {
    int rc = sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
    return rc == SQLITE_OK ? 0 : sr_sqlite_fail(err, c->db, rc, c->place, sql);
}

static int prepare_own(sqlite_conn *c, sr_err *err) {
    return prepare(c, "BEGIN IMMEDIATE", &c->begin, err) ||
                   prepare(c, "COMMIT", &c->commit, err) ||
                   prepare(c, "SAVEPOINT s", &c->save, err) ||
                   prepare(c, "RELEASE s", &c->release, err) ||
                   prepare(c, "PRAGMA data_version", &c->look, err)
               ? -1
               : 0;
}

static void sqlite_close(sr_store_conn *conn) {
    sqlite_conn *c = of(conn);
    sqlite3_finalize(c->begin);
    sqlite3_finalize(c->commit);
    sqlite3_finalize(c->save);
    sqlite3_finalize(c->release);
    sqlite3_finalize(c->look);
    sr_stmt_cache_free(c->cache);
    sqlite3_close_v2(c->db);
    free(c->place);
    free(c);
}

static int sqlite_changed(sr_store_conn *conn, bool *ret_changed, sr_err *err);

/* Its statistics cost a process-wide lock in every allocation. Refused, and of no harm,
 * when something used SQLite before. */
static void configure(void) {
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static uv_once_t configured = UV_ONCE_INIT;

static int sqlite_open(const char *place, sr_store_role role,
                       const sr_store_limits *limits, sr_store_conn **ret_conn,
                       sr_err *err) {
    int flags = role == SR_STORE_READ_ONLY ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    bool changed;
    uv_once(&configured, configure);
    sqlite_conn *c = calloc(1, sizeof *c);
    if (c) {
        c->place = strdup(place);
        c->cache = sr_stmt_cache_new();
        c->limits = limits;
        c->may_write = role == SR_STORE_WRITER;
        c->random = (uint64_t)sr_cpu() ^ ((uint64_t)getpid() << 32) ^ (uintptr_t)c;
        if (!c->random) c->random = 1;
    }
    if (!c || !c->place || !c->cache) {
        if (c) sqlite_close((sr_store_conn *)c);
        return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory to open %s", place);
    }
    int rc = sqlite3_open_v2(place, &c->db,
                             flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc != SQLITE_OK) {
        (void)sr_sqlite_fail(err, c->db, rc, place, "open it");
    } else if (set_up(c, role, err) == 0 && prepare_own(c, err) == 0 &&
               sqlite_changed((sr_store_conn *)c, &changed, err) == 0) {
        *ret_conn = (sr_store_conn *)c;
        return 0;
    }
    sqlite_close((sr_store_conn *)c);
    return -1;
}

/* ---------------------------------------------------------------- transactions */

static int once(sqlite_conn *c, sqlite3_stmt *stmt, const char *doing, sr_err *err) {
    int rc = sqlite3_step(stmt);
    if (rc != SQLITE_DONE) (void)sr_sqlite_fail(err, c->db, rc, c->place, doing);
    sqlite3_reset(stmt);
    return rc == SQLITE_DONE ? 0 : -1;
}

static int sqlite_begin(sr_store_conn *conn, sr_err *err) {
    return once(of(conn), of(conn)->begin, "begin a transaction", err);
}

static int sqlite_commit(sr_store_conn *conn, sr_err *err) {
    sr_crash_point("commit");
    int rc = once(of(conn), of(conn)->commit, "commit", err);
    if (rc == 0) sr_crash_point("committed");
    return rc;
}

/* These undo what failed; there is no transaction left when they fail too, and the next
 * BEGIN says so. */
static void sqlite_rollback(sr_store_conn *conn) {
    (void)sqlite3_exec(of(conn)->db, "ROLLBACK", NULL, NULL, NULL);
}

static int sqlite_save(sr_store_conn *conn, sr_err *err) {
    return once(of(conn), of(conn)->save, "set a savepoint", err);
}

static int sqlite_release(sr_store_conn *conn, sr_err *err) {
    return once(of(conn), of(conn)->release, "release a savepoint", err);
}

static void sqlite_back(sr_store_conn *conn) {
    (void)sqlite3_exec(of(conn)->db, "ROLLBACK TO s; RELEASE s", NULL, NULL, NULL);
}

static bool sqlite_alive(sr_store_conn *conn) {
    return !sqlite3_get_autocommit(of(conn)->db);
}

static int sqlite_run(sr_store_conn *conn, sr_store_stmt *stmt, sr_err *err) {
    sqlite_conn *c = of(conn);
    return sr_sqlite_run(c->db, c->cache, c->place, c->may_write, c->limits, stmt, err);
}

static int sqlite_changed(sr_store_conn *conn, bool *ret_changed, sr_err *err) {
    sqlite_conn *c = of(conn);
    int rc = sqlite3_step(c->look);
    if (rc == SQLITE_ROW) {
        int64_t version = sqlite3_column_int64(c->look, 0);
        *ret_changed = version != c->version;
        c->version = version;
    } else {
        (void)sr_sqlite_fail(err, c->db, rc, c->place, "look for changes");
    }
    sqlite3_reset(c->look);
    return rc == SQLITE_ROW ? 0 : -1;
}

const sr_store_engine sr_store_sqlite = {
    .name = "sqlite",
    .open = sqlite_open,
    .close = sqlite_close,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .save = sqlite_save,
    .release = sqlite_release,
    .back = sqlite_back,
    .alive = sqlite_alive,
    .run = sqlite_run,
    .changed = sqlite_changed,
};
