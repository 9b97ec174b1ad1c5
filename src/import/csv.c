/* csv.c: comma-separated values as RFC 4180 has them, with a header line; quoted fields may hold newlines.
 * Semicolons or tabs separate where the header has them and no comma. Each row becomes the JSON object that
 * its header spells, so that CSV and JSONL mean the same. libcsv is no help here: it bounds neither a field
 * nor a row, and does not say on which line something is wrong. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "import/inside.h"

enum { FIELDS_MAX = 256 };

struct csv {
    FILE *file;
    char separator;        /* 0: not known yet */
    size_t line;           /* of the next byte */
    size_t row_line;       /* where the row began */
    struct bytes text;     /* the row's fields, each with a NUL behind it */
    size_t at[FIELDS_MAX]; /* where each begins */
    size_t n;
    const char *why; /* what is wrong with the row */
};

static void spoil(struct csv *c, const char *why) {
    c->why = c->why ? c->why : why;
}

static void put_char(struct csv *c, int ch) {
    if (ch == '\0') {
        spoil(c, "it holds a NUL byte");
    } else if (c->text.len >= ROW_MAX) {
        spoil(c, "it is longer than 1 MiB");
    } else {
        bytes_putc(&c->text, (char)ch);
    }
}

static void end_field(struct csv *c) {
    if (c->n == FIELDS_MAX) {
        spoil(c, "it has more than 256 fields");
        return;
    }
    bytes_putc(&c->text, '\0');
    c->n++;
    if (c->n < FIELDS_MAX) {
        c->at[c->n] = c->text.len;
    }
}

static int next_char(struct csv *c) {
    int ch = getc_unlocked(c->file);
    c->line += ch == '\n';
    return ch;
}

/* Behind the opening quote, up to and with the closing one. */
static void quoted(struct csv *c) {
    for (int ch; (ch = next_char(c)) != EOF;) {
        if (ch != '"') {
            put_char(c, ch);
            continue;
        }
        ch = next_char(c);
        if (ch != '"') {
            if (ch != EOF) {
                ungetc(ch, c->file);
                c->line -= ch == '\n';
            }
            return;
        }
        put_char(c, '"');
    }
    spoil(c, "a quoted field in it never ends");
}

static bool separates(struct csv *c, int ch) {
    if (!c->separator && (ch == ',' || ch == ';' || ch == '\t')) {
        c->separator = (char)ch; // the header's names hold none of them
    }
    return c->separator && ch == c->separator;
}

/* The next row; false at the end of the file. */
static bool next_row(struct csv *c) {
    bytes_clear(&c->text);
    c->n = 0;
    c->at[0] = 0;
    c->why = NULL;
    c->row_line = c->line;
    bool any = false, was_quoted = false;
    for (int ch; (ch = next_char(c)) != EOF; any = true) {
        size_t len = c->n < FIELDS_MAX ? c->text.len - c->at[c->n] : 0;
        if (ch == '"' && len == 0 && !was_quoted) {
            quoted(c);
            was_quoted = true;
        } else if (separates(c, ch)) {
            end_field(c);
            was_quoted = false;
        } else if (ch == '\n') {
            any = true;
            break;
        } else if (ch == '\r') {
            int after = next_char(c);
            if (after == '\n') {
                any = true;
                break;
            }
            if (after != EOF) {
                ungetc(after, c->file);
            }
            put_char(c, ch);
        } else {
            if (was_quoted || ch == '"') {
                spoil(c, "a quote stands in the middle of a field");
            }
            put_char(c, ch);
        }
    }
    if (any) {
        end_field(c);
    }
    return any;
}

static const char *field(const struct csv *c, size_t i) {
    return c->text.data + c->at[i];
}

/* The row as an object with the header's names. */
static json_t *as_object(const struct csv *c, char *const *names, plm_error *err) {
    json_t *row = json_object();
    for (size_t i = 0; row && i < c->n; i++) {
        if (*names[i] && json_object_set_new(row, names[i], json_string(field(c, i)))) {
            json_decref(row);
            row = NULL;
        }
    }
    if (!row) {
        fail(err, PLM_ENOMEM, "out of memory");
    }
    return row;
}

static plm_status take_row(struct sink *s, const struct csv *c, char *const *names, size_t n_names,
                           plm_error *err) {
    char where[WHERE_MAX], why[96];
    snprintf(where, sizeof where, "line %zu", c->row_line);
    if (c->text.st == PLM_ENOMEM) {
        return fail(err, PLM_ENOMEM, "%s: out of memory", where);
    }
    const char *fault = c->why;
    for (size_t i = 0; !fault && i < c->n; i++) {
        fault = text_fault(field(c, i), strlen(field(c, i)));
    }
    if (!fault && c->n != n_names) {
        snprintf(why, sizeof why, "it has %zu fields, the header has %zu", c->n, n_names);
        fault = why;
    }
    if (fault) {
        sink_skip(s, where, fault);
        return PLM_OK;
    }
    json_t *row = as_object(c, names, err);
    plm_status st = row ? row_take(s, s->kind, row, where, err) : PLM_ENOMEM;
    json_decref(row);
    return st;
}

/* Copies the header's names, lower-cased and trimmed. */
static plm_status take_header(const struct csv *c, const char *path, char **names, size_t *n,
                              plm_error *err) {
    *n = 0;
    if (c->text.st) {
        return bytes_status(&c->text, path, err);
    }
    for (size_t i = 0; i < c->n && !c->why; i++) {
        struct str name = str_trim(str_of(field(c, i)));
        if (text_fault(name.p, name.n)) {
            return fail(err, PLM_EFORMAT, "%s line 1: the header is not UTF-8", path);
        }
        if (!(names[i] = mem_dup(name.n ? name.p : "", name.n))) {
            return fail(err, PLM_ENOMEM, "out of memory");
        }
        (*n)++;
        for (char *p = names[i]; *p; p++) {
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 'a' - 'A' : *p);
        }
        for (size_t j = 0; j < i; j++) {
            if (*names[i] && strcmp(names[i], names[j]) == 0) {
                return fail(err, PLM_EFORMAT, "%s line 1: the header names \"%.60s\" twice", path, names[i]);
            }
        }
    }
    if (c->why) {
        return fail(err, PLM_EFORMAT, "%s line 1: %s", path, c->why);
    }
    return *n > 0 ? PLM_OK : fail(err, PLM_EFORMAT, "%s: the header line is missing", path);
}

plm_status read_csv(struct sink *s, const char *path, plm_error *err) {
    char *names[FIELDS_MAX];
    size_t n_names = 0;
    struct csv *c = mem_zero(1, sizeof *c);
    if (!c) {
        return fail(err, PLM_ENOMEM, "out of memory");
    }
    plm_status fault = PLM_OK;
    bytes_init(&c->text, ROW_MAX + 2 * FIELDS_MAX);
    c->line = 1;
    if (!(c->file = fopen(path, "re"))) {
        fault = fail_errno(err, errno, path);
        goto out;
    }
    int mark[3] = {next_char(c), next_char(c), next_char(c)};
    if (mark[0] != 0xef || mark[1] != 0xbb || mark[2] != 0xbf) {
        rewind(c->file);
        c->line = 1;
    }
    if (next_row(c)) {
        fault = take_header(c, path, names, &n_names, err);
    }
    while (!fault && next_row(c)) {
        bool empty = c->n == 1 && !c->why && !c->text.st && !*field(c, 0);
        fault = empty ? PLM_OK : take_row(s, c, names, n_names, err);
    }
    if (!fault && ferror(c->file)) {
        fault = fail_errno(err, errno, path);
    }
out:
    for (size_t i = 0; i < n_names; i++) {
        mem_free(names[i]);
    }
    if (c->file) {
        fclose(c->file);
    }
    bytes_free(&c->text);
    mem_free(c);
    return fault;
}
