/* tls_trust.c – CA sets: parsed once, shared by every connection that verifies.
 *
 * Parsing the system's bundle costs some 25 ms and a megabyte, so a set is kept under the
 * SHA-256 of its text (given as PEM) or under its path with inode, size and mtime (a
 * file; replaced when the file changed). The list is short and kept in order of use;
 * beyond TRUST_KEPT the oldest goes. Connections hold references of their own.
 */
#include "tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

enum { TRUST_KEPT = 16, KEY_SIZE = 4200 };

typedef struct trust {
    struct trust *next;
    char *key;        /* "file:PATH" or "pem:HEX" */
    struct stat seen; /* of a file */
    X509_STORE *store;
} trust;

static trust *kept; /* most recently used first */

static const char *const bundles[] = {"/etc/ssl/certs/ca-certificates.crt",
                                      "/etc/pki/tls/certs/ca-bundle.crt",
                                      "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void trust_free(trust *t) {
    X509_STORE_free(t->store);
    free(t->key);
    free(t);
}

/* The kept store under key, moved to the front; NULL if there is none or its file
 * changed. */
static X509_STORE *kept_find(const char *key, const struct stat *now) {
    for (trust **at = &kept; *at; at = &(*at)->next) {
        trust *t = *at;
        if (strcmp(t->key, key) != 0) continue;
        *at = t->next;
        if (now && !same_file(&t->seen, now)) {
            trust_free(t);
            return NULL;
        }
        t->next = kept;
        kept = t;
        X509_STORE_up_ref(t->store);
        return t->store;
    }
    return NULL;
}

/* Keep a store; without memory it just is not kept. */
static void kept_add(const char *key, const struct stat *seen, X509_STORE *store) {
    trust *t = calloc(1, sizeof *t);
    if (!t) return;
    t->key = strdup(key);
    if (!t->key) {
        free(t);
        return;
    }
    if (seen) t->seen = *seen;
    X509_STORE_up_ref(store);
    t->store = store;
    t->next = kept;
    kept = t;
    trust **at = &kept;
    for (int i = 0; *at && i < TRUST_KEPT; i++)
        at = &(*at)->next;
    while (*at) {
        trust *old = *at;
        *at = old->next;
        trust_free(old);
    }
}

/* Read every certificate of a BIO into a new store; what names the source in errors. */
static X509_STORE *read_store(BIO *bio, const char *what, sr_err *err) {
    X509_STORE *store = X509_STORE_new();
    int count = 0;
    if (!store) {
        sr_fail(err, SR_INTERNAL, NULL, "no memory for the CA set %s", what);
        return NULL;
    }
    for (X509 *cert; (cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, (void *)""));
         count++) {
        int ok = X509_STORE_add_cert(store, cert);
        X509_free(cert);
        if (!ok) goto broken;
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) goto broken;
    ERR_clear_error();
    if (count > 0) return store;
    sr_fail(err, SR_USAGE, NULL,
            "%s holds no PEM certificate; expected -----BEGIN CERTIFICATE-----", what);
    goto fail;
broken:
    sr_fail(err, SR_USAGE, NULL, "certificate %d of %s is broken; replace it", count + 1,
            what);
fail:
    ERR_clear_error();
    X509_STORE_free(store);
    return NULL;
}

X509_STORE *sr_tls_trust_file(const char *path, sr_err *err) {
    char key[KEY_SIZE];
    struct stat now;
    X509_STORE *store;
    if (stat(path, &now) != 0) {
        sr_fail_errno(err, errno, "cannot read the CA file %s", path);
        return NULL;
    }
    snprintf(key, sizeof key, "file:%s", path);
    store = kept_find(key, &now);
    if (store) return store;
    ERR_clear_error();
    BIO *bio = BIO_new_file(path, "r");
    if (!bio) {
        int errnum = errno ? errno : EIO;
        ERR_clear_error();
        sr_fail_errno(err, errnum, "cannot read the CA file %s", path);
        return NULL;
    }
    store = read_store(bio, path, err);
    BIO_free(bio);
    if (store) {
        X509_VERIFY_PARAM_set_flags(X509_STORE_get0_param(store),
                                    X509_V_FLAG_PARTIAL_CHAIN);
        kept_add(key, &now, store);
    }
    return store;
}

X509_STORE *sr_tls_trust_pem(const char *pem, size_t len, sr_err *err) {
    char key[16 + 2 * EVP_MAX_MD_SIZE] = "pem:";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int digest_len = 0;
    if (len > INT_MAX || !EVP_Digest(pem, len, digest, &digest_len, EVP_sha256(), NULL)) {
        sr_fail(err, SR_LIMIT, NULL, "the CA certificates are too long");
        return NULL;
    }
    for (unsigned int i = 0; i < digest_len; i++)
        snprintf(key + 4 + (size_t)2 * i, 3, "%02x", digest[i]);
    X509_STORE *store = kept_find(key, NULL);
    if (store) return store;
    ERR_clear_error();
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    if (!bio) {
        sr_fail(err, SR_INTERNAL, NULL, "no memory for the CA certificates");
        return NULL;
    }
    store = read_store(bio, "the text given as ca", err);
    BIO_free(bio);
    if (store) {
        X509_VERIFY_PARAM_set_flags(X509_STORE_get0_param(store),
                                    X509_V_FLAG_PARTIAL_CHAIN);
        kept_add(key, NULL, store);
    }
    return store;
}

X509_STORE *sr_tls_trust_system(sr_err *err) {
    struct stat st;
    for (size_t i = 0; i < sizeof bundles / sizeof *bundles; i++)
        if (stat(bundles[i], &st) == 0) return sr_tls_trust_file(bundles[i], err);
    sr_fail(err, SR_NOT_FOUND, "ENOENT",
            "this system has no CA bundle at %s; install the package ca-certificates or "
            "give ca = …",
            bundles[0]);
    return NULL;
}
