/* x509_cert.c – the face of certificates: x509.read, x509.read_chain, "x509.cert".
 *
 * Fields are decoded together at the first one that is asked for. A certificate holds a
 * reference to OpenSSL's object; close() gives it back early.
 */
#include "x509.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

sr_cert *sr_check_cert(lua_State *L, int idx) {
    return sr_x509_check(L, idx, &sr_x509_cert_class);
}

static const void *cert_info(lua_State *L, void *object) {
    sr_cert *cert = object;
    sr_err err = {0};
    if (!cert->decoded) {
        if (sr_cert_info_read(cert->x509, &cert->info, &err) < 0) sr_throw(L, &err);
        cert->decoded = true;
    }
    return &cert->info;
}

const sr_cert_info *sr_check_cert_info(lua_State *L, int idx) {
    return cert_info(L, sr_check_cert(L, idx));
}

static sr_cert *new_cert(lua_State *L) {
    return sr_x509_new(L, &sr_x509_cert_class, sizeof(sr_cert));
}

void sr_push_cert(lua_State *L, X509 *x509) {
    sr_cert *cert = new_cert(L);
    X509_up_ref(x509);
    cert->x509 = x509;
}

/* --- Read the first certificate of PEM text or DER bytes.
 * ---@param data string  ---@return x509.cert
 * Raises usage (BAD_CERT, BAD_PEM), limit (TOO_LARGE). */
static int l_read(lua_State *L) {
    size_t len;
    sr_err err = {0};
    const char *data = sr_check_secret(L, 1, &len);
    sr_cert *cert = new_cert(L);
    if (sr_cert_read(data, len, &cert->x509, &err) < 0) return sr_throw(L, &err);
    return 1;
}

static int push_result(lua_State *L, sr_x509_work *work) {
    sr_x509_push_certs(L, work->result);
    return 1;
}

static int run_read_chain(sr_x509_work *work, sr_err *err) {
    return sr_chain_read(work->in.data, work->in.len, &work->result, err);
}

/* --- Read every certificate of PEM text (or PKCS#7, or one in DER), in the file's order.
 * ---@param data string  ---@return x509.cert[]   at least one
 * Raises usage (BAD_CERT, BAD_PEM), limit (TOO_LARGE, TOO_MANY). */
static int l_read_chain(lua_State *L) {
    size_t len;
    const char *data = sr_check_secret(L, 1, &len);
    sr_x509_work *work = sr_x509_work_new(L);
    if (len > SR_PKI_MAX_INPUT)
        return sr_raise(L, SR_LIMIT, "TOO_LARGE",
                        "certificate file of %zu bytes; at most %u are read", len,
                        SR_PKI_MAX_INPUT);
    sr_x509_take(L, &work->in, data, len);
    work->run = run_read_chain;
    work->push = push_result;
    return sr_x509_work_go(L, -1, false);
}

/* ---------------------------------------------------------------- fields */

static void push_lifetime(lua_State *L, const void *value) {
    const sr_cert_info *info = value;
    lua_pushinteger(L, (lua_Integer)(info->not_after - info->not_before));
}

static void push_instant(lua_State *L, const void *value) {
    lua_pushinteger(L, (lua_Integer) * (const double *)value);
}

#define AT(member) offsetof(sr_cert_info, member)

static const sr_x509_field cert_fields[] = {
    {"subject", sr_x509_push_dn, AT(subject)},
    {"issuer", sr_x509_push_dn, AT(issuer)},
    {"subject_dn", sr_x509_push_text, AT(subject.text)},
    {"issuer_dn", sr_x509_push_text, AT(issuer.text)},
    {"serial", sr_x509_push_text, AT(serial)},
    {"not_before", push_instant, AT(not_before)},
    {"not_after", push_instant, AT(not_after)},
    {"lifetime", push_lifetime, 0},
    {"sans", sr_x509_push_sans, AT(sans)},
    {"names", sr_x509_push_names, AT(sans)},
    {"key_type", sr_x509_push_text, AT(key.type)},
    {"key_algorithm", sr_x509_push_text, AT(key.algorithm)},
    {"key_bits", sr_x509_push_int, AT(key.bits)},
    {"signature_algorithm", sr_x509_push_text, AT(signature_algorithm)},
    {"spki_sha256", sr_x509_push_chars, AT(spki_sha256)},
    {"sha256", sr_x509_push_chars, AT(sha256)},
    {"sha1", sr_x509_push_chars, AT(sha1)},
    {"is_ca", sr_x509_push_bool, AT(is_ca)},
    {"path_len", sr_x509_push_int, AT(path_len)},
    {"key_usage", sr_x509_push_words, AT(key_usage)},
    {"ext_key_usage", sr_x509_push_words, AT(ext_key_usage)},
    {"aki", sr_x509_push_text, AT(aki)},
    {"ski", sr_x509_push_text, AT(ski)},
    {"ocsp_urls", sr_x509_push_words, AT(ocsp_urls)},
    {"ca_issuers", sr_x509_push_words, AT(ca_issuers)},
    {"crl_urls", sr_x509_push_words, AT(crl_urls)},
    {"policies", sr_x509_push_words, AT(policies)},
    {"validation", sr_x509_push_text, AT(validation)},
    {"must_staple", sr_x509_push_bool, AT(must_staple)},
    {"scts", sr_x509_push_int, AT(scts)},
    {"self_signed", sr_x509_push_bool, AT(self_signed)},
    {"ari_id", sr_x509_push_text, AT(ari_id)},
    {"extensions", sr_x509_push_extensions, AT(extensions)},
    {"broken", sr_x509_push_words, AT(broken)},
    {0}};

/* ---------------------------------------------------------------- methods */

static int encoded(lua_State *L, int (*run)(sr_x509_work *, sr_err *)) {
    sr_cert *cert = sr_check_cert(L, 1);
    sr_x509_work *work = sr_x509_work_new(L);
    X509_up_ref(cert->x509);
    work->cert = cert->x509;
    work->run = run;
    work->push = sr_x509_push_out;
    return sr_x509_work_go(L, -1, false);
}

static int run_pem(sr_x509_work *work, sr_err *err) {
    return sr_cert_pem(work->cert, &work->out, err);
}

static int run_der(sr_x509_work *work, sr_err *err) {
    return sr_cert_der(work->cert, &work->out, err);
}

/* --- The certificate as PEM. ---@return string */
static int l_pem(lua_State *L) {
    return encoded(L, run_pem);
}

/* --- The certificate as DER. ---@return string */
static int l_der(lua_State *L) {
    return encoded(L, run_der);
}

/* --- Whether one of its names is or covers this host name, address, e-mail or URI.
 * ---@param name string  ---@return boolean */
static int l_covers(lua_State *L) {
    const sr_cert_info *info = sr_check_cert_info(L, 1);
    size_t len;
    const char *name = sr_check_secret(L, 2, &len);
    lua_pushboolean(L, strlen(name) == len && sr_sans_cover(&info->sans, name));
    return 1;
}

/* --- Seconds from now (our clock) until not_after; negative once expired.
 * ---@return number */
static int l_expires_in(lua_State *L) {
    const sr_cert_info *info = sr_check_cert_info(L, 1);
    lua_pushnumber(L, info->not_after - sr_now(sr_loop_of(L)));
    return 1;
}

/* --- Whether the other object holds the same public key.
 * ---@param other x509.key|x509.cert|x509.csr  ---@return boolean */
static int l_matches(lua_State *L) {
    sr_check_cert(L, 1);
    return sr_x509_matches(L, sr_x509_public_key(L, 1));
}

/* --- Whether the other certificate's name and key made this one.
 * ---@param issuer x509.cert  ---@return boolean */
static int l_issued_by(lua_State *L) {
    X509 *cert = sr_check_cert(L, 1)->x509, *issuer = sr_check_cert(L, 2)->x509;
    EVP_PKEY *pkey = X509_get0_pubkey(issuer);
    lua_pushboolean(L, X509_check_issued(issuer, cert) == X509_V_OK && pkey &&
                           X509_verify(cert, pkey) == 1);
    ERR_clear_error();
    return 1;
}

static int l_gc(lua_State *L) {
    sr_cert *cert = luaL_checkudata(L, 1, SR_CERT_TYPE);
    X509_free(cert->x509);
    sr_cert_info_free(&cert->info);
    *cert = (sr_cert){0};
    return 0;
}

static int l_tostring(lua_State *L) {
    char date[32], more[32] = "";
    sr_cert *cert = luaL_checkudata(L, 1, SR_CERT_TYPE);
    if (!cert->x509) {
        lua_pushliteral(L, "x509.cert: closed");
        return 1;
    }
    const sr_cert_info *info = cert_info(L, cert);
    const char *name = info->sans.count ? info->sans.items[0].value : info->subject.text;
    if (info->sans.count > 1)
        snprintf(more, sizeof more, " (+%zu names)", info->sans.count - 1);
    lua_pushfstring(L, "x509.cert: %s%s, issued by %s, expires %s, sha256 %s", name, more,
                    info->issuer.text, sr_x509_date(info->not_after, date), info->sha256);
    return 1;
}

static const luaL_Reg cert_methods[] = {{"pem", l_pem},
                                        {"der", l_der},
                                        {"covers", l_covers},
                                        {"expires_in", l_expires_in},
                                        {"matches", l_matches},
                                        {"issued_by", l_issued_by},
                                        {NULL, NULL}};

const sr_x509_class sr_x509_cert_class = {
    SR_CERT_TYPE, "certificate", cert_fields, cert_methods, l_gc, l_tostring, cert_info};

const luaL_Reg sr_x509_cert_functions[] = {
    {"read", l_read}, {"read_chain", l_read_chain}, {NULL, NULL}};
