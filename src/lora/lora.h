/* lora.h: the door of lora/. An adapter's low-rank pairs, gradient slots' sizes, and files. It knows ranks
 * and matrices, not models; model/adapter.c gives it the shapes. y = W x + scale * alpha / rank * B (A x). */
#ifndef LORA_LORA_H
#define LORA_LORA_H
#include "modelfile/modelfile.h"

enum { LORA_MAX_RANK = 1024, LORA_MAX_NEW_RANK = 256, LORA_MAX_LAYERS = 1024, LORA_MAX_META = 256 };
enum { LORA_Q, LORA_K, LORA_V, LORA_O, LORA_GATE, LORA_UP, LORA_DOWN, LORA_LINEARS };
extern const char *const lora_gguf_name[LORA_LINEARS]; /* "attn_q", ... */
extern const char *const lora_peft_name[LORA_LINEARS]; /* "self_attn.q_proj", ... */

/* What an adapter must fit. */
struct lora_shape {
    int layers;
    int in[LORA_LINEARS], out[LORA_LINEARS];
    const char *arch;
    /* heads whose rows GGUF permutes against PEFT in q and k (llama: heads, kv_heads; else 0) */
    int permute_q, permute_k;
};

struct lora_pair {
    float *A; /* [rank, in]; NULL: this linear is not adapted */
    float *B; /* [out, rank], rows in GGUF's order */
    int rank, in, out;
};

struct lora {
    int layers, rank;       /* rank: the largest of the pairs */
    float alpha;            /* 0: the scale is used as it is */
    unsigned targets;       /* bits 1 << LORA_Q ... */
    struct lora_pair *pair; /* [layers][LORA_LINEARS] */
    size_t parameters;
    float *values;  /* every A and B in one block, layer by layer, A before B: [parameters] */
    uint64_t edits; /* grows when values change: copies made of them are then old */
    char arch[32];
    char base_sha256[65]; /* "": unknown */
    char *name;           /* general.name, may be NULL */
    struct lora_meta {
        char *key, *value;
    } * meta; /* "plm." strings, sorted by key */
    size_t n_meta;
};

/* scale of a pair as used: user_scale * alpha / rank, or user_scale where alpha is 0 */
float lora_scale(const struct lora *l, const struct lora_pair *p, float user_scale);
/* Pairs in the layers from `first` on. */
plm_status lora_new(struct lora **out, const struct lora_shape *s, int first, int rank, float alpha,
                    unsigned targets, uint64_t seed, plm_error *err);
int lora_first_layer(const struct lora *l); /* that has a pair; l->layers: none has */
plm_status lora_copy(struct lora **out, const struct lora *l, plm_error *err);
void lora_free(struct lora *l);
/* Keys start with "plm."; "plm.base.sha256" is the field above. Replaces; value NULL removes. */
plm_status lora_meta_set(struct lora *l, const char *key, const char *value, plm_error *err);
const char *lora_meta_get(const struct lora *l, const char *key);
/* A GGUF file or PEFT folder. s NULL: only for description (no shape check; PEFT rows stay as they are). */
plm_status lora_load(struct lora **out, const struct lora_shape *s, const char *path, plm_error *err);
/* The same for bytes in memory, borrowed for the call; name is for messages. */
plm_status lora_parse_gguf(struct lora **out, const struct lora_shape *s, const void *data, size_t size,
                           const char *name, plm_error *err);
plm_status lora_parse_peft(struct lora **out, const struct lora_shape *s, const char *config,
                           size_t config_len, const void *tensors, size_t tensors_len, const char *name,
                           plm_error *err);
plm_status lora_save_gguf(const struct lora *l, const char *path, plm_error *err);
plm_status lora_save_peft(const struct lora *l, const struct lora_shape *s, const char *dir, plm_error *err);
#endif
