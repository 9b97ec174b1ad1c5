/* summary.c: what can be said of how a person writes, made by counting: no model, no quotation. The same
 * numbers serve both ways of sharing; only the topic words differ (summary mode: common ones alone). */
#include "augment/inside.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

struct wire_range range_of(const char *const *texts, size_t n) {
    struct wire_range r = {0};
    int *counts = mem_alloc(n + 1, sizeof *counts);
    size_t used = 0;
    double sum = 0;
    for (size_t i = 0; counts && i < n; i++) {
        size_t len = strlen(texts[i]);
        if (len) {
            counts[used] = (int)words_count(texts[i], len);
            sum += counts[used++];
        }
    }
    if (used) {
        qsort(counts, used, sizeof *counts, by_value);
        r.mean = sum / (double)used;
        r.p5 = counts[(size_t)(.05 * (double)(used - 1))];
        r.p95 = counts[(size_t)ceil(.95 * (double)(used - 1))];
    }
    mem_free(counts);
    return r;
}

enum trait {
    ENDS_STOP,
    ENDS_ASK,
    ENDS_BANG,
    HAS_COLON,
    HAS_COMMA,
    HAS_DIGIT,
    HAS_EMOJI,
    STARTS_UPPER,
    ALL_LOWER,
    TITLE_CASE,
    MANY_LINES,
    TRAITS
};

static const char *const trait_text[TRAITS] = {"end with a full stop",
                                               "end with a question mark",
                                               "end with an exclamation mark",
                                               "hold a colon",
                                               "hold a comma",
                                               "hold a digit",
                                               "hold an emoji",
                                               "start with a capital",
                                               "have no capitals",
                                               "capitalise each long word",
                                               "run over several lines"};

static void traits_of(const char *text, bool has[TRAITS]) {
    struct str t = str_trim(str_of(text));
    memset(has, 0, TRAITS * sizeof *has);
    if (!t.n) {
        return;
    }
    has[ENDS_STOP] = t.p[t.n - 1] == '.';
    has[ENDS_ASK] = t.p[t.n - 1] == '?';
    has[ENDS_BANG] = t.p[t.n - 1] == '!';
    has[STARTS_UPPER] = isupper((unsigned char)t.p[0]);
    size_t upper = 0, lower = 0, long_words = 0, capital = 0;
    for (size_t i = 0, len; i < t.n; i += len) {
        uint32_t c = utf8_next(t.p + i, t.n - i, &len);
        bool begins = (i == 0 || t.p[i - 1] == ' ') && c < 128 && isalpha((int)c);
        size_t run = 0;
        while (begins && i + run < t.n && isalpha((unsigned char)t.p[i + run])) {
            run++;
        }
        long_words += run > 3;
        capital += run > 3 && c < 'a';
        has[HAS_COLON] |= c == ':';
        has[HAS_COMMA] |= c == ',';
        has[HAS_DIGIT] |= c >= '0' && c <= '9';
        has[HAS_EMOJI] |= (c >= 0x1F300 && c <= 0x1FAFF) || (c >= 0x2600 && c <= 0x27BF);
        has[MANY_LINES] |= c == '\n';
        upper += c < 128 && isupper((int)c);
        lower += c < 128 && islower((int)c);
    }
    has[ALL_LOWER] = lower && !upper;
    has[TITLE_CASE] = long_words > 1 && capital == long_words;
}

plm_status style_summary(const plm_kind *kind, const struct reals *a, const size_t *use, size_t n, char **out,
                         plm_error *err) {
    int count[TRAITS] = {0};
    double chars = 0;
    for (size_t i = 0; i < n; i++) {
        bool has[TRAITS];
        const char *text = a->r[use[i]].output;
        traits_of(text, has);
        for (int t = 0; t < TRAITS; t++) {
            count[t] += has[t];
        }
        chars += (double)strlen(text);
    }
    struct bytes b;
    bytes_init(&b, 4000);
    if (n) {
        bytes_printf(&b, "%zu examples.", n);
    }
    if (n && !kind->labels) {
        bytes_printf(&b, " Outputs have %.0f characters on average.", chars / (double)n);
        // What nearly all or a telling share do; rare habits say little and cost words.
        size_t said = 0;
        for (int t = 0; t < TRAITS && said < 6; t++) {
            int percent = (int)(100.0 * count[t] / (double)n + .5);
            if (percent >= 20 || (t == STARTS_UPPER && percent < 20) || (t == ENDS_STOP && percent == 0)) {
                bytes_printf(&b, "%s %d%% %s", said ? "," : " Of them", percent, trait_text[t]);
                said++;
            }
        }
        bytes_puts(&b, said ? "." : "");
    }
    plm_status st = bytes_status(&b, "the summary", err);
    if (!st && !(*out = bytes_take(&b))) {
        st = fail(err, PLM_ENOMEM, "no memory for the summary");
    }
    bytes_free(&b);
    return st;
}

static bool fit_for_topic(const struct tfidf *t, struct str w, bool common_only) {
    bool letters = w.n >= 3 && w.n <= 40;
    for (size_t i = 0; i < w.n; i++) {
        letters = letters && !isdigit((unsigned char)w.p[i]);
    }
    return letters && !word_is_empty(w) &&
           (!common_only || (word_is_common(w) && tfidf_documents(t, w) >= 3));
}

// The types of placeholders are no topic.
static bool is_type_name(struct str w) {
    static const char *const types[] = {"email", "phone", "card", "iban", "url", "key", "text"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (str_eq(w, types[i])) {
            return true;
        }
    }
    return false;
}

plm_status topics_find(const char *const *texts, size_t n, bool common_only, size_t max, char ***out,
                       size_t *n_out, plm_error *err) {
    enum { LOOK_AT = 2000 };
    struct words *docs = mem_zero(n + 1, sizeof *docs);
    struct str *terms = mem_alloc(LOOK_AT, sizeof *terms);
    char **topics = mem_zero(max + 1, sizeof *topics);
    struct tfidf *t = NULL;
    size_t count = 0;
    plm_status st = docs && terms && topics ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for topics");
    for (size_t i = 0; i < n && !st; i++) {
        st = words_split(&docs[i], texts[i], strlen(texts[i]), WORDS_UNICODE, err);
    }
    if (!st) {
        st = tfidf_open(&t, docs, n, err);
    }
    size_t found = st ? 0 : tfidf_top(t, terms, LOOK_AT);
    for (size_t i = 0; i < found && count < max && !st; i++) {
        if (fit_for_topic(t, terms[i], common_only) && !is_type_name(terms[i])) {
            topics[count] = mem_dup(terms[i].p, terms[i].n);
            st = topics[count] ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for topics");
            count += !st;
        }
    }
    tfidf_close(t);
    for (size_t i = 0; docs && i < n; i++) {
        words_free(&docs[i]);
    }
    mem_free(docs);
    mem_free(terms);
    if (st) {
        topics_free(topics, count);
        return st;
    }
    *out = topics;
    *n_out = count;
    return PLM_OK;
}

void topics_free(char **topics, size_t n) {
    for (size_t i = 0; topics && i < n; i++) {
        mem_free(topics[i]);
    }
    mem_free(topics);
}
