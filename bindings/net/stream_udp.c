/* stream_udp.c – datagrams.
 *
 * Received datagrams wait in a bounded queue; beyond QUEUE_MAX reading stops and the
 * kernel drops what it cannot keep, as UDP does. One task receives at a time. Sending
 * goes to the kernel at once or waits for it.
 */
#include "data/digest.h"
#include "stream_lua.h"

#include <stdlib.h>
#include <string.h>

enum { QUEUE_MAX = 256, DATAGRAM_MAX = 65536, PORT_FIRST = 1024, PORT_TRIES = 16 };

typedef struct datagram {
    struct datagram *next;
    struct sockaddr_storage from;
    size_t len;
    char data[];
} datagram;

typedef struct recv_op recv_op;

typedef struct udp {
    unsigned refs; /* userdata, operations, handle */
    sr_loop *loop;
    uv_udp_t handle;
    bool closed, reading, own;
    bool connected; /* to one peer: nobody else is heard, and refusals are noticed */
    bool heard;     /* a datagram came */
    bool asked;     /* we spoke first, to another process: an answer of its is awaited */
    struct sockaddr_storage addr;
    datagram *first, *last;
    int queued;
    int failed; /* a libuv code to report once */
    recv_op *reader;
    char name[96];
} udp;

struct recv_op {
    sr_op op;
    udp *u;
    bool outside;
};

typedef struct send_op {
    sr_op op;
    udp *u;
    uv_udp_send_t req;
    int status;
    char data[];
} send_op;

static _Thread_local char scratch[DATAGRAM_MAX];

/* ---------------------------------------------------------------- life */

static void udp_unref(udp *u) {
    if (!u || --u->refs) return;
    while (u->first) {
        datagram *d = u->first;
        u->first = d->next;
        free(d);
    }
    free(u);
}

static void on_closed(uv_handle_t *handle) {
    udp_unref(handle->data);
}

/* The waiting reader, if any, looks again. */
static void wake(udp *u) {
    recv_op *r = u->reader;
    if (!r || r->op.done || !(u->first || u->failed || u->closed)) return;
    if (r->outside) sr_outside_end(u->loop);
    r->outside = false;
    sr_op_done(&r->op);
}

static void udp_close(udp *u) {
    if (u->closed) return;
    u->closed = true;
    if (u->own) sr_own_remove(u->loop, (struct sockaddr *)&u->addr);
    uv_close((uv_handle_t *)&u->handle, on_closed);
    wake(u);
}

/* ---------------------------------------------------------------- receiving */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(scratch, sizeof scratch);
}

static void on_recv(uv_udp_t *handle, ssize_t n, const uv_buf_t *buf,
                    const struct sockaddr *from, unsigned flags) {
    udp *u = handle->data;
    if (n == 0 && !from) return;
    u->heard |= n >= 0;
    if (n < 0) {
        u->failed = (int)n;
    } else if (!(flags & UV_UDP_PARTIAL)) {
        datagram *d = malloc(sizeof *d + (size_t)n);
        if (!d) return; /* as the network may lose it */
        *d = (datagram){.len = (size_t)n};
        memcpy(&d->from, from,
               from->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                           : sizeof(struct sockaddr_in));
        memcpy(d->data, buf->base, (size_t)n);
        if (u->last && u->first)
            u->last->next = d;
        else
            u->first = d;
        u->last = d;
        if (++u->queued >= QUEUE_MAX) {
            uv_udp_recv_stop(&u->handle);
            u->reading = false;
        }
    }
    wake(u);
}

static int start_recv(udp *u) {
    if (u->reading || u->closed) return 0;
    int rc = uv_udp_recv_start(&u->handle, on_alloc, on_recv);
    u->reading = rc == 0;
    return rc;
}

/* Push the oldest datagram, or raise what is in the way. */
static int take(lua_State *L, udp *u) {
    sr_err err = {0};
    if (u->first) {
        datagram *d = u->first;
        lua_pushlstring(L, d->data, d->len);
        sr_push_address(L, (struct sockaddr *)&d->from);
        u->first = d->next;
        u->queued--;
        free(d);
        (void)start_recv(u); /* a failure shows at the next recv */
        return 2;
    }
    if (u->closed)
        return sr_raise(L, SR_IO, "closed", "%s: the socket was closed", u->name);
    (void)sr_fail(&err, SR_IO, uv_err_name(u->failed), "receiving on %s: %s", u->name,
                  uv_strerror(u->failed));
    u->failed = 0;
    return sr_throw(L, &err);
}

static int recv_finish(lua_State *L, sr_op *op) {
    recv_op *r = (recv_op *)op;
    r->u->reader = NULL;
    return take(L, r->u);
}

static void recv_cancel(sr_op *op) {
    recv_op *r = (recv_op *)op;
    r->u->reader = NULL;
    if (r->outside) sr_outside_end(op->loop);
    r->outside = false;
    sr_op_done(op);
}

static void recv_free(sr_op *op) {
    recv_op *r = (recv_op *)op;
    if (r->u->reader == r) r->u->reader = NULL;
    udp_unref(r->u);
    free(r);
}

static void recv_describe(const sr_op *op, char *buf, size_t size) {
    snprintf(buf, size, "stream.recv %s", ((const recv_op *)op)->u->name);
}

static const sr_op_class recv_class = {"stream.recv", recv_finish, recv_cancel, recv_free,
                                       recv_describe};

static udp *check(lua_State *L) {
    udp **box = sr_check_object(L, 1, SR_UDP_TYPE);
    if (!*box || (*box)->closed) sr_raise(L, SR_IO, "closed", "the socket was closed");
    return *box;
}

static const sr_arg recv_args[] = {{"timeout", SR_DURATION, 0, "30s", "how long to wait"},
                                   {0}};
static const sr_spec recv_spec = {"stream.recv", "Receive a datagram.", recv_args};

/* --- Receive a datagram.
 * ---@param opts {timeout: number|string?}? 30 s
 * ---@return string data, {host: string, port: integer} from
 * Raises io, timeout, usage ("BUSY": another task is receiving). */
static int l_recv(lua_State *L) {
    udp *u = check(L);
    lua_settop(L, 2);
    sr_args(L, 2, &recv_spec);
    double timeout = sr_arg_duration(L, 2, "timeout", SR_WAIT_TIME);
    if (u->reader)
        return sr_raise(L, SR_USAGE, "BUSY",
                        "another task is receiving on %s; one task receives at a time",
                        u->name);
    sr_can_wait(L);
    int rc = start_recv(u);
    if (rc != 0 && !u->failed) u->failed = rc;
    if (u->first || u->failed) return take(L, u);
    recv_op *r = malloc(sizeof *r);
    if (!r) return luaL_error(L, "not enough memory");
    *r = (recv_op){.u = u, .outside = u->asked};
    sr_op_init(&r->op, &recv_class, u->loop);
    u->refs++;
    u->reader = r;
    if (r->outside) sr_outside_begin(u->loop);
    return sr_wait(L, &r->op, timeout);
}

/* ---------------------------------------------------------------- sending */

static int raise_send(lua_State *L, const udp *u, int rc) {
    return sr_raise(L, rc == UV_EMSGSIZE ? SR_LIMIT : SR_IO, uv_err_name(rc),
                    "sending on %s: %s%s", u->name, uv_strerror(rc),
                    rc == UV_EINVAL ? "; open it on 0.0.0.0 or :: to reach other machines"
                                    : "");
}

static int send_finish(lua_State *L, sr_op *op) {
    send_op *s = (send_op *)op;
    return s->status ? raise_send(L, s->u, s->status) : 0;
}

static void send_free(sr_op *op) {
    udp_unref(((send_op *)op)->u);
    free(op);
}

static const sr_op_class send_class = {"stream.send", send_finish, NULL, send_free, NULL};

static void on_sent(uv_udp_send_t *req, int status) {
    send_op *s = req->data;
    s->status = status;
    sr_op_done(&s->op);
}

static int send_later(lua_State *L, udp *u, const char *data, size_t len,
                      const struct sockaddr *to) {
    send_op *s = malloc(sizeof *s + len);
    if (!s) return luaL_error(L, "not enough memory");
    s->u = u;
    s->status = 0;
    sr_op_init(&s->op, &send_class, u->loop);
    u->refs++;
    memcpy(s->data, data, len);
    s->req.data = s;
    uv_buf_t buf = uv_buf_init(s->data, (unsigned)len);
    int rc = uv_udp_send(&s->req, &u->handle, &buf, 1, to, on_sent);
    if (rc != 0) on_sent(&s->req, rc);
    return sr_wait(L, &s->op, SR_WAIT_TIME);
}

static int send_now(lua_State *L, udp *u, const char *data, size_t len,
                    const struct sockaddr *to) {
    sr_can_wait(L);
    if (len >= DATAGRAM_MAX) return raise_send(L, u, UV_EMSGSIZE);
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)len);
    int rc = uv_udp_try_send(&u->handle, &buf, 1, to);
    if (rc >= 0) return 0;
    if (rc != UV_EAGAIN) return raise_send(L, u, rc);
    return send_later(L, u, data, len, to);
}

/* --- Send a datagram: send(data, host, port) or send(data, {host=, port=}); send(data)
 * --- to the peer of the socket.
 * ---@param data string
 * ---@param to string|{host: string, port: integer}|nil an address, not a name
 * ---@param port integer?
 * Raises io, limit (too long), denied, usage. */
static int l_send(lua_State *L) {
    udp *u = check(L);
    size_t len;
    char target[160];
    struct sockaddr_storage to;
    sr_err err = {0};
    const char *data = luaL_checklstring(L, 2, &len);
    lua_settop(L, 4);
    if (u->connected && lua_isnil(L, 3)) return send_now(L, u, data, len, NULL);
    if (lua_istable(L, 3)) {
        lua_getfield(L, 3, "port");
        lua_replace(L, 4);
        lua_getfield(L, 3, "host");
        lua_replace(L, 3);
    }
    const char *host = luaL_checkstring(L, 3);
    int port = (int)luaL_checkinteger(L, 4);
    if (sr_addr_parse(host, port, &to, &err) != 0) return sr_throw(L, &err);
    sr_net_target(target, sizeof target, host, port);
    sr_allow(L, SR_PERM_NET, target);
    if (!u->heard && !sr_own_has(u->loop, (struct sockaddr *)&to)) u->asked = true;
    return send_now(L, u, data, len, (struct sockaddr *)&to);
}

/* ---------------------------------------------------------------- object */

/* --- Close; a task in recv gets an io error with code "closed". Also __close. */
static int l_close(lua_State *L) {
    udp **box = sr_check_object(L, 1, SR_UDP_TYPE);
    if (*box) udp_close(*box);
    return 0;
}

static int l_gc(lua_State *L) {
    udp **box = luaL_checkudata(L, 1, SR_UDP_TYPE);
    if (*box) udp_close(*box);
    udp_unref(*box);
    *box = NULL;
    return 0;
}

/* Fields beside the methods (upvalue 1): port, address, closed. */
static int l_index(lua_State *L) {
    udp **box = luaL_checkudata(L, 1, SR_UDP_TYPE);
    const char *key = luaL_checkstring(L, 2);
    char host[64];
    if (strcmp(key, "closed") == 0) {
        lua_pushboolean(L, !*box || (*box)->closed);
    } else if (*box && strcmp(key, "port") == 0) {
        lua_pushinteger(L, sr_addr_port((struct sockaddr *)&(*box)->addr));
    } else if (*box && strcmp(key, "address") == 0) {
        sr_addr_host((struct sockaddr *)&(*box)->addr, host, sizeof host);
        lua_pushstring(L, host);
    } else {
        lua_getfield(L, lua_upvalueindex(1), key);
    }
    return 1;
}

static int l_tostring(lua_State *L) {
    udp **box = luaL_checkudata(L, 1, SR_UDP_TYPE);
    lua_pushfstring(L, "stream.udp (%s)", *box ? (*box)->name : "closed");
    return 1;
}

static const luaL_Reg methods[] = {
    {"send", l_send}, {"recv", l_recv}, {"close", l_close}, {NULL, NULL}};

static const luaL_Reg meta[] = {
    {"__gc", l_gc}, {"__close", l_close}, {"__tostring", l_tostring}, {NULL, NULL}};

void sr_open_udp(lua_State *L) {
    luaL_newmetatable(L, SR_UDP_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

static const sr_arg udp_args[] = {
    {"host", SR_STRING, SR_NONEMPTY, "127.0.0.1", "address to bind"},
    {"port", SR_INT, 0, "0", "port to bind; 0: any free one", .max = 65535},
    {"peer", SR_TABLE, 0, NULL,
     "{host=, port=}: talk to nobody else, from a port that "
     "cannot be guessed"},
    {0}};
static const sr_spec udp_spec = {"stream.udp", "Open a datagram socket.", udp_args};

/* Bind u and learn its address. */
static int udp_bind(udp *u, const char *host, int port, sr_err *err) {
    int len = sizeof u->addr;
    if (sr_addr_parse(host, port, &u->addr, err) != 0) return -1;
    sr_addr_text((struct sockaddr *)&u->addr, u->name, sizeof u->name);
    int rc = uv_udp_bind(&u->handle, (struct sockaddr *)&u->addr, 0);
    if (rc == 0) rc = uv_udp_getsockname(&u->handle, (struct sockaddr *)&u->addr, &len);
    if (rc != 0)
        return sr_fail_uv(err, rc, "cannot open the datagram socket %s", u->name);
    sr_addr_text((struct sockaddr *)&u->addr, u->name, sizeof u->name);
    sr_own_add(u->loop, (struct sockaddr *)&u->addr);
    u->own = true;
    return 0;
}

/* Bind u to any address of the peer's family and a random port. Ports are tried until a
 * free one is found. */
static int bind_random(udp *u, int family, sr_err *err) {
    const char *any = family == AF_INET6 ? "::" : "0.0.0.0";
    for (int tries = 0; tries < PORT_TRIES; tries++) {
        uint16_t number;
        if (sr_random(&number, sizeof number, err) != 0) return -1;
        int port = PORT_FIRST + number % (65536 - PORT_FIRST);
        if (udp_bind(u, any, port, err) == 0) return 0;
        if (err->kind != SR_CONFLICT) return -1;
        *err = (sr_err){0};
    }
    return udp_bind(u, any, 0, err);
}

/* Bind and connect u to one peer. */
static int udp_connect(udp *u, const struct sockaddr_storage *peer, sr_err *err) {
    int len = sizeof u->addr;
    if (bind_random(u, peer->ss_family, err) != 0) return -1;
    int rc = uv_udp_connect(&u->handle, (const struct sockaddr *)peer);
    sr_addr_text((const struct sockaddr *)peer, u->name, sizeof u->name);
    if (rc != 0) return sr_fail_uv(err, rc, "cannot send datagrams to %s", u->name);
    sr_own_remove(u->loop, (struct sockaddr *)&u->addr);
    u->own = false;
    rc = uv_udp_getsockname(&u->handle, (struct sockaddr *)&u->addr, &len);
    if (rc != 0) return sr_fail_uv(err, rc, "the address of a datagram socket");
    sr_own_add(u->loop, (struct sockaddr *)&u->addr);
    u->own = u->connected = true;
    u->asked = !sr_own_has(u->loop, (const struct sockaddr *)peer);
    return 0;
}

/* The option peer, if it is there: its address, checked and allowed. */
static bool read_peer(lua_State *L, struct sockaddr_storage *ret_peer) {
    char target[160];
    sr_err err = {0};
    if (sr_arg_push(L, 1, "peer") == LUA_TNIL) return false;
    lua_getfield(L, -1, "host");
    lua_getfield(L, -2, "port");
    const char *host = lua_tostring(L, -2);
    lua_Integer port = lua_tointeger(L, -1);
    if (!host || port < 1 || port > 65535)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "stream.udp: peer must be {host = address, port = 1 to 65535}");
    if (sr_addr_parse(host, (int)port, ret_peer, &err) != 0) sr_throw(L, &err);
    sr_net_target(target, sizeof target, host, (int)port);
    sr_allow(L, SR_PERM_NET, target);
    return true;
}

/* --- Open a datagram socket.
 * ---@param opts {host: string?, port: integer?, peer: {host: string, port: integer}?}?
 * --- "127.0.0.1", 0 (any free one); or peer, an address, instead of both
 * ---@return stream.udp with port, address, closed
 * Raises conflict (in use), io, denied, usage. */
int sr_stream_l_udp(lua_State *L) {
    char target[160];
    struct sockaddr_storage peer;
    sr_err err = {0};
    lua_settop(L, 1);
    sr_args(L, 1, &udp_spec);
    bool connects = read_peer(L, &peer);
    const char *host = sr_arg_string(L, 1, "host", "127.0.0.1", NULL);
    int port = (int)sr_arg_int(L, 1, "port", 0);
    sr_net_target(target, sizeof target, host, port);
    if (port)
        sr_allow(L, SR_PERM_NET, target); /* else a client: each send is asked for */
    udp **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, SR_UDP_TYPE);
    udp *u = calloc(1, sizeof *u);
    if (!u) return luaL_error(L, "not enough memory");
    u->loop = sr_loop_of(L);
    if (uv_udp_init(sr_uv(u->loop), &u->handle) != 0) {
        free(u);
        return luaL_error(L, "cannot open a datagram socket");
    }
    u->handle.data = u;
    u->refs = 2;
    *box = u;
    if ((connects ? udp_connect(u, &peer, &err) : udp_bind(u, host, port, &err)) != 0)
        return sr_throw(L, &err);
    return 1;
}
