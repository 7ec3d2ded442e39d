/* pkcs8.c – PrivateKeyInfo of the usual elliptic keys, piece by piece.
 *
 * As for public keys (spki.c) OpenSSL 3.0 sets up a chain of encoders for every private
 * key that it writes. The inside of one on a named curve is an ECPrivateKey (RFC 5915)
 * without parameters, of Ed25519 an OCTET STRING (RFC 8410); these are put together here,
 * byte for byte what OpenSSL writes. Whatever else there is goes OpenSSL's way.
 */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/objects.h>

#include "pki.h"

enum {
    SCALAR_MAX = 66, /* P-521 */
    POINT_MAX = 1 + 2 * SCALAR_MAX,
    ROOM = SCALAR_MAX + POINT_MAX + 32 /* of headers */
};

/* Write tag and length (below 256) before what is at `at`; the new start. */
static unsigned char *wrap(unsigned char *at, unsigned char tag, size_t len) {
    *--at = (unsigned char)len;
    if (len > 127) *--at = 0x81;
    *--at = tag;
    return at;
}

/* The private scalar, padded to the curve's size, ending before `end`; its start. */
static unsigned char *put_scalar(EVP_PKEY *pkey, unsigned char *end, size_t size) {
    BIGNUM *scalar = NULL;
    unsigned char *at = end - size;
    bool good = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &scalar) &&
                BN_bn2binpad(scalar, at, (int)size) == (int)size;
    BN_clear_free(scalar);
    return good ? at : NULL;
}

/* Curves whose scalars are as long as their coordinates. */
static bool same_size(int curve) {
    return curve == NID_X9_62_prime256v1 || curve == NID_secp384r1 ||
           curve == NID_secp521r1;
}

/* ECPrivateKey, built from its end: version, scalar, [1] point as bit string. */
static unsigned char *put_ec(EVP_PKEY *pkey, unsigned char *end, int *ret_curve) {
    unsigned char point[POINT_MAX], *at = end;
    size_t len;
    *ret_curve = sr_named_point(pkey, point, sizeof point, &len);
    if (!same_size(*ret_curve)) return NULL;
    at -= len;
    memcpy(at, point, len);
    *--at = 0; /* unused bits */
    at = wrap(at, V_ASN1_BIT_STRING, len + 1);
    at = wrap(at, V_ASN1_CONTEXT_SPECIFIC | V_ASN1_CONSTRUCTED | 1, (size_t)(end - at));
    size_t size = (len - 1) / 2;
    at = put_scalar(pkey, at, size);
    if (!at) return NULL;
    at = wrap(at, V_ASN1_OCTET_STRING, size);
    *--at = 1;
    at = wrap(at, V_ASN1_INTEGER, 1);
    return wrap(at, V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED, (size_t)(end - at));
}

static unsigned char *put_ed25519(EVP_PKEY *pkey, unsigned char *end) {
    size_t len = 32;
    if (!EVP_PKEY_is_a(pkey, "ED25519") ||
        !EVP_PKEY_get_raw_private_key(pkey, end - len, &len) || len != 32)
        return NULL;
    return wrap(end - len, V_ASN1_OCTET_STRING, len);
}

static PKCS8_PRIV_KEY_INFO *from_pieces(EVP_PKEY *pkey) {
    unsigned char room[ROOM], *end = room + sizeof room;
    int curve = NID_undef;
    PKCS8_PRIV_KEY_INFO *info = NULL;
    unsigned char *at = put_ec(pkey, end, &curve);
    if (!at) at = put_ed25519(pkey, end);
    int len = at ? (int)(end - at) : 0;
    unsigned char *copy = at ? OPENSSL_memdup(at, (size_t)len) : NULL;
    sr_wipe(room, sizeof room);
    if (copy && (info = PKCS8_PRIV_KEY_INFO_new())) {
        bool ec = same_size(curve);
        if (PKCS8_pkey_set0(info,
                            OBJ_nid2obj(ec ? NID_X9_62_id_ecPublicKey : NID_ED25519), 0,
                            ec ? V_ASN1_OBJECT : V_ASN1_UNDEF,
                            ec ? OBJ_nid2obj(curve) : NULL, copy, len))
            return info;
        PKCS8_PRIV_KEY_INFO_free(info);
    }
    OPENSSL_clear_free(copy, (size_t)len);
    return NULL;
}

PKCS8_PRIV_KEY_INFO *sr_pkcs8(EVP_PKEY *pkey) {
    PKCS8_PRIV_KEY_INFO *info = from_pieces(pkey);
    ERR_clear_error();
    return info ? info : EVP_PKEY2PKCS8(pkey);
}
