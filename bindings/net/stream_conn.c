/* stream_conn.c – connections as Lua objects: read, write, shutdown, starttls, close.
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
 * The list lives in a block of its own, which the userdata and the operations share.
 */
#include "stream_lua.h"

#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_DEFAULT = 256 * 1024, ALL_MAX_DEFAULT = 16 << 20, SEP_MAX = 64 };

typedef struct waiter waiter;

typedef struct conn {
    unsigned refs;
    sr_stream *s;
    waiter *first; /* in the order in which they began */
    bool accepted, reading, cut;
} conn;

typedef enum how { READ_SOME, READ_EXACT, READ_UNTIL, READ_ALL } how;

struct waiter {
    sr_op op;
    conn *c;
    waiter *next;
    bool (*ready)(waiter *w); /* done? then err or the result is set */
    bool outside;             /* holds the virtual clock */
    bool reads, writes;
    sr_err err;
    /* reading */
    how how;
    size_t want, max, scanned;
    char sep[SEP_MAX];
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

/* ---------------------------------------------------------------- life */

static void conn_unref(conn *c) {
    if (!c || --c->refs) return;
    sr_stream_notify(c->s, NULL, NULL);
    sr_stream_close(c->s);
    sr_stream_unref(c->s);
    free(c);
}

static void unlink_waiter(waiter *w) {
    for (waiter **at = &w->c->first; *at; at = &(*at)->next) {
        if (*at != w) continue;
        *at = w->next;
        break;
    }
    if (w->outside) sr_outside_end(w->op.loop);
    w->outside = false;
}

/* A reader is through, with a result, an error or cancelled. */
static void end_reading(waiter *w) {
    if (!w->reads) return;
    w->reads = false;
    w->c->reading = false;
    sr_stream_set_bound(w->c->s, 0);
}

/* Everybody looks again. A writer that is not through holds back the writers behind it.
 */
static void look(conn *c) {
    bool writing = false;
    c->refs++;
    for (waiter *w = c->first, *next; w; w = next) {
        next = w->next;
        if (w->writes && writing) continue;
        if (w->ready(w)) {
            unlink_waiter(w);
            sr_op_done(&w->op);
        } else {
            writing |= w->writes;
        }
    }
    conn_unref(c);
}

static void on_change(sr_stream *s, void *arg) {
    (void)s;
    look(arg);
}

static void op_cancel(sr_op *op) {
    waiter *w = (waiter *)op;
    conn *c = w->c;
    c->refs++;
    unlink_waiter(w);
    end_reading(w);
    if (w->writes && (w->started || w->at) && w->at < w->len) c->cut = true;
    sr_op_done(op);
    look(c);
    conn_unref(c);
}

static void op_free(sr_op *op) {
    waiter *w = (waiter *)op;
    end_reading(w);
    if (w->copy) sr_wipe(w->copy, w->len);
    free(w->copy);
    conn_unref(w->c);
    free(w);
}

static void describe(const sr_op *op, char *buf, size_t size) {
    const waiter *w = (const waiter *)op;
    snprintf(buf, size, "%s %s", op->cls->name, sr_stream_name(w->c->s));
}

static int op_finish(lua_State *L, sr_op *op);
static int result(lua_State *L, waiter *w);

static const sr_op_class read_class = {"stream.read", op_finish, op_cancel, op_free,
                                       describe};
static const sr_op_class write_class = {"stream.write", op_finish, op_cancel, op_free,
                                        describe};
static const sr_op_class tls_class = {"stream.handshake", op_finish, op_cancel, op_free,
                                      describe};
static const sr_op_class shutdown_class = {"stream.shutdown", op_finish, op_cancel,
                                           op_free, describe};

static int op_finish(lua_State *L, sr_op *op) {
    return result(L, (waiter *)op);
}

/* ---------------------------------------------------------------- reading */

static bool fail_closed(waiter *w, const char *verb) {
    (void)sr_fail(&w->err, SR_IO, "closed", "%s %s: the connection was closed", verb,
                  sr_stream_name(w->c->s));
    return true;
}

static bool fail_long(waiter *w) {
    const char *name = sr_stream_name(w->c->s);
    if (w->how == READ_ALL)
        (void)sr_fail(&w->err, SR_LIMIT, "max",
                      "reading from %s: more than %zu bytes; raise max", name, w->max);
    else
        (void)sr_fail(&w->err, SR_LIMIT, "max",
                      "reading from %s: no %s in %zu bytes; raise max", name,
                      w->line ? "end of line" : "separator", w->max);
    return true;
}

/* The peer ended before what was wanted came. */
static bool fail_end(waiter *w, size_t len) {
    (void)sr_fail(&w->err, SR_IO, "eof",
                  "reading from %s: the peer ended the connection after %zu bytes of %s",
                  sr_stream_name(w->c->s), len,
                  w->how == READ_EXACT ? "a block"
                  : w->line            ? "a line"
                                       : "a part");
    return true;
}

/* Look for the separator in what was not looked at yet. */
static bool scan(waiter *w, const char *data, size_t len) {
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
static bool found(waiter *w, const char *data, size_t len) {
    switch (w->how) {
    case READ_SOME: w->take = len < w->max ? len : w->max; return len > 0;
    case READ_EXACT: w->take = w->want; return len >= w->want;
    case READ_UNTIL: return scan(w, data, len);
    case READ_ALL:
        if (len > w->max) return fail_long(w);
        w->take = len;
        return sr_stream_eof(w->c->s);
    }
    return false;
}

static bool read_ready(waiter *w) {
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
static void set_write_error(waiter *w, const sr_err *err) {
    const sr_err *why = sr_stream_error(w->c->s);
    w->err = why && why->kind == SR_TLS ? *why : *err;
}

static bool write_ready(waiter *w) {
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

static bool shut_ready(waiter *w) {
    sr_stream *s = w->c->s;
    if (sr_stream_get_state(s) == SR_STREAM_CLOSED)
        return fail_closed(w, "shutting down");
    if (sr_stream_write_error(s)) {
        set_write_error(w, sr_stream_write_error(s));
        return true;
    }
    return sr_stream_is_shut(s);
}

static bool shaken(waiter *w) {
    sr_stream *s = w->c->s;
    if (sr_stream_get_state(s) == SR_STREAM_CLOSED) return fail_closed(w, "TLS with");
    if (sr_stream_get_state(s) == SR_STREAM_OPEN) return true;
    if (!sr_stream_error(s)) return false;
    w->err = *sr_stream_error(s);
    return true;
}

/* ---------------------------------------------------------------- waiting */

/* Push what the operation brought, or raise its error. */
static int result(lua_State *L, waiter *w) {
    conn *c = w->c;
    size_t len;
    bool reads = w->reads;
    end_reading(w);
    if (w->err.kind) return sr_throw(L, &w->err);
    if (!reads) {
        if (w->ready != shaken || !sr_stream_tls(c->s)) return 0;
        sr_push_tls_info(L, sr_stream_tls(c->s));
        return 1;
    }
    if (w->end && w->how != READ_ALL) {
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
static waiter *enlist(lua_State *L, const waiter *w, const sr_op_class *cls) {
    waiter *copy = malloc(sizeof *copy);
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
    waiter **at = &copy->c->first;
    while (*at)
        at = &(*at)->next;
    *at = copy;
    copy->outside = sr_stream_outside(copy->c->s) && !(copy->reads && copy->c->accepted);
    if (copy->outside) sr_outside_begin(copy->op.loop);
    return copy;
}

/* End at once if possible, else wait. w is on the C stack. */
static int run(lua_State *L, waiter *w, const sr_op_class *cls, double timeout) {
    bool queue = false;
    for (waiter *other = w->c->first; other; other = other->next)
        queue |= w->writes && other->writes;
    if (!queue && w->ready(w)) return result(L, w);
    waiter *lasting = enlist(L, w, cls);
    if (!lasting) {
        end_reading(w);
        return luaL_error(L, "not enough memory");
    }
    return sr_wait(L, &lasting->op, timeout);
}

/* ---------------------------------------------------------------- methods: reading */

static conn *check(lua_State *L, int idx) {
    conn **box = sr_check_object(L, idx, SR_CONN_TYPE);
    if (!*box) sr_raise(L, SR_IO, "closed", "the connection was closed");
    return *box;
}

static const sr_arg read_args[] = {
    {"timeout", SR_DURATION, 0, "30s", "how long to wait for it"},
    {"max", SR_INT, SR_POSITIVE, NULL, "most bytes to take", .max = 1 << 30},
    {0}};
static const sr_spec read_spec = {"stream.read", "Read from a connection.", read_args};

/* Stack: connection, what, options (checked). */
static int start_reading(lua_State *L, waiter *w, size_t bound) {
    if (w->c->reading)
        return sr_raise(L, SR_USAGE, "BUSY",
                        "another task is reading from %s; one task reads at a time",
                        sr_stream_name(w->c->s));
    double timeout = sr_arg_duration(L, 3, "timeout", SR_WAIT_TIME);
    sr_can_wait(L);
    w->ready = read_ready;
    w->reads = w->c->reading = true;
    if (bound > SR_STREAM_BOUND) sr_stream_set_bound(w->c->s, bound);
    return run(L, w, &read_class, timeout);
}

static size_t option_max(lua_State *L, size_t fallback) {
    return (size_t)sr_arg_int(L, 3, "max", (lua_Integer)fallback);
}

static int read_until(lua_State *L, waiter *w, const char *sep, size_t len, bool line) {
    if (len == 0 || len > SEP_MAX)
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                        "stream.read_until: the separator has 1 to %d bytes, not %d",
                        SEP_MAX, (int)len);
    w->how = READ_UNTIL;
    w->line = line;
    w->max = option_max(L, LINE_MAX_DEFAULT);
    w->sep_len = len;
    memcpy(w->sep, sep, len);
    return start_reading(L, w, w->max + len + 2);
}

static int read_block(lua_State *L, waiter *w) {
    int exact;
    lua_Integer n = lua_tointegerx(L, 2, &exact);
    if (!exact || n < 0 || n > 1 << 30)
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                        "stream.read: a number of bytes between 0 and 2^30, got %s",
                        luaL_tolstring(L, 2, NULL));
    w->how = READ_EXACT;
    w->want = (size_t)n;
    return start_reading(L, w, w->want);
}

/* conn:read(what?, {timeout=, max=}?) → string, or nil at a clean end
 *   n        exactly n bytes          "line"  up to "\n", which is dropped with its "\r"
 *   "some"   what there is, at least one byte     "all"  everything up to the end
 * Default "line". Errors: io (reset, "eof" in the middle of a line or block, "closed"),
 * tls ("truncated"), timeout, limit, usage (another task is reading). Bytes that were not
 * returned stay in the buffer, also after an error. */
static int l_read(lua_State *L) {
    static const char *const words[] = {"line", "some", "all", NULL};
    waiter w = {.c = check(L, 1)};
    lua_settop(L, 3);
    sr_args(L, 3, &read_spec);
    if (lua_type(L, 2) == LUA_TNUMBER) return read_block(L, &w);
    const char *word = lua_isnil(L, 2) ? "line" : lua_tostring(L, 2);
    if (word && strcmp(word, "line") == 0) return read_until(L, &w, "\n", 1, true);
    if (word && strcmp(word, "some") == 0) {
        w.max = option_max(L, SR_STREAM_BOUND);
        return start_reading(L, &w, 0);
    }
    if (word && strcmp(word, "all") == 0) {
        w.how = READ_ALL;
        w.max = option_max(L, ALL_MAX_DEFAULT);
        return start_reading(L, &w, w.max + 1);
    }
    const char *close = word ? sr_suggest(word, words) : NULL;
    return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                    "stream.read: a number, \"line\", \"some\" or \"all\", got %s%s%s",
                    luaL_tolstring(L, 2, NULL), close ? "; did you mean " : "",
                    close ? close : "");
}

/* conn:read_until(separator, {timeout=, max=}?) → string before the separator, which is
 * dropped; nil at a clean end. Errors as for read. */
static int l_read_until(lua_State *L) {
    size_t len;
    waiter w = {.c = check(L, 1)};
    const char *sep = luaL_checklstring(L, 2, &len);
    lua_settop(L, 3);
    sr_args(L, 3, &read_spec);
    return read_until(L, &w, sep, len, false);
}

/* ---------------------------------------------------------------- methods: writing */

static const sr_arg time_args[] = {
    {"timeout", SR_DURATION, 0, "30s", "how long it may take"}, {0}};
static const sr_spec write_spec = {"stream.write", "Write to a connection.", time_args};
static const sr_spec shutdown_spec = {"stream.shutdown", "End our direction.", time_args};
static const sr_spec handshake_spec = {"stream.handshake", "Wait for TLS.", time_args};

/* conn:write(data, {timeout=}?): data is a string or a secret. Returns when the kernel
 * has taken all of it. Tasks that write at the same time take turns. Errors: io, tls,
 * timeout. */
static int l_write(lua_State *L) {
    waiter w = {.c = check(L, 1), .ready = write_ready, .writes = true};
    lua_settop(L, 3);
    sr_args(L, 3, &write_spec);
    w.data = sr_check_secret(L, 2, &w.len);
    double timeout = sr_arg_duration(L, 3, "timeout", SR_WAIT_TIME);
    if (w.c->cut)
        return sr_raise(
            L, SR_IO, "cut_off",
            "writing to %s: an earlier write was cut off in the middle; the peer "
            "cannot make sense of more",
            sr_stream_name(w.c->s));
    sr_can_wait(L);
    return run(L, &w, &write_class, timeout);
}

/* conn:shutdown({timeout=}?): end our direction after what was written; reading goes on.
 * Over TLS a close_notify goes out first. */
static int l_shutdown(lua_State *L) {
    sr_err err = {0};
    waiter w = {.c = check(L, 1), .ready = shut_ready};
    lua_settop(L, 2);
    sr_args(L, 2, &shutdown_spec);
    double timeout = sr_arg_duration(L, 2, "timeout", SR_WAIT_TIME);
    sr_can_wait(L);
    if (sr_stream_shutdown(w.c->s, &err) != 0) return sr_throw(L, &err);
    return run(L, &w, &shutdown_class, timeout);
}

/* conn:close(): end both directions now. Closing twice is fine; tasks that wait for the
 * connection get an io error with code "closed". */
static int l_close(lua_State *L) {
    conn **box = sr_check_object(L, 1, SR_CONN_TYPE);
    if (*box) sr_stream_close((*box)->s);
    return 0;
}

static int l_gc(lua_State *L) {
    conn **box = luaL_checkudata(L, 1, SR_CONN_TYPE);
    conn *c = *box;
    *box = NULL;
    if (c) sr_stream_close(c->s);
    conn_unref(c);
    return 0;
}

/* ---------------------------------------------------------------- methods: TLS */

/* conn:handshake({timeout=}?) → as conn:tls(); waits until TLS is agreed, raises why not.
 */
static int l_handshake(lua_State *L) {
    waiter w = {.c = check(L, 1), .ready = shaken};
    lua_settop(L, 2);
    sr_args(L, 2, &handshake_spec);
    double timeout = sr_arg_duration(L, 2, "timeout", SR_WAIT_TIME);
    sr_can_wait(L);
    return run(L, &w, &tls_class, timeout);
}

/* conn:tls() → {version=, cipher=, alpn=, servername=, verified=, verify_error=,
 * peer_chain = {PEM, …}}; nil when the connection is plain. Waits for the handshake. */
static int l_tls(lua_State *L) {
    conn *c = check(L, 1);
    if (!sr_stream_tls(c->s)) return 0;
    lua_settop(L, 1);
    return l_handshake(L);
}

/* conn:starttls{server=, timeout=, …options of tls} → as conn:tls(): speak TLS from here
 * on. A client needs servername unless it connected by name, or verify = false. */
static int l_starttls(lua_State *L) {
    sr_err err = {0};
    const char *name = NULL;
    waiter w = {.c = check(L, 1), .ready = shaken};
    lua_settop(L, 2);
    lua_newtable(L); /* conn, options, tls options */
    bool server = false;
    double timeout = SR_WAIT_TIME;
    if (lua_istable(L, 2)) {
        server = sr_arg_bool(L, 2, "server", false);
        if (lua_getfield(L, 2, "timeout") != LUA_TNIL) timeout = sr_check_duration(L, -1);
        lua_pop(L, 1);
        for (lua_pushnil(L); lua_next(L, 2);) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2); /* …, key, key, value */
            lua_rawset(L, 3);
        }
        lua_pushnil(L);
        lua_setfield(L, 3, "server");
        lua_pushnil(L);
        lua_setfield(L, 3, "timeout");
    }
    if (w.c->first || w.c->reading)
        return sr_raise(L, SR_USAGE, "BUSY", "stream.starttls: another task uses %s",
                        sr_stream_name(w.c->s));
    sr_can_wait(L);
    sr_tls_ctx *ctx = sr_push_tls_ctx(L, 3, "stream.starttls", server, &name);
    if (!server && !name) name = sr_stream_host(w.c->s);
    if (!server && !name && sr_arg_bool(L, 3, "verify", true))
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                        "stream.starttls: servername is missing: the name to verify");
    if (sr_stream_starttls(w.c->s, ctx, name, &err) != 0) return sr_throw(L, &err);
    return run(L, &w, &tls_class, timeout);
}

/* ---------------------------------------------------------------- fields */

/* conn:peer_cred() → {pid=, uid=, gid=} of the process at the other end of a unix socket.
 */
static int l_peer_cred(lua_State *L) {
    int pid, uid, gid;
    sr_err err = {0};
    if (sr_stream_peer_cred(check(L, 1)->s, &pid, &uid, &gid, &err) != 0)
        return sr_throw(L, &err);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, pid);
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, uid);
    lua_setfield(L, -2, "uid");
    lua_pushinteger(L, gid);
    lua_setfield(L, -2, "gid");
    return 1;
}

/* Fields beside the methods (upvalue 1): peer and local_addr as {host=, port=} or
 * {path=}, nil once closed; closed. */
static int l_index(lua_State *L) {
    conn **box = luaL_checkudata(L, 1, SR_CONN_TYPE);
    const char *key = luaL_checkstring(L, 2);
    struct sockaddr_storage sa;
    bool peer = strcmp(key, "peer") == 0;
    if (peer || strcmp(key, "local_addr") == 0) {
        if (!*box || !(peer ? sr_stream_peer : sr_stream_local)((*box)->s, &sa)) return 0;
        sr_push_address(L, (struct sockaddr *)&sa);
        return 1;
    }
    if (strcmp(key, "closed") == 0) {
        lua_pushboolean(L, !*box || sr_stream_get_state((*box)->s) == SR_STREAM_CLOSED);
        return 1;
    }
    lua_getfield(L, lua_upvalueindex(1), key);
    return 1;
}

static int l_tostring(lua_State *L) {
    conn **box = luaL_checkudata(L, 1, SR_CONN_TYPE);
    lua_pushfstring(L, "stream.connection (%s)",
                    *box ? sr_stream_name((*box)->s) : "closed");
    return 1;
}

static const luaL_Reg methods[] = {
    {"read", l_read},           {"read_until", l_read_until},
    {"write", l_write},         {"shutdown", l_shutdown},
    {"close", l_close},         {"starttls", l_starttls},
    {"handshake", l_handshake}, {"tls", l_tls},
    {"peer_cred", l_peer_cred}, {NULL, NULL}};

static const luaL_Reg meta[] = {
    {"__gc", l_gc}, {"__close", l_close}, {"__tostring", l_tostring}, {NULL, NULL}};

void sr_open_conn(lua_State *L) {
    luaL_newmetatable(L, SR_CONN_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void sr_push_conn(lua_State *L, sr_stream **stream, bool accepted) {
    conn **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, SR_CONN_TYPE);
    conn *c = calloc(1, sizeof *c);
    if (!c) luaL_error(L, "not enough memory");
    c->refs = 1;
    c->s = *stream;
    c->accepted = accepted;
    *stream = NULL;
    *box = c;
    sr_stream_notify(c->s, on_change, c);
}

sr_stream *sr_check_conn(lua_State *L, int idx) {
    return check(L, idx)->s;
}
