/* smtp_msg_fuzz.c – any bytes as a mail server's side of the dialogue.
 *
 * Properties: nothing is said before a whole reply, each command is one line, the message
 * is sent only after 354 and ends with a dot alone, and a dialogue that ends has either
 * handed the mail over or has a refusal to show.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/smtp_msg.h"

#define HOLDS(cond)                                                                      \
    do {                                                                                 \
        if (!(cond)) __builtin_trap();                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const to[] = {"a@x.example", "b@x.example"};
static const char message[] = "Subject: x\r\n\r\n.\r\n..a\r\nend\r\n";

/* The whole of out is one command, or the message. */
static void check_said(const sr_smtp_dialogue *d, const sr_buf *out) {
    HOLDS(out->len > 2 && memcmp(out->data + out->len - 2, "\r\n", 2) == 0);
    if (d->stage == SR_SMTP_MESSAGE)
        HOLDS(strcmp(out->data + out->len - 5, "\r\n.\r\n") == 0);
    else
        HOLDS(strchr(out->data, '\n') == out->data + out->len - 1);
}

static void check_end(sr_smtp_dialogue *d) {
    sr_err err = {0};
    if (d->taken) return;
    HOLDS(sr_smtp_fail(&err, "mx:25", d->stage, &d->last, to[0]) == -1);
    HOLDS(err.kind != SR_NONE && *err.message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *at = (const char *)data, *end = at + size;
    sr_smtp_reply replies[2] = {0};
    sr_smtp_dialogue d = {.to = replies, .to_count = 2};
    sr_smtp_envelope envelope = {"s@y.example", to, message, sizeof message - 1};
    sr_buf out = {0};
    bool more = true;
    while (at < end && more) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        size_t len = eol ? (size_t)(eol - at) + 1 : (size_t)(end - at);
        if (sr_smtp_hear(&d, at, len)) {
            out.len = 0;
            more = sr_smtp_next(&d, &envelope, &out);
            HOLDS(d.asked <= d.to_count && strlen(d.last.text) < sizeof d.last.text);
            if (more) check_said(&d, &out);
        }
        at += len;
    }
    if (!more) check_end(&d);
    sr_buf_free(&out);
    sr_err err = {0};
    (void)sr_smtp_check_address((const char *)data, size, &err);
    return 0;
}
