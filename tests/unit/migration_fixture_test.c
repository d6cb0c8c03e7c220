// SPDX-License-Identifier: MIT
/*
 * A snapshot that an earlier version has written loads in this one, and what arrives is what was there. tests/fixtures/README.md says how the
 * file of a new version is made.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "fixture_file.h"
#include "migration_machine.h"

#define VERSION_1 "v1/snapshot"

/* Of version 1, and never another: pages of both kinds in both regions, and a little of everything else. */
static const struct machine_shape shape = {.device_bytes = 2500, .large_bytes = 5000, .zero_from = 5};
#define GUEST_WRITES 0x01020304u

static struct test_machine before, after;

int __wrap_mcall_random(void *data, size_t bytes);

/* A session's number is the only thing that chance writes. */
int __wrap_mcall_random(void *data, size_t bytes)
{
	memset(data, 0x5a, bytes);
	return 0;
}

/* Devices of every ability: one without P2P, one without pre-copy. */
static void open_machine(struct test_machine *machine, bool source)
{
	machine_init_small(machine, MACHINE_DEVICES, source, &shape);
	machine->devices[1].pre_copy = false;
	machine->devices[2].p2p = false;
}

static void open_machines(void)
{
	open_machine(&before, true);
	before.writes = GUEST_WRITES;
	open_machine(&after, false);
	memset(after.memory, 0xee, MACHINE_RAM_BYTES); /* so that zero pages must be written */
}

static void close_machines(void)
{
	machine_finish(&before);
	machine_finish(&after);
}

TestSuite(migration_fixture, .init = open_machines, .fini = close_machines, .timeout = 60);

static void save(const char *path)
{
	char address[600];
	struct tenon_error err = {0};
	struct tenon_outgoing *outgoing;
	snprintf(address, sizeof(address), "file:%s", path);
	const struct tenon_outgoing_options options = {
		.size = sizeof(options), .address = address, .downtime_limit_ns = 3600000000000u};
	cr_assert_eq(tenon_outgoing_create(&before.what, &options, &outgoing, &err), 0, "%s", err.message);
	cr_assert_eq(tenon_outgoing_run(outgoing, &err), TENON_OUTGOING_SAVED, "%s", err.message);
	tenon_outgoing_destroy(outgoing);
}

static int load(const char *path, struct tenon_error *err)
{
	char address[600];
	struct tenon_incoming *incoming;
	snprintf(address, sizeof(address), "file:%s", path);
	const struct tenon_incoming_options options = {.size = sizeof(options), .address = address};
	cr_assert_eq(tenon_incoming_create(&after.what, &options, &incoming, err), 0, "%s", err->message);
	int code = tenon_incoming_run(incoming, err);
	tenon_incoming_destroy(incoming);
	return code;
}

static void expect_whole(void)
{
	cr_expect(machine_runs(&after));
	for (size_t page = 0; page < MACHINE_PAGES; page++)
		cr_expect_eq(memcmp(before.memory + page * TENON_MIGRATION_PAGE_BYTES,
				    after.memory + page * TENON_MIGRATION_PAGE_BYTES, TENON_MIGRATION_PAGE_BYTES),
			     0, "page %zu is another", page);
	for (unsigned i = 0; i < MACHINE_DEVICES; i++) {
		const struct test_device *device = &after.devices[i];
		cr_expect_arr_eq(device->data, before.devices[i].data, shape.device_bytes, "device %u", i);
		cr_expect(device->has_emulated, "device %u", i);
		cr_expect_eq(device->state, TENON_MIGRATION_RUNNING, "device %u", i);
	}
	cr_expect_eq(after.writes, GUEST_WRITES);
	cr_expect_eq(after.parts_seen, 3);
	cr_expect_eq(machine_violations(&after), 0);
}

/* The machine of the file, in case that the test's own should ever become another. */
static void expect_known_contents(void)
{
	uint64_t first, last;
	memcpy(&first, after.memory + TENON_MIGRATION_PAGE_BYTES, sizeof(first));
	memcpy(&last, after.memory + MACHINE_RAM_BYTES - sizeof(last), sizeof(last));
	cr_expect_eq(first, 0x79690975fbde15b0, "%#llx", (unsigned long long)first);
	cr_expect_eq(last, 0xf6147835d2c0f30f, "%#llx", (unsigned long long)last);
	cr_expect_eq(after.devices[2].data[2499], (uint8_t)(2499 * 31 + 3));
}

Test(migration_fixture, a_snapshot_of_version_1_loads)
{
	struct tenon_error err = {0};
	char path[512];
	fixture_path(path, VERSION_1);
	cr_assert_eq(load(path, &err), 0, "%s", err.message);
	expect_whole();
	expect_known_contents();
}

/* Changes a byte by this, and loads it into a new machine. */
static int load_changed(struct fixture_file *file, size_t at, unsigned char flip, struct tenon_error *err)
{
	char path[32];
	int fd = memfd_create("changed", 0);
	machine_finish(&after);
	open_machine(&after, false);
	file->data[at] ^= flip;
	cr_assert_eq(write(fd, file->data, file->bytes), (ssize_t)file->bytes);
	file->data[at] ^= flip;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int code = load(path, err);
	close(fd);
	return code;
}

Test(migration_fixture, a_snapshot_of_version_1_has_no_byte_that_may_be_another)
{
	static struct fixture_file file;
	struct tenon_error err = {0};
	fixture_read(VERSION_1, &file);
	/* All that comes before the pages, and some of what follows. */
	for (size_t at = 0; at < file.bytes; at += at < 1024 ? 1 : 509) {
		err = (struct tenon_error){0};
		cr_assert_lt(load_changed(&file, at, 0x10, &err), 0, "byte %zu", at);
		cr_assert_gt(strlen(err.message), 0, "byte %zu", at);
		cr_assert(!machine_runs(&after), "byte %zu", at);
	}
	cr_expect_eq(load_changed(&file, 0, 0, &err), 0, "unchanged: %s", err.message);
}

/* Once a version 2 is written, this is about its file. */
Test(migration_fixture, what_this_version_writes_is_the_file_and_loads)
{
	struct tenon_error err = {0};
	static struct fixture_file file;
	char folder[] = "/tmp/tenon-fixture-XXXXXX", path[64];
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/snapshot", folder);
	save(path);
	fixture_read_path(path, &file);
	cr_expect_eq(load(path, &err), 0, "%s", err.message);
	expect_whole();
	unlink(path);
	rmdir(folder);
	fixture_expect_written(VERSION_1, file.data, file.bytes);
}
