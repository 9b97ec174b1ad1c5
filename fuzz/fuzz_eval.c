/* fuzz_eval.c: what plm-eval reads that others may have written. The first byte chooses: 'r' is
 * results.jsonl, read and reported; 'o' is an outputs file, scored against itself; 'k' is what an adapter's
 * file says of label counts. */
#include "fuzz.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "plm-eval/report.h"
#include "plm-eval/score.h"
#include "shared/prior.h"

/* What libfontconfig keeps for the life of a process is no leak of ours. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libfontconfig";
}

static void report(const char *path) {
    struct results r;
    json_t *doc = NULL, *blocks = NULL;
    char *page = NULL;
    plm_error err = {0};
    plm_status st = results_open(&r, &path, 1, &err);
    PROMISE((st == PLM_OK) == !err.text[0] && !strchr(err.text, '\n'));
    if (st == PLM_OK)
        st = report_build(&doc, &r, &err);
    if (st == PLM_OK)
        st = report_blocks(&blocks, doc, &err);
    if (st == PLM_OK)
        st = report_page(blocks, doc, &page, &err);
    PROMISE(st || strstr(page, "</html>"));
    plm_free(page);
    json_decref(blocks);
    json_decref(doc);
    results_close(&r);
}

static void score(const char *path) {
    struct score s;
    plm_error err = {0};
    plm_status st = score_files(&s, NULL, path, path, &err);
    PROMISE((st == PLM_OK) == !err.text[0]);
    /* What is compared with itself is right, but for texts without a word that ROUGE counts. */
    if (st == PLM_OK && s.task->kind == METRIC_LABEL)
        PROMISE(s.value[0] == 1 && !s.unread);
    if (st == PLM_OK && s.task->kind == METRIC_RATING)
        PROMISE(s.value[0] == 0 && s.value[1] == 0);
    if (st == PLM_OK && s.task->kind == METRIC_TEXT)
        PROMISE(s.value[0] >= 0 && s.value[0] <= 1 + 1e-9 && fabs(s.value[0] - s.value[1]) < 1e-9);
}

static void counts(const char *text) {
    static const char *const labels[] = {"1", "2", "3"};
    struct prior p;
    plm_error err = {0};
    double nats[3] = {0.5, 2, 40}, sum = 0;
    plm_status st = prior_read(&p, text, labels, 3, &err);
    PROMISE((st == PLM_OK) == !err.text[0]);
    int top = prior_apply(&p, nats, 3);
    for (int i = 0; i < 3; i++) {
        PROMISE(nats[top] <= nats[i]);
        sum += exp(-nats[i]);
    }
    PROMISE(fabs(sum - 1) < 1e-9);
}

int fuzz_eval(const uint8_t *data, size_t size) {
    char *text = size ? mem_alloc(size, 1) : NULL;
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    const char *path = fuzz_file(data + 1, size - 1);
    if (data[0] == 'r')
        report(path);
    else if (data[0] == 'o')
        score(path);
    else
        counts(text);
    mem_free(text);
    return 0;
}
