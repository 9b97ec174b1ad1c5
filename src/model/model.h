/* model.h: the door of model/. Configuration, bound weights, one forward for prompt, decode and
 * training, and its backward. The public plm_model_*, plm_encode, plm_chat_*, plm_adapter_* live here. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H
#include <pthread.h>
#include "lora/lora.h"
#include "token/token.h"

struct config { /* one row of the family table, filled from the file */
    char arch[32];
    int vocab, width /* C */, ffn /* F */, layers /* L */, heads /* H */, kv_heads, head_width /* D */,
        context, rotary;
    int window, window_period; /* tokens that a layer with a window sees; which layers see all. 0: all do */
    float norm_eps, rope_base, rope_stretch; /* positions are divided by it */
    float window_rope_base;                  /* of layers with a window, which are not stretched */
    float embed_scale;
    bool neox;      /* RoPE turns halves of a head, not neighbours */
    bool permuted;  /* rows of q and k stand in GGUF's order, not in PEFT's */
    bool head_norm; /* heads of q and k are normed before RoPE */
    bool post_norm; /* what attention and FFN add to the residual is normed */
    bool gelu;      /* the FFN's gate is GELU, not SiLU */
};

struct layer_weights {
    const float *attn_norm, *ffn_norm;         /* [C] */
    const float *attn_out_norm, *ffn_out_norm; /* [C]; NULL: none */
    const float *q_norm, *k_norm;              /* [D]; NULL: none */
    const float *freq;                         /* [rotary/2] radians a position, the model's */
    bool windowed;
    struct matrix linear[LORA_LINEARS]; /* q k v o gate up down */
    const float *bias[LORA_LINEARS];    /* NULL: none */
};

struct plm_model {
    struct config cfg;
    struct matrix embed, head;   /* [V, C] */
    const float *out_norm;       /* [C] */
    struct layer_weights *layer; /* [L] */
    float *freq, *window_freq;   /* [rotary/2] radians a position; NULL without windows */
    struct arena units;          /* of the matrices, where they are kept */
    struct gguf *file;
    struct vocab *vocab;
    struct chat *chat; /* NULL: none */
    const struct kern *kern;
    struct pool *pool;
    struct ops_profile *profile; /* NULL: nobody asks */
    struct lora_shape shape;
    plm_model_facts facts;
    char *name, *path, *types, *digest_cache;
    pthread_mutex_t lock; /* of digest */
    char digest[65];      /* "" until asked for */
};

struct plm_adapter {
    const struct plm_model *model; /* NULL: only described */
    struct lora *lora;
    plm_adapter_facts facts;
    struct arena room; /* of copy */
    void *copy;        /* of lora->values as op_linear_lora reads them; NULL: not yet used */
    uint64_t copied; /* lora->edits + 1 at that time */
};
/* Makes the copy that decoding reads, where there is none or values were edited since. */
plm_status adapter_prepare(const plm_adapter *a, plm_error *err);

enum { BATCH_ROWS = 2 };

/* What one forward works on. Tokens are packed: token t sees rows first[t] .. at+t of its keys and values. */
struct batch {
    int T;
    const int32_t *ids;   /* [T] */
    const int32_t *pos;   /* [T] position within its own sequence, for RoPE */
    const int32_t *first; /* [T] first row of kv it may see */
    /* Training, where examples that begin alike share tokens: a row of kv is then not a token, but row i is
     * that of token seen[i], and the last row that token t may see is last[t]. seen NULL: rows are tokens. */
    const int32_t *seen; /* [rows], at most BATCH_ROWS * the tokens that the trace has room for */
    const int32_t *last; /* [T] */
    int rows;
    const float *const *below; /* [T] training: rows of model_below for the tokens; NULL: computed here */
};

/* The cache of one session, keys and values: [L][kv_heads][context] rows of a head. */
struct kv_cache {
    struct arena rows; /* of both; pages that no token has reached are not resident */
    void *k, *v;
    int context, n; /* rows held */
    enum cache_form form;
    size_t row; /* bytes */
};
plm_status kv_open(struct kv_cache *kv, const plm_model *m, int context, enum cache_form form,
                   plm_error *err) PLM_MUST_CHECK;
enum cache_form kv_usual(const plm_model *m); /* f16, or f32 with exact kernels */
void kv_close(struct kv_cache *kv);

/* Scratch of a run, sized once for at most T tokens a pass. */
struct runner;
plm_status runner_open(struct runner **out, const plm_model *m, int max_tokens, plm_error *err);
void runner_close(struct runner *r);
/* Runs b through the model, appending to kv at row kv->n, with adapters. x_out [T, C]: final normed
 * hidden states (borrowed until the next call). Inference precision. */
plm_status model_forward(struct runner *r, const struct batch *b, struct kv_cache *kv, const plm_lora *uses,
                         size_t n_uses, const float **x_out, plm_error *err);
/* One sequence's part of a step: its next n tokens go behind the rows of its cache, with its adapters. */
struct lane {
    struct kv_cache *kv;
    const plm_lora *uses;
    size_t n_uses;
    int n;
    int want; /* of the last so many tokens the hidden state is wanted */
};
enum { MAX_LANES = 64 };
/* The same for several sequences at once, ids in the order of their lanes, at most max_tokens in all. What a
 * lane gets does not depend on the others, to the bit. x_out: [sum of want, C]. */
plm_status model_step(struct runner *r, const struct lane *lanes, int n, const int32_t *ids,
                      const float **x_out, plm_error *err);
/* logits [n, V] of rows of x [n, C] */
void model_logits(struct runner *r, float *logits, const float *x, int n);
/* nll[i] of target[i] at row i of x [n, C], without keeping logits */
void model_nll(struct runner *r, double *nll, const float *x, const int32_t *target, int n);

/* ---- training: the same forward with a trace, then its backward ---- */
struct trace;
/* memory: ceiling of the trace and its scratch; chooses how many layers are recomputed in backward.
 * PLM_ELIMIT says what the least is. */
plm_status trace_open(struct trace **out, const plm_model *m, int max_tokens, const struct lora *l,
                      uint64_t memory, plm_error *err);
void trace_close(struct trace *t);
uint64_t trace_bytes(const struct trace *t);
int trace_recomputed(const struct trace *t);
/* Layers below the first that the adapter changes: what they give for a sequence stays the same. */
int trace_frozen(const struct trace *t);
/* A sequence by itself, and what those layers give for it. */
struct below {
    const int32_t *ids; /* [n] */
    int n;
    float *x; /* [n, C] out */
};
enum { BELOW_MOST = 64 };
/* n <= BELOW_MOST of them at once, together at most max_tokens. None depends on the others, to the bit. */
plm_status model_below(struct trace *t, const struct below *s, int n, plm_error *err);
/* Forward over packed examples, loss at targets only.
 * at [n]: token index whose output predicts target[i]; weight [n]: d step_loss / d nll[i] (NULL: no backward
 * follows). nll [n] out. grad [l->parameters] accumulates (+=), laid out as l->values. */
plm_status model_train(struct trace *t, const struct batch *b, const int32_t *at, const int32_t *target,
                       const float *weight, int n, const struct lora *l, float *grad, double *nll,
                       plm_error *err);
#endif
