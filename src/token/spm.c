/* spm.c: SentencePiece vocabularies, whose tokens have scores. Of the neighbours that together are a token,
 * those with the highest score merge first, leftmost on ties; a character that is left without a token
 * becomes its bytes'. Only ordinary tokens are merged to: control ids never come from text.
 *
 * A text is cut before merging, wherever two bytes meet that meet in no token: no merge can cross there, so
 * the ids are the same, and the work is a word's instead of a text's. */
#include <math.h>
#include <string.h>
#include "token/vocab.h"

/* U+2581, which stands for a blank in tokens. */
#define BLANK "\xE2\x96\x81"

enum { SPM_TOKEN_MAX = 255 }; /* bounds what looking up a pair costs */

size_t spm_unblank(struct str text, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        bool blank = str_starts((struct str){text.p + i, text.n - i}, BLANK);
        out[n++] = blank ? ' ' : text.p[i];
        i += blank ? sizeof BLANK - 2 : 0;
    }
    return n;
}

/* A higher score is a smaller rank; equal scores are equal ranks. */
static uint32_t rank_of_score(float score) {
    uint32_t bits;
    score += 0.0f; /* of the two zeros, one */
    memcpy(&bits, &score, sizeof bits);
    return ~(bits & 0x80000000u ? ~bits : bits | 0x80000000u);
}

static bool meet(const struct spm *s, unsigned char a, unsigned char b) {
    return s->meet[a][b / 8] >> b % 8 & 1;
}

plm_status spm_open(struct vocab *v, const struct gguf_array *scores, plm_error *err) {
    struct spm *s = &v->spm;
    s->rank = mem_alloc((size_t)v->n, sizeof *s->rank);
    s->meet = mem_zero(256, sizeof *s->meet);
    if (!s->rank || !s->meet) {
        return fail(err, PLM_ENOMEM, "no memory for the scores of %d tokens", v->n);
    }
    memset(s->byte, 0xFF, sizeof s->byte);
    for (int32_t id = 0; id < v->n; id++) {
        struct str text = token_text(v, id);
        s->rank[id] = rank_of_score((float)gguf_array_float(scores, (size_t)id));
        if (v->type[id] == TOKEN_BYTE) {
            int32_t *of = &s->byte[(unsigned char)text.p[0]];
            *of = *of < 0 ? id : *of;
        }
        if (v->type[id] != TOKEN_NORMAL) {
            continue;
        }
        if (text.n > SPM_TOKEN_MAX) {
            return fail(err, PLM_EFORMAT, "tokenizer.ggml.tokens: token %d has %zu bytes, at most %d", id,
                        text.n, SPM_TOKEN_MAX);
        }
        s->longest = text.n > s->longest ? text.n : s->longest;
        for (size_t i = 1; i < text.n; i++) {
            unsigned char a = (unsigned char)text.p[i - 1], b = (unsigned char)text.p[i];
            s->meet[a][b / 8] |= (uint8_t)(1 << b % 8);
        }
    }
    return PLM_OK;
}

void spm_close(struct spm *s) {
    mem_free(s->rank);
    mem_free(s->meet);
}

uint32_t spm_rank(const struct vocab *v, struct str pair) {
    int32_t id = pair.n <= v->spm.longest ? index_find(&v->plain, v, pair) : -1;
    return id < 0 ? MERGE_NONE : v->spm.rank[id];
}

plm_status spm_bytes(const struct vocab *v, struct str c, struct ids *out, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; i < c.n && !st; i++) {
        int32_t id = v->spm.byte[(unsigned char)c.p[i]];
        st = id < 0 ? PLM_OK : ids_push(out, id, err); /* a byte without a token is left out */
    }
    return st;
}

/* Puts the characters of the next piece into w, and returns its bytes; text is not empty. */
static plm_status cut_piece(const struct vocab *v, struct str text, struct merge_work *w, size_t *bytes,
                            plm_error *err) {
    size_t at = 0, last = 0;
    while (at < text.n && (!at || meet(&v->spm, (unsigned char)text.p[at - 1], (unsigned char)text.p[at]))) {
        size_t n;
        (void)utf8_next(text.p + at, text.n - at, &n);
        plm_status st = merge_reserve(w, at + 1, err);
        if (st) {
            return st;
        }
        int32_t prev = at ? (int32_t)last : -1;
        int32_t id = index_find(&v->plain, v, (struct str){text.p + at, n});
        w->symbol[at] = (struct symbol){id, prev, (int32_t)(at + n), MERGE_NONE};
        last = at;
        at += n;
    }
    w->symbol[last].next = -1;
    *bytes = at;
    return PLM_OK;
}

plm_status spm_text(const struct vocab *v, struct str text, struct merge_work *w, struct ids *out,
                    plm_error *err) {
    plm_status st = PLM_OK;
    while (text.n && !st) {
        size_t n = 0;
        st = cut_piece(v, text, w, &n, err);
        st = st ? st : merge_symbols(v, (struct str){text.p, n}, w, out, err);
        text.p += n;
        text.n -= n;
    }
    return st;
}
