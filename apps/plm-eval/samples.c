/* samples.c: a run of the trainer on an arm's examples. What it cost stands beside the adapter as JSON,
 * written last: its presence says that the adapter is whole. */
#include "samples.h"

#include "base/hash.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void samples_free(struct samples *s) {
    for (size_t i = 0; i < s->n_own; i++)
        mem_free(s->own[i]);
    mem_free(s->own);
    mem_free(s->v);
    mem_free(s->messages);
    *s = (struct samples){0};
}

static plm_status room(struct samples *s, plm_error *err) {
    if (s->n < s->cap)
        return PLM_OK;
    size_t cap = s->cap ? 2 * s->cap : 64;
    plm_example *v = mem_grow(s->v, cap, sizeof *v);
    if (v)
        s->v = v;
    plm_message *m = mem_grow(s->messages, 2 * cap, sizeof *m);
    if (m)
        s->messages = m;
    char **own = mem_grow(s->own, 2 * cap, sizeof *own);
    if (own)
        s->own = own;
    if (!v || !m || !own)
        return fail(err, PLM_ENOMEM, "out of memory");
    s->cap = cap;
    for (size_t i = 0; i < s->n; i++)
        s->v[i].messages = &s->messages[2 * i];
    return PLM_OK;
}

plm_status samples_add(struct samples *s, const char *prompt, const char *answer, float weight,
                       bool synthetic, plm_error *err) {
    plm_status st = room(s, err);
    if (st)
        return st;
    char *p = mem_dupz(prompt), *a = mem_dupz(answer);
    if (!p || !a) {
        mem_free(p);
        mem_free(a);
        return fail(err, PLM_ENOMEM, "out of memory");
    }
    s->own[s->n_own++] = p;
    s->own[s->n_own++] = a;
    s->messages[2 * s->n] = (plm_message){"user", p};
    s->messages[2 * s->n + 1] = (plm_message){"assistant", a};
    s->v[s->n] = (plm_example){
        .messages = &s->messages[2 * s->n], .n_messages = 2, .weight = weight, .synthetic = synthetic};
    s->n++;
    return PLM_OK;
}

static void hash_text(struct sha256 *h, const char *text) {
    sha256_add(h, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void name_of(char hex[65], const struct school *s, const struct samples *e, const char *start,
                    const plm_train_options *how, const plm_adapter_options *shape) {
    struct sha256 h;
    char line[200];
    const char *slash = start ? strrchr(start, '/') : NULL;
    sha256_start(&h);
    hash_text(&h, plm_version());
    hash_text(&h, s->model_sha256);
    hash_text(&h, plm_model_describe(s->model)->cpu);
    hash_text(&h, slash ? slash + 1 : start); /* which is a hash itself */
    snprintf(line, sizeof line, "%d %u %d %d %d %.9g %.9g %llu", shape->rank, shape->targets, shape->layers,
             how->batch, how->steps, (double)how->rate, (double)how->real_last,
             (unsigned long long)how->seed);
    hash_text(&h, line);
    for (size_t i = 0; i < e->n; i++) {
        snprintf(line, sizeof line, "%d %.9g", e->v[i].synthetic, (double)e->v[i].weight);
        hash_text(&h, line);
        hash_text(&h, e->v[i].messages[0].text);
        hash_text(&h, e->v[i].messages[1].text);
    }
    sha256_hex(&h, hex);
}

static bool load_cost(struct trained *t, const char *path) {
    struct bytes text;
    json_t *doc = NULL;
    json_int_t tokens = 0, bytes = 0;
    bool good = false;
    bytes_init(&text, 1 << 16);
    if (file_exists(path) && file_read(path, 1 << 16, &text, NULL) == PLM_OK &&
        json_parse(&doc, text.data, text.len, path, NULL) == PLM_OK)
        good = json_unpack(doc, "{s:F, s:i, s:I, s:I}", "seconds", &t->seconds, "steps", &t->steps, "tokens",
                           &tokens, "bytes", &bytes) == 0 &&
               file_exists(t->path);
    t->tokens = (size_t)tokens;
    t->bytes = (uint64_t)bytes;
    json_decref(doc);
    bytes_free(&text);
    return good;
}

static plm_status save_cost(const struct trained *t, const char *path, plm_error *err) {
    char *text = NULL;
    json_t *doc = json_pack("{s:f, s:i, s:I, s:I}", "seconds", t->seconds, "steps", t->steps, "tokens",
                            (json_int_t)t->tokens, "bytes", (json_int_t)t->bytes);
    plm_status st = doc ? json_write(doc, &text, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = file_replace(path, text, strlen(text), err);
    plm_free(text);
    json_decref(doc);
    return st;
}

static int on_step(void *ctx, const plm_train_facts *facts, const plm_train_report *r) {
    const struct school *s = ctx;
    return s->on_step ? s->on_step(s->ctx, r->step + 1, facts->steps) : 0;
}

plm_status samples_train(const struct school *s, const struct samples *examples, const char *start, int batch,
                         int steps, double rate, uint64_t seed, struct trained *out, plm_error *err) {
    struct learn l = {.model = s->model,
                      .start = start,
                      .adapter = {.rank = s->recipe->rank,
                                  .targets = PLM_ALL_LINEAR,
                                  .layers = s->recipe->layers,
                                  .seed = seed},
                      .train = {.batch = batch,
                                .steps = steps,
                                .rate = (float)rate,
                                .seed = seed,
                                .real_last = (float)s->recipe->real_last},
                      .examples = examples->v,
                      .n = examples->n,
                      .on_step = on_step,
                      .ctx = (void *)(uintptr_t)s};
    struct learned done = {0};
    char hash[65], cost[4320];
    struct stat facts;
    size_t synthetic = 0;
    for (size_t i = 0; i < examples->n; i++)
        synthetic += examples->v[i].synthetic;
    if (!synthetic || synthetic == examples->n)
        l.train.real_last = 0;
    name_of(hash, s, examples, start, &l.train, &l.adapter);
    *out = (struct trained){.seconds = 0};
    snprintf(out->path, sizeof out->path, "%.4000s/%.40s.gguf", s->folder, hash);
    snprintf(cost, sizeof cost, "%s.json", out->path);
    if (load_cost(out, cost))
        return PLM_OK;
    plm_status st = learn(&done, &l, err);
    if (st == PLM_OK)
        st = plm_adapter_save(done.adapter, out->path, err);
    out->seconds = done.seconds;
    out->steps = done.steps;
    out->tokens = done.tokens;
    if (st == PLM_OK && stat(out->path, &facts) == 0)
        out->bytes = (uint64_t)facts.st_size;
    if (st == PLM_OK)
        st = save_cost(out, cost, err);
    plm_adapter_free(done.adapter);
    return st;
}
