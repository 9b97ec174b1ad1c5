/* plm-golden: checks the engine against a folder of reference values made with other implementations.
 * It finds each model by its sha256, reports a line a check, and passes only if all did. */
#include "golden.h"
#include "base/hash.h"
#include "tensor/tensor.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MODELS = 32 };

struct known {                  /* a model that the folder has values for */
    char *name, *sha256, *path; /* path NULL: not found */
    bool required;
};

static const char usage[] =
    "usage: plm-golden [--cpu NAME] [--require NAME,...] MODEL_DIR GOLDEN_DIR [--json]\n"
    "example: plm-golden --cpu ref ~/.cache/plm/models ../shared/golden\n"
    "Exit 0: all checks passed, at least one ran, and the required models were there.\n";

/* ---- what the checks use ---- */

void report(struct golden *g, const char *check, double worst, double limit, bool pass) {
    g->ran++;
    if (!pass)
        g->failed++;
    if (g->json) {
        json_t *line =
            json_pack("{s:s, s:s, s:s, s:b}", "check", check, "model", g->name, "cpu", g->cpu, "pass", pass);
        json_object_set_new(line, "worst", json_real(worst)); // stays away where it is not finite
        json_object_set_new(line, "limit", json_real(limit));
        json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(line);
    } else {
        printf("%s %-24s %-36s %-6s worst %.3g, limit %.3g\n", pass ? "ok  " : "FAIL", check, g->name, g->cpu,
               worst, limit);
    }
    fflush(stdout);
}

void report_most(struct golden *g, const char *check, double worst, double most) {
    report(g, check, worst, most, worst <= most);
}

void report_least(struct golden *g, const char *check, double worst, double least) {
    report(g, check, worst, least, worst >= least);
}

void report_error(struct golden *g, const char *check, const plm_error *err) {
    g->ran++;
    g->failed++;
    if (g->json) {
        json_t *line = json_pack("{s:s, s:s, s:s, s:b, s:s}", "check", check, "model", g->name, "cpu", g->cpu,
                                 "pass", 0, "error", err->text);
        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(line);
    } else {
        printf("FAIL %-24s %-36s %-6s %s\n", check, g->name, g->cpu, err->text);
    }
    fflush(stdout);
}

void path_of(const struct golden *g, char path[4096], const char *prefix, const char *name,
             const char *suffix) {
    snprintf(path, 4096, "%s/%s%s%s", g->dir, prefix, name, suffix);
}

bool has_file(const struct golden *g, const char *prefix, const char *name, const char *suffix) {
    char path[4096];
    path_of(g, path, prefix, name, suffix);
    return file_exists(path);
}

plm_status load_json(const struct golden *g, const char *prefix, const char *name, const char *suffix,
                     json_t **out, plm_error *err) {
    char path[4096];
    path_of(g, path, prefix, name, suffix);
    struct bytes text;
    bytes_init(&text, 64 << 20);
    plm_status st = file_read(path, 64 << 20, &text, err);
    if (!st)
        st = json_parse(out, text.data, text.len, path, err);
    bytes_free(&text);
    return st;
}

plm_status ids_of(const json_t *array, int32_t **ids, size_t *n, plm_error *err) {
    *n = json_array_size(array);
    *ids = mem_alloc(*n + 1, sizeof **ids);
    if (!*ids)
        return fail(err, PLM_ENOMEM, "no memory for %zu ids", *n);
    for (size_t i = 0; i < *n; i++)
        (*ids)[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return PLM_OK;
}

double number_of(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* ---- finding models ---- */

static plm_status read_known(const struct golden *g, struct known *known, size_t *n, plm_error *err) {
    DIR *dir = opendir(g->dir);
    if (!dir)
        return fail(err, PLM_ENOTFOUND, "%s can't be read", g->dir);
    plm_status st = PLM_OK;
    for (struct dirent *e; !st && *n < MAX_MODELS && (e = readdir(dir));) {
        struct str name = str_of(e->d_name);
        if (!str_starts(name, "logits-") || !str_ends(name, ".json"))
            continue;
        json_t *doc = NULL;
        st = load_json(g, "", e->d_name, "", &doc, err);
        if (!st && (!json_text(doc, "model") || !json_text(doc, "sha256"))) {
            st = fail(err, PLM_EFORMAT, "%s names no model and sha256", e->d_name);
        }
        if (!st) {
            known[*n].name = mem_dupz(json_text(doc, "model"));
            known[*n].sha256 = mem_dupz(json_text(doc, "sha256"));
            if (!known[*n].name || !known[*n].sha256)
                st = fail(err, PLM_ENOMEM, "no memory");
            ++*n;
        }
        json_decref(doc);
    }
    closedir(dir);
    return st;
}

static bool is_gguf(const char *path) {
    char magic[4] = "";
    FILE *f = fopen(path, "rb");
    bool yes = f && fread(magic, 1, 4, f) == 4 && !memcmp(magic, "GGUF", 4);
    if (f)
        fclose(f);
    return yes;
}

static plm_status find_models(const char *folder, struct known *known, size_t n, plm_error *err) {
    DIR *dir = opendir(folder);
    if (!dir)
        return fail(err, PLM_ENOTFOUND, "%s can't be read", folder);
    plm_status st = PLM_OK;
    for (struct dirent *e; !st && (e = readdir(dir));) {
        char path[4096], hex[65];
        if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >= (int)sizeof path)
            continue;
        if (!file_exists(path) || !is_gguf(path))
            continue;
        st = sha256_file(path, hex, err);
        for (size_t i = 0; !st && i < n; i++) {
            if (known[i].path || strcmp(known[i].sha256, hex) != 0)
                continue;
            known[i].path = mem_dupz(path);
            if (!known[i].path)
                st = fail(err, PLM_ENOMEM, "no memory");
        }
    }
    closedir(dir);
    return st;
}

/* Marks the models of "a,b"; false names one that the folder has no values for. */
static bool mark_required(struct known *known, size_t n, const char *list) {
    struct str rest = str_of(list), name;
    while (str_cut(&rest, ',', &name)) {
        size_t i = 0;
        while (i < n && !str_eq(name, known[i].name))
            i++;
        if (i == n) {
            fprintf(stderr, "plm-golden: no values for %.*s\n", (int)name.n, name.p);
            return false;
        }
        known[i].required = true;
    }
    return true;
}

/* ---- the run ---- */

static void check_model(struct golden *g, const struct known *k) {
    static const struct {
        const char *name;
        plm_status (*run)(struct golden *g, plm_error *err);
    } checks[] = {{"tokens", check_tokens}, {"logits", check_logits}, {"lora", check_lora}};
    plm_error err = {0};
    g->name = k->name;
    plm_status st = plm_model_open(&g->model, k->path, &(plm_model_options){.cpu = g->cpu}, &err);
    if (st == PLM_ENOTSUP && !k->required) {
        fprintf(stderr, "plm-golden: model %s is not checked: %s\n", k->name, err.text);
        return;
    }
    if (st) {
        report_error(g, "open", &err);
        return;
    }
    g->exact = !strcmp(plm_model_describe(g->model)->cpu, "ref");
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        if (checks[i].run(g, &err))
            report_error(g, checks[i].name, &err);
    }
    plm_model_close(g->model);
    g->model = NULL;
}

static int run(struct golden *g, const char *models, const char *require) {
    struct known known[MAX_MODELS] = {{0}};
    size_t n = 0;
    plm_error err = {0};
    plm_status st = read_known(g, known, &n, &err);
    if (!st && require && !mark_required(known, n, require))
        return 2;
    if (!st)
        st = find_models(models, known, n, &err);
    if (st) {
        fprintf(stderr, "plm-golden: %s\n", err.text);
        return 1;
    }
    bool missing = false;
    g->name = "";
    if (has_file(g, "quant", "", ".safetensors") && check_quant(g, &err))
        report_error(g, "quant", &err);
    for (size_t i = 0; i < n; i++) {
        if (known[i].path)
            check_model(g, &known[i]);
        else
            fprintf(stderr, "plm-golden: %s %s is not in %s (sha256 %s)\n",
                    known[i].required ? "required" : "model", known[i].name, models, known[i].sha256);
        missing |= known[i].required && !known[i].path;
    }
    for (size_t i = 0; i < n; i++) {
        mem_free(known[i].name);
        mem_free(known[i].sha256);
        mem_free(known[i].path);
    }
    fprintf(stderr, "plm-golden: %d checks, %d failed\n", g->ran, g->failed);
    return !g->ran || g->failed || missing;
}

int main(int argc, char **argv) {
    struct golden g = {.cpu = "auto"};
    const char *folder[2], *require = NULL;
    int folders = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help"))
            return fputs(usage, stdout), 0;
        if (!strcmp(argv[i], "--json"))
            g.json = true;
        else if (!strcmp(argv[i], "--cpu") && i + 1 < argc)
            g.cpu = argv[++i];
        else if (!strcmp(argv[i], "--require") && i + 1 < argc)
            require = argv[++i];
        else if (argv[i][0] != '-' && folders < 2)
            folder[folders++] = argv[i];
        else
            return fprintf(stderr, "plm-golden: what is %s?\n%s", argv[i], usage), 2;
    }
    if (folders < 2)
        return fputs(usage, stderr), 2;
    const struct kern *kern;
    plm_error err = {0};
    if (ops_kernels(&kern, g.cpu, &err))
        return fprintf(stderr, "plm-golden: %s\n", err.text), 2;
    g.dir = folder[1];
    return run(&g, folder[0], require);
}
