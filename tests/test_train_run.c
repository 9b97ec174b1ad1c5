/* The trainer over a toy model: what it refuses, cuts, weighs, validates, keeps and reports. */
#include "train_toy.h"

static plm_trainer *new_trainer(struct toy *y, plm_train_options opt) {
    plm_trainer *t = NULL;
    assert_ok(plm_trainer_new(&t, &y->m, &y->a, &opt, &why));
    return t;
}

static void run_all(plm_trainer *t, plm_train_report *last) {
    do {
        assert_ok(plm_trainer_step(t, last, &why));
    } while (!last->done);
}

/* ---- what is refused ---- */

static void options_that_make_no_sense_are_refused(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = NULL;
    const struct {
        plm_train_options o;
        const char *part;
    } bad[] = {
        {{.batch = -1}, "batch"},
        {{.steps = -1}, "steps"},
        {{.epochs = -2}, "epochs"},
        {{.warmup = -2}, "warm-up"},
        {{.max_tokens = 5000}, "between 0 and 4096"},
        {{.max_tokens = 1}, "at least 2"},
        {{.patience = -1}, "patience"},
        {{.eval_every = -1}, "validations"},
        {{.schedule = (plm_schedule)7}, "schedule"},
        {{.rate = NAN}, "rate"},
        {{.rate = -1}, "rate"},
        {{.decay = INFINITY}, "decay"},
        {{.clip = NAN}, "clip"},
        {{.real_last = 1.5f}, "synthetic"},
        {{.real_last = NAN}, "synthetic"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_refused(plm_trainer_new(&t, &y.m, &y.a, &bad[i].o, &why), PLM_EINVAL, bad[i].part);
        assert_null(t);
    }
    struct toy other;
    toy_open(&other);
    assert_refused(plm_trainer_new(&t, &other.m, &y.a, NULL, &why), PLM_EINVAL, "another model");
}

static void examples_that_teach_nothing_are_refused(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.max_tokens = 32});
    const int32_t ids[] = {40, 41, 42, 43, 256}, negative[] = {40, -1};
    static int32_t answer[64] = {40, 41};
    const plm_message question[] = {{"user", "Hello"}}, both[] = {{"user", "Hello"}, {"assistant", "Hi"}};
    const struct {
        plm_example e;
        const char *part;
        plm_status st;
    } bad[] = {
        {{.ids = ids, .n_ids = 4, .n_prompt = 4, .name = "line 12"}, "line 12: nothing to learn", PLM_EINVAL},
        {{.ids = ids, .n_ids = 4, .n_prompt = 0, .name = "line 12"}, "line 12: no prompt", PLM_EINVAL},
        {{.ids = ids, .n_ids = 4, .n_prompt = 5}, "example 1: a prompt of 5", PLM_EINVAL},
        {{.ids = ids, .n_ids = 5, .n_prompt = 2}, "id 256 is outside", PLM_EINVAL},
        {{.ids = negative, .n_ids = 2, .n_prompt = 1}, "id -1 is outside", PLM_EINVAL},
        {{.ids = ids, .n_ids = 4, .n_prompt = 2, .weight = -1}, "weight of -1", PLM_EINVAL},
        {{.ids = ids, .n_ids = 4, .n_prompt = 2, .weight = NAN}, "weight of", PLM_EINVAL},
        {{.ids = ids, .n_ids = 4, .n_prompt = 2, .weight = INFINITY}, "weight of inf", PLM_EINVAL},
        {{.messages = question, .n_messages = 1}, "nothing to learn", PLM_EINVAL},
        {{.messages = both, .n_messages = 2, .ids = ids, .n_ids = 4, .n_prompt = 2}, "either", PLM_EINVAL},
        {{.name = "line 3"}, "line 3: an example is either messages or ids", PLM_EINVAL},
        {{.ids = answer, .n_ids = 64, .n_prompt = 2}, "answer has 62 tokens", PLM_ELIMIT},
        {{.ids = answer, .n_ids = 33, .n_prompt = 2}, "too few of them are prompt", PLM_ELIMIT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_refused(plm_trainer_add(t, &bad[i].e, &why), bad[i].st, bad[i].part);
    }
    assert_refused(plm_trainer_plan(t, NULL, &why), PLM_EINVAL, "no example to learn from");
    assert_refused(plm_trainer_step(t, NULL, &why), PLM_EINVAL, "no example to learn from");
    toy_add_ids(t, 1, 8, 4, 0, false);
    assert_ok(plm_trainer_plan(t, NULL, &why));
    assert_refused(plm_trainer_add(t, &(plm_example){.ids = ids, .n_ids = 4, .n_prompt = 2}, &why),
                   PLM_EINVAL, "before the plan");
    plm_trainer_free(t);
}

/* ---- cutting ---- */

static void long_ids_lose_the_front_of_their_prompt(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.max_tokens = 32});
    int32_t ids[50];
    for (int i = 0; i < 50; i++) {
        ids[i] = 40 + i;
    }
    ids[0] = TOY_BEGIN;
    assert_ok(plm_trainer_add(t, &(plm_example){.ids = ids, .n_ids = 50, .n_prompt = 40}, &why));
    assert_ok(plm_trainer_add(t, &(plm_example){.ids = ids, .n_ids = 32, .n_prompt = 30}, &why));
    plm_train_facts facts;
    assert_ok(plm_trainer_plan(t, &facts, &why));
    assert_int_equal(facts.cut, 1);
    const struct example *e = &t->ex[0];
    assert_int_equal(e->n, 32);
    assert_int_equal(e->targets, 10);
    assert_int_equal(e->ids[0], TOY_BEGIN);
    for (int i = 1; i < 32; i++) {
        assert_int_equal(e->ids[i], 40 + 18 + i);
        assert_int_equal(e->learn[i], i >= 22);
    }
    plm_trainer_free(t);
}

static void long_messages_keep_turns_answer_and_both_ends_of_the_text(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.max_tokens = 150});
    char text[400];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    memcpy(text, "Title:", 6);
    memcpy(text + sizeof text - 7, "itsend", 6);
    const plm_message m[] = {{"system", "Be brief."}, {"user", text}, {"assistant", "An answer"}};
    assert_ok(plm_trainer_add(t, &(plm_example){.messages = m, .n_messages = 3}, &why));
    const struct example *e = &t->ex[0];
    assert_int_equal(e->n, 150);
    assert_int_equal(e->targets, 10);
    assert_int_equal(e->ids[149], TOY_END);
    int turns = 0;
    char seen[160] = {0};
    for (int i = 0; i < e->n; i++) {
        turns += e->ids[i] == TOY_BEGIN;
        seen[i] = (char)e->ids[i];
    }
    assert_int_equal(turns, 3);
    assert_non_null(strstr(seen, "\1sBe brief.\2"));
    assert_non_null(strstr(seen, "\1uTitle:xx"));
    assert_non_null(strstr(seen, "xxitsend\2\n\1aAn answer\2"));
    plm_trainer_free(t);

    t = new_trainer(&y, (plm_train_options){.max_tokens = 150, .refuse_long = true});
    assert_refused(plm_trainer_add(t, &(plm_example){.messages = m, .n_messages = 3, .name = "line 9"}, &why),
                   PLM_ELIMIT, "line 9: ");
    plm_trainer_free(t);
}

static void what_follows_the_last_target_is_left_out(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){0});
    const plm_message m[] = {{"user", "Hello"}, {"assistant", "Hi"}, {"user", "And then?"}};
    assert_ok(plm_trainer_add(t, &(plm_example){.messages = m, .n_messages = 3}, &why));
    assert_int_equal(t->ex[0].n, 2 + 5 + 2 + 2 + 2 + 1);
    assert_int_equal(t->ex[0].targets, 3);
    plm_trainer_free(t);
}

/* ---- loss, weights, packing ---- */

static double toy_loss(const struct toy *y, const struct example *e) {
    double sum = 0;
    for (int i = 1; i < e->n; i++) {
        if (e->learn[i]) {
            int before = i > 1 ? e->ids[i - 2] : 0;
            double v = 2 * (double)y->values[(31 * e->ids[i - 1] + i - 1) % TOY_PARAMETERS] +
                       (double)y->values[(17 * before + e->ids[i]) % TOY_PARAMETERS] +
                       (e->ids[i] % 7 - 3) * 0.1;
            sum += 0.1 + v * v;
        }
    }
    return sum / e->targets;
}

static void step_loss_is_the_weighted_mean_of_example_means(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.batch = 3, .steps = 1});
    toy_add_ids(t, 1, 9, 4, 1, false);
    toy_add_ids(t, 2, 30, 10, 0.25f, false);
    toy_add_ids(t, 3, 5, 4, 2, false);
    double want =
        (toy_loss(&y, &t->ex[0]) + 0.25 * toy_loss(&y, &t->ex[1]) + 2 * toy_loss(&y, &t->ex[2])) / 3.25;
    plm_train_report r;
    assert_ok(plm_trainer_step(t, &r, &why));
    assert_float_equal(r.loss, want, 1e-6);
    assert_int_equal(r.tokens, 44);
    assert_true(r.done);
    assert_refused(plm_trainer_step(t, &r, &why), PLM_EINVAL, "no step is left");
    plm_trainer_free(t);
}

static void packed_and_single_passes_give_the_same_gradient(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.batch = 12, .steps = 2});
    for (uint64_t i = 0; i < 12; i++) {
        toy_add_ids(t, i, 5 + i * 7 % 31, 4, (float)(1 + i % 3), false);
    }
    assert_ok(plm_trainer_plan(t, NULL, &why));
    int n = order_step(&t->order, 0, t->step_ex);
    assert_int_equal(n, 12);
    float share[12], packed[TOY_PARAMETERS] = {0}, single[TOY_PARAMETERS] = {0};
    for (int i = 0; i < n; i++) {
        share[i] = t->step_ex[i]->weight / 24;
    }
    toy_passes = 0;
    assert_ok(trainer_pass(t, t->step_ex, n, t->pass_tokens, share, packed, &why));
    assert_int_equal(toy_passes, 1);
    double loss[12];
    memcpy(loss, t->loss, sizeof loss);
    for (int i = 0; i < n; i++) {
        assert_ok(trainer_pass(t, &t->step_ex[i], 1, t->pass_tokens, &share[i], single, &why));
        assert_float_equal(t->loss[0], loss[i], 0);
    }
    for (int i = 0; i < TOY_PARAMETERS; i++) {
        assert_float_equal(packed[i], single[i], 1e-6);
    }
    plm_trainer_free(t);
}

static void epochs_give_the_steps_and_steps_repeat_the_data(void **state) {
    (void)state;
    struct toy y;
    const struct {
        int n, batch, epochs, steps, want;
    } cases[] = {
        {10, 4, 3, 0, 8},  {3, 8, 3, 0, 3}, {16, 8, 0, 0, 6},
        {3, 8, 0, 50, 50}, {1, 1, 1, 0, 1}, {10, 4, 1, 30, 30},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        toy_open(&y);
        plm_trainer *t = new_trainer(
            &y,
            (plm_train_options){.batch = cases[c].batch, .epochs = cases[c].epochs, .steps = cases[c].steps});
        for (int i = 0; i < cases[c].n; i++) {
            toy_add_ids(t, (uint64_t)i, 10, 6, 0, false);
        }
        plm_train_facts facts;
        assert_ok(plm_trainer_plan(t, &facts, &why));
        assert_int_equal(facts.steps, cases[c].want);
        assert_int_equal(facts.examples, cases[c].n);
        assert_int_equal(facts.tokens, cases[c].n * 10);
        assert_int_equal(facts.targets, cases[c].n * 4);
        plm_train_report r;
        int steps = 0;
        size_t tokens = 0;
        do {
            assert_ok(plm_trainer_step(t, &r, &why));
            assert_int_equal(r.step, steps++);
            tokens += r.tokens;
        } while (!r.done);
        assert_int_equal(steps, cases[c].want);
        if (!cases[c].steps) {
            assert_int_equal(tokens, cases[c].n * 10 * (cases[c].epochs ? cases[c].epochs : 3));
        }
        plm_trainer_free(t);
    }
}

static void real_last_needs_an_example_that_is_real(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.real_last = 0.5f, .steps = 10});
    toy_add_ids(t, 3, 10, 5, 0, false);
    assert_refused(plm_trainer_plan(t, NULL, &why), PLM_EINVAL, "last 5 steps");
    toy_add_ids(t, 4, 10, 5, 0, false);
    plm_train_report r;
    for (int i = 0; i < 10; i++) {
        assert_ok(plm_trainer_step(t, &r, &why));
        assert_int_equal(r.tokens, i < 5 ? 20 : 10);
    }
    plm_trainer_free(t);
}

static void a_warmup_that_leaves_no_step_is_refused(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.warmup = 5, .steps = 5});
    toy_add_ids(t, 1, 10, 5, 0, false);
    assert_refused(plm_trainer_step(t, NULL, &why), PLM_EINVAL, "warm-up of 5");
    plm_trainer_free(t);
}

static void four_examples_are_learned_by_heart(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.steps = 600, .rate = 0.02f, .decay = -1});
    for (uint64_t i = 0; i < 4; i++) {
        toy_add_ids(t, i, 12, 6, 0, false);
    }
    plm_train_report first, r;
    assert_ok(plm_trainer_step(t, &first, &why));
    run_all(t, &r);
    assert_true(first.loss > 0.12);
    assert_float_equal(r.loss, 0.1, 1e-4);
    plm_trainer_free(t);
}

/* ---- validation ---- */

static void the_best_validated_adapter_is_kept(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(
        &y, (plm_train_options){
                .steps = 60, .eval_every = 5, .rate = 0.05f, .batch = 2, .schedule = PLM_CONSTANT});
    for (uint64_t i = 0; i < 4; i++) {
        toy_add_ids(t, i, 12, 6, 0, false);
        toy_add_ids(t, 100 + i, 12, 6, 0, true);
    }
    double best = INFINITY;
    int best_step = -1, count = 0;
    char best_sum[65] = "";
    plm_train_report r;
    do {
        assert_ok(plm_trainer_step(t, &r, &why));
        assert_int_equal(r.validated, r.step % 5 == 4);
        if (r.validated) {
            count++;
            double mean = 0;
            for (size_t i = 0; i < t->n_ex; i++) {
                mean += t->ex[i].validation ? toy_loss(&y, &t->ex[i]) / 4 : 0;
            }
            assert_float_equal(r.validation, mean, 1e-6);
            if (r.validation < best) {
                best = r.validation;
                best_step = r.step;
                toy_sum(&y, best_sum);
            }
        }
    } while (!r.done);
    assert_int_equal(count, 12);
    assert_int_equal(r.step, 59);
    assert_true(best_step < 59);
    double got;
    int got_step;
    assert_ok(plm_trainer_finish(t, &got_step, &got, &why));
    assert_int_equal(got_step, best_step);
    assert_float_equal(got, best, 0);
    char sum[65];
    toy_sum(&y, sum);
    assert_string_equal(sum, best_sum);
    assert_refused(plm_trainer_step(t, &r, &why), PLM_EINVAL, "finished");
    assert_refused(plm_trainer_save(t, "x.ckpt", &why), PLM_EINVAL, "finished");
    plm_trainer_free(t);
}

static void patience_ends_the_run(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(
        &y, (plm_train_options){
                .steps = 5000, .eval_every = 3, .patience = 4, .rate = 0.05f, .schedule = PLM_CONSTANT});
    for (uint64_t i = 0; i < 4; i++) {
        toy_add_ids(t, i, 12, 6, 0, false);
        toy_add_ids(t, 100 + i, 12, 6, 0, true);
    }
    plm_train_report r;
    int stale = 0;
    double best = INFINITY;
    do {
        assert_ok(plm_trainer_step(t, &r, &why));
        if (r.validated) {
            stale = r.validation < best ? 0 : stale + 1;
            best = fmin(best, r.validation);
        }
        assert_int_equal(r.done, stale == 4);
    } while (!r.done);
    assert_true(r.step < 4000);
    assert_refused(plm_trainer_step(t, &r, &why), PLM_EINVAL, "no step is left");
    plm_trainer_free(t);
}

static void without_validation_the_last_adapter_stays(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.steps = 7});
    toy_add_ids(t, 1, 12, 6, 0, false);
    plm_train_report r;
    run_all(t, &r);
    char before[65], after[65];
    toy_sum(&y, before);
    int step;
    double best;
    assert_ok(plm_trainer_finish(t, &step, &best, &why));
    toy_sum(&y, after);
    assert_string_equal(before, after);
    assert_int_equal(step, 6);
    assert_float_equal(best, -1, 0);
    plm_trainer_free(t);
}

static void losses_of_foreign_examples_change_nothing(void **state) {
    (void)state;
    struct toy y, quiet;
    toy_open(&y);
    toy_open(&quiet);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.steps = 9, .batch = 3});
    plm_trainer *q = new_trainer(&quiet, (plm_train_options){.steps = 9, .batch = 3});
    int32_t ids[40][300];
    plm_example ex[40];
    double loss[40];
    for (int i = 0; i < 40; i++) {
        size_t n = (size_t)(i == 20 ? 300 : 6 + i);
        for (size_t k = 0; k < n; k++) {
            ids[i][k] = 40 + (int32_t)(k * 7 + (size_t)i) % 150;
        }
        ex[i] = (plm_example){.ids = ids[i], .n_ids = n, .n_prompt = 4};
    }
    assert_ok(plm_trainer_loss(t, ex, 40, loss, &why));
    for (uint64_t i = 0; i < 7; i++) {
        toy_add_ids(t, i, 10 + i, 4, 0, false);
        toy_add_ids(q, i, 10 + i, 4, 0, false);
    }
    for (int s = 0; s < 9; s++) {
        assert_ok(plm_trainer_step(t, NULL, &why));
        assert_ok(plm_trainer_step(q, NULL, &why));
        assert_ok(plm_trainer_loss(t, ex, 40, loss, &why));
        for (int i = 0; i < 40; i++) {
            uint8_t learn[300];
            for (size_t k = 0; k < ex[i].n_ids; k++) {
                learn[k] = k >= 4;
            }
            struct example e = {
                .ids = ids[i], .learn = learn, .n = (int)ex[i].n_ids, .targets = (int)ex[i].n_ids - 4};
            assert_float_equal(loss[i], toy_loss(&y, &e), 1e-6);
        }
    }
    char a[65], b[65];
    toy_sum(&y, a);
    toy_sum(&quiet, b);
    assert_string_equal(a, b);
    plm_trainer_free(t);
    plm_trainer_free(q);
}

/* A loss of squares has a central difference that is its derivative. */
static void the_gradient_of_foreign_examples_is_their_slope_and_changes_nothing(void **state) {
    enum { N = 21 };
    struct toy y, quiet;
    (void)state;
    toy_open(&y);
    toy_open(&quiet);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.batch = 3, .steps = 9, .seed = 4});
    plm_trainer *q = new_trainer(&quiet, (plm_train_options){.batch = 3, .steps = 9, .seed = 4});
    static int32_t ids[N][60];
    plm_example ex[N];
    for (int i = 0; i < N; i++) {
        size_t n = 6 + (size_t)(i * 13 % 50);
        for (size_t k = 0; k < n; k++) {
            ids[i][k] = TOY_TEXT + (int32_t)((i * 29 + (int)k * 7) % 100);
        }
        ex[i] = (plm_example){.ids = ids[i], .n_ids = n, .n_prompt = 4, .weight = 1 + (float)i};
    }
    for (uint64_t i = 0; i < 7; i++) {
        toy_add_ids(t, i, 10 + i, 4, 0, false);
        toy_add_ids(q, i, 10 + i, 4, 0, false);
    }
    float got[TOY_PARAMETERS];
    for (int s = 0; s < 9; s++) {
        for (int k = 0; k < TOY_PARAMETERS; k++) {
            got[k] = 5; /* what was there does not count */
        }
        assert_ok(plm_trainer_gradient(t, ex, N, got, &why));
        for (int k = 0; k < TOY_PARAMETERS; k += 7) {
            double slope = 0;
            for (int side = -1; side <= 1; side += 2) {
                float was = y.values[k];
                y.values[k] += (float)side * 0.5f;
                for (int i = 0; i < N; i++) {
                    uint8_t learn[60];
                    for (size_t p = 0; p < ex[i].n_ids; p++) {
                        learn[p] = p >= 4;
                    }
                    struct example e = {.ids = ids[i],
                                        .learn = learn,
                                        .n = (int)ex[i].n_ids,
                                        .targets = (int)ex[i].n_ids - 4};
                    slope += side * toy_loss(&y, &e) / N;
                }
                y.values[k] = was;
            }
            assert_float_equal(got[k], slope, 1e-4);
        }
        assert_ok(plm_trainer_step(t, NULL, &why));
        assert_ok(plm_trainer_step(q, NULL, &why));
    }
    char a[65], b[65];
    toy_sum(&y, a);
    toy_sum(&quiet, b);
    assert_string_equal(a, b);
    assert_refused(plm_trainer_gradient(t, ex, 0, got, &why), PLM_EINVAL, "needs");
    ids[18][5] = TOY_NAN;
    assert_refused(plm_trainer_gradient(t, ex, N, got, &why), PLM_EINVAL, "the loss of example 19 is not");
    ids[18][5] = TOY_INF;
    assert_refused(plm_trainer_gradient(t, ex, N, got, &why), PLM_EINVAL, "the gradient of");
    plm_trainer_free(t);
    plm_trainer_free(q);
}

/* ---- numbers that are not finite ---- */

static void a_poisoned_example_is_named_and_the_weights_stay(void **state) {
    (void)state;
    for (int poison = TOY_NAN; poison <= TOY_INF; poison++) {
        struct toy y;
        toy_open(&y);
        plm_trainer *t = new_trainer(&y, (plm_train_options){.steps = 9, .batch = 4});
        toy_add_ids(t, 1, 12, 6, 0, false);
        toy_add_ids(t, 2, 12, 6, 0, false);
        int32_t ids[] = {40, 41, poison, 43, 44, 45};
        assert_ok(plm_trainer_add(t, &(plm_example){.ids = ids, .n_ids = 6, .n_prompt = 3, .name = "line 77"},
                                  &why));
        toy_add_ids(t, 4, 12, 6, 0, false);
        char before[65], after[65];
        toy_sum(&y, before);
        assert_refused(plm_trainer_step(t, NULL, &why), PLM_EINVAL, "line 77");
        assert_non_null(strstr(why.text, poison == TOY_NAN ? "the loss of" : "the gradient of"));
        toy_sum(&y, after);
        assert_string_equal(before, after);
        plm_trainer_free(t);
    }
}

static void a_poisoned_validation_is_named_and_never_saved(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.steps = 9, .batch = 4, .eval_every = 2});
    toy_add_ids(t, 1, 12, 6, 0, false);
    int32_t ids[] = {40, 41, TOY_NAN, 43, 44, 45};
    assert_ok(plm_trainer_add(
        t, &(plm_example){.ids = ids, .n_ids = 6, .n_prompt = 3, .validation = true, .name = "line 5"},
        &why));
    assert_ok(plm_trainer_step(t, NULL, &why));
    assert_refused(plm_trainer_step(t, NULL, &why), PLM_EINVAL, "line 5");
    assert_refused(plm_trainer_step(t, NULL, &why), PLM_EINVAL, "line 5");
    assert_refused(plm_trainer_save(t, "never.ckpt", &why), PLM_EINVAL, "not saved");
    assert_false(file_exists("never.ckpt"));
    assert_refused(plm_trainer_finish(t, NULL, NULL, &why), PLM_EINVAL, "line 5");
    plm_trainer_free(t);
}

static void a_rate_that_breaks_the_weights_is_never_saved(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    plm_trainer *t = new_trainer(&y, (plm_train_options){.steps = 9, .rate = 3e38f, .warmup = -1});
    toy_add_ids(t, 1, 12, 6, 0, false);
    plm_status st = PLM_OK;
    for (int i = 0; i < 9 && !st; i++) {
        st = plm_trainer_step(t, NULL, &why);
    }
    assert_int_equal(st, PLM_EINVAL);
    assert_non_null(strstr(why.text, "learning rate may be too high"));
    plm_trainer_free(t);
}

/* ---- memory ---- */

static void a_ceiling_too_low_says_what_is_needed(void **state) {
    (void)state;
    struct toy y;
    toy_open(&y);
    toy_bytes_a_token = 1000000;
    plm_trainer *t = new_trainer(&y, (plm_train_options){.memory = 100 << 20, .batch = 4});
    toy_add_ids(t, 1, 202, 6, 0, false);
    assert_refused(plm_trainer_plan(t, NULL, &why), PLM_ELIMIT, "at least");
    plm_trainer_free(t);

    /* one example fits, four at once do not: passes are made shorter */
    t = new_trainer(&y, (plm_train_options){.memory = 100 << 20, .batch = 4, .steps = 2});
    for (uint64_t i = 0; i < 4; i++) {
        toy_add_ids(t, i, 71, 6, 0, false);
    }
    plm_train_facts facts;
    assert_ok(plm_trainer_plan(t, &facts, &why));
    assert_in_range(facts.planned_bytes, 70000000, 100 << 20);
    toy_longest = 0;
    assert_ok(plm_trainer_step(t, NULL, &why));
    assert_int_equal(toy_longest, 70);

    /* a foreign example that does not fit is refused, and the run goes on */
    int32_t ids[300];
    double loss;
    for (int i = 0; i < 300; i++) {
        ids[i] = TOY_TEXT + i % 100;
    }
    const plm_example large = {.ids = ids, .n_ids = 300, .n_prompt = 4};
    assert_refused(plm_trainer_loss(t, &large, 1, &loss, &why), PLM_ELIMIT, "at least");
    assert_ok(plm_trainer_step(t, NULL, &why));
    plm_trainer_free(t);
    toy_bytes_a_token = 1000;
}

static plm_status whole_run(struct toy *y, const char *path, plm_error *err) {
    plm_trainer *t = NULL, *second = NULL;
    plm_train_options o = {.steps = 4, .batch = 2, .eval_every = 2};
    const plm_message m[] = {{"user", "Hello"}, {"assistant", "Hi there"}};
    plm_example ex = {.messages = m, .n_messages = 2};
    double loss;
    plm_status st = plm_trainer_new(&t, &y->m, &y->a, &o, err);
    for (int i = 0; i < 5 && !st; i++) {
        ex.validation = i == 4;
        st = plm_trainer_add(t, &ex, err);
    }
    for (int i = 0; i < 2 && !st; i++) {
        st = plm_trainer_step(t, NULL, err);
    }
    if (!st) {
        st = plm_trainer_save(t, path, err);
    }
    if (!st) {
        st = plm_trainer_loss(t, &ex, 1, &loss, err);
    }
    if (!st) {
        st = plm_trainer_new(&second, &y->m, &y->a, &o, err);
    }
    for (int i = 0; i < 5 && !st; i++) {
        ex.validation = i == 4;
        st = plm_trainer_add(second, &ex, err);
    }
    if (!st) {
        st = plm_trainer_resume(second, path, err);
    }
    for (int i = 0; i < 2 && !st; i++) {
        st = plm_trainer_step(second, NULL, err);
    }
    if (!st) {
        st = plm_trainer_finish(second, NULL, NULL, err);
    }
    plm_trainer_free(t);
    plm_trainer_free(second);
    return st;
}

static void every_failed_allocation_is_a_clean_status(void **state) {
    (void)state;
    char path[] = "train-alloc-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    char prev[64];
    snprintf(prev, sizeof prev, "%s.prev", path);
    struct toy y;
    plm_status st = PLM_ENOMEM;
    long n = 0;
    while (st) {
        toy_open(&y);
        mem_fail_at(++n, false);
        memset(&why, 0, sizeof why);
        st = whole_run(&y, path, &why);
        mem_fail_at(0, false);
        assert_true(st == PLM_OK || st == PLM_ENOMEM);
        assert_true(!st || why.text[0]);
        assert_in_range(n, 1, 1000);
        unlink(path);
        unlink(prev);
    }
    assert_true(n > 40);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(examples_that_teach_nothing_are_refused),
        cmocka_unit_test(long_ids_lose_the_front_of_their_prompt),
        cmocka_unit_test(long_messages_keep_turns_answer_and_both_ends_of_the_text),
        cmocka_unit_test(what_follows_the_last_target_is_left_out),
        cmocka_unit_test(step_loss_is_the_weighted_mean_of_example_means),
        cmocka_unit_test(packed_and_single_passes_give_the_same_gradient),
        cmocka_unit_test(epochs_give_the_steps_and_steps_repeat_the_data),
        cmocka_unit_test(real_last_needs_an_example_that_is_real),
        cmocka_unit_test(a_warmup_that_leaves_no_step_is_refused),
        cmocka_unit_test(four_examples_are_learned_by_heart),
        cmocka_unit_test(the_best_validated_adapter_is_kept),
        cmocka_unit_test(patience_ends_the_run),
        cmocka_unit_test(without_validation_the_last_adapter_stays),
        cmocka_unit_test(losses_of_foreign_examples_change_nothing),
        cmocka_unit_test(the_gradient_of_foreign_examples_is_their_slope_and_changes_nothing),
        cmocka_unit_test(a_poisoned_example_is_named_and_the_weights_stay),
        cmocka_unit_test(a_poisoned_validation_is_named_and_never_saved),
        cmocka_unit_test(a_rate_that_breaks_the_weights_is_never_saved),
        cmocka_unit_test(a_ceiling_too_low_says_what_is_needed),
        cmocka_unit_test(every_failed_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
