/* store_keep.c – backup, check and restore on SQLite's own backup interface.
 *
 * Restoring must not mix two databases: a log (FILE-wal) beside a file that it does not
 * belong to would be played into it. So the order is
 *
 *     1. lock FILE.lock exclusively: no process has the store open
 *     2. copy the backup to FILE.copying, check it, sync it
 *     3. rename it to FILE.restoring        from here on nobody opens FILE
 *     4. rename FILE-wal and FILE to FILE.replaced-STAMP…
 *     5. rename FILE.restoring to FILE
 *
 * A process that dies between 3 and 5 leaves FILE.restoring; sr_store_file_ready() then
 * refuses the store until the restore was run again. No moment leaves less than one whole
 * database, and the old one is kept.
 */
#include "store/store_keep.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store_file.h"
#include "store/store_sqlite.h"
#include "sys/fs.h"

enum { BUSY_MS = 30000, PROBLEMS = 100 };

/* ---------------------------------------------------------------- connections */

static int open_file(const char *path, int flags, sqlite3 **ret_db, sr_err *err) {
    int rc = sqlite3_open_v2(path, ret_db,
                             flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc != SQLITE_OK) {
        (void)sr_sqlite_fail(err, *ret_db, rc, path, "open it");
        sqlite3_close_v2(*ret_db);
        *ret_db = NULL;
        return -1;
    }
    sqlite3_busy_timeout(*ret_db, BUSY_MS);
    return 0;
}

/* A store that exists, and has something in it. */
static int open_store(const char *path, sqlite3 **ret_db, sr_err *err) {
    bool fresh;
    if (access(path, F_OK) != 0) return sr_fs_fail(err, errno, "read", path);
    if (open_file(path, SQLITE_OPEN_READWRITE, ret_db, err) != 0) return -1;
    if (sr_sqlite_recognise(*ret_db, path, &fresh, err) == 0) {
        if (!fresh) return 0;
        (void)sr_fail(err, SR_STORE, "NOT_A_STORE",
                      "%s is empty: no store was kept in it", path);
    }
    sqlite3_close_v2(*ret_db);
    *ret_db = NULL;
    return -1;
}

/* ---------------------------------------------------------------- checking */

/* A line for each row of a check that is not "ok". */
static int collect(sqlite3 *db, const char *place, const char *sql, sr_buf *problems,
                   size_t *count, sr_err *err) {
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW &&
           *count < PROBLEMS) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        rc = SQLITE_OK;
        if (!text || strcmp(text, "ok") == 0) continue;
        sr_buf_append(problems, text, strlen(text) + 1);
        ++*count;
    }
    sqlite3_finalize(stmt);
    if (rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE) return 0;
    return sr_sqlite_fail(err, db, rc, place, sql);
}

/* References are looked at in a sound file only. */
static int check_open(sqlite3 *db, const char *place, const char *how, sr_buf *problems,
                      size_t *count, sr_err *err) {
    *count = 0;
    int rc = collect(db, place, how, problems, count, err);
    if (rc == 0 && *count == 0)
        rc = collect(
            db, place,
            "SELECT \"table\" || ' row ' || coalesce(rowid, '?') || ' names a row "
            "of ' || parent || ' that is not there' FROM pragma_foreign_key_check",
            problems, count, err);
    if (rc != 0 && *count == 0) return -1;
    *err = (sr_err){0}; /* the lines so far say more */
    return problems->oom
               ? sr_fail(err, SR_LIMIT, "ENOMEM", "no memory to check %s", place)
               : 0;
}

int sr_store_check(const char *place, sr_buf *problems, size_t *ret_count, sr_err *err) {
    sqlite3 *db = NULL;
    if (open_store(place, &db, err) != 0) return -1;
    int rc =
        check_open(db, place, "PRAGMA integrity_check(100)", problems, ret_count, err);
    sqlite3_close_v2(db);
    return rc;
}

/* ---------------------------------------------------------------- copying */

static int copy_pages(sqlite3 *from, sqlite3 *to, const char *source, const char *target,
                      sr_err *err) {
    sqlite3_backup *copy = sqlite3_backup_init(to, "main", from, "main");
    int rc, spoilt;
    if (!copy) return sr_sqlite_fail(err, to, sqlite3_errcode(to), target, "copy to it");
    /* All in one step: a snapshot, which a writer beside it does not disturb. */
    rc = sqlite3_backup_step(copy, -1);
    spoilt = sqlite3_errcode(from);
    (void)sqlite3_backup_finish(copy); /* rc says it all */
    if (rc == SQLITE_DONE) return 0;
    if ((spoilt & 0xff) == SQLITE_CORRUPT || (spoilt & 0xff) == SQLITE_NOTADB)
        return sr_sqlite_fail(err, from, spoilt, source, "copy it");
    return sr_sqlite_fail(err, to, rc, target, "copy to it");
}

/* One file without a log, found whole. */
static int settle(sqlite3 *db, const char *path, sr_err *err) {
    sr_buf problems = {0};
    size_t count = 0;
    int rc = sr_sqlite_exec(db, "PRAGMA journal_mode = DELETE", path, err);
    if (rc == 0)
        rc = check_open(db, path, "PRAGMA quick_check(1)", &problems, &count, err);
    if (rc == 0 && count)
        rc = sr_fail(err, SR_STORE, "CORRUPT",
                     "the copy is damaged, as its source is: %s", problems.data);
    sr_buf_free(&problems);
    return rc;
}

static int sync_file(const char *path, sr_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 || sr_fs_sync(fd) != 0 ? sr_fs_fail(err, errno, "sync", path) : 0;
    if (fd >= 0) close(fd);
    return rc;
}

static int sync_folder(const char *path, sr_err *err) {
    const char *base;
    int fd, rc = 0;
    if (sr_fs_open_parent(path, "sync", &fd, &base, err) != 0) return -1;
    if (sr_fs_sync(fd) != 0) rc = sr_fs_fail(err, errno, "sync the folder of", path);
    close(fd);
    return rc;
}

/* A new file of mode 0600 for SQLite to fill. */
static int make_empty(const char *path, sr_err *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return sr_fs_fail(err, errno, "write", path);
    close(fd);
    return 0;
}

static void remove_copy(const char *path) {
    char name[PATH_MAX + 64];
    (void)unlink(path);
    snprintf(name, sizeof name, "%s-journal", path);
    (void)unlink(name);
}

/* Copy the store at `source` to the new file `target`; durable. Nothing stays on failure.
 */
static int copy_store(const char *source, const char *target, sr_err *err) {
    sqlite3 *from = NULL, *to = NULL;
    int rc = -1;
    if (open_store(source, &from, err) != 0) return -1;
    if (make_empty(target, err) != 0) goto out;
    if (open_file(target, SQLITE_OPEN_READWRITE, &to, err) == 0 &&
        copy_pages(from, to, source, target, err) == 0)
        rc = settle(to, target, err);
    sqlite3_close_v2(to);
    if (rc == 0) rc = sync_file(target, err);
    if (rc != 0) remove_copy(target);
out:
    sqlite3_close_v2(from);
    return rc;
}

/* ---------------------------------------------------------------- backup */

static int in_the_way(const char *file, sr_err *err) {
    if (access(file, F_OK) != 0) return 0;
    return sr_fail(err, SR_CONFLICT, "EEXIST",
                   "%s exists; a backup replaces nothing: name another file", file);
}

int sr_store_backup(const char *place, const char *file, sr_err *err) {
    char temp[32], path[PATH_MAX];
    const char *slash = strrchr(file, '/');
    if (in_the_way(file, err) != 0 || sr_fs_temp_name(temp, sizeof temp, err) != 0)
        return -1;
    int n = snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash - file) + 1 : 0,
                     file, temp);
    if (n >= (int)sizeof path)
        return sr_fail(err, SR_USAGE, "ENAMETOOLONG", "the path %.100s… is too long",
                       file);
    if (copy_store(place, path, err) != 0) return -1;
    if (renameat2(AT_FDCWD, path, AT_FDCWD, file, RENAME_NOREPLACE) != 0) {
        int saved = errno;
        remove_copy(path);
        if (saved == EEXIST) return in_the_way(file, err);
        return sr_fs_fail(err, saved, "write", file);
    }
    sr_crash_point("rename");
    return sync_folder(file, err);
}

/* ---------------------------------------------------------------- restore */

/* The resolved path of a file that may be missing. */
static int resolve(const char *path, char place[PATH_MAX], sr_err *err) {
    char folder[PATH_MAX], *found = realpath(path, NULL);
    const char *slash = strrchr(path, '/');
    int n;
    if (found) {
        n = snprintf(place, PATH_MAX, "%s", found);
        free(found);
        return n < PATH_MAX - 64 ? 0 : sr_fs_fail(err, ENAMETOOLONG, "restore", path);
    }
    snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path),
             path);
    found = realpath(folder, NULL);
    if (!found) return sr_fs_fail(err, errno, "restore to", folder);
    n = snprintf(place, PATH_MAX, "%s/%s", found[1] ? found : "", slash + 1);
    free(found);
    return n < PATH_MAX - 64 ? 0 : sr_fs_fail(err, ENAMETOOLONG, "restore", path);
}

/* Move FILE<suffix> to FILE.replaced-STAMP<suffix>; a file that is not there is fine. */
static int put_aside(const char *place, const char *stamp, const char *suffix,
                     bool *ret_moved, sr_err *err) {
    char from[PATH_MAX + 64], to[PATH_MAX + 128];
    snprintf(from, sizeof from, "%s%s", place, suffix);
    snprintf(to, sizeof to, "%s.replaced-%s%s", place, stamp, suffix);
    *ret_moved = rename(from, to) == 0;
    if (!*ret_moved && errno != ENOENT) return sr_fs_fail(err, errno, "move", from);
    if (*ret_moved) sr_crash_point("rename");
    return 0;
}

static int swap(const char *place, const char *stamp, sr_buf *replaced, sr_err *err) {
    char copying[PATH_MAX + 16], restoring[PATH_MAX + 16], shm[PATH_MAX + 16];
    bool moved;
    snprintf(copying, sizeof copying, "%s.copying", place);
    snprintf(restoring, sizeof restoring, "%s.restoring", place);
    snprintf(shm, sizeof shm, "%s-shm", place);
    if (rename(copying, restoring) != 0) return sr_fs_fail(err, errno, "rename", copying);
    sr_crash_point("rename");
    if (sync_folder(place, err) != 0 || put_aside(place, stamp, "-wal", &moved, err) != 0)
        return -1;
    (void)unlink(shm); /* made anew from the log */
    if (put_aside(place, stamp, "", &moved, err) != 0) return -1;
    if (moved) sr_buf_printf(replaced, "%s.replaced-%s", place, stamp);
    if (rename(restoring, place) != 0) return sr_fs_fail(err, errno, "rename", restoring);
    sr_crash_point("rename");
    return sync_folder(place, err);
}

/* A backup that is no good is the caller's mistake, not this store's damage. */
static int blame_backup(const char *backup, sr_err *err) {
    sr_err cause = *err;
    if (cause.kind != SR_STORE) return -1;
    if (strcmp(cause.code, "CORRUPT") == 0)
        return sr_fail(err, SR_USAGE, "BACKUP",
                       "%s is damaged, or no backup of a store at all: restore another",
                       backup);
    return sr_fail(err, SR_USAGE, "BACKUP",
                   "%s is not a backup that can be restored: %.300s", backup,
                   cause.message);
}

int sr_store_restore(const char *backup, const char *path, const char *stamp,
                     sr_buf *replaced, sr_err *err) {
    char place[PATH_MAX], copying[PATH_MAX + 16];
    int lock = -1, rc = -1;
    if (sr_store_file_folder(path, err) != 0 || resolve(path, place, err) != 0 ||
        sr_store_file_lock(place, true, &lock, err) != 0)
        return -1;
    snprintf(copying, sizeof copying, "%s.copying", place);
    remove_copy(copying); /* of a run that was killed: the lock is ours */
    if (copy_store(backup, copying, err) != 0)
        (void)blame_backup(backup, err);
    else
        rc = swap(place, stamp, replaced, err);
    close(lock);
    return rc;
}
