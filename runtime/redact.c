/* redact.c – the values that no log line and no trace may show.
 *
 * One list for the process, since a log line does not know which VM a text came from. A
 * value is held while a secret with it lives; what was only mentioned (sr_redact_add),
 * and what a collected secret leaves behind, stays among the last RECENT values, because
 * a buffer or an error may still carry it. Longer values stand first, so that one that
 * contains another is replaced whole. Guarded by a mutex: pool threads may log.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "redact.h"

enum { VALUE_MIN = 6, RECENT = 256 };

struct value {
    struct value *next;
    size_t len;
    unsigned holders;  /* living secrets */
    uint64_t last_use; /* order among those nobody holds */
    char data[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct value *values; /* longest first */
static uint64_t uses;
static size_t loose; /* values without holder */

static struct value **find(const char *data, size_t len) {
    struct value **at = &values;
    while (*at && ((*at)->len != len || memcmp((*at)->data, data, len) != 0))
        at = &(*at)->next;
    return at;
}

static void drop(struct value **at) {
    struct value *value = *at;
    *at = value->next;
    sr_wipe(value->data, value->len);
    free(value);
}

/* Forget the oldest value that nobody holds. */
static void forget_oldest(void) {
    struct value **oldest = NULL;
    for (struct value **at = &values; *at; at = &(*at)->next)
        if ((*at)->holders == 0 && (!oldest || (*at)->last_use < (*oldest)->last_use))
            oldest = at;
    if (!oldest) return;
    drop(oldest);
    loose--;
}

static struct value *insert(const char *data, size_t len) {
    struct value *value = malloc(sizeof *value + len), **at = &values;
    if (!value) return NULL;
    while (*at && (*at)->len > len)
        at = &(*at)->next;
    *value = (struct value){.next = *at, .len = len};
    memcpy(value->data, data, len);
    *at = value;
    loose++;
    return value;
}

static int add(const char *data, size_t len, bool hold) {
    if (len < VALUE_MIN) return 0;
    pthread_mutex_lock(&lock);
    struct value *value = *find(data, len);
    if (!value) value = insert(data, len);
    if (value) {
        value->last_use = ++uses;
        if (hold && value->holders++ == 0) loose--;
        if (loose > RECENT) forget_oldest();
    }
    pthread_mutex_unlock(&lock);
    return value ? 0 : -1;
}

int sr_redact_hold(const char *data, size_t len) {
    return add(data, len, true);
}

void sr_redact_add(const char *data, size_t len) {
    (void)add(data, len, false); /* without memory there is nothing better to do */
}

void sr_redact_release(const char *data, size_t len) {
    pthread_mutex_lock(&lock);
    struct value *value = len < VALUE_MIN ? NULL : *find(data, len);
    if (value && value->holders > 0 && --value->holders == 0) {
        value->last_use = ++uses;
        if (++loose > RECENT) forget_oldest();
    }
    pthread_mutex_unlock(&lock);
}

/* Replace [at, at + len) of the text; returns where to go on. */
static char *blot(char *at, size_t len) {
    static const char word[] = "[secret]";
    const size_t word_len = sizeof word - 1;
    if (len < word_len) {
        memset(at, '*', len);
        return at + len;
    }
    memcpy(at, word, word_len);
    memmove(at + word_len, at + len, strlen(at + len) + 1);
    return at + word_len;
}

void sr_redact(char *text) {
    pthread_mutex_lock(&lock);
    for (const struct value *value = values; value; value = value->next) {
        size_t left = strlen(text);
        for (char *at = text; (at = memmem(at, left, value->data, value->len));) {
            at = blot(at, value->len);
            left = strlen(at);
        }
    }
    pthread_mutex_unlock(&lock);
}

void sr_redact_clear(void) {
    pthread_mutex_lock(&lock);
    while (values)
        drop(&values);
    loose = 0;
    pthread_mutex_unlock(&lock);
}
