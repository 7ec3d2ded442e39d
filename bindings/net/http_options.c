/* http_options.c – the option table of http.request as a request of the C client.
 *
 * One table describes every option, also those that the Lua layer handles itself (json,
 * form, query, sink, retry, raise, accept_status), so that a misspelt name is found
 * whichever layer it belongs to.
 *
 * Filling may raise at any line: the request hangs in a userdata box that frees it. This
 * is the place, and the only one, where the client unwraps secrets.
 */
#include "net/http_face.h"
#include "pki/pki.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOX_TYPE "http.request box"

static const sr_arg args[] = {
    {"url", SR_STRING, 0, NULL, "absolute http or https URL", NULL, 0},
    {"method", SR_STRING, SR_NONEMPTY, "GET", "request method", NULL, 0},
    {"headers", SR_TABLE, 0, NULL, "name → string, secret or list of them", NULL, 0},
    {"body", SR_ANY, 0, NULL, "string, secret, function() → chunk or nil, {file = path}",
     NULL, 0},
    {"json", SR_ANY, 0, NULL, "value to send as JSON", NULL, 0},
    {"form", SR_TABLE, 0, NULL, "fields to send form-encoded", NULL, 0},
    {"query", SR_TABLE, 0, NULL, "parameters added to the URL", NULL, 0},
    {"timeout", SR_DURATION, SR_POSITIVE, "30s", "for everything, redirects included",
     NULL, 0},
    {"connect_timeout", SR_DURATION, SR_POSITIVE, "10s", "until a connection is ready",
     NULL, 0},
    {"max_body", SR_ANY, 0, "16MiB", "bound of the decoded body: bytes or \"64MiB\"",
     NULL, 0},
    {"sink", SR_ANY, 0, NULL, "function(chunk) or {file = path} that takes the body",
     NULL, 0},
    {"redirects", SR_INT, 0, "5 for GET and HEAD, else 0", "how many to follow", NULL,
     50},
    {"ca", SR_ANY, 0, "system", "path, folder, PEM text, \"system\" or a list of them",
     NULL, 0},
    {"cert", SR_SECRET, 0, NULL, "client certificate and chain: path or PEM text", NULL,
     0},
    {"key", SR_ANY, 0, NULL, "its key: path, PEM text, secret or x509 key", NULL, 0},
    {"key_password", SR_SECRET, 0, NULL, "opens the key", NULL, 0},
    {"verify", SR_BOOL, 0, "true", "false trusts everybody", NULL, 0},
    {"proxy", SR_ANY, 0, "the environment's", "URL, secret, or false for none", NULL, 0},
    {"no_proxy", SR_STRING, 0, "the environment's", "hosts asked directly", NULL, 0},
    {"resolve", SR_TABLE, 0, NULL, "[\"host:port\"] = \"address\"", NULL, 0},
    {"http_version", SR_ENUM, 0, "2 over TLS if offered", "1.1 or 2", "1.1|2", 0},
    {"auth", SR_TABLE, 0, NULL, "{user =, password = secret}: Basic", NULL, 0},
    {"bearer", SR_SECRET, 0, NULL, "bearer token", NULL, 0},
    {"user_agent", SR_STRING, 0, "secrun/VERSION", "User-Agent", NULL, 0},
    {"retry", SR_ANY, 0, NULL, "{times =, base =, cap =}, or a number of times", NULL, 0},
    {"raise", SR_BOOL, 0, "true", "a status of 400 or more raises", NULL, 0},
    {"accept_status", SR_LIST, 0, NULL, "statuses that do not raise", NULL, 0},
    {"no_private_addresses", SR_BOOL, 0, "false", "refuse addresses that are not public",
     NULL, 0},
    {"idempotent", SR_BOOL, 0, "by method", "it may be sent twice", NULL, 0},
    {"compressed", SR_BOOL, 0, "true", "ask for gzip", NULL, 0},
    {"keep_alive", SR_BOOL, 0, "true", "keep the connection for later requests", NULL, 0},
    {"pool", SR_TABLE, 0, NULL, "{total = 64, per_host = 8} connections", NULL, 0},
    {0}};
static const sr_spec spec = {"http.request", "Make one HTTP request.", args};

/* ---------------------------------------------------------------- the box */

static int l_box_free(lua_State *L) {
    sr_http_request **box = lua_touserdata(L, 1);
    sr_http_request_free(*box);
    *box = NULL;
    return 0;
}

void sr_http_box_push(lua_State *L) {
    sr_http_request **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    if (luaL_newmetatable(L, BOX_TYPE)) {
        lua_pushcfunction(L, l_box_free);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
}

sr_http_request *sr_http_box_take(lua_State *L, int idx) {
    sr_http_request **box = lua_touserdata(L, idx);
    sr_http_request *req = *box;
    *box = NULL;
    return req;
}

/* A failure while filling: the box is emptied by the next call or its finaliser. */
static void check(lua_State *L, int rc, const sr_err *err) {
    if (rc < 0) sr_throw(L, err);
}

SR_NORETURN static void bad(lua_State *L, const char *option, const char *want, int idx) {
    sr_raise(L, SR_USAGE, "BAD_OPTION", "http.request: %s: expected %s, got %s", option,
             want, luaL_typename(L, idx));
}

static bool is_secret(lua_State *L, int idx) {
    return luaL_testudata(L, idx, SR_SECRET_TYPE) != NULL;
}

/* Memory of ours with the text at idx, a string or secret. */
static char *copy_text(lua_State *L, int idx, const char *option) {
    size_t len;
    if (lua_type(L, idx) != LUA_TSTRING && !is_secret(L, idx))
        bad(L, option, "a string or secret", idx);
    const char *text = sr_check_secret(L, idx, &len);
    if (strlen(text) != len)
        sr_raise(L, SR_USAGE, "BAD_OPTION", "http.request: %s has a NUL byte", option);
    char *copy = strdup(text);
    if (!copy) luaL_error(L, "not enough memory");
    return copy;
}

/* ---------------------------------------------------------------- headers */

/* One header; its value is at the top and stays. */
static void add_header(lua_State *L, sr_http_request *req, const char *name) {
    sr_err err;
    size_t len;
    int top = lua_gettop(L);
    bool secret = is_secret(L, top);
    bool text = lua_type(L, top) == LUA_TSTRING || lua_isinteger(L, top);
    if (!secret && !text)
        sr_raise(L, SR_USAGE, "BAD_HEADER",
                 "http.request: headers: %s: expected a string or secret, got %s", name,
                 luaL_typename(L, top));
    lua_pushvalue(L, top); /* of a number tolstring would change the table's own value */
    const char *value =
        secret ? sr_check_secret(L, -1, &len) : lua_tolstring(L, -1, &len);
    check(L, sr_http_request_header(req, name, value, len, secret, &err), &err);
    if (secret) sr_redact_add(value, len);
    lua_settop(L, top);
}

static void fill_headers(lua_State *L, sr_http_request *req) {
    if (sr_arg_push(L, 1, "headers") != LUA_TTABLE) {
        lua_pop(L, 1);
        return;
    }
    int table = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) bad(L, "headers", "names as keys", -2);
        const char *name = lua_tostring(L, -2);
        if (lua_type(L, -1) != LUA_TTABLE) {
            add_header(L, req, name);
            continue;
        }
        for (lua_Integer i = 1; lua_geti(L, -1, i) != LUA_TNIL; i++) {
            add_header(L, req, name);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void fill_auth(lua_State *L, sr_http_request *req) {
    sr_err err;
    size_t len;
    if (sr_arg_push(L, 1, "auth") == LUA_TTABLE) {
        lua_getfield(L, -1, "user");
        lua_getfield(L, -2, "password");
        if (lua_type(L, -2) != LUA_TSTRING) bad(L, "auth.user", "a string", -2);
        if (lua_type(L, -1) != LUA_TSTRING && !is_secret(L, -1))
            bad(L, "auth.password", "a secret or string", -1);
        const char *password = sr_check_secret(L, -1, &len);
        check(L, sr_http_request_basic(req, lua_tostring(L, -2), password, len, &err),
              &err);
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
    if (sr_arg_push(L, 1, "bearer") != LUA_TNIL) {
        const char *token = sr_check_secret(L, -1, &len);
        sr_redact_add(token, len);
        sr_buf value = {.secret = true};
        sr_buf_puts(&value, "Bearer ");
        if (sr_buf_append(&value, token, len) < 0) luaL_error(L, "not enough memory");
        int rc = sr_http_request_header(req, "Authorization", value.data, value.len, true,
                                        &err);
        sr_buf_free(&value);
        check(L, rc, &err);
    }
    lua_pop(L, 1);
}

static void fill_extra_headers(lua_State *L, sr_http_request *req) {
    sr_err err;
    size_t len;
    const char *agent = sr_arg_string(L, 1, "user_agent", NULL, &len);
    if (agent)
        check(L, sr_http_request_header(req, "User-Agent", agent, len, false, &err),
              &err);
    const char *type = lua_tolstring(L, 5, &len);
    if (type && !sr_http_request_has(req, "content-type"))
        check(L, sr_http_request_header(req, "Content-Type", type, len, false, &err),
              &err);
}

/* ---------------------------------------------------------------- the body */

static void fill_file(lua_State *L, sr_http_request *req, int idx) {
    struct stat st = {0};
    if (lua_getfield(L, idx, "file") != LUA_TSTRING) bad(L, "body", "{file = path}", idx);
    const char *path = lua_tostring(L, -1);
    sr_allow(L, SR_PERM_READ, path);
    req->fd = open(path, O_RDONLY | O_CLOEXEC);
    sr_err err;
    if (req->fd < 0 || fstat(req->fd, &st) < 0)
        check(L, sr_fail_errno(&err, errno, "body: %.200s cannot be read", path), &err);
    if (!S_ISREG(st.st_mode))
        sr_raise(L, SR_USAGE, "BAD_OPTION", "http.request: body: %s is not a file", path);
    req->body = SR_HTTP_FILE;
    req->body_size = st.st_size;
    lua_pop(L, 1);
}

static void fill_body(lua_State *L, sr_http_request *req) {
    if (lua_isnil(L, 4))
        sr_arg_push(L, 1, "body");
    else
        lua_pushvalue(L, 4);
    int idx = lua_gettop(L), type = lua_type(L, idx);
    bool secret = is_secret(L, idx);
    if (type == LUA_TFUNCTION) {
        req->body = SR_HTTP_PULL;
    } else if (type == LUA_TTABLE) {
        fill_file(L, req, idx);
    } else if (type == LUA_TSTRING || secret) {
        size_t len;
        const char *bytes = sr_check_secret(L, idx, &len);
        req->bytes.secret = secret;
        req->body = SR_HTTP_BYTES;
        if (sr_buf_append(&req->bytes, bytes, len) < 0)
            luaL_error(L, "not enough memory");
    } else if (type != LUA_TNIL) {
        bad(L, "body", "a string, secret, function or {file = path}", idx);
    }
    lua_settop(L, idx - 1);
}

/* ---------------------------------------------------------------- bounds */

/* "64MiB" or a number of bytes; -1 when it is neither. */
static int64_t read_size(const char *text) {
    static const struct {
        const char *unit;
        int shift;
    } units[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || value < 0 || value > 1LL << 32) return -1;
    while (*end == ' ')
        end++;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].unit) == 0) return (int64_t)value << units[i].shift;
    return -1;
}

static void fill_max_body(lua_State *L, sr_http_request *req) {
    int type = sr_arg_push(L, 1, "max_body");
    if (type == LUA_TNUMBER && lua_tonumber(L, -1) >= 0)
        req->max_body = (int64_t)lua_tonumber(L, -1);
    else if (type == LUA_TSTRING)
        req->max_body = read_size(lua_tostring(L, -1));
    else if (type != LUA_TNIL)
        req->max_body = -1;
    if (type != LUA_TNIL && req->max_body < 0)
        bad(L, "max_body", "a number of bytes or text like \"64MiB\"", -1);
    lua_pop(L, 1);
    if (type != LUA_TNIL) return;
    if (sr_arg_push(L, 1, "sink") != LUA_TNIL) req->max_body = -1; /* nothing is held */
    lua_pop(L, 1);
}

static void fill_bounds(lua_State *L, sr_http_request *req) {
    bool reads = strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0;
    req->timeout = sr_arg_duration(L, 1, "timeout", req->timeout);
    req->connect_timeout = sr_arg_duration(L, 1, "connect_timeout", req->connect_timeout);
    req->redirects = (int)sr_arg_int(L, 1, "redirects", reads ? 5 : 0);
    if (req->redirects < 0)
        sr_raise(L, SR_USAGE, "BAD_OPTION", "http.request: redirects: expected 0 to 50");
    req->verify = sr_arg_bool(L, 1, "verify", true);
    req->public_only = sr_arg_bool(L, 1, "no_private_addresses", false);
    req->idempotent = sr_arg_bool(L, 1, "idempotent", req->idempotent);
    req->raw = !sr_arg_bool(L, 1, "compressed", true);
    req->last = !sr_arg_bool(L, 1, "keep_alive", true);
    const char *version = sr_arg_string(L, 1, "http_version", "", NULL);
    req->version = !*version ? 0 : *version == '1' ? 11 : 20;
    if (sr_arg_push(L, 1, "pool") == LUA_TTABLE) {
        req->pool_total = (int)sr_arg_int(L, -1, "total", req->pool_total);
        req->pool_host = (int)sr_arg_int(L, -1, "per_host", req->pool_host);
        if (req->pool_total < 1 || req->pool_host < 1 || req->pool_total > 4096)
            bad(L, "pool", "total and per_host of 1 to 4096", -1);
    }
    lua_pop(L, 1);
    fill_max_body(L, req);
}

/* ---------------------------------------------------------------- TLS */

enum { MOST_CAS = 64 };

static const char *ca_source(lua_State *L, int idx) {
    size_t len;
    if (lua_type(L, idx) != LUA_TSTRING) bad(L, "ca", "text or a list of texts", idx);
    const char *source = lua_tolstring(L, idx, &len);
    if (strlen(source) != len || !len) bad(L, "ca", "a path or PEM text", idx);
    if (strcmp(source, "system") != 0 && !strstr(source, "-----BEGIN "))
        sr_allow(L, SR_PERM_READ, source);
    return source;
}

static void fill_ca(lua_State *L, sr_http_request *req) {
    const char *sources[MOST_CAS];
    size_t count = 0;
    int type = sr_arg_push(L, 1, "ca"), idx = lua_gettop(L);
    if (type == LUA_TTABLE) {
        size_t n = lua_rawlen(L, idx);
        luaL_checkstack(L, MOST_CAS, "ca");
        if (n < 1 || n > MOST_CAS) bad(L, "ca", "1 to 64 sources", idx);
        for (size_t i = 1; i <= n; i++) {
            lua_rawgeti(L, idx, (lua_Integer)i);
            sources[count++] = ca_source(L, -1); /* stays on the stack meanwhile */
        }
    } else if (type != LUA_TNIL) {
        sources[count++] = ca_source(L, idx);
    }
    sr_err err;
    if (count && req->verify)
        check(L, sr_http_ca_get(sr_loop_of(L), sources, count, &req->ca, &err), &err);
    lua_settop(L, idx - 1);
}

/* Text of cert, key or key_password: the string or secret at the top, which stays there.
 */
static const char *material(lua_State *L, const char *option, bool is_path) {
    size_t len;
    if (lua_isnil(L, -1)) return NULL;
    if (lua_type(L, -1) != LUA_TSTRING && !is_secret(L, -1))
        bad(L, option, "a path, PEM text or secret", -1);
    const char *text = sr_check_secret(L, -1, &len);
    if (strlen(text) != len || !len) bad(L, option, "text without NUL", -1);
    if (is_path && !strstr(text, "-----BEGIN ")) sr_allow(L, SR_PERM_READ, text);
    return text;
}

static void fill_identity(lua_State *L, sr_http_request *req) {
    sr_http_identity_source source = {0};
    sr_err err;
    int top = lua_gettop(L);
    sr_arg_push(L, 1, "cert");
    source.cert = material(L, "cert", true);
    sr_arg_push(L, 1, "key");
    const sr_key *key = luaL_testudata(L, -1, SR_KEY_TYPE);
    if (key)
        source.pkey = key->pkey;
    else
        source.key = material(L, "key", true);
    sr_arg_push(L, 1, "key_password");
    source.password = material(L, "key_password", false);
    if (!source.cert && (source.key || key))
        sr_raise(L, SR_USAGE, "BAD_OPTION", "http.request: key without cert; give both");
    if (key && (!key->pkey || !key->is_private))
        sr_raise(L, SR_USAGE, "BAD_OPTION", "http.request: key: a private key is needed");
    if (source.cert)
        check(L, sr_http_identity_get(sr_loop_of(L), &source, &req->identity, &err),
              &err);
    lua_settop(L, top);
}

/* Once for each host in a process: nobody shall believe that this connection is safe. */
static void warn_unverified(lua_State *L, const sr_http_request *req) {
    if (req->verify || !req->url.https) return;
    luaL_getsubtable(L, LUA_REGISTRYINDEX, "http.unverified");
    lua_pushstring(L, req->url.peer);
    if (lua_rawget(L, -2) == LUA_TNIL) {
        sr_log(L, SR_WARN, "http",
               "TLS VERIFICATION IS OFF for %s (verify = false): anybody on the way can "
               "read and change everything",
               req->url.peer);
        lua_pushstring(L, req->url.peer);
        lua_pushboolean(L, true);
        lua_rawset(L, -4);
    }
    lua_pop(L, 2);
}

/* ---------------------------------------------------------------- the way there */

/* The proxy sees everything that goes through it, so it has to be allowed too. */
static void allow_proxy(lua_State *L, const char *proxy) {
    sr_http_url url = {0};
    sr_err err;
    char peer[300];
    if (sr_http_url_parse(proxy, strlen(proxy), &url, &err) < 0)
        sr_raise(L, SR_USAGE, "BAD_OPTION",
                 "http.request: proxy: expected http://host:port or https://host:port");
    snprintf(peer, sizeof peer, "%s", url.peer);
    if (url.password) sr_redact_add(url.password, strlen(url.password));
    sr_http_url_free(&url);
    sr_allow(L, SR_PERM_NET, peer);
}

static void fill_proxy(lua_State *L, sr_http_request *req) {
    int type = sr_arg_push(L, 1, "proxy");
    if (type == LUA_TBOOLEAN && !lua_toboolean(L, -1))
        lua_pushliteral(L, "");
    else
        lua_pushvalue(L, -1);
    if (type != LUA_TNIL) req->proxy = copy_text(L, -1, "proxy");
    lua_pop(L, 2);
    if (req->proxy && *req->proxy) allow_proxy(L, req->proxy);
    const char *direct = sr_arg_string(L, 1, "no_proxy", NULL, NULL);
    if (direct && !(req->no_proxy = strdup(direct))) luaL_error(L, "not enough memory");
}

static bool is_host_port(const char *text) {
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || !colon[1]) return false;
    for (const char *p = text; *p; p++)
        if (!strchr(
                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]",
                *p))
            return false;
    return strspn(colon + 1, "0123456789") == strlen(colon + 1);
}

static void add_resolve(lua_State *L, sr_buf *list) {
    struct in6_addr address;
    if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING ||
        !is_host_port(lua_tostring(L, -2)))
        bad(L, "resolve", "[\"host:port\"] = \"address\"", -1);
    const char *to = lua_tostring(L, -1);
    bool six = inet_pton(AF_INET6, to, &address) == 1;
    if (!six && inet_pton(AF_INET, to, &address) != 1)
        sr_raise(L, SR_USAGE, "BAD_OPTION", "http.request: resolve: %s is no address",
                 to);
    sr_buf_printf(list, six ? "%s:[%s]\n" : "%s:%s\n", lua_tostring(L, -2), to);
}

/* The order of a table is random, but the text is a pool's key: sort its lines. */
static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void fill_resolve(lua_State *L, sr_http_request *req) {
    enum { MOST = 64 };
    char line[300];
    const char *lines[MOST];
    size_t count = 0;
    int type = sr_arg_push(L, 1, "resolve"), table = lua_gettop(L);
    luaL_checkstack(L, MOST, "resolve");
    for (lua_pushnil(L); type == LUA_TTABLE && lua_next(L, table);) {
        sr_buf one = {0};
        if (count == MOST) bad(L, "resolve", "at most 64 entries", table);
        add_resolve(L, &one);
        snprintf(line, sizeof line, "%s", one.data ? one.data : "");
        sr_buf_free(&one);
        lua_pop(L, 1);
        lines[count++] = lua_pushstring(L, line);
        lua_insert(L, table + 1);
    }
    if (count) {
        sr_buf all = {0};
        qsort(lines, count, sizeof *lines, by_text);
        for (size_t i = 0; i < count; i++)
            sr_buf_puts(&all, lines[i]);
        req->resolve = all.data;
    }
    lua_settop(L, table - 1);
}

/* ---------------------------------------------------------------- all of it */

static void fill_target(lua_State *L, sr_http_request *req) {
    sr_err err;
    size_t len;
    const char *method = lua_isnil(L, 2) ? sr_arg_string(L, 1, "method", "GET", NULL)
                                         : luaL_checkstring(L, 2);
    check(L, sr_http_request_method(req, method, &err), &err);
    const char *url = lua_isnil(L, 3) ? sr_arg_string(L, 1, "url", NULL, &len)
                                      : luaL_checklstring(L, 3, &len);
    if (!url) sr_raise(L, SR_USAGE, "BAD_OPTION", "http.request: url is missing");
    check(L, sr_http_request_url(req, url, len, &err), &err);
}

int sr_http_l_check(lua_State *L) {
    lua_settop(L, 1);
    sr_args(L, 1, &spec);
    return 1;
}

void sr_http_options(lua_State *L, int box) {
    sr_args(L, 1, &spec);
    sr_http_request_free(sr_http_box_take(L, box)); /* what an earlier error left */
    sr_http_request *req = sr_http_request_new();
    if (!req) {
        luaL_error(L, "not enough memory");
        return;
    }
    *(sr_http_request **)lua_touserdata(L, box) = req;
    req->vm = sr_vm_of(L);
    fill_target(L, req);
    fill_headers(L, req);
    fill_auth(L, req);
    fill_extra_headers(L, req);
    fill_body(L, req);
    fill_bounds(L, req);
    fill_ca(L, req);
    fill_identity(L, req);
    fill_proxy(L, req);
    fill_resolve(L, req);
    warn_unverified(L, req);
}
