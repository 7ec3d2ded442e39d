/* http_file.c – the file that a response's body goes to: "http.file".
 *
 *     f:write(chunk)   f:commit()   f:close()
 *
 * The bytes go into a new file beside the target, 0600, and take its name on commit, when
 * they are on disk; without commit nothing of them stays. A symbolic link of the target's
 * name is replaced, not followed. All of it happens in the thread pool, one job at a
 * time.
 */
#include "net/http_face.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_TYPE "http.file"

typedef struct file {
    unsigned refs;
    int fd;
    bool busy;  /* a job is under way */
    bool ended; /* committed or failed */
    char *path, *temporary;
} file;

typedef struct file_job {
    sr_job job;
    file *file;
    char *data;
    size_t len;
} file_job;

static void file_unref(file *f) {
    if (--f->refs) return;
    if (f->fd >= 0) close(f->fd);
    if (!f->ended && f->temporary) unlink(f->temporary);
    free(f->path);
    free(f->temporary);
    free(f);
}

/* ---------------------------------------------------------------- in the pool */

static void run_write(sr_job *job) {
    file_job *j = (file_job *)job;
    for (size_t at = 0; at < j->len;) {
        ssize_t n = write(j->file->fd, j->data + at, j->len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            sr_fail_errno(&job->err, errno, "sink: %.200s cannot be written",
                          j->file->path);
            return;
        }
        at += (size_t)n;
    }
}

static int sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder =
        slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(folder);
    if (fd < 0) return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

static void run_commit(sr_job *job) {
    file *f = ((file_job *)job)->file;
    if (fsync(f->fd) < 0 || rename(f->temporary, f->path) < 0 ||
        sync_folder(f->path) < 0) {
        sr_fail_errno(&job->err, errno, "sink: %.200s cannot be put in place", f->path);
        return;
    }
    f->ended = true;
}

/* ---------------------------------------------------------------- waiting */

static int job_finish(lua_State *L, sr_op *op) {
    sr_job *job = (sr_job *)op;
    return job->err.kind != SR_NONE ? sr_throw(L, &job->err) : 0;
}

static void job_free(sr_op *op) {
    file_job *j = (file_job *)op;
    j->file->busy = false;
    file_unref(j->file);
    free(j->data);
    free(j);
}

static const sr_op_class job_class = {"http.file", job_finish, NULL, job_free, NULL};

static file *check(lua_State *L) {
    file **box = sr_check_object(L, 1, FILE_TYPE);
    if (!*box || (*box)->ended || (*box)->busy)
        sr_raise(L, SR_USAGE, "CLOSED", "this file is closed or in use");
    return *box;
}

/* Do run in the pool with a copy of data, and wait for it. */
static int work(lua_State *L, file *f, const char *data, size_t len,
                void (*run)(sr_job *)) {
    sr_can_wait(L);
    file_job *j = calloc(1, sizeof *j);
    if (j && len && !(j->data = malloc(len))) {
        free(j);
        j = NULL;
    }
    if (!j) return luaL_error(L, "not enough memory");
    if (len) memcpy(j->data, data, len);
    j->len = len;
    j->file = f;
    f->refs++;
    f->busy = true;
    sr_op_init(&j->job.op, &job_class, sr_loop_of(L));
    sr_job_start(&j->job, SR_LANE_BLOCKING, run);
    return sr_wait(L, &j->job.op, SR_FOREVER);
}

static int l_write(lua_State *L) {
    file *f = check(L);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    return work(L, f, data, len, run_write);
}

static int l_commit(lua_State *L) {
    return work(L, check(L), NULL, 0, run_commit);
}

static int l_close(lua_State *L) {
    file **box = lua_touserdata(L, 1), *f = *box;
    *box = NULL;
    if (f) file_unref(f);
    return 0;
}

/* Create the temporary file; on failure the caller's unref frees what there is. */
static int open_file(file *f, const char *path, sr_err *err) {
    size_t size = strlen(path) + 16;
    f->fd = -1;
    f->refs = 1;
    f->path = strdup(path);
    f->temporary = malloc(size);
    if (!f->path || !f->temporary) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory");
    snprintf(f->temporary, size, "%s.XXXXXX", path);
    f->fd = mkostemp(f->temporary, O_CLOEXEC);
    if (f->fd >= 0) return 0;
    int problem = errno;
    free(f->temporary);
    f->temporary = NULL;
    return sr_fail_errno(err, problem, "sink: %.200s cannot be created", path);
}

/* http.core.file(path) */
int sr_http_l_file(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    sr_err err = {0};
    sr_allow(L, SR_PERM_WRITE, path);
    file **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, FILE_TYPE);
    *box = calloc(1, sizeof **box);
    if (!*box) return luaL_error(L, "not enough memory");
    if (open_file(*box, path, &err) < 0) return sr_throw(L, &err);
    return 1;
}

static const luaL_Reg methods[] = {
    {"write", l_write}, {"commit", l_commit}, {"close", l_close}, {NULL, NULL}};

void sr_http_file_open(lua_State *L) {
    luaL_newmetatable(L, FILE_TYPE);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}
