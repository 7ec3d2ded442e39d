/* pki.c – what the other files of this folder share: failures and encodings.
 *
 * Owns nothing. OpenSSL reports through a queue per thread; sr_pki_fail() is the only
 * place that reads it, and always leaves it empty, so that an old reason never shows up
 * in a later message.
 */
#include "pki.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

int sr_pki_fail(sr_err *err, sr_kind kind, const char *code, const char *fmt, ...) {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    va_list ap;
    ERR_clear_error();
    va_start(ap, fmt);
    sr_vset_err(err, kind, code, fmt, ap);
    va_end(ap);
    size_t used = strlen(err->message);
    if (reason)
        snprintf(err->message + used, sizeof err->message - used, " (%s)", reason);
    return -1;
}

int sr_pki_base64url(sr_buf *buf, const void *data, size_t len) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *in = data;
    char *out = sr_buf_reserve(buf, len / 3 * 4 + 4);
    if (!out) return -1;
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        unsigned v = (unsigned)in[i] << 16 | (left > 1 ? (unsigned)in[i + 1] << 8 : 0) |
                     (left > 2 ? in[i + 2] : 0);
        out[n++] = digits[v >> 18];
        out[n++] = digits[v >> 12 & 63];
        if (left > 1) out[n++] = digits[v >> 6 & 63];
        if (left > 2) out[n++] = digits[v & 63];
    }
    buf->len += n;
    buf->data[buf->len] = '\0';
    return 0;
}

void sr_pki_hex_text(char *ret_text, const void *data, size_t len) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *in = data;
    for (size_t i = 0; i < len; i++) {
        *ret_text++ = digits[in[i] >> 4];
        *ret_text++ = digits[in[i] & 15];
    }
    *ret_text = '\0';
}

/* ---------------------------------------------------------------- arenas */

struct sr_arena_block {
    struct sr_arena_block *next;
    size_t used, size;
    _Alignas(16) char data[];
};

void *sr_arena_alloc(sr_arena *arena, size_t size) {
    struct sr_arena_block *block = arena->head;
    size = (size + 15) & ~(size_t)15;
    if (!block || block->size - block->used < size) {
        size_t room = size > 2048 ? size : 2048;
        block = calloc(1, sizeof *block + room);
        if (!block) {
            arena->oom = true;
            return NULL;
        }
        block->size = room;
        block->next = arena->head;
        arena->head = block;
    }
    void *memory = block->data + block->used;
    block->used += size;
    return memory;
}

const char *sr_arena_text(sr_arena *arena, const void *data, size_t len) {
    char *text = sr_arena_alloc(arena, len + 1);
    if (!text) return "";
    if (len) memcpy(text, data, len);
    return text;
}

void sr_arena_free(sr_arena *arena) {
    while (arena->head) {
        struct sr_arena_block *next = arena->head->next;
        free(arena->head);
        arena->head = next;
    }
    arena->oom = false;
}
