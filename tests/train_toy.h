/* A toy in place of the transformer, so that the trainer's own behaviour can be tested in milliseconds and
 * exactly: the loss of a target is 0.1 + e^2, where e is linear in the adapter's values and depends on the
 * token, on its position and on the token before it in the same example. Defined here, these functions are
 * what the linker takes instead of the model room's. Token 13 makes the loss NaN, token 14 the gradient
 * infinite. */
#ifndef TRAIN_TOY_H
#define TRAIN_TOY_H
#include "train/trainer.h"
#include "base/hash.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#undef fail

enum {
    TOY_VOCAB = 256,
    TOY_PARAMETERS = 61,
    TOY_NAN = 13,
    TOY_INF = 14,
    TOY_BEGIN = 1,
    TOY_END = 2,
    TOY_TEXT = 32
};

struct trace {
    int cap;
};
static int toy_passes, toy_longest;
static uint64_t toy_bytes_a_token = 1000;

plm_status trace_open(struct trace **out, const plm_model *m, int max_tokens, const struct lora *l,
                      uint64_t memory, plm_error *err) {
    (void)m;
    (void)l;
    uint64_t least = toy_bytes_a_token * (uint64_t)max_tokens;
    if (least > memory) {
        return fail(err, PLM_ELIMIT, "training on %d tokens needs at least %llu bytes of memory, not %llu",
                    max_tokens, (unsigned long long)least, (unsigned long long)memory);
    }
    struct trace *t = mem_alloc(1, sizeof *t);
    if (!t) {
        return fail(err, PLM_ENOMEM, "no memory to train in");
    }
    t->cap = max_tokens;
    *out = t;
    return PLM_OK;
}
void trace_close(struct trace *t) {
    mem_free(t);
}
uint64_t trace_bytes(const struct trace *t) {
    return toy_bytes_a_token * (uint64_t)t->cap;
}
int trace_frozen(const struct trace *t) {
    (void)t;
    return 0;
}
int lora_first_layer(const struct lora *l) {
    (void)l;
    return 0;
}
plm_status model_below(struct trace *t, const struct below *s, int n, plm_error *err) {
    (void)t;
    (void)s;
    (void)n;
    (void)err;
    assert_true(false);
    return PLM_OK;
}
int trace_recomputed(const struct trace *t) {
    (void)t;
    return 0;
}

plm_status model_train(struct trace *t, const struct batch *b, const int32_t *at, const int32_t *target,
                       const float *weight, int n, const struct lora *l, float *grad, double *nll,
                       plm_error *err) {
    (void)err;
    assert_in_range(b->T, 1, t->cap);
    assert_in_range(n, 1, b->T);
    toy_passes++;
    toy_longest = b->T > toy_longest ? b->T : toy_longest;
    for (int i = 0; i < n; i++) {
        int k = at[i], id = b->ids[k], before = k > b->first[k] ? b->ids[k - 1] : 0;
        int f = (31 * id + b->pos[k]) % TOY_PARAMETERS, g = (17 * before + target[i]) % TOY_PARAMETERS;
        float e = 2 * l->values[f] + l->values[g] + (float)(target[i] % 7 - 3) * 0.1f;
        nll[i] = id == TOY_NAN ? (double)NAN : 0.1 + (double)e * (double)e;
        if (weight) {
            grad[f] += weight[i] * 4 * e + (id == TOY_INF ? INFINITY : 0);
            grad[g] += weight[i] * 2 * e;
        }
    }
    return PLM_OK;
}

plm_status plm_model_digest(const plm_model *m, char hex[65], plm_error *err) {
    (void)err;
    memcpy(hex, m->digest, 65);
    return PLM_OK;
}

bool vocab_is_control(const struct vocab *v, int32_t id) {
    (void)v;
    return id == TOY_BEGIN || id == TOY_END;
}

/* BEGIN role's first letter, text a byte a token, END, "\n". */
plm_status plm_chat_encode(const plm_model *m, const plm_message *messages, size_t n_messages, int32_t *ids,
                           uint8_t *is_target, size_t cap, size_t *n, plm_error *err) {
    (void)m;
    (void)err;
    size_t at = 0;
#define TOY_PUT(id, learned)           \
    do {                               \
        if (at < cap) {                \
            ids[at] = (id);            \
            is_target[at] = (learned); \
        }                              \
        at++;                          \
    } while (0)
    for (size_t i = 0; i < n_messages; i++) {
        bool own = messages[i].role[0] == 'a';
        TOY_PUT(TOY_BEGIN, 0);
        TOY_PUT(messages[i].role[0], 0);
        for (const char *c = messages[i].text; *c; c++) {
            TOY_PUT((unsigned char)*c, own);
        }
        TOY_PUT(TOY_END, own);
        TOY_PUT('\n', 0);
    }
    *n = at;
    return PLM_OK;
}

struct toy {
    struct plm_model m;
    struct plm_adapter a;
    struct lora lora;
    float values[TOY_PARAMETERS];
};

static void toy_open(struct toy *y) {
    memset(y, 0, sizeof *y);
    y->m.cfg.vocab = TOY_VOCAB;
    y->m.cfg.context = 4096;
    y->m.facts.parameters = 1000;
    y->m.facts.cpu = "ref";
    memset(y->m.digest, 'a', 64);
    y->lora = (struct lora){.layers = 1,
                            .rank = 4,
                            .alpha = 8,
                            .targets = 127,
                            .parameters = TOY_PARAMETERS,
                            .values = y->values};
    y->a = (struct plm_adapter){.model = &y->m, .lora = &y->lora};
    for (int i = 0; i < TOY_PARAMETERS; i++) {
        y->values[i] = 0.01f * (float)(i % 5);
    }
}

static inline void toy_sum(const struct toy *y, char hex[65]) {
    sha256_of(y->values, sizeof y->values, hex);
}

static plm_error why; /* of the last call that failed */

static void toy_add_ids(plm_trainer *t, uint64_t seed, size_t n, size_t n_prompt, float weight,
                        bool validation) {
    int32_t ids[512];
    struct rng r;
    rng_seed(&r, seed, 77);
    for (size_t i = 0; i < n; i++) {
        ids[i] = TOY_TEXT + (int32_t)rng_below(&r, TOY_VOCAB - TOY_TEXT);
    }
    plm_status st = plm_trainer_add(t,
                                    &(plm_example){.ids = ids,
                                                   .n_ids = n,
                                                   .n_prompt = n_prompt,
                                                   .weight = weight,
                                                   .validation = validation,
                                                   .synthetic = seed % 3 == 0},
                                    &why);
    if (st) {
        print_error("%s\n", why.text);
    }
    assert_int_equal(st, PLM_OK);
}

/* The call writes to &why. */
#define assert_ok(call)                               \
    do {                                              \
        plm_status ok_st = (call);                    \
        if (ok_st) {                                  \
            print_error("%s: %s\n", #call, why.text); \
        }                                             \
        assert_int_equal(ok_st, PLM_OK);              \
    } while (0)
/* The call writes to &why, and its sentence must hold part. */
#define assert_refused(call, status, part)         \
    do {                                           \
        memset(&why, 0, sizeof why);               \
        assert_int_equal((call), (status));        \
        if (!strstr(why.text, (part))) {           \
            print_error("%s\n", why.text);         \
        }                                          \
        assert_non_null(strstr(why.text, (part))); \
    } while (0)
#endif
