/* stream_sock.c – what a stream knows of its socket: where it leads, who is there, and
 * taking sockets over and handing them out.
 */
#include "stream_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

sr_stream *sr_stream_open(sr_loop *loop, int fd, sr_err *err) {
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof sa;
    char name[160];
    int rc = getpeername(fd, (struct sockaddr *)&sa, &len) == 0 ? 0 : UV_ENOTCONN;
    bool local_socket = sa.ss_family == AF_UNIX;
    sr_addr_text((struct sockaddr *)&sa, name, sizeof name);
    if (strcmp(name, "unix:") == 0) strcpy(name, "a local socket");
    sr_stream *s = rc == 0 ? sr_stream_alloc(loop, local_socket, name) : NULL;
    if (rc == 0) rc = s ? sr_stream_init_handle(s) : UV_ENOMEM;
    if (rc == 0)
        rc = local_socket ? uv_pipe_open(&s->u.pipe, fd) : uv_tcp_open(&s->u.tcp, fd);
    if (rc != 0) {
        close(fd);
        if (s) sr_stream_close(s);
        sr_stream_unref(s);
        sr_fail_uv(err, rc, "taking over a connected socket");
        return NULL;
    }
    s->outside = local_socket ? sr_stream_cred_outside(fd)
                              : !sr_own_has(loop, (struct sockaddr *)&sa);
    sr_stream_begin(s, NULL, NULL);
    return s;
}

bool sr_stream_peer(const sr_stream *s, struct sockaddr_storage *ret_addr) {
    int len = sizeof *ret_addr;
    if (s->handle != SR_HANDLE_LIVE) return false;
    memset(ret_addr, 0, sizeof *ret_addr);
    if (!s->local_socket)
        return uv_tcp_getpeername(&s->u.tcp, (struct sockaddr *)ret_addr, &len) == 0;
    uv_os_fd_t fd;
    socklen_t got = sizeof *ret_addr;
    return uv_fileno(&s->u.handle, &fd) == 0 &&
           getpeername(fd, (struct sockaddr *)ret_addr, &got) == 0;
}

bool sr_stream_local(const sr_stream *s, struct sockaddr_storage *ret_addr) {
    uv_os_fd_t fd;
    socklen_t len = sizeof *ret_addr;
    if (s->handle != SR_HANDLE_LIVE || uv_fileno(&s->u.handle, &fd) != 0) return false;
    memset(ret_addr, 0, sizeof *ret_addr);
    return getsockname(fd, (struct sockaddr *)ret_addr, &len) == 0;
}

bool sr_stream_cred(int fd, int *ret_pid, int *ret_uid, int *ret_gid) {
    struct ucred cred;
    socklen_t len = sizeof cred;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) return false;
    *ret_pid = (int)cred.pid;
    *ret_uid = (int)cred.uid;
    *ret_gid = (int)cred.gid;
    return true;
}

bool sr_stream_cred_outside(int fd) {
    int pid, uid, gid;
    return !sr_stream_cred(fd, &pid, &uid, &gid) || pid != (int)getpid();
}

int sr_stream_peer_cred(sr_stream *s, int *ret_pid, int *ret_uid, int *ret_gid,
                        sr_err *err) {
    uv_os_fd_t fd;
    if (!s->local_socket)
        return sr_fail(err, SR_USAGE, NULL,
                       "%s has no peer credentials; only unix sockets have", s->name);
    if (s->handle != SR_HANDLE_LIVE || uv_fileno(&s->u.handle, &fd) != 0 ||
        !sr_stream_cred(fd, ret_pid, ret_uid, ret_gid))
        return sr_fail(err, SR_IO, "closed", "peer credentials of %s: it is closed",
                       s->name);
    return 0;
}

bool sr_stream_outside(const sr_stream *s) {
    return s->outside;
}

const char *sr_stream_name(const sr_stream *s) {
    return s->name;
}

int sr_stream_detach(sr_stream *s, sr_err *err) {
    uv_os_fd_t fd;
    int copy = -1;
    if (s->state != SR_STREAM_OPEN || s->tls || s->in.len || s->out.len || s->writing)
        sr_fail(err, SR_USAGE, NULL, "%s cannot be detached: it is in use", s->name);
    else if (uv_fileno(&s->u.handle, &fd) != 0 ||
             (copy = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
        sr_fail_errno(err, errno, "detaching %s", s->name);
    s->state = SR_STREAM_CLOSED;
    s->notify = NULL;
    sr_stream_hold(s, false);
    sr_stream_close_handle(s);
    sr_stream_unref(s);
    return copy;
}

const char *sr_stream_host(const sr_stream *s) {
    return s->host;
}
