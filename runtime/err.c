/* err.c – failures as Lua error objects.
 *
 * An error object is a table with the metatable "error": kind, message, code, status,
 * retryable, retry_after, op, cause, where, trace. It is made once, where the failure
 * happens, and keeps the trace of that place; nobody overwrites it on the way up.
 */
#include <stdarg.h>

#include "task.h"

#define ERROR_TYPE "error"

/* ---------------------------------------------------------------- the Lua object */

static void set_text(lua_State *L, const char *key, const char *text) {
    if (!text || !*text) return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_context(lua_State *L) {
    luaL_setmetatable(L, ERROR_TYPE);
    sr_push_where(L);
    lua_setfield(L, -2, "where");
    sr_push_trace(L, 1);
    lua_setfield(L, -2, "trace");
}

void sr_push_err(lua_State *L, const sr_err *err) {
    lua_createtable(L, 0, 8); /* error */
    set_text(L, "kind", sr_kind_name(err->kind));
    set_text(L, "message", err->message);
    set_text(L, "code", err->code);
    set_text(L, "op", err->op);
    lua_pushboolean(L, err->retryable);
    lua_setfield(L, -2, "retryable");
    if (err->status) {
        lua_pushinteger(L, err->status);
        lua_setfield(L, -2, "status");
    }
    if (err->has_retry_after) {
        lua_pushnumber(L, err->retry_after);
        lua_setfield(L, -2, "retry_after");
    }
    set_context(L);
}

int sr_throw(lua_State *L, const sr_err *err) {
    sr_push_err(L, err);
    lua_error(L);
}

int sr_raise(lua_State *L, sr_kind kind, const char *code, const char *fmt, ...) {
    sr_err err;
    va_list ap;
    va_start(ap, fmt);
    sr_vset_err(&err, kind, code, fmt, ap);
    va_end(ap);
    sr_throw(L, &err);
}

static bool is_error(lua_State *L, int idx) {
    if (!lua_istable(L, idx) || !lua_getmetatable(L, idx)) return false;
    luaL_getmetatable(L, ERROR_TYPE);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

sr_kind sr_error_kind(lua_State *L, int idx) {
    if (!is_error(L, idx)) return SR_NONE;
    lua_getfield(L, idx, "kind");
    const char *name = lua_tostring(L, -1);
    sr_kind kind = name ? sr_kind_of(name) : SR_NONE;
    lua_pop(L, 1);
    return kind;
}

/* A plain Lua error becomes kind "internal"; its text already names file and line. Other
 * values are kept as `value`. */
void sr_to_error(lua_State *L) {
    if (is_error(L, -1)) return;
    lua_createtable(L, 0, 6); /* value, error */
    set_text(L, "kind", "internal");
    if (lua_type(L, -2) != LUA_TSTRING) {
        lua_pushvalue(L, -2);
        lua_setfield(L, -2, "value");
    }
    luaL_tolstring(L, -2, NULL);
    lua_setfield(L, -2, "message");
    set_context(L);
    lua_remove(L, -2);
}

/* "op: message [kind, code, status]; cause: …" */
static int l_tostring(lua_State *L) {
    luaL_Buffer b;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "op");                                                /* 2 */
    lua_getfield(L, 1, "message");                                           /* 3 */
    lua_getfield(L, 1, "kind");                                              /* 4 */
    lua_getfield(L, 1, "code");                                              /* 5 */
    lua_getfield(L, 1, "status");                                            /* 6 */
    lua_getfield(L, 1, "cause");                                             /* 7 */
    const char *cause = lua_isnil(L, 7) ? NULL : luaL_tolstring(L, 7, NULL); /* 8? */
    luaL_buffinit(L, &b);
    if (lua_isstring(L, 2)) {
        luaL_addstring(&b, lua_tostring(L, 2));
        luaL_addstring(&b, ": ");
    }
    luaL_addstring(&b, lua_isstring(L, 3) ? lua_tostring(L, 3) : "unknown error");
    luaL_addstring(&b, " [");
    luaL_addstring(&b, lua_isstring(L, 4) ? lua_tostring(L, 4) : "internal");
    for (int i = 5; i <= 6; i++) {
        if (!lua_isstring(L, i)) continue;
        luaL_addstring(&b, ", ");
        luaL_addstring(&b, lua_tostring(L, i));
    }
    luaL_addstring(&b, "]");
    if (cause) {
        luaL_addstring(&b, "; cause: ");
        luaL_addstring(&b, cause);
    }
    luaL_pushresult(&b);
    return 1;
}

static void check_kind(lua_State *L, int idx) {
    lua_getfield(L, idx, "kind");
    const char *kind = lua_tostring(L, -1);
    if (!kind || sr_kind_of(kind) == SR_NONE) {
        lua_getfield(L, idx, "message");
        luaL_error(
            L, "errors.new: kind must be one of the error kinds, got %s (message: %s)",
            kind ? kind : luaL_typename(L, -2),
            lua_tostring(L, -1) ? lua_tostring(L, -1) : "none");
    }
    lua_pop(L, 1);
}

/* errors.new{kind=, message=, code=, …} → error object with the trace of this place. */
static int l_new(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    check_kind(L, 1);
    lua_settop(L, 1);
    lua_newtable(L);
    lua_pushboolean(L, false);
    lua_setfield(L, 2, "retryable");
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2); /* error, key, key, value */
        lua_rawset(L, 2);
    }
    set_context(L);
    return 1;
}

/* errors.raise(kind, message, fields?) or errors.raise{…}; never returns. */
static int l_raise(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING) {
        luaL_checkstring(L, 2);
        if (lua_istable(L, 3))
            lua_settop(L, 3);
        else
            lua_settop(L, 2), lua_newtable(L);
        lua_pushvalue(L, 1);
        lua_setfield(L, 3, "kind");
        lua_pushvalue(L, 2);
        lua_setfield(L, 3, "message");
        lua_replace(L, 1);
        lua_settop(L, 1);
    }
    l_new(L);
    return lua_error(L);
}

/* errors.kind(v) → its kind, "internal" for plain Lua errors. */
static int l_kind(lua_State *L) {
    sr_kind kind = sr_error_kind(L, 1);
    lua_pushstring(L, kind == SR_NONE ? "internal" : sr_kind_name(kind));
    return 1;
}

/* errors.is(v, kind?) → whether v is an error object (of that kind). */
static int l_is(lua_State *L) {
    sr_kind kind = sr_error_kind(L, 1);
    const char *want = luaL_optstring(L, 2, NULL);
    lua_pushboolean(L, kind != SR_NONE && (!want || kind == sr_kind_of(want)));
    return 1;
}

/* errors.object(v) → v as error object. */
static int l_object(lua_State *L) {
    lua_settop(L, 1);
    sr_to_error(L);
    return 1;
}

static const luaL_Reg errors_functions[] = {
    {"new", l_new}, {"raise", l_raise},   {"kind", l_kind},
    {"is", l_is},   {"object", l_object}, {NULL, NULL},
};

int sr_open_errors(lua_State *L) {
    luaL_newmetatable(L, ERROR_TYPE);
    lua_pushcfunction(L, l_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, ERROR_TYPE);
    lua_setfield(L, -2, "__metatable");
    luaL_newlib(L, errors_functions);
    return 1;
}
