/* json_scan.c – JSON text to a checked cJSON tree; the contract is json.h.
 *
 * Reading is three passes: scan_*() checks the text (grammar, UTF-8, depth, exactness),
 * cJSON builds the tree, check_tree() looks at what only the tree shows (duplicate keys
 * after unescaping, numbers that overflowed). Each level of nesting is one C frame and
 * one sr_json_place, so the depth bound is also the bound on the C stack.
 */
#include "data/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 63 /* cJSON cuts longer numbers */

/* ---------------------------------------------------------------- places */

static bool plain_key(const char *key, size_t len) {
    for (size_t i = 0; i < len; i++) {
        char c = key[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9')) return false;
    }
    return len > 0;
}

static size_t step_text(const sr_json_place *p, char *buf, size_t size) {
    int n;
    int len = p->key_len > 40 ? 40 : (int)p->key_len;
    const char *more = p->key_len > 40 ? "..." : "";
    while (p->key_len > 40 && len > 0 && ((unsigned char)p->key[len] & 0xc0) == 0x80)
        len--; /* not into the middle of a character */
    if (!p->key)
        n = snprintf(buf, size, "[%zu]", p->index);
    else if (plain_key(p->key, p->key_len))
        n = snprintf(buf, size, ".%.*s%s", len, p->key, more);
    else
        n = snprintf(buf, size, "[\"%.*s%s\"]", len, p->key, more);
    return n > 0 ? (size_t)n : 0;
}

void sr_json_path(const sr_json_place *place, char *buf, size_t size) {
    char step[64];
    size_t used = 0;
    if (!place || !place->up) {
        snprintf(buf, size, "the top");
        return;
    }
    /* Built from the leaf towards the root, so that what gets lost is the front. */
    buf[0] = '\0';
    for (; place->up; place = place->up) {
        size_t n = step_text(place, step, sizeof step);
        if (used + n + 4 > size) {
            memmove(buf + 3, buf, used + 1);
            memcpy(buf, "\xe2\x80\xa6", 3); /* … */
            return;
        }
        memmove(buf + n, buf, used + 1);
        memcpy(buf, step, n);
        used += n;
    }
}

/* ---------------------------------------------------------------- scanner */

typedef struct scan {
    const char *text, *at, *end;
    int depth, max_depth;
    char shown[16];
    sr_err *err;
} scan;

static int scan_value(scan *s, const sr_json_place *here);

static int bad(scan *s, const sr_json_place *here, const char *at, const char *fmt, ...)
    SR_PRINTF(4, 5);

/* Say what is wrong, then path, line and byte of `at`. */
static int bad(scan *s, const sr_json_place *here, const char *at, const char *fmt, ...) {
    char what[256], path[128];
    size_t line = 1;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    for (const char *p = s->text; p < at; p++)
        line += *p == '\n';
    sr_json_path(here, path, sizeof path);
    return sr_fail(s->err, SR_PROTOCOL, NULL, "JSON: %s (at %s, line %zu, byte %zu)",
                   what, path, line, (size_t)(at - s->text) + 1);
}

/* What stands at `at`, for messages. */
static const char *found(scan *s, const char *at) {
    unsigned char c = at < s->end ? (unsigned char)*at : 0;
    if (at >= s->end) return "the end of the text";
    snprintf(s->shown, sizeof s->shown, c > 0x20 && c < 0x7f ? "'%c'" : "byte 0x%02x", c);
    return s->shown;
}

static void skip_space(scan *s) {
    while (s->at < s->end &&
           (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

/* The four hex digits at p, or -1. */
static int hex4(const char *p, const char *end) {
    int value = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* s->at is on the 'u' of a \u escape; leaves it behind the escape or pair. */
static int scan_unicode(scan *s, const sr_json_place *here) {
    const char *start = s->at - 1;
    int high = hex4(s->at + 1, s->end), low = -1;
    if (high < 0) return bad(s, here, start, "\\u needs four hex digits");
    if (high == 0)
        return bad(s, here, start, "a NUL character in a string is refused: \\u0000");
    s->at += 5;
    if (high < 0xd800 || high > 0xdfff) return 0;
    if (high < 0xdc00 && s->end - s->at >= 2 && s->at[0] == '\\' && s->at[1] == 'u')
        low = hex4(s->at + 2, s->end);
    if (low < 0xdc00 || low > 0xdfff)
        return bad(s, here, start, "half of a surrogate pair is no character");
    s->at += 6;
    return 0;
}

static int scan_escape(scan *s, const sr_json_place *here) {
    s->at++; /* the backslash */
    if (s->at < s->end && *s->at == 'u') return scan_unicode(s, here);
    if (s->at < s->end && *s->at && strchr("\"\\/bfnrt", *s->at)) {
        s->at++;
        return 0;
    }
    return bad(s, here, s->at - 1, "unknown escape in a string");
}

/* s->at is on the opening quote; ret_text and ret_len are the raw text between the
 * quotes, escapes as they are. */
static int scan_string(scan *s, const sr_json_place *here, const char **ret_text,
                       size_t *ret_len) {
    const char *start = s->at++;
    while (s->at < s->end && *s->at != '"') {
        unsigned char c = (unsigned char)*s->at;
        size_t n;
        if (c == '\\') {
            if (scan_escape(s, here)) return -1;
            continue;
        }
        if (c < 0x20)
            return bad(s, here, s->at, "a control character in a string must be escaped");
        n = sr_utf8_len(s->at, s->end);
        if (!n)
            return bad(s, here, s->at,
                       "the text is not valid UTF-8: it must be converted");
        s->at += n;
    }
    if (s->at >= s->end)
        return bad(s, here, start, "the string is not closed: the text was cut");
    *ret_text = start + 1;
    *ret_len = (size_t)(s->at - start) - 1;
    s->at++;
    return 0;
}

static const char *skip_digits(const char *p, const char *end) {
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

/* Whether the digits, without sign, exceed 2^53. */
static bool inexact(const char *digits, size_t len) {
    static const char limit[] = "9007199254740992";
    size_t most = sizeof limit - 1;
    return len > most || (len == most && memcmp(digits, limit, most) > 0);
}

/* RFC 8259 section 6. */
static int scan_number(scan *s, const sr_json_place *here) {
    const char *start = s->at, *p = start + (*start == '-'), *digits = p, *q;
    p = skip_digits(p, s->end);
    if (p == digits) return bad(s, here, start, "a digit must follow the '-'");
    if (*digits == '0' && p - digits > 1)
        return bad(s, here, start, "a number does not start with a needless 0");
    bool integer = p >= s->end || (*p != '.' && *p != 'e' && *p != 'E');
    if (p < s->end && *p == '.') {
        q = skip_digits(p + 1, s->end);
        if (q == p + 1) return bad(s, here, start, "a digit must follow the '.'");
        p = q;
    }
    if (p < s->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < s->end && (*p == '+' || *p == '-')) p++;
        q = skip_digits(p, s->end);
        if (q == p) return bad(s, here, start, "an exponent needs digits");
        p = q;
    }
    int shown = p - start > 40 ? 40 : (int)(p - start);
    if (integer && inexact(digits, (size_t)(p - digits)))
        return bad(
            s, here, start,
            "integer %.*s%s cannot be represented exactly: the sender must write it "
            "as a string",
            shown, start, p - start > 40 ? "..." : "");
    if (p - start > NUMBER_MAX)
        return bad(s, here, start, "a number of more than %d characters", NUMBER_MAX);
    s->at = p;
    return 0;
}

static int scan_word(scan *s, const sr_json_place *here) {
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->at) >= n && memcmp(s->at, words[i], n) == 0) {
            s->at += n;
            return 0;
        }
    }
    if (*s->at == '<')
        return bad(s, here, s->at, "a value was expected, this is HTML or XML");
    return bad(s, here, s->at, "a value was expected, found %s", found(s, s->at));
}

/* Behind a member or element: 1 to go on behind a comma, 0 at the end, -1. */
static int scan_next(scan *s, const sr_json_place *here, char close) {
    skip_space(s);
    if (s->at < s->end && *s->at == close) {
        s->at++;
        return 0;
    }
    if (s->at < s->end && *s->at == ',') {
        s->at++;
        skip_space(s);
        if (s->at < s->end && *s->at == close)
            return bad(s, here, s->at, "a value must follow the comma");
        return 1;
    }
    return bad(s, here, s->at, "',' or '%c' was expected, found %s", close,
               found(s, s->at));
}

static int scan_array(scan *s, const sr_json_place *here) {
    sr_json_place element = {here, NULL, 0, 0};
    int more = 1;
    s->at++;
    skip_space(s);
    if (s->at < s->end && *s->at == ']') {
        s->at++;
        return 0;
    }
    while (more > 0) {
        element.index++;
        if (scan_value(s, &element)) return -1;
        more = scan_next(s, here, ']');
    }
    return more;
}

static int scan_object(scan *s, const sr_json_place *here) {
    sr_json_place member = {here, "", 0, 0};
    int more = 1;
    s->at++;
    skip_space(s);
    if (s->at < s->end && *s->at == '}') {
        s->at++;
        return 0;
    }
    while (more > 0) {
        skip_space(s);
        if (s->at >= s->end || *s->at != '"')
            return bad(s, here, s->at, "a key in double quotes was expected, found %s",
                       found(s, s->at));
        if (scan_string(s, here, &member.key, &member.key_len)) return -1;
        skip_space(s);
        if (s->at >= s->end || *s->at != ':')
            return bad(s, &member, s->at, "':' was expected behind the key, found %s",
                       found(s, s->at));
        s->at++;
        if (scan_value(s, &member)) return -1;
        more = scan_next(s, here, '}');
    }
    return more;
}

static int scan_nested(scan *s, const sr_json_place *here) {
    char path[128];
    if (++s->depth > s->max_depth) {
        sr_json_path(here, path, sizeof path);
        return sr_fail(s->err, SR_LIMIT, NULL,
                       "JSON: nested deeper than max_depth = %d levels (at %s, byte %zu)",
                       s->max_depth, path, (size_t)(s->at - s->text) + 1);
    }
    int rc = *s->at == '[' ? scan_array(s, here) : scan_object(s, here);
    s->depth--;
    return rc;
}

static int scan_value(scan *s, const sr_json_place *here) {
    const char *text;
    size_t len;
    skip_space(s);
    if (s->at >= s->end)
        return bad(s, here, s->at,
                   s->text == s->end ? "the text is empty"
                                     : "the text ends too early, it was cut");
    switch (*s->at) {
    case '{':
    case '[': return scan_nested(s, here);
    case '"': return scan_string(s, here, &text, &len);
    case '-': return scan_number(s, here);
    default: break;
    }
    if (*s->at >= '0' && *s->at <= '9') return scan_number(s, here);
    return scan_word(s, here);
}

static int scan_text(scan *s) {
    static const sr_json_place root = {0};
    if (s->end - s->at >= 3 && memcmp(s->at, "\xef\xbb\xbf", 3) == 0) s->at += 3;
    if (scan_value(s, &root)) return -1;
    skip_space(s);
    if (s->at == s->end) return 0;
    return bad(s, &root, s->at,
               "bytes behind the end of the value: one text is one value");
}

/* ---------------------------------------------------------------- tree */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The text that stands twice among the keys, which get sorted; NULL if none does. */
static const char *twin(const char **keys, size_t n) {
    qsort(keys, n, sizeof *keys, by_text);
    for (size_t i = 1; i < n; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0) return keys[i];
    return NULL;
}

/* The key that stands twice in the object, NULL if none; *ret_ok false without memory. */
static const char *duplicate(const cJSON *object, bool *ret_ok) {
    const cJSON *item;
    const char *few[16], **many = NULL, *twice;
    size_t n = 0, i = 0;
    cJSON_ArrayForEach(item, object) {
        n++;
    }
    if (n > 16 && !(many = malloc(n * sizeof *many))) {
        *ret_ok = false;
        return NULL;
    }
    cJSON_ArrayForEach(item, object) {
        const char **keys = many ? many : few;
        keys[i++] = item->string;
    }
    twice = twin(many ? many : few, n);
    free(many);
    return twice;
}

static int check_keys(const cJSON *object, const sr_json_place *here, sr_err *err) {
    char path[128];
    bool ok = true;
    const char *key = duplicate(object, &ok);
    if (!ok) return sr_fail(err, SR_LIMIT, "ENOMEM", "JSON: no memory");
    if (!key) return 0;
    sr_json_place member = {here, key, strlen(key), 0};
    sr_json_path(&member, path, sizeof path);
    return sr_fail(
        err, SR_PROTOCOL, NULL,
        "JSON: the key %s stands twice in its object: which one holds is unclear", path);
}

static int check_tree(const cJSON *item, const sr_json_place *here, sr_err *err) {
    sr_json_place inner = {here, NULL, 0, 0};
    char path[128];
    const cJSON *child;
    if (cJSON_IsNumber(item) && !isfinite(item->valuedouble)) {
        sr_json_path(here, path, sizeof path);
        return sr_fail(err, SR_PROTOCOL, NULL, "JSON: a number is too large (at %s)",
                       path);
    }
    if (cJSON_IsObject(item) && check_keys(item, here, err)) return -1;
    cJSON_ArrayForEach(child, item) {
        inner.index++;
        inner.key = child->string;
        inner.key_len = child->string ? strlen(child->string) : 0;
        if (check_tree(child, &inner, err)) return -1;
    }
    return 0;
}

cJSON *sr_json_parse(const char *text, size_t len, int max_depth, sr_err *err) {
    static const sr_json_place root = {0};
    scan s = {text, text, text + len, 0, max_depth ? max_depth : SR_JSON_DEPTH, "", err};
    if (s.max_depth > SR_JSON_MAX_DEPTH) s.max_depth = SR_JSON_MAX_DEPTH;
    if (scan_text(&s)) return NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, len, NULL, 0);
    if (!tree) {
        (void)sr_fail(err, SR_LIMIT, "ENOMEM", "JSON: no memory for a text of %zu bytes",
                      len);
        return NULL;
    }
    if (check_tree(tree, &root, err) == 0) return tree;
    cJSON_Delete(tree);
    return NULL;
}
