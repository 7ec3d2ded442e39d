/* signals.h – SIGINT, SIGTERM, SIGUSR1 for the main VM (internal). */
#ifndef SR_SIGNALS_H
#define SR_SIGNALS_H

#include "vm.h"

int sr_signals_start(sr_vm *vm, sr_err *err);
void sr_signals_stop(void);
/* While set, the first SIGINT calls fn instead of ending the program (the REPL cancels the
 * line); fn runs on the loop or from a hook and must not raise. NULL: back to ending. */
void sr_signals_interrupt(void (*fn)(void *arg), void *arg);

#endif
