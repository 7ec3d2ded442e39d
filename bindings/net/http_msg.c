/* http_msg.c – fields, dates, Retry-After, Link and media types; see http_msg.h.
 *
 * The readers are lenient where the field is (folded white space, unquoted relations,
 * empty list elements) and strict where leniency could move a byte from one meaning to
 * another (control characters, lengths, numbers).
 */
#include "net/http_msg.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_tchar(unsigned char c) {
    return isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* Cut white space at both ends. */
static void trim(const char **text, size_t *len) {
    while (*len && is_blank(**text))
        ++*text, --*len;
    while (*len && is_blank((*text)[*len - 1]))
        --*len;
}

static bool same_word(const char *text, size_t len, const char *word) {
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

bool sr_http_is_token(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (!is_tchar((unsigned char)text[i])) return false;
    return len > 0;
}

bool sr_http_is_value(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return false;
    }
    return true;
}

int sr_http_status_line(const char *line, size_t len, int *ret_version, int *ret_status) {
    if (len < 9 || memcmp(line, "HTTP/", 5) != 0) return -1;
    const char *at = line + 5, *end = line + len;
    if (!isdigit((unsigned char)*at)) return -1;
    int version = (*at++ - '0') * 10;
    if (*at == '.') {
        if (!isdigit((unsigned char)at[1])) return -1;
        version += at[1] - '0';
        at += 2;
    }
    if (end - at < 4 || *at++ != ' ') return -1;
    int status = 0;
    for (int i = 0; i < 3; i++) {
        if (!isdigit((unsigned char)at[i])) return -1;
        status = status * 10 + (at[i] - '0');
    }
    at += 3;
    if (at < end && *at != ' ' && *at != '\r' && *at != '\n') return -1;
    if (status < 100) return -1;
    *ret_version = version;
    *ret_status = status;
    return 0;
}

bool sr_http_next_field(const char **at, const char *end, sr_http_field *ret_field) {
    while (*at < end) {
        const char *line = *at, *stop = memchr(line, '\n', (size_t)(end - line));
        *at = stop ? stop + 1 : end;
        if (!stop) stop = end;
        if (stop > line && stop[-1] == '\r') stop--;
        const char *colon = memchr(line, ':', (size_t)(stop - line));
        if (!colon || !sr_http_is_token(line, (size_t)(colon - line))) continue;
        sr_http_field field = {line, colon + 1, (size_t)(colon - line),
                               (size_t)(stop - colon - 1)};
        trim(&field.value, &field.value_len);
        *ret_field = field;
        return true;
    }
    return false;
}

bool sr_http_field_is(const sr_http_field *field, const char *name) {
    return same_word(field->name, field->name_len, name);
}

bool sr_http_find(const char *head, size_t len, const char *name,
                  sr_http_field *ret_field) {
    const char *at = head, *end = head + len;
    sr_http_field field;
    while (sr_http_next_field(&at, end, &field))
        if (sr_http_field_is(&field, name)) {
            *ret_field = field;
            return true;
        }
    return false;
}

bool sr_http_idempotent(const char *method) {
    static const char *const list[] = {"GET",    "HEAD",    "PUT",
                                       "DELETE", "OPTIONS", "TRACE"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (strcmp(method, list[i]) == 0) return true;
    return false;
}

/* ---------------------------------------------------------------- dates */

/* Days since 1970-01-01 of a day in the proleptic Gregorian calendar. */
static int64_t days_of(int64_t year, int month, int day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int month_of(const char *name) {
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (int i = 0; i < 12; i++)
        if (strncasecmp(names + (size_t)i * 3, name, 3) == 0) return i + 1;
    return 0;
}

static int days_in(int month, int year) {
    static const char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* What a pattern collects. */
struct stamp {
    int year, month, day, hour, minute, second;
};

/* Digits of fixed width; -1 when one is no digit. '_' positions of asctime may be blank.
 */
static int digits(const char *text, int width) {
    int value = 0;
    for (int i = 0; i < width; i++) {
        if (i == 0 && width == 2 && text[i] == ' ') continue;
        if (!isdigit((unsigned char)text[i])) return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

/* Match text against a pattern in which D Y y M h m s stand for the parts of a date (each
 * repeated to its width) and every other character for itself. */
static bool match_date(const char *text, size_t len, const char *pattern,
                       struct stamp *ret) {
    size_t at = 0;
    for (const char *p = pattern; *p;) {
        int width = 1;
        if (strchr("DYyMhms", *p))
            while (p[width] == *p)
                width++;
        if (at + (size_t)width > len) return false;
        const char *here = text + at;
        switch (*p) {
        case 'D': ret->day = digits(here, 2); break;
        case 'Y': ret->year = digits(here, 4); break;
        case 'y': ret->year = digits(here, 2); break;
        case 'M': ret->month = month_of(here); break;
        case 'h': ret->hour = digits(here, 2); break;
        case 'm': ret->minute = digits(here, 2); break;
        case 's': ret->second = digits(here, 2); break;
        default:
            if (*here != *p) return false;
        }
        p += width;
        at += (size_t)width;
    }
    return at == len;
}

static int stamp_seconds(const struct stamp *t, double *ret_utc) {
    bool ok = t->year >= 1900 && t->month >= 1 && t->day >= 1 &&
              t->day <= days_in(t->month, t->year) && t->hour >= 0 && t->hour < 24 &&
              t->minute >= 0 && t->minute < 60 && t->second >= 0 && t->second <= 60;
    if (!ok) return -1;
    int64_t days = days_of(t->year, t->month, t->day);
    *ret_utc = (double)(days * 86400 + (int64_t)t->hour * 3600 + (int64_t)t->minute * 60 +
                        t->second);
    return 0;
}

int sr_http_date(const char *text, size_t len, double *ret_utc) {
    struct stamp t = {0};
    trim(&text, &len);
    const char *comma = memchr(text, ',', len);
    if (comma) { /* IMF-fixdate or RFC 850; the day's name carries nothing */
        const char *rest = comma + 1;
        size_t left = len - (size_t)(rest - text);
        trim(&rest, &left);
        if (left < 4 || memcmp(rest + left - 4, " GMT", 4) != 0) return -1;
        left -= 4;
        if (match_date(rest, left, "DD MMM YYYY hh:mm:ss", &t))
            return stamp_seconds(&t, ret_utc);
        if (!match_date(rest, left, "DD-MMM-yy hh:mm:ss", &t)) return -1;
        t.year += t.year < 70 ? 2000 : 1900;
        return stamp_seconds(&t, ret_utc);
    }
    if (len < 4 || !match_date(text + 4, len - 4, "MMM DD hh:mm:ss YYYY", &t)) return -1;
    return stamp_seconds(&t, ret_utc);
}

int sr_http_retry_after(const char *text, size_t len, double now, double *ret_seconds) {
    const double most = 10 * 366 * 86400.0;
    trim(&text, &len);
    if (!len) return -1;
    double seconds = 0, when;
    if (isdigit((unsigned char)*text)) {
        for (size_t i = 0; i < len; i++) {
            if (!isdigit((unsigned char)text[i])) return -1;
            if (seconds < most) seconds = seconds * 10 + (text[i] - '0');
        }
    } else {
        if (sr_http_date(text, len, &when) < 0) return -1;
        seconds = when > now ? when - now : 0;
    }
    *ret_seconds = seconds < most ? seconds : most;
    return 0;
}

/* ---------------------------------------------------------------- lists */

/* Read a parameter's value at *at: a token or a quoted string, whose quotes are dropped.
 * Backslashes stay, relations and character sets have none. */
static void read_value(const char **at, const char *end, const char **ret,
                       size_t *ret_len) {
    const char *p = *at;
    if (p < end && *p == '"') {
        const char *from = ++p;
        while (p < end && *p != '"')
            p += *p == '\\' && p + 1 < end ? 2 : 1;
        *ret = from;
        *ret_len = (size_t)(p - from);
        *at = p < end ? p + 1 : end;
        return;
    }
    const char *from = p;
    while (p < end && *p != ';' && *p != ',' && !is_blank(*p))
        p++;
    *ret = from;
    *ret_len = (size_t)(p - from);
    *at = p;
}

/* One `name[=value]` after a ';'. false when the parameters end (',' or the end). */
static bool next_param(const char **at, const char *end, sr_http_field *ret) {
    const char *p = *at;
    for (;;) {
        while (p < end && (is_blank(*p) || *p == ';'))
            p++;
        if (p >= end || *p == ',') break;
        const char *name = p;
        while (p < end && is_tchar((unsigned char)*p))
            p++;
        if (p == name) { /* not a parameter: step over it */
            p++;
            continue;
        }
        *ret = (sr_http_field){name, "", (size_t)(p - name), 0};
        while (p < end && is_blank(*p))
            p++;
        if (p < end && *p == '=') {
            p++;
            while (p < end && is_blank(*p))
                p++;
            read_value(&p, end, &ret->value, &ret->value_len);
        }
        *at = p;
        return true;
    }
    *at = p;
    return false;
}

bool sr_http_next_link(const char **at, const char *end, sr_http_link *ret_link) {
    const char *open = *at < end ? memchr(*at, '<', (size_t)(end - *at)) : NULL;
    const char *close = open ? memchr(open, '>', (size_t)(end - open)) : NULL;
    if (!close) {
        *at = end;
        return false;
    }
    sr_http_link link = {open + 1, NULL, (size_t)(close - open - 1), 0};
    trim(&link.target, &link.target_len);
    const char *p = close + 1;
    sr_http_field param;
    while (next_param(&p, end, &param))
        if (!link.rel && sr_http_field_is(&param, "rel")) {
            link.rel = param.value;
            link.rel_len = param.value_len;
        }
    *at = p;
    *ret_link = link;
    return true;
}

bool sr_http_link_is(const sr_http_link *link, const char *rel) {
    const char *p = link->rel, *end = p ? p + link->rel_len : NULL;
    while (p && p < end) {
        while (p < end && is_blank(*p))
            p++;
        const char *word = p;
        while (p < end && !is_blank(*p))
            p++;
        if (p > word && same_word(word, (size_t)(p - word), rel)) return true;
    }
    return false;
}

static bool copy_lower(char *to, size_t size, const char *text, size_t len) {
    if (len >= size) return false;
    for (size_t i = 0; i < len; i++)
        to[i] = (char)tolower((unsigned char)text[i]);
    to[len] = '\0';
    return true;
}

int sr_http_media_type(const char *text, size_t len, sr_http_media *ret_media) {
    sr_http_media media = {0};
    const char *end = text + len, *semicolon = memchr(text, ';', len);
    size_t type_len = semicolon ? (size_t)(semicolon - text) : len;
    trim(&text, &type_len);
    const char *slash = memchr(text, '/', type_len);
    if (!slash || !sr_http_is_token(text, (size_t)(slash - text)) ||
        !sr_http_is_token(slash + 1, type_len - (size_t)(slash + 1 - text)) ||
        !copy_lower(media.type, sizeof media.type, text, type_len))
        return -1;
    sr_http_field param;
    while (semicolon && next_param(&semicolon, end, &param))
        if (sr_http_field_is(&param, "charset") && !media.charset[0])
            copy_lower(media.charset, sizeof media.charset, param.value, param.value_len);
    *ret_media = media;
    return 0;
}

bool sr_http_media_is_json(const sr_http_media *media) {
    size_t len = strlen(media->type);
    return strcmp(media->type, "application/json") == 0 ||
           strcmp(media->type, "text/json") == 0 ||
           (len > 5 && strcmp(media->type + len - 5, "+json") == 0);
}
