/* text.h: words, n-grams, ROUGE, TF-IDF and BM25 over UTF-8 text.
 * Unicode words (letters and digits runs; each CJK character is a word), lower-cased; and the ASCII
 * rule of rouge-score ([a-z0-9]+ after lower-casing) for LaMP's metrics. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H
#include "base/status.h"
#include "base/str.h"

enum word_rule { WORDS_UNICODE, WORDS_ROUGE, WORDS_SPACE /* white space, case kept: rank_bm25's usual */ };

struct words { /* views into text of its own */
    struct str *w;
    size_t n;
    char *own;
    uint32_t *hash; /* of each word; NULL in a view that a caller made: only slower */
};
plm_status words_split(struct words *out, const char *text, size_t len, enum word_rule rule, plm_error *err);
void words_free(struct words *w);
size_t words_count(const char *text, size_t len); /* Unicode words */
struct str text_strip(struct str s);              /* as Python's strip(): Unicode white space off both ends */
/* Lower case, everything but letters and digits to single blanks: for exact-duplicate tests. */
plm_status text_normalise(const char *text, size_t len, char **out, plm_error *err);

struct rouge {
    double precision, recall, f;
};
/* Both see the first 2^20 words of a text. n of rouge_n: 1 to 8. */
struct rouge rouge_n(const struct words *target, const struct words *prediction, int n);
struct rouge rouge_l(const struct words *target, const struct words *prediction);
/* rouge-score's rougeLsum: union LCS over lines. */
plm_status rouge_lsum(const char *target, const char *prediction, struct rouge *out, plm_error *err);

/* BM25Okapi as rank_bm25 computes it (k1 1.5, b .75, epsilon .25). Open copies what it needs; a score for
 * each document. */
struct bm25;
plm_status bm25_open(struct bm25 **out, const struct words *docs, size_t n, plm_error *err);
void bm25_close(struct bm25 *b);
plm_status bm25_scores(const struct bm25 *b, const struct words *query, double *scores, plm_error *err);

/* TF-IDF cosine over a fixed set of documents: tf * (ln((1 + N) / (1 + df)) + 1), vectors of length 1. */
struct tfidf;
plm_status tfidf_open(struct tfidf **out, const struct words *docs, size_t n, plm_error *err);
void tfidf_close(struct tfidf *t);
double tfidf_cosine(const struct tfidf *t, size_t a, size_t b);
/* The k terms of largest summed TF-IDF weight, best first; each borrowed. Returns how many. */
size_t tfidf_top(const struct tfidf *t, struct str *terms, size_t k);
/* In how many documents a word occurs. */
size_t tfidf_documents(const struct tfidf *t, struct str word);
#endif
