/* dns_msg_test.c – messages on the wire, names people type, and what is not an answer. */
#include "dcv/dns_msg.h"
#include "unit.h"

#include <stdlib.h>

/* The reply of RFC 1035's own example names: F.ISI.ARPA is an alias of FOO.F.ISI.ARPA,
 * whose address is 10.0.0.52; compression pointers as in section 4.1.4. */
static const unsigned char reply[] = {
    0x12, 0x34, 0x85, 0x80, 0,    1,   0, 2,   0,   0,   0,   0, /* header: QR AA RD RA */
    1,    'F',  3,    'I',  'S',  'I', 4, 'A', 'R', 'P', 'A', 0, /* at 12 */
    0,    1,    0,    1,                                         /* A IN */
    0xc0, 12,   0,    5,    0,    1,   0, 0,   1,   44,  0,   6, /* CNAME, 300 s */
    3,    'F',  'O',  'O',  0xc0, 12,                            /* at 40 */
    0xc0, 40,   0,    1,    0,    1,   0, 0,   0,   60,  0,   4,
    10,   0,    0,    52, /* A, 60 s */
};

static const unsigned char question[] = {0x12, 0x34, 1,   0,   0, 1,   0,   0,   0, 0,
                                         0,    0,    1,   'f', 3, 'i', 's', 'i', 4, 'a',
                                         'r',  'p',  'a', 0,   0, 1,   0,   1};

TEST(dns_message_is_read_with_compressed_names) {
    sr_dns_message message;
    sr_err err = {0};
    CHECK(sr_dns_decode(reply, sizeof reply, &message, &err) == 0);
    CHECK_INT(message.head.id, 0x1234);
    CHECK(message.head.qr && message.head.aa && message.head.ra && !message.head.tc);
    CHECK_STR(message.name, "f.isi.arpa");
    CHECK_STR(message.type, "A");
    CHECK_INT(message.section[SR_DNS_ANSWER].count, 2);
    const sr_dns_record *alias = &message.section[SR_DNS_ANSWER].at[0];
    CHECK_STR(alias->type, "CNAME");
    CHECK_STR(alias->value, "foo.f.isi.arpa");
    CHECK_INT(alias->ttl, 300);
    const sr_dns_record *address = &message.section[SR_DNS_ANSWER].at[1];
    CHECK_STR(address->name, "foo.f.isi.arpa");
    CHECK_STR(address->field[0].name, "address");
    CHECK_STR(address->field[0].text, "10.0.0.52");
    sr_dns_message_free(&message);
}

TEST(dns_message_cut_anywhere_is_refused) {
    for (size_t len = 0; len < sizeof reply; len++) {
        sr_dns_message message;
        sr_err err = {0};
        unsigned char *cut = malloc(len ? len : 1);
        CHECK(cut != NULL);
        memcpy(cut, reply, len);
        CHECK(sr_dns_decode(cut, len, &message, &err) == -1);
        CHECK_INT(err.kind, SR_PROTOCOL);
        free(cut);
    }
}

TEST(dns_message_with_a_pointer_to_itself_is_refused) {
    sr_dns_message message;
    sr_err err = {0};
    unsigned char loop[sizeof reply];
    memcpy(loop, reply, sizeof reply);
    loop[29] = 28; /* the owner of the CNAME points at itself */
    CHECK(sr_dns_decode(loop, sizeof loop, &message, &err) == -1);
    CHECK_INT(err.kind, SR_PROTOCOL);
}

TEST(dns_answer_is_believed_only_with_id_and_question) {
    const char *why = NULL;
    unsigned char other[sizeof reply];
    CHECK(sr_dns_answers(question, sizeof question, reply, sizeof reply, &why));
    CHECK(why == NULL);
    memcpy(other, reply, sizeof reply);
    other[1] ^= 1;
    CHECK(!sr_dns_answers(question, sizeof question, other, sizeof other, &why));
    CHECK_STR(why, "its id is another one");
    memcpy(other, reply, sizeof reply);
    other[13] = 'g';
    CHECK(!sr_dns_answers(question, sizeof question, other, sizeof other, &why));
    CHECK_STR(why, "its question is another one");
    memcpy(other, reply, sizeof reply);
    other[25] = 28; /* AAAA */
    CHECK(!sr_dns_answers(question, sizeof question, other, sizeof other, &why));
    CHECK(!sr_dns_answers(question, sizeof question, question, sizeof question, &why));
    CHECK_STR(why, "it is a query");
    CHECK(!sr_dns_answers(question, sizeof question, reply, 11, &why));
    CHECK(!sr_dns_answers(question, sizeof question, reply, 20, &why));
    memcpy(other, reply, sizeof reply);
    other[2] = 0xa8; /* UPDATE */
    CHECK(!sr_dns_answers(question, sizeof question, other, sizeof other, &why));
}

TEST(dns_error_without_a_question_is_an_answer) {
    const unsigned char formerr[] = {0x12, 0x34, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    const unsigned char empty[] = {0x12, 0x34, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    CHECK(sr_dns_answers(question, sizeof question, formerr, sizeof formerr, NULL));
    CHECK(!sr_dns_answers(question, sizeof question, empty, sizeof empty, NULL));
}

static const sr_dns_record *round_trip(const sr_dns_add *add, sr_dns_message *message) {
    sr_err err = {0};
    sr_buf wire = {0};
    sr_dns_head head = {.id = 7, .has_edns = true, .edns_size = 1232};
    sr_dns_draft *draft = sr_dns_draft_new(&head, "Example.TEST.", "TXT", NULL, &err);
    CHECK(draft != NULL);
    CHECK(sr_dns_draft_add(draft, SR_DNS_ANSWER, add, &err) == 0);
    CHECK(sr_dns_draft_encode(draft, 0, &wire, NULL, &err) == 0);
    CHECK(sr_dns_decode(wire.data, wire.len, message, &err) == 0);
    sr_dns_draft_free(draft);
    sr_buf_free(&wire);
    CHECK(message->head.has_edns);
    CHECK_INT(message->head.edns_size, 1232);
    CHECK_INT(message->section[SR_DNS_ANSWER].count, 1);
    return &message->section[SR_DNS_ANSWER].at[0];
}

TEST(dns_text_of_any_length_and_any_bytes_comes_back_whole) {
    char text[1000];
    sr_dns_message message;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7);
    const size_t lengths[] = {0, 1, 255, 256, 510, 511, 1000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        sr_dns_add add = {
            .name = "example.test", .type = "TXT", .text = text, .text_len = lengths[i]};
        const sr_dns_record *record = round_trip(&add, &message);
        CHECK_STR(record->field[0].name, "text");
        CHECK_INT(record->field[0].len, lengths[i]);
        CHECK(memcmp(record->field[0].text, text, lengths[i]) == 0);
        sr_dns_message_free(&message);
    }
}

TEST(dns_parts_of_the_rdata_have_names) {
    sr_dns_message message;
    sr_dns_add caa = {.name = "a.test",
                      .type = "CAA",
                      .ttl = 9,
                      .value = "128 issue \"ca.example; validationmethods=dns-01\""};
    const sr_dns_record *record = round_trip(&caa, &message);
    CHECK_INT(record->field[0].number, 128);
    CHECK_STR(record->field[1].text, "issue");
    CHECK_STR(record->field[2].text, "ca.example; validationmethods=dns-01");
    sr_dns_message_free(&message);
    sr_dns_add soa = {.name = "a.test",
                      .type = "SOA",
                      .value = "ns.a.test. root.a.test. 4294967295 1 2 3 300"};
    record = round_trip(&soa, &message);
    CHECK_STR(record->field[2].name, "serial");
    CHECK_INT(record->field[2].number, 4294967295LL);
    CHECK_INT(record->field[6].number, 300);
    sr_dns_message_free(&message);
}

TEST(dns_draft_beyond_the_bound_is_truncated) {
    sr_err err = {0};
    sr_buf wire = {0};
    bool truncated = false;
    char text[400];
    sr_dns_message message;
    sr_dns_head head = {.qr = true};
    sr_dns_draft *draft = sr_dns_draft_new(&head, "a.test", "TXT", NULL, &err);
    memset(text, 'x', sizeof text);
    sr_dns_add add = {
        .name = "a.test", .type = "TXT", .text = text, .text_len = sizeof text};
    CHECK(sr_dns_draft_add(draft, SR_DNS_ANSWER, &add, &err) == 0);
    CHECK(sr_dns_draft_add(draft, SR_DNS_ANSWER, &add, &err) == 0);
    CHECK(sr_dns_draft_encode(draft, 512, &wire, &truncated, &err) == 0);
    CHECK(truncated && wire.len <= 512);
    CHECK(sr_dns_decode(wire.data, wire.len, &message, &err) == 0);
    CHECK(message.head.tc);
    CHECK_INT(message.section[SR_DNS_ANSWER].count, 0);
    sr_dns_message_free(&message);
    sr_dns_draft_free(draft);
    sr_buf_free(&wire);
}

TEST(dns_names_are_canonical) {
    static const char *const pairs[][2] = {{"Example.COM", "example.com"},
                                           {"example.com.", "example.com"},
                                           {".", "."},
                                           {"_acme-challenge.a", "_acme-challenge.a"},
                                           {"*.a", "*.a"},
                                           {"a\\.b.c", "a\\.b.c"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char *name;
        sr_err err = {0};
        CHECK(sr_dns_name(pairs[i][0], strlen(pairs[i][0]), &name, &err) == 0);
        CHECK_STR(name, pairs[i][1]);
        free(name);
    }
}

static const char *complaint(const char *text) {
    static sr_err err;
    char *name;
    err = (sr_err){0};
    CHECK(sr_dns_name(text, strlen(text), &name, &err) == -1);
    CHECK_INT(err.kind, SR_USAGE);
    return err.message;
}

TEST(dns_names_that_are_none_are_explained) {
    char label[70], name[300];
    memset(label, 'a', 64);
    label[64] = 0;
    CHECK(strstr(complaint("m\303\274nchen.de"), "xn--"));
    CHECK(strstr(complaint("a..b"), "empty label"));
    CHECK(strstr(complaint(".a"), "empty label"));
    CHECK(strstr(complaint("https://a.test/x"), "URL"));
    CHECK(strstr(complaint("a b"), "place 2"));
    CHECK(strstr(complaint(""), "missing"));
    CHECK(strstr(complaint(label), "63"));
    for (size_t i = 0; i < 256; i += 8)
        memcpy(name + i, "abcdefg.", 9); /* 256 bytes */
    CHECK(strstr(complaint(name), "253"));
}

TEST(dns_wrong_types_and_values_are_explained) {
    uint16_t type;
    sr_err err = {0};
    sr_dns_head head = {0};
    CHECK(sr_dns_type("caa", &type, &err) == 0);
    CHECK_INT(type, 257);
    CHECK(sr_dns_type("AAA", &type, &err) == -1);
    CHECK(strstr(err.message, "AAAA?"));
    sr_dns_draft *draft = sr_dns_draft_new(&head, "a.test", "A", NULL, &err);
    const sr_dns_add wrong[] = {
        {.name = "a.test", .type = "A", .value = "1.2.3.400"},
        {.name = "a.test", .type = "A", .value = "1.2.3.4\nb. A 1.1.1.1"},
        {.name = "a.test", .type = "A", .value = ""},
        {.name = "a.test", .type = "CAA", .value = "issue"},
        {.name = "a.test", .type = "A", .text = "x", .text_len = 1},
        {.name = "a.test", .type = "CERT", .value = "X 1 2 AAAA"},
        {.name = "a.test", .type = "MX", .value = "ten mail.a.test"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK(sr_dns_draft_add(draft, SR_DNS_ANSWER, &wrong[i], &err) == -1);
        CHECK_INT(err.kind, SR_USAGE);
    }
    sr_dns_draft_free(draft);
}

TEST(dns_response_codes_have_names_both_ways) {
    CHECK_STR(sr_dns_rcode_name(3), "NXDOMAIN");
    CHECK_STR(sr_dns_rcode_name(99), "RCODE99");
    CHECK_INT(sr_dns_rcode_of("servfail"), 2);
    CHECK_INT(sr_dns_rcode_of("NOPE"), -1);
}
