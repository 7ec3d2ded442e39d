/* process.c – the module "process.core": children as Lua objects that tasks wait for.
 *
 * The object owns a reference to its sr_child; each wait is an operation of its own in
 * the child's list of waiters, completed when the child changes. A wait that is cancelled
 * leaves the list and the child alone; ending the child is the object's business, and
 * process.lua gives every run a <close> that does it.
 *
 * While a task waits for a child the virtual clock stands still (sr_outside_begin).
 */
#include "sys/process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "open.h"
#include "sys/child.h"

#define CHILD_TYPE "process.child"
#define MAX_OUTPUT (1 << 20)

typedef struct handle {
    sr_child *child; /* NULL until started */
    bool checked;    /* run: a failure raises */
    double timeout;  /* run: for the message */
} handle;

static handle *check_child(lua_State *L, int idx) {
    return sr_check_object(L, idx, CHILD_TYPE);
}

static const char *push_name(lua_State *L, int idx) {
    lua_getiuservalue(L, idx, 1);
    return lua_tostring(L, -1);
}

/* ---------------------------------------------------------------- signals by name */

static const struct {
    const char *name;
    int number;
} signals[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"KILL", SIGKILL},
    {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"TERM", SIGTERM}, {"CONT", SIGCONT},
    {"STOP", SIGSTOP}, {"ABRT", SIGABRT}, {"SEGV", SIGSEGV}, {"BUS", SIGBUS},
    {"ILL", SIGILL},   {"FPE", SIGFPE},   {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},
    {"XFSZ", SIGXFSZ}, {"XCPU", SIGXCPU}, {"SYS", SIGSYS},   {"TRAP", SIGTRAP}};

static const char *signal_name(int number, char *buf, size_t size) {
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (signals[i].number == number) {
            snprintf(buf, size, "SIG%s", signals[i].name);
            return buf;
        }
    snprintf(buf, size, "signal %d", number);
    return buf;
}

static int signal_number(lua_State *L, int idx) {
    const char *name = luaL_optstring(L, idx, "TERM");
    if (lua_isinteger(L, idx) && lua_tointeger(L, idx) > 0 &&
        lua_tointeger(L, idx) < NSIG)
        return (int)lua_tointeger(L, idx);
    if (strncmp(name, "SIG", 3) == 0) name += 3;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (strcmp(signals[i].name, name) == 0) return signals[i].number;
    return sr_raise(L, SR_USAGE, NULL,
                    "child:kill knows no signal \"%s\": use \"TERM\", "
                    "\"HUP\", \"KILL\" or a number",
                    luaL_tolstring(L, idx, NULL));
}

/* ---------------------------------------------------------------- waiting */

typedef enum goal { FINISHED, LINE } wait_goal;

typedef struct waiter {
    sr_op op; /* first */
    struct waiter *next;
    sr_child *child;
    wait_goal goal;
    sr_timer timer; /* run: the time-out */
    bool run, checked, timed_out, has_line;
    double timeout;
    sr_buf line;
    char name[128];
} waiter;

static void unlink_waiter(waiter *w) {
    waiter **at = (waiter **)&w->child->waiters;
    while (*at && *at != w)
        at = &(*at)->next;
    if (*at) *at = w->next;
}

static void complete(waiter *w) {
    unlink_waiter(w);
    sr_timer_stop(w->op.loop, &w->timer);
    sr_outside_end(w->op.loop);
    sr_op_done(&w->op);
}

/* Whether what it waits for is there; a line is taken, so that no other wait gets it. */
static bool fulfil(waiter *w) {
    const char *text;
    size_t len;
    if (w->goal == FINISHED) return sr_child_finished(w->child);
    if (sr_child_line(w->child, &text, &len)) {
        w->has_line = true;
        (void)sr_buf_append(&w->line, text, len); /* oom shows in finish */
        return true;
    }
    return !w->child->out.open;
}

static void on_changed(sr_child *child) {
    waiter *next;
    for (waiter *w = child->waiters; w; w = next) {
        next = w->next;
        if (fulfil(w)) complete(w);
    }
}

static void waiter_cancel(sr_op *op) {
    complete((waiter *)op);
}

static void waiter_free(sr_op *op) {
    waiter *w = (waiter *)op;
    sr_child_unref(w->child);
    sr_buf_free(&w->line);
    free(w);
}

static void waiter_describe(const sr_op *op, char *buf, size_t size) {
    const waiter *w = (const waiter *)op;
    snprintf(buf, size, "%s (process %d)", w->name, w->child->process.pid);
}

/* ---------------------------------------------------------------- results */

static void set_stream(lua_State *L, const char *key, const sr_child_stream *s) {
    lua_pushlstring(L, s->kept.data ? s->kept.data : "", s->kept.len);
    lua_setfield(L, -2, key);
}

static void push_status(lua_State *L, const sr_child *c) {
    char name[32];
    lua_createtable(L, 0, 6);
    if (c->signal)
        lua_pushstring(L, signal_name(c->signal, name, sizeof name));
    else
        lua_pushinteger(L, c->status);
    lua_setfield(L, -2, c->signal ? "signal" : "status");
    lua_pushnumber(L, (double)(c->ended - c->started) / (double)SR_NS);
    lua_setfield(L, -2, "duration");
}

static int raise_timeout(lua_State *L, const waiter *w) {
    char words[300];
    sr_err err = {0};
    sr_child_last_words(w->child, words, sizeof words);
    (void)sr_fail(&err, SR_TIMEOUT, NULL, "%s did not end within %g s and was ended%s%s",
                  w->name, w->timeout, *words ? ": " : "", words);
    sr_redact(err.message);
    return sr_throw(L, &err);
}

static int raise_failure(lua_State *L, const waiter *w) {
    char words[300], name[32];
    sr_err err = {0};
    const sr_child *c = w->child;
    sr_child_last_words(c, words, sizeof words);
    if (c->signal)
        (void)sr_fail(&err, SR_IO, "SIGNAL", "%s was ended by %s%s%s", w->name,
                      signal_name(c->signal, name, sizeof name), *words ? ": " : "",
                      words);
    else
        (void)sr_fail(&err, SR_IO, "EXIT", "%s ended with status %d%s%s", w->name,
                      c->status, *words ? ": " : "", words);
    err.status = c->status;
    sr_redact(err.message);
    return sr_throw(L, &err);
}

static int finish_run(lua_State *L, const waiter *w) {
    const sr_child *c = w->child;
    if (w->timed_out) return raise_timeout(L, w);
    if (w->checked && (c->signal || c->status)) return raise_failure(L, w);
    push_status(L, c);
    set_stream(L, "stdout", &c->out);
    set_stream(L, "stderr", &c->err);
    lua_pushboolean(L, c->out.truncated || c->err.truncated);
    lua_setfield(L, -2, "truncated");
    return 1;
}

static int waiter_finish(lua_State *L, sr_op *op) {
    const waiter *w = (const waiter *)op;
    if (w->run) return finish_run(L, w);
    if (w->goal == FINISHED) {
        push_status(L, w->child);
        return 1;
    }
    if (w->line.oom) return luaL_error(L, "not enough memory");
    if (w->has_line)
        lua_pushlstring(L, w->line.data ? w->line.data : "", w->line.len);
    else
        lua_pushnil(L);
    return 1;
}

static const sr_op_class waiter_class = {.name = "process",
                                         .finish = waiter_finish,
                                         .cancel = waiter_cancel,
                                         .free = waiter_free,
                                         .describe = waiter_describe};

static void on_timeout(sr_timer *timer) {
    waiter *w = (waiter *)((char *)timer - offsetof(waiter, timer));
    w->timed_out = !w->child->exited;
    sr_child_stop(w->child);
}

/* Raises only while nothing is allocated. */
static waiter *waiter_new(lua_State *L, const handle *h, wait_goal goal) {
    sr_loop *loop = sr_loop_of(L);
    const char *name = push_name(L, 1);
    sr_can_wait(L);
    waiter *w = calloc(1, sizeof *w);
    if (!w) {
        luaL_error(L, "not enough memory");
        return NULL;
    }
    snprintf(w->name, sizeof w->name, "%s", name);
    w->goal = goal;
    w->child = h->child;
    sr_child_ref(w->child);
    sr_op_init(&w->op, &waiter_class, loop);
    return w;
}

static int wait_for(lua_State *L, waiter *w, double timeout) {
    w->next = w->child->waiters;
    w->child->waiters = w;
    sr_outside_begin(w->op.loop);
    if (fulfil(w)) complete(w);
    return sr_wait(L, &w->op, timeout);
}

/* ---------------------------------------------------------------- start */

#define START_ARGS                                                                       \
    {"argv", SR_ANY, SR_REQUIRED, NULL, "the command, {\"nginx\", \"-t\"}"},             \
        {"env", SR_TABLE, 0, NULL, "variables added; false takes one away"},             \
        {"clear_env", SR_BOOL, 0, "false", "begin with an empty environment"},           \
        {"cwd", SR_STRING, SR_NONEMPTY, NULL, "folder to run in"},                       \
        {"user", SR_STRING, SR_NONEMPTY, NULL, "run as this user; needs root"},          \
        {"stdin", SR_SECRET, 0, NULL, "text for its standard input"}, {                  \
        "max_output", SR_INT, SR_POSITIVE, "1048576", "bytes kept of each stream",       \
            .max = 1 << 30                                                               \
    }

static const sr_arg run_args[] = {
    START_ARGS,
    {"timeout", SR_DURATION, 0, "5m", "then TERM, and KILL 2 s later"},
    {"check", SR_BOOL, 0, "true", "raise io unless it ends with status 0"},
    {0}};
static const sr_spec run_spec = {"process.run", "Run a command to its end.", run_args};
static const sr_arg spawn_args[] = {START_ARGS, {0}};
static const sr_spec spawn_spec = {"process.spawn", "Start a server.", spawn_args};

/* What a start needs, read from the options; the lists live on the Lua stack. */
static void read_options(lua_State *L, const char *what, sr_child_opts *o) {
    char name[64];
    snprintf(name, sizeof name, "%s: argv", what);
    sr_arg_push(L, 1, "argv");
    sr_check_argv(L, -1, name);
    lua_geti(L, -1, 1);
    sr_allow(L, SR_PERM_RUN, lua_tostring(L, -1));
    lua_pop(L, 1);
    o->argv = sr_push_argv(L, lua_gettop(L));
    o->env = sr_push_env(L, 1, sr_arg_bool(L, 1, "clear_env", false));
    o->cwd = sr_arg_string(L, 1, "cwd", NULL, NULL);
    o->user = sr_arg_string(L, 1, "user", NULL, NULL);
    o->max_output = (size_t)sr_arg_int(L, 1, "max_output", MAX_OUTPUT);
    if (sr_arg_push(L, 1, "stdin") != LUA_TNIL)
        o->input = sr_check_secret(L, -1, &o->input_len);
}

/* Push the object, start the child into it. */
static handle *start(lua_State *L, const char *what, sr_child_opts *o) {
    sr_err err = {0};
    read_options(L, what, o);
    handle *h = lua_newuserdatauv(L, sizeof *h, 1);
    *h = (handle){0};
    luaL_setmetatable(L, CHILD_TYPE);
    lua_pushstring(L, o->argv[0]);
    lua_setiuservalue(L, -2, 1);
    int rc = sr_child_start(sr_vm_of(L), sr_loop_of(L), o, &h->child, &err);
    sr_wipe_lists(L);
    if (rc) (void)sr_throw(L, &err);
    h->child->changed = on_changed;
    return h;
}

static void refuse_plain(lua_State *L, const char *what) {
    if (lua_type(L, 1) == LUA_TSTRING) sr_check_argv(L, 1, what);
}

/* start_run{…} → child, to be finished with finish_run */
static int l_start_run(lua_State *L) {
    sr_child_opts o = {0};
    refuse_plain(L, "process.run: argv");
    sr_args(L, 1, &run_spec);
    double timeout = sr_arg_duration(L, 1, "timeout", 300);
    bool checked = sr_arg_bool(L, 1, "check", true);
    sr_can_wait(L);
    handle *h = start(L, "process.run", &o);
    h->timeout = timeout;
    h->checked = checked;
    return 1;
}

/* finish_run(child) → {status|signal, stdout, stderr, duration, truncated} */
static int l_finish_run(lua_State *L) {
    const handle *h = check_child(L, 1);
    waiter *w = waiter_new(L, h, FINISHED);
    w->run = true;
    w->checked = h->checked;
    w->timeout = h->timeout;
    int64_t due = sr_mono(w->op.loop) + (int64_t)(h->timeout * (double)SR_NS);
    (void)sr_timer_start(w->op.loop, &w->timer, due, on_timeout);
    return wait_for(L, w, SR_FOREVER);
}

/* process.spawn{…} → child */
static int l_spawn(lua_State *L) {
    sr_child_opts o = {.merge = true, .keep_last = true};
    refuse_plain(L, "process.spawn: argv");
    sr_args(L, 1, &spawn_spec);
    (void)start(L, "process.spawn", &o);
    return 1;
}

/* ---------------------------------------------------------------- methods */

/* child:wait(timeout?) → {status|signal, duration} */
static int l_wait(lua_State *L) {
    const handle *h = check_child(L, 1);
    double timeout = lua_isnoneornil(L, 2) ? SR_FOREVER : sr_check_duration(L, 2);
    return wait_for(L, waiter_new(L, h, FINISHED), timeout);
}

/* child:read_line(timeout="30s") → the next line of its output without its end, or nil at
 * the end of the output */
static int l_read_line(lua_State *L) {
    const handle *h = check_child(L, 1);
    double timeout = lua_isnoneornil(L, 2) ? 30 : sr_check_duration(L, 2);
    return wait_for(L, waiter_new(L, h, LINE), timeout);
}

/* child:output() → what it has written so far, the last max_output bytes */
static int l_output(lua_State *L) {
    const sr_child_stream *s = &check_child(L, 1)->child->out;
    size_t skip = s->kept.len > s->max ? s->kept.len - s->max : 0;
    lua_pushlstring(L, s->kept.data ? s->kept.data + skip : "", s->kept.len - skip);
    return 1;
}

/* child:kill(signal="TERM"): to its whole group; nothing once it has ended */
static int l_kill(lua_State *L) {
    sr_err err = {0};
    const handle *h = check_child(L, 1);
    if (sr_child_kill(h->child, signal_number(L, 2), &err)) return sr_throw(L, &err);
    return 0;
}

/* child:close() → as :wait(): TERM to the group, KILL after 2 s, wait until it is reaped
 */
static int l_close(lua_State *L) {
    const handle *h = check_child(L, 1);
    if (!h->child) return 0;
    sr_child_stop(h->child);
    if (sr_child_finished(h->child) || !sr_task_of(L)) return 0;
    lua_settop(L, 1); /* __close passes an error, too */
    return wait_for(L, waiter_new(L, h, FINISHED), SR_FOREVER);
}

static int l_gc(lua_State *L) {
    handle *h = lua_touserdata(L, 1);
    if (!h->child) return 0;
    sr_child_stop(h->child);
    sr_child_unref(h->child);
    h->child = NULL;
    return 0;
}

static int l_index(lua_State *L) {
    const handle *h = check_child(L, 1);
    const char *key = luaL_checkstring(L, 2);
    if (strcmp(key, "pid") == 0)
        lua_pushinteger(L, h->child->process.pid);
    else if (strcmp(key, "running") == 0)
        lua_pushboolean(L, !h->child->exited);
    else
        lua_getfield(L, lua_upvalueindex(1), key);
    return 1;
}

static int l_tostring(lua_State *L) {
    const handle *h = check_child(L, 1);
    const char *name = push_name(L, 1);
    lua_pushfstring(L, "process.child (%s, pid %d)", name, h->child->process.pid);
    return 1;
}

/* process.env(name) → the value of an environment variable, or nil */
static int l_env(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    sr_allow(L, SR_PERM_ENV, name);
    lua_pushstring(L, getenv(name)); /* nil for NULL */
    return 1;
}

/* process.withhold(name): children do not inherit this variable */
static int l_withhold(lua_State *L) {
    sr_env_withhold(luaL_checkstring(L, 1));
    return 0;
}

/* process.check_argv(value, what="argv"): raises usage unless it is a command */
static int l_check_argv(lua_State *L) {
    sr_check_argv(L, 1, luaL_optstring(L, 2, "argv"));
    return 0;
}

/* ---------------------------------------------------------------- module */

typedef struct owner {
    sr_loop *loop;
    sr_vm *vm;
} owner;

static void vm_closes(void *arg) {
    owner *o = arg;
    sr_child_destroy_all(o->loop, o->vm);
    free(o);
}

static const luaL_Reg methods[] = {{"wait", l_wait},     {"read_line", l_read_line},
                                   {"output", l_output}, {"kill", l_kill},
                                   {"close", l_close},   {NULL, NULL}};
static const luaL_Reg meta[] = {
    {"__gc", l_gc}, {"__close", l_close}, {"__tostring", l_tostring}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"start_run", l_start_run},
                                     {"finish_run", l_finish_run},
                                     {"spawn", l_spawn},
                                     {"env", l_env},
                                     {"check_argv", l_check_argv},
                                     {"withhold", l_withhold},
                                     {NULL, NULL}};

static void new_types(lua_State *L) {
    luaL_newmetatable(L, CHILD_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int luaopen_process_core(lua_State *L) {
    owner *o = malloc(sizeof *o);
    if (!o) return luaL_error(L, "not enough memory");
    *o = (owner){sr_loop_of(L), sr_vm_of(L)};
    sr_at_close(L, vm_closes, o);
    new_types(L);
    luaL_newlib(L, functions);
    lua_pushinteger(L, getpid());
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, (lua_Integer)geteuid());
    lua_setfield(L, -2, "uid");
    return 1;
}
