/* lab.c: opens models, data and folders for a task, and trains its task adapter. */
#include "lab.h"

#include "shared/key.h"

#include <stdio.h>
#include <string.h>

static plm_status open_model(plm_model **out, const struct args *a, const char *path, plm_error *err) {
    plm_model_options opt = {.threads = a->threads, .cpu = a->cpu};
    return plm_model_open(out, path, &opt, err);
}

static plm_status open_folders(struct lab *l, plm_error *err) {
    const char *out = l->a->out ? l->a->out : "RUN";
    snprintf(l->out, sizeof l->out, "%.2900s", out);
    snprintf(l->private, sizeof l->private, "%s/private", l->out);
    if (l->a->cache)
        snprintf(l->adapters, sizeof l->adapters, "%.3000s", l->a->cache);
    else
        snprintf(l->adapters, sizeof l->adapters, "%s/adapters", l->private);
    plm_status st = dir_make(l->private, err);
    return st ? st : dir_make(l->adapters, err);
}

static int on_step(void *ctx, int step, int steps) {
    struct lab *l = ctx;
    char note[80];
    snprintf(note, sizeof note, "%.40s, step %d of %d", l->doing ? l->doing : "training", step, steps);
    progress_at(&l->bar, l->done, l->total, note);
    return 0;
}

/* No user of the dev file may have helped to make the task adapter. */
static plm_status check_disjoint(const struct lab *l, plm_error *err) {
    for (size_t i = 0; i < l->pool.n; i++)
        for (size_t k = 0; k < l->dev.n; k++)
            if (strcmp(l->pool.users[i].id, l->dev.users[k].id) == 0)
                return fail(err, PLM_EFORMAT, "user %.60s is in the task file and in the dev file",
                            l->pool.users[i].id);
    return PLM_OK;
}

static plm_status open_data(struct lab *l, plm_error *err) {
    size_t skipped = 0;
    plm_error none;
    plm_status st = plm_kinds_open(&l->kinds, NULL, err);
    if (st == PLM_OK) {
        l->kind = plm_kind_find(l->kinds, l->task->kind);
        st = dataset_read(&l->dev, l->task, l->kind, l->a->data, "dev", &skipped, err);
    }
    if (st == PLM_OK && skipped && !l->a->quiet)
        fprintf(stderr, "plm-eval: %zu profile items lack a field that %s needs\n", skipped, l->task->name);
    if (st == PLM_OK) {
        st = dataset_read(&l->pool, l->task, l->kind, l->a->data, "task", &skipped, &none);
        if (st == PLM_ENOTFOUND)
            st = PLM_OK; /* then there are no other users */
        else if (st)
            fail(err, st, "%s", none.text);
    }
    return st ? st : check_disjoint(l, err);
}

plm_status lab_open(struct lab *l, const struct args *a, plm_error *err) {
    *l = (struct lab){.a = a, .task = task_find(a->task), .guard = !a->no_guard};
    if (!l->task)
        return fail(err, PLM_EINVAL, "--task is LaMP_1, LaMP_2M, LaMP_2N, LaMP_3, LaMP_4, LaMP_5 or LaMP_7");
    if (!split_of(a->split, &l->split))
        return fail(err, PLM_EINVAL, "--split is dev, pseudo or rolling");
    plm_status st = recipe_read(&l->recipe, a->recipe, err);
    if (st == PLM_OK)
        st = open_folders(l, err);
    if (st == PLM_OK)
        st = open_data(l, err);
    if (st == PLM_OK)
        st = open_model(&l->model, a, a->model, err);
    if (st == PLM_OK)
        st = plm_model_digest(l->model, l->school.model_sha256, err);
    if (st == PLM_OK)
        st = student_open(&l->student, l->model, l->kind, err);
    l->school.model = l->model;
    l->school.folder = l->adapters;
    l->school.recipe = &l->recipe;
    l->school.on_step = on_step;
    l->school.ctx = l;
    progress_start(&l->bar, a->quiet, l->task->name);
    return st;
}

void lab_close(struct lab *l) {
    progress_end(&l->bar);
    for (size_t k = 0; k <= BM25_MOST; k++)
        mem_free(l->task_adapter[k]);
    student_close(&l->student);
    student_close(&l->teacher_student);
    plm_teacher_close(l->teacher);
    plm_store_close(l->store);
    plm_model_close(l->model);
    plm_model_close(l->big);
    dataset_free(&l->dev);
    dataset_free(&l->pool);
    plm_kinds_close(l->kinds);
}

/* ---- the task adapter ---- */

static plm_status add_question(struct lab *l, struct samples *s, const struct user *u, const struct query *q,
                               size_t k, plm_error *err) {
    struct retriever r = {0};
    char *prompt = NULL;
    const struct item **items = mem_zero(u->n ? u->n : 1, sizeof *items);
    plm_status st = items ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; st == PLM_OK && i < u->n; i++)
        items[i] = &u->items[i];
    if (st == PLM_OK)
        st = retriever_open(&r, l->task, items, k ? u->n : 0, err);
    if (st == PLM_OK)
        st = prompt_with_history(&r, l->model, q->prompt, u->n, k, (size_t)l->recipe.history_tokens, &prompt,
                                 err);
    if (st == PLM_OK)
        st = samples_add(s, prompt, q->gold, 0, false, err);
    plm_free(prompt);
    retriever_close(&r);
    mem_free(items);
    return st;
}

static plm_status make_task_adapter(struct lab *l, size_t k, struct trained *out, plm_error *err) {
    struct samples s = {0};
    size_t all = 0, most = (size_t)l->recipe.task_examples, at = 0;
    plm_status st = PLM_OK;
    for (size_t u = 0; u < l->pool.n; u++)
        all += l->pool.users[u].n_queries;
    if (!all)
        return PLM_OK;
    /* Evenly over the file, so that as many users as possible take part. */
    for (size_t u = 0; st == PLM_OK && u < l->pool.n; u++)
        for (size_t i = 0; st == PLM_OK && i < l->pool.users[u].n_queries; i++, at++)
            if (all <= most || at * most / all != (at + 1) * most / all)
                st = add_question(l, &s, &l->pool.users[u], &l->pool.users[u].queries[i], k, err);
    size_t batch = (size_t)l->recipe.task_batch;
    int steps = (int)((s.n * (size_t)l->recipe.task_epochs + batch - 1) / batch);
    l->doing = "task adapter";
    if (st == PLM_OK)
        st = samples_train(&l->school, &s, NULL, (int)batch, steps, l->recipe.task_rate, 0, out, err);
    samples_free(&s);
    return st;
}

/* Every arm asks for it, and its name is the hash of a few hundred prompts: made once a run. */
plm_status lab_task_adapter(struct lab *l, size_t k, struct trained *out, plm_error *err) {
    struct trained *made = l->task_adapter[k];
    *out = (struct trained){.seconds = 0};
    if (!made) {
        made = mem_zero(1, sizeof *made);
        plm_status st = made ? make_task_adapter(l, k, made, err) : fail(err, PLM_ENOMEM, "out of memory");
        if (st) {
            mem_free(made);
            return st;
        }
        l->task_adapter[k] = made;
    }
    *out = *made;
    return PLM_OK;
}

/* ---- the teacher ---- */

plm_status lab_teacher_student(struct lab *l, plm_error *err) {
    if (l->big)
        return PLM_OK;
    if (!l->a->teacher)
        return fail(err, PLM_ENOTSUP, "the ceiling needs --teacher");
    plm_status st = open_model(&l->big, l->a, l->a->teacher, err);
    return st ? st : student_open(&l->teacher_student, l->big, l->kind, err);
}

plm_status lab_teacher(struct lab *l, plm_error *err) {
    char path[3300];
    struct bytes key;
    if (l->store)
        return PLM_OK;
    if (!l->a->teacher)
        return fail(err, PLM_EINVAL, "arms with synthetic data need --teacher");
    plm_status st = teacher_key(&key, l->a->teacher_key_file, "PLM_TEACHER_KEY", err);
    plm_teacher_options opt = {.spec = l->a->teacher,
                               .model_name = l->a->teacher_model,
                               .key = key.len ? key.data : NULL,
                               .threads = l->a->threads,
                               .cpu = l->a->cpu};
    if (st == PLM_OK)
        st = plm_teacher_open(&l->teacher, &opt, err);
    bytes_free(&key);
    snprintf(path, sizeof path, "%s/%s.db", l->private, l->task->name);
    return st ? st : plm_store_open(&l->store, path, false, err);
}

const char *lab_teacher_name(const struct lab *l) {
    return l->teacher ? plm_teacher_name(l->teacher) : "";
}
