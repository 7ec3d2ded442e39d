/* vault.c – memory for the bytes of secrets; see vault.h.
 *
 * A page for each secret would cost five system calls and a TLB flush, and a flow handles
 * a private key per certificate. So small secrets share pages: a chunk is a mapping cut
 * into slots of one size, threaded on a list while free. Chunks are kept for the next
 * secret. Larger ones get a mapping of their own. No page holds anything but secrets.
 */
#include "vault.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base.h"

enum { SLOT = 512, CHUNK = 16 * 1024 };

typedef struct slot {
    struct slot *next;
} slot;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static slot *free_slots;

static char *map(size_t size) {
    char *data =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return NULL;
    (void)mlock(data, size); /* best effort: RLIMIT_MEMLOCK may forbid it */
    (void)madvise(data, size, MADV_DONTDUMP);
    (void)madvise(data, size, MADV_WIPEONFORK);
    return data;
}

static size_t whole_pages(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

/* Thread the slots of a fresh chunk on the list. */
static void add_chunk(void) {
    char *chunk = map(CHUNK);
    for (size_t at = 0; chunk && at < CHUNK; at += SLOT) {
        slot *s = (slot *)(void *)(chunk + at);
        s->next = free_slots;
        free_slots = s;
    }
}

char *sr_vault_take(size_t size) {
    if (size > SLOT) return map(whole_pages(size));
    pthread_mutex_lock(&lock);
    if (!free_slots) add_chunk();
    slot *s = free_slots;
    if (s) free_slots = s->next;
    pthread_mutex_unlock(&lock);
    if (s) s->next = NULL;
    return (char *)s;
}

void sr_vault_give(char *data, size_t size) {
    if (size > SLOT) {
        sr_wipe(data, size);
        munmap(data, whole_pages(size));
        return;
    }
    sr_wipe(data, SLOT);
    pthread_mutex_lock(&lock);
    slot *s = (slot *)(void *)data;
    s->next = free_slots;
    free_slots = s;
    pthread_mutex_unlock(&lock);
}
