/* report_page.c: the blocks of a report as one HTML page: no script, nothing fetched; each plot twice, for
 * light and dark pages, as an image in the page (in the page's own tree, the names inside two SVGs would
 * clash). */
#include "report.h"

#include <sodium.h>
#include <string.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/mem.h"
#include "plot.h"

enum { PAGE_MOST = 64 << 20, PLOT_MOST = 8 << 20 };

static const char head[] =
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width\">"
    "<meta name=\"color-scheme\" content=\"light dark\"><title>plm-eval report</title><style>"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 "
    "1em;color:#222;background:#fff}"
    "p{max-width:46em}h1{font-size:1.4em;margin-top:2em}h2{font-size:1.1em;margin-top:2em}"
    "div{overflow-x:auto}table{border-collapse:collapse;font-size:.85em;margin:.8em 0}"
    "td,th{padding:.15em .7em;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap;"
    "font-variant-numeric:tabular-nums}td:first-child,th:first-child{text-align:left}"
    "img{max-width:100%;height:auto}summary{cursor:pointer}"
    "@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#16181c}td,th{border-color:#3a3d42}}"
    "</style>\n";

static const char *text(const json_t *o, const char *key) {
    const char *t = json_string_value(json_object_get(o, key));
    return t ? t : "";
}

static void element(struct bytes *b, const char *tag, const char *content) {
    bytes_printf(b, "<%s>", tag);
    bytes_html(b, content);
    bytes_printf(b, "</%s>\n", tag);
}

static void table_row(struct bytes *b, const char *tag, const json_t *row) {
    size_t i;
    json_t *cell;
    bytes_puts(b, "<tr>");
    json_array_foreach(row, i, cell) {
        bytes_printf(b, "<%s>", tag);
        bytes_html(b, json_string_value(cell));
    }
    bytes_puts(b, "\n");
}

static void table(struct bytes *b, const json_t *block) {
    size_t i;
    json_t *row;
    bytes_puts(b, "<div><table>");
    table_row(b, "th", json_object_get(block, "head"));
    json_array_foreach(json_object_get(block, "rows"), i, row) table_row(b, "td", row);
    bytes_puts(b, "</table></div>\n");
}

/* ---- plots ---- */

static const json_t *section_of(const json_t *doc, const json_t *block) {
    return json_array_get(json_object_get(doc, "sections"),
                          (size_t)json_integer_value(json_object_get(block, "section")));
}

/* The plot as a data URL; *url is NULL where there is nothing to draw. */
static plm_status plot_url(char **url, const json_t *doc, const json_t *block, bool dark, plm_error *err) {
    struct bytes svg;
    *url = NULL;
    bytes_init(&svg, PLOT_MOST);
    plm_status st =
        plot_draw(section_of(doc, block), text(block, "plot"), text(block, "of"), dark, &svg, err);
    if (st == PLM_OK && svg.len) {
        size_t room = sodium_base64_encoded_len(svg.len, sodium_base64_VARIANT_ORIGINAL);
        *url = mem_alloc(room, 1);
        if (*url)
            sodium_bin2base64(*url, room, (const unsigned char *)svg.data, svg.len,
                              sodium_base64_VARIANT_ORIGINAL);
        else
            st = fail(err, PLM_ENOMEM, "out of memory for a plot");
    }
    bytes_free(&svg);
    return st;
}

static plm_status put_plot(struct bytes *b, const json_t *doc, const json_t *block, plm_error *err) {
    static const char data[] = "data:image/svg+xml;base64,";
    char *bright = NULL, *dark = NULL;
    plm_status st = plot_url(&bright, doc, block, false, err);
    if (st == PLM_OK && bright)
        st = plot_url(&dark, doc, block, true, err);
    if (dark) {
        bytes_printf(b, "<picture><source media=\"(prefers-color-scheme: dark)\" srcset=\"%s", data);
        bytes_puts(b, dark);
        bytes_puts(b, "\"><img alt=\"");
        bytes_html(b, text(block, "alt"));
        bytes_printf(b, "\" src=\"%s", data);
        bytes_puts(b, bright);
        bytes_puts(b, "\"></picture>\n");
    }
    mem_free(bright);
    mem_free(dark);
    return st;
}

/* ---- the page ---- */

static plm_status put_block(struct bytes *b, const json_t *doc, const json_t *block, plm_error *err) {
    if (json_object_get(block, "title"))
        element(b, "h1", text(block, "title"));
    else if (json_object_get(block, "h"))
        element(b, "h2", text(block, "h"));
    else if (json_object_get(block, "p"))
        element(b, "p", text(block, "p"));
    else if (json_object_get(block, "head"))
        table(b, block);
    else
        return put_plot(b, doc, block, err);
    return PLM_OK;
}

plm_status report_page(const json_t *blocks, const json_t *doc, char **html, plm_error *err) {
    struct bytes b;
    plm_status st = PLM_OK;
    size_t i;
    json_t *block;
    bool more = false; /* inside a fold */
    bytes_init(&b, PAGE_MOST);
    bytes_puts(&b, head);
    json_array_foreach(blocks, i, block) {
        bool folded = json_is_true(json_object_get(block, "more"));
        if (folded != more)
            bytes_puts(&b, folded ? "<details><summary>More</summary>\n" : "</details>\n");
        more = folded;
        if (st == PLM_OK)
            st = put_block(&b, doc, block, err);
    }
    bytes_printf(&b, "%s<p>plm %s</p></html>\n", more ? "</details>" : "", plm_version());
    if (st == PLM_OK)
        st = bytes_status(&b, "the report's page", err);
    if (st == PLM_OK)
        *html = bytes_take(&b);
    bytes_free(&b);
    return st;
}

static plm_status write_plot(const json_t *doc, const json_t *block, const char *folder, bool dark,
                             plm_error *err) {
    struct bytes svg, path;
    const char *of = text(block, "of");
    bytes_init(&svg, PLOT_MOST);
    bytes_init(&path, 8192);
    plm_status st = plot_draw(section_of(doc, block), text(block, "plot"), of, dark, &svg, err);
    bytes_printf(&path, "%s/%d-%s%s%s%s.svg", folder,
                 (int)json_integer_value(json_object_get(block, "section")) + 1, text(block, "plot"),
                 *of ? "-" : "", of, dark ? "-dark" : "");
    if (st == PLM_OK)
        st = bytes_status(&path, "a plot's path", err);
    if (st == PLM_OK && svg.len)
        st = file_replace(path.data, svg.data, svg.len, err);
    bytes_free(&svg);
    bytes_free(&path);
    return st;
}

plm_status report_plots(const json_t *blocks, const json_t *doc, const char *folder, plm_error *err) {
    size_t i;
    json_t *block;
    plm_status st = dir_make(folder, err);
    json_array_foreach(blocks, i, block) {
        for (int dark = 0; dark < 2 && st == PLM_OK && json_object_get(block, "plot"); dark++)
            st = write_plot(doc, block, folder, dark, err);
    }
    return st;
}
