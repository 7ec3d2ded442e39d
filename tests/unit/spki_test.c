/* spki_test.c – our SubjectPublicKeyInfo is OpenSSL's, byte for byte. */
#include "pki/pki.h"

#include <string.h>

#include "unit.h"

static void same_as_openssl(const char *type) {
    sr_key key = {0};
    sr_err err;
    unsigned char *ours = NULL, *theirs = NULL;
    CHECK(sr_key_generate(&key, type, &err) == 0);
    int our_len = sr_spki_der(key.pkey, &ours), their_len = i2d_PUBKEY(key.pkey, &theirs);
    CHECK_INT(our_len, their_len);
    CHECK(our_len > 0 && memcmp(ours, theirs, (size_t)our_len) == 0);
    X509_REQ *req = X509_REQ_new();
    CHECK(sr_req_set_pubkey(req, key.pkey));
    CHECK(EVP_PKEY_eq(sr_req_get0_pubkey(req), key.pkey) == 1);
    X509_REQ_free(req);
    OPENSSL_free(ours);
    OPENSSL_free(theirs);
    sr_key_clear(&key);
}

TEST(spki_of_each_kind_of_key_is_as_openssl_writes_it) {
    same_as_openssl("p256");
    same_as_openssl("p384");
    same_as_openssl("p521");
    same_as_openssl("ed25519");
    same_as_openssl("rsa2048");
}
