/* plot.c: four pictures and what they share: a canvas, an axis with round numbers, two palettes. */
#include "plot.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 760, ROW = 24, TEXT = 13, SERIES = 6, MANY = 64 };

struct colour {
    double r, g, b;
};
#define RGB(hex) \
    { ((hex) >> 16 & 255) / 255.0, ((hex) >> 8 & 255) / 255.0, ((hex)&255) / 255.0 }

struct palette { /* told apart by people with any colour vision */
    struct colour ground, ink, soft, grid, series[SERIES];
};
static const struct palette light = {
    RGB(0xffffff),
    RGB(0x222222),
    RGB(0x666666),
    RGB(0xdddddd),
    {RGB(0xc44e00), RGB(0x0072b2), RGB(0x00805e), RGB(0x9b3f8c), RGB(0x8a6d00), RGB(0x666666)}};
static const struct palette dark_ones = {
    RGB(0x16181c),
    RGB(0xe8e8e8),
    RGB(0xa8a8a8),
    RGB(0x3a3d42),
    {RGB(0xff9550), RGB(0x5cb8f0), RGB(0x3fd0a0), RGB(0xe59bdc), RGB(0xe8c840), RGB(0xa8a8a8)}};

struct canvas {
    cairo_surface_t *surface;
    cairo_t *cr;
    const struct palette *c;
    double w, h;
};

static cairo_status_t keep(void *to, const unsigned char *data, unsigned n) {
    bytes_put(to, data, n);
    return CAIRO_STATUS_SUCCESS; /* the buffer keeps its own failure */
}

static void ink(struct canvas *v, struct colour c) {
    cairo_set_source_rgb(v->cr, c.r, c.g, c.b);
}

static void canvas_open(struct canvas *v, struct bytes *svg, double w, double h, bool dark) {
    *v = (struct canvas){cairo_svg_surface_create_for_stream(keep, svg, w, h), NULL,
                         dark ? &dark_ones : &light, w, h};
    if (cairo_surface_get_type(v->surface) == CAIRO_SURFACE_TYPE_SVG)
        cairo_svg_surface_set_document_unit(v->surface, CAIRO_SVG_UNIT_PX);
    v->cr = cairo_create(v->surface);
    ink(v, v->c->ground);
    cairo_paint(v->cr);
    cairo_select_font_face(v->cr, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(v->cr, TEXT);
}

static plm_status canvas_close(struct canvas *v, const struct bytes *svg, plm_error *err) {
    cairo_destroy(v->cr);
    cairo_surface_finish(v->surface);
    cairo_status_t st = cairo_surface_status(v->surface);
    cairo_surface_destroy(v->surface);
    if (st != CAIRO_STATUS_SUCCESS)
        return fail(err, st == CAIRO_STATUS_NO_MEMORY ? PLM_ENOMEM : PLM_EIO, "a plot could not be drawn: %s",
                    cairo_status_to_string(st));
    return bytes_status(svg, "a plot", err);
}

static double text_width(struct canvas *v, const char *s) {
    cairo_text_extents_t e;
    cairo_text_extents(v->cr, s, &e);
    return e.x_advance;
}

/* side: 0 x is the left end, 0.5 the middle, 1 the right end. y is the middle of the line. */
static void label(struct canvas *v, double x, double y, double side, struct colour c, const char *s) {
    ink(v, c);
    cairo_move_to(v->cr, x - side * text_width(v, s), y + TEXT * 0.36);
    cairo_show_text(v->cr, s);
}

static void line(struct canvas *v, double x0, double y0, double x1, double y1, double width,
                 struct colour c) {
    ink(v, c);
    cairo_set_line_width(v->cr, width);
    cairo_move_to(v->cr, x0, y0);
    cairo_line_to(v->cr, x1, y1);
    cairo_stroke(v->cr);
}

static void disc(struct canvas *v, double x, double y, double r, struct colour c) {
    ink(v, c);
    cairo_arc(v->cr, x, y, r, 0, 2 * M_PI);
    cairo_fill(v->cr);
}

/* ---- an axis ---- */

struct axis { /* values low to high are pixels from to to */
    double low, high, step, from, to;
};

static double at(const struct axis *a, double value) {
    return a->from + (value - a->low) / (a->high - a->low) * (a->to - a->from);
}

/* Ends on round numbers, zero among them; about n steps. */
static void axis_fit(struct axis *a, double low, double high, int n) {
    low = fmin(low, 0);
    high = fmax(high, 0);
    if (high - low < 1e-9)
        high = low + 1;
    double rough = (high - low) / n, ten = pow(10, floor(log10(rough))), m = rough / ten;
    a->step = (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10) * ten;
    a->low = floor(low / a->step + 1e-9) * a->step;
    a->high = ceil(high / a->step - 1e-9) * a->step;
}

static void percent(char out[32], double share, double step) {
    snprintf(out, 32, "%+.*f %%", step < 0.01 - 1e-12 ? 1 : 0, 100 * share);
    if (fabs(share) < step / 100)
        strcpy(out, "0 %");
}

/* Lines across the other direction and their numbers below (across: an x axis) or on the left. */
static void axis_draw(struct canvas *v, const struct axis *a, bool across, double begin, double end,
                      bool shares) {
    int n = (int)lround((a->high - a->low) / a->step);
    for (int i = 0; i <= n; i++) {
        double value = a->low + i * a->step, p = at(a, value);
        bool zero = fabs(value) < a->step / 100;
        char s[32];
        if (shares)
            percent(s, value, a->step);
        else
            snprintf(s, sizeof s, "%.0f", value);
        if (across) {
            line(v, p, begin, p, end, zero ? 1.5 : 1, zero ? v->c->soft : v->c->grid);
            label(v, p, end + 14, 0.5, v->c->soft, s);
        } else {
            line(v, begin, p, end, p, zero ? 1.5 : 1, zero ? v->c->soft : v->c->grid);
            label(v, begin - 8, p, 1, v->c->soft, s);
        }
    }
}

/* ---- the report's numbers ---- */

static const char *text(const json_t *o, const char *key) {
    const char *t = json_string_value(json_object_get(o, key));
    return t ? t : "";
}

static double real(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void arm_name(char out[64], const json_t *arm) {
    if (real(arm, "bm25") > 0)
        snprintf(out, 64, "%.50s@%.0f", text(arm, "arm"), real(arm, "bm25"));
    else
        snprintf(out, 64, "%.50s", text(arm, "arm"));
}

/* Arms that know nothing of anyone are so far off that nothing else could be seen beside them. */
static bool is_floor(const json_t *arm) {
    static const char *const floors[] = {"majority", "histogram", "copy", "base"};
    for (size_t i = 0; i < sizeof floors / sizeof *floors; i++)
        if (strcmp(text(arm, "arm"), floors[i]) == 0)
            return true;
    return false;
}

static bool is_system(const json_t *arm) {
    return strcmp(text(arm, "arm"), "real+syn") == 0;
}

/* ---- arms with their intervals ---- */

static size_t pick_arms(const json_t *overall, const char *point, const json_t *arm[MANY]) {
    size_t i, n = 0;
    json_t *o;
    json_array_foreach(overall, i, o) {
        bool self = strcmp(text(o, "arm"), "task") == 0 && real(o, "bm25") == 0;
        if (n < MANY && strcmp(text(o, "point"), point) == 0 &&
            json_is_object(json_object_get(o, "from_task")) && !is_floor(o) && !self)
            arm[n++] = o;
    }
    return n;
}

/* Dotted where too few users leave an end open. */
static void interval(struct canvas *v, const struct axis *x, double y, double low, double high,
                     struct colour c) {
    static const double dots[] = {2, 6};
    bool open = !isfinite(low) || !isfinite(high);
    if (open)
        cairo_set_dash(v->cr, dots, 2, 0);
    line(v, at(x, isfinite(low) ? low : x->low), y, at(x, isfinite(high) ? high : x->high), y, open ? 2 : 3,
         c);
    cairo_set_dash(v->cr, NULL, 0, 0);
}

static plm_status plot_arms(const json_t *section, const char *point, bool dark, struct bytes *svg,
                            plm_error *err) {
    const json_t *arm[MANY];
    size_t n = pick_arms(json_object_get(section, "overall"), point, arm);
    struct canvas v;
    struct axis x = {.from = 150, .to = WIDTH - 90};
    double low = 0, high = 0, bottom = 30 + ROW * (double)n;
    if (!n)
        return PLM_OK;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_object_get(arm[i], "from_task");
        low = fmin(fmin(low, real(d, "effect")), real(d, "low"));
        high = fmax(fmax(high, real(d, "effect")), real(d, "high"));
    }
    axis_fit(&x, low, high, 7);
    canvas_open(&v, svg, WIDTH, bottom + 50, dark);
    label(&v, x.from, 14, 0, v.c->ink, "NLL relative to the adapter of other users: left is better");
    axis_draw(&v, &x, true, 28, bottom, true);
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_object_get(arm[i], "from_task");
        double y = 30 + ROW * ((double)i + 0.5);
        struct colour c = v.c->series[is_system(arm[i]) ? 0 : 1];
        char s[64];
        arm_name(s, arm[i]);
        label(&v, x.from - 12, y, 1, v.c->ink, s);
        interval(&v, &x, y, real(d, "low"), real(d, "high"), c);
        disc(&v, at(&x, real(d, "effect")), y, 5, c);
        snprintf(s, sizeof s, "%+.1f %%", 100 * real(d, "effect"));
        label(&v, WIDTH - 10, y, 1, v.c->soft, s);
    }
    return canvas_close(&v, svg, err);
}

/* ---- how much history ---- */

static const struct {
    const char *arm;
    bool retrieval; /* with the most retrieval there is */
} curves[SERIES] = {{"real+syn", false}, {"real-best", false}, {"real-matched", false},
                    {"gate", false},     {"task", true},       {"shuffled", false}};

static const json_t *curve_at(const json_t *overall, int which, const char *point) {
    const json_t *best = NULL;
    size_t i;
    json_t *o;
    json_array_foreach(overall, i, o) {
        bool retrieval = real(o, "bm25") > 0;
        if (strcmp(text(o, "arm"), curves[which].arm) == 0 && strcmp(text(o, "point"), point) == 0 &&
            retrieval == curves[which].retrieval && (!best || real(o, "bm25") > real(best, "bm25")))
            best = o;
    }
    return best;
}

/* Moves labels apart so that each has its own line, and none is below bottom. */
static void spread(double *y, const size_t *order, size_t n, double least, double bottom) {
    for (size_t i = 1; i < n; i++)
        y[order[i]] = fmax(y[order[i]], y[order[i - 1]] + least);
    for (size_t i = n; i-- > 0; bottom = y[order[i]] - least)
        y[order[i]] = fmin(y[order[i]], bottom);
}

static void sort_by(size_t *order, const double *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t k = i;
        for (; k > 0 && y[order[k - 1]] > y[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
}

struct ends { /* of the curves: where their labels stand */
    double y[SERIES];
    char name[SERIES][64];
    int which[SERIES];
    size_t n;
};

static void curve_draw(struct canvas *v, const json_t *section, int which, const struct axis *y, double left,
                       double gap, struct ends *ends) {
    const json_t *overall = json_object_get(section, "overall");
    double last_x = NAN, last_y = NAN;
    size_t i;
    json_t *point;
    struct colour c = v->c->series[which];
    json_array_foreach(json_object_get(section, "points"), i, point) {
        const json_t *o = curve_at(overall, which, json_string_value(point)),
                     *d = json_object_get(o, "from_task");
        double x = left + gap * ((double)i + 0.5) + 4 * (which - (SERIES - 1) / 2.0),
               effect = real(d, "effect");
        if (!isfinite(effect))
            continue;
        if (isfinite(real(d, "low")) && isfinite(real(d, "high")))
            line(v, x, at(y, real(d, "low")), x, at(y, real(d, "high")), 1.5, c);
        if (isfinite(last_x))
            line(v, last_x, last_y, x, at(y, effect), 2, c);
        disc(v, x, at(y, effect), 3.5, c);
        last_x = x;
        last_y = at(y, effect);
        arm_name(ends->name[ends->n], o);
    }
    if (isfinite(last_y)) {
        ends->which[ends->n] = which;
        ends->y[ends->n++] = last_y;
    }
}

static plm_status plot_scarcity(const json_t *section, bool dark, struct bytes *svg, plm_error *err) {
    const json_t *points = json_object_get(section, "points"), *overall = json_object_get(section, "overall");
    struct axis y = {.from = 380, .to = 34};
    struct ends ends = {.n = 0};
    struct canvas v;
    const double left = 70, right = WIDTH - 130;
    double low = 0, high = 0, gap = (right - left) / (double)json_array_size(points);
    size_t i, order[SERIES];
    json_t *point;
    for (int k = 0; k < SERIES; k++)
        json_array_foreach(points, i, point) {
            const json_t *d = json_object_get(curve_at(overall, k, json_string_value(point)), "from_task");
            low = fmin(fmin(low, real(d, "effect")), real(d, "low"));
            high = fmax(fmax(high, real(d, "effect")), real(d, "high"));
        }
    axis_fit(&y, low, high, 7);
    canvas_open(&v, svg, WIDTH, 430, dark);
    label(&v, left, 14, 0, v.c->ink, "NLL relative to the adapter of other users: lower is better");
    axis_draw(&v, &y, false, left, right, true);
    json_array_foreach(points, i, point)
        label(&v, left + gap * ((double)i + 0.5), 398, 0.5, v.c->soft, json_string_value(point));
    label(&v, (left + right) / 2, 418, 0.5, v.c->soft, "items known of the user");
    for (int k = SERIES - 1; k >= 0; k--)
        curve_draw(&v, section, k, &y, left, gap, &ends);
    sort_by(order, ends.y, ends.n);
    spread(ends.y, order, ends.n, TEXT + 4, y.from);
    for (i = 0; i < ends.n; i++)
        label(&v, right + 8, ends.y[i], 0, v.c->series[ends.which[i]], ends.name[i]);
    return canvas_close(&v, svg, err);
}

/* ---- users as dots ---- */

static const json_t *hypothesis(const json_t *section, const char *name) {
    size_t i;
    json_t *h;
    json_array_foreach(json_object_get(section, "hypotheses"), i,
                       h) if (strcmp(text(h, "name"), name) == 0) return h;
    return NULL;
}

struct column { /* the dots of one task */
    double y[1024];
    bool beyond[1024];
    size_t n;
    double sum;
};

/* A rare user far off would press all others together: beyond twice what nine of ten users stay within,
 * dots are rings at the edge. */
static double dots_reach(const json_t *users) {
    size_t n = json_array_size(users), i, k;
    double reach = 0;
    json_t *u, *w;
    json_array_foreach(users, i, u) {
        double far = fabs(real(u, "difference"));
        size_t below = 0;
        json_array_foreach(users, k, w) below += fabs(real(w, "difference")) <= far;
        if (below * 10 >= n * 9 && (reach == 0 || far < reach))
            reach = far;
    }
    return 2 * reach;
}

/* Each dot as near to the middle as the dots before it leave room. */
static void swarm(struct canvas *v, const struct column *c, double x, double reach, struct colour colour) {
    double put_x[1024];
    const double size = 8;
    for (size_t i = 0; i < c->n; i++) {
        double off = 0;
        for (int try = 0; try * size / 2 <= 2 * reach; try++) {
            off = (try % 2 ? 1 : -1) * (try + 1) / 2 * size / 2;
            bool free_ = true;
            for (size_t k = 0; k < i; k++)
                free_ &= hypot(c->y[i] - c->y[k], off - put_x[k]) >= size;
            if (free_)
                break;
        }
        put_x[i] = fmax(-reach, fmin(reach, off));
        disc(v, x + put_x[i], c->y[i], 3.5, colour);
        if (c->beyond[i])
            disc(v, x + put_x[i], c->y[i], 2, v->c->ground);
    }
}

static void column_fill(struct column *c, const json_t *users, const char *task, const struct axis *y) {
    size_t i;
    json_t *u;
    c->n = 0;
    c->sum = 0;
    json_array_foreach(users, i, u) {
        double d = real(u, "difference"), shown = fmax(y->low, fmin(y->high, d));
        if (strcmp(text(u, "task"), task) != 0 || c->n == sizeof c->y / sizeof *c->y)
            continue;
        c->sum += d;
        c->beyond[c->n] = shown != d;
        c->y[c->n++] = at(y, shown);
    }
}

static plm_status plot_users(const json_t *section, const char *name, bool dark, struct bytes *svg,
                             plm_error *err) {
    const json_t *h = hypothesis(section, name), *users = json_object_get(h, "users"),
                 *tasks = json_object_get(section, "tasks");
    struct axis y = {.from = 370, .to = 34};
    const double left = 76, right = WIDTH - 16, gap = (right - left) / (double)json_array_size(tasks),
                 half = fmin(60, gap * 0.38);
    struct canvas v;
    double low = 0, high = 0, reach = dots_reach(users);
    bool rings = false;
    size_t i;
    json_t *u, *task;
    char title[160];
    if (!json_array_size(users))
        return PLM_OK;
    json_array_foreach(users, i, u) {
        low = fmin(low, fmax(-reach, real(u, "difference")));
        high = fmax(high, fmin(reach, real(u, "difference")));
    }
    json_array_foreach(users, i, u) rings |= fabs(real(u, "difference")) > reach;
    axis_fit(&y, low, high, 8);
    canvas_open(&v, svg, WIDTH, 410, dark);
    snprintf(title, sizeof title, "%s: NLL of %s relative to %s; a dot is a user, below 0 is better%s", name,
             text(h, "first"), *text(h, "other_rival") ? "the better rival" : text(h, "rival"),
             rings ? " (rings lie beyond)" : "");
    label(&v, left, 14, 0, v.c->ink, title);
    axis_draw(&v, &y, false, left, right, true);
    json_array_foreach(tasks, i, task) {
        struct column c;
        double x = left + gap * ((double)i + 0.5);
        column_fill(&c, users, json_string_value(task), &y);
        label(&v, x, 390, 0.5, v.c->soft, json_string_value(task));
        if (!c.n)
            continue;
        swarm(&v, &c, x, gap / 2 - 8, v.c->series[1]);
        double mean = at(&y, fmax(y.low, fmin(y.high, c.sum / (double)c.n)));
        line(&v, x - half, mean, x + half, mean, 2.5, v.c->series[0]);
    }
    return canvas_close(&v, svg, err);
}

/* ---- filters ---- */

struct bar {
    const char *name;
    double rows;
};

/* The rows of the system at one point (the first main one that has any), over tasks. */
static size_t filter_bars(const json_t *section, struct bar *bar, size_t room, const char **point) {
    const json_t *filters = json_object_get(section, "filters");
    size_t i, n = 2;
    json_t *f;
    bar[0] = (struct bar){"kept", 0};
    bar[1] = (struct bar){"near a query", 0};
    *point = NULL;
    json_array_foreach(filters, i, f) if (!*point || strcmp(text(f, "point"), "8") == 0) *point =
        text(f, "point");
    for (int r = 0; r < PLM_RULES && n < room; r++) {
        bar[n] = (struct bar){plm_rule_name(r), 0};
        json_array_foreach(filters, i, f) {
            double rows = real(json_object_get(f, "dropped"), bar[n].name);
            if (strcmp(text(f, "point"), *point) == 0 && isfinite(rows))
                bar[n].rows += rows;
        }
        n += bar[n].rows > 0;
    }
    json_array_foreach(filters, i, f) if (strcmp(text(f, "point"), *point) == 0) {
        bar[0].rows += real(f, "kept");
        bar[1].rows += real(f, "near");
    }
    return n;
}

static plm_status plot_filters(const json_t *section, bool dark, struct bytes *svg, plm_error *err) {
    struct bar bar[MANY];
    const char *point;
    size_t n = filter_bars(section, bar, MANY, &point);
    struct axis x = {.from = 150, .to = WIDTH - 70};
    struct canvas v;
    double most = 0, bottom = 30 + ROW * (double)n;
    char s[96];
    if (!point)
        return PLM_OK;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, bar[i].rows);
    axis_fit(&x, 0, fmax(most, 5), 6);
    canvas_open(&v, svg, WIDTH, bottom + 50, dark);
    snprintf(s, sizeof s, "The teacher's rows at point %.20s: kept, and dropped by each rule", point);
    label(&v, x.from, 14, 0, v.c->ink, s);
    axis_draw(&v, &x, true, 28, bottom, false);
    for (size_t i = 0; i < n; i++) {
        double y = 30 + ROW * ((double)i + 0.5);
        label(&v, x.from - 12, y, 1, v.c->ink, bar[i].name);
        ink(&v, v.c->series[i == 0 ? 1 : 0]);
        cairo_rectangle(v.cr, x.from, y - 8, at(&x, bar[i].rows) - x.from, 16);
        cairo_fill(v.cr);
        snprintf(s, sizeof s, "%.0f", bar[i].rows);
        label(&v, WIDTH - 10, y, 1, v.c->soft, s);
    }
    return canvas_close(&v, svg, err);
}

plm_status plot_draw(const json_t *section, const char *what, const char *of, bool dark, struct bytes *svg,
                     plm_error *err) {
    if (strcmp(what, "arms") == 0)
        return plot_arms(section, of, dark, svg, err);
    if (strcmp(what, "users") == 0)
        return plot_users(section, of, dark, svg, err);
    if (strcmp(what, "scarcity") == 0)
        return plot_scarcity(section, dark, svg, err);
    return plot_filters(section, dark, svg, err);
}
