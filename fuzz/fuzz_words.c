/* fuzz_words.c: text of any bytes as words, normalised, scored against its other half, and quoted as JSON. */
#include "fuzz.h"

#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"

static void check_rouge(struct rouge r) {
    PROMISE(r.precision >= 0 && r.precision <= 1 && r.recall >= 0 && r.recall <= 1 && r.f >= 0 && r.f <= 1);
}

static void compare(const struct words *half) {
    struct bm25 *b;
    struct tfidf *t;
    double scores[2];
    check_rouge(rouge_n(&half[0], &half[1], 1));
    check_rouge(rouge_n(&half[0], &half[1], 2));
    struct rouge l = rouge_l(&half[0], &half[1]), back = rouge_l(&half[1], &half[0]);
    check_rouge(l);
    PROMISE(l.precision == back.recall && l.recall == back.precision);
    if (!bm25_open(&b, half, 2, NULL)) {
        PROMISE(!bm25_scores(b, &half[0], scores, NULL));
        bm25_close(b);
    }
    if (!tfidf_open(&t, half, 2, NULL)) {
        double c = tfidf_cosine(t, 0, 1);
        PROMISE(c >= 0 && c <= 1 + 1e-9);
        tfidf_close(t);
    }
}

static void quote(const char *text, size_t len) {
    struct bytes b;
    json_t *doc = NULL;
    bytes_init(&b, SIZE_MAX);
    bytes_json(&b, text, len);
    if (!b.st) {
        PROMISE(json_parse(&doc, b.data, b.len, "quoted", NULL) == PLM_OK && json_is_string(doc));
        PROMISE(
            !utf8_valid(text, len, NULL) ||
            (json_string_length(doc) == len && (len == 0 || memcmp(json_string_value(doc), text, len) == 0)));
    }
    json_decref(doc);
    bytes_free(&b);
}

int fuzz_words(const uint8_t *data, size_t size) {
    enum { MOST = 2048 }; /* bytes compared: ROUGE is quadratic */
    const char *text = (const char *)data;
    size_t cut = utf8_whole(text, size < MOST ? size : MOST), middle = utf8_whole(text, cut / 2);
    char *plain, *twice;
    if (!text_normalise(text, size, &plain, NULL)) {
        if (!text_normalise(plain, strlen(plain), &twice, NULL)) {
            PROMISE(utf8_valid(twice, strlen(twice), NULL));
            mem_free(twice);
        }
        mem_free(plain);
    }
    for (enum word_rule rule = WORDS_UNICODE; rule <= WORDS_SPACE; rule++) {
        struct words half[2] = {{0}, {0}};
        if (!words_split(&half[0], text, middle, rule, NULL) &&
            !words_split(&half[1], text + middle, cut - middle, rule, NULL))
            compare(half);
        words_free(&half[0]);
        words_free(&half[1]);
    }
    struct words all;
    if (!words_split(&all, text, size, WORDS_UNICODE, NULL)) {
        PROMISE(all.n == words_count(text, size));
        words_free(&all);
    }
    quote(text, size);
    return 0;
}
