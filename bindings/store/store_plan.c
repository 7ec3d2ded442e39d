/* store_plan.c – from Lua values to a request, in two passes.
 *
 * The first may raise: it looks each SQL text up (or scans it), checks the statement's
 * fields, and leaves on the Lua stack, statement by statement, a header of four values
 * and then the parameters in the order of their names. The second copies from that stack
 * into a request that was allocated in between; nothing in it raises.
 *
 * SQL texts are kept by their text, per VM, so that a text is scanned once.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_lua.h"

#define SQL_TYPE "store.sql"

enum { MAX_TEXT = 64 << 20, TEXTS_KEPT = 512 };

/* ---------------------------------------------------------------- SQL texts */

static char texts_key; /* registry: text → userdata */

static int l_sql_gc(lua_State *L) {
    sr_store_sql **box = lua_touserdata(L, 1);
    if (*box && --(*box)->refs == 0) free(*box);
    *box = NULL;
    return 0;
}

static uint32_t hash_of(const char *text, size_t len) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619u;
    return h;
}

/* Scan the text at idx and push its userdata. */
static sr_store_sql *scan_text(lua_State *L, int idx) {
    sr_err err = {0};
    sr_sql scan = {0};
    size_t len;
    const char *text = lua_tolstring(L, idx, &len);
    if (sr_sql_single(text, len, &scan, &err) != 0) {
        (void)sr_throw(L, &err);
        return NULL;
    }
    sr_store_sql **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, SQL_TYPE);
    sr_store_sql *sql = malloc(sizeof *sql + len + 1);
    if (!sql) {
        luaL_error(L, "not enough memory");
        return NULL;
    }
    *box = sql;
    sql->refs = 1;
    sql->hash = hash_of(text, len);
    sql->len = len;
    sql->scan = scan;
    memcpy(sql->text, text, len + 1);
    return sql;
}

static void push_texts(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &texts_key) == LUA_TTABLE &&
        lua_rawlen(L, -1) < TEXTS_KEPT)
        return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &texts_key);
}

/* The scanned text of the string at idx; its userdata is pushed. The table also has the
 * texts in its sequence, which counts them. */
static sr_store_sql *push_sql(lua_State *L, int idx, const char *function) {
    if (lua_type(L, idx) != LUA_TSTRING) {
        (void)sr_raise(L, SR_USAGE, NULL, "%s expects an SQL text, got %s", function,
                       luaL_typename(L, idx));
        return NULL;
    }
    push_texts(L); /* texts */
    lua_pushvalue(L, idx);
    if (lua_rawget(L, -2) == LUA_TUSERDATA) {
        lua_remove(L, -2);
        return *(sr_store_sql **)lua_touserdata(L, -1);
    }
    lua_pop(L, 1);
    sr_store_sql *sql = scan_text(L, idx); /* texts, userdata */
    lua_pushvalue(L, idx);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
    lua_pushvalue(L, idx);
    lua_rawseti(L, -3, (lua_Integer)lua_rawlen(L, -3) + 1);
    lua_remove(L, -2);
    return sql;
}

/* ---------------------------------------------------------------- first pass */

typedef sr_store_plan plan;

enum { HEADER = 4 }; /* sql, expect, when, code */

static void bad_value(lua_State *L, const plan *p, const char *name, const char *what) {
    (void)sr_raise(L, SR_USAGE, NULL, "%s: the parameter $%s is %s", p->function, name,
                   what);
}

/* Check the value on top. */
static void check_value(lua_State *L, plan *p, const char *name) {
    size_t len;
    const char *text;
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
    case LUA_TBOOLEAN: return;
    case LUA_TNUMBER:
        if (!lua_isinteger(L, -1) && !isfinite(lua_tonumber(L, -1)))
            bad_value(L, p, name, "not a finite number");
        return;
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        if (len > MAX_TEXT) bad_value(L, p, name, "longer than 64 MiB");
        if (!sr_store_is_text(text, len))
            bad_value(L, p, name,
                      "not UTF-8 text; store bytes as encoding.base64(bytes)");
        p->bytes += len;
        return;
    default: break;
    }
    char what[96];
    snprintf(what, sizeof what, "a %s; a column holds numbers, strings and booleans",
             luaL_typename(L, -1));
    bad_value(L, p, name, what);
}

/* A name given that the text does not have. */
static void surplus(lua_State *L, const plan *p, int params, const sr_store_sql *sql) {
    const char *names[SR_SQL_NAMES + 1];
    for (uint32_t i = 0; i < sql->scan.count; i++)
        names[i] =
            lua_pushlstring(L, sql->text + sql->scan.names[i].at, sql->scan.names[i].len);
    names[sql->scan.count] = NULL;
    lua_pushnil(L);
    while (lua_next(L, params)) {
        bool known = false;
        if (lua_type(L, -2) != LUA_TSTRING)
            (void)sr_raise(L, SR_USAGE, NULL,
                           "%s: parameters are named, {id = …}, got the key %s",
                           p->function, luaL_tolstring(L, -2, NULL));
        for (const char **n = names; *n; n++)
            known |= strcmp(*n, lua_tostring(L, -2)) == 0;
        if (!known) {
            const char *close = sr_suggest(lua_tostring(L, -2), names);
            (void)sr_raise(
                L, SR_USAGE, NULL, "%s: the SQL has no parameter $%s%s%s%s (in: %.160s)",
                p->function, lua_tostring(L, -2), close ? "; did you mean $" : "",
                close ? close : "", close ? "?" : "", sql->text);
        }
        lua_pop(L, 1);
    }
}

/* Push the values of the table at params (or nil) in the order of the text's names. */
static void push_values(lua_State *L, plan *p, int params, const sr_store_sql *sql) {
    uint32_t given = 0, found = 0, count = sql->scan.count;
    bool none = lua_isnil(L, params);
    if (!none && !lua_istable(L, params))
        (void)sr_raise(L, SR_USAGE, NULL, "%s: parameters are a table by name, got %s",
                       p->function, luaL_typename(L, params));
    if (none && count)
        (void)sr_raise(L, SR_USAGE, NULL, "%s: the SQL wants $%.*s; give {%.*s = …}",
                       p->function, (int)sql->scan.names[0].len,
                       sql->text + sql->scan.names[0].at, (int)sql->scan.names[0].len,
                       sql->text + sql->scan.names[0].at);
    luaL_checkstack(L, (int)count + SR_SQL_NAMES + 8, "too many parameters");
    for (uint32_t i = 0; i < count; i++) {
        const char *name =
            lua_pushlstring(L, sql->text + sql->scan.names[i].at, sql->scan.names[i].len);
        lua_pushvalue(L, -1);
        found += lua_rawget(L, params) != LUA_TNIL;
        check_value(L, p, name);
        lua_remove(L, -2);
    }
    p->values += count;
    if (none) return;
    lua_pushnil(L);
    while (lua_next(L, params)) {
        given++;
        lua_pop(L, 1);
    }
    if (given != found) surplus(L, p, params, sql);
}

void sr_store_plan_statement(lua_State *L, plan *p, int sql_idx, int params) {
    luaL_checkstack(L, HEADER + 8, "too many statements");
    sr_store_sql *sql = push_sql(L, sql_idx, p->function);
    lua_pushinteger(L, -1);
    lua_pushinteger(L, 0);
    lua_pushnil(L);
    push_values(L, p, params, sql);
    p->count++;
}

static void bad_entry(lua_State *L, const plan *p, const char *format,
                      const char *given) {
    char what[128];
    snprintf(what, sizeof what, format, given);
    (void)sr_raise(L, SR_USAGE, NULL, "%s: statement %u: %s", p->function, p->count + 1,
                   what);
}

static void check_entry_keys(lua_State *L, const plan *p, int entry) {
    const char *names[] = {"expect", "when", "code", NULL};
    lua_pushnil(L);
    while (lua_next(L, entry)) {
        lua_pop(L, 1);
        if (lua_isinteger(L, -1) &&
            (lua_tointeger(L, -1) == 1 || lua_tointeger(L, -1) == 2))
            continue;
        const char *key = luaL_tolstring(L, -1, NULL);
        bool known = false;
        for (const char **n = names; *n; n++)
            known |= strcmp(*n, key) == 0;
        if (!known) {
            const char *close = sr_suggest(key, names);
            char text[64];
            snprintf(text, sizeof text, "%.24s%s%s%s", key,
                     close ? "; did you mean " : "", close ? close : "",
                     close ? "?" : "");
            bad_entry(L, p, "it has no field %s", text);
        }
        lua_pop(L, 1);
    }
}

/* The integer field of the entry, at least `least`; `fallback` when it is absent. */
static lua_Integer entry_integer(lua_State *L, const plan *p, int entry, const char *key,
                                 lua_Integer least, lua_Integer fallback) {
    int exact = 1;
    lua_Integer value = fallback;
    if (lua_getfield(L, entry, key) != LUA_TNIL) {
        value =
            lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &exact) : least - 1;
        if (!exact || value < least)
            (void)sr_raise(L, SR_USAGE, NULL,
                           "%s: statement %u: %s is a whole number from %d, got %s",
                           p->function, p->count + 1, key, (int)least,
                           luaL_tolstring(L, -1, NULL));
    }
    lua_pop(L, 1);
    return value;
}

void sr_store_plan_entry(lua_State *L, plan *p, int entry) {
    int at;
    luaL_checkstack(L, HEADER + 16, "too many statements");
    if (!lua_istable(L, entry))
        bad_entry(L, p, "is {sql, params, …}, got %s", luaL_typename(L, entry));
    check_entry_keys(L, p, entry);
    lua_Integer expect = entry_integer(L, p, entry, "expect", 0, -1);
    lua_Integer when = entry_integer(L, p, entry, "when", 1, 0);
    if (when > (lua_Integer)p->count)
        bad_entry(L, p, "when is the number of an %s statement", "earlier");
    lua_rawgeti(L, entry, 1); /* sql, params */
    lua_rawgeti(L, entry, 2);
    at = lua_gettop(L) + 1;
    sr_store_plan_statement(L, p, at - 2, at - 1);
    lua_pushinteger(L, expect);
    lua_replace(L, at + 1);
    lua_pushinteger(L, when);
    lua_replace(L, at + 2);
    int type = lua_getfield(L, entry, "code");
    if (type != LUA_TNIL && type != LUA_TSTRING)
        bad_entry(L, p, "code is a string, got %s", luaL_typename(L, -1));
    if (type == LUA_TSTRING) p->bytes += lua_rawlen(L, -1) + 1;
    lua_replace(L, at + 3);
    lua_remove(L, at - 1);
    lua_remove(L, at - 2);
}

/* ---------------------------------------------------------------- second pass */

static char *put_bytes(char **bytes, const char *text, size_t len) {
    char *at = *bytes;
    if (len) memcpy(at, text, len);
    *bytes += len;
    return at;
}

static sr_store_value to_value(lua_State *L, int idx, char **bytes) {
    sr_store_value v = {.type = SR_STORE_NULL};
    const char *text;
    switch (lua_type(L, idx)) {
    case LUA_TBOOLEAN:
        v.type = SR_STORE_INT;
        v.as.integer = lua_toboolean(L, idx);
        break;
    case LUA_TNUMBER:
        v.type = lua_isinteger(L, idx) ? SR_STORE_INT : SR_STORE_FLOAT;
        if (v.type == SR_STORE_INT)
            v.as.integer = lua_tointeger(L, idx);
        else
            v.as.number = lua_tonumber(L, idx);
        break;
    case LUA_TSTRING:
        v.type = SR_STORE_TEXT;
        text = lua_tolstring(L, idx, &v.as.text.len);
        v.as.text.data = put_bytes(bytes, text, v.as.text.len);
        break;
    default: break;
    }
    return v;
}

void sr_store_plan_fill(lua_State *L, sr_store_request *r, int idx) {
    sr_store_value *value = r->values;
    char *bytes = r->bytes;
    for (uint32_t i = 0; i < r->count; i++) {
        sr_store_stmt *s = &r->stmts[i];
        size_t len;
        s->sql = *(sr_store_sql **)lua_touserdata(L, idx);
        s->sql->refs++;
        s->expect = lua_tointeger(L, idx + 1);
        s->when = (uint32_t)lua_tointeger(L, idx + 2);
        if (lua_type(L, idx + 3) == LUA_TSTRING) {
            const char *code = lua_tolstring(L, idx + 3, &len);
            s->code = put_bytes(&bytes, code, len + 1);
        }
        s->values = value;
        idx += HEADER;
        for (uint32_t k = 0; k < s->sql->scan.count; k++)
            *value++ = to_value(L, idx++, &bytes);
    }
}

static const luaL_Reg sql_meta[] = {{"__gc", l_sql_gc}, {NULL, NULL}};

void sr_store_open_plan(lua_State *L) {
    luaL_newmetatable(L, SQL_TYPE);
    luaL_setfuncs(L, sql_meta, 0);
    lua_pop(L, 1);
}
