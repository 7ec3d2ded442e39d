/* http_request.c – module "http.core": one exchange as a wait.
 *
 *     http.core.request(options, method?, url?, body?, content_type?) → response
 *     http.core.flow(…the same…) → exchange whose bodies go piece by piece (http_flow.c)
 *
 * The Lua layer (http.lua) stands above and is what scripts use.
 */
#include "net/http_face.h"
#include "net/http_pool.h"
#include "open.h"

#include <stdlib.h>

typedef struct ask {
    sr_op op;
    sr_http_exchange *x;
    sr_err err; /* it could not be started */
} ask;

static int ask_finish(lua_State *L, sr_op *op) {
    ask *a = (ask *)op;
    if (a->err.kind != SR_NONE) return sr_throw(L, &a->err);
    const sr_http_result *result = sr_http_result_of(a->x);
    if (result->err.kind != SR_NONE) return sr_throw(L, &result->err);
    sr_http_push_response(L, a->x);
    return 1;
}

static void ask_cancel(sr_op *op) {
    ask *a = (ask *)op;
    sr_http_free(a->x);
    a->x = NULL;
    sr_op_done(op);
}

static void ask_free(sr_op *op) {
    ask *a = (ask *)op;
    sr_http_free(a->x);
    free(a);
}

static void ask_describe(const sr_op *op, char *buf, size_t size) {
    const ask *a = (const ask *)op;
    if (a->x)
        sr_http_describe(a->x, buf, size);
    else if (size)
        *buf = '\0';
}

static const sr_op_class ask_class = {"http.request", ask_finish, ask_cancel, ask_free,
                                      ask_describe};

static void ask_done(void *arg, sr_http_exchange *x) {
    (void)x;
    sr_op_done(&((ask *)arg)->op);
}

/* Upvalue: the box. */
static int l_request(lua_State *L) {
    static const sr_http_events events = {.done = ask_done};
    int box = lua_upvalueindex(1);
    lua_settop(L, 5);
    sr_can_wait(L);
    sr_http_options(L, box);
    ask *a = calloc(1, sizeof *a);
    if (!a) return luaL_error(L, "not enough memory");
    sr_op_init(&a->op, &ask_class, sr_loop_of(L));
    if (sr_http_start(a->op.loop, sr_http_box_take(L, box), &events, a, &a->x, &a->err) <
        0)
        sr_op_done(&a->op);
    return sr_wait(L, &a->op, SR_FOREVER);
}

/* http.core.close_idle() */
static int l_close_idle(lua_State *L) {
    sr_http_pool_close_idle(sr_loop_of(L));
    return 0;
}

int luaopen_http_core(lua_State *L) {
    lua_newtable(L);
    sr_http_box_push(L);
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, l_request, 1);
    lua_setfield(L, -3, "request");
    lua_pushcclosure(L, sr_http_l_flow, 1);
    lua_setfield(L, -2, "flow");
    sr_http_response_open(L);
    lua_setfield(L, -2, "methods");
    sr_http_flow_open(L);
    sr_http_file_open(L);
    lua_pushcfunction(L, sr_http_l_file);
    lua_setfield(L, -2, "file");
    lua_pushcfunction(L, sr_http_l_fail);
    lua_setfield(L, -2, "fail");
    lua_pushcfunction(L, l_close_idle);
    lua_setfield(L, -2, "close_idle");
    lua_pushcfunction(L, sr_http_l_check);
    lua_setfield(L, -2, "check");
    lua_pushcfunction(L, sr_http_l_encode);
    lua_setfield(L, -2, "encode");
    lua_pushcfunction(L, sr_http_l_join);
    lua_setfield(L, -2, "join");
    return 1;
}
