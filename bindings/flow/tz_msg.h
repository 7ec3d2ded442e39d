/* tz_msg.h – time zones: what a TZif file (RFC 8536) says about an instant. Pure.
 *
 * Instants are seconds since 1970 in UTC, local times are the same count as if the wall
 * clock were UTC. A zone is immutable after parsing; NULL stands for UTC everywhere.
 */
#ifndef SR_TZ_MSG_H
#define SR_TZ_MSG_H

#include "base.h"

#define SR_NO_CHANGE INT64_MAX /* the offset stays as it is for ever */

typedef struct sr_zone sr_zone;

typedef struct sr_offset {
    int32_t seconds; /* local = UTC + seconds */
    bool dst;
    char name[16]; /* "CEST", "+1030" */
} sr_offset;

/* Parse the bytes of a TZif file of version 2 or later. `name` is for messages only.
 * Errors: protocol (damaged, version 1, with leap seconds). */
int sr_zone_parse(const void *data, size_t len, const char *name, sr_zone **ret_zone,
                  sr_err *err);
void sr_zone_free(sr_zone *zone);
/* "Europe/Berlin": segments of letters, digits, "_", "+", "-", none of them ".." or
 * empty. Errors: usage. */
int sr_zone_check_name(const char *name, sr_err *err);

/* What holds at an instant. */
sr_offset sr_zone_at(const sr_zone *zone, int64_t utc);
/* The first instant after `utc` at which that may change, or SR_NO_CHANGE. */
int64_t sr_zone_change(const sr_zone *zone, int64_t utc);
/* The instant of a local time: the first one when it exists twice, the end of the gap
 * when it does not exist. Never decreases while `local` increases. */
int64_t sr_zone_instant(const sr_zone *zone, int64_t local);

/* ------------------------------------------------- the rule of the footer
 * (tz_rule_msg.c)
 */

typedef struct sr_tz_day {
    char kind; /* 'J': 1 to 365, never 29 February; 'N': 0 to 365; 'M': month.week.day */
    int month, week, day;
    int32_t time; /* seconds after midnight, −167 h to 167 h */
} sr_tz_day;

/* A POSIX TZ string as RFC 8536 section 3.3.1 extends it. */
typedef struct sr_tz_rule {
    sr_offset std, dst;
    bool has_dst;
    sr_tz_day start, end;
} sr_tz_rule;

int sr_tz_rule_parse(const char *text, size_t len, sr_tz_rule *ret_rule, sr_err *err);
sr_offset sr_tz_rule_at(const sr_tz_rule *rule, int64_t utc);
int64_t sr_tz_rule_change(const sr_tz_rule *rule, int64_t utc);

/* ------------------------------------------------- the calendar (tz_rule_msg.c) */

typedef struct sr_date {
    int64_t year;
    int month, day; /* from 1 */
} sr_date;

int64_t sr_date_days(int64_t year, int month, int day); /* days since 1970-01-01 */
sr_date sr_date_of(int64_t days);
int sr_month_days(int64_t year, int month);
int sr_weekday(int64_t days); /* 0 is Sunday */
/* Division towards minus infinity; the remainder is ret_rest. */
int64_t sr_floor_div(int64_t n, int64_t by, int64_t *ret_rest);

#endif
