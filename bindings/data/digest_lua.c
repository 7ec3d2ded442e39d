/* digest_lua.c – the module "digest".
 *
 * Hashing a string happens on the loop (a megabyte takes about a millisecond); hashing a
 * file is a job in the blocking lane.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/digest.h"
#include "open.h"
#include "sys/fs.h"

#define RANDOM_MAX 65536

static int push(lua_State *L, const sr_digest *d) {
    lua_pushlstring(L, (const char *)d->bytes, d->len);
    return 1;
}

static int hash(lua_State *L, const char *alg) {
    sr_err err = {0};
    sr_digest d;
    size_t len;
    const char *data = sr_check_secret(L, 1, &len);
    if (sr_digest_data(alg, data, len, &d, &err)) return sr_throw(L, &err);
    return push(L, &d);
}

/* digest.sha256(data) and its sisters → raw bytes; data is a string or a secret. */
static int l_sha256(lua_State *L) {
    return hash(L, "sha256");
}
static int l_sha384(lua_State *L) {
    return hash(L, "sha384");
}
static int l_sha512(lua_State *L) {
    return hash(L, "sha512");
}
static int l_sha1(lua_State *L) {
    return hash(L, "sha1");
}
static int l_md5(lua_State *L) {
    return hash(L, "md5");
}

/* digest.hmac(alg, key, data) → raw bytes; key and data are strings or secrets. */
static int l_hmac(lua_State *L) {
    sr_err err = {0};
    sr_digest d;
    size_t key_len, len;
    const char *alg = luaL_checkstring(L, 1);
    const char *key = sr_check_secret(L, 2, &key_len);
    const char *data = sr_check_secret(L, 3, &len);
    if (sr_hmac(alg, key, key_len, data, len, &d, &err)) return sr_throw(L, &err);
    return push(L, &d);
}

/* digest.equal(a, b) → boolean, in constant time; strings or secrets. */
static int l_equal(lua_State *L) {
    size_t a_len, b_len;
    const char *a = sr_check_secret(L, 1, &a_len);
    const char *b = sr_check_secret(L, 2, &b_len);
    lua_pushboolean(L, sr_equal(a, a_len, b, b_len));
    return 1;
}

/* digest.hex(bytes) → lower-case hex. */
static int l_hex(lua_State *L) {
    static const char digits[] = "0123456789abcdef";
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    luaL_Buffer b;
    char *p = luaL_buffinitsize(L, &b, len * 2);
    for (size_t i = 0; i < len; i++) {
        p[2 * i] = digits[(unsigned char)data[i] >> 4];
        p[2 * i + 1] = digits[(unsigned char)data[i] & 15];
    }
    luaL_pushresultsize(&b, len * 2);
    return 1;
}

/* digest.random(n) → n random bytes, 1 to 65536. */
static int l_random(lua_State *L) {
    sr_err err = {0};
    lua_Integer n = luaL_checkinteger(L, 1);
    if (n < 1 || n > RANDOM_MAX)
        return sr_raise(L, SR_USAGE, NULL, "digest.random expects 1 to %d, got %lld",
                        RANDOM_MAX, (long long)n);
    luaL_Buffer b;
    char *p = luaL_buffinitsize(L, &b, (size_t)n);
    if (sr_random(p, (size_t)n, &err)) return sr_throw(L, &err);
    luaL_pushresultsize(&b, (size_t)n);
    return 1;
}

typedef struct file_job {
    sr_job job; /* first */
    char *path;
    const char *alg; /* static */
    volatile bool stop;
    sr_digest digest;
} file_job;

static void file_run(sr_job *job) {
    file_job *f = (file_job *)job;
    (void)sr_digest_file(f->path, f->alg, &f->stop, &f->digest, &job->err);
}

static int file_finish(lua_State *L, sr_op *op) {
    file_job *f = (file_job *)op;
    if (f->job.err.kind) return sr_throw(L, &f->job.err);
    return push(L, &f->digest);
}

static void file_cancel(sr_op *op) {
    ((file_job *)op)->stop = true;
}

static void file_free(sr_op *op) {
    file_job *f = (file_job *)op;
    free(f->path);
    free(f);
}

static void file_describe(const sr_op *op, char *buf, size_t size) {
    snprintf(buf, size, "hash %s", ((const file_job *)op)->path);
}

static const sr_op_class file_class = {.name = "digest.file",
                                       .finish = file_finish,
                                       .cancel = file_cancel,
                                       .free = file_free,
                                       .describe = file_describe};

/* digest.file(path, alg="sha256") → raw bytes; waits, off the loop. */
static int l_file(lua_State *L) {
    sr_err err = {0};
    const char *path = sr_fs_check_path(L, 1, "digest.file");
    const char *alg = sr_digest_known(luaL_optstring(L, 2, "sha256"), &err);
    if (!alg) return sr_throw(L, &err);
    sr_allow(L, SR_PERM_READ, path);
    sr_can_wait(L);
    file_job *f = calloc(1, sizeof *f);
    if (f) f->path = strdup(path);
    if (!f || !f->path) {
        free(f);
        return luaL_error(L, "not enough memory");
    }
    f->alg = alg;
    sr_op_init(&f->job.op, &file_class, sr_loop_of(L));
    sr_job_start(&f->job, SR_LANE_BLOCKING, file_run);
    return sr_wait(L, &f->job.op, SR_FOREVER);
}

static const luaL_Reg functions[] = {
    {"sha256", l_sha256}, {"sha384", l_sha384}, {"sha512", l_sha512}, {"sha1", l_sha1},
    {"md5", l_md5},       {"hmac", l_hmac},     {"equal", l_equal},   {"hex", l_hex},
    {"random", l_random}, {"file", l_file},     {NULL, NULL}};

int luaopen_digest(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
