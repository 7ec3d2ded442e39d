/* scm_msg.h – what SCM says: errors, "not ready yet", dates, words, comments.
 *
 * Pure: no Lua, no I/O, no clock. Everything that comes in was written by a server or a
 * person and is checked here; what goes out in messages has no control characters.
 */
#ifndef SR_SCM_MSG_H
#define SR_SCM_MSG_H

#include <cjson/cJSON.h>

#include "base.h"

/* ---------------------------------------------------------------- error codes
 * (scm_codes.c) */

/* What to do with a code: nothing, call again later, or wait for people or the CA. */
typedef enum sr_scm_again { SR_SCM_NEVER, SR_SCM_RETRY, SR_SCM_PENDING } sr_scm_again;

/* One code of SCM's error bodies. The same number means different things in different
 * calls: `op` is a verb (".collect"), a resource ("person.") or NULL for all. */
typedef struct sr_scm_code {
    int code;
    const char *op;
    sr_kind kind;
    sr_scm_again again;
    const char *meaning;
    const char *mend; /* or NULL */
} sr_scm_code;

/* The row for a code in an answer to the operation `op` ("ssl.enroll"), or NULL. */
const sr_scm_code *sr_scm_code_of(int code, const char *op);
/* The whole table; ends with a row whose meaning is NULL. */
const sr_scm_code *sr_scm_codes(void);

/* ---------------------------------------------------------------- failures
 * (scm_msg.c) */

/* An answer with a status of 400 or more. */
typedef struct sr_scm_answer {
    const char *op;   /* "ssl.enroll" */
    const char *host; /* "cert-manager.com", for the message */
    bool admin;       /* asked with a bearer token */
    int status;       /* HTTP status */
    const char *body; /* whatever came; may be empty or HTML */
    size_t len;
    const char *www_authenticate; /* or NULL */
    bool has_retry_after;
    double retry_after; /* seconds */
} sr_scm_answer;

/* What was found in it. */
typedef struct sr_scm_reason {
    bool has_code;
    int code;
    char description[1024]; /* SCM's own text, one line, "" if there was none */
    char token_url[256];    /* the token server that WWW-Authenticate names, or "" */
    const sr_scm_code *row; /* or NULL */
} sr_scm_reason;

/* Explain an answer: a JSON error body, HTML from a proxy, or nothing at all. Fills *err
 * (kind, code, status, retryable, message with meaning and mend) and *ret_reason. */
void sr_scm_explain(const sr_scm_answer *answer, sr_scm_reason *ret_reason, sr_err *err);

/* The first https or http URL in a WWW-Authenticate field into buf; false if none. */
bool sr_scm_token_url(const char *field, char *buf, size_t size);

/* Take members that are null out of a tree, at every depth; in arrays they stay. */
void sr_scm_prune(cJSON *item);

/* The base URL of a connection: https, or http on a loopback address; no user, no query,
 * no path of the portal. Fails with usage and the mend. */
int sr_scm_check_url(const char *url, sr_err *err);
/* The URL of a token server: https, or http on a loopback address; no user. */
int sr_scm_check_token_url(const char *url, sr_err *err);

/* ---------------------------------------------------------------- words
 * (scm_text.c) */

/* A date in any form the API uses, to UTC seconds: ISO with or without time, fraction and
 * offset, dd.MM.yyyy, yyyy/MM/dd, MM/dd/yyyy, with time and "GMT" or without. `format` is
 * NULL or a name of dateFormat ("UK"), which the text must then have. What has no offset
 * is UTC. Fails with protocol. */
int sr_scm_date(const char *text, size_t len, const char *format, double *ret_seconds,
                sr_err *err);
/* UTC seconds in a form of dateFormat: "ISO", "US_HMS" … Fails with usage. */
int sr_scm_date_text(double seconds, const char *format, sr_buf *out, sr_err *err);

/* What a certificate's status says about its way. */
typedef enum sr_scm_state {
    SR_SCM_OPEN,   /* on its way: Init, Requested, SAApproved, Approved, Applied */
    SR_SCM_ISSUED, /* collectable */
    SR_SCM_DEAD,   /* Declined, Rejected, Invalid */
    SR_SCM_GONE    /* Revoked, Expired, Replaced, Unmanaged */
} sr_scm_state;

/* The constant ("SAApproved") of a status in any spelling, and its state; NULL when it is
 * none. */
const char *sr_scm_status(const char *text, sr_scm_state *ret_state);

/* The spelling of a filter's value that a face wants: constants on the classic one,
 * display names on the admin one (`display`). `field` is "ssl.status", "dcv.orderStatus"
 * …; for fields without such a list *ret_word is the text itself. Fails with usage and a
 * suggestion. */
int sr_scm_word(const char *field, const char *text, bool display, const char **ret_word,
                sr_err *err);

/* The code of a server type by name ("Tomcat" → 24), in any case. Fails with usage. */
int sr_scm_server_type(const char *name, int *ret_code, sr_err *err);

#define SR_SCM_COMMENT_MAX 1024 /* characters of the comments field */
#define SR_SCM_KEY_MAX 128      /* of an idempotency key */

/* The user's comment (may be "") followed by " [secrun:KEY]". Fails with usage when the
 * key has other characters than letters, digits and ". _ : -", or when both together have
 * more than 1,024 characters. */
int sr_scm_comment(const char *comment, size_t len, const char *key, sr_buf *out,
                   sr_err *err);
/* Whether a comment carries that key. */
bool sr_scm_has_key(const char *comment, size_t len, const char *key);

#endif
