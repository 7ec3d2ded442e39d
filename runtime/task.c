/* task.c – tasks and operations: park, wake, end.
 *
 *      spawn            drain            sr_wait            sr_op_done / timer / cancel
 *   NEW ────► READY ──────────► RUNNING ────────► WAITING ─────────────► READY
 *                                  │ body returned
 *                                  ▼
 *                                DONE
 *
 * A waiting task holds one reference to its operation, the source the other. Waking never
 * runs Lua: it puts the task in the ready queue and notes why (task->wake). The scheduler
 * resumes the outermost coroutine; continuations (co.c) lead down to the innermost, whose
 * continuation here takes the result or raises.
 *
 * The scheduler itself runs outside any protected call, so it uses only Lua functions
 * that cannot raise; everything that may is done inside the coroutine, in run_k.
 */
#include "task.h"

#include <stdio.h>
#include <string.h>

#include "compat.h"
#include "vm.h"

sr_task *volatile sr_running;

static sr_task *of_timer(sr_timer *timer) {
    return (sr_task *)((char *)timer - offsetof(sr_task, timer));
}

static sr_task **slot_of(lua_State *L) {
    return (sr_task **)lua_getextraspace(L);
}

sr_task *sr_task_of(lua_State *L) {
    return *slot_of(L);
}

/* ---------------------------------------------------------------- operations */

void sr_op_init(sr_op *op, const sr_op_class *cls, sr_loop *loop) {
    *op = (sr_op){.cls = cls, .loop = loop, .refs = 2};
}

void sr_op_ref(sr_op *op) {
    op->refs++;
}

void sr_op_unref(sr_op *op) {
    if (--op->refs == 0 && op->cls->free) op->cls->free(op);
}

static void make_ready(sr_task *task) {
    sr_loop *loop = task->vm->loop;
    sr_timer_stop(loop, &task->timer);
    task->state = TASK_READY;
    task->next = NULL;
    if (loop->ready_last)
        loop->ready_last->next = task;
    else
        loop->ready_first = task;
    loop->ready_last = task;
    if (loop->polling) uv_stop(&loop->uv); /* its poll must not sleep now */
}

void sr_op_done(sr_op *op) {
    sr_task *task = op->task;
    op->done = true;
    op->task = NULL;
    if (task && task->op == op && task->state == TASK_WAITING) {
        task->wake = SR_NONE;
        make_ready(task);
    }
    sr_op_unref(op);
}

static void cancel_op(sr_op *op) {
    op->task = NULL;
    if (op->done || op->cancelled) return;
    op->cancelled = true;
    if (op->cls->cancel) op->cls->cancel(op);
}

/* Let go of an operation whose finish raised, or that was never taken. */
static void drop_op(sr_task *task) {
    sr_op *op = task->op;
    if (!op) return;
    task->op = NULL;
    cancel_op(op);
    sr_op_unref(op);
}

/* ---------------------------------------------------------------- waiting */

bool sr_in_close_handler(lua_State *L) {
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "n", &ar);
        if (ar.name && strcmp(ar.namewhat, "metamethod") == 0 &&
            strcmp(ar.name, "close") == 0)
            return true;
    }
    return false;
}

bool sr_task_in_cleanup(const sr_task *task, lua_State *L) {
    if (task->unwinding > 0 || task->closing || sr_in_close_handler(L)) return true;
    for (const sr_frame *frame = task->frames; frame; frame = frame->up)
        if (sr_in_close_handler(frame->L)) return true;
    return false;
}

static void on_timer(sr_timer *timer) {
    sr_task *task = of_timer(timer);
    if (task->state != TASK_WAITING) return;
    task->wake = task->graceful ? SR_CANCELLED : SR_TIMEOUT;
    if (task->op) cancel_op(task->op);
    make_ready(task);
}

/* Clean-up after cancellation may wait, all in all for SR_GRACE. */
static void limit_to_grace(sr_task *task) {
    sr_loop *loop = task->vm->loop;
    if (!task->grace_until) task->grace_until = sr_mono_after(loop, SR_GRACE_SECONDS);
    if (task->timer.at && task->timer.due <= task->grace_until) return;
    task->graceful = true;
    if (sr_timer_start(loop, &task->timer, task->grace_until, on_timer) != 0)
        on_timer(&task->timer); /* without memory for a timer there is no grace */
}

void sr_task_interrupt(sr_task *task) {
    if (task->state != TASK_WAITING) return;
    if (task->op && task->op->cls->steady) {
        if (task->op->cls->interrupt) task->op->cls->interrupt(task->op);
        return;
    }
    if (sr_task_in_cleanup(task, task->inner)) {
        limit_to_grace(task);
        return;
    }
    task->wake = SR_CANCELLED;
    if (task->op) cancel_op(task->op);
    make_ready(task);
}

/* Why this place cannot wait, as an error; 0 when it can. */
static int refuse(lua_State *L, sr_task *task, const sr_op *op, sr_err *err) {
    char name[96];
    if (!task || sr_running != task)
        return sr_fail(err, SR_USAGE, "NOT_A_TASK",
                       "cannot wait here: this code does not run in a task");
    bool yieldable = lua_isyieldable(L);
    for (sr_frame *frame = task->frames; frame && yieldable; frame = frame->up)
        yieldable = lua_isyieldable(frame->L);
    if (!yieldable)
        return sr_fail(
            err, SR_USAGE, "CANNOT_YIELD",
            "cannot wait here: called through %s, which Lua cannot suspend; do "
            "the waiting before or after it",
            sr_in_the_way(L, task, name, sizeof name));
    if (!sr_task_cancelled(task) || (op && op->cls->steady)) return 0;
    if (sr_task_in_cleanup(task, L) &&
        (!task->grace_until || sr_mono(task->vm->loop) < task->grace_until))
        return 0;
    sr_task_cancel_err(task, err);
    return -1;
}

void sr_can_wait(lua_State *L) {
    sr_err err;
    if (refuse(L, sr_task_of(L), NULL, &err) != 0) sr_throw(L, &err);
}

static int finish_op(lua_State *L, sr_task *task) {
    sr_op *op = task->op;
    int n = op->cls->finish ? op->cls->finish(L, op) : 0;
    drop_op(task);
    return n;
}

static void describe_op(const sr_op *op, char *buf, size_t size) {
    if (op->cls->describe)
        op->cls->describe(op, buf, size);
    else
        snprintf(buf, size, "%s", op->cls->name);
}

void sr_task_describe(const sr_task *task, char *buf, size_t size) {
    buf[0] = '\0';
    if (task->state != TASK_WAITING) return;
    if (task->op)
        describe_op(task->op, buf, size);
    else
        snprintf(buf, size, "task.sleep(%g)", (double)task->timeout);
}

static int woken(lua_State *L, sr_task *task) {
    sr_err err;
    if (task->wake == SR_NONE && task->op) return finish_op(L, task);
    if (task->wake == SR_TIMEOUT && !task->op) return 0; /* the sleep is over */
    if (task->wake == SR_TIMEOUT) {
        sr_fail(&err, SR_TIMEOUT, NULL, "timed out after %g s", (double)task->timeout);
        err.retryable = true;
    } else {
        sr_task_cancel_err(task, &err);
    }
    if (task->op)
        describe_op(task->op, err.op, sizeof err.op);
    else
        snprintf(err.op, sizeof err.op, "task.sleep");
    drop_op(task);
    return sr_throw(L, &err);
}

static int wait_k(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    return woken(L, sr_task_of(L));
}

static int park(lua_State *L, sr_task *task, double timeout) {
    sr_loop *loop = task->vm->loop;
    if (timeout >= 0 &&
        sr_timer_start(loop, &task->timer, sr_mono_after(loop, timeout), on_timer) != 0) {
        drop_op(task);
        return luaL_error(L, "not enough memory for a timer");
    }
    task->state = TASK_WAITING;
    task->wake = SR_NONE;
    task->graceful = false;
    task->timeout = (float)timeout;
    task->inner = L;
    if (sr_task_cancelled(task) && !(task->op && task->op->cls->steady))
        limit_to_grace(task);
    task->parked = true;
    return lua_yieldk(L, 0, 0, wait_k);
}

int sr_wait(lua_State *L, sr_op *op, double timeout) {
    sr_task *task = sr_task_of(L);
    sr_err err;
    if (refuse(L, task, op, &err) != 0 && !(op->done && task)) {
        cancel_op(op);
        sr_op_unref(op);
        return sr_throw(L, &err);
    }
    drop_op(task);
    task->op = op;
    if (op->done) return finish_op(L, task);
    op->task = task;
    return park(L, task, timeout);
}

int sr_sleep(lua_State *L, double seconds) {
    sr_can_wait(L);
    sr_task *task = sr_task_of(L);
    drop_op(task);
    return park(L, task, seconds);
}

/* ---------------------------------------------------------------- the body of a task */

static bool caused_by_cancel(lua_State *L, sr_task *task) {
    sr_kind cancelled = sr_task_cancelled(task);
    return cancelled && sr_error_kind(L, -1) == cancelled;
}

/* Scopes still on the task's stack: groups left open (true), and what a generator that
 * was dropped in the middle left behind. */
static bool drop_scopes(sr_task *task) {
    bool group = false;
    while (task->scope != task->base) {
        sr_scope *scope = task->scope;
        sr_scope_cancel(scope, SR_CANCELLED, "its task ended", 0);
        group |= scope->is_group;
        if (scope->is_group)
            sr_group_orphan((sr_group *)scope);
        else
            sr_scope_remove(scope);
    }
    return group;
}

/* A group left open by mistake: its children are cancelled, and it is said. */
static void close_left_scopes(lua_State *L, sr_task *task) {
    if (!drop_scopes(task) || !task->ok) return;
    task->ok = false;
    lua_settop(L, 0);
    sr_err err;
    sr_fail(&err, SR_USAGE, "GROUP_OPEN",
            "a task.group was left open: write `local g <close> = task.group()`");
    sr_push_err(L, &err);
    task->nresults = 1;
}

static void report_error(lua_State *L, sr_task *task) {
    if (caused_by_cancel(L, task) || task->watched || task == task->vm->main) return;
    lua_pushvalue(L, -1);
    if (task->group && !task->group->orphan) {
        sr_group_fail(L, task->group);
        return;
    }
    task->vm->failed = true;
    lua_getfield(L, -1, "trace");
    sr_log(L, SR_ERROR, "task", "%s failed: %s", task->daemon ? "a daemon" : "a task",
           luaL_tolstring(L, -2, NULL));
    sr_log(L, SR_ERROR, "task", "%s", lua_isstring(L, -2) ? lua_tostring(L, -2) : "");
    lua_pop(L, 3);
}

/* Stack: handler, results… | handler, error. Everything that may raise at a task's end
 * happens here, inside the coroutine. */
static int run_k(lua_State *L, int status, lua_KContext ctx) {
    (void)ctx;
    sr_task *task = sr_task_of(L);
    task->unwinding = 0;
    task->ok = status == LUA_OK || status == LUA_YIELD;
    if (!task->ok) sr_to_error(L);
    task->nresults = task->ok ? lua_gettop(L) - 1 : 1;
    close_left_scopes(L, task);
    if (!task->ok) report_error(L, task);
    return task->nresults;
}

static int l_refused(lua_State *L) {
    sr_err err;
    sr_task_cancel_err(sr_task_of(L), &err);
    return sr_throw(L, &err);
}

static int l_run(lua_State *L) {
    if (sr_task_cancelled(sr_task_of(L))) { /* cancelled before it began */
        lua_settop(L, 0);
        lua_pushcfunction(L, l_refused);
    }
    lua_pushcfunction(L, sr_trace_unwinding);
    lua_insert(L, 1);
    return run_k(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, 0, run_k), 0);
}

/* ---------------------------------------------------------------- scheduler */

static void link_task(sr_task *task, sr_scope *base) {
    task->next_task = base->tasks;
    if (base->tasks) base->tasks->prev_task = task;
    base->tasks = task;
}

static void unlink_task(sr_task *task) {
    if (task->prev_task)
        task->prev_task->next_task = task->next_task;
    else
        task->base->tasks = task->next_task;
    if (task->next_task) task->next_task->prev_task = task->prev_task;
}

void sr_anchor(lua_State *L, int idx, void *key) {
    lua_pushvalue(L, idx);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

/* Assigning nil to a present key allocates nothing and cannot raise. */
void sr_unanchor(lua_State *L, void *key) {
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

/* "file:line" of the spawn, and of the spawner's own spawn behind it, a few deep. */
static void push_spawn_site(lua_State *L) {
    enum { MAX_CHAIN = 400 };
    int top = lua_gettop(L) + 1;
    sr_push_where(L); /* site */
    sr_task *parent = sr_task_of(L);
    if (!parent) return;
    lua_rawgetp(L, LUA_REGISTRYINDEX, parent);
    if (lua_isuserdata(L, -1) && lua_getiuservalue(L, -1, 2) == LUA_TSTRING) {
        size_t len = lua_rawlen(L, -1);
        if (len > 0 && len < MAX_CHAIN) {
            lua_pushfstring(L, "%s, by a task spawned at %s", lua_tostring(L, top),
                            lua_tostring(L, -1));
            lua_replace(L, top);
        }
    }
    lua_settop(L, top);
}

sr_task *sr_task_spawn(lua_State *L, int nargs, sr_scope *base, sr_group *group) {
    sr_vm *vm = base->vm;
    int fn = lua_gettop(L) - nargs;
    sr_task *task = lua_newuserdatauv(L, sizeof *task, 2); /* fn, args…, task */
    *task = (sr_task){.vm = vm, .base = base, .scope = base, .group = group};
    luaL_setmetatable(L, SR_TASK_TYPE);
    task->L = lua_newthread(L);
    lua_setiuservalue(L, -2, 1);
    push_spawn_site(L);
    lua_setiuservalue(L, -2, 2);
    lua_pushcfunction(task->L, l_run);
    lua_insert(L, fn); /* task, fn, args… */
    luaL_checkstack(task->L, nargs + 1, "too many arguments for a task");
    sr_anchor(L, fn, task);
    lua_xmove(L, task->L, nargs + 1);
    *slot_of(task->L) = task;
    task->id = ++vm->next_id;
    task->nresults = nargs + 1; /* of the first resume */
    vm->ntasks++;
    link_task(task, base);
    if (group) group->live++;
    make_ready(task);
    task->state = TASK_NEW;
    return task;
}

static int l_end_badly(lua_State *L) {
    sr_task *task = lua_touserdata(L, 1);
    lua_xmove(task->L, L, 1); /* task, error */
    sr_to_error(L);
    report_error(L, task);
    lua_xmove(L, task->L, 1);
    return 0;
}

/* The coroutine itself failed (no memory): the error is on its stack, unreported. If
 * there is no memory for the report either, that becomes the task's error. */
static void end_badly(sr_task *task) {
    lua_State *L = task->vm->L;
    task->ok = false;
    task->nresults = 1;
    lua_pushcfunction(L, l_end_badly);
    lua_pushlightuserdata(L, task);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK) return;
    lua_xmove(L, task->L, 1);
    if (!task->group || task->group->orphan) {
        task->vm->failed = true;
        return;
    }
    task->group->lost_error = true;
    sr_scope_cancel(&task->group->scope, SR_CANCELLED, "a task of the same group failed",
                    0);
}

static void end_task(sr_task *task, int status) {
    if (status != LUA_OK) end_badly(task);
    sr_timer_stop(task->vm->loop, &task->timer);
    task->state = TASK_DONE;
    *slot_of(task->L) = NULL;
    drop_op(task);
    (void)drop_scopes(task);
    unlink_task(task);
    task->vm->ntasks--;
    while (task->joiners) {
        sr_op *op = task->joiners;
        task->joiners = sr_join_next(op);
        sr_op_done(op);
    }
    if (task->group) sr_group_task_done(task->group);
    sr_op *idle = task->vm->ntasks == 0 ? task->vm->idle : NULL;
    if (idle) {
        task->vm->idle = NULL;
        sr_op_done(idle);
    }
    sr_unanchor(task->vm->L, task); /* may free the task */
}

static void resume(sr_task *task) {
    int nargs = task->state == TASK_NEW ? task->nresults : 0, nresults;
    sr_vm *vm = task->vm;
    task->state = TASK_RUNNING;
    task->parked = task->closing = false;
    task->inner = task->L;
    sr_running = task;
    if (vm->exiting) sr_signal_guard(task->L);
    int status = lua_resume(task->L, vm->L, nargs, &nresults);
    sr_running = NULL;
    task->frames = NULL;
    if (status != LUA_YIELD)
        end_task(task, status);
    else if (!task->parked)
        make_ready(task); /* a foreign lua_yield: just a turn for the others */
}

static void leave_ready_queue(sr_loop *loop, sr_task *task) {
    sr_task *before = NULL;
    for (sr_task *at = loop->ready_first; at != task; at = at->next)
        before = at;
    if (before)
        before->next = task->next;
    else
        loop->ready_first = task->next;
    if (loop->ready_last == task) loop->ready_last = before;
}

/* The state is closed although the task never ended: nothing may point to it from now on.
 */
void sr_task_abandon(sr_task *task) {
    sr_loop *loop = task->vm->loop;
    if (task->state == TASK_READY || task->state == TASK_NEW)
        leave_ready_queue(loop, task);
    sr_timer_stop(loop, &task->timer);
    task->state = TASK_DONE;
    *slot_of(task->L) = NULL;
    drop_op(task);
    unlink_task(task);
    task->vm->ntasks--;
}

/* Those ready on entry; tasks they wake have the next turn, after I/O. */
void sr_ready_drain(sr_loop *loop) {
    sr_task *last = loop->ready_last, *task;
    while ((task = loop->ready_first)) {
        bool more = task != last;
        loop->ready_first = task->next;
        if (!task->next) loop->ready_last = NULL;
        task->next = NULL;
        resume(task);
        if (!more) break;
    }
}
