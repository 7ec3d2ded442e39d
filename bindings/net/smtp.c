/* smtp.c – a mail over a connection of libcurl in the pools of the HTTP client; see
 * smtp.h.
 *
 * libcurl connects, in the way of CURLOPT_CONNECT_ONLY: name, TCP, greeting, EHLO,
 * STARTTLS or implicit TLS, AUTH. The dialogue about the mail is ours (smtp_msg.c), over
 * curl_easy_send() and curl_easy_recv(): libcurl's own waits for the answer to the
 * message inside curl_multi_socket_action(), which would stop the loop for as long as the
 * server likes [seen with 7.88].
 *
 * Traps:
 *   1. The pool watches the connection's descriptor, and libuv watches each one once: we
 *      watch a duplicate.
 *   2. When libcurl closes a connection it may send QUIT and wait for the answer, again
 *      inside curl_multi_*. Its debug function shows us the QUIT; we shut the reading
 * side, so that libcurl reads the end at once.
 *   3. A server that offers no AUTH is used without; somebody who gave a password wants
 * to know.
 *   4. Time-outs are ours: `connect` until the greeting, `total` for all of it.
 *
 * libcurl's debug function sees the credentials too; nothing of them is kept.
 */
#include "net/smtp.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http_client.h"
#include "net/http_pool.h"

enum { MOST_SOCKETS = 8, LONGEST_REPLY = 4096 };

struct sr_smtp_send {
    sr_http_transfer transfer; /* first: the pool gives it back */
    sr_loop *loop;
    sr_smtp_mail *mail;
    void (*done)(void *arg, sr_smtp_send *send);
    void *arg;
    sr_smtp_dialogue dialogue;
    sr_err err;  /* the result */
    sr_err stop; /* why a callback stopped libcurl */
    sr_timer total, connect;
    char text[CURL_ERROR_SIZE];
    sr_http_pool *pool;
    sr_buf out; /* to be said; ours from the login on */
    size_t out_at;
    char line[LONGEST_REPLY];
    size_t line_len;
    uv_poll_t *poll; /* on watched, a duplicate of the connection's descriptor */
    int watched;
    curl_socket_t open[MOST_SOCKETS]; /* of this transfer: several addresses are tried */
    int open_count;
    bool connected, outside, ended;
};

#define OF(timer, member)                                                                \
    ((sr_smtp_send *)(void *)((char *)(timer)-offsetof(sr_smtp_send, member)))

/* ---------------------------------------------------------------- a mail */

sr_smtp_mail *sr_smtp_mail_new(void) {
    sr_smtp_mail *mail = calloc(1, sizeof *mail);
    if (mail) mail->password.secret = true;
    return mail;
}

void sr_smtp_mail_free(sr_smtp_mail *mail) {
    if (!mail) return;
    free(mail->host);
    free(mail->peer);
    free(mail->url);
    free(mail->user);
    free(mail->from);
    for (size_t i = 0; i < mail->to_count; i++)
        free(mail->to[i]);
    free(mail->to);
    sr_buf_free(&mail->password);
    sr_buf_free(&mail->message);
    sr_http_ca_unref(mail->ca);
    free(mail);
}

const sr_err *sr_smtp_error_of(const sr_smtp_send *send) {
    return &send->err;
}

const sr_smtp_mail *sr_smtp_mail_of(const sr_smtp_send *send) {
    return send->mail;
}

const sr_smtp_dialogue *sr_smtp_dialogue_of(const sr_smtp_send *send) {
    return &send->dialogue;
}

/* ---------------------------------------------------------------- the end */

/* Hold the virtual clock while a peer outside this process is to act. */
static void set_outside(sr_smtp_send *send, bool outside) {
    if (outside == send->outside) return;
    send->outside = outside;
    if (outside)
        sr_outside_begin(send->loop);
    else
        sr_outside_end(send->loop);
}

static void poll_closed(uv_handle_t *handle) {
    free(handle);
}

static void detach(sr_smtp_send *send) {
    if (send->poll) uv_close((uv_handle_t *)send->poll, poll_closed);
    if (send->watched >= 0) close(send->watched);
    send->poll = NULL;
    send->watched = -1;
    sr_timer_stop(send->loop, &send->total);
    sr_timer_stop(send->loop, &send->connect);
    sr_http_pool_remove(&send->transfer);
    set_outside(send, false);
    send->ended = true;
}

static void finish(sr_smtp_send *send) {
    detach(send);
    sr_err *err = &send->err;
    if (err->kind != SR_NONE) {
        sr_redact(err->message); /* servers like to echo what they were sent */
        snprintf(err->op, sizeof err->op, "mail to %.80s", send->mail->to[0]);
    }
    send->done(send->arg, send);
}

/* An error of the transport, in the words of the HTTP client. */
static void fail_code(sr_smtp_send *send, CURLcode code, const char *text) {
    sr_http_request as = {.idempotent = true, .url = {.peer = send->mail->peer}};
    as.url.shown = send->mail->peer;
    sr_http_failure failure = {code, text, 0, false, NULL};
    if (send->mail->ca) failure.ca_label = sr_http_ca_label(send->mail->ca);
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        curl_easy_getinfo(send->transfer.easy, CURLINFO_SSL_VERIFYRESULT,
                          &failure.verify);
    sr_http_fail(&send->err, &as, &failure);
}

/* The connection ended or broke while this was expected. */
static void fail_broken(sr_smtp_send *send, CURLcode code, const char *what) {
    char text[120];
    snprintf(text, sizeof text, "%s %s", what, sr_smtp_stage_words(send->dialogue.stage));
    fail_code(send, code, text);
}

static const char ended[] = "it closed the connection instead of";

static void fail_tls(sr_smtp_send *send, const char *what) {
    sr_fail(&send->err, SR_TLS, "CURLE_USE_SSL_FAILED", "%s: %s", send->mail->peer, what);
}

/* None of the recipients was accepted: the first one that may be later, else the first.
 */
static void fail_recipients(sr_smtp_send *send) {
    const sr_smtp_dialogue *d = &send->dialogue;
    size_t worst = 0;
    for (size_t i = d->asked; i-- > 0;)
        if (sr_smtp_is_temporary(&d->to[i])) worst = i;
    sr_smtp_fail(&send->err, send->mail->peer, SR_SMTP_RCPT, &d->to[worst],
                 send->mail->to[worst]);
}

/* What stopped it: we ourselves, a refusal, TLS that is not offered, or the transport. */
static void fail(sr_smtp_send *send, CURLcode code) {
    const sr_smtp_dialogue *d = &send->dialogue;
    const sr_smtp_mail *mail = send->mail;
    if (send->stop.kind != SR_NONE) {
        send->err = send->stop;
    } else if (d->stage == SR_SMTP_RCPT && sr_smtp_is_refused(d)) {
        fail_recipients(send);
    } else if (sr_smtp_is_refused(d)) {
        sr_smtp_fail(&send->err, mail->peer, d->stage, &d->last,
                     d->stage == SR_SMTP_MAIL ? mail->from : NULL);
    } else if (code == CURLE_USE_SSL_FAILED) {
        fail_tls(send, "it does not offer STARTTLS, and mail is not sent in the clear; "
                       "mend the server, or use tls = \"implicit\" (port 465)");
    } else if (code == CURLE_SSL_CONNECT_ERROR && mail->tls == SR_SMTP_IMPLICIT_TLS &&
               strstr(send->text, "wrong version number")) {
        fail_tls(send, "it does not begin with TLS; use tls = \"starttls\" (port 587)");
    } else if (code == CURLE_RECV_ERROR) {
        fail_broken(send, code, ended);
    } else {
        fail_code(send, code, send->text);
    }
}

static void on_abandon(sr_http_transfer *transfer) {
    sr_smtp_send *send = (sr_smtp_send *)transfer;
    fail_code(send, CURLE_ABORTED_BY_CALLBACK, "");
    finish(send);
}

static void time_out(sr_smtp_send *send, const char *option, double limit) {
    char text[200];
    const char *doing =
        send->connected ? sr_smtp_stage_words(send->dialogue.stage) : "the connection";
    snprintf(text, sizeof text, "%s took longer than %s = %gs", doing, option, limit);
    fail_code(send, CURLE_OPERATION_TIMEDOUT, text);
    finish(send);
}

static void on_total(sr_timer *timer) {
    sr_smtp_send *send = OF(timer, total);
    time_out(send, "timeout", send->mail->timeout);
}

static void on_connect_timeout(sr_timer *timer) {
    sr_smtp_send *send = OF(timer, connect);
    time_out(send, "connect_timeout", send->mail->connect_timeout);
}

/* ---------------------------------------------------------------- inside libcurl */

static int on_resolve(void *state, void *reserved, void *arg) {
    (void)state, (void)reserved;
    set_outside(arg, true);
    return 0;
}

/* Ask the permissions about the address that a name led to. */
static int check_socket(sr_smtp_send *send, const struct sockaddr *sa) {
    char address[64] = "", text[80];
    int port = 0;
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
        uv_ip4_name(in, address, sizeof address);
        port = ntohs(in->sin_port);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
        uv_ip6_name(in6, address, sizeof address);
        port = ntohs(in6->sin6_port);
    }
    snprintf(text, sizeof text, strchr(address, ':') ? "[%s]:%d" : "%s:%d", address,
             port);
    return sr_allowed_peer(send->mail->vm, send->mail->peer, text, &send->stop);
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *to) {
    sr_smtp_send *send = arg;
    (void)purpose;
    if (check_socket(send, &to->addr) < 0) return CURL_SOCKET_BAD;
    send->stop = (sr_err){0}; /* another address was refused, this one serves */
    if (send->open_count == MOST_SOCKETS) return CURL_SOCKET_BAD;
    set_outside(send, !sr_own_has(send->loop, &to->addr));
    curl_socket_t fd = sr_http_pool_socket(send->pool, to);
    if (fd != CURL_SOCKET_BAD) send->open[send->open_count++] = fd;
    return fd;
}

static int on_close(void *arg, curl_socket_t fd) {
    sr_smtp_send *send = arg;
    for (int i = 0; i < send->open_count; i++)
        if (send->open[i] == fd) send->open[i] = send->open[--send->open_count];
    return sr_http_pool_close_socket(send->pool, fd);
}

/* A whole reply was read. A login that the server does not offer ends it here. */
static void after_reply(sr_smtp_send *send) {
    const sr_smtp_dialogue *d = &send->dialogue;
    const sr_smtp_mail *mail = send->mail;
    bool open = mail->tls == SR_SMTP_STARTTLS_TLS && !d->encrypted;
    if (d->stage != SR_SMTP_EHLO || d->last.code / 100 != 2) return;
    if (!mail->user || open || d->auth_offered) return;
    sr_fail(
        &send->stop, SR_AUTH, "SMTP_NO_AUTH",
        "%s: it offers no login, and user and password were given; leave them out, or "
        "use the port for submission (587, 465)",
        mail->peer);
}

static size_t on_reply(char *data, size_t size, size_t count, void *arg) {
    sr_smtp_send *send = arg;
    if (!send->connected) sr_timer_stop(send->loop, &send->connect);
    send->connected = true;
    if (sr_smtp_hear(&send->dialogue, data, size * count)) after_reply(send);
    return send->stop.kind == SR_NONE ? size * count : 0;
}

static int on_debug(CURL *easy, curl_infotype type, char *data, size_t size, void *arg) {
    (void)easy;
    sr_smtp_send *send = arg;
    if (type != CURLINFO_HEADER_OUT) return 0;
    sr_smtp_say(&send->dialogue, data, size);
    for (int i = 0; send->dialogue.stage == SR_SMTP_QUIT && i < send->open_count; i++)
        shutdown(send->open[i], SHUT_RD);
    return 0;
}

/* ---------------------------------------------------------------- the mail */

static void broke(sr_smtp_send *send, CURLcode code, const char *what) {
    fail_broken(send, code, what);
    finish(send);
}

/* Say what is left; false when the connection broke, and then all is over. */
static bool write_out(sr_smtp_send *send) {
    while (send->out_at < send->out.len) {
        size_t n = 0;
        CURLcode code = curl_easy_send(send->transfer.easy, send->out.data + send->out_at,
                                       send->out.len - send->out_at, &n);
        send->out_at += n;
        if (code == CURLE_AGAIN) return true;
        if (code == CURLE_OK) continue;
        broke(send, CURLE_SEND_ERROR, "the connection broke before");
        return false;
    }
    return true;
}

/* The dialogue is over: say QUIT, and do not wait for its answer. */
static void end_dialogue(sr_smtp_send *send) {
    static const char quit[] = "QUIT\r\n";
    size_t n;
    if (!send->dialogue.taken) fail(send, CURLE_OK);
    sr_crash_point("reply");
    (void)curl_easy_send(send->transfer.easy, quit, sizeof quit - 1, &n);
    finish(send);
}

/* Find what is to be said next; false when that was the end. */
static bool say_next(sr_smtp_send *send) {
    const sr_smtp_mail *mail = send->mail;
    sr_smtp_envelope envelope = {mail->from, (const char *const *)mail->to,
                                 mail->message.data, mail->message.len};
    send->out.len = send->out_at = 0;
    if (sr_smtp_next(&send->dialogue, &envelope, &send->out)) {
        if (!send->out.oom) return write_out(send);
        sr_fail(&send->stop, SR_LIMIT, "ENOMEM", "no memory for a mail");
    }
    end_dialogue(send);
    return false;
}

/* Take received bytes; false when that was the end. */
static bool take(sr_smtp_send *send, const char *data, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (send->line_len == LONGEST_REPLY) {
            broke(send, CURLE_WEIRD_SERVER_REPLY, "a line without end in");
            return false;
        }
        send->line[send->line_len++] = data[i];
        if (data[i] != '\n') continue;
        bool whole = sr_smtp_hear(&send->dialogue, send->line, send->line_len);
        send->line_len = 0;
        if (whole && !say_next(send)) return false;
    }
    return true;
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* Do what can be done without waiting, then watch. After the end, send may be gone. */
static void talk(sr_smtp_send *send) {
    char data[4096];
    if (!write_out(send)) return;
    for (;;) {
        size_t n = 0;
        CURLcode code = curl_easy_recv(send->transfer.easy, data, sizeof data, &n);
        if (code == CURLE_AGAIN) break;
        if (code != CURLE_OK || n == 0) {
            broke(send, CURLE_RECV_ERROR, ended);
            return;
        }
        if (!take(send, data, n)) return;
    }
    bool more = send->out_at < send->out.len;
    uv_poll_start(send->poll, UV_READABLE | (more ? UV_WRITABLE : 0), on_poll);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    talk(poll->data);
}

/* Watch a duplicate of the connection's descriptor. */
static int watch(sr_smtp_send *send, sr_err *err) {
    curl_socket_t fd = CURL_SOCKET_BAD;
    curl_easy_getinfo(send->transfer.easy, CURLINFO_ACTIVESOCKET, &fd);
    send->watched = fd == CURL_SOCKET_BAD ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    uv_poll_t *poll = send->watched < 0 ? NULL : calloc(1, sizeof *poll);
    if (!poll || uv_poll_init(sr_uv(send->loop), poll, send->watched) < 0) {
        free(poll);
        return sr_fail(err, SR_IO, "SMTP_WATCH", "%s: the connection cannot be watched",
                       send->mail->peer);
    }
    poll->data = send;
    send->poll = poll;
    return 0;
}

/* libcurl has connected and logged in, or failed. */
static void on_done(sr_http_transfer *transfer, CURLcode code) {
    sr_smtp_send *send = (sr_smtp_send *)transfer;
    if (code != CURLE_OK) {
        fail(send, code);
        finish(send);
    } else if (watch(send, &send->err) < 0) {
        finish(send);
    } else if (say_next(send)) {
        talk(send);
    }
}

/* ---------------------------------------------------------------- life */

static void configure(sr_smtp_send *send, CURL *easy) {
    const sr_smtp_mail *mail = send->mail;
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(easy, CURLOPT_URL, mail->url);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(
        easy, CURLOPT_USE_SSL,
        (long)(mail->tls == SR_SMTP_NO_TLS ? CURLUSESSL_NONE : CURLUSESSL_ALL));
    if (mail->user) {
        curl_easy_setopt(easy, CURLOPT_USERNAME, mail->user);
        curl_easy_setopt(easy, CURLOPT_PASSWORD, mail->password.data);
        curl_easy_setopt(easy, CURLOPT_LOGIN_OPTIONS, "AUTH=PLAIN;AUTH=LOGIN");
    }
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_reply);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, send);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, send);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, send);
    curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, on_resolve);
    curl_easy_setopt(easy, CURLOPT_RESOLVER_START_DATA, send);
    curl_easy_setopt(easy, CURLOPT_DEBUGFUNCTION, on_debug);
    curl_easy_setopt(easy, CURLOPT_DEBUGDATA, send);
    curl_easy_setopt(easy, CURLOPT_VERBOSE, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, send->text);
}

static int begin(sr_smtp_send *send, sr_err *err) {
    const sr_smtp_mail *mail = send->mail;
    sr_http_pool_key key = {.ca = mail->ca, .verify = true, .total = 16, .per_host = 4};
    if (sr_allowed(mail->vm, SR_PERM_NET, mail->peer, err) < 0 ||
        sr_http_pool_get(send->loop, &key, &send->pool, err) < 0)
        return -1;
    send->dialogue.to = calloc(mail->to_count, sizeof *send->dialogue.to);
    send->transfer.easy = send->dialogue.to ? sr_http_pool_new_easy(send->pool) : NULL;
    if (!send->transfer.easy)
        return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a mail");
    configure(send, send->transfer.easy);
    return sr_http_pool_add(send->pool, &send->transfer, err);
}

static int64_t from_now(sr_loop *loop, double seconds) {
    return sr_mono(loop) +
           (seconds > 1e9 ? (int64_t)1000000000 * SR_NS : (int64_t)(seconds * 1e9));
}

int sr_smtp_start(sr_loop *loop, sr_smtp_mail *mail,
                  void (*done)(void *arg, sr_smtp_send *send), void *arg,
                  sr_smtp_send **ret_send, sr_err *err) {
    sr_smtp_send *send = calloc(1, sizeof *send);
    if (!send) {
        sr_smtp_mail_free(mail);
        return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a mail");
    }
    *send = (sr_smtp_send){.loop = loop, .mail = mail, .done = done, .arg = arg};
    send->watched = -1;
    send->transfer.done = on_done;
    send->transfer.abandon = on_abandon;
    send->dialogue.to_count = mail->to_count;
    send->dialogue.encrypted = mail->tls == SR_SMTP_IMPLICIT_TLS;
    if (begin(send, err) < 0) {
        sr_smtp_free(send);
        return -1;
    }
    if (mail->timeout > 0)
        sr_timer_start(loop, &send->total, from_now(loop, mail->timeout), on_total);
    if (mail->connect_timeout > 0)
        sr_timer_start(loop, &send->connect, from_now(loop, mail->connect_timeout),
                       on_connect_timeout);
    *ret_send = send;
    return 0;
}

void sr_smtp_free(sr_smtp_send *send) {
    if (!send) return;
    if (!send->ended) detach(send);
    if (send->transfer.easy) curl_easy_cleanup(send->transfer.easy);
    free(send->dialogue.to);
    sr_buf_free(&send->out);
    sr_smtp_mail_free(send->mail);
    free(send);
}
