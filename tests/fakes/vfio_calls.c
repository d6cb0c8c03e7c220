// SPDX-License-Identifier: MIT
/*
 * Counts the kernel's calls, fails those that a test chose, and keeps the journal of what happened in which order.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfio_model.h"

#define JOURNAL_ENTRIES 8192
#define JOURNAL_BYTES   96

static const char *const names[FAKE_CALLS] = {
	[FAKE_OPEN] = "open",
	[FAKE_DUP] = "dup",
	[FAKE_MAP] = "map",
	[FAKE_RESERVE] = "reserve",
	[FAKE_EVENTFD] = "eventfd",
	[FAKE_POLL_CREATE] = "poll create",
	[FAKE_POLL_ADD] = "poll add",
	[FAKE_READ_LINE] = "read line",
	[FAKE_LINK_NAME] = "link name",
	[FAKE_LIST] = "list",
	[FAKE_FD_PATH] = "fd path",
	[FAKE_PREAD] = "pread",
	[FAKE_PWRITE] = "pwrite",
	[FAKE_BIND] = "BIND_IOMMUFD",
	[FAKE_ATTACH] = "ATTACH_IOMMUFD_PT",
	[FAKE_DETACH] = "DETACH_IOMMUFD_PT",
	[FAKE_FEATURE] = "DEVICE_FEATURE",
	[FAKE_GET_INFO] = "GET_INFO",
	[FAKE_REGION_INFO] = "GET_REGION_INFO",
	[FAKE_IRQ_INFO] = "GET_IRQ_INFO",
	[FAKE_SET_IRQS] = "SET_IRQS",
	[FAKE_DEVICE_RESET] = "DEVICE_RESET",
	[FAKE_HOT_RESET_INFO] = "GET_PCI_HOT_RESET_INFO",
	[FAKE_HOT_RESET] = "PCI_HOT_RESET",
	[FAKE_IOAS_ALLOC] = "IOAS_ALLOC",
	[FAKE_IOAS_MAP] = "IOAS_MAP",
	[FAKE_IOAS_UNMAP] = "IOAS_UNMAP",
	[FAKE_IOVA_RANGES] = "IOAS_IOVA_RANGES",
	[FAKE_IOMMU_DESTROY] = "IOMMU_DESTROY",
	[FAKE_VFIO_IOAS] = "IOMMU_VFIO_IOAS",
	[FAKE_CHECK_EXTENSION] = "CHECK_EXTENSION",
	[FAKE_API_VERSION] = "GET_API_VERSION",
	[FAKE_SET_IOMMU] = "SET_IOMMU",
	[FAKE_IOMMU_INFO] = "IOMMU_GET_INFO",
	[FAKE_DMA_MAP] = "IOMMU_MAP_DMA",
	[FAKE_DMA_UNMAP] = "IOMMU_UNMAP_DMA",
	[FAKE_GROUP_STATUS] = "GROUP_GET_STATUS",
	[FAKE_SET_CONTAINER] = "GROUP_SET_CONTAINER",
	[FAKE_GET_DEVICE_FD] = "GROUP_GET_DEVICE_FD",
	[FAKE_OTHER_IOCTL] = "another ioctl",
	[FAKE_CONNECT] = "connect",
	[FAKE_SEND] = "send",
	[FAKE_RECEIVE] = "receive",
	[FAKE_WAIT] = "wait",
	[FAKE_POLL_CHANGE] = "poll change",
	[FAKE_SEAL] = "seal",
	[FAKE_TIMER] = "timer",
	[FAKE_READ] = "read",
	[FAKE_WRITE] = "write",
	[FAKE_PRECOPY_INFO] = "MIG_GET_PRECOPY_INFO",
	[FAKE_HW_INFO] = "IOMMU_GET_HW_INFO",
	[FAKE_HWPT_ALLOC] = "HWPT_ALLOC",
	[FAKE_SET_TRACKING] = "HWPT_SET_DIRTY_TRACKING",
	[FAKE_GET_DIRTY] = "HWPT_GET_DIRTY_BITMAP",
	[FAKE_DIRTY_PAGES] = "IOMMU_DIRTY_PAGES",
};

static struct {
	unsigned total, counts[FAKE_CALLS];
	unsigned fail_in, fail_kind_in;
	int fail_error, fail_kind_error, always_error[FAKE_CALLS];
	enum fake_call fail_kind;
	const char *failed;
	char (*journal)[JOURNAL_BYTES];
	unsigned journal_length;
} calls;

void model_calls_reset(void)
{
	free(calls.journal);
	memset(&calls, 0, sizeof(calls));
	calls.failed = "";
	calls.journal = calloc(JOURNAL_ENTRIES, JOURNAL_BYTES);
	if (!calls.journal)
		abort();
}

static int fail_with(enum fake_call kind, int error)
{
	calls.failed = names[kind];
	fake_journal("%s fails with %d", names[kind], error);
	return -error;
}

int model_calls_enter(enum fake_call kind)
{
	calls.total++;
	calls.counts[kind]++;
	if (calls.fail_in && --calls.fail_in == 0)
		return fail_with(kind, calls.fail_error);
	if (calls.fail_kind_in && kind == calls.fail_kind && --calls.fail_kind_in == 0)
		return fail_with(kind, calls.fail_kind_error);
	if (calls.always_error[kind])
		return fail_with(kind, calls.always_error[kind]);
	return 0;
}

void fake_fail_call(unsigned n, int error)
{
	calls.fail_in = n;
	calls.fail_error = error;
	calls.failed = "";
}

void fake_fail_kind(enum fake_call kind, unsigned n, int error)
{
	calls.fail_kind = kind;
	calls.fail_kind_in = n;
	calls.fail_kind_error = error;
	calls.failed = "";
}

void fake_fail_always(enum fake_call kind, int error)
{
	calls.always_error[kind] = error;
	calls.failed = "";
}

unsigned fake_calls(enum fake_call kind)
{
	return calls.counts[kind];
}

unsigned fake_calls_total(void)
{
	return calls.total;
}

void fake_calls_forget(void)
{
	calls.total = 0;
	memset(calls.counts, 0, sizeof(calls.counts));
}

const char *fake_failed_call(void)
{
	return calls.failed;
}

/* A journal that is full keeps its beginning: tests look at short stretches and forget before them. */
void fake_journal(const char *format, ...)
{
	if (calls.journal_length == JOURNAL_ENTRIES)
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(calls.journal[calls.journal_length++], JOURNAL_BYTES, format, args);
	va_end(args);
}

int fake_journal_find(const char *text, int from)
{
	for (unsigned i = from < 0 ? 0 : (unsigned)from; i < calls.journal_length; i++) {
		if (strstr(calls.journal[i], text))
			return (int)i;
	}
	return -1;
}

unsigned fake_journal_count(const char *text)
{
	unsigned count = 0;
	for (unsigned i = 0; i < calls.journal_length; i++)
		count += strstr(calls.journal[i], text) != NULL;
	return count;
}

void fake_journal_forget(void)
{
	calls.journal_length = 0;
}

void fake_journal_print(void)
{
	for (unsigned i = 0; i < calls.journal_length; i++)
		fprintf(stderr, "%4u %s\n", i, calls.journal[i]);
}
