/* smtp_msg.h – what is said between us and a mail server, and what it means. Pure.
 *
 * libcurl connects: greeting, EHLO, STARTTLS, AUTH (RFC 5321, 3207, 4954). It shows us
 * every line, and we keep what its result code cannot say. Then the dialogue about the
 * mail is ours: sr_smtp_next() gives the command that follows a reply. At its end it is
 * known which command was refused, with which words, for which recipient, and whether the
 * message was taken over.
 */
#ifndef SMTP_MSG_H
#define SMTP_MSG_H

#include "base.h"

/* The command that waits for its reply; order is fixed, smtp_msg.c holds their words. */
typedef enum sr_smtp_stage {
    SR_SMTP_CONNECT, /* the greeting */
    SR_SMTP_EHLO,
    SR_SMTP_STARTTLS,
    SR_SMTP_AUTH,
    SR_SMTP_MAIL,
    SR_SMTP_RCPT,
    SR_SMTP_DATA,
    SR_SMTP_MESSAGE, /* the text is on its way, or out */
    SR_SMTP_QUIT
} sr_smtp_stage;

typedef struct sr_smtp_reply {
    int code;          /* 250; 0: none came */
    char enhanced[12]; /* "5.1.1" (RFC 3463) or "" */
    char text[200];    /* its last line, without codes and control characters */
} sr_smtp_reply;

typedef struct sr_smtp_dialogue {
    sr_smtp_stage stage;
    sr_smtp_reply last;     /* the last whole reply */
    sr_smtp_reply *to;      /* one for each recipient, in their order; the caller's */
    size_t to_count, asked; /* recipients whose RCPT went out */
    bool tls_offered, auth_offered, size_offered; /* by the last EHLO */
    bool encrypted;                               /* since STARTTLS, or from the start */
    bool authenticated;
    bool taken; /* the server is responsible for the message now */
} sr_smtp_dialogue;

/* One line of a reply, with or without its line end. True when it ends the reply. */
bool sr_smtp_hear(sr_smtp_dialogue *d, const char *line, size_t len);
/* One line that we sent. */
void sr_smtp_say(sr_smtp_dialogue *d, const char *line, size_t len);

/* What the dialogue is about. */
typedef struct sr_smtp_envelope {
    const char *from;
    const char *const *to; /* the dialogue's to_count of them */
    const char *message;   /* lines end in CRLF, the last one too */
    size_t len;
} sr_smtp_envelope;

/* After the login, and then after each whole reply: append what is to be said next to out
 * and note it. False when there is nothing more: the mail is taken, or was refused. */
bool sr_smtp_next(sr_smtp_dialogue *d, const sr_smtp_envelope *envelope, sr_buf *out);

/* "the reply to RCPT": for messages. */
const char *sr_smtp_stage_words(sr_smtp_stage stage);
/* Whether a reply says: not today (4xx). */
bool sr_smtp_is_temporary(const sr_smtp_reply *reply);
/* Fill err from the reply that stopped the dialogue: kind, code "SMTP_550", status,
 * retryable for 4xx, and the mend. peer is "host:port"; recipient may be NULL. -1. */
int sr_smtp_fail(sr_err *err, const char *peer, sr_smtp_stage stage,
                 const sr_smtp_reply *reply, const char *recipient);
/* Whether the reply at hand stopped the dialogue. */
bool sr_smtp_is_refused(const sr_smtp_dialogue *d);
/* 0 when this may stand between < and > of MAIL and RCPT: ASCII, one '@', nothing that
 * ends the line or the path. Else -1, and err says what is wrong. */
int sr_smtp_check_address(const char *address, size_t len, sr_err *err);

#endif
