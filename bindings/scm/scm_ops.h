/* scm_ops.h – the operations of the SCM API as a table, and what a call needs from it.
 *
 * Pure: names in, an operation, its fields and its path out. No Lua, no I/O. The table is
 * operations.def; all its strings are static.
 */
#ifndef SR_SCM_OPS_H
#define SR_SCM_OPS_H

#include "base.h"

/* The two faces of the API: headers on cert-manager.com, OAuth2 on admin.*.sectigo.com.
 */
typedef enum sr_scm_face { SR_SCM_CLASSIC, SR_SCM_ADMIN } sr_scm_face;

typedef enum sr_scm_paging {
    SR_SCM_NONE,
    SR_SCM_POSITION, /* position = index of the first entry, size */
    SR_SCM_PAGE      /* page = index of the page, size, sort, filter */
} sr_scm_paging;

typedef enum sr_scm_result {
    SR_SCM_JSON,     /* an object */
    SR_SCM_LIST,     /* an array */
    SR_SCM_EMPTY,    /* no body is expected */
    SR_SCM_LOCATION, /* the id at the end of Location */
    SR_SCM_BYTES,    /* a file */
    SR_SCM_COUNT     /* X-Total-Count */
} sr_scm_result;

typedef struct sr_scm_op {
    const char *name;        /* "ssl.list" */
    const char *ids;         /* operationIds with a blank between, "v1:" before some */
    const char *method;      /* "GET" */
    const char *path;        /* with v* for the version and {x} for parameters */
    const char *versions[2]; /* by face, "1 2", the default first; "" for none */
    const char *query;       /* names with a blank between; "@x" is a header */
    const char *body;        /* "name:type" with "!" when required; see the .def */
    sr_scm_paging paging;
    sr_scm_result result;
    bool reads; /* has no effect: may be repeated */
} sr_scm_op;

/* Where a parameter belongs. */
typedef enum sr_scm_place {
    SR_SCM_PATH,
    SR_SCM_QUERY,
    SR_SCM_HEADER,
    SR_SCM_BODY
} sr_scm_place;

typedef struct sr_scm_field {
    char name[64];
    sr_scm_place place;
    char type; /* of the body: s n b l o x p c m; 'x' elsewhere */
    bool required;
} sr_scm_field;

/* The whole table, in its own order. */
const sr_scm_op *sr_scm_ops(size_t *ret_count);

/* The operation `name`, or the vendor's operationId, on a face. version 0 is the face's
 * default, or that of the id. Fails with usage: unknown (with a suggestion), not on this
 * face, not in this version. */
int sr_scm_find(const char *name, sr_scm_face face, int version, const sr_scm_op **ret_op,
                int *ret_version, sr_err *err);

/* The fields of an operation, one by one: path, query, headers, paging, body. *at starts
 * at 0. false at the end. Those of an array body ("[]") are the fields of its elements.
 */
bool sr_scm_next_field(const sr_scm_op *op, size_t *at, sr_scm_field *ret_field);
/* The field of that name, or false. */
bool sr_scm_field_of(const sr_scm_op *op, const char *name, sr_scm_field *ret_field);
/* Fails with usage for a name that the operation does not have, with a suggestion. */
int sr_scm_unknown_field(const sr_scm_op *op, const char *name, sr_err *err);

/* What the body is: '{' object, '[' list of objects, 'm' multipart form, 0 none. */
char sr_scm_body_kind(const sr_scm_op *op);

/* Append the path, values percent-encoded; `values` in the order of the path's {x}. Fails
 * with usage for an empty value or one that would be a step of the path ("." ".."). */
int sr_scm_path(const sr_scm_op *op, int version, const char *const *values, sr_buf *out,
                sr_err *err);

#endif
