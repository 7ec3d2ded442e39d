/* loop.h – one libuv loop with its clock, timer heap and ready queue (internal). */
#ifndef SR_LOOP_H
#define SR_LOOP_H

#include "secrun.h"

typedef struct sr_clock {
    bool is_virtual;
    int64_t mono; /* virtual monotonic time; meaningless while real */
    double wall;  /* UTC seconds at virtual_base */
    int64_t base; /* value of mono when wall was set */
} sr_clock;

/* A function to run at the end, with its argument. Lists are run latest first. */
typedef struct sr_closer {
    void (*fn)(void *arg);
    void *arg;
    struct sr_closer *next;
} sr_closer;

typedef struct sr_slot {
    const void *key;
    void *value;
    struct sr_slot *next;
} sr_slot;

typedef struct sr_own {
    unsigned char addr[128]; /* struct sockaddr_storage */
    unsigned count;
    struct sr_own *next;
} sr_own;

struct sr_loop {
    uv_loop_t uv;
    uv_timer_t alarm;  /* the one uv_timer below the heap */
    uv_prepare_t gate; /* before each poll: do not block while tasks are ready */
    sr_clock clock;
    sr_timer **heap;
    uint32_t heap_len, heap_cap;
    uint32_t timer_order; /* of the next timer that is armed */
    sr_task *ready_first, *ready_last;
    bool polling;      /* inside uv_run: a task made ready must not wait for its poll */
    unsigned outside;  /* exchanges only the outside world can finish */
    unsigned jobs;     /* pool jobs queued or running */
    unsigned cpu_jobs; /* of these, CPU jobs handed to the pool */
    sr_job *cpu_first, *cpu_last; /* CPU jobs that wait for a place */
    sr_own *own;
    sr_closer *closers;
    sr_slot *slots;
    sr_vm *vms; /* every VM on this loop */
};

int sr_loop_new(sr_loop **ret_loop, sr_err *err);
/* Close every handle and free the loop. All VMs must be gone. */
void sr_loop_free(sr_loop *loop);
/* Run tasks and callbacks until until(arg) is true. Returns -1 (kind internal) when it
 * can never become true: nothing is ready, armed, or under way. */
int sr_loop_run(sr_loop *loop, bool (*until)(void *arg), void *arg, sr_err *err);

/* timer.c */
void sr_timers_fire(sr_loop *loop);
int64_t sr_timers_next(sr_loop *loop); /* INT64_MAX when none */
/* The instant so many seconds from now; the end of time when it lies beyond. */
int64_t sr_mono_after(sr_loop *loop, double seconds);
void sr_timers_arm(sr_loop *loop); /* set the alarm for the earliest */

/* Push to a closer list / run and free it. */
int sr_closer_push(sr_closer **list, void (*fn)(void *), void *arg);
void sr_closers_run(sr_closer **list);

/* task.c: resume what is ready now. */
void sr_ready_drain(sr_loop *loop);

#endif
