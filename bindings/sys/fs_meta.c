/* fs_meta.c – what the system says about files: errors in words, metadata, owners.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/fs.h"

/* ---------------------------------------------------------------- errors */

static const struct {
    int errnum;
    sr_kind kind;
    const char *mend;
} mends[] = {
    {ENOENT, SR_NOT_FOUND, "check the path, or make the folder first"},
    {EEXIST, SR_CONFLICT, "choose another name or remove it first"},
    {ENOSPC, SR_IO, "free some space or choose another disk"},
    {EDQUOT, SR_IO, "free some space or have the quota raised"},
    {EFBIG, SR_IO, "raise the limit of file sizes (ulimit -f)"},
    {EROFS, SR_IO, "it is mounted read-only: remount it or choose another folder"},
    {EACCES, SR_IO, "check owner and mode of it and of every folder above it"},
    {EPERM, SR_IO, "only its owner or root may, or it is marked immutable"},
    {EISDIR, SR_IO, "name a file in it"},
    {ENOTDIR, SR_IO, "a part of the path is a file, not a folder"},
    {ELOOP, SR_IO, "a symbolic link stands where none is allowed, or links form a loop"},
    {ENOTEMPTY, SR_IO, "empty it first or use fs.remove_tree"},
    {EXDEV, SR_IO, "the two are on different file systems: write a copy instead"},
    {EMFILE, SR_IO, "raise the limit of open files (ulimit -n)"},
    {ENFILE, SR_IO, "the whole system has too many open files"},
    {EIO, SR_IO, "the disk fails: see the system log"},
    {EBUSY, SR_IO, "it is in use, perhaps a mount point"},
};

void sr_fs_set_err(sr_err *err, int errnum, const char *doing, const char *path) {
    int code = uv_translate_sys_error(errnum);
    char text[128];
    uv_strerror_r(code, text, sizeof text);
    for (size_t i = 0; i < sizeof mends / sizeof *mends; i++)
        if (mends[i].errnum == errnum) {
            sr_set_err(err, mends[i].kind, uv_err_name(code), "cannot %s %s: %s: %s",
                       doing, path, text, mends[i].mend);
            return;
        }
    sr_set_errno(err, errnum, "cannot %s %s", doing, path);
}

/* ---------------------------------------------------------------- metadata */

int sr_fs_stat(const char *path, bool follow, bool *ret_found, struct stat *ret_stat,
               sr_err *err) {
    struct stat st;
    int rc = follow ? stat(path, &st) : lstat(path, &st);
    if (rc != 0 && errno != ENOENT && errno != ENOTDIR)
        return sr_fs_fail(err, errno, "look at", path);
    *ret_found = rc == 0;
    if (rc == 0) *ret_stat = st;
    return 0;
}

int sr_fs_chmod(const char *path, mode_t mode, sr_err *err) {
    return chmod(path, mode) == 0 ? 0 : sr_fs_fail(err, errno, "set the mode of", path);
}

int sr_fs_realpath(const char *path, sr_buf *out, sr_err *err) {
    char real[PATH_MAX];
    if (!realpath(path, real)) return sr_fs_fail(err, errno, "resolve", path);
    return sr_buf_puts(out, real) ? sr_fs_fail(err, ENOMEM, "resolve", path) : 0;
}

/* ---------------------------------------------------------------- owners */

/* A decimal number that is a whole word; -1, the "nobody named" of chown, is none. */
static bool number(const char *text, unsigned *ret_value) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value >= UINT_MAX) return false;
    *ret_value = (unsigned)value;
    return true;
}

static int find_user(const char *name, uid_t *ret_uid, sr_err *err) {
    struct passwd entry, *found = NULL;
    char text[4096];
    if (number(name, ret_uid)) return 0;
    int rc = getpwnam_r(name, &entry, text, sizeof text, &found);
    if (rc != 0) return sr_fail_errno(err, rc, "cannot look up the user %s", name);
    if (!found)
        return sr_fail(err, SR_NOT_FOUND, NULL, "there is no user \"%s\" here", name);
    *ret_uid = entry.pw_uid;
    return 0;
}

static int find_group(const char *name, gid_t *ret_gid, sr_err *err) {
    struct group entry, *found = NULL;
    char text[32768];
    if (number(name, ret_gid)) return 0;
    int rc = getgrnam_r(name, &entry, text, sizeof text, &found);
    if (rc != 0) return sr_fail_errno(err, rc, "cannot look up the group %s", name);
    if (!found)
        return sr_fail(err, SR_NOT_FOUND, NULL, "there is no group \"%s\" here", name);
    *ret_gid = entry.gr_gid;
    return 0;
}

int sr_fs_owner(const char *owner, uid_t *ret_uid, gid_t *ret_gid, sr_err *err) {
    const char *colon = strchr(owner, ':');
    size_t len = colon ? (size_t)(colon - owner) : strlen(owner);
    char user[256];
    uid_t uid = (uid_t)-1;
    gid_t gid = (gid_t)-1;
    if (len >= sizeof user || (colon ? !colon[1] : !*owner))
        return sr_fail(
            err, SR_USAGE, NULL,
            "the owner \"%s\" must read \"user\", \"user:group\" or \":group\"", owner);
    memcpy(user, owner, len);
    user[len] = '\0';
    if (len && find_user(user, &uid, err)) return -1;
    if (colon && find_group(colon + 1, &gid, err)) return -1;
    *ret_uid = uid;
    *ret_gid = gid;
    return 0;
}

int sr_fs_chown(const char *path, const char *owner, sr_err *err) {
    uid_t uid;
    gid_t gid;
    if (sr_fs_owner(owner, &uid, &gid, err)) return -1;
    if (lchown(path, uid, gid) == 0) return 0;
    return sr_fs_fail(err, errno, "set the owner of", path);
}

/* ---------------------------------------------------------------- trust */

static int check_entry(const char *path, sr_err *err) {
    struct stat st;
    if (stat(path, &st) != 0) return sr_fs_fail(err, errno, "look at", path);
    bool sticky = S_ISDIR(st.st_mode) && st.st_mode & S_ISVTX;
    if (st.st_uid != 0)
        return sr_fail(err, SR_DENIED, NULL,
                       "%s belongs to user %u: root does not trust it: chown root %s",
                       path, (unsigned)st.st_uid, path);
    if (st.st_mode & 022 && !sticky)
        return sr_fail(err, SR_DENIED, NULL,
                       "%s can be written by others (mode %04o): root does not trust it: "
                       "chmod go-w %s",
                       path, (unsigned)st.st_mode & 07777, path);
    return 0;
}

/* The entry and every folder above it; `path` is absolute and cut shorter on the way. */
static int check_chain(char *path, sr_err *err) {
    for (;;) {
        if (check_entry(path, err)) return -1;
        char *slash = strrchr(path, '/');
        if (!slash || !path[1]) return 0;
        slash[slash == path] = '\0';
    }
}

int sr_fs_check_owner(const char *path, sr_err *err) {
    char named[PATH_MAX], real[PATH_MAX], cwd[PATH_MAX];
    int n;
    if (geteuid() != 0) return 0;
    if (!realpath(path, real)) return sr_fs_fail(err, errno, "look at", path);
    if (*path != '/' && !getcwd(cwd, sizeof cwd))
        return sr_fs_fail(err, errno, "find the folder of", path);
    n = *path == '/' ? snprintf(named, sizeof named, "%s", path)
                     : snprintf(named, sizeof named, "%s/%s", cwd, path);
    if (n < 0 || (size_t)n >= sizeof named)
        return sr_fs_fail(err, ENAMETOOLONG, "look at", path);
    return check_chain(named, err) || check_chain(real, err) ? -1 : 0;
}
