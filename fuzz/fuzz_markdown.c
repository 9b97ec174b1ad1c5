/* fuzz_markdown.c: bytes as a Markdown file, read into a sink without a store. */
#include "fuzz.h"

#include "import/inside.h"

int fuzz_markdown(const uint8_t *data, size_t size) {
    plm_kinds *kinds = NULL;
    if (plm_kinds_open(&kinds, NULL, NULL))
        return 0;
    plm_import_options opt = {.user = "ana", .me = "ana"};
    plm_import_report report = {0};
    struct sink s = {.kinds = kinds,
                     .kind = plm_kind_find(kinds, "note"),
                     .opt = &opt,
                     .source = "fuzz",
                     .report = &report};
    plm_error err = {0};
    plm_status st = read_markdown(&s, fuzz_file(data, size), &err);
    PROMISE((st == PLM_OK) == !err.text[0]);
    PROMISE(report.seen == report.added + report.known + report.others + report.skipped);
    plm_kinds_close(kinds);
    return 0;
}
