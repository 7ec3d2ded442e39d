/* tz_msg.c – TZif files (RFC 8536), version 2 and later. Pure.
 *
 *     header  v1 block  header  v2 block  "\n" POSIX rule "\n"
 *
 * A header is 44 bytes: "TZif", version, 15 reserved, and six counts, big-endian:
 * UT/local indicators, standard/wall indicators, leap seconds, transitions, types,
 * characters. The first block (32-bit times) is skipped. In the second come, in this
 * order: transition times (8 bytes each, ascending), their types (1), types (offset 4,
 * dst 1, name 1), names, leap seconds (12), indicators. Before the first transition type
 * 0 holds; from the last one on the rule of the footer does, or the last type when it is
 * empty.
 *
 * Files that count leap seconds ("right/…") are refused: every other clock here is POSIX.
 */
#include "tz_msg.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER = 44, MAX_TIMES = 1 << 16, MAX_OFFSET = 26 * 3600 };

struct sr_zone {
    size_t times, types;
    int64_t *at;      /* times */
    uint8_t *type_of; /* times */
    sr_offset *type;  /* types, at least one */
    bool has_rule;
    sr_tz_rule rule;
};

typedef struct counts {
    size_t ut, std, leap, times, types, chars;
} counts;

/* ---------------------------------------------------------------- parsing */

static uint32_t be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t be64(const uint8_t *p) {
    return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

static int damaged(const char *name, const char *what, sr_err *err) {
    return sr_fail(err, SR_PROTOCOL, "TZIF", "the zone %s is damaged: %s", name, what);
}

static int header(const uint8_t *p, size_t len, const char *name, counts *ret_counts,
                  sr_err *err) {
    if (len < HEADER || memcmp(p, "TZif", 4) != 0)
        return damaged(name, "it does not begin as a TZif file", err);
    if (p[4] < '2')
        return sr_fail(err, SR_PROTOCOL, "TZIF",
                       "the zone %s is a TZif file of version 1, which ends in 2037; "
                       "install a tzdata made since 2005",
                       name);
    *ret_counts = (counts){be32(p + 20), be32(p + 24), be32(p + 28),
                           be32(p + 32), be32(p + 36), be32(p + 40)};
    const counts *c = ret_counts;
    if (c->ut > 256 || c->std > 256 || c->leap > 4096 || c->times > MAX_TIMES ||
        c->types < 1 || c->types > 256 || c->chars < 1 || c->chars > 4096)
        return damaged(name, "a count in its header is out of reach", err);
    return 0;
}

static size_t block_size(const counts *c, size_t time_size) {
    return c->times * (time_size + 1) + c->types * 6 + c->chars +
           c->leap * (time_size + 4) + c->std + c->ut;
}

static int read_times(sr_zone *zone, const uint8_t *p, const char *name, sr_err *err) {
    const uint8_t *types = p + zone->times * 8;
    for (size_t i = 0; i < zone->times; i++) {
        zone->at[i] = be64(p + i * 8);
        zone->type_of[i] = types[i];
        if (i > 0 && zone->at[i] <= zone->at[i - 1])
            return damaged(name, "its transitions are out of order", err);
        if (types[i] >= zone->types)
            return damaged(name, "a transition has no type", err);
    }
    return 0;
}

static int read_types(sr_zone *zone, const uint8_t *p, const counts *c, const char *name,
                      sr_err *err) {
    const char *names = (const char *)p + c->types * 6;
    for (size_t i = 0; i < zone->types; i++, p += 6) {
        sr_offset *type = &zone->type[i];
        type->seconds = (int32_t)be32(p);
        type->dst = p[4] == 1;
        if (type->seconds < -MAX_OFFSET || type->seconds > MAX_OFFSET || p[4] > 1)
            return damaged(name, "a type is out of reach", err);
        size_t len = p[5] < c->chars ? strnlen(names + p[5], c->chars - p[5]) : c->chars;
        if (p[5] + len >= c->chars || len >= sizeof type->name)
            return damaged(name, "a type has no name", err);
        memcpy(type->name, names + p[5], len + 1);
    }
    return 0;
}

static int read_footer(sr_zone *zone, const uint8_t *p, size_t len, const char *name,
                       sr_err *err) {
    const uint8_t *end = len > 1 && *p == '\n' ? memchr(p + 1, '\n', len - 1) : NULL;
    sr_err why = {0};
    if (!end) return damaged(name, "its footer is missing", err);
    size_t size = (size_t)(end - p - 1);
    if (size == 0) return 0;
    if (sr_tz_rule_parse((const char *)p + 1, size, &zone->rule, &why))
        return damaged(name, why.message, err);
    zone->has_rule = true;
    return 0;
}

static sr_zone *zone_new(const counts *c) {
    sr_zone *zone = calloc(1, sizeof *zone);
    if (!zone) return NULL;
    zone->times = c->times;
    zone->types = c->types;
    zone->at = calloc(c->times + 1, sizeof *zone->at);
    zone->type_of = calloc(c->times + 1, sizeof *zone->type_of);
    zone->type = calloc(c->types, sizeof *zone->type);
    if (zone->at && zone->type_of && zone->type) return zone;
    sr_zone_free(zone);
    return NULL;
}

int sr_zone_parse(const void *data, size_t len, const char *name, sr_zone **ret_zone,
                  sr_err *err) {
    const uint8_t *p = data, *end = p + len;
    counts c;
    if (header(p, len, name, &c, err)) return -1;
    size_t skip = HEADER + block_size(&c, 4);
    if (skip > len) return damaged(name, "it is cut off", err);
    p += skip;
    if (header(p, (size_t)(end - p), name, &c, err)) return -1;
    p += HEADER;
    if (block_size(&c, 8) > (size_t)(end - p)) return damaged(name, "it is cut off", err);
    if (c.leap > 0)
        return sr_fail(err, SR_PROTOCOL, "TZIF",
                       "the zone %s counts leap seconds; take the one without \"right/\"",
                       name);
    sr_zone *zone = zone_new(&c);
    if (!zone) return sr_fail(err, SR_LIMIT, NULL, "not enough memory for a time zone");
    const uint8_t *foot = p + block_size(&c, 8);
    if (read_times(zone, p, name, err) ||
        read_types(zone, p + c.times * 9, &c, name, err) ||
        read_footer(zone, foot, (size_t)(end - foot), name, err)) {
        sr_zone_free(zone);
        return -1;
    }
    *ret_zone = zone;
    return 0;
}

void sr_zone_free(sr_zone *zone) {
    if (!zone) return;
    free(zone->at);
    free(zone->type_of);
    free(zone->type);
    free(zone);
}

/* ---------------------------------------------------------------- names */

static bool good_segment(const char *at, size_t len) {
    if (len == 0) return false;
    for (size_t i = 0; i < len; i++) {
        char c = at[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '_' && c != '+' && c != '-')
            return false;
    }
    return true;
}

int sr_zone_check_name(const char *name, sr_err *err) {
    const char *at = name;
    bool good = strlen(name) <= 64;
    while (good) {
        size_t len = strcspn(at, "/");
        good = good_segment(at, len);
        at += len;
        if (*at == '\0') break;
        at++;
    }
    if (good) return 0;
    return sr_fail(err, SR_USAGE, "ZONE",
                   "\"%.80s\" is no time zone name; write it as \"Europe/Berlin\"", name);
}

/* ---------------------------------------------------------------- asking */

/* How many transitions are at or before the instant. */
static size_t passed(const sr_zone *zone, int64_t utc) {
    size_t low = 0, high = zone->times;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (zone->at[mid] <= utc)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

sr_offset sr_zone_at(const sr_zone *zone, int64_t utc) {
    if (!zone) return (sr_offset){.name = "UTC"};
    size_t n = passed(zone, utc);
    if (n == zone->times && zone->has_rule) return sr_tz_rule_at(&zone->rule, utc);
    return zone->type[n > 0 ? zone->type_of[n - 1] : 0];
}

int64_t sr_zone_change(const sr_zone *zone, int64_t utc) {
    if (!zone) return SR_NO_CHANGE;
    size_t n = passed(zone, utc);
    if (n < zone->times) return zone->at[n];
    return zone->has_rule ? sr_tz_rule_change(&zone->rule, utc) : SR_NO_CHANGE;
}

/* Every stretch of equal offset that may contain the local time, in order: the first that
 * does has its first instant; if one ends before it and the next begins after it, it
 * falls into the gap between them. */
int64_t sr_zone_instant(const sr_zone *zone, int64_t local) {
    int64_t from = local - MAX_OFFSET - 1;
    for (;;) {
        int64_t utc = local - sr_zone_at(zone, from).seconds;
        int64_t change = sr_zone_change(zone, from);
        if (utc < from) return from;
        if (utc < change) return utc;
        from = change;
    }
}
