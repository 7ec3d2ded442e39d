/* x509_key.c – the face of keys: x509.key, x509.read_key and the methods of "x509.key".
 *
 * P-256 and Ed25519 are made here and now, being cheaper than a hop to the pool; RSA and
 * the larger curves, and every password-based derivation, run there. Private bytes leave
 * as a secret only.
 */
#include "x509.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

sr_key *sr_check_key(lua_State *L, int idx) {
    return sr_x509_check(L, idx, &sr_x509_key_class);
}

void sr_push_key(lua_State *L, sr_key *key) {
    sr_key *object = sr_x509_new(L, &sr_x509_key_class, sizeof *object);
    *object = *key;
    *key = (sr_key){0};
}

EVP_PKEY *sr_x509_public_key(lua_State *L, int idx) {
    EVP_PKEY *pkey = NULL;
    sr_key *key = sr_x509_test(L, idx, &sr_x509_key_class);
    sr_cert *cert = key ? NULL : sr_x509_test(L, idx, &sr_x509_cert_class);
    sr_csr *csr = key || cert ? NULL : sr_x509_test(L, idx, &sr_x509_csr_class);
    if (key)
        pkey = key->pkey;
    else if (cert)
        pkey = X509_get0_pubkey(cert->x509);
    else if (csr)
        pkey = sr_req_get0_pubkey(csr->req);
    else
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "argument %d: expected a key, certificate or request, got %s", idx,
                 luaL_typename(L, idx));
    ERR_clear_error();
    if (!pkey)
        sr_raise(L, SR_USAGE, "BAD_KEY",
                 "its public key is damaged or of an unknown type");
    return pkey;
}

int sr_x509_matches(lua_State *L, EVP_PKEY *own) {
    lua_pushboolean(L, EVP_PKEY_eq(own, sr_x509_public_key(L, 2)) == 1);
    ERR_clear_error();
    return 1;
}

static int push_made_key(lua_State *L, sr_x509_work *work) {
    sr_push_key(L, &work->key);
    return 1;
}

static int run_generate(sr_x509_work *work, sr_err *err) {
    return sr_key_generate(&work->key, work->word, err);
}

static const sr_arg key_args[] = {
    {"type", SR_ENUM, 0, "p256", "kind of key",
     .choices = "p256|p384|p521|rsa2048|rsa3072|rsa4096|ed25519"},
    {0}};
static const sr_spec key_spec = {"x509.key", "Make a new key pair.", key_args};

/* --- Make a new key pair.
 * ---@param opts {type: "p256"|"p384"|"p521"|"rsa2048"|"rsa3072"|"rsa4096"|"ed25519"}?
 * ---@return x509.key   waits while RSA, P-384 or P-521 are made in the pool */
static int l_key(lua_State *L) {
    sr_args(L, 1, &key_spec);
    const char *type = sr_arg_string(L, 1, "type", "p256", NULL);
    sr_x509_work *work = sr_x509_work_new(L);
    snprintf(work->word, sizeof work->word, "%s", type);
    work->run = run_generate;
    work->push = push_made_key;
    return sr_x509_work_go(L, -1, sr_key_type_slow(type) > 0);
}

static int run_read(sr_x509_work *work, sr_err *err) {
    return sr_key_read(&work->key, work->in.data, work->in.len,
                       work->flag ? work->passphrase.data : NULL, work->passphrase.len,
                       err);
}

static const sr_arg read_args[] = {
    {"pem", SR_SECRET, 0, NULL, "PEM text"},
    {"der", SR_SECRET, 0, NULL, "DER bytes"},
    {"passphrase", SR_SECRET, 0, NULL, "opens an encrypted key"},
    {0}};
static const sr_spec read_spec = {"x509.read_key", "Read a key.", read_args};

/* --- Read a private or public key: PKCS#8, encrypted PKCS#8, PKCS#1, SEC1, SPKI.
 * ---@param opts {pem: secret|string?, der: secret|string?, passphrase: secret|string?}
 * ---@return x509.key
 * Raises auth (codes PASSPHRASE_REQUIRED, WRONG_PASSPHRASE), usage (BAD_KEY, BAD_PEM). */
static int l_read_key(lua_State *L) {
    sr_args(L, 1, &read_spec);
    sr_x509_work *work = sr_x509_work_new(L);
    bool pem = sr_x509_take_secret(L, 1, "pem", &work->in);
    bool der = sr_x509_take_secret(L, 1, "der", &work->in);
    if (pem == der)
        return sr_raise(L, SR_USAGE, NULL, "x509.read_key takes either pem or der");
    work->flag = sr_x509_take_secret(L, 1, "passphrase", &work->passphrase);
    if (work->flag && !work->passphrase.data) sr_x509_take(L, &work->passphrase, "", 0);
    work->run = run_read;
    work->push = push_made_key;
    bool slow = work->flag && sr_key_is_encrypted(work->in.data, work->in.len);
    return sr_x509_work_go(L, -1, slow);
}

/* ---------------------------------------------------------------- fields */

static void push_type(lua_State *L, const void *object) {
    sr_key_info info;
    sr_key_describe(((const sr_key *)object)->pkey, &info);
    lua_pushstring(L, info.type);
}

static void push_algorithm(lua_State *L, const void *object) {
    sr_key_info info;
    sr_key_describe(((const sr_key *)object)->pkey, &info);
    lua_pushstring(L, info.algorithm);
}

static void push_bits(lua_State *L, const void *object) {
    sr_key_info info;
    sr_key_describe(((const sr_key *)object)->pkey, &info);
    lua_pushinteger(L, info.bits);
}

static void push_is_private(lua_State *L, const void *object) {
    lua_pushboolean(L, ((const sr_key *)object)->is_private);
}

static int spki_hex(EVP_PKEY *pkey, char ret_hex[65], sr_err *err) {
    unsigned char digest[32];
    if (sr_pkey_spki_sha256(pkey, digest, err) < 0) return -1;
    sr_pki_hex_text(ret_hex, digest, sizeof digest);
    return 0;
}

static void push_spki_sha256(lua_State *L, const void *object) {
    char hex[65];
    sr_err err = {0};
    if (spki_hex(((const sr_key *)object)->pkey, hex, &err) < 0) sr_throw(L, &err);
    lua_pushstring(L, hex);
}

static const sr_x509_field key_fields[] = {
    {"type", push_type},          {"algorithm", push_algorithm},     {"bits", push_bits},
    {"private", push_is_private}, {"spki_sha256", push_spki_sha256}, {0}};

/* ---------------------------------------------------------------- methods */

static int push_out_secret(lua_State *L, sr_x509_work *work) {
    sr_push_secret(L, work->out.data, work->out.len, "private key");
    return 1;
}

static int run_pem(sr_x509_work *work, sr_err *err) {
    return sr_key_pem(&work->key, work->flag ? work->passphrase.data : NULL,
                      work->passphrase.len, &work->out, err);
}

static int run_public_pem(sr_x509_work *work, sr_err *err) {
    return sr_key_public_pem(&work->key, &work->out, err);
}

static const sr_arg pem_args[] = {
    {"passphrase", SR_SECRET, 0, NULL, "encrypt with it (AES-256, PBKDF2-SHA256)"},
    {"public", SR_BOOL, 0, "false", "the public half only"},
    {0}};
static const sr_spec pem_spec = {"key:pem", "The key as PKCS#8 PEM.", pem_args};

/* --- The key as PEM: private as a secret, public as a string.
 * ---@param opts {passphrase: secret|string?, public: boolean?}?
 * ---@return secret|string   waits while a passphrase is derived */
static int l_pem(lua_State *L) {
    sr_key *key = sr_check_key(L, 1);
    sr_args(L, 2, &pem_spec);
    bool public = sr_arg_bool(L, 2, "public", false);
    sr_x509_work *work = sr_x509_work_new(L);
    work->flag = sr_x509_take_secret(L, 2, "passphrase", &work->passphrase);
    if (work->flag && (public || work->passphrase.len == 0))
        return sr_raise(L, SR_USAGE, NULL, "key:pem: %s",
                        public ? "a public key is not encrypted; leave passphrase out"
                               : "the passphrase is empty");
    sr_key_ref(&work->key, key);
    work->run = public ? run_public_pem : run_pem;
    work->push = public ? sr_x509_push_out : push_out_secret;
    return sr_x509_work_go(L, -1, work->flag);
}

static int run_spki(sr_x509_work *work, sr_err *err) {
    return sr_key_spki(&work->key, &work->out, err);
}

static int run_jwk(sr_x509_work *work, sr_err *err) {
    return sr_key_jwk(&work->key, &work->out, err);
}

static int run_thumbprint(sr_x509_work *work, sr_err *err) {
    return sr_key_thumbprint(&work->key, &work->out, err);
}

static int public_text(lua_State *L, int (*run)(sr_x509_work *, sr_err *)) {
    sr_key *key = sr_check_key(L, 1);
    sr_x509_work *work = sr_x509_work_new(L);
    sr_key_ref(&work->key, key);
    work->run = run;
    work->push = sr_x509_push_out;
    return sr_x509_work_go(L, -1, false);
}

/* --- The DER SubjectPublicKeyInfo. ---@return string */
static int l_spki(lua_State *L) {
    return public_text(L, run_spki);
}

/* --- The public JWK as JSON text, members as in RFC 7638. ---@return string */
static int l_jwk(lua_State *L) {
    return public_text(L, run_jwk);
}

/* --- The RFC 7638 thumbprint, base64url. ---@return string */
static int l_thumbprint(lua_State *L) {
    return public_text(L, run_thumbprint);
}

static const sr_arg hash_args[] = {{"hash", SR_ENUM, 0, NULL,
                                    "digest; the key's own when left out",
                                    .choices = "sha256|sha384|sha512"},
                                   {0}};
static const sr_spec sign_spec = {"key:sign", "Sign bytes.", hash_args};
static const sr_spec verify_spec = {"key:verify", "Check a signature.", hash_args};

static int run_sign(sr_x509_work *work, sr_err *err) {
    return sr_key_sign(&work->key, work->word[0] ? work->word : NULL, work->in.data,
                       work->in.len, &work->out, err);
}

/* --- Sign bytes: ECDSA as DER, RSA PKCS#1 v1.5, Ed25519.
 * ---@param data string  ---@param opts {hash: "sha256"|"sha384"|"sha512"}?
 * ---@return string signature   waits for RSA and the larger curves */
static int l_sign(lua_State *L) {
    size_t len;
    sr_key_info info;
    sr_key *key = sr_check_key(L, 1);
    const char *data = sr_check_secret(L, 2, &len);
    sr_args(L, 3, &sign_spec);
    const char *hash = sr_arg_string(L, 3, "hash", "", NULL);
    sr_x509_work *work = sr_x509_work_new(L);
    sr_x509_take(L, &work->in, data, len);
    snprintf(work->word, sizeof work->word, "%s", hash);
    sr_key_ref(&work->key, key);
    sr_key_describe(key->pkey, &info);
    work->run = run_sign;
    work->push = sr_x509_push_out;
    return sr_x509_work_go(L, -1, info.slow);
}

/* --- Whether the signature is this key's over the bytes.
 * ---@param data string  ---@param signature string
 * ---@param opts {hash: "sha256"|"sha384"|"sha512"}?  ---@return boolean */
static int l_verify(lua_State *L) {
    size_t len, sig_len;
    sr_err err = {0};
    sr_key *key = sr_check_key(L, 1);
    const char *data = sr_check_secret(L, 2, &len);
    const char *sig = sr_check_secret(L, 3, &sig_len);
    sr_args(L, 4, &verify_spec);
    const char *hash = sr_arg_string(L, 4, "hash", NULL, NULL);
    int good = sr_key_verify(key, hash, data, len, sig, sig_len, &err);
    if (good < 0) return sr_throw(L, &err);
    lua_pushboolean(L, good);
    return 1;
}

/* --- Whether the other object holds the same public key.
 * ---@param other x509.key|x509.cert|x509.csr  ---@return boolean */
static int l_matches(lua_State *L) {
    return sr_x509_matches(L, sr_check_key(L, 1)->pkey);
}

static int l_gc(lua_State *L) {
    sr_key_clear(luaL_checkudata(L, 1, SR_KEY_TYPE));
    return 0;
}

static int l_tostring(lua_State *L) {
    char hex[65];
    sr_key_info info;
    sr_err err = {0};
    sr_key *key = luaL_checkudata(L, 1, SR_KEY_TYPE);
    if (!key->pkey) {
        lua_pushliteral(L, "x509.key: closed");
        return 1;
    }
    sr_key_describe(key->pkey, &info);
    if (spki_hex(key->pkey, hex, &err) < 0) return sr_throw(L, &err);
    lua_pushfstring(L, "x509.key: %s %s key, spki sha256 %s", info.label,
                    key->is_private ? "private" : "public", hex);
    return 1;
}

static const luaL_Reg key_methods[] = {
    {"pem", l_pem},         {"spki", l_spki},
    {"jwk", l_jwk},         {"thumbprint", l_thumbprint},
    {"sign", l_sign},       {"verify", l_verify},
    {"matches", l_matches}, {NULL, NULL}};

const sr_x509_class sr_x509_key_class = {SR_KEY_TYPE, "key", key_fields,
                                         key_methods, l_gc,  l_tostring};

const luaL_Reg sr_x509_key_functions[] = {
    {"key", l_key}, {"read_key", l_read_key}, {NULL, NULL}};
