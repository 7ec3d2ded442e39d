/* jose_fuzz.c – tokens, nonces, MAC keys and payloads from outside become signed
 * requests.
 *
 * Whatever goes in, a JWS that comes out is one JSON object of three base64url texts.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "acme/acme_msg.h"
#include "acme/jose.h"

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

static sr_key key;

static void must_be_jws(const sr_buf *text) {
    static const char *const fields[] = {"protected", "payload", "signature"};
    cJSON *doc = cJSON_ParseWithLength(text->data, text->len);
    MUST(cJSON_GetArraySize(doc) == 3);
    for (int i = 0; i < 3; i++) {
        const char *part =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, fields[i]));
        MUST(part &&
             part[strspn(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                               "0123456789-_")] == 0);
    }
    cJSON_Delete(doc);
}

static void sign(const char *text, size_t len) {
    sr_err err = {0};
    sr_buf out = {0};
    sr_jws jws = {
        .url = text, .nonce = "n", .kid = text, .payload = text, .payload_len = len};
    if (sr_jose_sign(&key, &jws, &out, &err) == 0) must_be_jws(&out);
    sr_buf_free(&out);
}

static void bind_account(const char *text, size_t len) {
    static const char *const encodings[] = {"base64url", "twice", "raw"};
    for (int i = 0; i < 3; i++) {
        sr_err err = {0};
        sr_buf mac = {.secret = true}, out = {0};
        sr_eab eab = {.url = "https://ca.example/a", .kid = text, .alg = "HS256"};
        if (sr_jose_mac_key(text, len, encodings[i], &mac, &err) == 0) {
            eab.mac = mac.data;
            eab.mac_len = mac.len;
            (void)sr_jose_mac_looks_encoded(mac.data, mac.len);
            if (sr_jose_eab(&key, &eab, &out, &err) == 0) must_be_jws(&out);
        }
        sr_buf_free(&mac);
        sr_buf_free(&out);
    }
}

static void authorize(const char *text, size_t len) {
    sr_err err = {0};
    sr_buf out = {0};
    if (sr_jose_key_authorization(&key, text, len, &out, &err) == 0) {
        MUST(!memchr(out.data, '/', out.len));
        MUST(sr_acme_token_ok(text, len));
    }
    (void)sr_jose_nonce_ok(text, len);
    sr_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sr_err err = {0};
    if (!key.pkey) MUST(sr_key_generate(&key, "ed25519", &err) == 0);
    char *text = malloc(size + 1);
    MUST(text != NULL);
    memcpy(text, data, size);
    text[size] = 0;
    sign(text, size);
    bind_account(text, size);
    authorize(text, size);
    free(text);
    return 0;
}
