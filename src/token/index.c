/* index.c: finds a token by its bytes, and the longest marked token at a place in a text.
 * Texts come from the file, so a table that an author filled with colliding texts is refused instead
 * of being searched for hours. */
#include <string.h>
#include "token/vocab.h"

enum { PROBES = 2048 };

static uint64_t hash_text(struct str s) {
    uint64_t h = HASH_START;
    for (size_t i = 0; i < s.n; i++) {
        h = hash_byte(h, s.p[i]);
    }
    return h;
}

static size_t first_slot(const struct text_index *x, uint64_t hash) {
    return (size_t)((hash * 0x9E3779B97F4A7C15u) >> 32) & x->mask;
}

plm_status index_open(struct text_index *x, size_t n, plm_error *err) {
    size_t slots = 16;
    while (slots < n * 2) {
        slots *= 2;
    }
    x->slot = mem_zero(slots, sizeof *x->slot);
    x->mask = slots - 1;
    return x->slot ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for an index of %zu tokens", n);
}

void index_close(struct text_index *x) {
    mem_free(x->slot);
}

plm_status index_add(struct text_index *x, const struct vocab *v, int32_t id, plm_error *err) {
    struct str s = token_text(v, id);
    size_t at = first_slot(x, hash_text(s));
    for (int tries = 0; tries < PROBES; tries++, at = (at + 1) & x->mask) {
        if (!x->slot[at]) {
            x->slot[at] = (uint32_t)id + 1;
            return PLM_OK;
        }
        struct str held = token_text(v, (int32_t)(x->slot[at] - 1));
        if (held.n == s.n && !memcmp(held.p, s.p, s.n)) {
            return PLM_OK;
        }
    }
    return fail(err, PLM_EFORMAT, "tokenizer.ggml.tokens: token %d collides with too many others", id);
}

int32_t index_find_hashed(const struct text_index *x, const struct vocab *v, struct str s, uint64_t hash) {
    for (size_t at = first_slot(x, hash); x->slot[at]; at = (at + 1) & x->mask) {
        int32_t id = (int32_t)(x->slot[at] - 1);
        struct str held = token_text(v, id);
        if (held.n == s.n && !memcmp(held.p, s.p, s.n)) {
            return id;
        }
    }
    return -1;
}

int32_t index_find(const struct text_index *x, const struct vocab *v, struct str s) {
    return index_find_hashed(x, v, s, hash_text(s));
}

int32_t index_match(const struct vocab *v, struct str s, bool special, size_t *len) {
    int32_t best = -1;
    uint64_t h = HASH_START;
    size_t longest = s.n < v->longest ? s.n : v->longest;
    for (size_t n = 1; n <= longest; n++) {
        h = hash_byte(h, s.p[n - 1]);
        int32_t id = index_find_hashed(&v->marked, v, (struct str){s.p, n}, h);
        if (id >= 0 && (special || v->type[id] == TOKEN_USER)) {
            best = id;
            *len = n;
        }
    }
    return best;
}
