/* stream.h – byte streams on the loop: tcp and unix sockets, with or without TLS.
 *
 * A stream reads by itself into a bounded buffer and stops at the bound; its owner looks
 * (peek) and takes (consume). It writes through a bounded queue. Whenever something
 * changed (connected, handshake done, bytes in, queue drained, end, failure, closed) it
 * calls the owner's one notify function, which looks again at everything it waits for:
 * level-triggered, no event carries data, a notification too many is harmless.
 *
 * Life: sr_stream_connect, sr_stream_open and sr_listener_accept return one reference.
 * sr_stream_close ends the traffic; the memory goes with the last reference and libuv's
 * close callback, whichever is later. notify may close and unref its stream.
 *
 * No function here runs Lua. All of them belong to the loop's thread.
 */
#ifndef SR_NET_STREAM_H
#define SR_NET_STREAM_H

#include "net/tls.h"
#include "secrun.h"

#include <sys/socket.h>

typedef struct sr_stream sr_stream;
typedef struct sr_listener sr_listener;
typedef struct sr_pump sr_pump;

#define SR_STREAM_BOUND                                                                  \
    ((size_t)256 * 1024)       /* default bound of the input and output buffers */
#define SR_HANDSHAKE_TIME 30.0 /* seconds a peer has to finish its handshake */

typedef enum sr_stream_state {
    SR_STREAM_CONNECTING, /* resolving or connecting */
    SR_STREAM_HANDSHAKE,  /* TLS is being agreed */
    SR_STREAM_OPEN,
    SR_STREAM_CLOSED /* by us: closed, or never came to be; see sr_stream_error */
} sr_stream_state;

/* ---------------------------------------------------------------- connect */

typedef struct sr_connect {
    const char *host;       /* name or address … */
    int port;               /* … and port, or */
    const char *path;       /* a unix socket */
    const char *local_addr; /* numeric address to connect from, or NULL */
    double attempt;  /* seconds an address may take while others are left; 0: 5 s */
    sr_tls_ctx *tls; /* a client context (a reference is taken), or NULL */
    const char *servername; /* SNI and name to verify; NULL: host */
    sr_vm *vm; /* whose permissions the addresses of a name need; NULL: none */
} sr_connect;

/* Resolve, try the addresses in order, shake hands. Returns at once, NULL on bad
 * arguments only; watch the state. There is no overall time-out: the owner closes when it
 * is late. */
sr_stream *sr_stream_connect(sr_loop *loop, const sr_connect *how, sr_err *err);
/* A stream over a connected socket, which is taken over (also on failure). */
sr_stream *sr_stream_open(sr_loop *loop, int fd, sr_err *err);
/* Give up a stream that has just been accepted or opened, without TLS, and hand its
 * socket out: nothing is read or written any more. The stream is gone, also on failure,
 * which is -1 (usage: bytes or TLS are on it; io). */
int sr_stream_detach(sr_stream *s, sr_err *err);

/* ---------------------------------------------------------------- life */

sr_stream *sr_stream_ref(sr_stream *s);
void sr_stream_unref(sr_stream *s);
/* The one listener to changes; NULL for none. Called from the loop or from within a call
 * on the stream, never from within sr_stream_notify itself. */
void sr_stream_notify(sr_stream *s, void (*notify)(sr_stream *s, void *arg), void *arg);
/* End both directions now. Queued bytes are dropped; over TLS a close_notify goes out if
 * the kernel takes it at once. To be gentle, shut down and read to the end first. */
void sr_stream_close(sr_stream *s);

sr_stream_state sr_stream_get_state(const sr_stream *s);
/* Why it failed, NULL if it did not. Errors of reading and writing are kept apart: bytes
 * that arrived before a failure can still be read. */
const sr_err *sr_stream_error(const sr_stream *s);
const sr_err *sr_stream_write_error(const sr_stream *s);

/* ---------------------------------------------------------------- reading */

/* The bytes received and not consumed; valid until the next call on the stream. */
const char *sr_stream_peek(sr_stream *s, size_t *ret_len);
void sr_stream_consume(sr_stream *s, size_t len);
/* The peer ended its direction and everything before that is in the buffer. */
bool sr_stream_eof(const sr_stream *s);
/* Buffer up to this many bytes; 0 sets the default. Bytes already there stay. */
void sr_stream_set_bound(sr_stream *s, size_t bound);

/* ---------------------------------------------------------------- writing */

/* Queue what fits under the bound; *ret_len says how much that was. 0 or -1. */
int sr_stream_write(sr_stream *s, const void *data, size_t len, size_t *ret_len,
                    sr_err *err);
size_t sr_stream_queued(const sr_stream *s); /* bytes the kernel has not taken yet */
/* After the queue: close_notify if TLS, then the end of our direction. 0 or -1. */
int sr_stream_shutdown(sr_stream *s, sr_err *err);
bool sr_stream_is_shut(const sr_stream *s); /* the end of our direction went out */

/* ---------------------------------------------------------------- TLS, addresses */

/* Speak TLS from here on, as the context's role says. Bytes that were already received
 * count as the peer's handshake, so nothing said in the clear crosses into the protected
 * part (CVE-2011-0411). Watch the state. Error: usage (TLS already, not open). */
int sr_stream_starttls(sr_stream *s, sr_tls_ctx *ctx, const char *name, sr_err *err);
sr_tls *sr_stream_tls(sr_stream *s); /* NULL: plain */

/* false: no such address (closed). Of a unix stream the path may be empty. */
bool sr_stream_peer(const sr_stream *s, struct sockaddr_storage *ret_addr);
bool sr_stream_local(const sr_stream *s, struct sockaddr_storage *ret_addr);
/* Process, user and group at the other end of a unix socket. Error: usage for tcp. */
int sr_stream_peer_cred(sr_stream *s, int *ret_pid, int *ret_uid, int *ret_gid,
                        sr_err *err);
/* The peer is another process: waits for it hold the virtual clock. */
bool sr_stream_outside(const sr_stream *s);
const char *sr_stream_name(const sr_stream *s); /* the peer, for messages */

/* The host it was connected by, or NULL (accepted, unix). */
const char *sr_stream_host(const sr_stream *s);

/* "127.0.0.1:80", "[::1]:80", "unix:/run/x", "unix:" for an unnamed one. */
void sr_addr_text(const struct sockaddr *sa, char *buf, size_t size);
/* The host alone, and the port (0 for unix). */
void sr_addr_host(const struct sockaddr *sa, char *buf, size_t size);
int sr_addr_port(const struct sockaddr *sa);
/* From a numeric address or "localhost". 0 or -1 (usage). */
int sr_addr_parse(const char *host, int port, struct sockaddr_storage *ret_addr,
                  sr_err *err);

/* ---------------------------------------------------------------- listening */

typedef struct sr_listen {
    const char *host; /* numeric address or "localhost" … */
    int port;         /* … and port, 0 for any free one, or */
    const char *path; /* a unix socket; a dead one in its place is removed */
    int mode;         /* of the unix socket, from its creation; 0: 0600 */
    sr_tls_ctx *tls;  /* a server context (a reference is taken), or NULL */
} sr_listen;

/* ready is called when a connection waits; it, or somebody later, calls accept. */
sr_listener *sr_listener_new(sr_loop *loop, const sr_listen *how,
                             void (*ready)(sr_listener *l, void *arg), void *arg,
                             sr_err *err);
/* The next waiting connection, or NULL: none (err untouched) or failure. Over TLS its
 * state is HANDSHAKE, and it has SR_HANDSHAKE_TIME seconds to get through it. */
sr_stream *sr_listener_accept(sr_listener *l, sr_err *err);
/* Connections accepted from now on use this context (a renewed certificate). */
void sr_listener_set_tls(sr_listener *l, sr_tls_ctx *ctx);
int sr_listener_port(const sr_listener *l);
void sr_listener_address(const sr_listener *l, struct sockaddr_storage *ret_addr);
/* Stop listening and free; a unix socket's file is removed. */
void sr_listener_free(sr_listener *l);

/* ---------------------------------------------------------------- pump */

/* Carry bytes between a stream (taken over) and a connected socket (taken over), both
 * ways, each side waiting for the other: TLS in front of a server that only knows plain
 * sockets. A half-closed side is half-closed on the other. Once the server side is gone,
 * the peer has 5 s to read the rest. done is called once, from the loop, when both are
 * closed; err is NULL after a clean end; the pump is gone after it. done may be NULL.
 * NULL is returned on failure, then both are closed already and done is not called. */
sr_pump *sr_tls_pump(sr_stream *s, int fd, void (*done)(void *arg, const sr_err *err),
                     void *arg, sr_err *err);
/* Cut both sides off now; done is called before this returns. */
void sr_pump_stop(sr_pump *pump);

#endif
