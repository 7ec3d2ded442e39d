/* stream_tls.c – the option `tls = {…}` of streams, and what conn:tls() tells.
 *
 * cert, key and ca are PEM text when they contain "-----BEGIN", else the path of a file
 * (which the VM must be allowed to read); certificates may also be an x509.cert or a list
 * of them, leaf first, and a key a secret or an x509.key.
 */
#include "stream_lua.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pki/pki.h"

#define CTX_TYPE "stream.tls"

enum { FILE_MAX = 4 << 20 };

static const sr_arg client_args[] = {
    {"verify", SR_BOOL, 0, "true", "check the peer's certificate and name"},
    {"ca", SR_ANY, 0, "the system's bundle",
     "CA certificates: PEM, file, x509.cert or list"},
    {"cert", SR_ANY, 0, NULL, "certificate and chain: PEM, file, x509.cert or list"},
    {"key", SR_ANY, 0, NULL, "its key: x509.key, secret, PEM or file"},
    {"passphrase", SR_SECRET, 0, NULL, "of an encrypted key"},
    {"servername", SR_STRING, SR_NONEMPTY, "host", "name to send and to verify"},
    {"alpn", SR_LIST, 0, NULL, "protocols, most wanted first", .choices = "string"},
    {"min_version", SR_ENUM, 0, "1.2", "oldest TLS version", .choices = "1.2|1.3"},
    {"max_version", SR_ENUM, 0, NULL, "newest TLS version", .choices = "1.2|1.3"},
    {"allow_truncated", SR_BOOL, 0, "false", "take an end without close_notify as clean"},
    {0}};

static const sr_arg server_args[] = {
    {"cert", SR_ANY, 0, NULL, "certificate and chain: PEM, file, x509.cert or list"},
    {"key", SR_ANY, 0, NULL, "its key: x509.key, secret, PEM or file"},
    {"passphrase", SR_SECRET, 0, NULL, "of an encrypted key"},
    {"certs", SR_LIST, 0, NULL,
     "more of {cert=, key=}, chosen by the client's server name", .choices = "table"},
    {"client_auth", SR_ENUM, 0, "none", "ask clients for a certificate",
     .choices = "none|request|require"},
    {"ca", SR_ANY, 0, NULL, "CAs of client certificates: PEM, file, x509.cert or list"},
    {"verify", SR_BOOL, 0, "true", "check client certificates"},
    {"alpn", SR_LIST, 0, NULL, "protocols, most wanted first", .choices = "string"},
    {"min_version", SR_ENUM, 0, "1.2", "oldest TLS version", .choices = "1.2|1.3"},
    {"max_version", SR_ENUM, 0, NULL, "newest TLS version", .choices = "1.2|1.3"},
    {"allow_truncated", SR_BOOL, 0, "false", "take an end without close_notify as clean"},
    {0}};

static const sr_arg pair_args[] = {
    {"cert", SR_ANY, SR_REQUIRED, NULL, "certificate and chain"},
    {"key", SR_ANY, SR_REQUIRED, NULL, "its key: x509.key, secret, PEM or file"},
    {"passphrase", SR_SECRET, 0, NULL, "of an encrypted key"},
    {0}};

/* ---------------------------------------------------------------- files, no Lua */

static bool is_pem(const char *text, size_t len) {
    return memmem(text, len, "-----BEGIN", 10) != NULL;
}

/* A whole small file. The buffer is wiped when freed. */
static int read_file(const char *path, sr_buf *buf, sr_err *err) {
    FILE *f = fopen(path, "re");
    buf->secret = true;
    if (!f) return sr_fail_errno(err, errno, "cannot read %s", path);
    for (;;) {
        char *room = sr_buf_reserve(buf, 16384);
        size_t n = room && buf->len < FILE_MAX ? fread(room, 1, 16384, f) : 0;
        buf->len += n;
        if (!n) break;
    }
    int failed = ferror(f), errnum = errno;
    bool whole = feof(f);
    fclose(f);
    if (buf->data) buf->data[buf->len] = 0;
    if (failed) return sr_fail_errno(err, errnum, "cannot read %s", path);
    if (!whole)
        return sr_fail(err, SR_LIMIT, NULL, "%s is too big for a certificate", path);
    return 0;
}

typedef struct text {
    const char *data;
    size_t len;
} text;

/* PEM as it is, or the file's content through buf. */
static int load(text *t, sr_buf *buf, sr_err *err) {
    if (is_pem(t->data, t->len)) return 0;
    if (read_file(t->data, buf, err) != 0) return -1;
    *t = (text){buf->data, buf->len};
    return 0;
}

static int add_identity(sr_tls_ctx *ctx, text cert, text key, EVP_PKEY *pkey,
                        const char *passphrase, sr_err *err) {
    sr_buf cert_file = {0}, key_file = {0};
    int rc = load(&cert, &cert_file, err);
    if (rc == 0 && !pkey) rc = load(&key, &key_file, err);
    if (rc == 0)
        rc = pkey ? sr_tls_ctx_identity_key(ctx, cert.data, cert.len, pkey, err)
                  : sr_tls_ctx_identity_pem(ctx, cert.data, cert.len, key.data, key.len,
                                            passphrase, err);
    sr_buf_free(&cert_file);
    sr_buf_free(&key_file);
    return rc;
}

static int add_trust(sr_tls_ctx *ctx, text ca, sr_err *err) {
    X509_STORE *store = is_pem(ca.data, ca.len) ? sr_tls_trust_pem(ca.data, ca.len, err)
                                                : sr_tls_trust_file(ca.data, err);
    if (!store) return -1;
    sr_tls_ctx_trust(ctx, store);
    X509_STORE_free(store);
    return 0;
}

/* ---------------------------------------------------------------- options */

/* A name in an error: "stream.listen: tls: …". */
static int refuse(lua_State *L, const char *fn, sr_err *err) {
    snprintf(err->op, sizeof err->op, "%s: tls", fn);
    return sr_throw(L, err);
}

/* Push the certificate as PEM (RFC 7468), in memory of Lua's only. */
static void push_pem(lua_State *L, X509 *cert) {
    luaL_Buffer b;
    unsigned char line[68];
    int len = i2d_X509(cert, NULL);
    if (len <= 0) luaL_error(L, "the peer's certificate cannot be encoded");
    unsigned char *der = lua_newuserdatauv(L, (size_t)len, 0), *end = der;
    i2d_X509(cert, &end);
    luaL_buffinit(L, &b);
    luaL_addstring(&b, "-----BEGIN CERTIFICATE-----\n");
    for (int at = 0; at < len; at += 48) {
        int n = EVP_EncodeBlock(line, der + at, len - at < 48 ? len - at : 48);
        luaL_addlstring(&b, (const char *)line, (size_t)n);
        luaL_addchar(&b, '\n');
    }
    luaL_addstring(&b, "-----END CERTIFICATE-----\n");
    luaL_pushresult(&b);
    lua_remove(L, -2);
}

/* Push the PEM of the x509.cert or list of them on top of the stack. */
static void push_certs(lua_State *L, const char *key) {
    luaL_Buffer b;
    int value = lua_gettop(L);
    if (luaL_testudata(L, value, SR_CERT_TYPE)) {
        push_pem(L, sr_check_cert(L, value)->x509);
        return;
    }
    if (!lua_istable(L, value) || lua_rawlen(L, value) == 0)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "tls: %s must be PEM, a path, an x509.cert or a list of them, got %s",
                 key, luaL_typename(L, value));
    luaL_buffinit(L, &b);
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, value); i++) {
        lua_rawgeti(L, value, i);
        push_pem(L, sr_check_cert(L, -1)->x509);
        lua_remove(L, -2);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
}

/* The text of field key, pushed so that it stays: a string or secret as it is,
 * certificates as PEM. A path is asked for. */
static text field_text(lua_State *L, int idx, const char *key) {
    text t = {NULL, 0};
    int type = sr_arg_push(L, idx, key);
    if (type == LUA_TNIL) return t;
    if (type != LUA_TSTRING && !luaL_testudata(L, -1, SR_SECRET_TYPE)) {
        push_certs(L, key);
        lua_remove(L, -2);
    }
    t.data = sr_check_secret(L, -1, &t.len);
    if (is_pem(t.data, t.len)) return t;
    if (strlen(t.data) != t.len || luaL_testudata(L, -1, SR_SECRET_TYPE))
        sr_raise(L, SR_USAGE, NULL, "tls: %s is neither PEM nor the path of a file", key);
    sr_allow(L, SR_PERM_READ, t.data);
    return t;
}

/* cert and key of the table at idx, if given. */
static void read_identity(lua_State *L, int idx, const char *fn, sr_tls_ctx *ctx) {
    sr_err err = {0};
    int top = lua_gettop(L);
    text cert = field_text(L, idx, "cert"), key = {NULL, 0};
    const char *passphrase = NULL;
    EVP_PKEY *pkey = NULL;
    bool has_key = sr_arg_push(L, idx, "key") != LUA_TNIL;
    if (has_key != (cert.data != NULL))
        sr_raise(L, SR_USAGE, NULL, "%s: tls: give both cert and key, or neither", fn);
    if (luaL_testudata(L, -1, SR_KEY_TYPE))
        pkey = sr_check_key(L, -1)->pkey;
    else if (has_key)
        key = field_text(L, idx, "key");
    if (sr_arg_push(L, idx, "passphrase") != LUA_TNIL)
        passphrase = sr_check_secret(L, -1, NULL);
    if (has_key && add_identity(ctx, cert, key, pkey, passphrase, &err) != 0)
        refuse(L, fn, &err);
    lua_settop(L, top);
}

static void read_identities(lua_State *L, int idx, const char *fn, sr_tls_ctx *ctx) {
    sr_spec spec = {fn, "one certificate", pair_args};
    read_identity(L, idx, fn, ctx);
    if (sr_arg_push(L, idx, "certs") == LUA_TTABLE)
        for (lua_Integer i = 1; lua_geti(L, -1, i) != LUA_TNIL; i++) {
            sr_args(L, -1, &spec);
            read_identity(L, lua_gettop(L), fn, ctx);
            lua_pop(L, 1);
        }
    else
        lua_pushnil(L);
    lua_pop(L, 2);
}

static void read_alpn(lua_State *L, int idx, const char *fn, sr_tls_ctx *ctx) {
    sr_err err = {0};
    if (sr_arg_push(L, idx, "alpn") == LUA_TTABLE) {
        for (lua_Integer i = 1; lua_geti(L, -1, i) != LUA_TNIL; i++) {
            if (sr_tls_ctx_alpn(ctx, lua_tostring(L, -1), &err) != 0) refuse(L, fn, &err);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void read_auth(lua_State *L, int idx, sr_tls_ctx *ctx) {
    const char *auth = sr_arg_string(L, idx, "client_auth", "none", NULL);
    sr_tls_ctx_client_auth(ctx, strcmp(auth, "require") == 0   ? SR_TLS_AUTH_REQUIRE
                                : strcmp(auth, "request") == 0 ? SR_TLS_AUTH_REQUEST
                                                               : SR_TLS_AUTH_NONE);
}

static void read_options(lua_State *L, int idx, const char *fn, bool server,
                         sr_tls_ctx *ctx) {
    sr_err err = {0};
    text ca = field_text(L, idx, "ca");
    if (ca.data && add_trust(ctx, ca, &err) != 0) refuse(L, fn, &err);
    lua_pop(L, 1);
    sr_tls_ctx_verify(ctx, sr_arg_bool(L, idx, "verify", true));
    sr_tls_ctx_allow_truncated(ctx, sr_arg_bool(L, idx, "allow_truncated", false));
    if (sr_tls_ctx_versions(ctx, sr_arg_string(L, idx, "min_version", NULL, NULL),
                            sr_arg_string(L, idx, "max_version", NULL, NULL), &err) != 0)
        refuse(L, fn, &err);
    read_alpn(L, idx, fn, ctx);
    if (server) read_auth(L, idx, ctx);
    read_identities(L, idx, fn, ctx);
}

sr_tls_ctx *sr_push_tls_ctx(lua_State *L, int idx, const char *fn, bool server,
                            const char **ret_name) {
    char name[96];
    sr_err err = {0};
    idx = lua_absindex(L, idx);
    snprintf(name, sizeof name, "%s: tls", fn);
    sr_spec spec = {name, "how to speak TLS", server ? server_args : client_args};
    if (lua_isboolean(L, idx) && lua_toboolean(L, idx)) {
        lua_newtable(L);
        lua_replace(L, idx);
    }
    sr_args(L, idx, &spec);
    sr_tls_ctx **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    sr_open_stream_tls(L); /* http.serve comes here without module stream */
    luaL_setmetatable(L, CTX_TYPE);
    *box = sr_tls_ctx_new(server);
    if (!*box) luaL_error(L, "not enough memory");
    read_options(L, idx, fn, server, *box);
    if (sr_tls_ctx_check(*box, &err) != 0) refuse(L, fn, &err);
    if (!server && !sr_arg_bool(L, idx, "verify", true))
        sr_log(L, SR_WARN, "stream", "%s: the peer's certificate is not verified", fn);
    if (ret_name) *ret_name = sr_arg_string(L, idx, "servername", NULL, NULL);
    return *box;
}

static int l_ctx_gc(lua_State *L) {
    sr_tls_ctx **box = luaL_checkudata(L, 1, CTX_TYPE);
    sr_tls_ctx_unref(*box);
    *box = NULL;
    return 0;
}

void sr_open_stream_tls(lua_State *L) {
    luaL_newmetatable(L, CTX_TYPE);
    lua_pushcfunction(L, l_ctx_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

/* ---------------------------------------------------------------- what was agreed */

static void set_string(lua_State *L, const char *key, const char *value) {
    if (!value) return;
    lua_pushstring(L, value);
    lua_setfield(L, -2, key);
}

void sr_push_tls_info(lua_State *L, sr_tls *tls) {
    sr_tls_info info;
    sr_tls_get_info(tls, &info);
    lua_createtable(L, 0, 8); /* info */
    set_string(L, "version", info.version);
    set_string(L, "cipher", info.cipher);
    set_string(L, "alpn", info.alpn);
    set_string(L, "servername", info.servername);
    set_string(L, "verify_error", info.verify_code);
    lua_pushboolean(L, info.verified);
    lua_setfield(L, -2, "verified");
    lua_newtable(L); /* info, chain */
    X509 *cert;
    for (size_t i = 0; (cert = sr_tls_peer_cert(tls, i)); i++) {
        push_pem(L, cert);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "peer_chain");
}
