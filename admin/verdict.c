// SPDX-License-Identifier: MIT
/*
 * Judges whether a device can be given to a VM, in the order in which a user would have to mend it: what it is, the IOMMU, what
 * the host uses it for, its group. The rule of groups is the kernel's: VFIO owns a group's DMA as a whole, and a member whose
 * driver does DMA for the host stands in the way (drivers/iommu/iommu.c, iommu_group_claim_dma_owner).
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text.h"
#include "verdict.h"

bool member_blocks(const struct device *member)
{
	return !driver_leaves_group_free(member->driver);
}

static void because(struct verdict *verdict, enum verdict_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void because(struct verdict *verdict, enum verdict_kind kind, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(verdict->because, sizeof(verdict->because), format, args);
	va_end(args);
	verdict->kind = kind;
}

static void action(struct verdict *verdict, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void action(struct verdict *verdict, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(verdict->action, sizeof(verdict->action), format, args);
	va_end(args);
}

/* What it is. @return true when that settles it */
static bool judge_kind(const struct device *device, struct verdict *verdict)
{
	if (device_is_infrastructure(device)) {
		because(verdict, VERDICT_NEVER, "it is a %s, part of the host's own tree",
			device->class_code >> 8 == 0x0806  ? "IOMMU"
			: device->class_code >> 16 == 0x06 ? "bridge"
							   : "bridge of another kind");
		action(verdict, "assign a device below it instead");
		return true;
	}
	if (!device->config_read) {
		because(verdict, VERDICT_BLOCKED, "it does not answer: its config space reads ones");
		action(verdict, "echo 1 > /sys/bus/pci/devices/%s/remove; echo 1 > /sys/bus/pci/rescan", device->bdf);
		return true;
	}
	return false;
}

static bool judge_iommu(const struct facts *facts, const struct device *device, struct verdict *verdict)
{
	if (device->group >= 0)
		return false;
	because(verdict, VERDICT_BLOCKED,
		facts->inventory->iommu ? "it has no IOMMU group: no IOMMU of the host covers it"
					: "the host's IOMMU is off, so nothing could confine its DMA");
	action(verdict, facts->inventory->iommu ? "use another slot of the machine; tenon doctor says more"
						: "turn the IOMMU on; tenon doctor says how");
	return true;
}

static bool judge_use(const struct facts *facts, const struct device *device, struct verdict *verdict)
{
	struct uses uses;
	usage_find(facts->host, facts->activity, device, &uses);
	if (!uses.count)
		return false;
	because(verdict, VERDICT_BLOCKED, "%s", uses.list[0].what);
	if (uses.count > 1)
		text_add(verdict->because, sizeof(verdict->because), ", and %u more use%s of it", uses.count - 1,
			 text_plural(uses.count - 1));
	if (uses.list[0].by_vfio || strncmp(uses.list[0].fix, "nothing", 7) == 0)
		action(verdict, "%s", uses.list[0].fix);
	else
		action(verdict, "%s, then tenon bind %s", uses.list[0].fix, device->bdf);
	return true;
}

static void add_member(const struct facts *facts, const struct device *member, struct verdict *verdict)
{
	struct uses uses;
	usage_find(facts->host, facts->activity, member, &uses);
	text_add(verdict->because, sizeof(verdict->because), "%s%s (driver %s%s%s)", verdict->because[0] ? ", " : "",
		 member->bdf, member->driver, uses.count ? ": " : "", uses.count ? uses.list[0].what : "");
}

static unsigned list_blockers(const struct facts *facts, int group, const struct device *except,
			      struct verdict *verdict)
{
	unsigned count = 0;
	verdict->because[0] = '\0';
	for (unsigned i = 0; i < facts->inventory->count; i++) {
		const struct device *member = &facts->inventory->devices[i];
		if (member->group != group || member == except || !member_blocks(member))
			continue;
		add_member(facts, member, verdict);
		count++;
	}
	return count;
}

static bool judge_group(const struct facts *facts, const struct device *device, struct verdict *verdict)
{
	struct verdict members = {0};
	if (!list_blockers(facts, device->group, device, &members))
		return false;
	because(verdict, VERDICT_BLOCKED, "it shares IOMMU group %d with %.*s, which the host uses", device->group,
		(int)sizeof(verdict->because) - 64, members.because);
	action(verdict, "tenon bind --group %s", device->bdf);
	return true;
}

void verdict_of_device(const struct facts *facts, const struct device *device, struct verdict *verdict)
{
	*verdict = (struct verdict){0};
	if (judge_kind(device, verdict) || judge_iommu(facts, device, verdict) || judge_use(facts, device, verdict) ||
	    judge_group(facts, device, verdict))
		return;
	if (device_on_vfio(device)) {
		verdict->kind = VERDICT_READY;
		action(verdict, "tenon run --kernel FILE --device %s", device->bdf);
	} else {
		verdict->kind = VERDICT_BIND;
		action(verdict, "tenon bind %s", device->bdf);
	}
}

void verdict_of_group(const struct facts *facts, int group, struct verdict *verdict)
{
	*verdict = (struct verdict){0};
	const struct device *first = NULL;
	struct use use = {0}; /* the first of any member */
	unsigned unbound = 0;
	for (unsigned i = 0; i < facts->inventory->count; i++) {
		const struct device *member = &facts->inventory->devices[i];
		if (member->group != group || device_is_infrastructure(member))
			continue;
		struct uses uses;
		usage_find(facts->host, facts->activity, member, &uses);
		if (uses.count && !use.what[0])
			use = uses.list[0];
		unbound += !device_on_vfio(member);
		if (!first)
			first = member;
	}
	if (!first) {
		because(verdict, VERDICT_NEVER, "it holds nothing but bridges, part of the host's own tree");
		action(verdict, "assign devices of other groups");
		return;
	}
	unsigned blockers = list_blockers(facts, group, NULL, verdict);
	if (use.by_vfio) {
		because(verdict, VERDICT_BLOCKED, "%s", use.what);
		action(verdict, "%s", use.fix);
		return;
	}
	verdict->kind = use.what[0] ? VERDICT_BLOCKED : blockers || unbound ? VERDICT_BIND : VERDICT_READY;
	if (verdict->kind == VERDICT_BLOCKED) {
		text_add(verdict->because, sizeof(verdict->because), " in use");
		action(verdict, "%s, then tenon bind --group %s", use.fix, first->bdf);
	} else if (verdict->kind == VERDICT_BIND) {
		action(verdict, "tenon bind --group %s", first->bdf);
	} else {
		action(verdict, "tenon run --kernel FILE --device %s", first->bdf);
	}
}

const char *verdict_word(enum verdict_kind kind)
{
	static const char *const words[] = {"yes", "after-bind", "no", "never"};
	return words[kind];
}

void verdict_print(const struct verdict *verdict, char *line, size_t capacity)
{
	switch (verdict->kind) {
	case VERDICT_READY:
		snprintf(line, capacity, "yes: %s", verdict->action);
		break;
	case VERDICT_BIND:
		snprintf(line, capacity, "yes, after: %s", verdict->action);
		break;
	case VERDICT_BLOCKED:
	case VERDICT_NEVER:
		snprintf(line, capacity, "no, because %s; do: %s", verdict->because, verdict->action);
		break;
	}
}
