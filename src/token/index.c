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

/* Which slot a text is looked for in first, and what a slot of the same hash holds beside the token: texts
 * are fetched only where that agrees. */
static size_t first_slot(const struct text_index *x, uint64_t mixed) {
    return (size_t)(mixed >> 32) & x->mask;
}

static uint64_t tag_of(uint64_t mixed) {
    return mixed << 32;
}

static uint64_t mix(uint64_t hash) {
    return hash * 0x9E3779B97F4A7C15u;
}

static bool is_tagged(uint64_t slot, uint64_t tag) {
    return (slot ^ tag) >> 32 == 0;
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
    uint64_t mixed = mix(hash_text(s)), tag = tag_of(mixed);
    size_t at = first_slot(x, mixed);
    for (int tries = 0; tries < PROBES; tries++, at = (at + 1) & x->mask) {
        if (!x->slot[at]) {
            x->slot[at] = tag | ((uint32_t)id + 1);
            return PLM_OK;
        }
        if (!is_tagged(x->slot[at], tag)) {
            continue;
        }
        struct str held = token_text(v, (int32_t)((uint32_t)x->slot[at] - 1));
        if (held.n == s.n && !memcmp(held.p, s.p, s.n)) {
            x->twins = true;
            return PLM_OK;
        }
    }
    return fail(err, PLM_EFORMAT, "tokenizer.ggml.tokens: token %d collides with too many others", id);
}

int32_t index_find_hashed(const struct text_index *x, const struct vocab *v, struct str s, uint64_t hash) {
    uint64_t mixed = mix(hash), tag = tag_of(mixed);
    for (size_t at = first_slot(x, mixed); x->slot[at]; at = (at + 1) & x->mask) {
        if (!is_tagged(x->slot[at], tag)) {
            continue;
        }
        int32_t id = (int32_t)((uint32_t)x->slot[at] - 1);
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
