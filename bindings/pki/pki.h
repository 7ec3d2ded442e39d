/* pki.h – keys, certificates, requests, revocation lists, chains and bundles for C.
 *
 * The cores (key.c, pem.c, cert.c …) know neither Lua nor the loop and need base.h only:
 * they work on bytes and OpenSSL's reference-counted objects and report through sr_err.
 * The face (x509*.c) checks arguments, calls a core, and pushes. Other bindings use the
 * cores and sr_check_key() and friends.
 *
 * Sizes of what is read are bounded (SR_PKI_MAX_INPUT, SR_PKI_MAX_CERTS); times are UTC
 * seconds given by the caller, never the system's.
 */
#ifndef SR_PKI_H
#define SR_PKI_H

#include "base.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

typedef struct lua_State lua_State; /* named by the last section only */

#define SR_PKI_MAX_INPUT (8u << 20) /* bytes of PEM or DER taken at once */
#define SR_PKI_MAX_CERTS 10000      /* certificates in one file */

/* ---------------------------------------------------------------- helpers (pki.c) */

/* sr_fail() with OpenSSL's own reason appended; empties its error queue. */
int sr_pki_fail(sr_err *err, sr_kind kind, const char *code, const char *fmt, ...)
    SR_PRINTF(4, 5);
/* Append as base64url without padding. */
int sr_pki_base64url(sr_buf *buf, const void *data, size_t len);
/* Write lower-case hex and a NUL: 2 * len + 1 bytes. */
void sr_pki_hex_text(char *ret_text, const void *data, size_t len);
/* Refuse a password-based algorithm whose work factor would keep a thread for minutes. */
int sr_pki_check_rounds(const X509_ALGOR *alg, sr_err *err);

/* Memory that is freed at once: what an info struct points to. Zero-initialise. */
typedef struct sr_arena {
    struct sr_arena_block *head;
    bool oom; /* an allocation failed; sticky */
} sr_arena;
/* Zeroed bytes, or NULL. */
void *sr_arena_alloc(sr_arena *arena, size_t size);
/* A NUL-terminated copy; "" without memory, never NULL. */
const char *sr_arena_text(sr_arena *arena, const void *data, size_t len);
void sr_arena_free(sr_arena *arena);

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
 * auth/WRONG_PASSPHRASE, usage/BAD_KEY, usage/NO_KEY, limit/TOO_MANY_ROUNDS. */
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
/* spki.c: as X509_REQ_set_pubkey (1 or 0) and i2d_PUBKEY, quick for the usual keys. */
int sr_req_set_pubkey(X509_REQ *req, EVP_PKEY *pkey);
/* The request's key, decoded when first asked for; belongs to the request. */
EVP_PKEY *sr_req_get0_pubkey(X509_REQ *req);
int sr_spki_der(EVP_PKEY *pkey, unsigned char **ret_der);
/* The curve's NID and the uncompressed point of a key on a named curve, or NID_undef. */
int sr_named_point(EVP_PKEY *pkey, unsigned char *ret_point, size_t size,
                   size_t *ret_len);
/* pkcs8.c: as EVP_PKEY2PKCS8, quick for the usual keys. */
PKCS8_PRIV_KEY_INFO *sr_pkcs8(EVP_PKEY *pkey);
int sr_pkey_spki_sha256(EVP_PKEY *pkey, unsigned char ret_digest[32], sr_err *err);

/* Sign or verify (EC: DER, RSA: PKCS#1 v1.5, Ed25519: pure). hash NULL: the key's own. */
int sr_key_sign(const sr_key *key, const char *hash, const void *data, size_t len,
                sr_buf *buf, sr_err *err);
/* 1 good, 0 bad, -1 could not be checked. */
int sr_key_verify(const sr_key *key, const char *hash, const void *data, size_t len,
                  const void *sig, size_t sig_len, sr_err *err);

/* The digest to sign with, NULL for keys that hash by themselves. */
int sr_key_digest(const sr_key *key, const char *hash, const EVP_MD **ret_md,
                  sr_err *err);

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

/* ---------------------------------------------------------------- names (name.c) */

/* One subject alternative name. type: "dns" "ip" "email" "uri", and when read also
 * "dirname" "rid" "other"; static. When building, NULL means: find out from the value. */
typedef struct sr_san {
    const char *type;
    const char *value;
} sr_san;

/* One attribute of a distinguished name: {"CN", "example.com"}. */
typedef struct sr_attribute {
    const char *type;
    const char *value;
} sr_attribute;

typedef struct sr_dn {
    const char *text; /* RFC 4514, "" when empty */
    sr_attribute *items;
    size_t count;
} sr_dn;

typedef struct sr_sans {
    sr_san *items;
    size_t count;
} sr_sans;

/* Bytes that are not printable come out as \xNN, so that a NUL in a name can neither hide
 * what follows nor reach a terminal. */
void sr_dn_read(const X509_NAME *name, sr_arena *arena, sr_dn *ret_dn);
void sr_sans_read(const GENERAL_NAMES *names, sr_arena *arena, sr_sans *ret_sans);
/* The RFC 4514 text of a name in a fixed buffer, cut when too long; returns buf. */
const char *sr_dn_text(const X509_NAME *name, char *buf, size_t size);

/* A GENERAL_NAMES from names checked by their type, duplicates dropped; NULL on failure.
 * Host names are lower-cased, may start with "*.", and must be ASCII (RFC 5890 A-labels).
 */
GENERAL_NAMES *sr_sans_build(const sr_san *sans, size_t count, sr_err *err);
/* Types are short names (CN, O, OU, C, ST, L, …), long names or dotted OIDs. */
X509_NAME *sr_dn_build(const sr_attribute *items, size_t count, sr_err *err);
/* Whether one of the names is, or by its wildcard covers, this host name, address, e-mail
 * address or URI (RFC 9525 6.3). */
bool sr_sans_cover(const sr_sans *sans, const char *name);

/* ---------------------------------------------------------------- certificates (cert.c)
 */

#define SR_CERT_TYPE "x509.cert"

typedef struct sr_words {
    const char **items;
    size_t count;
} sr_words;

typedef struct sr_extension {
    const char *oid;  /* dotted */
    const char *name; /* short name, or the OID again */
    bool critical;
    const unsigned char *der; /* the value, inside the OCTET STRING */
    size_t der_len;
} sr_extension;

typedef struct sr_extensions {
    sr_extension *items;
    size_t count;
} sr_extensions;

/* Everything a script can ask of a certificate. Lives in its arena; a missing text is
 * NULL, an extension that cannot be decoded counts as absent (its bytes are in
 * `extensions`, its name in `broken`). */
typedef struct sr_cert_info {
    sr_arena arena;
    sr_dn subject, issuer;
    const char *serial; /* lower-case hex, even number of digits, '-' when negative */
    double not_before, not_after;
    sr_sans sans;
    sr_key_info key;
    const char *signature_algorithm; /* "ecdsa-with-SHA256" */
    char spki_sha256[65], sha256[65], sha1[41];
    bool is_ca;
    int path_len; /* -1: no limit */
    sr_words key_usage, ext_key_usage;
    const char *aki, *ski; /* hex */
    sr_words ocsp_urls, ca_issuers, crl_urls, policies;
    const char *validation; /* "dv" "ov" "iv" "ev" by the CA/Browser Forum's OIDs */
    bool must_staple;       /* RFC 7633 with status_request */
    int scts;
    bool self_signed;   /* its own key made its signature */
    const char *ari_id; /* RFC 9773 4.1, NULL without an AKI */
    sr_extensions extensions;
    sr_words broken;
} sr_cert_info;

/* Errors: usage/BAD_CERT when the key or the times cannot be decoded. */
int sr_cert_info_read(X509 *cert, sr_cert_info *ret_info, sr_err *err);
void sr_cert_info_free(sr_cert_info *info);

/* The first certificate of a PEM text or DER bytes. */
int sr_cert_read(const void *data, size_t len, X509 **ret_cert, sr_err *err);
/* All of them, in the order of the file; also from PKCS#7 (PEM or DER). At least one. */
int sr_chain_read(const void *data, size_t len, STACK_OF(X509) * *ret_chain, sr_err *err);
int sr_cert_pem(X509 *cert, sr_buf *buf, sr_err *err);
int sr_cert_der(X509 *cert, sr_buf *buf, sr_err *err);
/* Append bytes that OpenSSL encoded and free them; label NULL: as DER, else as PEM. */
int sr_pki_put_der(sr_buf *buf, const char *label, unsigned char *der, int len,
                   sr_err *err);
/* From UTC seconds between 1950 and 9999; NULL on failure. */
ASN1_TIME *sr_pki_time_new(double when, sr_err *err);
int sr_pki_check_time(double when, sr_err *err);
/* UTC seconds; 0 or -1. */
int sr_pki_time(const ASN1_TIME *time, double *ret_seconds);

/* Shared by certificates, requests and lists. */
void sr_extensions_read(const STACK_OF(X509_EXTENSION) * list, sr_arena *arena,
                        sr_extensions *ret_extensions);
bool sr_tls_feature_has_staple(const TLS_FEATURE *features);
const char *sr_pki_object_name(const ASN1_OBJECT *object, sr_arena *arena);
const char *sr_pki_octets_hex(const ASN1_OCTET_STRING *octets, sr_arena *arena);
void sr_pki_spki_hex(const X509_PUBKEY *pubkey, char ret_hex[65]);
const char *sr_pki_integer_hex(const ASN1_INTEGER *number, sr_arena *arena);

/* ---------------------------------------------------------------- building (ext.c)
 *
 * What requests and certificates have in common. Strings and arrays are borrowed.
 */
typedef struct sr_extension_spec {
    const char *oid; /* short name or dotted */
    bool critical;
    const char *der; /* the value's DER, or NULL and */
    size_t der_len;
    const char *value; /* OpenSSL's text form: "permitted;DNS:example.com" */
} sr_extension_spec;

typedef struct sr_subject_spec {
    const sr_attribute *subject;
    size_t subject_count;
    const sr_san *sans;
    size_t san_count;
    bool must_staple;
    bool has_key_usage, has_ext_key_usage; /* else the defaults */
    sr_words key_usage, ext_key_usage;
    const sr_extension_spec *extensions; /* win over those made from the fields above */
    size_t extension_count;
} sr_subject_spec;

/* The extensions asked for, without those that only a certificate has. */
int sr_extensions_build(const sr_subject_spec *spec, X509V3_CTX *ctx,
                        STACK_OF(X509_EXTENSION) * *ret_list, sr_err *err);

/* ---------------------------------------------------------------- requests (csr.c) */

#define SR_CSR_TYPE "x509.csr"

typedef struct sr_csr_info {
    sr_arena arena;
    sr_dn subject;
    sr_sans sans;
    sr_key_info key;
    const char *signature_algorithm;
    char spki_sha256[65];
    bool must_staple;
    sr_extensions extensions;
} sr_csr_info;

/* An unsigned request of this key; no CN unless asked for. */
int sr_csr_build(const sr_subject_spec *spec, const sr_key *key, X509_REQ **ret_csr,
                 sr_err *err);
int sr_csr_sign(X509_REQ *csr, const sr_key *key, const char *hash, sr_err *err);
int sr_csr_read(const void *data, size_t len, X509_REQ **ret_csr, sr_err *err);
/* 1: its own key signed it; 0: not; -1: could not be checked. */
int sr_csr_verify(X509_REQ *csr, sr_err *err);
int sr_csr_der(X509_REQ *csr, sr_buf *buf, sr_err *err);
int sr_csr_pem(X509_REQ *csr, sr_buf *buf, sr_err *err);
int sr_csr_info_read(X509_REQ *csr, sr_csr_info *ret_info, sr_err *err);
void sr_csr_info_free(sr_csr_info *info);

/* ---------------------------------------------------------------- signing (sign.c) */

typedef struct sr_cert_spec {
    sr_subject_spec what;
    X509 *issuer;         /* NULL: self-signed */
    EVP_PKEY *public_key; /* of the new certificate */
    const char *serial;   /* hex; NULL: random, 127 bits */
    double not_before, not_after;
    bool is_ca;
    int path_len; /* -1: no limit */
} sr_cert_spec;

/* An unsigned certificate. Adds basic constraints, SKI, AKI and, unless given, the usual
 * key usages. */
int sr_cert_build(const sr_cert_spec *spec, X509 **ret_cert, sr_err *err);
/* key must be the issuer's, which the caller checks with sr_issuer_check(). */
int sr_cert_sign(X509 *cert, const sr_key *key, const char *hash, sr_err *err);
/* The issuer (NULL: self-signed) is a CA and the key is its own, or usage. */
int sr_issuer_check(X509 *issuer, const sr_key *key, sr_err *err);
/* A serial number from hex text. */
ASN1_INTEGER *sr_pki_serial(const char *hex, sr_err *err);

/* ---------------------------------------------------------------- lists (crl.c) */

#define SR_CRL_TYPE "x509.crl"

typedef struct sr_revoked {
    const char *serial; /* hex */
    double when;
    const char *reason; /* RFC 5280 name, NULL: none */
} sr_revoked;

typedef struct sr_crl_spec {
    X509 *issuer;
    const sr_revoked *revoked;
    size_t revoked_count;
    double this_update, next_update;
    const char *number; /* hex; NULL: none */
} sr_crl_spec;

typedef struct sr_crl_info {
    sr_arena arena;
    sr_dn issuer;
    double this_update, next_update; /* next_update 0: absent */
    const char *number, *aki;        /* hex, NULL: absent */
    const char *signature_algorithm;
    sr_revoked *revoked;
    size_t revoked_count;
} sr_crl_info;

int sr_crl_build(const sr_crl_spec *spec, X509_CRL **ret_crl, sr_err *err);
int sr_crl_sign(X509_CRL *crl, const sr_key *key, const char *hash, sr_err *err);
int sr_crl_read(const void *data, size_t len, X509_CRL **ret_crl, sr_err *err);
int sr_crl_der(X509_CRL *crl, sr_buf *buf, sr_err *err);
int sr_crl_pem(X509_CRL *crl, sr_buf *buf, sr_err *err);
int sr_crl_info_read(X509_CRL *crl, sr_crl_info *ret_info, sr_err *err);
void sr_crl_info_free(sr_crl_info *info);

/* ---------------------------------------------------------------- chains (chain.c) */

#define SR_CHAIN_MAX 50 /* certificates that order and verify look at */

/* Sort certificates leaf first, each followed by its issuer (name, key id and signature
 * are checked); duplicates are dropped, those that do not belong go to ret_unused. The
 * path is complete when its last certificate is self-signed. */
int sr_chain_order(const STACK_OF(X509) * certs, STACK_OF(X509) * *ret_path,
                   STACK_OF(X509) * *ret_unused, sr_err *err);

typedef struct sr_verify_spec {
    X509 *cert;
    const STACK_OF(X509) * chain;    /* intermediates in any order, or NULL */
    const STACK_OF(X509) * roots;    /* trust anchors; NULL: those of the system */
    const STACK_OF(X509_CRL) * crls; /* NULL: no revocation check */
    const char *name;                /* host name or address it must cover, or NULL */
    const char *purpose;             /* "server" "client" "any" */
    double at;                       /* UTC seconds */
} sr_verify_spec;

/* Build and verify the path (RFC 5280 section 6) at the given time. Errors: tls with code
 * X509_V_ERR_… and the certificate and the mend in the message. With lists, the leaf must
 * be covered by one; for its issuers they are used where given. Thread-safe. */
int sr_chain_verify(const sr_verify_spec *spec, STACK_OF(X509) * *ret_path, sr_err *err);

/* ---------------------------------------------------------------- bundles (bundle.c) */

typedef struct sr_pkcs12 {
    sr_key key;             /* may be empty */
    X509 *cert;             /* the key's own, may be NULL */
    STACK_OF(X509) * chain; /* the others; may be NULL */
    char name[128];         /* friendly name */
} sr_pkcs12;

/* Append a PKCS#12 file (RFC 7292). legacy: 3DES and SHA-1 for old Java, Windows and
 * appliances; otherwise AES-256-CBC, PBKDF2-HMAC-SHA256, SHA-256 MAC. Takes a moment. */
int sr_pkcs12_write(const sr_pkcs12 *p12, const char *password, bool legacy, sr_buf *buf,
                    sr_err *err);
/* Also of RC2 and other ciphers that only the legacy provider has. Errors:
 * auth/WRONG_PASSWORD, usage/BAD_PKCS12, limit/TOO_MANY_ROUNDS. */
int sr_pkcs12_read(const void *data, size_t len, const char *password, sr_pkcs12 *ret_p12,
                   sr_err *err);
void sr_pkcs12_clear(sr_pkcs12 *p12);

/* ---------------------------------------------------------------- in Lua (x509*.c) */

/* The userdata of the metatables named above. The info is decoded at its first use. */
typedef struct sr_cert {
    X509 *x509; /* NULL: closed */
    bool decoded;
    sr_cert_info info;
} sr_cert;

typedef struct sr_csr {
    X509_REQ *req;
    bool decoded;
    sr_csr_info info;
} sr_csr;

typedef struct sr_crl {
    X509_CRL *crl;
    bool decoded;
    sr_crl_info info;
} sr_crl;

/* The open certificate at idx; raises a usage error otherwise. */
sr_cert *sr_check_cert(lua_State *L, int idx);
/* Its decoded fields, valid while it is on the stack; raises when they cannot be. */
const sr_cert_info *sr_check_cert_info(lua_State *L, int idx);
/* Push a userdata with a reference of its own. */
void sr_push_cert(lua_State *L, X509 *cert);

/* The open key at idx; raises a usage error otherwise. Valid while it is on the stack. */
sr_key *sr_check_key(lua_State *L, int idx);
/* Push a userdata that takes over *key (which becomes empty). */
void sr_push_key(lua_State *L, sr_key *key);

int luaopen_x509(lua_State *L);

#endif
