/* cage.h – run a file that is not trusted, and take plain values out of it.
 *
 * A cage is a lua_State of its own with bounded memory, bounded time and chosen
 * functions. Policies, estate files and alert templates run in one. Nothing of the outer
 * state is reachable from inside; values go in and out by copy.
 *
 *     sr_cage *cage = sr_cage_new(&limits, now, &err);
 *     sr_cage_set(cage, "org", L, -1, &err);
 *     sr_cage_load(cage, "policies/keys.lua", text, len, &err);
 *     sr_cage_call(cage, "check", L, first, n, &results, &err);   // pushed on L
 *     sr_cage_free(cage);
 *
 * No function here raises; each returns 0, or -1 with *err:
 *   limit "time"    the policy ran longer than 200 ms, at policies/keys.lua:12
 *   limit "memory"  the policy needed more than 8 MiB of memory, at policies/keys.lua:12
 *   usage "syntax", "runtime", "copy"   the file's own mistakes, with file and line
 * Once time was up the cage is dead: every later call fails. Memory errors leave it
 * usable.
 */
#ifndef SR_CAGE_H
#define SR_CAGE_H

#include "guard.h"
#include "secrun.h"

typedef struct sr_cage sr_cage;

/* Words every cage has beside the bounded libraries (cage_words.c): allow deny warn
 * need_approval glob suffix days now secret. */
extern const char *const sr_cage_words[];

typedef struct sr_cage_limits {
    size_t memory;    /* bytes, 0: 8 MiB; at least 256 KiB is taken */
    double time;      /* seconds of processor time, load and calls, 0: 0.2 */
    const char *what; /* "policy", "estate file": messages say "the policy ran …" */
    const char *const *words; /* which of sr_cage_words, NULL-terminated; NULL: all */
} sr_cage_limits;

typedef struct sr_cage_stats {
    int64_t cpu;        /* ns of processor time inside so far */
    size_t memory;      /* bytes in use */
    size_t memory_peak; /* bytes at most */
} sr_cage_stats;

/* now: the instant that now(), os.time and os.date show, UTC seconds. NULL on failure. */
sr_cage *sr_cage_new(const sr_cage_limits *limits, double now, sr_err *err);
void sr_cage_free(sr_cage *cage);

/* Only these globals may be assigned by the chunk; another name is an error at its line,
 * with a suggestion. `names` is a table of strings at idx of `from`. */
int sr_cage_only(sr_cage *cage, lua_State *from, int idx, sr_err *err);
/* Set a global to a copy of the value at idx of `from`. */
int sr_cage_set(sr_cage *cage, const char *name, lua_State *from, int idx, sr_err *err);
/* Compile a text chunk and run it. name shows in messages; a first line with # is
 * skipped. */
int sr_cage_load(sr_cage *cage, const char *name, const char *text, size_t len,
                 sr_err *err);
/* Call a global function with copies of n values of L from index `first` on; the copied
 * results (at most 16) are pushed on L. */
int sr_cage_call(sr_cage *cage, const char *name, lua_State *L, int first, int n,
                 int *ret_n, sr_err *err);
/* Push a copy of a global (nil if there is none), of all globals the chunk set, or of the
 * list of decisions made so far, returned or not. */
int sr_cage_get(sr_cage *cage, const char *name, lua_State *to, sr_err *err);
int sr_cage_globals(sr_cage *cage, lua_State *to, sr_err *err);
int sr_cage_decisions(sr_cage *cage, lua_State *to, sr_err *err);

/* Give the whole time limit again, before another call of a living cage. */
void sr_cage_renew(sr_cage *cage);
void sr_cage_get_stats(const sr_cage *cage, sr_cage_stats *ret_stats);
/* "policies/keys.lua:12" of the last failure, or "". */
const char *sr_cage_where(const sr_cage *cage);

/* cage_face.c: the module "cage". */
int sr_open_cage(lua_State *L);

/* ---- between cage.c and cage_words.c */

/* Add the wanted words to the table on top. */
void sr_cage_add_words(lua_State *L, const char *const *wanted);
/* Push the list of decisions, or nil if there are none. Allocates nothing. */
void sr_cage_push_decisions(lua_State *L);
/* The stand-in of a secret reference, for sr_copy_rules: {["$secret"] = "env:NAME"} or
 * {["$secret"] = {exec = {argv…}}}. */
bool sr_cage_copy_secret(lua_State *from, int idx, lua_State *to);

#endif
