/* http_server_lua.c – module "http_server.core": the server as Lua's layer sees it.
 *
 * Here arguments are checked, permissions asked and waits made into operations. A server
 * hands out at most `limit` requests that are not done yet; so its one waiting task
 * learns of a client that went away also while every place is taken.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_server_lua.h"
#include "net/stream_lua.h"

/* ------------------------------------------------------------------ waiting */

struct sr_httpd_wait {
    sr_op op;
    sr_httpd_wait **slot;
};

void sr_httpd_wait_done(sr_httpd_wait **slot) {
    sr_httpd_wait *wait = *slot;
    *slot = NULL;
    if (wait) sr_op_done(&wait->op);
}

void sr_httpd_wait_cancel(sr_op *op) {
    sr_httpd_wait_done(((sr_httpd_wait *)op)->slot);
}

void sr_httpd_wait_free(sr_op *op) {
    free(op);
}

int sr_httpd_wait_for(lua_State *L, sr_httpd_wait **slot, const sr_op_class *cls,
                      double timeout) {
    if (*slot)
        return sr_raise(L, SR_USAGE, NULL, "%s: another task waits here", cls->name);
    sr_can_wait(L);
    sr_httpd_wait *wait = calloc(1, sizeof *wait);
    if (!wait) return sr_raise(L, SR_LIMIT, "ENOMEM", "no memory to wait");
    sr_op_init(&wait->op, cls, sr_loop_of(L));
    wait->slot = slot;
    *slot = wait;
    return sr_wait(L, &wait->op, timeout);
}

/* ------------------------------------------------------------------ servers */

/* The servers of one VM, stopped when it ends. */
struct sr_httpd_registry {
    sr_httpd_face *first;
};

static sr_httpd_face *check_face(lua_State *L) {
    sr_httpd_face *f = sr_check_object(L, 1, SR_HTTPD_TYPE);
    if (!f->server) luaL_error(L, "the server was not started");
    return f;
}

static void unlink_face(sr_httpd_face *f) {
    if (!f->registry) return;
    if (f->prev)
        f->prev->next = f->next;
    else
        f->registry->first = f->next;
    if (f->next) f->next->prev = f->prev;
    f->registry = NULL;
}

static int l_server_gc(lua_State *L) {
    sr_httpd_face *f = luaL_checkudata(L, 1, SR_HTTPD_TYPE);
    unlink_face(f);
    sr_httpd_free(f->server);
    f->server = NULL;
    return 0;
}

static void stop_all(void *arg) {
    sr_httpd_registry *reg = arg;
    for (sr_httpd_face *f = reg->first; f; f = f->next) {
        f->registry = NULL;
        if (f->server) sr_httpd_stop(f->server);
    }
    free(reg);
}

static sr_httpd_registry *registry_of(lua_State *L) {
    static const char key = 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key);
    sr_httpd_registry *reg = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (reg) return reg;
    reg = calloc(1, sizeof *reg);
    if (!reg) luaL_error(L, "no memory");
    sr_at_close(L, stop_all, reg);
    lua_pushlightuserdata(L, reg);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    return reg;
}

static const sr_arg serve_args[] = {
    {"listen", SR_STRING, 0, NULL, "\"host:port\", port 0 for a free one"},
    {"unix", SR_STRING, SR_NONEMPTY, NULL, "path of a unix socket instead"},
    {"mode", SR_STRING, 0, "0600", "of the unix socket, octal"},
    {"handler", SR_FUNCTION, 0, NULL, "fn(req) -> response, for what no route serves"},
    {"routes", SR_TABLE, 0, NULL, "{[\"GET /a/{name}\"] = fn(req) -> response}"},
    {"tls", SR_TABLE, 0, NULL, "{cert, key, client_ca, require_client_cert}"},
    {"limit", SR_INT, SR_POSITIVE, "64", "handlers at once", .max = 100000},
    {"queue", SR_INT, SR_POSITIVE, "256", "requests that wait; more get 503",
     .max = 100000},
    {"max_body", SR_INT, 0, "1048576", "bytes of a request body; more get 413",
     .max = 1 << 30},
    {"max_headers", SR_INT, SR_POSITIVE, "32768", "bytes of a request head; more get 431",
     .max = 1 << 20},
    {"max_connections", SR_INT, SR_POSITIVE, "1024", "more wait in the kernel",
     .max = 100000},
    {"max_per_ip", SR_INT, 0, "0", "connections from one address; 0: no bound",
     .max = 100000},
    {"timeout", SR_DURATION, SR_POSITIVE, "30s", "to receive a request; to handle it"},
    {"idle_timeout", SR_DURATION, SR_POSITIVE, "15s", "silence between requests"},
    {"server_header", SR_BOOL, 0, "false", "send a Server header"},
    {"log", SR_BOOL, 0, "false", "one line a request"},
    {0}};

static const sr_spec serve_spec = {"http.serve", "Serve HTTP.", serve_args};

/* The port behind the last colon of "127.0.0.1:80"; -1 if it is none. */
static long port_of(const char *text, const char *colon) {
    char *end = NULL;
    if (!colon || colon == text || !isdigit((unsigned char)colon[1])) return -1;
    long port = strtol(colon + 1, &end, 10);
    return *end || port > 65535 ? -1 : port;
}

/* "127.0.0.1:80" or "[::1]:80" → host (pushed) and port. */
static void split_listen(lua_State *L, const char *text, sr_listen *where) {
    const char *colon = strrchr(text, ':');
    long port = port_of(text, colon);
    if (!colon || port < 0) {
        sr_raise(L, SR_USAGE, NULL,
                 "http.serve: listen: \"%s\" is not \"host:port\", as \"127.0.0.1:8080\"",
                 text);
        return;
    }
    size_t len = (size_t)(colon - text);
    bool bracketed = text[0] == '[' && text[len - 1] == ']';
    lua_pushlstring(L, text + bracketed, len - 2 * (size_t)bracketed);
    where->host = lua_tostring(L, -1);
    where->port = (int)port;
}

static void read_where(lua_State *L, sr_listen *where) {
    const char *text = sr_arg_string(L, 1, "listen", NULL, NULL);
    const char *mode = sr_arg_string(L, 1, "mode", "0600", NULL);
    char *end;
    where->path = sr_arg_string(L, 1, "unix", NULL, NULL);
    if (!text == !where->path)
        sr_raise(L, SR_USAGE, NULL, "http.serve: one of listen and unix is needed");
    where->mode = (int)strtol(mode, &end, 8);
    if (*end || where->mode <= 0 || where->mode > 0777)
        sr_raise(L, SR_USAGE, NULL, "http.serve: mode: \"%s\" is not octal, as 0660",
                 mode);
    if (text) {
        sr_allow(L, SR_PERM_NET, text);
        split_listen(L, text, where);
    } else {
        sr_allow_path(L, where->path);
    }
}

/* The context of the options at idx, which stays in a box on the stack; NULL for none. */
static sr_tls_ctx *push_tls(lua_State *L, int idx, const char *fn) {
    const char *name;
    if (lua_isnil(L, idx)) return NULL;
    return sr_push_tls_ctx(L, idx, fn, true, &name);
}

static void read_limits(lua_State *L, sr_httpd_config *config) {
    config->max_body = (size_t)sr_arg_int(L, 1, "max_body", 1048576);
    config->max_headers = (size_t)sr_arg_int(L, 1, "max_headers", 32768);
    config->max_connections = (unsigned)sr_arg_int(L, 1, "max_connections", 1024);
    config->max_per_ip = (unsigned)sr_arg_int(L, 1, "max_per_ip", 0);
    config->queue = (unsigned)sr_arg_int(L, 1, "queue", 256);
    config->timeout = (int64_t)(sr_arg_duration(L, 1, "timeout", 30) * (double)SR_NS);
    config->idle_timeout =
        (int64_t)(sr_arg_duration(L, 1, "idle_timeout", 15) * (double)SR_NS);
    config->server_header = sr_arg_bool(L, 1, "server_header", false);
    config->log = sr_arg_bool(L, 1, "log", false);
}

/* From the loop: something waits, has gone, or is over. */
static void on_changed(void *arg) {
    sr_httpd_face *f = arg;
    sr_httpd_wait_done(&f->taker);
    sr_httpd_wait_done(&f->drainer);
}

/* core.listen{…} → server. The fields are those of http.serve. */
static int l_listen(lua_State *L) {
    sr_httpd_config config = {0};
    sr_err err = {0};
    sr_args(L, 1, &serve_spec);
    lua_settop(L, 1);
    sr_httpd_face *f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (sr_httpd_face){0};
    luaL_setmetatable(L, SR_HTTPD_TYPE);
    read_where(L, &config.where);
    read_limits(L, &config);
    sr_arg_push(L, 1, "tls");
    config.where.tls = push_tls(L, lua_gettop(L), "http.serve");
    f->limit = sr_arg_int(L, 1, "limit", 64);
    f->timeout = sr_arg_duration(L, 1, "timeout", 30);
    sr_httpd_registry *reg = registry_of(L);
    if (sr_httpd_new(sr_loop_of(L), &config, on_changed, f, &f->server, &err) != 0)
        return sr_throw(L, &err);
    f->registry = reg;
    f->next = reg->first;
    if (f->next) f->next->prev = f;
    reg->first = f;
    lua_settop(L, 2);
    return 1;
}

/* server:address() → "127.0.0.1:8080" or "unix:/run/x", port (0 for unix) */
static int l_server_address(lua_State *L) {
    char text[256];
    sr_httpd_face *f = check_face(L);
    sr_httpd_address(f->server, text, sizeof text);
    lua_pushstring(L, text);
    lua_pushinteger(L, sr_httpd_port(f->server));
    return 2;
}

static int l_server_drain(lua_State *L) {
    sr_httpd_drain(check_face(L)->server);
    return 0;
}

static int l_server_stop(lua_State *L) {
    sr_httpd_stop(check_face(L)->server);
    return 0;
}

/* server:timeout() → seconds a request may take to arrive, and a handler to answer */
static int l_server_timeout(lua_State *L) {
    lua_pushnumber(L, check_face(L)->timeout);
    return 1;
}

/* server:set_tls(options) – for connections from now on. Raises usage on a plain server.
 */
static int l_server_set_tls(lua_State *L) {
    sr_err err = {0};
    sr_httpd_face *f = check_face(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    sr_tls_ctx *tls = push_tls(L, 2, "http.server:set_tls");
    return sr_httpd_set_tls(f->server, tls, &err) == 0 ? 0 : sr_throw(L, &err);
}

/* server:connections() → how many there are, idle ones included */
static int l_server_connections(lua_State *L) {
    lua_pushinteger(L, sr_httpd_connections(check_face(L)->server));
    return 1;
}

static int drained_finish(lua_State *L, sr_op *op) {
    sr_httpd_face *f = check_face(L);
    (void)op;
    lua_pushboolean(L,
                    sr_httpd_connections(f->server) == 0 || sr_httpd_stopped(f->server));
    return 1;
}

static const sr_op_class drained_class = {.name = "http.server:close",
                                          .finish = drained_finish,
                                          .cancel = sr_httpd_wait_cancel,
                                          .free = sr_httpd_wait_free};

/* server:drained(timeout) → whether no connection is left; a change wakes it early, so it
 * is asked in a loop. Raises timeout. */
static int l_server_drained(lua_State *L) {
    sr_httpd_face *f = check_face(L);
    double timeout = sr_check_duration(L, 2);
    if (sr_httpd_connections(f->server) == 0 || sr_httpd_stopped(f->server))
        return drained_finish(L, NULL);
    return sr_httpd_wait_for(L, &f->drainer, &drained_class, timeout);
}

/* "request", handle, fields, key | "gone", key | "again" | nothing once stopped */
static int push_next(lua_State *L, sr_httpd_face *f) {
    sr_httpd_request *gone = sr_httpd_next_gone(f->server);
    if (gone) {
        sr_httpd_request_unref(gone); /* only its address is used: a key */
        lua_pushliteral(L, "gone");
        lua_pushlightuserdata(L, gone);
        return 2;
    }
    if (sr_httpd_stopped(f->server)) return 0;
    lua_pushliteral(L, "request");
    if (f->active < f->limit && sr_httpd_push_request(L, f)) return 4;
    lua_pushliteral(L, "again");
    return 1;
}

static int next_finish(lua_State *L, sr_op *op) {
    (void)op;
    return push_next(L, check_face(L));
}

static const sr_op_class next_class = {.name = "http.server:next",
                                       .finish = next_finish,
                                       .cancel = sr_httpd_wait_cancel,
                                       .free = sr_httpd_wait_free};

/* server:next() → what happened:
 *   "request", handle, fields, key   a request, when fewer than `limit` are not done
 *   "gone", key                      the client of a request that is not done went away
 *   "again"                          nothing yet: ask again
 *   nothing                          the server has stopped
 */
static int l_server_next(lua_State *L) {
    sr_httpd_face *f = check_face(L);
    lua_settop(L, 1);
    int count = push_next(L, f);
    if (count != 1) return count;
    lua_settop(L, 1);
    return sr_httpd_wait_for(L, &f->taker, &next_class, SR_FOREVER);
}

/* core.report(text) – one error line to the log. */
static int l_report(lua_State *L) {
    sr_log(L, SR_ERROR, "http", "%s", luaL_checkstring(L, 1));
    return 0;
}

/* ------------------------------------------------------------------ module */

static const luaL_Reg server_methods[] = {{"next", l_server_next},
                                          {"address", l_server_address},
                                          {"drain", l_server_drain},
                                          {"drained", l_server_drained},
                                          {"stop", l_server_stop},
                                          {"connections", l_server_connections},
                                          {"timeout", l_server_timeout},
                                          {"set_tls", l_server_set_tls},
                                          {NULL, NULL}};

static const luaL_Reg functions[] = {{"listen", l_listen},
                                     {"routes", sr_http_l_routes},
                                     {"query", sr_http_l_query},
                                     {"report", l_report},
                                     {NULL, NULL}};

void sr_http_new_type(lua_State *L, const char *name, const luaL_Reg *methods,
                      lua_CFunction gc) {
    luaL_newmetatable(L, name);
    if (methods) {
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
    }
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pushliteral(L, "private");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

int luaopen_http_server(lua_State *L) {
    sr_http_new_type(L, SR_HTTPD_TYPE, server_methods, l_server_gc);
    sr_httpd_open_requests(L);
    sr_http_open_routes(L);
    luaL_newlib(L, functions);
    return 1;
}
