/* app.c: paths, opening things by option, messages, progress. The one place that reads the environment. */
#include "app.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int app_fail(const plm_error *err) {
    fprintf(stderr, "plm: %s\n", err->text[0] ? err->text : plm_status_name(err->code));
    return EXIT_FAILED;
}

int app_misuse(const struct args *a, const char *command, const char *sentence) {
    (void)a;
    fprintf(stderr, "plm %s: %s (see plm %s --help)\n", command, sentence, command);
    return EXIT_MISUSE;
}

void app_say(const struct args *a, const char *fmt, ...) {
    if (a->quiet)
        return;
    va_list list;
    va_start(list, fmt);
    vfprintf(stderr, fmt, list);
    va_end(list);
}

/* ---- paths ---- */

char *path_join(const char *folder, const char *name) {
    struct bytes b;
    bytes_init(&b, 1 << 16);
    bytes_printf(&b, "%s/%s", folder, name);
    return bytes_take(&b);
}

char *app_path(enum place place, const char *tail) {
    const char *xdg = getenv(place == PLACE_DATA ? "XDG_DATA_HOME" : "XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    struct bytes b;
    bytes_init(&b, 1 << 16);
    if (xdg && xdg[0] == '/')
        bytes_puts(&b, xdg);
    else
        bytes_printf(&b, "%s%s", home && *home ? home : "",
                     place == PLACE_DATA ? "/.local/share" : "/.cache");
    bytes_printf(&b, "/plm%s%s", tail && *tail ? "/" : "", tail ? tail : "");
    return bytes_take(&b);
}

/* ---- opening ---- */

const char *app_user(const struct args *a) {
    return a->user ? a->user : "me";
}

plm_status app_model(plm_model **out, const struct args *a, plm_error *err) {
    char *fetched = app_path(PLACE_CACHE, "models/SmolLM2-135M-Instruct.Q4_1.gguf");
    char *digests = app_path(PLACE_CACHE, "digests");
    plm_status st = PLM_OK;
    if (!fetched || !digests)
        st = fail(err, PLM_ENOMEM, "out of memory");
    else if (!a->model && !file_exists(fetched))
        st = fail(err, PLM_ENOTFOUND,
                  "no model: give one with --model FILE, or get the default one with plm model fetch");
    if (st == PLM_OK) {
        plm_model_options opt = {.threads = a->threads,
                                 .cpu = a->cpu,
                                 .chat_template = a->chat_template,
                                 .digest_cache = digests,
                                 .no_repack = a->no_repack};
        st = plm_model_open(out, a->model ? a->model : fetched, &opt, err);
    }
    plm_free(fetched);
    plm_free(digests);
    return st;
}

plm_status app_store(plm_store **out, const struct args *a, bool read_only, plm_error *err) {
    if (a->store)
        return plm_store_open(out, a->store, read_only, err);
    char *folder = app_path(PLACE_DATA, NULL), *path = app_path(PLACE_DATA, "plm.db");
    plm_status st = folder && path ? PLM_OK : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && !read_only)
        st = dir_make(folder, err);
    if (st == PLM_OK && read_only && !file_exists(path))
        st = fail(err, PLM_ENOTFOUND, "nothing is stored yet: plm import SOURCE puts records there");
    if (st == PLM_OK)
        st = plm_store_open(out, path, read_only, err);
    plm_free(folder);
    plm_free(path);
    return st;
}

plm_status app_kinds(plm_kinds **out, const struct args *a, plm_error *err) {
    return plm_kinds_open(out, a->kinds, err);
}

/* "FILE:0.5" is a file and a scale unless a file of that whole name exists. */
static plm_status add_spec(struct loras *l, const plm_model *m, const char *spec, plm_error *err) {
    const char *colon = strrchr(spec, ':');
    double scale = 1;
    if (!colon || file_exists(spec) || dir_exists(spec))
        return loras_add(l, m, spec, 1, err);
    if (!parse_f64(str_of(colon + 1), &scale) || fabs(scale) > 100)
        return fail(err, PLM_EINVAL, "%s: what stands after the colon is no scale", spec);
    char *path = mem_dup(spec, (size_t)(colon - spec));
    if (!path)
        return fail(err, PLM_ENOMEM, "out of memory");
    plm_status st = loras_add(l, m, path, (float)scale, err);
    mem_free(path);
    return st;
}

plm_status app_loras(struct loras *l, const struct args *a, const plm_model *m, plm_error *err) {
    memset(l, 0, sizeof *l);
    for (int i = 0; i < a->adapters.n; i++) {
        plm_status st = add_spec(l, m, a->adapters.v[i], err);
        if (st) {
            loras_close(l);
            return st;
        }
    }
    return PLM_OK;
}

plm_status app_session_options(plm_session_options *out, const struct args *a, plm_error *err) {
    static const char *const names[] = {"auto", "f16", "q8", "f32"};
    *out = (plm_session_options){.context = a->context};
    for (int i = 0; a->kv && i < 4; i++) {
        if (strcmp(a->kv, names[i]) == 0) {
            out->kv = (plm_kv)i;
            return PLM_OK;
        }
    }
    return a->kv ? fail(err, PLM_EINVAL, "--kv is f16, q8 or f32, not \"%s\"", a->kv) : PLM_OK;
}

plm_status app_lookup(plm_lookup *out, const struct args *a, plm_error *err) {
    static const char *const names[] = {"auto", "on", "off"};
    *out = PLM_LOOKUP_AUTO;
    for (int i = 0; a->lookup && i < 3; i++) {
        if (strcmp(a->lookup, names[i]) == 0) {
            *out = (plm_lookup)i;
            return PLM_OK;
        }
    }
    return a->lookup ? fail(err, PLM_EINVAL, "--lookup is auto, on or off, not \"%s\"", a->lookup) : PLM_OK;
}

/* ---- output ---- */

int app_json(json_t *doc) {
    int rc = doc ? json_dumpf(doc, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) : -1;
    json_decref(doc);
    putchar('\n');
    return rc == 0 ? EXIT_DONE : EXIT_FAILED;
}

plm_status app_read(const char *path, size_t max, struct bytes *out, plm_error *err) {
    bytes_init(out, max);
    return file_read(path, max, out, err);
}

/* ---- training ---- */

static plm_status parse_targets(unsigned *out, const char *text, plm_error *err) {
    static const struct {
        const char *name;
        unsigned bit;
    } known[] = {{"q", PLM_Q},       {"k", PLM_K},   {"v", PLM_V},       {"o", PLM_O},
                 {"gate", PLM_GATE}, {"up", PLM_UP}, {"down", PLM_DOWN}, {"all", PLM_ALL_LINEAR}};
    struct str rest = str_of(text), one;
    *out = 0;
    while (str_cut(&rest, ',', &one)) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && !str_eq(one, known[i].name))
            i++;
        if (i == sizeof known / sizeof *known)
            return fail(err, PLM_EINVAL, "--targets: \"%.*s\" is none of q, k, v, o, gate, up, down, all",
                        (int)one.n, one.p);
        *out |= known[i].bit;
    }
    return PLM_OK;
}

static plm_status parse_schedule(plm_schedule *out, const char *text, plm_error *err) {
    *out = PLM_LINEAR;
    if (!text || strcmp(text, "linear") == 0)
        return PLM_OK;
    *out = strcmp(text, "cosine") == 0 ? PLM_COSINE : PLM_CONSTANT;
    if (*out == PLM_CONSTANT && strcmp(text, "constant") != 0)
        return fail(err, PLM_EINVAL, "--schedule: \"%.40s\" is none of linear, cosine, constant", text);
    return PLM_OK;
}

plm_status app_learn(struct learn *l, const struct args *a, plm_error *err) {
    l->adapter = (plm_adapter_options){
        .rank = a->rank, .alpha = (float)a->alpha, .seed = a->seed, .layers = a->layers};
    l->train = (plm_train_options){.batch = a->batch,
                                   .steps = a->steps,
                                   .epochs = a->epochs,
                                   .warmup = a->warmup,
                                   .max_tokens = a->context,
                                   .patience = a->patience,
                                   .rate = (float)a->rate,
                                   .decay = (float)a->decay,
                                   .clip = (float)a->clip,
                                   .memory = a->memory,
                                   .seed = a->seed,
                                   .refuse_long = a->refuse_long,
                                   .in_order = a->in_order};
    plm_status st = a->targets ? parse_targets(&l->adapter.targets, a->targets, err) : PLM_OK;
    return st ? st : parse_schedule(&l->train.schedule, a->schedule, err);
}
