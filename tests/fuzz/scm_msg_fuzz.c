/* scm_msg_fuzz.c – answers, dates, comments and names of SCM: whatever comes in, no
 * crash, texts stay terminated and in bounds, and what is accepted means something.
 *
 * The first byte chooses what the rest is. */
#include "scm/scm_msg.h"
#include "scm/scm_ops.h"

#include <stdlib.h>
#include <string.h>

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

static void fuzz_answer(const char *text, size_t len, int status) {
    sr_err err = {0};
    sr_scm_reason reason;
    sr_scm_answer answer = {.op = "ssl.collect",
                            .host = "h",
                            .status = status,
                            .body = text,
                            .len = len,
                            .www_authenticate = "Bearer"};
    sr_scm_explain(&answer, &reason, &err);
    MUST(err.kind != SR_NONE && *err.message);
    MUST(strlen(reason.description) < sizeof reason.description);
    for (const char *p = reason.description; *p; p++)
        MUST((unsigned char)*p >= 0x20);
}

static void fuzz_tree(const char *text, size_t len) {
    cJSON *doc = cJSON_ParseWithLength(text, len);
    if (doc) sr_scm_prune(doc);
    cJSON_Delete(doc);
}

static void fuzz_date(const char *text, size_t len) {
    sr_err err;
    double seconds, again;
    sr_buf out = {0};
    if (sr_scm_date(text, len, NULL, &seconds, &err) != 0) return;
    MUST(seconds > -2300000000.0 && seconds < 253402400000.0 * 2);
    if (sr_scm_date_text(seconds, "ISO_HMS", &out, &err) == 0) {
        MUST(sr_scm_date(out.data, out.len, NULL, &again, &err) == 0);
        MUST(again - seconds < 0.001 && seconds - again < 1.001);
    }
    sr_buf_free(&out);
}

static void fuzz_words(const char *text, size_t len) {
    sr_err err;
    sr_scm_state state;
    sr_buf out = {0};
    char url[64];
    const char *word;
    const sr_scm_op *op;
    int number;
    sr_scm_status(text, &state);
    sr_scm_word("ssl.status", text, true, &word, &err);
    sr_scm_server_type(text, &number, &err);
    sr_scm_token_url(text, url, sizeof url);
    sr_scm_check_url(text, &err);
    sr_scm_check_token_url(text, &err);
    sr_scm_find(text, SR_SCM_CLASSIC, 0, &op, &number, &err);
    if (sr_scm_comment(text, len, "key-1", &out, &err) == 0)
        MUST(sr_scm_has_key(out.data, out.len, "key-1"));
    sr_buf_free(&out);
}

static void fuzz_path(const char *text) {
    sr_err err;
    sr_buf out = {0};
    const sr_scm_op *op = NULL;
    int version = 0;
    const char *values[] = {text, text};
    MUST(sr_scm_find("ssl.get_location", SR_SCM_ADMIN, 0, &op, &version, &err) == 0);
    if (sr_scm_path(op, version, values, &out, &err) == 0) {
        MUST(!strstr(out.data, "/../") && !strpbrk(out.data, " ?#\r\n"));
        int slashes = 0;
        for (const char *p = out.data; *p; p++)
            slashes += *p == '/';
        MUST(slashes == 6);
    }
    sr_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    char *text = malloc(size); /* the exact size, so that a byte too far is seen */
    if (!text) return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] % 6) {
    case 0: fuzz_answer(text, size - 1, 400); break;
    case 1: fuzz_answer(text, size - 1, 400 + data[0]); break;
    case 2: fuzz_tree(text, size - 1); break;
    case 3: fuzz_date(text, size - 1); break;
    case 4: fuzz_words(text, strlen(text)); break;
    default: fuzz_path(text);
    }
    free(text);
    return 0;
}
