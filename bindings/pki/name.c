/* name.c – distinguished names and subject alternative names, read and built.
 *
 * What is read comes from strangers: lengths are those of the DER, a NUL is a byte like
 * any other and is shown as \x00. What is built is checked here, once, for requests and
 * certificates alike: a CA refuses a bad name after minutes, we do it at once and say
 * why.
 */
#include "pki.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#define MAX_CN 64    /* ub-common-name, RFC 5280 A.1 */
#define MAX_HOST 253 /* RFC 1035 in text form */
#define MAX_SANS 2000

/* ---------------------------------------------------------------- reading */

/* Copy text, bytes outside printable ASCII as \xNN; UTF-8 stays when wanted. */
static const char *printable(sr_arena *arena, const unsigned char *in, size_t len,
                             bool utf8) {
    char *text = sr_arena_alloc(arena, len * 4 + 1), *out = text;
    if (!text) return "";
    for (size_t i = 0; i < len; i++)
        if ((in[i] >= 0x20 && in[i] < 0x7f) || (utf8 && in[i] >= 0x80))
            *out++ = (char)in[i];
        else
            out += sprintf(out, "\\x%02x", in[i]);
    *out = '\0';
    return text;
}

static const char *object_name(const ASN1_OBJECT *object, sr_arena *arena) {
    char oid[128];
    int nid = OBJ_obj2nid(object);
    if (nid != NID_undef) return OBJ_nid2sn(nid);
    int len = OBJ_obj2txt(oid, sizeof oid, object, 1);
    if (len < 0) len = 0;
    return sr_arena_text(arena, oid,
                         (size_t)len < sizeof oid ? (size_t)len : sizeof oid - 1);
}

static const char *string_value(const ASN1_STRING *string, sr_arena *arena) {
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, string);
    const char *text = len >= 0 ? printable(arena, utf8, (size_t)len, true)
                                : printable(arena, ASN1_STRING_get0_data(string),
                                            (size_t)ASN1_STRING_length(string), false);
    OPENSSL_free(utf8);
    return text;
}

static BIO *print_name(const X509_NAME *name) {
    BIO *bio = BIO_new(BIO_s_mem());
    unsigned long flags = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    if (bio && name) X509_NAME_print_ex(bio, name, 0, flags);
    return bio;
}

const char *sr_dn_text(const X509_NAME *name, char *buf, size_t size) {
    char *data = NULL;
    BIO *bio = print_name(name);
    long len = bio ? BIO_get_mem_data(bio, &data) : 0;
    snprintf(buf, size, "%.*s", (int)len, len > 0 ? data : "");
    BIO_free(bio);
    ERR_clear_error();
    return buf;
}

void sr_dn_read(const X509_NAME *name, sr_arena *arena, sr_dn *ret_dn) {
    char *data = NULL;
    int count = X509_NAME_entry_count(name);
    sr_dn dn = {.text = ""};
    BIO *bio = print_name(name);
    long len = bio ? BIO_get_mem_data(bio, &data) : 0;
    if (len > 0) dn.text = sr_arena_text(arena, data, (size_t)len);
    BIO_free(bio);
    dn.items = sr_arena_alloc(arena, sizeof *dn.items * (size_t)(count > 0 ? count : 1));
    for (int i = 0; dn.items && i < count; i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        dn.items[dn.count].type = object_name(X509_NAME_ENTRY_get_object(entry), arena);
        dn.items[dn.count++].value = string_value(X509_NAME_ENTRY_get_data(entry), arena);
    }
    ERR_clear_error();
    *ret_dn = dn;
}

/* Every byte as \xNN, so that what is no address never reads like one. */
static const char *escaped(sr_arena *arena, const unsigned char *in, size_t len) {
    char *text = sr_arena_alloc(arena, len * 4 + 1), *out = text;
    if (!text) return "";
    for (size_t i = 0; i < len; i++)
        out += sprintf(out, "\\x%02x", in[i]);
    *out = '\0';
    return text;
}

static const char *address_text(const ASN1_OCTET_STRING *ip, sr_arena *arena) {
    char text[INET6_ADDRSTRLEN];
    const unsigned char *data = ASN1_STRING_get0_data(ip);
    int len = ASN1_STRING_length(ip);
    if (len != 4 && len != 16) return escaped(arena, data, (size_t)len);
    inet_ntop(len == 4 ? AF_INET : AF_INET6, data, text, sizeof text);
    return sr_arena_text(arena, text, strlen(text));
}

static const char *dirname_text(const X509_NAME *name, sr_arena *arena) {
    char text[1024];
    sr_dn_text(name, text, sizeof text);
    return sr_arena_text(arena, text, strlen(text));
}

static const char *ia5_text(const ASN1_IA5STRING *string, sr_arena *arena) {
    return printable(arena, ASN1_STRING_get0_data(string),
                     (size_t)ASN1_STRING_length(string), false);
}

static sr_san read_one(const GENERAL_NAME *name, sr_arena *arena) {
    switch (name->type) {
    case GEN_DNS: return (sr_san){"dns", ia5_text(name->d.dNSName, arena)};
    case GEN_EMAIL: return (sr_san){"email", ia5_text(name->d.rfc822Name, arena)};
    case GEN_URI:
        return (sr_san){"uri", ia5_text(name->d.uniformResourceIdentifier, arena)};
    case GEN_IPADD: return (sr_san){"ip", address_text(name->d.iPAddress, arena)};
    case GEN_DIRNAME:
        return (sr_san){"dirname", dirname_text(name->d.directoryName, arena)};
    case GEN_RID: return (sr_san){"rid", object_name(name->d.registeredID, arena)};
    case GEN_OTHERNAME:
        return (sr_san){"other", object_name(name->d.otherName->type_id, arena)};
    default: return (sr_san){"other", ""};
    }
}

void sr_sans_read(const GENERAL_NAMES *names, sr_arena *arena, sr_sans *ret_sans) {
    int count = names ? sk_GENERAL_NAME_num(names) : 0;
    sr_sans sans = {0};
    if (count > 0) sans.items = sr_arena_alloc(arena, sizeof *sans.items * (size_t)count);
    for (int i = 0; sans.items && i < count; i++)
        sans.items[sans.count++] = read_one(sk_GENERAL_NAME_value(names, i), arena);
    *ret_sans = sans;
}

/* ---------------------------------------------------------------- matching */

static int parse_address(const char *text, unsigned char ret_bytes[16]) {
    if (inet_pton(AF_INET, text, ret_bytes) == 1) return 4;
    return inet_pton(AF_INET6, text, ret_bytes) == 1 ? 16 : 0;
}

/* Host names without their final dot; the wildcard is the whole first label only. */
static bool host_covers(const char *pattern, const char *name, size_t len) {
    if (strlen(pattern) == len && strncasecmp(pattern, name, len) == 0) return true;
    if (strncmp(pattern, "*.", 2) != 0 || len == 0 || name[0] == '*') return false;
    const char *dot = memchr(name, '.', len);
    size_t rest = dot ? len - (size_t)(dot - name) : 0;
    return dot && dot > name && strlen(pattern) - 1 == rest &&
           strncasecmp(pattern + 1, dot, rest) == 0;
}

bool sr_sans_cover(const sr_sans *sans, const char *name) {
    unsigned char want[16], have[16];
    int size = parse_address(name, want);
    size_t len = strlen(name);
    bool plain = strchr(name, '@') || strstr(name, "://");
    if (!plain && len && name[len - 1] == '.') len--;
    for (size_t i = 0; i < sans->count; i++) {
        const sr_san *san = &sans->items[i];
        bool same = strcasecmp(san->value, name) == 0;
        if (size) {
            if (strcmp(san->type, "ip") == 0 && parse_address(san->value, have) == size &&
                memcmp(have, want, (size_t)size) == 0)
                return true;
        } else if (plain ? same && (strcmp(san->type, "email") == 0 ||
                                    strcmp(san->type, "uri") == 0)
                         : strcmp(san->type, "dns") == 0 &&
                               host_covers(san->value, name, len))
            return true;
    }
    return false;
}

/* ---------------------------------------------------------------- building */

static int bad_name(sr_err *err, const char *name, const char *why) {
    return sr_fail(err, SR_USAGE, "BAD_NAME", "name \"%.120s\": %s", name, why);
}

static int check_label(const char *host, const char *label, size_t len, sr_err *err) {
    if (len == 0) return bad_name(err, host, "has an empty label");
    if (len > 63) return bad_name(err, host, "has a label of more than 63 characters");
    if (label[0] == '-' || label[len - 1] == '-')
        return bad_name(err, host, "has a label that starts or ends with a hyphen");
    if (len == 1 && *label == '*')
        return label == host ? 0
                             : bad_name(err, host, "has a * that is not its first label");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)label[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    (c >= '0' && c <= '9') || c == '-' || c == '_';
        if (c == '*') return bad_name(err, host, "has a * inside a label; use *.domain");
        if (!fine)
            return bad_name(err, host, "has a character that no host name may have");
    }
    return 0;
}

static int check_host(const char *host, size_t len, sr_err *err) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)host[i] >= 0x80)
            return bad_name(
                err, host,
                "is not ASCII; give an internationalised name as its A-label, "
                "xn--…");
    if (len == 0) return bad_name(err, host, "is empty");
    if (len > MAX_HOST) return bad_name(err, host, "is longer than 253 characters");
    if (len == 1 && *host == '*')
        return bad_name(err, host, "needs a domain after the *");
    for (const char *label = host; label <= host + len;) {
        const char *dot = memchr(label, '.', (size_t)(host + len - label));
        const char *end = dot ? dot : host + len;
        if (check_label(host, label, (size_t)(end - label), err) < 0) return -1;
        label = end + 1;
    }
    return 0;
}

static const char *detect(const char *value) {
    unsigned char bytes[16];
    if (parse_address(value, bytes)) return "ip";
    if (strstr(value, "://")) return "uri";
    return strchr(value, '@') ? "email" : "dns";
}

static int check_plain(const char *value, sr_err *err) {
    for (const char *p = value; *p; p++)
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f)
            return bad_name(err, value, "has a space or a character that is not ASCII");
    return *value ? 0 : bad_name(err, value, "is empty");
}

/* The bytes and the GEN_ number that go into the extension; 0 or -1. */
static int encode(const sr_san *san, unsigned char *bytes, size_t size, size_t *ret_len,
                  int *ret_type, sr_err *err) {
    const char *type = san->type ? san->type : detect(san->value);
    size_t len = strlen(san->value);
    if (strcmp(type, "ip") == 0) {
        *ret_type = GEN_IPADD;
        *ret_len = (size_t)parse_address(san->value, bytes);
        return *ret_len ? 0 : bad_name(err, san->value, "is not an IP address");
    }
    if (len >= size) return bad_name(err, san->value, "is too long");
    memcpy(bytes, san->value, len);
    *ret_len = len;
    if (strcmp(type, "dns") == 0) {
        *ret_type = GEN_DNS;
        if (len && san->value[len - 1] == '.') *ret_len = --len;
        for (size_t i = 0; i < len; i++)
            if (bytes[i] >= 'A' && bytes[i] <= 'Z') bytes[i] |= 0x20;
        return check_host(san->value, len, err);
    }
    if (strcmp(type, "email") == 0)
        *ret_type = GEN_EMAIL;
    else if (strcmp(type, "uri") == 0)
        *ret_type = GEN_URI;
    else
        return sr_fail(err, SR_USAGE, "BAD_NAME",
                       "name type \"%.40s\" is not one of dns, ip, email, uri", type);
    return check_plain(san->value, err);
}

static bool known(const GENERAL_NAMES *names, const GENERAL_NAME *name) {
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *other = sk_GENERAL_NAME_value(names, i);
        if (other->type == name->type && ASN1_STRING_cmp(other->d.ia5, name->d.ia5) == 0)
            return true;
    }
    return false;
}

/* Add one name; 0 or -1. */
static int add_san(GENERAL_NAMES *names, const sr_san *san, sr_err *err) {
    unsigned char bytes[2048];
    size_t len = 0;
    int type = GEN_DNS;
    if (encode(san, bytes, sizeof bytes, &len, &type, err) < 0) return -1;
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *string =
        ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    if (!name || !string || !ASN1_STRING_set(string, bytes, (int)len)) {
        ASN1_STRING_free(string);
        GENERAL_NAME_free(name);
        return sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    }
    GENERAL_NAME_set0_value(name, type, string);
    if (known(names, name) || !sk_GENERAL_NAME_push(names, name)) GENERAL_NAME_free(name);
    return 0;
}

GENERAL_NAMES *sr_sans_build(const sr_san *sans, size_t count, sr_err *err) {
    GENERAL_NAMES *names = NULL;
    if (count > MAX_SANS) {
        sr_fail(err, SR_LIMIT, "TOO_MANY", "%zu names; at most %d fit a certificate",
                count, MAX_SANS);
        return NULL;
    }
    names = GENERAL_NAMES_new();
    for (size_t i = 0; names && i < count; i++)
        if (add_san(names, &sans[i], err) < 0) {
            GENERAL_NAMES_free(names);
            return NULL;
        }
    if (!names) sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    return names;
}

static int add_attribute(X509_NAME *name, const sr_attribute *item, sr_err *err) {
    ASN1_OBJECT *object = OBJ_txt2obj(item->type, 0);
    int nid = object ? OBJ_obj2nid(object) : NID_undef;
    int rc = 0;
    if (!object)
        rc = sr_fail(
            err, SR_USAGE, "BAD_SUBJECT",
            "subject: \"%.40s\" is no attribute; use CN, O, OU, C, ST, L, … or an "
            "OID",
            item->type);
    else if (nid == NID_commonName && strlen(item->value) > MAX_CN)
        rc = sr_fail(
            err, SR_USAGE, "BAD_SUBJECT",
            "subject: CN of %zu characters, at most %d are allowed; leave it out, "
            "names go into the SAN",
            strlen(item->value), MAX_CN);
    else if (X509_NAME_add_entry_by_OBJ(name, object, MBSTRING_UTF8,
                                        (const unsigned char *)item->value, -1, -1,
                                        0) != 1)
        rc = sr_pki_fail(err, SR_USAGE, "BAD_SUBJECT", "subject: %.40s = \"%.80s\"",
                         item->type, item->value);
    ASN1_OBJECT_free(object);
    return rc;
}

X509_NAME *sr_dn_build(const sr_attribute *items, size_t count, sr_err *err) {
    X509_NAME *name = X509_NAME_new();
    ERR_clear_error();
    for (size_t i = 0; name && i < count; i++)
        if (add_attribute(name, &items[i], err) < 0) {
            X509_NAME_free(name);
            return NULL;
        }
    if (!name) sr_fail(err, SR_LIMIT, "ENOMEM", "out of memory");
    return name;
}
