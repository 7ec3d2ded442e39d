/* tsig_fuzz.c – signed messages from anybody.
 *
 * Nothing that was not signed with the key is verified; what we sign is, and reads back
 * as signed by us; one flipped bit in the MAC is noticed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dcv/tsig.h"

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

enum { NOW = 1795453200 };

static sr_tsig_key key;

static void sign(const uint8_t *data, size_t size) {
    sr_err err = {0};
    sr_buf wire = {0};
    sr_tsig_mac mac;
    sr_tsig_info info = {0};
    MUST(sr_buf_append(&wire, data, size) == 0);
    if (sr_tsig_sign(&key, &wire, NULL, NOW, 0, NOW, &mac, &err) == 0 &&
        sr_tsig_verify(&key, wire.data, wire.len, NULL, NOW, "us", &info, &err) == 0) {
        MUST(info.mac.len == mac.len && memcmp(info.mac.bytes, mac.bytes, mac.len) == 0);
        wire.data[wire.len - 7] ^= 1; /* the last byte of the MAC */
        MUST(sr_tsig_verify(&key, wire.data, wire.len, NULL, NOW, "us", NULL, &err) != 0);
    }
    sr_tsig_info_free(&info);
    sr_buf_free(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char secret[] = "c2VjcnVuIGZpeHR1cmUgc2VjcmV0";
    sr_err err = {0};
    sr_tsig_info info = {0};
    sr_tsig_mac prior = {.len = 32};
    bool found = false;
    if (!key.shown)
        MUST(sr_tsig_key_init(&key, "k.test", "hmac-sha256", secret, sizeof secret - 1,
                              &err) == 0);
    if (sr_tsig_read(data, size, &found, &info, &err) == 0 && found)
        sr_tsig_info_free(&info);
    MUST(sr_tsig_verify(&key, data, size, NULL, NOW, "a peer", NULL, &err) != 0);
    MUST(sr_tsig_verify(&key, data, size, &prior, NOW, "a peer", NULL, &err) != 0);
    sign(data, size);
    return 0;
}
