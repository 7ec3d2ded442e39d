/* process_exec.c – command lines and environments, from Lua values to what exec takes.
 *
 * A command is a list, never text for a shell. Secrets may stand in the environment,
 * where only the same user can read them, and not in the command, which everybody can;
 * the copies made here are wiped as soon as the child has its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys/process.h"

#define LIST_TYPE "process.list"

extern char **environ;

static void refuse_string(lua_State *L, int idx, const char *what) {
    luaL_Buffer b;
    const char *text = lua_tostring(L, idx);
    luaL_buffinit(L, &b);
    while (*text) {
        size_t n = strcspn(text, " \t");
        if (n) {
            luaL_addstring(&b, "\"");
            luaL_addlstring(&b, text, n);
            luaL_addstring(&b, "\", ");
        }
        text += n + strspn(text + n, " \t");
    }
    if (luaL_bufflen(&b) > 2) luaL_buffsub(&b, 2);
    luaL_pushresult(&b);
    (void)sr_raise(L, SR_USAGE, NULL, "%s must be a list, no shell splits it: write {%s}",
                   what, lua_tostring(L, -1));
}

static void check_word(lua_State *L, const char *what, lua_Integer i) {
    size_t len;
    if (luaL_testudata(L, -1, SR_SECRET_TYPE))
        (void)sr_raise(
            L, SR_USAGE, NULL,
            "%s[%lld] is a secret, which every user could see in the process list: "
            "pass it by env or stdin",
            what, (long long)i);
    if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1))
        (void)sr_raise(L, SR_USAGE, NULL, "%s[%lld] must be a string, got %s", what,
                       (long long)i, luaL_typename(L, -1));
    const char *word = lua_tolstring(L, -1, &len);
    if (strlen(word) != len || (i == 1 && !len))
        (void)sr_raise(L, SR_USAGE, NULL, "%s[%lld] is %s", what, (long long)i,
                       len ? "no word: it holds a NUL byte" : "empty: name a program");
}

void sr_check_argv(lua_State *L, int idx, const char *what) {
    idx = lua_absindex(L, idx);
    if (lua_type(L, idx) == LUA_TSTRING) refuse_string(L, idx, what);
    if (!lua_istable(L, idx))
        (void)sr_raise(L, SR_USAGE, NULL,
                       "%s must be a list such as {\"nginx\", \"-t\"}, got %s", what,
                       luaL_typename(L, idx));
    lua_Integer n = luaL_len(L, idx);
    if (n == 0)
        (void)sr_raise(L, SR_USAGE, NULL, "%s is empty: it must name a program", what);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, idx, i);
        check_word(L, what, i);
        lua_pop(L, 1);
    }
    lua_geti(L, idx, 1);
    const char *program = lua_tostring(L, -1);
    if (n == 1 && strpbrk(program, " \t") && access(program, F_OK) != 0)
        refuse_string(L, -1, what);
    lua_pop(L, 1);
}

/* ---------------------------------------------------------------- lists for exec */

/* char *[] with texts of its own, freed by the collector if something raises; wiped,
 * because environments carry secrets. */
typedef struct list {
    char **items;
    size_t n, room;
} list;

static void list_clear(list *l) {
    for (size_t i = 0; i < l->n; i++) {
        sr_wipe(l->items[i], strlen(l->items[i]));
        free(l->items[i]);
    }
    free(l->items);
    *l = (list){0};
}

static int l_list_gc(lua_State *L) {
    list_clear(lua_touserdata(L, 1));
    return 0;
}

/* Room for one more and the NULL behind it; an empty list has its NULL, too. */
static bool list_grow(list *l) {
    if (l->n + 2 <= l->room) return true;
    size_t want = l->room ? l->room * 2 : 32;
    char **more = realloc(l->items, want * sizeof *more);
    if (!more) return false;
    l->items = more;
    l->room = want;
    l->items[l->n] = NULL;
    return true;
}

void sr_wipe_lists(lua_State *L) {
    for (int i = lua_gettop(L); i > 0; i--) {
        list *l = luaL_testudata(L, i, LIST_TYPE);
        if (l) list_clear(l);
    }
}

static list *push_list(lua_State *L) {
    list *l = lua_newuserdatauv(L, sizeof *l, 0);
    *l = (list){0};
    if (luaL_newmetatable(L, LIST_TYPE)) {
        lua_pushcfunction(L, l_list_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    if (!list_grow(l)) luaL_error(L, "not enough memory");
    return l;
}

static void list_add(lua_State *L, list *l, const char *head, const char *text,
                     size_t len) {
    size_t head_len = strlen(head);
    char *item = malloc(head_len + len + 1);
    if (!item || !list_grow(l)) {
        free(item);
        luaL_error(L, "not enough memory");
        return;
    }
    memcpy(item, head, head_len);
    memcpy(item + head_len, text, len);
    item[head_len + len] = '\0';
    l->items[l->n++] = item;
    l->items[l->n] = NULL;
}

char **sr_push_argv(lua_State *L, int idx) {
    list *l = push_list(L);
    lua_Integer n = luaL_len(L, idx);
    for (lua_Integer i = 1; i <= n; i++) {
        size_t len;
        lua_geti(L, idx, i);
        const char *word = lua_tolstring(L, -1, &len);
        list_add(L, l, "", word, len);
        lua_pop(L, 1);
    }
    return l->items;
}

/* ---------------------------------------------------------------- environment */

static bool may_pass(sr_vm *vm, const char *name) {
    sr_err err = {0};
    if (strcmp(name, "PATH") == 0) return true;
    return !sr_env_withheld(name) && sr_allowed(vm, SR_PERM_ENV, name, &err) == 0;
}

/* Our own environment, without what this VM may not see, secrets, and what `changes`
 * names. */
static void inherit(lua_State *L, list *l, int changes) {
    sr_vm *vm = sr_vm_of(L);
    for (char **entry = environ; *entry; entry++) {
        const char *eq = strchr(*entry, '=');
        if (!eq) continue;
        lua_pushlstring(L, *entry, (size_t)(eq - *entry));
        bool pass = may_pass(vm, lua_tostring(L, -1));
        if (changes) {
            lua_gettable(L, changes);
            pass = pass && lua_isnil(L, -1);
        }
        lua_pop(L, 1);
        if (pass) list_add(L, l, "", *entry, strlen(*entry));
    }
}

static void add_variable(lua_State *L, list *l) {
    size_t len;
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
    if (!*name || strchr(name, '='))
        (void)sr_raise(
            L, SR_USAGE, NULL,
            "env must be a table from names to values, such as {LANG = \"C\"}");
    if (lua_isboolean(L, -1) && !lua_toboolean(L, -1)) return; /* false: not passed on */
    if (lua_isinteger(L, -1)) {
        lua_pushvalue(L, -1);
        lua_tostring(L, -1); /* the copy: lua_next must not see its value change */
        lua_replace(L, -2);
    }
    const char *value = sr_check_secret(L, -1, &len);
    if (memchr(value, '\0', len))
        (void)sr_raise(L, SR_USAGE, NULL, "env.%s holds a NUL byte", name);
    list_add(L, l, lua_pushfstring(L, "%s=", name), value, len);
    lua_pop(L, 1);
}

char **sr_push_env(lua_State *L, int idx, bool clear) {
    list *l = push_list(L);
    bool has_changes = sr_arg_push(L, idx, "env") != LUA_TNIL;
    int changes = has_changes ? lua_gettop(L) : 0;
    if (!clear) inherit(L, l, changes);
    for (lua_pushnil(L); changes && lua_next(L, changes); lua_pop(L, 1))
        add_variable(L, l);
    lua_pop(L, 1);
    return l->items;
}
