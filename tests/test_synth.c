/* test_synth.c: from records to stored examples with a teacher behind HTTP: draft, run, absorb; and what leaves,
 * what resumes and what is the same twice. */
#include "support_synth.h"

#include "fake_teacher.h"

static struct fake_teacher fake;

static plm_absorb_report absorb(struct person *p, const plm_augment_policy *policy, const char *request,
                                const char *candidates) {
    plm_absorb_report r = {0};
    plm_error err = {0};
    plm_status st = plm_augment_absorb(p->store, policy, request, candidates, strlen(candidates), "fake", NULL, NULL,
                                       NULL, &r, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    size_t sum = r.kept;
    for (int i = 0; i < PLM_RULES; i++)
        sum += r.dropped[i];
    assert_int_equal(sum, r.seen);
    return r;
}

static void run_to_end(const char *kind, bool single, int notes, int least) {
    struct person p;
    person_open(&p, kind);
    person_add_notes(&p, notes);
    plm_augment_policy policy = person_policy(&p);
    policy.unredacted = single;
    struct teacher *t = remote_teacher(fake_base(&fake, "good"));
    char *request, *candidates;
    plm_error err = {0};
    plm_status st = person_generate(&p, &policy, t, &request, &candidates, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    plm_absorb_report r = absorb(&p, &policy, request, candidates);
    if ((int)r.kept < least)
        for (int i = 0; i < PLM_RULES; i++)
            print_message("%s %zu of %zu kept %zu\n", plm_rule_name(i), r.dropped[i], r.seen, r.kept);
    assert_true((int)r.kept >= least);
    plm_free(request);
    plm_free(candidates);
    teacher_close(t);
    person_close(&p);
}

static void notes_become_examples(void **s) {
    (void)s;
    run_to_end("note", false, 20, 25);
}

static void notes_become_examples_one_at_a_time(void **s) {
    (void)s;
    run_to_end("note", true, 20, 25);
}

static void labels_become_examples(void **s) {
    (void)s;
    run_to_end("review", false, 20, 25);
    run_to_end("review", true, 20, 25);
}

static void posts_become_examples(void **s) {
    (void)s;
    run_to_end("tweet", false, 20, 20);
    run_to_end("tweet", true, 20, 20);
}

static int start(void **s) {
    (void)s;
    return fake_start(&fake);
}

static int stop(void **s) {
    (void)s;
    fake_stop(&fake);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notes_become_examples),
        cmocka_unit_test(notes_become_examples_one_at_a_time),
        cmocka_unit_test(labels_become_examples),
        cmocka_unit_test(posts_become_examples),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
