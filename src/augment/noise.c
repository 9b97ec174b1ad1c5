/* noise.c: a histogram that says little of any one record. To each count the difference of two geometric
 * numbers is added, with the ratio e^-epsilon: since a record changes one count by one, whoever sees the
 * result can tell whether a record was there no better than by the factor e^epsilon. Spending is summed in
 * the store and refused above the budget. What was drawn for the same counts is given again and costs
 * nothing, so that what --dry-run shows is what is sent. */
#include "augment/inside.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

enum { VALUE_MAX = 16 << 10 };

// Uniform in (0, 1], 53 bits.
static double unit(void) {
    uint64_t bits;
    randombytes_buf(&bits, sizeof bits);
    return ((double)(bits >> 11) + 1) * 0x1p-53;
}

// Failures before a success of probability 1 - e^-epsilon.
static double geometric(double epsilon) {
    return floor(-log(unit()) / epsilon);
}

int noise_add(int count, double epsilon) {
    double noisy = count + geometric(epsilon) - geometric(epsilon);
    return noisy < 0 ? 0 : noisy > 1000000 ? 1000000 : (int)noisy;
}

static plm_status spent_so_far(plm_store *store, const char *name, double *spent, plm_error *err) {
    char *text = NULL;
    plm_status st = plm_store_get(store, name, &text, err);
    *spent = 0;
    if (!st && text && (!parse_f64(str_of(text), spent) || *spent < 0)) {
        st = fail(err, PLM_EFORMAT, "the store's sum of spent epsilon is damaged");
    }
    plm_free(text);
    return st;
}

static bool read_counts(const char *text, int *counts, size_t n) {
    struct str rest = str_of(text), word;
    size_t i = 0;
    int64_t v;
    while (str_cut(&rest, ' ', &word) && i < n && parse_i64(word, &v) && v >= 0 && v <= 1000000) {
        counts[i++] = (int)v;
    }
    return i == n && !rest.n;
}

// The names of the sum and of what was drawn for exactly these counts.
static void names_of(const plm_augment_policy *p, const int *counts, size_t n, char sum[96], char drawn[96]) {
    struct sha256 h;
    char hex[65], text[64];
    sha256_start(&h);
    sha256_add(&h, p->user, strlen(p->user) + 1);
    sha256_add(&h, p->kind->name, strlen(p->kind->name) + 1);
    struct sha256 both = h;
    sha256_hex(&both, hex);
    snprintf(sum, 96, "augment.epsilon.%.64s", hex);
    sha256_add(&h, text, (size_t)snprintf(text, sizeof text, "%.17g %zu", p->epsilon, n));
    sha256_add(&h, counts, n * sizeof *counts);
    sha256_hex(&h, hex);
    snprintf(drawn, 96, "augment.noisy.%.64s", hex);
}

static plm_status draw(plm_store *store, const plm_augment_policy *p, int *counts, size_t n, const char *sum,
                       const char *drawn, plm_error *err) {
    double spent;
    char text[40];
    struct bytes b;
    plm_status st = spent_so_far(store, sum, &spent, err);
    if (!st && spent + p->epsilon > p->epsilon_budget * (1 + 1e-9)) {
        return fail(
            err, PLM_ELIMIT,
            "label shares of %s's %s records have cost epsilon %g; %g more would pass the budget of %g",
            p->user, p->kind->name, spent, p->epsilon, p->epsilon_budget);
    }
    bytes_init(&b, VALUE_MAX);
    for (size_t i = 0; i < n; i++) {
        counts[i] = noise_add(counts[i], p->epsilon);
        bytes_printf(&b, "%s%d", i ? " " : "", counts[i]);
    }
    snprintf(text, sizeof text, "%.9g", spent + p->epsilon);
    st = st ? st : bytes_status(&b, "a histogram", err);
    st = st ? st : plm_store_begin(store, err);
    if (!st) {
        st = plm_store_set(store, sum, text, err);
        st = st ? st : plm_store_set(store, drawn, b.data, err);
        plm_status end = plm_store_end(store, st == PLM_OK, st ? NULL : err);
        st = st ? st : end;
    }
    bytes_free(&b);
    return st;
}

plm_status noise_counts(plm_store *store, const plm_augment_policy *p, int *counts, size_t n,
                        plm_error *err) {
    char sum[96], drawn[96], *text = NULL;
    if (sodium_init() < 0) {
        return fail(err, PLM_EIO, "the system gives no random numbers");
    }
    names_of(p, counts, n, sum, drawn);
    plm_status st = plm_store_get(store, drawn, &text, err);
    if (!st && !(text && read_counts(text, counts, n))) {
        st = draw(store, p, counts, n, sum, drawn, err);
    }
    plm_free(text);
    return st;
}

plm_status plm_augment_epsilon(plm_store *store, const char *user, const plm_kind *kind, double *spent,
                               plm_error *err) {
    if (!store || !user || !kind || !spent) {
        return fail(err, PLM_EINVAL, "the spent epsilon is that of a user and a kind");
    }
    char sum[96], drawn[96];
    names_of(&(plm_augment_policy){.user = user, .kind = kind}, NULL, 0, sum, drawn);
    return spent_so_far(store, sum, spent, err);
}
