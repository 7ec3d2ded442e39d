/* guard_string.c – the string library of a cage.
 *
 * The work is done by the stock functions; what stands here decides first whether the
 * call can be afforded. Patterns run over at most 4 KB and only if pattern.c says that
 * the worst case is affordable; plain searches by the product of both lengths. format
 * shows no address and has no %p. dump, pack, packsize and unpack do not exist.
 */
#include "guard.h"

#include <string.h>

enum {
    PLAIN_PRODUCT = 100000000, /* bytes of subject × bytes sought */
    RESULTS_MAX = 8000         /* values one call may return */
};

static bool has_magic(const char *pattern, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (strchr("^$*+?.([%-", pattern[i]) && pattern[i]) return true;
    return false;
}

/* Raise unless `pattern` over `subject` (arguments 2 and 1) stays within bounds; else
 * return the number of steps to expect at worst. */
static double check_pattern(lua_State *L, const char *name, bool anchors) {
    size_t len, pattern_len;
    const char *subject = luaL_checklstring(L, 1, &len);
    const char *pattern = luaL_checklstring(L, 2, &pattern_len);
    if (pattern_len > SR_PATTERN_SIZE)
        luaL_error(L, "string.%s: the pattern has %I bytes, at most %d are allowed", name,
                   (LUAI_UACINT)pattern_len, SR_PATTERN_SIZE);
    if (len > SR_PATTERN_SUBJECT)
        luaL_error(L,
                   "string.%s: a pattern can search %d bytes, this string has %I; cut it "
                   "with string.sub or find plain text with find(s, text, 1, true)",
                   name, SR_PATTERN_SUBJECT, (LUAI_UACINT)len);
    double cost = sr_pattern_cost(pattern, pattern_len, subject, len, anchors);
    if (cost < 0) luaL_error(L, "string.%s: malformed pattern '%s'", name, pattern);
    if (cost > SR_PATTERN_STEPS)
        luaL_error(L,
                   "string.%s: the pattern '%s' may need %f steps on %I bytes, more than "
                   "10 million: anchor it with ^, or use fewer * + - ?",
                   name, pattern, (LUAI_UACNUMBER)cost, (LUAI_UACINT)len);
    sr_guard_work(L, len + pattern_len);
    return cost;
}

static void check_plain(lua_State *L, size_t len, size_t sought) {
    if (sought > 0 && len > PLAIN_PRODUCT / sought)
        luaL_error(L, "string.find: %I bytes in %I bytes are too much to search",
                   (LUAI_UACINT)sought, (LUAI_UACINT)len);
    sr_guard_work(L, len / 16 + len * sought / 64);
}

static int l_find(lua_State *L) {
    size_t len, sought;
    luaL_checklstring(L, 1, &len);
    const char *pattern = luaL_checklstring(L, 2, &sought);
    if (lua_toboolean(L, 4) || !has_magic(pattern, sought))
        check_plain(L, len, sought);
    else
        sr_guard_work(L, (size_t)check_pattern(L, "find", true) / 4);
    return sr_stock_call(L, SR_STOCK_FIND);
}

static int l_match(lua_State *L) {
    sr_guard_work(L, (size_t)check_pattern(L, "match", true) / 4);
    return sr_stock_call(L, SR_STOCK_MATCH);
}

static int l_gsub(lua_State *L) {
    sr_guard_work(L, (size_t)check_pattern(L, "gsub", true) / 4);
    return sr_stock_call(L, SR_STOCK_GSUB);
}

/* upvalues: the stock iterator, the work of one step */
static int l_gmatch_next(lua_State *L) {
    sr_guard_work(L, (size_t)lua_tointeger(L, lua_upvalueindex(2)));
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_call(L, 0, LUA_MULTRET);
    return lua_gettop(L);
}

static int l_gmatch(lua_State *L) {
    double cost = check_pattern(L, "gmatch", false);
    size_t len = lua_rawlen(L, 1);
    lua_settop(L, 3);
    sr_stock_call(L, SR_STOCK_GMATCH);
    lua_pushinteger(L, (lua_Integer)(cost / 4 / (double)(len + 1)) + 1);
    lua_pushcclosure(L, l_gmatch_next, 2);
    return 1;
}

/* A value that stock format would show by its address becomes its text. */
static void plain_argument(lua_State *L, int arg) {
    int type = lua_type(L, arg);
    if (type != LUA_TTABLE && type != LUA_TFUNCTION && type != LUA_TUSERDATA &&
        type != LUA_TLIGHTUSERDATA && type != LUA_TTHREAD)
        return;
    sr_guard_text(L, arg);
    lua_replace(L, arg);
}

int sr_guard_format(lua_State *L) {
    size_t len;
    const char *format = luaL_checklstring(L, 1, &len);
    const char *end = format + len;
    int arg = 1, top = lua_gettop(L);
    sr_guard_work(L, len);
    for (const char *p = format; p < end; p++) {
        if (*p != '%') continue;
        if (++p < end && *p == '%') continue;
        while (p < end && *p && strchr("-+ #0123456789.", *p))
            p++;
        if (p < end && *p == 'p') luaL_error(L, "string.format: %%p does not exist here");
        if (++arg <= top && p < end && *p == 's') plain_argument(L, arg);
    }
    return sr_stock_call(L, SR_STOCK_FORMAT);
}

static int l_rep(lua_State *L) {
    size_t len, sep_len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Integer n = luaL_checkinteger(L, 2);
    const char *sep = luaL_optlstring(L, 3, "", &sep_len);
    size_t most = sr_guard_of(L)->max_string;
    if (n <= 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if (len + sep_len > 0 && (lua_Unsigned)n > most / (len + sep_len))
        return luaL_error(L, "string.rep: the result would be longer than %I bytes",
                          (LUAI_UACINT)most);
    if (len + sep_len == 0) n = 1;
    luaL_Buffer b;
    char *p = luaL_buffinitsize(L, &b, (size_t)n * (len + sep_len));
    for (lua_Integer i = 0; i < n; i++) {
        memcpy(p, text, len);
        p += len;
        if (i == n - 1) break;
        memcpy(p, sep, sep_len);
        p += sep_len;
    }
    luaL_pushresultsize(&b, (size_t)n * (len + sep_len) - sep_len);
    return 1;
}

/* byte returns one value a character. */
static int l_byte(lua_State *L) {
    size_t len = lua_rawlen(L, 1);
    lua_Integer i = luaL_optinteger(L, 2, 1);
    lua_Integer j = luaL_optinteger(L, 3, i);
    if (len > RESULTS_MAX && (j < 0 || j > RESULTS_MAX) &&
        (i < 0 || j < 0 || j - i > RESULTS_MAX))
        return luaL_error(L, "string.byte: at most %d bytes at a time", RESULTS_MAX);
    return sr_stock_call(L, SR_STOCK_BYTE);
}

/* Functions whose work is linear in their first argument. */
#define LINEAR(name, which)                                                              \
    static int name(lua_State *L) {                                                      \
        sr_guard_work(L, lua_rawlen(L, 1) / 16);                                         \
        return sr_stock_call(L, which);                                                  \
    }
LINEAR(l_len, SR_STOCK_LEN)
LINEAR(l_lower, SR_STOCK_LOWER)
LINEAR(l_upper, SR_STOCK_UPPER)
LINEAR(l_reverse, SR_STOCK_REVERSE)
LINEAR(l_sub, SR_STOCK_SUB)

static int l_char(lua_State *L) {
    return sr_stock_call(L, SR_STOCK_CHAR);
}

static const luaL_Reg string_lib[] = {
    {"byte", l_byte},       {"char", l_char},
    {"find", l_find},       {"format", sr_guard_format},
    {"gmatch", l_gmatch},   {"gsub", l_gsub},
    {"len", l_len},         {"lower", l_lower},
    {"match", l_match},     {"rep", l_rep},
    {"sub", l_sub},         {"upper", l_upper},
    {"reverse", l_reverse}, {NULL, NULL},
};

void sr_guard_string(lua_State *L) {
    luaL_setfuncs(L, string_lib, 0);
}
