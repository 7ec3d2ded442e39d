/* perm.h – what a VM may touch (internal; asking is in secrun.h). */
#ifndef SR_PERM_H
#define SR_PERM_H

#include "secrun.h"

typedef struct sr_perms sr_perms;

/* Everything is allowed until a limit is set. */
sr_perms *sr_perms_new(void);
void sr_perms_free(sr_perms *perms);
/* One command-line flag: "--allow-net", "--deny-read", "--read-only"; value after '='. */
int sr_perms_parse(sr_perms *perms, const char *flag, const char *value, sr_err *err);
/* Make the stock libraries obey the VM's limits, or remove what cannot. */
void sr_perm_restrict_libs(lua_State *L);

/* secret.c: the type and the global `secret`. */
int sr_open_secret(lua_State *L);

#endif
