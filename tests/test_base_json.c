/* JSON behind its limits: what is refused, in how many words, and how fast. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

static plm_status parse(const char *text, size_t len, plm_error *err) {
    json_t *doc = NULL;
    plm_status st = json_parse(&doc, text, len, "notes.jsonl line 3", err);
    if (!st)
        assert_non_null(doc);
    json_decref(doc);
    return st;
}

static plm_status nest(size_t depth, plm_error *err) {
    char *text = malloc(2 * depth);
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    plm_status st = parse(text, 2 * depth, err);
    free(text);
    return st;
}

static void depth_64_is_read_and_65_refused(void **state) {
    (void)state;
    plm_error err;
    assert_int_equal(nest(64, &err), PLM_OK);
    assert_int_equal(nest(65, &err), PLM_EFORMAT);
    assert_string_equal(err.text, "notes.jsonl line 3: JSON is nested deeper than 64 at line 1");
}

static void depth_100000_is_refused_at_once(void **state) {
    (void)state;
    plm_error err;
    double from = clock_now();
    assert_int_equal(nest(100000, &err), PLM_EFORMAT);
    char *text = malloc(500000);
    for (int i = 0; i < 100000; i++)
        memcpy(text + 5 * i, "{\"a\":", 5);
    assert_int_equal(parse(text, 500000, &err), PLM_EFORMAT);
    free(text);
    assert_true(clock_now() - from < 0.5);
}

static void brackets_inside_strings_do_not_count(void **state) {
    (void)state;
    char text[200] = "[\"\\\"";
    memset(text + 4, '[', 150);
    strcpy(text + 154, "\\\\\"]");
    assert_int_equal(parse(text, strlen(text), NULL), PLM_OK);
}

static void too_many_objects_are_refused_before_they_take_memory(void **state) {
    (void)state;
    plm_error err;
    size_t n = 350000, len = 3 * n + 3;
    char *text = malloc(len + 1);
    text[0] = '[';
    for (size_t i = 0; i < n; i++)
        memcpy(text + 1 + 3 * i, "{},", 3);
    memcpy(text + 1 + 3 * n, "1]", 2);
    uint64_t before = process_rss();
    assert_int_equal(parse(text, len, &err), PLM_ELIMIT);
    assert_string_equal(err.text, "notes.jsonl line 3: JSON holds more than 131072 objects and lists");
    assert_true(process_rss() < before + (8 << 20));
    memcpy(text + 1 + 3 * 131000, "1]", 3);
    assert_int_equal(parse(text, 3 + 3 * 131000, &err), PLM_OK);
    free(text);
}

static void duplicate_keys_are_refused(void **state) {
    (void)state;
    plm_error err;
    assert_int_equal(parse("{\"a\":1,\"b\":2,\"\\u0061\":3}", 24, &err), PLM_EFORMAT);
    assert_non_null(strstr(err.text, "duplicate"));
}

static void broken_text_is_one_sentence_with_its_place(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "{\"a\":1,}",
                                      "[1 2]",
                                      "nul",
                                      "{'a':1}",
                                      "[1]x",
                                      "\"a",
                                      "01",
                                      "-",
                                      "[1e999]",
                                      "{\"a\":\"\\ud800\"}",
                                      "\"\\udc00x\"",
                                      "\"\xff\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\n\"",
                                      "[123456789012345678901]",
                                      "\xef\xbb\xbf{}",
                                      "NaN",
                                      "{\"a\\u0000\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plm_error err;
        if (parse(bad[i], strlen(bad[i]), &err) != PLM_EFORMAT)
            fail_msg("read: %s", bad[i]);
        assert_non_null(strstr(err.text, "notes.jsonl line 3: not valid JSON at line 1, column "));
    }
    plm_error err;
    parse("{\n \"a\": secretword }", 20, &err);
    assert_non_null(strstr(err.text, "at line 2"));
    assert_null(strstr(err.text, "secretword"));
    assert_int_equal(parse("{\"a\":\0 1}", 9, &err), PLM_EFORMAT);
}

static void a_nul_in_text_is_no_plain_string(void **state) {
    (void)state;
    json_t *doc;
    const char *text = "{\"a\":\"x\\u0000y\",\"b\":\"ok\",\"c\":1}";
    assert_int_equal(json_parse(&doc, text, strlen(text), "x", NULL), PLM_OK);
    assert_null(json_text(doc, "a"));
    assert_string_equal(json_text(doc, "b"), "ok");
    assert_null(json_text(doc, "c"));
    assert_null(json_text(doc, "d"));
    assert_null(json_text(NULL, "d"));
    json_decref(doc);
}

static void written_text_is_compact_with_sorted_keys(void **state) {
    (void)state;
    json_t *doc;
    const char *text = " { \"b\" : [1, 2.5, null], \"a\" : \"\\u00e9\\n\" } ";
    char *out = NULL;
    assert_int_equal(json_parse(&doc, text, strlen(text), "x", NULL), PLM_OK);
    assert_int_equal(json_write(doc, &out, NULL), PLM_OK);
    assert_string_equal(out, "{\"a\":\"\xc3\xa9\\n\",\"b\":[1,2.5,null]}");
    plm_free(out);
    mem_fail_at(1, true);
    plm_status st = json_write(doc, &out, NULL);
    mem_fail_at(0, false);
    assert_int_equal(st, PLM_ENOMEM);
    json_decref(doc);
}

static void a_scalar_is_its_text(void **state) {
    static const struct {
        const char *doc, *text;
    } cases[] = {{"[\"a b\"]", "a b"}, {"[5]", "5"},     {"[-12]", "-12"},        {"[5.0]", "5"},
                 {"[0.1]", "0.1"},     {"[1e20]", NULL}, {"[true]", NULL},        {"[null]", NULL},
                 {"[[]]", NULL},       {"[\"\"]", ""},   {"[\"a\\u0000\"]", NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char number[32];
        json_t *doc = NULL;
        assert_int_equal(json_parse(&doc, cases[i].doc, strlen(cases[i].doc), "case", NULL), PLM_OK);
        const char *text = json_scalar(json_array_get(doc, 0), number);
        if (cases[i].text)
            assert_string_equal(text, cases[i].text);
        else
            assert_null(text);
        json_decref(doc);
    }
    assert_null(json_scalar(NULL, (char[32]){0}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(depth_64_is_read_and_65_refused),
        cmocka_unit_test(depth_100000_is_refused_at_once),
        cmocka_unit_test(brackets_inside_strings_do_not_count),
        cmocka_unit_test(too_many_objects_are_refused_before_they_take_memory),
        cmocka_unit_test(duplicate_keys_are_refused),
        cmocka_unit_test(broken_text_is_one_sentence_with_its_place),
        cmocka_unit_test(a_nul_in_text_is_no_plain_string),
        cmocka_unit_test(a_scalar_is_its_text),
        cmocka_unit_test(written_text_is_compact_with_sorted_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
