/* The table of kinds: the built-in one, prompts, and a person's own file. */
#include "kind/kind.h"
#include "plm.h"
#include "support_folder.h"

static plm_kinds *open_kinds(const char *file) {
    plm_kinds *k = NULL;
    plm_error err = {0};
    if (plm_kinds_open(&k, file, &err)) {
        fail_msg("%s", err.text);
    }
    return k;
}

static void the_built_in_table_is_complete_and_sound(void **state) {
    (void)state;
    static const char *const names[] = {"note",   "commit", "mail",   "review", "title",
                                        "tweet",  "chat",   "lamp-1", "lamp-2", "lamp-2n",
                                        "lamp-3", "lamp-4", "lamp-5", "lamp-7"};
    plm_kinds *k = open_kinds(NULL);
    size_t n = 0;
    for (const plm_kind *kind; (kind = plm_kind_at(k, n)); n++) {
        assert_string_equal(kind->name, names[n]);
        assert_ptr_equal(plm_kind_find(k, kind->name), kind);
        assert_true(kind->task[0] && kind->instruction[0] && kind->input_field[0] && kind->output_field[0]);
        assert_true(kind->max_answer_tokens > 0);
        assert_true((kind->labels != NULL) == (kind->n_labels > 0));
        assert_true(!(kind->modes & PLM_MODE_LABEL) || kind->labels);
        for (size_t i = 0; i < kind->n_labels; i++) {
            char padded[100];
            assert_true(kind_takes(kind, kind->labels[i]));
            snprintf(padded, sizeof padded, " %s\n", kind->labels[i]);
            assert_int_equal(plm_kind_label(kind, kind->labels[i]), i);
            assert_int_equal(plm_kind_label(kind, padded), i);
        }
        assert_int_equal(plm_kind_label(kind, "anything"), -1);
        assert_true(kind_takes(kind, "anything") == (kind->labels == NULL));
    }
    assert_int_equal(n, sizeof names / sizeof *names);
    assert_null(plm_kind_find(k, "lamp-6"));
    assert_null(plm_kind_find(k, NULL));
    plm_kinds_close(k);
    plm_kinds_close(NULL);
}

static void prompts_are_worded_as_documented(void **state) {
    (void)state;
    static const struct {
        const char *kind, *input, *prompt;
    } cases[] = {
        {"note", "Body {input}.",
         "Write the title of this note. Answer with the title only.\n\nBody {input}."},
        {"chat", "Hello?", "Hello?"},
        {"lamp-1", "For an author ...", "For an author ..."},
        {"lamp-2", "A film.",
         "Which tag does this movie relate to among the following tags? Just answer with the tag name "
         "without further "
         "explanation. tags: [sci-fi, based on a book, comedy, action, twist ending, dystopia, dark comedy, "
         "classic, "
         "psychology, fantasy, romance, thought-provoking, social commentary, violence, true story] "
         "description: "
         "A film."},
        {"lamp-3", "Fine.",
         "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 "
         "without "
         "further explanation. review: Fine."},
        {"lamp-4", "News.", "Generate a headline for the following article: News."},
        {"lamp-5", "We show.", "Generate a title for the following abstract of a paper: We show."},
        {"lamp-7", "Hi.", "Paraphrase the following tweet without any explanation before or after it: Hi."},
    };
    plm_kinds *k = open_kinds(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *prompt = NULL;
        assert_int_equal(plm_kind_prompt(plm_kind_find(k, cases[i].kind), cases[i].input, &prompt, NULL),
                         PLM_OK);
        assert_string_equal(prompt, cases[i].prompt);
        plm_free(prompt);
    }
    plm_kinds_close(k);
}

static void lamp_2_offers_exactly_its_labels(void **state) {
    (void)state;
    plm_kinds *k = open_kinds(NULL);
    const plm_kind *kind = plm_kind_find(k, "lamp-2");
    char list[512] = "[";
    for (size_t i = 0; i < kind->n_labels; i++) {
        strcat(strcat(list, i ? ", " : ""), kind->labels[i]);
    }
    assert_int_equal(kind->n_labels, 15);
    assert_non_null(strstr(kind->instruction, strcat(list, "]")));
    plm_kinds_close(k);
}

static void a_file_adds_and_overrides(void **state) {
    const char *path = in_folder(*state, "kinds.json");
    write_text(
        path,
        "[{\"name\": \"haiku\", \"task\": \"a haiku\", \"instruction\": \"Say <{input}> in a haiku.\","
        " \"input_field\": \"theme\", \"output_field\": \"haiku\", \"modes\": [\"reverse\", \"new\"],"
        " \"max_answer_tokens\": 60},"
        " {\"name\": \"note\", \"task\": \"a mood\", \"instruction\": \"Mood?\", \"input_field\": \"t\","
        " \"output_field\": \"m\", \"labels\": [\"good\", \"bad\"]}]");
    plm_kinds *k = open_kinds(path);
    const plm_kind *haiku = plm_kind_find(k, "haiku"), *note = plm_kind_find(k, "note");
    assert_int_equal(haiku->modes, PLM_MODE_REVERSE | PLM_MODE_NEW);
    assert_int_equal(haiku->max_answer_tokens, 60);
    char *prompt = NULL;
    assert_int_equal(plm_kind_prompt(haiku, "frogs", &prompt, NULL), PLM_OK);
    assert_string_equal(prompt, "Say <frogs> in a haiku.");
    plm_free(prompt);
    assert_ptr_equal(plm_kind_at(k, 0), note); // in the place of the built-in one
    assert_int_equal(note->n_labels, 2);
    assert_int_equal(note->modes, PLM_MODE_REWRITE | PLM_MODE_LABEL);
    assert_string_equal(plm_kind_at(k, 1)->name, "commit");
    plm_kinds_close(k);
}

static void a_kind_of_ones_own_is_a_whole_recipe(void **state) {
    const char *path = in_folder(*state, "kinds.json");
    write_text(
        path,
        "[{\"name\": \"ticket\", \"task\": \"which team a ticket belongs to\","
        " \"instruction\": \"Which team? {input}\", \"input_field\": \"text\", \"output_field\": \"team\","
        " \"labels\": [\"a\", \"b\"], \"modes\": [\"rewrite\", \"label\", \"pair\"], \"hint\": \"Tickets are "
        "terse.\","
        " \"aspects\": [\"haste\", \"cost\"], \"pair\": \"{title}: {first} or {second}?\","
        " \"checks\": {\"min_words\": 1, \"max_words\": 3, \"one_line\": true, \"never\": [\"TODO\"]}}]");
    plm_kinds *k = open_kinds(path);
    const plm_kind *t = plm_kind_find(k, "ticket");
    assert_non_null(t);
    assert_string_equal(t->hint, "Tickets are terse.");
    assert_int_equal(t->n_aspects, 2);
    assert_string_equal(t->aspects[1], "cost");
    assert_string_equal(t->pair, "{title}: {first} or {second}?");
    assert_int_equal(t->modes, PLM_MODE_REWRITE | PLM_MODE_LABEL | PLM_MODE_PAIR);
    assert_int_equal(t->checks.min_words, 1);
    assert_int_equal(t->checks.max_words, 3);
    assert_true(t->checks.one_line);
    assert_int_equal(t->checks.n_never, 1);
    assert_string_equal(t->checks.never[0], "TODO");
    plm_kinds_close(k);
}

#define HEAD "[{\"name\": \"k\", \"task\": \"t\", \"instruction\": \"i\", \"input_field\": \"a\", "
#define GOOD HEAD "\"output_field\": \"b\""

static void a_bad_file_is_refused_by_name(void **state) {
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{}", "must be a list"},
        {"[\n {\"name\": \"k\",\n  \"task\": \"t\", \"instruction\": \"i\",\n \"input_field\": 3}]",
         "kinds.json line 4: kind \"k\""},
        {GOOD "},\n\n {\"name\": \"l\", \"x\": [1, {\"name\": 2}],\n \"nam\": \"k\"}]",
         "kinds.json line 3: kind \"l\""},
        {"[\n\n 3]", "kinds.json line 3: kind number 1"},
        {GOOD ", \"hint\": 3}]", "\"hint\" must be a text"},
        {GOOD ", \"aspects\": []}]", "\"aspects\" must be a list of 1"},
        {GOOD ", \"aspects\": [\"a\", 3]}]", "\"aspects\" must hold texts"},
        {GOOD ", \"checks\": []}]", "\"checks\" must be an object"},
        {GOOD ", \"checks\": {\"words\": 3}}]", "\"checks\" may hold"},
        {GOOD ", \"checks\": {\"min_words\": 0}}]", "\"checks\" counts words"},
        {GOOD ", \"checks\": {\"min_words\": 5, \"max_words\": 4}}]", "min_words above"},
        {GOOD ", \"checks\": {\"one_line\": 1}}]", "true or false for one_line"},
        {GOOD ", \"checks\": {\"never\": [\"\"]}}]", "must hold texts"},
        {GOOD ", \"modes\": [\"pair\"]}]", "has \"pair\", but"},
        {GOOD ", \"labels\": [\"1\", \"2\"], \"pair\": \"{title} {second} {first}\"}]", "in this order"},
        {GOOD ", \"pair\": \"{title} {first} {second}\"}]", "needs two labels"},
        {"[3]", "kind number 1 is not an object"},
        {"[{\"task\": \"t\"}]", "kind number 1: \"name\" is missing"},
        {"[{\"name\": \"A/b\"}]", "\"name\" may hold a-z"},
        {"[{\"name\": \"-a\"}]", "\"name\" may hold a-z"},
        {"[{\"name\": \"\"}]", "must be a text that is not empty"},
        {"[{\"name\": 5}]", "must be a text"},
        {"[{\"name\": \"k\", \"tsk\": \"t\"}]", "kind \"k\": \"tsk\" is not a field"},
        {HEAD "\"output_field\": \"a\"}]", "\"output_field\" is the same as \"input_field\""},
        {HEAD "\"output_field\": 1}]", "\"output_field\" must be a text"},
        {GOOD ", \"labels\": []}]", "\"labels\" must be a list of 2"},
        {GOOD ", \"labels\": [\"x\", \"x\"]}]", "\"labels\" names one label twice"},
        {GOOD ", \"labels\": [\"x\", 2]}]", "\"labels\" must hold texts"},
        {GOOD ", \"modes\": [\"magic\"]}]", "\"modes\" must be a list of"},
        {GOOD ", \"modes\": \"new\"}]", "\"modes\" must be a list of"},
        {GOOD ", \"modes\": [\"label\"]}]", "has \"label\", but the kind has no labels"},
        {GOOD ", \"max_answer_tokens\": 0}]", "from 1 to 4096"},
        {GOOD ", \"max_answer_tokens\": 5.5}]", "from 1 to 4096"},
        {GOOD "}, {\"name\": \"k\", \"task\": \"t\", \"instruction\": \"i\", \"input_field\": \"a\","
              " \"output_field\": \"b\"}]",
         "stands twice"},
        {"[{\"name\": \"k\", \"name\": \"l\"}]", "duplicate"},
        {"[", "not valid JSON"},
        {"", "kinds.json"},
        {"[{\"name\": \"k\", \"task\": \"t\", \"instruction\": \"{input} {input}\", \"input_field\": \"a\","
         " \"output_field\": \"b\"}]",
         "two {input} slots"},
    };
    const char *path = in_folder(*state, "kinds.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        plm_kinds *k = NULL;
        plm_error err = {0};
        write_text(path, cases[i].text);
        plm_status rc = plm_kinds_open(&k, path, &err);
        if (rc != PLM_EFORMAT || !strstr(err.text, cases[i].says) || !strstr(err.text, "kinds.json") || k) {
            fail_msg("case %zu: %s %s", i, plm_status_name(rc), err.text);
        }
    }
    plm_kinds *k = NULL;
    assert_int_equal(plm_kinds_open(&k, in_folder(*state, "none.json"), NULL), PLM_ENOTFOUND);
}

static void failed_allocations_are_survived(void **state) {
    const char *path = in_folder(*state, "kinds.json");
    write_text(path, GOOD ", \"labels\": [\"x\", \"y\"]}]");
    bool failed = true;
    for (long n = 1; failed; n++) {
        plm_kinds *k = NULL;
        char *prompt = NULL;
        mem_fail_at(n, false);
        plm_status rc = plm_kinds_open(&k, path, NULL);
        rc = rc ? rc : plm_kind_prompt(plm_kind_find(k, "k"), "x", &prompt, NULL);
        mem_fail_at(0, false);
        failed = rc != PLM_OK;
        assert_true(!failed || rc == PLM_ENOMEM);
        plm_free(prompt);
        plm_kinds_close(k);
        assert_true(n < 100);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_drop)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_built_in_table_is_complete_and_sound),
        cmocka_unit_test(prompts_are_worded_as_documented),
        cmocka_unit_test(lamp_2_offers_exactly_its_labels),
        TEST(a_file_adds_and_overrides),
        TEST(a_kind_of_ones_own_is_a_whole_recipe),
        TEST(a_bad_file_is_refused_by_name),
        TEST(failed_allocations_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
