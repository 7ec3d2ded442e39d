/* spki.c – SubjectPublicKeyInfo of the usual elliptic keys, piece by piece.
 *
 * OpenSSL 3.0 sets up a chain of encoders for every public key that it writes, and reads
 * the result back: 2.2 million instructions for each request. A key on a named curve is
 * its curve's name and its point (RFC 5480), Ed25519 only its bytes (RFC 8410), so these
 * are put together here. Whatever else there is goes OpenSSL's way.
 */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <openssl/objects.h>

#include "pki.h"

enum { POINT_MAX = 133 }; /* P-521: 1 + 2 × 66 bytes */

int sr_named_point(EVP_PKEY *pkey, unsigned char *ret_point, size_t size,
                   size_t *ret_len) {
    char group[64];
    size_t len;
    if (!EVP_PKEY_is_a(pkey, "EC") ||
        !EVP_PKEY_get_group_name(pkey, group, sizeof group, &len) ||
        !EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, ret_point, size,
                                         ret_len) ||
        ret_point[0] != POINT_CONVERSION_UNCOMPRESSED)
        return NID_undef;
    return OBJ_sn2nid(group);
}

/* 1 when set, 0 when this key is none of ours, -1 without memory. */
static int set_pieces(X509_PUBKEY *pub, EVP_PKEY *pkey) {
    unsigned char bytes[POINT_MAX];
    size_t len = sizeof bytes;
    int algorithm = NID_X9_62_id_ecPublicKey, type = V_ASN1_OBJECT;
    int curve = sr_named_point(pkey, bytes, sizeof bytes, &len);
    if (curve == NID_undef) {
        algorithm = NID_ED25519;
        type = V_ASN1_UNDEF;
        if (!EVP_PKEY_is_a(pkey, "ED25519") ||
            !EVP_PKEY_get_raw_public_key(pkey, bytes, &len))
            return 0;
    }
    unsigned char *copy = OPENSSL_memdup(bytes, len);
    if (!copy) return -1;
    void *parameter = curve == NID_undef ? NULL : OBJ_nid2obj(curve);
    if (X509_PUBKEY_set0_param(pub, OBJ_nid2obj(algorithm), type, parameter, copy,
                               (int)len))
        return 1;
    OPENSSL_free(copy);
    return -1;
}

int sr_req_set_pubkey(X509_REQ *req, EVP_PKEY *pkey) {
    int rc = set_pieces(X509_REQ_get_X509_PUBKEY(req), pkey);
    ERR_clear_error();
    return rc == 0 ? X509_REQ_set_pubkey(req, pkey) : rc > 0;
}

EVP_PKEY *sr_req_get0_pubkey(X509_REQ *req) {
    unsigned char *der = NULL;
    EVP_PKEY *pkey = X509_REQ_get0_pubkey(req);
    ERR_clear_error();
    int len = pkey ? 0 : i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(req), &der);
    const unsigned char *data = der;
    if (len > 0 && (pkey = d2i_PUBKEY(NULL, &data, len))) {
        X509_REQ_set_pubkey(req, pkey);
        EVP_PKEY_free(pkey);
        pkey = X509_REQ_get0_pubkey(req);
    }
    OPENSSL_free(der);
    return pkey;
}

int sr_spki_der(EVP_PKEY *pkey, unsigned char **ret_der) {
    X509_PUBKEY *pub = X509_PUBKEY_new();
    int rc = pub ? set_pieces(pub, pkey) : -1;
    ERR_clear_error();
    int len = rc > 0 ? i2d_X509_PUBKEY(pub, ret_der) : rc;
    X509_PUBKEY_free(pub);
    return rc == 0 ? i2d_PUBKEY(pkey, ret_der) : len;
}
