/* open.c – the table of modules that the bindings bring.
 *
 * The runtime knows no binding; it asks this table. One line a module, in the order of
 * the folders; a C core under a Lua layer of the same name ends in ".core".
 */
#include "open.h"

int luaopen_gate(lua_State *L);
int luaopen_x509(lua_State *L);

/* One line a module, however many there are. */
/* clang-format off */
const sr_module sr_bindings[] = {
    {"json", luaopen_json},
    {"digest", luaopen_digest},
    {"encoding", luaopen_encoding},
    {"fs.core", luaopen_fs_core},
    {"gate", luaopen_gate},
    {"process.core", luaopen_process_core},
    {"notify", luaopen_notify},
    {"http_server.core", luaopen_http_server},
    {"stream", luaopen_stream},
    {"x509", luaopen_x509},
    {"store.core", luaopen_store_core},
    {"acme.core", luaopen_acme_core},
    {"schedule.core", luaopen_schedule_core},
    {"http.core", luaopen_http_core},
    {"smtp", luaopen_smtp},
    {"dns.core", luaopen_dns_core},
    {"scm.core", luaopen_scm_core},
    {0},
};
/* clang-format on */
