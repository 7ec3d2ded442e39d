/* stream_methods.c – connections as Lua objects: read, write, shutdown, starttls, close.
 *
 * Each method checks its arguments, describes what it waits for in a waiter, and lets
 * sr_conn_run answer from the buffers or wait.
 */
#include "stream_conn.h"

#include <string.h>

enum { LINE_MAX_DEFAULT = 256 * 1024, ALL_MAX_DEFAULT = 16 << 20 };

/* ---------------------------------------------------------------- methods: reading */

static sr_conn *check(lua_State *L, int idx) {
    sr_conn **box = sr_check_object(L, idx, SR_CONN_TYPE);
    if (!*box) sr_raise(L, SR_IO, "closed", "the connection was closed");
    return *box;
}

static const sr_arg read_args[] = {
    {"timeout", SR_DURATION, 0, "30s", "how long to wait for it"},
    {"max", SR_INT, SR_POSITIVE, NULL, "most bytes to take", .max = 1 << 30},
    {0}};
static const sr_spec read_spec = {"stream.read", "Read from a connection.", read_args};

/* Stack: connection, what, options (checked). */
static int start_reading(lua_State *L, sr_waiter *w, size_t bound) {
    if (w->c->reading)
        return sr_raise(L, SR_USAGE, "BUSY",
                        "another task is reading from %s; one task reads at a time",
                        sr_stream_name(w->c->s));
    double timeout = sr_arg_duration(L, 3, "timeout", SR_WAIT_TIME);
    sr_can_wait(L);
    w->ready = sr_read_ready;
    w->reads = w->c->reading = true;
    if (bound > SR_STREAM_BOUND) sr_stream_set_bound(w->c->s, bound);
    return sr_conn_run(L, w, &sr_read_class, timeout);
}

static size_t option_max(lua_State *L, size_t fallback) {
    return (size_t)sr_arg_int(L, 3, "max", (lua_Integer)fallback);
}

static int read_until(lua_State *L, sr_waiter *w, const char *sep, size_t len,
                      bool line) {
    if (len == 0 || len > SR_SEP_MAX)
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                        "stream.read_until: the separator has 1 to %d bytes, not %d",
                        SR_SEP_MAX, (int)len);
    w->how = SR_READ_UNTIL;
    w->line = line;
    w->max = option_max(L, LINE_MAX_DEFAULT);
    w->sep_len = len;
    memcpy(w->sep, sep, len);
    return start_reading(L, w, w->max + len + 2);
}

static int read_block(lua_State *L, sr_waiter *w) {
    int exact;
    lua_Integer n = lua_tointegerx(L, 2, &exact);
    if (!exact || n < 0 || n > 1 << 30)
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                        "stream.read: a number of bytes between 0 and 2^30, got %s",
                        luaL_tolstring(L, 2, NULL));
    w->how = SR_READ_EXACT;
    w->want = (size_t)n;
    return start_reading(L, w, w->want);
}

/* --- Read. what: n, exactly so many bytes; "line" (default), up to "\\n", which is
 * --- dropped with a "\\r" before it; "some", what there is, at least a byte; "all", up
 * to
 * --- the end. What was not returned stays in the buffer, also after an error.
 * ---@param what integer|"line"|"some"|"all"|nil
 * ---@param opts {timeout: number|string?, max: integer?}? 30 s; max bytes of a line
 * --- (256 KiB), of all (16 MiB), of some
 * ---@return string? data nil at a clean end
 * Raises io (codes ECONNRESET …, "eof" in the middle of a line or block, "closed"), tls
 * ("truncated" …), timeout, limit ("max"), usage ("BUSY": another task is reading). */
static int l_read(lua_State *L) {
    static const char *const words[] = {"line", "some", "all", NULL};
    sr_waiter w = {.c = check(L, 1)};
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
        w.how = SR_READ_ALL;
        w.max = option_max(L, ALL_MAX_DEFAULT);
        return start_reading(L, &w, w.max + 1);
    }
    const char *close = word ? sr_suggest(word, words) : NULL;
    return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                    "stream.read: a number, \"line\", \"some\" or \"all\", got %s%s%s",
                    luaL_tolstring(L, 2, NULL), close ? "; did you mean " : "",
                    close ? close : "");
}

/* --- Read up to a separator, which is dropped.
 * ---@param separator string 1 to 64 bytes
 * ---@param opts {timeout: number|string?, max: integer?}? 30 s, 256 KiB
 * ---@return string? data nil at a clean end
 * Raises as read does. */
static int l_read_until(lua_State *L) {
    size_t len;
    sr_waiter w = {.c = check(L, 1)};
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

/* --- Write all of it; returns when the kernel has taken the last byte. Tasks that write
 * at
 * --- the same time take turns.
 * ---@param data string|secret
 * ---@param opts {timeout: number|string?}? 30 s
 * Raises io (EPIPE …, "closed", "cut_off" after a write that timed out half-way), tls,
 * timeout. */
static int l_write(lua_State *L) {
    sr_waiter w = {.c = check(L, 1), .ready = sr_write_ready, .writes = true};
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
    return sr_conn_run(L, &w, &sr_write_class, timeout);
}

/* --- End our direction after what was written; reading goes on. Over TLS a close_notify
 * --- goes out first.
 * ---@param opts {timeout: number|string?}? 30 s
 * Raises io, tls, timeout. */
static int l_shutdown(lua_State *L) {
    sr_err err = {0};
    sr_waiter w = {.c = check(L, 1), .ready = sr_shut_ready};
    lua_settop(L, 2);
    sr_args(L, 2, &shutdown_spec);
    double timeout = sr_arg_duration(L, 2, "timeout", SR_WAIT_TIME);
    sr_can_wait(L);
    if (sr_stream_shutdown(w.c->s, &err) != 0) return sr_throw(L, &err);
    return sr_conn_run(L, &w, &sr_shutdown_class, timeout);
}

/* --- End both directions now. Closing twice is fine; a task that waits for the
 * connection
 * --- gets an io error with code "closed". Also __close. */
static int l_close(lua_State *L) {
    sr_conn **box = sr_check_object(L, 1, SR_CONN_TYPE);
    if (*box) sr_stream_close((*box)->s);
    return 0;
}

static int l_gc(lua_State *L) {
    sr_conn **box = luaL_checkudata(L, 1, SR_CONN_TYPE);
    sr_conn *c = *box;
    *box = NULL;
    if (c) sr_stream_close(c->s);
    sr_conn_unref(c);
    return 0;
}

/* ---------------------------------------------------------------- methods: TLS */

/* --- Wait until TLS is agreed.
 * ---@param opts {timeout: number|string?}? 30 s
 * ---@return stream.tls? info as from tls()
 * Raises tls with code X509_V_ERR_… or the alert's name, io, timeout. */
static int l_handshake(lua_State *L) {
    sr_waiter w = {.c = check(L, 1), .ready = sr_shaken};
    lua_settop(L, 2);
    sr_args(L, 2, &handshake_spec);
    double timeout = sr_arg_duration(L, 2, "timeout", SR_WAIT_TIME);
    sr_can_wait(L);
    return sr_conn_run(L, &w, &sr_tls_class, timeout);
}

/* --- What was agreed; waits for the handshake. nil when the connection is plain.
 * ---@return {version: string, cipher: string, alpn: string?, servername: string?,
 * --- verified: boolean, verify_error: string?, peer_chain: string[]}? info chain as PEM,
 * --- leaf first; verify_error is set when an unverified peer's certificate is not good
 * Raises as handshake does. */
static int l_tls(lua_State *L) {
    sr_conn *c = check(L, 1);
    if (!sr_stream_tls(c->s)) return 0;
    lua_settop(L, 1);
    return l_handshake(L);
}

/* --- Speak TLS from here on; bytes already received count as the peer's handshake.
 * ---@param opts table `server`, `timeout`, and the options of tls. A client that did not
 * --- connect by name needs servername, unless verify = false.
 * ---@return stream.tls info as from tls()
 * Raises tls, io, timeout, usage (TLS already, another task uses the connection). */
static int l_starttls(lua_State *L) {
    sr_err err = {0};
    const char *name = NULL;
    sr_waiter w = {.c = check(L, 1), .ready = sr_shaken};
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
    return sr_conn_run(L, &w, &sr_tls_class, timeout);
}

/* ---------------------------------------------------------------- fields */

/* --- Who is at the other end of a unix socket (SO_PEERCRED).
 * ---@return {pid: integer, uid: integer, gid: integer}
 * Raises usage for tcp, io ("closed"). */
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
    sr_conn **box = luaL_checkudata(L, 1, SR_CONN_TYPE);
    const char *key = luaL_checkstring(L, 2);
    struct sockaddr_storage sa = {0};
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
    sr_conn **box = luaL_checkudata(L, 1, SR_CONN_TYPE);
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
    sr_conn **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, SR_CONN_TYPE);
    sr_conn *c = sr_conn_new(*stream, accepted);
    if (!c) luaL_error(L, "not enough memory");
    *stream = NULL;
    *box = c;
}

sr_stream *sr_check_conn(lua_State *L, int idx) {
    return check(L, idx)->s;
}
