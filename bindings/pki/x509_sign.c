/* x509_sign.c – the face of signing: x509.sign and x509.crl, x509.read_crl, "x509.crl".
 *
 * Every time is that of our clock. Who signs: `issuer_key` of `issuer`, or, without an
 * issuer, the certificate's own `key`.
 */
#include "x509.h"

#include <stdio.h>

#include <string.h>

#include <openssl/err.h>

#define DAY 86400.0

/* ---------------------------------------------------------------- x509.sign */

static const sr_arg sign_args[] = {
    {"issuer", SR_OBJECT, 0, NULL, "the CA; self-signed without",
     .choices = SR_CERT_TYPE},
    {"issuer_key", SR_OBJECT, 0, NULL, "the CA's key", .choices = SR_KEY_TYPE},
    {"key", SR_OBJECT, 0, NULL, "key of the new certificate", .choices = SR_KEY_TYPE},
    {"public_key", SR_OBJECT, 0, NULL, "the same, public half", .choices = SR_KEY_TYPE},
    {"csr", SR_OBJECT, 0, NULL, "key and, unless given, names", .choices = SR_CSR_TYPE},
    {"subject", SR_TABLE, 0, NULL, "{CN =, O =, …}"},
    {"names", SR_TABLE, 0, NULL, "as in x509.csr"},
    {"serial", SR_STRING, SR_NONEMPTY, NULL, "hexadecimal; random by default"},
    {"not_before", SR_NUMBER, 0, NULL, "UTC seconds; now by default"},
    {"not_after", SR_NUMBER, 0, NULL, "UTC seconds"},
    {"days", SR_NUMBER, SR_POSITIVE, "90", "lifetime, when not_after is left out"},
    {"is_ca", SR_BOOL, 0, "false", "make it a CA"},
    {"path_len", SR_INT, 0, NULL, "how many CAs may follow", .max = 100},
    {"must_staple", SR_BOOL, 0, "false", "TLS feature status_request"},
    {"key_usage", SR_LIST, 0, NULL, "by default what such a certificate needs",
     .choices = "string"},
    {"ext_key_usage", SR_LIST, 0, NULL, "serverAuth when it has names",
     .choices = "string"},
    {"extensions", SR_LIST, 0, NULL, "{oid =, critical =, der = | value =}"},
    {"hash", SR_ENUM, 0, NULL, "digest; the key's own when left out",
     .choices = "sha256|sha384|sha512"},
    {0}};
static const sr_spec sign_spec = {"x509.sign", "Build and sign a certificate.",
                                  sign_args};

/* The object in a field, NULL when absent; it stays alive in the table. */
static void *field(lua_State *L, int idx, const char *key, const sr_x509_class *cls) {
    void *object = NULL;
    if (sr_arg_push(L, idx, key) != LUA_TNIL) object = sr_x509_check(L, -1, cls);
    lua_pop(L, 1);
    return object;
}

/* The key of a request that proves its possession. */
static EVP_PKEY *csr_key(lua_State *L, X509_REQ *req) {
    sr_err err = {0};
    int good = sr_csr_verify(req, &err);
    if (good < 0) sr_throw(L, &err);
    if (!good)
        sr_raise(L, SR_USAGE, "BAD_CSR",
                 "x509.sign: the request's signature is not its key's");
    return sr_req_get0_pubkey(req);
}

/* Whose public key goes in; exactly one of the three. */
static EVP_PKEY *subject_key(lua_State *L, const sr_key *key, const sr_csr *csr) {
    const sr_key *public_key = field(L, 1, "public_key", &sr_x509_key_class);
    if (!!key + !!csr + !!public_key != 1)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "x509.sign: give one of key, public_key, csr");
    if (csr) return csr_key(L, csr->req);
    return public_key ? public_key->pkey : key ? key->pkey : NULL;
}

/* Names of the request, where the script gives none. */
static void names_of_csr(lua_State *L, sr_csr *csr, sr_subject_spec *what) {
    sr_err err = {0};
    if (!csr || sr_arg_push(L, 1, "names") != LUA_TNIL) return;
    if (!csr->decoded) {
        if (sr_csr_info_read(csr->req, &csr->info, &err) < 0) sr_throw(L, &err);
        csr->decoded = true;
    }
    what->sans = csr->info.sans.items;
    what->san_count = csr->info.sans.count;
}

/* A self-signed certificate needs an issuer, so a subject (RFC 5280 4.1.2.4). */
static void default_subject(const sr_cert_spec *spec, sr_subject_spec *what,
                            sr_attribute *cn) {
    bool fits = what->san_count && strlen(what->sans[0].value) <= 64;
    if (spec->issuer || what->subject_count) return;
    *cn = (sr_attribute){"CN", fits ? what->sans[0].value : "self-signed"};
    what->subject = cn;
    what->subject_count = 1;
}

static void read_times(lua_State *L, sr_cert_spec *spec) {
    double now = sr_now(sr_loop_of(L));
    spec->not_before = sr_arg_number(L, 1, "not_before", now);
    spec->not_after = sr_arg_number(
        L, 1, "not_after", spec->not_before + sr_arg_number(L, 1, "days", 90) * DAY);
}

static int run_sign(sr_x509_work *work, sr_err *err) {
    return sr_cert_sign(work->cert, &work->key, work->word[0] ? work->word : NULL, err);
}

static int push_cert(lua_State *L, sr_x509_work *work) {
    sr_push_cert(L, work->cert);
    return 1;
}

/* Raises unless the key to sign with is the issuer's, or the certificate's own. */
static void check_signer(lua_State *L, const sr_cert_spec *spec, const sr_key *signer) {
    sr_err err = {0};
    if (sr_issuer_check(spec->issuer, signer, &err) < 0) sr_throw(L, &err);
    if (!spec->issuer && EVP_PKEY_eq(signer->pkey, spec->public_key) != 1)
        sr_raise(L, SR_USAGE, "KEY_MISMATCH",
                 "x509.sign: without an issuer the certificate's own key signs");
}

/* --- Build and sign a certificate: self-signed, by a CA of ours, or as a CA.
 * ---@param opts {issuer: x509.cert?, issuer_key: x509.key?, key: x509.key?,
 * ---  public_key: x509.key?, csr: x509.csr?, subject: table?, names: table?,
 * ---  serial: string?, not_before: number?, not_after: number?, days: number?,
 * ---  is_ca: boolean?, path_len: integer?, must_staple: boolean?, key_usage: string[]?,
 * ---  ext_key_usage: string[]?, extensions: table[]?, hash: string?}
 * ---@return x509.cert   waits for RSA and the larger curves
 * Raises usage (BAD_NAME, BAD_SUBJECT, BAD_EXTENSION, KEY_MISMATCH, NOT_A_CA). */
static int l_sign(lua_State *L) {
    sr_cert_spec spec = {0};
    sr_attribute cn;
    sr_err err = {0};
    sr_args(L, 1, &sign_spec);
    sr_x509_read_spec(L, 1, &spec.what);
    sr_cert *issuer = field(L, 1, "issuer", &sr_x509_cert_class);
    sr_key *key = field(L, 1, "key", &sr_x509_key_class);
    sr_csr *csr = field(L, 1, "csr", &sr_x509_csr_class);
    spec.issuer = issuer ? issuer->x509 : NULL;
    spec.public_key = subject_key(L, key, csr);
    names_of_csr(L, csr, &spec.what);
    default_subject(&spec, &spec.what, &cn);
    const sr_key *signer = field(L, 1, "issuer_key", &sr_x509_key_class);
    if (!signer && !issuer) signer = key;
    if (!signer)
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "x509.sign: give %s",
                        issuer ? "issuer_key, the key of the issuer"
                               : "key, to sign with itself");
    check_signer(L, &spec, signer);
    spec.serial = sr_arg_string(L, 1, "serial", NULL, NULL);
    spec.is_ca = sr_arg_bool(L, 1, "is_ca", false);
    spec.path_len = (int)sr_arg_int(L, 1, "path_len", -1);
    if (spec.is_ca && spec.what.subject_count == 0)
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "x509.sign: a CA needs a subject");
    read_times(L, &spec);
    sr_x509_work *work = sr_x509_work_new(L);
    snprintf(work->word, sizeof work->word, "%s", sr_arg_string(L, 1, "hash", "", NULL));
    sr_key_ref(&work->key, signer);
    if (sr_cert_build(&spec, &work->cert, &err) < 0) return sr_throw(L, &err);
    work->run = run_sign;
    work->push = push_cert;
    return sr_x509_work_go(L, -1, sr_x509_slow(signer));
}

/* ---------------------------------------------------------------- x509.crl */

static const sr_arg crl_args[] = {
    {"issuer", SR_OBJECT, SR_REQUIRED, NULL, "the CA", .choices = SR_CERT_TYPE},
    {"issuer_key", SR_OBJECT, SR_REQUIRED, NULL, "its key", .choices = SR_KEY_TYPE},
    {"revoked", SR_LIST, 0, NULL, "{serial =, when =, reason =}"},
    {"this_update", SR_NUMBER, 0, NULL, "UTC seconds; now by default"},
    {"next_update", SR_NUMBER, 0, NULL, "UTC seconds; 7 days later by default"},
    {"number", SR_INT, SR_POSITIVE, NULL, "CRL number"},
    {"hash", SR_ENUM, 0, NULL, "digest; the key's own when left out",
     .choices = "sha256|sha384|sha512"},
    {0}};
static const sr_spec crl_spec = {"x509.crl", "Build and sign a revocation list.",
                                 crl_args};

static const sr_arg revoked_args[] = {
    {"serial", SR_STRING, SR_REQUIRED | SR_NONEMPTY, NULL, "hexadecimal"},
    {"when", SR_NUMBER, 0, NULL, "UTC seconds; this_update by default"},
    {"reason", SR_STRING, 0, NULL, "keyCompromise, superseded, …"},
    {0}};
static const sr_spec revoked_spec = {"revoked[]", "One revoked certificate.",
                                     revoked_args};

/* Pushes the array and leaves it. */
static void read_revoked(lua_State *L, sr_crl_spec *spec) {
    lua_pushnil(L);
    int place = lua_gettop(L);
    if (sr_arg_push(L, 1, "revoked") == LUA_TTABLE) {
        size_t count = lua_rawlen(L, -1);
        sr_revoked *items = lua_newuserdatauv(L, count * sizeof *items + 1, 0);
        lua_replace(L, place);
        for (size_t i = 0; i < count; i++) {
            lua_rawgeti(L, -1, (lua_Integer)i + 1);
            int entry = lua_gettop(L);
            sr_args(L, entry, &revoked_spec);
            items[i].serial = sr_arg_string(L, entry, "serial", NULL, NULL);
            items[i].when = sr_arg_number(L, entry, "when", spec->this_update);
            items[i].reason = sr_arg_string(L, entry, "reason", NULL, NULL);
            lua_pop(L, 1);
        }
        spec->revoked = items;
        spec->revoked_count = count;
    }
    lua_pop(L, 1);
}

static int run_sign_crl(sr_x509_work *work, sr_err *err) {
    return sr_crl_sign(work->crl, &work->key, work->word[0] ? work->word : NULL, err);
}

static int push_crl(lua_State *L, sr_x509_work *work) {
    sr_crl *crl = sr_x509_new(L, &sr_x509_crl_class, sizeof *crl);
    crl->crl = work->crl;
    work->crl = NULL;
    return 1;
}

/* --- Build and sign a certificate revocation list.
 * ---@param opts {issuer: x509.cert, issuer_key: x509.key, revoked: table[]?,
 * ---  this_update: number?, next_update: number?, number: integer?, hash: string?}
 * ---@return x509.crl   waits for RSA and the larger curves */
static int l_crl(lua_State *L) {
    sr_crl_spec spec = {0};
    sr_err err = {0};
    char number[24];
    sr_args(L, 1, &crl_spec);
    spec.issuer = ((sr_cert *)field(L, 1, "issuer", &sr_x509_cert_class))->x509;
    sr_key *key = field(L, 1, "issuer_key", &sr_x509_key_class);
    spec.this_update = sr_arg_number(L, 1, "this_update", sr_now(sr_loop_of(L)));
    spec.next_update = sr_arg_number(L, 1, "next_update", spec.this_update + 7 * DAY);
    lua_Integer n = sr_arg_int(L, 1, "number", 0);
    snprintf(number, sizeof number, "%llx", (unsigned long long)n);
    if (n > 0) spec.number = number;
    read_revoked(L, &spec);
    if (sr_issuer_check(spec.issuer, key, &err) < 0) return sr_throw(L, &err);
    sr_x509_work *work = sr_x509_work_new(L);
    snprintf(work->word, sizeof work->word, "%s", sr_arg_string(L, 1, "hash", "", NULL));
    sr_key_ref(&work->key, key);
    if (sr_crl_build(&spec, &work->crl, &err) < 0) return sr_throw(L, &err);
    work->run = run_sign_crl;
    work->push = push_crl;
    return sr_x509_work_go(L, -1, sr_x509_slow(key));
}

/* --- Read a revocation list from PEM text or DER bytes.
 * ---@param data string  ---@return x509.crl
 * Raises usage (BAD_CRL, BAD_PEM), limit (TOO_LARGE). */
static int l_read_crl(lua_State *L) {
    size_t len;
    sr_err err = {0};
    const char *data = sr_check_secret(L, 1, &len);
    sr_crl *crl = sr_x509_new(L, &sr_x509_crl_class, sizeof *crl);
    if (sr_crl_read(data, len, &crl->crl, &err) < 0) return sr_throw(L, &err);
    return 1;
}

/* ---------------------------------------------------------------- "x509.crl" */

static sr_crl *check_crl(lua_State *L, int idx) {
    return sr_x509_check(L, idx, &sr_x509_crl_class);
}

static const void *crl_info(lua_State *L, void *object) {
    sr_crl *crl = object;
    sr_err err = {0};
    if (!crl->decoded) {
        if (sr_crl_info_read(crl->crl, &crl->info, &err) < 0) sr_throw(L, &err);
        crl->decoded = true;
    }
    return &crl->info;
}

static void push_entry(lua_State *L, const sr_revoked *entry) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, entry->serial);
    lua_setfield(L, -2, "serial");
    lua_pushinteger(L, (lua_Integer)entry->when);
    lua_setfield(L, -2, "when");
    lua_pushstring(L, entry->reason);
    lua_setfield(L, -2, "reason");
}

static void push_revoked(lua_State *L, const void *value) {
    const sr_crl_info *info = value;
    lua_createtable(L, (int)info->revoked_count, 0);
    for (size_t i = 0; i < info->revoked_count; i++) {
        push_entry(L, &info->revoked[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

/* --- The entry of a serial number (hexadecimal) or of a certificate, or nil.
 * ---@param what string|x509.cert  ---@return {serial: string, when: integer, reason:
 * string?}? */
static int l_find(lua_State *L) {
    const sr_crl_info *info = crl_info(L, check_crl(L, 1));
    sr_cert *cert = sr_x509_test(L, 2, &sr_x509_cert_class);
    const char *serial =
        cert ? sr_check_cert_info(L, 2)->serial : sr_check_secret(L, 2, NULL);
    for (size_t i = 0; i < info->revoked_count; i++)
        if (OPENSSL_strcasecmp(info->revoked[i].serial, serial) == 0) {
            push_entry(L, &info->revoked[i]);
            return 1;
        }
    return 0;
}

/* --- Whether this CA signed the list. ---@param issuer x509.cert ---@return boolean */
static int l_verify(lua_State *L) {
    X509_CRL *crl = check_crl(L, 1)->crl;
    EVP_PKEY *pkey = (sr_check_cert(L, 2), sr_x509_public_key(L, 2));
    lua_pushboolean(L, X509_CRL_verify(crl, pkey) == 1);
    ERR_clear_error();
    return 1;
}

static int encoded(lua_State *L, int (*run)(sr_x509_work *, sr_err *)) {
    sr_crl *crl = check_crl(L, 1);
    sr_x509_work *work = sr_x509_work_new(L);
    X509_CRL_up_ref(crl->crl);
    work->crl = crl->crl;
    work->run = run;
    work->push = sr_x509_push_out;
    return sr_x509_work_go(L, -1, false);
}

static int run_pem(sr_x509_work *work, sr_err *err) {
    return sr_crl_pem(work->crl, &work->out, err);
}

static int run_der(sr_x509_work *work, sr_err *err) {
    return sr_crl_der(work->crl, &work->out, err);
}

/* --- The list as PEM. ---@return string */
static int l_pem(lua_State *L) {
    return encoded(L, run_pem);
}

/* --- The list as DER. ---@return string */
static int l_der(lua_State *L) {
    return encoded(L, run_der);
}

static int l_gc(lua_State *L) {
    sr_crl *crl = luaL_checkudata(L, 1, SR_CRL_TYPE);
    X509_CRL_free(crl->crl);
    sr_crl_info_free(&crl->info);
    *crl = (sr_crl){0};
    return 0;
}

static int l_tostring(lua_State *L) {
    char date[32];
    sr_crl *crl = luaL_checkudata(L, 1, SR_CRL_TYPE);
    if (!crl->crl) {
        lua_pushliteral(L, "x509.crl: closed");
        return 1;
    }
    const sr_crl_info *info = crl_info(L, crl);
    lua_pushfstring(L, "x509.crl: %s, %d revoked, next update %s", info->issuer.text,
                    (int)info->revoked_count,
                    info->next_update != 0 ? sr_x509_date(info->next_update, date)
                                           : "unknown");
    return 1;
}

#define AT(member) offsetof(sr_crl_info, member)

static const sr_x509_field crl_fields[] = {
    {"issuer", sr_x509_push_dn, AT(issuer)},
    {"issuer_dn", sr_x509_push_text, AT(issuer.text)},
    {"this_update", sr_x509_push_time, AT(this_update)},
    {"next_update", sr_x509_push_time, AT(next_update)},
    {"number", sr_x509_push_text, AT(number)},
    {"aki", sr_x509_push_text, AT(aki)},
    {"signature_algorithm", sr_x509_push_text, AT(signature_algorithm)},
    {"revoked", push_revoked, 0},
    {0}};

static const luaL_Reg crl_methods[] = {
    {"find", l_find}, {"verify", l_verify}, {"pem", l_pem}, {"der", l_der}, {NULL, NULL}};

const sr_x509_class sr_x509_crl_class = {
    SR_CRL_TYPE, "revocation list", crl_fields, crl_methods, l_gc, l_tostring, crl_info};

const luaL_Reg sr_x509_sign_functions[] = {
    {"sign", l_sign}, {"crl", l_crl}, {"read_crl", l_read_crl}, {NULL, NULL}};
