/* store_lua.h – the faces of the store for each other. */
#ifndef SR_STORE_LUA_H
#define SR_STORE_LUA_H

#include "store/store.h"

/* store_jobs.c: add the functions that work on files to the module on top. */
void sr_store_open_jobs(lua_State *L);
/* store_owner.c: owner, owner_gone. */
void sr_store_open_owner(lua_State *L);

#endif
