/* kern_bench.c: rates of the tensor ops on the shapes of two small models, beside what the machine can do at
 * most.
 *
 *   plm-kern-bench [smollm2|qwen] [threads] [kernels] [only an op whose name holds this]
 *   plm-kern-bench ceilings [threads] [kernels]      only what the machine can do, as JSON
 *
 * Every layer has weights of its own, so nothing is served from a cache that a real model would not fit. The
 * best of a few runs is shown: neighbours on a shared machine only ever subtract. With one thread it is
 * processor time that counts, so a busy machine disturbs it little. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kern/kern.h"
#include "tensor/tensor.h"

enum { LINEARS = 7, TOKENS = 512, RANK = 8 };

struct shape {
    const char *name;
    int C, F, H, Hkv, D, V, layers;
    enum dtype type, head_type;
};
static const struct shape shapes[] = {
    {"smollm2", 576, 1536, 9, 3, 64, 49152, 30, DT_Q4_1, DT_Q4_1},
    {"qwen", 896, 4864, 14, 2, 64, 151936, 24, DT_Q5_0, DT_Q8_0},
};

struct bench {
    struct shape s;
    struct ops ops;
    struct arena arena;
    struct ceilings top;
    struct rng rng;
    struct matrix *w; /* [layers, LINEARS] */
    struct matrix head;
    float *x, *y, *z, *dx, *A, *B, *u;
    int T;
};

/* Random levels, scales of 1/64. */
static struct matrix weights(struct rng *r, enum dtype type, int out, int in) {
    struct matrix m = matrix_of(NULL, type, out, in);
    size_t n = (size_t)out * m.row_bytes, block = (size_t)dtype_of((int)type)->bytes;
    unsigned char *data = mem_aligned(n + 8, 1);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = rng_next(r);
        memcpy(data + i, &v, 8);
    }
    uint16_t d = f32_to_f16(0.015625f);
    for (size_t i = 0; i < n; i += block)
        memcpy(data + i, &d, 2);
    for (size_t i = 0; type == DT_Q4_1 && i < n; i += block)
        memcpy(data + i + 2, &d, 2);
    m.data = data;
    struct arena a;
    if (arena_open(&a, units_need(&m), NULL) == PLM_OK) {
        units_book(&m, &a, false);
        units_room(&m, &a);
    }
    return m;
}

static float *numbers(struct rng *r, size_t n) {
    float *x = mem_aligned(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = rng_normal(r);
    return x;
}

static double weights_in_layers(const struct bench *b) {
    double n = 0;
    for (int i = 0; i < LINEARS; i++)
        n += (double)b->w[i].out * b->w[i].in;
    return n * b->s.layers;
}

static double bytes_of_all(const struct bench *b) {
    double n = (double)b->head.out * (double)b->head.row_bytes;
    for (int i = 0; i < LINEARS; i++)
        n += (double)b->s.layers * b->w[i].out * (double)b->w[i].row_bytes;
    return n;
}

/* ---- what is timed: one call each is one pass over T tokens ---- */

static void all_linears(struct bench *b) {
    for (int l = 0; l < b->s.layers; l++) {
        const struct matrix *w = b->w + l * LINEARS, *qkv[3] = {w, w + 1, w + 2},
                            *gate_up[2] = {w + 4, w + 5};
        size_t T = (size_t)b->T;
        float *to[3] = {b->y, b->y + T * (size_t)w[0].out, b->y + T * (size_t)(w[0].out + w[1].out)};
        float *pair[2] = {b->y, b->y + T * (size_t)w[4].out};
        op_linear_n(&b->ops, to, b->x, qkv, NULL, 3, b->T);
        op_linear(&b->ops, b->y, w[3].out, b->x, w + 3, NULL, b->T);
        op_linear_n(&b->ops, pair, b->x, gate_up, NULL, 2, b->T);
        op_linear(&b->ops, b->y, w[6].out, b->x, w + 6, NULL, b->T);
    }
}

static void decode(struct bench *b) {
    all_linears(b);
    op_linear(&b->ops, b->z, b->head.out, b->x, &b->head, NULL, 1);
}

static void all_back(struct bench *b) {
    for (int i = 0; i < b->s.layers * LINEARS; i++)
        op_linear_back(&b->ops, b->dx, b->y, b->w + i, b->T, true);
}

static void lora(struct bench *b) {
    for (int i = 0; i < b->s.layers * LINEARS; i++)
        op_lora(&b->ops, b->y, b->w[i].out, b->u, b->x, b->A, b->B, 1, b->T, b->w[i].in, RANK, b->w[i].out);
}

static void lora_back(struct bench *b) {
    for (int i = 0; i < b->s.layers * LINEARS; i++)
        op_lora_back(&b->ops, b->dx, b->z, b->z + RANK * b->w[i].in, b->y, b->u, b->x, b->A, b->B, 1, b->T,
                     b->w[i].in, RANK, b->w[i].out);
}

static int32_t first[TOKENS], last[TOKENS];

static void attend(struct bench *b, bool f16) {
    struct kv_view kv = {.k = b->z, .v = b->z, .form = f16 ? CACHE_F16 : CACHE_F32, .n = TOKENS};
    for (int l = 0; l < b->s.layers; l++)
        op_attention(&b->ops, b->y, b->u, b->x, &kv, first, last + TOKENS - b->T, b->T, b->s.H, b->s.Hkv,
                     b->s.D);
}

static void attention(struct bench *b) {
    attend(b, false);
}

static void attention_f16(struct bench *b) {
    attend(b, true);
}

static void attention_back(struct bench *b) {
    struct kv_view kv = {.k = b->z, .v = b->z, .n = TOKENS};
    size_t n = (size_t)b->T * (size_t)(b->s.Hkv * b->s.D);
    for (int l = 0; l < b->s.layers; l++)
        op_attention_back(&b->ops, b->dx, b->z + n, b->z + 2 * n, b->x, b->y, b->u, b->x, &kv, first, last,
                          b->T, b->s.H, b->s.Hkv, b->s.D);
}

static void loss(struct bench *b) {
    static int32_t target[TOKENS];
    static float weight[TOKENS];
    static double nll[TOKENS];
    for (int t = 0; t < b->T; t++) {
        target[t] = t;
        weight[t] = 1e-3f;
    }
    op_cross_entropy(&b->ops, nll, b->dx, b->x, &b->head, target, weight, b->T);
}

static void small_ops(struct bench *b) {
    for (int l = 0; l < b->s.layers; l++) {
        float freq[32] = {1, 0.5f};
        op_rmsnorm(&b->ops, b->y, NULL, b->x, b->B, b->T, b->s.C, 1e-5f);
        op_rmsnorm(&b->ops, b->y, NULL, b->x, b->B, b->T, b->s.C, 1e-5f);
        op_rope(&b->ops, b->y, last, b->T, b->s.H, b->s.D, b->s.D, freq, false, false);
        op_rope(&b->ops, b->y, last, b->T, b->s.Hkv, b->s.D, b->s.D, freq, false, false);
        op_swiglu(&b->ops, b->y, b->x, b->x, b->T, b->s.F);
        op_add(&b->ops, b->y, b->x, (size_t)(b->T * b->s.C));
        op_add(&b->ops, b->y, b->x, (size_t)(b->T * b->s.C));
    }
}

static const char *only = "";

static double now(const struct bench *b) {
    return pool_threads(b->ops.pool) == 1 ? (double)clock() / CLOCKS_PER_SEC : clock_now();
}

static void report(struct bench *b, const char *name, void (*fn)(struct bench *), int T, enum precision p,
                   double work, double ceiling, const char *unit) {
    if (!strstr(name, only))
        return;
    double best = 1e9, spent = 0;
    b->T = T;
    b->ops.precision = p;
    for (int i = 0; i < 30 && (i < 3 || spent < 1); i++) {
        double start = now(b);
        fn(b);
        double took = now(b) - start;
        spent += took;
        if (took < best)
            best = took;
    }
    printf("%-28s %9.1f tok/s %9.3f ms", name, T / best, best * 1e3);
    if (work > 0)
        printf("  %7.1f %s, %3.0f %%", work / best * 1e-9, unit, 100 * work / best / ceiling);
    putchar('\n');
    fflush(stdout);
}

static void run_all(struct bench *b) {
    double w = weights_in_layers(b), head = (double)b->head.out * b->head.in, T = TOKENS;
    const double int8 = b->top.int8 > 0 ? b->top.int8 : b->top.f32,
                 half = b->top.bf16 > 0 ? b->top.bf16 : b->top.f32;
    double scores =
        2.0 * b->s.layers * b->s.H * b->s.D * T * T; // causal: q k and p v, 2 flop each, half of T T
    for (int t = 0; t < TOKENS; t++)
        last[t] = t;
    report(b, "decode, linears and head", decode, 1, PREC_INT8, bytes_of_all(b), b->top.read, "GB/s");
    report(b, "decode, attention over 512", attention_f16, 1, PREC_INT8, 0, 1, "");
    report(b, "decode, small ops", small_ops, 1, PREC_INT8, 0, 1, "");
    report(b, "decode, lora", lora, 1, PREC_INT8, 0, 1, "");
    report(b, "prefill 512, linears", all_linears, TOKENS, PREC_INT8, 2 * w * T, int8, "Gop/s");
    report(b, "8 sessions, linears", all_linears, 8, PREC_INT8, 2 * w * 8, int8, "Gop/s");
    report(b, "prefill 32, linears", all_linears, 32, PREC_INT8, 2 * w * 32, int8, "Gop/s");
    report(b, "prefill 512, attention", attention_f16, TOKENS, PREC_INT8, scores, b->top.f32, "GFLOP/s");
    report(b, "prefill 512, small ops", small_ops, TOKENS, PREC_INT8, 0, 1, "");
    report(b, "train 512, linears", all_linears, TOKENS, PREC_HALF, 2 * w * T, half, "GFLOP/s");
    report(b, "train 512, linears back", all_back, TOKENS, PREC_HALF, 2 * w * T, half, "GFLOP/s");
    report(b, "train 512, loss and back", loss, TOKENS, PREC_HALF, 4 * head * T, half, "GFLOP/s");
    report(b, "train 512, attention", attention, TOKENS, PREC_HALF, scores, b->top.f32, "GFLOP/s");
    report(b, "train 512, attention back", attention_back, TOKENS, PREC_HALF, 2.5 * scores, b->top.f32,
           "GFLOP/s");
    report(b, "train 512, lora", lora, TOKENS, PREC_HALF, 0, 1, "");
    report(b, "train 512, lora back", lora_back, TOKENS, PREC_HALF, 0, 1, "");
    report(b, "train 512, small ops", small_ops, TOKENS, PREC_HALF, 0, 1, "");
}

int main(int argc, char **argv) {
    struct bench b = {.s = shapes[argc > 1 && !strcmp(argv[1], "qwen")]};
    plm_error err;
    only = argc > 4 ? argv[4] : "";
    if (ops_kernels(&b.ops.kern, argc > 3 ? argv[3] : NULL, &err) ||
        pool_open(&b.ops.pool, argc > 2 ? atoi(argv[2]) : 0, &err) ||
        arena_open(&b.arena, ops_scratch(TOKENS, b.s.F, pool_threads(b.ops.pool)), &err) ||
        ops_ceilings(&b.top, b.ops.kern, b.ops.pool, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    b.ops.scratch = &b.arena;
    if (argc > 1 && !strcmp(argv[1], "ceilings")) {
        printf("{\"f32\":%.0f,\"bf16\":%.0f,\"int8\":%.0f,\"read\":%.0f}\n", b.top.f32, b.top.bf16,
               b.top.int8, b.top.read);
        return 0;
    }
    printf("%s, %d threads, %s: read %.1f GB/s, f32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f Gop/s\n", b.s.name,
           pool_threads(b.ops.pool), ops_kernel_name(b.ops.kern), b.top.read * 1e-9, b.top.f32 * 1e-9,
           b.top.bf16 * 1e-9, b.top.int8 * 1e-9);
    int q = b.s.H * b.s.D, kv = b.s.Hkv * b.s.D;
    const int out[LINEARS] = {q, kv, kv, b.s.C, b.s.F, b.s.F, b.s.C},
              in[LINEARS] = {b.s.C, b.s.C, b.s.C, q, b.s.C, b.s.C, b.s.F};
    rng_seed(&b.rng, 1, 0);
    b.w = mem_alloc((size_t)(b.s.layers * LINEARS), sizeof *b.w);
    for (int i = 0; i < b.s.layers * LINEARS; i++)
        b.w[i] = weights(&b.rng, b.s.type, out[i % LINEARS], in[i % LINEARS]);
    b.head = weights(&b.rng, b.s.head_type, b.s.V, b.s.C);
    size_t wide = (size_t)TOKENS * (size_t)b.s.F;
    b.x = numbers(&b.rng, wide);
    b.y = numbers(&b.rng, 3 * wide);
    b.z = numbers(&b.rng, 3 * wide);
    b.dx = numbers(&b.rng, wide);
    b.A = numbers(&b.rng, (size_t)(RANK * b.s.F));
    b.B = numbers(&b.rng, (size_t)(RANK * b.s.F));
    b.u = numbers(&b.rng, (size_t)(TOKENS * 64));
    run_all(&b);
    pool_close(b.ops.pool);
    return 0;
}
