/* chain.c – certificate chains: put in order, built and verified.
 *
 * Servers and CAs hand out chains in any order, with duplicates, holes and roots.
 * Ordering goes by name, key id and signature. Verification is OpenSSL's, at a time the
 * caller gives (the virtual clock's in tests), and its verdict becomes one sentence that
 * names the certificate at fault and what to do.
 *
 * The system's trust store is loaded once per process (25 ms) and again when its file
 * changes; it is shared by threads, which X509_STORE allows.
 */
#include "pki.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <openssl/err.h>

static int no_memory(sr_err *err) {
    return sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
}

/* ---------------------------------------------------------------- order */

static bool issued(X509 *issuer, X509 *cert) {
    EVP_PKEY *pkey = X509_get0_pubkey(issuer);
    bool yes = X509_check_issued(issuer, cert) == X509_V_OK && pkey &&
               X509_verify(cert, pkey) == 1;
    ERR_clear_error();
    return yes;
}

static bool is_root(X509 *cert) {
    return X509_self_signed(cert, 0) == 1;
}

static bool holds(const STACK_OF(X509) * list, const X509 *cert) {
    for (int i = 0; i < sk_X509_num(list); i++)
        if (X509_cmp(sk_X509_value(list, i), cert) == 0) return true;
    return false;
}

static int put(STACK_OF(X509) * list, X509 *cert) {
    if (!X509_up_ref(cert)) return -1;
    if (sk_X509_push(list, cert)) return 0;
    X509_free(cert);
    return -1;
}

/* The certificate that issued no other; among several one that is no CA, then the first.
 */
static X509 *find_leaf(const STACK_OF(X509) * list) {
    X509 *leaf = NULL;
    for (int i = 0; i < sk_X509_num(list); i++) {
        X509 *cert = sk_X509_value(list, i);
        bool issuer = false;
        for (int k = 0; k < sk_X509_num(list) && !issuer; k++)
            issuer = k != i && issued(cert, sk_X509_value(list, k));
        if (issuer) continue;
        if (!leaf || (X509_check_ca(leaf) && !X509_check_ca(cert))) leaf = cert;
    }
    return leaf ? leaf : sk_X509_value(list, 0);
}

/* The issuer to go on with: a cross-signed one before a root, as it leads further. */
static X509 *find_issuer(const STACK_OF(X509) * list, const STACK_OF(X509) * path,
                         X509 *cert) {
    X509 *found = NULL;
    for (int i = 0; i < sk_X509_num(list); i++) {
        X509 *other = sk_X509_value(list, i);
        if (holds(path, other) || !issued(other, cert)) continue;
        if (!is_root(other)) return other;
        if (!found) found = other;
    }
    return found;
}

int sr_chain_order(const STACK_OF(X509) * certs, STACK_OF(X509) * *ret_path,
                   STACK_OF(X509) * *ret_unused, sr_err *err) {
    STACK_OF(X509) *list = sk_X509_new_null(), *path = sk_X509_new_null();
    STACK_OF(X509) *unused = sk_X509_new_null();
    int rc = list && path && unused ? 0 : no_memory(err);
    if (rc == 0 && sk_X509_num(certs) > SR_CHAIN_MAX)
        rc = sr_fail(err, SR_LIMIT, "TOO_MANY", "a chain of %d certificates; at most %d",
                     sk_X509_num(certs), SR_CHAIN_MAX);
    for (int i = 0; rc == 0 && i < sk_X509_num(certs); i++)
        if (!holds(list, sk_X509_value(certs, i)) &&
            put(list, sk_X509_value(certs, i)) < 0)
            rc = no_memory(err);
    X509 *cert = rc == 0 ? find_leaf(list) : NULL;
    while (rc == 0 && cert) {
        rc = put(path, cert) < 0 ? no_memory(err) : 0;
        cert = is_root(cert) ? NULL : find_issuer(list, path, cert);
    }
    for (int i = 0; rc == 0 && i < sk_X509_num(list); i++)
        if (!holds(path, sk_X509_value(list, i)) &&
            put(unused, sk_X509_value(list, i)) < 0)
            rc = no_memory(err);
    sk_X509_pop_free(list, X509_free);
    if (rc < 0) {
        sk_X509_pop_free(path, X509_free);
        sk_X509_pop_free(unused, X509_free);
        return -1;
    }
    *ret_path = path;
    *ret_unused = unused;
    return 0;
}

/* ---------------------------------------------------------------- the system's roots */

static struct {
    pthread_mutex_t lock;
    X509_STORE *store;
    struct timespec changed;
} roots = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct timespec roots_changed(void) {
    struct stat st;
    const char *path = getenv(X509_get_default_cert_file_env());
    if (stat(path ? path : X509_get_default_cert_file(), &st) < 0)
        return (struct timespec){0};
    return st.st_mtim;
}

static X509_STORE *system_roots(void) {
    pthread_mutex_lock(&roots.lock);
    struct timespec changed = roots_changed();
    if (!roots.store || changed.tv_sec != roots.changed.tv_sec ||
        changed.tv_nsec != roots.changed.tv_nsec) {
        X509_STORE *fresh = X509_STORE_new();
        if (fresh && X509_STORE_set_default_paths(fresh) == 1) {
            X509_STORE_free(roots.store);
            roots.store = fresh;
            roots.changed = changed;
        } else
            X509_STORE_free(fresh);
    }
    X509_STORE *store = roots.store;
    if (store) X509_STORE_up_ref(store);
    pthread_mutex_unlock(&roots.lock);
    ERR_clear_error();
    return store;
}

static X509_STORE *store_of(const STACK_OF(X509) * anchors) {
    if (!anchors) return system_roots();
    X509_STORE *store = X509_STORE_new();
    for (int i = 0; store && i < sk_X509_num(anchors); i++)
        if (X509_STORE_add_cert(store, sk_X509_value(anchors, i)) != 1) {
            X509_STORE_free(store);
            store = NULL;
        }
    return store;
}

/* ---------------------------------------------------------------- verdicts */

#define V(name) X509_V_ERR_##name, "X509_V_ERR_" #name

static const struct verdict {
    int error;
    const char *code;
    const char *mend; /* NULL: none beyond what OpenSSL says */
} verdicts[] = {
    {V(UNABLE_TO_GET_ISSUER_CERT), "add the missing certificate to chain"},
    {V(UNABLE_TO_GET_ISSUER_CERT_LOCALLY),
     "add the missing intermediate to chain, or its root to roots"},
    {V(UNABLE_TO_VERIFY_LEAF_SIGNATURE),
     "add the missing intermediate to chain, or its root to roots"},
    {V(UNABLE_TO_GET_CRL), "add the list of its issuer to crls"},
    {V(UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY), NULL},
    {V(CERT_SIGNATURE_FAILURE), "it was altered, or another key signed it"},
    {V(CRL_SIGNATURE_FAILURE), "fetch the list again"},
    {V(CERT_NOT_YET_VALID), "wait, or set the clock right"},
    {V(CERT_HAS_EXPIRED), "renew it"},
    {V(CRL_NOT_YET_VALID), "set the clock right"},
    {V(CRL_HAS_EXPIRED), "fetch a newer list"},
    {V(ERROR_IN_CERT_NOT_BEFORE_FIELD), NULL},
    {V(ERROR_IN_CERT_NOT_AFTER_FIELD), NULL},
    {V(DEPTH_ZERO_SELF_SIGNED_CERT), "add it to roots if you trust it"},
    {V(SELF_SIGNED_CERT_IN_CHAIN), "add its root to roots if you trust it"},
    {V(CERT_CHAIN_TOO_LONG), NULL},
    {V(CERT_REVOKED), "request a new one with a new key"},
    {V(INVALID_CA), "its issuer is no CA; fix chain"},
    {V(PATH_LENGTH_EXCEEDED), "the CA may not issue so deep a chain"},
    {V(INVALID_PURPOSE), "ask for a certificate with the right extended key usage"},
    {V(CERT_UNTRUSTED), NULL},
    {V(CERT_REJECTED), NULL},
    {V(UNHANDLED_CRITICAL_EXTENSION), "it needs software that knows the extension"},
    {V(KEYUSAGE_NO_CERTSIGN), "its issuer may not sign certificates"},
    {V(INVALID_NON_CA), NULL},
    {V(INVALID_EXTENSION), NULL},
    {V(PERMITTED_VIOLATION), "the CA is constrained to other names"},
    {V(EXCLUDED_VIOLATION), "the CA is forbidden these names"},
    {V(DIFFERENT_CRL_SCOPE), NULL},
    {V(HOSTNAME_MISMATCH), NULL},
    {V(EE_KEY_TOO_SMALL), "make a larger key"},
    {V(CA_KEY_TOO_SMALL), "use a CA with a larger key"},
    {V(CA_MD_TOO_WEAK), "it is signed with a broken digest; have it issued again"},
    {V(NO_ISSUER_PUBLIC_KEY), NULL},
    {V(SIGNATURE_ALGORITHM_MISMATCH), NULL},
};

static void date(const ASN1_TIME *time, char *buf, size_t size) {
    struct tm tm;
    *buf = '\0';
    if (time && ASN1_TIME_to_tm(time, &tm) == 1)
        strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* What is wrong, in the certificate's own terms. */
static void explain(int error, X509 *cert, char *buf, size_t size) {
    char text[200];
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        date(X509_get0_notAfter(cert), text, sizeof text);
        snprintf(buf, size, "expired at %s", text);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        date(X509_get0_notBefore(cert), text, sizeof text);
        snprintf(buf, size, "is not valid before %s", text);
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        sr_dn_text(X509_get_issuer_name(cert), text, sizeof text);
        snprintf(buf, size, "its issuer \"%s\" is missing", text);
        break;
    default: snprintf(buf, size, "%s", X509_verify_cert_error_string(error));
    }
}

static int refuse(sr_err *err, int error, X509 *cert, const char *why) {
    char name[200] = "", text[260], code[32];
    const char *symbol = NULL, *mend = NULL;
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++)
        if (verdicts[i].error == error) {
            symbol = verdicts[i].code;
            mend = verdicts[i].mend;
        }
    snprintf(code, sizeof code, "X509_V_ERR_%d", error);
    if (cert) sr_dn_text(X509_get_subject_name(cert), name, sizeof name);
    if (why || !cert)
        snprintf(text, sizeof text, "%s",
                 why ? why : X509_verify_cert_error_string(error));
    else
        explain(error, cert, text, sizeof text);
    ERR_clear_error();
    return sr_fail(err, SR_TLS, symbol ? symbol : code, "certificate \"%s\": %s%s%s",
                   *name ? name : "(no subject)", text, mend ? "; " : "",
                   mend ? mend : "");
}

/* ---------------------------------------------------------------- verification */

/* Lists are wanted for the leaf, and used for its issuers where there are any. */
static int on_verdict(int good, X509_STORE_CTX *ctx) {
    if (good || X509_STORE_CTX_get_error(ctx) != X509_V_ERR_UNABLE_TO_GET_CRL ||
        X509_STORE_CTX_get_error_depth(ctx) == 0)
        return good;
    X509_STORE_CTX_set_error(ctx, X509_V_OK);
    return 1;
}

static int set_purpose(X509_VERIFY_PARAM *param, const char *purpose, sr_err *err) {
    if (strcmp(purpose, "any") == 0) return 0;
    if (strcmp(purpose, "server") == 0)
        X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
    else if (strcmp(purpose, "client") == 0)
        X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_CLIENT);
    else
        return sr_fail(err, SR_USAGE, NULL,
                       "purpose \"%.40s\" is not one of server, client, any", purpose);
    return 0;
}

static int prepare(X509_STORE_CTX *ctx, const sr_verify_spec *spec, sr_err *err) {
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    unsigned long flags = 0;
    X509_VERIFY_PARAM_set_time(param, (time_t)spec->at);
    X509_VERIFY_PARAM_set_auth_level(param, 1);
    if (spec->roots)
        flags |= X509_V_FLAG_PARTIAL_CHAIN; /* an anchor need not be a root */
    if (spec->crls) {
        flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
        X509_STORE_CTX_set0_crls(ctx, (STACK_OF(X509_CRL) *)(uintptr_t)spec->crls);
    }
    X509_VERIFY_PARAM_set_flags(param, flags);
    X509_STORE_CTX_set_verify_cb(ctx, on_verdict);
    return set_purpose(param, spec->purpose, err);
}

static int check_name(const sr_verify_spec *spec, sr_err *err) {
    sr_cert_info info;
    char why[256];
    size_t used;
    if (!spec->name) return 0;
    if (sr_cert_info_read(spec->cert, &info, err) < 0) return -1;
    int rc = 0;
    if (!sr_sans_cover(&info.sans, spec->name)) {
        used = (size_t)snprintf(why, sizeof why, "does not cover \"%.100s\", but",
                                spec->name);
        for (size_t i = 0; i < info.sans.count && i < 5 && used < sizeof why; i++)
            used += (size_t)snprintf(why + used, sizeof why - used, "%s %.60s",
                                     i ? "," : "", info.sans.items[i].value);
        if (used < sizeof why)
            snprintf(why + used, sizeof why - used, "%s",
                     info.sans.count == 0  ? " has no names"
                     : info.sans.count > 5 ? ", …"
                                           : "");
        rc = refuse(err, X509_V_ERR_HOSTNAME_MISMATCH, spec->cert, why);
    }
    sr_cert_info_free(&info);
    return rc;
}

int sr_chain_verify(const sr_verify_spec *spec, STACK_OF(X509) * *ret_path, sr_err *err) {
    int rc = -1;
    ERR_clear_error();
    if (sr_pki_check_time(spec->at, err) < 0) return -1;
    if (spec->chain && sk_X509_num(spec->chain) > SR_CHAIN_MAX)
        return sr_fail(err, SR_LIMIT, "TOO_MANY",
                       "a chain of %d certificates; at most %d", sk_X509_num(spec->chain),
                       SR_CHAIN_MAX);
    X509_STORE *store = store_of(spec->roots);
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (!store || !ctx ||
        X509_STORE_CTX_init(ctx, store, spec->cert,
                            (STACK_OF(X509) *)(uintptr_t)spec->chain) != 1) {
        sr_pki_fail(err, SR_INTERNAL, NULL, "the trust store cannot be set up");
        goto out;
    }
    if (prepare(ctx, spec, err) < 0) goto out;
    if (X509_verify_cert(ctx) != 1) {
        int error = X509_STORE_CTX_get_error(ctx);
        X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
        refuse(err, error ? error : X509_V_ERR_UNSPECIFIED, cert ? cert : spec->cert,
               NULL);
        goto out;
    }
    if (check_name(spec, err) < 0) goto out;
    STACK_OF(X509) *path = X509_STORE_CTX_get1_chain(ctx);
    if (!path) {
        no_memory(err);
        goto out;
    }
    *ret_path = path;
    rc = 0;
out:
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return rc;
}
