/* modelfile.h: the door of modelfile/. GGUF and safetensors in and out. A file is hostile until
 * parsed: every count, length, offset and product is checked against the bytes that remain before
 * anything is allocated. Limits as in GGUF_* below. */
#ifndef MODELFILE_MODELFILE_H
#define MODELFILE_MODELFILE_H
#include "tensor/tensor.h"

enum {
    GGUF_MAX_STRING = 16 << 20,
    GGUF_MAX_ARRAY = 64 << 20,
    GGUF_MAX_DIMS = 4,
    GGUF_MAX_NAME = 63,
    GGUF_MAX_TENSORS = 65536,
    GGUF_MAX_KV = 65536,
    GGUF_MAX_KEY = 65535,
    SAFETENSORS_MAX_HEADER = 16 << 20
};

enum kv_type { /* GGUF's own numbers */
               KV_U8,
               KV_I8,
               KV_U16,
               KV_I16,
               KV_U32,
               KV_I32,
               KV_F32,
               KV_BOOL,
               KV_STRING,
               KV_ARRAY,
               KV_U64,
               KV_I64,
               KV_F64
};

struct tensor {
    struct str name; /* into the map; not NUL-terminated */
    int n_dims;
    uint64_t ne[4];         /* ne[0] is contiguous; unused are 1; never 0 */
    int type;               /* GGUF number */
    uint64_t offset, bytes; /* from the start of the data */
    const void *data;
};

/* ---- GGUF in ---- */
struct gguf;
/* Maps the file, or borrows bytes in memory (at 8-byte alignment, or tensors are not aligned either). */
plm_status gguf_open(struct gguf **out, const char *path, plm_error *err);
plm_status gguf_parse(struct gguf **out, const void *data, size_t size, const char *name, plm_error *err);
void gguf_close(struct gguf *g);
size_t gguf_n_tensors(const struct gguf *g);
const struct tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct tensor *gguf_tensor(const struct gguf *g, const char *name); /* NULL: absent */
size_t gguf_n_kv(const struct gguf *g);
struct str gguf_key_at(const struct gguf *g, size_t i, enum kv_type *type, const void **raw, size_t *raw_len);
const struct map *gguf_map(const struct gguf *g);
size_t gguf_data_at(const struct gguf *g); /* offset of the data section */
/* Typed getters: *found false when the key is absent (out keeps its value: the caller's default);
 * a key of another type is PLM_EFORMAT naming it. Integers accept any integer type that
 * fits, f32 also f64. */
plm_status gguf_u32(const struct gguf *g, const char *key, uint32_t *out, bool *found, plm_error *err);
plm_status gguf_f32(const struct gguf *g, const char *key, float *out, bool *found, plm_error *err);
plm_status gguf_bool(const struct gguf *g, const char *key, bool *out, bool *found, plm_error *err);
plm_status gguf_string(const struct gguf *g, const char *key, struct str *out, bool *found, plm_error *err);
/* An array of strings, or of numbers of one type: element i is read by the functions below. */
struct gguf_array {
    enum kv_type type;
    size_t n;
    const unsigned char *p; /* first element */
    const uint64_t *at;     /* strings: offsets of each from p, built at parse; else NULL */
};
plm_status gguf_array(const struct gguf *g, const char *key, struct gguf_array *out, bool *found,
                      plm_error *err);
struct str gguf_array_string(const struct gguf_array *a, size_t i);
int64_t gguf_array_int(const struct gguf_array *a, size_t i);
double gguf_array_float(const struct gguf_array *a, size_t i);

/* ---- GGUF out: keys first, then tensor declarations, then their data in the same order ---- */
struct gguf_writer;
plm_status gguf_writer_open(struct gguf_writer **out, const char *path, plm_error *err);
void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_put_f32(struct gguf_writer *w, const char *key, float v);
void gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_put_string(struct gguf_writer *w, const char *key, const char *v);
/* As gguf_key_at gave it: copies a key of another file. */
void gguf_put_raw(struct gguf_writer *w, struct str key, enum kv_type type, const void *raw, size_t raw_len);
void gguf_put_strings(struct gguf_writer *w, const char *key, const char *const *v, size_t n);
void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, size_t n);
void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n);
void gguf_put_tensor(struct gguf_writer *w, const char *name, int type, int n_dims, const uint64_t *ne);
/* The data of the next declared tensor; bytes must be its size. Errors of all puts surface here. */
plm_status gguf_put_data(struct gguf_writer *w, const void *data, size_t bytes, plm_error *err);
/* All data must be there. Frees w either way. */
plm_status gguf_writer_commit(struct gguf_writer *w, plm_error *err);
void gguf_writer_abort(struct gguf_writer *w);

/* ---- safetensors ---- */
struct safetensors;
struct safe_tensor {
    const char *name;
    int type; /* DT_F32, DT_F16, DT_BF16; other dtypes of the format: -1 */
    int n_dims;
    uint64_t shape[8]; /* PyTorch order: the last is contiguous */
    const void *data;  /* at any alignment */
    size_t bytes;
};
plm_status safetensors_open(struct safetensors **out, const char *path, plm_error *err);
plm_status safetensors_parse(struct safetensors **out, const void *data, size_t size, const char *name,
                             plm_error *err);
void safetensors_close(struct safetensors *s);
size_t safetensors_count(const struct safetensors *s);
const struct safe_tensor *safetensors_at(const struct safetensors *s, size_t i);
const struct safe_tensor *safetensors_find(const struct safetensors *s, const char *name);
/* Writes all at once, atomically, names sorted. F32 data. */
struct safe_out {
    const char *name;
    int n_dims;
    uint64_t shape[4];
    const float *data;
};
plm_status safetensors_write(const char *path, const struct safe_out *t, size_t n, plm_error *err);
#endif
