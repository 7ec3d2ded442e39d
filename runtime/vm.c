/* vm.c – a virtual machine: one lua_State, opened, run and closed in the right order.
 *
 * End of life: the main task ends, daemons are cancelled, every task's clean-up runs on
 * the loop, what bindings keep per VM is closed, then lua_close. os.exit only records the
 * status and cancels the root, so the same order holds.
 */
#include "vm.h"

#include <stdlib.h>
#include <string.h>

#include "cage.h"
#include "cli.h"
#include "perm.h"
#include "practice.h"

static const char vm_key;

sr_vm *sr_vm_of(lua_State *L) {
    sr_task *task = sr_task_of(L);
    if (task) return task->vm;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &vm_key);
    sr_vm *vm = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return vm;
}

sr_loop *sr_loop_of(lua_State *L) {
    return sr_vm_of(L)->loop;
}

sr_perms *sr_vm_perms(sr_vm *vm) {
    return vm->perms;
}

void sr_at_close(lua_State *L, void (*fn)(void *), void *arg) {
    if (sr_closer_push(&sr_vm_of(L)->closers, fn, arg) != 0)
        luaL_error(L, "not enough memory");
}

/* os.exit(code?) – ends the program in order: <close> variables, daemons, bindings. */
static int l_exit(lua_State *L) {
    sr_vm *vm = sr_vm_of(L);
    int status = EXIT_SUCCESS;
    if (lua_isboolean(L, 1))
        status = lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
    else
        status = (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
    sr_vm_exit(vm, status, "os.exit() was called");
    if (sr_task_of(L)) sr_signal_guard_task(sr_task_of(L)); /* a pcall does not stop it */
    return sr_raise(L, SR_CANCELLED, "EXIT", "os.exit(%d)", status);
}

static void preload(lua_State *L, const char *name, lua_CFunction open) {
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
}

static const sr_module own_modules[] = {
    {"task.core", sr_open_task_core},
    {"errors", sr_open_errors},
    {"args", sr_open_args},
    {"time", sr_open_time},
    {"log", sr_open_log},
    {"event", sr_open_event},
    {"vm", sr_open_vm},
    {"progress", sr_open_progress},
    {"signals", sr_open_signals},
    {"practice", sr_open_practice},
    {"cage", sr_open_cage},
    {"cli.core", sr_open_cli_core},
    {"test.core", sr_open_test_core},
    {"repl.core", sr_open_repl_core},
    {0},
};

static int l_open(lua_State *L) {
    sr_vm *vm = lua_touserdata(L, 1);
    lua_pushlightuserdata(L, vm);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &vm_key);
    luaL_openlibs(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    sr_open_coroutine(L);
    lua_pushvalue(L, -1);
    lua_setglobal(L, LUA_COLIBNAME);
    lua_setfield(L, -2, LUA_COLIBNAME);
    sr_open_protect(L);
    lua_getglobal(L, LUA_OSLIBNAME);
    lua_pushcfunction(L, l_exit);
    lua_setfield(L, -2, "exit");
    luaL_requiref(L, "errors", sr_open_errors, 0);
    luaL_requiref(L, "time", sr_open_time, 0);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    for (const sr_module *m = own_modules; m->name; m++)
        preload(L, m->name, m->open);
    for (const sr_module *m = sr_bindings; m->name; m++)
        preload(L, m->name, m->open);
    lua_settop(L, 0);
    sr_open_secret(L);
    sr_open_load(L);
    sr_perm_restrict_libs(L);
    return 0;
}

static int open_failed(lua_State *L, sr_err *err) {
    const char *why = lua_tostring(L, -1);
    return sr_fail(err, SR_INTERNAL, NULL, "the Lua state cannot start: %s",
                   why ? why : luaL_tolstring(L, -1, NULL));
}

int sr_vm_new(sr_loop *loop, sr_perms *perms, sr_vm **ret_vm, sr_err *err) {
    sr_vm *vm = calloc(1, sizeof *vm);
    lua_State *L = vm ? luaL_newstate() : NULL;
    if (!L) {
        free(vm);
        sr_perms_free(perms);
        return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a Lua state");
    }
    vm->loop = loop;
    vm->L = L;
    vm->perms = perms;
    sr_scope_init(&vm->root, vm, NULL);
    sr_scope_init(&vm->daemons, vm, &vm->root);
    vm->next = loop->vms;
    loop->vms = vm;
    *(sr_task **)lua_getextraspace(L) = NULL;
    lua_pushcfunction(L, l_open);
    lua_pushlightuserdata(L, vm);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        int rc = open_failed(L, err);
        sr_vm_free(vm);
        return rc;
    }
    *ret_vm = vm;
    return 0;
}

void sr_vm_exit(sr_vm *vm, int status, const char *why) {
    vm->status = status;
    vm->exiting = true;
    sr_scope_cancel(&vm->root, SR_CANCELLED, why, 0);
}

static bool main_done(void *arg) {
    sr_vm *vm = arg;
    return vm->main->state == TASK_DONE;
}

static bool all_done(void *arg) {
    sr_vm *vm = arg;
    return vm->ntasks == 0;
}

static int l_spawn_main(lua_State *L) {
    sr_vm *vm = sr_vm_of(L);
    vm->main = sr_task_spawn(L, lua_gettop(L) - 1, &vm->root, NULL);
    return 1;
}

/* Leaves the main task's userdata on vm->L. */
static int start_main(sr_vm *vm, int nargs, sr_err *err) {
    lua_pushcfunction(vm->L, l_spawn_main);
    lua_insert(vm->L, -(nargs + 2));
    if (lua_pcall(vm->L, nargs + 1, 1, 0) == LUA_OK) return 0;
    return open_failed(vm->L, err);
}

int sr_vm_run(sr_vm *vm, int nargs, bool *ret_ok, int *ret_nresults, sr_err *err) {
    if (start_main(vm, nargs, err) != 0) return -1;
    int rc = sr_loop_run(vm->loop, main_done, vm, err);
    sr_scope_cancel(&vm->daemons, SR_CANCELLED, "the program ends", 0);
    if (rc != 0) sr_scope_cancel(&vm->root, SR_CANCELLED, "the program ends", 0);
    if (sr_loop_run(vm->loop, all_done, vm, rc == 0 ? err : NULL) != 0 || rc != 0)
        return -1;
    sr_task *task = vm->main;
    if (!lua_checkstack(vm->L, task->nresults + 1)) task->nresults = 0;
    *ret_ok = task->ok;
    *ret_nresults = task->nresults;
    lua_xmove(task->L, vm->L, task->nresults);
    return 0;
}

static void unlink_vm(sr_vm *vm) {
    sr_vm **at = &vm->loop->vms;
    while (*at != vm)
        at = &(*at)->next;
    *at = vm->next;
}

void sr_vm_free(sr_vm *vm) {
    if (!vm) return;
    sr_scope_abandon(&vm->root);
    sr_closers_run(&vm->closers);
    lua_close(vm->L);
    unlink_vm(vm);
    sr_perms_free(vm->perms);
    free(vm->code_folder);
    free(vm);
}
