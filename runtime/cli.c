/* cli.c – what lua/cli.lua needs from the system: its own path, folders, the end's
 * reason.
 *
 * These serve the command line itself, before and around scripts, so they do not ask for
 * permission; lua/cli.lua hands none of them to a script.
 */
#include "cli.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "perm.h"
#include "practice.h"
#include "signals.h"
#include "terminal.h"

static bool sealed;

/* core.seal() – no code but ours has run yet; from now on, ask. */
static int l_seal(lua_State *L) {
    (void)L;
    sealed = true;
    return 0;
}

static const char *checked_path(lua_State *L, int idx) {
    const char *path = luaL_checkstring(L, idx);
    if (sealed) sr_allow(L, SR_PERM_READ, path);
    return path;
}

/* core.terminal(fd) → whether it is a terminal. */
static int l_terminal(lua_State *L) {
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* Variables that concern the program itself; reading them needs no permission. */
static const char *const own_variables[] = {
    "SECRUN_INIT", "LUA_INIT_5_4",   "LUA_INIT", "SECRUN_SCRIPTS", "STATE_DIRECTORY",
    "HOME",        "XDG_STATE_HOME", "TERM",     "NO_COLOR",       NULL};

/* core.getenv(name) → value or nil of a variable that concerns the program itself. */
static int l_getenv(lua_State *L) {
    lua_pushstring(L, getenv(own_variables[luaL_checkoption(L, 1, NULL, own_variables)]));
    return 1;
}

/* core.ended() → number of the signal that ends the program, 0 for os.exit, or nil. */
static int l_ended(lua_State *L) {
    if (!sr_vm_of(L)->exiting) return 0;
    lua_pushinteger(L, sr_signals_ended());
    return 1;
}

/* core.complain(text) – to standard error, secrets replaced, control characters escaped.
 */
static int l_complain(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    char *copy = lua_newuserdatauv(L, len + 1, 0);
    memcpy(copy, text, len + 1);
    sr_redact(copy);
    sr_buf out = {0};
    sr_escape(&out, copy, "\n");
    fflush(stdout);
    if (!out.oom && out.data) {
        sr_terminal_hide();
        (void)sr_terminal_write(STDERR_FILENO, out.data, out.len);
        sr_terminal_show();
    }
    sr_buf_free(&out);
    return 0;
}

/* core.scan(folder) → sorted list of {name=, folder=boolean}, or nil and a message. */
static int l_scan(lua_State *L) {
    uv_fs_t req;
    uv_dirent_t entry;
    const char *path = checked_path(L, 1);
    lua_newtable(L);
    int rc = uv_fs_scandir(NULL, &req, path, 0, NULL);
    if (rc < 0) {
        uv_fs_req_cleanup(&req);
        luaL_pushfail(L);
        lua_pushfstring(L, "%s: %s", path, uv_strerror(rc));
        return 2;
    }
    for (lua_Integer n = 1; uv_fs_scandir_next(&req, &entry) == 0; n++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, entry.name);
        lua_setfield(L, -2, "name");
        lua_pushboolean(L, entry.type == UV_DIRENT_DIR);
        lua_setfield(L, -2, "folder");
        lua_rawseti(L, 2, n);
    }
    uv_fs_req_cleanup(&req);
    return 1;
}

/* core.read(path, max, from_end?) → the first, or the last, bytes of a file, or nil. */
static int l_read(lua_State *L) {
    const char *path = checked_path(L, 1);
    lua_Integer max = luaL_checkinteger(L, 2);
    char *text = lua_newuserdatauv(L, (size_t)max, 0);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return 0;
    if (lua_toboolean(L, 3)) (void)lseek(fd, -(off_t)max, SEEK_END); /* short: from 0 */
    ssize_t len = read(fd, text, (size_t)max);
    close(fd);
    if (len < 0) return 0;
    lua_pushlstring(L, text, (size_t)len);
    return 1;
}

/* core.narrow(needs) – allow this VM from now on only what a script says it needs. */
static int l_narrow(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    sr_perms_narrow(L, 1, sr_vm_perms(sr_vm_of(L)));
    sr_perm_restrict_libs(L);
    return 0;
}

/* core.practise(folder, {NAME = value}) – practise in that folder from now on, with these
 * variables set for this process and its children. */
static int l_practise(lua_State *L) {
    sr_err err = {0};
    luaL_checktype(L, 2, LUA_TTABLE);
    if (sr_practice_begin(luaL_checkstring(L, 1), &err) != 0) return sr_throw(L, &err);
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1))
        if (setenv(luaL_checkstring(L, -2), luaL_checkstring(L, -1), 1) != 0)
            return luaL_error(L, "the variable %s cannot be set", lua_tostring(L, -2));
    return 0;
}

/* core.version() → "0.1.0" and "Lua 5.4.4". */
static int l_version(lua_State *L) {
    lua_pushliteral(L, SR_VERSION);
    lua_pushliteral(L, LUA_RELEASE);
    return 2;
}

static const luaL_Reg functions[] = {{"seal", l_seal},
                                     {"terminal", l_terminal},
                                     {"getenv", l_getenv},
                                     {"ended", l_ended},
                                     {"complain", l_complain},
                                     {"scan", l_scan},
                                     {"version", l_version},
                                     {"read", l_read},
                                     {"narrow", l_narrow},
                                     {"practise", l_practise},
                                     {NULL, NULL}};

int sr_open_cli_core(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
