/* scm_core.c – the module "scm.core": the table of operations and SCM's words for Lua.
 *
 * A thin face over scm_ops, scm_msg and scm_text. No I/O and no waiting: connections,
 * retries and order are scm.lua's business. prepare() turns a name and a table of
 * parameters into a request that is known to fit the operation, or raises and says which
 * parameter does not.
 */
#include <stdio.h>
#include <string.h>

#include "data/json_lua.h"
#include "open.h"
#include "scm/scm_msg.h"
#include "scm/scm_ops.h"

#define SCRATCH "scm.scratch"
#define PATH_VALUES 8

/* What a call gathers; freed by the collector. */
typedef struct scratch {
    cJSON *doc;
    sr_buf text;
} scratch;

static int l_scratch_gc(lua_State *L) {
    scratch *s = luaL_checkudata(L, 1, SCRATCH);
    cJSON_Delete(s->doc);
    sr_buf_free(&s->text);
    memset(s, 0, sizeof *s);
    return 0;
}

static scratch *new_scratch(lua_State *L) {
    scratch *s = lua_newuserdatauv(L, sizeof *s, 0);
    memset(s, 0, sizeof *s);
    luaL_setmetatable(L, SCRATCH);
    return s;
}

static int push_text(lua_State *L, const sr_buf *buf) {
    if (buf->oom) return sr_raise(L, SR_LIMIT, "ENOMEM", "no memory");
    lua_pushlstring(L, buf->data ? buf->data : "", buf->len);
    return 1;
}

static void set_text(lua_State *L, const char *key, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_bool(lua_State *L, const char *key, bool value) {
    lua_pushboolean(L, value);
    lua_setfield(L, -2, key);
}

static sr_scm_face check_face(lua_State *L, int idx) {
    static const char *const names[] = {"classic", "admin", NULL};
    return luaL_checkoption(L, idx, NULL, names) == 1 ? SR_SCM_ADMIN : SR_SCM_CLASSIC;
}

/* ---------------------------------------------------------------- the table */

static const char *const paging_names[] = {"none", "position", "page"};
static const char *const result_names[] = {"json",     "list",  "empty",
                                           "location", "bytes", "count"};
static const char *const place_names[] = {"path", "query", "header", "body"};

static const char *type_name(char type) {
    switch (type) {
    case 's': return "string";
    case 'n': return "number";
    case 'b': return "boolean";
    case 'l': return "list";
    case 'o': return "object";
    case 'p': return "secret";
    case 'c': return "names with commas";
    case 'm': return "list of names";
    default: return "any";
    }
}

static void push_versions(lua_State *L, const char *versions) {
    lua_newtable(L);
    lua_Integer n = 0;
    for (const char *p = versions; *p; p++) {
        if (*p == ' ') continue;
        lua_pushinteger(L, *p - '0');
        lua_rawseti(L, -2, ++n);
    }
}

static void push_parameters(lua_State *L, const sr_scm_op *op) {
    sr_scm_field field;
    lua_Integer n = 0;
    lua_newtable(L);
    for (size_t at = 0; sr_scm_next_field(op, &at, &field);) {
        lua_createtable(L, 0, 4);
        set_text(L, "name", field.name);
        set_text(L, "place", place_names[field.place]);
        set_text(L, "type", type_name(field.type));
        set_bool(L, "required", field.required);
        lua_rawseti(L, -2, ++n);
    }
}

static void push_op(lua_State *L, const sr_scm_op *op) {
    lua_createtable(L, 0, 10);
    set_text(L, "name", op->name);
    set_text(L, "ids", op->ids);
    set_text(L, "method", op->method);
    set_text(L, "path", op->path);
    set_text(L, "paging", paging_names[op->paging]);
    set_text(L, "result", result_names[op->result]);
    set_bool(L, "reads", op->reads);
    push_versions(L, op->versions[SR_SCM_CLASSIC]);
    lua_setfield(L, -2, "classic");
    push_versions(L, op->versions[SR_SCM_ADMIN]);
    lua_setfield(L, -2, "admin");
    push_parameters(L, op);
    lua_setfield(L, -2, "parameters");
}

/* operations() → list of {name, ids, method, path, paging, result, reads, classic, admin,
 * parameters = {{name, place, type, required}}} */
static int l_operations(lua_State *L) {
    size_t count;
    const sr_scm_op *ops = sr_scm_ops(&count);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        push_op(L, &ops[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* ---------------------------------------------------------------- one call */

/* Places on the stack while a call is made ready. */
enum { PARAMS = 4, REQUEST = 5, QUERY, BODY, HEADERS };

typedef struct call {
    const sr_scm_op *op;
    sr_scm_face face;
    int version;
    const char *values[PATH_VALUES]; /* kept alive by the stack */
    bool display;                    /* values of filters as displayed, not constants */
    bool spelt;                      /* one of them has two spellings */
} call;

static bool is_secret(lua_State *L, int idx) {
    return luaL_testudata(L, idx, SR_SECRET_TYPE) != NULL;
}

SR_NORETURN static void bad_type(lua_State *L, const call *c, const char *name,
                                 const char *expected, int idx) {
    sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s: %s: expected %s, got %s", c->op->name,
             name, expected,
             is_secret(L, idx) ? "a secret, which does not belong here"
                               : luaL_typename(L, idx));
}

/* The value at the top as a text in its place: a string, or a number as one. */
static const char *scalar(lua_State *L, const call *c, const char *name) {
    int type = lua_type(L, -1);
    if (type != LUA_TSTRING && type != LUA_TNUMBER)
        bad_type(L, c, name, "a string or number", -1);
    return lua_tostring(L, -1); /* converts the copy on the stack */
}

/* The index of a path parameter among those of the path. */
static size_t path_index(const sr_scm_op *op, const char *name) {
    sr_scm_field field;
    for (size_t at = 0; sr_scm_next_field(op, &at, &field);)
        if (strcmp(field.name, name) == 0) return at - 1;
    return 0;
}

static void take_path(lua_State *L, call *c, const char *name) {
    size_t i = path_index(c->op, name);
    lua_pushvalue(L, -1);
    const char *text = scalar(L, c, name);
    if (strlen(text) != lua_rawlen(L, -1))
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s: %s contains a NUL byte", c->op->name,
                 name);
    lua_pushvalue(L, -1);
    lua_setfield(L, REQUEST, name); /* keeps the text alive */
    if (i < PATH_VALUES) c->values[i] = text;
    lua_pop(L, 1);
}

/* Replace the text at the top by the spelling that the face wants. */
static void spell(lua_State *L, call *c, const char *name) {
    sr_err err = {0};
    char field[128];
    const char *word, *other;
    if (lua_type(L, -1) != LUA_TSTRING) return;
    snprintf(field, sizeof field, "%.*s.%s", (int)strcspn(c->op->name, "."), c->op->name,
             name);
    const char *text = lua_tostring(L, -1);
    if (sr_scm_word(field, text, c->display, &word, &err) != 0 ||
        sr_scm_word(field, text, !c->display, &other, &err) != 0)
        sr_throw(L, &err);
    if (strcmp(word, other) != 0) c->spelt = true;
    lua_pushstring(L, word);
    lua_replace(L, -2);
}

static void take_query(lua_State *L, call *c, const char *name) {
    if (lua_type(L, -1) == LUA_TTABLE) {
        lua_newtable(L);
        for (lua_Integer i = 1; lua_geti(L, -2, i) != LUA_TNIL; i++) {
            scalar(L, c, name);
            spell(L, c, name);
            lua_rawseti(L, -2, i);
        }
        lua_pop(L, 1);
    } else {
        lua_pushvalue(L, -1);
        if (lua_type(L, -1) != LUA_TBOOLEAN) scalar(L, c, name);
        spell(L, c, name);
    }
    lua_setfield(L, QUERY, name);
}

static void take_header(lua_State *L, const call *c, const char *name) {
    if (lua_type(L, -1) != LUA_TSTRING && !is_secret(L, -1))
        bad_type(L, c, name, "a string or secret", -1);
    lua_pushvalue(L, -1);
    lua_setfield(L, HEADERS, name);
}

/* "a, b,c" at the top becomes a list. */
static void split_names(lua_State *L) {
    const char *p = lua_tostring(L, -1);
    lua_newtable(L);
    for (lua_Integer n = 0; *p;) {
        p += strspn(p, " ,\t\r\n");
        size_t len = strcspn(p, " ,\t\r\n");
        if (!len) break;
        lua_pushlstring(L, p, len);
        lua_rawseti(L, -2, ++n);
        p += len;
    }
    lua_replace(L, -2);
}

/* A list at the top becomes "a,b,c". */
static void join_names(lua_State *L, const call *c, const char *name) {
    luaL_Buffer b;
    int list = lua_gettop(L);
    luaL_buffinit(L, &b);
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, list); i <= n; i++) {
        if (lua_rawgeti(L, list, i) != LUA_TSTRING)
            bad_type(L, c, name, "a list of strings", -1);
        if (strpbrk(lua_tostring(L, -1), ", "))
            sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s: %s: \"%s\" is not one name",
                     c->op->name, name, lua_tostring(L, -1));
        luaL_addvalue(&b);
        if (i < n) luaL_addchar(&b, ',');
    }
    luaL_pushresult(&b);
    lua_replace(L, list);
}

/* An empty list would go out as {}. */
static void mark_list(lua_State *L) {
    if (lua_rawlen(L, -1) > 0) return;
    lua_newtable(L);
    luaL_newmetatable(L, "json.array");
    lua_setmetatable(L, -2);
    lua_replace(L, -2);
}

/* Check the body's value at the top, and give it the form the call wants. */
static void fit(lua_State *L, const call *c, const sr_scm_field *field) {
    int type = lua_type(L, -1);
    bool text = type == LUA_TSTRING, table = type == LUA_TTABLE, fits = true;
    if (sr_json_is_null(L, -1)) return;
    switch (field->type) {
    case 's': fits = text; break;
    case 'n': fits = type == LUA_TNUMBER; break;
    case 'b': fits = type == LUA_TBOOLEAN; break;
    case 'o': fits = table; break;
    case 'p': fits = text || is_secret(L, -1); break;
    case 'l':
        fits = table;
        if (fits) mark_list(L);
        break;
    case 'c':
        fits = text || table;
        if (table) join_names(L, c, field->name);
        break;
    case 'm':
        fits = text || table;
        if (text) split_names(L);
        if (fits) mark_list(L);
        break;
    default: fits = text || table || type == LUA_TNUMBER || type == LUA_TBOOLEAN;
    }
    if (!fits) bad_type(L, c, field->name, type_name(field->type), -1);
}

static void take_body(lua_State *L, const call *c, const sr_scm_field *field, int body) {
    lua_pushvalue(L, -1);
    fit(L, c, field);
    lua_setfield(L, body, field->name);
}

static const char *key_of(lua_State *L, const call *c) {
    if (lua_type(L, -2) != LUA_TSTRING)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s: parameters have names, got [%s]",
                 c->op->name, luaL_tolstring(L, -2, NULL));
    return lua_tostring(L, -2);
}

static void must_have(lua_State *L, const call *c, int table, sr_scm_place place) {
    sr_scm_field field;
    for (size_t at = 0; sr_scm_next_field(c->op, &at, &field);) {
        if (!field.required || field.place != place) continue;
        lua_pushstring(L, field.name);
        if (lua_rawget(L, table) == LUA_TNIL)
            sr_raise(L, SR_USAGE, "MISSING_PARAMETER", "%s: %s is missing", c->op->name,
                     field.name);
        lua_pop(L, 1);
    }
}

/* One element of a list that is the body; it is at the top. */
static void take_element(lua_State *L, const call *c, lua_Integer i) {
    sr_err err = {0};
    sr_scm_field field;
    if (lua_type(L, -1) != LUA_TTABLE)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s: [%d]: expected a table, got %s",
                 c->op->name, (int)i, luaL_typename(L, -1));
    int from = lua_gettop(L);
    lua_newtable(L);
    int to = lua_gettop(L);
    bool free_form = strcmp(c->op->body, "[]") == 0;
    for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1)) {
        const char *name = key_of(L, c);
        if (free_form) {
            lua_pushvalue(L, -1);
            lua_setfield(L, to, name);
            continue;
        }
        if (!sr_scm_field_of(c->op, name, &field) || field.place != SR_SCM_BODY) {
            sr_scm_unknown_field(c->op, name, &err);
            sr_throw(L, &err);
        }
        take_body(L, c, &field, to);
    }
    must_have(L, c, to, SR_SCM_BODY);
    lua_rawseti(L, BODY, i);
}

static void take_parameter(lua_State *L, call *c) {
    sr_err err = {0};
    sr_scm_field field;
    const char *name = key_of(L, c);
    bool known = sr_scm_field_of(c->op, name, &field);
    if (!known || (field.place == SR_SCM_BODY && sr_scm_body_kind(c->op) == '[')) {
        sr_scm_unknown_field(c->op, name, &err);
        sr_throw(L, &err);
    }
    switch (field.place) {
    case SR_SCM_PATH: take_path(L, c, field.name); break;
    case SR_SCM_QUERY: take_query(L, c, field.name); break;
    case SR_SCM_HEADER: take_header(L, c, field.name); break;
    default: take_body(L, c, &field, BODY);
    }
}

static void take_parameters(lua_State *L, call *c) {
    bool list = sr_scm_body_kind(c->op) == '[';
    lua_Integer count = list ? (lua_Integer)lua_rawlen(L, PARAMS) : 0;
    if (list) {
        luaL_newmetatable(L, "json.array");
        lua_setmetatable(L, BODY);
    }
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, PARAMS, i);
        take_element(L, c, i);
        lua_pop(L, 1);
    }
    for (lua_pushnil(L); lua_next(L, PARAMS); lua_pop(L, 1))
        if (!list || lua_type(L, -2) != LUA_TNUMBER) take_parameter(L, c);
}

static void push_path(lua_State *L, const call *c) {
    sr_err err = {0};
    scratch *s = new_scratch(L);
    if (sr_scm_path(c->op, c->version, c->values, &s->text, &err) != 0) sr_throw(L, &err);
    push_text(L, &s->text);
    lua_setfield(L, REQUEST, "path");
    lua_pop(L, 1);
}

static void fill_request(lua_State *L, const call *c) {
    char kind = sr_scm_body_kind(c->op);
    lua_pushvalue(L, REQUEST);
    set_text(L, "name", c->op->name);
    set_text(L, "method", c->op->method);
    set_text(L, "paging", paging_names[c->op->paging]);
    set_text(L, "result", result_names[c->op->result]);
    set_bool(L, "reads", c->op->reads);
    set_bool(L, "spelt", c->spelt);
    lua_pushinteger(L, c->version);
    lua_setfield(L, -2, "version");
    if (kind) {
        lua_pushlstring(L, &kind, 1);
        lua_setfield(L, -2, "kind");
        lua_pushvalue(L, BODY);
        lua_setfield(L, -2, "body");
    }
    lua_pushvalue(L, QUERY);
    lua_setfield(L, -2, "query");
    lua_pushvalue(L, HEADERS);
    lua_setfield(L, -2, "headers");
}

/* prepare(name, face, version, params, bare, other) → {name, method, path, query,
 * headers, body, kind, paging, result, reads, spelt, version}. bare: the caller brings
 * the whole body; other: filters in the spelling that the face does not document. Raises
 * usage. */
static int l_prepare(lua_State *L) {
    sr_err err = {0};
    call c = {.face = check_face(L, 2)};
    const char *name = luaL_checkstring(L, 1);
    int version = (int)luaL_checkinteger(L, 3);
    bool bare = lua_toboolean(L, 5);
    c.display = (c.face == SR_SCM_ADMIN) != lua_toboolean(L, 6);
    if (sr_scm_find(name, c.face, version, &c.op, &c.version, &err) != 0)
        return sr_throw(L, &err);
    lua_settop(L, 4);
    if (lua_isnil(L, PARAMS)) {
        lua_newtable(L);
        lua_replace(L, PARAMS);
    }
    if (!lua_istable(L, PARAMS)) bad_type(L, &c, "parameters", "a table", PARAMS);
    luaL_checkstack(L, 24, "scm");
    for (int i = REQUEST; i <= HEADERS; i++)
        lua_newtable(L);
    take_parameters(L, &c);
    must_have(L, &c, PARAMS, SR_SCM_PATH);
    if (!bare && sr_scm_body_kind(c.op) != '[') must_have(L, &c, BODY, SR_SCM_BODY);
    push_path(L, &c);
    fill_request(L, &c);
    return 1;
}

/* ---------------------------------------------------------------- answers */

static const sr_arg explain_args[] = {
    {"op", SR_STRING, SR_REQUIRED, NULL, "name of the operation"},
    {"host", SR_STRING, SR_REQUIRED, NULL, "who answered"},
    {"admin", SR_BOOL, 0, "false", "asked with a bearer token"},
    {"status", SR_INT, SR_REQUIRED, NULL, "HTTP status"},
    {"body", SR_STRING, 0, "", "the answer"},
    {"www_authenticate", SR_STRING, 0, NULL, "that header"},
    {"retry_after", SR_NUMBER, 0, NULL, "seconds, from Retry-After"},
    {0}};
static const sr_spec explain_spec = {"scm.core.explain", "Explain an answer that failed.",
                                     explain_args};

static void push_reason(lua_State *L, const sr_scm_reason *reason) {
    lua_createtable(L, 0, 6);
    if (reason->has_code) {
        lua_pushinteger(L, reason->code);
        lua_setfield(L, -2, "code");
    }
    if (*reason->description) set_text(L, "description", reason->description);
    if (*reason->token_url) set_text(L, "token_url", reason->token_url);
    if (!reason->row) return;
    set_text(L, "meaning", reason->row->meaning);
    set_text(L, "mend", reason->row->mend);
    set_bool(L, "pending", reason->row->again == SR_SCM_PENDING);
}

/* explain{…} → error object with `scm` = {code, description, meaning, mend, pending,
 * token_url}; it is not raised here */
static int l_explain(lua_State *L) {
    sr_err err = {0};
    sr_scm_reason reason;
    sr_args(L, 1, &explain_spec);
    sr_scm_answer answer = {.op = sr_arg_string(L, 1, "op", "", NULL),
                            .host = sr_arg_string(L, 1, "host", "", NULL),
                            .admin = sr_arg_bool(L, 1, "admin", false),
                            .status = (int)sr_arg_int(L, 1, "status", 0),
                            .www_authenticate =
                                sr_arg_string(L, 1, "www_authenticate", NULL, NULL),
                            .retry_after = sr_arg_number(L, 1, "retry_after", -1)};
    answer.body = sr_arg_string(L, 1, "body", "", &answer.len);
    if (!*answer.body) answer.len = 0;
    answer.has_retry_after = answer.retry_after >= 0;
    sr_scm_explain(&answer, &reason, &err);
    sr_redact(err.message); /* servers like to echo what they were sent */
    sr_redact(reason.description);
    sr_push_err(L, &err);
    push_reason(L, &reason);
    lua_setfield(L, -2, "scm");
    return 1;
}

/* decode(text) → the JSON value without members that are null; raises protocol, limit */
static int l_decode(lua_State *L) {
    sr_err err = {0};
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    scratch *s = new_scratch(L);
    s->doc = sr_json_parse(text, len, SR_JSON_DEPTH, &err);
    if (!s->doc) return sr_throw(L, &err);
    sr_scm_prune(s->doc);
    sr_json_push(L, s->doc);
    cJSON_Delete(s->doc);
    s->doc = NULL;
    return 1;
}

/* ---------------------------------------------------------------- bodies with secrets */

/* Append the secret at the top of the stack as JSON. */
static void put_secret(lua_State *L, sr_buf *out) {
    sr_err err = {0};
    size_t len;
    const char *data = sr_check_secret(L, -1, &len);
    if (sr_json_put_string(out, data, len, &err) != 0) sr_throw(L, &err);
}

/* fill(text, mark, secrets) → secret: the JSON text with each "MARKn" (n two digits)
 * replaced by the n-th secret */
static int l_fill(lua_State *L) {
    size_t len, mark_len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *mark = luaL_checklstring(L, 2, &mark_len), *end = text + len, *hit;
    luaL_checktype(L, 3, LUA_TTABLE);
    scratch *s = new_scratch(L);
    s->text.secret = true;
    while ((hit = memmem(text, (size_t)(end - text), mark, mark_len)) != NULL) {
        const char *n = hit + mark_len;
        if (hit == text || end - n < 3) break;
        sr_buf_append(&s->text, text, (size_t)(hit - text) - 1); /* less the quote */
        lua_rawgeti(L, 3, (n[0] - '0') * 10 + (n[1] - '0'));
        put_secret(L, &s->text);
        lua_pop(L, 1);
        text = n + 3;
    }
    sr_buf_append(&s->text, text, (size_t)(end - text));
    if (s->text.oom) return sr_raise(L, SR_LIMIT, "ENOMEM", "no memory");
    sr_push_secret(L, s->text.data, s->text.len, "SCM request");
    return 1;
}

/* secret(text, label) → secret: for tokens that came in an answer */
static int l_secret(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    sr_push_secret(L, text, len, luaL_checkstring(L, 2));
    return 1;
}

/* redact(text) → the text with known secrets taken out */
static int l_redact(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    scratch *s = new_scratch(L);
    sr_buf_append(&s->text, text, len);
    if (s->text.data) sr_redact(s->text.data);
    lua_pushstring(L, s->text.data ? s->text.data : "");
    return 1;
}

/* is_secret(value) → boolean */
static int l_is_secret(lua_State *L) {
    lua_pushboolean(L, is_secret(L, 1));
    return 1;
}

/* ---------------------------------------------------------------- words */

/* date(text, format?) → UTC seconds; raises protocol, usage */
static int l_date(lua_State *L) {
    sr_err err = {0};
    size_t len;
    double seconds;
    const char *text = luaL_checklstring(L, 1, &len);
    if (sr_scm_date(text, len, luaL_optstring(L, 2, NULL), &seconds, &err) != 0)
        return sr_throw(L, &err);
    lua_pushnumber(L, seconds);
    return 1;
}

/* date_text(seconds, format) → text */
static int l_date_text(lua_State *L) {
    sr_err err = {0};
    double seconds = luaL_checknumber(L, 1);
    const char *format = luaL_checkstring(L, 2);
    scratch *s = new_scratch(L);
    if (sr_scm_date_text(seconds, format, &s->text, &err) != 0) return sr_throw(L, &err);
    return push_text(L, &s->text);
}

/* status(text) → "SAApproved", "open" | "issued" | "dead" | "gone"; nil for none */
static int l_status(lua_State *L) {
    static const char *const states[] = {"open", "issued", "dead", "gone"};
    sr_scm_state state;
    const char *constant = sr_scm_status(luaL_checkstring(L, 1), &state);
    if (!constant) return 0;
    lua_pushstring(L, constant);
    lua_pushstring(L, states[state]);
    return 2;
}

/* word(field, text, display) → the value of "ssl.status" … as a constant, or as
 * displayed; raises usage */
static int l_word(lua_State *L) {
    sr_err err = {0};
    const char *word, *field = luaL_checkstring(L, 1), *text = luaL_checkstring(L, 2);
    if (sr_scm_word(field, text, lua_toboolean(L, 3), &word, &err) != 0)
        return sr_throw(L, &err);
    lua_pushstring(L, word);
    return 1;
}

static int l_server_type(lua_State *L) {
    sr_err err = {0};
    int code;
    if (sr_scm_server_type(luaL_checkstring(L, 1), &code, &err) != 0)
        return sr_throw(L, &err);
    lua_pushinteger(L, code);
    return 1;
}

/* comment(text, key) → the comment with the key; raises usage */
static int l_comment(lua_State *L) {
    sr_err err = {0};
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len), *key = luaL_checkstring(L, 2);
    scratch *s = new_scratch(L);
    if (sr_scm_comment(text, len, key, &s->text, &err) != 0) return sr_throw(L, &err);
    return push_text(L, &s->text);
}

static int l_has_key(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, sr_scm_has_key(text, len, luaL_checkstring(L, 2)));
    return 1;
}

/* check_url(url): raises usage */
static int l_check_url(lua_State *L) {
    sr_err err = {0};
    if (sr_scm_check_url(luaL_checkstring(L, 1), &err) != 0) return sr_throw(L, &err);
    return 0;
}

/* check_token_url(url): raises usage */
static int l_check_token_url(lua_State *L) {
    sr_err err = {0};
    if (sr_scm_check_token_url(luaL_checkstring(L, 1), &err) != 0)
        return sr_throw(L, &err);
    return 0;
}

/* codes() → list of {code, op, kind, again, meaning, mend} */
static int l_codes(lua_State *L) {
    static const char *const again[] = {"never", "retry", "pending"};
    lua_Integer n = 0;
    lua_newtable(L);
    for (const sr_scm_code *row = sr_scm_codes(); row->meaning; row++) {
        lua_createtable(L, 0, 6);
        lua_pushinteger(L, row->code);
        lua_setfield(L, -2, "code");
        set_text(L, "op", row->op);
        set_text(L, "kind", sr_kind_name(row->kind));
        set_text(L, "again", again[row->again]);
        set_text(L, "meaning", row->meaning);
        set_text(L, "mend", row->mend);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static const luaL_Reg functions[] = {
    {"operations", l_operations},
    {"prepare", l_prepare},
    {"explain", l_explain},
    {"decode", l_decode},
    {"fill", l_fill},
    {"secret", l_secret},
    {"redact", l_redact},
    {"is_secret", l_is_secret},
    {"date", l_date},
    {"date_text", l_date_text},
    {"status", l_status},
    {"word", l_word},
    {"server_type", l_server_type},
    {"comment", l_comment},
    {"has_key", l_has_key},
    {"check_url", l_check_url},
    {"check_token_url", l_check_token_url},
    {"codes", l_codes},
    {NULL, NULL},
};

int luaopen_scm_core(lua_State *L) {
    if (luaL_newmetatable(L, SCRATCH)) {
        lua_pushcfunction(L, l_scratch_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
