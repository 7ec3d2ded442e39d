/* json_fuzz.c – any bytes as JSON: refused with a place, or printed and read back the
 * same.
 *
 * Properties: a refusal fills the error; what is accepted prints, the print is accepted
 * and prints the same again; a string that may be written reads back byte for byte.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/json.h"

#define HOLDS(cond)                                                                      \
    do {                                                                                 \
        if (!(cond)) __builtin_trap();                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print_is_stable(const cJSON *tree) {
    sr_buf first = {0}, second = {0};
    sr_err err = {0};
    HOLDS(sr_json_print(&first, tree, &err) == 0);
    cJSON *again = sr_json_parse(first.data, first.len, SR_JSON_MAX_DEPTH, &err);
    HOLDS(again);
    HOLDS(sr_json_print(&second, again, &err) == 0);
    HOLDS(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
    HOLDS(cJSON_Compare(tree, again, 1));
    cJSON_Delete(again);
    sr_buf_free(&first);
    sr_buf_free(&second);
}

static void string_survives(const char *text, size_t len) {
    sr_buf out = {0};
    sr_err err = {0};
    if (sr_json_put_string(&out, text, len, &err) == 0) {
        cJSON *tree = sr_json_parse(out.data, out.len, 1, &err);
        HOLDS(cJSON_IsString(tree) && strlen(tree->valuestring) == len);
        HOLDS(memcmp(tree->valuestring, text, len) == 0);
        cJSON_Delete(tree);
    } else {
        HOLDS(err.kind == SR_USAGE && out.len == 0);
    }
    sr_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* A copy of the exact size: reading one byte beyond it is caught. */
    char *text = malloc(size ? size : 1);
    sr_err err = {0};
    if (!text) return 0;
    memcpy(text, data, size);
    cJSON *tree = sr_json_parse(text, size, 0, &err);
    HOLDS(tree || (err.kind && *err.message));
    if (tree) print_is_stable(tree);
    cJSON_Delete(tree);
    string_survives(text, size);
    free(text);
    return 0;
}
