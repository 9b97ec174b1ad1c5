/* restore.c: placeholders back to what they stand for. Only one that was shown in the same call counts as
 * known; a reply that invents one or loses one is marked, and a rule drops it. */
#include "augment/inside.h"

#include <string.h>

static bool shown_in_call(const struct wire_request *q, const struct wire_candidate *w, const char *name,
                          size_t len) {
    for (size_t i = 0; i <= w->n_shown; i++) {
        int number = i < w->n_shown ? w->shown[i] : w->source;
        const struct wire_record *r = number ? &q->records[number - 1] : NULL;
        if (r && (memmem(r->input, strlen(r->input), name, len) ||
                  memmem(r->output, strlen(r->output), name, len))) {
            return true;
        }
    }
    return false;
}

static struct str meaning(const struct legend *m, const struct reals *reals, const char *name, size_t len) {
    for (size_t i = 0; i < m->n_hidden; i++) {
        const struct hidden *h = &m->hidden[i].where;
        if (strlen(m->hidden[i].name) != len || memcmp(m->hidden[i].name, name, len) != 0) {
            continue;
        }
        const struct real *r = reals_find(reals, h->record);
        const char *text = r ? (h->in_output ? r->output : r->input) : "";
        size_t n = strlen(text);
        return h->at <= n && h->len <= n - h->at ? (struct str){text + h->at, h->len} : (struct str){0};
    }
    return (struct str){0};
}

static plm_status restore(const char *text, const struct candidate *c, const struct wire_request *q,
                          const struct legend *m, const struct reals *reals, bool unredacted, char **out,
                          bool *lost, plm_error *err) {
    struct bytes b;
    bytes_init(&b, 8 * (size_t)WIRE_TEXT_MAX);
    size_t len = strlen(text), done = 0, at = 0, n = 0;
    while (placeholder_next(text, len, &at, &n)) {
        struct str to = {0};
        if (shown_in_call(q, &c->wire, text + at, n)) {
            to = unredacted ? (struct str){text + at, n} : meaning(m, reals, text + at, n);
        }
        *lost = *lost || !to.n;
        bytes_put(&b, text + done, at - done);
        bytes_put(&b, to.n ? to.p : text + at, to.n ? to.n : n);
        at += n;
        done = at;
    }
    bytes_put(&b, text + done, len - done);
    plm_status st = b.st == PLM_ELIMIT ? PLM_OK : bytes_status(&b, "a candidate", err);
    *lost = *lost || b.st == PLM_ELIMIT;
    if (!st) {
        *out = b.st ? mem_dupz("") : bytes_take(&b);
        st = *out ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a candidate");
    }
    bytes_free(&b);
    return st;
}

// Does everything that was hidden in the text to be rewritten stand in the reply?
static bool keeps_all(const char *source, const char *reply) {
    size_t len = strlen(source), reply_len = strlen(reply), at = 0, n = 0;
    while (placeholder_next(source, len, &at, &n)) {
        if (!memmem(reply, reply_len, source + at, n)) {
            return false;
        }
        at += n;
    }
    return true;
}

void candidate_free(struct candidate *c) {
    json_decref(c->doc);
    mem_free(c->shown);
    mem_free(c->input);
    mem_free(c->output);
    mem_free(c->plain);
    doc_close(&c->text);
}

plm_status candidate_restore(struct candidate *c, const struct wire_request *q, const struct legend *m,
                             const struct reals *reals, bool unredacted, plm_error *err) {
    const struct wire_record *source = c->wire.source ? &q->records[c->wire.source - 1] : NULL;
    bool rewrites = c->wire.mode == PLM_MODE_REVERSE || c->wire.mode == PLM_MODE_REWRITE;
    if (source && rewrites && (!unredacted || !m)) {
        c->lost =
            !keeps_all(c->wire.mode == PLM_MODE_REWRITE ? source->input : source->output, c->wire.input);
    }
    // What was hidden in an exemplar has no place in an invented text.
    size_t at = 0, n = 0;
    bool invents = c->wire.mode == PLM_MODE_NEW || c->wire.mode == PLM_MODE_LABEL;
    c->lost = c->lost || (invents && (!unredacted || !m) &&
                          (placeholder_next(c->wire.input, strlen(c->wire.input), &at, &n) ||
                           (at = 0, placeholder_next(c->wire.output, strlen(c->wire.output), &at, &n))));
    plm_status st = restore(c->wire.input, c, q, m, reals, unredacted, &c->input, &c->lost, err);
    if (st) {
        return st;
    }
    if (rewrites) {
        c->output = mem_dupz(c->parent ? c->parent->output : "");
        return c->output ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a candidate");
    }
    return restore(c->wire.output, c, q, m, reals, unredacted, &c->output, &c->lost, err);
}
