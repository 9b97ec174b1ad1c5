/* bpe.c: byte-pair merges. At open each merge becomes (left id, right id) -> rank, result id; a merge
 * whose parts or result are no tokens is refused. A byte that has no token (some vocabularies lack rare
 * control characters) is left out, as the published tokenizers do. */
#include <string.h>
#include "token/vocab.h"

enum { PROBES = 2048, MERGES_MAX = 1 << 24 };

static size_t first_slot(const struct bpe *b, uint64_t pair) {
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    return (size_t)(h ^ h >> 32) & b->mask;
}

uint32_t bpe_rank(const struct bpe *b, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t at = first_slot(b, pair);; at = (at + 1) & b->mask) {
        if (b->rank[at] == MERGE_NONE || b->pair[at] == pair) {
            return b->rank[at];
        }
    }
}

static plm_status add_pair(struct bpe *b, int32_t left, int32_t right, uint32_t rank, plm_error *err) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = first_slot(b, pair);
    for (int tries = 0; tries < PROBES; tries++, at = (at + 1) & b->mask) {
        if (b->rank[at] == MERGE_NONE) {
            b->pair[at] = pair;
            b->rank[at] = rank;
            return PLM_OK;
        }
        if (b->pair[at] == pair) { /* written twice: the better rank stays */
            return PLM_OK;
        }
    }
    return fail(err, PLM_EFORMAT, "tokenizer.ggml.merges: merge %u collides with too many others", rank);
}

/* The token of these bytes. Results of merges mostly have ids that follow one another: that one is tried
 * first. */
static int32_t find_result(const struct vocab *v, struct str bytes, int32_t last) {
    if (!v->plain.twins && last + 1 < v->n && v->type[last + 1] == TOKEN_NORMAL) {
        struct str next = token_text(v, last + 1);
        if (next.n == bytes.n && !memcmp(next.p, bytes.p, bytes.n)) {
            return last + 1;
        }
    }
    return index_find(&v->plain, v, bytes);
}

/* One "left right" line. bytes has room for 2 * TOKEN_MAX. */
static plm_status read_merge(struct vocab *v, struct str line, uint32_t i, char *bytes, plm_error *err) {
    if (line.n > 2 * (size_t)TOKEN_MAX) {
        return fail(err, PLM_EFORMAT, "tokenizer.ggml.merges: merge %u has %zu bytes", i, line.n);
    }
    const char *space = line.n < 3 ? NULL : memchr(line.p + 1, ' ', line.n - 2);
    if (!space) {
        return fail(err, PLM_EFORMAT, "tokenizer.ggml.merges: merge %u is not two parts and a space between",
                    i);
    }
    size_t cut = (size_t)(space - line.p);
    size_t left = alphabet_bytes((struct str){line.p, cut}, bytes);
    size_t right = alphabet_bytes((struct str){space + 1, line.n - cut - 1}, bytes + left);
    int32_t a = index_find(&v->plain, v, (struct str){bytes, left});
    int32_t b = index_find(&v->plain, v, (struct str){bytes + left, right});
    int32_t ab = find_result(v, (struct str){bytes, left + right}, i ? v->bpe.result[i - 1] : -1);
    if (a < 0 || b < 0 || ab < 0) {
        return fail(err, PLM_EFORMAT, "tokenizer.ggml.merges: merge %u: its %s is no token", i,
                    a < 0   ? "left part"
                    : b < 0 ? "right part"
                            : "result");
    }
    v->bpe.result[i] = ab;
    return add_pair(&v->bpe, a, b, i, err);
}

plm_status bpe_open(struct vocab *v, const struct gguf_array *merges, plm_error *err) {
    struct bpe *b = &v->bpe;
    if (merges->n > MERGES_MAX) {
        return fail(err, PLM_EFORMAT, "tokenizer.ggml.merges: %zu merges, at most %d", merges->n, MERGES_MAX);
    }
    size_t slots = 16;
    while (slots < merges->n + merges->n / 2) {
        slots *= 2;
    }
    b->mask = slots - 1;
    b->pair = mem_alloc(slots, sizeof *b->pair);
    b->rank = mem_alloc(slots, sizeof *b->rank);
    b->result = mem_alloc(merges->n + 1, sizeof *b->result);
    char *bytes = mem_alloc(2, TOKEN_MAX);
    plm_status st = PLM_OK;
    if (!b->pair || !b->rank || !b->result || !bytes) {
        st = fail(err, PLM_ENOMEM, "no memory for %zu merges", merges->n);
    } else {
        memset(b->rank, 0xFF, slots * sizeof *b->rank);
    }
    for (size_t i = 0; i < merges->n && !st; i++) {
        st = read_merge(v, gguf_array_string(merges, i), (uint32_t)i, bytes, err);
    }
    mem_free(bytes);
    for (int i = 0; i < 256; i++) {
        char c = (char)i;
        b->byte[i] = index_find(&v->plain, v, (struct str){&c, 1});
    }
    return st;
}

void bpe_close(struct bpe *b) {
    mem_free(b->pair);
    mem_free(b->rank);
    mem_free(b->result);
}

plm_status bpe_piece(const struct vocab *v, struct str piece, struct merge_work *w, struct ids *out,
                     plm_error *err) {
    const struct bpe *b = &v->bpe;
    plm_status st = merge_reserve(w, piece.n, err);
    if (st) {
        return st;
    }
    int32_t n = 0;
    for (size_t i = 0; i < piece.n; i++) { /* vocab_encode refuses texts too long for an int32_t */
        int32_t id = b->byte[(unsigned char)piece.p[i]];
        if (id >= 0) {
            w->symbol[n] = (struct symbol){id, n - 1, n + 1, MERGE_NONE};
            n++;
        }
    }
    if (!n) {
        return PLM_OK;
    }
    w->symbol[n - 1].next = -1;
    return merge_symbols(v, piece, w, out, err);
}
