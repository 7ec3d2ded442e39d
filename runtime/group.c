/* group.c – the C part of the module "task": sleep, scopes, groups, joins.
 *
 * A group is a nursery. Closing it joins its children; the first child error cancels the
 * others and is raised by the close. The wait for children is steady: cancellation
 * reaches the children through the scope tree, and the close still waits for their
 * clean-up.
 */
#include <stdlib.h>

#include "vm.h"

static sr_task *here(lua_State *L, const char *what) {
    sr_task *task = sr_task_of(L);
    if (!task)
        sr_raise(L, SR_USAGE, "NOT_A_TASK", "%s: this code does not run in a task", what);
    return task;
}

/* ---------------------------------------------------------------- joins */

typedef sr_join join;

enum { JOIN_TASK, JOIN_GROUP, JOIN_PLACE };

sr_op *sr_join_next(sr_op *op) {
    join *j = (join *)op;
    j->list = NULL;
    return j->next;
}

void sr_join_cancel(sr_op *op) {
    join *j = (join *)op;
    for (sr_op **at = j->list; at && *at; at = &((join *)*at)->next) {
        if (*at != op) continue;
        *at = j->next;
        break;
    }
    j->list = NULL;
    sr_op_done(op);
}

static void join_free(sr_op *op) {
    free(op);
}

void sr_join_add(sr_join *j, const sr_op_class *cls, sr_loop *loop, sr_op **list) {
    sr_op_init(&j->op, cls, loop);
    j->list = list;
    j->next = NULL;
    sr_op **last = list; /* first come, first served */
    while (*last)
        last = &((join *)*last)->next;
    *last = &j->op;
}

static sr_op *join_new(lua_State *L, const sr_op_class *cls, sr_op **list, int kind) {
    join *j = calloc(1, sizeof *j);
    if (!j) luaL_error(L, "not enough memory");
    sr_join_add(j, cls, sr_loop_of(L), list);
    j->kind = kind;
    return &j->op;
}

/* ---------------------------------------------------------------- tasks */

static sr_task *check_task(lua_State *L, int idx) {
    return sr_check_object(L, idx, SR_TASK_TYPE);
}

static int push_results(lua_State *L, sr_task *task) {
    lua_State *from = task->L;
    int n = task->nresults, top = lua_gettop(from);
    luaL_checkstack(L, n + 1, "too many results");
    if (!lua_checkstack(from, 1)) return luaL_error(L, "not enough memory");
    for (int i = top - n + 1; i <= top; i++) {
        lua_pushvalue(from, i);
        lua_xmove(from, L, 1);
    }
    return task->ok ? n : lua_error(L);
}

static int task_finish(lua_State *L, sr_op *op) {
    (void)op;
    return push_results(L, check_task(L, 1));
}

static const sr_op_class task_class = {.name = "task:join",
                                       .finish = task_finish,
                                       .cancel = sr_join_cancel,
                                       .free = join_free};

/* task:join() → the task's results; raises its error. */
static int l_task_join(lua_State *L) {
    sr_task *task = check_task(L, 1);
    if (task->state == TASK_DONE) return push_results(L, task);
    if (task == sr_task_of(L))
        return sr_raise(L, SR_USAGE, NULL, "task:join: a task cannot wait for itself");
    sr_can_wait(L);
    return sr_wait(L, join_new(L, &task_class, &task->joiners, JOIN_TASK), SR_FOREVER);
}

/* task:cancel() – every wait of the task raises "cancelled" from now on. */
static int l_task_cancel(lua_State *L) {
    sr_task_cancel(check_task(L, 1), "task:cancel()");
    return 0;
}

/* task:status() → "waiting", "ready", "running", "done" or "failed". */
static int l_task_status(lua_State *L) {
    sr_task *task = check_task(L, 1);
    static const char *const names[] = {"ready", "ready", "running", "waiting", "done"};
    lua_pushstring(L,
                   task->state == TASK_DONE && !task->ok ? "failed" : names[task->state]);
    return 1;
}

static int l_task_tostring(lua_State *L) {
    lua_pushfstring(L, "task %d", (int)check_task(L, 1)->id);
    return 1;
}

static const luaL_Reg task_methods[] = {{"join", l_task_join},
                                        {"cancel", l_task_cancel},
                                        {"status", l_task_status},
                                        {NULL, NULL}};

/* ---------------------------------------------------------------- groups */

static sr_group *check_group(lua_State *L, int idx) {
    return sr_check_object(L, idx, SR_GROUP_TYPE);
}

void sr_group_fail(lua_State *L, sr_group *group) {
    if (group->error == LUA_NOREF)
        group->error = luaL_ref(L, LUA_REGISTRYINDEX);
    else
        lua_pop(L, 1);
    sr_scope_cancel(&group->scope, SR_CANCELLED, "a task of the same group failed", 0);
}

static void close_group(lua_State *L, sr_group *group) {
    group->open = false;
    sr_scope_remove(&group->scope);
    sr_unanchor(L, group);
}

/* Its tasks, cancelled, still clean up: it stays in the tree until the last has ended. */
void sr_group_orphan(sr_group *group) {
    group->open = false;
    group->orphan = true;
    sr_scope_disown(&group->scope);
    if (group->live == 0) close_group(group->scope.vm->L, group);
}

/* A child ended: wake whoever waits for a place, and at zero whoever joins. */
void sr_group_task_done(sr_group *group) {
    group->live--;
    sr_op **at = &group->waiters;
    int places = group->limit > (lua_Integer)group->live
                     ? (int)(group->limit - (lua_Integer)group->live)
                     : 0;
    while (*at) {
        join *j = (join *)*at;
        bool wake = j->kind == JOIN_PLACE ? places-- > 0 : group->live == 0;
        if (!wake) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        j->list = NULL;
        sr_op_done(&j->op);
    }
    if (group->orphan && group->live == 0) close_group(group->scope.vm->L, group);
}

static int raise_first_error(lua_State *L, sr_group *group) {
    if (group->error != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, group->error);
        luaL_unref(L, LUA_REGISTRYINDEX, group->error);
        group->error = LUA_NOREF;
        return lua_error(L);
    }
    if (group->lost_error) {
        group->lost_error = false;
        return sr_raise(L, SR_LIMIT, "ENOMEM", "a task of the group ran out of memory");
    }
    return 0;
}

/* Stack: group, error of the body (nil for none). A body that was only cancelled because
 * a child failed shows the child's error instead. */
static int closed(lua_State *L, sr_group *group) {
    sr_kind body = lua_isnil(L, 2) ? SR_NONE : sr_error_kind(L, 2);
    sr_task *owner = group->scope.owner;
    close_group(L, group);
    if (lua_isnil(L, 2) || body == SR_CANCELLED) raise_first_error(L, group);
    if (lua_isnil(L, 2) && owner && sr_task_cancelled(owner)) {
        sr_err err;
        sr_task_cancel_err(owner, &err);
        return sr_throw(L, &err);
    }
    if (group->error != LUA_NOREF) { /* the body's error wins; the child's is logged */
        lua_rawgeti(L, LUA_REGISTRYINDEX, group->error);
        sr_log(L, SR_WARN, "task", "also failed in the group: %s",
               luaL_tolstring(L, -1, NULL));
        luaL_unref(L, LUA_REGISTRYINDEX, group->error);
        group->error = LUA_NOREF;
    }
    return 0;
}

static int close_finish(lua_State *L, sr_op *op);

static const sr_op_class close_class = {.name = "task.group:close",
                                        .finish = close_finish,
                                        .cancel = sr_join_cancel,
                                        .free = join_free,
                                        .steady = true};

static int wait_and_close(lua_State *L, sr_group *group) {
    if (group->live == 0) return closed(L, group);
    return sr_wait(L, join_new(L, &close_class, &group->waiters, JOIN_GROUP), SR_FOREVER);
}

/* Somebody who waited for a place may have taken it before the owner came to run. */
static int close_finish(lua_State *L, sr_op *op) {
    (void)op;
    return wait_and_close(L, check_group(L, 1));
}

/* group:close(error?) and the group's __close. Only the task that opened it may. */
static int l_group_close(lua_State *L) {
    sr_group *group = check_group(L, 1);
    lua_settop(L, 2);
    if (!group->open) return 0;
    if (group->scope.owner != sr_task_of(L))
        return sr_raise(
            L, SR_USAGE, NULL,
            "task.group:close: only the task that opened the group closes it");
    if (!lua_isnil(L, 2))
        sr_scope_cancel(&group->scope, SR_CANCELLED, "its group was left by an error", 0);
    return wait_and_close(L, group);
}

static int join_finish(lua_State *L, sr_op *op) {
    (void)op;
    return raise_first_error(L, check_group(L, 1));
}

static const sr_op_class join_class = {.name = "task.group:join",
                                       .finish = join_finish,
                                       .cancel = sr_join_cancel,
                                       .free = join_free};

/* group:join() – wait until no task of the group is left; raises the first error. The
 * group stays open. */
static int l_group_join(lua_State *L) {
    sr_group *group = check_group(L, 1);
    lua_settop(L, 1);
    if (group->live == 0) return raise_first_error(L, group);
    sr_can_wait(L);
    return sr_wait(L, join_new(L, &join_class, &group->waiters, JOIN_GROUP), SR_FOREVER);
}

/* group:cancel() – cancel every task of the group; their waits and the rest of the body's
 * raise "cancelled". */
static int l_group_cancel(lua_State *L) {
    sr_scope_cancel(&check_group(L, 1)->scope, SR_CANCELLED, "task.group:cancel()", 0);
    return 0;
}

static int place_finish(lua_State *L, sr_op *op);

static const sr_op_class place_class = {.name = "task.group:spawn (its limit is reached)",
                                        .finish = place_finish,
                                        .cancel = sr_join_cancel,
                                        .free = join_free};

/* Again after each wait: the group may be closed by then, or the place be taken. */
static int spawn(lua_State *L, sr_group *group) {
    if (!group->open)
        return sr_raise(L, SR_USAGE, NULL, "task.group:spawn: the group is closed");
    if (group->limit != 0 && (lua_Integer)group->live >= group->limit) {
        sr_can_wait(L);
        return sr_wait(L, join_new(L, &place_class, &group->waiters, JOIN_PLACE),
                       SR_FOREVER);
    }
    sr_task_spawn(L, lua_gettop(L) - 2, &group->scope, group);
    return 1;
}

static int place_finish(lua_State *L, sr_op *op) {
    (void)op;
    return spawn(L, check_group(L, 1));
}

/* group:spawn(fn, …) → task. Waits for a place when the group has a limit. */
static int l_group_spawn(lua_State *L) {
    sr_group *group = check_group(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    return spawn(L, group);
}

/* Cancelled before it was closed, or never: at the end of its VM. */
static int l_group_gc(lua_State *L) {
    sr_group *group = luaL_testudata(L, 1, SR_GROUP_TYPE);
    if (group && group->error != LUA_NOREF)
        luaL_unref(L, LUA_REGISTRYINDEX, group->error);
    return 0;
}

static int l_group_count(lua_State *L) {
    lua_pushinteger(L, check_group(L, 1)->live);
    return 1;
}

static const luaL_Reg group_methods[] = {
    {"spawn", l_group_spawn}, {"join", l_group_join},   {"cancel", l_group_cancel},
    {"close", l_group_close}, {"count", l_group_count}, {NULL, NULL}};

static const sr_arg group_args[] = {
    {"limit", SR_INT, SR_POSITIVE, NULL, "tasks at once; spawn waits beyond"}, {0}};
static const sr_spec group_spec = {"task.group", "Open a group of tasks.", group_args};

/* task.group{limit=} → group; close it, best by `local g <close> =`. */
static int l_group(lua_State *L) {
    sr_task *task = here(L, "task.group");
    sr_args(L, 1, &group_spec);
    sr_group *group = lua_newuserdatauv(L, sizeof *group, 0);
    *group = (sr_group){.error = LUA_NOREF, .open = true};
    luaL_setmetatable(L, SR_GROUP_TYPE);
    group->limit = sr_arg_int(L, 1, "limit", 0);
    sr_anchor(L, -1, group);
    sr_scope_push(task, &group->scope, false);
    group->scope.is_group = true;
    return 1;
}

/* ---------------------------------------------------------------- scopes */

#define SCOPE_TYPE "task.scope"

/* A generator that was dropped inside task.timeout never leaves its scope by itself. */
static int l_scope_gc(lua_State *L) {
    sr_scope *scope = lua_touserdata(L, 1);
    if (scope->vm) sr_scope_remove(scope);
    return 0;
}

/* Stack: scope, handler, results… | scope, handler, error */
static int scope_k(lua_State *L, int status, lua_KContext saved) {
    sr_task *task = sr_task_of(L);
    task->unwinding = (uint16_t)saved;
    sr_scope_remove(lua_touserdata(L, 1));
    if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - 2;
    return lua_error(L);
}

/* Stack: fn, arguments… */
static int call_in_scope(lua_State *L, sr_task *task, double seconds) {
    luaL_checkany(L, 1);
    sr_scope *scope = lua_newuserdatauv(L, sizeof *scope, 0);
    *scope = (sr_scope){0};
    luaL_setmetatable(L, SCOPE_TYPE);
    lua_insert(L, 1);
    lua_pushcfunction(L, sr_trace_unwinding);
    lua_insert(L, 2); /* scope, handler, fn, … */
    sr_scope_push(task, scope, seconds < 0);
    if (seconds >= 0) sr_scope_deadline(scope, seconds);
    lua_KContext saved = task->unwinding;
    return scope_k(L, lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, 2, saved, scope_k),
                   saved);
}

/* task.timeout(duration, fn, …) → results of fn. Raises "timeout" from the wait that is
 * under way when the time is over, and from every later one. */
static int l_timeout(lua_State *L) {
    sr_task *task = here(L, "task.timeout");
    double seconds = sr_check_duration(L, 1);
    lua_remove(L, 1);
    return call_in_scope(L, task, seconds);
}

/* task.shield(fn, …) → results of fn; cancellation from outside waits for its end. */
static int l_shield(lua_State *L) {
    return call_in_scope(L, here(L, "task.shield"), -1);
}

/* task.sleep(duration) */
static int l_sleep(lua_State *L) {
    return sr_sleep(L, sr_check_duration(L, 1));
}

/* task.daemon(fn, …) → task. Lives until the program ends; its error is logged and makes
 * the exit status 1. */
static int l_daemon(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    sr_task *task = sr_task_spawn(L, lua_gettop(L) - 1, &sr_vm_of(L)->daemons, NULL);
    task->daemon = true;
    return 1;
}

/* task.cancelled() → whether the next wait would raise. */
static int l_cancelled(lua_State *L) {
    lua_pushboolean(L, sr_task_cancelled(here(L, "task.cancelled")) != SR_NONE);
    return 1;
}

/* task.deadline() → seconds to the tightest enclosing deadline, or nil. */
static int l_deadline(lua_State *L) {
    sr_task *task = here(L, "task.deadline");
    int64_t due = INT64_MAX;
    for (sr_scope *scope = task->scope; scope && !scope->shield; scope = scope->parent)
        if (scope->timer.at && scope->timer.due < due) due = scope->timer.due;
    if (due == INT64_MAX) return 0;
    lua_pushnumber(L, (double)(due - sr_mono(task->vm->loop)) / (double)SR_NS);
    return 1;
}

/* task.self() → the running task. */
static int l_self(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, here(L, "task.self"));
    return 1;
}

/* task.fail() – the exit status will be 1 (an error that nobody read). */
static int l_fail(lua_State *L) {
    sr_vm_of(L)->failed = true;
    return 0;
}

/* task.count() → tasks alive in this VM. */
static int l_count(lua_State *L) {
    lua_pushinteger(L, sr_vm_of(L)->ntasks);
    return 1;
}

/* task.dump() – print every task, what it waits for, and its stack, to standard error. */
static int l_dump(lua_State *L) {
    sr_dump_tasks(sr_loop_of(L));
    return 0;
}

static const luaL_Reg functions[] = {
    {"sleep", l_sleep},       {"timeout", l_timeout},     {"shield", l_shield},
    {"group", l_group},       {"daemon", l_daemon},       {"self", l_self},
    {"deadline", l_deadline}, {"cancelled", l_cancelled}, {"count", l_count},
    {"dump", l_dump},         {"fail", l_fail},           {NULL, NULL}};

static void new_type(lua_State *L, const char *name, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "private");
    lua_setfield(L, -2, "__metatable");
}

int sr_open_task_core(lua_State *L) {
    new_type(L, SR_TASK_TYPE, task_methods);
    lua_pushcfunction(L, l_task_tostring);
    lua_setfield(L, -2, "__tostring");
    new_type(L, SR_GROUP_TYPE, group_methods);
    lua_pushcfunction(L, l_group_close);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, l_group_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, SCOPE_TYPE);
    lua_pushcfunction(L, l_scope_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, functions);
    return 1;
}
