/* merge.c: the merging that both kinds of vocabulary share. A piece is a linked list of symbols and a heap of
 * possible merges, best rank first and leftmost on ties: O(n log n) for a piece of n bytes. What a pair's
 * rank and result are, bpe.c looks up by its two ids and spm.c by its bytes. */
#include "token/vocab.h"

void merge_work_free(struct merge_work *w) {
    mem_free(w->symbol);
    mem_free(w->heap);
}

plm_status merge_reserve(struct merge_work *w, size_t n, plm_error *err) {
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

static plm_status heap_push(struct merge_work *w, uint64_t entry, plm_error *err) {
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

static uint64_t heap_pop(struct merge_work *w) {
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

/* ---- symbols ---- */

/* The bytes of the symbol at i, with scores: its place is its first byte. */
static struct str bytes_at(const struct merge_work *w, struct str piece, int32_t i) {
    size_t end = w->symbol[i].next < 0 ? piece.n : (size_t)w->symbol[i].next;
    return (struct str){piece.p + i, end - (size_t)i};
}

/* Looks up the merge of the symbol at i with the next one. */
static plm_status consider(const struct vocab *v, struct str piece, struct merge_work *w, int32_t i,
                           plm_error *err) {
    struct symbol *s = &w->symbol[i];
    s->rank = MERGE_NONE;
    if (s->next >= 0 && v->scored) {
        struct str left = bytes_at(w, piece, i);
        s->rank = spm_rank(v, (struct str){left.p, left.n + bytes_at(w, piece, s->next).n});
    } else if (s->next >= 0) {
        s->rank = bpe_rank(&v->bpe, s->id, w->symbol[s->next].id);
    }
    return s->rank == MERGE_NONE ? PLM_OK : heap_push(w, (uint64_t)s->rank << 32 | (uint32_t)i, err);
}

static plm_status merge_at(const struct vocab *v, struct str piece, struct merge_work *w, int32_t i,
                           plm_error *err) {
    struct symbol *s = &w->symbol[i], *gone = &w->symbol[s->next];
    s->next = gone->next;
    s->id = v->scored ? index_find(&v->plain, v, bytes_at(w, piece, i)) : v->bpe.result[s->rank];
    gone->rank = MERGE_NONE; /* entries of it in the heap no longer fit */
    if (s->next >= 0) {
        w->symbol[s->next].prev = i;
    }
    plm_status st = consider(v, piece, w, i, err);
    return st || s->prev < 0 ? st : consider(v, piece, w, s->prev, err);
}

plm_status merge_symbols(const struct vocab *v, struct str piece, struct merge_work *w, struct ids *out,
                         plm_error *err) {
    plm_status st = PLM_OK;
    w->n_heap = 0;
    for (int32_t i = 0; i >= 0 && !st; i = w->symbol[i].next) {
        st = consider(v, piece, w, i, err);
    }
    while (w->n_heap && !st) {
        uint64_t best = heap_pop(w);
        int32_t i = (int32_t)(best & UINT32_MAX);
        if (w->symbol[i].rank == best >> 32) { /* else its pair has changed since */
            st = merge_at(v, piece, w, i, err);
        }
    }
    for (int32_t i = 0; i >= 0 && !st; i = w->symbol[i].next) {
        int32_t id = w->symbol[i].id;
        st = id >= 0 ? ids_push(out, id, err) : spm_bytes(v, bytes_at(w, piece, i), out, err);
    }
    return st;
}
