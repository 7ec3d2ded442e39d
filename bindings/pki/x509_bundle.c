/* x509_bundle.c – the face of bundles: PKCS#12 files and PEM texts that hold a key.
 *
 * What contains a private key is returned as a secret. PKCS#12 derives keys from the
 * password thousands of times over, so it runs in the pool.
 */
#include "x509.h"

#include <stdio.h>

#include <string.h>

/* The password, checked to be a C string; it is terminated by its buffer. */
static void take_password(lua_State *L, sr_buf *password) {
    if (!sr_x509_take_secret(L, 1, "password", password)) return;
    if (!password->data) sr_x509_take(L, password, "", 0);
    if (strlen(password->data) != password->len)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "password: contains a NUL byte");
}

/* key, cert and chain of the argument table into the work's p12. */
static void take_parts(lua_State *L, sr_x509_work *work) {
    if (sr_arg_push(L, 1, "key") != LUA_TNIL)
        sr_key_ref(&work->p12.key, sr_check_key(L, -1));
    if (sr_arg_push(L, 1, "cert") != LUA_TNIL) {
        work->p12.cert = sr_check_cert(L, -1)->x509;
        X509_up_ref(work->p12.cert);
    }
    sr_arg_push(L, 1, "chain");
    sr_x509_take_certs(L, -1, "chain", &work->p12.chain);
    lua_pop(L, 3);
    if (!work->p12.cert && !work->p12.key.pkey && sk_X509_num(work->p12.chain) == 0)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "a bundle of nothing; give key, cert or chain");
}

/* The certificate again at the head of its chain, as fullchain files have it, is dropped.
 */
static void drop_leaf(sr_pkcs12 *p12) {
    for (int i = 0; p12->cert && i < sk_X509_num(p12->chain); i++)
        if (X509_cmp(sk_X509_value(p12->chain, i), p12->cert) == 0)
            X509_free(sk_X509_delete(p12->chain, i--));
}

static void push_parts(lua_State *L, sr_x509_work *work) {
    lua_createtable(L, 0, 4);
    if (work->p12.key.pkey) {
        sr_push_key(L, &work->p12.key);
        lua_setfield(L, -2, "key");
    }
    if (work->p12.cert) {
        sr_push_cert(L, work->p12.cert);
        lua_setfield(L, -2, "cert");
    }
    sr_x509_push_certs(L, work->p12.chain);
    lua_setfield(L, -2, "chain");
    if (*work->p12.name) {
        lua_pushstring(L, work->p12.name);
        lua_setfield(L, -2, "name");
    }
}

static int push_bundle(lua_State *L, sr_x509_work *work) {
    push_parts(L, work);
    return 1;
}

/* ---------------------------------------------------------------- PKCS#12 */

static const sr_arg pkcs12_args[] = {
    {"key", SR_OBJECT, 0, NULL, "private key", .choices = SR_KEY_TYPE},
    {"cert", SR_OBJECT, 0, NULL, "its certificate", .choices = SR_CERT_TYPE},
    {"chain", SR_ANY, 0, NULL, "further certificates, or PEM text"},
    {"password", SR_SECRET, SR_REQUIRED, NULL, "protects the file"},
    {"name", SR_STRING, 0, NULL, "friendly name, \"alias\" in Java"},
    {"legacy", SR_BOOL, 0, "false", "3DES and SHA-1, for old readers"},
    {0}};
static const sr_spec pkcs12_spec = {"x509.pkcs12", "Make a PKCS#12 file.", pkcs12_args};

static int run_pkcs12(sr_x509_work *work, sr_err *err) {
    return sr_pkcs12_write(&work->p12, work->passphrase.data, work->flag, &work->out,
                           err);
}

static int push_pkcs12(lua_State *L, sr_x509_work *work) {
    sr_push_secret(L, work->out.data, work->out.len, "PKCS#12 file");
    return 1;
}

/* --- Make a PKCS#12 file; as a secret, which fs.write takes.
 * ---@param opts {key: x509.key?, cert: x509.cert?, chain: any?, password: secret|string,
 * ---  name: string?, legacy: boolean?}
 * ---@return secret   waits
 * Raises usage (KEY_MISMATCH). */
static int l_pkcs12(lua_State *L) {
    sr_args(L, 1, &pkcs12_spec);
    sr_x509_work *work = sr_x509_work_new(L);
    take_password(L, &work->passphrase);
    take_parts(L, work);
    drop_leaf(&work->p12);
    snprintf(work->p12.name, sizeof work->p12.name, "%s",
             sr_arg_string(L, 1, "name", "", NULL));
    work->flag = sr_arg_bool(L, 1, "legacy", false);
    work->run = run_pkcs12;
    work->push = push_pkcs12;
    return sr_x509_work_go(L, -1, true);
}

static const sr_arg read_pkcs12_args[] = {
    {"data", SR_SECRET, SR_REQUIRED, NULL, "the file's bytes"},
    {"password", SR_SECRET, SR_REQUIRED, NULL, "opens it; may be empty"},
    {0}};
static const sr_spec read_pkcs12_spec = {"x509.read_pkcs12", "Read a PKCS#12 file.",
                                         read_pkcs12_args};

static int run_read_pkcs12(sr_x509_work *work, sr_err *err) {
    return sr_pkcs12_read(work->in.data, work->in.len, work->passphrase.data, &work->p12,
                          err);
}

/* --- Read a PKCS#12 file, modern or legacy.
 * ---@param opts {data: secret|string, password: secret|string}
 * ---@return {key: x509.key?, cert: x509.cert?, chain: x509.cert[], name: string?} waits
 * Raises auth (WRONG_PASSWORD), usage (BAD_PKCS12), limit (TOO_MANY_ROUNDS, TOO_LARGE).
 */
static int l_read_pkcs12(lua_State *L) {
    sr_args(L, 1, &read_pkcs12_spec);
    sr_x509_work *work = sr_x509_work_new(L);
    take_password(L, &work->passphrase);
    sr_x509_take_secret(L, 1, "data", &work->in);
    work->run = run_read_pkcs12;
    work->push = push_bundle;
    return sr_x509_work_go(L, -1, true);
}

/* ---------------------------------------------------------------- PEM */

static const sr_arg pem_args[] = {
    {"key", SR_OBJECT, 0, NULL, "private key", .choices = SR_KEY_TYPE},
    {"cert", SR_OBJECT, 0, NULL, "its certificate", .choices = SR_CERT_TYPE},
    {"chain", SR_ANY, 0, NULL, "further certificates, or PEM text"},
    {"order", SR_ENUM, 0, "cert", "what comes first", .choices = "cert|key"},
    {0}};
static const sr_spec pem_spec = {"x509.pem_bundle", "Join key and chain as PEM.",
                                 pem_args};

static int put_key(sr_x509_work *work, sr_err *err) {
    const sr_key *key = &work->p12.key;
    return key->pkey ? sr_key_pem(key, NULL, 0, &work->out, err) : 0;
}

static int run_pem(sr_x509_work *work, sr_err *err) {
    sr_pkcs12 *all = &work->p12;
    bool key_first = strcmp(work->word, "key") == 0;
    if (key_first && put_key(work, err) < 0) return -1;
    if (all->cert && sr_cert_pem(all->cert, &work->out, err) < 0) return -1;
    for (int i = 0; i < sk_X509_num(all->chain); i++)
        if (sr_cert_pem(sk_X509_value(all->chain, i), &work->out, err) < 0) return -1;
    return key_first ? 0 : put_key(work, err);
}

static int push_pem(lua_State *L, sr_x509_work *work) {
    if (!work->p12.key.pkey) return sr_x509_push_out(L, work);
    sr_push_secret(L, work->out.data, work->out.len, "PEM bundle");
    return 1;
}

/* --- Certificate, chain and key in one PEM text, as HAProxy and others want it.
 * ---@param opts {key: x509.key?, cert: x509.cert?, chain: any?, order: "cert"|"key"?}
 * ---@return secret|string   a secret when it holds a key */
static int l_pem_bundle(lua_State *L) {
    sr_args(L, 1, &pem_spec);
    sr_x509_work *work = sr_x509_work_new(L);
    take_parts(L, work);
    drop_leaf(&work->p12);
    snprintf(work->word, sizeof work->word, "%s",
             sr_arg_string(L, 1, "order", "cert", NULL));
    work->run = run_pem;
    work->push = push_pem;
    return sr_x509_work_go(L, -1, false);
}

static const sr_arg read_pem_args[] = {
    {"pem", SR_SECRET, SR_REQUIRED, NULL, "PEM text"},
    {"passphrase", SR_SECRET, 0, NULL, "opens an encrypted key"},
    {0}};
static const sr_spec read_pem_spec = {"x509.read_bundle", "Read key and chain from PEM.",
                                      read_pem_args};

/* The certificate of the key, else the first, is the bundle's own. */
static void pick_leaf(sr_pkcs12 *all) {
    int at = 0;
    for (int i = 0; all->key.pkey && i < sk_X509_num(all->chain); i++) {
        EVP_PKEY *pkey = X509_get0_pubkey(sk_X509_value(all->chain, i));
        if (pkey && EVP_PKEY_eq(pkey, all->key.pkey) == 1) {
            at = i;
            break;
        }
    }
    all->cert = sk_X509_delete(all->chain, at);
}

static int run_read_pem(sr_x509_work *work, sr_err *err) {
    sr_err none = {0};
    const char *passphrase = work->flag ? work->passphrase.data : NULL;
    if (sr_chain_read(work->in.data, work->in.len, &work->p12.chain, err) < 0) return -1;
    if (sr_key_read(&work->p12.key, work->in.data, work->in.len, passphrase,
                    work->passphrase.len, &none) < 0 &&
        strcmp(none.code, "NO_KEY") != 0) {
        *err = none;
        return -1;
    }
    pick_leaf(&work->p12);
    return 0;
}

/* --- Read a PEM text that holds certificates and perhaps a key.
 * ---@param opts {pem: secret|string, passphrase: secret|string?}
 * ---@return {key: x509.key?, cert: x509.cert, chain: x509.cert[]}   waits with a
 * passphrase Raises as x509.read_chain and x509.read_key. */
static int l_read_bundle(lua_State *L) {
    sr_args(L, 1, &read_pem_spec);
    sr_x509_work *work = sr_x509_work_new(L);
    sr_x509_take_secret(L, 1, "pem", &work->in);
    work->flag = sr_x509_take_secret(L, 1, "passphrase", &work->passphrase);
    if (work->flag && !work->passphrase.data) sr_x509_take(L, &work->passphrase, "", 0);
    work->run = run_read_pem;
    work->push = push_bundle;
    return sr_x509_work_go(L, -1, work->flag);
}

const luaL_Reg sr_x509_bundle_functions[] = {{"pkcs12", l_pkcs12},
                                             {"read_pkcs12", l_read_pkcs12},
                                             {"pem_bundle", l_pem_bundle},
                                             {"read_bundle", l_read_bundle},
                                             {NULL, NULL}};
