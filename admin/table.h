/* SPDX-License-Identifier: MIT */
/* A table with columns as wide as their longest cell. Lines of free text may follow a row. */
#ifndef TABLE_H
#define TABLE_H

#include <stdio.h>

#define TABLE_COLUMNS_MAX 16

struct table;

/** @param titles  NULL-terminated. @return NULL when out of memory; every call accepts that and does nothing */
struct table *table_create(const char *const *titles);
/** Adds a row: as many strings as there are titles. An empty one shows as "-". */
void table_row(struct table *table, const char *const *cells);
/** Adds a line of its own below the last row, indented, outside the columns. */
void table_note(struct table *table, const char *text);
void table_print(const struct table *table, FILE *out);
void table_destroy(struct table *table);

#endif
