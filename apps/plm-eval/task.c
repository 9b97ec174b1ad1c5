/* task.c: the table of tasks and the reader of their files. Nothing in a file is believed: fields may be
 * texts or numbers, ids must be there once, and what lacks a field is left out and counted.
 *
 * Histories of LaMP-1 and LaMP-7 are not in the format of their queries. The plainest deterministic way of
 * bringing them there is taken: a pair of a cited (else the nearest own) title and somebody else's for the
 * first, the text without its typography for the second. */
#include "task.h"

#include "base/json_list.h"
#include "base/text.h"
#include "shared/encode.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { QUESTION_MAX = 64 << 20, OTHERS = 64 };

const struct task lamp_tasks[] = {
    {"LaMP_1", NULL, "lamp-1", NULL, "abstract", "citation", "title"},
    {"LaMP_2", "LaMP_2M", "lamp-2", "description:", "description", "tag", NULL},
    {"LaMP_2N", NULL, "lamp-2n", "article:", "text", "category", "title"},
    {"LaMP_3", NULL, "lamp-3", "review:", "text", "score", NULL},
    {"LaMP_4", NULL, "lamp-4", "article:", "text", "title", "title"},
    {"LaMP_5", NULL, "lamp-5", "paper:", "abstract", "title", "title"},
    {"LaMP_7", NULL, "lamp-7", ":", "text", "text", NULL},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

const struct task *task_find(const char *name) {
    for (const struct task *t = lamp_tasks; t->name; t++)
        if (strcmp(t->name, name) == 0 || (t->also && strcmp(t->also, name) == 0) ||
            strcmp(t->kind, name) == 0)
            return t;
    return NULL;
}

static bool is_pairs(const struct task *t) {
    return strcmp(t->name, "LaMP_1") == 0;
}

static bool is_paraphrase(const struct task *t) {
    return strcmp(t->name, "LaMP_7") == 0;
}

/* ---- texts ---- */

const char *dataset_keep(struct dataset *d, const char *text) {
    if (d->n_texts == d->cap_texts) {
        size_t cap = d->cap_texts ? 2 * d->cap_texts : 256;
        char **v = mem_grow(d->texts, cap, sizeof *v);
        if (!v)
            return NULL;
        d->texts = v;
        d->cap_texts = cap;
    }
    char *copy = mem_dupz(text);
    if (copy)
        d->texts[d->n_texts++] = copy;
    return copy;
}

static const char *value_text(const json_t *object, const char *key, char number[32]) {
    return key ? json_scalar(json_object_get(object, key), number) : NULL;
}

static plm_status keep_value(struct dataset *d, const json_t *object, const char *key, const char **out,
                             plm_error *err) {
    char number[32];
    const char *text = value_text(object, key, number);
    *out = NULL;
    if (!text)
        return PLM_OK;
    *out = dataset_keep(d, text);
    return *out ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
}

plm_status task_query_text(const struct task *t, const char *prompt, struct bytes *out, plm_error *err) {
    bytes_clear(out);
    const char *from = prompt;
    if (is_pairs(t)) { /* the second and third quoted texts */
        const char *quote[6] = {NULL};
        size_t n = 0;
        for (const char *p = prompt; n < 6 && (p = strchr(p, '"')); p++)
            quote[n++] = p;
        if (n == 6) {
            bytes_put(out, quote[2] + 1, (size_t)(quote[3] - quote[2] - 1));
            bytes_putc(out, ' ');
            bytes_put(out, quote[4] + 1, (size_t)(quote[5] - quote[4] - 1));
            return bytes_status(out, "a query", err);
        }
    } else if ((from = strstr(prompt, t->mark))) {
        from += strlen(t->mark);
    }
    bytes_puts(out, from ? from : prompt);
    return bytes_status(out, "a query", err);
}

/* The text as somebody without a style of his own would type it: lower case, no hashtag or emphasis marks, no
 * emoji, one blank or punctuation mark at a time, no last exclamation. */
static void flatten(struct bytes *out, const char *text) {
    char last = ' ';
    size_t left = strlen(text), len;
    bytes_clear(out);
    for (; left; text += len, left -= len) {
        uint32_t c = utf8_next(text, left, &len);
        char plain = (char)*text;
        if (c >= 0x10000 || (c < 0x80 && strchr("#*_~", (int)c)))
            continue;
        if (c >= 0x80) {
            bytes_put(out, text, len);
            last = 0;
            continue;
        }
        if (c >= 'A' && c <= 'Z')
            plain = (char)(c - 'A' + 'a');
        else if (isspace((int)c))
            plain = ' ';
        if (plain != last || isalnum(plain))
            bytes_putc(out, plain);
        last = plain;
    }
    while (out->len && strchr(" !", out->data[out->len - 1]))
        out->data[--out->len] = 0;
}

/* ---- items ---- */

static plm_status make_doc(struct dataset *d, struct item *it, const json_t *object, plm_error *err) {
    char number[32];
    const char *title = value_text(object, d->task->title, number);
    struct bytes b;
    bytes_init(&b, QUESTION_MAX);
    if (title)
        bytes_printf(&b, "%s ", title);
    bytes_puts(&b, it->text);
    plm_status st = bytes_status(&b, "an item", err);
    it->doc = st ? NULL : dataset_keep(d, b.data);
    bytes_free(&b);
    return st || it->doc ? st : fail(err, PLM_ENOMEM, "out of memory");
}

/* *good false: something is missing. */
static plm_status take_item(struct dataset *d, struct item *it, const json_t *object, bool *good,
                            plm_error *err) {
    const struct task *t = d->task;
    plm_status st = keep_value(d, object, t->input, &it->text, err);
    if (st == PLM_OK)
        st = keep_value(d, object, t->title, &it->title, err);
    if (st == PLM_OK)
        st = keep_value(d, object, t->output, &it->output, err);
    if (is_pairs(t))
        it->reference = it->output;
    *good = it->text && it->text[0] && (is_pairs(t) ? it->title != NULL : it->output && it->output[0]);
    if (st || !*good)
        return st;
    it->input = it->text;
    if (d->kind->labels && !is_pairs(t))
        *good = plm_kind_label(d->kind, it->output) >= 0;
    return *good ? make_doc(d, it, object, err) : PLM_OK;
}

static plm_status take_profile(struct dataset *d, struct user *u, const json_t *profile, size_t *skipped,
                               plm_error *err) {
    size_t n = json_array_size(profile);
    plm_status st = PLM_OK;
    u->items = mem_zero(n ? n : 1, sizeof *u->items);
    if (!u->items)
        return fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; st == PLM_OK && i < n; i++) {
        bool good = false;
        const json_t *object = json_array_get(profile, i);
        struct item it = {0};
        if (json_is_object(object))
            st = take_item(d, &it, object, &good, err);
        if (good)
            u->items[u->n++] = it;
        else
            ++*skipped;
    }
    return st;
}

static plm_status add_query(struct dataset *d, struct user *u, const json_t *q, const char *where,
                            plm_error *err) {
    size_t n = u->n_queries;
    struct query *v = n & (n - 1) ? u->queries : mem_grow(u->queries, n ? 2 * n : 1, sizeof *v);
    if (!v)
        return fail(err, PLM_ENOMEM, "out of memory");
    u->queries = v;
    v[n] = (struct query){0};
    u->n_queries++;
    plm_status st = keep_value(d, q, "id", &v[n].id, err);
    if (st == PLM_OK)
        st = keep_value(d, q, "input", &v[n].prompt, err);
    if (st == PLM_OK && (!v[n].id || !v[n].prompt))
        st = fail(err, PLM_EFORMAT, "%s: it needs an id and an input", where);
    return st;
}

static plm_status take_question(struct dataset *d, const json_t *q, const char *where, size_t *skipped,
                                plm_error *err) {
    char number[32];
    const char *who = value_text(q, "user_id", number);
    const json_t *profile = json_object_get(q, "profile");
    struct user *u = NULL;
    if (!who)
        who = value_text(q, "id", number);
    if (!json_is_object(q) || !who || !json_is_array(profile))
        return fail(err, PLM_EFORMAT, "%s: it needs an id, an input and a profile", where);
    /* Files hold a user's questions one after the other, or far apart; either is found from the end. */
    for (size_t i = d->n; !u && i-- > 0;)
        if (strcmp(d->users[i].id, who) == 0)
            u = &d->users[i];
    if (u)
        return add_query(d, u, q, where, err);
    struct user *v = d->n & (d->n - 1) ? d->users : mem_grow(d->users, d->n ? 2 * d->n : 1, sizeof *v);
    if (!v)
        return fail(err, PLM_ENOMEM, "out of memory");
    d->users = v;
    u = &v[d->n++];
    *u = (struct user){.id = dataset_keep(d, who)};
    plm_status st =
        u->id ? take_profile(d, u, profile, skipped, err) : fail(err, PLM_ENOMEM, "out of memory");
    return st ? st : add_query(d, u, q, where, err);
}

static plm_status read_questions(struct dataset *d, const char *path, size_t *skipped, plm_error *err) {
    struct json_list *l = NULL;
    json_t *q = NULL;
    plm_status st = json_list_open(&l, path, QUESTION_MAX, err);
    if (st == PLM_OK)
        st = json_list_next(l, "question", &q, err);
    while (st == PLM_OK && q) {
        char where[300];
        snprintf(where, sizeof where, "%.240s: question %zu", path, json_list_number(l));
        st = take_question(d, q, where, skipped, err);
        json_decref(q);
        q = NULL;
        if (st == PLM_OK)
            st = json_list_next(l, "question", &q, err);
    }
    json_list_close(l);
    return st;
}

/* ---- golds ---- */

static plm_status match_golds(struct dataset *d, const json_t *golds, const char *path, plm_error *err) {
    json_t *by_id = json_object();
    plm_status st = by_id ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; st == PLM_OK && i < json_array_size(golds); i++) {
        char number[32];
        const char *id = value_text(json_array_get(golds, i), "id", number);
        if (!id || json_object_get(by_id, id))
            st = fail(err, PLM_EFORMAT, "%s: gold %zu has no id, or one that was there before", path, i + 1);
        else if (json_object_set(by_id, id, json_array_get(golds, i)))
            st = fail(err, PLM_ENOMEM, "out of memory");
    }
    for (size_t u = 0; st == PLM_OK && u < d->n; u++)
        for (size_t i = 0; st == PLM_OK && i < d->users[u].n_queries; i++) {
            struct query *q = &d->users[u].queries[i];
            st = keep_value(d, json_object_get(by_id, q->id), "output", &q->gold, err);
            if (st == PLM_OK && !q->gold)
                st = fail(err, PLM_EFORMAT, "%s has no output for question %.60s", path, q->id);
        }
    json_decref(by_id);
    return st;
}

static plm_status read_golds(struct dataset *d, const char *path, plm_error *err) {
    struct bytes text;
    json_t *doc = NULL;
    bytes_init(&text, (size_t)1 << 30);
    plm_status st = file_read(path, (size_t)1 << 30, &text, err);
    if (st == PLM_OK)
        st = json_parse(&doc, text.data, text.len, path, err);
    bytes_free(&text);
    if (st == PLM_OK && !json_is_array(json_object_get(doc, "golds")))
        st = fail(err, PLM_EFORMAT, "%s has no list of golds", path);
    if (st == PLM_OK)
        st = match_golds(d, json_object_get(doc, "golds"), path, err);
    json_decref(doc);
    return st;
}

/* ---- the test's format ---- */

/* The own title nearest to item i by BM25 over titles; SIZE_MAX: there is no other. */
static plm_status nearest_title(const struct user *u, const struct bm25 *index, size_t i, double *scores,
                                size_t *nearest, plm_error *err) {
    struct words w;
    plm_status st = words_split(&w, u->items[i].title, strlen(u->items[i].title), WORDS_UNICODE, err);
    if (st)
        return st;
    st = bm25_scores(index, &w, scores, err);
    words_free(&w);
    *nearest = SIZE_MAX;
    for (size_t k = 0; st == PLM_OK && k < u->n; k++)
        if (k != i && (*nearest == SIZE_MAX || scores[k] > scores[*nearest]))
            *nearest = k;
    return st;
}

static plm_status title_index(const struct user *u, struct bm25 **index, plm_error *err) {
    struct words *docs = mem_zero(u->n ? u->n : 1, sizeof *docs);
    plm_status st = docs ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; st == PLM_OK && i < u->n; i++)
        st = words_split(&docs[i], u->items[i].title, strlen(u->items[i].title), WORDS_UNICODE, err);
    if (st == PLM_OK)
        st = bm25_open(index, docs, u->n, err);
    for (size_t i = 0; docs && i < u->n; i++)
        words_free(&docs[i]);
    mem_free(docs);
    return st;
}

/* LaMP-1: "which reference is related?" of the item's own title: what it cites (else the nearest own title)
 * against a reference of somebody else. The order alternates, so neither label is the better guess. */
static plm_status make_pairs(struct dataset *d, size_t who, plm_error *err) {
    struct user *u = &d->users[who];
    struct bm25 *index = NULL;
    struct bytes b;
    double *scores = mem_zero(u->n ? u->n : 1, sizeof *scores);
    plm_status st = scores ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    bytes_init(&b, QUESTION_MAX);
    if (st == PLM_OK && u->n)
        st = title_index(u, &index, err);
    size_t kept = 0;
    for (size_t i = 0; st == PLM_OK && i < u->n; i++) {
        struct item it = u->items[i];
        const struct user *other = d->n > 1 ? &d->users[(who + 1 + i % (d->n - 1)) % d->n] : u;
        const struct item *strange = other != u && other->n ? &other->items[i % other->n] : NULL;
        const char *wrong = !strange ? NULL : strange->reference ? strange->reference : strange->title;
        const char *right = it.reference;
        size_t near = SIZE_MAX;
        if (!right)
            st = nearest_title(u, index, i, scores, &near, err);
        if (near != SIZE_MAX)
            right = u->items[near].title;
        if (st || !right || !wrong)
            continue;
        bytes_clear(&b);
        bytes_printf(&b,
                     "For an author who has written the paper with the title \"%s\", which reference is "
                     "related? Just answer with [1] or [2] without explanation. [1]: \"%s\" [2]: \"%s\"",
                     it.title, i % 2 ? wrong : right, i % 2 ? right : wrong);
        st = bytes_status(&b, "a question", err);
        it.prompt = st ? NULL : dataset_keep(d, b.data);
        it.input = it.prompt;
        it.output = i % 2 ? "[2]" : "[1]";
        it.made = true;
        if (st == PLM_OK && !it.prompt)
            st = fail(err, PLM_ENOMEM, "out of memory");
        u->items[kept++] = it;
    }
    if (st == PLM_OK)
        u->n = kept;
    bm25_close(index);
    mem_free(scores);
    bytes_free(&b);
    return st;
}

static plm_status make_prompts(struct dataset *d, struct user *u, plm_error *err) {
    struct bytes b;
    plm_status st = PLM_OK;
    bytes_init(&b, QUESTION_MAX);
    for (size_t i = 0; st == PLM_OK && i < u->n; i++) {
        struct item *it = &u->items[i];
        char *prompt = NULL;
        if (is_paraphrase(d->task)) {
            flatten(&b, it->text);
            st = bytes_status(&b, "a text", err);
            it->input = st ? NULL : dataset_keep(d, b.len ? b.data : it->text);
            it->made = true;
        }
        if (st == PLM_OK && it->input)
            st = plm_kind_prompt(d->kind, it->input, &prompt, err);
        it->prompt = prompt ? dataset_keep(d, prompt) : NULL;
        plm_free(prompt);
        if (st == PLM_OK && !it->prompt)
            st = fail(err, PLM_ENOMEM, "out of memory");
    }
    bytes_free(&b);
    return st;
}

plm_status dataset_read(struct dataset *out, const struct task *task, const plm_kind *kind, const char *dir,
                        const char *split, size_t *skipped, plm_error *err) {
    char folder[3000], questions[3200], golds[3200];
    *out = (struct dataset){.task = task, .kind = kind};
    *skipped = 0;
    snprintf(folder, sizeof folder, "%.2900s/%s", dir, task->name);
    if (!dir_exists(folder))
        snprintf(folder, sizeof folder, "%.2990s", dir);
    snprintf(questions, sizeof questions, "%s/%s_questions.json", folder, split);
    snprintf(golds, sizeof golds, "%s/%s_outputs.json", folder, split);
    plm_status st = read_questions(out, questions, skipped, err);
    if (st == PLM_OK)
        st = read_golds(out, golds, err);
    for (size_t i = 0; st == PLM_OK && i < out->n; i++)
        st = is_pairs(task) ? make_pairs(out, i, err) : make_prompts(out, &out->users[i], err);
    if (st)
        dataset_free(out);
    return st;
}

void dataset_free(struct dataset *d) {
    for (size_t i = 0; i < d->n; i++) {
        mem_free(d->users[i].items);
        mem_free(d->users[i].queries);
    }
    for (size_t i = 0; i < d->n_texts; i++)
        mem_free(d->texts[i]);
    mem_free(d->users);
    mem_free(d->texts);
    *d = (struct dataset){0};
}
