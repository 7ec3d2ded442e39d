/* store_lua.h – the faces of the store for each other. */
#ifndef SR_STORE_LUA_H
#define SR_STORE_LUA_H

#include "store/store.h"

/* store_plan.c: what the request of a call has to hold. */
typedef struct sr_store_plan {
    const char *function; /* for messages */
    uint32_t count;
    size_t values, bytes;
} sr_store_plan;

/* Push header and values of one statement: its text at sql_idx, its parameters (a table
 * or nil) at params. Raises usage. */
void sr_store_plan_statement(lua_State *L, sr_store_plan *p, int sql_idx, int params);
/* The same for an entry of db:batch, {sql, params, expect =, when =, code =}. */
void sr_store_plan_entry(lua_State *L, sr_store_plan *p, int entry);
/* Copy what was pushed from idx on into the request. Does not raise. */
void sr_store_plan_fill(lua_State *L, sr_store_request *r, int idx);
void sr_store_open_plan(lua_State *L);

/* store_jobs.c: add the functions that work on files to the module on top. */
void sr_store_open_jobs(lua_State *L);
/* store_owner.c: owner, owner_gone. */
void sr_store_open_owner(lua_State *L);

#endif
