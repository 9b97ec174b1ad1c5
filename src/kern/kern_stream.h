/* kern_stream.h: rows of quantised weights, read from the file as they are, times one row of activations:
 * what a token costs. Part of kern_body.h. */

enum {
    CHUNK = 32 * LANES, /* weights of a row at a time: all offsets within them are constants */
    AHEAD = 4096,       /* bytes asked for early: a CPU doesn't look past a page's end by itself */
};

/* A format, known to the compiler. */
struct stream {
    vector_scales *scales;
    vector_levels *levels; /* NULL: blocks of nibbles */
    size_t bytes;          /* of a chunk */
    int group;
    bool wide;
    struct nibbles nibbles;
};

/* Scales and offsets of n groups of m rows from group `at` on: the offsets' part of the sums, and what the
 * products of levels go by. */
INLINE void scale_rows(vf *by, vf *total, const unsigned char *const *w, const float *xs, const float *sums,
                       int at, int n, int m, struct stream f) {
    vf sum = n == LANES ? vf_load(sums) : vf_load_n(sums, n);
    vf x_scales = f.group == 16 ? vf_pairs(xs, (n + 1) / 2) : n == LANES ? vf_load(xs) : vf_load_n(xs, n);
    UNROLLED_FOR (int i = 0; i < m; i++) {
        vf offset;
        f.scales(&by[i], &offset, w[i], at, n);
        by[i] = by[i] * x_scales;
        total[i] = vf_fma(offset, sum, total[i]);
    }
}

/* `parts` times 32 weights of a chunk of m rows; xs and the sums are those of these parts. */
INLINE void dot_parts(vf *total, const unsigned char *const *w, const int8_t *q, const float *xs,
                      const float *sums, int parts, int m, struct stream f) {
    const int each = LANES * f.group / 32; // parts for which a vector holds the scales
    UNROLLED_FOR (int first = 0; first < LANES; first += each, sums += LANES, xs += each) {
        int left = parts - first < each ? parts - first : each;
        if (left <= 0)
            return;
        vf by[ROWS];
        scale_rows(by, total, w, xs, sums, first * 32 / f.group, left * 32 / f.group, m, f);
        UNROLLED_FOR (int v = 0; v < f.group / 4; v++) {
            int part = first + v * (LANES / 8);
            if (part >= parts)
                return;
            vi four = vi_load(q + 32 * part);
            UNROLLED_FOR (int i = 0; i < m; i++) {
                vi exact = vi_dot(vi_zero(), f.levels(w[i], part, part + 1 < parts), four, f.wide);
                total[i] = vf_fma(vi_float(exact), vf_spread(by[i], f.group, v), total[i]);
            }
        }
    }
}

/* The same of blocks of nibbles. The two of a byte belong to one block, so twice as many blocks meet in a
 * vector before its integers become floats. */
INLINE void dot_nibbles(vf *total, const unsigned char *const *w, const int8_t *q, const float *xs,
                        const float *sums, int parts, int m, struct stream f) {
    vf by[ROWS];
    scale_rows(by, total, w, xs, sums, 0, parts, m, f);
    UNROLLED_FOR (int v = 0; v < 4; v++) {
        int part = v * (LANES / 4), left = parts - part;
        if (left <= 0)
            return;
        vi a = vi_load(q + 32 * part), b = left > LANES / 8 ? vi_load(q + 32 * part + 4 * LANES) : vi_zero();
        vi first = vi_firsts(a, b), second = vi_seconds(a, b);
        UNROLLED_FOR (int i = 0; i < m; i++) {
            vi low, high;
            vi_nibbles(&low, &high, w[i], part, left, f.nibbles);
            vi exact = vi_dot(vi_dot(vi_zero(), low, first, false), high, second, false);
            total[i] = vf_fma(vi_float(exact), vf_spread(by[i], 16, v), total[i]);
        }
    }
}

INLINE void dot_chunk(vf *total, const unsigned char *const *w, const int8_t *q, const float *xs,
                      const float *sums, int parts, int m, struct stream f) {
    if (f.levels)
        dot_parts(total, w, q, xs, sums, parts, m, f);
    else
        dot_nibbles(total, w, q, xs, sums, parts, m, f);
}

/* m rows of weights, ROWS or one. Several at once: their sums don't wait for each other. */
INLINE void dot_few(float *y, const unsigned char *rows, size_t row_bytes, const struct q8_rows *x, int row,
                    int m, struct stream f) {
    const size_t groups32 = (size_t)x->k / 32;
    const int8_t *q = x->q + (size_t)row * x->ld;
    const float *xs = x->scale + (size_t)row * groups32;
    const float *sums =
        f.group == 32 ? x->sum32 + (size_t)row * groups32 : x->sum16 + 2 * (size_t)row * groups32;
    const unsigned char *w[ROWS];
    vf total[ROWS];
    for (size_t b = 0; b < (size_t)m * row_bytes; b += 64)
        __builtin_prefetch(rows + AHEAD + b);
    UNROLLED_FOR (int i = 0; i < m; i++) {
        w[i] = rows + (size_t)i * row_bytes;
        total[i] = vf_set(0);
    }
    int left = x->k / 32;
    for (; left >= LANES; left -= LANES, q += CHUNK, xs += LANES, sums += CHUNK / f.group) {
        dot_chunk(total, w, q, xs, sums, LANES, m, f);
        UNROLLED_FOR (int i = 0; i < m; i++)
            w[i] += f.bytes;
    }
    if (left)
        dot_chunk(total, w, q, xs, sums, left, m, f);
    if (m == ROWS)
        _mm_storeu_ps(y, vf_sum4(total[0], total[1], total[2], total[3]));
    else
        y[0] = vf_sum(total[0]);
}

INLINE void dot_rows(float *y, const unsigned char *w, size_t row_bytes, int rows, const struct q8_rows *x,
                     int row, struct stream f) {
    for (; rows >= ROWS; rows -= ROWS, y += ROWS, w += ROWS * row_bytes)
        dot_few(y, w, row_bytes, x, row, ROWS, f);
    for (; rows > 0; rows--, y++, w += row_bytes)
        dot_few(y, w, row_bytes, x, row, 1, f);
}

#define STREAM(format, block, type, ...)                                                                   \
    static void format##_dot(float *y, const void *w, size_t row_bytes, int rows, const struct q8_rows *x, \
                             int row) {                                                                    \
        const struct stream f = {.scales = vf_##format##_scales,                                           \
                                 .bytes = CHUNK / block * sizeof(struct format),                           \
                                 .group = block_group(type),                                               \
                                 .wide = block_wide(type),                                                 \
                                 __VA_ARGS__};                                                             \
        dot_rows(y, w, row_bytes, rows, x, row, f);                                                        \
    }
STREAM(q4_0, QK, BLOCK_Q4_0, .nibbles = {sizeof(struct q4_0), offsetof(struct q4_0, qs), 0})
STREAM(q4_1, QK, BLOCK_Q4_1, .nibbles = {sizeof(struct q4_1), offsetof(struct q4_1, qs), 0})
STREAM(q5_0, QK, BLOCK_Q5_0,
       .nibbles = {sizeof(struct q5_0), offsetof(struct q5_0, qs), offsetof(struct q5_0, qh)})
STREAM(q5_1, QK, BLOCK_Q5_1,
       .nibbles = {sizeof(struct q5_1), offsetof(struct q5_1, qs), offsetof(struct q5_1, qh)})
STREAM(q8_0, QK, BLOCK_Q8_0, .levels = vi_q8_0_levels)
STREAM(q4_k, QK_K, BLOCK_Q4_K, .levels = vi_q4_k_levels)
STREAM(q5_k, QK_K, BLOCK_Q5_K, .levels = vi_q5_k_levels)
STREAM(q6_k, QK_K, BLOCK_Q6_K, .levels = vi_q6_k_levels)

static block_dot *const dots[BLOCK_TYPES] = {
    [BLOCK_Q4_0] = q4_0_dot, [BLOCK_Q4_1] = q4_1_dot, [BLOCK_Q5_0] = q5_0_dot, [BLOCK_Q5_1] = q5_1_dot,
    [BLOCK_Q8_0] = q8_0_dot, [BLOCK_Q4_K] = q4_k_dot, [BLOCK_Q5_K] = q5_k_dot, [BLOCK_Q6_K] = q6_k_dot,
};
