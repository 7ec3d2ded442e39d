/* http_url.c – URLs as libcurl reads them, and which addresses are private.
 *
 * The parser is libcurl's own (its URL API does no I/O), so the host that a permission or
 * a guard looks at is the host that is connected to: no second reading, no gap between
 * the two. What we add: only http and https, no controls, user information taken out of
 * the text before anything can print it.
 */
#include "net/http_msg.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

void sr_http_url_free(sr_http_url *url) {
    if (url->password) sr_wipe(url->password, strlen(url->password));
    free(url->text);
    free(url->shown);
    free(url->host);
    free(url->peer);
    free(url->user);
    free(url->password);
    *url = (sr_http_url){0};
}

/* A part as memory of ours; NULL when absent. */
static char *part(CURLU *u, CURLUPart what, unsigned flags) {
    char *text = NULL;
    if (curl_url_get(u, what, &text, flags) != CURLUE_OK) return NULL;
    char *copy = strdup(text);
    curl_free(text);
    return copy;
}

/* libcurl converts other names by the process's locale, which a service may not have. */
static bool is_ascii(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80) return false;
    return true;
}

/* Take user information out of the URL. */
static void take_user(CURLU *u, sr_http_url *url) {
    url->user = part(u, CURLUPART_USER, CURLU_URLDECODE);
    url->password = part(u, CURLUPART_PASSWORD, CURLU_URLDECODE);
    curl_url_set(u, CURLUPART_USER, NULL, 0);
    curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
    curl_url_set(u, CURLUPART_OPTIONS, NULL, 0);
    curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
}

/* host in lower case, also inside the URL. */
static int take_host(CURLU *u, sr_http_url *url) {
    char *host = part(u, CURLUPART_HOST, 0);
    if (!host || !*host) {
        free(host);
        return -1;
    }
    size_t len = strlen(host);
    for (size_t i = 0; i < len; i++)
        host[i] = (char)tolower((unsigned char)host[i]);
    curl_url_set(u, CURLUPART_HOST, host, 0);
    if (host[0] == '[' && host[len - 1] == ']') {
        memmove(host, host + 1, len - 2);
        host[len - 2] = '\0';
    } else if (len > 1 && host[len - 1] == '.') {
        host[len - 1] = '\0'; /* the root's dot changes neither the name nor the rights */
        curl_url_set(u, CURLUPART_HOST, host, 0);
    }
    url->host = host;
    return 0;
}

/* Whether two dots stand side by side, or one at an end: the root's is off by now. */
static bool has_empty_label(const char *host) {
    size_t len = strlen(host);
    return host[0] == '.' || host[len - 1] == '.' || strstr(host, "..");
}

/* "127.1." is no name, and libcurl reads it as an address only without the dot. */
static bool is_dotted_number(CURLU *u, const sr_http_url *url) {
    char *again = NULL, *text = part(u, CURLUPART_URL, 0);
    CURLU *second = text ? curl_url() : NULL;
    if (second && curl_url_set(second, CURLUPART_URL, text, 0) == CURLUE_OK)
        again = part(second, CURLUPART_HOST, 0);
    bool same = again && (again[0] == '[' || strcmp(again, url->host) == 0);
    curl_url_cleanup(second);
    free(text);
    free(again);
    return !same;
}

/* shown and peer. */
static int describe(CURLU *u, sr_http_url *url) {
    bool six = strchr(url->host, ':') != NULL;
    bool usual = url->port == (url->https ? 443 : 80);
    char *path = part(u, CURLUPART_PATH, 0);
    sr_buf peer = {0}, shown = {0};
    sr_buf_printf(&peer, six ? "[%s]:%d" : "%s:%d", url->host, url->port);
    sr_buf_printf(&shown, six ? "%s://[%s]" : "%s://%s", url->https ? "https" : "http",
                  url->host);
    if (!usual) sr_buf_printf(&shown, ":%d", url->port);
    sr_buf_printf(&shown, "%.200s", path ? path : "/");
    free(path);
    url->peer = peer.data;
    url->shown = shown.data;
    return peer.oom || shown.oom ? -1 : 0;
}

/* Fill *ret_url from a parsed URL; -1 with a reason. */
static int fill(CURLU *u, sr_http_url *ret_url, const char **ret_why) {
    sr_http_url url = {0};
    char *scheme = part(u, CURLUPART_SCHEME, 0), *port = NULL;
    *ret_why = "only http and https are spoken";
    if (!scheme || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        goto fail;
    url.https = scheme[4] == 's';
    *ret_why = "it has no host";
    take_user(u, &url);
    if (take_host(u, &url) < 0) goto fail;
    *ret_why = "its host is not ASCII; write the xn-- form";
    if (!is_ascii(url.host)) goto fail;
    *ret_why = "its host has an empty label";
    if (has_empty_label(url.host)) goto fail;
    *ret_why = "its host is a number with a dot behind it";
    if (is_dotted_number(u, &url)) goto fail;
    *ret_why = "the zone of an address is not accepted";
    if (strchr(url.host, '%')) goto fail;
    *ret_why = "its port is not one";
    port = part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    url.port = port ? (int)strtol(port, NULL, 10) : 0;
    if (url.port < 1 || url.port > 65535) goto fail;
    *ret_why = "there is no memory";
    url.text = part(u, CURLUPART_URL, 0);
    if (!url.text || describe(u, &url) < 0) goto fail;
    free(scheme);
    free(port);
    *ret_url = url;
    return 0;
fail:
    free(scheme);
    free(port);
    sr_http_url_free(&url);
    return -1;
}

/* Bytes that have no place in a URL; libcurl would let some of them pass. */
static const char *bad_bytes(const char *text, size_t len) {
    if (!len) return "it is empty";
    if (len > 16384) return "it is longer than 16384 bytes";
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f) return "it has a control character";
        if (c == ' ') return "it has a space; encode it as %20";
        if (c == '\\') return "it has a backslash";
    }
    return NULL;
}

/* Parse text, relative to base where there is one. */
static int parse(const char *base, const char *text, size_t len, sr_http_url *ret_url,
                 const char **ret_why) {
    *ret_why = bad_bytes(text, len);
    if (*ret_why) return -1;
    *ret_why = "there is no memory";
    char *copy = strndup(text, len);
    CURLU *u = copy ? curl_url() : NULL;
    int rc = -1;
    if (!u) goto out;
    CURLUcode code = base ? curl_url_set(u, CURLUPART_URL, base, 0) : CURLUE_OK;
    if (code == CURLUE_OK)
        code = curl_url_set(u, CURLUPART_URL, copy, CURLU_NON_SUPPORT_SCHEME);
    const char *authority = strstr(copy, "://");
    if (code == CURLUE_BAD_SCHEME || (!base && !authority))
        *ret_why = "it is not absolute; write http:// or https:// before the host";
    else if (!base && authority[3] == '/')
        *ret_why = "it has no host";
    else if (code != CURLUE_OK)
        *ret_why = curl_url_strerror(code);
    else
        rc = fill(u, ret_url, ret_why);
out:
    if (copy) sr_wipe(copy, len); /* may carry a password */
    free(copy);
    curl_url_cleanup(u);
    return rc;
}

/* ---------------------------------------------------------------- the usual form
 *
 * Most URLs are in their normal form already: lower-case scheme, a name of lower-case
 * letters, perhaps a port, and characters that no parser reads in two ways. These are
 * taken apart here; whatever has anything else goes to libcurl's parser. A unit test
 * holds both against each other. */

enum { IN_HOST = 1, IN_PATH = 2, IN_QUERY = 4, DIGIT = 8 };

/* In which parts a character may stand. */
static int part_of(char c) {
    bool letter = (c >= 'a' && c <= 'z'), digit = c >= '0' && c <= '9';
    if (letter || c == '-' || c == '.') return IN_HOST | IN_PATH | IN_QUERY;
    if (digit) return IN_HOST | IN_PATH | IN_QUERY | DIGIT;
    if ((c >= 'A' && c <= 'Z') || c == '/' || c == '_' || c == '~')
        return IN_PATH | IN_QUERY;
    return c == '=' || c == '&' ? IN_QUERY : 0;
}

/* The end of the run of characters that may stand in this part. */
static const char *run_of(const char *at, const char *end, int where) {
    while (at < end && part_of(*at) & where)
        at++;
    return at;
}

/* A host name whose last label begins with a letter, so that it is no number. */
static bool is_plain_name(const char *host, size_t len) {
    const char *dot = memrchr(host, '.', len);
    const char *first = dot ? dot + 1 : host;
    return len > 0 && len < 254 && *first >= 'a' && *first <= 'z' && *host != '.' &&
           !memmem(host, len, "..", 2);
}

/* 127.0.0.1 and the like: four decimal numbers that nobody reads as octal. */
static bool is_plain_address(const char *host, size_t len) {
    unsigned char parts[4];
    char text[16], again[16];
    if (len >= sizeof text) return false;
    memcpy(text, host, len);
    text[len] = '\0';
    if (inet_pton(AF_INET, text, parts) != 1) return false;
    snprintf(again, sizeof again, "%d.%d.%d.%d", parts[0], parts[1], parts[2], parts[3]);
    return strcmp(text, again) == 0;
}

/* Read ":port" if there is one; -1 when it is not in its normal form. */
static int plain_port(const char **at, const char *end, bool https) {
    int usual = https ? 443 : 80, port = 0;
    if (*at == end || **at != ':') return usual;
    const char *from = ++*at;
    *at = run_of(from, end, DIGIT);
    if (*at == from || *at - from > 5 || *from == '0') return -1;
    for (const char *p = from; p < *at; p++)
        port = port * 10 + (*p - '0');
    return port > 65535 || port == usual ? -1 : port;
}

static bool is_plain_path(const char *at, const char *end) {
    if (at == end || *at != '/' || memmem(at, (size_t)(end - at), "/.", 2)) return false;
    at = run_of(at, end, IN_PATH);
    if (at + 1 < end && *at == '?') at = run_of(at + 1, end, IN_QUERY);
    return at == end;
}

/* 1: done; 0: not in this form; -1: no memory. */
static int parse_plain(const char *text, size_t len, sr_http_url *ret_url) {
    const char *end = text + len;
    bool https = len > 8 && memcmp(text, "https://", 8) == 0;
    if (!https && (len <= 7 || memcmp(text, "http://", 7) != 0)) return 0;
    const char *host = text + (https ? 8 : 7);
    const char *at = run_of(host, end, IN_HOST);
    size_t host_len = (size_t)(at - host);
    int port = plain_port(&at, end, https);
    if (port < 0 || len > 8192 || !is_plain_path(at, end) ||
        !(is_plain_name(host, host_len) || is_plain_address(host, host_len)))
        return 0;
    const char *query = memchr(at, '?', (size_t)(end - at));
    size_t path = query ? (size_t)(query - at) : (size_t)(end - at);
    sr_http_url url = {.port = port, .https = https};
    url.peer = malloc(host_len + 16);
    if (url.peer) {
        memcpy(url.peer, host, host_len);
        snprintf(url.peer + host_len, 16, ":%d", port);
    }
    url.text = strndup(text, len);
    url.host = strndup(host, host_len);
    url.shown = strndup(text, (size_t)(at - text) + (path < 200 ? path : 200));
    if (url.peer && url.text && url.host && url.shown) {
        *ret_url = url;
        return 1;
    }
    sr_http_url_free(&url);
    return -1;
}

int sr_http_url_parse(const char *text, size_t len, sr_http_url *ret_url, sr_err *err) {
    const char *why = "there is no memory";
    int plain = parse_plain(text, len, ret_url);
    if (plain > 0 || (plain == 0 && parse(NULL, text, len, ret_url, &why) == 0)) return 0;
    return sr_fail(err, SR_USAGE, "BAD_URL", "this URL cannot be used: %s", why);
}

int sr_http_url_join(const sr_http_url *base, const char *target, size_t len,
                     sr_http_url *ret_url, sr_err *err) {
    const char *why;
    if (!len) return sr_http_url_parse(base->text, strlen(base->text), ret_url, err);
    if (parse(base->text, target, len, ret_url, &why) == 0) return 0;
    return sr_fail(err, SR_PROTOCOL, "BAD_URL",
                   "%s points to a URL that cannot be used: %s", base->shown, why);
}

bool sr_http_url_same_origin(const sr_http_url *a, const sr_http_url *b) {
    return a->https == b->https && a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* ---------------------------------------------------------------- addresses */

struct range {
    uint32_t base;
    int bits;
};

/* IANA's special-purpose registry, RFC 6890, where not globally reachable. */
static const struct range private4[] = {
    {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},
    {0xa9fe0000, 16}, {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24},
    {0xc0586300, 24}, {0xc0a80000, 16}, {0xc6120000, 15}, {0xc6336400, 24},
    {0xcb007100, 24}, {0xe0000000, 4},  {0xf0000000, 4},
};

static bool private_v4(uint32_t address) {
    for (size_t i = 0; i < sizeof private4 / sizeof *private4; i++)
        if ((address ^ private4[i].base) >> (32 - private4[i].bits) == 0) return true;
    return false;
}

static uint32_t word(const uint8_t *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static bool private_v6(const uint8_t *b) {
    static const uint8_t zero[12] = {0};
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    if (memcmp(b, zero, 12) == 0) return true; /* ::, ::1 and the old compatible form */
    if (memcmp(b, mapped, 12) == 0 || memcmp(b, nat64, 12) == 0)
        return private_v4(word(b + 12));
    if (b[0] == 0x20 && b[1] == 0x02) return private_v4(word(b + 2)); /* 6to4 */
    if (word(b) == 0x20010000 || word(b) == 0x20010db8)
        return true;              /* Teredo, examples */
    return (b[0] & 0xe0) != 0x20; /* global unicast is 2000::/3 and nothing else */
}

bool sr_http_private_address(const struct sockaddr *sa) {
    if (sa->sa_family == AF_INET)
        return private_v4(
            ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr));
    if (sa->sa_family == AF_INET6)
        return private_v6(
            ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr.s6_addr);
    return true;
}
