/* http_flow.c – exchanges whose bodies go through Lua piece by piece: "http.exchange".
 *
 * libcurl calls for bytes and hands out bytes at its own time, Lua takes and gives them
 * at its own. Between the two stand one buffer each way, and a bound: when BOUND bytes
 * wait for Lua, or Lua has given none, libcurl is paused until Lua comes back.
 *
 *     x:wait() → "data", chunk | "want" | "done"     "want": x:write(chunk) or
 * x:write(nil) x:response() → response, after "done"          x:close() drops the
 * exchange
 *
 * One task waits at a time. The flow is shared by the userdata and by a wait under way.
 */
#include "net/http_face.h"

#include <stdlib.h>
#include <string.h>

enum { BOUND = 256 << 10 };

typedef struct flow {
    unsigned refs;
    sr_http_exchange *x; /* NULL once closed */
    sr_op *waiter;
    sr_buf in;  /* for Lua */
    sr_buf out; /* from Lua */
    size_t out_at;
    bool want, out_ended, in_paused, ended;
} flow;

typedef struct flow_op {
    sr_op op;
    flow *flow;
} flow_op;

static void flow_unref(flow *f) {
    if (--f->refs) return;
    sr_http_free(f->x);
    sr_buf_free(&f->in);
    sr_buf_free(&f->out);
    free(f);
}

static void wake(flow *f) {
    sr_op *waiter = f->waiter;
    f->waiter = NULL;
    if (waiter) sr_op_done(waiter);
}

/* ---------------------------------------------------------------- from libcurl */

static int on_body(void *arg, const char *data, size_t len, sr_err *err) {
    flow *f = arg;
    if (f->in.len >= BOUND) {
        f->in_paused = true;
        return SR_HTTP_PAUSE;
    }
    if (sr_buf_append(&f->in, data, len) < 0)
        return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a body");
    wake(f);
    return 0;
}

static ssize_t on_pull(void *arg, char *data, size_t size, sr_err *err) {
    (void)err;
    flow *f = arg;
    size_t left = f->out.len - f->out_at;
    if (!left && f->out_ended) return 0;
    if (!left) {
        f->want = true;
        wake(f);
        return SR_HTTP_PAUSE;
    }
    if (left > size) left = size;
    memcpy(data, f->out.data + f->out_at, left);
    f->out_at += left;
    if (f->out_at == f->out.len) f->out.len = f->out_at = 0;
    return (ssize_t)left;
}

static void on_done(void *arg, sr_http_exchange *x) {
    (void)x;
    flow *f = arg;
    f->ended = true;
    wake(f);
}

/* ---------------------------------------------------------------- waiting */

/* Push what has happened and return the number of results; 0: nothing yet. */
static int take(lua_State *L, flow *f) {
    if (!f->x) return sr_raise(L, SR_USAGE, "CLOSED", "this HTTP exchange is closed");
    if (f->in.len) {
        lua_pushliteral(L, "data");
        lua_pushlstring(L, f->in.data, f->in.len);
        f->in.len = 0;
        if (f->in_paused) {
            f->in_paused = false;
            sr_http_resume(f->x);
        }
        return 2;
    }
    if (f->ended) {
        const sr_err *err = &sr_http_result_of(f->x)->err;
        if (err->kind != SR_NONE) return sr_throw(L, err);
        lua_pushliteral(L, "done");
        return 1;
    }
    if (!f->want) return 0;
    lua_pushliteral(L, "want");
    return 1;
}

static int op_finish(lua_State *L, sr_op *op) {
    return take(L, ((flow_op *)op)->flow);
}

static void op_cancel(sr_op *op) {
    flow *f = ((flow_op *)op)->flow;
    f->waiter = NULL;
    sr_op_done(op);
}

static void op_free(sr_op *op) {
    flow_unref(((flow_op *)op)->flow);
    free(op);
}

static void op_describe(const sr_op *op, char *buf, size_t size) {
    const flow *f = ((const flow_op *)op)->flow;
    if (f->x)
        sr_http_describe(f->x, buf, size);
    else if (size)
        *buf = '\0';
}

static const sr_op_class op_class = {"http exchange", op_finish, op_cancel, op_free,
                                     op_describe};

static flow *check(lua_State *L) {
    flow **box = sr_check_object(L, 1, SR_HTTP_FLOW_TYPE);
    if (!*box) sr_raise(L, SR_USAGE, "CLOSED", "this HTTP exchange is closed");
    return *box;
}

static int l_wait(lua_State *L) {
    flow *f = check(L);
    lua_settop(L, 1);
    int n = take(L, f);
    if (n) return n;
    sr_can_wait(L);
    if (f->waiter)
        return sr_raise(L, SR_USAGE, "BUSY", "another task waits for this HTTP exchange");
    flow_op *op = calloc(1, sizeof *op);
    if (!op) return luaL_error(L, "not enough memory");
    sr_op_init(&op->op, &op_class, sr_loop_of(L));
    op->flow = f;
    f->refs++;
    f->waiter = &op->op;
    return sr_wait(L, &op->op, SR_FOREVER);
}

/* x:write(chunk): bytes of the request's body, a string or secret; nil ends it. */
static int l_write(lua_State *L) {
    flow *f = check(L);
    if (lua_isnoneornil(L, 2)) {
        f->out_ended = true;
    } else {
        size_t len;
        const char *data = sr_check_secret(L, 2, &len);
        if (lua_type(L, 2) != LUA_TSTRING) f->out.secret = true;
        if (!len) return 0;
        if (sr_buf_append(&f->out, data, len) < 0)
            return luaL_error(L, "not enough memory");
    }
    f->want = false;
    sr_http_resume(f->x);
    return 0;
}

static int l_response(lua_State *L) {
    flow *f = check(L);
    if (!f->ended || sr_http_result_of(f->x)->err.kind != SR_NONE)
        return sr_raise(L, SR_USAGE, "TOO_EARLY", "the response is there after \"done\"");
    sr_http_push_response(L, f->x);
    return 1;
}

/* x:head() → status once the response's head has come, else nil. */
static int l_head(lua_State *L) {
    flow *f = check(L);
    if (!sr_http_has_head(f->x)) return 0;
    lua_pushinteger(L, sr_http_result_of(f->x)->status);
    return 1;
}

static int l_close(lua_State *L) {
    flow **box = lua_touserdata(L, 1), *f = *box;
    if (!f) return 0;
    *box = NULL;
    sr_http_free(f->x);
    f->x = NULL;
    wake(f);
    flow_unref(f);
    return 0;
}

/* http.core.flow; upvalue: the box of the request. */
int sr_http_l_flow(lua_State *L) {
    int box = lua_upvalueindex(1);
    sr_err err = {0};
    lua_settop(L, 5);
    sr_can_wait(L);
    sr_http_options(L, box);
    flow **out = lua_newuserdatauv(L, sizeof *out, 0);
    *out = NULL;
    luaL_setmetatable(L, SR_HTTP_FLOW_TYPE);
    flow *f = calloc(1, sizeof *f);
    if (!f) return luaL_error(L, "not enough memory");
    f->refs = 1;
    *out = f;
    static const sr_http_events both = {on_body, on_pull, on_done};
    static const sr_http_events up = {NULL, on_pull, on_done};
    bool sink = sr_arg_push(L, 1, "sink") != LUA_TNIL;
    lua_pop(L, 1);
    if (sr_http_start(sr_loop_of(L), sr_http_box_take(L, box), sink ? &both : &up, f,
                      &f->x, &err) < 0)
        return sr_throw(L, &err);
    return 1;
}

static const luaL_Reg methods[] = {{"wait", l_wait},   {"write", l_write},
                                   {"head", l_head},   {"response", l_response},
                                   {"close", l_close}, {NULL, NULL}};

void sr_http_flow_open(lua_State *L) {
    luaL_newmetatable(L, SR_HTTP_FLOW_TYPE);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}
