/* stream_server.c – listeners as Lua objects.
 *
 * Any number of tasks may wait in accept; connections go to them in the order in which
 * they began to wait. Accepting never fails for what a client did: a TLS handshake runs
 * after it, and the connection's first read, write or handshake() tells how that went.
 */
#include "stream_lua.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct accept_op accept_op;

typedef struct listener {
    unsigned refs;
    sr_listener *l; /* NULL once closed */
    accept_op *first;
    char name[160];
} listener;

struct accept_op {
    sr_op op;
    listener *box;
    accept_op *next;
    sr_stream *s;
    sr_err err;
};

/* ---------------------------------------------------------------- waiting */

static void listener_unref(listener *box) {
    if (!box || --box->refs) return;
    sr_listener_free(box->l);
    free(box);
}

static void unlink_op(accept_op *a) {
    for (accept_op **at = &a->box->first; *at; at = &(*at)->next) {
        if (*at != a) continue;
        *at = a->next;
        return;
    }
}

/* Hand waiting connections to waiting tasks. */
static void serve(listener *box) {
    while (box->first) {
        accept_op *a = box->first;
        if (box->l)
            a->s = sr_listener_accept(box->l, &a->err);
        else
            (void)sr_fail(&a->err, SR_IO, "closed", "%s: the listener was closed",
                          box->name);
        if (!a->s && !a->err.kind) return;
        unlink_op(a);
        sr_op_done(&a->op);
    }
}

static void on_ready(sr_listener *l, void *arg) {
    (void)l;
    serve(arg);
}

static int accept_finish(lua_State *L, sr_op *op) {
    accept_op *a = (accept_op *)op;
    if (a->err.kind) return sr_throw(L, &a->err);
    sr_push_conn(L, &a->s, true);
    return 1;
}

static void accept_cancel(sr_op *op) {
    unlink_op((accept_op *)op);
    sr_op_done(op);
}

static void accept_free(sr_op *op) {
    accept_op *a = (accept_op *)op;
    if (a->s) {
        sr_stream_close(a->s);
        sr_stream_unref(a->s);
    }
    listener_unref(a->box);
    free(a);
}

static void accept_describe(const sr_op *op, char *buf, size_t size) {
    snprintf(buf, size, "stream.accept %s", ((const accept_op *)op)->box->name);
}

static const sr_op_class accept_class = {"stream.accept", accept_finish, accept_cancel,
                                         accept_free, accept_describe};

/* ---------------------------------------------------------------- methods */

static listener *check(lua_State *L) {
    listener **box = sr_check_object(L, 1, SR_LISTENER_TYPE);
    if (!*box || !(*box)->l) sr_raise(L, SR_IO, "closed", "the listener was closed");
    return *box;
}

static const sr_arg accept_args[] = {
    {"timeout", SR_DURATION, 0, NULL, "how long to wait; without it for ever"}, {0}};
static const sr_spec accept_spec = {"stream.accept", "Wait for a client.", accept_args};

/* --- Wait for a client, without a time-out of its own. A TLS handshake runs after it;
 * the
 * --- connection's first read, write or handshake() tells how that went.
 * ---@param opts {timeout: number|string?}?
 * ---@return stream.connection
 * Raises io ("closed", out of descriptors), timeout. */
static int l_accept(lua_State *L) {
    listener *box = check(L);
    lua_settop(L, 2);
    sr_args(L, 2, &accept_spec);
    double timeout = sr_arg_duration(L, 2, "timeout", SR_FOREVER);
    sr_can_wait(L);
    accept_op *a = calloc(1, sizeof *a);
    if (!a) return luaL_error(L, "not enough memory");
    sr_op_init(&a->op, &accept_class, sr_loop_of(L));
    a->box = box;
    box->refs++;
    accept_op **at = &box->first;
    while (*at)
        at = &(*at)->next;
    *at = a;
    serve(box);
    return sr_wait(L, &a->op, timeout);
}

/* --- Stop listening; tasks in accept get an io error with code "closed". Also __close.
 */
static int l_close(lua_State *L) {
    listener **box = sr_check_object(L, 1, SR_LISTENER_TYPE);
    if (!*box || !(*box)->l) return 0;
    sr_listener_free((*box)->l);
    (*box)->l = NULL;
    serve(*box);
    return 0;
}

static int l_gc(lua_State *L) {
    listener **box = luaL_checkudata(L, 1, SR_LISTENER_TYPE);
    if (*box && (*box)->l) l_close(L);
    listener_unref(*box);
    *box = NULL;
    return 0;
}

/* --- Connections accepted from now on use these options (a renewed certificate).
 * ---@param tls table? nil: plain
 * Raises usage, not_found, denied. */
static int l_set_tls(lua_State *L) {
    listener *box = check(L);
    lua_settop(L, 2);
    if (lua_isnil(L, 2))
        sr_listener_set_tls(box->l, NULL);
    else
        sr_listener_set_tls(box->l, sr_push_tls_ctx(L, 2, "stream.set_tls", true, NULL));
    return 0;
}

/* Fields beside the methods (upvalue 1): port; address, host or path; closed. */
static int l_index(lua_State *L) {
    listener **box = luaL_checkudata(L, 1, SR_LISTENER_TYPE);
    const char *key = luaL_checkstring(L, 2);
    struct sockaddr_storage sa;
    char host[128];
    bool open = *box && (*box)->l;
    if (strcmp(key, "closed") == 0) {
        lua_pushboolean(L, !open);
        return 1;
    }
    if (strcmp(key, "port") == 0 || strcmp(key, "address") == 0) {
        if (!open) return 0;
        sr_listener_address((*box)->l, &sa);
        sr_addr_host((struct sockaddr *)&sa, host, sizeof host);
        if (*key == 'a')
            lua_pushstring(L, host);
        else if (sa.ss_family == AF_UNIX)
            return 0;
        else
            lua_pushinteger(L, sr_listener_port((*box)->l));
        return 1;
    }
    lua_getfield(L, lua_upvalueindex(1), key);
    return 1;
}

static int l_tostring(lua_State *L) {
    listener **box = luaL_checkudata(L, 1, SR_LISTENER_TYPE);
    lua_pushfstring(L, "stream.listener (%s)", *box ? (*box)->name : "closed");
    return 1;
}

static const luaL_Reg methods[] = {
    {"accept", l_accept}, {"close", l_close}, {"set_tls", l_set_tls}, {NULL, NULL}};

static const luaL_Reg meta[] = {
    {"__gc", l_gc}, {"__close", l_close}, {"__tostring", l_tostring}, {NULL, NULL}};

void sr_open_listener(lua_State *L) {
    luaL_newmetatable(L, SR_LISTENER_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

/* ---------------------------------------------------------------- listen */

static const sr_arg listen_args[] = {
    {"host", SR_STRING, SR_NONEMPTY, "127.0.0.1", "address to listen on"},
    {"port", SR_INT, 0, "0", "port; 0: any free one", .max = 65535},
    {"unix", SR_STRING, SR_NONEMPTY, NULL, "path of a unix socket, instead of host"},
    {"mode", SR_STRING, SR_NONEMPTY, "0600", "of the unix socket, in octal"},
    {"tls", SR_ANY, 0, "false", "TLS options; cert and key at least"},
    {0}};
static const sr_spec listen_spec = {"stream.listen", "Listen.", listen_args};

static int check_mode(lua_State *L) {
    const char *text = sr_arg_string(L, 1, "mode", "0600", NULL);
    char *end;
    long mode = strtol(text, &end, 8);
    if (*end || mode <= 0 || mode > 0777)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "stream.listen: mode is octal such as \"0660\", got %s", text);
    return (int)mode;
}

static void check_place(lua_State *L, sr_listen *how) {
    char target[160];
    if (how->path && (how->host || how->port))
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "stream.listen: unix stands alone, without host and port");
    if (how->path) {
        how->mode = check_mode(L);
        sr_allow_path(L, how->path);
        return;
    }
    if (!how->host) how->host = "127.0.0.1";
    sr_net_target(target, sizeof target, how->host, how->port);
    sr_allow(L, SR_PERM_NET, target);
}

/* --- Listen.
 * ---@param opts {host: string?, port: integer?, unix: string?, mode: string?, tls:
 * table?}?
 * --- host "127.0.0.1", port 0 (any free one, see .port), or unix with mode "0600". tls =
 * --- {cert=, key=, passphrase=, certs={{cert=,key=},…}, client_auth="none", ca=,
 * --- verify=true, alpn=, min_version="1.2", max_version=, allow_truncated=false}
 * ---@return stream.listener with port, address, closed
 * Raises conflict (in use), io (refused by the system), denied, usage. */
int sr_stream_l_listen(lua_State *L) {
    sr_err err = {0};
    struct sockaddr_storage sa;
    lua_settop(L, 1);
    sr_args(L, 1, &listen_spec);
    sr_listen how = {.host = sr_arg_string(L, 1, "host", NULL, NULL),
                     .port = (int)sr_arg_int(L, 1, "port", 0),
                     .path = sr_arg_string(L, 1, "unix", NULL, NULL)};
    check_place(L, &how);
    if (sr_arg_push(L, 1, "tls") != LUA_TNIL && lua_toboolean(L, -1))
        how.tls = sr_push_tls_ctx(L, -1, "stream.listen", true, NULL);
    listener **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, SR_LISTENER_TYPE);
    listener *l = calloc(1, sizeof *l);
    if (!l) return luaL_error(L, "not enough memory");
    l->refs = 1;
    *box = l;
    l->l = sr_listener_new(sr_loop_of(L), &how, on_ready, l, &err);
    if (!l->l) return sr_throw(L, &err);
    sr_listener_address(l->l, &sa);
    sr_addr_text((struct sockaddr *)&sa, l->name, sizeof l->name);
    return 1;
}
