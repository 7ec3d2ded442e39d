/* testing.c – what the test runner needs from C: a watchdog in real time, and a count of
 * what a test may leave behind.
 *
 * The watchdog uses the system's own timers, so it also works under the virtual clock and
 * in tight loops. SIGALRM cancels the test's task (signals.c arms a hook). A grace later,
 * if the test still runs, in a C function that never returns, SIGVTALRM's handler writes
 * the prepared last words and ends the program.
 */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "signals.h"

#ifdef SR_SANITIZE
enum { SLOWNESS = 4 }; /* of a sanitizer build */
#else
enum { SLOWNESS = 1 };
#endif
enum { GRACE_SECONDS = 20 };

static struct {
    sr_task *task; /* watched; its userdata is held by the runner */
    bool fired, ready;
    timer_t soft, hard;
    char last_words[1024];
} watch;

static void on_hung(int number) {
    (void)number;
    (void)!write(STDOUT_FILENO, watch.last_words,
                 strnlen(watch.last_words, sizeof watch.last_words));
    _exit(EXIT_FAILURE);
}

static void on_alarm(void *arg) {
    (void)arg;
    if (!watch.task) return;
    watch.fired = true;
    sr_task_cancel(watch.task, "the test's time is over");
}

static void set_timer(timer_t timer, double seconds) {
    struct itimerspec spec = {0};
    spec.it_value.tv_sec = (time_t)seconds;
    spec.it_value.tv_nsec = (long)((seconds - (double)spec.it_value.tv_sec) * 1e9);
    timer_settime(timer, 0, &spec, NULL);
}

static void make_timers(lua_State *L) {
    struct sigevent soft = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct sigevent hard = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGVTALRM};
    if (watch.ready) return;
    if (timer_create(CLOCK_MONOTONIC, &soft, &watch.soft) != 0 ||
        timer_create(CLOCK_MONOTONIC, &hard, &watch.hard) != 0)
        luaL_error(L, "no timer for the watchdog: %s", strerror(errno));
    struct sigaction sa = {.sa_handler = on_hung};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGVTALRM, &sa, NULL);
    sr_signals_alarm(on_alarm, NULL);
    watch.ready = true;
}

/* core.watch(task, seconds, last_words) – cancel the task when the time is over. */
static int l_watch(lua_State *L) {
    sr_task *task = sr_check_object(L, 1, SR_TASK_TYPE);
    double seconds = sr_check_duration(L, 2) * SLOWNESS;
    make_timers(L);
    snprintf(watch.last_words, sizeof watch.last_words, "%s", luaL_checkstring(L, 3));
    watch.task = task->state == TASK_DONE ? NULL : task;
    watch.fired = false;
    set_timer(watch.soft, seconds > 0 ? seconds : 0.001);
    set_timer(watch.hard, seconds + GRACE_SECONDS);
    return 0;
}

/* core.unwatch() → whether the time was over. */
static int l_unwatch(lua_State *L) {
    watch.task = NULL;
    if (watch.ready) {
        set_timer(watch.soft, 0);
        set_timer(watch.hard, 0);
    }
    lua_pushboolean(L, watch.fired);
    return 1;
}

/* ---------------------------------------------------------------- what is left behind */

static void push_target(lua_State *L, const char *name) {
    char link[280], target[256];
    snprintf(link, sizeof link, "/proc/self/fd/%s", name);
    ssize_t len = readlink(link, target, sizeof target);
    lua_pushlstring(L, target, len < 0 ? 0 : (size_t)len);
}

/* core.descriptors() → {[fd] = "socket:[4711]"}. Box: the closing of the folder is
 * certain because nothing between opendir and closedir raises but for want of memory. */
static int l_descriptors(lua_State *L) {
    lua_newtable(L);
    DIR *dir = opendir("/proc/self/fd");
    if (!dir) return luaL_error(L, "/proc/self/fd: %s", strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir));) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (entry->d_name[0] == '.' || fd == dirfd(dir)) continue;
        push_target(L, entry->d_name);
        lua_rawseti(L, -2, fd);
    }
    closedir(dir);
    return 1;
}

static void count_handle(uv_handle_t *handle, void *arg) {
    if (!uv_is_closing(handle)) ++*(lua_Integer *)arg;
}

/* core.handles() → number of libuv handles that are not closing. */
static int l_handles(lua_State *L) {
    lua_Integer n = 0;
    uv_walk(sr_uv(sr_loop_of(L)), count_handle, &n);
    lua_pushinteger(L, n);
    return 1;
}

/* ---------------------------------------------------------------- temporary folders */

/* core.make_folder() → path of a fresh folder below $TMPDIR. */
static int l_make_folder(lua_State *L) {
    const char *base = getenv("TMPDIR");
    lua_pushfstring(L, "%s/secrun-test-XXXXXX", base && *base ? base : "/tmp");
    size_t len;
    const char *pattern = lua_tolstring(L, -1, &len);
    char *path = lua_newuserdatauv(L, len + 1, 0);
    memcpy(path, pattern, len + 1);
    sr_allow(L, SR_PERM_WRITE, path);
    if (!mkdtemp(path)) {
        sr_err err;
        sr_fail_errno(&err, errno, "a temporary folder cannot be made in %s", pattern);
        return sr_throw(L, &err);
    }
    lua_pushstring(L, path);
    return 1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st;
    (void)at;
    if (type == FTW_DNR && chmod(path, 0700) != 0) return -1;
    return remove(path);
}

/* core.remove_folder(path) – with all that is in it, following no link. */
static int l_remove_folder(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    sr_allow(L, SR_PERM_WRITE, path);
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
        return 0;
    sr_err err;
    sr_fail_errno(&err, errno, "the test's folder %s is left behind", path);
    return sr_throw(L, &err);
}

static const luaL_Reg functions[] = {{"watch", l_watch},
                                     {"unwatch", l_unwatch},
                                     {"descriptors", l_descriptors},
                                     {"handles", l_handles},
                                     {"make_folder", l_make_folder},
                                     {"remove_folder", l_remove_folder},
                                     {NULL, NULL}};

int sr_open_test_core(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
