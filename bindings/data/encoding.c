/* encoding.c – bytes as text and back; the contract is encoding.h, the module is
 * "encoding".
 *
 * base64, base32 and hex are one algorithm over a table: a digit carries `bits` bits, the
 * digits left over at the end must carry less than one digit's worth of zero bits, and
 * `group` digits are what padding fills up to. Percent encoding stands alone below.
 */
#include "data/encoding.h"

#include <string.h>

typedef struct alphabet {
    const char *name;
    const char *digits; /* 1 << bits of them */
    const char *also;   /* pairs of further character and the digit it stands for */
    int bits;
    int group;
    bool padded;   /* written, and demanded when read */
    bool tolerant; /* reads with or without padding, skips white space */
    const char *hint;
} alphabet;

#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define LOWER "abcdefghijklmnopqrstuvwxyz"

/* clang-format off */
static const alphabet base64 = {
    .name = "base64", .digits = UPPER LOWER "0123456789+/", .also = "",
    .bits = 6, .group = 4, .padded = true,
    .hint = "'-' and '_' belong to base64url, white space must be removed"};
static const alphabet base64url = {
    .name = "base64url", .digits = UPPER LOWER "0123456789-_", .also = "",
    .bits = 6, .group = 4,
    .hint = "'+', '/' and '=' belong to base64, white space must be removed"};
static const alphabet base64_any = {
    .name = "base64", .digits = UPPER LOWER "0123456789-_", .also = "+-/_",
    .bits = 6, .group = 4, .tolerant = true,
    .hint = "only A-Z a-z 0-9 + / - _ and = at the end can stand in base64"};
static const alphabet base32 = {
    .name = "base32", .digits = UPPER "234567", .also = "",
    .bits = 5, .group = 8, .padded = true,
    .hint = "only A-Z, 2-7 and = at the end can stand in base32"};
static const alphabet hex = {
    .name = "hex", .digits = "0123456789abcdef", .also = "AaBbCcDdEeFf",
    .bits = 4, .group = 2,
    .hint = "only 0-9, a-f and A-F can stand in hex, without colons or 0x"};
/* clang-format on */

/* Room for `len` bytes and the NUL behind them; used() says how many were taken. */
static char *room(sr_buf *out, size_t len, sr_err *err) {
    char *p = len < SIZE_MAX / 2 ? sr_buf_reserve(out, len + 1) : NULL;
    if (!p)
        (void)sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for %zu bytes of text", len);
    return p;
}

static void used(sr_buf *out, size_t len) {
    out->len += len;
    out->data[out->len] = '\0';
}

static int encode(sr_buf *out, const alphabet *a, const void *data, size_t len,
                  sr_err *err) {
    const unsigned char *in = data;
    size_t n = 0, most = len < SIZE_MAX / 8 ? len * 8 / (size_t)a->bits + 8 : SIZE_MAX;
    unsigned acc = 0, mask = (1u << a->bits) - 1;
    int held = 0;
    char *p = room(out, most, err);
    if (!p) return -1;
    for (size_t i = 0; i < len; i++) {
        acc = acc << 8 | in[i];
        for (held += 8; held >= a->bits;) {
            held -= a->bits;
            p[n++] = a->digits[acc >> held & mask];
        }
        acc &= 0xff; /* at most seven bits are still to come out */
    }
    if (held) p[n++] = a->digits[acc << (a->bits - held) & mask];
    while (a->padded && n % (size_t)a->group)
        p[n++] = '=';
    used(out, n);
    return 0;
}

enum { BAD = -1, SKIP = -2, PAD = -3 };

static void reverse(const alphabet *a, signed char value[256]) {
    memset(value, BAD, 256);
    for (int i = 0; i < 1 << a->bits; i++)
        value[(unsigned char)a->digits[i]] = (signed char)i;
    for (const char *s = a->also; *s; s += 2)
        value[(unsigned char)s[0]] = value[(unsigned char)s[1]];
    if (a->padded || a->tolerant) value['='] = PAD;
    for (const char *s = " \t\r\n"; a->tolerant && *s; s++)
        value[(unsigned char)*s] = SKIP;
}

/* The end of the text: whole digits, no stray bits, the padding that belongs there. */
static int check_tail(const alphabet *a, size_t digits, size_t pads, int held,
                      unsigned acc, sr_err *err) {
    size_t group = (size_t)a->group, want = (group - digits % group) % group;
    if (held >= a->bits)
        return sr_fail(
            err, SR_PROTOCOL, NULL,
            "%s text of %zu digits is incomplete: it was cut or a digit is lost", a->name,
            digits);
    if (held && acc & ((1u << held) - 1))
        return sr_fail(err, SR_PROTOCOL, NULL,
                       "the last digit of the %s text carries stray bits: it was cut or "
                       "changed",
                       a->name);
    if (a->padded && pads != want)
        return sr_fail(err, SR_PROTOCOL, NULL,
                       "%s text of %zu digits needs %zu '=' at its end, it has %zu",
                       a->name, digits, want, pads);
    return 0;
}

static int decode(sr_buf *out, const alphabet *a, const char *text, size_t len,
                  sr_err *err) {
    signed char value[256];
    size_t n = 0, digits = 0, pads = 0;
    unsigned acc = 0;
    int held = 0;
    char *p = room(out, len, err);
    if (!p) return -1;
    reverse(a, value);
    for (size_t i = 0; i < len; i++) {
        signed char v = value[(unsigned char)text[i]];
        if (v == SKIP) continue;
        if (v == PAD) {
            pads++;
            continue;
        }
        if (v == BAD || pads)
            return sr_fail(err, SR_PROTOCOL, NULL,
                           "character %zu of the %s text is %s: %s", i + 1, a->name,
                           pads ? "behind the padding" : "not allowed", a->hint);
        acc = (acc << a->bits | (unsigned)v) & 0xffff;
        digits++;
        if ((held += a->bits) < 8) continue;
        held -= 8;
        p[n++] = (char)(acc >> held & 0xff);
    }
    if (check_tail(a, digits, pads, held, acc, err)) return -1;
    if (a->tolerant && !digits)
        return sr_fail(err, SR_PROTOCOL, NULL, "the %s text is empty", a->name);
    used(out, n);
    return 0;
}

#define CODEC(id)                                                                        \
    int sr_##id##_encode(sr_buf *out, const void *data, size_t len, sr_err *err) {       \
        return encode(out, &(id), data, len, err);                                       \
    }                                                                                    \
    int sr_##id##_decode(sr_buf *out, const char *text, size_t len, sr_err *err) {       \
        return decode(out, &(id), text, len, err);                                       \
    }

CODEC(base64)
CODEC(base64url)
CODEC(base32)
CODEC(hex)

int sr_base64_any_decode(sr_buf *out, const char *text, size_t len, sr_err *err) {
    return decode(out, &base64_any, text, len, err);
}

/* ---------------------------------------------------------------- percent */

static bool unreserved(unsigned char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '.' || c == '_' || c == '~';
}

static int percent_encode(sr_buf *out, const void *data, size_t len, bool plus,
                          sr_err *err) {
    static const char digits[] = "0123456789ABCDEF";
    const unsigned char *in = data;
    size_t n = 0;
    char *p = room(out, len < SIZE_MAX / 8 ? len * 3 : SIZE_MAX, err);
    if (!p) return -1;
    for (size_t i = 0; i < len; i++) {
        if (unreserved(in[i])) {
            p[n++] = (char)in[i];
        } else if (plus && in[i] == ' ') {
            p[n++] = '+';
        } else {
            p[n++] = '%';
            p[n++] = digits[in[i] >> 4];
            p[n++] = digits[in[i] & 15];
        }
    }
    used(out, n);
    return 0;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static int percent_decode(sr_buf *out, const char *text, size_t len, bool plus,
                          sr_err *err) {
    size_t n = 0;
    char *p = room(out, len, err);
    if (!p) return -1;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%') {
            p[n++] = text[i];
            if (plus && text[i] == '+') p[n - 1] = ' ';
            continue;
        }
        int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
        int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;
        if (high < 0 || low < 0)
            return sr_fail(
                err, SR_PROTOCOL, NULL,
                "the '%%' at character %zu of the percent-encoded text has no two "
                "hex digits behind it: a literal '%%' is written %%25",
                i + 1);
        p[n++] = (char)(unsigned char)(high << 4 | low);
        i += 2;
    }
    used(out, n);
    return 0;
}

int sr_percent_encode(sr_buf *out, const void *data, size_t len, sr_err *err) {
    return percent_encode(out, data, len, false, err);
}

int sr_percent_decode(sr_buf *out, const char *text, size_t len, sr_err *err) {
    return percent_decode(out, text, len, false, err);
}

int sr_form_encode(sr_buf *out, const void *data, size_t len, sr_err *err) {
    return percent_encode(out, data, len, true, err);
}

int sr_form_decode(sr_buf *out, const char *text, size_t len, sr_err *err) {
    return percent_decode(out, text, len, true, err);
}
