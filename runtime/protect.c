/* protect.c – pcall, xpcall and try, which know when clean-up runs.
 *
 * An error unwinds the stack by closing pending <close> variables, and their handlers may
 * wait (delete a DNS record, release a lock), also after cancellation. Lua calls the
 * message handler before it unwinds and gives control back to the protected call
 * afterwards, so the handler raises task->unwinding and the call puts back the value it
 * found.
 */
#include "task.h"

int sr_mark_unwinding(lua_State *L) {
    sr_task *task = sr_task_of(L);
    if (task) task->unwinding++;
    return 1;
}

int sr_trace_unwinding(lua_State *L) {
    sr_mark_unwinding(L);
    sr_to_error(L);
    return 1;
}

static lua_KContext depth(lua_State *L) {
    sr_task *task = sr_task_of(L);
    return task ? task->unwinding : 0;
}

static void restore(lua_State *L, lua_KContext saved) {
    sr_task *task = sr_task_of(L);
    if (task) task->unwinding = (uint16_t)saved;
}

static bool failed(int status) {
    return status != LUA_OK && status != LUA_YIELD;
}

/* Stack: handler, results… or handler, error. */
static int pcall_k(lua_State *L, int status, lua_KContext saved) {
    restore(L, saved);
    lua_pushboolean(L, !failed(status));
    if (failed(status)) {
        lua_insert(L, -2);
        return 2; /* false, error */
    }
    lua_replace(L, 1);
    return lua_gettop(L); /* true, results… */
}

static int l_pcall(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushcfunction(L, sr_mark_unwinding);
    lua_insert(L, 1);
    lua_KContext saved = depth(L);
    return pcall_k(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, saved, pcall_k),
                   saved);
}

static int l_user_handler(lua_State *L) {
    sr_mark_unwinding(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* xpcall(f, handler, …) */
static int l_xpcall(lua_State *L) {
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, l_user_handler, 1);
    lua_replace(L, 2); /* f, handler, … */
    lua_pushvalue(L, 1);
    lua_copy(L, 2, 1);
    lua_replace(L, 2); /* handler, f, … */
    lua_KContext saved = depth(L);
    return pcall_k(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, saved, pcall_k),
                   saved);
}

static int try_k(lua_State *L, int status, lua_KContext saved) {
    restore(L, saved);
    if (!failed(status)) return lua_gettop(L) - 1;
    sr_to_error(L); /* an error in the handler, or no memory, is still a string */
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

/* try(fn, …) → its results, or nil and an error object. */
static int l_try(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushcfunction(L, sr_trace_unwinding);
    lua_insert(L, 1);
    lua_KContext saved = depth(L);
    return try_k(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, saved, try_k),
                 saved);
}

static const luaL_Reg globals[] = {
    {"pcall", l_pcall}, {"xpcall", l_xpcall}, {"try", l_try}, {NULL, NULL}};

int sr_open_protect(lua_State *L) {
    lua_pushglobaltable(L);
    luaL_setfuncs(L, globals, 0);
    return 1;
}
