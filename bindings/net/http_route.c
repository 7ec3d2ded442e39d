/* http_route.c – which handler a method and a path belong to.
 *
 * Owns the patterns. They are kept sorted, the most specific first, so that matching
 * takes the first that fits and the answer does not depend on the order in which a Lua
 * table hands its keys out. Paths arrive decoded and normalised (http_path.c).
 */
#include "http_path.h"

#include <stdlib.h>
#include <string.h>

#include "http_msg.h"

enum { MAX_SEGMENTS = 32 };

/* Ordered by how specific they are. */
typedef enum segment_kind { LITERAL, NAME, REST } segment_kind;

typedef struct segment {
    segment_kind kind;
    sr_http_slice text; /* the literal or the name */
} segment;

typedef struct route {
    char *pattern;        /* owned; the slices point into it */
    sr_http_slice method; /* empty: every method */
    unsigned count;
    int id;
    segment segments[MAX_SEGMENTS];
} route;

struct sr_http_routes {
    route **list;
    size_t len, cap;
};

sr_http_routes *sr_http_routes_new(void) {
    return calloc(1, sizeof(sr_http_routes));
}

static void route_free(route *r) {
    if (!r) return;
    free(r->pattern);
    free(r);
}

void sr_http_routes_free(sr_http_routes *routes) {
    if (!routes) return;
    for (size_t i = 0; i < routes->len; i++)
        route_free(routes->list[i]);
    free(routes->list);
    free(routes);
}

static bool same(sr_http_slice a, sr_http_slice b) {
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static bool is(sr_http_slice slice, const char *word) {
    return slice.len == strlen(word) && memcmp(slice.data, word, slice.len) == 0;
}

/* ------------------------------------------------------------------ patterns */

static bool is_name(sr_http_slice name) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9')) return false;
    }
    return name.len > 0;
}

/* "literal", "{name}" or "{name...}". */
static int parse_segment(sr_http_slice text, segment *out) {
    *out = (segment){LITERAL, text};
    if (text.len == 0 || text.data[0] != '{')
        return memchr(text.data, '{', text.len) || memchr(text.data, '}', text.len) ? -1
                                                                                    : 0;
    if (text.data[text.len - 1] != '}') return -1;
    out->kind = NAME;
    out->text = (sr_http_slice){text.data + 1, text.len - 2};
    if (out->text.len > 3 && memcmp(out->text.data + out->text.len - 3, "...", 3) == 0) {
        out->kind = REST;
        out->text.len -= 3;
    }
    return is_name(out->text) ? 0 : -1;
}

static bool name_taken(const route *r, sr_http_slice name) {
    for (unsigned i = 0; i < r->count; i++)
        if (r->segments[i].kind != LITERAL && same(r->segments[i].text, name))
            return true;
    return false;
}

/* path starts behind the method; on failure *why says what is wrong. */
static int parse_path(route *r, const char *path, const char **why) {
    unsigned captures = 0;
    while (*path == '/') {
        const char *end = strchr(++path, '/');
        size_t len = end ? (size_t)(end - path) : strlen(path);
        segment *seg = &r->segments[r->count];
        *why = "it has too many segments";
        if (r->count == MAX_SEGMENTS) return -1;
        *why = "a segment is text, {name} or {name...}";
        if (parse_segment((sr_http_slice){path, len}, seg) != 0) return -1;
        *why = "a name stands twice or there are too many";
        if (seg->kind != LITERAL &&
            (name_taken(r, seg->text) || ++captures > SR_HTTP_CAPTURES))
            return -1;
        *why = "{name...} must be the last segment";
        if (seg->kind == REST && end) return -1;
        r->count++;
        path += len;
    }
    *why = "the path must start with /";
    return r->count ? 0 : -1;
}

static int parse_route(route *r, const char **why) {
    char *path = r->pattern;
    if (*path != '/') {
        size_t len = strcspn(path, " ");
        r->method = (sr_http_slice){path, len};
        *why = "it must read \"METHOD /path\"";
        if (!path[len] || !sr_http_is_token(path, len)) return -1;
        path += len;
        while (*path == ' ')
            path++;
    }
    return parse_path(r, path, why);
}

/* ------------------------------------------------------------------ order */

static int compare_slices(sr_http_slice a, sr_http_slice b) {
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.data, b.data, len) : 0;
    if (order != 0) return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

static int compare_paths(const route *a, const route *b) {
    unsigned count = a->count < b->count ? a->count : b->count;
    for (unsigned i = 0; i < count; i++) {
        const segment *x = &a->segments[i], *y = &b->segments[i];
        if (x->kind != y->kind) return (int)x->kind - (int)y->kind;
        int order = x->kind == LITERAL ? compare_slices(x->text, y->text) : 0;
        if (order != 0) return order;
    }
    return (int)a->count - (int)b->count;
}

/* Of patterns with the same path, HEAD stands before GET, which would serve it too, and
 * those for every method come last. */
static int method_rank(const route *r) {
    return is(r->method, "HEAD") ? 0 : r->method.len ? 1 : 2;
}

static int compare_routes(const route *a, const route *b) {
    int order = compare_paths(a, b);
    if (order == 0) order = method_rank(a) - method_rank(b);
    return order ? order : compare_slices(a->method, b->method);
}

static int make_room(sr_http_routes *routes) {
    if (routes->len < routes->cap) return 0;
    size_t cap = routes->cap ? routes->cap * 2 : 8;
    route **list = realloc(routes->list, cap * sizeof *list);
    if (!list) return -1;
    routes->list = list;
    routes->cap = cap;
    return 0;
}

int sr_http_routes_add(sr_http_routes *routes, const char *pattern, int id, sr_err *err) {
    const char *why;
    route *r = calloc(1, sizeof *r);
    if (!r || !(r->pattern = strdup(pattern)) || make_room(routes) != 0) {
        sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for route \"%s\"", pattern);
        goto out;
    }
    r->id = id;
    if (parse_route(r, &why) != 0) {
        sr_fail(err, SR_USAGE, NULL, "route \"%s\": %s", pattern, why);
        goto out;
    }
    size_t at = 0;
    int order = -1;
    while (at < routes->len && (order = compare_routes(routes->list[at], r)) < 0)
        at++;
    if (at < routes->len && order == 0) {
        sr_fail(err, SR_USAGE, NULL, "route \"%s\" matches the same as \"%s\"", pattern,
                routes->list[at]->pattern);
        goto out;
    }
    memmove(routes->list + at + 1, routes->list + at,
            (routes->len - at) * sizeof *routes->list);
    routes->list[at] = r;
    routes->len++;
    return 0;
out:
    route_free(r);
    return -1;
}

/* ------------------------------------------------------------------ matching */

static bool match_path(const route *r, sr_http_slice path, sr_http_match *m) {
    size_t at = 0;
    m->captures = 0;
    for (unsigned i = 0; i < r->count; i++) {
        const segment *seg = &r->segments[i];
        if (at == path.len || path.data[at] != '/') return false;
        const char *start = path.data + ++at;
        const char *slash = at < path.len ? memchr(start, '/', path.len - at) : NULL;
        size_t len = slash && seg->kind != REST ? (size_t)(slash - start) : path.len - at;
        sr_http_slice text = {start, len};
        at += len;
        if (seg->kind == LITERAL) {
            if (!same(seg->text, text)) return false;
            continue;
        }
        if (seg->kind == NAME && len == 0) return false;
        m->capture[m->captures].name = seg->text;
        m->capture[m->captures++].value = text;
    }
    return at == path.len;
}

static bool serves(const route *r, const char *method) {
    return r->method.len == 0 || is(r->method, method) ||
           (is(r->method, "GET") && strcmp(method, "HEAD") == 0);
}

/* Add a method to "GET, HEAD" unless it stands there; one that does not fit is left out.
 */
static void allow(char *list, size_t size, sr_http_slice method) {
    size_t used = strlen(list);
    for (const char *at = list; *at;) {
        size_t len = strcspn(at, ",");
        if (same((sr_http_slice){at, len}, method)) return;
        at += len;
        at += strspn(at, ", ");
    }
    if (used + method.len + 3 > size) return;
    if (used) {
        memcpy(list + used, ", ", 2);
        used += 2;
    }
    memcpy(list + used, method.data, method.len);
    list[used + method.len] = '\0';
}

sr_http_found sr_http_routes_match(const sr_http_routes *routes, const char *method,
                                   sr_http_slice path, sr_http_match *ret_match) {
    ret_match->allow[0] = '\0';
    for (size_t i = 0; i < routes->len; i++) {
        const route *r = routes->list[i];
        if (!match_path(r, path, ret_match)) continue;
        ret_match->id = r->id;
        if (serves(r, method)) return SR_HTTP_ROUTE;
        allow(ret_match->allow, sizeof ret_match->allow, r->method);
        if (is(r->method, "GET"))
            allow(ret_match->allow, sizeof ret_match->allow, (sr_http_slice){"HEAD", 4});
    }
    if (!ret_match->allow[0]) return SR_HTTP_NO_ROUTE;
    allow(ret_match->allow, sizeof ret_match->allow, (sr_http_slice){"OPTIONS", 7});
    return SR_HTTP_OTHER_METHOD;
}
