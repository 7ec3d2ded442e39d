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

/* ---------------------------------------------------------------- classes */

typedef struct sr_x509_field {
    const char *name;
    void (*push)(lua_State *L, void *object); /* push exactly one value */
} sr_x509_field;

typedef struct sr_x509_class {
    const char *tname; /* "x509.key" */
    const char *noun;  /* "key", for messages */
    const sr_x509_field *fields;
    const luaL_Reg *methods;
    lua_CFunction gc; /* also close() and __close; must leave the first member NULL */
    lua_CFunction tostring;
} sr_x509_class;

extern const sr_x509_class sr_x509_key_class;

void sr_x509_class_open(lua_State *L, const sr_x509_class *cls);
/* Push an empty, zeroed object of the class. */
void *sr_x509_new(lua_State *L, const sr_x509_class *cls, size_t size);
/* The object at idx; raises when it is another type or closed. */
void *sr_x509_check(lua_State *L, int idx, const sr_x509_class *cls);
/* The object at idx, or NULL when it is of another type; raises when it is closed. */
void *sr_x509_test(lua_State *L, int idx, const sr_x509_class *cls);

/* The public key of the key, certificate or request at idx, borrowed from it. */
EVP_PKEY *sr_x509_public_key(lua_State *L, int idx);

/* ---------------------------------------------------------------- work */

typedef struct sr_x509_work sr_x509_work;
struct sr_x509_work {
    sr_job job;
    /* The core's part: no Lua; here or in the pool. */
    int (*run)(sr_x509_work *work, sr_err *err);
    /* Push the results, inside the task; returns their number. */
    int (*push)(lua_State *L, sr_x509_work *work);
    sr_key key;
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

extern const luaL_Reg sr_x509_key_functions[];

#endif
