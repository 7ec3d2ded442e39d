/* fs.c – the module "fs.core": every file operation as a job off the loop.
 *
 * A face checks its arguments and asks for permission, both on the loop; then one fs_job
 * carries copies of everything to the pool and the results back. A job that changes
 * something is steady: a cancelled task sees its end first, so that nothing changes
 * behind the back of the clean-up. One that only looks is let go of.
 *
 * fs.lua adds what is order and choice: waiting for a lock, temporary folders.
 */
#include "sys/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "open.h"

typedef struct fs_job fs_job;

typedef struct verb {
    const char *name;
    int (*run)(fs_job *j, sr_err *err);         /* in the pool */
    int (*push)(lua_State *L, const fs_job *j); /* in the task; NULL: no result */
    bool changes;
} verb;

struct fs_job {
    sr_job job; /* first */
    const verb *verb;
    char *path, *other; /* other: second path or owner */
    sr_buf data;        /* in for writing, out for reading */
    sr_fs_write_opts write;
    size_t max, count;
    mode_t mode;
    bool flag; /* of the verb: parents, follow, missing_ok; out: found, made */
    volatile bool stop;
    struct stat st;
    int fd;
};

/* ---------------------------------------------------------------- the job */

static void job_run(sr_job *job) {
    fs_job *j = (fs_job *)job;
    (void)j->verb->run(j, &job->err);
}

static int job_finish(lua_State *L, sr_op *op) {
    const fs_job *j = (const fs_job *)op;
    if (j->job.err.kind) return sr_throw(L, &j->job.err);
    return j->verb->push ? j->verb->push(L, j) : 0;
}

static void job_cancel(sr_op *op) {
    ((fs_job *)op)->stop = true;
}

static void job_free(sr_op *op) {
    fs_job *j = (fs_job *)op;
    if (j->fd >= 0) close(j->fd);
    sr_buf_free(&j->data);
    free(j->path);
    free(j->other);
    free(j);
}

static void job_describe(const sr_op *op, char *buf, size_t size) {
    const fs_job *j = (const fs_job *)op;
    snprintf(buf, size, "%s %s", j->verb->name, j->path);
}

static const sr_op_class look_class = {.name = "fs",
                                       .finish = job_finish,
                                       .cancel = job_cancel,
                                       .free = job_free,
                                       .describe = job_describe};
static const sr_op_class change_class = {.name = "fs",
                                         .finish = job_finish,
                                         .free = job_free,
                                         .describe = job_describe,
                                         .steady = true};

/* Raises only before anything is allocated, or after freeing it. */
static fs_job *job_new(lua_State *L, const verb *v, const char *path, const char *other) {
    sr_loop *loop = sr_loop_of(L);
    sr_can_wait(L);
    fs_job *j = calloc(1, sizeof *j);
    if (j) {
        j->verb = v;
        j->fd = -1;
        j->path = strdup(path);
        j->other = other ? strdup(other) : NULL;
    }
    if (!j || !j->path || (other && !j->other)) {
        if (j) free(j->path);
        free(j);
        luaL_error(L, "not enough memory");
        return NULL;
    }
    sr_op_init(&j->job.op, v->changes ? &change_class : &look_class, loop);
    return j;
}

static int job_go(lua_State *L, fs_job *j) {
    sr_job_start(&j->job, SR_LANE_BLOCKING, job_run);
    return sr_wait(L, &j->job.op, SR_FOREVER);
}

/* ---------------------------------------------------------------- arguments */

const char *sr_fs_check_path(lua_State *L, int idx, const char *function) {
    size_t len;
    if (lua_type(L, idx) != LUA_TSTRING) {
        (void)sr_raise(L, SR_USAGE, NULL, "%s expects a path, got %s", function,
                       luaL_typename(L, idx));
        return NULL;
    }
    const char *path = lua_tolstring(L, idx, &len);
    if (!len) (void)sr_raise(L, SR_USAGE, NULL, "%s: the path is empty", function);
    if (strlen(path) != len)
        (void)sr_raise(L, SR_USAGE, NULL, "%s: the path holds a NUL byte", function);
    return path;
}

static const char *allowed_path(lua_State *L, int idx, const char *function,
                                sr_perm perm) {
    const char *path = sr_fs_check_path(L, idx, function);
    sr_allow(L, perm, path);
    return path;
}

/* "0640" or the number; decimal 640, a common slip, is caught by its sticky bit. */
mode_t sr_fs_to_mode(lua_State *L, int idx, const char *function) {
    char *end = NULL;
    long mode = -1;
    if (lua_type(L, idx) == LUA_TSTRING) {
        const char *text = lua_tostring(L, idx);
        mode = *text >= '0' && *text <= '7' ? strtol(text, &end, 8) : -1;
        if (end && *end) mode = -1;
    } else if (lua_isinteger(L, idx) && lua_tointeger(L, idx) <= 0777) {
        mode = (long)lua_tointeger(L, idx);
    }
    if (mode < 0 || mode > 07777)
        (void)sr_raise(L, SR_USAGE, NULL,
                       "%s: mode must be octal digits as text, such as \"0600\", got %s",
                       function, luaL_tolstring(L, idx, NULL));
    return (mode_t)mode;
}

/* The option `mode` of the table at idx; *ret_set tells whether it is there. */
static mode_t mode_option(lua_State *L, int idx, const char *function, mode_t fallback,
                          bool *ret_set) {
    bool set = sr_arg_push(L, idx, "mode") != LUA_TNIL;
    mode_t mode = set ? sr_fs_to_mode(L, -1, function) : fallback;
    lua_pop(L, 1);
    if (ret_set) *ret_set = set;
    return mode;
}

/* ---------------------------------------------------------------- read */

static int run_read(fs_job *j, sr_err *err) {
    return sr_fs_read(j->path, j->max, &j->stop, &j->data, err);
}

static int push_data(lua_State *L, const fs_job *j) {
    lua_pushlstring(L, j->data.data ? j->data.data : "", j->data.len);
    return 1;
}

static const verb read_verb = {"fs.read", run_read, push_data};
static const sr_arg read_args[] = {
    {"max", SR_INT, SR_POSITIVE, "16777216", "bytes; a larger file is an error"}, {0}};
static const sr_spec read_spec = {"fs.read", "Read a whole file.", read_args};

static int l_read(lua_State *L) {
    lua_settop(L, 2);
    const char *path = sr_fs_check_path(L, 1, "fs.read");
    sr_args(L, 2, &read_spec);
    size_t max = (size_t)sr_arg_int(L, 2, "max", SR_FS_READ_MAX);
    sr_allow(L, SR_PERM_READ, path);
    fs_job *j = job_new(L, &read_verb, path, NULL);
    j->max = max;
    return job_go(L, j);
}

/* ---------------------------------------------------------------- write, append */

static int run_write(fs_job *j, sr_err *err) {
    j->write.owner = j->other;
    return sr_fs_write(j->path, j->data.data, j->data.len, &j->write, err);
}

static int run_append(fs_job *j, sr_err *err) {
    return sr_fs_append(j->path, j->data.data, j->data.len, j->write.mode, j->write.sync,
                        err);
}

static const verb write_verb = {"fs.write", run_write, NULL, true};
static const verb append_verb = {"fs.append", run_append, NULL, true};

static const sr_arg write_args[] = {
    {"mode", SR_ANY, 0, "\"0600\"", "octal text; exact, whatever the umask"},
    {"atomic", SR_BOOL, 0, "true", "temporary file and rename"},
    {"fsync", SR_BOOL, 0, "true", "file and folder reach the disk before this returns"},
    {"owner", SR_STRING, SR_NONEMPTY, NULL, "\"user\", \"user:group\" or \":group\""},
    {"exclusive", SR_BOOL, 0, "false", "conflict when the name exists"},
    {0}};
static const sr_spec write_spec = {"fs.write", "Write a whole file.", write_args};
static const sr_arg append_args[] = {
    {"mode", SR_ANY, 0, "\"0600\"", "of a file that is made"},
    {"fsync", SR_BOOL, 0, "true", "the bytes reach the disk before this returns"},
    {0}};
static const sr_spec append_spec = {"fs.append", "Add to the end of a file.",
                                    append_args};

/* Start a job that writes the string or secret at index 2. */
static int go_writing(lua_State *L, const verb *v, const char *path, const char *owner,
                      const sr_fs_write_opts *o) {
    size_t len;
    const char *data = sr_check_secret(L, 2, &len);
    sr_allow(L, SR_PERM_WRITE, path);
    fs_job *j = job_new(L, v, path, owner);
    j->write = *o;
    j->data.secret = true; /* a plain string may be a key just as well */
    if (sr_buf_append(&j->data, data, len)) {
        (void)sr_fail(&j->job.err, SR_LIMIT, "ENOMEM", "no memory to write %s", path);
        sr_op_done(&j->job.op);
        return sr_wait(L, &j->job.op, SR_FOREVER);
    }
    return job_go(L, j);
}

static int l_write(lua_State *L) {
    sr_fs_write_opts o = {0};
    lua_settop(L, 3);
    const char *path = sr_fs_check_path(L, 1, "fs.write");
    sr_args(L, 3, &write_spec);
    o.mode = mode_option(L, 3, "fs.write", 0600, &o.mode_set);
    o.atomic = sr_arg_bool(L, 3, "atomic", true);
    o.sync = sr_arg_bool(L, 3, "fsync", true);
    o.exclusive = sr_arg_bool(L, 3, "exclusive", false);
    return go_writing(L, &write_verb, path, sr_arg_string(L, 3, "owner", NULL, NULL), &o);
}

static int l_append(lua_State *L) {
    sr_fs_write_opts o = {0};
    lua_settop(L, 3);
    const char *path = sr_fs_check_path(L, 1, "fs.append");
    sr_args(L, 3, &append_spec);
    o.mode = mode_option(L, 3, "fs.append", 0600, NULL);
    o.sync = sr_arg_bool(L, 3, "fsync", true);
    return go_writing(L, &append_verb, path, NULL, &o);
}

/* ---------------------------------------------------------------- folders, names */

static int push_flag(lua_State *L, const fs_job *j) {
    lua_pushboolean(L, j->flag);
    return 1;
}

static int run_mkdir(fs_job *j, sr_err *err) {
    return sr_fs_mkdir(j->path, j->mode, j->flag, &j->flag, err);
}

static const verb mkdir_verb = {"fs.mkdir", run_mkdir, push_flag, true};
static const sr_arg mkdir_args[] = {
    {"path", SR_STRING, SR_NONEMPTY, NULL, "the folder, when not the first argument"},
    {"parents", SR_BOOL, 0, "false", "make those above; one that exists is no error"},
    {"mode", SR_ANY, 0, "\"0755\"", "octal text; exact, whatever the umask"},
    {0}};
static const sr_spec mkdir_spec = {"fs.mkdir", "Make a folder.", mkdir_args};

static int l_mkdir(lua_State *L) {
    if (lua_istable(L, 1)) {
        lua_settop(L, 1);
        lua_getfield(L, 1, "path");
        lua_insert(L, 1); /* path, options */
    }
    lua_settop(L, 2);
    const char *path = sr_fs_check_path(L, 1, "fs.mkdir");
    sr_args(L, 2, &mkdir_spec);
    mode_t mode = mode_option(L, 2, "fs.mkdir", 0755, NULL);
    bool parents = sr_arg_bool(L, 2, "parents", false);
    sr_allow(L, SR_PERM_WRITE, path);
    fs_job *j = job_new(L, &mkdir_verb, path, NULL);
    j->mode = mode;
    j->flag = parents;
    return job_go(L, j);
}

/* With flag (missing_ok) nothing to remove is no error; the result says which it was. */
static int settle_missing(fs_job *j, int rc, sr_err *err) {
    bool missing_ok = j->flag;
    j->flag = rc == 0;
    if (rc == 0 || !missing_ok || err->kind != SR_NOT_FOUND) return rc;
    *err = (sr_err){0};
    return 0;
}

static int run_remove(fs_job *j, sr_err *err) {
    return settle_missing(j, sr_fs_remove(j->path, err), err);
}

static int run_remove_tree(fs_job *j, sr_err *err) {
    return settle_missing(j, sr_fs_remove_tree(j->path, err), err);
}

static const verb remove_verb = {"fs.remove", run_remove, push_flag, true};
static const verb remove_tree_verb = {"fs.remove_tree", run_remove_tree, push_flag, true};
static const sr_arg remove_args[] = {
    {"missing_ok", SR_BOOL, 0, "false", "nothing there is no error"}, {0}};
static const sr_spec remove_spec = {"fs.remove", "Remove a file.", remove_args};
static const sr_spec remove_tree_spec = {"fs.remove_tree", "Remove a folder.",
                                         remove_args};

static int removing(lua_State *L, const verb *v, const sr_spec *spec) {
    lua_settop(L, 2);
    const char *path = sr_fs_check_path(L, 1, v->name);
    sr_args(L, 2, spec);
    bool missing_ok = sr_arg_bool(L, 2, "missing_ok", false);
    sr_allow(L, SR_PERM_WRITE, path);
    fs_job *j = job_new(L, v, path, NULL);
    j->flag = missing_ok;
    return job_go(L, j);
}

static int l_remove(lua_State *L) {
    return removing(L, &remove_verb, &remove_spec);
}

static int l_remove_tree(lua_State *L) {
    return removing(L, &remove_tree_verb, &remove_tree_spec);
}

static int run_rename(fs_job *j, sr_err *err) {
    return sr_fs_rename(j->path, j->other, err);
}

static const verb rename_verb = {"fs.rename", run_rename, NULL, true};

static int l_rename(lua_State *L) {
    const char *from = allowed_path(L, 1, "fs.rename", SR_PERM_WRITE);
    const char *to = allowed_path(L, 2, "fs.rename", SR_PERM_WRITE);
    return job_go(L, job_new(L, &rename_verb, from, to));
}

static int run_symlink(fs_job *j, sr_err *err) {
    return sr_fs_symlink(j->other, j->path, err);
}

static int run_symlink_replace(fs_job *j, sr_err *err) {
    return sr_fs_symlink_replace(j->other, j->path, err);
}

static const verb symlink_verb = {"fs.symlink", run_symlink, NULL, true};
static const verb symlink_replace_verb = {"fs.symlink_replace", run_symlink_replace, NULL,
                                          true};

static int linking(lua_State *L, const verb *v) {
    const char *target = sr_fs_check_path(L, 1, v->name);
    const char *path = allowed_path(L, 2, v->name, SR_PERM_WRITE);
    return job_go(L, job_new(L, v, path, target));
}

static int l_symlink(lua_State *L) {
    return linking(L, &symlink_verb);
}
static int l_symlink_replace(lua_State *L) {
    return linking(L, &symlink_replace_verb);
}

static int run_readlink(fs_job *j, sr_err *err) {
    return sr_fs_readlink(j->path, &j->data, err);
}

static const verb readlink_verb = {"fs.readlink", run_readlink, push_data};

static int l_readlink(lua_State *L) {
    const char *path = allowed_path(L, 1, "fs.readlink", SR_PERM_READ);
    return job_go(L, job_new(L, &readlink_verb, path, NULL));
}

static int run_realpath(fs_job *j, sr_err *err) {
    return sr_fs_realpath(j->path, &j->data, err);
}

static const verb realpath_verb = {"fs.realpath", run_realpath, push_data};

static int l_realpath(lua_State *L) {
    const char *path = allowed_path(L, 1, "fs.realpath", SR_PERM_READ);
    return job_go(L, job_new(L, &realpath_verb, path, NULL));
}

static int run_list(fs_job *j, sr_err *err) {
    return sr_fs_list(j->path, &j->data, &j->count, err);
}

static int push_list(lua_State *L, const fs_job *j) {
    const char *name = j->data.data;
    lua_createtable(L, (int)j->count, 0);
    for (size_t i = 1; i <= j->count; i++) {
        lua_pushstring(L, name);
        lua_rawseti(L, -2, (lua_Integer)i);
        name += strlen(name) + 1;
    }
    return 1;
}

static const verb list_verb = {"fs.list", run_list, push_list};

static int l_list(lua_State *L) {
    const char *path = allowed_path(L, 1, "fs.list", SR_PERM_READ);
    return job_go(L, job_new(L, &list_verb, path, NULL));
}

static int run_tmpdir(fs_job *j, sr_err *err) {
    return sr_fs_tmpdir(j->path, &j->data, err);
}

static const verb tmpdir_verb = {"fs.tmpdir", run_tmpdir, push_data, true};

/* make_tmpdir(base?) → path; base is $TMPDIR or /tmp */
static int l_make_tmpdir(lua_State *L) {
    const char *base = getenv("TMPDIR");
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_pushstring(L, base && *base == '/' ? base : "/tmp");
        lua_replace(L, 1);
    }
    base = allowed_path(L, 1, "fs.tmpdir", SR_PERM_WRITE);
    return job_go(L, job_new(L, &tmpdir_verb, base, NULL));
}

/* ---------------------------------------------------------------- metadata */

static int run_stat(fs_job *j, sr_err *err) {
    return sr_fs_stat(j->path, j->flag, &j->flag, &j->st, err);
}

static const char *type_name(mode_t mode) {
    static const struct {
        mode_t type;
        const char *name;
    } names[] = {{S_IFREG, "file"}, {S_IFDIR, "directory"}, {S_IFLNK, "link"},
                 {S_IFIFO, "fifo"}, {S_IFSOCK, "socket"},   {S_IFCHR, "char"},
                 {S_IFBLK, "block"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((mode & S_IFMT) == names[i].type) return names[i].name;
    return "other";
}

static void set_integer(lua_State *L, const char *key, lua_Integer value) {
    lua_pushinteger(L, value);
    lua_setfield(L, -2, key);
}

static int push_stat(lua_State *L, const fs_job *j) {
    char mode[8];
    if (!j->flag) {
        lua_pushnil(L);
        return 1;
    }
    snprintf(mode, sizeof mode, "%04o", (unsigned)j->st.st_mode & 07777);
    lua_createtable(L, 0, 9);
    lua_pushstring(L, type_name(j->st.st_mode));
    lua_setfield(L, -2, "type");
    lua_pushstring(L, mode);
    lua_setfield(L, -2, "mode");
    lua_pushnumber(L, (double)j->st.st_mtim.tv_sec + (double)j->st.st_mtim.tv_nsec / 1e9);
    lua_setfield(L, -2, "mtime");
    set_integer(L, "size", j->st.st_size);
    set_integer(L, "uid", j->st.st_uid);
    set_integer(L, "gid", j->st.st_gid);
    set_integer(L, "nlink", (lua_Integer)j->st.st_nlink);
    set_integer(L, "inode", (lua_Integer)j->st.st_ino);
    set_integer(L, "device", (lua_Integer)j->st.st_dev);
    return 1;
}

static const verb stat_verb = {"fs.stat", run_stat, push_stat};
static const verb exists_verb = {"fs.exists", run_stat, push_flag};
static const sr_arg stat_args[] = {
    {"follow", SR_BOOL, 0, "true", "false: look at a symbolic link itself"}, {0}};
static const sr_spec stat_spec = {"fs.stat", "Metadata of a file.", stat_args};
static const sr_spec exists_spec = {"fs.exists", "Whether a path exists.", stat_args};

static int looking(lua_State *L, const verb *v, const sr_spec *spec) {
    lua_settop(L, 2);
    const char *path = sr_fs_check_path(L, 1, v->name);
    sr_args(L, 2, spec);
    bool follow = sr_arg_bool(L, 2, "follow", true);
    sr_allow(L, SR_PERM_READ, path);
    fs_job *j = job_new(L, v, path, NULL);
    j->flag = follow;
    return job_go(L, j);
}

static int l_stat(lua_State *L) {
    return looking(L, &stat_verb, &stat_spec);
}
static int l_exists(lua_State *L) {
    return looking(L, &exists_verb, &exists_spec);
}

static int run_chmod(fs_job *j, sr_err *err) {
    return sr_fs_chmod(j->path, j->mode, err);
}

static const verb chmod_verb = {"fs.chmod", run_chmod, NULL, true};

static int l_chmod(lua_State *L) {
    const char *path = sr_fs_check_path(L, 1, "fs.chmod");
    mode_t mode = sr_fs_to_mode(L, 2, "fs.chmod");
    sr_allow(L, SR_PERM_WRITE, path);
    fs_job *j = job_new(L, &chmod_verb, path, NULL);
    j->mode = mode;
    return job_go(L, j);
}

static int run_chown(fs_job *j, sr_err *err) {
    return sr_fs_chown(j->path, j->other, err);
}

static const verb chown_verb = {"fs.chown", run_chown, NULL, true};

static int l_chown(lua_State *L) {
    const char *path = sr_fs_check_path(L, 1, "fs.chown");
    const char *owner = luaL_checkstring(L, 2);
    sr_allow(L, SR_PERM_WRITE, path);
    return job_go(L, job_new(L, &chown_verb, path, owner));
}

static int run_check_owner(fs_job *j, sr_err *err) {
    return sr_fs_check_owner(j->path, err);
}

static const verb check_owner_verb = {"fs.check_owner", run_check_owner, NULL};

static int l_check_owner(lua_State *L) {
    const char *path = allowed_path(L, 1, "fs.check_owner", SR_PERM_READ);
    return job_go(L, job_new(L, &check_owner_verb, path, NULL));
}

/* ---------------------------------------------------------------- locks */

static int run_trylock(fs_job *j, sr_err *err) {
    return sr_fs_trylock(j->path, &j->fd, err);
}

/* Makes the object first, so that nothing raises between it and the descriptor. */
static int push_lock(lua_State *L, const fs_job *j) {
    *sr_fs_push_lock(L, j->path) = j->fd;
    ((fs_job *)j)->fd = -1;
    return 1;
}

static const verb trylock_verb = {"fs.lock", run_trylock, push_lock, true};

/* trylock(path) → lock; raises conflict, retryable, when it is held */
static int l_trylock(lua_State *L) {
    const char *path = allowed_path(L, 1, "fs.lock", SR_PERM_WRITE);
    return job_go(L, job_new(L, &trylock_verb, path, NULL));
}

/* ---------------------------------------------------------------- module */

static const luaL_Reg functions[] = {{"read", l_read},
                                     {"write", l_write},
                                     {"append", l_append},
                                     {"mkdir", l_mkdir},
                                     {"remove", l_remove},
                                     {"remove_tree", l_remove_tree},
                                     {"rename", l_rename},
                                     {"symlink", l_symlink},
                                     {"symlink_replace", l_symlink_replace},
                                     {"readlink", l_readlink},
                                     {"realpath", l_realpath},
                                     {"list", l_list},
                                     {"stat", l_stat},
                                     {"exists", l_exists},
                                     {"chmod", l_chmod},
                                     {"chown", l_chown},
                                     {"check_owner", l_check_owner},
                                     {"make_tmpdir", l_make_tmpdir},
                                     {"trylock", l_trylock},
                                     {"folder", sr_fs_l_folder},
                                     {NULL, NULL}};

int luaopen_fs_core(lua_State *L) {
    sr_fs_open_lock(L);
    sr_fs_open_folder(L);
    luaL_newlib(L, functions);
    return 1;
}
