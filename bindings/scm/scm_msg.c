/* scm_msg.c – SCM's failures in one line: what was asked, what it said, what it means.
 *
 * An answer of 400 or more has a JSON body {code, description} if SCM itself wrote it,
 * and HTML, nothing or half of something if a proxy did or the connection broke. None of
 * that may become a second error: what cannot be read is shown by its beginning.
 *
 * SCM answers most business errors with 400, so the code decides; the status only where
 * there is no code. A code says whether the call may be repeated (RETRY), is waiting for
 * people or the CA (PENDING), or neither.
 */
#include "scm/scm_msg.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/json.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof *(a))

/* ---------------------------------------------------------------- texts on one line */

static bool blank(unsigned char c) {
    return c <= 0x20 || c == 0x7f;
}

/* Whether a tag begins at p: its length, else 0. "a < b" is no tag. */
static size_t tag_len(const char *p, size_t left) {
    if (*p != '<' || left < 2) return 0;
    if (!isalpha((unsigned char)p[1]) && p[1] != '/' && p[1] != '!') return 0;
    const char *end = memchr(p, '>', left);
    return end ? (size_t)(end - p) + 1 : 0;
}

/* Copy as one line: tags, controls and runs of white space become one blank, the doubled
 * quotes of SCM's texts one. Cut at a character's edge. */
static void one_line(const char *text, size_t len, char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < size;) {
        size_t tag = tag_len(text + i, len - i);
        bool quotes = i + 1 < len && text[i] == '\'' && text[i + 1] == '\'';
        if (tag || blank((unsigned char)text[i])) {
            if (n && out[n - 1] != ' ') out[n++] = ' ';
            i += tag ? tag : 1;
        } else {
            out[n++] = text[i];
            i += quotes ? 2 : 1;
        }
    }
    if (n + 1 >= size) /* perhaps in the middle of a character */
        while (n && ((unsigned char)out[n - 1] & 0xc0) == 0x80)
            n--;
    if (n && (unsigned char)out[n - 1] >= 0xc0) n--;
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
}

/* What a page says: its title if it has one, else its beginning. */
static void page_text(const char *body, size_t len, char *out, size_t size) {
    const char *from = NULL;
    for (size_t i = 0; i + 7 < len && !from; i++)
        if (strncasecmp(body + i, "<title>", 7) == 0) from = body + i + 7;
    const char *end = from ? memchr(from, '<', len - (size_t)(from - body)) : NULL;
    if (end)
        one_line(from, (size_t)(end - from), out, size);
    else
        one_line(body, len, out, size);
}

/* ---------------------------------------------------------------- the body */

/* Append a text to what is there already, as far as there is room. */
static void add(const char *text, char *out, size_t size) {
    size_t used = strlen(out);
    if (!text || !*text || used + 3 >= size) return;
    if (used) {
        out[used++] = ';';
        out[used++] = ' ';
    }
    one_line(text, strlen(text), out + used, size - used);
}

static void add_text(const cJSON *doc, const char *key, char *out, size_t size) {
    add(cJSON_GetStringValue(sr_json_item(doc, key)), out, size);
}

static void add_items(const cJSON *doc, char *out, size_t size) {
    const cJSON *item;
    cJSON_ArrayForEach(item, sr_json_item(doc, "items")) {
        add(cJSON_GetStringValue(item), out, size);
    }
}

/* The code of an error body; some proxies of SCM write it as a text. */
static bool read_code(const cJSON *doc, int *ret_code) {
    const cJSON *item = sr_json_item(doc, "code");
    char *end = NULL;
    if (cJSON_IsNumber(item)) {
        *ret_code = item->valueint;
        return true;
    }
    if (!cJSON_IsString(item) || !*item->valuestring) return false;
    long code = strtol(item->valuestring, &end, 10);
    if (*end || code < -99999 || code > 99999) return false;
    *ret_code = (int)code;
    return true;
}

/* Whether the body was an error body of SCM's. */
static bool read_body(const sr_scm_answer *answer, sr_scm_reason *reason) {
    sr_err ignored = {0};
    const char *body = answer->body;
    if (!answer->len || !memchr(body, '{', answer->len)) return false;
    cJSON *doc = sr_json_parse(body, answer->len, SR_JSON_DEPTH, &ignored);
    if (!cJSON_IsObject(doc)) {
        cJSON_Delete(doc);
        return false;
    }
    reason->has_code = read_code(doc, &reason->code);
    add_text(doc, "description", reason->description, sizeof reason->description);
    add_text(doc, "details", reason->description, sizeof reason->description);
    add_items(doc, reason->description, sizeof reason->description);
    if (!*reason->description) { /* OAuth servers and proxies */
        add_text(doc, "error_description", reason->description,
                 sizeof reason->description);
        add_text(doc, "message", reason->description, sizeof reason->description);
        add_text(doc, "error", reason->description, sizeof reason->description);
    }
    cJSON_Delete(doc);
    return reason->has_code || *reason->description;
}

/* "Being processed by Sectigo" is code 0; a 0 beside another text would mean nothing. */
static bool processing(const char *text) {
    return strncasecmp(text, "being processed", 15) == 0;
}

/* ---------------------------------------------------------------- by status */

typedef struct status_row {
    int status;
    sr_kind kind;
    bool again;
    const char *meaning, *mend;
} status_row;

static const status_row statuses[] = {
    {400, SR_HTTP, false, "it refuses the request", NULL},
    {401, SR_AUTH, false, "the credentials are refused",
     "check login, password and customer_uri, or client id and secret"},
    {403, SR_DENIED, false, "the login may not do this", NULL},
    {404, SR_NOT_FOUND, false, "there is no such thing",
     "check the id, and that url is the API's host"},
    {405, SR_PROTOCOL, false, "this face does not have the call", NULL},
    {408, SR_HTTP, true, "it did not get the request in time", NULL},
    {409, SR_CONFLICT, false, "it is in another state", NULL},
    {413, SR_LIMIT, false, "the request is too big for it", NULL},
    {429, SR_RATE_LIMITED, true, "it was asked too often", NULL},
    {502, SR_HTTP, true, "a gateway before it failed", "try again"},
    {503, SR_HTTP, true, "it is not available now", "try again"},
    {504, SR_HTTP, true, "a gateway before it had no answer in time", "try again"},
};

static status_row by_status(int status) {
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        if (statuses[i].status == status) return statuses[i];
    return (status_row){status, SR_HTTP, false, "it failed", NULL};
}

bool sr_scm_token_url(const char *field, char *buf, size_t size) {
    const char *p = field ? strcasestr(field, "http") : NULL;
    while (p && strncasecmp(p, "https://", 8) != 0 && strncasecmp(p, "http://", 7) != 0)
        p = strcasestr(p + 4, "http");
    if (!p) return false;
    size_t n = 0;
    while (n + 1 < size && (unsigned char)p[n] > 0x20 && (unsigned char)p[n] < 0x7f &&
           !strchr("\"',;<>", p[n]))
        n++;
    memcpy(buf, p, n);
    buf[n] = '\0';
    return n > 8;
}

/* ---------------------------------------------------------------- the sentence */

static void explain_code(const sr_scm_answer *answer, const sr_scm_reason *reason,
                         sr_err *err) {
    const sr_scm_code *row = reason->row;
    status_row status = by_status(answer->status);
    char code[16];
    snprintf(code, sizeof code, "%d", reason->code);
    const char *meaning = row ? row->meaning : status.meaning;
    const char *mend = row ? row->mend : NULL;
    sr_set_err(err, row ? row->kind : status.kind, code,
               "%s: SCM says %d: %s%s%.220s%s%s%s", answer->op, reason->code, meaning,
               *reason->description ? " (\"" : "", reason->description,
               *reason->description ? "\")" : "", mend ? "; " : "", mend ? mend : "");
    err->retryable = row ? row->again != SR_SCM_NEVER : status.again;
}

static void explain_status(const sr_scm_answer *answer, const sr_scm_reason *reason,
                           sr_err *err) {
    status_row row = by_status(answer->status);
    char code[16], text[240] = "";
    snprintf(code, sizeof code, "HTTP_%d", answer->status);
    if (*reason->description)
        snprintf(text, sizeof text, "%.200s", reason->description);
    else
        page_text(answer->body, answer->len, text, sizeof text);
    sr_set_err(err, row.kind, code, "%s: %s answers %d: %s%s%.200s%s%s%s", answer->op,
               answer->host, answer->status, row.meaning,
               *text ? " (it says: " : ", without a word", text, *text ? ")" : "",
               row.mend ? "; " : "", row.mend ? row.mend : "");
    err->retryable = row.again;
}

void sr_scm_explain(const sr_scm_answer *answer, sr_scm_reason *ret_reason, sr_err *err) {
    *ret_reason = (sr_scm_reason){0};
    bool known = read_body(answer, ret_reason);
    sr_scm_token_url(answer->www_authenticate, ret_reason->token_url,
                     sizeof ret_reason->token_url);
    if (known && ret_reason->has_code) {
        ret_reason->row = sr_scm_code_of(ret_reason->code, answer->op);
        if (ret_reason->code == 0 && !processing(ret_reason->description))
            ret_reason->row = NULL;
    }
    if (answer->status == 401 && !answer->admin && *ret_reason->token_url)
        sr_set_err(
            err, SR_AUTH, "WRONG_FACE",
            "%s: %s wants a bearer token; this face needs client id and secret: "
            "oauth = {client_id = …, client_secret = secret …, token_url = \"%s\"}",
            answer->op, answer->host, ret_reason->token_url);
    else if (known && ret_reason->has_code)
        explain_code(answer, ret_reason, err);
    else
        explain_status(answer, ret_reason, err);
    err->status = answer->status;
    if (answer->has_retry_after) {
        err->has_retry_after = true;
        err->retry_after = answer->retry_after;
    }
}

/* ---------------------------------------------------------------- trees */

void sr_scm_prune(cJSON *item) {
    bool object = cJSON_IsObject(item);
    for (cJSON *child = item->child, *next; child; child = next) {
        next = child->next;
        if (object && cJSON_IsNull(child))
            cJSON_Delete(cJSON_DetachItemViaPointer(item, child));
        else if (child->child)
            sr_scm_prune(child); /* as deep as the reader let it be */
    }
}

/* ---------------------------------------------------------------- URLs */

/* Whether a host (as written in a URL) is this machine. */
static bool loopback(const char *host, size_t len) {
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (len == strlen(names[i]) && strncasecmp(host, names[i], len) == 0) return true;
    return false;
}

/* The host without the port; the brackets of an IPv6 address stay. */
static size_t host_len(const char *host, size_t len) {
    if (*host == '[') {
        const char *end = memchr(host, ']', len);
        return end ? (size_t)(end - host) + 1 : len;
    }
    const char *colon = memchr(host, ':', len);
    return colon ? (size_t)(colon - host) : len;
}

static int bad_url(const char *what, const char *url, const char *why, sr_err *err) {
    return sr_fail(err, SR_USAGE, "BAD_URL", "scm.connect: %s \"%.120s\": %s", what, url,
                   why);
}

/* Scheme and host; *ret_path is what follows. */
static int check_origin(const char *what, const char *url, const char **ret_path,
                        sr_err *err) {
    bool tls = strncasecmp(url, "https://", 8) == 0;
    if (!tls && strncasecmp(url, "http://", 7) != 0)
        return bad_url(what, url, "give the whole URL, \"https://cert-manager.com\"",
                       err);
    const char *host = url + (tls ? 8 : 7);
    size_t len = strcspn(host, "/?#");
    if (len == 0) return bad_url(what, url, "it has no host", err);
    if (memchr(host, '@', len))
        return bad_url(what, url, "credentials do not belong into it", err);
    if (!tls && !loopback(host, host_len(host, len)))
        return bad_url(what, url, "https is needed; plain http is for this machine only",
                       err);
    *ret_path = host + len;
    return 0;
}

int sr_scm_check_token_url(const char *url, sr_err *err) {
    const char *path;
    return check_origin("token_url", url, &path, err);
}

int sr_scm_check_url(const char *url, sr_err *err) {
    const char *path;
    if (check_origin("url", url, &path, err) != 0) return -1;
    if (strpbrk(path, "?#"))
        return bad_url("url", url, "it must not have a query or fragment", err);
    if (strncmp(path, "/customer", 9) == 0)
        return bad_url("url", url,
                       "this is the portal; url is its host alone, and the word after "
                       "/customer/ is customer_uri",
                       err);
    if (strstr(path, "/api") || strstr(path, "/private"))
        return bad_url("url", url,
                       "leave /api and /private out; they are added where they belong",
                       err);
    return 0;
}
