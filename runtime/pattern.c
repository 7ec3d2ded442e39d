/* pattern.c – what a Lua pattern may cost, before it is run.
 *
 * Lua's matcher backtracks: 300 bytes and the pattern "a-a-a-a-b" take seconds, inside
 * one C call that no hook interrupts. This file bounds the search tree instead. Walking
 * through the pattern, `ways` is the number of ways the items so far may have matched
 * from one starting point. A quantified item can take between nothing and the longest run
 * of its class that the subject holds, so it multiplies the ways by that run plus one; no
 * more ways exist than there are to cut n bytes into q pieces. Each item costs ways × the
 * steps of one try.
 *
 * The bound depends on the subject, so that trimming a text of 4 KB is cheap (runs of
 * blanks are short) and the attack above is not. It errs only upwards.
 */
#include "guard.h"

#include <ctype.h>
#include <string.h>

/* One item of the pattern: [p, class_end) is what matches one character. */
struct scan {
    const unsigned char *p, *end;
    const unsigned char *subject;
    size_t len;
    double ways, pieces, total;
    int quantifiers;
};

static bool in_class(int c, int class) {
    bool in;
    switch (tolower(class)) {
    case 'a': in = isalpha(c); break;
    case 'c': in = iscntrl(c); break;
    case 'd': in = isdigit(c); break;
    case 'g': in = isgraph(c); break;
    case 'l': in = islower(c); break;
    case 'p': in = ispunct(c); break;
    case 's': in = isspace(c); break;
    case 'u': in = isupper(c); break;
    case 'w': in = isalnum(c); break;
    case 'x': in = isxdigit(c); break;
    default: return class == c;
    }
    return isupper(class) ? !in : in;
}

/* Past the ']' that closes the set opened at p, or NULL. */
static const unsigned char *set_end(const unsigned char *p, const unsigned char *end) {
    p++;
    if (p < end && *p == '^') p++;
    do {
        if (p >= end) return NULL;
        if (*p++ == '%') {
            if (p >= end) return NULL;
            p++;
        }
    } while (p >= end || *p != ']');
    return p + 1;
}

/* Is c in the set [p, end), brackets included? */
static bool in_set(int c, const unsigned char *p, const unsigned char *end) {
    const unsigned char *last = end - 1;
    bool inside = true;
    p++;
    if (*p == '^') {
        inside = false;
        p++;
    }
    for (; p < last; p++) {
        if (*p == '%' && p + 1 < last) {
            if (in_class(c, *++p)) return inside;
        } else if (p + 2 < last && p[1] == '-') {
            if (p[0] <= c && c <= p[2]) return inside;
            p += 2;
        } else if (*p == c) {
            return inside;
        }
    }
    return !inside;
}

/* Past the single-character class at p, or NULL when it is malformed. */
static const unsigned char *class_end(const unsigned char *p, const unsigned char *end) {
    if (*p == '[') return set_end(p, end);
    if (*p != '%') return p + 1;
    return p + 1 < end ? p + 2 : NULL;
}

static bool matches(int c, const unsigned char *p, const unsigned char *end) {
    switch (*p) {
    case '.': return true;
    case '[': return in_set(c, p, end);
    case '%': return in_class(c, p[1]);
    default: return *p == c;
    }
}

static size_t longest_run(const struct scan *s, const unsigned char *end) {
    size_t best = 0, run = 0;
    for (size_t i = 0; i < s->len; i++) {
        run = matches(s->subject[i], s->p, end) ? run + 1 : 0;
        if (run > best) best = run;
    }
    return best;
}

/* Count the item [s->p, end), followed by a quantifier perhaps, and step over it. */
static void count_item(struct scan *s, const unsigned char *end) {
    double steps = (double)(end - s->p);
    int q = end < s->end ? *end : 0;
    s->total += s->ways * steps;
    if (q == '?' || q == '*' || q == '+' || q == '-') {
        double run = (double)longest_run(s, end);
        if (q == '?' && run > 1) run = 1;
        s->quantifiers++;
        s->pieces *= ((double)s->len + s->quantifiers) / s->quantifiers;
        s->ways *= run + 1;
        if (s->ways > s->pieces) s->ways = s->pieces;
        s->total += s->ways * steps;
        end++;
    }
    s->p = end;
}

/* %b, %f and back references: no choice, but each try may read far. */
static bool count_special(struct scan *s) {
    const unsigned char *next = s->p + 2;
    double steps = (double)s->len + 1;
    if (s->p[1] == 'b') {
        next = s->p + 4;
        if (next > s->end) return false;
    } else if (s->p[1] == 'f') {
        if (next >= s->end || *next != '[') return false;
        const unsigned char *set = next;
        next = set_end(set, s->end);
        if (!next) return false;
        steps = 2.0 * (double)(next - set);
    }
    s->total += s->ways * steps;
    s->p = next;
    return true;
}

static bool is_special(const struct scan *s) {
    return s->p[0] == '%' && s->p + 1 < s->end &&
           (s->p[1] == 'b' || s->p[1] == 'f' || isdigit(s->p[1]));
}

double sr_pattern_cost(const char *pattern, size_t pattern_len, const char *subject,
                       size_t subject_len, bool anchors) {
    struct scan s = {.p = (const unsigned char *)pattern,
                     .end = (const unsigned char *)pattern + pattern_len,
                     .subject = (const unsigned char *)subject,
                     .len = subject_len,
                     .ways = 1,
                     .pieces = 1,
                     .total = 1};
    double starts = (double)subject_len + 1;
    if (anchors && pattern_len > 0 && *s.p == '^') {
        starts = 1;
        s.p++;
    }
    while (s.p < s.end) {
        if (*s.p == '(' || *s.p == ')') {
            s.total += s.ways;
            s.p++;
        } else if (is_special(&s)) {
            if (!count_special(&s)) return -1;
        } else {
            const unsigned char *end = class_end(s.p, s.end);
            if (!end) return -1;
            count_item(&s, end);
        }
    }
    return s.total * starts;
}
