/* http_ca.c – CA sets and client certificates of the HTTP client; see http_ca.h.
 *
 * Debian's libcurl parses the whole CA bundle again for every connection unless it is
 * told nothing about CAs at all. So it is told nothing: the set is an X509_STORE of ours,
 * made once, and put into each SSL_CTX by CURLOPT_SSL_CTX_FUNCTION.
 *
 * Interning: a set's key is the text of its sources, where a path stands for its device,
 * inode, size and time of change and PEM text for its SHA-256. Entries that nobody uses
 * stay until there are more than KEPT of them; the oldest goes first.
 */
#include "net/http_ca.h"
#include "data/encoding.h"
#include "net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

enum { KEPT = 16, BIGGEST_FILE = 16 << 20 };

/* What both kinds share; first member of each. */
struct entry {
    struct entry *next;
    char *key;
    unsigned refs; /* the cache holds one */
    void (*free)(struct entry *entry);
};

struct sr_http_ca {
    struct entry entry;
    X509_STORE *store;
    char label[128];
};

struct sr_http_identity {
    struct entry entry;
    X509 *cert;
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
};

/* ---------------------------------------------------------------- the cache */

static const char cache_key; /* its address names our slot */

static void unref(struct entry *entry) {
    if (!entry || --entry->refs) return;
    free(entry->key);
    entry->free(entry);
}

static void close_cache(void *arg) {
    struct entry **slot = arg, *entry = *slot;
    while (entry) {
        struct entry *next = entry->next;
        unref(entry);
        entry = next;
    }
    free(slot);
}

/* The head of the loop's list; NULL without memory. */
static struct entry **cache_of(sr_loop *loop) {
    void **slot = sr_loop_slot(loop, &cache_key);
    if (!*slot) {
        *slot = calloc(1, sizeof(struct entry *));
        if (*slot) sr_at_loop_close(loop, close_cache, *slot);
    }
    return *slot;
}

/* The entry of that key moved to the front, or NULL. */
static struct entry *cache_find(struct entry **head, const char *key) {
    for (struct entry **at = head; *at; at = &(*at)->next) {
        struct entry *entry = *at;
        if (strcmp(entry->key, key) != 0) continue;
        *at = entry->next;
        entry->next = *head;
        *head = entry;
        return entry;
    }
    return NULL;
}

/* Put a new entry in front and drop what is old and unused. */
static void cache_put(struct entry **head, struct entry *entry) {
    entry->refs++;
    entry->next = *head;
    *head = entry;
    int seen = 0;
    for (struct entry **at = head; *at;) {
        struct entry *old = *at;
        if (++seen <= KEPT || old->refs > 1) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        unref(old);
    }
}

/* ---------------------------------------------------------------- sources */

static bool is_pem(const char *text) {
    return strstr(text, "-----BEGIN ") != NULL;
}

static bool is_folder(const char *source) {
    struct stat st;
    return !is_pem(source) && stat(source, &st) == 0 && S_ISDIR(st.st_mode);
}

static void hex_digest(const void *data, size_t len, sr_buf *out) {
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_Digest(data, len, sum, &size, EVP_sha256(), NULL);
    sr_err err;
    (void)sr_hex_encode(out, sum, size, &err); /* without memory out->oom is set */
}

/* Add to the key what changes when the source does. */
static int source_key(const char *source, sr_buf *key, sr_err *err) {
    if (is_pem(source)) {
        sr_buf_puts(key, "pem ");
        hex_digest(source, strlen(source), key);
        sr_buf_puts(key, "\n");
        return 0; /* the caller looks at key->oom */
    }
    struct stat st;
    if (stat(source, &st) < 0)
        return sr_fail_errno(err, errno, "%.200s (ca, cert or key): cannot be read",
                             source);
    sr_buf_printf(key, "%s %ju.%ju.%jd.%jd.%09ld\n", source, (uintmax_t)st.st_dev,
                  (uintmax_t)st.st_ino, (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec,
                  st.st_mtim.tv_nsec);
    return 0;
}

static int read_all(int fd, sr_buf *out) {
    for (;;) {
        char *to = sr_buf_reserve(out, 16384);
        if (!to) return ENOMEM;
        ssize_t got = read(fd, to, 16384);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return 0;
        out->len += (size_t)got;
        out->data[out->len] = '\0';
        if (out->len > BIGGEST_FILE) return EFBIG;
    }
}

/* The PEM text of a source: itself, or the file it names. */
static int source_text(const char *source, sr_buf *out, sr_err *err) {
    if (is_pem(source))
        return sr_buf_puts(out, source) < 0
                   ? sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a certificate")
                   : 0;
    int fd = open(source, O_RDONLY | O_CLOEXEC);
    int problem = fd < 0 ? errno : read_all(fd, out);
    if (fd >= 0) close(fd);
    if (!problem) return 0;
    return sr_fail_errno(err, problem, "%.200s (ca, cert or key): cannot be read",
                         source);
}

/* How a source shows in messages. */
static const char *shown(const char *source) {
    return is_pem(source) ? "the PEM text given" : source;
}

/* ---------------------------------------------------------------- CA sets */

/* Add every certificate and CRL of a PEM text; the number of certificates or -1. */
static int add_pem(X509_STORE *store, const char *text, size_t len) {
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    STACK_OF(X509_INFO) *list =
        bio ? PEM_X509_INFO_read_bio(bio, NULL, NULL, NULL) : NULL;
    int count = list ? 0 : -1;
    for (int i = 0; list && i < sk_X509_INFO_num(list); i++) {
        X509_INFO *info = sk_X509_INFO_value(list, i);
        if (info->x509 && X509_STORE_add_cert(store, info->x509)) count++;
        if (info->crl) X509_STORE_add_crl(store, info->crl);
    }
    sk_X509_INFO_pop_free(list, X509_INFO_free);
    BIO_free(bio);
    ERR_clear_error();
    return count;
}

static int add_source(X509_STORE *store, const char *source, sr_err *err) {
    if (is_folder(source)) {
        X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_hash_dir());
        if (lookup && X509_LOOKUP_add_dir(lookup, source, X509_FILETYPE_PEM)) return 0;
        return sr_fail(err, SR_USAGE, "BAD_CA", "%.200s (ca): not a folder of CAs",
                       source);
    }
    sr_buf text = {0};
    int rc = source_text(source, &text, err);
    if (rc == 0 && add_pem(store, text.data ? text.data : "", text.len) < 1)
        rc = sr_fail(
            err, SR_USAGE, "BAD_CA",
            "%.200s (ca): no PEM certificate in it; expected -----BEGIN CERTIFICATE",
            shown(source));
    sr_buf_free(&text);
    return rc;
}

/* Where distributions keep the bundle; the environment comes first, as in OpenSSL. */
static const char *system_bundle(void) {
    static const char *const places[] = {"/etc/ssl/certs/ca-certificates.crt",
                                         "/etc/pki/tls/certs/ca-bundle.crt",
                                         "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
    const char *given = getenv(X509_get_default_cert_file_env());
    if (!given) given = getenv(X509_get_default_cert_dir_env());
    if (given && *given) return given;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (access(places[i], R_OK) == 0) return places[i];
    return X509_get_default_cert_dir();
}

static void free_ca(struct entry *entry) {
    sr_http_ca *ca = (sr_http_ca *)entry;
    X509_STORE_free(ca->store);
    free(ca);
}

/* One file or text: the store that TLS connections of ours use too, so that the system's
 * bundle is parsed once in the process. */
static X509_STORE *shared_store(const char *source, sr_err *err) {
    if (strcmp(source, system_bundle()) == 0) return sr_tls_trust_system(err);
    if (is_pem(source)) return sr_tls_trust_pem(source, strlen(source), err);
    return sr_tls_trust_file(source, err);
}

/* Several sources, or a folder. */
static X509_STORE *own_store(const char *const *paths, size_t count, sr_err *err) {
    X509_STORE *store = X509_STORE_new();
    int rc = store ? 0 : sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a CA set");
    /* an intermediate that somebody names as trusted is trusted */
    if (rc == 0) X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = add_source(store, paths[i], err);
    if (rc == 0) return store;
    X509_STORE_free(store);
    return NULL;
}

static int make_ca(const char *const *paths, size_t count, sr_http_ca **ret_ca,
                   sr_err *err) {
    sr_http_ca *ca = calloc(1, sizeof *ca);
    if (!ca) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a CA set");
    ca->entry.refs = 1;
    ca->entry.free = free_ca;
    bool alone = count == 1 && !is_folder(paths[0]);
    ca->store = alone ? shared_store(paths[0], err) : own_store(paths, count, err);
    if (ca->store) {
        *ret_ca = ca;
        return 0;
    }
    free(ca);
    return -1;
}

static void label_ca(sr_http_ca *ca, const char *const *sources, size_t count) {
    if (strcmp(sources[0], "system") == 0 && count == 1)
        snprintf(ca->label, sizeof ca->label, "the system's CA set");
    else
        snprintf(ca->label, sizeof ca->label, "the CA set from %.90s%s",
                 shown(sources[0]), count > 1 ? " and others" : "");
}

enum { MOST_SOURCES = 64 };

int sr_http_ca_get(sr_loop *loop, const char *const *sources, size_t count,
                   sr_http_ca **ret_ca, sr_err *err) {
    const char *paths[MOST_SOURCES];
    if (count < 1 || count > MOST_SOURCES)
        return sr_fail(err, SR_USAGE, "BAD_CA", "ca: expected 1 to %d sources, got %zu",
                       MOST_SOURCES, count);
    sr_buf key = {0};
    sr_http_ca *ca = NULL;
    int rc = 0;
    sr_buf_puts(&key, "ca\n");
    for (size_t i = 0; i < count && rc == 0; i++) {
        paths[i] = strcmp(sources[i], "system") == 0 ? system_bundle() : sources[i];
        rc = source_key(paths[i], &key, err);
    }
    if (rc < 0) goto out;
    struct entry **cache = cache_of(loop);
    if (!cache || key.oom) {
        rc = sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a CA set");
        goto out;
    }
    ca = (sr_http_ca *)cache_find(cache, key.data);
    if (ca) {
        ca->entry.refs++;
        goto out;
    }
    rc = make_ca(paths, count, &ca, err);
    if (rc < 0) goto out;
    label_ca(ca, sources, count);
    ca->entry.key = key.data;
    key = (sr_buf){0};
    cache_put(cache, &ca->entry);
out:
    sr_buf_free(&key);
    if (rc == 0) *ret_ca = ca;
    return rc;
}

void sr_http_ca_ref(sr_http_ca *ca) {
    ca->entry.refs++;
}

void sr_http_ca_unref(sr_http_ca *ca) {
    unref(ca ? &ca->entry : NULL);
}

const char *sr_http_ca_label(const sr_http_ca *ca) {
    return ca->label;
}

int sr_http_ca_install(const sr_http_ca *ca, SSL_CTX *ctx, double now) {
    SSL_CTX_set1_cert_store(ctx, ca->store);
    X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(ctx), (time_t)now);
    return 0;
}

/* ---------------------------------------------------------------- client certificates */

static void free_identity(struct entry *entry) {
    sr_http_identity *id = (sr_http_identity *)entry;
    X509_free(id->cert);
    sk_X509_pop_free(id->chain, X509_free);
    EVP_PKEY_free(id->key);
    free(id);
}

/* Answers OpenSSL's question for a pass phrase; without one it must not ask a terminal.
 */
static int give_password(char *buf, int size, int rw, void *arg) {
    (void)rw;
    const char *password = arg;
    int len = password ? (int)strlen(password) : -1;
    if (len < 0 || len > size) return -1;
    memcpy(buf, password, (size_t)len);
    return len;
}

static int read_certs(sr_http_identity *id, const sr_buf *text) {
    BIO *bio = BIO_new_mem_buf(text->data, (int)text->len);
    if (!bio) return -1;
    id->cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    id->chain = sk_X509_new_null();
    X509 *next;
    while (id->cert && id->chain && (next = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        if (!sk_X509_push(id->chain, next)) X509_free(next);
    BIO_free(bio);
    ERR_clear_error();
    return id->cert && id->chain ? 0 : -1;
}

static int read_key(sr_http_identity *id, const sr_buf *text, const char *password) {
    BIO *bio = BIO_new_mem_buf(text->data, (int)text->len);
    if (bio)
        id->key = PEM_read_bio_PrivateKey(bio, NULL, give_password, (void *)password);
    BIO_free(bio);
    ERR_clear_error();
    return id->key ? 0 : -1;
}

/* The material of an identity, read. */
struct material {
    sr_buf cert, key;
    const char *password;
    EVP_PKEY *pkey;
};

static int take_key(sr_http_identity *id, const struct material *m) {
    if (!m->pkey) return m->key.len ? read_key(id, &m->key, m->password) : -1;
    if (!EVP_PKEY_up_ref(m->pkey)) return -1;
    id->key = m->pkey;
    return 0;
}

static int fill_identity(sr_http_identity *id, const struct material *m, sr_err *err) {
    if (!m->cert.len || read_certs(id, &m->cert) < 0)
        return sr_fail(err, SR_USAGE, "BAD_CERT", "cert: no PEM certificate in it");
    if (take_key(id, m) < 0)
        return sr_fail(err, SR_USAGE, "BAD_KEY", "key: no PEM private key that %s",
                       m->password ? "key_password opens" : "opens without key_password");
    if (X509_check_private_key(id->cert, id->key) == 1) return 0;
    ERR_clear_error();
    return sr_fail(
        err, SR_USAGE, "KEY_MISMATCH",
        "cert and key do not belong together; the certificate must come first");
}

/* SHA-256 over everything that goes in, so that a changed file is a new identity. */
static int identity_key(const struct material *m, sr_buf *out) {
    sr_buf all = {.secret = true};
    unsigned char *der = NULL;
    sr_buf_append(&all, m->cert.data, m->cert.len);
    sr_buf_append(&all, "", 1);
    sr_buf_append(&all, m->key.data, m->key.len);
    sr_buf_append(&all, "", 1);
    sr_buf_puts(&all, m->password ? m->password : "");
    int len = m->pkey ? i2d_PUBKEY(m->pkey, &der) : 0;
    if (len > 0) sr_buf_append(&all, der, (size_t)len);
    OPENSSL_free(der);
    sr_buf_puts(out, "id ");
    hex_digest(all.data, all.len, out);
    int rc = all.oom || out->oom || len < 0 ? -1 : 0;
    sr_buf_free(&all);
    return rc;
}

static int make_identity(struct entry **cache, const struct material *m,
                         sr_http_identity **ret_identity, sr_err *err) {
    sr_buf name = {0};
    int rc = identity_key(m, &name);
    sr_http_identity *id = NULL;
    if (rc < 0 || !cache) {
        rc = sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a certificate");
        goto out;
    }
    id = (sr_http_identity *)cache_find(cache, name.data);
    if (id) {
        id->entry.refs++;
        goto out;
    }
    id = calloc(1, sizeof *id);
    rc = id ? fill_identity(id, m, err)
            : sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a certificate");
    if (rc < 0) {
        if (id) free_identity(&id->entry);
        goto out;
    }
    id->entry = (struct entry){NULL, name.data, 1, free_identity};
    name = (sr_buf){0};
    cache_put(cache, &id->entry);
out:
    sr_buf_free(&name);
    if (rc == 0) *ret_identity = id;
    return rc;
}

int sr_http_identity_get(sr_loop *loop, const sr_http_identity_source *source,
                         sr_http_identity **ret_identity, sr_err *err) {
    struct material m = {
        {.secret = true}, {.secret = true}, source->password, source->pkey};
    const char *key = source->key ? source->key : source->cert;
    int rc = source_text(source->cert, &m.cert, err);
    if (rc == 0 && !m.pkey) rc = source_text(key, &m.key, err);
    if (rc == 0) rc = make_identity(cache_of(loop), &m, ret_identity, err);
    sr_buf_free(&m.cert);
    sr_buf_free(&m.key);
    return rc;
}

void sr_http_identity_ref(sr_http_identity *identity) {
    identity->entry.refs++;
}

void sr_http_identity_unref(sr_http_identity *identity) {
    unref(identity ? &identity->entry : NULL);
}

int sr_http_identity_install(const sr_http_identity *identity, SSL_CTX *ctx) {
    bool ok = SSL_CTX_use_certificate(ctx, identity->cert) == 1 &&
              SSL_CTX_use_PrivateKey(ctx, identity->key) == 1 &&
              SSL_CTX_set1_chain(ctx, identity->chain) == 1;
    ERR_clear_error();
    return ok ? 0 : -1;
}
