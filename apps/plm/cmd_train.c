/* cmd_train.c: one training run from a file of rows, or from a person's records, into an adapter file. */
#include "base/hash.h"
#include "shared/records.h"
#include "rows.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct training {
    struct args *a;
    struct progress bar;
    plm_example *examples;
    plm_message *messages; /* of store records: two each */
    char (*names)[32];
    char **prompts;
    size_t n;
    struct encoded *raw; /* of --raw rows */
};

static int on_step(void *ctx, const plm_train_facts *facts, const plm_train_report *r) {
    struct training *t = ctx;
    char note[64];
    snprintf(note, sizeof note, "loss %.3f", r->loss);
    progress_at(&t->bar, r->step + 1, facts->steps, note);
    if (t->a->json)
        app_json(json_pack("{s:i, s:f, s:f, s:f, s:I, s:f}", "step", r->step, "loss", r->loss, "lr", r->rate,
                           "grad_norm", r->grad_norm, "tokens", (json_int_t)r->tokens, "step_s", r->seconds));
    fflush(stdout);
    return 0;
}

static plm_status room_for(struct training *t, size_t n, plm_error *err) {
    t->examples = mem_zero(n, sizeof *t->examples);
    t->messages = mem_zero(2 * n, sizeof *t->messages);
    t->names = mem_zero(n, sizeof *t->names);
    t->prompts = mem_zero(n, sizeof *t->prompts);
    t->raw = mem_zero(n, sizeof *t->raw);
    if (!t->examples || !t->messages || !t->names || !t->prompts || !t->raw)
        return fail(err, PLM_ENOMEM, "out of memory");
    t->n = n;
    return PLM_OK;
}

static plm_status from_rows(struct training *t, const plm_model *m, const struct rows *rows, plm_error *err) {
    bool raw = t->a->raw || !plm_model_describe(m)->chat_template;
    plm_status st = room_for(t, rows->n, err);
    for (size_t i = 0; st == PLM_OK && i < rows->n; i++) {
        const struct row *r = &rows->v[i];
        snprintf(t->names[i], sizeof t->names[i], "line %zu", r->line);
        t->examples[i] = (plm_example){.weight = r->weight, .name = t->names[i]};
        if (raw) {
            st = row_encode(&t->raw[i], m, r, true, err);
            t->examples[i].ids = t->raw[i].ids;
            t->examples[i].n_ids = t->raw[i].n;
            t->examples[i].n_prompt = t->raw[i].n_prompt;
        } else {
            t->examples[i].messages = r->message;
            t->examples[i].n_messages = r->n;
        }
    }
    return st;
}

static plm_status from_records(struct training *t, const plm_kind *kind, const struct records *list,
                               plm_error *err) {
    plm_status st = list->n
                        ? room_for(t, list->n, err)
                        : fail(err, PLM_ENOTFOUND, "no %s records of %s: plm import SOURCE puts them there",
                               kind->name, app_user(t->a));
    for (size_t i = 0; st == PLM_OK && i < list->n; i++) {
        st = plm_kind_prompt(kind, list->v[i].input, &t->prompts[i], err);
        snprintf(t->names[i], sizeof t->names[i], "record %lld", (long long)list->v[i].id);
        t->messages[2 * i] = (plm_message){"user", t->prompts[i]};
        t->messages[2 * i + 1] = (plm_message){"assistant", list->v[i].output};
        t->examples[i] = (plm_example){.messages = &t->messages[2 * i], .n_messages = 2, .name = t->names[i]};
    }
    return st;
}

static void training_free(struct training *t) {
    for (size_t i = 0; i < t->n; i++) {
        plm_free(t->prompts[i]);
        encoded_free(&t->raw[i]);
    }
    mem_free(t->examples);
    mem_free(t->messages);
    mem_free(t->names);
    mem_free(t->prompts);
    mem_free(t->raw);
}

/* What the file says of itself: how its prompts were made. */
static plm_status describe(const struct args *a, const plm_model *m, const plm_kind *kind, plm_adapter *ad,
                           plm_error *err) {
    const char *template = plm_model_describe(m)->chat_template;
    plm_status st = plm_adapter_set(ad, "plm.template", a->raw || !template ? "raw" : template, err);
    if (st == PLM_OK && kind)
        st = plm_adapter_set(ad, "plm.kind", kind->name, err);
    if (st == PLM_OK && kind)
        st = plm_adapter_set(ad, "plm.instruction", kind->instruction, err);
    return st;
}

static plm_status run(struct training *t, const plm_model *m, const plm_kind *kind, struct learned *done,
                      char sha256[65], plm_error *err) {
    struct bytes checkpoint;
    struct learn l = {.model = m, .on_step = on_step, .ctx = t, .resume = t->a->resume};
    bytes_init(&checkpoint, 1 << 16);
    bytes_printf(&checkpoint, "%s.checkpoint", t->a->out);
    plm_status st = bytes_status(&checkpoint, "the path of the checkpoint", err);
    if (st == PLM_OK)
        st = app_learn(&l, t->a, err);
    l.examples = t->examples;
    l.n = t->n;
    l.checkpoint = checkpoint.data;
    progress_start(&t->bar, t->a->quiet, "train");
    if (st == PLM_OK)
        st = learn(done, &l, err);
    progress_end(&t->bar);
    if (st == PLM_OK)
        st = describe(t->a, m, kind, done->adapter, err);
    if (st == PLM_OK)
        st = plm_adapter_save(done->adapter, t->a->out, err);
    if (st == PLM_OK)
        st = sha256_file(t->a->out, sha256, err);
    if (st == PLM_OK) {
        unlink(checkpoint.data);
        bytes_puts(&checkpoint, ".prev");
        unlink(checkpoint.data);
    }
    bytes_free(&checkpoint);
    return st;
}

static void say_done(const struct args *a, const struct learned *done, const char *sha256, size_t bad) {
    if (a->json) {
        app_json(json_pack("{s:b, s:s, s:i, s:I, s:f, s:I, s:s}", "done", 1, "adapter", a->out, "steps",
                           done->steps, "tokens", (json_int_t)done->tokens, "total_s", done->seconds,
                           "peak_rss_bytes", (json_int_t)process_peak_rss(), "sha256", sha256));
        return;
    }
    printf("%s: %d steps, %zu tokens in %.1f s (%.0f tok/s), peak memory %.0f MB\n", a->out, done->steps,
           done->tokens, done->seconds, (double)done->tokens / done->seconds,
           (double)process_peak_rss() / 1e6);
    if (done->facts.cut)
        printf("%zu examples were too long and lost the middle of their prompt\n", done->facts.cut);
    if (done->facts.frozen_anew)
        printf("%zu examples had no room to keep what the layers below give: more --memory is faster\n",
               done->facts.frozen_anew);
    if (bad)
        printf("%zu bad rows were skipped\n", bad);
}

int cmd_train(struct args *a) {
    if (a->n_rest)
        return app_misuse(a, "train", "rows come from --data FILE.jsonl, records from --user NAME");
    if (!a->out)
        a->out = "adapter.gguf";
    plm_error err = {0};
    plm_model *m = NULL;
    plm_store *store = NULL;
    plm_kinds *kinds = NULL;
    const plm_kind *kind = NULL;
    struct rows rows = {0};
    struct records records = {0};
    struct training t = {.a = a};
    struct learned done = {0};
    char sha256[65];
    plm_status st = a->data ? rows_read(&rows, a->data, a->skip_bad, &err) : app_kinds(&kinds, a, &err);
    if (st == PLM_OK && !a->data) {
        kind = plm_kind_find(kinds, a->task ? a->task : "note");
        st = kind ? app_store(&store, a, true, &err) : fail(&err, PLM_ENOTFOUND, "no kind \"%s\"", a->task);
    }
    if (st == PLM_OK && kind) {
        plm_query q = {.user = app_user(a), .kind = kind->name};
        st = records_load(&records, store, &q, &err);
    }
    if (st == PLM_OK)
        st = app_model(&m, a, &err);
    if (st == PLM_OK)
        st = kind ? from_records(&t, kind, &records, &err) : from_rows(&t, m, &rows, &err);
    if (st == PLM_OK)
        st = run(&t, m, kind, &done, sha256, &err);
    if (st == PLM_OK)
        say_done(a, &done, sha256, rows.bad);
    plm_adapter_free(done.adapter);
    training_free(&t);
    records_free(&records);
    rows_free(&rows);
    plm_kinds_close(kinds);
    plm_store_close(store);
    plm_model_close(m);
    return st ? app_fail(&err) : EXIT_DONE;
}
