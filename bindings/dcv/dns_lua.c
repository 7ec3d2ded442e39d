/* dns_lua.c – the module "dns.core": messages, names and signatures for Lua.
 *
 * A thin face over dns_msg and tsig; no I/O, no waiting. What a call gathers hangs on one
 * scratch userdata, so that an error on the way leaves nothing behind. TSIG keys are
 * objects: their secrets never become Lua strings.
 */
#include "data/digest.h"
#include "dcv/dns_msg.h"
#include "dcv/tsig.h"
#include "open.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCRATCH "dns.scratch"
#define KEY "dns.key"

typedef struct scratch {
    sr_dns_message message;
    sr_dns_draft *draft;
    sr_buf out;
    char *text;
    sr_tsig_info info;
} scratch;

static int l_scratch_gc(lua_State *L) {
    scratch *s = luaL_checkudata(L, 1, SCRATCH);
    sr_dns_message_free(&s->message);
    sr_dns_draft_free(s->draft);
    sr_buf_free(&s->out);
    free(s->text);
    sr_tsig_info_free(&s->info);
    memset(s, 0, sizeof *s);
    return 0;
}

static scratch *new_scratch(lua_State *L) {
    scratch *s = lua_newuserdatauv(L, sizeof *s, 0);
    memset(s, 0, sizeof *s);
    luaL_setmetatable(L, SCRATCH);
    return s;
}

static void set_text(lua_State *L, const char *key, const char *text) {
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_int(lua_State *L, const char *key, lua_Integer number) {
    lua_pushinteger(L, number);
    lua_setfield(L, -2, key);
}

static void set_bool(lua_State *L, const char *key, bool value) {
    lua_pushboolean(L, value);
    lua_setfield(L, -2, key);
}

/* ---------------------------------------------------------------- decode */

static void push_record(lua_State *L, const sr_dns_record *record) {
    lua_createtable(L, 0, 6 + record->fields);
    set_text(L, "name", record->name);
    set_text(L, "type", record->type);
    set_text(L, "class", record->class_);
    set_int(L, "ttl", record->ttl);
    if (record->value) set_text(L, "value", record->value);
    for (int i = 0; i < record->fields; i++) {
        const sr_dns_field *field = &record->field[i];
        if (field->text)
            lua_pushlstring(L, field->text, field->len);
        else
            lua_pushinteger(L, field->number);
        lua_setfield(L, -2, field->name);
    }
}

static void push_head(lua_State *L, const sr_dns_head *head) {
    set_int(L, "id", head->id);
    set_text(L, "opcode", head->opcode);
    set_bool(L, "response", head->qr);
    set_text(L, "rcode", sr_dns_rcode_name(head->rcode));
    lua_createtable(L, 0, 6); /* flags */
    set_bool(L, "aa", head->aa);
    set_bool(L, "tc", head->tc);
    set_bool(L, "rd", head->rd);
    set_bool(L, "ra", head->ra);
    set_bool(L, "ad", head->ad);
    set_bool(L, "cd", head->cd);
    lua_setfield(L, -2, "flags");
    if (!head->has_edns) return;
    lua_createtable(L, 0, 3); /* edns */
    set_int(L, "size", head->edns_size);
    set_int(L, "version", head->edns_version);
    set_bool(L, "dnssec_ok", head->edns_do);
    lua_setfield(L, -2, "edns");
}

/* decode(wire) → {id=, opcode=, response=, rcode=, flags=, edns=, question=, answer=,
 * authority=, additional=, signed=, size=}. Raises protocol. */
static int l_decode(lua_State *L) {
    static const char *const sections[] = {"answer", "authority", "additional"};
    size_t len;
    sr_err err = {0};
    const char *wire = luaL_checklstring(L, 1, &len);
    scratch *s = new_scratch(L);
    if (sr_dns_decode(wire, len, &s->message, &err) != 0) return sr_throw(L, &err);
    lua_createtable(L, 0, 14);
    push_head(L, &s->message.head);
    set_int(L, "size", (lua_Integer)len);
    set_bool(L, "signed", s->message.has_tsig);
    if (s->message.has_question) {
        lua_createtable(L, 0, 3); /* question */
        set_text(L, "name", s->message.name);
        set_text(L, "type", s->message.type);
        set_text(L, "class", s->message.class_);
        lua_setfield(L, -2, "question");
    }
    for (int i = 0; i < SR_DNS_SECTIONS; i++) {
        const sr_dns_list *list = &s->message.section[i];
        lua_createtable(L, (int)list->count, 0);
        for (size_t k = 0; k < list->count; k++) {
            push_record(L, &list->at[k]);
            lua_rawseti(L, -2, (lua_Integer)k + 1);
        }
        lua_setfield(L, -2, sections[i]);
    }
    return 1;
}

/* answers(query, wire) → true, or false and why it is not the answer. */
static int l_answers(lua_State *L) {
    size_t query_len, len;
    const char *why = NULL, *query = luaL_checklstring(L, 1, &query_len);
    const char *wire = luaL_checklstring(L, 2, &len);
    lua_pushboolean(L, sr_dns_answers(query, query_len, wire, len, &why));
    lua_pushstring(L, why);
    return 2;
}

/* ---------------------------------------------------------------- encode */

static const sr_arg encode_args[] = {
    {"id", SR_INT, 0, NULL, "of the message; random without it", .max = 65535},
    {"opcode", SR_ENUM, 0, "QUERY", "", .choices = "QUERY|NOTIFY|UPDATE"},
    {"response", SR_BOOL, 0, "false", "the QR flag"},
    {"flags", SR_TABLE, 0, NULL, "aa, tc, rd, ra, ad, cd"},
    {"rcode", SR_STRING, 0, "NOERROR", "response code"},
    {"question", SR_TABLE, SR_REQUIRED, NULL, "{name=, type=, class=}"},
    {"answer", SR_LIST, 0, NULL, "records", .choices = "table"},
    {"authority", SR_LIST, 0, NULL, "records", .choices = "table"},
    {"additional", SR_LIST, 0, NULL, "records", .choices = "table"},
    {"edns", SR_INT, 0, NULL, "UDP size to announce", .max = 65535},
    {"max", SR_INT, 0, "65535", "bytes; beyond it the TC flag", .max = 65535},
    {0}};
static const sr_spec encode_spec = {"dns.encode", "Build a message.", encode_args};

static const sr_arg question_args[] = {
    {"name", SR_STRING, SR_REQUIRED | SR_NONEMPTY, NULL, "whose records"},
    {"type", SR_STRING, SR_NONEMPTY, "A", "record type"},
    {"class", SR_STRING, SR_NONEMPTY, "IN", "class"},
    {0}};
static const sr_spec question_spec = {"dns question", "", question_args};

static bool flag(lua_State *L, int idx, const char *name) {
    lua_getfield(L, idx, name);
    bool on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

static void read_flags(lua_State *L, sr_dns_head *head) {
    if (sr_arg_push(L, 1, "flags") == LUA_TTABLE) {
        int at = lua_gettop(L);
        head->aa = flag(L, at, "aa");
        head->tc = flag(L, at, "tc");
        head->rd = flag(L, at, "rd");
        head->ra = flag(L, at, "ra");
        head->ad = flag(L, at, "ad");
        head->cd = flag(L, at, "cd");
    }
    lua_pop(L, 1);
}

/* Sixteen bits nobody can guess. */
static uint16_t random_id(lua_State *L) {
    uint16_t id;
    sr_err err = {0};
    if (sr_random(&id, sizeof id, &err) != 0) sr_throw(L, &err);
    return id;
}

static void read_head(lua_State *L, sr_dns_head *head) {
    const char *rcode = sr_arg_string(L, 1, "rcode", "NOERROR", NULL);
    lua_Integer id = sr_arg_int(L, 1, "id", -1);
    head->id = id < 0 ? random_id(L) : (uint16_t)id;
    snprintf(head->opcode, sizeof head->opcode, "%s",
             sr_arg_string(L, 1, "opcode", "QUERY", NULL));
    head->qr = sr_arg_bool(L, 1, "response", false);
    head->rcode = sr_dns_rcode_of(rcode);
    if (head->rcode < 0)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "dns.encode: there is no rcode %s", rcode);
    head->edns_size = (int)sr_arg_int(L, 1, "edns", 0);
    head->has_edns = head->edns_size > 0;
    read_flags(L, head);
}

/* A text field of the record at the top of the stack, which keeps it; NULL: none. */
static const char *record_text(lua_State *L, const char *key, size_t *ret_len) {
    const char *text = NULL;
    lua_getfield(L, -1, key);
    if (!lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TSTRING)
            sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                     "dns record: %s must be a string, got %s", key,
                     luaL_typename(L, -1));
        text = lua_tolstring(L, -1, ret_len);
    }
    lua_pop(L, 1);
    return text;
}

static void add_record(lua_State *L, sr_dns_draft *draft, sr_dns_section section) {
    sr_err err = {0};
    size_t len = 0, ignored;
    sr_dns_add add = {.name = record_text(L, "name", &ignored),
                      .type = record_text(L, "type", &ignored),
                      .class_ = record_text(L, "class", &ignored),
                      .value = record_text(L, "value", &ignored),
                      .text = record_text(L, "text", &len)};
    add.text_len = len;
    if (!add.name || !add.type)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "dns record: name and type are needed");
    lua_getfield(L, -1, "ttl");
    lua_Integer ttl = luaL_optinteger(L, -1, 0);
    lua_pop(L, 1);
    if (ttl < 0 || ttl > INT32_MAX)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "dns record %s: ttl must be 0 to 2147483647 seconds", add.name);
    add.ttl = (uint32_t)ttl;
    if (add.text) add.value = NULL;
    if (sr_dns_draft_add(draft, section, &add, &err) != 0) sr_throw(L, &err);
}

static void add_section(lua_State *L, sr_dns_draft *draft, sr_dns_section section,
                        const char *key) {
    if (sr_arg_push(L, 1, key) == LUA_TTABLE) {
        lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
        for (lua_Integer i = 1; i <= n; i++) {
            lua_rawgeti(L, -1, i);
            add_record(L, draft, section);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

/* encode{…} → wire, truncated. Raises usage, limit. */
static int l_encode(lua_State *L) {
    sr_err err = {0};
    sr_dns_head head = {0};
    bool truncated = false;
    lua_settop(L, 1);
    sr_args(L, 1, &encode_spec);
    read_head(L, &head);
    sr_arg_push(L, 1, "question");
    sr_args(L, 2, &question_spec);
    scratch *s = new_scratch(L);
    s->draft = sr_dns_draft_new(&head, sr_arg_string(L, 2, "name", "", NULL),
                                sr_arg_string(L, 2, "type", "A", NULL),
                                sr_arg_string(L, 2, "class", NULL, NULL), &err);
    if (!s->draft) return sr_throw(L, &err);
    add_section(L, s->draft, SR_DNS_ANSWER, "answer");
    add_section(L, s->draft, SR_DNS_AUTHORITY, "authority");
    add_section(L, s->draft, SR_DNS_ADDITIONAL, "additional");
    size_t max = (size_t)sr_arg_int(L, 1, "max", SR_DNS_MAX);
    if (sr_dns_draft_encode(s->draft, max, &s->out, &truncated, &err) != 0)
        return sr_throw(L, &err);
    lua_pushlstring(L, s->out.data, s->out.len);
    lua_pushboolean(L, truncated);
    return 2;
}

/* ---------------------------------------------------------------- words */

/* name(text) → its canonical form. Raises usage. */
static int l_name(lua_State *L) {
    size_t len;
    sr_err err = {0};
    const char *text = luaL_checklstring(L, 1, &len);
    scratch *s = new_scratch(L);
    if (sr_dns_name(text, len, &s->text, &err) != 0) return sr_throw(L, &err);
    lua_pushstring(L, s->text);
    return 1;
}

/* type(text) → its usual spelling ("caa" and "TYPE257" → "CAA"). Raises usage. */
static int l_type(lua_State *L) {
    uint16_t type;
    char name[16];
    sr_err err = {0};
    const char *text = luaL_checkstring(L, 1);
    if (sr_dns_type(text, &type, &err) != 0) return sr_throw(L, &err);
    sr_dns_type_name(type, name);
    lua_pushstring(L, name);
    return 1;
}

/* reverse(address) → "….ip6.arpa" of an IPv6 address. Raises usage. */
static int l_reverse(lua_State *L) {
    unsigned char bytes[16];
    char name[80], *at = name;
    const char *text = luaL_checkstring(L, 1);
    if (inet_pton(AF_INET6, text, bytes) != 1)
        return sr_raise(L, SR_USAGE, "BAD_ADDRESS", "\"%s\" is not an IPv6 address",
                        text);
    for (int i = 15; i >= 0; i--)
        at += snprintf(at, 5, "%x.%x.", bytes[i] & 15, bytes[i] >> 4);
    lua_pushfstring(L, "%sip6.arpa", name);
    return 1;
}

/* ---------------------------------------------------------------- signatures */

static int l_key_gc(lua_State *L) {
    sr_tsig_key_free(luaL_checkudata(L, 1, KEY));
    return 0;
}

static int l_key_tostring(lua_State *L) {
    const sr_tsig_key *key = luaL_checkudata(L, 1, KEY);
    lua_pushfstring(L, "dns.key (%s, %s)", key->shown, key->alg);
    return 1;
}

static int l_key_index(lua_State *L) {
    const sr_tsig_key *key = luaL_checkudata(L, 1, KEY);
    const char *field = luaL_checkstring(L, 2);
    if (strcmp(field, "name") == 0)
        lua_pushstring(L, key->shown);
    else if (strcmp(field, "algorithm") == 0)
        lua_pushstring(L, key->alg);
    else
        lua_pushnil(L);
    return 1;
}

static const sr_arg key_args[] = {
    {"name", SR_STRING, SR_REQUIRED | SR_NONEMPTY, NULL, "of the key, as on the server"},
    {"algorithm", SR_STRING, SR_NONEMPTY, "hmac-sha256", "or hmac-sha384, hmac-sha512"},
    {"secret", SR_SECRET, SR_REQUIRED, NULL, "base64"},
    {0}};
static const sr_spec key_spec = {"dns.key", "A TSIG key.", key_args};

/* --- A TSIG key (RFC 8945).
 * ---@param opts {name: string, algorithm: string?, secret: secret|string}
 * ---@return dns.key key with name, algorithm; the secret stays inside
 * Raises usage. */
static int l_key(lua_State *L) {
    sr_err err = {0};
    size_t len;
    lua_settop(L, 1);
    sr_args(L, 1, &key_spec);
    sr_arg_push(L, 1, "secret");
    const char *secret = sr_check_secret(L, -1, &len);
    sr_tsig_key *key = lua_newuserdatauv(L, sizeof *key, 0);
    memset(key, 0, sizeof *key);
    luaL_setmetatable(L, KEY);
    if (sr_tsig_key_init(key, sr_arg_string(L, 1, "name", "", NULL),
                         sr_arg_string(L, 1, "algorithm", "hmac-sha256", NULL), secret,
                         len, &err) != 0)
        return sr_throw(L, &err);
    return 1;
}

static bool read_mac(lua_State *L, int idx, sr_tsig_mac *ret_mac) {
    size_t len;
    const char *bytes = luaL_optlstring(L, idx, NULL, &len);
    if (!bytes) return false;
    luaL_argcheck(L, len <= sizeof ret_mac->bytes, idx, "no MAC");
    memcpy(ret_mac->bytes, bytes, len);
    ret_mac->len = len;
    return true;
}

/* sign(wire, key, prior MAC or nil, signed_at, error?) → wire, MAC. The time is this
 * state's clock when signed_at is nil. */
static int l_sign(lua_State *L) {
    size_t len;
    sr_err err = {0};
    sr_tsig_mac prior, mac;
    lua_settop(L, 5);
    const char *wire = luaL_checklstring(L, 1, &len);
    const sr_tsig_key *key = sr_check_object(L, 2, KEY);
    bool is_response = read_mac(L, 3, &prior);
    double now = sr_now(sr_loop_of(L));
    double signed_at = luaL_optnumber(L, 4, now);
    int error = sr_dns_rcode_of(luaL_optstring(L, 5, "NOERROR"));
    if (lua_isstring(L, 5) && strcmp(lua_tostring(L, 5), "BADSIG") == 0) error = 16;
    scratch *s = new_scratch(L);
    sr_buf_append(&s->out, wire, len);
    if (s->out.oom) return luaL_error(L, "not enough memory");
    if (sr_tsig_sign(key, &s->out, is_response ? &prior : NULL, (uint64_t)signed_at,
                     error, (uint64_t)now, &mac, &err) != 0)
        return sr_throw(L, &err);
    lua_pushlstring(L, s->out.data, s->out.len);
    lua_pushlstring(L, (const char *)mac.bytes, mac.len);
    return 2;
}

static const char *error_name(int error) {
    return error == 16 ? "BADSIG" : sr_dns_rcode_name(error);
}

static void push_info(lua_State *L, const sr_tsig_info *info) {
    lua_createtable(L, 0, 7);
    set_text(L, "key", info->key);
    set_text(L, "algorithm", info->alg);
    set_int(L, "signed_at", (lua_Integer)info->signed_at);
    set_int(L, "fudge", info->fudge);
    set_text(L, "error", error_name(info->error));
    lua_pushlstring(L, (const char *)info->mac.bytes, info->mac.len);
    lua_setfield(L, -2, "mac");
    if (info->server_time) set_int(L, "server_time", (lua_Integer)info->server_time);
}

/* signature(wire) → what its TSIG record says, unchecked, or nil. Raises protocol. */
static int l_signature(lua_State *L) {
    size_t len;
    bool found;
    sr_err err = {0};
    const char *wire = luaL_checklstring(L, 1, &len);
    scratch *s = new_scratch(L);
    if (sr_tsig_read(wire, len, &found, &s->info, &err) != 0) return sr_throw(L, &err);
    if (!found) return 0;
    push_info(L, &s->info);
    return 1;
}

/* verify(wire, key, prior MAC or nil, peer) → info. Raises auth with code BADKEY, BADSIG,
 * BADTIME, BADTRUNC or UNSIGNED; protocol. */
static int l_verify(lua_State *L) {
    size_t len;
    sr_err err = {0};
    sr_tsig_mac prior;
    lua_settop(L, 4);
    const char *wire = luaL_checklstring(L, 1, &len);
    const sr_tsig_key *key = sr_check_object(L, 2, KEY);
    bool is_response = read_mac(L, 3, &prior);
    const char *peer = luaL_optstring(L, 4, "the peer");
    scratch *s = new_scratch(L);
    if (sr_tsig_verify(key, wire, len, is_response ? &prior : NULL,
                       (uint64_t)sr_now(sr_loop_of(L)), peer, &s->info, &err) != 0)
        return sr_throw(L, &err);
    push_info(L, &s->info);
    return 1;
}

/* ---------------------------------------------------------------- module */

static const luaL_Reg functions[] = {{"decode", l_decode},
                                     {"answers", l_answers},
                                     {"encode", l_encode},
                                     {"name", l_name},
                                     {"type", l_type},
                                     {"reverse", l_reverse},
                                     {"key", l_key},
                                     {"sign", l_sign},
                                     {"signature", l_signature},
                                     {"verify", l_verify},
                                     {NULL, NULL}};

static const luaL_Reg key_meta[] = {{"__gc", l_key_gc},
                                    {"__tostring", l_key_tostring},
                                    {"__index", l_key_index},
                                    {NULL, NULL}};

int luaopen_dns_core(lua_State *L) {
    luaL_newmetatable(L, SCRATCH);
    lua_pushcfunction(L, l_scratch_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, KEY);
    luaL_setfuncs(L, key_meta, 0);
    lua_pushliteral(L, "private");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
    luaL_newlib(L, functions);
    return 1;
}
