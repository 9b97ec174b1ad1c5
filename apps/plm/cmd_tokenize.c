/* cmd_tokenize.c: text on stdin to ids, or ids to text. The bytes are taken as they are and no BOS is added.
 */
#include "app.h"

#include <stdio.h>

enum { MAX_TEXT = 256 << 20 };

static plm_status encode_all(const plm_model *m, const struct bytes *text, bool special, int32_t **ids,
                             size_t *n, plm_error *err) {
    plm_status st = plm_encode(m, text->data ? text->data : "", text->len, special, NULL, 0, n, err);
    if (st && st != PLM_ELIMIT)
        return st;
    *ids = mem_alloc(*n ? *n : 1, sizeof **ids);
    if (!*ids)
        return fail(err, PLM_ENOMEM, "out of memory");
    return plm_encode(m, text->data ? text->data : "", text->len, special, *ids, *n, n, err);
}

static void print_ids(const int32_t *ids, size_t n, bool json) {
    if (json)
        putchar('[');
    for (size_t i = 0; i < n; i++)
        printf(json ? (i ? ",%d" : "%d") : (i ? " %d" : "%d"), ids[i]);
    fputs(json ? "]\n" : "\n", stdout);
}

static plm_status read_ids(const struct bytes *text, int32_t **ids, size_t *n, plm_error *err) {
    *ids = mem_alloc(text->len / 2 + 1, sizeof **ids);
    *n = 0;
    if (!*ids)
        return fail(err, PLM_ENOMEM, "out of memory");
    size_t i = 0;
    while (i < text->len) {
        size_t from = i;
        while (i < text->len && ((text->data[i] >= '0' && text->data[i] <= '9') || text->data[i] == '-'))
            i++;
        int64_t id;
        if (i > from) {
            if (!parse_i64((struct str){text->data + from, i - from}, &id) || id < 0 || id > INT32_MAX)
                return fail(err, PLM_EFORMAT, "standard input: byte %zu starts no token id", from);
            (*ids)[(*n)++] = (int32_t)id;
            continue;
        }
        char c = text->data[i++];
        if (c != ' ' && c != ',' && c != '[' && c != ']' && c != '\n' && c != '\r' && c != '\t')
            return fail(err, PLM_EFORMAT, "standard input: byte %zu is not part of a list of ids", i - 1);
    }
    return PLM_OK;
}

static plm_status decode_all(const plm_model *m, const int32_t *ids, size_t n, bool special, plm_error *err) {
    size_t len = 0;
    plm_status st = plm_decode(m, ids, n, special, NULL, 0, &len, err);
    if (st && st != PLM_ELIMIT)
        return st;
    char *text = mem_alloc(len + 1, 1);
    if (!text)
        return fail(err, PLM_ENOMEM, "out of memory");
    st = plm_decode(m, ids, n, special, text, len, &len, err);
    if (st == PLM_OK)
        fwrite(text, 1, len, stdout);
    mem_free(text);
    return st;
}

int cmd_tokenize(struct args *a) {
    plm_error err = {0};
    plm_model *m = NULL;
    struct bytes text;
    int32_t *ids = NULL;
    size_t n = 0;
    plm_status st = app_read("-", MAX_TEXT, &text, &err);
    if (st == PLM_OK)
        st = app_model(&m, a, &err);
    if (st == PLM_OK && a->decode_ids) {
        st = read_ids(&text, &ids, &n, &err);
        if (st == PLM_OK)
            st = decode_all(m, ids, n, a->special, &err);
    } else if (st == PLM_OK) {
        st = encode_all(m, &text, a->special, &ids, &n, &err);
        if (st == PLM_OK)
            print_ids(ids, n, a->json);
    }
    mem_free(ids);
    bytes_free(&text);
    plm_model_close(m);
    return st ? app_fail(&err) : EXIT_DONE;
}
