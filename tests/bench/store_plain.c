/* store_plain.c – the reference of the store's benchmark: the transaction of a durable
 * step (a fenced UPDATE, an INSERT) in plain C on SQLite, prepared statements, one after
 * the other, same settings (WAL, synchronous FULL).
 *
 *     store_plain FILE COUNT      prints transactions per second
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static sqlite3 *db;

static sqlite3_stmt *prepare(const char *sql) {
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK) return stmt;
    fprintf(stderr, "store_plain: %s\n", sqlite3_errmsg(db));
    exit(1);
}

static void step(sqlite3_stmt *stmt, int changes) {
    int rc = sqlite3_step(stmt);
    sqlite3_reset(stmt);
    if (rc == SQLITE_DONE && (changes < 0 || sqlite3_changes(db) == changes)) return;
    fprintf(stderr, "store_plain: %s\n", sqlite3_errmsg(db));
    exit(1);
}

static void run(const char *sql) {
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK) return;
    fprintf(stderr, "store_plain: %s\n", sqlite3_errmsg(db));
    exit(1);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 3 || sqlite3_open(argv[1], &db) != SQLITE_OK) {
        fprintf(stderr, "usage: store_plain FILE COUNT\n");
        return 2;
    }
    run("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
        "PRAGMA cache_size = -8000");
    run("CREATE TABLE flow (id TEXT PRIMARY KEY, state TEXT NOT NULL, fence INTEGER NOT "
        "NULL, lease_until INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
        "CREATE TABLE step (flow TEXT NOT NULL REFERENCES flow(id), seq INTEGER NOT "
        "NULL, "
        "name TEXT NOT NULL, status TEXT NOT NULL, result TEXT, started_at INTEGER NOT "
        "NULL, PRIMARY KEY (flow, seq)) STRICT;"
        "INSERT INTO flow VALUES ('flow-1', 'running', 1, 0, 0)");
    sqlite3_stmt *begin = prepare("BEGIN IMMEDIATE"), *commit = prepare("COMMIT");
    sqlite3_stmt *update =
        prepare("UPDATE flow SET lease_until = $lease, updated_at = $now "
                "WHERE id = $id AND fence = $fence AND state = "
                "'running'");
    sqlite3_stmt *insert = prepare("INSERT INTO step VALUES ($id, $seq, $name, 'ok', "
                                   "$result, $now)");
    int count = (int)strtol(argv[2], NULL, 10);
    double began = seconds();
    for (int i = 0; i < count; i++) {
        step(begin, -1);
        sqlite3_bind_int64(update, 1, 1764000000000LL + i);
        sqlite3_bind_int64(update, 2, 1764000030000LL + i);
        sqlite3_bind_text(update, 3, "flow-1", -1, SQLITE_STATIC);
        sqlite3_bind_int64(update, 4, 1);
        step(update, 1);
        sqlite3_bind_text(insert, 1, "flow-1", -1, SQLITE_STATIC);
        sqlite3_bind_int64(insert, 2, i);
        sqlite3_bind_text(insert, 3, "collect the certificate", -1, SQLITE_STATIC);
        sqlite3_bind_text(insert, 4, "{\"order\":\"https://ca.example/order/1\"}", -1,
                          SQLITE_STATIC);
        sqlite3_bind_int64(insert, 5, 1764000000000LL + i);
        step(insert, 1);
        step(commit, -1);
    }
    printf("%.1f\n", count / (seconds() - began));
    return 0;
}
