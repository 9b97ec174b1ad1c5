/* Words by their rules; ROUGE and BM25 against rouge-score and rank_bm25 (tests/data/README.md); TF-IDF by
 * hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

static struct words split(const char *text, enum word_rule rule) {
    struct words w;
    assert_int_equal(words_split(&w, text, strlen(text), rule, NULL), PLM_OK);
    return w;
}

/* The words joined with '|'. */
static void check_words(const char *text, size_t len, enum word_rule rule, const char *want) {
    struct words w;
    struct bytes b;
    bytes_init(&b, 1000);
    assert_int_equal(words_split(&w, text, len, rule, NULL), PLM_OK);
    for (size_t i = 0; i < w.n; i++) {
        bytes_puts(&b, i ? "|" : "");
        bytes_put(&b, w.w[i].p, w.w[i].n);
    }
    assert_string_equal(b.data, want);
    bytes_free(&b);
    words_free(&w);
}

static void unicode_words_are_runs_of_letters_and_digits_in_lower_case(void **state) {
    (void)state;
    check_words("Naïve Café, 10.5% of ÉTÉ's", strlen("Naïve Café, 10.5% of ÉTÉ's"), WORDS_UNICODE,
                "naïve|café|10|5|of|été|s");
    check_words("", 0, WORDS_UNICODE, "");
    check_words(" .,; ", 5, WORDS_UNICODE, "");
    check_words("e\xcc\x81t", 4, WORDS_UNICODE, "e\xcc\x81t"); /* a combining mark goes on */
    check_words("\xcc\x81t", 3, WORDS_UNICODE, "t");           /* but starts nothing */
    check_words("\xc8\xba", 2, WORDS_UNICODE, "\xe2\xb1\xa5"); /* grows by a byte in lower case */
}

static void each_cjk_character_is_a_word(void **state) {
    (void)state;
    check_words("你好 world3かナ한국", strlen("你好 world3かナ한국"), WORDS_UNICODE,
                "你|好|world3|か|ナ|한|국");
    assert_int_equal(words_count("你好,世界", strlen("你好,世界")), 4);
    assert_int_equal(words_count("𠀀𠀁", 8), 2);
    assert_int_equal(words_count("Привет мир", strlen("Привет мир")), 2);
}

static void bytes_that_are_not_utf8_separate_words(void **state) {
    (void)state;
    check_words("ab\xff"
                "cd\xc3",
                6, WORDS_UNICODE, "ab|cd");
    check_words("ab\0cd", 5, WORDS_UNICODE, "ab|cd");
    check_words("ab\xff"
                "cd",
                5, WORDS_SPACE,
                "ab\xff"
                "cd");
}

static void rouge_words_are_ascii_after_lower_casing(void **state) {
    (void)state;
    check_words("Naïve CAFÉ-10 \xe2\x84\xaa", strlen("Naïve CAFÉ-10 \xe2\x84\xaa"), WORDS_ROUGE,
                "na|ve|caf|10|k");
    check_words("\xc4\xb0stanbul", 9, WORDS_ROUGE, "i|stanbul"); /* Python's lower() adds a combining dot */
}

static void space_words_keep_case_and_marks(void **state) {
    (void)state;
    check_words(" A b,c\tD\xe3\x80\x80"
                "e\xc2\xa0"
                "f ",
                16, WORDS_SPACE, "A|b,c|D|e|f");
}

static void normalised_text_is_words_and_single_blanks(void **state) {
    (void)state;
    char *a, *b;
    assert_int_equal(text_normalise("  Hello,\n\tWORLD!! ", 18, &a, NULL), PLM_OK);
    assert_string_equal(a, "hello world");
    assert_int_equal(text_normalise("?!", 2, &b, NULL), PLM_OK);
    assert_string_equal(b, "");
    mem_free(a);
    mem_free(b);
}

static json_t *load(const char *name) {
    char path[512];
    struct bytes b;
    json_t *doc = NULL;
    plm_error err;
    snprintf(path, sizeof path, "%s/%s", PLM_TEST_DATA, name);
    if (file_read(path, 1 << 20, &b, &err) || json_parse(&doc, b.data, b.len, path, &err))
        fail_msg("%s", err.text);
    bytes_free(&b);
    return doc;
}

static void check_rouge(const json_t *row, const char *key, struct rouge got) {
    const json_t *want = json_object_get(row, key);
    if (!want)
        return;
    double have[3] = {got.precision, got.recall, got.f};
    for (size_t i = 0; i < 3; i++) {
        double w = json_number_value(json_array_get(want, i));
        if (fabs(w - have[i]) > 1e-6)
            fail_msg("%s[%zu] of '%s' and '%s': %g, expected %g", key, i, json_text(row, "target"),
                     json_text(row, "prediction"), have[i], w);
    }
}

static size_t check_rouge_file(const char *name) {
    json_t *doc = load(name), *row;
    size_t i;
    json_array_foreach(json_object_get(doc, "rouge"), i, row) {
        const char *target = json_text(row, "target"), *prediction = json_text(row, "prediction");
        struct words t = split(target, WORDS_ROUGE), p = split(prediction, WORDS_ROUGE);
        struct words views[2] = {{t.w, t.n, NULL, NULL}, {p.w, p.n, NULL, NULL}};
        struct rouge sum;
        check_rouge(row, "rouge1", rouge_n(&t, &p, 1));
        check_rouge(row, "rouge2", rouge_n(&t, &p, 2));
        check_rouge(row, "rouge2", rouge_n(&views[0], &views[1], 2));
        check_rouge(row, "rouge3", rouge_n(&t, &p, 3));
        check_rouge(row, "rougeL", rouge_l(&t, &p));
        assert_int_equal(rouge_lsum(target, prediction, &sum, NULL), PLM_OK);
        check_rouge(row, "rougeLsum", sum);
        words_free(&t);
        words_free(&p);
    }
    json_decref(doc);
    return i;
}

static void rouge_agrees_with_rouge_score(void **state) {
    (void)state;
    assert_int_equal(check_rouge_file("text-metrics.json"), 16);
    assert_int_equal(check_rouge_file("text-metrics-more.json"), 34);
}

static void rouge_l_of_long_texts_crosses_blocks(void **state) {
    (void)state;
    /* 300 words against the same with every fifth one replaced: the LCS is the 240 that stayed. */
    struct bytes a, b;
    bytes_init(&a, 10000);
    bytes_init(&b, 10000);
    for (int i = 0; i < 300; i++) {
        bytes_printf(&a, "w%d ", i);
        bytes_printf(&b, i % 5 ? "w%d " : "other%d ", i);
    }
    struct words t = split(a.data, WORDS_ROUGE), p = split(b.data, WORDS_ROUGE);
    assert_float_equal(rouge_l(&t, &p).recall, 240.0 / 300, 1e-12);
    words_free(&t);
    words_free(&p);
    bytes_free(&a);
    bytes_free(&b);
}

static size_t check_bm25_file(const char *name) {
    json_t *doc = load(name), *bm = json_object_get(doc, "bm25"), *row;
    json_t *corpus = json_object_get(bm, "corpus");
    size_t n = json_array_size(corpus), i, checked = 0;
    struct words docs[32];
    struct bm25 *b;
    double scores[32];
    assert_true(n > 0 && n < 32);
    for (i = 0; i < n; i++)
        docs[i] = split(json_string_value(json_array_get(corpus, i)), WORDS_SPACE);
    assert_int_equal(bm25_open(&b, docs, n, NULL), PLM_OK);
    for (i = 0; i < n; i++)
        words_free(&docs[i]); /* it keeps what it needs */
    json_array_foreach(json_object_get(bm, "queries"), i, row) {
        struct words q = split(json_text(row, "q"), WORDS_SPACE);
        assert_int_equal(bm25_scores(b, &q, scores, NULL), PLM_OK);
        for (size_t d = 0; d < n; d++, checked++)
            assert_true(fabs(scores[d] -
                             json_number_value(json_array_get(json_object_get(row, "scores"), d))) < 1e-6);
        words_free(&q);
    }
    bm25_close(b);
    json_decref(doc);
    return checked;
}

static void bm25_agrees_with_rank_bm25(void **state) {
    (void)state;
    assert_int_equal(check_bm25_file("text-metrics.json"), 32);
    assert_int_equal(check_bm25_file("text-metrics-more.json"), 48);
}

static void bm25_of_nothing_scores_nothing(void **state) {
    (void)state;
    struct words empty[2] = {split("", WORDS_SPACE), split("", WORDS_SPACE)}, q = split("a", WORDS_SPACE);
    struct bm25 *b;
    double scores[2] = {7, 7};
    assert_int_equal(bm25_open(&b, empty, 0, NULL), PLM_OK);
    assert_int_equal(bm25_scores(b, &q, scores, NULL), PLM_OK);
    assert_true(scores[0] == 7);
    bm25_close(b);
    assert_int_equal(bm25_open(&b, empty, 2, NULL), PLM_OK);
    assert_int_equal(bm25_scores(b, &q, scores, NULL), PLM_OK);
    assert_true(scores[0] == 0 && scores[1] == 0);
    bm25_close(b);
    words_free(&empty[0]);
    words_free(&empty[1]);
    words_free(&q);
}

static void tfidf_cosine_is_the_formula(void **state) {
    (void)state;
    struct words d[4] = {split("a a b", WORDS_UNICODE), split("b c", WORDS_UNICODE),
                         split("c d", WORDS_UNICODE), split("", WORDS_UNICODE)};
    struct tfidf *t;
    assert_int_equal(tfidf_open(&t, d, 4, NULL), PLM_OK);
    double one = log(5.0 / 2) + 1, two = log(5.0 / 3) + 1; /* df 1 and 2 of 4 */
    double want = two * two / (sqrt(4 * one * one + two * two) * sqrt(two * two + two * two));
    assert_true(fabs(tfidf_cosine(t, 0, 1) - want) < 1e-12);
    assert_true(fabs(tfidf_cosine(t, 1, 0) - want) < 1e-12);
    assert_true(fabs(tfidf_cosine(t, 0, 0) - 1) < 1e-12);
    assert_true(tfidf_cosine(t, 0, 2) == 0 && tfidf_cosine(t, 3, 3) == 0);
    assert_int_equal(tfidf_documents(t, STR("b")), 2);
    assert_int_equal(tfidf_documents(t, STR("zz")), 0);
    struct str top[10];
    assert_int_equal(tfidf_top(t, top, 10), 4);
    assert_int_equal(tfidf_top(t, top, 2), 2);
    assert_true(str_eq(top[0], "c")); /* .71 in one document, .65 in another */
    tfidf_close(t);
    for (int i = 0; i < 4; i++)
        words_free(&d[i]);
}

static void lsum_of_lines_too_long_is_refused(void **state) {
    (void)state;
    plm_error err;
    struct rouge r;
    struct bytes b;
    bytes_init(&b, 1 << 20);
    for (int i = 0; i < 9000; i++)
        bytes_puts(&b, "a ");
    assert_int_equal(rouge_lsum(b.data, b.data, &r, &err), PLM_ELIMIT);
    assert_non_null(strstr(err.text, "9000 words"));
    bytes_free(&b);
}

static plm_status everything(void) {
    struct words d[2] = {{0}, {0}};
    struct bm25 *b = NULL;
    struct tfidf *t = NULL;
    struct rouge r;
    char *line = NULL;
    double scores[2];
    plm_status st = words_split(&d[0], "a b c", 5, WORDS_UNICODE, NULL);
    if (!st)
        st = words_split(&d[1], "c d", 3, WORDS_UNICODE, NULL);
    if (!st)
        st = bm25_open(&b, d, 2, NULL);
    if (!st)
        st = bm25_scores(b, &d[0], scores, NULL);
    if (!st)
        st = tfidf_open(&t, d, 2, NULL);
    if (!st)
        st = rouge_lsum("a b\nc", "a\nc", &r, NULL);
    if (!st)
        st = text_normalise("A b", 3, &line, NULL);
    mem_free(line);
    bm25_close(b);
    tfidf_close(t);
    words_free(&d[0]);
    words_free(&d[1]);
    return st;
}

static void each_failed_allocation_is_a_clean_status(void **state) {
    (void)state;
    long before = mem_count();
    assert_int_equal(everything(), PLM_OK);
    long n = mem_count() - before;
    assert_true(n > 20);
    for (long i = 1; i <= n; i++) {
        mem_fail_at(i, false);
        plm_status st = everything();
        mem_fail_at(0, false);
        assert_int_equal(st, PLM_ENOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unicode_words_are_runs_of_letters_and_digits_in_lower_case),
        cmocka_unit_test(each_cjk_character_is_a_word),
        cmocka_unit_test(bytes_that_are_not_utf8_separate_words),
        cmocka_unit_test(rouge_words_are_ascii_after_lower_casing),
        cmocka_unit_test(space_words_keep_case_and_marks),
        cmocka_unit_test(normalised_text_is_words_and_single_blanks),
        cmocka_unit_test(rouge_agrees_with_rouge_score),
        cmocka_unit_test(rouge_l_of_long_texts_crosses_blocks),
        cmocka_unit_test(bm25_agrees_with_rank_bm25),
        cmocka_unit_test(bm25_of_nothing_scores_nothing),
        cmocka_unit_test(tfidf_cosine_is_the_formula),
        cmocka_unit_test(lsum_of_lines_too_long_is_refused),
        cmocka_unit_test(each_failed_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
