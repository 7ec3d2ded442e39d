/* scm_core.c – the module "scm.core": the table of operations and SCM's words for Lua.
 *
 * A thin face over scm_ops, scm_msg and scm_text, with scm_prepare.c. No I/O and no
 * waiting: connections, retries and order are scm.lua's business.
 */
#include <stdio.h>
#include <string.h>

#include "data/json_lua.h"
#include "open.h"
#include "scm/scm_face.h"
#include "scm/scm_msg.h"

#define SCRATCH "scm.scratch"

static int l_scratch_gc(lua_State *L) {
    sr_scm_scratch *s = luaL_checkudata(L, 1, SCRATCH);
    cJSON_Delete(s->doc);
    sr_buf_free(&s->text);
    memset(s, 0, sizeof *s);
    return 0;
}

sr_scm_scratch *sr_scm_scratch_new(lua_State *L) {
    sr_scm_scratch *s = lua_newuserdatauv(L, sizeof *s, 0);
    memset(s, 0, sizeof *s);
    luaL_setmetatable(L, SCRATCH);
    return s;
}

int sr_scm_push_text(lua_State *L, const sr_buf *buf) {
    if (buf->oom) return sr_raise(L, SR_LIMIT, "ENOMEM", "no memory");
    lua_pushlstring(L, buf->data ? buf->data : "", buf->len);
    return 1;
}

void sr_scm_set_text(lua_State *L, const char *key, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

void sr_scm_set_bool(lua_State *L, const char *key, bool value) {
    lua_pushboolean(L, value);
    lua_setfield(L, -2, key);
}

bool sr_scm_is_secret(lua_State *L, int idx) {
    return luaL_testudata(L, idx, SR_SECRET_TYPE) != NULL;
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
    if (*reason->description) sr_scm_set_text(L, "description", reason->description);
    if (*reason->token_url) sr_scm_set_text(L, "token_url", reason->token_url);
    if (!reason->row) return;
    sr_scm_set_text(L, "meaning", reason->row->meaning);
    sr_scm_set_text(L, "mend", reason->row->mend);
    sr_scm_set_bool(L, "pending", reason->row->again == SR_SCM_PENDING);
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
    sr_scm_scratch *s = sr_scm_scratch_new(L);
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
    sr_scm_scratch *s = sr_scm_scratch_new(L);
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
    sr_scm_scratch *s = sr_scm_scratch_new(L);
    sr_buf_append(&s->text, text, len);
    if (s->text.data) sr_redact(s->text.data);
    lua_pushstring(L, s->text.data ? s->text.data : "");
    return 1;
}

/* is_secret(value) → boolean */
static int l_is_secret(lua_State *L) {
    lua_pushboolean(L, sr_scm_is_secret(L, 1));
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
    sr_scm_scratch *s = sr_scm_scratch_new(L);
    if (sr_scm_date_text(seconds, format, &s->text, &err) != 0) return sr_throw(L, &err);
    return sr_scm_push_text(L, &s->text);
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
    sr_scm_scratch *s = sr_scm_scratch_new(L);
    if (sr_scm_comment(text, len, key, &s->text, &err) != 0) return sr_throw(L, &err);
    return sr_scm_push_text(L, &s->text);
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
        sr_scm_set_text(L, "op", row->op);
        sr_scm_set_text(L, "kind", sr_kind_name(row->kind));
        sr_scm_set_text(L, "again", again[row->again]);
        sr_scm_set_text(L, "meaning", row->meaning);
        sr_scm_set_text(L, "mend", row->mend);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static const luaL_Reg functions[] = {
    {"operations", sr_scm_l_operations},
    {"prepare", sr_scm_l_prepare},
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
