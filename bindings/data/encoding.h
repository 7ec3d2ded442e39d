/* encoding.h – bytes as text and back: base64, base64url, base32, hex, percent.
 *
 * Pure: no Lua, no I/O, safe on any thread. Every function appends to `out`, whose secret
 * flag is the caller's choice, and returns 0, or -1 with *err filled and `out` as it was.
 * Input and `out` must not overlap. The result may hold NUL bytes.
 *
 * Decoders are strict: one text for each value, so that two spellings never compare as
 * two things. A character outside the alphabet, missing or needless padding, white space
 * and stray bits in the last digit are errors of kind protocol that name the character's
 * place, never its neighbours, because the text may be a secret.
 */
#ifndef SR_ENCODING_H
#define SR_ENCODING_H

#include "base.h"

/* RFC 4648 section 4: '+' and '/', padded with '='. */
int sr_base64_encode(sr_buf *out, const void *data, size_t len, sr_err *err);
int sr_base64_decode(sr_buf *out, const char *text, size_t len, sr_err *err);

/* RFC 4648 section 5 without padding, as JOSE wants it (RFC 7515 section 2). */
int sr_base64url_encode(sr_buf *out, const void *data, size_t len, sr_err *err);
int sr_base64url_decode(sr_buf *out, const char *text, size_t len, sr_err *err);

/* RFC 4648 section 6: 'A'-'Z' and '2'-'7', padded. */
int sr_base32_encode(sr_buf *out, const void *data, size_t len, sr_err *err);
int sr_base32_decode(sr_buf *out, const char *text, size_t len, sr_err *err);

/* Lower case out; either case in. */
int sr_hex_encode(sr_buf *out, const void *data, size_t len, sr_err *err);
int sr_hex_decode(sr_buf *out, const char *text, size_t len, sr_err *err);

/* What people paste as an EAB key: base64 or base64url (or both mixed), padded or not,
 * white space anywhere. Still refused: other characters, text after the padding, a length
 * no encoder makes, stray bits (a key cut short while copying shows this way), nothing.
 */
int sr_base64_any_decode(sr_buf *out, const char *text, size_t len, sr_err *err);

/* RFC 3986 section 2.1: everything but unreserved characters becomes %XX. */
int sr_percent_encode(sr_buf *out, const void *data, size_t len, sr_err *err);
/* %XX in either case; a '%' without two hex digits is an error; '+' stays '+'. */
int sr_percent_decode(sr_buf *out, const char *text, size_t len, sr_err *err);
/* One name or value of application/x-www-form-urlencoded: a space is '+'. */
int sr_form_encode(sr_buf *out, const void *data, size_t len, sr_err *err);
int sr_form_decode(sr_buf *out, const char *text, size_t len, sr_err *err);

#endif
