/* store_msg.h – SQL text as this project writes it: what is read from it before a
 * database sees it. Pure.
 *
 * One text serves SQLite and PostgreSQL, so the text keeps to what both read alike:
 * parameters are `$name`, strings are '…', names are "…", comments are -- and slash-star
 * (not nested). Everything that one of the two would read otherwise is refused with its
 * place: ?, :name, @name, $1, ::casts, backticks, [names], dollar quotes. So are words
 * that ask the database for the time (time is a parameter) and, as statements,
 * transaction control and PRAGMA (the store does these itself).
 */
#ifndef SR_STORE_MSG_H
#define SR_STORE_MSG_H

#include "base.h"

enum { SR_SQL_NAMES = 200, SR_SQL_MAX = 1 << 20 };

/* A part of the text. */
typedef struct sr_sql_part {
    uint32_t at, len;
} sr_sql_part;

/* One statement in a text. */
typedef struct sr_sql {
    size_t end;       /* of its last token, without the semicolon */
    size_t next;      /* where the text goes on: behind the semicolon, or its length */
    size_t start;     /* of its first token; == end when there is nothing but blanks */
    sr_sql_part word; /* the first word, "SELECT" */
    uint32_t count;   /* of distinct parameters */
    sr_sql_part names[SR_SQL_NAMES]; /* in order of first appearance, without the $ */
} sr_sql;

/* Read the statement that begins at `at`. 0, or -1 with kind usage, code SQL and the line
 * of the mistake. */
int sr_sql_scan(const char *text, size_t len, size_t at, sr_sql *ret, sr_err *err);
/* The whole text is one statement that may be run through the store: not empty, nothing
 * behind the semicolon, no transaction control. */
int sr_sql_single(const char *text, size_t len, sr_sql *ret, sr_err *err);
/* Append the statement with $1, $2 … in the order of `sql->names`, for PostgreSQL. */
int sr_sql_numbered(const char *text, const sr_sql *sql, sr_buf *out, sr_err *err);

/* Whether these bytes can be TEXT in both engines: UTF-8 without NUL. */
bool sr_store_is_text(const char *data, size_t len);

/* The name of a network file system by its statfs f_type, NULL for any other: there the
 * locks and the shared memory of SQLite's WAL do not hold. */
const char *sr_store_network_fs(long type);

#endif
