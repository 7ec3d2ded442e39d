/* clock.c – the two clocks, and who counts as outside.
 *
 * sr_now and sr_mono are the clock of everything that has a meaning: timers, expiry,
 * time-outs. Each loop can make it virtual; then it stands still until the loop (loop.c)
 * or a test moves it. sr_cpu is always real and serves limits and profiles only. No other
 * file of ours asks the system for the time; a test greps for it.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "loop.h"

int64_t sr_cpu(void) {
    return (int64_t)uv_hrtime();
}

int64_t sr_cpu_thread(void) {
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * SR_NS + ts.tv_nsec;
}

int64_t sr_mono(sr_loop *loop) {
    return loop->clock.is_virtual ? loop->clock.mono : (int64_t)uv_hrtime();
}

int64_t sr_mono_after(sr_loop *loop, double seconds) {
    int64_t now = sr_mono(loop), end = INT64_MAX - 1;
    double ns = seconds * (double)SR_NS;
    return ns < (double)(end - now) ? now + (int64_t)ns : end;
}

double sr_now(sr_loop *loop) {
    if (loop && loop->clock.is_virtual) {
        const sr_clock *clock = &loop->clock;
        return clock->wall + (double)(clock->mono - clock->base) / (double)SR_NS;
    }
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Timers already armed keep their distance: virtual time starts where real time is. */
void sr_clock_virtual(sr_loop *loop, double now) {
    if (!loop->clock.is_virtual) loop->clock.mono = (int64_t)uv_hrtime();
    loop->clock.is_virtual = true;
    loop->clock.wall = now;
    loop->clock.base = loop->clock.mono;
    sr_timers_arm(loop);
}

void sr_clock_advance(sr_loop *loop, double seconds) {
    if (loop->clock.is_virtual) loop->clock.mono = sr_mono_after(loop, seconds);
    sr_timers_arm(loop);
}

/* Virtual time may have run far ahead, so the armed timers move back with it. */
void sr_clock_real(sr_loop *loop) {
    if (!loop->clock.is_virtual) return;
    int64_t shift = (int64_t)uv_hrtime() - loop->clock.mono;
    loop->clock.is_virtual = false;
    for (uint32_t i = 0; i < loop->heap_len; i++)
        loop->heap[i]->due += shift;
    sr_timers_arm(loop);
}

void sr_outside_begin(sr_loop *loop) {
    loop->outside++;
}

void sr_outside_end(sr_loop *loop) {
    loop->outside--;
}

/* Family, port and address, the rest zero, so that memcmp compares. 0.0.0.0 and :: stand
 * for every local address; they are looked up as such in sr_own_has. */
static bool normal(const struct sockaddr *sa, unsigned char out[128]) {
    memset(out, 0, 128);
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        struct sockaddr_in copy = {
            .sin_family = AF_INET, .sin_port = in->sin_port, .sin_addr = in->sin_addr};
        memcpy(out, &copy, sizeof copy);
        return true;
    }
    if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)sa;
        struct sockaddr_in6 copy = {.sin6_family = AF_INET6,
                                    .sin6_port = in->sin6_port,
                                    .sin6_addr = in->sin6_addr};
        memcpy(out, &copy, sizeof copy);
        return true;
    }
    return false;
}

static sr_own **find(sr_loop *loop, const unsigned char addr[128]) {
    sr_own **own = &loop->own;
    while (*own && memcmp((*own)->addr, addr, 128) != 0)
        own = &(*own)->next;
    return own;
}

void sr_own_add(sr_loop *loop, const struct sockaddr *sa) {
    unsigned char addr[128];
    if (!normal(sa, addr)) return;
    sr_own **at = find(loop, addr);
    if (!*at) {
        sr_own *own = calloc(1, sizeof *own);
        if (!own) return; /* the virtual clock is then only more careful */
        memcpy(own->addr, addr, 128);
        *at = own;
    }
    (*at)->count++;
}

void sr_own_remove(sr_loop *loop, const struct sockaddr *sa) {
    unsigned char addr[128];
    if (!normal(sa, addr)) return;
    sr_own **at = find(loop, addr);
    if (!*at || --(*at)->count) return;
    sr_own *gone = *at;
    *at = gone->next;
    free(gone);
}

bool sr_own_has(sr_loop *loop, const struct sockaddr *sa) {
    unsigned char addr[128];
    if (!normal(sa, addr)) return false;
    if (*find(loop, addr)) return true;
    struct sockaddr_storage any = {0};
    memcpy(&any, addr, sizeof any);
    if (any.ss_family == AF_INET)
        ((struct sockaddr_in *)&any)->sin_addr.s_addr = 0;
    else
        ((struct sockaddr_in6 *)&any)->sin6_addr = in6addr_any;
    return normal((struct sockaddr *)&any, addr) && *find(loop, addr);
}
