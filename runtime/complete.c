/* complete.c – what can follow in a line of Lua: globals, fields, methods, modules.
 *
 *     str        → string           os.da  → os.date
 *     file:li    → file:lines       require "ac → acme
 *
 * Names are looked up in tables and through __index chains of tables, without running any
 * Lua, because this is called from the line editor's callback.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "repl.h"
#include "vm.h"

enum { DEPTH_MAX = 12, WORDS_MAX = 2000, NAME_MAX_LEN = 200 };

typedef struct search {
    const char *line; /* the word begins at line + start */
    size_t start;
    const char *chain; /* "a.b:c" at the end of the line */
    char **words;
    size_t count;
} search;

static const char *const keywords[] = {
    "and",      "break",  "do",   "else", "elseif", "end",   "false", "for",
    "function", "goto",   "if",   "in",   "local",  "nil",   "not",   "or",
    "repeat",   "return", "then", "true", "until",  "while", NULL};

static bool name_char(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

static bool is_name(const char *text) {
    if (!*text || isdigit((unsigned char)*text)) return false;
    for (; *text; text++)
        if (!name_char(*text)) return false;
    return true;
}

/* Add line[start..chain] + prefix of the chain + name as one word. */
static void add(search *s, const char *prefix, size_t prefix_len, const char *name) {
    if (s->count == WORDS_MAX) return;
    char **words = realloc(s->words, (s->count + 2) * sizeof *words);
    if (!words) return;
    s->words = words;
    size_t head = (size_t)(s->chain - (s->line + s->start)), len = strlen(name);
    char *word = malloc(head + prefix_len + len + 1);
    if (!word) return;
    memcpy(word, s->line + s->start, head);
    memcpy(word + head, prefix, prefix_len);
    memcpy(word + head + prefix_len, name, len + 1);
    words[s->count++] = word;
    words[s->count] = NULL;
}

/* Replace the C function on top by one table of all names in its tables: bindings keep
 * the methods and fields of their objects there. */
static void to_names(lua_State *L) {
    int function = lua_gettop(L);
    lua_newtable(L);
    for (int n = 1; lua_getupvalue(L, function, n); n++, lua_settop(L, function + 1)) {
        for (lua_pushnil(L); lua_istable(L, -2) && lua_next(L, -2); lua_pop(L, 1)) {
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
            lua_rawset(L, function + 1);
        }
    }
    lua_replace(L, function);
}

/* Replace the value on top by the table behind its __index; false when there is none. */
static bool to_index(lua_State *L) {
    if (!lua_getmetatable(L, -1)) return false;
    lua_pushliteral(L, "__index");
    lua_rawget(L, -2);
    lua_replace(L, -3);
    lua_pop(L, 1);
    if (lua_iscfunction(L, -1)) to_names(L);
    return lua_istable(L, -1);
}

/* Replace the value on top by its field `name`; nil when it has none. */
static void to_field(lua_State *L, const char *name, size_t len) {
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        if (lua_istable(L, -1)) {
            lua_pushlstring(L, name, len);
            if (lua_rawget(L, -2) != LUA_TNIL) {
                lua_replace(L, -2);
                return;
            }
            lua_pop(L, 1);
        }
        if (!to_index(L)) break;
    }
    lua_pop(L, 1);
    lua_pushnil(L);
}

static bool callable(lua_State *L, int idx) {
    return lua_isfunction(L, idx) || luaL_getmetafield(L, idx, "__call") != LUA_TNIL;
}

/* The names in the value on top that begin with `part`. */
static void add_fields(lua_State *L, search *s, const char *part, bool methods) {
    size_t prefix = (size_t)(part - s->chain), len = strlen(part);
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        for (lua_pushnil(L); lua_istable(L, -2) && lua_next(L, -2); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING) continue;
            const char *name = lua_tostring(L, -2);
            if (strncmp(name, part, len) != 0 || !is_name(name)) continue;
            if (len == 0 && strncmp(name, "__", 2) == 0) continue;
            int top = lua_gettop(L);
            if (!methods || callable(L, top)) add(s, s->chain, prefix, name);
            lua_settop(L, top);
        }
        if (!lua_istable(L, -1)) lua_pop(L, 1); /* the nil of a loop that did not run */
        if (!to_index(L)) break;
    }
}

static void add_chain(lua_State *L, search *s) {
    const char *part = s->chain;
    bool methods = false, first = true;
    lua_pushglobaltable(L);
    for (const char *p = s->chain; *p; p++) {
        if (*p != '.' && *p != ':') continue;
        to_field(L, part, (size_t)(p - part));
        methods = *p == ':';
        part = p + 1;
        first = false;
    }
    for (int i = 0; first && keywords[i]; i++)
        if (strncmp(keywords[i], part, strlen(part)) == 0) add(s, "", 0, keywords[i]);
    add_fields(L, s, part, methods);
}

/* Is the word the text of a require? */
static bool in_require(const search *s) {
    const char *p = s->line + s->start;
    if (p == s->line || (p[-1] != '"' && p[-1] != '\'')) return false;
    for (p--; p > s->line && (p[-1] == ' ' || p[-1] == '('); p--)
        continue;
    return p - s->line >= 7 && strncmp(p - 7, "require", 7) == 0;
}

static void add_modules(lua_State *L, search *s) {
    static const char *const sources[] = {LUA_PRELOAD_TABLE, LUA_LOADED_TABLE};
    s->chain = s->line + s->start;
    size_t len = strlen(s->chain);
    for (size_t i = 0; i < 2; i++) {
        lua_getfield(L, LUA_REGISTRYINDEX, sources[i]);
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING) continue;
            const char *name = lua_tostring(L, -2), *dot = strrchr(name, '.');
            bool hidden = (dot && strcmp(dot, ".core") == 0) || strcmp(name, "_G") == 0;
            if (!hidden && strncmp(name, s->chain, len) == 0) add(s, "", 0, name);
        }
        lua_pop(L, 1);
    }
}

static int l_search(lua_State *L) {
    search *s = lua_touserdata(L, 1);
    if (in_require(s))
        add_modules(L, s);
    else
        add_chain(L, s);
    return 0;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_unique(search *s) {
    size_t kept = 0;
    qsort(s->words, s->count, sizeof *s->words, by_text);
    for (size_t i = 0; i < s->count; i++) {
        if (kept > 0 && strcmp(s->words[kept - 1], s->words[i]) == 0)
            free(s->words[i]);
        else
            s->words[kept++] = s->words[i];
    }
    s->words[kept] = NULL;
}

char **sr_complete(sr_vm *vm, const char *text, size_t start) {
    search s = {.line = text, .start = start, .chain = text + strlen(text)};
    lua_State *L = vm->L;
    while (s.chain > text + start &&
           (name_char(s.chain[-1]) || s.chain[-1] == '.' || s.chain[-1] == ':'))
        s.chain--;
    if (strlen(s.chain) > NAME_MAX_LEN || !lua_checkstack(L, 20)) return NULL;
    lua_pushcfunction(L, l_search);
    lua_pushlightuserdata(L, &s);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1); /* no memory: fewer words */
    if (s.count == 0) {
        free(s.words);
        return NULL;
    }
    sort_unique(&s);
    return s.words;
}

void sr_complete_free(char **words) {
    for (char **word = words; word && *word; word++)
        free(*word);
    free(words);
}
