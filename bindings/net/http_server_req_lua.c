/* http_server_req_lua.c – one request as Lua sees it, and the answers to it.
 *
 * A handle owns the taker's reference to a request; while it is not done it counts
 * against its server's limit. The fields a handler reads are copied into a plain table at
 * once, so that they outlive the request.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/http_server_lua.h"

#define HEADERS_TYPE "http.headers"

typedef struct handle {
    sr_httpd_request *req;
    sr_httpd_face *face; /* kept alive by the user value */
    bool counted;
    sr_httpd_wait *writer;
} handle;

/* ------------------------------------------------------------------ requests for Lua */

static void set_slice(lua_State *L, const char *key, sr_http_slice slice) {
    lua_pushlstring(L, slice.data ? slice.data : "", slice.len);
    lua_setfield(L, -2, key);
}

static void set_string(lua_State *L, const char *key, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static char lower(char c) {
    if (c >= 'A' && c <= 'Z') return (char)(c | 0x20);
    return c;
}

static void push_lower(lua_State *L, const char *text, size_t len) {
    luaL_Buffer out;
    char *to = luaL_buffinitsize(L, &out, len);
    for (size_t i = 0; i < len; i++)
        to[i] = lower(text[i]);
    luaL_pushresultsize(&out, len);
}

/* {["content-type"] = …}: names in lower case, repeated fields joined (RFC 9110, 5.3). */
static void push_headers(lua_State *L, const sr_httpd_request_info *info) {
    lua_newtable(L);
    for (size_t i = 0; i < info->field_count; i++) {
        const sr_http_field *field = &info->fields[i];
        push_lower(L, field->name, field->name_len);
        lua_pushvalue(L, -1);
        const char *glue = strcmp(lua_tostring(L, -1), "cookie") == 0 ? "; " : ", ";
        if (lua_rawget(L, -3) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_pushlstring(L, field->value, field->value_len);
        } else {
            lua_pushstring(L, glue);
            lua_pushlstring(L, field->value, field->value_len);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
    luaL_setmetatable(L, HEADERS_TYPE);
}

/* headers["Content-Type"] finds "content-type". */
static int l_headers_index(lua_State *L) {
    size_t len;
    if (lua_type(L, 2) != LUA_TSTRING) return 0;
    const char *key = lua_tolstring(L, 2, &len);
    push_lower(L, key, len);
    lua_rawget(L, 1);
    return 1;
}

static void push_peer(lua_State *L, const sr_httpd_request_info *info) {
    char host[128];
    lua_newtable(L);
    sr_addr_host(info->peer, host, sizeof host);
    set_string(L, "address", info->peer->sa_family == AF_UNIX ? "unix" : host);
    lua_pushinteger(L, sr_addr_port(info->peer));
    lua_setfield(L, -2, "port");
    if (!info->has_cred) return;
    lua_pushinteger(L, info->pid);
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, info->uid);
    lua_setfield(L, -2, "uid");
    lua_pushinteger(L, info->gid);
    lua_setfield(L, -2, "gid");
}

/* Stack +1: PEM of the DER on top. */
static void push_pem(lua_State *L, const unsigned char *der, size_t len) {
    luaL_Buffer pem;
    unsigned char line[80];
    luaL_buffinit(L, &pem);
    luaL_addstring(&pem, "-----BEGIN CERTIFICATE-----\n");
    for (size_t at = 0; at < len; at += 48) {
        size_t part = len - at < 48 ? len - at : 48;
        int wrote = EVP_EncodeBlock(line, der + at, (int)part);
        luaL_addlstring(&pem, (char *)line, (size_t)wrote);
        luaL_addchar(&pem, '\n');
    }
    luaL_addstring(&pem, "-----END CERTIFICATE-----\n");
    luaL_pushresult(&pem);
}

/* {pem, der, verified} */
static void push_cert(lua_State *L, const sr_httpd_request_info *info) {
    int len = i2d_X509(info->client_cert, NULL);
    if (len <= 0) luaL_error(L, "the client certificate cannot be encoded");
    unsigned char *der = lua_newuserdatauv(L, (size_t)len, 0), *to = der;
    i2d_X509(info->client_cert, &to);
    lua_newtable(L);
    lua_pushlstring(L, (char *)der, (size_t)len);
    lua_setfield(L, -2, "der");
    push_pem(L, der, (size_t)len);
    lua_setfield(L, -2, "pem");
    lua_pushboolean(L, info->verified);
    lua_setfield(L, -2, "verified");
    lua_remove(L, -2);
}

static void push_tls(lua_State *L, const sr_httpd_request_info *info) {
    lua_newtable(L);
    set_string(L, "version", info->tls_version);
    if (info->servername[0]) set_string(L, "servername", info->servername);
    lua_setfield(L, -2, "tls");
    if (!info->client_cert) return;
    push_cert(L, info);
    lua_setfield(L, -2, "client_cert");
}

/* Stack: handle → handle, table of its fields. */
static void push_fields(lua_State *L, const sr_httpd_request *req) {
    sr_httpd_request_info info;
    sr_httpd_request_get(req, &info);
    lua_createtable(L, 0, 16);
    set_string(L, "method", info.method);
    set_string(L, "version", info.version);
    set_slice(L, "path", info.path);
    set_slice(L, "raw_path", info.raw_path);
    set_slice(L, "query_string", info.query);
    set_slice(L, "body", info.body);
    push_headers(L, &info);
    lua_setfield(L, -2, "headers");
    push_peer(L, &info);
    lua_setfield(L, -2, "peer");
    if (info.tls) push_tls(L, &info);
}

bool sr_httpd_push_request(lua_State *L, sr_httpd_face *face) {
    handle *h = lua_newuserdatauv(L, sizeof *h, 1);
    *h = (handle){.face = face};
    luaL_setmetatable(L, SR_HTTPD_REQUEST_TYPE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    h->req = sr_httpd_next(face->server);
    if (!h->req) {
        lua_pop(L, 1);
        return false;
    }
    h->counted = true;
    face->active++;
    push_fields(L, h->req);
    lua_pushlightuserdata(L, h->req);
    return true;
}

/* ------------------------------------------------------------------ answering */

static handle *check_handle(lua_State *L) {
    handle *h = sr_check_object(L, 1, SR_HTTPD_REQUEST_TYPE);
    if (!h->req) sr_raise(L, SR_USAGE, NULL, "this request is over");
    return h;
}

static void release(handle *h) {
    sr_httpd_request *req = h->req;
    h->req = NULL;
    if (h->counted) {
        h->face->active--;
        h->counted = false;
        sr_httpd_wait_done(&h->face->taker);
    }
    sr_httpd_request_release(req);
}

static int l_request_gc(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, SR_HTTPD_REQUEST_TYPE);
    if (h->req && h->face->server)
        release(h);
    else
        sr_httpd_request_unref(h->req);
    h->req = NULL;
    return 0;
}

/* handle:done() – its handler has ended; without an answer the client gets 500. */
static int l_request_done(lua_State *L) {
    handle *h = sr_check_object(L, 1, SR_HTTPD_REQUEST_TYPE);
    if (h->req) release(h);
    return 0;
}

static int l_request_gone(lua_State *L) {
    handle *h = sr_check_object(L, 1, SR_HTTPD_REQUEST_TYPE);
    lua_pushboolean(L, !h->req || sr_httpd_request_gone(h->req));
    return 1;
}

/* Append name and value at the top (a string or number) to the list at `flat`. */
static void flatten_one(lua_State *L, int flat, int name) {
    int type = lua_type(L, -1);
    if (type != LUA_TSTRING && type != LUA_TNUMBER)
        sr_raise(L, SR_USAGE, NULL, "response header %s: a string is needed, got %s",
                 lua_tostring(L, name), luaL_typename(L, -1));
    lua_pushvalue(L, name);
    lua_rawseti(L, flat, (lua_Integer)lua_rawlen(L, flat) + 1);
    luaL_tolstring(L, -1, NULL);
    lua_rawseti(L, flat, (lua_Integer)lua_rawlen(L, flat) + 1);
}

/* The table {name = value | {value, …}} at idx as an array of fields; table and array
 * stay on the stack and keep the strings alive. */
static sr_http_field *check_fields(lua_State *L, int idx, size_t *ret_count) {
    lua_newtable(L);
    int flat = lua_gettop(L);
    if (!lua_isnil(L, idx)) luaL_checktype(L, idx, LUA_TTABLE);
    if (!lua_isnil(L, idx)) lua_pushnil(L);
    while (!lua_isnil(L, idx) && lua_next(L, idx)) {
        int value = lua_gettop(L), name = value - 1;
        if (lua_type(L, name) != LUA_TSTRING)
            sr_raise(L, SR_USAGE, NULL, "response headers: names are strings, got %s",
                     luaL_typename(L, name));
        if (!lua_istable(L, value)) flatten_one(L, flat, name);
        for (lua_Integer i = 1; lua_istable(L, value) && i <= luaL_len(L, value); i++) {
            lua_geti(L, value, i);
            flatten_one(L, flat, name);
            lua_settop(L, value);
        }
        lua_settop(L, name);
    }
    size_t count = lua_rawlen(L, flat) / 2;
    sr_http_field *fields = lua_newuserdatauv(L, (count + 1) * sizeof *fields, 0);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, flat, 2 * (lua_Integer)i + 1);
        fields[i].name = lua_tolstring(L, -1, &fields[i].name_len);
        lua_rawgeti(L, flat, 2 * (lua_Integer)i + 2);
        fields[i].value = lua_tolstring(L, -1, &fields[i].value_len);
        lua_pop(L, 2);
    }
    *ret_count = count;
    return fields;
}

static unsigned check_status(lua_State *L, int idx) {
    lua_Integer status = luaL_checkinteger(L, idx);
    return status < 0 || status > 999 ? 0 : (unsigned)status;
}

/* handle:respond(status, headers?, body) */
static int l_request_respond(lua_State *L) {
    sr_err err = {0};
    handle *h = check_handle(L);
    sr_httpd_answer answer = {.status = check_status(L, 2), .kind = SR_HTTPD_BYTES};
    answer.bytes.data = luaL_checklstring(L, 4, &answer.bytes.len);
    answer.fields = check_fields(L, 3, &answer.field_count);
    if (sr_httpd_respond(h->req, &answer, &err) != 0) return sr_throw(L, &err);
    return 0;
}

/* A regular file, opened. -1: none (errno). A fifo does not block, and is refused. */
static int open_file(const char *path, uint64_t *ret_size) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *ret_size = (uint64_t)st.st_size;
        return fd;
    }
    close(fd);
    errno = ENOENT;
    return -1;
}

/* handle:respond_file(status, headers?, path) → false when there is no such regular file
 */
static int l_request_respond_file(lua_State *L) {
    sr_err err = {0};
    handle *h = check_handle(L);
    sr_httpd_answer answer = {.status = check_status(L, 2), .kind = SR_HTTPD_FILE};
    const char *path = luaL_checkstring(L, 4);
    sr_allow(L, SR_PERM_READ, path);
    answer.fields = check_fields(L, 3, &answer.field_count);
    answer.fd = open_file(path, &answer.file_size);
    if (answer.fd < 0 && errno != ENOENT && errno != ENOTDIR) {
        sr_fail_errno(&err, errno, "cannot serve %s", path);
        return sr_throw(L, &err);
    }
    lua_pushboolean(L, answer.fd >= 0);
    if (answer.fd >= 0 && sr_httpd_respond(h->req, &answer, &err) != 0)
        return sr_throw(L, &err);
    return 1;
}

/* handle:respond_stream(status, headers?) – the body follows by write and finish. */
static int l_request_respond_stream(lua_State *L) {
    sr_err err = {0};
    handle *h = check_handle(L);
    sr_httpd_answer answer = {.status = check_status(L, 2), .kind = SR_HTTPD_STREAM};
    lua_settop(L, 3);
    answer.fields = check_fields(L, 3, &answer.field_count);
    if (sr_httpd_respond(h->req, &answer, &err) != 0) return sr_throw(L, &err);
    return 0;
}

static void on_writable(void *arg) {
    handle *h = arg;
    sr_httpd_wait_done(&h->writer);
}

static int write_finish(lua_State *L, sr_op *op) {
    handle *h = check_handle(L);
    (void)op;
    if (sr_httpd_request_gone(h->req))
        return sr_raise(L, SR_CONNECT, "EPIPE", "the client went away");
    return 0;
}

static const sr_op_class write_class = {.name = "http.request:write",
                                        .finish = write_finish,
                                        .cancel = sr_httpd_wait_cancel,
                                        .free = sr_httpd_wait_free};

/* handle:write(chunk) – waits while the client lags behind. Raises connect when it went
 * away, timeout when it takes nothing for the server's `timeout`. */
static int l_request_write(lua_State *L) {
    size_t len;
    bool full = false;
    sr_err err = {0};
    handle *h = check_handle(L);
    const char *data = luaL_checklstring(L, 2, &len);
    sr_httpd_stream_notify(h->req, on_writable, h);
    if (len && sr_httpd_stream_write(h->req, data, len, &full, &err) != 0)
        return sr_throw(L, &err);
    if (!full || sr_httpd_stream_ready(h->req)) return 0;
    return sr_httpd_wait_for(L, &h->writer, &write_class, h->face->timeout);
}

/* handle:finish(broken) – end the body; broken cuts the connection. */
static int l_request_finish(lua_State *L) {
    sr_httpd_stream_end(check_handle(L)->req, lua_toboolean(L, 2));
    return 0;
}

/* handle:drop(bytes?) – no answer but these bytes; the connection is closed. */
static int l_request_drop(lua_State *L) {
    size_t len = 0;
    handle *h = check_handle(L);
    const char *data = luaL_optlstring(L, 2, "", &len);
    sr_httpd_request_cut(h->req, data, len);
    return 0;
}

/* ------------------------------------------------------------------ types */

static const luaL_Reg methods[] = {{"respond", l_request_respond},
                                   {"respond_file", l_request_respond_file},
                                   {"respond_stream", l_request_respond_stream},
                                   {"write", l_request_write},
                                   {"finish", l_request_finish},
                                   {"drop", l_request_drop},
                                   {"done", l_request_done},
                                   {"gone", l_request_gone},
                                   {NULL, NULL}};

void sr_httpd_open_requests(lua_State *L) {
    sr_http_new_type(L, SR_HTTPD_REQUEST_TYPE, methods, l_request_gc);
    luaL_newmetatable(L, HEADERS_TYPE);
    lua_pushcfunction(L, l_headers_index);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
