/* cert.c – certificates read, and everything a script asks of them.
 *
 * sr_cert_info_read() decodes each field once into plain C values. It never trusts the
 * certificate: counts come from the decoder, texts are copied with their length, an
 * extension that does not decode is reported by name and otherwise treated as absent.
 * Whether a certificate is any good is decided in chain.c, not here.
 */
#include "pki.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/ct.h>
#include <openssl/err.h>
#include <openssl/pkcs7.h>

#define FIRST_TIME (-631152000.0) /* 1950, the first year of UTCTime */
#define LAST_TIME 253402300799.0  /* 9999-12-31T23:59:59Z */

/* ---------------------------------------------------------------- reading files */

static int bad_cert(sr_err *err, const char *what) {
    return sr_pki_fail(err, SR_USAGE, "BAD_CERT", "%s", what);
}

static X509 *decode_cert(const unsigned char *der, size_t len, bool trusted) {
    const unsigned char *p = der;
    X509 *cert =
        trusted ? d2i_X509_AUX(NULL, &p, (long)len) : d2i_X509(NULL, &p, (long)len);
    if (cert && p != der + len) {
        X509_free(cert);
        cert = NULL;
    }
    return cert;
}

static int push_cert(STACK_OF(X509) * chain, X509 *cert, sr_err *err) {
    if (!cert)
        return bad_cert(err, "a certificate is damaged or followed by foreign bytes");
    if (sk_X509_num(chain) >= SR_PKI_MAX_CERTS || !sk_X509_push(chain, cert)) {
        X509_free(cert);
        return sr_fail(err, SR_LIMIT, "TOO_MANY", "more than %d certificates in one file",
                       SR_PKI_MAX_CERTS);
    }
    return 0;
}

static int push_pkcs7(STACK_OF(X509) * chain, const unsigned char *der, size_t len,
                      sr_err *err) {
    const unsigned char *p = der;
    PKCS7 *p7 = d2i_PKCS7(NULL, &p, (long)len);
    bool good = p7 && p == der + len && PKCS7_type_is_signed(p7) && p7->d.sign;
    const STACK_OF(X509) *certs = good ? p7->d.sign->cert : NULL;
    int rc =
        good ? 0 : bad_cert(err, "the PKCS#7 file is damaged or holds no certificates");
    for (int i = 0; rc == 0 && i < sk_X509_num(certs); i++) {
        X509 *cert = sk_X509_value(certs, i);
        X509_up_ref(cert);
        rc = push_cert(chain, cert, err);
    }
    PKCS7_free(p7);
    return rc;
}

/* Take the certificates of one PEM block, if it is of that sort. */
static int push_block(STACK_OF(X509) * chain, const sr_pem *pem, sr_err *err) {
    const unsigned char *der = (const unsigned char *)pem->der.data;
    bool trusted = strcmp(pem->label, "TRUSTED CERTIFICATE") == 0;
    if (strcmp(pem->label, "PKCS7") == 0)
        return push_pkcs7(chain, der, pem->der.len, err);
    if (!trusted && strcmp(pem->label, "CERTIFICATE") != 0 &&
        strcmp(pem->label, "X509 CERTIFICATE") != 0)
        return 0;
    return push_cert(chain, decode_cert(der, pem->der.len, trusted), err);
}

static int read_pem(const char *data, size_t len, int most, STACK_OF(X509) * chain,
                    sr_err *err) {
    sr_pem pem = {.next = data, .end = data + len};
    int found, rc = 0;
    while (rc == 0 && sk_X509_num(chain) < most && (found = sr_pem_next(&pem, err)) != 0)
        rc = found < 0 ? -1 : push_block(chain, &pem, err);
    sr_pem_free(&pem);
    return rc;
}

/* A certificate, else a PKCS#7; the error is that of the certificate. */
static int read_der(const unsigned char *data, size_t len, STACK_OF(X509) * chain,
                    sr_err *err) {
    sr_err first = {0}, second = {0};
    X509 *cert = decode_cert(data, len, false);
    if (cert) return push_cert(chain, cert, err);
    bad_cert(&first, "the DER bytes are no certificate, or more follows it");
    if (push_pkcs7(chain, data, len, &second) == 0) return 0;
    *err = first;
    return -1;
}

/* At most `most` certificates (but all of a PKCS#7), at least one. */
static int read_some(const void *data, size_t len, int most, STACK_OF(X509) * *ret_chain,
                     sr_err *err) {
    if (len > SR_PKI_MAX_INPUT)
        return sr_fail(err, SR_LIMIT, "TOO_LARGE",
                       "certificate file of %zu bytes; at most %u are read", len,
                       SR_PKI_MAX_INPUT);
    STACK_OF(X509) *chain = sk_X509_new_null();
    if (!chain) return sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    ERR_clear_error();
    bool der = len > 1 && *(const unsigned char *)data == 0x30 &&
               !memmem(data, len, "-----BEGIN ", 11);
    int rc =
        der ? read_der(data, len, chain, err) : read_pem(data, len, most, chain, err);
    if (rc == 0 && sk_X509_num(chain) == 0)
        rc = bad_cert(err,
                      "no certificate found: expected a \"-----BEGIN CERTIFICATE-----\" "
                      "block or DER bytes");
    ERR_clear_error();
    if (rc < 0) {
        sk_X509_pop_free(chain, X509_free);
        return -1;
    }
    *ret_chain = chain;
    return 0;
}

int sr_cert_read(const void *data, size_t len, X509 **ret_cert, sr_err *err) {
    STACK_OF(X509) *chain = NULL;
    if (read_some(data, len, 1, &chain, err) < 0) return -1;
    *ret_cert = sk_X509_shift(chain);
    sk_X509_pop_free(chain, X509_free);
    return 0;
}

int sr_chain_read(const void *data, size_t len, STACK_OF(X509) * *ret_chain,
                  sr_err *err) {
    return read_some(data, len, SR_PKI_MAX_CERTS + 1, ret_chain, err);
}

int sr_pki_put_der(sr_buf *buf, const char *label, unsigned char *der, int len,
                   sr_err *err) {
    int rc;
    if (len <= 0)
        rc = sr_pki_fail(err, SR_INTERNAL, NULL, "an object cannot be encoded");
    else if ((label ? sr_pem_write(buf, label, der, (size_t)len)
                    : sr_buf_append(buf, der, (size_t)len)) < 0)
        rc = sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    else
        rc = 0;
    OPENSSL_free(der);
    return rc;
}

int sr_cert_der(X509 *cert, sr_buf *buf, sr_err *err) {
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    return sr_pki_put_der(buf, NULL, der, len, err);
}

int sr_cert_pem(X509 *cert, sr_buf *buf, sr_err *err) {
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    return sr_pki_put_der(buf, "CERTIFICATE", der, len, err);
}

/* ---------------------------------------------------------------- simple values */

int sr_pki_time(const ASN1_TIME *time, double *ret_seconds) {
    struct tm tm;
    if (!time || ASN1_TIME_to_tm(time, &tm) != 1) return -1;
    *ret_seconds = (double)timegm(&tm);
    return 0;
}

int sr_pki_check_time(double when, sr_err *err) {
    if (when >= FIRST_TIME && when <= LAST_TIME) return 0; /* false for NaN */
    return sr_fail(err, SR_USAGE, "BAD_TIME", "a time of %g is outside 1950 to 9999",
                   when);
}

ASN1_TIME *sr_pki_time_new(double when, sr_err *err) {
    if (sr_pki_check_time(when, err) < 0) return NULL;
    ASN1_TIME *time = ASN1_TIME_set(NULL, (time_t)when);
    if (!time) sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    return time;
}

const char *sr_pki_integer_hex(const ASN1_INTEGER *number, sr_arena *arena) {
    BIGNUM *bn = ASN1_INTEGER_to_BN(number, NULL);
    char *hex = bn ? BN_bn2hex(bn) : NULL;
    for (char *p = hex; p && *p; p++)
        if (*p >= 'A' && *p <= 'F') *p |= 0x20;
    const char *text = hex ? sr_arena_text(arena, hex, strlen(hex)) : "";
    OPENSSL_free(hex);
    BN_free(bn);
    return text;
}

const char *sr_pki_octets_hex(const ASN1_OCTET_STRING *octets, sr_arena *arena) {
    if (!octets) return NULL;
    size_t len = (size_t)ASN1_STRING_length(octets);
    char *text = sr_arena_alloc(arena, len * 2 + 1);
    if (text) sr_pki_hex_text(text, ASN1_STRING_get0_data(octets), len);
    return text;
}

static void digest_hex(X509 *cert, const EVP_MD *md, char *ret_hex) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    X509_digest(cert, md, digest, &len);
    sr_pki_hex_text(ret_hex, digest, len);
}

/* Over the SubjectPublicKeyInfo as it stands, also of keys that OpenSSL cannot use. */
void sr_pki_spki_hex(const X509_PUBKEY *pubkey, char ret_hex[65]) {
    unsigned char digest[32], *der = NULL;
    int len = i2d_X509_PUBKEY(pubkey, &der);
    if (len > 0 && EVP_Digest(der, (size_t)len, digest, NULL, EVP_sha256(), NULL))
        sr_pki_hex_text(ret_hex, digest, sizeof digest);
    OPENSSL_free(der);
}

static const char *oid_text(const ASN1_OBJECT *object, sr_arena *arena) {
    char oid[256];
    int len = OBJ_obj2txt(oid, sizeof oid, object, 1);
    return sr_arena_text(arena, oid, len > 0 ? strlen(oid) : 0);
}

const char *sr_pki_object_name(const ASN1_OBJECT *object, sr_arena *arena) {
    int nid = OBJ_obj2nid(object);
    return nid != NID_undef ? OBJ_nid2sn(nid) : oid_text(object, arena);
}

/* ---------------------------------------------------------------- lists of words */

static void words_room(sr_words *words, sr_arena *arena, int count) {
    words->items =
        count > 0 ? sr_arena_alloc(arena, sizeof(char *) * (size_t)count) : NULL;
    words->count = 0;
}

static void words_add(sr_words *words, const char *word) {
    if (words->items && word) words->items[words->count++] = word;
}

static void read_key_usage(X509 *cert, sr_cert_info *info) {
    static const char *const names[] = {
        "digitalSignature", "nonRepudiation", "keyEncipherment",
        "dataEncipherment", "keyAgreement",   "keyCertSign",
        "cRLSign",          "encipherOnly",   "decipherOnly"};
    ASN1_BIT_STRING *bits = X509_get_ext_d2i(cert, NID_key_usage, NULL, NULL);
    words_room(&info->key_usage, &info->arena, bits ? 9 : 0);
    for (int i = 0; bits && i < 9; i++)
        if (ASN1_BIT_STRING_get_bit(bits, i)) words_add(&info->key_usage, names[i]);
    ASN1_BIT_STRING_free(bits);
}

static void read_ext_key_usage(X509 *cert, sr_cert_info *info) {
    EXTENDED_KEY_USAGE *uses = X509_get_ext_d2i(cert, NID_ext_key_usage, NULL, NULL);
    int count = uses ? sk_ASN1_OBJECT_num(uses) : 0;
    words_room(&info->ext_key_usage, &info->arena, count);
    for (int i = 0; i < count; i++)
        words_add(&info->ext_key_usage,
                  sr_pki_object_name(sk_ASN1_OBJECT_value(uses, i), &info->arena));
    EXTENDED_KEY_USAGE_free(uses);
}

static void read_policies(X509 *cert, sr_cert_info *info) {
    static const char *const levels[][2] = {{"2.23.140.1.1", "ev"},
                                            {"2.23.140.1.2.1", "dv"},
                                            {"2.23.140.1.2.2", "ov"},
                                            {"2.23.140.1.2.3", "iv"}};
    CERTIFICATEPOLICIES *list =
        X509_get_ext_d2i(cert, NID_certificate_policies, NULL, NULL);
    int count = list ? sk_POLICYINFO_num(list) : 0;
    words_room(&info->policies, &info->arena, count);
    for (int i = 0; i < count; i++) {
        const char *oid = oid_text(sk_POLICYINFO_value(list, i)->policyid, &info->arena);
        words_add(&info->policies, oid);
        for (size_t k = 0; k < sizeof levels / sizeof *levels; k++)
            if (strcmp(oid, levels[k][0]) == 0) info->validation = levels[k][1];
    }
    CERTIFICATEPOLICIES_free(list);
}

/* The URI of a GeneralName, escaped; NULL for other sorts. */
static const char *uri_of(GENERAL_NAME *name, sr_arena *arena) {
    sr_sans one = {0};
    if (name->type != GEN_URI) return NULL;
    GENERAL_NAMES *list = sk_GENERAL_NAME_new_null();
    if (list && sk_GENERAL_NAME_push(list, name)) sr_sans_read(list, arena, &one);
    sk_GENERAL_NAME_free(list);
    return one.count ? one.items[0].value : NULL;
}

static void read_info_access(X509 *cert, sr_cert_info *info) {
    AUTHORITY_INFO_ACCESS *list = X509_get_ext_d2i(cert, NID_info_access, NULL, NULL);
    int count = list ? sk_ACCESS_DESCRIPTION_num(list) : 0;
    words_room(&info->ocsp_urls, &info->arena, count);
    words_room(&info->ca_issuers, &info->arena, count);
    for (int i = 0; i < count; i++) {
        const ACCESS_DESCRIPTION *access = sk_ACCESS_DESCRIPTION_value(list, i);
        int nid = OBJ_obj2nid(access->method);
        sr_words *words = nid == NID_ad_OCSP         ? &info->ocsp_urls
                          : nid == NID_ad_ca_issuers ? &info->ca_issuers
                                                     : NULL;
        if (words) words_add(words, uri_of(access->location, &info->arena));
    }
    AUTHORITY_INFO_ACCESS_free(list);
}

static GENERAL_NAMES *crl_names(const DIST_POINT *point) {
    return point->distpoint && point->distpoint->type == 0
               ? point->distpoint->name.fullname
               : NULL;
}

static void read_crl_urls(X509 *cert, sr_cert_info *info) {
    CRL_DIST_POINTS *list =
        X509_get_ext_d2i(cert, NID_crl_distribution_points, NULL, NULL);
    int count = 0;
    for (int i = 0; i < sk_DIST_POINT_num(list); i++) {
        int n = sk_GENERAL_NAME_num(crl_names(sk_DIST_POINT_value(list, i)));
        count += n > 0 ? n : 0;
    }
    words_room(&info->crl_urls, &info->arena, count);
    for (int i = 0; i < sk_DIST_POINT_num(list); i++) {
        GENERAL_NAMES *names = crl_names(sk_DIST_POINT_value(list, i));
        for (int k = 0; k < sk_GENERAL_NAME_num(names); k++)
            words_add(&info->crl_urls,
                      uri_of(sk_GENERAL_NAME_value(names, k), &info->arena));
    }
    CRL_DIST_POINTS_free(list);
}

/* ---------------------------------------------------------------- other extensions */

bool sr_tls_feature_has_staple(const TLS_FEATURE *features) {
    for (int i = 0; features && i < sk_ASN1_INTEGER_num(features); i++)
        if (ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features, i)) == 5) return true;
    return false;
}

static void read_flags(X509 *cert, sr_cert_info *info) {
    BASIC_CONSTRAINTS *bc = X509_get_ext_d2i(cert, NID_basic_constraints, NULL, NULL);
    info->is_ca = bc && bc->ca;
    info->path_len = bc && bc->pathlen ? (int)ASN1_INTEGER_get(bc->pathlen) : -1;
    BASIC_CONSTRAINTS_free(bc);
    TLS_FEATURE *features = X509_get_ext_d2i(cert, NID_tlsfeature, NULL, NULL);
    info->must_staple = sr_tls_feature_has_staple(features);
    TLS_FEATURE_free(features);
    STACK_OF(SCT) *scts = X509_get_ext_d2i(cert, NID_ct_precert_scts, NULL, NULL);
    info->scts = scts ? sk_SCT_num(scts) : 0;
    SCT_LIST_free(scts);
    info->self_signed = X509_self_signed(cert, 1) == 1;
}

static void read_names(X509 *cert, sr_cert_info *info) {
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    sr_sans_read(names, &info->arena, &info->sans);
    GENERAL_NAMES_free(names);
    sr_dn_read(X509_get_subject_name(cert), &info->arena, &info->subject);
    sr_dn_read(X509_get_issuer_name(cert), &info->arena, &info->issuer);
}

/* The content bytes of the serial's INTEGER, as they stand in the certificate. */
static int serial_content(X509 *cert, sr_buf *buf) {
    unsigned char *der = NULL;
    const unsigned char *p;
    long length;
    int tag, cls, rc = -1;
    int len = i2d_ASN1_INTEGER(X509_get0_serialNumber(cert), &der);
    p = der;
    if (len > 0 && !(ASN1_get_object(&p, &length, &tag, &cls, len) & 0x80))
        rc = sr_pki_base64url(buf, p, (size_t)length);
    OPENSSL_free(der);
    return rc;
}

static void read_key_ids(X509 *cert, sr_cert_info *info) {
    sr_buf id = {0};
    AUTHORITY_KEYID *aki =
        X509_get_ext_d2i(cert, NID_authority_key_identifier, NULL, NULL);
    ASN1_OCTET_STRING *ski =
        X509_get_ext_d2i(cert, NID_subject_key_identifier, NULL, NULL);
    info->ski = sr_pki_octets_hex(ski, &info->arena);
    if (aki && aki->keyid) {
        info->aki = sr_pki_octets_hex(aki->keyid, &info->arena);
        sr_pki_base64url(&id, ASN1_STRING_get0_data(aki->keyid),
                         (size_t)ASN1_STRING_length(aki->keyid));
        sr_buf_puts(&id, ".");
        if (serial_content(cert, &id) == 0 && !id.oom)
            info->ari_id = sr_arena_text(&info->arena, id.data, id.len);
    }
    sr_buf_free(&id);
    ASN1_OCTET_STRING_free(ski);
    AUTHORITY_KEYID_free(aki);
}

void sr_extensions_read(const STACK_OF(X509_EXTENSION) * list, sr_arena *arena,
                        sr_extensions *ret_extensions) {
    int count = list ? sk_X509_EXTENSION_num(list) : 0;
    sr_extensions all = {0};
    if (count > 0) all.items = sr_arena_alloc(arena, sizeof *all.items * (size_t)count);
    for (int i = 0; all.items && i < count; i++) {
        X509_EXTENSION *ext = sk_X509_EXTENSION_value(list, i);
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(ext);
        sr_extension *to = &all.items[all.count++];
        to->oid = oid_text(X509_EXTENSION_get_object(ext), arena);
        to->name = sr_pki_object_name(X509_EXTENSION_get_object(ext), arena);
        to->critical = X509_EXTENSION_get_critical(ext) > 0;
        to->der_len = (size_t)ASN1_STRING_length(value);
        to->der = (const unsigned char *)sr_arena_text(
            arena, ASN1_STRING_get0_data(value), to->der_len);
    }
    *ret_extensions = all;
}

static void read_extensions(X509 *cert, sr_cert_info *info) {
    const STACK_OF(X509_EXTENSION) *list = X509_get0_extensions(cert);
    int count = list ? sk_X509_EXTENSION_num(list) : 0;
    sr_extensions_read(list, &info->arena, &info->extensions);
    words_room(&info->broken, &info->arena, count);
    for (int i = 0; i < count; i++) {
        X509_EXTENSION *ext = sk_X509_EXTENSION_value(list, i);
        const X509V3_EXT_METHOD *method = X509V3_EXT_get(ext);
        void *decoded = method ? X509V3_EXT_d2i(ext) : NULL;
        if (method && !decoded && info->extensions.items)
            words_add(&info->broken, info->extensions.items[i].name);
        if (!decoded) continue;
        if (method->it)
            ASN1_item_free(decoded, ASN1_ITEM_ptr(method->it));
        else
            method->ext_free(decoded);
    }
}

int sr_cert_info_read(X509 *cert, sr_cert_info *ret_info, sr_err *err) {
    sr_cert_info info = {.path_len = -1};
    ERR_clear_error();
    if (sr_pki_time(X509_get0_notBefore(cert), &info.not_before) < 0 ||
        sr_pki_time(X509_get0_notAfter(cert), &info.not_after) < 0)
        return bad_cert(err, "the certificate's validity cannot be decoded");
    sr_key_describe(X509_get0_pubkey(cert), &info.key);
    sr_pki_spki_hex(X509_get_X509_PUBKEY(cert), info.spki_sha256);
    digest_hex(cert, EVP_sha256(), info.sha256);
    digest_hex(cert, EVP_sha1(), info.sha1);
    info.serial = sr_pki_integer_hex(X509_get0_serialNumber(cert), &info.arena);
    const ASN1_OBJECT *alg;
    X509_ALGOR_get0(&alg, NULL, NULL, X509_get0_tbs_sigalg(cert));
    info.signature_algorithm = sr_pki_object_name(alg, &info.arena);
    read_names(cert, &info);
    read_key_usage(cert, &info);
    read_ext_key_usage(cert, &info);
    read_policies(cert, &info);
    read_info_access(cert, &info);
    read_crl_urls(cert, &info);
    read_flags(cert, &info);
    read_key_ids(cert, &info);
    read_extensions(cert, &info);
    ERR_clear_error();
    if (info.arena.oom) {
        sr_arena_free(&info.arena);
        return sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    }
    *ret_info = info;
    return 0;
}

void sr_cert_info_free(sr_cert_info *info) {
    sr_arena_free(&info->arena);
    *info = (sr_cert_info){0};
}
