/* work.c – the thread pool in two lanes.
 *
 * Blocking work goes straight to libuv's pool. CPU work (RSA keys, key derivation) is
 * capped at pool size - 1, and at least 1, so that sixteen RSA keys cannot keep a name
 * look-up waiting for seconds; what does not fit waits in a list here.
 */
#include <stdlib.h>

#include "loop.h"

static unsigned pool_size(void) {
    const char *text = getenv("UV_THREADPOOL_SIZE");
    long n = text ? strtol(text, NULL, 10) : 4;
    return n < 1 ? 1 : (unsigned)n; /* as libuv reads it */
}

static unsigned cpu_places(void) {
    unsigned n = pool_size();
    return n > 1 ? n - 1 : 1;
}

static void on_work(uv_work_t *req) {
    sr_job *job = req->data;
    job->run(job);
}

static void hand_out(sr_loop *loop);

static void on_after(uv_work_t *req, int status) {
    (void)status; /* UV_ECANCELED only after uv_cancel, where job->err is set by cancel */
    sr_job *job = req->data;
    sr_loop *loop = job->op.loop;
    loop->jobs--;
    if (job->lane == SR_LANE_CPU) {
        loop->cpu_jobs--;
        hand_out(loop);
    }
    sr_op_done(&job->op);
}

static void submit(sr_job *job) {
    if (job->lane == SR_LANE_CPU) job->op.loop->cpu_jobs++;
    job->req.data = job;
    /* uv_queue_work fails only for a NULL callback. */
    (void)uv_queue_work(&job->op.loop->uv, &job->req, on_work, on_after);
}

static void hand_out(sr_loop *loop) {
    while (loop->cpu_first && loop->cpu_jobs < cpu_places()) {
        sr_job *job = loop->cpu_first;
        loop->cpu_first = job->next;
        if (!loop->cpu_first) loop->cpu_last = NULL;
        submit(job);
    }
}

void sr_job_start(sr_job *job, sr_lane lane, void (*run)(sr_job *)) {
    sr_loop *loop = job->op.loop;
    job->lane = lane;
    job->run = run;
    job->next = NULL;
    loop->jobs++;
    if (lane == SR_LANE_BLOCKING) {
        submit(job);
        return;
    }
    if (loop->cpu_last)
        loop->cpu_last->next = job;
    else
        loop->cpu_first = job;
    loop->cpu_last = job;
    hand_out(loop);
}
