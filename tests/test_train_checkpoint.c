/* Checkpoints over a toy model: a resumed run ends with the very bytes of an uninterrupted one, every damage
 * is noticed, the file before the damaged one is used, and a run of another kind is refused. */
#include "train_toy.h"
#include "base/file.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { STEPS = 24, HEAD = 608, SECTIONS = 6, SECTION_AT = 16, SECTION_BYTES = 88 };

static char folder[] = "train-checkpoint-XXXXXX";
static char path[64], prev[64];

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/run.ckpt", folder);
    snprintf(prev, sizeof prev, "%s/run.ckpt.prev", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void forget(void) {
    unlink(path);
    unlink(prev);
}

static const plm_train_options usual = {
    .steps = STEPS, .batch = 3, .eval_every = 4, .rate = 0.02f, .seed = 9, .real_last = 0.2f, .patience = 50};

static plm_trainer *start(struct toy *y, const plm_train_options *o) {
    toy_open(y);
    plm_trainer *t = NULL;
    assert_ok(plm_trainer_new(&t, &y->m, &y->a, o, &why));
    for (uint64_t i = 0; i < 10; i++) {
        toy_add_ids(t, i, 8 + i * 3, 4, (float)(1 + i % 2), i >= 8);
    }
    return t;
}

/* The run to its end; the sums after the last step and after finish. */
static void run_on(struct toy *y, plm_trainer *t, char last[65], char best[65]) {
    plm_train_report r;
    do {
        assert_ok(plm_trainer_step(t, &r, &why));
    } while (!r.done);
    toy_sum(y, last);
    assert_ok(plm_trainer_finish(t, NULL, NULL, &why));
    toy_sum(y, best);
}

static void whole(char last[65], char best[65]) {
    struct toy y;
    plm_trainer *t = start(&y, &usual);
    run_on(&y, t, last, best);
    plm_trainer_free(t);
}

static void steps(plm_trainer *t, int n) {
    for (int i = 0; i < n; i++) {
        assert_ok(plm_trainer_step(t, NULL, &why));
    }
}

/* A checkpoint after n steps at path. */
static void saved_at(int n) {
    struct toy y;
    plm_trainer *t = start(&y, &usual);
    assert_ok(plm_trainer_plan(t, NULL, &why));
    steps(t, n);
    assert_ok(plm_trainer_save(t, path, &why));
    plm_trainer_free(t);
}

static struct bytes content(const char *name) {
    struct bytes b;
    bytes_init(&b, 1 << 20);
    assert_ok(file_read(name, 1 << 20, &b, &why));
    return b;
}

static void put(const char *name, const void *data, size_t len) {
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* What resuming says; the adapter must be untouched unless it worked. */
static plm_status resumed(const plm_train_options *o, int64_t *step) {
    struct toy y;
    plm_trainer *t = start(&y, o);
    char before[65], after[65];
    toy_sum(&y, before);
    memset(&why, 0, sizeof why);
    plm_status st = plm_trainer_resume(t, path, &why);
    toy_sum(&y, after);
    if (st) {
        assert_string_equal(before, after);
        assert_int_equal(t->at.step, 0);
        assert_true(why.text[0]);
    }
    if (step) {
        *step = t->at.step;
    }
    plm_trainer_free(t);
    return st;
}

/* ---- exactness ---- */

static void a_run_stopped_after_any_step_ends_with_the_same_bytes(void **state) {
    (void)state;
    char last[65], best[65], got_last[65], got_best[65];
    whole(last, best);
    assert_string_not_equal(last, best);
    for (int stop = 0; stop < STEPS; stop++) {
        forget();
        saved_at(stop);
        struct toy y;
        plm_trainer *t = start(&y, &usual);
        assert_ok(plm_trainer_resume(t, path, &why));
        assert_int_equal(t->at.step, stop);
        run_on(&y, t, got_last, got_best);
        assert_string_equal(got_last, last);
        assert_string_equal(got_best, best);
        plm_trainer_free(t);
    }
}

static void patience_and_best_survive_a_stop(void **state) {
    (void)state;
    plm_train_options o = usual;
    o.steps = 4000;
    o.eval_every = 2;
    o.patience = 5;
    o.rate = 0.1f;
    o.schedule = PLM_CONSTANT;
    struct toy y;
    plm_trainer *t = start(&y, &o);
    char last[65], best[65], got_last[65], got_best[65];
    run_on(&y, t, last, best);
    int64_t end = t->at.step;
    plm_trainer_free(t);
    assert_in_range(end, 12, 3000);
    for (int64_t stop = end - 11; stop < end; stop++) {
        forget();
        t = start(&y, &o);
        steps(t, (int)stop);
        assert_ok(plm_trainer_save(t, path, &why));
        plm_trainer_free(t);
        t = start(&y, &o);
        assert_ok(plm_trainer_resume(t, path, &why));
        run_on(&y, t, got_last, got_best);
        assert_int_equal(t->at.step, end);
        assert_string_equal(got_last, last);
        assert_string_equal(got_best, best);
        plm_trainer_free(t);
    }
}

static void the_same_state_gives_the_same_file(void **state) {
    (void)state;
    forget();
    saved_at(9);
    struct bytes a = content(path);
    forget();
    struct toy y;
    plm_trainer *t = start(&y, &usual);
    steps(t, 4);
    assert_ok(plm_trainer_save(t, path, &why));
    plm_trainer_free(t);
    t = start(&y, &usual);
    assert_ok(plm_trainer_resume(t, path, &why));
    steps(t, 5);
    assert_ok(plm_trainer_save(t, path, &why));
    plm_trainer_free(t);
    struct bytes b = content(path);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    bytes_free(&a);
    bytes_free(&b);
}

/* ---- damage ---- */

static void every_truncation_is_noticed(void **state) {
    (void)state;
    forget();
    saved_at(6);
    struct bytes b = content(path);
    for (size_t n = b.len; n-- > 0;) {
        assert_int_equal(truncate(path, (off_t)n), 0);
        assert_int_equal(resumed(&usual, NULL), PLM_EFORMAT);
    }
    bytes_putc(&b, 0);
    put(path, b.data, b.len);
    assert_int_equal(resumed(&usual, NULL), PLM_EFORMAT);
    put(path, b.data, b.len - 1);
    assert_int_equal(resumed(&usual, NULL), PLM_OK);
    bytes_free(&b);
}

static void every_flipped_bit_is_noticed(void **state) {
    (void)state;
    forget();
    saved_at(6);
    struct bytes b = content(path);
    struct toy y;
    plm_trainer *t = start(&y, &usual);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        char flipped = b.data[bit / 8] ^ (char)(1 << bit % 8);
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)(bit / 8)), 1);
        assert_refused(plm_trainer_resume(t, path, &why), PLM_EFORMAT, path);
        assert_int_equal(t->at.step, 0);
        assert_int_equal(pwrite(fd, b.data + bit / 8, 1, (off_t)(bit / 8)), 1);
    }
    assert_ok(plm_trainer_resume(t, path, &why));
    close(fd);
    plm_trainer_free(t);
    bytes_free(&b);
}

static void a_damaged_newest_falls_back_to_the_one_before(void **state) {
    (void)state;
    char last[65], best[65], got_last[65], got_best[65];
    whole(last, best);
    forget();
    struct toy y;
    plm_trainer *t = start(&y, &usual);
    steps(t, 5);
    assert_ok(plm_trainer_save(t, path, &why));
    assert_false(file_exists(prev));
    steps(t, 5);
    assert_ok(plm_trainer_save(t, path, &why));
    assert_true(file_exists(prev));
    plm_trainer_free(t);
    int64_t step;
    assert_int_equal(resumed(&usual, &step), PLM_OK);
    assert_int_equal(step, 10);
    struct bytes b = content(path);
    b.data[b.len / 2] ^= 4;
    put(path, b.data, b.len);
    bytes_free(&b);

    t = start(&y, &usual);
    assert_ok(plm_trainer_resume(t, path, &why));
    assert_int_equal(t->at.step, 5);
    steps(t, 2);
    assert_ok(plm_trainer_save(t, path, &why)); /* must not move the damaged file over the good one */
    plm_trainer_free(t);
    put(path, "damaged again", 13);
    t = start(&y, &usual);
    assert_ok(plm_trainer_resume(t, path, &why));
    assert_int_equal(t->at.step, 5);
    unlink(path);
    assert_ok(plm_trainer_resume(t, path, &why));
    run_on(&y, t, got_last, got_best);
    plm_trainer_free(t);
    assert_string_equal(got_last, last);
    assert_string_equal(got_best, best);
    put(path, "damaged", 7);
    put(prev, "damaged", 7);
    assert_int_equal(resumed(&usual, NULL), PLM_EFORMAT);
    forget();
    assert_int_equal(resumed(&usual, NULL), PLM_ENOTFOUND);
}

/* ---- forged: checksums right, content wrong ---- */

static void seal(struct bytes *b) {
    unsigned char *head = (unsigned char *)b->data, *p = head + HEAD;
    char hex[65];
    for (int i = 0; i < SECTIONS; i++) {
        unsigned char *s = head + SECTION_AT + i * SECTION_BYTES;
        uint64_t bytes;
        memcpy(&bytes, s + 16, 8);
        sha256_of(p, (size_t)bytes, hex);
        memcpy(s + 24, hex, 64);
        p += bytes;
    }
    sha256_of(head, HEAD - 64, hex);
    memcpy(head + HEAD - 64, hex, 64);
    put(path, b->data, b->len);
}

static size_t section_at(const struct bytes *b, int which) {
    size_t at = HEAD;
    for (int i = 0; i < which; i++) {
        uint64_t bytes;
        memcpy(&bytes, b->data + SECTION_AT + i * SECTION_BYTES + 16, 8);
        at += (size_t)bytes;
    }
    return at;
}

static void forged_content_is_refused(void **state) {
    (void)state;
    const float nan = NAN;
    const int64_t much = STEPS + 1, minus = -5;
    const uint32_t version = 2;
    const uint64_t huge = UINT64_MAX - 3, none = 0;
    const struct {
        int section;
        size_t at;
        const void *data;
        size_t n;
        plm_status st;
        const char *part;
    } forged[] = {
        {2, 40, &nan, 4, PLM_EFORMAT, "not finite"},
        {3, 40, &nan, 4, PLM_EFORMAT, "not finite"},
        {4, 40, &nan, 4, PLM_EFORMAT, "not finite"},
        {5, 40, &nan, 4, PLM_EFORMAT, "not finite"},
        {1, 0, &much, 8, PLM_EFORMAT, "makes no sense"},
        {1, 0, &minus, 8, PLM_EFORMAT, "makes no sense"},
        {1, 8, &much, 8, PLM_EFORMAT, "makes no sense"},
        {1, 16, &minus, 8, PLM_EFORMAT, "makes no sense"},
        {0, 0, "another", 7, PLM_EINVAL, "belongs to a run with another"},
        {-1, 8, &version, 4, PLM_ENOTSUP, "version 2"},
        {-1, 0, "GGUF", 4, PLM_EFORMAT, "not a checkpoint"},
        {-1, SECTION_AT, "weights", 8, PLM_EFORMAT, "section 0 is not config"},
    };
    forget();
    saved_at(6);
    struct bytes good = content(path);
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        struct bytes b = content(path);
        size_t at = forged[i].at + (forged[i].section < 0 ? 0 : section_at(&b, forged[i].section));
        memcpy(b.data + at, forged[i].data, forged[i].n);
        seal(&b);
        assert_refused(resumed(&usual, NULL), forged[i].st, forged[i].part);
        bytes_free(&b);
        put(path, good.data, good.len);
    }
    const uint64_t *sizes[] = {&huge, &none};
    for (int i = 0; i < 2; i++) { /* section sizes that do not add up */
        struct bytes b = content(path);
        memcpy(b.data + SECTION_AT + 2 * SECTION_BYTES + 16, sizes[i], 8);
        char hex[65];
        sha256_of(b.data, HEAD - 64, hex);
        memcpy(b.data + HEAD - 64, hex, 64);
        put(path, b.data, b.len);
        assert_refused(resumed(&usual, NULL), PLM_EFORMAT, "damaged checkpoint");
        bytes_free(&b);
        put(path, good.data, good.len);
    }
    /* bytes moved from one section to another: sizes add up, but not for this adapter */
    struct bytes b = content(path);
    uint64_t two = 2 * TOY_PARAMETERS * sizeof(float);
    memcpy(b.data + SECTION_AT + 2 * SECTION_BYTES + 16, &two, 8);
    memcpy(b.data + SECTION_AT + 3 * SECTION_BYTES + 16, &none, 8);
    seal(&b);
    assert_refused(resumed(&usual, NULL), PLM_EFORMAT, "wrong size");
    bytes_free(&b);
    bytes_free(&good);
}

/* ---- another run ---- */

static void another_configuration_is_refused_by_what_differs(void **state) {
    (void)state;
    forget();
    saved_at(6);
    struct {
        plm_train_options o;
        const char *part;
    } other[12];
    for (int i = 0; i < 12; i++) {
        other[i].o = usual;
    }
    int n = 0;
    other[n].o.batch = 4, other[n++].part = "belongs to a run with batch: 3, this one has batch: 4";
    other[n].o.steps = 25, other[n++].part = "steps: 24, this one has steps: 25";
    other[n].o.rate = 0.03f,
    other[n++].part = "learning rate: 0.0199999996, this one has learning rate: 0.0299999993";
    other[n].o.seed = 10, other[n++].part = "seed: 9, this one has seed: 10";
    other[n].o.warmup = 7, other[n++].part = "warm-up";
    other[n].o.patience = 1, other[n++].part = "patience";
    other[n].o.eval_every = 5, other[n++].part = "steps between validations";
    other[n].o.schedule = PLM_COSINE, other[n++].part = "schedule";
    other[n].o.decay = 0.5f, other[n++].part = "decay";
    other[n].o.clip = 0.5f, other[n++].part = "clip";
    other[n].o.real_last = 0, other[n++].part = "real last";
    other[n].o.max_tokens = 50, other[n++].part = "longest example";
    for (int i = 0; i < n; i++) {
        assert_refused(resumed(&other[i].o, NULL), PLM_EINVAL, other[i].part);
    }
    plm_train_options same = usual;
    same.memory = 64 << 20;
    assert_int_equal(resumed(&same, NULL), PLM_OK);
}

static void another_base_adapter_or_example_is_refused(void **state) {
    (void)state;
    forget();
    saved_at(6);
    for (int what = 0; what < 7; what++) {
        struct toy y;
        plm_trainer *t = start(&y, &usual);
        const char *part = "examples: ";
        switch (what) {
        case 0:
            y.m.digest[3] = 'b', part = "base model: ";
            break;
        case 1:
            y.m.facts.cpu = "avx2", part = "kernels: ref, this one has kernels: avx2";
            break;
        case 2:
            y.lora.alpha = 4, part = "alpha: 8, this one has alpha: 4";
            break;
        case 3:
            y.lora.rank = 2, part = "rank: ";
            break;
        case 4:
            t->ex[2].weight = 1.5f;
            break;
        case 5:
            t->ex[2].ids[3]++;
            break;
        default:
            t->ex[9].synthetic = !t->ex[9].synthetic;
            break;
        }
        assert_refused(plm_trainer_resume(t, path, &why), PLM_EINVAL, part);
        plm_trainer_free(t);
    }
}

/* ---- crashes and full disks ---- */

static void a_killed_run_goes_on_where_it_was(void **state) {
    (void)state;
    char last[65], best[65], got[65];
    whole(last, best);
    forget();
    char done[80];
    snprintf(done, sizeof done, "%s/done", folder);
    struct rng r;
    rng_seed(&r, 42, 0);
    int kills = 0;
    while (!file_exists(done)) {
        assert_in_range(kills, 0, 2000);
        pid_t child = fork();
        if (child == 0) {
            struct toy y;
            plm_trainer *t = start(&y, &usual);
            if (file_exists(path) || file_exists(prev)) {
                assert_ok(plm_trainer_resume(t, path, &why));
            }
            plm_train_report report = {.done = t->at.step == STEPS};
            while (!report.done) {
                assert_ok(plm_trainer_step(t, &report, &why));
                assert_ok(plm_trainer_save(t, path, &why));
            }
            assert_ok(plm_trainer_finish(t, NULL, NULL, &why));
            toy_sum(&y, got);
            assert_ok(file_replace(done, got, 64, &why));
            _exit(0);
        }
        usleep((useconds_t)rng_below(&r, 8000));
        if (rng_below(&r, 30)) {
            kill(child, SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        kills += WIFSIGNALED(status);
    }
    struct bytes b = content(done);
    assert_memory_equal(b.data, best, 64);
    bytes_free(&b);
    unlink(done);
    assert_true(kills > 3);
}

static void a_full_disk_leaves_the_old_checkpoint(void **state) {
    (void)state;
    forget();
    saved_at(6);
    struct bytes before = content(path);
    for (rlim_t room = 0; room < before.len; room += 97) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGXFSZ, SIG_IGN);
            struct rlimit limit = {room, room};
            struct toy y;
            plm_trainer *t = start(&y, &usual);
            steps(t, 8);
            setrlimit(RLIMIT_FSIZE, &limit);
            plm_status st = plm_trainer_save(t, path, &why);
            plm_trainer_free(t);
            _exit(st == PLM_EIO && why.text[0] ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        int64_t step;
        assert_int_equal(resumed(&usual, &step), PLM_OK);
        assert_int_equal(step, 6);
    }
    bytes_free(&before);
    struct toy y;
    plm_trainer *t = start(&y, &usual);
    assert_refused(plm_trainer_save(t, path, &why), PLM_EINVAL, "before the plan");
    steps(t, 1);
    assert_refused(plm_trainer_save(t, "no-such-folder/run.ckpt", &why), PLM_ENOTFOUND, "no-such-folder");
    assert_refused(plm_trainer_save(t, folder, &why), PLM_EINVAL, folder);
    plm_trainer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_stopped_after_any_step_ends_with_the_same_bytes),
        cmocka_unit_test(patience_and_best_survive_a_stop),
        cmocka_unit_test(the_same_state_gives_the_same_file),
        cmocka_unit_test(every_truncation_is_noticed),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(a_damaged_newest_falls_back_to_the_one_before),
        cmocka_unit_test(forged_content_is_refused),
        cmocka_unit_test(another_configuration_is_refused_by_what_differs),
        cmocka_unit_test(another_base_adapter_or_example_is_refused),
        cmocka_unit_test(a_killed_run_goes_on_where_it_was),
        cmocka_unit_test(a_full_disk_leaves_the_old_checkpoint),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
