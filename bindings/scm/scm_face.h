/* scm_face.h – what the two files of the Lua face share. Nothing else includes it. */
#ifndef SR_SCM_FACE_H
#define SR_SCM_FACE_H

#include <cjson/cJSON.h>

#include "secrun.h"

/* What a call gathers; freed by the collector. */
typedef struct sr_scm_scratch {
    cJSON *doc;
    sr_buf text;
} sr_scm_scratch;

/* Push an empty one. */
sr_scm_scratch *sr_scm_scratch_new(lua_State *L);
/* Push the bytes as a string; raises when they did not fit into memory. */
int sr_scm_push_text(lua_State *L, const sr_buf *buf);
/* Set a field of the table on top; a NULL text sets nothing. */
void sr_scm_set_text(lua_State *L, const char *key, const char *text);
void sr_scm_set_bool(lua_State *L, const char *key, bool value);
bool sr_scm_is_secret(lua_State *L, int idx);

/* scm_prepare.c */
int sr_scm_l_operations(lua_State *L);
int sr_scm_l_prepare(lua_State *L);

#endif
