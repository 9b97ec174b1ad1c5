/* lamp.c: a person's history out of a questions file of the LaMP benchmark: a list of {id, input, profile,
 * user_id}. Whose history: --me, or the user, or the only person in the file. Other people's texts are never
 * stored as records; lamp-1 takes one title of somebody else as the wrong answer of each pair. */
#include <stdio.h>
#include <string.h>
#include "base/json_list.h"
#include "base/text.h"
#include "import/inside.h"

enum { QUESTION_MAX = 64 << 20, POOL = 64, TITLES = 1000 };

struct lamp {
    struct sink *s;
    const char *path;
    struct json_list *list;
    const plm_kind *kind;
    json_t *chosen;     /* the question with the person's history */
    bool exact;         /* chosen by name, not for being the first */
    json_t *first_id;   /* who the first question is about */
    bool several;       /* there is more than one person */
    json_t *pool[POOL]; /* titles that papers cite or have, with whose they are */
    size_t n_pool;
};

/* Which of the kinds a question is worded for. */
static const plm_kind *kind_of(const struct lamp *l, const char *input) {
    if (strncmp(input, "For an author who has written the paper", 39) == 0) {
        return plm_kind_find(l->s->kinds, "lamp-1");
    }
    const plm_kind *kind;
    for (size_t i = 0; (kind = plm_kind_at(l->s->kinds, i)); i++) {
        const char *slot = strstr(kind->instruction, KIND_SLOT);
        size_t n = slot ? (size_t)(slot - kind->instruction) : 0;
        if (n && strncmp(kind->name, "lamp-", 5) == 0 && strncmp(input, kind->instruction, n) == 0) {
            return kind;
        }
    }
    return NULL;
}

static void collect_reference(struct lamp *l, json_t *id, const json_t *profile) {
    for (size_t i = 0; l->n_pool < POOL && i < 2 && i < json_array_size(profile); i++) {
        const json_t *item = json_array_get(profile, i);
        json_t *cited = json_object_get(item, "citation"),
               *reference = cited ? cited : json_object_get(item, "title");
        if (json_is_string(reference)) {
            json_t *entry = json_pack("[OO]", id, reference);
            if (entry) {
                l->pool[l->n_pool++] = entry;
            }
        }
    }
}

static plm_status take_question(struct lamp *l, json_t *q, plm_error *err) {
    json_t *user = json_object_get(q, "user_id"), *id = user ? user : json_object_get(q, "id");
    const json_t *profile = json_object_get(q, "profile");
    char number[32];
    const char *who = json_scalar(id, number), *input = json_text(q, "input");
    if (!json_is_object(q) || !who || !input || !json_is_array(profile)) {
        char where[WHERE_MAX];
        snprintf(where, sizeof where, "question %zu", json_list_number(l->list));
        sink_skip(l->s, where, "it needs an id, an input and a profile");
        return PLM_OK;
    }
    if (!l->kind && !(l->kind = kind_of(l, input))) {
        return fail(err, PLM_EFORMAT,
                    "%s: question %zu is worded like no LaMP task that plm knows; name it with --kind",
                    l->path, json_list_number(l->list));
    }
    const char *me = l->s->opt->me;
    bool mine = strcmp(who, me ? me : l->s->opt->user) == 0;
    if (!l->first_id) {
        l->first_id = json_incref(id);
    } else if (!json_equal(l->first_id, id)) {
        l->several = true;
    }
    if (!l->chosen || (mine && !l->exact)) {
        json_decref(l->chosen);
        l->chosen = json_incref(q);
        l->exact = mine;
    }
    collect_reference(l, id, profile);
    return PLM_OK;
}

/* Which of a person's own titles is nearest to each, by BM25; only the first TITLES are looked at. */
static plm_status find_nearest(const json_t *profile, size_t nearest[TITLES], plm_error *err) {
    size_t n = json_array_size(profile) < TITLES ? json_array_size(profile) : TITLES, split = 0;
    struct words *titles = mem_zero(n + 1, sizeof *titles);
    double *scores = mem_zero(n + 1, sizeof *scores);
    struct bm25 *index = NULL;
    plm_status fault = titles && scores ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    for (; !fault && split < n; split++) {
        const char *title = json_text(json_array_get(profile, split), "title");
        fault =
            words_split(&titles[split], title ? title : "", title ? strlen(title) : 0, WORDS_UNICODE, err);
    }
    if (!fault && n) {
        fault = bm25_open(&index, titles, n, err);
    }
    for (size_t i = 0; !fault && i < n; i++) {
        if ((fault = bm25_scores(index, &titles[i], scores, err))) {
            break;
        }
        nearest[i] = i; // where there is no other
        for (size_t k = 0; k < n; k++) {
            if (k != i && titles[k].n && (nearest[i] == i || scores[k] > scores[nearest[i]])) {
                nearest[i] = k;
            }
        }
    }
    bm25_close(index);
    for (size_t i = 0; titles && i < split; i++) {
        words_free(&titles[i]);
    }
    mem_free(titles);
    mem_free(scores);
    return fault;
}

/* A question of lamp-1 from a paper: the right answer is one that it cites or, where that is not known, the
 * author's own nearest title; the wrong one is somebody else's. The order alternates, so that neither is the
 * better guess. */
static plm_status take_pair(struct lamp *l, const json_t *item, const json_t *near, size_t i,
                            const char *where, plm_error *err) {
    const char *title = json_text(item, "title"), *cited = json_text(item, "citation"), *other = NULL;
    cited = cited || near == item ? cited : json_text(near, "title");
    const json_t *user = json_object_get(l->chosen, "user_id");
    const json_t *mine = user ? user : json_object_get(l->chosen, "id");
    for (size_t k = 0; !other && k < l->n_pool; k++) {
        const json_t *entry = l->pool[(i + k) % l->n_pool];
        const char *text = json_string_value(json_array_get(entry, 1));
        other =
            json_equal(json_array_get(entry, 0), mine) || (cited && strcmp(text, cited) == 0) ? NULL : text;
    }
    if (!title || !cited || !other) {
        sink_skip(l->s, where,
                  !title   ? "it has no title"
                  : !cited ? "it has no citation, and there is no other title"
                           : "the file holds nobody else's reference to compare with");
        return PLM_OK;
    }
    struct bytes question;
    bytes_init(&question, STORE_TEXT_MAX + 1);
    bytes_printf(
        &question,
        "For an author who has written the paper with the title \"%s\", which reference is related? Just "
        "answer with [1] or [2] without explanation. [1]: \"%s\" [2]: \"%s\"",
        title, i % 2 ? other : cited, i % 2 ? cited : other);
    plm_status fault = PLM_OK;
    if (question.st == PLM_ENOMEM) {
        fault = fail(err, PLM_ENOMEM, "out of memory");
    } else if (question.st) {
        sink_skip(l->s, where, "its question is too long");
    } else {
        char number[32];
        const char *date = json_scalar(json_object_get(item, "date"), number);
        plm_record r = {.when = date ? when_of(date) : 0,
                        .input = question.data,
                        .output = i % 2 ? "[2]" : "[1]",
                        .source = l->path};
        fault = sink_take(l->s, l->kind, &r, where, err);
    }
    bytes_free(&question);
    return fault;
}

static plm_status take_history(struct lamp *l, plm_error *err) {
    const json_t *profile = json_object_get(l->chosen, "profile");
    bool pairs = strcmp(l->kind->name, "lamp-1") == 0;
    size_t nearest[TITLES];
    plm_status fault = pairs ? find_nearest(profile, nearest, err) : PLM_OK;
    for (size_t i = 0; !fault && i < json_array_size(profile); i++) {
        const json_t *item = json_array_get(profile, i);
        const json_t *near = pairs && i < TITLES ? json_array_get(profile, nearest[i]) : item;
        char where[WHERE_MAX];
        snprintf(where, sizeof where, "profile item %zu", i + 1);
        if (!json_is_object(item)) {
            sink_skip(l->s, where, "it is not an object");
        } else {
            fault =
                pairs ? take_pair(l, item, near, i, where, err) : row_take(l->s, l->kind, item, where, err);
        }
    }
    return fault;
}

static plm_status read_questions(struct lamp *l, plm_error *err) {
    json_t *q = NULL;
    plm_status fault = json_list_next(l->list, "question", &q, err);
    while (!fault && q) {
        fault = take_question(l, q, err);
        json_decref(q);
        q = NULL;
        fault = fault ? fault : json_list_next(l->list, "question", &q, err);
    }
    return fault;
}

plm_status read_lamp(struct sink *s, const char *path, plm_error *err) {
    struct lamp l = {.s = s, .path = path, .kind = s->kind};
    plm_status fault = json_list_open(&l.list, path, QUESTION_MAX, err);
    if (fault || (fault = read_questions(&l, err))) {
        goto out;
    }
    if (l.chosen && !l.exact && (l.several || s->opt->me)) {
        char number[32];
        const char *example = json_scalar(l.first_id, number);
        fault =
            fail(err, PLM_ENOTFOUND, "%s has no history of \"%.60s\"; say whose with --me (such as %.60s)",
                 path, s->opt->me ? s->opt->me : s->opt->user, example ? example : "");
    } else if (l.chosen) {
        fault = take_history(&l, err);
    }
out:
    for (size_t i = 0; i < l.n_pool; i++) {
        json_decref(l.pool[i]);
    }
    json_decref(l.chosen);
    json_decref(l.first_id);
    json_list_close(l.list);
    return fault;
}
