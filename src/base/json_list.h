/* json_list.h: a file that is one JSON list, an element at a time: a file of any size needs the memory of its
 * largest element. */
#ifndef BASE_JSON_LIST_H
#define BASE_JSON_LIST_H
#include "base/json.h"

struct json_list;
/* largest: bytes of an element at most; a byte order mark before the list is skipped. */
plm_status json_list_open(struct json_list **out, const char *path, size_t largest, plm_error *err);
/* *element is a new reference, or NULL at the end of the list. what names an element in messages
 * ("question"). */
plm_status json_list_next(struct json_list *l, const char *what, json_t **element, plm_error *err);
size_t json_list_number(const struct json_list *l); /* of the last element, from 1 */
void json_list_close(struct json_list *l);
#endif
