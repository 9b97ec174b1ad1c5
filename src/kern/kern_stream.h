/* kern_stream.h: rows of quantised weights, read from the file as they are, times one row of activations:
 * what a token costs. Part of kern_body.h. One row after the other, as they lie: side by side they would
 * share the activations, but a CPU that sees several streams stops fetching any of them early. */

enum { CHUNK = 32 * LANES }; /* weights of a row at a time: all offsets within them are constants */

/* A format, known to the compiler. */
struct stream {
    vector_scales *scales;
    vector_levels *levels; /* NULL: blocks of nibbles */
    size_t bytes;          /* of a chunk */
    int group;
    bool wide;
    struct nibbles nibbles;
};

/* Of n groups from group `at` on: adds the offsets' part of the sum, and returns what products of levels go
 * by. */
INLINE vf scale_groups(vf *total, const unsigned char *w, const float *xs, const float *sums, int at, int n,
                       struct stream f) {
    vf scale, offset, sum = n == LANES ? vf_load(sums) : vf_load_n(sums, n);
    vf x_scale = f.group == 16 ? vf_pairs(xs, (n + 1) / 2) : n == LANES ? vf_load(xs) : vf_load_n(xs, n);
    f.scales(&scale, &offset, w, at, n);
    *total = vf_fma(offset, sum, *total);
    return scale * x_scale;
}

/* `parts` times 32 weights of a chunk; xs and the sums are those of these parts. */
INLINE void dot_parts(vf *total, const unsigned char *w, const int8_t *q, const float *xs, const float *sums,
                      int parts, struct stream f) {
    const int each = LANES * f.group / 32; // parts for which a vector holds the scales
    UNROLLED_FOR (int first = 0; first < LANES; first += each, sums += LANES, xs += each) {
        int left = parts - first < each ? parts - first : each;
        if (left <= 0)
            return;
        vf by = scale_groups(total, w, xs, sums, first * 32 / f.group, left * 32 / f.group, f);
        UNROLLED_FOR (int v = 0; v < f.group / 4; v++) {
            int part = first + v * (LANES / 8);
            if (part >= parts)
                return;
            vi exact = vi_dot(vi_zero(), f.levels(w, part, part + 1 < parts), vi_load(q + 32 * part), f.wide);
            *total = vf_fma(vi_float(exact), vf_spread(by, f.group, v), *total);
        }
    }
}

/* The same of blocks of nibbles. The two of a byte belong to one block, so twice as many blocks meet in a
 * vector before its integers become floats. */
INLINE void dot_nibbles(vf *total, const unsigned char *w, const int8_t *q, const float *xs,
                        const float *sums, int parts, struct stream f) {
    vf by = scale_groups(total, w, xs, sums, 0, parts, f);
    UNROLLED_FOR (int v = 0; v < 4; v++) {
        int part = v * (LANES / 4), left = parts - part;
        if (left <= 0)
            return;
        vi a = vi_load(q + 32 * part), b = left > LANES / 8 ? vi_load(q + 32 * part + 4 * LANES) : vi_zero();
        vi low, high;
        vi_nibbles(&low, &high, w, part, left, f.nibbles);
        vi exact = vi_dot(vi_dot(vi_zero(), low, vi_firsts(a, b), false), high, vi_seconds(a, b), false);
        *total = vf_fma(vi_float(exact), vf_spread(by, 16, v), *total);
    }
}

INLINE void dot_chunk(vf *total, const unsigned char *w, const int8_t *q, const float *xs, const float *sums,
                      int parts, struct stream f) {
    if (f.levels)
        dot_parts(total, w, q, xs, sums, parts, f);
    else
        dot_nibbles(total, w, q, xs, sums, parts, f);
}

INLINE float dot_row(const unsigned char *w, const struct q8_rows *x, int row, struct stream f) {
    const size_t groups32 = (size_t)x->k / 32;
    const int8_t *q = x->q + (size_t)row * x->ld;
    const float *xs = x->scale + (size_t)row * groups32;
    const float *sums =
        f.group == 32 ? x->sum32 + (size_t)row * groups32 : x->sum16 + 2 * (size_t)row * groups32;
    vf total = vf_set(0);
    int left = x->k / 32;
    for (; left >= LANES; left -= LANES, w += f.bytes, q += CHUNK, xs += LANES, sums += CHUNK / f.group)
        dot_chunk(&total, w, q, xs, sums, LANES, f);
    if (left)
        dot_chunk(&total, w, q, xs, sums, left, f);
    return vf_sum(total);
}

#define STREAM(format, block, type, ...)                                                                   \
    static void format##_dot(float *y, const void *w, size_t row_bytes, int rows, const struct q8_rows *x, \
                             int row) {                                                                    \
        const struct stream f = {.scales = vf_##format##_scales,                                           \
                                 .bytes = CHUNK / block * sizeof(struct format),                           \
                                 .group = block_group(type),                                               \
                                 .wide = block_wide(type),                                                 \
                                 __VA_ARGS__};                                                             \
        for (int i = 0; i < rows; i++)                                                                     \
            y[i] = dot_row((const unsigned char *)w + (size_t)i * row_bytes, x, row, f);                   \
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
