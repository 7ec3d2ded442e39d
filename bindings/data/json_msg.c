/* json_msg.c – members of a JSON tree, and values as JSON text; the contract is json.h.
 *
 * The getters never guess: a wrong type is an error with the path, also where the member
 * is optional. The writers append to a buffer, so that a secret one stays wiped.
 */
#include "data/json.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- getters */

static const char *type_name(const cJSON *item) {
    if (cJSON_IsString(item)) return "a string";
    if (cJSON_IsNumber(item)) return "a number";
    if (cJSON_IsBool(item)) return "a boolean";
    if (cJSON_IsArray(item)) return "an array";
    return cJSON_IsObject(item) ? "an object" : "null";
}

const cJSON *sr_json_item(const cJSON *object, const char *key) {
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

/* The member if it is there, right or wrong; *ret_item NULL if it may and does lack. */
static int member(const cJSON *object, const char *where, const char *key, int need,
                  const cJSON **ret_item, sr_err *err) {
    const cJSON *item = sr_json_item(object, key);
    if (!cJSON_IsObject(object))
        return sr_fail(err, SR_PROTOCOL, NULL, "JSON: %s is %s, an object was expected",
                       where, object ? type_name(object) : "missing");
    if (cJSON_IsNull(item)) item = NULL;
    if (!item && need == SR_JSON_REQUIRED)
        return sr_fail(err, SR_PROTOCOL, NULL, "JSON: %s.%s is missing", where, key);
    *ret_item = item;
    return 0;
}

static int wrong_type(const cJSON *item, const char *where, const char *key,
                      const char *want, sr_err *err) {
    return sr_fail(err, SR_PROTOCOL, NULL, "JSON: %s.%s is %s, %s was expected", where,
                   key, type_name(item), want);
}

int sr_json_string(const cJSON *object, const char *where, const char *key, int need,
                   const char **ret_text, sr_err *err) {
    const cJSON *item;
    if (member(object, where, key, need, &item, err)) return -1;
    if (!item) return 0;
    if (!cJSON_IsString(item)) return wrong_type(item, where, key, "a string", err);
    *ret_text = item->valuestring;
    return 0;
}

int sr_json_int(const cJSON *object, const char *where, const char *key, int need,
                int64_t *ret_value, sr_err *err) {
    const cJSON *item;
    if (member(object, where, key, need, &item, err)) return -1;
    if (!item) return 0;
    if (!cJSON_IsNumber(item)) return wrong_type(item, where, key, "an integer", err);
    double value = item->valuedouble;
    if (!(fabs(value) <= (double)SR_JSON_EXACT) || value != floor(value))
        return sr_fail(err, SR_PROTOCOL, NULL,
                       "JSON: %s.%s is %g, an integer was expected", where, key, value);
    *ret_value = (int64_t)value;
    return 0;
}

int sr_json_bool(const cJSON *object, const char *where, const char *key, int need,
                 bool *ret_value, sr_err *err) {
    const cJSON *item;
    if (member(object, where, key, need, &item, err)) return -1;
    if (!item) return 0;
    if (!cJSON_IsBool(item)) return wrong_type(item, where, key, "a boolean", err);
    *ret_value = cJSON_IsTrue(item);
    return 0;
}

int sr_json_array(const cJSON *object, const char *where, const char *key, int need,
                  const cJSON **ret_array, sr_err *err) {
    const cJSON *item;
    if (member(object, where, key, need, &item, err)) return -1;
    if (!item) return 0;
    if (!cJSON_IsArray(item)) return wrong_type(item, where, key, "an array", err);
    *ret_array = item;
    return 0;
}

int sr_json_object(const cJSON *object, const char *where, const char *key, int need,
                   const cJSON **ret_object, sr_err *err) {
    const cJSON *item;
    if (member(object, where, key, need, &item, err)) return -1;
    if (!item) return 0;
    if (!cJSON_IsObject(item)) return wrong_type(item, where, key, "an object", err);
    *ret_object = item;
    return 0;
}

/* ---------------------------------------------------------------- writers */

/* Unicode 15, table 3-7. */
size_t sr_utf8_len(const char *p, const char *end) {
    const unsigned char *u = (const unsigned char *)p;
    size_t have = (size_t)(end - p), len;
    unsigned char low = 0x80, high = 0xbf;
    if (u[0] < 0x80) return 1;
    if (u[0] < 0xc2 || u[0] > 0xf4) return 0;
    len = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    if (u[0] == 0xe0) low = 0xa0;
    if (u[0] == 0xed) high = 0x9f; /* surrogates */
    if (u[0] == 0xf0) low = 0x90;
    if (u[0] == 0xf4) high = 0x8f;
    if (have < len || u[1] < low || u[1] > high) return 0;
    for (size_t i = 2; i < len; i++)
        if (u[i] < 0x80 || u[i] > 0xbf) return 0;
    return len;
}

static int no_memory(sr_err *err) {
    return sr_fail(err, SR_LIMIT, "ENOMEM", "JSON: no memory for the text");
}

static int check_text(const char *text, size_t len, sr_err *err) {
    const char *end = text + len;
    for (const char *p = text; p < end;) {
        size_t n = sr_utf8_len(p, end);
        if (*p == '\0')
            return sr_fail(
                err, SR_USAGE, NULL,
                "a string with a NUL byte (byte %zu) is refused in JSON: encode "
                "binary data as base64",
                (size_t)(p - text) + 1);
        if (!n)
            return sr_fail(
                err, SR_USAGE, NULL,
                "a string that is not UTF-8 (byte %zu) is refused in JSON: encode "
                "binary data as base64",
                (size_t)(p - text) + 1);
        p += n;
    }
    return 0;
}

static void put_escaped(sr_buf *out, unsigned char c) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *short_form = strchr(from, c);
    if (short_form)
        (void)sr_buf_printf(out, "\\%c", to[short_form - from]);
    else
        (void)sr_buf_printf(out, "\\u%04x", c);
}

int sr_json_put_string(sr_buf *out, const char *text, size_t len, sr_err *err) {
    const char *run = text, *end = text + len;
    if (check_text(text, len, err)) return -1;
    (void)sr_buf_append(out, "\"", 1);
    for (const char *p = text; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        (void)sr_buf_append(out, run, (size_t)(p - run));
        put_escaped(out, c);
        run = p + 1;
    }
    (void)sr_buf_append(out, run, (size_t)(end - run));
    return sr_buf_append(out, "\"", 1) || out->oom ? no_memory(err) : 0;
}

int sr_json_put_number(sr_buf *out, double value, sr_err *err) {
    char text[40];
    if (!isfinite(value))
        return sr_fail(err, SR_USAGE, NULL, "%s cannot be written as JSON",
                       isnan(value) ? "NaN" : "an infinite number");
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    /* os.setlocale may have changed the decimal point. */
    char *point = strstr(text, localeconv()->decimal_point);
    if (point && *point != '.') {
        memmove(point + 1, point + strlen(localeconv()->decimal_point),
                strlen(point + strlen(localeconv()->decimal_point)) + 1);
        *point = '.';
    }
    /* Without a point it would read as an integer that is too large to be exact. */
    bool bare = !strpbrk(text, ".e") && fabs(value) > (double)SR_JSON_EXACT;
    return sr_buf_printf(out, "%s%s", text, bare ? ".0" : "") ? no_memory(err) : 0;
}

int sr_json_put_int(sr_buf *out, int64_t value, sr_err *err) {
    return sr_buf_printf(out, "%lld", (long long)value) ? no_memory(err) : 0;
}

static int print_children(sr_buf *out, const cJSON *item, sr_err *err) {
    const cJSON *child;
    bool object = cJSON_IsObject(item);
    (void)sr_buf_puts(out, object ? "{" : "[");
    cJSON_ArrayForEach(child, item) {
        if (child != item->child) (void)sr_buf_puts(out, ",");
        if (object) {
            if (sr_json_put_string(out, child->string, strlen(child->string), err))
                return -1;
            (void)sr_buf_puts(out, ":");
        }
        if (sr_json_print(out, child, err)) return -1;
    }
    return sr_buf_puts(out, object ? "}" : "]") ? no_memory(err) : 0;
}

/* Not cJSON's own printer: it takes two doubles an epsilon apart for the same one, and
 * 2^53 comes out as another number. */
int sr_json_print(sr_buf *out, const cJSON *item, sr_err *err) {
    const char *word = cJSON_IsTrue(item)    ? "true"
                       : cJSON_IsFalse(item) ? "false"
                                             : "null";
    if (cJSON_IsObject(item) || cJSON_IsArray(item))
        return print_children(out, item, err);
    if (cJSON_IsNumber(item)) return sr_json_put_number(out, item->valuedouble, err);
    if (cJSON_IsString(item))
        return sr_json_put_string(out, item->valuestring, strlen(item->valuestring), err);
    if (cJSON_IsRaw(item)) word = item->valuestring;
    return sr_buf_puts(out, word) ? no_memory(err) : 0;
}
