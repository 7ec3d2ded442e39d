/* json_lua.c – the module "json": text to Lua values and back.
 *
 * Reading goes through the guarded tree of json_scan.c. Writing walks the Lua value with
 * raw access, so that no metamethod runs and nothing changes underfoot, into a buffer
 * that Lua owns: an error half-way leaks nothing. Output is deterministic: keys in byte
 * order unless sort is false.
 *
 * A table is an array if it carries the mark of json.array or has the keys 1 to n and no
 * other; an empty one without the mark is an object. What JSON cannot hold (functions,
 * secrets, holes, mixed keys, cycles, NaN, bytes that are not UTF-8) is refused with the
 * path of the offender, never dropped.
 */
#include "data/json_lua.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "open.h"

#define TREE_TYPE "json.tree"
#define TEXT_TYPE "json.text"
#define ARRAY_TYPE "json.array"
#define MAX_SIZE (64 << 20)

/* ---------------------------------------------------------------- decode */

static int l_tree_gc(lua_State *L) {
    cJSON **tree = lua_touserdata(L, 1);
    cJSON_Delete(*tree);
    *tree = NULL;
    return 0;
}

bool sr_json_is_null(lua_State *L, int idx) {
    return lua_islightuserdata(L, idx) && !lua_touserdata(L, idx);
}

static void push_number(lua_State *L, double value) {
    bool exact = fabs(value) <= (double)SR_JSON_EXACT && value == floor(value);
    if (exact && !(value == 0 && signbit(value)))
        lua_pushinteger(L, (lua_Integer)value);
    else
        lua_pushnumber(L, value);
}

/* Mark the table on top; also where nobody has required "json" yet. */
static void mark_array(lua_State *L) {
    luaL_newmetatable(L, ARRAY_TYPE);
    lua_setmetatable(L, -2);
}

static void push_array(lua_State *L, const cJSON *array) {
    const cJSON *child;
    lua_Integer i = 0;
    lua_createtable(L, cJSON_GetArraySize(array), 0);
    mark_array(L);
    cJSON_ArrayForEach(child, array) {
        sr_json_push(L, child);
        lua_rawseti(L, -2, ++i);
    }
}

static void push_object(lua_State *L, const cJSON *object) {
    const cJSON *child;
    lua_createtable(L, 0, cJSON_GetArraySize(object));
    cJSON_ArrayForEach(child, object) {
        lua_pushstring(L, child->string);
        sr_json_push(L, child);
        lua_rawset(L, -3);
    }
}

void sr_json_push(lua_State *L, const cJSON *item) {
    luaL_checkstack(L, 4, "json");
    if (cJSON_IsString(item))
        lua_pushstring(L, item->valuestring);
    else if (cJSON_IsNumber(item))
        push_number(L, item->valuedouble);
    else if (cJSON_IsBool(item))
        lua_pushboolean(L, cJSON_IsTrue(item));
    else if (cJSON_IsArray(item))
        push_array(L, item);
    else if (cJSON_IsObject(item))
        push_object(L, item);
    else
        sr_json_push_null(L);
}

static const sr_arg decode_args[] = {
    {"max_depth", SR_INT, SR_POSITIVE, "64", "levels of nesting",
     .max = SR_JSON_MAX_DEPTH},
    {"max_size", SR_INT, SR_POSITIVE, "67108864", "bytes of text", .max = INT_MAX},
    {0}};
static const sr_spec decode_spec = {"json.decode", "Parse one JSON value.", decode_args};

/* json.decode(text, {max_depth=64, max_size=64 MiB}?) → value
 * Raises protocol (line, byte and path of what is wrong) or limit. */
static int l_decode(lua_State *L) {
    sr_err err = {0};
    size_t len;
    if (lua_type(L, 1) != LUA_TSTRING)
        return sr_raise(L, SR_USAGE, NULL, "json.decode expects a string, got %s",
                        luaL_typename(L, 1));
    const char *text = lua_tolstring(L, 1, &len);
    lua_settop(L, 2);
    sr_args(L, 2, &decode_spec);
    lua_Integer max_size = sr_arg_int(L, 2, "max_size", MAX_SIZE);
    int max_depth = (int)sr_arg_int(L, 2, "max_depth", SR_JSON_DEPTH);
    if (len > (size_t)max_size)
        return sr_raise(L, SR_LIMIT, NULL,
                        "JSON: a text of %zu bytes exceeds max_size = %lld", len,
                        (long long)max_size);
    cJSON **tree = lua_newuserdatauv(L, sizeof *tree, 0);
    *tree = NULL;
    luaL_setmetatable(L, TREE_TYPE);
    *tree = sr_json_parse(text, len, max_depth, &err);
    if (!*tree) return sr_throw(L, &err);
    sr_json_push(L, *tree);
    cJSON_Delete(*tree); /* now, not when the collector gets to it */
    *tree = NULL;
    return 1;
}

/* ---------------------------------------------------------------- encode */

typedef struct writer {
    sr_buf *out;
    bool pretty, sorted;
    int depth, max_depth;
} writer;

/* A table on the way down, to find cycles; place.up is its parent's place. */
typedef struct level {
    sr_json_place place; /* must be first */
    const struct level *up;
    const void *table;
} level;

typedef struct key {
    const char *text;
    size_t len;
} key;

static void write_value(lua_State *L, writer *w, const level *here);

static int l_text_gc(lua_State *L) {
    sr_buf_free(lua_touserdata(L, 1));
    return 0;
}

static int refuse(lua_State *L, const level *here, const char *what) {
    char path[128];
    sr_json_path(&here->place, path, sizeof path);
    return sr_raise(L, SR_USAGE, NULL, "json.encode: %s (at %s)", what, path);
}

static void check(lua_State *L, const level *here, int rc, const sr_err *err) {
    if (rc) refuse(L, here, err->message);
}

static void put(lua_State *L, writer *w, const char *text) {
    if (sr_buf_puts(w->out, text)) luaL_error(L, "not enough memory");
}

static void newline(lua_State *L, writer *w) {
    if (!w->pretty) return;
    put(L, w, "\n");
    for (int i = 0; i < w->depth; i++)
        put(L, w, "  ");
}

static void write_array(lua_State *L, writer *w, level *inner, lua_Integer n) {
    put(L, w, "[");
    for (lua_Integer i = 1; i <= n; i++) {
        inner->place.index = (size_t)i;
        if (i > 1) put(L, w, ",");
        newline(L, w);
        lua_rawgeti(L, -1, i);
        write_value(L, w, inner);
        lua_pop(L, 1);
    }
    w->depth--;
    if (n) newline(L, w);
    put(L, w, "]");
}

static int by_bytes(const void *a, const void *b) {
    const key *ka = a, *kb = b;
    int order = memcmp(ka->text, kb->text, ka->len < kb->len ? ka->len : kb->len);
    if (order) return order;
    return (ka->len > kb->len) - (ka->len < kb->len);
}

/* The keys of the table on top as a userdata above it; the table keeps their text alive.
 */
static key *push_keys(lua_State *L, size_t n) {
    key *keys = lua_newuserdatauv(L, n * sizeof *keys, 0);
    size_t i = 0;
    for (lua_pushnil(L); lua_next(L, -3); lua_pop(L, 1), i++)
        keys[i].text = lua_tolstring(L, -2, &keys[i].len);
    return keys;
}

static void write_object(lua_State *L, writer *w, level *inner, size_t n) {
    sr_err err = {0};
    key *keys = push_keys(L, n); /* table, keys */
    if (w->sorted) qsort(keys, n, sizeof *keys, by_bytes);
    put(L, w, "{");
    for (size_t i = 0; i < n; i++) {
        inner->place.key = keys[i].text;
        inner->place.key_len = keys[i].len;
        if (i) put(L, w, ",");
        newline(L, w);
        check(L, inner, sr_json_put_string(w->out, keys[i].text, keys[i].len, &err),
              &err);
        put(L, w, w->pretty ? ": " : ":");
        lua_pushlstring(L, keys[i].text, keys[i].len);
        lua_rawget(L, -3);
        write_value(L, w, inner);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    w->depth--;
    if (n) newline(L, w);
    put(L, w, "}");
}

typedef struct shape {
    lua_Integer strings, integers, highest;
    bool marked;
} shape;

static bool marked_array(lua_State *L) {
    if (!lua_getmetatable(L, -1)) return false;
    luaL_getmetatable(L, ARRAY_TYPE);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* Count the keys of the table on top by type; refuse what no JSON container can have. */
static shape look_at(lua_State *L, const level *inner) {
    shape s = {.marked = marked_array(L)};
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            s.strings++;
        } else if (lua_isinteger(L, -2) && lua_tointeger(L, -2) > 0) {
            s.integers++;
            if (lua_tointeger(L, -2) > s.highest) s.highest = lua_tointeger(L, -2);
        } else {
            refuse(L, inner, "the key of a table must be a string or an index from 1");
        }
    }
    if (s.integers && s.strings)
        refuse(L, inner,
               "a table with both indices and names is neither array nor object");
    if (s.integers != s.highest)
        refuse(L, inner, "an array with holes: fill them with json.null");
    if (s.marked && s.strings)
        refuse(L, inner, "a table marked as array has names as keys");
    return s;
}

static void write_table(lua_State *L, writer *w, const level *here) {
    const void *self = lua_topointer(L, -1);
    level inner = {{&here->place, NULL, 0, 0}, here, self};
    for (const level *up = here; up; up = up->up)
        if (up->table == self) refuse(L, here, "a table that contains itself");
    if (++w->depth > w->max_depth)
        refuse(L, here, "nested deeper than max_depth, or endless");
    luaL_checkstack(L, 8, "json");
    shape s = look_at(L, here);
    if (s.marked || s.integers)
        write_array(L, w, &inner, s.integers);
    else
        write_object(L, w, &inner, (size_t)s.strings);
}

static void write_number(lua_State *L, writer *w, const level *here) {
    sr_err err = {0};
    int rc = lua_isinteger(L, -1) ? sr_json_put_int(w->out, lua_tointeger(L, -1), &err)
                                  : sr_json_put_number(w->out, lua_tonumber(L, -1), &err);
    check(L, here, rc, &err);
}

static void write_string(lua_State *L, writer *w, const level *here) {
    sr_err err = {0};
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    check(L, here, sr_json_put_string(w->out, text, len, &err), &err);
}

static void refuse_type(lua_State *L, const level *here) {
    if (luaL_testudata(L, -1, SR_SECRET_TYPE))
        refuse(L, here,
               "a secret is not written as JSON: pass it to the call that sends it");
    lua_pushfstring(L, "a %s cannot be written as JSON", luaL_typename(L, -1));
    refuse(L, here, lua_tostring(L, -1));
}

/* Append the value on top of the stack. */
static void write_value(lua_State *L, writer *w, const level *here) {
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN: put(L, w, lua_toboolean(L, -1) ? "true" : "false"); break;
    case LUA_TNUMBER: write_number(L, w, here); break;
    case LUA_TSTRING: write_string(L, w, here); break;
    case LUA_TTABLE: write_table(L, w, here); break;
    default:
        if (!sr_json_is_null(L, -1)) refuse_type(L, here);
        put(L, w, "null");
    }
}

static const sr_arg encode_args[] = {
    {"pretty", SR_BOOL, 0, "false", "line ends and two spaces a level"},
    {"sort", SR_BOOL, 0, "true", "members in the byte order of their keys"},
    {"max_depth", SR_INT, SR_POSITIVE, "64", "levels of nesting",
     .max = SR_JSON_MAX_DEPTH},
    {0}};
static const sr_spec encode_spec = {"json.encode", "Write a value as JSON.", encode_args};

/* json.encode(value, {pretty=false, sort=true, max_depth=64}?) → text
 * Raises usage, naming the path of what JSON cannot hold. */
static int l_encode(lua_State *L) {
    level root = {{0}, NULL, NULL};
    luaL_checkany(L, 1);
    lua_settop(L, 2);
    sr_args(L, 2, &encode_spec);
    writer w = {.pretty = sr_arg_bool(L, 2, "pretty", false),
                .sorted = sr_arg_bool(L, 2, "sort", true),
                .max_depth = (int)sr_arg_int(L, 2, "max_depth", SR_JSON_DEPTH)};
    w.out = lua_newuserdatauv(L, sizeof *w.out, 0);
    *w.out = (sr_buf){0};
    luaL_setmetatable(L, TEXT_TYPE);
    lua_pushvalue(L, 1);
    write_value(L, &w, &root);
    lua_pushlstring(L, w.out->data, w.out->len);
    sr_buf_free(w.out);
    return 1;
}

/* json.array(t?) → t, marked to encode as an array even when empty. */
static int l_array(lua_State *L) {
    if (lua_isnone(L, 1)) lua_newtable(L);
    if (!lua_istable(L, 1))
        return sr_raise(L, SR_USAGE, NULL, "json.array expects a table, got %s",
                        luaL_typename(L, 1));
    lua_settop(L, 1);
    if (lua_getmetatable(L, 1)) {
        lua_settop(L, 1);
        if (!marked_array(L))
            return sr_raise(
                L, SR_USAGE, NULL,
                "json.array: the table already has a metatable: copy its fields "
                "into a new one");
    }
    mark_array(L);
    return 1;
}

static void new_type(lua_State *L, const char *name, lua_CFunction gc) {
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

static const luaL_Reg functions[] = {
    {"decode", l_decode}, {"encode", l_encode}, {"array", l_array}, {NULL, NULL}};

int luaopen_json(lua_State *L) {
    new_type(L, TREE_TYPE, l_tree_gc);
    new_type(L, TEXT_TYPE, l_text_gc);
    luaL_newlib(L, functions);
    sr_json_push_null(L);
    lua_setfield(L, -2, "null");
    return 1;
}
