/* store_jobs.c – "store.core": what is done to the file of a store, off the loop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_file.h"
#include "store/store_keep.h"
#include "store/store_lua.h"
#include "sys/fs.h"

typedef struct file_job {
    sr_job job; /* first */
    char *path, *other, *stamp;
    bool create, write;
    size_t count;
    sr_buf out;
} file_job;

static void job_free(sr_op *op) {
    file_job *j = (file_job *)op;
    sr_buf_free(&j->out);
    free(j->path);
    free(j->other);
    free(j->stamp);
    free(j);
}

/* The text that the job left, or nil when it left none. */
static int text_finish(lua_State *L, sr_op *op) {
    const file_job *j = (const file_job *)op;
    if (j->job.err.kind) return sr_throw(L, &j->job.err);
    if (j->out.len)
        lua_pushlstring(L, j->out.data, j->out.len);
    else
        lua_pushnil(L);
    return 1;
}

static int lines_finish(lua_State *L, sr_op *op) {
    const file_job *j = (const file_job *)op;
    if (j->job.err.kind) return sr_throw(L, &j->job.err);
    const char *line = j->out.data;
    lua_createtable(L, (int)j->count, 0);
    for (size_t i = 1; i <= j->count; i++) {
        lua_pushstring(L, line);
        lua_rawseti(L, -2, (lua_Integer)i);
        line += strlen(line) + 1;
    }
    return 1;
}

static void job_describe(const sr_op *op, char *buf, size_t size) {
    snprintf(buf, size, "%s %s", op->cls->name, ((const file_job *)op)->path);
}

/* Those that change files are steady: their end is seen before anybody cleans up. */
static const sr_op_class ready_class = {.name = "store.open",
                                        .finish = text_finish,
                                        .free = job_free,
                                        .describe = job_describe};
static const sr_op_class backup_class = {.name = "db:backup",
                                         .finish = text_finish,
                                         .free = job_free,
                                         .describe = job_describe,
                                         .steady = true};
static const sr_op_class restore_class = {.name = "store.restore",
                                          .finish = text_finish,
                                          .free = job_free,
                                          .describe = job_describe,
                                          .steady = true};
static const sr_op_class check_class = {.name = "db:check",
                                        .finish = lines_finish,
                                        .free = job_free,
                                        .describe = job_describe};

static char *copy(const char *text) {
    return text ? strdup(text) : NULL;
}

static file_job *job_new(lua_State *L, const sr_op_class *cls, const char *path,
                         const char *other, const char *stamp) {
    sr_loop *loop = sr_loop_of(L);
    sr_can_wait(L);
    file_job *j = calloc(1, sizeof *j);
    if (!j) {
        luaL_error(L, "not enough memory");
        return NULL;
    }
    sr_op_init(&j->job.op, cls, loop);
    j->path = copy(path);
    j->other = copy(other);
    j->stamp = copy(stamp);
    return j;
}

/* A copy that failed for memory shows as NULL where there should be a text. */
static int go(lua_State *L, file_job *j, bool whole, void (*run)(sr_job *)) {
    if (whole) {
        sr_job_start(&j->job, SR_LANE_BLOCKING, run);
    } else {
        (void)sr_fail(&j->job.err, SR_LIMIT, "ENOMEM", "no memory for a path");
        sr_op_done(&j->job.op);
    }
    return sr_wait(L, &j->job.op, SR_FOREVER);
}

static void ready_run(sr_job *job) {
    file_job *j = (file_job *)job;
    (void)sr_store_file_ready(j->path, j->create, j->write, &j->out, &job->err);
}

/* ready(path, create, read_only) → the resolved path of a file that may be opened */
static int l_ready(lua_State *L) {
    const char *path = sr_fs_check_path(L, 1, "store.open");
    sr_allow(L, SR_PERM_READ, path);
    bool write = !lua_toboolean(L, 3);
    if (write) sr_allow(L, SR_PERM_WRITE, path);
    file_job *j = job_new(L, &ready_class, path, NULL, NULL);
    j->create = lua_toboolean(L, 2);
    j->write = write;
    return go(L, j, j->path, ready_run);
}

static void backup_run(sr_job *job) {
    const file_job *j = (const file_job *)job;
    (void)sr_store_backup(j->path, j->other, &job->err);
}

/* backup(place, file) */
static int l_backup(lua_State *L) {
    const char *place = sr_fs_check_path(L, 1, "db:backup");
    const char *file = sr_fs_check_path(L, 2, "db:backup");
    sr_allow(L, SR_PERM_READ, place);
    sr_allow(L, SR_PERM_WRITE, file);
    file_job *j = job_new(L, &backup_class, place, file, NULL);
    return go(L, j, j->path && j->other, backup_run);
}

static void restore_run(sr_job *job) {
    file_job *j = (file_job *)job;
    (void)sr_store_restore(j->other, j->path, j->stamp, &j->out, &job->err);
}

/* restore(backup, path, stamp) → where the file that was there is kept, or nil */
static int l_restore(lua_State *L) {
    const char *backup = sr_fs_check_path(L, 1, "store.restore");
    const char *path = sr_fs_check_path(L, 2, "store.restore");
    const char *stamp = luaL_checkstring(L, 3);
    sr_allow(L, SR_PERM_READ, backup);
    sr_allow(L, SR_PERM_WRITE, path);
    file_job *j = job_new(L, &restore_class, path, backup, stamp);
    return go(L, j, j->path && j->other && j->stamp, restore_run);
}

static void check_run(sr_job *job) {
    file_job *j = (file_job *)job;
    (void)sr_store_check(j->path, &j->out, &j->count, &job->err);
}

/* check(place) → a line for each thing that is wrong */
static int l_check(lua_State *L) {
    const char *place = sr_fs_check_path(L, 1, "db:check");
    sr_allow(L, SR_PERM_READ, place);
    file_job *j = job_new(L, &check_class, place, NULL, NULL);
    return go(L, j, j->path, check_run);
}

/* newest_backup(place) → path or nil; a short look at one folder */
static int l_newest_backup(lua_State *L) {
    char path[4096];
    const char *place = sr_fs_check_path(L, 1, "store.info");
    sr_allow(L, SR_PERM_READ, place);
    if (sr_store_newest_backup(place, path, sizeof path))
        lua_pushstring(L, path);
    else
        lua_pushnil(L);
    return 1;
}

/* statements(text) → the statements of a migration, one by one */
static int l_statements(lua_State *L) {
    sr_err err = {0};
    sr_sql sql = {0};
    size_t len;
    lua_Integer n = 0;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_newtable(L);
    for (size_t at = 0; at < len; at = sql.next) {
        if (sr_sql_scan(text, len, at, &sql, &err) != 0) return sr_throw(L, &err);
        if (sql.start == sql.end) continue;
        lua_pushlstring(L, text + sql.start, sql.end - sql.start);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static const luaL_Reg functions[] = {{"ready", l_ready},
                                     {"backup", l_backup},
                                     {"restore", l_restore},
                                     {"check", l_check},
                                     {"newest_backup", l_newest_backup},
                                     {"statements", l_statements},
                                     {NULL, NULL}};

void sr_store_open_jobs(lua_State *L) {
    luaL_setfuncs(L, functions, 0);
}
