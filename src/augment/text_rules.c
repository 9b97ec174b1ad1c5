/* text_rules.c: what speaks against one generated text whatever it was made for: markup of a chat, an
 * assistant's phrases in the place of content, another writing system, secrets out of nowhere. What stands in
 * the person's own text is never held against a text made from it. */
#include "augment/inside.h"

#include <string.h>

static int script_of(uint32_t c) {
    static const struct {
        uint32_t from, to;
        int script;
    } ranges[] = {{'A', 'Z', 0},     {'a', 'z', 0},       {0xC0, 0x24F, 0},    {0x1E00, 0x1EFF, 0},
                  {0x370, 0x3FF, 1}, {0x400, 0x52F, 2},   {0x590, 0x5FF, 3},   {0x600, 0x6FF, 4},
                  {0x900, 0xDFF, 5}, {0x3040, 0x30FF, 6}, {0x3400, 0x9FFF, 6}, {0xAC00, 0xD7AF, 7}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (c >= ranges[i].from && c <= ranges[i].to) {
            return ranges[i].script;
        }
    }
    return -1;
}

void scripts_add(struct scripts *s, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0, len; i < n; i += len) {
        int script = script_of(utf8_next(text + i, n - i, &len));
        if (script >= 0) {
            s->count[script]++;
            s->all++;
        }
    }
}

static bool foreign_script(const char *text, const struct scripts *usual) {
    struct scripts mine = {0};
    scripts_add(&mine, text);
    for (int i = 0; i < SCRIPTS; i++) {
        if (mine.count[i] * 20 > mine.all && usual->count[i] * 100 < usual->all) {
            return true;
        }
    }
    return false;
}

static bool contains(const char *text, const char *piece) {
    return strcasestr(text, piece) != NULL;
}

static const char *const markers[] = {
    "<|",      "|>",       "<\xef\xbd\x9c",   "<s>",           "</s>",   "[INST]", "[/INST]",
    "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>", "<bos>",  "<eos>",  "<pad>",
    "<unk>",   "<think>",  "</think>",        "<<<DATA",       "DATA>>>"};

size_t chat_marker(const char *text) {
    if (!*text || !strchr("<|[Dd", *text)) { // with which all of them begin
        return 0;
    }
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        if (strncasecmp(text, markers[i], strlen(markers[i])) == 0) {
            return strlen(markers[i]);
        }
    }
    return 0;
}

static bool chat_markup(const char *text, const char *allowed) {
    for (const char *p = text; *p; p++) {
        size_t n = chat_marker(p);
        char marker[24];
        memcpy(marker, p, n);
        marker[n] = 0;
        if (n && !contains(allowed, marker)) {
            return true;
        }
    }
    return false;
}

const char *check_objection(const plm_checks *k, const char *input, const char *output) {
    for (size_t i = 0; i < k->n_never; i++) {
        if (contains(input, k->never[i]) || (output && contains(output, k->never[i]))) {
            return "a text that this kind never has";
        }
    }
    if (!output) {
        return NULL;
    }
    struct str t = str_trim(str_of(output));
    int words = (int)words_count(t.p, t.n);
    return words < k->min_words || (k->max_words && words > k->max_words) ? "an output too short or too long"
           : k->one_line && memchr(t.p, '\n', t.n)                        ? "an output of several lines"
                                                                          : NULL;
}

static bool opens_with(struct str t, const char *phrase) {
    size_t n = strlen(phrase);
    return t.n >= n && strncasecmp(t.p, phrase, n) == 0;
}

// Phrases with which an assistant talks about its task in the place of doing it.
static bool assistant_talk(const char *text, const char *allowed) {
    static const char *const openings[] = {"as an ai",
                                           "as a language model",
                                           "here is a",
                                           "here is the",
                                           "here's a",
                                           "here's the",
                                           "here are",
                                           "sure,",
                                           "sure!",
                                           "sure.",
                                           "certainly,",
                                           "certainly!",
                                           "of course!",
                                           "of course,",
                                           "absolutely!",
                                           "i'm sorry, but",
                                           "i am sorry, but",
                                           "sorry, but",
                                           "i cannot",
                                           "i can't help",
                                           "i can't assist",
                                           "i'm unable",
                                           "i am unable",
                                           "i apologize",
                                           "rewritten text",
                                           "rewritten:",
                                           "rewrite:",
                                           "rewritten version",
                                           "input:",
                                           "output:",
                                           "text:",
                                           "new text:",
                                           "the rewritten",
                                           "the text has been",
                                           "system:",
                                           "user:",
                                           "assistant:",
                                           "note: i",
                                           "[system",
                                           "```",
                                           "{\"",
                                           "[{",
                                           "ignore previous",
                                           "ignore all previous"};
    static const char *const anywhere[] = {"as an ai language model",
                                           "as an ai assistant",
                                           "i cannot assist with",
                                           "i can't assist with",
                                           "ignore previous instructions",
                                           "ignore all previous instructions",
                                           "you are a helpful assistant",
                                           "[your name]",
                                           "[insert",
                                           "lorem ipsum",
                                           "\"input\":",
                                           "\"output\":",
                                           "\"role\":",
                                           "](http",
                                           "![",
                                           "<img",
                                           "<script"};
    struct str t = str_trim(str_of(text)), real = str_trim(str_of(allowed));
    while (t.n && strchr("*#\"' ", *t.p)) {
        t.p++;
        t.n--;
    }
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
        if (opens_with(t, openings[i]) && !opens_with(real, openings[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof anywhere / sizeof *anywhere; i++) {
        if (contains(text, anywhere[i]) && !contains(allowed, anywhere[i])) {
            return true;
        }
    }
    return false;
}

static bool control_characters(const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t c = utf8_next(text + i, n - i, &len);
        bool plain = c == '\n' || c == '\t' || c == '\r';
        bool bidi = (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
        if ((c < 32 && !plain) || (c >= 0x7F && c < 0xA0) || c == 0xFFFD || bidi ||
            (c >= 0xE0000 && c <= 0xE007F)) {
            return true;
        }
    }
    return false;
}

// An address or a key that was in none of the texts it was made from.
static bool secret_from_nowhere(const char *text, const char *allowed) {
    struct secret *found = NULL;
    size_t n = 0, len = strlen(text), allowed_len = strlen(allowed);
    if (secrets_find(text, len, &found, &n, NULL)) {
        return true;
    }
    bool bad = false;
    for (size_t i = 0; i < n && !bad; i++) {
        bool placeholder = strcmp(found[i].type, "TEXT") == 0; // those have a rule of their own
        bad = !placeholder && !memmem(allowed, allowed_len, text + found[i].at, found[i].len);
    }
    mem_free(found);
    return bad;
}

// A long mixture of letters and digits is a number of something: an order, a licence, an account.
bool code_in(const char *text) {
    enum { LONG = 8 };
    size_t letters = 0, digits = 0;
    for (const char *p = text;; p++) {
        bool letter = (*p | 32) >= 'a' && (*p | 32) <= 'z', digit = *p >= '0' && *p <= '9';
        letters += letter;
        digits += digit;
        if (!letter && !digit) {
            if (letters && digits && letters + digits >= LONG) {
                return true;
            }
            letters = digits = 0;
        }
        if (!*p) {
            return false;
        }
    }
}

const char *text_objection(const char *text, const char *allowed, const struct scripts *usual) {
    if (!str_trim(str_of(text)).n) {
        return "empty";
    }
    if (control_characters(text)) {
        return "control characters";
    }
    if (chat_markup(text, allowed)) {
        return "chat markup";
    }
    if (assistant_talk(text, allowed)) {
        return "an assistant's phrases";
    }
    if (foreign_script(text, usual)) {
        return "another writing system";
    }
    return secret_from_nowhere(text, allowed) ? "an address or key out of nowhere" : NULL;
}
