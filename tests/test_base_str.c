/* Views, strict numbers, UTF-8, buffers, error sentences and random numbers. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#undef fail

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/str.h"

static void cut_gives_every_part(void **state) {
    (void)state;
    struct str rest = STR("a,,b,"), part;
    const char *want[] = {"a", "", "b", ""};
    for (int i = 0; i < 4; i++) {
        assert_true(str_cut(&rest, ',', &part));
        assert_true(str_eq(part, want[i]));
    }
    assert_false(str_cut(&rest, ',', &part));
}

static void views_compare_and_trim(void **state) {
    (void)state;
    assert_true(str_eq(str_of(NULL), ""));
    assert_true(str_starts(STR("abc"), "ab") && !str_starts(STR("a"), "ab"));
    assert_true(str_ends(STR("abc"), "bc") && !str_ends(STR("c"), "bc"));
    assert_true(str_eq(str_trim(STR(" \t\r\n x y \v\f")), "x y"));
    assert_true(str_eq(str_trim(STR("   ")), ""));
}

static void integers_are_the_whole_view_or_refused(void **state) {
    (void)state;
    int64_t i;
    uint64_t u;
    assert_true(parse_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(parse_i64(STR("9223372036854775807"), &i) && i == INT64_MAX);
    assert_true(parse_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
    const char *bad[] = {"",
                         "-",
                         "+1",
                         " 1",
                         "1 ",
                         "1x",
                         "0x10",
                         "1.0",
                         "1e3",
                         "--1",
                         "9223372036854775808",
                         "-9223372036854775809",
                         "99999999999999999999",
                         "\xd9\xa1"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        assert_false(parse_i64(str_of(bad[k]), &i));
    assert_false(parse_u64(STR("18446744073709551616"), &u) || parse_u64(STR("-1"), &u));
    assert_false(parse_i64((struct str){"1\0", 2}, &i));
}

static void reals_are_finite_and_whole_in_any_locale(void **state) {
    (void)state;
    double d;
    setlocale(LC_ALL, "de_DE.UTF-8"); /* where it is installed */
    assert_true(parse_f64(STR("-1.5e-3"), &d) && d == -1.5e-3);
    assert_true(parse_f64(STR(".5"), &d) && d == .5);
    assert_true(parse_f64(STR("5."), &d) && d == 5);
    assert_true(parse_f64(STR("1E5"), &d) && d == 1e5);
    const char *bad[] = {"",      ".",      "-",   "e5", "1e", "1e+",   "inf", "nan", "0x1p3",
                         "1e999", "-1e999", "1,5", " 1", "1 ", "1.2.3", "+1",  "1f"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        assert_false(parse_f64(str_of(bad[k]), &d));
    setlocale(LC_ALL, "C");
}

static void sizes_have_binary_units(void **state) {
    (void)state;
    uint64_t u;
    assert_true(parse_size(STR("300M"), &u) && u == 300u << 20);
    assert_true(parse_size(STR("1g"), &u) && u == 1u << 30);
    assert_true(parse_size(STR("64K"), &u) && u == 65536);
    assert_true(parse_size(STR("12"), &u) && u == 12);
    const char *bad[] = {"", "K", "1KB", "1.5G", "-1", "99999999999999G", "1 K", "18446744073709551616"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        assert_false(parse_size(str_of(bad[k]), &u));
    assert_false(parse_size((struct str){"1\0", 2}, &u));
}

static void utf8_round_trips_every_code_point(void **state) {
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        char text[4];
        size_t n = utf8_put(c, text), m;
        uint32_t back = utf8_next(text, n, &m);
        if (m != n || back != (c >= 0xd800 && c < 0xe000 ? 0xfffd : c))
            print_error("U+%04X comes back as U+%04X\n", c, back);
        assert_true(back == (c >= 0xd800 && c < 0xe000 ? 0xfffd : c));
    }
}

static void bad_utf8_is_one_replaced_byte_at_a_time(void **state) {
    (void)state;
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xfe",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98",
                                      "\xc3(",
                                      "\xe2(\xa1",
                                      "\xe2\x82(",
                                      "\xf0(\x8c\xbc"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t len, at = 99;
        assert_int_equal(utf8_next(bad[i], strlen(bad[i]), &len), 0xfffd);
        assert_int_equal(len, 1);
        char text[16];
        snprintf(text, sizeof text, "ok%s", bad[i]);
        assert_false(utf8_valid(text, strlen(text), &at));
        assert_int_equal(at, 2);
    }
    assert_true(utf8_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd", 13, NULL));
    assert_true(utf8_valid("", 0, NULL) && utf8_valid("\0", 1, NULL));
}

static void whole_prefix_never_ends_inside_a_character(void **state) {
    (void)state;
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10};
    for (size_t n = 0; n <= 10; n++)
        assert_int_equal(utf8_whole(text, n), want[n]);
    assert_int_equal(utf8_whole("\x80\x80\x80\x80", 4), 4); /* not the start of anything */
    assert_int_equal(utf8_whole("ab\xff", 3), 3);
}

static void buffer_stops_at_its_ceiling_and_says_so(void **state) {
    (void)state;
    struct bytes b;
    plm_error err;
    bytes_init(&b, 10);
    assert_string_equal(b.data, "");
    bytes_puts(&b, "12345");
    bytes_printf(&b, "%d", 67890);
    assert_int_equal(bytes_status(&b, "a reply", &err), PLM_OK);
    assert_string_equal(b.data, "1234567890");
    bytes_putc(&b, 'x');
    bytes_puts(&b, "");
    assert_int_equal(b.len, 10);
    assert_int_equal(bytes_status(&b, "a reply", &err), PLM_ELIMIT);
    assert_string_equal(err.text, "a reply is larger than its limit of 10 bytes");
    bytes_clear(&b);
    assert_int_equal(bytes_status(&b, "a reply", &err), PLM_ELIMIT);
    assert_null(bytes_take(&b));
    bytes_free(&b);
}

static void taken_text_is_the_callers_and_never_null(void **state) {
    (void)state;
    struct bytes b;
    bytes_init(&b, 100);
    char *empty = bytes_take(&b);
    assert_string_equal(empty, "");
    bytes_puts(&b, "abc");
    char *text = bytes_take(&b);
    assert_string_equal(text, "abc");
    assert_int_equal(b.len, 0);
    mem_free(empty);
    mem_free(text);
}

static void buffer_remembers_a_failed_allocation(void **state) {
    (void)state;
    struct bytes b;
    bytes_init(&b, 1000);
    bytes_puts(&b, "kept");
    mem_fail_at(1, false);
    for (int i = 0; i < 50; i++)
        bytes_puts(&b, "12345");
    mem_fail_at(0, false);
    assert_int_equal(bytes_status(&b, "x", NULL), PLM_ENOMEM);
    assert_int_equal(strncmp(b.data, "kept", 4), 0);
    bytes_free(&b);
}

static void json_strings_are_quoted_and_always_utf8(void **state) {
    (void)state;
    struct bytes b;
    bytes_init(&b, 100);
    bytes_json(&b, "a\"\\\n\t\x01\0\x7f\xc3\xa9\xff\xed\xa0\x80", 14);
    assert_string_equal(b.data,
                        "\"a\\\"\\\\\\n\\t\\u0001\\u0000\x7f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                        "\xef\xbf\xbd\"");
    bytes_free(&b);
}

static void error_sentence_is_one_printable_line(void **state) {
    (void)state;
    plm_error err;
    assert_int_equal(fail(&err, PLM_EFORMAT, "a\nb\x1b[31m\x7f\xc2\x9b\xff %s", "\xc3\xa9"), PLM_EFORMAT);
    assert_string_equal(err.text, "a?b?[31m????"
                                  " \xc3\xa9");
    assert_int_equal(err.code, PLM_EFORMAT);
    assert_int_equal(fail(NULL, PLM_EIO, "x"), PLM_EIO);
}

static void long_sentence_is_cut_between_characters(void **state) {
    (void)state;
    plm_error err;
    char text[800] = "x";
    for (size_t i = 1; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa9", 3);
    fail(&err, PLM_EIO, "%s", text);
    assert_int_equal(strlen(err.text), 499);
    assert_true(utf8_valid(err.text, strlen(err.text), NULL));
    fail(&err, PLM_EIO, "y%s", text);
    assert_int_equal(strlen(err.text), 498);
}

static void context_goes_before_the_sentence(void **state) {
    (void)state;
    plm_error err;
    fail(&err, PLM_ELIMIT, "too long");
    assert_int_equal(fail_in(&err, PLM_ELIMIT, "row 3"), PLM_ELIMIT);
    assert_string_equal(err.text, "row 3: too long");
    assert_int_equal(fail_errno(&err, 2, "/a"), PLM_ENOTFOUND);
    assert_string_equal(err.text, "/a: No such file or directory");
    assert_string_equal(plm_status_name(PLM_EBUSY), "busy");
}

static void random_numbers_are_the_published_ones(void **state) {
    (void)state;
    /* From the authors' C code: the state {1, 2, 3, 4} gives these. */
    struct rng r = {{1, 2, 3, 4}};
    static const uint64_t want[] = {11520u, 0u, 1509978240u, 1215971899390074240u};
    for (int i = 0; i < 4; i++)
        assert_true(rng_next(&r) == want[i]);
}

static void streams_repeat_and_differ(void **state) {
    (void)state;
    struct rng a, b, c;
    rng_seed(&a, 7, 0);
    rng_seed(&b, 7, 0);
    rng_seed(&c, 7, 1);
    int equal = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t x = rng_next(&a);
        assert_true(x == rng_next(&b));
        equal += x == rng_next(&c);
    }
    assert_int_equal(equal, 0);
}

static void random_draws_have_their_moments(void **state) {
    (void)state;
    struct rng r;
    double sum = 0, square = 0, unit = 0;
    size_t seen[7] = {0}, order[20], present = 0;
    rng_seed(&r, 1, 1);
    for (int i = 0; i < 100000; i++) {
        double x = rng_normal(&r), u = rng_unit(&r);
        sum += x;
        square += x * x;
        unit += u;
        assert_true(u >= 0 && u < 1);
        seen[rng_below(&r, 7)]++;
    }
    assert_true(fabs(sum / 1e5) < .02 && fabs(square / 1e5 - 1) < .03 && fabs(unit / 1e5 - .5) < .01);
    for (int i = 0; i < 7; i++)
        assert_true(seen[i] > 13800 && seen[i] < 14800);
    for (size_t i = 0; i < 20; i++)
        order[i] = i;
    rng_shuffle(&r, order, 20);
    for (size_t i = 0; i < 20; i++)
        present |= (size_t)1 << order[i];
    assert_int_equal(present, (1 << 20) - 1);
    assert_int_equal(rng_below(&r, 1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_gives_every_part),
        cmocka_unit_test(views_compare_and_trim),
        cmocka_unit_test(integers_are_the_whole_view_or_refused),
        cmocka_unit_test(reals_are_finite_and_whole_in_any_locale),
        cmocka_unit_test(sizes_have_binary_units),
        cmocka_unit_test(utf8_round_trips_every_code_point),
        cmocka_unit_test(bad_utf8_is_one_replaced_byte_at_a_time),
        cmocka_unit_test(whole_prefix_never_ends_inside_a_character),
        cmocka_unit_test(buffer_stops_at_its_ceiling_and_says_so),
        cmocka_unit_test(taken_text_is_the_callers_and_never_null),
        cmocka_unit_test(buffer_remembers_a_failed_allocation),
        cmocka_unit_test(json_strings_are_quoted_and_always_utf8),
        cmocka_unit_test(error_sentence_is_one_printable_line),
        cmocka_unit_test(long_sentence_is_cut_between_characters),
        cmocka_unit_test(context_goes_before_the_sentence),
        cmocka_unit_test(random_numbers_are_the_published_ones),
        cmocka_unit_test(streams_repeat_and_differ),
        cmocka_unit_test(random_draws_have_their_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
