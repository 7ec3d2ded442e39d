/* pem.c – reads and writes the textual armour of keys and certificates (RFC 7468).
 *
 * A pure scanner over bytes in memory: it finds "-----BEGIN label-----", takes everything
 * up to the matching end marker and decodes it. Bodies may be private keys, so they are
 * decoded here, into a buffer that wipes itself, and not by a library that may keep
 * copies.
 *
 * Files meet us edited by hand and by Windows: CRLF, indentation, missing final newline,
 * subject lines and comments between blocks are accepted. What cannot be accepted without
 * guessing (no end, another end label, foreign characters, wrong padding) is refused.
 */
#include "pki.h"

#include <stdio.h>
#include <string.h>

#define BEGIN "-----BEGIN "
#define END "-----END "
#define DASHES "-----"
#define LINE ((size_t)64)   /* columns */
#define PART (LINE / 4 * 3) /* bytes they hold */

static const char *find(const char *from, const char *end, const char *what) {
    return from < end ? memmem(from, (size_t)(end - from), what, strlen(what)) : NULL;
}

static int digit(unsigned char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Decode base64 with white space anywhere; 0, or -1 for foreign bytes or bad padding. */
static int decode(sr_buf *out, const char *in, const char *end) {
    unsigned char *to =
        (unsigned char *)sr_buf_reserve(out, (size_t)(end - in) / 4 * 3 + 3);
    if (!to) return -1;
    unsigned bits = 0, have = 0, pad = 0;
    size_t n = 0;
    for (; in < end; in++) {
        if (blank(*in)) continue;
        if (*in == '=') {
            if (++pad > 2) return -1;
            continue;
        }
        int d = digit((unsigned char)*in);
        if (d < 0 || pad) return -1;
        bits = bits << 6 | (unsigned)d;
        if (++have == 4) {
            to[n++] = (unsigned char)(bits >> 16);
            to[n++] = (unsigned char)(bits >> 8);
            to[n++] = (unsigned char)bits;
            have = bits = 0;
        }
    }
    if (have == 1 || (have ? have + pad != 4 : pad)) return -1;
    if (have >= 2) to[n++] = (unsigned char)(bits >> (have == 2 ? 4 : 10));
    if (have == 3) to[n++] = (unsigned char)(bits >> 2);
    out->len += n;
    out->data[out->len] = '\0';
    return 0;
}

/* The label between the opening dashes; the body's start, or NULL. */
static const char *read_label(sr_pem *pem, const char *at, sr_err *err) {
    const char *name = at + strlen(BEGIN);
    const char *close = find(name, pem->end, DASHES);
    size_t len = close ? (size_t)(close - name) : 0;
    if (!close || len == 0 || len >= sizeof pem->label || memchr(name, '\n', len)) {
        sr_fail(err, SR_USAGE, "BAD_PEM",
                "malformed PEM: the BEGIN line is incomplete; copy the whole block");
        return NULL;
    }
    memcpy(pem->label, name, len);
    pem->label[len] = '\0';
    return close + strlen(DASHES);
}

static int read_body(sr_pem *pem, const char *body, const char *at, sr_err *err) {
    const char *stop = find(body, pem->end, DASHES);
    if (!stop || (size_t)(pem->end - stop) < strlen(END))
        return sr_fail(
            err, SR_USAGE, "BAD_PEM",
            "truncated PEM: \"BEGIN %s\" has no END line; the file is incomplete",
            pem->label);
    char want[sizeof pem->label + 20];
    int len = snprintf(want, sizeof want, END "%s" DASHES, pem->label);
    if ((size_t)(pem->end - stop) < (size_t)len || memcmp(stop, want, (size_t)len) != 0)
        return sr_fail(err, SR_USAGE, "BAD_PEM",
                       "malformed PEM: \"BEGIN %s\" is not followed by \"END %s\"",
                       pem->label, pem->label);
    pem->block = at;
    pem->next = stop + len;
    pem->block_len = (size_t)(pem->next - at);
    pem->headers = memchr(body, ':', (size_t)(stop - body)) != NULL;
    if (pem->headers) return 1;
    if (decode(&pem->der, body, stop) < 0)
        return pem->der.oom
                   ? sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory")
                   : sr_fail(err, SR_USAGE, "BAD_PEM",
                             "malformed PEM: the body of \"BEGIN %s\" is not base64",
                             pem->label);
    return 1;
}

int sr_pem_next(sr_pem *pem, sr_err *err) {
    sr_buf_free(&pem->der);
    pem->der.secret = true;
    if ((size_t)(pem->end - pem->next) > SR_PKI_MAX_INPUT)
        return sr_fail(err, SR_LIMIT, "TOO_LARGE",
                       "PEM of %zu bytes; at most %u are read",
                       (size_t)(pem->end - pem->next), SR_PKI_MAX_INPUT);
    const char *at = find(pem->next, pem->end, BEGIN);
    if (!at) {
        pem->next = pem->end;
        return 0;
    }
    const char *body = read_label(pem, at, err);
    return body ? read_body(pem, body, at, err) : -1;
}

void sr_pem_free(sr_pem *pem) {
    sr_buf_free(&pem->der);
}

int sr_pem_write(sr_buf *buf, const char *label, const void *der, size_t len) {
    const unsigned char *in = der;
    sr_buf_printf(buf, BEGIN "%s" DASHES "\n", label);
    for (size_t at = 0; at < len; at += PART) {
        int n = (int)(len - at < PART ? len - at : PART);
        char *out = sr_buf_reserve(buf, LINE + 2);
        if (!out) return -1;
        buf->len += (size_t)EVP_EncodeBlock((unsigned char *)out, in + at, n);
        sr_buf_append(buf, "\n", 1);
    }
    return sr_buf_printf(buf, END "%s" DASHES "\n", label);
}
