/* smtp.h – one mail handed to one server, by libcurl on our loop.
 *
 * Life cycle: fill an sr_smtp_mail from sr_smtp_mail_new(), sr_smtp_start() takes it
 * (also on failure), done is called once from the loop, sr_smtp_free() there or later.
 * sr_smtp_free() before done cancels and calls nothing.
 *
 * TLS is verified, always. A mail whose dialogue ends after the server took it over
 * counts as sent. One connection a mail: none is kept, so that a login never serves
 * another one.
 */
#ifndef SMTP_H
#define SMTP_H

#include <curl/curl.h>

#include "net/http_ca.h"
#include "net/smtp_msg.h"
#include "secrun.h"

typedef enum sr_smtp_tls {
    SR_SMTP_STARTTLS_TLS, /* required */
    SR_SMTP_IMPLICIT_TLS,
    SR_SMTP_NO_TLS
} sr_smtp_tls;

typedef struct sr_smtp_mail {
    char *host; /* a name or an address without brackets */
    char *peer; /* "host:port", IPv6 in brackets */
    char *url;  /* smtp[s]://peer/helo */
    char *user; /* NULL: no login */
    sr_buf password;
    char *from; /* envelope */
    char **to;  /* envelope */
    size_t to_count;
    sr_buf message; /* lines end in CRLF */
    sr_smtp_tls tls;
    double timeout, connect_timeout; /* seconds, ≤ 0: none */
    sr_http_ca *ca;                  /* a reference is held; NULL without TLS */
    sr_vm *vm;                       /* whose permissions */
} sr_smtp_mail;

sr_smtp_mail *sr_smtp_mail_new(void); /* NULL without memory */
void sr_smtp_mail_free(sr_smtp_mail *mail);

typedef struct sr_smtp_send sr_smtp_send;

/* 0, or -1: nothing was started and nothing will be called. */
int sr_smtp_start(sr_loop *loop, sr_smtp_mail *mail,
                  void (*done)(void *arg, sr_smtp_send *send), void *arg,
                  sr_smtp_send **ret_send, sr_err *err);
void sr_smtp_free(sr_smtp_send *send);

/* After done: kind SR_NONE when the server took the mail for at least one recipient. */
const sr_err *sr_smtp_error_of(const sr_smtp_send *send);
const sr_smtp_mail *sr_smtp_mail_of(const sr_smtp_send *send);
const sr_smtp_dialogue *sr_smtp_dialogue_of(const sr_smtp_send *send);

#endif
