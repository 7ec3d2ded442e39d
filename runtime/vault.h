/* vault.h – memory for the bytes of secrets: locked where the system allows it, kept out
 * of core files and of children, wiped when it is given back.
 */
#ifndef SR_VAULT_H
#define SR_VAULT_H

#include <stddef.h>

/* Room for `size` bytes, zeroed; NULL without memory. */
char *sr_vault_take(size_t size);
/* Wipe and give back; `size` as it was asked for. */
void sr_vault_give(char *data, size_t size);

#endif
