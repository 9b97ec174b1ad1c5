/* plan.c: what a round asks for. The first asks for a quarter more than is wanted; later ones for what is
 * missing over the share that survived the filters so far, which differs from teacher to teacher and from
 * mode to mode by a factor of five. No mode is asked for more than four times what it should bring. */
#include "synth/inside.h"

enum { TIMES_MAX = 4 };

static int smaller(int a, int b) {
    return a < b ? a : b;
}

int plan_count(const struct plan *p, const struct wire_request *q, size_t slot, int round) {
    int want = q->want[slot], aim = want + (want + 3) / 4, lack = aim - p->good[slot];
    if (round == 0) {
        return aim;
    }
    if (p->good[slot] >= want) {
        return 0; // enough for the device to choose from, or nearly
    }
    double share = (p->good[slot] + 1.0) / (p->asked[slot] + 2.0);
    int most = TIMES_MAX * want + ASK_MAX - p->asked[slot], n = (int)(lack / share + .999);
    n = smaller(n, smaller(most, 2 * want + ASK_MAX));
    return n > 0 ? n : 0;
}

// Labels in the person's own share, smoothed: dealt out evenly and never drawn to one side by chance.
static const char *label_for(const struct wire_request *q, int nth) {
    size_t best = 0;
    double best_lack = -1e300, all = 0;
    int dealt[1000] = {0};
    for (size_t i = 0; i < q->n_labels; i++) {
        all += q->label_counts[i] + .5;
    }
    for (int k = 0; k <= nth; k++) {
        best_lack = -1e300;
        for (size_t i = 0; i < q->n_labels; i++) {
            double lack = (q->label_counts[i] + .5) / all * (k + 1) - dealt[i];
            if (lack > best_lack) {
                best = i;
                best_lack = lack;
            }
        }
        dealt[best]++;
    }
    return q->labels[best];
}

struct task plan_task(struct plan *p, const struct wire_request *q, size_t slot, int round, int left) {
    unsigned mode = mode_at(slot);
    struct task t = {.mode = mode, .strict = round > 0};
    t.n = (size_t)smaller(left, q->single ? 1 : ASK_MAX);
    for (size_t i = 0; i < t.n; i++) {
        int nth = p->asked[slot]++;
        if (mode == PLM_MODE_LABEL) {
            t.label[i] = label_for(q, nth);
        } else if (mode != PLM_MODE_NEW) {
            t.number[i] = q->rewrite[(size_t)nth % q->n_rewrite];
            t.variation = nth / (int)q->n_rewrite;
        }
        if (mode == PLM_MODE_PAIR) {
            t.label[i] = q->labels[nth % 2];
        }
        // Two rewrites of one record belong into two calls.
        for (size_t k = 0; k < i; k++) {
            if (t.number[i] && t.number[k] == t.number[i]) {
                p->asked[slot]--;
                t.number[i] = 0;
                t.n = i;
            }
        }
    }
    struct rng rng;
    rng_seed(&rng, q->seed, (uint64_t)1000000 * (slot + 1) + (uint64_t)p->asked[slot]);
    task_draw(&t, q, &rng);
    return t;
}
