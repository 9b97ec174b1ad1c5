/* serve_bench.c: what an answer costs above the matrix kernels, on a real model, through plm.h alone.
 *
 *   plm-serve-bench MODEL.gguf [THREADS] [decode|adapter|rows|sessions|sample|neighbour ...]
 *
 * decode: a token at growing contexts. adapter: with adapters on some linears, and turning them on and off.
 * sessions: a token for several at once. rows: a step of several tokens, in a token's time. sample: one draw.
 * neighbour: prefill and decode alone, and beside a process that never waits. The best of a few runs is
 * shown, but beside a neighbour the median.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "plm.h"

enum { MOST = 8192, RUNS = 24 };

static plm_error err;

static void need(plm_status st) {
    if (st) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
}

static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill(int32_t *ids, int n) {
    for (int i = 0; i < n; i++)
        ids[i] = 1000 + (i * 7919) % 5000;
}

/* Seconds of a step of `rows` tokens after `context`: the best and the median. */
static void time_steps(plm_session *s, int context, int rows, double *best, double *median) {
    static int32_t ids[MOST + 64];
    double took[RUNS];
    fill(ids, context + rows);
    need(plm_session_sync(s, ids, (size_t)context, &err));
    for (int i = 0; i < RUNS; i++) {
        ids[context] = 1000 + i; /* the prefix is kept, these rows are new */
        double from = clock_now();
        need(plm_session_sync(s, ids, (size_t)(context + rows), &err));
        took[i] = clock_now() - from;
    }
    qsort(took, RUNS, sizeof *took, order);
    *best = took[0];
    *median = took[RUNS / 2];
}

static plm_session *session(const plm_model *m, int context) {
    plm_session *s = NULL;
    need(plm_session_new(&s, m, &(plm_session_options){.context = context}, &err));
    return s;
}

static double token(plm_session *s, int context) {
    double best, median;
    time_steps(s, context, 1, &best, &median);
    return best;
}

static void decode(const plm_model *m) {
    const int contexts[] = {128, 2048, 8192 - 64};
    int most = plm_model_describe(m)->context;
    for (int i = 0; i < 3; i++) {
        if (contexts[i] + 64 > most)
            continue;
        plm_session *s = session(m, contexts[i] + 64);
        double from = clock_now();
        static int32_t ids[MOST];
        fill(ids, contexts[i]);
        need(plm_session_sync(s, ids, (size_t)contexts[i], &err));
        double prefill = clock_now() - from, step = token(s, contexts[i]);
        printf("decode at %5d: %7.2f ms a token, %6.1f tok/s; prefill %7.1f tok/s\n", contexts[i], 1e3 * step,
               1 / step, contexts[i] / prefill);
        plm_session_free(s);
    }
}

static plm_adapter *adapter(const plm_model *m, unsigned targets, uint64_t seed) {
    plm_adapter *a = NULL;
    need(plm_adapter_new(&a, m, &(plm_adapter_options){.rank = 8, .targets = targets, .seed = seed}, &err));
    return a;
}

/* Token by token in turns, so that what a neighbour takes, it takes of all: the quickest quarter counts. */
static void adapters(const plm_model *m) {
    enum { WAYS = 3, TURNS = 400, CONTEXT = 128 };
    static const unsigned targets[WAYS] = {0, PLM_Q | PLM_V, PLM_ALL_LINEAR};
    static double took[WAYS][TURNS];
    static int32_t ids[CONTEXT + 1];
    plm_session *s[WAYS];
    plm_adapter *a[WAYS] = {NULL};
    double on = 1;
    fill(ids, CONTEXT + 1);
    for (int i = 0; i < WAYS; i++) {
        s[i] = session(m, 256);
        if (i) {
            a[i] = adapter(m, targets[i], 1);
            need(plm_session_use(s[i], &(plm_lora){a[i], 1}, 1, &err));
            double from = clock_now();
            need(plm_session_use(s[i], &(plm_lora){a[i], 1}, 1, &err));
            on = clock_now() - from < on ? clock_now() - from : on;
        }
        need(plm_session_sync(s[i], ids, CONTEXT, &err));
    }
    for (int t = 0; t < TURNS; t++)
        for (int i = 0; i < WAYS; i++) {
            ids[CONTEXT] = 1000 + t;
            double from = clock_now();
            need(plm_session_sync(s[i], ids, CONTEXT + 1, &err));
            took[i][t] = clock_now() - from;
        }
    for (int i = 0; i < WAYS; i++)
        qsort(took[i], TURNS, sizeof **took, order);
    const double *none = took[0], *qv = took[1], *all = took[2];
    printf("adapter: none %.2f ms a token; q,v of rank 8 %+.1f %%; all linears %+.1f %% (at best %+.1f and "
           "%+.1f); "
           "turned on in %.3f ms\n",
           1e3 * none[TURNS / 4], 100 * (qv[TURNS / 4] / none[TURNS / 4] - 1),
           100 * (all[TURNS / 4] / none[TURNS / 4] - 1), 100 * (qv[0] / none[0] - 1),
           100 * (all[0] / none[0] - 1), 1e3 * on);
    for (int i = 0; i < WAYS; i++) {
        plm_session_free(s[i]);
        plm_adapter_free(a[i]);
    }
}

/* A token for each of several sessions, every one with an adapter of its own. */
static void together(const plm_model *m) {
    enum { SESSIONS = 16, CONTEXT = 128 };
    plm_session *s[SESSIONS];
    plm_adapter *a[SESSIONS];
    static int32_t ids[SESSIONS][CONTEXT + RUNS + 1];
    const int32_t *all[SESSIONS];
    size_t len[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) {
        s[i] = session(m, 256);
        a[i] = adapter(m, PLM_ALL_LINEAR, (uint64_t)i);
        fill(ids[i], CONTEXT + RUNS + 1);
        all[i] = ids[i];
        len[i] = CONTEXT;
        need(plm_session_use(s[i], &(plm_lora){a[i], 1}, 1, &err));
    }
    need(plm_sessions_sync(s, all, len, SESSIONS, &err));
    double one = 0;
    for (size_t n = 1; n <= SESSIONS; n *= 2) {
        double best = 10;
        for (int run = 0; run < RUNS; run++) {
            for (size_t i = 0; i < n; i++) {
                len[i] = CONTEXT + 1;
                ids[i][CONTEXT] = 1000 + run;
            }
            double from = clock_now();
            need(plm_sessions_sync(s, all, len, n, &err));
            double took = clock_now() - from;
            best = took < best ? took : best;
        }
        one = n == 1 ? best : one;
        printf("%2zu sessions, an adapter each: %6.2f ms a step, %7.1f tok/s, %.2f times one\n", n,
               1e3 * best, (double)n / best, (double)n * one / best);
    }
    for (int i = 0; i < SESSIONS; i++) {
        plm_session_free(s[i]);
        plm_adapter_free(a[i]);
    }
}

static void rows(const plm_model *m) {
    plm_session *s = session(m, 512);
    double one = token(s, 256), best, median;
    for (int n = 2; n <= 16; n += n < 8 ? 1 : 8) {
        time_steps(s, 256, n, &best, &median);
        printf("step of %2d tokens: %.2f times one (%.2f ms)\n", n, best / one, 1e3 * best);
    }
    plm_session_free(s);
}

static void sample(const plm_model *m) {
    static const struct {
        const char *name;
        plm_sampling how;
    } ways[] = {
        {"greedy", {.temperature = 0}},
        {"temperature 0.7", {.temperature = .7f}},
        {"temperature 0.7, top-k 40", {.temperature = .7f, .top_k = 40}},
        {"temperature 0.7, top-p 0.9", {.temperature = .7f, .top_p = .9f}},
        {"temperature 1.5, top-k 40, top-p 0.95, min-p 0.05",
         {.temperature = 1.5f, .top_k = 40, .top_p = .95f, .min_p = .05f}},
        {"temperature 3, top-p 0.999", {.temperature = 3, .top_p = .999f}},
    };
    plm_session *s = session(m, 256);
    int32_t ids[8];
    fill(ids, 8);
    need(plm_session_sync(s, ids, 8, &err));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        double best = 1;
        for (int run = 0; run < RUNS; run++) {
            plm_sampling how = ways[i].how;
            how.seed = (uint64_t)run;
            double from = clock_now();
            if (plm_session_sample(s, &how) < 0)
                exit(1);
            double took = clock_now() - from;
            best = took < best ? took : best;
        }
        printf("sampling, %s: %.3f ms\n", ways[i].name, 1e3 * best);
    }
    plm_session_free(s);
}

static void prefill_and_decode(const plm_model *m, const char *what) {
    static int32_t ids[512];
    double took[5], best, median;
    plm_session *s = session(m, 1024);
    fill(ids, 512);
    for (int i = 0; i < 5; i++) {
        need(plm_session_use(s, NULL, 0, &err));
        double from = clock_now();
        need(plm_session_sync(s, ids, 512, &err));
        took[i] = clock_now() - from;
    }
    qsort(took, 5, sizeof *took, order);
    time_steps(s, 128, 1, &best, &median);
    printf("%s: prefill %.1f tok/s, decode %.1f tok/s (medians)\n", what, 512 / took[2], 1 / median);
    plm_session_free(s);
}

static void neighbour(const plm_model *m) {
    prefill_and_decode(m, "alone");
    pid_t child = fork();
    if (child == 0) {
        for (volatile unsigned long i = 0;; i++) {
        }
    }
    sleep(1);
    prefill_and_decode(m, "beside one busy process");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(const plm_model *m);
    } parts[] = {{"decode", decode},     {"adapter", adapters}, {"rows", rows},
                 {"sessions", together}, {"sample", sample},    {"neighbour", neighbour}};
    if (argc < 2) {
        fprintf(stderr,
                "plm-serve-bench MODEL.gguf [THREADS] [decode|adapter|rows|sessions|sample|neighbour ...]\n");
        return 2;
    }
    plm_model *m = NULL;
    int threads = argc > 2 ? atoi(argv[2]) : 0;
    need(plm_model_open(&m, argv[1], &(plm_model_options){.threads = threads, .cpu = getenv("PLM_BENCH_CPU")},
                        &err));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        bool wanted = argc <= 3;
        for (int j = 3; j < argc; j++)
            wanted = wanted || !strcmp(argv[j], parts[i].name);
        if (wanted)
            parts[i].run(m);
        fflush(stdout);
    }
    plm_model_close(m);
    return 0;
}
