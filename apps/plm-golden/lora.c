/* lora.c: an adapter's answers, its loss and gradients, and ten steps of AdamW. Gradients come from
 * model_train itself, the steps from the public trainer. */
#include "golden.h"
#include "model/model.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_EXAMPLES = 64 };
static const double LOSS_EXACT = 1e-4, LOSS_FAST = 0.01, NLL_EXACT = 2e-3, COSINE_EXACT = 0.9999,
                    NORM_EXACT = 0.005;
static const double COSINE_FAST = 0.995, SHARE_FAST = 0.01, TRACE_EXACT = 0.02, TRACE_FAST = 0.1,
                    TRACE_OVER = 0.5;
static const double FINAL = 0.02;

struct sample {
    int32_t *ids;
    size_t n, n_prompt;
};

struct work {
    struct golden *g;
    char name[256]; /* of the files: MODEL-rN */
    json_t *doc;
    plm_adapter *adapter;
    struct sample ex[MAX_EXAMPLES];
    size_t n;
};

/* The file lora-MODEL-rN.json, for whatever N is there. */
static bool find_rank(struct work *w) {
    for (int rank = 1; rank <= 256; rank++) {
        snprintf(w->name, sizeof w->name, "%s-r%d", w->g->name, rank);
        if (has_file(w->g, "lora-", w->name, ".json"))
            return true;
    }
    return false;
}

static plm_status read_examples(struct work *w, plm_error *err) {
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(w->doc, "examples"), i, row) {
        if (w->n == MAX_EXAMPLES)
            return fail(err, PLM_ELIMIT, "more than %d examples", MAX_EXAMPLES);
        struct sample *s = &w->ex[w->n++];
        plm_status st = ids_of(json_object_get(row, "ids"), &s->ids, &s->n, err);
        if (st)
            return st;
        s->n_prompt = (size_t)json_integer_value(json_object_get(row, "prompt_tokens"));
        if (!s->n_prompt || s->n_prompt >= s->n)
            return fail(err, PLM_EFORMAT, "example %zu has no target", i);
    }
    return w->n ? PLM_OK : fail(err, PLM_EFORMAT, "there are no examples");
}

static plm_status load_init(struct work *w, plm_adapter **out, plm_error *err) {
    char path[4096];
    path_of(w->g, path, "lora-", w->name, "-init");
    return plm_adapter_load(out, w->g->model, path, err);
}

/* The same adapter from the GGUF that llama.cpp's converter wrote. */
static plm_status check_gguf_form(struct work *w, plm_error *err) {
    if (!has_file(w->g, "lora-", w->name, ".gguf"))
        return PLM_OK;
    char path[4096];
    plm_adapter *other = NULL;
    path_of(w->g, path, "lora-", w->name, ".gguf");
    plm_status st = plm_adapter_load(&other, w->g->model, path, err);
    if (st)
        return st;
    const struct lora *a = w->adapter->lora, *b = other->lora;
    double worst = a->parameters == b->parameters && a->alpha == b->alpha ? 0 : INFINITY;
    for (size_t i = 0; i < a->parameters && worst < INFINITY; i++) {
        worst = most_of(worst, fabs((double)a->values[i] - (double)b->values[i]));
    }
    report_most(w->g, "lora.gguf_is_peft", worst, 0);
    plm_adapter_free(other);
    return PLM_OK;
}

/* Per-token NLL of a run for its answer, with the adapter in use. */
static plm_status check_answers(struct work *w, plm_error *err) {
    plm_session *s = NULL;
    double worst = 0, logprob[4096];
    plm_status st = plm_session_new(&s, w->g->model, NULL, err);
    if (!st)
        st = plm_session_use(s, &(plm_lora){w->adapter, 1}, 1, err);
    for (size_t i = 0; !st && i < w->n; i++) {
        const json_t *want =
            json_object_get(json_array_get(json_object_get(w->doc, "per_example"), i), "nll");
        const struct sample *ex = &w->ex[i];
        if (ex->n > 4096)
            st = fail(err, PLM_ELIMIT, "an example of %zu ids", ex->n);
        if (!st)
            st = plm_score(s, ex->ids, ex->n, 1, logprob, err);
        for (size_t j = 0; !st && j + 1 < ex->n; j++) {
            worst = most_of(worst, fabs(-logprob[j] - json_number_value(json_array_get(want, j))));
        }
    }
    plm_session_free(s);
    if (!st && w->g->exact)
        report_most(w->g, "lora.nll", worst, NLL_EXACT);
    return st;
}

/* ---- loss and gradients ---- */

/* One example through model_train; its mean target NLL is added to *loss, its gradient / n to grad. */
static plm_status train_one(struct work *w, struct trace *t, const struct sample *ex, float *grad,
                            double *loss, plm_error *err) {
    size_t T = ex->n - 1, n = ex->n - ex->n_prompt;
    int32_t *space = mem_zero(4 * T, sizeof *space), *pos = space, *first = space + T, *at = first + T,
            *target = at + T;
    float *weight = mem_alloc(n, sizeof *weight);
    double *nll = mem_alloc(n, sizeof *nll);
    plm_status st = space && weight && nll ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for an example");
    if (!st) {
        for (size_t i = 0; i < T; i++)
            pos[i] = (int32_t)i;
        for (size_t i = 0; i < n; i++) {
            at[i] = (int32_t)(ex->n_prompt + i) - 1;
            target[i] = ex->ids[ex->n_prompt + i];
            weight[i] = (float)(1 / ((double)n * (double)w->n));
        }
        struct batch b = {.T = (int)T, .ids = ex->ids, .pos = pos, .first = first};
        st = model_train(t, &b, at, target, weight, (int)n, w->adapter->lora, grad, nll, err);
    }
    for (size_t i = 0; !st && i < n; i++)
        *loss += nll[i] / ((double)n * (double)w->n);
    mem_free(space);
    mem_free(weight);
    mem_free(nll);
    return st;
}

/* Layer, linear and half of "model.layers.N.self_attn.q_proj.lora_A.weight". */
static bool place_of(const char *name, const struct lora *l, const struct lora_pair **pair, int *linear,
                     bool *is_b) {
    int layer = 0, used = 0;
    if (sscanf(name, "model.layers.%d.%n", &layer, &used) != 1 || !used || layer < 0 || layer >= l->layers)
        return false;
    for (*linear = 0; *linear < LORA_LINEARS; ++*linear) {
        size_t len = strlen(lora_peft_name[*linear]);
        if (strncmp(name + used, lora_peft_name[*linear], len) != 0)
            continue;
        *pair = &l->pair[layer * LORA_LINEARS + *linear];
        *is_b = !strcmp(name + used + len, ".lora_B.weight");
        return (*pair)->A && (*is_b || !strcmp(name + used + len, ".lora_A.weight"));
    }
    return false;
}

/* Where row r of PEFT's q or k stands in GGUF: the halves of a head interleave. */
static int gguf_row(int r, int out, int heads) {
    if (!heads)
        return r;
    int D = out / heads, in_head = r % D;
    return r - in_head + 2 * (in_head % (D / 2)) + in_head / (D / 2);
}

struct worst {
    double cosine, norm; /* least, most */
    int tensors;
};

static void compare_gradient(const struct work *w, const struct safe_tensor *t, const float *grad,
                             struct worst *worst) {
    const struct lora *l = w->adapter->lora;
    const struct lora_pair *pair;
    int linear;
    bool is_b;
    if (!place_of(t->name, l, &pair, &linear, &is_b) || t->type != DT_F32)
        return;
    int rows = is_b ? pair->out : pair->rank, cols = is_b ? pair->rank : pair->in;
    if (t->bytes != (size_t)rows * (size_t)cols * sizeof(float)) {
        worst->cosine = -1;
        return;
    }
    const struct lora_shape *s = &w->g->model->shape;
    int heads = !is_b ? 0 : linear == LORA_Q ? s->permute_q : linear == LORA_K ? s->permute_k : 0;
    const float *mine = grad + ((is_b ? pair->B : pair->A) - l->values), *want = t->data;
    double aa = 0, bb = 0, ab = 0;
    for (int r = 0; r < rows; r++) {
        const float *a = mine + (size_t)gguf_row(r, rows, heads) * (size_t)cols,
                    *b = want + (size_t)r * (size_t)cols;
        for (int c = 0; c < cols; c++) {
            aa += (double)a[c] * (double)a[c];
            bb += (double)b[c] * (double)b[c];
            ab += (double)a[c] * (double)b[c];
        }
    }
    if (!w->g->exact && sqrt(bb) < SHARE_FAST * number_of(w->doc, "grad_norm"))
        return;
    worst->tensors++;
    worst->cosine = least_of(worst->cosine, ab / sqrt(aa * bb));
    worst->norm = most_of(worst->norm, fabs(sqrt(aa / bb) - 1));
}

static plm_status compare_gradients(struct work *w, const float *grad, plm_error *err) {
    char path[4096];
    struct safetensors *s = NULL;
    struct worst worst = {.cosine = 1};
    path_of(w->g, path, "lora-", w->name, "-grads.safetensors");
    plm_status st = safetensors_open(&s, path, err);
    if (st)
        return st;
    for (size_t i = 0; i < safetensors_count(s); i++)
        compare_gradient(w, safetensors_at(s, i), grad, &worst);
    safetensors_close(s);
    if (!worst.tensors)
        return fail(err, PLM_EFORMAT, "%s holds no gradient of this model", path);
    report_least(w->g, "lora.gradient_cosine", worst.cosine, w->g->exact ? COSINE_EXACT : COSINE_FAST);
    if (w->g->exact)
        report_most(w->g, "lora.gradient_norm", worst.norm, NORM_EXACT);
    return PLM_OK;
}

static plm_status check_gradients(struct work *w, plm_error *err) {
    struct trace *t = NULL;
    const struct lora *l = w->adapter->lora;
    size_t longest = 0;
    for (size_t i = 0; i < w->n; i++)
        longest = w->ex[i].n > longest ? w->ex[i].n : longest;
    float *grad = mem_zero(l->parameters, sizeof *grad);
    plm_status st = grad ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for gradients");
    if (!st)
        st = trace_open(&t, w->g->model, (int)longest, l, 1u << 30, err);
    double loss = 0, want = number_of(w->doc, "loss");
    for (size_t i = 0; !st && i < w->n; i++)
        st = train_one(w, t, &w->ex[i], grad, &loss, err);
    if (!st) {
        report_most(w->g, "lora.loss", fabs(loss / want - 1), w->g->exact ? LOSS_EXACT : LOSS_FAST);
        st = compare_gradients(w, grad, err);
    }
    trace_close(t);
    mem_free(grad);
    return st;
}

/* ---- ten steps ---- */

static plm_status start(struct work *w, plm_trainer **t, plm_error *err) {
    const json_t *how = json_object_get(w->doc, "optimizer");
    const plm_train_options opt = {
        .batch = (int)w->n,
        .steps = (int)json_array_size(json_object_get(w->doc, "trace")),
        .warmup = -1,
        .schedule = PLM_CONSTANT,
        .rate = (float)number_of(how, "lr"),
        .decay = (float)number_of(how, "weight_decay"),
        .clip = (float)number_of(how, "clip_norm"),
    };
    plm_status st = plm_trainer_new(t, w->g->model, w->adapter, &opt, err);
    for (size_t i = 0; !st && i < w->n; i++) {
        const plm_example ex = {.ids = w->ex[i].ids, .n_ids = w->ex[i].n, .n_prompt = w->ex[i].n_prompt};
        st = plm_trainer_add(*t, &ex, err);
    }
    return st;
}

static void compare_final(struct work *w) {
    double worst = 0;
    const char *name;
    json_t *want;
    json_object_foreach(json_object_get(w->doc, "final"), name, want) {
        const struct lora_pair *pair;
        int linear;
        bool is_b;
        if (!place_of(name, w->adapter->lora, &pair, &linear, &is_b))
            continue;
        const float *p = is_b ? pair->B : pair->A;
        size_t n = (size_t)pair->rank * (size_t)(is_b ? pair->out : pair->in);
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += (double)p[i] * (double)p[i];
        worst = most_of(worst, fabs(sqrt(sum) / number_of(want, "norm") - 1));
    }
    report_most(w->g, "lora.final_norm", worst, FINAL);
}

static plm_status check_steps(struct work *w, plm_error *err) {
    plm_trainer *t = NULL;
    size_t i;
    json_t *row;
    double first = 0, later = 0, norm = 0;
    plm_status st = start(w, &t, err);
    json_array_foreach(json_object_get(w->doc, "trace"), i, row) {
        plm_train_report r = {0};
        if (!st)
            st = plm_trainer_step(t, &r, err);
        if (st)
            break;
        double want = number_of(row, "loss"), off = fabs(r.loss / want - 1);
        if (!i)
            first = off;
        if (want <= TRACE_OVER)
            continue;
        later = most_of(later, off);
        norm = most_of(norm, fabs(r.grad_norm / number_of(row, "grad_norm") - 1));
    }
    plm_trainer_free(t);
    if (st)
        return st;
    report_most(w->g, "lora.step_first", first, w->g->exact ? LOSS_EXACT : LOSS_FAST);
    report_most(w->g, "lora.step_loss", later, w->g->exact ? TRACE_EXACT : TRACE_FAST);
    if (w->g->exact) {
        report_most(w->g, "lora.step_norm", norm, TRACE_EXACT);
        compare_final(w);
    }
    return PLM_OK;
}

plm_status check_lora(struct golden *g, plm_error *err) {
    struct work w = {.g = g};
    if (!find_rank(&w))
        return PLM_OK;
    plm_status st = load_json(g, "lora-", w.name, ".json", &w.doc, err);
    if (!st)
        st = read_examples(&w, err);
    if (!st)
        st = load_init(&w, &w.adapter, err);
    if (!st)
        st = check_gguf_form(&w, err);
    if (!st)
        st = check_answers(&w, err);
    if (!st)
        st = check_gradients(&w, err);
    if (!st)
        st = check_steps(&w, err);
    for (size_t i = 0; i < w.n; i++)
        mem_free(w.ex[i].ids);
    plm_adapter_free(w.adapter);
    json_decref(w.doc);
    return st;
}
