/* acme_text.c – names as sets, and problems in words; the second half of acme_msg.h.
 *
 * A CA may reorder, deduplicate or lower-case the names of an order, so they are compared
 * as sorted sets in one canonical form. Failures are put into one line that says what was
 * asked, what the CA answered, for which identifier, and what to do about it.
 */
#include "acme/acme_msg.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define URN "urn:ietf:params:acme:error:"

/* ---------------------------------------------------------------- names */

bool sr_acme_is_ip(const char *name) {
    unsigned char address[16];
    return inet_pton(AF_INET, name, address) == 1 ||
           inet_pton(AF_INET6, name, address) == 1;
}

/* One label of at most 63 letters, digits and inner hyphens (RFC 5890 LDH). */
static bool label_ok(const char *label, size_t len) {
    if (len == 0 || len > 63 || label[0] == '-' || label[len - 1] == '-') return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)label[i]) && label[i] != '-') return false;
    return true;
}

static bool domain_ok(const char *name) {
    const char *label = strncmp(name, "*.", 2) == 0 ? name + 2 : name;
    bool numeric = true;
    for (;;) {
        size_t len = strcspn(label, ".");
        if (!label_ok(label, len)) return false;
        numeric = strspn(label, "0123456789") == len;
        if (!label[len]) break;
        label += len + 1;
    }
    return !numeric; /* a numeric last label is a mistyped address */
}

/* Canonical form of an IP address in place; size is that of the buffer. */
static bool canonical_ip(char *name, size_t size) {
    unsigned char address[16];
    if (inet_pton(AF_INET, name, address) == 1)
        return inet_ntop(AF_INET, address, name, (socklen_t)size) != NULL;
    if (inet_pton(AF_INET6, name, address) == 1)
        return inet_ntop(AF_INET6, address, name, (socklen_t)size) != NULL;
    return false;
}

static int canonical(const char *name, size_t len, char *ret, size_t size, sr_err *err) {
    if (len && name[len - 1] == '.') len--;
    if (len == 0 || len > 253 || memchr(name, 0, len))
        return sr_fail(err, SR_USAGE, NULL,
                       "\"%.*s\" is not a DNS name or IP address (1 to 253 characters)",
                       (int)(len > 80 ? 80 : len), name);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)name[i] >= 0x80)
            return sr_fail(err, SR_USAGE, NULL,
                           "name %.*s has non-ASCII characters; write its xn-- form",
                           (int)len, name);
        ret[i] = (char)tolower((unsigned char)name[i]);
    }
    ret[len] = 0;
    if (canonical_ip(ret, size) || domain_ok(ret)) return 0;
    return sr_fail(err, SR_USAGE, NULL, "\"%.*s\" is not a DNS name or IP address",
                   (int)len, name);
}

static int grow(sr_acme_names *names, sr_err *err) {
    size_t cap = names->cap ? names->cap * 2 : 8;
    char **list = realloc(names->list, cap * sizeof *list);
    if (!list) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for %zu names", cap);
    names->list = list;
    names->cap = cap;
    return 0;
}

int sr_acme_names_add(sr_acme_names *names, const char *name, size_t len, sr_err *err) {
    char text[256];
    if (names->count >= SR_ACME_NAMES_MAX)
        return sr_fail(err, SR_LIMIT, NULL, "more than %d names for one certificate",
                       SR_ACME_NAMES_MAX);
    if (canonical(name, len, text, sizeof text, err) != 0) return -1;
    if (names->count == names->cap && grow(names, err) != 0) return -1;
    char *copy = strdup(text);
    if (!copy) return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a name");
    names->list[names->count++] = copy;
    return 0;
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void sr_acme_names_finish(sr_acme_names *names) {
    size_t kept = 0;
    if (names->count == 0) return;
    qsort(names->list, names->count, sizeof *names->list, compare);
    for (size_t i = 1; i < names->count; i++) {
        if (strcmp(names->list[i], names->list[kept]) == 0)
            free(names->list[i]);
        else
            names->list[++kept] = names->list[i];
    }
    names->count = kept + 1;
}

bool sr_acme_names_equal(const sr_acme_names *a, const sr_acme_names *b) {
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->list[i], b->list[i]) != 0) return false;
    return true;
}

void sr_acme_names_free(sr_acme_names *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->list[i]);
    free(names->list);
    *names = (sr_acme_names){0};
}

/* ---------------------------------------------------------------- what a problem means
 */

typedef struct meaning {
    const char *type; /* after the URN prefix */
    sr_kind kind;
    bool retryable;
    const char *mend;
} meaning;

static const meaning meanings[] = {
    {"accountDoesNotExist", SR_NOT_FOUND, false,
     "the CA does not know the account of this key; it is registered anew when used"},
    {"alreadyReplaced", SR_CONFLICT, false, "order again without `replaces`"},
    {"alreadyRevoked", SR_CONFLICT, false, NULL},
    {"badCSR", SR_USAGE, false,
     "the CA does not take this CSR: check names and key type"},
    {"badNonce", SR_PROTOCOL, true, NULL},
    {"badPublicKey", SR_USAGE, false, "use another key type"},
    {"badRevocationReason", SR_USAGE, false, NULL},
    {"badSignatureAlgorithm", SR_USAGE, false, "use an account key of another type"},
    {"caa", SR_DENIED, false, "let the CAA records of the name allow this CA"},
    {"compound", SR_DENIED, false, NULL},
    {"connection", SR_CONNECT, false, "the CA must reach the name from outside"},
    {"dns", SR_DNS, false, "the name must resolve from outside"},
    {"externalAccountRequired", SR_AUTH, false, "give eab = {kid = …, hmac_key = …}"},
    {"incorrectResponse", SR_AUTH, false,
     "the name must be served by this machine or this webroot"},
    {"invalidContact", SR_USAGE, false, "correct `contact`"},
    {"invalidProfile", SR_USAGE, false, "choose a profile that the directory lists"},
    {"malformed", SR_PROTOCOL, false, NULL},
    {"orderNotReady", SR_CONFLICT, false, NULL},
    {"rateLimited", SR_RATE_LIMITED, true, "wait as long as the CA says"},
    {"rejectedIdentifier", SR_DENIED, false, "the CA does not issue for this name"},
    {"serverInternal", SR_HTTP, true, NULL},
    {"tls", SR_TLS, false, NULL},
    {"unauthorized", SR_AUTH, false, NULL},
    {"unsupportedContact", SR_USAGE, false, "correct `contact`"},
    {"unsupportedIdentifier", SR_USAGE, false, NULL},
    {"userActionRequired", SR_DENIED, false, "visit the address that the CA names"}};

static const meaning *meaning_of(const char *type) {
    if (!type || strncasecmp(type, URN, sizeof URN - 1) != 0) return NULL;
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (strcasecmp(type + sizeof URN - 1, meanings[i].type) == 0) return &meanings[i];
    return NULL;
}

/* What a bare status means when no problem type says more. 401 is sent where 403 is meant
 * (Sectigo), so both are refusals. */
static meaning meaning_of_status(int status) {
    switch (status) {
    case 401:
    case 403:
        return (meaning){NULL, SR_AUTH, false, "check account, EAB and permissions"};
    case 404:
    case 410: return (meaning){NULL, SR_NOT_FOUND, false, NULL};
    case 405: return (meaning){NULL, SR_PROTOCOL, false, "is this an ACME v2 directory?"};
    case 408: return (meaning){NULL, SR_TIMEOUT, true, NULL};
    case 409: return (meaning){NULL, SR_CONFLICT, false, NULL};
    case 413:
    case 414: return (meaning){NULL, SR_LIMIT, false, "ask for fewer names at once"};
    case 429:
        return (meaning){NULL, SR_RATE_LIMITED, true, "wait as long as the CA says"};
    default:
        if (status >= 500) return (meaning){NULL, SR_HTTP, true, "try again later"};
        if (status >= 300 && status < 400)
            return (meaning){NULL, SR_PROTOCOL, false,
                             "the CA moved; put its new directory URL in place"};
        return (meaning){NULL, status < 300 ? SR_PROTOCOL : SR_HTTP, false, NULL};
    }
}

/* ---------------------------------------------------------------- words */

static const char *text_of(const cJSON *doc, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, key));
}

static const char *short_type(const char *type) {
    if (!type || strcmp(type, "about:blank") == 0) return NULL;
    return strncasecmp(type, URN, sizeof URN - 1) == 0 ? type + sizeof URN - 1 : type;
}

/* "dns: no such name", from type and detail (or title) of a problem. */
static void describe(const cJSON *problem, sr_buf *out) {
    const char *type = short_type(text_of(problem, "type"));
    const char *detail = text_of(problem, "detail");
    if (!detail) detail = text_of(problem, "title");
    if (type) sr_buf_printf(out, "%.64s", type);
    if (type && detail) sr_buf_puts(out, ": ");
    if (detail) sr_buf_printf(out, "%.240s", detail);
}

/* " (a.example: dns: no such name; b.example: caa: …)" */
static void describe_parts(const cJSON *problem, sr_buf *out) {
    const cJSON *parts = cJSON_GetObjectItemCaseSensitive(problem, "subproblems"), *part;
    const char *before = " (";
    int shown = 0;
    cJSON_ArrayForEach(part, parts) {
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(part, "identifier");
        const char *name = text_of(id, "value");
        if (++shown > 5) break;
        sr_buf_puts(out, before);
        if (name) sr_buf_printf(out, "%.100s: ", name);
        describe(part, out);
        before = "; ";
    }
    if (shown > 5) sr_buf_printf(out, "; and %d more", cJSON_GetArraySize(parts) - 5);
    if (shown) sr_buf_puts(out, ")");
}

int sr_acme_explain_problem(const char *what, const cJSON *problem, int status,
                            sr_err *err) {
    sr_buf text = {0};
    const char *type = text_of(problem, "type");
    const char *instance = text_of(problem, "instance");
    const meaning *known = meaning_of(type);
    meaning m = known ? *known : meaning_of_status(status);
    describe(problem, &text);
    if (text.len == 0 && status)
        sr_buf_printf(&text, "HTTP status %d without an explanation", status);
    else if (text.len == 0)
        sr_buf_puts(&text, "failed without an explanation");
    describe_parts(problem, &text);
    if (m.kind == SR_DENIED && instance) sr_buf_printf(&text, ", see %.160s", instance);
    if (m.mend) sr_buf_printf(&text, "; %s", m.mend);
    sr_fail(err, m.kind, type ? type : NULL, "%.200s: %s", what,
            text.data && !text.oom ? text.data : "no memory to explain");
    err->status = status;
    err->retryable = m.retryable;
    sr_buf_free(&text);
    return -1;
}

/* ---------------------------------------------------------------- answers */

/* The text of <title>, or NULL; trimmed, at most size - 1 bytes. */
static const char *title_of(const char *body, size_t len, char *ret, size_t size) {
    char head[4096];
    size_t n = len < sizeof head - 1 ? len : sizeof head - 1;
    memcpy(head, body, n);
    head[n] = 0;
    const char *start = strcasestr(head, "<title>");
    if (!start) return NULL;
    start += 7 + strspn(start + 7, " \t\r\n");
    size_t room = strcspn(start, "<\r\n");
    if (room == 0) return NULL;
    if (room >= size) room = size - 1;
    memcpy(ret, start, room);
    ret[room] = 0;
    return ret;
}

static bool looks_like_html(const sr_acme_answer *a) {
    if (a->content_type && strncasecmp(a->content_type, "text/html", 9) == 0) return true;
    size_t i = 0;
    while (i < a->len && isspace((unsigned char)a->body[i]))
        i++;
    return i < a->len && a->body[i] == '<';
}

/* The answer of something on the way: a proxy, a CDN, a maintenance page. */
static int explain_foreign(const sr_acme_answer *a, sr_err *err) {
    meaning m = meaning_of_status(a->status);
    char title[120] = "", text[300];
    const char *type = a->content_type && *a->content_type ? a->content_type : "no type";
    if (a->len == 0)
        snprintf(text, sizeof text, "an empty answer");
    else if (!looks_like_html(a))
        snprintf(text, sizeof text, "%zu bytes of %.80s instead of a problem document",
                 a->len, type);
    else if (title_of(a->body, a->len, title, sizeof title))
        snprintf(text, sizeof text, "an HTML page \"%s\" (from a proxy before the CA?)",
                 title);
    else
        snprintf(text, sizeof text, "an HTML page (from a proxy before the CA?)");
    sr_fail(err, m.kind, NULL, "%.200s: HTTP status %d with %s%s%s", a->what, a->status,
            text, m.mend ? "; " : "", m.mend ? m.mend : "");
    err->status = a->status;
    err->retryable = m.retryable;
    return -1;
}

int sr_acme_explain(const sr_acme_answer *answer, cJSON **ret_problem, sr_err *err) {
    cJSON *problem = NULL;
    sr_err ignored = {0}; /* not a problem document: explained as what it is instead */
    if (answer->len && !looks_like_html(answer))
        sr_acme_parse(&sr_acme_problem, answer->body, answer->len, answer->what,
                      "https://none.invalid/", &problem, &ignored);
    if (problem && !text_of(problem, "type") && !text_of(problem, "detail") &&
        !text_of(problem, "title")) {
        cJSON_Delete(problem);
        problem = NULL;
    }
    if (problem)
        sr_acme_explain_problem(answer->what, problem, answer->status, err);
    else
        explain_foreign(answer, err);
    err->has_retry_after = answer->has_retry_after;
    err->retry_after = answer->retry_after;
    if (ret_problem)
        *ret_problem = problem;
    else
        cJSON_Delete(problem);
    return -1;
}
