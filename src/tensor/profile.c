/* profile.c: where the time of a run goes, by kind of operation. */
#include "tensor/product.h"

const char *const op_name[OP_KINDS] = {
    [OP_EMBED] = "embedding",
    [OP_NORM] = "norm",
    [OP_NORM_BACK] = "norm back",
    [OP_LINEAR] = "linear",
    [OP_LINEAR_BACK] = "linear back",
    [OP_ROPE] = "rotation",
    [OP_ATTENTION] = "attention",
    [OP_ATTENTION_BACK] = "attention back",
    [OP_GATE] = "activation",
    [OP_GATE_BACK] = "activation back",
    [OP_SUM] = "sum",
    [OP_LORA] = "adapter",
    [OP_LORA_BACK] = "adapter back",
    [OP_LOSS] = "head and loss",
    [OP_DECODE] = "decoding weights",
};

void op_ended(struct ops *o, enum op_kind kind, double began, double operations) {
    if (!o->profile)
        return;
    struct op_cost *c = &o->profile->cost[kind];
    c->calls++;
    c->seconds += clock_now() - began;
    c->operations += operations;
}
