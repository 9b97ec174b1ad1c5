/* fuzz_gguf.c: bytes as a GGUF file: what parses is walked whole, every value by every getter. */
#include "fuzz.h"

#include <string.h>

#include "modelfile/modelfile.h"

static uint64_t sum; /* what is read goes here, so that the reading is not optimised away */

static void read_bytes(const void *data, size_t n) {
    const unsigned char *p = data;
    if (n)
        sum += (uint64_t)p[0] + p[n - 1];
}

static void read_array(const struct gguf *g, const char *key) {
    struct gguf_array a;
    bool found;
    plm_error err;
    if (gguf_array(g, key, &a, &found, &err))
        return;
    PROMISE(found);
    for (size_t i = 0; i < a.n; i++) {
        if (a.type == KV_STRING) {
            struct str s = gguf_array_string(&a, i);
            read_bytes(s.p, s.n);
        } else {
            double v = gguf_array_float(&a, i);
            sum += v > 0;
            if (a.type != KV_F32 && a.type != KV_F64)
                sum += (uint64_t)gguf_array_int(&a, i);
        }
    }
}

static void read_key(const struct gguf *g, size_t i) {
    enum kv_type type;
    const void *raw;
    size_t len;
    struct str key = gguf_key_at(g, i, &type, &raw, &len), text = {0};
    char *name = mem_dup(key.p, key.n);
    uint32_t u = 0;
    float f = 0;
    bool b = false, found;
    plm_error err;
    if (!name)
        return;
    read_bytes(raw, len);
    int right = !gguf_u32(g, name, &u, &found, &err) + !gguf_f32(g, name, &f, &found, &err) +
                !gguf_bool(g, name, &b, &found, &err) + !gguf_string(g, name, &text, &found, &err);
    PROMISE(right <= 1); /* a value has one type */
    read_bytes(text.p, text.n);
    read_array(g, name);
    mem_free(name);
}

static void read_tensor(const struct gguf *g, size_t i) {
    const struct tensor *t = gguf_tensor_at(g, i);
    const unsigned char *end = gguf_map(g)->data + gguf_map(g)->size, *data = t->data;
    char name[GGUF_MAX_NAME + 1] = {0};
    PROMISE(t->name.n > 0 && t->name.n <= GGUF_MAX_NAME && t->n_dims >= 1 && t->n_dims <= GGUF_MAX_DIMS);
    memcpy(name, t->name.p, t->name.n);
    PROMISE(gguf_tensor(g, name) == t);
    PROMISE(data >= gguf_map(g)->data && t->bytes > 0 && t->bytes <= (uint64_t)(end - data));
    for (int d = 0; d < GGUF_MAX_DIMS; d++)
        PROMISE(t->ne[d] >= 1 && (d < t->n_dims || t->ne[d] == 1));
    read_bytes(t->data, (size_t)t->bytes);
}

int fuzz_gguf(const uint8_t *data, size_t size) {
    struct gguf *g = NULL;
    plm_error err = {0};
    plm_status st = gguf_parse(&g, data, size, "fuzz", &err);
    PROMISE((st == PLM_OK) == (g != NULL));
    PROMISE(!st || (st == err.code && strncmp(err.text, "fuzz: ", 6) == 0));
    if (st)
        return 0;
    enum { WALKED = 1000 }; /* keys: each costs five messages */
    for (size_t i = 0; i < gguf_n_kv(g) && i < WALKED; i++)
        read_key(g, i);
    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        read_tensor(g, i);
    gguf_close(g);
    return 0;
}
