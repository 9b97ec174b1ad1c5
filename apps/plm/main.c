/* main.c: the tables of commands and options, and the dispatch. */
#include "app.h"

#define AT(field) offsetof(struct args, field)

static const struct option options[] = {
    {"model", 'm', "FILE", OPT_TEXT, AT(model), "the model, a GGUF file (default: the fetched one)"},
    {"adapter", 0, "FILE[:SCALE]", OPT_LIST, AT(adapters),
     "an adapter: GGUF file or PEFT folder; repeatable"},
    {"store", 0, "FILE", OPT_TEXT, AT(store), "the personal store (default: in $XDG_DATA_HOME/plm)"},
    {"user", 'u', "NAME", OPT_TEXT, AT(user), "whose records (default: me)"},
    {"task", 'k', "KIND", OPT_TEXT, AT(task), "what kind of text: note, commit, mail, ..."},
    {"kind", 0, "KIND", OPT_TEXT, AT(task), "the same as --task"},
    {"kinds", 0, "FILE", OPT_TEXT, AT(kinds), "a JSON file of your own kinds"},
    {"threads", 't', "N", OPT_INT, AT(threads), "worker threads (default: one a core)"},
    {"cpu", 0, "NAME", OPT_TEXT, AT(cpu), "kernels: auto, ref, avx2, avx512, neon, dotprod"},
    {"no-repack", 0, NULL, OPT_FLAG, AT(no_repack), "no copy of the weights in memory; decodes slower"},
    {"seed", 0, "N", OPT_U64, AT(seed), "seed of everything random (default: 0)"},
    {"chat-template", 0, "NAME", OPT_TEXT, AT(chat_template),
     "the chat template, where the file's own is unknown"},
    {"json", 0, NULL, OPT_FLAG, AT(json), "results as JSON on stdout"},
    {"quiet", 'q', NULL, OPT_FLAG, AT(quiet), "no talk on stderr"},
    {"verbose", 'v', NULL, OPT_FLAG, AT(verbose), "more talk on stderr"},
    {"help", 'h', NULL, OPT_FLAG, AT(help), "this text"},

    {"teacher", 0, "T", OPT_TEXT, AT(teacher),
     "MODEL.gguf, an OpenAI-compatible API (https://.../v1) or a plm-cloud (plm+https://HOST)"},
    {"no-teacher", 0, NULL, OPT_FLAG, AT(no_teacher), "real records alone"},
    {"teacher-model", 0, "NAME", OPT_TEXT, AT(teacher_model), "what the API calls its model"},
    {"teacher-key", 0, "FILE", OPT_TEXT, AT(teacher_key_file),
     "file with the API key (default: $PLM_TEACHER_KEY)"},
    {"teacher-ca", 0, "FILE", OPT_TEXT, AT(teacher_ca),
     "certificate authority of a plm+https service, PEM (default: the system's)"},
    {"batch-calls", 0, "FILE", OPT_TEXT, AT(batch_out),
     "write the API's calls to a file for its batch interface instead of making them"},
    {"batch-replies", 0, "FILE", OPT_TEXT, AT(batch_in), "results of such a batch"},
    {"share", 0, "HOW", OPT_TEXT, AT(share), "what a remote teacher sees: exemplars (default) or summary"},
    {"epsilon", 0, "X", OPT_REAL, AT(epsilon), "blur the label counts of a summary, at this cost"},
    {"epsilon-budget", 0, "X", OPT_REAL, AT(epsilon_budget), "what --epsilon may cost in all (default: 1)"},
    {"max-cost", 0, "X", OPT_REAL, AT(max_cost), "stop before a remote teacher costs more"},
    {"cost-in", 0, "X", OPT_REAL, AT(cost_in), "price of a million tokens sent"},
    {"cost-out", 0, "X", OPT_REAL, AT(cost_out), "price of a million tokens received"},
    {"wanted", 0, "N", OPT_INT, AT(wanted), "synthetic examples to keep (default: by the number of records)"},
    {"preview", 0, "N", OPT_INT, AT(preview), "show N generated examples and stop"},
    {"dry-run", 0, NULL, OPT_FLAG, AT(dry_run), "print what would be sent, byte for byte, and stop"},
    {"yes", 'y', NULL, OPT_FLAG, AT(yes), "agree to what would leave this machine"},
    {"explain", 0, NULL, OPT_FLAG, AT(explain), "say in sentences why it ended as it did"},
    {"force", 0, NULL, OPT_FLAG, AT(force), "install although there are too few records to test"},

    {"me", 0, "WHO", OPT_TEXT, AT(me), "your name or address in the source (git: user.email)"},
    {"format", 0, "F", OPT_TEXT, AT(format), "auto, jsonl, csv, markdown, git or lamp"},
    {"local-only", 0, NULL, OPT_FLAG, AT(local_only), "these records never leave this machine"},
    {"limit", 'n', "N", OPT_INT, AT(limit), "at most N"},

    {"data", 0, "FILE", OPT_TEXT, AT(data), "rows of {\"prompt\",\"answer\"[,\"weight\"]} or {\"messages\"}"},
    {"out", 'o', "FILE", OPT_TEXT, AT(out), "where the result goes"},
    {"rank", 'r', "N", OPT_INT, AT(rank), "rank of the adapter (default: 8)"},
    {"alpha", 0, "X", OPT_REAL, AT(alpha), "LoRA alpha (default: twice the rank)"},
    {"targets", 0, "LIST", OPT_TEXT, AT(targets), "all, or any of q,k,v,o,gate,up,down"},
    {"layers", 0, "N", OPT_INT, AT(layers), "adapt the top N layers alone, faster (default: all)"},
    {"lr", 0, "X", OPT_REAL, AT(rate), "learning rate (default: 3e-4; 1e-4 from 1 B parameters)"},
    {"schedule", 0, "NAME", OPT_TEXT, AT(schedule), "linear (default), cosine or constant"},
    {"warmup", 0, "N", OPT_INT, AT(warmup), "steps (default: a tenth; -1: none)"},
    {"decay", 0, "X", OPT_REAL, AT(decay), "weight decay (default: 0.01; negative: none)"},
    {"clip", 0, "X", OPT_REAL, AT(clip), "gradient norm (default: 1; negative: none)"},
    {"epochs", 'e', "N", OPT_INT, AT(epochs), "times through the data (default: 3)"},
    {"steps", 0, "N", OPT_INT, AT(steps), "optimiser steps instead of epochs"},
    {"batch", 'b', "N", OPT_INT, AT(batch), "examples a step (default: 8)"},
    {"max-length", 0, "N", OPT_INT, AT(context), "tokens of the longest example or context"},
    {"memory", 0, "SIZE", OPT_SIZE, AT(memory), "ceiling of training's own memory, like 300M (default: 1G)"},
    {"patience", 0, "N", OPT_INT, AT(patience), "stop after N validations without a better one"},
    {"raw", 0, NULL, OPT_FLAG, AT(raw), "no chat template: text, answer, end token"},
    {"skip-bad", 0, NULL, OPT_FLAG, AT(skip_bad), "skip bad rows and count them"},
    {"refuse-long", 0, NULL, OPT_FLAG, AT(refuse_long),
     "a row that is too long is an error instead of being cut"},
    {"in-order", 0, NULL, OPT_FLAG, AT(in_order), "rows in the order of the file, not shuffled"},
    {"resume", 0, NULL, OPT_FLAG, AT(resume), "go on from OUT.checkpoint"},

    {"base", 0, NULL, OPT_FLAG, AT(base), "the model without any adapter"},
    {"prompt", 'p', "TEXT", OPT_TEXT, AT(prompt), "the prompt"},
    {"system", 0, "TEXT", OPT_TEXT, AT(system), "the system message"},
    {"ids", 0, "FILE", OPT_TEXT, AT(ids), "sequences of token ids, [[id,...],...]"},
    {"max-tokens", 0, "N", OPT_INT, AT(max_tokens), "longest answer"},
    {"temp", 0, "X", OPT_REAL, AT(temperature), "sampling temperature (0: greedy)"},
    {"top-p", 0, "X", OPT_REAL, AT(top_p), "nucleus sampling"},
    {"top-k", 0, "N", OPT_INT, AT(top_k), "sample among the K best"},
    {"min-p", 0, "X", OPT_REAL, AT(min_p), "drop tokens below this share of the best"},
    {"kv", 0, "HOW", OPT_TEXT, AT(kv), "how keys and values are kept: f16 (default), q8 or f32"},
    {"lookup", 0, "HOW", OPT_TEXT, AT(lookup),
     "guess words from earlier text, with the same answer: auto (default), on or off"},
    {"special", 0, NULL, OPT_FLAG, AT(special), "parse control tokens in the text"},
    {"decode", 0, NULL, OPT_FLAG, AT(decode_ids), "ids on stdin to text"},
    {"pp", 'p', "N", OPT_INT, AT(prefill), "prompt tokens (default: 512)"},
    {"tg", 'n', "N", OPT_INT, AT(decode), "decoded tokens (default: 64)"},
    {"train", 0, "N", OPT_INT, AT(train), "tokens of a training step (default: 512)"},
    {"type", 0, "TYPE", OPT_TEXT, AT(type),
     "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K_M, Q5_K_S, Q5_K_M or Q6_K"},
    {"man", 0, NULL, OPT_FLAG, AT(man), "the manual page, as roff"},
    {"completion", 0, NULL, OPT_FLAG, AT(completion), "what bash completes, as a script"},
    {"all", 0, NULL, OPT_FLAG, AT(all), "everything"},
    {NULL, 0, NULL, OPT_FLAG, 0, NULL},
};

#define TEACHER                                                                                        \
    "teacher no-teacher teacher-model teacher-key teacher-ca batch-calls batch-replies share epsilon " \
    "epsilon-budget max-cost cost-in "                                                                 \
    "cost-out wanted "
#define TRAINING \
    "rank alpha targets layers lr schedule warmup decay clip epochs steps batch max-length memory patience "
#define SAMPLING "max-tokens temp top-p top-k min-p "

static const struct command commands[] = {
    {"personalize", "[SOURCE...] [options]", "import, augment, train, gate and install, in one go",
     "Sources are files, folders or git repositories. It can be stopped anywhere and started again with\n"
     "the same words: it goes on where it was. With new records it imports, sends and generates only for\n"
     "what is new.",
     "plm personalize ~/notes --task note",
     TEACHER TRAINING "me format local-only yes force explain kind out", cmd_personalize},
    {"import", "SOURCE...", "read records into the local store; twice adds nothing", NULL,
     "plm import ~/notes --user ada --kind note", "kind me format local-only", cmd_import},
    {"records", "[list|search Q|show ID|stats|forget QUERY|export FILE]",
     "look at, search and forget what is stored",
     "forget takes words to match, or id:N, or source:TEXT; it deletes what was made from the records as\n"
     "well and retires every adapter that learned them.",
     "plm records search \"garden\" --user ada", "kind limit yes out", cmd_records},
    {"augment", "[options]", "let a larger model write more examples of the same kind", NULL,
     "plm augment --user ada --teacher teacher.gguf --preview 10", TEACHER "kind yes preview dry-run out",
     cmd_augment},
    {"train", "[--user U | --data FILE.jsonl] [--out ADAPTER.gguf]",
     "fine-tune a LoRA adapter on the quantised model",
     "A line a step with --json. OUT.checkpoint is kept while it runs; --resume goes on from it.",
     "plm train --data pairs.jsonl --out mine.gguf --steps 60",
     "data out " TRAINING "raw skip-bad refuse-long in-order resume kind", cmd_train},
    {"ask", "[\"QUESTION\"]", "answer one question, from the argument or stdin", NULL,
     "git diff --staged | plm ask --task commit", "base system " SAMPLING "raw kind kv lookup", cmd_ask},
    {"chat", "", "talk; an empty line or end of file ends it", NULL, "plm chat",
     "base system " SAMPLING "kind kv lookup", cmd_chat},
    {"score", "FILE.jsonl | --ids FILE.json", "how likely the model finds given answers", NULL,
     "plm score held-out.jsonl --adapter mine.gguf --json", "ids raw skip-bad max-length kv", cmd_score},
    {"generate", "-p PROMPT | --ids FILE.json", "continue a prompt", NULL,
     "plm generate -p \"The river\" --raw --max-tokens 40", "prompt ids raw system " SAMPLING "kv lookup",
     cmd_generate},
    {"adapter", "list|info FILE|use ID|rollback|export FILE|delete ID", "the adapters that were learned",
     "export FILE --format peft|gguf|merged --out PATH.", "plm adapter rollback --task note",
     "format out kind all", cmd_adapter},
    {"model", "list|fetch [NAME...]|add FILE|info [FILE]|verify [FILE]|quantize IN OUT",
     "the models on this machine",
     "quantize IN.gguf OUT.gguf --type TYPE writes a model again in another number format, as llama.cpp\n"
     "chooses it for each tensor. What is quantised already loses more than from F16.",
     "plm model fetch smollm2-135m", "all type", cmd_model},
    {"tokenize", "", "text on stdin to token ids; --decode: the other way", NULL,
     "echo hello | plm tokenize --json", "special decode", cmd_tokenize},
    {"bench", "[-p N] [-n N] [--train N]",
     "prefill, decode and training speed, beside the machine's own ceilings", NULL, "plm bench --json",
     "pp tg train memory kv", cmd_bench},
    {"compare", "FILE.jsonl", "held-out rows under base, base + BM25 and adapters, as a table", NULL,
     "plm compare held-out.jsonl --user ada --adapter other.gguf", "kind max-length", cmd_compare},
    {"doctor", "", "what this machine can do, what is missing, and the line that installs it", NULL,
     "plm doctor", "", cmd_doctor},
    {"help", "[COMMAND] [--man|--completion]", "usage of a command, or the manual page", NULL,
     "plm help train", "man completion", cmd_help},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

const struct program plm_program = {
    .name = "plm",
    .what = "a personal language model that learns and answers on this machine",
    .first = "The main one: plm personalize my-notes/",
    .files =
        "$XDG_DATA_HOME/plm: the store, adapters and reports.\n.br\n$XDG_CACHE_HOME/plm: models and their "
        "hashes.",
    .shared =
        "model store user task kinds adapter threads cpu no-repack seed chat-template json quiet verbose "
        "help",
    .commands = commands,
    .options = options,
    .args_size = sizeof(struct args),
    .rest = AT(rest),
    .n_rest = AT(n_rest),
    .help = AT(help),
};

int cmd_help(struct args *a) {
    return opt_help(&plm_program, a->n_rest ? a->rest[0] : NULL, a->man, a->completion);
}

int main(int argc, char **argv) {
    return program_main(&plm_program, argc, argv);
}
