/* cmd_augment.c: asks a larger model for more examples, or shows what would be asked. */
#include "shared/device.h"
#include "teach.h"

#include <stdio.h>
#include <string.h>

static int print_body(void *ctx, const char *body) {
    (void)ctx;
    puts(body);
    return 0;
}

static plm_status dry_run(struct teaching *t, plm_error *err) {
    plm_augment_policy p = teach_policy(t);
    char *request = NULL;
    plm_status st = plm_augment_draft(t->store, &p, &request, err);
    if (st == PLM_OK)
        st = teach_forecast(t, request, print_body, err);
    if (st == PLM_OK)
        teach_say_forecast(t);
    if (st == PLM_OK && t->args->json)
        app_json(json_pack("{s:o}", "forecast", forecast_json(&t->forecast)));
    plm_free(request);
    return st;
}

/* The first lines of the candidates, as the person would judge them. */
static void show(const char *candidates, int n, bool json) {
    struct str rest = str_of(candidates), line;
    for (int i = 0; i < n && str_cut(&rest, '\n', &line) && line.n;) {
        json_t *doc = NULL;
        if (json_parse(&doc, line.p, line.n, "a candidate", NULL))
            continue;
        const char *input = json_text(doc, "input"), *output = json_text(doc, "output");
        if (input && json) {
            printf("%.*s\n", (int)line.n, line.p);
            i++;
        } else if (input) {
            printf("--- %d\n%s\n=> %s\n", ++i, input, output && *output ? output : "(your own words)");
        }
        json_decref(doc);
    }
}

static void say_kept(const struct args *a, const struct teaching *t, const plm_absorb_report *r) {
    if (a->json) {
        json_t *dropped = json_object();
        for (int i = 0; i < PLM_RULES; i++)
            json_object_set_new(dropped, plm_rule_name(i), json_integer((json_int_t)r->dropped[i]));
        app_json(json_pack("{s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:f, s:f, s:o}", "seen", (json_int_t)r->seen,
                           "kept", (json_int_t)r->kept, "dropped", dropped, "calls", (json_int_t)t->run.calls,
                           "tokens_in", (json_int_t)t->run.tokens_in, "tokens_out",
                           (json_int_t)t->run.tokens_out, "bytes_sent", (json_int_t)t->run.bytes_sent,
                           "spent", t->run.spent, "seconds", t->run.seconds, "forecast",
                           forecast_json(&t->forecast)));
        return;
    }
    printf("%zu examples were written in %zu calls, %zu kept\n", r->seen, t->run.calls, r->kept);
    for (int i = 0; i < PLM_RULES; i++)
        if (r->dropped[i])
            printf("  dropped by %-12s %zu\n", plm_rule_name(i), r->dropped[i]);
}

static plm_status augment(struct teaching *t, plm_error *err) {
    const struct args *a = t->args;
    plm_augment_policy p = teach_policy(t);
    plm_absorb_report report = {0};
    struct device device = {0};
    plm_model *model = NULL;
    char *request = NULL, *candidates = NULL;
    if (a->preview)
        p.wanted = a->preview;
    plm_status st = teach_generate(t, &p, &request, &candidates, err);
    if (st == PLM_OK && a->preview) {
        show(candidates, a->preview, a->json);
        teach_settle(t); // shown once, and kept nowhere
    } else if (st == PLM_OK) {
        st = app_model(&model, a, err);
        if (st == PLM_OK)
            st = device_open(&device, model, t->kind, err);
        if (st == PLM_OK)
            st = plm_augment_absorb(t->store, &p, request, candidates, strlen(candidates),
                                    plm_teacher_name(t->teacher), device_nll, &device, a->out, &report, err);
        if (st == PLM_OK) {
            teach_settle(t);
            say_kept(a, t, &report);
        }
        device_close(&device);
        plm_model_close(model);
    }
    plm_free(request);
    plm_free(candidates);
    return st;
}

int cmd_augment(struct args *a) {
    if (a->share && strcmp(a->share, "summary") != 0 && strcmp(a->share, "exemplars") != 0)
        return app_misuse(a, "augment", "--share is exemplars or summary");
    plm_error err = {0};
    plm_store *store = NULL;
    plm_kinds *kinds = NULL;
    struct teaching t = {0};
    plm_status st = app_kinds(&kinds, a, &err);
    const plm_kind *kind = st ? NULL : plm_kind_find(kinds, a->task ? a->task : "note");
    if (st == PLM_OK && !kind)
        st = fail(&err, PLM_ENOTFOUND, "no kind \"%s\"", a->task);
    if (st == PLM_OK)
        st = app_store(&store, a, false, &err);
    if (st == PLM_OK)
        st = teach_open(&t, a, store, kind, &err);
    if (st == PLM_OK && !t.teacher)
        st =
            fail(&err, PLM_ENOTFOUND, "no teacher: --teacher MODEL.gguf or an address, or plm model fetch %s",
                 "qwen2.5-coder-0.5b");
    if (st == PLM_OK)
        st = a->dry_run ? dry_run(&t, &err) : augment(&t, &err);
    teach_close(&t);
    plm_store_close(store);
    plm_kinds_close(kinds);
    return st ? app_fail(&err) : EXIT_DONE;
}
