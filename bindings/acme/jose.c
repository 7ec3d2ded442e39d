/* jose.c – JWS for ACME; see jose.h.
 *
 * A flattened JWS is three base64url texts in a JSON object. The protected header is
 * built by cJSON, so that whatever a key id contains is escaped; the signature covers
 * header "." payload exactly as sent.
 */
#include "acme/jose.h"

#include <ctype.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "acme/acme_msg.h"
#include "data/encoding.h"

/* The pieces of one JWS on its way. */
typedef struct parts {
    sr_buf protected; /* base64url */
    sr_buf payload;   /* base64url */
    sr_buf signature; /* raw */
} parts;

static void parts_free(parts *p) {
    sr_buf_free(&p->protected);
    sr_buf_free(&p->payload);
    sr_buf_free(&p->signature);
}

static int no_memory(sr_err *err) {
    return sr_fail(err, SR_LIMIT, "ENOMEM", "no memory for a signed request");
}

/* base64url of {"alg", "kid" or "jwk", "nonce", "url"}; jwk is raw JSON. */
static int encode_header(const char *alg, const char *jwk, const sr_jws *jws, sr_buf *ret,
                         sr_err *err) {
    int rc = -1;
    char *text = NULL;
    cJSON *header = cJSON_CreateObject();
    bool ok = header && cJSON_AddStringToObject(header, "alg", alg);
    if (ok && jwk) ok = cJSON_AddRawToObject(header, "jwk", jwk) != NULL;
    if (ok && jws->kid) ok = cJSON_AddStringToObject(header, "kid", jws->kid) != NULL;
    if (ok && jws->nonce)
        ok = cJSON_AddStringToObject(header, "nonce", jws->nonce) != NULL;
    if (ok) ok = cJSON_AddStringToObject(header, "url", jws->url) != NULL;
    if (ok) text = cJSON_PrintUnformatted(header);
    if (!text) {
        no_memory(err);
        goto out;
    }
    rc = sr_base64url_encode(ret, text, strlen(text), err);
out:
    cJSON_free(text);
    cJSON_Delete(header);
    return rc;
}

/* What is signed: header "." payload. */
static int signing_input(const parts *p, sr_buf *ret, sr_err *err) {
    sr_buf_append(ret, p->protected.data, p->protected.len);
    sr_buf_puts(ret, ".");
    sr_buf_append(ret, p->payload.data, p->payload.len);
    return ret->oom ? no_memory(err) : 0;
}

static int write_object(const parts *p, sr_buf *ret, sr_err *err) {
    sr_buf signature = {0};
    int rc = sr_base64url_encode(&signature, p->signature.data, p->signature.len, err);
    if (rc == 0)
        sr_buf_printf(
            ret, "{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}",
            p->protected.data, p->payload.len ? p->payload.data : "", signature.data);
    sr_buf_free(&signature);
    if (rc == 0 && ret->oom) return no_memory(err);
    return rc;
}

int sr_jose_sign(const sr_key *key, const sr_jws *jws, sr_buf *ret, sr_err *err) {
    parts p = {0};
    sr_buf jwk = {0}, input = {0};
    sr_key_info info;
    int rc = -1;
    if (!key->pkey || !key->is_private)
        return sr_fail(err, SR_USAGE, NULL, "signing a request needs a private key");
    sr_key_describe(key->pkey, &info);
    if (!info.jws)
        return sr_fail(err, SR_USAGE, NULL,
                       "a %s key cannot sign ACME requests; use p256, p384 or rsa2048",
                       info.label);
    if (!jws->kid && sr_key_jwk(key, &jwk, err) != 0) goto out;
    if (encode_header(info.jws, jwk.data, jws, &p.protected, err) != 0) goto out;
    if (jws->payload_len &&
        sr_base64url_encode(&p.payload, jws->payload, jws->payload_len, err) != 0)
        goto out;
    if (signing_input(&p, &input, err) != 0) goto out;
    if (sr_key_sign_jws(key, info.jws, input.data, input.len, &p.signature, err) != 0)
        goto out;
    rc = write_object(&p, ret, err);
out:
    sr_buf_free(&input);
    sr_buf_free(&jwk);
    parts_free(&p);
    return rc;
}

bool sr_jose_nonce_ok(const char *nonce, size_t len) {
    if (len == 0 || len > 512) return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)nonce[i]) && nonce[i] != '-' && nonce[i] != '_')
            return false;
    return true;
}

/* ---------------------------------------------------------------- external account */

static const EVP_MD *mac_digest(const char *alg) {
    static const struct {
        const char *alg;
        const EVP_MD *(*digest)(void);
    } known[] = {{"HS256", EVP_sha256}, {"HS384", EVP_sha384}, {"HS512", EVP_sha512}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].alg, alg) == 0) return known[i].digest();
    return NULL;
}

static int sign_mac(const sr_eab *eab, const EVP_MD *digest, const sr_buf *input,
                    sr_buf *ret, sr_err *err) {
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (!HMAC(digest, eab->mac, (int)eab->mac_len, (const unsigned char *)input->data,
              input->len, mac, &len))
        return sr_pki_fail(err, SR_INTERNAL, NULL, "cannot compute %s", eab->alg);
    return sr_buf_append(ret, mac, len) == 0 ? 0 : no_memory(err);
}

int sr_jose_eab(const sr_key *account, const sr_eab *eab, sr_buf *ret, sr_err *err) {
    parts p = {0};
    sr_buf jwk = {0}, input = {0};
    sr_jws header = {.url = eab->url, .kid = eab->kid};
    const EVP_MD *digest = mac_digest(eab->alg);
    int rc = -1;
    if (!digest)
        return sr_fail(err, SR_USAGE, NULL,
                       "EAB algorithm %.20s is not HS256, HS384 or "
                       "HS512",
                       eab->alg);
    if (eab->mac_len == 0 || eab->mac_len > 4096)
        return sr_fail(err, SR_USAGE, NULL, "the EAB MAC key is %s",
                       eab->mac_len ? "longer than 4,096 bytes" : "empty");
    if (sr_key_jwk(account, &jwk, err) != 0) goto out;
    if (encode_header(eab->alg, NULL, &header, &p.protected, err) != 0) goto out;
    if (sr_base64url_encode(&p.payload, jwk.data, jwk.len, err) != 0) goto out;
    if (signing_input(&p, &input, err) != 0) goto out;
    if (sign_mac(eab, digest, &input, &p.signature, err) != 0) goto out;
    rc = write_object(&p, ret, err);
out:
    sr_buf_free(&input);
    sr_buf_free(&jwk);
    parts_free(&p);
    return rc;
}

static int mac_key_error(sr_err *err, const sr_err *cause) {
    return sr_fail(err, SR_USAGE, NULL,
                   "the EAB MAC key is not base64url text as the CA printed it: %s",
                   cause->message);
}

int sr_jose_mac_key(const char *text, size_t len, const char *encoding, sr_buf *ret,
                    sr_err *err) {
    sr_err cause = {0};
    sr_buf once = {.secret = true};
    ret->secret = true;
    if (encoding && strcmp(encoding, "raw") == 0)
        return sr_buf_append(ret, text, len) == 0 ? 0 : no_memory(err);
    if (!encoding || strcmp(encoding, "base64url") == 0)
        return sr_base64_any_decode(ret, text, len, &cause) == 0
                   ? 0
                   : mac_key_error(err, &cause);
    int rc = sr_base64_any_decode(&once, text, len, &cause);
    if (rc == 0) rc = sr_base64_any_decode(ret, once.data, once.len, &cause);
    sr_buf_free(&once);
    return rc == 0 ? 0 : mac_key_error(err, &cause);
}

bool sr_jose_mac_looks_encoded(const void *mac, size_t len) {
    const unsigned char *byte = mac;
    if (len < 22) return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum(byte[i]) && !strchr("+/-_=\r\n", byte[i])) return false;
    return memchr(mac, 0, len) == NULL;
}

/* ---------------------------------------------------------------- challenges */

int sr_jose_key_authorization(const sr_key *account, const char *token, size_t len,
                              sr_buf *ret, sr_err *err) {
    if (!sr_acme_token_ok(token, len))
        return sr_fail(err, SR_PROTOCOL, NULL,
                       "challenge token is not base64url of %d to %d characters",
                       SR_ACME_TOKEN_MIN, SR_ACME_TOKEN_MAX);
    sr_buf_append(ret, token, len);
    sr_buf_puts(ret, ".");
    if (ret->oom) return no_memory(err);
    return sr_key_thumbprint(account, ret, err);
}
