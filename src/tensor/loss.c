/* loss.c: cross-entropy over a vocabulary of any size, fused with the head: logits exist for a chunk of
 * tokens at a time, and their gradient takes their place. */
#include <math.h>

#include "tensor/loss.h"
#include "tensor/product.h"

struct softmax {
    const struct kern *k;
    float *logits; /* [n, V] */
    size_t V;
    const int32_t *rows, *target;
    const float *weight;
    double *nll;
    bool back;
};

/* nll, and in place: logits become weight * (softmax - onehot). */
static void softmax_rows(void *ctx, size_t from, size_t to, int worker) {
    struct softmax *j = ctx;
    (void)worker;
    for (size_t i = from; i < to; i++) {
        int32_t t = j->rows[i], target = j->target[t];
        float *p = j->logits + i * j->V, goal = p[target], top = j->k->max(p, j->V);
        double sum = j->k->exp_sum(p, p, 1, top, j->V);
        j->nll[t] = log(sum) + (double)top - (double)goal;
        if (j->back) {
            j->k->scale(p, (float)((double)j->weight[t] / sum), j->V);
            p[target] -= j->weight[t];
        }
    }
}

/* Tokens of the longest chunk there may be. */
static size_t chunk_most(int V) {
    size_t most = LOSS_BYTES / ((size_t)V * sizeof(float));
    return most < LOSS_TOKENS ? LOSS_TOKENS : most > LOSS_MOST ? LOSS_MOST : most;
}

/* Tokens a chunk: the chunks about equal. */
static int chunk_of(int T, int V) {
    size_t most = chunk_most(V);
    int chunks = (int)(((size_t)T + most - 1) / most);
    return (T + chunks - 1) / chunks;
}

size_t loss_tokens(int T, int V) {
    size_t most = chunk_most(V);
    return (size_t)T < most ? (size_t)T : most;
}

static void chunk_loss(struct ops *o, double *nll, float *dx, const float *x, const struct matrix *w,
                       const int32_t *target, const float *weight, const int32_t *rows, int n) {
    size_t mark = arena_mark(o->scratch), C = (size_t)w->in;
    float *in = take(o, (size_t)n * C, sizeof *in);
    float *logits = take(o, (size_t)n * (size_t)w->out, sizeof *logits);
    for (int i = 0; i < n; i++)
        memcpy(in + (size_t)i * C, x + (size_t)rows[i] * C, C * sizeof *in);
    product_nt(o, logits, (size_t)w->out, in, C, w, n, product_half(o), false);
    struct softmax j = {o->kern, logits, (size_t)w->out, rows, target, weight, nll, dx != NULL};
    run(o, (size_t)n, 1, false, softmax_rows, &j);
    if (dx) {
        product_nn(o, in, C, logits, (size_t)w->out, w, n, product_half(o), false);
        for (int i = 0; i < n; i++)
            o->kern->add(dx + (size_t)rows[i] * C, in + (size_t)i * C, C);
    }
    arena_reset(o->scratch, mark);
}

/* Rows that need a gradient first, then those that only need their loss; a target below 0 has neither. */
void op_cross_entropy(struct ops *o, double *nll, float *dx, const float *x, const struct matrix *w,
                      const int32_t *target, const float *weight, int T) {
    double began = op_began(o), operations = 0;
    size_t mark = arena_mark(o->scratch);
    int32_t *rows = take(o, (size_t)T, sizeof *rows);
    for (int back = 1; back >= 0; back--) {
        int n = 0;
        for (int t = 0; t < T; t++) {
            if (target[t] < 0)
                nll[t] = 0;
            else if ((dx && weight[t] != 0) == (back == 1))
                rows[n++] = t;
        }
        operations += (back ? 4.0 : 2.0) * n * w->in * w->out;
        for (int i = 0, step = n ? chunk_of(n, w->out) : 0; i < n; i += step)
            chunk_loss(o, nll, back ? dx : NULL, x, w, target, weight, rows + i, n - i < step ? n - i : step);
    }
    arena_reset(o->scratch, mark);
    op_ended(o, OP_LOSS, began, operations);
}
