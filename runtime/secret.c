/* secret.c – values that do not show: the type, and the global `secret`.
 *
 *     local password = secret "env:SCM_PASSWORD"
 *
 * A secret has no text but its source, does not join, count, index or serialise, and is
 * equal to another in a time that does not depend on the contents. Sinks that need the
 * bytes take them through sr_check_secret(). The bytes lie in the vault (vault.c), among
 * nothing but secrets, and are wiped when the secret is closed or collected. While it
 * lives its value is in the list of redact.c.
 */
#include "secret.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "perm.h"
#include "practice.h"
#include "redact.h"
#include "vault.h"

enum { LABEL_MAX = 96 };

struct secret {
    char *data; /* in the vault; NULL before it is filled and once closed */
    size_t len;
    bool held; /* in the list of redact.c */
    char label[LABEL_MAX];
};

/* ---------------------------------------------------------------- the bytes */

static int fill(struct secret *s, const char *data, size_t len) {
    s->data = sr_vault_take(len + 1);
    if (!s->data) return -1;
    if (len > 0) memcpy(s->data, data, len);
    s->data[len] = '\0';
    s->len = len;
    s->held = sr_redact_hold(data, len) == 0;
    return s->held ? 0 : -1;
}

static void wipe(struct secret *s) {
    if (!s->data) return;
    if (s->held) sr_redact_release(s->data, s->len);
    sr_vault_give(s->data, s->len + 1);
    s->data = NULL;
    s->len = 0;
}

void sr_push_secret(lua_State *L, const char *data, size_t len, const char *label) {
    struct secret *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct secret){0};
    luaL_setmetatable(L, SR_SECRET_TYPE);
    snprintf(s->label, sizeof s->label, "%s", label ? label : "value");
    for (char *p = s->label; *p; p++)
        if (iscntrl((unsigned char)*p)) *p = '?';
    if (fill(s, data, len)) luaL_error(L, "not enough memory");
}

static struct secret *check(lua_State *L, int idx) {
    struct secret *s = luaL_testudata(L, idx, SR_SECRET_TYPE);
    if (s && !s->data)
        sr_raise(L, SR_USAGE, "closed", "the secret %s was closed", s->label);
    return s;
}

const char *sr_check_secret(lua_State *L, int idx, size_t *ret_len) {
    const struct secret *s = check(L, idx);
    if (s) {
        if (ret_len) *ret_len = s->len;
        return s->data;
    }
    if (lua_type(L, idx) != LUA_TSTRING)
        sr_raise(L, SR_USAGE, "type", "expected a secret or a text, got %s",
                 luaL_typename(L, idx));
    return lua_tolstring(L, idx, ret_len);
}

/* ---------------------------------------------------------------- the type */

static int l_tostring(lua_State *L) {
    const struct secret *s = luaL_checkudata(L, 1, SR_SECRET_TYPE);
    lua_pushfstring(L, "[secret %s]", s->label);
    return 1;
}

static int l_close(lua_State *L) {
    wipe(luaL_checkudata(L, 1, SR_SECRET_TYPE));
    return 0;
}

static int l_concat(lua_State *L) {
    const struct secret *s = luaL_testudata(L, 1, SR_SECRET_TYPE);
    if (!s) s = luaL_testudata(L, 2, SR_SECRET_TYPE);
    return sr_raise(L, SR_USAGE, "secret",
                    "the secret %s cannot be joined to a text; give it as it is to the "
                    "function that needs it",
                    s ? s->label : "");
}

static int l_len(lua_State *L) {
    const struct secret *s = luaL_checkudata(L, 1, SR_SECRET_TYPE);
    return sr_raise(L, SR_USAGE, "secret", "the length of the secret %s is secret",
                    s->label);
}

static int l_eq(lua_State *L) {
    const struct secret *a = check(L, 1), *b = check(L, 2);
    bool comparable = a && b && a->len == b->len;
    unsigned char differ = 0;
    for (size_t i = 0; comparable && i < a->len; i++)
        differ |= (unsigned char)(a->data[i] ^ b->data[i]); /* never leaves early */
    lua_pushboolean(L, comparable && !differ);
    return 1;
}

static const luaL_Reg meta[] = {
    {"__tostring", l_tostring},
    {"__gc", l_close},
    {"__close", l_close},
    {"__concat", l_concat},
    {"__len", l_len},
    {"__eq", l_eq},
    {NULL, NULL},
};
static const luaL_Reg methods[] = {{"close", l_close}, {NULL, NULL}};

/* ---------------------------------------------------------------- sources */

void sr_secret_trim(sr_buf *value) {
    if (value->len > 0 && value->data[value->len - 1] == '\n')
        value->len--;
    else
        return;
    if (value->len > 0 && value->data[value->len - 1] == '\r') value->len--;
    value->data[value->len] = '\0';
}

int sr_secret_path(const char *source, char *ret_path, size_t size, sr_err *err) {
    int n = 0;
    *ret_path = '\0';
    if (strncmp(source, "file:", 5) == 0) {
        n = snprintf(ret_path, size, "%s", source + 5);
    } else if (strncmp(source, "cred:", 5) == 0) {
        const char *name = source + 5, *dir = getenv("CREDENTIALS_DIRECTORY");
        if (!*name || strchr(name, '/') || *name == '.')
            return sr_fail(err, SR_USAGE, "secret",
                           "secret '%s': a credential has a plain name", source);
        if (!dir || !*dir)
            return sr_fail(
                err, SR_NOT_FOUND, "secret",
                "secret '%s': there is no $CREDENTIALS_DIRECTORY; start it by a "
                "unit with LoadCredential=%s:/path",
                source, name);
        n = snprintf(ret_path, size, "%s/%s", dir, name);
    }
    if (n < 0 || (size_t)n >= size)
        return sr_fail(err, SR_USAGE, "secret", "secret: the path is too long");
    return 0;
}

static int read_env(const char *name, sr_buf *ret_value, sr_err *err) {
    const char *value = getenv(name);
    if (!*name)
        return sr_fail(err, SR_USAGE, "secret", "secret 'env:': name the variable");
    if (!value || !*value)
        return sr_fail(err, SR_NOT_FOUND, "secret",
                       "secret 'env:%s': the variable %s; set it, or use file:/path",
                       name, value ? "is empty" : "is not set");
    if (strlen(value) > SR_SECRET_MAX)
        return sr_fail(err, SR_LIMIT, "secret", "secret 'env:%s' is longer than 64 KiB",
                       name);
    sr_buf buf = {.secret = true};
    if (sr_buf_puts(&buf, value)) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory");
    *ret_value = buf;
    return 0;
}

/* Append what the descriptor gives, at most SR_SECRET_MAX bytes. */
static int slurp(int fd, const char *source, sr_buf *buf, sr_err *err) {
    for (;;) {
        char *room = sr_buf_reserve(buf, 4096);
        if (!room) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory");
        ssize_t n = read(fd, room, 4096);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return sr_fail_errno(err, errno, "secret '%s' cannot be read", source);
        if (n == 0) return 0;
        buf->len += (size_t)n;
        if (buf->len > SR_SECRET_MAX)
            return sr_fail(err, SR_LIMIT, "secret", "secret '%s' is longer than 64 KiB",
                           source);
    }
}

static int read_file(const char *source, const char *path, sr_buf *ret_value,
                     sr_err *err) {
    sr_buf buf = {.secret = true};
    struct stat st;
    int rc = -1, fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        sr_kind kind = errno == ENOENT || errno == ENOTDIR ? SR_NOT_FOUND : SR_DENIED;
        return sr_fail(err, kind, "secret",
                       "secret '%s': %s: %s; check the path and its owner", source, path,
                       strerror(errno));
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        sr_fail(err, SR_USAGE, "secret", "secret '%s': %s is not a regular file", source,
                path);
        goto out;
    }
    if (st.st_mode & (S_IRGRP | S_IROTH) && strncmp(source, "file:", 5) == 0)
        sr_log(NULL, SR_WARN, "secret", "%s can be read by others; chmod 600 it", path);
    if (slurp(fd, source, &buf, err)) goto out;
    sr_secret_trim(&buf);
    if (buf.len == 0) {
        sr_fail(err, SR_NOT_FOUND, "secret", "secret '%s': %s is empty", source, path);
        goto out;
    }
    *ret_value = buf;
    buf = (sr_buf){.secret = true};
    rc = 0;
out:
    sr_buf_free(&buf);
    close(fd);
    return rc;
}

int sr_secret_read(const char *source, sr_buf *ret_value, sr_err *err) {
    char path[PATH_MAX];
    if (strncmp(source, "env:", 4) == 0) return read_env(source + 4, ret_value, err);
    if (sr_secret_path(source, path, sizeof path, err)) return -1;
    if (*path) return read_file(source, path, ret_value, err);
    return sr_fail(
        err, SR_USAGE, "secret",
        "secret '%.80s': a source is \"env:NAME\", \"file:/path\", \"cred:NAME\" "
        "or {exec = {\"program\", \"argument\"}}",
        source);
}

/* ---------------------------------------------------------------- the global */

/* A source without its word in front is perhaps the secret itself: it is not repeated. */
static bool has_scheme(const char *source) {
    return strncmp(source, "env:", 4) == 0 || strncmp(source, "file:", 5) == 0 ||
           strncmp(source, "cred:", 5) == 0;
}

static int from_text(lua_State *L, const char *source) {
    char path[PATH_MAX];
    sr_err err = {0};
    if (!has_scheme(source))
        return sr_raise(
            L, SR_USAGE, "secret",
            "secret: a source is \"env:NAME\", \"file:/path\", \"cred:NAME\" or "
            "{exec = {\"program\", \"argument\"}}; a value does not belong into "
            "a script");
    if (strncmp(source, "env:", 4) == 0) sr_env_withhold(source + 4);
    if (!sr_practice_allows(source))
        path[0] = '\0';
    else if (strncmp(source, "env:", 4) == 0)
        sr_allow(L, SR_PERM_ENV, source + 4);
    else if (sr_secret_path(source, path, sizeof path, &err))
        return sr_throw(L, &err);
    else
        sr_allow(L, SR_PERM_READ, path);
    /* An empty secret first, so that nothing is lost when Lua runs out of memory. */
    struct secret *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct secret){0};
    luaL_setmetatable(L, SR_SECRET_TYPE);
    snprintf(s->label, sizeof s->label, "%s", source);
    if (!sr_practice_allows(source))
        return fill(s, SR_PRACTICE_SECRET, strlen(SR_PRACTICE_SECRET))
                   ? luaL_error(L, "not enough memory")
                   : 1;
    sr_buf value = {.secret = true};
    if (sr_secret_read(source, &value, &err)) return sr_throw(L, &err);
    int rc = fill(s, value.data, value.len);
    sr_buf_free(&value);
    return rc ? luaL_error(L, "not enough memory") : 1;
}

/* secret(source) – a string "env:NAME", "file:/path", "cred:NAME", a table
 * {exec = {argv…}}, or {["$secret"] = source} as it comes out of a cage. */
static int l_secret(lua_State *L) {
    lua_settop(L, 1);
    if (check(L, 1)) return 1;
    if (lua_istable(L, 1) && lua_getfield(L, 1, "$secret") != LUA_TNIL) lua_replace(L, 1);
    lua_settop(L, 1);
    if (lua_type(L, 1) == LUA_TSTRING) return from_text(L, lua_tostring(L, 1));
    if (lua_istable(L, 1) && lua_getfield(L, 1, "exec") == LUA_TTABLE)
        return sr_secret_exec(L, 2);
    return sr_raise(L, SR_USAGE, "secret",
                    "secret: expected a source like \"env:NAME\" or {exec = {…}}, got %s",
                    luaL_typename(L, 1));
}

int sr_open_secret(lua_State *L) {
    luaL_newmetatable(L, SR_SECRET_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_pushcfunction(L, l_secret);
    lua_setglobal(L, "secret");
    return 0;
}
