/* stream_conn.h – a connection and what waits for it; shared by stream_conn.c (waiting)
 * and stream_methods.c (the Lua methods). Nothing else includes it. */
#ifndef SR_NET_STREAM_CONN_H
#define SR_NET_STREAM_CONN_H

#include "stream_lua.h"

enum { SR_SEP_MAX = 64 };

typedef struct sr_waiter sr_waiter;

typedef struct sr_conn {
    unsigned refs; /* the userdata, and every operation */
    sr_stream *s;
    sr_waiter *first; /* in the order in which they began */
    bool accepted, reading, cut;
} sr_conn;

typedef enum sr_read_how {
    SR_READ_SOME,
    SR_READ_EXACT,
    SR_READ_UNTIL,
    SR_READ_ALL
} sr_read_how;

struct sr_waiter {
    sr_op op;
    sr_conn *c;
    sr_waiter *next;
    bool (*ready)(sr_waiter *w); /* done? then err or the result is set */
    bool outside;                /* holds the virtual clock */
    bool reads, writes;
    sr_err err;
    /* reading */
    sr_read_how how;
    size_t want, max, scanned;
    char sep[SR_SEP_MAX];
    size_t sep_len;
    bool line;
    size_t take, drop; /* the result: so many bytes, then drop so many */
    bool end;          /* the result is nil */
    /* writing */
    const char *data;
    char *copy; /* data, when it is ours */
    size_t len, at;
    bool started; /* bytes of it went out before data was copied */
};

extern const sr_op_class sr_read_class, sr_write_class, sr_tls_class, sr_shutdown_class;

bool sr_read_ready(sr_waiter *w);
bool sr_write_ready(sr_waiter *w);
bool sr_shut_ready(sr_waiter *w);
bool sr_shaken(sr_waiter *w);

sr_conn *sr_conn_new(sr_stream *s, bool accepted); /* takes over s; NULL without memory */
void sr_conn_unref(sr_conn *c);                    /* NULL is fine */
/* Return the results at once if possible, else wait. w is on the caller's stack; its data
 * is copied when needed. Raises what went wrong. */
int sr_conn_run(lua_State *L, sr_waiter *w, const sr_op_class *cls, double timeout);

#endif
