/* crl.c – certificate revocation lists (RFC 5280 section 5), built, signed and read.
 *
 * A list from a stranger may hold a million entries; it is bounded by SR_PKI_MAX_INPUT
 * like every input, and each entry becomes one sr_revoked.
 */
#include "pki.h"

#include <string.h>

#include <openssl/err.h>

static const char *const reasons[] = {
    "unspecified",   "keyCompromise",        "cACompromise",    "affiliationChanged",
    "superseded",    "cessationOfOperation", "certificateHold", NULL,
    "removeFromCRL", "privilegeWithdrawn",   "aACompromise"};
#define REASONS (sizeof reasons / sizeof *reasons)

static int no_memory(sr_err *err) {
    return sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
}

static int bad_crl(sr_err *err, const char *what) {
    return sr_pki_fail(err, SR_USAGE, "BAD_CRL", "%s", what);
}

/* ---------------------------------------------------------------- building */

static int set_reason(X509_REVOKED *entry, const char *reason, sr_err *err) {
    long code = -1;
    for (size_t i = 0; i < REASONS; i++)
        if (reasons[i] && strcmp(reasons[i], reason) == 0) code = (long)i;
    if (code < 0)
        return sr_fail(
            err, SR_USAGE, NULL,
            "reason \"%.60s\" is not one of unspecified, keyCompromise, "
            "cACompromise, affiliationChanged, superseded, cessationOfOperation, "
            "certificateHold, removeFromCRL, privilegeWithdrawn, aACompromise",
            reason);
    if (code == 0) return 0; /* 5.3.1: unspecified is said by saying nothing */
    ASN1_ENUMERATED *value = ASN1_ENUMERATED_new();
    bool good = value && ASN1_ENUMERATED_set(value, code) &&
                X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, value, 0, 0) == 1;
    ASN1_ENUMERATED_free(value);
    return good ? 0 : no_memory(err);
}

static int add_entry(X509_CRL *crl, const sr_revoked *revoked, sr_err *err) {
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_INTEGER *serial = sr_pki_serial(revoked->serial, err);
    ASN1_TIME *when = serial ? sr_pki_time_new(revoked->when, err) : NULL;
    int rc = -1;
    if (!when) goto out;
    if (!entry || !X509_REVOKED_set_serialNumber(entry, serial) ||
        !X509_REVOKED_set_revocationDate(entry, when)) {
        no_memory(err);
        goto out;
    }
    if (revoked->reason && set_reason(entry, revoked->reason, err) < 0) goto out;
    if (X509_CRL_add0_revoked(crl, entry)) {
        entry = NULL;
        rc = 0;
    } else
        no_memory(err);
out:
    ASN1_TIME_free(when);
    ASN1_INTEGER_free(serial);
    X509_REVOKED_free(entry);
    return rc;
}

static int set_times(X509_CRL *crl, const sr_crl_spec *spec, sr_err *err) {
    ASN1_TIME *last = sr_pki_time_new(spec->this_update, err);
    ASN1_TIME *next = last ? sr_pki_time_new(spec->next_update, err) : NULL;
    int rc = -1;
    if (last && next)
        rc = X509_CRL_set1_lastUpdate(crl, last) && X509_CRL_set1_nextUpdate(crl, next)
                 ? 0
                 : no_memory(err);
    ASN1_TIME_free(last);
    ASN1_TIME_free(next);
    if (rc == 0 && !(spec->next_update > spec->this_update))
        rc = sr_fail(err, SR_USAGE, "BAD_TIME",
                     "next_update is not later than this_update");
    return rc;
}

static int add_number(X509_CRL *crl, const char *hex, sr_err *err) {
    ASN1_INTEGER *number = sr_pki_serial(hex, err);
    if (!number) return -1;
    bool good = X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0) == 1;
    ASN1_INTEGER_free(number);
    return good ? 0 : no_memory(err);
}

static int add_aki(X509_CRL *crl, X509 *issuer, sr_err *err) {
    const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(issuer);
    if (!id) return 0;
    AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    bool good = aki && (aki->keyid = ASN1_OCTET_STRING_dup(id)) &&
                X509_CRL_add1_ext_i2d(crl, NID_authority_key_identifier, aki, 0, 0) == 1;
    AUTHORITY_KEYID_free(aki);
    return good ? 0 : no_memory(err);
}

int sr_crl_build(const sr_crl_spec *spec, X509_CRL **ret_crl, sr_err *err) {
    X509_CRL *crl = X509_CRL_new();
    int rc = crl && X509_CRL_set_version(crl, X509_CRL_VERSION_2) &&
                     X509_CRL_set_issuer_name(crl, X509_get_subject_name(spec->issuer))
                 ? 0
                 : no_memory(err);
    ERR_clear_error();
    if (rc == 0) rc = set_times(crl, spec, err);
    for (size_t i = 0; rc == 0 && i < spec->revoked_count; i++)
        rc = add_entry(crl, &spec->revoked[i], err);
    if (rc == 0) rc = add_aki(crl, spec->issuer, err);
    if (rc == 0 && spec->number) rc = add_number(crl, spec->number, err);
    if (rc < 0) {
        X509_CRL_free(crl);
        return -1;
    }
    X509_CRL_sort(crl);
    *ret_crl = crl;
    return 0;
}

int sr_crl_sign(X509_CRL *crl, const sr_key *key, const char *hash, sr_err *err) {
    const EVP_MD *md;
    if (!key->is_private) return sr_fail(err, SR_USAGE, NULL, "a public key cannot sign");
    if (sr_key_digest(key, hash, &md, err) < 0) return -1;
    if (X509_CRL_sign(crl, key->pkey, md) <= 0)
        return sr_pki_fail(err, SR_INTERNAL, "SIGN", "signing the list failed");
    return 0;
}

int sr_crl_der(X509_CRL *crl, sr_buf *buf, sr_err *err) {
    unsigned char *der = NULL;
    int len = i2d_X509_CRL(crl, &der);
    return sr_pki_put_der(buf, NULL, der, len, err);
}

int sr_crl_pem(X509_CRL *crl, sr_buf *buf, sr_err *err) {
    unsigned char *der = NULL;
    int len = i2d_X509_CRL(crl, &der);
    return sr_pki_put_der(buf, "X509 CRL", der, len, err);
}

/* ---------------------------------------------------------------- reading */

static int decode_crl(const unsigned char *der, size_t len, X509_CRL **ret_crl,
                      sr_err *err) {
    const unsigned char *p = der;
    X509_CRL *crl = d2i_X509_CRL(NULL, &p, (long)len);
    if (!crl || p != der + len) {
        X509_CRL_free(crl);
        return bad_crl(err, "the list is damaged or followed by foreign bytes");
    }
    *ret_crl = crl;
    return 0;
}

int sr_crl_read(const void *data, size_t len, X509_CRL **ret_crl, sr_err *err) {
    sr_pem pem = {.next = data, .end = (const char *)data + len};
    int found, rc = -1;
    ERR_clear_error();
    if (len > SR_PKI_MAX_INPUT)
        return sr_fail(err, SR_LIMIT, "TOO_LARGE",
                       "list of %zu bytes; at most %u are read", len, SR_PKI_MAX_INPUT);
    if (len > 1 && *(const unsigned char *)data == 0x30 &&
        !memmem(data, len, "-----BEGIN ", 11))
        return decode_crl(data, len, ret_crl, err);
    while ((found = sr_pem_next(&pem, err)) > 0)
        if (strcmp(pem.label, "X509 CRL") == 0) {
            rc = decode_crl((unsigned char *)pem.der.data, pem.der.len, ret_crl, err);
            break;
        }
    if (found == 0)
        rc = bad_crl(err,
                     "no list found: expected a \"-----BEGIN X509 CRL-----\" block or "
                     "DER bytes");
    sr_pem_free(&pem);
    return rc;
}

static const char *reason_of(const X509_REVOKED *entry) {
    ASN1_ENUMERATED *value = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
    long code = value ? ASN1_ENUMERATED_get(value) : -1;
    ASN1_ENUMERATED_free(value);
    return code >= 0 && code < (long)REASONS ? reasons[code] : NULL;
}

static void read_entries(X509_CRL *crl, sr_crl_info *info) {
    STACK_OF(X509_REVOKED) *list = X509_CRL_get_REVOKED(crl);
    int count = list ? sk_X509_REVOKED_num(list) : 0;
    if (count <= 0) return;
    info->revoked = sr_arena_alloc(&info->arena, sizeof *info->revoked * (size_t)count);
    for (int i = 0; info->revoked && i < count; i++) {
        const X509_REVOKED *entry = sk_X509_REVOKED_value(list, i);
        sr_revoked *to = &info->revoked[info->revoked_count++];
        to->serial =
            sr_pki_integer_hex(X509_REVOKED_get0_serialNumber(entry), &info->arena);
        sr_pki_time(X509_REVOKED_get0_revocationDate(entry), &to->when);
        to->reason = reason_of(entry);
    }
}

static void read_ids(X509_CRL *crl, sr_crl_info *info) {
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
    AUTHORITY_KEYID *aki =
        X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, NULL, NULL);
    if (number) info->number = sr_pki_integer_hex(number, &info->arena);
    if (aki) info->aki = sr_pki_octets_hex(aki->keyid, &info->arena);
    AUTHORITY_KEYID_free(aki);
    ASN1_INTEGER_free(number);
}

int sr_crl_info_read(X509_CRL *crl, sr_crl_info *ret_info, sr_err *err) {
    sr_crl_info info = {0};
    const X509_ALGOR *alg;
    const ASN1_OBJECT *oid;
    ERR_clear_error();
    if (sr_pki_time(X509_CRL_get0_lastUpdate(crl), &info.this_update) < 0)
        return bad_crl(err, "the list's thisUpdate cannot be decoded");
    sr_pki_time(X509_CRL_get0_nextUpdate(crl), &info.next_update);
    sr_dn_read(X509_CRL_get_issuer(crl), &info.arena, &info.issuer);
    X509_CRL_get0_signature(crl, NULL, &alg);
    X509_ALGOR_get0(&oid, NULL, NULL, alg);
    info.signature_algorithm = sr_pki_object_name(oid, &info.arena);
    read_entries(crl, &info);
    read_ids(crl, &info);
    ERR_clear_error();
    if (info.arena.oom) {
        sr_arena_free(&info.arena);
        return no_memory(err);
    }
    *ret_info = info;
    return 0;
}

void sr_crl_info_free(sr_crl_info *info) {
    sr_arena_free(&info->arena);
    *info = (sr_crl_info){0};
}
