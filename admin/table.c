// SPDX-License-Identifier: MIT
/* Collects cells, then prints them aligned. The last column is not padded. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

struct row {
	char *cells[TABLE_COLUMNS_MAX];
	bool note; /* only cells[0], as it is */
};

struct table {
	struct row *rows;
	unsigned count, capacity, columns;
	size_t widths[TABLE_COLUMNS_MAX];
};

static struct row *add_row(struct table *table)
{
	if (table->count == table->capacity) {
		unsigned capacity = table->capacity ? table->capacity * 2 : 64;
		struct row *larger = realloc(table->rows, capacity * sizeof(*larger));
		if (!larger)
			return NULL;
		table->rows = larger;
		table->capacity = capacity;
	}
	struct row *row = &table->rows[table->count++];
	memset(row, 0, sizeof(*row));
	return row;
}

void table_row(struct table *table, const char *const *cells)
{
	struct row *row = table ? add_row(table) : NULL;
	for (unsigned i = 0; row && i < table->columns; i++) {
		row->cells[i] = strdup(cells[i][0] ? cells[i] : "-");
		if (row->cells[i] && strlen(row->cells[i]) > table->widths[i])
			table->widths[i] = strlen(row->cells[i]);
	}
}

void table_note(struct table *table, const char *text)
{
	struct row *row = table ? add_row(table) : NULL;
	if (!row)
		return;
	row->note = true;
	row->cells[0] = strdup(text);
}

struct table *table_create(const char *const *titles)
{
	struct table *table = calloc(1, sizeof(*table));
	if (!table)
		return NULL;
	while (titles[table->columns] && table->columns < TABLE_COLUMNS_MAX)
		table->columns++;
	table_row(table, titles);
	return table;
}

void table_print(const struct table *table, FILE *out)
{
	for (unsigned i = 0; table && i < table->count; i++) {
		const struct row *row = &table->rows[i];
		if (row->note) {
			fprintf(out, "    %s\n", row->cells[0] ? row->cells[0] : "");
			continue;
		}
		for (unsigned j = 0; j < table->columns; j++) {
			bool last = j + 1 == table->columns;
			fprintf(out, "%-*s%s", last ? 0 : (int)table->widths[j], row->cells[j] ? row->cells[j] : "",
				last ? "\n" : "  ");
		}
	}
}

void table_destroy(struct table *table)
{
	for (unsigned i = 0; table && i < table->count; i++) {
		for (unsigned j = 0; j < TABLE_COLUMNS_MAX; j++)
			free(table->rows[i].cells[j]);
	}
	if (table)
		free(table->rows);
	free(table);
}
