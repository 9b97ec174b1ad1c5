/* cell.c: what arms share: prompts, examples, training from the task adapter on, asking the student. */
#include "arms.h"

#include <stdio.h>
#include <string.h>

void cell_free(struct cell *c) {
    replies_free(c->replies, c->view->n_queries);
    mem_free(c->replies);
    mem_free(c->nll);
    written_close(&c->others_rows);
    json_decref(c->extra);
}

plm_status cell_room(struct cell *c, bool nll, plm_error *err) {
    size_t n = c->view->n_queries ? c->view->n_queries : 1;
    c->replies = mem_zero(n, sizeof *c->replies);
    c->nll = nll ? mem_zero(n, sizeof *c->nll) : NULL;
    return c->replies && (c->nll || !nll) ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
}

static const plm_kind *kind(const struct cell *c) {
    return c->lab->kind;
}

void texts_free(char **v, size_t n) {
    for (size_t i = 0; v && i < n; i++)
        plm_free(v[i]);
    mem_free(v);
}

plm_status cell_prompts(const struct cell *c, const plm_model *m, char ***out, plm_error *err) {
    const struct view *v = c->view;
    struct retriever r = {0};
    char **prompts = mem_zero(v->n_queries ? v->n_queries : 1, sizeof *prompts);
    plm_status st = prompts ? retriever_open(&r, c->lab->task, v->items, c->arm->k ? v->n : 0, err)
                            : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; st == PLM_OK && i < v->n_queries; i++)
        st = prompt_with_history(&r, m, v->queries[i].prompt, v->n, c->arm->k,
                                 (size_t)c->lab->recipe.history_tokens, &prompts[i], err);
    retriever_close(&r);
    if (st)
        texts_free(prompts, v->n_queries);
    else
        *out = prompts;
    return st;
}

plm_status cell_ask_student(struct cell *c, struct student *s, const plm_lora *uses, size_t n_uses,
                            plm_error *err) {
    const struct view *v = c->view;
    char **prompts = NULL;
    const char **golds = mem_zero(v->n_queries ? v->n_queries : 1, sizeof *golds);
    plm_status st = golds ? cell_room(c, true, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = cell_prompts(c, s->model, &prompts, err);
    for (size_t i = 0; golds && i < v->n_queries; i++)
        golds[i] = v->queries[i].gold;
    if (st == PLM_OK)
        st = student_ask(s, uses, n_uses, (const char *const *)prompts, golds, v->n_queries,
                         (c->only_score ? 0 : ASK_ANSWERS) | (c->time_first ? ASK_FIRST_TOKEN : 0),
                         c->replies, &c->pace, err);
    for (size_t i = 0; st == PLM_OK && i < v->n_queries; i++)
        c->nll[i] = c->replies[i].nats / c->replies[i].bytes;
    c->answers = st == PLM_OK && !c->only_score;
    texts_free(prompts, v->n_queries);
    mem_free(golds);
    return st;
}

/* ---- answers that are known ---- */

void memory_free(struct memory *m) {
    for (size_t i = 0; i < m->n; i++) {
        mem_free(m->v[i].nats);
        mem_free(m->v[i].tokens);
    }
    m->n = 0;
}

static void memory_key(char key[120], const struct cell *c, const char *path, double scale) {
    const char *slash = path ? strrchr(path, '/') : NULL;
    snprintf(key, 120, "%.90s:%.6g@%zu", slash ? slash + 1 : "", scale, c->arm->k);
}

/* Without room for more it is not remembered. */
static void remember(struct cell *c, const char *key) {
    size_t n = c->view->n_queries, labels = kind(c)->n_labels;
    struct memory *m = c->memory;
    struct remembered *r = &m->v[m->n];
    if (m->n == REMEMBERED || !labels)
        return;
    *r = (struct remembered){.nats = mem_alloc(n * labels + 1, sizeof *r->nats),
                             .tokens = mem_alloc(n + 1, sizeof *r->tokens),
                             .pace = c->pace};
    snprintf(r->key, sizeof r->key, "%s", key);
    m->n++;
    for (size_t i = 0; r->nats && r->tokens && i < n; i++) {
        memcpy(r->nats + i * labels, c->replies[i].label, labels * sizeof *r->nats);
        r->tokens[i] = c->replies[i].prompt_tokens;
    }
}

static const struct remembered *recall(const struct cell *c, const char *key) {
    for (size_t i = 0; i < c->memory->n; i++)
        if (strcmp(c->memory->v[i].key, key) == 0 && c->memory->v[i].nats && c->memory->v[i].tokens)
            return &c->memory->v[i];
    return NULL;
}

static plm_status repeat(struct cell *c, const struct remembered *r, plm_error *err) {
    size_t labels = kind(c)->n_labels;
    plm_status st = cell_room(c, true, err);
    for (size_t i = 0; st == PLM_OK && i < c->view->n_queries; i++) {
        c->replies[i].prompt_tokens = r->tokens[i];
        st = reply_labels(&c->replies[i], kind(c), r->nats + i * labels, c->view->queries[i].gold, err);
        c->nll[i] = c->replies[i].nats;
    }
    c->pace = r->pace;
    c->answers = st == PLM_OK;
    return st;
}

plm_status cell_loras(const struct cell *c, struct loras *l, const char *path, double scale, plm_error *err) {
    struct trained task = {.seconds = 0};
    plm_status st = PLM_OK;
    if (scale < 1)
        st = lab_task_adapter(c->lab, c->arm->k, &task, err);
    if (st == PLM_OK && task.path[0])
        st = loras_add(l, c->lab->model, task.path, (float)(1 - scale), err);
    if (st == PLM_OK && path && *path && scale > 0)
        st = loras_add(l, c->lab->model, path, (float)scale, err);
    return st;
}

plm_status cell_ask(struct cell *c, const char *path, double scale, plm_error *err) {
    struct loras l = {.n = 0};
    char key[120];
    memory_key(key, c, path, scale);
    const struct remembered *known = recall(c, key);
    if (known)
        return repeat(c, known, err);
    plm_status st = cell_loras(c, &l, path, scale, err);
    if (st == PLM_OK)
        st = cell_ask_student(c, &c->lab->student, l.use, l.n, err);
    if (st == PLM_OK)
        remember(c, key);
    loras_close(&l);
    return st;
}

void cell_calibrate(struct cell *c, const struct prior *p) {
    for (size_t i = 0; i < c->view->n_queries; i++) {
        struct reply *r = &c->replies[i];
        r->pred = prior_apply(p, r->label, kind(c)->n_labels);
        c->nll[i] = r->nats = r->label[r->gold];
    }
}

/* ---- examples ---- */

plm_status cell_item_prompt(const struct cell *c, struct retriever *r, const struct view *v, size_t i,
                            char **prompt, plm_error *err) {
    return prompt_with_history(r, c->lab->model, v->items[i]->prompt, i, c->arm->k,
                               (size_t)c->lab->recipe.history_tokens, prompt, err);
}

plm_status cell_add_real(const struct cell *c, const struct view *v, const bool *held, struct samples *s,
                         plm_error *err) {
    struct retriever r = {0};
    plm_status st = retriever_open(&r, c->lab->task, v->items, c->arm->k ? v->n : 0, err);
    for (size_t i = 0; st == PLM_OK && i < v->n; i++) {
        char *prompt = NULL;
        if (held && held[i])
            continue;
        st = cell_item_prompt(c, &r, v, i, &prompt, err);
        if (st == PLM_OK)
            st = samples_add(s, prompt, v->items[i]->output, 0, false, err);
        plm_free(prompt);
    }
    retriever_close(&r);
    return st;
}

plm_status cell_add_other(const struct cell *c, struct samples *s, const char *prompt, const char *answer,
                          plm_error *err) {
    struct retriever r = {0};
    char *whole = NULL;
    plm_status st = retriever_open(&r, c->lab->task, c->view->items, c->arm->k ? c->view->n : 0, err);
    if (st == PLM_OK)
        st = prompt_with_history(&r, c->lab->model, prompt, c->view->n, c->arm->k,
                                 (size_t)c->lab->recipe.history_tokens, &whole, err);
    if (st == PLM_OK)
        st = samples_add(s, whole, answer, (float)c->lab->recipe.synthetic_weight, true, err);
    plm_free(whole);
    retriever_close(&r);
    return st;
}

plm_status cell_add_rows(const struct cell *c, struct samples *s, const struct synthetics *rows, size_t most,
                         plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; st == PLM_OK && i < rows->n && i < most; i++) {
        char *prompt = NULL;
        st = plm_kind_prompt(kind(c), rows->v[i].input, &prompt, err);
        if (st == PLM_OK)
            st = cell_add_other(c, s, prompt, rows->v[i].output, err);
        plm_free(prompt);
    }
    return st;
}

/* ---- training ---- */

plm_status cell_study(struct cell *c, const struct samples *s, const struct tuning *how, int steps,
                      struct trained *out, plm_error *err) {
    struct trained task;
    plm_status st = lab_task_adapter(c->lab, c->arm->k, &task, err);
    c->lab->doing = c->arm->name;
    if (st == PLM_OK && !s->n)
        *out = task; /* nothing to learn from: no further than the task */
    else if (st == PLM_OK)
        st = samples_train(&c->lab->school, s, task.path[0] ? task.path : NULL, how->batch, steps, how->rate,
                           c->seed, out, err);
    return st;
}

plm_status cell_study_and_ask(struct cell *c, const struct samples *s, const struct tuning *how, int steps,
                              plm_error *err) {
    plm_status st = cell_study(c, s, how, steps, &c->cost, err);
    return st ? st : cell_ask(c, c->cost.path, c->arm->scale * how->scale, err);
}

int cell_steps(const struct cell *c) {
    return tuning_steps(&c->lab->recipe.user, c->view->n);
}

plm_status cell_written(struct cell *c, plm_error *err) {
    char what[120];
    if (c->written->asked)
        return PLM_OK;
    snprintf(what, sizeof what, "%zu/%s/%s", c->view->index, c->lab->a->split ? c->lab->a->split : "dev",
             c->point);
    return written_open(c->written, c->lab, what, c->view->items, c->view->n, c->view, c->seed, err);
}
