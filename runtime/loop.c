/* loop.c – the run loop: tasks, then callbacks, then time.
 *
 * Lua runs only in sr_ready_drain(), between two turns of libuv, never inside a callback.
 * So stacks do not nest and a callback that completes at once cannot resume a running
 * task.
 *
 * The virtual clock jumps to the next timer only if (1) the ready queue is empty, (2) no
 * pool job and no exchange with the outside is under way, and (3) polling without
 * time-out finds nothing. A poll may register watchers that only the next one reports,
 * hence three quiet rounds in a row.
 */
#include "loop.h"

#include <poll.h>
#include <stdlib.h>

enum { QUIET_ROUNDS = 3 };

/* A uv_timer that fires at the start of a turn may end an operation; the poll of that
 * turn must not wait then, or the task would sleep until something else happens. */
static void before_poll(uv_prepare_t *gate) {
    sr_loop *loop = gate->data;
    if (loop->ready_first) uv_stop(&loop->uv);
}

int sr_loop_new(sr_loop **ret_loop, sr_err *err) {
    sr_loop *loop = calloc(1, sizeof *loop);
    if (!loop) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for the event loop");
    int rc = uv_loop_init(&loop->uv);
    if (rc != 0) {
        free(loop);
        return sr_fail_uv(err, rc, "the event loop cannot start");
    }
    loop->uv.data = loop;
    uv_timer_init(&loop->uv, &loop->alarm);
    loop->alarm.data = loop;
    uv_prepare_init(&loop->uv, &loop->gate);
    loop->gate.data = loop;
    uv_prepare_start(&loop->gate, before_poll);
    uv_unref((uv_handle_t *)&loop->gate);
    *ret_loop = loop;
    return 0;
}

uv_loop_t *sr_uv(sr_loop *loop) {
    return &loop->uv;
}

int sr_closer_push(sr_closer **list, void (*fn)(void *), void *arg) {
    sr_closer *closer = malloc(sizeof *closer);
    if (!closer) return -1;
    *closer = (sr_closer){fn, arg, *list};
    *list = closer;
    return 0;
}

void sr_closers_run(sr_closer **list) {
    while (*list) {
        sr_closer *closer = *list;
        *list = closer->next;
        closer->fn(closer->arg);
        free(closer);
    }
}

void sr_at_loop_close(sr_loop *loop, void (*fn)(void *), void *arg) {
    (void)sr_closer_push(&loop->closers, fn, arg); /* without it, memory goes with exit */
}

void **sr_loop_slot(sr_loop *loop, const void *key) {
    for (sr_slot *slot = loop->slots; slot; slot = slot->next)
        if (slot->key == key) return &slot->value;
    sr_slot *slot = calloc(1, sizeof *slot);
    if (!slot) return NULL;
    slot->key = key;
    slot->next = loop->slots;
    loop->slots = slot;
    return &slot->value;
}

static void close_handle(uv_handle_t *handle, void *arg) {
    (void)arg;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

void sr_loop_free(sr_loop *loop) {
    if (!loop) return;
    sr_closers_run(&loop->closers);
    /* Bindings have closed their handles; let those callbacks run, then close what is
     * left and let orphaned operations end. */
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    uv_walk(&loop->uv, close_handle, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
    while (loop->slots) {
        sr_slot *slot = loop->slots;
        loop->slots = slot->next;
        free(slot);
    }
    while (loop->own) {
        sr_own *own = loop->own;
        loop->own = own->next;
        free(own);
    }
    free(loop->heap);
    free(loop);
}

static void on_nothing(uv_timer_t *timer) {
    (void)timer;
}

/* One round of libuv. Its timers run before its poll, so what they make ready calls
 * uv_stop() (see make_ready in task.c), or the poll would sleep until the next timer. */
static void round_of_uv(sr_loop *loop, uv_run_mode mode) {
    /* A loop in which only the virtual clock has timers is not alive for libuv and would
     * not look at its descriptors, so no signal would be noticed. */
    if (!uv_loop_alive(&loop->uv)) uv_timer_start(&loop->alarm, on_nothing, 0, 0);
    loop->polling = true;
    uv_run(&loop->uv, mode);
    loop->polling = false;
}

static bool events_pending(sr_loop *loop) {
    struct pollfd fd = {.fd = uv_backend_fd(&loop->uv), .events = POLLIN};
    return poll(&fd, 1, 0) > 0;
}

static bool busy(const sr_loop *loop) {
    return loop->ready_first || loop->outside || loop->jobs;
}

/* True when nothing but a timer can make anything happen. */
static bool settled(sr_loop *loop) {
    for (int quiet = 0; quiet < QUIET_ROUNDS; quiet++) {
        /* A loop without active handles does not poll, so it cannot consume events
         * either: those of a stream at its end stay in epoll until the next poll. */
        if (events_pending(loop) && uv_loop_alive(&loop->uv)) quiet = -1;
        round_of_uv(loop, UV_RUN_NOWAIT);
        if (busy(loop)) return false;
    }
    return true;
}

static int turn_virtual(sr_loop *loop, sr_err *err) {
    if (loop->heap_len && sr_timers_next(loop) <= loop->clock.mono) {
        round_of_uv(loop,
                    UV_RUN_NOWAIT); /* sleeps for nothing must not starve the rest */
        sr_timers_fire(loop);
        return 0;
    }
    if (settled(loop)) {
        int64_t next = sr_timers_next(loop);
        if (next == INT64_MAX) {
            if (!uv_loop_alive(&loop->uv))
                return sr_fail(err, SR_INTERNAL, "DEADLOCK",
                               "every task waits for another");
            round_of_uv(loop, UV_RUN_ONCE);
            return 0;
        }
        loop->clock.mono = next;
        sr_timers_fire(loop);
    } else if (!loop->ready_first) {
        round_of_uv(loop, UV_RUN_ONCE);
    }
    return 0;
}

static int turn_real(sr_loop *loop, sr_err *err) {
    if (!loop->ready_first && !uv_loop_alive(&loop->uv))
        return sr_fail(err, SR_INTERNAL, "DEADLOCK", "every task waits for another");
    round_of_uv(loop, loop->ready_first ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    return 0;
}

int sr_loop_run(sr_loop *loop, bool (*until)(void *), void *arg, sr_err *err) {
    for (;;) {
        sr_ready_drain(loop);
        if (until(arg)) return 0;
        int rc = loop->clock.is_virtual ? turn_virtual(loop, err) : turn_real(loop, err);
        if (rc != 0) return -1;
    }
}
