/* report_text.c: the blocks of a report on a terminal. */
#include <string.h>

#include "base/str.h"
#include "report.h"

enum { WIDTH = 100, COLUMNS = 64 };

static size_t characters(const char *s) {
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void pad(FILE *to, size_t n) {
    while (n--)
        fputc(' ', to);
}

static void print_row(FILE *to, const json_t *row, const size_t *width) {
    size_t i;
    json_t *cell;
    json_array_foreach(row, i, cell) {
        const char *s = json_string_value(cell);
        if (i)
            pad(to, 2 + width[i] - characters(s));
        fputs(s, to);
        if (i == 0)
            pad(to, width[0] - characters(s));
    }
    fputc('\n', to);
}

static void measure(size_t *width, const json_t *row) {
    size_t i;
    json_t *cell;
    json_array_foreach(row, i, cell) if (i < COLUMNS && characters(json_string_value(cell)) > width[i])
        width[i] = characters(json_string_value(cell));
}

static void print_table(FILE *to, const json_t *head, const json_t *rows) {
    size_t width[COLUMNS] = {0}, i;
    json_t *row;
    measure(width, head);
    json_array_foreach(rows, i, row) measure(width, row);
    print_row(to, head, width);
    json_array_foreach(rows, i, row) print_row(to, row, width);
    fputc('\n', to);
}

static void print_text(FILE *to, const char *text) {
    struct str rest = str_of(text), word;
    size_t at = 0;
    while (str_cut(&rest, ' ', &word)) {
        if (at && at + 1 + word.n > WIDTH) {
            fputc('\n', to);
            at = 0;
        }
        at += (size_t)fprintf(to, "%s%.*s", at ? " " : "", (int)word.n, word.p);
    }
    fputs("\n", to);
}

static void print_heading(FILE *to, const char *text, char under) {
    fprintf(to, "\n%s\n", text);
    for (size_t n = characters(text); n; n--)
        fputc(under, to);
    fputc('\n', to);
}

void report_print(const json_t *blocks, FILE *to) {
    size_t i;
    json_t *b;
    json_array_foreach(blocks, i, b) {
        if (json_is_true(json_object_get(b, "more")))
            continue;
        if (json_object_get(b, "title"))
            print_heading(to, json_string_value(json_object_get(b, "title")), '=');
        else if (json_object_get(b, "h"))
            print_heading(to, json_string_value(json_object_get(b, "h")), '-');
        else if (json_object_get(b, "p"))
            print_text(to, json_string_value(json_object_get(b, "p")));
        else if (json_object_get(b, "head"))
            print_table(to, json_object_get(b, "head"), json_object_get(b, "rows"));
    }
}
