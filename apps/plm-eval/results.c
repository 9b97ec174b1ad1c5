/* results.c: results.jsonl read and put in order. What it refuses is in results.h; the numbers' meaning is
 * the business of the report. */
#include "results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum { RESULTS_VERSION = 1, FILE_MOST = 512 << 20, RESULTS_MOST = 4 << 20 };

/* ---- one line ---- */

static bool whole(const json_t *o, const char *key, int *out) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 1000000000)
        return false;
    *out = (int)json_integer_value(v);
    return true;
}

static const char *result_texts(struct result *c) {
    const struct {
        const char *key, **to;
    } texts[] = {{"split", &c->split}, {"student", &c->student}, {"config", &c->config},  {"task", &c->task},
                 {"arm", &c->arm},     {"point", &c->point},     {"teacher", &c->teacher}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!(*texts[i].to = json_text(c->at, texts[i].key)))
            return texts[i].key;
    return NULL;
}

static const char *result_numbers(struct result *c) {
    const json_t *nll = json_object_get(c->at, "nll");
    size_t n = json_array_size(nll);
    if (!whole(c->at, "user", &c->user))
        return "user";
    if (!whole(c->at, "bm25", &c->bm25))
        return "bm25";
    if (!whole(c->at, "seed", &c->seed))
        return "seed";
    if (!whole(c->at, "queries", &c->queries) || c->queries == 0)
        return "queries";
    if ((nll && !json_is_array(nll)) || (n && n != (size_t)c->queries))
        return "nll";
    c->guarded = !json_is_false(json_object_get(c->at, "guarded"));
    c->nll = n ? 0 : NAN;
    for (size_t i = 0; i < n; i++) {
        if (!json_is_number(json_array_get(nll, i)))
            return "nll";
        c->nll += json_number_value(json_array_get(nll, i)) / (double)n;
    }
    return NULL;
}

static plm_status result_read(struct result *c, const char *path, plm_error *err) {
    int version;
    if (!whole(c->at, "v", &version) || version != RESULTS_VERSION)
        return fail(err, PLM_EFORMAT, "%s line %zu: its version \"v\" is not %d", path, c->line,
                    RESULTS_VERSION);
    const char *wrong = result_texts(c);
    if (!wrong)
        wrong = result_numbers(c);
    if (wrong)
        return fail(err, PLM_EFORMAT, "%s line %zu: \"%s\" is missing or not what a result has there", path,
                    c->line, wrong);
    return PLM_OK;
}

/* ---- files ---- */

static plm_status result_add(struct results *r, size_t *room, json_t *at, size_t line, plm_error *err) {
    if (r->n == *room) {
        size_t more = *room ? 2 * *room : 1024;
        struct result *grown = more > RESULTS_MOST ? NULL : mem_grow(r->result, more, sizeof *grown);
        if (!grown)
            return fail(err, PLM_ENOMEM, "out of memory for %zu results", more);
        r->result = grown;
        *room = more;
    }
    r->result[r->n] = (struct result){.at = at, .line = line, .file = (int)r->n_files - 1};
    return result_read(&r->result[r->n++], r->file[r->n_files - 1].path, err);
}

static plm_status read_line(struct results *r, size_t *room, struct str line, bool ended, plm_error *err) {
    struct results_file *f = &r->file[r->n_files - 1];
    json_t *at;
    char what[300];
    snprintf(what, sizeof what, "%.250s line %zu", f->path, f->lines + 1);
    f->lines++;
    if (str_trim(line).n == 0)
        return PLM_OK;
    plm_status st = json_parse(&at, line.p, line.n, what, err);
    if (st == PLM_EFORMAT && !ended) {
        f->torn = true;
        f->lines--;
        if (err)
            *err = (plm_error){0};
        return PLM_OK;
    }
    if (st != PLM_OK)
        return st;
    if (json_array_append_new(r->lines, at))
        return fail(err, PLM_ENOMEM, "out of memory for the results");
    return result_add(r, room, at, f->lines, err);
}

static plm_status read_file(struct results *r, size_t *room, plm_error *err) {
    struct bytes b;
    bytes_init(&b, FILE_MOST);
    plm_status st = file_read(r->file[r->n_files - 1].path, FILE_MOST, &b, err);
    struct str rest = {b.data, b.len}, line;
    while (st == PLM_OK && rest.n) {
        bool ended = memchr(rest.p, '\n', rest.n) != NULL;
        if (!str_cut(&rest, '\n', &line))
            break;
        st = read_line(r, room, line, ended, err);
    }
    bytes_free(&b);
    return st;
}

static plm_status read_path(struct results *r, size_t *room, const char *path, plm_error *err) {
    struct bytes b;
    bytes_init(&b, 8192);
    bytes_puts(&b, path);
    if (dir_exists(path))
        bytes_puts(&b, "/results.jsonl");
    plm_status st = bytes_status(&b, "the name of a results file", err);
    if (st == PLM_OK) {
        r->file[r->n_files++].path = bytes_take(&b);
        st = read_file(r, room, err);
    }
    bytes_free(&b);
    return st;
}

/* ---- order ---- */

static int by_group(const struct result *a, const struct result *b) {
    int c = strcmp(a->split, b->split);
    if (!c)
        c = strcmp(a->student, b->student);
    if (!c)
        c = strcmp(a->config, b->config);
    if (!c)
        c = b->guarded - a->guarded;
    if (!c)
        c = strcmp(a->task, b->task);
    if (!c)
        c = strcmp(a->arm, b->arm);
    if (!c)
        c = a->bm25 - b->bm25;
    return c ? c : strcmp(a->point, b->point);
}

static int by_key(const struct result *a, const struct result *b) {
    int c = by_group(a, b);
    if (!c)
        c = a->user - b->user;
    return c ? c : a->seed - b->seed;
}

static int in_order(const void *a, const void *b) {
    const struct result *x = a, *y = b;
    int c = by_key(x, y);
    if (!c)
        c = x->file - y->file;
    return c ? c : (x->line > y->line) - (x->line < y->line);
}

static bool same_result(const struct result *a, const struct result *b) {
    static const char *const parts[] = {"teacher", "queries", "nll", "metric"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const json_t *x = json_object_get(a->at, parts[i]), *y = json_object_get(b->at, parts[i]);
        if (x != y && !json_equal(x, y))
            return false;
    }
    return true;
}

/* Sorts the results and drops those that say the same again. */
static plm_status settle(struct results *r, plm_error *err) {
    size_t kept = 0;
    if (r->n)
        qsort(r->result, r->n, sizeof *r->result, in_order);
    for (size_t i = 0; i < r->n; i++) {
        const struct result *c = &r->result[i], *last = kept ? &r->result[kept - 1] : NULL;
        if (!last || by_key(last, c) != 0) {
            r->result[kept++] = *c;
            continue;
        }
        if (!same_result(last, c))
            return fail(err, PLM_EFORMAT,
                        "%s line %zu and %s line %zu give different results for user %d of %s under %s",
                        r->file[last->file].path, last->line, r->file[c->file].path, c->line, c->user,
                        c->task, c->arm);
        r->repeated++;
    }
    r->n = kept;
    return PLM_OK;
}

static bool same_section(const struct result *a, const struct result *b) {
    return strcmp(a->split, b->split) == 0 && strcmp(a->student, b->student) == 0 &&
           strcmp(a->config, b->config) == 0 && a->guarded == b->guarded;
}

static plm_status find_groups(struct results *r, plm_error *err) {
    r->group = mem_alloc(r->n, sizeof *r->group);
    r->section = mem_alloc(r->n, sizeof *r->section);
    if (!r->group || !r->section)
        return fail(err, PLM_ENOMEM, "out of memory for %zu results", r->n);
    for (size_t i = 0; i < r->n; i++) {
        const struct result *c = &r->result[i];
        struct group *g = r->n_groups ? &r->group[r->n_groups - 1] : NULL;
        if (!g || by_group(g->result, c) != 0) {
            g = &r->group[r->n_groups++];
            *g = (struct group){c, 0};
            struct section *s = r->n_sections ? &r->section[r->n_sections - 1] : NULL;
            if (!s || !same_section(s->group->result, c)) {
                s = &r->section[r->n_sections++];
                *s = (struct section){g, 0};
            }
            s->n++;
        }
        if (strcmp(g->result->teacher, c->teacher) != 0)
            return fail(
                err, PLM_EFORMAT,
                "%s line %zu: the teacher of %s on %s is %s here and %s elsewhere; report on them apart",
                r->file[c->file].path, c->line, c->arm, c->task, c->teacher, g->result->teacher);
        g->n++;
    }
    return PLM_OK;
}

plm_status results_open(struct results *r, const char *const *paths, size_t n, plm_error *err) {
    size_t room = 0;
    *r = (struct results){.lines = json_array(), .file = mem_zero(n, sizeof *r->file)};
    plm_status st = r->lines && r->file ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory for the results");
    for (size_t i = 0; i < n && st == PLM_OK; i++)
        st = read_path(r, &room, paths[i], err);
    if (st == PLM_OK)
        st = settle(r, err);
    return st == PLM_OK ? find_groups(r, err) : st;
}

void results_close(struct results *r) {
    for (size_t i = 0; i < r->n_files; i++)
        plm_free(r->file[i].path);
    mem_free(r->result);
    mem_free(r->group);
    mem_free(r->section);
    mem_free(r->file);
    json_decref(r->lines);
    *r = (struct results){0};
}

const struct group *results_group(const struct section *s, const char *task, const char *arm, int bm25,
                                  const char *point) {
    for (size_t i = 0; i < s->n; i++) {
        const struct result *c = s->group[i].result;
        if (c->bm25 == bm25 && strcmp(c->arm, arm) == 0 && strcmp(c->task, task) == 0 &&
            strcmp(c->point, point) == 0)
            return &s->group[i];
    }
    return NULL;
}

size_t results_users(const struct group *g, struct user_mean *out) {
    size_t n = 0;
    for (size_t i = 0; i < g->n; i++) {
        const struct result *c = &g->result[i];
        if (!n || out[n - 1].user != c->user)
            out[n++] = (struct user_mean){.user = c->user, .queries = c->queries};
        struct user_mean *m = &out[n - 1];
        m->seeds++;
        m->nll += (c->nll - m->nll) / m->seeds;
        if (c->queries != m->queries)
            m->queries = 0; /* seeds over different queries compare with nothing */
    }
    return n;
}
