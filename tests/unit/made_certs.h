/* made_certs.h – certificates made on the spot, for tests. */
#ifndef MADE_CERTS_H
#define MADE_CERTS_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/x509.h>

#define NOW 4102444800.0 /* 2100-01-01: no use of the system's time goes unnoticed */
#define DAY 86400.0

typedef struct entity {
    X509 *cert;
    EVP_PKEY *key;
} entity;

/* A certificate for san ("DNS:a, IP:b"; NULL: a CA), valid from a day before NOW for
 * days; issuer NULL: self-signed. */
entity make(const char *cn, const char *san, const entity *issuer, double days);
void entity_free(entity *e);
/* The certificate or the key as PEM, to be freed. */
char *pem_of(const entity *e, bool key, size_t *ret_len);

#endif
