/* rouge.c: ROUGE-N, ROUGE-L and ROUGE-Lsum as rouge-score defines them (without stemming). The first two use
 * no memory but a bit a word on the stack, and so can't fail. */
#include "base/text.h"

#include <string.h>

#include "base/mem.h"

enum {
    MAX_WORDS = 1 << 20,
    MAX_GRAM = 8,
    MAX_CELLS = 1 << 26, /* of one table of rouge_lsum */
};

struct bits {
    uint64_t w[MAX_WORDS / 64];
};

static size_t seen_words(const struct words *w) {
    return w->n < MAX_WORDS ? w->n : MAX_WORDS;
}

static bool same(const struct words *a, size_t i, const struct words *b, size_t j) {
    if (a->hash && b->hash && a->hash[i] != b->hash[j])
        return false;
    return a->w[i].n == b->w[j].n && (a->w[i].n == 0 || memcmp(a->w[i].p, b->w[j].p, a->w[i].n) == 0);
}

static bool same_gram(const struct words *a, size_t i, const struct words *b, size_t j, size_t n) {
    for (size_t k = 0; k < n; k++) {
        if (!same(a, i + k, b, j + k))
            return false;
    }
    return true;
}

static struct rouge score(size_t hits, size_t target, size_t prediction) {
    struct rouge r = {0, 0, 0};
    if (!hits)
        return r;
    r.precision = (double)hits / (double)prediction;
    r.recall = (double)hits / (double)target;
    r.f = 2 * r.precision * r.recall / (r.precision + r.recall);
    return r;
}

struct rouge rouge_n(const struct words *target, const struct words *prediction, int n) {
    struct bits used; /* n-grams of the prediction that already met one of the target */
    size_t size = n < 1 ? 1 : n > MAX_GRAM ? MAX_GRAM : (size_t)n;
    size_t a = seen_words(target), b = seen_words(prediction), hits = 0;
    a = a >= size ? a - size + 1 : 0;
    b = b >= size ? b - size + 1 : 0;
    memset(used.w, 0, (b + 63) / 64 * sizeof used.w[0]);
    for (size_t i = 0; i < a; i++) {
        for (size_t j = 0; j < b; j++) {
            if (used.w[j / 64] >> (j % 64) & 1 || !same_gram(target, i, prediction, j, size))
                continue;
            used.w[j / 64] |= (uint64_t)1 << (j % 64);
            hits++;
            break;
        }
    }
    return score(hits, a, b);
}

/* Which of the 64 words of b from j on equal word i of a. */
static uint64_t matches(const struct words *a, size_t i, const struct words *b, size_t j, size_t b_n) {
    size_t n = b_n - j < 64 ? b_n - j : 64;
    uint64_t m = 0;
    for (size_t k = 0; k < n; k++)
        m |= (uint64_t)same(a, i, b, j + k) << k;
    return m;
}

/* Length of the longest common subsequence, 64 words at once: a zero bit in v marks where a row of the usual
 * table grows by one (Crochemore and others, 2001). */
static size_t lcs_length(const struct words *a, size_t a_n, const struct words *b, size_t b_n) {
    struct bits v;
    size_t blocks = (b_n + 63) / 64, length = 0;
    memset(v.w, 0xff, blocks * sizeof v.w[0]);
    for (size_t i = 0; i < a_n; i++) {
        bool carry = false;
        for (size_t k = 0; k < blocks; k++) {
            uint64_t old = v.w[k], u = old & matches(a, i, b, k * 64, b_n), sum;
            bool over = __builtin_add_overflow(old, u, &sum);
            over |= __builtin_add_overflow(sum, (uint64_t)carry, &sum);
            carry = over;
            v.w[k] = sum | (old & ~u);
        }
    }
    for (size_t j = 0; j < b_n; j++)
        length += ~v.w[j / 64] >> (j % 64) & 1;
    return length;
}

struct rouge rouge_l(const struct words *target, const struct words *prediction) {
    size_t a = seen_words(target), b = seen_words(prediction);
    return score(lcs_length(target, a, prediction, b), a, b);
}

/* The lines of a text, each as words. */
struct sentences {
    struct words *s;
    size_t n, words;
};

static void sentences_free(struct sentences *all) {
    for (size_t i = 0; i < all->n; i++)
        words_free(&all->s[i]);
    mem_free(all->s);
}

static plm_status sentences_split(struct sentences *out, const char *text, plm_error *err) {
    struct str rest = str_of(text), line;
    size_t most = 1;
    for (const char *p = text; *p; p++)
        most += *p == '\n';
    struct sentences all = {mem_zero(most, sizeof *all.s), 0, 0};
    if (!all.s)
        return fail(err, PLM_ENOMEM, "out of memory for a text of %zu lines", most);
    while (str_cut(&rest, '\n', &line)) {
        plm_status st = words_split(&all.s[all.n], line.p, line.n, WORDS_ROUGE, err);
        if (st) {
            sentences_free(&all);
            return st;
        }
        all.words += all.s[all.n++].n;
    }
    *out = all;
    return PLM_OK;
}

/* Marks in hit the words of a that are in one longest common subsequence with b: of several the one that
 * rouge-score's walk back through the table finds. */
static plm_status mark_lcs(const struct words *a, const struct words *b, bool *hit, plm_error *err) {
    size_t wide = b->n + 1, cells;
    if (!a->n || !b->n)
        return PLM_OK;
    if (!mul_size(a->n + 1, wide, &cells) || cells > MAX_CELLS)
        return fail(err, PLM_ELIMIT, "lines of %zu and %zu words are too long to compare", a->n, b->n);
    uint32_t *t = mem_zero(cells, sizeof *t);
    if (!t)
        return fail(err, PLM_ENOMEM, "out of memory to compare lines of %zu and %zu words", a->n, b->n);
    for (size_t i = 1; i <= a->n; i++) {
        for (size_t j = 1; j <= b->n; j++) {
            uint32_t up = t[(i - 1) * wide + j], left = t[i * wide + j - 1];
            t[i * wide + j] = same(a, i - 1, b, j - 1) ? t[(i - 1) * wide + j - 1] + 1
                              : up > left              ? up
                                                       : left;
        }
    }
    for (size_t i = a->n, j = b->n; i && j;) {
        if (same(a, i - 1, b, j - 1)) {
            hit[--i] = true;
            j--;
        } else if (t[i * wide + j - 1] > t[(i - 1) * wide + j]) {
            j--;
        } else {
            i--;
        }
    }
    mem_free(t);
    return PLM_OK;
}

/* Takes one word like w of line out of the prediction's stock; false when all of them are spent. */
static bool spend(const struct words *line, size_t w, const struct sentences *all, bool *spent) {
    size_t at = 0;
    for (size_t s = 0; s < all->n; s++) {
        for (size_t j = 0; j < all->s[s].n; j++, at++) {
            if (spent[at] || !same(line, w, &all->s[s], j))
                continue;
            return spent[at] = true;
        }
    }
    return false;
}

static plm_status union_hits(const struct sentences *target, const struct sentences *prediction, size_t *hits,
                             plm_error *err) {
    plm_status st = PLM_OK;
    size_t longest = 0;
    for (size_t i = 0; i < target->n; i++)
        longest = target->s[i].n > longest ? target->s[i].n : longest;
    bool *hit = mem_alloc(longest, sizeof *hit), *spent = mem_zero(prediction->words, sizeof *spent);
    if (!hit || !spent)
        st = fail(err, PLM_ENOMEM, "out of memory to compare two texts");
    for (size_t i = 0; i < target->n && !st; i++) {
        const struct words *line = &target->s[i];
        memset(hit, 0, longest);
        for (size_t j = 0; j < prediction->n && !st; j++)
            st = mark_lcs(line, &prediction->s[j], hit, err);
        for (size_t w = 0; w < line->n && !st; w++)
            *hits += hit[w] && spend(line, w, prediction, spent);
    }
    mem_free(hit);
    mem_free(spent);
    return st;
}

plm_status rouge_lsum(const char *target, const char *prediction, struct rouge *out, plm_error *err) {
    struct sentences a = {0}, b = {0};
    size_t hits = 0;
    plm_status st = sentences_split(&a, target, err);
    if (!st)
        st = sentences_split(&b, prediction, err);
    if (!st)
        st = union_hits(&a, &b, &hits, err);
    if (!st)
        *out = score(hits, a.words, b.words);
    sentences_free(&a);
    sentences_free(&b);
    return st;
}
