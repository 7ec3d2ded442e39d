/* encoding_fuzz.c – any bytes through every codec.
 *
 * Properties: encoding always works and decodes to the same bytes; a strict decoder that
 * accepts a text gives bytes that encode to that very text (hex apart from case, percent
 * apart from needless escapes); a refusal leaves the buffer as it was.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/encoding.h"

#define HOLDS(cond)                                                                      \
    do {                                                                                 \
        if (!(cond)) __builtin_trap();                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    int (*encode)(sr_buf *, const void *, size_t, sr_err *);
    int (*decode)(sr_buf *, const char *, size_t, sr_err *);
    bool canonical;
} codecs[] = {{sr_base64_encode, sr_base64_decode, true},
              {sr_base64url_encode, sr_base64url_decode, true},
              {sr_base32_encode, sr_base32_decode, true},
              {sr_hex_encode, sr_hex_decode, false},
              {sr_base64_encode, sr_base64_any_decode, false},
              {sr_percent_encode, sr_percent_decode, false},
              {sr_form_encode, sr_form_decode, false}};

static bool same(const sr_buf *buf, const char *data, size_t len) {
    return buf->len == len && (len == 0 || memcmp(buf->data, data, len) == 0);
}

static void round_trip(size_t i, const char *data, size_t len) {
    sr_buf text = {0}, back = {0};
    sr_err err = {0};
    HOLDS(codecs[i].encode(&text, data, len, &err) == 0);
    int rc = codecs[i].decode(&back, text.data, text.len, &err);
    HOLDS(rc == 0 ? same(&back, data, len)
                  : codecs[i].decode == sr_base64_any_decode && !len);
    sr_buf_free(&text);
    sr_buf_free(&back);
}

static void accepted_is_canonical(size_t i, const char *text, size_t len) {
    sr_buf out = {0}, again = {0};
    sr_err err = {0};
    HOLDS(sr_buf_puts(&out, "kept") == 0);
    if (codecs[i].decode(&out, text, len, &err) != 0) {
        HOLDS(err.kind == SR_PROTOCOL && *err.message && same(&out, "kept", 4));
    } else if (codecs[i].canonical) {
        HOLDS(codecs[i].encode(&again, out.data + 4, out.len - 4, &err) == 0);
        HOLDS(same(&again, text, len));
    }
    sr_buf_free(&out);
    sr_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* A copy of the exact size: reading one byte beyond it is caught. */
    char *text = malloc(size ? size : 1);
    if (!text) return 0;
    memcpy(text, data, size);
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        round_trip(i, text, size);
        accepted_is_canonical(i, text, size);
    }
    free(text);
    return 0;
}
