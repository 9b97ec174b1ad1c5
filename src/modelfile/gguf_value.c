/* gguf_value.c: what a parsed GGUF file holds: tensors by name, and values as the type the caller wants.
 * An integer is taken from any integer type it fits in; nothing else is converted. */
#include "modelfile/gguf.h"
#include <assert.h>
#include "modelfile/cursor.h"

static const struct {
    const char *name;
    size_t width;
} types[] = {
    [KV_U8] = {"u8", 1},          [KV_I8] = {"i8", 1},   [KV_U16] = {"u16", 2}, [KV_I16] = {"i16", 2},
    [KV_U32] = {"u32", 4},        [KV_I32] = {"i32", 4}, [KV_F32] = {"f32", 4}, [KV_BOOL] = {"bool", 1},
    [KV_U64] = {"u64", 8},        [KV_I64] = {"i64", 8}, [KV_F64] = {"f64", 8}, [KV_STRING] = {"a string", 0},
    [KV_ARRAY] = {"an array", 0},
};

size_t kv_width(uint32_t type) {
    return type < sizeof types / sizeof *types ? types[type].width : 0;
}

const char *kv_type_name(enum kv_type type) {
    return types[type].name;
}

const struct kv *gguf_kv(const struct gguf *g, const char *key) {
    size_t i = names_find(&g->keys, str_of(key));
    return i == SIZE_MAX ? NULL : &g->kv[i];
}

size_t gguf_n_tensors(const struct gguf *g) {
    return g->n_tensors;
}

const struct tensor *gguf_tensor_at(const struct gguf *g, size_t i) {
    assert(i < g->n_tensors);
    return &g->tensor[i];
}

const struct tensor *gguf_tensor(const struct gguf *g, const char *name) {
    size_t i = names_find(&g->names, str_of(name));
    return i == SIZE_MAX ? NULL : &g->tensor[i];
}

size_t gguf_n_kv(const struct gguf *g) {
    return g->n_kv;
}

struct str gguf_key_at(const struct gguf *g, size_t i, enum kv_type *type, const void **raw,
                       size_t *raw_len) {
    assert(i < g->n_kv);
    const struct kv *kv = &g->kv[i];
    *type = kv->type;
    *raw = kv->raw;
    *raw_len = kv->raw_len;
    return kv->key;
}

const struct map *gguf_map(const struct gguf *g) {
    return &g->map;
}

size_t gguf_data_at(const struct gguf *g) {
    return g->data_at;
}

static bool is_integer(enum kv_type type) {
    return type != KV_F32 && type != KV_F64 && type != KV_BOOL && type != KV_STRING && type != KV_ARRAY;
}

/* u64 values above INT64_MAX come out negative. */
static int64_t integer_at(enum kv_type type, const unsigned char *p) {
    switch (type) {
    case KV_U8:
    case KV_BOOL:
        return p[0];
    case KV_I8:
        return (int8_t)p[0];
    case KV_U16:
        return (uint16_t)(p[0] | p[1] << 8);
    case KV_I16:
        return (int16_t)(uint16_t)(p[0] | p[1] << 8);
    case KV_U32:
        return le32(p);
    case KV_I32:
        return (int32_t)le32(p);
    case KV_U64:
    case KV_I64:
        return (int64_t)le64(p);
    default:
        return 0;
    }
}

static double real_at(enum kv_type type, const unsigned char *p) {
    if (type == KV_F32) {
        uint32_t bits = le32(p);
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    if (type == KV_F64) {
        uint64_t bits = le64(p);
        double d;
        memcpy(&d, &bits, sizeof d);
        return d;
    }
    return type == KV_U64 ? (double)le64(p) : (double)integer_at(type, p);
}

static plm_status wrong_type(const struct kv *kv, const char *wanted, plm_error *err) {
    return fail(err, PLM_EFORMAT, "key %.*s is %s, not %s", (int)(kv->key.n < 64 ? kv->key.n : 64), kv->key.p,
                kv_type_name(kv->type), wanted);
}

plm_status gguf_u32(const struct gguf *g, const char *key, uint32_t *out, bool *found, plm_error *err) {
    const struct kv *kv = gguf_kv(g, key);
    *found = false;
    if (!kv)
        return PLM_OK;
    if (!is_integer(kv->type))
        return wrong_type(kv, "an integer", err);
    int64_t v = integer_at(kv->type, kv->raw);
    if (v < 0 || v > UINT32_MAX)
        return fail(err, PLM_EFORMAT, "key %s is out of range: not in 0 .. %u", key, UINT32_MAX);
    *out = (uint32_t)v;
    *found = true;
    return PLM_OK;
}

plm_status gguf_f32(const struct gguf *g, const char *key, float *out, bool *found, plm_error *err) {
    const struct kv *kv = gguf_kv(g, key);
    *found = false;
    if (!kv)
        return PLM_OK;
    if (kv->type != KV_F32 && kv->type != KV_F64)
        return wrong_type(kv, "f32", err);
    *out = (float)real_at(kv->type, kv->raw);
    *found = true;
    return PLM_OK;
}

plm_status gguf_bool(const struct gguf *g, const char *key, bool *out, bool *found, plm_error *err) {
    const struct kv *kv = gguf_kv(g, key);
    *found = false;
    if (!kv)
        return PLM_OK;
    if (kv->type != KV_BOOL)
        return wrong_type(kv, "bool", err);
    *out = kv->raw[0] != 0;
    *found = true;
    return PLM_OK;
}

plm_status gguf_string(const struct gguf *g, const char *key, struct str *out, bool *found, plm_error *err) {
    const struct kv *kv = gguf_kv(g, key);
    *found = false;
    if (!kv)
        return PLM_OK;
    if (kv->type != KV_STRING)
        return wrong_type(kv, "a string", err);
    *out = (struct str){(const char *)kv->raw + 8, kv->raw_len - 8};
    *found = true;
    return PLM_OK;
}

plm_status gguf_array(const struct gguf *g, const char *key, struct gguf_array *out, bool *found,
                      plm_error *err) {
    const struct kv *kv = gguf_kv(g, key);
    *found = false;
    if (!kv)
        return PLM_OK;
    if (kv->type != KV_ARRAY)
        return wrong_type(kv, "an array", err);
    *out = kv->array;
    *found = true;
    return PLM_OK;
}

struct str gguf_array_string(const struct gguf_array *a, size_t i) {
    assert(a->type == KV_STRING && i < a->n);
    const unsigned char *p = a->p + a->at[i];
    return (struct str){(const char *)p + 8, (size_t)le64(p)};
}

int64_t gguf_array_int(const struct gguf_array *a, size_t i) {
    assert((is_integer(a->type) || a->type == KV_BOOL) && i < a->n);
    return integer_at(a->type, a->p + i * kv_width(a->type));
}

double gguf_array_float(const struct gguf_array *a, size_t i) {
    assert(kv_width(a->type) && i < a->n);
    return real_at(a->type, a->p + i * kv_width(a->type));
}
