/* arm.c: trains an arm unless its file is there already, and scores adapters on held-out records. The name of
 * an arm's file holds the hash of all that goes into it, so a stopped job goes on and a changed one starts
 * afresh. */
#include "shared/arm.h"

#include "base/hash.h"
#include "shared/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { INNER_EVERY = 6, INNER_EVERY_SMALL = 4, SMALL = 24, STEPS = 40, PATIENCE = 3, EVAL_EVERY = 4 };
static const float synthetic_weight = 0.5f, real_last = 0.2f;

/* Every sixth training record (fourth, where there are few) is the inner split that patience looks at. */
static void inner_split(bool *inner, const bool *held, size_t n) {
    size_t training = 0, seen = 0;
    for (size_t i = 0; i < n; i++)
        training += !held[i];
    size_t every = training >= SMALL ? INNER_EVERY : INNER_EVERY_SMALL;
    for (size_t i = 0; i < n; i++)
        inner[i] = !held[i] && ++seen % every == 0;
}

static bool made_from(const plm_synthetic *s, const struct records *real, const bool *marked) {
    for (size_t k = 0; k < s->n_sources; k++)
        for (size_t i = 0; i < real->n; i++)
            if (marked[i] && real->v[i].id == s->sources[k])
                return true;
    return false;
}

struct examples {
    plm_example *v;
    plm_message *messages;
    char (*names)[32];
    char **prompts;
    size_t n, cap;
};

static plm_status examples_room(struct examples *e, size_t cap, plm_error *err) {
    *e = (struct examples){.cap = cap};
    e->v = mem_zero(cap, sizeof *e->v);
    e->messages = mem_zero(2 * cap, sizeof *e->messages);
    e->names = mem_zero(cap, sizeof *e->names);
    e->prompts = mem_zero(cap, sizeof *e->prompts);
    return e->v && e->messages && e->names && e->prompts ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
}

static void examples_free(struct examples *e) {
    for (size_t i = 0; i < e->n; i++)
        plm_free(e->prompts[i]);
    mem_free(e->v);
    mem_free(e->messages);
    mem_free(e->names);
    mem_free(e->prompts);
}

static plm_status put(struct examples *e, const plm_kind *kind, const char *what, int64_t id,
                      const char *input, const char *output, plm_example as, plm_error *err) {
    size_t i = e->n++;
    plm_status st = plm_kind_prompt(kind, input, &e->prompts[i], err);
    snprintf(e->names[i], sizeof e->names[i], "%s %lld", what, (long long)id);
    e->messages[2 * i] = (plm_message){"user", e->prompts[i]};
    e->messages[2 * i + 1] = (plm_message){"assistant", output};
    as.messages = &e->messages[2 * i];
    as.n_messages = 2;
    as.name = e->names[i];
    e->v[i] = as;
    return st;
}

static plm_status gather(struct examples *e, struct arm *arm, const struct pool_of_data *d, const bool *held,
                         plm_error *err) {
    size_t n = d->real.n;
    bool *inner = mem_zero(n ? n : 1, sizeof *inner), *apart = mem_zero(n ? n : 1, sizeof *apart);
    arm->learned = mem_zero(n + d->synthetic.n + 1, sizeof *arm->learned);
    plm_status st = inner && apart && arm->learned ? examples_room(e, n + d->synthetic.n + 1, err)
                                                   : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && arm->steps == 0)
        inner_split(inner, held, n);
    for (size_t i = 0; st == PLM_OK && i < n; i++) {
        const plm_record *r = &d->real.v[i];
        apart[i] = held[i] || inner[i];
        if (held[i])
            continue;
        st =
            put(e, d->kind, "record", r->id, r->input, r->output, (plm_example){.validation = inner[i]}, err);
        arm->learned[arm->n_learned++] = r->id;
        arm->n_real += !inner[i];
        arm->n_validation += inner[i];
    }
    for (size_t i = 0; st == PLM_OK && arm->with_synthetic && i < d->synthetic.n; i++) {
        const plm_synthetic *s = &d->synthetic.v[i];
        if (made_from(s, &d->real, apart))
            continue;
        st = put(e, d->kind, "synthetic", s->id, s->input, s->output,
                 (plm_example){.synthetic = true, .weight = synthetic_weight * (float)s->weight}, err);
        arm->learned[arm->n_learned++] = -s->id;
        arm->n_synthetic++;
    }
    mem_free(inner);
    mem_free(apart);
    return st;
}

/* ---- the name of the result ---- */

static void hash_text(struct sha256 *h, const char *text) {
    sha256_add(h, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void arm_hash(char hex[65], const struct arm *arm, const struct pool_of_data *d, const struct learn *l,
                     const struct examples *e) {
    struct sha256 h;
    struct bytes numbers;
    bytes_init(&numbers, 4096);
    learn_settings(&numbers, l);
    sha256_start(&h);
    hash_text(&h, plm_version());
    hash_text(&h, d->model_sha256);
    hash_text(&h, plm_model_describe(d->model)->cpu);
    hash_text(&h, arm->name);
    hash_text(&h, l->start);
    hash_text(&h, numbers.data);
    for (size_t i = 0; i < e->n; i++) {
        char flags[64];
        snprintf(flags, sizeof flags, "%d %d %.9g", e->v[i].synthetic, e->v[i].validation,
                 (double)e->v[i].weight);
        hash_text(&h, flags);
        hash_text(&h, e->v[i].messages[0].text);
        hash_text(&h, e->v[i].messages[1].text);
    }
    sha256_hex(&h, hex);
    bytes_free(&numbers);
}

/* ---- the run ---- */

struct watched {
    struct arm *arm;
    struct progress bar;
};

static int on_step(void *ctx, const plm_train_facts *facts, const plm_train_report *r) {
    struct watched *w = ctx;
    char note[64];
    json_t *point = json_pack("{s:i, s:f}", "step", r->step, "loss", r->loss);
    if (r->validated)
        json_object_set_new(point, "validation", json_real(r->validation));
    json_array_append_new(w->arm->curve, point);
    snprintf(note, sizeof note, "loss %.3f", r->loss);
    progress_at(&w->bar, r->step + 1, facts->steps, note);
    return 0;
}

static plm_status describe(const struct arm *arm, const struct pool_of_data *d, plm_adapter *ad,
                           plm_error *err) {
    plm_status st = plm_adapter_set(
        ad, "plm.template",
        plm_model_describe(d->model)->chat_template ? plm_model_describe(d->model)->chat_template : "raw",
        err);
    if (st == PLM_OK)
        st = plm_adapter_set(ad, "plm.kind", d->kind->name, err);
    if (st == PLM_OK)
        st = plm_adapter_set(ad, "plm.instruction", d->kind->instruction, err);
    if (st == PLM_OK)
        st = plm_adapter_set(ad, "plm.arm", arm->name, err);
    if (st == PLM_OK)
        st = plm_adapter_set(ad, "plm.prior", NULL, err); /* of what it started from */
    return st;
}

/* The numbers beside the adapter; written last, so their presence says that the arm is finished. */
static plm_status save_numbers(const struct arm *arm, const char *path, plm_error *err) {
    json_t *doc = json_pack("{s:s, s:i, s:i, s:I, s:f, s:f, s:I, s:O}", "sha256", arm->sha256, "steps",
                            arm->steps_done, "best_step", arm->best_step, "tokens", (json_int_t)arm->tokens,
                            "best", arm->best, "seconds", arm->seconds, "planned_bytes",
                            (json_int_t)arm->planned_bytes, "curve", arm->curve);
    char *text = NULL;
    plm_status st = doc ? json_write(doc, &text, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = file_replace(path, text, strlen(text), err);
    plm_free(text);
    json_decref(doc);
    return st;
}

/* True when a finished arm with these numbers is there. */
static bool load_numbers(struct arm *arm, const char *path) {
    struct bytes text;
    json_t *doc = NULL;
    char hash[65];
    bool whole = false;
    bytes_init(&text, 16 << 20);
    if (file_exists(path) && file_read(path, 16 << 20, &text, NULL) == PLM_OK) {
        json_int_t tokens, planned;
        const char *sha256;
        json_t *curve;
        if (json_parse(&doc, text.data, text.len, path, NULL) == PLM_OK &&
            json_unpack(doc, "{s:s, s:i, s:i, s:I, s:F, s:F, s:I, s:o}", "sha256", &sha256, "steps",
                        &arm->steps_done, "best_step", &arm->best_step, "tokens", &tokens, "best", &arm->best,
                        "seconds", &arm->seconds, "planned_bytes", &planned, "curve", &curve) == 0 &&
            sha256_file(arm->path, hash, NULL) == PLM_OK && strcmp(hash, sha256) == 0) {
            snprintf(arm->sha256, sizeof arm->sha256, "%s", hash);
            arm->tokens = (size_t)tokens;
            arm->planned_bytes = (uint64_t)planned;
            json_decref(arm->curve);
            arm->curve = json_incref(curve);
            whole = true;
        }
        json_decref(doc);
        bytes_free(&text);
    }
    return whole;
}

static plm_status run(struct arm *arm, const struct pool_of_data *d, struct learn *l, const char *numbers,
                      plm_error *err) {
    struct watched w = {.arm = arm};
    struct learned done;
    char checkpoint[4400], label[80];
    snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", arm->path);
    snprintf(label, sizeof label, "learn %s", arm->name);
    l->checkpoint = checkpoint;
    l->resume = true;
    l->on_step = on_step;
    l->ctx = &w;
    progress_start(&w.bar, d->quiet, label);
    plm_status st = learn(&done, l, err);
    progress_end(&w.bar);
    if (st)
        return st;
    st = describe(arm, d, done.adapter, err);
    if (st == PLM_OK)
        st = plm_adapter_save(done.adapter, arm->path, err);
    if (st == PLM_OK)
        st = sha256_file(arm->path, arm->sha256, err);
    arm->steps_done = done.steps;
    arm->best_step = done.best_step;
    arm->best = done.best;
    arm->tokens = done.tokens;
    arm->seconds = done.seconds;
    arm->planned_bytes = done.facts.planned_bytes;
    if (st == PLM_OK)
        st = save_numbers(arm, numbers, err);
    if (st == PLM_OK) {
        unlink(checkpoint);
        strcat(checkpoint, ".prev");
        unlink(checkpoint);
    }
    plm_adapter_free(done.adapter);
    return st;
}

plm_status arm_train(struct arm *arm, const struct pool_of_data *d, const bool *held, plm_error *err) {
    struct learn l = d->how;
    struct examples e = {0};
    char hash[65], numbers[4300];
    arm->curve = json_array();
    l.model = d->model;
    plm_status st = gather(&e, arm, d, held, err);
    if (st)
        goto out;
    if (!l.train.steps && !l.train.epochs)
        l.train.steps = arm->steps ? arm->steps : STEPS;
    // With synthetic rows the last steps, which see none of them, decide; the best step is put back anyway.
    if (!l.train.patience && !arm->steps && !arm->with_synthetic)
        l.train.patience = PATIENCE;
    l.train.eval_every = EVAL_EVERY;
    l.train.real_last = arm->with_synthetic ? real_last : 0;
    l.examples = e.v;
    l.n = e.n;
    arm_hash(hash, arm, d, &l, &e);
    snprintf(arm->path, sizeof arm->path, "%.4000s/%s-%.16s.gguf", d->folder, arm->name, hash);
    snprintf(numbers, sizeof numbers, "%s.json", arm->path);
    if (!load_numbers(arm, numbers))
        st = run(arm, d, &l, numbers, err);
out:
    examples_free(&e);
    return st;
}

void arm_free(struct arm *arm) {
    mem_free(arm->learned);
    json_decref(arm->curve);
    *arm = (struct arm){0};
}

/* ---- scores ---- */

/* The adapter at a scale: between what the arms start from (the base, or an adapter) and itself. */
static plm_status use(struct scorer *s, struct loras *l, const struct pool_of_data *d, const char *adapter,
                      float scale, plm_error *err) {
    plm_status st = PLM_OK;
    if (!adapter)
        scale = 0;
    if (d->how.start && scale < 1)
        st = loras_add(l, d->model, d->how.start, 1 - scale, err);
    if (st == PLM_OK && scale > 0)
        st = loras_add(l, d->model, adapter, scale, err);
    return st || !l->n ? st : scorer_use(s, l->use, l->n, err);
}

bool arm_labels(const struct pool_of_data *d, int *label) {
    for (size_t i = 0; i < d->real.n; i++) {
        label[i] = plm_kind_label(d->kind, d->real.v[i].output);
        if (label[i] < 0)
            return false;
    }
    return d->kind->n_labels > 1 && d->kind->n_labels <= PRIOR_LABELS && d->real.n;
}

/* The records at of[0 .. n), all at once. */
static plm_status score_labels(struct device *dev, const struct pool_of_data *d, const size_t *of, size_t n,
                               const struct prior *own, const int *label, double *nll, double *labels,
                               plm_error *err) {
    size_t all = d->kind->n_labels;
    char *prompt[SCORED_AT_ONCE] = {NULL};
    double nats[SCORED_AT_ONCE * PRIOR_LABELS];
    plm_status st = PLM_OK;
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        st = plm_kind_prompt(d->kind, d->real.v[of[i]].input, &prompt[i], err);
    if (st == PLM_OK)
        st = scorer_labels(&dev->scorer, d->model, d->kind, (const char *const *)prompt, n, nats, NULL, err);
    for (size_t i = 0; st == PLM_OK && i < n; i++) {
        prior_apply(own, nats + i * all, all);
        nll[of[i]] = nats[i * all + (size_t)label[of[i]]];
        if (labels)
            memcpy(labels + of[i] * all, nats + i * all, all * sizeof *nats);
    }
    for (size_t i = 0; i < n; i++)
        plm_free(prompt[i]);
    return st;
}

static plm_status score_texts(struct device *dev, const struct pool_of_data *d, const size_t *of, size_t n,
                              double *nll, plm_error *err) {
    const char *in[SCORED_AT_ONCE], *out[SCORED_AT_ONCE];
    double each[SCORED_AT_ONCE];
    for (size_t i = 0; i < n; i++) {
        in[i] = d->real.v[of[i]].input;
        out[i] = d->real.v[of[i]].output;
    }
    plm_status st = device_scores(dev, in, out, n, each, err);
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        nll[of[i]] = each[i];
    return st;
}

plm_status arm_score(const struct pool_of_data *d, const char *adapter, float scale, const bool *held,
                     double *nll, double *labels, plm_error *err) {
    struct device device = {0};
    struct loras loras = {.n = 0};
    struct prior own;
    int *label = mem_zero(d->real.n + 1, sizeof *label);
    plm_status st =
        label ? device_open(&device, d->model, d->kind, err) : fail(err, PLM_ENOMEM, "out of memory");
    bool are_labels = label && arm_labels(d, label);
    if (st == PLM_OK)
        st = use(&device.scorer, &loras, d, adapter, scale, err);
    if (st == PLM_OK)
        st = loras_prior(&loras, d->kind, &own, err);
    for (size_t i = 0; st == PLM_OK && i < d->real.n;) {
        size_t of[SCORED_AT_ONCE], n = 0;
        for (; i < d->real.n && n < SCORED_AT_ONCE; i++) {
            of[n] = i;
            n += held[i];
        }
        st = are_labels ? score_labels(&device, d, of, n, &own, label, nll, labels, err)
                        : score_texts(&device, d, of, n, nll, err);
    }
    mem_free(label);
    device_close(&device);
    loras_close(&loras);
    return st;
}

plm_status arm_carry(struct arm *arm, const struct pool_of_data *d, const struct prior *p, plm_error *err) {
    plm_adapter *ad = NULL;
    char *text = NULL, path[sizeof arm->path + 8];
    snprintf(path, sizeof path, "%.4100s+prior", arm->path);
    plm_status st = prior_write(p, d->kind->labels, d->kind->n_labels, &text, err);
    if (st == PLM_OK)
        st = plm_adapter_load(&ad, d->model, arm->path, err);
    if (st == PLM_OK)
        st = plm_adapter_set(ad, "plm.prior", text, err);
    if (st == PLM_OK)
        st = plm_adapter_save(ad, path, err);
    if (st == PLM_OK)
        st = sha256_file(path, arm->sha256, err);
    if (st == PLM_OK)
        snprintf(arm->path, sizeof arm->path, "%.4190s", path);
    size_t learned = arm->n_learned;
    for (size_t i = 0; st == PLM_OK && i < d->real.n; i++) {
        bool known = false;
        for (size_t k = 0; k < learned; k++)
            known |= arm->learned[k] == d->real.v[i].id;
        if (!known)
            arm->learned[arm->n_learned++] = d->real.v[i].id;
    }
    plm_adapter_free(ad);
    plm_free(text);
    return st;
}

plm_status general_nll(const struct pool_of_data *d, const char *adapter, float scale, double *nll,
                       plm_error *err) {
    static const char text[] =
        "The museum opens at nine and closes at six. Children under twelve go in free, and a guided tour of "
        "the old harbour starts every hour from the ticket office. Water boils at a lower temperature on a "
        "mountain, because the air presses less upon it. When the ship came back in the spring, half of its "
        "crew had learned a second language, and the captain had written down the names of all the birds "
        "they had seen. If you want to know how far away a storm is, count the seconds between the flash and "
        "the thunder and divide by three.";
    struct encoded e;
    struct loras loras = {.n = 0};
    struct scorer s = {{NULL}};
    size_t tokens = 0;
    plm_status st = encode_turn(&e, d->model, NULL, text, NULL, true, err);
    if (st == PLM_OK)
        st = scorer_open(&s, d->model, NULL, err);
    if (st == PLM_OK)
        st = use(&s, &loras, d, adapter, scale, err);
    e.n_prompt = 1;
    if (st == PLM_OK)
        st = answer_nll(s.s[0], &e, nll, &tokens, err);
    if (st == PLM_OK)
        *nll /= (double)tokens;
    scorer_close(&s);
    loras_close(&loras);
    encoded_free(&e);
    return st;
}
