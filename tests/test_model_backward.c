/* Gradients of the whole tiny model against central differences of the oracle, and against themselves: packed
 * or one by one, recomputed or kept, on any number of threads. */
#include "support_model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 14, MAX = 64 };

static const struct tiny_model
    llama = {.arch = "llama", .seed = 1, .width = 32, .ffn = 48, .layers = 3},
    qwen2 = {.arch = "qwen2", .seed = 2, .width = 32, .ffn = 48, .layers = 2, .kv_heads = 1},
    qwen3 = {.arch = "qwen3", .seed = 8, .width = 32, .ffn = 48, .layers = 2},
    gemma3 = {.arch = "gemma3", .seed = 9, .width = 32, .ffn = 48, .layers = 3, .kv_heads = 1};
static const struct tiny_model *const specs[] = {&llama, &qwen2, &qwen3, &gemma3};
enum { SPECS = sizeof specs / sizeof *specs };

/* Examples one after another; every token from `prompt` on is a target. */
struct packed {
    struct batch b;
    int32_t ids[MAX], pos[MAX], first[MAX], at[MAX], target[MAX];
    float weight[MAX];
    double nll[MAX];
    int n;
};

static void add_example(struct packed *p, const int32_t *ids, int n, int prompt, float weight) {
    int row = p->b.T;
    p->b.ids = p->ids, p->b.pos = p->pos, p->b.first = p->first;
    for (int t = 0; t + 1 < n; t++, p->b.T++) {
        p->ids[p->b.T] = ids[t];
        p->pos[p->b.T] = t;
        p->first[p->b.T] = row;
        if (t + 1 < prompt)
            continue;
        p->at[p->n] = p->b.T;
        p->target[p->n] = ids[t + 1];
        p->weight[p->n++] = weight / (float)(n - prompt);
    }
}

static float *gradient(const plm_model *m, struct packed *p, const struct lora *l, uint64_t memory,
                       int *recomputed) {
    struct trace *t = NULL;
    plm_error err = {0};
    float *grad = calloc(l->parameters, sizeof *grad);
    assert_ok(trace_open(&t, m, p->b.T, l, memory, &err), &err);
    assert_ok(model_train(t, &p->b, p->at, p->target, p->weight, p->n, l, grad, p->nll, &err), &err);
    if (recomputed)
        *recomputed = trace_recomputed(t);
    trace_close(t);
    return grad;
}

static double norm_of(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static double distance(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum) / norm_of(b, n);
}

static double oracle_loss(const plm_model *m, const struct lora *l, const int32_t *ids, int prompt) {
    double nll[N], sum = 0;
    oracle(m, l, 1, ids, N, nll, NULL);
    for (int i = prompt - 1; i < N - 1; i++)
        sum += nll[i];
    return sum / (N - prompt);
}

static void check_differences(const struct tiny_model *spec) {
    enum { PROMPT = 5 };
    plm_model *m = open_tiny(spec, "ref", 2);
    plm_adapter *a = random_adapter(m, 2, PLM_ALL_LINEAR, 3);
    struct lora *l = a->lora;
    int32_t ids[N];
    struct packed p = {0};
    random_ids(ids, N, m->cfg.vocab, 4);
    add_example(&p, ids, N, PROMPT, 1);
    float *grad = gradient(m, &p, l, UINT64_MAX, NULL);
    double loss = 0;
    for (int i = 0; i < p.n; i++)
        loss += (double)p.weight[i] * p.nll[i];
    assert_true(fabs(loss / oracle_loss(m, l, ids, PROMPT) - 1) < 1e-6);
    // A step of 2^-9 is exact in float beside these values; differences of doubles then carry 1e-5 of
    // truncation.
    const float step = 1.0f / 512;
    double typical = norm_of(grad, l->parameters) / sqrt((double)l->parameters);
    for (size_t i = 0; i < l->parameters; i += 13) {
        float keep = l->values[i];
        l->values[i] = keep + step;
        double up = oracle_loss(m, l, ids, PROMPT), high = (double)l->values[i];
        l->values[i] = keep - step;
        double down = oracle_loss(m, l, ids, PROMPT), low = (double)l->values[i];
        l->values[i] = keep;
        double want = (up - down) / (high - low);
        if (fabs((double)grad[i] - want) > 1e-3 * fabs(want) + 1e-3 * typical) {
            print_error("value %zu of %zu: %g, by differences %g\n", i, l->parameters, (double)grad[i], want);
            assert_true(false);
        }
    }
    free(grad);
    plm_adapter_free(a);
    plm_model_close(m);
}

static void every_gradient_is_a_slope_of_the_oracle(void **state) {
    (void)state;
    for (int i = 0; i < SPECS; i++)
        check_differences(specs[i]);
}

static void packed_examples_give_the_sum_of_their_gradients(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 2);
    plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 5);
    size_t n = a->lora->parameters;
    int32_t one[9], two[17];
    random_ids(one, 9, m->cfg.vocab, 6);
    random_ids(two, 17, m->cfg.vocab, 7);
    struct packed p1 = {0}, p2 = {0}, both = {0};
    add_example(&p1, one, 9, 3, 0.25f);
    add_example(&p2, two, 17, 8, 0.75f);
    add_example(&both, one, 9, 3, 0.25f);
    add_example(&both, two, 17, 8, 0.75f);
    float *g1 = gradient(m, &p1, a->lora, UINT64_MAX, NULL),
          *g2 = gradient(m, &p2, a->lora, UINT64_MAX, NULL);
    float *g = gradient(m, &both, a->lora, UINT64_MAX, NULL);
    for (size_t i = 0; i < n; i++)
        g1[i] += g2[i];
    assert_true(distance(g, g1, n) < 1e-5);
    for (int i = 0; i < p1.n; i++)
        assert_true(fabs(p1.nll[i] - both.nll[i]) < 1e-5);
    for (int i = 0; i < p2.n; i++)
        assert_true(fabs(p2.nll[i] - both.nll[p1.n + i]) < 1e-5);
    free(g1);
    free(g2);
    free(g);
    plm_adapter_free(a);
    plm_model_close(m);
}

/* Two examples that begin alike, laid out as one after another and with their beginning shared. */
static void shared_beginnings_get_the_gradients_of_both(void **state) {
    (void)state;
    for (int s = 0; s < SPECS; s++)
        for (int k = 0; k < 2; k++) {
            enum { ALIKE = 6 };
            plm_model *m = open_tiny(specs[s], k ? NULL : "ref", 2);
            plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 5);
            int32_t one[N], two[N - 3], seen[2 * MAX], last[MAX];
            random_ids(one, N, m->cfg.vocab, 6);
            random_ids(two, N - 3, m->cfg.vocab, 7);
            memcpy(two, one, ALIKE * sizeof *one);
            struct packed apart = {0}, shared = {0};
            add_example(&apart, one, N, ALIKE + 2, 1);
            add_example(&apart, two, N - 3, ALIKE + 1, 2);
            add_example(&shared, one, N, ALIKE + 2, 1);
            for (int t = 0; t < N - 1; t++)
                seen[t] = last[t] = t;
            for (int t = 0; t < ALIKE; t++)
                seen[N - 1 + t] = t;
            int n = shared.b.T;
            add_example(&shared, two + ALIKE, N - 3 - ALIKE, 1, 2);
            for (int t = n; t < shared.b.T; t++) {
                shared.pos[t] = ALIKE + t - n;
                shared.first[t] = N - 1;
                seen[N - 1 + ALIKE + t - n] = t;
                last[t] = N - 1 + ALIKE + t - n;
            }
            assert_int_equal(shared.n, apart.n);
            shared.b.seen = seen, shared.b.last = last, shared.b.rows = N - 1 + N - 4;
            float *want = gradient(m, &apart, a->lora, UINT64_MAX, NULL),
                  *got = gradient(m, &shared, a->lora, UINT64_MAX, NULL);
            for (int i = 0; i < shared.n; i++)
                assert_true(fabs(shared.nll[i] - apart.nll[i]) < (k ? 1e-4 : 1e-5));
            assert_true(distance(got, want, a->lora->parameters) < (k ? 1e-4 : 1e-5));
            free(want);
            free(got);
            plm_adapter_free(a);
            plm_model_close(m);
        }
}

static void gradients_accumulate(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 5);
    struct packed p = {0};
    struct trace *t = NULL;
    plm_error err = {0};
    int32_t ids[N];
    random_ids(ids, N, m->cfg.vocab, 6);
    add_example(&p, ids, N, 4, 1);
    float *once = gradient(m, &p, a->lora, UINT64_MAX, NULL),
          *twice = calloc(a->lora->parameters, sizeof *twice);
    assert_ok(trace_open(&t, m, MAX, a->lora, UINT64_MAX, &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_ok(model_train(t, &p.b, p.at, p.target, p.weight, p.n, a->lora, twice, p.nll, &err), &err);
    }
    for (size_t i = 0; i < a->lora->parameters; i++)
        once[i] *= 2;
    assert_true(distance(twice, once, a->lora->parameters) < 1e-5);
    trace_close(t);
    free(once);
    free(twice);
    plm_adapter_free(a);
    plm_model_close(m);
}

/* Few targets, for whose sake the last layer leaves the other tokens out, beside all tokens as targets whose
 * weight is mostly zero. */
static void the_last_layer_loses_nothing_by_leaving_tokens_out(void **state) {
    (void)state;
    const char *const cpu[] = {"ref", "auto"};
    for (int c = 0; c < 2 * SPECS; c++) {
        plm_model *m = open_tiny(specs[c / 2], cpu[c % 2], 3);
        plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 5);
        int32_t ids[MAX];
        struct packed few = {0}, all = {0};
        random_ids(ids, MAX, m->cfg.vocab, 6);
        for (int i = 0; i < 2; i++) {
            const int n = i ? MAX / 2 : MAX / 3, targets = i ? 1 : 4;
            add_example(&few, ids + i * 7, n, n - targets, (float)(1 + i));
            add_example(&all, ids + i * 7, n, 1, 1);
        }
        for (int i = 0; i < all.n; i++)
            all.weight[i] = 0;
        for (int i = 0; i < few.n; i++)
            all.weight[few.at[i]] = few.weight[i];
        assert_true(all.n == all.b.T && few.n == 5);
        float *got = gradient(m, &few, a->lora, UINT64_MAX, NULL),
              *want = gradient(m, &all, a->lora, UINT64_MAX, NULL);
        for (int i = 0; i < few.n; i++)
            assert_true(fabs(few.nll[i] - all.nll[few.at[i]]) < (c % 2 ? 1e-4 : 1e-5));
        assert_true(distance(got, want, a->lora->parameters) < (c % 2 ? 2e-4 : 1e-5));
        free(got);
        free(want);
        plm_adapter_free(a);
        plm_model_close(m);
    }
}

/* The least that trace_open asks for, from its own sentence. */
static uint64_t least_memory(const plm_model *m, int tokens, const struct lora *l) {
    struct trace *t = NULL;
    plm_error err = {0};
    unsigned long long least = 0;
    assert_int_equal(trace_open(&t, m, tokens, l, 1, &err), PLM_ELIMIT);
    assert_null(t);
    const char *at = strstr(err.text, "at least ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "at least %llu bytes", &least), 1);
    return least;
}

static void memory_changes_time_and_no_bit(void **state) {
    (void)state;
    const char *const cpu[] = {"ref", "auto"};
    for (int c = 0; c < 2 * SPECS; c++) {
        plm_model *m = open_tiny(specs[c / 2], cpu[c % 2], 2);
        plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 5);
        struct packed p = {0};
        int32_t ids[MAX];
        random_ids(ids, MAX, m->cfg.vocab, 6);
        add_example(&p, ids, MAX, 4, 1);
        uint64_t least = least_memory(m, p.b.T, a->lora);
        int kept = -1, again = -1;
        float *all = gradient(m, &p, a->lora, UINT64_MAX, &kept),
              *few = gradient(m, &p, a->lora, least, &again);
        assert_int_equal(kept, 0);
        assert_int_equal(again, m->cfg.layers - 1);
        assert_memory_equal(all, few, a->lora->parameters * sizeof *all);
        free(all);
        free(few);
        plm_adapter_free(a);
        plm_model_close(m);
    }
}

static void a_trace_holds_what_it_said(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *a = random_adapter(m, 3, PLM_Q | PLM_V, 5);
    struct trace *t = NULL;
    plm_error err = {0};
    uint64_t least = least_memory(m, 50, a->lora);
    assert_int_equal(trace_open(&t, m, 50, a->lora, least - 1, &err), PLM_ELIMIT);
    assert_ok(trace_open(&t, m, 50, a->lora, least, &err), &err);
    assert_true(trace_bytes(t) == least);
    trace_close(t);
    plm_adapter_free(a);
    plm_model_close(m);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    const char *const cpu[] = {"ref", "auto"};
    for (int c = 0; c < 2; c++) {
        float *one = NULL;
        for (int threads = 1; threads <= 7; threads += threads == 3 ? 4 : 1) {
            plm_model *m = open_tiny(&qwen2, cpu[c], threads);
            plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 5);
            struct packed p = {0};
            int32_t ids[40];
            random_ids(ids, 40, m->cfg.vocab, 6);
            add_example(&p, ids, 25, 4, 1);
            add_example(&p, ids + 25, 15, 4, 2);
            float *g = gradient(m, &p, a->lora, UINT64_MAX, NULL);
            if (one)
                assert_memory_equal(g, one, a->lora->parameters * sizeof *g);
            if (one)
                free(g);
            else
                one = g;
            plm_adapter_free(a);
            plm_model_close(m);
        }
        free(one);
    }
}

/* How far the fast kernels' gradient of one example is from the reference's; bias: of queries and keys, NULL:
 * as the model has them. */
static double kernels_apart(const struct tiny_model *spec, float (*bias)[64]) {
    float *grad[2];
    size_t n = 0;
    for (int c = 0; c < 2; c++) {
        plm_model *m = open_tiny(spec, c ? "auto" : "ref", 2);
        plm_adapter *a = random_adapter(m, 3, PLM_ALL_LINEAR, 5);
        struct packed p = {0};
        int32_t ids[40];
        for (int l = 0; bias && l < m->cfg.layers; l++)
            m->layer[l].bias[LORA_Q] = bias[0], m->layer[l].bias[LORA_K] = bias[1];
        random_ids(ids, 40, m->cfg.vocab, 6);
        add_example(&p, ids, 40, 4, 1);
        grad[c] = gradient(m, &p, a->lora, UINT64_MAX, NULL);
        n = a->lora->parameters;
        plm_adapter_free(a);
        plm_model_close(m);
    }
    double apart = distance(grad[1], grad[0], n);
    free(grad[0]);
    free(grad[1]);
    return apart;
}

static void fast_gradients_point_the_same_way(void **state) {
    (void)state;
    for (int i = 0; i < SPECS; i++)
        assert_true(kernels_apart(specs[i], NULL) < 0.05);
}

/* As in Qwen2, whose keys have biases of hundreds: scores multiply what rounding q and k to sixteen bits
 * would leave, so kept activations may not. The biases are the same for both kernels. */
static void large_biases_of_queries_and_keys_survive_keeping(void **state) {
    (void)state;
    float bias[2][64];
    for (int i = 0; i < 64; i++) {
        bias[0][i] = (float)(i * 37 % 64 - 32) * 0.5f;
        bias[1][i] = (float)(i * 23 % 64 - 32) * 4;
    }
    assert_true(kernels_apart(&qwen2, bias) < 0.02);
}

/* Each target alone has the gradient that it has among all seven: none is lost where backward stops early. */
static void some_linears_have_the_gradients_of_all(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *all = random_adapter(m, 2, PLM_ALL_LINEAR, 5);
    int32_t ids[N];
    struct packed p = {0};
    random_ids(ids, N, m->cfg.vocab, 6);
    add_example(&p, ids, N, 4, 1);
    for (int linear = 0; linear < LORA_LINEARS; linear++) {
        plm_adapter *one = random_adapter(m, 2, 1u << linear, 5);
        struct lora *l = one->lora;
        // The rest of `all` is switched off by B = 0: its A then has no gradient and its B has, but changes
        // nothing.
        struct lora *same = NULL;
        assert_int_equal(lora_copy(&same, all->lora, NULL), PLM_OK);
        for (int i = 0; i < l->layers * LORA_LINEARS; i++) {
            struct lora_pair *to = &same->pair[i], *from = &l->pair[i];
            memset(to->B, 0, sizeof(float) * (size_t)(to->rank * to->out));
            if (!from->A)
                continue;
            memcpy(to->A, from->A, sizeof(float) * (size_t)(to->rank * to->in));
            memcpy(to->B, from->B, sizeof(float) * (size_t)(to->rank * to->out));
        }
        float *g1 = gradient(m, &p, l, UINT64_MAX, NULL), *g2 = gradient(m, &p, same, UINT64_MAX, NULL);
        for (int i = linear; i < l->layers * LORA_LINEARS; i += LORA_LINEARS) {
            const struct lora_pair *a = &l->pair[i], *b = &same->pair[i];
            size_t nA = (size_t)(a->rank * a->in), nB = (size_t)(a->rank * a->out);
            assert_true(distance(g1 + (a->A - l->values), g2 + (b->A - same->values), nA) < 1e-5);
            assert_true(distance(g1 + (a->B - l->values), g2 + (b->B - same->values), nB) < 1e-5);
        }
        free(g1);
        free(g2);
        lora_free(same);
        plm_adapter_free(one);
    }
    plm_adapter_free(all);
    plm_model_close(m);
}

static void without_weights_there_is_only_the_loss(void **state) {
    (void)state;
    plm_model *m = open_tiny(&llama, "ref", 1);
    plm_adapter *a = random_adapter(m, 2, PLM_ALL_LINEAR, 5);
    int32_t ids[N];
    struct packed p = {0};
    struct trace *t = NULL;
    plm_error err = {0};
    double nll[MAX];
    random_ids(ids, N, m->cfg.vocab, 6);
    add_example(&p, ids, N, 4, 1);
    free(gradient(m, &p, a->lora, UINT64_MAX, NULL));
    assert_ok(trace_open(&t, m, N, a->lora, UINT64_MAX, &err), &err);
    assert_ok(model_train(t, &p.b, p.at, p.target, NULL, p.n, a->lora, NULL, nll, &err), &err);
    assert_memory_equal(nll, p.nll, sizeof *nll * (size_t)p.n);
    p.target[1] = m->cfg.vocab;
    assert_int_equal(model_train(t, &p.b, p.at, p.target, NULL, p.n, a->lora, NULL, nll, &err), PLM_EINVAL);
    trace_close(t);
    plm_adapter_free(a);
    plm_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_gradient_is_a_slope_of_the_oracle),
        cmocka_unit_test(packed_examples_give_the_sum_of_their_gradients),
        cmocka_unit_test(shared_beginnings_get_the_gradients_of_both),
        cmocka_unit_test(gradients_accumulate),
        cmocka_unit_test(the_last_layer_loses_nothing_by_leaving_tokens_out),
        cmocka_unit_test(memory_changes_time_and_no_bit),
        cmocka_unit_test(a_trace_holds_what_it_said),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(fast_gradients_point_the_same_way),
        cmocka_unit_test(large_biases_of_queries_and_keys_survive_keeping),
        cmocka_unit_test(some_linears_have_the_gradients_of_all),
        cmocka_unit_test(without_weights_there_is_only_the_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
