/* score.c: reads LaMP's outputs files, which may come from anyone, pairs golds and predictions by id, and
 * applies the task's metric. */
#include "score.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

enum { FILE_MOST = 64 << 20 };

struct answer {
    struct str id, output;          /* borrowed from the document, or of the buffers below */
    char id_digits[24], digits[32]; /* where they are numbers */
};

struct answers {
    json_t *doc;
    const char *path, *task; /* borrowed; of doc */
    struct answer *a, **by_id;
    size_t n;
};

/* A string, or a whole number as Python's str() writes it. */
static bool whole_or_text(const json_t *v, char digits[24], struct str *out) {
    if (json_is_string(v)) {
        *out = (struct str){json_string_value(v), json_string_length(v)};
        return true;
    }
    if (!json_is_integer(v))
        return false;
    snprintf(digits, 24, "%lld", (long long)json_integer_value(v));
    *out = str_of(digits);
    return true;
}

/* The same or a real number, by the fewest digits that mean it. */
static bool number_or_text(const json_t *v, char digits[32], struct str *out) {
    double back;
    if (!json_is_real(v))
        return whole_or_text(v, digits, out);
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, 32, "%.*g", precision, json_real_value(v));
        if (parse_f64(str_of(digits), &back) && back == json_real_value(v))
            break;
    }
    if (!strpbrk(digits, ".e"))
        strcat(digits, ".0");
    *out = str_of(digits);
    return true;
}

static int compare(struct str a, struct str b) {
    size_t least = a.n < b.n ? a.n : b.n;
    int c = least ? memcmp(a.p, b.p, least) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int by_id(const void *a, const void *b) {
    const struct answer *x = *(const struct answer *const *)a, *y = *(const struct answer *const *)b;
    return compare(x->id, y->id);
}

static void answers_free(struct answers *s) {
    json_decref(s->doc);
    mem_free(s->a);
    mem_free(s->by_id);
}

static plm_status read_answer(struct answer *a, const json_t *v, const char *path, size_t at,
                              plm_error *err) {
    if (!whole_or_text(json_object_get(v, "id"), a->id_digits, &a->id))
        return fail(err, PLM_EFORMAT, "%s: entry %zu of golds has no \"id\" that is text or a whole number",
                    path, at + 1);
    if (!number_or_text(json_object_get(v, "output"), a->digits, &a->output))
        return fail(err, PLM_EFORMAT, "%s: id \"%.*s\" has no \"output\" that is text or a number", path,
                    (int)(a->id.n < 80 ? a->id.n : 80), a->id.p);
    return PLM_OK;
}

/* The sentence about one id, cut to a length that can be read. */
static plm_status about_id(plm_error *err, const struct answers *s, struct str id, const char *what) {
    return fail(err, PLM_EFORMAT, "%s: id \"%.*s\" %s", s->path, (int)(id.n < 80 ? id.n : 80), id.p, what);
}

static plm_status answers_fill(struct answers *s, plm_error *err) {
    const json_t *golds = json_object_get(s->doc, "golds");
    plm_status st = PLM_OK;
    s->task = json_text(s->doc, "task");
    if (!s->task)
        return fail(err, PLM_EFORMAT, "%s: there is no \"task\"", s->path);
    if (!json_is_array(golds) || json_array_size(golds) == 0)
        return fail(err, PLM_EFORMAT, "%s: there is no list \"golds\" with answers", s->path);
    size_t n = json_array_size(golds);
    s->a = mem_zero(n, sizeof *s->a);
    s->by_id = mem_zero(n, sizeof *s->by_id);
    if (!s->a || !s->by_id)
        return fail(err, PLM_ENOMEM, "out of memory for %zu answers", n);
    for (; s->n < n && st == PLM_OK; s->n++) {
        st = read_answer(&s->a[s->n], json_array_get(golds, s->n), s->path, s->n, err);
        s->by_id[s->n] = &s->a[s->n];
    }
    if (st != PLM_OK)
        return st;
    qsort(s->by_id, n, sizeof *s->by_id, by_id);
    for (size_t i = 1; i < n; i++)
        if (compare(s->by_id[i - 1]->id, s->by_id[i]->id) == 0)
            return about_id(err, s, s->by_id[i]->id, "is there twice");
    return PLM_OK;
}

static plm_status answers_read(struct answers *s, const char *path, plm_error *err) {
    struct bytes b;
    bytes_init(&b, FILE_MOST);
    *s = (struct answers){.path = path};
    plm_status st = file_read(path, FILE_MOST, &b, err);
    if (st == PLM_OK)
        st = json_parse(&s->doc, b.data, b.len, path, err);
    bytes_free(&b);
    return st == PLM_OK ? answers_fill(s, err) : st;
}

static plm_status same_ids(const struct answers *golds, const struct answers *preds, plm_error *err) {
    for (size_t i = 0; i < golds->n || i < preds->n; i++) {
        int c = i == golds->n ? 1 : i == preds->n ? -1 : compare(golds->by_id[i]->id, preds->by_id[i]->id);
        if (c < 0)
            return about_id(err, preds, golds->by_id[i]->id, "is missing");
        if (c > 0)
            return about_id(err, preds, preds->by_id[i]->id, "is not among the golds");
    }
    return PLM_OK;
}

/* The old news set and the movie set both call themselves LaMP_2. */
static bool is_of_task(const char *named, const struct metric_task *t) {
    const struct metric_task *of = metric_task(str_of(named));
    return of == t || (strcmp(named, "LaMP_2") == 0 && strcmp(t->name, "LaMP_2N") == 0);
}

static plm_status find_task(struct score *out, const char *task, const struct answers *golds,
                            const struct answers *preds, plm_error *err) {
    out->task = metric_task(str_of(task ? task : golds->task));
    if (!out->task)
        return fail(err, PLM_EINVAL, "\"%s\" is no task of LaMP: LaMP_1, LaMP_2M, LaMP_2N, LaMP_3 ... LaMP_7",
                    task ? task : golds->task);
    for (int i = 0; i < 2; i++) {
        const struct answers *s = i ? preds : golds;
        if (!is_of_task(s->task, out->task))
            return fail(err, PLM_EFORMAT, "%s: its task is \"%s\", not %s", s->path, s->task,
                        out->task->name);
    }
    return PLM_OK;
}

static plm_status score_labels(struct score *out, const struct answers *golds, const struct answers *preds,
                               plm_error *err) {
    int *label = mem_alloc(2 * golds->n, sizeof *label);
    plm_status st = label ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory for %zu labels", golds->n);
    for (size_t i = 0; i < golds->n && st == PLM_OK; i++) {
        label[golds->n + i] = metric_label(out->task, golds->by_id[i]->output);
        label[i] = metric_label(out->task, preds->by_id[i]->output);
        out->unread += label[i] < 0;
        if (label[golds->n + i] < 0)
            st = about_id(err, golds, golds->by_id[i]->id, "has an output that is no label of the task");
    }
    if (st == PLM_OK) {
        struct metric_labels m = metric_labels(label, label + golds->n, golds->n, out->task->n_labels);
        out->value[0] = m.accuracy;
        out->value[1] = m.f1;
    }
    mem_free(label);
    return st;
}

static plm_status score_ratings(struct score *out, const struct answers *golds, const struct answers *preds,
                                plm_error *err) {
    double *value = mem_alloc(2 * golds->n, sizeof *value);
    plm_status st = value ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory for %zu ratings", golds->n);
    for (size_t i = 0; i < golds->n && st == PLM_OK; i++) {
        bool read;
        if (!metric_number(golds->by_id[i]->output, &value[golds->n + i])) {
            st = about_id(err, golds, golds->by_id[i]->id, "has an output that is no number");
            break;
        }
        value[i] = metric_rating(preds->by_id[i]->output, value[golds->n + i], &read);
        out->unread += !read;
    }
    if (st == PLM_OK) {
        struct metric_ratings m = metric_ratings(value, value + golds->n, golds->n);
        out->value[0] = m.mae;
        out->value[1] = m.rmse;
    }
    mem_free(value);
    return st;
}

static plm_status score_texts(struct score *out, const struct answers *golds, const struct answers *preds,
                              plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; i < golds->n && st == PLM_OK; i++) {
        struct metric_rouge m = {0, 0};
        st = metric_rouge(&m, preds->by_id[i]->output, golds->by_id[i]->output, err);
        out->value[0] += m.rouge1 / (double)golds->n;
        out->value[1] += m.rougel / (double)golds->n;
    }
    return st;
}

plm_status score_files(struct score *out, const char *task, const char *golds_path, const char *preds_path,
                       plm_error *err) {
    struct answers golds, preds = {0};
    *out = (struct score){0};
    plm_status st = answers_read(&golds, golds_path, err);
    if (st == PLM_OK)
        st = answers_read(&preds, preds_path, err);
    if (st == PLM_OK)
        st = find_task(out, task, &golds, &preds, err);
    if (st == PLM_OK)
        st = same_ids(&golds, &preds, err);
    if (st == PLM_OK) {
        out->n = golds.n;
        st = out->task->kind == METRIC_LABEL    ? score_labels(out, &golds, &preds, err)
             : out->task->kind == METRIC_RATING ? score_ratings(out, &golds, &preds, err)
                                                : score_texts(out, &golds, &preds, err);
    }
    answers_free(&golds);
    answers_free(&preds);
    return st;
}
