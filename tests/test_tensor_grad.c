/* Every backward against central differences of its forward, on the reference kernels and in f32: for a
 * random direction v, (L(x + h v) - L(x - h v)) / 2h must be dx . v, where L is a fixed random sum of the
 * outputs. */
#include "support_tensor.h"

#include <math.h>

enum { T = 11, DIRECTIONS = 3 };

/* What a case computes: from the inputs (which the test moves) the loss, and once the gradients. */
struct input {
    float *x, *dx;
    size_t n;
};
struct point {
    struct stage stage;
    struct rng rng;
    struct input in[4];
    int n_in;
    float *out, *weight; /* [n_out]: L = sum out * weight */
    size_t n_out;
    void (*forward)(struct point *p);
    void *more;
};

static double loss(struct point *p) {
    double sum = 0;
    p->forward(p);
    for (size_t i = 0; i < p->n_out; i++)
        sum += (double)p->out[i] * (double)p->weight[i];
    return sum;
}

static void point_open(struct point *p, size_t n_out, int width) {
    memset(p, 0, sizeof *p);
    plm_error err;
    const struct kern *ref;
    assert_int_equal(ops_kernels(&ref, "ref", &err), PLM_OK);
    stage_open(&p->stage, ref, PREC_EXACT, 1, 64, width);
    rng_seed(&p->rng, 42, 0);
    p->n_out = n_out;
    p->out = zeros(n_out);
    p->weight = random_floats(&p->rng, n_out, 1);
}

static float *point_input(struct point *p, size_t n, float scale) {
    struct input *in = &p->in[p->n_in++];
    in->n = n;
    in->x = random_floats(&p->rng, n, scale);
    in->dx = zeros(n);
    return in->x;
}

static void point_check(struct point *p, float h, double most) {
    for (int i = 0; i < p->n_in; i++)
        for (int d = 0; d < DIRECTIONS; d++) {
            struct input *in = &p->in[i];
            float *v = random_floats(&p->rng, in->n, 1), *old = mem_alloc(in->n, sizeof *old);
            memcpy(old, in->x, in->n * sizeof *old);
            double slope = 0, size = 0, norm = 0;
            for (size_t j = 0; j < in->n; j++) {
                slope += (double)in->dx[j] * (double)v[j];
                size += (double)in->dx[j] * (double)in->dx[j];
                norm += (double)v[j] * (double)v[j];
            }
            double step = (double)h / sqrt(norm);
            for (size_t j = 0; j < in->n; j++)
                in->x[j] = old[j] + (float)step * v[j];
            double up = loss(p);
            for (size_t j = 0; j < in->n; j++)
                in->x[j] = old[j] - (float)step * v[j];
            double down = loss(p);
            memcpy(in->x, old, in->n * sizeof *old);
            double measured = (up - down) / (2 * step);
            if (!(fabs(measured - slope) <= most * sqrt(size) + 1e-4))
                fail_msg("input %d: slope %g, measured %g, gradient's size %g", i, slope, measured,
                         sqrt(size));
            mem_free(v);
            mem_free(old);
        }
}

static void point_close(struct point *p) {
    for (int i = 0; i < p->n_in; i++) {
        mem_free(p->in[i].x);
        mem_free(p->in[i].dx);
    }
    mem_free(p->out);
    mem_free(p->weight);
    stage_close(&p->stage);
}

/* ---- linear ---- */

static void linear_forward(struct point *p) {
    struct matrix *w = p->more;
    op_linear(&p->stage.ops, p->out, w->out, p->in[0].x, w, NULL, T);
}

static void gradient_of_linear(void **state) {
    (void)state;
    for (int i = 0; i < n_types; i++) {
        struct point p;
        point_open(&p, T * 37, 256);
        struct matrix w = random_matrix(&p.rng, every_type[i], 37, 256);
        p.more = &w;
        p.forward = linear_forward;
        point_input(&p, T * 256, 1);
        op_linear_back(&p.stage.ops, p.in[0].dx, p.weight, &w, T, true);
        point_check(&p, 1, 1e-4);
        mem_free((void *)w.data);
        point_close(&p);
    }
}

/* ---- rmsnorm ---- */

static void norm_forward(struct point *p) {
    op_rmsnorm(&p->stage.ops, p->out, NULL, p->in[0].x, p->more, T, 33, 1e-5f);
}

static void gradient_of_rmsnorm(void **state) {
    (void)state;
    struct point p;
    point_open(&p, T * 33, 256);
    float *gain = random_floats(&p.rng, 33, 1), inv[T];
    p.more = gain;
    p.forward = norm_forward;
    float *x = point_input(&p, T * 33, 2);
    op_rmsnorm(&p.stage.ops, p.out, inv, x, gain, T, 33, 1e-5f);
    op_rmsnorm_back(&p.stage.ops, p.in[0].dx, p.weight, x, gain, inv, T, 33);
    point_check(&p, 0.05f, 1e-3);
    mem_free(gain);
    point_close(&p);
}

/* ---- rope ---- */

static const float freq[4] = {1, 0.3f, 0.1f, 0.01f};
static const int32_t where[T] = {0, 1, 2, 3, 100, 101, 5, 6, 2000, 0, 1};

static void rope_forward(struct point *p) {
    memcpy(p->out, p->in[0].x, p->n_out * sizeof *p->out);
    op_rope(&p->stage.ops, p->out, where, T, 3, 12, 8, freq, p->more != NULL, false);
}

static void gradient_of_rope(void **state) {
    (void)state;
    for (int neox = 0; neox < 2; neox++) {
        struct point p;
        point_open(&p, T * 3 * 12, 256);
        p.more = neox ? &p : NULL;
        p.forward = rope_forward;
        point_input(&p, p.n_out, 1);
        memcpy(p.in[0].dx, p.weight, p.n_out * sizeof(float));
        op_rope(&p.stage.ops, p.in[0].dx, where, T, 3, 12, 8, freq, neox, true);
        point_check(&p, 0.5f, 1e-4);
        point_close(&p);
    }
}

/* ---- gated activations ---- */

static void swiglu_forward(struct point *p) {
    op_swiglu(&p->stage.ops, p->out, p->in[0].x, p->in[1].x, T, 19);
}

static void geglu_forward(struct point *p) {
    op_geglu(&p->stage.ops, p->out, p->in[0].x, p->in[1].x, T, 19);
}

static void check_gate(void (*forward)(struct point *p),
                       void (*back)(struct ops *o, float *dgate, float *dup, const float *dy,
                                    const float *gate, const float *up, int tokens, int F)) {
    struct point p;
    point_open(&p, T * 19, 256);
    p.forward = forward;
    float *gate = point_input(&p, T * 19, 2), *up = point_input(&p, T * 19, 1);
    back(&p.stage.ops, p.in[0].dx, p.in[1].dx, p.weight, gate, up, T, 19);
    point_check(&p, 0.1f, 1e-3);
    point_close(&p);
}

static void gradient_of_swiglu(void **state) {
    (void)state;
    check_gate(swiglu_forward, op_swiglu_back);
}

static void gradient_of_geglu(void **state) {
    (void)state;
    check_gate(geglu_forward, op_geglu_back);
}

/* ---- attention ---- */

struct attention {
    int n, H, Hkv, D;
    int32_t first[80], last[80];
    int tokens;
    float *lse;
};

static void attention_forward(struct point *p) {
    struct attention *a = p->more;
    struct kv_view kv = {.k = p->in[1].x, .v = p->in[2].x, .n = a->n};
    op_attention(&p->stage.ops, p->out, a->lse, p->in[0].x, &kv, a->first, a->last, a->tokens, a->H, a->Hkv,
                 a->D);
}

static void check_attention(struct attention *a) {
    struct point p;
    size_t width = (size_t)(a->H * a->D), kv_width = (size_t)(a->Hkv * a->D), n = (size_t)a->n;
    point_open(&p, (size_t)a->tokens * width, 256);
    p.more = a;
    p.forward = attention_forward;
    a->lse = zeros((size_t)(a->tokens * a->H));
    point_input(&p, (size_t)a->tokens * width, 1);
    point_input(&p, n * kv_width, 1);
    point_input(&p, n * kv_width, 1);
    attention_forward(&p);
    struct kv_view kv = {.k = p.in[1].x, .v = p.in[2].x, .n = a->n};
    op_attention_back(&p.stage.ops, p.in[0].dx, p.in[1].dx, p.in[2].dx, p.weight, p.out, a->lse, p.in[0].x,
                      &kv, a->first, a->last, a->tokens, a->H, a->Hkv, a->D);
    point_check(&p, 0.1f, 2e-3);
    mem_free(a->lse);
    point_close(&p);
}

static void gradient_of_causal_attention(void **state) {
    (void)state;
    static const int lengths[] = {1, 3, 9, 33, 70};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct attention a = {.n = lengths[i], .H = 4, .Hkv = 2, .D = 8, .tokens = lengths[i]};
        for (int t = 0; t < a.tokens; t++)
            a.last[t] = t;
        check_attention(&a);
    }
}

static void gradient_of_attention_over_windows_and_packed_texts(void **state) {
    (void)state;
    struct attention a = {.n = 75, .H = 3, .Hkv = 1, .D = 20, .tokens = 75};
    for (int t = 0; t < a.tokens; t++) {
        a.first[t] = t < 40 ? 0 : 40;
        a.last[t] = t;
        if (t > 50)
            a.first[t] = t - 8;
    }
    check_attention(&a);
}

/* ---- lora ---- */

struct lora {
    int tokens, in, r, out;
    float *u;
};

static void lora_forward(struct point *p) {
    struct lora *l = p->more;
    memset(p->out, 0, p->n_out * sizeof *p->out);
    op_lora(&p->stage.ops, p->out, l->out, l->u, p->in[0].x, p->in[1].x, p->in[2].x, 1.5f, l->tokens, l->in,
            l->r, l->out);
}

static void gradient_of_lora(void **state) {
    (void)state;
    static const struct lora sizes[] = {{3, 40, 4, 17, NULL}, {T, 33, 1, 50, NULL}, {50, 64, 9, 31, NULL}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct lora l = sizes[i];
        struct point p;
        point_open(&p, (size_t)(l.tokens * l.out), 256);
        p.more = &l;
        p.forward = lora_forward;
        l.u = zeros((size_t)(l.tokens * l.r));
        float *x = point_input(&p, (size_t)(l.tokens * l.in), 1);
        float *A = point_input(&p, (size_t)(l.r * l.in), 1), *B = point_input(&p, (size_t)(l.out * l.r), 1);
        lora_forward(&p);
        op_lora_back(&p.stage.ops, p.in[0].dx, p.in[1].dx, p.in[2].dx, p.weight, l.u, x, A, B, 1.5f, l.tokens,
                     l.in, l.r, l.out);
        point_check(&p, 0.5f, 1e-4);
        mem_free(l.u);
        point_close(&p);
    }
}

/* ---- cross-entropy ---- */

struct head {
    struct matrix w;
    int32_t target[T];
    float weight[T];
    double nll[T];
};

static void loss_forward(struct point *p) {
    struct head *h = p->more;
    op_cross_entropy(&p->stage.ops, h->nll, NULL, p->in[0].x, &h->w, h->target, h->weight, T);
    for (int t = 0; t < T; t++)
        p->out[t] = (float)h->nll[t];
}

static void gradient_of_cross_entropy(void **state) {
    (void)state;
    struct point p;
    struct head h;
    point_open(&p, T, 256);
    h.w = random_matrix(&p.rng, DT_Q8_0, 301, 64);
    for (int t = 0; t < T; t++) {
        h.target[t] = t == 4 ? -1 : 23 * t;
        h.weight[t] = p.weight[t] = t == 7 ? 0 : p.weight[t];
    }
    p.more = &h;
    p.forward = loss_forward;
    float *x = point_input(&p, T * 64, 2);
    op_cross_entropy(&p.stage.ops, h.nll, p.in[0].dx, x, &h.w, h.target, h.weight, T);
    for (int i = 0; i < 64; i++) {
        assert_true(p.in[0].dx[4 * 64 + i] == 0);
        assert_true(p.in[0].dx[7 * 64 + i] == 0);
    }
    assert_true(h.nll[4] == 0);
    assert_true(h.nll[7] > 0);
    point_check(&p, 0.3f, 1e-3);
    mem_free((void *)h.w.data);
    point_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_of_linear),
        cmocka_unit_test(gradient_of_rmsnorm),
        cmocka_unit_test(gradient_of_rope),
        cmocka_unit_test(gradient_of_swiglu),
        cmocka_unit_test(gradient_of_geglu),
        cmocka_unit_test(gradient_of_causal_attention),
        cmocka_unit_test(gradient_of_attention_over_windows_and_packed_texts),
        cmocka_unit_test(gradient_of_lora),
        cmocka_unit_test(gradient_of_cross_entropy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
