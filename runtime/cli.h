/* cli.h – the C parts of the command line, the test runner and the REPL (internal). */
#ifndef SR_CLI_H
#define SR_CLI_H

#include "secrun.h"

/* cli.c: "cli.core" */
int sr_open_cli_core(lua_State *L);
/* testing.c: "test.core" */
int sr_open_test_core(lua_State *L);
/* progress.c: "progress" */
int sr_open_progress(lua_State *L);
/* signals_lua.c: the module "signals". */
int sr_open_signals(lua_State *L);
/* repl.c: "repl.core" */
int sr_open_repl_core(lua_State *L);

#endif
