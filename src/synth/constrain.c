/* constrain.c: lines of JSON with given fields in a given order, as the only thing that may be written. A
 * form is fixed text with slots for any text. A token is allowed where its bytes lead on, and where the rest
 * still fits into the limit if every further token were a single byte: so a reply is always whole, wherever
 * the limit lies. What a slot takes is always the inside of a JSON string in valid UTF-8. */
#include "synth/constrain.h"

#include <string.h>

enum { FORM_MAX = 1 << 20, SLOT = 1, SLOT_MAX = 8000, BYTES_A_TOKEN = 4 };

struct form {
    char *text; /* SLOT: the inside of a string */
    size_t n, share;
    size_t *left; /* [n + 1] bytes from there to the end, slots being one byte long */
};

static void put_line(struct bytes *b, const plm_call *c, size_t number) {
    bytes_printf(b, "%s{\"n\": %zu", number > 1 ? "\n" : "", number);
    for (size_t i = 0; i < c->n_fields; i++) {
        bytes_printf(b, ", \"%s\": \"%c\"", c->fields[i], SLOT);
    }
    bytes_putc(b, '}');
}

plm_status form_open(struct form **out, const plm_call *c, int max_tokens, plm_error *err) {
    size_t room = max_tokens > 0 ? (size_t)max_tokens : 0, lines = 0;
    struct bytes b;
    bytes_init(&b, FORM_MAX);
    for (; lines < c->lines && !b.st; lines++) {
        size_t whole = b.len;
        put_line(&b, c, lines + 1);
        if (b.len > room) {
            b.len = whole;
            break;
        }
    }
    plm_status st = bytes_status(&b, "a form", err);
    if (!st && !lines) {
        st = fail(err, PLM_ELIMIT, "%d tokens hold no line of the reply", max_tokens);
    }
    struct form *f = st ? NULL : mem_zero(1, sizeof *f);
    if (f) {
        f->n = b.len;
        f->text = mem_dup(b.data, b.len);
        f->left = mem_zero(f->n + 1, sizeof *f->left);
        f->share = (room - f->n) / (lines * c->n_fields) * BYTES_A_TOKEN + 1;
        f->share = f->share < SLOT_MAX ? f->share : SLOT_MAX;
    }
    bytes_free(&b);
    if (!st && (!f || !f->text || !f->left)) {
        form_close(f);
        return fail(err, PLM_ENOMEM, "no memory for a form");
    }
    for (size_t i = f ? f->n : 0; i-- > 0;) {
        f->left[i] = f->left[i + 1] + 1;
    }
    *out = f;
    return st;
}

void form_close(struct form *f) {
    if (f) {
        mem_free(f->text);
        mem_free(f->left);
        mem_free(f);
    }
}

/* What is open inside a slot: an escape, or the rest of a character. */
enum { PLAIN, ESCAPE, MORE1, MORE2, MORE3 };

static bool string_byte(struct place *p, unsigned char c) {
    if (p->inside >= MORE1) { // the second byte has a range of its own after E0, ED, F0 and F4
        bool fits = c >= p->low && c <= p->high;
        p->low = 0x80;
        p->high = 0xBF;
        p->inside = p->inside == MORE1 ? PLAIN : (unsigned char)(p->inside - 1);
        return fits;
    }
    if (p->inside == ESCAPE) { // \u could write half a pair of surrogates, and no text needs it
        p->inside = PLAIN;
        return c && strchr("\"\\/nt", c);
    }
    p->low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    p->high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    p->inside = c == '\\'                ? ESCAPE
                : c >= 0xC2 && c <= 0xDF ? MORE1
                : c >= 0xE0 && c <= 0xEF ? MORE2
                : c >= 0xF0 && c <= 0xF4 ? MORE3
                                         : PLAIN;
    return c >= 0x20 && c != 0x7F && (c < 0x80 || p->inside != PLAIN);
}

static bool form_byte(const struct form *f, struct place *p, unsigned char c) {
    if (p->at >= f->n) {
        return false;
    }
    if (f->text[p->at] != SLOT) {
        return (unsigned char)f->text[p->at++] == c;
    }
    if (p->inside == PLAIN && c == '"') {
        bool text = p->shown;
        *p = (struct place){.at = p->at + 2}; // behind the quotation mark
        return text;
    }
    // A character or an escape that was begun may be finished beyond the share.
    bool room = p->taken++ < f->share || p->inside != PLAIN;
    p->shown = p->shown || (c > ' ' && c != '\\' && p->inside != ESCAPE);
    return room && string_byte(p, c);
}

bool form_take(const struct form *f, struct place *p, const char *bytes, size_t n) {
    struct place to = *p;
    for (size_t i = 0; i < n; i++) {
        if (!form_byte(f, &to, (unsigned char)bytes[i])) {
            return false;
        }
    }
    *p = to;
    return n > 0;
}

size_t form_left(const struct form *f, const struct place *p) {
    size_t open = p->inside == PLAIN ? 0 : p->inside == ESCAPE ? 1 : (size_t)(p->inside - MORE1) + 1;
    return f->left[p->at] + open - (p->shown ? 1 : 0);
}
