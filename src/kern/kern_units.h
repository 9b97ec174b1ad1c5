/* kern_units.h: int8 products with quantised weights, UNIT rows side by side. Part of kern_body.h.
 * A step is four neighbouring weights of each row, a word a lane. Few tokens take steps straight from units
 * as they are packed, which is as fast as memory for one; many share panels, where a unit is opened once:
 * levels as bytes, scales as floats. Both are layouts of one tile, so a token's sums don't depend on how many
 * there are. */

/* A layout, known to the compiler. Each function gives a vector of rows, the c-th of the block's. */
struct layout {
    vi (*level)(const unsigned char *block, int step, int c);
    vf (*scale)(const unsigned char *block, int group, int c);  /* of 32 weights */
    vf (*offset)(const unsigned char *block, int group, int c); /* NULL: zero points instead */
    vi (*halves)(const unsigned char *block, int group, int c); /* whole factors of each 16; NULL: none */
    int bytes, weights;                                         /* of a block of all rows */
    int hold;                                                   /* steps whose products 16 bits hold */
    int shift;                                                  /* 2^shift is the levels' zero point */
    bool wide;                                                  /* levels are signed bytes */
    bool plain;                                                 /* a word gives levels by itself */
};

enum {
    UNIT_VECTORS = UNIT / LANES,
    PANEL = Q8_VECTORS * LANES, /* rows of a panel */
    WIDEST = UNIT_VECTORS > Q8_VECTORS ? UNIT_VECTORS : Q8_VECTORS,
};

/* ---- units ---- */

INLINE vi word_of(const unsigned char *block, int halves, int i, int c) {
    return vi_load(block + 2 * UNIT * halves + 4 * (i * UNIT + c * LANES));
}

INLINE vf half_of(const unsigned char *block, int i, int c) {
    return vf_from_halves(block + 2 * (i * UNIT + c * LANES));
}

INLINE vi bits_at(vi words, int from, uint32_t mask) {
    return vi_and(from > 0   ? vi_down(words, from)
                  : from < 0 ? vi_up(words, -from)
                             : words,
                  vi_set((int32_t)mask));
}

INLINE vi nibbles_of(vi words, int upper) { return bits_at(words, 4 * upper, 0x0f0f0f0f); }

/* Bit i of each byte as 16. */
INLINE vi fifths_of(vi words, int i) { return bits_at(words, i - 4, 0x10101010); }

INLINE vf scale_of(const unsigned char *block, int group, int c) {
    (void)group;
    return half_of(block, 0, c);
}

INLINE vf minimum_of(const unsigned char *block, int group, int c) {
    (void)group;
    return half_of(block, 1, c);
}

INLINE vi q4_0_level(const unsigned char *block, int step, int c) {
    return nibbles_of(word_of(block, 1, step % 4, c), step / 4);
}

INLINE vi q4_1_level(const unsigned char *block, int step, int c) {
    return nibbles_of(word_of(block, 2, step % 4, c), step / 4);
}

INLINE vi q5_0_level(const unsigned char *block, int step, int c) {
    return vi_or(nibbles_of(word_of(block, 1, 1 + step % 4, c), step / 4),
                 fifths_of(word_of(block, 1, 0, c), step));
}

INLINE vi q5_1_level(const unsigned char *block, int step, int c) {
    return vi_or(nibbles_of(word_of(block, 2, 1 + step % 4, c), step / 4),
                 fifths_of(word_of(block, 2, 0, c), step));
}

INLINE vi q8_0_level(const unsigned char *block, int step, int c) { return word_of(block, 1, step, c); }

/* Q4_K and Q5_K: the words of block_scale_min come first. */
INLINE vi six_bits(const unsigned char *block, int group, int c, int minimum) {
    int at = 8 * (group % 4);
    vi upper = word_of(block, 2, minimum, c);
    if (group < 4)
        return bits_at(upper, at, 63);
    return vi_or(bits_at(word_of(block, 2, 2, c), at + 4 * minimum, 15), bits_at(upper, at + 2, 48));
}

INLINE vf k_scale(const unsigned char *block, int group, int c) {
    return vi_float(six_bits(block, group, c, 0)) * half_of(block, 0, c);
}

INLINE vf k_offset(const unsigned char *block, int group, int c) {
    return vi_float(six_bits(block, group, c, 1)) * (vf_set(0) - half_of(block, 1, c));
}

INLINE vi q4_k_level(const unsigned char *block, int step, int c) {
    return nibbles_of(word_of(block, 2, 3 + step / 16 * 8 + step % 8, c), step / 8 % 2);
}

INLINE vi q5_k_level(const unsigned char *block, int step, int c) {
    return vi_or(nibbles_of(word_of(block, 2, 11 + step / 16 * 8 + step % 8, c), step / 8 % 2),
                 fifths_of(word_of(block, 2, 3 + step % 8, c), step / 8));
}

INLINE vi q6_k_halves(const unsigned char *block, int group, int c) {
    return vi_two_factors(word_of(block, 1, 48 + group / 2, c), group % 2);
}

INLINE vi q6_k_level(const unsigned char *block, int step, int c) {
    int half = step / 32, quarter = step / 8 % 4, at = step % 8;
    vi low = word_of(block, 1, half * 16 + quarter % 2 * 8 + at, c),
       high = word_of(block, 1, 32 + half * 8 + at, c);
    return vi_or(nibbles_of(low, quarter / 2), bits_at(high, 2 * quarter - 4, 0x30303030));
}

#define LAYOUT(format, count, ...)                 \
    static const struct layout format##_layout = { \
        .level = format##_level, .bytes = UNIT * sizeof(struct format), .weights = count, __VA_ARGS__}
LAYOUT(q4_0, QK, .scale = scale_of, .hold = 8, .shift = 3, .plain = true);
LAYOUT(q4_1, QK, .scale = scale_of, .offset = minimum_of, .hold = 8, .plain = true);
LAYOUT(q5_0, QK, .scale = scale_of, .hold = 8, .shift = 4);
LAYOUT(q5_1, QK, .scale = scale_of, .offset = minimum_of, .hold = 4);
LAYOUT(q8_0, QK, .scale = scale_of, .wide = true, .plain = true);
LAYOUT(q4_k, QK_K, .scale = k_scale, .offset = k_offset, .hold = 8);
LAYOUT(q5_k, QK_K, .scale = k_scale, .offset = k_offset, .hold = 4);
LAYOUT(q6_k, QK_K, .scale = scale_of, .halves = q6_k_halves, .hold = 4, .shift = 5);

/* ---- panels: a block is 32 weights: a row of scales, perhaps one of offsets or of halves' factors; then
 * levels ---- */

INLINE vf opened_scale(const unsigned char *block, int group, int c) {
    (void)group;
    return vf_load((const float *)(const void *)block + c * LANES);
}

INLINE vf opened_offset(const unsigned char *block, int group, int c) {
    (void)group;
    return vf_load((const float *)(const void *)block + PANEL + c * LANES);
}

INLINE vi opened_halves(const unsigned char *block, int group, int c) {
    (void)group;
    return vi_load(block + 4 * (PANEL + c * LANES));
}

INLINE vi level_after_one(const unsigned char *block, int step, int c) {
    return vi_load(block + 4 * ((1 + step) * PANEL + c * LANES));
}

INLINE vi level_after_two(const unsigned char *block, int step, int c) {
    return vi_load(block + 4 * ((2 + step) * PANEL + c * LANES));
}

INLINE int heads_of(struct layout f) { return f.offset || f.halves ? 2 : 1; }

INLINE struct layout opened(struct layout f) {
    f.scale = opened_scale;
    f.level = heads_of(f) == 2 ? level_after_two : level_after_one;
    f.bytes = 4 * PANEL * (heads_of(f) + 8);
    f.offset = f.offset ? opened_offset : NULL;
    f.halves = f.halves ? opened_halves : NULL;
    f.weights = 32;
    return f;
}

/* The vectors c of one block of 32 weights, from part `part` of a unit's block. */
INLINE void open_part(float *panel, const unsigned char *unit, int part, int c, struct layout f) {
    vf_store(panel, f.scale(unit, part, c));
    if (f.offset)
        vf_store(panel + PANEL, f.offset(unit, part, c));
    if (f.halves)
        vi_store(panel + PANEL, f.halves(unit, part, c));
    UNROLLED_FOR (int s = 0; s < 8; s++)
        vi_store(panel + (heads_of(f) + s) * PANEL, f.level(unit, 8 * part + s, c));
}

INLINE void open_unit(void *panel, int column, const unsigned char *unit, int k, struct layout f) {
    float *to = (float *)panel + column;
    for (; k > 0; k -= f.weights, unit += f.bytes)
        UNROLLED_FOR (int part = 0; part < f.weights / 32; part++, to += PANEL * (heads_of(f) + 8))
            UNROLLED_FOR (int c = 0; c < UNIT_VECTORS; c++)
                open_part(to + c * LANES, unit, part, c, f);
}

/* ---- products ---- */

/* Where m rows of activations are; each array goes on by its ld from row to row. */
struct q8_at {
    const int8_t *q;
    const float *scale, *sum;
    const int32_t *start;
    size_t ld, ld32, ld_start;
};

/* What sums of row i begin with, half of a group where these have factors. */
INLINE vi start_of(struct q8_at x, int i, int half, struct layout f) {
    int32_t below = x.start[(size_t)i * x.ld_start + (size_t)half];
    return f.wide ? vi_bytes_start(below) : vi_start(below, f.shift);
}

/* sum = the integer products of group g of a block: m rows of activations with v vectors of weights. */
INLINE void tile_group(vi sum[Q8_STRIP][WIDEST], struct q8_at x, const unsigned char *w, int g, int m, int v,
                       struct layout f) {
    vi part[Q8_STRIP][WIDEST];
    UNROLLED_FOR (int s = 0; s < 8; s++) {
        bool starts = f.halves ? s % 4 == 0 : s == 0 && (f.wide || f.shift),
             first = !f.wide && s % f.hold == 0 && !starts;
        vi u[WIDEST];
        UNROLLED_FOR (int c = 0; c < v; c++)
            u[c] = f.level(w, 8 * g + s, c);
        UNROLLED_FOR (int i = 0; i < m; i++) {
            int32_t four;
            memcpy(&four, x.q + (size_t)i * x.ld + 4 * s, 4);
            vi all = vi_set(four);
            if (starts)
                UNROLLED_FOR (int c = 0; c < v; c++)
                    part[i][c] = start_of(x, i, s / 4, f);
            UNROLLED_FOR (int c = 0; c < v; c++)
                if (first)
                    part[i][c] = vi_first_levels(u[c], all);
                else if (v == 1)
                    part[i][c] = f.wide ? vi_bytes(part[i][c], u[c], all) : vi_levels(part[i][c], u[c], all);
                else if (c % 2 && f.wide)
                    vi_bytes_two(&part[i][c - 1], &u[c - 1], all);
                else if (c % 2)
                    vi_levels_two(&part[i][c - 1], &u[c - 1], all);
        }
        if (!f.wide && (s + 1) % f.hold == 0)
            UNROLLED_FOR (int c = 0; c < v; c++) {
                vi factor = f.halves ? vi_factor(f.halves(w, g, c), s / 4) : vi_zero();
                UNROLLED_FOR (int i = 0; i < m; i++) {
                    vi whole = f.halves ? vi_times(part[i][c], factor) : vi_total(part[i][c]);
                    sum[i][c] = s + 1 == f.hold ? whole : vi_add(sum[i][c], whole);
                }
            }
    }
    if (f.wide)
        UNROLLED_FOR (int i = 0; i < m; i++)
            UNROLLED_FOR (int c = 0; c < v; c++)
                sum[i][c] = part[i][c];
}

INLINE void tile_q8(float *y, size_t ldy, struct q8_at x, const unsigned char *w, int n, int k, bool more,
                    int m, int v, bool ahead, struct layout f) {
    vf total[Q8_STRIP][WIDEST];
    UNROLLED_FOR (int i = 0; i < m; i++)
        UNROLLED_FOR (int c = 0; c < v; c++)
            total[i][c] = !more                    ? vf_set(0)
                          : n - c * LANES >= LANES ? vf_load(y + (size_t)i * ldy + c * LANES)
                          : n > c * LANES          ? vf_load_n(y + (size_t)i * ldy + c * LANES, n - c * LANES)
                                                   : vf_set(0);
    const int share = f.bytes / (f.weights / 32); // of a group
    for (; k > 0; k -= f.weights, w += f.bytes)
        UNROLLED_FOR (int g = 0; g < f.weights / 32; g++) {
            __asm__("" : "+r"(w)); // or words that groups share would be kept, and spilled
            if (ahead)
                UNROLLED_FOR (int i = 0; i < share; i += 64)
                    __builtin_prefetch(w + READ_AHEAD + g * share + i);
            vi sum[Q8_STRIP][WIDEST];
            tile_group(sum, x, w, g, m, v, f);
            UNROLLED_FOR (int c = 0; c < v; c++) {
                vf scales = f.scale(w, g, c), offsets = f.offset ? f.offset(w, g, c) : vf_set(0);
                UNROLLED_FOR (int i = 0; i < m; i++) {
                    vf by = scales * vf_set(x.scale[(size_t)i * x.ld32]);
                    total[i][c] = vf_fma(vi_float(sum[i][c]), by, total[i][c]);
                    if (f.offset)
                        total[i][c] = vf_fma(offsets, vf_set(x.sum[(size_t)i * x.ld32]), total[i][c]);
                }
            }
            x.q += 32;
            x.scale++;
            x.sum++;
            x.start += f.halves ? 2 : 1;
        }
    UNROLLED_FOR (int i = 0; i < m; i++)
        UNROLLED_FOR (int c = 0; c < v; c++) {
            float *at = y + (size_t)i * ldy + c * LANES;
            if (n - c * LANES >= LANES)
                vf_store(at, total[i][c]);
            else if (n > c * LANES)
                vf_store_n(at, total[i][c], n - c * LANES);
        }
}

INLINE struct q8_at rows_from(const struct q8_rows *x, int row, int from, struct layout f) {
    size_t ld = (size_t)x->k, ld32 = ld / 32, r = (size_t)row, at = r * ld32 + (size_t)from / 32;
    return (struct q8_at){
        .q = x->q + r * ld + from,
        .scale = x->scale + at,
        .sum = x->sum + at,
        .start = f.halves ? x->start16 + 2 * at : x->start32 + at,
        .ld = ld,
        .ld32 = ld32,
        .ld_start = f.halves ? 2 * ld32 : ld32,
    };
}

/* m rows with v vectors of weights. */
INLINE void strips_q8(float *y, size_t ldy, const struct q8_rows *x, int row, int from,
                      const unsigned char *w, int m, int n, int k, bool more, int v, bool ahead,
                      struct layout f) {
    for (; m >= Q8_STRIP; m -= Q8_STRIP, row += Q8_STRIP, y += Q8_STRIP * ldy)
        tile_q8(y, ldy, rows_from(x, row, from, f), w, n, k, more, Q8_STRIP, v, ahead, f);
    for (; m >= 2; m -= 2, row += 2, y += 2 * ldy)
        tile_q8(y, ldy, rows_from(x, row, from, f), w, n, k, more, 2, v, ahead, f);
    if (m)
        tile_q8(y, ldy, rows_from(x, row, from, f), w, n, k, more, 1, v, ahead, f);
}

static unit_open *const openers[BLOCK_TYPES];
static unit_mul *const muls[BLOCK_TYPES];

/* m rows with a unit that is opened, a piece at a time that stays near, while the next is asked for: what
 * several strips need. */
static void opened_dot(float *y, size_t ldy, const struct q8_rows *x, int row, int from,
                       const unsigned char *w, int m, int n, int k, bool more, int type) {
    enum { PIECE = QK_K };
    float panel[PANEL * (2 + 8) * (PIECE / 32)];
    const struct block_fields f = block_fields[type];
    const size_t bytes = (size_t)(PIECE / f.weights * f.bytes) * UNIT;
    for (int at = 0; at < k; at += PIECE, w += bytes) {
        int part = k - at < PIECE ? k - at : PIECE;
        openers[type](panel, 0, w, part);
        for (size_t i = 0; READ_AHEAD && i < bytes; i += 64)
            __builtin_prefetch(w + bytes + i);
        muls[type](y, ldy, x, row, from + at, panel, m, n, part, more || at > 0);
    }
}

#define PACKED(format, type)                                                                    \
    static void format##_dot(float *y, size_t ldy, const struct q8_rows *x, int row, int from,  \
                             const void *w, int m, int n, int k, bool more) {                   \
        const struct layout f = format##_layout;                                                \
        if (m <= Q8_FEW || f.plain)                                                             \
            strips_q8(y, ldy, x, row, from, w, m, n, k, more, UNIT_VECTORS, READ_AHEAD > 0, f); \
        else                                                                                    \
            opened_dot(y, ldy, x, row, from, w, m, n, k, more, type);                           \
    }                                                                                           \
    static void format##_open(void *panel, int column, const void *unit, int k) {               \
        const struct layout f = format##_layout;                                                \
        open_unit(panel, column, unit, k, f);                                                   \
    }
#define PRODUCTS(format, type)                                                                 \
    PACKED(format, type)                                                                       \
    static void format##_mul(float *y, size_t ldy, const struct q8_rows *x, int row, int from, \
                             const void *w, int m, int n, int k, bool more) {                  \
        const struct layout f = format##_layout;                                               \
        strips_q8(y, ldy, x, row, from, w, m, n, k, more, Q8_VECTORS, false, opened(f));       \
    }
PRODUCTS(q4_0, BLOCK_Q4_0)
PRODUCTS(q4_1, BLOCK_Q4_1)
PRODUCTS(q5_0, BLOCK_Q5_0)
PRODUCTS(q5_1, BLOCK_Q5_1)
PRODUCTS(q8_0, BLOCK_Q8_0)
PACKED(q4_k, BLOCK_Q4_K)
PACKED(q5_k, BLOCK_Q5_K)
PRODUCTS(q6_k, BLOCK_Q6_K)

static unit_mul *const dots[BLOCK_TYPES] = {
    [BLOCK_Q4_0] = q4_0_dot, [BLOCK_Q4_1] = q4_1_dot, [BLOCK_Q5_0] = q5_0_dot, [BLOCK_Q5_1] = q5_1_dot,
    [BLOCK_Q8_0] = q8_0_dot, [BLOCK_Q4_K] = q4_k_dot, [BLOCK_Q5_K] = q5_k_dot, [BLOCK_Q6_K] = q6_k_dot,
};
static unit_open *const openers[BLOCK_TYPES] = {
    [BLOCK_Q4_0] = q4_0_open, [BLOCK_Q4_1] = q4_1_open, [BLOCK_Q5_0] = q5_0_open, [BLOCK_Q5_1] = q5_1_open,
    [BLOCK_Q8_0] = q8_0_open, [BLOCK_Q4_K] = q4_k_open, [BLOCK_Q5_K] = q5_k_open, [BLOCK_Q6_K] = q6_k_open,
};
/* Formats that differ in how they are packed alone share their products. */
static unit_mul *const muls[BLOCK_TYPES] = {
    [BLOCK_Q4_0] = q4_0_mul, [BLOCK_Q4_1] = q4_1_mul, [BLOCK_Q5_0] = q5_0_mul, [BLOCK_Q5_1] = q5_1_mul,
    [BLOCK_Q8_0] = q8_0_mul, [BLOCK_Q4_K] = q4_1_mul, [BLOCK_Q5_K] = q5_1_mul, [BLOCK_Q6_K] = q6_k_mul,
};

static void quantise(const struct q8_rows *to, int row, const float *x) {
    size_t groups = (size_t)to->k / 32, at = (size_t)row * groups;
    int8_t *q = to->q + (size_t)row * (size_t)to->k;
    for (size_t g = at; g < at + groups; g++, q += 32, x += 32) {
        vi top = vi_zero(); // of the bits, so that NaN and infinity are largest
        UNROLLED_FOR (int i = 0; i < 32; i += LANES)
            top = vi_max(top, vi_magnitude(vf_load(x + i)));
        float most = bits_f32((uint32_t)vi_top(top)), d = most / 127;
        vf inverse = vf_set(most > 0 ? 127 / most : 0);
        vi half[2] = {vi_zero(), vi_zero()};
        UNROLLED_FOR (int i = 0; i < 32; i += LANES) {
            vi n = vi_nearest(vf_load(x + i) * inverse);
            vi_put_bytes(q + i, n);
            half[i / 16] = vi_add(half[i / 16], n);
        }
        int32_t first, second, all;
        to->start16[2 * g] = vi_start_of(half[0], &first);
        to->start16[2 * g + 1] = vi_start_of(half[1], &second);
        to->start32[g] = vi_start_of(vi_add(half[0], half[1]), &all);
        to->scale[g] = d;
        to->sum[g] = d * (float)all;
    }
}
