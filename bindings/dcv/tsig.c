/* tsig.c – signed DNS messages (RFC 8945).
 *
 * The MAC covers, in this order: for a response, the length and bytes of the request's
 * MAC; the message as it was before the TSIG record (its own id, ARCOUNT one less); the
 * TSIG variables (section 4.3.3). The record must be the last one of the additional
 * section, so finding it means walking over all records before it; the walk looks at
 * nothing but lengths and is bounded by the message.
 *
 * A TSIG record: key name, type 250, class ANY, TTL 0, rdlength; algorithm name, time
 * signed (48 bits), fudge, MAC size, MAC, original id, error, other length, other data.
 */
#include "dcv/tsig.h"

#include "data/digest.h"
#include "data/encoding.h"
#include "dcv/dns_msg.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER = 12, TYPE_TSIG = 250, CLASS_ANY = 255, NAME_BYTES = 255 };
enum { BADSIG = 16, BADKEY = 17, BADTIME = 18, BADTRUNC = 22 };

static const struct {
    const char *name, *digest;
    size_t len;
} algs[] = {{"hmac-sha256", "sha256", 32},
            {"hmac-sha384", "sha384", 48},
            {"hmac-sha512", "sha512", 64}};

static const size_t alg_count = sizeof algs / sizeof *algs;

static int alg_index(const char *name) {
    for (size_t i = 0; i < alg_count; i++)
        if (strcmp(algs[i].name, name) == 0) return (int)i;
    return -1;
}

/* ---------------------------------------------------------------- keys */

int sr_tsig_key_init(sr_tsig_key *key, const char *name, const char *alg,
                     const char *secret, size_t secret_len, sr_err *err) {
    sr_err why = {0};
    *key = (sr_tsig_key){0};
    key->secret.secret = true;
    int i = alg_index(alg);
    if (i < 0)
        return sr_fail(err, SR_USAGE, "BAD_ALGORITHM",
                       "TSIG key %s: algorithm \"%.40s\" is not one of hmac-sha256, "
                       "hmac-sha384, hmac-sha512; make a new key with one of them",
                       name, alg);
    key->alg = algs[i].name;
    if (sr_dns_name(name, strlen(name), &key->shown, err) != 0) return -1;
    if (sr_dns_name_wire(name, key->name, &key->name_len, err) != 0) goto fail;
    if (sr_base64_any_decode(&key->secret, secret, secret_len, &why) != 0) {
        (void)sr_fail(err, SR_USAGE, "BAD_SECRET",
                      "TSIG key %s: the secret is not base64: %s", name, why.message);
        goto fail;
    }
    if (key->secret.len == 0) {
        (void)sr_fail(err, SR_USAGE, "BAD_SECRET", "TSIG key %s: the secret is empty",
                      name);
        goto fail;
    }
    return 0;
fail:
    sr_tsig_key_free(key);
    return -1;
}

void sr_tsig_key_free(sr_tsig_key *key) {
    sr_buf_free(&key->secret);
    free(key->shown);
    *key = (sr_tsig_key){0};
    key->secret.secret = true;
}

void sr_tsig_info_free(sr_tsig_info *info) {
    free(info->key);
    free(info->alg);
    info->key = info->alg = NULL;
}

/* ---------------------------------------------------------------- bytes */

static unsigned get16(const uint8_t *p) {
    return (unsigned)p[0] << 8 | p[1];
}

static uint64_t get48(const uint8_t *p) {
    uint64_t n = 0;
    for (int i = 0; i < 6; i++)
        n = n << 8 | p[i];
    return n;
}

static void put(sr_buf *out, uint64_t number, int bytes) {
    for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) {
        uint8_t byte = (uint8_t)(number >> shift);
        sr_buf_append(out, &byte, 1);
    }
}

/* "hmac-sha256" as a name on the wire. */
static void put_alg(sr_buf *out, const char *alg) {
    put(out, strlen(alg), 1);
    sr_buf_puts(out, alg);
    put(out, 0, 1);
}

/* The end of the (perhaps compressed) name at `at`, or 0. */
static size_t skip_name(const uint8_t *wire, size_t len, size_t at) {
    while (at < len) {
        if (wire[at] >= 0xc0) return at + 2 <= len ? at + 2 : 0;
        if (wire[at] > 63) return 0;
        if (wire[at] == 0) return at + 1;
        at += (size_t)wire[at] + 1;
    }
    return 0;
}

/* The name at `at`, uncompressed as it must be in a TSIG record (a pointer in the owner
 * is tolerated), in lower case. 0 or -1. */
static int take_name(const uint8_t *wire, size_t len, size_t at, uint8_t out[NAME_BYTES],
                     size_t *ret_len) {
    size_t n = 0;
    for (int jumps = 0; at < len && jumps < 16;) {
        if (wire[at] >= 0xc0) {
            if (at + 2 > len) return -1;
            at = get16(wire + at) & 0x3fff;
            jumps++;
            continue;
        }
        size_t label = wire[at];
        if (label > 63 || at + 1 + label > len || n + 1 + label > NAME_BYTES) return -1;
        out[n++] = (uint8_t)label;
        for (size_t i = 1; i <= label; i++) {
            uint8_t c = wire[at + i];
            out[n++] = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
        }
        if (label == 0) {
            *ret_len = n;
            return 0;
        }
        at += label + 1;
    }
    return -1;
}

/* A wire name for people: plain labels, odd bytes as \DDD. NULL: no memory. */
static char *show_name(const uint8_t *name, size_t len) {
    sr_buf out = {0};
    for (size_t at = 0; at < len && name[at]; at += (size_t)name[at] + 1) {
        if (at) sr_buf_puts(&out, ".");
        for (size_t i = 1; i <= name[at]; i++) {
            uint8_t c = name[at + i];
            if (c > ' ' && c < 0x7f && c != '.' && c != '\\')
                sr_buf_append(&out, &c, 1);
            else
                sr_buf_printf(&out, "\\%03d", c);
        }
    }
    if (!out.data) sr_buf_puts(&out, ".");
    if (!out.oom) return out.data;
    sr_buf_free(&out);
    return NULL;
}

/* ---------------------------------------------------------------- the record */

/* Where the parts of a message's TSIG record are. */
typedef struct place {
    size_t start; /* of the record: the end of what was signed */
    uint8_t key[NAME_BYTES], alg[NAME_BYTES];
    size_t key_len, alg_len;
    const uint8_t *mac, *other;
    size_t mac_len, other_len;
    uint64_t signed_at;
    unsigned fudge, original_id, error;
} place;

static int malformed(sr_err *err, const char *what) {
    return sr_fail(err, SR_PROTOCOL, "FORMERR", "the DNS message is malformed: %s", what);
}

/* The rdata of a TSIG record between at and end. */
static int read_rdata(const uint8_t *wire, size_t at, size_t end, place *p) {
    size_t after = skip_name(wire, end, at);
    if (!after || take_name(wire, end, at, p->alg, &p->alg_len) != 0) return -1;
    if (after + 10 > end) return -1;
    p->signed_at = get48(wire + after);
    p->fudge = get16(wire + after + 6);
    p->mac_len = get16(wire + after + 8);
    p->mac = wire + after + 10;
    after += 10 + p->mac_len;
    if (after + 6 > end) return -1;
    p->original_id = get16(wire + after);
    p->error = get16(wire + after + 2);
    p->other_len = get16(wire + after + 4);
    p->other = wire + after + 6;
    return after + 6 + p->other_len == end ? 0 : -1;
}

/* Walk to the last record. *ret_found: it is a TSIG. */
static int find(const uint8_t *wire, size_t len, bool *ret_found, place *p, sr_err *err) {
    *ret_found = false;
    if (len < HEADER || len > SR_DNS_MAX) return malformed(err, "its length");
    size_t at = HEADER;
    unsigned questions = get16(wire + 4);
    unsigned records = get16(wire + 6) + get16(wire + 8) + get16(wire + 10);
    for (unsigned i = 0; i < questions; i++) {
        at = skip_name(wire, len, at);
        if (!at || at + 4 > len) return malformed(err, "a question is cut off");
        at += 4;
    }
    for (unsigned i = 0; i < records; i++) {
        size_t start = at;
        at = skip_name(wire, len, at);
        if (!at || at + 10 > len) return malformed(err, "a record is cut off");
        size_t end = at + 10 + get16(wire + at + 8);
        if (end > len) return malformed(err, "a record is cut off");
        if (get16(wire + at) == TYPE_TSIG) {
            if (i + 1 != records || get16(wire + 10) == 0)
                return malformed(err, "a TSIG record is not the last one");
            if (get16(wire + at + 2) != CLASS_ANY || get16(wire + at + 4) != 0 ||
                get16(wire + at + 6) != 0 || end != len ||
                take_name(wire, len, start, p->key, &p->key_len) != 0 ||
                read_rdata(wire, at + 10, end, p) != 0)
                return malformed(err, "its TSIG record");
            p->start = start;
            *ret_found = true;
        }
        at = end;
    }
    return 0;
}

/* ---------------------------------------------------------------- the MAC */

typedef struct variables {
    const uint8_t *key;
    size_t key_len;
    uint64_t signed_at;
    unsigned fudge, error;
    const uint8_t *other;
    size_t other_len;
} variables;

/* HMAC over prior MAC, message (id, arcount as signed) and variables. */
static int compute(const sr_tsig_key *key, const uint8_t *message, size_t len,
                   unsigned original_id, unsigned arcount, const sr_tsig_mac *prior,
                   const variables *v, sr_tsig_mac *ret_mac, sr_err *err) {
    sr_buf all = {0};
    sr_digest digest;
    if (prior) {
        put(&all, prior->len, 2);
        sr_buf_append(&all, prior->bytes, prior->len);
    }
    put(&all, original_id, 2);
    sr_buf_append(&all, message + 2, 8);
    put(&all, arcount, 2);
    sr_buf_append(&all, message + HEADER, len - HEADER);
    sr_buf_append(&all, v->key, v->key_len);
    put(&all, CLASS_ANY, 2);
    put(&all, 0, 4);
    put_alg(&all, key->alg);
    put(&all, v->signed_at, 6);
    put(&all, v->fudge, 2);
    put(&all, v->error, 2);
    put(&all, v->other_len, 2);
    if (v->other_len) sr_buf_append(&all, v->other, v->other_len);
    int rc = all.oom ? sr_fail(err, SR_INTERNAL, "ENOMEM", "not enough memory")
                     : sr_hmac(algs[alg_index(key->alg)].digest, key->secret.data,
                               key->secret.len, all.data, all.len, &digest, err);
    sr_buf_free(&all);
    if (rc != 0) return -1;
    memcpy(ret_mac->bytes, digest.bytes, digest.len);
    ret_mac->len = digest.len;
    return 0;
}

/* ---------------------------------------------------------------- signing */

static void put_record(sr_buf *wire, const sr_tsig_key *key, const variables *v,
                       const sr_tsig_mac *mac, unsigned id) {
    size_t alg_len = strlen(key->alg) + 2;
    sr_buf_append(wire, v->key, v->key_len);
    put(wire, TYPE_TSIG, 2);
    put(wire, CLASS_ANY, 2);
    put(wire, 0, 4);
    put(wire, alg_len + 16 + mac->len + v->other_len, 2);
    put_alg(wire, key->alg);
    put(wire, v->signed_at, 6);
    put(wire, v->fudge, 2);
    put(wire, mac->len, 2);
    sr_buf_append(wire, mac->bytes, mac->len);
    put(wire, id, 2);
    put(wire, v->error, 2);
    put(wire, v->other_len, 2);
    if (v->other_len) sr_buf_append(wire, v->other, v->other_len);
}

int sr_tsig_sign(const sr_tsig_key *key, sr_buf *wire, const sr_tsig_mac *prior,
                 uint64_t signed_at, int error, uint64_t now, sr_tsig_mac *ret_mac,
                 sr_err *err) {
    uint8_t other[6];
    sr_tsig_mac mac = {.len = 0};
    uint8_t *bytes = (uint8_t *)wire->data;
    if (wire->len < HEADER || wire->len > SR_DNS_MAX - 512)
        return sr_fail(err, SR_USAGE, "BAD_MESSAGE",
                       "a message of %zu bytes cannot be signed", wire->len);
    unsigned arcount = get16(bytes + 10);
    variables v = {.key = key->name,
                   .key_len = key->name_len,
                   .signed_at = signed_at,
                   .fudge = SR_TSIG_FUDGE,
                   .error = (unsigned)error,
                   .other = other};
    if (error == BADTIME) {
        for (int i = 0; i < 6; i++)
            other[i] = (uint8_t)(now >> (40 - 8 * i));
        v.other_len = sizeof other;
    }
    if (error != BADSIG && error != BADKEY &&
        compute(key, bytes, wire->len, get16(bytes), arcount, prior, &v, &mac, err) != 0)
        return -1;
    put_record(wire, key, &v, &mac, get16(bytes));
    if (wire->oom) return sr_fail(err, SR_INTERNAL, "ENOMEM", "not enough memory");
    wire->data[10] = (char)((arcount + 1) >> 8);
    wire->data[11] = (char)(arcount + 1);
    if (ret_mac) *ret_mac = mac;
    return 0;
}

/* ---------------------------------------------------------------- verifying */

static int fill_info(const place *p, sr_tsig_info *info, sr_err *err) {
    *info = (sr_tsig_info){.key = show_name(p->key, p->key_len),
                           .alg = show_name(p->alg, p->alg_len),
                           .signed_at = p->signed_at,
                           .fudge = (int)p->fudge,
                           .error = (int)p->error};
    if (p->error == BADTIME && p->other_len == 6) info->server_time = get48(p->other);
    if (p->mac_len <= sizeof info->mac.bytes) {
        memcpy(info->mac.bytes, p->mac, p->mac_len);
        info->mac.len = p->mac_len;
    }
    if (info->key && info->alg) return 0;
    sr_tsig_info_free(info);
    return sr_fail(err, SR_INTERNAL, "ENOMEM", "not enough memory");
}

int sr_tsig_read(const void *wire, size_t len, bool *ret_found, sr_tsig_info *ret_info,
                 sr_err *err) {
    place p;
    bool found;
    if (find(wire, len, &found, &p, err) != 0) return -1;
    if (found && fill_info(&p, ret_info, err) != 0) return -1;
    *ret_found = found;
    return 0;
}

/* What a peer says that it could not accept our signature. */
static int refused(const sr_tsig_key *key, const char *peer, unsigned error,
                   sr_err *err) {
    if (error == BADKEY)
        return sr_fail(err, SR_AUTH, "BADKEY",
                       "%s does not know a TSIG key %s with %s; compare name and "
                       "algorithm with the server's configuration",
                       peer, key->shown, key->alg);
    if (error == BADTRUNC)
        return sr_fail(err, SR_AUTH, "BADTRUNC",
                       "%s takes no signature of this length with TSIG key %s", peer,
                       key->shown);
    return sr_fail(
        err, SR_AUTH, "BADSIG",
        "%s knows TSIG key %s, but the secret differs: it could not verify our "
        "signature; compare the secret",
        peer, key->shown);
}

static int check_key(const sr_tsig_key *key, const place *p, const char *peer,
                     sr_err *err) {
    const size_t n = strlen(key->alg);
    bool same_alg = p->alg_len == n + 2 && memcmp(p->alg + 1, key->alg, n) == 0;
    if (p->key_len == key->name_len && memcmp(p->key, key->name, p->key_len) == 0 &&
        same_alg)
        return 0;
    return sr_fail(err, SR_AUTH, "BADKEY",
                   "%s signed with another key or algorithm than %s with %s", peer,
                   key->shown, key->alg);
}

static int check_mac(const sr_tsig_key *key, const uint8_t *wire, const place *p,
                     const sr_tsig_mac *prior, const char *peer, sr_err *err) {
    sr_tsig_mac mac;
    variables v = {.key = p->key,
                   .key_len = p->key_len,
                   .signed_at = p->signed_at,
                   .fudge = p->fudge,
                   .error = p->error,
                   .other = p->other,
                   .other_len = p->other_len};
    size_t full = algs[alg_index(key->alg)].len;
    if (p->mac_len < full)
        return sr_fail(err, SR_AUTH, "BADTRUNC",
                       "%s sent a signature of %zu bytes, %s has %zu; shortened ones are "
                       "not accepted",
                       peer, p->mac_len, key->alg, full);
    if (compute(key, wire, p->start, p->original_id, get16(wire + 10) - 1, prior, &v,
                &mac, err) != 0)
        return -1;
    if (!sr_equal(mac.bytes, mac.len, p->mac, p->mac_len))
        return sr_fail(err, SR_AUTH, "BADSIG",
                       "the signature of %s with TSIG key %s is wrong: it was changed "
                       "on the way, or the secret differs",
                       peer, key->shown);
    return 0;
}

static int check_time(const place *p, uint64_t now, const char *peer, sr_err *err) {
    uint64_t off = now > p->signed_at ? now - p->signed_at : p->signed_at - now;
    if (p->error == BADTIME) {
        long long theirs = p->other_len == 6 ? (long long)get48(p->other) : 0;
        return sr_fail(
            err, SR_AUTH, "BADTIME",
            "%s refuses our time: its clock is %lld s %s ours; both need NTP", peer,
            theirs > (long long)now ? theirs - (long long)now : (long long)now - theirs,
            theirs > (long long)now ? "ahead of" : "behind");
    }
    if (off > p->fudge)
        return sr_fail(err, SR_AUTH, "BADTIME",
                       "%s signed %llu s %s our time, more than its %u s of tolerance; "
                       "both clocks need NTP",
                       peer, (unsigned long long)off,
                       now > p->signed_at ? "before" : "after", p->fudge);
    return 0;
}

int sr_tsig_verify(const sr_tsig_key *key, const void *wire, size_t len,
                   const sr_tsig_mac *prior, uint64_t now, const char *peer,
                   sr_tsig_info *ret_info, sr_err *err) {
    place p;
    bool found;
    if (find(wire, len, &found, &p, err) != 0) return -1;
    if (!found)
        return sr_fail(err, SR_AUTH, "UNSIGNED",
                       "%s did not sign; the message is not trusted", peer);
    if (ret_info && fill_info(&p, ret_info, err) != 0) return -1;
    if (prior && p.mac_len == 0 && p.error) return refused(key, peer, p.error, err);
    if (check_key(key, &p, peer, err) != 0) return -1;
    if (check_mac(key, wire, &p, prior, peer, err) != 0) return -1;
    if (prior && p.error && p.error != BADTIME) return refused(key, peer, p.error, err);
    return check_time(&p, now, peer, err);
}
