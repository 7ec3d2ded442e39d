/* http_path_fuzz.c – request targets, queries and routes from hostile bytes.
 *
 * One input is one request target. Beyond not crashing, a decoded path must keep its
 * promises: it starts at the root, has no empty, "." or ".." segment before its end, no
 * control byte, and is never longer than what came in.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_path.h"

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

static void check_segment(const char *text, size_t len, bool last) {
    MUST(len > 0 || last);
    MUST(!(len == 1 && text[0] == '.'));
    MUST(!(len == 2 && text[0] == '.' && text[1] == '.'));
}

static void check_path(const char *path, size_t len) {
    for (size_t i = 0; i < len; i++)
        MUST((unsigned char)path[i] >= 0x20 && path[i] != 0x7f);
    if (len == 1 && path[0] == '*') return;
    MUST(len > 0 && path[0] == '/');
    for (size_t at = 0; at < len;) {
        const char *start = path + at + 1;
        const char *end = memchr(start, '/', len - at - 1);
        size_t size = end ? (size_t)(end - start) : len - at - 1;
        check_segment(start, size, !end);
        at += size + 1;
    }
}

static void match(sr_http_slice path) {
    static sr_http_routes *routes;
    sr_http_match m;
    sr_err err;
    if (!routes) {
        MUST((routes = sr_http_routes_new()) != NULL);
        MUST(sr_http_routes_add(routes, "GET /a/{x}/{rest...}", 1, &err) == 0);
        MUST(sr_http_routes_add(routes, "/{x}", 2, &err) == 0);
    }
    if (sr_http_routes_match(routes, "GET", path, &m) != SR_HTTP_ROUTE) return;
    for (unsigned i = 0; i < m.captures; i++)
        MUST(m.capture[i].value.data >= path.data &&
             m.capture[i].value.data + m.capture[i].value.len <= path.data + path.len);
}

static void check_query(sr_http_slice query) {
    sr_buf key = {0}, value = {0};
    while (sr_http_query_next(&query, &key, &value))
        MUST(key.len + value.len <= 1 << 20);
    sr_buf_free(&key);
    sr_buf_free(&value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sr_http_slice path, query;
    const char *text = (const char *)data;
    size_t len;
    if (size > 1 << 16) return 0;
    (void)sr_http_first_bytes(text, size);
    char *out = malloc(size + 1);
    MUST(out != NULL);
    if (sr_http_path_decode(text, size, out, &len) == 0) {
        MUST(len <= size && out[len] == '\0');
        check_path(out, len);
    }
    if (size && sr_http_target_split(text, size, &path, &query) == 0) {
        if (query.data) check_query(query);
        if (sr_http_path_decode(path.data, path.len, out, &len) == 0)
            match((sr_http_slice){out, len});
    }
    free(out);
    return 0;
}
