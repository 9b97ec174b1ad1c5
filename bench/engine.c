/* engine.c: plm behind a line protocol, so that bench/peers can take turns between it and its peers while
 * both stay warm. Reads a command a line from stdin and answers each with one line of JSON; bench/README.md
 * says what measures with it. It uses plm.h alone, as any program would.
 *
 *   plm-engine MODEL [threads] [kernels]
 *
 *   run P N            a prompt of P tokens, then N tokens one by one: {"prefill_s", "decode_s"}
 *   use none|qv|all    an adapter of rank 8 for what follows: {"switch_s"}
 *   sessions K N       K sessions, each with an adapter of its own: N tokens each, together: {"prompt_s",
 *                      "decode_s"}
 *   bare K N           the same without adapters
 *   trainer T B BYTES  a trainer of B examples of T tokens, loss on every token: {"planned_bytes", ...}
 *   step               {"step_s", "loss"}
 *   forget             frees the trainer; the peak of memory counts from here
 *   memory             {"peak_bytes", "anonymous_bytes"}
 *   ceilings           {"f32", "bf16", "int8", "read"}
 *   encode Q<tab>A     a question and its answer by the chat template: {"ids", "targets"}, these the answer's
 *                      places
 *   profile, times     where the time between the two went */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plm.h"

enum { RANK = 8, MANY = 8 };

struct engine {
    plm_model *model;
    plm_session *session;
    int context;
    plm_adapter *adapter[2]; /* q and v, all linears */
    plm_lora use;
    plm_session *many[MANY]; /* of cmd_sessions, and their adapters */
    plm_adapter *theirs[MANY];
    plm_trainer *trainer;
    plm_adapter *learning;
    int32_t *ids; /* as many as the longest run asked for */
    size_t n_ids;
    plm_error err;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Ids that every model has: no sentence, but the same for all peers (llama.c has the same rule). */
static plm_status need_ids(struct engine *e, size_t n) {
    if (n <= e->n_ids)
        return PLM_OK;
    int32_t *ids = realloc(e->ids, n * sizeof *ids);
    if (!ids)
        return PLM_ENOMEM;
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(i * 7919 % 9000 + 100);
    e->ids = ids;
    e->n_ids = n;
    return PLM_OK;
}

static plm_status need_session(struct engine *e, int context) {
    if (e->session && e->context >= context)
        return PLM_OK;
    plm_session_free(e->session);
    e->session = NULL;
    e->context = context;
    plm_session_options opt = {.context = context};
    plm_status st = plm_session_new(&e->session, e->model, &opt, &e->err);
    return st ? st : plm_session_use(e->session, &e->use, e->use.adapter != NULL, &e->err);
}

static plm_status cmd_run(struct engine *e, size_t prompt, size_t tokens) {
    plm_status st = need_ids(e, prompt + tokens);
    if (!st)
        st = need_session(e, (int)(prompt + tokens));
    if (!st) /* the session forgets what it holds */
        st = plm_session_use(e->session, &e->use, e->use.adapter != NULL, &e->err);
    double start = now();
    if (!st)
        st = plm_session_sync(e->session, e->ids, prompt, &e->err);
    double middle = now();
    long sum = 0;
    for (size_t i = 1; !st && i <= tokens; i++) {
        sum += plm_session_sample(e->session, NULL);
        st = plm_session_sync(e->session, e->ids, prompt + i, &e->err);
    }
    double end = now();
    if (!st)
        printf("{\"prefill_s\":%.6f,\"decode_s\":%.6f,\"sum\":%ld}\n", middle - start, end - middle, sum);
    return st;
}

static plm_status cmd_use(struct engine *e, const char *which) {
    static const unsigned targets[] = {PLM_Q | PLM_V, PLM_ALL_LINEAR};
    int i = !strcmp(which, "all") ? 1 : !strcmp(which, "qv") ? 0 : -1;
    plm_status st = need_session(e, 64);
    if (!st && i >= 0 && !e->adapter[i]) {
        plm_adapter_options opt = {.rank = RANK, .targets = targets[i]};
        st = plm_adapter_new(&e->adapter[i], e->model, &opt, &e->err);
    }
    e->use = (plm_lora){i >= 0 ? e->adapter[i] : NULL, 1};
    double start = now();
    if (!st)
        st = plm_session_use(e->session, &e->use, i >= 0, &e->err);
    if (!st)
        printf("{\"switch_s\":%.9f}\n", now() - start);
    return st;
}

static void forget(struct engine *e) {
    plm_trainer_free(e->trainer);
    plm_adapter_free(e->learning);
    e->trainer = NULL;
    e->learning = NULL;
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f) {
        fputs("5", f); /* VmHWM starts again from what is resident now */
        fclose(f);
    }
}

static plm_status cmd_trainer(struct engine *e, size_t tokens, int batch, uint64_t memory) {
    forget(e);
    plm_adapter_options shape = {.rank = RANK, .targets = PLM_ALL_LINEAR};
    plm_train_options opt = {.batch = batch, .steps = 1000, .max_tokens = (int)tokens, .memory = memory};
    plm_example ex = {.n_ids = tokens, .n_prompt = 1};
    plm_train_facts facts;
    plm_status st = need_ids(e, tokens + (size_t)batch);
    if (!st)
        st = plm_adapter_new(&e->learning, e->model, &shape, &e->err);
    if (!st)
        st = plm_trainer_new(&e->trainer, e->model, e->learning, &opt, &e->err);
    for (int i = 0; !st && i < batch; i++) {
        ex.ids = e->ids + i;
        st = plm_trainer_add(e->trainer, &ex, &e->err);
    }
    if (!st)
        st = plm_trainer_plan(e->trainer, &facts, &e->err);
    if (!st)
        printf("{\"planned_bytes\":%llu,\"recomputed_layers\":%d}\n", (unsigned long long)facts.planned_bytes,
               facts.recomputed_layers);
    return st;
}

static plm_status cmd_step(struct engine *e) {
    plm_train_report r;
    plm_status st = plm_trainer_step(e->trainer, &r, &e->err);
    if (!st)
        printf("{\"step_s\":%.6f,\"loss\":%.6f}\n", r.seconds, r.loss);
    return st;
}

static unsigned long long proc_bytes(const char *path, const char *key) {
    char line[200];
    unsigned long long kb = 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)))
            kb = strtoull(line + strlen(key), NULL, 10);
    if (f)
        fclose(f);
    return kb * 1024;
}

static void cmd_memory(void) {
    printf("{\"peak_bytes\":%llu,\"resident_bytes\":%llu,\"anonymous_bytes\":%llu}\n",
           proc_bytes("/proc/self/status", "VmHWM:"), proc_bytes("/proc/self/status", "VmRSS:"),
           proc_bytes("/proc/self/smaps_rollup", "Anonymous:"));
}

static plm_status cmd_ceilings(struct engine *e) {
    plm_ceilings c;
    plm_status st = plm_model_ceilings(e->model, &c, &e->err);
    if (!st)
        printf("{\"f32\":%.0f,\"bf16\":%.0f,\"int8\":%.0f,\"read\":%.0f}\n", c.f32, c.bf16, c.int8, c.read);
    return st;
}

/* Sessions and trainers made before are not counted: they go. */
static plm_status cmd_profile(struct engine *e) {
    forget(e);
    plm_session_free(e->session);
    e->session = NULL;
    plm_status st = plm_model_profile(e->model, &e->err);
    if (!st)
        printf("{}\n");
    return st;
}

static void cmd_times(struct engine *e) {
    plm_op_time t[64];
    size_t n = plm_model_times(e->model, t, 64);
    printf("{");
    for (size_t i = 0; i < n && i < 64; i++)
        printf("%s\"%s\":{\"calls\":%llu,\"seconds\":%.6f,\"operations\":%.0f,\"bytes\":%.0f}", i ? "," : "",
               t[i].name, (unsigned long long)t[i].calls, t[i].seconds, t[i].operations, t[i].bytes);
    printf("}\n");
}

static plm_status need_many(struct engine *e, size_t sessions, int context, bool adapted) {
    plm_status st = PLM_OK;
    for (size_t i = 0; !st && i < sessions; i++) {
        plm_adapter_options shape = {.rank = RANK, .targets = PLM_ALL_LINEAR, .seed = i + 1};
        plm_session_options opt = {.context = context};
        plm_session_free(e->many[i]);
        e->many[i] = NULL;
        st = plm_session_new(&e->many[i], e->model, &opt, &e->err);
        if (!st && !e->theirs[i])
            st = plm_adapter_new(&e->theirs[i], e->model, &shape, &e->err);
        plm_lora use = {e->theirs[i], 1};
        if (!st)
            st = plm_session_use(e->many[i], &use, adapted, &e->err);
    }
    return st;
}

static plm_status cmd_sessions(struct engine *e, size_t sessions, size_t tokens, bool adapted) {
    enum { PROMPT = 32, ROOM = 64 };
    const int32_t *ids[MANY];
    size_t n[MANY];
    plm_status st = need_ids(e, PROMPT + tokens + MANY);
    if (!st)
        st = need_many(e, sessions, (int)(PROMPT + (tokens > ROOM ? tokens : ROOM)), adapted);
    double start = now(), middle = start;
    for (size_t t = 0; !st && t <= tokens; t++) {
        for (size_t i = 0; i < sessions; i++) {
            ids[i] = e->ids + i;
            n[i] = PROMPT + t;
        }
        st = plm_sessions_sync(e->many, ids, n, sessions, &e->err);
        if (t == 0)
            middle = now();
    }
    if (!st)
        printf("{\"prompt_s\":%.6f,\"decode_s\":%.6f}\n", middle - start, now() - middle);
    return st;
}

static plm_status cmd_encode(struct engine *e, char *question) {
    enum { MOST = 2048 };
    static int32_t ids[MOST];
    static uint8_t is_target[MOST];
    char *answer = strchr(question, '\t');
    size_t n;
    if (!answer)
        return PLM_EINVAL;
    *answer++ = 0;
    plm_message messages[] = {{"user", question}, {"assistant", answer}};
    plm_status st = plm_chat_encode(e->model, messages, 2, ids, is_target, MOST, &n, &e->err);
    if (st)
        return st;
    printf("{\"ids\":[");
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i ? "," : "", (int)ids[i]);
    printf("],\"targets\":[");
    for (size_t i = 0, seen = 0; i < n; i++)
        if (is_target[i])
            printf("%s%zu", seen++ ? "," : "", i);
    printf("]}\n");
    return PLM_OK;
}

static plm_status obey(struct engine *e, char *line) {
    char verb[20] = "", word[20] = "";
    unsigned long long a = 0, b = 0, c = 0;
    sscanf(line, "%19s %19s", verb, word);
    sscanf(line, "%*s %llu %llu %llu", &a, &b, &c);
    if (!strcmp(verb, "run") && a)
        return cmd_run(e, a, b);
    if (!strcmp(verb, "use"))
        return cmd_use(e, word);
    if (!strcmp(verb, "trainer") && a && b)
        return cmd_trainer(e, a, (int)b, c);
    if ((!strcmp(verb, "sessions") || !strcmp(verb, "bare")) && a >= 1 && a <= MANY)
        return cmd_sessions(e, a, b, *verb == 's');
    if (!strcmp(verb, "step") && e->trainer)
        return cmd_step(e);
    if (!strcmp(verb, "ceilings"))
        return cmd_ceilings(e);
    if (!strcmp(verb, "encode"))
        return cmd_encode(e, line + strlen("encode "));
    if (!strcmp(verb, "profile"))
        return cmd_profile(e);
    if (!strcmp(verb, "times"))
        return cmd_times(e), PLM_OK;
    if (!strcmp(verb, "memory"))
        return cmd_memory(), PLM_OK;
    if (!strcmp(verb, "forget"))
        return forget(e), printf("{}\n"), PLM_OK;
    snprintf(e->err.text, sizeof e->err.text, "no command \"%.100s\"", line);
    return PLM_EINVAL;
}

int main(int argc, char **argv) {
    struct engine e = {0};
    char line[8192];
    if (argc < 2) {
        fprintf(stderr, "usage: plm-engine MODEL [threads] [kernels]\n");
        return 2;
    }
    plm_model_options opt = {.threads = argc > 2 ? atoi(argv[2]) : 0, .cpu = argc > 3 ? argv[3] : NULL};
    plm_status st = plm_model_open(&e.model, argv[1], &opt, &e.err);
    if (!st) {
        const plm_model_facts *f = plm_model_describe(e.model);
        printf("{\"arch\":\"%s\",\"types\":\"%s\",\"cpu\":\"%s\",\"threads\":%d,\"parameters\":%llu,"
               "\"bytes_per_token\":%llu,\"file_bytes\":%llu,\"vocab\":%d,\"width\":%d,\"ffn_width\":%d,"
               "\"layers\":%d,\"heads\":%d,\"kv_heads\":%d,\"head_width\":%d,\"tied_head\":%s}\n",
               f->arch, f->types, f->cpu, f->threads, (unsigned long long)f->parameters,
               (unsigned long long)f->bytes_per_token, (unsigned long long)f->file_bytes, f->vocab, f->width,
               f->ffn_width, f->layers, f->heads, f->kv_heads, f->head_width,
               f->tied_head ? "true" : "false");
        fflush(stdout);
    }
    while (!st && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        st = obey(&e, line);
        fflush(stdout);
    }
    if (st)
        fprintf(stderr, "plm-engine: %s\n", e.err.text);
    forget(&e);
    plm_adapter_free(e.adapter[0]);
    plm_adapter_free(e.adapter[1]);
    plm_session_free(e.session);
    for (int i = 0; i < MANY; i++) {
        plm_session_free(e.many[i]);
        plm_adapter_free(e.theirs[i]);
    }
    plm_model_close(e.model);
    free(e.ids);
    return st ? 1 : 0;
}
