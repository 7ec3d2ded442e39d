/* fs.h – files and folders, durable and careful; the blocking core of the module "fs".
 *
 * No Lua except where a lua_State is taken; every other function may block on a disk and
 * belongs into a job of SR_LANE_BLOCKING. All return 0, or -1 with *err filled. Kinds:
 * not_found for ENOENT, conflict for EEXIST, limit for a bound of ours, usage for a path
 * that makes no sense, denied from sr_fs_check_owner, else io; the code is the errno name
 * ("ENOSPC", "EROFS") and the message names the path and the mend.
 *
 * Durable means: fsync of the file before it gets its name, fsync of the folder after.
 * Permissions (--allow-read, --allow-write) are asked by the face, not here.
 */
#ifndef SR_FS_H
#define SR_FS_H

#include "secrun.h"

#include <sys/stat.h>
#include <sys/types.h>

#define SR_FS_READ_MAX (16 << 20)
#define SR_FS_DEPTH 128 /* levels of folders remove_tree descends */

/* Fill *err from errno for "cannot <doing> <path>" and give -1. */
#define sr_fs_fail(err, errnum, doing, path)                                             \
    (sr_fs_set_err((err), (errnum), (doing), (path)), sr_failure())
void sr_fs_set_err(sr_err *err, int errnum, const char *doing, const char *path);

/* ---------------------------------------------------------------- content */

typedef struct sr_fs_write_opts {
    mode_t mode;       /* exact, not lessened by the umask */
    bool mode_set;     /* not atomic and the file exists: change its mode too */
    bool atomic;       /* all or nothing under that name, see sr_fs_write */
    bool sync;         /* fsync of file and folder */
    bool exclusive;    /* conflict when the name exists */
    const char *owner; /* as for sr_fs_chown, NULL: as it comes */
} sr_fs_write_opts;

/* Append the whole file to `out`. More than `max` bytes is an error of kind limit. Pipes
 * are read to their end, *stop (may be NULL) ends the wait for them with kind cancelled.
 */
int sr_fs_read(const char *path, size_t max, const volatile bool *stop, sr_buf *out,
               sr_err *err);
/* Atomic: a temporary file in the same folder, made with O_EXCL | O_NOFOLLOW in its final
 * mode and owner, is written, synced and renamed over the name; a reader or a crash sees
 * the old or the new content whole. A symbolic link of that name is replaced, not
 * followed. No temporary file stays behind on failure. Not atomic: the file is truncated
 * and written in place, which is for devices and for files that are bind mounts. */
int sr_fs_write(const char *path, const void *data, size_t len,
                const sr_fs_write_opts *opts, sr_err *err);
/* To the end of the file, which is made with `mode` when it lacks. */
int sr_fs_append(const char *path, const void *data, size_t len, mode_t mode, bool sync,
                 sr_err *err);

/* ---------------------------------------------------------------- folders and names */

/* `mode` exact for the folder itself; folders above it (parents) get 0777 less the umask.
 * With parents an existing folder is no error and *ret_made is false. */
int sr_fs_mkdir(const char *path, mode_t mode, bool parents, bool *ret_made, sr_err *err);
/* A file, a symbolic link or an empty folder. */
int sr_fs_remove(const char *path, sr_err *err);
/* A folder and all below it. Refused: the root, a path that ends in "." or "..", a
 * symbolic link as the path itself. Links below are removed, never followed; another file
 * system mounted below ends it with an error. */
int sr_fs_remove_tree(const char *path, sr_err *err);
/* Replaces what is at `to`; both folders are synced. */
int sr_fs_rename(const char *from, const char *to, sr_err *err);
int sr_fs_symlink(const char *target, const char *path, sr_err *err);
/* Make or switch a symbolic link in one step: temporary link, rename, fsync of the
 * folder. Refuses with kind conflict to replace anything but a symbolic link. */
int sr_fs_symlink_replace(const char *target, const char *path, sr_err *err);
int sr_fs_readlink(const char *path, sr_buf *out, sr_err *err);
/* The names in the folder without "." and "..", in byte order, each ended by NUL. */
int sr_fs_list(const char *path, sr_buf *out, size_t *ret_count, sr_err *err);
/* A fresh folder of mode 0700 below `base`; its path is appended to `out`. */
int sr_fs_tmpdir(const char *base, sr_buf *out, sr_err *err);

/* ---------------------------------------------------------------- metadata */

/* *ret_found false when nothing is there. `follow`: a link's target, else the link. */
int sr_fs_stat(const char *path, bool follow, bool *ret_found, struct stat *ret_stat,
               sr_err *err);
int sr_fs_chmod(const char *path, mode_t mode, sr_err *err);
/* "user", "user:group" or ":group", names or numbers. Does not follow a link. */
int sr_fs_chown(const char *path, const char *owner, sr_err *err);
/* The parsed owner; (uid_t)-1 and (gid_t)-1 for the part that is not named. */
int sr_fs_owner(const char *owner, uid_t *ret_uid, gid_t *ret_gid, sr_err *err);
int sr_fs_realpath(const char *path, sr_buf *out, sr_err *err);
/* For what root is about to trust (configuration, scripts): the file and every folder
 * above it, as named and as resolved, must belong to root and be writable by nobody else;
 * a sticky folder like /tmp may be writable. Always 0 when not running as root. */
int sr_fs_check_owner(const char *path, sr_err *err);

/* ---------------------------------------------------------------- locks */

/* Try once to lock the file exclusively with flock(2), making it (0600) when it lacks.
 * The holder's process id is written into it, for the message. 0 with the open
 * descriptor; a lock held elsewhere is an error of kind conflict, retryable. Closing it
 * releases. */
int sr_fs_trylock(const char *path, int *ret_fd, sr_err *err);

/* ---------------------------------------------------------------- a folder held open */

typedef struct sr_fs_folder {
    int fd, lock_fd; /* lock_fd: of a lock file, where folders cannot be locked; or -1 */
    sr_buf names;    /* what was in it on opening, each ended by NUL, in no order */
} sr_fs_folder;

typedef struct sr_fs_folder_opts {
    mode_t mode; /* of a folder that is made */
    bool make;   /* it and those above, when it lacks */
    bool lock;   /* exclusively, or conflict (retryable) when another has it */
} sr_fs_folder_opts;

/* Open it; a locked one is swept of what killed writes left. Nothing stays open on
 * failure; names are the caller's to free in any case. */
int sr_fs_folder_open(const char *path, const sr_fs_folder_opts *opts,
                      sr_fs_folder *folder, sr_err *err);
/* Release the lock and close. */
void sr_fs_folder_close(sr_fs_folder *folder);
/* As sr_fs_read and the atomic sr_fs_write for a name in an open folder; `path` is the
 * file's, for messages. */
int sr_fs_read_at(int folder, const char *path, const char *name, size_t max,
                  const volatile bool *stop, sr_buf *out, sr_err *err);
int sr_fs_write_at(int folder, const char *path, const char *name, const void *data,
                   size_t len, const sr_fs_write_opts *opts, sr_err *err);
/* Remove the names, each ended by NUL, in this order; what is not there is no error.
 * One fsync of the folder after the `sync_after`-th, 0: none. `path` is the folder's. */
int sr_fs_remove_at(int folder, const char *path, const char *names, size_t len,
                    size_t sync_after, sr_err *err);

/* ---------------------------------------------------------------- shared by the files */

/* Open the folder that holds `path` and point *ret_base at its last part. */
int sr_fs_open_parent(const char *path, const char *doing, int *ret_fd,
                      const char **ret_base, sr_err *err);
/* A name for a temporary entry: ".secrun-" and 16 hex digits. */
int sr_fs_temp_name(char *buf, size_t size, sr_err *err);
/* fsync; where a file system has no such thing (EINVAL) that is success. */
int sr_fs_sync(int fd);

/* ---------------------------------------------------------------- Lua */

/* fs.folder of fs_folder_lua.c: function and type. */
int sr_fs_l_folder(lua_State *L);
void sr_fs_open_folder(lua_State *L);
/* "0640" or the number at idx; `function` is for the message. */
mode_t sr_fs_to_mode(lua_State *L, int idx, const char *function);

/* Push a lock object without a lock; the caller stores the descriptor it shall own. */
int *sr_fs_push_lock(lua_State *L, const char *path);
void sr_fs_open_lock(lua_State *L);

/* The path at idx: a string, not empty, without NUL. Raises usage naming `function`. */
const char *sr_fs_check_path(lua_State *L, int idx, const char *function);

#endif
