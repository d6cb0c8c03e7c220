/* SPDX-License-Identifier: MIT */
/* "Can it be assigned: yes / no, because ..., do ...": of a device, and of an IOMMU group as a whole. */
#ifndef VERDICT_H
#define VERDICT_H

#include "usage.h"

enum verdict_kind {
	VERDICT_READY,   /* tenon run takes it now */
	VERDICT_BIND,    /* yes, after tenon bind */
	VERDICT_BLOCKED, /* no, until somebody does something about it */
	VERDICT_NEVER,   /* part of the host's own tree */
};

struct verdict {
	enum verdict_kind kind;
	char because[320]; /* VERDICT_BLOCKED and VERDICT_NEVER */
	char action[240];  /* a command, or what to do */
};

/** Everything that a verdict rests on. Borrowed. */
struct facts {
	const struct host *host;
	const struct inventory *inventory;
	const struct activity *activity;
};

void verdict_of_device(const struct facts *facts, const struct device *device, struct verdict *verdict);

/**
 * A whole group: VERDICT_READY when every member that matters is free of host drivers. `action` binds all of them;
 * `because` names each member that blocks.
 */
void verdict_of_group(const struct facts *facts, int group, struct verdict *verdict);

/** One line: "yes", "yes, after: tenon bind ...", "no, because ...; do: ...". */
void verdict_print(const struct verdict *verdict, char *line, size_t capacity);
const char *verdict_word(enum verdict_kind kind);

/** Whether a member keeps its group from being given away as it is: a host driver that uses the DMA API. */
bool member_blocks(const struct device *member);

#endif
