/* guard.h – limits of one caged lua_State, and the libraries that respect them.
 *
 * A guard counts memory and watches the clock for one state. It is handed to lua_newstate
 * as the allocator's argument and found again from the state's extra space.
 *
 *     sr_guard g = {.limit = 8 << 20, .max_string = 256 << 10};
 *     lua_State *L = lua_newstate(sr_guard_alloc, &g);
 *     sr_guard_attach(&g, L);
 *     sr_guard_give(&g, 200 * 1000000);
 *     sr_guard_arm(&g);
 *     … lua_pcall(L, …) …
 *     sr_guard_disarm(&g);
 *
 * Once the time is up the guard stays expired until more is given and it is armed again:
 * the hook raises at every instruction, every guarded function raises at entry, and
 * memory cannot grow.
 */
#ifndef SR_GUARD_H
#define SR_GUARD_H

#include "secrun.h"
#include "slab.h"

typedef enum sr_stop {
    SR_STOP_NONE,
    SR_STOP_TIME,   /* the deadline passed */
    SR_STOP_MEMORY, /* all memory together */
    SR_STOP_STRING  /* one string longer than max_string */
} sr_stop;

typedef struct sr_guard {
    size_t limit;      /* bytes, 0: none (while the state is being closed) */
    size_t max_string; /* bytes of one string, its header included; 0: none */
    size_t used, peak;
    int64_t budget;   /* ns of processor time */
    int64_t began;    /* sr_cpu_thread() when the budget was given */
    int64_t deadline; /* sr_cpu() until which it cannot be spent; 0: not watched */
    int64_t credit;   /* work left until the clock is looked at again */
    double now;       /* the fixed instant this state sees, UTC seconds */
    lua_State *L;
    sr_stop stop;    /* why it was stopped, first reason wins */
    bool fine;       /* the hook fires ten times as often: long strings exist */
    sr_slab slab;    /* opened and closed by the owner */
    char where[160]; /* "policies/keys.lua:12" at the moment it was stopped, or "" */
} sr_guard;

/* ---- limits (guard.c) */

/* The allocator: refuses what goes beyond the limits, and everything once time is up. */
void *sr_guard_alloc(void *guard, void *ptr, size_t old_size, size_t new_size);
/* Tie a new state to its guard. */
void sr_guard_attach(sr_guard *guard, lua_State *L);
/* Give a budget of ns of processor time, counted from now. */
void sr_guard_give(sr_guard *guard, int64_t budget);
/* Watch over it: clears an earlier stop and sets the hook. */
void sr_guard_arm(sr_guard *guard);
/* Stop the clock; `stop` and `where` stay to be read. */
void sr_guard_disarm(sr_guard *guard);
sr_guard *sr_guard_of(lua_State *L);
/* Note `units` of work, about 10 ns each, done by a C function; raises when time is up.
 * Every guarded function whose cost its arguments decide calls it before or during. */
void sr_guard_work(lua_State *L, size_t units);
/* Write "source:line" of the innermost Lua function at or above `level`, or "". */
void sr_guard_where(lua_State *L, int level, char *buf, size_t size);

/* ---- what a pattern may cost (pattern.c), pure */

#define SR_PATTERN_SUBJECT 4096 /* bytes a pattern may be applied to */
#define SR_PATTERN_SIZE 256     /* bytes of the pattern itself */
#define SR_PATTERN_STEPS 1e7    /* steps one call may need in the worst case */

/* An upper bound of the steps Lua's matcher needs for `pattern` over the whole subject:
 * the sum over its items of the ways to have come that far. A quantified item multiplies
 * the ways by one plus the longest run of its class in this very subject. anchors: '^'
 * has its meaning (gmatch gives it none). -1 for a malformed pattern. */
double sr_pattern_cost(const char *pattern, size_t pattern_len, const char *subject,
                       size_t subject_len, bool anchors);

/* ---- libraries (guard_base.c, guard_string.c, guard_table.c) */

/* Push a table of every name a caged chunk sees: base functions, string, table, math,
 * utf8, os. Also sets the metatable of strings. */
void sr_guard_libs(lua_State *L);
/* Add the bounded functions to the table on top. */
void sr_guard_string(lua_State *L);
void sr_guard_table(lua_State *L);
/* Functions for Lua: pairs and next in the order of the keys, string.format. */
int sr_guard_pairs(lua_State *L);
int sr_guard_next(lua_State *L);
int sr_guard_format(lua_State *L);
/* Push tostring() of the value at idx: no address ever shows ("table", "function"). */
void sr_guard_text(lua_State *L, int idx);

/* A function of the stock libraries, taken once per process from a scratch state. */
typedef enum sr_stock {
    SR_STOCK_BYTE,
    SR_STOCK_CHAR,
    SR_STOCK_FIND,
    SR_STOCK_FORMAT,
    SR_STOCK_GMATCH,
    SR_STOCK_GSUB,
    SR_STOCK_LEN,
    SR_STOCK_LOWER,
    SR_STOCK_MATCH,
    SR_STOCK_REVERSE,
    SR_STOCK_SUB,
    SR_STOCK_UPPER,
    SR_STOCK_TONUMBER,
    SR_STOCK_DATE,
    SR_STOCK_UTF8_CODEPOINT,
    SR_STOCK_UTF8_LEN,
    SR_STOCK_UTF8_OFFSET,
    SR_STOCKS
} sr_stock;
int sr_stock_call(lua_State *L, sr_stock which);

#endif
