/* task.h – tasks, scopes and groups (internal to the runtime).
 *
 * Scopes form a tree per VM. A scope is cancelled once (level-triggered: every later wait
 * below it raises again) and the cancellation runs down the tree until a shield. Scopes
 * come from task.timeout, task.shield and task.group; each lies on the stack of the task
 * that opened it. A group's scope is also the base of the tasks spawned into it, so a
 * deadline around a group holds for its children too.
 */
#ifndef SR_TASK_H
#define SR_TASK_H

#include "loop.h"

typedef struct sr_scope sr_scope;
typedef struct sr_group sr_group;
typedef struct sr_frame sr_frame;

struct sr_scope {
    sr_scope *parent, *children, *next, *prev;
    sr_task *tasks;   /* whose base this is */
    sr_task *owner;   /* on whose stack it lies; NULL for root scopes and those away */
    sr_scope *bottom; /* of the scopes a generator took away, kept in the top one */
    sr_vm *vm;
    sr_timer timer;    /* the deadline, if armed */
    double seconds;    /* its length, for the message */
    const char *why;   /* static text */
    uint8_t cancelled; /* SR_NONE, SR_TIMEOUT or SR_CANCELLED */
    bool shield, is_group;
};

/* One coroutine.resume on the C stack: the chain task → coroutine → coroutine. */
struct sr_frame {
    lua_State *L; /* the resumer */
    sr_frame *up;
};

enum { TASK_NEW, TASK_READY, TASK_RUNNING, TASK_WAITING, TASK_DONE };

/* Lives in a Lua userdata ("task"): user value 1 is its thread, 2 its spawn site.
 * Anchored in the VM while alive. */
struct sr_task {
    sr_task *next;                  /* ready queue */
    sr_task *next_task, *prev_task; /* among base->tasks */
    sr_vm *vm;
    lua_State *L;
    lua_State *inner; /* innermost coroutine, running or parked */
    sr_scope *base, *scope;
    sr_group *group;           /* that spawned it, or NULL */
    sr_op *op;                 /* waited for; NULL while sleeping */
    sr_op *joiners;            /* waits of others for this task's end */
    sr_frame *volatile frames; /* also read by signal handlers */
    sr_timer timer;            /* the wait's own time-out, or the sleep */
    int64_t grace_until;       /* end of clean-up after cancellation, 0: not begun */
    float timeout;             /* seconds, for the message */
    uint32_t id;
    int nresults;
    uint16_t unwinding; /* errors on their way through pending <close> variables */
    uint8_t state, wake, cancelled;
    bool closing; /* a <close> handler runs in a coroutine below the parked one */
    bool parked;  /* a yield on its way to the scheduler is a wait, not coroutine.yield */
    bool graceful; /* the armed timer is the end of the grace, not the wait's own */
    bool daemon, ok;
    bool watched; /* whoever started it reads its error: it is not reported here */
};

struct sr_group {
    sr_scope scope;
    sr_op *waiters; /* joins and spawns that wait for a place */
    lua_Integer limit;
    unsigned live;
    int error; /* registry reference to the first child's error, or LUA_NOREF */
    bool open, lost_error;
    bool orphan; /* its owner ended without closing it */
};

#define SR_TASK_TYPE "task"
#define SR_GROUP_TYPE "task.group"
#define SR_GRACE_SECONDS 10.0 /* for clean-up after cancellation */

/* scope.c */
void sr_scope_init(sr_scope *scope, sr_vm *vm, sr_scope *parent);
void sr_scope_push(sr_task *task, sr_scope *scope, bool shield);
void sr_scope_remove(sr_scope *scope); /* from its owner's stack and from the tree */
/* From its owner's stack only: it stays in the tree until its tasks have ended. */
void sr_scope_disown(sr_scope *scope);
/* Take the scopes above outer off the task's stack, for a coroutine that yields; NULL
 * when there are none or one is a group. Put them back on the stack of the task that
 * resumes. */
sr_scope *sr_scope_detach(sr_task *task, const sr_scope *outer);
void sr_scope_attach(sr_task *task, sr_scope *top);
/* Let go of every task and scope below, running nothing: the VM is freed. */
void sr_scope_abandon(sr_scope *top);
void sr_scope_deadline(sr_scope *scope, double seconds);
void sr_scope_cancel(sr_scope *scope, sr_kind kind, const char *why, double seconds);
void sr_task_cancel(sr_task *task, const char *why);
sr_kind sr_task_cancelled(const sr_task *task); /* what the next wait would raise */
void sr_task_cancel_err(const sr_task *task, sr_err *err);

/* task.c */
/* Spawn the function and nargs arguments on top of L (popped); push the task userdata. */
sr_task *sr_task_spawn(lua_State *L, int nargs, sr_scope *base, sr_group *group);
void sr_task_interrupt(sr_task *task);
/* Whether L, which runs in the task, is in a <close> handler or on its way through some.
 */
bool sr_task_in_cleanup(const sr_task *task, lua_State *L);
bool sr_in_close_handler(lua_State *L);
void sr_task_abandon(sr_task *task);
int sr_sleep(lua_State *L, double seconds);
void sr_task_describe(const sr_task *task, char *buf, size_t size);
/* The task that runs now, for signal handlers; NULL while callbacks run. */
extern sr_task *volatile sr_running;

/* signals.c */
void sr_signal_guard(lua_State *L); /* make a script that ends keep to the cancellation */
void sr_signal_guard_task(sr_task *task); /* the same for all its running coroutines */

/* group.c */
/* A wait for the end of tasks, first member of its struct. */
typedef struct sr_join {
    sr_op op;
    sr_op **list; /* the list it is in; NULL once taken out */
    sr_op *next;
    int kind;
} sr_join;
/* Put it, zeroed, at the end of a list; when what it waits for comes, it is done. */
void sr_join_add(sr_join *join, const sr_op_class *cls, sr_loop *loop, sr_op **list);
void sr_join_cancel(sr_op *op); /* take it out and end it */
sr_op *sr_join_next(sr_op *op); /* the next in the list of waits it is in */
void sr_group_task_done(sr_group *group);
void sr_group_orphan(sr_group *group);             /* its owner ends and it is open */
void sr_group_fail(lua_State *L, sr_group *group); /* error object on top, popped */
int sr_open_task_core(lua_State *L);

/* A userdata that must outlive its last Lua reference while C links to it. */
void sr_anchor(lua_State *L, int idx, void *key);
void sr_unanchor(lua_State *L, void *key);

/* protect.c: message handlers, by convention at index 1 of the calling C function. */
int sr_mark_unwinding(lua_State *L);  /* keeps the error as it is */
int sr_trace_unwinding(lua_State *L); /* makes it an error object with a trace */
int sr_open_protect(lua_State *L);

/* trace.c */
void sr_push_trace(lua_State *L, int level);
void sr_push_where(lua_State *L); /* "file:line" of the innermost Lua function, or "" */
void sr_dump_tasks(sr_loop *loop);
const char *sr_in_the_way(lua_State *L, sr_task *task, char *buf, size_t size);

/* err.c */
void sr_to_error(lua_State *L); /* make the value on top an error object */
sr_kind sr_error_kind(lua_State *L, int idx);
int sr_open_errors(lua_State *L);

/* co.c */
int sr_open_coroutine(lua_State *L);

#endif
