/* recipe.c: one table of names, defaults and places; reading, refusing and hashing go by it. */
#include "recipe.h"

#include "base/hash.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct entry {
    const char *group, *name; /* group NULL: at the top */
    bool whole;
    size_t at;
    double normal, least, most;
};

#define AT(field) offsetof(struct recipe, field)
static const struct entry entries[] = {
    {NULL, "rank", true, AT(rank), 8, 1, 256},
    {NULL, "layers", true, AT(layers), 0, 0, 1000},
    {NULL, "task_examples", true, AT(task_examples), 480, 1, 1000000},
    {NULL, "task_batch", true, AT(task_batch), 8, 1, 256},
    {NULL, "task_epochs", true, AT(task_epochs), 1, 1, 100},
    {NULL, "task_rate", false, AT(task_rate), 5e-4, 1e-7, 1},
    {NULL, "synthetic_weight", false, AT(synthetic_weight), .5, .001, 10},
    {NULL, "real_last", false, AT(real_last), .2, 0, 1},
    {NULL, "dropout", false, AT(dropout), .15, 0, .9},
    {NULL, "donors", true, AT(donors), 5, 1, 100},
    {NULL, "history_tokens", true, AT(history_tokens), 512, 32, 4096},
    {"user", "rate", false, AT(user.rate), 3e-4, 1e-7, 1},
    {"user", "scale", false, AT(user.scale), 1, 0, 1},
    {"user", "epochs", true, AT(user.epochs), 3, 1, 1000},
    {"user", "batch", true, AT(user.batch), 4, 1, 256},
    {"user", "least_steps", true, AT(user.least_steps), 15, 1, 10000},
    {"user", "most_steps", true, AT(user.most_steps), 40, 1, 10000},
    {"best", "rate", false, AT(best.rate), 3e-4, 1e-7, 1},
    {"best", "scale", false, AT(best.scale), 1, 0, 1},
    {"best", "epochs", true, AT(best.epochs), 3, 1, 1000},
    {"best", "batch", true, AT(best.batch), 4, 1, 256},
    {"best", "least_steps", true, AT(best.least_steps), 15, 1, 10000},
    {"best", "most_steps", true, AT(best.most_steps), 40, 1, 10000},
};
enum { ENTRIES = sizeof entries / sizeof *entries };

static void put(struct recipe *r, const struct entry *e, double value) {
    if (e->whole)
        *(int *)((char *)r + e->at) = (int)value;
    else
        *(double *)((char *)r + e->at) = value;
}

static double value_of(const struct recipe *r, const struct entry *e) {
    return e->whole ? *(const int *)((const char *)r + e->at) : *(const double *)((const char *)r + e->at);
}

static plm_status read_group(struct recipe *r, const char *group, const json_t *object, plm_error *err) {
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)object, name, v) {
        const struct entry *e = NULL;
        for (size_t i = 0; i < ENTRIES && !e; i++) {
            bool here = group ? entries[i].group && strcmp(entries[i].group, group) == 0 : !entries[i].group;
            if (here && strcmp(entries[i].name, name) == 0)
                e = &entries[i];
        }
        if (!group && json_is_object(v)) {
            if (strcmp(name, "user") != 0 && strcmp(name, "best") != 0)
                return fail(err, PLM_EFORMAT, "the recipe has no part \"%.40s\"", name);
            plm_status st = read_group(r, name, v, err);
            if (st)
                return st;
            continue;
        }
        double value = json_number_value(v);
        if (!e)
            return fail(err, PLM_EFORMAT, "the recipe has no setting \"%.40s\"", name);
        if (!json_is_number(v) || !(value >= e->least && value <= e->most) ||
            (e->whole && value != floor(value)))
            return fail(err, PLM_EFORMAT, "the recipe's %.40s is %s from %g to %g", name,
                        e->whole ? "a whole number" : "a number", e->least, e->most);
        put(r, e, value);
    }
    return PLM_OK;
}

static void hash_recipe(struct recipe *r) {
    struct sha256 h;
    char line[160], hex[65];
    sha256_start(&h);
    for (size_t i = 0; i < ENTRIES; i++) {
        snprintf(line, sizeof line, "%s.%s=%.9g\n", entries[i].group ? entries[i].group : "", entries[i].name,
                 value_of(r, &entries[i]));
        sha256_add(&h, line, strlen(line));
    }
    sha256_hex(&h, hex);
    memcpy(r->hash, hex, 16);
    r->hash[16] = 0;
}

plm_status recipe_read(struct recipe *out, const char *path, plm_error *err) {
    json_t *doc = NULL;
    struct bytes text;
    plm_status st = PLM_OK;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < ENTRIES; i++)
        put(out, &entries[i], entries[i].normal);
    bytes_init(&text, 1 << 20);
    if (path) {
        st = file_read(path, 1 << 20, &text, err);
        if (st == PLM_OK)
            st = json_parse(&doc, text.data, text.len, path, err);
        if (st == PLM_OK && !json_is_object(doc))
            st = fail(err, PLM_EFORMAT, "%s: a recipe is a JSON object", path);
        if (st == PLM_OK)
            st = read_group(out, NULL, doc, err);
    }
    hash_recipe(out);
    json_decref(doc);
    bytes_free(&text);
    return st;
}

int tuning_steps(const struct tuning *t, size_t n) {
    size_t steps = ((size_t)t->epochs * n + (size_t)t->batch - 1) / (size_t)t->batch;
    return steps < (size_t)t->least_steps  ? t->least_steps
           : steps > (size_t)t->most_steps ? t->most_steps
                                           : (int)steps;
}
