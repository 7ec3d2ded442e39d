/* http_server_int.h – what the parts of the HTTP server share (internal).
 *
 * A connection's life, and who watches its socket:
 *
 *   HANDSHAKE   the stream (TLS only)      ends in a pump and a socketpair, then as plain
 *   FIRST       we, for the first byte     idle time-out; garbage is answered by us
 *   RECEIVE     libmicrohttpd              request time-out: 408
 *   HANDLE      we, for the client's end   the request is queued or taken; suspended
 *   REPLY       libmicrohttpd              its own inactivity time-out (real time)
 *   IDLE        libmicrohttpd              idle time-out
 *   CLOSED      nobody                     only the pump may still be flushing
 *
 * Suspended connections are invisible to libmicrohttpd: it sees no end of the client and
 * must have them resumed before it may stop. Its callbacks never call out to Lua; they
 * change states here, and the owner's `changed` only marks an operation as done.
 */
#ifndef SR_HTTP_SERVER_INT_H
#define SR_HTTP_SERVER_INT_H

#include <microhttpd.h>

#include "net/http_server.h"

typedef enum sr_httpd_phase {
    HTTP_HANDSHAKE,
    HTTP_FIRST,
    HTTP_RECEIVE,
    HTTP_HANDLE,
    HTTP_REPLY,
    HTTP_IDLE,
    HTTP_CLOSED
} sr_httpd_phase;

typedef struct sr_httpd_conn {
    sr_httpd *server;
    struct sr_httpd_conn *prev, *next;
    sr_httpd_phase phase;
    int fd;                     /* ours in FIRST, libmicrohttpd's after; else -1 */
    uv_poll_t poll;             /* on fd */
    bool polling;               /* poll is initialised and not closing */
    sr_timer timer;             /* the deadline of the phase */
    struct MHD_Connection *mhd; /* NULL before and after */
    sr_httpd_request *request;  /* in RECEIVE, HANDLE and REPLY (a reference) */
    bool linger;                /* answered before everything was read */
    unsigned served;
    struct sockaddr_storage peer;
    bool has_cred;
    int pid, uid, gid;
    sr_stream *stream; /* TLS, in HANDSHAKE */
    sr_pump *pump;     /* TLS, later */
    bool tls, verified;
    char tls_version[16], servername[256];
    X509 *client_cert;
} sr_httpd_conn;

typedef enum sr_httpd_stage {
    REQ_RECEIVING,
    REQ_QUEUED,  /* complete, not taken; suspended */
    REQ_TAKEN,   /* the owner works on it; suspended */
    REQ_ANSWERED /* the response is on its way or out */
} sr_httpd_stage;

struct sr_httpd_request {
    unsigned refs;
    sr_httpd *server;
    sr_httpd_conn *conn; /* NULL once over */
    sr_httpd_stage stage;
    bool suspended;
    bool aborted; /* close the connection when it runs again */
    bool gone;    /* the client went away before it had its answer */
    bool told;    /* … and the owner knows */
    sr_httpd_request *next;
    int64_t started;
    char *target; /* as sent */
    sr_http_slice raw_path, query;
    char *path;
    size_t path_len;
    char method[32];
    char version[12];
    sr_buf text; /* names and values of the fields */
    sr_http_field *fields;
    size_t field_count;
    bool headed; /* the header section was read and is acceptable */
    sr_buf body;
    /* who asked: copied, since the connection may be gone */
    struct sockaddr_storage peer;
    bool has_cred, tls, verified;
    int pid, uid, gid;
    char tls_version[16], servername[256];
    X509 *client_cert;
    /* the answer */
    unsigned status;
    struct MHD_Response *response;
    struct {
        sr_buf pending;
        bool used, full, finished, broken;
        void (*ready)(void *arg);
        void *arg;
    } stream;
};

typedef struct sr_httpd_linger sr_httpd_linger;

struct sr_httpd {
    unsigned refs; /* the owner's, one a connection, a request, a handle, a linger */
    sr_loop *loop;
    sr_httpd_config config;
    bool tls;
    sr_listener *listener;
    struct MHD_Daemon *daemon;
    uv_poll_t events; /* libmicrohttpd's epoll descriptor */
    uv_timer_t wake;  /* what MHD_get_timeout asks for; real time */
    sr_timer pause;   /* accepting goes on after a lack of descriptors */
    bool full;        /* accepting waits for a connection to end */
    bool running, again;
    bool draining, stopped;
    sr_httpd_conn *conns;
    sr_httpd_conn *adding; /* while MHD_add_connection runs */
    unsigned conn_count;
    sr_httpd_linger *lingers;
    sr_httpd_request *first, *last; /* QUEUED; their connections keep them */
    unsigned waiting;
    sr_httpd_request *gone_first,
        *gone_last;  /* TAKEN, client gone, not told (references) */
    size_t buffered; /* bytes of bodies held */
    void (*changed)(void *arg);
    void *arg;
};

/* http_server.c */
void sr_httpd_hold(sr_httpd *server);
void sr_httpd_drop(sr_httpd *server);
void sr_httpd_run(sr_httpd *server); /* let libmicrohttpd work, re-arm */
void sr_httpd_accept(sr_httpd *server);
/* Accept nothing for a moment: descriptors or memory have run out. */
void sr_httpd_pause(sr_httpd *server, const sr_err *err);
void sr_httpd_changed(sr_httpd *server);

/* http_server_conn.c */
void sr_httpd_conn_open(sr_httpd *server, sr_stream *stream); /* taken over */
void sr_httpd_conn_stop(sr_httpd_conn *conn);                 /* at once */
void sr_httpd_conn_drain(sr_httpd_conn *conn);                /* if idle */
void sr_httpd_conn_deadline(sr_httpd_conn *conn, sr_httpd_phase phase);
/* Write a whole response past libmicrohttpd, which has nothing to send at that time. */
void sr_httpd_conn_raw(sr_httpd_conn *conn, unsigned status, const char *text);
void sr_httpd_conn_notify(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code);

/* http_server_linger.c: read and drop what a client still sends, so that it gets to read
 * its answer instead of a reset. Takes fd over. */
void sr_httpd_linger_start(sr_httpd *server, int fd);
void sr_httpd_linger_stop_all(sr_httpd *server);

/* http_server_request.c */
void *sr_httpd_request_begin(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result sr_httpd_request_handle(void *cls, struct MHD_Connection *mhd,
                                        const char *url, const char *method,
                                        const char *version, const char *data,
                                        size_t *size, void **context);
void sr_httpd_request_completed(void *cls, struct MHD_Connection *mhd, void **context,
                                enum MHD_RequestTerminationCode code);
/* The client went away while the connection was suspended, or must go. */
void sr_httpd_request_abort(sr_httpd_request *req);
void sr_httpd_request_resume(sr_httpd_request *req);
void sr_httpd_request_ref(sr_httpd_request *req);

/* http_server_reply.c */
/* A short text/plain response of our own; extra is one more field or NULL. */
struct MHD_Response *sr_httpd_reply_plain(sr_httpd *server, const char *text,
                                          const char *extra_name,
                                          const char *extra_value);

#endif
