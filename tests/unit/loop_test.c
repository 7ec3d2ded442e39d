/* loop_test.c – timers, clocks, the jump rule, pool lanes, operations without Lua. */
#include "loop.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "unit.h"

static sr_loop *open_loop(void) {
    sr_loop *loop = NULL;
    sr_err err;
    CHECK(sr_loop_new(&loop, &err) == 0);
    return loop;
}

static int fired, order[64];

typedef struct numbered {
    sr_timer timer;
    int number;
} numbered;

static void on_fire(sr_timer *timer) {
    order[fired++] = ((numbered *)timer)->number;
}

static bool all_fired(void *arg) {
    return fired == *(int *)arg;
}

TEST(timers_fire_in_order_under_the_virtual_clock) {
    sr_loop *loop = open_loop();
    numbered n[50] = {0};
    int want = 50;
    fired = 0;
    sr_clock_virtual(loop, 1000);
    for (int i = 0; i < 50; i++) {
        n[i].number = (i * 37) % 50;
        int64_t due = sr_mono(loop) + n[i].number * 86400LL * SR_NS;
        CHECK(sr_timer_start(loop, &n[i].timer, due, on_fire) == 0);
    }
    CHECK(sr_loop_run(loop, all_fired, &want, NULL) == 0);
    for (int i = 0; i < 50; i++)
        CHECK_INT(order[i], i);
    CHECK(sr_now(loop) >= 1000 + 49 * 86400.0 && sr_now(loop) < 1000 + 49 * 86400.0 + 1);
    sr_loop_free(loop);
}

TEST(a_stopped_timer_does_not_fire_and_the_heap_stays_sound) {
    sr_loop *loop = open_loop();
    numbered n[40] = {0};
    int want = 20;
    fired = 0;
    sr_clock_virtual(loop, 0);
    for (int i = 0; i < 40; i++) {
        n[i].number = i;
        CHECK(sr_timer_start(loop, &n[i].timer, sr_mono(loop) + (40 - i) * SR_NS,
                             on_fire) == 0);
    }
    for (int i = 0; i < 40; i += 2) {
        sr_timer_stop(loop, &n[i].timer);
        sr_timer_stop(loop, &n[i].timer);
    }
    CHECK(sr_loop_run(loop, all_fired, &want, NULL) == 0);
    for (int i = 0; i < 20; i++)
        CHECK_INT(order[i], 39 - 2 * i);
    CHECK_INT(sr_timers_next(loop) == INT64_MAX, 1);
    sr_loop_free(loop);
}

TEST(going_back_to_real_time_keeps_the_distance_of_timers) {
    sr_loop *loop = open_loop();
    numbered n = {0};
    int want = 1;
    fired = 0;
    sr_clock_virtual(loop, 0);
    sr_clock_advance(loop, 1e6);
    CHECK(sr_timer_start(loop, &n.timer, sr_mono(loop) + SR_NS / 100, on_fire) == 0);
    sr_clock_real(loop);
    CHECK(sr_loop_run(loop, all_fired, &want, NULL) == 0);
    sr_loop_free(loop);
}

static int64_t fired_at;

static void note_time(sr_timer *timer) {
    (void)timer;
    fired_at = sr_cpu();
    fired++;
}

static int64_t outside_ended;

static void end_outside(uv_timer_t *timer) {
    outside_ended = sr_cpu();
    sr_outside_end(timer->data);
    uv_close((uv_handle_t *)timer, NULL);
}

TEST(the_clock_does_not_jump_while_something_outside_is_under_way) {
    sr_loop *loop = open_loop();
    sr_timer timer = {0};
    uv_timer_t peer;
    int want = 1;
    fired = 0;
    sr_clock_virtual(loop, 0);
    CHECK(sr_timer_start(loop, &timer, sr_mono(loop) + 1000 * SR_NS, note_time) == 0);
    sr_outside_begin(loop);
    uv_timer_init(sr_uv(loop), &peer);
    peer.data = loop;
    uv_timer_start(&peer, end_outside, 30, 0);
    CHECK(sr_loop_run(loop, all_fired, &want, NULL) == 0);
    CHECK(fired_at >= outside_ended && outside_ended > 0);
    sr_loop_free(loop);
}

typedef struct slow_job {
    sr_job job;
    int64_t ended;
} slow_job;

static int jobs_free;

static void run_slow(sr_job *job) {
    int64_t until = sr_cpu() + 20000000;
    while (sr_cpu() < until) {
    }
    ((slow_job *)job)->ended = sr_cpu();
}

static void free_job(sr_op *op) {
    (void)op;
    jobs_free++;
}

static const sr_op_class job_class = {.name = "test.job", .free = free_job};

static bool jobs_over(void *arg) {
    return ((sr_loop *)arg)->jobs == 0;
}

TEST(cpu_jobs_leave_a_place_in_the_pool_for_blocking_work) {
    sr_loop *loop = open_loop();
    slow_job cpu[12] = {0}, blocking = {0};
    jobs_free = 0;
    for (int i = 0; i < 12; i++) {
        sr_op_init(&cpu[i].job.op, &job_class, loop);
        sr_job_start(&cpu[i].job, SR_LANE_CPU, run_slow);
    }
    sr_op_init(&blocking.job.op, &job_class, loop);
    sr_job_start(&blocking.job, SR_LANE_BLOCKING, run_slow);
    CHECK(sr_loop_run(loop, jobs_over, loop, NULL) == 0);
    int after = 0;
    for (int i = 0; i < 12; i++) {
        CHECK(cpu[i].job.op.done);
        after += cpu[i].ended > blocking.ended;
        sr_op_unref(&cpu[i].job.op);
    }
    sr_op_unref(&blocking.job.op);
    CHECK(after >= 4);
    CHECK_INT(jobs_free, 13);
    sr_loop_free(loop);
}

TEST(own_addresses_are_counted_and_wildcards_match) {
    sr_loop *loop = open_loop();
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8080)};
    struct sockaddr_in b = a;
    b.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(!sr_own_has(loop, (struct sockaddr *)&b));
    sr_own_add(loop, (struct sockaddr *)&a);
    sr_own_add(loop, (struct sockaddr *)&a);
    CHECK(sr_own_has(loop, (struct sockaddr *)&b));
    b.sin_port = htons(8081);
    CHECK(!sr_own_has(loop, (struct sockaddr *)&b));
    sr_own_remove(loop, (struct sockaddr *)&a);
    CHECK(sr_own_has(loop, (struct sockaddr *)&a));
    sr_own_remove(loop, (struct sockaddr *)&a);
    CHECK(!sr_own_has(loop, (struct sockaddr *)&a));
    sr_loop_free(loop);
}

static bool never(void *arg) {
    (void)arg;
    return false;
}

TEST(a_loop_with_nothing_to_wait_for_says_so) {
    sr_loop *loop = open_loop();
    sr_err err = {0};
    CHECK(sr_loop_run(loop, never, NULL, &err) == -1);
    CHECK_STR(err.code, "DEADLOCK");
    sr_loop_free(loop);
}
