/* checkpoint.c: a run's state in one file: a head, then six sections. The head holds each section's size and
 * sha256 and ends with the sha256 of itself, so every byte of the file is covered. A file is replaced as a
 * whole, the one before it stays beside it as PATH.prev, and reading falls back to that one when PATH is
 * damaged or gone. Refused: another base, other examples, adapter or options, by a sentence with what
 * differs. Numbers are little-endian, as on every machine that reads GGUF in place. */
#include "train/trainer.h"
#include "base/hash.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { VERSION = 1, CONFIG_MOST = 1 << 14 };
enum { S_CONFIG, S_STATE, S_WEIGHTS, S_MOMENT1, S_MOMENT2, S_BEST, SECTIONS };
static const char magic[8] = "plm-run";
static const char *const section_name[SECTIONS] = {"config",  "state",   "weights",
                                                   "moment1", "moment2", "best"};

struct section {
    char name[16];
    uint64_t bytes;
    char sha256[64];
};

struct head {
    char magic[8];
    uint32_t version, sections;
    struct section section[SECTIONS];
    char sha256[64]; /* of all above */
};
_Static_assert(sizeof(struct head) == 16 + SECTIONS * 88 + 64, "a head has no holes");
_Static_assert(sizeof(struct progress) == 32, "progress has no holes");

static void hash64(const void *data, size_t len, char out[64]) {
    char hex[65];
    sha256_of(data, len, hex);
    memcpy(out, hex, 64);
}

/* What must be the same for a run to go on as if it had never stopped: a line each. */
static plm_status config_text(const struct plm_trainer *t, struct bytes *out, plm_error *err) {
    const plm_train_options *o = &t->opt;
    const struct lora *l = t->lora;
    char base[65], examples[65];
    plm_status st = plm_model_digest(t->m, base, err);
    if (st) {
        return st;
    }
    trainer_digest(t, examples);
    bytes_init(out, CONFIG_MOST);
    bytes_printf(out, "program: plm %s\n", plm_version());
    bytes_printf(out, "kernels: %s\n", t->m->facts.cpu);
    bytes_printf(out, "base model: %s\n", base);
    bytes_printf(out, "examples: %s\n", examples);
    bytes_printf(out, "rank: %d\nalpha: %.9g\ntargets: %u\nadapter size: %zu\n", l->rank, (double)l->alpha,
                 l->targets, l->parameters);
    bytes_printf(out, "batch: %d\nsteps: %d\nepochs: %d\nwarm-up: %d\n", o->batch, o->steps, o->epochs,
                 o->warmup);
    bytes_printf(out, "patience: %d\nsteps between validations: %d\n", o->patience, o->eval_every);
    bytes_printf(out, "schedule: %d\nlearning rate: %.9g\ndecay: %.9g\nclip: %.9g\n", (int)o->schedule,
                 (double)o->rate, (double)o->decay, (double)o->clip);
    bytes_printf(out, "real last: %.9g\nseed: %llu\n", (double)o->real_last, (unsigned long long)o->seed);
    bytes_printf(out, "shuffled: %s\n", o->in_order ? "no" : "yes");
    bytes_printf(out, "longest example: %d\ntokens a pass: %d\n", o->max_tokens, t->pass_tokens);
    st = bytes_status(out, "the checkpoint's settings", err);
    if (st) {
        bytes_free(out);
    }
    return st;
}

/* ---- writing ---- */

struct pieces {
    const void *data[SECTIONS];
    size_t bytes[SECTIONS];
};

static struct pieces pieces_of(const struct plm_trainer *t, const struct bytes *config) {
    size_t n = t->lora->parameters * sizeof(float);
    bool best = t->at.best_step >= 0;
    struct pieces p = {{config->data, &t->at, t->lora->values, t->m1, t->m2, t->best},
                       {config->len, sizeof t->at, n, n, n, best ? n : 0}};
    return p;
}

static void head_fill(struct head *h, const struct pieces *p) {
    *h = (struct head){.version = VERSION, .sections = SECTIONS};
    memcpy(h->magic, magic, sizeof magic);
    for (int i = 0; i < SECTIONS; i++) {
        snprintf(h->section[i].name, sizeof h->section[i].name, "%s", section_name[i]);
        h->section[i].bytes = p->bytes[i];
        hash64(p->data[i], p->bytes[i], h->section[i].sha256);
    }
    hash64(h, offsetof(struct head, sha256), h->sha256);
}

static char *previous_path(const char *path) {
    size_t n = strlen(path);
    char *prev = mem_alloc(n + sizeof ".prev", 1);
    if (prev) {
        memcpy(prev, path, n);
        memcpy(prev + n, ".prev", sizeof ".prev");
    }
    return prev;
}

static plm_status file_check(struct map *map, struct head *h, const char *path, plm_error *err);

/* A good file at path also becomes PATH.prev; a damaged one must not push out the good one there. A hard link
 * leaves no moment without a file at path; where links can't be made it is moved. */
static plm_status keep_previous(const char *path, plm_error *err) {
    struct map map;
    struct head h;
    if (file_check(&map, &h, path, NULL)) {
        return PLM_OK;
    }
    map_close(&map);
    char *prev = previous_path(path);
    if (!prev) {
        return fail(err, PLM_ENOMEM, "no memory to save %s", path);
    }
    plm_status st = PLM_OK;
    if (unlink(prev) && errno != ENOENT) {
        st = fail_errno(err, errno, prev);
    } else if (linkat(AT_FDCWD, path, AT_FDCWD, prev, AT_SYMLINK_FOLLOW) && rename(path, prev)) {
        st = fail_errno(err, errno, prev);
    }
    mem_free(prev);
    return st;
}

static plm_status file_write(const char *path, const struct head *h, const struct pieces *p, plm_error *err) {
    struct writer *w;
    plm_status st = writer_open(&w, path, err);
    if (st) {
        return st;
    }
    st = writer_put(w, h, sizeof *h, err);
    for (int i = 0; i < SECTIONS && !st; i++) {
        st = writer_put(w, p->data[i], p->bytes[i], err);
    }
    if (!st) {
        st = keep_previous(path, err);
    }
    if (st) {
        writer_abort(w);
        return st;
    }
    return writer_commit(w, err);
}

plm_status plm_trainer_save(const plm_trainer *t, const char *path, plm_error *err) {
    if (!t || !path) {
        return fail(err, PLM_EINVAL, "plm_trainer_save needs a trainer and a path");
    }
    if (!t->planned) {
        return fail(err, PLM_EINVAL, "%s: there is nothing to save before the plan is made", path);
    }
    if (t->finished) {
        return fail(err, PLM_EINVAL, "%s: a finished run is saved as an adapter, not as a checkpoint", path);
    }
    if (t->broken[0]) {
        return fail(err, PLM_EINVAL, "%s: not saved, because %s", path, t->broken);
    }
    struct bytes config;
    plm_status st = config_text(t, &config, err);
    if (st) {
        return st;
    }
    struct pieces p = pieces_of(t, &config);
    struct head h;
    head_fill(&h, &p);
    st = file_write(path, &h, &p, err);
    bytes_free(&config);
    return st;
}

/* ---- reading ---- */

static plm_status head_check(const struct head *h, const struct map *map, const char *path, plm_error *err) {
    char sum[64];
    if (memcmp(h->magic, magic, sizeof magic) != 0) {
        return fail(err, PLM_EFORMAT, "%s: not a checkpoint of plm", path);
    }
    hash64(h, offsetof(struct head, sha256), sum);
    if (memcmp(sum, h->sha256, sizeof sum) != 0) {
        return fail(err, PLM_EFORMAT, "%s: damaged checkpoint, its head does not match its checksum", path);
    }
    if (h->version != VERSION || h->sections != SECTIONS) {
        return fail(err, PLM_ENOTSUP, "%s: checkpoint of version %u, this program reads version %d", path,
                    h->version, VERSION);
    }
    uint64_t left = map->size - sizeof *h;
    for (int i = 0; i < SECTIONS; i++) {
        const struct section *s = &h->section[i];
        char name[sizeof s->name] = {0};
        snprintf(name, sizeof name, "%s", section_name[i]);
        if (memcmp(s->name, name, sizeof name) != 0) {
            return fail(err, PLM_EFORMAT, "%s: damaged checkpoint, section %d is not %s", path, i, name);
        }
        if (s->bytes > left) {
            return fail(err, PLM_EFORMAT, "%s: damaged checkpoint, it ends inside section %s", path, name);
        }
        left -= s->bytes;
    }
    if (left) {
        return fail(err, PLM_EFORMAT, "%s: damaged checkpoint, %llu bytes too many", path,
                    (unsigned long long)left);
    }
    return PLM_OK;
}

/* Maps the file and checks every byte of it. On failure nothing is held. */
static plm_status file_check(struct map *map, struct head *h, const char *path, plm_error *err) {
    plm_status st = map_open(map, path, err);
    if (st) {
        return st;
    }
    if (map->size < sizeof *h) {
        st = fail(err, PLM_EFORMAT, "%s: damaged checkpoint, only %zu bytes", path, map->size);
    } else {
        memcpy(h, map->data, sizeof *h);
        st = head_check(h, map, path, err);
    }
    const unsigned char *p = map->data + sizeof *h;
    for (int i = 0; i < SECTIONS && !st; i++) {
        char sum[64];
        hash64(p, h->section[i].bytes, sum);
        if (memcmp(sum, h->section[i].sha256, sizeof sum) != 0) {
            st = fail(err, PLM_EFORMAT, "%s: damaged checkpoint, section %s does not match its checksum",
                      path, section_name[i]);
        }
        p += h->section[i].bytes;
    }
    if (st) {
        map_close(map);
    }
    return st;
}

/* Line by line; the first that differs is the reason. */
static plm_status compare_config(struct str theirs, struct str ours, const char *path, plm_error *err) {
    struct str a, b;
    while (str_cut(&ours, '\n', &b)) {
        if (!str_cut(&theirs, '\n', &a)) {
            a = STR("nothing");
        }
        if (a.n != b.n || memcmp(a.p, b.p, a.n) != 0) {
            return fail(err, PLM_EINVAL, "%s: it belongs to a run with %.*s, this one has %.*s", path,
                        (int)(a.n < 120 ? a.n : 120), a.p, (int)(b.n < 120 ? b.n : 120), b.p);
        }
    }
    return theirs.n ? fail(err, PLM_EINVAL, "%s: it belongs to a run with more settings", path) : PLM_OK;
}

static bool all_finite(const unsigned char *p, size_t n) {
    bool good = true;
    for (size_t i = 0; i < n; i++) {
        float f;
        memcpy(&f, p + i * sizeof f, sizeof f);
        good &= (bool)isfinite(f);
    }
    return good;
}

static bool progress_fits(const struct plm_trainer *t, const struct progress *at, uint64_t best_bytes) {
    bool best = at->best_step >= 0;
    return at->step >= 0 && at->step <= t->opt.steps && at->best_step >= -1 && at->best_step < at->step &&
           at->stale >= 0 && at->stale <= at->step && (!best || isfinite(at->best)) && (!best || t->best) &&
           best_bytes == (best ? t->lora->parameters * sizeof(float) : 0);
}

/* Takes the state over, all of it or nothing. */
static plm_status apply(struct plm_trainer *t, const struct map *map, const struct head *h, const char *path,
                        plm_error *err) {
    const unsigned char *data[SECTIONS];
    const unsigned char *p = map->data + sizeof *h;
    for (int i = 0; i < SECTIONS; i++) {
        data[i] = p;
        p += h->section[i].bytes;
    }
    struct bytes config;
    plm_status st = config_text(t, &config, err);
    if (st) {
        return st;
    }
    struct str theirs = {(const char *)data[S_CONFIG], (size_t)h->section[S_CONFIG].bytes};
    st = compare_config(theirs, (struct str){config.data, config.len}, path, err);
    bytes_free(&config);
    if (st) {
        return st;
    }
    size_t n = t->lora->parameters, bytes = n * sizeof(float);
    struct progress at;
    if (h->section[S_STATE].bytes != sizeof at || h->section[S_WEIGHTS].bytes != bytes ||
        h->section[S_MOMENT1].bytes != bytes || h->section[S_MOMENT2].bytes != bytes) {
        return fail(err, PLM_EFORMAT, "%s: its sections have the wrong size for %zu parameters", path, n);
    }
    memcpy(&at, data[S_STATE], sizeof at);
    if (!progress_fits(t, &at, h->section[S_BEST].bytes)) {
        return fail(err, PLM_EFORMAT, "%s: its state makes no sense for %d steps", path, t->opt.steps);
    }
    if (!all_finite(data[S_WEIGHTS], n) || !all_finite(data[S_MOMENT1], n) ||
        !all_finite(data[S_MOMENT2], n) ||
        !all_finite(data[S_BEST], h->section[S_BEST].bytes / sizeof(float))) {
        return fail(err, PLM_EFORMAT, "%s: it holds numbers that are not finite", path);
    }
    memcpy(t->lora->values, data[S_WEIGHTS], bytes);
    t->lora->edits++;
    memcpy(t->m1, data[S_MOMENT1], bytes);
    memcpy(t->m2, data[S_MOMENT2], bytes);
    if (at.best_step >= 0) {
        memcpy(t->best, data[S_BEST], bytes);
    }
    t->at = at;
    t->broken[0] = 0;
    return PLM_OK;
}

plm_status plm_trainer_resume(plm_trainer *t, const char *path, plm_error *err) {
    if (!t || !path) {
        return fail(err, PLM_EINVAL, "plm_trainer_resume needs a trainer and a path");
    }
    if (t->finished) {
        return fail(err, PLM_EINVAL, "the training is finished");
    }
    plm_status st = trainer_plan(t, err);
    if (st) {
        return st;
    }
    char *prev = previous_path(path);
    if (!prev) {
        return fail(err, PLM_ENOMEM, "no memory to read %s", path);
    }
    struct map map;
    struct head h;
    plm_error first = {0}; /* not for the caller if the one before is good */
    const char *used = path;
    st = file_check(&map, &h, path, &first);
    if ((st == PLM_EFORMAT || st == PLM_ENOTFOUND) && !file_check(&map, &h, prev, NULL)) {
        used = prev;
        st = PLM_OK;
    }
    if (st) {
        fail(err, st, "%s", first.text);
    } else {
        st = apply(t, &map, &h, used, err);
        map_close(&map);
    }
    mem_free(prev);
    return st;
}
