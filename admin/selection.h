/* SPDX-License-Identifier: MIT */
/* The devices that a command line names, each once, with their groups' other members under --group. */
#ifndef SELECTION_H
#define SELECTION_H

#include "inventory.h"
#include "options.h"

#define SELECTION_MAX 256

struct selection {
	const struct device *devices[SELECTION_MAX];
	unsigned count;
};

int selection_make(const struct inventory *inventory, const struct options *options, struct selection *selection,
		   struct tenon_error *err);

#endif
