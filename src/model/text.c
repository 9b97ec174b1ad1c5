/* text.c: the public text functions over token/: buffers with a capacity instead of lists that grow, and the
 * raw form of a prompt and its answer where a model has no chat template. */
#include "model/inside.h"
#include <string.h>

/* Copies what fits, says the whole length. A NULL buffer of capacity 0 asked for it and is no failure. */
static plm_status hand_over(const struct ids *list, int32_t *ids, size_t cap, size_t *n, plm_error *err) {
    size_t fits = list->n < cap ? list->n : cap;
    if (fits)
        memcpy(ids, list->v, fits * sizeof *ids);
    if (n)
        *n = list->n;
    if (list->n <= cap || (!ids && !cap))
        return PLM_OK;
    return fail(err, PLM_ELIMIT, "%zu tokens do not fit into %zu", list->n, cap);
}

plm_status plm_encode(const plm_model *m, const char *text, size_t len, bool special, int32_t *ids,
                      size_t cap, size_t *n, plm_error *err) {
    if (!m || (!text && len) || (!ids && cap))
        return fail(err, PLM_EINVAL, "plm_encode needs a model, a text and a buffer");
    struct ids list = {0};
    plm_status st = vocab_encode(m->vocab, text ? text : "", len, special, &list, err);
    if (!st)
        st = hand_over(&list, ids, cap, n, err);
    ids_free(&list);
    return st;
}

plm_status plm_decode(const plm_model *m, const int32_t *ids, size_t n, bool special, char *text, size_t cap,
                      size_t *len, plm_error *err) {
    if (!m || (!ids && n) || (!text && cap))
        return fail(err, PLM_EINVAL, "plm_decode needs a model, ids and a buffer");
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        char tmp[8];
        if (ids[i] < 0 || ids[i] >= m->cfg.vocab) {
            return fail(err, PLM_EINVAL, "id %d at %zu is not in the vocabulary of %d", ids[i], i,
                        m->cfg.vocab);
        }
        struct str piece = vocab_bytes(m->vocab, ids[i], special, tmp);
        for (size_t j = 0; j < piece.n; j++, at++) {
            if (at < cap)
                text[at] = piece.p[j];
        }
    }
    if (len)
        *len = at;
    if (at <= cap || (!text && !cap))
        return PLM_OK;
    return fail(err, PLM_ELIMIT, "%zu bytes do not fit into %zu", at, cap);
}

plm_status plm_chat_encode(const plm_model *m, const plm_message *messages, size_t n_messages, int32_t *ids,
                           uint8_t *is_target, size_t cap, size_t *n, plm_error *err) {
    if (!m || !messages || !n_messages || (!ids && cap)) {
        return fail(err, PLM_EINVAL, "plm_chat_encode needs a model, messages and a buffer");
    }
    if (!m->chat)
        return fail(err, PLM_ENOTSUP, "%s has no chat template", m->path);
    struct ids list = {0};
    uint8_t *targets = NULL;
    plm_status st =
        chat_encode(m->chat, m->vocab, messages, n_messages, &list, is_target ? &targets : NULL, err);
    if (!st && is_target && targets)
        memcpy(is_target, targets, list.n < cap ? list.n : cap);
    if (!st)
        st = hand_over(&list, ids, cap, n, err);
    mem_free(targets);
    ids_free(&list);
    return st;
}

plm_status plm_raw_encode(const plm_model *m, const char *prompt, const char *answer, int32_t *ids,
                          size_t cap, size_t *n, size_t *n_prompt, plm_error *err) {
    if (!m || !prompt || (!ids && cap))
        return fail(err, PLM_EINVAL, "plm_raw_encode needs a model, a prompt and a buffer");
    struct ids list = {0};
    plm_status st = PLM_OK;
    if (vocab_add_bos(m->vocab) && vocab_bos(m->vocab) >= 0)
        st = ids_push(&list, vocab_bos(m->vocab), err);
    if (!st)
        st = vocab_encode(m->vocab, prompt, strlen(prompt), false, &list, err);
    size_t before = list.n;
    if (!st && answer) {
        st = *prompt ? vocab_continue(m->vocab, answer, strlen(answer), &list, err)
                     : vocab_encode(m->vocab, answer, strlen(answer), false, &list, err);
        if (!st && vocab_eos(m->vocab) < 0)
            st = fail(err, PLM_ENOTSUP, "%s has no end token", m->path);
        if (!st)
            st = ids_push(&list, vocab_eos(m->vocab), err);
    }
    if (!st && n_prompt)
        *n_prompt = before;
    if (!st)
        st = hand_over(&list, ids, cap, n, err);
    ids_free(&list);
    return st;
}

bool plm_is_end(const plm_model *m, int32_t id) {
    return vocab_is_end(m->vocab, id);
}
