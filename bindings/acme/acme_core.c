/* acme_core.c – the module "acme.core": checked documents, signatures and chains for Lua.
 *
 * A thin face over acme_msg, acme_text, jose and acme_chain. No I/O and no waiting: the
 * order of requests is acme.lua's business. Everything a call gathers hangs on one
 * scratch userdata, so that an error on the way leaves nothing behind.
 */
#include "acme/acme_chain.h"
#include "acme/acme_msg.h"
#include "acme/jose.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include <openssl/rand.h>

#include "data/encoding.h"
#include "net/http_msg.h"
#include "secrun.h"

#define SCRATCH "acme.scratch"
#define ISSUERS "acme.issuers"

static const char issuers_key; /* its address: where the registry keeps them */

/* What a call gathers; freed by the collector. */
typedef struct scratch {
    cJSON *doc;
    sr_buf text;
    sr_buf mac;
    sr_acme_names names;
    STACK_OF(X509) * chain, *roots;
} scratch;

static int l_scratch_gc(lua_State *L) {
    scratch *s = luaL_checkudata(L, 1, SCRATCH);
    cJSON_Delete(s->doc);
    sr_buf_free(&s->text);
    sr_buf_free(&s->mac);
    sr_acme_names_free(&s->names);
    sk_X509_pop_free(s->chain, X509_free);
    sk_X509_pop_free(s->roots, X509_free);
    memset(s, 0, sizeof *s);
    return 0;
}

static scratch *new_scratch(lua_State *L) {
    scratch *s = lua_newuserdatauv(L, sizeof *s, 0);
    memset(s, 0, sizeof *s);
    s->mac.secret = true;
    luaL_setmetatable(L, SCRATCH);
    return s;
}

static int push_text(lua_State *L, const sr_buf *buf) {
    if (buf->oom) return sr_raise(L, SR_LIMIT, "ENOMEM", "no memory");
    lua_pushlstring(L, buf->data ? buf->data : "", buf->len);
    return 1;
}

/* ---------------------------------------------------------------- documents */

static void push_object(lua_State *L, const sr_acme_shape *shape, const cJSON *doc);

static void push_map(lua_State *L, const cJSON *map) {
    const cJSON *item;
    lua_newtable(L);
    cJSON_ArrayForEach(item, map) {
        lua_pushstring(L, item->valuestring);
        lua_setfield(L, -2, item->string);
    }
}

static void push_value(lua_State *L, const sr_acme_field *field, const cJSON *value) {
    int64_t seconds = 0;
    switch (field->type) {
    case SR_ACME_BOOL: lua_pushboolean(L, cJSON_IsTrue(value)); break;
    case SR_ACME_INT: lua_pushinteger(L, (lua_Integer)value->valuedouble); break;
    case SR_ACME_TIME:
        sr_acme_parse_time(value->valuestring, &seconds);
        lua_pushinteger(L, seconds);
        break;
    case SR_ACME_MAP: push_map(L, value); break;
    case SR_ACME_OBJECT: push_object(L, field->shape, value); break;
    default: lua_pushstring(L, value->valuestring);
    }
}

static void push_list(lua_State *L, const sr_acme_field *field, const cJSON *list) {
    const cJSON *item;
    lua_Integer i = 0;
    lua_newtable(L);
    cJSON_ArrayForEach(item, list) {
        push_value(L, field, item);
        lua_rawseti(L, -2, ++i);
    }
}

/* The fields that the shape names; an absent list is an empty one. */
static void push_object(lua_State *L, const sr_acme_shape *shape, const cJSON *doc) {
    luaL_checkstack(L, 8, "ACME document");
    lua_newtable(L);
    for (const sr_acme_field *field = shape->fields; field->json; field++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(doc, field->json);
        if (!item && !field->list) continue;
        if (field->list)
            push_list(L, field, item);
        else
            push_value(L, field, item);
        lua_setfield(L, -2, field->lua);
    }
}

/* parse(kind, text, from, directory) → table */
static int l_parse(lua_State *L) {
    size_t len;
    sr_err err = {0};
    const char *kind = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &len);
    const char *from = luaL_checkstring(L, 3), *directory = luaL_checkstring(L, 4);
    const sr_acme_shape *shape = sr_acme_shape_of(kind);
    if (!shape) return sr_raise(L, SR_USAGE, NULL, "no ACME document is called %s", kind);
    scratch *s = new_scratch(L);
    if (sr_acme_parse(shape, text, len, from, directory, &s->doc, &err) != 0)
        return sr_throw(L, &err);
    push_object(L, shape, s->doc);
    return 1;
}

static const sr_arg explain_args[] = {
    {"what", SR_STRING, SR_REQUIRED, NULL, "what was asked of whom"},
    {"status", SR_INT, 0, "0", "HTTP status, 0: a problem inside a document"},
    {"content_type", SR_STRING, 0, NULL, "Content-Type of the answer"},
    {"body", SR_STRING, 0, "", "the answer"},
    {"retry_after", SR_NUMBER, 0, NULL, "seconds, from Retry-After"},
    {0}};
static const sr_spec explain_spec = {"acme.core.explain",
                                     "Explain an answer that failed.", explain_args};

/* explain{what=, status=, content_type=, body=, retry_after=} → error[, problem].
 * The error object is not raised here; it carries the problem document as `problem`. */
static int l_explain(lua_State *L) {
    sr_err err = {0};
    sr_args(L, 1, &explain_spec);
    sr_acme_answer answer = {.what = sr_arg_string(L, 1, "what", "", NULL),
                             .status = (int)sr_arg_int(L, 1, "status", 0),
                             .content_type =
                                 sr_arg_string(L, 1, "content_type", NULL, NULL),
                             .retry_after = sr_arg_number(L, 1, "retry_after", -1)};
    answer.body = sr_arg_string(L, 1, "body", "", &answer.len);
    if (!*answer.body) answer.len = 0;
    answer.has_retry_after = answer.retry_after >= 0;
    scratch *s = new_scratch(L);
    sr_acme_explain(&answer, &s->doc, &err);
    sr_push_err(L, &err);
    if (!s->doc) return 1;
    push_object(L, &sr_acme_problem, s->doc);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "problem");
    return 2;
}

/* ---------------------------------------------------------------- names and texts */

/* Fill s->names from the list of texts at idx. */
static void take_names(lua_State *L, int idx, scratch *s) {
    sr_err err = {0};
    luaL_checktype(L, idx, LUA_TTABLE);
    lua_Integer count = luaL_len(L, idx);
    for (lua_Integer i = 1; i <= count; i++) {
        size_t len;
        if (lua_geti(L, idx, i) != LUA_TSTRING)
            sr_raise(L, SR_USAGE, NULL, "name %d is not a string", (int)i);
        const char *name = lua_tolstring(L, -1, &len);
        if (sr_acme_names_add(&s->names, name, len, &err) != 0) sr_throw(L, &err);
        lua_pop(L, 1);
    }
    sr_acme_names_finish(&s->names);
}

/* names(list) → the same names in canonical form, sorted, each once */
static int l_names(lua_State *L) {
    scratch *s = new_scratch(L);
    take_names(L, 1, s);
    lua_createtable(L, (int)s->names.count, 0);
    for (size_t i = 0; i < s->names.count; i++) {
        lua_pushstring(L, s->names.list[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int l_is_ip(lua_State *L) {
    lua_pushboolean(L, sr_acme_is_ip(luaL_checkstring(L, 1)));
    return 1;
}

/* is_private(address) → whether an IP address is not one of the public Internet */
static int l_is_private(lua_State *L) {
    const char *text = luaL_checkstring(L, 1);
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    bool hidden = false;
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        hidden = sr_http_private_address((struct sockaddr *)&v4);
    else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
        hidden = sr_http_private_address((struct sockaddr *)&v6);
    lua_pushboolean(L, hidden);
    return 1;
}

static int l_token_ok(lua_State *L) {
    size_t len;
    const char *token = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, sr_acme_token_ok(token, len));
    return 1;
}

static int l_nonce_ok(lua_State *L) {
    size_t len;
    const char *nonce = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, sr_jose_nonce_ok(nonce, len));
    return 1;
}

/* check_directory_url(url): raises usage */
static int l_check_directory_url(lua_State *L) {
    sr_err err = {0};
    if (sr_acme_check_directory_url(luaL_checkstring(L, 1), &err) != 0)
        return sr_throw(L, &err);
    return 0;
}

/* check_url(url, directory): raises protocol */
static int l_check_url(lua_State *L) {
    sr_err err = {0};
    const char *url = luaL_checkstring(L, 1);
    if (sr_acme_check_url(url, luaL_checkstring(L, 2), &err) != 0)
        return sr_throw(L, &err);
    return 0;
}

/* ---------------------------------------------------------------- signatures */

/* The key in field "key" of the table at idx; stays on the stack. */
static sr_key *key_field(lua_State *L, int idx) {
    sr_arg_push(L, idx, "key");
    return sr_check_key(L, lua_gettop(L));
}

static const sr_arg sign_args[] = {
    {"key", SR_ANY, SR_REQUIRED, NULL, "private account key"},
    {"url", SR_STRING, SR_REQUIRED, NULL, "URL of the request"},
    {"nonce", SR_STRING, 0, NULL, "a fresh nonce; none inside a key change"},
    {"kid", SR_STRING, 0, NULL, "account URL; without it the public key is embedded"},
    {"payload", SR_STRING, 0, "", "JSON, empty for POST-as-GET"},
    {0}};
static const sr_spec sign_spec = {"acme.core.sign", "Sign one request.", sign_args};

/* sign{key=, url=, nonce=, kid=, payload=} → body */
static int l_sign(lua_State *L) {
    sr_err err = {0};
    sr_args(L, 1, &sign_spec);
    sr_jws jws = {.url = sr_arg_string(L, 1, "url", NULL, NULL),
                  .nonce = sr_arg_string(L, 1, "nonce", NULL, NULL),
                  .kid = sr_arg_string(L, 1, "kid", NULL, NULL)};
    jws.payload = sr_arg_string(L, 1, "payload", "", &jws.payload_len);
    if (!*jws.payload) jws.payload_len = 0;
    const sr_key *key = key_field(L, 1);
    scratch *s = new_scratch(L);
    if (sr_jose_sign(key, &jws, &s->text, &err) != 0) return sr_throw(L, &err);
    return push_text(L, &s->text);
}

static const sr_arg eab_args[] = {
    {"key", SR_ANY, SR_REQUIRED, NULL, "account key"},
    {"url", SR_STRING, SR_REQUIRED, NULL, "URL of newAccount"},
    {"kid", SR_STRING, SR_REQUIRED | SR_NONEMPTY, NULL, "key id from the CA"},
    {"hmac_key", SR_SECRET, SR_REQUIRED, NULL, "MAC key from the CA"},
    {"alg", SR_ENUM, 0, "HS256", "MAC algorithm", .choices = "HS256|HS384|HS512"},
    {"encoding", SR_ENUM, 0, "base64url", "how the MAC key is written",
     .choices = "base64url|twice|raw"},
    {0}};
static const sr_spec eab_spec = {"acme.core.eab", "Bind an external account.", eab_args};

/* eab{key=, url=, kid=, hmac_key=, alg=, encoding=} → JSON text, whether the MAC key
 * looks encoded once more */
static int l_eab(lua_State *L) {
    sr_err err = {0};
    size_t len;
    sr_args(L, 1, &eab_spec);
    const sr_key *key = key_field(L, 1);
    sr_arg_push(L, 1, "hmac_key");
    const char *mac = sr_check_secret(L, -1, &len);
    scratch *s = new_scratch(L);
    if (sr_jose_mac_key(mac, len, sr_arg_string(L, 1, "encoding", NULL, NULL), &s->mac,
                        &err) != 0)
        return sr_throw(L, &err);
    sr_eab eab = {.url = sr_arg_string(L, 1, "url", NULL, NULL),
                  .kid = sr_arg_string(L, 1, "kid", NULL, NULL),
                  .alg = sr_arg_string(L, 1, "alg", "HS256", NULL),
                  .mac = s->mac.data,
                  .mac_len = s->mac.len};
    if (sr_jose_eab(key, &eab, &s->text, &err) != 0) return sr_throw(L, &err);
    push_text(L, &s->text);
    lua_pushboolean(L, sr_jose_mac_looks_encoded(s->mac.data, s->mac.len));
    return 2;
}

/* thumbprint(key) → RFC 7638 text */
static int l_thumbprint(lua_State *L) {
    sr_err err = {0};
    const sr_key *key = sr_check_key(L, 1);
    scratch *s = new_scratch(L);
    if (sr_key_thumbprint(key, &s->text, &err) != 0) return sr_throw(L, &err);
    return push_text(L, &s->text);
}

/* key_authorization(key, token) → text; raises protocol for a token that is none */
static int l_key_authorization(lua_State *L) {
    sr_err err = {0};
    size_t len;
    const sr_key *key = sr_check_key(L, 1);
    const char *token = luaL_checklstring(L, 2, &len);
    scratch *s = new_scratch(L);
    if (sr_jose_key_authorization(key, token, len, &s->text, &err) != 0)
        return sr_throw(L, &err);
    return push_text(L, &s->text);
}

/* The DER of the request in a PEM text. 0 or -1. */
static int read_request(const char *text, size_t len, sr_pem *pem, sr_err *err) {
    *pem = (sr_pem){.next = text, .end = text + len};
    int found = sr_pem_next(pem, err);
    if (found > 0 && (strcmp(pem->label, "CERTIFICATE REQUEST") == 0 ||
                      strcmp(pem->label, "NEW CERTIFICATE REQUEST") == 0))
        return 0;
    if (found < 0) return -1;
    return sr_fail(err, SR_USAGE, NULL, "this is not a certificate request in PEM");
}

/* finalize(csr) → payload {"csr": base64url(DER)} of a request given as PEM text */
static int l_finalize(lua_State *L) {
    sr_err err = {0};
    size_t len;
    sr_pem pem;
    const char *text = luaL_checklstring(L, 1, &len);
    scratch *s = new_scratch(L);
    int rc = read_request(text, len, &pem, &err);
    sr_buf_puts(&s->text, "{\"csr\":\"");
    if (rc == 0) rc = sr_base64url_encode(&s->text, pem.der.data, pem.der.len, &err);
    sr_buf_puts(&s->text, "\"}");
    sr_pem_free(&pem);
    if (rc != 0) return sr_throw(L, &err);
    return push_text(L, &s->text);
}

/* random() → a number in [0, 1), for jitter */
static int l_random(lua_State *L) {
    uint32_t n = 0;
    if (RAND_bytes((unsigned char *)&n, sizeof n) != 1)
        return sr_raise(L, SR_INTERNAL, NULL, "no random numbers from OpenSSL");
    lua_pushnumber(L, n / 4294967296.0);
    return 1;
}

/* ---------------------------------------------------------------- chains */

/* Read every certificate of a PEM text. 0 or -1. */
static int read_roots(const char *text, size_t len, STACK_OF(X509) * ret, sr_err *err) {
    sr_pem pem = {.next = text, .end = text + len};
    int found, rc = 0;
    while (rc == 0 && (found = sr_pem_next(&pem, err)) != 0) {
        const unsigned char *der = (const unsigned char *)pem.der.data;
        X509 *cert = NULL;
        if (found > 0) cert = d2i_X509(NULL, &der, (long)pem.der.len);
        if (found > 0 && !cert)
            sr_pki_fail(err, SR_USAGE, NULL, "roots: not a certificate");
        if (!cert || !sk_X509_push(ret, cert)) {
            X509_free(cert);
            rc = -1;
        }
    }
    sr_pem_free(&pem);
    return rc;
}

static void push_chain(lua_State *L, scratch *s) {
    lua_newtable(L); /* texts */
    lua_newtable(L); /* texts, certificates */
    for (int i = 0; i < sk_X509_num(s->chain); i++) {
        unsigned char *der = NULL;
        int len = i2d_X509(sk_X509_value(s->chain, i), &der);
        s->text.len = 0;
        int rc = len > 0 ? sr_pem_write(&s->text, "CERTIFICATE", der, (size_t)len) : -1;
        OPENSSL_free(der);
        if (rc != 0) sr_raise(L, SR_LIMIT, "ENOMEM", "no memory for a certificate");
        push_text(L, &s->text);
        lua_rawseti(L, -3, i + 1);
        sr_push_cert(L, sk_X509_value(s->chain, i));
        lua_rawseti(L, -2, i + 1);
    }
}

static int l_issuers_gc(lua_State *L) {
    sr_acme_issuers_free(luaL_checkudata(L, 1, ISSUERS));
    return 0;
}

/* One set of known issuers per state. */
static void open_issuers(lua_State *L) {
    sr_acme_issuers *issuers = lua_newuserdatauv(L, sizeof *issuers, 0);
    memset(issuers, 0, sizeof *issuers);
    luaL_newmetatable(L, ISSUERS);
    lua_pushcfunction(L, l_issuers_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &issuers_key);
}

static const sr_arg chain_args[] = {
    {"pem", SR_STRING, SR_REQUIRED, NULL, "what the CA sent"},
    {"key", SR_ANY, SR_REQUIRED, NULL, "key of the leaf"},
    {"names", SR_LIST, SR_REQUIRED, NULL, "exactly these", .choices = "string"},
    {"now", SR_NUMBER, 0, NULL, "UTC seconds; the loop's clock"},
    {"roots", SR_STRING, 0, NULL, "PEM; the chain must lead to one of these"},
    {0}};
static const sr_spec chain_spec = {"acme.core.check_chain", "Check a downloaded chain.",
                                   chain_args};

/* check_chain{pem=, key=, names=, now=, roots=} → PEM texts, certificates; leaf first */
static int l_check_chain(lua_State *L) {
    sr_err err = {0};
    size_t len, roots_len;
    sr_args(L, 1, &chain_spec);
    const char *pem = sr_arg_string(L, 1, "pem", "", &len);
    const char *roots = sr_arg_string(L, 1, "roots", NULL, &roots_len);
    sr_acme_want want = {.key = key_field(L, 1),
                         .now = sr_arg_number(L, 1, "now", sr_now(sr_loop_of(L)))};
    scratch *s = new_scratch(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &issuers_key);
    want.issuers = lua_touserdata(L, -1);
    sr_arg_push(L, 1, "names");
    take_names(L, lua_gettop(L), s);
    want.names = &s->names;
    if (roots) {
        s->roots = sk_X509_new_null();
        if (!s->roots || read_roots(roots, roots_len, s->roots, &err) != 0)
            return sr_throw(L, &err);
        want.roots = s->roots;
    }
    if (sr_acme_chain_check(pem, len, &want, &s->chain, &err) != 0)
        return sr_throw(L, &err);
    push_chain(L, s);
    return 2;
}

static const luaL_Reg functions[] = {{"parse", l_parse},
                                     {"explain", l_explain},
                                     {"names", l_names},
                                     {"is_ip", l_is_ip},
                                     {"is_private", l_is_private},
                                     {"token_ok", l_token_ok},
                                     {"nonce_ok", l_nonce_ok},
                                     {"check_directory_url", l_check_directory_url},
                                     {"check_url", l_check_url},
                                     {"sign", l_sign},
                                     {"eab", l_eab},
                                     {"thumbprint", l_thumbprint},
                                     {"key_authorization", l_key_authorization},
                                     {"check_chain", l_check_chain},
                                     {"finalize", l_finalize},
                                     {"random", l_random},
                                     {NULL, NULL}};

int luaopen_acme_core(lua_State *L);

int luaopen_acme_core(lua_State *L) {
    luaL_newmetatable(L, SCRATCH);
    lua_pushcfunction(L, l_scratch_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    open_issuers(L);
    luaL_newlib(L, functions);
    lua_pushliteral(L, SR_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}
