/* copy.h – plain values from one state to another without raising.
 *
 * sr_copy() of secrun.h raises in the state it reads from. A caller that stands in C
 * between two states (a cage, a worker) wants the failure as sr_err instead.
 */
#ifndef SR_COPY_H
#define SR_COPY_H

#include "secrun.h"

enum {
    SR_COPY_DEPTH = 64,              /* tables within tables */
    SR_COPY_NODES = 1000000,         /* values, keys not counted */
    SR_COPY_BYTES = 64 * 1024 * 1024 /* all strings together, keys included */
};

typedef struct sr_copy_rules {
    const char *what; /* how messages call the value: "argument 1"; NULL: "value" */
    /* Asked for a full userdata: push its plain stand-in on `to` and return true, or push
     * nothing and return false to have it refused. NULL refuses every one. */
    bool (*userdata)(lua_State *from, int idx, lua_State *to);
} sr_copy_rules;

/* Copy the value at idx of `from` and push it on `to`, which must be another state. Never
 * raises, also when either state runs out of memory. On failure nothing is pushed and
 * *err is usage (something that is no plain value, with its path) or limit. rules may be
 * NULL. */
int sr_copy_try(lua_State *from, int idx, lua_State *to, const sr_copy_rules *rules,
                sr_err *err);

#endif
