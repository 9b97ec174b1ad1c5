/* cmd_latency.c: `plm-eval latency`: how long answers take here and from a server. */
#include "args.h"
#include "latency.h"

#include <math.h>
#include <stdio.h>

static const char *const where_names[] = {"device", "direct", "network"};

static void put_cell(double ms) {
    if (isnan(ms))
        printf(" %9s", "-");
    else
        printf(" %9.0f", ms);
}

static void print_row(const struct latency *l, const struct row *r, const struct figures *f) {
    printf("%-24s", r->name);
    put_cell(f->first[0]);
    put_cell(f->first[1]);
    put_cell(f->whole[0]);
    put_cell(f->whole[1]);
    put_cell(f->added);
    printf(isnan(f->pieces) ? "       -" : " %7.1f", f->pieces);
    printf("  %zu of %zu", f->answered, l->q.n);
    for (int k = REFUSED; k < OUTCOMES; k++)
        if (f->outcome[k])
            printf(", %zu %s", f->outcome[k], outcome_names[k]);
    if (r->net.stalls > 0)
        printf(", %zu stalled", r->stalled);
    putchar('\n');
}

static plm_status print_table(const struct latency *l, plm_error *err) {
    plm_status st = PLM_OK;
    printf("%zu questions, at most %d tokens an answer; milliseconds\n", l->q.n, l->max_tokens);
    printf("%-24s %19s %19s %9s\n", "", "to the first token", "to the whole answer", "network");
    printf("%-24s %9s %9s %9s %9s %9s %7s  %s\n", "", "p50", "p95", "p50", "p95", "adds", "tokens",
           "answered");
    for (size_t k = 0; st == PLM_OK && k < l->n_rows; k++) {
        struct figures f;
        st = figures_of(l, &l->row[k], &f, err);
        if (st == PLM_OK)
            print_row(l, &l->row[k], &f);
    }
    return st;
}

static void json_number(struct bytes *b, double x) {
    if (isnan(x))
        bytes_puts(b, "null");
    else
        bytes_printf(b, "%.1f", x);
}

static void json_pair(struct bytes *b, const char *name, const double v[2]) {
    bytes_printf(b, ",\"%s\":{\"p50\":", name);
    json_number(b, v[0]);
    bytes_puts(b, ",\"p95\":");
    json_number(b, v[1]);
    bytes_puts(b, "}");
}

static void json_row(const struct latency *l, const struct row *r, const struct figures *f, struct bytes *b) {
    bytes_printf(b, "{\"where\":\"%s\",\"rtt_ms\":%.1f,\"stall_percent\":%g,\"outage\":%zu",
                 where_names[r->where], r->net.round_trip * 1e3, r->net.stalls * 100, r->out_n);
    bytes_printf(b, ",\"asked\":%zu,\"answered\":%zu,\"success\":%.4f,\"stalled\":%zu,\"failed\":{", l->q.n,
                 f->answered, (double)f->answered / (double)l->q.n, r->stalled);
    for (int k = REFUSED; k < OUTCOMES; k++)
        bytes_printf(b, "%s\"%s\":%zu", k > REFUSED ? "," : "", outcome_names[k], f->outcome[k]);
    bytes_puts(b, "}");
    json_pair(b, "first_ms", f->first);
    json_pair(b, "answer_ms", f->whole);
    bytes_puts(b, ",\"added_ms\":");
    json_number(b, f->added);
    bytes_puts(b, ",\"tokens\":");
    json_number(b, f->pieces);
    bytes_puts(b, ",\"each\":[");
    for (size_t i = 0; i < l->q.n; i++) {
        bytes_puts(b, i ? ",[" : "[");
        json_number(b, r->each[i].first * 1e3);
        bytes_puts(b, ",");
        json_number(b, r->each[i].whole * 1e3);
        bytes_puts(b, "]");
    }
    bytes_puts(b, "]}");
}

static plm_status print_json(const struct latency *l, plm_error *err) {
    plm_status st = PLM_OK;
    struct bytes b;
    bytes_init(&b, 64 << 20);
    bytes_printf(
        &b, "{\"questions\":%zu,\"max_tokens\":%d,\"seed\":%llu,\"stall_s\":%g,\"timeout_s\":%g,\"load_s\":",
        l->q.n, l->max_tokens, (unsigned long long)l->seed, l->stall, l->timeout);
    bytes_printf(&b, "%.2f,\"rows\":[", l->load_s);
    for (size_t k = 0; st == PLM_OK && k < l->n_rows; k++) {
        struct figures f;
        st = figures_of(l, &l->row[k], &f, err);
        bytes_puts(&b, k ? "," : "");
        if (st == PLM_OK)
            json_row(l, &l->row[k], &f, &b);
    }
    bytes_puts(&b, "]}");
    if (st == PLM_OK)
        st = bytes_status(&b, "the result", err);
    if (st == PLM_OK)
        puts(b.data);
    bytes_free(&b);
    return st;
}

static void tell_failures(const struct latency *l) {
    for (size_t k = 0; k < l->n_rows; k++)
        for (size_t i = 0; i < l->q.n; i++)
            if (l->row[k].each[i].outcome > REFUSED)
                fprintf(stderr, "question %zu,%s: %s\n", i + 1, l->row[k].name, l->row[k].each[i].why);
}

int cmd_latency(struct args *a) {
    struct latency l = {.model = a->model,
                        .cpu = a->cpu,
                        .adapter = a->adapter,
                        .endpoint_url = a->endpoint,
                        .endpoint_model = a->endpoint_model,
                        .key_file = a->teacher_key_file,
                        .ca_file = a->endpoint_ca,
                        .threads = a->threads,
                        .seed = a->seed,
                        .quiet = a->quiet,
                        .rtt = a->rtt,
                        .max_tokens = a->max_tokens ? a->max_tokens : 64,
                        .stall = a->stall > 0 ? a->stall : 8,
                        .stalls = a->stalls > 0 ? a->stalls : 2,
                        .timeout = a->timeout > 0 ? a->timeout : 20};
    plm_error err = {0};
    if (!a->questions || !(a->model || a->endpoint) || a->n_rest)
        return eval_misuse("latency", "it takes --questions FILE, and --model FILE, --endpoint URL or both");
    if (l.max_tokens < 1 || l.stalls > 100 || a->limit < 0)
        return eval_misuse("latency", "--max-tokens and --limit are counts, --stalls a percentage");
    plm_status st = questions_read(&l.q, a->questions, a->limit ? (size_t)a->limit : 20, &err);
    if (st == PLM_OK)
        st = latency_run(&l, &err);
    if (st == PLM_OK && !a->quiet)
        tell_failures(&l);
    if (st == PLM_OK)
        st = (a->json ? print_json : print_table)(&l, &err);
    latency_close(&l);
    return st ? eval_fail(&err) : EXIT_DONE;
}
