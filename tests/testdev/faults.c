// SPDX-License-Identifier: MIT
/* Faults: their names on the command line, and the count of messages that decides when they happen. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "testdev.h"

static const struct {
	const char *name;
	enum fault_kind kind;
	int32_t value; /* when none is given */
} kinds[] = {
	{"stall", FAULT_STALL, 0},     {"error", FAULT_ERROR, EIO},     {"wrong-size", FAULT_WRONG_SIZE, -1},
	{"short", FAULT_SHORT, 1},     {"wrong-id", FAULT_WRONG_ID, 0}, {"wrong-command", FAULT_WRONG_COMMAND, 0},
	{"silence", FAULT_SILENCE, 0}, {"twice", FAULT_TWICE, 0},       {"disconnect", FAULT_DISCONNECT, 0},
	{"vanish", FAULT_VANISH, 0},
};

static const char *const commands[VU_COMMANDS] = {
	[VU_VERSION] = "version",
	[VU_DMA_MAP] = "dma-map",
	[VU_DMA_UNMAP] = "dma-unmap",
	[VU_GET_INFO] = "info",
	[VU_GET_REGION_INFO] = "region-info",
	[VU_GET_REGION_IO_FDS] = "region-io-fds",
	[VU_GET_IRQ_INFO] = "irq-info",
	[VU_SET_IRQS] = "set-irqs",
	[VU_REGION_READ] = "region-read",
	[VU_REGION_WRITE] = "region-write",
	[VU_RESET] = "reset",
	[VU_REGION_WRITE_MULTI] = "region-write-multi",
	[VU_FEATURE] = "feature",
	[VU_MIG_DATA_READ] = "mig-data-read",
	[VU_MIG_DATA_WRITE] = "mig-data-write",
};

static int parse_kind(const char *text, size_t length, struct fault *out)
{
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t name = strlen(kinds[i].name);
		if (length < name || memcmp(text, kinds[i].name, name) != 0 || (length > name && text[name] != '='))
			continue;
		out->kind = kinds[i].kind;
		out->value = kinds[i].value;
		if (length == name)
			return 0;
		char *end;
		out->value = (int32_t)strtol(text + name + 1, &end, 0);
		return end == text + length && end > text + name + 1 ? 0 : -EINVAL;
	}
	return -EINVAL;
}

static int parse_when(const char *text, struct fault *out)
{
	size_t name = strcspn(text, "#");
	if (strcmp(text, "*") == 0)
		return 0;
	out->nth = 1;
	if (text[name]) {
		char *end;
		unsigned long nth = strtoul(text + name + 1, &end, 10);
		if (*end || end == text + name + 1 || nth == 0 || nth > UINT32_MAX)
			return -EINVAL;
		out->nth = (uint32_t)nth;
	}
	if (name == 0)
		return text[name] ? 0 : -EINVAL;
	for (uint16_t command = 0; command < VU_COMMANDS; command++) {
		if (commands[command] && strlen(commands[command]) == name &&
		    memcmp(text, commands[command], name) == 0) {
			out->command = command;
			return 0;
		}
	}
	return -EINVAL;
}

int fault_parse(const char *text, struct fault *out, struct tenon_error *err)
{
	const char *at = strchr(text, '@');
	*out = (struct fault){0};
	if (!at || parse_kind(text, (size_t)(at - text), out) < 0)
		return tenon_fail(
			err, -EINVAL,
			"fault '%s': no kind of fault; give KIND@WHEN, as error=5@region-read#3; README.md has them",
			text);
	if (parse_when(at + 1, out) < 0)
		return tenon_fail(
			err, -EINVAL,
			"fault '%s': '%s' is no message; give COMMAND, COMMAND#N, #N or *; README.md has them", text,
			at + 1);
	return 0;
}

struct fault faults_next(struct testdev *device, uint16_t command)
{
	struct faults *faults = &device->faults;
	uint32_t message = ++faults->messages, of_command = 0;
	if (command < VU_COMMANDS)
		of_command = ++faults->commands[command];
	for (unsigned i = 0; i < device->options.fault_count; i++) {
		const struct fault *fault = &device->options.faults[i];
		uint32_t count = fault->command ? of_command : message;
		if ((!fault->command || fault->command == command) && (!fault->nth || fault->nth == count))
			return *fault;
	}
	return (struct fault){0};
}

void faults_reset(struct testdev *device)
{
	device->faults = (struct faults){0};
}
