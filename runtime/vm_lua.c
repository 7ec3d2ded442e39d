/* vm_lua.c – the module "vm": further VMs on the same loop, started and ended from Lua.
 *
 *     local other <close> = vm.new()                    -- may what this one may
 *     local sum = other:call("my_module", "add", 1, 2)  -- a task there; copies in and
 * out
 *
 * A call requires the module there and runs its function as a task of that VM, while the
 * caller waits; any number may be under way. Cancelling the caller cancels that task, and
 * the caller goes on waiting for its end. Errors come over as error objects. Closing
 * cancels every task of the VM, waits for their clean-up and frees it; one that is
 * collected is freed at once. Nothing but copies of plain values passes.
 *
 * Each call is a join (group.c) of the task it started: it ends when that task does,
 * however it does. It stands in its VM's list of calls, so that a VM which is freed early
 * ends them.
 */
#include <stdlib.h>
#include <string.h>

#include "copy.h"
#include "perm.h"
#include "vm.h"

#define VM_TYPE "vm"
#define ERROR_TYPE "error"

typedef struct call call;

/* The handle; lives in a userdata, which the waiting callers hold. */
typedef struct other {
    sr_vm *vm;   /* NULL once freed */
    call *calls; /* under way */
    bool closing;
} other;

struct call {
    sr_join join;  /* first */
    other *other;  /* NULL once the VM is gone */
    sr_task *task; /* anchored there under the call's address until it is freed */
    call *next;
};

static const char enter[] = "local module, name = ...\n"
                            "return require(module)[name](select(3, ...))\n";

/* ---------------------------------------------------------------- ends */

static void unlink_call(other *o, call *c) {
    for (call **at = &o->calls; *at; at = &(*at)->next) {
        if (*at != c) continue;
        *at = c->next;
        break;
    }
    c->other = NULL;
}

static void call_free(sr_op *op) {
    call *c = (call *)op;
    if (c->other) {
        if (c->task) sr_unanchor(c->other->vm->L, c);
        unlink_call(c->other, c);
    }
    free(c);
}

/* The VM goes before its calls have ended. */
static void free_vm(other *o) {
    sr_vm *vm = o->vm;
    if (!vm) return;
    while (o->calls) {
        call *c = o->calls;
        unlink_call(o, c);
        c->task = NULL;
        if (!c->join.op.done) sr_join_cancel(&c->join.op);
    }
    sr_op *idle = vm->idle;
    vm->idle = NULL;
    o->vm = NULL;
    sr_vm_free(vm);
    if (idle) sr_op_done(idle);
}

static int l_gc(lua_State *L) {
    other *o = luaL_testudata(L, 1, VM_TYPE);
    if (o) free_vm(o);
    return 0;
}

/* ---------------------------------------------------------------- calls */

/* Copies lose their metatables; an error and its causes get theirs back. */
static void restore_errors(lua_State *L) {
    int top = lua_gettop(L);
    lua_pushvalue(L, top);
    while (lua_istable(L, -1)) {
        luaL_setmetatable(L, ERROR_TYPE);
        lua_getfield(L, -1, "cause");
        luaL_checkstack(L, 2, "too many causes");
    }
    lua_settop(L, top);
}

/* Push an error that cannot be copied whole: its fields that can. */
static void copy_fields(lua_State *L, lua_State *from, int idx) {
    static const char *const fields[] = {"kind",  "message",   "code",        "op",
                                         "where", "retryable", "retry_after", "status",
                                         "trace", NULL};
    lua_newtable(L);
    for (int i = 0; fields[i] && lua_checkstack(from, 2); i++) {
        lua_pushstring(from, fields[i]);
        lua_rawget(from, idx);
        if (sr_copy_try(from, -1, L, NULL, &(sr_err){0}) == 0)
            lua_setfield(L, -2, fields[i]);
        lua_pop(from, 1);
    }
}

static int raise_copy(lua_State *L, lua_State *from) {
    sr_err err = {0};
    int idx = lua_gettop(from);
    if (!lua_istable(from, idx)) return luaL_error(L, "a call in another VM failed");
    if (sr_copy_try(from, idx, L, NULL, &err) != 0) copy_fields(L, from, idx);
    restore_errors(L);
    return lua_error(L);
}

static int call_finish(lua_State *L, sr_op *op) {
    const call *c = (call *)op;
    sr_err err = {0};
    if (!c->other || !c->task)
        return sr_raise(L, SR_CANCELLED, "VM_CLOSED", "vm:call: the VM was closed");
    lua_State *from = c->task->L;
    int n = c->task->nresults, first = lua_gettop(from) - n + 1;
    if (!c->task->ok) return raise_copy(L, from);
    luaL_checkstack(L, n + 4, "too many results");
    for (int i = 0; i < n; i++)
        if (sr_copy_try(from, first + i, L, &(sr_copy_rules){.what = "the result"},
                        &err) != 0)
            return sr_throw(L, &err);
    return n;
}

static void call_interrupt(sr_op *op) {
    call *c = (call *)op;
    if (c->task) sr_task_cancel(c->task, "whoever asked for it was cancelled");
}

static const sr_op_class call_class = {.name = "vm:call",
                                       .finish = call_finish,
                                       .cancel = sr_join_cancel,
                                       .free = call_free,
                                       .steady = true,
                                       .interrupt = call_interrupt};

/* In the other VM. Stack: call, arguments of the chunk. */
static int l_start(lua_State *L) {
    call *c = lua_touserdata(L, 1);
    sr_vm *vm = sr_vm_of(L);
    if (luaL_loadbufferx(L, enter, sizeof enter - 1, "=vm:call", "t") != LUA_OK)
        return lua_error(L);
    lua_insert(L, 2);
    c->task = sr_task_spawn(L, lua_gettop(L) - 2, &vm->root, NULL);
    c->task->watched = true;
    lua_rawsetp(L, LUA_REGISTRYINDEX, c);
    return 0;
}

/* Copy the arguments of L from the second on and start the task. */
static int start(lua_State *L, call *c, sr_vm *vm, sr_err *err) {
    int n = lua_gettop(L) - 1, top = lua_gettop(vm->L);
    if (!lua_checkstack(vm->L, n + 4))
        return sr_fail(err, SR_LIMIT, "size", "vm:call: too many arguments");
    lua_pushcfunction(vm->L, l_start);
    lua_pushlightuserdata(vm->L, c);
    for (int i = 0; i < n; i++)
        if (sr_copy_try(L, i + 2, vm->L, &(sr_copy_rules){.what = "an argument"}, err)) {
            lua_settop(vm->L, top);
            return -1;
        }
    if (lua_pcall(vm->L, n + 1, 0, 0) == LUA_OK) return 0;
    const char *why = lua_tostring(vm->L, -1);
    sr_fail(err, SR_LIMIT, "ENOMEM", "vm:call cannot start: %s", why ? why : "no memory");
    lua_settop(vm->L, top);
    return -1;
}

static other *check_open(lua_State *L, const char *what) {
    other *o = sr_check_object(L, 1, VM_TYPE);
    if (!o->vm || o->closing)
        sr_raise(L, SR_USAGE, "VM_CLOSED", "%s: the VM is closed", what);
    return o;
}

/* vm:call(module, function, …) → its results. */
static int l_call(lua_State *L) {
    other *o = check_open(L, "vm:call");
    luaL_checkstring(L, 2);
    luaL_checkstring(L, 3);
    sr_can_wait(L);
    sr_err err = {0};
    call *c = calloc(1, sizeof *c);
    if (!c) return luaL_error(L, "not enough memory");
    c->next = o->calls;
    c->other = o;
    o->calls = c;
    if (start(L, c, o->vm, &err) != 0) {
        c->task = NULL;
        unlink_call(o, c);
        free(c);
        return sr_throw(L, &err);
    }
    sr_join_add(&c->join, &call_class, sr_loop_of(L), &c->task->joiners);
    return sr_wait(L, &c->join.op, SR_FOREVER);
}

/* ---------------------------------------------------------------- close */

static int close_finish(lua_State *L, sr_op *op) {
    (void)op;
    other *o = sr_check_object(L, 1, VM_TYPE);
    free_vm(o);
    return 0;
}

static void close_free(sr_op *op) {
    free(op);
}

static const sr_op_class close_class = {
    .name = "vm:close", .finish = close_finish, .free = close_free, .steady = true};

/* vm:close() – cancel what runs there, wait for its clean-up, free it. Twice is once. */
static int l_close(lua_State *L) {
    other *o = sr_check_object(L, 1, VM_TYPE);
    if (!o->vm || o->closing) return 0;
    if (o->vm->ntasks > 0) sr_can_wait(L);
    o->closing = true;
    sr_scope_cancel(&o->vm->root, SR_CANCELLED, "its VM is closed", 0);
    sr_op *op = o->vm->ntasks > 0 ? calloc(1, sizeof *op) : NULL;
    if (!op) {
        free_vm(o);
        return 0;
    }
    lua_settop(L, 1);
    sr_op_init(op, &close_class, sr_loop_of(L));
    o->vm->idle = op;
    return sr_wait(L, op, SR_FOREVER);
}

/* ---------------------------------------------------------------- the module */

/* vm:calls() → how many are under way. */
static int l_calls(lua_State *L) {
    const other *o = sr_check_object(L, 1, VM_TYPE);
    lua_Integer n = 0;
    for (const call *c = o->calls; c; c = c->next)
        n += !c->join.op.done; /* one that failed is let go of at the next wait */
    lua_pushinteger(L, n);
    return 1;
}

/* vm:memory() → bytes its Lua state holds. */
static int l_memory(lua_State *L) {
    const other *o = sr_check_object(L, 1, VM_TYPE);
    lua_Integer bytes = 0;
    if (o->vm)
        bytes = (lua_Integer)lua_gc(o->vm->L, LUA_GCCOUNT) * 1024 +
                lua_gc(o->vm->L, LUA_GCCOUNTB);
    lua_pushinteger(L, bytes);
    return 1;
}

/* vm.new() → a VM on this loop with the same permissions. */
static int l_new(lua_State *L) {
    sr_err err = {0};
    other *o = lua_newuserdatauv(L, sizeof *o, 0);
    *o = (other){0};
    luaL_setmetatable(L, VM_TYPE);
    sr_perms *perms = NULL;
    const sr_perms *own = sr_vm_perms(sr_vm_of(L));
    if (own && !(perms = sr_perms_copy(own))) return luaL_error(L, "not enough memory");
    if (sr_vm_new(sr_loop_of(L), perms, &o->vm, &err) != 0) return sr_throw(L, &err);
    return 1;
}

static const luaL_Reg methods[] = {{"call", l_call},
                                   {"close", l_close},
                                   {"calls", l_calls},
                                   {"memory", l_memory},
                                   {NULL, NULL}};
static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};

int sr_open_vm(lua_State *L) {
    luaL_newmetatable(L, VM_TYPE);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__close");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
