/* kv.c: a session's cache of keys and values. */
#include "model/inside.h"

plm_status kv_open(struct kv_cache *kv, const plm_model *m, int context, plm_error *err) {
    const struct config *c = &m->cfg;
    *kv = (struct kv_cache){.context = context, .f16 = !ops_kernel_exact(m->kern)};
    if (context < 1 || context > c->context) {
        return fail(err, PLM_EINVAL, "a context of %d tokens is not from 1 to the model's %d", context,
                    c->context);
    }
    kv->row_bytes =
        (size_t)c->kv_heads * (size_t)c->head_width * (kv->f16 ? sizeof(uint16_t) : sizeof(float));
    size_t rows, bytes;
    if (!mul_size((size_t)c->layers, (size_t)context, &rows) || !mul_size(rows, 2 * kv->row_bytes, &bytes) ||
        arena_open(&kv->rows, bytes + 128, NULL)) {
        kv_close(kv);
        return fail(err, PLM_ENOMEM, "no memory for the keys and values of %d tokens", context);
    }
    kv->k = arena_take(&kv->rows, rows, kv->row_bytes);
    kv->v = arena_take(&kv->rows, rows, kv->row_bytes);
    return PLM_OK;
}

void kv_close(struct kv_cache *kv) {
    arena_close(&kv->rows);
    *kv = (struct kv_cache){0};
}
