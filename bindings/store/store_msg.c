/* store_msg.c – the scanner of SQL text and other pure parts of the store. */
#include "store/store_msg.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* ---------------------------------------------------------------- the scanner
 *
 * A cursor runs over the tokens. Only quoting, comments, words and parameters matter;
 * every other byte is passed on to the database, which knows the grammar. */

typedef struct cursor {
    const char *text;
    size_t len, at;
    sr_sql *sql;
    sr_err *err;
} cursor;

static unsigned line_of(const cursor *c, size_t at) {
    unsigned line = 1;
    for (size_t i = 0; i < at; i++)
        line += c->text[i] == '\n';
    return line;
}

static int refuse(const cursor *c, size_t at, const char *what, const char *mend) {
    return sr_fail(c->err, SR_USAGE, "SQL", "line %u of the SQL: %s; %s", line_of(c, at),
                   what, mend);
}

static bool starts_word(char ch) {
    return isalpha((unsigned char)ch) || ch == '_' || (unsigned char)ch >= 0x80;
}

static bool in_word(char ch) {
    return starts_word(ch) || isdigit((unsigned char)ch);
}

static char peek(const cursor *c, size_t ahead) {
    if (c->at + ahead >= c->len) return '\0';
    return c->text[c->at + ahead];
}

/* 'it''s', "name": a doubled quote is two pieces beside each other. */
static int quoted(cursor *c) {
    size_t from = c->at;
    char quote = c->text[c->at];
    const char *close = memchr(c->text + c->at + 1, quote, c->len - c->at - 1);
    if (!close)
        return refuse(c, from, quote == '\'' ? "a string" : "a quoted name",
                      "its closing quote is missing");
    c->at = (size_t)(close - c->text) + 1;
    return 0;
}

static void line_comment(cursor *c) {
    const char *end = memchr(c->text + c->at, '\n', c->len - c->at);
    c->at = end ? (size_t)(end - c->text) + 1 : c->len;
}

static int block_comment(cursor *c) {
    size_t from = c->at;
    for (c->at += 2; c->at + 1 < c->len; c->at++) {
        if (peek(c, 0) == '*' && peek(c, 1) == '/') {
            c->at += 2;
            return 0;
        }
        if (peek(c, 0) == '/' && peek(c, 1) == '*')
            return refuse(c, c->at, "a comment in a comment",
                          "the two engines do not agree where it ends");
    }
    return refuse(c, from, "a comment", "its closing */ is missing");
}

static bool same_word(const char *word, size_t len, const char *const *list) {
    for (; *list; list++)
        if (strlen(*list) == len && strncasecmp(*list, word, len) == 0) return true;
    return false;
}

static bool calls(const cursor *c) {
    size_t i = 0;
    while (isspace((unsigned char)peek(c, i)))
        i++;
    return peek(c, i) == '(';
}

/* A word, or a number with what hangs on it; both engines take $ within a name. */
static int word(cursor *c) {
    static const char *const instants[] = {"current_timestamp", "current_date",
                                           "current_time",      "localtimestamp",
                                           "localtime",         NULL};
    static const char *const clocks[] = {"now",
                                         "clock_timestamp",
                                         "statement_timestamp",
                                         "datetime",
                                         "transaction_timestamp",
                                         "julianday",
                                         "unixepoch",
                                         "strftime",
                                         NULL};
    size_t from = c->at, len;
    while (c->at < c->len && (in_word(c->text[c->at]) || c->text[c->at] == '$'))
        c->at++;
    len = c->at - from;
    if (same_word(c->text + from, len, instants) ||
        (same_word(c->text + from, len, clocks) && calls(c)))
        return refuse(c, from, "it asks the database for the time",
                      "pass the instant as a parameter, store.ms(time.now())");
    if (!c->sql->word.len && starts_word(c->text[from]))
        c->sql->word = (sr_sql_part){(uint32_t)from, (uint32_t)len};
    return 0;
}

static int note_name(cursor *c, size_t from, size_t len) {
    sr_sql *sql = c->sql;
    for (uint32_t i = 0; i < sql->count; i++)
        if (sql->names[i].len == len &&
            memcmp(c->text + sql->names[i].at, c->text + from, len) == 0)
            return 0;
    if (sql->count == SR_SQL_NAMES)
        return refuse(c, from, "more than 200 parameters", "split the statement");
    sql->names[sql->count++] = (sr_sql_part){(uint32_t)from, (uint32_t)len};
    return 0;
}

static int parameter(cursor *c) {
    size_t from = c->at++;
    if (isdigit((unsigned char)peek(c, 0)))
        return refuse(c, from, "a numbered parameter", "name it, $id");
    while (c->at < c->len && in_word(c->text[c->at]) &&
           (unsigned char)c->text[c->at] < 0x80)
        c->at++;
    if (c->at == from + 1 || peek(c, 0) == '$')
        return refuse(c, from, "a $ that begins no parameter", "write $name");
    return note_name(c, from + 1, c->at - from - 1);
}

static int other(cursor *c) {
    switch (c->text[c->at]) {
    case '?':
    case '@': return refuse(c, c->at, "a parameter without a name", "write $name");
    case ':':
        return refuse(c, c->at, "a colon",
                      "write a parameter as $name, a cast as CAST(x AS TEXT)");
    case '`':
    case '[': return refuse(c, c->at, "a quoted name", "write \"name\"");
    case '\0': return refuse(c, c->at, "a NUL byte", "SQL is text");
    default: c->at++; return 0;
    }
}

/* One token; blanks and comments set *ret_blank. */
static int token(cursor *c, bool *ret_blank) {
    char ch = c->text[c->at];
    *ret_blank = true;
    if (isspace((unsigned char)ch)) {
        c->at++;
        return 0;
    }
    if (ch == '-' && peek(c, 1) == '-') {
        line_comment(c);
        return 0;
    }
    if (ch == '/' && peek(c, 1) == '*') return block_comment(c);
    *ret_blank = false;
    if (ch == '\'' || ch == '"') return quoted(c);
    if (ch == '$') return parameter(c);
    if (in_word(ch)) return word(c);
    return other(c);
}

int sr_sql_scan(const char *text, size_t len, size_t at, sr_sql *ret, sr_err *err) {
    cursor c = {text, len, at, ret, err};
    bool begun = false;
    if (len > SR_SQL_MAX)
        return sr_fail(err, SR_USAGE, "SQL", "an SQL text of %zu bytes; at most %d", len,
                       SR_SQL_MAX);
    ret->count = 0;
    ret->word = (sr_sql_part){0};
    ret->start = ret->end = at;
    while (c.at < len && text[c.at] != ';') {
        size_t from = c.at;
        bool blank;
        if (token(&c, &blank) != 0) return -1;
        if (blank) continue;
        if (!begun) ret->start = from;
        begun = true;
        ret->end = c.at;
    }
    if (!begun) ret->start = ret->end = c.at;
    ret->next = c.at < len ? c.at + 1 : len;
    return 0;
}

/* What the store does itself, and what would leave its one file. */
static int refuse_control(const char *text, const sr_sql *sql, sr_err *err) {
    static const char *const control[] = {"begin",    "commit",    "end",     "rollback",
                                          "abort",    "savepoint", "release", "start",
                                          "prepare",  "set",       "copy",    "listen",
                                          "unlisten", "notify",    NULL};
    static const char *const upkeep[] = {"attach", "detach",  "vacuum",
                                         "pragma", "analyze", NULL};
    const char *first = text + sql->word.at;
    if (same_word(first, sql->word.len, control))
        return sr_fail(err, SR_USAGE, "SQL",
                       "%.*s in an SQL text: a transaction is db:batch or db:transaction",
                       (int)sql->word.len, first);
    if (same_word(first, sql->word.len, upkeep))
        return sr_fail(
            err, SR_USAGE, "SQL",
            "%.*s is not for SQL texts: the store sets its databases up itself",
            (int)sql->word.len, first);
    return 0;
}

int sr_sql_single(const char *text, size_t len, sr_sql *ret, sr_err *err) {
    sr_sql rest = {0};
    if (sr_sql_scan(text, len, 0, ret, err) != 0) return -1;
    if (ret->start == ret->end) return sr_fail(err, SR_USAGE, "SQL", "the SQL is empty");
    if (refuse_control(text, ret, err) != 0) return -1;
    for (size_t at = ret->next; at < len; at = rest.next) {
        if (sr_sql_scan(text, len, at, &rest, err) != 0) return -1;
        if (rest.start != rest.end)
            return sr_fail(err, SR_USAGE, "SQL",
                           "more than one statement in an SQL text: give each its own "
                           "place in db:batch{…}");
    }
    return 0;
}

int sr_sql_numbered(const char *text, const sr_sql *sql, sr_buf *out, sr_err *err) {
    sr_sql names = {0};
    cursor c = {text, sql->end, sql->start, &names, err};
    while (c.at < sql->end) {
        size_t from = c.at;
        bool blank;
        if (token(&c, &blank) != 0) return -1;
        if (text[from] != '$') {
            sr_buf_append(out, text + from, c.at - from);
            continue;
        }
        uint32_t i = 0;
        while (i < sql->count &&
               (sql->names[i].len != c.at - from - 1 ||
                memcmp(text + sql->names[i].at, text + from + 1, sql->names[i].len) != 0))
            i++;
        sr_buf_printf(out, "$%u", (unsigned)i + 1);
    }
    return out->oom ? sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for an SQL text") : 0;
}

/* ---------------------------------------------------------------- text */

/* The length of the UTF-8 sequence at p (RFC 3629: shortest form, no surrogates), 0 when
 * there is none. */
static size_t sequence(const unsigned char *p, size_t left) {
    size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : (*p & 0xf0) == 0xe0 ? 3 : 4;
    if (n == 1) return *p ? 1 : 0;
    if (left < n || *p < 0xc2 || *p > 0xf4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f)) return 0;
    if ((*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f)) return 0;
    return n;
}

bool sr_store_is_text(const char *data, size_t len) {
    const unsigned char *p = (const unsigned char *)data;
    for (size_t at = 0, n; at < len; at += n)
        if (!(n = sequence(p + at, len - at))) return false;
    return true;
}

/* ---------------------------------------------------------------- file systems */

const char *sr_store_network_fs(long type) {
    static const struct {
        uint32_t type;
        const char *name;
    } list[] = {{0x6969, "NFS"},        {0x517b, "SMB"},        {0xff534d42, "CIFS"},
                {0xfe534d42, "SMB"},    {0x01021997, "9P"},     {0x5346414f, "AFS"},
                {0x6b414653, "AFS"},    {0x73757245, "Coda"},   {0x564c, "NCP"},
                {0x00c36400, "Ceph"},   {0x0bd00bd0, "Lustre"}, {0x47504653, "GPFS"},
                {0x19830326, "BeeGFS"}, {0xaad7aaea, "PanFS"},  {0x7461636f, "OCFS2"},
                {0x01161970, "GFS2"},   {0x786f4256, "vboxsf"}, {0xbacbacbc, "vmhgfs"}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].type == (uint32_t)type) return list[i].name;
    return NULL;
}
