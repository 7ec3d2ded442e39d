/* store_sqlite_stmt.c – one statement on SQLite: prepared once, bound, stepped,
 * collected; and what SQLite's result codes mean to us.
 *
 * The cache keeps statements by their text, in chains of a small hash table; when it is
 * full it starts anew, which a program of fixed texts never sees.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_file.h"
#include "store/store_sqlite.h"

/* ---------------------------------------------------------------- failures */

static int full_disk(int saved) {
    return saved == ENOSPC || saved == EDQUOT || saved == EFBIG;
}

static void set_corrupt(sr_err *err, const char *place, const char *why) {
    char backup[256];
    if (sr_store_newest_backup(place, backup, sizeof backup))
        sr_set_err(
            err, SR_STORE, "CORRUPT",
            "%s is damaged (%s): stop what uses it, then run `secrun store restore "
            "%s`, the newest backup here",
            place, why, backup);
    else
        sr_set_err(err, SR_STORE, "CORRUPT",
                   "%s is damaged (%s), and there is no backup in " SR_STORE_BACKUPS
                   "/ beside it: stop what uses it, then run `secrun store restore FILE` "
                   "with a backup from elsewhere",
                   place, why);
}

static void set_constraint(sr_err *err, int rc, const char *place, const char *why) {
    static const struct {
        int rc;
        sr_kind kind;
        const char *code;
    } list[] = {{SQLITE_CONSTRAINT_UNIQUE, SR_CONFLICT, "UNIQUE"},
                {SQLITE_CONSTRAINT_PRIMARYKEY, SR_CONFLICT, "UNIQUE"},
                {SQLITE_CONSTRAINT_ROWID, SR_CONFLICT, "UNIQUE"},
                {SQLITE_CONSTRAINT_FOREIGNKEY, SR_CONFLICT, "FOREIGN_KEY"},
                {SQLITE_CONSTRAINT_NOTNULL, SR_STORE, "NOT_NULL"},
                {SQLITE_CONSTRAINT_CHECK, SR_STORE, "CHECK"},
                {SQLITE_CONSTRAINT_DATATYPE, SR_STORE, "TYPE"}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].rc == rc) {
            sr_set_err(err, list[i].kind, list[i].code, "%s: %s", place, why);
            return;
        }
    sr_set_err(err, SR_STORE, "CONSTRAINT", "%s: %s", place, why);
}

void sr_sqlite_set_err(sr_err *err, sqlite3 *db, int rc, const char *place,
                       const char *doing) {
    const char *why = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    int saved = db ? sqlite3_system_errno(db) : 0;
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        sr_set_err(err, SR_STORE, "BUSY",
                   "%s is busy: another process keeps writing to it (%s); "
                   "try again, and see with `secrun store info` who works on it",
                   place, doing);
        err->retryable = true;
        return;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: set_corrupt(err, place, why); return;
    case SQLITE_CONSTRAINT: set_constraint(err, rc, place, why); return;
    case SQLITE_READONLY:
        sr_set_err(err, SR_STORE, "READONLY",
                   "%s cannot be written to (%s): check the owner and the mode of the "
                   "file and its folder, and that the disk is not mounted read-only",
                   place, why);
        return;
    case SQLITE_ERROR:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
    case SQLITE_MISUSE:
    case SQLITE_AUTH:
        sr_set_err(err, SR_USAGE, "SQL", "%s: %s (in: %.160s)", place, why, doing);
        return;
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG:
        sr_set_err(err, SR_LIMIT, "ENOMEM", "%s: %s (%.80s)", place, why, doing);
        return;
    default: break;
    }
    if ((rc & 0xff) == SQLITE_FULL || full_disk(saved)) {
        sr_set_err(err, SR_STORE, "FULL",
                   "%s: no room left to write (%s); nothing of this transaction is kept: "
                   "free some space on its disk, then go on",
                   place, saved ? strerror(saved) : why);
        err->retryable = true;
        return;
    }
    if ((rc & 0xff) == SQLITE_CANTOPEN) {
        sr_set_err(
            err, SR_STORE, "CANTOPEN",
            "%s cannot be opened (%s): the log is kept beside the file, so its "
            "folder must be writable even to read; copy the store elsewhere to look "
            "at it",
            place, saved ? strerror(saved) : why);
        return;
    }
    sr_set_err(err, SR_STORE, "IO", "%s: %s%s%s (%.80s)", place, why, saved ? ": " : "",
               saved ? strerror(saved) : "", doing);
}

/* ---------------------------------------------------------------- the cache */

enum { BUCKETS = 128, KEPT = 512 };

typedef struct prepared {
    sqlite3_stmt *stmt;
    struct prepared *next;
    uint32_t hash;
    size_t len;
    bool reads;
    char text[];
} prepared;

struct sr_stmt_cache {
    prepared *buckets[BUCKETS];
    unsigned count;
};

sr_stmt_cache *sr_stmt_cache_new(void) {
    return calloc(1, sizeof(sr_stmt_cache));
}

static void forget_all(sr_stmt_cache *cache) {
    for (int i = 0; i < BUCKETS; i++)
        while (cache->buckets[i]) {
            prepared *p = cache->buckets[i];
            cache->buckets[i] = p->next;
            sqlite3_finalize(p->stmt);
            free(p);
        }
    cache->count = 0;
}

void sr_stmt_cache_free(sr_stmt_cache *cache) {
    if (cache) forget_all(cache);
    free(cache);
}

static prepared *find(const sr_stmt_cache *cache, const sr_store_sql *sql) {
    prepared *p = cache->buckets[sql->hash % BUCKETS];
    while (p && (p->hash != sql->hash || p->len != sql->len ||
                 memcmp(p->text, sql->text, sql->len) != 0))
        p = p->next;
    return p;
}

/* A row is a table by column name, so two columns of one name would lose one. */
static int distinct_columns(sqlite3_stmt *stmt, const char *text, sr_err *err) {
    int n = sqlite3_column_count(stmt);
    for (int i = 1; i < n; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(sqlite3_column_name(stmt, i), sqlite3_column_name(stmt, j)) == 0)
                return sr_fail(err, SR_USAGE, "SQL",
                               "two columns are called %s; name one otherwise with AS "
                               "(in: %.160s)",
                               sqlite3_column_name(stmt, i), text);
    return 0;
}

static int prepare(sqlite3 *db, const char *place, const sr_store_sql *sql,
                   sqlite3_stmt **ret_stmt, sr_err *err) {
    const char *text = sql->text + sql->scan.start;
    int rc = sqlite3_prepare_v3(db, text, (int)(sql->scan.end - sql->scan.start),
                                SQLITE_PREPARE_PERSISTENT, ret_stmt, NULL);
    if (rc != SQLITE_OK) return sr_sqlite_fail(err, db, rc, place, text);
    if (sqlite3_bind_parameter_count(*ret_stmt) != (int)sql->scan.count)
        return sr_fail(err, SR_INTERNAL, NULL,
                       "SQLite finds %d parameters where we find %u (in: %.160s)",
                       sqlite3_bind_parameter_count(*ret_stmt), sql->scan.count, text);
    return distinct_columns(*ret_stmt, text, err);
}

static prepared *add(sqlite3 *db, sr_stmt_cache *cache, const char *place,
                     const sr_store_sql *sql, sr_err *err) {
    sqlite3_stmt *stmt = NULL;
    if (prepare(db, place, sql, &stmt, err) != 0) {
        sqlite3_finalize(stmt);
        return NULL;
    }
    prepared *p = malloc(sizeof *p + sql->len + 1);
    if (!p) {
        sqlite3_finalize(stmt);
        sr_set_err(err, SR_LIMIT, "ENOMEM", "no memory for a statement");
        return NULL;
    }
    if (cache->count == KEPT) forget_all(cache);
    *p = (prepared){.stmt = stmt, .hash = sql->hash, .len = sql->len};
    p->reads = sqlite3_stmt_readonly(stmt);
    memcpy(p->text, sql->text, sql->len + 1);
    p->next = cache->buckets[sql->hash % BUCKETS];
    cache->buckets[sql->hash % BUCKETS] = p;
    cache->count++;
    return p;
}

/* ---------------------------------------------------------------- running */

static int bind_value(sqlite3_stmt *stmt, int i, const sr_store_value *v) {
    switch (v->type) {
    case SR_STORE_INT: return sqlite3_bind_int64(stmt, i, v->as.integer);
    case SR_STORE_FLOAT: return sqlite3_bind_double(stmt, i, v->as.number);
    case SR_STORE_TEXT: /* lives in the request until the statement is reset */
        return sqlite3_bind_text64(stmt, i, v->as.text.data, v->as.text.len,
                                   SQLITE_STATIC, SQLITE_UTF8);
    default: return sqlite3_bind_null(stmt, i);
    }
}

static void put_head(sr_store_rows *rows, sqlite3_stmt *stmt) {
    rows->columns = (uint32_t)sqlite3_column_count(stmt);
    for (int i = 0; i < (int)rows->columns; i++) {
        const char *name = sqlite3_column_name(stmt, i);
        sr_buf_append(&rows->cells, name, strlen(name) + 1);
    }
}

static void put_cell(sr_buf *cells, sqlite3_stmt *stmt, int i) {
    char cell[9];
    int64_t integer;
    double number;
    uint32_t len;
    switch (sqlite3_column_type(stmt, i)) {
    case SQLITE_NULL:
        cell[0] = SR_STORE_NULL;
        sr_buf_append(cells, cell, 1);
        return;
    case SQLITE_INTEGER:
        integer = sqlite3_column_int64(stmt, i);
        cell[0] = SR_STORE_INT;
        memcpy(cell + 1, &integer, 8);
        sr_buf_append(cells, cell, 9);
        return;
    case SQLITE_FLOAT:
        number = sqlite3_column_double(stmt, i);
        cell[0] = SR_STORE_FLOAT;
        memcpy(cell + 1, &number, 8);
        sr_buf_append(cells, cell, 9);
        return;
    default: { /* text, or bytes as they are */
        const void *data = sqlite3_column_blob(stmt, i);
        len = (uint32_t)sqlite3_column_bytes(stmt, i);
        cell[0] = SR_STORE_TEXT;
        memcpy(cell + 1, &len, 4);
        sr_buf_append(cells, cell, 5);
        sr_buf_append(cells, data, len);
    }
    }
}

static int put_row(sr_store_stmt *s, sqlite3_stmt *stmt, const sr_store_limits *limits,
                   sr_err *err) {
    sr_store_rows *rows = &s->rows;
    if (rows->count == 0) put_head(rows, stmt);
    if (rows->count == limits->rows)
        return sr_fail(
            err, SR_LIMIT, "ROWS",
            "more than %u rows: ask for fewer with WHERE or LIMIT (in: %.160s)",
            limits->rows, s->sql->text);
    for (int i = 0; i < (int)rows->columns; i++)
        put_cell(&rows->cells, stmt, i);
    rows->count++;
    if (rows->cells.oom)
        return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for the rows");
    if (rows->cells.len > limits->bytes)
        return sr_fail(err, SR_LIMIT, "ROWS",
                       "more than %zu bytes of rows: ask for fewer with WHERE or LIMIT "
                       "(in: %.160s)",
                       limits->bytes, s->sql->text);
    return 0;
}

static int collect(sqlite3 *db, sqlite3_stmt *stmt, const char *place,
                   const sr_store_limits *limits, sr_store_stmt *s, sr_err *err) {
    int64_t before = sqlite3_total_changes64(db);
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        if (put_row(s, stmt, limits, err) != 0) return -1;
    if (rc != SQLITE_DONE)
        return sr_sqlite_fail(err, db, rc, place, s->sql->text + s->sql->scan.start);
    if (!s->reads && sqlite3_total_changes64(db) != before)
        s->changes = sqlite3_changes64(db);
    return 0;
}

int sr_sqlite_run(sqlite3 *db, sr_stmt_cache *cache, const char *place, bool may_write,
                  const sr_store_limits *limits, sr_store_stmt *s, sr_err *err) {
    s->changes = 0;
    s->rows.columns = s->rows.count = 0;
    sr_buf_free(&s->rows.cells);
    prepared *p = find(cache, s->sql);
    if (!p) p = add(db, cache, place, s->sql, err);
    if (!p) return -1;
    s->reads = p->reads;
    if (!p->reads && !may_write)
        return sr_fail(err, SR_USAGE, "SQL",
                       "rows and row only read; run it with exec or batch (in: %.160s)",
                       s->sql->text);
    int rc = SQLITE_OK;
    for (uint32_t i = 0; i < s->sql->scan.count && rc == SQLITE_OK; i++)
        rc = bind_value(p->stmt, (int)i + 1, &s->values[i]);
    int result = rc == SQLITE_OK ? collect(db, p->stmt, place, limits, s, err)
                                 : sr_sqlite_fail(err, db, rc, place, s->sql->text);
    sqlite3_reset(p->stmt); /* its failure is that of the step */
    return result;
}
