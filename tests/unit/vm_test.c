/* vm_test.c – several VMs on one loop, a VM that is freed early, and want of memory at
 * every allocation. */
#include "vm.h"

#include <stdlib.h>

#include "perm.h"
#include "unit.h"

static sr_loop *open_loop(void) {
    sr_loop *loop = NULL;
    sr_err err;
    CHECK(sr_loop_new(&loop, &err) == 0);
    sr_clock_virtual(loop, 1000);
    return loop;
}

static sr_vm *open_vm(sr_loop *loop, const char *flag, const char *value) {
    sr_vm *vm = NULL;
    sr_err err;
    sr_perms *perms = sr_perms_new();
    if (flag) CHECK(sr_perms_parse(perms, flag, value, &err) == 0);
    CHECK(sr_vm_new(loop, perms, &vm, &err) == 0);
    return vm;
}

/* Load the text and start it as a task that nobody has to wait for. */
static int l_start(lua_State *L) {
    sr_vm *vm = sr_vm_of(L);
    if (luaL_loadbufferx(L, lua_tostring(L, 1), lua_rawlen(L, 1), "=test", "t") != LUA_OK)
        return lua_error(L);
    sr_task_spawn(L, 0, &vm->daemons, NULL);
    return 0;
}

static void start(sr_vm *vm, const char *text) {
    lua_pushcfunction(vm->L, l_start);
    lua_pushstring(vm->L, text);
    CHECK_INT(lua_pcall(vm->L, 1, 0, 0), LUA_OK);
}

/* Run the text as the main task; whether it returned. Its results stay on the stack. */
static bool run(sr_vm *vm, const char *text) {
    sr_err err = {0};
    bool ok = false;
    int n;
    CHECK_INT(luaL_loadbufferx(vm->L, text, strlen(text), "=test", "t"), LUA_OK);
    if (sr_vm_run(vm, 0, &ok, &n, &err) != 0) return false;
    return ok;
}

static long long global(sr_vm *vm, const char *name) {
    lua_getglobal(vm->L, name);
    long long value = lua_tointeger(vm->L, -1);
    lua_pop(vm->L, 1);
    return value;
}

#define TICK                                                                             \
    "local task = require 'task'; count = 0\n"                                           \
    "while true do task.sleep(1) count = count + 1 end"

TEST(tasks_of_several_vms_run_side_by_side_on_one_loop) {
    sr_loop *loop = open_loop();
    sr_vm *a = open_vm(loop, NULL, NULL), *b = open_vm(loop, NULL, NULL);
    start(b, TICK);
    CHECK(run(a, "require('task').sleep(10.5)"));
    CHECK_INT(global(b, "count"), 10);
    CHECK_INT(global(a, "count"), 0);
    sr_vm_free(a); /* and the other goes on, in the same loop */
    CHECK(run(b, "require('task').sleep(5)"));
    CHECK_INT(global(b, "count"), 15);
    sr_vm_free(b);
    sr_loop_free(loop);
}

TEST(each_vm_has_its_own_permissions) {
    static const char *const look = "local ok, err = pcall(io.open, '/etc/hostname')\n"
                                    "require('task').sleep(1)\n"
                                    "return ok";
    sr_loop *loop = open_loop();
    sr_vm *open = open_vm(loop, NULL, NULL);
    sr_vm *shut = open_vm(loop, "--allow-read", "/nowhere");
    start(open, look); /* at the same time */
    CHECK(run(shut, look));
    CHECK(!lua_toboolean(shut->L, -1));
    CHECK(run(open, look));
    CHECK(lua_toboolean(open->L, -1));
    sr_vm_free(shut);
    sr_vm_free(open);
    sr_loop_free(loop);
}

TEST(only_copies_of_plain_values_cross_between_vms) {
    sr_loop *loop = open_loop();
    sr_vm *a = open_vm(loop, NULL, NULL), *b = open_vm(loop, NULL, NULL);
    CHECK(run(a, "return {list = {1, 2.5, 'x'}, yes = true}"));
    sr_copy(a->L, -1, b->L);
    sr_vm_free(a);
    lua_setglobal(b->L, "value");
    CHECK(run(b,
              "value.list[4] = 1; return value.list[3] == 'x' and value.list[2] == 2.5"));
    CHECK(lua_toboolean(b->L, -1));
    sr_vm_free(b);
    sr_loop_free(loop);
}

TEST(a_vm_freed_with_tasks_ready_asleep_and_joining_leaves_nothing_behind) {
    sr_loop *loop = open_loop();
    sr_vm *a = open_vm(loop, NULL, NULL), *b = open_vm(loop, NULL, NULL);
    start(a, TICK);
    start(a, "local task = require 'task'\n"
             "local g <close> = task.group{limit = 1}\n"
             "local sleeper = g:spawn(task.timeout, 500, task.sleep, 400)\n"
             "task.daemon(function() g:spawn(print) end)\n"
             "task.daemon(function() sleeper:join() end)\n"
             "task.shield(sleeper.join, sleeper)");
    CHECK(run(b, "require('task').sleep(3.5)"));
    start(a, "error 'never runs'");
    sr_vm_free(a);
    CHECK(run(b, "require('task').sleep(1000)"));
    sr_vm_free(b);
    sr_loop_free(loop);
}

TEST(a_deadlock_out_of_reach_of_cancellation_ends_the_program) {
    sr_loop *loop = open_loop();
    sr_vm *vm = open_vm(loop, NULL, NULL);
    CHECK(!run(vm, "local task, a, b = require 'task'\n"
                   "local g <close> = task.group()\n"
                   "a = g:spawn(task.shield, function() task.sleep(1) b:join() end)\n"
                   "b = g:spawn(task.shield, function() task.sleep(1) a:join() end)"));
    sr_vm_free(vm);
    sr_loop_free(loop);
}

/* ---------------------------------------------------------------- no memory */

typedef struct scarce {
    lua_Alloc alloc;
    void *ud;
    long left;  /* allocations until they fail */
    long times; /* how many fail then */
    long failed;
} scarce;

static void *scarce_alloc(void *ud, void *block, size_t osize, size_t nsize) {
    scarce *s = ud;
    bool grows = nsize > 0 && (!block || nsize > osize);
    if (grows && s->left-- <= 0 && s->times-- > 0) {
        s->failed++;
        return NULL;
    }
    return s->alloc(s->ud, block, osize, nsize);
}

static const char *const memory_test =
    "local task = require 'task'\n"
    "local function fail() error {} end\n"
    "local function gen(n)\n"
    "  return coroutine.wrap(function()\n"
    "    for i = 1, n do task.timeout(9, function() task.sleep(1) coroutine.yield(i) "
    "end) end\n"
    "  end)\n"
    "end\n"
    "local g <close> = task.group{limit = 2}\n"
    "g:spawn(function() for i in gen(2) do task.sleep(i) end end)\n"
    "g:spawn(task.shield, function() try(task.timeout, 1, task.sleep, 2) end)\n"
    "local t = g:spawn(function(...) task.sleep(1) return ... end, 1, 2, 3)\n"
    "task.daemon(function() pcall(t.join, t) task.sleep(99) end)\n"
    "t:join()\n"
    "local inner = task.group()\n"
    "inner:spawn(fail)\n"
    "inner:spawn(function()\n"
    "  local c <close> = setmetatable({}, {__close = function() task.sleep(1) end})\n"
    "  task.sleep(50)\n"
    "end)\n"
    "pcall(inner.close, inner)\n"
    "task.race(function() task.sleep(1) end, function() task.sleep(2) end)\n"
    "local _, errs = task.each({1, 2}, {limit = 1}, function(i) if i == 1 then fail() "
    "end end)\n"
    "assert(#errs == 1)\n";

/* One run whose n-th allocation and the next ones fail; false when none did. */
static bool run_without_memory(long n, long times) {
    sr_loop *loop = open_loop();
    sr_vm *vm = open_vm(loop, NULL, NULL);
    scarce s = {.left = n, .times = times};
    CHECK(run(vm, "require 'task'"));
    CHECK_INT(luaL_loadbufferx(vm->L, memory_test, strlen(memory_test), "=test", "t"),
              LUA_OK);
    s.alloc = lua_getallocf(vm->L, &s.ud);
    lua_setallocf(vm->L, scarce_alloc, &s);
    sr_err err = {0};
    bool ok = false;
    int nresults = 0;
    int rc = sr_vm_run(vm, 0, &ok, &nresults, &err);
    CHECK(rc == 0 || err.message[0]);
    CHECK(s.failed || (rc == 0 && ok));
    s.times = 0; /* closing a state needs no memory of ours, but finalizers may */
    sr_vm_free(vm);
    sr_loop_free(loop);
    return s.failed > 0;
}

TEST(a_short_want_of_memory_at_any_allocation_neither_crashes_nor_leaks) {
    long n = 0;
    while (run_without_memory(n, 2)) /* the second is the try after a full collection */
        n += n < 400 ? 1 : 7;
    CHECK(n > 200);
}

TEST(a_lasting_want_of_memory_from_any_allocation_on_neither_crashes_nor_leaks) {
    long n = 0;
    while (run_without_memory(n, 2000000))
        n += n < 400 ? 1 : 7;
    CHECK(n > 200);
}
