/* prompt.h: prompts with items of the user's own history in front, as LaMP words and measures them (PPEP,
 * AIP).
 */
#ifndef PLM_EVAL_PROMPT_H
#define PLM_EVAL_PROMPT_H
#include "base/text.h"
#include "task.h"

struct retriever { /* BM25 over items, oldest first */
    const struct task *task;
    const struct item *const *items;
    size_t n;
    struct bm25 *index;
    double *scores;
};
plm_status retriever_open(struct retriever *r, const struct task *task, const struct item *const *items,
                          size_t n, plm_error *err);
void retriever_close(struct retriever *r);
/* The k best of the first `earlier` items for a prompt, best first; ties as rank_bm25 breaks them, later
 * first. Returns how many. */
plm_status retriever_best(struct retriever *r, const char *prompt, size_t earlier, size_t k, size_t *best,
                          size_t *n, plm_error *err);

/* The prompt behind its k best items, all cut to about `tokens` tokens of the model. k 0 or no item: the
 * prompt as it is. *out: plm_free. */
plm_status prompt_with_history(struct retriever *r, const plm_model *m, const char *prompt, size_t earlier,
                               size_t k, size_t tokens, char **out, plm_error *err);
#endif
