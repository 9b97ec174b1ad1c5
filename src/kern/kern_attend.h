/* kern_attend.h: attention of a few tokens: the queries that share a head of keys against rows of the cache,
 * which are read and widened once for all of them. Part of kern_body.h. */

/* Numbers i .. i + m of a row; in blocks m is always LANES. */
INLINE vf kv_load(const unsigned char *row, int i, int m, enum kv_form form) {
    if (form == KV_FORM_F32)
        return m == LANES ? vf_load((const float *)(const void *)row + i)
                          : vf_load_n((const float *)(const void *)row + i, m);
    if (form == KV_FORM_Q8) {
        const unsigned char *block = row + (size_t)(i / 32) * sizeof(struct kv_block);
        float by;
        memcpy(&by, block, sizeof by);
        return (vf_from_bytes(block + sizeof by + i % 32) - vf_set(128)) * vf_set(by);
    }
    if (m == LANES)
        return vf_from_halves(row + 2 * (size_t)i);
    uint16_t rest[LANES] = {0};
    memcpy(rest, row + 2 * (size_t)i, 2 * (size_t)m);
    return vf_from_halves(rest);
}

static void kv_put_blocks(struct kv_block *b, const float *x, int D) {
    for (; D > 0; D -= 32, x += 32, b++) {
        vi top = vi_zero(); // of the bits, so that NaN and infinity are largest
        UNROLLED_FOR (int i = 0; i < 32; i += LANES)
            top = vi_max(top, vi_magnitude(vf_load(x + i)));
        float most = bits_f32((uint32_t)vi_top(top));
        vf inverse = vf_set(most > 0 ? 127 / most : 0);
        int8_t q[32];
        UNROLLED_FOR (int i = 0; i < 32; i += LANES)
            vi_put_bytes(q + i, vi_nearest(vf_load(x + i) * inverse));
        b->scale = most / 127;
        for (int i = 0; i < 32; i++)
            b->u[i] = (uint8_t)(q[i] + 128);
    }
}

static void kv_put(void *row, const float *x, int D, enum kv_form form) {
    uint16_t *half = row;
    int i = 0;
    switch (form) {
    case KV_FORM_F32: memcpy(row, x, (size_t)D * sizeof *x); return;
    case KV_FORM_Q8: kv_put_blocks(row, x, D); return;
    case KV_FORM_F16:
        for (; i + LANES <= D; i += LANES)
            vf_to_halves(half + i, vf_load(x + i));
        for (; i < D; i++)
            half[i] = f32_to_half(x[i]);
    }
}

INLINE void kv_get_form(float *x, const void *row, int D, enum kv_form form) {
    int i = 0;
    for (; i + LANES <= D; i += LANES)
        vf_store(x + i, kv_load(row, i, LANES, form));
    if (i < D)
        vf_store_n(x + i, kv_load(row, i, D - i, form), D - i);
}

static void kv_get(float *x, const void *row, int D, enum kv_form form) {
    switch (form) {
    case KV_FORM_F32: memcpy(x, row, (size_t)D * sizeof *x); break;
    case KV_FORM_F16: kv_get_form(x, row, D, KV_FORM_F16); break;
    case KV_FORM_Q8: kv_get_form(x, row, D, KV_FORM_Q8); break;
    }
}

/* Asks for the rows that follow at a distance, while these are worked on; none past the last. */
INLINE void ask_ahead(const unsigned char *row, const unsigned char *end, size_t bytes) {
    if (READ_AHEAD > 0 && end - row > READ_AHEAD)
        for (size_t i = 0; i < bytes; i += 64)
            __builtin_prefetch(row + READ_AHEAD + i);
}

INLINE const unsigned char *end_of(struct kv_rows r) {
    return (const unsigned char *)r.data + (size_t)r.n * r.stride;
}

/* ---- scores ---- */

INLINE void score_step(vf *sum, const float *q, const unsigned char *row, size_t stride, int D, int i, int m,
                       enum kv_form form, int rows, int G) {
    UNROLLED_FOR (int j = 0; j < rows; j++) {
        vf key = kv_load(row + (size_t)j * stride, i, m, form);
        UNROLLED_FOR (int g = 0; g < G; g++) {
            const float *at = q + g * D + i;
            sum[g * rows + j] = vf_fma(m == LANES ? vf_load(at) : vf_load_n(at, m), key, sum[g * rows + j]);
        }
    }
}

/* The sums of `rows` rows with G queries: at [g * rows + j]. */
INLINE void score_tile(vf *sum, const float *q, const unsigned char *row, size_t stride, int D,
                       enum kv_form form, int rows, int G) {
    UNROLLED_FOR (int i = 0; i < rows * G; i++)
        sum[i] = vf_set(0);
    int i = 0;
    for (; i + LANES <= D; i += LANES)
        score_step(sum, q, row, stride, D, i, LANES, form, rows, G);
    if (i < D)
        score_step(sum, q, row, stride, D, i, D - i, form, rows, G);
}

INLINE void scores_few(float *s, size_t lds, const float *q, struct kv_rows k, int D, enum kv_form form,
                       int rows, int G) {
    const unsigned char *row = k.data;
    vf sum[4 * 4];
    float out[4];
    int j = 0;
    for (; j + rows <= k.n; j += rows, row += (size_t)rows * k.stride) {
        ask_ahead(row, end_of(k), (size_t)rows * k.stride);
        score_tile(sum, q, row, k.stride, D, form, rows, G);
        UNROLLED_FOR (int i = 0; i < rows * G; i += 4) {
            v4_store(out, vf_sum4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]));
            UNROLLED_FOR (int l = 0; l < 4; l += rows)
                memcpy(s + (size_t)((i + l) / rows) * lds + j, out + l, (size_t)rows * sizeof *out);
        }
    }
    for (; j < k.n; j++, row += k.stride) {
        score_tile(sum, q, row, k.stride, D, form, 1, G);
        UNROLLED_FOR (int g = 0; g < G; g++)
            s[(size_t)g * lds + (size_t)j] = vf_sum(sum[g]);
    }
}

/* y[g] += p[g] . rows for `columns` vectors, the last of `rest` numbers */
INLINE void weigh_tile(float *y, size_t ldy, const float *p, size_t ldp, const unsigned char *row,
                       struct kv_rows v, int at, int rest, enum kv_form form, int columns, int G) {
    vf sum[4 * 4];
    UNROLLED_FOR (int g = 0; g < G; g++)
        UNROLLED_FOR (int c = 0; c < columns; c++)
            sum[g * columns + c] =
                vf_load_n(y + (size_t)g * ldy + at + c * LANES, c < columns - 1 ? LANES : rest);
    for (size_t j = 0; j < (size_t)v.n; j++, row += v.stride) {
        ask_ahead(row, end_of(v), at ? 0 : v.stride);
        UNROLLED_FOR (int c = 0; c < columns; c++) {
            vf value = kv_load(row, at + c * LANES, c < columns - 1 ? LANES : rest, form);
            UNROLLED_FOR (int g = 0; g < G; g++)
                sum[g * columns + c] = vf_fma(vf_set(p[(size_t)g * ldp + j]), value, sum[g * columns + c]);
        }
    }
    UNROLLED_FOR (int g = 0; g < G; g++)
        UNROLLED_FOR (int c = 0; c < columns; c++)
            vf_store_n(y + (size_t)g * ldy + at + c * LANES, sum[g * columns + c],
                       c < columns - 1 ? LANES : rest);
}

INLINE void weigh_few(float *y, size_t ldy, const float *p, size_t ldp, struct kv_rows v, int D,
                      enum kv_form form, int columns, int G) {
    int at = 0;
    for (; D - at >= columns * LANES; at += columns * LANES)
        weigh_tile(y, ldy, p, ldp, v.data, v, at, LANES, form, columns, G);
    for (; at < D; at += LANES)
        weigh_tile(y, ldy, p, ldp, v.data, v, at, D - at < LANES ? D - at : LANES, form, 1, G);
}

/* Queries are taken 4 at most at a time: as many sums as registers hold beside what is read. */
INLINE int group_part(int G) { return G <= 4 ? G : G == 5 || G == 6 || G == 9 ? 3 : 4; }

INLINE void scores_of(float *s, size_t lds, const float *q, int G, struct kv_rows k, int D,
                      enum kv_form form) {
    for (int part; G > 0; G -= part, q += part * D, s += (size_t)part * lds) {
        part = group_part(G);
        switch (part) {
        case 1: scores_few(s, lds, q, k, D, form, 4, 1); break;
        case 2: scores_few(s, lds, q, k, D, form, 4, 2); break;
        case 3: scores_few(s, lds, q, k, D, form, 4, 3); break;
        default: scores_few(s, lds, q, k, D, form, 2, 4);
        }
    }
}

static void scores(float *s, size_t lds, const float *q, int G, struct kv_rows k, int D) {
    switch (k.form) {
    case KV_FORM_F32: scores_of(s, lds, q, G, k, D, KV_FORM_F32); break;
    case KV_FORM_F16: scores_of(s, lds, q, G, k, D, KV_FORM_F16); break;
    case KV_FORM_Q8: scores_of(s, lds, q, G, k, D, KV_FORM_Q8); break;
    }
}

INLINE void weigh_of(float *y, size_t ldy, const float *p, size_t ldp, int G, struct kv_rows v, int D,
                     enum kv_form form) {
    for (int part; G > 0; G -= part, y += (size_t)part * ldy, p += (size_t)part * ldp) {
        part = group_part(G);
        switch (part) {
        case 1: weigh_few(y, ldy, p, ldp, v, D, form, 4, 1); break;
        case 2: weigh_few(y, ldy, p, ldp, v, D, form, 4, 2); break;
        case 3: weigh_few(y, ldy, p, ldp, v, D, form, 4, 3); break;
        default: weigh_few(y, ldy, p, ldp, v, D, form, 2, 4);
        }
    }
}

static void weigh(float *y, size_t ldy, const float *p, size_t ldp, int G, struct kv_rows v, int D) {
    switch (v.form) {
    case KV_FORM_F32: weigh_of(y, ldy, p, ldp, G, v, D, KV_FORM_F32); break;
    case KV_FORM_F16: weigh_of(y, ldy, p, ldp, G, v, D, KV_FORM_F16); break;
    case KV_FORM_Q8: weigh_of(y, ldy, p, ldp, G, v, D, KV_FORM_Q8); break;
    }
}

/* Its arguments are plain, so that none is read back before all that was written earlier is. */
static void low_rank(float *y, size_t ldy, const float *u, size_t ldu, int T, const void *B, size_t ldb,
                     int r, int n) {
    const struct kv_rows rows = {B, 2 * ldb, r, KV_FORM_F16};
    weigh_of(y, ldy, u, ldu, T, rows, n, KV_FORM_F16);
}
