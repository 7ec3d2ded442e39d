/* base.h – what pure code needs: failures, bytes, words. No Lua, no loop.
 *
 * Files that only parse and build documents (*_msg.c, jose.c, encoding.c …) include this
 * and not secrun.h, so that they can be tested and fuzzed alone; a check sees to it.
 */
#ifndef SR_BASE_H
#define SR_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SR_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define SR_NORETURN __attribute__((noreturn))
#else
#define SR_PRINTF(f, a)
#define SR_NORETURN
#endif

/* ---------------------------------------------------------------- errors (fail.c) */

/* Order is fixed: fail.c holds the names in the same order. */
typedef enum sr_kind {
    SR_NONE,
    SR_USAGE,        /* the caller's mistake: wrong type, unknown option, bad file */
    SR_TIMEOUT,      /* a deadline passed */
    SR_CANCELLED,    /* the task or its group was cancelled */
    SR_DNS,          /* a name could not be resolved */
    SR_CONNECT,      /* no connection */
    SR_TLS,          /* handshake or certificate verification failed */
    SR_HTTP,         /* an HTTP status that means failure */
    SR_PROTOCOL,     /* the peer broke its protocol or lied */
    SR_AUTH,         /* credentials refused */
    SR_DENIED,       /* a permission or a policy said no */
    SR_NOT_FOUND,    /* the named thing does not exist */
    SR_CONFLICT,     /* somebody else holds it or changed it */
    SR_RATE_LIMITED, /* asked too often */
    SR_PENDING,      /* not ready yet, will be */
    SR_LIMIT,        /* a bound of ours was hit */
    SR_STORE,        /* the database failed */
    SR_IO,           /* a file, a socket or a child process failed */
    SR_INTERNAL,     /* a defect, or a Lua error without a kind */
    SR_KINDS
} sr_kind;

/* A failure on its way through C. Zero-initialised means "none". */
typedef struct sr_err {
    sr_kind kind;
    int status;         /* HTTP or exit status, 0 if none */
    bool retryable;     /* the same call may succeed later */
    double retry_after; /* seconds, valid when has_retry_after */
    bool has_retry_after;
    char code[64];     /* native code: CURLE name, errno name, ACME URN … or "" */
    char op[96];       /* what was being done, "http GET https://…" or "" */
    char message[512]; /* one line: what failed, where, and the mend */
} sr_err;

const char *sr_kind_name(sr_kind kind);
/* SR_NONE when the name is not a kind. */
sr_kind sr_kind_of(const char *name);

/* Fill *err and give -1, so that `return sr_fail(err, …)` is one line (macros, so that
 * the compiler knows the -1). code may be NULL. Control characters in the formatted text
 * are replaced by '?'. */
static inline int sr_failure(void) {
    return -1;
}
#define sr_fail(err, ...) (sr_set_err((err), __VA_ARGS__), sr_failure())
void sr_set_err(sr_err *err, sr_kind kind, const char *code, const char *fmt, ...)
    SR_PRINTF(4, 5);
void sr_vset_err(sr_err *err, sr_kind kind, const char *code, const char *fmt, va_list ap)
    SR_PRINTF(4, 0);
/* The same from errno / a libuv error: kind and code from the number, its text appended.
 * ENOENT→not_found, ETIMEDOUT→timeout, ECONN* and unreachable→connect,
 * EADDRINUSE→conflict, EAI_*→dns, else io. */
#define sr_fail_errno(err, ...) (sr_set_errno((err), __VA_ARGS__), sr_failure())
#define sr_fail_uv(err, ...) (sr_set_uv((err), __VA_ARGS__), sr_failure())
void sr_set_errno(sr_err *err, int errnum, const char *fmt, ...) SR_PRINTF(3, 4);
void sr_set_uv(sr_err *err, int uv_code, const char *fmt, ...) SR_PRINTF(3, 4);

/* ---------------------------------------------------------------- bytes (buf.c) */

/* Growable bytes, always NUL-terminated beyond len. A secret buffer is wiped whenever it
 * moves or is freed. Zero-initialise, or {.secret = true}. */
typedef struct sr_buf {
    char *data;
    size_t len, cap;
    bool secret;
    bool oom; /* an append failed; sticky, everything later is ignored */
} sr_buf;

int sr_buf_append(sr_buf *buf, const void *data, size_t len); /* 0 or -1 (no memory) */
int sr_buf_puts(sr_buf *buf, const char *text);
int sr_buf_printf(sr_buf *buf, const char *fmt, ...) SR_PRINTF(2, 3);
char *sr_buf_reserve(sr_buf *buf, size_t len); /* room for len more; NULL on failure */
void sr_buf_free(sr_buf *buf);                 /* and zero the struct */
void sr_wipe(void *data, size_t len);          /* not optimised away */

/* ---------------------------------------------------------------- deaths (crash.c) */

/* Called at every crash point when it is set; only the tests' program sets it. Any
 * thread. */
extern void (*sr_crash_hook)(const char *what);

/* Something has just become durable, or is about to be seen by others: "write", "fsync",
 * "rename", "commit", "request", "reply" … */
static inline void sr_crash_point(const char *what) {
    if (sr_crash_hook) sr_crash_hook(what);
}

/* ---------------------------------------------------------------- words (words.c) */

/* "1500ms", "2m30s", "12h", "30d"; 0 or -1. Pure. */
int sr_parse_duration(const char *text, double *ret_seconds);
/* The closest of a NULL-terminated list to a misspelt word, or NULL. Pure. */
const char *sr_suggest(const char *word, const char *const *words);

#endif
