/* fs_dir.c – folders and names: make, list, rename, link, remove.
 *
 * Every change of a folder is followed by an fsync of that folder, so that what a script
 * was told is done stays done after a crash.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/fs.h"

/* ---------------------------------------------------------------- make */

static int sync_folder(int folder, const char *path, sr_err *err) {
    sr_crash_point("name"); /* made, renamed, linked or removed, not yet synced */
    if (sr_fs_sync(folder) == 0) return 0;
    return sr_fs_fail(err, errno, "sync the folder of", path);
}

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Of a folder just made, which must not have become a link meanwhile; the umask may have
 * taken the right to open it. 0 or -1 with errno. */
static int set_mode(int parent, const char *name, mode_t mode) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return fchmodat(parent, name, mode, 0);
    int rc = fchmod(fd, mode), saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

/* One folder. `exact` undoes what the umask took. 1 made, 0 was there, -1. */
static int make_one(const char *path, mode_t mode, bool exact, sr_err *err) {
    const char *base;
    struct stat st;
    int folder, rc = -1;
    if (sr_fs_open_parent(path, "make the folder", &folder, &base, err)) return -1;
    if (mkdirat(folder, base, mode) != 0) {
        if (errno == EEXIST && is_folder(path))
            rc = 0;
        else
            (void)sr_fs_fail(err, errno, "make the folder", path);
        goto out;
    }
    if (exact && (fstatat(folder, base, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
                  ((st.st_mode & 07777) != mode && set_mode(folder, base, mode) != 0))) {
        (void)sr_fs_fail(err, errno, "set the mode of", path);
        goto out;
    }
    if (sync_folder(folder, path, err) == 0) rc = 1;
out:
    close(folder);
    return rc;
}

/* Make what lacks above the last part of `path`, which is changed and restored. */
static int make_parents(char *path, sr_err *err) {
    for (char *p = path + 1; *p; p++) {
        if (*p != '/' || p[-1] == '/' || !p[1]) continue;
        *p = '\0';
        int rc = is_folder(path) ? 0 : make_one(path, 0777, false, err);
        *p = '/';
        if (rc < 0) return -1;
    }
    return 0;
}

int sr_fs_mkdir(const char *path, mode_t mode, bool parents, bool *ret_made,
                sr_err *err) {
    char *copy = strdup(path);
    size_t len = strlen(path);
    int rc = -1;
    if (!copy) return sr_fs_fail(err, ENOMEM, "make the folder", path);
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    if (parents && is_folder(copy)) {
        rc = 0;
        goto out;
    }
    rc = make_one(copy, mode, true, err);
    if (rc < 0 && parents && err->kind == SR_NOT_FOUND) {
        *err = (sr_err){0};
        rc = make_parents(copy, err) ? -1 : make_one(copy, mode, true, err);
    }
    if (rc == 0 && !parents) rc = sr_fs_fail(err, EEXIST, "make the folder", path);
out:
    free(copy);
    if (rc < 0) return -1;
    *ret_made = rc == 1;
    return 0;
}

int sr_fs_tmpdir(const char *base, sr_buf *out, sr_err *err) {
    size_t start = out->len;
    if (sr_buf_printf(out, "%s/secrun-XXXXXX", base))
        return sr_fs_fail(err, ENOMEM, "make a folder below", base);
    if (mkdtemp(out->data + start)) return 0;
    out->data[out->len = start] = '\0';
    return sr_fs_fail(err, errno, "make a folder below", base);
}

/* ---------------------------------------------------------------- names */

int sr_fs_rename(const char *from, const char *to, sr_err *err) {
    const char *old_name, *new_name;
    int source = -1, target = -1, rc = -1;
    if (sr_fs_open_parent(from, "rename", &source, &old_name, err)) return -1;
    if (sr_fs_open_parent(to, "rename to", &target, &new_name, err)) goto out;
    if (renameat(source, old_name, target, new_name) != 0) {
        (void)sr_fs_fail(err, errno, errno == ENOENT ? "rename" : "rename to",
                         errno == ENOENT ? from : to);
        goto out;
    }
    if (sync_folder(target, to, err) == 0 && sync_folder(source, from, err) == 0) rc = 0;
out:
    if (target >= 0) close(target);
    close(source);
    return rc;
}

int sr_fs_symlink(const char *target, const char *path, sr_err *err) {
    const char *base;
    int folder, rc = -1;
    if (sr_fs_open_parent(path, "link", &folder, &base, err)) return -1;
    if (symlinkat(target, folder, base) != 0)
        (void)sr_fs_fail(err, errno, "link", path);
    else
        rc = sync_folder(folder, path, err);
    close(folder);
    return rc;
}

int sr_fs_symlink_replace(const char *target, const char *path, sr_err *err) {
    const char *base;
    char temp[32];
    struct stat st;
    int folder, rc = -1;
    if (sr_fs_temp_name(temp, sizeof temp, err)) return -1;
    if (sr_fs_open_parent(path, "link", &folder, &base, err)) return -1;
    if (fstatat(folder, base, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISLNK(st.st_mode)) {
        (void)sr_fail(err, SR_CONFLICT, "EEXIST",
                      "cannot switch %s: it is no symbolic link: move it away first",
                      path);
        goto out;
    }
    if (symlinkat(target, folder, temp) != 0) {
        (void)sr_fs_fail(err, errno, "link", path);
        goto out;
    }
    if (renameat(folder, temp, folder, base) != 0) {
        (void)sr_fs_fail(err, errno, "switch", path);
        (void)unlinkat(folder, temp, 0); /* the first failure is the one to report */
        goto out;
    }
    rc = sync_folder(folder, path, err);
out:
    close(folder);
    return rc;
}

int sr_fs_readlink(const char *path, sr_buf *out, sr_err *err) {
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target);
    if (n < 0 && errno == EINVAL)
        return sr_fail(err, SR_USAGE, "EINVAL",
                       "cannot read the link %s: it is no symbolic link", path);
    if (n < 0) return sr_fs_fail(err, errno, "read the link", path);
    if (sr_buf_append(out, target, (size_t)n))
        return sr_fs_fail(err, ENOMEM, "read the link", path);
    return 0;
}

/* ---------------------------------------------------------------- list */

static int no_dots(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

int sr_fs_list(const char *path, sr_buf *out, size_t *ret_count, sr_err *err) {
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, no_dots, by_name), rc = 0;
    if (n < 0) return sr_fs_fail(err, errno, "list", path);
    for (int i = 0; i < n; i++) {
        if (sr_buf_append(out, entries[i]->d_name, strlen(entries[i]->d_name) + 1))
            rc = -1;
        free(entries[i]);
    }
    free(entries);
    if (rc) return sr_fs_fail(err, ENOMEM, "list", path);
    *ret_count = (size_t)n;
    return 0;
}

/* ---------------------------------------------------------------- remove */

int sr_fs_remove(const char *path, sr_err *err) {
    const char *base;
    int folder, rc = -1;
    if (sr_fs_open_parent(path, "remove", &folder, &base, err)) return -1;
    if (unlinkat(folder, base, 0) == 0 ||
        (errno == EISDIR && unlinkat(folder, base, AT_REMOVEDIR) == 0))
        rc = sync_folder(folder, path, err);
    else
        (void)sr_fs_fail(err, errno, "remove", path);
    close(folder);
    return rc;
}

typedef struct removal {
    const char *path; /* the tree, for messages */
    dev_t device;
    int depth;
    sr_err *err;
} removal;

static int remove_folder(removal *r, int parent, const char *name);

static int remove_entry(removal *r, int folder, const char *name) {
    if (unlinkat(folder, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno == EISDIR) return remove_folder(r, folder, name);
    return sr_fs_fail(r->err, errno, "remove all of", r->path);
}

/* Some file systems skip entries when others vanish meanwhile: go round until none is
 * left. */
static int empty_folder(removal *r, DIR *dir) {
    const struct dirent *entry;
    size_t seen = 1;
    for (; seen; rewinddir(dir)) {
        seen = 0;
        while (errno = 0, (entry = readdir(dir))) {
            if (!no_dots(entry)) continue;
            seen++;
            if (remove_entry(r, dirfd(dir), entry->d_name)) return -1;
        }
        if (errno) return sr_fs_fail(r->err, errno, "remove all of", r->path);
    }
    return 0;
}

static int enter(removal *r, int parent, const char *name, DIR **ret_dir) {
    struct stat st;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return sr_fs_fail(r->err, errno, "remove all of", r->path);
    if (fstat(fd, &st) != 0 || !(*ret_dir = fdopendir(fd))) {
        (void)sr_fs_fail(r->err, errno, "remove all of", r->path);
        close(fd);
        return -1;
    }
    if (r->depth > 0 && st.st_dev != r->device) {
        closedir(*ret_dir);
        return sr_fail(
            r->err, SR_IO, "EXDEV",
            "cannot remove all of %s: another file system is mounted on \"%s\" "
            "below it: unmount it first",
            r->path, name);
    }
    r->device = st.st_dev;
    return 0;
}

static int remove_folder(removal *r, int parent, const char *name) {
    DIR *dir = NULL;
    if (r->depth >= SR_FS_DEPTH)
        return sr_fail(r->err, SR_LIMIT, NULL,
                       "cannot remove all of %s: folders nest deeper than %d levels",
                       r->path, SR_FS_DEPTH);
    if (enter(r, parent, name, &dir)) return -1;
    r->depth++;
    int rc = empty_folder(r, dir);
    r->depth--;
    closedir(dir);
    if (rc == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0)
        rc = sr_fs_fail(r->err, errno, "remove all of", r->path);
    return rc;
}

int sr_fs_remove_tree(const char *path, sr_err *err) {
    removal r = {.path = path, .err = err};
    struct stat st;
    const char *base;
    int folder, rc = -1;
    if (sr_fs_open_parent(path, "remove all of", &folder, &base, err)) return -1;
    if (fstatat(folder, base, &st, AT_SYMLINK_NOFOLLOW) != 0)
        (void)sr_fs_fail(err, errno, "remove all of", path);
    else if (S_ISLNK(st.st_mode))
        (void)sr_fail(
            err, SR_USAGE, "ELOOP",
            "cannot remove all of %s: it is a symbolic link: remove the link, or "
            "name the folder it points to",
            path);
    else if (!S_ISDIR(st.st_mode))
        (void)sr_fs_fail(err, ENOTDIR, "remove all of", path);
    else
        rc = remove_folder(&r, folder, base);
    if (rc == 0) rc = sync_folder(folder, path, err);
    close(folder);
    return rc;
}
