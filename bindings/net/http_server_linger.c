/* http_server_linger.c – sockets that are answered and closed, but not yet given back.
 *
 * A kernel that closes a socket with unread bytes sends a reset, and a reset makes the
 * client lose the answer it has not read yet: the 413 to a long upload. So what still
 * comes is read and dropped, until the client closes, a little time or a few megabytes
 * have gone.
 */
#include "http_server_int.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { BUDGET = 8 * 1024 * 1024, CHUNK = 16 * 1024 };

#define PATIENCE_NS (2 * SR_NS)

struct sr_httpd_linger {
    uv_poll_t poll;
    sr_timer timer;
    int fd;
    size_t left;
    sr_httpd *server;
    sr_httpd_linger *prev, *next;
};

static void on_closed(uv_handle_t *handle) {
    sr_httpd_linger *linger = handle->data;
    sr_httpd_drop(linger->server);
    free(linger);
}

static void finish(sr_httpd_linger *linger) {
    sr_httpd *server = linger->server;
    if (linger->prev)
        linger->prev->next = linger->next;
    else
        server->lingers = linger->next;
    if (linger->next) linger->next->prev = linger->prev;
    sr_timer_stop(server->loop, &linger->timer);
    uv_close((uv_handle_t *)&linger->poll, on_closed);
    close(linger->fd);
}

static void on_time(sr_timer *timer) {
    finish((void *)((char *)timer - offsetof(sr_httpd_linger, timer)));
}

static void on_readable(uv_poll_t *handle, int status, int events) {
    sr_httpd_linger *linger = handle->data;
    char data[CHUNK];
    (void)events;
    ssize_t got = status < 0 ? 0 : recv(linger->fd, data, sizeof data, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0 || (size_t)got >= linger->left) {
        finish(linger);
        return;
    }
    linger->left -= (size_t)got;
}

void sr_httpd_linger_start(sr_httpd *server, int fd) {
    sr_httpd_linger *linger = calloc(1, sizeof *linger);
    if (!linger || uv_poll_init(sr_uv(server->loop), &linger->poll, fd) != 0) {
        free(linger);
        close(fd);
        return;
    }
    linger->poll.data = linger;
    linger->fd = fd;
    linger->left = BUDGET;
    linger->server = server;
    sr_httpd_hold(server);
    linger->next = server->lingers;
    if (linger->next) linger->next->prev = linger;
    server->lingers = linger;
    uv_poll_start(&linger->poll, UV_READABLE, on_readable);
    sr_timer_start(server->loop, &linger->timer, sr_mono(server->loop) + PATIENCE_NS,
                   on_time);
}

void sr_httpd_linger_stop_all(sr_httpd *server) {
    while (server->lingers)
        finish(server->lingers);
}
