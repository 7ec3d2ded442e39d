/* scm_ops.c – the table of SCM operations: found by name, taken apart, made into paths.
 *
 * operations.def is compiled into one static array; lists of names in it stay texts with
 * blanks and are walked when needed, which keeps one line an operation. Looking up is a
 * scan over some 280 names, a few microseconds beside an HTTP exchange.
 */
#include "scm/scm_ops.h"

#include <stdio.h>
#include <string.h>

#include "data/encoding.h"

#define NONE SR_SCM_NONE
#define POSITION SR_SCM_POSITION
#define PAGE SR_SCM_PAGE
#define JSON SR_SCM_JSON
#define LIST SR_SCM_LIST
#define EMPTY SR_SCM_EMPTY
#define LOCATION SR_SCM_LOCATION
#define BYTES SR_SCM_BYTES
#define COUNT SR_SCM_COUNT
#define READ true
#define WRITE false
#define SR_SCM_OP(name, ids, method, path, classic, admin, query, body, paging, result,  \
                  effect)                                                                \
    {name, ids, #method, path, {classic, admin}, query, body, paging, result, effect},

static const sr_scm_op ops[] = {
#include "operations.def"
};

#define OPS (sizeof ops / sizeof *ops)

/* Parameters that come with a style of paging. */
static const char *const paging_names[] = {"", "position size", "page size sort filter"};

const sr_scm_op *sr_scm_ops(size_t *ret_count) {
    *ret_count = OPS;
    return ops;
}

/* ---------------------------------------------------------------- words */

/* The next word of a text with blanks between, from *at; false at the end. */
static bool next_word(const char **at, const char **ret_word, size_t *ret_len) {
    const char *p = *at + strspn(*at, " ");
    *ret_len = strcspn(p, " ");
    *ret_word = p;
    *at = p + *ret_len;
    return *ret_len > 0;
}

/* The place of a version in "2 1", or -1. 0 asks for the default. */
static int version_of(const char *versions, int wanted) {
    const char *word;
    size_t len;
    while (next_word(&versions, &word, &len)) {
        int version = word[0] - '0';
        if (wanted == 0 || wanted == version) return version;
    }
    return -1;
}

/* Whether `name` is one of the operationIds; *ret_version is 0 when it names none. */
static bool has_id(const char *ids, const char *name, int *ret_version) {
    const char *word;
    size_t len, want = strlen(name);
    while (next_word(&ids, &word, &len)) {
        int version = 0;
        if (len > 3 && word[0] == 'v' && word[2] == ':') {
            version = word[1] - '0';
            word += 3;
            len -= 3;
        }
        if (len != want || memcmp(word, name, len) != 0) continue;
        *ret_version = version;
        return true;
    }
    return false;
}

/* ---------------------------------------------------------------- finding */

static const char *face_name(sr_scm_face face) {
    return face == SR_SCM_ADMIN ? "the admin face (OAuth2)"
                                : "the classic face (headers)";
}

static int fail_unknown(const char *name, sr_err *err) {
    const char *names[OPS + 1];
    size_t n = 0;
    for (size_t i = 0; i < OPS; i++)
        names[n++] = ops[i].name;
    names[n] = NULL;
    const char *close = sr_suggest(name, names);
    return sr_fail(err, SR_USAGE, "UNKNOWN_OPERATION",
                   "SCM has no operation \"%.80s\"%s%s%s (scm.operations() lists them)",
                   name, close ? "; did you mean \"" : "", close ? close : "",
                   close ? "\"?" : "");
}

/* The operation exists, but not so. */
static int fail_elsewhere(const sr_scm_op *op, sr_scm_face face, int version,
                          sr_err *err) {
    const char *here = op->versions[face];
    if (*here)
        return sr_fail(err, SR_USAGE, "NO_VERSION",
                       "%s has no version %d on %s; it has %s", op->name, version,
                       face_name(face), here);
    return sr_fail(err, SR_USAGE, "NO_FACE", "%s is not offered on %s, only on %s",
                   op->name, face_name(face),
                   face_name(face == SR_SCM_ADMIN ? SR_SCM_CLASSIC : SR_SCM_ADMIN));
}

int sr_scm_find(const char *name, sr_scm_face face, int version, const sr_scm_op **ret_op,
                int *ret_version, sr_err *err) {
    const sr_scm_op *other = NULL;
    int wanted = version;
    for (size_t i = 0; i < OPS; i++) {
        int named = 0;
        if (strcmp(ops[i].name, name) != 0 && !has_id(ops[i].ids, name, &named)) continue;
        wanted = version ? version : named;
        int found = version_of(ops[i].versions[face], wanted);
        if (found < 0) {
            if (!other || !*other->versions[face]) other = &ops[i];
            continue;
        }
        *ret_op = &ops[i];
        *ret_version = found;
        return 0;
    }
    if (other) return fail_elsewhere(other, face, wanted, err);
    return fail_unknown(name, err);
}

/* ---------------------------------------------------------------- fields */

static void set_field(sr_scm_field *field, const char *name, size_t len,
                      sr_scm_place place) {
    *field =
        (sr_scm_field){.place = place, .type = 'x', .required = place == SR_SCM_PATH};
    snprintf(field->name, sizeof field->name, "%.*s", (int)len, name);
}

/* "orgId:n!" */
static void set_body_field(sr_scm_field *field, const char *word, size_t len) {
    const char *colon = memchr(word, ':', len);
    size_t name = colon ? (size_t)(colon - word) : len;
    set_field(field, word, name, SR_SCM_BODY);
    if (colon && name + 1 < len) field->type = colon[1];
    field->required = word[len - 1] == '!';
}

/* Counts down to the field wanted. */
typedef struct walk {
    size_t left;
    sr_scm_field *ret;
} walk;

static bool walk_path(walk *w, const char *path) {
    while ((path = strchr(path, '{'))) {
        size_t len = strcspn(path + 1, "}");
        if (w->left-- == 0) {
            set_field(w->ret, path + 1, len, SR_SCM_PATH);
            return true;
        }
        path += len;
    }
    return false;
}

static bool walk_query(walk *w, const char *names) {
    const char *word;
    size_t len;
    while (next_word(&names, &word, &len)) {
        if (w->left-- > 0) continue;
        bool header = *word == '@';
        set_field(w->ret, word + header, len - header,
                  header ? SR_SCM_HEADER : SR_SCM_QUERY);
        return true;
    }
    return false;
}

static bool walk_body(walk *w, const char *names) {
    const char *word;
    size_t len;
    while (next_word(&names, &word, &len)) {
        if (!memchr(word, ':', len)) continue; /* "[]", "{}", "multipart" */
        if (w->left-- > 0) continue;
        set_body_field(w->ret, word, len);
        return true;
    }
    return false;
}

bool sr_scm_next_field(const sr_scm_op *op, size_t *at, sr_scm_field *ret_field) {
    walk w = {.left = *at, .ret = ret_field};
    ++*at;
    return walk_path(&w, op->path) || walk_query(&w, op->query) ||
           walk_query(&w, paging_names[op->paging]) || walk_body(&w, op->body);
}

bool sr_scm_field_of(const sr_scm_op *op, const char *name, sr_scm_field *ret_field) {
    size_t at = 0;
    sr_scm_field field;
    while (sr_scm_next_field(op, &at, &field)) {
        if (strcmp(field.name, name) != 0) continue;
        *ret_field = field;
        return true;
    }
    return false;
}

#define FIELDS_MAX 64

int sr_scm_unknown_field(const sr_scm_op *op, const char *name, sr_err *err) {
    sr_scm_field fields[FIELDS_MAX];
    const char *names[FIELDS_MAX + 1];
    size_t n = 0;
    for (size_t at = 0; n < FIELDS_MAX && sr_scm_next_field(op, &at, &fields[n]); n++)
        names[n] = fields[n].name;
    names[n] = NULL;
    const char *close = sr_suggest(name, names);
    if (close)
        return sr_fail(err, SR_USAGE, "UNKNOWN_PARAMETER",
                       "%s has no parameter \"%.60s\"; did you mean \"%s\"?", op->name,
                       name, close);
    char list[256] = "none";
    for (size_t i = 0, used = 0; i < n && used < sizeof list - 1; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? " " : "",
                                 names[i]);
    return sr_fail(err, SR_USAGE, "UNKNOWN_PARAMETER",
                   "%s has no parameter \"%.60s\"; it has: %s", op->name, name, list);
}

char sr_scm_body_kind(const sr_scm_op *op) {
    if (!*op->body) return 0;
    if (op->body[0] == '[') return '[';
    return strncmp(op->body, "multipart", 9) == 0 ? 'm' : '{';
}

/* ---------------------------------------------------------------- paths */

static int put_value(const sr_scm_op *op, const char *name, size_t len, const char *value,
                     sr_buf *out, sr_err *err) {
    if (!value || !*value || strcmp(value, ".") == 0 || strcmp(value, "..") == 0)
        return sr_fail(err, SR_USAGE, "BAD_ARGUMENT", "%s: %.*s: %s", op->name, (int)len,
                       name,
                       value && *value ? "a step of a path is no id"
                                       : "it is needed and must not be empty");
    return sr_percent_encode(out, value, strlen(value), err);
}

int sr_scm_path(const sr_scm_op *op, int version, const char *const *values, sr_buf *out,
                sr_err *err) {
    for (const char *p = op->path; *p;) {
        if (*p == '{') {
            size_t len = strcspn(p + 1, "}");
            if (put_value(op, p + 1, len, *values++, out, err) != 0) return -1;
            p += len + 2;
        } else if (*p == '*') {
            sr_buf_printf(out, "%d", version);
            p++;
        } else {
            sr_buf_append(out, p++, 1);
        }
    }
    return out->oom ? sr_fail(err, SR_LIMIT, "ENOMEM", "no memory") : 0;
}
