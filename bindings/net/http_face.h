/* http_face.h – what the files of the HTTP client's Lua face share. Private to them. */
#ifndef HTTP_FACE_H
#define HTTP_FACE_H

#include "net/http_client.h"

#define SR_HTTP_RESPONSE_TYPE "http.response"
#define SR_HTTP_FLOW_TYPE "http.exchange"

/* http_options.c: check the options at 1 and build the request. 2 to 5 are method, url,
 * body and content type that stand in place of the options' (nil: they do not). `box` is
 * a userdata that frees the request if something raises; take it with sr_http_box_take().
 */
void sr_http_box_push(lua_State *L);
sr_http_request *sr_http_box_take(lua_State *L, int idx);
void sr_http_options(lua_State *L, int box);
/* http.core.check(options): only check them. */
int sr_http_l_check(lua_State *L);

/* http_response.c: push the response of an ended exchange. */
void sr_http_push_response(lua_State *L, const sr_http_exchange *x);
/* Raise the error of a response whose status means failure. */
int sr_http_l_fail(lua_State *L);
int sr_http_l_join(lua_State *L);
/* Create the metatable and push the table of methods, which the Lua layer may extend. */
void sr_http_response_open(lua_State *L);

/* http_form.c */
int sr_http_l_encode(lua_State *L);

/* http_flow.c: exchanges whose bodies go through Lua piece by piece. */
int sr_http_l_flow(lua_State *L);
void sr_http_flow_open(lua_State *L);

/* http_file.c: http.core.file(path) → a file that a body is written to. */
int sr_http_l_file(lua_State *L);
void sr_http_file_open(lua_State *L);

#endif
