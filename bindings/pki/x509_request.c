/* x509_request.c – the face of requests: x509.csr, x509.read_csr, "x509.csr".
 *
 * A request is built at once, so that a bad name is refused before anything waits;
 * signing with RSA or a larger curve happens in the pool.
 */
#include "x509.h"

#include <stdio.h>

#include <openssl/err.h>

static sr_csr *check_csr(lua_State *L, int idx) {
    return sr_x509_check(L, idx, &sr_x509_csr_class);
}

static const void *csr_info(lua_State *L, void *object) {
    sr_csr *csr = object;
    sr_err err = {0};
    if (!csr->decoded) {
        if (sr_csr_info_read(csr->req, &csr->info, &err) < 0) sr_throw(L, &err);
        csr->decoded = true;
    }
    return &csr->info;
}

static const sr_arg csr_args[] = {
    {"key", SR_OBJECT, SR_REQUIRED, NULL, "the key pair", .choices = SR_KEY_TYPE},
    {"names", SR_TABLE, 0, NULL,
     "host names, addresses, …; sorts by key: dns, ip, email, uri"},
    {"subject", SR_TABLE, 0, NULL, "{CN =, O =, OU =, C =, …}; empty by default"},
    {"must_staple", SR_BOOL, 0, "false", "ask for the TLS feature extension"},
    {"key_usage", SR_LIST, 0, NULL, "usages asked for", .choices = "string"},
    {"ext_key_usage", SR_LIST, 0, NULL, "extended usages asked for", .choices = "string"},
    {"extensions", SR_LIST, 0, NULL, "{oid =, critical =, der = | value =}"},
    {"hash", SR_ENUM, 0, NULL, "digest; the key's own when left out",
     .choices = "sha256|sha384|sha512"},
    {0}};
static const sr_spec csr_spec = {"x509.csr", "Build and sign a request.", csr_args};

static int run_sign(sr_x509_work *work, sr_err *err) {
    return sr_csr_sign(work->csr, &work->key, work->word[0] ? work->word : NULL, err);
}

static int push_csr(lua_State *L, sr_x509_work *work) {
    sr_csr *csr = sr_x509_new(L, &sr_x509_csr_class, sizeof *csr);
    csr->req = work->csr;
    work->csr = NULL;
    return 1;
}

/* --- Build and sign a certificate request. Names go into the SAN; there is no CN unless
 * the subject has one.
 * ---@param opts {key: x509.key, names: table?, subject: table?, must_staple: boolean?,
 * ---  key_usage: string[]?, ext_key_usage: string[]?, extensions: table[]?, hash:
 * string?}
 * ---@return x509.csr   waits for RSA and the larger curves
 * Raises usage (BAD_NAME, BAD_SUBJECT, BAD_EXTENSION). */
static int l_csr(lua_State *L) {
    sr_subject_spec spec;
    sr_err err = {0};
    sr_args(L, 1, &csr_spec);
    sr_x509_read_spec(L, 1, &spec);
    sr_arg_push(L, 1, "key");
    sr_key *key = sr_check_key(L, -1);
    if (spec.san_count == 0 && spec.subject_count == 0)
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                        "x509.csr: neither names nor a subject; whom is it for?");
    sr_x509_work *work = sr_x509_work_new(L);
    snprintf(work->word, sizeof work->word, "%s", sr_arg_string(L, 1, "hash", "", NULL));
    sr_key_ref(&work->key, key);
    if (sr_csr_build(&spec, key, &work->csr, &err) < 0) return sr_throw(L, &err);
    work->run = run_sign;
    work->push = push_csr;
    return sr_x509_work_go(L, -1, sr_x509_slow(key));
}

/* --- Read a request from PEM text or DER bytes.
 * ---@param data string  ---@return x509.csr
 * Raises usage (BAD_CSR, BAD_PEM), limit (TOO_LARGE). */
static int l_read_csr(lua_State *L) {
    size_t len;
    sr_err err = {0};
    const char *data = sr_check_secret(L, 1, &len);
    sr_csr *csr = sr_x509_new(L, &sr_x509_csr_class, sizeof *csr);
    if (sr_csr_read(data, len, &csr->req, &err) < 0) return sr_throw(L, &err);
    return 1;
}

/* ---------------------------------------------------------------- fields, methods */

#define AT(member) offsetof(sr_csr_info, member)

static const sr_x509_field csr_fields[] = {
    {"subject", sr_x509_push_dn, AT(subject)},
    {"subject_dn", sr_x509_push_text, AT(subject.text)},
    {"sans", sr_x509_push_sans, AT(sans)},
    {"names", sr_x509_push_names, AT(sans)},
    {"key_type", sr_x509_push_text, AT(key.type)},
    {"key_algorithm", sr_x509_push_text, AT(key.algorithm)},
    {"key_bits", sr_x509_push_int, AT(key.bits)},
    {"signature_algorithm", sr_x509_push_text, AT(signature_algorithm)},
    {"spki_sha256", sr_x509_push_chars, AT(spki_sha256)},
    {"must_staple", sr_x509_push_bool, AT(must_staple)},
    {"extensions", sr_x509_push_extensions, AT(extensions)},
    {0}};

/* Straight from the request: a copy of it costs far more than its encoding. */
static int encoded(lua_State *L, int (*encode)(X509_REQ *, sr_buf *, sr_err *)) {
    sr_csr *csr = check_csr(L, 1);
    sr_err err = {0};
    sr_x509_work *work = sr_x509_work_new(L);
    if (encode(csr->req, &work->out, &err) != 0) return sr_throw(L, &err);
    return sr_x509_push_out(L, work);
}

/* --- The request as PEM. ---@return string */
static int l_pem(lua_State *L) {
    return encoded(L, sr_csr_pem);
}

/* --- The request as DER. ---@return string */
static int l_der(lua_State *L) {
    return encoded(L, sr_csr_der);
}

/* --- Whether its own key signed it. ---@return boolean */
static int l_verify(lua_State *L) {
    sr_err err = {0};
    int good = sr_csr_verify(check_csr(L, 1)->req, &err);
    if (good < 0) return sr_throw(L, &err);
    lua_pushboolean(L, good);
    return 1;
}

/* --- Whether the other object holds the same public key.
 * ---@param other x509.key|x509.cert|x509.csr  ---@return boolean */
static int l_matches(lua_State *L) {
    check_csr(L, 1);
    return sr_x509_matches(L, sr_x509_public_key(L, 1));
}

static int l_gc(lua_State *L) {
    sr_csr *csr = luaL_checkudata(L, 1, SR_CSR_TYPE);
    X509_REQ_free(csr->req);
    sr_csr_info_free(&csr->info);
    *csr = (sr_csr){0};
    return 0;
}

static int l_tostring(lua_State *L) {
    sr_csr *csr = luaL_checkudata(L, 1, SR_CSR_TYPE);
    if (!csr->req) {
        lua_pushliteral(L, "x509.csr: closed");
        return 1;
    }
    const sr_csr_info *info = csr_info(L, csr);
    lua_pushfstring(L, "x509.csr: %s, %d names, %s key, spki sha256 %s",
                    info->sans.count ? info->sans.items[0].value : info->subject.text,
                    (int)info->sans.count, info->key.label, info->spki_sha256);
    return 1;
}

static const luaL_Reg csr_methods[] = {{"pem", l_pem},
                                       {"der", l_der},
                                       {"verify", l_verify},
                                       {"matches", l_matches},
                                       {NULL, NULL}};

const sr_x509_class sr_x509_csr_class = {SR_CSR_TYPE, "request",  csr_fields, csr_methods,
                                         l_gc,        l_tostring, csr_info};

const luaL_Reg sr_x509_request_functions[] = {
    {"csr", l_csr}, {"read_csr", l_read_csr}, {NULL, NULL}};
