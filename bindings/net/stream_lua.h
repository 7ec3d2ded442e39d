/* stream_lua.h – the Lua faces of streams, for each other and for other bindings. */
#ifndef SR_NET_STREAM_LUA_H
#define SR_NET_STREAM_LUA_H

#include "net/stream.h"

#define SR_CONN_TYPE "stream.connection"
#define SR_LISTENER_TYPE "stream.listener"
#define SR_UDP_TYPE "stream.udp"
#define SR_WAIT_TIME 30.0 /* default time-out of a wait, seconds */

/* Push a connection that takes over *stream, which becomes NULL. accepted: idle reads
 * from it do not hold the virtual clock. */
void sr_push_conn(lua_State *L, sr_stream **stream, bool accepted);
/* The stream of the connection at idx; raises a usage error. Borrowed. */
sr_stream *sr_check_conn(lua_State *L, int idx);
void sr_open_conn(lua_State *L);
void sr_open_stream_tls(lua_State *L);
/* Push {version=, cipher=, alpn=, servername=, verified=, verify_error=, peer_chain=}. */
void sr_push_tls_info(lua_State *L, sr_tls *tls);

/* Push a box with a TLS context made from the options at idx (a table, or true for the
 * defaults) and return the context, which is valid while the box is. fn names the caller
 * in errors. *ret_name: the option servername, or NULL; valid while the options are. */
sr_tls_ctx *sr_push_tls_ctx(lua_State *L, int idx, const char *fn, bool server,
                            const char **ret_name);

/* Push {host=, port=} or {path=}, with a __tostring. */
void sr_push_address(lua_State *L, const struct sockaddr *sa);
/* "host:port" as permissions know it; the host alone stands for any port (port 0). */
void sr_net_target(char *buf, size_t size, const char *host, int port);
/* Raise denied unless this VM may use the unix socket ("unix:/path" of the network). */
void sr_allow_unix(lua_State *L, const char *path);
/* The same for listening, which also makes and removes a file. */
void sr_allow_path(lua_State *L, const char *path);

int sr_stream_l_listen(lua_State *L);
void sr_open_listener(lua_State *L);
int sr_stream_l_udp(lua_State *L);
void sr_open_udp(lua_State *L);
int luaopen_stream(lua_State *L);

#endif
