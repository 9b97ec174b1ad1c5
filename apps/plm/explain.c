/* explain.c: a report's numbers as reasons: which test the number of records allowed, when learning stopped,
 * what became of the rows that were written, and by how much the winner won. Everything comes from the
 * report. */
#include "explain.h"
#include "report.h"

#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void explain_test(const json_t *d, FILE *to) {
    const json_t *gate = json_object_get(d, "gate");
    long long records = report_whole(d, "records"), held = report_whole(gate, "held_out");
    const char *way = report_text(gate, "way");
    fprintf(to, "%s has %lld %s records. ", report_text(d, "user"), records, report_text(d, "task"));
    if (strncmp(way, "held", 4) == 0)
        fprintf(to,
                "From 20 on, the newest are held back as a test: %lld of them, which nothing was trained on "
                "and no "
                "teacher saw.\n",
                held);
    else if (strncmp(way, "cross", 5) == 0)
        fprintf(to,
                "That is too few to hold some back for good (from 20 on), so each was tested with "
                "adapters that were trained without it, four of a kind, and the better kind was then trained "
                "on all.\n");
    else
        fprintf(to,
                "That is too few to test anything (5 are the least), and an adapter that was not tested is "
                "installed with --force alone.\n");
}

static void explain_learning(const json_t *d, FILE *to) {
    size_t i;
    json_t *a;
    json_array_foreach(json_object_get(d, "arms"), i, a) {
        long long steps = report_whole(a, "steps"), best = report_whole(a, "best_step") + 1,
                  looked = report_whole(a, "validation");
        fprintf(to, "\"%s\" learned from %lld records", report_text(a, "name"), report_whole(a, "real"));
        if (report_whole(a, "synthetic"))
            fprintf(to, " and %lld written ones, which count half", report_whole(a, "synthetic"));
        if (looked && best < steps)
            fprintf(to,
                    ". Every fourth step it looked at %lld records kept aside: it was best at step %lld and "
                    "no better "
                    "up to step %lld, so it stopped and went back. More steps would have cost more than they "
                    "give.\n",
                    looked, best, steps);
        else if (looked)
            fprintf(
                to,
                ". It still got better on the %lld records kept aside when its %lld steps were over; --steps "
                "gives it more.\n",
                looked, steps);
        else
            fprintf(to, ", in %lld steps: the number that was best when it was tested.\n", steps);
    }
}

static void explain_rows(const json_t *d, FILE *to) {
    const json_t *a = json_object_get(d, "augmented");
    const char *rule, *most = "";
    json_t *count;
    long long top = 0;
    if (!json_is_object(a) || strcmp(report_text(a, "teacher"), "none") == 0) {
        fprintf(to, "No teacher wrote anything, so only records were learned from.\n");
        return;
    }
    json_object_foreach(json_object_get(a, "dropped"), rule, count) if (json_integer_value(count) > top) {
        top = (long long)json_integer_value(count);
        most = rule;
    }
    if (!report_whole(a, "written")) {
        fprintf(to, "The teacher had nothing new to write about since the run before.\n");
        return;
    }
    fprintf(to, "The teacher wrote %lld rows and %lld passed the checks.", report_whole(a, "written"),
            report_whole(a, "kept"));
    if (top)
        fprintf(to, " Most of the others (%lld) fell to \"%s\": %s.", top, most,
                strcmp(most, "near") == 0 || strcmp(most, "exact") == 0 ? "they said what was there already"
                : strcmp(most, "device") == 0
                    ? "the model on this machine finds such answers most unlikely for you"
                : strcmp(most, "quota") == 0  ? "there were enough of their sort"
                : strcmp(most, "length") == 0 ? "they are much longer or shorter than yours"
                                              : "they do not have the form of yours");
    fprintf(to, "\n");
}

static const json_t *best_row(const json_t *rows, const char *name) {
    const json_t *found = NULL;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (strcmp(report_text(row, "name"), name) == 0 &&
                                         (!found || report_real(row, "nll") < report_real(found, "nll")))
        found = row;
    return found;
}

/* How often the person gives each label, and what that did. */
static void explain_prior(const json_t *won, const json_t *rows, FILE *to) {
    const json_t *tried = NULL, *without;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (json_object_get(row, "weight") &&
                                         (!tried || report_real(row, "nll") < report_real(tried, "nll")))
        tried = row;
    if (json_object_get(won, "weight"))
        tried = won;
    if (!tried)
        return;
    without = best_row(rows, strncmp(report_text(tried, "name"), "real+syn", 8) == 0 ? "real+syn" : "real");
    if (tried == won)
        fprintf(
            to,
            "How often you give each label is part of its answers: what the adapter says of a text counts "
            "%.0f %%, your habits the rest. Without that it was at %.4f.\n",
            100 * report_real(tried, "weight"), report_real(without, "nll"));
    else
        fprintf(to,
                "Counting how often you give each label did not help (\"%s\" was at %.4f), so it is left "
                "out.\n",
                report_text(tried, "name"), report_real(tried, "nll"));
}

static void explain_choice(const json_t *d, FILE *to) {
    const json_t *gate = json_object_get(d, "gate"), *rows = json_object_get(gate, "rows"), *won = NULL;
    const char *unit = report_text(gate, "unit");
    const json_t *base = best_row(rows, "base"), *alone = best_row(rows, "real"),
                 *both = best_row(rows, "real+syn");
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) if (json_is_true(json_object_get(row, "winner"))) won = row;
    if (!won || !base)
        return;
    double from = report_real(base, "nll"), nll = report_real(won, "nll");
    if (won == base)
        fprintf(to,
                "Nothing beat the model as it is (%.4f %s) by more than a tie, so nothing was "
                "installed: "
                "an adapter that does not help costs time and may hurt.\n",
                from, unit);
    else
        fprintf(to, "\"%s\" at scale %g won: %.4f %s against %.4f of the model as it is, %.0f %% less.\n",
                report_text(won, "name"), report_real(won, "scale"), nll, unit, from, 100 * (1 - nll / from));
    explain_prior(won, rows, to);
    if (alone && both) {
        double gain = 1 - report_real(both, "nll") / report_real(alone, "nll");
        if (fabs(gain) < 0.001)
            fprintf(to, "With the written rows it was as good as without; then it is done without.\n");
        else
            fprintf(to, "The written rows made it %.1f %% %s than records alone (%.4f against %.4f).\n",
                    100 * fabs(gain), gain > 0 ? "better" : "worse", report_real(both, "nll"),
                    report_real(alone, "nll"));
    }
    json_array_foreach(rows, i, row) if (json_is_true(json_object_get(row, "harmful")))
        fprintf(to, "\"%s\" at scale %g was refused: it made the model over 5 %% worse on general text.\n",
                report_text(row, "name"), report_real(row, "scale"));
}

plm_status explain_print(const char *folder, FILE *to, plm_error *err) {
    struct bytes body;
    json_t *d = NULL;
    char *path = path_join(folder, "report.json");
    plm_status st = path ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    bytes_init(&body, 64 << 20);
    if (st == PLM_OK && !file_exists(path))
        st = fail(err, PLM_ENOTFOUND, "there was no run that could be explained");
    if (st == PLM_OK)
        st = file_read(path, 64 << 20, &body, err);
    if (st == PLM_OK)
        st = json_parse(&d, body.data, body.len, path, err);
    if (st == PLM_OK) {
        fprintf(to, "\n");
        explain_test(d, to);
        explain_rows(d, to);
        explain_learning(d, to);
        explain_choice(d, to);
        fprintf(
            to,
            "Rank, rate, weights and steps are those that won on other people's data: docs/evaluation.md.\n");
    }
    json_decref(d);
    bytes_free(&body);
    plm_free(path);
    return st;
}
