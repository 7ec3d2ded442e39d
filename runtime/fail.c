/* fail.c – failures on their way through C: see sr_err in base.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <uv.h>

#include "base.h"

static const char *const kind_names[SR_KINDS] = {
    "none",    "usage",     "timeout",  "cancelled",    "dns",
    "connect", "tls",       "http",     "protocol",     "auth",
    "denied",  "not_found", "conflict", "rate_limited", "pending",
    "limit",   "store",     "io",       "internal",
};

const char *sr_kind_name(sr_kind kind) {
    return (unsigned)kind < SR_KINDS ? kind_names[kind] : "internal";
}

sr_kind sr_kind_of(const char *name) {
    for (int i = SR_USAGE; i < SR_KINDS; i++)
        if (strcmp(kind_names[i], name) == 0) return (sr_kind)i;
    return SR_NONE;
}

static void no_control(char *text) {
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p == 0x7f) *p = '?';
}

void sr_vset_err(sr_err *err, sr_kind kind, const char *code, const char *fmt,
                 va_list ap) {
    if (!err) return;
    *err = (sr_err){.kind = kind};
    snprintf(err->code, sizeof err->code, "%s", code ? code : "");
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    no_control(err->message);
}

void sr_set_err(sr_err *err, sr_kind kind, const char *code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    sr_vset_err(err, kind, code, fmt, ap);
    va_end(ap);
}

static sr_kind kind_of_uv(int code) {
    switch (code) {
    case UV_ENOENT: return SR_NOT_FOUND;
    case UV_ETIMEDOUT: return SR_TIMEOUT;
    case UV_ECONNREFUSED:
    case UV_ECONNRESET:
    case UV_ECONNABORTED:
    case UV_ENETUNREACH:
    case UV_EHOSTUNREACH: return SR_CONNECT;
    case UV_EADDRINUSE: return SR_CONFLICT;
    case UV_ECANCELED: return SR_CANCELLED;
    case UV_EAI_NONAME:
    case UV_EAI_NODATA:
    case UV_EAI_AGAIN:
    case UV_EAI_FAIL: return SR_DNS;
    default: return SR_IO;
    }
}

static void add_reason(sr_err *err, const char *reason) {
    if (!err) return;
    size_t len = strlen(err->message);
    snprintf(err->message + len, sizeof err->message - len, ": %s", reason);
}

void sr_set_uv(sr_err *err, int uv_code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    sr_vset_err(err, kind_of_uv(uv_code), uv_err_name(uv_code), fmt, ap);
    va_end(ap);
    add_reason(err, uv_strerror(uv_code));
}

void sr_set_errno(sr_err *err, int errnum, const char *fmt, ...) {
    va_list ap;
    int code = uv_translate_sys_error(errnum);
    va_start(ap, fmt);
    sr_vset_err(err, kind_of_uv(code), uv_err_name(code), fmt, ap);
    va_end(ap);
    add_reason(err, strerror(errnum));
}
