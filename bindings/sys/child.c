/* child.c – one child process on the loop; the contract is child.h.
 *
 * The pipes are plain pipe(2) pairs of ours, not libuv's socket pairs: a program that
 * opens /dev/stdout fails on a socket. Before each start every descriptor of this process
 * is marked close-on-exec, so that none slips through whoever opened it.
 */
#include "sys/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE 65536
#define REAP_MS 2000

/* ---------------------------------------------------------------- the loop's children */

typedef struct children {
    sr_child *first;
} children;

static const char children_key;

static void all_gone(void *arg) {
    children *all = arg;
    sr_child *next;
    for (sr_child *c = all->first; c; c = next) {
        next = c->next;
        sr_child_destroy(c);
    }
    free(all);
}

static children *children_of(sr_loop *loop) {
    children **slot = (children **)sr_loop_slot(loop, &children_key);
    if (slot && !*slot) {
        *slot = calloc(1, sizeof **slot);
        if (*slot) sr_at_loop_close(loop, all_gone, *slot);
    }
    return slot ? *slot : NULL;
}

static void enlist(sr_child *c, children *all) {
    c->next = all->first;
    c->link = &all->first;
    if (c->next) c->next->link = &c->next;
    all->first = c;
}

static void delist(sr_child *c) {
    if (!c->link) return;
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->link = NULL;
    c->next = NULL;
}

void sr_child_destroy_all(sr_loop *loop, const sr_vm *vm) {
    children *all = children_of(loop);
    sr_child *next;
    for (sr_child *c = all ? all->first : NULL; c; c = next) {
        next = c->next;
        if (c->vm == vm) sr_child_destroy(c);
    }
}

/* ---------------------------------------------------------------- life */

void sr_child_ref(sr_child *child) {
    child->refs++;
}

void sr_child_unref(sr_child *child) {
    if (--child->refs > 0) return;
    sr_buf_free(&child->out.kept);
    sr_buf_free(&child->err.kept);
    sr_buf_free(&child->input);
    free(child);
}

static void on_closed(uv_handle_t *handle) {
    sr_child_unref(handle->data);
}

/* Each open handle holds a reference. */
static void own_handle(sr_child *c, uv_handle_t *handle) {
    handle->data = c;
    sr_child_ref(c);
}

static void close_handle(uv_handle_t *handle) {
    if (handle->data && !uv_is_closing(handle)) uv_close(handle, on_closed);
}

static void close_stream(sr_child_stream *s) {
    s->open = false;
    close_handle((uv_handle_t *)&s->pipe);
}

bool sr_child_finished(const sr_child *child) {
    return child->exited && !child->out.open && !child->err.open;
}

static void settle(sr_child *c) {
    if (sr_child_finished(c)) {
        close_handle((uv_handle_t *)&c->timer);
        close_handle((uv_handle_t *)&c->in);
        delist(c);
    }
    if (c->changed) c->changed(c);
}

static void signal_group(const sr_child *c, int signum) {
    /* The group may be gone already; then there is nothing to do. */
    if (kill(-c->process.pid, signum) != 0 && errno == ESRCH) errno = 0;
}

static void on_drained(uv_timer_t *timer) {
    sr_child *c = timer->data;
    close_stream(&c->out);
    close_stream(&c->err);
    settle(c);
}

static void start_timer(sr_child *c, uint64_t ms, uv_timer_cb fire) {
    uv_update_time(sr_uv(c->loop));
    uv_timer_start(&c->timer, fire, ms, 0);
}

static void on_exit_status(uv_process_t *process, int64_t status, int signum) {
    sr_child *c = process->data;
    c->exited = true;
    sr_crash_point("child");
    c->ended = sr_cpu();
    c->status = (int)status;
    c->signal = signum;
    if (c->stopping) signal_group(c, SIGKILL); /* whom TERM did not impress */
    close_handle((uv_handle_t *)process);
    sr_child_ref(c); /* settle may drop the last one */
    if (!sr_child_finished(c)) start_timer(c, SR_CHILD_DRAIN_MS, on_drained);
    settle(c);
    sr_child_unref(c);
}

static void on_grace_over(uv_timer_t *timer) {
    sr_child *c = timer->data;
    c->killed = true;
    if (!c->exited) signal_group(c, SIGKILL);
}

int sr_child_kill(sr_child *child, int signum, sr_err *err) {
    if (child->exited) return 0;
    if (kill(-child->process.pid, signum) == 0 || errno == ESRCH) return 0;
    return sr_fail_errno(err, errno, "cannot signal process %d", child->process.pid);
}

void sr_child_stop(sr_child *child) {
    if (child->stopping || child->exited) return;
    child->stopping = true;
    signal_group(child, SIGTERM);
    signal_group(child, SIGCONT); /* a stopped process does not hear TERM */
    start_timer(child, SR_CHILD_GRACE_MS, on_grace_over);
}

static void reap(sr_child *c) {
    int status = 0;
    signal_group(c, SIGKILL);
    for (int ms = 0; ms < REAP_MS; ms++) {
        pid_t pid = waitpid(c->process.pid, &status, WNOHANG);
        if (pid != 0) return; /* reaped, or libuv was faster */
        usleep(1000);
    }
}

static void end_now(sr_child *c) {
    delist(c);
    if (!c->exited) {
        reap(c);
        c->exited = true;
        c->signal = SIGKILL;
        sr_crash_point("child");
        c->ended = sr_cpu();
        close_handle((uv_handle_t *)&c->process);
    }
    close_stream(&c->out);
    close_stream(&c->err);
    settle(c);
}

void sr_child_destroy(sr_child *child) {
    sr_child_ref(child); /* its waiters let go of it */
    end_now(child);
    sr_child_unref(child);
}

/* ---------------------------------------------------------------- output */

static void keep_tail(sr_child_stream *s) {
    size_t drop = s->kept.len - s->max;
    memmove(s->kept.data, s->kept.data + drop, s->max + 1);
    s->kept.len = s->max;
    s->taken = s->taken > drop ? s->taken - drop : 0;
    s->truncated = true;
}

/* Up to twice the bound is held before the front goes, so that moving stays cheap. */
static void keep(sr_child_stream *s, const char *data, size_t len) {
    if (!s->last && s->kept.len + len > s->max) {
        len = s->max - s->kept.len;
        s->truncated = true;
    }
    if (sr_buf_append(&s->kept, data, len)) s->truncated = true;
    if (s->last && s->kept.len > 2 * s->max) keep_tail(s);
}

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *buf) {
    static char piece[PIECE]; /* used up before the next read callback */
    (void)handle;
    (void)wanted;
    *buf = uv_buf_init(piece, sizeof piece);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    sr_child *c = stream->data;
    sr_child_stream *s = stream == (uv_stream_t *)&c->out.pipe ? &c->out : &c->err;
    sr_child_ref(c);
    if (n > 0) keep(s, buf->base, (size_t)n);
    if (n < 0) {
        if (s->last && s->kept.len > s->max) keep_tail(s);
        close_stream(s);
    }
    if (n != 0) settle(c);
    sr_child_unref(c);
}

bool sr_child_line(sr_child *child, const char **ret_text, size_t *ret_len) {
    sr_child_stream *s = &child->out;
    size_t left = s->kept.len - s->taken;
    if (!s->kept.data || !left) return false;
    const char *text = s->kept.data + s->taken, *end;
    end = memchr(text, '\n', left);
    if (!end && s->open) return false;
    *ret_text = text;
    *ret_len = end ? (size_t)(end - text) : left;
    s->taken += *ret_len + (end ? 1 : 0);
    return true;
}

void sr_child_last_words(const sr_child *child, char *buf, size_t size) {
    const sr_buf *b = child->err.kept.len ? &child->err.kept : &child->out.kept;
    size_t end = b->len, start, lines = 0, n = 0;
    while (end > 0 && (b->data[end - 1] == '\n' || b->data[end - 1] == '\r'))
        end--;
    for (start = end; start > 0 && end - start < size - 1; start--)
        if (b->data[start - 1] == '\n' && ++lines == 3) break;
    for (; start < end && n + 4 < size; start++) {
        if (b->data[start] == '\n')
            n += (size_t)snprintf(buf + n, size - n, " | ");
        else if (b->data[start] != '\r')
            buf[n++] = b->data[start];
    }
    buf[n] = '\0';
}

/* ---------------------------------------------------------------- input */

static void on_fed(uv_write_t *req, int status) {
    sr_child *c = req->data;
    (void)status; /* a child need not read what it is given */
    sr_buf_free(&c->input);
    close_handle((uv_handle_t *)&c->in);
    sr_child_unref(c);
}

static void feed(sr_child *c) {
    uv_buf_t buf = uv_buf_init(c->input.data, (unsigned)c->input.len);
    if (!c->input.len) {
        close_handle((uv_handle_t *)&c->in);
        return;
    }
    c->feed.data = c;
    sr_child_ref(c);
    if (uv_write(&c->feed, (uv_stream_t *)&c->in, &buf, 1, on_fed) != 0)
        on_fed(&c->feed, 0);
}

/* ---------------------------------------------------------------- start */

/* Read and write ends for 0, 1 and 2; -1 where there is none. */
typedef struct pipes {
    int ours[3], theirs[3];
} pipes;

static void pipes_close(pipes *p, bool ours) {
    for (int i = 0; i < 3; i++) {
        if (p->theirs[i] >= 0) close(p->theirs[i]);
        if (ours && p->ours[i] >= 0) close(p->ours[i]);
        p->theirs[i] = -1;
    }
}

static int pipes_open(pipes *p, const sr_child_opts *o, sr_err *err) {
    *p = (pipes){{-1, -1, -1}, {-1, -1, -1}};
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if ((i == 0 && !o->input) || (i == 2 && o->merge)) continue;
        if (pipe2(ends, O_CLOEXEC) != 0) {
            int saved = errno;
            pipes_close(p, true);
            return sr_fail_errno(err, saved, "no pipe for %s", o->argv[0]);
        }
        p->ours[i] = ends[i == 0];
        p->theirs[i] = ends[i != 0];
    }
    return 0;
}

static int find_user(uv_process_options_t *options, const char *user, sr_err *err) {
    struct passwd entry, *found = NULL;
    char text[4096];
    int rc = getpwnam_r(user, &entry, text, sizeof text, &found);
    if (rc != 0) return sr_fail_errno(err, rc, "cannot look up the user %s", user);
    if (!found)
        return sr_fail(err, SR_NOT_FOUND, NULL, "there is no user \"%s\" here", user);
    options->uid = entry.pw_uid;
    options->gid = entry.pw_gid;
    options->flags |= UV_PROCESS_SETUID | UV_PROCESS_SETGID;
    return 0;
}

static int start_failed(int rc, const sr_child_opts *o, sr_err *err) {
    const char *program = o->argv[0];
    if (rc == UV_ENOENT && strchr(program, '/'))
        return sr_fail(
            err, SR_NOT_FOUND, "ENOENT",
            "there is no program %s (or its interpreter is missing): check the path",
            program);
    if (rc == UV_ENOENT)
        return sr_fail(
            err, SR_NOT_FOUND, "ENOENT",
            "there is no program \"%s\" on the PATH: install it or give its full "
            "path",
            program);
    if (rc == UV_EACCES)
        return sr_fail(
            err, SR_IO, "EACCES",
            "%s cannot be run: it is not executable for this user: chmod +x it", program);
    if (rc == UV_EPERM && o->user)
        return sr_fail(err, SR_IO, "EPERM", "cannot run %s as %s: only root may", program,
                       o->user);
    return sr_fail_uv(err, rc, "cannot run %s", program);
}

static int check_cwd(const char *cwd, sr_err *err) {
    struct stat st;
    if (!cwd) return 0;
    if (stat(cwd, &st) != 0) return sr_fail_errno(err, errno, "cannot run in %s", cwd);
    if (S_ISDIR(st.st_mode)) return 0;
    return sr_fail(err, SR_IO, "ENOTDIR", "cannot run in %s: it is not a folder", cwd);
}

/* Nothing but 0, 1 and 2 goes to the child, whoever opened it and how. */
static void close_rest_on_exec(void) {
    const struct dirent *entry;
    if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) == 0) return;
    DIR *dir = opendir("/proc/self/fd"); /* kernels before 5.11 */
    while (dir && (entry = readdir(dir))) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (fd > 2) (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    if (dir) closedir(dir);
}

static int spawn(sr_child *c, const sr_child_opts *o, pipes *p, sr_err *err) {
    uv_stdio_container_t stdio[3];
    uv_process_options_t options = {.exit_cb = on_exit_status,
                                    .file = o->argv[0],
                                    .args = o->argv,
                                    .env = o->env,
                                    .cwd = o->cwd,
                                    .flags = UV_PROCESS_DETACHED,
                                    .stdio_count = 3,
                                    .stdio = stdio};
    if (o->user && find_user(&options, o->user, err)) return -1;
    for (int i = 0; i < 3; i++) {
        int fd = i == 2 && o->merge ? p->theirs[1] : p->theirs[i];
        stdio[i].flags = fd < 0 ? UV_IGNORE : UV_INHERIT_FD;
        stdio[i].data.fd = fd;
    }
    close_rest_on_exec();
    sr_crash_point("spawn");
    int rc = uv_spawn(sr_uv(c->loop), &c->process, &options);
    own_handle(c, (uv_handle_t *)&c->process); /* to be closed also when it failed */
    if (rc == 0) return 0;
    close_handle((uv_handle_t *)&c->process);
    return start_failed(rc, o, err);
}

static int open_pipe(sr_child *c, uv_pipe_t *pipe, int *fd) {
    uv_pipe_init(sr_uv(c->loop), pipe, 0);
    own_handle(c, (uv_handle_t *)pipe);
    int rc = uv_pipe_open(pipe, *fd);
    if (rc == 0) *fd = -1; /* the handle's now */
    return rc;
}

static int open_stream(sr_child *c, sr_child_stream *s, int *fd) {
    int rc = open_pipe(c, &s->pipe, fd);
    if (rc == 0) rc = uv_read_start((uv_stream_t *)&s->pipe, on_alloc, on_read);
    s->open = rc == 0;
    if (rc != 0) close_stream(s);
    return rc;
}

static int connect_pipes(sr_child *c, const sr_child_opts *o, pipes *p, sr_err *err) {
    int rc = open_stream(c, &c->out, &p->ours[1]);
    if (rc == 0 && !o->merge) rc = open_stream(c, &c->err, &p->ours[2]);
    if (rc == 0 && o->input) rc = open_pipe(c, &c->in, &p->ours[0]);
    if (rc != 0) return sr_fail_uv(err, rc, "no pipe for %s", o->argv[0]);
    if (o->input) feed(c);
    return 0;
}

static sr_child *child_new(sr_vm *vm, sr_loop *loop, const sr_child_opts *o) {
    sr_child *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    *c = (sr_child){.vm = vm, .loop = loop, .refs = 1, .started = sr_cpu()};
    c->input.secret = true;
    c->out.max = c->err.max = o->max_output;
    c->out.last = o->keep_last;
    c->err.last = true;
    if (o->input && sr_buf_append(&c->input, o->input, o->input_len)) {
        sr_child_unref(c);
        return NULL;
    }
    return c;
}

int sr_child_start(sr_vm *vm, sr_loop *loop, const sr_child_opts *opts,
                   sr_child **ret_child, sr_err *err) {
    pipes p;
    children *all = children_of(loop);
    sr_child *c = all ? child_new(vm, loop, opts) : NULL;
    if (!c) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory to run %s", opts->argv[0]);
    if (check_cwd(opts->cwd, err) || pipes_open(&p, opts, err)) {
        sr_child_unref(c);
        return -1;
    }
    if (spawn(c, opts, &p, err)) {
        pipes_close(&p, true);
        sr_child_unref(c);
        return -1;
    }
    pipes_close(&p, false);
    uv_timer_init(sr_uv(loop), &c->timer);
    own_handle(c, (uv_handle_t *)&c->timer);
    enlist(c, all);
    if (connect_pipes(c, opts, &p, err)) {
        pipes_close(&p, true);
        end_now(c);
        sr_child_unref(c);
        return -1;
    }
    *ret_child = c;
    return 0;
}
