/* gguf_read.c: parses a GGUF file (v2 and v3) that may be hostile. One pass over the header checks every
 * count against the bytes left, every type before its value, every product and sum before it is used; only
 * then do tensors get a pointer. It refuses what readers disagree about: zero dimensions, gaps, duplicates,
 * nested arrays, bytes behind the last tensor. */
#include "modelfile/gguf.h"
#include "modelfile/cursor.h"

/* The least that one entry takes in the file: a count over bytes left / this is a lie. */
enum { KV_LEAST = 8 + 1 + 4 + 1, TENSOR_LEAST = 8 + 1 + 4 + 8 + 4 + 8, STRING_LEAST = 8 };

/* How much of a name an error shows. */
static int shown(struct str s) {
    return s.n < 64 ? (int)s.n : 64;
}

static plm_status cut_short(const struct cursor *c, const char *name, plm_error *err) {
    return fail(err, PLM_EFORMAT, "%s: the file ends inside its header (after byte %zu of %zu)", name, c->at,
                c->size);
}

static plm_status check_name(struct str s, size_t max, size_t at, const char *what, const char *file,
                             plm_error *err) {
    if (s.n == 0)
        return fail(err, PLM_EFORMAT, "%s: empty %s name at byte %zu", file, what, at);
    if (s.n > max)
        return fail(err, PLM_EFORMAT, "%s: %s name of %zu bytes at byte %zu (at most %zu)", file, what, s.n,
                    at, max);
    if (memchr(s.p, 0, s.n) || !utf8_valid(s.p, s.n, NULL))
        return fail(err, PLM_EFORMAT, "%s: the %s name at byte %zu is not UTF-8 text", file, what, at);
    return PLM_OK;
}

static plm_status read_header(struct gguf *g, struct cursor *c, const char *name, plm_error *err) {
    const unsigned char *magic = cursor_take(c, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return fail(err, PLM_EFORMAT, "%s: not a GGUF file", name);
    uint32_t version = cursor_u32(c);
    uint64_t n_tensors = cursor_u64(c), n_kv = cursor_u64(c);
    if (c->short_of)
        return cut_short(c, name, err);
    if (version != 0 && (version & 0xffff) == 0)
        return fail(err, PLM_ENOTSUP, "%s: a big-endian GGUF file", name);
    if (version != 2 && version != 3)
        return fail(err, PLM_ENOTSUP, "%s: GGUF version %u (plm reads 2 and 3)", name, version);
    if (n_tensors > GGUF_MAX_TENSORS || n_tensors > cursor_left(c) / TENSOR_LEAST)
        return fail(err, PLM_EFORMAT, "%s: says it has %llu tensors, more than it can hold", name,
                    (unsigned long long)n_tensors);
    if (n_kv > GGUF_MAX_KV || n_kv > cursor_left(c) / KV_LEAST)
        return fail(err, PLM_EFORMAT, "%s: says it has %llu keys, more than it can hold", name,
                    (unsigned long long)n_kv);
    g->n_tensors = (size_t)n_tensors;
    g->n_kv = (size_t)n_kv;
    g->kv = g->n_kv ? mem_zero(g->n_kv, sizeof *g->kv) : NULL;
    g->tensor = g->n_tensors ? mem_zero(g->n_tensors, sizeof *g->tensor) : NULL;
    if ((g->n_kv && !g->kv) || (g->n_tensors && !g->tensor) || !names_open(&g->keys, g->n_kv) ||
        !names_open(&g->names, g->n_tensors))
        return fail(err, PLM_ENOMEM, "%s: no memory for its header", name);
    return PLM_OK;
}

/* ---- keys and values ---- */

static plm_status check_bools(const unsigned char *p, size_t n, struct str key, const char *name,
                              plm_error *err) {
    for (size_t i = 0; i < n; i++)
        if (p[i] > 1)
            return fail(err, PLM_EFORMAT, "%s: key %.*s is neither true nor false", name, shown(key), key.p);
    return PLM_OK;
}

static plm_status read_string(struct cursor *c, struct str key, const char *name, plm_error *err) {
    struct str s = cursor_string(c);
    if (c->short_of)
        return fail(err, PLM_EFORMAT, "%s: key %.*s: a string reaches past the end of the file", name,
                    shown(key), key.p);
    if (s.n > GGUF_MAX_STRING)
        return fail(err, PLM_ELIMIT, "%s: key %.*s: a string of %zu bytes (at most %d)", name, shown(key),
                    key.p, s.n, GGUF_MAX_STRING);
    return PLM_OK;
}

/* The strings of an array, with the offset of each so that element i is found at once. */
static plm_status read_string_array(struct kv *kv, struct cursor *c, const char *name, plm_error *err) {
    size_t n = kv->array.n;
    if (n == 0)
        return PLM_OK;
    kv->array.at = kv->string_at = mem_alloc(n, sizeof *kv->string_at);
    if (!kv->string_at)
        return fail(err, PLM_ENOMEM, "%s: no memory for key %.*s", name, shown(kv->key), kv->key.p);
    size_t start = c->at;
    for (size_t i = 0; i < n; i++) {
        kv->string_at[i] = c->at - start;
        plm_status st = read_string(c, kv->key, name, err);
        if (st)
            return st;
    }
    return PLM_OK;
}

static plm_status read_array(struct kv *kv, struct cursor *c, const char *name, plm_error *err) {
    uint32_t type = cursor_u32(c);
    uint64_t n = cursor_u64(c);
    size_t width = kv_width(type);
    if (c->short_of)
        return cut_short(c, name, err);
    if (type == KV_ARRAY)
        return fail(err, PLM_ENOTSUP, "%s: key %.*s: an array of arrays", name, shown(kv->key), kv->key.p);
    if (width == 0 && type != KV_STRING)
        return fail(err, PLM_EFORMAT, "%s: key %.*s: an array of the unknown type %u", name, shown(kv->key),
                    kv->key.p, type);
    if (n > cursor_left(c) / (width ? width : STRING_LEAST))
        return fail(err, PLM_EFORMAT,
                    "%s: key %.*s: an array of %llu elements reaches past the end of the file", name,
                    shown(kv->key), kv->key.p, (unsigned long long)n);
    if (n > GGUF_MAX_ARRAY)
        return fail(err, PLM_ELIMIT, "%s: key %.*s: an array of %llu elements (at most %d)", name,
                    shown(kv->key), kv->key.p, (unsigned long long)n, GGUF_MAX_ARRAY);
    kv->array = (struct gguf_array){.type = (enum kv_type)type, .n = (size_t)n, .p = c->p + c->at};
    if (type == KV_STRING)
        return read_string_array(kv, c, name, err);
    cursor_take(c, n * width); /* cannot overflow or fail: checked above */
    return type == KV_BOOL ? check_bools(kv->array.p, kv->array.n, kv->key, name, err) : PLM_OK;
}

static plm_status read_kv(struct kv *kv, struct cursor *c, const char *name, plm_error *err) {
    size_t at = c->at;
    kv->key = cursor_string(c);
    uint32_t type = cursor_u32(c);
    if (c->short_of)
        return cut_short(c, name, err);
    plm_status st = check_name(kv->key, GGUF_MAX_KEY, at, "key", name, err);
    if (st)
        return st;
    if (type > KV_F64)
        return fail(err, PLM_EFORMAT, "%s: key %.*s has the unknown type %u", name, shown(kv->key), kv->key.p,
                    type);
    kv->type = (enum kv_type)type;
    size_t start = c->at;
    kv->raw = c->p + c->at;
    if (type == KV_STRING) {
        st = read_string(c, kv->key, name, err);
    } else if (type == KV_ARRAY) {
        st = read_array(kv, c, name, err);
    } else {
        const unsigned char *value = cursor_take(c, kv_width(type));
        if (!value)
            return cut_short(c, name, err);
        st = type == KV_BOOL ? check_bools(value, 1, kv->key, name, err) : PLM_OK;
    }
    kv->raw_len = c->at - start;
    return st;
}

static plm_status read_kvs(struct gguf *g, struct cursor *c, const char *name, plm_error *err) {
    for (size_t i = 0; i < g->n_kv; i++) {
        plm_status st = read_kv(&g->kv[i], c, name, err);
        if (st)
            return st;
        g->keys.slot[i] = (struct name_slot){g->kv[i].key, i};
    }
    names_sort(&g->keys);
    size_t twice = names_twice(&g->keys);
    if (twice != SIZE_MAX)
        return fail(err, PLM_EFORMAT, "%s: key %.*s is there twice", name, shown(g->kv[twice].key),
                    g->kv[twice].key.p);
    return PLM_OK;
}

/* Weights are read where they lie in the map, so less than 8 would leave words across their boundaries. */
static plm_status read_alignment(struct gguf *g, const char *name, plm_error *err) {
    const struct kv *kv = gguf_kv(g, "general.alignment");
    g->alignment = GGUF_ALIGNMENT;
    if (!kv)
        return PLM_OK;
    if (kv->type != KV_U32)
        return fail(err, PLM_EFORMAT, "%s: general.alignment is %s, not u32", name, kv_type_name(kv->type));
    uint32_t a = le32(kv->raw);
    if (a == 0 || (a & (a - 1)))
        return fail(err, PLM_EFORMAT, "%s: general.alignment is %u, not a power of two", name, a);
    if (a < 8 || a > GGUF_MAX_ALIGNMENT)
        return fail(err, PLM_ENOTSUP, "%s: general.alignment is %u (plm reads 8 to %d)", name, a,
                    GGUF_MAX_ALIGNMENT);
    g->alignment = a;
    return PLM_OK;
}

/* ---- tensors ---- */

static plm_status size_tensor(struct tensor *t, const char *name, plm_error *err) {
    const struct dtype_info *info = dtype_of(t->type);
    if (!info || info->block <= 0)
        return fail(err, PLM_ENOTSUP, "%s: tensor %.*s has the unknown type %d", name, shown(t->name),
                    t->name.p, t->type);
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        if (t->ne[i] == 0 || t->ne[i] > INT64_MAX || __builtin_mul_overflow(n, t->ne[i], &n))
            return fail(err, PLM_EFORMAT, "%s: tensor %.*s: dimension %d of %llu is %s", name, shown(t->name),
                        t->name.p, i, (unsigned long long)t->ne[i], t->ne[i] ? "too large" : "not allowed");
    if (t->ne[0] % (uint64_t)info->block)
        return fail(err, PLM_EFORMAT, "%s: tensor %.*s: rows of %llu are not whole blocks of %d (%s)", name,
                    shown(t->name), t->name.p, (unsigned long long)t->ne[0], info->block, info->name);
    if (!dtype_bytes(t->type, n, &t->bytes))
        return fail(err, PLM_EFORMAT, "%s: tensor %.*s is too large", name, shown(t->name), t->name.p);
    return PLM_OK;
}

static plm_status read_tensor(struct tensor *t, struct cursor *c, const char *name, plm_error *err) {
    size_t at = c->at;
    t->name = cursor_string(c);
    uint32_t n_dims = cursor_u32(c);
    if (c->short_of)
        return cut_short(c, name, err);
    plm_status st = check_name(t->name, GGUF_MAX_NAME, at, "tensor", name, err);
    if (st)
        return st;
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return fail(err, PLM_EFORMAT, "%s: tensor %.*s has %u dimensions (1 to %d)", name, shown(t->name),
                    t->name.p, n_dims, GGUF_MAX_DIMS);
    t->n_dims = (int)n_dims;
    for (int i = 0; i < GGUF_MAX_DIMS; i++)
        t->ne[i] = i < t->n_dims ? cursor_u64(c) : 1;
    uint32_t type = cursor_u32(c);
    t->offset = cursor_u64(c);
    if (c->short_of)
        return cut_short(c, name, err);
    t->type = type < DT_LIMIT ? (int)type : -1;
    if (t->type < 0)
        return fail(err, PLM_ENOTSUP, "%s: tensor %.*s has the unknown type %u", name, shown(t->name),
                    t->name.p, type);
    return size_tensor(t, name, err);
}

/* Tensors lie one behind another from the first aligned byte, each padded: an offset is right or refused. */
static plm_status place_tensors(struct gguf *g, const struct cursor *c, const char *name, plm_error *err) {
    size_t mask = g->alignment - 1, size = c->size;
    if (g->n_tensors == 0) {
        g->data_at = size;
        return cursor_left(c) > mask ? fail(err, PLM_EFORMAT, "%s: %zu bytes follow a header without tensors",
                                            name, cursor_left(c))
                                     : PLM_OK;
    }
    size_t at = (c->at + mask) & ~mask; /* a file's size is far from wrapping */
    g->data_at = at;
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct tensor *t = &g->tensor[i];
        if (t->offset != at - g->data_at)
            return fail(err, PLM_EFORMAT, "%s: tensor %.*s is at offset %llu of the data, not at %zu", name,
                        shown(t->name), t->name.p, (unsigned long long)t->offset, at - g->data_at);
        if (at > size || t->bytes > size - at)
            return fail(err, PLM_EFORMAT,
                        "%s: cut short: tensor %.*s needs %llu bytes from byte %zu, the file has %zu", name,
                        shown(t->name), t->name.p, (unsigned long long)t->bytes, at, size);
        t->data = c->p + at;
        at = (at + (size_t)t->bytes + mask) & ~mask;
    }
    if (size > at)
        return fail(err, PLM_EFORMAT, "%s: %zu bytes follow the last tensor", name, size - at);
    return PLM_OK;
}

static plm_status read_tensors(struct gguf *g, struct cursor *c, const char *name, plm_error *err) {
    for (size_t i = 0; i < g->n_tensors; i++) {
        plm_status st = read_tensor(&g->tensor[i], c, name, err);
        if (st)
            return st;
        g->names.slot[i] = (struct name_slot){g->tensor[i].name, i};
    }
    names_sort(&g->names);
    size_t twice = names_twice(&g->names);
    if (twice != SIZE_MAX)
        return fail(err, PLM_EFORMAT, "%s: tensor %.*s is there twice", name, shown(g->tensor[twice].name),
                    g->tensor[twice].name.p);
    return place_tensors(g, c, name, err);
}

static plm_status parse(struct gguf *g, const char *name, plm_error *err) {
    struct cursor c = {.p = g->map.data, .size = g->map.size};
    plm_status st = read_header(g, &c, name, err);
    if (!st)
        st = read_kvs(g, &c, name, err);
    if (!st)
        st = read_alignment(g, name, err);
    if (!st)
        st = read_tensors(g, &c, name, err);
    return st;
}

plm_status gguf_parse(struct gguf **out, const void *data, size_t size, const char *name, plm_error *err) {
    struct gguf *g = mem_zero(1, sizeof *g);
    if (!g)
        return fail(err, PLM_ENOMEM, "%s: no memory to open it", name);
    g->map = (struct map){.data = data, .size = size};
    plm_status st = parse(g, name, err);
    if (st) {
        gguf_close(g);
        return st;
    }
    *out = g;
    return PLM_OK;
}

plm_status gguf_open(struct gguf **out, const char *path, plm_error *err) {
    struct map map;
    plm_status st = map_open(&map, path, err);
    if (st)
        return st;
    struct gguf *g;
    st = gguf_parse(&g, map.data, map.size, path, err);
    if (st) {
        map_close(&map);
        return st;
    }
    g->map = map;
    g->mapped = true;
    *out = g;
    return PLM_OK;
}

void gguf_close(struct gguf *g) {
    if (!g)
        return;
    for (size_t i = 0; g->kv && i < g->n_kv; i++)
        mem_free(g->kv[i].string_at);
    mem_free(g->kv);
    mem_free(g->tensor);
    names_close(&g->keys);
    names_close(&g->names);
    if (g->mapped)
        map_close(&g->map);
    mem_free(g);
}
