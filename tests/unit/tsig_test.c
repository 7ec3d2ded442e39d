/* tsig_test.c – signatures against what another implementation made (kdig of Knot DNS
 * 3.2), and every way to be refused. */
#include "data/encoding.h"
#include "dcv/tsig.h"
#include "unit.h"

#include <stdlib.h>

#define NAME "update-key.example"
#define SECRET "c2VjcnVuIGZpeHR1cmUgc2VjcmV0"
#define SIGNED_AT 0x6b064ca1ULL

/* Queries for Www.Example.test TXT, signed by kdig at SIGNED_AT with fudge 300. */
static const struct {
    const char *alg, *wire;
} made[] = {
    {"hmac-sha256",
     "e2e60120000100000000000103777777076578616d706c65047465737400001000010a757064617465"
     "2d6b6579076578616d706c650000fa00ff00000000003d0b686d61632d7368613235360000006b064c"
     "a1012c0020bd2bb4989486a987c2038d5ee98a20d2720555f786d9f23537112029fdea46e4e2e60000"
     "0000"},
    {"hmac-sha384",
     "0e3c0120000100000000000103777777076578616d706c65047465737400001000010a757064617465"
     "2d6b6579076578616d706c650000fa00ff00000000004d0b686d61632d7368613338340000006b064c"
     "a1012c0030684be3c3df296a12e81b0f45e3eb2da033c519d3e952642c645531ffa708e575cfa6959e"
     "bf3c03f88cde0f4a9458e0ae0e3c00000000"},
    {"hmac-sha512",
     "f83e0120000100000000000103777777076578616d706c65047465737400001000010a757064617465"
     "2d6b6579076578616d706c650000fa00ff00000000005d0b686d61632d7368613531320000006b064c"
     "a1012c0040136fea9d61567220202ab6ab4fd0b7b05b7c2bfdf14dc2bd238101fb72dccf6d480336ed"
     "d9b56125675438f6e8b7172e82fa7a5ebc28443122845e40b5729f38f83e00000000"},
};

enum { MADE = sizeof made / sizeof *made, UNSIGNED_LEN = 34 };

static sr_buf bytes(const char *hex) {
    sr_buf out = {0};
    sr_err err = {0};
    CHECK(sr_hex_decode(&out, hex, strlen(hex), &err) == 0);
    return out;
}

static sr_tsig_key key_of(const char *name, const char *alg, const char *secret) {
    sr_tsig_key key;
    sr_err err = {0};
    CHECK(sr_tsig_key_init(&key, name, alg, secret, strlen(secret), &err) == 0);
    return key;
}

/* The query without its signature. */
static sr_buf plain(int i) {
    sr_buf wire = bytes(made[i].wire);
    wire.len = UNSIGNED_LEN;
    wire.data[11] = 0;
    return wire;
}

TEST(tsig_signs_as_knot_does) {
    for (int i = 0; i < MADE; i++) {
        sr_err err = {0};
        sr_tsig_mac mac;
        sr_buf want = bytes(made[i].wire), wire = plain(i);
        sr_tsig_key key = key_of(NAME, made[i].alg, SECRET);
        CHECK(sr_tsig_sign(&key, &wire, NULL, SIGNED_AT, 0, SIGNED_AT, &mac, &err) == 0);
        CHECK_INT(wire.len, want.len);
        CHECK(memcmp(wire.data, want.data, want.len) == 0);
        sr_buf_free(&want);
        sr_buf_free(&wire);
        sr_tsig_key_free(&key);
    }
}

static int verify(const sr_buf *wire, const sr_tsig_key *key, const sr_tsig_mac *prior,
                  uint64_t now, sr_err *err) {
    *err = (sr_err){0};
    return sr_tsig_verify(key, wire->data, wire->len, prior, now, "the server", NULL,
                          err);
}

TEST(tsig_verifies_what_knot_signed_within_the_fudge) {
    for (int i = 0; i < MADE; i++) {
        sr_err err;
        sr_buf wire = bytes(made[i].wire);
        sr_tsig_key key = key_of("Update-Key.Example.", made[i].alg, SECRET);
        CHECK(verify(&wire, &key, NULL, SIGNED_AT, &err) == 0);
        CHECK(verify(&wire, &key, NULL, SIGNED_AT + 300, &err) == 0);
        CHECK(verify(&wire, &key, NULL, SIGNED_AT - 300, &err) == 0);
        CHECK(verify(&wire, &key, NULL, SIGNED_AT + 301, &err) == -1);
        CHECK_STR(err.code, "BADTIME");
        CHECK(strstr(err.message, "301 s before our time"));
        CHECK(verify(&wire, &key, NULL, SIGNED_AT - 301, &err) == -1);
        CHECK_STR(err.code, "BADTIME");
        sr_buf_free(&wire);
        sr_tsig_key_free(&key);
    }
}

static void flip(sr_buf *wire, size_t bit) {
    unsigned char *byte = (unsigned char *)wire->data + bit / 8;
    *byte = (unsigned char)(*byte ^ 1u << bit % 8);
}

TEST(tsig_any_changed_bit_is_noticed) {
    sr_err err;
    sr_tsig_key key = key_of(NAME, made[0].alg, SECRET);
    sr_buf wire = bytes(made[0].wire);
    for (size_t bit = 0; bit < wire.len * 8; bit++) {
        flip(&wire, bit);
        /* The id travels in the record, so that forwarders may change the header's; the
         * case of letters in a name has no meaning. */
        bool id = bit / 8 < 2;
        if (!id && verify(&wire, &key, NULL, SIGNED_AT, &err) == 0)
            CHECK(bit % 8 == 5 && bit / 8 >= UNSIGNED_LEN);
        flip(&wire, bit);
    }
    sr_buf_free(&wire);
    sr_tsig_key_free(&key);
}

TEST(tsig_wrong_secret_key_and_algorithm_are_told_apart) {
    sr_err err;
    sr_buf wire = bytes(made[0].wire);
    sr_tsig_key secret = key_of(NAME, "hmac-sha256", "b3RoZXIgc2VjcmV0");
    sr_tsig_key name = key_of("other.example", "hmac-sha256", SECRET);
    sr_tsig_key alg = key_of(NAME, "hmac-sha512", SECRET);
    CHECK(verify(&wire, &secret, NULL, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "BADSIG");
    CHECK(verify(&wire, &name, NULL, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "BADKEY");
    CHECK(verify(&wire, &alg, NULL, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "BADKEY");
    CHECK_INT(err.kind, SR_AUTH);
    sr_tsig_key_free(&secret);
    sr_tsig_key_free(&name);
    sr_tsig_key_free(&alg);
    sr_buf_free(&wire);
}

/* A response to made[0] signed by `key`: error as given. */
static sr_buf response(const sr_tsig_key *key, const sr_tsig_mac *prior, uint64_t at,
                       int error, uint64_t now) {
    sr_err err = {0};
    sr_buf wire = plain(0);
    wire.data[2] |= (char)0x80;
    CHECK(sr_tsig_sign(key, &wire, prior, at, error, now, NULL, &err) == 0);
    return wire;
}

TEST(tsig_response_is_bound_to_its_request) {
    sr_err err;
    sr_tsig_mac prior = {.len = 32}, other = {.len = 32, .bytes = {1}};
    sr_tsig_key key = key_of(NAME, "hmac-sha256", SECRET);
    sr_buf wire = response(&key, &prior, SIGNED_AT, 0, SIGNED_AT);
    CHECK(verify(&wire, &key, &prior, SIGNED_AT, &err) == 0);
    CHECK(verify(&wire, &key, &other, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "BADSIG");
    CHECK(verify(&wire, &key, NULL, SIGNED_AT, &err) == -1);
    sr_buf_free(&wire);
    sr_tsig_key_free(&key);
}

TEST(tsig_refusals_of_the_server_are_explained) {
    sr_err err;
    sr_tsig_mac prior = {.len = 32};
    sr_tsig_key key = key_of(NAME, "hmac-sha256", SECRET);
    sr_buf wire = response(&key, &prior, SIGNED_AT, 17, SIGNED_AT);
    CHECK(verify(&wire, &key, &prior, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "BADKEY");
    CHECK(strstr(err.message, "does not know"));
    sr_buf_free(&wire);
    wire = response(&key, &prior, SIGNED_AT, 16, SIGNED_AT);
    CHECK(verify(&wire, &key, &prior, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "BADSIG");
    CHECK(strstr(err.message, "secret differs"));
    sr_buf_free(&wire);
    wire = response(&key, &prior, SIGNED_AT, 18, SIGNED_AT + 4000);
    CHECK(verify(&wire, &key, &prior, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "BADTIME");
    CHECK(strstr(err.message, "4000 s ahead of ours"));
    wire.data[wire.len - 1] ^= 1; /* the time it tells is signed, too */
    CHECK(verify(&wire, &key, &prior, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "BADSIG");
    sr_buf_free(&wire);
    sr_tsig_key_free(&key);
}

TEST(tsig_short_signatures_are_not_taken) {
    sr_err err;
    sr_tsig_key key = key_of(NAME, "hmac-sha256", SECRET);
    sr_buf wire = bytes(made[0].wire);
    /* Cut the MAC to 16 bytes: allowed by the RFC, not by us. */
    size_t mac = wire.len - 6 - 32;
    memmove(wire.data + mac + 16, wire.data + mac + 32, 6);
    wire.len -= 16;
    wire.data[mac - 1] = 16;
    wire.data[UNSIGNED_LEN + 29] -= 16; /* rdlength */
    CHECK(verify(&wire, &key, NULL, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "BADTRUNC");
    sr_buf_free(&wire);
    sr_tsig_key_free(&key);
}

TEST(tsig_missing_and_misplaced_records) {
    sr_err err;
    sr_tsig_key key = key_of(NAME, "hmac-sha256", SECRET);
    sr_buf wire = plain(0);
    CHECK(verify(&wire, &key, NULL, SIGNED_AT, &err) == -1);
    CHECK_STR(err.code, "UNSIGNED");
    sr_buf_free(&wire);
    wire = bytes(made[0].wire);
    sr_buf_append(&wire, wire.data + UNSIGNED_LEN, wire.len - UNSIGNED_LEN);
    wire.data[11] = 2; /* two TSIG records */
    CHECK(verify(&wire, &key, NULL, SIGNED_AT, &err) == -1);
    CHECK_INT(err.kind, SR_PROTOCOL);
    sr_buf_free(&wire);
    for (size_t cut = 0; cut < strlen(made[0].wire) / 2; cut++) {
        wire = bytes(made[0].wire);
        char *short_one = malloc(cut ? cut : 1);
        CHECK(short_one != NULL);
        memcpy(short_one, wire.data, cut);
        sr_buf_free(&wire);
        wire = (sr_buf){.data = short_one, .len = cut, .cap = cut};
        CHECK(verify(&wire, &key, NULL, SIGNED_AT, &err) == -1);
        sr_buf_free(&wire);
    }
    sr_tsig_key_free(&key);
}

TEST(tsig_keys_that_are_none_are_explained) {
    sr_err err = {0};
    sr_tsig_key key;
    CHECK(sr_tsig_key_init(&key, "k", "hmac-md5", SECRET, 4, &err) == -1);
    CHECK(strstr(err.message, "hmac-sha256"));
    CHECK(sr_tsig_key_init(&key, "k", "hmac-sha256", "not base64!", 11, &err) == -1);
    CHECK_STR(err.code, "BAD_SECRET");
    CHECK(!strstr(err.message, "not base64!"));
    CHECK(sr_tsig_key_init(&key, "a..b", "hmac-sha256", SECRET, 8, &err) == -1);
    CHECK_INT(err.kind, SR_USAGE);
}
