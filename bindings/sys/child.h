/* child.h – one child process on the loop: started, fed, read, ended, reaped. No Lua.
 *
 * A child leads a session and process group of its own; signals go to the whole group.
 * Its descriptors are 0, 1 and 2 and no other. What it writes is captured within a bound:
 * of `out` the first bytes are kept (or the last, see keep_last), of `err` always the
 * last, because the reason of a failure stands at the end; more is read and dropped, so
 * the child never blocks on us.
 *
 * Life: sr_child_start() → running → exited → finished (both pipes at their end, or 250
 * ms after the exit if a grandchild keeps them open). sr_child_stop() sends TERM to the
 * group and KILL after a grace of 2 s. These two spans are real time, whatever clock the
 * tasks see, for they wait on the outside. No child outlives its VM.
 *
 * Reference counted; starts with one reference, the caller's. Open handles hold their
 * own.
 */
#ifndef SR_CHILD_H
#define SR_CHILD_H

#include "secrun.h"

#define SR_CHILD_GRACE_MS 2000
#define SR_CHILD_DRAIN_MS 250

typedef struct sr_child sr_child;

typedef struct sr_child_opts {
    char **argv;       /* ends with NULL; argv[0] is looked up on the PATH */
    char **env;        /* the whole environment, "NAME=value", ends with NULL */
    const char *cwd;   /* NULL: ours */
    const char *user;  /* NULL: ours; needs root; its primary group and no other */
    const char *input; /* for stdin; NULL: /dev/null */
    size_t input_len;
    size_t max_output; /* bytes kept of each stream */
    bool merge;        /* stderr goes to the same pipe as stdout */
    bool keep_last;    /* of stdout keep the last bytes, not the first */
} sr_child_opts;

/* One captured stream. */
typedef struct sr_child_stream {
    uv_pipe_t pipe;
    sr_buf kept;
    size_t taken; /* bytes of `kept` that lines were taken from */
    size_t max;
    bool last, truncated, open;
} sr_child_stream;

struct sr_child {
    uv_process_t process;
    uv_pipe_t in;
    uv_write_t feed;
    uv_timer_t timer; /* kill after the grace, or the end of draining */
    sr_child_stream out, err;
    sr_buf input;
    sr_vm *vm;
    sr_loop *loop;
    sr_child *next, **link;           /* all living ones of the loop */
    void (*changed)(sr_child *child); /* a line came, a stream ended, it exited */
    void *waiters;                    /* for the owner of `changed` */
    int64_t started, ended;           /* sr_cpu() */
    int status, signal;
    int handles, refs;
    bool exited, stopping, killed;
};

/* Start it. Everything in opts is copied. */
int sr_child_start(sr_vm *vm, sr_loop *loop, const sr_child_opts *opts,
                   sr_child **ret_child, sr_err *err);
void sr_child_ref(sr_child *child);
void sr_child_unref(sr_child *child);
bool sr_child_finished(const sr_child *child);
/* Signal the group. Once the child exited nothing is sent: the number may be another's.
 */
int sr_child_kill(sr_child *child, int signal, sr_err *err);
/* TERM now, KILL after the grace; again is harmless. */
void sr_child_stop(sr_child *child);
/* KILL and reap at once, without the loop. For the end of a VM. */
void sr_child_destroy(sr_child *child);
/* Do that to all children of this VM. */
void sr_child_destroy_all(sr_loop *loop, const sr_vm *vm);
/* The next whole line of stdout without its end, or the rest once the stream ended; false
 * when there is none (yet). The text is valid until the loop runs again. */
bool sr_child_line(sr_child *child, const char **ret_text, size_t *ret_len);
/* "last lines of stderr", or of stdout, on one line for a message. */
void sr_child_last_words(const sr_child *child, char *buf, size_t size);

#endif
