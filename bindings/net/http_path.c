/* http_path.c – request targets, paths, queries and first bytes as text.
 *
 * Owns nothing. The rule to know: a path is decoded exactly once and normalised after
 * that, so "%2e%2e%2f" is seen as what it means, and "%252e" stays the text "%2e".
 */
#include "http_path.h"

#include <string.h>

#include "http_msg.h"

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool is_control(char c) {
    return (unsigned char)c < 0x20 || c == 0x7f;
}

/* The byte of "%XX" at text[0..], or -1. */
static int escape_at(const char *text, size_t left) {
    if (left < 3) return -1;
    int high = hex(text[1]), low = hex(text[2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The length of "http://host" or "https://host" in front of the path; 0 if there is none.
 */
static size_t authority_len(const char *target, size_t len) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t scheme = strlen(schemes[i]);
        if (len <= scheme || strncasecmp(target, schemes[i], scheme) != 0) continue;
        size_t at = scheme;
        while (at < len && target[at] != '/' && target[at] != '?')
            at++;
        return at > scheme ? at : 0;
    }
    return 0;
}

int sr_http_target_split(const char *target, size_t len, sr_http_slice *ret_path,
                         sr_http_slice *ret_query) {
    for (size_t i = 0; i < len; i++)
        if (is_control(target[i]) || target[i] == ' ' || target[i] == '#') return -1;
    size_t start = authority_len(target, len);
    sr_http_slice path = {target + start, len - start}, query = {NULL, 0};
    const char *mark = path.len ? memchr(path.data, '?', path.len) : NULL;
    if (mark) {
        query = (sr_http_slice){mark + 1, path.len - (size_t)(mark + 1 - path.data)};
        path.len = (size_t)(mark - path.data);
    }
    if (start && path.len == 0) path = (sr_http_slice){"/", 1};
    bool asterisk = !start && !mark && len == 1 && target[0] == '*';
    if (!asterisk && (path.len == 0 || path.data[0] != '/')) return -1;
    *ret_path = path;
    *ret_query = query;
    return 0;
}

static int decode(const char *raw, size_t len, char *out, size_t *ret_len) {
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        int byte = (unsigned char)raw[i];
        if (raw[i] == '%') {
            byte = escape_at(raw + i, len - i);
            if (byte < 0) return -1;
            i += 2;
        }
        if (is_control((char)byte)) return -1;
        out[used++] = (char)byte;
    }
    *ret_len = used;
    return 0;
}

/* Drop the last "/segment" of path[0..len]; -1 when there is none. */
static int climb(const char *path, size_t *len) {
    if (*len == 0) return -1;
    while (path[--*len] != '/') {
    }
    return 0;
}

/* In place; path starts with '/'. The result is never longer, so writing trails reading.
 */
static int remove_dots(char *path, size_t *len) {
    size_t read = 0, used = 0, end = *len;
    bool folder = false; /* a slash belongs at the end */
    while (read < end) {
        while (read < end && path[read] == '/')
            read++;
        size_t start = read;
        while (read < end && path[read] != '/')
            read++;
        size_t size = read - start;
        bool dot = size == 1 && path[start] == '.';
        bool dots = size == 2 && path[start] == '.' && path[start + 1] == '.';
        folder = size == 0 || dot || dots;
        if (dots && climb(path, &used) != 0) return -1;
        if (folder) continue;
        path[used++] = '/';
        memmove(path + used, path + start, size);
        used += size;
    }
    if (folder || used == 0) path[used++] = '/';
    *len = used;
    return 0;
}

int sr_http_path_decode(const char *raw, size_t len, char *out, size_t *ret_len) {
    size_t used;
    if (decode(raw, len, out, &used) != 0) return -1;
    bool asterisk = len == 1 && raw[0] == '*';
    if (!asterisk && (used == 0 || out[0] != '/')) return -1;
    if (!asterisk && remove_dots(out, &used) != 0) return -1;
    out[used] = '\0';
    *ret_len = used;
    return 0;
}

static void form_decode(const char *raw, size_t len, sr_buf *out) {
    out->len = 0;
    char *to = sr_buf_reserve(out, len);
    if (!to) return;
    for (size_t i = 0; i < len; i++) {
        int byte = raw[i] == '%' ? escape_at(raw + i, len - i) : -1;
        if (byte >= 0)
            i += 2;
        else
            byte = raw[i] == '+' ? ' ' : (unsigned char)raw[i];
        to[out->len++] = (char)byte;
    }
    out->data[out->len] = '\0';
}

bool sr_http_query_next(sr_http_slice *rest, sr_buf *key, sr_buf *value) {
    while (rest->len && rest->data[0] == '&') {
        rest->data++;
        rest->len--;
    }
    if (rest->len == 0) return false;
    const char *end = memchr(rest->data, '&', rest->len);
    size_t len = end ? (size_t)(end - rest->data) : rest->len;
    const char *equals = memchr(rest->data, '=', len);
    size_t key_len = equals ? (size_t)(equals - rest->data) : len;
    form_decode(rest->data, key_len, key);
    form_decode(equals ? equals + 1 : "", equals ? len - key_len - 1 : 0, value);
    rest->data += len;
    rest->len -= len;
    return !key->oom && !value->oom;
}

/* A server should ignore an empty line before the request line (RFC 9112, 2.2). */
sr_http_first sr_http_first_bytes(const char *data, size_t len) {
    if (len > 0 && data[0] == 0x16) return SR_HTTP_FIRST_TLS;
    size_t i = 0;
    while (i < len && (data[i] == '\r' || data[i] == '\n'))
        i++;
    size_t start = i;
    while (i < len && sr_http_is_token(data + i, 1))
        i++;
    if (i == len) return SR_HTTP_FIRST_MORE;
    return i > start && data[i] == ' ' ? SR_HTTP_FIRST_MORE : SR_HTTP_FIRST_BAD;
}
