/* scm_prepare.c – the face of the table: operations listed, one call made ready.
 *
 * prepare() turns a name and a table of parameters into a request that fits the
 * operation, or raises and says which parameter does not. Places are fixed on the stack
 * (PARAMS …), so that what is read stays alive until the request is whole.
 */
#include <stdio.h>
#include <string.h>

#include "data/json_lua.h"
#include "scm/scm_face.h"
#include "scm/scm_msg.h"
#include "scm/scm_ops.h"

#define PATH_VALUES 8

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
        sr_scm_set_text(L, "name", field.name);
        sr_scm_set_text(L, "place", place_names[field.place]);
        sr_scm_set_text(L, "type", type_name(field.type));
        sr_scm_set_bool(L, "required", field.required);
        lua_rawseti(L, -2, ++n);
    }
}

static void push_op(lua_State *L, const sr_scm_op *op) {
    lua_createtable(L, 0, 10);
    sr_scm_set_text(L, "name", op->name);
    sr_scm_set_text(L, "ids", op->ids);
    sr_scm_set_text(L, "method", op->method);
    sr_scm_set_text(L, "path", op->path);
    sr_scm_set_text(L, "paging", paging_names[op->paging]);
    sr_scm_set_text(L, "result", result_names[op->result]);
    sr_scm_set_bool(L, "reads", op->reads);
    push_versions(L, op->versions[SR_SCM_CLASSIC]);
    lua_setfield(L, -2, "classic");
    push_versions(L, op->versions[SR_SCM_ADMIN]);
    lua_setfield(L, -2, "admin");
    push_parameters(L, op);
    lua_setfield(L, -2, "parameters");
}

/* operations() → list of {name, ids, method, path, paging, result, reads, classic, admin,
 * parameters = {{name, place, type, required}}} */
int sr_scm_l_operations(lua_State *L) {
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

SR_NORETURN static void bad_type(lua_State *L, const call *c, const char *name,
                                 const char *expected, int idx) {
    sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s: %s: expected %s, got %s", c->op->name,
             name, expected,
             sr_scm_is_secret(L, idx) ? "a secret, which does not belong here"
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
    if (lua_type(L, -1) != LUA_TSTRING && !sr_scm_is_secret(L, -1))
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
    case 'p': fits = text || sr_scm_is_secret(L, -1); break;
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
    sr_scm_scratch *s = sr_scm_scratch_new(L);
    if (sr_scm_path(c->op, c->version, c->values, &s->text, &err) != 0) sr_throw(L, &err);
    sr_scm_push_text(L, &s->text);
    lua_setfield(L, REQUEST, "path");
    lua_pop(L, 1);
}

static void fill_request(lua_State *L, const call *c) {
    char kind = sr_scm_body_kind(c->op);
    lua_pushvalue(L, REQUEST);
    sr_scm_set_text(L, "name", c->op->name);
    sr_scm_set_text(L, "method", c->op->method);
    sr_scm_set_text(L, "paging", paging_names[c->op->paging]);
    sr_scm_set_text(L, "result", result_names[c->op->result]);
    sr_scm_set_bool(L, "reads", c->op->reads);
    sr_scm_set_bool(L, "spelt", c->spelt);
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
int sr_scm_l_prepare(lua_State *L) {
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
