/* markdown.c: notes from a Markdown file or a folder of them. A note is a title and the text under it: the
 * title in the front matter with the whole body, or each first-level heading with what follows it. Links in a
 * folder are not followed, and hidden folders are left alone. */
#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "import/inside.h"

enum { FILES_MAX = 100000 };

struct note {
    const char *file;
    struct str title, author;
    int64_t when;
    size_t line; /* of its title */
};

/* Cuts a line with its end off *rest. */
static struct str cut_line(struct str *rest) {
    struct str line = *rest;
    const char *end = memchr(rest->p, '\n', rest->n);
    line.n = end ? (size_t)(end - rest->p) : rest->n;
    size_t used = line.n + (end != NULL);
    rest->p += used;
    rest->n -= used;
    if (line.n && line.p[line.n - 1] == '\r') {
        line.n--;
    }
    return line;
}

/* "title: x" or title: 'x': the x of the key, untouched where the line has another key. */
static void take_key(struct str line, const char *key, struct str *value) {
    size_t n = strlen(key);
    if (line.n <= n || strncasecmp(line.p, key, n) != 0 || line.p[n] != ':') {
        return;
    }
    struct str v = str_trim((struct str){line.p + n + 1, line.n - n - 1});
    if (v.n >= 2 && (v.p[0] == '"' || v.p[0] == '\'') && v.p[v.n - 1] == v.p[0]) {
        v = (struct str){v.p + 1, v.n - 2};
    }
    *value = v;
}

/* Front matter between two lines of ---. Without a second one it is no front matter. */
static void take_front(struct str *rest, size_t *line, struct note *note) {
    struct str after = *rest, date = {0}, title = {0}, author = {0};
    size_t lines = 1;
    if (!str_eq(cut_line(&after), "---")) {
        return;
    }
    while (after.n) {
        struct str l = cut_line(&after);
        lines++;
        if (str_eq(l, "---") || str_eq(l, "...")) {
            char text[40];
            if (date.n && date.n < sizeof text) {
                memcpy(text, date.p, date.n);
                text[date.n] = '\0';
                note->when = when_of(text);
            }
            note->title = title;
            note->author = author;
            *rest = after;
            *line += lines;
            return;
        }
        take_key(l, "title", &title);
        take_key(l, "date", &date);
        take_key(l, "author", &author);
    }
}

/* The text of a line like "# Title #"; empty: not one. */
static struct str heading(struct str line) {
    if (line.n < 3 || line.p[0] != '#' || (line.p[1] != ' ' && line.p[1] != '\t')) {
        return (struct str){0};
    }
    struct str title = str_trim((struct str){line.p + 1, line.n - 1});
    size_t n = title.n;
    while (n && title.p[n - 1] == '#') {
        n--;
    }
    if (n < title.n && n > 0 && title.p[n - 1] == ' ') {
        title.n = n;
    }
    return str_trim(title);
}

static bool fence(struct str line) {
    line = str_trim(line);
    return str_starts(line, "```") || str_starts(line, "~~~");
}

static plm_status take_note(struct sink *s, const struct note *note, struct str body, plm_error *err) {
    char where[WHERE_MAX];
    plm_status fault = PLM_OK;
    snprintf(where, sizeof where, "%.400s line %zu", note->file, note->line);
    body = str_trim(body);
    char *title = mem_dup(note->title.p, note->title.n), *text = mem_dup(body.n ? body.p : "", body.n);
    char *author = note->author.n ? mem_dup(note->author.p, note->author.n) : NULL;
    if (!title || !text || (note->author.n && !author)) {
        fault = fail(err, PLM_ENOMEM, "out of memory");
    } else if (!sink_is_me(s, author)) {
        sink_other(s);
    } else {
        plm_record r = {.when = note->when, .input = text, .output = title, .source = note->file};
        fault = sink_take(s, s->kind, &r, where, err);
    }
    mem_free(title);
    mem_free(text);
    mem_free(author);
    return fault;
}

/* A file without a title of its own: each first-level heading begins a note. */
static plm_status take_sections(struct sink *s, struct note *note, struct str rest, size_t line,
                                plm_error *err) {
    const char *from = rest.p;
    bool fenced = false, begun = false;
    plm_status fault = PLM_OK;
    while (rest.n && !fault) {
        const char *at = rest.p;
        struct str l = cut_line(&rest);
        fenced ^= fence(l);
        struct str title = fenced ? (struct str){0} : heading(l);
        if (title.n) {
            struct str before = {from, (size_t)(at - from)};
            if (begun) {
                fault = take_note(s, note, before, err);
            } else if (str_trim(before).n) {
                char where[WHERE_MAX];
                snprintf(where, sizeof where, "%.400s line %zu", note->file, note->line);
                sink_skip(s, where, "there is text before the first heading");
            }
            note->title = title;
            note->line = line;
            from = rest.p;
            begun = true;
        }
        line++;
    }
    if (fault) {
        return fault;
    }
    if (!begun) {
        sink_skip(s, note->file, "it has neither a title in front matter nor a first-level heading");
        return PLM_OK;
    }
    return take_note(s, note, (struct str){from, (size_t)(rest.p - from)}, err);
}

static plm_status take_file(struct sink *s, const char *path, plm_error *err) {
    struct bytes text;
    plm_error bad = {0};
    bytes_init(&text, ROW_MAX);
    plm_status fault = file_read(path, ROW_MAX, &text, &bad);
    struct str rest = {text.data, text.len};
    const char *why = fault ? bad.text : text_fault(rest.p ? rest.p : "", rest.n);
    if (fault == PLM_ENOMEM) {
        fail(err, fault, "%s", bad.text);
    } else if (why) {
        sink_skip(s, path, why);
        fault = PLM_OK;
    } else if (str_trim(rest).n > 0) {
        struct note note = {.file = path, .line = 1};
        size_t line = 1;
        if (str_starts(rest, "\xef\xbb\xbf")) {
            rest.p += 3;
            rest.n -= 3;
        }
        take_front(&rest, &line, &note);
        if (note.title.n) {
            // The same title once more as a heading is not part of the text.
            struct str body = str_trim(rest), after = body, first = cut_line(&after), again = heading(first);
            bool same = again.n == note.title.n && memcmp(again.p, note.title.p, again.n) == 0;
            fault = take_note(s, &note, same ? after : body, err);
        } else {
            note.line = line;
            fault = take_sections(s, &note, rest, line, err);
        }
    }
    bytes_free(&text);
    return fault;
}

static bool is_markdown(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && (strcasecmp(dot, ".md") == 0 || strcasecmp(dot, ".markdown") == 0);
}

static int by_name(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static plm_status take_folder(struct sink *s, const char *path, plm_error *err) {
    char *copy = mem_dupz(path);
    char *roots[] = {copy, NULL};
    FTS *walk = copy ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_NOSTAT, by_name) : NULL;
    plm_status fault =
        copy ? walk ? PLM_OK : fail_errno(err, errno, path) : fail(err, PLM_ENOMEM, "out of memory");
    size_t files = 0;
    for (FTSENT *e; !fault && (e = fts_read(walk));) {
        if (e->fts_info == FTS_D && e->fts_level > 0 && e->fts_name[0] == '.') {
            fts_set(walk, e, FTS_SKIP);
        } else if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR) {
            sink_skip(s, e->fts_path, strerror(e->fts_errno));
        } else if (e->fts_info == FTS_F || e->fts_info == FTS_NSOK) {
            if (is_markdown(e->fts_name)) {
                fault = ++files > FILES_MAX
                            ? fail(err, PLM_ELIMIT, "%s holds more than %d files", path, FILES_MAX)
                            : take_file(s, e->fts_path, err);
            }
        }
    }
    if (walk) {
        fts_close(walk);
    }
    mem_free(copy);
    return fault;
}

plm_status read_markdown(struct sink *s, const char *path, plm_error *err) {
    return dir_exists(path) ? take_folder(s, path, err) : take_file(s, path, err);
}
