/* http_msg.h – reading HTTP messages: fields, dates, links, media types, URLs, addresses.
 *
 * Pure: no Lua, no I/O, no clock, no state. Every function takes bytes that an unknown
 * peer wrote, so none trusts a length, a terminator or an encoding. Strings given back
 * point into the caller's bytes unless a comment says otherwise.
 */
#ifndef HTTP_MSG_H
#define HTTP_MSG_H

#include "base.h"

struct sockaddr;

/* ---------------------------------------------------------------- fields */

/* One field of a head; RFC 9110 5. value is without the white space around it. */
typedef struct sr_http_field {
    const char *name, *value;
    size_t name_len, value_len;
} sr_http_field;

/* A token of RFC 9110 5.6.2: a method or a field name. */
bool sr_http_is_token(const char *text, size_t len);
/* A field value that cannot end the line: no CR, LF, NUL or other control but tab. */
bool sr_http_is_value(const char *text, size_t len);
/* "HTTP/1.1 200 OK" or "HTTP/2 200". version is 10, 11, 20 or 30. 0 or -1. */
int sr_http_status_line(const char *line, size_t len, int *ret_version, int *ret_status);
/* The next field of the head between *at and end; lines that are no fields are skipped.
 * Advances *at. false at the end. */
bool sr_http_next_field(const char **at, const char *end, sr_http_field *ret_field);
/* Whether a field has this name, in any case. */
bool sr_http_field_is(const sr_http_field *field, const char *name);
/* The first field of that name, or false. */
bool sr_http_find(const char *head, size_t len, const char *name,
                  sr_http_field *ret_field);
/* Methods that may be repeated without another effect; RFC 9110 9.2.2. */
bool sr_http_idempotent(const char *method);

/* ---------------------------------------------------------------- values */

/* The three date forms of RFC 9110 5.6.7 as UTC seconds. 0 or -1. */
int sr_http_date(const char *text, size_t len, double *ret_utc);
/* Retry-After, RFC 9110 10.2.3: seconds from `now` (UTC seconds), never negative; a date
 * in the past is 0, and everything beyond ten years is ten years. 0 or -1. */
int sr_http_retry_after(const char *text, size_t len, double now, double *ret_seconds);

/* One link of a Link field, RFC 8288: `<target>; rel="a b"; title=x`. */
typedef struct sr_http_link {
    const char *target, *rel; /* rel is NULL when absent; quotes are off */
    size_t target_len, rel_len;
} sr_http_link;

/* The next link between *at and end; text that is no link is skipped. Advances *at. */
bool sr_http_next_link(const char **at, const char *end, sr_http_link *ret_link);
/* Whether the link's rel lists this relation, in any case. */
bool sr_http_link_is(const sr_http_link *link, const char *rel);

/* A media type, RFC 9110 8.3: "application/problem+json; charset=utf-8". Lower case. */
typedef struct sr_http_media {
    char type[96];    /* "application/problem+json" */
    char charset[32]; /* "utf-8" or "" */
} sr_http_media;

int sr_http_media_type(const char *text, size_t len, sr_http_media *ret_media);
/* application/json, text/json or anything that ends in +json. */
bool sr_http_media_is_json(const sr_http_media *media);

/* ---------------------------------------------------------------- URLs (http_url.c) */

/* An http or https URL as libcurl reads it, so that what is checked is what is asked.
 * All strings are owned. Zero-initialise; sr_http_url_free() allows that and twice. */
typedef struct sr_http_url {
    char *text;  /* normalised, without user information and fragment */
    char *shown; /* scheme://host[:port]/path, for messages: no query, no controls */
    char *host;  /* lower case; an IPv6 address without brackets */
    char *peer;  /* "host:port", IPv6 in brackets: for permissions and messages */
    char *user;  /* decoded user information or NULL */
    char *password;
    int port;
    bool https;
} sr_http_url;

/* Fails with usage: not absolute, another scheme, a control character or a space, no host
 * or one that is not ASCII. */
int sr_http_url_parse(const char *text, size_t len, sr_http_url *ret_url, sr_err *err);
/* A Location or Link target, relative to base; RFC 3986 5. Fails with protocol. */
int sr_http_url_join(const sr_http_url *base, const char *target, size_t len,
                     sr_http_url *ret_url, sr_err *err);
/* The same scheme, host and port: credentials may follow. */
bool sr_http_url_same_origin(const sr_http_url *a, const sr_http_url *b);
void sr_http_url_free(sr_http_url *url);

/* Whether an address is not one of the public Internet: loopback, private, link-local,
 * shared, multicast, reserved, and the IPv6 forms that carry such an IPv4 address. */
bool sr_http_private_address(const struct sockaddr *sa);

#endif
