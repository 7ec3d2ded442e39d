/* acme_msg.c – ACME documents (RFC 8555): parse and check them; see acme_msg.h.
 *
 * Each kind of document is a table of fields. One walk over the table checks the parsed
 * JSON; the Lua face walks the same table to build its table, so nothing unchecked gets
 * through. Texts of problems and the comparison of names are in acme_text.c.
 */
#include "acme/acme_msg.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <string.h>

#include "data/json.h"
#include "net/http_msg.h"

#define TEXT_MAX 8192
#define DEPTH_MAX 16

/* ---------------------------------------------------------------- the shapes */

static const sr_acme_field identifier_fields[] = {
    {"type", "type", SR_ACME_TEXT, true}, {"value", "value", SR_ACME_TEXT, true}, {0}};
static const sr_acme_shape identifier = {"identifier", false, identifier_fields, NULL};

static const sr_acme_shape problem_identifier = {"identifier", true, identifier_fields,
                                                 NULL};
static const sr_acme_field subproblem_fields[] = {
    {"type", "type", SR_ACME_TEXT},
    {"title", "title", SR_ACME_TEXT},
    {"detail", "detail", SR_ACME_TEXT},
    {"identifier", "identifier", SR_ACME_OBJECT, .shape = &problem_identifier},
    {0}};
static const sr_acme_shape subproblem = {"subproblem", true, subproblem_fields, NULL};

static const sr_acme_field problem_fields[] = {
    {"type", "type", SR_ACME_TEXT},
    {"title", "title", SR_ACME_TEXT},
    {"detail", "detail", SR_ACME_TEXT},
    {"instance", "instance", SR_ACME_TEXT},
    {"status", "status", SR_ACME_INT},
    {"algorithms", "algorithms", SR_ACME_TEXT, .list = 32},
    {"subproblems", "subproblems", SR_ACME_OBJECT, .list = SR_ACME_NAMES_MAX,
     .shape = &subproblem},
    {0}};
const sr_acme_shape sr_acme_problem = {"problem", true, problem_fields, NULL};

static const sr_acme_field meta_fields[] = {
    {"termsOfService", "terms_of_service", SR_ACME_TEXT},
    {"website", "website", SR_ACME_TEXT},
    {"caaIdentities", "caa_identities", SR_ACME_TEXT, .list = 64},
    {"externalAccountRequired", "external_account_required", SR_ACME_BOOL},
    {"profiles", "profiles", SR_ACME_MAP},
    {0}};
static const sr_acme_shape meta = {"meta", true, meta_fields, NULL};

static const sr_acme_field directory_fields[] = {
    {"newNonce", "new_nonce", SR_ACME_URL, true},
    {"newAccount", "new_account", SR_ACME_URL, true},
    {"newOrder", "new_order", SR_ACME_URL, true},
    {"newAuthz", "new_authz", SR_ACME_URL},
    {"revokeCert", "revoke_cert", SR_ACME_URL},
    {"keyChange", "key_change", SR_ACME_URL},
    {"renewalInfo", "renewal_info", SR_ACME_URL},
    {"meta", "meta", SR_ACME_OBJECT, .shape = &meta},
    {0}};
const sr_acme_shape sr_acme_directory = {"directory", false, directory_fields, NULL};

static const sr_acme_field account_fields[] = {
    {"status", "status", SR_ACME_STATUS, true, .choices = "valid|deactivated|revoked"},
    {"contact", "contact", SR_ACME_TEXT, .list = 64},
    {"termsOfServiceAgreed", "terms_agreed", SR_ACME_BOOL},
    {"orders", "orders", SR_ACME_URL},
    {0}};
const sr_acme_shape sr_acme_account = {"account", false, account_fields, NULL};

/* One page of an account's orders list, RFC 8555 7.1.2.1. */
static const sr_acme_field orders_fields[] = {
    {"orders", "orders", SR_ACME_URL, true, .list = SR_ACME_ORDERS_MAX}, {0}};
const sr_acme_shape sr_acme_orders = {"orders", false, orders_fields, NULL};

static int check_challenge(const cJSON *doc, sr_err *err);
static const sr_acme_field challenge_fields[] = {
    {"type", "type", SR_ACME_TEXT, true},
    {"url", "url", SR_ACME_URL, true},
    {"status", "status", SR_ACME_STATUS, true,
     .choices = "pending|processing|valid|invalid"},
    {"token", "token", SR_ACME_TOKEN},
    {"validated", "validated", SR_ACME_TIME},
    {"error", "error", SR_ACME_OBJECT, .shape = &sr_acme_problem},
    {"errors", "errors", SR_ACME_OBJECT, .list = 256, .shape = &sr_acme_problem},
    {0}};
const sr_acme_shape sr_acme_challenge = {"challenge", false, challenge_fields,
                                         check_challenge};

static const sr_acme_field authorization_fields[] = {
    {"identifier", "identifier", SR_ACME_OBJECT, true, .shape = &identifier},
    {"status", "status", SR_ACME_STATUS, true,
     .choices = "pending|valid|invalid|deactivated|expired|revoked"},
    {"expires", "expires", SR_ACME_TIME},
    {"wildcard", "wildcard", SR_ACME_BOOL},
    {"challenges", "challenges", SR_ACME_OBJECT, true, .list = 64,
     .shape = &sr_acme_challenge},
    {0}};
const sr_acme_shape sr_acme_authorization = {"authorization", false, authorization_fields,
                                             NULL};

static int check_order(const cJSON *doc, sr_err *err);
static const sr_acme_field order_fields[] = {
    {"status", "status", SR_ACME_STATUS, true,
     .choices = "pending|ready|processing|valid|invalid"},
    {"identifiers", "identifiers", SR_ACME_OBJECT, true, .list = SR_ACME_NAMES_MAX,
     .shape = &identifier},
    {"authorizations", "authorizations", SR_ACME_URL, .list = SR_ACME_NAMES_MAX},
    {"finalize", "finalize", SR_ACME_URL, true},
    {"certificate", "certificate", SR_ACME_URL},
    {"expires", "expires", SR_ACME_TIME},
    {"notBefore", "not_before", SR_ACME_TIME},
    {"notAfter", "not_after", SR_ACME_TIME},
    {"profile", "profile", SR_ACME_TEXT},
    {"replaces", "replaces", SR_ACME_TEXT},
    {"error", "error", SR_ACME_OBJECT, .shape = &sr_acme_problem},
    {0}};
const sr_acme_shape sr_acme_order = {"order", false, order_fields, check_order};

const sr_acme_shape *sr_acme_shape_of(const char *name) {
    static const sr_acme_shape *const all[] = {
        &sr_acme_directory,     &sr_acme_account,   &sr_acme_orders, &sr_acme_order,
        &sr_acme_authorization, &sr_acme_challenge, &sr_acme_problem};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

static const char *text_of(const cJSON *doc, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, key));
}

/* The challenges of RFC 8555 and RFC 8737 cannot do without a token. */
static int check_challenge(const cJSON *doc, sr_err *err) {
    static const char *const with_token[] = {"http-01", "dns-01", "tls-alpn-01"};
    const char *type = text_of(doc, "type");
    for (size_t i = 0; i < sizeof with_token / sizeof *with_token; i++)
        if (strcmp(type, with_token[i]) == 0 && !text_of(doc, "token"))
            return sr_fail(err, SR_PROTOCOL, NULL, "%s challenge without a token", type);
    return 0;
}

static int check_order(const cJSON *doc, sr_err *err) {
    if (strcmp(text_of(doc, "status"), "valid") == 0 && !text_of(doc, "certificate"))
        return sr_fail(err, SR_PROTOCOL, NULL,
                       "order is valid but has no certificate URL");
    return 0;
}

/* ---------------------------------------------------------------- values */

bool sr_acme_token_ok(const char *token, size_t len) {
    if (len < SR_ACME_TOKEN_MIN || len > SR_ACME_TOKEN_MAX) return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)token[i]) && token[i] != '-' && token[i] != '_')
            return false;
    return true;
}

/* `digits` decimal digits at *p, advancing it; -1 if they are not all there. */
static int number(const char **p, int digits) {
    int value = 0;
    for (; digits > 0; digits--, (*p)++) {
        if (!isdigit((unsigned char)**p)) return -1;
        value = value * 10 + (**p - '0');
    }
    return value;
}

/* "Z" or "+hh:mm" at p, to the end of the text. */
static int zone(const char *p, int *ret_seconds) {
    if ((*p == 'Z' || *p == 'z') && !p[1]) {
        *ret_seconds = 0;
        return 0;
    }
    if (*p != '+' && *p != '-') return -1;
    int sign = *p++ == '-' ? -1 : 1;
    int hours = number(&p, 2);
    if (hours < 0 || hours > 23 || *p++ != ':') return -1;
    int minutes = number(&p, 2);
    if (minutes < 0 || minutes > 59 || *p) return -1;
    *ret_seconds = sign * (hours * 3600 + minutes * 60);
    return 0;
}

/* Days since 1970-01-01 in the Gregorian calendar. */
static int64_t days_of(int year, int month, int day) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int64_t y = year - 1;
    int64_t days = y * 365 + y / 4 - y / 100 + y / 400 + before[month - 1] + day - 1;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days + (leap && month > 2) - 719162;
}

int sr_acme_parse_time(const char *text, int64_t *ret_seconds) {
    static const struct {
        int digits, min, max;
        char after;
    } part[] = {{4, 1, 9999, '-'}, {2, 1, 12, '-'}, {2, 1, 31, 'T'},
                {2, 0, 23, ':'},   {2, 0, 59, ':'}, {2, 0, 60, 0}};
    int v[6], offset;
    const char *p = text;
    for (int i = 0; i < 6; i++) {
        v[i] = number(&p, part[i].digits);
        if (v[i] < part[i].min || v[i] > part[i].max) return -1;
        if (part[i].after && toupper((unsigned char)*p++) != part[i].after) return -1;
    }
    if (*p == '.') {
        if (!isdigit((unsigned char)p[1])) return -1;
        do
            p++;
        while (isdigit((unsigned char)*p));
    }
    if (zone(p, &offset) != 0) return -1;
    *ret_seconds =
        ((days_of(v[0], v[1], v[2]) * 24 + v[3]) * 60 + v[4]) * 60 + v[5] - offset;
    return 0;
}

/* ---------------------------------------------------------------- URLs */

typedef struct url_facts {
    bool plain;    /* http */
    bool local;    /* a loopback address or "localhost" */
    bool secluded; /* the same, or a private, link-local or reserved address */
} url_facts;

static void classify_host(const char *host, url_facts *ret) {
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        ret->local = ntohl(v4.sin_addr.s_addr) >> 24 == 127;
        ret->secluded = sr_http_private_address((struct sockaddr *)&v4);
    } else if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        ret->local = IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
        ret->secluded = sr_http_private_address((struct sockaddr *)&v6);
    } else {
        size_t len = strlen(host);
        ret->local = strcmp(host, "localhost") == 0 ||
                     (len > 10 && strcmp(host + len - 10, ".localhost") == 0);
        ret->secluded = ret->local;
    }
}

/* NULL, or what is wrong with it. */
static const char *judge_url(const char *text, url_facts *ret) {
    sr_http_url url = {0};
    sr_err ignored = {0}; /* the words here fit better */
    const char *wrong = NULL;
    size_t len = strlen(text);
    *ret = (url_facts){0};
    if (len > SR_ACME_URL_MAX) return "is longer than 2,048 bytes";
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~' || strchr("\"<>\\^`{|}", text[i]))
            return "has a character that a URL cannot have";
    if (sr_http_url_parse(text, len, &url, &ignored) != 0)
        wrong = "is not an absolute https URL";
    else if (strchr(text, '#'))
        wrong = "has a fragment";
    else if (url.user || url.password)
        wrong = "has a user name";
    else {
        ret->plain = !url.https;
        classify_host(url.host, ret);
    }
    sr_http_url_free(&url);
    return wrong;
}

int sr_acme_check_directory_url(const char *url, sr_err *err) {
    url_facts facts;
    const char *wrong = judge_url(url, &facts);
    if (!wrong && facts.plain && !facts.local)
        wrong = "is plain http; use https (http is for loopback addresses only)";
    if (!wrong) return 0;
    return sr_fail(err, SR_USAGE, NULL, "directory URL %.200s %s", url, wrong);
}

/* home NULL: the directory URL itself is no good. */
static int check_url(const char *url, const url_facts *home, sr_err *err) {
    url_facts facts;
    const char *wrong = judge_url(url, &facts);
    if (!wrong && !home) wrong = "comes without a directory URL";
    if (!wrong && facts.plain && !(home->plain && home->local)) wrong = "is not https";
    if (!wrong && facts.secluded && !home->secluded)
        wrong = "points to a private address, which the directory URL does not";
    if (!wrong) return 0;
    return sr_fail(err, SR_PROTOCOL, NULL, "URL %.200s from the CA %s", url, wrong);
}

int sr_acme_check_url(const char *url, const char *directory, sr_err *err) {
    url_facts home;
    return check_url(url, judge_url(directory, &home) ? NULL : &home, err);
}

/* ---------------------------------------------------------------- the walk */

typedef struct walk {
    const url_facts *home; /* of the directory: URLs are judged against it */
} walk;

static int check_object(const walk *w, const sr_acme_shape *shape, cJSON *doc,
                        sr_err *err);

static bool is_choice(const char *value, const char *choices) {
    size_t len = strlen(value);
    for (const char *p = choices; p; p = strchr(p, '|')) {
        if (*p == '|') p++;
        if (strncmp(p, value, len) == 0 && (p[len] == '|' || !p[len])) return len > 0;
    }
    return false;
}

static bool is_map(const cJSON *value) {
    if (!cJSON_IsObject(value)) return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, value) {
        const char *text = cJSON_GetStringValue(item);
        if (!text || strlen(text) > TEXT_MAX || strlen(item->string) > 256) return false;
    }
    return true;
}

static int wrong(const sr_acme_field *field, const char *expected, sr_err *err) {
    return sr_fail(err, SR_PROTOCOL, NULL, "field \"%s\" is not %s", field->json,
                   expected);
}

static int check_text(const walk *w, const sr_acme_field *field, const char *text,
                      sr_err *err) {
    int64_t seconds;
    if (!text) return wrong(field, "a text", err);
    switch (field->type) {
    case SR_ACME_URL: return check_url(text, w->home, err);
    case SR_ACME_TIME:
        return sr_acme_parse_time(text, &seconds) ? wrong(field, "an RFC 3339 time", err)
                                                  : 0;
    case SR_ACME_TOKEN:
        if (sr_acme_token_ok(text, strlen(text))) return 0;
        return wrong(field,
                     "base64url of 22 to 128 characters (the CA must not choose "
                     "paths)",
                     err);
    case SR_ACME_STATUS:
        if (is_choice(text, field->choices)) return 0;
        return sr_fail(err, SR_PROTOCOL, NULL, "status \"%.40s\" is not one of %s", text,
                       field->choices);
    default:
        return strlen(text) <= TEXT_MAX ? 0 : wrong(field, "a text of 8,192 bytes", err);
    }
}

static int check_value(const walk *w, const sr_acme_field *field, cJSON *value,
                       sr_err *err) {
    switch (field->type) {
    case SR_ACME_BOOL:
        return cJSON_IsBool(value) ? 0 : wrong(field, "true or false", err);
    case SR_ACME_INT:
        if (cJSON_IsNumber(value) && value->valuedouble >= -1e9 &&
            value->valuedouble <= 1e9)
            return 0;
        return wrong(field, "a number", err);
    case SR_ACME_MAP: return is_map(value) ? 0 : wrong(field, "an object of texts", err);
    case SR_ACME_OBJECT: return check_object(w, field->shape, value, err);
    default: return check_text(w, field, cJSON_GetStringValue(value), err);
    }
}

static int check_list(const walk *w, const sr_acme_field *field, cJSON *list,
                      sr_err *err) {
    if (!cJSON_IsArray(list)) return wrong(field, "a list", err);
    unsigned count = 0;
    cJSON *item;
    cJSON_ArrayForEach(item, list) {
        if (++count > field->list)
            return sr_fail(err, SR_LIMIT, NULL, "\"%s\" has more than %u entries",
                           field->json, field->list);
        if (check_value(w, field, item, err) != 0) return -1;
    }
    return 0;
}

/* null, and the empty text some CAs send for "not yet", count as absent. */
static bool is_absent(const sr_acme_field *field, const cJSON *item) {
    if (cJSON_IsNull(item)) return true;
    return !field->required && !field->list && cJSON_IsString(item) &&
           !*item->valuestring;
}

static int check_field(const walk *w, const sr_acme_field *field, cJSON *doc,
                       sr_err *err) {
    cJSON *item = cJSON_GetObjectItemCaseSensitive(doc, field->json);
    if (item && is_absent(field, item)) {
        cJSON_DeleteItemFromObjectCaseSensitive(doc, field->json);
        item = NULL;
    }
    if (!item && field->required)
        return sr_fail(err, SR_PROTOCOL, NULL, "field \"%s\" is missing", field->json);
    if (!item) return 0;
    return field->list ? check_list(w, field, item, err)
                       : check_value(w, field, item, err);
}

static int check_object(const walk *w, const sr_acme_shape *shape, cJSON *doc,
                        sr_err *err) {
    if (!cJSON_IsObject(doc))
        return sr_fail(err, SR_PROTOCOL, NULL, "%s is not a JSON object", shape->name);
    for (const sr_acme_field *field = shape->fields; field->json; field++) {
        sr_err problem = {0};
        if (check_field(w, field, doc, &problem) == 0) continue;
        if (!shape->lenient) {
            *err = problem;
            return -1;
        }
        cJSON_DeleteItemFromObjectCaseSensitive(doc, field->json);
    }
    return shape->check ? shape->check(doc, err) : 0;
}

/* ---------------------------------------------------------------- parsing */

/* "order from URL: what" instead of "what". */
static int locate(const sr_acme_shape *shape, const char *from, sr_err *err) {
    sr_err inner = *err;
    return sr_fail(err, inner.kind, inner.code[0] ? inner.code : NULL,
                   "%s from %.160s: %s", shape->name, from, inner.message);
}

int sr_acme_parse(const sr_acme_shape *shape, const char *text, size_t len,
                  const char *from, const char *directory, cJSON **ret_doc, sr_err *err) {
    url_facts home;
    walk w = {judge_url(directory, &home) ? NULL : &home};
    if (len > SR_ACME_DOC_MAX)
        return sr_fail(err, SR_LIMIT, NULL, "%s from %.160s: %zu bytes, the limit is %zu",
                       shape->name, from, len, SR_ACME_DOC_MAX);
    cJSON *doc = sr_json_parse(text, len, DEPTH_MAX, err);
    if (!doc) return locate(shape, from, err);
    if (check_object(&w, shape, doc, err) != 0) {
        cJSON_Delete(doc);
        return locate(shape, from, err);
    }
    *ret_doc = doc;
    return 0;
}
