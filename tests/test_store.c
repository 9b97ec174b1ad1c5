/* The store's promises about records, lineage, adapters, settings and ledgers. */
#include "support_store.h"
#include "store/store.h"

struct got {
    int n;
    int64_t ids[64];
    char texts[64][80];
    const char *want_input;
};

static int collect(void *ctx, const plm_record *r) {
    struct got *g = ctx;
    g->ids[g->n] = r->id;
    snprintf(g->texts[g->n], sizeof g->texts[0], "%s|%s|%s|%s|%lld|%d", r->user, r->kind, r->output,
             r->source ? r->source : "-", (long long)r->when, r->local_only);
    if (g->want_input) {
        assert_string_equal(r->input, g->want_input);
    }
    g->n++;
    return 0;
}

static void a_record_comes_back_as_it_was(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    const char *input = "Körper — \"quoted\" ' \\ %s 日本語 \x01";
    plm_record r = {.user = "ana",
                    .kind = "note",
                    .input = input,
                    .output = "x\ny",
                    .source = "a/b.md",
                    .when = 1234567890,
                    .local_only = true};
    int64_t id = 0;
    bool added = false;
    good(plm_store_add(st, &r, &id, &added, &err), &err);
    assert_true(added);
    struct got g = {.want_input = input};
    good(plm_store_find(st, &(plm_query){.id = id}, collect, &g, &err), &err);
    assert_int_equal(g.n, 1);
    assert_string_equal(g.texts[0], "ana|note|x\ny|a/b.md|1234567890|1");
    plm_store_close(st);
}

static void an_equal_record_is_not_stored_twice(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    int64_t first = add(st, "ana", "note", "in", "out"), again = 0;
    bool added = true;
    plm_record r = {
        .user = "ana", .kind = "note", .input = "in", .output = "out", .source = "elsewhere", .when = 5};
    good(plm_store_add(st, &r, &again, &added, &err), &err);
    assert_false(added);
    assert_int_equal(first, again);
    // The texts' border counts: "in" + "out" is not "ino" + "ut".
    assert_true(add(st, "ana", "note", "ino", "ut") != first);
    assert_true(add(st, "bo", "note", "in", "out") != first);
    assert_true(add(st, "ana", "mail", "in", "out") != first);
    assert_int_equal(count(st, NULL), 4);
    plm_store_close(st);
}

static void bad_records_are_refused_with_a_reason(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    char *longest = malloc(STORE_TEXT_MAX + 2);
    memset(longest, 'a', STORE_TEXT_MAX + 1);
    longest[STORE_TEXT_MAX + 1] = '\0';
    const struct {
        plm_record r;
        plm_status st;
        const char *says;
    } cases[] = {
        {{.user = "", .kind = "note", .output = "x"}, PLM_EINVAL, "user is empty"},
        {{.user = "a", .kind = NULL, .output = "x"}, PLM_EINVAL, "kind is empty"},
        {{.user = "a", .kind = "note", .output = ""}, PLM_EINVAL, "output is empty"},
        {{.user = "a", .kind = "note", .output = "\xff\xfe"}, PLM_EFORMAT, "output is not UTF-8 (byte 1)"},
        {{.user = "a", .kind = "note", .output = "x", .input = "ab\xed\xa0\x80"},
         PLM_EFORMAT,
         "input is not UTF-8"},
        {{.user = "a", .kind = "note", .output = longest}, PLM_ELIMIT, "output is longer than 65536"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(plm_store_add(st, &cases[i].r, NULL, NULL, &err), cases[i].st);
        if (!strstr(err.text, cases[i].says)) {
            fail_msg("case %zu: %s", i, err.text);
        }
    }
    longest[STORE_TEXT_MAX] = '\0';
    good(plm_store_add(st, &(plm_record){.user = "a", .kind = "note", .output = longest}, NULL, NULL, &err),
         &err);
    free(longest);
    plm_store_close(st);
}

static void queries_filter_order_and_limit(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    const struct {
        const char *user, *kind, *source;
        int64_t when;
    } rows[] = {
        {"ana", "note", "x", 30}, {"ana", "mail", "x", 10}, {"ana", "note", "y", 20}, {"bo", "note", "x", 5}};
    for (size_t i = 0; i < 4; i++) {
        char text[16];
        snprintf(text, sizeof text, "t%zu", i + 1);
        plm_record r = {.user = rows[i].user,
                        .kind = rows[i].kind,
                        .source = rows[i].source,
                        .when = rows[i].when,
                        .input = text,
                        .output = text};
        good(plm_store_add(st, &r, NULL, NULL, &err), &err);
    }
    const struct {
        plm_query q;
        const char *order;
    } cases[] = {
        {{0}, "4231"},
        {{.user = "ana"}, "231"},
        {{.user = "ana", .newest_first = true}, "132"},
        {{.user = "ana", .kind = "note"}, "31"},
        {{.source = "x"}, "421"},
        {{.since = 10, .until = 20}, "23"},
        {{.limit = 2}, "42"},
        {{.id = 3}, "3"},
        {{.user = "nobody"}, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct got g = {0};
        char order[16] = "";
        good(plm_store_find(st, &cases[i].q, collect, &g, &err), &err);
        for (int k = 0; k < g.n; k++) {
            order[k] = (char)('0' + g.ids[k]);
        }
        assert_string_equal(order, cases[i].order);
        size_t n = 99;
        good(plm_store_count(st, &cases[i].q, &n, &err), &err);
        assert_int_equal(n, cases[i].q.limit ? 4 : strlen(cases[i].order));
    }
    plm_store_close(st);
}

static void search_takes_any_words_literally(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    int64_t tea = add(st, "ana", "note", "How I make green tea", "Tea");
    int64_t soup = add(st, "ana", "note", "Lentil soup, with onions AND NOT garlic", "Soup");
    add(st, "ana", "note", "Café crème", "Coffee");
    const struct {
        const char *words;
        int n;
        int64_t first;
    } cases[] = {
        {"tea", 1, tea},
        {"TEA green", 1, tea},
        {"green soup", 0, 0},
        {"onions AND NOT garlic", 1, soup},
        {"cafe creme", 1, 3},
        {"\"", 0, 0},
        {"soup\" OR \"tea", 0, 0},
        {"tea*", 1, tea},
        {"NEAR(tea soup)", 0, 0},
        {"input : tea", 0, 0},
        {"(", 0, 0},
        {"   ", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct got g = {0};
        plm_status rc = plm_store_find(st, &(plm_query){.match = cases[i].words}, collect, &g, &err);
        if (rc || g.n != cases[i].n || (g.n && g.ids[0] != cases[i].first)) {
            fail_msg("%s: %d rows, %s", cases[i].words, g.n, err.text);
        }
    }
    plm_store_close(st);
}

static int stop(void *ctx, const plm_record *r) {
    (void)r;
    return ++*(int *)ctx == 2;
}

static void a_callback_can_stop(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    for (int i = 0; i < 5; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        add(st, "a", "note", text, text);
    }
    int seen = 0;
    assert_int_equal(plm_store_find(st, NULL, stop, &seen, &err), PLM_ESTOPPED);
    assert_int_equal(seen, 2);
    plm_store_close(st);
}

static void transactions_nest(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    good(plm_store_begin(st, &err), &err);
    add(st, "a", "note", "1", "1");
    good(plm_store_begin(st, &err), &err);
    add(st, "a", "note", "2", "2");
    good(plm_store_end(st, false, &err), &err);
    good(plm_store_begin(st, &err), &err);
    add(st, "a", "note", "3", "3");
    good(plm_store_end(st, true, &err), &err);
    assert_int_equal(count(st, "a"), 2);
    good(plm_store_end(st, true, &err), &err);
    assert_int_equal(count(st, "a"), 2);
    good(plm_store_begin(st, &err), &err);
    add(st, "a", "note", "4", "4");
    good(plm_store_end(st, false, &err), &err);
    assert_int_equal(count(st, "a"), 2);
    assert_int_equal(plm_store_end(st, true, &err), PLM_EINVAL);
    plm_store_close(st);
}

static void closing_undoes_an_open_transaction(void **state) {
    const char *path = in_folder(*state, "s.db");
    plm_store *st = open_store(path);
    plm_error err = {0};
    add(st, "a", "note", "1", "1");
    good(plm_store_begin(st, &err), &err);
    add(st, "a", "note", "2", "2");
    plm_store_close(st);
    st = open_store(path);
    assert_int_equal(count(st, "a"), 1);
    plm_store_close(st);
}

static void settings_are_set_replaced_and_removed(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    char *value = (char *)1;
    good(plm_store_get(st, "job", &value, &err), &err);
    assert_null(value);
    good(plm_store_set(st, "job", "one", &err), &err);
    good(plm_store_set(st, "job", "two", &err), &err);
    good(plm_store_get(st, "job", &value, &err), &err);
    assert_string_equal(value, "two");
    plm_free(value);
    good(plm_store_set(st, "job", NULL, &err), &err);
    good(plm_store_get(st, "job", &value, &err), &err);
    assert_null(value);
    plm_store_close(st);
}

static int collect_egress(void *ctx, const plm_egress *e) {
    struct got *g = ctx;
    snprintf(g->texts[g->n++], sizeof g->texts[0], "%s %s %s %llu %lld %lld", e->user, e->endpoint, e->sha256,
             (unsigned long long)e->bytes, (long long)e->consent, (long long)e->when);
    return 0;
}

static void consents_and_the_egress_ledger(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    int64_t id = 7, first = 0, second = 0;
    good(plm_store_find_consent(st, "ana", "https://x", "exemplars", &id, &err), &err);
    assert_int_equal(id, 0);
    plm_consent c = {.user = "ana", .endpoint = "https://x", .share = "exemplars", .text = "I agree."};
    good(plm_store_add_consent(st, &c, &first, &err), &err);
    good(plm_store_add_consent(st, &c, &second, &err), &err);
    good(plm_store_find_consent(st, "ana", "https://x", "exemplars", &id, &err), &err);
    assert_int_equal(id, second);
    good(plm_store_find_consent(st, "ana", "https://x", "summary", &id, &err), &err);
    assert_int_equal(id, 0);
    good(plm_store_find_consent(st, "bo", "https://x", "exemplars", &id, &err), &err);
    assert_int_equal(id, 0);
    plm_egress e = {
        .user = "ana", .endpoint = "https://x", .sha256 = "ab", .bytes = 42, .consent = first, .when = 9};
    good(plm_store_add_egress(st, &e, NULL, &err), &err);
    e.consent = 0;
    e.user = "bo";
    good(plm_store_add_egress(st, &e, NULL, &err), &err);
    e.consent = 99;
    assert_int_equal(plm_store_add_egress(st, &e, NULL, &err), PLM_EINVAL); // no such consent
    struct got g = {0};
    good(plm_store_list_egress(st, "ana", collect_egress, &g, &err), &err);
    assert_int_equal(g.n, 1);
    assert_string_equal(g.texts[0], "ana https://x ab 42 1 9");
    plm_store_close(st);
}

static int one_reply(void *ctx, const plm_reply *r) {
    struct got *g = ctx;
    snprintf(g->texts[g->n++], sizeof g->texts[0], "%s %s %s %s %zu %lld %lld %g", r->teacher, r->text,
             r->finish, r->call_hash, r->n_sources, (long long)r->sources[0], (long long)r->tokens_out,
             r->seconds);
    return 0;
}

static int one_synthetic(void *ctx, const plm_synthetic *s) {
    struct got *g = ctx;
    snprintf(g->texts[g->n++], sizeof g->texts[0], "%s %s %s %s %zu %g %g %g", s->mode, s->input, s->output,
             s->verdict, s->n_sources, s->weight, s->nll, s->z);
    return 0;
}

static void replies_and_examples_keep_their_lineage(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    struct family f = add_family(st, "ana", "text", "a.gguf");
    struct got g = {0};
    bool found = false;
    good(plm_store_find_reply(st, "ana", "hash-1", one_reply, &g, &found, &err), &err);
    assert_true(found);
    assert_string_equal(g.texts[0], "t text stop hash-1 1 1 9 0.25");
    good(plm_store_find_reply(st, "bo", "hash-1", one_reply, &g, &found, &err), &err);
    assert_false(found);
    // The first answer to a call stands.
    plm_reply again = {.user = "ana", .kind = "note", .teacher = "u", .call_hash = "hash-1", .text = "other"};
    int64_t id = 0;
    good(plm_store_add_reply(st, &again, &id, &err), &err);
    assert_int_equal(id, f.reply);
    g = (struct got){0};
    good(plm_store_find_synthetic(st, "ana", NULL, true, one_synthetic, &g, &err), &err);
    assert_int_equal(g.n, 1);
    assert_string_equal(g.texts[0], "rewrite text Title of text kept 1 0.5 1.25 -0.75");
    plm_synthetic dropped = {.user = "ana",
                             .kind = "note",
                             .mode = "new",
                             .input = "",
                             .output = "",
                             .verdict = "parse",
                             .teacher = "t"};
    good(plm_store_add_synthetic(st, &dropped, NULL, &err), &err);
    g = (struct got){0};
    good(plm_store_find_synthetic(st, "ana", "note", true, one_synthetic, &g, &err), &err);
    assert_int_equal(g.n, 1);
    good(plm_store_find_synthetic(st, "ana", "note", false, one_synthetic, &g, &err), &err);
    assert_int_equal(g.n, 3);
    good(plm_store_clear_synthetic(st, "ana", "note", &err), &err);
    g = (struct got){0};
    good(plm_store_find_synthetic(st, "ana", "note", false, one_synthetic, &g, &err), &err);
    assert_int_equal(g.n, 0);
    plm_store_close(st);
}

static void a_source_must_be_a_record_of_the_same_person(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    int64_t others = add(st, "bo", "note", "x", "y"), none = 77;
    plm_synthetic s = {.user = "ana",
                       .kind = "note",
                       .mode = "new",
                       .input = "i",
                       .output = "o",
                       .verdict = "kept",
                       .teacher = "t",
                       .sources = &others,
                       .n_sources = 1};
    assert_int_equal(plm_store_add_synthetic(st, &s, NULL, &err), PLM_ENOTFOUND);
    s.sources = &none;
    assert_int_equal(plm_store_add_synthetic(st, &s, NULL, &err), PLM_ENOTFOUND);
    assert_non_null(strstr(err.text, "record 77"));
    struct got g = {0};
    good(plm_store_find_synthetic(st, "ana", NULL, false, one_synthetic, &g, &err), &err);
    assert_int_equal(g.n, 0); // nothing half-written
    plm_store_close(st);
}

static int states(void *ctx, const plm_installed *a) {
    strncat(ctx, a->state, 1);
    return 0;
}

static void state_line(plm_store *st, const char *user, char line[32]) {
    plm_error err = {0};
    *line = '\0';
    good(plm_store_list_adapters(st, user, "note", states, line, &err), &err);
}

static int64_t install(plm_store *st, const char *user, const char *path) {
    plm_error err = {0};
    int64_t id = 0;
    good(plm_store_install(st, &(plm_installed){.user = user, .kind = "note", .path = path, .scale = 1}, &id,
                           &err),
         &err);
    return id;
}

static void the_last_three_adapters_stay_and_roll_back(void **state) {
    plm_store *st = open_store(in_folder(*state, "s.db"));
    plm_error err = {0};
    char line[32];
    int64_t ids[6];
    for (int i = 0; i < 4; i++) {
        ids[i] = install(st, "ana", "a");
        install(st, "bo", "b");
    }
    state_line(st, "ana", line);
    assert_string_equal(line, "rkka");
    good(plm_store_activate(st, "ana", "note", 0, &err), &err);
    state_line(st, "ana", line);
    assert_string_equal(line, "rkak");
    good(plm_store_activate(st, "ana", "note", 0, &err), &err);
    assert_int_equal(plm_store_activate(st, "ana", "note", 0, &err),
                     PLM_ENOTFOUND); // the one before is retired
    state_line(st, "ana", line);
    assert_string_equal(line, "rakk");
    assert_int_equal(plm_store_activate(st, "ana", "note", ids[0], &err), PLM_ENOTFOUND);
    good(plm_store_activate(st, "ana", "note", -1, &err), &err);
    state_line(st, "ana", line);
    assert_string_equal(line, "rkkk");
    good(plm_store_activate(st, "ana", "note", ids[1], &err), &err);
    ids[4] = install(st, "ana", "a");
    state_line(st, "ana", line);
    assert_string_equal(line, "rrkka"); // the active one and the two newest others
    good(plm_store_retire(st, ids[4], &err), &err);
    state_line(st, "ana", line);
    assert_string_equal(line, "rrkkr");
    assert_int_equal(plm_store_retire(st, 1000, &err), PLM_ENOTFOUND);
    state_line(st, "bo", line);
    assert_string_equal(line, "rkka");
    plm_store_close(st);
}

static int rows_of(void *ctx, const plm_installed *a) {
    struct got *g = ctx;
    for (size_t i = 0; i < a->n_records; i++) {
        g->ids[g->n++] = a->records[i];
    }
    return 0;
}

static void an_adapter_lists_what_it_learned(void **state) {
    const char *path = in_folder(*state, "s.db");
    plm_store *st = open_store(path);
    plm_error err = {0};
    struct family f = add_family(st, "ana", "text", "a.gguf");
    struct got g = {0};
    good(plm_store_list_adapters(st, NULL, NULL, rows_of, &g, &err), &err);
    assert_int_equal(g.n, 2);
    assert_int_equal(g.ids[0], f.record);
    assert_int_equal(g.ids[1], -f.synthetic);
    int64_t gone[] = {f.record, 99};
    plm_installed a = {
        .user = "ana", .kind = "note", .path = "b", .scale = 1, .records = gone, .n_records = 2};
    assert_int_equal(plm_store_install(st, &a, NULL, &err), PLM_ENOTFOUND);
    char line[32];
    state_line(st, "ana", line);
    assert_string_equal(line, "a"); // the failed installation left no trace
    plm_store_close(st);
    assert_int_equal(ask_file(path, "SELECT count(*) FROM adapter_rows r JOIN records c ON c.id = r.row"
                                    " AND c.digest = r.digest"),
                     1);
}

static void a_reader_may_not_write(void **state) {
    const char *path = in_folder(*state, "s.db");
    plm_store *st = open_store(path), *reader = NULL;
    plm_error err = {0};
    add(st, "a", "note", "1", "1");
    good(plm_store_open(&reader, path, true, &err), &err); // beside the writer
    assert_int_equal(count(reader, "a"), 1);
    plm_record r = {.user = "a", .kind = "note", .output = "x"};
    assert_int_equal(plm_store_add(reader, &r, NULL, NULL, &err), PLM_EINVAL);
    assert_int_equal(plm_store_begin(reader, &err), PLM_EINVAL);
    assert_int_equal(plm_store_set(reader, "a", "b", &err), PLM_EINVAL);
    assert_int_equal(plm_store_retire(reader, 1, &err), PLM_EINVAL);
    assert_int_equal(plm_store_clear_synthetic(reader, "a", NULL, &err), PLM_EINVAL);
    assert_int_equal(plm_store_forget(reader, &(plm_query){.user = "a"}, NULL, NULL, NULL, &err), PLM_EINVAL);
    add(st, "a", "note", "2", "2");
    assert_int_equal(count(reader, "a"), 2);
    plm_store_close(reader);
    plm_store_close(st);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_make, folder_drop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_record_comes_back_as_it_was),
        TEST(an_equal_record_is_not_stored_twice),
        TEST(bad_records_are_refused_with_a_reason),
        TEST(queries_filter_order_and_limit),
        TEST(search_takes_any_words_literally),
        TEST(a_callback_can_stop),
        TEST(transactions_nest),
        TEST(closing_undoes_an_open_transaction),
        TEST(settings_are_set_replaced_and_removed),
        TEST(consents_and_the_egress_ledger),
        TEST(replies_and_examples_keep_their_lineage),
        TEST(a_source_must_be_a_record_of_the_same_person),
        TEST(the_last_three_adapters_stay_and_roll_back),
        TEST(an_adapter_lists_what_it_learned),
        TEST(a_reader_may_not_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
