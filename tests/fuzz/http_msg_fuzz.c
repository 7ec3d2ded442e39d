/* http_msg_fuzz.c – response heads, field values and URLs from hostile peers.
 *
 * One input is read as everything a peer can send outside a body. Beyond not crashing:
 * what is given back lies inside the input, reading a head always comes to its end, dates
 * and delays are in range, and a URL that was taken reads the same when read again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/http_msg.h"

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

typedef struct text {
    const char *data;
    size_t len;
} text;

static bool inside(text t, const char *part, size_t len) {
    return part >= t.data && len <= t.len && part <= t.data + t.len - len;
}

static void check_fields(text t) {
    const char *at = t.data, *end = t.data + t.len;
    sr_http_field field, found;
    while (sr_http_next_field(&at, end, &field)) {
        char name[64];
        MUST(at > t.data && at <= end);
        MUST(inside(t, field.name, field.name_len));
        MUST(inside(t, field.value, field.value_len));
        MUST(sr_http_is_token(field.name, field.name_len));
        MUST(!memchr(field.value, '\n', field.value_len));
        if (field.name_len >= sizeof name) continue;
        memcpy(name, field.name, field.name_len);
        name[field.name_len] = '\0';
        MUST(sr_http_field_is(&field, name));
        MUST(sr_http_find(t.data, t.len, name, &found) && found.name <= field.name);
    }
    MUST(at == end);
}

static void check_links(text t) {
    const char *at = t.data, *before = at;
    sr_http_link link;
    while (sr_http_next_link(&at, t.data + t.len, &link)) {
        MUST(at > before && inside(t, link.target, link.target_len));
        MUST(!link.rel || !link.rel_len || inside(t, link.rel, link.rel_len));
        (void)sr_http_link_is(&link, "next");
        before = at;
    }
}

static void check_values(text t) {
    sr_http_media media;
    double when, wait;
    int version, status;
    if (sr_http_status_line(t.data, t.len, &version, &status) == 0)
        MUST(status >= 100 && status <= 999 && version >= 0 && version <= 99);
    if (sr_http_retry_after(t.data, t.len, 1.7e9, &wait) == 0)
        MUST(wait >= 0 && wait <= 10 * 366 * 86400.0);
    if (sr_http_date(t.data, t.len, &when) == 0) MUST(when > -3e9 && when < 3e11);
    if (sr_http_media_type(t.data, t.len, &media) == 0) {
        MUST(strchr(media.type, '/') && strlen(media.type) < sizeof media.type);
        (void)sr_http_media_is_json(&media);
    }
}

static void check_shown(const char *shown) {
    for (const unsigned char *p = (const unsigned char *)shown; *p; p++)
        MUST(*p > 0x20 && *p != 0x7f);
}

static void check_url(text t) {
    static const char root[] = "https://ca.example:8443/dir/a?x=1";
    sr_http_url url = {0}, again = {0}, base = {0}, joined = {0};
    sr_err err = {0};
    if (sr_http_url_parse(t.data, t.len, &url, &err) == 0) {
        check_shown(url.shown);
        MUST(url.port > 0 && url.port <= 65535 && *url.host && url.peer);
        MUST(sr_http_url_parse(url.text, strlen(url.text), &again, &err) == 0);
        MUST(strcmp(again.text, url.text) == 0 && strcmp(again.peer, url.peer) == 0);
        MUST(sr_http_url_same_origin(&url, &again));
    }
    MUST(sr_http_url_parse(root, sizeof root - 1, &base, &err) == 0);
    if (sr_http_url_join(&base, t.data, t.len, &joined, &err) == 0)
        check_shown(joined.shown);
    sr_http_url_free(&url);
    sr_http_url_free(&again);
    sr_http_url_free(&base);
    sr_http_url_free(&joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 1 << 14) return 0;
    char *copy = malloc(size ? size : 1); /* its end is the allocation's */
    MUST(copy != NULL);
    if (size) memcpy(copy, data, size);
    text t = {copy, size};
    check_fields(t);
    check_links(t);
    check_values(t);
    check_url(t);
    free(copy);
    return 0;
}
