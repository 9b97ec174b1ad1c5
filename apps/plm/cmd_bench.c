/* cmd_bench.c: prefill, decode and training tokens a second on this machine, each beside the ceiling measured
 * in the same run, and what that means to a person. */
#include "app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 5 };
/* Seconds after which a part is not repeated once more, so that the default model takes half a minute. */
static const double ENOUGH = 9;

/* Rates of the repetitions: the median is what is told. */
struct rates {
    double v[REPEATS];
    int n;
};

struct speeds {
    struct rates prefill, decode, train;
    uint64_t train_rss;
    plm_ceilings most;
};

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void add(struct rates *r, double rate) {
    r->v[r->n++] = rate;
    qsort(r->v, (size_t)r->n, sizeof *r->v, by_size);
}

static double median(const struct rates *r) {
    return r->n ? (r->v[r->n / 2] + r->v[(r->n - 1) / 2]) / 2 : 0;
}

/* From the lowest to the highest, as a share of the median. */
static double spread(const struct rates *r) {
    return r->n ? (r->v[r->n - 1] - r->v[0]) / median(r) : 0;
}

/* Ids that are no sentence but every model has: the same for all runs. */
static int32_t *some_ids(size_t n, int vocab, plm_error *err) {
    int32_t *ids = mem_alloc(n, sizeof *ids);
    struct rng r;
    rng_seed(&r, 1, 0);
    for (size_t i = 0; ids && i < n; i++)
        ids[i] = (int32_t)rng_below(&r, (uint64_t)(vocab < 10000 ? vocab : 10000));
    if (!ids)
        fail(err, PLM_ENOMEM, "out of memory");
    return ids;
}

static plm_status prompt_and_answer(struct speeds *s, plm_session *session, int32_t *all, size_t prompt,
                                    int tokens, plm_error *err) {
    plm_status st = plm_session_use(session, NULL, 0, err); /* forgets the prefix */
    double start = clock_now();
    if (st == PLM_OK)
        st = plm_session_sync(session, all, prompt, err);
    double middle = clock_now();
    for (int i = 0; st == PLM_OK && i < tokens; i++) {
        all[prompt + (size_t)i] = plm_session_sample(session, NULL);
        st = plm_session_sync(session, all, prompt + (size_t)i + 1, err);
    }
    add(&s->prefill, (double)prompt / (middle - start));
    add(&s->decode, (double)tokens / (clock_now() - middle));
    return st;
}

static plm_status time_inference(struct speeds *s, const struct args *a, const plm_model *m,
                                 const int32_t *ids, size_t prompt, int tokens, plm_error *err) {
    plm_session *session = NULL;
    plm_session_options opt;
    plm_status ok = app_session_options(&opt, a, err);
    if (ok)
        return ok;
    opt.context = (int)prompt + tokens + 1;
    int32_t *all = mem_alloc(prompt + (size_t)tokens, sizeof *all);
    plm_status st = all ? plm_session_new(&session, m, &opt, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK) {
        memcpy(all, ids, prompt * sizeof *all);
        st = plm_session_sync(session, ids, prompt < 32 ? prompt : 32, err); /* pages and threads warm */
    }
    double start = clock_now();
    for (int i = 0; st == PLM_OK && i < REPEATS && (i == 0 || clock_now() - start < ENOUGH); i++)
        st = prompt_and_answer(s, session, all, prompt, tokens, err);
    mem_free(all);
    plm_session_free(session);
    return st;
}

/* Rank 8 on all linears, a loss on every token but the first, one sequence. */
static plm_status time_training(struct speeds *s, const plm_model *m, const int32_t *ids, int tokens,
                                uint64_t memory, plm_error *err) {
    plm_adapter *ad = NULL;
    plm_trainer *t = NULL;
    plm_train_report r;
    plm_adapter_options shape = {.rank = 8, .targets = PLM_ALL_LINEAR};
    plm_train_options opt = {.batch = 1, .steps = REPEATS, .max_tokens = tokens, .memory = memory};
    plm_example ex = {.ids = ids, .n_ids = (size_t)tokens, .n_prompt = 1};
    uint64_t before = process_anonymous();
    plm_status st = plm_adapter_new(&ad, m, &shape, err);
    if (st == PLM_OK)
        st = plm_trainer_new(&t, m, ad, &opt, err);
    if (st == PLM_OK)
        st = plm_trainer_add(t, &ex, err);
    double start = clock_now();
    for (int i = 0; st == PLM_OK && i < REPEATS && (i == 0 || clock_now() - start < ENOUGH); i++) {
        st = plm_trainer_step(t, &r, err);
        if (st == PLM_OK)
            add(&s->train, (double)tokens / r.seconds);
    }
    uint64_t after = process_anonymous();
    s->train_rss = after > before ? after - before : 0;
    plm_trainer_free(t);
    plm_adapter_free(ad);
    return st;
}

/* The most tokens a second that the ceilings allow: two operations a weight forward and two backward (the
 * frozen base; LoRA, attention and the rest not counted). Embeddings are looked up; the head counts in
 * training. */
struct bounds {
    double prefill, decode, train;
};

static struct bounds bounds_of(const plm_model_facts *f, const plm_ceilings *most) {
    double head = (double)f->vocab * f->width, layers = (double)f->parameters - (f->tied_head ? 1 : 2) * head;
    double fast = most->int8 > 0 ? most->int8 : most->f32, exact = most->bf16 > 0 ? most->bf16 : most->f32;
    return (struct bounds){fast / (2 * layers), most->read / (double)f->bytes_per_token,
                           exact / (4 * (layers + head))};
}

/* What a person feels: a question of 300 tokens with an answer of 100, and 60 steps of 8 examples of 100
 * tokens each. */
struct felt {
    double first_s, answer_s, training_s;
};

static struct felt felt_of(const struct speeds *s) {
    double first = 300 / median(&s->prefill), rest = 100 / median(&s->decode);
    return (struct felt){first, first + rest, 60 * 8 * 100 / median(&s->train)};
}

static void duration(char *out, size_t cap, double s) {
    if (s < 10)
        snprintf(out, cap, "%.1f seconds", s);
    else if (s < 100)
        snprintf(out, cap, "%.0f seconds", s);
    else if (s < 6000)
        snprintf(out, cap, "%.0f minutes", s / 60);
    else
        snprintf(out, cap, "%.1f hours", s / 3600);
}

static void print_felt(const struct speeds *s) {
    struct felt f = felt_of(s);
    char first[40], answer[40], training[40];
    duration(first, sizeof first, f.first_s);
    duration(answer, sizeof answer, f.answer_s);
    duration(training, sizeof training, f.training_s);
    printf("\nA page-long question (300 tokens) is read in %s, and an answer of 100 tokens is complete after "
           "%s.\n"
           "A person's training, 60 steps of 8 examples of 100 tokens, takes at most %s.\n",
           first, answer, training);
    if (f.answer_s < 4 && f.training_s < 1200)
        printf("That is fast enough for this model, to ask and to learn.\n");
    else if (f.answer_s < 4)
        printf("That is fast enough to ask; let it learn while you do something else.\n");
    else
        printf("That is slow for this model; a smaller one, or more threads, would help.\n");
    if (spread(&s->prefill) > 0.2 || spread(&s->decode) > 0.2)
        printf("The repetitions differed by over a fifth: other programs were busy, or the machine "
               "throttles.\n");
}

static void print_rate(const char *name, int tokens, const struct rates *r, double most) {
    printf("  %-9s %5d tokens  %8.1f  %8.0f tok/s  %3.0f %%   (%d times, within %.0f %%)\n", name, tokens,
           median(r), most, 100 * median(r) / most, r->n, 100 * spread(r));
}

static void print_speeds(const plm_model_facts *f, const struct speeds *s, int prompt, int tokens,
                         int train) {
    struct bounds most = bounds_of(f, &s->most);
    printf("%s, %s kernels, %d threads\n", f->name ? f->name : f->path, f->cpu, f->threads);
    printf("                              here   ceiling        share\n");
    print_rate("prompt", prompt, &s->prefill, most.prefill);
    print_rate("answer", tokens, &s->decode, most.decode);
    print_rate("training", train, &s->train, most.train);
    printf("Ceilings: %.1f GB/s read (a token reads %.1f MB); %.0f GOP/s for prompts, %.0f GFLOP/s for "
           "training.\n"
           "Training takes %.0f MB beside the model's %.0f MB.\n",
           s->most.read / 1e9, (double)f->bytes_per_token / 1e6,
           (s->most.int8 > 0 ? s->most.int8 : s->most.f32) / 1e9,
           (s->most.bf16 > 0 ? s->most.bf16 : s->most.f32) / 1e9, (double)s->train_rss / 1e6,
           (double)f->file_bytes / 1e6);
    print_felt(s);
}

static int json_speeds(const plm_model_facts *f, const struct speeds *s) {
    struct bounds most = bounds_of(f, &s->most);
    struct felt felt = felt_of(s);
    json_t *doc =
        json_pack("{s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:i, s:s}", "prefill_tok_s", median(&s->prefill),
                  "decode_tok_s", median(&s->decode), "train_tok_s", median(&s->train), "peak_rss_bytes",
                  (json_int_t)process_peak_rss(), "train_rss_bytes", (json_int_t)s->train_rss, "model_bytes",
                  (json_int_t)f->file_bytes, "bytes_per_token", (json_int_t)f->bytes_per_token,
                  "bandwidth_gb_s", s->most.read / 1e9, "threads", f->threads, "cpu", f->cpu);
    json_object_set_new(doc, "ceilings",
                        json_pack("{s:f, s:f, s:f}", "prefill_tok_s", most.prefill, "decode_tok_s",
                                  most.decode, "train_tok_s", most.train));
    json_object_set_new(doc, "spread",
                        json_pack("{s:f, s:f, s:f}", "prefill", spread(&s->prefill), "decode",
                                  spread(&s->decode), "train", spread(&s->train)));
    json_object_set_new(doc, "felt",
                        json_pack("{s:f, s:f, s:f}", "first_token_s", felt.first_s, "answer_s", felt.answer_s,
                                  "personal_training_s", felt.training_s));
    return app_json(doc);
}

int cmd_bench(struct args *a) {
    int prompt = a->prefill ? a->prefill : 512, tokens = a->decode ? a->decode : 64,
        train = a->train ? a->train : 512;
    if (prompt < 2 || tokens < 1 || train < 2 || prompt > 100000 || tokens > 100000 || train > 100000)
        return app_misuse(a, "bench", "-p and --train take 2 to 100000 tokens, -n 1 to 100000");
    plm_error err = {0};
    plm_model *m = NULL;
    struct speeds s = {0};
    plm_status st = app_model(&m, a, &err);
    int most = prompt > train ? prompt : train;
    int32_t *ids = st ? NULL : some_ids((size_t)most, plm_model_describe(m)->vocab, &err);
    if (st == PLM_OK && !ids)
        st = PLM_ENOMEM;
    if (st == PLM_OK)
        st = plm_model_ceilings(m, &s.most, &err);
    if (st == PLM_OK)
        st = time_inference(&s, a, m, ids, (size_t)prompt, tokens, &err);
    if (st == PLM_OK)
        st = time_training(&s, m, ids, train, a->memory, &err);
    if (st == PLM_OK && a->json)
        json_speeds(plm_model_describe(m), &s);
    else if (st == PLM_OK)
        print_speeds(plm_model_describe(m), &s, prompt, tokens, train);
    mem_free(ids);
    plm_model_close(m);
    return st ? app_fail(&err) : EXIT_DONE;
}
