/* encoding_lua.c – the module "encoding": the codecs of encoding.c for scripts. */
#include "data/encoding.h"

#include <string.h>

#include "open.h"

#define BUF_TYPE "encoding.buf"

typedef int codec(sr_buf *out, const char *text, size_t len, sr_err *err);

static int l_buf_gc(lua_State *L) {
    sr_buf_free(lua_touserdata(L, 1));
    return 0;
}

/* The label of the secret at idx: what it shows, without "[secret " and "]". */
static const char *push_label(lua_State *L, int idx) {
    static const char head[] = "[secret ";
    size_t len, skip = sizeof head - 1;
    const char *shown = luaL_tolstring(L, idx, &len);
    if (len <= skip + 1 || memcmp(shown, head, skip) != 0) return shown;
    return lua_pushlstring(L, shown + skip, len - skip - 1);
}

/* A string gives a string; a secret gives a secret, labelled like its source. */
static int convert(lua_State *L, codec *core) {
    sr_err err = {0};
    size_t len;
    bool secret = lua_type(L, 1) == LUA_TUSERDATA;
    const char *text = sr_check_secret(L, 1, &len);
    sr_buf *out = lua_newuserdatauv(L, sizeof *out, 0);
    *out = (sr_buf){.secret = secret};
    luaL_setmetatable(L, BUF_TYPE);
    if (core(out, text, len, &err)) return sr_throw(L, &err);
    if (secret)
        sr_push_secret(L, out->data, out->len, push_label(L, 1));
    else
        lua_pushlstring(L, out->data, out->len);
    sr_buf_free(out);
    return 1;
}

#define FACE(id)                                                                         \
    static int id##_text(sr_buf *out, const char *data, size_t len, sr_err *err) {       \
        return sr_##id##_encode(out, data, len, err);                                    \
    }                                                                                    \
    static int l_##id##_encode(lua_State *L) {                                           \
        return convert(L, id##_text);                                                    \
    }                                                                                    \
    static int l_##id##_decode(lua_State *L) {                                           \
        return convert(L, sr_##id##_decode);                                             \
    }

/* encoding.X_encode(data) → text, encoding.X_decode(text) → data. Strings or secrets.
 * Decoders raise protocol with the place of what does not belong there. */
FACE(base64)
FACE(base64url)
FACE(base32)
FACE(hex)
FACE(percent)
FACE(form)

/* encoding.base64_any_decode(text) → data: what people paste as an EAB key. */
static int l_base64_any_decode(lua_State *L) {
    return convert(L, sr_base64_any_decode);
}

static const luaL_Reg functions[] = {{"base64_encode", l_base64_encode},
                                     {"base64_decode", l_base64_decode},
                                     {"base64_any_decode", l_base64_any_decode},
                                     {"base64url_encode", l_base64url_encode},
                                     {"base64url_decode", l_base64url_decode},
                                     {"base32_encode", l_base32_encode},
                                     {"base32_decode", l_base32_decode},
                                     {"hex_encode", l_hex_encode},
                                     {"hex_decode", l_hex_decode},
                                     {"percent_encode", l_percent_encode},
                                     {"percent_decode", l_percent_decode},
                                     {"form_encode", l_form_encode},
                                     {"form_decode", l_form_decode},
                                     {NULL, NULL}};

int luaopen_encoding(lua_State *L) {
    luaL_newmetatable(L, BUF_TYPE);
    lua_pushcfunction(L, l_buf_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, functions);
    return 1;
}
