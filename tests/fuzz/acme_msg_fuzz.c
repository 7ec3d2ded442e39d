/* acme_msg_fuzz.c – documents, problems, names and times from a hostile CA.
 *
 * The first byte chooses the document, the rest is its text. Beyond not crashing, what
 * was accepted must keep its promises: tokens are base64url, URLs are safe, times parse.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "acme/acme_msg.h"

#define DIRECTORY "https://ca.example/dir"
#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

static void check_token(const cJSON *doc) {
    const char *token =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, "token"));
    MUST(!token || sr_acme_token_ok(token, strlen(token)));
}

static void check_url(const cJSON *doc, const char *key) {
    sr_err err = {0};
    const char *url = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, key));
    MUST(!url || sr_acme_check_url(url, DIRECTORY, &err) == 0);
}

static void check_document(const sr_acme_shape *shape, const char *text, size_t len) {
    cJSON *doc = NULL;
    sr_err err = {0};
    if (sr_acme_parse(shape, text, len, DIRECTORY, DIRECTORY, &doc, &err) != 0) {
        MUST(err.kind != SR_NONE && err.message[0]);
        return;
    }
    if (shape == &sr_acme_challenge) check_token(doc);
    for (const sr_acme_field *f = shape->fields; f->json; f++)
        if (f->type == SR_ACME_URL && !f->list) check_url(doc, f->json);
    cJSON_Delete(doc);
}

static void check_answer(const char *text, size_t len) {
    sr_acme_answer answer = {.what = "newOrder", .status = 400, .body = text, .len = len};
    cJSON *problem = NULL;
    sr_err err = {0};
    MUST(sr_acme_explain(&answer, &problem, &err) == -1);
    MUST(err.kind != SR_NONE && err.message[0]);
    for (const char *p = err.message; *p; p++)
        MUST((unsigned char)*p >= 0x20 && *p != 0x7f);
    cJSON_Delete(problem);
}

/* Canonical names stay what they are when taken once more. */
static void check_name(const char *text, size_t len) {
    sr_acme_names once = {0}, twice = {0};
    sr_err err = {0};
    if (sr_acme_names_add(&once, text, len, &err) == 0) {
        MUST(sr_acme_names_add(&twice, once.list[0], strlen(once.list[0]), &err) == 0);
        MUST(sr_acme_names_equal(&once, &twice));
    }
    sr_acme_names_free(&once);
    sr_acme_names_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const kinds[] = {"directory", "account", "order", "authorization",
                                        "challenge", "problem", "orders"};
    int64_t seconds;
    sr_err err = {0};
    if (size < 1) return 0;
    size_t len = size - 1;
    char *text = malloc(len + 1);
    MUST(text != NULL);
    memcpy(text, data + 1, len);
    text[len] = 0;
    check_document(sr_acme_shape_of(kinds[data[0] % 7]), text, len);
    check_answer(text, len);
    check_name(text, len);
    (void)sr_acme_parse_time(text, &seconds);
    (void)sr_acme_check_url(text, DIRECTORY, &err);
    free(text);
    return 0;
}
