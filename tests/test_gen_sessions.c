/* test_gen_sessions.c: several sessions in common passes get, to the bit, what each would get alone: with
 * adapters of their own, whoever else is there. */
#include <string.h>
#include "support_gen.h"

enum { MANY = 9, LONG = 330 };

static plm_model *model;

static int open_all(void **state) {
    (void)state;
    model = open_random(&(struct tiny_model){.context = 512}, 3);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    plm_model_close(model);
    return 0;
}

struct seat {
    plm_session *together, *alone;
    plm_adapter *adapter;
    int32_t ids[LONG];
    size_t n;
};

/* Every third has no adapter, every other one is the same with another strength. */
static void sit(struct seat *s, int i, plm_adapter *shared) {
    plm_error err = {0};
    s->together = open_session(model, 0);
    s->alone = open_session(model, 0);
    s->adapter = i % 3 == 1 ? random_adapter(model, (uint64_t)i) : NULL;
    plm_lora use[] = {{s->adapter ? s->adapter : shared, .5f + (float)i}, {shared, .25f}};
    size_t n = i % 3 == 0 ? 0 : i % 3;
    assert_ok(plm_session_use(s->together, use, n, &err), &err);
    assert_ok(plm_session_use(s->alone, use, n, &err), &err);
    random_ids(model, s->ids, LONG, (uint64_t)i + 100);
    s->n = 0;
}

static void leave(struct seat *s) {
    plm_session_free(s->together);
    plm_session_free(s->alone);
    plm_adapter_free(s->adapter);
}

static void assert_same_logits(const struct seat *s) {
    const float *a = plm_session_logits(s->together), *b = plm_session_logits(s->alone);
    assert_non_null(a);
    assert_memory_equal(a, b, (size_t)model->cfg.vocab * sizeof *a);
}

static void sync_all(struct seat *const *s, size_t n) {
    plm_error err = {0};
    plm_session *sessions[MANY];
    const int32_t *ids[MANY];
    size_t len[MANY];
    for (size_t i = 0; i < n; i++) {
        sessions[i] = s[i]->together;
        ids[i] = s[i]->ids;
        len[i] = s[i]->n;
        assert_ok(plm_session_sync(s[i]->alone, s[i]->ids, s[i]->n, &err), &err);
    }
    assert_ok(plm_sessions_sync(sessions, ids, len, n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        assert_same_logits(s[i]);
    }
}

static void sessions_come_and_go_and_get_what_they_would_alone(void **state) {
    (void)state;
    static struct seat seat[MANY];
    plm_adapter *shared = random_adapter(model, 77);
    struct rng rng;
    rng_seed(&rng, 3, 0);
    for (int i = 0; i < MANY; i++) {
        sit(&seat[i], i, shared);
    }
    for (int round = 0; round < 40; round++) {
        struct seat *here[MANY];
        size_t n = 0;
        for (int i = 0; i < MANY; i++) {
            if (round && rng_below(&rng, 3) == 0) {
                continue; /* not there this time */
            }
            size_t more =
                round % 7 == 0 ? rng_below(&rng, 120) : 1; /* prompts of any length, mostly tokens */
            seat[i].n = seat[i].n + more + 1 < LONG ? seat[i].n + more : 1 + rng_below(&rng, 20);
            seat[i].n += seat[i].n == 0;
            here[n++] = &seat[i];
        }
        if (n) {
            sync_all(here, n);
        }
    }
    for (int i = 0; i < MANY; i++) {
        leave(&seat[i]);
    }
    plm_adapter_free(shared);
}

static void greedy_argmax(const plm_session *s, struct seat *seat) {
    const float *x = plm_session_logits(s);
    int32_t best = 0;
    for (int32_t i = 1; i < model->cfg.vocab; i++) {
        best = x[i] > x[best] ? i : best;
    }
    seat->ids[seat->n++] = best;
}

struct heard {
    char text[400];
    int32_t ids[64];
    size_t n, stop_after;
};

static int hear(void *ctx, int32_t id, const char *text, size_t len) {
    struct heard *h = ctx;
    strncat(h->text, text, len < 300 - strlen(h->text) ? len : 0);
    h->ids[h->n++] = id;
    return h->n == h->stop_after;
}

static void answers_written_together_are_those_written_alone(void **state) {
    (void)state;
    static struct seat seat[MANY];
    static struct heard together[MANY], alone[MANY];
    plm_request q[MANY];
    plm_generate_options how[MANY];
    plm_error err = {0};
    plm_adapter *shared = random_adapter(model, 78);
    for (int i = 0; i < MANY; i++) {
        sit(&seat[i], i, shared);
        seat[i].n = 1 + (size_t)i * 9;
        how[i] = (plm_generate_options){.max_tokens = 4 + 5 * i,
                                        .sampling = {.temperature = i % 2 ? 1 : 0, .seed = (uint64_t)i}};
        together[i].stop_after = alone[i].stop_after = i == 4 ? 3 : 0;
        q[i] = (plm_request){.session = seat[i].together,
                             .ids = seat[i].ids,
                             .n = seat[i].n,
                             .options = &how[i],
                             .on_token = hear,
                             .ctx = &together[i]};
    }
    assert_ok(plm_generate_all(q, MANY, &err), &err);
    for (int i = 0; i < MANY; i++) {
        plm_generation g;
        plm_status st =
            plm_generate(seat[i].alone, seat[i].ids, seat[i].n, &how[i], hear, &alone[i], &g, &err);
        assert_int_equal(st, i == 4 ? PLM_ESTOPPED : PLM_OK);
        assert_int_equal(alone[i].n, together[i].n);
        assert_memory_equal(alone[i].ids, together[i].ids, alone[i].n * sizeof(int32_t));
        assert_string_equal(alone[i].text, together[i].text);
        assert_int_equal(q[i].report.n_new, g.n_new);
        assert_int_equal(q[i].report.n_prompt, seat[i].n);
        assert_int_equal(q[i].report.finish, g.finish);
    }
    /* Again, from what is held now. */
    for (int i = 0; i < MANY; i++) {
        together[i] = (struct heard){.n = 0};
        greedy_argmax(seat[i].alone, &seat[i]);
        q[i].n = seat[i].n;
    }
    assert_ok(plm_generate_all(q, MANY, &err), &err);
    for (int i = 0; i < MANY; i++) {
        assert_true(q[i].report.n_cached >= seat[i].n - 2);
        leave(&seat[i]);
    }
    plm_adapter_free(shared);
}

static void scores_made_together_are_those_made_alone(void **state) {
    (void)state;
    static struct seat seat[MANY];
    static double together[MANY][LONG], alone[MANY][LONG];
    plm_scoring s[MANY];
    plm_error err = {0};
    plm_adapter *shared = random_adapter(model, 79);
    for (int i = 0; i < MANY; i++) {
        sit(&seat[i], i, shared);
        seat[i].n = i == 2 ? LONG : 2 + (size_t)i * 11;
        s[i] = (plm_scoring){seat[i].together, seat[i].ids, seat[i].n, i == 5 ? seat[i].n : 1 + (size_t)i,
                             together[i]};
    }
    for (int round = 0; round < 2; round++) { /* the second time with everything held */
        assert_ok(plm_score_all(s, MANY, &err), &err);
        for (int i = 0; i < MANY; i++) {
            assert_ok(plm_score(seat[i].alone, seat[i].ids, seat[i].n, s[i].from, alone[i], &err), &err);
            assert_memory_equal(together[i], alone[i], (seat[i].n - s[i].from) * sizeof(double));
        }
    }
    for (int i = 0; i < MANY; i++) {
        leave(&seat[i]);
    }
    plm_adapter_free(shared);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    plm_error err = {0};
    float *first = NULL;
    for (int threads = 1; threads <= 7; threads += 3) {
        plm_model *m = open_random(&(struct tiny_model){.context = 1500}, threads);
        plm_session *s[2] = {open_session(m, 1500), open_session(m, 1500)};
        plm_adapter *a = random_adapter(m, 5);
        static int32_t ids[2][1300];
        for (int i = 0; i < 2; i++) {
            random_ids(m, ids[i], 1300, (uint64_t)i);
            assert_ok(plm_session_use(s[i], &(plm_lora){a, 1}, (size_t)i, &err), &err);
            assert_ok(plm_session_sync(s[i], ids[i], 1299, &err), &err);
        }
        const int32_t *const all[] = {ids[0], ids[1]};
        assert_ok(plm_sessions_sync(s, all, (const size_t[]){1300, 1300}, 2, &err), &err);
        size_t bytes = (size_t)m->cfg.vocab * sizeof(float);
        float *both = mem_alloc(2, bytes);
        memcpy(both, plm_session_logits(s[0]), bytes);
        memcpy(both + m->cfg.vocab, plm_session_logits(s[1]), bytes);
        if (first) {
            assert_memory_equal(first, both, 2 * bytes);
            mem_free(both);
        } else {
            first = both;
        }
        plm_session_free(s[0]);
        plm_session_free(s[1]);
        plm_adapter_free(a);
        plm_model_close(m);
    }
    mem_free(first);
}

static void an_adapter_that_learned_is_read_again(void **state) {
    (void)state;
    plm_error err = {0};
    plm_adapter *a = random_adapter(model, 80), *b = random_adapter(model, 81);
    struct seat s = {.together = open_session(model, 0), .alone = open_session(model, 0)};
    random_ids(model, s.ids, 5, 1);
    s.n = 5;
    assert_ok(plm_session_use(s.together, &(plm_lora){a, 1}, 1, &err), &err);
    assert_ok(plm_session_sync(s.together, s.ids, 5, &err), &err);
    memcpy(a->lora->values, b->lora->values, a->lora->parameters * sizeof(float));
    a->lora->edits++;
    assert_ok(plm_session_use(s.together, &(plm_lora){a, 1}, 1, &err), &err);
    assert_ok(plm_session_use(s.alone, &(plm_lora){b, 1}, 1, &err), &err);
    assert_ok(plm_session_sync(s.together, s.ids, 5, &err), &err);
    assert_ok(plm_session_sync(s.alone, s.ids, 5, &err), &err);
    assert_same_logits(&s);
    leave(&s);
    plm_adapter_free(a);
    plm_adapter_free(b);
}

static void senseless_company_is_refused(void **state) {
    (void)state;
    plm_error err = {0};
    plm_model *other = open_random(&(struct tiny_model){.seed = 9}, 1);
    plm_session *a = open_session(model, 20), *b = open_session(other, 20), *c = open_session(model, 10);
    int32_t ids[20];
    random_ids(model, ids, 20, 1);
    const int32_t *two[] = {ids, ids};
    assert_int_equal(plm_sessions_sync((plm_session *[]){a, a}, two, (size_t[]){3, 3}, 2, &err), PLM_EINVAL);
    assert_int_equal(plm_sessions_sync((plm_session *[]){a, b}, two, (size_t[]){3, 3}, 2, &err), PLM_EINVAL);
    assert_int_equal(plm_sessions_sync((plm_session *[]){a, NULL}, two, (size_t[]){3, 3}, 2, &err),
                     PLM_EINVAL);
    assert_int_equal(plm_sessions_sync((plm_session *[]){a, c}, two, (size_t[]){3, 0}, 2, &err), PLM_EINVAL);
    assert_int_equal(plm_sessions_sync((plm_session *[]){a, c}, two, (size_t[]){3, 11}, 2, &err), PLM_ELIMIT);
    assert_int_equal(plm_sessions_sync((plm_session *[]){a, c}, two, (size_t[]){3, 3}, 65, &err), PLM_ELIMIT);
    assert_int_equal(plm_sessions_sync(NULL, two, (size_t[]){3, 3}, 1, &err), PLM_EINVAL);
    assert_int_equal(plm_sessions_sync(&a, two, (size_t[]){3}, 0, &err), PLM_EINVAL);
    plm_request q[] = {{.session = a, .ids = ids, .n = 3}, {.session = a, .ids = ids, .n = 3}};
    assert_int_equal(plm_generate_all(q, 2, &err), PLM_EINVAL);
    assert_int_equal(plm_generate_all(NULL, 2, &err), PLM_EINVAL);
    assert_ok(plm_generate_all(NULL, 0, &err), &err);
    q[1].session = NULL;
    assert_int_equal(plm_generate_all(q, 2, &err), PLM_EINVAL);
    double lp[20];
    plm_scoring s[] = {{a, ids, 5, 1, lp}, {c, ids, 12, 1, lp}};
    assert_int_equal(plm_score_all(s, 2, &err), PLM_ELIMIT);
    s[1] = (plm_scoring){a, ids, 5, 1, lp};
    assert_int_equal(plm_score_all(s, 2, &err), PLM_EINVAL);
    plm_session_free(a);
    plm_session_free(b);
    plm_session_free(c);
    plm_model_close(other);
}

static void failed_allocations_are_reported(void **state) {
    (void)state;
    plm_adapter *adapter = random_adapter(model, 5);
    int32_t ids[12];
    double lp[24];
    random_ids(model, ids, 12, 9);
    for (long n = 1;; n++) {
        plm_error err = {0};
        plm_session *s[2] = {NULL, NULL};
        mem_fail_at(n, true);
        plm_status st = plm_session_new(&s[0], model, NULL, &err);
        st = st ? st : plm_session_new(&s[1], model, NULL, &err);
        st = st ? st : plm_session_use(s[1], &(plm_lora){adapter, 1}, 1, &err);
        plm_request q[] = {{.session = s[0], .ids = ids, .n = 9}, {.session = s[1], .ids = ids, .n = 12}};
        st = st ? st : plm_generate_all(q, 2, &err);
        const plm_scoring both[] = {{s[0], ids, 12, 1, lp}, {s[1], ids, 12, 3, lp + 12}};
        st = st ? st : plm_score_all(both, 2, &err);
        mem_fail_at(0, false);
        plm_session_free(s[0]);
        plm_session_free(s[1]);
        if (!st) {
            assert_true(n > 12);
            break;
        }
        assert_int_equal(st, PLM_ENOMEM);
        assert_true(err.text[0]);
    }
    plm_adapter_free(adapter);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_come_and_go_and_get_what_they_would_alone),
        cmocka_unit_test(answers_written_together_are_those_written_alone),
        cmocka_unit_test(scores_made_together_are_those_made_alone),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(an_adapter_that_learned_is_read_again),
        cmocka_unit_test(senseless_company_is_refused),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
