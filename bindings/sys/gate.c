/* gate.c – one at a time; see gate.h.
 *
 * A gate is open or holds exactly one pass. Whoever finds it held queues an operation;
 * the pass that ends hands the gate straight to the first in the queue, so nobody
 * overtakes. A waiter that was granted the gate but died before it woke gives it back
 * when its operation is freed. The gate's memory is counted: userdata, passes and waiters
 * each hold it.
 */
#include "sys/gate.h"

#include <stdlib.h>
#include <string.h>

#define GATE "gate"
#define PASS "gate.pass"

typedef struct waiter waiter;

typedef struct gate gate;

struct gate {
    unsigned refs;
    bool held;
    waiter *first, **last;
    char *name;           /* NULL: nobody else finds it */
    gate **named, *later; /* the loop's list of named gates */
};

struct waiter {
    sr_op op;
    gate *gate;
    waiter *next;
    bool granted; /* the gate is ours and no pass exists yet */
};

static void unref(gate *g) {
    if (--g->refs) return;
    for (gate **at = g->named; at && *at; at = &(*at)->later)
        if (*at == g) {
            *at = g->later;
            break;
        }
    free(g->name);
    free(g);
}

static gate *gate_new(void) {
    gate *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->refs = 1;
    g->last = &g->first;
    return g;
}

/* The gate of that name on this loop, made when there is none; NULL without memory. */
static gate *gate_named(sr_loop *loop, const char *name) {
    static const char key;
    gate **list = (gate **)(void *)sr_loop_slot(loop, &key);
    gate *g = *list;
    while (g && strcmp(g->name, name) != 0)
        g = g->later;
    if (g) {
        g->refs++;
        return g;
    }
    g = gate_new();
    if (!g) return NULL;
    g->name = strdup(name);
    if (!g->name) {
        unref(g);
        return NULL;
    }
    g->named = list;
    g->later = *list;
    *list = g;
    return g;
}

static void leave(gate *g) {
    waiter *w = g->first;
    if (!w) {
        g->held = false;
        return;
    }
    g->first = w->next;
    if (!g->first) g->last = &g->first;
    w->next = NULL;
    w->granted = true;
    sr_op_done(&w->op);
}

/* ---------------------------------------------------------------- passes */

/* The pass's gate, NULL once closed. */
static int l_pass_close(lua_State *L) {
    gate **pass = luaL_checkudata(L, 1, PASS);
    gate *g = *pass;
    *pass = NULL;
    if (!g) return 0;
    leave(g);
    unref(g);
    return 0;
}

/* An empty pass; filled by the caller with a held gate. */
static gate **new_pass(lua_State *L) {
    gate **pass = lua_newuserdatauv(L, sizeof *pass, 0);
    *pass = NULL;
    luaL_setmetatable(L, PASS);
    return pass;
}

/* ---------------------------------------------------------------- waiting */

static int wait_finish(lua_State *L, sr_op *op) {
    waiter *w = (waiter *)op;
    gate **pass = new_pass(L);
    w->granted = false;
    w->gate->refs++;
    *pass = w->gate;
    return 1;
}

static void wait_cancel(sr_op *op) {
    waiter *w = (waiter *)op;
    waiter **at = &w->gate->first;
    while (*at && *at != w)
        at = &(*at)->next;
    if (*at) {
        *at = w->next;
        if (!*at) w->gate->last = at;
    }
    sr_op_done(op);
}

static void wait_free(sr_op *op) {
    waiter *w = (waiter *)op;
    if (w->granted) leave(w->gate);
    unref(w->gate);
    free(w);
}

static const sr_op_class wait_class = {.name = "gate:enter",
                                       .finish = wait_finish,
                                       .cancel = wait_cancel,
                                       .free = wait_free};

/* gate:enter() → pass, to be closed */
static int l_enter(lua_State *L) {
    gate *g = *(gate **)luaL_checkudata(L, 1, GATE);
    if (!g->held) {
        gate **pass = new_pass(L);
        g->held = true;
        g->refs++;
        *pass = g;
        return 1;
    }
    sr_can_wait(L);
    waiter *w = calloc(1, sizeof *w);
    if (!w) return sr_raise(L, SR_LIMIT, "ENOMEM", "no memory to wait");
    sr_op_init(&w->op, &wait_class, sr_loop_of(L));
    w->gate = g;
    g->refs++;
    *g->last = w;
    g->last = &w->next;
    return sr_wait(L, &w->op, SR_FOREVER);
}

static int l_gate_gc(lua_State *L) {
    gate **box = luaL_checkudata(L, 1, GATE);
    if (*box) unref(*box);
    *box = NULL;
    return 0;
}

int sr_gate_new(lua_State *L) {
    const char *name = luaL_optstring(L, 1, NULL);
    gate **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, GATE);
    *box = name ? gate_named(sr_loop_of(L), name) : gate_new();
    if (!*box) return sr_raise(L, SR_LIMIT, "ENOMEM", "no memory for a gate");
    return 1;
}

int luaopen_gate(lua_State *L) {
    static const luaL_Reg functions[] = {{"new", sr_gate_new}, {NULL, NULL}};
    static const luaL_Reg gate_methods[] = {{"enter", l_enter}, {NULL, NULL}};
    static const luaL_Reg pass_methods[] = {{"close", l_pass_close}, {NULL, NULL}};
    luaL_newmetatable(L, GATE);
    luaL_newlib(L, gate_methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_gate_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, PASS);
    luaL_newlib(L, pass_methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_pass_close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_pass_close);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 2);
    luaL_newlib(L, functions);
    return 1;
}
