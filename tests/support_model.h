/* support_model.h: what tests of model/ share: a folder of tiny models, a GGUF copied with one thing changed,
 * adapters full of numbers, and an oracle that computes the model in plain doubles. */
#ifndef TESTS_SUPPORT_MODEL_H
#define TESTS_SUPPORT_MODEL_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "model/model.h"
#include "tiny_model.h"

/* A path in a folder of this process, removed at the end of it. The text is static until 16 calls later. */
const char *scratch_path(const char *name);
/* cmocka: asserts PLM_OK and shows the sentence otherwise. */
void assert_ok(plm_status st, const plm_error *err);
plm_model *open_tiny(const struct tiny_model *spec, const char *cpu, int threads);

/* One change to a copy of a GGUF file. */
struct change {
    const char *drop;        /* tensor to leave out */
    const char *rename, *to; /* tensor that gets another name */
    const char *swap_dims;   /* matrix whose shape is written the other way round */
    const char *retype;      /* F32 tensor that is said to be I32 */
    const char *poison;      /* F32 tensor whose second value becomes NaN */
    const char *key;         /* key that is set */
    enum { CHANGE_NONE, CHANGE_U32, CHANGE_F32, CHANGE_STRING, CHANGE_ARRAY, CHANGE_DROP } kind;
    uint32_t u32;
    float f32;
    const char *string;
};
void copy_changed(const char *to, const char *from, const struct change *c);

/* A pair at every linear of targets, A and B both random, so that every gradient is there. */
plm_adapter *random_adapter(const plm_model *m, int rank, unsigned targets, uint64_t seed);

/* ids [n] that a seed gives */
void random_ids(int32_t *ids, int n, int vocab, uint64_t seed);

/* nll [n - 1] and, where wanted, logits [n, V], of one sequence by the definition, in double. */
void oracle(const plm_model *m, const struct lora *l, float scale, const int32_t *ids, int n, double *nll,
            double *logits);

/* Everything of ids through model_forward, in passes of at most `chunk` tokens; logits [n, V]. */
void run_logits(const plm_model *m, const plm_lora *use, size_t n_use, const int32_t *ids, int n, int chunk,
                float *logits);
#endif
