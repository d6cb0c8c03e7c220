// SPDX-License-Identifier: MIT
/* A device of the kernel's goes through its migration states, and its data from one to another. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "vfio_fixture.h"

TestSuite(device_migration, .init = fake_world_reset, .timeout = 120);

#define INITIAL_BYTES 300

static struct fake_device *movable(const char *bdf, bool p2p, bool pre_copy)
{
	struct fake_device *fake = fake_nvme(bdf);
	fake->migration.present = true;
	fake->migration.p2p = p2p;
	fake->migration.pre_copy = pre_copy;
	fake->migration.initial_bytes = pre_copy ? INITIAL_BYTES : 0;
	for (unsigned i = 0; i < FAKE_IMAGE_BYTES; i++)
		fake->migration.image[i] = (uint8_t)(i * 7 + 1);
	return fake;
}

static void go(struct fixture *fixture, enum tenon_migration_state state)
{
	int code = tenon_device_migration_set(fixture->device, state, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	cr_assert_eq(tenon_device_migration_state(fixture->device), state);
	cr_assert_eq(fixture->fake->migration.state, (uint32_t)state);
}

static void refuse(struct fixture *fixture, enum tenon_migration_state state, int code, const char *said)
{
	fixture->err = (struct tenon_error){0};
	cr_assert_eq(tenon_device_migration_set(fixture->device, state, &fixture->err), code);
	assert_message(&fixture->err, code);
	cr_assert(strstr(fixture->err.message, said), "%s", fixture->err.message);
}

static struct tenon_migration_info info_of(struct fixture *fixture)
{
	struct tenon_migration_info info = {.size = sizeof(info)};
	cr_assert_eq(tenon_device_migration_info(fixture->device, &info, &fixture->err), 0);
	return info;
}

/* All that there is to read in this state. @return how much */
static size_t read_all(struct fixture *fixture, uint8_t *data, size_t capacity)
{
	size_t bytes = 0;
	for (;;) {
		int64_t done =
			tenon_device_migration_read(fixture->device, data + bytes, capacity - bytes, &fixture->err);
		cr_assert_geq(done, 0, "%s", fixture->err.message);
		if (done == 0)
			return bytes;
		bytes += (size_t)done;
	}
}

static uint8_t stream[FAKE_STREAM_MAX];

/* ---- What a device can ---- */

Test(device_migration, info_says_what_the_device_has)
{
	for (unsigned features = 0; features < 4; features++) {
		struct fixture fixture;
		fake_world_reset();
		fixture_open(&fixture, movable("0000:3b:00.0", features & 1, features & 2));
		const struct tenon_migration_info info = info_of(&fixture);
		cr_assert(info.migratable);
		cr_assert_eq(info.p2p, (features & 1) != 0);
		cr_assert_eq(info.pre_copy, (features & 2) != 0);
		fixture_close(&fixture);
	}
}

Test(device_migration, a_device_without_migration_says_so_and_what_to_do)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	const struct tenon_migration_info info = info_of(&fixture);
	cr_assert(!info.migratable && !info.p2p && !info.pre_copy);
	cr_assert(strstr(info.why, "0000:3b:00.0: cannot be migrated: "), "%s", info.why);
	cr_assert(strstr(info.why, "; "), "%s", info.why);
	refuse(&fixture, TENON_MIGRATION_STOP, -EINVAL, "cannot be migrated");
	cr_assert_eq(tenon_device_migration_set(fixture.device, TENON_MIGRATION_RUNNING, &fixture.err), 0);
	fixture_close(&fixture);
}

Test(device_migration, info_that_cannot_be_had_says_why_and_is_asked_for_again)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	fake_fail_kind(FAKE_FEATURE, 1, EIO);
	struct tenon_migration_info info = info_of(&fixture);
	cr_assert(!info.migratable);
	cr_assert(strstr(info.why, strerror(EIO)), "%s", info.why);
	fake_fail_kind(FAKE_FEATURE, 1, EIO);
	refuse(&fixture, TENON_MIGRATION_STOP, -EIO, strerror(EIO));
	cr_assert(info_of(&fixture).migratable);
	fixture_close(&fixture);
}

Test(device_migration, info_needs_a_size)
{
	struct fixture fixture;
	struct tenon_migration_info info = {.size = sizeof(info) - 1};
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	cr_assert_eq(tenon_device_migration_info(fixture.device, &info, &fixture.err), -EINVAL);
	assert_message(&fixture.err, -EINVAL);
	cr_assert_eq(tenon_device_migration_info(fixture.device, NULL, NULL), -EINVAL);
	fixture_close(&fixture);
}

Test(device_migration, the_size_of_its_data_is_told_where_the_driver_tells_it)
{
	struct fixture fixture;
	uint64_t bytes = 0;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	cr_assert_eq(tenon_device_migration_size(fixture.device, &bytes, &fixture.err), 0);
	cr_assert_eq(bytes, FAKE_IMAGE_BYTES);
	fixture.fake->migration.no_data_size = true;
	cr_assert_eq(tenon_device_migration_size(fixture.device, &bytes, &fixture.err), -ENOTSUP);
	assert_message(&fixture.err, -ENOTSUP);
	fake_fail_kind(FAKE_FEATURE, 1, EIO);
	cr_assert_eq(tenon_device_migration_size(fixture.device, &bytes, &fixture.err), -EIO);
	assert_message(&fixture.err, -EIO);
	fixture_close(&fixture);
}

/* ---- States ---- */

Test(device_migration, a_device_is_open_in_running)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_RUNNING);
	fixture_close(&fixture);
}

/* The model reports a step that is no arc of the device's as misuse. */
Test(device_migration, every_way_is_gone_by_arcs_that_the_device_has)
{
	for (unsigned features = 0; features < 4; features++) {
		bool p2p = features & 1, pre_copy = features & 2;
		struct fixture fixture;
		fake_world_reset();
		fixture_open(&fixture, movable("0000:3b:00.0", p2p, pre_copy));
		for (unsigned from = 1; from < TENON_MIGRATION_STATES; from++) {
			for (unsigned to = 1; to < TENON_MIGRATION_STATES; to++) {
				if (tenon_migration_next(from, to, p2p, pre_copy) < 0)
					continue;
				cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
				go(&fixture, from);
				if (from == TENON_MIGRATION_RESUMING && to != from)
					cr_assert_eq(tenon_device_migration_write(fixture.device, stream,
										  FAKE_IMAGE_BYTES, NULL),
						     0);
				go(&fixture, to);
				cr_assert_str_empty(fake_misuse(), "%u to %u: %s", from, to, fake_misuse());
			}
		}
		cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
		fixture_close(&fixture);
	}
}

Test(device_migration, a_set_takes_each_step_by_itself)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	go(&fixture, TENON_MIGRATION_STOP_COPY);
	int at = fake_journal_find("goes from 2 to 5", 0);
	at = fake_journal_find("goes from 5 to 1", at);
	cr_assert_geq(fake_journal_find("goes from 1 to 3", at), 0);
	cr_assert_eq(fake_journal_count("goes from"), 3);
	fixture_close(&fixture);
}

Test(device_migration, a_state_that_the_device_lacks_is_refused_and_nothing_moves)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", false, false));
	refuse(&fixture, TENON_MIGRATION_RUNNING_P2P, -EINVAL, "from RUNNING to RUNNING_P2P");
	refuse(&fixture, TENON_MIGRATION_PRE_COPY, -EINVAL, "from RUNNING to PRE_COPY");
	refuse(&fixture, TENON_MIGRATION_ERROR, -EINVAL, "from RUNNING to ERROR");
	refuse(&fixture, TENON_MIGRATION_STATES, -EINVAL, "no migration state");
	cr_assert_eq(fake_journal_count("goes from"), 0);
	fixture_close(&fixture);
}

Test(device_migration, each_stream_has_a_file_of_its_own_which_is_closed_on_leaving)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	unsigned files = fake_open_files();
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	cr_assert_eq(fake_open_files(), files + 1);
	go(&fixture, TENON_MIGRATION_PRE_COPY_P2P);
	go(&fixture, TENON_MIGRATION_STOP_COPY);
	cr_assert_eq(fake_journal_count("close data"), 0, "the states that save share one");
	go(&fixture, TENON_MIGRATION_STOP);
	cr_assert_eq(fake_open_files(), files);
	go(&fixture, TENON_MIGRATION_STOP_COPY);
	cr_assert_eq(fake_open_files(), files + 1);
	go(&fixture, TENON_MIGRATION_RESUMING);
	cr_assert_eq(fake_journal_count("close data"), 2);
	cr_assert_eq(fake_open_files(), files + 1);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(fake_open_files(), files);
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	fixture_close(&fixture);
}

Test(device_migration, a_file_that_comes_where_there_is_no_data_is_closed)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	unsigned files = fake_open_files();
	fixture.fake->migration.stray_file = true;
	go(&fixture, TENON_MIGRATION_STOP);
	cr_assert_eq(fake_open_files(), files);
	fixture_close(&fixture);
}

/* ---- Failures ---- */

Test(device_migration, after_a_step_that_failed_the_device_is_where_it_says)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	unsigned files = fake_open_files();
	go(&fixture, TENON_MIGRATION_PRE_COPY);

	fixture.fake->migration.failure.into = TENON_MIGRATION_PRE_COPY_P2P;
	fixture.fake->migration.failure.in = TENON_MIGRATION_PRE_COPY;
	fixture.fake->migration.failure.error = EBUSY;
	refuse(&fixture, TENON_MIGRATION_STOP_COPY, -EBUSY, "from PRE_COPY to PRE_COPY_P2P");
	cr_assert(strstr(fixture.err.message, "it is in PRE_COPY since"), "%s", fixture.err.message);
	cr_assert_eq(read_all(&fixture, stream, sizeof(stream)), INITIAL_BYTES, "its stream goes on");

	fixture.fake->migration.failure.into = TENON_MIGRATION_STOP_COPY;
	fixture.fake->migration.failure.in = TENON_MIGRATION_RUNNING_P2P;
	fixture.fake->migration.failure.error = EIO;
	refuse(&fixture, TENON_MIGRATION_STOP_COPY, -EIO, "it is in RUNNING_P2P since");
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_RUNNING_P2P);
	cr_assert_eq(fake_open_files(), files, "its stream has ended");
	go(&fixture, TENON_MIGRATION_RUNNING);
	fixture_close(&fixture);
}

Test(device_migration, a_load_that_fails_leaves_it_loading)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	go(&fixture, TENON_MIGRATION_RESUMING);
	cr_assert_eq(tenon_device_migration_write(fixture.device, stream, 10, &fixture.err), 0);
	refuse(&fixture, TENON_MIGRATION_STOP, -EINVAL, "it is in RESUMING since");
	cr_assert_eq(tenon_device_migration_write(fixture.device, stream, FAKE_IMAGE_BYTES, &fixture.err), 0,
		     "its stream goes on");
	go(&fixture, TENON_MIGRATION_STOP);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	fixture_close(&fixture);
}

Test(device_migration, only_a_reset_leads_out_of_error)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	unsigned files = fake_open_files();
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	fixture.fake->migration.failure.into = TENON_MIGRATION_STOP_COPY;
	fixture.fake->migration.failure.in = TENON_MIGRATION_ERROR;
	fixture.fake->migration.failure.error = EIO;
	refuse(&fixture, TENON_MIGRATION_STOP_COPY, -EIO, "it is in ERROR since, so reset it");
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_ERROR);
	cr_assert_eq(fake_open_files(), files);
	for (unsigned state = 0; state < TENON_MIGRATION_STATES; state++) {
		if (state != TENON_MIGRATION_ERROR)
			refuse(&fixture, state, -EINVAL, "; reset it");
	}
	cr_assert_eq(tenon_device_reset(fixture.device, &fixture.err), 0);
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_RUNNING);
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	fixture_close(&fixture);
}

Test(device_migration, a_device_that_does_not_say_where_it_is_needs_a_reset)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	fake_fail_always(FAKE_FEATURE, ENODEV);
	refuse(&fixture, TENON_MIGRATION_RUNNING, -ENODEV, "where it is is not known, so reset it");
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_ERROR);
	fake_fail_always(FAKE_FEATURE, 0);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	go(&fixture, TENON_MIGRATION_STOP);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	fixture_close(&fixture);
}

/* A later kernel may have more. */
Test(device_migration, a_state_that_we_do_not_know_needs_a_reset)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	fixture.fake->migration.failure.into = TENON_MIGRATION_STOP;
	fixture.fake->migration.failure.in = TENON_MIGRATION_STATES;
	fixture.fake->migration.failure.error = EIO;
	refuse(&fixture, TENON_MIGRATION_STOP, -EIO, "so reset it");
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_ERROR);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	fixture_close(&fixture);
}

Test(device_migration, a_state_that_came_without_its_file_has_no_data_and_can_be_left)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	fixture.fake->migration.no_file = true;
	go(&fixture, TENON_MIGRATION_STOP_COPY);
	cr_assert_eq(tenon_device_migration_read(fixture.device, stream, sizeof(stream), &fixture.err), -EBADF);
	assert_message(&fixture.err, -EBADF);
	go(&fixture, TENON_MIGRATION_STOP);
	fixture.fake->migration.no_file = false;
	go(&fixture, TENON_MIGRATION_STOP_COPY);
	cr_assert_eq(read_all(&fixture, stream, sizeof(stream)), FAKE_IMAGE_BYTES);
	fixture_close(&fixture);
}

/* ---- Data ---- */

/* Loads what `bytes` of the stream hold into another device. */
static void resume(struct fixture *fixture, size_t bytes)
{
	go(fixture, TENON_MIGRATION_RESUMING);
	int code = tenon_device_migration_write(fixture->device, stream, bytes, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	go(fixture, TENON_MIGRATION_STOP);
	go(fixture, TENON_MIGRATION_RUNNING_P2P);
	go(fixture, TENON_MIGRATION_RUNNING);
}

static void move(bool quiet_end, unsigned late)
{
	struct fixture from, to;
	uint64_t initial = 0, dirty = 0;
	uint8_t image[FAKE_IMAGE_BYTES];
	fixture_open(&from, movable("0000:3b:00.0", true, true));
	memcpy(image, from.fake->migration.image, sizeof(image));
	from.fake->migration.quiet_end = quiet_end;
	from.fake->migration.late = late;

	go(&from, TENON_MIGRATION_PRE_COPY);
	cr_assert_eq(tenon_device_migration_pre_copy(from.device, &initial, &dirty, &from.err), 0);
	cr_assert_eq(initial, INITIAL_BYTES);
	cr_assert_eq(dirty, 0);
	if (late) {
		for (unsigned i = 0; i < late; i++)
			cr_assert_eq(tenon_device_migration_read(from.device, stream, 1, &from.err), 0);
	}
	size_t bytes = read_all(&from, stream, sizeof(stream));
	cr_assert_eq(bytes, INITIAL_BYTES);
	fake_state_changes(from.fake, 120);
	cr_assert_eq(tenon_device_migration_pre_copy(from.device, &initial, &dirty, &from.err), 0);
	cr_assert_eq(initial, 0);
	cr_assert_eq(dirty, 120);
	go(&from, TENON_MIGRATION_PRE_COPY_P2P);
	cr_assert_eq(tenon_device_migration_pre_copy(from.device, &initial, &dirty, &from.err), 0);
	cr_assert_eq(dirty, 120);
	from.fake->migration.late = late;
	go(&from, TENON_MIGRATION_STOP_COPY);
	bytes += read_all(&from, stream + bytes, sizeof(stream) - bytes);
	cr_assert_eq(bytes, INITIAL_BYTES + 120 + FAKE_IMAGE_BYTES);
	cr_assert_eq(tenon_device_migration_read(from.device, stream + bytes, 1, &from.err), 0, "the end stays");
	go(&from, TENON_MIGRATION_STOP);
	fixture_close(&from);

	struct fake_device *fake = movable("0000:3c:00.0", true, true);
	memset(fake->migration.image, 0, FAKE_IMAGE_BYTES);
	fake->migration.late = late;
	fixture_open(&to, fake);
	resume(&to, bytes);
	cr_assert_arr_eq(fake->migration.image, image, FAKE_IMAGE_BYTES);
	fixture_close(&to);
}

Test(device_migration, data_goes_whole_and_in_order_to_another_device)
{
	move(false, 0);
}

Test(device_migration, a_driver_that_reads_zero_for_nothing_yet_is_no_end)
{
	move(true, 0);
}

Test(device_migration, a_file_that_does_not_block_is_waited_for_once_the_device_stands)
{
	move(false, 3);
	cr_assert_geq(fake_calls(FAKE_WAIT), 3);
}

Test(device_migration, data_is_read_and_written_only_where_there_is_some)
{
	static const struct {
		enum tenon_migration_state state;
		bool saves, loads, pre_copies;
	} states[] = {
		{TENON_MIGRATION_RUNNING, false, false, false},    {TENON_MIGRATION_PRE_COPY, true, false, true},
		{TENON_MIGRATION_PRE_COPY_P2P, true, false, true}, {TENON_MIGRATION_STOP_COPY, true, false, false},
		{TENON_MIGRATION_STOP, false, false, false},       {TENON_MIGRATION_RESUMING, false, true, false},
	};
	struct fixture fixture;
	uint64_t initial, dirty;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		struct tenon_device *device = fixture.device;
		go(&fixture, states[i].state);
		unsigned reads = fake_calls(FAKE_READ), writes = fake_calls(FAKE_WRITE);
		unsigned infos = fake_calls(FAKE_PRECOPY_INFO);
		int64_t read = tenon_device_migration_read(device, stream, 8, &fixture.err);
		cr_assert(states[i].saves ? read > 0 : read == -EINVAL, "state %u reads %ld", i, (long)read);
		cr_assert_eq(tenon_device_migration_write(device, stream, 8, &fixture.err),
			     states[i].loads ? 0 : -EINVAL);
		cr_assert_eq(tenon_device_migration_pre_copy(device, &initial, &dirty, &fixture.err),
			     states[i].pre_copies ? 0 : -EINVAL);
		cr_assert_eq(fake_calls(FAKE_READ) != reads, states[i].saves);
		cr_assert_eq(fake_calls(FAKE_WRITE) != writes, states[i].loads);
		cr_assert_eq(fake_calls(FAKE_PRECOPY_INFO) != infos, states[i].pre_copies);
		assert_message(&fixture.err, -EINVAL);
	}
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	fixture_close(&fixture);
}

Test(device_migration, each_call_on_the_data_that_fails_says_why)
{
	struct fixture fixture;
	uint64_t initial, dirty;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	fake_fail_kind(FAKE_READ, 1, EIO);
	cr_assert_eq(tenon_device_migration_read(fixture.device, stream, 8, &fixture.err), -EIO);
	assert_message(&fixture.err, -EIO);
	fake_fail_kind(FAKE_PRECOPY_INFO, 1, ENODEV);
	cr_assert_eq(tenon_device_migration_pre_copy(fixture.device, &initial, &dirty, &fixture.err), -ENODEV);
	assert_message(&fixture.err, -ENODEV);
	go(&fixture, TENON_MIGRATION_STOP_COPY);
	fake_fail_kind(FAKE_READ, 1, ENOMSG);
	cr_assert_eq(tenon_device_migration_read(fixture.device, stream, 8, &fixture.err), -EPROTO,
		     "what is there must be read now");
	assert_message(&fixture.err, -EPROTO);
	fixture.fake->migration.late = 1;
	fake_fail_kind(FAKE_WAIT, 1, ENOMEM);
	cr_assert_eq(tenon_device_migration_read(fixture.device, stream, 8, &fixture.err), -ENOMEM);
	assert_message(&fixture.err, -ENOMEM);
	go(&fixture, TENON_MIGRATION_RESUMING);
	fake_fail_kind(FAKE_WRITE, 2, EFAULT);
	cr_assert_eq(tenon_device_migration_write(fixture.device, stream, 200, &fixture.err), -EFAULT);
	assert_message(&fixture.err, -EFAULT);
	fixture.fake->migration.late = 1;
	fake_fail_kind(FAKE_WAIT, 1, ENOMEM);
	cr_assert_eq(tenon_device_migration_write(fixture.device, stream, 200, &fixture.err), -ENOMEM);
	assert_message(&fixture.err, -ENOMEM);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	fixture_close(&fixture);
}

static void vcpu(void *context)
{
	struct fixture *fixture = context;
	guest_bar(fixture, 0, 0x14, 4);
	guest_config(fixture, PCI_COMMAND, 2);
}

/* It would never end if the device's lock were held: the lock is not one that its holder gets twice. */
Test(device_migration, a_vcpu_at_the_device_waits_for_nothing_that_is_slow_while_it_runs, .timeout = 20)
{
	struct fixture fixture;
	uint64_t bytes, dirty;
	fixture_open_placed(&fixture, movable("0000:3b:00.0", true, true));
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	fixture.fake->slow = vcpu;
	fixture.fake->slow_context = &fixture;
	cr_assert_gt(tenon_device_migration_read(fixture.device, stream, sizeof(stream), &fixture.err), 0);
	cr_assert_eq(tenon_device_migration_pre_copy(fixture.device, &bytes, &dirty, &fixture.err), 0);
	cr_assert_eq(tenon_device_migration_size(fixture.device, &bytes, &fixture.err), 0);
	fixture.fake->slow = NULL;
	fixture_close(&fixture);
}

/* ---- Resets ---- */

Test(device_migration, a_reset_leads_to_running_from_every_state)
{
	struct fixture fixture;
	fixture_open(&fixture, movable("0000:3b:00.0", true, true));
	unsigned files = fake_open_files();
	for (unsigned state = 1; state < TENON_MIGRATION_STATES; state++) {
		guest_place(&fixture);
		go(&fixture, state);
		cr_assert_eq(tenon_device_reset(fixture.device, &fixture.err), 0, "%s", fixture.err.message);
		cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_RUNNING);
		cr_assert_eq(fake_open_files(), files, "after %u", state);
		cr_assert_str_empty(fake_misuse(), "%s", fake_misuse());
		uint32_t command = fake_config_get(fixture.fake, PCI_COMMAND, 2);
		cr_assert_eq(command & PCI_COMMAND_MASTER, 0, "it may master the bus after a reset in %u", state);
	}
	fixture_close(&fixture);
}

/* The model reports an access to its regions as misuse. */
Test(device_migration, a_device_whose_data_moves_is_left_alone_when_its_reset_fails_and_quiesced_later)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, movable("0000:3b:00.0", true, true));
	go(&fixture, TENON_MIGRATION_STOP_COPY);
	fixture.fake->reset_error = EIO;
	cr_assert_eq(tenon_device_reset(fixture.device, &fixture.err), -EIO);
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_STOP_COPY);
	cr_assert_str_empty(fake_misuse(), "%s", fake_misuse());
	cr_assert(fake_config_get(fixture.fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
	go(&fixture, TENON_MIGRATION_STOP);
	cr_assert_eq(fake_config_get(fixture.fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER, 0);
	fixture.fake->reset_error = 0;
	fixture_close(&fixture);
}

Test(device_migration, a_device_is_closed_in_any_state_without_an_access_that_this_state_forbids)
{
	for (unsigned state = 1; state < TENON_MIGRATION_STATES; state++) {
		struct fixture fixture;
		fake_world_reset();
		fixture_open_placed(&fixture, movable("0000:3b:00.0", true, true));
		guest_msix_control(&fixture, true, false);
		guest_msix_vector(&fixture, 0, 0x41, false);
		go(&fixture, state);
		fixture_close(&fixture);
	}
}

Test(device_migration, the_event_loop_touches_no_region_of_a_device_that_stands)
{
	for (unsigned state = 1; state < TENON_MIGRATION_STATES; state++) {
		struct fixture fixture;
		fake_world_reset();
		struct fake_device *fake = movable("0000:3b:00.0", true, true);
		fixture_init(&fixture);
		fixture.fake = fake;
		struct tenon_device_options options = fixture_options(&fixture, fake);
		options.intx = state % 2 ? TENON_INTX_TRAPPED : TENON_INTX_AUTO;
		cr_assert_eq(tenon_device_open(&options, &fixture.device, &fixture.err), 0);
		fixture.host.device = fixture.device;
		guest_place(&fixture);
		fake_intx(fake, true);
		if (state % 2 == 0) {
			guest_msix_control(&fixture, true, false);
			guest_msix_vector(&fixture, 0, 0x41, false);
			fake_fire(fake, 0);
		}
		go(&fixture, state);
		unsigned accesses = fake_calls(FAKE_PREAD) + fake_calls(FAKE_PWRITE);
		fake_aer_error(fake);
		host_loop(&fixture.host);
		while (tenon_device_next_event(fixture.device) != TENON_DEVICE_EVENT_NONE)
			;
		cr_assert_eq(fake_calls(FAKE_PREAD) + fake_calls(FAKE_PWRITE), accesses, "in %u", state);
		cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
		fake_intx(fake, false);
		fixture_close(&fixture);
	}
}

Test(device_migration, a_guests_own_reset_ends_pre_copy)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, movable("0000:3b:00.0", true, true));
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_EXP);
	guest_config_write(&fixture, at + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_RUNNING);
	cr_assert_eq(tenon_device_migration_read(fixture.device, stream, 8, &fixture.err), -EINVAL);
	assert_message(&fixture.err, -EINVAL);
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	cr_assert_eq(read_all(&fixture, stream, sizeof(stream)), INITIAL_BYTES);
	fixture_close(&fixture);
}

Test(device_migration, a_bus_reset_ends_the_streams_of_all_that_it_hits)
{
	struct fixture fixture;
	struct tenon_device *neighbour = NULL;
	struct fake_device *fakes[2] = {movable("0000:3b:00.0", true, true), movable("0000:3b:00.1", true, true)};
	for (unsigned i = 0; i < 2; i++) {
		fake_device_reset_method(fakes[i], "bus");
		fakes[i]->slot = 1;
		fakes[i]->group = fakes[0]->group;
	}
	fixture_open(&fixture, fakes[0]);
	const struct tenon_device_options options = fixture_options(&fixture, fakes[1]);
	cr_assert_eq(tenon_device_open(&options, &neighbour, &fixture.err), 0, "%s", fixture.err.message);
	go(&fixture, TENON_MIGRATION_STOP_COPY);
	cr_assert_eq(tenon_device_migration_set(neighbour, TENON_MIGRATION_PRE_COPY, &fixture.err), 0);
	cr_assert_eq(tenon_device_reset(neighbour, &fixture.err), 0, "%s", fixture.err.message);
	cr_assert_eq(fakes[0]->hot_resets, fakes[1]->hot_resets);
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_RUNNING);
	cr_assert_eq(tenon_device_migration_state(neighbour), TENON_MIGRATION_RUNNING);
	tenon_device_close(neighbour);
	fixture_close(&fixture);
}

Test(device_migration, a_power_cycle_in_place_of_a_bus_reset_that_failed_ends_its_stream)
{
	struct fixture fixture;
	struct fake_device *fake = movable("0000:3b:00.0", true, true);
	fake_device_reset_method(fake, "pm");
	fake->slot = 1;
	fixture_open(&fixture, fake);
	go(&fixture, TENON_MIGRATION_PRE_COPY);
	unsigned resets = fake_calls(FAKE_DEVICE_RESET);
	fake->hot_reset_error = ENOTTY;
	cr_assert_eq(tenon_device_reset(fixture.device, &fixture.err), 0, "%s", fixture.err.message);
	cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), resets + 1);
	cr_assert_eq(fake_calls(FAKE_HOT_RESET), 1);
	cr_assert_eq(tenon_device_migration_state(fixture.device), TENON_MIGRATION_RUNNING);
	fixture_close(&fixture);
}

/* ---- Every call failed in turn ---- */

/* A move within the library's reach: each failure is told, and nothing is left behind by any. */
static bool tell(struct fixture *fixture, int code)
{
	if (code >= 0)
		return true;
	assert_message(&fixture->err, code);
	fixture->err = (struct tenon_error){0};
	return false;
}

static bool save_and_load(struct fixture *fixture)
{
	static const enum tenon_migration_state way[] = {
		TENON_MIGRATION_PRE_COPY, TENON_MIGRATION_PRE_COPY_P2P, TENON_MIGRATION_STOP_COPY, TENON_MIGRATION_STOP,
		TENON_MIGRATION_RESUMING, TENON_MIGRATION_STOP,         TENON_MIGRATION_RUNNING,
	};
	size_t bytes = 0;
	uint64_t initial, dirty;
	for (unsigned i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
		int64_t done = 1;
		if (!tell(fixture, tenon_device_migration_set(fixture->device, way[i], &fixture->err)))
			return false;
		if (way[i] == TENON_MIGRATION_PRE_COPY &&
		    !tell(fixture, tenon_device_migration_pre_copy(fixture->device, &initial, &dirty, &fixture->err)))
			return false;
		while (i < 3 && done > 0) {
			done = tenon_device_migration_read(fixture->device, stream + bytes, sizeof(stream) - bytes,
							   &fixture->err);
			if (!tell(fixture, (int)done))
				return false;
			bytes += (size_t)done;
		}
		if (way[i] == TENON_MIGRATION_RESUMING &&
		    !tell(fixture, tenon_device_migration_write(fixture->device, stream, bytes, &fixture->err)))
			return false;
	}
	return true;
}

Test(device_migration, every_kernel_call_of_a_move_failed_in_turn)
{
	static const int errors[] = {EIO, ENOMEM, EINVAL, ENODEV};
	for (unsigned e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		for (unsigned n = 1;; n++) {
			struct fixture fixture;
			fake_world_reset();
			fixture_open(&fixture, movable("0000:3b:00.0", true, true));
			fake_fail_call(n, errors[e]);
			bool whole = save_and_load(&fixture);
			bool failed = fake_failed_call()[0];
			fake_fail_call(0, 0);
			cr_assert_neq(whole, failed, "nobody hears of call %u", n);
			cr_assert_eq(tenon_device_reset(fixture.device, &fixture.err), 0);
			cr_assert(save_and_load(&fixture), "after call %u failed it never moves again", n);
			fixture_close(&fixture);
			if (!failed) {
				cr_assert_gt(n, 20);
				break;
			}
		}
	}
}
