/* store_keep.h – a store's file as a whole: copied, checked, put back. SQLite only; a
 * PostgreSQL database has tools of its own.
 *
 * Blocking; with connections of their own, beside whatever the lanes do. */
#ifndef SR_STORE_KEEP_H
#define SR_STORE_KEEP_H

#include "secrun.h"

/* Copy what is committed at this moment to a new file (0600), one file without a log, and
 * check the copy. Writers are not held up. conflict EEXIST when the file exists; nothing
 * is left of it on failure. */
int sr_store_backup(const char *place, const char *file, sr_err *err);
/* Append a line for each thing that is wrong, each ended by NUL, at most 100. A file that
 * cannot even be read is an error (CORRUPT). */
int sr_store_check(const char *place, sr_buf *problems, size_t *ret_count, sr_err *err);
/* Put a backup in the place of the store at `path`, which nobody may have open (conflict,
 * LOCKED). A file that is there is kept under the name appended to `replaced`, with
 * `stamp` in it; empty when there was none. The backup is checked first: usage, code
 * BACKUP. */
int sr_store_restore(const char *backup, const char *path, const char *stamp,
                     sr_buf *replaced, sr_err *err);

#endif
