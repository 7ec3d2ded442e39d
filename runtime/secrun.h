/* secrun.h – the contract between the runtime and the bindings.
 *
 * The only header of runtime/ that a binding includes. It says how a binding waits,
 * fails, reads its arguments, asks for permission and hands bytes around.
 *
 * Two rules hold everywhere:
 *   1. A function that takes a `lua_State *` may longjmp; one that does not never does.
 *   2. Lua runs only inside tasks. A callback of libuv, libcurl or OpenSSL never runs
 * Lua: it ends an operation with sr_op_done(), and the loop resumes the task later.
 *
 * Conventions: a core function returns 0 or -1 and fills `sr_err *err` (its last
 * parameter); outputs are named ret_x and are untouched on failure. Durations are seconds
 * (double) at the Lua edge and nanoseconds (int64_t) inside; instants are UTC seconds.
 */
#ifndef SECRUN_H
#define SECRUN_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <uv.h>

#include "base.h"

struct sockaddr;

typedef struct sr_loop sr_loop;   /* one libuv loop, its clock, timers and ready queue */
typedef struct sr_vm sr_vm;       /* one lua_State with its tasks, permissions, secrets */
typedef struct sr_task sr_task;   /* one Lua coroutine driven by the loop */
typedef struct sr_op sr_op;       /* one pending wait of one task */
typedef struct sr_timer sr_timer; /* one entry of the timer heap */

#define SR_NS 1000000000LL /* nanoseconds in a second */
#define SR_FOREVER (-1.0)  /* as a time-out: none of its own, scopes still apply */

/* ---------------------------------------------------------------- errors (err.c) */

/* Push the Lua error object {kind, message, code, status, retryable, retry_after, op,
 * where, trace}. The trace crosses coroutines and names the spawn site. */
void sr_push_err(lua_State *L, const sr_err *err);
/* Raise it. Both never return, as compilers and analysers know; the int only lets a face
 * say `return sr_throw(L, &err);`. */
SR_NORETURN int sr_throw(lua_State *L, const sr_err *err);
SR_NORETURN int sr_raise(lua_State *L, sr_kind kind, const char *code, const char *fmt,
                         ...) SR_PRINTF(4, 5);
/* What Lua's own headers say in prose only. */
SR_NORETURN int lua_error(lua_State *L);
SR_NORETURN int luaL_error(lua_State *L, const char *fmt, ...);

/* ---------------------------------------------------------------- clocks (clock.c) */

int64_t sr_mono(sr_loop *loop); /* monotonic ns; virtual when the loop's clock is */
double sr_now(
    sr_loop *loop);   /* UTC seconds; virtual when the loop's clock is; NULL: real */
int64_t sr_cpu(void); /* monotonic ns, always real: limits and profiles only */
int64_t sr_cpu_thread(void); /* ns of processor time this thread has had; a system call */

/* Virtual clock. While on, time stands still and jumps to the next timer only when the
 * ready queue is empty, nothing outside is under way, and a poll returned nothing. */
void sr_clock_virtual(sr_loop *loop, double now);
void sr_clock_advance(sr_loop *loop, double seconds);
void sr_clock_real(sr_loop *loop);

/* Bracket work that only the outside world can finish (a child process, an exchange with
 * a peer that is not this process), so that the virtual clock does not run ahead of it.
 * Pool jobs are counted by the runtime. */
void sr_outside_begin(sr_loop *loop);
void sr_outside_end(sr_loop *loop);
/* Addresses that this process itself listens on or connects from. A peer among them is
 * not outside. Adding twice needs removing twice. */
void sr_own_add(sr_loop *loop, const struct sockaddr *sa);
void sr_own_remove(sr_loop *loop, const struct sockaddr *sa);
bool sr_own_has(sr_loop *loop, const struct sockaddr *sa);

/* ---------------------------------------------------------------- timers (timer.c) */

struct sr_timer {
    int64_t due;    /* sr_mono() nanoseconds */
    uint32_t at;    /* place in the heap + 1; 0 when not armed */
    uint32_t order; /* of arming: equal times fire first come, first served */
    void (*fire)(sr_timer *timer); /* from the loop; never runs Lua */
};

/* Arm or re-arm; `due` is absolute. Stopping an idle timer is allowed. The caller owns
 * the timer. */
int sr_timer_start(sr_loop *loop, sr_timer *timer, int64_t due, void (*fire)(sr_timer *));
void sr_timer_stop(sr_loop *loop, sr_timer *timer);

/* ---------------------------------------------------------------- operations (task.c)
 *
 * Life of an operation. The binding checks its arguments (these may raise), calls
 * sr_can_wait(), allocates a struct with `sr_op op` as its first member, starts the work,
 * and returns sr_wait(). Two references exist from sr_op_init: the waiter's and the
 * source's. The source calls sr_op_done() EXACTLY ONCE, whether it succeeded, failed or
 * was cancelled, also before sr_wait(); that drops its reference. sr_wait() consumes the
 * waiter's. The last one calls cls->free. So an operation outlives a cancelled task, and
 * nothing in it may point into a Lua stack.
 *
 *     static int l_get(lua_State *L) {
 *         … check arguments …
 *         sr_can_wait(L);
 *         struct get *g = get_new(…);            // sr_op_init(&g->op, &get_class, L)
 *         get_start(g);                          // failure: fill g->err, sr_op_done()
 *         return sr_wait(L, &g->op, timeout);    // returns what finish pushes
 *     }
 */
typedef struct sr_op_class {
    const char *name; /* "http.request": in dumps and time-out messages */
    /* Push the results and return their number, or raise. Runs inside the task. */
    int (*finish)(lua_State *L, sr_op *op);
    /* Ask the source to stop. Called at most once and only before done; no Lua. The
     * source must still end with sr_op_done(), here or later. NULL: cannot be stopped,
     * the work runs on detached. */
    void (*cancel)(sr_op *op);
    void (*free)(sr_op *op); /* last reference gone; no Lua */
    /* Write "GET https://…" or similar for dumps and time-out messages. May be NULL. */
    void (*describe)(const sr_op *op, char *buf, size_t size);
    /* Goes on under cancellation: a join, whose tasks are cancelled instead. */
    bool steady;
    /* Steady ones only: the waiting task was cancelled, and goes on waiting. No Lua. */
    void (*interrupt)(sr_op *op);
} sr_op_class;

struct sr_op {
    const sr_op_class *cls;
    sr_task *task; /* the waiting task, NULL before the wait and once detached */
    sr_loop *loop;
    uint16_t refs;
    bool done;
    bool cancelled;
};

void sr_op_init(sr_op *op, const sr_op_class *cls, sr_loop *loop);
void sr_op_ref(sr_op *op);
void sr_op_unref(sr_op *op);
void sr_op_done(sr_op *op);

/* Raise if this place cannot wait (not in a task, cancelled, or a C function that Lua
 * cannot yield across is in the way, which the message names). Call before acquiring. */
void sr_can_wait(lua_State *L);
/* Park the running task until op is done; `return sr_wait(L, op, timeout);`.
 * timeout: seconds, SR_FOREVER for none; the tightest enclosing deadline always applies.
 * Raises timeout or cancelled (the operation is then cancelled and detached). */
int sr_wait(lua_State *L, sr_op *op, double timeout);

/* Whose state this is. sr_task_of is NULL outside a task. */
sr_loop *sr_loop_of(lua_State *L);
sr_vm *sr_vm_of(lua_State *L);
sr_task *sr_task_of(lua_State *L);
uv_loop_t *sr_uv(sr_loop *loop);

/* Called when the VM shuts down, after its tasks ended and before lua_close, latest
 * first: to stop what a binding keeps per VM. No Lua. */
void sr_at_close(lua_State *L, void (*fn)(void *arg), void *arg);
/* The same for what a binding keeps per loop (a curl multi …): after every VM is closed
 * and before the loop's handles are. sr_loop_slot keeps one pointer per key (its
 * address). */
void sr_at_loop_close(sr_loop *loop, void (*fn)(void *arg), void *arg);
void **sr_loop_slot(sr_loop *loop, const void *key);

/* ---------------------------------------------------------------- pool (work.c) */

typedef enum sr_lane {
    SR_LANE_BLOCKING, /* files, getaddrinfo, databases */
    SR_LANE_CPU       /* RSA keys, key derivation: never fills the pool */
} sr_lane;

/* Work off the loop. Embed as first member. run() touches neither Lua nor anything
 * another thread may free; it reports through job->err and members of the embedding
 * struct. The class's finish usually starts with `if (job->err.kind) return sr_throw(L,
 * &job->err);` */
typedef struct sr_job sr_job;
struct sr_job {
    sr_op op;
    void (*run)(sr_job *job);
    sr_lane lane;
    uv_work_t req;
    sr_job *next;
    sr_err err;
};
/* Queue it; the job's operation is done when run() returned. */
void sr_job_start(sr_job *job, sr_lane lane, void (*run)(sr_job *));

/* ---------------------------------------------------------------- arguments (args.c)
 *
 * Every function with more than two parameters takes one table described by a static
 * spec:
 *
 *     static const sr_arg get_args[] = {
 *         {"url",     SR_STRING,   SR_REQUIRED, NULL, "absolute http or https URL"},
 *         {"timeout", SR_DURATION, 0,           "30s", "whole exchange"},
 *         {"method",  SR_ENUM,     0, "GET", "request method", .choices =
 * "GET|POST|PUT"}, {0}}; static const sr_spec get_spec = {"http.get", "Fetch a URL.",
 * get_args}; sr_args(L, 1, &get_spec);            // raises usage: type, unknown key +
 * suggestion const char *url = sr_arg_string(L, 1, "url", NULL, NULL);
 *
 * The same table later feeds help, documentation and editor stubs.
 */
typedef enum sr_type {
    SR_ANY,
    SR_STRING, /* a Lua string (numbers are not accepted) */
    SR_BOOL,
    SR_INT, /* an integer, or a float with an exact integer value */
    SR_NUMBER,
    SR_DURATION, /* seconds, or "250ms" "5m" "12h" "30d" */
    SR_ENUM,     /* one of .choices, separated by '|' */
    SR_TABLE,
    SR_LIST, /* a sequence; .choices may name the element type: "string" */
    SR_FUNCTION,
    SR_SECRET, /* a secret, or a plain string */
    SR_OBJECT  /* userdata whose metatable name is .choices */
} sr_type;

enum { SR_REQUIRED = 1, SR_POSITIVE = 2, SR_NONEMPTY = 4 };

typedef struct sr_arg {
    const char *name;
    sr_type type;
    int flags;
    const char *fallback; /* default, as shown in the documentation; NULL: none */
    const char *doc;
    const char *choices;
    double max; /* upper bound for numbers, 0: none */
} sr_arg;

typedef struct sr_spec {
    const char *name; /* as the user calls it: "http.get" */
    const char *doc;
    const sr_arg *args; /* ends with a zero entry */
} sr_spec;

/* Check the table at idx against the spec; nil or none counts as {}. After it, idx holds
 * a table. Raises usage errors that name function, key, expected and given. */
void sr_args(lua_State *L, int idx, const sr_spec *spec);
/* Read a checked field; the fallback when absent. Strings live as long as the table. */
const char *sr_arg_string(lua_State *L, int idx, const char *key, const char *fallback,
                          size_t *ret_len);
bool sr_arg_bool(lua_State *L, int idx, const char *key, bool fallback);
lua_Integer sr_arg_int(lua_State *L, int idx, const char *key, lua_Integer fallback);
double sr_arg_number(lua_State *L, int idx, const char *key, double fallback);
double sr_arg_duration(lua_State *L, int idx, const char *key, double fallback);
/* Push the field and return its Lua type (LUA_TNIL when absent, nil is pushed). */
int sr_arg_push(lua_State *L, int idx, const char *key);

/* A duration given as plain argument: number of seconds or text with unit. */
double sr_check_duration(lua_State *L, int idx);
/* Sugar for faces: the userdata at idx if its metatable is tname, else a usage error that
 * says "expected key, got nil". */
void *sr_check_object(lua_State *L, int idx, const char *tname);

/* ---------------------------------------------------------------- secrets (secret.c) */

#define SR_SECRET_TYPE "secret"

/* Push a secret: a userdata that neither prints, concatenates, serialises nor logs.
 * label names where it came from ("env:SCM_PASSWORD") and is all that ever shows. */
void sr_push_secret(lua_State *L, const char *data, size_t len, const char *label);
/* The bytes of the secret or string at idx, valid while it is on the stack. Only sinks
 * that need them call this. Raises a usage error for other types. */
const char *sr_check_secret(lua_State *L, int idx, size_t *ret_len);
/* Add a value of 6 bytes or more to what logs and traces replace by "[secret]". */
void sr_redact_add(const char *data, size_t len);
/* Replace every known secret value in text, in place. */
void sr_redact(char *text);

/* Variables that hold secrets: child processes do not inherit them. `secret "env:NAME"`
 * marks NAME by itself. The marks are the process's, as the environment is. */
void sr_env_withhold(const char *name);
bool sr_env_withheld(const char *name);

/* ---------------------------------------------------------------- may it? (perm.c) */

typedef enum sr_perm {
    SR_PERM_NET,   /* "host:port" */
    SR_PERM_READ,  /* a path */
    SR_PERM_WRITE, /* a path */
    SR_PERM_RUN,   /* argv[0] */
    SR_PERM_ENV,   /* a variable's name */
    SR_PERMS
} sr_perm;

/* Raise kind "denied", naming the flag that would allow it, unless this VM may. */
void sr_allow(lua_State *L, sr_perm what, const char *target);
/* The same for cores. */
int sr_allowed(sr_vm *vm, sr_perm what, const char *target, sr_err *err);
/* The same for a connection once its address is known: target is "host:port" as the
 * script gave it, address "192.0.2.1:443" or "[2001:db8::1]:443". Both need it. */
int sr_allowed_peer(sr_vm *vm, const char *target, const char *address, sr_err *err);

/* ---------------------------------------------------------------- log (log.c) */

typedef enum sr_level { SR_DEBUG, SR_INFO, SR_WARN, SR_ERROR } sr_level;

/* One line to the log: control characters escaped, known secrets redacted. L may be NULL;
 * otherwise task, flow and org are added where known. `where` is the component. */
void sr_log(lua_State *L, sr_level level, const char *where, const char *fmt, ...)
    SR_PRINTF(4, 5);

/* ---------------------------------------------------------------- values (copy.c) */

/* Deep-copy the value at idx of `from` and push it on `to` (another state). nil,
 * booleans, numbers, strings, tables of them; no cycles, depth ≤ 64. Raises in `from`. */
void sr_copy(lua_State *from, int idx, lua_State *to);

/* ---------------------------------------------------------------- modules (load.c) */

typedef struct sr_module {
    const char *name; /* as in require; C cores under a Lua layer end in ".core" */
    lua_CFunction open;
} sr_module;

/* A Lua source embedded at build time: bindings/acme/acme.lua is the module "acme",
 * runtime/lua/task.lua is "task". */
typedef struct sr_source {
    const char *name;
    const char *chunkname; /* "=acme/acme.lua" */
    const char *text;
    size_t len;
} sr_source;

/* Supplied by bindings/open.c and by the generated table; both end with a zero entry. */
extern const sr_module sr_bindings[];
extern const sr_source sr_sources[];

#endif
