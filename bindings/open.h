/* open.h – the openers of the C modules, for their files and the table in open.c. */
#ifndef OPEN_H
#define OPEN_H

#include "secrun.h"

int luaopen_acme_core(lua_State *L);
int luaopen_digest(lua_State *L);
int luaopen_dns_core(lua_State *L);
int luaopen_encoding(lua_State *L);
int luaopen_fs_core(lua_State *L);
int luaopen_json(lua_State *L);
int luaopen_notify(lua_State *L);
int luaopen_process_core(lua_State *L);
int luaopen_scm_core(lua_State *L);
int luaopen_http_server(lua_State *L);
int luaopen_http_core(lua_State *L);
int luaopen_schedule_core(lua_State *L);
int luaopen_store_core(lua_State *L);
int luaopen_stream(lua_State *L);
int luaopen_smtp(lua_State *L);

#endif
