/* timer.c – a binary heap of timers over one uv_timer, so that a virtual clock can jump.
 *
 * Timers are intrusive: the caller owns the struct, the heap holds pointers, and `at` is
 * the index + 1, so stopping is O(log n) without search. Real time is rounded up to the
 * millisecond of uv_timer; a timer never fires early.
 */
#include <stdlib.h>

#include "loop.h"

static bool earlier(const sr_timer *a, const sr_timer *b) {
    if (a->due != b->due) return a->due < b->due;
    return (int32_t)(a->order - b->order) < 0; /* the counter may wrap */
}

static void place(sr_loop *loop, uint32_t i, sr_timer *timer) {
    loop->heap[i] = timer;
    timer->at = i + 1;
}

static void sift_up(sr_loop *loop, uint32_t i, sr_timer *timer) {
    while (i > 0) {
        uint32_t parent = (i - 1) / 2;
        if (!earlier(timer, loop->heap[parent])) break;
        place(loop, i, loop->heap[parent]);
        i = parent;
    }
    place(loop, i, timer);
}

static void sift_down(sr_loop *loop, uint32_t i, sr_timer *timer) {
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= loop->heap_len) break;
        if (child + 1 < loop->heap_len &&
            earlier(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!earlier(loop->heap[child], timer)) break;
        place(loop, i, loop->heap[child]);
        i = child;
    }
    place(loop, i, timer);
}

static void on_alarm(uv_timer_t *alarm) {
    sr_timers_fire(alarm->data);
}

void sr_timers_arm(sr_loop *loop) {
    if (loop->clock.is_virtual || loop->heap_len == 0) {
        uv_timer_stop(&loop->alarm);
        return;
    }
    int64_t left = loop->heap[0]->due - sr_mono(loop);
    uint64_t ms = left <= 0 ? 0 : (uint64_t)((left + 999999) / 1000000);
    uv_update_time(&loop->uv);
    uv_timer_start(&loop->alarm, on_alarm, ms, 0);
}

int sr_timer_start(sr_loop *loop, sr_timer *timer, int64_t due,
                   void (*fire)(sr_timer *)) {
    sr_timer_stop(loop, timer);
    if (loop->heap_len == loop->heap_cap) {
        uint32_t cap = loop->heap_cap ? loop->heap_cap * 2 : 64;
        sr_timer **heap = realloc(loop->heap, cap * sizeof *heap);
        if (!heap) return -1;
        loop->heap = heap;
        loop->heap_cap = cap;
    }
    timer->due = due;
    timer->fire = fire;
    timer->order = loop->timer_order++;
    sift_up(loop, loop->heap_len++, timer);
    if (timer->at == 1) sr_timers_arm(loop);
    return 0;
}

void sr_timer_stop(sr_loop *loop, sr_timer *timer) {
    if (timer->at == 0) return;
    uint32_t i = timer->at - 1;
    timer->at = 0;
    sr_timer *last = loop->heap[--loop->heap_len];
    /* An alarm for nobody would keep the loop alive, and a deadlock unseen, until then.
     */
    if (loop->heap_len == 0 && !loop->clock.is_virtual) uv_timer_stop(&loop->alarm);
    if (last == timer) return;
    if (i > 0 && earlier(last, loop->heap[(i - 1) / 2]))
        sift_up(loop, i, last);
    else
        sift_down(loop, i, last);
}

int64_t sr_timers_next(sr_loop *loop) {
    return loop->heap_len ? loop->heap[0]->due : INT64_MAX;
}

/* Only those armed on entry: one re-armed for "now" by its own callback waits a turn. */
void sr_timers_fire(sr_loop *loop) {
    int64_t now = sr_mono(loop);
    uint32_t later = loop->timer_order;
    while (loop->heap_len && loop->heap[0]->due <= now) {
        sr_timer *timer = loop->heap[0];
        if ((int32_t)(timer->order - later) >= 0) break;
        sr_timer_stop(loop, timer);
        timer->fire(timer);
    }
    sr_timers_arm(loop);
}
