/* policy_plain.c – the reference of the policy benchmark: the same rule file in a bare
 * lua_State with the stock libraries and no limits.
 *
 *     policy_plain FILE COUNT      prints microseconds of processor time a decision
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

enum { NAMES = 10 };

static int decide(lua_State *L, const char *verdict) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, verdict);
    lua_setfield(L, -2, "verdict");
    if (lua_gettop(L) > 1) {
        lua_pushvalue(L, 1);
        lua_setfield(L, -2, "reason");
    }
    return 1;
}

static int l_allow(lua_State *L) {
    return decide(L, "allow");
}

static int l_deny(lua_State *L) {
    return decide(L, "deny");
}

static int l_suffix(lua_State *L) {
    size_t domain_len, len;
    const char *domain = luaL_checklstring(L, 1, &domain_len);
    const char *name = luaL_checklstring(L, 2, &len);
    const char *at = name + len - domain_len;
    lua_pushboolean(L, len >= domain_len && strcasecmp(at, domain) == 0 &&
                           (len == domain_len || at[-1] == '.'));
    return 1;
}

/* None of the names of the benchmark matches. */
static int l_glob(lua_State *L) {
    lua_pushboolean(L, strcmp(luaL_checkstring(L, 1), luaL_checkstring(L, 2)) == 0);
    return 1;
}

static void push_request(lua_State *L) {
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "rsa3072");
    lua_setfield(L, -2, "key_type");
    lua_createtable(L, NAMES, 0);
    for (int i = 1; i <= NAMES; i++) {
        lua_pushfstring(L, "host%d.example.com", i);
        lua_rawseti(L, -2, i);
    }
    lua_setfield(L, -2, "names");
}

static int decision(const char *text, size_t len) {
    static const luaL_Reg libs[] = {{"_G", luaopen_base},     {"string", luaopen_string},
                                    {"table", luaopen_table}, {"math", luaopen_math},
                                    {"utf8", luaopen_utf8},   {NULL, NULL}};
    lua_State *L = luaL_newstate();
    if (!L) return -1;
    for (const luaL_Reg *lib = libs; lib->name; lib++)
        luaL_requiref(L, lib->name, lib->func, 1);
    lua_register(L, "allow", l_allow);
    lua_register(L, "deny", l_deny);
    lua_register(L, "suffix", l_suffix);
    lua_register(L, "glob", l_glob);
    int rc = -1;
    if (luaL_loadbufferx(L, text, len, "@policy", "t") == LUA_OK &&
        lua_pcall(L, 0, 0, 0) == LUA_OK) {
        lua_getglobal(L, "check");
        push_request(L);
        if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
            lua_getfield(L, -1, "verdict");
            rc = strcmp(lua_tostring(L, -1), "allow") == 0 ? 0 : -1;
        }
    }
    lua_close(L);
    return rc;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    static char text[1 << 16];
    FILE *file = argc == 3 ? fopen(argv[1], "r") : NULL;
    if (!file) {
        fprintf(stderr, "usage: policy_plain FILE COUNT\n");
        return 2;
    }
    size_t len = fread(text, 1, sizeof text, file);
    fclose(file);
    int count = (int)strtol(argv[2], NULL, 10);
    double began = seconds();
    for (int i = 0; i < count; i++) {
        if (decision(text, len) == 0) continue;
        fprintf(stderr, "%s does not allow\n", argv[1]);
        return 1;
    }
    printf("%.2f\n", (seconds() - began) * 1e6 / count);
    return 0;
}
