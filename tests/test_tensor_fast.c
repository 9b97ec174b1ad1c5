/* Every op of every table this processor runs, in every precision: near the reference, and the same bits with
 * any number of threads. */
#include "support_tensor.h"

#include <math.h>

static const struct kern *ref;
static const enum precision precisions[] = {PREC_EXACT, PREC_INT8, PREC_HALF};
static const double linear_error[] = {2e-5, 2.5e-2, 8e-3}; /* relative, of one product, by precision */
static const int some_T[] = {1, 2, 3, 7, 8, 17, 64};

static int find_reference(void **state) {
    (void)state;
    plm_error err;
    return ops_kernels(&ref, "ref", &err);
}

struct linear_case {
    enum dtype type;
    int in, out;
};
static const struct linear_case linears[] = {
    {DT_F32, 32, 17},   {DT_F32, 100, 1},    {DT_F16, 96, 100},   {DT_BF16, 64, 16},   {DT_Q4_0, 32, 3},
    {DT_Q4_0, 576, 17}, {DT_Q4_1, 64, 100},  {DT_Q4_1, 576, 1},   {DT_Q4_1, 1600, 33}, {DT_Q5_0, 96, 16},
    {DT_Q5_0, 896, 17}, {DT_Q5_1, 32, 100},  {DT_Q5_1, 576, 3},   {DT_Q8_0, 96, 1},    {DT_Q8_0, 896, 100},
    {DT_Q8_0, 32, 16},  {DT_Q4_K, 256, 17},  {DT_Q4_K, 512, 3},   {DT_Q5_K, 256, 100}, {DT_Q5_K, 768, 16},
    {DT_Q6_K, 256, 3},  {DT_Q6_K, 512, 100}, {DT_Q4_0, 32, 1200}, {DT_Q6_K, 1792, 17},
};

/* A float row whose width is not a whole vector must be handled too; int8 leaves float formats to the others.
 */
static double allowed(enum precision p, const struct matrix *w) {
    return w->type == DT_F32 || w->type == DT_F16 || w->type == DT_BF16 || p != PREC_INT8
               ? linear_error[p]
               : linear_error[PREC_INT8];
}

/* The first m of n numbers, against the typical size of all: a single one may happen to be near 0. */
static double distance_in(const float *a, const float *b, size_t m, size_t n) {
    double far = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        norm += (double)b[i] * (double)b[i] / (double)n;
        if (i < m)
            far += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]) / (double)m;
    }
    return sqrt(far / norm);
}

static void linear_is_near_the_reference(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 1, 0);
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) {
        struct linear_case c = linears[i];
        struct matrix w = random_matrix(&r, c.type, c.out, c.in);
        float *x = random_floats(&r, 64 * (size_t)c.in, 1), *bias = random_floats(&r, (size_t)c.out, 1);
        size_t n = 64 * (size_t)c.out;
        float *want = zeros(n), *got = zeros(n);
        struct stage s;
        stage_open(&s, ref, PREC_EXACT, 1, 64, 1800);
        op_linear(&s.ops, want, c.out, x, &w, bias, 64);
        stage_close(&s);
        for (int k = 0; kern_at(k) != ref; k++)
            for (int p = 0; p < 3; p++)
                for (int t = 0; t < 7; t++) {
                    stage_open(&s, kern_at(k), precisions[p], 1, 64, 1800);
                    size_t m = (size_t)(some_T[t] * c.out);
                    op_linear(&s.ops, got, c.out, x, &w, bias, some_T[t]);
                    double d = distance_in(got, want, m, n);
                    if (!(d <= allowed(precisions[p], &w)))
                        fail_msg("%s %s %dx%d precision %d T %d: %g", kern_at(k)->name,
                                 dtype_of(c.type)->name, c.out, c.in, p, some_T[t], d);
                    stage_close(&s);
                }
        mem_free((void *)w.data);
        mem_free(x);
        mem_free(bias);
        mem_free(want);
        mem_free(got);
    }
}

static void linear_back_is_near_the_reference(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 2, 0);
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) {
        struct linear_case c = linears[i];
        struct matrix w = random_matrix(&r, c.type, c.out, c.in);
        size_t n = 64 * (size_t)c.in;
        float *dy = random_floats(&r, 64 * (size_t)c.out, 1), *old = random_floats(&r, n, 1);
        float *want = mem_alloc(n, 4), *got = mem_alloc(n, 4), *alone = mem_alloc(n, 4);
        struct stage s;
        memcpy(want, old, n * 4);
        stage_open(&s, ref, PREC_EXACT, 1, 64, 1800);
        op_linear_back(&s.ops, want, dy, &w, 64, true);
        op_linear_back(&s.ops, alone, dy, &w, 64, false);
        stage_close(&s);
        for (int k = 0; kern_at(k) != ref; k++)
            for (int p = 0; p < 3; p += 2)
                for (int t = 0; t < 7; t++) {
                    memcpy(got, old, n * 4);
                    stage_open(&s, kern_at(k), precisions[p], 1, 64, 1800);
                    op_linear_back(&s.ops, got, dy, &w, some_T[t], true);
                    assert_close(got, want, (size_t)(some_T[t] * c.in), linear_error[precisions[p]]);
                    op_linear_back(&s.ops, got, dy, &w, some_T[t], false);
                    assert_close(got, alone, (size_t)(some_T[t] * c.in), linear_error[precisions[p]]);
                    stage_close(&s);
                }
        mem_free(alone);
        mem_free((void *)w.data);
        mem_free(dy);
        mem_free(old);
        mem_free(want);
        mem_free(got);
    }
}

/* ---- everything else: one function runs an op on a stage and fills an output; two stages are compared ----
 */

struct setting {
    struct rng rng;
    int T;
    float *out;
    size_t n;
};
typedef void (*op_case)(struct ops *o, struct setting *s);

static float *put(struct setting *s, size_t n) {
    s->n = n;
    return s->out = zeros(n);
}

static void case_embed(struct ops *o, struct setting *s) {
    struct matrix w = random_matrix(&s->rng, DT_Q5_0, 50, 96);
    int32_t ids[128];
    for (int t = 0; t < s->T; t++)
        ids[t] = (int32_t)rng_below(&s->rng, 50);
    op_embed(o, put(s, (size_t)s->T * 96), &w, ids, s->T, 1.5f);
    mem_free((void *)w.data);
}

static void norm_of_width(struct ops *o, struct setting *s, int C) {
    size_t n = (size_t)(s->T * C);
    float *x = random_floats(&s->rng, n, 3), *gain = random_floats(&s->rng, (size_t)C, 1),
          *dy = random_floats(&s->rng, n, 1);
    float *inv = zeros((size_t)s->T), *y = put(s, 2 * n);
    op_rmsnorm(o, y, inv, x, gain, s->T, C, 1e-5f);
    op_rmsnorm_back(o, y + n, dy, x, gain, inv, s->T, C);
    mem_free(x);
    mem_free(gain);
    mem_free(dy);
    mem_free(inv);
}

static void case_norm(struct ops *o, struct setting *s) {
    norm_of_width(o, s, 576);
}

static void case_norm_odd(struct ops *o, struct setting *s) {
    norm_of_width(o, s, 37);
}

static void rope_of(struct ops *o, struct setting *s, int H, int D, int rotary, bool neox) {
    float freq[64];
    int32_t pos[128];
    for (int i = 0; i < rotary / 2; i++)
        freq[i] = powf(10000, -2.0f * (float)i / (float)rotary);
    for (int t = 0; t < s->T; t++)
        pos[t] = (int32_t)rng_below(&s->rng, 9000);
    size_t n = (size_t)(s->T * H * D);
    float *x = random_floats(&s->rng, n, 1);
    memcpy(put(s, n), x, n * sizeof *x);
    op_rope(o, s->out, pos, s->T, H, D, rotary, freq, neox, false);
    mem_free(x);
}

static void case_rope_pairs(struct ops *o, struct setting *s) {
    rope_of(o, s, 9, 64, 64, false);
}

static void case_rope_halves(struct ops *o, struct setting *s) {
    rope_of(o, s, 3, 80, 36, true);
}

static void case_rope_odd(struct ops *o, struct setting *s) {
    rope_of(o, s, 2, 22, 22, false);
}

static void gate_of(struct ops *o, struct setting *s, bool gelu) {
    int F = 203;
    size_t n = (size_t)(s->T * F);
    float *gate = random_floats(&s->rng, n, 5), *up = random_floats(&s->rng, n, 1),
          *dy = random_floats(&s->rng, n, 1);
    float *y = put(s, 3 * n);
    (gelu ? op_geglu : op_swiglu)(o, y, gate, up, s->T, F);
    (gelu ? op_geglu_back : op_swiglu_back)(o, y + n, y + 2 * n, dy, gate, up, s->T, F);
    op_add(o, y, up, n);
    mem_free(gate);
    mem_free(up);
    mem_free(dy);
}

static void case_swiglu(struct ops *o, struct setting *s) {
    gate_of(o, s, false);
}

static void case_geglu(struct ops *o, struct setting *s) {
    gate_of(o, s, true);
}

static void attention_of(struct ops *o, struct setting *s, int past, int H, int Hkv, int D,
                         enum cache_form form, bool back) {
    int n = past + s->T, width = Hkv * D;
    size_t rows = (size_t)(s->T * H * D), keys = (size_t)(n * width);
    int32_t first[128] = {0}, last[128];
    for (int t = 0; t < s->T; t++) {
        last[t] = past + t;
        first[t] = t % 5 == 4 ? last[t] / 2 : 0;
    }
    float *q = random_floats(&s->rng, rows, 1), *k = random_floats(&s->rng, keys, 1),
          *v = random_floats(&s->rng, keys, 1);
    float *dy = random_floats(&s->rng, rows, 1), *lse = zeros((size_t)(s->T * H));
    struct kv_view kv = {.k = mem_alloc(keys, 4), .v = mem_alloc(keys, 4), .form = form, .n = n};
    float *y = put(s, rows * (back ? 2 : 1) + (back ? 2 * keys : 0));
    op_kv_put(o, &kv, 0, k, v, n, Hkv, D);
    op_attention(o, y, lse, q, &kv, first, last, s->T, H, Hkv, D);
    if (back) {
        float *dq = y + rows, *dk = dq + rows, *dv = dk + keys;
        op_attention_back(o, dq, dk, dv, dy, y, lse, q, &kv, first, last, s->T, H, Hkv, D);
    }
    mem_free(q);
    mem_free(k);
    mem_free(v);
    mem_free(dy);
    mem_free(lse);
    mem_free(kv.k);
    mem_free(kv.v);
}

static void case_attention(struct ops *o, struct setting *s) {
    attention_of(o, s, 0, 9, 3, 64, CACHE_F32, true);
}

static void case_attention_odd(struct ops *o, struct setting *s) {
    attention_of(o, s, 70, 4, 2, 20, CACHE_F32, true);
}

static void case_attention_f16(struct ops *o, struct setting *s) {
    attention_of(o, s, 130, 14, 2, 64, CACHE_F16, false);
}

static void case_attention_f16_odd(struct ops *o, struct setting *s) {
    attention_of(o, s, 3, 1, 1, 36, CACHE_F16, false);
}

static void case_attention_wide(struct ops *o, struct setting *s) {
    attention_of(o, s, 3, 4, 1, 256, CACHE_F16, false);
}

static void case_attention_q8(struct ops *o, struct setting *s) {
    attention_of(o, s, 90, 10, 2, 96, CACHE_Q8, false);
}

/* Long enough that few tokens are cut into parts, which threads share. */
static void case_attention_long(struct ops *o, struct setting *s) {
    attention_of(o, s, 1700, 7, 1, 40, CACHE_F16, false);
}

/* Three sequences of different length and size, of which the middle one is long; heads' rows lie together. */
static void case_attention_lanes(struct ops *o, struct setting *s) {
    enum { H = 6, HKV = 2, D = 32, CONTEXT = 700 };
    const int past[] = {5, 600, 0};
    int each = s->T / 2 ? s->T / 2 : 1, n = 0, tokens[] = {1, each, s->T}, at = 0;
    struct attention_lane lane[3];
    int32_t first[256], last[256];
    for (int i = 0; i < 3; i++)
        n += tokens[i];
    float *q = random_floats(&s->rng, (size_t)(n * H * D), 1);
    float *y = put(s, (size_t)(n * H * D));
    for (int i = 0; i < 3; i++) {
        int rows = past[i] + tokens[i];
        size_t keys = (size_t)(rows * HKV * D), row = cache_row_bytes((enum cache_form)i, D);
        float *k = random_floats(&s->rng, keys, 1), *v = random_floats(&s->rng, keys, 1);
        lane[i] = (struct attention_lane){.kv = {.k = mem_alloc(HKV * CONTEXT, row),
                                                 .v = mem_alloc(HKV * CONTEXT, row),
                                                 .form = (enum cache_form)i,
                                                 .n = rows,
                                                 .row = row,
                                                 .head = CONTEXT * row},
                                          .from = at,
                                          .n = tokens[i]};
        op_kv_put(o, &lane[i].kv, 0, k, v, rows, HKV, D);
        for (int t = 0; t < tokens[i]; t++, at++) {
            last[at] = past[i] + t;
            first[at] = t % 3 == 2 ? last[at] / 2 : 0;
        }
        mem_free(k);
        mem_free(v);
    }
    op_attention_lanes(o, y, NULL, q, lane, 3, first, last, H, HKV, D);
    for (int i = 0; i < 3; i++) {
        mem_free(lane[i].kv.k);
        mem_free(lane[i].kv.v);
    }
    mem_free(q);
}

/* Three layers over the same x, one of floats; the first has a part, the second two, of some rows. */
static void case_lora_few(struct ops *o, struct setting *s) {
    enum { IN = 96, R = 5, LINEARS = 3, PARTS = 4 };
    static const int out[LINEARS] = {203, 1209, 40};
    static const enum dtype type[LINEARS] = {DT_Q8_0, DT_Q4_1, DT_F32};
    int T = s->T, few = T < LORA_FEW ? T : LORA_FEW;
    float *x = random_floats(&s->rng, (size_t)(T * IN), 1), *y = put(s, (size_t)(T * (203 + 1209 + 40)));
    float *bias = random_floats(&s->rng, 203, 1);
    float *const ys[] = {y, y + T * 203, y + T * (203 + 1209)};
    struct matrix w[LINEARS];
    for (int i = 0; i < LINEARS; i++)
        w[i] = random_matrix(&s->rng, type[i], out[i], IN);
    struct lora_part part[PARTS] = {{.T = few},
                                    {.linear = 1, .T = 1},
                                    {.linear = 1, .from = T - few, .T = few},
                                    {.linear = 2, .from = T - 1, .T = 1}};
    for (int i = 0; i < PARTS; i++) {
        int to = out[part[i].linear];
        float *A = random_floats(&s->rng, R * IN, 1), *B = random_floats(&s->rng, (size_t)(to * R), 1);
        void *a = mem_alloc(R * IN, 4), *b = mem_alloc((size_t)(to * R), 4);
        lora_copy_pair(o->kern, a, b, A, B, IN, R, to);
        part[i].A = a;
        part[i].B = b;
        part[i].scale = .5f + (float)i;
        part[i].r = R;
        mem_free(A);
        mem_free(B);
    }
    op_linear_lora(o, ys, x, (const struct matrix *const[]){w, w + 1, w + 2},
                   (const float *const[]){bias, NULL, NULL}, LINEARS, T,
                   &(struct lora_parts){part, PARTS, IN}, &(struct lora_parts){part, PARTS, IN});
    for (int i = 0; i < PARTS; i++) {
        mem_free((void *)part[i].A);
        mem_free((void *)part[i].B);
    }
    for (int i = 0; i < LINEARS; i++)
        mem_free((void *)w[i].data);
    mem_free(bias);
    mem_free(x);
}

static void case_lora(struct ops *o, struct setting *s) {
    int in = 100, r = 8, out = 203;
    float *x = random_floats(&s->rng, (size_t)(s->T * in), 1),
          *A = random_floats(&s->rng, (size_t)(r * in), 1);
    float *B = random_floats(&s->rng, (size_t)(out * r), 1),
          *dy = random_floats(&s->rng, (size_t)(s->T * out), 1);
    size_t ny = (size_t)(s->T * out), nu = (size_t)(s->T * r), nx = (size_t)(s->T * in),
           na = (size_t)(r * in);
    float *y = put(s, ny + nu + nx + na + (size_t)(out * r)), *u = y + ny, *dx = u + nu, *dA = dx + nx,
          *dB = dA + na;
    op_lora(o, y, out, u, x, A, B, 0.5f, s->T, in, r, out);
    op_lora_back(o, dx, dA, dB, dy, u, x, A, B, 0.5f, s->T, in, r, out);
    mem_free(x);
    mem_free(A);
    mem_free(B);
    mem_free(dy);
}

static void case_loss(struct ops *o, struct setting *s) {
    int C = 96, V = 1500;
    struct matrix w = random_matrix(&s->rng, DT_Q4_1, V, C);
    float *x = random_floats(&s->rng, (size_t)(s->T * C), 1), weight[128];
    int32_t target[128];
    double nll[128];
    for (int t = 0; t < s->T; t++) {
        target[t] = t % 7 == 3 ? -1 : (int32_t)rng_below(&s->rng, (uint64_t)V);
        weight[t] = t % 5 == 2 ? 0 : 0.3f;
    }
    float *out = put(s, (size_t)(s->T * C + s->T));
    op_cross_entropy(o, nll, out, x, &w, target, weight, s->T);
    for (int t = 0; t < s->T; t++)
        out[s->T * C + t] = (float)nll[t];
    mem_free((void *)w.data);
    mem_free(x);
}

static void case_linears(struct ops *o, struct setting *s) {
    struct matrix w[3] = {random_matrix(&s->rng, DT_Q4_1, 70, 96), random_matrix(&s->rng, DT_F16, 33, 96),
                          random_matrix(&s->rng, DT_Q8_0, 50, 96)};
    const struct matrix *all[3] = {w, w + 1, w + 2};
    float *x = random_floats(&s->rng, (size_t)(s->T * 96), 1), *b = random_floats(&s->rng, 50, 1);
    const float *bias[3] = {NULL, NULL, b};
    float *y = put(s, (size_t)(s->T * 153)), *to[3] = {y, y + s->T * 70, y + s->T * 103};
    op_linear_n(o, to, x, all, bias, 3, s->T);
    for (int i = 0; i < 3; i++)
        mem_free((void *)w[i].data);
    mem_free(x);
    mem_free(b);
}

static const struct {
    const char *name;
    op_case run;
    double error, half_error; /* in f32; with bf16 or int8 products */
} cases[] = {
    {"embed", case_embed, 0, 0},
    {"norm", case_norm, 1e-6, 1e-6},
    {"norm odd", case_norm_odd, 1e-6, 1e-6},
    {"rope pairs", case_rope_pairs, 1e-6, 1e-6},
    {"rope halves", case_rope_halves, 1e-6, 1e-6},
    {"rope odd", case_rope_odd, 1e-6, 1e-6},
    {"swiglu", case_swiglu, 1e-6, 1e-6},
    {"geglu", case_geglu, 1e-6, 1e-6},
    {"attention", case_attention, 1e-5, 1e-5},
    {"attention odd", case_attention_odd, 1e-5, 1e-5},
    {"attention f16", case_attention_f16, 1e-5, 1e-5},
    {"attention f16 odd", case_attention_f16_odd, 1e-5, 1e-5},
    {"attention wide", case_attention_wide, 1e-5, 1e-5},
    {"attention q8", case_attention_q8, 1e-5, 1e-5},
    {"attention long", case_attention_long, 1e-5, 1e-5},
    {"attention lanes", case_attention_lanes, 1e-5, 1e-5},
    {"lora few", case_lora_few, 1.5e-2, 1.5e-2},
    {"lora", case_lora, 1e-5, 1e-5},
    {"loss", case_loss, 1e-5, 1e-2},
    {"linears", case_linears, 1e-5, 1.5e-2},
};
enum { CASES = sizeof cases / sizeof *cases };

static struct setting run_case(int c, const struct kern *k, enum precision p, int threads, int T) {
    struct stage st;
    struct setting s = {.T = T};
    rng_seed(&s.rng, 99, 0);
    stage_open(&st, k, p, threads, 128, 1800);
    cases[c].run(&st.ops, &s);
    stage_close(&st);
    return s;
}

static void ops_are_near_the_reference(void **state) {
    (void)state;
    static const int lengths[] = {1, 2, 7, 8, 17, 64, 100};
    for (int c = 0; c < CASES; c++)
        for (int t = 0; t < 7; t++) {
            struct setting want = run_case(c, ref, PREC_EXACT, 1, lengths[t]);
            for (int k = 0; kern_at(k) != ref; k++)
                for (int p = 0; p < 3; p++) {
                    struct setting got = run_case(c, kern_at(k), precisions[p], 1, lengths[t]);
                    double d = distance(got.out, want.out, want.n),
                           most = p ? cases[c].half_error : cases[c].error;
                    if (!(d <= most))
                        fail_msg("%s, %s, T %d, precision %d: %g, at most %g", cases[c].name,
                                 kern_at(k)->name, lengths[t], p, d, most);
                    mem_free(got.out);
                }
            mem_free(want.out);
        }
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    static const int threads[] = {2, 3, 7}, lengths[] = {1, 5, 100};
    for (int c = 0; c < CASES; c++)
        for (int k = 0; kern_at(k); k++)
            for (int p = 0; p < 3; p++)
                for (int t = 0; t < 3; t++) {
                    struct setting one = run_case(c, kern_at(k), precisions[p], 1, lengths[t]);
                    for (int i = 0; i < 3; i++) {
                        struct setting many = run_case(c, kern_at(k), precisions[p], threads[i], lengths[t]);
                        if (memcmp(one.out, many.out, one.n * sizeof *one.out))
                            fail_msg("%s, %s, T %d, %d threads", cases[c].name, kern_at(k)->name, lengths[t],
                                     threads[i]);
                        mem_free(many.out);
                    }
                    mem_free(one.out);
                }
}

/* A sequence of few tokens gets the bits that each token gets alone, and a lane those it gets without others.
 */
static void few_tokens_are_as_one_alone(void **state) {
    (void)state;
    enum { H = 6, HKV = 2, D = 40, ROWS = 1300, T = ATTENTION_FEW };
    struct rng r;
    rng_seed(&r, 5, 0);
    float *k = random_floats(&r, ROWS * HKV * D, 1), *v = random_floats(&r, ROWS * HKV * D, 1);
    float *q = random_floats(&r, 2 * T * H * D, 1), *y = zeros(2 * T * H * D), *one = zeros(H * D);
    int32_t first[2 * T], last[2 * T];
    for (int t = 0; t < 2 * T; t++) {
        last[t] = ROWS - 2 * T + t;
        first[t] = t % 3 ? 0 : 500 + t;
    }
    for (int i = 0; kern_at(i); i++)
        for (int form = CACHE_F32; form <= CACHE_F16; form++) {
            struct stage s;
            stage_open(&s, kern_at(i), PREC_EXACT, 3, 64, 1800);
            struct kv_view kv = {.k = mem_alloc(ROWS * HKV * D, 4),
                                 .v = mem_alloc(ROWS * HKV * D, 4),
                                 .form = (enum cache_form)form,
                                 .n = ROWS};
            op_kv_put(&s.ops, &kv, 0, k, v, ROWS, HKV, D);
            const struct attention_lane lanes[] = {{kv, 0, T}, {kv, T, T}};
            op_attention_lanes(&s.ops, y, NULL, q, lanes, 2, first, last, H, HKV, D);
            for (int t = 0; t < 2 * T; t++) {
                op_attention(&s.ops, one, NULL, q + t * H * D, &kv, first + t, last + t, 1, H, HKV, D);
                assert_memory_equal(one, y + t * H * D, H * D * sizeof *y);
            }
            mem_free(kv.k);
            mem_free(kv.v);
            stage_close(&s);
        }
    mem_free(k);
    mem_free(v);
    mem_free(q);
    mem_free(y);
    mem_free(one);
}

/* In any precision one NaN among the activations reaches every output of its token and of no other. */
static void nan_is_not_lost(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 3, 0);
    static const enum dtype types[] = {DT_Q4_1, DT_Q8_0, DT_F16, DT_Q6_K};
    for (int i = 0; i < 4; i++) {
        struct matrix w = random_matrix(&r, types[i], 20, 256);
        float *x = random_floats(&r, 9 * 256, 1), *y = zeros(9 * 20);
        for (int bad = 0; bad < 2; bad++)
            for (int k = 0; kern_at(k); k++)
                for (int p = 0; p < 3; p++)
                    for (int T = 2; T < 10; T += 7) {
                        struct stage s;
                        x[256 + 77] = bad ? INFINITY : NAN;
                        stage_open(&s, kern_at(k), precisions[p], 1, 64, 1800);
                        op_linear(&s.ops, y, 20, x, &w, NULL, T);
                        for (int j = 0; j < 20; j++) {
                            assert_true(isfinite(y[j]));
                            assert_false(isfinite(y[20 + j]));
                        }
                        stage_close(&s);
                    }
        mem_free((void *)w.data);
        mem_free(x);
        mem_free(y);
    }
}

/* Units kept or packed anew, a token alone or among others: the same bits. */
static void int8_rows_depend_on_nothing_else(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 5, 0);
    static const struct linear_case matrices[] = {{DT_Q4_1, 576, 40},  {DT_Q8_0, 1536, 33},
                                                  {DT_Q5_0, 2080, 7},  {DT_Q4_K, 1280, 50},
                                                  {DT_Q6_K, 2560, 16}, {DT_Q5_K, 256, 1}};
    enum { T = 17 };
    for (int i = 0; i < 6; i++)
        for (int k = 0; kern_at(k) != ref; k++) {
            struct linear_case c = matrices[i];
            struct matrix w = random_matrix(&r, c.type, c.out, c.in), kept = w;
            float *x = random_floats(&r, (size_t)(T * c.in), 1), *bias = random_floats(&r, (size_t)c.out, 1);
            float *all = zeros((size_t)(T * c.out)), *one = zeros((size_t)c.out);
            struct arena room;
            plm_error err;
            struct stage s;
            assert_int_equal(arena_open(&room, units_need(&w), &err), PLM_OK);
            units_book(&kept, &room, false);
            units_room(&kept, &room);
            stage_open(&s, kern_at(k), PREC_INT8, 3, 64, 2600);
            op_linear(&s.ops, all, c.out, x, &w, bias, T);
            for (int t = 0; t < T; t++)
                for (int twice = 0; twice < 2; twice++) {
                    op_linear(&s.ops, one, c.out, x + t * c.in, t % 2 ? &w : &kept, bias, 1);
                    assert_memory_equal(one, all + t * c.out, (size_t)c.out * sizeof *one);
                }
            assert_int_equal(kept.units->left, 0);
            op_linear(&s.ops, one, c.out, x, &kept, bias, 1);
            op_linear(&s.ops, all, c.out, x, &kept, bias, T);
            assert_memory_equal(one, all, (size_t)c.out * sizeof *one);
            stage_close(&s);
            arena_close(&room);
            mem_free((void *)w.data);
            mem_free(x);
            mem_free(bias);
            mem_free(all);
            mem_free(one);
        }
}

static void nan_reaches_the_loss(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 4, 0);
    struct matrix w = random_matrix(&r, DT_Q4_1, 300, 64);
    float *x = random_floats(&r, 64, 1), *y = zeros(64), weight = 1;
    int32_t target = 5;
    double nll;
    x[3] = NAN;
    for (int k = 0; kern_at(k); k++)
        for (int p = 0; p < 3; p++) {
            struct stage s;
            stage_open(&s, kern_at(k), precisions[p], 1, 64, 256);
            op_cross_entropy(&s.ops, &nll, NULL, x, &w, &target, &weight, 1);
            assert_true(isnan(nll));
            op_swiglu(&s.ops, y, x, x, 1, 64);
            assert_true(isnan(y[3]) && !isnan(y[4]));
            stage_close(&s);
        }
    mem_free((void *)w.data);
    mem_free(x);
    mem_free(y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_is_near_the_reference),
        cmocka_unit_test(linear_back_is_near_the_reference),
        cmocka_unit_test(ops_are_near_the_reference),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(few_tokens_are_as_one_alone),
        cmocka_unit_test(nan_is_not_lost),
        cmocka_unit_test(int8_rows_depend_on_nothing_else),
        cmocka_unit_test(nan_reaches_the_loss),
    };
    return cmocka_run_group_tests(tests, find_reference, NULL);
}
