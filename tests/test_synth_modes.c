/* test_synth_modes.c: what is asked for: pairs in balanced order, labels that a judge agrees with, more of a
 * teacher whose replies are mostly dropped and less of a good one. */
#include "support_synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_teacher.h"
#include "augment/inside.h"
#include "synth/inside.h"

struct result {
    size_t calls;
    plm_absorb_report r;
};

static struct result run(struct person *p, plm_augment_policy *policy, const char *how) {
    struct result out = {0};
    plm_teacher *t = remote_teacher(fake_base(&fake, how));
    struct synth_hooks h = person_hooks(p);
    char *request = NULL, *candidates = NULL, *again = NULL;
    plm_error err = {0};
    plm_status st = plm_augment_draft(p->store, policy, &request, &err);
    p->request = request;
    st = st ? st : synth_run(request, t, &h, &candidates, &out.calls, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    // From the kept replies alone it is the same, judgements and later rounds with it.
    h.replay_of = plm_teacher_name(t);
    assert_int_equal(synth_run(request, NULL, &h, &again, NULL, NULL), PLM_OK);
    assert_string_equal(candidates, again);
    assert_int_equal(plm_augment_absorb(p->store, policy, request, candidates, strlen(candidates), "t", NULL,
                                        NULL, NULL, &out.r, NULL),
                     PLM_OK);
    plm_free(request);
    plm_free(candidates);
    plm_free(again);
    plm_teacher_close(t);
    return out;
}

/* ---- pairs ---- */

struct pairs {
    int first, second;
    const char *form;
};

static int count_pair(void *ctx, const plm_synthetic *s) {
    struct pairs *c = ctx;
    struct pair p;
    assert_true(pair_read(c->form, s->input, &p));
    assert_string_equal(s->mode, "pair");
    assert_int_equal(s->n_sources > 0, 1);
    assert_int_equal(strncmp(p.title.p, "Own title", 9), 0);
    c->first += strcmp(s->output, "[1]") == 0;
    c->second += strcmp(s->output, "[2]") == 0;
    return 0;
}

static void pairs_come_in_balanced_order(void **s) {
    (void)s;
    for (int single = 0; single < 2; single++) {
        struct person p;
        person_open(&p, "lamp-1");
        for (int i = 0; i < 13; i++) {
            char title[200], first[200], second[200], input[900];
            int n = snprintf(title, sizeof title, "Own title %d: ", i);
            invent(title + n, sizeof title - (size_t)n, i, 6);
            invent(first, sizeof first, 100 + i, 7);
            invent(second, sizeof second, 200 + i, 7);
            snprintf(input, sizeof input,
                     "For an author who has written the paper with the title \"%s\", which reference is "
                     "related? Just "
                     "answer with [1] or [2] without explanation. [1]: \"%s\" [2]: \"%s\"",
                     title, first, second);
            person_add(&p, input, i % 3 ? "[1]" : "[2]", false);
        }
        plm_augment_policy policy = person_policy(&p);
        policy.unredacted = single;
        policy.wanted = 21;
        struct result r = run(&p, &policy, "good");
        struct pairs c = {.form = p.kind->pair};
        assert_int_equal(plm_store_find_synthetic(p.store, "ada", "lamp-1", true, count_pair, &c, NULL),
                         PLM_OK);
        assert_int_equal(c.first, c.second);
        if (c.first < 8)
            for (int i = 0; i < PLM_RULES; i++)
                print_message("%s %zu of %zu kept %zu\n", plm_rule_name(i), r.r.dropped[i], r.r.seen,
                              r.r.kept);
        assert_true(c.first >= 8);
        person_close(&p);
    }
}

static void pair_wordings_are_read_and_refused(void **s) {
    (void)s;
    static const char *const bad[] = {"{title} {first}", "{first} {title} {second}",
                                      "{title}{first} {second}", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(pair_form(bad[i]));
    static const char form[] = "T {title} A {first} B {second}.", good[] = "T x y A p q B r s.";
    struct pair p;
    assert_true(pair_read(form, good, &p));
    assert_true(str_eq(p.title, "x y") && str_eq(p.first, "p q") && str_eq(p.second, "r s"));
    struct bytes b;
    bytes_init(&b, 100);
    pair_write(&b, form, &p);
    assert_string_equal(b.data, good);
    bytes_free(&b);
    static const char *const off[] = {"T x A p B r", "x A p B r.", "T x A p.", "T  A p B r.", "T x B p A r."};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        assert_false(pair_read(form, off[i], &p));
    assert_null(pair_objection(form, "T x y A new words B other words.", good));
    static const char *const not_new[] = {
        "T x A new words B other words.",    "T x y A new words B new, WORDS.", "T x y A x y B other words.",
        "T x y A p q B other words.",        "T x y A new words B r s.",        "T x y A word B other words.",
        "something else altogether and more"};
    for (size_t i = 0; i < sizeof not_new / sizeof *not_new; i++)
        assert_non_null(pair_objection(form, not_new[i], good));
}

/* ---- how much is asked ---- */

static void a_poor_teacher_is_asked_more_and_a_good_one_less(void **s) {
    (void)s;
    size_t calls[2];
    for (int i = 0; i < 2; i++) {
        struct person p;
        person_open(&p, "note");
        person_add_notes(&p, 30);
        plm_augment_policy policy = person_policy(&p);
        policy.wanted = 40;
        struct result r = run(&p, &policy, i ? "wasteful" : "good");
        calls[i] = r.calls;
        print_message("%s: %zu calls, %zu written, %zu kept\n", i ? "wasteful" : "good", r.calls, r.r.seen,
                      r.r.kept);
        assert_true(r.r.kept >= (i ? 30 : 36));
        assert_true(r.r.seen <= 40 * 4 + 3 * 6);
        person_close(&p);
    }
    assert_true(calls[0] <= 16); // 50 things, six a call, the new ones in two calls
    assert_true(calls[1] >= 2 * calls[0]);
}

static void plans_follow_the_share_that_survives(void **s) {
    (void)s;
    struct wire_request q = {.want = {[1] = 40}};
    struct plan p = {0};
    assert_int_equal(plan_count(&p, &q, 1, 0), 50);
    assert_int_equal(plan_count(&p, &q, 0, 0), 0);
    p.asked[1] = 50;
    p.good[1] = 40;
    assert_int_equal(plan_count(&p, &q, 1, 1), 0);
    p.good[1] = 30;
    int n = plan_count(&p, &q, 1, 1);
    assert_true(n >= 33 && n <= 35); // 20 more at three of five
    p.good[1] = 0;
    assert_int_equal(plan_count(&p, &q, 1, 1), 86); // no more than twice what is wanted at a time
    p.asked[1] = 150;
    assert_int_equal(plan_count(&p, &q, 1, 2), 16);
    p.asked[1] = 166;
    assert_int_equal(plan_count(&p, &q, 1, 3), 0);
}

static void labels_are_judged(void **s) {
    (void)s;
    struct person p;
    person_open(&p, "review");
    person_add_notes(&p, 20);
    plm_augment_policy policy = person_policy(&p);
    policy.wanted = 80;
    struct result r = run(&p, &policy, "good");
    assert_true(r.r.kept > 40);
    assert_true(r.r.dropped[PLM_RULE_JUDGE] > 0); // the fake judge is wrong one time in ten
    assert_true(r.r.dropped[PLM_RULE_JUDGE] < 12);
    person_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_come_in_balanced_order),
        cmocka_unit_test(pair_wordings_are_read_and_refused),
        cmocka_unit_test(a_poor_teacher_is_asked_more_and_a_good_one_less),
        cmocka_unit_test(plans_follow_the_share_that_survives),
        cmocka_unit_test(labels_are_judged),
    };
    return cmocka_run_group_tests(tests, fake_open, fake_close);
}
