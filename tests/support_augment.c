/* support_augment.c: see support_augment.h. */
#include "support_augment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const notes[NOTES][2] = {
    {"The plumber came on Monday and fixed the kitchen tap for forty euro.", "Tap fixed"},
    {"Our neighbour wants to paint the fence green before the summer starts.", "Green fence"},
    {"I lost the blue umbrella in the train to the harbour last night.", "Umbrella lost"},
    {"Seven jars of plum jam are in the cellar behind the old bicycle.", "Plum jam"},
    {"The violin lesson moves to Thursday because the teacher has a cold.", "Violin on Thursday"},
    {"We need two new candles and some rye bread from the market hall.", "Candles and bread"},
    {"The chimney must be cleaned in October, the man rings in advance.", "Chimney in October"},
    {"Marta can water the tomatoes while we are away at the lake house.", "Marta waters tomatoes"},
};

void desk_open(struct desk *d, const char *kind) {
    char path[100];
    memset(d, 0, sizeof *d);
    const char *base = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; // what it holds need not last
    snprintf(d->folder, sizeof d->folder, "%s/plm-augment-XXXXXX", base);
    assert_non_null(mkdtemp(d->folder));
    snprintf(path, sizeof path, "%s/s.db", d->folder);
    assert_int_equal(plm_store_open(&d->store, path, false, NULL), PLM_OK);
    assert_int_equal(plm_kinds_open(&d->kinds, NULL, NULL), PLM_OK);
    d->p = (plm_augment_policy){.user = "ada", .kind = plm_kind_find(d->kinds, kind), .seed = 3};
    bytes_init(&d->lines, 1 << 22);
}

void desk_close(struct desk *d) {
    char command[100];
    plm_free(d->request);
    plm_free(d->audit);
    wire_request_free(&d->q);
    bytes_free(&d->lines);
    plm_store_close(d->store);
    plm_kinds_close(d->kinds);
    snprintf(command, sizeof command, "rm -rf %s", d->folder);
    assert_int_equal(system(command), 0);
}

int64_t add(struct desk *d, const char *input, const char *output) {
    plm_record r = {.user = "ada", .kind = d->p.kind->name, .input = input, .output = output};
    int64_t id;
    assert_int_equal(plm_store_add(d->store, &r, &id, NULL, NULL), PLM_OK);
    return id;
}

void add_notes(struct desk *d) {
    for (size_t i = 0; i < NOTES; i++)
        add(d, notes[i][0], notes[i][1]);
}

void draft(struct desk *d) {
    plm_error err = {0};
    plm_free(d->request);
    wire_request_free(&d->q);
    d->request = NULL;
    plm_status st = plm_augment_draft(d->store, &d->p, &d->request, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    assert_int_equal(wire_request_parse(&d->q, d->request, strlen(d->request), &err), PLM_OK);
}

int number_of_note(const struct desk *d, const char *input) {
    for (size_t i = 0; i < d->q.n_records; i++)
        if (strcmp(d->q.records[i].input, input) == 0)
            return (int)i + 1;
    assert_true(false);
    return 0;
}

const char *const fresh = "My cousin sold the heavy wooden ladder to a baker near the river bridge.";
const char *const a_call = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

void say(struct desk *d, unsigned mode, int source, const char *input, const char *output) {
    int shown[1] = {1};
    struct wire_candidate c = {.mode = mode,
                               .source = source,
                               .input = input,
                               .output = output,
                               .call = a_call,
                               .shown = shown,
                               .n_shown = source ? 0 : 1};
    wire_candidate_put(&d->lines, &c);
}

void absorb_with(struct desk *d, plm_nll_fn nll, void *ctx) {
    char path[100];
    plm_error err = {0};
    struct bytes b;
    snprintf(path, sizeof path, "%s/audit.jsonl", d->folder);
    plm_status st = plm_augment_absorb(d->store, &d->p, d->request, d->lines.data, d->lines.len, "t", nll,
                                       ctx, path, &d->r, &err);
    if (st)
        print_message("%s\n", err.text);
    assert_int_equal(st, PLM_OK);
    bytes_init(&b, 1 << 24);
    plm_free(d->audit);
    d->audit = NULL;
    if (file_exists(path)) {
        assert_int_equal(file_read(path, 1 << 24, &b, NULL), PLM_OK);
        d->audit = bytes_take(&b);
    }
    bytes_free(&b);
}

const char *verdict(struct desk *d, unsigned mode, int source, const char *input, const char *output) {
    bytes_clear(&d->lines);
    say(d, mode, source, input, output);
    absorb_with(d, NULL, NULL);
    assert_int_equal(d->r.seen, 1);
    assert_int_equal(plm_store_clear_synthetic(d->store, "ada", d->p.kind->name, NULL), PLM_OK);
    for (int i = 0; i < PLM_RULES; i++)
        if (d->r.dropped[i])
            return plm_rule_name(i);
    assert_int_equal(d->r.kept, 1);
    return "kept";
}
