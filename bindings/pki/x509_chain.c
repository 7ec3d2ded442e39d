/* x509_chain.c – the face of chains: x509.order and x509.verify.
 *
 * Verification happens at a time of our clock. Against the system's roots it runs in the
 * pool, as loading them takes 25 ms; against roots given it is cheaper than the hop.
 */
#include "x509.h"

#include <stdio.h>

#include <string.h>

/* ---------------------------------------------------------------- order */

static int run_order(sr_x509_work *work, sr_err *err) {
    return sr_chain_order(work->chain, &work->result, &work->unused, err);
}

/* What the path lacks: {complete, missing, ca_issuers, unused}. */
static void push_gap(lua_State *L, sr_x509_work *work) {
    X509 *last = sk_X509_value(work->result, sk_X509_num(work->result) - 1);
    lua_createtable(L, 0, 4);
    sr_x509_push_certs(L, work->unused);
    lua_setfield(L, -2, "unused"); /* gap */
    sr_push_cert(L, last);
    const sr_cert_info *info = sr_check_cert_info(L, -1);
    bool complete = X509_self_signed(last, 0) == 1;
    lua_pushboolean(L, complete);
    lua_setfield(L, -3, "complete"); /* gap, last */
    if (!complete) {
        lua_pushstring(L, info->issuer.text);
        lua_setfield(L, -3, "missing");
        sr_x509_push_words(L, &info->ca_issuers);
        lua_setfield(L, -3, "ca_issuers");
    }
    lua_pop(L, 1);
}

static int push_order(lua_State *L, sr_x509_work *work) {
    sr_x509_push_certs(L, work->result);
    push_gap(L, work);
    return 2;
}

/* --- Put certificates in order, leaf first, each followed by its issuer; duplicates go.
 * ---@param chain x509.cert[]|string   certificates or PEM text, in any order
 * ---@return x509.cert[] path
 * ---@return {complete: boolean, missing: string?, ca_issuers: string[]?, unused:
 * x509.cert[]} `complete`: the path ends in a root. Else `missing` is the name of the
 * issuer that should follow and `ca_issuers` where its certificate may be fetched. Raises
 * usage, limit. */
static int l_order(lua_State *L) {
    sr_x509_work *work = sr_x509_work_new(L);
    sr_x509_take_certs(L, 1, "chain", &work->chain);
    if (sk_X509_num(work->chain) == 0)
        return sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "x509.order: no certificates");
    work->run = run_order;
    work->push = push_order;
    return sr_x509_work_go(L, -1, false);
}

/* ---------------------------------------------------------------- verify */

static const sr_arg verify_args[] = {
    {"cert", SR_OBJECT, SR_REQUIRED, NULL, "the certificate", .choices = SR_CERT_TYPE},
    {"chain", SR_ANY, 0, NULL, "intermediates: certificates or PEM text, in any order"},
    {"roots", SR_ANY, 0, "system",
     "trust anchors: certificates or PEM text, or \"system\""},
    {"name", SR_STRING, SR_NONEMPTY, NULL, "host name or address it must cover"},
    {"at", SR_NUMBER, 0, NULL, "UTC seconds; now by default"},
    {"purpose", SR_ENUM, 0, "server", "what for", .choices = "server|client|any"},
    {"crls", SR_LIST, 0, NULL, "revocation lists; one of the issuer is then required"},
    {0}};
static const sr_spec verify_spec = {"x509.verify", "Verify a certificate.", verify_args};

static int run_verify(sr_x509_work *work, sr_err *err) {
    return sr_chain_verify(&(sr_verify_spec){.cert = work->cert,
                                             .chain = work->chain,
                                             .roots = work->roots,
                                             .crls = work->crls,
                                             .name = work->in.len ? work->in.data : NULL,
                                             .purpose = work->word,
                                             .at = work->at},
                           &work->result, err);
}

static int push_path(lua_State *L, sr_x509_work *work) {
    sr_x509_push_certs(L, work->result);
    return 1;
}

/* Roots as certificates, or nothing for those of the system; an empty list is a mistake
 * that must not end in trusting the system. */
static void take_roots(lua_State *L, sr_x509_work *work) {
    int type = sr_arg_push(L, 1, "roots");
    bool system = type == LUA_TNIL ||
                  (type == LUA_TSTRING && strcmp(lua_tostring(L, -1), "system") == 0);
    if (!system) {
        sr_x509_take_certs(L, -1, "roots", &work->roots);
        if (sk_X509_num(work->roots) == 0)
            sr_raise(L, SR_USAGE, "BAD_ARGUMENT", "x509.verify: roots is empty");
    }
    lua_pop(L, 1);
}

/* The list on top of the stack, the i-th of the script's. */
static void take_crl(lua_State *L, sr_x509_work *work, int i) {
    sr_crl *crl = sr_x509_test(L, -1, &sr_x509_crl_class);
    if (!crl)
        sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                 "x509.verify: crls[%d]: expected an x509.crl, got %s", i,
                 luaL_typename(L, -1));
    else if (sk_X509_CRL_push(work->crls, crl->crl))
        X509_CRL_up_ref(crl->crl);
    else
        sr_raise(L, SR_LIMIT, "ENOMEM", "out of memory");
}

static void take_crls(lua_State *L, sr_x509_work *work) {
    if (sr_arg_push(L, 1, "crls") == LUA_TTABLE) {
        lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
        work->crls = sk_X509_CRL_new_null();
        for (lua_Integer i = 1; i <= count; i++) {
            lua_rawgeti(L, -1, i);
            take_crl(L, work, (int)i);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

/* --- Build and verify the path to a root, at a time of our clock.
 * ---@param opts {cert: x509.cert, chain: any?, roots: any?, name: string?, at: number?,
 * ---  purpose: "server"|"client"|"any"?, crls: x509.crl[]?}
 * ---@return x509.cert[] path   leaf first, root last
 * Raises tls with code X509_V_ERR_…; the message names the certificate and the mend. */
static int l_verify(lua_State *L) {
    size_t len;
    sr_args(L, 1, &verify_spec);
    sr_x509_work *work = sr_x509_work_new(L);
    int owner = lua_gettop(L);
    sr_arg_push(L, 1, "cert");
    work->cert = sr_check_cert(L, -1)->x509;
    X509_up_ref(work->cert);
    sr_arg_push(L, 1, "chain");
    sr_x509_take_certs(L, -1, "chain", &work->chain);
    take_roots(L, work);
    take_crls(L, work);
    const char *name = sr_arg_string(L, 1, "name", NULL, &len);
    if (name) {
        if (strlen(name) != len)
            return sr_raise(L, SR_USAGE, "BAD_ARGUMENT",
                            "x509.verify: name has a NUL byte");
        sr_x509_take(L, &work->in, name, len);
    }
    snprintf(work->word, sizeof work->word, "%s",
             sr_arg_string(L, 1, "purpose", "server", NULL));
    work->at = sr_arg_number(L, 1, "at", sr_now(sr_loop_of(L)));
    work->run = run_verify;
    work->push = push_path;
    return sr_x509_work_go(L, owner, !work->roots);
}

const luaL_Reg sr_x509_chain_functions[] = {
    {"order", l_order}, {"verify", l_verify}, {NULL, NULL}};
