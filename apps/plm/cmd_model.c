/* cmd_model.c: the models on this machine: which there are, fetching, adding, facts, integrity. */
#include "base/hash.h"
#include "models.h"

#include <stdio.h>
#include <string.h>

static int list(struct args *a) {
    for (const struct known_model *k = known_models; k->name; k++) {
        char *path = known_model_path(k);
        bool here = path && file_exists(path);
        if (a->json)
            app_json(json_pack("{s:s, s:s, s:I, s:b, s:s, s:s}", "name", k->name, "file", k->file, "bytes",
                               (json_int_t)k->bytes, "here", here, "licence", k->licence, "path",
                               here ? path : ""));
        else
            printf("%-20s %4.0f MB  %-10s  %-8s %s\n", k->name, (double)k->bytes / 1e6, k->licence,
                   here ? "here" : "-", k->what);
        plm_free(path);
    }
    return EXIT_DONE;
}

static int fetch(struct args *a) {
    plm_error err = {0};
    if (a->n_rest == 1) {
        plm_status st = model_fetch(&known_models[0], a, &err);
        return st ? app_fail(&err) : EXIT_DONE;
    }
    for (int i = 1; i < a->n_rest; i++) {
        const struct known_model *k = known_model(a->rest[i]);
        if (!k) {
            fail(&err, PLM_ENOTFOUND, "no model \"%s\"; plm model list shows the names", a->rest[i]);
            return app_fail(&err);
        }
        if (model_fetch(k, a, &err))
            return app_fail(&err);
    }
    return EXIT_DONE;
}

/* A model file of one's own, into the cache, if it is one that works. */
static int add(struct args *a, const char *file) {
    plm_error err = {0};
    plm_model *m = NULL;
    const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    char *folder = app_path(PLACE_CACHE, "models"), *path = folder ? path_join(folder, base) : NULL;
    plm_model_options opt = {.threads = 1, .chat_template = a->chat_template};
    struct map map = {0};
    plm_status st = path ? plm_model_open(&m, file, &opt, &err) : fail(&err, PLM_ENOMEM, "out of memory");
    plm_model_close(m);
    if (st == PLM_OK)
        st = dir_make(folder, &err);
    if (st == PLM_OK && file_exists(path))
        st = fail(&err, PLM_EINVAL, "%s is there already", path);
    if (st == PLM_OK)
        st = map_open(&map, file, &err);
    if (st == PLM_OK) {
        st = file_replace(path, map.data, map.size, &err);
        map_close(&map);
    }
    if (st == PLM_OK)
        app_say(a, "%s: use it with --model %s\n", base, path);
    plm_free(folder);
    plm_free(path);
    return st ? app_fail(&err) : EXIT_DONE;
}

static json_t *facts_json(const plm_model_facts *f, const char *sha256) {
    return json_pack("{s:s, s:s, s:s, s:s?, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I}",
                     "family", f->arch, "name", f->name ? f->name : "", "types", f->types, "chat_template",
                     f->chat_template, "cpu", f->cpu, "sha256", sha256, "vocab", f->vocab, "width", f->width,
                     "ffn_width", f->ffn_width, "layers", f->layers, "heads", f->heads, "kv_heads",
                     f->kv_heads, "head_width", f->head_width, "context", f->context, "parameters",
                     (json_int_t)f->parameters, "file_bytes", (json_int_t)f->file_bytes, "bytes_per_token",
                     (json_int_t)f->bytes_per_token);
}

static int info(struct args *a, const char *file) {
    plm_error err = {0};
    plm_model *m = NULL;
    char sha256[65];
    struct args with = *a;
    with.model = file ? file : a->model;
    plm_status st = app_model(&m, &with, &err);
    if (st == PLM_OK)
        st = plm_model_digest(m, sha256, &err);
    if (st == PLM_OK) {
        const plm_model_facts *f = plm_model_describe(m);
        if (a->json)
            app_json(facts_json(f, sha256));
        else
            printf("%s\n  family      %s\n  name        %s\n  types       %s\n  template    %s\n  size       "
                   " %.1f M weights, %.1f MB\n  a token     reads %.1f MB\n  shape       %d layers, width "
                   "%d, ffn %d, %d heads of %d, %d kv heads, vocabulary %d, context %d\n  sha256      %s\n",
                   f->path, f->arch, f->name ? f->name : "-", f->types,
                   f->chat_template ? f->chat_template : "none", (double)f->parameters / 1e6,
                   (double)f->file_bytes / 1e6, (double)f->bytes_per_token / 1e6, f->layers, f->width,
                   f->ffn_width, f->heads, f->head_width, f->kv_heads, f->vocab, f->context, sha256);
    }
    plm_model_close(m);
    return st ? app_fail(&err) : EXIT_DONE;
}

static int verify(struct args *a, const char *file) {
    plm_error err = {0};
    const struct known_model *k = &known_models[0];
    char hash[65], *path = file ? mem_dupz(file) : known_model_path(k);
    if (file)
        k = known_model(strrchr(file, '/') ? strrchr(file, '/') + 1 : file);
    plm_status st = path ? sha256_file(path, hash, &err) : fail(&err, PLM_ENOMEM, "out of memory");
    plm_free(path);
    if (st)
        return app_fail(&err);
    bool right = k && strcmp(hash, k->sha256) == 0;
    if (a->json)
        app_json(json_pack("{s:s, s:b, s:b}", "sha256", hash, "known", k != NULL, "right", right));
    else
        printf("%s  %s\n", hash, right ? "as published" : k ? "NOT as published" : "not a model plm knows");
    return k && !right ? EXIT_FAILED : EXIT_DONE;
}

static int quantize(struct args *a, const char *from, const char *to) {
    plm_error err = {0};
    plm_model *m = NULL;
    plm_model_options opt = {.threads = a->threads, .cpu = a->cpu, .chat_template = "none"};
    plm_status st = plm_model_open(&m, from, &opt, &err);
    if (st == PLM_OK)
        st = plm_model_quantize(m, a->type, to, &err);
    plm_model_close(m);
    if (st)
        return app_fail(&err);
    struct args with = *a;
    with.chat_template = "none"; // what a file holds can be told without knowing its template
    return info(&with, to);
}

int cmd_model(struct args *a) {
    const char *verb = a->n_rest ? a->rest[0] : "list", *file = a->n_rest > 1 ? a->rest[1] : NULL;
    if (strcmp(verb, "list") == 0)
        return list(a);
    if (strcmp(verb, "fetch") == 0)
        return fetch(a);
    if (strcmp(verb, "add") == 0 && file)
        return add(a, file);
    if (strcmp(verb, "info") == 0)
        return info(a, file);
    if (strcmp(verb, "verify") == 0)
        return verify(a, file);
    if (strcmp(verb, "quantize") == 0 && a->n_rest == 3 && a->type)
        return quantize(a, file, a->rest[2]);
    return app_misuse(a, "model",
                      "the verbs are list, fetch [NAME...], add FILE, info [FILE], verify [FILE] and "
                      "quantize IN OUT --type TYPE");
}
