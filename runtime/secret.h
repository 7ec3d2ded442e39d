/* secret.h – where secrets come from (internal; the type itself is in secrun.h). */
#ifndef SR_SECRET_H
#define SR_SECRET_H

#include "secrun.h"

enum { SR_SECRET_MAX = 64 * 1024 }; /* bytes of one secret */

/* Read env:NAME, file:/path or cred:NAME into a secret buffer, without its final newline.
 * Permissions are the caller's matter. 0, or -1 with not_found, denied, usage or limit
 * and the mend. Only regular files are read. */
int sr_secret_read(const char *source, sr_buf *ret_value, sr_err *err);
/* The path behind file: or cred:, to be asked for; "" when there is none. */
int sr_secret_path(const char *source, char *ret_path, size_t size, sr_err *err);
/* Cut one "\n" or "\r\n" off. */
void sr_secret_trim(sr_buf *value);

/* secret_exec.c: run argv, a table at idx, and return a secret with its output. Waits. */
int sr_secret_exec(lua_State *L, int idx);

#endif
