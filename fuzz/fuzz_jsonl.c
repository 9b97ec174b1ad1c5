/* fuzz_jsonl.c: a JSONL file: lines one by one, each as JSON, and what was read written and read again. */
#include "fuzz.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"

static void read_line(const char *line, size_t len) {
    json_t *doc = NULL, *again = NULL;
    plm_error err = {0};
    plm_status st = json_parse(&doc, line, len, "line", &err);
    if (st) {
        PROMISE(st == err.code && err.text[0] && utf8_valid(err.text, strlen(err.text), NULL));
        return;
    }
    char *text = NULL;
    json_text(doc, "text");
    st = json_write(doc, &text, &err);
    if (!st) {
        st = json_parse(&again, text, strlen(text), "again", &err);
        PROMISE(st || json_equal(doc, again));
        PROMISE(!st || st == PLM_ENOMEM);
    } else {
        PROMISE(st == PLM_ENOMEM);
    }
    json_decref(again);
    json_decref(doc);
    plm_free(text);
}

int fuzz_jsonl(const uint8_t *data, size_t size) {
    enum { LONGEST = 1 << 20 };
    struct lines *l;
    const char *line;
    size_t len, number, count = 0;
    bool more = true;
    if (lines_open(&l, fuzz_file(data, size), LONGEST, NULL))
        return 0;
    while (!lines_next(l, &line, &len, &number, &more, NULL) && more) {
        PROMISE(number == ++count && (!line || (len <= LONGEST && line[len] == 0)));
        if (line)
            read_line(line, len);
    }
    lines_close(l);
    return 0;
}
