/* schedule_fuzz.c – time zone files, zone rules and schedules from hostile bytes.
 *
 * Properties: firings increase and are never in the past; the last firing before one is
 * itself; the instants of local times never decrease; nothing loops or reads beyond.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "flow/cron_msg.h"

#define HOLDS(cond)                                                                      \
    do {                                                                                 \
        if (!(cond)) __builtin_trap();                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const common[] = {"0 3 * * *", "30 2 29 2 *", "*/7 * 1-7 * mon",
                                     "every 90m", "0 0 L * 0"};

static void fire(const sr_cron *cron, const sr_zone *zone, int64_t after) {
    for (int i = 0; i < 8; i++) {
        int64_t next = sr_cron_next(cron, zone, after);
        if (next == SR_CRON_NEVER) return;
        HOLDS(next > after);
        HOLDS(sr_cron_last(cron, zone, after, next) == next);
        after = next;
    }
}

static void try_zone(const sr_zone *zone, int64_t start) {
    int64_t last = INT64_MIN;
    for (int64_t local = start; local < start + 400000000; local += 9999999) {
        int64_t utc = sr_zone_instant(zone, local);
        HOLDS(utc >= last);
        HOLDS(sr_zone_change(zone, utc) > utc);
        last = utc;
    }
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        sr_cron cron;
        sr_err err;
        HOLDS(sr_cron_parse(common[i], strlen(common[i]), &cron, &err) == 0);
        fire(&cron, zone, start);
    }
}

/* A file of version 2 around the bytes, so that more of them get past the header. */
static void as_file(const char *text, size_t size) {
    static const size_t header = 44;
    static const char first[44] = "TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                  "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\1";
    sr_zone *zone = NULL;
    sr_err err;
    char *file = malloc(2 * header + 7 + size);
    if (!file) return;
    memcpy(file, first, header);
    memset(file + header, 0, 7);
    memcpy(file + header + 7, first, header);
    memcpy(file + 2 * header + 7, text, size);
    if (size > 24) memcpy(file + header + 7 + 20, text, 24);
    if (sr_zone_parse(file, 2 * header + 7 + size, "fuzz", &zone, &err) == 0)
        try_zone(zone, 1700000000);
    sr_zone_free(zone);
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sr_zone *zone = NULL;
    sr_cron cron;
    sr_tz_rule rule;
    sr_err err;
    char *text = malloc(size ? size : 1); /* of the exact size: a byte beyond is caught */
    if (!text) return 0;
    memcpy(text, data, size);
    if (sr_zone_parse(text, size, "fuzz", &zone, &err) == 0) try_zone(zone, 0);
    sr_zone_free(zone);
    as_file(text, size);
    if (sr_cron_parse(text, size, &cron, &err) == 0) fire(&cron, NULL, 1700000000);
    if (sr_tz_rule_parse(text, size, &rule, &err) == 0)
        for (int64_t t = 0; t < 4000000000; t += 99999999) {
            (void)sr_tz_rule_at(&rule, t);
            HOLDS(sr_tz_rule_change(&rule, t) > t);
        }
    free(text);
    return 0;
}
