/* gguf_write.c: writes GGUF v3. Keys and declarations gather in memory, the header goes out before the first
 * data, data is streamed; the file appears whole at commit or not at all. The same calls give the same bytes.
 * It refuses data of another size or number than declared. */
#include "modelfile/gguf.h"
#include <string.h>

/* Far above any vocabulary; what is declared here is ours, not a stranger's. */
enum { HEADER_MAX = 1 << 30 };

struct gguf_writer {
    struct writer *out;
    struct bytes kv, infos;
    uint64_t n_kv, n_tensors, written; /* written: tensors whose data is in the file */
    uint64_t *size;                    /* [n_tensors] bytes of each */
    uint64_t offset;                   /* of the next declared tensor */
    bool header_out;
    plm_status st; /* the first mistake; reported by the next call that can */
    plm_error mistake;
};

static void put_le(struct bytes *b, uint64_t v, int width) {
    unsigned char raw[8];
    for (int i = 0; i < width; i++)
        raw[i] = (unsigned char)(v >> (8 * i));
    bytes_put(b, raw, (size_t)width);
}

static void put_str(struct bytes *b, struct str s) {
    put_le(b, s.n, 8);
    bytes_put(b, s.p, s.n);
}

static uint32_t float_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

plm_status gguf_writer_open(struct gguf_writer **out, const char *path, plm_error *err) {
    struct gguf_writer *w = mem_zero(1, sizeof *w);
    if (!w)
        return fail(err, PLM_ENOMEM, "%s: no memory to write it", path);
    plm_status st = writer_open(&w->out, path, err);
    if (st) {
        mem_free(w);
        return st;
    }
    bytes_init(&w->kv, HEADER_MAX);
    bytes_init(&w->infos, HEADER_MAX);
    *out = w;
    return PLM_OK;
}

static void mistake(struct gguf_writer *w, plm_status st, const char *what, const char *name) {
    if (!w->st)
        w->st = fail(&w->mistake, st, "writing GGUF: %s %s", what, name);
}

/* Writes the key; false when nothing may be added any more. */
static bool begin_kv(struct gguf_writer *w, struct str key, enum kv_type type) {
    if (w->header_out)
        mistake(w, PLM_EINVAL, "a key comes after", "the data");
    if (w->st)
        return false;
    put_str(&w->kv, key);
    put_le(&w->kv, type, 4);
    w->n_kv++;
    return true;
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v) {
    if (begin_kv(w, str_of(key), KV_U32))
        put_le(&w->kv, v, 4);
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float v) {
    if (begin_kv(w, str_of(key), KV_F32))
        put_le(&w->kv, float_bits(v), 4);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool v) {
    if (begin_kv(w, str_of(key), KV_BOOL))
        put_le(&w->kv, v, 1);
}

void gguf_put_string(struct gguf_writer *w, const char *key, const char *v) {
    if (begin_kv(w, str_of(key), KV_STRING))
        put_str(&w->kv, str_of(v));
}

void gguf_put_raw(struct gguf_writer *w, struct str key, enum kv_type type, const void *raw, size_t raw_len) {
    if (begin_kv(w, key, type))
        bytes_put(&w->kv, raw, raw_len);
}

static bool begin_array(struct gguf_writer *w, const char *key, enum kv_type type, size_t n) {
    if (!begin_kv(w, str_of(key), KV_ARRAY))
        return false;
    put_le(&w->kv, type, 4);
    put_le(&w->kv, n, 8);
    return true;
}

void gguf_put_strings(struct gguf_writer *w, const char *key, const char *const *v, size_t n) {
    if (begin_array(w, key, KV_STRING, n))
        for (size_t i = 0; i < n; i++)
            put_str(&w->kv, str_of(v[i]));
}

void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, size_t n) {
    if (begin_array(w, key, KV_F32, n))
        for (size_t i = 0; i < n; i++)
            put_le(&w->kv, float_bits(v[i]), 4);
}

void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n) {
    if (begin_array(w, key, KV_I32, n))
        for (size_t i = 0; i < n; i++)
            put_le(&w->kv, (uint32_t)v[i], 4);
}

/* Its size in bytes; 0: no such tensor can be written. */
static uint64_t tensor_size(int type, int n_dims, const uint64_t *ne) {
    uint64_t n = 1, bytes = 0;
    const struct dtype_info *info = dtype_of(type);
    if (!info || info->block <= 0 || n_dims < 1 || n_dims > GGUF_MAX_DIMS || ne[0] % (uint64_t)info->block)
        return 0;
    for (int i = 0; i < n_dims; i++)
        if (__builtin_mul_overflow(n, ne[i], &n))
            return 0;
    return dtype_bytes(type, n, &bytes) && bytes <= SIZE_MAX / 2 ? bytes : 0;
}

void gguf_put_tensor(struct gguf_writer *w, const char *name, int type, int n_dims, const uint64_t *ne) {
    uint64_t bytes = tensor_size(type, n_dims, ne), mask = GGUF_ALIGNMENT - 1;
    if (w->header_out)
        mistake(w, PLM_EINVAL, "a tensor after the data:", name);
    else if (bytes == 0 || strlen(name) > GGUF_MAX_NAME || w->offset > SIZE_MAX / 2)
        mistake(w, PLM_EINVAL, "no such shape or name:", name);
    if (w->st)
        return;
    uint64_t *size = mem_grow(w->size, w->n_tensors + 1, sizeof *size);
    if (!size) {
        mistake(w, PLM_ENOMEM, "no memory to declare", name);
        return;
    }
    w->size = size;
    w->size[w->n_tensors++] = bytes;
    put_str(&w->infos, str_of(name));
    put_le(&w->infos, (uint64_t)n_dims, 4);
    for (int i = 0; i < n_dims; i++)
        put_le(&w->infos, ne[i], 8);
    put_le(&w->infos, (uint64_t)type, 4);
    put_le(&w->infos, w->offset, 8);
    w->offset += (bytes + mask) & ~mask;
}

static plm_status header_write(struct gguf_writer *w, plm_error *err) {
    struct bytes head;
    bytes_init(&head, 64);
    bytes_put(&head, "GGUF", 4);
    put_le(&head, 3, 4);
    put_le(&head, w->n_tensors, 8);
    put_le(&head, w->n_kv, 8);
    plm_status st = bytes_status(&head, "GGUF header", err);
    if (!st)
        st = bytes_status(&w->kv, "GGUF keys", err);
    if (!st)
        st = bytes_status(&w->infos, "GGUF tensor list", err);
    if (!st)
        st = writer_put(w->out, head.data, head.len, err);
    if (!st && w->kv.len)
        st = writer_put(w->out, w->kv.data, w->kv.len, err);
    if (!st && w->infos.len)
        st = writer_put(w->out, w->infos.data, w->infos.len, err);
    if (!st)
        st = writer_pad(w->out, GGUF_ALIGNMENT, err);
    bytes_free(&head);
    w->header_out = true;
    return st;
}

/* Passes on the first mistake, and makes an error of this call the first one. */
static plm_status settle(struct gguf_writer *w, plm_status st, plm_error *err) {
    if (w->st) {
        if (err)
            *err = w->mistake;
        return w->st;
    }
    if (st) {
        w->st = st;
        if (err)
            w->mistake = *err;
        else
            fail(&w->mistake, st, "writing GGUF failed");
    }
    return st;
}

plm_status gguf_put_data(struct gguf_writer *w, const void *data, size_t bytes, plm_error *err) {
    plm_status st = settle(w, PLM_OK, err);
    if (!st && !w->header_out)
        st = settle(w, header_write(w, err), err);
    if (st)
        return st;
    if (w->written >= w->n_tensors || bytes != w->size[w->written])
        return settle(w,
                      fail(err, PLM_EINVAL, "writing GGUF: %zu bytes are not those of tensor %llu", bytes,
                           (unsigned long long)w->written),
                      err);
    w->written++;
    st = writer_put(w->out, data, bytes, err);
    if (!st)
        st = writer_pad(w->out, GGUF_ALIGNMENT, err);
    return settle(w, st, err);
}

static void release(struct gguf_writer *w) {
    bytes_free(&w->kv);
    bytes_free(&w->infos);
    mem_free(w->size);
    mem_free(w);
}

plm_status gguf_writer_commit(struct gguf_writer *w, plm_error *err) {
    plm_status st = settle(w, PLM_OK, err);
    if (!st && !w->header_out)
        st = header_write(w, err);
    if (!st && w->written != w->n_tensors)
        st = fail(err, PLM_EINVAL, "writing GGUF: %llu of %llu tensors have data",
                  (unsigned long long)w->written, (unsigned long long)w->n_tensors);
    if (st)
        writer_abort(w->out);
    else
        st = writer_commit(w->out, err);
    release(w);
    return st;
}

void gguf_writer_abort(struct gguf_writer *w) {
    if (!w)
        return;
    writer_abort(w->out);
    release(w);
}
