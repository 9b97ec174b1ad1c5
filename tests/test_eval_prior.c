/* Calibration to a person's label counts: against a search by halves of its own, and what each weight means.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "shared/prior.h"

enum { MOST = 200, LABELS = 5 };

struct made { /* items, and what a model says of them */
    double nats[MOST * LABELS];
    int gold[MOST];
    size_t count[LABELS];
};

/* Labels with the shares of `habit`; the model sees the label through noise: `clear` nats more for it. */
static void make(struct made *m, size_t n, const double *habit, double clear, double noise, uint64_t seed) {
    struct rng rng;
    rng_seed(&rng, seed, 1);
    *m = (struct made){.count = {0}};
    for (size_t i = 0; i < n; i++) {
        double u = rng_unit(&rng), sum = habit[0];
        int l = 0;
        while (u > sum && l + 1 < LABELS)
            sum += habit[++l];
        m->gold[i] = l;
        m->count[l]++;
        for (int k = 0; k < LABELS; k++)
            m->nats[i * LABELS + (size_t)k] = noise * rng_unit(&rng) - (k == l ? clear : 0);
    }
}

static const double uneven[LABELS] = {0.6, 0.2, 0.1, 0.07, 0.03};

static void shares_are_counts_and_a_half(void **state) {
    double p[3];
    (void)state;
    prior_shares(p, (size_t[]){3, 0, 1}, 3);
    assert_float_equal(p[0], 3.5 / 5.5, 1e-12);
    assert_float_equal(p[1], 0.5 / 5.5, 1e-12);
    assert_float_equal(p[2], 1.5 / 5.5, 1e-12);
}

static void a_model_that_knows_nothing_leaves_the_counter(void **state) {
    struct made m;
    struct prior p;
    double share[LABELS], one[LABELS] = {3, 0, 9, 1, 2};
    (void)state;
    make(&m, 60, uneven, 0, 6, 3);
    assert_int_equal(prior_fit(&p, m.nats, m.gold, 60, m.count, LABELS, NULL), PLM_OK);
    assert_true(prior_weight(&p) <= 0.25 && p.nll < p.plain);
    prior_shares(share, m.count, LABELS);
    p.voice[0] = p.voice[1]; /* weight 0 */
    p.voice[0].trust = 1;
    p.n = 1;
    assert_int_equal(prior_apply(&p, one, LABELS), 0);
    for (int l = 0; l < LABELS; l++)
        assert_float_equal(exp(-one[l]), share[l], 1e-12);
}

static void a_model_that_knows_all_but_the_habits_keeps_its_weight(void **state) {
    struct made m;
    struct prior p;
    (void)state;
    make(&m, 100, uneven, 2, 3, 4);
    assert_int_equal(prior_fit(&p, m.nats, m.gold, 100, m.count, LABELS, NULL), PLM_OK);
    assert_true(prior_weight(&p) >= 0.75 && p.nll < p.plain);
}

/* After the fit, the mean prediction over the items is the person's share of each label, by every voice but
 * that of the model alone. */
static void the_mean_prediction_is_the_share(void **state) {
    struct made m;
    struct prior p;
    double share[LABELS], mean[LABELS] = {0};
    (void)state;
    make(&m, 40, uneven, 1.5, 3, 5);
    assert_int_equal(prior_fit(&p, m.nats, m.gold, 40, m.count, LABELS, NULL), PLM_OK);
    double all = 1 - p.voice[0].trust;
    assert_true(all > 0.01);
    p.voice[0].trust = 0;
    for (size_t k = 1; k < p.n; k++)
        p.voice[k].trust /= all;
    prior_shares(share, m.count, LABELS);
    for (size_t i = 0; i < 40; i++) {
        double one[LABELS];
        for (int l = 0; l < LABELS; l++)
            one[l] = m.nats[i * LABELS + (size_t)l];
        prior_apply(&p, one, LABELS);
        for (int l = 0; l < LABELS; l++)
            mean[l] += exp(-one[l]) / 40;
    }
    for (int l = 0; l < LABELS; l++)
        assert_float_equal(mean[l], share[l], 1e-4);
}

/* The oracle: two labels have one bias, which halving an interval finds; each item left out by a loop. */
static double two_bias(const double *odds, size_t n, size_t without, double weight, double share) {
    double low = -60, high = 60;
    for (int i = 0; i < 200; i++) {
        double b = (low + high) / 2, sum = 0, k = 0;
        for (size_t j = 0; j < n; j++)
            if (j != without) {
                sum += 1 / (1 + exp(-(weight * odds[j] + b)));
                k++;
            }
        if (sum / k < share)
            low = b;
        else
            high = b;
    }
    return (low + high) / 2;
}

static void two_labels_agree_with_a_search_by_halves(void **state) {
    enum { N = 9 };
    static const double odds[N] = {-0.4, 0.2, 0.9, -2.1, -1.2, 0.4, -2.9, 0.1, -1.7};
    static const int gold[N] = {0, 0, 0, 1, 0, 0, 1, 0, 1};
    double nats[2 * N], lost[N][6], trust[6], sum = 0, nll = 0, one[2] = {0.7, 0.2}, want = 0;
    struct prior p;
    (void)state;
    for (size_t i = 0; i < N; i++) {
        nats[2 * i] = log(1 + exp(-odds[i]));
        nats[2 * i + 1] = log(1 + exp(odds[i]));
        lost[i][0] = nats[2 * i + (size_t)gold[i]];
    }
    for (int w = 0; w <= 4; w++)
        for (size_t i = 0; i < N; i++) {
            double n0 = 6 - (gold[i] == 0), n1 = 3 - (gold[i] == 1), share = (n0 + .5) / (n0 + n1 + 1);
            double b = two_bias(odds, N, i, w / 4.0, share), x = w / 4.0 * odds[i] + b;
            lost[i][w + 1] = log(1 + exp(gold[i] == 0 ? -x : x));
        }
    for (size_t without = 0; without <= N; without++) {
        sum = 0;
        for (int k = 0; k < 6; k++) {
            trust[k] = 1;
            for (size_t i = 0; i < N; i++)
                trust[k] *= i == without ? 1 : exp(-lost[i][k]);
            sum += trust[k];
        }
        double q = 0;
        for (int k = 0; without < N && k < 6; k++)
            q += trust[k] / sum * exp(-lost[without][k]);
        nll -= without < N ? log(q) / N : 0;
    }
    for (int k = 0; k < 6; k++) { /* -ln p 0.7 and 0.2: odds of -0.5 */
        double w = k ? (k - 1) / 4.0 : 1, b = k ? two_bias(odds, N, N, w, 6.5 / 10) : 0;
        want += trust[k] / sum / (1 + exp(-(w * -0.5 + b)));
    }
    assert_int_equal(prior_fit(&p, nats, gold, N, (size_t[]){6, 3}, 2, NULL), PLM_OK);
    assert_float_equal(p.nll, nll, 1e-6);
    for (int k = 0; k < 6; k++)
        assert_float_equal(p.voice[k].trust, trust[k] / sum, 1e-5);
    prior_apply(&p, one, 2);
    assert_float_equal(exp(-one[0]), want, 1e-5);
}

static void few_items_are_left_alone_and_odd_ones_refused(void **state) {
    struct made m;
    struct prior p;
    plm_error err;
    double one[2] = {1, 2};
    (void)state;
    make(&m, 8, uneven, 1, 1, 6);
    assert_int_equal(prior_fit(&p, m.nats, m.gold, PRIOR_LEAST - 1, m.count, LABELS, NULL), PLM_OK);
    assert_int_equal(p.n, 1);
    assert_int_equal(prior_apply(&p, one, 2), 0);
    assert_float_equal(exp(-one[0]) + exp(-one[1]), 1, 1e-12);
    m.gold[2] = LABELS;
    assert_int_equal(prior_fit(&p, m.nats, m.gold, 8, m.count, LABELS, &err), PLM_EINVAL);
}

static const char *const names[LABELS] = {"one", "two", "three", "four", "f\xc3\xbcnf"};

static void it_comes_back_from_its_text(void **state) {
    struct made m;
    struct prior p, back;
    char *text = NULL;
    (void)state;
    make(&m, 30, uneven, 1, 3, 7);
    assert_int_equal(prior_fit(&p, m.nats, m.gold, 30, m.count, LABELS, NULL), PLM_OK);
    assert_int_equal(prior_write(&p, names, LABELS, &text, NULL), PLM_OK);
    assert_null(strchr(text, '\n'));
    assert_int_equal(prior_read(&back, text, names, LABELS, NULL), PLM_OK);
    for (int i = 0; i < 20; i++) {
        double one[LABELS], other[LABELS];
        for (int l = 0; l < LABELS; l++)
            one[l] = other[l] = m.nats[i * LABELS + l];
        assert_int_equal(prior_apply(&p, one, LABELS), prior_apply(&back, other, LABELS));
        for (int l = 0; l < LABELS; l++)
            assert_float_equal(one[l], other[l], 1e-6);
    }
    assert_int_equal(prior_read(&back, text, names, LABELS - 1, NULL), PLM_EINVAL);
    plm_free(text);
}

static void a_damaged_text_is_refused(void **state) {
    static const struct {
        const char *text;
        plm_status st;
    } bad[] = {
        {"", PLM_EFORMAT},
        {"[]", PLM_EFORMAT},
        {"{}", PLM_EFORMAT},
        {"{\"labels\":[\"a\",\"b\"],\"voices\":[]}", PLM_EFORMAT},
        {"{\"labels\":[\"a\",\"c\"],\"voices\":[]}", PLM_EINVAL},
        {"{\"labels\":[\"a\",1],\"voices\":[]}", PLM_EINVAL},
        {"{\"labels\":[\"a\",\"b\"],\"voices\":[{\"trust\":1,\"weight\":1,\"bias\":[0]}]}", PLM_EFORMAT},
        {"{\"labels\":[\"a\",\"b\"],\"voices\":[{\"trust\":1,\"weight\":2,\"bias\":[0,0]}]}", PLM_EFORMAT},
        {"{\"labels\":[\"a\",\"b\"],\"voices\":[{\"trust\":1,\"weight\":1,\"bias\":[0,1e300]}]}",
         PLM_EFORMAT},
        {"{\"labels\":[\"a\",\"b\"],\"voices\":[{\"trust\":0.5,\"weight\":1,\"bias\":[0,0]}]}", PLM_EFORMAT},
    };
    static const char *const two[] = {"a", "b"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct prior p;
        plm_error err;
        assert_int_equal(prior_read(&p, bad[i].text, two, 2, &err), bad[i].st);
        assert_true(err.text[0] && !strchr(err.text, '\n'));
        assert_int_equal(p.n, 1); /* and it is the model alone */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_counts_and_a_half),
        cmocka_unit_test(a_model_that_knows_nothing_leaves_the_counter),
        cmocka_unit_test(a_model_that_knows_all_but_the_habits_keeps_its_weight),
        cmocka_unit_test(the_mean_prediction_is_the_share),
        cmocka_unit_test(two_labels_agree_with_a_search_by_halves),
        cmocka_unit_test(it_comes_back_from_its_text),
        cmocka_unit_test(a_damaged_text_is_refused),
        cmocka_unit_test(few_items_are_left_alone_and_odd_ones_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
