/* fs_lock.c – exclusive locks on files with flock(2), and the object that holds one.
 *
 * A lock belongs to one open descriptor, so two tasks of one process exclude each other
 * as two processes do, and the end of a process frees its locks. The lock file stays: to
 * remove it would let two holders lock two files of one name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "sys/fs.h"

#define LOCK_TYPE "fs.lock"

static int held(int fd, const char *path, sr_err *err) {
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    if (pid > 0)
        (void)sr_fail(err, SR_CONFLICT, "EWOULDBLOCK",
                      "%s is locked by process %ld: wait for it or end it", path, pid);
    else
        (void)sr_fail(err, SR_CONFLICT, "EWOULDBLOCK",
                      "%s is locked by another process: wait for it or end it", path);
    err->retryable = true;
    return -1;
}

static bool same_file(int fd, const char *path) {
    struct stat open_file, named;
    return fstat(fd, &open_file) == 0 && stat(path, &named) == 0 &&
           open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

static void note_holder(int fd) {
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    /* Only for the other's message; a full disk must not cost the lock. */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n) errno = 0;
}

int sr_fs_trylock(const char *path, int *ret_fd, sr_err *err) {
    /* Again when somebody removed the file between open and lock. */
    for (int round = 0; round < 8; round++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        if (fd < 0) return sr_fs_fail(err, errno, "lock", path);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int saved = errno;
            int rc = saved == EWOULDBLOCK ? held(fd, path, err)
                                          : sr_fs_fail(err, saved, "lock", path);
            close(fd);
            return rc;
        }
        if (same_file(fd, path)) {
            note_holder(fd);
            *ret_fd = fd;
            return 0;
        }
        close(fd);
    }
    return sr_fail(err, SR_CONFLICT, NULL, "cannot lock %s: it is removed all the time",
                   path);
}

/* ---------------------------------------------------------------- the object */

typedef struct lock {
    int fd; /* -1 once released */
} lock;

int *sr_fs_push_lock(lua_State *L, const char *path) {
    lock *k = lua_newuserdatauv(L, sizeof *k, 1);
    k->fd = -1;
    luaL_setmetatable(L, LOCK_TYPE);
    lua_pushstring(L, path);
    lua_setiuservalue(L, -2, 1);
    return &k->fd;
}

/* lock:close() releases; again is harmless. Closing the descriptor does not block. */
static int l_lock_close(lua_State *L) {
    lock *k = sr_check_object(L, 1, LOCK_TYPE);
    if (k->fd >= 0) close(k->fd);
    k->fd = -1;
    return 0;
}

static int l_lock_tostring(lua_State *L) {
    const lock *k = sr_check_object(L, 1, LOCK_TYPE);
    lua_getiuservalue(L, 1, 1);
    lua_pushfstring(L, "fs.lock (%s%s)", lua_tostring(L, -1),
                    k->fd < 0 ? ", released" : "");
    return 1;
}

static const luaL_Reg lock_methods[] = {{"close", l_lock_close}, {NULL, NULL}};
static const luaL_Reg lock_meta[] = {{"__close", l_lock_close},
                                     {"__gc", l_lock_close},
                                     {"__tostring", l_lock_tostring},
                                     {NULL, NULL}};

void sr_fs_open_lock(lua_State *L) {
    luaL_newmetatable(L, LOCK_TYPE);
    luaL_setfuncs(L, lock_meta, 0);
    luaL_newlib(L, lock_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
