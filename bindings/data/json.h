/* json.h – JSON for C modules: a guarded reader, exact writers, getters that name the
 * path.
 *
 * Pure: no Lua, no I/O, safe on any thread. What touches Lua is in json_lua.h.
 *
 * cJSON alone accepts too much and keeps too little: it lets duplicate keys, NUL, lone
 * surrogates, invalid UTF-8, trailing bytes and odd numbers pass, and rounds large
 * integers. So the text is first checked against RFC 8259 by a scanner of ours, which
 * also knows line, byte and path; only then does cJSON build the tree.
 *
 * Refused (kind protocol): everything outside the grammar; invalid UTF-8 and lone
 * surrogates; \u0000; a key twice in one object; integers beyond ±2^53, which a double
 * would round; numbers beyond the range of a double. Refused (kind limit): nesting deeper
 * than asked for. A leading byte order mark is skipped (RFC 8259 section 8.1).
 *
 * Paths read `.orders[3].id`; indices count from 1, as the Lua side sees them.
 */
#ifndef SR_JSON_H
#define SR_JSON_H

#include "base.h"

#include <cjson/cJSON.h>

#define SR_JSON_DEPTH 64      /* levels of nesting when not told otherwise */
#define SR_JSON_MAX_DEPTH 512 /* and the most that can be asked for */
#define SR_JSON_EXACT (1LL << 53)

/* Parse the whole text; max_depth 0 means SR_JSON_DEPTH. The tree is the caller's, to be
 * freed with cJSON_Delete(). NULL with *err filled on failure. */
cJSON *sr_json_parse(const char *text, size_t len, int max_depth, sr_err *err);

/* ---------------------------------------------------------------- reading a tree
 *
 * Keys are case-sensitive. `where` says what the object is ("order", "directory.meta")
 * and starts the path in messages. A member that is absent or null is an error of kind
 * protocol when required; otherwise 0 is returned and *ret_x keeps what the caller put
 * there. Results live as long as the tree. */

enum { SR_JSON_OPTIONAL, SR_JSON_REQUIRED };

/* The member, or NULL when absent or `object` is no object. JSON null is an item. */
const cJSON *sr_json_item(const cJSON *object, const char *key);
int sr_json_string(const cJSON *object, const char *where, const char *key, int need,
                   const char **ret_text, sr_err *err);
/* An integral number within ±2^53. */
int sr_json_int(const cJSON *object, const char *where, const char *key, int need,
                int64_t *ret_value, sr_err *err);
int sr_json_bool(const cJSON *object, const char *where, const char *key, int need,
                 bool *ret_value, sr_err *err);
int sr_json_array(const cJSON *object, const char *where, const char *key, int need,
                  const cJSON **ret_array, sr_err *err);
int sr_json_object(const cJSON *object, const char *where, const char *key, int need,
                   const cJSON **ret_object, sr_err *err);

/* ---------------------------------------------------------------- writing */

/* Append one value. A string must be valid UTF-8 without NUL and a number finite, else -1
 * with *err of kind usage and `out` as it was. '/' is not escaped; DEL, U+2028 and U+2029
 * are written as they are. */
int sr_json_put_string(sr_buf *out, const char *text, size_t len, sr_err *err);
/* The shortest of 15 to 17 digits that reads back as the same double. */
int sr_json_put_number(sr_buf *out, double value, sr_err *err);
int sr_json_put_int(sr_buf *out, int64_t value, sr_err *err);
/* Append a tree on one line, members in their own order; cJSON_Raw items as they are. */
int sr_json_print(sr_buf *out, const cJSON *item, sr_err *err);

/* Length of the UTF-8 sequence at p (before end), 0 if it is not one: overlong forms,
 * surrogates and what lies beyond U+10FFFF are not. NUL counts as one byte. */
size_t sr_utf8_len(const char *p, const char *end);

/* ---------------------------------------------------------------- places */

/* One step on the way from the root to a value; lives on the C stack. */
typedef struct sr_json_place {
    const struct sr_json_place *up; /* NULL at the root */
    const char *key;                /* in an object, else NULL */
    size_t key_len;
    size_t index; /* in an array, from 1 */
} sr_json_place;

/* ".orders[3].id", shortened in front when it does not fit; "the top" for the root. */
void sr_json_path(const sr_json_place *place, char *buf, size_t size);

#endif
