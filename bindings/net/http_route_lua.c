/* http_route_lua.c – queries, form bodies and routes for Lua.
 *
 * Faces of http_path.c and http_route.c in the module "http_server.core".
 */
#include "net/http_server_lua.h"

#define ROUTES_TYPE "http.routes"
#define BUFS_TYPE "http.bufs"

/* core.query(text) → {key = first value}, {key = {values}}; for queries and form bodies
 */
int sr_http_l_query(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    sr_http_slice rest = {text, len};
    sr_buf *bufs = lua_newuserdatauv(L, 2 * sizeof *bufs, 0);
    bufs[0] = bufs[1] = (sr_buf){0};
    luaL_setmetatable(L, BUFS_TYPE);
    lua_newtable(L);
    lua_newtable(L);
    while (sr_http_query_next(&rest, &bufs[0], &bufs[1])) {
        lua_pushlstring(L, bufs[0].data, bufs[0].len);
        lua_pushlstring(L, bufs[1].data, bufs[1].len);
        lua_pushvalue(L, -2); /* first, all, key, value, key */
        if (lua_rawget(L, -4) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_newtable(L);
            lua_pushvalue(L, -3);
            lua_pushvalue(L, -2);
            lua_rawset(L, -6); /* all[key] = list */
            lua_pushvalue(L, -3);
            lua_pushvalue(L, -3);
            lua_rawset(L, -7); /* first[key] = value */
        }
        lua_insert(L, -2); /* first, all, key, list, value */
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        lua_pop(L, 2);
    }
    sr_buf_free(&bufs[0]);
    sr_buf_free(&bufs[1]);
    return 2;
}

static int l_bufs_gc(lua_State *L) {
    sr_buf *bufs = luaL_checkudata(L, 1, BUFS_TYPE);
    sr_buf_free(&bufs[0]);
    sr_buf_free(&bufs[1]);
    return 0;
}

/* core.routes{pattern, …} → routes. Raises usage. */
int sr_http_l_routes(lua_State *L) {
    sr_err err = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    sr_http_routes **routes = lua_newuserdatauv(L, sizeof *routes, 0);
    *routes = NULL;
    luaL_setmetatable(L, ROUTES_TYPE);
    *routes = sr_http_routes_new();
    if (!*routes) return luaL_error(L, "no memory");
    for (int i = 1; lua_rawgeti(L, 1, i) != LUA_TNIL; i++) {
        if (sr_http_routes_add(*routes, luaL_checkstring(L, -1), i, &err) != 0)
            return sr_throw(L, &err);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return 1;
}

static int l_routes_gc(lua_State *L) {
    sr_http_routes **routes = luaL_checkudata(L, 1, ROUTES_TYPE);
    sr_http_routes_free(*routes);
    *routes = NULL;
    return 0;
}

/* routes:match(method, path) → position, {name = value} | nil, allow | nil */
static int l_routes_match(lua_State *L) {
    sr_http_routes **routes = sr_check_object(L, 1, ROUTES_TYPE);
    sr_http_slice path;
    sr_http_match m;
    const char *method = luaL_checkstring(L, 2);
    path.data = luaL_checklstring(L, 3, &path.len);
    sr_http_found found = sr_http_routes_match(*routes, method, path, &m);
    if (found != SR_HTTP_ROUTE) {
        lua_pushnil(L);
        if (found == SR_HTTP_OTHER_METHOD) lua_pushstring(L, m.allow);
        return found == SR_HTTP_OTHER_METHOD ? 2 : 1;
    }
    lua_pushinteger(L, m.id);
    lua_createtable(L, 0, (int)m.captures);
    for (unsigned i = 0; i < m.captures; i++) {
        lua_pushlstring(L, m.capture[i].name.data, m.capture[i].name.len);
        lua_pushlstring(L, m.capture[i].value.data, m.capture[i].value.len);
        lua_rawset(L, -3);
    }
    return 2;
}

static const luaL_Reg methods[] = {{"match", l_routes_match}, {NULL, NULL}};

void sr_http_open_routes(lua_State *L) {
    sr_http_new_type(L, ROUTES_TYPE, methods, l_routes_gc);
    sr_http_new_type(L, BUFS_TYPE, NULL, l_bufs_gc);
}
