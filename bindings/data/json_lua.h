/* json_lua.h – checked JSON trees as Lua values, for the faces of other bindings. */
#ifndef SR_JSON_LUA_H
#define SR_JSON_LUA_H

#include "data/json.h"
#include "secrun.h"

/* Push a tree: objects and arrays as tables (arrays carry the mark of json.array), null
 * as json.null, integral numbers as integers. The tree stays the caller's, who must have
 * boxed it: this may raise for lack of memory. */
void sr_json_push(lua_State *L, const cJSON *item);
/* json.null is the light userdata NULL. */
#define sr_json_push_null(L) lua_pushlightuserdata((L), NULL)
bool sr_json_is_null(lua_State *L, int idx);

#endif
