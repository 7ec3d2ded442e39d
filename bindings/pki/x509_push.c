/* x509_push.c – decoded fields become Lua values.
 *
 * Every function pushes exactly one value and takes the address of the member it shows,
 * so that a class is a table of names, functions and offsets.
 */
#include "x509.h"

#include <string.h>
#include <time.h>

void sr_x509_push_text(lua_State *L, const void *value) {
    lua_pushstring(L, *(const char *const *)value); /* NULL pushes nil */
}

void sr_x509_push_chars(lua_State *L, const void *value) {
    lua_pushstring(L, value);
}

void sr_x509_push_bool(lua_State *L, const void *value) {
    lua_pushboolean(L, *(const bool *)value);
}

void sr_x509_push_int(lua_State *L, const void *value) {
    int number = *(const int *)value;
    if (number < 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, number);
}

void sr_x509_push_time(lua_State *L, const void *value) {
    double when = *(const double *)value;
    if (when == 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, (lua_Integer)when);
}

void sr_x509_push_words(lua_State *L, const void *value) {
    const sr_words *words = value;
    lua_createtable(L, (int)words->count, 0);
    for (size_t i = 0; i < words->count; i++) {
        lua_pushstring(L, words->items[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void push_pair(lua_State *L, const char *type, const char *value) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, type);
    lua_setfield(L, -2, "type");
    lua_pushstring(L, value);
    lua_setfield(L, -2, "value");
}

static int l_name_tostring(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushliteral(L, "text");
    lua_rawget(L, 1);
    return 1;
}

/* {CN = "x", O = "y", text = "CN=x,O=y", {type = "CN", value = "x"}, …}: by name the
 * first of each kind, in the list all in their order. */
void sr_x509_push_dn(lua_State *L, const void *value) {
    const sr_dn *dn = value;
    lua_createtable(L, (int)dn->count, 4);
    for (size_t i = dn->count; i-- > 0;) {
        lua_pushstring(L, dn->items[i].value);
        lua_setfield(L, -2, dn->items[i].type);
        push_pair(L, dn->items[i].type, dn->items[i].value);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_pushstring(L, dn->text);
    lua_setfield(L, -2, "text");
    if (luaL_newmetatable(L, "x509.name")) {
        lua_pushcfunction(L, l_name_tostring);
        lua_setfield(L, -2, "__tostring");
    }
    lua_setmetatable(L, -2);
}

void sr_x509_push_sans(lua_State *L, const void *value) {
    const sr_sans *sans = value;
    lua_createtable(L, (int)sans->count, 0);
    for (size_t i = 0; i < sans->count; i++) {
        push_pair(L, sans->items[i].type, sans->items[i].value);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void push_lower(lua_State *L, const char *text) {
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (; *text; text++) {
        char c = *text;
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        luaL_addchar(&b, c);
    }
    luaL_pushresult(&b);
}

/* Lower-case host names, addresses, e-mail addresses and URIs; no other sorts. */
void sr_x509_push_names(lua_State *L, const void *value) {
    static const char *const sorts[] = {"dns", "ip", "email", "uri"};
    const sr_sans *sans = value;
    lua_Integer n = 0;
    lua_createtable(L, (int)sans->count, 0);
    for (size_t i = 0; i < sans->count; i++)
        for (size_t k = 0; k < sizeof sorts / sizeof *sorts; k++) {
            if (strcmp(sans->items[i].type, sorts[k]) != 0) continue;
            if (k == 0)
                push_lower(L, sans->items[i].value);
            else
                lua_pushstring(L, sans->items[i].value);
            lua_rawseti(L, -2, ++n);
        }
}

static void push_hex(lua_State *L, const unsigned char *data, size_t len) {
    luaL_Buffer b;
    sr_pki_hex_text(luaL_buffinitsize(L, &b, len * 2 + 1), data, len);
    luaL_pushresultsize(&b, len * 2);
}

/* {oid, name, critical, der (bytes), hex} */
void sr_x509_push_extensions(lua_State *L, const void *value) {
    const sr_extensions *all = value;
    lua_createtable(L, (int)all->count, 0);
    for (size_t i = 0; i < all->count; i++) {
        const sr_extension *ext = &all->items[i];
        lua_createtable(L, 0, 5);
        lua_pushstring(L, ext->oid);
        lua_setfield(L, -2, "oid");
        lua_pushstring(L, ext->name);
        lua_setfield(L, -2, "name");
        lua_pushboolean(L, ext->critical);
        lua_setfield(L, -2, "critical");
        lua_pushlstring(L, (const char *)ext->der, ext->der_len);
        lua_setfield(L, -2, "der");
        push_hex(L, ext->der, ext->der_len);
        lua_setfield(L, -2, "hex");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

void sr_x509_push_certs(lua_State *L, const STACK_OF(X509) * certs) {
    int count = certs ? sk_X509_num(certs) : 0;
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        sr_push_cert(L, sk_X509_value(certs, i));
        lua_rawseti(L, -2, i + 1);
    }
}

const char *sr_x509_date(double when, char buf[32]) {
    time_t seconds = (time_t)when;
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || !strftime(buf, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
        *buf = '\0';
    return buf;
}
