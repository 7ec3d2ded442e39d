/* copy.c – plain values from one state to another.
 *
 * States share nothing; what passes between them is copied: nil, booleans, numbers,
 * strings, light userdata (json.null) and tables of these. Metatables are dropped.
 * Functions, threads and userdata are refused, and the message names the path to the
 * offender: "cannot copy .orgs[2].check: a function is no plain value".
 *
 * The copy runs as a protected call in the receiving state, because only that one
 * allocates. The giving state is read with functions that cannot raise. A table reached
 * twice is copied twice, so nodes and bytes are counted: sharing cannot multiply without
 * bound.
 */
#include "copy.h"

#include <string.h>

enum { PRESIZE_MAX = 1024, PATH_SIZE = 200 };

/* The way from the root to the value being copied, one link a table. */
struct link {
    const struct link *up;
    const void *table;
    const char *name; /* string key, else NULL */
    size_t name_len;
    lua_Number index; /* number key */
    bool boolean;     /* the key is `index != 0` */
};

struct copy {
    lua_State *from, *to;
    int idx;
    const sr_copy_rules *rules;
    const char *what;
    long nodes;
    size_t bytes;
    bool failed;
    sr_err err;
};

static int copy_value(struct copy *c, int idx, const struct link *up, int depth);

static bool is_name(const char *s, size_t len) {
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    if (len == 0 || len > 60 || !memchr(first, s[0], sizeof first - 1)) return false;
    for (size_t i = 1; i < len; i++)
        if (!memchr(first, s[i], sizeof first - 1) && (s[i] < '0' || s[i] > '9'))
            return false;
    return true;
}

static void append_link(sr_buf *path, const struct link *link) {
    if (!link) return;
    append_link(path, link->up);
    if (link->boolean)
        sr_buf_printf(path, "[%s]", link->index != 0 ? "true" : "false");
    else if (!link->name)
        sr_buf_printf(path, "[%.14g]", (double)link->index);
    else if (is_name(link->name, link->name_len))
        sr_buf_printf(path, ".%s", link->name);
    else
        sr_buf_printf(path, "[\"%.60s\"]", link->name);
}

/* Note why the copy fails and where. */
static int refuse(struct copy *c, sr_kind kind, const struct link *link,
                  const char *why) {
    sr_buf path = {0};
    append_link(&path, link);
    c->failed = true;
    const char *at = path.data && !path.oom ? path.data : "";
    if (strlen(at) > PATH_SIZE) at += strlen(at) - PATH_SIZE;
    sr_fail(&c->err, kind, kind == SR_LIMIT ? "size" : "copy", "cannot copy %s%s%s: %s",
            c->what, *at ? " at " : "", at, why);
    sr_buf_free(&path);
    return -1;
}

static int count(struct copy *c, size_t bytes, const struct link *link) {
    c->bytes += bytes;
    if (++c->nodes > SR_COPY_NODES || c->bytes > SR_COPY_BYTES)
        return refuse(c, SR_LIMIT, link, "it is too large (1,000,000 values, 64 MiB)");
    return 0;
}

static int copy_string(struct copy *c, int idx, const struct link *link) {
    size_t len;
    const char *text = lua_tolstring(c->from, idx, &len);
    if (count(c, len, link)) return -1;
    lua_pushlstring(c->to, text, len);
    return 0;
}

static int copy_number(struct copy *c, int idx) {
    if (lua_isinteger(c->from, idx))
        lua_pushinteger(c->to, lua_tointeger(c->from, idx));
    else
        lua_pushnumber(c->to, lua_tonumber(c->from, idx));
    return 0;
}

static int copy_userdata(struct copy *c, int idx, const struct link *link) {
    if (c->rules->userdata && c->rules->userdata(c->from, idx, c->to)) return 0;
    return refuse(c, SR_USAGE, link, "an object is no plain value");
}

/* The key at -2 of `from`, as a link; the key is pushed on `to`. */
static int copy_key(struct copy *c, struct link *link) {
    lua_State *from = c->from;
    switch (lua_type(from, -2)) {
    case LUA_TSTRING:
        link->name = lua_tolstring(from, -2, &link->name_len);
        return copy_string(c, -2, link);
    case LUA_TNUMBER: link->index = lua_tonumber(from, -2); return copy_number(c, -2);
    case LUA_TBOOLEAN:
        link->boolean = true;
        link->index = lua_toboolean(from, -2);
        lua_pushboolean(c->to, lua_toboolean(from, -2));
        return 0;
    default:
        return refuse(c, SR_USAGE, link->up,
                      "a key that is neither a string, a number nor a boolean");
    }
}

static int copy_table(struct copy *c, int idx, const struct link *up, int depth) {
    const void *self = lua_topointer(c->from, idx);
    for (const struct link *l = up; l; l = l->up)
        if (l->table == self) return refuse(c, SR_USAGE, up, "it contains itself");
    if (depth >= SR_COPY_DEPTH)
        return refuse(c, SR_LIMIT, up, "tables are nested deeper than 64");
    if (!lua_checkstack(c->from, 4))
        return refuse(c, SR_LIMIT, up, "no stack left to read it");
    luaL_checkstack(c->to, 8, "copy");
    size_t len = lua_rawlen(c->from, idx);
    lua_createtable(c->to, len < PRESIZE_MAX ? (int)len : PRESIZE_MAX, 0);
    idx = lua_absindex(c->from, idx);
    lua_pushnil(c->from);
    while (lua_next(c->from, idx)) {
        struct link link = {.up = up, .table = self};
        if (copy_key(c, &link) || copy_value(c, -1, &link, depth + 1)) return -1;
        lua_rawset(c->to, -3);
        lua_pop(c->from, 1);
    }
    return 0;
}

static int copy_value(struct copy *c, int idx, const struct link *up, int depth) {
    int type = lua_type(c->from, idx);
    if (type != LUA_TSTRING && count(c, 0, up)) return -1;
    switch (type) {
    case LUA_TNONE:
    case LUA_TNIL: lua_pushnil(c->to); return 0;
    case LUA_TBOOLEAN: lua_pushboolean(c->to, lua_toboolean(c->from, idx)); return 0;
    case LUA_TNUMBER: return copy_number(c, idx);
    case LUA_TSTRING: return copy_string(c, idx, up);
    case LUA_TLIGHTUSERDATA:
        lua_pushlightuserdata(c->to, lua_touserdata(c->from, idx));
        return 0;
    case LUA_TTABLE: return copy_table(c, idx, up, depth);
    case LUA_TUSERDATA: return copy_userdata(c, idx, up);
    default:
        return refuse(c, SR_USAGE, up,
                      type == LUA_TFUNCTION ? "a function is no plain value"
                                            : "a coroutine is no plain value");
    }
}

static int l_copy(lua_State *to) {
    struct copy *c = lua_touserdata(to, 1);
    c->to = to;
    return copy_value(c, c->idx, NULL, 0) ? 0 : 1;
}

/* A thread that is suspended cannot run a protected call; its main thread can. */
static lua_State *callable(lua_State *to) {
    if (lua_status(to) == LUA_OK) return to;
    lua_rawgeti(to, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_State *main = lua_tothread(to, -1);
    lua_pop(to, 1);
    return main;
}

int sr_copy_try(lua_State *from, int idx, lua_State *to, const sr_copy_rules *rules,
                sr_err *err) {
    static const sr_copy_rules none;
    struct copy c = {.from = from, .idx = lua_absindex(from, idx)};
    c.rules = rules ? rules : &none;
    c.what = c.rules->what ? c.rules->what : "value";
    int from_top = lua_gettop(from);
    if (!lua_checkstack(to, 4))
        return sr_fail(err, SR_LIMIT, "memory", "cannot copy %s: no stack left", c.what);
    lua_State *run = callable(to);
    int top = lua_gettop(run);
    lua_pushcfunction(run, l_copy);
    lua_pushlightuserdata(run, &c);
    int status = lua_pcall(run, 1, LUA_MULTRET, 0);
    lua_settop(from, from_top);
    if (status == LUA_OK && !c.failed) {
        if (run != to) lua_xmove(run, to, 1);
        return 0;
    }
    lua_settop(run, top);
    if (c.failed) {
        *err = c.err;
        return -1;
    }
    return sr_fail(err, SR_LIMIT, "memory",
                   "cannot copy %s: not enough memory in the receiving state", c.what);
}

void sr_copy(lua_State *from, int idx, lua_State *to) {
    sr_err err = {0};
    if (sr_copy_try(from, idx, to, NULL, &err)) sr_throw(from, &err);
}
