/* perm_lua.c – permissions as Lua meets them: sr_allow, and the stock libraries fenced.
 *
 * Once any limit is set, every function of io and os that opens, removes or names a file
 * asks first; what cannot ask is gone: package.loadlib and C modules (native code asks
 * nobody), and debug but for traceback and getinfo (getupvalue would hand out the
 * functions that the fences wrap). Without limits the libraries are stock, except that
 * os.execute and io.popen raise always: they would stop every task of the process.
 */
#include <string.h>

#include "perm.h"
#include "vm.h"

int sr_allowed(sr_vm *vm, sr_perm what, const char *target, sr_err *err) {
    return sr_perms_check(sr_vm_perms(vm), what, target, err);
}

int sr_allowed_peer(sr_vm *vm, const char *target, const char *address, sr_err *err) {
    return sr_perms_check_peer(sr_vm_perms(vm), target, address, err);
}

void sr_allow(lua_State *L, sr_perm what, const char *target) {
    sr_err err = {0};
    if (sr_allowed(sr_vm_of(L), what, target, &err)) sr_throw(L, &err);
}

/* Upvalue 1 of every fence is the function it guards. */
static int pass_on(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* io.open(path, mode) */
static int l_open(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    const char *mode = luaL_optstring(L, 2, "r");
    if (*mode == 'r') sr_allow(L, SR_PERM_READ, path);
    if (*mode != 'r' || strchr(mode, '+')) sr_allow(L, SR_PERM_WRITE, path);
    if (*mode != 'r' && strchr(mode, '+')) sr_allow(L, SR_PERM_READ, path);
    return pass_on(L);
}

/* io.lines, io.input: a name is opened for reading; a file is open already. */
static int l_read(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING) sr_allow(L, SR_PERM_READ, lua_tostring(L, 1));
    return pass_on(L);
}

/* io.output */
static int l_write(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING) sr_allow(L, SR_PERM_WRITE, lua_tostring(L, 1));
    return pass_on(L);
}

/* os.remove(path), os.rename(from, to) */
static int l_change(lua_State *L) {
    sr_allow(L, SR_PERM_WRITE, luaL_checkstring(L, 1));
    if (!lua_isnoneornil(L, 2)) sr_allow(L, SR_PERM_WRITE, luaL_checkstring(L, 2));
    return pass_on(L);
}

/* io.tmpfile, os.tmpname: both create a file there. */
static int l_temporary(lua_State *L) {
    sr_allow(L, SR_PERM_WRITE, "/tmp");
    return pass_on(L);
}

/* os.getenv(name) */
static int l_getenv(lua_State *L) {
    sr_allow(L, SR_PERM_ENV, luaL_checkstring(L, 1));
    return pass_on(L);
}

/* debug.getinfo([thread,] function or level [, what]) without 'f': no function leaves. */
static int l_getinfo(lua_State *L) {
    int at = lua_isthread(L, 1) ? 3 : 2;
    const char *what = luaL_optstring(L, at, "nSltur");
    char kept[16];
    size_t n = 0;
    for (; *what && n < sizeof kept - 1; what++)
        if (*what != 'f' && *what != 'L') kept[n++] = *what;
    kept[n] = '\0';
    lua_settop(L, at - 1);
    lua_pushstring(L, kept);
    return pass_on(L);
}

static int l_blocks(lua_State *L) {
    return sr_raise(
        L, SR_USAGE, "blocks",
        "%s would stop every task while it waits; use process.run{\"program\", "
        "\"argument\"}",
        lua_tostring(L, lua_upvalueindex(1)));
}

static const struct fence {
    const char *lib, *name;
    lua_CFunction fn;
} fences[] = {
    {"io", "open", l_open},         {"io", "lines", l_read},
    {"io", "input", l_read},        {"io", "output", l_write},
    {"io", "tmpfile", l_temporary}, {"os", "tmpname", l_temporary},
    {"os", "remove", l_change},     {"os", "rename", l_change},
    {"os", "getenv", l_getenv},     {"debug", "getinfo", l_getinfo},
};

static void put_fence(lua_State *L, const struct fence *fence) {
    lua_getglobal(L, fence->lib);
    lua_getfield(L, -1, fence->name);
    lua_pushcclosure(L, fence->fn, 1);
    lua_setfield(L, -2, fence->name);
    lua_pop(L, 1);
}

static void replace_blocking(lua_State *L, const char *lib, const char *name) {
    lua_getglobal(L, lib);
    lua_pushfstring(L, "%s.%s", lib, name);
    lua_pushcclosure(L, l_blocks, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* Keep two fields of debug, also for whoever holds the table already. */
static void reduce_debug(lua_State *L) {
    lua_getglobal(L, "debug");
    int debug = lua_gettop(L);
    lua_newtable(L);
    for (lua_pushnil(L); lua_next(L, debug); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_pushboolean(L, 1);
        lua_rawset(L, debug + 1);
    }
    for (lua_pushnil(L); lua_next(L, debug + 1); lua_pop(L, 1)) {
        const char *name = lua_tostring(L, -2);
        if (strcmp(name, "traceback") == 0 || strcmp(name, "getinfo") == 0) continue;
        lua_pushvalue(L, -2);
        lua_pushnil(L);
        lua_rawset(L, debug);
    }
    lua_settop(L, debug - 1);
}

/* Searchers 3 and 4 look for C libraries. */
static void drop_native_code(lua_State *L) {
    lua_getglobal(L, "package");
    lua_pushnil(L);
    lua_setfield(L, -2, "loadlib");
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "cpath");
    lua_getfield(L, -1, "searchers");
    for (int i = 4; i >= 3; i--) {
        lua_pushnil(L);
        lua_rawseti(L, -2, i);
    }
    lua_pop(L, 2);
}

/* Also called again after a script's needs set the first limit. */
void sr_perm_restrict_libs(lua_State *L) {
    static const char done_key;
    replace_blocking(L, "os", "execute");
    replace_blocking(L, "io", "popen");
    if (!sr_perms_limited(sr_vm_perms(sr_vm_of(L)))) return;
    bool done = lua_rawgetp(L, LUA_REGISTRYINDEX, &done_key) != LUA_TNIL;
    lua_pop(L, 1);
    if (done) return;
    lua_pushboolean(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &done_key);
    for (size_t i = 0; i < sizeof fences / sizeof *fences; i++)
        put_fence(L, &fences[i]);
    reduce_debug(L);
    drop_native_code(L);
}
