// SPDX-License-Identifier: MIT
/*
 * A device's server that lies: each message of set-up and of run time malformed, short, long, out of order, late, missing. In set-up
 * the program ends with one line that says so; later the guest goes on without that device, and the user is told. It never crashes and
 * never waits for longer than it promises.
 *
 * The guest is the firmware's self-test, which ends by itself whatever the device does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <linux/vfio.h>

#include "layout.h"
#include "tenon_guest.h"
#include "vfio_user_liar.h"

TestSuite(tenon_vfio_user_lies, .init = guest_skip_without_kvm, .timeout = 300);

/* How many cases run at a time: they wait for time, for processes that start and end, or for two CPUs. */
#define WAITING  16
#define STARTING 8
#define RUNNING  6
/* The longest that set-up waits for a server (10 s for all that opening asks, RAM included), and some for a busy machine. */
#define SET_UP_MS 25000
#define RUN_MS    60000

enum outcome {
	REFUSED, /* no VM: one line on standard error, which is `words` */
	GONE,    /* the guest lost the device; the line has `words` */
	HUNG,    /* the guest read ones for a while; the user was told */
	PASSES,  /* every check of the guest passed; nothing was said, or `words` */
	SUFFERS, /* a check failed, and the device stayed; nothing was said, or `words` */
};

struct lie_case {
	const char *name;
	struct lie lie;
	enum outcome outcome;
	const char *words;
	const char *option; /* of the device */
	bool beside;        /* another device is in the VM, whose BARs are memory for this one */
};

#define ANY                        -1
#define ON(command_, index_, nth_) .command = (command_), .index = (index_), .nth = (nth_)
#define CONFIG                     VFIO_PCI_CONFIG_REGION_INDEX
#define ROM_REGION                 VFIO_PCI_ROM_REGION_INDEX
#define MSIX                       VFIO_PCI_MSIX_IRQ_INDEX

/* Fields of the reply to VU_GET_REGION_INFO, the first capability's too */
#define REGION_ARGSZ  AT_PAYLOAD(0)
#define REGION_FLAGS  AT_PAYLOAD(4)
#define REGION_INDEX  AT_PAYLOAD(8)
#define REGION_CAPS   AT_PAYLOAD(12)
#define REGION_BYTES  AT_PAYLOAD(16)
#define REGION_OFFSET AT_PAYLOAD(24)
#define SPARSE_ID     AT_PAYLOAD(32)
#define SPARSE_NEXT   AT_PAYLOAD(36)
#define SPARSE_AREAS  AT_PAYLOAD(40)
#define AREA_OFFSET   AT_PAYLOAD(48)
#define AREA_BYTES    AT_PAYLOAD(56)

#define PATCH(...) .kind = LIE_PATCH, .patches = {__VA_ARGS__}

/* ---- Running them ---- */

struct running {
	const struct lie_case *what;
	struct liar liar;
	struct testdev_run other;
	struct run vm;
	struct timespec started;
};

static void start(struct running *running, const struct lie_case *what)
{
	char address[96], other[96];
	const char *const options[] = {what->option, NULL};
	*running = (struct running){.what = what};
	liar_start(&running->liar, &what->lie, options);
	/* The machine is busy with the cases beside: only those that are about time get less of it. */
	snprintf(address, sizeof(address), "vfio-user:%s%s", running->liar.path,
		 what->outcome == HUNG || what->outcome == REFUSED ? "" : ",timeout=5000");
	clock_gettime(CLOCK_MONOTONIC, &running->started);
	if (what->beside) {
		testdev_start(&running->other, NULL);
		snprintf(other, sizeof(other), "vfio-user:%s", running->other.path);
	}
	run_start(&running->vm,
		  ARGS("run", "--firmware", "default", "--append", "mode=selftest", "--memory", "32M", "--serial",
		       "stdio", "--quiet", "--no-reboot", "--device", address, what->beside ? "--device" : NULL, other),
		  NULL);
}

static unsigned elapsed_ms(const struct running *running)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned)((now.tv_sec - running->started.tv_sec) * 1000 +
			  (now.tv_nsec - running->started.tv_nsec) / 1000000);
}

static void check_refused(const struct running *running, int status)
{
	const struct lie_case *what = running->what;
	const struct run_text *said = &running->vm.complained;
	cr_expect_eq(status, 1, "%s: status %d", what->name, status);
	cr_expect_eq(run_count(said, "\n"), 1, "%s: not one line: '%s'", what->name, said->bytes);
	cr_expect(strstr(said->bytes, running->liar.path), "%s: names no device: '%s'", what->name, said->bytes);
	cr_expect(strstr(said->bytes, "; "), "%s: does not say what to do: '%s'", what->name, said->bytes);
	cr_expect(strstr(said->bytes, what->words), "%s: no '%s' in '%s'", what->name, what->words, said->bytes);
	cr_expect_str_empty(running->vm.said.bytes, "%s: a guest ran: '%s'", what->name, running->vm.said.bytes);
	cr_expect_lt(elapsed_ms(running), SET_UP_MS, "%s: took %u ms", what->name, elapsed_ms(running));
}

static void check_ran(const struct running *running, int status)
{
	const struct lie_case *what = running->what;
	const char *complaint = running->vm.complained.bytes;
	bool failed = status == LAYOUT_FIRMWARE_FAILED;
	cr_expect(status == LAYOUT_FIRMWARE_PASSED || failed, "%s: status %d, '%s'", what->name, status, complaint);
	cr_expect(strstr(running->vm.said.bytes, "\n1.."), "%s: the guest did not come to its end: '%s'", what->name,
		  running->vm.said.bytes);
	if (what->outcome == PASSES)
		cr_expect(!failed, "%s: %s", what->name, running->vm.said.bytes);
	if (what->outcome == SUFFERS)
		cr_expect(failed, "%s: nothing failed", what->name);
	bool gone = strstr(complaint, "the device is gone, and reads as ones: ");
	bool hung = strstr(complaint, "does not answer, and it reads as ones until it does");
	cr_expect_eq(gone, what->outcome == GONE, "%s: '%s'", what->name, complaint);
	cr_expect_eq(hung, what->outcome == HUNG, "%s: '%s'", what->name, complaint);
	if (what->words)
		cr_expect(strstr(complaint, what->words), "%s: no '%s' in '%s'", what->name, what->words, complaint);
	else
		cr_expect_str_empty(complaint, "%s: '%s'", what->name, complaint);
	/* A device that is gone, or comes and goes, is told of in a few lines, whatever the guest does to it. */
	cr_expect_leq(run_count(&running->vm.complained, "\n"), 6, "%s: '%s'", what->name, complaint);
}

static void finish(struct running *running)
{
	const struct lie_case *what = running->what;
	int status = run_wait(&running->vm, what->outcome == REFUSED ? SET_UP_MS + 10000 : RUN_MS);
	cr_expect_lt(status, 1000, "%s: it crashed: '%s'", what->name, running->vm.complained.bytes);
	cr_expect(!strstr(running->vm.complained.bytes, "Sanitizer") &&
			  !strstr(running->vm.complained.bytes, "runtime error"),
		  "%s: '%s'", what->name, running->vm.complained.bytes);
	if (what->outcome == REFUSED)
		check_refused(running, status);
	else
		check_ran(running, status);
	cr_expect_gt(atomic_load(&running->liar.told), 0, "%s: the lie was never told", what->name);
	if (getenv("TENON_TEST_TELLS"))
		fprintf(stderr, "%-60s %5u ms, status %d: %s\n", what->name, elapsed_ms(running), status,
			running->vm.complained.count ? running->vm.complained.bytes : "-");
	if (what->lie.kind == LIE_INSERT && what->outcome == PASSES) {
		cr_expect_eq(atomic_load(&running->liar.answers), 1, "%s: no answer", what->name);
		cr_expect_eq(running->liar.answer.error, (uint32_t)what->lie.value, "%s: error %u", what->name,
			     running->liar.answer.error);
	}
	liar_stop(&running->liar);
	if (what->beside)
		testdev_stop(&running->other);
	run_finish(&running->vm);
	liar_finish(&running->liar);
	if (what->beside)
		testdev_finish(&running->other);
}

static void run_cases(const struct lie_case *cases, unsigned count, unsigned beside)
{
	struct running *running = calloc(beside, sizeof(*running));
	const char *only = getenv("TENON_TEST_ONLY");
	unsigned begun = 0, ended = 0;
	for (unsigned i = 0; i < count; i++) {
		if (only && !strstr(cases[i].name, only))
			continue;
		if (begun - ended == beside)
			finish(&running[ended++ % beside]);
		start(&running[begun++ % beside], &cases[i]);
	}
	while (ended < begun)
		finish(&running[ended++ % beside]);
	free(running);
}

#define RUN_CASES(cases, beside) run_cases(cases, sizeof(cases) / sizeof((cases)[0]), beside)

/* ---- Set-up ---- */

/* What can be done to any reply. */
#define EVERY_REPLY(name, ...)                                                                                         \
	{name ": header shorter than a header", {__VA_ARGS__, PATCH({AT_BYTES, 4, 15})}, REFUSED, "cannot be"},        \
		{name ": header of 4 GiB", {__VA_ARGS__, PATCH({AT_BYTES, 4, 0xffffffff})}, REFUSED, "cannot be"},     \
		{name ": another id", {__VA_ARGS__, PATCH({AT_ID, 2, 0x7777})}, REFUSED, "replied to nothing"},        \
		{name ": another command", {__VA_ARGS__, PATCH({AT_COMMAND, 2, 12})}, REFUSED, "another command"},     \
		{name ": of no type", {__VA_ARGS__, PATCH({AT_FLAGS, 4, 7})}, REFUSED, "no kind that it may send"},    \
		{name ": refused", {__VA_ARGS__, .kind = LIE_FAILURE, .value = 28}, REFUSED, "No space left"},         \
		{name ": refused, errno 0", {__VA_ARGS__, .kind = LIE_FAILURE}, REFUSED, "Input/output error"},        \
		{name ": refused, errno 2^32-1",                                                                       \
		 {__VA_ARGS__, .kind = LIE_FAILURE, .value = 0xffffffff},                                              \
		 REFUSED,                                                                                              \
		 "Input/output error"},                                                                                \
		{name ": twice", {__VA_ARGS__, .kind = LIE_TWICE}, REFUSED, "replied to nothing"},                     \
		{name ": cut off", {__VA_ARGS__, .kind = LIE_CUT_OFF, .value = 1}, REFUSED, "closed the connection"},  \
		{name ": hangs up", {__VA_ARGS__, .kind = LIE_HANG_UP}, REFUSED, "closed the connection"},             \
		{name ": garbage", {__VA_ARGS__, .kind = LIE_GARBAGE, .value = 0xff}, REFUSED, "cannot be"},           \
	{                                                                                                              \
		name ": too many fds", {__VA_ARGS__, .kind = LIE_MANY_FDS, .value = 20}, REFUSED,                      \
			"too many file descriptors"                                                                    \
	}
/* And to all but the first. */
#define LATER_REPLY(name, ...)                                                                                         \
	{name ": the one before", {__VA_ARGS__, .kind = LIE_STALE}, REFUSED, "replied to nothing"},                    \
		{name ": after the one before", {__VA_ARGS__, .kind = LIE_EARLY}, REFUSED, "replied to nothing"},      \
		{name ": shorter", {__VA_ARGS__, .kind = LIE_SHRINK, .value = 4}, REFUSED, "wrong size"},              \
	{                                                                                                              \
		name ": longer", {__VA_ARGS__, .kind = LIE_GROW, .value = 5000}, REFUSED, "wrong size"                 \
	}

Test(tenon_vfio_user_lies, a_greeting_that_is_none_is_refused_in_one_line)
{
	static const struct lie_case cases[] = {
		EVERY_REPLY("version", ON(VU_VERSION, ANY, 1)),
		{"version: 1.0",
		 {ON(VU_VERSION, ANY, 1), PATCH({AT_PAYLOAD(0), 2, 1})},
		 REFUSED,
		 "speaks vfio-user 1."},
		{"version: 0.9",
		 {ON(VU_VERSION, ANY, 1), PATCH({AT_PAYLOAD(2), 2, 9})},
		 REFUSED,
		 "speaks vfio-user 0.9"},
		{"version: no JSON",
		 {ON(VU_VERSION, ANY, 1), PATCH({AT_PAYLOAD(4), 8, 0x5b5b5b5b5b5b5b5b})},
		 REFUSED,
		 "not JSON"},
		{"version: JSON without end",
		 {ON(VU_VERSION, ANY, 1), .kind = LIE_SHRINK, .value = 20},
		 REFUSED,
		 "not JSON"},
		{"version: no number",
		 {ON(VU_VERSION, ANY, 1), .kind = LIE_SHRINK, .value = 400},
		 REFUSED,
		 "wrong size"},
		{"version: 5000 bytes more",
		 {ON(VU_VERSION, ANY, 1), .kind = LIE_GROW, .value = 5000},
		 REFUSED,
		 "wrong size"},
		{"version: its socket missing", {ON(VU_VERSION, ANY, 1), .kind = LIE_NO_FDS}, REFUSED, "sends none"},
	};
	RUN_CASES(cases, STARTING);
}

Test(tenon_vfio_user_lies, a_description_that_cannot_be_is_refused_in_one_line)
{
	static const struct lie_case cases[] = {
		EVERY_REPLY("info", ON(VU_GET_INFO, ANY, 1)),
		LATER_REPLY("info", ON(VU_GET_INFO, ANY, 1)),
		{"info: no PCI device",
		 {ON(VU_GET_INFO, ANY, 1), PATCH({AT_PAYLOAD(4), 4, 1})},
		 REFUSED,
		 "not a PCI device"},
		{"info: no regions",
		 {ON(VU_GET_INFO, ANY, 1), PATCH({AT_PAYLOAD(8), 4, 0})},
		 REFUSED,
		 "too few for PCI"},
		{"info: no interrupts",
		 {ON(VU_GET_INFO, ANY, 1), PATCH({AT_PAYLOAD(12), 4, 0})},
		 REFUSED,
		 "too few for PCI"},
		EVERY_REPLY("reset", ON(VU_RESET, ANY, 1)),
		LATER_REPLY("config region", ON(VU_GET_REGION_INFO, CONFIG, 1)),
		{"config region: another index",
		 {ON(VU_GET_REGION_INFO, CONFIG, 1), PATCH({REGION_INDEX, 4, 0})},
		 REFUSED,
		 "another region"},
		{"config region: 63 bytes",
		 {ON(VU_GET_REGION_INFO, CONFIG, 1), PATCH({REGION_BYTES, 8, 63})},
		 REFUSED,
		 "less than PCI's header"},
		LATER_REPLY("config read", ON(VU_REGION_READ, CONFIG, 2)),
		{"config read: another offset",
		 {ON(VU_REGION_READ, CONFIG, 1), PATCH({AT_PAYLOAD(0), 8, 4})},
		 REFUSED,
		 "another read"},
		{"config read: another region",
		 {ON(VU_REGION_READ, CONFIG, 1), PATCH({AT_PAYLOAD(8), 4, 0})},
		 REFUSED,
		 "another read"},
		{"config read: another count",
		 {ON(VU_REGION_READ, CONFIG, 1), PATCH({AT_PAYLOAD(12), 4, 0x80000000})},
		 REFUSED,
		 "another read"},
		{"bar region: another index",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({REGION_INDEX, 4, 0xffffffff})},
		 REFUSED,
		 "another region"},
		LATER_REPLY("bar region", ON(VU_GET_REGION_INFO, 0, 1)),
		LATER_REPLY("msi-x", ON(VU_GET_IRQ_INFO, MSIX, 1)),
		{"msi-x: another index",
		 {ON(VU_GET_IRQ_INFO, MSIX, 1), PATCH({AT_PAYLOAD(8), 4, 0})},
		 REFUSED,
		 "another interrupt"},
		EVERY_REPLY("irq info", ON(VU_GET_IRQ_INFO, 0, 1)),
	};
	RUN_CASES(cases, STARTING);
}

/* Doorbells are optional: a server that fails to tell of them has none, one that breaks the protocol is out. */
Test(tenon_vfio_user_lies, doorbells_that_make_no_sense_are_none)
{
	static const struct lie_case cases[] = {
		{"doorbells: refused",
		 {ON(VU_GET_REGION_IO_FDS, ANY, 0), .kind = LIE_FAILURE, .value = 95},
		 PASSES,
		 NULL},
		{"doorbells: header alone",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), .kind = LIE_SHRINK, .value = 1000},
		 REFUSED,
		 "wrong size"},
		{"doorbells: longer",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), .kind = LIE_GROW, .value = 5000},
		 REFUSED,
		 "wrong size"},
		{"doorbells: half of one missing",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), .kind = LIE_SHRINK, .value = 20},
		 PASSES,
		 NULL},
		{"doorbells: 2^32-1 of them",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), PATCH({AT_PAYLOAD(12), 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"doorbells: no fds", {ON(VU_GET_REGION_IO_FDS, 0, 1), .kind = LIE_NO_FDS}, PASSES, NULL},
		{"doorbells: fds that are none",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), PATCH({AT_PAYLOAD(32), 4, 77}, {AT_PAYLOAD(72), 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"doorbells: outside of the region",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), PATCH({AT_PAYLOAD(16), 8, 0x4000}, {AT_PAYLOAD(56), 8, -8ull})},
		 PASSES,
		 NULL},
		{"doorbells: of 3 bytes, of 2^63",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), PATCH({AT_PAYLOAD(24), 8, 3}, {AT_PAYLOAD(64), 8, 1ull << 63})},
		 PASSES,
		 NULL},
		{"doorbells: another region's",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), PATCH({AT_PAYLOAD(8), 4, 2})},
		 PASSES,
		 NULL},
		{"doorbells: too many fds",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), .kind = LIE_MANY_FDS, .value = 20},
		 REFUSED,
		 "too many file descriptors"},
		{"doorbells: a pipe",
		 {ON(VU_GET_REGION_IO_FDS, 0, 1), .kind = LIE_FILE, .file = FILE_PIPE},
		 PASSES,
		 "works trapped"},
		{"doorbells: never", {ON(VU_GET_REGION_IO_FDS, 0, 1), .kind = LIE_NEVER}, REFUSED, "does not answer"},
	};
	RUN_CASES(cases, RUNNING);
}

/* What a region's description says of its file is checked before the guest sees any of it; else the region works trapped. */
Test(tenon_vfio_user_lies, regions_that_cannot_be_mapped_work_trapped)
{
	static const struct lie_case cases[] = {
		{"file: none", {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_NO_FDS}, PASSES, NULL},
		{"file: empty", {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_FILE, .file = FILE_EMPTY}, PASSES, NULL},
		{"file: shorter than the region",
		 {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_FILE, .file = FILE_SHORT},
		 PASSES,
		 NULL},
		{"file: could be truncated later",
		 {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_FILE, .file = FILE_UNSEALABLE},
		 PASSES,
		 NULL},
		{"file: a device's",
		 {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_FILE, .file = FILE_DEVICE},
		 PASSES,
		 NULL},
		{"file: a pipe", {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_FILE, .file = FILE_PIPE}, PASSES, NULL},
		{"file: a socket", {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_FILE, .file = FILE_SOCKET}, PASSES, NULL},
		{"file: a folder", {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_FILE, .file = FILE_FOLDER}, PASSES, NULL},
		{"file: cannot be written",
		 {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_FILE, .file = FILE_READ_ONLY},
		 PASSES,
		 "works trapped"},
		{"file: 8 more of them",
		 {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_MANY_FDS, .value = 8},
		 REFUSED,
		 "more file descriptors"},
		{"file: offset of 2^64-1",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({REGION_OFFSET, 8, -1ull})},
		 PASSES,
		 NULL},
		{"file: offset beyond its end",
		 {ON(VU_GET_REGION_INFO, 5, 1), PATCH({REGION_OFFSET, 8, 1ull << 40})},
		 PASSES,
		 NULL},
		{"file: offset in a page",
		 {ON(VU_GET_REGION_INFO, 5, 1), PATCH({REGION_OFFSET, 8, 8})},
		 PASSES,
		 "works trapped"},
		{"sparse: 2^32-1 areas",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({SPARSE_AREAS, 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"sparse: area that overflows",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({AREA_OFFSET, 8, 0x1000}, {AREA_BYTES, 8, -0x1000ull})},
		 PASSES,
		 NULL},
		{"sparse: area outside",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({AREA_OFFSET, 8, 1ull << 62})},
		 PASSES,
		 NULL},
		{"sparse: areas over each other",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({AREA_OFFSET, 8, 0}, {AREA_BYTES, 8, 0x100000})},
		 PASSES,
		 NULL},
		{"sparse: area in a page",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({AREA_OFFSET, 8, 0x10}, {AREA_BYTES, 8, 0x20})},
		 PASSES,
		 NULL},
		{"capabilities: outside of the reply",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({REGION_CAPS, 4, 0xfffffff0})},
		 PASSES,
		 NULL},
		{"capabilities: at its last byte",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({REGION_CAPS, 4, 79})},
		 PASSES,
		 NULL},
		{"capabilities: in its head", {ON(VU_GET_REGION_INFO, 2, 1), PATCH({REGION_CAPS, 4, 4})}, PASSES, NULL},
		{"capabilities: a loop",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({SPARSE_ID, 2, 99}, {SPARSE_NEXT, 4, 32})},
		 PASSES,
		 NULL},
		{"capabilities: backwards",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({SPARSE_ID, 2, 99}, {SPARSE_NEXT, 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"capabilities: cut off",
		 {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_SHRINK, .value = 20},
		 PASSES,
		 NULL},
		{"capabilities: more room needed",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({REGION_ARGSZ, 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"bytes one by one", {ON(VU_GET_REGION_INFO, 2, 1), .kind = LIE_PIECES}, PASSES, NULL},
	};
	RUN_CASES(cases, RUNNING);
}

Test(tenon_vfio_user_lies, sizes_and_counts_that_cannot_be_do_not_reach_the_guest)
{
	static const struct lie_case cases[] = {
		{"bar 0: 2^63 bytes",
		 {ON(VU_GET_REGION_INFO, 0, 1), PATCH({REGION_BYTES, 8, 1ull << 63})},
		 REFUSED,
		 "does not fit"},
		{"bar 0: none", {ON(VU_GET_REGION_INFO, 0, 1), PATCH({REGION_BYTES, 8, 0})}, REFUSED, "MSI-X table"},
		{"bar 0: ends in its table",
		 {ON(VU_GET_REGION_INFO, 0, 1), PATCH({REGION_BYTES, 8, 0x2008})},
		 REFUSED,
		 "MSI-X table"},
		{"bar 2: 2^64-1 bytes",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({REGION_BYTES, 8, -1ull})},
		 SUFFERS,
		 "impossible size"},
		{"bar 2: 3 bytes",
		 {ON(VU_GET_REGION_INFO, 2, 1), PATCH({REGION_BYTES, 8, 3})},
		 SUFFERS,
		 "impossible size"},
		{"bar 4: 2^20 ports",
		 {ON(VU_GET_REGION_INFO, 4, 1), PATCH({REGION_BYTES, 8, 1 << 20})},
		 SUFFERS,
		 "impossible size"},
		{"bar 5: 2^40 bytes in 32 bits",
		 {ON(VU_GET_REGION_INFO, 5, 1), PATCH({REGION_BYTES, 8, 1ull << 40})},
		 REFUSED,
		 "does not fit"},
		{"rom: 2^40 bytes",
		 {ON(VU_GET_REGION_INFO, ROM_REGION, 1), PATCH({REGION_BYTES, 8, 1ull << 40})},
		 PASSES,
		 "impossible size"},
		{"config: 2^64-1 bytes",
		 {ON(VU_GET_REGION_INFO, CONFIG, 1), PATCH({REGION_BYTES, 8, -1ull})},
		 PASSES,
		 NULL},
		{"config: 256 bytes", {ON(VU_GET_REGION_INFO, CONFIG, 1), PATCH({REGION_BYTES, 8, 256})}, PASSES, NULL},
		{"info: 2^32-1 regions",
		 {ON(VU_GET_INFO, ANY, 1), PATCH({AT_PAYLOAD(8), 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"info: 2^32-1 interrupts",
		 {ON(VU_GET_INFO, ANY, 1), PATCH({AT_PAYLOAD(12), 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"msi-x: 2^32-1 vectors",
		 {ON(VU_GET_IRQ_INFO, MSIX, 1), PATCH({AT_PAYLOAD(12), 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"msi-x: none", {ON(VU_GET_IRQ_INFO, MSIX, 1), PATCH({AT_PAYLOAD(12), 4, 0})}, REFUSED, "MSI-X table"},
		{"msi: 2^32-1 vectors",
		 {ON(VU_GET_IRQ_INFO, 1, 1), PATCH({AT_PAYLOAD(12), 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"msi: unknown to the server",
		 {ON(VU_GET_IRQ_INFO, 1, 1), .kind = LIE_FAILURE, .value = 22},
		 SUFFERS,
		 NULL},
		{"intx: 2^32-1 lines",
		 {ON(VU_GET_IRQ_INFO, 0, 1), PATCH({AT_PAYLOAD(12), 4, 0xffffffff})},
		 PASSES,
		 NULL},
		{"version: one byte at a time", {ON(VU_VERSION, ANY, 1), .kind = LIE_PIECES}, PASSES, NULL},
		{"version: without capabilities",
		 {ON(VU_VERSION, ANY, 1), .kind = LIE_SHRINK, .value = 1000},
		 REFUSED,
		 "wrong size"},
	};
	RUN_CASES(cases, RUNNING);
}

#define SILENT(name, ...)                                                                                              \
	{                                                                                                              \
		name ": never", {__VA_ARGS__, .kind = LIE_NEVER}, REFUSED, "does not answer"                           \
	}

/* They wait for as long as the program promises, all at a time. */
Test(tenon_vfio_user_lies, a_server_that_does_not_answer_in_set_up_is_given_up)
{
	static const struct lie_case cases[] = {
		{"version: the request itself",
		 {ON(VU_VERSION, ANY, 1), .kind = LIE_ECHO},
		 REFUSED,
		 "the device is gone: "},
		{"info: the request itself", {ON(VU_GET_INFO, ANY, 1), .kind = LIE_ECHO}, REFUSED, "does not answer"},
		SILENT("info", ON(VU_GET_INFO, ANY, 1)),
		SILENT("config region", ON(VU_GET_REGION_INFO, CONFIG, 1)),
		{"config read: never",
		 {ON(VU_REGION_READ, CONFIG, 1), .kind = LIE_NEVER},
		 REFUSED,
		 "cannot read its config space: Connection timed out"},
		SILENT("config read 2", ON(VU_REGION_READ, CONFIG, 2)),
		SILENT("bar region", ON(VU_GET_REGION_INFO, 0, 1)),
		SILENT("bar register", ON(VU_REGION_READ, CONFIG, 3)),
		SILENT("irq info", ON(VU_GET_IRQ_INFO, 0, 1)),
		SILENT("reset", ON(VU_RESET, ANY, 1)),
		{"version: after 12 s",
		 {ON(VU_VERSION, ANY, 1), .kind = LIE_LATE, .value = 12000},
		 REFUSED,
		 "does not answer"},
		{"info: after 1 s", {ON(VU_GET_INFO, ANY, 1), .kind = LIE_LATE, .value = 1000}, PASSES, NULL},
		{"reset: after 2 s", {ON(VU_RESET, ANY, 1), .kind = LIE_LATE, .value = 2000}, PASSES, NULL},
	};
	RUN_CASES(cases, WAITING);
}

/* ---- Run time ---- */

#define LOST(name, words, ...)                                                                                         \
	{                                                                                                              \
		name, {__VA_ARGS__}, GONE, words                                                                       \
	}

/* What only a guest makes the program ask for. */
#define BAR_READ  ON(VU_REGION_READ, 0, 8)
#define BAR_WRITE ON(VU_REGION_WRITE, 0, 8)
#define ARMING    ON(VU_SET_IRQS, MSIX, 1)

Test(tenon_vfio_user_lies, a_guest_goes_on_when_its_device_lies_and_is_cut_off)
{
	static const struct lie_case cases[] = {
		LOST("bar read: header of 15 bytes", "cannot be", BAR_READ, PATCH({AT_BYTES, 4, 15})),
		LOST("bar read: another id", "replied to nothing", BAR_READ, PATCH({AT_ID, 2, 0x7777})),
		LOST("bar read: another command", "another command", BAR_READ, PATCH({AT_COMMAND, 2, VU_REGION_WRITE})),
		LOST("bar read: of no type", "no kind that it may send", BAR_READ, PATCH({AT_FLAGS, 4, 2})),
		LOST("bar read: shorter", "wrong size", BAR_READ, .kind = LIE_SHRINK, .value = 1),
		LOST("bar read: longer", "wrong size", BAR_READ, .kind = LIE_GROW, .value = 1),
		LOST("bar read: another offset", "another read", BAR_READ, PATCH({AT_PAYLOAD(0), 8, 0x3ff8})),
		LOST("bar read: another count", "another read", BAR_READ, PATCH({AT_PAYLOAD(12), 4, 0x7fffffff})),
		LOST("bar read: the one before", "replied to nothing", BAR_READ, .kind = LIE_STALE),
		LOST("bar read: after the one before", "replied to nothing", BAR_READ, .kind = LIE_EARLY),
		LOST("bar read: twice", "replied to nothing", BAR_READ, .kind = LIE_TWICE),
		LOST("bar read: cut off", "closed the connection", BAR_READ, .kind = LIE_CUT_OFF, .value = 3),
		LOST("bar read: garbage", "cannot be", BAR_READ, .kind = LIE_GARBAGE, .value = 0xa5),
		LOST("bar read: killed", "closed the connection", BAR_READ, .kind = LIE_KILL),
		LOST("bar read: too many fds", "too many file descriptors", BAR_READ, .kind = LIE_MANY_FDS,
		     .value = 20),
		LOST("bar write: another id", "replied to nothing", BAR_WRITE, PATCH({AT_ID, 2, 0x7777})),
		LOST("bar write: longer", "wrong size", BAR_WRITE, .kind = LIE_GROW, .value = 4),
		LOST("bar write: another region", "another write", BAR_WRITE, PATCH({AT_PAYLOAD(8), 4, 1})),
		LOST("bar write: twice", "replied to nothing", BAR_WRITE, .kind = LIE_TWICE),
		LOST("bar write: killed", "closed the connection", BAR_WRITE, .kind = LIE_KILL),
		LOST("arming: another id", "replied to nothing", ARMING, PATCH({AT_ID, 2, 0x7777})),
		LOST("arming: longer", "wrong size", ARMING, .kind = LIE_GROW, .value = 16),
		LOST("arming: of no type", "no kind that it may send", ARMING, PATCH({AT_FLAGS, 4, 3})),
		LOST("arming: header of 4 GiB", "cannot be", ARMING, PATCH({AT_BYTES, 4, 0xffffffff})),
		LOST("arming: twice", "replied to nothing", ARMING, .kind = LIE_TWICE),
		LOST("arming: the one before", "replied to nothing", ARMING, .kind = LIE_STALE),
		LOST("arming: cut off", "closed the connection", ARMING, .kind = LIE_CUT_OFF, .value = 1),
		LOST("arming: killed", "closed the connection", ARMING, .kind = LIE_KILL),
		LOST("intx: killed", "closed the connection", ON(VU_SET_IRQS, 0, 1), .kind = LIE_KILL),
		LOST("unmasking: twice", "replied to nothing", ON(VU_SET_IRQS, 0, 2), .kind = LIE_TWICE),
		LOST("reset: another command", "another command", ON(VU_RESET, ANY, 2), PATCH({AT_COMMAND, 2, 4})),
		LOST("reset: killed", "closed the connection", ON(VU_RESET, ANY, 2), .kind = LIE_KILL),
		LOST("rom read: longer", "wrong size", ON(VU_REGION_READ, ROM_REGION, 1), .kind = LIE_GROW, .value = 1),
		LOST("config write: another offset", "another write", ON(VU_REGION_WRITE, CONFIG, 4),
		     PATCH({AT_PAYLOAD(0), 8, 0x10})),
		LOST("port read: killed", "closed the connection", ON(VU_REGION_READ, 4, 1), .kind = LIE_KILL),
		LOST("dma map: another id", "replied to nothing", ON(VU_DMA_MAP, ANY, 1), PATCH({AT_ID, 2, 0x7777})),
		LOST("dma map: of 4 GiB", "cannot be", ON(VU_DMA_MAP, ANY, 1), PATCH({AT_BYTES, 4, 0xffffffff})),
		LOST("dma map: killed", "closed the connection", ON(VU_DMA_MAP, ANY, 1), .kind = LIE_KILL),
		{"dma map of a peer: killed",
		 {ON(VU_DMA_MAP, ANY, 2), .kind = LIE_KILL},
		 GONE,
		 "closed the connection",
		 .beside = true},
		{"dma map of a peer: never",
		 {ON(VU_DMA_MAP, ANY, 2), .kind = LIE_NEVER},
		 GONE,
		 "whether it has mapped memory",
		 .beside = true},
		{"dma unmap of a peer: refused",
		 {ON(VU_DMA_UNMAP, ANY, 1), .kind = LIE_FAILURE, .value = 16},
		 GONE,
		 "keeps memory",
		 .beside = true},
		{"dma unmap of a peer: never",
		 {ON(VU_DMA_UNMAP, ANY, 1), .kind = LIE_NEVER},
		 GONE,
		 "keeps memory",
		 .beside = true},
		{"dma unmap of a peer: twice",
		 {ON(VU_DMA_UNMAP, ANY, 1), .kind = LIE_TWICE},
		 GONE,
		 "replied to nothing",
		 .beside = true},
		{"posted write: replied to",
		 {ON(VU_REGION_WRITE, 0, 5), .kind = LIE_TWICE},
		 GONE,
		 "replied to nothing",
		 .option = "--no-mapping"},
		{"command: a reply of none",
		 {BAR_READ, .kind = LIE_INSERT, .inserted = {.header = {.command = VU_DMA_READ, .flags = 3}}},
		 GONE,
		 "no kind that it may send"},
		{"command: shorter than a header",
		 {BAR_READ, .kind = LIE_INSERT, .inserted = {.header = {.command = VU_DMA_READ, .bytes = 3}}},
		 GONE,
		 "cannot be"},
	};
	RUN_CASES(cases, RUNNING);
}

#define COMMAND_OF(command_, bytes_, error_, ...)                                                                      \
	{                                                                                                              \
		BAR_READ, .kind = LIE_INSERT, .value = (error_), .inserted = {                                         \
			.header = {.command = (command_)},                                                             \
			.payload = {__VA_ARGS__},                                                                      \
			.bytes = (bytes_)                                                                              \
		}                                                                                                      \
	}

/* Commands that the program cannot do are answered with an error, and nothing else comes of them. */
Test(tenon_vfio_user_lies, commands_that_make_no_sense_are_answered_with_errors)
{
	static const struct lie_case cases[] = {
		{"command: read of memory that is not there", COMMAND_OF(VU_DMA_READ, 16, 14, [6] = 0x77, [8] = 8),
		 PASSES, NULL},
		{"command: read of 2^63 bytes", COMMAND_OF(VU_DMA_READ, 16, 22, [15] = 0x80), PASSES, NULL},
		{"command: read over the end of memory",
		 COMMAND_OF(VU_DMA_READ, 16, 14, [0] = 0xfc, 0xff, 0xff, 1, [8] = 8), PASSES, NULL},
		{"command: read of 8 bytes", COMMAND_OF(VU_DMA_READ, 8, 22), PASSES, NULL},
		{"command: read with data", COMMAND_OF(VU_DMA_READ, 24, 22, [8] = 8), PASSES, NULL},
		{"command: write with less data than it says", COMMAND_OF(VU_DMA_WRITE, 20, 22, [8] = 8), PASSES, NULL},
		{"command: write with more", COMMAND_OF(VU_DMA_WRITE, 40, 22, [8] = 8), PASSES, NULL},
		{"command: write that wraps",
		 COMMAND_OF(VU_DMA_WRITE, 24, 14, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 8), PASSES, NULL},
		{"command: one of the client's", COMMAND_OF(VU_DMA_MAP, 32, 95), PASSES, NULL},
		{"command: unknown", COMMAND_OF(999, 0, 95), PASSES, NULL},
		{"command: read of nothing", COMMAND_OF(VU_DMA_READ, 16, 0), PASSES, NULL},
	};
	RUN_CASES(cases, RUNNING);
}

/* The device stays. What it did not answer in time reads as ones; where it only says that it did nothing, the guest cannot know. */
Test(tenon_vfio_user_lies, a_guest_goes_on_when_its_device_is_late_or_refuses)
{
	static const struct lie_case cases[] = {
		{"bar read: never", {BAR_READ, .kind = LIE_NEVER}, HUNG, "does not answer"},
		{"bar read: after 1 s", {BAR_READ, .kind = LIE_LATE, .value = 1000}, HUNG, "answers again"},
		{"bar write: after 1 s", {BAR_WRITE, .kind = LIE_LATE, .value = 1000}, HUNG, "answers again"},
		{"bar write: never", {BAR_WRITE, .kind = LIE_NEVER}, HUNG, "does not answer"},
		{"config write: after 1 s",
		 {ON(VU_REGION_WRITE, CONFIG, 4), .kind = LIE_LATE, .value = 1000},
		 HUNG,
		 "answers again"},
		{"arming: never", {ARMING, .kind = LIE_NEVER}, HUNG, "does not answer"},
		{"arming: after 1 s", {ARMING, .kind = LIE_LATE, .value = 1000}, HUNG, "answers again"},
		{"reset: never", {ON(VU_RESET, ANY, 2), .kind = LIE_NEVER}, GONE, "did not reset in time"},
		{"rom read: never", {ON(VU_REGION_READ, ROM_REGION, 1), .kind = LIE_NEVER}, HUNG, "does not answer"},
		{"bar read: refused", {BAR_READ, .kind = LIE_FAILURE, .value = 5}, SUFFERS, NULL},
		{"bar writes: refused", {ON(VU_REGION_WRITE, 0, 0), .kind = LIE_FAILURE, .value = 5}, PASSES, NULL},
		{"rom reads: refused",
		 {ON(VU_REGION_READ, ROM_REGION, 0), .kind = LIE_FAILURE, .value = 5},
		 PASSES,
		 NULL},
		{"config writes: refused",
		 {ON(VU_REGION_WRITE, CONFIG, 4), .kind = LIE_FAILURE, .value = 5},
		 PASSES,
		 "cannot write config space"},
		{"arming: refused", {ARMING, .kind = LIE_FAILURE, .value = 28}, PASSES, "No space left"},
		{"arming: fds in the reply", {ARMING, .kind = LIE_MANY_FDS, .value = 3}, PASSES, NULL},
		{"reset: refused", {ON(VU_RESET, ANY, 2), .kind = LIE_FAILURE, .value = 16}, PASSES, "busy"},
		{"bar read: ones", {BAR_READ, PATCH({AT_PAYLOAD(16), 4, 0xffffffff})}, SUFFERS, NULL},
		{"bar reads: byte by byte", {ON(VU_REGION_READ, 0, 0), .kind = LIE_PIECES}, PASSES, NULL},
	};
	RUN_CASES(cases, RUNNING);
}
