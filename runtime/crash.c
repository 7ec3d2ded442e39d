/* crash.c – the places where a test lets the process die.
 *
 * Whatever makes something durable or known to others (a write, an fsync, a rename, a
 * commit, a request, a child) says so by sr_crash_point(). In the program nobody listens.
 * The program `secrun_crash`, built for the tests only, sets the hook
 * (tests/crash/hook.c) and kills itself at the n-th place, so that every place can be
 * tried.
 */
#include "base.h"

void (*sr_crash_hook)(const char *what);
