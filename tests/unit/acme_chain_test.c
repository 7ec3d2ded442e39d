/* acme_chain_test.c – a chain that a server could not use is refused, and the reason
 * said. */
#include "acme/acme_chain.h"

#include <stdlib.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "unit.h"

#define NOW 1795455066 /* 2026-11-23 */
#define DAY 86400L

/* What to build; zero means the good case. */
typedef struct recipe {
    const char *san; /* of the leaf */
    long leaf_begin, leaf_end;
    const EVP_MD *digest; /* of the leaf's signature */
    bool leaf_is_ca;
    bool issuer_is_no_ca;
} recipe;

/* A leaf, its issuer and the root, with keys. */
typedef struct made {
    sr_key root_key, issuer_key, key;
    X509 *root, *issuer, *leaf;
} made;

static sr_err failure;

static void extend(X509 *cert, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    CHECK(ext && X509_add_ext(cert, ext, -1));
    X509_EXTENSION_free(ext);
}

static X509 *begin(const char *name, long serial, const sr_key *key, long from, long to) {
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    ASN1_TIME_set(X509_getm_notBefore(cert), NOW + from);
    ASN1_TIME_set(X509_getm_notAfter(cert), NOW + to);
    X509_set_pubkey(cert, key->pkey);
    return cert;
}

static X509 *finish(X509 *cert, X509 *issuer, const sr_key *key, const EVP_MD *digest) {
    X509_set_issuer_name(cert, X509_get_subject_name(issuer));
    CHECK(X509_sign(cert, key->pkey, digest) > 0);
    return cert;
}

static made make(const recipe *r) {
    made m = {0};
    CHECK(sr_key_generate(&m.root_key, "p256", &failure) == 0);
    CHECK(sr_key_generate(&m.issuer_key, "p256", &failure) == 0);
    CHECK(sr_key_generate(&m.key, "p256", &failure) == 0);
    m.root = begin("Root", 1, &m.root_key, -DAY, 3650 * DAY);
    extend(m.root, NID_basic_constraints, "critical,CA:TRUE");
    finish(m.root, m.root, &m.root_key, EVP_sha256());
    m.issuer = begin("Issuer", 2, &m.issuer_key, -DAY, 1000 * DAY);
    extend(m.issuer, NID_basic_constraints,
           r->issuer_is_no_ca ? "critical,CA:FALSE" : "critical,CA:TRUE");
    finish(m.issuer, m.root, &m.root_key, EVP_sha256());
    m.leaf = begin("leaf", 3, &m.key, r->leaf_begin ? r->leaf_begin : -DAY,
                   r->leaf_end ? r->leaf_end : 90 * DAY);
    if (r->leaf_is_ca) extend(m.leaf, NID_basic_constraints, "critical,CA:TRUE");
    extend(m.leaf, NID_subject_alt_name,
           r->san ? r->san : "DNS:a.example,DNS:B.example,IP:127.0.0.1");
    finish(m.leaf, m.issuer, &m.issuer_key, r->digest ? r->digest : EVP_sha256());
    return m;
}

static void made_free(made *m) {
    X509_free(m->root);
    X509_free(m->issuer);
    X509_free(m->leaf);
    sr_key_clear(&m->root_key);
    sr_key_clear(&m->issuer_key);
    sr_key_clear(&m->key);
}

static char *pem_of(X509 *const *certs) {
    BIO *bio = BIO_new(BIO_s_mem());
    char *data, *text;
    BIO_puts(bio, "subject: somebody\r\n");
    for (; *certs; certs++)
        PEM_write_bio_X509(bio, *certs);
    long len = BIO_get_mem_data(bio, &data);
    text = calloc(1, (size_t)len + 1);
    memcpy(text, data, (size_t)len);
    BIO_free(bio);
    return text;
}

static int check_known(const char *pem, const sr_key *key, STACK_OF(X509) * roots,
                       sr_acme_issuers *issuers) {
    static const char *const wanted[] = {"b.example", "a.example", "127.0.0.1"};
    sr_acme_names names = {0};
    STACK_OF(X509) *chain = NULL;
    failure = (sr_err){0};
    for (int i = 0; i < 3; i++)
        CHECK(sr_acme_names_add(&names, wanted[i], strlen(wanted[i]), &failure) == 0);
    sr_acme_names_finish(&names);
    sr_acme_want want = {
        .key = key, .names = &names, .now = NOW, .issuers = issuers, .roots = roots};
    int rc = sr_acme_chain_check(pem, strlen(pem), &want, &chain, &failure);
    int count = rc == 0 ? sk_X509_num(chain) : -1;
    sk_X509_pop_free(chain, X509_free);
    sr_acme_names_free(&names);
    return count;
}

static int check_with(const char *pem, const sr_key *key, STACK_OF(X509) * roots) {
    return check_known(pem, key, roots, NULL);
}

/* Number of certificates, or -1 with the failure kept. */
static int check(const recipe *r) {
    made m = make(r);
    char *pem = pem_of((X509 *[]){m.leaf, m.issuer, NULL});
    int count = check_with(pem, &m.key, NULL);
    free(pem);
    made_free(&m);
    return count;
}

#define REFUSED(word, ...)                                                               \
    do {                                                                                 \
        CHECK_INT(check(&(recipe){__VA_ARGS__}), -1);                                    \
        if (!strstr(failure.message, word))                                              \
            unit_fail(__FILE__, __LINE__, "said \"%s\"", failure.message);               \
    } while (0)

TEST(chain_that_fits_is_taken) {
    CHECK_INT(check(&(recipe){0}), 2);
}

TEST(chain_with_other_names_is_refused) {
    REFUSED("lacks the name b.example", .san = "DNS:a.example,IP:127.0.0.1");
    REFUSED("has the name evil.example",
            .san = "DNS:a.example,DNS:b.example,DNS:evil.example,IP:127.0.0.1");
    REFUSED("a kind that was not ordered",
            .san = "DNS:a.example,DNS:b.example,IP:127.0.0.1,email:x@a.example");
}

TEST(chain_outside_its_validity_is_refused) {
    REFUSED("expired", .leaf_begin = -2 * DAY, .leaf_end = -DAY);
    REFUSED("not valid yet", .leaf_begin = DAY);
    CHECK_INT(check(&(recipe){.leaf_begin = 60}), 2);
}

TEST(chain_whose_leaf_is_a_ca_is_refused) {
    REFUSED("is a CA", .leaf_is_ca = true);
}

TEST(chain_whose_issuer_is_no_ca_is_refused) {
    REFUSED("is no CA", .issuer_is_no_ca = true);
}

TEST(chain_signed_with_sha1_is_refused) {
    REFUSED("weak signature", .digest = EVP_sha1());
}

TEST(chain_in_the_wrong_order_or_for_another_key_is_refused) {
    made m = make(&(recipe){0});
    char *turned = pem_of((X509 *[]){m.issuer, m.leaf, NULL});
    char *gap = pem_of((X509 *[]){m.leaf, m.root, NULL});
    char *good = pem_of((X509 *[]){m.leaf, m.issuer, m.root, NULL});
    int a = check_with(turned, &m.key, NULL), b = check_with(gap, &m.key, NULL);
    int c = check_with(good, &m.root_key, NULL), d = check_with(good, &m.key, NULL);
    free(turned);
    free(gap);
    free(good);
    made_free(&m);
    CHECK_INT(a, -1);
    CHECK_INT(b, -1);
    CHECK_INT(c, -1);
    CHECK_INT(d, 3);
}

TEST(chain_leads_to_the_given_roots_or_is_refused) {
    made m = make(&(recipe){0}), other = make(&(recipe){0});
    char *pem = pem_of((X509 *[]){m.leaf, m.issuer, NULL});
    STACK_OF(X509) *ours = sk_X509_new_null(), *theirs = sk_X509_new_null();
    sk_X509_push(ours, m.root);
    sk_X509_push(theirs, other.root);
    int good = check_with(pem, &m.key, ours), bad = check_with(pem, &m.key, theirs);
    sk_X509_free(ours);
    sk_X509_free(theirs);
    free(pem);
    made_free(&m);
    made_free(&other);
    CHECK_INT(good, 2);
    CHECK_INT(bad, -1);
    CHECK(strstr(failure.message, "roots"));
}

TEST(chain_issuer_that_is_known_is_used_again_and_checked_again) {
    made m = make(&(recipe){0}), other = make(&(recipe){.issuer_is_no_ca = true});
    char *good = pem_of((X509 *[]){m.leaf, m.issuer, m.root, NULL});
    char *bad = pem_of((X509 *[]){other.leaf, other.issuer, NULL});
    sr_acme_issuers issuers = {0};
    int first = check_known(good, &m.key, NULL, &issuers);
    X509 *kept = issuers.slot[0].cert;
    int again = check_known(good, &m.key, NULL, &issuers);
    unsigned count = issuers.next;
    int refused = check_known(bad, &other.key, NULL, &issuers);
    int twice = check_known(bad, &other.key, NULL, &issuers);
    bool same = kept && kept == issuers.slot[0].cert;
    for (int i = 0; i < 20; i++) {
        made one = make(&(recipe){0});
        char *pem = pem_of((X509 *[]){one.leaf, one.issuer, NULL});
        CHECK_INT(check_known(pem, &one.key, NULL, &issuers), 2);
        free(pem);
        made_free(&one);
    }
    sr_acme_issuers_free(&issuers);
    free(good);
    free(bad);
    made_free(&m);
    made_free(&other);
    CHECK_INT(first, 3);
    CHECK_INT(again, 3);
    CHECK_INT(count, 2);
    CHECK(same);
    CHECK_INT(refused, -1);
    CHECK_INT(twice, -1);
}

TEST(chain_with_a_private_key_or_no_certificate_is_refused) {
    made m = make(&(recipe){0});
    sr_buf text = {.secret = true};
    CHECK(sr_key_pem(&m.key, NULL, 0, &text, &failure) == 0);
    int with_key = check_with(text.data, &m.key, NULL);
    bool said = strstr(failure.message, "PRIVATE KEY") != NULL;
    int empty = check_with("", &m.key, NULL);
    int html = check_with("<html>busy</html>", &m.key, NULL);
    sr_buf_free(&text);
    made_free(&m);
    CHECK_INT(with_key, -1);
    CHECK(said);
    CHECK_INT(empty, -1);
    CHECK_INT(html, -1);
}

TEST(chain_of_too_many_certificates_or_bytes_is_refused) {
    made m = make(&(recipe){0});
    X509 *many[] = {m.leaf, m.issuer, m.root, m.root, m.root, m.root,
                    m.root, m.root,   m.root, m.root, m.root, NULL};
    char *pem = pem_of(many);
    int count = check_with(pem, &m.key, NULL);
    sr_kind kind = failure.kind;
    char *big = calloc(1, SR_ACME_CHAIN_BYTES + 2);
    memset(big, '\n', SR_ACME_CHAIN_BYTES + 1);
    int bytes = check_with(big, &m.key, NULL);
    free(pem);
    free(big);
    made_free(&m);
    CHECK_INT(count, -1);
    CHECK_INT(kind, SR_LIMIT);
    CHECK_INT(bytes, -1);
    CHECK_INT(failure.kind, SR_LIMIT);
}
