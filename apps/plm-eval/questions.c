/* questions.c: a list is read element by element and no further than it is wanted, for such files repeat a
 * person's whole history in each element. */
#include "questions.h"

#include "base/json.h"

#include <string.h>

enum { FILE_MOST = 1 << 30 };

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

static plm_status read_list(struct questions *q, struct str rest, size_t most, const char *path,
                            plm_error *err) {
    plm_status st = PLM_OK;
    rest = (struct str){rest.p + 1, rest.n - 1};
    while (st == PLM_OK && q->n < most) {
        rest = str_trim(rest);
        if (q->n && str_starts(rest, ","))
            rest = str_trim((struct str){rest.p + 1, rest.n - 1});
        if (str_starts(rest, "]"))
            break;
        json_error_t why;
        json_t *doc = json_loadb(rest.p, rest.n, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &why);
        if (!doc)
            return fail(err, PLM_EFORMAT, "%s: question %zu is not valid JSON", path, q->n + 1);
        const char *text = json_text(doc, "input");
        st = text ? keep(q, text, strlen(text), path, err)
                  : fail(err, PLM_EFORMAT, "%s: question %zu has no \"input\"", path, q->n + 1);
        rest = (struct str){rest.p + why.position, rest.n - (size_t)why.position};
        json_decref(doc);
    }
    return st;
}

static plm_status read_lines(struct questions *q, struct str rest, size_t most, const char *path,
                             plm_error *err) {
    plm_status st = PLM_OK;
    struct str line;
    while (st == PLM_OK && q->n < most && str_cut(&rest, '\n', &line)) {
        line = str_trim(line);
        if (line.n)
            st = keep(q, line.p, line.n, path, err);
    }
    return st;
}

plm_status questions_read(struct questions *out, const char *path, size_t most, plm_error *err) {
    struct bytes file;
    *out = (struct questions){NULL, 0};
    plm_status st = file_read(path, FILE_MOST, &file, err);
    if (st)
        return st;
    struct str all = str_trim((struct str){file.data ? file.data : "", file.len});
    st = (str_starts(all, "[") ? read_list : read_lines)(out, all, most, path, err);
    if (st == PLM_OK && !out->n)
        st = fail(err, PLM_EFORMAT, "%s holds no question", path);
    if (st)
        questions_free(out);
    bytes_free(&file);
    return st;
}

void questions_free(struct questions *q) {
    for (size_t i = 0; i < q->n; i++)
        mem_free(q->v[i]);
    mem_free(q->v);
    *q = (struct questions){NULL, 0};
}
