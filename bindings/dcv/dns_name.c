/* dns_name.c – names, types and response codes as words, with errors people can act on.
 *
 * A name that people typed is checked here before ldns sees it, because ldns only says
 * that a name is bad.
 */
#include "dcv/dns_msg.h"

#include <ctype.h>
#include <ldns/ldns.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const size_t NAME_MAX_TEXT = 253, LABEL_MAX = 63;

/* ---------------------------------------------------------------- names */

static int check_bytes(const char *text, size_t len, sr_err *err) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x80)
            return sr_fail(err, SR_USAGE, "IDN",
                           "the name \"%.*s\" has letters beyond ASCII; give its A-label "
                           "form (xn--…), as  idn2 NAME  prints it",
                           (int)len, text);
        if (c <= ' ' || c == 0x7f)
            return sr_fail(err, SR_USAGE, "BAD_NAME",
                           "the name \"%.*s\" has a space or control character at place "
                           "%zu",
                           (int)len, text, i + 1);
        if (c == '/' && i > 0 && text[i - 1] == ':')
            return sr_fail(err, SR_USAGE, "BAD_NAME",
                           "\"%.*s\" is a URL; give the host name in it alone", (int)len,
                           text);
    }
    return 0;
}

/* Bytes that \DDD or \X at `at` stands for in text: 4 or 2, 1 for a plain one. */
static size_t unit(const char *text, size_t len, size_t at) {
    if (text[at] != '\\') return 1;
    bool digits = at + 3 < len && isdigit((unsigned char)text[at + 1]) &&
                  isdigit((unsigned char)text[at + 2]) &&
                  isdigit((unsigned char)text[at + 3]);
    return digits ? 4 : 2;
}

static int check_labels(const char *text, size_t len, sr_err *err) {
    size_t label = 0, total = 0;
    for (size_t i = 0; i < len; i += unit(text, len, i)) {
        if (text[i] == '.') {
            if (label == 0)
                return sr_fail(err, SR_USAGE, "BAD_NAME",
                               "the name \"%.*s\" has an empty label (two dots in a row, "
                               "or one at the beginning)",
                               (int)len, text);
            label = 0;
        } else if (++label > LABEL_MAX) {
            return sr_fail(err, SR_USAGE, "BAD_NAME",
                           "the name \"%.*s\" has a label of more than %zu bytes",
                           (int)len, text, LABEL_MAX);
        }
        total++;
    }
    if (text[len - 1] == '.') total--;
    if (total > NAME_MAX_TEXT)
        return sr_fail(err, SR_USAGE, "BAD_NAME",
                       "the name \"%.60s…\" has %zu bytes, a name has at most %zu", text,
                       total, NAME_MAX_TEXT);
    return 0;
}

static int parse_name(const char *text, size_t len, ldns_rdf **ret_name, sr_err *err) {
    if (len == 0 || memchr(text, 0, len))
        return sr_fail(err, SR_USAGE, "BAD_NAME",
                       "a name is missing or holds a NUL byte");
    if (check_bytes(text, len, err) != 0) return -1;
    if (!(len == 1 && text[0] == '.') && check_labels(text, len, err) != 0) return -1;
    ldns_rdf *name = ldns_dname_new_frm_str(text);
    if (!name)
        return sr_fail(err, SR_USAGE, "BAD_NAME", "\"%s\" is not a DNS name", text);
    ldns_dname2canonical(name);
    *ret_name = name;
    return 0;
}

int sr_dns_name(const char *text, size_t len, char **ret_name, sr_err *err) {
    ldns_rdf *name;
    if (parse_name(text, len, &name, err) != 0) return -1;
    char *shown = ldns_rdf2str(name);
    ldns_rdf_deep_free(name);
    if (!shown) return sr_fail(err, SR_INTERNAL, "ENOMEM", "not enough memory");
    size_t end = strlen(shown);
    if (end > 1) shown[end - 1] = 0; /* the dot of the root */
    *ret_name = shown;
    return 0;
}

int sr_dns_name_wire(const char *text, uint8_t ret_wire[255], size_t *ret_len,
                     sr_err *err) {
    ldns_rdf *name;
    if (parse_name(text, strlen(text), &name, err) != 0) return -1;
    *ret_len = ldns_rdf_size(name);
    memcpy(ret_wire, ldns_rdf_data(name), *ret_len);
    ldns_rdf_deep_free(name);
    return 0;
}

/* ---------------------------------------------------------------- types */

static const char *const known_types[] = {
    "A",   "AAAA",  "ANY",   "AXFR", "CAA",  "CNAME", "DNAME", "DNSKEY",
    "DS",  "HTTPS", "MX",    "NS",   "NSEC", "NSEC3", "PTR",   "RRSIG",
    "SOA", "SRV",   "SSHFP", "SVCB", "TLSA", "TXT",   NULL};

int sr_dns_type(const char *text, uint16_t *ret_type, sr_err *err) {
    ldns_rr_type type = ldns_get_rr_type_by_name(text);
    if (type > 0 && type <= 65535) {
        *ret_type = (uint16_t)type;
        return 0;
    }
    char upper[16] = "";
    for (size_t i = 0; i + 1 < sizeof upper && text[i]; i++)
        upper[i] = (char)toupper((unsigned char)text[i]);
    const char *close = sr_suggest(upper, known_types);
    return sr_fail(err, SR_USAGE, "BAD_TYPE",
                   "there is no record type \"%.40s\"%s%s%s A, AAAA, CAA, CNAME, MX, NS, "
                   "PTR, SOA and TXT are the usual ones, TYPE257 names one by number",
                   text, close ? "; did you mean " : "", close ? close : "",
                   close ? "?" : ";");
}

void sr_dns_type_name(uint16_t type, char ret_name[16]) {
    char *name = ldns_rr_type2str((ldns_rr_type)type);
    snprintf(ret_name, 16, "%s", name ? name : "");
    free(name);
}

/* ---------------------------------------------------------------- response codes */

static const struct {
    int code;
    const char *name;
} rcodes[] = {{0, "NOERROR"}, {1, "FORMERR"},  {2, "SERVFAIL"},  {3, "NXDOMAIN"},
              {4, "NOTIMP"},  {5, "REFUSED"},  {6, "YXDOMAIN"},  {7, "YXRRSET"},
              {8, "NXRRSET"}, {9, "NOTAUTH"},  {10, "NOTZONE"},  {16, "BADVERS"},
              {17, "BADKEY"}, {18, "BADTIME"}, {22, "BADTRUNC"}, {23, "BADCOOKIE"}};

const char *sr_dns_rcode_name(int rcode) {
    static _Thread_local char other[16];
    for (size_t i = 0; i < sizeof rcodes / sizeof *rcodes; i++)
        if (rcodes[i].code == rcode) return rcodes[i].name;
    snprintf(other, sizeof other, "RCODE%d", rcode);
    return other;
}

int sr_dns_rcode_of(const char *name) {
    for (size_t i = 0; i < sizeof rcodes / sizeof *rcodes; i++)
        if (strcasecmp(rcodes[i].name, name) == 0) return rcodes[i].code;
    return -1;
}
