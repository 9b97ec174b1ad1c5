/* safetensors.c: reads files whose tensors cover the data exactly: sorted by offset each begins where the
 * last one ended, its size is that of its shape, and the last ends with the file. Writes F32 tensors sorted
 * by name. It refuses holes, overlaps, trailing bytes and headers over 16 MiB. */
#include "modelfile/modelfile.h"
#include <stdlib.h>
#include <string.h>
#include "modelfile/cursor.h"
#include "modelfile/names.h"
#include "modelfile/safe_header.h"

struct safetensors {
    struct map map;
    bool mapped;
    struct safe_entries entries; /* own the names */
    struct safe_tensor *t;       /* [entries.n], in the header's order */
    struct names names;
};

/* Bytes of a shape; false where they are no number or no whole one. */
static bool shape_bytes(const struct safe_entry *e, uint64_t *bytes) {
    uint64_t bits = safe_dtypes[e->dtype].bits;
    for (int i = 0; i < e->n_dims; i++)
        if (__builtin_mul_overflow(bits, e->shape[i], &bits))
            return false;
    *bytes = bits / 8;
    return bits % 8 == 0;
}

static plm_status check_entry(const struct safe_entry *e, size_t data_size, const char *file,
                              plm_error *err) {
    uint64_t bytes;
    if (e->begin > e->end || e->end > data_size)
        return fail(err, PLM_EFORMAT, "%s: tensor %.80s: bytes %llu to %llu are not in the file's %zu", file,
                    e->name, (unsigned long long)e->begin, (unsigned long long)e->end, data_size);
    if (!shape_bytes(e, &bytes) || bytes != e->end - e->begin)
        return fail(err, PLM_EFORMAT, "%s: tensor %.80s: its shape does not make %llu bytes", file, e->name,
                    (unsigned long long)(e->end - e->begin));
    return PLM_OK;
}

static int place_order(const void *a, const void *b) {
    const struct safe_entry *x = *(const struct safe_entry *const *)a,
                            *y = *(const struct safe_entry *const *)b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* In order of place the entries must join without a gap, from the first byte to the last. */
static plm_status check_cover(const struct safe_entries *s, size_t data_size, const char *file,
                              plm_error *err) {
    const struct safe_entry **order = mem_alloc(s->n + 1, sizeof *order);
    if (!order)
        return fail(err, PLM_ENOMEM, "%s: no memory for its header", file);
    for (size_t i = 0; i < s->n; i++)
        order[i] = &s->e[i];
    if (s->n)
        qsort(order, s->n, sizeof *order, place_order);
    uint64_t at = 0;
    plm_status st = PLM_OK;
    for (size_t i = 0; !st && i < s->n; i++) {
        if (order[i]->begin != at)
            st = fail(err, PLM_EFORMAT,
                      "%s: tensor %.80s begins at byte %llu, not at %llu where the one before ends", file,
                      order[i]->name, (unsigned long long)order[i]->begin, (unsigned long long)at);
        at = order[i]->end;
    }
    if (!st && at != data_size)
        st = fail(err, PLM_EFORMAT, "%s: tensors end at byte %llu of %zu", file, (unsigned long long)at,
                  data_size);
    mem_free(order);
    return st;
}

static plm_status fill_tables(struct safetensors *s, const unsigned char *data, const char *file,
                              plm_error *err) {
    size_t n = s->entries.n;
    s->t = mem_zero(n + 1, sizeof *s->t);
    if (!s->t || !names_open(&s->names, n))
        return fail(err, PLM_ENOMEM, "%s: no memory for its header", file);
    for (size_t i = 0; i < n; i++) {
        const struct safe_entry *e = &s->entries.e[i];
        s->t[i] = (struct safe_tensor){.name = e->name,
                                       .type = safe_dtypes[e->dtype].type,
                                       .n_dims = e->n_dims,
                                       .data = data + e->begin,
                                       .bytes = (size_t)(e->end - e->begin)};
        memcpy(s->t[i].shape, e->shape, sizeof e->shape);
        s->names.slot[i] = (struct name_slot){str_of(e->name), i};
    }
    names_sort(&s->names);
    size_t twice = names_twice(&s->names);
    return twice == SIZE_MAX
               ? PLM_OK
               : fail(err, PLM_EFORMAT, "%s: tensor %.80s is there twice", file, s->t[twice].name);
}

static plm_status parse(struct safetensors *s, const char *file, plm_error *err) {
    struct cursor c = {.p = s->map.data, .size = s->map.size};
    uint64_t n = cursor_u64(&c);
    if (c.short_of)
        return fail(err, PLM_EFORMAT, "%s: too short for a safetensors file", file);
    if (n > SAFETENSORS_MAX_HEADER)
        return fail(err, PLM_ELIMIT, "%s: a header of %llu bytes (at most %d)", file, (unsigned long long)n,
                    SAFETENSORS_MAX_HEADER);
    const unsigned char *text = cursor_take(&c, n);
    if (!text)
        return fail(err, PLM_EFORMAT, "%s: its header of %llu bytes reaches past the end of the file", file,
                    (unsigned long long)n);
    plm_status st = safe_header_parse(&s->entries, (const char *)text, (size_t)n, file, err);
    size_t data_size = cursor_left(&c);
    for (size_t i = 0; !st && i < s->entries.n; i++)
        st = check_entry(&s->entries.e[i], data_size, file, err);
    if (!st)
        st = check_cover(&s->entries, data_size, file, err);
    if (!st)
        st = fill_tables(s, s->map.data + c.at, file, err);
    return st;
}

plm_status safetensors_parse(struct safetensors **out, const void *data, size_t size, const char *name,
                             plm_error *err) {
    struct safetensors *s = mem_zero(1, sizeof *s);
    if (!s)
        return fail(err, PLM_ENOMEM, "%s: no memory to open it", name);
    s->map = (struct map){.data = data, .size = size};
    plm_status st = parse(s, name, err);
    if (st)
        safetensors_close(s);
    else
        *out = s;
    return st;
}

plm_status safetensors_open(struct safetensors **out, const char *path, plm_error *err) {
    struct map map;
    struct safetensors *s = NULL;
    plm_status st = map_open(&map, path, err);
    if (st)
        return st;
    st = safetensors_parse(&s, map.data, map.size, path, err);
    if (st) {
        map_close(&map);
        return st;
    }
    s->map = map;
    s->mapped = true;
    *out = s;
    return PLM_OK;
}

void safetensors_close(struct safetensors *s) {
    if (!s)
        return;
    safe_entries_free(&s->entries);
    names_close(&s->names);
    mem_free(s->t);
    if (s->mapped)
        map_close(&s->map);
    mem_free(s);
}

size_t safetensors_count(const struct safetensors *s) {
    return s->entries.n;
}

const struct safe_tensor *safetensors_at(const struct safetensors *s, size_t i) {
    return i < s->entries.n ? &s->t[i] : NULL;
}

const struct safe_tensor *safetensors_find(const struct safetensors *s, const char *name) {
    size_t i = names_find(&s->names, str_of(name));
    return i == SIZE_MAX ? NULL : &s->t[i];
}

/* ---- out ---- */

static int out_order(const void *a, const void *b) {
    const struct safe_out *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static size_t out_bytes(const struct safe_out *t) {
    size_t n = sizeof(float);
    for (int i = 0; i < t->n_dims; i++)
        n *= (size_t)t->shape[i];
    return n;
}

/* The header with its length in front, padded so that the data begins at a multiple of 8. */
static void put_header(struct bytes *b, const struct safe_out *const *order, size_t n) {
    size_t at = 0;
    bytes_put(b, "\0\0\0\0\0\0\0\0", 8);
    bytes_puts(b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        const struct safe_out *t = order[i];
        bytes_putc(b, ',');
        bytes_json(b, t->name, strlen(t->name));
        bytes_puts(b, ":{\"dtype\":\"F32\",\"shape\":[");
        for (int d = 0; d < t->n_dims; d++)
            bytes_printf(b, d ? ",%llu" : "%llu", (unsigned long long)t->shape[d]);
        bytes_printf(b, "],\"data_offsets\":[%zu,%zu]}", at, at + out_bytes(t));
        at += out_bytes(t);
    }
    bytes_putc(b, '}');
    while (b->len % 8 && !b->st)
        bytes_putc(b, ' ');
}

static plm_status write_all(struct writer *w, const struct safe_out *const *order, size_t n, plm_error *err) {
    struct bytes head;
    bytes_init(&head, SAFETENSORS_MAX_HEADER);
    put_header(&head, order, n);
    plm_status st = bytes_status(&head, "safetensors header", err);
    if (!st) {
        for (int i = 0; i < 8; i++)
            head.data[i] = (char)(unsigned char)((uint64_t)(head.len - 8) >> (8 * i));
        st = writer_put(w, head.data, head.len, err);
    }
    bytes_free(&head);
    for (size_t i = 0; !st && i < n; i++)
        st = writer_put(w, order[i]->data, out_bytes(order[i]), err);
    return st;
}

plm_status safetensors_write(const char *path, const struct safe_out *t, size_t n, plm_error *err) {
    struct writer *w;
    const struct safe_out **order = mem_alloc(n + 1, sizeof *order);
    if (!order)
        return fail(err, PLM_ENOMEM, "%s: no memory to write it", path);
    for (size_t i = 0; i < n; i++)
        order[i] = &t[i];
    if (n)
        qsort(order, n, sizeof *order, out_order);
    plm_status st = writer_open(&w, path, err);
    if (!st) {
        st = write_all(w, order, n, err);
        if (st)
            writer_abort(w);
        else
            st = writer_commit(w, err);
    }
    mem_free(order);
    return st;
}
