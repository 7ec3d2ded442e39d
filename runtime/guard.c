/* guard.c – memory and time limits of one caged state.
 *
 * A count hook alone does not hold a hostile chunk: it never fires inside a C function,
 * and a thousand instructions that each copy a long string are slow without it. So the
 * deadline is looked at in four places: by the hook, by the allocator (each quarter MiB
 * it hands out, and each time it refuses), by the reader that feeds the parser, and by
 * guarded functions through sr_guard_work(). One string is bounded besides, because
 * comparing two strings is a single instruction that allocates nothing.
 *
 * The limit is processor time, so that a policy is not refused because the machine was
 * busy. Asking for it is a system call, so the cheap clock is looked at first: before
 * that much real time has passed, that much processor time cannot have.
 *
 * All of them end in the same place: `stop` is set, and from then on the hook fires at
 * every instruction and every line, so whatever survives one error dies of the next.
 */
#include "guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOOK_COUNT = 1000,
    HOOK_COUNT_FINE = 100,   /* once strings beyond FINE_STRING exist */
    FINE_STRING = 16 * 1024, /* bytes */
    ALLOC_LOOK = 256 * 1024, /* bytes handed out between two looks at the clock */
    WORK_UNITS = 20000,      /* about 0.2 ms, between two looks at the clock */
    WHERE_LEVELS = 8
};

static void hook(lua_State *L, lua_Debug *ar);

sr_guard *sr_guard_of(lua_State *L) {
    return *(sr_guard **)lua_getextraspace(L);
}

void sr_guard_where(lua_State *L, int level, char *buf, size_t size) {
    lua_Debug ar;
    buf[0] = '\0';
    for (int i = level; i < level + WHERE_LEVELS && lua_getstack(L, i, &ar); i++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline <= 0) continue;
        const char *source =
            *ar.source == '@' || *ar.source == '=' ? ar.source + 1 : NULL;
        snprintf(buf, size, "%s:%d", source ? source : ar.short_src, ar.currentline);
        return;
    }
}

static void set_hook(sr_guard *g) {
    if (g->stop == SR_STOP_TIME)
        lua_sethook(g->L, hook, LUA_MASKCOUNT | LUA_MASKLINE, 1);
    else
        lua_sethook(g->L, hook, LUA_MASKCOUNT, g->fine ? HOOK_COUNT_FINE : HOOK_COUNT);
}

/* The first reason and place are kept; running out of time wins over memory, which a
 * collection may still mend. */
static void stop(sr_guard *g, sr_stop why) {
    if (g->stop == SR_STOP_TIME) return;
    g->stop = why;
    if (g->L) sr_guard_where(g->L, 0, g->where, sizeof g->where);
    if (why == SR_STOP_TIME) set_hook(g);
}

static bool expired(sr_guard *g) {
    if (g->stop == SR_STOP_TIME) return true;
    if (!g->deadline || sr_cpu() < g->deadline) return false;
    int64_t left = g->budget - (sr_cpu_thread() - g->began);
    if (left > 0) { /* others had the processor meanwhile */
        g->deadline = sr_cpu() + left;
        return false;
    }
    stop(g, SR_STOP_TIME);
    return true;
}

SR_NORETURN static void raise_stop(lua_State *L) {
    lua_pushlightuserdata(L, sr_guard_of(L));
    lua_error(L);
}

static void hook(lua_State *L, lua_Debug *ar) {
    (void)ar;
    if (expired(sr_guard_of(L))) raise_stop(L);
}

void sr_guard_work(lua_State *L, size_t units) {
    sr_guard *g = sr_guard_of(L);
    g->credit -= units < WORK_UNITS ? (int64_t)units + 1 : WORK_UNITS;
    if (g->credit > 0) return;
    g->credit = WORK_UNITS;
    if (expired(g)) raise_stop(L);
}

/* May the state grow by `more` bytes? kind is the type of a new object, else 0. */
static bool may_grow(sr_guard *g, size_t more, int kind) {
    if (g->limit == 0) return true;
    if (kind == LUA_TSTRING && g->max_string && more > g->max_string) {
        stop(g, SR_STOP_STRING);
        return false;
    }
    if (g->stop == SR_STOP_TIME) return false;
    if (more > g->limit || g->used > g->limit - more) {
        if (!expired(g)) stop(g, SR_STOP_MEMORY);
        return false;
    }
    g->credit -= (int64_t)(more * WORK_UNITS / ALLOC_LOOK);
    if (g->credit <= 0) {
        g->credit = WORK_UNITS;
        if (expired(g)) return false;
    }
    if (kind == LUA_TSTRING && more > FINE_STRING && !g->fine) {
        g->fine = true;
        if (g->deadline) set_hook(g);
    }
    return true;
}

static void give_back(sr_guard *g, void *ptr, size_t size) {
    if (sr_slab_owns(&g->slab, ptr))
        sr_slab_put(&g->slab, ptr, size);
    else
        free(ptr);
}

static void *resize(sr_guard *g, void *ptr, size_t old_size, size_t new_size) {
    bool slab = ptr && sr_slab_owns(&g->slab, ptr);
    if (slab && sr_slab_fits(old_size, new_size)) return ptr;
    if (ptr && !slab) return realloc(ptr, new_size);
    void *block = sr_slab_get(&g->slab, new_size);
    if (!block) block = malloc(new_size);
    if (!block) return new_size < old_size ? ptr : NULL; /* shrinking cannot fail */
    if (!ptr) return block;
    memcpy(block, ptr, old_size < new_size ? old_size : new_size);
    sr_slab_put(&g->slab, ptr, old_size);
    return block;
}

void *sr_guard_alloc(void *guard, void *ptr, size_t old_size, size_t new_size) {
    sr_guard *g = guard;
    int kind = 0;
    if (!ptr) {
        kind = (int)old_size; /* Lua says here what it is about to make */
        old_size = 0;
    }
    if (new_size == 0) {
        g->used -= old_size;
        if (ptr) give_back(g, ptr, old_size);
        return NULL;
    }
    if (new_size > old_size && !may_grow(g, new_size - old_size, kind)) return NULL;
    void *moved = resize(g, ptr, old_size, new_size);
    if (!moved) return NULL;
    g->used += new_size - old_size;
    if (g->used > g->peak) g->peak = g->used;
    return moved;
}

void sr_guard_attach(sr_guard *guard, lua_State *L) {
    guard->L = L;
    *(sr_guard **)lua_getextraspace(L) = guard;
}

void sr_guard_give(sr_guard *guard, int64_t budget) {
    guard->budget = budget;
    guard->began = sr_cpu_thread();
}

void sr_guard_arm(sr_guard *guard) {
    guard->stop = SR_STOP_NONE;
    guard->where[0] = '\0';
    guard->deadline = sr_cpu() + guard->budget; /* at the earliest; see expired() */
    guard->credit = WORK_UNITS;
    set_hook(guard);
}

void sr_guard_disarm(sr_guard *guard) {
    guard->deadline = 0;
    lua_sethook(guard->L, NULL, 0, 0);
}
