/* store_file.h – the file of a store: where it may stand, who has it open, its backups.
 *
 * Beside the database FILE stand FILE-wal and FILE-shm (SQLite's), FILE.lock (held shared
 * by every process that has it open, exclusively by a restore), FILE.worker (held by the
 * process that runs flows) and the folder backups/. The database file itself is never
 * opened here while SQLite may have it: closing a descriptor would drop SQLite's locks.
 */
#ifndef SR_STORE_FILE_H
#define SR_STORE_FILE_H

#include "secrun.h"

#define SR_STORE_BACKUPS "backups"

/* Make the place ready: the folder (0700) and the file (0600) when they lack and create
 * is set; then check that it is a local disk, that file and folder belong to us or to
 * root and nobody else may write to them; with write, that we may. ret_place is the
 * resolved path. Kinds: usage, not_found, denied, store (codes NFS, RESTORE), io. */
int sr_store_file_ready(const char *path, bool create, bool write, sr_buf *ret_place,
                        sr_err *err);
/* Check that it is a local disk, then make the folder of a store when it lacks. */
int sr_store_file_folder(const char *path, sr_err *err);
/* Hold FILE.lock: shared while the store is open, exclusively to replace it. conflict,
 * code LOCKED, when others hold it otherwise. */
int sr_store_file_lock(const char *place, bool exclusive, int *ret_fd, sr_err *err);
/* The newest file in backups/ beside the place; false: there is none. */
bool sr_store_newest_backup(const char *place, char *buf, size_t size);

#endif
