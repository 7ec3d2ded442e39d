/* repl.h – completion for the REPL's line editor (internal). */
#ifndef SR_REPL_H
#define SR_REPL_H

#include "secrun.h"

/* Complete the word that begins at text[start]; text is the whole line up to the cursor.
 * Returns a list of malloc'd words that replace it, sorted, ending with NULL, or NULL
 * when there is none. Only raw access to tables and metatables: no Lua code runs, so it
 * is safe in a callback. Free with sr_complete_free. */
char **sr_complete(sr_vm *vm, const char *text, size_t start);
void sr_complete_free(char **words);

#endif
