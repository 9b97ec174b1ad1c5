/* test_synth_write.c: plm_augment_write: what a person's store keeps of a run, and what has to be there
 * before anything leaves. */
#include "support_synth.h"

#include "base/file.h"
#include "base/json.h"

#include "fake_teacher.h"

static char *draft(struct person *p, plm_augment_policy *policy) {
    char *request = NULL;
    person_add_notes(p, 20);
    *policy = person_policy(p);
    assert_int_equal(plm_augment_draft(p->store, policy, &request, NULL), PLM_OK);
    return request;
}

static int count_egress(void *ctx, const plm_egress *e) {
    assert_string_equal(e->user, "ada");
    assert_string_equal(e->endpoint, "https://plm.invalid/v1");
    assert_true(e->consent == 1 && e->bytes > 100 && strlen(e->sha256) == 64);
    ++*(int *)ctx;
    return 0;
}

static int give_up(void *ctx, const char *why, double seconds) {
    (void)ctx, (void)why, (void)seconds;
    return 1;
}

static int stop_early(void *ctx, size_t done, size_t total, size_t candidates) {
    (void)total, (void)candidates;
    return ctx && done >= *(size_t *)ctx;
}

static void kept_replies_are_not_asked_for_again(void **s) {
    (void)s;
    struct person p;
    plm_augment_policy policy;
    person_open(&p, "note");
    char *request = draft(&p, &policy), *candidates = NULL, *again = NULL, *replayed = NULL;
    plm_teacher *t = remote_teacher(fake_base(&fake, "good"));
    plm_error err = {0};
    size_t first = 4;
    plm_augment_run run = {.user = "ada", .progress = stop_early, .ctx = &first};
    assert_int_equal(plm_augment_write(p.store, request, t, &run, &candidates, &err), PLM_ESTOPPED);
    assert_null(candidates);
    assert_true(run.asked >= first && run.replayed == 0);
    size_t before = run.asked;
    run.ctx = NULL;
    assert_int_equal(plm_augment_write(p.store, request, t, &run, &candidates, &err), PLM_OK);
    assert_int_equal(run.replayed, before);
    assert_int_equal(run.asked + run.replayed, run.calls);
    assert_true(run.tokens_in > 0 && run.tokens_out > 0 && run.seconds > 0 && run.bytes_sent == 0);
    assert_int_equal(plm_augment_write(p.store, request, t, &run, &again, &err), PLM_OK);
    assert_true(run.asked == 0 && run.tokens_out == 0 && run.replayed == run.calls);
    plm_augment_run alone = {.user = "ada", .replay_of = plm_teacher_name(t)};
    assert_int_equal(plm_augment_write(p.store, request, NULL, &alone, &replayed, &err), PLM_OK);
    assert_string_equal(again, candidates);
    assert_string_equal(replayed, candidates);
    assert_int_equal(alone.replayed, alone.calls);
    plm_free(request);
    plm_free(candidates);
    plm_free(again);
    plm_free(replayed);
    plm_teacher_close(t);
    person_close(&p);
}

static void a_reply_is_kept_with_the_records_it_quoted(void **s) {
    (void)s;
    struct person p;
    plm_augment_policy policy;
    person_open(&p, "note");
    char *request = draft(&p, &policy), *candidates = NULL, *replayed = NULL;
    plm_teacher *t = remote_teacher(fake_base(&fake, "good"));
    plm_augment_run run = {.user = "ada", .replay_of = plm_teacher_name(t)};
    assert_int_equal(plm_augment_write(p.store, request, t, &run, &candidates, NULL), PLM_OK);
    plm_forgotten gone;
    plm_query all = {.user = "ada"};
    assert_int_equal(plm_store_forget(p.store, &all, &gone, NULL, NULL, NULL), PLM_OK);
    assert_int_equal(gone.replies, run.asked);
    assert_int_equal(plm_augment_write(p.store, request, NULL, &run, &replayed, NULL), PLM_EREMOTE);
    assert_null(replayed);
    plm_free(request);
    plm_free(candidates);
    plm_teacher_close(t);
    person_close(&p);
}

static int add_bytes(void *ctx, const char *body) {
    *(size_t *)ctx += strlen(body);
    return 0;
}

/* The fake teacher is a good one: what a run takes is near to what was said before, and priced as said. */
static void a_forecast_is_near_to_what_the_run_takes(void **s) {
    (void)s;
    static const char *const kinds[] = {"note", "review", "tweet"};
    for (size_t k = 0; k < 3; k++) {
        struct person p;
        plm_augment_policy policy;
        person_open(&p, kinds[k]);
        char *request = draft(&p, &policy), *candidates = NULL;
        plm_teacher_options o = {.spec = fake_base(&fake, "good"), .cost_in = 10, .cost_out = 30};
        plm_teacher *t = NULL;
        plm_augment_forecast f, again;
        size_t bytes = 0;
        assert_int_equal(plm_teacher_open(&t, &o, NULL), PLM_OK);
        assert_int_equal(plm_augment_preview(request, t, add_bytes, &bytes, &f, NULL), PLM_OK);
        assert_int_equal(plm_augment_preview(request, t, NULL, NULL, &again, NULL), PLM_OK);
        assert_memory_equal(&f, &again, sizeof f);
        plm_augment_run run = {.user = "ada"};
        assert_int_equal(plm_augment_write(p.store, request, t, &run, &candidates, NULL), PLM_OK);
        print_message("%s: %zu calls foreseen, %zu made\n", kinds[k], f.calls, run.calls);
        assert_true(f.calls * 2 >= run.calls && f.calls <= run.calls * 2);
        assert_true(f.bytes >= bytes && bytes > 1000 && f.bytes < bytes * 12);
        assert_true(f.tokens_in > (int64_t)f.bytes / 8 && f.tokens_in < (int64_t)f.bytes / 3);
        double cost = ((double)f.tokens_in * 10 + (double)f.tokens_out * 30) / 1e6;
        assert_true(f.cost > cost * .999 && f.cost < cost * 1.001 && f.tokens_out > 0);
        plm_free(request);
        plm_free(candidates);
        plm_teacher_close(t);
        person_close(&p);
    }
}

static void nothing_leaves_without_consent_and_a_line_in_the_ledger(void **s) {
    (void)s;
    struct person p;
    plm_augment_policy policy;
    person_open(&p, "note");
    char *request = draft(&p, &policy), *candidates = NULL;
    plm_teacher_options o = {.spec = "https://plm.invalid/v1", .waiting = give_up};
    plm_teacher *t = NULL;
    plm_error err = {0};
    int lines = 0;
    assert_int_equal(plm_teacher_open(&t, &o, NULL), PLM_OK);
    plm_augment_run run = {.user = "ada"};
    assert_int_equal(plm_augment_write(p.store, request, t, &run, &candidates, &err), PLM_EINVAL);
    assert_non_null(strstr(err.text, "no consent to send records to https://plm.invalid/v1"));
    assert_int_equal(plm_store_list_egress(p.store, "ada", count_egress, &lines, NULL), PLM_OK);
    assert_int_equal(lines, 0);
    plm_consent c = {.user = "ada", .endpoint = o.spec, .share = "exemplars", .text = "Yes."};
    assert_int_equal(plm_store_add_consent(p.store, &c, &run.consent, NULL), PLM_OK);
    assert_int_not_equal(plm_augment_write(p.store, request, t, &run, &candidates, &err), PLM_OK);
    assert_int_equal(plm_store_list_egress(p.store, "ada", count_egress, &lines, NULL), PLM_OK);
    assert_true(lines > 0 && run.bytes_sent > 0 && run.asked == 0);
    // A consent that the store does not know can't get a line there, and so nothing leaves.
    int known = lines;
    run.consent = 77;
    assert_int_not_equal(plm_augment_write(p.store, request, t, &run, &candidates, &err), PLM_OK);
    assert_int_equal(run.bytes_sent, 0);
    lines = 0;
    assert_int_equal(plm_store_list_egress(p.store, "ada", count_egress, &lines, NULL), PLM_OK);
    assert_int_equal(lines, known);
    assert_null(candidates);
    plm_free(request);
    plm_teacher_close(t);
    person_close(&p);
}

static void a_run_needs_a_user_and_a_source_of_replies(void **s) {
    (void)s;
    struct person p;
    plm_augment_policy policy;
    person_open(&p, "note");
    char *request = draft(&p, &policy), *candidates = NULL;
    plm_augment_run run = {.user = "ada"};
    assert_int_equal(plm_augment_write(p.store, request, NULL, &run, &candidates, NULL), PLM_EINVAL);
    run = (plm_augment_run){.replay_of = "x"};
    assert_int_equal(plm_augment_write(p.store, request, NULL, &run, &candidates, NULL), PLM_EINVAL);
    run.user = "ada";
    assert_int_equal(plm_augment_write(p.store, "{}", NULL, &run, &candidates, NULL), PLM_EFORMAT);
    assert_null(candidates);
    plm_free(request);
    person_close(&p);
}

/* Memory gives out at one place after the other: a clean status each time, and no reply is lost or kept
 * twice. */
static void each_failing_allocation_is_a_clean_status(void **s) {
    (void)s;
    struct person p;
    plm_augment_policy policy;
    person_open(&p, "note");
    char *request = draft(&p, &policy), *candidates = NULL, *again = NULL;
    plm_teacher *t = remote_teacher(fake_base(&fake, "good"));
    plm_augment_run run = {.user = "ada", .replay_of = plm_teacher_name(t)};
    assert_int_equal(plm_augment_write(p.store, request, t, &run, &candidates, NULL), PLM_OK);
    plm_status st = PLM_ENOMEM;
    for (long i = 1; st; i += 1 + i / 20) {
        mem_fail_at(i, false);
        st = plm_augment_write(p.store, request, NULL, &run, &again, NULL);
        mem_fail_at(0, false);
        assert_true(st == PLM_OK || st == PLM_ENOMEM);
    }
    assert_string_equal(again, candidates);
    plm_free(request);
    plm_free(candidates);
    plm_free(again);
    plm_teacher_close(t);
    person_close(&p);
}

static void write_text(const char *path, const char *text) {
    assert_int_equal(file_replace(path, text, strlen(text), NULL), PLM_OK);
}

static long fail_at; /* 0: every allocation of a run by files succeeds */

/* How a run by files ends when its results hold this text. */
static plm_status run_by_files(struct person *p, const char *request, const char *results, double max_cost,
                               plm_error *err) {
    char out[120], in[120], *candidates = NULL;
    snprintf(out, sizeof out, "%s/calls", p->folder);
    snprintf(in, sizeof in, "%s/results", p->folder);
    unlink(out);
    write_text(in, results);
    plm_teacher_options o = {.spec = "https://plm.invalid/v1",
                             .batch_out = out,
                             .batch_in = in,
                             .max_cost = max_cost,
                             .cost_in = 1,
                             .cost_out = 1};
    plm_teacher *t = NULL;
    plm_augment_run run = {.user = "ada", .consent = 1};
    assert_int_equal(plm_teacher_open(&t, &o, NULL), PLM_OK);
    mem_fail_at(fail_at, false);
    plm_status st = plm_augment_write(p->store, request, t, &run, &candidates, err);
    mem_fail_at(0, false);
    assert_null(candidates);
    plm_teacher_close(t);
    return st;
}

static void odd_results_of_a_batch_are_named_or_asked_for_again(void **s) {
    (void)s;
    struct person p;
    plm_augment_policy policy;
    person_open(&p, "note");
    char *request = draft(&p, &policy), path[120];
    int64_t id;
    plm_error err = {0};
    plm_consent c = {
        .user = "ada", .endpoint = "https://plm.invalid/v1", .share = "exemplars", .text = "Yes."};
    assert_int_equal(plm_store_add_consent(p.store, &c, &id, NULL), PLM_OK);
    assert_int_equal(run_by_files(&p, request, "", 1e-9, &err), PLM_ELIMIT);
    snprintf(path, sizeof path, "%s/calls", p.folder);
    assert_false(file_exists(path));
    assert_int_equal(run_by_files(&p, request, "", 0, &err), PLM_EREMOTE);
    struct bytes calls, passing, refused;
    bytes_init(&calls, 1 << 24);
    bytes_init(&passing, 1 << 24);
    bytes_init(&refused, 1 << 24);
    assert_int_equal(file_read(path, 1 << 24, &calls, NULL), PLM_OK);
    bytes_puts(&passing, "\n{\"custom_id\":\"nobody's\",\"response\":{\"status_code\":200,\"body\":{}}}\n");
    struct str rest = {calls.data, calls.len}, line;
    for (int i = 0; str_cut(&rest, '\n', &line) && line.n; i++) {
        static const char *const odd[] = {
            "null", "{}", "[]", "\"x\"", "{\"status_code\":\"200\"}", "{\"status_code\":503,\"body\":{}}"};
        json_t *doc = NULL;
        assert_int_equal(json_parse(&doc, line.p, line.n, "a call", NULL), PLM_OK);
        const char *name = json_text(doc, "custom_id");
        bytes_printf(&passing, "{\"custom_id\":\"%s\",\"response\":%s}\n", name, odd[i % 6]);
        bytes_printf(&refused, "{\"custom_id\":\"%s\",\"response\":{\"status_code\":400,\"body\":{}}}\n",
                     name);
        json_decref(doc);
    }
    assert_int_equal(run_by_files(&p, request, passing.data, 0, &err), PLM_EREMOTE);
    assert_non_null(strstr(err.text, "for the service"));
    plm_status st = PLM_ENOMEM;
    for (fail_at = 1; st == PLM_ENOMEM; fail_at += 1 + fail_at / 20) {
        st = run_by_files(&p, request, passing.data, 0, &err);
        assert_true(st == PLM_ENOMEM || st == PLM_EREMOTE);
    }
    assert_true(fail_at > 100 && strstr(err.text, "for the service"));
    fail_at = 0;
    struct bytes again;
    bytes_init(&again, 1 << 24);
    assert_int_equal(file_read(path, 1 << 24, &again, NULL), PLM_OK);
    assert_string_equal(again.data, calls.data);
    assert_int_equal(run_by_files(&p, request, refused.data, 0, &err), PLM_EREMOTE);
    assert_non_null(strstr(err.text, "refused by the service"));
    static const char *const bad[] = {"nonsense", "[]", "{}", "{\"custom_id\":5}", "{\"custom_id\":\"x\"} x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(run_by_files(&p, request, bad[i], 0, &err), PLM_EFORMAT);
        assert_non_null(strstr(err.text, "/results:1"));
    }
    bytes_free(&calls);
    bytes_free(&again);
    bytes_free(&passing);
    bytes_free(&refused);
    plm_free(request);
    person_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_replies_are_not_asked_for_again),
        cmocka_unit_test(a_reply_is_kept_with_the_records_it_quoted),
        cmocka_unit_test(a_forecast_is_near_to_what_the_run_takes),
        cmocka_unit_test(nothing_leaves_without_consent_and_a_line_in_the_ledger),
        cmocka_unit_test(a_run_needs_a_user_and_a_source_of_replies),
        cmocka_unit_test(odd_results_of_a_batch_are_named_or_asked_for_again),
        cmocka_unit_test(each_failing_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, fake_open, fake_close);
}
