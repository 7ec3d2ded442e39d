/* unit.h – the smallest test frame that fails loudly.
 *
 *     TEST(duration_with_two_units) {
 *         double s;
 *         CHECK(sr_parse_duration("2m30s", &s) == 0);
 *         CHECK_INT(s, 150);
 *     }
 *
 * A test registers itself, runs in the order of its file and stops at its first failed
 * check. `unit_tests [FILTER]` runs those whose name contains FILTER.
 */
#ifndef UNIT_H
#define UNIT_H

#include <stdio.h>
#include <string.h>

typedef struct unit_test {
    const char *name;
    const char *file;
    void (*run)(void);
    struct unit_test *next;
} unit_test;

void unit_add(unit_test *test);
/* Note a failure and leave the test; never returns. */
void unit_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), noreturn));

#define TEST(id)                                                                         \
    static void test_##id(void);                                                         \
    static unit_test unit_##id = {#id, __FILE__, test_##id, NULL};                       \
    __attribute__((constructor)) static void add_##id(void) {                            \
        unit_add(&unit_##id);                                                            \
    }                                                                                    \
    static void test_##id(void)

#define CHECK(cond)                                                                      \
    do {                                                                                 \
        if (!(cond)) unit_fail(__FILE__, __LINE__, "%s", #cond);                         \
    } while (0)
#define CHECK_INT(got, want)                                                             \
    do {                                                                                 \
        long long g_ = (long long)(got), w_ = (long long)(want);                         \
        if (g_ != w_)                                                                    \
            unit_fail(__FILE__, __LINE__, "%s: got %lld, want %lld", #got, g_, w_);      \
    } while (0)
#define CHECK_STR(got, want)                                                             \
    do {                                                                                 \
        const char *g_ = (got), *w_ = (want);                                            \
        if (!g_ || strcmp(g_, w_) != 0)                                                  \
            unit_fail(__FILE__, __LINE__, "%s: got \"%s\", want \"%s\"", #got,           \
                      g_ ? g_ : "(null)", w_);                                           \
    } while (0)

#endif
