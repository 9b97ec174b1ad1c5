/* The kernels over rows of floats, of every table, for every length up to a few vectors and some beyond,
 * against the same in f64. Each array ends where its memory ends: a number past the end is a crash. */
#include "kern/kern.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h> /* last: it has a macro called fail */

static struct rng rng;

/* ---- arrays that end at a page which nobody may touch ---- */

enum { MOST = 64 };
static struct {
    void *at;
    size_t bytes;
} maps[MOST];
static int n_maps;

static void *ending(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), all = (bytes + page - 1) / page * page + page;
    assert_true(n_maps < MOST);
    unsigned char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + all - page, page, PROT_NONE), 0);
    maps[n_maps].at = p;
    maps[n_maps++].bytes = all;
    return p + all - page - bytes;
}

static void let_go(void) {
    for (; n_maps; n_maps--)
        munmap(maps[n_maps - 1].at, maps[n_maps - 1].bytes);
}

static float *zeros(size_t n) {
    return ending(n * sizeof(float));
}

static float *floats(size_t n, float size) {
    float *x = zeros(n);
    for (size_t i = 0; i < n; i++)
        x[i] = size * rng_normal(&rng);
    return x;
}

static float *copy(const float *x, size_t n) {
    return memcpy(zeros(n), x, n * sizeof *x);
}

static int setup(void **state) {
    (void)state;
    rng_seed(&rng, 11, 0);
    return 0;
}

/* ---- every table, every length ---- */

static const int beyond[] = {100, 127, 129, 1023, 1025, 2100};
enum { LENGTHS = 70 + 6 };

static int length(int i) {
    return i < 70 ? i + 1 : beyond[i - 70];
}

typedef void row_test(const struct kern *k, int n);

static void each(row_test *test) {
    for (int t = 0; kern_at(t); t++)
        for (int i = 0; i < LENGTHS; i++) {
            test(kern_at(t), length(i));
            let_go();
        }
}

/* |got - want| of each number, as a share of `size`. */
static void near(const struct kern *k, const char *what, int n, double got, double want, double size,
                 double share) {
    if (!(fabs(got - want) <= share * size))
        fail_msg("%s of %s, %d numbers: %.9g, should be %.9g", what, k->name, n, got, want);
}

static void adding_and_scaling_round_once(const struct kern *k, int n) {
    float *x = floats((size_t)n, 1), *y = floats((size_t)n, 1), *sum = copy(y, (size_t)n),
          *scaled = copy(x, (size_t)n);
    k->add(sum, x, (size_t)n);
    k->scale(scaled, 0.3f, (size_t)n);
    for (int i = 0; i < n; i++)
        assert_true(sum[i] == y[i] + x[i] && scaled[i] == x[i] * 0.3f);
}

static void dots(const struct kern *k, int n) {
    float *a = floats((size_t)n, 1), *b = floats((size_t)n, 1);
    double want = 0, size = 0;
    for (int i = 0; i < n; i++) {
        want += (double)a[i] * (double)b[i];
        size += fabs((double)a[i] * (double)b[i]);
    }
    near(k, "dot", n, k->dot(a, b, (size_t)n), want, size, 1e-6);
}

static void norms(const struct kern *k, int n) {
    float *x = floats((size_t)n, 3), *gain = floats((size_t)n, 1), *y = zeros((size_t)n),
          *dy = floats((size_t)n, 1), *dx = floats((size_t)n, 1), *old = copy(dx, (size_t)n);
    double squares = 0, mean = 0, size = 0;
    for (int i = 0; i < n; i++)
        squares += (double)x[i] * (double)x[i];
    double inverse = 1 / sqrt(squares / n + 1e-5);
    float got = k->rmsnorm(y, x, gain, n, 1e-5f);
    near(k, "rms", n, (double)got, inverse, inverse, 1e-6);
    for (int i = 0; i < n; i++) {
        double want = (double)x[i] * inverse * (double)gain[i];
        near(k, "norm", n, (double)y[i], want, fabs(want), 1e-6);
        mean += (double)dy[i] * (double)gain[i] * (double)x[i] * inverse * inverse / n;
        size += fabs((double)dy[i] * (double)gain[i] * (double)x[i] * inverse * inverse / n);
    }
    k->rmsnorm_back(dx, dy, x, gain, got, n);
    for (int i = 0; i < n; i++) {
        double direct = (double)dy[i] * (double)gain[i];
        near(k, "norm backward", n, (double)dx[i], (double)old[i] + inverse * (direct - (double)x[i] * mean),
             fabs((double)old[i]) + inverse * (fabs(direct) + fabs((double)x[i]) * size), 1e-6);
    }
}

static void turns_of(const struct kern *k, int half, bool neox) {
    int H = 3, rotary = 2 * half, D = rotary + half % 3; // what lies behind the turned ones stays
    float *x = floats((size_t)(H * D), 1), *y = copy(x, (size_t)(H * D));
    float *c = floats((size_t)half, 1), *s = floats((size_t)half, 1);
    k->rope(y, c, s, H, D, rotary, neox);
    for (int h = 0; h < H; h++)
        for (int i = 0; i < D; i++) {
            int pair = neox ? i % half : i / 2;
            bool second = neox ? i >= half : i % 2;
            int fellow = neox ? (second ? i - half : i + half) : i ^ 1;
            const float *row = x + h * D;
            if (i >= rotary) {
                assert_true(y[h * D + i] == row[i]);
                continue;
            }
            double own = (double)row[i] * (double)c[pair], other = (double)row[fellow] * (double)s[pair];
            near(k, "rope", half, (double)y[h * D + i], second ? own + other : own - other,
                 fabs(own) + fabs(other), 3e-7);
        }
}

static void turns(const struct kern *k, int n) {
    turns_of(k, n, false);
    turns_of(k, n, true);
}

/* The slope of silu and of gelu in its tanh form, and their values. */
static void silu(double g, double *value, double *slope) {
    double s = 1 / (1 + exp(-g));
    *value = g * s;
    *slope = s * (1 + g * (1 - s));
}

static void gelu(double g, double *value, double *slope) {
    double root = sqrt(2 / acos(-1.0)), t = tanh(root * (g + 0.044715 * g * g * g));
    *value = 0.5 * g * (1 + t);
    *slope = 0.5 * (1 + t) + 0.5 * g * (1 - t * t) * root * (1 + 3 * 0.044715 * g * g);
}

static void gates_of(const struct kern *k, int n, bool smooth) {
    float *gate = floats((size_t)n, 4), *up = floats((size_t)n, 1), *dy = floats((size_t)n, 1);
    float *y = zeros((size_t)n), *dgate = zeros((size_t)n), *dup = zeros((size_t)n);
    if (n > 4) {
        gate[1] = -90;
        gate[2] = 90;
        gate[3] = 0;
    }
    (smooth ? k->geglu : k->swiglu)(y, gate, up, (size_t)n);
    (smooth ? k->geglu_back : k->swiglu_back)(dgate, dup, dy, gate, up, (size_t)n);
    for (int i = 0; i < n; i++) {
        double value, slope, u = (double)up[i], d = (double)dy[i], g = (double)gate[i];
        (smooth ? gelu : silu)(g, &value, &slope);
        const char *what = smooth ? "geglu" : "swiglu";
        near(k, what, n, (double)y[i], value * u, fabs(u) * (fabs(g) + 1), 1e-6);
        near(k, what, n, (double)dup[i], d * value, fabs(d) * (fabs(g) + 1), 1e-6);
        near(k, what, n, (double)dgate[i], d * u * slope, fabs(d * u) * (fabs(g) + 1), 2e-6);
    }
}

static void gates(const struct kern *k, int n) {
    gates_of(k, n, false);
    gates_of(k, n, true);
}

static void maxima_and_exponentials(const struct kern *k, int n) {
    float *x = floats((size_t)n, 3), *p = zeros((size_t)n), *same = copy(x, (size_t)n);
    float top = x[0];
    for (int i = 1; i < n; i++)
        top = fmaxf(top, x[i]);
    assert_true(k->max(x, (size_t)n) == top);
    double sum = k->exp_sum(p, x, 0.7f, top, (size_t)n), want = 0;
    for (int i = 0; i < n; i++) {
        double e = exp((double)(x[i] * 0.7f - top)); // rounding before the exponential is the caller's
        near(k, "exp", n, (double)p[i], e, e, 3e-6);
        want += e;
    }
    near(k, "sum of exp", n, sum, want, want, 3e-6);
    assert_true(k->exp_sum(same, same, 0.7f, top, (size_t)n) == sum);
    assert_memory_equal(same, p, (size_t)n * sizeof *p);
}

static void halves_round_to_even(const struct kern *k, int n) {
    float *x = floats((size_t)n, 100);
    uint16_t *y = ending((size_t)n * sizeof *y);
    k->kv_put(y, x, n, KV_FORM_F16);
    for (int i = 0; i < n; i++)
        assert_int_equal(y[i], f32_to_half(x[i]));
}

/* Keys or values, and what they are in f64. Blocks of 8 bits as they are defined, from whole levels. */
static struct kv_rows cache_of(int rows, int D, size_t stride, enum kv_form form, double *exact) {
    float *x = floats((size_t)(rows * D), 1);
    size_t each = form == KV_FORM_Q8 ? (size_t)D / 32 * sizeof(struct kv_block)
                                     : (size_t)D * (form == KV_FORM_F16 ? 2 : 4);
    unsigned char *data = ending((size_t)(rows - 1) * stride + each);
    for (int j = 0; j < rows; j++)
        for (int i = 0; i < D; i++) {
            unsigned char *row = data + (size_t)j * stride;
            float v = x[j * D + i], scale = .01f * (float)(1 + i / 32);
            uint16_t h = f32_to_half(v);
            uint8_t u = (uint8_t)(1 + (int)(fabsf(v) * 1000) % 255);
            exact[j * D + i] = (double)(form == KV_FORM_F16 ? half_to_f32(h) : v);
            if (form == KV_FORM_Q8) {
                unsigned char *block = row + (size_t)(i / 32) * sizeof(struct kv_block);
                memcpy(block, &scale, sizeof scale);
                block[sizeof scale + (size_t)(i % 32)] = u;
                exact[j * D + i] = (double)scale * (u - 128);
            } else if (form == KV_FORM_F16) {
                memcpy(row + 2 * (size_t)i, &h, 2);
            } else {
                memcpy(row + 4 * (size_t)i, &v, 4);
            }
        }
    return (struct kv_rows){data, stride, rows, form};
}

static void attention_rows(const struct kern *k, int D) {
    static double exact[9 * 2100];
    for (int variant = 0; variant < 6; variant++) {
        enum kv_form form = (enum kv_form)(variant % 3);
        if (form == KV_FORM_Q8 && D % 32)
            continue;
        int rows = variant & 1 ? 9 : 3, G = 1 + (D + variant) % 9;
        size_t stride = form == KV_FORM_Q8 ? (size_t)(D / 32 + 1) * sizeof(struct kv_block)
                                           : (size_t)(D + 3) * (form == KV_FORM_F16 ? 2 : 4);
        struct kv_rows cache = cache_of(rows, D, stride, form, exact);
        size_t lds = (size_t)rows + 2, ldy = (size_t)D + 1;
        float *q = floats((size_t)(G * D), 1), *s = zeros((size_t)(G - 1) * lds + (size_t)rows);
        k->scores(s, lds, q, G, cache, D);
        for (int g = 0; g < G; g++)
            for (int j = 0; j < rows; j++) {
                double want = 0, size = 0;
                for (int i = 0; i < D; i++) {
                    want += (double)q[g * D + i] * exact[j * D + i];
                    size += fabs((double)q[g * D + i] * exact[j * D + i]);
                }
                near(k, "score", D, (double)s[(size_t)g * lds + (size_t)j], want, size, 2e-5);
            }
        size_t ny = (size_t)(G - 1) * ldy + (size_t)D;
        float *p = floats((size_t)(G - 1) * lds + (size_t)rows, 1), *y = floats(ny, 1), *old = copy(y, ny);
        k->weigh(y, ldy, p, lds, G, cache, D);
        for (int g = 0; g < G; g++)
            for (int i = 0; i < D; i++) {
                size_t at = (size_t)g * ldy + (size_t)i;
                double want = (double)old[at], size = fabs(want);
                for (int j = 0; j < rows; j++) {
                    double product = (double)p[(size_t)g * lds + (size_t)j] * exact[j * D + i];
                    want += product;
                    size += fabs(product);
                }
                near(k, "weighing", D, (double)y[at], want, size, 1e-6);
            }
        /* one query alone gets the same bits */
        float *alone = zeros((size_t)rows);
        k->scores(alone, (size_t)rows, q + (G - 1) * D, 1, cache, D);
        assert_memory_equal(alone, s + (size_t)(G - 1) * lds, (size_t)rows * sizeof *s);
        float *back = zeros((size_t)D);
        k->kv_get(back, cache.data, D, form);
        for (int i = 0; i < D; i++)
            assert_true(fabs((double)back[i] - exact[i]) <= 1e-6 * fabs(exact[i]));
        let_go();
    }
}

static void eight_bits_are_the_nearest(const struct kern *k, int D) {
    if (D % 32)
        return;
    float *x = floats((size_t)D, 3);
    for (int i = 0; D > 32 && i < 32; i++)
        x[i] = 0;
    struct kv_block *b = ending((size_t)D / 32 * sizeof *b);
    k->kv_put(b, x, D, KV_FORM_Q8);
    for (int i = 0; i < D; i += 32) {
        float most = 0;
        for (int j = 0; j < 32; j++)
            most = fmaxf(most, fabsf(x[i + j]));
        assert_true(b[i / 32].scale == most / 127);
        for (int j = 0; j < 32; j++)
            assert_int_equal(b[i / 32].u[j], 128 + (int)lrintf(x[i + j] * (most > 0 ? 127 / most : 0)));
    }
}

static void dots_of_rows(const struct kern *k, int n) {
    for (int rows = 1; rows < 10; rows++)
        for (int more = 0; more < 2; more++) {
            size_t ld = (size_t)n + 5;
            float *w = floats((size_t)(rows - 1) * ld + (size_t)n, 1), *x = floats((size_t)n, 1);
            float *y = floats((size_t)rows, 1), *old = copy(y, (size_t)rows);
            k->rows_dot(y, w, ld, rows, x, n, 0.4f, more);
            for (int r = 0; r < rows; r++) {
                double want = 0, size = 0;
                for (int i = 0; i < n; i++) {
                    double p = 0.4 * (double)w[(size_t)r * ld + (size_t)i] * (double)x[i];
                    want += p;
                    size += fabs(p);
                }
                double before = more ? (double)old[r] : 0;
                near(k, "dot of a row", n, (double)y[r], before + want, fabs(before) + size, 2e-5);
            }
            let_go();
        }
}

static void panels(const struct kern *k, int n) {
    for (int rows = 0; rows <= k->lanes; rows++) {
        int width = k->lanes * 2;
        size_t ld = (size_t)n + 1;
        float *w = floats(rows ? (size_t)(rows - 1) * ld + (size_t)n : 1, 1);
        float *panel = zeros((size_t)((n - 1) * width + k->lanes));
        k->pack_f32(panel, width, w, ld, rows, n);
        for (int l = 0; l < n; l++)
            for (int j = 0; j < k->lanes; j++)
                assert_true(panel[l * width + j] == (j < rows ? w[(size_t)j * ld + (size_t)l] : 0));
        let_go();
    }
}

static void bf16_rows(const struct kern *k, int n) {
    if (!k->mul_bf16)
        return;
    float *x = floats((size_t)n, 1), *z = floats((size_t)n, 1);
    uint16_t *row = ending((size_t)(n + n % 2) * 2), *pairs = ending((size_t)n * 4),
             *alone = ending((size_t)n * 4);
    k->put_bf16(row, x, n);
    k->pair_bf16(pairs, x, z, n);
    k->pair_bf16(alone, x, NULL, n);
    assert_true(n % 2 == 0 || row[n] == 0);
    for (int i = 0; i < n; i++) {
        assert_int_equal(row[i], f32_to_bhalf(x[i]));
        assert_int_equal(pairs[2 * i], f32_to_bhalf(x[i]));
        assert_int_equal(pairs[2 * i + 1], f32_to_bhalf(z[i]));
        assert_int_equal(alone[2 * i], f32_to_bhalf(x[i]));
        assert_int_equal(alone[2 * i + 1], 0);
    }
}

#define ROW_TEST(test)                               \
    static void test##_of_any_length(void **state) { \
        (void)state;                                 \
        each(test);                                  \
    }
ROW_TEST(adding_and_scaling_round_once)
ROW_TEST(dots)
ROW_TEST(norms)
ROW_TEST(turns)
ROW_TEST(gates)
ROW_TEST(maxima_and_exponentials)
ROW_TEST(halves_round_to_even)
ROW_TEST(attention_rows)
ROW_TEST(eight_bits_are_the_nearest)
ROW_TEST(dots_of_rows)
ROW_TEST(panels)
ROW_TEST(bf16_rows)

/* ---- the rest ---- */

static void decoding_ends_where_the_file_ends(void **state) {
    (void)state;
    static const struct {
        int type;
        size_t weights, bytes;
    } formats[] = {{BLOCK_F32, 1, 4},      {BLOCK_F16, 1, 2},     {BLOCK_BF16, 1, 2},
                   {BLOCK_Q4_0, QK, 18},   {BLOCK_Q4_1, QK, 20},  {BLOCK_Q5_0, QK, 22},
                   {BLOCK_Q5_1, QK, 24},   {BLOCK_Q8_0, QK, 34},  {BLOCK_Q4_K, 256, 144},
                   {BLOCK_Q5_K, 256, 176}, {BLOCK_Q6_K, 256, 210}};
    for (int t = 0; kern_at(t); t++)
        for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
            for (size_t blocks = 1; blocks < 20; blocks++) {
                size_t n = blocks * formats[f].weights, bytes = blocks * formats[f].bytes;
                unsigned char *in = ending(bytes);
                for (size_t i = 0; i < bytes; i++)
                    in[i] = (unsigned char)(rng_next(&rng) & 0xbf); // no NaN in any field
                float *got = zeros(n), *want = zeros(n);
                kern_at(t)->decode[formats[f].type](got, in, n);
                block_decoders[formats[f].type](want, in, n);
                for (size_t i = 0; i < n; i++)
                    assert_true(got[i] == want[i]);
                let_go();
            }
}

static void ceilings_say_what_they_did(void **state) {
    (void)state;
    for (int t = 0; kern_at(t); t++) {
        const struct kern *k = kern_at(t);
        assert_true(k->peak_f32(10) > 0 && k->peak_f32(20) == 2 * k->peak_f32(10));
        assert_true(!k->peak_bf16 || k->peak_bf16(20) == 2 * k->peak_bf16(10));
        assert_true(!k->peak_q8 || k->peak_q8(20) == 2 * k->peak_q8(10));
        assert_true(k->read(ending(256), 256) == 256 && k->read(ending(4096), 4096) == 4096);
        let_go();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adding_and_scaling_round_once_of_any_length),
        cmocka_unit_test(dots_of_any_length),
        cmocka_unit_test(norms_of_any_length),
        cmocka_unit_test(turns_of_any_length),
        cmocka_unit_test(gates_of_any_length),
        cmocka_unit_test(maxima_and_exponentials_of_any_length),
        cmocka_unit_test(halves_round_to_even_of_any_length),
        cmocka_unit_test(attention_rows_of_any_length),
        cmocka_unit_test(eight_bits_are_the_nearest_of_any_length),
        cmocka_unit_test(dots_of_rows_of_any_length),
        cmocka_unit_test(panels_of_any_length),
        cmocka_unit_test(bf16_rows_of_any_length),
        cmocka_unit_test(decoding_ends_where_the_file_ends),
        cmocka_unit_test(ceilings_say_what_they_did),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
