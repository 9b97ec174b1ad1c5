/* SmolLM2 itself against transformers in fp32, where the model is at hand: the short texts and greedy answers
 * of data/golden. plm-golden checks everything there, this the part that takes seconds. */
#include "support_model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"

enum { SHORT = 100 };

struct values {
    plm_model *m;
    json_t *doc;
    struct runner *r;
    struct kv_cache kv;
};

static bool find_model(char path[1000]) {
    static const char file[] = "SmolLM2-135M-Instruct.Q4_1.gguf";
    const char *models = getenv("PLM_MODELS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (models) {
        snprintf(path, 1000, "%s/%s", models, file);
    } else if (cache) {
        snprintf(path, 1000, "%s/plm/models/%s", cache, file);
    } else {
        snprintf(path, 1000, "%s/.cache/plm/models/%s", home ? home : "", file);
    }
    return file_exists(path);
}

static void open_values(struct values *v, const char *cpu) {
    char path[1000];
    struct bytes text;
    plm_error err = {0};
    if (!find_model(path)) {
        print_message("%s is not there\n", path);
        skip();
    }
    bytes_init(&text, 1 << 20);
    assert_ok(file_read(PLM_TEST_DATA "/golden/logits-smollm2-135m-instruct-q4_1.json", 1 << 20, &text, &err),
              &err);
    assert_ok(json_parse(&v->doc, text.data, text.len, "the values", &err), &err);
    bytes_free(&text);
    assert_ok(plm_model_open(&v->m, path, &(plm_model_options){.cpu = cpu}, &err), &err);
    assert_ok(runner_open(&v->r, v->m, SHORT, &err), &err);
    assert_ok(kv_open(&v->kv, v->m, SHORT, kv_usual(v->m), &err), &err);
}

static void close_values(struct values *v) {
    runner_close(v->r);
    kv_close(&v->kv);
    plm_model_close(v->m);
    json_decref(v->doc);
}

/* Appends ids to what v->kv holds; the last hidden states. */
static const float *append(struct values *v, const int32_t *ids, int n) {
    int32_t pos[SHORT], first[SHORT] = {0};
    const float *x = NULL;
    plm_error err = {0};
    for (int i = 0; i < n; i++) {
        pos[i] = v->kv.n + i;
    }
    assert_ok(model_forward(v->r, &(struct batch){.T = n, .ids = ids, .pos = pos, .first = first}, &v->kv,
                            NULL, 0, &x, &err),
              &err);
    return x;
}

static int ids_of(const json_t *array, int32_t ids[SHORT]) {
    int n = (int)json_array_size(array);
    for (int i = 0; i < n && i < SHORT; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(array, (size_t)i));
    }
    return n;
}

static double at(const json_t *array, int i) {
    return json_number_value(json_array_get(array, (size_t)i));
}

/* worst: largest difference of a token's NLL. ratio: the texts' mean distance over llama.cpp's, averaged. */
static void compare_texts(struct values *v, double *worst, double *ratio) {
    size_t i;
    json_t *text;
    int texts = 0;
    *worst = *ratio = 0;
    json_array_foreach(json_object_get(v->doc, "texts"), i, text) {
        int32_t ids[SHORT];
        double nll[SHORT], sum = 0;
        int n = ids_of(json_object_get(text, "ids"), ids);
        if (n > SHORT) {
            continue;
        }
        v->kv.n = 0;
        model_nll(v->r, nll, append(v, ids, n), ids + 1, n - 1);
        for (int j = 0; j + 1 < n; j++) {
            double off = fabs(nll[j] - at(json_object_get(text, "nll"), j));
            assert_true(isfinite(off));
            *worst = fmax(*worst, off);
            sum += off;
        }
        *ratio += sum / (n - 1) /
                  json_number_value(json_object_get(json_object_get(text, "llama_cpp"), "mean_abs"));
        texts++;
    }
    assert_true(texts >= 4);
    *ratio /= texts;
}

/* Steps of the reference's greedy answers, of at least that margin, at which another token is best here. */
static int compare_greedy(struct values *v, double margin) {
    size_t i;
    json_t *row;
    int wrong = 0, V = v->m->cfg.vocab;
    float *logits = malloc(sizeof *logits * (size_t)V);
    json_array_foreach(json_object_get(v->doc, "greedy"), i, row) {
        int32_t ids[SHORT], out[SHORT];
        int n = ids_of(json_object_get(row, "prompt"), ids), n_out = ids_of(json_object_get(row, "out"), out);
        if (n + n_out > SHORT) {
            continue;
        }
        v->kv.n = 0;
        const float *x = append(v, ids, n) + (size_t)(n - 1) * (size_t)v->m->cfg.width;
        for (int j = 0; j < n_out; j++) {
            int best = 0;
            model_logits(v->r, logits, x, 1);
            for (int k = 1; k < V; k++) {
                best = logits[k] > logits[best] ? k : best;
            }
            wrong += best != out[j] && at(json_object_get(row, "margin"), j) >= margin;
            x = append(v, &out[j], 1);
        }
    }
    free(logits);
    return wrong;
}

static void reference_kernels_give_transformers_numbers(void **state) {
    (void)state;
    struct values v = {0};
    double worst, ratio;
    open_values(&v, "ref");
    compare_texts(&v, &worst, &ratio);
    assert_true(worst < 2e-3);
    close_values(&v);
}

static void fast_kernels_are_as_near_as_llama_cpp(void **state) {
    (void)state;
    struct values v = {0};
    double worst, ratio;
    open_values(&v, "auto");
    compare_texts(&v, &worst, &ratio);
    assert_true(ratio < 1.1);
    assert_int_equal(compare_greedy(&v, 0.5), 0);
    close_values(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_kernels_give_transformers_numbers),
        cmocka_unit_test(fast_kernels_are_as_near_as_llama_cpp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
