/* buf.c – growable bytes.
 *
 * Appending never raises: running out of memory sets `oom`, and whoever hands the buffer
 * on checks it once. A secret buffer is wiped before its old place is given back.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "secrun.h"

void sr_wipe(void *data, size_t len) {
    if (data) OPENSSL_cleanse(data, len);
}

/* A secret must not be left behind by realloc, so it moves by hand. */
static char *grow(sr_buf *buf, size_t cap) {
    if (!buf->secret) return realloc(buf->data, cap);
    char *data = malloc(cap);
    if (!data) return NULL;
    if (buf->data) {
        memcpy(data, buf->data, buf->len + 1);
        sr_wipe(buf->data, buf->cap);
        free(buf->data);
    }
    return data;
}

char *sr_buf_reserve(sr_buf *buf, size_t len) {
    if (buf->oom) return NULL;
    if (len > SIZE_MAX / 2 - buf->len - 1) {
        buf->oom = true;
        return NULL;
    }
    size_t need = buf->len + len + 1;
    if (need > buf->cap) {
        size_t cap = buf->cap ? buf->cap : 64;
        while (cap < need)
            cap *= 2;
        char *data = grow(buf, cap);
        if (!data) {
            buf->oom = true;
            return NULL;
        }
        data[buf->len] = '\0';
        buf->data = data;
        buf->cap = cap;
    }
    return buf->data + buf->len;
}

int sr_buf_append(sr_buf *buf, const void *data, size_t len) {
    char *at = sr_buf_reserve(buf, len);
    if (!at) return -1;
    if (len) memcpy(at, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
    return 0;
}

int sr_buf_puts(sr_buf *buf, const char *text) {
    return sr_buf_append(buf, text, strlen(text));
}

int sr_buf_printf(sr_buf *buf, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *at = n < 0 ? NULL : sr_buf_reserve(buf, (size_t)n);
    if (at) {
        vsnprintf(at, (size_t)n + 1, fmt, again);
        buf->len += (size_t)n;
    }
    va_end(again);
    va_end(ap);
    return at ? 0 : -1;
}

void sr_buf_free(sr_buf *buf) {
    if (buf->secret) sr_wipe(buf->data, buf->cap);
    free(buf->data);
    *buf = (sr_buf){.secret = buf->secret};
}
