/* jsonl.c: one JSON object a line. A bad line is skipped with its number; a line longer than ROW_MAX is never
 * held. */
#include <stdio.h>
#include <string.h>
#include "import/inside.h"

static plm_status take_line(struct sink *s, const char *line, size_t len, const char *where, plm_error *err) {
    const char *why = text_fault(line, len);
    if (why) {
        sink_skip(s, where, why);
        return PLM_OK;
    }
    json_t *row = NULL;
    plm_error bad = {0};
    plm_status fault = json_parse(&row, line, len, "the line", &bad);
    if (fault == PLM_ENOMEM) {
        return fail(err, fault, "%s: %s", where, bad.text);
    }
    if (fault) {
        sink_skip(s, where, bad.text);
        return PLM_OK;
    }
    if (json_is_object(row)) {
        fault = row_take(s, s->kind, row, where, err);
    } else {
        sink_skip(s, where, "it is not a JSON object");
    }
    json_decref(row);
    return fault;
}

plm_status read_jsonl(struct sink *s, const char *path, plm_error *err) {
    struct lines *lines = NULL;
    plm_status fault = lines_open(&lines, path, ROW_MAX, err);
    const char *line;
    size_t len, number;
    bool more = true;
    while (!fault && !(fault = lines_next(lines, &line, &len, &number, &more, err)) && more) {
        char where[WHERE_MAX];
        snprintf(where, sizeof where, "line %zu", number);
        if (!line) {
            sink_skip(s, where, "it is longer than 1 MiB");
            continue;
        }
        if (number == 1 && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
            line += 3;
            len -= 3;
        }
        if (str_trim((struct str){line, len}).n > 0) {
            fault = take_line(s, line, len, where, err);
        }
    }
    lines_close(lines);
    return fault;
}
