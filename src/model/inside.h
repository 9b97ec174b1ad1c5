/* inside.h: what the files of model/ share with one another and with nobody else. */
#ifndef MODEL_INSIDE_H
#define MODEL_INSIDE_H
#include "model/model.h"

/* One architecture. A new one is a row in config.c, as long as layer_forward computes what it needs. */
struct family {
    const char *name;
    bool neox, permuted;
    unsigned bias_needed, bias_known; /* bits 1 << LORA_Q ... */
};

/* Reads and checks every hyperparameter. */
plm_status config_read(struct config *c, const struct family **family, const struct gguf *g, plm_error *err);
/* Binds every tensor of the file to its place in m, or says which is missing, misshapen or unknown. */
plm_status weights_bind(plm_model *m, const struct family *family, plm_error *err);
void weights_free(plm_model *m);
int linear_in(const struct config *c, int linear);
int linear_out(const struct config *c, int linear);

enum { ADAPTER_MAX_RANK = 256 };

/* ---- one layer; T tokens, activations [T, width] ---- */

/* Where a pass leaves what it computes. A run for its answer points all at scratch of its own, with lse and
 * inv_rms NULL and x_mid the residual stream itself; a run for training keeps what backward reads. */
struct acts {
    float *norm;                       /* [T, C] scratch: a normed residual */
    float *attn_inv_rms, *ffn_inv_rms; /* [T] */
    float *q, *k, *v;                  /* [T, H D], [T, Hkv D], after RoPE */
    float *y, *lse;                    /* [T, H D] what attention gathered, [T, H] */
    float *x_mid;                      /* [T, C] the residual between attention and FFN */
    float *gate, *up;                  /* [T, F] */
    float *act;                        /* [T, F] scratch: silu(gate) * up */
    float *out;                        /* [T, C] scratch: what a half adds to the residual */
    float *u[LORA_LINEARS]; /* [T, rank] x A^T of each adapted linear; one scratch for all where not kept */
};

/* An adapter that a pass adds, and how strongly. */
struct use {
    const struct lora *lora;
    float scale;
};

/* What is the same in all layers of one pass. */
struct pass {
    struct ops *ops;
    const plm_model *m;
    const struct batch *b;
    const int32_t *last; /* [T] last row a token may see */
    const struct use *use;
    size_t n_use;
    struct kv_cache *kv; /* NULL: the pass attends to its own keys and values */
};

/* x_out = layer l of x_in; x_out NULL: only acts is wanted again, so the down projection is left out. */
void layer_forward(const struct pass *p, int l, float *x_out, const float *x_in, struct acts *a);
/* dx: gradient of the layer's output becomes that of its input. grad accumulates. lowest: nothing below
 * wants a gradient, so dx is left as it is. */
void layer_backward(const struct pass *p, int l, float *dx, const float *x_in, const struct acts *a,
                    float *grad, bool lowest);
/* Scratch bytes of layer_backward for T tokens, beside that of the ops. */
size_t layer_backward_scratch(const struct config *c, int T);
int widest(const struct config *c); /* the longest row an op works on, the vocabulary left out */
#endif
