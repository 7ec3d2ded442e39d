/* x509_spec.c – what a script says about a subject becomes a sr_subject_spec.
 *
 * Tables are read with raw access and every element is checked for its type, so that an
 * error names the element. Strings are borrowed from the script's table; arrays are
 * userdata on the stack (see x509.h).
 */
#include "x509.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ATTRIBUTES 64
#define MAX_LIST 4096

static void *push_array(lua_State *L, size_t count, size_t size) {
    void *array = lua_newuserdatauv(L, count * size + 1, 0);
    memset(array, 0, count * size + 1);
    return array;
}

/* The string on top, borrowed; the value is popped but stays in its table. */
static const char *borrow(lua_State *L, const char *what, int i) {
    size_t len;
    if (lua_type(L, -1) != LUA_TSTRING)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s[%d]: expected a string, got %s", what,
                 i, luaL_typename(L, -1));
    const char *text = lua_tolstring(L, -1, &len);
    if (strlen(text) != len)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "%s[%d]: contains a NUL byte", what, i);
    lua_pop(L, 1);
    return text;
}

static size_t list_length(lua_State *L, int idx, const char *what) {
    size_t count = lua_rawlen(L, idx);
    if (count > MAX_LIST)
        sr_raise(L, SR_USAGE, "TOO_MANY", "%s: %d entries; at most %d", what, (int)count,
                 MAX_LIST);
    return count;
}

/* Push t[key] without metamethods: what is borrowed must be in the table itself. */
static int raw_field(lua_State *L, int table, const char *key) {
    table = lua_absindex(L, table);
    lua_pushstring(L, key);
    return lua_rawget(L, table);
}

/* A {type =, value =} table on top; pops it. */
static void read_pair(lua_State *L, const char *what, int i, const char **ret_type,
                      const char **ret_value) {
    raw_field(L, -1, "type");
    *ret_type = borrow(L, what, i);
    raw_field(L, -1, "value");
    *ret_value = borrow(L, what, i);
    lua_pop(L, 1);
}

/* ---------------------------------------------------------------- subject */

/* The order in which attributes of an unordered table are written. */
static int rank(const char *type) {
    static const char *const order[] = {"C",
                                        "ST",
                                        "L",
                                        "postalCode",
                                        "street",
                                        "O",
                                        "OU",
                                        "businessCategory",
                                        "serialNumber",
                                        "CN"};
    int n = (int)(sizeof order / sizeof *order);
    for (int i = 0; i < n; i++)
        if (strcmp(order[i], type) == 0) return i;
    return n;
}

static int compare(const void *a, const void *b) {
    const sr_attribute *x = a, *y = b;
    int d = rank(x->type) - rank(y->type);
    if (d) return d;
    d = strcmp(x->type, y->type);
    return d ? d : x < y ? -1 : x > y;
}

static void add_attribute(lua_State *L, sr_subject_spec *spec, sr_attribute *items,
                          const char *type, const char *value) {
    if (spec->subject_count >= MAX_ATTRIBUTES)
        sr_raise(L, SR_USAGE, "TOO_MANY", "subject: more than %d attributes",
                 MAX_ATTRIBUTES);
    items[spec->subject_count++] = (sr_attribute){type, value};
}

/* subject = {CN = "x", OU = {"a", "b"}}; the table is at idx. */
static void read_named(lua_State *L, int idx, sr_subject_spec *spec,
                       sr_attribute *items) {
    lua_pushnil(L);
    while (lua_next(L, idx)) { /* key, value */
        if (lua_type(L, -2) != LUA_TSTRING)
            sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "subject: keys are attribute names");
        const char *type = lua_tostring(L, -2);
        if (lua_type(L, -1) == LUA_TTABLE) {
            size_t count = list_length(L, lua_gettop(L), type);
            for (size_t i = 1; i <= count; i++) {
                lua_rawgeti(L, -1, (lua_Integer)i);
                add_attribute(L, spec, items, type, borrow(L, type, (int)i));
            }
            lua_pop(L, 1);
        } else
            add_attribute(L, spec, items, type, borrow(L, type, 1));
    }
    qsort(items, spec->subject_count, sizeof *items, compare);
}

void sr_x509_read_subject(lua_State *L, int idx, sr_subject_spec *spec) {
    luaL_checkstack(L, 20, "x509");
    sr_attribute *items = push_array(L, MAX_ATTRIBUTES, sizeof *items);
    if (sr_arg_push(L, idx, "subject") == LUA_TTABLE) {
        int table = lua_gettop(L);
        size_t count = list_length(L, table, "subject");
        for (size_t i = 1; i <= count; i++) { /* as in cert.subject: a list in order */
            const char *type, *value;
            if (lua_rawgeti(L, table, (lua_Integer)i) != LUA_TTABLE)
                sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                         "subject[%d]: expected {type =, value =}", (int)i);
            read_pair(L, "subject", (int)i, &type, &value);
            add_attribute(L, spec, items, type, value);
        }
        if (count == 0) read_named(L, table, spec, items);
    }
    lua_pop(L, 1);
    spec->subject = items;
}

/* ---------------------------------------------------------------- names */

static const char *const sorts[] = {"dns", "ip", "email", "uri"};
#define SORTS (sizeof sorts / sizeof *sorts)

/* Pushes the list of one sort when there is one: {dns = {"a"}} or {dns = "a"}. */
static size_t sort_count(lua_State *L, int table, const char *sort) {
    int type = raw_field(L, table, sort);
    if (type == LUA_TNIL) return 0;
    return type == LUA_TTABLE ? list_length(L, lua_gettop(L), sort) : 1;
}

static size_t count_names(lua_State *L, int table) {
    size_t total = list_length(L, table, "names");
    for (size_t k = 0; k < SORTS; k++) {
        total += sort_count(L, table, sorts[k]);
        lua_pop(L, 1);
    }
    return total;
}

static void check_name_keys(lua_State *L, int table) {
    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pop(L, 1);
        bool good = lua_type(L, -1) == LUA_TNUMBER;
        for (size_t k = 0; k < SORTS && !good; k++)
            good = lua_type(L, -1) == LUA_TSTRING &&
                   strcmp(lua_tostring(L, -1), sorts[k]) == 0;
        if (!good)
            sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                     "names: a list, with dns, ip, email, uri as further keys");
    }
}

static void fill_names(lua_State *L, int table, sr_san *items, size_t *n) {
    size_t plain = lua_rawlen(L, table);
    for (size_t i = 1; i <= plain; i++) {
        sr_san *san = &items[(*n)++];
        if (lua_rawgeti(L, table, (lua_Integer)i) == LUA_TTABLE)
            read_pair(L, "names", (int)i, &san->type, &san->value);
        else
            san->value = borrow(L, "names", (int)i);
    }
    for (size_t k = 0; k < SORTS; k++) {
        size_t count = sort_count(L, table, sorts[k]);
        bool list = lua_type(L, -1) == LUA_TTABLE;
        for (size_t i = 1; i <= count; i++) {
            if (list)
                lua_rawgeti(L, -1, (lua_Integer)i);
            else
                lua_pushvalue(L, -1);
            items[(*n)++] = (sr_san){sorts[k], borrow(L, sorts[k], (int)i)};
        }
        lua_pop(L, 1);
    }
}

void sr_x509_read_names(lua_State *L, int idx, sr_subject_spec *spec) {
    luaL_checkstack(L, 20, "x509");
    lua_pushnil(L); /* the array's place, under the table */
    int place = lua_gettop(L);
    if (sr_arg_push(L, idx, "names") == LUA_TTABLE) {
        int table = lua_gettop(L);
        check_name_keys(L, table);
        sr_san *items = push_array(L, count_names(L, table), sizeof *items);
        lua_replace(L, place);
        fill_names(L, table, items, &spec->san_count);
        spec->sans = items;
    }
    lua_pop(L, 1);
}

/* ---------------------------------------------------------------- usages, extensions */

static bool read_words(lua_State *L, int idx, const char *key, sr_words *words) {
    lua_pushnil(L);
    int place = lua_gettop(L);
    bool given = sr_arg_push(L, idx, key) == LUA_TTABLE;
    if (given) {
        words->count = list_length(L, -1, key);
        words->items = push_array(L, words->count, sizeof *words->items);
        lua_replace(L, place);
        for (size_t i = 0; i < words->count; i++) {
            lua_rawgeti(L, -1, (lua_Integer)i + 1);
            words->items[i] = borrow(L, key, (int)i + 1);
        }
    }
    lua_pop(L, 1);
    return given;
}

static const sr_arg extension_args[] = {
    {"oid", SR_STRING, SR_REQUIRED | SR_NONEMPTY, NULL, "short name or dotted OID"},
    {"critical", SR_BOOL, 0, "false", "whether a reader must know it"},
    {"der", SR_STRING, 0, NULL, "the value's DER bytes"},
    {"value", SR_STRING, 0, NULL, "the value in OpenSSL's text form"},
    {"name", SR_STRING, 0, NULL, "ignored; as read from a certificate"},
    {"hex", SR_STRING, 0, NULL, "ignored; as read from a certificate"},
    {0}};
static const sr_spec extension_spec = {"extensions[]", "One extension.", extension_args};

static void read_extension(lua_State *L, int i, sr_extension_spec *ext) {
    int idx = lua_gettop(L);
    sr_args(L, idx, &extension_spec);
    ext->oid = sr_arg_string(L, idx, "oid", NULL, NULL);
    ext->critical = sr_arg_bool(L, idx, "critical", false);
    ext->der = sr_arg_string(L, idx, "der", NULL, &ext->der_len);
    ext->value = sr_arg_string(L, idx, "value", NULL, NULL);
    if (!ext->der == !ext->value)
        sr_raise(L, SR_USAGE, "BAD_EXTENSION", "extensions[%d]: give either der or value",
                 i);
}

static void read_extensions(lua_State *L, int idx, sr_subject_spec *spec) {
    lua_pushnil(L);
    int place = lua_gettop(L);
    if (sr_arg_push(L, idx, "extensions") == LUA_TTABLE) {
        size_t count = list_length(L, -1, "extensions");
        sr_extension_spec *items = push_array(L, count, sizeof *items);
        lua_replace(L, place);
        for (size_t i = 0; i < count; i++) {
            if (lua_rawgeti(L, -1, (lua_Integer)i + 1) != LUA_TTABLE)
                sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                         "extensions[%d]: expected {oid =, der =}", (int)i + 1);
            read_extension(L, (int)i + 1, &items[i]);
            lua_pop(L, 1);
        }
        spec->extensions = items;
        spec->extension_count = count;
    }
    lua_pop(L, 1);
}

void sr_x509_read_spec(lua_State *L, int idx, sr_subject_spec *ret_spec) {
    *ret_spec = (sr_subject_spec){0};
    sr_x509_read_subject(L, idx, ret_spec);
    sr_x509_read_names(L, idx, ret_spec);
    ret_spec->must_staple = sr_arg_bool(L, idx, "must_staple", false);
    ret_spec->has_key_usage = read_words(L, idx, "key_usage", &ret_spec->key_usage);
    ret_spec->has_ext_key_usage =
        read_words(L, idx, "ext_key_usage", &ret_spec->ext_key_usage);
    read_extensions(L, idx, ret_spec);
}
