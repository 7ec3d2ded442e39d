/* schedule_test.c – cron expressions in real time zones, and the zones themselves. */
#include <stdlib.h>

#include "flow/cron_msg.h"
#include "unit.h"

enum { HOUR = 3600, DAY = 86400 };

static sr_zone *zone(const char *name) {
    char path[128], data[65536];
    sr_zone *z = NULL;
    sr_err err = {0};
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", name);
    FILE *file = fopen(path, "rb");
    CHECK(file);
    size_t len = fread(data, 1, sizeof data, file);
    fclose(file);
    int rc = sr_zone_parse(data, len, name, &z, &err);
    CHECK_STR(err.message, "");
    CHECK_INT(rc, 0);
    return z;
}

static int64_t at(int year, int month, int day, int64_t hour, int64_t minute) {
    return sr_date_days(year, month, day) * DAY + hour * HOUR + minute * 60;
}

static sr_cron cron(const char *text) {
    sr_cron c = {0};
    sr_err err = {0};
    (void)sr_cron_parse(text, strlen(text), &c, &err);
    CHECK_STR(err.message, "");
    return c;
}

/* "2026-03-29 03:00 CEST, …": the next firings in local time. */
static const char *fires(const char *text, const sr_zone *z, int64_t after, int count) {
    static char out[512];
    sr_cron c = cron(text);
    out[0] = '\0';
    for (int i = 0; i < count; i++) {
        after = sr_cron_next(&c, z, after);
        sr_offset o = sr_zone_at(z, after);
        int64_t rest, day = sr_floor_div(after + o.seconds, DAY, &rest);
        sr_date d = sr_date_of(day);
        size_t len = strlen(out);
        snprintf(out + len, sizeof out - len, "%s%d-%02d-%02d %02d:%02d %s",
                 i ? ", " : "", (int)d.year, d.month, d.day, (int)(rest / HOUR),
                 (int)(rest / 60 % 60), o.name);
    }
    return out;
}

static const char *refused(const char *text) {
    static char message[512];
    sr_cron c;
    sr_err err = {0};
    if (sr_cron_parse(text, strlen(text), &c, &err) == 0) return "accepted";
    CHECK_INT(err.kind, SR_USAGE);
    CHECK_STR(err.code, "SCHEDULE");
    snprintf(message, sizeof message, "%s", err.message);
    return message;
}

TEST(days_and_dates_are_each_others_inverse) {
    for (int64_t day = -800000; day < 3000000; day += 13) {
        sr_date d = sr_date_of(day);
        CHECK_INT(sr_date_days(d.year, d.month, d.day), day);
    }
    CHECK_INT(sr_date_days(2000, 3, 1), 11017);
    CHECK_INT(sr_weekday(sr_date_days(2026, 11, 25)), 3);
}

TEST(fields_have_lists_ranges_steps_and_names) {
    int64_t from = at(2026, 1, 1, 0, 0); /* a Thursday */
    CHECK_STR(fires("*/20 8-9 * * *", NULL, from, 4),
              "2026-01-01 08:00 UTC, 2026-01-01 08:20 UTC, 2026-01-01 08:40 UTC, "
              "2026-01-01 09:00 UTC");
    CHECK_STR(fires("5,35 0 * * Mon-fri", NULL, from, 3),
              "2026-01-01 00:05 UTC, 2026-01-01 00:35 UTC, 2026-01-02 00:05 UTC");
    CHECK_STR(fires("0 0 1 JAN,jul *", NULL, from, 2),
              "2026-07-01 00:00 UTC, 2027-01-01 00:00 UTC");
    CHECK_STR(fires("0 12 * * 7", NULL, from, 1), "2026-01-04 12:00 UTC");
    CHECK_STR(fires("0 12 * * sat-sun", NULL, from, 2),
              "2026-01-03 12:00 UTC, 2026-01-04 12:00 UTC");
    CHECK_STR(fires("0 0 10-20/5 * *", NULL, from, 3),
              "2026-01-10 00:00 UTC, 2026-01-15 00:00 UTC, 2026-01-20 00:00 UTC");
}

TEST(a_day_of_month_and_a_day_of_week_are_alternatives) {
    int64_t from = at(2026, 1, 1, 0, 0);
    CHECK_STR(fires("0 0 13 * fri", NULL, from, 3),
              "2026-01-02 00:00 UTC, 2026-01-09 00:00 UTC, 2026-01-13 00:00 UTC");
    CHECK_STR(fires("0 0 */2 * fri", NULL, from, 2),
              "2026-01-09 00:00 UTC, 2026-01-23 00:00 UTC");
}

TEST(the_last_day_of_a_month_and_leap_days_are_found) {
    CHECK_STR(fires("0 0 L * *", NULL, at(2028, 1, 31, 0, 0), 3),
              "2028-02-29 00:00 UTC, 2028-03-31 00:00 UTC, 2028-04-30 00:00 UTC");
    CHECK_STR(fires("0 0 29 2 *", NULL, at(2096, 3, 1, 0, 0), 1), "2104-02-29 00:00 UTC");
    /* 29 February on a Friday, across the year 2100 that has none */
    CHECK_STR(fires("0 0 29 2 */5", NULL, at(2080, 3, 1, 0, 0), 1),
              "2088-02-29 00:00 UTC");
}

TEST(shorthands_and_durations_fire) {
    int64_t from = at(2026, 1, 1, 10, 30);
    CHECK_STR(fires("@daily", NULL, from, 1), "2026-01-02 00:00 UTC");
    CHECK_STR(fires("@Hourly", NULL, from, 1), "2026-01-01 11:00 UTC");
    CHECK_STR(fires("@weekly", NULL, from, 1), "2026-01-04 00:00 UTC");
    CHECK_STR(fires("@yearly", NULL, from, 1), "2027-01-01 00:00 UTC");
    CHECK_STR(fires("every 6h", NULL, from, 2),
              "2026-01-01 12:00 UTC, 2026-01-01 18:00 UTC");
    sr_cron second = cron("every 1s");
    CHECK_INT(sr_cron_next(&second, NULL, from), from + 1);
}

TEST(a_time_in_the_gap_fires_at_its_end) {
    sr_zone *berlin = zone("Europe/Berlin"), *york = zone("America/New_York");
    CHECK_STR(fires("30 2 * * *", berlin, at(2026, 3, 28, 12, 0), 2),
              "2026-03-29 03:00 CEST, 2026-03-30 02:30 CEST");
    CHECK_STR(fires("15,45 2,3 * * *", berlin, at(2026, 3, 28, 12, 0), 3),
              "2026-03-29 03:00 CEST, 2026-03-29 03:15 CEST, 2026-03-29 03:45 CEST");
    CHECK_STR(fires("0 2 * * *", york, at(2026, 3, 8, 6, 0), 2),
              "2026-03-08 03:00 EDT, 2026-03-09 02:00 EDT");
    sr_zone_free(berlin);
    sr_zone_free(york);
}

TEST(a_time_that_exists_twice_fires_once) {
    sr_zone *berlin = zone("Europe/Berlin"), *york = zone("America/New_York");
    CHECK_STR(fires("30 2 * * *", berlin, at(2026, 10, 24, 12, 0), 2),
              "2026-10-25 02:30 CEST, 2026-10-26 02:30 CET");
    /* asked between the two 01:30 of New York */
    CHECK_STR(fires("30 1 * * *", york, at(2026, 11, 1, 5, 45), 1),
              "2026-11-02 01:30 EST");
    sr_zone_free(berlin);
    sr_zone_free(york);
}

TEST(an_hour_of_star_follows_elapsed_time) {
    sr_zone *berlin = zone("Europe/Berlin");
    sr_cron c = cron("*/15 * * * *");
    int64_t autumn = at(2026, 10, 24, 22, 0), spring = at(2026, 3, 28, 22, 0);
    for (int i = 1; i <= 40; i++) {
        CHECK_INT(sr_cron_next(&c, berlin, autumn), autumn + 900);
        CHECK_INT(sr_cron_next(&c, berlin, spring), spring + 900);
        autumn += 900;
        spring += 900;
    }
    sr_zone_free(berlin);
}

TEST(half_an_hour_of_summer_time_is_handled) {
    sr_zone *howe = zone("Australia/Lord_Howe");
    CHECK_STR(fires("15 2 * * *", howe, at(2026, 10, 3, 0, 0), 2),
              "2026-10-04 02:30 +11, 2026-10-05 02:15 +11");
    CHECK_STR(fires("45 1 * * *", howe, at(2026, 4, 4, 0, 0), 2),
              "2026-04-05 01:45 +11, 2026-04-06 01:45 +1030");
    sr_zone_free(howe);
}

TEST(a_day_that_was_left_out_fires_at_its_end) {
    sr_zone *apia = zone("Pacific/Apia");
    CHECK_STR(fires("0 12 * * *", apia, at(2011, 12, 29, 20, 0), 3),
              "2011-12-29 12:00 -10, 2011-12-31 00:00 +14, 2011-12-31 12:00 +14");
    CHECK_STR(fires("0 12 30 12 *", apia, at(2011, 12, 1, 0, 0), 2),
              "2011-12-31 00:00 +14, 2012-12-30 12:00 +14");
    sr_zone_free(apia);
}

TEST(zones_go_on_by_the_rule_of_their_footer) {
    sr_zone *berlin = zone("Europe/Berlin"), *sydney = zone("Australia/Sydney");
    CHECK_STR(sr_zone_at(berlin, at(2090, 7, 1, 0, 0)).name, "CEST");
    CHECK_STR(sr_zone_at(berlin, at(2090, 12, 1, 0, 0)).name, "CET");
    CHECK_STR(sr_zone_at(sydney, at(2090, 1, 1, 0, 0)).name, "AEDT");
    CHECK_INT(sr_zone_change(berlin, at(2090, 1, 1, 0, 0)), at(2090, 3, 26, 1, 0));
    CHECK_STR(fires("30 2 * * *", berlin, at(2090, 3, 25, 12, 0), 1),
              "2090-03-26 03:00 CEST");
    sr_zone_free(berlin);
    sr_zone_free(sydney);
}

TEST(every_instant_of_a_local_time_leads_back_to_it) {
    static const char *const names[] = {"Europe/Berlin", "Australia/Lord_Howe",
                                        "Africa/Casablanca", "America/Nuuk"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sr_zone *z = zone(names[i]);
        int64_t last = INT64_MIN;
        for (int64_t l = at(2020, 1, 1, 0, 0); l < at(2045, 1, 1, 0, 0); l += 1801) {
            int64_t utc = sr_zone_instant(z, l);
            CHECK(utc >= last);
            last = utc;
            int64_t back = utc + sr_zone_at(z, utc).seconds;
            if (back == l) continue; /* else it is the end of a gap */
            CHECK(back > l && back - l <= HOUR);
            CHECK(utc - 1 + sr_zone_at(z, utc - 1).seconds < l);
        }
        sr_zone_free(z);
    }
}

TEST(posix_rules_are_read_as_rfc_8536_has_them) {
    static const char *const good[] = {"UTC0",
                                       "EST5EDT,M3.2.0,M11.1.0",
                                       "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
                                       "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
                                       "IST-2IDT,M3.4.4/26,M10.5.0",
                                       "XXX3EDT4,0/0,J365/23"};
    static const char *const bad[] = {"",           "U0",
                                      "UTC",        "EST5EDT",
                                      "EST5EDT,M3", "EST5EDT,M13.1.0,M11.1.0",
                                      "UTC0 ",      "<+1030-10:30",
                                      "UTC99",      "EST5EDT,M3.2.0,M11.1.0,",
                                      "EST5:",      "EST5EDT,M3.2.0/168,M11.1.0"};
    sr_tz_rule rule;
    sr_err err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_INT(sr_tz_rule_parse(good[i], strlen(good[i]), &rule, &err), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(sr_tz_rule_parse(bad[i], strlen(bad[i]), &rule, &err), -1);
}

TEST(summer_time_all_year_round_never_changes) {
    const char *text = "EST5EDT,0/0,J365/25"; /* the example of RFC 8536 */
    sr_tz_rule rule;
    sr_err err;
    CHECK_INT(sr_tz_rule_parse(text, strlen(text), &rule, &err), 0);
    for (int64_t t = at(2026, 12, 30, 0, 0); t < at(2027, 1, 3, 0, 0); t += 600)
        CHECK_STR(sr_tz_rule_at(&rule, t).name, "EDT");
}

TEST(schedules_that_make_no_sense_are_refused_with_a_mend) {
    CHECK_STR(refused("0 0 31 2 *"),
              "\"0 0 31 2 *\" never fires: no month it names has such a day");
    CHECK_STR(refused("0 0 31 4,6,9,11 *"),
              "\"0 0 31 4,6,9,11 *\" never fires: no month it names has such a day");
    CHECK_STR(refused("60 * * * *"), "minute: 60 is out of reach; it goes from 0 to 59");
    CHECK_STR(refused("0 3 * * mno"),
              "day of week: \"mno\" is unknown; did you mean mon?");
    CHECK_STR(refused("5/15 * * * *"), "minute: a step needs a range; write 5-59/15");
    CHECK_STR(refused("0 22-6 * * *"),
              "hour: 22-6 runs backwards; split it in two with a comma");
    CHECK(strstr(refused("0 3 * *"), "has 4 fields; a cron expression has five"));
    CHECK(strstr(refused("0 0 3 * * *"), "none for seconds"));
    CHECK(strstr(refused("@dayly"), "did you mean @daily?"));
    CHECK(strstr(refused("every"), "or write \"every 6h\""));
    CHECK(strstr(refused("every 500ms"), "whole seconds"));
    CHECK(strstr(refused("every day"), "has no duration"));
    CHECK(strstr(refused("  "), "is empty"));
    CHECK(strstr(refused("*/0 * * * *"), "the step"));
    CHECK(strstr(refused("1,,2 * * * *"), "beside a comma"));
    CHECK(strstr(refused("1-2-3 * * * *"), "is no value"));
}

TEST(the_last_firing_before_an_instant_is_found) {
    int64_t now = at(2026, 6, 15, 10, 20), month = at(2026, 5, 15, 0, 0);
    sr_cron daily = cron("0 3 * * *"), yearly = cron("@yearly"),
            often = cron("every 90s");
    CHECK_INT(sr_cron_last(&daily, NULL, month, now), at(2026, 6, 15, 3, 0));
    CHECK_INT(sr_cron_last(&daily, NULL, month, at(2026, 6, 15, 3, 0)),
              at(2026, 6, 15, 3, 0));
    CHECK(sr_cron_last(&daily, NULL, at(2026, 6, 15, 3, 0), now) == SR_CRON_NEVER);
    CHECK(sr_cron_last(&yearly, NULL, month, now) == SR_CRON_NEVER);
    CHECK_INT(sr_cron_last(&yearly, NULL, at(2020, 1, 1, 0, 0), now),
              at(2026, 1, 1, 0, 0));
    CHECK_INT(sr_cron_last(&often, NULL, month, now), now - now % 90);
}

TEST(jitter_is_stable_and_spread) {
    int tenth[10] = {0};
    for (int i = 0; i < 10000; i++) {
        double j = sr_cron_jitter("renew", 5, 86400 * (int64_t)i);
        CHECK(j >= 0 && j < 1);
        CHECK(j == sr_cron_jitter("renew", 5, 86400 * (int64_t)i));
        tenth[(int)(j * 10)]++;
    }
    for (int i = 0; i < 10; i++)
        CHECK(tenth[i] > 850 && tenth[i] < 1150);
    CHECK(sr_cron_jitter("renew", 5, 0) != sr_cron_jitter("watch", 5, 0));
}

TEST(names_of_zones_cannot_leave_their_folder) {
    static const char *const bad[] = {"",          "/etc/passwd", "../../etc/passwd",
                                      "Europe//X", "a/",          "Europe/Ber lin",
                                      "..",        "a/../b",      "x.y"};
    sr_err err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(sr_zone_check_name(bad[i], &err), -1);
    CHECK_INT(sr_zone_check_name("America/Argentina/Buenos_Aires", &err), 0);
    CHECK_INT(sr_zone_check_name("Etc/GMT+12", &err), 0);
}
