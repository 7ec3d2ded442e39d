/* practice.c – a run against a sandbox: what is real stays out of reach.
 *
 *     practice.folder()                → "/tmp/secrun-sandbox-…", or nil when the run is
 * real practice.path("/etc/ssl/www")    → "/tmp/secrun-sandbox-…/root/etc/ssl/www"
 *
 * The command line begins it for --sandbox, before any script has run, and nothing ends
 * it. Secrets then are not resolved (secret.c, secret_exec.c), and what would install or
 * reload asks here first. It is a guard against accidents, beside the permissions that
 * keep the network to loopback; it is no fence around hostile code.
 */
#include "practice.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static char practice_folder[PATH_MAX];

int sr_practice_begin(const char *folder, sr_err *err) {
    if (*practice_folder)
        return sr_fail(err, SR_USAGE, NULL, "this run practises already, in %s",
                       practice_folder);
    size_t len = strlen(folder);
    if (*folder != '/' || len < 2 || folder[len - 1] == '/' ||
        len >= sizeof practice_folder)
        return sr_fail(err, SR_USAGE, NULL, "practice: \"%s\" is no absolute path",
                       folder);
    memcpy(practice_folder, folder, len + 1);
    return 0;
}

const char *sr_practice_folder(void) {
    return *practice_folder ? practice_folder : NULL;
}

/* Within the folder, and not out of it again by "..". */
static bool inside(const char *path) {
    size_t len = strlen(practice_folder);
    return strncmp(path, practice_folder, len) == 0 && (path[len] == '/' || !path[len]) &&
           !strstr(path, "/..");
}

bool sr_practice_allows(const char *source) {
    if (!*practice_folder) return true;
    if (strncmp(source, "env:SECRUN_SANDBOX_", 19) == 0) return true;
    return strncmp(source, "file:", 5) == 0 && inside(source + 5);
}

static int l_folder(lua_State *L) {
    lua_pushstring(L, sr_practice_folder());
    return 1;
}

/* practice.path(path) → the path to use: itself when the run is real, when it is relative
 * or in the folder already. */
static int l_path(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    if (*practice_folder && *path == '/' && !inside(path))
        lua_pushfstring(L, "%s/root%s", practice_folder, path);
    return 1;
}

static const luaL_Reg functions[] = {
    {"folder", l_folder}, {"path", l_path}, {NULL, NULL}};

int sr_open_practice(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
