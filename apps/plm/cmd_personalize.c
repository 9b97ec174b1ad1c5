/* cmd_personalize.c: the whole job: import, augment, train, gate, install, report. Every step leaves what it
 * made where the next run of the same words finds it, so the job can be killed anywhere and ends the same. */
#include "base/hash.h"
#include "explain.h"
#include "import.h"
#include "report.h"
#include "shared/gate.h"
#include "teach.h"

#include <stdio.h>
#include <string.h>

struct job {
    const struct args *a;
    plm_kinds *kinds;
    plm_store *store;
    struct pool_of_data data;
    struct gate gate;
    struct report report;
    char *folder, *installed;
    double installed_scale;
    int64_t installed_id;
};

/* ---- import ---- */

static plm_status import_all(struct job *j, plm_error *err) {
    plm_status st = PLM_OK;
    for (int i = 0; st == PLM_OK && i < j->a->n_rest; i++) {
        plm_import_report r = {0};
        st = import_source(j->store, j->kinds, j->a->rest[i], j->a, &r, err);
        if (st == PLM_OK) {
            report_import(&j->report, j->a->rest[i], &r);
            if (!j->a->quiet)
                import_print(stderr, j->a->rest[i], &r);
        }
    }
    return st;
}

struct kinds_seen {
    char name[60];
    bool several;
};

static int see_kind(void *ctx, const plm_record *r) {
    struct kinds_seen *k = ctx;
    if (!k->name[0])
        snprintf(k->name, sizeof k->name, "%s", r->kind);
    k->several |= strcmp(k->name, r->kind) != 0;
    return 0;
}

/* --task, or the one kind that this person has records of. */
static plm_status find_kind(struct job *j, plm_error *err) {
    struct kinds_seen seen = {.several = false};
    plm_query q = {.user = app_user(j->a)};
    plm_status st = j->a->task ? PLM_OK : plm_store_find(j->store, &q, see_kind, &seen, err);
    if (st)
        return st;
    if (!j->a->task && !seen.name[0])
        return fail(err, PLM_ENOTFOUND, "%s has no records yet: plm personalize SOURCE...", app_user(j->a));
    if (seen.several)
        return fail(err, PLM_EINVAL, "%s has records of several kinds; --task says which to learn",
                    app_user(j->a));
    j->data.kind = plm_kind_find(j->kinds, j->a->task ? j->a->task : seen.name);
    return j->data.kind ? PLM_OK
                        : fail(err, PLM_ENOTFOUND, "no kind \"%s\"", j->a->task ? j->a->task : seen.name);
}

static plm_status load_records(struct job *j, plm_error *err) {
    plm_query q = {.user = app_user(j->a), .kind = j->data.kind->name};
    plm_status st = records_load(&j->data.real, j->store, &q, err);
    if (st == PLM_OK && j->data.real.n == 0)
        st = fail(err, PLM_ENOTFOUND, "%s has no %s records: plm personalize SOURCE --task %s",
                  app_user(j->a), q.kind, q.kind);
    return st;
}

/* ---- augment ---- */

static char *setting(const struct job *j, const char *what) {
    struct bytes b;
    bytes_init(&b, 4096);
    bytes_printf(&b, "%s/%s/%s", what, app_user(j->a), j->data.kind->name);
    return bytes_take(&b);
}

static plm_status asked_up_to(struct job *j, const char *name, int64_t *id, plm_error *err) {
    char *value = NULL;
    plm_status st = plm_store_get(j->store, name, &value, err);
    *id = 0;
    if (st == PLM_OK && value && !parse_i64(str_of(value), id))
        st = fail(err, PLM_EFORMAT, "the store's setting %s is damaged", name);
    plm_free(value);
    return st;
}

static int64_t largest_id(const struct job *j) {
    int64_t most = 0;
    for (size_t i = 0; i < j->data.real.n; i++)
        if (!j->gate.held[i] && j->data.real.v[i].id > most)
            most = j->data.real.v[i].id;
    return most;
}

/* Filters what the teacher wrote and remembers how far it was asked, in one transaction. */
static plm_status absorb(struct job *j, const struct teaching *t, const plm_augment_policy *p,
                         const char *request, const char *candidates, const char *name, int64_t upto,
                         plm_absorb_report *r, plm_error *err) {
    struct device device;
    char number[32], *audit = path_join(j->folder, "synthetic.audit.jsonl");
    plm_status st = audit ? device_open(&device, j->data.model, j->data.kind, err)
                          : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK) {
        snprintf(number, sizeof number, "%lld", (long long)upto);
        st = plm_store_begin(j->store, err);
        if (st == PLM_OK) {
            plm_error ignored;
            st = plm_augment_absorb(j->store, p, request, candidates, strlen(candidates),
                                    plm_teacher_name(t->teacher), device_nll, &device, audit, r, err);
            if (st == PLM_OK)
                st = plm_store_set(j->store, name, number, err);
            plm_status end = plm_store_end(j->store, st == PLM_OK, st == PLM_OK ? err : &ignored);
            st = st ? st : end;
        }
        device_close(&device);
    }
    plm_free(audit);
    return st;
}

static plm_status augment(struct job *j, plm_error *err) {
    struct teaching t;
    plm_absorb_report r = {0};
    char *name = setting(j, "asked"), *request = NULL, *candidates = NULL;
    int64_t *held = mem_zero(j->data.real.n, sizeof *held), upto = largest_id(j);
    plm_status st = name && held ? teach_open(&t, j->a, j->store, j->data.kind, err)
                                 : fail(err, PLM_ENOMEM, "out of memory");
    if (st)
        goto out;
    plm_augment_policy p = teach_policy(&t);
    for (size_t i = 0; i < j->data.real.n; i++)
        if (j->gate.held[i])
            held[p.n_exclude++] = j->data.real.v[i].id;
    p.exclude = held;
    st = asked_up_to(j, name, &p.newer_than, err);
    if (st == PLM_OK && t.teacher && p.newer_than < upto) {
        st = teach_generate(&t, &p, &request, &candidates, err);
        if (st == PLM_OK)
            st = absorb(j, &t, &p, request, candidates, name, upto, &r, err);
        if (st == PLM_OK)
            teach_settle(&t);
    }
    if (st == PLM_OK)
        report_augment(&j->report, &t, &r);
    if (st == PLM_OK && !t.teacher)
        app_say(j->a, "no teacher: learning from real records alone, which is weaker where there are few of "
                      "them; plm model fetch qwen2.5-coder-0.5b gets one that runs on this machine\n");
    if (st == PLM_EREMOTE) {
        plm_error why = *err;
        fail(err, st,
             "%.380s. The job is paused and nothing is lost: the same command goes on, --no-teacher goes "
             "without",
             why.text);
    }
    teach_close(&t);
out:
    plm_free(name);
    plm_free(request);
    plm_free(candidates);
    mem_free(held);
    return st;
}

/* ---- gate and install ---- */

struct incumbent {
    struct job *job;
    const struct records *real;
    const bool *held;
};

static int see_installed(void *ctx, const plm_installed *row) {
    struct incumbent *in = ctx;
    if (strcmp(row->state, "active") != 0)
        return 0;
    in->job->installed_id = row->id;
    /* One that learned a record of the gate can't be tested on it. */
    for (size_t k = 0; k < row->n_records; k++)
        for (size_t i = 0; i < in->real->n; i++)
            if (in->real->v[i].id == row->records[k] && (in->held[i] || in->job->gate.way == GATE_CROSS_FIT))
                return 0;
    if (strcmp(row->base_sha256, in->job->data.model_sha256) != 0 || !file_exists(row->path))
        return 0;
    in->job->installed = mem_dupz(row->path);
    in->job->installed_scale = row->scale;
    return !in->job->installed;
}

static plm_status find_installed(struct job *j, plm_error *err) {
    struct incumbent in = {j, &j->data.real, j->gate.held};
    plm_status st =
        plm_store_list_adapters(j->store, app_user(j->a), j->data.kind->name, see_installed, &in, err);
    return st == PLM_ESTOPPED ? fail(err, PLM_ENOMEM, "out of memory") : st;
}

static plm_status copy_file(const char *from, const char *to, plm_error *err) {
    struct map map;
    plm_status st = map_open(&map, from, err);
    if (st)
        return st;
    st = file_replace(to, map.data, map.size, err);
    map_close(&map);
    return st;
}

static plm_status install(struct job *j, struct arm *arm, plm_error *err) {
    struct bytes name;
    const struct candidate *winner = &j->gate.row[j->gate.winner];
    char *folder = app_path(PLACE_DATA, "adapters"), *path = NULL, *metrics = NULL;
    int64_t id;
    plm_status st = winner->prior ? arm_carry(arm, &j->data, winner->prior, err) : PLM_OK;
    bytes_init(&name, 4096);
    bytes_printf(&name, "%s-%s-%.12s.gguf", app_user(j->a), j->data.kind->name, arm->sha256);
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] == '/')
            name.data[i] = '_';
    if (st == PLM_OK)
        st = bytes_status(&name, "the adapter's name", err);
    if (st == PLM_OK)
        st = folder ? dir_make(folder, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && !(path = path_join(folder, name.data)))
        st = fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK)
        st = copy_file(arm->path, path, err);
    if (st == PLM_OK)
        st = json_write(report_gate_json(&j->report), &metrics, err);
    if (st == PLM_OK) {
        plm_installed row = {.when = clock_wall(),
                             .user = app_user(j->a),
                             .kind = j->data.kind->name,
                             .path = path,
                             .sha256 = arm->sha256,
                             .base_sha256 = j->data.model_sha256,
                             .arm = winner->name,
                             .metrics = metrics,
                             .state = "active",
                             .scale = (double)winner->scale,
                             .records = arm->learned,
                             .n_records = arm->n_learned};
        st = plm_store_install(j->store, &row, &id, err);
        if (st == PLM_OK)
            report_installed(&j->report, id, path, arm->sha256);
    }
    plm_free(folder);
    plm_free(path);
    plm_free(metrics);
    bytes_free(&name);
    return st;
}

static plm_status learn_and_gate(struct job *j, plm_error *err) {
    plm_status st = find_installed(j, err);
    if (st == PLM_OK)
        st = synthetics_load(&j->data.synthetic, j->store, app_user(j->a), j->data.kind->name, true, err);
    if (st == PLM_OK)
        st = gate_run(&j->gate, &j->data, j->installed, (float)j->installed_scale, err);
    if (st)
        return st;
    report_gate(&j->report, &j->data, &j->gate);
    struct arm *arm = gate_arm(&j->gate);
    if (arm)
        st = install(j, arm, err);
    else if (j->gate.winner >= 0)
        report_kept(&j->report, j->gate.row[j->gate.winner].name);
    return st;
}

/* ---- the job ---- */

/* What a finished job depends on; when nothing of it changed there is nothing to do. */
static void job_hash(const struct job *j, char hex[65]) {
    const struct args *a = j->a;
    struct sha256 h;
    struct bytes b;
    bytes_init(&b, 1 << 16);
    bytes_printf(&b, "%s %s\n%s\n%d %.4000s %.4000s %.100s %.9g %d\n", j->data.model_sha256, plm_version(),
                 j->data.kind->instruction, a->no_teacher, a->teacher ? a->teacher : "",
                 a->teacher_model ? a->teacher_model : "", a->share ? a->share : "", a->epsilon, a->wanted);
    for (size_t i = 0; i < j->data.kind->n_labels; i++) {
        bytes_printf(&b, "%s\n", j->data.kind->labels[i]);
    }
    learn_settings(&b, &j->data.how);
    sha256_start(&h);
    sha256_add(&h, b.data, b.len);
    bytes_free(&b);
    for (size_t i = 0; i < j->data.real.n; i++) {
        int64_t id = j->data.real.v[i].id;
        sha256_add(&h, &id, sizeof id);
    }
    sha256_hex(&h, hex);
}

static plm_status open_all(struct job *j, plm_error *err) {
    struct bytes tail;
    j->data.quiet = j->a->quiet;
    j->data.force = j->a->force;
    j->data.user = app_user(j->a);
    plm_status st = app_learn(&j->data.how, j->a, err);
    if (st == PLM_OK)
        st = app_kinds(&j->kinds, j->a, err);
    if (st == PLM_OK)
        st = app_store(&j->store, j->a, false, err);
    if (st == PLM_OK)
        st = import_all(j, err);
    if (st == PLM_OK)
        st = find_kind(j, err);
    if (st == PLM_OK)
        st = load_records(j, err);
    if (st == PLM_OK)
        st = gate_plan(&j->gate, &j->data, err);
    if (st == PLM_OK)
        st = app_model(&j->data.model, j->a, err);
    if (st == PLM_OK)
        st = plm_model_digest(j->data.model, j->data.model_sha256, err);
    if (st)
        return st;
    bytes_init(&tail, 4096);
    bytes_printf(&tail, "jobs/%s-%s", app_user(j->a), j->data.kind->name);
    for (size_t i = 5; i < tail.len; i++)
        if (tail.data[i] == '/')
            tail.data[i] = '_';
    j->folder = tail.data ? app_path(PLACE_DATA, tail.data) : NULL;
    j->data.folder = j->folder;
    bytes_free(&tail);
    return j->folder ? dir_make(j->folder, err) : fail(err, PLM_ENOMEM, "out of memory");
}

static plm_status run(struct job *j, plm_error *err) {
    char hash[65], *name = NULL, *done = NULL;
    plm_status st = open_all(j, err);
    if (st)
        return st;
    job_hash(j, hash);
    name = setting(j, "done");
    st = name ? plm_store_get(j->store, name, &done, err) : fail(err, PLM_ENOMEM, "out of memory");
    if (st == PLM_OK && done && strcmp(done, hash) == 0 && !j->a->force) {
        j->report.nothing_new = true;
    } else if (st == PLM_OK) {
        st = augment(j, err);
        if (st == PLM_OK)
            st = learn_and_gate(j, err);
        if (st == PLM_OK)
            st = report_finish(&j->report, &j->data, j->folder, err);
        if (st == PLM_OK && j->gate.way != GATE_NONE)
            st = plm_store_set(j->store, name, hash, err);
    }
    plm_free(name);
    plm_free(done);
    return st;
}

int cmd_personalize(struct args *a) {
    if (a->share && strcmp(a->share, "summary") != 0 && strcmp(a->share, "exemplars") != 0)
        return app_misuse(a, "personalize", "--share is exemplars or summary");
    plm_error err = {0};
    struct job *j = mem_zero(1, sizeof *j);
    if (!j) {
        fail(&err, PLM_ENOMEM, "out of memory");
        return app_fail(&err);
    }
    j->a = a;
    report_start(&j->report, a);
    plm_status st = run(j, &err);
    if (st == PLM_OK)
        report_print(&j->report, stdout);
    if (st == PLM_OK && a->explain && !a->json)
        st = explain_print(j->folder, stdout, &err);
    report_close(&j->report);
    gate_free(&j->gate);
    records_free(&j->data.real);
    synthetics_free(&j->data.synthetic);
    plm_model_close(j->data.model);
    plm_store_close(j->store);
    plm_kinds_close(j->kinds);
    plm_free(j->folder);
    mem_free(j->installed);
    mem_free(j);
    return st ? app_fail(&err) : EXIT_DONE;
}
