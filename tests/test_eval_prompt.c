/* Data sets in LaMP's format, the guard against queries in a history, and the wording and order of retrieved
 * items (lamp.md's strings, written out here). */
#include "support_folder.h"

#include "base/file.h"
#include "base/mem.h"
#include "plm-eval/prompt.h"
#include "plm-eval/view.h"
#include "tiny_model.h"

#include <stdio.h>

struct fixture {
    plm_kinds *kinds;
    struct dataset d;
    plm_model *model;
};

static plm_status read_set(struct fixture *x, struct folder *f, const char *task, const char *questions,
                           const char *outputs, size_t *skipped, plm_error *err) {
    write_text(in_folder(f, "dev_questions.json"), questions);
    write_text(in_folder(f, "dev_outputs.json"), outputs);
    if (!x->kinds)
        assert_int_equal(plm_kinds_open(&x->kinds, NULL, NULL), PLM_OK);
    const struct task *t = task_find(task);
    return dataset_read(&x->d, t, plm_kind_find(x->kinds, t->kind), f->path, "dev", skipped, err);
}

static void done(struct fixture *x) {
    dataset_free(&x->d);
    plm_kinds_close(x->kinds);
    plm_model_close(x->model);
    *x = (struct fixture){0};
}

static void a_users_questions_come_together(void **state) {
    struct fixture x = {0};
    size_t skipped;
    assert_int_equal(read_set(&x, *state, "lamp-3",
                              "[{\"id\": 1, \"user_id\": \"a\", \"input\": \"q1\", \"profile\": [{\"text\": "
                              "\"good\", \"score\": 5},"
                              " {\"text\": \"no score\"}, {\"text\": \"bad\", \"score\": \"1\"}, {\"text\": "
                              "\"x\", \"score\": 7}]},"
                              " {\"id\": \"2\", \"user_id\": 7, \"input\": \"q2\", \"profile\": []},"
                              " {\"id\": 3, \"user_id\": \"a\", \"input\": \"q3\", \"profile\": []}]",
                              "{\"task\": \"LaMP_3\", \"golds\": [{\"id\": \"3\", \"output\": \"4\"}, "
                              "{\"id\": 2, \"output\": 2},"
                              " {\"id\": \"1\", \"output\": 5}]}",
                              &skipped, NULL),
                     PLM_OK);
    assert_int_equal(x.d.n, 2);
    assert_int_equal(skipped, 2);
    assert_string_equal(x.d.users[1].id, "7");
    assert_int_equal(x.d.users[0].n, 2);
    assert_string_equal(x.d.users[0].items[0].output, "5");
    assert_int_equal(x.d.users[0].n_queries, 2);
    assert_string_equal(x.d.users[0].queries[1].gold, "4");
    assert_string_equal(x.d.users[1].queries[0].gold, "2");
    done(&x);
}

static void what_is_missing_or_twice_is_a_sentence(void **state) {
    static const char *const question = "[{\"id\": 1, \"input\": \"q\", \"profile\": []}]";
    static const struct {
        const char *questions, *outputs, *says;
    } cases[] = {
        {"{}", "{}", "JSON list"},
        {"[{\"input\": \"q\", \"profile\": []}]", "{\"golds\": []}", "needs an id"},
        {"[{\"id\": 1, \"profile\": []}]", "{\"golds\": []}", "needs an id and an input"},
        {NULL, "{\"golds\": []}", "no output for question 1"},
        {NULL, "{}", "no list of golds"},
        {NULL, "{\"golds\": [{\"id\": 1, \"output\": 1}, {\"id\": \"1\", \"output\": 2}]}",
         "was there before"},
        {NULL, "{\"golds\": [7]}", "has no id"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture x = {0};
        plm_error err = {0};
        size_t skipped;
        plm_status st = read_set(&x, *state, "LaMP_4", cases[i].questions ? cases[i].questions : question,
                                 cases[i].outputs, &skipped, &err);
        if (st == PLM_OK || !strstr(err.text, cases[i].says))
            fail_msg("%zu: %s", i, err.text);
        done(&x);
    }
}

static void histories_of_lamp_1_become_balanced_pairs(void **state) {
    struct fixture x = {0};
    size_t skipped;
    static const char *const paper = "{\"title\": \"%s\", \"abstract\": \"%s\"%s}";
    char a[3][200], text[2000];
    snprintf(a[0], sizeof a[0], paper, "own one two", "x", ", \"citation\": \"cited\"");
    snprintf(a[1], sizeof a[1], paper, "own two three", "x", "");
    snprintf(a[2], sizeof a[2], paper, "strange", "x", ", \"citation\": \"foreign\"");
    snprintf(text, sizeof text,
             "[{\"id\": 1, \"user_id\": \"a\", \"input\": \"q\", \"profile\": [%s, %s]},"
             " {\"id\": 2, \"user_id\": \"b\", \"input\": \"q\", \"profile\": [%s]}]",
             a[0], a[1], a[2]);
    assert_int_equal(
        read_set(&x, *state, "LaMP_1", text,
                 "{\"golds\": [{\"id\": 1, \"output\": \"[1]\"}, {\"id\": 2, \"output\": \"[2]\"}]}",
                 &skipped, NULL),
        PLM_OK);
    const struct item *it = x.d.users[0].items;
    assert_string_equal(it[0].prompt,
                        "For an author who has written the paper with the title \"own one two\", which "
                        "reference is related? Just answer with [1] or [2] without explanation. "
                        "[1]: \"cited\" [2]: \"foreign\"");
    assert_string_equal(it[0].output, "[1]");
    assert_non_null(
        strstr(it[1].prompt, "[1]: \"foreign\" [2]: \"own one two\"")); /* the nearest own title */
    assert_string_equal(it[1].output, "[2]");
    done(&x);
}

static void texts_of_lamp_7_lose_their_typography(void **state) {
    struct fixture x = {0};
    size_t skipped;
    assert_int_equal(read_set(&x, *state, "LaMP_7",
                              "[{\"id\": 1, \"input\": \"q\", \"profile\": [{\"text\": \"So  HAPPY!!! #win "
                              "\xf0\x9f\x98\x80 caf\xc3\xa9...  ok!!\"}]}]",
                              "{\"golds\": [{\"id\": 1, \"output\": \"t\"}]}", &skipped, NULL),
                     PLM_OK);
    assert_string_equal(x.d.users[0].items[0].input, "so happy! win caf\xc3\xa9. ok");
    assert_string_equal(x.d.users[0].items[0].output,
                        "So  HAPPY!!! #win \xf0\x9f\x98\x80 caf\xc3\xa9...  ok!!");
    done(&x);
}

static struct item made(const char *text, const char *output, const char *title) {
    return (struct item){.text = text, .output = output, .title = title, .doc = text};
}

static void items_are_worded_as_lamp_does(void **state) {
    (void)state;
    static const struct {
        const char *task, *prompt, *whole;
    } cases[] = {
        {"LaMP_1", "by title \"T\" [1]: \"b c\" [2]: \"c\"",
         "by title, and \"t2\", and \"t1\" \"T\" [1]: \"b c\" [2]: \"c\""},
        {"LaMP_2", "Which? description: b c",
         "the tag for the movie: \"b c\" is \"o2\" , and the tag for the movie: "
         "\"a c\" is \"o1\" . Which? description: b c"},
        {"LaMP_2N", "Which? article: b c",
         "the category for the article: \"b c\" is \"o2\" , and the category for the "
         "article: \"a c\" is \"o1\" . Which? article: b c"},
        {"LaMP_3", "What? review: b c",
         "o2 is the score for \"b c\" , and o1 is the score for \"a c\" . What? review: b c"},
        {"LaMP_4", "Do: article: b c",
         "\"o2\" is the title for \"b c\" , and \"o1\" is the title for \"a c\" . Do: article: b c"},
        {"LaMP_5", "Do: paper: b c",
         "\"o2\" is a title for \"b c\" , and \"o1\" is a title for \"a c\" . Following the "
         "given patterns Do: paper: b c"},
        {"LaMP_7", "Do: b c",
         "\"b c\" , and \"a c\"  are written by a person. Following the given patterns Do: b c"},
    };
    struct fixture x = {0};
    char path[] = "/tmp/plm-eval-prompt-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(tiny_model_write(path, &(struct tiny_model){.context = 1024}, NULL), PLM_OK);
    assert_int_equal(plm_model_open(&x.model, path, NULL, NULL), PLM_OK);
    struct item one = made("a c", "o1", "t1"), two = made("b c", "o2", "t2"), far = made("z y", "o3", "t3");
    const struct item *items[] = {&one, &two, &far};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct retriever r;
        char *out = NULL;
        assert_int_equal(retriever_open(&r, task_find(cases[i].task), items, 3, NULL), PLM_OK);
        assert_int_equal(prompt_with_history(&r, x.model, cases[i].prompt, 2, 2, 512, &out, NULL), PLM_OK);
        assert_string_equal(out, cases[i].whole);
        plm_free(out);
        assert_int_equal(prompt_with_history(&r, x.model, cases[i].prompt, 0, 2, 512, &out, NULL), PLM_OK);
        assert_string_equal(out, cases[i].prompt); /* nothing is earlier */
        plm_free(out);
        assert_int_equal(prompt_with_history(&r, x.model, cases[i].prompt, 2, 2, 32, &out, NULL), PLM_OK);
        assert_true(strlen(out) <= strlen(cases[i].whole)); /* cut, and still whole round the cut */
        plm_free(out);
        retriever_close(&r);
    }
    unlink(path);
    done(&x);
}

static void equal_scores_come_latest_first(void **state) {
    (void)state;
    struct item a = made("w", "1", NULL), b = made("w", "2", NULL), c = made("other words", "3", NULL);
    const struct item *items[] = {&a, &c, &b};
    struct retriever r;
    size_t best[3], n;
    assert_int_equal(retriever_open(&r, task_find("LaMP_4"), items, 3, NULL), PLM_OK);
    assert_int_equal(retriever_best(&r, "article: unseen", 3, 3, best, &n, NULL), PLM_OK);
    assert_int_equal(n, 3);
    assert_true(best[0] == 2 && best[1] == 1 && best[2] == 0);
    retriever_close(&r);
}

static void near_duplicates_of_queries_go(void **state) {
    struct fixture x = {0};
    size_t skipped;
    static const char *const questions =
        "[{\"id\": 1, \"input\": \"Generate a headline for the following article: The red boat left the old "
        "harbour "
        "before noon with nine people on board\", \"profile\": ["
        "{\"title\": \"t\", \"text\": \"the RED boat: left the old harbour, before noon with nine people on "
        "board!\"},"
        "{\"title\": \"t\", \"text\": \"Yesterday, left the old harbour before noon with nine dogs\"},"
        "{\"title\": \"t\", \"text\": \"A red boat left the harbour at noon and nobody was on board of it\"},"
        "{\"title\": \"t\", \"text\": \"Nothing in common\"}]}]";
    struct view v;
    assert_int_equal(read_set(&x, *state, "LaMP_4", questions,
                              "{\"golds\": [{\"id\": 1, \"output\": \"g\"}]}", &skipped, NULL),
                     PLM_OK);
    assert_int_equal(view_open(&v, &x.d, 0, SPLIT_DEV, ALL_ITEMS, 0, true, NULL), PLM_OK);
    assert_int_equal(v.near, 2); /* the same words; a run of eight */
    assert_int_equal(v.n, 2);
    view_close(&v);
    assert_int_equal(view_open(&v, &x.d, 0, SPLIT_DEV, 2, 0, true, NULL), PLM_OK);
    assert_int_equal(v.n, 2); /* the newest two, of which none goes */
    assert_int_equal(v.from, 2);
    view_close(&v);
    assert_int_equal(view_open(&v, &x.d, 0, SPLIT_DEV, ALL_ITEMS, 0, false, NULL), PLM_OK);
    assert_int_equal(v.n, 4);
    view_close(&v);
    done(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_users_questions_come_together),
        cmocka_unit_test(what_is_missing_or_twice_is_a_sentence),
        cmocka_unit_test(histories_of_lamp_1_become_balanced_pairs),
        cmocka_unit_test(texts_of_lamp_7_lose_their_typography),
        cmocka_unit_test(items_are_worded_as_lamp_does),
        cmocka_unit_test(equal_scores_come_latest_first),
        cmocka_unit_test(near_duplicates_of_queries_go),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_drop);
}
