/* store_file.c – the file of a store on its disk: folder, mode, owner, locks, backups. */
#include "store/store_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "store/store_msg.h"
#include "sys/fs.h"

/* ---------------------------------------------------------------- may it stand there? */

/* Of the file, or of the nearest folder above it that exists. */
static int local_disk(const char *path, sr_err *err) {
    struct statfs fs;
    char at[PATH_MAX];
    snprintf(at, sizeof at, "%s", path);
    while (statfs(at, &fs) != 0) {
        char *slash = strrchr(at, '/');
        if (errno != ENOENT || !slash || !at[1])
            return sr_fail_errno(err, errno, "%s", at);
        slash[slash == at] = '\0';
    }
    const char *network = sr_store_network_fs((long)fs.f_type);
    if (!network) return 0;
    return sr_fail(err, SR_STORE, "NFS",
                   "%s is on %s: locks and shared memory do not hold over a network, and "
                   "the store would be damaged; set `store` in the estate file to a path "
                   "on a local disk",
                   path, network);
}

static int refuse_owner(const char *path, const struct stat *st, sr_err *err) {
    if (st->st_uid != geteuid() && st->st_uid != 0)
        return sr_fail(err, SR_DENIED, "OWNER",
                       "%s belongs to user %ld, not to us (%ld): whoever owns the store "
                       "decides what is done; run secrun as that user",
                       path, (long)st->st_uid, (long)geteuid());
    return 0;
}

/* Ours, or root's, and nobody else writes to it. */
static int trusted(const char *place, sr_err *err) {
    char folder[PATH_MAX];
    struct stat st;
    const char *slash = strrchr(place, '/');
    snprintf(folder, sizeof folder, "%.*s", slash == place ? 1 : (int)(slash - place),
             place);
    if (stat(folder, &st) != 0) return sr_fail_errno(err, errno, "%s", folder);
    if (refuse_owner(folder, &st, err) != 0) return -1;
    if ((st.st_mode & 022) && !(st.st_mode & S_ISVTX))
        return sr_fail(
            err, SR_DENIED, "MODE",
            "%s can be written to by others (mode %04o), who could replace the "
            "store; run chmod go-w %s",
            folder, (unsigned)st.st_mode & 07777, folder);
    if (stat(place, &st) != 0) return sr_fail_errno(err, errno, "%s", place);
    if (!S_ISREG(st.st_mode))
        return sr_fail(err, SR_USAGE, NULL, "%s is not a file; name one for the store",
                       place);
    if (refuse_owner(place, &st, err) != 0) return -1;
    if (st.st_mode & 022)
        return sr_fail(err, SR_DENIED, "MODE",
                       "%s can be written to by others (mode %04o); run chmod 0600 %s",
                       place, (unsigned)st.st_mode & 07777, place);
    /* What flows know is nobody else's business; not ours to change is left as it is. */
    if ((st.st_mode & 077) && st.st_uid == geteuid()) (void)chmod(place, 0600);
    return 0;
}

/* A restore that was killed between its two renames: neither file may be used blindly. */
static int no_half_restore(const char *path, sr_err *err) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.restoring", path);
    if (access(name, F_OK) != 0) return 0;
    return sr_fail(err, SR_STORE, "RESTORE",
                   "%s: a restore was interrupted; run `secrun store restore` again with "
                   "the same backup",
                   path);
}

static int make_folder(const char *path, sr_err *err) {
    char folder[PATH_MAX];
    bool made;
    const char *slash = strrchr(path, '/');
    if (slash == path) return 0;
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    return sr_fs_mkdir(folder, 0700, true, &made, err);
}

static int check_path(const char *path, sr_err *err) {
    if (path[0] == '/' && strlen(path) <= PATH_MAX - 64) return 0;
    return sr_fail(err, SR_USAGE, NULL,
                   "a store is named by an absolute path, got \"%.200s\"", path);
}

int sr_store_file_folder(const char *path, sr_err *err) {
    if (check_path(path, err) != 0 || local_disk(path, err) != 0) return -1;
    return make_folder(path, err);
}

static int writable(const char *place, sr_err *err) {
    if (access(place, W_OK) == 0) return 0;
    return sr_fail(
        err, SR_STORE, "READONLY",
        "%s cannot be written to (%s): check its mode, and that its disk is not "
        "mounted read-only",
        place, strerror(errno));
}

/* A new file only: see the head of store_file.h. */
static int make_file(const char *path, sr_err *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0) {
        close(fd);
        return 0;
    }
    return errno == EEXIST ? 0 : sr_fs_fail(err, errno, "make", path);
}

int sr_store_file_ready(const char *path, bool create, bool write, sr_buf *ret_place,
                        sr_err *err) {
    char *place;
    if (check_path(path, err) != 0 || no_half_restore(path, err) != 0 ||
        local_disk(path, err) != 0)
        return -1;
    if (create && (make_folder(path, err) != 0 || make_file(path, err) != 0)) return -1;
    place = realpath(path, NULL);
    if (!place && errno == ENOENT)
        return sr_fail(
            err, SR_NOT_FOUND, "ENOENT",
            "there is no store at %s; it is made by the first `secrun renew` or "
            "`secrun serve`",
            path);
    if (!place) return sr_fs_fail(err, errno, "open", path);
    int rc = no_half_restore(place, err) || local_disk(place, err) ||
                     trusted(place, err) || (write && writable(place, err) != 0)
                 ? -1
                 : 0;
    if (rc == 0 && sr_buf_puts(ret_place, place) != 0)
        rc = sr_fail(err, SR_LIMIT, "ENOMEM", "no memory to open %s", path);
    free(place);
    return rc;
}

/* ---------------------------------------------------------------- who has it open */

int sr_store_file_lock(const char *place, bool exclusive, int *ret_fd, sr_err *err) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.lock", place);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (fd < 0 && !exclusive && (errno == EROFS || errno == EACCES)) {
        /* A store that we only read, on a disk that we cannot write to. */
        fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
        if (fd < 0 && errno == ENOENT) {
            *ret_fd = -1;
            return 0;
        }
    }
    if (fd < 0) return sr_fs_fail(err, errno, "lock", name);
    if (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) {
        *ret_fd = fd;
        return 0;
    }
    int saved = errno;
    close(fd);
    if (saved != EWOULDBLOCK) return sr_fs_fail(err, saved, "lock", name);
    return sr_fail(err, SR_CONFLICT, "LOCKED",
                   exclusive ? "%s is in use: stop `secrun serve` and every other secrun "
                               "on it first (`secrun store info` shows the worker)"
                             : "%s is being restored: wait for it to end, then try again",
                   place);
}

/* ---------------------------------------------------------------- backups */

bool sr_store_newest_backup(const char *place, char *buf, size_t size) {
    char folder[PATH_MAX], path[PATH_MAX + 256];
    struct timespec newest = {0};
    bool found = false;
    const char *slash = strrchr(place, '/');
    snprintf(folder, sizeof folder, "%.*s/" SR_STORE_BACKUPS, (int)(slash - place),
             place);
    DIR *dir = opendir(folder);
    if (!dir) return false;
    for (struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        size_t len = strlen(e->d_name);
        if (len < 4 || strcmp(e->d_name + len - 3, ".db") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) continue;
        if (found &&
            (st.st_mtim.tv_sec < newest.tv_sec || (st.st_mtim.tv_sec == newest.tv_sec &&
                                                   st.st_mtim.tv_nsec <= newest.tv_nsec)))
            continue;
        newest = st.st_mtim;
        found = snprintf(buf, size, "%s", path) < (int)size;
    }
    closedir(dir);
    return found;
}
