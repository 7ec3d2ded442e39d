/* practice.h – a run against a sandbox, which leaves the real world alone (internal). */
#ifndef SR_PRACTICE_H
#define SR_PRACTICE_H

#include "secrun.h"

/* Practise from now on, in this folder; for the whole process, once. 0 or -1. */
int sr_practice_begin(const char *folder, sr_err *err);
/* The folder, NULL when this run is real. */
const char *sr_practice_folder(void);
/* Whether a secret of this source may be read: always when the run is real; else only
 * what the sandbox itself gave, env:SECRUN_SANDBOX_… and files in its folder. */
bool sr_practice_allows(const char *source);
/* What all other secrets are while practising. */
#define SR_PRACTICE_SECRET "sandbox: this secret was not read"

/* The module "practice". */
int sr_open_practice(lua_State *L);

#endif
