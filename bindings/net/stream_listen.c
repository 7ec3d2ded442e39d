/* stream_listen.c – listening sockets.
 *
 * libuv accepts one connection ahead and then waits until it is fetched, so that the
 * kernel's backlog, not our memory, holds back a flood. TLS handshakes run on their own
 * once a connection is fetched: a slow client delays nobody.
 *
 * A unix socket gets its mode before it exists (fchmod on the unbound socket, which Linux
 * carries over to the file), so there is no moment at which others may connect.
 */
#include "stream_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 511 };

struct sr_listener {
    sr_loop *loop;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
    bool local_socket, waiting, own;
    char *path; /* of a unix socket that is ours to remove */
    dev_t dev;
    ino_t ino;
    struct sockaddr_storage addr;
    sr_tls_ctx *tls;
    void (*ready)(sr_listener *l, void *arg);
    void *arg;
};

/* ---------------------------------------------------------------- accepting */

static void on_connection(uv_stream_t *stream, int status) {
    sr_listener *l = stream->data;
    if (status != 0) {
        char text[160];
        sr_addr_text((struct sockaddr *)&l->addr, text, sizeof text);
        sr_log(NULL, SR_WARN, "stream", "%s: a connection could not be accepted: %s",
               text, uv_strerror(status));
        return;
    }
    l->waiting = true;
    if (l->ready) l->ready(l, l->arg);
}

static int accept_into(sr_listener *l, sr_stream *s) {
    int rc = sr_stream_init_handle(s);
    return rc == 0 ? uv_accept(&l->u.stream, &s->u.stream) : rc;
}

/* Name the peer and find out whether it is this process. */
static void identify(sr_stream *s) {
    struct sockaddr_storage sa;
    uv_os_fd_t fd;
    char text[160];
    if (!sr_stream_peer(s, &sa)) return;
    if (s->local_socket) {
        s->outside = uv_fileno(&s->u.handle, &fd) != 0 || sr_stream_cred_outside(fd);
        return;
    }
    s->outside = !sr_own_has(s->loop, (struct sockaddr *)&sa);
    sr_addr_text((struct sockaddr *)&sa, text, sizeof text);
    char *name = strdup(text);
    if (!name) return;
    free(s->name);
    s->name = name;
}

sr_stream *sr_listener_accept(sr_listener *l, sr_err *err) {
    if (!l->waiting) return NULL;
    sr_stream *s = sr_stream_alloc(l->loop, l->local_socket,
                                   l->local_socket ? "a local client" : "a client");
    int rc = s ? accept_into(l, s) : UV_ENOMEM;
    if (rc != 0) {
        if (s) sr_stream_close(s);
        sr_stream_unref(s);
        l->waiting = rc != UV_EAGAIN;
        if (l->waiting) sr_fail_uv(err, rc, "cannot accept a connection");
        return NULL;
    }
    /* In a callback of libuv the next connection is announced after this one. */
    l->waiting = false;
    if (!s->local_socket) (void)uv_tcp_nodelay(&s->u.tcp, 1); /* an optimisation only */
    identify(s);
    sr_stream_begin(s, l->tls, NULL);
    return s;
}

void sr_listener_set_tls(sr_listener *l, sr_tls_ctx *ctx) {
    if (ctx) sr_tls_ctx_ref(ctx);
    sr_tls_ctx_unref(l->tls);
    l->tls = ctx;
}

int sr_listener_port(const sr_listener *l) {
    return sr_addr_port((const struct sockaddr *)&l->addr);
}

void sr_listener_address(const sr_listener *l, struct sockaddr_storage *ret_addr) {
    *ret_addr = l->addr;
}

/* ---------------------------------------------------------------- binding */

/* Remove a socket file that nobody listens on. 0, or -1 if it is in use or no socket. */
static int clear_path(const struct sockaddr_un *un, sr_err *err) {
    struct stat st;
    if (lstat(un->sun_path, &st) != 0) return 0;
    if (!S_ISSOCK(st.st_mode))
        return sr_fail(
            err, SR_CONFLICT, "EEXIST",
            "cannot listen on %s: there is something that is no socket; remove it",
            un->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return sr_fail_errno(err, errno, "cannot listen on %s", un->sun_path);
    int rc = connect(fd, (const struct sockaddr *)un, sizeof *un);
    int errnum = rc == 0 ? 0 : errno;
    close(fd);
    if (errnum != ECONNREFUSED)
        return sr_fail(err, SR_CONFLICT, "EADDRINUSE",
                       "cannot listen on %s: another process does; stop it first",
                       un->sun_path);
    if (unlink(un->sun_path) != 0 && errno != ENOENT)
        return sr_fail_errno(err, errno, "cannot replace the dead socket %s",
                             un->sun_path);
    return 0;
}

static int bind_unix(sr_listener *l, const char *path, mode_t mode, sr_err *err) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct stat st;
    int fd = -1;
    if (strlen(path) >= sizeof un.sun_path)
        return sr_fail(err, SR_USAGE, NULL,
                       "the path %s is too long for a unix socket; at most 107 bytes",
                       path);
    memcpy(un.sun_path, path, strlen(path));
    if (clear_path(&un, err) != 0) return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || fchmod(fd, mode) != 0 ||
        bind(fd, (struct sockaddr *)&un, sizeof un) != 0)
        goto fail;
    l->path = strdup(path);
    if (!l->path || chmod(path, mode) != 0 || stat(path, &st) != 0) {
        errno = l->path ? errno : ENOMEM;
        goto fail;
    }
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    memcpy(&l->addr, &un, sizeof un);
    int rc = uv_pipe_open(&l->u.pipe, fd);
    if (rc == 0) return 0;
    errno = -rc;
fail:
    sr_fail_errno(err, errno, "cannot listen on unix:%s", path);
    if (fd >= 0) close(fd);
    return -1;
}

static int fail_bind(const sr_listener *l, int rc, sr_err *err) {
    char text[160];
    const char *mend = rc == UV_EADDRINUSE ? "; another process listens there"
                       : rc == UV_EACCES
                           ? "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
                       : rc == UV_EADDRNOTAVAIL ? "; this machine has no such address"
                                                : "";
    sr_addr_text((const struct sockaddr *)&l->addr, text, sizeof text);
    return sr_fail(err, rc == UV_EADDRINUSE ? SR_CONFLICT : SR_IO, uv_err_name(rc),
                   "cannot listen on %s: %s%s", text, uv_strerror(rc), mend);
}

static int bind_tcp(sr_listener *l, const char *host, int port, sr_err *err) {
    if (sr_addr_parse(host, port, &l->addr, err) != 0) return -1;
    int rc = uv_tcp_bind(&l->u.tcp, (struct sockaddr *)&l->addr, 0);
    return rc == 0 ? 0 : fail_bind(l, rc, err);
}

static int start_listening(sr_listener *l, sr_err *err) {
    int len = sizeof l->addr;
    int rc = uv_listen(&l->u.stream, BACKLOG, on_connection);
    if (rc != 0) return fail_bind(l, rc, err);
    if (l->local_socket) return 0;
    rc = uv_tcp_getsockname(&l->u.tcp, (struct sockaddr *)&l->addr, &len);
    if (rc != 0) return fail_bind(l, rc, err);
    sr_own_add(l->loop, (struct sockaddr *)&l->addr);
    l->own = true;
    return 0;
}

sr_listener *sr_listener_new(sr_loop *loop, const sr_listen *how,
                             void (*ready)(sr_listener *l, void *arg), void *arg,
                             sr_err *err) {
    sr_listener *l = calloc(1, sizeof *l);
    uv_loop_t *uv = sr_uv(loop);
    int rc = UV_ENOMEM;
    if (l) rc = how->path ? uv_pipe_init(uv, &l->u.pipe, 0) : uv_tcp_init(uv, &l->u.tcp);
    if (rc != 0) {
        free(l);
        sr_fail_uv(err, rc, "cannot listen");
        return NULL;
    }
    l->loop = loop;
    l->local_socket = how->path != NULL;
    l->u.handle.data = l;
    l->ready = ready;
    l->arg = arg;
    l->tls = how->tls ? sr_tls_ctx_ref(how->tls) : NULL;
    rc = how->path ? bind_unix(l, how->path, how->mode ? (mode_t)how->mode : 0600, err)
                   : bind_tcp(l, how->host ? how->host : "127.0.0.1", how->port, err);
    if (rc != 0 || start_listening(l, err) != 0) {
        sr_listener_free(l);
        return NULL;
    }
    return l;
}

static void on_closed(uv_handle_t *handle) {
    sr_listener *l = handle->data;
    sr_tls_ctx_unref(l->tls);
    free(l->path);
    free(l);
}

void sr_listener_free(sr_listener *l) {
    struct stat st;
    if (!l) return;
    if (l->own) sr_own_remove(l->loop, (struct sockaddr *)&l->addr);
    if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
        (void)unlink(l->path); /* best effort: a dead one is replaced at the next start */
    l->ready = NULL;
    uv_close(&l->u.handle, on_closed);
}
