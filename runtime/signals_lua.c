/* signals_lua.c – the module "signals": a script that ends, or reads its settings again,
 * when it is told to.
 *
 *     local caught <close> = signals.catch{"SIGTERM", "SIGINT", "SIGHUP"}
 *     local name = caught:next()       -- waits; "SIGTERM"
 *
 * A signal that comes while nobody waits is kept; the same one twice counts once. The
 * second SIGINT or SIGTERM ends the program at once. Closing gives the signals back to
 * what they do by themselves.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "signals.h"

#define CATCHER_TYPE "signals.catcher"

static const struct {
    const char *name;
    int number;
} known[] = {{"SIGHUP", SIGHUP}, {"SIGINT", SIGINT}, {"SIGTERM", SIGTERM}};
enum { KNOWN = sizeof known / sizeof *known };

typedef struct waiter waiter;

typedef struct catcher {
    bool open;
    bool came[KNOWN];
    waiter *waiting; /* one task at a time */
} catcher;

struct waiter {
    sr_op op;
    catcher *by; /* NULL once it was told, or gave up */
    int which;
};

/* ---------------------------------------------------------------- waiting */

static void leave(waiter *w) {
    if (!w->by) return;
    w->by->waiting = NULL;
    w->by = NULL;
    sr_signals_hold(false);
}

static int next_finish(lua_State *L, sr_op *op) {
    int which = ((waiter *)op)->which;
    if (which < 0) return sr_raise(L, SR_IO, "closed", "the signals are given back");
    lua_pushstring(L, known[which].name);
    return 1;
}

static void next_cancel(sr_op *op) {
    leave((waiter *)op);
    sr_op_done(op);
}

static void next_free(sr_op *op) {
    free(op);
}

static const sr_op_class next_class = {.name = "signals:next",
                                       .finish = next_finish,
                                       .cancel = next_cancel,
                                       .free = next_free};

static void tell(catcher *c, int which) {
    waiter *w = c->waiting;
    if (!w) return;
    leave(w);
    w->which = which;
    if (which >= 0) c->came[which] = false;
    sr_op_done(&w->op);
}

static void on_signal(void *arg, int number) {
    catcher *c = arg;
    for (int i = 0; i < KNOWN; i++) {
        if (known[i].number != number) continue;
        c->came[i] = true;
        tell(c, i);
    }
}

/* caught:next() → the name of the next signal. One task at a time. */
static int l_next(lua_State *L) {
    catcher *c = sr_check_object(L, 1, CATCHER_TYPE);
    if (!c->open) return sr_raise(L, SR_IO, "closed", "the signals are given back");
    if (c->waiting)
        return sr_raise(L, SR_USAGE, "BUSY", "another task waits for the signals");
    sr_can_wait(L);
    for (int i = KNOWN - 1; i >= 0; i--) { /* the end first */
        if (!c->came[i]) continue;
        c->came[i] = false;
        lua_pushstring(L, known[i].name);
        return 1;
    }
    waiter *w = calloc(1, sizeof *w);
    if (!w) return luaL_error(L, "not enough memory");
    sr_op_init(&w->op, &next_class, sr_loop_of(L));
    w->by = c;
    w->which = -1;
    c->waiting = w;
    sr_signals_hold(true);
    return sr_wait(L, &w->op, SR_FOREVER);
}

/* ---------------------------------------------------------------- catching */

/* caught:close(), also __close and __gc. */
static int l_close(lua_State *L) {
    catcher *c = luaL_checkudata(L, 1, CATCHER_TYPE);
    if (!c->open) return 0;
    c->open = false;
    sr_signals_release();
    tell(c, -1);
    return 0;
}

static int number_of(lua_State *L, const char *name) {
    const char *words[KNOWN + 1] = {NULL};
    for (int i = 0; i < KNOWN; i++) {
        if (strcmp(known[i].name, name) == 0) return known[i].number;
        words[i] = known[i].name;
    }
    const char *close = sr_suggest(name, words);
    return sr_raise(
        L, SR_USAGE, "BAD_ARGUMENT", "signals.catch: %s cannot be caught; %s%s", name,
        close ? "did you mean " : "SIGHUP, SIGINT and SIGTERM can", close ? close : "");
}

/* signals.catch{"SIGTERM", …} → catcher. Raises usage, conflict (caught already). */
static int l_catch(lua_State *L) {
    int numbers[KNOWN];
    size_t count = 0;
    sr_err err = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    for (lua_Integer i = 1; lua_rawgeti(L, 1, i) != LUA_TNIL; i++) {
        int number = number_of(L, luaL_checkstring(L, -1));
        if (count == KNOWN)
            return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                            "signals.catch: each signal stands there once");
        numbers[count++] = number;
        lua_pop(L, 1);
    }
    catcher *c = lua_newuserdatauv(L, sizeof *c, 0);
    *c = (catcher){0};
    luaL_setmetatable(L, CATCHER_TYPE);
    if (sr_signals_catch(sr_vm_of(L), numbers, count, on_signal, c, &err))
        return sr_throw(L, &err);
    c->open = true;
    return 1;
}

static const luaL_Reg methods[] = {{"next", l_next}, {"close", l_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__close", l_close}, {"__gc", l_close}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"catch", l_catch}, {NULL, NULL}};

int sr_open_signals(lua_State *L) {
    luaL_newmetatable(L, CATCHER_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
