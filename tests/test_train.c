/* The parts of train/ that need no model: optimiser, rate, order, packing. */
#include "train/trainer.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- AdamW ---- */

/* The published algorithm, in double, for one weight. */
static double oracle(double w, const float *g, int steps, double rate, double decay) {
    double m = 0, v = 0;
    for (int t = 1; t <= steps; t++) {
        m = 0.9 * m + 0.1 * g[t - 1];
        v = 0.999 * v + 0.001 * g[t - 1] * g[t - 1];
        w -= rate * decay * w;
        w -= rate * (m / (1 - pow(0.9, t))) / (sqrt(v / (1 - pow(0.999, t))) + 1e-8);
    }
    return w;
}

static void adamw_follows_the_published_algorithm(void **state) {
    (void)state;
    enum { N = 37, STEPS = 25 };
    static float g[N][STEPS], w[N], start[N], m[N], v[N], step_g[N];
    struct rng r;
    rng_seed(&r, 7, 0);
    for (int i = 0; i < N; i++) {
        w[i] = start[i] = rng_normal(&r);
        for (int t = 0; t < STEPS; t++) {
            g[i][t] = rng_normal(&r) * (i % 3 ? 1e-3f : 10);
        }
    }
    for (int t = 0; t < STEPS; t++) {
        for (int i = 0; i < N; i++) {
            step_g[i] = g[i][t];
        }
        struct adamw how = {.rate = 1e-2, .decay = 0.1, .scale = 1, .step = t + 1};
        assert_true(adamw_step(w, m, v, step_g, N, &how));
    }
    for (int i = 0; i < N; i++) {
        assert_float_equal(w[i], oracle(start[i], g[i], STEPS, 1e-2, 0.1), 2e-6 * (1 + fabs(start[i])));
    }
}

static void first_adamw_step_is_the_rate_against_the_sign(void **state) {
    (void)state;
    float w[3] = {1, 1, 1}, m[3] = {0}, v[3] = {0}, g[3] = {5, -0.25f, 0};
    struct adamw how = {.rate = 0.001, .decay = 0.01, .scale = 1, .step = 1};
    assert_true(adamw_step(w, m, v, g, 3, &how));
    assert_float_equal(w[0], 1 - 1e-5 - 0.001, 1e-7);
    assert_float_equal(w[1], 1 - 1e-5 + 0.001, 1e-7);
    assert_float_equal(w[2], 1 - 1e-5, 1e-7);
    assert_float_equal(m[0], 0.5, 1e-7);
    assert_float_equal(v[0], 0.025, 1e-8);
}

static void adamw_reports_a_weight_that_is_not_finite(void **state) {
    (void)state;
    float w[2] = {1, 3e38f}, m[2] = {0}, v[2] = {0}, g[2] = {1, -1};
    struct adamw how = {.rate = 3e38, .scale = 1, .step = 1};
    assert_false(adamw_step(w, m, v, g, 2, &how));
}

static void gradient_over_the_clip_is_scaled_to_it(void **state) {
    (void)state;
    float g[2] = {3, 4};
    assert_float_equal(grad_norm(g, 2), 5, 1e-12);
    assert_float_equal(grad_scale(5, 1), 0.2, 1e-12);
    assert_float_equal(grad_scale(0.5, 1), 1, 0);
    assert_float_equal(grad_scale(5, -1), 1, 0);
    g[1] = NAN;
    assert_false(isfinite(grad_norm(g, 2)));
}

/* ---- rate ---- */

static void rate_rises_to_its_peak_and_falls(void **state) {
    (void)state;
    const plm_schedule all[] = {PLM_LINEAR, PLM_COSINE, PLM_CONSTANT};
    for (int k = 0; k < 3; k++) {
        assert_float_equal(rate_at(all[k], 3, 0, 20, 2), 1, 1e-12);
        assert_float_equal(rate_at(all[k], 3, 1, 20, 2), 2, 1e-12);
        assert_float_equal(rate_at(all[k], 3, 2, 20, 2), 3, 1e-12);
        for (int s = 3; s < 20; s++) {
            double now = rate_at(all[k], 3, s, 20, 2), before = rate_at(all[k], 3, s - 1, 20, 2);
            assert_true(now > 0 && (all[k] == PLM_CONSTANT ? now == 3 : now < before));
        }
    }
    assert_float_equal(rate_at(PLM_LINEAR, 3, 11, 20, 2), 1.5, 1e-12);
    assert_float_equal(rate_at(PLM_COSINE, 3, 11, 20, 2), 1.5, 1e-12);
    assert_float_equal(rate_at(PLM_COSINE, 4, 6, 18, 0), 3, 1e-12);
    assert_float_equal(rate_at(PLM_LINEAR, 3, 0, 1, 0), 3, 0);
}

/* ---- order ---- */

enum { MOST = 64 };

static void plain_examples(struct example *ex, int n) {
    static int32_t ids[MOST];
    static uint8_t learn[MOST];
    for (int i = 0; i < n; i++) {
        ex[i] = (struct example){.ids = ids,
                                 .learn = learn,
                                 .n = 2,
                                 .targets = 1,
                                 .weight = 1,
                                 .synthetic = i % 2 == 1,
                                 .validation = i % 5 == 4};
    }
}

static void an_epoch_sees_each_learned_example_once(void **state) {
    (void)state;
    struct example ex[23];
    plain_examples(ex, 23);
    struct order o;
    assert_int_equal(order_open(&o, ex, 23, 5, NULL), PLM_OK);
    assert_int_equal(o.n_all, 19);
    o.batch = 4;
    o.limit = 3 * 19;
    o.real_from = 15;
    int seen[23] = {0}, total = 0, first[23], moved = 0;
    for (int step = 0; step < 15; step++) {
        const struct example *got[4];
        int n = order_step(&o, step, got);
        assert_int_equal(n, step < 14 ? 4 : 1);
        for (int i = 0; i < n; i++, total++) {
            int e = (int)(got[i] - ex);
            assert_int_equal(seen[e]++, total / 19);
            if (total < 19) {
                first[total] = e;
            } else if (total < 38) {
                moved += first[total - 19] != e;
            }
        }
    }
    for (int i = 0; i < 23; i++) {
        assert_int_equal(seen[i], ex[i].validation ? 0 : 3);
    }
    assert_true(moved > 5);
    order_close(&o);
}

static void order_depends_on_seed_and_step_alone(void **state) {
    (void)state;
    struct example ex[23];
    plain_examples(ex, 23);
    struct order a, b, c;
    assert_int_equal(order_open(&a, ex, 23, 5, NULL), PLM_OK);
    assert_int_equal(order_open(&b, ex, 23, 5, NULL), PLM_OK);
    assert_int_equal(order_open(&c, ex, 23, 6, NULL), PLM_OK);
    a.batch = b.batch = c.batch = 4;
    a.real_from = b.real_from = c.real_from = 100;
    const struct example *x[4], *y[4], *z[4];
    int differ = 0;
    for (int step = 0; step < 40; step++) {
        int back = 39 - step;
        assert_int_equal(order_step(&a, step, x), 4);
        assert_int_equal(order_step(&b, back, y), 4);
        assert_int_equal(order_step(&b, step, y), 4);
        assert_int_equal(order_step(&c, step, z), 4);
        assert_memory_equal(x, y, sizeof x);
        differ += memcmp(x, z, sizeof x) != 0;
    }
    assert_true(differ > 30);
    order_close(&a);
    order_close(&b);
    order_close(&c);
}

static void an_order_that_is_given_stays(void **state) {
    (void)state;
    struct example ex[23];
    plain_examples(ex, 23);
    struct order o;
    assert_int_equal(order_open(&o, ex, 23, 5, NULL), PLM_OK);
    o.as_given = true;
    o.batch = 4;
    o.real_from = 10;
    for (int step = 0; step < 14; step++) {
        const struct example *got[4];
        int n = order_step(&o, step, got);
        for (int i = 0; i < n; i++) {
            size_t at = (size_t)((step < 10 ? step : step - 10) * 4 + i);
            assert_ptr_equal(got[i], step < 10 ? o.all[at % o.n_all] : o.real[at % o.n_real]);
            assert_true(i == 0 || got[i] > got[i - 1] || at % (step < 10 ? o.n_all : o.n_real) == 0);
        }
    }
    order_close(&o);
}

static void last_steps_see_no_synthetic_example(void **state) {
    (void)state;
    struct example ex[23];
    plain_examples(ex, 23);
    struct order o;
    assert_int_equal(order_open(&o, ex, 23, 5, NULL), PLM_OK);
    o.batch = 16;
    o.real_from = 6;
    int synthetic = 0;
    for (int step = 0; step < 12; step++) {
        const struct example *got[16];
        int n = order_step(&o, step, got);
        assert_int_equal(n, step < 6 ? 16 : (int)o.n_real);
        for (int i = 0; i < n; i++) {
            synthetic += got[i]->synthetic;
            assert_false(step >= 6 && got[i]->synthetic);
            assert_false(got[i]->validation);
        }
    }
    assert_true(synthetic > 20);
    order_close(&o);
}

/* ---- packing ---- */

static void passes_hold_every_token_once_and_keep_examples_apart(void **state) {
    (void)state;
    enum { N = 40, CAP = 60 };
    struct rng r;
    rng_seed(&r, 3, 0);
    struct example ex[N];
    const struct example *list[N];
    float share[N];
    int32_t next = 0;
    int tokens = 0;
    for (int i = 0; i < N; i++) {
        int n = 2 + (int)rng_below(&r, CAP);
        n = n > CAP + 1 ? CAP + 1 : n;
        ex[i] = (struct example){.n = n, .weight = 1};
        ex[i].ids = calloc((size_t)n, sizeof *ex[i].ids);
        ex[i].learn = calloc((size_t)n, 1);
        for (int j = 0; j < n; j++) {
            ex[i].ids[j] = next++;
            ex[i].learn[j] = j == n - 1 || (j && rng_below(&r, 2));
            ex[i].targets += ex[i].learn[j];
        }
        list[i] = &ex[i];
        share[i] = (float)(i + 1);
        tokens += n - 1;
    }
    struct packer p;
    assert_int_equal(packer_open(&p, CAP, N, NULL), PLM_OK);
    packer_plan(&p, list, N, CAP);
    assert_true(p.passes >= (tokens + CAP - 1) / CAP);
    assert_true(p.passes <= (tokens * 11 / 9 + CAP - 1) / CAP + 1);
    double weight[N] = {0};
    int targets[N] = {0}, seen = 0;
    for (int k = 0; k < p.passes; k++) {
        packer_lay(&p, k, share);
        assert_true(p.batch.T > 0 && p.batch.T <= CAP);
        seen += p.batch.T;
        for (int t = 0; t < p.batch.T; t++) {
            assert_int_equal(p.batch.pos[t], t - p.batch.first[t]);
            if (p.batch.pos[t] > 0) {
                assert_int_equal(p.batch.ids[t], p.batch.ids[t - 1] + 1);
                assert_int_equal(p.batch.first[t], p.batch.first[t - 1]);
            }
        }
        for (int i = 0; i < p.targets; i++) {
            int own = p.owner[i], at = p.target[i] - ex[own].ids[0];
            assert_true(at > 0 && at < ex[own].n && ex[own].learn[at]);
            assert_int_equal(p.batch.ids[p.at[i]], p.target[i] - 1);
            weight[own] += (double)p.weight[i];
            targets[own]++;
        }
    }
    assert_int_equal(seen, tokens);
    for (int i = 0; i < N; i++) {
        assert_int_equal(targets[i], ex[i].targets);
        assert_float_equal(weight[i], share[i], 1e-4);
        free(ex[i].ids);
        free(ex[i].learn);
    }
    packer_close(&p);
}

/* What an example sees, token by token, is what it consists of. */
static void examples_that_begin_alike_share_up_to_their_first_target(void **state) {
    (void)state;
    enum { N = 30, CAP = 90, HEAD = 12 };
    struct rng r;
    rng_seed(&r, 4, 0);
    struct example ex[N];
    const struct example *list[N];
    int tokens = 0, seen = 0;
    for (int i = 0; i < N; i++) {
        int alike = (int)rng_below(&r, HEAD), n = HEAD + 2 + (int)rng_below(&r, 20);
        ex[i] = (struct example){.n = n, .weight = 1};
        ex[i].ids = calloc((size_t)n, sizeof *ex[i].ids);
        ex[i].learn = calloc((size_t)n, 1);
        for (int j = 0; j < n; j++) {
            ex[i].ids[j] = j < alike ? j : 1000 + (int32_t)rng_below(&r, 3);
            ex[i].learn[j] = j == n - 1 || (j > 7 && rng_below(&r, 2));
            ex[i].targets += ex[i].learn[j];
        }
        list[i] = &ex[i];
        tokens += n - 1;
    }
    struct packer p;
    assert_int_equal(packer_open(&p, CAP, N, NULL), PLM_OK);
    packer_plan(&p, list, N, CAP);
    int targets[N] = {0};
    for (int k = 0; k < p.passes; k++) {
        packer_lay(&p, k, NULL);
        const struct batch *b = &p.batch;
        assert_true(b->T > 0 && b->T <= CAP);
        assert_true(!b->seen || (b->rows > b->T && b->rows <= BATCH_ROWS * CAP));
        seen += b->T;
        for (int i = 0; i < p.targets; i++) {
            const struct example *e = &ex[p.owner[i]];
            int t = p.at[i], last = b->seen ? b->last[t] : t;
            assert_true(e->learn[b->pos[t] + 1]);
            assert_int_equal(e->ids[b->pos[t] + 1], p.target[i]);
            assert_int_equal(last - b->first[t], b->pos[t]);
            for (int row = b->first[t]; row <= last; row++) {
                int token = b->seen ? b->seen[row] : row;
                assert_int_equal(b->pos[token], row - b->first[t]);
                assert_int_equal(b->ids[token], e->ids[row - b->first[t]]);
            }
            targets[p.owner[i]]++;
        }
    }
    assert_true(seen < tokens * 9 / 10);
    for (int i = 0; i < N; i++) {
        assert_int_equal(targets[i], ex[i].targets);
        free(ex[i].ids);
        free(ex[i].learn);
    }
    packer_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_follows_the_published_algorithm),
        cmocka_unit_test(first_adamw_step_is_the_rate_against_the_sign),
        cmocka_unit_test(adamw_reports_a_weight_that_is_not_finite),
        cmocka_unit_test(gradient_over_the_clip_is_scaled_to_it),
        cmocka_unit_test(rate_rises_to_its_peak_and_falls),
        cmocka_unit_test(an_epoch_sees_each_learned_example_once),
        cmocka_unit_test(order_depends_on_seed_and_step_alone),
        cmocka_unit_test(an_order_that_is_given_stays),
        cmocka_unit_test(last_steps_see_no_synthetic_example),
        cmocka_unit_test(passes_hold_every_token_once_and_keep_examples_apart),
        cmocka_unit_test(examples_that_begin_alike_share_up_to_their_first_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
