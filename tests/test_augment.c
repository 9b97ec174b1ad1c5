/* test_augment.c: the device's side: what a draft asks for, and what is stored of what comes back. */
#include "support_augment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- drafts ---- */

static void draft_is_the_same_twice_and_names_nobody(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "note");
    add_notes(&d);
    draft(&d);
    char *first = mem_dupz(d.request);
    draft(&d);
    assert_string_equal(first, d.request);
    assert_null(strstr(first, "\"ada\""));
    d.p.seed = 4;
    draft(&d);
    assert_string_not_equal(first, d.request);
    plm_free(first);
    desk_close(&d);
}

static void draft_follows_the_method(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "note");
    for (int i = 0; i < 40; i++) {
        char in[200], out[50];
        snprintf(in, sizeof in, "%s This is note number %d of them.", notes[i % 8][0], i);
        snprintf(out, sizeof out, "%s %d", notes[i % 8][1], i);
        add(&d, in, out);
    }
    draft(&d);
    assert_int_equal(d.q.n_exemplars, 12);
    assert_int_equal(d.q.want[0] + d.q.want[1] + d.q.want[2] + d.q.want[3], 80); // 40 records: two for each
    assert_int_equal(d.q.want[1], 48);                                           // A' 60 %
    assert_int_equal(d.q.want[2], 32);                                           // B 40 %
    int newest = 0;
    for (size_t i = 0; i < d.q.n_exemplars; i++)
        for (int k = 34; k < 40; k++) {
            char end[20];
            snprintf(end, sizeof end, " %d", k);
            newest += str_ends(str_of(d.q.records[d.q.exemplars[i] - 1].output), end);
        }
    assert_true(newest >= 6);
    assert_true(words_count(d.q.summary, strlen(d.q.summary)) <= 80);
    d.p.unredacted = true; // a small teacher on the device: rewriting alone
    draft(&d);
    assert_true(d.q.single);
    assert_int_equal(d.q.want[1], 80);
    d.p.capable = true;
    draft(&d);
    assert_false(d.q.single);
    assert_int_equal(d.q.want[2], 32);
    desk_close(&d);
}

static void every_label_stands_among_the_exemplars(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "review");
    for (int i = 0; i < 60; i++) {
        char in[200];
        snprintf(in, sizeof in, "%s I looked at it %d times.", notes[i % 8][0], i);
        add(&d, in, i == 3 ? "1" : i == 7 ? "2" : "5");
    }
    add(&d, "This one has a label that is not among the five, so it is no example.", "9");
    draft(&d);
    bool seen[6] = {0};
    for (size_t i = 0; i < d.q.n_exemplars; i++)
        seen[atoi(d.q.records[d.q.exemplars[i] - 1].output)] = true;
    assert_true(seen[1] && seen[2] && seen[5]);
    assert_int_equal(d.q.label_counts[0], 1);
    assert_int_equal(d.q.label_counts[4], 58);
    assert_null(strstr(d.request, "no example"));
    desk_close(&d);
}

static void only_newer_records_are_asked_about(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "note");
    add_notes(&d);
    d.p.newer_than = add(&d, "One more note that is old and about the broken carpet in the hall.", "Carpet");
    plm_error err;
    char *none = NULL;
    assert_int_equal(plm_augment_draft(d.store, &d.p, &none, &err), PLM_ENOTFOUND);
    assert_null(none);
    add(&d, "The new note is about a letter from the museum and a ticket for two.", "Museum letter");
    draft(&d);
    assert_int_equal(d.q.n_rewrite, 1);
    assert_string_equal(d.q.records[d.q.rewrite[0] - 1].output, "Museum letter");
    desk_close(&d);
}

static void numbers_lead_back_to_records(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "note");
    add_notes(&d);
    int64_t id = add(&d, "Find me again by my number, I am about the signal at the crossing.", "Signal"),
            got = 0;
    draft(&d);
    int64_t number = number_of_note(&d, "Find me again by my number, I am about the signal at the crossing.");
    assert_int_equal(plm_augment_sources(d.store, d.request, &number, 1, &got, NULL), PLM_OK);
    assert_int_equal(got, id);
    number = 99;
    assert_int_equal(plm_augment_sources(d.store, d.request, &number, 1, &got, NULL), PLM_EINVAL);
    desk_close(&d);
}

/* ---- absorbing ---- */

static int count_rows(void *ctx, const plm_synthetic *x) {
    (void)x;
    ++*(int *)ctx;
    return 0;
}

static int rows(struct desk *d, bool kept_only) {
    int n = 0;
    assert_int_equal(
        plm_store_find_synthetic(d->store, "ada", d->p.kind->name, kept_only, count_rows, &n, NULL), PLM_OK);
    return n;
}

static void absorbing_twice_changes_nothing(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "note");
    add_notes(&d);
    draft(&d);
    say(&d, PLM_MODE_NEW, 0, fresh, "Ladder sold");
    say(&d, PLM_MODE_NEW, 0, "Ladder sold today.", "Ladder sold");
    absorb_with(&d, NULL, NULL);
    plm_absorb_report first = d.r;
    assert_int_equal(rows(&d, false), 2);
    absorb_with(&d, NULL, NULL);
    assert_memory_equal(&first, &d.r, sizeof first);
    assert_int_equal(rows(&d, false), 2);
    assert_int_equal(plm_store_clear_synthetic(d.store, "ada", "note", NULL), PLM_OK);
    absorb_with(&d, NULL, NULL);
    assert_int_equal(rows(&d, true), 1);
    desk_close(&d);
}

static void later_jobs_do_not_repeat_earlier_ones(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "note");
    add_notes(&d);
    draft(&d);
    say(&d, PLM_MODE_NEW, 0, fresh, "Ladder sold");
    absorb_with(&d, NULL, NULL);
    d.p.seed = 9;
    draft(&d);
    bytes_clear(&d.lines);
    say(&d, PLM_MODE_NEW, 0, fresh, "Ladder sold");
    say(&d, PLM_MODE_NEW, 0, "My cousin sold the heavy wooden ladder to a tailor near the river bridge.",
        "Ladder");
    absorb_with(&d, NULL, NULL);
    assert_int_equal(d.r.dropped[PLM_RULE_EXACT], 1);
    assert_int_equal(d.r.dropped[PLM_RULE_NEAR], 1);
    desk_close(&d);
}

static void what_came_of_a_forgotten_record_is_dropped(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "note");
    add_notes(&d);
    int64_t id =
        add(&d, "Forget me soon, I am about the carpet and the broken signal in the hall.", "Forgotten");
    draft(&d);
    int number =
        number_of_note(&d, "Forget me soon, I am about the carpet and the broken signal in the hall.");
    plm_query q = {.user = "ada", .id = id};
    plm_forgotten gone;
    assert_int_equal(plm_store_forget(d.store, &q, &gone, NULL, NULL, NULL), PLM_OK);
    say(&d, PLM_MODE_REWRITE, number,
        "In the hall the signal is broken and so is the carpet, forget me soon.", "");
    absorb_with(&d, NULL, NULL);
    assert_int_equal(d.r.kept, 0);
    assert_int_equal(rows(&d, false), 0);
    desk_close(&d);
}

static void foreign_requests_are_refused(void **s) {
    (void)s;
    struct desk d, e;
    desk_open(&d, "note");
    desk_open(&e, "note");
    add_notes(&d);
    add_notes(&e);
    e.p.seed = 77;
    draft(&d);
    draft(&e);
    plm_error err;
    assert_int_equal(plm_augment_absorb(d.store, &d.p, e.request, "", 0, "t", NULL, NULL, NULL, NULL, &err),
                     PLM_ENOTFOUND);
    assert_int_equal(plm_augment_absorb(d.store, &d.p, "{}", "", 0, "t", NULL, NULL, NULL, NULL, &err),
                     PLM_EFORMAT);
    d.p.kind = plm_kind_find(d.kinds, "mail");
    assert_int_equal(plm_augment_absorb(d.store, &d.p, d.request, "", 0, "t", NULL, NULL, NULL, NULL, &err),
                     PLM_EINVAL);
    desk_close(&d);
    desk_close(&e);
}

/* Every field of a request is checked: each one removed, and each one of another type. */
static void damaged_requests_are_refused(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "note");
    add_notes(&d);
    draft(&d);
    json_t *doc = json_loads(d.request, 0, NULL);
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(doc, next, key, value) {
        for (int how = 0; how < 4; how++) {
            json_t *copy = json_deep_copy(doc);
            if (how == 0)
                json_object_del(copy, key);
            else
                json_object_set_new(copy, key,
                                    how == 1   ? json_integer(-3)
                                    : how == 2 ? json_null()
                                               : json_pack("[[i]]", 7));
            char *text = json_dumps(copy, JSON_COMPACT);
            struct wire_request q;
            plm_error err = {0};
            if (wire_request_parse(&q, text, strlen(text), &err) == PLM_OK) {
                print_message("%s %d\n", key, how);
                assert_true(false);
            }
            assert_true(*err.text);
            free(text);
            json_decref(copy);
        }
    }
    json_decref(doc);
    for (size_t cut = 0; cut < strlen(d.request); cut += 7) {
        struct wire_request q;
        assert_int_not_equal(wire_request_parse(&q, d.request, cut, NULL), PLM_OK);
    }
    desk_close(&d);
}

static void failed_allocations_are_clean(void **s) {
    (void)s;
    struct desk d;
    desk_open(&d, "note");
    add_notes(&d);
    draft(&d);
    say(&d, PLM_MODE_NEW, 0, fresh, "Ladder sold");
    say(&d, PLM_MODE_REWRITE, number_of_note(&d, notes[0][0]),
        "On Monday the plumber repaired the tap for forty euro.", "");
    for (int what = 0; what < 2; what++) {
        for (long at = 1; at < 5000; at++) {
            char *request = NULL;
            plm_absorb_report r = {0};
            mem_fail_at(at, false);
            plm_status st = what ? plm_augment_absorb(d.store, &d.p, d.request, d.lines.data, d.lines.len,
                                                      "t", NULL, NULL, NULL, &r, NULL)
                                 : plm_augment_draft(d.store, &d.p, &request, NULL);
            mem_fail_at(0, false);
            plm_free(request);
            if (st == PLM_OK)
                break;
            assert_int_equal(rows(&d, false), 0);
            assert_true(at < 4999);
        }
    }
    assert_true(rows(&d, true) > 0);
    desk_close(&d);
}

/* Noise of the promised ratio: how often it adds k falls by e^-epsilon with each k, on both sides. */

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draft_is_the_same_twice_and_names_nobody),
        cmocka_unit_test(draft_follows_the_method),
        cmocka_unit_test(every_label_stands_among_the_exemplars),
        cmocka_unit_test(only_newer_records_are_asked_about),
        cmocka_unit_test(numbers_lead_back_to_records),
        cmocka_unit_test(absorbing_twice_changes_nothing),
        cmocka_unit_test(later_jobs_do_not_repeat_earlier_ones),
        cmocka_unit_test(what_came_of_a_forgotten_record_is_dropped),
        cmocka_unit_test(foreign_requests_are_refused),
        cmocka_unit_test(damaged_requests_are_refused),
        cmocka_unit_test(failed_allocations_are_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
