/* fs_folder_lua.c – fs.folder and the object it gives: several operations on one folder
 * with one descriptor, each a job off the loop.
 *
 *     local folder <close>, names = fs.folder(path, {make = true, lock = true})
 *
 * The descriptors live in a handle that the object and every job under way share, so that
 * closing the object in the middle of a job neither pulls the descriptor away nor frees
 * the lock too early. Handles are counted on the loop's thread only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sys/fs.h"

#define FOLDER_TYPE "fs.folder"

typedef struct handle {
    sr_fs_folder folder;
    unsigned refs;
    char path[];
} handle;

typedef struct object {
    handle *handle; /* NULL once closed */
} object;

typedef struct folder_job folder_job;

typedef struct verb {
    const char *name;
    int (*run)(folder_job *j, sr_err *err);         /* in the pool */
    int (*push)(lua_State *L, const folder_job *j); /* in the task; NULL: no result */
} verb;

struct folder_job {
    sr_job job; /* first */
    const verb *verb;
    handle *handle;
    sr_buf names; /* each ended by NUL */
    sr_buf path;  /* of the file, for messages */
    sr_buf data;  /* in for writing, out for reading */
    sr_fs_folder_opts open;
    sr_fs_write_opts write;
    size_t max; /* bytes to read; names that are removed durably */
    bool found;
};

static void handle_unref(handle *h) {
    if (!h || --h->refs) return;
    sr_fs_folder_close(&h->folder);
    sr_buf_free(&h->folder.names);
    free(h);
}

/* ---------------------------------------------------------------- the job */

static void job_run(sr_job *job) {
    folder_job *j = (folder_job *)job;
    (void)j->verb->run(j, &job->err);
}

static int job_finish(lua_State *L, sr_op *op) {
    const folder_job *j = (const folder_job *)op;
    if (j->job.err.kind) return sr_throw(L, &j->job.err);
    return j->verb->push ? j->verb->push(L, j) : 0;
}

static void job_free(sr_op *op) {
    folder_job *j = (folder_job *)op;
    handle_unref(j->handle);
    sr_buf_free(&j->names);
    sr_buf_free(&j->path);
    sr_buf_free(&j->data);
    free(j);
}

static void job_describe(const sr_op *op, char *buf, size_t size) {
    const folder_job *j = (const folder_job *)op;
    snprintf(buf, size, "%s %s", j->verb->name,
             j->path.len ? j->path.data : j->handle->path);
}

/* A cancelled task sees the end first, so that nothing changes behind its clean-up. */
static const sr_op_class folder_class = {.name = "fs",
                                         .finish = job_finish,
                                         .free = job_free,
                                         .describe = job_describe,
                                         .steady = true};

/* Takes the reference to the handle over. Raises only after giving it back. */
static folder_job *job_new(lua_State *L, const verb *v, handle *h) {
    folder_job *j = h ? calloc(1, sizeof *j) : NULL;
    if (!j) {
        handle_unref(h);
        luaL_error(L, "not enough memory");
        return NULL;
    }
    j->verb = v;
    j->handle = h;
    j->data.secret = true; /* may be a key */
    sr_op_init(&j->job.op, &folder_class, sr_loop_of(L));
    return j;
}

static int job_go(lua_State *L, folder_job *j) {
    if (j->names.oom || j->path.oom || j->data.oom) {
        (void)sr_fail(&j->job.err, SR_LIMIT, "ENOMEM", "no memory for %s", j->verb->name);
        sr_op_done(&j->job.op);
    } else {
        sr_job_start(&j->job, SR_LANE_BLOCKING, job_run);
    }
    return sr_wait(L, &j->job.op, SR_FOREVER);
}

/* ---------------------------------------------------------------- fs.folder */

static int run_open(folder_job *j, sr_err *err) {
    return sr_fs_folder_open(j->handle->path, &j->open, &j->handle->folder, err);
}

static int push_folder(lua_State *L, const folder_job *j) {
    object *o = lua_newuserdatauv(L, sizeof *o, 0);
    handle *h = j->handle;
    o->handle = h;
    h->refs++;
    luaL_setmetatable(L, FOLDER_TYPE);
    lua_newtable(L);
    for (size_t at = 0; at < h->folder.names.len;) {
        const char *name = h->folder.names.data + at;
        lua_pushboolean(L, true);
        lua_setfield(L, -2, name);
        at += strlen(name) + 1;
    }
    return 2;
}

static const verb open_verb = {"fs.folder", run_open, push_folder};

static const sr_arg open_args[] = {
    {"make", SR_BOOL, 0, "false", "it and those above, when it lacks"},
    {"mode", SR_ANY, 0, "\"0700\"", "of a folder that is made, octal text"},
    {"lock", SR_BOOL, 0, "false", "exclusively, or conflict"},
    {0}};
static const sr_spec open_spec = {"fs.folder", "Open a folder.", open_args};

/* folder(path, options) → folder, names as a set */
int sr_fs_l_folder(lua_State *L) {
    sr_fs_folder_opts opts = {.mode = 0700};
    lua_settop(L, 2);
    const char *path = sr_fs_check_path(L, 1, "fs.folder");
    sr_args(L, 2, &open_spec);
    if (sr_arg_push(L, 2, "mode") != LUA_TNIL)
        opts.mode = sr_fs_to_mode(L, -1, "fs.folder");
    opts.make = sr_arg_bool(L, 2, "make", false);
    opts.lock = sr_arg_bool(L, 2, "lock", false);
    sr_allow(L, opts.make || opts.lock ? SR_PERM_WRITE : SR_PERM_READ, path);
    sr_can_wait(L);
    handle *h = calloc(1, sizeof *h + strlen(path) + 1);
    if (h) {
        memcpy(h->path, path, strlen(path) + 1);
        h->folder.fd = h->folder.lock_fd = -1;
        h->refs = 1;
    }
    folder_job *j = job_new(L, &open_verb, h);
    j->open = opts;
    return job_go(L, j);
}

/* ---------------------------------------------------------------- methods */

static handle *check_open(lua_State *L) {
    const object *o = sr_check_object(L, 1, FOLDER_TYPE);
    if (!o->handle) (void)sr_raise(L, SR_USAGE, "closed", "the folder was closed");
    return o->handle;
}

/* A name in the folder at idx, allowed for `perm`: leaves its path at the stack's top. */
static const char *check_name(lua_State *L, const handle *h, int idx, sr_perm perm) {
    size_t len = 0;
    const char *name = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &len) : "";
    if (!len || strlen(name) != len || strchr(name, '/') || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0)
        (void)sr_raise(L, SR_USAGE, NULL, "a name of a file in %s is expected, got %s",
                       h->path, luaL_tolstring(L, idx, NULL));
    lua_pushfstring(L, "%s/%s", h->path, name);
    sr_allow(L, perm, lua_tostring(L, -1));
    return name;
}

/* A job about the file whose path is at the stack's top. */
static folder_job *file_job(lua_State *L, const verb *v, handle *h, const char *name) {
    sr_can_wait(L);
    h->refs++;
    folder_job *j = job_new(L, v, h);
    (void)sr_buf_append(&j->names, name, strlen(name) + 1); /* job_go sees a failure */
    (void)sr_buf_puts(&j->path, lua_tostring(L, -1));
    return j;
}

static int run_read(folder_job *j, sr_err *err) {
    int rc = sr_fs_read_at(j->handle->folder.fd, j->path.data, j->names.data, j->max,
                           NULL, &j->data, err);
    j->found = rc == 0;
    if (rc == 0 || err->kind != SR_NOT_FOUND) return rc;
    *err = (sr_err){0};
    return 0;
}

static int push_content(lua_State *L, const folder_job *j) {
    if (j->found)
        lua_pushlstring(L, j->data.data ? j->data.data : "", j->data.len);
    else
        lua_pushnil(L);
    return 1;
}

static const verb read_verb = {"folder:read", run_read, push_content};
static const sr_arg read_args[] = {
    {"max", SR_INT, SR_POSITIVE, "16777216", "bytes; a larger file is an error"}, {0}};
static const sr_spec read_spec = {"folder:read", "Read a whole file.", read_args};

static int l_read(lua_State *L) {
    lua_settop(L, 3);
    handle *h = check_open(L);
    sr_args(L, 3, &read_spec);
    size_t max = (size_t)sr_arg_int(L, 3, "max", SR_FS_READ_MAX);
    const char *name = check_name(L, h, 2, SR_PERM_READ);
    folder_job *j = file_job(L, &read_verb, h, name);
    j->max = max;
    return job_go(L, j);
}

static int run_write(folder_job *j, sr_err *err) {
    return sr_fs_write_at(j->handle->folder.fd, j->path.data, j->names.data, j->data.data,
                          j->data.len, &j->write, err);
}

static const verb write_verb = {"folder:write", run_write, NULL};
static const sr_arg write_args[] = {
    {"mode", SR_ANY, 0, "\"0600\"", "octal text; exact, whatever the umask"},
    {"fsync", SR_BOOL, 0, "true", "file and folder reach the disk before this returns"},
    {0}};
static const sr_spec write_spec = {"folder:write", "Write a whole file.", write_args};

static int l_write(lua_State *L) {
    size_t len;
    sr_fs_write_opts o = {.mode = 0600, .atomic = true};
    lua_settop(L, 4);
    handle *h = check_open(L);
    const char *data = sr_check_secret(L, 3, &len);
    sr_args(L, 4, &write_spec);
    if (sr_arg_push(L, 4, "mode") != LUA_TNIL)
        o.mode = sr_fs_to_mode(L, -1, "folder:write");
    o.sync = sr_arg_bool(L, 4, "fsync", true);
    const char *name = check_name(L, h, 2, SR_PERM_WRITE);
    folder_job *j = file_job(L, &write_verb, h, name);
    j->write = o;
    (void)sr_buf_append(&j->data, data, len); /* job_go sees a failure */
    return job_go(L, j);
}

static int run_remove(folder_job *j, sr_err *err) {
    return sr_fs_remove_at(j->handle->folder.fd, j->handle->path, j->names.data,
                           j->names.len, j->max, err);
}

static const verb remove_verb = {"folder:remove", run_remove, NULL};
static const sr_arg remove_args[] = {
    {"durable", SR_INT, 0, "all",
     "how many of the first are gone for good before the next "
     "goes; the others may come back after a power cut"},
    {0}};
static const sr_spec remove_spec = {"folder:remove", "Remove files.", remove_args};

static int l_remove(lua_State *L) {
    lua_settop(L, 3);
    handle *h = check_open(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    sr_args(L, 3, &remove_spec);
    lua_Integer count = luaL_len(L, 2);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_geti(L, 2, i);
        check_name(L, h, 4, SR_PERM_WRITE);
        lua_settop(L, 3);
    }
    sr_can_wait(L);
    h->refs++;
    folder_job *j = job_new(L, &remove_verb, h);
    for (lua_Integer i = 1; i <= count; i++) {
        size_t len;
        lua_rawgeti(L, 2, i);
        const char *name = lua_tolstring(L, -1, &len);
        (void)sr_buf_append(&j->names, name, len + 1); /* job_go sees a failure */
        lua_pop(L, 1);
    }
    j->max = (size_t)sr_arg_int(L, 3, "durable", count);
    return job_go(L, j);
}

/* Closing descriptors of a folder does not block. */
static int l_close(lua_State *L) {
    object *o = sr_check_object(L, 1, FOLDER_TYPE);
    handle *h = o->handle;
    o->handle = NULL;
    handle_unref(h);
    return 0;
}

static int l_tostring(lua_State *L) {
    const object *o = sr_check_object(L, 1, FOLDER_TYPE);
    lua_pushfstring(L, "fs.folder (%s)", o->handle ? o->handle->path : "closed");
    return 1;
}

static const luaL_Reg methods[] = {{"read", l_read},
                                   {"write", l_write},
                                   {"remove", l_remove},
                                   {"close", l_close},
                                   {NULL, NULL}};
static const luaL_Reg meta[] = {
    {"__close", l_close}, {"__gc", l_close}, {"__tostring", l_tostring}, {NULL, NULL}};

void sr_fs_open_folder(lua_State *L) {
    luaL_newmetatable(L, FOLDER_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
