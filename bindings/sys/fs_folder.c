/* fs_folder.c – one folder held open: its lock, and its files by name.
 *
 * Everything goes by the folder's descriptor, so that renaming or replacing the path
 * meanwhile changes nothing. The lock is flock(2) on the folder itself: it needs no file,
 * two tasks of one process exclude each other as two processes do, and the end of a
 * process frees it. A file system that locks only files that are open for writing (NFS)
 * gets a file ".lock" inside instead.
 *
 * Under the lock nobody else writes here. So the names found on opening stay true, and
 * what killed writes left behind (".secrun-" and 16 hexadecimal digits) is swept away.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "sys/fs.h"

#define LOCK_FILE ".lock"
#define ROUNDS 8 /* of opening a folder that is removed all the time */

void sr_fs_folder_close(sr_fs_folder *folder) {
    if (folder->lock_fd >= 0) close(folder->lock_fd);
    if (folder->fd >= 0) close(folder->fd);
    folder->fd = folder->lock_fd = -1;
}

/* ---------------------------------------------------------------- lock */

static int lock_inside(sr_fs_folder *folder, const char *path, sr_err *err) {
    sr_buf file = {0};
    int rc = -1;
    if (sr_buf_printf(&file, "%s/%s", path, LOCK_FILE))
        (void)sr_fs_fail(err, ENOMEM, "lock", path);
    else
        rc = sr_fs_trylock(file.data, &folder->lock_fd, err);
    sr_buf_free(&file);
    return rc;
}

static int lock_folder(sr_fs_folder *folder, const char *path, sr_err *err) {
    if (flock(folder->fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno == EBADF || errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL)
        return lock_inside(folder, path, err);
    if (errno != EWOULDBLOCK) return sr_fs_fail(err, errno, "lock", path);
    (void)sr_fail(err, SR_CONFLICT, "EWOULDBLOCK",
                  "%s is locked by another process or task: wait for it or end it", path);
    err->retryable = true;
    return -1;
}

static bool still_named(const sr_fs_folder *folder, const char *path) {
    struct stat held, named;
    return fstat(folder->fd, &held) == 0 && stat(path, &named) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

/* ---------------------------------------------------------------- names */

static bool is_left_over(const char *name) {
    static const char prefix[] = ".secrun-";
    size_t n = sizeof prefix - 1;
    return strncmp(name, prefix, n) == 0 && strlen(name) == n + 16 &&
           strspn(name + n, "0123456789abcdef") == 16;
}

/* Collect the names; of a locked folder also remove what killed writes left. */
static int take_names(sr_fs_folder *folder, const char *path, bool sweep, sr_err *err) {
    int copy = openat(folder->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    const struct dirent *entry;
    if (!dir) {
        int saved = errno;
        if (copy >= 0) close(copy);
        return sr_fs_fail(err, saved, "list", path);
    }
    while (errno = 0, (entry = readdir(dir))) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
        if (sweep && is_left_over(name) && unlinkat(folder->fd, name, 0) == 0) continue;
        if (sr_buf_append(&folder->names, name, strlen(name) + 1)) errno = ENOMEM;
        if (errno == ENOMEM) break;
    }
    int failed = errno;
    closedir(dir);
    return failed ? sr_fs_fail(err, failed, "list", path) : 0;
}

/* ---------------------------------------------------------------- open */

static int open_once(const char *path, const sr_fs_folder_opts *opts,
                     sr_fs_folder *folder, sr_err *err) {
    bool made = false;
    folder->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder->fd < 0 && errno == ENOENT && opts->make) {
        if (sr_fs_mkdir(path, opts->mode, true, &made, err)) return -1;
        folder->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (folder->fd < 0) return sr_fs_fail(err, errno, "open the folder", path);
    return opts->lock ? lock_folder(folder, path, err) : 0;
}

int sr_fs_folder_open(const char *path, const sr_fs_folder_opts *opts,
                      sr_fs_folder *folder, sr_err *err) {
    folder->fd = folder->lock_fd = -1;
    /* Again when somebody removed it between opening and locking. */
    for (int round = 0; round < ROUNDS; round++) {
        if (open_once(path, opts, folder, err)) goto failed;
        if (!opts->lock || still_named(folder, path)) {
            if (take_names(folder, path, opts->lock, err)) goto failed;
            return 0;
        }
        sr_fs_folder_close(folder);
    }
    (void)sr_fail(err, SR_CONFLICT, NULL, "cannot open %s: it is removed all the time",
                  path);
failed:
    sr_fs_folder_close(folder);
    return -1;
}

/* ---------------------------------------------------------------- remove */

int sr_fs_remove_at(int folder, const char *path, const char *names, size_t len,
                    size_t sync_after, sr_err *err) {
    size_t count = 0;
    for (const char *name = names; name < names + len; name += strlen(name) + 1) {
        if (unlinkat(folder, name, 0) == 0)
            sr_crash_point("name");
        else if (errno != ENOENT)
            return sr_fail_errno(err, errno, "cannot remove %s/%s", path, name);
        if (++count == sync_after && sr_fs_sync(folder) != 0)
            return sr_fs_fail(err, errno, "sync", path);
    }
    return 0;
}
