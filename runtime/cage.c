/* cage.c – one untrusted chunk in a state of its own.
 *
 * Owns the lua_State, its guard (guard.h) and the translation of whatever goes wrong
 * inside into an sr_err. The layout inside: the globals table is empty and belongs to the
 * chunk, its metatable reads on in the table of names that guard_base.c and cage_words.c
 * made, and that one's metatable raises. So what the chunk set is exactly what the
 * globals table holds.
 *
 * Everything that may allocate in the cage runs under lua_pcall, between enter() and
 * leave(), which put the thread into the C locale: strings compare by bytes and numbers
 * print with a point, wherever the process runs. What the chunk itself does runs between
 * watch() and rest() besides, with the clock on it.
 */
#include "cage.h"

#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "copy.h"

enum {
    MEMORY = 8 << 20,
    MEMORY_MIN = 256 << 10,
    STRING_SHARE = 32, /* one string may take this part of the memory */
    STRING_MIN = 64 << 10,
    STRING_MAX = 1 << 20, /* one comparison of two takes 10 ms at worst */
    PIECE = 512,          /* bytes of text between two looks at the clock */
    RESULTS_MAX = 16,
    HANDLER = 1 /* stack slot of the message handler during a run */
};

struct sr_cage {
    lua_State *L;
    sr_guard guard;
    int64_t budget; /* ns of processor time until it is renewed */
    int64_t spent;  /* ns inside, ever */
    bool given;     /* the guard has the budget */
    bool dead;      /* time was up once */
    bool syntax;    /* the last failure came from the compiler */
    const char *const *words;
    char what[32];
    char where[160];
};

static const char only_key; /* registry key: the set of globals that may be assigned */

/* ---------------------------------------------------------------- enter and leave */

static locale_t c_locale;

static void make_locale(void) {
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* Into the C locale; returns the one to go back to. */
static locale_t enter(sr_cage *cage) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_locale);
    cage->syntax = false;
    cage->where[0] = '\0';
    if (!cage->dead) cage->guard.stop = SR_STOP_NONE;
    return c_locale ? uselocale(c_locale) : (locale_t)0;
}

static void leave(locale_t outer) {
    if (outer) uselocale(outer);
}

/* Watch the clock until rest(). The budget runs from the first watch after it was given.
 */
static int64_t watch(sr_cage *cage) {
    if (!cage->given) sr_guard_give(&cage->guard, cage->budget);
    cage->given = true;
    sr_guard_arm(&cage->guard);
    return sr_cpu();
}

/* What was spent is real time if short, else at most what the processor says: asking it
 * is a system call. */
static void rest(sr_cage *cage, int64_t began) {
    int64_t took = sr_cpu() - began;
    sr_guard_disarm(&cage->guard);
    if (took > SR_NS / 1000) {
        int64_t processor = sr_cpu_thread() - cage->guard.began;
        if (processor < took) took = processor;
    }
    cage->spent += took;
    if (cage->guard.stop == SR_STOP_TIME) cage->dead = true;
}

/* ---------------------------------------------------------------- failures */

/* Message handler: an error table becomes its message, and a message without a place gets
 * the one of the innermost Lua function. */
static int l_handler(lua_State *L) {
    sr_guard *g = sr_guard_of(L);
    if (lua_islightuserdata(L, 1)) return 1; /* the guard's own */
    sr_guard_where(L, 1, g->where, sizeof g->where);
    if (lua_istable(L, 1)) {
        lua_pushliteral(L, "message");
        if (lua_rawget(L, 1) != LUA_TSTRING) {
            lua_pop(L, 1);
            lua_pushliteral(L, "an error without a message");
        }
        lua_replace(L, 1);
    } else if (lua_type(L, 1) != LUA_TSTRING) {
        sr_guard_text(L, 1);
        lua_replace(L, 1);
    }
    lua_Debug ar;
    for (int i = 1; g->where[0] && lua_getstack(L, i, &ar); i++) {
        lua_getinfo(L, "Sl", &ar);
        size_t len = strlen(ar.short_src);
        const char *text = lua_tostring(L, 1);
        if (ar.currentline > 0 && strncmp(text, ar.short_src, len) == 0 &&
            text[len] == ':')
            return lua_settop(L, 1), 1;
    }
    if (g->where[0]) lua_pushfstring(L, "%s: %s", g->where, lua_tostring(L, 1));
    return 1;
}

static int fail_limit(sr_cage *cage, sr_err *err) {
    const sr_guard *g = &cage->guard;
    const char *at = g->where[0] ? ", at " : "";
    if (g->stop == SR_STOP_TIME)
        return sr_fail(err, SR_LIMIT, "time", "the %s ran longer than %g ms%s%s",
                       cage->what, (double)cage->budget / 1e6, at, g->where);
    if (g->stop == SR_STOP_STRING)
        return sr_fail(err, SR_LIMIT, "memory",
                       "the %s made a string longer than %zu KiB%s%s", cage->what,
                       g->max_string >> 10, at, g->where);
    return sr_fail(err, SR_LIMIT, "memory",
                   "the %s needed more than %g MiB of memory%s%s", cage->what,
                   (double)g->limit / 1048576, at, g->where);
}

/* Translate the error value on top of the stack. */
static int fail(sr_cage *cage, int status, sr_err *err) {
    const sr_guard *g = &cage->guard;
    snprintf(cage->where, sizeof cage->where, "%s", g->where);
    bool out_of_memory =
        status == LUA_ERRMEM || (status == LUA_ERRERR && g->stop != SR_STOP_NONE);
    if (g->stop == SR_STOP_TIME || out_of_memory) return fail_limit(cage, err);
    const char *text = lua_type(cage->L, -1) == LUA_TSTRING
                           ? lua_tostring(cage->L, -1)
                           : "an error without a message";
    return sr_fail(err, SR_USAGE, cage->syntax ? "syntax" : "runtime", "%s", text);
}

static int check_alive(sr_cage *cage, sr_err *err) {
    if (!cage->dead) return 0;
    return sr_fail(err, SR_LIMIT, "time", "the %s was stopped before: its time was up",
                   cage->what);
}

/* Run the function and n arguments above the handler; results stay on the stack. */
static int run_own(sr_cage *cage, int n, sr_err *err) {
    locale_t outer = enter(cage);
    int status = lua_pcall(cage->L, n, LUA_MULTRET, HANDLER);
    leave(outer);
    if (status == LUA_OK && !cage->dead) return 0;
    return fail(cage, status, err);
}

/* The same for what is not ours: with the clock watched. */
static int run(sr_cage *cage, int n, sr_err *err) {
    int64_t began = watch(cage);
    locale_t outer = enter(cage);
    int status = lua_pcall(cage->L, n, LUA_MULTRET, HANDLER);
    leave(outer);
    rest(cage, began);
    if (status == LUA_OK && !cage->dead) return 0;
    return fail(cage, status, err);
}

/* Empty the stack and push handler, fn and ctx: what run() needs. */
static int prepare(sr_cage *cage, lua_CFunction fn, void *ctx, sr_err *err) {
    if (check_alive(cage, err)) return -1;
    lua_State *L = cage->L;
    lua_settop(L, 0);
    lua_pushcfunction(L, l_handler);
    lua_pushcfunction(L, fn);
    lua_pushlightuserdata(L, ctx);
    return 0;
}

/* ---------------------------------------------------------------- life */

static int l_set_up(lua_State *L) {
    const sr_cage *cage = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_createtable(L, 0, 2); /* metatable of the globals */
    sr_guard_libs(L);
    sr_cage_add_words(L, cage->words);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    return 0;
}

static void set_limits(sr_cage *cage, const sr_cage_limits *limits) {
    size_t memory = limits && limits->memory ? limits->memory : MEMORY;
    double time = limits && limits->time > 0 ? limits->time : 0.2;
    if (memory < MEMORY_MIN) memory = MEMORY_MIN;
    cage->guard.limit = memory;
    cage->guard.max_string = memory / STRING_SHARE;
    if (cage->guard.max_string < STRING_MIN) cage->guard.max_string = STRING_MIN;
    if (cage->guard.max_string > STRING_MAX) cage->guard.max_string = STRING_MAX;
    cage->budget = time < 3600 ? (int64_t)(time * SR_NS) : 3600 * SR_NS;
    cage->words = limits ? limits->words : NULL;
    snprintf(cage->what, sizeof cage->what, "%s",
             limits && limits->what ? limits->what : "chunk");
}

sr_cage *sr_cage_new(const sr_cage_limits *limits, double now, sr_err *err) {
    sr_cage *cage = calloc(1, sizeof *cage);
    if (!cage) goto out;
    set_limits(cage, limits);
    cage->guard.now = now;
    sr_slab_open(&cage->guard.slab);
    cage->L = lua_newstate(sr_guard_alloc, &cage->guard);
    if (!cage->L) goto out;
    sr_guard_attach(&cage->guard, cage->L);
    if (prepare(cage, l_set_up, cage, err) || run_own(cage, 1, err)) {
        sr_cage_free(cage);
        return NULL;
    }
    cage->words = NULL; /* the caller's */
    return cage;
out:
    sr_cage_free(cage);
    sr_fail(err, SR_LIMIT, "memory", "no memory for a cage");
    return NULL;
}

void sr_cage_free(sr_cage *cage) {
    if (!cage) return;
    cage->guard.limit = 0;
    if (cage->L) lua_close(cage->L);
    sr_slab_close(&cage->guard.slab);
    free(cage);
}

void sr_cage_renew(sr_cage *cage) {
    cage->given = false;
}

void sr_cage_get_stats(const sr_cage *cage, sr_cage_stats *ret_stats) {
    ret_stats->cpu = cage->spent;
    ret_stats->memory = cage->guard.used;
    ret_stats->memory_peak = cage->guard.peak;
}

const char *sr_cage_where(const sr_cage *cage) {
    return cage->where;
}

/* ---------------------------------------------------------------- values in */

struct named {
    const char *name;
};

/* name, value */
static int l_set(lua_State *L) {
    const struct named *named = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pushstring(L, named->name);
    lua_pushvalue(L, 2);
    lua_rawset(L, -3);
    return 0;
}

int sr_cage_set(sr_cage *cage, const char *name, lua_State *from, int idx, sr_err *err) {
    struct named named = {name};
    char what[96];
    snprintf(what, sizeof what, "global '%s'", name);
    sr_copy_rules rules = {.what = what};
    if (prepare(cage, l_set, &named, err)) return -1;
    if (sr_copy_try(from, idx, cage->L, &rules, err)) return -1;
    return run_own(cage, 2, err);
}

static int l_assign(lua_State *L) {
    const char *name = luaL_checkstring(L, 2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &only_key); /* 4: list of names */
    const char *names[129];
    size_t n = 0;
    for (lua_Integer i = 1; n < 128 && lua_rawgeti(L, 4, i) == LUA_TSTRING; i++) {
        names[n++] = lua_tostring(L, -1);
        lua_pop(L, 1); /* the list keeps it */
        if (strcmp(name, names[n - 1]) != 0) continue;
        lua_settop(L, 3);
        lua_rawset(L, 1);
        return 0;
    }
    names[n] = NULL;
    const char *near = strlen(name) < 64 ? sr_suggest(name, names) : NULL;
    return luaL_error(L, "'%s' means nothing here%s%s%s", name,
                      near ? ", did you mean '" : "", near ? near : "",
                      near ? "'?"
                           : "; write `local` before it if it is "
                             "a helper of this file");
}

/* context, list of names */
static int l_only(lua_State *L) {
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &only_key);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_getmetatable(L, -1);
    lua_pushcfunction(L, l_assign);
    lua_setfield(L, -2, "__newindex");
    return 0;
}

int sr_cage_only(sr_cage *cage, lua_State *from, int idx, sr_err *err) {
    sr_copy_rules rules = {.what = "the list of allowed names"};
    if (prepare(cage, l_only, cage, err)) return -1;
    if (sr_copy_try(from, idx, cage->L, &rules, err)) return -1;
    return run_own(cage, 2, err);
}

/* ---------------------------------------------------------------- load */

struct source {
    sr_cage *cage;
    const char *name, *text;
    size_t len;
};

/* Hand the parser a piece at a time: it has no hook, and long chains cost it
 * quadratically. */
static const char *read_piece(lua_State *L, void *data, size_t *ret_len) {
    struct source *source = data;
    const char *piece = source->text;
    sr_guard_work(L, SIZE_MAX);
    *ret_len = source->len < PIECE ? source->len : PIECE;
    source->text += *ret_len;
    source->len -= *ret_len;
    return piece;
}

static int l_load(lua_State *L) {
    struct source *source = lua_touserdata(L, 1);
    const char *chunk = lua_pushfstring(L, "@%s", source->name);
    int status = lua_load(L, read_piece, source, chunk, "t");
    if (status != LUA_OK) {
        source->cage->syntax = status == LUA_ERRSYNTAX;
        return lua_error(L);
    }
    lua_call(L, 0, 0);
    return 0;
}

/* Skip a byte-order mark, and the text of a first line that starts with '#'. */
static void skip_head(struct source *source) {
    if (source->len >= 3 && memcmp(source->text, "\xEF\xBB\xBF", 3) == 0) {
        source->text += 3;
        source->len -= 3;
    }
    if (source->len == 0 || *source->text != '#') return;
    const char *newline = memchr(source->text, '\n', source->len);
    size_t skip = newline ? (size_t)(newline - source->text) : source->len;
    source->text += skip;
    source->len -= skip;
}

int sr_cage_load(sr_cage *cage, const char *name, const char *text, size_t len,
                 sr_err *err) {
    struct source source = {cage, name, text, len};
    skip_head(&source);
    if (prepare(cage, l_load, &source, err)) return -1;
    return run(cage, 1, err);
}

/* ---------------------------------------------------------------- call and values out */

static sr_copy_rules rules_out(const char *what) {
    return (sr_copy_rules){.what = what, .userdata = sr_cage_copy_secret};
}

/* context, arguments… */
static int l_call(lua_State *L) {
    const struct named *named = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pushstring(L, named->name);
    lua_rawget(L, -2);
    if (!lua_isfunction(L, -1))
        return luaL_error(L, "there is no function '%s'", named->name);
    lua_replace(L, 1);
    lua_pop(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int copy_results(sr_cage *cage, lua_State *L, int *ret_n, sr_err *err) {
    int n = lua_gettop(cage->L) - HANDLER, top = lua_gettop(L);
    sr_copy_rules rules = rules_out("the result");
    if (n > RESULTS_MAX)
        return sr_fail(err, SR_USAGE, "copy", "the %s returned %d values, at most %d",
                       cage->what, n, RESULTS_MAX);
    for (int i = 1; i <= n; i++) {
        if (sr_copy_try(cage->L, HANDLER + i, L, &rules, err)) {
            lua_settop(L, top);
            return -1;
        }
    }
    *ret_n = n;
    return 0;
}

int sr_cage_call(sr_cage *cage, const char *name, lua_State *L, int first, int n,
                 int *ret_n, sr_err *err) {
    struct named named = {name};
    char what[32];
    if (prepare(cage, l_call, &named, err)) return -1;
    for (int i = 0; i < n; i++) {
        snprintf(what, sizeof what, "argument %d", i + 1);
        sr_copy_rules rules = {.what = what};
        if (sr_copy_try(L, first + i, cage->L, &rules, err)) return -1;
    }
    if (run(cage, n + 1, err)) return -1;
    return copy_results(cage, L, ret_n, err);
}

/* context; returns the global */
static int l_get(lua_State *L) {
    const struct named *named = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pushstring(L, named->name);
    lua_rawget(L, -2);
    return 1;
}

int sr_cage_get(sr_cage *cage, const char *name, lua_State *to, sr_err *err) {
    struct named named = {name};
    char what[96];
    snprintf(what, sizeof what, "global '%s'", name);
    sr_copy_rules rules = rules_out(what);
    if (prepare(cage, l_get, &named, err) || run_own(cage, 1, err)) return -1;
    return sr_copy_try(cage->L, -1, to, &rules, err);
}

int sr_cage_globals(sr_cage *cage, lua_State *to, sr_err *err) {
    sr_copy_rules rules = rules_out("the globals");
    lua_settop(cage->L, 0);
    lua_rawgeti(cage->L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    return sr_copy_try(cage->L, -1, to, &rules, err);
}

int sr_cage_decisions(sr_cage *cage, lua_State *to, sr_err *err) {
    sr_copy_rules rules = rules_out("the decisions");
    lua_settop(cage->L, 0);
    sr_cage_push_decisions(cage->L);
    if (lua_isnil(cage->L, -1)) {
        if (!lua_checkstack(to, 1))
            return sr_fail(err, SR_LIMIT, "memory", "no stack left");
        lua_newtable(to);
        return 0;
    }
    return sr_copy_try(cage->L, -1, to, &rules, err);
}
