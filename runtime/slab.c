/* slab.c – small blocks of a short-lived lua_State out of one piece; see slab.h.
 *
 * In a build with AddressSanitizer there is no slab, so that every block is watched.
 */
#include "slab.h"

#include <stdint.h>
#include <stdlib.h>

static size_t class_of(size_t size) {
    return (size + SR_SLAB_GRAIN - 1) / SR_SLAB_GRAIN;
}

void sr_slab_open(sr_slab *slab) {
    *slab = (sr_slab){0};
#ifndef SR_SANITIZE
    slab->base = malloc(SR_SLAB_SIZE);
#endif
}

void sr_slab_close(sr_slab *slab) {
    free(slab->base);
    *slab = (sr_slab){0};
}

void *sr_slab_get(sr_slab *slab, size_t size) {
    if (!slab->base || size > SR_SLAB_BLOCK) return NULL;
    size_t class = class_of(size), bytes = class * SR_SLAB_GRAIN;
    void *block = slab->free[class];
    if (block) {
        slab->free[class] = *(void **)block;
        return block;
    }
    if (bytes > SR_SLAB_SIZE - slab->used) return NULL;
    block = slab->base + slab->used;
    slab->used += bytes;
    return block;
}

bool sr_slab_owns(const sr_slab *slab, const void *block) {
    uintptr_t base = (uintptr_t)slab->base, at = (uintptr_t)block;
    return slab->base && at >= base && at - base < SR_SLAB_SIZE;
}

void sr_slab_put(sr_slab *slab, void *block, size_t size) {
    size_t class = class_of(size);
    *(void **)block = slab->free[class];
    slab->free[class] = block;
}

bool sr_slab_fits(size_t old_size, size_t new_size) {
    return class_of(old_size) == class_of(new_size);
}
