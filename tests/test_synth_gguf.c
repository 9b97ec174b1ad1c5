/* test_synth_gguf.c: a teacher in this process, on SmolLM2 where it is there. */
#include "support_synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static plm_teacher *open_smol(void) {
    const char *folder = getenv("PLM_MODELS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[400];
    if (folder)
        snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", folder);
    else
        snprintf(path, sizeof path, "%s%s/plm/models/SmolLM2-135M-Instruct.Q4_1.gguf",
                 cache  ? cache
                 : home ? home
                        : "",
                 cache ? "" : "/.cache");
    if (!file_exists(path))
        skip();
    plm_teacher_options o = {.spec = path, .threads = 2};
    plm_teacher *t = NULL;
    plm_error err = {0};
    plm_status st = plm_teacher_open(&t, &o, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    return t;
}

static void same_call_gets_the_same_answer(void **s) {
    (void)s;
    plm_teacher *t = open_smol();
    assert_int_equal(strncmp(plm_teacher_name(t), "gguf:", 5), 0);
    assert_int_equal(strlen(plm_teacher_name(t)), 5 + 64);
    assert_true(plm_teacher_is_local(t));
    assert_false(plm_teacher_is_capable(t));
    plm_call c = {.system = "You reply with the text alone.",
                  .user = "Say in other words: the train was late on Monday.",
                  .temperature = .8f,
                  .top_p = .95f,
                  .max_tokens = 24,
                  .seed = 5};
    plm_answer a, b, other;
    assert_int_equal(plm_teacher_ask(t, &c, 1, &a, NULL), PLM_OK);
    c.seed = 6;
    assert_int_equal(plm_teacher_ask(t, &c, 1, &other, NULL), PLM_OK);
    c.seed = 5;
    assert_int_equal(plm_teacher_ask(t, &c, 1, &b, NULL), PLM_OK);
    assert_string_equal(a.text, b.text);
    assert_string_equal(a.finish, b.finish);
    assert_true(strlen(a.text) > 0 && a.tokens_in > 10 && a.tokens_out > 0 && a.tokens_out <= 24);
    plm_free(a.text);
    plm_free(b.text);
    plm_free(other.text);
    plm_teacher_close(t);
}

static void prompt_that_does_not_fit_is_that_calls_failure(void **s) {
    (void)s;
    plm_teacher *t = open_smol();
    char *text = mem_zero(60001, 1);
    memset(text, 'a', 60000);
    for (int i = 0; i < 60000; i += 3)
        text[i] = ' ';
    plm_call c = {.user = text, .temperature = .8f, .top_p = .95f, .max_tokens = 24, .seed = 5};
    plm_answer a;
    assert_int_equal(plm_teacher_ask(t, &c, 1, &a, NULL), PLM_OK);
    assert_string_equal(a.finish, "none");
    assert_string_equal(a.why, "too long for the teacher");
    plm_free(a.text);
    mem_free(text);
    plm_teacher_close(t);
}

static void records_go_all_the_way_through(void **s) {
    (void)s;
    plm_teacher *t = open_smol();
    struct person p;
    person_open(&p, "note");
    person_add_notes(&p, 6);
    plm_augment_policy policy = person_policy(&p);
    policy.unredacted = true;
    policy.wanted = 3;
    char *request, *candidates, *again = NULL;
    assert_int_equal(person_generate(&p, &policy, t, &request, &candidates, NULL), PLM_OK);
    assert_true(p.kept >= 6);
    struct synth_hooks h = person_hooks(&p);
    h.replay_of = plm_teacher_name(t);
    assert_int_equal(synth_run(request, NULL, &h, &again, NULL, NULL), PLM_OK);
    assert_string_equal(again, candidates);
    plm_absorb_report r;
    assert_int_equal(plm_augment_absorb(p.store, &policy, request, candidates, strlen(candidates), "t", NULL,
                                        NULL, NULL, &r, NULL),
                     PLM_OK);
    assert_true(r.seen >= 6);
    plm_free(request);
    plm_free(candidates);
    plm_free(again);
    person_close(&p);
    plm_teacher_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_call_gets_the_same_answer),
        cmocka_unit_test(prompt_that_does_not_fit_is_that_calls_failure),
        cmocka_unit_test(records_go_all_the_way_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
