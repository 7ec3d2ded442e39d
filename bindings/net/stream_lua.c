/* stream_lua.c – the module `stream`: connect, pair, and what the faces share.
 *
 * connect waits on one operation from the name to the end of the TLS handshake; its
 * time-out covers all of it. When the task goes away in the middle, the stream is closed,
 * which ends whatever step it was in.
 */
#include "stream_lua.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---------------------------------------------------------------- shared */

void sr_net_target(char *buf, size_t size, const char *host, int port) {
    bool v6 = strchr(host, ':') != NULL;
    if (port)
        snprintf(buf, size, v6 ? "[%s]:%d" : "%s:%d", host, port);
    else
        snprintf(buf, size, v6 ? "[%s]" : "%s", host);
}

void sr_allow_unix(lua_State *L, const char *path) {
    char target[160];
    if (strlen(path) < sizeof target - 5) {
        snprintf(target, sizeof target, "unix:%s", path);
        sr_allow(L, SR_PERM_NET, target);
    } /* a longer one is refused as path of a socket */
}

void sr_allow_path(lua_State *L, const char *path) {
    sr_allow_unix(L, path);
    sr_allow(L, SR_PERM_WRITE, path);
}

/* tostring(address) → "127.0.0.1:80", "[::1]:80", "unix:/path". */
static int l_address_text(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_getfield(L, 1, "path") == LUA_TSTRING) {
        lua_pushfstring(L, "unix:%s", lua_tostring(L, -1));
        return 1;
    }
    lua_getfield(L, 1, "host");
    lua_getfield(L, 1, "port");
    const char *host = luaL_tolstring(L, -2, NULL);
    lua_pushfstring(L, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host,
                    luaL_tolstring(L, -2, NULL));
    return 1;
}

void sr_push_address(lua_State *L, const struct sockaddr *sa) {
    char host[128];
    sr_addr_host(sa, host, sizeof host);
    lua_createtable(L, 0, 2); /* address */
    lua_pushstring(L, host);
    lua_setfield(L, -2, sa->sa_family == AF_UNIX ? "path" : "host");
    if (sa->sa_family != AF_UNIX) {
        lua_pushinteger(L, sr_addr_port(sa));
        lua_setfield(L, -2, "port");
    }
    luaL_setmetatable(L, "stream.address");
}

/* ---------------------------------------------------------------- connect */

typedef struct connect_op {
    sr_op op;
    sr_stream *s;
} connect_op;

static int connect_finish(lua_State *L, sr_op *op) {
    connect_op *c = (connect_op *)op;
    const sr_err *err = sr_stream_error(c->s);
    if (!err && sr_stream_get_state(c->s) != SR_STREAM_OPEN)
        return sr_raise(L, SR_CANCELLED, "closed", "connecting to %s was given up",
                        sr_stream_name(c->s));
    if (err && sr_stream_get_state(c->s) != SR_STREAM_OPEN) return sr_throw(L, err);
    sr_push_conn(L, &c->s, false);
    return 1;
}

/* An error that came after the connection was open is found by the first read. */
static void on_connect_change(sr_stream *s, void *arg) {
    connect_op *c = arg;
    if (sr_stream_get_state(s) != SR_STREAM_OPEN && !sr_stream_error(s) &&
        sr_stream_get_state(s) != SR_STREAM_CLOSED)
        return;
    sr_stream_notify(s, NULL, NULL);
    sr_op_done(&c->op);
}

static void connect_cancel(sr_op *op) {
    sr_stream_close(((connect_op *)op)->s); /* notifies, and so ends the operation */
}

static void connect_free(sr_op *op) {
    connect_op *c = (connect_op *)op;
    if (c->s) {
        sr_stream_close(c->s);
        sr_stream_unref(c->s);
    }
    free(c);
}

static void connect_describe(const sr_op *op, char *buf, size_t size) {
    const connect_op *c = (const connect_op *)op;
    snprintf(buf, size, "stream.connect %s", c->s ? sr_stream_name(c->s) : "");
}

static const sr_op_class connect_class = {"stream.connect", connect_finish,
                                          connect_cancel, connect_free, connect_describe};

static const sr_arg connect_args[] = {
    {"host", SR_STRING, SR_NONEMPTY, NULL, "name or address; with port"},
    {"port", SR_INT, SR_POSITIVE, NULL, "1 to 65535", .max = 65535},
    {"unix", SR_STRING, SR_NONEMPTY, NULL, "path of a unix socket, instead of host"},
    {"timeout", SR_DURATION, 0, "30s", "name, connection and TLS handshake together"},
    {"attempt", SR_DURATION, 0, "5s", "for one address while others are left"},
    {"local_addr", SR_STRING, SR_NONEMPTY, NULL, "address to connect from"},
    {"tls", SR_ANY, 0, NULL, "true, or a table of TLS options"},
    {0}};
static const sr_spec connect_spec = {"stream.connect", "Open a connection.",
                                     connect_args};

/* Check who is to be reached, and whether this VM may. */
static void check_target(lua_State *L, const sr_connect *how) {
    char target[320];
    if (how->path && (how->host || how->port || how->local_addr))
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "stream.connect: unix stands alone, without host, port and local_addr");
    if (how->path) {
        sr_allow_unix(L, how->path);
        return;
    }
    if (!how->host || !how->port)
        sr_raise(L, SR_USAGE, "MISSING_ARGUMENT",
                 "stream.connect: give host and port, or unix");
    sr_net_target(target, sizeof target, how->host, how->port);
    sr_allow(L, SR_PERM_NET, target);
}

/* --- Open a connection: resolve, try the addresses in order, shake hands.
 * ---@param opts {host: string?, port: integer?, unix: string?, timeout: number|string?,
 * --- attempt: number|string?, local_addr: string?, tls: boolean|table?} host and port,
 * or
 * --- unix. timeout (30 s) covers everything, attempt (5 s) one address while others are
 * --- left. tls = {verify=true, ca=, cert=, key=, passphrase=, servername=host, alpn=,
 * --- min_version="1.2", max_version=, allow_truncated=false}
 * ---@return stream.connection
 * Raises dns, connect, tls, timeout, denied, usage. */
static int l_connect(lua_State *L) {
    sr_err err = {0};
    lua_settop(L, 1);
    sr_args(L, 1, &connect_spec);
    sr_connect how = {.host = sr_arg_string(L, 1, "host", NULL, NULL),
                      .port = (int)sr_arg_int(L, 1, "port", 0),
                      .path = sr_arg_string(L, 1, "unix", NULL, NULL),
                      .local_addr = sr_arg_string(L, 1, "local_addr", NULL, NULL),
                      .attempt = sr_arg_duration(L, 1, "attempt", 5),
                      .vm = sr_vm_of(L)};
    double timeout = sr_arg_duration(L, 1, "timeout", SR_WAIT_TIME);
    check_target(L, &how);
    if (sr_arg_push(L, 1, "tls") != LUA_TNIL &&
        (lua_istable(L, -1) || lua_toboolean(L, -1)))
        how.tls = sr_push_tls_ctx(L, -1, "stream.connect", false, &how.servername);
    sr_can_wait(L);
    connect_op *c = malloc(sizeof *c);
    if (!c) return luaL_error(L, "not enough memory");
    sr_op_init(&c->op, &connect_class, sr_loop_of(L));
    c->s = sr_stream_connect(sr_loop_of(L), &how, &err);
    if (!c->s) {
        free(c);
        return sr_throw(L, &err);
    }
    sr_stream_notify(c->s, on_connect_change, c);
    on_connect_change(c->s, c);
    return sr_wait(L, &c->op, timeout);
}

/* ---------------------------------------------------------------- pair */

typedef struct pair_box {
    sr_stream *s[2];
} pair_box;

static int l_pair_gc(lua_State *L) {
    pair_box *box = luaL_checkudata(L, 1, "stream.pair");
    for (int i = 0; i < 2; i++) {
        if (box->s[i]) {
            sr_stream_close(box->s[i]);
            sr_stream_unref(box->s[i]);
        }
        box->s[i] = NULL;
    }
    return 0;
}

static int open_pair(sr_loop *loop, sr_stream *ret_s[2], sr_err *err) {
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) != 0)
        return sr_fail_errno(err, errno, "cannot make a pair of sockets");
    ret_s[0] = sr_stream_open(loop, fd[0], err);
    ret_s[1] = sr_stream_open(loop, fd[1], err);
    return ret_s[0] && ret_s[1] ? 0 : -1;
}

/* --- Two ends of one pipe inside this process.
 * ---@return stream.connection, stream.connection
 * Raises io. */
static int l_pair(lua_State *L) {
    sr_err err = {0};
    pair_box *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (pair_box){{NULL, NULL}};
    luaL_setmetatable(L, "stream.pair");
    if (open_pair(sr_loop_of(L), box->s, &err) != 0) return sr_throw(L, &err);
    sr_push_conn(L, &box->s[0], false);
    sr_push_conn(L, &box->s[1], false);
    return 2;
}

/* ---------------------------------------------------------------- module */

static const luaL_Reg functions[] = {{"connect", l_connect},
                                     {"listen", sr_stream_l_listen},
                                     {"udp", sr_stream_l_udp},
                                     {"pair", l_pair},
                                     {NULL, NULL}};

int luaopen_stream(lua_State *L) {
    sr_open_stream_tls(L);
    sr_open_conn(L);
    sr_open_listener(L);
    sr_open_udp(L);
    luaL_newmetatable(L, "stream.address");
    lua_pushcfunction(L, l_address_text);
    lua_setfield(L, -2, "__tostring");
    luaL_newmetatable(L, "stream.pair");
    lua_pushcfunction(L, l_pair_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 2);
    luaL_newlib(L, functions);
    return 1;
}
