/* test_synth.c: from records to stored examples with a teacher behind HTTP: draft, run, absorb; and what
 * leaves, what resumes and what is the same twice. */
#include "support_synth.h"

#include "fake_teacher.h"

static plm_absorb_report absorb(struct person *p, const plm_augment_policy *policy, const char *request,
                                const char *candidates) {
    plm_absorb_report r = {0};
    plm_error err = {0};
    plm_status st = plm_augment_absorb(p->store, policy, request, candidates, strlen(candidates), "fake",
                                       NULL, NULL, NULL, &r, &err);
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
    plm_teacher *t = remote_teacher(fake_base(&fake, "good"));
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
    plm_teacher_close(t);
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

/* ---- what leaves ---- */

struct bodies {
    char text[1 << 20];
    size_t n;
};

static int collect(void *ctx, const char *body) {
    struct bodies *b = ctx;
    strcat(b->text, body);
    strcat(b->text, "\n");
    b->n++;
    return 0;
}

static void preview_shows_the_first_calls_byte_for_byte(void **s) {
    (void)s;
    struct person p;
    person_open(&p, "note");
    person_add_notes(&p, 20);
    plm_augment_policy policy = person_policy(&p);
    plm_teacher *t = remote_teacher(fake_base(&fake, "good"));
    char *request, *again, *candidates;
    struct bodies *b = calloc(1, sizeof *b);
    assert_int_equal(plm_augment_draft(p.store, &policy, &again, NULL), PLM_OK);
    assert_int_equal(plm_augment_preview(again, t, collect, b, NULL, NULL), PLM_OK);
    assert_int_equal(p.left, 0);
    free(fake_received(&fake, 0));
    assert_int_equal(person_generate(&p, &policy, t, &request, &candidates, NULL), PLM_OK);
    assert_string_equal(request, again);
    char *sent = fake_received(&fake, 0);
    assert_true(b->n > 3);
    struct str shown = str_of(b->text), line;
    while (str_cut(&shown, '\n', &line) && line.n) // calls leave in any order
        assert_non_null(memmem(sent, strlen(sent), line.p, line.n + 1));
    free(sent);
    free(b);
    plm_free(request);
    plm_free(again);
    plm_free(candidates);
    plm_teacher_close(t);
    person_close(&p);
}

static void hidden_and_excluded_records_never_leave(void **s) {
    (void)s;
    struct person p;
    person_open(&p, "note");
    person_add_notes(&p, 20);
    person_add(&p, "The secretcanary word stays on this device whatever happens next week.",
               "Localcanary title", true);
    int64_t gate[2];
    gate[0] = person_add(&p, "The gatecanary word is for measuring and for nothing else at all here.",
                         "Gatecanary one", false);
    gate[1] = person_add(&p, "Another gatecanary text which belongs to the gate and is never shown.",
                         "Gatecanary two", false);
    person_add(&p, "Write to mailcanary@example.org or call +49 30 555777123 about the cellar key tomorrow.",
               "Ask https://urlcanary.example/x", false);
    plm_augment_policy policy = person_policy(&p);
    policy.exclude = gate;
    policy.n_exclude = 2;
    plm_teacher *t = remote_teacher(fake_base(&fake, "good"));
    char *request, *candidates;
    free(fake_received(&fake, 0));
    assert_int_equal(person_generate(&p, &policy, t, &request, &candidates, NULL), PLM_OK);
    char *sent = fake_received(&fake, 0);
    assert_true(strlen(sent) > 1000);
    static const char *const never[] = {"canary", "555777123", "ada", "sk-secret", "/tmp/"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        assert_null(strcasestr(sent, never[i]));
        assert_null(strcasestr(request, never[i]));
    }
    assert_non_null(strstr(sent, "[EMAIL_1]"));
    plm_absorb_report r = absorb(&p, &policy, request, candidates);
    assert_true(r.kept > 20);
    free(sent);
    plm_free(request);
    plm_free(candidates);
    plm_teacher_close(t);
    person_close(&p);
}

static void summary_mode_sends_no_rare_word(void **s) {
    (void)s;
    struct person p;
    person_open(&p, "note");
    for (int i = 0; i < 20; i++) {
        char in[300], out[100], extra[200];
        invent(extra, sizeof extra, i, 8);
        snprintf(in, sizeof in, "Zyxwina%d Qvortrup and Grobschnitt met in the garden of Ploumanach%d, %s", i,
                 i, extra);
        snprintf(out, sizeof out, "Qvortrup garden %d: meeting", i);
        person_add(&p, in, out, false);
    }
    plm_augment_policy policy = person_policy(&p);
    policy.summary_only = true;
    plm_teacher *t = remote_teacher(fake_base(&fake, "good"));
    char *request, *candidates;
    free(fake_received(&fake, 0));
    assert_int_equal(person_generate(&p, &policy, t, &request, &candidates, NULL), PLM_OK);
    char *sent = fake_received(&fake, 0);
    static const char *const rare[] = {"zyxwina", "qvortrup", "grobschnitt", "ploumanach"};
    for (size_t i = 0; i < 4; i++) {
        assert_null(strcasestr(sent, rare[i]));
        assert_null(strcasestr(request, rare[i]));
    }
    assert_non_null(strstr(request, "garden")); // common, and in more than three records
    assert_true(absorb(&p, &policy, request, candidates).kept > 0);
    free(sent);
    plm_free(request);
    plm_free(candidates);
    plm_teacher_close(t);
    person_close(&p);
}

/* ---- again, and after a break ---- */

static void replay_without_a_teacher_is_the_same(void **s) {
    (void)s;
    struct person p;
    person_open(&p, "note");
    person_add_notes(&p, 20);
    plm_augment_policy policy = person_policy(&p);
    plm_teacher *t = remote_teacher(fake_base(&fake, "good"));
    char *request, *candidates, *replayed = NULL;
    assert_int_equal(person_generate(&p, &policy, t, &request, &candidates, NULL), PLM_OK);
    struct synth_hooks h = person_hooks(&p);
    h.replay_of = plm_teacher_name(t);
    size_t calls = 0;
    assert_int_equal(synth_run(request, NULL, &h, &replayed, &calls, NULL), PLM_OK);
    assert_string_equal(replayed, candidates);
    assert_true(calls > 0);
    plm_free(replayed);
    replayed = NULL;
    h.replay_of = "https://elsewhere.example/v1 other";
    assert_int_equal(synth_run(request, NULL, &h, &replayed, NULL, NULL), PLM_EREMOTE);
    assert_null(replayed);
    plm_free(request);
    plm_free(candidates);
    plm_teacher_close(t);
    person_close(&p);
}

static void broken_run_goes_on_where_it_stopped(void **s) {
    (void)s;
    struct person p, q;
    person_open(&p, "note");
    person_open(&q, "note");
    person_add_notes(&p, 20);
    person_add_notes(&q, 20);
    plm_augment_policy policy = person_policy(&p), other = person_policy(&q);
    plm_teacher *t = remote_teacher(fake_base(&fake, "good"));
    char *request, *candidates, *request_b, *candidates_b;
    assert_int_equal(person_generate(&p, &policy, t, &request, &candidates, NULL), PLM_OK);
    size_t all = p.left;
    plm_error err;
    q.fail_after = 5;
    assert_int_equal(person_generate(&q, &other, t, &request_b, &candidates_b, &err), PLM_EREMOTE);
    assert_non_null(strstr(err.text, "5 of about"));
    assert_non_null(strstr(err.text, "goes on from there"));
    assert_int_equal(q.kept, 5);
    plm_free(request_b);
    q.fail_after = 0;
    q.left = 0;
    assert_int_equal(person_generate(&q, &other, t, &request_b, &candidates_b, NULL), PLM_OK);
    assert_int_equal(q.left, all - 5);
    assert_string_equal(candidates_b, candidates);
    plm_free(request);
    plm_free(request_b);
    plm_free(candidates);
    plm_free(candidates_b);
    plm_teacher_close(t);
    person_close(&p);
    person_close(&q);
}

static void teacher_that_is_down_or_talks_nonsense_pauses_the_run(void **s) {
    (void)s;
    static const char *const how[] = {
        "status-503",   "status-401",  "html",         "empty",         "truncated", "nocontent", "nochoices",
        "emptychoices", "nullcontent", "arraycontent", "numbercontent", "refusal",   "filter",    "toolcalls",
        "error200",     "array",       "scalar",       "status-400",    "redirect",  "badutf8"};
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        struct person p;
        person_open(&p, "note");
        person_add_notes(&p, 12);
        plm_augment_policy policy = person_policy(&p);
        plm_teacher *t = remote_teacher(fake_base(&fake, how[i]));
        char *request = NULL, *candidates = NULL;
        plm_error err = {0};
        plm_status st = person_generate(&p, &policy, t, &request, &candidates, &err);
        if (st != PLM_EREMOTE)
            print_message("%s: %d %s\n", how[i], st, err.text);
        assert_int_equal(st, PLM_EREMOTE);
        assert_non_null(strstr(err.text, "goes on from there"));
        assert_null(strstr(err.text, "sk-secret"));
        assert_int_equal(p.kept, 0);
        plm_free(request);
        plm_free(candidates);
        plm_teacher_close(t);
        person_close(&p);
    }
}

static void odd_but_whole_envelopes_are_read(void **s) {
    (void)s;
    static const char *const how[] = {"twochoices", "reasoning", "nousage", "badusage", "after-1-500"};
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        struct person p;
        person_open(&p, "note");
        person_add_notes(&p, 12);
        plm_augment_policy policy = person_policy(&p);
        plm_teacher *t = remote_teacher(fake_base(&fake, how[i]));
        char *request, *candidates;
        assert_int_equal(person_generate(&p, &policy, t, &request, &candidates, NULL), PLM_OK);
        assert_null(strstr(candidates, "secret"));
        assert_true(absorb(&p, &policy, request, candidates).kept > 10);
        plm_free(request);
        plm_free(candidates);
        plm_teacher_close(t);
        person_close(&p);
    }
}

static int count_bad(void *ctx, const plm_synthetic *x) {
    static const char *const never[] = {"<|",   "Ignore all", "EMAIL_77",  "AI language", "evil.example",
                                        "\x07", "这",         "I'm sorry", "JSON lines",  "DATA>>>"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        *(int *)ctx += strstr(x->input, never[i]) || strstr(x->output, never[i]);
    return 0;
}

/* Every hostile payload: the run ends well or pauses, and nothing hostile is among what is kept. */
static void hostile_payloads_are_never_kept(void **s) {
    (void)s;
    static const struct {
        const char *how;
        int kept; /* 0: none may be; 1: some must be */
    } table[] = {{"prose", 1},        {"codefence", 1},    {"json5", 0},         {"list", 0},
                 {"wrongcount", 1},   {"extrafields", 1},  {"missingfield", 0},  {"wrongnumber", 0},
                 {"twiceanumber", 1}, {"emptystrings", 0}, {"huge", 0},          {"control", 0},
                 {"nul", 0},          {"tokens", 0},       {"injection", 0},     {"invented", 0},
                 {"asanai", 0},       {"image", 0},        {"address", 0},       {"chinese", 0},
                 {"echo", -1},        {"depth", 0},        {"duplicatekeys", 0}, {"refusaltext", 0},
                 {"length", -1},      {"nullfinish", -1},  {"oddfinish", -1}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct person p;
        person_open(&p, "note");
        person_add_notes(&p, 12);
        plm_augment_policy policy = person_policy(&p);
        policy.wanted = 12;
        plm_teacher *t = remote_teacher(fake_base(&fake, table[i].how));
        char *request, *candidates;
        plm_error err = {0};
        plm_status st = person_generate(&p, &policy, t, &request, &candidates, &err);
        if (st)
            print_message("%s: %s\n", table[i].how, err.text);
        assert_int_equal(st, PLM_OK);
        plm_absorb_report r = absorb(&p, &policy, request, candidates);
        if ((table[i].kept == 0 && r.kept) || (table[i].kept == 1 && !r.kept))
            print_message("%s: kept %zu of %zu\n%.600s\n", table[i].how, r.kept, r.seen, candidates);
        assert_true(table[i].kept < 0 || (table[i].kept == 0) == (r.kept == 0));
        int bad = 0;
        assert_int_equal(plm_store_find_synthetic(p.store, "ada", "note", true, count_bad, &bad, NULL),
                         PLM_OK);
        assert_int_equal(bad, 0);
        plm_free(request);
        plm_free(candidates);
        plm_teacher_close(t);
        person_close(&p);
    }
}

static void cost_cap_stops_before_the_next_call(void **s) {
    (void)s;
    plm_teacher_options o = {
        .spec = fake_base(&fake, "good"), .max_cost = .0035, .cost_in = 10, .cost_out = 20};
    plm_teacher *t;
    assert_int_equal(plm_teacher_open(&t, &o, NULL), PLM_OK);
    plm_call c = {.system = "s", .user = "hello there", .temperature = .3f, .top_p = .9f, .max_tokens = 20};
    plm_error err;
    int asked = 0;
    plm_status st;
    do {
        plm_answer a;
        st = plm_teacher_ask(t, &c, 1, &a, &err);
        if (!st)
            plm_free(a.text);
        asked += !st;
    } while (!st);
    assert_int_equal(st, PLM_ELIMIT);
    assert_int_equal(asked, 2); // .002 each: the second passes the cap, the third is not made
    plm_teacher_close(t);
}

static void foreign_addresses_are_refused_as_teachers(void **s) {
    (void)s;
    static const char *const bad[] = {"", "http://example.org/v1", "ftp://x/y", "plm+https://x",
                                      "/nonexistent.gguf"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plm_teacher_options o = {.spec = bad[i]};
        plm_teacher *t = NULL;
        plm_error err = {0};
        assert_int_not_equal(plm_teacher_open(&t, &o, &err), PLM_OK);
        assert_true(*err.text && !t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notes_become_examples),
        cmocka_unit_test(notes_become_examples_one_at_a_time),
        cmocka_unit_test(labels_become_examples),
        cmocka_unit_test(posts_become_examples),
        cmocka_unit_test(preview_shows_the_first_calls_byte_for_byte),
        cmocka_unit_test(hidden_and_excluded_records_never_leave),
        cmocka_unit_test(summary_mode_sends_no_rare_word),
        cmocka_unit_test(replay_without_a_teacher_is_the_same),
        cmocka_unit_test(broken_run_goes_on_where_it_stopped),
        cmocka_unit_test(teacher_that_is_down_or_talks_nonsense_pauses_the_run),
        cmocka_unit_test(odd_but_whole_envelopes_are_read),
        cmocka_unit_test(hostile_payloads_are_never_kept),
        cmocka_unit_test(cost_cap_stops_before_the_next_call),
        cmocka_unit_test(foreign_addresses_are_refused_as_teachers),
    };
    return cmocka_run_group_tests(tests, fake_open, fake_close);
}
