/* cron_msg.h – when a schedule fires: cron expressions and "every 6h". Pure.
 *
 * A cron expression speaks of local time. Where local time jumps, these rules hold:
 *   - a time that does not exist fires at the end of the gap (02:30 → 03:00), and several
 *     such times fire once;
 *   - a time that exists twice fires once, the first time;
 *   - an expression whose hour is "*" follows elapsed time instead: it fires at every
 *     matching minute that there is, so "every 15 minutes" stays that through both.
 * "every 6h" knows no zone: it fires at the whole multiples of its length since 1970.
 */
#ifndef SR_CRON_MSG_H
#define SR_CRON_MSG_H

#include "flow/tz_msg.h"

#define SR_CRON_NEVER INT64_MIN /* there is no such instant */

typedef struct sr_cron {
    int64_t every; /* seconds; 0: the fields below */
    uint64_t minutes;
    uint32_t hours, days;                /* days of the month from bit 1 */
    uint16_t months;                     /* from bit 1 */
    uint8_t weekdays;                    /* 0 is Sunday */
    bool last_day;                       /* L: also the last day of the month */
    bool any_hour, any_day, any_weekday; /* written with "*" */
} sr_cron;

/* Parse "0 3 * * mon-fri", "@daily" or "every 6h". Errors: usage (code SCHEDULE), naming
 * the field and the mend; also for one that never fires (31 February). */
int sr_cron_parse(const char *text, size_t len, sr_cron *ret_cron, sr_err *err);

/* The first firing after an instant; SR_CRON_NEVER beyond the year 9999. */
int64_t sr_cron_next(const sr_cron *cron, const sr_zone *zone, int64_t after);
/* The last firing at or before an instant and after `since`, or SR_CRON_NEVER. */
int64_t sr_cron_last(const sr_cron *cron, const sr_zone *zone, int64_t since,
                     int64_t until);

/* A number in [0, 1) that depends on nothing but the name and the firing. */
double sr_cron_jitter(const char *name, size_t len, int64_t fire);

#endif
