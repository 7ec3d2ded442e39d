/* tls_err.c – TLS failures in words: what happened, with whom, and what to do.
 *
 * The code of such an error is the name of OpenSSL's verification result
 * (X509_V_ERR_CERT_HAS_EXPIRED), of the alert that the peer sent (unknown_ca), or of
 * OpenSSL's own reason (wrong_version_number), always without spaces.
 */
#include "tls.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

typedef struct fault {
    int code;
    const char *name;
    const char *mend;
} fault;

#define FAULT(code, mend)                                                                \
    { code, #code, mend }

static const char other_name[] = "connect by a name that is in it, or set servername";
static const char give_ca[] = "if you trust it, give it as ca = …";
static const char no_chain[] =
    "the peer must send its whole chain, or its CA be given as ca = …";
static const char replace[] = "the peer needs another certificate";

static const fault faults[] = {
    FAULT(X509_V_ERR_CERT_HAS_EXPIRED, "renew it, or check this machine's clock"),
    FAULT(X509_V_ERR_CERT_NOT_YET_VALID, "check the clocks of both machines"),
    FAULT(X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, give_ca),
    FAULT(X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
          "if you trust that root, give it as ca = …"),
    FAULT(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, no_chain),
    FAULT(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, no_chain),
    FAULT(X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, no_chain),
    FAULT(X509_V_ERR_HOSTNAME_MISMATCH, other_name),
    FAULT(X509_V_ERR_IP_ADDRESS_MISMATCH, other_name),
    FAULT(X509_V_ERR_CERT_REVOKED, "replace it at once"),
    FAULT(X509_V_ERR_CERT_SIGNATURE_FAILURE, replace),
    FAULT(X509_V_ERR_CERT_CHAIN_TOO_LONG, replace),
    FAULT(X509_V_ERR_INVALID_CA, "the chain runs through a certificate that is no CA"),
    FAULT(X509_V_ERR_PATH_LENGTH_EXCEEDED, "the CA may not have issued it; ask the CA"),
    FAULT(X509_V_ERR_INVALID_PURPOSE, "it lacks the extended key usage for this role"),
    FAULT(X509_V_ERR_CERT_UNTRUSTED, give_ca),
    FAULT(X509_V_ERR_CERT_REJECTED, replace),
    FAULT(X509_V_ERR_EE_KEY_TOO_SMALL,
          "its key is too short; issue it with a longer key"),
    FAULT(X509_V_ERR_CA_KEY_TOO_SMALL, "the CA's key is too short"),
    FAULT(X509_V_ERR_CA_MD_TOO_WEAK, "it is signed with a broken digest; issue it anew"),
    FAULT(X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION, replace),
    FAULT(X509_V_ERR_PERMITTED_VIOLATION, "the CA may not issue for this name"),
    FAULT(X509_V_ERR_EXCLUDED_VIOLATION, "the CA may not issue for this name"),
    {0, NULL, NULL}};

typedef struct mend {
    const char *code, *text;
} mend;

static const mend mends[] = {
    {"wrong_version_number",
     "the peer does not speak TLS on this port; check the port, or use starttls"},
    {"http_request", "the peer sent plain HTTP to a TLS port; use https"},
    {"unsupported_protocol",
     "the peer speaks older TLS versions only; it must be updated"},
    {"protocol_version", "both sides must share a TLS version; check min_version"},
    {"no_application_protocol", "no ALPN protocol in common; check alpn on both sides"},
    {"no_shared_cipher", "no cipher in common; check the type of the server's key"},
    {"handshake_failure",
     "the peer accepts none of our parameters or wants a certificate"},
    {"peer_did_not_return_a_certificate", "the client must show a certificate"},
    {"certificate_required", "the peer wants a client certificate; give cert and key"},
    {"unknown_ca", "the peer does not trust the CA of our certificate"},
    {"bad_certificate", "the peer refuses our certificate"},
    {"certificate_unknown", "the peer refuses our certificate"},
    {"certificate_expired", "our certificate has expired; renew it"},
    {"certificate_revoked", "our certificate is revoked; replace it"},
    {"unsupported_certificate", "our certificate is not made for this use"},
    {"unrecognized_name", "the peer does not serve this name; check servername"},
    {"truncated", "the data may be cut off; allow_truncated takes it as an end"},
    {"closed", "it may refuse this client, or not speak TLS; see its log"},
    {NULL, NULL}};

static const fault *fault_of(int x509_code) {
    for (const fault *f = faults; f->name; f++)
        if (f->code == x509_code) return f;
    return NULL;
}

const char *sr_tls_verify_name(int x509_code) {
    static _Thread_local char number[32];
    const fault *f = fault_of(x509_code);
    if (f) return f->name;
    snprintf(number, sizeof number, "X509_V_ERR_%d", x509_code);
    return number;
}

const char *sr_tls_mend(const char *code) {
    for (const mend *m = mends; m->code; m++)
        if (strcmp(m->code, code) == 0) return m->text;
    for (const fault *f = faults; f->name; f++)
        if (strcmp(f->name, code) == 0) return f->mend;
    return NULL;
}

/* ---------------------------------------------------------------- certificates */

/* "CN=example.com, O=Example" in at most size bytes. */
static void subject_text(X509 *cert, char *buf, size_t size) {
    BIO *bio = BIO_new(BIO_s_mem());
    int n = 0;
    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0,
                                  XN_FLAG_ONELINE & ~XN_FLAG_SPC_EQ) >= 0)
        n = BIO_read(bio, buf, (int)size - 1);
    buf[n > 0 ? n : 0] = 0;
    BIO_free(bio);
}

/* ", valid until …" or ", for a, b": what the reader needs to see for this code. */
static void detail_text(int code, X509 *cert, char *buf, size_t size) {
    struct tm tm;
    bool late = code == X509_V_ERR_CERT_HAS_EXPIRED;
    buf[0] = 0;
    if (late || code == X509_V_ERR_CERT_NOT_YET_VALID) {
        const ASN1_TIME *t = late ? X509_get0_notAfter(cert) : X509_get0_notBefore(cert);
        if (ASN1_TIME_to_tm(t, &tm))
            snprintf(buf, size, " (%s %04d-%02d-%02dT%02d:%02d:%02dZ)",
                     late ? "not after" : "not before", tm.tm_year + 1900, tm.tm_mon + 1,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        return;
    }
    if (code != X509_V_ERR_HOSTNAME_MISMATCH) return;
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    size_t used = 0;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names) && used + 1 < size; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS) continue;
        int n = snprintf(buf + used, size - used, "%s%.*s", used ? ", " : " (for ",
                         ASN1_STRING_length(name->d.dNSName),
                         (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        used += n > 0 ? (size_t)n : 0;
    }
    if (used) snprintf(buf + (used < size - 2 ? used : size - 2), 2, ")");
    GENERAL_NAMES_free(names);
}

int sr_tls_fail_verify(sr_err *err, const char *peer, const char *name, int x509_code,
                       X509 *cert) {
    char subject[120] = "", detail[120] = "";
    const char *code = sr_tls_verify_name(x509_code), *advice = sr_tls_mend(code);
    bool names = x509_code == X509_V_ERR_HOSTNAME_MISMATCH ||
                 x509_code == X509_V_ERR_IP_ADDRESS_MISMATCH;
    if (cert) {
        subject_text(cert, subject, sizeof subject);
        detail_text(x509_code, cert, detail, sizeof detail);
    }
    return sr_fail(err, SR_TLS, code, "TLS with %s: certificate \"%s\"%s: %s%s%s%s%s",
                   peer, subject, detail, X509_verify_cert_error_string(x509_code),
                   names ? " with " : "", names && name ? name : "", advice ? "; " : "",
                   advice ? advice : "");
}

/* ---------------------------------------------------------------- OpenSSL's queue */

/* "no shared cipher" → "no_shared_cipher". */
static void code_text(const char *words, char *buf, size_t size) {
    size_t i = 0;
    for (; words[i] && i + 1 < size; i++)
        buf[i] = isalnum((unsigned char)words[i]) ? (char)tolower((unsigned char)words[i])
                                                  : '_';
    buf[i] = 0;
}

/* The name of a received alert. OpenSSL 3.0 does not know TLS 1.3's in one of its two
 * lists. */
static const char *alert_text(unsigned long e) {
    const char *name =
        SSL_alert_desc_string_long(ERR_GET_REASON(e) - SSL_AD_REASON_OFFSET);
    if (strcmp(name, "unknown") != 0) return name;
    const char *reason = ERR_reason_error_string(e);
    const char *rest = reason ? strstr(reason, "alert ") : NULL;
    return rest ? rest + 6 : reason;
}

int sr_tls_fail_queue(sr_err *err, const char *peer, bool handshake) {
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_REASON(e);
    bool alert = ERR_GET_LIB(e) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET;
    bool cut =
        ERR_GET_LIB(e) == ERR_LIB_SSL && reason == SSL_R_UNEXPECTED_EOF_WHILE_READING;
    char code[64];
    const char *words = alert ? alert_text(e) : ERR_reason_error_string(e);
    ERR_clear_error();
    if (!words) words = "the connection failed";
    if (cut || e == 0) {
        snprintf(code, sizeof code, handshake ? "closed" : "truncated");
        words = handshake ? "the peer closed the connection during the handshake"
                          : "the connection ended without close_notify";
    } else {
        code_text(words, code, sizeof code);
    }
    const char *advice = sr_tls_mend(code);
    return sr_fail(err, SR_TLS, code, "TLS with %s: %s%s%s%s", peer,
                   alert ? "the peer says: " : "", words, advice ? "; " : "",
                   advice ? advice : "");
}
