/* dns_msg_fuzz.c – messages from anybody, and names and values that people typed.
 *
 * What decodes has canonical names and can be built again from its own values; what was
 * built decodes. Bytes that are no answer are refused before they are parsed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dcv/dns_msg.h"

#define MUST(cond)                                                                       \
    do {                                                                                 \
        if (!(cond)) abort();                                                            \
    } while (0)

static void must_be_canonical(const char *name) {
    sr_err err = {0};
    char *again;
    if (sr_dns_name(name, strlen(name), &again, &err) != 0) return; /* odd bytes */
    MUST(strcmp(name, again) == 0);
    free(again);
}

/* Every record can be written from what was read, unless its text is not one of ours. */
static void rebuild(const sr_dns_message *message) {
    sr_err err = {0};
    sr_buf wire = {0};
    sr_dns_head head = {.id = 1, .qr = true};
    sr_dns_draft *draft = sr_dns_draft_new(&head, "a.test", "A", NULL, &err);
    MUST(draft != NULL);
    for (int s = 0; s < SR_DNS_SECTIONS; s++) {
        const sr_dns_list *list = &message->section[s];
        for (size_t i = 0; i < list->count; i++) {
            const sr_dns_record *record = &list->at[i];
            sr_dns_add add = {.name = record->name,
                              .type = record->type,
                              .ttl = record->ttl,
                              .value = record->value};
            must_be_canonical(record->name);
            if (strcmp(record->type, "TXT") == 0 && record->fields == 1) {
                add.value = NULL;
                add.text = record->field[0].text;
                add.text_len = record->field[0].len;
            }
            (void)sr_dns_draft_add(draft, (sr_dns_section)s, &add, &err);
        }
    }
    if (sr_dns_draft_encode(draft, 0, &wire, NULL, &err) == 0) {
        sr_dns_message again;
        MUST(sr_dns_decode(wire.data, wire.len, &again, &err) == 0);
        sr_dns_message_free(&again);
    }
    sr_buf_free(&wire);
    sr_dns_draft_free(draft);
}

static void words(const char *text, size_t len) {
    sr_err err = {0};
    char *name;
    uint16_t type;
    sr_dns_head head = {0};
    static const char *const types[] = {"A",  "AAAA", "TXT", "CAA", "MX",
                                        "NS", "SOA",  "SRV", "PTR"};
    if (sr_dns_name(text, len, &name, &err) == 0) {
        must_be_canonical(name);
        free(name);
    }
    (void)sr_dns_type(text, &type, &err);
    sr_dns_draft *draft = sr_dns_draft_new(&head, "a.test", "A", NULL, &err);
    MUST(draft != NULL);
    /* One type an input: reading a value costs ldns large buffers. */
    const char *kind = types[len % (sizeof types / sizeof *types)];
    sr_dns_add add = {.name = "a.test", .type = kind, .value = text};
    (void)sr_dns_draft_add(draft, SR_DNS_ANSWER, &add, &err);
    sr_dns_draft_free(draft);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t query[] = {0, 0,   1, 0,   0,   1,   0,   0, 0, 0, 0, 0,
                                    1, 'a', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1};
    sr_err err = {0};
    sr_dns_message message;
    const char *why = NULL;
    bool fits = sr_dns_answers(query, sizeof query, data, size, &why);
    MUST(fits == (why == NULL));
    (void)sr_dns_answers(data, size, data, size, NULL);
    if (sr_dns_decode(data, size, &message, &err) == 0) {
        rebuild(&message);
        sr_dns_message_free(&message);
    }
    char *text = malloc(size + 1);
    MUST(text != NULL);
    memcpy(text, data, size);
    text[size] = 0;
    words(text, size);
    free(text);
    return 0;
}
