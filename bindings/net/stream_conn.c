/* stream_conn.c – waiting for a connection: readers, writers, handshakes, ends.
 *
 * A connection keeps a list of operations that wait for it. Each has a `ready` function
 * that looks whether it can end now; after every change of the stream all of them look,
 * in the order in which they began. So:
 *   - a call that can be answered from the buffers never waits;
 *   - one task reads at a time, a second one is told so;
 *   - writers take turns, each message goes out whole;
 *   - a cancelled read leaves what it saw in the buffer;
 *   - a write that is cancelled after its first byte leaves the peer with half a message:
 *     every later write fails (code "cut_off").
 *
 * The list lives in a block of its own, which the userdata and the operations share. The
 * Lua methods are in stream_methods.c.
 */
#include "stream_conn.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- life */

void sr_conn_unref(sr_conn *c) {
    if (!c || --c->refs) return;
    sr_stream_notify(c->s, NULL, NULL);
    sr_stream_close(c->s);
    sr_stream_unref(c->s);
    free(c);
}

static void unlink_waiter(sr_waiter *w) {
    for (sr_waiter **at = &w->c->first; *at; at = &(*at)->next) {
        if (*at != w) continue;
        *at = w->next;
        break;
    }
    if (w->outside) sr_outside_end(w->op.loop);
    w->outside = false;
}

/* A reader is through, with a result, an error or cancelled. */
static void end_reading(sr_waiter *w) {
    if (!w->reads) return;
    w->reads = false;
    w->c->reading = false;
    sr_stream_set_bound(w->c->s, 0);
}

/* Everybody looks again; the caller holds a reference. A writer that is not through holds
 * back the writers behind it.
 */
static void look(sr_conn *c) {
    bool writing = false;
    for (sr_waiter *w = c->first, *next; w; w = next) {
        next = w->next;
        if (w->writes && writing) continue;
        if (w->ready(w)) {
            unlink_waiter(w);
            sr_op_done(&w->op);
        } else {
            writing |= w->writes;
        }
    }
}

static void on_change(sr_stream *s, void *arg) {
    sr_conn *c = arg;
    (void)s;
    c->refs++;
    look(c);
    sr_conn_unref(c);
}

static void op_cancel(sr_op *op) {
    sr_waiter *w = (sr_waiter *)op;
    sr_conn *c = w->c;
    c->refs++;
    unlink_waiter(w);
    end_reading(w);
    if (w->writes && (w->started || w->at) && w->at < w->len) c->cut = true;
    sr_op_done(op);
    look(c);
    sr_conn_unref(c);
}

static void op_free(sr_op *op) {
    sr_waiter *w = (sr_waiter *)op;
    end_reading(w);
    if (w->copy) sr_wipe(w->copy, w->len);
    free(w->copy);
    sr_conn_unref(w->c);
    free(w);
}

static void describe(const sr_op *op, char *buf, size_t size) {
    const sr_waiter *w = (const sr_waiter *)op;
    snprintf(buf, size, "%s %s", op->cls->name, sr_stream_name(w->c->s));
}

static int op_finish(lua_State *L, sr_op *op);
static int result(lua_State *L, sr_waiter *w);

const sr_op_class sr_read_class = {"stream.read", op_finish, op_cancel, op_free,
                                   describe};
const sr_op_class sr_write_class = {"stream.write", op_finish, op_cancel, op_free,
                                    describe};
const sr_op_class sr_tls_class = {"stream.handshake", op_finish, op_cancel, op_free,
                                  describe};
const sr_op_class sr_shutdown_class = {"stream.shutdown", op_finish, op_cancel, op_free,
                                       describe};

static int op_finish(lua_State *L, sr_op *op) {
    return result(L, (sr_waiter *)op);
}

/* ---------------------------------------------------------------- reading */

static bool fail_closed(sr_waiter *w, const char *verb) {
    (void)sr_fail(&w->err, SR_IO, "closed", "%s %s: the connection was closed", verb,
                  sr_stream_name(w->c->s));
    return true;
}

static bool fail_long(sr_waiter *w) {
    const char *name = sr_stream_name(w->c->s);
    if (w->how == SR_READ_ALL)
        (void)sr_fail(&w->err, SR_LIMIT, "max",
                      "reading from %s: more than %zu bytes; raise max", name, w->max);
    else
        (void)sr_fail(&w->err, SR_LIMIT, "max",
                      "reading from %s: no %s in %zu bytes; raise max", name,
                      w->line ? "end of line" : "separator", w->max);
    return true;
}

/* The peer ended before what was wanted came. */
static bool fail_end(sr_waiter *w, size_t len) {
    (void)sr_fail(&w->err, SR_IO, "eof",
                  "reading from %s: the peer ended the connection after %zu bytes of %s",
                  sr_stream_name(w->c->s), len,
                  w->how == SR_READ_EXACT ? "a block"
                  : w->line               ? "a line"
                                          : "a part");
    return true;
}

/* Look for the separator in what was not looked at yet. */
static bool scan(sr_waiter *w, const char *data, size_t len) {
    const char *at = memmem(data + w->scanned, len - w->scanned, w->sep, w->sep_len);
    if (!at) {
        w->scanned = len >= w->sep_len ? len - w->sep_len + 1 : 0;
        return len > w->max + w->sep_len && fail_long(w);
    }
    w->take = (size_t)(at - data);
    if (w->take > w->max) return fail_long(w);
    w->drop = w->sep_len;
    if (w->line && w->take && data[w->take - 1] == '\r') {
        w->take--;
        w->drop++;
    }
    return true;
}

/* Is there what was asked for? */
static bool found(sr_waiter *w, const char *data, size_t len) {
    switch (w->how) {
    case SR_READ_SOME: w->take = len < w->max ? len : w->max; return len > 0;
    case SR_READ_EXACT: w->take = w->want; return len >= w->want;
    case SR_READ_UNTIL: return scan(w, data, len);
    case SR_READ_ALL:
        if (len > w->max) return fail_long(w);
        w->take = len;
        return sr_stream_eof(w->c->s);
    }
    return false;
}

bool sr_read_ready(sr_waiter *w) {
    sr_stream *s = w->c->s;
    size_t len;
    if (sr_stream_get_state(s) == SR_STREAM_CLOSED) return fail_closed(w, "reading from");
    const char *data = sr_stream_peek(s, &len);
    if (found(w, data, len)) return true;
    const sr_err *err = sr_stream_error(s);
    if (err) {
        w->err = *err;
        return true;
    }
    if (!sr_stream_eof(s)) return false;
    w->end = len == 0;
    return w->end || fail_end(w, len);
}

/* ---------------------------------------------------------------- writing */

/* The reason the peer gave in an alert says more than the reset that came with it. */
static void set_write_error(sr_waiter *w, const sr_err *err) {
    const sr_err *why = sr_stream_error(w->c->s);
    w->err = why && why->kind == SR_TLS ? *why : *err;
}

bool sr_write_ready(sr_waiter *w) {
    sr_stream *s = w->c->s;
    sr_err err = {0};
    if (sr_stream_get_state(s) == SR_STREAM_CLOSED) return fail_closed(w, "writing to");
    while (w->at < w->len) {
        size_t n = 0;
        if (sr_stream_write(s, w->data + w->at, w->len - w->at, &n, &err) != 0) {
            set_write_error(w, &err);
            return true;
        }
        if (!n) return false;
        w->at += n;
    }
    if (sr_stream_write_error(s)) {
        set_write_error(w, sr_stream_write_error(s));
        return true;
    }
    return sr_stream_queued(s) == 0;
}

bool sr_shut_ready(sr_waiter *w) {
    sr_stream *s = w->c->s;
    if (sr_stream_get_state(s) == SR_STREAM_CLOSED)
        return fail_closed(w, "shutting down");
    if (sr_stream_write_error(s)) {
        set_write_error(w, sr_stream_write_error(s));
        return true;
    }
    return sr_stream_is_shut(s);
}

bool sr_shaken(sr_waiter *w) {
    sr_stream *s = w->c->s;
    if (sr_stream_get_state(s) == SR_STREAM_CLOSED) return fail_closed(w, "TLS with");
    if (sr_stream_get_state(s) == SR_STREAM_OPEN) return true;
    if (!sr_stream_error(s)) return false;
    w->err = *sr_stream_error(s);
    return true;
}

/* ---------------------------------------------------------------- waiting */

/* Push what the operation brought, or raise its error. */
static int result(lua_State *L, sr_waiter *w) {
    sr_conn *c = w->c;
    size_t len;
    bool reads = w->reads;
    end_reading(w);
    if (w->err.kind) return sr_throw(L, &w->err);
    if (!reads) {
        if (w->ready != sr_shaken || !sr_stream_tls(c->s)) return 0;
        sr_push_tls_info(L, sr_stream_tls(c->s));
        return 1;
    }
    if (w->end && w->how != SR_READ_ALL) {
        lua_pushnil(L);
        return 1;
    }
    const char *data = sr_stream_peek(c->s, &len);
    size_t take = w->take < len ? w->take : len;
    lua_pushlstring(L, data, take);
    sr_stream_consume(c->s, take + w->drop);
    return 1;
}

/* Make a lasting copy of w and append it. NULL without memory. */
static sr_waiter *enlist(lua_State *L, const sr_waiter *w, const sr_op_class *cls) {
    sr_waiter *copy = malloc(sizeof *copy);
    if (!copy) return NULL;
    *copy = *w;
    sr_op_init(&copy->op, cls, sr_loop_of(L));
    if (w->writes) {
        copy->len -= copy->at;
        copy->copy = malloc(copy->len + 1);
        if (!copy->copy) {
            free(copy);
            return NULL;
        }
        memcpy(copy->copy, w->data + w->at, copy->len);
        copy->data = copy->copy;
        copy->started = w->at > 0;
        copy->at = 0;
    }
    copy->c->refs++;
    copy->next = NULL;
    sr_waiter **at = &copy->c->first;
    while (*at)
        at = &(*at)->next;
    *at = copy;
    copy->outside = sr_stream_outside(copy->c->s) && !(copy->reads && copy->c->accepted);
    if (copy->outside) sr_outside_begin(copy->op.loop);
    return copy;
}

/* End at once if possible, else wait. w is on the C stack. */
int sr_conn_run(lua_State *L, sr_waiter *w, const sr_op_class *cls, double timeout) {
    bool queue = false;
    for (sr_waiter *other = w->c->first; other; other = other->next)
        queue |= w->writes && other->writes;
    if (!queue && w->ready(w)) return result(L, w);
    sr_waiter *lasting = enlist(L, w, cls);
    if (!lasting) {
        end_reading(w);
        return luaL_error(L, "not enough memory");
    }
    return sr_wait(L, &lasting->op, timeout);
}

sr_conn *sr_conn_new(sr_stream *s, bool accepted) {
    sr_conn *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->refs = 1;
    c->s = s;
    c->accepted = accepted;
    sr_stream_notify(s, on_change, c);
    return c;
}
