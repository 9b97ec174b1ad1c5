/* cmd_bench.c: prefill, decode and training tokens a second on this machine, each beside the ceiling measured
 * in the same run.
 */
#include "app.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct speeds {
    double prefill, decode, train;
    uint64_t train_rss;
    plm_ceilings most;
};

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

static plm_status time_inference(struct speeds *s, const plm_model *m, const int32_t *ids, size_t prompt,
                                 int tokens, plm_error *err) {
    plm_session *session = NULL;
    plm_session_options opt = {.context = (int)prompt + tokens + 1};
    plm_status st = plm_session_new(&session, m, &opt, err);
    if (st == PLM_OK)
        st = plm_session_sync(session, ids, 1, err); /* pages and threads warm */
    double start = clock_now();
    if (st == PLM_OK)
        st = plm_session_use(session, NULL, 0, err);
    if (st == PLM_OK)
        st = plm_session_sync(session, ids, prompt, err);
    double middle = clock_now();
    int32_t *all = mem_alloc(prompt + (size_t)tokens, sizeof *all);
    if (st == PLM_OK && !all)
        st = fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        memcpy(all, ids, prompt * sizeof *all);
    for (int i = 0; st == PLM_OK && i < tokens; i++) {
        all[prompt + (size_t)i] = plm_session_sample(session, NULL);
        st = plm_session_sync(session, all, prompt + (size_t)i + 1, err);
    }
    s->prefill = (double)prompt / (middle - start);
    s->decode = (double)tokens / (clock_now() - middle);
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
    plm_train_options opt = {.batch = 1, .steps = 3, .max_tokens = tokens, .memory = memory};
    plm_example ex = {.ids = ids, .n_ids = (size_t)tokens, .n_prompt = 1};
    uint64_t before = process_anonymous();
    plm_status st = plm_adapter_new(&ad, m, &shape, err);
    if (st == PLM_OK)
        st = plm_trainer_new(&t, m, ad, &opt, err);
    if (st == PLM_OK)
        st = plm_trainer_add(t, &ex, err);
    double best = 0;
    for (int i = 0; st == PLM_OK && i < 3; i++) {
        st = plm_trainer_step(t, &r, err);
        double rate = st ? 0 : (double)tokens / r.seconds;
        best = rate > best ? rate : best;
    }
    uint64_t after = process_anonymous();
    s->train = best;
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

static void print_speeds(const struct args *a, const plm_model_facts *f, const struct speeds *s, int prompt,
                         int tokens, int train) {
    struct bounds most = bounds_of(f, &s->most);
    if (a->json) {
        app_json(json_pack(
            "{s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:i, s:s, s:{s:f, s:f, s:f}}", "prefill_tok_s",
            s->prefill, "decode_tok_s", s->decode, "train_tok_s", s->train, "peak_rss_bytes",
            (json_int_t)process_peak_rss(), "train_rss_bytes", (json_int_t)s->train_rss, "model_bytes",
            (json_int_t)f->file_bytes, "bytes_per_token", (json_int_t)f->bytes_per_token, "bandwidth_gb_s",
            s->most.read / 1e9, "threads", f->threads, "cpu", f->cpu, "ceilings", "prefill_tok_s",
            most.prefill, "decode_tok_s", most.decode, "train_tok_s", most.train));
        return;
    }
    printf("%s, %s kernels, %d threads\n", f->name ? f->name : f->path, f->cpu, f->threads);
    printf("                            here   ceiling\n");
    printf("  prefill  %4d tokens  %8.1f  %8.0f tok/s  (%.0f GOP/s)\n", prompt, s->prefill, most.prefill,
           (s->most.int8 > 0 ? s->most.int8 : s->most.f32) / 1e9);
    printf("  decode   %4d tokens  %8.1f  %8.0f tok/s  (%.1f MB a token at %.1f GB/s)\n", tokens, s->decode,
           most.decode, (double)f->bytes_per_token / 1e6, s->most.read / 1e9);
    printf("  train    %4d tokens  %8.1f  %8.0f tok/s  (%.0f GFLOP/s; %.0f MB of its own)\n", train, s->train,
           most.train, (s->most.bf16 > 0 ? s->most.bf16 : s->most.f32) / 1e9, (double)s->train_rss / 1e6);
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
        st = time_inference(&s, m, ids, (size_t)prompt, tokens, &err);
    if (st == PLM_OK)
        st = time_training(&s, m, ids, train, a->memory, &err);
    if (st == PLM_OK)
        print_speeds(a, plm_model_describe(m), &s, prompt, tokens, train);
    mem_free(ids);
    plm_model_close(m);
    return st ? app_fail(&err) : EXIT_DONE;
}
