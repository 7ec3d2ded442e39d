/* acme_msg.h – ACME documents (RFC 8555): parse, check, compare, explain.
 *
 * Pure: bytes in, a checked cJSON tree or an sr_err out; no Lua, no I/O. What a CA says
 * is outside data: a tree that sr_acme_parse() returned has every required field, each of
 * the right type, every URL safe to call and every token safe to put in a path. Fields
 * that the shape does not name are ignored, `null` counts as absent.
 */
#ifndef SR_ACME_MSG_H
#define SR_ACME_MSG_H

#include <cjson/cJSON.h>

#include "base.h"

#define SR_ACME_DOC_MAX ((size_t)1024 * 1024) /* bytes of one document */
#define SR_ACME_NAMES_MAX 2000                /* identifiers of one order */
#define SR_ACME_ORDERS_MAX 10000              /* of one page of an orders list */
#define SR_ACME_URL_MAX 2048
#define SR_ACME_TOKEN_MIN 22 /* 128 bits in base64url, RFC 8555 section 8 */
#define SR_ACME_TOKEN_MAX 128

typedef enum sr_acme_type {
    SR_ACME_TEXT,
    SR_ACME_URL, /* absolute, https (http only if the directory is), no user, no fragment
                  */
    SR_ACME_BOOL,
    SR_ACME_INT,
    SR_ACME_TIME,   /* RFC 3339; the face turns it into UTC seconds */
    SR_ACME_STATUS, /* one of .choices */
    SR_ACME_TOKEN,  /* base64url alphabet, 22 to 128 characters */
    SR_ACME_MAP,    /* object of texts */
    SR_ACME_OBJECT  /* object of .shape */
} sr_acme_type;

typedef struct sr_acme_shape sr_acme_shape;

/* One field of a document. */
typedef struct sr_acme_field {
    const char *json; /* name on the wire */
    const char *lua;  /* name in the Lua table */
    sr_acme_type type;
    bool required;
    unsigned list; /* 0: a single value; else a list of at most so many */
    const char *choices;
    const sr_acme_shape *shape;
} sr_acme_field;

/* A kind of document. A lenient one drops what is malformed instead of failing: an error
 * answer must never hide behind a second error. */
struct sr_acme_shape {
    const char *name;
    bool lenient;
    const sr_acme_field *fields; /* ends with a zero entry */
    int (*check)(const cJSON *doc, sr_err *err);
};

extern const sr_acme_shape sr_acme_directory, sr_acme_account, sr_acme_orders,
    sr_acme_order, sr_acme_authorization, sr_acme_challenge, sr_acme_problem;

/* The shape called `name` ("order"), or NULL. */
const sr_acme_shape *sr_acme_shape_of(const char *name);

/* Parse and check one document. `from` is the URL it came from, `directory` the URL of
 * the CA's directory, which decides whether plain http and private addresses are allowed.
 * The caller frees *ret_doc with cJSON_Delete. Fails with kind protocol or limit. */
int sr_acme_parse(const sr_acme_shape *shape, const char *text, size_t len,
                  const char *from, const char *directory, cJSON **ret_doc, sr_err *err);

/* A URL that a CA gave: absolute, https, printable ASCII, without user and fragment, of
 * at most 2,048 bytes. Plain http and private, loopback or link-local address literals
 * are allowed only if the directory itself has one. Kind protocol. */
int sr_acme_check_url(const char *url, const char *directory, sr_err *err);
/* The directory URL as the user gave it: https, or http on a loopback address. Usage. */
int sr_acme_check_directory_url(const char *url, sr_err *err);

/* Whether token is base64url text of 22 to 128 characters (RFC 8555 section 8.1). */
bool sr_acme_token_ok(const char *token, size_t len);

/* "2026-01-31T12:00:00.5+02:00" to UTC seconds, fractions cut. 0 or -1. */
int sr_acme_parse_time(const char *text, int64_t *ret_seconds);

/* ---- identifiers */

/* A set of names: lower-case A-labels or canonical IP addresses, sorted, each once. */
typedef struct sr_acme_names {
    char **list;
    size_t count, cap;
} sr_acme_names;

/* Add one name. Lower-cases, drops one trailing dot, puts IP addresses in their canonical
 * form; fails with kind usage for what can be no identifier, limit beyond 2,000. */
int sr_acme_names_add(sr_acme_names *names, const char *name, size_t len, sr_err *err);
/* Sort and drop duplicates; call once after the last add. */
void sr_acme_names_finish(sr_acme_names *names);
bool sr_acme_names_equal(const sr_acme_names *a, const sr_acme_names *b);
void sr_acme_names_free(sr_acme_names *names);
bool sr_acme_is_ip(const char *name);

/* ---- failures */

/* An answer that is not the one hoped for. */
typedef struct sr_acme_answer {
    const char *what;         /* "newOrder https://ca.example/new-order" */
    int status;               /* HTTP status */
    const char *content_type; /* may be NULL */
    const char *body;
    size_t len;
    bool has_retry_after;
    double retry_after; /* seconds */
} sr_acme_answer;

/* Explain an answer: a problem document (RFC 7807, RFC 8555 section 6.7, with its
 * subproblems per identifier) or, from a proxy on the way, HTML or nothing. Fills *err
 * with kind, code (the URN), status, retryable and message, returns -1. *ret_problem
 * receives the parsed problem or NULL; cJSON_Delete it; the pointer may be NULL. */
int sr_acme_explain(const sr_acme_answer *answer, cJSON **ret_problem, sr_err *err);
/* The same for a problem inside a document, as in a failed challenge. */
int sr_acme_explain_problem(const char *what, const cJSON *problem, int status,
                            sr_err *err);

#endif
