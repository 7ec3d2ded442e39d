/* perm.h – what a VM may touch (internal; asking is in secrun.h).
 *
 * Without flags everything is allowed. A flag narrows one thing and leaves the others
 * alone:
 *
 *     --allow-net=host[:port],*.suffix[:port],10.0.0.0/8,[::1]:443,unix:/path
 *     --allow-read=path,…  --allow-write=path,…   the path and what is below it
 *     --allow-run=name,/path/of/program,…  --allow-env=NAME,PREFIX_*
 *     --deny-…=…   wins over every --allow; without a value it denies all
 *     --read-only  no file is written and no program is run; the network is not its
 * matter
 *
 * An empty list (--allow-net=) allows nothing. A script's `needs` adds a second list that
 * must allow as well, so it can only narrow. Nothing here raises but the functions that
 * take a lua_State.
 */
#ifndef SR_PERM_H
#define SR_PERM_H

#include "secrun.h"

typedef struct sr_perms sr_perms;

/* Everything is allowed until a limit is set. NULL without memory. */
sr_perms *sr_perms_new(void);
sr_perms *sr_perms_copy(const sr_perms *perms);
void sr_perms_free(sr_perms *perms);
/* One command-line flag: "--allow-net", "--deny-read", "--read-only"; value after '='.
 * Paths are resolved now, against the working directory. */
int sr_perms_parse(sr_perms *perms, const char *flag, const char *value, sr_err *err);
/* Is anything limited? NULL is not. */
bool sr_perms_limited(const sr_perms *perms);

/* May it? 0, or -1 with kind denied and the mend. perms NULL allows everything. */
int sr_perms_check(const sr_perms *perms, sr_perm what, const char *target, sr_err *err);
/* For a connection: target is "host:port" as the script gave it, address the resolved
 * "192.0.2.1:443" or "[2001:db8::1]:443". The name or the address must be allowed,
 * neither may be denied. */
int sr_perms_check_peer(const sr_perms *perms, const char *target, const char *address,
                        sr_err *err);
/* Narrow by a script's `needs`, the table at idx: {net = {"*.example.com"}, read =
 * "/etc", write = false, run = {…}, env = {…}}; false or {} allows nothing, true or nil
 * leaves the thing alone, `store` is not ours. Raises usage on anything else. */
void sr_perms_narrow(lua_State *L, int idx, sr_perms *perms);

/* Where a path leads: absolute, without "." and "..", every symbolic link followed (the
 * last one only if follow_last), also where the end of the path does not exist yet. 0 or
 * -1 with *err (too long, too many links, no working directory). */
int sr_path_resolve(const char *path, bool follow_last, char *ret_path, size_t size,
                    sr_err *err);

/* Make the stock libraries obey the VM's limits, or remove what cannot: io and os ask,
 * package.loadlib and C modules go, debug keeps traceback and getinfo without functions.
 * os.execute and io.popen raise, with or without limits, because they block the loop. */
void sr_perm_restrict_libs(lua_State *L);

/* secret.c: the type and the global `secret`. */
int sr_open_secret(lua_State *L);

#endif
