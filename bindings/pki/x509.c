/* x509.c – the module "x509": keys, requests, certificates, lists, chains, bundles.
 *
 *     local x509 = require "x509"
 *     local key = x509.key{type = "p256"}
 *     local csr = x509.csr{key = key, names = {"www.example.com"}}
 *
 * This file owns the frame: classes with fields and methods, the work that may run in the
 * pool, and the table of the module. Keys are in x509_key.c, certificates, requests and
 * lists in their own files.
 */
#include "x509.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- classes */

static const char work_name[] = "x509.work";

/* object.name: a method, else a field. Unknown names raise, with a suggestion: a typo in
 * `cert.not_after` must not read as "no expiry". */
static int l_index(lua_State *L) {
    const sr_x509_class *cls = lua_touserdata(L, lua_upvalueindex(3));
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL) {
        const char *words[64], *word = lua_tostring(L, 2);
        size_t n = 0;
        for (const sr_x509_field *f = cls->fields; f->name && n < 63; f++)
            words[n++] = f->name;
        words[n] = NULL;
        const char *near = word ? sr_suggest(word, words) : NULL;
        return sr_raise(L, SR_USAGE, NULL, "a %s has no field \"%s\"%s%s%s", cls->noun,
                        word ? word : luaL_typename(L, 2),
                        near ? "; did you mean \"" : "", near ? near : "",
                        near ? "\"?" : "");
    }
    const sr_x509_field *field = lua_touserdata(L, -1);
    void *object = sr_x509_check(L, 1, cls);
    const char *base = cls->info ? cls->info(L, object) : object;
    field->push(L, base + field->offset);
    return 1;
}

void sr_x509_class_open(lua_State *L, const sr_x509_class *cls) {
    luaL_newmetatable(L, cls->tname);
    lua_newtable(L);
    luaL_setfuncs(L, cls->methods, 0);
    lua_pushcfunction(L, cls->gc);
    lua_setfield(L, -2, "close"); /* meta, methods */
    lua_newtable(L);
    for (const sr_x509_field *f = cls->fields; f->name; f++) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)f);
        lua_setfield(L, -2, f->name);
    } /* meta, methods, fields */
    lua_pushlightuserdata(L, (void *)(uintptr_t)cls);
    lua_pushcclosure(L, l_index, 3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, cls->gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, cls->gc);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, cls->tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "protected");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void *sr_x509_new(lua_State *L, const sr_x509_class *cls, size_t size) {
    void *object = lua_newuserdatauv(L, size, 0);
    memset(object, 0, size);
    luaL_setmetatable(L, cls->tname);
    return object;
}

void *sr_x509_test(lua_State *L, int idx, const sr_x509_class *cls) {
    void **object = luaL_testudata(L, idx, cls->tname);
    if (object && !*object) sr_raise(L, SR_USAGE, NULL, "this %s is closed", cls->noun);
    return object;
}

void *sr_x509_check(lua_State *L, int idx, const sr_x509_class *cls) {
    void **object = sr_check_object(L, idx, cls->tname);
    if (!*object) sr_raise(L, SR_USAGE, NULL, "this %s is closed", cls->noun);
    return object;
}

/* ---------------------------------------------------------------- work */

static void work_free(sr_x509_work *work) {
    if (!work) return;
    sr_key_clear(&work->key);
    X509_free(work->cert);
    X509_REQ_free(work->csr);
    X509_CRL_free(work->crl);
    sk_X509_pop_free(work->chain, X509_free);
    sk_X509_pop_free(work->roots, X509_free);
    sk_X509_pop_free(work->result, X509_free);
    sk_X509_pop_free(work->unused, X509_free);
    sk_X509_CRL_pop_free(work->crls, X509_CRL_free);
    sr_pkcs12_clear(&work->p12);
    sr_buf_free(&work->in);
    sr_buf_free(&work->in2);
    sr_buf_free(&work->out);
    sr_buf_free(&work->passphrase);
    free(work);
}

static int l_work_gc(lua_State *L) {
    sr_x509_work **owner = lua_touserdata(L, 1);
    work_free(*owner);
    *owner = NULL;
    return 0;
}

sr_x509_work *sr_x509_work_new(lua_State *L) {
    sr_x509_work **owner = lua_newuserdatauv(L, sizeof *owner, 0);
    *owner = NULL;
    luaL_setmetatable(L, work_name);
    sr_x509_work *work = *owner = calloc(1, sizeof *work);
    if (work)
        work->in.secret = work->in2.secret = work->out.secret = work->passphrase.secret =
            true;
    else
        sr_raise(L, SR_LIMIT, "ENOMEM", "out of memory");
    return work;
}

static int work_finish(lua_State *L, sr_op *op) {
    sr_x509_work *work = (sr_x509_work *)op;
    if (work->job.err.kind) return sr_throw(L, &work->job.err);
    return work->push(L, work);
}

static void work_op_free(sr_op *op) {
    work_free((sr_x509_work *)op);
}

static void work_run(sr_job *job) {
    sr_x509_work *work = (sr_x509_work *)job;
    if (work->run(work, &job->err) == 0) job->err.kind = SR_NONE;
}

static const sr_op_class work_class = {
    .name = "x509", .finish = work_finish, .free = work_op_free};

int sr_x509_work_go(lua_State *L, int idx, bool slow) {
    sr_x509_work **owner = lua_touserdata(L, idx), *work = *owner;
    if (slow) {
        sr_can_wait(L);
        *owner = NULL;
        sr_op_init(&work->job.op, &work_class, sr_loop_of(L));
        sr_job_start(&work->job, SR_LANE_CPU, work_run);
        return sr_wait(L, &work->job.op, SR_FOREVER);
    }
    if (work->run(work, &work->job.err) < 0) return sr_throw(L, &work->job.err);
    int n = work->push(L, work);
    *owner = NULL;
    work_free(work);
    return n;
}

void sr_x509_take(lua_State *L, sr_buf *ret_buf, const char *data, size_t len) {
    if (sr_buf_append(ret_buf, data, len) < 0)
        sr_raise(L, SR_LIMIT, "ENOMEM", "out of memory");
}

bool sr_x509_take_secret(lua_State *L, int idx, const char *key, sr_buf *ret_buf) {
    size_t len;
    bool given = sr_arg_push(L, idx, key) != LUA_TNIL;
    if (given) {
        const char *text = sr_check_secret(L, -1, &len);
        sr_x509_take(L, ret_buf, text, len);
    }
    lua_pop(L, 1);
    return given;
}

bool sr_x509_slow(const sr_key *key) {
    sr_key_info info;
    sr_key_describe(key->pkey, &info);
    return info.slow;
}

int sr_x509_push_out(lua_State *L, sr_x509_work *work) {
    lua_pushlstring(L, work->out.data ? work->out.data : "", work->out.len);
    return 1;
}

/* ---------------------------------------------------------------- certificates taken */

static void add_cert(lua_State *L, STACK_OF(X509) * certs, X509 *cert) {
    X509_up_ref(cert);
    if (sk_X509_push(certs, cert)) return;
    X509_free(cert);
    sr_raise(L, SR_LIMIT, "ENOMEM", "out of memory");
}

static void add_text(lua_State *L, int idx, const char *what, STACK_OF(X509) * certs) {
    size_t len;
    sr_err err = {0};
    STACK_OF(X509) *read = NULL;
    const char *text = lua_tolstring(L, idx, &len);
    if (sr_chain_read(text, len, &read, &err) < 0) {
        char message[sizeof err.message];
        memcpy(message, err.message, sizeof message);
        sr_fail(&err, err.kind, err.code, "%s: %.400s", what, message);
        sr_throw(L, &err);
    }
    while (sk_X509_num(read) > 0) {
        X509 *cert = sk_X509_shift(read);
        if (!sk_X509_push(certs, cert)) X509_free(cert);
    }
    sk_X509_free(read);
}

static bool add_value(lua_State *L, int idx, const char *what, STACK_OF(X509) * certs) {
    sr_cert *cert = sr_x509_test(L, idx, &sr_x509_cert_class);
    if (cert)
        add_cert(L, certs, cert->x509);
    else if (lua_type(L, idx) == LUA_TSTRING)
        add_text(L, idx, what, certs);
    else
        return false;
    return true;
}

void sr_x509_take_certs(lua_State *L, int idx, const char *what,
                        STACK_OF(X509) * *certs) {
    idx = lua_absindex(L, idx);
    if (!*certs && !(*certs = sk_X509_new_null()))
        sr_raise(L, SR_LIMIT, "ENOMEM", "out of memory");
    if (lua_isnil(L, idx) || add_value(L, idx, what, *certs)) return;
    if (lua_type(L, idx) != LUA_TTABLE)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "%s: expected certificates, PEM text or a list of them, got %s", what,
                 luaL_typename(L, idx));
    lua_Integer count = (lua_Integer)lua_rawlen(L, idx);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, idx, i);
        if (!add_value(L, -1, what, *certs))
            sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                     "%s[%d]: expected a certificate or PEM text, got %s", what, (int)i,
                     luaL_typename(L, -1));
        lua_pop(L, 1);
    }
}

/* ---------------------------------------------------------------- the module */

int luaopen_x509(lua_State *L) {
    static const sr_x509_class *const classes[] = {
        &sr_x509_key_class, &sr_x509_cert_class, &sr_x509_csr_class, &sr_x509_crl_class};
    static const luaL_Reg *const functions[] = {
        sr_x509_key_functions,  sr_x509_cert_functions,  sr_x509_request_functions,
        sr_x509_sign_functions, sr_x509_chain_functions, sr_x509_bundle_functions};
    luaL_newmetatable(L, work_name);
    lua_pushcfunction(L, l_work_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        sr_x509_class_open(L, classes[i]);
    lua_newtable(L);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        luaL_setfuncs(L, functions[i], 0);
    return 1;
}
