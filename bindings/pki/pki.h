/* pki.h – keys, certificates, requests, revocation lists, chains and bundles for C.
 *
 * The cores (key.c, pem.c, cert.c …) know neither Lua nor the loop: they work on bytes
 * and OpenSSL's reference-counted objects and report through sr_err. The face (x509*.c)
 * checks arguments, calls a core, and pushes. Other bindings use the cores and
 * sr_check_key() and friends.
 *
 * Sizes of what is read are bounded (SR_PKI_MAX_INPUT, SR_PKI_MAX_CERTS); times are UTC
 * seconds given by the caller, never the system's.
 */
#ifndef SR_PKI_H
#define SR_PKI_H

#include "secrun.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

#define SR_PKI_MAX_INPUT (8u << 20) /* bytes of PEM or DER taken at once */
#define SR_PKI_MAX_CERTS 10000      /* certificates in one file */

/* ---------------------------------------------------------------- helpers (pki.c) */

/* sr_fail() with OpenSSL's own reason appended; empties its error queue. */
int sr_pki_fail(sr_err *err, sr_kind kind, const char *code, const char *fmt, ...)
    SR_PRINTF(4, 5);
/* Append as base64url without padding, or as lower-case hex. */
int sr_pki_base64url(sr_buf *buf, const void *data, size_t len);
int sr_pki_hex(sr_buf *buf, const void *data, size_t len);
/* Refuse a password-based algorithm whose work factor would keep a thread for minutes. */
int sr_pki_check_rounds(const X509_ALGOR *alg, sr_err *err);

/* ---------------------------------------------------------------- PEM (pem.c)
 *
 *     sr_pem pem = {.next = text, .end = text + len};
 *     while ((found = sr_pem_next(&pem, &err)) > 0) … pem.label, pem.der …
 *     sr_pem_free(&pem);
 *
 * Text between blocks, CRLF and indented lines are fine (RFC 7468 lax); a block without
 * its end, with another end label or with bytes that are not base64 is an error.
 */
typedef struct sr_pem {
    const char *next, *end; /* input still to read */
    const char *block;      /* this block, markers included */
    size_t block_len;
    char label[64];
    bool headers; /* RFC 1421 headers: an old-style encrypted key; der is empty */
    sr_buf der;   /* decoded body, a secret buffer */
} sr_pem;

/* 1: a block was read; 0: no further block; -1: a broken block. */
int sr_pem_next(sr_pem *pem, sr_err *err);
void sr_pem_free(sr_pem *pem);
/* Append "-----BEGIN label-----" … with 64 columns a line. */
int sr_pem_write(sr_buf *buf, const char *label, const void *der, size_t len);

/* ---------------------------------------------------------------- keys (key.c) */

#define SR_KEY_TYPE "x509.key"

/* A key pair or a public key. Copies share the EVP_PKEY by reference, which OpenSSL lets
 * several threads read: a job takes sr_key_ref() and never the userdata. */
typedef struct sr_key {
    EVP_PKEY *pkey; /* NULL: empty or closed */
    bool is_private;
} sr_key;

/* What a key is; strings are static. */
typedef struct sr_key_info {
    const char *type; /* "p256" "p384" "p521" "rsa2048" "ed25519" …, else "rsa" "ec"… */
    const char *label;     /* "P-256", "RSA-2048", "Ed25519" … for people */
    const char *algorithm; /* "ec", "rsa", "ed25519" … */
    const char *hash;      /* OpenSSL's name of the digest to sign with, NULL: built in */
    const char *jws;       /* RFC 7518 algorithm, NULL: none of ours */
    int bits;
    bool slow; /* making or using it belongs in a pool job */
} sr_key_info;

/* Take another reference into an empty key; free one (also of an empty key). */
void sr_key_ref(sr_key *ret_key, const sr_key *key);
void sr_key_clear(sr_key *key);

void sr_key_describe(EVP_PKEY *pkey, sr_key_info *ret_info);
/* Whether making this type takes long; -1 when the type is unknown. */
int sr_key_type_slow(const char *type);
/* type: p256 p384 p521 rsa2048 rsa3072 rsa4096 ed25519. RSA takes 0.2 to 1.5 s. */
int sr_key_generate(sr_key *ret_key, const char *type, sr_err *err);

/* Read the first key of a PEM text or DER bytes: PKCS#8, encrypted PKCS#8, PKCS#1, SEC1,
 * SubjectPublicKeyInfo. passphrase NULL: none. Errors: auth/PASSPHRASE_REQUIRED,
 * auth/WRONG_PASSPHRASE, usage/BAD_KEY. */
int sr_key_read(sr_key *ret_key, const void *data, size_t len, const char *passphrase,
                size_t passphrase_len, sr_err *err);
/* Whether reading this needs a passphrase, and so takes a key derivation. */
bool sr_key_is_encrypted(const void *data, size_t len);

/* Append as PKCS#8 PEM; with a passphrase AES-256-CBC, PBKDF2-HMAC-SHA256, 600,000
 * rounds. buf should be a secret buffer. */
int sr_key_pem(const sr_key *key, const char *passphrase, size_t passphrase_len,
               sr_buf *buf, sr_err *err);
int sr_key_public_pem(const sr_key *key, sr_buf *buf, sr_err *err);
/* Append the DER SubjectPublicKeyInfo. */
int sr_key_spki(const sr_key *key, sr_buf *buf, sr_err *err);
int sr_pkey_spki(EVP_PKEY *pkey, sr_buf *buf, sr_err *err);
int sr_pkey_spki_sha256(EVP_PKEY *pkey, unsigned char ret_digest[32], sr_err *err);

/* Sign or verify (EC: DER, RSA: PKCS#1 v1.5, Ed25519: pure). hash NULL: the key's own. */
int sr_key_sign(const sr_key *key, const char *hash, const void *data, size_t len,
                sr_buf *buf, sr_err *err);
/* 1 good, 0 bad, -1 could not be checked. */
int sr_key_verify(const sr_key *key, const char *hash, const void *data, size_t len,
                  const void *sig, size_t sig_len, sr_err *err);

/* Append the raw JWS signature (RFC 7518 3.4: r and s of fixed length; RFC 8037 EdDSA).
 * alg: ES256 ES384 ES512 RS256 EdDSA, must fit the key; NULL: the key's own. */
int sr_key_sign_jws(const sr_key *key, const char *alg, const void *data, size_t len,
                    sr_buf *buf, sr_err *err);
/* 1 good, 0 bad, -1 could not be checked. */
int sr_key_verify_jws(const sr_key *key, const char *alg, const void *data, size_t len,
                      const void *sig, size_t sig_len, sr_err *err);
/* Append the public JWK, members in the order of RFC 7638, no white space. */
int sr_key_jwk(const sr_key *key, sr_buf *buf, sr_err *err);
/* Append base64url(SHA-256(jwk)), RFC 7638. */
int sr_key_thumbprint(const sr_key *key, sr_buf *buf, sr_err *err);

/* The open key at idx; raises a usage error otherwise. Valid while it is on the stack. */
sr_key *sr_check_key(lua_State *L, int idx);
/* Push a userdata that takes over *key (which becomes empty). */
void sr_push_key(lua_State *L, sr_key *key);

int luaopen_x509(lua_State *L);

#endif
