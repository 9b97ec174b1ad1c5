/* inside.h: what the files of model/ share with one another and with nobody else. */
#ifndef MODEL_INSIDE_H
#define MODEL_INSIDE_H
#include "model/model.h"

/* One architecture. A new one is a row in config.c, as long as layer_forward computes what it needs. */
struct family {
    const char *name;
    bool neox, permuted;
    unsigned bias_needed, bias_known; /* bits 1 << LORA_Q ... */
    bool head_norm;                   /* heads of q and k are normed before RoPE */
    bool post_norm;                   /* what attention and FFN add to the residual is normed */
    bool gelu;                        /* the FFN's gate is GELU, not SiLU */
    bool scaled_embed;                /* embeddings are multiplied by sqrt(width) */
    int odd_layers;    /* of the one size whose attention is scaled by a number that its files do not hold */
    int window_period; /* of so many layers the last sees all, the others a window; 0: all see all */
};

/* Reads and checks every hyperparameter. */
plm_status config_read(struct config *c, const struct family **family, const struct gguf *g, plm_error *err);
/* Binds every tensor of the file to its place in m, or says which is missing, misshapen or unknown. */
plm_status weights_bind(plm_model *m, const struct family *family, plm_error *err);
/* Room for a copy of the matrices in the order of the int8 products, filled as they are first used. */
plm_status weights_keep_units(plm_model *m, plm_error *err);
void weights_free(plm_model *m);
int linear_in(const struct config *c, int linear);
int linear_out(const struct config *c, int linear);

enum { ADAPTER_MAX_RANK = 256 };

/* ---- one layer; T tokens, activations [T, width] ---- */

/* Where a pass leaves what it computes. A run for its answer points all at scratch of its own, with lse and
 * inv_rms NULL and x_mid the residual stream itself; a run for training keeps what backward reads. */
struct acts {
    float *norm;                       /* [T, C] scratch: a normed row */
    float *attn_inv_rms, *ffn_inv_rms; /* [T] */
    float *q_raw, *k_raw;              /* [T, H D], [T, Hkv D] as the linears gave them */
    float *q, *k, *v;          /* what attention reads. q is q_raw, and k k_raw, turned in place, but in
                                * training where heads are normed: then q and k are scratch */
    float *y, *lse;            /* [T, H D] what attention gathered, [T, H] */
    float *attn_out, *ffn_out; /* [T, C] of the last linear of each half; the second is scratch
                                * without post norms */
    float *attn_out_inv_rms, *ffn_out_inv_rms; /* [T] */
    float *x_mid;                              /* [T, C] the residual between attention and FFN */
    float *gate, *up;                          /* [T, F] */
    float *act;                                /* [T, F] scratch: the gated activation */
    float *u[LORA_LINEARS]; /* [T, rank] x A^T of each adapted linear; one scratch for all where not kept */
};

/* An adapter that a pass adds, and how strongly. */
struct use {
    const struct lora *lora;
    const void *copy; /* of its values, for few rows; NULL: none */
    float scale;
};

/* A sequence of a pass: its tokens are from .. from + n. */
struct part {
    struct kv_cache *kv; /* NULL: they attend to the pass's own keys and values */
    const struct use *use;
    size_t n_use;
    int from, n;
};

/* What is the same in all layers of one pass. */
struct pass {
    struct ops *ops;
    const plm_model *m;
    const struct batch *b;
    const int32_t *last; /* [T] last row a token may see */
    const int32_t *near; /* [T] first row it may see in a layer with a window */
    const struct part *part;
    int n_part;
    /* The last layer, where only some tokens' output is wanted: a pass of these, which are rows row[0 .. T]
     * of the whole. Of the others it then has keys and values alone. NULL: all are wanted. */
    const struct pass *asked;
    const int32_t *row;
};
static inline const struct pass *asked(const struct pass *p) {
    return p->asked ? p->asked : p;
}
/* Of rows of all tokens those that are asked for: x itself, or a copy in scratch. */
const float *pick(const struct pass *p, const float *x, int width);

struct kv_view kv_layer(const struct kv_cache *kv, const struct config *c, int l);
/* near[t] = the first row of the window that ends at last[t], within the token's own sequence */
void window_rows(int32_t *near, const struct config *c, const int32_t *first, const int32_t *last, int T);
/* Rows that tokens see in layer l begin here. */
static inline const int32_t *first_rows(const struct pass *p, int l) {
    return p->m->layer[l].windowed ? p->near : p->b->first;
}
/* Rows of keys or values as tokens see them, from those of the tokens; in scratch. */
float *rows_seen(const struct pass *p, const float *of_tokens, int width);
/* q and k as attention reads them, from what the linears gave: normed where the family does, and turned.
 * inv_rms [T, H], [T, Hkv] may be NULL. */
void heads_forward(const struct pass *p, int l, float *q, float *k, float *q_inv_rms, float *k_inv_rms,
                   const float *q_raw, const float *k_raw);
/* act = the family's gate over gate and up */
void gate_forward(struct ops *o, const struct config *c, float *act, const float *gate, const float *up,
                  int T);

/* x_out = layer l of x_in, of the tokens that are asked for; x_out NULL: only acts is wanted again, so the
 * down projection is left out. */
void layer_forward(const struct pass *p, int l, float *x_out, const float *x_in, struct acts *a);
/* a->x_mid again, from the layer's input and a->attn_out; a->norm is scratch */
void layer_middle(const struct pass *p, int l, const float *x_in, struct acts *a);
/* dx: gradient of the layer's output, of the tokens asked for, becomes that of its input, of all. grad
 * accumulates. lowest: nothing below wants a gradient, so dx is left as it is. */
void layer_backward(const struct pass *p, int l, float *dx, const float *x_in, const struct acts *a,
                    float *grad, bool lowest);
/* Scratch bytes of layer_backward for T tokens, beside that of the ops. */
size_t layer_backward_scratch(const struct config *c, int T);
int widest(const struct config *c); /* the longest row an op works on, the vocabulary left out */
#endif
