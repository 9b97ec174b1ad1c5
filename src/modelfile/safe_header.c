/* safe_header.c: reads {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}, with an
 * optional "__metadata__" of strings, and refuses any other JSON. No recursion: the depth is fixed by the
 * grammar. What is well formed is not yet consistent; safetensors.c checks that. */
#include "modelfile/safe_header.h"
#include <string.h>

const struct safe_dtype safe_dtypes[] = {
    {"F32", 32, DT_F32}, {"F16", 16, DT_F16}, {"BF16", 16, DT_BF16}, {"F64", 64, -1},    {"I64", 64, -1},
    {"I32", 32, -1},     {"I16", 16, -1},     {"I8", 8, -1},         {"U64", 64, -1},    {"U32", 32, -1},
    {"U16", 16, -1},     {"U8", 8, -1},       {"BOOL", 8, -1},       {"F8_E4M3", 8, -1}, {"F8_E5M2", 8, -1},
    {"F8_E8M0", 8, -1},  {"C64", 64, -1},     {"F6_E2M3", 6, -1},    {"F6_E3M2", 6, -1}, {"F4", 4, -1},
    {NULL, 0, -1},
};

struct scan {
    const char *text;
    size_t len, at;
    const char *file;
    plm_error *err;
};

static plm_status wrong(struct scan *s, const char *what) {
    return fail(s->err, PLM_EFORMAT, "%s: header byte %zu: %s", s->file, s->at, what);
}

static char peek(struct scan *s) {
    while (s->at < s->len && memchr(" \t\r\n", s->text[s->at], 4))
        s->at++;
    return s->at < s->len ? s->text[s->at] : 0;
}

/* True and past it when c comes next. */
static bool next_is(struct scan *s, char c) {
    if (peek(s) != c)
        return false;
    s->at++;
    return true;
}

/* ---- strings ---- */

static bool hex4(const char *p, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int v = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (v < 0)
            return false;
        *out = *out << 4 | (uint32_t)v;
    }
    return true;
}

/* What follows a backslash, to out; at most 4 bytes for the 2 or more read. 0: no escape of JSON's, or a NUL.
 */
static size_t unescape(struct scan *s, char *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    size_t left = s->len - s->at;
    const char *p = s->text + s->at;
    const char *simple = left && p[0] ? strchr(from, p[0]) : NULL;
    if (simple) {
        *out = to[simple - from];
        s->at++;
        return 1;
    }
    uint32_t c, low;
    if (left < 5 || p[0] != 'u' || !hex4(p + 1, &c) || c == 0)
        return 0;
    s->at += 5;
    if (c < 0xd800 || c > 0xdfff)
        return utf8_put(c, out);
    if (c > 0xdbff || left < 11 || p[5] != '\\' || p[6] != 'u' || !hex4(p + 7, &low) || low < 0xdc00 ||
        low > 0xdfff)
        return 0;
    s->at += 6;
    return utf8_put(0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00), out);
}

/* A JSON string, unescaped into out (room for cap bytes and a NUL); out NULL: only passed over. */
static plm_status read_string(struct scan *s, char *out, size_t cap, size_t *n) {
    size_t w = 0;
    if (!next_is(s, '"'))
        return wrong(s, "a string should stand here");
    for (;;) {
        char piece[4];
        size_t got = 1;
        if (s->at >= s->len)
            return wrong(s, "a string has no end");
        char c = s->text[s->at++];
        if (c == '"')
            break;
        if ((unsigned char)c < 0x20)
            return wrong(s, "a control character in a string");
        piece[0] = c;
        if (c == '\\' && (got = unescape(s, piece)) == 0)
            return wrong(s, "an escape that makes no sense");
        if (out && got > cap - w)
            return wrong(s, "a string that is too long");
        if (out)
            memcpy(out + w, piece, got);
        w += got;
    }
    if (out)
        out[w] = 0;
    *n = w;
    return PLM_OK;
}

/* A string of any length, owned. */
static plm_status read_name(struct scan *s, char **out) {
    size_t start = s->at, n = 0;
    plm_status st = read_string(s, NULL, 0, &n);
    if (st)
        return st;
    if (n == 0)
        return wrong(s, "an empty name");
    char *name = mem_alloc(n + 1, 1);
    if (!name)
        return fail(s->err, PLM_ENOMEM, "%s: no memory for its header", s->file);
    s->at = start;
    st = read_string(s, name, n, &n);
    if (st)
        mem_free(name);
    else
        *out = name;
    return st;
}

/* ---- numbers and lists ---- */

static plm_status read_whole(struct scan *s, uint64_t *out) {
    size_t start = (peek(s), s->at);
    uint64_t v = 0;
    while (s->at < s->len && s->text[s->at] >= '0' && s->text[s->at] <= '9') {
        uint64_t digit = (uint64_t)(s->text[s->at] - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return wrong(s, "a number that is too large");
        v = v * 10 + digit;
        s->at++;
    }
    char after = s->at < s->len ? s->text[s->at] : 0;
    if (s->at == start || (s->at - start > 1 && s->text[start] == '0') || after == '.' || after == 'e' ||
        after == 'E')
        return wrong(s, "a whole number should stand here");
    *out = v;
    return PLM_OK;
}

static plm_status read_list(struct scan *s, uint64_t *v, int cap, int *n) {
    *n = 0;
    if (!next_is(s, '['))
        return wrong(s, "a list should stand here");
    if (next_is(s, ']'))
        return PLM_OK;
    do {
        if (*n == cap)
            return wrong(s, "a list that is too long");
        plm_status st = read_whole(s, &v[*n]);
        if (st)
            return st;
        ++*n;
    } while (next_is(s, ','));
    return next_is(s, ']') ? PLM_OK : wrong(s, "a list has no end");
}

/* ---- the two kinds of member ---- */

enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4, HAS_ALL = 7 };

static plm_status read_dtype(struct scan *s, struct safe_entry *e) {
    char name[16];
    size_t n;
    plm_status st = read_string(s, name, sizeof name - 1, &n);
    if (st)
        return st;
    for (e->dtype = 0; safe_dtypes[e->dtype].name; e->dtype++)
        if (strcmp(safe_dtypes[e->dtype].name, name) == 0)
            return PLM_OK;
    return wrong(s, "an unknown dtype");
}

static plm_status read_field(struct scan *s, struct safe_entry *e, unsigned *has) {
    char key[16];
    size_t n;
    int count;
    uint64_t offsets[2];
    plm_status st = read_string(s, key, sizeof key - 1, &n);
    if (st)
        return st;
    if (!next_is(s, ':'))
        return wrong(s, "a colon should stand here");
    unsigned which = strcmp(key, "dtype") == 0          ? HAS_DTYPE
                     : strcmp(key, "shape") == 0        ? HAS_SHAPE
                     : strcmp(key, "data_offsets") == 0 ? HAS_OFFSETS
                                                        : 0;
    if (which == 0 || *has & which)
        return wrong(s, which ? "a field that is there twice" : "an unknown field of a tensor");
    *has |= which;
    if (which == HAS_DTYPE)
        return read_dtype(s, e);
    if (which == HAS_SHAPE)
        return read_list(s, e->shape, (int)(sizeof e->shape / sizeof *e->shape), &e->n_dims);
    st = read_list(s, offsets, 2, &count);
    if (!st && count != 2)
        return wrong(s, "data_offsets are two numbers");
    if (!st) {
        e->begin = offsets[0];
        e->end = offsets[1];
    }
    return st;
}

static plm_status read_tensor(struct scan *s, struct safe_entry *e) {
    unsigned has = 0;
    if (!next_is(s, '{'))
        return wrong(s, "a tensor's description should stand here");
    do {
        plm_status st = read_field(s, e, &has);
        if (st)
            return st;
    } while (next_is(s, ','));
    if (!next_is(s, '}'))
        return wrong(s, "a description has no end");
    return has == HAS_ALL ? PLM_OK : wrong(s, "a tensor needs dtype, shape and data_offsets");
}

/* Strings to strings; nothing in them matters here. */
static plm_status pass_metadata(struct scan *s) {
    size_t n;
    if (!next_is(s, '{'))
        return wrong(s, "__metadata__ is an object");
    if (next_is(s, '}'))
        return PLM_OK;
    do {
        plm_status st = read_string(s, NULL, 0, &n);
        if (!st && !next_is(s, ':'))
            st = wrong(s, "a colon should stand here");
        if (!st)
            st = read_string(s, NULL, 0, &n);
        if (st)
            return st;
    } while (next_is(s, ','));
    return next_is(s, '}') ? PLM_OK : wrong(s, "__metadata__ has no end");
}

static plm_status add_entry(struct safe_entries *out, char *name, struct scan *s) {
    if (out->n == out->cap) {
        size_t cap = out->cap ? out->cap * 2 : 16;
        struct safe_entry *e = mem_grow(out->e, cap, sizeof *e);
        if (!e) {
            mem_free(name);
            return fail(s->err, PLM_ENOMEM, "%s: no memory for its header", s->file);
        }
        out->e = e;
        out->cap = cap;
    }
    struct safe_entry *e = &out->e[out->n++];
    *e = (struct safe_entry){.name = name};
    return read_tensor(s, e);
}

static plm_status read_members(struct safe_entries *out, struct scan *s) {
    bool metadata = false;
    if (next_is(s, '}'))
        return PLM_OK;
    do {
        char *name = NULL;
        plm_status st = read_name(s, &name);
        if (st)
            return st;
        bool is_metadata = strcmp(name, "__metadata__") == 0;
        if (!next_is(s, ':'))
            st = wrong(s, "a colon should stand here");
        else if (is_metadata && metadata)
            st = wrong(s, "__metadata__ is there twice");
        if (st || is_metadata)
            mem_free(name);
        if (!st)
            st = is_metadata ? pass_metadata(s) : add_entry(out, name, s);
        if (st)
            return st;
        metadata = metadata || is_metadata;
    } while (next_is(s, ','));
    return next_is(s, '}') ? PLM_OK : wrong(s, "the header has no end");
}

plm_status safe_header_parse(struct safe_entries *out, const char *text, size_t len, const char *file,
                             plm_error *err) {
    struct scan s = {.text = text, .len = len, .file = file, .err = err};
    *out = (struct safe_entries){0};
    if (len == 0 || text[0] != '{')
        return wrong(&s, "not a safetensors header");
    size_t bad;
    if (!utf8_valid(text, len, &bad)) {
        s.at = bad;
        return wrong(&s, "not UTF-8");
    }
    s.at = 1;
    plm_status st = read_members(out, &s);
    while (!st && s.at < len)
        if (text[s.at++] != ' ')
            st = wrong(&s, "only spaces may follow the header");
    if (st)
        safe_entries_free(out);
    return st;
}

void safe_entries_free(struct safe_entries *s) {
    for (size_t i = 0; i < s->n; i++)
        mem_free(s->e[i].name);
    mem_free(s->e);
    *s = (struct safe_entries){0};
}
