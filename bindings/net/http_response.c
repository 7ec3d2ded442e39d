/* http_response.c – the response object of the HTTP client: "http.response".
 *
 * One block of memory without a finaliser: numbers, then the strings one after the other.
 * The body is a Lua string in the first user value; the table of headers is made when it
 * is first asked for and kept in the second.
 */
#include "net/http_face.h"

#include <ctype.h>
#include <string.h>

typedef struct response {
    int status, version, port;
    bool idempotent;
    double dns, connect, tls, first_byte, total;
    size_t head_len, url, shown, address, head; /* places in text */
    char method[24];
    char text[];
} response;

enum { BODY = 1, HEADERS = 2 };

static size_t put(response *r, size_t at, const char *text, size_t len,
                  size_t *ret_place) {
    if (len) memcpy(r->text + at, text, len);
    r->text[at + len] = '\0';
    *ret_place = at;
    return at + len + 1;
}

void sr_http_push_response(lua_State *L, const sr_http_exchange *x) {
    const sr_http_result *res = sr_http_result_of(x);
    const sr_http_request *req = sr_http_request_of(x);
    size_t url = strlen(req->url.text), shown = strlen(req->url.shown);
    size_t address = strlen(res->address), at = 0;
    response *r =
        lua_newuserdatauv(L, sizeof *r + url + shown + address + res->head.len + 4, 2);
    *r = (response){.status = res->status,
                    .version = res->version,
                    .port = res->port,
                    .idempotent = req->idempotent,
                    .dns = res->dns,
                    .connect = res->connect,
                    .tls = res->tls,
                    .first_byte = res->first_byte,
                    .total = res->total,
                    .head_len = res->head.len};
    memcpy(r->method, req->method, sizeof r->method);
    at = put(r, at, req->url.text, url, &r->url);
    at = put(r, at, req->url.shown, shown, &r->shown);
    at = put(r, at, res->address, address, &r->address);
    put(r, at, res->head.data, res->head.len, &r->head);
    luaL_setmetatable(L, SR_HTTP_RESPONSE_TYPE);
    lua_pushlstring(L, res->body.len ? res->body.data : "", res->body.len);
    lua_setiuservalue(L, -2, BODY);
}

static response *check(lua_State *L) {
    return sr_check_object(L, 1, SR_HTTP_RESPONSE_TYPE);
}

/* ---------------------------------------------------------------- headers */

/* Push the values of a field joined by ", " (RFC 9110 5.3), of Set-Cookie the first; nil
 * when it is absent. */
static void push_header(lua_State *L, const response *r, const char *name) {
    const char *at = r->text + r->head, *end = at + r->head_len;
    sr_http_field field;
    luaL_Buffer b;
    int found = 0;
    luaL_buffinit(L, &b);
    while (sr_http_next_field(&at, end, &field)) {
        if (!sr_http_field_is(&field, name)) continue;
        if (found++) {
            if (sr_http_field_is(&field, "set-cookie")) break;
            luaL_addlstring(&b, ", ", 2);
        }
        luaL_addlstring(&b, field.value, field.value_len);
    }
    luaL_pushresult(&b);
    if (found) return;
    lua_pop(L, 1);
    lua_pushnil(L);
}

/* Push a field's name in lower case. */
static void push_name(lua_State *L, const sr_http_field *field) {
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, field->name_len);
    for (size_t i = 0; i < field->name_len; i++)
        to[i] = (char)tolower((unsigned char)field->name[i]);
    luaL_pushresultsize(&b, field->name_len);
}

/* headers[Name]: names are in lower case, this finds them in any. */
static int l_any_case(lua_State *L) {
    size_t len;
    const char *name = lua_tolstring(L, 2, &len);
    if (lua_type(L, 2) != LUA_TSTRING) return 0;
    push_name(L, &(sr_http_field){name, "", len, 0});
    lua_rawget(L, 1);
    return 1;
}

static void make_headers(lua_State *L, const response *r) {
    const char *at = r->text + r->head, *end = at + r->head_len;
    sr_http_field field;
    lua_createtable(L, 0, 12);
    while (sr_http_next_field(&at, end, &field)) {
        push_name(L, &field);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TNIL) {
            push_header(L, r, lua_tostring(L, -2));
            lua_copy(L, -1, -2);
            lua_pop(L, 1);
            lua_rawset(L, -3);
        } else {
            lua_pop(L, 2);
        }
    }
    luaL_setmetatable(L, "http.headers");
}

static void push_headers(lua_State *L, const response *r) {
    if (lua_getiuservalue(L, 1, HEADERS) == LUA_TTABLE) return;
    lua_pop(L, 1);
    make_headers(L, r);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, HEADERS);
}

/* res:header(name) → its values joined by ", ", or nil. */
static int l_header(lua_State *L) {
    const response *r = check(L);
    push_header(L, r, luaL_checkstring(L, 2));
    return 1;
}

/* res:values(name) → list of all values of a field, each as it was sent. */
static int l_values(lua_State *L) {
    const response *r = check(L);
    const char *name = luaL_checkstring(L, 2);
    const char *at = r->text + r->head, *end = at + r->head_len;
    sr_http_field field;
    lua_newtable(L);
    for (int n = 0; sr_http_next_field(&at, end, &field);) {
        if (!sr_http_field_is(&field, name)) continue;
        lua_pushlstring(L, field.value, field.value_len);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* res:retry_after() → seconds from now, or nil. */
static int l_retry_after(lua_State *L) {
    const response *r = check(L);
    sr_http_field field;
    double seconds;
    if (!sr_http_find(r->text + r->head, r->head_len, "retry-after", &field) ||
        sr_http_retry_after(field.value, field.value_len, sr_now(sr_loop_of(L)),
                            &seconds) < 0)
        return 0;
    lua_pushnumber(L, seconds);
    return 1;
}

enum { LONGEST_URL = 40000 };

/* Push a target as absolute URL. 0, or -1 and nothing is pushed. */
static int push_joined(lua_State *L, const sr_http_url *base, const char *target,
                       size_t len, sr_err *err) {
    luaL_Buffer b;
    char *room = luaL_buffinitsize(L, &b, LONGEST_URL);
    sr_http_url url = {0};
    int rc = sr_http_url_join(base, target, len, &url, err);
    size_t size = rc == 0 ? strlen(url.text) : 0;
    if (size >= LONGEST_URL)
        rc =
            sr_fail(err, SR_LIMIT, "BAD_URL", "a URL of more than %d bytes", LONGEST_URL);
    else if (rc == 0)
        memcpy(room, url.text, size);
    sr_http_url_free(&url);
    luaL_pushresultsize(&b, rc == 0 ? size : 0);
    if (rc < 0) lua_pop(L, 1);
    return rc;
}

/* Append {url=, rel=} of a link to the list at the top; targets that are no URL are left
 * out. */
static void add_link(lua_State *L, const sr_http_url *base, const sr_http_link *link) {
    sr_err err;
    if (push_joined(L, base, link->target, link->target_len, &err) < 0) return;
    lua_createtable(L, 0, 2);
    lua_insert(L, -2);
    lua_setfield(L, -2, "url");
    lua_pushlstring(L, link->rel ? link->rel : "", link->rel_len);
    lua_setfield(L, -2, "rel");
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* res:links(rel?) → list of {url = absolute, rel = text} of every Link field, RFC 8288;
 * with rel only those that list this relation. */
static int l_links(lua_State *L) {
    const response *r = check(L);
    const char *rel = luaL_optstring(L, 2, NULL);
    const char *at = r->text + r->head, *end = at + r->head_len;
    sr_http_url base = {.text = (char *)r->text + r->url,
                        .shown = (char *)r->text + r->shown};
    sr_http_field field;
    sr_http_link link;
    lua_newtable(L);
    while (sr_http_next_field(&at, end, &field)) {
        if (!sr_http_field_is(&field, "link")) continue;
        const char *p = field.value, *stop = p + field.value_len;
        while (sr_http_next_link(&p, stop, &link))
            if (!rel || sr_http_link_is(&link, rel)) add_link(L, &base, &link);
    }
    return 1;
}

/* res:content_type() → "application/json", "utf-8" or "" ; nil when it is absent or no
 * media type. */
static int l_content_type(lua_State *L) {
    const response *r = check(L);
    sr_http_field field;
    sr_http_media media;
    if (!sr_http_find(r->text + r->head, r->head_len, "content-type", &field) ||
        sr_http_media_type(field.value, field.value_len, &media) < 0)
        return 0;
    lua_pushstring(L, media.type);
    lua_pushstring(L, media.charset);
    return 2;
}

/* ---------------------------------------------------------------- fields */

static void push_peer(lua_State *L, const response *r) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, r->text + r->address);
    lua_setfield(L, -2, "address");
    lua_pushinteger(L, r->port);
    lua_setfield(L, -2, "port");
}

static void push_timing(lua_State *L, const response *r) {
    const struct {
        const char *name;
        double value;
    } list[] = {{"dns", r->dns},
                {"connect", r->connect},
                {"tls", r->tls},
                {"first_byte", r->first_byte},
                {"total", r->total}};
    lua_createtable(L, 0, 5);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        lua_pushnumber(L, list[i].value);
        lua_setfield(L, -2, list[i].name);
    }
}

static void push_status(lua_State *L, const response *r) {
    lua_pushinteger(L, r->status);
}

static void push_body(lua_State *L, const response *r) {
    (void)r;
    lua_getiuservalue(L, 1, BODY);
}

static void push_url(lua_State *L, const response *r) {
    lua_pushstring(L, r->text + r->url);
}

static void push_method(lua_State *L, const response *r) {
    lua_pushstring(L, r->method);
}

static void push_version(lua_State *L, const response *r) {
    if (r->version < 20)
        lua_pushfstring(L, "%d.%d", r->version / 10, r->version % 10);
    else
        lua_pushfstring(L, "%d", r->version / 10);
}

static const struct {
    const char *name;
    void (*push)(lua_State *L, const response *r);
} fields[] = {{"status", push_status},   {"body", push_body},
              {"headers", push_headers}, {"url", push_url},
              {"method", push_method},   {"http_version", push_version},
              {"peer", push_peer},       {"timing", push_timing}};

enum { FIELDS = sizeof fields / sizeof *fields };

/* Upvalue: the table of methods. */
static int l_index(lua_State *L) {
    const response *r = lua_touserdata(L, 1); /* only our metatable has this function */
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    for (int i = 0; i < FIELDS; i++)
        if (strcmp(fields[i].name, key) == 0) {
            fields[i].push(L, r);
            return 1;
        }
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    return 1;
}

/* pairs(res) walks a plain table of the fields. */
static int l_pairs(lua_State *L) {
    const response *r = check(L);
    lua_getglobal(L, "next");
    lua_createtable(L, 0, FIELDS);
    for (int i = 0; i < FIELDS; i++) {
        fields[i].push(L, r);
        lua_setfield(L, -2, fields[i].name);
    }
    lua_pushnil(L);
    return 3;
}

static int l_tostring(lua_State *L) {
    const response *r = check(L);
    lua_getiuservalue(L, 1, BODY);
    lua_pushfstring(L, "%s %s: %d, %d bytes", r->method, r->text + r->shown, r->status,
                    (int)lua_rawlen(L, -1));
    return 1;
}

/* http.core.fail(res, body?): raise what the response's status means; body stands in for
 * one that did not stay in the response. */
int sr_http_l_fail(lua_State *L) {
    const response *r = check(L);
    sr_err err = {0};
    size_t len;
    lua_settop(L, 2);
    if (lua_type(L, 2) != LUA_TSTRING) lua_getiuservalue(L, 1, BODY);
    const char *body = lua_tolstring(L, -1, &len);
    sr_http_fail_status(&err, r->method, r->text + r->shown, r->status, r->text + r->head,
                        r->head_len, body, len, r->idempotent, sr_now(sr_loop_of(L)));
    return sr_throw(L, &err);
}

static const luaL_Reg methods[] = {{"header", l_header},
                                   {"values", l_values},
                                   {"links", l_links},
                                   {"retry_after", l_retry_after},
                                   {"content_type", l_content_type},
                                   {NULL, NULL}};

void sr_http_response_open(lua_State *L) {
    luaL_newmetatable(L, "http.headers");
    lua_pushcfunction(L, l_any_case);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, methods);
    luaL_newmetatable(L, SR_HTTP_RESPONSE_TYPE);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_pairs);
    lua_setfield(L, -2, "__pairs");
    lua_pushcfunction(L, l_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, SR_HTTP_RESPONSE_TYPE);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

/* ---------------------------------------------------------------- text */

/* http.core.join(base, target) → absolute URL, RFC 3986 5. */
int sr_http_l_join(lua_State *L) {
    size_t base_len, len;
    const char *text = luaL_checklstring(L, 1, &base_len);
    const char *target = luaL_checklstring(L, 2, &len);
    sr_http_url base = {0};
    sr_err err = {0};
    /* only a check: nothing allocated may be live while strings are pushed */
    int rc = sr_http_url_parse(text, base_len, &base, &err);
    sr_http_url_free(&base);
    if (rc < 0) return sr_throw(L, &err);
    sr_http_url plain = {.text = (char *)text, .shown = (char *)text};
    if (push_joined(L, &plain, target, len, &err) < 0) return sr_throw(L, &err);
    return 1;
}
