/* signals.h – what SIGINT, SIGTERM, SIGALRM and SIGUSR1 do (internal). */
#ifndef SR_SIGNALS_H
#define SR_SIGNALS_H

#include "vm.h"

enum { SR_SIGNAL_MAX = 32 }; /* one more than the highest that can be caught */

/* SIGINT, SIGTERM: end the VM in order with status 128 + number, the second one exits at
 * once. SIGUSR1 prints who waits where. SIGPIPE is ignored. */
int sr_signals_start(sr_vm *vm, sr_err *err);
void sr_signals_stop(void);
/* From now on SIGINT calls fn instead, in the loop or in the running script's hook; NULL
 * restores. For the REPL. fn runs no Lua. */
void sr_signals_interrupt(void (*fn)(void *arg), void *arg);
/* The same for SIGALRM, which is otherwise ignored. For the test runner's watchdog. */
void sr_signals_alarm(void (*fn)(void *arg), void *arg);
/* These signals (SIGHUP, SIGINT, SIGTERM) go to fn instead, in the loop or in the running
 * script's hook, until release. fn runs no Lua. One catcher at a time. 0 or -1 (usage for
 * another VM than the main one, conflict). */
int sr_signals_catch(sr_vm *vm, const int *numbers, size_t count,
                     void (*fn)(void *arg, int number), void *arg, sr_err *err);
void sr_signals_release(void);
/* While somebody waits for a signal, the loop has something to wait for. */
void sr_signals_hold(bool hold);
/* End the VM as if the signal had come: SIGPIPE when nobody reads standard output. */
void sr_signals_raise(int number);
/* The signal that ends the program, or 0. */
int sr_signals_ended(void);

#endif
