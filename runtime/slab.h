/* slab.h – small blocks of a short-lived lua_State out of one piece (internal, pure).
 *
 * A cage makes some two hundred small objects and is thrown away. They are cut off one
 * piece of memory in turn; what is freed waits in a list of its size for the next of that
 * size. When the piece is used up, sr_slab_get gives NULL and the caller asks malloc. So
 * a slab never holds more than SR_SLAB_SIZE, whatever a chunk does.
 */
#ifndef SR_SLAB_H
#define SR_SLAB_H

#include <stdbool.h>
#include <stddef.h>

enum {
    SR_SLAB_SIZE = 40 * 1024,
    SR_SLAB_BLOCK = 512, /* larger blocks are malloc's */
    SR_SLAB_GRAIN = 16
};

typedef struct sr_slab {
    char *base; /* NULL: none, everything goes to malloc */
    size_t used;
    void *free[SR_SLAB_BLOCK / SR_SLAB_GRAIN + 1];
} sr_slab;

/* Without memory the slab stays empty, which is no failure. */
void sr_slab_open(sr_slab *slab);
void sr_slab_close(sr_slab *slab);
/* A block of at least `size` bytes, aligned to 16, or NULL. */
void *sr_slab_get(sr_slab *slab, size_t size);
bool sr_slab_owns(const sr_slab *slab, const void *block);
/* Give back a block of this slab; size as it was asked for. */
void sr_slab_put(sr_slab *slab, void *block, size_t size);
/* Does a block asked for with `old_size` also serve for `new_size`? */
bool sr_slab_fits(size_t old_size, size_t new_size);

#endif
