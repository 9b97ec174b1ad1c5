/* support_synth.c: see support_synth.h. */
#include "support_synth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void person_open(struct person *p, const char *kind) {
    memset(p, 0, sizeof *p);
    const char *base = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; // what it holds need not last
    snprintf(p->folder, sizeof p->folder, "%s/plm-synth-XXXXXX", base);
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->path, sizeof p->path, "%s/store.db", p->folder);
    plm_error err = {0};
    plm_status st = plm_store_open(&p->store, p->path, false, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    assert_int_equal(plm_kinds_open(&p->kinds, NULL, NULL), PLM_OK);
    p->kind = plm_kind_find(p->kinds, kind);
    assert_non_null(p->kind);
}

void person_close(struct person *p) {
    char command[120];
    plm_store_close(p->store);
    plm_kinds_close(p->kinds);
    snprintf(command, sizeof command, "rm -rf %s", p->folder);
    assert_int_equal(system(command), 0);
}

int64_t person_add(struct person *p, const char *input, const char *output, bool local_only) {
    plm_record r = {.user = "ada",
                    .kind = p->kind->name,
                    .input = input,
                    .output = output,
                    .source = "test",
                    .local_only = local_only};
    int64_t id = 0;
    plm_error err = {0};
    plm_status st = plm_store_add(p->store, &r, &id, NULL, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    return id;
}

void invent(char *out, size_t cap, int seed, int words) {
    static const char *const list[] = {
        "plumber", "kitchen",   "repaired", "Monday",  "garden",   "neighbour", "umbrella", "bicycle",
        "tomato",  "bread",     "chimney",  "meeting", "morning",  "weekend",   "letter",   "train",
        "violin",  "market",    "harbour",  "ladder",  "teacher",  "window",    "printer",  "holiday",
        "recipe",  "blanket",   "mirror",   "bought",  "painted",  "cleaned",   "lost",     "found",
        "slowly",  "yesterday", "because",  "without", "together", "outside",   "under",    "green",
        "heavy",   "quiet",     "broken",   "seven",   "winter",   "cousin",    "cheese",   "river",
        "museum",  "candle",    "button",   "carpet",  "invoice",  "signal"};
    struct rng r;
    rng_seed(&r, 99, (uint64_t)seed);
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < words; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i ? " " : "",
                               list[rng_below(&r, sizeof list / sizeof *list)]);
}

void person_add_notes(struct person *p, int n) {
    char input[300], output[300];
    for (int i = 0; i < n; i++) {
        invent(input, sizeof input, i, 12 + i % 6);
        invent(output, sizeof output, 1000 + i, strcmp(p->kind->name, "tweet") ? 3 : 9);
        person_add(p, input, p->kind->labels ? p->kind->labels[(size_t)i % p->kind->n_labels] : output,
                   false);
    }
}

plm_augment_policy person_policy(const struct person *p) {
    return (plm_augment_policy){.user = "ada", .kind = p->kind, .seed = 7};
}

struct found {
    char **text, **finish;
};

static int take(void *ctx, const plm_reply *r) {
    struct found *f = ctx;
    *f->text = mem_dupz(r->text);
    *f->finish = mem_dupz(r->finish);
    return 0;
}

static plm_status find(void *ctx, const char *hash, char **text, char **finish, plm_error *err) {
    struct person *p = ctx;
    struct found f = {text, finish};
    bool found;
    plm_status st = plm_store_find_reply(p->store, "ada", hash, take, &f, &found, err);
    p->found += found;
    return st;
}

static plm_status keep(void *ctx, const char *hash, const char *body, const plm_answer *a,
                       const int64_t *sources, size_t n, plm_error *err) {
    struct person *p = ctx;
    int64_t ids[64], id;
    (void)body;
    assert_true(n < 64);
    plm_status st = plm_augment_sources(p->store, p->request, sources, n, ids, err);
    if (st)
        return st;
    plm_reply r = {.when = 1,
                   .user = "ada",
                   .kind = p->kind->name,
                   .teacher = "fake",
                   .call_hash = hash,
                   .text = a->text,
                   .finish = a->finish,
                   .sources = ids,
                   .n_sources = n,
                   .tokens_in = a->tokens_in,
                   .tokens_out = a->tokens_out};
    p->kept++;
    if (p->said) {
        bytes_put(p->said, a->text, strlen(a->text) + 1);
    }
    return plm_store_add_reply(p->store, &r, &id, err);
}

static plm_status leaving(void *ctx, const char *body, size_t len, plm_error *err) {
    struct person *p = ctx;
    p->left++;
    if (p->sent) {
        bytes_put(p->sent, body, len);
        bytes_putc(p->sent, '\n');
    }
    if (p->until > 0 && clock_now() > p->until)
        return fail(err, PLM_ESTOPPED, "the time is over");
    return p->fail_after && p->left > p->fail_after ? fail(err, PLM_EREMOTE, "the line is cut") : PLM_OK;
}

struct synth_hooks person_hooks(struct person *p) {
    return (struct synth_hooks){.ctx = p, .find = find, .keep = keep, .leaving = leaving};
}

plm_status person_generate(struct person *p, const plm_augment_policy *policy, plm_teacher *t, char **request,
                           char **candidates, plm_error *err) {
    struct synth_hooks h = person_hooks(p);
    *candidates = NULL;
    plm_status st = plm_augment_draft(p->store, policy, request, err);
    if (st)
        return st;
    p->request = *request;
    st = synth_run(*request, t, &h, candidates, NULL, err);
    return st;
}

static int quickly(void *ctx, const char *why, double seconds) {
    (void)ctx, (void)why;
    return seconds > 5;
}

plm_teacher *remote_teacher(const char *base) {
    plm_teacher_options o = {
        .spec = base, .model_name = "fake", .key = "sk-secret-key-123", .waiting = quickly};
    plm_teacher *t = NULL;
    plm_error err = {0};
    plm_status st = plm_teacher_open(&t, &o, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    return t;
}
