/* cmd_report.c: `plm-eval report RUN...`: what the results of one or several runs say. */
#include "args.h"
#include "report.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

static plm_status write_page(const char *path, const json_t *blocks, const json_t *doc, plm_error *err) {
    char *html = NULL;
    plm_status st = report_page(blocks, doc, &html, err);
    if (st == PLM_OK)
        st = file_replace(path, html, strlen(html), err);
    plm_free(html);
    return st;
}

static plm_status report_run(const struct args *a, plm_error *err) {
    struct results r;
    json_t *doc = NULL, *blocks = NULL;
    plm_status st = results_open(&r, a->rest, (size_t)a->n_rest, err);
    if (st == PLM_OK && r.n == 0)
        st = fail(err, PLM_EFORMAT, "%s: there are no results yet", a->rest[0]);
    if (st == PLM_OK)
        st = report_build(&doc, &r, err);
    results_close(&r);
    if (st == PLM_OK)
        st = report_blocks(&blocks, doc, err);
    if (st == PLM_OK && a->html)
        st = write_page(a->html, blocks, doc, err);
    if (st == PLM_OK && a->svg)
        st = report_plots(blocks, doc, a->svg, err);
    if (st == PLM_OK && a->json) {
        json_dumpf(doc, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else if (st == PLM_OK)
        report_print(blocks, stdout);
    json_decref(blocks);
    json_decref(doc);
    return st;
}

int cmd_report(struct args *a) {
    plm_error err = {0};
    if (!a->n_rest)
        return eval_misuse("report", "it takes run folders, or their results.jsonl");
    return report_run(a, &err) == PLM_OK ? EXIT_DONE : eval_fail(&err);
}
