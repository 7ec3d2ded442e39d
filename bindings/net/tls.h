/* tls.h – TLS over memory: bytes in, bytes out, no socket, no loop, no Lua.
 *
 * Three nouns:
 *   trust    an X509_STORE, built once per CA set and shared by everybody who verifies;
 *   sr_tls_ctx  how to speak: role, verification, identities, ALPN, versions; shared and
 *            reference-counted, not changed once connections use it;
 *   sr_tls   one connection. The owner feeds what the transport received, takes what the
 *            transport shall send, and reads and writes plaintext in between.
 *
 * Always: TLS 1.2 or newer, no renegotiation, no compression, no session resumption (a
 * resumed session would skip the verification of certificates), certificates verified at
 * the instant the owner gives (sr_now), never at the system's own time.
 *
 * Everything here runs on the loop's thread.
 */
#ifndef SR_NET_TLS_H
#define SR_NET_TLS_H

#include <openssl/ssl.h>

#include "secrun.h"

typedef struct sr_tls_ctx sr_tls_ctx;
typedef struct sr_tls sr_tls;

/* ---------------------------------------------------------------- trust (tls_trust.c)
 *
 * Each returns a reference of the caller (X509_STORE_free), or NULL and an error. The
 * same CA set gives the same store as long as it is unchanged. */

/* The system's bundle: /etc/ssl/certs/ca-certificates.crt or what stands for it. */
X509_STORE *sr_tls_trust_system(sr_err *err);
/* A file of PEM certificates; read again when it changed. Errors: not_found, io, usage.
 */
X509_STORE *sr_tls_trust_file(const char *path, sr_err *err);
/* PEM text. Certificates given so are trusted as they are, be they root or not. */
X509_STORE *sr_tls_trust_pem(const char *pem, size_t len, sr_err *err);

/* ---------------------------------------------------------------- context (tls_ctx.c) */

typedef enum sr_tls_auth {
    SR_TLS_AUTH_NONE,    /* the server asks for no client certificate */
    SR_TLS_AUTH_REQUEST, /* asks; takes connections without one */
    SR_TLS_AUTH_REQUIRE  /* refuses connections without one */
} sr_tls_auth;

/* A context with the defaults: verify, TLS 1.2, no ALPN, no identity. NULL: no memory. */
sr_tls_ctx *sr_tls_ctx_new(bool server);
sr_tls_ctx *sr_tls_ctx_ref(sr_tls_ctx *ctx);
void sr_tls_ctx_unref(sr_tls_ctx *ctx); /* NULL is fine */

/* Verify against this store (its own reference is taken). Without it a client uses the
 * system's bundle and a server refuses to verify client certificates. */
void sr_tls_ctx_trust(sr_tls_ctx *ctx, X509_STORE *store);
/* false: take any certificate of the peer. Its fault is still noted, see sr_tls_info. */
void sr_tls_ctx_verify(sr_tls_ctx *ctx, bool verify);
void sr_tls_ctx_client_auth(sr_tls_ctx *ctx, sr_tls_auth auth);
/* Take an end of the connection without close_notify as a clean end. */
void sr_tls_ctx_allow_truncated(sr_tls_ctx *ctx, bool allow);
/* "1.2" or "1.3"; NULL leaves the bound as it is. Error: usage. */
int sr_tls_ctx_versions(sr_tls_ctx *ctx, const char *min, const char *max, sr_err *err);
/* Append one protocol, most wanted first. Error: usage (empty, over 255 bytes). */
int sr_tls_ctx_alpn(sr_tls_ctx *ctx, const char *protocol, sr_err *err);
/* Add a certificate with its key and the chain below the root (may be NULL); references
 * are taken. A server picks by the client's server name, exact names before wildcards,
 * the first identity if none fits (RFC 6066 section 3). Error: usage (key mismatch). */
int sr_tls_ctx_identity(sr_tls_ctx *ctx, X509 *cert, STACK_OF(X509) * chain,
                        EVP_PKEY *key, sr_err *err);
/* The same from PEM: the certificate first, its chain after it; passphrase may be NULL.
 */
int sr_tls_ctx_identity_pem(sr_tls_ctx *ctx, const char *cert, size_t cert_len,
                            const char *key, size_t key_len, const char *passphrase,
                            sr_err *err);
/* The same with a key object. */
int sr_tls_ctx_identity_key(sr_tls_ctx *ctx, const char *cert, size_t cert_len,
                            EVP_PKEY *key, sr_err *err);
/* Is it complete? A server without an identity is not. Call once after the setters. */
int sr_tls_ctx_check(sr_tls_ctx *ctx, sr_err *err);
bool sr_tls_ctx_is_server(const sr_tls_ctx *ctx);

/* ---------------------------------------------------------------- connection (tls.c) */

typedef enum sr_tls_result {
    SR_TLS_FAILED =
        -1,          /* see err; what sr_tls_take gives (an alert) should still go out */
    SR_TLS_MORE = 0, /* feed more ciphertext first */
    SR_TLS_DONE = 1,
    SR_TLS_END = 2 /* the peer said goodbye */
} sr_tls_result;

/* Ciphertext held at most on the way in and on the way out. */
#define SR_TLS_IN_MAX ((size_t)192 * 1024)
#define SR_TLS_OUT_MAX ((size_t)192 * 1024)

/* Start a connection.
 *   peer  for messages: "www.example.com:443" or the address of the client
 *   name  client only: the name or address that the certificate must carry; a name is
 * also sent as SNI. NULL: no SNI, and verification checks the chain only. now   UTC
 * seconds at which certificates are judged. */
sr_tls *sr_tls_new(sr_tls_ctx *ctx, const char *peer, const char *name, double now,
                   sr_err *err);
void sr_tls_free(sr_tls *tls); /* NULL is fine */

size_t sr_tls_room(const sr_tls *tls); /* bytes that sr_tls_feed takes at once */
/* Hand over received ciphertext. Returns the bytes taken, at most sr_tls_room. */
size_t sr_tls_feed(sr_tls *tls, const void *data, size_t len);
/* The transport ended: nothing will be fed any more. */
void sr_tls_eof(sr_tls *tls);
size_t sr_tls_pending(const sr_tls *tls); /* ciphertext waiting to go out */
/* Append all of it to out. 0 or -1 (no memory). */
int sr_tls_take(sr_tls *tls, sr_buf *out);

/* Go on with the handshake. Error kind tls; code X509_V_ERR_… or the alert's name. */
sr_tls_result sr_tls_handshake(sr_tls *tls, sr_err *err);
/* Read up to size bytes of plaintext; finishes the handshake first. An end of transport
 * without close_notify fails with code "truncated" (RFC 8446 section 6.1). */
sr_tls_result sr_tls_read(sr_tls *tls, void *data, size_t size, size_t *ret_len,
                          sr_err *err);
/* Encrypt as much as SR_TLS_OUT_MAX allows; *ret_len may be less than len. 0 or -1. */
int sr_tls_write(sr_tls *tls, const void *data, size_t len, size_t *ret_len, sr_err *err);
/* Queue our close_notify; writing is over, reading goes on. */
void sr_tls_shutdown(sr_tls *tls);

typedef struct sr_tls_info {
    bool open;              /* the handshake is done */
    const char *version;    /* "TLSv1.3" */
    const char *cipher;     /* "TLS_AES_256_GCM_SHA384" */
    const char *alpn;       /* NULL: none agreed */
    const char *servername; /* as sent or received; NULL: none */
    bool verified;          /* the peer showed a certificate and it is good */
    const char *verify_code; /* X509_V_ERR_…, when it showed one that is not; else NULL */
} sr_tls_info;

/* Strings are valid as long as tls is, alpn until the next call. */
void sr_tls_get_info(const sr_tls *tls, sr_tls_info *ret_info);
/* The peer's certificates as sent, leaf first: 0 … n-1; NULL beyond. Borrowed. */
X509 *sr_tls_peer_cert(const sr_tls *tls, size_t index);
/* For what this header lacks (stapled OCSP, exporters). Do no I/O on it. */
SSL *sr_tls_ssl(sr_tls *tls);

/* ---------------------------------------------------------------- errors (tls_err.c) */

/* "X509_V_ERR_CERT_HAS_EXPIRED" for 10. */
const char *sr_tls_verify_name(int x509_code);
/* What to do about a code (verification or alert name), or NULL. */
const char *sr_tls_mend(const char *code);
/* Fill err from a failed certificate verification. */
int sr_tls_fail_verify(sr_err *err, const char *peer, const char *name, int x509_code,
                       X509 *cert);
/* Fill err from OpenSSL's error queue, which is emptied. */
int sr_tls_fail_queue(sr_err *err, const char *peer, bool handshake);

#endif
