/* http_form.c – tables as form or query text, percent-encoded; RFC 3986 2.3. */
#include "data/encoding.h"
#include "net/http_face.h"

#define FORM_TYPE "http.form buffer"

static void escape(sr_buf *out, const char *text, size_t len) {
    sr_err err;
    (void)sr_percent_encode(out, text, len, &err); /* without memory out->oom is set */
}

static int l_buffer_free(lua_State *L) {
    sr_buf_free(lua_touserdata(L, 1));
    return 0;
}

/* Push an empty secret buffer that Lua frees, so that what follows may raise. */
static sr_buf *push_buffer(lua_State *L) {
    sr_buf *buf = lua_newuserdatauv(L, sizeof *buf, 0);
    *buf = (sr_buf){.secret = true};
    if (luaL_newmetatable(L, FORM_TYPE)) {
        lua_pushcfunction(L, l_buffer_free);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return buf;
}

/* Append name=value; the value is at the top. Returns whether it was a secret. */
static bool add_pair(lua_State *L, sr_buf *out, const char *name, size_t name_len) {
    size_t len;
    const char *value;
    bool secret = luaL_testudata(L, -1, SR_SECRET_TYPE) != NULL;
    int type = lua_type(L, -1);
    if (!secret && type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
        sr_raise(L, SR_USAGE, "BAD_OPTION",
                 "form, query: %s: expected a string, number, boolean, secret or list, "
                 "got %s",
                 name, luaL_typename(L, -1));
    if (secret) {
        value = sr_check_secret(L, -1, &len);
        lua_pushnil(L);
    } else {
        value = luaL_tolstring(L, -1, &len);
    }
    if (out->len) sr_buf_puts(out, "&");
    escape(out, name, name_len);
    sr_buf_puts(out, "=");
    escape(out, value, len);
    lua_pop(L, 1);
    return secret;
}

/* One entry of the table; key and value are at the top and stay. */
static bool add_entry(lua_State *L, sr_buf *out) {
    size_t len;
    bool secret = false;
    if (lua_type(L, -2) != LUA_TSTRING)
        sr_raise(L, SR_USAGE, "BAD_OPTION", "form, query: expected names as keys, got %s",
                 luaL_typename(L, -2));
    const char *name = lua_tolstring(L, -2, &len);
    if (lua_type(L, -1) != LUA_TTABLE) return add_pair(L, out, name, len);
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
        secret |= add_pair(L, out, name, len);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return secret;
}

/* http.core.encode(table) → "a=1&b=2", a secret if one of the values is. */
int sr_http_l_encode(lua_State *L) {
    bool secret = false;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    sr_buf *out = push_buffer(L);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
        secret |= add_entry(L, out);
    if (out->oom) return luaL_error(L, "not enough memory");
    const char *text = out->data ? out->data : "";
    if (secret) {
        sr_redact_add(text, out->len);
        sr_push_secret(L, text, out->len, "form");
    } else {
        lua_pushlstring(L, text, out->len);
    }
    return 1;
}
