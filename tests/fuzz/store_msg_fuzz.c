/* store_msg_fuzz.c – any bytes as SQL: refused with a line, or split into statements
 * whose parts lie within the text.
 *
 * Properties: each statement moves on; its names stand behind a $ and are distinct; a
 * text that is one statement is numbered, with as many digits as names.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_msg.h"

#define HOLDS(cond)                                                                      \
    do {                                                                                 \
        if (!(cond)) __builtin_trap();                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parts_are_inside(const char *text, size_t len, size_t at, const sr_sql *sql) {
    HOLDS(at <= sql->start && sql->start <= sql->end && sql->end <= sql->next);
    HOLDS(sql->next <= len && (sql->next > at || sql->next == len));
    HOLDS(sql->word.at + sql->word.len <= len && sql->count <= SR_SQL_NAMES);
    for (uint32_t i = 0; i < sql->count; i++) {
        const sr_sql_part *n = &sql->names[i];
        HOLDS(n->len > 0 && n->at > sql->start && n->at + n->len <= sql->end);
        HOLDS(text[n->at - 1] == '$');
        for (uint32_t j = 0; j < i; j++)
            HOLDS(sql->names[j].len != n->len ||
                  memcmp(text + sql->names[j].at, text + n->at, n->len) != 0);
    }
}

static void is_numbered(const char *text, const sr_sql *sql) {
    sr_buf out = {0};
    sr_err err = {0};
    HOLDS(sr_sql_numbered(text, sql, &out, &err) == 0 && out.len > 0);
    HOLDS(sql->count > 0 || (out.len == sql->end - sql->start &&
                             memcmp(out.data, text + sql->start, out.len) == 0));
    sr_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* A copy of the exact size: reading one byte beyond it is caught. */
    char *text = malloc(size ? size : 1);
    sr_sql sql;
    sr_err err = {0};
    if (!text) return 0;
    memcpy(text, data, size);
    for (size_t at = 0; at < size; at = sql.next) {
        if (sr_sql_scan(text, size, at, &sql, &err) != 0) {
            HOLDS(err.kind == SR_USAGE && *err.message);
            break;
        }
        parts_are_inside(text, size, at, &sql);
    }
    if (sr_sql_single(text, size, &sql, &err) == 0) is_numbered(text, &sql);
    (void)sr_store_is_text(text, size);
    free(text);
    return 0;
}
