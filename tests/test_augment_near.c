/* test_augment_near.c: the search for near duplicates against comparing all with all. The texts are sentences
 * from a small vocabulary; a tenth of them are edits of an earlier one: words replaced, left out, put in or
 * swapped. What is found must be exact, and hardly any of what comparing all finds may be passed over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "augment/inside.h"

enum { TEXTS = 6000, WORDS_MAX = 64, VOCABULARY = 700 };

struct sentence {
    int w[WORDS_MAX], n;
};

static void edit(struct sentence *s, struct rng *r) {
    int edits = 1 + (int)rng_below(r, (uint64_t)(s->n * 3 / 10 + 1));
    for (int k = 0; k < edits; k++) {
        size_t at = (size_t)rng_below(r, (uint64_t)s->n);
        switch (rng_below(r, 4)) {
        case 0:
            s->w[at] = (int)rng_below(r, VOCABULARY);
            break;
        case 1:
            if (s->n > 4)
                memmove(s->w + at, s->w + at + 1, ((size_t)--s->n - at) * sizeof *s->w);
            break;
        case 2:
            if (s->n < WORDS_MAX) {
                memmove(s->w + at + 1, s->w + at, ((size_t)s->n++ - at) * sizeof *s->w);
                s->w[at] = (int)rng_below(r, VOCABULARY);
            }
            break;
        default: {
            int other = (int)rng_below(r, (uint64_t)s->n), x = s->w[at];
            s->w[at] = s->w[other];
            s->w[other] = x;
        }
        }
    }
}

// Word numbers fall off like words do: the first are everywhere.
static int any_word(struct rng *r) {
    return (int)(VOCABULARY * rng_unit(r) * rng_unit(r));
}

static void write_texts(struct sentence *s, struct doc *d, int least, int most) {
    struct rng r;
    rng_seed(&r, 5, (uint64_t)most);
    for (int i = 0; i < TEXTS; i++) {
        if (i > 100 && rng_below(&r, 10) == 0) {
            s[i] = s[rng_below(&r, (uint64_t)i)];
            edit(&s[i], &r);
        } else {
            s[i].n = least + (int)rng_below(&r, (uint64_t)(most - least + 1));
            for (int k = 0; k < s[i].n; k++)
                s[i].w[k] = any_word(&r);
        }
        char text[WORDS_MAX * 8] = "";
        size_t at = 0;
        for (int k = 0; k < s[i].n; k++)
            at += (size_t)snprintf(text + at, sizeof text - at, "w%03d ", s[i].w[k]);
        assert_int_equal(doc_open(&d[i], text, NULL), PLM_OK);
    }
}

static void compare(int least, int most, double miss_max) {
    struct sentence *s = calloc(TEXTS, sizeof *s);
    struct doc *d = calloc(TEXTS, sizeof *d);
    struct crowd large, again;
    write_texts(s, d, least, most);
    assert_int_equal(crowd_open(&large, TEXTS, NULL), PLM_OK);
    assert_int_equal(crowd_open(&again, TEXTS, NULL), PLM_OK);
    assert_non_null(large.head);
    int near = 0, missed = 0;
    for (int i = 0; i < TEXTS; i++) {
        double all = 0;
        for (int j = 0; j < i; j++) {
            double f = j % 3 == 0 ? 0 : doc_likeness(&d[i], &d[j], all > .7 ? all : .7);
            all = f > all ? f : all;
        }
        double found = crowd_nearest(&large, &d[i], false, .7);
        assert_true(found == crowd_nearest(&again, &d[i], false, .7));
        assert_true(found <= all);
        assert_true(i > CROWD_ALL || found == all);
        near += all > .7;
        missed += all > .7 && found <= .7;
        crowd_add(&large, &d[i], i % 3 == 0);
        crowd_add(&again, &d[i], i % 3 == 0);
    }
    print_message("%d to %d words: %d near duplicates among %d texts, %d passed over\n", least, most, near,
                  TEXTS, missed);
    assert_true(near > 250);
    assert_true(missed <= miss_max * near);
    for (int i = 0; i < TEXTS; i++)
        doc_close(&d[i]);
    crowd_close(&large);
    crowd_close(&again);
    free(s);
    free(d);
}

static void large_crowds_pass_over_hardly_any(void **s) {
    (void)s;
    compare(20, 50, .005);
    compare(9, 18, .02);
    compare(3, 7, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_crowds_pass_over_hardly_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
