/* records.c: copies what the store lends for a callback. */
#include "shared/records.h"

#include <string.h>

static bool copy_text(const char **out, const char *text) {
    *out = text ? mem_dupz(text) : NULL;
    return !text || *out;
}

/* Room for one more; capacities are powers of two. */
static void *roomy(void *v, size_t n, size_t size) {
    return n & (n - 1) ? v : mem_grow(v, n ? 2 * n : 1, size);
}

static int take_record(void *ctx, const plm_record *r) {
    struct records *list = ctx;
    plm_record *v = roomy(list->v, list->n, sizeof *v);
    if (!v)
        return 1;
    list->v = v;
    plm_record *c = &v[list->n++];
    *c = *r;
    c->user = c->kind = c->input = c->output = c->source = NULL;
    return !(copy_text(&c->user, r->user) && copy_text(&c->kind, r->kind) && copy_text(&c->input, r->input) &&
             copy_text(&c->output, r->output) && copy_text(&c->source, r->source));
}

plm_status records_load(struct records *out, plm_store *st, const plm_query *q, plm_error *err) {
    *out = (struct records){0};
    plm_status s = plm_store_find(st, q, take_record, out, err);
    if (s == PLM_ESTOPPED)
        s = fail(err, PLM_ENOMEM, "out of memory");
    if (s)
        records_free(out);
    return s;
}

static void drop(const char *text) {
    mem_free((void *)(uintptr_t)text);
}

void records_free(struct records *r) {
    for (size_t i = 0; i < r->n; i++) {
        drop(r->v[i].user);
        drop(r->v[i].kind);
        drop(r->v[i].input);
        drop(r->v[i].output);
        drop(r->v[i].source);
    }
    mem_free(r->v);
    *r = (struct records){0};
}

static int take_synthetic(void *ctx, const plm_synthetic *s) {
    struct synthetics *list = ctx;
    plm_synthetic *v = roomy(list->v, list->n, sizeof *v);
    if (!v)
        return 1;
    list->v = v;
    plm_synthetic *c = &v[list->n++];
    *c = *s;
    c->user = c->kind = c->verdict = c->teacher = NULL;
    c->mode = c->input = c->output = NULL;
    c->sources = NULL;
    int64_t *sources = mem_alloc(s->n_sources ? s->n_sources : 1, sizeof *sources);
    if (!sources)
        return 1;
    memcpy(sources, s->sources, s->n_sources * sizeof *sources);
    c->sources = sources;
    return !(copy_text(&c->mode, s->mode) && copy_text(&c->input, s->input) &&
             copy_text(&c->output, s->output));
}

plm_status synthetics_load(struct synthetics *out, plm_store *st, const char *user, const char *kind,
                           bool kept_only, plm_error *err) {
    *out = (struct synthetics){0};
    plm_status s = plm_store_find_synthetic(st, user, kind, kept_only, take_synthetic, out, err);
    if (s == PLM_ESTOPPED)
        s = fail(err, PLM_ENOMEM, "out of memory");
    if (s)
        synthetics_free(out);
    return s;
}

void synthetics_cut(struct synthetics *s, size_t n) {
    for (size_t i = n; i < s->n; i++) {
        drop(s->v[i].mode);
        drop(s->v[i].input);
        drop(s->v[i].output);
        mem_free((void *)(uintptr_t)s->v[i].sources);
    }
    s->n = n < s->n ? n : s->n;
}

void synthetics_free(struct synthetics *s) {
    synthetics_cut(s, 0);
    mem_free(s->v);
    *s = (struct synthetics){0};
}
