/* cron_msg.c – when a schedule fires. Pure; the rules stand in cron_msg.h.
 *
 * The five fields become bit sets. Asking for the next firing walks local days, then
 * hours and minutes by bits, so it costs the same for "every minute" and for 29 February.
 * Day of month and day of week are both asked when one of them begins with "*", else
 * either of them is enough, as cron(8) has it.
 */
#include "flow/cron_msg.h"

#include <string.h>

enum { MINUTE = 60, DAY = 86400, YEARS_AHEAD = 41 };
/* 0000-01-01 and 9999-12-31 in seconds */
static const int64_t earliest = -62167219200, latest = 253402300799;

/* ---------------------------------------------------------------- words */

typedef struct field {
    const char *name;
    int min, max;
    const char *const *words; /* of min, min + 1, … */
} field;

static const char *const month_words[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                          "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const day_words[] = {"sun", "mon", "tue", "wed",
                                        "thu", "fri", "sat", NULL};
static const field fields[] = {{"minute", 0, 59, NULL},
                               {"hour", 0, 23, NULL},
                               {"day of month", 1, 31, NULL},
                               {"month", 1, 12, month_words},
                               {"day of week", 0, 7, day_words}};
enum { MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS, FIELDS };

static const struct {
    const char *word, *expression;
} shorthands[] = {{"@yearly", "0 0 1 1 *"},  {"@annually", "0 0 1 1 *"},
                  {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
                  {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
                  {"@hourly", "0 * * * *"}};
static const char *const shorthand_words[] = {"@yearly", "@annually", "@monthly",
                                              "@weekly", "@daily",    "@midnight",
                                              "@hourly", NULL};

typedef struct part {
    const char *at;
    int len;
} part;

#define REFUSE(err, ...) sr_fail(err, SR_USAGE, "SCHEDULE", __VA_ARGS__)

static bool is_space(char c) {
    return c == ' ' || c == '\t';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int lower(char c) {
    return c >= 'A' && c <= 'Z' ? c | 32 : c;
}

static bool equals(part p, const char *word) {
    size_t len = strlen(word);
    if (len != (size_t)p.len) return false;
    for (size_t i = 0; i < len; i++)
        if (lower(p.at[i]) != word[i]) return false;
    return true;
}

/* Cut the first piece up to `c` off *rest; false when there is none left. */
static bool cut(part *rest, char c, part *ret_piece) {
    *ret_piece = (part){rest->at, 0};
    if (rest->len < 0) return false;
    const char *end = rest->len ? memchr(rest->at, c, (size_t)rest->len) : NULL;
    int len = end ? (int)(end - rest->at) : rest->len;
    *ret_piece = (part){rest->at, len};
    rest->at += end ? len + 1 : len;
    rest->len = end ? rest->len - len - 1 : -1;
    return true;
}

/* ---------------------------------------------------------------- one field */

static int digits(part p) {
    int n = 0;
    if (p.len < 1 || p.len > 4) return -1;
    for (int i = 0; i < p.len; i++) {
        if (!is_digit(p.at[i])) return -1;
        n = n * 10 + (p.at[i] - '0');
    }
    return n;
}

static int bad_word(const field *f, part p, sr_err *err) {
    char word[32];
    int len = p.len < (int)sizeof word ? p.len : (int)sizeof word - 1;
    memcpy(word, p.at, (size_t)len);
    word[len] = '\0';
    const char *close = f->words && p.len ? sr_suggest(word, f->words) : NULL;
    if (close)
        return REFUSE(err, "%s: \"%s\" is unknown; did you mean %s?", f->name, word,
                      close);
    return REFUSE(err, "%s: \"%s\" is no value; use %d to %d, a-b, a,b, * or */n",
                  f->name, word, f->min, f->max);
}

/* A number or a name. */
static int value(const field *f, part p, int *ret_n, sr_err *err) {
    int n = digits(p);
    for (int i = 0; n < 0 && f->words && f->words[i]; i++)
        if (equals(p, f->words[i])) n = f->min + i;
    if (n < 0) return bad_word(f, p, err);
    if (n < f->min || n > f->max)
        return REFUSE(err, "%s: %d is out of reach; it goes from %d to %d", f->name, n,
                      f->min, f->max);
    *ret_n = n;
    return 0;
}

static int range(const field *f, part p, int *ret_from, int *ret_to, sr_err *err) {
    part low, high;
    (void)cut(&p, '-', &low);
    if (value(f, low, ret_from, err)) return -1;
    *ret_to = *ret_from;
    if (!cut(&p, '-', &high)) return 0;
    if (p.len >= 0) return bad_word(f, high, err);
    if (value(f, high, ret_to, err)) return -1;
    if (f->max == 7 && *ret_to == 0 && *ret_from > 0) *ret_to = 7; /* sat-sun */
    if (*ret_from <= *ret_to) return 0;
    return REFUSE(err, "%s: %.*s-%.*s runs backwards; split it in two with a comma",
                  f->name, low.len, low.at, high.len, high.at);
}

/* "*", "5", "1-5", "mon", each but the single value with "/n". */
static int item(const field *f, part p, uint64_t *bits, sr_err *err) {
    part span, step;
    int from = f->min, to = f->max == 7 ? 6 : f->max, by = 1;
    (void)cut(&p, '/', &span);
    bool stepped = cut(&p, '/', &step), all = equals(span, "*");
    if (!all && range(f, span, &from, &to, err)) return -1;
    if (stepped) {
        by = digits(step);
        if (p.len >= 0 || by < 1 || by > f->max)
            return REFUSE(err, "%s: the step \"/%.*s\" is a number from 1 to %d", f->name,
                          step.len, step.at, f->max);
        if (!all && from == to)
            return REFUSE(err, "%s: a step needs a range; write %d-%d/%d", f->name, from,
                          f->max == 7 ? 6 : f->max, by);
    }
    for (int n = from; n <= to; n += by)
        *bits |= UINT64_C(1) << (f->max == 7 ? n % 7 : n);
    return 0;
}

static int list(int which, part p, uint64_t *ret_bits, sr_cron *cron, sr_err *err) {
    const field *f = &fields[which];
    part piece;
    *ret_bits = 0;
    while (cut(&p, ',', &piece)) {
        if (piece.len == 0)
            return REFUSE(err, "%s: there is nothing beside a comma", f->name);
        if (which == DAYS && equals(piece, "l"))
            cron->last_day = true;
        else if (item(f, piece, ret_bits, err))
            return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- the whole */

static int split(part text, part *ret_parts, sr_err *err) {
    int n = 0;
    const char *at = text.at, *end = text.at + text.len;
    for (;;) {
        while (at < end && is_space(*at))
            at++;
        if (at == end) break;
        const char *start = at;
        while (at < end && !is_space(*at))
            at++;
        if (n < FIELDS) ret_parts[n] = (part){start, (int)(at - start)};
        n++;
    }
    if (n == FIELDS) return 0;
    return REFUSE(
        err,
        "\"%.*s\" has %d field%s; a cron expression has five: minute, hour, day "
        "of month, month, day of week%s",
        text.len, text.at, n, n == 1 ? "" : "s",
        n == 6   ? " (none for seconds or years)"
        : n == 1 ? "; or write \"every 6h\" or \"@daily\""
                 : "");
}

static int64_t next_day(const sr_cron *cron, int64_t day);

static int from_fields(part text, sr_cron *cron, sr_err *err) {
    part parts[FIELDS];
    uint64_t bits[FIELDS];
    if (split(text, parts, err)) return -1;
    for (int i = 0; i < FIELDS; i++)
        if (list(i, parts[i], &bits[i], cron, err)) return -1;
    cron->minutes = bits[MINUTES];
    cron->hours = (uint32_t)bits[HOURS];
    cron->days = (uint32_t)bits[DAYS];
    cron->months = (uint16_t)bits[MONTHS];
    cron->weekdays = (uint8_t)bits[WEEKDAYS];
    cron->any_hour = cron->hours == 0xffffff;
    cron->any_day = *parts[DAYS].at == '*';
    cron->any_weekday = *parts[WEEKDAYS].at == '*';
    if (next_day(cron, 0) != SR_CRON_NEVER) return 0;
    return REFUSE(err, "\"%.*s\" never fires: no month it names has such a day", text.len,
                  text.at);
}

static int from_duration(part p, sr_cron *cron, sr_err *err) {
    char word[32];
    double seconds = 0;
    bool ok = p.len > 0 && p.len < (int)sizeof word;
    if (ok) {
        memcpy(word, p.at, (size_t)p.len);
        word[p.len] = '\0';
        ok = strlen(word) == (size_t)p.len && sr_parse_duration(word, &seconds) == 0;
    }
    if (!ok)
        return REFUSE(err, "\"every %.*s\" has no duration; write it as \"every 6h\"",
                      p.len, p.at);
    if (seconds < 1 || seconds > 366.0 * DAY || seconds != (double)(int64_t)seconds)
        return REFUSE(err, "\"every %s\" is out of reach; whole seconds, 1s to 366d",
                      word);
    cron->every = (int64_t)seconds;
    return 0;
}

static int from_shorthand(part text, sr_cron *cron, sr_err *err) {
    char word[16] = "";
    for (size_t i = 0; i < sizeof shorthands / sizeof *shorthands; i++)
        if (equals(text, shorthands[i].word)) {
            const char *to = shorthands[i].expression;
            return from_fields((part){to, (int)strlen(to)}, cron, err);
        }
    if (text.len < (int)sizeof word) memcpy(word, text.at, (size_t)text.len);
    const char *close = sr_suggest(word, shorthand_words);
    if (close)
        return REFUSE(err, "\"%.*s\" is unknown; did you mean %s?", text.len, text.at,
                      close);
    return REFUSE(err,
                  "\"%.*s\" is unknown; there are @yearly, @monthly, @weekly, @daily and "
                  "@hourly",
                  text.len, text.at);
}

int sr_cron_parse(const char *text, size_t len, sr_cron *ret_cron, sr_err *err) {
    sr_cron cron = {0};
    if (len > 256) return REFUSE(err, "a schedule has at most 256 characters");
    part p = {text, (int)len};
    while (p.len && is_space(*p.at))
        p.at++, p.len--;
    while (p.len && is_space(p.at[p.len - 1]))
        p.len--;
    if (p.len == 0) return REFUSE(err, "a schedule is empty; write it as \"0 3 * * *\"");
    int rc;
    if (*p.at == '@')
        rc = from_shorthand(p, &cron, err);
    else if (p.len > 6 && equals((part){p.at, 5}, "every") && is_space(p.at[5]))
        rc = from_duration((part){p.at + 6, p.len - 6}, &cron, err);
    else
        rc = from_fields(p, &cron, err);
    if (rc == 0) *ret_cron = cron;
    return rc;
}

/* ---------------------------------------------------------------- local time */

static bool day_fits(const sr_cron *cron, sr_date date, int64_t day) {
    bool of_month = cron->days >> date.day & 1;
    if (cron->last_day && date.day == sr_month_days(date.year, date.month))
        of_month = true;
    bool of_week = cron->weekdays >> sr_weekday(day) & 1;
    return cron->any_day || cron->any_weekday ? of_month && of_week : of_month || of_week;
}

/* The first day from `day` on that fits. 41 years hold every pair of 29 February and a
 * day of the week. */
static int64_t next_day(const sr_cron *cron, int64_t day) {
    sr_date date = sr_date_of(day);
    for (int64_t until = date.year + YEARS_AHEAD; date.year <= until;) {
        if (cron->months >> date.month & 1)
            for (; date.day <= sr_month_days(date.year, date.month); date.day++, day++)
                if (day_fits(cron, date, day)) return day;
        date.day = 1;
        if (++date.month > 12) {
            date.month = 1;
            date.year++;
        }
        day = sr_date_days(date.year, date.month, 1);
    }
    return SR_CRON_NEVER;
}

/* The lowest bit from `from` on, or -1. */
static int next_bit(uint64_t bits, int from) {
    bits = from > 63 ? 0 : bits >> from << from;
    return bits ? __builtin_ctzll(bits) : -1;
}

/* The first matching local time at or after `local`, in whole minutes. */
static int64_t next_local(const sr_cron *cron, int64_t local) {
    int64_t rest, minutes = sr_floor_div(local + MINUTE - 1, MINUTE, NULL);
    int64_t day = sr_floor_div(minutes, DAY / MINUTE, &rest);
    int64_t fits = next_day(cron, day);
    if (fits == SR_CRON_NEVER) return fits;
    int hour = fits == day ? (int)rest / 60 : 0,
        minute = fits == day ? (int)rest % 60 : 0;
    int h = next_bit(cron->hours, hour);
    int m = next_bit(cron->minutes, h == hour ? minute : 0);
    if (h >= 0 && m < 0) {
        h = next_bit(cron->hours, hour + 1);
        m = next_bit(cron->minutes, 0);
    }
    if (h < 0) return next_local(cron, (fits + 1) * DAY);
    return fits * DAY + (h * 60 + m) * (int64_t)MINUTE;
}

/* ---------------------------------------------------------------- instants */

/* Hour "*": look at one stretch of equal offset after the other. */
static int64_t next_elapsed(const sr_cron *cron, const sr_zone *zone, int64_t after) {
    int64_t from = after + 1;
    while (from <= latest) {
        int64_t offset = sr_zone_at(zone, from).seconds;
        int64_t local = next_local(cron, from + offset);
        if (local == SR_CRON_NEVER) return local;
        int64_t change = sr_zone_change(zone, from);
        if (local - offset < change) return local - offset;
        from = change;
    }
    return SR_CRON_NEVER;
}

/* Fixed hours: local times in order, each with its one instant. */
static int64_t next_fixed(const sr_cron *cron, const sr_zone *zone, int64_t after) {
    int64_t local = after + sr_zone_at(zone, after).seconds;
    for (;;) {
        local = next_local(cron, local + 1);
        if (local == SR_CRON_NEVER) return local;
        int64_t instant = sr_zone_instant(zone, local);
        if (instant > after) return instant;
    }
}

int64_t sr_cron_next(const sr_cron *cron, const sr_zone *zone, int64_t after) {
    if (after < earliest) after = earliest;
    if (after >= latest) return SR_CRON_NEVER;
    if (cron->every > 0)
        return (sr_floor_div(after, cron->every, NULL) + 1) * cron->every;
    int64_t next =
        cron->any_hour ? next_elapsed(cron, zone, after) : next_fixed(cron, zone, after);
    return next > latest ? SR_CRON_NEVER : next;
}

/* Look back in growing steps until one holds a firing, then go forward in it. */
int64_t sr_cron_last(const sr_cron *cron, const sr_zone *zone, int64_t since,
                     int64_t until) {
    if (until > latest) until = latest;
    if (since < earliest) since = earliest;
    if (cron->every > 0) {
        int64_t last = sr_floor_div(until, cron->every, NULL) * cron->every;
        return last > since ? last : SR_CRON_NEVER;
    }
    for (int64_t back = 120;; back *= 2) {
        int64_t from = until - back > since ? until - back : since, last = SR_CRON_NEVER;
        if (from >= until) return last;
        for (int64_t t = sr_cron_next(cron, zone, from); t != SR_CRON_NEVER && t <= until;
             t = sr_cron_next(cron, zone, t))
            last = t;
        if (last != SR_CRON_NEVER || from == since) return last;
    }
}

/* FNV-1a over the name and the firing, and a finisher that spreads the low bits. */
double sr_cron_jitter(const char *name, size_t len, int64_t fire) {
    uint64_t h = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < len + 8; i++) {
        uint8_t byte =
            i < len ? (uint8_t)name[i] : (uint8_t)((uint64_t)fire >> ((i - len) * 8));
        h = (h ^ byte) * UINT64_C(1099511628211);
    }
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    return (double)(h >> 11) / 9007199254740992.0;
}
