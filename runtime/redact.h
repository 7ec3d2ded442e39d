/* redact.h – who holds a value that must not be shown (internal). */
#ifndef SR_REDACT_H
#define SR_REDACT_H

#include "secrun.h"

/* Keep the value in the list as long as it is held; each hold needs one release. Values
 * under 6 bytes are not listed: they would blot out ordinary words. 0 or -1 (no memory).
 */
int sr_redact_hold(const char *data, size_t len);
void sr_redact_release(const char *data, size_t len);
/* Forget everything; for the end of the process and for tests. */
void sr_redact_clear(void);

#endif
