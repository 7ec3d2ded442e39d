/* http_path.h – the parts of the HTTP server that only look at text.
 *
 * Request targets, paths, query strings and routes (fields are read in http_msg). Nothing
 * here knows a socket, libmicrohttpd or Lua, so all of it is unit-tested and fuzzed.
 */
#ifndef SR_HTTP_PATH_H
#define SR_HTTP_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "base.h"

/* A stretch of somebody else's text. */
typedef struct sr_http_slice {
    const char *data;
    size_t len;
} sr_http_slice;

/* Split a request target (RFC 9112, 3.2) in origin form ("/a?b"), absolute form
 * ("http://host/a?b") or asterisk form ("*") into raw path and raw query; both point into
 * target. The query of "/a" is empty with data NULL. -1 for any other form, a fragment, a
 * space or a control byte. */
int sr_http_target_split(const char *target, size_t len, sr_http_slice *ret_path,
                         sr_http_slice *ret_query);

/* Decode %XX once, then remove empty, "." and ".." segments; a slash at the end stays.
 * out has room for len + 1 bytes and is NUL-terminated. -1 for a bad escape, for a
 * control byte (NUL included) after decoding, for a path not starting with "/" (except
 * "*" alone), and for one that climbs above the root. So a result never has a ".."
 * segment, however it was written. */
int sr_http_path_decode(const char *raw, size_t len, char *out, size_t *ret_len);

/* Take the next key=value pair of a query or a form body
 * (application/x-www-form-urlencoded) from *rest and write it decoded to key and value,
 * whose old content is dropped. A bad escape stands for itself. False at the end; running
 * out of memory shows in key->oom. */
bool sr_http_query_next(sr_http_slice *rest, sr_buf *key, sr_buf *value);

/* What the first bytes of a connection look like, before a parser sees them. */
typedef enum sr_http_first {
    SR_HTTP_FIRST_MORE, /* nothing wrong so far */
    SR_HTTP_FIRST_BAD,  /* cannot become a request line */
    SR_HTTP_FIRST_TLS   /* a TLS handshake record */
} sr_http_first;
sr_http_first sr_http_first_bytes(const char *data, size_t len);

/* ------------------------------------------------------------------------ routes
 *
 * A pattern is "METHOD /literal/{name}/…" or a path alone for every method. {name}
 * matches one segment that is not empty, {name...} at the end the rest, slashes included.
 * The most specific pattern wins, segment by segment: literal before {name} before
 * {name...}; the order of adding does not matter. A GET route serves HEAD where no HEAD
 * route does.
 */
typedef struct sr_http_routes sr_http_routes;

enum { SR_HTTP_CAPTURES = 16 };

typedef struct sr_http_match {
    int id;
    unsigned captures;
    struct {
        sr_http_slice name;  /* points into the routes */
        sr_http_slice value; /* points into the path */
    } capture[SR_HTTP_CAPTURES];
    char allow[160]; /* for SR_HTTP_OTHER_METHOD: "GET, HEAD, OPTIONS" */
} sr_http_match;

typedef enum sr_http_found {
    SR_HTTP_NO_ROUTE,
    SR_HTTP_OTHER_METHOD, /* the path is known, the method is not: 405 with allow */
    SR_HTTP_ROUTE
} sr_http_found;

/* NULL: no memory. */
sr_http_routes *sr_http_routes_new(void);
void sr_http_routes_free(sr_http_routes *routes);
/* Add a pattern under an id of the caller's. Fails with kind usage on a malformed pattern
 * and on one that matches exactly what another does. */
int sr_http_routes_add(sr_http_routes *routes, const char *pattern, int id, sr_err *err);
/* Find the route of a decoded path. */
sr_http_found sr_http_routes_match(const sr_http_routes *routes, const char *method,
                                   sr_http_slice path, sr_http_match *ret_match);

#endif
