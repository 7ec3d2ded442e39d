/* args.c – named arguments: one static table per function that checks them, and from
 * which help, documentation and editor stubs are made.
 *
 * Checking raises one usage error that names the function, the key, what was expected and
 * what was given. Reading afterwards cannot fail.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "vm.h"

/* Push the table's own field: what was checked is what is read, and the table keeps its
 * text alive; a metatable's __index could promise neither. */
static int push_field(lua_State *L, int idx, const char *key) {
    idx = lua_absindex(L, idx);
    lua_pushstring(L, key);
    return lua_rawget(L, idx);
}

/* ---------------------------------------------------------------- checking */

static const char *const type_names[] = {
    "any value", "string", "boolean", "integer",  "number",           "duration",
    "",          "table",  "list",    "function", "secret or string", ""};

SR_NORETURN static void wrong(lua_State *L, const sr_spec *spec, const sr_arg *arg,
                              const char *want) {
    const char *given = luaL_typename(L, -1);
    if (luaL_getmetafield(L, -1, "__name") == LUA_TSTRING) given = lua_tostring(L, -1);
    sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s: %s must be %s, got %s", spec->name,
             arg->name, want, given);
}

SR_NORETURN static void bad_value(lua_State *L, const sr_spec *spec, const sr_arg *arg,
                                  const char *want) {
    sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s: %s must be %s, got %s", spec->name,
             arg->name, want, luaL_tolstring(L, -1, NULL));
}

static bool is_choice(const char *choices, const char *word) {
    size_t len = strlen(word);
    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strcspn(at, "|") == len && strncmp(at, word, len) == 0) return true;
    return false;
}

static void check_list(lua_State *L, const sr_spec *spec, const sr_arg *arg) {
    char want[64];
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    if ((arg->flags & SR_NONEMPTY) && n == 0)
        wrong(L, spec, arg, "a list that is not empty");
    for (lua_Integer i = 1; arg->choices && i <= n; i++) {
        lua_rawgeti(L, -1, i);
        if (strcmp(luaL_typename(L, -1), arg->choices) != 0) {
            snprintf(want, sizeof want, "a list of %ss (item %d)", arg->choices, (int)i);
            wrong(L, spec, arg, want);
        }
        lua_pop(L, 1);
    }
}

static void check_number(lua_State *L, const sr_spec *spec, const sr_arg *arg) {
    char want[64];
    double n = lua_tonumber(L, -1);
    if (isnan(n)) bad_value(L, spec, arg, "a number");
    if ((arg->flags & SR_POSITIVE) && n <= 0) bad_value(L, spec, arg, "greater than 0");
    if (arg->max == 0 || n <= arg->max) return;
    snprintf(want, sizeof want, "at most %.14g", arg->max);
    bad_value(L, spec, arg, want);
}

/* From nothing to about thirty years; not what is no number at all. */
static bool read_duration(lua_State *L, int idx, double *ret_seconds) {
    double seconds = -1;
    if (lua_type(L, idx) == LUA_TNUMBER) seconds = lua_tonumber(L, idx);
    if (lua_type(L, idx) == LUA_TSTRING)
        (void)sr_parse_duration(lua_tostring(L, idx), &seconds);
    if (!(seconds >= 0 && seconds < 1e9)) return false;
    *ret_seconds = seconds;
    return true;
}

static void check_duration(lua_State *L, const sr_spec *spec, const sr_arg *arg) {
    double seconds;
    if (!read_duration(L, -1, &seconds))
        bad_value(L, spec, arg,
                  "seconds or a duration such as \"250ms\", \"5m\", \"30d\"");
}

static bool has_type(lua_State *L, const sr_arg *arg) {
    int type = lua_type(L, -1), exact;
    switch (arg->type) {
    case SR_ANY: return true;
    case SR_ENUM:
    case SR_STRING: return type == LUA_TSTRING;
    case SR_BOOL: return type == LUA_TBOOLEAN;
    case SR_INT: lua_tointegerx(L, -1, &exact); return type == LUA_TNUMBER && exact;
    case SR_NUMBER: return type == LUA_TNUMBER;
    case SR_DURATION: return type == LUA_TNUMBER || type == LUA_TSTRING;
    case SR_LIST:
    case SR_TABLE: return type == LUA_TTABLE;
    case SR_FUNCTION: return type == LUA_TFUNCTION;
    case SR_SECRET: return type == LUA_TSTRING || luaL_testudata(L, -1, SR_SECRET_TYPE);
    case SR_OBJECT: return luaL_testudata(L, -1, arg->choices) != NULL;
    }
    return false;
}

/* The value is on top. */
static void check_one(lua_State *L, const sr_spec *spec, const sr_arg *arg) {
    if (!has_type(L, arg))
        wrong(L, spec, arg,
              arg->type == SR_ENUM || arg->type == SR_OBJECT ? arg->choices
                                                             : type_names[arg->type]);
    switch (arg->type) {
    case SR_STRING:
        if ((arg->flags & SR_NONEMPTY) && lua_rawlen(L, -1) == 0)
            bad_value(L, spec, arg, "a string that is not empty");
        break;
    case SR_INT:
    case SR_NUMBER: check_number(L, spec, arg); break;
    case SR_DURATION: check_duration(L, spec, arg); break;
    case SR_LIST: check_list(L, spec, arg); break;
    case SR_ENUM:
        if (!is_choice(arg->choices, lua_tostring(L, -1)))
            bad_value(L, spec, arg, arg->choices);
        break;
    default: break;
    }
}

static const sr_arg *find(const sr_spec *spec, const char *name) {
    for (const sr_arg *arg = spec->args; arg->name; arg++)
        if (strcmp(arg->name, name) == 0) return arg;
    return NULL;
}

SR_NORETURN static void unknown(lua_State *L, const sr_spec *spec, const char *name) {
    enum { MAX_ARGS = 64 };
    const char *words[MAX_ARGS + 1];
    luaL_Buffer list;
    int n = 0;
    luaL_buffinit(L, &list);
    for (const sr_arg *arg = spec->args; arg->name && n < MAX_ARGS; arg++) {
        if (n) luaL_addstring(&list, ", ");
        luaL_addstring(&list, arg->name);
        words[n++] = arg->name;
    }
    words[n] = NULL;
    luaL_pushresult(&list);
    const char *close = sr_suggest(name, words);
    if (close)
        sr_raise(L, SR_USAGE, "UNKNOWN_ARGUMENT",
                 "%s: unknown option %s; did you mean %s?", spec->name, name, close);
    sr_raise(L, SR_USAGE, "UNKNOWN_ARGUMENT", "%s: unknown option %s; it takes: %s",
             spec->name, name, lua_tostring(L, -1));
}

void sr_args(lua_State *L, int idx, const sr_spec *spec) {
    idx = lua_absindex(L, idx);
    if (lua_isnoneornil(L, idx)) {
        lua_settop(L, lua_gettop(L) < idx ? idx : lua_gettop(L));
        lua_newtable(L);
        lua_replace(L, idx);
    }
    if (!lua_istable(L, idx))
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s: takes one table of options, got %s",
                 spec->name, luaL_typename(L, idx));
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                     "%s: options have names, got the position %s", spec->name,
                     luaL_tolstring(L, -2, NULL));
        const sr_arg *arg = find(spec, lua_tostring(L, -2));
        if (!arg) unknown(L, spec, lua_tostring(L, -2));
        check_one(L, spec, arg);
    }
    for (const sr_arg *arg = spec->args; arg->name; arg++) {
        if (!(arg->flags & SR_REQUIRED)) continue;
        if (push_field(L, idx, arg->name) == LUA_TNIL)
            sr_raise(L, SR_USAGE, "MISSING_ARGUMENT", "%s: %s is missing: %s", spec->name,
                     arg->name, arg->doc ? arg->doc : type_names[arg->type]);
        lua_pop(L, 1);
    }
}

/* ---------------------------------------------------------------- reading */

int sr_arg_push(lua_State *L, int idx, const char *key) {
    return push_field(L, idx, key);
}

const char *sr_arg_string(lua_State *L, int idx, const char *key, const char *fallback,
                          size_t *ret_len) {
    const char *text = fallback;
    size_t len = fallback ? strlen(fallback) : 0;
    if (push_field(L, idx, key) == LUA_TSTRING) text = lua_tolstring(L, -1, &len);
    lua_pop(L, 1);
    if (ret_len) *ret_len = len;
    return text;
}

bool sr_arg_bool(lua_State *L, int idx, const char *key, bool fallback) {
    bool value = push_field(L, idx, key) == LUA_TNIL ? fallback : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

lua_Integer sr_arg_int(lua_State *L, int idx, const char *key, lua_Integer fallback) {
    lua_Integer value =
        push_field(L, idx, key) == LUA_TNIL ? fallback : lua_tointeger(L, -1);
    lua_pop(L, 1);
    return value;
}

double sr_arg_number(lua_State *L, int idx, const char *key, double fallback) {
    double value = push_field(L, idx, key) == LUA_TNIL ? fallback : lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

double sr_arg_duration(lua_State *L, int idx, const char *key, double fallback) {
    double value = fallback;
    push_field(L, idx, key);
    (void)read_duration(L, -1, &value);
    lua_pop(L, 1);
    return value;
}

double sr_check_duration(lua_State *L, int idx) {
    double seconds = 0;
    if (!read_duration(L, idx, &seconds))
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "argument %d must be seconds or a duration such as \"250ms\", \"5m\", "
                 "\"30d\", got %s",
                 idx, luaL_tolstring(L, idx, NULL));
    return seconds;
}

void *sr_check_object(lua_State *L, int idx, const char *tname) {
    void *object = luaL_testudata(L, idx, tname);
    if (!object) {
        const char *given = luaL_typename(L, idx);
        if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING)
            given = lua_tostring(L, -1);
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "argument %d: expected %s, got %s (methods are called with ':')", idx,
                 tname, given);
    }
    return object;
}

/* ---------------------------------------------------------------- for Lua layers */

static const char *const lua_types[] = {
    "any",   "string", "boolean",  "integer", "number", "duration", "enum",
    "table", "list",   "function", "secret",  "object", NULL};

static const char *text_field(lua_State *L, int idx, const char *key) {
    push_field(L, idx, key);
    const char *text = lua_tostring(L, -1); /* the table keeps it alive */
    lua_pop(L, 1);
    return text;
}

static sr_arg read_arg(lua_State *L, int idx) {
    sr_arg arg = {.name = text_field(L, idx, "name"), .doc = text_field(L, idx, "doc")};
    if (!arg.name) luaL_error(L, "args.check: every argument has a name");
    lua_getfield(L, idx, "type");
    arg.type = (sr_type)luaL_checkoption(L, -1, "any", lua_types);
    lua_pop(L, 1);
    arg.choices = text_field(L, idx, "choices");
    arg.max = sr_arg_number(L, idx, "max", 0);
    arg.flags = (sr_arg_bool(L, idx, "required", false) ? SR_REQUIRED : 0) |
                (sr_arg_bool(L, idx, "positive", false) ? SR_POSITIVE : 0) |
                (sr_arg_bool(L, idx, "nonempty", false) ? SR_NONEMPTY : 0);
    return arg;
}

/* args.check(name, spec, options) → options (a new table for nil). spec is a list of
 * {name=, type=, required=, positive=, nonempty=, choices=, max=, doc=}; types: any
 * string boolean integer number duration enum table list function secret object. */
static int l_check(lua_State *L) {
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    size_t n = (size_t)luaL_len(L, 2);
    sr_spec spec = {.name = luaL_checkstring(L, 1)};
    sr_arg *args = lua_newuserdatauv(L, (n + 1) * sizeof *args, 0);
    for (size_t i = 0; i < n; i++) {
        lua_geti(L, 2, (lua_Integer)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        args[i] = read_arg(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    args[n] = (sr_arg){0};
    spec.args = args;
    sr_args(L, 3, &spec);
    lua_pushvalue(L, 3);
    return 1;
}

/* args.duration(value) → seconds. */
static int l_duration(lua_State *L) {
    lua_pushnumber(L, sr_check_duration(L, 1));
    return 1;
}

/* args.suggest(word, list) → the closest word of the list, or nil. */
static int l_suggest(lua_State *L) {
    const char *word = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t n = lua_rawlen(L, 2);
    const char **words = lua_newuserdatauv(L, (n + 1) * sizeof *words, 0);
    size_t count = 0;
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i);
        if (lua_type(L, -1) == LUA_TSTRING) words[count++] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    words[count] = NULL;
    lua_pushstring(L, sr_suggest(word, words));
    return 1;
}

static const luaL_Reg functions[] = {
    {"check", l_check}, {"duration", l_duration}, {"suggest", l_suggest}, {NULL, NULL}};

int sr_open_args(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
