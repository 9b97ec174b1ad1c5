/* report_page.c: the report as one HTML page: no script, nothing fetched, plots as inline SVG. */
#include "report.h"

#include <math.h>
#include <string.h>

enum { PAGE_MOST = 4 << 20, PLOT_W = 640, PLOT_H = 240, MARGIN = 46 };

static const char head[] =
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width\"><title>plm report</title><style>"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid "
    "#ddd;overflow-wrap:anywhere}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}.win{font-weight:600;background:#eef6ee}"
    "code{font-size:.85em;word-break:break-all}svg{max-width:100%;height:auto}"
    "h2{margin-top:1.6em;font-size:1.1em}</style>\n";

static double number(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void row_text(struct bytes *b, const char *name, const char *value) {
    bytes_printf(b, "<tr><td>%s<td>", name);
    bytes_html(b, value);
    bytes_puts(b, "\n");
}

static void row_number(struct bytes *b, const char *name, double value, const char *unit) {
    bytes_printf(b, "<tr><td>%s<td>%.0f%s\n", name, value, unit);
}

static void imported(struct bytes *b, const json_t *list) {
    size_t i;
    json_t *one;
    bytes_puts(b,
               "<h2>Imported</h2><table><tr><th>Source<th>Format<th>Added<th>Known<th>Others'<th>Skipped\n");
    json_array_foreach(list, i, one) {
        bytes_puts(b, "<tr><td>");
        bytes_html(b, report_text(one, "source"));
        bytes_puts(b, "<td>");
        bytes_html(b, report_text(one, "format"));
        bytes_printf(b, "<td class=n>%.0f<td class=n>%.0f<td class=n>%.0f<td class=n>%.0f\n",
                     number(one, "added"), number(one, "known"), number(one, "others"),
                     number(one, "skipped"));
    }
    bytes_puts(b, "</table>\n");
}

static void augmented(struct bytes *b, const json_t *a) {
    const char *rule;
    json_t *count;
    if (!json_is_object(a))
        return;
    bytes_puts(b, "<h2>Written by the teacher</h2><table>\n");
    row_text(b, "Teacher", report_text(a, "teacher"));
    if (json_is_true(json_object_get(a, "local")))
        row_text(b, "Left this machine", "nothing");
    else
        row_number(b, "Left this machine", number(a, "bytes_sent"), " bytes (each request is in the ledger)");
    row_number(b, "Calls", number(a, "calls"), "");
    row_number(b, "Written", number(a, "written"), "");
    row_number(b, "Kept", number(a, "kept"), "");
    json_object_foreach(json_object_get(a, "dropped"), rule, count) if (json_integer_value(count)) {
        bytes_puts(b, "<tr><td>Dropped by ");
        bytes_html(b, rule);
        bytes_printf(b, "<td>%lld\n", (long long)json_integer_value(count));
    }
    bytes_puts(b, "</table>\n");
}

static void gate_table(struct bytes *b, const json_t *gate) {
    size_t i;
    json_t *row;
    double base = NAN;
    if (!json_is_object(gate))
        return;
    bytes_printf(b, "<h2>The gate</h2><p>");
    bytes_html(b, report_text(gate, "way"));
    bytes_printf(b,
                 " (%.0f), in %s. Lower is better.<table><tr><th>Arm<th>Scale<th>NLL<th>Against base<th>\n",
                 number(gate, "held_out"), report_text(gate, "unit"));
    json_array_foreach(json_object_get(gate, "rows"), i, row) {
        double nll = number(row, "nll");
        if (i == 0)
            base = nll;
        bytes_printf(b, "<tr%s><td>", json_is_true(json_object_get(row, "winner")) ? " class=win" : "");
        bytes_html(b, report_text(row, "name"));
        bytes_printf(b, "<td class=n>%.2f<td class=n>%.4f<td class=n>%+.1f %%<td>%s\n", number(row, "scale"),
                     nll, 100 * (nll / base - 1),
                     json_is_true(json_object_get(row, "harmful"))  ? "refused: hurts general text"
                     : json_is_true(json_object_get(row, "winner")) ? "chosen"
                                                                    : "");
    }
    bytes_puts(b, "</table>\n");
}

/* ---- the loss of an arm over its steps ---- */

struct scale {
    double steps, top;
};

static double at_x(const struct scale *s, double step) {
    return MARGIN + step / s->steps * (PLOT_W - MARGIN - 10);
}

static double at_y(const struct scale *s, double loss) {
    return PLOT_H - 28 - loss / s->top * (PLOT_H - 40);
}

static void line(struct bytes *b, const struct scale *s, const json_t *curve, const char *key,
                 const char *colour) {
    size_t i;
    json_t *p;
    bytes_printf(b, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    json_array_foreach(curve, i, p) if (json_object_get(p, key))
        bytes_printf(b, "%.1f,%.1f ", at_x(s, number(p, "step")), at_y(s, number(p, key)));
    bytes_puts(b, "\"/>");
}

static void axes(struct bytes *b, const struct scale *s) {
    for (int i = 0; i <= 4; i++) {
        double loss = s->top * i / 4;
        bytes_printf(b, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>", MARGIN,
                     PLOT_W - 10, at_y(s, loss), at_y(s, loss));
        bytes_printf(b, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\" font-size=\"12\">%.1f</text>",
                     MARGIN - 6, at_y(s, loss) + 4, loss);
    }
    bytes_printf(b, "<text x=\"%d\" y=\"%d\" font-size=\"12\">step 0</text>", MARGIN, PLOT_H - 8);
    bytes_printf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\" font-size=\"12\">%.0f</text>", PLOT_W - 10,
                 PLOT_H - 8, s->steps);
}

static void plot(struct bytes *b, const json_t *curve) {
    struct scale s = {1, 0.1};
    size_t i;
    json_t *p;
    json_array_foreach(curve, i, p) {
        s.steps = fmax(s.steps, number(p, "step"));
        s.top = fmax(s.top, number(p, "loss"));
        if (json_object_get(p, "validation"))
            s.top = fmax(s.top, number(p, "validation"));
    }
    s.top = ceil(s.top * 2) / 2;
    bytes_printf(
        b,
        "<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"loss by step\" "
        "font-family=\"system-ui,sans-serif\" fill=\"#444\">",
        PLOT_W, PLOT_H, PLOT_W, PLOT_H);
    axes(b, &s);
    line(b, &s, curve, "loss", "#8ab");
    line(b, &s, curve, "validation", "#c52");
    bytes_printf(b, "<text x=\"%d\" y=\"14\" font-size=\"12\" fill=\"#579\">training</text>", PLOT_W - 150);
    bytes_printf(b, "<text x=\"%d\" y=\"14\" font-size=\"12\" fill=\"#c52\">validation</text></svg>\n",
                 PLOT_W - 80);
}

static void arms(struct bytes *b, const json_t *list) {
    size_t i;
    json_t *a;
    json_array_foreach(list, i, a) {
        bytes_puts(b, "<h2>Learned: ");
        bytes_html(b, report_text(a, "name"));
        bytes_printf(b,
                     "</h2><p>%.0f real and %.0f synthetic examples, %.0f real ones to stop by; %.0f steps, "
                     "the best was %.0f; %.0f tokens in %.0f s.</p>",
                     number(a, "real"), number(a, "synthetic"), number(a, "validation"), number(a, "steps"),
                     number(a, "best_step"), number(a, "tokens"), number(a, "seconds"));
        plot(b, json_object_get(a, "curve"));
        bytes_puts(b, "<p><code>sha256 ");
        bytes_html(b, report_text(a, "sha256"));
        bytes_puts(b, "</code></p>\n");
    }
}

plm_status report_page(const json_t *doc, char **html, plm_error *err) {
    struct bytes b;
    const json_t *model = json_object_get(doc, "model");
    bytes_init(&b, PAGE_MOST);
    bytes_puts(&b, head);
    bytes_puts(&b, "<h1>");
    bytes_html(&b, report_text(doc, "user"));
    bytes_puts(&b, ": ");
    bytes_html(&b, report_text(doc, "task"));
    bytes_printf(&b, "</h1><p>%.0f records, %.0f s, peak memory %.0f MB.</p>\n", number(doc, "records"),
                 number(doc, "seconds"), number(doc, "peak_rss_bytes") / 1e6);
    imported(&b, json_object_get(doc, "imported"));
    augmented(&b, json_object_get(doc, "augmented"));
    gate_table(&b, json_object_get(doc, "gate"));
    arms(&b, json_object_get(doc, "arms"));
    bytes_puts(&b, "<h2>Model</h2><p><code>");
    bytes_html(&b, report_text(model, "path"));
    bytes_puts(&b, "<br>sha256 ");
    bytes_html(&b, report_text(model, "sha256"));
    bytes_puts(&b, "</code></p></html>\n");
    plm_status st = bytes_status(&b, "the report", err);
    if (st == PLM_OK)
        *html = bytes_take(&b);
    bytes_free(&b);
    return st;
}
