/* store_jobs.c – "store.core": what is done to the file of a store, off the loop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_file.h"
#include "store/store_lua.h"
#include "sys/fs.h"

typedef struct file_job {
    sr_job job; /* first */
    char *path;
    bool create;
    sr_buf place;
} file_job;

static void job_free(sr_op *op) {
    file_job *j = (file_job *)op;
    sr_buf_free(&j->place);
    free(j->path);
    free(j);
}

static int ready_finish(lua_State *L, sr_op *op) {
    const file_job *j = (const file_job *)op;
    if (j->job.err.kind) return sr_throw(L, &j->job.err);
    lua_pushlstring(L, j->place.data, j->place.len);
    return 1;
}

static const sr_op_class ready_class = {
    .name = "store.open", .finish = ready_finish, .free = job_free};

static file_job *job_new(lua_State *L, const sr_op_class *cls, const char *path) {
    sr_loop *loop = sr_loop_of(L);
    sr_can_wait(L);
    file_job *j = calloc(1, sizeof *j);
    if (j) j->path = strdup(path);
    if (!j || !j->path) {
        free(j);
        luaL_error(L, "not enough memory");
        return NULL;
    }
    sr_op_init(&j->job.op, cls, loop);
    return j;
}

static void ready_run(sr_job *job) {
    file_job *j = (file_job *)job;
    (void)sr_store_file_ready(j->path, j->create, &j->place, &job->err);
}

/* ready(path, create, read_only) → the resolved path of a file that may be opened */
static int l_ready(lua_State *L) {
    const char *path = sr_fs_check_path(L, 1, "store.open");
    sr_allow(L, SR_PERM_READ, path);
    if (!lua_toboolean(L, 3)) sr_allow(L, SR_PERM_WRITE, path);
    file_job *j = job_new(L, &ready_class, path);
    j->create = lua_toboolean(L, 2);
    sr_job_start(&j->job, SR_LANE_BLOCKING, ready_run);
    return sr_wait(L, &j->job.op, SR_FOREVER);
}

/* statements(text) → the statements of a migration, one by one */
static int l_statements(lua_State *L) {
    sr_err err;
    sr_sql sql;
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

void sr_store_open_jobs(lua_State *L) {
    lua_pushcfunction(L, l_statements);
    lua_setfield(L, -2, "statements");
    lua_pushcfunction(L, l_ready);
    lua_setfield(L, -2, "ready");
}
