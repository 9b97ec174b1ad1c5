/* cmd_adapter.c: the adapters that were learned: which there are, facts, choosing, going back, exporting. */
#include "app.h"
#include "base/hash.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- rows of the store ---- */

struct chosen {
    const struct args *a;
    int64_t id; /* 0: the active one */
    char *path;
    char *user, *kind;
    size_t n;
};

static int print_row(void *ctx, const plm_installed *r) {
    struct chosen *c = ctx;
    char when[21];
    c->n++;
    if (!c->a->all && strcmp(r->state, "retired") == 0)
        return 0;
    clock_iso(r->when, when);
    if (c->a->json)
        app_json(json_pack("{s:I, s:s, s:s, s:s, s:s, s:f, s:s, s:s, s:I, s:I}", "id", (json_int_t)r->id,
                           "user", r->user, "kind", r->kind, "arm", r->arm, "state", r->state, "scale",
                           r->scale, "path", r->path, "sha256", r->sha256, "when", (json_int_t)r->when,
                           "learned", (json_int_t)r->n_records));
    else
        printf("%4lld  %-10s %-8s %-9s x%.2f  %-8s %.10s  %zu examples  %.12s\n", (long long)r->id, r->user,
               r->kind, r->arm, r->scale, r->state, when, r->n_records, r->sha256);
    return 0;
}

static int take_row(void *ctx, const plm_installed *r) {
    struct chosen *c = ctx;
    bool wanted = c->id ? r->id == c->id : strcmp(r->state, "active") == 0;
    if (!wanted || c->path)
        return 0;
    c->id = r->id;
    c->path = mem_dupz(r->path);
    c->user = mem_dupz(r->user);
    c->kind = mem_dupz(r->kind);
    return !c->path || !c->user || !c->kind;
}

static void chosen_free(struct chosen *c) {
    mem_free(c->path);
    mem_free(c->user);
    mem_free(c->kind);
}

static plm_status choose(struct chosen *c, plm_store *st, const char *number, plm_error *err) {
    if (number && (!parse_i64(str_of(number), &c->id) || c->id <= 0))
        return fail(err, PLM_EINVAL, "\"%s\" is no adapter number; plm adapter list shows them", number);
    plm_status s = plm_store_list_adapters(st, number ? NULL : app_user(c->a), c->a->task, take_row, c, err);
    if (s == PLM_ESTOPPED)
        s = fail(err, PLM_ENOMEM, "out of memory");
    if (s == PLM_OK && !c->path)
        s = number ? fail(err, PLM_ENOTFOUND, "no adapter %s", number)
                   : fail(err, PLM_ENOTFOUND, "%s has no active adapter%s%s", app_user(c->a),
                          c->a->task ? " for " : "", c->a->task ? c->a->task : "");
    return s;
}

static plm_status list(struct args *a, plm_store *st, plm_error *err) {
    struct chosen c = {.a = a};
    plm_status s = plm_store_list_adapters(st, a->user, a->task, print_row, &c, err);
    if (s == PLM_OK && !c.n)
        app_say(a, "no adapter was learned yet: plm personalize SOURCE\n");
    return s;
}

static plm_status use(struct args *a, plm_store *st, const char *number, plm_error *err) {
    struct chosen c = {.a = a};
    plm_status s = choose(&c, st, number, err);
    if (s == PLM_OK)
        s = plm_store_activate(st, c.user, c.kind, c.id, err);
    if (s == PLM_OK)
        app_say(a, "adapter %lld now answers %s's %s questions\n", (long long)c.id, c.user, c.kind);
    chosen_free(&c);
    return s;
}

static plm_status rollback(struct args *a, plm_store *st, plm_error *err) {
    struct chosen before = {.a = a}, now = {.a = a};
    plm_status s = choose(&before, st, NULL, err);
    if (s == PLM_OK)
        s = plm_store_activate(st, before.user, before.kind, 0, err);
    if (s == PLM_OK)
        s = choose(&now, st, NULL, err);
    if (s == PLM_OK)
        app_say(a, "went back from adapter %lld to adapter %lld\n", (long long)before.id, (long long)now.id);
    chosen_free(&before);
    chosen_free(&now);
    return s;
}

static plm_status delete (struct args *a, plm_store *st, const char *number, plm_error *err) {
    struct chosen c = {.a = a};
    plm_status s = choose(&c, st, number, err);
    if (s == PLM_OK)
        s = plm_store_retire(st, c.id, err);
    if (s == PLM_OK && unlink(c.path) && file_exists(c.path))
        s = fail(err, PLM_EIO, "%s can't be deleted", c.path);
    if (s == PLM_OK)
        app_say(a, "adapter %lld is gone\n", (long long)c.id);
    chosen_free(&c);
    return s;
}

/* ---- files ---- */

static json_t *targets_json(unsigned targets) {
    static const char *const names[] = {"q", "k", "v", "o", "gate", "up", "down"};
    json_t *list = json_array();
    for (int i = 0; i < 7; i++)
        if (targets >> i & 1)
            json_array_append_new(list, json_string(names[i]));
    return list;
}

static void print_info(const struct args *a, const char *path, const plm_adapter *ad, const char *sha256) {
    const plm_adapter_facts *f = plm_adapter_describe(ad);
    json_t *meta = json_object(), *targets = targets_json(f->targets);
    const char *key, *value;
    for (size_t i = 0; i < f->n_meta; i++) {
        plm_adapter_meta(ad, i, &key, &value);
        json_object_set_new(meta, key, json_string(value));
    }
    if (a->json) {
        app_json(json_pack("{s:s, s:i, s:f, s:O, s:i, s:i, s:I, s:s, s:s?, s:s, s:O}", "path", path, "rank",
                           f->rank, "alpha", (double)f->alpha, "targets", targets, "layers", f->layers,
                           "first_layer", f->first_layer, "parameters", (json_int_t)f->parameters, "family",
                           f->arch, "base_sha256", f->base_sha256, "sha256", sha256, "recipe", meta));
    } else {
        char *list = json_dumps(targets, JSON_COMPACT);
        printf("%s\n  rank %d, alpha %g, %s on %d of %d layers of %s: %llu parameters\n  base    %s\n  "
               "sha256  %s\n",
               path, f->rank, (double)f->alpha, list ? list : "", f->layers - f->first_layer, f->layers,
               f->arch, (unsigned long long)f->parameters, f->base_sha256 ? f->base_sha256 : "not said",
               sha256);
        plm_free(list);
        json_t *v;
        json_object_foreach(meta, key, v) printf("  %s: %s\n", key, json_string_value(v));
    }
    json_decref(meta);
    json_decref(targets);
}

static plm_status info(struct args *a, const char *path, plm_error *err) {
    plm_adapter *ad = NULL;
    char sha256[65] = "-", *weights = NULL;
    plm_status st = plm_adapter_load(&ad, NULL, path, err);
    if (st == PLM_OK && dir_exists(path))
        weights = path_join(path, "adapter_model.safetensors");
    if (st == PLM_OK)
        st = sha256_file(weights ? weights : path, sha256, err);
    if (st == PLM_OK)
        print_info(a, path, ad, sha256);
    plm_free(weights);
    plm_adapter_free(ad);
    return st;
}

/* FILE or the number of an adapter in the store. */
static plm_status find_file(struct args *a, const char *what, char **path, plm_error *err) {
    plm_store *store = NULL;
    struct chosen c = {.a = a};
    if (what && (file_exists(what) || dir_exists(what))) {
        *path = mem_dupz(what);
        return *path ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    }
    plm_status st = app_store(&store, a, true, err);
    if (st == PLM_OK)
        st = choose(&c, store, what, err);
    if (st == PLM_OK) {
        *path = c.path;
        c.path = NULL;
    }
    chosen_free(&c);
    plm_store_close(store);
    return st;
}

static plm_status export(struct args *a, const char *what, plm_error *err) {
    const char *format = a->format ? a->format : "gguf";
    plm_model *m = NULL;
    plm_adapter *ad = NULL;
    char *path = NULL;
    plm_status st = find_file(a, what, &path, err);
    if (st == PLM_OK)
        st = app_model(&m, a, err);
    if (st == PLM_OK)
        st = plm_adapter_load(&ad, m, path, err);
    if (st == PLM_OK && strcmp(format, "gguf") == 0)
        st = plm_adapter_save(ad, a->out, err);
    else if (st == PLM_OK && strcmp(format, "peft") == 0)
        st = plm_adapter_save_peft(ad, a->out, err);
    else if (st == PLM_OK)
        st = plm_model_merge(m, &(plm_lora){ad, 1}, 1, a->out, err);
    if (st == PLM_OK)
        app_say(a, "%s is written\n", a->out);
    plm_adapter_free(ad);
    plm_model_close(m);
    mem_free(path);
    return st;
}

static plm_status on_store(struct args *a, const char *verb, const char *word, plm_error *err) {
    plm_store *st = NULL;
    bool reading = strcmp(verb, "list") == 0;
    plm_status s = app_store(&st, a, reading, err);
    if (s == PLM_OK)
        s = reading                         ? list(a, st, err)
            : strcmp(verb, "use") == 0      ? use(a, st, word, err)
            : strcmp(verb, "rollback") == 0 ? rollback(a, st, err)
                                            : delete (a, st, word, err);
    plm_store_close(st);
    return s;
}

int cmd_adapter(struct args *a) {
    static const struct {
        const char *verb;
        int least, most; /* words after it */
    } verbs[] = {{"list", 0, 0},     {"info", 1, 1},   {"use", 1, 1},
                 {"rollback", 0, 0}, {"export", 0, 1}, {"delete", 1, 1}};
    plm_error err = {0};
    const char *verb = a->n_rest ? a->rest[0] : "list", *word = a->n_rest > 1 ? a->rest[1] : NULL;
    size_t i = 0;
    while (i < sizeof verbs / sizeof *verbs && strcmp(verbs[i].verb, verb) != 0)
        i++;
    int words = a->n_rest ? a->n_rest - 1 : 0;
    if (i == sizeof verbs / sizeof *verbs)
        return app_misuse(a, "adapter", "the verbs are list, info, use, rollback, export and delete");
    if (words < verbs[i].least || words > verbs[i].most)
        return app_misuse(a, "adapter", "that verb takes another number of words");
    if (strcmp(verb, "export") == 0 && !a->out)
        return app_misuse(a, "adapter", "say where it goes: --out PATH");
    if (strcmp(verb, "export") == 0 && a->format && strcmp(a->format, "gguf") != 0 &&
        strcmp(a->format, "peft") != 0 && strcmp(a->format, "merged") != 0)
        return app_misuse(a, "adapter", "--format is peft, gguf or merged");
    plm_status st = strcmp(verb, "info") == 0     ? info(a, word, &err)
                    : strcmp(verb, "export") == 0 ? export(a, word, &err)
                                                  : on_store(a, verb, word, &err);
    return st ? app_fail(&err) : EXIT_DONE;
}
