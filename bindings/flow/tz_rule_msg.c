/* tz_rule_msg.c – the rule in the footer of a TZif file, and the calendar it needs. Pure.
 *
 *     CET-1CEST,M3.5.0,M10.5.0/3      <+1030>-10:30<+11>-11,M10.1.0,M4.1.0
 *
 * Offsets count west of Greenwich as positive there and east here. A year has two
 * changes; which is first depends on the hemisphere, and times beyond 24 hours may carry
 * one into the next year, so an instant is looked up among those of three years.
 */
#include <string.h>

#include "tz_msg.h"

enum { DAY = 86400, HOUR = 3600 };

/* ---------------------------------------------------------------- calendar */

int64_t sr_floor_div(int64_t n, int64_t by, int64_t *ret_rest) {
    int64_t q = n / by, rest = n % by;
    if (rest < 0) {
        rest += by;
        q--;
    }
    if (ret_rest) *ret_rest = rest;
    return q;
}

/* The year begins in March here, so that the leap day is its last. */
int64_t sr_date_days(int64_t year, int month, int day) {
    int64_t y = month <= 2 ? year - 1 : year, of_era;
    int64_t era = sr_floor_div(y, 400, &of_era);
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

sr_date sr_date_of(int64_t days) {
    int64_t of_era, era = sr_floor_div(days + 719468, 146097, &of_era);
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;
    int month = (int)(m < 10 ? m + 3 : m - 9);
    return (sr_date){.year = y + era * 400 + (month <= 2),
                     .month = month,
                     .day = (int)(of_year - (153 * m + 2) / 5 + 1)};
}

static bool is_leap(int64_t year) {
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int sr_month_days(int64_t year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}

int sr_weekday(int64_t days) {
    int64_t rest;
    (void)sr_floor_div(days + 4, 7, &rest); /* 1970-01-01 was a Thursday */
    return (int)rest;
}

/* ---------------------------------------------------------------- reading */

typedef struct reader {
    const char *at, *end;
} reader;

static bool take(reader *r, char c) {
    if (r->at >= r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* A number between min and max. */
static bool number(reader *r, int min, int max, int *ret_n) {
    int n = 0, digits = 0;
    while (r->at < r->end && is_digit(*r->at) && digits < 4) {
        n = n * 10 + (*r->at++ - '0');
        digits++;
    }
    *ret_n = n;
    return digits > 0 && n >= min && n <= max;
}

/* Three letters or more, or anything of letters, digits and signs in angle brackets. */
static bool zone_name(reader *r, char *ret_name, size_t size) {
    bool quoted = take(r, '<');
    size_t len = 0;
    while (r->at < r->end &&
           (is_letter(*r->at) ||
            (quoted && (is_digit(*r->at) || *r->at == '+' || *r->at == '-')))) {
        if (len + 1 >= size) return false;
        ret_name[len++] = *r->at++;
    }
    ret_name[len] = '\0';
    return len >= 3 && (!quoted || take(r, '>'));
}

/* [+-]hh[:mm[:ss]] in seconds. */
static bool clock_time(reader *r, int max_hours, int32_t *ret_seconds) {
    int sign = take(r, '-') ? -1 : 1, h, m = 0, s = 0;
    if (sign == 1) (void)take(r, '+');
    if (!number(r, 0, max_hours, &h)) return false;
    if (take(r, ':')) {
        if (!number(r, 0, 59, &m)) return false;
        if (take(r, ':') && !number(r, 0, 59, &s)) return false;
    }
    *ret_seconds = sign * (h * HOUR + m * 60 + s);
    return true;
}

static bool rule_day(reader *r, sr_tz_day *ret_day) {
    sr_tz_day day = {.kind = 'N', .time = 2 * HOUR};
    bool ok;
    if (take(r, 'J')) {
        day.kind = 'J';
        ok = number(r, 1, 365, &day.day);
    } else if (take(r, 'M')) {
        day.kind = 'M';
        ok = number(r, 1, 12, &day.month) && take(r, '.') && number(r, 1, 5, &day.week) &&
             take(r, '.') && number(r, 0, 6, &day.day);
    } else {
        ok = number(r, 0, 365, &day.day);
    }
    if (ok && take(r, '/')) ok = clock_time(r, 167, &day.time);
    *ret_day = day;
    return ok;
}

/* Name and offset; the sign turns. */
static bool standard(reader *r, sr_offset *ret_offset) {
    if (!zone_name(r, ret_offset->name, sizeof ret_offset->name)) return false;
    if (!clock_time(r, 24, &ret_offset->seconds)) return false;
    ret_offset->seconds = -ret_offset->seconds;
    return true;
}

static bool summer(reader *r, sr_tz_rule *rule) {
    sr_offset *dst = &rule->dst;
    if (!zone_name(r, dst->name, sizeof dst->name)) return false;
    rule->has_dst = dst->dst = true;
    dst->seconds = rule->std.seconds + HOUR;
    if (r->at < r->end && *r->at != ',') {
        if (!clock_time(r, 24, &dst->seconds)) return false;
        dst->seconds = -dst->seconds;
    }
    return take(r, ',') && rule_day(r, &rule->start) && take(r, ',') &&
           rule_day(r, &rule->end);
}

int sr_tz_rule_parse(const char *text, size_t len, sr_tz_rule *ret_rule, sr_err *err) {
    reader r = {text, text + len};
    sr_tz_rule rule = {0};
    bool ok = standard(&r, &rule.std);
    if (ok && r.at < r.end) ok = summer(&r, &rule);
    if (!ok || r.at != r.end)
        return sr_fail(err, SR_PROTOCOL, "TZ_RULE",
                       "\"%.*s\" is no POSIX time zone rule (at byte %d)", (int)len, text,
                       (int)(r.at - text) + 1);
    *ret_rule = rule;
    return 0;
}

/* ---------------------------------------------------------------- asking */

static int64_t day_in(const sr_tz_day *day, int64_t year) {
    int64_t first = sr_date_days(year, 1, 1);
    if (day->kind == 'N') return first + day->day;
    if (day->kind == 'J') return first + day->day - 1 + (is_leap(year) && day->day > 59);
    int64_t month = sr_date_days(year, day->month, 1);
    int into = (day->day - sr_weekday(month) + 7) % 7 + (day->week - 1) * 7;
    if (into >= sr_month_days(year, day->month)) into -= 7; /* week 5 is the last one */
    return month + into;
}

/* The two changes of a year in UTC. */
static void changes(const sr_tz_rule *rule, int64_t year, int64_t *ret_start,
                    int64_t *ret_end) {
    *ret_start = day_in(&rule->start, year) * DAY + rule->start.time - rule->std.seconds;
    *ret_end = day_in(&rule->end, year) * DAY + rule->end.time - rule->dst.seconds;
}

static int64_t year_of(int64_t utc) {
    return sr_date_of(sr_floor_div(utc, DAY, NULL)).year;
}

/* Equal instants: the later year's change holds (summer time all year round). */
sr_offset sr_tz_rule_at(const sr_tz_rule *rule, int64_t utc) {
    if (!rule->has_dst) return rule->std;
    int64_t year = year_of(utc), best = INT64_MIN, start, end;
    bool dst = false;
    for (int64_t y = year - 2; y <= year + 1; y++) {
        changes(rule, y, &start, &end);
        bool start_last = start > end;
        for (int i = 0; i < 2; i++) {
            bool is_start = (i == 1) == start_last;
            int64_t at = is_start ? start : end;
            if (at > utc || at < best) continue;
            best = at;
            dst = is_start;
        }
    }
    return dst ? rule->dst : rule->std;
}

int64_t sr_tz_rule_change(const sr_tz_rule *rule, int64_t utc) {
    if (!rule->has_dst) return SR_NO_CHANGE;
    int64_t year = year_of(utc), next = SR_NO_CHANGE, start, end;
    for (int64_t y = year - 1; y <= year + 2; y++) {
        changes(rule, y, &start, &end);
        if (start > utc && start < next) next = start;
        if (end > utc && end < next) next = end;
    }
    return next;
}
