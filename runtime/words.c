/* words.c – durations as people write them, and the word they meant. Pure. */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

static const struct {
    const char *unit;
    double seconds;
} units[] = {{"ms", 0.001}, {"s", 1},     {"m", 60},
             {"h", 3600},   {"d", 86400}, {"w", 604800}};

static double unit_seconds(const char *text, size_t len) {
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strlen(units[i].unit) == len && strncmp(units[i].unit, text, len) == 0)
            return units[i].seconds;
    return 0;
}

int sr_parse_duration(const char *text, double *ret_seconds) {
    double total = 0;
    if (!*text) return -1;
    while (*text) {
        char *end;
        if (!isdigit((unsigned char)*text)) return -1;
        double number = strtod(text, &end);
        size_t len = strspn(end, "abcdefghijklmnopqrstuvwxyz");
        double seconds = unit_seconds(end, len);
        if (seconds == 0 || number > 1e12) return -1;
        total += number * seconds;
        text = end + len;
    }
    *ret_seconds = total;
    return 0;
}

static size_t least(size_t a, size_t b, size_t c) {
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Levenshtein distance of words up to 31 bytes; longer ones never match. */
static size_t distance(const char *a, const char *b) {
    size_t row[32], la = strlen(a), lb = strlen(b);
    if (la > 31 || lb > 31) return SIZE_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t above = row[j];
            bool same =
                tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            row[j] = least(row[j] + 1, row[j - 1] + 1, diagonal + !same);
            diagonal = above;
        }
    }
    return row[lb];
}

const char *sr_suggest(const char *word, const char *const *words) {
    const char *best = NULL;
    size_t limit = strlen(word) / 3 + 1, least_so_far = limit + 1;
    for (; *words; words++) {
        size_t d = distance(word, *words);
        if (d < least_so_far) {
            least_so_far = d;
            best = *words;
        }
    }
    return best;
}
