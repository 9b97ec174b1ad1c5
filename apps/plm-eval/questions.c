/* questions.c: no more of a file is read than is wanted. */
#include "questions.h"

#include "base/json.h"
#include "base/json_list.h"

#include <string.h>

enum { ELEMENT_MOST = 64 << 20, LINE_MOST = 1 << 20 };

static plm_status keep(struct questions *q, const char *text, size_t len, const char *path, plm_error *err) {
    if (!utf8_valid(text, len, NULL) || memchr(text, 0, len))
        return fail(err, PLM_EFORMAT, "%s: question %zu is not UTF-8 text", path, q->n + 1);
    char **longer = mem_grow(q->v, q->n + 1, sizeof *q->v);
    if (longer)
        q->v = longer;
    if (!longer || !(q->v[q->n] = mem_dup(text, len)))
        return fail(err, PLM_ENOMEM, "out of memory");
    q->n++;
    return PLM_OK;
}

static plm_status read_list(struct questions *q, const char *path, size_t most, plm_error *err) {
    struct json_list *list = NULL;
    json_t *element = NULL;
    plm_status st = json_list_open(&list, path, ELEMENT_MOST, err);
    while (st == PLM_OK && q->n < most) {
        st = json_list_next(list, "question", &element, err);
        if (st || !element)
            break;
        const char *text = json_text(element, "input");
        st = text ? keep(q, text, strlen(text), path, err)
                  : fail(err, PLM_EFORMAT, "%s: question %zu has no \"input\"", path, q->n + 1);
        json_decref(element);
    }
    json_list_close(list);
    return st;
}

/* *is_list: the file's first line that is not blank starts a JSON list; none of it is a question then. */
static plm_status read_lines(struct questions *q, const char *path, size_t most, bool *is_list,
                             plm_error *err) {
    struct lines *lines = NULL;
    const char *line = NULL;
    size_t len = 0, number = 0;
    bool more = true;
    plm_status st = lines_open(&lines, path, LINE_MOST, err);
    *is_list = false;
    while (st == PLM_OK && q->n < most && !*is_list) {
        st = lines_next(lines, &line, &len, &number, &more, err);
        if (st || !more)
            break;
        struct str text = line ? str_trim((struct str){line, len}) : STR("[");
        if (!q->n && (str_starts(text, "[") || str_starts(text, "\xef\xbb\xbf[")))
            *is_list = true;
        else if (!line)
            st = fail(err, PLM_ELIMIT, "%s: line %zu is too long for a question", path, number);
        else if (text.n)
            st = keep(q, text.p, text.n, path, err);
    }
    lines_close(lines);
    return st;
}

plm_status questions_read(struct questions *out, const char *path, size_t most, plm_error *err) {
    bool is_list = false;
    *out = (struct questions){NULL, 0};
    plm_status st = read_lines(out, path, most, &is_list, err);
    if (st == PLM_OK && is_list)
        st = read_list(out, path, most, err);
    if (st == PLM_OK && !out->n)
        st = fail(err, PLM_EFORMAT, "%s holds no question", path);
    if (st)
        questions_free(out);
    return st;
}

void questions_free(struct questions *q) {
    for (size_t i = 0; i < q->n; i++)
        mem_free(q->v[i]);
    mem_free(q->v);
    *q = (struct questions){NULL, 0};
}
