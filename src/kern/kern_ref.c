/* kern_ref.c: what every kernel means, in plain C. Sums run in the order of the index in the type written
 * here; nothing is contracted. The reference computes with f32 activations only, so it has no bf16 or int8
 * products. */
#include <math.h>

#include "kern/isa.h"

enum { LANES = 8, WIDTH = 16 };

static void add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void scale(float *x, float by, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] *= by;
}

static double dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static float rmsnorm(float *y, const float *x, const float *gain, int n, float eps) {
    float inv_rms = (float)(1 / sqrt(dot(x, x, (size_t)n) / n + (double)eps));
    for (int i = 0; i < n; i++)
        y[i] = x[i] * inv_rms * gain[i];
    return inv_rms;
}

/* With z = x / rms: dx = (dy gain - z mean(dy gain z)) / rms */
static void rmsnorm_back(float *dx, const float *dy, const float *x, const float *gain, float inv_rms,
                         int n) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)(dy[i] * gain[i]) * (double)x[i];
    float mean = (float)(sum * (double)inv_rms * (double)inv_rms / n);
    for (int i = 0; i < n; i++)
        dx[i] += inv_rms * (dy[i] * gain[i] - x[i] * mean);
}

static void rope(float *x, const float *cosine, const float *sine, int H, int D, int rotary, bool neox) {
    int half = rotary / 2, step = neox ? 1 : 2, other = neox ? half : 1;
    for (int h = 0; h < H; h++, x += D)
        for (int i = 0; i < half; i++) {
            float *a = x + i * step, *b = a + other;
            float a0 = *a, b0 = *b;
            *a = a0 * cosine[i] - b0 * sine[i];
            *b = a0 * sine[i] + b0 * cosine[i];
        }
}

static void cos_sin(float *cosine, float *sine, const float *freq, float pos, int n) {
    for (int i = 0; i < n; i++) {
        float angle = pos * freq[i];
        cosine[i] = cosf(angle);
        sine[i] = sinf(angle);
    }
}

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static void swiglu(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

static void swiglu_back(float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                        size_t n) {
    for (size_t i = 0; i < n; i++) {
        float s = sigmoid(gate[i]), silu = gate[i] * s, d = dy[i], u = up[i];
        dup[i] = d * silu;
        dgate[i] = d * u * (s + silu * (1 - s));
    }
}

/* 0.5 g (1 + tanh(c (g + a g^3))) is g sigmoid(z) with z = 2c (g + a g^3). */
static void geglu(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float g = gate[i];
        y[i] = g * sigmoid(g * (GELU_1 + GELU_3 * g * g)) * up[i];
    }
}

static void geglu_back(float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                       size_t n) {
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], s = sigmoid(g * (GELU_1 + GELU_3 * g * g)), gelu = g * s, d = dy[i], u = up[i];
        dup[i] = d * gelu;
        dgate[i] = d * u * (s + gelu * (1 - s) * (GELU_1 + 3 * GELU_3 * g * g));
    }
}

static float max(const float *x, size_t n) {
    float best = x[0];
    for (size_t i = 1; i < n; i++)
        if (x[i] > best)
            best = x[i];
    return best;
}

static double exp_sum(float *p, const float *x, float by, float shift, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        p[i] = expf(x[i] * by - shift);
        sum += (double)p[i];
    }
    return sum;
}

static void kv_put(void *row, const float *x, int D, enum kv_form form) {
    if (form == KV_FORM_F32)
        memcpy(row, x, (size_t)D * sizeof *x);
    for (int i = 0; form == KV_FORM_F16 && i < D; i++)
        ((uint16_t *)row)[i] = f32_to_half(x[i]);
    struct kv_block *b = row;
    for (int i = 0; form == KV_FORM_Q8 && i < D; i += 32, b++) {
        float most = 0;
        for (int j = 0; j < 32; j++)
            most = fabsf(x[i + j]) <= most ? most : fabsf(x[i + j]); // NaN comes through
        float inverse = most > 0 ? 127 / most : 0;
        b->scale = most / 127;
        for (int j = 0; j < 32; j++) {
            float level = nearbyintf(x[i + j] * inverse);
            b->u[j] = (uint8_t)(128 + (int)(level >= -127 && level <= 127 ? level : 0));
        }
    }
}

static float kv_at(const void *row, int i, enum kv_form form) {
    const struct kv_block *b = (const struct kv_block *)row + i / 32;
    return form == KV_FORM_F32   ? ((const float *)row)[i]
           : form == KV_FORM_F16 ? half_to_f32(((const uint16_t *)row)[i])
                                 : b->scale * (float)(b->u[i % 32] - 128);
}

static void kv_get(float *x, const void *row, int D, enum kv_form form) {
    for (int i = 0; i < D; i++)
        x[i] = kv_at(row, i, form);
}

static const void *kv_row(struct kv_rows rows, int j) {
    return (const unsigned char *)rows.data + (size_t)j * rows.stride;
}

static void scores(float *s, size_t lds, const float *q, int G, struct kv_rows k, int D) {
    for (int g = 0; g < G; g++, s += lds, q += D)
        for (int j = 0; j < k.n; j++) {
            s[j] = 0;
            for (int i = 0; i < D; i++)
                s[j] += q[i] * kv_at(kv_row(k, j), i, k.form);
        }
}

static void weigh(float *y, size_t ldy, const float *p, size_t ldp, int G, struct kv_rows v, int D) {
    for (int g = 0; g < G; g++, y += ldy, p += ldp)
        for (int j = 0; j < v.n; j++)
            for (int i = 0; i < D; i++)
                y[i] += p[j] * kv_at(kv_row(v, j), i, v.form);
}

static void low_rank(float *y, size_t ldy, const float *u, size_t ldu, int T, const void *B, size_t ldb,
                     int r, int n) {
    weigh(y, ldy, u, ldu, T, (struct kv_rows){B, ldb * sizeof(float), r, KV_FORM_F32}, n);
}

static void rows_dot(float *y, const float *w, size_t ld, int rows, const float *x, int n, float by,
                     bool more) {
    for (int i = 0; i < rows; i++) {
        float sum = 0;
        for (int l = 0; l < n; l++)
            sum += w[(size_t)i * ld + (size_t)l] * x[l];
        y[i] = more ? y[i] + by * sum : by * sum;
    }
}

static void mul_f32(float *y, size_t ldy, const float *a, size_t rs, size_t ks, const float *b, size_t ldb,
                    int m, int n, int k, bool more) {
    for (int i = 0; i < m; i++, y += ldy, a += rs)
        for (int j = 0; j < n; j += LANES) {
            float sum[LANES] = {0};
            int lanes = n - j < LANES ? n - j : LANES;
            const float *step = b + j;
            if (lanes == LANES)
                for (size_t l = 0; l < (size_t)k; l++, step += ldb)
                    for (int c = 0; c < LANES; c++)
                        sum[c] += a[l * ks] * step[c];
            else
                for (size_t l = 0; l < (size_t)k; l++, step += ldb)
                    for (int c = 0; c < lanes; c++)
                        sum[c] += a[l * ks] * step[c];
            for (int c = 0; c < lanes; c++)
                y[j + c] = more ? y[j + c] + sum[c] : sum[c];
        }
}

static void pack_f32(float *panel, int width, const float *w, size_t ldw, int rows, int k) {
    for (size_t l = 0; l < (size_t)k; l++, panel += width)
        for (int j = 0; j < LANES; j++)
            panel[j] = j < rows ? w[(size_t)j * ldw + l] : 0;
}

/* The result is stored where the compiler must believe that somebody reads it. */
static double peak_f32(size_t loops) {
    float sum[4 * LANES] = {0};
    volatile float factor = 0.999f, sink;
    float f = factor;
    for (size_t i = 0; i < loops; i++)
        for (int c = 0; c < 4 * LANES; c++)
            sum[c] = sum[c] * f + f;
    for (int c = 0; c < 4 * LANES; c++)
        sink = sum[c];
    (void)sink;
    return (double)loops * 4 * LANES * 2;
}

static double read_bytes(const void *data, size_t bytes) {
    const unsigned char *p = data;
    uint64_t sum[4] = {0}, word;
    for (size_t i = 0; i < bytes; i += 32)
        for (size_t c = 0; c < 4; c++) {
            memcpy(&word, p + i + 8 * c, 8);
            sum[c] += word;
        }
    volatile uint64_t sink = sum[0] + sum[1] + sum[2] + sum[3];
    (void)sink;
    return (double)bytes;
}

const struct kern *kern_ref(void) {
    static const struct kern table = {
        .name = "ref",
        .exact = true,
        .lanes = LANES,
        .width = WIDTH,
        .add = add,
        .scale = scale,
        .dot = dot,
        .rmsnorm = rmsnorm,
        .rmsnorm_back = rmsnorm_back,
        .rope = rope,
        .cos_sin = cos_sin,
        .swiglu = swiglu,
        .swiglu_back = swiglu_back,
        .geglu = geglu,
        .geglu_back = geglu_back,
        .max = max,
        .exp_sum = exp_sum,
        .kv_put = kv_put,
        .kv_get = kv_get,
        .scores = scores,
        .weigh = weigh,
        .low_rank = low_rank,
        .rows_dot = rows_dot,
        .decode = block_decoders,
        .mul_f32 = mul_f32,
        .pack_f32 = pack_f32,
        .peak_f32 = peak_f32,
        .read = read_bytes,
    };
    return &table;
}
