#include "support_tensor.h"

#include <math.h>
#include <stdio.h>

const enum dtype every_type[] = {DT_F32,  DT_F16,  DT_BF16, DT_Q4_0, DT_Q4_1, DT_Q5_0,
                                 DT_Q5_1, DT_Q8_0, DT_Q4_K, DT_Q5_K, DT_Q6_K};
const int n_types = sizeof every_type / sizeof *every_type;

void stage_open(struct stage *s, const struct kern *k, enum precision precision, int threads, int T,
                int width) {
    plm_error err;
    memset(s, 0, sizeof *s);
    if (threads > 1)
        assert_int_equal(pool_open(&s->ops.pool, threads, &err), PLM_OK);
    assert_int_equal(arena_open(&s->arena, ops_scratch(T, width, threads), &err), PLM_OK);
    s->ops.kern = k;
    s->ops.scratch = &s->arena;
    s->ops.precision = precision;
}

void stage_close(struct stage *s) {
    assert_int_equal(s->arena.used, 0);
    pool_close(s->ops.pool);
    arena_close(&s->arena);
}

float *random_floats(struct rng *r, size_t n, float scale) {
    float *x = mem_alloc(n ? n : 1, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = scale * rng_normal(r);
    return x;
}

float *zeros(size_t n) {
    return mem_zero(n, sizeof(float));
}

/* Finite scales of about 2^-8 and 2^-5 in the places where each k-quant keeps them. */
static void random_k_quant(struct rng *r, unsigned char *data, size_t blocks, enum dtype type) {
    size_t bytes = (size_t)dtype_of(type)->bytes;
    for (size_t i = 0; i < blocks * bytes; i++)
        data[i] = (unsigned char)rng_next(r);
    for (size_t b = 0; b < blocks; b++, data += bytes) {
        uint16_t d = f32_to_f16(0.004f * (float)(0.5 + rng_unit(r))),
                 dmin = f32_to_f16(0.02f * (float)rng_unit(r));
        if (type == DT_Q6_K) {
            memcpy(data + 208, &d, 2);
        } else {
            memcpy(data, &d, 2);
            memcpy(data + 2, &dmin, 2);
        }
    }
}

struct matrix random_matrix(struct rng *r, enum dtype type, int out, int in) {
    struct matrix m = matrix_of(NULL, type, out, in);
    size_t n = (size_t)out * (size_t)in;
    unsigned char *data = mem_alloc((size_t)out, m.row_bytes);
    if (dtype_of(type)->block < 256) { // of a super-block's bits all combinations shall come
        float *x = random_floats(r, n, 0.1f);
        for (size_t i = 0; i < n; i++)
            x[i] += 0.01f;
        dtype_of(type)->from_f32(data, x, n);
        mem_free(x);
    } else {
        random_k_quant(r, data, n / 256, type);
    }
    m.data = data;
    return m;
}

float *matrix_floats(const struct matrix *w) {
    float *x = mem_alloc((size_t)w->out * (size_t)w->in, sizeof *x);
    for (int i = 0; i < w->out; i++)
        matrix_row_f32(x + (size_t)i * (size_t)w->in, w, i);
    return x;
}

double distance(const float *a, const float *b, size_t n) {
    double far = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        far += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(far / (norm + 1e-30));
}

void assert_close(const float *a, const float *b, size_t n, double most) {
    double d = distance(a, b, n);
    if (!(d <= most))
        fail_msg("distance %g, at most %g", d, most);
}
