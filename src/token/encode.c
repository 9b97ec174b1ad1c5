/* encode.c: text to ids and ids to bytes. Marked tokens are cut out first, the rest is changed or given its
 * first blank if the tokenizer wants it, cut into pieces and merged. Bytes that are not UTF-8 are cut as if
 * they were control characters but keep their value, so decoding gives the text back byte for byte. */
#include <string.h>
#include "token/vocab.h"

enum { IDS_MAX = INT32_MAX / 2 };

void ids_free(struct ids *l) {
    mem_free(l->v);
    *l = (struct ids){0};
}

plm_status ids_push(struct ids *l, int32_t id, plm_error *err) {
    if (l->n == l->cap) {
        size_t cap = l->cap + l->cap / 2 + 32;
        cap = cap < IDS_MAX ? cap : IDS_MAX;
        if (l->n == IDS_MAX) {
            return fail(err, PLM_ELIMIT, "a text of more than %d tokens", IDS_MAX);
        }
        int32_t *v = mem_grow(l->v, cap, sizeof *v);
        if (!v) {
            return fail(err, PLM_ENOMEM, "no memory for %zu tokens", cap);
        }
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = id;
    return PLM_OK;
}

struct encoder {
    const struct vocab *v;
    struct cut cut;
    struct bytes changed; /* the text in normal form, or with its first blank */
    struct bytes shown;   /* the text with every bad byte replaced, of the same length */
    struct merge_work work;
    bool begins; /* nothing or a marked token comes before */
    struct ids *out;
};

/* A valid text of the same length for the pre-tokenizer to look at. */
static plm_status show(struct encoder *e, struct str *text, plm_error *err) {
    if (utf8_valid(text->p, text->n, NULL)) {
        return PLM_OK;
    }
    bytes_clear(&e->shown);
    for (size_t at = 0, len; at < text->n; at += len) {
        uint32_t c = utf8_next(text->p + at, text->n - at, &len);
        if (c == 0xFFFD && len == 1) {
            bytes_putc(&e->shown, 1);
        } else {
            bytes_put(&e->shown, text->p + at, len);
        }
    }
    plm_status st = bytes_status(&e->shown, "a text to tokenise", err);
    *text = (struct str){e->shown.data, e->shown.len};
    return st;
}

/* U+2581 in a text is a blank, as in tokens. */
static plm_status encode_scored(struct encoder *e, struct str text, plm_error *err) {
    bytes_clear(&e->changed);
    if (e->begins && e->v->spm.space_prefix) {
        bytes_putc(&e->changed, ' ');
    }
    size_t lead = e->changed.len;
    bytes_put(&e->changed, text.p, text.n);
    plm_status st = bytes_status(&e->changed, "a text to tokenise", err);
    if (st) {
        return st;
    }
    struct str all = {e->changed.data, lead + spm_unblank(text, e->changed.data + lead)};
    return spm_text(e->v, all, &e->work, e->out, err);
}

/* Text without marked tokens. */
static plm_status encode_plain(struct encoder *e, struct str text, plm_error *err) {
    plm_status st = PLM_OK;
    if (e->v->scored) {
        st = encode_scored(e, text, err);
        e->begins = false;
        return st;
    }
    if (splitter_composes(e->v->split)) {
        bytes_clear(&e->changed);
        st = compose_text(text, &e->changed, err);
        text = (struct str){e->changed.data, e->changed.len};
    }
    struct str shown = text;
    st = st ? st : show(e, &shown, err);
    if (st) {
        return st;
    }
    cut_start(&e->cut, shown);
    for (size_t n; !(st = cut_next(&e->cut, &n, err)) && n; text.p += n) {
        struct str piece = {text.p, n};
        int32_t whole = splitter_whole_first(e->v->split) ? index_find(&e->v->plain, e->v, piece) : -1;
        st = whole >= 0 ? ids_push(e->out, whole, err) : bpe_piece(e->v, piece, &e->work, e->out, err);
        if (st) {
            break;
        }
    }
    return st;
}

static plm_status encode_text(struct encoder *e, struct str text, bool special, plm_error *err) {
    const struct vocab *v = e->v;
    unsigned wanted = special ? 2 : 1;
    size_t from = 0;
    plm_status st = PLM_OK;
    for (size_t at = 0; at < text.n && !st;) {
        size_t len = 1;
        int32_t id = -1;
        if (v->starts[(unsigned char)text.p[at]] & wanted) {
            id = index_match(v, (struct str){text.p + at, text.n - at}, special, &len);
        }
        if (id >= 0) {
            st = at > from ? encode_plain(e, (struct str){text.p + from, at - from}, err) : PLM_OK;
            st = st ? st : ids_push(e->out, id, err);
            from = at + len;
            e->begins = true;
        }
        at += id >= 0 ? len : 1;
    }
    return st || from == text.n ? st : encode_plain(e, (struct str){text.p + from, text.n - from}, err);
}

static plm_status encode(const struct vocab *v, const char *text, size_t len, bool special, bool begins,
                         struct ids *out, plm_error *err) {
    if (len > IDS_MAX / 4) { /* composing can lengthen a text threefold */
        return fail(err, PLM_ELIMIT, "a text of %zu bytes, at most %d", len, IDS_MAX / 4);
    }
    if (!len) {
        return PLM_OK;
    }
    struct encoder e = {.v = v, .out = out, .begins = begins};
    bytes_init(&e.changed, IDS_MAX);
    bytes_init(&e.shown, IDS_MAX);
    size_t before = out->n;
    plm_status st = v->scored ? PLM_OK : cut_open(&e.cut, v->split, err);
    if (!st) {
        st = encode_text(&e, (struct str){text, len}, special, err);
    }
    if (st) {
        out->n = before;
    }
    cut_close(&e.cut);
    bytes_free(&e.changed);
    bytes_free(&e.shown);
    merge_work_free(&e.work);
    return st;
}

plm_status vocab_encode(const struct vocab *v, const char *text, size_t len, bool special, struct ids *out,
                        plm_error *err) {
    return encode(v, text, len, special, true, out, err);
}

plm_status vocab_continue(const struct vocab *v, const char *text, size_t len, struct ids *out,
                          plm_error *err) {
    return encode(v, text, len, false, false, out, err);
}

struct str vocab_bytes(const struct vocab *v, int32_t id, bool special, char tmp[8]) {
    (void)tmp; /* every token's bytes are held; a vocabulary of another kind may have to write them */
    bool silent = id < 0 || id >= v->n || (vocab_is_control(v, id) && !special);
    return silent ? (struct str){"", 0} : token_text(v, id);
}
