/* guard_base.c – the base functions of a cage, its clock, and the table of all names.
 *
 * The names are chosen one by one; nothing is taken over because the stock library has
 * it. What is left out on purpose: pcall, xpcall and coroutine (they would swallow a
 * limit), setmetatable and getmetatable (finalizers run without a hook, a false __len
 * lies), load, require, io, debug, collectgarbage (ways out), math.random and os.clock (a
 * policy is a function of its input), print (it has no output). Reading such a name says
 * so.
 */
#include "guard.h"

#include <math.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

/* ---------------------------------------------------------------- stock functions */

static lua_CFunction stock[SR_STOCKS];
static const struct {
    const char *lib, *name;
} stock_names[SR_STOCKS] = {
    [SR_STOCK_BYTE] = {"string", "byte"},
    [SR_STOCK_CHAR] = {"string", "char"},
    [SR_STOCK_FIND] = {"string", "find"},
    [SR_STOCK_FORMAT] = {"string", "format"},
    [SR_STOCK_GMATCH] = {"string", "gmatch"},
    [SR_STOCK_GSUB] = {"string", "gsub"},
    [SR_STOCK_LEN] = {"string", "len"},
    [SR_STOCK_LOWER] = {"string", "lower"},
    [SR_STOCK_MATCH] = {"string", "match"},
    [SR_STOCK_REVERSE] = {"string", "reverse"},
    [SR_STOCK_SUB] = {"string", "sub"},
    [SR_STOCK_UPPER] = {"string", "upper"},
    [SR_STOCK_TONUMBER] = {"_G", "tonumber"},
    [SR_STOCK_DATE] = {"os", "date"},
    [SR_STOCK_UTF8_CODEPOINT] = {"utf8", "codepoint"},
    [SR_STOCK_UTF8_LEN] = {"utf8", "len"},
    [SR_STOCK_UTF8_OFFSET] = {"utf8", "offset"},
};

/* Functions taken over as they are: constant work, no address, no state. */
static const char *const as_is_names[][2] = {
    {"_G", "assert"},  {"_G", "error"},  {"_G", "ipairs"},      {"_G", "rawequal"},
    {"_G", "select"},  {"_G", "type"},   {"math", "abs"},       {"math", "acos"},
    {"math", "asin"},  {"math", "atan"}, {"math", "ceil"},      {"math", "cos"},
    {"math", "deg"},   {"math", "exp"},  {"math", "floor"},     {"math", "fmod"},
    {"math", "log"},   {"math", "max"},  {"math", "min"},       {"math", "modf"},
    {"math", "rad"},   {"math", "sin"},  {"math", "sqrt"},      {"math", "tan"},
    {"math", "type"},  {"math", "ult"},  {"math", "tointeger"}, {"utf8", "char"},
    {"utf8", "codes"},
};
enum { AS_IS = sizeof as_is_names / sizeof *as_is_names };
static lua_CFunction as_is[AS_IS];

static lua_CFunction take(lua_State *L, const char *lib, const char *name) {
    lua_getglobal(L, lib);
    lua_getfield(L, -1, name);
    lua_CFunction fn = lua_tocfunction(L, -1);
    lua_pop(L, 2);
    return fn;
}

static int l_take_all(lua_State *L) {
    luaL_openlibs(L);
    for (int i = 0; i < SR_STOCKS; i++)
        stock[i] = take(L, stock_names[i].lib, stock_names[i].name);
    for (int i = 0; i < AS_IS; i++)
        as_is[i] = take(L, as_is_names[i][0], as_is_names[i][1]);
    return 0;
}

static bool have_stock;

static void take_stock(void) {
    lua_State *L = luaL_newstate();
    if (!L) return;
    lua_pushcfunction(L, l_take_all);
    have_stock = lua_pcall(L, 0, 0, 0) == LUA_OK;
    lua_close(L);
}

int sr_stock_call(lua_State *L, sr_stock which) {
    return stock[which](L);
}

/* ---------------------------------------------------------------- base */

void sr_guard_text(lua_State *L, int idx) {
    int type = lua_type(L, idx);
    if (luaL_callmeta(L, idx, "__tostring")) return;
    if (type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TTHREAD)
        lua_pushstring(L, lua_typename(L, type));
    else if (type == LUA_TLIGHTUSERDATA)
        lua_pushliteral(L, "null");
    else if (type == LUA_TUSERDATA)
        lua_pushliteral(L, "object");
    else
        luaL_tolstring(L, idx, NULL);
}

static int l_tostring(lua_State *L) {
    luaL_checkany(L, 1);
    sr_guard_text(L, 1);
    return 1;
}

#define LINEAR(name, which)                                                              \
    static int name(lua_State *L) {                                                      \
        sr_guard_work(L, lua_rawlen(L, 1));                                              \
        return sr_stock_call(L, which);                                                  \
    }
LINEAR(l_tonumber, SR_STOCK_TONUMBER)
LINEAR(l_utf8_codepoint, SR_STOCK_UTF8_CODEPOINT)
LINEAR(l_utf8_len, SR_STOCK_UTF8_LEN)
LINEAR(l_utf8_offset, SR_STOCK_UTF8_OFFSET)

/* ---------------------------------------------------------------- os */

static void push_seconds(lua_State *L, double seconds) {
    lua_Integer whole;
    if (lua_numbertointeger(seconds, &whole))
        lua_pushinteger(L, whole);
    else
        lua_pushnumber(L, seconds);
}

static int date_field(lua_State *L, const char *key, int fallback) {
    int exact;
    lua_getfield(L, 1, key);
    lua_Integer value = lua_tointegerx(L, -1, &exact);
    if (lua_isnil(L, -1) && fallback >= 0)
        value = fallback;
    else if (!exact)
        luaL_error(L, "os.time: field '%s' must be an integer", key);
    if (value < -1000000 || value > 1000000)
        luaL_error(L, "os.time: field '%s' is out of range", key);
    lua_pop(L, 1);
    return (int)value;
}

/* os.time([t]): the fixed instant, or a date table read as UTC. */
static int l_os_time(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        push_seconds(L, floor(sr_guard_of(L)->now));
        return 1;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    struct tm tm = {.tm_year = date_field(L, "year", -1) - 1900,
                    .tm_mon = date_field(L, "month", -1) - 1,
                    .tm_mday = date_field(L, "day", -1),
                    .tm_hour = date_field(L, "hour", 12),
                    .tm_min = date_field(L, "min", 0),
                    .tm_sec = date_field(L, "sec", 0)};
    lua_pushinteger(L, (lua_Integer)timegm(&tm));
    return 1;
}

/* os.date([format [, time]]): always UTC, whether the format starts with "!" or not. */
static int l_os_date(lua_State *L) {
    const char *format = luaL_optstring(L, 1, "%c");
    luaL_argcheck(L, strlen(format) <= 256, 1, "at most 256 bytes");
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        push_seconds(L, floor(sr_guard_of(L)->now));
        lua_replace(L, 2);
    }
    lua_pushfstring(L, "%s%s", *format == '!' ? "" : "!", format);
    lua_replace(L, 1);
    return sr_stock_call(L, SR_STOCK_DATE);
}

static int l_os_difftime(lua_State *L) {
    lua_pushnumber(L, luaL_checknumber(L, 1) - luaL_checknumber(L, 2));
    return 1;
}

/* ---------------------------------------------------------------- libraries */

static const luaL_Reg base[] = {
    {"next", sr_guard_next},
    {"pairs", sr_guard_pairs},
    {"tonumber", l_tonumber},
    {"tostring", l_tostring},
    {NULL, NULL},
};
static const luaL_Reg utf8_lib[] = {
    {"codepoint", l_utf8_codepoint},
    {"len", l_utf8_len},
    {"offset", l_utf8_offset},
    {NULL, NULL},
};
static const luaL_Reg os_lib[] = {
    {"time", l_os_time},
    {"date", l_os_date},
    {"difftime", l_os_difftime},
    {NULL, NULL},
};

/* Add what is taken over of `lib` to the table on top. */
static void add_as_is(lua_State *L, const char *lib) {
    for (int i = 0; i < AS_IS; i++) {
        if (*as_is_names[i][0] != *lib) continue; /* _G, math and utf8 differ there */
        lua_pushcfunction(L, as_is[i]);
        lua_setfield(L, -2, as_is_names[i][1]);
    }
}

static void fill_math(lua_State *L) {
    add_as_is(L, "math");
    lua_pushnumber(L, 3.141592653589793);
    lua_setfield(L, -2, "pi");
    lua_pushnumber(L, (lua_Number)HUGE_VAL);
    lua_setfield(L, -2, "huge");
    lua_pushinteger(L, LUA_MAXINTEGER);
    lua_setfield(L, -2, "maxinteger");
    lua_pushinteger(L, LUA_MININTEGER);
    lua_setfield(L, -2, "mininteger");
}

static void fill_utf8(lua_State *L) {
    luaL_setfuncs(L, utf8_lib, 0);
    add_as_is(L, "utf8");
    lua_pushlstring(L, "[\0-\x7F\xC2-\xFD][\x80-\xBF]*", 14);
    lua_setfield(L, -2, "charpattern");
}

static void fill_os(lua_State *L) {
    luaL_setfuncs(L, os_lib, 0);
}

/* Made when first named: most policies need none of them, and a cage lives for one. */
static const struct lazy {
    const char *name;
    void (*fill)(lua_State *L);
    int size;
} lazy_libs[] = {{"table", sr_guard_table, 8},
                 {"math", fill_math, 32},
                 {"utf8", fill_utf8, 8},
                 {"os", fill_os, 4},
                 {NULL, NULL, 0}};

/* Add the library to the table of names at 1 and return it. */
static int add_lazy(lua_State *L, const struct lazy *lib) {
    lua_createtable(L, 0, lib->size);
    lib->fill(L);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 1);
    return 1;
}

/* ---------------------------------------------------------------- names that are not */

static const char *const left_out[] = {
    "pcall", "xpcall",   "setmetatable", "getmetatable",   "rawset",  "rawget",
    "load",  "loadfile", "dofile",       "loadstring",     "require", "coroutine",
    "debug", "io",       "package",      "collectgarbage", "print",   "_G",
    "try",   "task",     NULL,
};

enum { NAMES_MAX = 160 };

/* Append the string keys of the table at idx; they live as long as the table has them. */
static size_t list_names(lua_State *L, int idx, const char **names, size_t n) {
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        if (lua_type(L, -2) == LUA_TSTRING && n < NAMES_MAX)
            names[n++] = lua_tostring(L, -2);
        lua_pop(L, 1);
    }
    return n;
}

/* __index of the names: whoever reads one that does not exist gets told. */
static int l_undefined(lua_State *L) {
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
    if (!name)
        return luaL_error(L, "globals have names, this is a %s", luaL_typename(L, 2));
    for (const struct lazy *lib = lazy_libs; lib->name; lib++)
        if (strcmp(name, lib->name) == 0) return add_lazy(L, lib);
    for (const char *const *word = left_out; *word; word++)
        if (strcmp(name, *word) == 0)
            return luaL_error(
                L,
                "'%s' does not exist here: this file runs in a cage without "
                "I/O, error handlers or metatables",
                name);
    const char *names[NAMES_MAX + 1];
    size_t n = 0;
    for (const struct lazy *lib = lazy_libs; lib->name; lib++)
        names[n++] = lib->name;
    n = list_names(L, 1, names, n);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS); /* what the chunk defined */
    n = list_names(L, lua_gettop(L), names, n);
    names[n] = NULL;
    const char *near = strlen(name) < 64 ? sr_suggest(name, names) : NULL;
    return luaL_error(L, "undefined name '%s'%s%s%s", name,
                      near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* ---------------------------------------------------------------- the table of names */

static void add_string(lua_State *L) {
    lua_createtable(L, 0, 16);
    sr_guard_string(L);
    lua_pushliteral(L, "");
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2); /* of every string of this state */
    lua_pop(L, 1);
    lua_setfield(L, -2, "string");
}

void sr_guard_libs(lua_State *L) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, take_stock);
    if (!have_stock) luaL_error(L, "not enough memory");
    lua_createtable(L, 0, 32);
    luaL_setfuncs(L, base, 0);
    add_as_is(L, "_G");
    add_string(L);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_undefined);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}
