/* gguf_bytes.h: GGUF files byte by byte, for tests that need one no writer would make. Written from the
 * format's description, not with our writer, so that the two can disagree. */
#ifndef TESTS_GGUF_BYTES_H
#define TESTS_GGUF_BYTES_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Compiled with a sanitizer, whose own memory hides what a call takes. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

struct raw {
    unsigned char *p;
    size_t n, cap;
};

static inline void raw_put(struct raw *r, const void *data, size_t n) {
    if (n > (1 << 30) || r->n > (1 << 30))
        abort();
    if (r->n + n > r->cap) {
        r->cap = (r->n + n) * 2;
        r->p = realloc(r->p, r->cap);
        if (!r->p)
            abort();
    }
    if (n)
        memcpy(r->p + r->n, data, n);
    r->n += n;
}

static inline void raw_le(struct raw *r, uint64_t v, int width) {
    unsigned char b[8];
    for (int i = 0; i < width; i++)
        b[i] = (unsigned char)(v >> (8 * i));
    raw_put(r, b, (size_t)width);
}

static inline void raw_u8(struct raw *r, unsigned v) {
    raw_le(r, v, 1);
}
static inline void raw_u32(struct raw *r, uint32_t v) {
    raw_le(r, v, 4);
}
static inline void raw_u64(struct raw *r, uint64_t v) {
    raw_le(r, v, 8);
}

static inline void raw_f32(struct raw *r, float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    raw_u32(r, bits);
}

static inline void raw_text(struct raw *r, const char *text) {
    raw_u64(r, strlen(text));
    raw_put(r, text, strlen(text));
}

static inline void raw_zeros(struct raw *r, size_t n) {
    while (n--)
        raw_u8(r, 0);
}

static inline void raw_pad(struct raw *r, size_t align) {
    while (r->n % align)
        raw_u8(r, 0);
}

static inline struct raw raw_gguf(uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    struct raw r = {0};
    raw_put(&r, "GGUF", 4);
    raw_u32(&r, version);
    raw_u64(&r, n_tensors);
    raw_u64(&r, n_kv);
    return r;
}

static inline void raw_key(struct raw *r, const char *key, uint32_t type) {
    raw_text(r, key);
    raw_u32(r, type);
}

static inline void raw_kv_text(struct raw *r, const char *key, const char *value) {
    raw_key(r, key, 8);
    raw_text(r, value);
}

static inline void raw_kv_u32(struct raw *r, const char *key, uint32_t value) {
    raw_key(r, key, 4);
    raw_u32(r, value);
}

static inline void raw_tensor(struct raw *r, const char *name, uint32_t n_dims, const uint64_t *ne,
                              uint32_t type, uint64_t offset) {
    raw_text(r, name);
    raw_u32(r, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 8; i++)
        raw_u64(r, ne[i]);
    raw_u32(r, type);
    raw_u64(r, offset);
}

static inline void raw_free(struct raw *r) {
    free(r->p);
    *r = (struct raw){0};
}
#endif
