/* kern_body.h: the fast kernels, written once over a vector header (LANES numbers) and compiled for each
 * instruction set by the file that includes it. Accumulators of a tile are arrays that must end up in
 * registers: every loop over them is unrolled by order. */
#include <math.h>

#include "kern/isa.h"

enum { ROWS = 4 };               /* of a matrix, in one pass of a dot product */
enum { BLOCK_SUM = 64 * LANES }; /* numbers that are summed in f32 before they go on in f64 */

/* ---- rows of floats ---- */

static void add(float *y, const float *x, size_t n) {
    for (; n >= LANES; n -= LANES, y += LANES, x += LANES)
        vf_store(y, vf_load(y) + vf_load(x));
    if (n)
        vf_store_n(y, vf_load_n(y, (int)n) + vf_load_n(x, (int)n), (int)n);
}

static void scale(float *x, float by, size_t n) {
    for (; n >= LANES; n -= LANES, x += LANES)
        vf_store(x, vf_load(x) * vf_set(by));
    if (n)
        vf_store_n(x, vf_load_n(x, (int)n) * vf_set(by), (int)n);
}

static double dot(const float *a, const float *b, size_t n) {
    double total = 0;
    while (n) {
        size_t part = n < BLOCK_SUM ? n : BLOCK_SUM, i = 0;
        vf sum = vf_set(0);
        for (; i + LANES <= part; i += LANES)
            sum = vf_fma(vf_load(a + i), vf_load(b + i), sum);
        if (i < part)
            sum = vf_fma(vf_load_n(a + i, (int)(part - i)), vf_load_n(b + i, (int)(part - i)), sum);
        total += (double)vf_sum(sum);
        a += part;
        b += part;
        n -= part;
    }
    return total;
}

static float rmsnorm(float *y, const float *x, const float *gain, int n, float eps) {
    float inv_rms = (float)(1 / sqrt(dot(x, x, (size_t)n) / n + (double)eps));
    vf inv = vf_set(inv_rms);
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_load(x + i) * inv * vf_load(gain + i));
    if (i < n)
        vf_store_n(y + i, vf_load_n(x + i, n - i) * inv * vf_load_n(gain + i, n - i), n - i);
    return inv_rms;
}

static void rmsnorm_back(float *dx, const float *dy, const float *x, const float *gain, float inv_rms,
                         int n) {
    vf sum = vf_set(0), inv = vf_set(inv_rms);
    for (int i = 0; i < n; i += LANES) {
        int m = n - i < LANES ? n - i : LANES;
        sum = vf_fma(vf_load_n(dy + i, m) * vf_load_n(gain + i, m), vf_load_n(x + i, m), sum);
    }
    vf mean = vf_set((float)((double)vf_sum(sum) * (double)inv_rms * (double)inv_rms / n));
    for (int i = 0; i < n; i += LANES) {
        int m = n - i < LANES ? n - i : LANES;
        vf d = vf_load_n(dy + i, m) * vf_load_n(gain + i, m) - vf_load_n(x + i, m) * mean;
        vf_store_n(dx + i, vf_load_n(dx + i, m) + inv * d, m);
    }
}

static void rope_pairs(float *x, const float *cosine, const float *sine, int half) {
    int i = 0;
    for (; i + LANES <= half; i += LANES) {
        vf c = vf_load(cosine + i), s = vf_load(sine + i), a, b, lo, hi;
        vf_split(vf_load(x + 2 * i), vf_load(x + 2 * i + LANES), &a, &b);
        vf_join(a * c - b * s, a * s + b * c, &lo, &hi);
        vf_store(x + 2 * i, lo);
        vf_store(x + 2 * i + LANES, hi);
    }
    for (; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = a * sine[i] + b * cosine[i];
    }
}

static void rope_halves(float *x, const float *cosine, const float *sine, int half) {
    for (int i = 0; i < half; i += LANES) {
        int m = half - i < LANES ? half - i : LANES;
        vf c = vf_load_n(cosine + i, m), s = vf_load_n(sine + i, m);
        vf a = vf_load_n(x + i, m), b = vf_load_n(x + half + i, m);
        vf_store_n(x + i, a * c - b * s, m);
        vf_store_n(x + half + i, a * s + b * c, m);
    }
}

static void rope(float *x, const float *cosine, const float *sine, int H, int D, int rotary, bool neox) {
    for (int h = 0; h < H; h++, x += D) {
        if (neox)
            rope_halves(x, cosine, sine, rotary / 2);
        else
            rope_pairs(x, cosine, sine, rotary / 2);
    }
}

/* Angles below about 1e5: the nearest multiple of pi/2 goes off in two parts, series give the rest. */
static void cos_sin(float *cosine, float *sine, const float *freq, float pos, int n) {
    for (int i = 0; i < n; i += LANES) {
        int m = n - i < LANES ? n - i : LANES;
        vf angle = vf_load_n(freq + i, m) * vf_set(pos), turns = vf_round(angle * vf_set(0.636619772f));
        vf r = vf_fma(turns, vf_set(-1.57079637f), angle);
        r = vf_fma(turns, vf_set(4.37113883e-8f), r);
        vf r2 = r * r;
        vf s = vf_fma(r2, vf_set(1.0f / 362880), vf_set(-1.0f / 5040));
        s = vf_fma(r2, s, vf_set(1.0f / 120));
        s = vf_fma(r2, s, vf_set(-1.0f / 6));
        s = vf_fma(r2 * r, s, r);
        vf c = vf_fma(r2, vf_set(-1.0f / 3628800), vf_set(1.0f / 40320));
        c = vf_fma(r2, c, vf_set(-1.0f / 720));
        c = vf_fma(r2, c, vf_set(1.0f / 24));
        c = vf_fma(r2, c, vf_set(-0.5f));
        c = vf_fma(r2, c, vf_set(1));
        vi quarter = vi_nearest(turns); // 1 and 3 swap them; 2 and 3 turn the sine, 1 and 2 the cosine
        vf_store_n(sine + i, vf_neg_where(vf_pick(quarter, c, s), vi_up(quarter, 30)), m);
        vf_store_n(cosine + i, vf_neg_where(vf_pick(quarter, s, c), vi_up(vi_add(quarter, vi_set(1)), 30)),
                   m);
    }
}

/* e^x to about 1e-7 relative; beyond the range 0 and infinity; NaN stays. */
INLINE vf vf_exp(vf x) {
    x = vf_min(vf_set(89), vf_max(vf_set(-104), x));
    vf n = vf_round(x * vf_set(1.44269504f));
    vf r = vf_fma(n, vf_set(-0.693359375f), x);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf p = vf_fma(r, vf_set(1.0f / 5040), vf_set(1.0f / 720));
    p = vf_fma(r, p, vf_set(1.0f / 120));
    p = vf_fma(r, p, vf_set(1.0f / 24));
    p = vf_fma(r, p, vf_set(1.0f / 6));
    p = vf_fma(r, p, vf_set(0.5f));
    p = vf_fma(r, p, vf_set(1));
    return vf_power(vf_fma(r, p, vf_set(1)), n);
}

INLINE vf vf_sigmoid(vf x) { return vf_set(1) / (vf_set(1) + vf_exp(vf_set(0) - x)); }

static void swiglu(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i += LANES) {
        int m = n - i < LANES ? (int)(n - i) : LANES;
        vf g = vf_load_n(gate + i, m);
        vf_store_n(y + i, g * vf_sigmoid(g) * vf_load_n(up + i, m), m);
    }
}

static void swiglu_back(float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                        size_t n) {
    for (size_t i = 0; i < n; i += LANES) {
        int m = n - i < LANES ? (int)(n - i) : LANES;
        vf g = vf_load_n(gate + i, m), d = vf_load_n(dy + i, m), u = vf_load_n(up + i, m);
        vf s = vf_sigmoid(g), silu = g * s;
        vf_store_n(dup + i, d * silu, m);
        vf_store_n(dgate + i, d * u * (s + silu * (vf_set(1) - s)), m);
    }
}

static void geglu(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i += LANES) {
        int m = n - i < LANES ? (int)(n - i) : LANES;
        vf g = vf_load_n(gate + i, m);
        vf s = vf_sigmoid(g * vf_fma(g * g, vf_set(GELU_3), vf_set(GELU_1)));
        vf_store_n(y + i, g * s * vf_load_n(up + i, m), m);
    }
}

static void geglu_back(float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                       size_t n) {
    for (size_t i = 0; i < n; i += LANES) {
        int m = n - i < LANES ? (int)(n - i) : LANES;
        vf g = vf_load_n(gate + i, m), d = vf_load_n(dy + i, m), u = vf_load_n(up + i, m);
        vf s = vf_sigmoid(g * vf_fma(g * g, vf_set(GELU_3), vf_set(GELU_1))), gelu = g * s;
        vf slope = vf_fma(g * g, vf_set(3 * GELU_3), vf_set(GELU_1));
        vf_store_n(dup + i, d * gelu, m);
        vf_store_n(dgate + i, d * u * (s + gelu * (vf_set(1) - s) * slope), m);
    }
}

static float max(const float *x, size_t n) {
    float best = x[0];
    if (n >= LANES) {
        vf top = vf_load(x);
        for (; n >= LANES; n -= LANES, x += LANES)
            top = vf_max(vf_load(x), top);
        best = vf_top(top);
    }
    for (size_t i = 0; i < n; i++)
        if (x[i] > best)
            best = x[i];
    return best;
}

static double exp_sum(float *p, const float *x, float by, float shift, size_t n) {
    double total = 0;
    while (n) {
        size_t part = n < BLOCK_SUM ? n : BLOCK_SUM, i = 0;
        vf sum = vf_set(0);
        for (; i + LANES <= part; i += LANES) {
            vf e = vf_exp(vf_load(x + i) * vf_set(by) - vf_set(shift));
            vf_store(p + i, e);
            sum = sum + e;
        }
        total += (double)vf_sum(sum);
        if (i < part) {
            float rest[LANES] = {0};
            int m = (int)(part - i);
            vf_store_n(rest, vf_exp(vf_load_n(x + i, m) * vf_set(by) - vf_set(shift)), m);
            vf_store_n(p + i, vf_load(rest), m);
            total += (double)vf_sum(vf_load(rest));
        }
        p += part;
        x += part;
        n -= part;
    }
    return total;
}

#include "kern/kern_attend.h"

/* m rows at once: their sums don't wait for each other. */
INLINE void dot_rows(vf *sum, const float *x, const float *w, size_t ld, int n, int m) {
    UNROLLED_FOR (int j = 0; j < m; j++)
        sum[j] = vf_set(0);
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        UNROLLED_FOR (int j = 0; j < m; j++)
            sum[j] = vf_fma(vf_load(x + i), vf_load(w + (size_t)j * ld + i), sum[j]);
    if (i < n)
        UNROLLED_FOR (int j = 0; j < m; j++)
            sum[j] = vf_fma(vf_load_n(x + i, n - i), vf_load_n(w + (size_t)j * ld + i, n - i), sum[j]);
}

static void rows_dot(float *y, const float *w, size_t ld, int rows, const float *x, int n, float by,
                     bool more) {
    int r = 0;
    vf sum[ROWS];
    for (; r + ROWS <= rows; r += ROWS, w += ROWS * ld) {
        dot_rows(sum, x, w, ld, n, ROWS);
        v4 all = vf_sum4(sum[0], sum[1], sum[2], sum[3]) * v4_set(by);
        if (more)
            all = all + v4_load(y + r);
        v4_store(y + r, all);
    }
    for (; r < rows; r++, w += ld) {
        dot_rows(sum, x, w, ld, n, 1);
        float v = by * vf_sum(sum[0]);
        y[r] = more ? y[r] + v : v;
    }
}

/* ---- decoding: every quantised format is levels, scales and offsets ---- */

static void decode_16(float *out, const unsigned char *in, size_t n, bool bfloat) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(out + i, bfloat ? vf_from_bhalves(in + 2 * i) : vf_from_halves(in + 2 * i));
    for (; i < n; i++)
        out[i] = bfloat ? bits_f32((uint32_t)load16(in + 2 * i) << 16) : half_to_f32(load16(in + 2 * i));
}

static void f16_fast(float *out, const void *in, size_t n) { decode_16(out, in, n, false); }

static void bf16_fast(float *out, const void *in, size_t n) { decode_16(out, in, n, true); }

/* scale * u + offset gives the reference's value: the product is exact, and so is u less the zero point. */
static void decode_levels(float *out, const unsigned char *in, size_t n, int type, size_t block,
                          size_t bytes) {
    uint8_t u[QK_K];
    float scales[QK_K / 16], offsets[QK_K / 16];
    int group = block_group(type);
    while (n) {
        int part = n < QK_K ? (int)n : QK_K;
        unpackers[type](u, scales, offsets, in, part);
        for (int i = 0; i < part; i += LANES)
            vf_store(out + i,
                     vf_fma(vf_from_bytes(u + i), vf_set(scales[i / group]), vf_set(offsets[i / group])));
        in += (size_t)part / block * bytes;
        out += part;
        n -= (size_t)part;
    }
}

#define DECODE(format, type, block)                                    \
    static void format##_fast(float *out, const void *in, size_t n) {  \
        decode_levels(out, in, n, type, block, sizeof(struct format)); \
    }
DECODE(q4_0, BLOCK_Q4_0, QK)
DECODE(q4_1, BLOCK_Q4_1, QK)
DECODE(q5_0, BLOCK_Q5_0, QK)
DECODE(q5_1, BLOCK_Q5_1, QK)
DECODE(q8_0, BLOCK_Q8_0, QK)
DECODE(q4_k, BLOCK_Q4_K, QK_K)
DECODE(q5_k, BLOCK_Q5_K, QK_K)
DECODE(q6_k, BLOCK_Q6_K, QK_K)

static block_decode *const decoders[BLOCK_TYPES] = {
    [BLOCK_F32] = f32_decode, [BLOCK_F16] = f16_fast,   [BLOCK_BF16] = bf16_fast, [BLOCK_Q4_0] = q4_0_fast,
    [BLOCK_Q4_1] = q4_1_fast, [BLOCK_Q5_0] = q5_0_fast, [BLOCK_Q5_1] = q5_1_fast, [BLOCK_Q8_0] = q8_0_fast,
    [BLOCK_Q4_K] = q4_k_fast, [BLOCK_Q5_K] = q5_k_fast, [BLOCK_Q6_K] = q6_k_fast,
};

/* ---- f32 products ---- */

/* y [m, n] (+)= a b for m rows and v vectors, the last with n - (v - 1) LANES numbers. */
INLINE void tile_f32(float *y, size_t ldy, const float *a, size_t rs, size_t ks, const float *b, size_t ldb,
                     int n, int k, bool more, int m, int v, bool tail) {
    vf sum[STRIP][VECTORS];
    int rest = n - (v - 1) * LANES;
    UNROLLED_FOR (int i = 0; i < m; i++)
        UNROLLED_FOR (int c = 0; c < v; c++)
            sum[i][c] = vf_set(0);
    for (size_t l = 0; l < (size_t)k; l++, a += ks, b += ldb) {
        vf w[VECTORS];
        UNROLLED_FOR (int c = 0; c < v; c++)
            w[c] = tail && c == v - 1 ? vf_load_n(b + c * LANES, rest) : vf_load(b + c * LANES);
        UNROLLED_FOR (int i = 0; i < m; i++) {
            vf x = vf_set(a[(size_t)i * rs]);
            UNROLLED_FOR (int c = 0; c < v; c++)
                sum[i][c] = vf_fma(x, w[c], sum[i][c]);
        }
    }
    UNROLLED_FOR (int i = 0; i < m; i++)
        UNROLLED_FOR (int c = 0; c < v; c++) {
            float *at = y + (size_t)i * ldy + c * LANES;
            if (tail && c == v - 1)
                vf_store_n(at, sum[i][c] + (more ? vf_load_n(at, rest) : vf_set(0)), rest);
            else
                vf_store(at, sum[i][c] + (more ? vf_load(at) : vf_set(0)));
        }
}

INLINE void strips_f32(float *y, size_t ldy, const float *a, size_t rs, size_t ks, const float *b, size_t ldb,
                       int m, int n, int k, bool more, int v, bool tail) {
    for (; m >= STRIP && m != 8; m -= STRIP, y += STRIP * ldy, a += STRIP * rs)
        tile_f32(y, ldy, a, rs, ks, b, ldb, n, k, more, STRIP, v, tail);
    for (; m >= 4; m -= 4, y += 4 * ldy, a += 4 * rs) // 4 and 4, not 6 and 2, which would wait for its sums
        tile_f32(y, ldy, a, rs, ks, b, ldb, n, k, more, 4, v, tail);
    for (; m >= 2; m -= 2, y += 2 * ldy, a += 2 * rs)
        tile_f32(y, ldy, a, rs, ks, b, ldb, n, k, more, 2, v, tail);
    if (m)
        tile_f32(y, ldy, a, rs, ks, b, ldb, n, k, more, 1, v, tail);
}

static void mul_f32(float *y, size_t ldy, const float *a, size_t rs, size_t ks, const float *b, size_t ldb,
                    int m, int n, int k, bool more) {
    int v = (n + LANES - 1) / LANES;
    if (n % LANES) {
        switch (v) {
        case 1: strips_f32(y, ldy, a, rs, ks, b, ldb, m, n, k, more, 1, true); break;
        case 2: strips_f32(y, ldy, a, rs, ks, b, ldb, m, n, k, more, 2, true); break;
#if VECTORS > 2
        case 3: strips_f32(y, ldy, a, rs, ks, b, ldb, m, n, k, more, 3, true); break;
        case 4: strips_f32(y, ldy, a, rs, ks, b, ldb, m, n, k, more, 4, true); break;
#endif
        }
        return;
    }
    switch (v) {
    case 1: strips_f32(y, ldy, a, rs, ks, b, ldb, m, n, k, more, 1, false); break;
    case 2: strips_f32(y, ldy, a, rs, ks, b, ldb, m, n, k, more, 2, false); break;
#if VECTORS > 2
    case 3: strips_f32(y, ldy, a, rs, ks, b, ldb, m, n, k, more, 3, false); break;
    case 4: strips_f32(y, ldy, a, rs, ks, b, ldb, m, n, k, more, 4, false); break;
#endif
    }
}

/* Columns of a panel from rows of 32-bit numbers: LANES x LANES at a time. */
INLINE void pack_words(void *panel, int width, const void *w, size_t row_bytes, int rows, int k) {
    uint32_t *out = panel;
    const unsigned char *in = w;
    for (int l = 0; l < k; l += LANES) {
        vi r[LANES];
        int n = k - l < LANES ? k - l : LANES;
        UNROLLED_FOR (int j = 0; j < LANES; j++) {
            const unsigned char *at = in + (size_t)j * row_bytes + 4 * (size_t)l;
            r[j] = j >= rows ? vi_zero() : n == LANES ? vi_load(at) : vi_load_n(at, n);
        }
        vi_transpose(r);
        for (int i = 0; i < n; i++)
            vi_store(out + (size_t)(l + i) * (size_t)width, r[i]);
    }
}

static void pack_f32(float *panel, int width, const float *w, size_t ldw, int rows, int k) {
    pack_words(panel, width, w, ldw * sizeof *w, rows, k);
}

#include "kern/kern_units.h"

/* ---- ceilings: more accumulators than a product's latency, nothing from memory ---- */

enum { PEAK = 12 };

static double peak_f32(size_t loops) {
    vf sum[PEAK], factor = vf_set(0.999f);
    UNROLLED_FOR (int c = 0; c < PEAK; c++)
        sum[c] = vf_set((float)c);
    for (size_t i = 0; i < loops; i++)
        UNROLLED_FOR (int c = 0; c < PEAK; c++)
            sum[c] = vf_fma(sum[c], factor, factor);
    volatile float sink;
    UNROLLED_FOR (int c = 0; c < PEAK; c++)
        sink = vf_sum(sum[c]);
    (void)sink;
    return (double)loops * PEAK * LANES * 2;
}

static double peak_q8(size_t loops) {
    vi sum[PEAK], s = vi_set(0x01030507);
    UNROLLED_FOR (int c = 0; c < PEAK; c++)
        sum[c] = vi_set(c);
    for (size_t i = 0; i < loops; i++)
        UNROLLED_FOR (int c = 0; c < PEAK; c++)
            sum[c] = vi_levels(sum[c], sum[c], s); // or one product would do for all
    volatile int32_t sink;
    UNROLLED_FOR (int c = 0; c < PEAK; c++)
        sink = vi_sum(sum[c]);
    (void)sink;
    return (double)loops * PEAK * LANES * 8;
}

static double read_bytes(const void *data, size_t bytes) {
    const unsigned char *p = data;
    vi sum[4] = {vi_zero(), vi_zero(), vi_zero(), vi_zero()};
    for (size_t i = 0; i < bytes; i += 16 * LANES)
        UNROLLED_FOR (int c = 0; c < 4; c++)
            sum[c] = vi_add(sum[c], vi_load(p + i + (size_t)c * 4 * LANES));
    volatile int32_t sink = vi_sum(vi_add(vi_add(sum[0], sum[1]), vi_add(sum[2], sum[3])));
    (void)sink;
    return (double)bytes;
}

/* What every table made of this body holds. */
#define BODY                                                                                              \
    .lanes = LANES, .width = VECTORS * LANES, .width_q8 = Q8_VECTORS * LANES, .add = add, .scale = scale, \
    .dot = dot, .rmsnorm = rmsnorm, .rmsnorm_back = rmsnorm_back, .rope = rope, .cos_sin = cos_sin,       \
    .swiglu = swiglu, .swiglu_back = swiglu_back, .geglu = geglu, .geglu_back = geglu_back, .max = max,   \
    .exp_sum = exp_sum, .kv_put = kv_put, .kv_get = kv_get, .scores = scores, .weigh = weigh,             \
    .low_rank = low_rank, .rows_dot = rows_dot, .decode = decoders, .mul_f32 = mul_f32,                   \
    .pack_f32 = pack_f32, .quantise = quantise, .dot_q8 = dots, .open_q8 = openers, .mul_q8 = muls,       \
    .peak_f32 = peak_f32, .peak_q8 = peak_q8, .read = read_bytes
