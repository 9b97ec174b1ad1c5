/* cmd_bench.c: prefill, decode and training tokens a second on this machine, beside its own read bandwidth.
 */
#include "app.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct speeds {
    double prefill, decode, train, bandwidth;
    uint64_t train_rss;
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

/* What reading memory gives: the ceiling of decode. Sums a block larger than the caches on all threads. */
struct reading {
    const uint64_t *data;
    uint64_t sum[64];
};

static void read_some(void *ctx, size_t from, size_t to, int worker) {
    struct reading *r = ctx;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = from * 4096; i < to * 4096; i += 4) {
        a += r->data[i];
        b += r->data[i + 1];
        c += r->data[i + 2];
        d += r->data[i + 3];
    }
    r->sum[worker & 63] += a + b + c + d;
}

static plm_status measure_bandwidth(struct speeds *s, int threads, plm_error *err) {
    enum { PIECES = 8192 }; /* of 32 KiB: 256 MiB */
    struct pool *pool = NULL;
    struct reading r = {.data = NULL};
    uint64_t *data = mem_zero(PIECES * 4096u, sizeof *data);
    plm_status st = data ? pool_open(&pool, threads, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK) {
        memset(data, 1, PIECES * 4096u * sizeof *data);
        r.data = data;
        for (int i = 0; i < 5; i++) {
            double start = clock_now();
            pool_for(pool, PIECES, 16, read_some, &r);
            double rate = (double)PIECES * 32768 / (clock_now() - start) / 1e9;
            s->bandwidth = rate > s->bandwidth ? rate : s->bandwidth;
        }
    }
    pool_close(pool);
    mem_free(data);
    return st;
}

static void print_speeds(const struct args *a, const plm_model_facts *f, const struct speeds *s, int prompt,
                         int tokens, int train) {
    if (a->json) {
        app_json(json_pack("{s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:i, s:s}", "prefill_tok_s", s->prefill,
                           "decode_tok_s", s->decode, "train_tok_s", s->train, "peak_rss_bytes",
                           (json_int_t)process_peak_rss(), "train_rss_bytes", (json_int_t)s->train_rss,
                           "model_bytes", (json_int_t)f->file_bytes, "bytes_per_token",
                           (json_int_t)f->bytes_per_token, "bandwidth_gb_s", s->bandwidth, "threads",
                           f->threads, "cpu", f->cpu));
        return;
    }
    double ceiling = s->bandwidth * 1e9 / (double)f->bytes_per_token;
    printf("%s, %s kernels, %d threads\n", f->name ? f->name : f->path, f->cpu, f->threads);
    printf("  prefill  %4d tokens  %8.1f tok/s\n", prompt, s->prefill);
    printf("  decode   %4d tokens  %8.1f tok/s  (%.1f MB a token at %.1f GB/s: at most %.0f; %.0f %%)\n",
           tokens, s->decode, (double)f->bytes_per_token / 1e6, s->bandwidth, ceiling,
           100 * s->decode / ceiling);
    printf("  train    %4d tokens  %8.1f tok/s  (%.0f MB of its own)\n", train, s->train,
           (double)s->train_rss / 1e6);
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
        st = measure_bandwidth(&s, a->threads, &err);
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
