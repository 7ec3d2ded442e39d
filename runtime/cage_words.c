/* cage_words.c – the words a cage has beside Lua's: decisions, names, time, secrets.
 *
 * A decision is a table {verdict, reason, rule}; rule is the file and line that made it.
 * It is returned to the caller and noted in a list besides, so that a policy that forgets
 * the word `return` before deny(…) still denies: whoever asks combines the whole list.
 *
 * A secret is only a reference here. It has no contents, no text but its source, and
 * leaves the cage as the table {["$secret"] = source}, which the caller resolves or not.
 */
#include <ctype.h>
#include <string.h>

#include "cage.h"

enum { GLOB_MAX = 256, TEXT_MAX = 4096, ARGV_MAX = 64 };

static const char decisions_key, secret_key; /* their addresses are registry keys */

/* ---------------------------------------------------------------- decisions */

void sr_cage_push_decisions(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &decisions_key);
}

/* Append the decision on top to the list. */
static void note(lua_State *L) {
    sr_cage_push_decisions(L);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &decisions_key);
    }
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

/* Return the decision; the reason, or nil, is on top. Argument `extra` becomes the field
 * of that name unless it is NULL. */
static int decide(lua_State *L, const char *verdict, const char *extra) {
    char where[160];
    int reason = lua_gettop(L);
    sr_guard_where(L, 1, where, sizeof where);
    lua_createtable(L, 0, 4);
    lua_pushstring(L, verdict);
    lua_setfield(L, -2, "verdict");
    lua_pushvalue(L, reason);
    lua_setfield(L, -2, "reason");
    lua_pushstring(L, where);
    lua_setfield(L, -2, "rule");
    if (extra) {
        lua_pushvalue(L, 1);
        lua_setfield(L, -2, extra);
    }
    note(L);
    return 1;
}

/* Push the reason that arguments from `first` on spell: format and values, or nothing. */
static void push_reason(lua_State *L, int first) {
    if (lua_gettop(L) < first) {
        lua_pushnil(L);
        return;
    }
    luaL_checktype(L, first, LUA_TSTRING);
    lua_pushcfunction(L, sr_guard_format);
    lua_insert(L, first);
    lua_call(L, lua_gettop(L) - first, 1);
}

/* allow(), allow("reason %s", …), allow{max_term = 90, reason = …}: obligations. */
static int l_allow(lua_State *L) {
    if (lua_type(L, 1) != LUA_TTABLE) {
        push_reason(L, 1);
        return decide(L, "allow", NULL);
    }
    lua_settop(L, 1);
    lua_pushliteral(L, "reason");
    lua_rawget(L, 1);
    return decide(L, "allow", "obligations");
}

static int l_deny(lua_State *L) {
    luaL_checktype(L, 1, LUA_TSTRING);
    push_reason(L, 1);
    return decide(L, "deny", NULL);
}

static int l_warn(lua_State *L) {
    luaL_checktype(L, 1, LUA_TSTRING);
    push_reason(L, 1);
    return decide(L, "warn", NULL);
}

/* need_approval("rule", "reason %s", …) or need_approval{rule = …, reason = …}. */
static int l_need_approval(lua_State *L) {
    if (lua_type(L, 1) == LUA_TTABLE) {
        lua_settop(L, 1);
        lua_pushliteral(L, "reason");
        lua_rawget(L, 1);
    } else {
        luaL_checktype(L, 1, LUA_TSTRING);
        push_reason(L, 2);
    }
    return decide(L, "need_approval", "approval");
}

/* ---------------------------------------------------------------- names */

static int fold(char c) {
    return tolower((unsigned char)c);
}

/* One row of the table "do the first i bytes of the pattern match the first j of the
 * text": linear in pattern × text, whatever the stars; over as soon as nothing matches.
 */
static bool glob(const char *pattern, size_t pattern_len, const char *text, size_t len) {
    bool now[TEXT_MAX + 1];
    memset(now, 0, len + 1);
    now[0] = true;
    for (size_t i = 0; i < pattern_len; i++) {
        char p = pattern[i];
        bool any = p == '*' && i + 1 < pattern_len && pattern[i + 1] == '*';
        if (any) i++;
        bool before = now[0]; /* the row above, one to the left */
        bool alive = now[0] = now[0] && p == '*';
        for (size_t j = 1; j <= len; j++) {
            bool above = now[j];
            char c = text[j - 1];
            if (p == '*')
                now[j] = above || (now[j - 1] && (any || c != '.'));
            else
                now[j] = before && (p == '?' ? c != '.' : fold(p) == fold(c));
            before = above;
            alive |= now[j];
        }
        if (!alive) return false;
    }
    return now[len];
}

/* glob(pattern, text): * is any run without a dot, ** any run, ? one byte but a dot;
 * ASCII case does not matter. */
static int l_glob(lua_State *L) {
    size_t pattern_len, len;
    const char *pattern = luaL_checklstring(L, 1, &pattern_len);
    const char *text = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, pattern_len <= GLOB_MAX, 1, "at most 256 bytes");
    luaL_argcheck(L, len <= TEXT_MAX, 2, "at most 4096 bytes");
    sr_guard_work(L, (pattern_len + 1) * (len + 16) / 4);
    lua_pushboolean(L, glob(pattern, pattern_len, text, len));
    return 1;
}

static size_t without_dot(const char *name, size_t len) {
    return len > 0 && name[len - 1] == '.' ? len - 1 : len;
}

/* suffix(domain, name): is name the domain or below it? "*." counts as a label. */
static int l_suffix(lua_State *L) {
    size_t domain_len, len;
    const char *domain = luaL_checklstring(L, 1, &domain_len);
    const char *name = luaL_checklstring(L, 2, &len);
    domain_len = without_dot(domain, domain_len);
    len = without_dot(name, len);
    sr_guard_work(L, domain_len);
    bool under = domain_len > 0 && len >= domain_len;
    for (size_t i = 0; under && i < domain_len; i++)
        under = fold(domain[i]) == fold(name[len - domain_len + i]);
    if (under && len > domain_len) under = name[len - domain_len - 1] == '.';
    lua_pushboolean(L, under);
    return 1;
}

/* ---------------------------------------------------------------- time */

/* days(n): seconds. */
static int l_days(lua_State *L) {
    if (lua_isinteger(L, 1))
        lua_pushinteger(L, (lua_Integer)((lua_Unsigned)lua_tointeger(L, 1) * 86400));
    else
        lua_pushnumber(L, luaL_checknumber(L, 1) * 86400);
    return 1;
}

/* now(): the instant this cage was given, whole UTC seconds. */
static int l_now(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)sr_guard_of(L)->now);
    return 1;
}

/* ---------------------------------------------------------------- secrets */

static int l_secret_text(lua_State *L) {
    if (lua_getiuservalue(L, 1, 1) == LUA_TSTRING)
        lua_pushfstring(L, "[secret %s]", lua_tostring(L, -1));
    else
        lua_pushliteral(L, "[secret exec]");
    return 1;
}

static void set_secret_metatable(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &secret_key) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_createtable(L, 1, 2);
        lua_pushlightuserdata(L, (void *)&secret_key);
        lua_rawseti(L, -2, 1); /* how sr_cage_copy_secret knows it */
        lua_pushcfunction(L, l_secret_text);
        lua_setfield(L, -2, "__tostring");
        lua_pushliteral(L, "secret");
        lua_setfield(L, -2, "__name");
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &secret_key);
    }
    lua_setmetatable(L, -2);
}

/* Push a list of the strings of the table at 1's field exec. */
static void push_argv(lua_State *L) {
    lua_pushliteral(L, "exec");
    if (lua_rawget(L, 1) != LUA_TTABLE || lua_rawlen(L, -1) == 0)
        luaL_argerror(L, 1,
                      "expected \"env:NAME\", \"file:/path\", \"cred:NAME\" or "
                      "{exec = {\"program\", \"argument\"}}");
    int given = lua_gettop(L);
    lua_Integer n = (lua_Integer)lua_rawlen(L, given);
    luaL_argcheck(L, n <= ARGV_MAX, 1, "exec: at most 64 arguments");
    lua_createtable(L, (int)n, 0);
    for (lua_Integer i = 1; i <= n; i++) {
        luaL_argcheck(L, lua_rawgeti(L, given, i) == LUA_TSTRING, 1,
                      "exec: every argument is a string");
        lua_rawseti(L, -2, i);
    }
}

/* secret(source): a reference, resolved by whoever takes it out of the cage. */
static int l_secret(lua_State *L) {
    lua_settop(L, 1);
    if (lua_type(L, 1) == LUA_TTABLE) {
        push_argv(L);
    } else {
        const char *source = luaL_checkstring(L, 1);
        luaL_argcheck(L,
                      strncmp(source, "env:", 4) == 0 ||
                          strncmp(source, "file:", 5) == 0 ||
                          strncmp(source, "cred:", 5) == 0,
                      1, "a source is \"env:NAME\", \"file:/path\" or \"cred:NAME\"");
    }
    lua_newuserdatauv(L, 0, 1);
    lua_pushvalue(L, -2);
    lua_setiuservalue(L, -2, 1);
    set_secret_metatable(L);
    return 1;
}

static bool is_secret(lua_State *L, int idx) {
    if (!lua_getmetatable(L, idx)) return false;
    lua_rawgeti(L, -1, 1);
    bool yes = lua_touserdata(L, -1) == &secret_key;
    lua_pop(L, 2);
    return yes;
}

bool sr_cage_copy_secret(lua_State *from, int idx, lua_State *to) {
    if (!is_secret(from, idx)) return false;
    lua_createtable(to, 0, 1);
    if (lua_getiuservalue(from, idx, 1) == LUA_TSTRING) {
        lua_pushstring(to, lua_tostring(from, -1));
    } else {
        lua_Integer n = (lua_Integer)lua_rawlen(from, -1);
        lua_createtable(to, 0, 1);
        lua_createtable(to, (int)n, 0);
        for (lua_Integer i = 1; i <= n; i++) {
            size_t len;
            lua_rawgeti(from, -1, i);
            const char *text = lua_tolstring(from, -1, &len);
            lua_pushlstring(to, text, len);
            lua_rawseti(to, -2, i);
            lua_pop(from, 1);
        }
        lua_setfield(to, -2, "exec");
    }
    lua_setfield(to, -2, "$secret");
    lua_pop(from, 1);
    return true;
}

/* ---------------------------------------------------------------- the table of words */

static const luaL_Reg words[] = {
    {"allow", l_allow},   {"days", l_days},     {"deny", l_deny},
    {"glob", l_glob},     {"now", l_now},       {"need_approval", l_need_approval},
    {"secret", l_secret}, {"suffix", l_suffix}, {"warn", l_warn},
    {NULL, NULL},
};
const char *const sr_cage_words[] = {"allow",         "days",   "deny",   "glob", "now",
                                     "need_approval", "secret", "suffix", "warn", NULL};

static bool is_wanted(const char *word, const char *const *wanted) {
    for (; *wanted; wanted++)
        if (strcmp(word, *wanted) == 0) return true;
    return false;
}

void sr_cage_add_words(lua_State *L, const char *const *wanted) {
    for (const luaL_Reg *word = words; word->name; word++) {
        if (wanted && !is_wanted(word->name, wanted)) continue;
        lua_pushcfunction(L, word->func);
        lua_setfield(L, -2, word->name);
    }
}
