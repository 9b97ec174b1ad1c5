/* json_list.c: finds where each element of a list ends by its brackets and quotes, and leaves all else to the
 * JSON parser. */
#include "base/json_list.h"

#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/str.h"

struct json_list {
    FILE *file;
    char *path;
    size_t number;
    struct bytes text;
};

static int skip_blank(FILE *f) {
    int ch;
    do {
        ch = getc_unlocked(f);
    } while (ch == ' ' || ch == '\n' || ch == '\r' || ch == '\t');
    return ch;
}

plm_status json_list_open(struct json_list **out, const char *path, size_t largest, plm_error *err) {
    struct json_list *l = mem_zero(1, sizeof *l);
    if (!l || !(l->path = mem_dupz(path))) {
        mem_free(l);
        return fail(err, PLM_ENOMEM, "out of memory");
    }
    bytes_init(&l->text, largest);
    plm_status st = PLM_OK;
    if (!(l->file = fopen(path, "re"))) {
        st = fail_errno(err, errno, path);
    } else {
        int ch = skip_blank(l->file);
        if (ch == 0xef && getc_unlocked(l->file) == 0xbb && getc_unlocked(l->file) == 0xbf)
            ch = skip_blank(l->file);
        if (ch != '[')
            st = fail(err, PLM_EFORMAT, "%s: such a file is a JSON list", path);
    }
    if (st)
        json_list_close(l);
    else
        *out = l;
    return st;
}

/* The text of the element that starts with ch, up to the comma or bracket behind it. */
static plm_status cut(struct json_list *l, int ch, const char *what, plm_error *err) {
    size_t depth = 0;
    bool quoted = false, escaped = false;
    bytes_clear(&l->text);
    for (; ch != EOF; ch = getc_unlocked(l->file)) {
        if (!quoted && depth == 0 && (ch == ',' || ch == ']')) {
            ungetc(ch, l->file);
            break;
        }
        bytes_putc(&l->text, (char)ch);
        if (quoted) {
            quoted = escaped || ch != '"';
            escaped = !escaped && ch == '\\';
        } else if (ch == '"') {
            quoted = true;
        } else if (ch == '{' || ch == '[') {
            depth++;
        } else if ((ch == '}' || ch == ']') && depth) {
            depth--;
        }
    }
    if (ferror(l->file))
        return fail_errno(err, errno, l->path);
    if (ch == EOF)
        return fail(err, PLM_EFORMAT, "%s ends in the middle of %s %zu", l->path, what, l->number);
    return PLM_OK;
}

plm_status json_list_next(struct json_list *l, const char *what, json_t **element, plm_error *err) {
    char name[80];
    int ch = skip_blank(l->file);
    *element = NULL;
    if (ch == ',' && l->number > 0)
        ch = skip_blank(l->file);
    if (ch == ']') {
        ungetc(ch, l->file); // asked again, it ends again
        return PLM_OK;
    }
    l->number++;
    plm_status st = cut(l, ch, what, err);
    if (st)
        return st;
    snprintf(name, sizeof name, "%.60s %zu", what, l->number);
    st = bytes_status(&l->text, name, err);
    if (st == PLM_OK && !utf8_valid(l->text.data ? l->text.data : "", l->text.len, NULL))
        st = fail(err, PLM_EFORMAT, "%s: %s is not UTF-8", l->path, name);
    if (st == PLM_OK) {
        plm_error bad = {0};
        st = json_parse(element, l->text.data ? l->text.data : "", l->text.len, name, &bad);
        if (st)
            fail(err, st, "%s: %s", l->path, bad.text);
    }
    return st;
}

size_t json_list_number(const struct json_list *l) {
    return l->number;
}

void json_list_close(struct json_list *l) {
    if (!l)
        return;
    if (l->file)
        fclose(l->file);
    bytes_free(&l->text);
    mem_free(l->path);
    mem_free(l);
}
