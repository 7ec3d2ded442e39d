/* co.c – the coroutine library, which lets waits pass through.
 *
 * A wait inside a user's coroutine yields with task->parked set. Resume and wrap see it
 * and yield on from their own coroutine, level by level, to the scheduler; when the task
 * is woken, their continuations resume level by level back down. So a generator over I/O
 * is an ordinary generator. A plain coroutine.yield stops at its resumer, as in stock
 * Lua.
 *
 * The slot in front of a lua_State holds the task that runs it. While the coroutine is
 * suspended by its own yield there is no task in it, so that nobody resumes one that
 * waits; it is NULL then, or the innermost scope the coroutine has yielded in, marked by
 * bit 0.
 */
#include <stdatomic.h>
#include <stdint.h>

#include "compat.h"
#include "vm.h"

static sr_task **slot_of(lua_State *L) {
    return (sr_task **)lua_getextraspace(L);
}

static sr_scope *taken_scope(lua_State *co) {
    uintptr_t slot = (uintptr_t)*slot_of(co);
    return slot & 1 ? (sr_scope *)(slot - 1) : NULL;
}

static void take_scope(lua_State *co, sr_scope *top) {
    *slot_of(co) = top ? (sr_task *)((uintptr_t)top + 1) : NULL;
}

static lua_State *check_co(lua_State *L) {
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co, 1, "coroutine");
    return co;
}

enum { CO_RUNNING, CO_DEAD, CO_SUSPENDED, CO_NORMAL };
static const char *const state_names[] = {"running", "dead", "suspended", "normal"};

static int state_of(lua_State *L, lua_State *co) {
    lua_Debug ar;
    if (L == co) return CO_RUNNING;
    switch (lua_status(co)) {
    case LUA_YIELD: return *slot_of(co) && !taken_scope(co) ? CO_NORMAL : CO_SUSPENDED;
    case LUA_OK:
        if (lua_getstack(co, 0, &ar)) return CO_NORMAL;
        return lua_gettop(co) == 0 ? CO_DEAD : CO_SUSPENDED;
    default: return CO_DEAD;
    }
}

/* A signal handler may walk the frames at any instruction. */
static void push_frame(sr_task *task, sr_frame *frame) {
    if (!task) return;
    atomic_signal_fence(memory_order_seq_cst);
    task->frames = frame;
}

static void pop_frame(sr_task *task, const sr_frame *frame) {
    if (task) task->frames = frame->up;
    atomic_signal_fence(memory_order_seq_cst);
}

enum { WAITS = -2, FAILED = -1 };

/* Resume co; the number of values it gave, now on L, or FAILED with its error on L, or
 * WAITS when it waits for an operation and L has to yield too. */
static int drive(lua_State *L, lua_State *co, int nargs, const sr_scope *outer) {
    int nresults;
    sr_task *task = *slot_of(L);
    sr_frame frame = {L, task ? task->frames : NULL};
    uint16_t unwinding = task ? task->unwinding : 0;
    sr_scope *taken = taken_scope(co);
    *slot_of(co) = task;
    if (task && taken) sr_scope_attach(task, taken);
    push_frame(task, &frame);
    if (task) {
        task->inner = co;
        if (task->vm->exiting) sr_signal_guard(co);
    }
    int status = lua_resume(co, L, nargs, &nresults);
    pop_frame(task, &frame);
    if (status == LUA_YIELD && task && task->parked) {
        task->closing = task->closing || sr_in_close_handler(L);
        return WAITS;
    }
    if (task) {
        task->inner = L;
        task->unwinding = unwinding; /* what it left half closed is its own affair */
    }
    take_scope(co, task && status == LUA_YIELD ? sr_scope_detach(task, outer) : NULL);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return FAILED;
    }
    if (!lua_checkstack(L, nresults + 1)) {
        lua_pop(co, nresults);
        lua_pushliteral(L, "too many results to resume");
        return FAILED;
    }
    lua_xmove(co, L, nresults);
    return nresults;
}

/* ret_outer: the task's innermost scope here, above which co's own will lie. */
static int begin(lua_State *L, lua_State *co, int nargs, sr_scope **ret_outer) {
    sr_task *task = *slot_of(L);
    *ret_outer = task ? task->scope : NULL;
    int state = state_of(L, co);
    if (state != CO_SUSPENDED) {
        lua_pushfstring(L, "cannot resume %s coroutine",
                        state == CO_DEAD ? "dead" : "non-suspended");
        return FAILED;
    }
    if (!lua_checkstack(co, nargs)) {
        lua_pushliteral(L, "too many arguments to resume");
        return FAILED;
    }
    lua_xmove(L, co, nargs);
    return drive(L, co, nargs, *ret_outer);
}

static int resume_k(lua_State *L, int status, lua_KContext ctx);

static int resumed(lua_State *L, int n, const sr_scope *outer) {
    if (n == WAITS) return lua_yieldk(L, 0, (lua_KContext)outer, resume_k);
    lua_pushboolean(L, n != FAILED);
    if (n == FAILED) n = 1;
    lua_insert(L, -(n + 1));
    return n + 1;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    const sr_scope *outer = (const sr_scope *)ctx;
    return resumed(L, drive(L, lua_tothread(L, 1), 0, outer), outer);
}

static int l_resume(lua_State *L) {
    lua_State *co = check_co(L);
    sr_scope *outer;
    int n = begin(L, co, lua_gettop(L) - 1, &outer);
    return resumed(L, n, outer);
}

static int wrap_k(lua_State *L, int status, lua_KContext ctx);

/* As stock Lua: close the dead coroutine's variables, add the position to a string. */
static int wrapped(lua_State *L, lua_State *co, int n, const sr_scope *outer) {
    if (n == WAITS) return lua_yieldk(L, 0, (lua_KContext)outer, wrap_k);
    if (n != FAILED) return n;
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) {
        sr_task *task = *slot_of(L);
        sr_frame frame = {L, task ? task->frames : NULL};
        *slot_of(co) = task;
        push_frame(task, &frame);
        status = sr_closethread(co, L);
        pop_frame(task, &frame);
        *slot_of(co) = NULL;
        if (status != LUA_OK) lua_xmove(co, L, 1);
    }
    if (lua_type(L, -1) == LUA_TSTRING && status != LUA_ERRMEM) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrap_k(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    const sr_scope *outer = (const sr_scope *)ctx;
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    return wrapped(L, co, drive(L, co, 0, outer), outer);
}

static int l_wrapped(lua_State *L) {
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    sr_scope *outer;
    int n = begin(L, co, lua_gettop(L), &outer);
    return wrapped(L, co, n, outer);
}

static int l_create(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

static int l_wrap(lua_State *L) {
    l_create(L);
    lua_pushcclosure(L, l_wrapped, 1);
    return 1;
}

static bool is_main(lua_State *L) {
    sr_task *task = *slot_of(L);
    return !task || task->L == L;
}

static int l_yield(lua_State *L) {
    if (is_main(L)) return luaL_error(L, "attempt to yield from outside a coroutine");
    return lua_yield(L, lua_gettop(L));
}

static int l_status(lua_State *L) {
    lua_pushstring(L, state_names[state_of(L, check_co(L))]);
    return 1;
}

static int l_running(lua_State *L) {
    lua_pushthread(L);
    lua_pushboolean(L, is_main(L));
    return 2;
}

static int l_isyieldable(lua_State *L) {
    lua_State *co = lua_isnone(L, 1) ? L : check_co(L);
    bool suspended = co != L && state_of(L, co) == CO_SUSPENDED;
    lua_pushboolean(L, suspended || (!is_main(co) && lua_isyieldable(co)));
    return 1;
}

static int l_close(lua_State *L) {
    lua_State *co = check_co(L);
    int state = state_of(L, co);
    if (state != CO_DEAD && state != CO_SUSPENDED)
        return luaL_error(L, "cannot close a %s coroutine", state_names[state]);
    sr_task *task = *slot_of(L);
    sr_frame frame = {L, task ? task->frames : NULL};
    *slot_of(co) = task;
    push_frame(task, &frame);
    int status = sr_closethread(co, L);
    pop_frame(task, &frame);
    *slot_of(co) = NULL;
    lua_pushboolean(L, status == LUA_OK);
    if (status == LUA_OK) return 1;
    lua_xmove(co, L, 1);
    return 2;
}

static const luaL_Reg functions[] = {{"create", l_create},
                                     {"resume", l_resume},
                                     {"wrap", l_wrap},
                                     {"yield", l_yield},
                                     {"status", l_status},
                                     {"running", l_running},
                                     {"isyieldable", l_isyieldable},
                                     {"close", l_close},
                                     {NULL, NULL}};

int sr_open_coroutine(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
