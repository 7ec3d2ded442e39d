/* http_server_lua.h – what the faces of the HTTP server share (internal).
 *
 * Module "http_server.core" has three userdata: a server (http_server_lua.c), a request's
 * handle (http_server_req_lua.c) and a set of routes (http_route_lua.c). The objects a
 * script sees are made of them by http_server.lua.
 */
#ifndef SR_HTTP_SERVER_LUA_H
#define SR_HTTP_SERVER_LUA_H

#include "net/http_server.h"
#include "open.h"

#define SR_HTTPD_TYPE "http.server.core"
#define SR_HTTPD_REQUEST_TYPE "http.request.core"

/* One kind of operation for every wait here: it is done as soon as somebody says that
 * something may have changed. `slot` is where that somebody finds it. */
typedef struct sr_httpd_wait sr_httpd_wait;

/* Wait in *slot; cls->finish looks at what there is. Raises usage if a task waits there.
 */
int sr_httpd_wait_for(lua_State *L, sr_httpd_wait **slot, const sr_op_class *cls,
                      double timeout);
/* Something changed; nothing happens when nobody waits. */
void sr_httpd_wait_done(sr_httpd_wait **slot);
/* The members of every class. */
void sr_httpd_wait_cancel(sr_op *op);
void sr_httpd_wait_free(sr_op *op);

typedef struct sr_httpd_registry sr_httpd_registry;

typedef struct sr_httpd_face {
    sr_httpd *server; /* NULL before it is filled */
    sr_httpd_registry *registry;
    struct sr_httpd_face *prev, *next;
    sr_httpd_wait *taker, *drainer;
    lua_Integer active, limit; /* requests handed out and not done */
    double timeout;
} sr_httpd_face;

/* The next request of the server at index 1, as: handle, table of fields, key. false, and
 * nothing pushed, when there is none. */
bool sr_httpd_push_request(lua_State *L, sr_httpd_face *face);
void sr_httpd_open_requests(lua_State *L);

/* core.query, core.routes */
int sr_http_l_query(lua_State *L);
int sr_http_l_routes(lua_State *L);
void sr_http_open_routes(lua_State *L);
/* A metatable with methods and a finaliser. */
void sr_http_new_type(lua_State *L, const char *name, const luaL_Reg *methods,
                      lua_CFunction gc);

#endif
