/* plm.h: the whole public interface of libplm.
 *
 * Import a person's records, let a larger model write more of the same kind, train a LoRA adapter
 * for a small model straight on its quantised GGUF, and answer from it, all on one machine.
 *
 * Conventions
 *  - A function that can fail returns plm_status and takes plm_error *err last (NULL: not wanted).
 *    PLM_OK is 0. err is written only on failure; its text is one line, complete without the code.
 *  - T **out comes first, is set only on success, and is the caller's. const T * returned is
 *    borrowed from its parent. char ** outputs are released with plm_free. Every close/free accepts
 *    NULL. Text is UTF-8; (pointer, length) text may hold any byte.
 *  - An options struct of zeros, or NULL, asks for the defaults. Callbacks take void *ctx first;
 *    nonzero means stop, and the call then returns PLM_ESTOPPED.
 *  - plm_model is immutable and may be shared between threads; every other handle belongs to one
 *    thread at a time. A trainer changes its adapter: do not generate with that adapter meanwhile.
 *  - A model outlives its sessions, adapters and trainers; it owns the worker threads.
 *  - Nothing here prints, exits, or reads the environment. */
#ifndef PLM_H
#define PLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PLM_API __attribute__((visibility("default")))
#define PLM_MUST_CHECK __attribute__((warn_unused_result))
#else
#define PLM_API
#define PLM_MUST_CHECK
#endif

/* ---- 1 status ---- */

typedef enum plm_status {
    PLM_OK = 0,
    PLM_EINVAL = -1, /* the caller asked for something that makes no sense */
    PLM_ENOMEM = -2,
    PLM_EIO = -3,
    PLM_EFORMAT = -4, /* a file, request or reply is damaged or foreign */
    PLM_ENOTSUP = -5, /* well formed, but not something this build can do */
    PLM_ENOTFOUND = -6,
    PLM_ELIMIT = -7,    /* would pass a stated ceiling */
    PLM_EBUSY = -8,     /* another process holds it */
    PLM_EREMOTE = -9,   /* the other side failed */
    PLM_ESTOPPED = -10, /* a callback said so */
} plm_status;

typedef struct plm_error {
    plm_status code;
    char text[500];
} plm_error;

PLM_API const char *plm_version(void);
PLM_API const char *plm_status_name(plm_status code);
PLM_API void plm_free(void *owned);

/* ---- 2 model ---- */

typedef struct plm_model plm_model;

typedef struct plm_model_options {
    int threads;               /* 0: one a core */
    const char *cpu;           /* NULL or "auto", "ref", "avx2", "avx512", "neon", "dotprod": which kernels */
    const char *chat_template; /* NULL: recognised from the file; else a template's name, or "none" */
    const char *digest_cache;  /* a file that remembers whole-file hashes; NULL: hash each time */
    /* Weights are copied, as answers first use them, into the order that the processor reads fastest, and the
     * file's own pages are let go: about the file's size of memory. true: they are read from the mapped file
     * each time, which needs none of that and decodes at about half the speed. The answers are the same. */
    bool no_repack;
} plm_model_options;

typedef struct plm_model_facts {
    const char *arch; /* "llama", "qwen2", "qwen3", "gemma3" */
    const char *name; /* general.name */
    const char *path;
    const char *types;         /* tensor counts by type, "Q4_1 210, F32 61" */
    const char *chat_template; /* name of the template in use, NULL: none */
    const char *cpu;           /* kernels in use */
    int vocab, width, ffn_width, layers, heads, kv_heads, head_width, context, threads;
    bool weak_template;  /* its markers are ordinary text, so that data can only be kept from forging them by
                          * breaking them up there */
    bool tied_head;      /* the head is the embedding */
    uint64_t parameters; /* weights in all tensors */
    uint64_t file_bytes;
    uint64_t bytes_per_token; /* weight bytes that one decoded token reads */
} plm_model_facts;

/* Opens and maps a GGUF model. Every weight is bound by name, type and shape before it returns. */
PLM_API plm_status plm_model_open(plm_model **out, const char *path, const plm_model_options *opt,
                                  plm_error *err) PLM_MUST_CHECK;
PLM_API void plm_model_close(plm_model *m);
PLM_API const plm_model_facts *plm_model_describe(const plm_model *m);
/* sha256 of the whole file, in hex. The first call reads the file unless digest_cache knows it. */
PLM_API plm_status plm_model_digest(const plm_model *m, char hex[65], plm_error *err) PLM_MUST_CHECK;

/* What this machine can do at best, measured now in about half a second on the model's threads. */
typedef struct plm_ceilings {
    double f32, bf16, int8; /* operations a second in registers; 0: no such instructions */
    double read;            /* bytes a second from memory */
} plm_ceilings;

PLM_API plm_status plm_model_ceilings(const plm_model *m, plm_ceilings *out, plm_error *err) PLM_MUST_CHECK;

/* Where time goes, for programs that measure. plm_model_profile starts counting at 0, for sessions and
 * trainers made afterwards; only one of them may work at a time. It costs a look at the clock for each
 * operation, and nothing where it was never called. */
typedef struct plm_op_time {
    const char *name; /* "gate up", "attention back"; borrowed for ever */
    uint64_t calls;
    double seconds;
    double operations; /* arithmetic of the products in it; 0: not counted */
    double bytes;      /* of its weights, read once a call; 0: not counted */
} plm_op_time;

PLM_API plm_status plm_model_profile(plm_model *m, plm_error *err) PLM_MUST_CHECK;
/* Writes at most cap kinds of operation and returns how many there are; 0: nothing is counted. "decoding
 * weights" and "quantising" are parts of the linear layers and of "head and loss", and counted there too. */
PLM_API size_t plm_model_times(const plm_model *m, plm_op_time *out, size_t cap);

/* ---- 3 text and tokens ----
 * Each writes at most cap items, reports the full length in *n, and returns PLM_ELIMIT when it did
 * not fit; cap 0 with a NULL buffer asks for the length. */

/* special: control tokens written in the text are parsed as such. Never set it for a user's text. */
PLM_API plm_status plm_encode(const plm_model *m, const char *text, size_t len, bool special, int32_t *ids,
                              size_t cap, size_t *n, plm_error *err) PLM_MUST_CHECK;
/* The bytes of the ids; control tokens give nothing unless special is set. May end inside a character. */
PLM_API plm_status plm_decode(const plm_model *m, const int32_t *ids, size_t n, bool special, char *text,
                              size_t cap, size_t *len, plm_error *err) PLM_MUST_CHECK;

typedef struct plm_message {
    const char *role; /* "system", "user", "assistant" */
    const char *text;
} plm_message;

/* A conversation as ids, by the model's chat template. Control ids come from the template alone.
 * If the last message is not the assistant's, the assistant's turn is opened.
 * is_target (NULL: not wanted) gets 1 for each id that an assistant wrote, its end token included. */
PLM_API plm_status plm_chat_encode(const plm_model *m, const plm_message *messages, size_t n_messages,
                                   int32_t *ids, uint8_t *is_target, size_t cap, size_t *n,
                                   plm_error *err) PLM_MUST_CHECK;
/* Text, answer and end token without a template, BOS first where the file asks for it.
 * answer NULL: only the prompt. *n_prompt (may be NULL) gets the ids before the answer. */
PLM_API plm_status plm_raw_encode(const plm_model *m, const char *prompt, const char *answer, int32_t *ids,
                                  size_t cap, size_t *n, size_t *n_prompt, plm_error *err) PLM_MUST_CHECK;
/* Does this id end an answer? */
PLM_API bool plm_is_end(const plm_model *m, int32_t id);

/* ---- 4 adapter ---- */

typedef struct plm_adapter plm_adapter;

enum {
    PLM_Q = 1,
    PLM_K = 2,
    PLM_V = 4,
    PLM_O = 8,
    PLM_GATE = 16,
    PLM_UP = 32,
    PLM_DOWN = 64,
    PLM_ALL_LINEAR = 127
};

typedef struct plm_adapter_options {
    int rank;         /* 0: 8; 1..256 */
    float alpha;      /* 0: 2 x rank */
    unsigned targets; /* PLM_Q | PLM_V ...; 0: by model size (decision of the defaults) */
    uint64_t seed;    /* of A's uniform start; B starts at zero */
    int layers;       /* adapts the top so many layers alone; 0: all. Those below never change: a trainer
                       * computes them once an example, as far as its memory allows */
} plm_adapter_options;

typedef struct plm_adapter_facts {
    int rank, layers;
    float alpha;
    unsigned targets;
    uint64_t parameters;
    const char *arch;
    const char *base_sha256; /* NULL: the file does not say which base it belongs to */
    size_t n_meta;
    int first_layer; /* that it adapts */
} plm_adapter_facts;

PLM_API plm_status plm_adapter_new(plm_adapter **out, const plm_model *m, const plm_adapter_options *opt,
                                   plm_error *err) PLM_MUST_CHECK;
/* From a GGUF adapter or a PEFT folder. m NULL: only to describe it; it can't then be used.
 * A base hash that differs from m's is refused. */
PLM_API plm_status plm_adapter_load(plm_adapter **out, const plm_model *m, const char *path,
                                    plm_error *err) PLM_MUST_CHECK;
/* GGUF that llama.cpp loads. Written beside and renamed. The bytes depend on the content alone. */
PLM_API plm_status plm_adapter_save(const plm_adapter *a, const char *path, plm_error *err) PLM_MUST_CHECK;
/* A PEFT folder: adapter_config.json and adapter_model.safetensors. */
PLM_API plm_status plm_adapter_save_peft(const plm_adapter *a, const char *dir,
                                         plm_error *err) PLM_MUST_CHECK;
PLM_API void plm_adapter_free(plm_adapter *a);
PLM_API const plm_adapter_facts *plm_adapter_describe(const plm_adapter *a);
/* Facts kept as "plm." strings in the file: recipe, template, data hash. value NULL removes one. */
PLM_API plm_status plm_adapter_set(plm_adapter *a, const char *key, const char *value,
                                   plm_error *err) PLM_MUST_CHECK;
PLM_API const char *plm_adapter_get(const plm_adapter *a, const char *key);
PLM_API void plm_adapter_meta(const plm_adapter *a, size_t i, const char **key, const char **value);

/* An adapter in use, and how strongly: 1 is as trained. */
typedef struct plm_lora {
    const plm_adapter *adapter;
    float scale;
} plm_lora;

/* The model with adapters folded in, as an F16 GGUF. */
PLM_API plm_status plm_model_merge(const plm_model *m, const plm_lora *uses, size_t n_uses, const char *path,
                                   plm_error *err) PLM_MUST_CHECK;

/* The model with its matrices in another number format, as llama.cpp would choose for each of them under that
 * name: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K_M, Q5_K_S, Q5_K_M or Q6_K. Vectors, and matrices
 * that are of that format already, are copied. Refuses to overwrite a file. */
PLM_API plm_status plm_model_quantize(const plm_model *m, const char *type, const char *path,
                                      plm_error *err) PLM_MUST_CHECK;

/* ---- 5 session: one conversation's state ---- */

typedef struct plm_session plm_session;

/* How a session keeps keys and values: PLM_KV_Q8 in 9 bits a number instead of 16, for long contexts on small
 * devices; `plm score --kv q8` shows what it costs. */
typedef enum plm_kv { PLM_KV_AUTO, PLM_KV_F16, PLM_KV_Q8, PLM_KV_F32 } plm_kv;

typedef struct plm_session_options {
    int context; /* tokens held; 0: the model's, at most 4096 */
    plm_kv kv;   /* auto: f16, or f32 with exact kernels */
} plm_session_options;

typedef struct plm_sampling {
    float temperature;  /* 0: greedy */
    float top_p, min_p; /* 0: off */
    int top_k;          /* 0: off */
    uint64_t seed;
} plm_sampling;

PLM_API plm_status plm_session_new(plm_session **out, const plm_model *m, const plm_session_options *opt,
                                   plm_error *err) PLM_MUST_CHECK;
PLM_API void plm_session_free(plm_session *s);
/* Adapters for what follows; n 0: the base model. Forgets the cached prefix, always. Borrowed. */
PLM_API plm_status plm_session_use(plm_session *s, const plm_lora *uses, size_t n,
                                   plm_error *err) PLM_MUST_CHECK;
/* The session's whole prefix becomes ids; what it already holds is not computed again. */
PLM_API plm_status plm_session_sync(plm_session *s, const int32_t *ids, size_t n,
                                    plm_error *err) PLM_MUST_CHECK;
/* Logits after the last id, [vocab], borrowed until the next sync. */
PLM_API const float *plm_session_logits(const plm_session *s);
PLM_API int32_t plm_session_sample(plm_session *s, const plm_sampling *how);

enum { PLM_MAX_SESSIONS = 64 };
/* plm_session_sync for several sessions of one model in common passes: the weights are read once for all,
 * each session keeps its own text, length and adapters. What a session holds afterwards, logits included, is
 * to the bit what it would hold had it been alone; so sessions may come and go between calls. At most
 * PLM_MAX_SESSIONS, none twice. After a failure each session holds some prefix of its ids. */
PLM_API plm_status plm_sessions_sync(plm_session *const *sessions, const int32_t *const *ids, const size_t *n,
                                     size_t n_sessions, plm_error *err) PLM_MUST_CHECK;

/* Guessing tokens from where the last ones stood before, in the prompt, the answer or given texts, and
 * checking several in one step. The answer is the same to the token. Auto: greedy answers alone, as far as it
 * pays by what was measured so far. On: wherever there is a guess; refused with a temperature. */
typedef enum plm_lookup { PLM_LOOKUP_AUTO, PLM_LOOKUP_ON, PLM_LOOKUP_OFF } plm_lookup;

typedef struct plm_generate_options {
    plm_sampling sampling;
    int max_tokens;          /* 0: 256 */
    const char *const *stop; /* texts that end the answer and are not part of it */
    size_t n_stop;
    plm_lookup lookup;
    const char *const *texts; /* likely sources of the answer's words, beside its own prompt */
    size_t n_texts;
} plm_generate_options;

typedef enum plm_finish { PLM_FINISH_END, PLM_FINISH_LENGTH, PLM_FINISH_STOP, PLM_FINISH_CALLER } plm_finish;

typedef struct plm_generation {
    size_t n_prompt, n_cached, n_new; /* n_new includes the end token */
    size_t drafted, accepted;         /* tokens guessed by lookup, and those that were right */
    double prefill_s, decode_s, first_token_s;
    plm_finish finish;
} plm_generation;

/* id is the new token; text holds whole characters only and may be empty. */
typedef int (*plm_token_fn)(void *ctx, int32_t id, const char *text, size_t len);

/* Continues ids. report may be NULL. */
PLM_API plm_status plm_generate(plm_session *s, const int32_t *ids, size_t n, const plm_generate_options *opt,
                                plm_token_fn on_token, void *ctx, plm_generation *report,
                                plm_error *err) PLM_MUST_CHECK;

/* One of several answers that are written at once. */
typedef struct plm_request {
    plm_session *session;
    const int32_t *ids;
    size_t n;
    const plm_generate_options *options; /* NULL: the defaults */
    plm_token_fn on_token;               /* nonzero ends this answer alone, with PLM_FINISH_CALLER */
    void *ctx;
    plm_generation report; /* out */
} plm_request;

/* Continues up to PLM_MAX_SESSIONS requests together, each with a session of its own, of one model. Each gets
 * the answer that plm_generate would give it alone; lookup is left out, for steps are full without it. */
PLM_API plm_status plm_generate_all(plm_request *requests, size_t n, plm_error *err) PLM_MUST_CHECK;
/* logprob[i] = ln p(ids[from + i] given all before), i = 0 .. n - from - 1; from >= 1. */
PLM_API plm_status plm_score(plm_session *s, const int32_t *ids, size_t n, size_t from, double *logprob,
                             plm_error *err) PLM_MUST_CHECK;

/* One of several texts that are scored at once, as by plm_score; n up to PLM_MAX_SESSIONS. */
typedef struct plm_scoring {
    plm_session *session;
    const int32_t *ids;
    size_t n, from;
    double *logprob; /* [n - from] out */
} plm_scoring;
PLM_API plm_status plm_score_all(const plm_scoring *scorings, size_t n, plm_error *err) PLM_MUST_CHECK;

/* ---- 6 trainer: the loss is on the targets only ---- */

typedef struct plm_trainer plm_trainer;

typedef enum plm_schedule { PLM_LINEAR, PLM_COSINE, PLM_CONSTANT } plm_schedule;

typedef struct plm_train_options {
    int batch;      /* examples a step; 0: 8 */
    int steps;      /* 0: from epochs */
    int epochs;     /* 0: 3 */
    int warmup;     /* steps; 0: a tenth, at least 2; -1: none */
    int max_tokens; /* longest example; 0: 1024 */
    int patience;   /* validations without a better one before stopping; 0: never stop early */
    int eval_every; /* steps between validations; 0: a tenth of the run, at least 4 */
    plm_schedule schedule;
    float rate;      /* 0: 3e-4 below 1 B parameters, else 1e-4 */
    float decay;     /* AdamW on A and B; 0: 0.01; negative: none */
    float clip;      /* gradient norm; 0: 1; negative: none */
    float real_last; /* share of the last steps that sees no synthetic example */
    uint64_t memory; /* ceiling of the trainer's own bytes; 0: 1 GiB */
    uint64_t seed;
    bool refuse_long; /* an example over max_tokens is an error instead of being cut */
    bool in_order;    /* examples in the order in which they were added, not shuffled each epoch */
} plm_train_options;

/* Either messages, or ids of which the first n_prompt are not learned. */
typedef struct plm_example {
    const plm_message *messages;
    size_t n_messages;
    const int32_t *ids;
    size_t n_ids, n_prompt;
    float weight; /* 0: 1 */
    bool synthetic;
    bool validation;  /* measured, never learned */
    const char *name; /* for messages about it; NULL: its number */
} plm_example;

typedef struct plm_train_facts {
    int steps, rank;
    size_t examples, validation, cut; /* cut: examples shortened to max_tokens */
    size_t tokens, targets;           /* in one epoch */
    uint64_t planned_bytes;           /* the trainer's own memory, from the plan */
    int recomputed_layers;            /* layers whose activations are computed again in backward */
    size_t frozen_kept;               /* examples whose layers below the adapter's first are computed once */
    size_t frozen_anew; /* and those that had no room to be kept: computed each time, to the same bit */
} plm_train_facts;

typedef struct plm_train_report {
    int step;                              /* from 0 */
    double loss, rate, grad_norm, seconds; /* loss before the update, norm before clipping */
    size_t tokens;
    bool validated;
    double validation; /* mean target NLL of the validation examples after this update */
    bool done;         /* no further step: the last, or patience ran out */
} plm_train_report;

PLM_API plm_status plm_trainer_new(plm_trainer **out, const plm_model *m, plm_adapter *a,
                                   const plm_train_options *opt, plm_error *err) PLM_MUST_CHECK;
PLM_API void plm_trainer_free(plm_trainer *t);
/* Copies. Refused: no target, nothing but targets, a target cut away, a weight that is not finite or
 * negative. */
PLM_API plm_status plm_trainer_add(plm_trainer *t, const plm_example *ex, plm_error *err) PLM_MUST_CHECK;
/* Fixes the plan: order, steps, memory. Called by the first step when not before. */
PLM_API plm_status plm_trainer_plan(plm_trainer *t, plm_train_facts *facts, plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_trainer_step(plm_trainer *t, plm_train_report *report, plm_error *err) PLM_MUST_CHECK;
/* After the last step: the adapter becomes the best validated one (the last, where nothing was validated:
 * *best is then -1). */
PLM_API plm_status plm_trainer_finish(plm_trainer *t, int *best_step, double *best,
                                      plm_error *err) PLM_MUST_CHECK;
/* Per example, the mean target NLL with the adapter as it is now. */
PLM_API plm_status plm_trainer_loss(plm_trainer *t, const plm_example *ex, size_t n, double *loss,
                                    plm_error *err) PLM_MUST_CHECK;
/* The gradient of the mean of those losses by each of the adapter's numbers, in an order that stays the same
 * for adapters of one shape: gradient [plm_adapter_describe(a)->parameters]. Nothing is learned by it. With
 * it examples can be compared: one whose gradient points along that of others teaches what they teach. */
PLM_API plm_status plm_trainer_gradient(plm_trainer *t, const plm_example *ex, size_t n, float *gradient,
                                        plm_error *err) PLM_MUST_CHECK;
/* A checkpoint: weights, moments, order, step, best so far. Resuming is bit-exact; a checkpoint of
 * another base, data or configuration is refused. */
PLM_API plm_status plm_trainer_save(const plm_trainer *t, const char *path, plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_trainer_resume(plm_trainer *t, const char *path, plm_error *err) PLM_MUST_CHECK;

/* ---- 7 kinds: one table of recipes that import, augment, train and ask all read ---- */

typedef struct plm_kinds plm_kinds;

/* Ways of making new examples (docs/method). */
enum {
    PLM_MODE_REVERSE = 1, /* A: a real output, a new input */
    PLM_MODE_REWRITE = 2, /* A': a real pair, its input in other words */
    PLM_MODE_NEW = 4,     /* B: a new input, then its output */
    PLM_MODE_LABEL = 8,   /* C: a label drawn from the user's own shares, then its input */
    PLM_MODE_PAIR = 16,   /* D: a real title beside a text that goes with it and one that does not */
};

/* What the texts of a kind must be like; zeros ask for nothing. */
typedef struct plm_checks {
    int min_words, max_words; /* of an output */
    bool one_line;            /* outputs have no second line */
    const char *const *never; /* texts that neither an input nor an output holds, whatever their case */
    size_t n_never;
} plm_checks;

typedef struct plm_kind {
    const char *name;        /* "note" */
    const char *task;        /* one line: what is asked for, "the title of a note" */
    const char *instruction; /* what stands before the input in a prompt, or round it: "... {input} ..." */
    const char *input_field, *output_field; /* names in JSONL, CSV and front matter */
    const char *const *labels;              /* NULL: free text; else the closed set, n_labels of them */
    size_t n_labels;
    unsigned modes; /* PLM_MODE_... that make sense */
    int max_answer_tokens;
    const char *pair; /* mode D: the wording round "{title}", "{first}" and "{second}" in an input; or NULL.
                         The first label says that the first goes with the title */
    const char *hint; /* to a teacher: a sentence about such texts; NULL: none */
    const char *const *aspects; /* to a teacher: what an input may dwell on, drawn call by call */
    size_t n_aspects;
    plm_checks checks; /* of what a teacher writes */
} plm_kind;

/* The built-in table, extended or overridden by a JSON file (NULL: none). */
PLM_API plm_status plm_kinds_open(plm_kinds **out, const char *file, plm_error *err) PLM_MUST_CHECK;
PLM_API void plm_kinds_close(plm_kinds *k);
PLM_API const plm_kind *plm_kind_find(const plm_kinds *k, const char *name); /* NULL: no such kind */
PLM_API const plm_kind *plm_kind_at(const plm_kinds *k, size_t i);           /* NULL past the end */
/* The user turn for an input: instruction, blank line, input; or the instruction with the input in the place
 * of its "{input}", as in the wording of LaMP. */
PLM_API plm_status plm_kind_prompt(const plm_kind *kind, const char *input, char **prompt,
                                   plm_error *err) PLM_MUST_CHECK;
/* Which of the kind's labels the text is, blanks around it aside; -1: none. */
PLM_API int plm_kind_label(const plm_kind *kind, const char *text);

/* ---- 8 store: a person's records and everything derived from them, in one SQLite file ---- */

typedef struct plm_store plm_store;

/* One writing process at a time; a second is told which process holds it (PLM_EBUSY). */
PLM_API plm_status plm_store_open(plm_store **out, const char *path, bool read_only,
                                  plm_error *err) PLM_MUST_CHECK;
PLM_API void plm_store_close(plm_store *st);
/* A transaction; inside another one it is a part that can be undone alone. */
PLM_API plm_status plm_store_begin(plm_store *st, plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_store_end(plm_store *st, bool commit, plm_error *err) PLM_MUST_CHECK;

typedef struct plm_record {
    int64_t id;
    int64_t when; /* seconds since 1970; 0: unknown */
    const char *user, *kind;
    const char *input, *output; /* what is given ("": not known), and what the person wrote */
    const char *source;         /* where it came from: a path, "repo@commit" */
    bool local_only;            /* never leaves the device */
} plm_record;

typedef struct plm_query {
    const char *user, *kind, *source;
    const char *match;    /* full-text words */
    int64_t id;           /* 0: any */
    int64_t since, until; /* by time; 0: open */
    bool newest_first;    /* else by time then id, oldest first; with match: best first */
    int limit;            /* 0: all */
} plm_query;

typedef int (*plm_record_fn)(void *ctx, const plm_record *r); /* strings borrowed for the call */

/* A record equal in user, kind, input and output is not stored twice: *added says which (may be NULL). */
PLM_API plm_status plm_store_add(plm_store *st, const plm_record *r, int64_t *id, bool *added,
                                 plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_store_find(plm_store *st, const plm_query *q, plm_record_fn each, void *ctx,
                                  plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_store_count(plm_store *st, const plm_query *q, size_t *n,
                                   plm_error *err) PLM_MUST_CHECK;

typedef struct plm_forgotten {
    size_t records, synthetic, replies, adapters; /* adapters retired because they learned one of them */
} plm_forgotten;

/* Deletes the records, their synthetic children and the replies that quoted them, retires adapters
 * that learned them, and leaves no trace in the file. An empty query is refused. retired (may be
 * NULL) is called with the path of each adapter file to delete. */
PLM_API plm_status plm_store_forget(plm_store *st, const plm_query *q, plm_forgotten *gone,
                                    int (*retired)(void *ctx, const char *path), void *ctx,
                                    plm_error *err) PLM_MUST_CHECK;

/* Everything a user has in the store as JSONL, one object a line with its table's name; lossless. */
PLM_API plm_status plm_store_export(plm_store *st, const char *user, const char *path,
                                    plm_error *err) PLM_MUST_CHECK;

/* A setting or a job's state, by name. *value is NULL when there is none. A value that holds anybody's text
 * must be named "derived.": forgetting any record removes those. */
PLM_API plm_status plm_store_set(plm_store *st, const char *name, const char *value,
                                 plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_store_get(plm_store *st, const char *name, char **value,
                                 plm_error *err) PLM_MUST_CHECK;

typedef struct plm_consent {
    int64_t id, when;
    const char *user, *endpoint, *share, *text; /* text: what the person agreed to, word for word */
} plm_consent;

PLM_API plm_status plm_store_add_consent(plm_store *st, const plm_consent *c, int64_t *id,
                                         plm_error *err) PLM_MUST_CHECK;
/* The newest consent of this user for this endpoint and share; *id 0: none. */
PLM_API plm_status plm_store_find_consent(plm_store *st, const char *user, const char *endpoint,
                                          const char *share, int64_t *id, plm_error *err) PLM_MUST_CHECK;

typedef struct plm_egress { /* written before the bytes leave */
    int64_t id, when, consent;
    const char *user, *endpoint, *sha256; /* of the bytes sent */
    uint64_t bytes;
} plm_egress;

typedef int (*plm_egress_fn)(void *ctx, const plm_egress *e);
PLM_API plm_status plm_store_add_egress(plm_store *st, const plm_egress *e, int64_t *id,
                                        plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_store_list_egress(plm_store *st, const char *user, plm_egress_fn each, void *ctx,
                                         plm_error *err) PLM_MUST_CHECK;

typedef struct plm_reply { /* what a teacher wrote, raw */
    int64_t id, when;
    const char *user, *kind, *teacher;
    const char *call_hash;     /* sha256 of the call's exact body and number: the key */
    const char *text, *finish; /* "stop", "length" */
    const int64_t *sources;    /* records quoted in the call */
    size_t n_sources;
    int64_t tokens_in, tokens_out;
    double seconds;
} plm_reply;

typedef int (*plm_reply_fn)(void *ctx, const plm_reply *r);
PLM_API plm_status plm_store_add_reply(plm_store *st, const plm_reply *r, int64_t *id,
                                       plm_error *err) PLM_MUST_CHECK;
/* Calls each once if there is a reply with that hash; *found says so. */
PLM_API plm_status plm_store_find_reply(plm_store *st, const char *user, const char *call_hash,
                                        plm_reply_fn each, void *ctx, bool *found,
                                        plm_error *err) PLM_MUST_CHECK;

typedef struct plm_synthetic {
    int64_t id, reply;
    const char *user, *kind, *mode, *input, *output;
    const char *verdict; /* "kept", or the rule that dropped it */
    const char *teacher;
    const int64_t *sources; /* records it was made from; the first is its parent */
    size_t n_sources;
    double weight, nll, z;
} plm_synthetic;

typedef int (*plm_synthetic_fn)(void *ctx, const plm_synthetic *s);
PLM_API plm_status plm_store_add_synthetic(plm_store *st, const plm_synthetic *s, int64_t *id,
                                           plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_store_find_synthetic(plm_store *st, const char *user, const char *kind, bool kept_only,
                                            plm_synthetic_fn each, void *ctx, plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_store_clear_synthetic(plm_store *st, const char *user, const char *kind,
                                             plm_error *err) PLM_MUST_CHECK;

typedef struct plm_installed { /* an adapter of (user, kind) and what it learned */
    int64_t id, when;
    const char *user, *kind, *path, *sha256, *base_sha256;
    const char *arm;     /* "real", "real+syn" */
    const char *metrics; /* JSON: the gate's table */
    const char *state;   /* "active", "kept", "retired" */
    double scale;
    const int64_t *records; /* ids learned; negative: synthetic ids */
    size_t n_records;
} plm_installed;

typedef int (*plm_installed_fn)(void *ctx, const plm_installed *a);
/* Adds and makes it the active one in one transaction; the last three of a (user, kind) are kept,
 * older ones retired. */
PLM_API plm_status plm_store_install(plm_store *st, const plm_installed *a, int64_t *id,
                                     plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_store_list_adapters(plm_store *st, const char *user, const char *kind,
                                           plm_installed_fn each, void *ctx, plm_error *err) PLM_MUST_CHECK;
/* Makes id the active one; id 0: the one before the active (PLM_ENOTFOUND: there is none); id -1: none. */
PLM_API plm_status plm_store_activate(plm_store *st, const char *user, const char *kind, int64_t id,
                                      plm_error *err) PLM_MUST_CHECK;
PLM_API plm_status plm_store_retire(plm_store *st, int64_t id, plm_error *err) PLM_MUST_CHECK;

/* ---- 9 import ---- */

typedef struct plm_import_options {
    const char *user, *kind; /* kind NULL: the format's own ("note", "commit", ...) */
    const char *me;          /* whose texts are targets: a name or address; NULL: all, git: user.email */
    const char *format;      /* NULL or "auto", "jsonl", "csv", "markdown", "git", "lamp" */
    bool local_only;
} plm_import_options;

typedef struct plm_import_report {
    size_t seen, added, known, others, skipped; /* others: not by "me" */
    const char *format;                         /* what it was read as */
} plm_import_report;

typedef void (*plm_skip_fn)(void *ctx, const char *where, const char *why);

/* Reads a file, folder or git repository into the store, in one transaction. Bad rows are reported
 * and skipped; it fails only if there was something and none of it was good. */
PLM_API plm_status plm_import(plm_store *st, const plm_kinds *kinds, const char *source,
                              const plm_import_options *opt, plm_import_report *report, plm_skip_fn skipped,
                              void *ctx, plm_error *err) PLM_MUST_CHECK;

/* ---- 10 augment: what may leave the device, and what comes back ---- */

typedef struct plm_augment_policy {
    const char *user;
    const plm_kind *kind;
    bool summary_only; /* --share summary: numbers and common words, no text */
    bool unredacted;   /* the teacher runs on this device: nothing leaves it */
    bool capable; /* with unredacted: a teacher of several billion parameters, asked for several at once and
                     for new inputs too; a small one only rewrites, one record a call */
    int wanted;   /* synthetic examples to keep; 0: method's rule from the number of records */
    int64_t newer_than;     /* only records with a larger id are asked about; 0: all */
    const int64_t *exclude; /* records that must be neither shown nor used (the gate's) */
    size_t n_exclude;
    uint64_t seed;
    /* With summary_only and labels: label counts get geometric noise that costs epsilon of the budget, and
     * nothing else that counts records is said. 0: exact counts. */
    double epsilon, epsilon_budget;
} plm_augment_policy;

/* The request as JSON: exactly what would leave. The placeholder map stays in the store. */
PLM_API plm_status plm_augment_draft(plm_store *st, const plm_augment_policy *p, char **request,
                                     plm_error *err) PLM_MUST_CHECK;

/* The epsilon that drafts have spent on a user's labels of this kind so far. */
PLM_API plm_status plm_augment_epsilon(plm_store *st, const char *user, const plm_kind *kind, double *spent,
                                       plm_error *err) PLM_MUST_CHECK;

/* The records behind a request's numbers (a record forgotten since: 0). */
PLM_API plm_status plm_augment_sources(plm_store *st, const char *request, const int64_t *numbers, size_t n,
                                       int64_t *ids, plm_error *err) PLM_MUST_CHECK;

enum {
    PLM_RULE_PARSE,
    PLM_RULE_SCHEMA,
    PLM_RULE_LENGTH,
    PLM_RULE_EXACT,
    PLM_RULE_NEAR,
    PLM_RULE_LABEL,
    PLM_RULE_PLACEHOLDER,
    PLM_RULE_JUDGE,
    PLM_RULE_DEVICE,
    PLM_RULE_QUOTA,
    PLM_RULES
};
PLM_API const char *plm_rule_name(int rule);

typedef struct plm_absorb_report {
    size_t seen, kept;
    size_t dropped[PLM_RULES];
} plm_absorb_report;

/* Mean target NLL of an answer under the device's model; for filter 8. */
typedef int (*plm_nll_fn)(void *ctx, const char *input, const char *output, double *nll);

/* Filters candidates (JSON lines as in docs/wire.md) in call order and stores every one with its
 * verdict. Placeholders are restored; in modes A and A' the output is the real one. nll NULL: filter
 * 8 is left out. audit (NULL: none): a JSONL file with each candidate, its numbers and verdict. */
PLM_API plm_status plm_augment_absorb(plm_store *st, const plm_augment_policy *p, const char *request,
                                      const char *candidates, size_t len, const char *teacher, plm_nll_fn nll,
                                      void *ctx, const char *audit, plm_absorb_report *report,
                                      plm_error *err) PLM_MUST_CHECK;

/* ---- 11 teacher: the larger model that writes examples, here or elsewhere ---- */

typedef struct plm_teacher plm_teacher;

/* spec: MODEL.gguf; or the http(s) address of an OpenAI-compatible API (".../v1"), or several of one model,
 * with weights: "URL*3,URL"; or "plm+https://HOST:PORT", a plm-cloud service that makes the calls itself. */
typedef struct plm_teacher_options {
    const char *spec, *model_name, *key; /* model_name: what the API calls it; key: bearer token */
    const char *ca_file;                 /* of a plm-cloud service: PEM to trust; NULL: the system's */
    int threads;                         /* of a GGUF, as in plm_model_options */
    const char *cpu, *digest_cache;
    int parallel;    /* calls at once, at most; 0: 16 to an address, 8 to a GGUF, which takes no more */
    double max_cost; /* in money units; 0: no cap */
    double cost_in, cost_out; /* per million tokens */
    /* Calls to an API in files, as its batch interface takes and gives them: batch_in holds results so far,
     * and calls without one are written to batch_out, which ends the run. Without batch_out they are made. */
    const char *batch_out, *batch_in;
    int (*waiting)(void *ctx, const char *why, double seconds);
    void *ctx;
} plm_teacher_options;

PLM_API plm_status plm_teacher_open(plm_teacher **out, const plm_teacher_options *opt,
                                    plm_error *err) PLM_MUST_CHECK;
PLM_API void plm_teacher_close(plm_teacher *t);
PLM_API const char *plm_teacher_name(const plm_teacher *t); /* stable: "gguf:sha256..." or "url model" */
PLM_API bool plm_teacher_is_local(const plm_teacher *t);    /* nothing leaves this machine */
/* A service elsewhere, or a GGUF of 3 billion weights or more: for plm_augment_policy. */
PLM_API bool plm_teacher_is_capable(const plm_teacher *t);
PLM_API const char *plm_teacher_endpoint(const plm_teacher *t);
/* What a plm-cloud service says of its teacher's provider; "" for other teachers. */
PLM_API const char *plm_teacher_terms(const plm_teacher *t);
/* What the last run brought is stored: a plm-cloud service may delete it now. Nothing for other teachers. */
PLM_API plm_status plm_teacher_settle(plm_teacher *t, plm_error *err) PLM_MUST_CHECK;

typedef struct plm_teacher_usage {
    size_t calls, sent, hedged; /* answered; bodies sent, with those sent again; sent twice to be quicker */
    int64_t tokens_in, tokens_out;
    double spent;
} plm_teacher_usage;

/* What it took so far; a teacher in this process knows no money. */
PLM_API plm_teacher_usage plm_teacher_used(const plm_teacher *t);

typedef struct plm_call {      /* one chat completion */
    const char *system, *user; /* system NULL: none */
    float temperature, top_p;
    int max_tokens; /* 0: 256 */
    uint64_t seed;
    /* The reply is one of these texts, or as many of these lines as max_tokens hold: {"n": 1 .. lines, and
     * the fields, all of them texts}. None: any text. A GGUF can't but keep to it; an API is asked to keep to
     * lines, and may not. */
    const char *const *choices;
    size_t n_choices;
    const char *const *fields;
    size_t n_fields, lines;
} plm_call;

typedef struct plm_answer {
    char *text;         /* the caller's */
    const char *finish; /* "stop", "length", or "none": no text that could be used; static */
    const char *why;    /* with "none": the reason, static */
    int64_t tokens_in, tokens_out;
    double seconds;
} plm_answer;

/* n calls, as many at once as the teacher takes; a GGUF gives each the answer that it would get alone. After
 * a failure answers without a text are those that did not come. There is no store, ledger or consent in it:
 * it is for texts that are nobody's, or a teacher on this machine. A plm-cloud service takes no calls. */
PLM_API plm_status plm_teacher_ask(plm_teacher *t, const plm_call *calls, size_t n, plm_answer *answers,
                                   plm_error *err) PLM_MUST_CHECK;

/* About what a run will take, if the first round brings what is wanted and no reply is kept yet. A teacher
 * whose replies are mostly dropped is asked more; max_cost holds in any case. */
typedef struct plm_augment_forecast {
    size_t calls;
    int64_t tokens_in, tokens_out; /* four bytes to a token, and half of what replies may have */
    uint64_t bytes;                /* that would leave, or go to a teacher here */
    double cost;                   /* at the teacher's prices; 0: not known */
} plm_augment_forecast;

/* The first calls of a request, in order, each given to each byte for byte; later ones depend on replies. To
 * a plm-cloud service it is the request. each and forecast may be NULL. */
PLM_API plm_status plm_augment_preview(const char *request, const plm_teacher *t,
                                       int (*each)(void *ctx, const char *body), void *ctx,
                                       plm_augment_forecast *forecast, plm_error *err) PLM_MUST_CHECK;

typedef struct plm_augment_run {
    const char *user;
    int64_t consent;       /* to send records to the teacher's endpoint; 0: none, enough for a local one */
    const char *replay_of; /* with no teacher: the plm_teacher_name whose kept replies are all there is */
    int (*progress)(void *ctx, size_t done, size_t total, size_t candidates);
    void *ctx;
    /* out, also after a failure */
    size_t calls, replayed, asked; /* of all calls, those answered by kept replies, and by the teacher */
    int64_t tokens_in, tokens_out; /* of those asked */
    uint64_t bytes_sent;
    double seconds, spent;
} plm_augment_run;

/* Runs a drafted request into candidates for plm_augment_absorb. Replies that the store keeps are not asked
 * for again and every new one is kept at once, so that a run that was stopped goes on where it was; bytes
 * that leave this machine are in the store's egress ledger before they do. The same request and replies give
 * the same candidates, t NULL included: then a call without a kept reply is a failure. */
PLM_API plm_status plm_augment_write(plm_store *st, const char *request, plm_teacher *t, plm_augment_run *run,
                                     char **candidates, plm_error *err) PLM_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
