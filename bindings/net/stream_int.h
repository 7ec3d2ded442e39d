/* stream_int.h – what the files stream*.c share. */
#ifndef SR_NET_STREAM_INT_H
#define SR_NET_STREAM_INT_H

#include "net/stream.h"

/* Bytes read from a socket at once. */
#define SR_STREAM_CHUNK ((size_t)64 * 1024)

typedef struct sr_dial sr_dial; /* a connection that is being made, stream_connect.c */

struct sr_stream {
    sr_loop *loop;
    unsigned refs; /* owners, and one while the handle lives */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
    enum { SR_HANDLE_NONE, SR_HANDLE_LIVE, SR_HANDLE_CLOSING } handle;
    sr_stream_state state;
    bool local_socket; /* unix, not tcp */
    bool outside;      /* the peer is another process */
    bool held;         /* sr_outside_begin was called for it */
    bool own;          /* sr_own_add was called for `local` */
    bool reading;      /* uv_read_start is on */
    bool transport_end, eof;
    bool want_shut, shut_asked, shut;
    bool writing; /* `flight` belongs to write_req */
    size_t bound; /* of the input */
    sr_buf in;    /* bytes for the owner from in_at on */
    size_t in_at;
    sr_buf out;    /* bytes for the kernel, after flight */
    sr_buf flight; /* bytes libuv is writing, from flight_at on */
    size_t flight_at;
    uv_write_t write_req;
    uv_shutdown_t shut_req;
    sr_tls *tls;
    sr_timer timer; /* an attempt to connect, or a handshake */
    sr_dial *dial;  /* while connecting */
    sr_err err, write_err;
    void (*notify)(sr_stream *s, void *arg);
    void *arg;
    char *name, *host;
    struct sockaddr_storage local; /* of an outgoing connection, while own */
};

/* A stream with an initialised handle, state CONNECTING; NULL without memory. */
sr_stream *sr_stream_alloc(sr_loop *loop, bool local_socket, const char *name);
int sr_stream_init_handle(sr_stream *s);
/* The handle is connected: go on to TLS (ctx may be NULL) or OPEN, and start reading. */
void sr_stream_begin(sr_stream *s, sr_tls_ctx *ctx, const char *servername);
/* Both directions are lost; the owner is told. */
void sr_stream_lost(sr_stream *s, const sr_err *err);
/* Close what is there in state CONNECTING; on_closed for the handle is the stream's own.
 */
void sr_stream_close_handle(sr_stream *s);
/* Tell the owner. */
void sr_stream_changed(sr_stream *s);
/* Count the exchange as outside work, or no longer. */
void sr_stream_hold(sr_stream *s, bool hold);
/* Process, user and group at the other end of a unix socket; false: unknown. */
bool sr_stream_cred(int fd, int *ret_pid, int *ret_uid, int *ret_gid);
/* Is the process at the other end of this unix socket another one? */
bool sr_stream_cred_outside(int fd);
/* The handle of a failed attempt is closed: try the next address. */
void sr_dial_next(sr_stream *s);
/* Give up the attempt to connect; the dial goes when its callbacks have come. */
void sr_dial_stop(sr_stream *s);

#endif
