/* teacher.c: one door for both kinds of teacher: a GGUF model in this process, or a service behind HTTP. A
 * teacher has a name that says exactly which it is; the body of a call depends on that name and the call
 * alone, so that kept replies can be found again without the teacher. */
#include <stdio.h>
#include <string.h>

#include "synth/inside.h"

struct plm_teacher {
    struct local *local; /* one of the three */
    struct remote *remote;
    struct cloud *cloud;
    char *name, *endpoint;
    char *batch_out, *batch_in; /* of remote; NULL: none */
    bool on_device, capable;
    plm_teacher_usage used;
};

// What the service calls the model: the end of "URL MODEL", or the whole "gguf:HASH".
static const char *model_of(const char *name) {
    const char *blank = strchr(name, ' ');
    return blank ? blank + 1 : name;
}

// A schema is about one document, so lines are asked for as a list; the reader takes both.
static void put_schema(struct bytes *b, const plm_call *c) {
    if (!c->n_fields) {
        return;
    }
    bytes_puts(
        b,
        ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"lines\",\"strict\":true,"
        "\"schema\":{\"type\":\"object\",\"properties\":{\"lines\":{\"type\":\"array\",\"items\":{\"type\":"
        "\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}");
    for (size_t i = 0; i < c->n_fields; i++) {
        bytes_printf(b, ",\"%s\":{\"type\":\"string\"}", c->fields[i]);
    }
    bytes_puts(b, "},\"required\":[\"n\"");
    for (size_t i = 0; i < c->n_fields; i++) {
        bytes_printf(b, ",\"%s\"", c->fields[i]);
    }
    bytes_puts(
        b, "],\"additionalProperties\":false}}},\"required\":[\"lines\"],\"additionalProperties\":false}}}");
}

plm_status body_write(const char *teacher, const plm_call *c, char **body, plm_error *err) {
    const char *model = model_of(teacher);
    struct bytes b;
    bytes_init(&b, (size_t)WIRE_REQUEST_MAX);
    bytes_puts(&b, "{\"model\":");
    bytes_json(&b, model, strlen(model));
    bytes_puts(&b, ",\"messages\":[");
    if (c->system) {
        bytes_puts(&b, "{\"role\":\"system\",\"content\":");
        bytes_json(&b, c->system, strlen(c->system));
        bytes_puts(&b, "},");
    }
    bytes_puts(&b, "{\"role\":\"user\",\"content\":");
    bytes_json(&b, c->user, strlen(c->user));
    bytes_printf(&b,
                 "}],\"temperature\":%.3g,\"top_p\":%.3g,\"max_tokens\":%d,\"seed\":%llu,\"stream\":false",
                 (double)c->temperature, (double)c->top_p, c->max_tokens > 0 ? c->max_tokens : CALL_TOKENS,
                 (unsigned long long)c->seed);
    put_schema(&b, c);
    bytes_putc(&b, '}');
    plm_status st = bytes_status(&b, "a call", err);
    if (!st && !(*body = bytes_take(&b))) {
        st = fail(err, PLM_ENOMEM, "no memory for a call");
    }
    bytes_free(&b);
    return st;
}

static plm_status open_remote(plm_teacher *t, const plm_teacher_options *opt, plm_error *err) {
    const char *model = opt->model_name ? opt->model_name : "default";
    size_t n = strlen(opt->spec) + strlen(model) + 2;
    t->name = mem_alloc(n, 1);
    t->endpoint = mem_dupz(opt->spec);
    t->batch_out = opt->batch_out ? mem_dupz(opt->batch_out) : NULL;
    t->batch_in = opt->batch_in ? mem_dupz(opt->batch_in) : NULL;
    bool whole = (!opt->batch_out || t->batch_out) && (!opt->batch_in || t->batch_in);
    if (!t->name || !t->endpoint || !whole) {
        return fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    snprintf(t->name, n, "%s %s", opt->spec, model);
    return remote_open(&t->remote, opt, t->name, &t->on_device, err);
}

static plm_status open_local(plm_teacher *t, const plm_teacher_options *opt, plm_error *err) {
    char name[80];
    plm_status st = local_open(&t->local, opt, name, &t->capable, err);
    if (st) {
        return st;
    }
    t->on_device = true;
    t->name = mem_dupz(name);
    t->endpoint = mem_dupz("this device");
    return t->name && t->endpoint ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for a teacher");
}

static plm_status open_cloud(plm_teacher *t, const plm_teacher_options *opt, plm_error *err) {
    plm_status st = cloud_open(&t->cloud, opt, &t->name, &t->on_device, &t->capable, err);
    if (!st && !(t->endpoint = mem_dupz(opt->spec))) {
        st = fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    return st;
}

plm_status plm_teacher_open(plm_teacher **out, const plm_teacher_options *opt, plm_error *err) {
    if (!opt || !opt->spec || !*opt->spec) {
        return fail(err, PLM_EINVAL, "a teacher is a GGUF file or an https address");
    }
    plm_teacher *t = mem_zero(1, sizeof *t);
    if (!t) {
        return fail(err, PLM_ENOMEM, "no memory for a teacher");
    }
    struct str spec = str_of(opt->spec);
    bool remote = str_starts(spec, "https://") || str_starts(spec, "http://");
    plm_status st =
        (opt->batch_out || opt->batch_in) && !remote
            ? fail(err, PLM_EINVAL, "only an OpenAI-compatible API takes calls in a file")
        : cloud_spec(opt->spec) ? open_cloud(t, opt, err)
        : remote                ? open_remote(t, opt, err)
        : strstr(opt->spec, "://")
            ? fail(err, PLM_ENOTSUP, "%s: a teacher is a GGUF file or an https address", opt->spec)
            : open_local(t, opt, err);
    if (st) {
        plm_teacher_close(t);
        return st;
    }
    *out = t;
    return PLM_OK;
}

void plm_teacher_close(plm_teacher *t) {
    if (t) {
        local_close(t->local);
        remote_close(t->remote);
        cloud_close(t->cloud);
        mem_free(t->name);
        mem_free(t->endpoint);
        mem_free(t->batch_out);
        mem_free(t->batch_in);
        mem_free(t);
    }
}

const char *plm_teacher_name(const plm_teacher *t) {
    return t->name;
}

bool plm_teacher_is_local(const plm_teacher *t) {
    return t->on_device;
}

bool plm_teacher_is_capable(const plm_teacher *t) {
    return t->capable || (!t->on_device && !t->cloud);
}

const char *plm_teacher_endpoint(const plm_teacher *t) {
    return t->endpoint;
}

const char *plm_teacher_terms(const plm_teacher *t) {
    return t->cloud ? cloud_terms(t->cloud) : "";
}

struct cloud *teacher_cloud(const plm_teacher *t) {
    return t ? t->cloud : NULL;
}

plm_status plm_teacher_settle(plm_teacher *t, plm_error *err) {
    return t && t->cloud ? cloud_settle(t->cloud, err) : PLM_OK;
}

plm_teacher_usage plm_teacher_used(const plm_teacher *t) {
    plm_teacher_usage u = t->used;
    if (t->remote) {
        remote_usage(t->remote, &u);
    } else if (t->cloud) {
        cloud_usage(t->cloud, &u);
    }
    return u;
}

plm_status teacher_ask_all(plm_teacher *t, const struct batch *b, plm_error *err) {
    if (t->cloud) {
        return fail(err, PLM_EINVAL, "a plm-cloud service takes requests, not calls");
    }
    return t->local                      ? local_ask_all(t->local, b, &t->used, err)
           : t->batch_out || t->batch_in ? batch_ask_all(t->remote, t->batch_out, t->batch_in, b, err)
                                         : remote_ask_all(t->remote, b, err);
}

double teacher_price(const plm_teacher *t, int64_t tokens_in, int64_t tokens_out) {
    return t->remote  ? remote_price(t->remote, tokens_in, tokens_out)
           : t->cloud ? cloud_price(t->cloud, tokens_in, tokens_out)
                      : 0;
}

struct cap *teacher_cap(plm_teacher *t) {
    return t && t->remote ? remote_cap(t->remote) : NULL;
}

static plm_status lets_leave(void *ctx, size_t i, plm_error *err) {
    (void)ctx, (void)i, (void)err;
    return PLM_OK;
}

static plm_status take_answer(void *ctx, size_t i, plm_answer *a, plm_error *err) {
    plm_answer *answers = ctx;
    (void)err;
    answers[i] = *a;
    return PLM_OK;
}

plm_status plm_teacher_ask(plm_teacher *t, const plm_call *calls, size_t n, plm_answer *answers,
                           plm_error *err) {
    if (!t || (n && (!calls || !answers))) {
        return fail(err, PLM_EINVAL, "plm_teacher_ask needs a teacher, calls and room for their answers");
    }
    char **bodies = mem_zero(n + 1, sizeof *bodies);
    plm_status st = bodies ? PLM_OK : fail(err, PLM_ENOMEM, "no memory for calls");
    for (size_t i = 0; i < n; i++) {
        answers[i] = (plm_answer){0};
        if (!st && !calls[i].user) {
            st = fail(err, PLM_EINVAL, "call %zu has no user's turn", i + 1);
        }
        st = st ? st : body_write(t->name, &calls[i], &bodies[i], err);
    }
    struct batch b = {.calls = calls,
                      .bodies = bodies,
                      .n = n,
                      .ctx = answers,
                      .leaving = lets_leave,
                      .arrived = take_answer};
    st = st ? st : teacher_ask_all(t, &b, err);
    for (size_t i = 0; bodies && i < n; i++) {
        plm_free(bodies[i]);
    }
    mem_free(bodies);
    return st;
}
