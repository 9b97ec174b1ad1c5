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
    {"data", 0, "DIR", OPT_TEXT, AT(data), "folder with LaMP_4/dev_questions.json and so on"},
    {"arms", 0, "LIST", OPT_TEXT, AT(arms),
     "arms, comma separated (default: the main table without a teacher)"},
    {"points", 0, "LIST", OPT_TEXT, AT(points), "items known of a user: 0,4,8,16,all (default: all)"},
    {"split", 0, "NAME", OPT_TEXT, AT(split),
     "dev (default); pseudo: each user's last 8 items as queries, for tuning; rolling: items after the first "
     "8"},
    {"users", 0, "N", OPT_INT, AT(users), "the first N users (default: all)"},
    {"queries", 0, "N", OPT_INT, AT(queries), "the first N queries of each (default: all)"},
    {"seeds", 0, "N", OPT_INT, AT(seeds), "runs with different seeds (default: 1)"},
    {"seed", 0, "N", OPT_U64, AT(seed), "of what is drawn by chance, the first of --seeds (default: 0)"},
    {"recipe", 0, "FILE", OPT_TEXT, AT(recipe), "the frozen configuration, JSON (docs/evaluation.md)"},
    {"no-guard", 0, NULL, OPT_FLAG, AT(no_guard), "keep items that are near duplicates of a query"},
    {"out", 'o', "RUN", OPT_TEXT, AT(out), "folder of the results (default: RUN)"},
    {"cache", 0, "DIR", OPT_TEXT, AT(cache),
     "folder of adapters, which several runs may share (default: in RUN)"},
    {"shard", 0, "I/N", OPT_TEXT, AT(shard), "only every N-th user, from the I-th on"},
    {"hours", 0, "X", OPT_REAL, AT(hours), "start no further cell after so long"},
    {"teacher", 0, "T", OPT_TEXT, AT(teacher), "MODEL.gguf, an OpenAI-compatible API or a plm-cloud"},
    {"teacher-model", 0, "NAME", OPT_TEXT, AT(teacher_model), "what the API calls its model"},
    {"teacher-key", 0, "FILE", OPT_TEXT, AT(teacher_key_file),
     "file with the API key (default: $PLM_TEACHER_KEY)"},
    {"html", 0, "FILE", OPT_TEXT, AT(html), "the report as one page as well"},
    {"svg", 0, "DIR", OPT_TEXT, AT(svg), "its plots as files as well"},
    {"golds", 0, "FILE", OPT_TEXT, AT(golds), "the right answers, in LaMP's outputs format"},
    {"preds", 0, "FILE", OPT_TEXT, AT(preds), "the answers to score, in the same format"},
    {"questions", 0, "FILE", OPT_TEXT, AT(questions), "a questions file of LaMP, or a text file, one a line"},
    {"limit", 'n', "N", OPT_INT, AT(limit), "only the first N (default 20)"},
    {"adapter", 0, "FILE", OPT_TEXT, AT(adapter), "an adapter for the student"},
    {"endpoint", 0, "URL", OPT_TEXT, AT(endpoint), "an OpenAI-compatible server, up to /v1"},
    {"endpoint-model", 0, "NAME", OPT_TEXT, AT(endpoint_model), "the model to ask it for"},
    {"endpoint-key", 0, "FILE", OPT_TEXT, AT(teacher_key_file), "its key, one line"},
    {"endpoint-ca", 0, "FILE", OPT_TEXT, AT(endpoint_ca),
     "PEM of the authority that its certificate is from"},
    {"max-tokens", 0, "N", OPT_INT, AT(max_tokens), "longest answer (default 64)"},
    {"rtt", 0, "LIST", OPT_TEXT, AT(rtt), "round trips in ms (default 20,100,300)"},
    {"stalls", 0, "PERCENT", OPT_REAL, AT(stalls), "answers that fall silent once (default 2)"},
    {"stall", 0, "S", OPT_REAL, AT(stall), "for so many seconds (default 8)"},
    {"timeout", 0, "S", OPT_REAL, AT(timeout), "seconds of silence before the client gives up (default 20)"},
    {NULL, 0, NULL, OPT_FLAG, 0, NULL},
};

static const struct command commands[] = {
    {"run", "--task NAME --data DIR --model FILE --out RUN", "answer users' queries under each arm",
     "Arms: majority, histogram, copy; base, task (an adapter of other users), task+prior; real, "
     "real-matched,\n"
     "real-best, real-dropout, real+nearest; generic, synthetic, real+unfiltered, real+syn (the system);\n"
     "shuffled, gate, mixture (of those before it); teacher. Behind a name, @4 puts the four best items by "
     "BM25\n"
     "into every prompt, of training and test alike, and :0.5 goes half way from the task adapter to the "
     "user's.\n"
     "Each cell is a line of numbers in RUN/results.jsonl. Texts and adapters stay in RUN/private. A run "
     "that\n"
     "was stopped goes on with the same command.",
     "plm-eval run --task LaMP_4 --data lamp -m small.gguf --teacher big.gguf --points 8,all --out RUN \\\n"
     "    --arms base,bm25,task,real-matched,real-best,real+syn,shuffled",
     "task data model teacher teacher-model teacher-key arms points split users queries seeds seed recipe "
     "no-guard out cache shard hours threads cpu",
     cmd_run},
    {"report", "RUN...", "what the results of one or several runs say",
     "Several runs of one configuration are merged. It says what is missing, and invents nothing.",
     "plm-eval report RUN --html report.html", "html svg", cmd_report},
    {"score", "--golds FILE --preds FILE", "LaMP's metrics of answers in its own format",
     "Accuracy and macro F1, MAE and RMSE, or ROUGE, as LaMP's evaluator computes them.",
     "plm-eval score --task LaMP_4 --golds dev_outputs.json --preds mine.json", "task golds preds",
     cmd_score},
    {"latency", "--questions FILE [--model FILE] [--endpoint URL]",
     "how long answers take on this device and from a server, through networks from good to none",
     "The same questions, one at a time, are answered on the device and by the server: directly,\n"
     "and through a proxy of plm-eval's own that adds round trips, lets some answers stall, and\n"
     "refuses connections for a tenth of the questions. Each is asked once, on a connection of its\n"
     "own. One question is asked beforehand, of which nothing is counted. Without --endpoint or\n"
     "without --model the other side is left out.\n"
     "\n"
     "first token     from the question to the first text, over the questions that were answered\n"
     "whole answer    from the question to the answer's end\n"
     "p50, p95        half of them, nineteen in twenty of them, took no longer\n"
     "directly        no proxy: for a server on this machine, its own computing\n"
     "network adds    the median over questions of the whole answer's time less the same one's directly\n"
     "tokens          pieces of text in an answer, on average; servers send a token in each\n"
     "answered        how many answers came whole\n"
     "refused         no connection\n"
     "timed out       nothing came for --timeout seconds\n"
     "cut             the answer broke off\n"
     "rejected        an error instead of an answer\n"
     "stalled         answers that the proxy held back for --stall seconds, early in the answer",
     "plm-eval latency --model small.gguf --endpoint http://127.0.0.1:8000/v1 --questions dev_questions.json",
     "questions limit model adapter threads cpu endpoint endpoint-model endpoint-key endpoint-ca max-tokens "
     "rtt stalls "
     "stall "
     "timeout seed",
     cmd_latency},
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
