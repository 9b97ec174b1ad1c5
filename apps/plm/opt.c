/* opt.c: parses options by the table, prints usage and the man page from it, and names the nearest
 * right option for a wrong one. Holds no option itself. */
#include "opt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const shared_options =
    "model store user task kinds adapter threads cpu no-repack seed chat-template json "
    "quiet verbose help";

/* Levenshtein distance of two short names. */
static size_t distance(const char *a, const char *b) {
    size_t n = strlen(b), row[64];
    if (n >= 63)
        return 99;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

static bool listed(const char *list, const char *name) {
    struct str rest = str_of(list), one;
    while (str_cut(&rest, ' ', &one))
        if (str_eq(one, name))
            return true;
    return false;
}

static bool takes(const struct command *c, const struct option *o) {
    return listed(shared_options, o->name) || listed(c->options, o->name);
}

const struct command *opt_command(const char *name) {
    for (const struct command *c = plm_commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

const char *opt_nearest_command(const char *name) {
    const char *best = NULL;
    size_t least = 4;
    for (const struct command *c = plm_commands; c->name; c++) {
        size_t d = distance(name, c->name);
        if (d < least) {
            least = d;
            best = c->name;
        }
    }
    return best;
}

static const char *nearest_option(const struct command *c, const char *name) {
    const char *best = NULL;
    size_t least = 4;
    for (const struct option *o = plm_options; o->name; o++) {
        size_t d = takes(c, o) ? distance(name, o->name) : 99;
        if (d < least) {
            least = d;
            best = o->name;
        }
    }
    return best;
}

static const struct option *find_long(const struct command *c, struct str name) {
    for (const struct option *o = plm_options; o->name; o++)
        if (takes(c, o) && str_eq(name, o->name))
            return o;
    return NULL;
}

static const struct option *find_letter(const struct command *c, char letter) {
    for (const struct option *o = plm_options; o->name; o++)
        if (takes(c, o) && o->letter == letter)
            return o;
    return NULL;
}

static int misuse(const struct command *c, const char *what, const char *more) {
    fprintf(stderr, "plm %s: %s%s (see plm %s --help)\n", c->name, what, more, c->name);
    return EXIT_MISUSE;
}

static bool store_value(struct args *a, const struct option *o, const char *value) {
    void *field = (char *)a + o->at;
    int64_t i;
    uint64_t u;
    double d;
    switch (o->type) {
    case OPT_FLAG:
        *(bool *)field = true;
        return true;
    case OPT_TEXT:
        *(const char **)field = value;
        return true;
    case OPT_LIST: {
        struct strings *s = field;
        if (s->n == (int)(sizeof s->v / sizeof *s->v))
            return false;
        s->v[s->n++] = value;
        return true;
    }
    case OPT_INT:
        if (!parse_i64(str_of(value), &i) || i < -1000000000 || i > 1000000000)
            return false;
        *(int *)field = (int)i;
        return true;
    case OPT_U64:
        if (!parse_u64(str_of(value), &u))
            return false;
        *(uint64_t *)field = u;
        return true;
    case OPT_SIZE:
        if (!parse_size(str_of(value), &u))
            return false;
        *(uint64_t *)field = u;
        return true;
    case OPT_REAL:
        if (!parse_f64(str_of(value), &d))
            return false;
        *(double *)field = d;
        return true;
    }
    return false;
}

static int bad_value(const struct command *c, const struct option *o, const char *value) {
    char text[200];
    snprintf(text, sizeof text, "--%s takes %s, not \"%.80s\"", o->name, o->value, value);
    return misuse(c, text, "");
}

static int unknown(const struct command *c, const char *shown, const char *name) {
    char text[200];
    const char *near = nearest_option(c, name);
    if (near)
        snprintf(text, sizeof text, "no option %.60s; did you mean --%s?", shown, near);
    else
        snprintf(text, sizeof text, "no option %.60s", shown);
    return misuse(c, text, "");
}

/* One argument that starts with a dash; *i advances over a separate value. */
static int parse_dashed(struct args *a, const struct command *c, int argc, char **argv, int *i) {
    const char *arg = argv[*i], *value = NULL;
    const struct option *o;
    if (arg[1] == '-') {
        struct str rest = str_of(arg + 2), name;
        bool joined = strchr(arg, '=') != NULL;
        str_cut(&rest, '=', &name);
        o = find_long(c, name);
        if (!o) {
            char plain[64];
            snprintf(plain, sizeof plain, "%.*s", (int)(name.n < 60 ? name.n : 60), name.p);
            return unknown(c, arg, plain);
        }
        if (joined)
            value = rest.p;
        if (joined && !o->value)
            return misuse(c, "this option takes no value: --", o->name);
    } else {
        o = find_letter(c, arg[1]);
        if (!o)
            return unknown(c, arg, arg + 1);
        if (arg[2] && !o->value)
            return unknown(c, arg, arg + 1);
        value = arg[2] ? arg + 2 : NULL;
    }
    if (o->value && !value) {
        if (*i + 1 >= argc)
            return misuse(c, "a value is missing after --", o->name);
        value = argv[++*i];
    }
    return store_value(a, o, value) ? EXIT_DONE : bad_value(c, o, value);
}

int opt_parse(struct args *a, const struct command *c, int argc, char **argv) {
    bool options_end = false;
    a->rest = mem_zero((size_t)argc + 1, sizeof *a->rest);
    if (!a->rest)
        return misuse(c, "out of memory", "");
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (options_end || arg[0] != '-' || !arg[1]) {
            a->rest[a->n_rest++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            options_end = true;
            continue;
        }
        int rc = parse_dashed(a, c, argc, argv, &i);
        if (rc)
            return rc;
    }
    return EXIT_DONE;
}

static void print_option(const struct option *o) {
    char left[64];
    snprintf(left, sizeof left, "%s%c%s --%s%s%s", o->letter ? "-" : " ", o->letter ? o->letter : ' ',
             o->letter ? "," : " ", o->name, o->value ? " " : "", o->value ? o->value : "");
    printf("  %-30s %s\n", left, o->help);
}

void opt_usage(const struct command *c) {
    if (!c) {
        printf("plm %s: a personal language model that learns and answers on this machine\n\n",
               plm_version());
        printf("usage: plm COMMAND [options]\n\n");
        for (c = plm_commands; c->name; c++)
            printf("  %-12s %s\n", c->name, c->what);
        printf("\nplm COMMAND --help explains one. The main one: plm personalize my-notes/\n");
        return;
    }
    printf("usage: plm %s %s\n\n%s\n", c->name, c->usage, c->what);
    if (c->more)
        printf("\n%s\n", c->more);
    printf("\n");
    for (const struct option *o = plm_options; o->name; o++)
        if (listed(c->options, o->name))
            print_option(o);
    printf("\nshared:\n");
    for (const struct option *o = plm_options; o->name; o++)
        if (listed(shared_options, o->name) && !listed(c->options, o->name))
            print_option(o);
    printf("\nexample:\n  %s\n", c->example);
}

/* roff needs its dashes and leading dots escaped. */
static void roff(const char *text) {
    for (const char *p = text; *p; p++) {
        if (*p == '-')
            fputs("\\-", stdout);
        else if (*p == '\\')
            fputs("\\e", stdout);
        else if ((*p == '.' || *p == '\'') && (p == text || p[-1] == '\n'))
            printf("\\&%c", *p);
        else
            putchar(*p);
    }
}

static void man_option(const struct option *o) {
    printf(".TP\n.B ");
    if (o->letter)
        printf("\\-%c, ", o->letter);
    printf("\\-\\-");
    roff(o->name);
    if (o->value) {
        printf(" \\fI");
        roff(o->value);
        printf("\\fR");
    }
    printf("\n");
    roff(o->help);
    printf("\n");
}

void opt_man(void) {
    printf(".TH PLM 1 \"\" \"plm %s\" \"User Commands\"\n.SH NAME\n", plm_version());
    printf("plm \\- a personal language model that learns and answers on this machine\n");
    printf(".SH SYNOPSIS\n.B plm\n.I command\n[options]\n.SH COMMANDS\n");
    for (const struct command *c = plm_commands; c->name; c++) {
        printf(".SS plm %s ", c->name);
        roff(c->usage);
        printf("\n");
        roff(c->what);
        printf("\n");
        if (c->more) {
            printf(".PP\n");
            roff(c->more);
            printf("\n");
        }
        for (const struct option *o = plm_options; o->name; o++)
            if (listed(c->options, o->name))
                man_option(o);
        printf(".PP\nExample:\n.PP\n.EX\n");
        roff(c->example);
        printf("\n.EE\n");
    }
    printf(".SH OPTIONS OF EVERY COMMAND\n");
    for (const struct option *o = plm_options; o->name; o++)
        if (listed(shared_options, o->name))
            man_option(o);
    printf(".SH EXIT STATUS\n0 done, 1 failed, 2 misuse.\n.SH FILES\n");
    printf("$XDG_DATA_HOME/plm: the store, adapters and reports.\n.br\n$XDG_CACHE_HOME/plm: models and their "
           "hashes.\n");
}

static void complete_options(const char *names) {
    for (const struct option *o = plm_options; o->name; o++)
        if (listed(names, o->name))
            printf(" --%s", o->name);
}

void opt_completion(void) {
    printf("_plm() {\n    local words=\n    case $COMP_CWORD:${COMP_WORDS[1]} in\n    1:*) words=\"");
    for (const struct command *c = plm_commands; c->name; c++)
        printf("%s%s", c == plm_commands ? "" : " ", c->name);
    printf("\" ;;\n");
    for (const struct command *c = plm_commands; c->name; c++) {
        printf("    *:%s) words=\"", c->name);
        complete_options(shared_options);
        complete_options(c->options);
        printf("\" ;;\n");
    }
    printf("    esac\n    local now=${COMP_WORDS[COMP_CWORD]}\n"
           "    [[ $COMP_CWORD = 1 || $now = -* ]] || return 0 # then bash offers files\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$now\"))\n}\ncomplete -o default -F _plm plm\n");
}
