/* fs_file.c – the content of files: bounded reading, atomic and plain writing.
 *
 * The atomic writer works relative to the opened folder, so that swapping the folder for
 * a link meanwhile changes nothing. Order: make, own, mode, write, fsync, rename, fsync
 * of the folder. Whatever fails before the rename takes the temporary file away again.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/fs.h"

/* ---------------------------------------------------------------- reading */

#define PIECE 65536
#define STOP_CHECK_MS 100

static int read_more(int fd, const char *path, const volatile bool *stop, sr_buf *out,
                     size_t *ret_n, sr_err *err) {
    char *room = sr_buf_reserve(out, PIECE + 1);
    if (!room) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory to read %s", path);
    for (;;) {
        ssize_t n = read(fd, room, PIECE);
        if (n >= 0) {
            *ret_n = (size_t)n;
            out->len += (size_t)n;
            out->data[out->len] = '\0';
            return 0;
        }
        if (stop && *stop)
            return sr_fail(err, SR_CANCELLED, NULL, "reading %s was cancelled", path);
        if (errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            (void)poll(&p, 1, STOP_CHECK_MS);
        } else if (errno != EINTR) {
            return sr_fs_fail(err, errno, "read", path);
        }
    }
}

static int too_large(const char *path, size_t max, sr_err *err) {
    return sr_fail(
        err, SR_LIMIT, "EFBIG",
        "cannot read %s: it is larger than max = %zu bytes: raise max if that is "
        "expected",
        path, max);
}

static int open_to_read(int folder, const char *path, const char *name, size_t max,
                        int *ret_fd, sr_err *err) {
    struct stat st;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), rc = -1;
    if (fd < 0) return sr_fs_fail(err, errno, "read", path);
    if (fstat(fd, &st) != 0)
        (void)sr_fs_fail(err, errno, "read", path);
    else if (S_ISDIR(st.st_mode))
        (void)sr_fs_fail(err, EISDIR, "read", path);
    else if (S_ISREG(st.st_mode) && (uintmax_t)st.st_size > max)
        (void)too_large(path, max, err);
    else
        rc = 0;
    if (rc == 0)
        *ret_fd = fd;
    else
        close(fd);
    return rc;
}

int sr_fs_read_at(int folder, const char *path, const char *name, size_t max,
                  const volatile bool *stop, sr_buf *out, sr_err *err) {
    size_t start = out->len, n = 0;
    int fd = -1, rc = 0;
    if (open_to_read(folder, path, name, max, &fd, err)) return -1;
    do
        rc = read_more(fd, path, stop, out, &n, err);
    while (rc == 0 && n > 0 && out->len - start <= max);
    if (rc == 0 && out->len - start > max) rc = too_large(path, max, err);
    close(fd);
    return rc;
}

int sr_fs_read(const char *path, size_t max, const volatile bool *stop, sr_buf *out,
               sr_err *err) {
    return sr_fs_read_at(AT_FDCWD, path, path, max, stop, out, err);
}

/* ---------------------------------------------------------------- writing */

int sr_fs_sync(int fd) {
    int rc = fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : -1;
    sr_crash_point("fsync");
    return rc;
}

int sr_fs_temp_name(char *buf, size_t size, sr_err *err) {
    uint64_t random;
    if (uv_random(NULL, NULL, &random, sizeof random, 0, NULL) != 0)
        return sr_fail(err, SR_INTERNAL, NULL, "no random bytes for a temporary name");
    snprintf(buf, size, ".secrun-%016llx", (unsigned long long)random);
    return 0;
}

int sr_fs_open_parent(const char *path, const char *doing, int *ret_fd,
                      const char **ret_base, sr_err *err) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *folder;
    int fd, saved;
    if (!*base || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
        return sr_fail(err, SR_USAGE, NULL,
                       "cannot %s \"%s\": the path must end in a name", doing, path);
    folder =
        !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!folder) return sr_fs_fail(err, ENOMEM, doing, path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    saved = errno;
    free(folder);
    if (fd < 0) return sr_fs_fail(err, saved, doing, path);
    *ret_fd = fd;
    *ret_base = base;
    return 0;
}

/* 0 or -1 with errno; short writes go on. */
static int write_all(int fd, const void *data, size_t len) {
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Owner first: chown takes set-id bits away. */
static int set_owner_and_mode(int fd, const sr_fs_write_opts *o, const char *path,
                              sr_err *err) {
    uid_t uid;
    gid_t gid;
    if (o->owner) {
        if (sr_fs_owner(o->owner, &uid, &gid, err)) return -1;
        if (fchown(fd, uid, gid) != 0)
            return sr_fs_fail(err, errno, "set the owner of", path);
    }
    if (fchmod(fd, o->mode) != 0) return sr_fs_fail(err, errno, "set the mode of", path);
    return 0;
}

static int fill(int fd, const void *data, size_t len, const sr_fs_write_opts *o,
                const char *path, sr_err *err) {
    if (write_all(fd, data, len) != 0) return sr_fs_fail(err, errno, "write", path);
    sr_crash_point("write");
    if (o->sync && sr_fs_sync(fd) != 0) return sr_fs_fail(err, errno, "sync", path);
    return 0;
}

/* Give the temporary entry its name; without replacing when exclusive. */
static int publish(int folder, const char *temp, const char *base, bool exclusive) {
    if (!exclusive) return renameat(folder, temp, folder, base);
    if (renameat2(folder, temp, folder, base, RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return -1;
    if (linkat(folder, temp, folder, base, 0) != 0) return -1;
    return unlinkat(folder, temp, 0);
}

int sr_fs_write_at(int folder, const char *path, const char *name, const void *data,
                   size_t len, const sr_fs_write_opts *o, sr_err *err) {
    char temp[32];
    int fd, rc = -1;
    bool made = false;
    if (sr_fs_temp_name(temp, sizeof temp, err)) return -1;
    fd = openat(folder, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                o->mode);
    if (fd < 0) return sr_fs_fail(err, errno, "write", path);
    made = true;
    if (set_owner_and_mode(fd, o, path, err) || fill(fd, data, len, o, path, err))
        goto out;
    rc = close(fd);
    fd = -1;
    if (rc == 0) rc = publish(folder, temp, name, o->exclusive);
    if (rc != 0) {
        (void)sr_fs_fail(err, errno, "write", path);
        goto out;
    }
    made = false;
    sr_crash_point("rename");
    if (o->sync && sr_fs_sync(folder) != 0) rc = sr_fs_fail(err, errno, "sync", path);
out:
    if (fd >= 0) close(fd);
    if (made)
        (void)unlinkat(folder, temp, 0); /* the first failure is the one to report */
    return rc;
}

static int write_atomic(const char *path, const void *data, size_t len,
                        const sr_fs_write_opts *o, sr_err *err) {
    const char *base;
    int folder;
    if (sr_fs_open_parent(path, "write", &folder, &base, err)) return -1;
    int rc = sr_fs_write_at(folder, path, base, data, len, o, err);
    close(folder);
    return rc;
}

/* The folder's entry for a new file is synced too. */
static int sync_parent(const char *path, sr_err *err) {
    const char *base;
    int folder, rc = 0;
    if (sr_fs_open_parent(path, "sync", &folder, &base, err)) return -1;
    if (sr_fs_sync(folder) != 0) rc = sr_fs_fail(err, errno, "sync the folder of", path);
    close(folder);
    return rc;
}

/* Open to write in place; *ret_made tells whether the file is new. A pipe that nobody
 * reads is an error (ENXIO): waiting for a reader would hold a thread that nothing can
 * cancel. */
static int open_in_place(const char *path, int flags, mode_t mode, bool *ret_made) {
    int common = O_WRONLY | O_CLOEXEC | O_NOCTTY;
    int fd = open(path, common | O_CREAT | O_EXCL | (flags & O_APPEND), mode);
    *ret_made = fd >= 0;
    if (fd >= 0 || errno != EEXIST || flags & O_EXCL) return fd;
    fd = open(path, common | O_CREAT | O_NONBLOCK | flags, mode);
    if (fd >= 0 && fcntl(fd, F_SETFL, flags & O_APPEND) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static int write_in_place(const char *path, const void *data, size_t len,
                          const sr_fs_write_opts *o, sr_err *err) {
    bool made;
    int fd = open_in_place(path, o->exclusive ? O_EXCL : O_TRUNC, o->mode, &made), rc = 0;
    if (fd < 0) return sr_fs_fail(err, errno, "write", path);
    if (made || o->mode_set || o->owner) {
        sr_fs_write_opts apply = *o;
        struct stat st;
        if (!made && !o->mode_set && fstat(fd, &st) == 0) apply.mode = st.st_mode & 07777;
        rc = set_owner_and_mode(fd, &apply, path, err);
    }
    if (rc == 0) rc = fill(fd, data, len, o, path, err);
    if (close(fd) != 0 && rc == 0) rc = sr_fs_fail(err, errno, "write", path);
    if (rc == 0 && made && o->sync) rc = sync_parent(path, err);
    return rc;
}

int sr_fs_write(const char *path, const void *data, size_t len,
                const sr_fs_write_opts *opts, sr_err *err) {
    return opts->atomic ? write_atomic(path, data, len, opts, err)
                        : write_in_place(path, data, len, opts, err);
}

int sr_fs_append(const char *path, const void *data, size_t len, mode_t mode, bool sync,
                 sr_err *err) {
    sr_fs_write_opts o = {.mode = mode, .sync = sync};
    bool made;
    int fd = open_in_place(path, O_APPEND, mode, &made), rc = 0;
    if (fd < 0) return sr_fs_fail(err, errno, "append to", path);
    if (made) rc = set_owner_and_mode(fd, &o, path, err);
    if (rc == 0) rc = fill(fd, data, len, &o, path, err);
    if (close(fd) != 0 && rc == 0) rc = sr_fs_fail(err, errno, "append to", path);
    if (rc == 0 && made && sync) rc = sync_parent(path, err);
    return rc;
}
