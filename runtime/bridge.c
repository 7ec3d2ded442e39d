/* bridge.c – the least of perm.c and secret.c, so that bindings link until those land.
 * To be deleted with the commit that brings them: it allows everything, as an absence of
 * limits does, and refuses every limit.
 */
#include <stdlib.h>
#include <string.h>

#include "perm.h"
#include "vm.h"

struct sr_perms {
    int unused;
};

sr_perms *sr_perms_new(void) {
    return calloc(1, sizeof(sr_perms));
}

void sr_perms_free(sr_perms *perms) {
    free(perms);
}

int sr_perms_parse(sr_perms *perms, const char *flag, const char *value, sr_err *err) {
    (void)perms;
    (void)value;
    return sr_fail(err, SR_USAGE, NULL, "%s is not built yet", flag);
}

void sr_perm_restrict_libs(lua_State *L) {
    (void)L;
}

int sr_allowed(sr_vm *vm, sr_perm what, const char *target, sr_err *err) {
    (void)vm;
    (void)what;
    (void)target;
    (void)err;
    return 0;
}

void sr_allow(lua_State *L, sr_perm what, const char *target) {
    (void)L;
    (void)what;
    (void)target;
}

typedef struct secret {
    size_t len;
    char data[];
} secret;

void sr_push_secret(lua_State *L, const char *data, size_t len, const char *label) {
    (void)label;
    secret *s = lua_newuserdatauv(L, sizeof *s + len + 1, 0);
    s->len = len;
    memcpy(s->data, data, len);
    s->data[len] = '\0';
    luaL_setmetatable(L, SR_SECRET_TYPE);
}

const char *sr_check_secret(lua_State *L, int idx, size_t *ret_len) {
    secret *s = luaL_testudata(L, idx, SR_SECRET_TYPE);
    if (!s) return luaL_checklstring(L, idx, ret_len);
    if (ret_len) *ret_len = s->len;
    return s->data;
}

void sr_redact_add(const char *data, size_t len) {
    (void)data;
    (void)len;
}

void sr_redact(char *text) {
    (void)text;
}

int sr_open_secret(lua_State *L) {
    luaL_newmetatable(L, SR_SECRET_TYPE);
    lua_pop(L, 1);
    return 0;
}
