/* pki_fixture.h – keys and certificates made in a line, for the tests of bindings/pki. */
#ifndef PKI_FIXTURE_H
#define PKI_FIXTURE_H

#include "pki/pki.h"

#include "unit.h"

#define NOON 1750000000.0 /* 2025-06-15T15:06:40Z; all fixtures live around it */
#define DAY 86400.0

typedef struct made {
    sr_key key;
    X509 *cert;
} made;

static inline sr_key make_key(const char *type) {
    sr_key key = {0};
    sr_err err = {0};
    if (sr_key_generate(&key, type, &err) < 0)
        unit_fail(__FILE__, __LINE__, "%s", err.message);
    return key;
}

/* A certificate by spec, signed by issuer (NULL: itself) with a key of its own. */
static inline made make_cert_of(sr_cert_spec spec, const made *issuer) {
    sr_err err = {0};
    made m = {.key = make_key("p256")};
    spec.public_key = m.key.pkey;
    spec.issuer = issuer ? issuer->cert : NULL;
    if (sr_cert_build(&spec, &m.cert, &err) < 0 ||
        sr_cert_sign(m.cert, issuer ? &issuer->key : &m.key, NULL, &err) < 0)
        unit_fail(__FILE__, __LINE__, "%s", err.message);
    return m;
}

static inline made make_ca(const char *name, const made *issuer) {
    sr_attribute cn = {"CN", name};
    return make_cert_of((sr_cert_spec){.what = {.subject = &cn, .subject_count = 1},
                                       .not_before = NOON - 1000 * DAY,
                                       .not_after = NOON + 1000 * DAY,
                                       .is_ca = true,
                                       .path_len = -1},
                        issuer);
}

static inline made make_leaf(const char *name, const made *issuer) {
    sr_attribute cn = {"CN", "leaf"};
    sr_san san = {"dns", name};
    return make_cert_of(
        (sr_cert_spec){
            .what = {.subject = &cn, .subject_count = 1, .sans = &san, .san_count = 1},
            .not_before = NOON - DAY,
            .not_after = NOON + 89 * DAY,
            .path_len = -1},
        issuer);
}

static inline void made_free(made *m) {
    sr_key_clear(&m->key);
    X509_free(m->cert);
    m->cert = NULL;
}

#endif
