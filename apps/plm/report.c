/* report.c: one JSON document that grows with the run; the terminal's text and the page are made from it. */
#include "report.h"

#include <math.h>
#include <string.h>

void report_start(struct report *r, const struct args *a) {
    *r = (struct report){.args = a, .start = clock_now()};
    r->doc = json_pack("{s:s, s:s, s:[], s:n, s:n, s:[], s:n}", "plm", plm_version(), "user", app_user(a),
                       "imported", "augmented", "gate", "arms", "installed");
}

void report_close(struct report *r) {
    json_decref(r->doc);
    r->doc = NULL;
}

void report_import(struct report *r, const char *source, const plm_import_report *i) {
    json_array_append_new(json_object_get(r->doc, "imported"), import_json(source, i));
}

void report_augment(struct report *r, const struct teaching *t, const plm_absorb_report *a) {
    json_t *dropped = json_object();
    for (int i = 0; i < PLM_RULES; i++)
        json_object_set_new(dropped, plm_rule_name(i), json_integer((json_int_t)a->dropped[i]));
    json_object_set_new(
        r->doc, "augmented",
        json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o, s:o}", "teacher",
                  t->teacher ? plm_teacher_name(t->teacher) : "none", "local",
                  !t->teacher || plm_teacher_is_local(t->teacher), "calls", (json_int_t)t->run.calls, "asked",
                  (json_int_t)t->run.asked, "bytes_sent", (json_int_t)t->run.bytes_sent, "tokens_in",
                  (json_int_t)t->run.tokens_in, "tokens_out", (json_int_t)t->run.tokens_out, "written",
                  (json_int_t)a->seen, "kept", (json_int_t)a->kept, "spent", t->run.spent, "seconds",
                  t->run.seconds, "forecast", forecast_json(&t->forecast), "dropped", dropped));
}

static json_t *arm_json(const struct arm *a) {
    return json_pack("{s:s, s:I, s:I, s:I, s:i, s:i, s:f, s:I, s:f, s:I, s:s, s:s, s:O}", "name", a->name,
                     "real", (json_int_t)a->n_real, "synthetic", (json_int_t)a->n_synthetic, "validation",
                     (json_int_t)a->n_validation, "steps", a->steps_done, "best_step", a->best_step,
                     "validation_nll", a->best, "tokens", (json_int_t)a->tokens, "seconds", a->seconds,
                     "planned_bytes", (json_int_t)a->planned_bytes, "adapter", a->path, "sha256", a->sha256,
                     "curve", a->curve);
}

void report_gate(struct report *r, const struct pool_of_data *d, struct gate *g) {
    static const char *const ways[] = {"held out: the newest records", "cross-fitting over all records",
                                       "none: too few records"};
    json_t *rows = json_array();
    for (size_t i = 0; i < g->n; i++) {
        const struct candidate *c = &g->row[i];
        json_t *row = json_pack("{s:s, s:f, s:o, s:b, s:b}", "name", c->name, "scale", (double)c->scale,
                                "nll", isfinite(c->nll) ? json_real(c->nll) : json_null(), "harmful",
                                c->harmful, "winner", (int)i == g->winner);
        if (c->prior)
            json_object_set_new(row, "weight", json_real(prior_weight(c->prior)));
        json_array_append_new(rows, row);
    }
    json_object_set_new(r->doc, "task", json_string(d->kind->name));
    json_object_set_new(r->doc, "records", json_integer((json_int_t)d->real.n));
    json_object_set_new(r->doc, "model",
                        json_pack("{s:s, s:s, s:s}", "path", plm_model_describe(d->model)->path, "sha256",
                                  d->model_sha256, "cpu", plm_model_describe(d->model)->cpu));
    json_object_set_new(r->doc, "gate",
                        json_pack("{s:s, s:s, s:I, s:o}", "way", ways[g->way], "unit",
                                  g->labels ? "nats a label" : "nats a token", "held_out",
                                  (json_int_t)(g->way == GATE_CROSS_FIT ? d->real.n : g->n_held), "rows",
                                  rows));
    for (size_t i = 0; i < g->n_arms; i++)
        if (g->arm[i].curve)
            json_array_append_new(json_object_get(r->doc, "arms"), arm_json(&g->arm[i]));
}

const json_t *report_gate_json(const struct report *r) {
    return json_object_get(r->doc, "gate");
}

void report_installed(struct report *r, int64_t id, const char *path, const char *sha256) {
    json_object_set_new(r->doc, "installed",
                        json_pack("{s:I, s:s, s:s}", "id", (json_int_t)id, "path", path, "sha256", sha256));
}

void report_kept(struct report *r, const char *name) {
    json_object_set_new(r->doc, "kept", json_string(name));
}

static plm_status write_page(const json_t *doc, const char *folder, plm_error *err) {
    char *html = NULL, *path = path_join(folder, "report.html");
    plm_status st = path ? report_page(doc, &html, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = file_replace(path, html, strlen(html), err);
    plm_free(html);
    plm_free(path);
    return st;
}

plm_status report_finish(struct report *r, const struct pool_of_data *d, const char *folder, plm_error *err) {
    char *text = NULL, *path = path_join(folder, "report.json");
    (void)d;
    json_object_set_new(r->doc, "seconds", json_real(clock_now() - r->start));
    json_object_set_new(r->doc, "peak_rss_bytes", json_integer((json_int_t)process_peak_rss()));
    json_object_set_new(r->doc, "anonymous_bytes", json_integer((json_int_t)process_anonymous()));
    json_object_set_new(r->doc, "report", json_string(path ? path : ""));
    plm_status st = path ? json_write(r->doc, &text, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = file_replace(path, text, strlen(text), err);
    if (st == PLM_OK)
        st = write_page(r->doc, folder, err);
    plm_free(text);
    plm_free(path);
    return st;
}

/* ---- on the terminal ---- */

long long report_whole(const json_t *o, const char *key) {
    return (long long)json_integer_value(json_object_get(o, key));
}

double report_real(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

const char *report_text(const json_t *o, const char *key) {
    const char *t = json_string_value(json_object_get(o, key));
    return t ? t : "";
}

static void print_augmented(const json_t *a, FILE *to) {
    const char *rule;
    json_t *count;
    if (!json_is_object(a))
        return;
    fprintf(to, "teacher     %s\n", report_text(a, "teacher"));
    if (json_is_true(json_object_get(a, "local")))
        fprintf(to, "sent        nothing: it ran on this machine\n");
    else
        fprintf(to, "sent        %lld bytes, in the ledger of the store\n", report_whole(a, "bytes_sent"));
    fprintf(to, "written     %lld in %lld calls (%.0f s), kept %lld\n", report_whole(a, "written"),
            report_whole(a, "calls"), report_real(a, "seconds"), report_whole(a, "kept"));
    json_object_foreach(json_object_get(a, "dropped"), rule, count) if (json_integer_value(count))
        fprintf(to, "            %lld dropped by %s\n", (long long)json_integer_value(count), rule);
}

static void print_gate(const json_t *gate, FILE *to) {
    size_t i;
    json_t *row;
    double base = NAN;
    if (!json_is_object(gate))
        return;
    fprintf(to, "gate        %s (%lld)\n", report_text(gate, "way"), report_whole(gate, "held_out"));
    json_array_foreach(json_object_get(gate, "rows"), i, row) {
        double nll = json_is_null(json_object_get(row, "nll")) ? NAN : report_real(row, "nll"),
               scale = report_real(row, "scale");
        if (i == 0)
            base = nll;
        fprintf(to, "  %c %-14s", json_is_true(json_object_get(row, "winner")) ? '*' : ' ',
                report_text(row, "name"));
        if (scale != 0 && scale != 1)
            fprintf(to, " x%.2f", scale);
        else
            fprintf(to, "      ");
        fprintf(to, "  %7.4f %s  %+6.1f %%%s\n", nll, report_text(gate, "unit"), 100 * (nll / base - 1),
                json_is_true(json_object_get(row, "harmful")) ? "  refused: hurts general text" : "");
    }
}

static void print_arms(const json_t *arms, FILE *to) {
    size_t i;
    json_t *a;
    json_array_foreach(arms, i, a) fprintf(
        to,
        "learned     %-9s %lld real + %lld synthetic, %lld to stop by; %lld steps, best %lld; %lld tokens in "
        "%.0f s (%.0f tok/s)\n",
        report_text(a, "name"), report_whole(a, "real"), report_whole(a, "synthetic"),
        report_whole(a, "validation"), report_whole(a, "steps"), report_whole(a, "best_step"),
        report_whole(a, "tokens"), report_real(a, "seconds"),
        (double)report_whole(a, "tokens") / report_real(a, "seconds"));
}

void report_print(const struct report *r, FILE *to) {
    const json_t *d = r->doc, *installed = json_object_get(d, "installed");
    if (r->nothing_new)
        json_object_set_new(r->doc, "nothing_new", json_true());
    if (r->args->json) {
        json_dumpf(d, to, JSON_COMPACT | JSON_REAL_PRECISION(9));
        fputc('\n', to);
        return;
    }
    if (r->nothing_new) {
        fprintf(
            to,
            "Nothing is new since the last run for %s; what was installed stays. (--force runs it again.)\n",
            report_text(d, "user"));
        return;
    }
    fprintf(to, "\n%s, %s: %lld records\n", report_text(d, "user"), report_text(d, "task"),
            report_whole(d, "records"));
    print_augmented(json_object_get(d, "augmented"), to);
    print_arms(json_object_get(d, "arms"), to);
    print_gate(json_object_get(d, "gate"), to);
    if (json_is_object(installed))
        fprintf(to, "installed   adapter %lld, sha256 %.16s...\n", report_whole(installed, "id"),
                report_text(installed, "sha256"));
    else if (json_object_get(d, "kept"))
        fprintf(to, "installed   nothing new: %s is the better one\n", report_text(d, "kept"));
    else
        fprintf(to, "installed   nothing: with fewer than 5 records it can't be tested; --force installs it "
                    "all the same\n");
    fprintf(to, "took        %.0f s, peak memory %.0f MB\nreport      %s\n", report_real(d, "seconds"),
            (double)report_whole(d, "peak_rss_bytes") / 1e6, report_text(d, "report"));
}
