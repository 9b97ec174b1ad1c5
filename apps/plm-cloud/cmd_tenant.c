/* cmd_tenant.c: the operator's commands on the ledger, beside a running service: tenants, and its state. */
#include "commands.h"

#include <stdio.h>
#include <string.h>

static struct tenant_limits limits_of(const struct args *c) {
    return (struct tenant_limits){.day_requests = c->day_requests,
                                  .day_tokens = c->day_tokens,
                                  .month_spend = (int64_t)(c->month_spend * 1e6),
                                  .minute_requests = c->minute_requests,
                                  .queued = c->queued};
}

struct listing {
    bool json;
    size_t n;
};

static int show(void *ctx, const struct tenant *t) {
    struct listing *l = ctx;
    const char *state = t->active ? "active" : "suspended";
    if (l->json) {
        printf("{\"name\":\"%s\",\"state\":\"%s\",\"created\":%lld,\"jobs\":%lld,\"requests_today\":%lld,"
               "\"tokens_today\":%lld,\"spend_month\":%.6f,\"day_requests\":%lld,\"day_tokens\":%lld,"
               "\"month_spend\":%.6f,\"minute_requests\":%lld,\"queued\":%lld}\n",
               t->name, state, (long long)t->created, (long long)t->jobs, (long long)t->requests_today,
               (long long)t->tokens_today, (double)t->spend_month / 1e6, (long long)t->limits.day_requests,
               (long long)t->limits.day_tokens, (double)t->limits.month_spend / 1e6,
               (long long)t->limits.minute_requests, (long long)t->limits.queued);
        return 0;
    }
    if (!l->n++) {
        printf("%-24s %-10s %8s %10s %12s %10s\n", "name", "state", "jobs", "requests", "tokens", "spend");
    }
    printf("%-24s %-10s %8lld %10lld %12lld %10.2f\n", t->name, state, (long long)t->jobs,
           (long long)t->requests_today, (long long)t->tokens_today, (double)t->spend_month / 1e6);
    return 0;
}

static void print_key(const char *key, bool json) {
    if (json) {
        printf("{\"key\":\"%s\"}\n", key);
    } else {
        printf("%s\n", key);
        fprintf(stderr, "This key is shown once and stored nowhere: give it to the device now.\n");
    }
}

static plm_status act(struct ledger *l, const struct args *c, const char *what, const char *name,
                      plm_error *err) {
    char key[TENANT_KEY_MAX];
    struct tenant_limits m = limits_of(c);
    plm_status st;
    if (strcmp(what, "add") == 0 || strcmp(what, "rotate") == 0) {
        st = *what == 'a' ? tenant_add(l, name, &m, key, err) : tenant_rotate(l, name, c->overlap, key, err);
        if (!st) {
            print_key(key, c->json);
        }
        explicit_bzero(key, sizeof key);
        return st;
    }
    if (strcmp(what, "limit") == 0) {
        return tenant_limit(l, name, &m, err);
    }
    return strcmp(what, "delete") == 0 ? tenant_delete(l, name, err)
                                       : tenant_suspend(l, name, strcmp(what, "suspend") == 0, err);
}

int cmd_tenant(struct args *c) {
    static const char *const verbs[] = {"add", "limit", "rotate", "suspend", "resume", "delete", "list"};
    const char *what = c->n_rest ? c->rest[0] : "list";
    bool known = false, list = strcmp(what, "list") == 0;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        known = known || strcmp(what, verbs[i]) == 0;
    }
    if (!known || c->n_rest > (list ? 1 : 2) || (!list && c->n_rest < 2)) {
        return say_misuse("tenant",
                          "it takes add, limit, rotate, suspend, resume or delete and a NAME, or list");
    }
    struct ledger *l = NULL;
    struct listing listing = {.json = c->json};
    plm_error err = {0};
    plm_status st = open_ledger(&l, c, &err);
    if (!st) {
        st = list ? tenant_list(l, show, &listing, &err) : act(l, c, what, c->rest[1], &err);
    }
    ledger_close(l);
    return st ? say_failure(&err) : EXIT_DONE;
}

int cmd_status(struct args *c) {
    struct ledger *l = NULL;
    struct ledger_stats s;
    plm_error err = {0};
    if (c->n_rest) {
        return say_misuse("status", "it takes options alone");
    }
    plm_status st = open_ledger(&l, c, &err);
    st = st ? st : ledger_stats(l, &s, &err);
    ledger_close(l);
    if (st) {
        return say_failure(&err);
    }
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {{"tenants", s.tenants},
                {"queued", s.queued},
                {"running", s.running},
                {"done", s.done},
                {"failed", s.failed},
                {"cancelled", s.cancelled},
                {"oldest_queued_s", s.oldest_queued_s},
                {"requests_today", s.requests_today},
                {"calls_today", s.calls_today},
                {"tokens_in_today", s.tokens_in_today},
                {"tokens_out_today", s.tokens_out_today}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        printf(c->json ? "%s\"%s\":%lld" : "%s%-18s %lld\n", c->json ? (i ? "," : "{") : "", rows[i].name,
               (long long)rows[i].value);
    }
    if (c->json) {
        printf("}\n");
    }
    return EXIT_DONE;
}
