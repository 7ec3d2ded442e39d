/* process.h – what other bindings need of the module "process". */
#ifndef SR_PROCESS_H
#define SR_PROCESS_H

#include "secrun.h"

/* Check that the value at idx is a command: a list of strings, the first not empty,
 * without NUL, secrets refused. Raises usage naming `what` ("process.run: argv"); a
 * single string with spaces gets the array form shown. */
void sr_check_argv(lua_State *L, int idx, const char *what);

/* Push a userdata that owns the list and return it, ended by NULL: the checked command at
 * idx; the child's environment by the options `env` of the table at idx, ours included
 * unless `clear`, as far as this VM may see it. */
char **sr_push_argv(lua_State *L, int idx);
char **sr_push_env(lua_State *L, int idx, bool clear);
/* Wipe and free such lists anywhere on the stack, once they are used. */
void sr_wipe_lists(lua_State *L);

#endif
