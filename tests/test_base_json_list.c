/* A list read element by element is the list that the parser reads as a whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/json_list.h"
#include "base/mem.h"

static char path[64];

static int set_up(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/plm-json-list-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state) {
    (void)state;
    return unlink(path);
}

static plm_status read_list(json_t *into, const char *text, size_t len, size_t largest, plm_error *err) {
    struct json_list *l = NULL;
    json_t *one = NULL;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fwrite(text, 1, len, f);
    fclose(f);
    plm_status st = json_list_open(&l, path, largest, err);
    if (st)
        return st;
    do {
        st = json_list_next(l, "row", &one, err);
        if (one)
            json_array_append_new(into, one);
    } while (!st && one);
    if (!st)
        assert_int_equal(json_list_number(l), json_array_size(into));
    json_list_close(l);
    return st;
}

static void elements_are_those_of_the_whole(void **state) {
    (void)state;
    static const char *const texts[] = {
        "[]",
        " [ ] ",
        "[1]",
        "[1 , 2,3 ]",
        "\xef\xbb\xbf[{\"a\": \"],[\\\"}\"}, [[], {}], \"\\\\\", null]",
        "\n[\t{\"x\": [1, {\"y\": \"\xc3\xa9,\"}]}\r\n,\n{\"z\": 2}]\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *got = json_array(), *whole = NULL;
        const char *plain = texts[i] + (strncmp(texts[i], "\xef\xbb\xbf", 3) ? 0 : 3);
        assert_int_equal(read_list(got, texts[i], strlen(texts[i]), 1 << 20, NULL), PLM_OK);
        assert_int_equal(json_parse(&whole, plain, strlen(plain), "whole", NULL), PLM_OK);
        assert_true(json_equal(got, whole));
        json_decref(got);
        json_decref(whole);
    }
}

static void what_is_no_list_is_a_sentence(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {{"", "JSON list"},
                 {"{}", "JSON list"},
                 {"[1", "ends in the middle of row 1"},
                 {"[1,", "ends in the middle of row 2"},
                 {"[,1]", "row 1"},
                 {"[1,,2]", "row 2"},
                 {"[\"\xff\"]", "row 1 is not UTF-8"},
                 {"[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]", "row 1"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        plm_error err = {0};
        json_t *got = json_array();
        assert_int_not_equal(read_list(got, cases[i].text, strlen(cases[i].text), 20, &err), PLM_OK);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].text, err.text);
        json_decref(got);
    }
}

static void each_failed_allocation_is_a_clean_status(void **state) {
    (void)state;
    static const char text[] = "[{\"a\": 1}, [2], \"three\"]";
    json_t *got = json_array();
    long before = mem_count();
    assert_int_equal(read_list(got, text, strlen(text), 1 << 10, NULL), PLM_OK);
    long n = mem_count() - before;
    for (long i = 1; i <= n; i++) {
        mem_fail_at(i, false);
        plm_status st = read_list(got, text, strlen(text), 1 << 10, NULL);
        mem_fail_at(0, false);
        assert_int_equal(st, PLM_ENOMEM);
    }
    assert_true(n > 2);
    json_decref(got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_those_of_the_whole),
        cmocka_unit_test(what_is_no_list_is_a_sentence),
        cmocka_unit_test(each_failed_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
