/* bpe.c: byte-pair merges. At open each merge becomes (left id, right id) -> rank, result id; a merge
 * whose parts or result are no tokens is refused. A piece is a linked list of symbols and a heap of
 * possible merges, best rank first and leftmost on ties: O(n log n) for a piece of n bytes.
 * A byte that has no token (some vocabularies lack rare control characters) is left out, as the
 * published tokenizers do. */
#include <string.h>
#include "token/vocab.h"

enum { PROBES = 2048, MERGES_MAX = 1 << 24 };

static size_t first_slot(const struct bpe *b, uint64_t pair) {
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    return (size_t)(h ^ h >> 32) & b->mask;
}

static uint32_t rank_of(const struct bpe *b, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t at = first_slot(b, pair);; at = (at + 1) & b->mask) {
        if (b->rank[at] == BPE_NONE || b->pair[at] == pair) {
            return b->rank[at];
        }
    }
}

static plm_status add_pair(struct bpe *b, int32_t left, int32_t right, uint32_t rank, plm_error *err) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = first_slot(b, pair);
    for (int tries = 0; tries < PROBES; tries++, at = (at + 1) & b->mask) {
        if (b->rank[at] == BPE_NONE) {
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
    int32_t ab = index_find(&v->plain, v, (struct str){bytes, left + right});
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

void bpe_work_free(struct bpe_work *w) {
    mem_free(w->symbol);
    mem_free(w->heap);
}

static plm_status reserve(struct bpe_work *w, size_t n, plm_error *err) {
    if (n <= w->cap) {
        return PLM_OK;
    }
    size_t cap = n < 64 ? 64 : n + n / 2;
    struct symbol *symbol = mem_grow(w->symbol, cap, sizeof *symbol);
    if (!symbol) {
        return fail(err, PLM_ENOMEM, "no memory to tokenise %zu bytes", n);
    }
    w->symbol = symbol;
    w->cap = cap;
    return PLM_OK;
}

/* ---- the heap, smallest entry first ---- */

static plm_status heap_push(struct bpe_work *w, uint64_t entry, plm_error *err) {
    if (w->n_heap == w->heap_cap) {
        size_t cap = w->heap_cap * 2 + 64;
        uint64_t *heap = mem_grow(w->heap, cap, sizeof *heap);
        if (!heap) {
            return fail(err, PLM_ENOMEM, "no memory to tokenise");
        }
        w->heap = heap;
        w->heap_cap = cap;
    }
    size_t i = w->n_heap++;
    while (i && w->heap[(i - 1) / 2] > entry) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = entry;
    return PLM_OK;
}

static uint64_t heap_pop(struct bpe_work *w) {
    uint64_t top = w->heap[0], moved = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n_heap; i = child) {
        child += child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child];
        if (w->heap[child] >= moved) {
            break;
        }
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = moved;
    return top;
}

/* Looks up the merge of the symbol at i with the next one. */
static plm_status consider(const struct bpe *b, struct bpe_work *w, int32_t i, plm_error *err) {
    struct symbol *s = &w->symbol[i];
    s->rank = s->next < 0 ? BPE_NONE : rank_of(b, s->id, w->symbol[s->next].id);
    return s->rank == BPE_NONE ? PLM_OK : heap_push(w, (uint64_t)s->rank << 32 | (uint32_t)i, err);
}

static plm_status merge_at(const struct bpe *b, struct bpe_work *w, int32_t i, plm_error *err) {
    struct symbol *s = &w->symbol[i], *gone = &w->symbol[s->next];
    s->id = b->result[s->rank];
    s->next = gone->next;
    gone->rank = BPE_NONE; /* entries of it in the heap no longer fit */
    if (s->next >= 0) {
        w->symbol[s->next].prev = i;
    }
    plm_status st = consider(b, w, i, err);
    return st || s->prev < 0 ? st : consider(b, w, s->prev, err);
}

plm_status bpe_piece(const struct vocab *v, struct str piece, struct bpe_work *w, struct ids *out,
                     plm_error *err) {
    const struct bpe *b = &v->bpe;
    plm_status st = reserve(w, piece.n, err);
    if (st) {
        return st;
    }
    int32_t n = 0;
    for (size_t i = 0; i < piece.n; i++) { /* vocab_encode refuses texts too long for an int32_t */
        int32_t id = b->byte[(unsigned char)piece.p[i]];
        if (id >= 0) {
            w->symbol[n] = (struct symbol){id, n - 1, n + 1, BPE_NONE};
            n++;
        }
    }
    if (!n) {
        return PLM_OK;
    }
    w->symbol[n - 1].next = -1;
    w->n_heap = 0;
    for (int32_t i = 0; i < n && !st; i++) {
        st = consider(b, w, i, err);
    }
    while (w->n_heap && !st) {
        uint64_t best = heap_pop(w);
        int32_t i = (int32_t)(best & UINT32_MAX);
        if (w->symbol[i].rank == best >> 32) { /* else its pair has changed since */
            st = merge_at(b, w, i, err);
        }
    }
    for (int32_t i = 0; i >= 0 && !st; i = w->symbol[i].next) {
        st = ids_push(out, w->symbol[i].id, err);
    }
    return st;
}
