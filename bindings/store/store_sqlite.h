/* store_sqlite.h – what the files about SQLite share. */
#ifndef SR_STORE_SQLITE_H
#define SR_STORE_SQLITE_H

#include <sqlite3.h>

#include "store/store.h"

/* "SRUN", in the header of every file of ours. */
#define SR_STORE_APPLICATION 0x5352554e

/* Fill *err from a result code of SQLite and give -1: see sr_store_engine for kinds and
 * codes. db may be NULL. A damaged file is named together with the newest backup. */
#define sr_sqlite_fail(err, ...) (sr_sqlite_set_err((err), __VA_ARGS__), sr_failure())
void sr_sqlite_set_err(sr_err *err, sqlite3 *db, int rc, const char *place,
                       const char *doing);

/* Whether the file is a store of ours, or a new one (*ret_new). -1: it is not. */
int sr_sqlite_recognise(sqlite3 *db, const char *place, bool *ret_new, sr_err *err);
/* The integer that a PRAGMA or a query without parameters gives. */
int sr_sqlite_integer(sqlite3 *db, const char *sql, const char *place, int64_t *ret_value,
                      sr_err *err);
int sr_sqlite_exec(sqlite3 *db, const char *sql, const char *place, sr_err *err);

/* store_sqlite_stmt.c: prepared statements by their text. */
typedef struct sr_stmt_cache sr_stmt_cache;
sr_stmt_cache *sr_stmt_cache_new(void);
void sr_stmt_cache_free(sr_stmt_cache *cache);
/* Run one statement: see sr_store_engine.run. */
int sr_sqlite_run(sqlite3 *db, sr_stmt_cache *cache, const char *place, bool may_write,
                  const sr_store_limits *limits, sr_store_stmt *stmt, sr_err *err);

#endif
