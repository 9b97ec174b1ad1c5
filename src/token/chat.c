/* chat.c: conversations to ids. A file's template is a program; it is never run. Instead it is
 * recognised as one of the families in the table below, or refused with the choices named.
 * Control ids come from the table alone: messages are encoded as text, whatever they contain. Where a
 * family's markers are text themselves, markers inside messages are broken by a word joiner
 * (one more than they have, so it can be undone). */
#include <stdio.h>
#include <string.h>
#include "token/vocab.h"

struct family {
    const char *name;
    const char *before;                 /* control token before a turn's role; NULL: none */
    const char *role_open, *role_close; /* text around the role; NULL is none in all of these */
    const char *after;                  /* control token after it; NULL: none */
    const char *lead;                   /* text before the message */
    const char *end;                    /* control token after the message; NULL: the file's end token */
    const char *tail;                   /* text after that */
    const char *system;                 /* said when the conversation has no system message; NULL: nothing */
    const char *system_lead;            /* text before any system message */
    bool trim;                          /* white space around messages goes */
    bool instructed;                    /* Llama 2's shape: [INST] pairs instead of roles */
    bool turns;                         /* user and assistant take turns, the user first */
    bool system_inside;                 /* a system message begins the first user's, an empty line between */
    const char *assistant;              /* what the role is called; NULL: assistant */
    bool bos;                           /* begins with BOS even if the file is silent about it */
    const char *marker[4];              /* markers that are ordinary text */
};

#define CHATML .before = "<|im_start|>", .role_close = "\n", .end = "<|im_end|>", .tail = "\n"
#define LLAMA3                                                                                          \
    .before = "<|start_header_id|>", .after = "<|end_header_id|>", .lead = "\n\n", .end = "<|eot_id|>", \
    .trim = true, .bos = true
#define LLAMA31_LEAD "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

static const struct family families[] = {
    {"smollm2", CHATML, .system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {"qwen2.5", CHATML, .system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {"qwen2", CHATML, .system = "You are a helpful assistant."},
    {"chatml", CHATML},
    {"llama3", LLAMA3},
    {"llama3.1", LLAMA3, .system = "", .system_lead = LLAMA31_LEAD},
    {"llama2", .trim = true, .instructed = true, .turns = true, .bos = true,
     .marker = {"[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"}},
    {"zephyr", .role_open = "<|", .role_close = "|>\n", .tail = "\n",
     .marker = {"<|user|>", "<|assistant|>", "<|system|>"}},
    {"gemma", .before = "<start_of_turn>", .role_close = "\n", .end = "<end_of_turn>", .tail = "\n",
     .trim = true, .turns = true, .bos = true, .system_inside = true, .assistant = "model"},
};

struct chat {
    const struct family *family;
    char *system; /* the file's own default system message, where the table has not got it */
    int32_t before, after, end;
    bool bos;
};

static const struct family *family_named(const char *name) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (!strcmp(families[i].name, name)) {
            return &families[i];
        }
    }
    return NULL;
}

static void list_choices(char *out, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < sizeof families / sizeof *families && n < size; i++) {
        n += (size_t)snprintf(out + n, size - n, "%s, ", families[i].name);
    }
    if (n < size) {
        snprintf(out + n, size - n, "none");
    }
}

static bool has(struct str template, const char *text) {
    return memmem(template.p, template.n, text, strlen(text)) != NULL;
}

/* ---- recognising a file's template ---- */

/* The text of a string literal up to <|im_end|>, with \n undone. False if code comes before that. */
static bool literal_text(struct str s, struct bytes *out) {
    bytes_clear(out);
    for (size_t i = 0; i < s.n; i++) {
        struct str rest = {s.p + i, s.n - i};
        if (str_starts(rest, "<|im_end|>")) {
            return true;
        }
        if (strchr("'\"{}", s.p[i])) {
            return false;
        }
        bool line_end = str_starts(rest, "\\n");
        bytes_putc(out, line_end ? '\n' : s.p[i]);
        i += line_end;
    }
    return false;
}

/* The default system message that a ChatML template spells out; false: none found. */
static bool default_system(struct str template, struct bytes *out) {
    static const char opening[] = "<|im_start|>system";
    for (const char *at; (at = memmem(template.p, template.n, opening, sizeof opening - 1));) {
        at += sizeof opening - 1;
        template = (struct str){at, template.n - (size_t)(at - template.p)};
        struct str rest = template;
        size_t line_end = str_starts(rest, "\\n") ? 2 : str_starts(rest, "\n");
        if (line_end && literal_text((struct str){rest.p + line_end, rest.n - line_end}, out)) {
            return true;
        }
    }
    return false;
}

static const struct family *recognise_chatml(struct str template, char **system, struct bytes *said) {
    if (has(template, "enable_thinking") || has(template, "<think>")) {
        return NULL;
    }
    if (!default_system(template, said)) {
        return has(template, "You are ") ? NULL : family_named("chatml"); /* some default that we can't see */
    }
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const struct family *f = &families[i];
        if (f->before && !strcmp(f->before, "<|im_start|>") && f->system && !strcmp(f->system, said->data)) {
            return f;
        }
    }
    *system = bytes_take(said);
    return family_named("chatml");
}

static const struct family *recognise(struct str template, char **system, struct bytes *said) {
    if (has(template, "<|im_start|>")) {
        return recognise_chatml(template, system, said);
    }
    if (has(template, "<start_of_turn>")) {
        return family_named("gemma");
    }
    if (has(template, "<|start_header_id|>")) {
        return family_named(has(template, "Cutting Knowledge Date") ? "llama3.1" : "llama3");
    }
    if (has(template, "[INST]") && has(template, "<<SYS>>")) {
        return family_named("llama2");
    }
    bool zephyr = has(template, "<|user|>") && has(template, "<|assistant|>") && has(template, "eos_token");
    return zephyr && !has(template, "<|end|>") ? family_named("zephyr") : NULL;
}

static plm_status need_control(const struct vocab *v, const struct family *f, const char *name, int32_t *id,
                               plm_error *err) {
    *id = -1;
    if (!name) {
        return PLM_OK;
    }
    *id = vocab_find(v, str_of(name));
    if (vocab_is_control(v, *id)) {
        return PLM_OK;
    }
    return fail(err, PLM_ENOTSUP,
                "chat template %s: the vocabulary has no control token %s; another can be chosen "
                "with --chat-template",
                f->name, name);
}

static plm_status bind(struct chat *c, const struct vocab *v, plm_error *err) {
    const struct family *f = c->family;
    plm_status st = need_control(v, f, f->before, &c->before, err);
    st = st ? st : need_control(v, f, f->after, &c->after, err);
    st = st ? st : need_control(v, f, f->end, &c->end, err);
    if (!st && !f->end) {
        c->end = vocab_eos(v);
        if (c->end < 0) {
            st = fail(err, PLM_ENOTSUP, "chat template %s: the file names no end token", f->name);
        }
    }
    if (!st && c->bos && vocab_bos(v) < 0) {
        st = fail(err, PLM_ENOTSUP, "chat template %s: the file names no BOS token", f->name);
    }
    return st;
}

static plm_status choose(struct chat *c, const struct gguf *g, const struct vocab *v, const char *name,
                         plm_error *err) {
    char choices[200];
    list_choices(choices, sizeof choices);
    if (name) {
        c->family = family_named(name);
        c->bos = c->family && (c->family->bos || vocab_add_bos(v));
        return c->family
                   ? PLM_OK
                   : fail(err, PLM_EINVAL, "--chat-template: there is no template \"%.64s\"; choices: %s",
                          name, choices);
    }
    struct str template;
    bool found = false;
    plm_status st = gguf_string(g, "tokenizer.chat_template", &template, &found, err);
    if (st || !found) {
        return st;
    }
    struct bytes said;
    bytes_init(&said, template.n);
    c->family = recognise(template, &c->system, &said);
    c->bos = c->family && (c->family->bos || has(template, "bos_token"));
    st = bytes_status(&said, "a chat template", err);
    bytes_free(&said);
    return st || c->family ? st
                           : fail(err, PLM_ENOTSUP,
                                  "the model's chat template is none of those supported; choose one "
                                  "with --chat-template: %s",
                                  choices);
}

plm_status chat_open(struct chat **out, const struct vocab *v, const struct gguf *g, const char *name,
                     plm_error *err) {
    *out = NULL;
    if (name && !strcmp(name, "none")) {
        return PLM_OK;
    }
    struct chat *c = mem_zero(1, sizeof *c);
    if (!c) {
        return fail(err, PLM_ENOMEM, "no memory for a chat template");
    }
    plm_status st = choose(c, g, v, name, err);
    st = st || !c->family ? st : bind(c, v, err);
    if (st || !c->family) {
        chat_close(c);
        return st;
    }
    *out = c;
    return PLM_OK;
}

void chat_close(struct chat *c) {
    if (c) {
        mem_free(c->system);
        mem_free(c);
    }
}

const char *chat_name(const struct chat *c) {
    return c->family->name;
}
bool chat_is_weak(const struct chat *c) {
    return c->family->marker[0] != NULL;
}

/* ---- rendering ---- */

/* Text waits until a control id or a change of author, so that it is tokenised as one, as the
 * published tokenizers do. */
struct render {
    const struct chat *chat;
    const struct vocab *v;
    struct ids *out;
    struct bytes text, target; /* target: one byte an id appended */
    bool by_assistant;
    bool inside; /* the last that was appended is text: more of it goes on */
    plm_error *err;
};

static void mark_new(struct render *r, size_t before) {
    for (size_t i = before; i < r->out->n; i++) {
        bytes_putc(&r->target, r->by_assistant);
    }
}

static plm_status flush(struct render *r) {
    size_t before = r->out->n;
    plm_status st = bytes_status(&r->text, "a conversation", r->err);
    if (!st && r->inside) {
        st = vocab_continue(r->v, r->text.data, r->text.len, r->out, r->err);
    } else if (!st) {
        st = vocab_encode(r->v, r->text.data, r->text.len, false, r->out, r->err);
    }
    r->inside = r->inside || r->text.len;
    bytes_clear(&r->text);
    mark_new(r, before);
    return st;
}

static plm_status put_control(struct render *r, int32_t id) {
    if (id < 0) {
        return PLM_OK;
    }
    plm_status st = flush(r);
    size_t before = r->out->n;
    st = st ? st : ids_push(r->out, id, r->err);
    r->inside = false;
    mark_new(r, before);
    return st;
}

#define JOINER "\xE2\x81\xA0"

/* Length of a marker's beginning at s, up to where one more joiner breaks it; 0: no marker here. */
static size_t marker_head(const struct family *f, struct str s) {
    for (size_t k = 0; k < 4 && f->marker[k]; k++) {
        if (s.p[0] != f->marker[k][0]) {
            continue;
        }
        size_t n = 1;
        while (str_starts((struct str){s.p + n, s.n - n}, JOINER)) {
            n += sizeof JOINER - 1;
        }
        if (str_starts((struct str){s.p + n, s.n - n}, f->marker[k] + 1)) {
            return n;
        }
    }
    return 0;
}

static void put_text(struct render *r, const char *text) {
    bytes_puts(&r->text, text ? text : "");
}

/* A message's own words. */
static void put_data(struct render *r, const char *text) {
    const struct family *f = r->chat->family;
    struct str s = f->trim ? str_trim(str_of(text)) : str_of(text);
    while (f->marker[0] && s.n) {
        size_t head = marker_head(f, s);
        size_t n = head ? head : 1;
        bytes_put(&r->text, s.p, n);
        bytes_puts(&r->text, head ? JOINER : "");
        s.p += n;
        s.n -= n;
    }
    bytes_put(&r->text, s.p, s.n);
}

static plm_status put_role(struct render *r, const char *role) {
    const struct family *f = r->chat->family;
    plm_status st = put_control(r, r->chat->before);
    put_text(r, f->role_open);
    put_text(r, f->assistant && !strcmp(role, "assistant") ? f->assistant : role);
    put_text(r, f->role_close);
    st = st ? st : put_control(r, r->chat->after);
    put_text(r, f->lead);
    return st;
}

/* before: put ahead of the message as it is; may be NULL */
static plm_status put_turn(struct render *r, const char *role, const char *before, const char *text) {
    const struct family *f = r->chat->family;
    bool assistant = !strcmp(role, "assistant");
    plm_status st = put_role(r, role);
    if (!st && assistant) { /* its words begin where generation would */
        st = flush(r);
        r->by_assistant = true;
    }
    if (!strcmp(role, "system")) {
        put_text(r, f->system_lead);
    }
    put_text(r, before);
    put_text(r, before ? "\n\n" : NULL);
    put_data(r, text);
    st = st ? st : put_control(r, r->chat->end);
    r->by_assistant = false;
    put_text(r, f->tail);
    return st;
}

static plm_status render_turns(struct render *r, const plm_message *m, size_t n) {
    const struct chat *c = r->chat;
    const char *said = c->system ? c->system : c->family->system;
    plm_status st = c->bos ? put_control(r, vocab_bos(r->v)) : PLM_OK;
    if (!st && said && strcmp(m[0].role, "system")) {
        st = put_turn(r, "system", NULL, said);
    }
    const char *before = c->family->system_inside && !strcmp(m[0].role, "system") ? m[0].text : NULL;
    for (size_t i = before != NULL; i < n && !st; i++) {
        st = put_turn(r, m[i].role, before, m[i].text);
        before = NULL;
    }
    if (!st && strcmp(m[n - 1].role, "assistant")) {
        st = put_role(r, "assistant");
    }
    return st ? st : flush(r);
}

static plm_status render_instructed(struct render *r, const plm_message *m, size_t n) {
    plm_status st = PLM_OK;
    bool system = !strcmp(m[0].role, "system");
    for (size_t i = system; i < n && !st; i++) {
        if (!strcmp(m[i].role, "assistant")) {
            r->by_assistant = true;
            bytes_puts(&r->text, " ");
            put_data(r, m[i].text);
            bytes_puts(&r->text, " ");
            st = put_control(r, r->chat->end);
            r->by_assistant = false;
            continue;
        }
        st = put_control(r, vocab_bos(r->v));
        bytes_puts(&r->text, "[INST] ");
        if (i && system) {
            bytes_puts(&r->text, "<<SYS>>\n");
            put_data(r, m[0].text);
            bytes_puts(&r->text, "\n<</SYS>>\n\n");
            system = false;
        }
        put_data(r, m[i].text);
        bytes_puts(&r->text, " [/INST]");
        st = st ? st : flush(r);
    }
    return st;
}

static plm_status check_messages(const struct family *f, const plm_message *m, size_t n, plm_error *err) {
    if (!n) {
        return fail(err, PLM_EINVAL, "a conversation without messages");
    }
    for (size_t i = 0; i < n; i++) {
        const char *role = m[i].role;
        if (!role || !m[i].text) {
            return fail(err, PLM_EINVAL, "message %zu has no %s", i + 1, role ? "text" : "role");
        }
        bool system = !strcmp(role, "system"), user = !strcmp(role, "user");
        if (!system && !user && strcmp(role, "assistant")) {
            return fail(err, PLM_EINVAL, "message %zu: the role \"%.32s\" is none of system, user, assistant",
                        i + 1, role);
        }
        if (system && i) {
            return fail(err, PLM_EINVAL, "message %zu: a system message can only be the first", i + 1);
        }
        const char *last = i ? m[i - 1].role : "system";
        if (f->turns && !system && user == !strcmp(last, "user")) {
            return fail(err, PLM_EINVAL,
                        "message %zu: with the chat template %s, user and assistant take turns, the "
                        "user first",
                        i + 1, f->name);
        }
    }
    if (f->turns && n == 1 && !strcmp(m[0].role, "system")) {
        return fail(err, PLM_EINVAL, "the chat template %s needs a user's message", f->name);
    }
    return PLM_OK;
}

plm_status chat_encode(const struct chat *c, const struct vocab *v, const plm_message *m, size_t n,
                       struct ids *out, uint8_t **is_target, plm_error *err) {
    plm_status st = check_messages(c->family, m, n, err);
    if (st) {
        return st;
    }
    struct render r = {.chat = c, .v = v, .out = out, .err = err};
    size_t before = out->n;
    bytes_init(&r.text, INT32_MAX);
    bytes_init(&r.target, INT32_MAX);
    st = c->family->instructed ? render_instructed(&r, m, n) : render_turns(&r, m, n);
    st = st ? st : bytes_status(&r.target, "a conversation", err);
    if (!st && is_target) {
        uint8_t *grown = mem_grow(*is_target, out->n, 1);
        st = grown ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for %zu tokens", out->n);
        if (grown) {
            memcpy(grown + before, r.target.data, r.target.len);
            *is_target = grown;
        }
    }
    if (st) {
        out->n = before;
    }
    bytes_free(&r.text);
    bytes_free(&r.target);
    return st;
}
