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

plm_status loras_add(struct loras *l, const plm_model *m, const char *path, float scale, plm_error *err) {
    if (l->n == sizeof l->use / sizeof *l->use)
        return fail(err, PLM_ELIMIT, "at most %zu adapters at once", l->n);
    plm_status st = plm_adapter_load(&l->adapter[l->n], m, path, err);
    if (st)
        return st;
    l->use[l->n] = (plm_lora){l->adapter[l->n], scale};
    l->n++;
    return PLM_OK;
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

void loras_close(struct loras *l) {
    for (size_t i = 0; i < l->n; i++)
        plm_adapter_free(l->adapter[i]);
    l->n = 0;
}

/* ---- output ---- */

int app_json(json_t *doc) {
    int rc = doc ? json_dumpf(doc, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) : -1;
    json_decref(doc);
    putchar('\n');
    return rc == 0 ? EXIT_DONE : EXIT_FAILED;
}

void progress_start(struct progress *p, const struct args *a, const char *label) {
    *p = (struct progress){.label = label, .start = clock_now(), .on = !a->quiet && isatty(STDERR_FILENO)};
}

static void format_left(char out[32], double seconds) {
    if (seconds < 90)
        snprintf(out, 32, "%.0f s left", seconds);
    else
        snprintf(out, 32, "%.0f min left", ceil(seconds / 60));
}

void progress_at(struct progress *p, double done, double total, const char *note) {
    double now = clock_now(), share = total > 0 ? done / total : 0;
    if (!p->on || (now - p->shown < 0.1 && done < total))
        return;
    p->shown = now;
    char bar[25], left[32] = "";
    int full = (int)(share * 24);
    for (int i = 0; i < 24; i++)
        bar[i] = i < full ? '=' : i == full ? '>' : ' ';
    bar[24] = 0;
    if (share > 0.01 && share < 1)
        format_left(left, (now - p->start) * (1 - share) / share);
    fprintf(stderr, "\r%-22.22s [%s] %3.0f%%  %s  %.40s\033[K", p->label, bar, share * 100, left,
            note ? note : "");
    fflush(stderr);
}

void progress_end(struct progress *p) {
    if (p->on)
        fprintf(stderr, "\r\033[K");
}

/* ---- encoding ---- */

void encoded_free(struct encoded *e) {
    mem_free(e->ids);
    *e = (struct encoded){0};
}

static plm_status encode_raw(struct encoded *out, const plm_model *m, const char *prompt, const char *answer,
                             plm_error *err) {
    size_t n = 0;
    plm_status st = plm_raw_encode(m, prompt, answer, NULL, 0, &n, NULL, err);
    if (st && st != PLM_ELIMIT)
        return st;
    out->ids = mem_alloc(n ? n : 1, sizeof *out->ids);
    if (!out->ids)
        return fail(err, PLM_ENOMEM, "out of memory");
    return plm_raw_encode(m, prompt, answer, out->ids, n, &out->n, &out->n_prompt, err);
}

plm_status app_encode_messages(struct encoded *out, const plm_model *m, const plm_message *messages,
                               size_t n_messages, plm_error *err) {
    *out = (struct encoded){0};
    size_t n = 0;
    plm_status st = plm_chat_encode(m, messages, n_messages, NULL, NULL, 0, &n, err);
    if (st && st != PLM_ELIMIT)
        return st;
    uint8_t *target = mem_zero(n ? n : 1, 1);
    out->ids = mem_alloc(n ? n : 1, sizeof *out->ids);
    if (!out->ids || !target)
        st = fail(err, PLM_ENOMEM, "out of memory");
    else
        st = plm_chat_encode(m, messages, n_messages, out->ids, target, n, &out->n, err);
    out->n_prompt = out->n;
    /* The last span of targets is the answer; what the template puts after its end token is not scored. */
    if (st == PLM_OK && n_messages && strcmp(messages[n_messages - 1].role, "assistant") == 0) {
        while (out->n && !target[out->n - 1])
            out->n--;
        out->n_prompt = out->n;
        while (out->n_prompt && target[out->n_prompt - 1])
            out->n_prompt--;
    }
    mem_free(target);
    if (st)
        encoded_free(out);
    return st;
}

plm_status app_encode(struct encoded *out, const plm_model *m, const char *system, const char *prompt,
                      const char *answer, bool raw, plm_error *err) {
    *out = (struct encoded){0};
    if (raw || !plm_model_describe(m)->chat_template) {
        plm_status st = encode_raw(out, m, prompt, answer, err);
        if (st)
            encoded_free(out);
        return st;
    }
    plm_message messages[3];
    size_t n = 0;
    if (system)
        messages[n++] = (plm_message){"system", system};
    messages[n++] = (plm_message){"user", prompt};
    if (answer)
        messages[n++] = (plm_message){"assistant", answer};
    return app_encode_messages(out, m, messages, n, err);
}

plm_status app_answer_nll(plm_session *s, const struct encoded *e, double *nll, size_t *tokens,
                          plm_error *err) {
    size_t n = e->n - e->n_prompt;
    double *logprob = mem_alloc(n ? n : 1, sizeof *logprob);
    if (!logprob)
        return fail(err, PLM_ENOMEM, "out of memory");
    plm_status st = plm_score(s, e->ids, e->n, e->n_prompt, logprob, err);
    *nll = 0;
    *tokens = n;
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        *nll -= logprob[i];
    mem_free(logprob);
    return st;
}

plm_status scorer_open(struct scorer *c, const plm_model *m, const plm_session_options *opt, plm_error *err) {
    plm_status st = PLM_OK;
    *c = (struct scorer){{NULL}};
    for (size_t i = 0; st == PLM_OK && i < SCORED_AT_ONCE; i++)
        st = plm_session_new(&c->s[i], m, opt, err);
    if (st)
        scorer_close(c);
    return st;
}

void scorer_close(struct scorer *c) {
    for (size_t i = 0; i < SCORED_AT_ONCE; i++)
        plm_session_free(c->s[i]);
    *c = (struct scorer){{NULL}};
}

plm_status scorer_use(struct scorer *c, const plm_lora *uses, size_t n, plm_error *err) {
    plm_status st = PLM_OK;
    for (size_t i = 0; st == PLM_OK && i < SCORED_AT_ONCE; i++)
        st = plm_session_use(c->s[i], uses, n, err);
    return st;
}

plm_status scorer_run(struct scorer *c, const struct encoded *e, size_t n, double *nll, plm_error *err) {
    plm_scoring all[SCORED_AT_ONCE];
    size_t total = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        total += e[i].n - e[i].n_prompt;
    double *logprob = mem_zero(total ? total : 1, sizeof *logprob);
    if (!logprob)
        return fail(err, PLM_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; at += e[i].n - e[i].n_prompt, i++)
        all[i] = (plm_scoring){c->s[i], e[i].ids, e[i].n, e[i].n_prompt, logprob + at};
    plm_status st = plm_score_all(all, n, err);
    at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t tokens = e[i].n - e[i].n_prompt;
        nll[i] = 0;
        for (size_t t = 0; t < tokens; t++)
            nll[i] -= logprob[at++];
        nll[i] /= (double)tokens;
    }
    mem_free(logprob);
    return st;
}

plm_status app_read(const char *path, size_t max, struct bytes *out, plm_error *err) {
    bytes_init(out, max);
    return file_read(path, max, out, err);
}
