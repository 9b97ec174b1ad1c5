/* kv.c: a session's cache of keys and values. A head's rows lie together, so that attention reads one stretch
 * of memory for each. */
#include "model/inside.h"

plm_status kv_open(struct kv_cache *kv, const plm_model *m, int context, enum cache_form form,
                   plm_error *err) {
    const struct config *c = &m->cfg;
    *kv = (struct kv_cache){.context = context, .form = form, .row = cache_row_bytes(form, c->head_width)};
    if (context < 1 || context > c->context) {
        return fail(err, PLM_EINVAL, "a context of %d tokens is not from 1 to the model's %d", context,
                    c->context);
    }
    if (!kv->row)
        return fail(err, PLM_ENOTSUP, "an 8-bit cache needs heads of whole blocks of 32, not of %d",
                    c->head_width);
    size_t rows, bytes;
    if (!mul_size((size_t)c->layers * (size_t)c->kv_heads, (size_t)context, &rows) ||
        !mul_size(rows, 2 * kv->row, &bytes) || arena_open(&kv->rows, bytes + 128, NULL)) {
        kv_close(kv);
        return fail(err, PLM_ENOMEM, "no memory for the keys and values of %d tokens", context);
    }
    kv->k = arena_take(&kv->rows, rows, kv->row);
    kv->v = arena_take(&kv->rows, rows, kv->row);
    return PLM_OK;
}

enum cache_form kv_usual(const plm_model *m) {
    return ops_kernel_exact(m->kern) ? CACHE_F32 : CACHE_F16;
}

struct kv_view kv_layer(const struct kv_cache *kv, const struct config *c, int l) {
    size_t head = (size_t)kv->context * kv->row, at = (size_t)l * (size_t)c->kv_heads * head;
    return (struct kv_view){.k = (char *)kv->k + at,
                            .v = (char *)kv->v + at,
                            .form = kv->form,
                            .n = kv->n,
                            .row = kv->row,
                            .head = head};
}

void kv_close(struct kv_cache *kv) {
    arena_close(&kv->rows);
    *kv = (struct kv_cache){0};
}
