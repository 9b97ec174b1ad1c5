/* fuzz_reply.c: what a teacher may send. The first byte chooses: 'b' is the body of an HTTP reply; 't' is the
 * text of one, read for every task and played back to a whole run; 'q' is a request on one line and
 * candidates on the lines behind it. */
#include "fuzz.h"

#include <string.h>

#include "base/mem.h"
#include "synth/inside.h"

static const char request[] =
    "{\"version\":1,\"id\":\"0123456789abcdef0123456789abcdef\",\"user\":\"u\",\"kind\":\"note\",\"task\":"
    "\"title\","
    "\"instruction\":\"Write a "
    "title.\",\"summary\":\"Short.\",\"share\":\"exemplars\",\"style\":\"lines\",\"seed\":7,"
    "\"max_answer_tokens\":64,\"words\":{\"input\":{\"mean\":5,\"p5\":3,\"p95\":9},\"output\":{\"mean\":2,"
    "\"p5\":1,"
    "\"p95\":4}},\"labels\":[],\"records\":[{\"n\":1,\"input\":\"the river "
    "floods\",\"output\":\"River\"},{\"n\":2,"
    "\"input\":\"a train was "
    "late\",\"output\":\"Train\"}],\"topics\":[\"spring\"],\"exemplars\":[1,2],\"rewrite\":[1,"
    "2],\"want\":{\"reverse\":2,\"rewrite\":2,\"new\":2,\"label\":0}}";

static void read_text(const char *text) {
    static const char *const ends[] = {"stop", "length", "none"};
    for (int i = 0; i < 12; i++) {
        struct task t = {
            .mode = PLM_MODE_REWRITE, .outputs = i & 1, .n = i & 2 ? 1 : ASK_MAX, .number = {1, 2, 1, 2}};
        struct piece pieces[ASK_MAX];
        size_t surplus = 0;
        plm_error err = {0};
        plm_status st = reply_read(pieces, &surplus, &t, i & 2, text, ends[i / 4], &err);
        PROMISE(st == PLM_OK || st == PLM_ENOMEM);
        for (size_t k = 0; k < t.n; k++) {
            PROMISE(st || !pieces[k].text == !!pieces[k].bad);
            PROMISE(!pieces[k].text || pieces[k].text[0]);
            plm_free(pieces[k].text);
        }
    }
}

static plm_status find_reply(void *ctx, const char *hash, char **text, char **finish, plm_error *err) {
    PROMISE(strlen(hash) == 64);
    *text = mem_dupz(ctx);
    *finish = mem_dupz("stop");
    if (*text && *finish)
        return PLM_OK;
    mem_free(*text);
    mem_free(*finish);
    *text = *finish = NULL;
    return fail(err, PLM_ENOMEM, "out of memory for a kept reply");
}

static void check_candidates(const struct wire_request *q, struct str lines) {
    struct str line;
    while (str_cut(&lines, '\n', &line)) {
        struct wire_candidate c;
        json_t *doc;
        int *shown;
        plm_error err = {0};
        plm_status st = wire_candidate_parse(&c, &doc, &shown, line.p, line.n, q, &err);
        PROMISE((st == PLM_OK) == !err.text[0]);
        PROMISE(st || c.bad || (c.input && c.input[0]));
        PROMISE(st || (c.source >= 0 && (size_t)c.source <= q->n_records));
        json_decref(doc);
        mem_free(shown);
    }
}

static void run(char *text) {
    struct synth_hooks hooks = {.ctx = text, .replay_of = "http://localhost/v1 any", .find = find_reply};
    struct wire_request q;
    char *candidates = NULL;
    size_t calls = 0;
    if (!synth_run(request, NULL, &hooks, &candidates, &calls, NULL) &&
        !wire_request_parse(&q, request, sizeof request - 1, NULL)) {
        check_candidates(&q, str_of(candidates));
        wire_request_free(&q);
    }
    plm_free(candidates);
}

static void read_body(const char *body, size_t len) {
    plm_answer a = {0};
    plm_status st = completion_read(&a, body, len, NULL);
    PROMISE(st == PLM_OK || st == PLM_ENOMEM);
    PROMISE(st || (a.text && (strcmp(a.finish, "none") == 0) == (a.why != NULL)));
    if (!st)
        read_text(a.text);
    plm_free(a.text);
}

int fuzz_reply(const uint8_t *data, size_t size) {
    char *text = size ? mem_dup((const char *)data + 1, size - 1) : NULL;
    if (!text)
        return 0;
    struct str rest = {text, size - 1}, line;
    struct wire_request q;
    if (data[0] == 'b') {
        read_body(text, size - 1);
    } else if (data[0] == 't') {
        read_text(text);
        run(text);
    } else if (data[0] == 'q' && str_cut(&rest, '\n', &line) &&
               !wire_request_parse(&q, line.p, line.n, NULL)) {
        check_candidates(&q, rest);
        wire_request_free(&q);
    }
    mem_free(text);
    return 0;
}
