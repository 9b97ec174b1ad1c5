/* The trainer over tiny random models, from messages to the adapter's file. */
#include "tiny_model.h"
#include "train/trainer.h"
#include "base/hash.h"
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#undef fail

static char folder[] = "train-model-XXXXXX";
static char model_path[64], adapter_path[64], checkpoint[64];
static plm_error why;

#define assert_ok(call)                               \
    do {                                              \
        plm_status ok_st = (call);                    \
        if (ok_st) {                                  \
            print_error("%s: %s\n", #call, why.text); \
        }                                             \
        assert_int_equal(ok_st, PLM_OK);              \
    } while (0)

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(model_path, sizeof model_path, "%s/tiny.gguf", folder);
    snprintf(adapter_path, sizeof adapter_path, "%s/adapter.gguf", folder);
    snprintf(checkpoint, sizeof checkpoint, "%s/run.ckpt", folder);
    const struct tiny_model spec = {
        .type = DT_Q8_0, .seed = 5, .width = 32, .heads = 2, .kv_heads = 1, .ffn = 64};
    return tiny_model_write(model_path, &spec, NULL) ? -1 : 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* A model, a fresh adapter and a trainer with ten short conversations, two of them for validation. */
struct run {
    plm_model *m;
    plm_adapter *a;
    plm_trainer *t;
};

static const plm_train_options usual = {.steps = 12, .batch = 4, .eval_every = 3, .rate = 5e-3f, .seed = 3};

static void add_conversations(plm_trainer *t, int n, int valid) {
    static const char *const things[] = {"the sea", "a river", "12 stones", "an old house"};
    for (int i = 0; i < n; i++) {
        char question[200], answer[100], name[20];
        snprintf(question, sizeof question, "What is %d times %s?", i, things[i % 4]);
        snprintf(answer, sizeof answer, "%s, %d", things[(i * 7) % 4], i * 3);
        snprintf(name, sizeof name, "line %d", i + 1);
        const plm_message m[] = {{"user", question}, {"assistant", answer}};
        assert_ok(plm_trainer_add(t,
                                  &(plm_example){.messages = m,
                                                 .n_messages = 2,
                                                 .weight = (float)(1 + i % 2),
                                                 .validation = i >= n - valid,
                                                 .name = name},
                                  &why));
    }
}

static void run_open_top(struct run *r, const char *cpu, int threads, const plm_train_options *o,
                         int layers) {
    *r = (struct run){0};
    assert_ok(plm_model_open(&r->m, model_path, &(plm_model_options){.cpu = cpu, .threads = threads}, &why));
    const plm_adapter_options shape = {.rank = 4, .seed = 1, .layers = layers};
    assert_ok(plm_adapter_new(&r->a, r->m, &shape, &why));
    assert_ok(plm_trainer_new(&r->t, r->m, r->a, o, &why));
    add_conversations(r->t, 10, 2);
}

static void run_open(struct run *r, const char *cpu, int threads, const plm_train_options *o) {
    run_open_top(r, cpu, threads, o, 0);
}

static void run_close(struct run *r) {
    plm_trainer_free(r->t);
    plm_adapter_free(r->a);
    plm_model_close(r->m);
}

static void steps(plm_trainer *t, int n) {
    for (int i = 0; i < n; i++) {
        assert_ok(plm_trainer_step(t, NULL, &why));
    }
}

static void finish(struct run *r, char hex[65]) {
    plm_train_report report = {.done = r->t->at.step >= r->t->opt.steps && r->t->planned};
    while (!report.done) {
        assert_ok(plm_trainer_step(r->t, &report, &why));
    }
    assert_ok(plm_trainer_finish(r->t, NULL, NULL, &why));
    assert_ok(plm_adapter_save(r->a, adapter_path, &why));
    assert_ok(sha256_file(adapter_path, hex, &why));
}

static const char *const kernels[] = {"ref", NULL};

/* ---- gradients ---- */

static void packed_and_single_passes_agree(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct run r;
        run_open(&r, kernels[k], 2, &usual);
        steps(r.t, 2); /* so that B is no longer zero */
        size_t n = r.a->lora->parameters;
        float *packed = calloc(n, sizeof *packed), *single = calloc(n, sizeof *single), share[4];
        int count = order_step(&r.t->order, 2, r.t->step_ex);
        assert_int_equal(count, 4);
        for (int i = 0; i < count; i++) {
            share[i] = r.t->step_ex[i]->weight / 6;
        }
        double loss[4];
        assert_ok(trainer_pass(r.t, r.t->step_ex, count, r.t->pass_tokens, share, packed, &why));
        assert_int_equal(r.t->packer.passes, 1);
        memcpy(loss, r.t->loss, sizeof loss);
        for (int i = 0; i < count; i++) {
            assert_ok(trainer_pass(r.t, &r.t->step_ex[i], 1, r.t->pass_tokens, &share[i], single, &why));
            assert_float_equal(r.t->loss[0], loss[i], k ? 2e-3 : 1e-5);
        }
        double dot = 0, norm = grad_norm(single, n), other = grad_norm(packed, n);
        for (size_t i = 0; i < n; i++) {
            dot += (double)packed[i] * (double)single[i];
        }
        assert_true(norm > 0);
        assert_float_equal(other / norm, 1, k ? 1e-2 : 1e-5);
        assert_float_equal(dot / norm / other, 1, k ? 1e-3 : 1e-6);
        free(packed);
        free(single);
        run_close(&r);
    }
}

static void a_step_goes_down_the_slope_that_its_loss_has(void **state) {
    (void)state;
    struct run r;
    run_open(&r, "ref", 2, &usual);
    steps(r.t, 2);
    size_t n = r.a->lora->parameters;
    float *grad = calloc(n, sizeof *grad), *start = calloc(n, sizeof *start), *w = r.a->lora->values,
          share[4];
    int count = order_step(&r.t->order, 2, r.t->step_ex);
    double weights = 0, slope = 0, loss[2] = {0};
    for (int i = 0; i < count; i++) {
        weights += (double)r.t->step_ex[i]->weight;
    }
    for (int i = 0; i < count; i++) {
        share[i] = (float)(r.t->step_ex[i]->weight / weights);
    }
    assert_ok(trainer_pass(r.t, r.t->step_ex, count, r.t->pass_tokens, share, grad, &why));
    memcpy(start, w, n * sizeof *w);
    double norm = grad_norm(grad, n), h = 1e-3;
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++) {
            w[i] = start[i] + (float)((side ? h : -h) * (double)grad[i] / norm);
        }
        assert_ok(trainer_pass(r.t, r.t->step_ex, count, r.t->pass_tokens, NULL, NULL, &why));
        for (int i = 0; i < count; i++) {
            loss[side] += (double)share[i] * r.t->loss[i];
        }
    }
    slope = (loss[1] - loss[0]) / (2 * h);
    assert_float_equal(slope / norm, 1, 1e-2);
    free(grad);
    free(start);
    run_close(&r);
}

/* ---- runs ---- */

static void conversations_are_learned_by_heart(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        plm_train_options o = {.steps = 80, .batch = 4, .rate = 2e-2f};
        struct run r = {0};
        assert_ok(plm_model_open(&r.m, model_path, &(plm_model_options){.cpu = kernels[k]}, &why));
        assert_ok(plm_adapter_new(&r.a, r.m, &(plm_adapter_options){.rank = 8, .seed = 1}, &why));
        assert_ok(plm_trainer_new(&r.t, r.m, r.a, &o, &why));
        add_conversations(r.t, 4, 0);
        plm_train_report first, last;
        assert_ok(plm_trainer_step(r.t, &first, &why));
        do {
            assert_ok(plm_trainer_step(r.t, &last, &why));
        } while (!last.done);
        print_message("loss %.3f to %.3f in %d steps\n", first.loss, last.loss, last.step + 1);
        assert_true(first.loss > 4);
        assert_true(last.loss < 0.2);
        run_close(&r);
    }
}

static void every_number_of_threads_gives_the_same_file(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        char one[65], other[65];
        const int threads[] = {1, 2, 3, 7};
        for (int i = 0; i < (k ? 4 : 2); i++) {
            struct run r;
            run_open(&r, kernels[k], threads[i], &usual);
            finish(&r, i ? other : one);
            run_close(&r);
            if (i) {
                assert_string_equal(one, other);
            }
        }
    }
}

static void less_memory_recomputes_and_gives_the_same_file(void **state) {
    (void)state;
    char plenty[65], tight[65];
    plm_train_options o = usual;
    o.batch = 2; /* passes too short to be made shorter */
    struct run r;
    run_open(&r, NULL, 2, &o);
    plm_train_facts facts;
    assert_ok(plm_trainer_plan(r.t, &facts, &why));
    assert_int_equal(facts.recomputed_layers, 0);
    uint64_t all = facts.planned_bytes;
    finish(&r, plenty);
    run_close(&r);
    o.memory = all - 1;
    run_open(&r, NULL, 2, &o);
    assert_ok(plm_trainer_plan(r.t, &facts, &why));
    assert_int_equal(facts.recomputed_layers, 1);
    assert_true(facts.planned_bytes < all);
    finish(&r, tight);
    run_close(&r);
    assert_string_equal(plenty, tight);
    o.memory = 100000;
    run_open(&r, NULL, 2, &o);
    assert_int_equal(plm_trainer_plan(r.t, &facts, &why), PLM_ELIMIT);
    assert_non_null(strstr(why.text, "at least"));
    run_close(&r);
}

static void a_run_stays_within_its_plan(void **state) {
    (void)state;
    plm_train_options o = usual;
    o.max_tokens = 200;
    struct run r;
    run_open(&r, NULL, 2, &o);
    plm_train_facts facts;
    uint64_t before = process_anonymous(), most = 0;
    assert_ok(plm_trainer_plan(r.t, &facts, &why));
    for (int i = 0; i < 12; i++) {
        steps(r.t, 1);
        uint64_t now = process_anonymous();
        most = now > most ? now : most;
    }
    uint64_t used = most > before ? most - before : 0;
    print_message("planned %.2f MiB, used %.2f MiB\n", (double)facts.planned_bytes / 1048576,
                  (double)used / 1048576);
    assert_true(used <= facts.planned_bytes + (1 << 20));
    run_close(&r);
}

/* ---- the top layers alone ---- */

/* Every B gets values; those below `layer` are zero, as if they were not there. */
static void fill_from(struct lora *l, int layer) {
    for (int i = layer * LORA_LINEARS; i < l->layers * LORA_LINEARS; i++)
        for (int j = 0; j < l->pair[i].rank * l->pair[i].out; j++)
            l->pair[i].B[j] = 0.01f * (float)((i + j) % 7 - 3);
}

static float *pass_gradient(struct run *r) {
    float *grad = calloc(r->a->lora->parameters, sizeof *grad), share[4] = {0.1f, 0.2f, 0.3f, 0.4f};
    assert_ok(plm_trainer_plan(r->t, NULL, &why));
    int n = order_step(&r->t->order, 0, r->t->step_ex);
    assert_ok(trainer_pass(r->t, r->t->step_ex, n, r->t->pass_tokens, share, grad, &why));
    return grad;
}

static void the_top_layer_has_the_gradient_that_it_has_among_all(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct run all, top;
        run_open(&all, kernels[k], 2, &usual);
        run_open_top(&top, kernels[k], 2, &usual, 1);
        assert_int_equal(plm_adapter_describe(top.a)->first_layer, 1);
        fill_from(all.a->lora, 1);
        fill_from(top.a->lora, 1);
        size_t n = top.a->lora->parameters, from = all.a->lora->parameters - n;
        assert_true(n > 0 && from > 0);
        assert_memory_equal(all.a->lora->values + from, top.a->lora->values, n * sizeof(float));
        float *want = pass_gradient(&all), *got = pass_gradient(&top), *diff = calloc(n, sizeof *diff);
        for (size_t i = 0; i < n; i++)
            diff[i] = got[i] - want[from + i];
        assert_true(grad_norm(diff, n) <= 1e-5 * grad_norm(got, n));
        free(want);
        free(got);
        free(diff);
        run_close(&all);
        run_close(&top);
    }
}

/* With room for all examples, for some and for none, by any number of threads, stopped and resumed. */
static void what_lies_below_is_kept_and_changes_no_bit(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        char whole[65], got[65];
        plm_train_options o = usual;
        o.batch = 2; /* passes too short to be made shorter */
        plm_train_facts facts;
        struct run r;
        run_open_top(&r, kernels[k], 2, &o, 1);
        assert_ok(plm_trainer_plan(r.t, &facts, &why));
        assert_int_equal(facts.frozen_kept, 10);
        assert_int_equal(facts.frozen_anew, 0);
        uint64_t all = facts.planned_bytes, rows = r.t->below.bytes;
        finish(&r, whole);
        run_close(&r);
        for (int i = 0; i < 6; i++) {
            const int threads[] = {1, 3, 7, 2, 2, 2};
            run_open_top(&r, kernels[k], threads[i], &o, 1);
            r.t->opt.memory = i == 3 ? all - rows / 2 : i == 4 ? all - rows : r.t->opt.memory;
            if (i == 5) {
                steps(r.t, 5);
                assert_ok(plm_trainer_save(r.t, checkpoint, &why));
                run_close(&r);
                run_open_top(&r, kernels[k], 1, &o, 1);
                assert_ok(plm_trainer_resume(r.t, checkpoint, &why));
            }
            assert_ok(plm_trainer_plan(r.t, &facts, &why));
            assert_int_equal(facts.frozen_kept + facts.frozen_anew, 10);
            assert_true(i == 3 ? facts.frozen_kept > 1 && facts.frozen_anew > 1
                               : facts.frozen_kept == (i == 4 ? 0 : 10));
            finish(&r, got);
            assert_string_equal(got, whole);
            run_close(&r);
        }
    }
}

/* A profile sees no embedding looked up once every example has been met, and none is met for a loss. */
static void what_lies_below_is_computed_once(void **state) {
    (void)state;
    struct run r;
    run_open_top(&r, NULL, 2, &usual, 1);
    assert_ok(plm_model_profile(r.m, &why));
    plm_trainer_free(r.t);
    assert_ok(plm_trainer_new(&r.t, r.m, r.a, &usual, &why));
    add_conversations(r.t, 10, 2);
    steps(r.t, 3); /* two of eight examples in fours, and the validation */
    uint64_t calls = r.m->profile->cost[OP_EMBED].calls;
    assert_in_range(calls, 1, 10);
    steps(r.t, 5);
    assert_int_equal(r.m->profile->cost[OP_EMBED].calls, calls);
    run_close(&r);
}

/* Losses of other examples, longer than any of the trainer's, leave a run as it is. */
static void losses_in_between_change_nothing_of_it(void **state) {
    (void)state;
    char whole[65], got[65];
    struct run r;
    plm_train_options o = usual;
    o.max_tokens = 200;
    run_open_top(&r, NULL, 2, &o, 1);
    finish(&r, whole);
    run_close(&r);
    int32_t ids[200];
    for (int i = 0; i < 200; i++)
        ids[i] = 40 + i % 50;
    for (int tight = 0; tight < 2; tight++) {
        run_open_top(&r, NULL, 2, &o, 1);
        const plm_example other = {.ids = ids, .n_ids = 200, .n_prompt = 3};
        double first, again;
        plm_train_facts facts;
        assert_ok(plm_trainer_plan(r.t, &facts, &why));
        steps(r.t, 4);
        if (tight) /* room for the longer pass, once nothing is kept */
            r.t->opt.memory = facts.planned_bytes + (2 << 20);
        assert_ok(plm_trainer_loss(r.t, &other, 1, &first, &why));
        assert_ok(plm_trainer_loss(r.t, &other, 1, &again, &why));
        assert_true(first == again && first > 0);
        finish(&r, got);
        assert_string_equal(got, whole);
        run_close(&r);
    }
}

/* ---- stopping ---- */

static void a_resumed_run_gives_the_same_file(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        char whole[65], got[65];
        struct run r;
        run_open(&r, kernels[k], 2, &usual);
        finish(&r, whole);
        run_close(&r);
        for (int stop = 1; stop <= 12; stop += 5) {
            unlink(checkpoint);
            run_open(&r, kernels[k], 2, &usual);
            steps(r.t, stop);
            assert_ok(plm_trainer_save(r.t, checkpoint, &why));
            run_close(&r);
            run_open(&r, kernels[k], 1 + stop % 3, &usual);
            assert_ok(plm_trainer_resume(r.t, checkpoint, &why));
            finish(&r, got);
            assert_string_equal(got, whole);
            run_close(&r);
        }
    }
}

static void a_killed_run_gives_the_same_file(void **state) {
    (void)state;
    char whole[65], got[65];
    struct run r;
    run_open(&r, NULL, 2, &usual);
    finish(&r, whole);
    run_close(&r);
    unlink(checkpoint);
    unlink(adapter_path);
    struct rng rng;
    rng_seed(&rng, 8, 0);
    int kills = 0, status = -1;
    do {
        pid_t child = fork();
        if (child == 0) {
            run_open(&r, NULL, 2, &usual);
            if (file_exists(checkpoint)) {
                assert_ok(plm_trainer_resume(r.t, checkpoint, &why));
            }
            while (r.t->at.step < 12) {
                assert_ok(plm_trainer_step(r.t, NULL, &why));
                assert_ok(plm_trainer_save(r.t, checkpoint, &why));
            }
            finish(&r, got);
            _exit(0);
        }
        usleep((useconds_t)rng_below(&rng, 40000));
        if (kills < 12) {
            kill(child, SIGKILL);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        kills += WIFSIGNALED(status);
    } while (!WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_ok(sha256_file(adapter_path, got, &why));
    assert_string_equal(got, whole);
    print_message("%d kills\n", kills);
}

/* ---- what goes wrong ---- */

static void a_damaged_embedding_is_blamed_on_the_example_that_has_it(void **state) {
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/nan.gguf", folder);
    assert_ok(tiny_model_write(path, &(struct tiny_model){.arch = "qwen2", .seed = 5}, &why));
    struct gguf *g;
    assert_ok(gguf_open(&g, path, &why));
    const struct tensor *e = gguf_tensor(g, "token_embd.weight");
    int32_t poisoned = 90;
    off_t at = (off_t)(gguf_data_at(g) + e->offset + (uint64_t)poisoned * e->ne[0] * sizeof(float));
    gguf_close(g);
    int fd = open(path, O_WRONLY);
    const float nan = NAN;
    assert_int_equal(pwrite(fd, &nan, sizeof nan, at), sizeof nan);
    close(fd);

    struct run r = {0};
    assert_ok(plm_model_open(&r.m, path, NULL, &why));
    assert_ok(plm_adapter_new(&r.a, r.m, NULL, &why));
    assert_ok(plm_trainer_new(&r.t, r.m, r.a, NULL, &why));
    for (int i = 0; i < 6; i++) {
        char name[20];
        snprintf(name, sizeof name, "line %d", i + 1);
        int32_t ids[] = {40, 41, i == 3 ? poisoned : 42, 43 + i, 44, 45};
        assert_ok(
            plm_trainer_add(r.t, &(plm_example){.ids = ids, .n_ids = 6, .n_prompt = 4, .name = name}, &why));
    }
    assert_int_equal(plm_trainer_step(r.t, NULL, &why), PLM_EINVAL);
    assert_non_null(strstr(why.text, "line 4"));
    run_close(&r);
}

static void long_conversations_are_cut_inside_their_longest_text(void **state) {
    (void)state;
    plm_train_options o = {.max_tokens = 100, .steps = 1};
    struct run r;
    run_open(&r, NULL, 1, &o);
    char text[2000] = "Give a title:";
    while (strlen(text) < 1900) {
        strcat(text, " and the winter");
    }
    const plm_message m[] = {{"user", text}, {"assistant", "It was the sea"}};
    assert_ok(plm_trainer_add(r.t, &(plm_example){.messages = m, .n_messages = 2}, &why));
    plm_train_facts facts;
    assert_ok(plm_trainer_plan(r.t, &facts, &why));
    assert_int_equal(facts.cut, 1);
    const struct example *e = &r.t->ex[r.t->n_ex - 1];
    assert_int_equal(e->n, 100);
    char shown[2000];
    size_t len;
    assert_ok(plm_decode(r.m, e->ids, (size_t)e->n, true, shown, sizeof shown - 1, &len, &why));
    shown[len] = 0;
    assert_non_null(strstr(shown, "<|im_start|>user\nGive a title: and"));
    assert_non_null(strstr(shown, "winter<|im_end|>\n<|im_start|>assistant\nIt was the sea<|im_end|>"));
    assert_true(plm_is_end(r.m, e->ids[99]));
    run_close(&r);
}

static plm_status short_run(const plm_model *m, int layers, plm_error *err) {
    plm_adapter *a = NULL;
    plm_trainer *t = NULL;
    const plm_message words[] = {{"user", "Hello"}, {"assistant", "Hi there"}};
    double loss;
    plm_example ex = {.messages = words, .n_messages = 2};
    plm_status st = plm_adapter_new(&a, m, &(plm_adapter_options){.layers = layers}, err);
    if (!st) {
        st = plm_trainer_new(&t, m, a, &(plm_train_options){.steps = 2}, err);
    }
    for (int i = 0; i < 2 && !st; i++) {
        ex.validation = i;
        st = plm_trainer_add(t, &ex, err);
    }
    for (int i = 0; i < 2 && !st; i++) {
        st = plm_trainer_step(t, NULL, err);
    }
    if (!st) {
        st = plm_trainer_loss(t, &ex, 1, &loss, err);
    }
    plm_trainer_free(t);
    plm_adapter_free(a);
    return st;
}

static void every_failed_allocation_is_a_clean_status(void **state) {
    (void)state;
    plm_model *m = NULL;
    assert_ok(plm_model_open(&m, model_path, &(plm_model_options){.threads = 1}, &why));
    for (int layers = 0; layers < 2; layers++) {
        plm_status st = PLM_ENOMEM;
        long n = 0;
        while (st) {
            mem_fail_at(++n, false);
            st = short_run(m, layers, &why);
            mem_fail_at(0, false);
            assert_true(st == PLM_OK || st == PLM_ENOMEM);
            assert_in_range(n, 1, 2000);
        }
        assert_true(n > 30);
    }
    plm_model_close(m);
}

/* The plan is for the largest pass that a step will have, and every step has room. */
static void passes_are_planned_as_large_as_they_get(void **state) {
    (void)state;
    struct run r;
    run_open(&r, NULL, 1, &usual);
    assert_ok(plm_trainer_plan(r.t, NULL, &why));
    int most = 0, longest = 0;
    for (size_t i = 0; i < r.t->n_ex; i++)
        longest = r.t->ex[i].n - 1 > longest ? r.t->ex[i].n - 1 : longest;
    for (int step = 0; step < r.t->opt.steps; step++) {
        int n = order_step(&r.t->order, step, r.t->step_ex);
        packer_plan(&r.t->packer, r.t->step_ex, n, r.t->pass_tokens);
        assert_int_equal(r.t->packer.passes, 1);
        packer_lay(&r.t->packer, 0, NULL);
        most = r.t->packer.batch.T > most ? r.t->packer.batch.T : most;
    }
    assert_in_range(r.t->pass_tokens, most, most > longest ? most * 5 / 4 : longest);
    run_close(&r);
}

static void a_profile_counts_each_kind_of_operation(void **state) {
    (void)state;
    struct run r;
    run_open(&r, NULL, 2, &usual);
    plm_op_time t[32];
    assert_int_equal(plm_model_times(r.m, t, 32), 0);
    plm_trainer_free(r.t);
    assert_ok(plm_model_profile(r.m, &why));
    assert_ok(plm_trainer_new(&r.t, r.m, r.a, &usual, &why));
    add_conversations(r.t, 10, 2);
    double start = clock_now();
    steps(r.t, 2);
    double took = clock_now() - start, sum = 0;
    size_t n = plm_model_times(r.m, t, 32);
    assert_int_equal(n, OP_KINDS);
    for (size_t i = 0; i < n; i++) {
        assert_non_null(t[i].name);
        bool elsewhere =
            i == OP_LINEAR || i == OP_LINEAR_BACK || i == OP_QUANTISE; /* the loss has the head */
        assert_true((t[i].calls > 0) == !elsewhere && t[i].seconds >= 0);
        sum += i == OP_DECODE ? 0 : t[i].seconds;
    }
    assert_true(sum <= took);
    assert_true(t[OP_LINEAR + 1].operations > 0 && t[OP_LOSS].operations > 0);
    assert_true(t[OP_LINEAR + 1].bytes > 0);
    run_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_and_single_passes_agree),
        cmocka_unit_test(a_step_goes_down_the_slope_that_its_loss_has),
        cmocka_unit_test(conversations_are_learned_by_heart),
        cmocka_unit_test(every_number_of_threads_gives_the_same_file),
        cmocka_unit_test(less_memory_recomputes_and_gives_the_same_file),
        cmocka_unit_test(a_run_stays_within_its_plan),
        cmocka_unit_test(the_top_layer_has_the_gradient_that_it_has_among_all),
        cmocka_unit_test(what_lies_below_is_kept_and_changes_no_bit),
        cmocka_unit_test(what_lies_below_is_computed_once),
        cmocka_unit_test(losses_in_between_change_nothing_of_it),
        cmocka_unit_test(a_resumed_run_gives_the_same_file),
        cmocka_unit_test(a_killed_run_gives_the_same_file),
        cmocka_unit_test(a_damaged_embedding_is_blamed_on_the_example_that_has_it),
        cmocka_unit_test(long_conversations_are_cut_inside_their_longest_text),
        cmocka_unit_test(passes_are_planned_as_large_as_they_get),
        cmocka_unit_test(a_profile_counts_each_kind_of_operation),
        cmocka_unit_test(every_failed_allocation_is_a_clean_status),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
