/* fuzz_jsonl_import.c: the same bytes as JSONL, CSV and LaMP questions, read into a sink without a store. */
#include "fuzz.h"

#include <string.h>

#include "import/inside.h"

typedef plm_status (*reader)(struct sink *s, const char *path, plm_error *err);

static void read_with(reader read, const plm_kinds *kinds, const char *kind, const char *path) {
    plm_import_options opt = {.user = "ana", .me = kind ? NULL : "ana"};
    plm_import_report report = {0};
    struct sink s = {
        .kinds = kinds, .kind = plm_kind_find(kinds, kind), .opt = &opt, .source = "fuzz", .report = &report};
    plm_error err = {0};
    plm_status st = read(&s, path, &err);
    PROMISE((st == PLM_OK) == !err.text[0]);
    PROMISE(report.seen == report.added + report.known + report.others + report.skipped);
    PROMISE(!report.skipped || strlen(s.first_bad) < sizeof s.first_bad);
}

int fuzz_jsonl_import(const uint8_t *data, size_t size) {
    static const reader readers[] = {read_jsonl, read_csv, read_lamp};
    plm_kinds *kinds = NULL;
    if (plm_kinds_open(&kinds, NULL, NULL))
        return 0;
    const char *path = fuzz_file(data, size);
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        read_with(readers[i], kinds, NULL, path);
        read_with(readers[i], kinds, i == 2 ? "lamp-4" : "note", path);
    }
    plm_kinds_close(kinds);
    return 0;
}
