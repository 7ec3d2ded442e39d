/* guard_test.c – the bound on what a pattern may cost, and the counting allocator. */
#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "unit.h"

static double cost(const char *pattern, const char *subject) {
    return sr_pattern_cost(pattern, strlen(pattern), subject, strlen(subject), true);
}

/* A subject of n times the same byte. */
static const char *run_of(char c, size_t n) {
    static char text[5000];
    memset(text, c, n);
    text[n] = '\0';
    return text;
}

TEST(pattern_without_quantifier_is_linear) {
    CHECK(cost("abc", run_of('a', 1000)) < 10000);
    CHECK(cost("^abc", run_of('a', 1000)) < 10);
}

TEST(pattern_with_one_quantifier_is_quadratic_at_most) {
    CHECK(cost("^a*b", run_of('a', 1000)) < 10000);
    CHECK(cost("a*b", run_of('a', 1000)) > 1e6);
    CHECK(cost("a*b", run_of('a', 4000)) > SR_PATTERN_STEPS);
}

TEST(pattern_cost_follows_the_runs_of_the_subject) {
    CHECK(cost("^%s*(.-)%s*$", run_of('a', 4000)) < 100000);
    CHECK(cost("^%s*(.-)%s*$", run_of(' ', 4000)) > SR_PATTERN_STEPS);
    CHECK(cost("[%w-]+%.[%w-]+", "www.example.com www.example.org") < 100000);
}

TEST(pattern_attack_of_four_lazy_items_is_seen) {
    CHECK(cost("a-a-a-a-b", run_of('a', 400)) > 1e10);
    CHECK(cost("a-a-a-b", run_of('a', 300)) > SR_PATTERN_STEPS);
}

TEST(pattern_optional_items_double) {
    char pattern[121] = "";
    for (int i = 0; i < 40; i++)
        memcpy(pattern + (size_t)i * 2, "a?", 3);
    CHECK(cost(pattern, run_of('a', 40)) > 1e10);
    CHECK(cost("colou?r", "the colour of colors") < 1000);
}

TEST(pattern_sets_cost_their_length) {
    double small = cost("^[ab]*x", run_of('a', 100));
    double large = cost("^[abcdefghijklmnopqrstuvwxyz]*x", run_of('a', 100));
    CHECK(large > 5 * small);
}

TEST(pattern_sets_are_read_like_lua_reads_them) {
    /* the run of the class shows in the cost: long if the set contains it */
    const char *a = run_of('a', 1000);
    CHECK(cost("^[a-c]*", a) > 4000);
    CHECK(cost("^[^a]*", a) < 4000);
    CHECK(cost("^[]a]*", a) > 4000);
    CHECK(cost("^[^]]*", a) > 4000);
    CHECK(cost("^[%a]*", a) > 2000);
    CHECK(cost("^[%A]*", a) < 2000);
    CHECK(cost("^[%]a]*", a) > 4000);
    CHECK(cost("^%A*", a) < 100);
    CHECK(cost("^%.*", a) < 100);
    CHECK(cost("^.*", a) > 1000);
}

TEST(pattern_malformed_is_refused) {
    CHECK(cost("[a", "x") < 0);
    CHECK(cost("%", "x") < 0);
    CHECK(cost("a%", "x") < 0);
    CHECK(cost("[a%", "x") < 0);
    CHECK(cost("[]", "x") < 0);
    CHECK(cost("%b(", "x") < 0);
    CHECK(cost("%f", "x") < 0);
    CHECK(cost("%f[a", "x") < 0);
}

TEST(pattern_anchor_is_a_letter_for_gmatch) {
    const char *a = run_of('a', 1000);
    CHECK(sr_pattern_cost("^a*b", 4, a, 1000, false) >
          sr_pattern_cost("^a*b", 4, a, 1000, true));
}

TEST(pattern_empty_is_cheap) {
    CHECK(cost("", "") == 1);
    CHECK(cost("^", "abc") == 1);
    CHECK(cost("", "abc") == 4);
}

TEST(guard_refuses_beyond_the_limit_and_counts_what_is_freed) {
    sr_guard g = {.limit = 1000};
    void *a = sr_guard_alloc(&g, NULL, LUA_TTABLE, 600);
    CHECK(a);
    CHECK_INT(g.used, 600);
    CHECK(!sr_guard_alloc(&g, NULL, LUA_TTABLE, 500));
    CHECK_INT(g.stop, SR_STOP_MEMORY);
    void *b = sr_guard_alloc(&g, a, 600, 1000);
    CHECK(b);
    CHECK(!sr_guard_alloc(&g, b, 1000, 1001));
    b = sr_guard_alloc(&g, b, 1000, 10);
    CHECK(b);
    CHECK_INT(g.used, 10);
    CHECK(!sr_guard_alloc(&g, b, 10, 0));
    CHECK_INT(g.used, 0);
    CHECK_INT(g.peak, 1000);
}

TEST(guard_refuses_sizes_that_wrap) {
    sr_guard g = {.limit = 1000};
    CHECK(!sr_guard_alloc(&g, NULL, 0, SIZE_MAX));
    CHECK(!sr_guard_alloc(&g, NULL, 0, SIZE_MAX - 500));
    CHECK_INT(g.used, 0);
}

TEST(guard_bounds_one_string_not_other_blocks) {
    sr_guard g = {.limit = 100000, .max_string = 1000};
    CHECK(!sr_guard_alloc(&g, NULL, LUA_TSTRING, 1001));
    CHECK_INT(g.stop, SR_STOP_STRING);
    void *table = sr_guard_alloc(&g, NULL, LUA_TTABLE, 1001);
    CHECK(table);
    sr_guard_alloc(&g, table, 1001, 0);
}

TEST(guard_gives_nothing_after_the_deadline_but_takes_back) {
    sr_guard g = {.limit = 1 << 20};
    void *a = sr_guard_alloc(&g, NULL, 0, 100);
    CHECK(a);
    g.stop = SR_STOP_TIME;
    CHECK(!sr_guard_alloc(&g, NULL, 0, 1));
    CHECK(!sr_guard_alloc(&g, a, 100, 101));
    a = sr_guard_alloc(&g, a, 100, 50);
    CHECK(a);
    sr_guard_alloc(&g, a, 50, 0);
    CHECK_INT(g.used, 0);
}

TEST(slab_reuses_a_freed_block_of_the_same_size) {
    sr_slab slab;
    sr_slab_open(&slab);
    if (!slab.base) return; /* a sanitizer build has none */
    void *a = sr_slab_get(&slab, 40), *b = sr_slab_get(&slab, 40);
    CHECK(a && b && a != b);
    CHECK_INT((size_t)a % SR_SLAB_GRAIN, 0);
    CHECK(sr_slab_owns(&slab, a));
    CHECK(!sr_slab_owns(&slab, &slab));
    sr_slab_put(&slab, a, 40);
    CHECK(sr_slab_get(&slab, 48) == a);
    CHECK(sr_slab_fits(33, 48) && !sr_slab_fits(32, 33));
    sr_slab_close(&slab);
}

TEST(slab_ends_and_gives_no_large_blocks) {
    sr_slab slab;
    sr_slab_open(&slab);
    if (!slab.base) return;
    CHECK(!sr_slab_get(&slab, SR_SLAB_BLOCK + 1));
    int n = 0;
    while (sr_slab_get(&slab, SR_SLAB_BLOCK))
        n++;
    CHECK_INT(n, SR_SLAB_SIZE / SR_SLAB_BLOCK);
    sr_slab_close(&slab);
}

TEST(guard_moves_blocks_between_slab_and_heap) {
    sr_guard g = {.limit = 1 << 20};
    sr_slab_open(&g.slab);
    char *p = sr_guard_alloc(&g, NULL, 0, 20);
    CHECK(p);
    memcpy(p, "nineteen characters", 20);
    for (size_t size = 20, next = 30; next < 100000; size = next, next *= 3) {
        p = sr_guard_alloc(&g, p, size, next);
        CHECK(p);
        CHECK_STR(p, "nineteen characters");
        CHECK_INT(g.used, next);
    }
    sr_guard_alloc(&g, p, g.used, 0);
    CHECK_INT(g.used, 0);
    sr_slab_close(&g.slab);
}
