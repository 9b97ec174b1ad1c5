/* metric.c: the arithmetic of LaMP's metrics; it opens no file. */
#include "metric.h"

#include <math.h>
#include <string.h>

#include "base/text.h"

static const char *const references[] = {"[1]", "[2]"};
static const char *const tags[] = {"sci-fi",
                                   "based on a book",
                                   "comedy",
                                   "action",
                                   "twist ending",
                                   "dystopia",
                                   "dark comedy",
                                   "classic",
                                   "psychology",
                                   "fantasy",
                                   "romance",
                                   "thought-provoking",
                                   "social commentary",
                                   "violence",
                                   "true story"};
static const char *const categories[] = {"travel",
                                         "education",
                                         "parents",
                                         "style & beauty",
                                         "entertainment",
                                         "food & drink",
                                         "science & technology",
                                         "business",
                                         "sports",
                                         "healthy living",
                                         "women",
                                         "politics",
                                         "crime",
                                         "culture & arts",
                                         "religion"};
static const char *const ratings[] = {"1", "2", "3", "4", "5"};

#define LIST(a) a, (int)(sizeof(a) / sizeof *(a))

static const struct metric_task tasks[] = {
    {"LaMP_1", METRIC_LABEL, LIST(references)},
    {"LaMP_2M", METRIC_LABEL, LIST(tags)},
    {"LaMP_2N", METRIC_LABEL, LIST(categories)},
    {"LaMP_3", METRIC_RATING, LIST(ratings)},
    {"LaMP_4", METRIC_TEXT, NULL, 0},
    {"LaMP_5", METRIC_TEXT, NULL, 0},
    {"LaMP_6", METRIC_TEXT, NULL, 0},
    {"LaMP_7", METRIC_TEXT, NULL, 0},
};

const struct metric_task *metric_task(struct str name) {
    if (str_eq(name, "LaMP_2"))
        name = STR("LaMP_2M");
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (str_eq(name, tasks[i].name))
            return &tasks[i];
    return NULL;
}

const char *metric_name(const struct metric_task *t, int which) {
    static const char *const names[][2] = {
        [METRIC_LABEL] = {"accuracy", "f1"},
        [METRIC_RATING] = {"MAE", "RMSE"},
        [METRIC_TEXT] = {"rouge-1", "rouge-L"},
    };
    return names[t->kind][which];
}

int metric_label(const struct metric_task *t, struct str answer) {
    answer = text_strip(answer);
    for (int i = 0; i < t->n_labels; i++)
        if (str_eq(answer, t->labels[i]))
            return i;
    return -1;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Beyond parse_f64, float() takes white space around a number, a plus sign, and single underscores between
 * digits. (It takes other scripts' digits too; here they are no number.) */
bool metric_number(struct str text, double *out) {
    char plain[400];
    size_t n = 0;
    text = text_strip(text);
    if (text.n > 1 && text.p[0] == '+' && text.p[1] != '-') {
        text.p++;
        text.n--;
    }
    if (text.n > sizeof plain)
        return false;
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] != '_')
            plain[n++] = text.p[i];
        else if (i == 0 || i + 1 == text.n || !is_digit(text.p[i - 1]) || !is_digit(text.p[i + 1]))
            return false;
    return parse_f64((struct str){plain, n}, out);
}

double metric_rating(struct str answer, double gold, bool *read) {
    double value;
    bool number = metric_number(answer, &value);
    if (read)
        *read = number;
    if (number)
        return value;
    return fabs(1 - gold) > fabs(5 - gold) ? 1 : 5;
}

struct metric_labels metric_labels(const int *pred, const int *gold, size_t n, int n_labels) {
    struct metric_labels m = {0, 0};
    size_t equal = 0;
    for (size_t i = 0; i < n; i++)
        equal += pred[i] == gold[i];
    for (int l = 0; l < n_labels; l++) {
        size_t hit = 0, said = 0, there = 0;
        for (size_t i = 0; i < n; i++) {
            hit += pred[i] == l && gold[i] == l;
            said += pred[i] == l;
            there += gold[i] == l;
        }
        if (hit)
            m.f1 += 2 * (double)hit / (double)(said + there) / n_labels;
    }
    m.accuracy = n ? (double)equal / (double)n : 0;
    return m;
}

struct metric_ratings metric_ratings(const double *pred, const double *gold, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double d = pred[i] - gold[i];
        sum += fabs(d);
        squares += d * d;
    }
    if (!n)
        return (struct metric_ratings){0, 0};
    return (struct metric_ratings){sum / (double)n, sqrt(squares / (double)n)};
}

plm_status metric_rouge(struct metric_rouge *out, struct str pred, struct str gold, plm_error *err) {
    struct words p = {0}, g = {0};
    plm_status st = words_split(&p, pred.p, pred.n, WORDS_ROUGE, err);
    if (st == PLM_OK)
        st = words_split(&g, gold.p, gold.n, WORDS_ROUGE, err);
    if (st == PLM_OK) {
        out->rouge1 = rouge_n(&g, &p, 1).f;
        out->rougel = rouge_l(&g, &p).f;
    }
    words_free(&p);
    words_free(&g);
    return st;
}
