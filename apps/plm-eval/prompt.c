/* prompt.c: BM25 over a history, the wording of each item (PPEP) and of the whole (AIP), and the budget of
 * tokens that items share: what a short one leaves goes to those behind it. */
#include "prompt.h"

#include <string.h>

enum { ITEM_MAX = 1 << 20, MOST = 64 };

plm_status retriever_open(struct retriever *r, const struct task *task, const struct item *const *items,
                          size_t n, plm_error *err) {
    struct words *docs = mem_zero(n ? n : 1, sizeof *docs);
    *r = (struct retriever){.task = task, .items = items, .n = n};
    r->scores = mem_zero(n ? n : 1, sizeof *r->scores);
    plm_status st = docs && r->scores ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        st = words_split(&docs[i], items[i]->doc, strlen(items[i]->doc), WORDS_SPACE, err);
    if (st == PLM_OK && n)
        st = bm25_open(&r->index, docs, n, err);
    for (size_t i = 0; docs && i < n; i++)
        words_free(&docs[i]);
    mem_free(docs);
    if (st)
        retriever_close(r);
    return st;
}

void retriever_close(struct retriever *r) {
    bm25_close(r->index);
    mem_free(r->scores);
    *r = (struct retriever){0};
}

plm_status retriever_best(struct retriever *r, const char *prompt, size_t earlier, size_t k, size_t *best,
                          size_t *n, plm_error *err) {
    struct bytes query;
    struct words w;
    *n = 0;
    if (!r->index || !k || !earlier)
        return PLM_OK;
    bytes_init(&query, ITEM_MAX);
    plm_status st = task_query_text(r->task, prompt, &query, err);
    if (st == PLM_OK)
        st = words_split(&w, query.data, query.len, WORDS_SPACE, err);
    bytes_free(&query);
    if (st)
        return st;
    st = bm25_scores(r->index, &w, r->scores, err);
    words_free(&w);
    earlier = earlier < r->n ? earlier : r->n;
    for (; st == PLM_OK && *n < k && *n < earlier; ++*n) {
        size_t top = SIZE_MAX;
        for (size_t i = 0; i < earlier; i++) {
            bool taken = false;
            for (size_t j = 0; j < *n; j++)
                taken |= best[j] == i;
            if (!taken && (top == SIZE_MAX || r->scores[i] >= r->scores[top]))
                top = i;
        }
        best[*n] = top;
    }
    return st;
}

/* ---- wording ---- */

/* The fixed words round an item's two fields; the long one is cut. */
static void item_fields(const struct task *t, const struct item *it, const char **lead, const char **text,
                        const char **tail, struct bytes *fixed, struct bytes *end) {
    bytes_clear(fixed);
    bytes_clear(end);
    if (strcmp(t->name, "LaMP_1") == 0) {
        bytes_puts(fixed, "\"");
        *text = it->title;
        bytes_puts(end, "\"");
    } else if (strcmp(t->name, "LaMP_2") == 0) {
        bytes_puts(fixed, "the tag for the movie: \"");
        *text = it->text;
        bytes_printf(end, "\" is \"%s\" ", it->output);
    } else if (strcmp(t->name, "LaMP_2N") == 0) {
        bytes_puts(fixed, "the category for the article: \"");
        *text = it->text;
        bytes_printf(end, "\" is \"%s\" ", it->output);
    } else if (strcmp(t->name, "LaMP_3") == 0) {
        bytes_printf(fixed, "%s is the score for \"", it->output);
        *text = it->text;
        bytes_puts(end, "\" ");
    } else if (strcmp(t->name, "LaMP_7") == 0) {
        bytes_puts(fixed, "\"");
        *text = it->text;
        bytes_puts(end, "\" ");
    } else {
        bytes_printf(
            fixed, strcmp(t->name, "LaMP_5") == 0 ? "\"%s\" is a title for \"" : "\"%s\" is the title for \"",
            it->output);
        *text = it->text;
        bytes_puts(end, "\" ");
    }
    *lead = fixed->data;
    *tail = end->data;
}

static plm_status count_tokens(const plm_model *m, const char *text, size_t len, size_t *n, plm_error *err) {
    plm_status st = plm_encode(m, text, len, false, NULL, 0, n, err);
    return st == PLM_ELIMIT ? PLM_OK : st;
}

/* Appends the text's first `most` tokens; *used says how many that were. */
static plm_status put_cut(struct bytes *out, const plm_model *m, const char *text, size_t most, size_t *used,
                          plm_error *err) {
    size_t n = 0, len = 0;
    plm_status st = count_tokens(m, text, strlen(text), &n, err);
    *used = n < most ? n : most;
    if (st || n <= most) {
        bytes_puts(out, st ? "" : text);
        return st;
    }
    int32_t *ids = mem_alloc(n, sizeof *ids);
    char *part = mem_alloc(strlen(text) + 16, 1);
    st = ids && part ? plm_encode(m, text, strlen(text), false, ids, n, &n, err)
                     : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = plm_decode(m, ids, most, false, part, strlen(text) + 16, &len, err);
    if (st == PLM_OK)
        bytes_put(out, part, utf8_whole(part, len));
    mem_free(ids);
    mem_free(part);
    return st;
}

/* The items as LaMP joins them. */
static plm_status put_items(struct bytes *out, const struct retriever *r, const plm_model *m,
                            const size_t *best, size_t k, size_t budget, plm_error *err) {
    struct bytes fixed, end;
    plm_status st = PLM_OK;
    size_t left = budget > 1 + 2 * (k - 1) ? budget - 1 - 2 * (k - 1) : 0;
    bytes_init(&fixed, ITEM_MAX);
    bytes_init(&end, ITEM_MAX);
    for (size_t i = 0; st == PLM_OK && i < k; i++) {
        const char *lead, *text, *tail;
        size_t around = 0, more = 0, used = 0, share = left / (k - i);
        item_fields(r->task, r->items[best[i]], &lead, &text, &tail, &fixed, &end);
        st = count_tokens(m, lead, fixed.len, &around, err);
        if (st == PLM_OK)
            st = count_tokens(m, tail, end.len, &more, err);
        around += more;
        if (i)
            bytes_puts(out, ", and ");
        bytes_puts(out, lead);
        if (st == PLM_OK)
            st = put_cut(out, m, text, share > around ? share - around : 0, &used, err);
        bytes_puts(out, tail);
        left -= used + around < left ? used + around : left;
    }
    bytes_free(&fixed);
    bytes_free(&end);
    return st;
}

static void put_whole(struct bytes *out, const struct task *t, const char *items, const char *prompt) {
    if (strcmp(t->name, "LaMP_1") == 0) {
        const char *at = strstr(prompt, "title");
        size_t n = at ? (size_t)(at - prompt) + 5 : strlen(prompt);
        bytes_put(out, prompt, n);
        bytes_printf(out, ", and %s%s", items, prompt + n);
    } else if (strcmp(t->name, "LaMP_5") == 0) {
        bytes_printf(out, "%s. Following the given patterns %s", items, prompt);
    } else if (strcmp(t->name, "LaMP_7") == 0) {
        bytes_printf(out, "%s are written by a person. Following the given patterns %s", items, prompt);
    } else {
        bytes_printf(out, "%s. %s", items, prompt);
    }
}

plm_status prompt_with_history(struct retriever *r, const plm_model *m, const char *prompt, size_t earlier,
                               size_t k, size_t tokens, char **out, plm_error *err) {
    size_t best[MOST], n = 0, own = 0;
    struct bytes items, whole;
    bytes_init(&items, ITEM_MAX);
    bytes_init(&whole, ITEM_MAX);
    plm_status st = retriever_best(r, prompt, earlier, k < MOST ? k : MOST, best, &n, err);
    if (st == PLM_OK && n)
        st = count_tokens(m, prompt, strlen(prompt), &own, err);
    if (st == PLM_OK && n) {
        size_t most = tokens * 6 / 10;
        st = put_items(&items, r, m, best, n, tokens - (own < most ? own : most), err);
    }
    if (st == PLM_OK && n)
        st = bytes_status(&items, "a prompt", err);
    if (st == PLM_OK && n)
        put_whole(&whole, r->task, items.data, prompt);
    else if (st == PLM_OK)
        bytes_puts(&whole, prompt);
    if (st == PLM_OK)
        st = bytes_status(&whole, "a prompt", err);
    *out = st ? NULL : bytes_take(&whole);
    bytes_free(&items);
    bytes_free(&whole);
    return st;
}
