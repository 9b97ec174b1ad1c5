/* plot.h: the pictures of a report, as SVG drawn by cairo. Text is drawn as shapes: a picture looks the same
 * wherever it is shown. */
#ifndef PLM_EVAL_PLOT_H
#define PLM_EVAL_PLOT_H
#include <stdbool.h>

#include "base/bytes.h"
#include "base/json.h"

/* what: "arms" (of a point), "users" (of a hypothesis), "scarcity" or "filters" of a section of the report.
 * dark: bright lines on a dark ground. Appends to svg; nothing is appended where there is nothing to draw. */
plm_status plot_draw(const json_t *section, const char *what, const char *of, bool dark, struct bytes *svg,
                     plm_error *err);
#endif
