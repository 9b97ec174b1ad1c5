/* judge.c: do others, asked with the same examples, give an invented input the label it was written for? A
 * label that is off is never put right: that would drift towards the judge's own habits. */
#include "augment/inside.h"

#include <stdlib.h>

static bool scale_of(const plm_kind *kind, int64_t *value, int label) {
    return label >= 0 && parse_i64(str_of(kind->labels[label]), value);
}

bool judge_undecided(const struct wire_request *q, const char *const *answers, size_t n) {
    if (n != 2) {
        return n < 2;
    }
    plm_kind kind = {.labels = q->labels, .n_labels = q->n_labels};
    return plm_kind_label(&kind, answers[0]) != plm_kind_label(&kind, answers[1]);
}

double judge_trust(const plm_kind *kind, const struct wire_candidate *c) {
    int intended = plm_kind_label(kind, c->output), agree = 0;
    int64_t v[WIRE_JUDGES], x;
    size_t n = 0;
    for (size_t i = 0; i < c->n_judge; i++) {
        int label = plm_kind_label(kind, c->judge[i]);
        agree += label == intended;
        if (scale_of(kind, &x, label)) {
            size_t k = n++;
            for (; k > 0 && v[k - 1] > x; k--) {
                v[k] = v[k - 1];
            }
            v[k] = x;
        }
    }
    if (agree >= 2) {
        return 1;
    }
    // On a scale a neighbour is half right. Two answers that are equal are the median of three already.
    bool median = n == WIRE_JUDGES || (n == 2 && v[0] == v[1]);
    return median && scale_of(kind, &x, intended) && llabs(v[n / 2] - x) == 1 ? .5 : 0;
}
