/* SPDX-License-Identifier: MIT */
/* The policy of the guest's config space as data: which registers there are, what each bit may do, and why. */
#ifndef CONFIG_TABLE_H
#define CONFIG_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

enum config_policy {
	CONFIG_READ_ONLY, /* the value at open; writes are dropped */
	CONFIG_EMULATE,   /* the guest's own copy, zero at power-on; the device never sees it */
	CONFIG_LIVE,      /* read from the device at each access; writes are dropped */
	CONFIG_PASS,      /* reads and writes go to the device */
	CONFIG_ZERO,      /* reads zero; writes are dropped */
};

/* Bits of one register. Bits that no rule names are read-only. */
struct config_rule {
	uint16_t offset; /* from the header's or capability's start */
	uint8_t bytes;   /* 1, 2 or 4 */
	uint32_t bits;
	enum config_policy policy;
	enum config_hook hook;
};

#define CONFIG_RULES_MAX 12

struct config_capability {
	uint16_t id;
	bool visible;   /* else unlinked, and its body reads zero */
	uint16_t bytes; /* length of the body; 0: variable, see config_capability_bytes */
	bool pass_body; /* everything after the header goes to the device */
	const char *reason;
	struct config_rule rules[CONFIG_RULES_MAX]; /* ends at the first with bytes = 0 */
};

extern const struct config_rule config_header_rules[];
extern const unsigned config_header_rule_count;

/** The row of a standard / extended capability. A capability without a row is hidden: the row for "unknown" is returned. */
const struct config_capability *config_standard_capability(uint8_t id);
const struct config_capability *config_extended_capability(uint16_t id);

/** Gives the bits of one register, whose header or capability starts at `base`, their policy. */
void config_apply_rule(struct config *config, unsigned base, const struct config_rule *rule);

#endif
