/* teacher_arm.c: a GGUF on this machine is asked as the student is. A service only answers: it gives no
 * probabilities of answers that are not its own, so there is no NLL, and what it says may be no label. */
#include "teacher_arm.h"

#include "base/text.h"

#include <string.h>

void reply_said(struct reply *r, const plm_kind *kind, char *text) {
    struct str whole = text_strip(str_of(text)), line;
    str_cut(&whole, '\n', &line);
    line = text_strip(line);
    memmove(text, line.p, line.n);
    text[line.n] = 0;
    r->pred = plm_kind_label(kind, text);
}

static plm_status take(struct cell *c, plm_answer *a, size_t i, size_t *unanswered, plm_error *err) {
    const plm_kind *kind = c->lab->kind;
    struct reply *r = &c->replies[i];
    *unanswered += !a->text;
    r->text = mem_dupz(a->text ? a->text : "");
    if (!r->text)
        return fail(err, PLM_ENOMEM, "out of memory");
    reply_said(r, kind, r->text);
    r->prompt_tokens = (size_t)a->tokens_in;
    r->gold = plm_kind_label(kind, c->view->queries[i].gold);
    return PLM_OK;
}

static plm_status ask_service(struct cell *c, plm_error *err) {
    size_t n = c->view->n_queries, unanswered = 0;
    char **prompts = NULL;
    plm_call *call = mem_zero(n + 1, sizeof *call);
    plm_answer *answer = mem_zero(n + 1, sizeof *answer);
    plm_status st = call && answer ? lab_teacher(c->lab, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = cell_room(c, false, err);
    if (st == PLM_OK)
        st = cell_prompts(c, c->lab->model, &prompts, err);
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        call[i] = (plm_call){
            .user = prompts[i], .top_p = 1, .max_tokens = c->lab->kind->max_answer_tokens, .seed = c->seed};
    double from = clock_now();
    if (st == PLM_OK)
        st = plm_teacher_ask(c->lab->teacher, call, n, answer, err);
    c->pace.seconds = clock_now() - from;
    for (size_t i = 0; st == PLM_OK && i < n; i++)
        st = take(c, &answer[i], i, &unanswered, err);
    for (size_t i = 0; answer && i < n; i++)
        plm_free(answer[i].text);
    c->answers = st == PLM_OK;
    c->extra = json_pack("{s:{s:I}}", "service", "unanswered", (json_int_t)unanswered);
    texts_free(prompts, n);
    mem_free(answer);
    mem_free(call);
    return st;
}

plm_status run_teacher(struct cell *c, plm_error *err) {
    if (c->lab->a->teacher && strstr(c->lab->a->teacher, "://"))
        return ask_service(c, err);
    plm_status st = lab_teacher_student(c->lab, err);
    return st ? st : cell_ask_student(c, &c->lab->teacher_student, NULL, 0, err);
}
