/* gguf.h: what the halves of the GGUF reader share: the file in memory and its value types. */
#ifndef MODELFILE_GGUF_H
#define MODELFILE_GGUF_H
#include "modelfile/modelfile.h"
#include "modelfile/names.h"

enum { GGUF_ALIGNMENT = 32, GGUF_MAX_ALIGNMENT = 65536 };

/* One key and its value. Invariant after parsing: the value lies whole inside the file. */
struct kv {
    struct str key;
    enum kv_type type;
    const unsigned char *raw; /* the value as written, for an array with its type and count */
    size_t raw_len;
    struct gguf_array array; /* type KV_ARRAY only */
    uint64_t *string_at;     /* owned: array.at */
};

struct gguf {
    struct map map;
    bool mapped; /* by us; else the bytes are the caller's */
    struct kv *kv;
    struct tensor *tensor;
    size_t n_kv, n_tensors, alignment, data_at;
    struct names keys, names;
};

/* Bytes of one value of a fixed-size type; 0: a string, an array or no type at all. */
size_t kv_width(uint32_t type);
const char *kv_type_name(enum kv_type type);
const struct kv *gguf_kv(const struct gguf *g, const char *key); /* NULL: absent */
#endif
