/* scm_text.c – dates, enumerations and comments as SCM writes them; the second half of
 * scm_msg.h.
 *
 * The API has ten date forms and two spellings of most enumerations, by face and by age
 * of the call. What comes in is read in every form; what goes out is in the form that the
 * face documents.
 */
#include "scm/scm_msg.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof *(a))

/* ---------------------------------------------------------------- dates */

/* The forms of dateFormat: order of the parts and what stands between them. */
typedef struct form {
    const char *name;
    char order[4]; /* "ymd" */
    char between;
} form;

static const form forms[] = {
    {"ISO", "ymd", '-'}, {"JP", "ymd", '/'}, {"EU", "dmy", '.'},
    {"US", "mdy", '/'},  {"UK", "dmy", '/'},
};

typedef struct moment {
    int part[3]; /* year, month, day */
    int hour, minute;
    double second;
    int offset; /* seconds east */
} moment;

typedef struct text_reader {
    const char *p, *end;
} text_reader;

static bool take(text_reader *r, char c) {
    if (r->p >= r->end || *r->p != c) return false;
    r->p++;
    return true;
}

/* min to max digits. */
static bool number(text_reader *r, int min, int max, int *ret) {
    int value = 0, n = 0;
    for (; r->p < r->end && n < max && isdigit((unsigned char)*r->p); n++)
        value = value * 10 + (*r->p++ - '0');
    *ret = value;
    return n >= min;
}

static bool read_day(text_reader *r, const form *f, moment *m) {
    for (int i = 0; i < 3; i++) {
        if (i && !take(r, f->between)) return false;
        bool year = f->order[i] == 'y';
        int *to = &m->part[year ? 0 : f->order[i] == 'm' ? 1 : 2];
        if (!number(r, year ? 4 : 1, year ? 4 : 2, to)) return false;
    }
    return true;
}

/* ".916" after the seconds. */
static bool read_fraction(text_reader *r, double *second) {
    if (!take(r, '.')) return true;
    double unit = 0.1;
    const char *from = r->p;
    while (r->p < r->end && isdigit((unsigned char)*r->p)) {
        *second += (*r->p++ - '0') * unit;
        unit /= 10;
    }
    return r->p > from;
}

/* "Z", " GMT", "+02:00", "+0200" or nothing. */
static bool read_offset(text_reader *r, int *ret_offset) {
    int hours = 0, minutes = 0;
    if (take(r, 'Z') || r->p == r->end) return true;
    if (r->end - r->p == 4 && strncmp(r->p, " GMT", 4) == 0) {
        r->p += 4;
        return true;
    }
    bool west = take(r, '-');
    if (!west && !take(r, '+')) return false;
    if (!number(r, 2, 2, &hours)) return false;
    take(r, ':');
    if (!number(r, 2, 2, &minutes) || hours > 18 || minutes > 59) return false;
    *ret_offset = (hours * 60 + minutes) * (west ? -60 : 60);
    return true;
}

static bool read_time(text_reader *r, moment *m) {
    int seconds = 0;
    if (r->p == r->end) return true;
    if (!take(r, 'T') && !take(r, ' ')) return false;
    if (!number(r, 1, 2, &m->hour) || !take(r, ':') || !number(r, 2, 2, &m->minute))
        return false;
    if (take(r, ':') && !number(r, 2, 2, &seconds)) return false;
    m->second = seconds;
    if (m->hour > 23 || m->minute > 59 || seconds > 60) return false;
    return read_fraction(r, &m->second) && read_offset(r, &m->offset);
}

static bool leap(int year) {
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static bool day_exists(const moment *m) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int month = m->part[1], day = m->part[2];
    if (m->part[0] < 1900 || month < 1 || month > 12 || day < 1) return false;
    return day <= days[month - 1] + (month == 2 && leap(m->part[0]));
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar. */
static long days_since_1970(int year, int month, int day) {
    long y = month > 2 ? year : year - 1, m = month > 2 ? month - 3 : month + 9;
    long era = y / 400, of_era = y - era * 400;
    long of_year = (153 * m + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static double seconds_of(const moment *m) {
    long days = days_since_1970(m->part[0], m->part[1], m->part[2]);
    return (double)days * 86400 + m->hour * 3600 + m->minute * 60 + m->second - m->offset;
}

static bool read_date(const char *text, size_t len, const form *f, double *ret) {
    text_reader r = {text, text + len};
    moment m = {0};
    if (!read_day(&r, f, &m) || !read_time(&r, &m) || r.p != r.end || !day_exists(&m))
        return false;
    *ret = seconds_of(&m);
    return true;
}

/* "US_HMS" is the form US; *ret_time says whether it has a time. NULL if unknown. */
static const form *form_of(const char *name, bool *ret_time) {
    size_t len = strcspn(name, "_");
    *ret_time = strcasecmp(name + len, "_HMS") == 0;
    if (name[len] && !*ret_time) return NULL;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        if (strlen(forms[i].name) == len && strncasecmp(forms[i].name, name, len) == 0)
            return &forms[i];
    return NULL;
}

static int no_form(const char *name, sr_err *err) {
    return sr_fail(err, SR_USAGE, "BAD_FORMAT",
                   "date format \"%.20s\"; there are ISO, EU, US, UK and JP, each also "
                   "with _HMS",
                   name);
}

int sr_scm_date(const char *text, size_t len, const char *format, double *ret_seconds,
                sr_err *err) {
    bool time;
    const form *only = format ? form_of(format, &time) : NULL;
    if (format && !only) return no_form(format, err);
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (only ? only != &forms[i] : strcmp(forms[i].name, "UK") == 0) continue;
        if (read_date(text, len, &forms[i], ret_seconds)) return 0;
    }
    return sr_fail(err, SR_PROTOCOL, "BAD_DATE", "\"%.*s\" is no date of SCM's%s",
                   (int)(len < 40 ? len : 40), text,
                   only ? " in this form" : "; 31/12/2025 needs the format UK");
}

int sr_scm_date_text(double seconds, const char *format, sr_buf *out, sr_err *err) {
    bool time;
    const form *f = form_of(format, &time);
    if (!f) return no_form(format, err);
    if (!(seconds >= 0 && seconds < 253402300800.0))
        return sr_fail(err, SR_USAGE, "BAD_DATE",
                       "a date between 1970 and 9999 is needed");
    long days = (long)(seconds / 86400), y = 1970, m = 1;
    y += (long)((double)days / 365.2425);
    while (days_since_1970((int)y, 1, 1) > days)
        y--;
    while (days_since_1970((int)y + 1, 1, 1) <= days)
        y++;
    while (m < 12 && days_since_1970((int)y, (int)m + 1, 1) <= days)
        m++;
    long part[3] = {y, m, days - days_since_1970((int)y, (int)m, 1) + 1};
    for (int i = 0; i < 3; i++) {
        bool year = f->order[i] == 'y';
        if (i) sr_buf_append(out, &f->between, 1);
        sr_buf_printf(out, year ? "%04ld" : "%02ld",
                      part[year                 ? 0
                           : f->order[i] == 'm' ? 1
                                                : 2]);
    }
    if (time) {
        double of_day = seconds - (double)days * 86400;
        long s = (long)of_day, ms = (long)((of_day - (double)s) * 1000);
        bool iso = strcmp(f->name, "ISO") == 0;
        sr_buf_printf(out, "%c%02ld:%02ld:%02ld", iso ? 'T' : ' ', s / 3600, s / 60 % 60,
                      s % 60);
        if (iso) sr_buf_printf(out, ".%03ldZ", ms);
    }
    return out->oom ? sr_fail(err, SR_LIMIT, "ENOMEM", "no memory") : 0;
}

/* ---------------------------------------------------------------- enumerations */

/* Equal but for case, blanks and punctuation: "SA Approved" is "SAApproved". */
static bool same_word(const char *a, const char *b) {
    for (;; a++, b++) {
        while (*a && !isalnum((unsigned char)*a))
            a++;
        while (*b && !isalnum((unsigned char)*b))
            b++;
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) return false;
        if (!*a) return true;
    }
}

typedef struct status_word {
    const char *constant;
    const char *text; /* as displayed or once displayed */
    sr_scm_state state;
} status_word;

static const status_word statuses[] = {
    {"Init", "Init", SR_SCM_OPEN},
    {"Requested", "Requested", SR_SCM_OPEN},
    {"SAApproved", "SA Approved", SR_SCM_OPEN},
    {"Approved", "Approved", SR_SCM_OPEN},
    {"Applied", "Applied", SR_SCM_OPEN},
    {"Issued", "Issued", SR_SCM_ISSUED},
    {"Declined", "Declined", SR_SCM_DEAD},
    {"Rejected", "Rejected", SR_SCM_DEAD},
    {"Invalid", "Invalid", SR_SCM_DEAD},
    {"Revoked", "Revoked", SR_SCM_GONE},
    {"Expired", "Expired", SR_SCM_GONE},
    {"Replaced", "Replaced", SR_SCM_GONE},
    {"Unmanaged", "Unmanaged", SR_SCM_GONE},
    {"Issued", "Downloaded", SR_SCM_ISSUED},
    {"Issued", "Enrolled - Pending Download", SR_SCM_ISSUED},
    {"Requested", "Awaiting Approval", SR_SCM_OPEN},
    {"Init", "Not Enrolled", SR_SCM_OPEN},
};

const char *sr_scm_status(const char *text, sr_scm_state *ret_state) {
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        if (!same_word(statuses[i].text, text)) continue;
        *ret_state = statuses[i].state;
        return statuses[i].constant;
    }
    return NULL;
}

/* Constant and display name of a filter's values. */
typedef struct word {
    const char *field, *constant, *display;
} word;

static const word filter_words[] = {
    {"ssl.status", "Invalid", "Invalid"},
    {"ssl.status", "Requested", "Requested"},
    {"ssl.status", "Approved", "Approved"},
    {"ssl.status", "Declined", "Declined"},
    {"ssl.status", "Applied", "Applied"},
    {"ssl.status", "Issued", "Issued"},
    {"ssl.status", "Revoked", "Revoked"},
    {"ssl.status", "Expired", "Expired"},
    {"ssl.status", "Replaced", "Replaced"},
    {"ssl.status", "Rejected", "Rejected"},
    {"ssl.status", "Unmanaged", "Unmanaged"},
    {"ssl.status", "SAApproved", "SA Approved"},
    {"ssl.status", "Init", "Init"},
    {"ssl.discoveryStatus", "NotDeployed", "Not deployed"},
    {"ssl.discoveryStatus", "Deployed", "Deployed"},
    {"ssl.installStatus", "NONE", "Not configured"},
    {"ssl.installStatus", "NOT_STARTED", "Not started"},
    {"ssl.installStatus", "KEY_PROCESSING", "Key processing"},
    {"ssl.installStatus", "KEY_READY", "Key and CSR ready"},
    {"ssl.installStatus", "CERT_PROCESSING", "Certificate processing"},
    {"ssl.installStatus", "SCHEDULED", "Installation scheduled"},
    {"ssl.installStatus", "INSTALLING", "Installation processing"},
    {"ssl.installStatus", "ACTION_REQUIRED", "Action required"},
    {"ssl.installStatus", "READY_FOR_INSTALL", "Ready for install"},
    {"ssl.installStatus", "NEED_SERVER_RESTART", "Server restart required"},
    {"ssl.installStatus", "COMPLETED", "Completed"},
    {"ssl.installStatus", "INVALID", "Invalid configuration"},
    {"ssl.renewalStatus", "NOT_SCHEDULED", "Not scheduled"},
    {"ssl.renewalStatus", "SCHEDULED", "Scheduled"},
    {"ssl.renewalStatus", "STARTED", "Started"},
    {"ssl.renewalStatus", "SUCCESSFUL", "Successful"},
    {"ssl.renewalStatus", "FAILED", "Failed"},
    {"ssl.requestedVia", "WEB_FORM", "Enrollment Form"},
    {"ssl.requestedVia", "CLIENT_ADMIN", "Client Admin"},
    {"ssl.requestedVia", "API", "Web API"},
    {"ssl.requestedVia", "DISCOVERY", "Discovery"},
    {"ssl.requestedVia", "IMPORTED", "Imported"},
    {"ssl.requestedVia", "SCEP", "SCEP"},
    {"ssl.requestedVia", "CD_AGENT", "CD Agent"},
    {"ssl.requestedVia", "MS_AGENT", "MS Agent"},
    {"ssl.requestedVia", "MS_CA", "MS CA"},
    {"ssl.requestedVia", "BULK_REQUEST", "Bulk Request"},
    {"ssl.requestedVia", "ACME", "ACME"},
    {"ssl.requestedVia", "EST", "EST"},
    {"ssl.requestedVia", "REST", "REST API"},
    {"dcv.dcvStatus", "NOT_VALIDATED", "Not validated"},
    {"dcv.dcvStatus", "VALIDATED", "Validated"},
    {"dcv.dcvStatus", "EXPIRED", "Expired"},
    {"dcv.orderStatus", "NOT_INITIATED", "Not initiated"},
    {"dcv.orderStatus", "AWAITING_SUBMIT", "Awaiting submission"},
    {"dcv.orderStatus", "SUBMITTED", "Submitted"},
    {"dcv.orderStatus", "REJECTED", "Rejected"},
};

int sr_scm_word(const char *field, const char *text, bool display, const char **ret_word,
                sr_err *err) {
    const char *words[ARRAY_LEN(filter_words) * 2 + 1];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(filter_words); i++) {
        const word *w = &filter_words[i];
        if (strcmp(w->field, field) != 0) continue;
        if (same_word(w->constant, text) || same_word(w->display, text)) {
            *ret_word = display ? w->display : w->constant;
            return 0;
        }
        words[n++] = w->constant;
        words[n++] = w->display;
    }
    words[n] = NULL;
    if (n == 0) {
        *ret_word = text;
        return 0;
    }
    const char *close = sr_suggest(text, words);
    return sr_fail(
        err, SR_USAGE, "BAD_ARGUMENT", "%s: \"%.60s\" is none of its values%s%s%s", field,
        text, close ? "; did you mean \"" : "", close ? close : "", close ? "\"?" : "");
}

/* ---------------------------------------------------------------- server types */

typedef struct server_type {
    const char *name;
    int code;
} server_type;

static const server_type server_types[] = {
    {"Other", -1},
    {"AOL", 1},
    {"Apache/ModSSL", 2},
    {"Apache-SSL", 3},
    {"C2Net", 4},
    {"Cobalt Raq", 5},
    {"Covalent", 6},
    {"IBM HTTP", 7},
    {"IBM ICS", 8},
    {"iPlanet", 9},
    {"Java Web Server", 10},
    {"Domino", 11},
    {"Domino Go", 12},
    {"IIS 1-4", 13},
    {"IIS 5+", 14},
    {"Netscape Enterprise", 15},
    {"FastTrack", 16},
    {"Novell", 17},
    {"Oracle", 18},
    {"Quid Pro Quo", 19},
    {"R3", 20},
    {"Raven", 21},
    {"Red Hat", 22},
    {"SAP", 23},
    {"Tomcat", 24},
    {"WebSite Pro", 25},
    {"WebStar", 26},
    {"WebTen", 27},
    {"Zeus", 28},
    {"Ensim", 29},
    {"Plesk", 30},
    {"WHM/cPanel", 31},
    {"H-Sphere", 32},
    {"Cisco 3000", 33},
    {"Citrix", 34},
};

int sr_scm_server_type(const char *name, int *ret_code, sr_err *err) {
    const char *names[ARRAY_LEN(server_types) + 1];
    for (size_t i = 0; i < ARRAY_LEN(server_types); i++) {
        names[i] = server_types[i].name;
        if (!same_word(names[i], name)) continue;
        *ret_code = server_types[i].code;
        return 0;
    }
    names[ARRAY_LEN(server_types)] = NULL;
    const char *close = sr_suggest(name, names);
    return sr_fail(err, SR_USAGE, "BAD_ARGUMENT",
                   "server_type \"%.40s\" is not known%s%s%s; \"Other\" always is", name,
                   close ? "; did you mean \"" : "", close ? close : "",
                   close ? "\"?" : "");
}

/* ---------------------------------------------------------------- comments */

#define MARK "[secrun:"

static bool key_ok(const char *key) {
    size_t len = strlen(key);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)key[i]) && !strchr("._:-", key[i])) return false;
    return len > 0 && len <= SR_SCM_KEY_MAX;
}

/* UTF-16 units of a UTF-8 text: what SCM's side counts. */
static size_t units(const char *text, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        n += (c & 0xc0) != 0x80; /* not in the middle of a character */
        n += c >= 0xf0;
    }
    return n;
}

int sr_scm_comment(const char *comment, size_t len, const char *key, sr_buf *out,
                   sr_err *err) {
    if (!key_ok(key))
        return sr_fail(err, SR_USAGE, "BAD_ARGUMENT",
                       "idempotency_key: 1 to %d letters, digits and . _ : - are needed",
                       SR_SCM_KEY_MAX);
    size_t mine = strlen(MARK) + strlen(key) + 1 + (len > 0), have = units(comment, len);
    if (have + mine > SR_SCM_COMMENT_MAX)
        return sr_fail(err, SR_USAGE, "TOO_LONG",
                       "comments: %zu characters and the idempotency key's %zu exceed "
                       "SCM's %d; shorten the comment by %zu",
                       have, mine, SR_SCM_COMMENT_MAX, have + mine - SR_SCM_COMMENT_MAX);
    sr_buf_append(out, comment, len);
    sr_buf_printf(out, "%s" MARK "%s]", len ? " " : "", key);
    return out->oom ? sr_fail(err, SR_LIMIT, "ENOMEM", "no memory") : 0;
}

bool sr_scm_has_key(const char *comment, size_t len, const char *key) {
    char mark[SR_SCM_KEY_MAX + 16];
    if (!key_ok(key)) return false;
    snprintf(mark, sizeof mark, MARK "%s]", key);
    return memmem(comment, len, mark, strlen(mark)) != NULL;
}
