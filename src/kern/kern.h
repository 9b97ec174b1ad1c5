/* kern.h: the door of kern/. Pure float and block arithmetic: no allocation, no errors, no threads.
 * A table of functions for each instruction set; kern_ref.c says in plain C what each of them means. A fast
 * table may sum in another order and round a product and a sum at once, so its floats differ from the
 * reference by rounding; what is integer (unpack, quantise, packing) is equal. NaN in gives NaN out.
 *
 * Products walk panels: k steps of `width` numbers each, zero beyond what is valid, so that one step of the
 * weights is a few whole vectors. In bf16 a step holds two neighbours in k, in int8 four. */
#ifndef KERN_KERN_H
#define KERN_KERN_H
#include "base/base.h"
#include "kern/block.h"

/* How keys and values are kept. */
enum kv_form { KV_FORM_F32, KV_FORM_F16, KV_FORM_Q8 };
/* Of KV_FORM_Q8: value = scale * (u - 128). */
struct kv_block {
    float scale;
    uint8_t u[32];
};

/* Rows of keys or values: n of them, `stride` bytes apart. */
struct kv_rows {
    const void *data;
    size_t stride;
    int n;
    enum kv_form form;
};

/* Activation rows, quantised: value = scale * q for each 32 of them. */
struct q8_rows {
    int8_t *q;                  /* [T, k] */
    float *scale, *sum;         /* [T, k / 32]; sum = scale * (q_1 + .. + q_32) */
    int32_t *start32, *start16; /* [T, k / 32], [T, k / 16]: -(q_1 + ..), as the table's products begin */
    int k;
};

enum {
    I16_PIECE = 256,         /* numbers of an int16 product's sum */
    LEVELS_COLUMNS = 256,    /* most of pair_levels, and what it works in */
    LEVELS_ROOM = 96 * 1024, /* bytes */
};

/* A panel: width_q8 rows side by side, whole units, opened: levels as bytes, scales as floats. */
static inline size_t q8_panel_bytes(int width, int k) { return (size_t)width * (size_t)k / 4 * 5; }
/* The first k weights of a unit into the columns from `column` on. */
typedef void unit_open(void *panel, int column, const void *unit, int k);
/* y [m, n] (+)= x w^T for activation rows from `row` and their k weights from `from` on; w is a unit (n up
 * to UNIT) or a panel (n up to width_q8). */
typedef void unit_mul(float *y, size_t ldy, const struct q8_rows *x, int row, int from, const void *w, int m,
                      int n, int k, bool add);

struct kern {
    const char *name;
    bool exact;     /* the reference: always f32 activations */
    unsigned needs; /* CPU_ bits */
    int lanes;      /* numbers in a vector */
    int width;      /* numbers in a full panel's step; narrower panels have a whole number of lanes */
    int width_q8;   /* rows of an int8 panel: whole units */

    /* ---- rows of floats ---- */
    void (*add)(float *y, const float *x, size_t n); /* y += x */
    void (*scale)(float *x, float by, size_t n);
    double (*dot)(const float *a, const float *b, size_t n);
    /* y = x * gain / rms; returns 1 / rms */
    float (*rmsnorm)(float *y, const float *x, const float *gain, int n, float eps);
    void (*rmsnorm_back)(float *dx, const float *dy, const float *x, const float *gain, float inv_rms, int n);
    /* H heads of D; turns [rotary / 2] of (cos, sin) as two rows */
    void (*rope)(float *x, const float *cos, const float *sin, int H, int D, int rotary, bool neox);
    void (*cos_sin)(float *cos, float *sin, const float *freq, float pos, int n);
    void (*swiglu)(float *y, const float *gate, const float *up, size_t n);
    void (*swiglu_back)(float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                        size_t n);
    /* gelu(gate) * up, gelu in its tanh form */
    void (*geglu)(float *y, const float *gate, const float *up, size_t n);
    void (*geglu_back)(float *dgate, float *dup, const float *dy, const float *gate, const float *up,
                       size_t n);
    float (*max)(const float *x, size_t n);
    /* p = exp(x * scale - shift), returns their sum; p may be x */
    double (*exp_sum)(float *p, const float *x, float scale, float shift, size_t n);
    /* D numbers as a row of keys or values, and back; Q8 needs whole blocks. */
    void (*kv_put)(void *row, const float *x, int D, enum kv_form form);
    void (*kv_get)(float *x, const void *row, int D, enum kv_form form);
    /* s[g, j] = q_g . k_j for G queries; s has rows of lds. The sum of a pair depends on the pair alone. */
    void (*scores)(float *s, size_t lds, const float *q /* [G, D] */, int G, struct kv_rows k, int D);
    /* y[g] += sum over j of p[g, j] v_j, one after the other; rows of y are ldy apart */
    void (*weigh)(float *y, size_t ldy, const float *p, size_t ldp, int G, struct kv_rows v, int D);
    /* y [T, n] += u [T, r] B for B [r, ldb] in f16, in f32 for the reference; the sum as weigh's */
    void (*low_rank)(float *y, size_t ldy, const float *u, size_t ldu, int T, const void *B, size_t ldb,
                     int r, int n);
    /* y[i] (+)= by * (w_i . x) for rows of n, ld apart */
    void (*rows_dot)(float *y, const float *w, size_t ld, int rows, const float *x, int n, float by,
                     bool add);
    block_decode *const *decode; /* by format: weights to f32, the reference's bits */

    /* ---- products: y[m, n] (+)= a b, n at most width ---- */
    /* a[i, l] at i * rs + l * ks; b[l, j] at l * ldb + j: a panel or plain rows */
    void (*mul_f32)(float *y, size_t ldy, const float *a, size_t rs, size_t ks, const float *b, size_t ldb,
                    int m, int n, int k, bool add);
    /* One vector's worth of columns of a panel, from as many rows of k numbers; those past `rows` become 0.
     */
    void (*pack_f32)(float *panel, int width, const float *w, size_t ldw, int rows, int k);
    /* The same in bf16; a is rows of bf16 with k padded to even. NULL where the CPU has no such product. */
    void (*mul_bf16)(float *y, size_t ldy, const uint16_t *a, size_t lda, const uint16_t *panel, int width,
                     int m, int n, int k, bool add);
    void (*pack_bf16)(uint16_t *panel, int width, const float *w, size_t ldw, int rows, int k);
    void (*put_bf16)(uint16_t *y, const float *x, int n); /* n padded to even with 0 */
    void (*pair_bf16)(uint16_t *y, const float *x0, const float *x1,
                      int n); /* interleaved; x1 may be NULL: 0 */

    /* ---- int16 products, for a CPU without bf16 ones; NULL elsewhere ----
     * value = scale * q, a scale for each row or column of a piece of at most I16_PIECE numbers. */
    /* One row's piece; q is padded to even with 0. Returns the scale. */
    float (*put_i16)(int16_t *q, const float *x, int n);
    /* As pack_f32, two neighbours in k a step; scales [lanes]. */
    void (*pack_i16)(int16_t *panel, float *scales, int width, const float *w, size_t ldw, int rows, int k);
    /* A whole panel from k rows of n numbers that are its columns; scales [width]. */
    void (*pair_i16)(int16_t *panel, float *scales, int width, const float *w, size_t ldw, int n, int k);
    /* Both from the blocks of a format of integers; k and n are whole blocks of it. Columns that share their
     * blocks share a scale. pair_levels makes n / width panels, which may end with half of one; the next
     * panel and its scales stand so many numbers further on. */
    void (*pack_levels)(int16_t *panel, float *scales, int width, const unsigned char *w, size_t row_bytes,
                        int type, int rows, int k);
    void (*pair_levels)(int16_t *panels, size_t next_panel, float *scales, size_t next_scales, int width,
                        void *room, const unsigned char *w, size_t row_bytes, int type, int n, int k);
    /* y[i, j] (+)= by[i ldb] scales[j] (a_i . panel_j); panels have the full width */
    void (*mul_i16)(float *y, size_t ldy, const int16_t *a, size_t lda, const float *by, size_t ldb,
                    const int16_t *panel, const float *scales, int m, int n, int k, bool add);

    /* ---- int8 products, by format of the weights; NULL in the reference ----
     * A sum runs over groups in their order, in f32, whatever m is and wherever k is cut. */
    void (*quantise)(const struct q8_rows *to, int row, const float *x);
    unit_mul *const *dot_q8; /* few tokens, from a unit as it was packed */
    unit_open *const *open_q8;
    unit_mul *const *mul_q8; /* many tokens, from a panel */

    /* ---- ceilings: how fast registers and memory go here; each returns what it did, `loops` times over ----
     */
    double (*peak_f32)(size_t loops);               /* floating-point operations */
    double (*peak_bf16)(size_t loops);              /* the same; NULL without such products */
    double (*peak_q8)(size_t loops);                /* integer operations; NULL in the reference */
    double (*read)(const void *data, size_t bytes); /* bytes, a multiple of 256 */
};

/* gelu(x) = x sigmoid(GELU_1 x + GELU_3 x^3): 2 sqrt(2 / pi), and 0.044715 of it. */
#define GELU_1 1.5957691216f
#define GELU_3 0.0713548163f

/* The tables in order of preference, the reference last; NULL past the end. Only what this CPU can run. */
const struct kern *kern_at(int i);

#endif
