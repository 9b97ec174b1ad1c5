/* build.h: how lora/ makes an adapter out of matrices that some file holds. A reader finds out which linear
 * each tensor belongs to; building checks the pairs against each other and against the model's shape, lays
 * out the block of values, and converts. It refuses half pairs and values that are not finite. */
#ifndef LORA_BUILD_H
#define LORA_BUILD_H
#include "lora/lora.h"

enum { HALF_A, HALF_B };

struct lora_source {  /* [rows, cols] as the file has them; cols are contiguous; any alignment */
    const void *data; /* NULL: not there */
    int type;         /* DT_F32, DT_F16 or DT_BF16 */
    uint64_t rows, cols;
};

struct lora_build {
    int layers;
    struct lora_source (*half)[2]; /* [layers * LORA_LINEARS] A and B */
    float *factor;                 /* [layers * LORA_LINEARS] B is multiplied by it; 1 from build_open */
    const char *file;              /* for messages */
};

/* Which matrix a tensor is. */
struct lora_place {
    int layer, linear, half;
};

/* Fields of an adapter with room for pairs, all absent. */
plm_status lora_alloc(struct lora **out, int layers, plm_error *err);
/* Lays out the values by the rank, in and out of each pair (rank 0: none) and points A and B into them. */
plm_status lora_lay_out(struct lora *l, plm_error *err);

plm_status build_open(struct lora_build *b, int layers, const char *file, plm_error *err);
void build_close(struct lora_build *b);
plm_status build_put(struct lora_build *b, struct lora_place at, const struct lora_source *s, plm_error *err);
/* s NULL: no shape to fit. peft: rows of q and k are brought into GGUF's order where s says so. */
plm_status build_finish(struct lora **out, const struct lora_build *b, const struct lora_shape *s, bool peft,
                        plm_error *err);

/* "12." at the start of *name, below LORA_MAX_LAYERS: *name moves behind it. -1: no such thing. */
int layer_number(struct str *name);
/* The row of GGUF's order that PEFT's row becomes: the two halves of each head interleave. */
int permuted_row(int row, int out, int heads);
int lora_permute_heads(const struct lora_shape *s, int linear); /* 0: rows keep their order */
plm_status lora_check_alpha(double alpha, const char *file, plm_error *err);
bool lora_sha256_valid(struct str hex);

plm_status lora_load_gguf(struct lora **out, const struct lora_shape *s, const char *path, plm_error *err);
plm_status lora_load_peft(struct lora **out, const struct lora_shape *s, const char *dir, plm_error *err);
#endif
