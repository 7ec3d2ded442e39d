/* digest.c – hashes, HMAC, random bytes; the contract is digest.h, the module is
 * "digest".
 *
 * Everything is OpenSSL's. Hashing a string happens on the loop (a megabyte takes about a
 * millisecond); hashing a file is a job in the blocking lane.
 */
#include "data/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct algorithm {
    const char *name;
    const EVP_MD *(*md)(void);
} algorithm;

static const algorithm algorithms[] = {{"sha256", EVP_sha256},
                                       {"sha384", EVP_sha384},
                                       {"sha512", EVP_sha512},
                                       {"sha1", EVP_sha1},
                                       {"md5", EVP_md5}};

static int find(const char *name, const algorithm **ret_alg, sr_err *err) {
    for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++) {
        if (strcmp(name, algorithms[i].name) != 0) continue;
        *ret_alg = &algorithms[i];
        return 0;
    }
    return sr_fail(err, SR_USAGE, NULL,
                   "unknown digest \"%s\": use sha256, sha384, sha512, sha1 or md5",
                   name);
}

static int library_failed(const char *alg, sr_err *err) {
    return sr_fail(err, SR_INTERNAL, "OPENSSL", "the cryptographic library refuses %s",
                   alg);
}

const char *sr_digest_known(const char *alg, sr_err *err) {
    const algorithm *use;
    return find(alg, &use, err) ? NULL : use->name;
}

int sr_digest_data(const char *alg, const void *data, size_t len, sr_digest *ret_digest,
                   sr_err *err) {
    const algorithm *use;
    sr_digest d;
    unsigned n = 0;
    if (find(alg, &use, err)) return -1;
    if (EVP_Digest(data, len, d.bytes, &n, use->md(), NULL) != 1)
        return library_failed(alg, err);
    d.len = n;
    *ret_digest = d;
    return 0;
}

int sr_hmac(const char *alg, const void *key, size_t key_len, const void *data,
            size_t len, sr_digest *ret_digest, sr_err *err) {
    const algorithm *use;
    sr_digest d;
    unsigned n = 0;
    if (find(alg, &use, err)) return -1;
    if (key_len == 0 || key_len > INT_MAX)
        return sr_fail(err, SR_USAGE, NULL, "HMAC needs a key that is not empty");
    if (!HMAC(use->md(), key, (int)key_len, data, len, d.bytes, &n))
        return library_failed(alg, err);
    d.len = n;
    *ret_digest = d;
    return 0;
}

int sr_random(void *ret_bytes, size_t len, sr_err *err) {
    if (len > INT_MAX || RAND_bytes(ret_bytes, (int)len) != 1)
        return sr_fail(err, SR_INTERNAL, "OPENSSL", "no random bytes to be had");
    return 0;
}

bool sr_equal(const void *a, size_t a_len, const void *b, size_t b_len) {
    return a_len == b_len && (a_len == 0 || CRYPTO_memcmp(a, b, a_len) == 0);
}

static int open_regular(const char *path, int *ret_fd, sr_err *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int saved = errno;
        if (fd >= 0) close(fd);
        return sr_fail_errno(err, saved, "cannot open %s to hash it", path);
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return sr_fail(err, SR_USAGE, NULL, "cannot hash %s: it is not a regular file",
                       path);
    }
    *ret_fd = fd;
    return 0;
}

static int hash_fd(int fd, const char *path, EVP_MD_CTX *ctx, const volatile bool *stop,
                   sr_err *err) {
    unsigned char piece[32768];
    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return sr_fail_errno(err, errno, "cannot read %s to hash it", path);
        if (n == 0) return 0;
        if (EVP_DigestUpdate(ctx, piece, (size_t)n) != 1)
            return library_failed(path, err);
        if (stop && *stop)
            return sr_fail(err, SR_CANCELLED, NULL, "hashing was cancelled");
    }
}

int sr_digest_file(const char *path, const char *alg, const volatile bool *stop,
                   sr_digest *ret_digest, sr_err *err) {
    EVP_MD_CTX *ctx = NULL;
    const algorithm *use;
    sr_digest d;
    unsigned n = 0;
    int fd = -1, rc = -1;
    if (find(alg, &use, err) || open_regular(path, &fd, err)) return -1;
    if (!(ctx = EVP_MD_CTX_new()) || EVP_DigestInit_ex(ctx, use->md(), NULL) != 1) {
        (void)library_failed(alg, err);
        goto out;
    }
    if (hash_fd(fd, path, ctx, stop, err)) goto out;
    if (EVP_DigestFinal_ex(ctx, d.bytes, &n) != 1) {
        (void)library_failed(alg, err);
        goto out;
    }
    d.len = n;
    *ret_digest = d;
    rc = 0;
out:
    EVP_MD_CTX_free(ctx);
    close(fd);
    return rc;
}
