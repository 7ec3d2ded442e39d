/* secret_exec.c – a secret that a program prints: secret{exec = {"pass", "show", "scm"}}.
 *
 * The program gets no input and the terminal for its messages; its output, at most 64
 * KiB, is the secret. It has 30 seconds; then, or when the task is cancelled, it is
 * killed. The operation ends when the program has ended and its output is closed,
 * whatever came first.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "practice.h"
#include "secret.h"

enum { ARGV_MAX = 64, HANDLES = 2 };
static const double TIMEOUT = 30;

struct run {
    sr_op op;
    uv_process_t process;
    uv_pipe_t out;
    char **argv; /* one block with the strings behind the pointers */
    sr_buf value;
    sr_err err;
    int64_t status;
    int signal;
    int closed; /* handles closed */
    char chunk[4096];
};

static void on_closed(uv_handle_t *handle) {
    struct run *run = handle->data;
    if (++run->closed < HANDLES) return;
    sr_outside_end(run->op.loop);
    sr_op_done(&run->op);
}

static void close_handle(void *handle) {
    if (!uv_is_closing(handle)) uv_close(handle, on_closed);
}

static void kill_program(struct run *run) {
    if (uv_is_active((uv_handle_t *)&run->process))
        (void)uv_process_kill(&run->process, SIGKILL);
    close_handle(&run->out);
}

static void on_exit_status(uv_process_t *process, int64_t status, int signal) {
    struct run *run = process->data;
    run->status = status;
    run->signal = signal;
    close_handle(process);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *ret_buf) {
    struct run *run = handle->data;
    (void)size;
    *ret_buf = uv_buf_init(run->chunk, sizeof run->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct run *run = stream->data;
    if (n < 0) {
        close_handle(stream);
        return;
    }
    (void)sr_buf_append(&run->value, buf->base, (size_t)n);
    if (run->value.len <= SR_SECRET_MAX) return;
    sr_fail(&run->err, SR_LIMIT, "secret", "secret: %s printed more than 64 KiB",
            run->argv[0]);
    kill_program(run);
}

static void cancel(sr_op *op) {
    kill_program((struct run *)op);
}

static void free_run(sr_op *op) {
    struct run *run = (struct run *)op;
    sr_buf_free(&run->value);
    sr_wipe(run->chunk, sizeof run->chunk);
    free(run->argv);
    free(run);
}

static int finish(lua_State *L, sr_op *op) {
    struct run *run = (struct run *)op;
    char label[96];
    const char *program = run->argv[0];
    if (run->err.kind) return sr_throw(L, &run->err);
    if (run->signal)
        return sr_raise(L, SR_IO, "secret", "secret: %s was ended by signal %d", program,
                        run->signal);
    if (run->status != 0)
        return sr_raise(L, SR_IO, "secret",
                        "secret: %s ended with status %d; run it by hand", program,
                        (int)run->status);
    if (!run->value.oom && run->value.len > 0) sr_secret_trim(&run->value);
    if (run->value.oom || run->value.len == 0)
        return sr_raise(L, SR_NOT_FOUND, "secret", "secret: %s printed nothing", program);
    snprintf(label, sizeof label, "exec:%s", program);
    sr_push_secret(L, run->value.data, run->value.len, label);
    return 1;
}

static void describe(const sr_op *op, char *buf, size_t size) {
    snprintf(buf, size, "%s", ((const struct run *)op)->argv[0]);
}

static const sr_op_class exec_class = {"secret.exec", finish, cancel, free_run, describe};

static void start(struct run *run) {
    uv_loop_t *loop = sr_uv(run->op.loop);
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
         .data.stream = (uv_stream_t *)&run->out},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
    };
    uv_process_options_t options = {.exit_cb = on_exit_status,
                                    .file = run->argv[0],
                                    .args = run->argv,
                                    .stdio = stdio,
                                    .stdio_count = 3};
    run->process.data = run->out.data = run;
    (void)uv_pipe_init(loop, &run->out, 0); /* cannot fail */
    sr_outside_begin(run->op.loop);
    int rc = uv_spawn(loop, &run->process, &options);
    if (rc == 0) rc = uv_read_start((uv_stream_t *)&run->out, on_alloc, on_read);
    if (rc == 0) return;
    sr_fail_uv(&run->err, rc, "secret: %s cannot be run", run->argv[0]);
    kill_program(run);
    if (!uv_is_active((uv_handle_t *)&run->process)) close_handle(&run->process);
}

/* The length of the argv block; raises on anything but a list of texts. */
static size_t measure(lua_State *L, int idx, lua_Integer *ret_n) {
    lua_Integer n = (lua_Integer)lua_rawlen(L, idx);
    size_t size = (size_t)(n + 1) * sizeof(char *), len;
    if (n < 1 || n > ARGV_MAX)
        sr_raise(L, SR_USAGE, "secret", "secret: exec is a list of 1 to %d texts",
                 ARGV_MAX);
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, idx, i) != LUA_TSTRING)
            sr_raise(L, SR_USAGE, "secret", "secret: exec[%d] is a %s, not a text",
                     (int)i, luaL_typename(L, -1));
        const char *text = lua_tolstring(L, -1, &len);
        if (strlen(text) != len)
            sr_raise(L, SR_USAGE, "secret", "secret: exec[%d] contains a NUL byte",
                     (int)i);
        size += len + 1;
        lua_pop(L, 1);
    }
    *ret_n = n;
    return size;
}

static void copy_argv(lua_State *L, int idx, lua_Integer n, char **argv) {
    char *at = (char *)(argv + n + 1);
    for (lua_Integer i = 1; i <= n; i++) {
        size_t len;
        lua_rawgeti(L, idx, i);
        const char *text = lua_tolstring(L, -1, &len);
        memcpy(at, text, len + 1);
        argv[i - 1] = at;
        at += len + 1;
        lua_pop(L, 1);
    }
    argv[n] = NULL;
}

int sr_secret_exec(lua_State *L, int idx) {
    lua_Integer n;
    size_t size = measure(L, idx, &n);
    luaL_checkstack(L, 4, "secret");
    lua_rawgeti(L, idx, 1);
    const char *program = lua_tostring(L, -1);
    if (strpbrk(program, " \t"))
        sr_raise(L, SR_USAGE, "secret",
                 "secret: '%s' is one word with blanks; write exec = {\"program\", "
                 "\"argument\"}",
                 program);
    if (sr_practice_folder()) {
        sr_push_secret(L, SR_PRACTICE_SECRET, strlen(SR_PRACTICE_SECRET), "practice");
        return 1;
    }
    sr_allow(L, SR_PERM_RUN, program);
    lua_pop(L, 1);
    sr_can_wait(L);
    struct run *run = calloc(1, sizeof *run);
    char **argv = calloc(1, size);
    if (!run || !argv) {
        free(run);
        free(argv);
        return luaL_error(L, "not enough memory");
    }
    run->argv = argv;
    run->value.secret = true;
    copy_argv(L, idx, n, argv);
    sr_op_init(&run->op, &exec_class, sr_loop_of(L));
    start(run);
    return sr_wait(L, &run->op, TIMEOUT);
}
