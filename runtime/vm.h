/* vm.h – one lua_State with its tasks, permissions and end of life (internal). */
#ifndef SR_VM_H
#define SR_VM_H

#include "task.h"

typedef struct sr_perms sr_perms;

struct sr_vm {
    sr_loop *loop;
    lua_State *L;
    sr_vm *next;
    sr_perms *perms; /* owned */
    sr_scope root, daemons;
    sr_task *main;
    sr_closer *closers;
    sr_op *idle; /* done once no task is left; or NULL */
    unsigned ntasks;
    uint32_t next_id;
    /* The script's own folder, resolved; its code needs no permission. */
    char *code_folder;
    int status;   /* exit status */
    bool exiting; /* os.exit was called or a signal came */
    bool failed;  /* a daemon or an unread error: status 1 */
};

/* perms are taken (freed with the VM); NULL allows everything. */
int sr_vm_new(sr_loop *loop, sr_perms *perms, sr_vm **ret_vm, sr_err *err);
/* Run the function and nargs arguments on top of the VM's main stack as the main task,
 * then end every other task. On success ret_ok tells whether the function returned;
 * its results, or its error object, are then on top of vm->L. */
int sr_vm_run(sr_vm *vm, int nargs, bool *ret_ok, int *ret_nresults, sr_err *err);
/* Cancel everything: from os.exit and signals. */
void sr_vm_exit(sr_vm *vm, int status, const char *why);
void sr_vm_free(sr_vm *vm);
sr_perms *sr_vm_perms(sr_vm *vm);

/* vm_lua.c: the module "vm" */
int sr_open_vm(lua_State *L);
/* event.c: the module "event" */
int sr_open_event(lua_State *L);
/* load.c */
int sr_open_load(lua_State *L);
/* clock_lua.c: os.time, os.date, and the module "time". */
int sr_open_time(lua_State *L);
/* args.c: the module "args" for Lua layers. */
int sr_open_args(lua_State *L);
/* log.c */
int sr_open_log(lua_State *L);

#endif
