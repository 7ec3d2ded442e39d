/* smtp_msg_test.c – the dialogue with a mail server, line by line. */
#include "net/smtp_msg.h"
#include "unit.h"

typedef struct talk {
    sr_smtp_dialogue d;
    sr_smtp_reply to[3];
    sr_smtp_envelope envelope;
    sr_buf out;
    bool more;
} talk;

static const char *const three[] = {"a@x.example", "b@x.example", "c@x.example"};

static void begin(talk *t, size_t recipients, const char *message) {
    *t = (talk){0};
    t->d.to = t->to;
    t->d.to_count = recipients;
    t->envelope = (sr_smtp_envelope){"s@y.example", three, message, strlen(message)};
}

/* The server says these lines; we answer when the reply is whole. */
static void hear(talk *t, const char *lines) {
    for (const char *at = lines; *at;) {
        const char *eol = strstr(at, "\r\n");
        size_t len = (size_t)(eol - at) + 2;
        if (sr_smtp_hear(&t->d, at, len)) {
            t->out.len = 0;
            t->more = sr_smtp_next(&t->d, &t->envelope, &t->out);
        }
        at += len;
    }
}

static void login(talk *t) {
    sr_smtp_hear(&t->d, "220 hi\r\n", 8);
    sr_smtp_say(&t->d, "EHLO me\r\n", 9);
    hear(t, "250-x\r\n250 SIZE 1000\r\n");
}

TEST(smtp_a_mail_goes_through_its_commands) {
    talk t;
    begin(&t, 1, "Subject: x\r\n\r\n.dot\r\n..\r\nend\r\n");
    login(&t);
    CHECK_STR(t.out.data, "MAIL FROM:<s@y.example> SIZE=29\r\n");
    hear(&t, "250 2.1.0 ok\r\n");
    CHECK_STR(t.out.data, "RCPT TO:<a@x.example>\r\n");
    hear(&t, "250 ok\r\n");
    CHECK_STR(t.out.data, "DATA\r\n");
    hear(&t, "354 go\r\n");
    CHECK_STR(t.out.data, "Subject: x\r\n\r\n..dot\r\n...\r\nend\r\n.\r\n");
    CHECK(t.more && !t.d.taken);
    hear(&t, "250 2.0.0 queued as 17\r\n");
    CHECK(!t.more && t.d.taken && !sr_smtp_is_refused(&t.d));
    CHECK_STR(t.d.last.enhanced, "2.0.0");
    CHECK_STR(t.d.last.text, "queued as 17");
    sr_buf_free(&t.out);
}

TEST(smtp_each_recipient_has_its_own_reply) {
    talk t;
    begin(&t, 3, "x\r\n");
    login(&t);
    hear(&t, "250 ok\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n250 ok\r\n");
    hear(&t, "451 4.7.1 greylisted\r\n");
    CHECK_STR(t.out.data, "DATA\r\n");
    CHECK_INT(t.to[0].code, 550);
    CHECK_INT(t.to[1].code, 250);
    CHECK(sr_smtp_is_temporary(&t.to[2]) && !sr_smtp_is_temporary(&t.to[0]));
    sr_buf_free(&t.out);
}

TEST(smtp_nobody_accepted_is_the_end) {
    talk t;
    begin(&t, 2, "x\r\n");
    login(&t);
    hear(&t, "250 ok\r\n550 no\r\n550 no\r\n");
    CHECK(!t.more && sr_smtp_is_refused(&t.d) && t.d.stage == SR_SMTP_RCPT);
    sr_buf_free(&t.out);
    begin(&t, 2, "x\r\n");
    login(&t);
    hear(&t, "250 ok\r\n421 closing\r\n");
    CHECK(!t.more && t.d.asked == 1);
    sr_buf_free(&t.out);
}

TEST(smtp_credentials_are_not_taken_for_commands) {
    sr_smtp_dialogue d = {.stage = SR_SMTP_EHLO};
    sr_smtp_say(&d, "AUTH PLAIN\r\n", 12);
    sr_smtp_hear(&d, "334 \r\n", 6);
    sr_smtp_say(&d, "QUIT\r\n", 6); /* base64 of something */
    CHECK(d.stage == SR_SMTP_AUTH);
    sr_smtp_hear(&d, "235 2.7.0 welcome\r\n", 19);
    CHECK(d.authenticated);
}

TEST(smtp_offers_are_those_of_the_last_ehlo) {
    sr_smtp_dialogue d = {0};
    sr_smtp_say(&d, "EHLO me\r\n", 9);
    sr_smtp_hear(&d, "250-STARTTLS\r\n", 14);
    sr_smtp_hear(&d, "250 AUTH=LOGIN PLAIN\r\n", 22);
    CHECK(d.tls_offered && d.auth_offered && !d.size_offered);
    sr_smtp_say(&d, "EHLO me\r\n", 9);
    sr_smtp_hear(&d, "250 AUTHENTIC\r\n", 15);
    CHECK(!d.tls_offered && !d.auth_offered);
}

TEST(smtp_lines_that_are_no_reply_are_passed_over) {
    sr_smtp_dialogue d = {0};
    CHECK(!sr_smtp_hear(&d, "\r\n", 2));
    CHECK(!sr_smtp_hear(&d, "hello\r\n", 7));
    CHECK(!sr_smtp_hear(&d, "", 0));
    CHECK(sr_smtp_hear(&d, "220", 3));
    CHECK_STR(d.last.text, "");
    CHECK(sr_smtp_hear(&d, "220 a\x1b[31m\x01z", 12));
    CHECK_STR(d.last.text, "a?[31m?z");
}

static void refused(sr_err *err, sr_smtp_stage stage, const char *line) {
    sr_smtp_dialogue d = {.stage = stage};
    sr_smtp_hear(&d, line, strlen(line));
    CHECK_INT(sr_smtp_fail(err, "mx:25", stage, &d.last, "a@x.example"), -1);
}

TEST(smtp_refusals_have_kind_code_and_retry) {
    static const struct {
        sr_smtp_stage stage;
        const char *line;
        sr_kind kind;
        bool again;
    } cases[] = {{SR_SMTP_CONNECT, "421 4.3.2 busy", SR_RATE_LIMITED, true},
                 {SR_SMTP_CONNECT, "554 no", SR_PROTOCOL, false},
                 {SR_SMTP_AUTH, "535 5.7.8 no", SR_AUTH, false},
                 {SR_SMTP_AUTH, "454 4.7.0 later", SR_AUTH, true},
                 {SR_SMTP_MAIL, "530 5.7.0 STARTTLS first", SR_AUTH, false},
                 {SR_SMTP_MAIL, "553 no", SR_AUTH, false},
                 {SR_SMTP_RCPT, "550 5.1.1 who", SR_NOT_FOUND, false},
                 {SR_SMTP_RCPT, "554 5.7.1 relay", SR_AUTH, false},
                 {SR_SMTP_RCPT, "450 4.2.0 grey", SR_PROTOCOL, true},
                 {SR_SMTP_MESSAGE, "552 5.3.4 big", SR_LIMIT, false},
                 {SR_SMTP_MESSAGE, "554 5.6.0 spam", SR_PROTOCOL, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sr_err err = {0};
        refused(&err, cases[i].stage, cases[i].line);
        CHECK_INT(err.kind, cases[i].kind);
        CHECK_INT(err.retryable, cases[i].again);
        CHECK(err.status >= 400 && strncmp(err.code, "SMTP_", 5) == 0);
        CHECK(strstr(err.message, "mx:25: ") && strstr(err.message, "<a@x.example>"));
    }
}

TEST(smtp_addresses_that_could_end_a_command_are_refused) {
    static const char *const good[] = {"a@b", "first.last+tag@mail.example.com"};
    static const char *const bad[] = {"",         "a",       "@b",           "a@",
                                      "a@b@c",    "a b@c",   "a@b>",         "<a@b",
                                      "a@b\r\nX", "\"a\"@b", "\xc3\xa4@b.c", "a@b,c@d"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        sr_err err = {0};
        CHECK_INT(sr_smtp_check_address(good[i], strlen(good[i]), &err), 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sr_err err = {0};
        CHECK_INT(sr_smtp_check_address(bad[i], strlen(bad[i]), &err), -1);
        CHECK(err.kind == SR_USAGE);
    }
    sr_err err = {0};
    CHECK_INT(sr_smtp_check_address("a@b\0c", 5, &err), -1);
}
