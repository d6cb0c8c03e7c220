/* SPDX-License-Identifier: MIT */
/* The report of a migration: one page of HTML that needs nothing else, neither scripts nor the network. */
#ifndef MIGRATE_REPORT_H
#define MIGRATE_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "history.h"

struct report_facts {
	const char *vm, *address; /* the control socket, and where it went */
	const char *error;        /* NULL: it went well */
	bool saved;               /* into a file */
};

/** Writes the page. The caller sees by ferror whether that worked. */
void report_write(FILE *out, const struct history *history, const struct report_facts *facts);

#endif
