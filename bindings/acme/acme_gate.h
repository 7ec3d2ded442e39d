/* acme_gate.h – one at a time: a gate that tasks pass in the order they came. */
#ifndef SR_ACME_GATE_H
#define SR_ACME_GATE_H

#include "secrun.h"

/* Register the types; called once per state by acme.core. */
void sr_acme_gate_open(lua_State *L);
/* acme.core.gate(name?) → gate; one with a name is shared by all states on the loop.
 * `local pass <close> = gate:enter()` waits until the pass of whoever came before is
 * closed. Cancelling a waiting task takes it out of the queue. */
int sr_acme_gate_new(lua_State *L);

#endif
