/* log.h – set-up of the log (internal; writing is in secrun.h). */
#ifndef SR_LOG_H
#define SR_LOG_H

#include "secrun.h"

/* json: 1 JSON lines, 0 text, -1 text on a terminal and JSON otherwise. */
void sr_log_start(sr_level least, int json);
int sr_log_level_of(const char *name, sr_level *ret_level);

#endif
