/* hook.c – what makes secrun_crash of secrun: death at the n-th crash point.
 *
 *     SECRUN_CRASH_AT=17 secrun_crash renew      killed by SIGKILL at the 17th
 *
 * Before it dies it says at which place on standard error; without the variable, or when
 * there are fewer places, it ends as secrun does.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base.h"

static long fatal;
static atomic_long count;

static void on_point(const char *what) {
    long n = atomic_fetch_add(&count, 1) + 1;
    if (n != fatal) return;
    char text[96];
    int len = snprintf(text, sizeof text, "crash point %ld: %s\n", n, what);
    if (write(STDERR_FILENO, text, (size_t)len) != len) _exit(70);
    (void)kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

__attribute__((constructor)) static void set_hook(void) {
    const char *text = getenv("SECRUN_CRASH_AT");
    if (!text) return;
    fatal = strtol(text, NULL, 10);
    sr_crash_hook = on_point;
}
