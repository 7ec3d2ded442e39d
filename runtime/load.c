/* load.c – code comes from text, from built-in modules, and from the script's own folder.
 *
 * load, loadfile and dofile take text only. Built-in modules stand in package.preload: C
 * ones as their opener, Lua layers as a loader of their embedded source. `require` itself
 * is Lua (lua/require.lua), so a module may wait while it loads. The working directory is
 * not on the path; the script's folder is (added by the command line).
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "perm.h"
#include "vm.h"

/* Upvalue 1: the stock load. load(chunk, name?, mode?, env?) with mode "t". */
static int l_load(lua_State *L) {
    int n = lua_gettop(L);
    if (n < 3) lua_settop(L, 3);
    lua_pushliteral(L, "t");
    lua_replace(L, 3);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int loaded(lua_State *L, int status, int env) {
    if (status != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        return 2; /* nil, message */
    }
    if (env) {
        lua_pushvalue(L, env);
        if (!lua_setupvalue(L, -2, 1)) lua_pop(L, 1);
    }
    return 1;
}

/* loadfile(path?, mode?, env?) with mode "t". */
static int l_loadfile(lua_State *L) {
    const char *path = luaL_optstring(L, 1, NULL);
    int env = lua_isnone(L, 3) ? 0 : 3;
    if (path) sr_allow(L, SR_PERM_READ, path);
    return loaded(L, luaL_loadfilex(L, path, "t"), env);
}

static int dofile_k(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    return lua_gettop(L) - 1;
}

static int l_dofile(lua_State *L) {
    const char *path = luaL_optstring(L, 1, NULL);
    lua_settop(L, 1);
    if (path) sr_allow(L, SR_PERM_READ, path);
    if (luaL_loadfilex(L, path, "t") != LUA_OK) return lua_error(L);
    lua_callk(L, 0, LUA_MULTRET, 0, dofile_k);
    return dofile_k(L, 0, 0);
}

/* What others can write, root does not run. */
static void refuse_writable(lua_State *L, const char *path) {
    struct stat st;
    if (geteuid() != 0 || stat(path, &st) != 0) return;
    bool group = (st.st_mode & S_IWGRP) && st.st_gid != 0;
    if (group || (st.st_mode & S_IWOTH))
        sr_raise(L, SR_DENIED, "WRITABLE_BY_OTHERS",
                 "%s can be written by other users and is not run as root; mend: "
                 "chmod go-w %s",
                 path, path);
}

static void refuse_writable_folder(lua_State *L, const char *path) {
    const char *slash = strrchr(path, '/');
    lua_pushlstring(L, slash ? path : ".", slash ? (size_t)(slash - path) : 1);
    if (lua_rawlen(L, -1) == 0) {
        lua_pushliteral(L, "/");
        lua_replace(L, -2);
    }
    refuse_writable(L, lua_tostring(L, -1));
    lua_pop(L, 1);
}

static bool in_code_folder(lua_State *L, const char *path) {
    char resolved[PATH_MAX];
    sr_err err;
    const char *folder = sr_vm_of(L)->code_folder;
    size_t len = folder ? strlen(folder) : 0;
    if (!len || sr_path_resolve(path, true, resolved, sizeof resolved, &err) != 0)
        return false;
    return strncmp(resolved, folder, len) == 0 && resolved[len] == '/';
}

/* load.file(path, env?) → function, or nil and message. Code outside the script's own
 * folder needs the permission to be read. As root, neither the file nor its folder may be
 * writable by others. */
static int l_script(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    int env = lua_isnoneornil(L, 2) ? 0 : 2;
    if (!in_code_folder(L, path)) sr_allow(L, SR_PERM_READ, path);
    refuse_writable(L, path);
    refuse_writable_folder(L, path);
    return loaded(L, luaL_loadfilex(L, path, "t"), env);
}

/* load.own(folder?) – the folder of the script, set once, before anything of the user's
 * runs: its code is loaded whatever --allow-read says. nil: there is none. */
static int l_own(lua_State *L) {
    char resolved[PATH_MAX] = "";
    sr_err err;
    sr_vm *vm = sr_vm_of(L);
    const char *folder = luaL_optstring(L, 1, NULL);
    if (vm->code_folder)
        return sr_raise(L, SR_DENIED, NULL,
                        "load.own: the script's folder is set already");
    if (folder && sr_path_resolve(folder, true, resolved, sizeof resolved, &err) != 0)
        return sr_throw(L, &err);
    vm->code_folder = strdup(resolved);
    if (!vm->code_folder) return luaL_error(L, "not enough memory");
    return 0;
}

/* load.readable(path) → whether there is a regular file to read. */
static int l_readable(lua_State *L) {
    struct stat st;
    const char *path = luaL_checkstring(L, 1);
    lua_pushboolean(L, stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
                           access(path, R_OK) == 0);
    return 1;
}

static const sr_source *find_source(const char *name) {
    for (const sr_source *s = sr_sources; s->name; s++)
        if (strcmp(s->name, name) == 0) return s;
    return NULL;
}

static void load_source(lua_State *L, const sr_source *source) {
    if (luaL_loadbufferx(L, source->text, source->len, source->chunkname, "t") != LUA_OK)
        lua_error(L);
}

static int source_k(lua_State *L, int status, lua_KContext ctx) {
    (void)L;
    (void)status;
    (void)ctx;
    return 1;
}

/* Loader of a Lua layer: upvalue 1 is its sr_source. */
static int l_run_source(lua_State *L) {
    const sr_source *source = lua_touserdata(L, lua_upvalueindex(1));
    lua_settop(L, 2);
    load_source(L, source);
    lua_insert(L, 1);
    lua_callk(L, 2, 1, 0, source_k);
    return 1;
}

/* load.modules() → the names of the built-in modules, in no order. */
static int l_modules(lua_State *L) {
    lua_newtable(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_Integer n = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_seti(L, 1, ++n);
    }
    lua_settop(L, 1);
    return 1;
}

/* load.paths() → {program = this program's file, source = source tree, binary = build
 * tree, share = installed tree}: where shipped scripts and policies may be. */
static int l_paths(lua_State *L) {
    char program[4096];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program);
    lua_createtable(L, 0, 4);
    lua_pushlstring(L, program, len < 0 ? 0 : (size_t)len);
    lua_setfield(L, -2, "program");
    lua_pushliteral(L, SR_SOURCE_DIR);
    lua_setfield(L, -2, "source");
    lua_pushliteral(L, SR_BINARY_DIR);
    lua_setfield(L, -2, "binary");
    lua_pushliteral(L, SR_SHARE_DIR);
    lua_setfield(L, -2, "share");
    return 1;
}

static const luaL_Reg load_functions[] = {
    {"file", l_script},     {"own", l_own},     {"readable", l_readable},
    {"modules", l_modules}, {"paths", l_paths}, {NULL, NULL}};

static int l_open_load_module(lua_State *L) {
    luaL_newlib(L, load_functions);
    return 1;
}

/* The default paths name the working directory; ours do not. */
static void drop_working_directory(lua_State *L, const char *field) {
    lua_getfield(L, -1, field);
    const char *rest = lua_tostring(L, -1);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    bool first = true;
    while (*rest) {
        size_t len = strcspn(rest, ";");
        if (strncmp(rest, "./", 2) != 0 && len > 0) {
            if (!first) luaL_addchar(&b, ';');
            luaL_addlstring(&b, rest, len);
            first = false;
        }
        rest += len + (rest[len] == ';');
    }
    luaL_pushresult(&b);
    lua_setfield(L, -3, field);
    lua_pop(L, 1);
}

int sr_open_load(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    for (const sr_source *s = sr_sources; s->name; s++) {
        lua_pushlightuserdata(L, (void *)s);
        lua_pushcclosure(L, l_run_source, 1);
        lua_setfield(L, -2, s->name);
    }
    lua_pushcfunction(L, l_open_load_module);
    lua_setfield(L, -2, "load");
    lua_pushglobaltable(L);
    lua_getfield(L, -1, "load");
    lua_pushcclosure(L, l_load, 1);
    lua_setfield(L, -2, "load");
    lua_pushcfunction(L, l_loadfile);
    lua_setfield(L, -2, "loadfile");
    lua_pushcfunction(L, l_dofile);
    lua_setfield(L, -2, "dofile");
    lua_getfield(L, -1, LUA_LOADLIBNAME);
    drop_working_directory(L, "path");
    drop_working_directory(L, "cpath");
    const sr_source *require = find_source("require");
    if (!require) return luaL_error(L, "the built-in require is missing");
    load_source(L, require);
    lua_call(L, 0, 0);
    lua_pop(L, 3);
    return 0;
}
