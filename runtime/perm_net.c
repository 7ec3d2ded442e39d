/* perm_net.c – hosts, suffixes and networks as permissions name them.
 *
 * Every address is kept in 16 bytes, IPv4 mapped into IPv6, so that one comparison serves
 * both and "::ffff:10.0.0.1" does not slip past a rule for 10.0.0.0/8. The old spellings
 * that the resolver still accepts ("127.1", "0x7f000001", "2130706433") are read as the
 * addresses they are. A name never equals an address: whoever connects asks again with
 * the address the name gave.
 */
#include "perm_net.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int parse_port(const char *text, int *ret_port) {
    char *end;
    if (strcmp(text, "*") == 0) {
        *ret_port = 0;
        return 0;
    }
    long port = isdigit((unsigned char)*text) ? strtol(text, &end, 10) : 0;
    if (port < 1 || port > 65535 || *end) return -1;
    *ret_port = (int)port;
    return 0;
}

static bool parse_address(const char *text, uint8_t addr[16]) {
    struct in_addr v4;
    char plain[64];
    size_t len = strcspn(text, "%"); /* without a zone */
    if (len >= sizeof plain) return false;
    memcpy(plain, text, len);
    plain[len] = '\0';
    if (inet_pton(AF_INET6, plain, addr) == 1) return true;
    if (!isdigit((unsigned char)*plain) || !inet_aton(plain, &v4)) return false;
    memset(addr, 0, 10);
    memset(addr + 10, 0xff, 2);
    memcpy(addr + 12, &v4, 4);
    return true;
}

static bool is_v4(const uint8_t addr[16]) {
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(addr, prefix, 12) == 0;
}

/* Split "[host]:port", "host:port", "v6:address" and "/bits" off. */
static int split(char *text, char **ret_host, char **ret_bits, char **ret_port) {
    char *host = text, *rest;
    *ret_bits = *ret_port = NULL;
    if (*text == '[') {
        host++;
        rest = strchr(host, ']');
        if (!rest) return -1;
        *rest++ = '\0';
    } else {
        char *colon = strchr(text, ':');
        bool v6 = colon && strchr(colon + 1, ':');
        rest = host + (v6 ? strcspn(host, "/") : strcspn(host, "/:"));
    }
    if (*rest == '/') {
        *rest++ = '\0';
        *ret_bits = rest;
        rest += strcspn(rest, ":");
    }
    if (*rest == ':') {
        *rest++ = '\0';
        *ret_port = rest;
    } else if (*rest) {
        return -1;
    }
    *ret_host = host;
    return 0;
}

static int set_bits(sr_net *net, const char *bits) {
    net->bits = 128;
    if (!bits) return 0;
    char *end;
    int most = is_v4(net->addr) ? 32 : 128;
    long n = isdigit((unsigned char)*bits) ? strtol(bits, &end, 10) : -1;
    if (n < 0 || n > most || *end) return -1;
    net->bits = (int)n + 128 - most;
    return 0;
}

static int set_name(sr_net *net, const char *host) {
    size_t len = strlen(host);
    net->kind = SR_NET_NAME;
    if (strcmp(host, "*") == 0) {
        net->kind = SR_NET_ANY;
        return 0;
    }
    if (strncmp(host, "*.", 2) == 0) {
        net->kind = SR_NET_SUFFIX;
        host += 2;
        len -= 2;
    }
    if (len > 0 && host[len - 1] == '.') len--;
    if (len == 0 || len >= sizeof net->host) return -1;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)host[i];
        if (c <= ' ' || c == '*' || c == ',' || c == 0x7f) return -1;
        net->host[i] = (char)tolower(c);
    }
    net->host[len] = '\0';
    return 0;
}

int sr_net_parse(const char *text, sr_net *ret_net) {
    sr_net net = {.kind = SR_NET_UNIX};
    char copy[320], *host, *bits, *port;
    if (strncmp(text, "unix:", 5) == 0) {
        if (strlen(text + 5) >= sizeof net.path || !text[5]) return -1;
        memcpy(net.path, text + 5, strlen(text + 5) + 1);
        *ret_net = net;
        return 0;
    }
    if (strlen(text) >= sizeof copy) return -1;
    memcpy(copy, text, strlen(text) + 1);
    if (split(copy, &host, &bits, &port) || (port && parse_port(port, &net.port)))
        return -1;
    if (parse_address(host, net.addr)) {
        net.kind = SR_NET_ADDRESS;
        if (set_bits(&net, bits)) return -1;
    } else if (bits || set_name(&net, host)) {
        return -1;
    }
    *ret_net = net;
    return 0;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, int bits) {
    int whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, (size_t)whole) != 0) return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static bool has_suffix(const char *host, const char *suffix) {
    size_t len = strlen(host), suffix_len = strlen(suffix);
    return len > suffix_len && host[len - suffix_len - 1] == '.' &&
           strcmp(host + len - suffix_len, suffix) == 0;
}

bool sr_net_covers(const sr_net *rule, const sr_net *target) {
    if (target->kind == SR_NET_UNIX || rule->kind == SR_NET_UNIX) return false;
    if (rule->port && rule->port != target->port) return false;
    switch (rule->kind) {
    case SR_NET_ANY: return true;
    case SR_NET_NAME:
        return target->kind == SR_NET_NAME && strcmp(rule->host, target->host) == 0;
    case SR_NET_SUFFIX:
        return target->kind == SR_NET_NAME && has_suffix(target->host, rule->host);
    default:
        return target->kind == SR_NET_ADDRESS &&
               same_prefix(rule->addr, target->addr, rule->bits);
    }
}
