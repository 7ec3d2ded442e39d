/* secret_env.c – the variables of the environment that hold secrets.
 *
 * A reload command or a driver has no business with the password of SCM, so what a script
 * has declared a secret is not inherited; `env = {NAME = value}` of process.run still
 * passes it. Names only ever come, they do not go: a script names few.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "secrun.h"

struct name {
    struct name *next;
    char text[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct name *names;

static bool known(const char *text) {
    const struct name *at = names;
    while (at && strcmp(at->text, text) != 0)
        at = at->next;
    return at != NULL;
}

void sr_env_withhold(const char *text) {
    size_t size = strlen(text) + 1;
    pthread_mutex_lock(&lock);
    struct name *name = known(text) ? NULL : malloc(sizeof *name + size);
    if (name) {
        memcpy(name->text, text, size);
        name->next = names;
        names = name;
    }
    pthread_mutex_unlock(&lock);
}

bool sr_env_withheld(const char *text) {
    pthread_mutex_lock(&lock);
    bool found = known(text);
    pthread_mutex_unlock(&lock);
    return found;
}
