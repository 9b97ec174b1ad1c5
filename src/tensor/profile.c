/* profile.c: where the time of a run goes, by kind of operation. */
#include "tensor/product.h"

const char *const op_name[OP_KINDS] = {
    [OP_EMBED] = "embedding",
    [OP_NORM] = "norm",
    [OP_NORM_BACK] = "norm back",
    [OP_LINEAR] = "head",
    [OP_LINEAR + 1] = "q k v",
    [OP_LINEAR + 2] = "o",
    [OP_LINEAR + 3] = "gate up",
    [OP_LINEAR + 4] = "down",
    [OP_LINEAR_BACK] = "head back",
    [OP_LINEAR_BACK + 1] = "q k v back",
    [OP_LINEAR_BACK + 2] = "o back",
    [OP_LINEAR_BACK + 3] = "gate up back",
    [OP_LINEAR_BACK + 4] = "down back",
    [OP_ROPE] = "rotation",
    [OP_ATTENTION] = "attention",
    [OP_ATTENTION_BACK] = "attention back",
    [OP_GATE] = "activation",
    [OP_GATE_BACK] = "activation back",
    [OP_SUM] = "sum",
    [OP_KEEP] = "keeping",
    [OP_LORA] = "adapter",
    [OP_LORA_BACK] = "adapter back",
    [OP_LOSS] = "head and loss",
    [OP_DECODE] = "decoding weights",
    [OP_QUANTISE] = "quantising",
};

void op_ended(struct ops *o, enum op_kind kind, double began, double operations) {
    if (!o->profile)
        return;
    struct op_cost *c = &o->profile->cost[kind];
    c->calls++;
    c->seconds += clock_now() - began;
    c->operations += operations;
}

void op_ended_linear(struct ops *o, enum op_kind kind, double began, const struct matrix *const *w, int n,
                     int T) {
    if (!o->profile)
        return;
    double weights = 0, bytes = 0;
    for (int i = 0; i < n; i++) {
        weights += (double)w[i]->in * w[i]->out;
        bytes += (double)w[i]->row_bytes * w[i]->out;
    }
    kind += (unsigned)w[0]->place;
    o->profile->cost[kind].bytes += bytes;
    op_ended(o, kind, began, 2 * weights * T);
}
