/* process.h – what other bindings need of the module "process". */
#ifndef SR_PROCESS_H
#define SR_PROCESS_H

#include "secrun.h"

/* Check that the value at idx is a command: a list of strings, the first not empty,
 * without NUL, secrets refused. Raises usage naming `what` ("process.run: argv"); a
 * single string with spaces gets the array form shown. */
void sr_check_argv(lua_State *L, int idx, const char *what);

#endif
