/* LaMP's metrics against scikit-learn and rouge-score (tests/data/README.md), and hostile outputs files. */
#include <math.h>

#include "support_folder.h"

#include "base/json.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "plm-eval/score.h"
#include "plm-eval/teacher_arm.h"

static json_t *data(const char *name) {
    struct bytes b;
    json_t *doc = NULL;
    char path[512];
    snprintf(path, sizeof path, PLM_TEST_DATA "/%s", name);
    bytes_init(&b, 4 << 20);
    assert_int_equal(file_read(path, 4 << 20, &b, NULL), PLM_OK);
    assert_int_equal(json_parse(&doc, b.data, b.len, name, NULL), PLM_OK);
    bytes_free(&b);
    return doc;
}

static void write_answers(const char *path, const char *task, const json_t *answers, bool backwards) {
    json_t *golds = json_array(), *doc = json_pack("{s:s, s:o}", "task", task, "golds", golds);
    char id[24];
    for (size_t i = 0; i < json_array_size(answers); i++) {
        size_t at = backwards ? json_array_size(answers) - 1 - i : i;
        snprintf(id, sizeof id, "%zu", at);
        json_array_append_new(golds,
                              json_pack("{s:s, s:O}", "id", id, "output", json_array_get(answers, at)));
    }
    assert_int_equal(json_dump_file(doc, path, 0), 0);
    json_decref(doc);
}

static void scores_are_those_of_the_reference(void **state) {
    struct folder *f = *state;
    json_t *cases = data("eval/scores.json"), *c;
    size_t i;
    char golds[80], preds[80];
    snprintf(golds, sizeof golds, "%s/golds", f->path);
    snprintf(preds, sizeof preds, "%s/preds", f->path);
    json_array_foreach(cases, i, c) {
        const char *task = json_text(c, "task");
        struct score s;
        write_answers(golds, task, json_object_get(c, "golds"), false);
        write_answers(preds, task, json_object_get(c, "preds"), true);
        assert_int_equal(score_files(&s, i % 2 ? task : NULL, golds, preds, NULL), PLM_OK);
        assert_string_equal(s.task->name, strcmp(task, "LaMP_2") ? task : "LaMP_2M");
        assert_int_equal(s.n, json_array_size(json_object_get(c, "golds")));
        assert_int_equal(s.unread, json_integer_value(json_object_get(c, "unread")));
        for (int v = 0; v < 2; v++)
            assert_float_equal(s.value[v], json_number_value(json_array_get(json_object_get(c, "values"), v)),
                               1e-12);
    }
    json_decref(cases);
}

static void strip_is_pythons(void **state) {
    (void)state;
    json_t *pairs = data("eval/strip.json"), *pair;
    size_t i;
    json_array_foreach(pairs, i, pair) {
        const json_t *text = json_array_get(pair, 0), *want = json_array_get(pair, 1);
        struct str got = text_strip((struct str){json_string_value(text), json_string_length(text)});
        assert_int_equal(got.n, json_string_length(want));
        assert_memory_equal(got.p, json_string_value(want), got.n);
    }
    json_decref(pairs);
}

/* The values that came from rouge-score for base/text, through the metric. */
static void rouge_is_the_f_of_the_ascii_rule(void **state) {
    (void)state;
    json_t *doc = data("text-metrics.json"), *one;
    size_t i, seen = 0;
    json_array_foreach(json_object_get(doc, "rouge"), i, one) {
        struct metric_rouge m;
        if (json_is_true(json_object_get(one, "stemmer")))
            continue;
        assert_int_equal(
            metric_rouge(&m, str_of(json_text(one, "prediction")), str_of(json_text(one, "target")), NULL),
            PLM_OK);
        assert_float_equal(m.rouge1, json_number_value(json_array_get(json_object_get(one, "rouge1"), 2)),
                           1e-6);
        assert_float_equal(m.rougel, json_number_value(json_array_get(json_object_get(one, "rougeL"), 2)),
                           1e-6);
        seen++;
    }
    assert_true(seen > 10);
    json_decref(doc);
}

static void a_rating_that_is_no_finite_number_is_the_worst_one(void **state) {
    (void)state;
    bool read;
    static const char *const odd[] = {"nan", "inf", "1e999", "", "4\0", "four", "1_", "++1", "+ 1"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct str s = i == 4 ? (struct str){odd[i], 2} : str_of(odd[i]);
        assert_float_equal(metric_rating(s, 1, &read), 5, 0);
        assert_false(read);
        assert_float_equal(metric_rating(s, 3, NULL), 5, 0);
        assert_float_equal(metric_rating(s, 4, NULL), 1, 0);
    }
    assert_float_equal(metric_rating(STR("10"), 4, &read), 10, 0); /* no clipping */
    assert_true(read);
}

static void a_class_that_never_occurs_counts_as_zero(void **state) {
    (void)state;
    static const int gold[] = {0, 0, 1, 1}, pred[] = {0, -1, 1, 0};
    struct metric_labels m = metric_labels(pred, gold, 4, 4);
    assert_float_equal(m.accuracy, 0.5, 0);
    assert_float_equal(m.f1, (0.5 + 2.0 / 3) / 4, 1e-15);
    m = metric_labels(pred, gold, 0, 4);
    assert_float_equal(m.accuracy + m.f1, 0, 0);
}

static void numbers_as_ids_and_outputs_are_their_digits(void **state) {
    struct folder *f = *state;
    struct score s;
    char golds[80], preds[80];
    snprintf(golds, sizeof golds, "%s/golds", f->path);
    snprintf(preds, sizeof preds, "%s/preds", f->path);
    write_text(golds,
               "{\"task\":\"LaMP_3\",\"golds\":[{\"id\":600,\"output\":4},{\"id\":\"7\",\"output\":\"2\"}]}");
    write_text(
        preds,
        "{\"golds\":[{\"output\":2.5,\"id\":7},{\"id\":\"600\",\"output\":\"4\"}],\"task\":\"LaMP_3\"}");
    assert_int_equal(score_files(&s, "LaMP_3", golds, preds, NULL), PLM_OK);
    assert_float_equal(s.value[0], 0.25, 1e-15);
    write_text(golds, "{\"task\":\"LaMP_4\",\"golds\":[{\"id\":1,\"output\":\"4 0\"}]}");
    write_text(preds, "{\"task\":\"LaMP_4\",\"golds\":[{\"id\":1,\"output\":4.0}]}");
    assert_int_equal(score_files(&s, NULL, golds, preds, NULL), PLM_OK);
    assert_float_equal(s.value[0], 1, 1e-15);
}

#define GOLD \
    "{\"task\":\"LaMP_1\",\"golds\":[{\"id\":\"a\",\"output\":\"[1]\"},{\"id\":\"b\",\"output\":\"[2]\"}]}"
#define ONE "{\"task\":\"LaMP_1\",\"golds\":[{\"id\":\"a\",\"output\":\"[1]\"}"

static void what_is_not_that_format_is_one_sentence(void **state) {
    static const struct {
        const char *golds, *preds, *says;
    } bad[] = {
        {GOLD, "", "not valid JSON"},
        {GOLD, "[1", "preds"},
        {GOLD, "[]", "no \"task\""},
        {GOLD, "{\"task\":\"LaMP_1\"}", "no list \"golds\""},
        {GOLD, "{\"task\":\"LaMP_1\",\"golds\":[]}", "no list \"golds\""},
        {GOLD, "{\"task\":\"LaMP_1\",\"golds\":{}}", "no list \"golds\""},
        {GOLD, "{\"task\":\"LaMP_1\",\"golds\":[3]}", "entry 1 of golds has no \"id\""},
        {GOLD, "{\"task\":\"LaMP_1\",\"golds\":[{\"id\":1.5,\"output\":\"\"}]}", "no \"id\""},
        {GOLD, "{\"task\":\"LaMP_1\",\"golds\":[{\"id\":\"a\"}]}", "id \"a\" has no \"output\""},
        {GOLD, "{\"task\":\"LaMP_1\",\"golds\":[{\"id\":\"a\",\"output\":null}]}",
         "id \"a\" has no \"output\""},
        {GOLD, ONE "]}", "id \"b\" is missing"},
        {ONE "]}", GOLD, "id \"b\" is not among the golds"},
        {GOLD, ONE ",{\"id\":\"c\",\"output\":\"\"}]}", "id \"b\" is missing"},
        {GOLD, ONE ",{\"id\":\"a\",\"output\":\"\"}]}", "id \"a\" is there twice"},
        {ONE ",{\"id\":\"b\",\"output\":\"[3]\"}]}", GOLD, "id \"b\" has an output that is no label"},
        {GOLD, "{\"task\":\"LaMP_3\",\"golds\":[{\"id\":\"a\",\"output\":\"\"}]}", "not LaMP_1"},
        {"{\"task\":\"LaMP_9\",\"golds\":[{\"id\":\"a\",\"output\":\"\"}]}", GOLD, "no task of LaMP"},
        {"{\"task\":\"LaMP_3\",\"golds\":[{\"id\":\"a\",\"output\":\"x\"}]}",
         "{\"task\":\"LaMP_3\",\"golds\":[{\"id\":\"a\",\"output\":\"1\"}]}", "that is no number"},
    };
    struct folder *f = *state;
    char golds[80], preds[80];
    snprintf(golds, sizeof golds, "%s/golds", f->path);
    snprintf(preds, sizeof preds, "%s/preds", f->path);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct score s;
        plm_error err = {0};
        write_text(golds, bad[i].golds);
        write_text(preds, bad[i].preds);
        assert_int_not_equal(score_files(&s, NULL, golds, preds, &err), PLM_OK);
        if (!strstr(err.text, bad[i].says))
            fail_msg("%zu: \"%s\" does not say \"%s\"", i, err.text, bad[i].says);
    }
}

static void each_failing_allocation_is_a_clean_status(void **state) {
    struct folder *f = *state;
    struct score s;
    char golds[80], preds[80];
    static const char *const tasks[] = {"LaMP_2N", "LaMP_3", "LaMP_7"};
    static const char *const output[] = {"crime", "4", "A title of mine"};
    snprintf(golds, sizeof golds, "%s/golds", f->path);
    snprintf(preds, sizeof preds, "%s/preds", f->path);
    for (int t = 0; t < 3; t++) {
        json_t *one = json_pack("[s]", output[t]);
        write_answers(golds, tasks[t], one, false);
        write_answers(preds, tasks[t], one, false);
        json_decref(one);
        plm_status st = PLM_ENOMEM;
        for (long n = 1; st != PLM_OK; n++) {
            plm_error err = {0};
            mem_fail_at(n, false);
            st = score_files(&s, NULL, golds, preds, &err);
            mem_fail_at(0, false);
            assert_true(st == PLM_OK || (st == PLM_ENOMEM && err.text[0]));
            assert_true(n < 1000);
        }
    }
}

static void an_answer_is_its_first_line_and_a_label_only_as_it_is_written(void **state) {
    static const char *const labels[] = {"comedy", "classic"};
    static const plm_kind kind = {.labels = labels, .n_labels = 2}, free_text = {.name = "note"};
    static const struct {
        const char *said, *kept;
        int pred;
    } cases[] = {{"comedy", "comedy", 0},
                 {"\n classic \nbecause", "classic", 1},
                 {"Comedy", "Comedy", -1},
                 {"comedy.", "comedy.", -1},
                 {"", "", -1},
                 {" \r\n\t", "", -1},
                 {"a \xc3\xbc\r\n\r\nb", "a \xc3\xbc", -1}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reply r = {.pred = 7};
        char text[40];
        snprintf(text, sizeof text, "%s", cases[i].said);
        reply_said(&r, &kind, text);
        assert_string_equal(text, cases[i].kept);
        assert_int_equal(r.pred, cases[i].pred);
        reply_said(&r, &free_text, text);
        assert_int_equal(r.pred, -1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_its_first_line_and_a_label_only_as_it_is_written),
        cmocka_unit_test(strip_is_pythons),
        cmocka_unit_test(rouge_is_the_f_of_the_ascii_rule),
        cmocka_unit_test(a_rating_that_is_no_finite_number_is_the_worst_one),
        cmocka_unit_test(a_class_that_never_occurs_counts_as_zero),
        cmocka_unit_test_setup_teardown(scores_are_those_of_the_reference, folder_make, folder_drop),
        cmocka_unit_test_setup_teardown(numbers_as_ids_and_outputs_are_their_digits, folder_make,
                                        folder_drop),
        cmocka_unit_test_setup_teardown(what_is_not_that_format_is_one_sentence, folder_make, folder_drop),
        cmocka_unit_test_setup_teardown(each_failing_allocation_is_a_clean_status, folder_make, folder_drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
