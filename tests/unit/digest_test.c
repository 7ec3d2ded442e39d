/* digest_test.c – published vectors, files, comparison. */
#include "data/digest.h"
#include "data/encoding.h"
#include "unit.h"

#include <stdlib.h>
#include <unistd.h>

static const char *hex(const sr_digest *d) {
    static char text[130];
    sr_buf buf = {0};
    sr_err err = {0};
    CHECK(sr_hex_encode(&buf, d->bytes, d->len, &err) == 0);
    snprintf(text, sizeof text, "%s", buf.data);
    sr_buf_free(&buf);
    return text;
}

static const char *hashed(const char *alg, const char *text) {
    sr_digest d = {0};
    sr_err err = {0};
    CHECK(sr_digest_data(alg, text, strlen(text), &d, &err) == 0);
    return hex(&d);
}

TEST(digest_matches_fips180_vectors) {
    CHECK_STR(hashed("sha256", "abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_STR(hashed("sha256", ""),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK_STR(hashed("sha1", "abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    CHECK_STR(hashed("md5", "abc"), "900150983cd24fb0d6963f7d28e17f72");
    CHECK_STR(hashed("sha384", "abc"),
              "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
              "8086072ba1e7cc2358baeca134c825a7");
    CHECK_STR(hashed("sha512", "abc"),
              "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
              "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
}

TEST(digest_unknown_algorithm_names_the_known_ones) {
    sr_digest d = {.len = 7};
    sr_err err = {0};
    CHECK(sr_digest_data("sha3", "", 0, &d, &err) == -1);
    CHECK_INT(err.kind, SR_USAGE);
    CHECK(strstr(err.message, "sha256"));
    CHECK_INT(d.len, 7);
}

TEST(digest_hmac_matches_rfc4231) {
    sr_digest d;
    sr_err err = {0};
    CHECK(sr_hmac("sha256", "Jefe", 4, "what do ya want for nothing?", 28, &d, &err) ==
          0);
    CHECK_STR(hex(&d),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    CHECK(sr_hmac("sha256", "", 0, "x", 1, &d, &err) == -1);
    CHECK_INT(err.kind, SR_USAGE);
}

TEST(digest_of_a_file_equals_that_of_its_bytes) {
    char path[] = "/tmp/digest_testXXXXXX", data[100000];
    sr_digest a, b;
    sr_err err = {0};
    int fd = mkstemp(path);
    memset(data, 'x', sizeof data);
    CHECK(fd >= 0 && write(fd, data, sizeof data) == (ssize_t)sizeof data);
    close(fd);
    CHECK(sr_digest_file(path, "sha256", NULL, &a, &err) == 0);
    CHECK(sr_digest_data("sha256", data, sizeof data, &b, &err) == 0);
    CHECK(sr_equal(a.bytes, a.len, b.bytes, b.len));
    unlink(path);
    CHECK(sr_digest_file(path, "sha256", NULL, &a, &err) == -1);
    CHECK_INT(err.kind, SR_NOT_FOUND);
    CHECK(strstr(err.message, path));
    CHECK(sr_digest_file("/tmp", "sha256", NULL, &a, &err) == -1);
    CHECK(strstr(err.message, "not a regular file"));
}

TEST(digest_equal_compares_length_and_bytes) {
    CHECK(sr_equal("abc", 3, "abc", 3));
    CHECK(!sr_equal("abc", 3, "abd", 3));
    CHECK(!sr_equal("abc", 3, "ab", 2));
    CHECK(sr_equal("", 0, NULL, 0));
}

TEST(digest_random_bytes_differ) {
    char a[32], b[32];
    sr_err err = {0};
    CHECK(sr_random(a, sizeof a, &err) == 0 && sr_random(b, sizeof b, &err) == 0);
    CHECK(memcmp(a, b, sizeof a) != 0);
}
