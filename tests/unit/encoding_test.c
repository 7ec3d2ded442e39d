/* encoding_test.c – text encodings: the RFC's vectors, strictness, tolerance. */
#include "data/encoding.h"
#include "unit.h"

typedef int codec(sr_buf *, const char *, size_t, sr_err *);
typedef int encoder(sr_buf *, const void *, size_t, sr_err *);

static const char *encoded(encoder *encode, const char *data, size_t len) {
    static char text[256];
    sr_buf buf = {0};
    sr_err err = {0};
    CHECK(encode(&buf, data, len, &err) == 0);
    snprintf(text, sizeof text, "%s", buf.data);
    sr_buf_free(&buf);
    return text;
}

static const char *decoded(codec *decode, const char *text) {
    static char data[256];
    static sr_err err;
    sr_buf buf = {0};
    err = (sr_err){0};
    if (decode(&buf, text, strlen(text), &err)) {
        sr_buf_free(&buf);
        return err.message;
    }
    snprintf(data, sizeof data, "%s", buf.data);
    sr_buf_free(&buf);
    return data;
}

static bool refused(codec *decode, const char *text, const char *part) {
    sr_buf buf = {0};
    sr_err err = {0};
    CHECK(sr_buf_puts(&buf, "kept") == 0);
    bool ok = decode(&buf, text, strlen(text), &err) == -1 && err.kind == SR_PROTOCOL &&
              strstr(err.message, part) && buf.len == 4;
    if (!ok) printf("  \"%s\" gave \"%s\"\n", text, err.message);
    sr_buf_free(&buf);
    return ok;
}

TEST(encoding_base64_follows_rfc4648) {
    const char *plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    const char *text[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (int i = 0; i < 7; i++) {
        CHECK_STR(encoded(sr_base64_encode, plain[i], strlen(plain[i])), text[i]);
        CHECK_STR(decoded(sr_base64_decode, text[i]), plain[i]);
    }
}

TEST(encoding_base32_follows_rfc4648) {
    const char *plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    const char *text[] = {"",         "MY======", "MZXQ====",        "MZXW6===",
                          "MZXW6YQ=", "MZXW6YTB", "MZXW6YTBOI======"};
    for (int i = 0; i < 7; i++) {
        CHECK_STR(encoded(sr_base32_encode, plain[i], strlen(plain[i])), text[i]);
        CHECK_STR(decoded(sr_base32_decode, text[i]), plain[i]);
    }
}

TEST(encoding_base64url_has_no_padding_and_its_own_two_digits) {
    CHECK_STR(encoded(sr_base64url_encode, "\xfb\xff\xfe", 3), "-__-");
    CHECK_STR(encoded(sr_base64url_encode, "f", 1), "Zg");
    CHECK_STR(decoded(sr_base64url_decode, "Zm8"), "fo");
}

TEST(encoding_hex_writes_lower_and_reads_both_cases) {
    CHECK_STR(encoded(sr_hex_encode, "\x00\xab\xff", 3), "00abff");
    CHECK_STR(decoded(sr_hex_decode, "4a4B"), "JK");
}

TEST(encoding_every_byte_survives_every_codec) {
    struct {
        encoder *encode;
        codec *decode;
    } all[] = {{sr_base64_encode, sr_base64_decode},
               {sr_base64url_encode, sr_base64url_decode},
               {sr_base32_encode, sr_base32_decode},
               {sr_hex_encode, sr_hex_decode},
               {sr_percent_encode, sr_percent_decode},
               {sr_form_encode, sr_form_decode},
               {sr_base64_encode, sr_base64_any_decode},
               {sr_base64url_encode, sr_base64_any_decode}};
    char bytes[256];
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    for (size_t c = 0; c < sizeof all / sizeof *all; c++) {
        for (size_t len = 1; len <= sizeof bytes; len++) {
            sr_buf text = {0}, back = {.secret = true};
            sr_err err = {0};
            CHECK(all[c].encode(&text, bytes, len, &err) == 0);
            CHECK_INT(strlen(text.data), text.len);
            CHECK(all[c].decode(&back, text.data, text.len, &err) == 0);
            CHECK_INT(back.len, len);
            CHECK(memcmp(back.data, bytes, len) == 0);
            sr_buf_free(&text);
            sr_buf_free(&back);
        }
    }
}

TEST(encoding_strict_base64_refuses_what_is_not_canonical) {
    CHECK(refused(sr_base64_decode, "Zg", "needs 2 '='"));
    CHECK(refused(sr_base64_decode, "Zg=", "needs 2 '='"));
    CHECK(refused(sr_base64_decode, "Zm9v====", "needs 0 '='"));
    CHECK(refused(sr_base64_decode, "Zh==", "stray bits"));
    CHECK(refused(sr_base64_decode, "Zm9vY", "incomplete"));
    CHECK(refused(sr_base64_decode, "Zm9v\n", "character 5"));
    CHECK(refused(sr_base64_decode, "-_-_", "base64url"));
    CHECK(refused(sr_base64_decode, "Zg==Zg==", "behind the padding"));
    CHECK(refused(sr_base64url_decode, "Zg==", "character 3"));
    CHECK(refused(sr_base64url_decode, "Zm9+", "belong to base64"));
    CHECK(refused(sr_base32_decode, "my======", "base32"));
    CHECK(refused(sr_base32_decode, "MYA=====", "incomplete"));
    CHECK(refused(sr_hex_decode, "abc", "incomplete"));
    CHECK(refused(sr_hex_decode, "ab:cd", "character 3"));
}

TEST(encoding_nul_in_the_text_is_refused_not_the_end) {
    sr_buf buf = {0};
    sr_err err = {0};
    CHECK(sr_base64_decode(&buf, "Zm9v\0m9v", 8, &err) == -1);
    CHECK(strstr(err.message, "character 5"));
    sr_buf_free(&buf);
}

TEST(encoding_tolerant_base64_reads_what_people_paste) {
    const char *same[] = {"-__-Zg",   "+//+Zg==",     "-__-Zg==",          "+//+Zg",
                          " -__-Zg ", "+//+\nZg==\n", "\t+//+ Z g = =\r\n"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        CHECK_STR(decoded(sr_base64_any_decode, same[i]), "\xfb\xff\xfe"
                                                          "f");
    CHECK(refused(sr_base64_any_decode, "", "empty"));
    CHECK(refused(sr_base64_any_decode, " \n=", "empty"));
    CHECK(refused(sr_base64_any_decode, "Zm9vY", "incomplete"));
    CHECK(refused(sr_base64_any_decode, "Zh", "stray bits"));
    CHECK(refused(sr_base64_any_decode, "Zg==A", "behind the padding"));
    CHECK(refused(sr_base64_any_decode, "\"Zg==\"", "character 1"));
}

TEST(encoding_percent_keeps_unreserved_only) {
    CHECK_STR(encoded(sr_percent_encode, "a-b_c.d~e f/\xc3\xbc+", 15),
              "a-b_c.d~e%20f%2F%C3%BC%2B");
    CHECK_STR(encoded(sr_form_encode, "a b+c", 5), "a+b%2Bc");
    CHECK_STR(decoded(sr_percent_decode, "a+b%2fc%2F"), "a+b/c/");
    CHECK_STR(decoded(sr_form_decode, "a+b%2bc"), "a b+c");
    CHECK(refused(sr_percent_decode, "100%", "%25"));
    CHECK(refused(sr_percent_decode, "%4", "character 1"));
    CHECK(refused(sr_percent_decode, "ab%zz", "character 3"));
}
