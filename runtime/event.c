/* event.c – the module "event": one task tells others that something happened.
 *
 *     local news = event.new()
 *     news:set()                  -- wakes all that wait, or is kept for the next one
 *     if news:wait(5) then … end  -- true once it was set, false when the time is over
 *
 * Setting it several times before somebody waits counts as once. A set never runs Lua.
 */
#include <stdlib.h>

#include "vm.h"

#define EVENT_TYPE "event"

typedef struct waiter waiter;

typedef struct event {
    waiter *waiters;
    bool set;
} event;

struct waiter {
    sr_op op; /* first */
    sr_timer timer;
    event *event; /* NULL once out of the list */
    waiter *next;
    bool woken;
};

static void leave(waiter *w) {
    if (!w->event) return;
    waiter **at = &w->event->waiters;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    w->event = NULL;
    sr_timer_stop(w->op.loop, &w->timer);
}

static void end_wait(waiter *w, bool woken) {
    leave(w);
    w->woken = woken;
    sr_op_done(&w->op);
}

static int wait_finish(lua_State *L, sr_op *op) {
    lua_pushboolean(L, ((waiter *)op)->woken);
    return 1;
}

static void wait_cancel(sr_op *op) {
    end_wait((waiter *)op, false);
}

static void wait_free(sr_op *op) {
    free(op);
}

static const sr_op_class wait_class = {.name = "event:wait",
                                       .finish = wait_finish,
                                       .cancel = wait_cancel,
                                       .free = wait_free};

static void on_time(sr_timer *timer) {
    end_wait((waiter *)((char *)timer - offsetof(waiter, timer)), false);
}

/* event:wait(timeout?) → true when it was set, false when the time is over. */
static int l_wait(lua_State *L) {
    event *e = sr_check_object(L, 1, EVENT_TYPE);
    double seconds = lua_isnoneornil(L, 2) ? SR_FOREVER : sr_check_duration(L, 2);
    sr_can_wait(L);
    if (e->set) {
        e->set = false;
        lua_pushboolean(L, true);
        return 1;
    }
    waiter *w = calloc(1, sizeof *w);
    if (!w) return luaL_error(L, "not enough memory");
    sr_op_init(&w->op, &wait_class, sr_loop_of(L));
    w->event = e;
    waiter **last = &e->waiters; /* first come, first served */
    while (*last)
        last = &(*last)->next;
    *last = w;
    if (seconds >= 0 && sr_timer_start(w->op.loop, &w->timer,
                                       sr_mono_after(w->op.loop, seconds), on_time) != 0)
        end_wait(w, false);
    return sr_wait(L, &w->op, SR_FOREVER);
}

/* event:set() */
static int l_set(lua_State *L) {
    event *e = sr_check_object(L, 1, EVENT_TYPE);
    e->set = !e->waiters;
    while (e->waiters)
        end_wait(e->waiters, true);
    return 0;
}

/* A task that waits holds the event on its stack; this is the end of the VM. */
static int l_gc(lua_State *L) {
    event *e = luaL_testudata(L, 1, EVENT_TYPE);
    while (e && e->waiters)
        leave(e->waiters);
    return 0;
}

/* event.new() → an event nobody has set. */
static int l_new(lua_State *L) {
    event *e = lua_newuserdatauv(L, sizeof *e, 0);
    *e = (event){0};
    luaL_setmetatable(L, EVENT_TYPE);
    return 1;
}

static const luaL_Reg methods[] = {{"set", l_set}, {"wait", l_wait}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};

int sr_open_event(lua_State *L) {
    luaL_newmetatable(L, EVENT_TYPE);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
