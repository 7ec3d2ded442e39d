/* ext.c – X.509 extensions built from what a script says.
 *
 * Extensions given by hand come first; those derived from named fields (names, usages,
 * must_staple) are then added only where none of that kind exists. So a script can always
 * have the last word, and never gets two extensions of one kind (RFC 5280 4.2).
 */
#include "pki.h"

#include <string.h>

#include <openssl/conf.h>
#include <openssl/err.h>

#define STAPLE 5 /* status_request, the TLS feature of RFC 7633 */

static const struct alias {
    const char *name, *oid;
} aliases[] = {{"acmeIdentifier", "1.3.6.1.5.5.7.1.31"}, /* RFC 8737 */
               {"mustStaple", "1.3.6.1.5.5.7.1.24"}};

static int no_memory(sr_err *err) {
    return sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
}

static int add(STACK_OF(X509_EXTENSION) * *list, int nid, void *value, bool critical,
               sr_err *err) {
    if (value &&
        X509V3_add1_i2d(list, nid, value, critical, X509V3_ADD_KEEP_EXISTING) == 1)
        return 0;
    return sr_pki_fail(err, SR_INTERNAL, NULL, "cannot build the extension %s",
                       OBJ_nid2sn(nid));
}

/* ---------------------------------------------------------------- given by hand */

static ASN1_OBJECT *object_of(const char *name) {
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(aliases[i].name, name) == 0) name = aliases[i].oid;
    return OBJ_txt2obj(name, 0);
}

/* Whether the bytes are exactly one DER element. */
static bool one_element(const char *der, size_t len) {
    const unsigned char *p = (const unsigned char *)der;
    long length;
    int tag, cls;
    if (len == 0 || (ASN1_get_object(&p, &length, &tag, &cls, (long)len) & 0x80))
        return false;
    return (size_t)length + (size_t)(p - (const unsigned char *)der) == len;
}

static X509_EXTENSION *from_der(const sr_extension_spec *spec, ASN1_OBJECT *object) {
    X509_EXTENSION *ext = NULL;
    ASN1_OCTET_STRING *bytes = ASN1_OCTET_STRING_new();
    if (bytes && one_element(spec->der, spec->der_len) &&
        ASN1_OCTET_STRING_set(bytes, (const unsigned char *)spec->der,
                              (int)spec->der_len))
        ext = X509_EXTENSION_create_by_OBJ(NULL, object, spec->critical, bytes);
    ASN1_OCTET_STRING_free(bytes);
    return ext;
}

static X509_EXTENSION *from_text(const sr_extension_spec *spec, ASN1_OBJECT *object,
                                 X509V3_CTX *ctx) {
    char oid[128];
    int nid = OBJ_obj2nid(object);
    if (nid == NID_undef) OBJ_obj2txt(oid, sizeof oid, object, 1);
    CONF *conf = NCONF_new(NULL); /* some kinds insist on one; ours is empty */
    if (!conf) return NULL;
    X509V3_set_nconf(ctx, conf);
    X509_EXTENSION *ext = X509V3_EXT_nconf(
        conf, ctx, nid == NID_undef ? oid : OBJ_nid2sn(nid), spec->value);
    ctx->db = NULL;
    NCONF_free(conf);
    if (ext && spec->critical) X509_EXTENSION_set_critical(ext, 1);
    return ext;
}

static int add_given(STACK_OF(X509_EXTENSION) * *list, const sr_extension_spec *spec,
                     X509V3_CTX *ctx, sr_err *err) {
    ASN1_OBJECT *object = object_of(spec->oid);
    X509_EXTENSION *ext = NULL;
    int rc = 0;
    if (object) ext = spec->der ? from_der(spec, object) : from_text(spec, object, ctx);
    if (!object)
        rc = sr_pki_fail(err, SR_USAGE, "BAD_EXTENSION",
                         "extension \"%.60s\": neither a known name nor a dotted OID",
                         spec->oid);
    else if (!ext)
        rc = sr_pki_fail(err, SR_USAGE, "BAD_EXTENSION",
                         spec->der ? "extension %.60s: der is not exactly one DER element"
                                   : "extension %.60s: the value cannot be understood",
                         spec->oid);
    else if (X509v3_get_ext_by_OBJ(*list, object, -1) >= 0)
        rc = sr_fail(err, SR_USAGE, "BAD_EXTENSION", "extension %.60s is given twice",
                     spec->oid);
    else if (!X509v3_add_ext(list, ext, -1))
        rc = no_memory(err);
    X509_EXTENSION_free(ext);
    ASN1_OBJECT_free(object);
    return rc;
}

/* ---------------------------------------------------------------- derived */

static int add_key_usage(STACK_OF(X509_EXTENSION) * *list, const sr_words *words,
                         sr_err *err) {
    static const char *const names[] = {"digitalSignature", "nonRepudiation",
                                        "keyEncipherment",  "dataEncipherment",
                                        "keyAgreement",     "keyCertSign",
                                        "cRLSign",          "encipherOnly",
                                        "decipherOnly",     NULL};
    ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();
    int rc = bits ? 0 : no_memory(err);
    for (size_t i = 0; rc == 0 && i < words->count; i++) {
        int bit = 0;
        while (names[bit] && strcmp(names[bit], words->items[i]) != 0)
            bit++;
        if (!names[bit]) {
            const char *near = sr_suggest(words->items[i], names);
            rc =
                sr_fail(err, SR_USAGE, NULL, "key_usage \"%.60s\" is unknown%s%s",
                        words->items[i], near ? "; did you mean " : "", near ? near : "");
        } else if (!ASN1_BIT_STRING_set_bit(bits, bit, 1))
            rc = no_memory(err);
    }
    if (rc == 0) rc = add(list, NID_key_usage, bits, true, err);
    ASN1_BIT_STRING_free(bits);
    return rc;
}

static int add_ext_key_usage(STACK_OF(X509_EXTENSION) * *list, const sr_words *words,
                             sr_err *err) {
    EXTENDED_KEY_USAGE *uses = EXTENDED_KEY_USAGE_new();
    int rc = uses ? 0 : no_memory(err);
    for (size_t i = 0; rc == 0 && i < words->count; i++) {
        ASN1_OBJECT *use = OBJ_txt2obj(words->items[i], 0);
        if (!use)
            rc = sr_pki_fail(
                err, SR_USAGE, NULL,
                "ext_key_usage \"%.60s\": use serverAuth, clientAuth, … or an "
                "OID",
                words->items[i]);
        else if (!sk_ASN1_OBJECT_push(uses, use)) {
            ASN1_OBJECT_free(use);
            rc = no_memory(err);
        }
    }
    if (rc == 0) rc = add(list, NID_ext_key_usage, uses, false, err);
    EXTENDED_KEY_USAGE_free(uses);
    return rc;
}

static int add_sans(STACK_OF(X509_EXTENSION) * *list, const sr_subject_spec *spec,
                    sr_err *err) {
    GENERAL_NAMES *names = sr_sans_build(spec->sans, spec->san_count, err);
    if (!names) return -1;
    int rc = add(list, NID_subject_alt_name, names, spec->subject_count == 0, err);
    GENERAL_NAMES_free(names);
    return rc;
}

static int add_staple(STACK_OF(X509_EXTENSION) * *list, sr_err *err) {
    TLS_FEATURE *features = TLS_FEATURE_new();
    ASN1_INTEGER *staple = ASN1_INTEGER_new();
    if (!features || !staple || !ASN1_INTEGER_set(staple, STAPLE) ||
        !sk_ASN1_INTEGER_push(features, staple)) {
        ASN1_INTEGER_free(staple);
        TLS_FEATURE_free(features);
        return no_memory(err);
    }
    int rc = add(list, NID_tlsfeature, features, false, err);
    TLS_FEATURE_free(features);
    return rc;
}

int sr_extensions_build(const sr_subject_spec *spec, X509V3_CTX *ctx,
                        STACK_OF(X509_EXTENSION) * *ret_list, sr_err *err) {
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    int rc = list ? 0 : no_memory(err);
    ERR_clear_error();
    for (size_t i = 0; rc == 0 && i < spec->extension_count; i++)
        rc = add_given(&list, &spec->extensions[i], ctx, err);
    if (rc == 0 && spec->san_count) rc = add_sans(&list, spec, err);
    if (rc == 0 && spec->has_key_usage && spec->key_usage.count)
        rc = add_key_usage(&list, &spec->key_usage, err);
    if (rc == 0 && spec->has_ext_key_usage && spec->ext_key_usage.count)
        rc = add_ext_key_usage(&list, &spec->ext_key_usage, err);
    if (rc == 0 && spec->must_staple) rc = add_staple(&list, err);
    if (rc < 0)
        sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    else
        *ret_list = list;
    return rc;
}
