/* gate.h – one at a time: a gate that tasks pass in the order they came. */
#ifndef SR_SYS_GATE_H
#define SR_SYS_GATE_H

#include "secrun.h"

/* gate.new(name?) → gate; one with a name is shared by all states on the loop.
 * `local pass <close> = gate:enter()` waits until the pass of whoever came before is
 * closed. Cancelling a waiting task takes it out of the queue. */
int sr_gate_new(lua_State *L);
/* The module "gate". */
int luaopen_gate(lua_State *L);

#endif
