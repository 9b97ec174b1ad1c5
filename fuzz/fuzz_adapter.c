/* fuzz_adapter.c: bytes as an adapter: a GGUF file, or "PEFT", the length of a configuration (u32), the
 * configuration, and a safetensors file. With and without a model's shape to fit. */
#include "fuzz.h"

#include <math.h>
#include <string.h>

#include "lora/lora.h"

static plm_status parse(struct lora **out, const struct lora_shape *s, const uint8_t *data, size_t size,
                        plm_error *err) {
    if (size < 8 || memcmp(data, "PEFT", 4) != 0)
        return lora_parse_gguf(out, s, data, size, "fuzz", err);
    const char *config = (const char *)data + 8;
    size_t left = size - 8;
    size_t len = (size_t)data[4] | (size_t)data[5] << 8 | (size_t)data[6] << 16 | (size_t)data[7] << 24;
    if (len > left)
        len = left;
    return lora_parse_peft(out, s, config, len, config + len, left - len, "fuzz", err);
}

static void check(const struct lora *l, const struct lora_shape *s) {
    size_t at = 0;
    PROMISE(l->rank >= 1 && l->rank <= LORA_MAX_RANK && l->targets && isfinite(l->alpha) && l->alpha >= 0);
    PROMISE(!s || l->layers == s->layers);
    for (int i = 0; i < l->layers * LORA_LINEARS; i++) {
        const struct lora_pair *p = &l->pair[i];
        PROMISE((p->A != NULL) == (p->rank > 0));
        if (!p->A)
            continue;
        PROMISE(p->A == l->values + at && p->B == p->A + (size_t)p->rank * (size_t)p->in &&
                p->rank <= l->rank);
        PROMISE(!s || (p->in == s->in[i % LORA_LINEARS] && p->out == s->out[i % LORA_LINEARS]));
        at += (size_t)p->rank * (size_t)(p->in + p->out);
    }
    PROMISE(at == l->parameters);
    for (size_t i = 0; i < l->parameters; i++)
        PROMISE(isfinite(l->values[i]));
}

int fuzz_adapter(const uint8_t *data, size_t size) {
    const struct lora_shape shape = {.layers = 2,
                                     .in = {8, 8, 8, 8, 8, 8, 8},
                                     .out = {8, 8, 8, 8, 8, 8, 8},
                                     .arch = "llama",
                                     .permute_q = 2,
                                     .permute_k = 2};
    const struct lora_shape *const shapes[] = {&shape, NULL};
    for (int i = 0; i < 2; i++) {
        struct lora *l = NULL, *copy = NULL;
        plm_error err = {0};
        plm_status st = parse(&l, shapes[i], data, size, &err);
        PROMISE((st == PLM_OK) == (l != NULL));
        PROMISE(!st || (st == err.code && err.text[0]));
        if (st)
            continue;
        check(l, shapes[i]);
        if (lora_copy(&copy, l, &err) == PLM_OK)
            check(copy, shapes[i]);
        lora_free(l);
        lora_free(copy);
    }
    return 0;
}
