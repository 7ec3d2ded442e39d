/* signals.c – SIGINT and SIGTERM cancel and clean up, a second one exits, SIGUSR1 dumps.
 *
 * The handler notes the signal, wakes the loop, and arms a hook on the running coroutine,
 * because a script in a tight loop never comes back to the loop. The work is done by
 * whichever comes first, the loop's callback or the hook.
 *
 * A script may catch some of them (signals_lua.c): then it hears of the first one, and
 * the VM goes on. A second SIGINT or SIGTERM exits at once all the same.
 */
#include "signals.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HOOK_EVERY = 1000 };

typedef struct action {
    void (*fn)(void *arg);
    void *arg;
} action;

static struct {
    uv_async_t async;
    sr_vm *vm;
    volatile sig_atomic_t end; /* SIGINT, SIGTERM or SIGPIPE, not handled yet */
    volatile sig_atomic_t ends, dump, alarm;
    action on_interrupt, on_alarm;
    volatile sig_atomic_t caught[SR_SIGNAL_MAX], came[SR_SIGNAL_MAX];
    void (*on_caught)(void *arg, int number);
    void *caught_arg;
    struct sigaction hangup; /* what SIGHUP did before it was caught */
    int ended;
    int every; /* instructions between two looks at a script that was cancelled */
} state = {.every = HOOK_EVERY};

/* Raise in code that goes on although its task is cancelled; clean-up is left alone. Each
 * time sooner, so that a loop around a pcall ends as well. */
static void on_guard(lua_State *L, lua_Debug *ar) {
    (void)ar;
    sr_task *task = sr_task_of(L);
    if (!task || !sr_task_cancelled(task) || sr_task_in_cleanup(task, L)) return;
    if (state.every > 1) state.every /= 2;
    lua_sethook(L, on_guard, LUA_MASKCOUNT, state.every);
    sr_err err;
    sr_task_cancel_err(task, &err);
    sr_throw(L, &err);
}

void sr_signal_guard(lua_State *L) {
    lua_sethook(L, on_guard, LUA_MASKCOUNT, HOOK_EVERY);
}

void sr_signal_guard_task(sr_task *task) {
    sr_signal_guard(task->inner);
    for (sr_frame *frame = task->frames; frame; frame = frame->up)
        sr_signal_guard(frame->L);
}

static const char *reason(int number) {
    switch (number) {
    case SIGINT: return "interrupted (SIGINT)";
    case SIGPIPE: return "nobody reads standard output (SIGPIPE)";
    default: return "terminated (SIGTERM)";
    }
}

static void hand_over(void) {
    for (int number = 1; number < SR_SIGNAL_MAX; number++) {
        if (!state.came[number]) continue;
        state.came[number] = 0;
        if (state.on_caught) state.on_caught(state.caught_arg, number);
    }
}

static void handle(void) {
    if (!state.vm) return;
    hand_over();
    if (state.dump) {
        state.dump = 0;
        sr_dump_tasks(state.vm->loop);
    }
    if (state.alarm) {
        state.alarm = 0;
        if (state.on_alarm.fn) state.on_alarm.fn(state.on_alarm.arg);
    }
    int end = state.end;
    state.end = 0;
    if (!end) return;
    state.every = HOOK_EVERY;
    if (end == SIGINT && state.on_interrupt.fn) {
        state.ends = 0;
        state.on_interrupt.fn(state.on_interrupt.arg);
    } else {
        state.ended = end;
        sr_vm_exit(state.vm, 128 + end, reason(end));
    }
}

static void on_async(uv_async_t *async) {
    (void)async;
    handle();
}

static void on_hook(lua_State *L, lua_Debug *ar) {
    lua_sethook(L, NULL, 0, 0);
    handle();
    sr_task *task = sr_task_of(L);
    if (!task || !sr_task_cancelled(task)) return;
    sr_signal_guard(L);
    on_guard(L, ar);
}

static void hook(lua_State *L) {
    lua_sethook(L, on_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

/* The running coroutine may be about to yield or end, so those that resumed it have the
 * hook as well. */
static void wake(void) {
    sr_task *task = sr_running;
    if (task) {
        hook(task->inner);
        for (sr_frame *frame = task->frames; frame; frame = frame->up)
            hook(frame->L);
    }
    uv_async_send(&state.async);
}

static void on_signal(int number) {
    if (number == SIGUSR1) {
        state.dump = 1;
    } else if (number == SIGALRM) {
        state.alarm = 1;
    } else {
        bool ends = number != SIGHUP;
        if (ends && state.ends++ > 0) _exit(128 + number);
        if (state.caught[number])
            state.came[number] = 1;
        else
            state.end = number;
    }
    wake();
}

int sr_signals_start(sr_vm *vm, sr_err *err) {
    int rc = uv_async_init(sr_uv(vm->loop), &state.async, on_async);
    if (rc != 0) return sr_fail_uv(err, rc, "signals cannot be watched");
    uv_unref((uv_handle_t *)&state.async);
    state.vm = vm;
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&sa.sa_mask);
    static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1, SIGALRM};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

void sr_signals_interrupt(void (*fn)(void *arg), void *arg) {
    state.on_interrupt = (action){fn, arg};
}

void sr_signals_alarm(void (*fn)(void *arg), void *arg) {
    state.on_alarm = (action){fn, arg};
}

int sr_signals_catch(sr_vm *vm, const int *numbers, size_t count,
                     void (*fn)(void *arg, int number), void *arg, sr_err *err) {
    if (state.vm != vm)
        return sr_fail(err, SR_USAGE, "SIGNALS", "only the main script catches signals");
    if (state.on_caught)
        return sr_fail(err, SR_CONFLICT, "SIGNALS",
                       "signals are caught already; close what catches them first");
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&sa.sa_mask);
    state.on_caught = fn;
    state.caught_arg = arg;
    for (size_t i = 0; i < count; i++) {
        state.caught[numbers[i]] = 1;
        sigaction(numbers[i], &sa, numbers[i] == SIGHUP ? &state.hangup : NULL);
    }
    return 0;
}

void sr_signals_release(void) {
    if (state.caught[SIGHUP]) sigaction(SIGHUP, &state.hangup, NULL);
    for (int number = 1; number < SR_SIGNAL_MAX; number++)
        state.caught[number] = state.came[number] = 0;
    state.on_caught = NULL;
}

void sr_signals_hold(bool hold) {
    if (hold)
        uv_ref((uv_handle_t *)&state.async);
    else
        uv_unref((uv_handle_t *)&state.async);
}

void sr_signals_raise(int number) {
    if (!state.vm || state.ended) return;
    state.end = number;
    wake();
}

int sr_signals_ended(void) {
    return state.ended;
}

void sr_signals_stop(void) {
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGALRM, SIG_IGN);
    state.vm = NULL;
}
