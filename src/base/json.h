/* json.h: libjansson behind plm's limits: depth 64, 131072 objects and lists a document, duplicate keys
 * refused, one sentence on error. */
#ifndef BASE_JSON_H
#define BASE_JSON_H
#include <jansson.h>
#include "base/status.h"
/* *out is a new reference. what names the text in the message ("notes.jsonl line 3"). */
plm_status json_parse(json_t **out, const char *text, size_t len, const char *what, plm_error *err);
/* Borrowed string member, NULL if absent or no string, or if it holds a NUL. */
const char *json_text(const json_t *object, const char *key);
/* A string or a number as text, into number where it is one: "5", "3.5". NULL: neither, holds a NUL, or a
 * real number of 1e15 or more. */
const char *json_scalar(const json_t *v, char number[32]);
/* The document as compact text with sorted keys; freed with plm_free. */
plm_status json_write(const json_t *doc, char **out, plm_error *err);
#endif
