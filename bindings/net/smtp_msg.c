/* smtp_msg.c – the dialogue with a mail server as a state machine; see smtp_msg.h.
 *
 * The stage follows the commands we send. A reply belongs to the stage; after 354 it is
 * the message's. Between AUTH and its end every line of ours is part of the exchange of
 * credentials: it is neither looked at nor kept.
 */
#include "net/smtp_msg.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const words[] = {
    "the greeting",      "the reply to EHLO",        "the reply to STARTTLS",
    "the reply to AUTH", "the reply to MAIL",        "the reply to RCPT",
    "the reply to DATA", "the reply to the message", "the reply to QUIT"};

const char *sr_smtp_stage_words(sr_smtp_stage stage) {
    return words[stage];
}

/* ---------------------------------------------------------------- what we say */

static bool is_verb(const char *line, size_t len, const char *verb) {
    size_t n = strlen(verb);
    return len >= n && strncasecmp(line, verb, n) == 0 &&
           (len == n || line[n] == ' ' || line[n] == '\r');
}

void sr_smtp_say(sr_smtp_dialogue *d, const char *line, size_t len) {
    static const struct {
        const char *verb;
        sr_smtp_stage stage;
    } verbs[] = {{"EHLO", SR_SMTP_EHLO},         {"HELO", SR_SMTP_EHLO},
                 {"STARTTLS", SR_SMTP_STARTTLS}, {"AUTH", SR_SMTP_AUTH},
                 {"MAIL", SR_SMTP_MAIL},         {"RCPT", SR_SMTP_RCPT},
                 {"DATA", SR_SMTP_DATA},         {"QUIT", SR_SMTP_QUIT}};
    if (d->stage == SR_SMTP_AUTH && d->last.code == 334) return;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (!is_verb(line, len, verbs[i].verb)) continue;
        d->stage = verbs[i].stage;
        if (d->stage == SR_SMTP_EHLO)
            d->tls_offered = d->auth_offered = d->size_offered = false;
        if (d->stage == SR_SMTP_RCPT) d->asked++;
        return;
    }
}

/* ---------------------------------------------------------------- what we hear */

/* The length of "5.1.1" and the blank behind it at the start of text, or 0. */
static size_t enhanced_length(const char *text, size_t len) {
    size_t n = 0;
    int dots = 0;
    if (!len || !strchr("245", *text)) return 0;
    while (n < len && (isdigit((unsigned char)text[n]) || text[n] == '.'))
        dots += text[n++] == '.';
    return dots == 2 && n < 12 && (n == len || text[n] == ' ') ? n : 0;
}

static void read_text(sr_smtp_reply *reply, const char *text, size_t len) {
    size_t skip = enhanced_length(text, len), n = 0;
    snprintf(reply->enhanced, sizeof reply->enhanced, "%.*s", (int)skip, text);
    if (skip < len && text[skip] == ' ') skip++;
    for (size_t i = skip; i < len && n + 1 < sizeof reply->text; i++) {
        unsigned char c = (unsigned char)text[i];
        reply->text[n++] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
    }
    while (n && ((unsigned char)reply->text[n - 1] >= 0x80 || reply->text[n - 1] == ' '))
        n--; /* also a character cut in the middle */
    reply->text[n] = '\0';
}

static bool has_word(const char *text, size_t len, const char *word) {
    return is_verb(text, len, word) ||
           (len > strlen(word) && strncasecmp(text, word, strlen(word)) == 0 &&
            text[strlen(word)] == '=');
}

static void end_reply(sr_smtp_dialogue *d) {
    bool good = d->last.code >= 200 && d->last.code < 300;
    if (d->stage == SR_SMTP_STARTTLS && good) d->encrypted = true;
    if (d->stage == SR_SMTP_AUTH && good) d->authenticated = true;
    if (d->stage == SR_SMTP_RCPT && d->asked && d->asked <= d->to_count)
        d->to[d->asked - 1] = d->last;
    if (d->stage == SR_SMTP_MESSAGE && good) d->taken = true;
    if (d->stage == SR_SMTP_DATA && d->last.code == 354) d->stage = SR_SMTP_MESSAGE;
}

bool sr_smtp_hear(sr_smtp_dialogue *d, const char *line, size_t len) {
    while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    if (len < 3 || !isdigit((unsigned char)line[0]) || !isdigit((unsigned char)line[1]) ||
        !isdigit((unsigned char)line[2]))
        return false;
    size_t skip = len > 3 ? 4 : 3;
    const char *text = line + skip;
    size_t left = len - skip;
    if (d->stage == SR_SMTP_EHLO) {
        d->tls_offered |= has_word(text, left, "STARTTLS");
        d->auth_offered |= has_word(text, left, "AUTH");
        d->size_offered |= has_word(text, left, "SIZE");
    }
    if (len > 3 && line[3] == '-') return false;
    if (d->stage == SR_SMTP_QUIT) return true; /* too late to matter */
    d->last.code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
    read_text(&d->last, text, left);
    end_reply(d);
    return true;
}

/* ---------------------------------------------------------------- what is next */

/* The message, with a dot doubled at the start of a line, and the dot that ends it
 * (RFC 5321 4.5.2). */
static void put_message(const sr_smtp_envelope *envelope, sr_buf *out) {
    const char *at = envelope->message, *end = at + envelope->len;
    while (at < end) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        const char *next = eol ? eol + 1 : end;
        if (*at == '.') sr_buf_puts(out, ".");
        sr_buf_append(out, at, (size_t)(next - at));
        at = next;
    }
    sr_buf_puts(out, ".\r\n");
}

static bool any_accepted(const sr_smtp_dialogue *d) {
    for (size_t i = 0; i < d->to_count; i++)
        if (d->to[i].code / 100 == 2) return true;
    return false;
}

static bool say(sr_smtp_dialogue *d, sr_buf *out, size_t from) {
    sr_smtp_say(d, out->data + from, out->len - from);
    return true;
}

bool sr_smtp_next(sr_smtp_dialogue *d, const sr_smtp_envelope *envelope, sr_buf *out) {
    size_t start = out->len;
    bool good = d->last.code / 100 == 2;
    if (d->stage < SR_SMTP_MAIL) {
        sr_buf_printf(out, "MAIL FROM:<%s>", envelope->from);
        if (d->size_offered) sr_buf_printf(out, " SIZE=%zu", envelope->len);
        sr_buf_puts(out, "\r\n");
    } else if ((d->stage == SR_SMTP_MAIL && good) ||
               (d->stage == SR_SMTP_RCPT && d->asked < d->to_count &&
                d->last.code != 421)) {
        sr_buf_printf(out, "RCPT TO:<%s>\r\n", envelope->to[d->asked]);
    } else if (d->stage == SR_SMTP_RCPT && d->asked == d->to_count && any_accepted(d)) {
        sr_buf_puts(out, "DATA\r\n");
    } else if (d->stage == SR_SMTP_MESSAGE && d->last.code == 354) {
        put_message(envelope, out);
        return true;
    } else {
        return false;
    }
    return say(d, out, start);
}

/* ---------------------------------------------------------------- refusals */

bool sr_smtp_is_temporary(const sr_smtp_reply *reply) {
    return reply->code >= 400 && reply->code < 500;
}

bool sr_smtp_is_refused(const sr_smtp_dialogue *d) {
    return d->last.code >= 400 || (d->stage == SR_SMTP_MESSAGE && !d->taken &&
                                   d->last.code != 354 && d->last.code >= 300);
}

struct refusal {
    sr_kind kind;
    const char *mend;
};

static bool enhanced_is(const sr_smtp_reply *r, const char *detail) {
    return r->enhanced[0] && strncmp(r->enhanced + 1, detail, strlen(detail)) == 0;
}

/* Kind and mend, by the most telling of the enhanced code, the code and the stage. */
static struct refusal classify(sr_smtp_stage stage, const sr_smtp_reply *r) {
    if (r->code == 530 && strcmp(r->enhanced, "5.7.0") == 0 && stage < SR_SMTP_AUTH)
        return (struct refusal){SR_AUTH, "it wants TLS or a login first"};
    if (stage == SR_SMTP_AUTH || r->code == 535 || r->code == 538 || r->code == 530)
        return (struct refusal){SR_AUTH, "check user and password, and that this server "
                                         "lets them send"};
    if (r->code == 552 || enhanced_is(r, ".3.4"))
        return (struct refusal){SR_LIMIT, "the message is too big for it"};
    if (sr_smtp_is_temporary(r))
        return (struct refusal){r->code == 421 || enhanced_is(r, ".7.") ? SR_RATE_LIMITED
                                                                        : SR_PROTOCOL,
                                "it asks to try again later"};
    if (stage == SR_SMTP_RCPT && (enhanced_is(r, ".7.") || r->code == 554))
        return (struct refusal){SR_AUTH, "it takes no mail for that address from us: "
                                         "check the login and what it may relay"};
    if (stage == SR_SMTP_RCPT) return (struct refusal){SR_NOT_FOUND, "check the address"};
    if (stage == SR_SMTP_MAIL)
        return (struct refusal){SR_AUTH, "it does not let us send from that address"};
    return (struct refusal){SR_PROTOCOL, "its log may tell why"};
}

int sr_smtp_fail(sr_err *err, const char *peer, sr_smtp_stage stage,
                 const sr_smtp_reply *reply, const char *recipient) {
    struct refusal why = classify(stage, reply);
    char code[16];
    snprintf(code, sizeof code, "SMTP_%d", reply->code);
    const char *what =
        words[stage] + (strncmp(words[stage], "the reply to ", 13) ? 0 : 13);
    sr_fail(err, why.kind, code, "%s: %s%s%.120s%s is refused: %d%s%s %.160s; %s", peer,
            what, recipient ? " <" : "", recipient ? recipient : "", recipient ? ">" : "",
            reply->code, *reply->enhanced ? " " : "", reply->enhanced, reply->text,
            why.mend);
    err->status = reply->code;
    err->retryable = sr_smtp_is_temporary(reply);
    return -1;
}

/* ---------------------------------------------------------------- addresses */

int sr_smtp_check_address(const char *address, size_t len, sr_err *err) {
    const char *at = memchr(address, '@', len);
    const char *why = NULL;
    if (!len || len > 254)
        why = "has 3 to 254 characters";
    else if (!at || at == address || at == address + len - 1 ||
             memchr(at + 1, '@', (size_t)(address + len - at - 1)))
        why = "is like someone@example.com";
    for (size_t i = 0; i < len && !why; i++) {
        unsigned char c = (unsigned char)address[i];
        if (c >= 0x80) why = "is ASCII; write the domain as xn--…";
        if (c <= 0x20 || c == 0x7f || strchr("<>()[]\\,;:\"", c))
            why = "has no blanks, brackets, quotes or control characters";
    }
    if (!why) return 0;
    return sr_fail(err, SR_USAGE, "BAD_ADDRESS",
                   "the mail address \"%.*s\" cannot be "
                   "used: an address %s",
                   (int)(len > 100 ? 100 : len), address, why);
}
