/* main.c: the tables of commands and options. A command that another file brings gets its row here. */
#include "args.h"

#include <stdio.h>

#define AT(field) offsetof(struct args, field)

static const struct option options[] = {
    {"json", 0, NULL, OPT_FLAG, AT(json), "results as JSON on stdout"},
    {"quiet", 'q', NULL, OPT_FLAG, AT(quiet), "no talk on stderr"},
    {"help", 'h', NULL, OPT_FLAG, AT(help), "this text"},
    {"model", 'm', "FILE", OPT_TEXT, AT(model), "the student, a GGUF file"},
    {"threads", 't', "N", OPT_INT, AT(threads), "worker threads (default: one a core)"},
    {"cpu", 0, "NAME", OPT_TEXT, AT(cpu), "kernels: auto, ref, avx2, avx512, neon, dotprod"},
    {"task", 0, "NAME", OPT_TEXT, AT(task), "LaMP_1, LaMP_2M, LaMP_2N, LaMP_3, LaMP_4, LaMP_5 or LaMP_7"},
    {"golds", 0, "FILE", OPT_TEXT, AT(golds), "the right answers, in LaMP's outputs format"},
    {"preds", 0, "FILE", OPT_TEXT, AT(preds), "the answers to score, in the same format"},
    {NULL, 0, NULL, OPT_FLAG, 0, NULL},
};

static const struct command commands[] = {
    {"score", "--golds FILE --preds FILE", "LaMP's metrics of answers in its own format",
     "Accuracy and macro F1, MAE and RMSE, or ROUGE, as LaMP's evaluator computes them.",
     "plm-eval score --task LaMP_4 --golds dev_outputs.json --preds mine.json", "task golds preds",
     cmd_score},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

const struct program plm_eval_program = {
    .name = "plm-eval",
    .what = "does a personal model help? Arms and statistics on LaMP's tasks",
    .first = "The main one: plm-eval run --task LaMP_4 --data DIR --out RUN/",
    .files = "RUN/results.jsonl: numbers alone. RUN/private/: texts and adapters, which stay where they are.",
    .shared = "json quiet help",
    .commands = commands,
    .options = options,
    .args_size = sizeof(struct args),
    .rest = AT(rest),
    .n_rest = AT(n_rest),
    .help = AT(help),
};

int eval_fail(const plm_error *err) {
    fprintf(stderr, "plm-eval: %s\n", err->text[0] ? err->text : plm_status_name(err->code));
    return EXIT_FAILED;
}

int eval_misuse(const char *command, const char *sentence) {
    fprintf(stderr, "plm-eval %s: %s (see plm-eval %s --help)\n", command, sentence, command);
    return EXIT_MISUSE;
}

int main(int argc, char **argv) {
    return program_main(&plm_eval_program, argc, argv);
}
