/* tensor.h: the door of tensor/. A weight is a dtype, a shape and a pointer into the mapped file;
 * ops thread kernels over rows. */
#ifndef TENSOR_TENSOR_H
#define TENSOR_TENSOR_H
#include "base/base.h"

/* GGUF's own numbers. */
enum dtype {
    DT_F32 = 0,
    DT_F16 = 1,
    DT_Q4_0 = 2,
    DT_Q4_1 = 3,
    DT_Q5_0 = 6,
    DT_Q5_1 = 7,
    DT_Q8_0 = 8,
    DT_Q4_K = 12,
    DT_Q5_K = 13,
    DT_Q6_K = 14,
    DT_BF16 = 30,
    DT_LIMIT = 64,
};

struct dtype_info {
    const char *name; /* "Q4_1"; NULL: a number GGUF does not use */
    int block, bytes; /* weights a block, bytes a block; 0: known by name and size only if block > 0 */
    bool computes;    /* kernels exist */
    /* Reference conversions of n weights, n a multiple of block. NULL where not supported. */
    void (*to_f32)(float *out, const void *in, size_t n);
    void (*from_f32)(void *out, const float *in, size_t n); /* bit-equal to ggml's reference */
};
/* NULL for numbers GGUF does not have. Types we can size but not compute have computes false. */
const struct dtype_info *dtype_of(int type);
/* Bytes of n weights; false when n is not whole blocks or it overflows. */
bool dtype_bytes(int type, uint64_t n, uint64_t *bytes);

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);
float bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f); /* nearest even */

/* A matrix once more, in the order that int8 products read it: 16 rows side by side. Packed when first
 * wanted, 16 rows at a time, in whatever region of a pool wants them; so all users of a matrix share one
 * pool. */
struct units {
    unsigned char *data, *ready; /* a flag for each 16 rows */
    _Atomic int left;            /* not packed yet */
    bool mapped;                 /* the rows are in a mapped file, whose pages may go when all are packed */
};

/* A linear layer's weight: y = W x. Row-major, rows of `in` weights. */
struct matrix {
    const void *data;
    enum dtype type;
    int out, in;
    size_t row_bytes;
    struct units *units; /* NULL: packed anew, a piece at a time, each time */
    int place;           /* where a profile counts it: 0 the head, 1 q k v, 2 o, 3 gate up, 4 down */
};
enum { PLACES = 5 };
struct matrix matrix_of(const void *data, enum dtype type, int out, int in);
/* Gives w its units, units_need bytes of a; nothing for formats of floats. What is written at once comes
 * apart from the room that is written as it is wanted, so that many matrices can have all of the former side
 * by side: one page of room touched may be a large one. */
size_t units_need(const struct matrix *w);
void units_book(struct matrix *w, struct arena *a, bool mapped);
void units_room(struct matrix *w, struct arena *a);

/* ---- ops: what they run on ---- */

struct kern; /* the table of kernels: kern/kern.h */

enum precision {
    PREC_EXACT, /* f32 activations: what --cpu ref means */
    PREC_INT8,  /* activations quantised a block of 32 at a time: inference */
    PREC_HALF,  /* sixteen bits for activations and gradients in the products: training */
};

/* Where time goes, for whoever asks: an op adds to the entry of its kind. */
enum op_kind {
    OP_EMBED,
    OP_NORM,
    OP_NORM_BACK,
    OP_LINEAR, /* and the other places */
    OP_LINEAR_BACK = OP_LINEAR + PLACES,
    OP_LINEAR_LAST = OP_LINEAR_BACK + PLACES - 1,
    OP_ROPE,
    OP_ATTENTION,
    OP_ATTENTION_BACK,
    OP_GATE,
    OP_GATE_BACK,
    OP_SUM,
    OP_KEEP,
    OP_LORA,
    OP_LORA_BACK,
    OP_LOSS,
    OP_DECODE,   /* frozen weights into panels: a part of the linear ops and of the loss, counted there too */
    OP_QUANTISE, /* activations for int8 products: a part of the linear ops, counted there too */
    OP_KINDS,
};
extern const char *const op_name[OP_KINDS];
struct op_cost {
    uint64_t calls;
    double seconds;
    double operations; /* of floating-point numbers or integers, where they are what costs; else 0 */
    double bytes;      /* of the weights, read once a call */
};
struct ops_profile {
    struct op_cost cost[OP_KINDS];
};

/* One owner at a time. scratch holds per-call temporaries; ops take and release with marks. */
struct ops {
    const struct kern *kern;
    struct pool *pool;
    struct arena *scratch;
    enum precision precision;
    struct ops_profile *profile; /* NULL: nobody asks */
};
/* Kernels by name (NULL or "auto": the best this CPU has); PLM_ENOTSUP names what is there. */
plm_status ops_kernels(const struct kern **out, const char *cpu, plm_error *err);
const char *ops_kernel_name(const struct kern *k);
bool ops_kernel_exact(const struct kern *k); /* the reference table: precision is always PREC_EXACT */
/* Scratch bytes that any op needs for up to T tokens with widths up to `width`, heads etc. */
size_t ops_scratch(int T, int width, int threads);
/* Beside it: so many parts of op_linear_lora, of T r numbers in all. */
size_t ops_lora_scratch(size_t parts, size_t numbers);
/* What training needs of them, at most: the ops of a layer with pairs of this rank, and op_cross_entropy. */
size_t ops_layer_scratch(int T, int width, int rank, int heads, int threads);
size_t ops_loss_scratch(int T, int width, int vocab, int threads);

/* ---- forward; T tokens, row-major [T, width] ---- */

/* y[t] = W[ids[t]] * scale */
void op_embed(struct ops *o, float *y /* [T, C] */, const struct matrix *w, const int32_t *ids, int T,
              float scale);
/* y = x / rms(x) * gain; inv_rms [T] may be NULL; y may be x */
void op_rmsnorm(struct ops *o, float *y, float *inv_rms, const float *x, const float *gain /* [C] */, int T,
                int C, float eps);
/* y = x W^T + bias; bias [out] may be NULL; ldy: floats from a row of y to the next */
void op_linear(struct ops *o, float *y, int ldy, const float *x, const struct matrix *w, const float *bias,
               int T);
/* several matrices over the same x (q, k, v or gate, up): activations are prepared once */
void op_linear_n(struct ops *o, float *const *y, const float *x, const struct matrix *const *w,
                 const float *const *bias, int n, int T);
/* rotate pairs of each head by pos: interleaved pairs (llama) or halves (neox). inverse: backward */
void op_rope(struct ops *o, float *x /* [T, H, D] */, const int32_t *pos, int T, int H, int D, int rotary,
             const float *freq /* [rotary/2] radians a position */, bool neox, bool inverse);

/* How keys and values are kept: f32 (training, and exact kernels), f16, or bytes with a scale for each 32. */
enum cache_form { CACHE_F32, CACHE_F16, CACHE_Q8 };
size_t cache_row_bytes(enum cache_form form, int D); /* of one head of D; 0: D is no multiple of 32 */

/* Keys and values that attention reads: n rows of Hkv heads. */
struct kv_view {
    void *k, *v;
    enum cache_form form;
    int n;
    size_t row, head; /* bytes from a row to the next, and from a head to the next; 0: [n, Hkv, D] */
};
/* copies T rows of k, v [T, Hkv, D] to rows at .. at+T of the view, converting */
void op_kv_put(struct ops *o, const struct kv_view *kv, int at, const float *k, const float *v, int T,
               int Hkv, int D);
/* Tokens from .. from + n of a pass read one sequence's keys and values. */
struct attention_lane {
    struct kv_view kv;
    int from, n;
};
enum { ATTENTION_FEW = 8 }; /* a lane of at most so many tokens gets what each alone would */
/* y[t] = softmax(q k^T / sqrt(D)) v over rows first[t] .. last[t] inclusive of the token's lane. lse [T, H]
 * (log-sum-exp) may be NULL; needed for backward. A lane's results don't depend on the others. */
void op_attention_lanes(struct ops *o, float *y /* [T, H, D] */, float *lse, const float *q,
                        const struct attention_lane *lanes, int n, const int32_t *first, const int32_t *last,
                        int H, int Hkv, int D);
/* The same for T tokens of one lane. */
void op_attention(struct ops *o, float *y /* [T, H, D] */, float *lse, const float *q,
                  const struct kv_view *kv, const int32_t *first, const int32_t *last, int T, int H, int Hkv,
                  int D);
/* y = silu(gate) * up; y = gelu(gate) * up, gelu in its tanh form */
void op_swiglu(struct ops *o, float *y, const float *gate, const float *up, int T, int F);
void op_geglu(struct ops *o, float *y, const float *gate, const float *up, int T, int F);
void op_add(struct ops *o, float *y, const float *x, size_t n); /* y += x */
/* Activations in f16 until backward wants them; what is too large becomes the largest. */
void op_to_f16(struct ops *o, uint16_t *y, const float *x, size_t n);
void op_from_f16(struct ops *o, float *y, const uint16_t *x, size_t n);
void op_round_f16(struct ops *o, float *x, size_t n); /* there and back */
/* u = x A^T; y += scale u B^T. A [r, in], B [out, r], u [T, r] is kept for backward */
void op_lora(struct ops *o, float *y, int ldy, float *u, const float *x, const float *A, const float *B,
             float scale, int T, int in, int r, int out);
/* The same for few rows of inference, from copies made for it in f16 (f32 with exact kernels): A as it is,
 * and B in the order in which outputs are computed. */
struct lora_part {
    const void *A, *B;
    float scale;
    int r, linear; /* linear: which of the layers it belongs to */
    int from, T;   /* rows of x and y */
};
enum { LORA_FEW = 8 }; /* rows of a part at most */
/* Parts beside the layers of one operation; A of all have rows of `in`. */
struct lora_parts {
    const struct lora_part *part;
    int n, in;
};
/* op_linear_n, and for each part, in order, y += scale B A x in its rows. next: the parts of the operation
 * after it, which are asked for meanwhile. */
void op_linear_lora(struct ops *o, float *const *y, const float *x, const struct matrix *const *w,
                    const float *const *bias, int n, int T, const struct lora_parts *parts,
                    const struct lora_parts *next);
enum cache_form lora_copy_form(const struct kern *k);
/* Copies A [r, in] and B [out, r]; as many numbers as they hold. */
void lora_copy_pair(const struct kern *k, void *A, void *B, const float *from_A, const float *from_B, int in,
                    int r, int out);

/* ---- backward, in the order of the forward; d* accumulate (+=) only where said ---- */

/* dx (+)= dy W   (dy [T, out], dx [T, in]) */
void op_linear_back(struct ops *o, float *dx, const float *dy, const struct matrix *w, int T, bool add);
/* dx += backward of rmsnorm; gains are frozen */
void op_rmsnorm_back(struct ops *o, float *dx, const float *dy, const float *x, const float *gain,
                     const float *inv_rms, int T, int C);
/* dq = ..., dk += ..., dv += ... ; kv f32; rows as in forward; deterministic for any number of threads */
void op_attention_back(struct ops *o, float *dq, float *dk, float *dv, const float *dy, const float *y,
                       const float *lse, const float *q, const struct kv_view *kv, const int32_t *first,
                       const int32_t *last, int T, int H, int Hkv, int D);
/* dgate, dup = ... */
void op_swiglu_back(struct ops *o, float *dgate, float *dup, const float *dy, const float *gate,
                    const float *up, int T, int F);
void op_geglu_back(struct ops *o, float *dgate, float *dup, const float *dy, const float *gate,
                   const float *up, int T, int F);
/* du = scale dy B; dA += du^T x; dB += scale dy^T u; dx += du A (dx may be NULL) */
void op_lora_back(struct ops *o, float *dx, float *dA, float *dB, const float *dy, const float *u,
                  const float *x, const float *A, const float *B, float scale, int T, int in, int r, int out);
/* nll[t] = -ln softmax(x W^T)[target[t]]; weight[t] dnll/dx added to dx where dx is not NULL. Logits are
 * computed in chunks and never kept. x [T, C], w [V, C] */
void op_cross_entropy(struct ops *o, double *nll, float *dx, const float *x, const struct matrix *w,
                      const int32_t *target, const float *weight, int T);

/* ---- what this machine can do, measured now, on all threads of the pool ---- */

struct ceilings {
    double f32, bf16, int8; /* operations a second in registers; 0: no such products */
    double read;            /* bytes a second from memory */
};
/* About half a second. */
plm_status ops_ceilings(struct ceilings *out, const struct kern *k, struct pool *pool, plm_error *err);

/* quantise rows for files: PLM_ENOTSUP where from_f32 is missing */
plm_status matrix_quantise(void *out, int type, const float *in, size_t rows, size_t cols, plm_error *err);
void matrix_row_f32(float *out, const struct matrix *w, int row); /* dequantise one row */
#endif
