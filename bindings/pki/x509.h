/* x509.h – what the files of the Lua face x509*.c share. Nothing else includes it.
 *
 * Two patterns keep them safe against longjmp:
 *
 *   - An object's userdata is pushed empty, with its metatable, and filled by a core that
 *     cannot raise. Its first member is a pointer; NULL means empty or closed.
 *   - Everything a call gathers lives in a sr_x509_work, itself owned by a userdata until
 *     it is handed to the pool. An error on the way leaves it to the collector.
 */
#ifndef SR_X509_H
#define SR_X509_H

#include "pki.h"
#include "secrun.h"

/* ---------------------------------------------------------------- classes */

/* One field: what to push, and where its value lies in the object's info. */
typedef struct sr_x509_field {
    const char *name;
    void (*push)(lua_State *L, const void *value); /* push exactly one value */
    size_t offset;
} sr_x509_field;

typedef struct sr_x509_class {
    const char *tname; /* "x509.key" */
    const char *noun;  /* "key", for messages */
    const sr_x509_field *fields;
    const luaL_Reg *methods;
    lua_CFunction gc; /* also close() and __close; must leave the first member NULL */
    lua_CFunction tostring;
    /* What offsets count from; NULL: the object itself. May raise. */
    const void *(*info)(lua_State *L, void *object);
} sr_x509_class;

extern const sr_x509_class sr_x509_key_class, sr_x509_cert_class, sr_x509_csr_class,
    sr_x509_crl_class;

void sr_x509_class_open(lua_State *L, const sr_x509_class *cls);
/* Push an empty, zeroed object of the class. */
void *sr_x509_new(lua_State *L, const sr_x509_class *cls, size_t size);
/* The object at idx; raises when it is another type or closed. */
void *sr_x509_check(lua_State *L, int idx, const sr_x509_class *cls);
/* The object at idx, or NULL when it is of another type; raises when it is closed. */
void *sr_x509_test(lua_State *L, int idx, const sr_x509_class *cls);

/* The public key of the key, certificate or request at idx, borrowed from it. */
EVP_PKEY *sr_x509_public_key(lua_State *L, int idx);
/* Push whether the object at 2 (key, certificate or request) holds the public key `own`;
 * the body of every :matches(). Returns 1. */
int sr_x509_matches(lua_State *L, EVP_PKEY *own);

/* ---------------------------------------------------------------- values (x509_push.c)
 *
 * Each takes the address of the member: a char *, a char[], an sr_words …
 */
void sr_x509_push_text(lua_State *L, const void *value); /* const char *, NULL: nil */
void sr_x509_push_chars(lua_State *L, const void *value);
void sr_x509_push_bool(lua_State *L, const void *value);
void sr_x509_push_int(lua_State *L, const void *value);  /* negative: nil */
void sr_x509_push_time(lua_State *L, const void *value); /* double, 0: nil */
void sr_x509_push_words(lua_State *L, const void *value);
void sr_x509_push_dn(lua_State *L, const void *value);
void sr_x509_push_sans(lua_State *L, const void *value);
void sr_x509_push_names(lua_State *L, const void *value); /* sr_sans as plain strings */
void sr_x509_push_extensions(lua_State *L, const void *value);
void sr_x509_push_certs(lua_State *L, const STACK_OF(X509) * certs);
/* "2025-06-15T15:06:40Z" */
const char *sr_x509_date(double when, char buf[32]);

/* ---------------------------------------------------------------- work */

typedef struct sr_x509_work sr_x509_work;
struct sr_x509_work {
    sr_job job;
    /* The core's part: no Lua; here or in the pool. */
    int (*run)(sr_x509_work *work, sr_err *err);
    /* Push the results, inside the task; returns their number. */
    int (*push)(lua_State *L, sr_x509_work *work);
    sr_key key;
    X509 *cert;
    X509_REQ *csr;
    X509_CRL *crl;
    STACK_OF(X509) * chain, *roots, *result, *unused;
    STACK_OF(X509_CRL) * crls;
    sr_pkcs12 p12;
    double at;
    char word[32];
    bool flag;
    sr_buf in, in2, out, passphrase; /* all secret */
};

/* Push its owner and return the empty work. */
sr_x509_work *sr_x509_work_new(lua_State *L);
/* Run the work whose owner is at idx, in the pool when slow; `return` what this returns.
 */
int sr_x509_work_go(lua_State *L, int idx, bool slow);
/* Copy the secret or string field `key` of the table at idx; false when absent. */
bool sr_x509_take_secret(lua_State *L, int idx, const char *key, sr_buf *ret_buf);
/* Copy bytes; raises when memory is short. */
void sr_x509_take(lua_State *L, sr_buf *ret_buf, const char *data, size_t len);
/* Add to *certs the certificates of the value at idx: an x509.cert, PEM or DER text, or a
 * list of them. What is added is referenced. Raises; `what` names the argument. */
void sr_x509_take_certs(lua_State *L, int idx, const char *what, STACK_OF(X509) * *certs);
/* Common ends of work: push out as a string, or as a secret. */
int sr_x509_push_out(lua_State *L, sr_x509_work *work);
/* Whether using this key belongs in the pool. */
bool sr_x509_slow(const sr_key *key);

/* ---------------------------------------------------------------- arguments
 * (x509_spec.c)
 *
 * Read the fields that requests and certificates share from the checked table at idx. The
 * strings belong to that table; the arrays are pushed and left on the stack, so both live
 * until the C function returns.
 */
void sr_x509_read_spec(lua_State *L, int idx, sr_subject_spec *ret_spec);
/* An array of sr_attribute from the field "subject", of sr_san from "names". */
void sr_x509_read_subject(lua_State *L, int idx, sr_subject_spec *spec);
void sr_x509_read_names(lua_State *L, int idx, sr_subject_spec *spec);

/* ---------------------------------------------------------------- module table */

extern const luaL_Reg sr_x509_key_functions[], sr_x509_cert_functions[],
    sr_x509_request_functions[], sr_x509_sign_functions[], sr_x509_chain_functions[],
    sr_x509_bundle_functions[];

#endif
