// SPDX-License-Identifier: MIT
/*
 * Servers that die, hang and lie: while a device is opened, where each must end in one clear message; and while the guest uses it,
 * where it costs the guest that device and nothing else.
 */
#include <errno.h>
#include <stdatomic.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vfio_user_fixture.h"

TestSuite(vfio_user_failures, .init = fake_world_reset, .timeout = 300);

static void add_fault(struct testdev_options *options, const char *format, const char *first, const char *second)
{
	char text[64];
	snprintf(text, sizeof(text), format, first, second);
	cr_assert_eq(fault_parse(text, &options->faults[options->fault_count++], NULL), 0, "%s", text);
}

/* ---- Set-up ---- */

/* Opens against a server with a fault. Whatever comes of it, nothing is left, and the next open works. */
static int open_with(const struct testdev_options *options, struct tenon_error *err)
{
	struct fixture fixture;
	fake_world_reset();
	server_start(&servers[0], options);
	space_init(&fixture, 1, true);
	const struct tenon_device_options device = options_for(&fixture, 0);
	int code = try_open(&fixture, &device);
	*err = fixture.err;
	fixture_close(&fixture);
	server_finish(&servers[0]);
	return code;
}

static const char *const commands[] = {"version",  "info",        "reset",         "region-info",
				       "irq-info", "region-read", "region-io-fds", "dma-map"};

static void each_command(const char *fault)
{
	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		for (unsigned nth = 1; nth <= 9; nth++) {
			struct testdev_options options = {0};
			struct tenon_error err;
			char when[40];
			snprintf(when, sizeof(when), "%s#%u", commands[i], nth);
			add_fault(&options, "%s@%s", fault, when);
			int code = open_with(&options, &err);
			if (code == 0 && nth > 1)
				break; /* it does not come so often */
			/* Only doorbells and optional regions can be done without. */
			if (code < 0)
				assert_message(&err, code);
			else
				cr_expect_eq(strcmp(commands[i], "region-io-fds"), 0, "%s %s: opened", fault, when);
		}
	}
}

Test(vfio_user_failures, a_server_that_dies_before_an_answer_is_told)
{
	each_command("disconnect");
}

Test(vfio_user_failures, a_server_that_dies_after_a_command_is_told)
{
	each_command("vanish");
}

Test(vfio_user_failures, a_server_that_refuses_is_told)
{
	each_command("error=5");
}

Test(vfio_user_failures, an_answer_that_is_too_short_is_told)
{
	each_command("short=1");
}

Test(vfio_user_failures, an_answer_to_something_else_is_told)
{
	each_command("wrong-id");
	each_command("wrong-command");
}

Test(vfio_user_failures, silence_is_told)
{
	fake_set_patience(40);
	each_command("silence");
}

/* Answers of another size, which not all commands notice: those without a fixed size, when the rest makes sense. */
Test(vfio_user_failures, sizes_that_are_wrong_harm_nobody)
{
	static const char *const faults[] = {"wrong-size=-1", "wrong-size=-17", "wrong-size=1", "wrong-size=100000",
					     "twice"};
	for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		for (unsigned command = 0; command < sizeof(commands) / sizeof(commands[0]); command++) {
			struct testdev_options options = {0};
			struct tenon_error err;
			add_fault(&options, "%s@%s", faults[i], commands[command]);
			int code = open_with(&options, &err);
			if (code < 0)
				assert_message(&err, code);
		}
	}
}

Test(vfio_user_failures, nobody_listens)
{
	struct fixture fixture;
	space_init(&fixture, 1, true);
	const struct tenon_device_options device = options_for(&fixture, 0);
	int code = try_open(&fixture, &device);
	cr_expect_eq(code, -ENOENT);
	assert_message(&fixture.err, code);
	cr_expect(strstr(fixture.err.message, "/run/a.sock"));
	fixture_close(&fixture);
}

Test(vfio_user_failures, options_that_are_for_other_devices_are_refused)
{
	struct fixture fixture;
	server_start(&servers[0], NULL);
	space_init(&fixture, 1, true);
	struct tenon_device_options device = options_for(&fixture, 0);
	device.vf_token = "11111111-2222-3333-4444-555555555555";
	int code = try_open(&fixture, &device);
	cr_expect_eq(code, -EINVAL);
	assert_message(&fixture.err, code);
	struct fake_device *nvme = fake_nvme("0000:01:00.0");
	device = fixture_options(&fixture, nvme);
	device.reconnect = true;
	code = try_open(&fixture, &device);
	cr_expect_eq(code, -EINVAL);
	assert_message(&fixture.err, code);
	static const char *const bad[] = {
		"vfio-user:",
		"vfio-user:/a/path/that/is/longer/than/the/hundred/and/eight/bytes/which/the/address/of/a/UNIX/"
		"socket/has/room/for/at/most"};
	for (unsigned i = 0; i < 2; i++) {
		device = options_for(&fixture, 0);
		device.address = bad[i];
		code = try_open(&fixture, &device);
		cr_expect_lt(code, 0);
		assert_message(&fixture.err, code);
	}
	fixture_close(&fixture);
	server_finish(&servers[0]);
}

/* ---- In use ---- */

static struct fixture *waiting; /* of the thread that is a vCPU */

static void expect_gone(struct fixture *fixture)
{
	cr_expect_eq(next_event(fixture), TENON_DEVICE_EVENT_GONE);
	cr_expect_eq(tenon_device_next_event(fixture->device), TENON_DEVICE_EVENT_NONE, "it is told twice");
	cr_expect(host_logged(&fixture->host, "is gone"));
	cr_expect_eq(guest_config(fixture, PCI_VENDOR_ID, 4), UINT32_MAX);
	cr_expect_eq(guest_config(fixture, PCI_COMMAND, 2), 0xffff);
	cr_expect_eq(reg(fixture, TD_ID), UINT32_MAX);
	cr_expect_eq(guest_bar(fixture, TD_BAR_MEMORY, 0, 8), UINT64_MAX);
	cr_expect_eq(guest_bar(fixture, TD_BAR_REGISTERS, TD_MSIX_TABLE, 4), UINT32_MAX);
	cr_expect_null(host_mapped(&fixture->host, MEMORY_GPA));
	cr_expect_eq(fixture->host.irqfd_count, 0);
	cr_expect_eq(fixture->host.bell_count, 0);
	set_reg(fixture, TD_SCRATCH, 1);
	guest_config_write(fixture, PCI_COMMAND, 2, 0);
}

static void use_msix(struct fixture *fixture)
{
	fixture->host.delivered_count = 0;
	set_reg64(fixture, TD_MSIX_TABLE, MESSAGE_ADDRESS);
	set_reg64(fixture, TD_MSIX_TABLE + 8, 0x44);
	guest_msix_control(fixture, true, false);
	set_reg(fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, 0));
	cr_expect_eq(host_messages(&fixture->host, 0x44), 1);
}

Test(vfio_user_failures, a_server_that_is_killed_costs_its_device_alone)
{
	struct fixture fixtures[2];
	struct fake_device *nvme = fake_nvme("0000:01:00.0");
	server_start(&servers[0], NULL);
	space_init(fixtures, 2, true);
	const struct tenon_device_options options = options_for(&fixtures[0], 0);
	cr_assert_eq(try_open(&fixtures[0], &options), 0, "%s", fixtures[0].err.message);
	const struct tenon_device_options other = fixture_options(&fixtures[1], nvme);
	cr_assert_eq(try_open(&fixtures[1], &other), 0, "%s", fixtures[1].err.message);
	place(&fixtures[0]);
	use_msix(&fixtures[0]);
	server_end(&servers[0], true);
	expect_gone(&fixtures[0]);
	/* The space goes on without it. */
	const struct tenon_space_region more = {
		.size = sizeof(more), .gpa = 0x40000000, .size_bytes = RAM_BYTES, .hva = ram(), .fd = ram_file()};
	cr_expect_eq(tenon_space_add(fixtures[0].space, &more, NULL), 0);
	cr_expect_eq(fake_dma_mappings(), 2);
	cr_expect_eq(tenon_space_remove(fixtures[0].space, 0x40000000, RAM_BYTES, NULL), 0);
	guest_place(&fixtures[1]);
	guest_bar_write(&fixtures[1], 0, 0x14, 4, 0x460001);
	cr_expect_eq(guest_bar(&fixtures[1], 0, 0x14, 4), 0x460001);
	/* A VM reset tells that this one cannot be reset, and resets the other. */
	int code = tenon_space_reset(fixtures[0].space, &fixtures[0].err);
	cr_expect_eq(code, -ENOTCONN);
	assert_message(&fixtures[0].err, code);
	cr_expect_eq(guest_config(&fixtures[1], PCI_BASE_ADDRESS_0, 4) & ~0xfu, 0);
	fixtures[1].host.device = NULL;
	tenon_device_close(fixtures[1].device);
	close_one(&fixtures[0]);
}

/* A fault in the midst of use: the device is lost. */
static void lie(const char *fault, const char *command)
{
	struct fixture fixture;
	struct testdev_options options = {0};
	char when[40];
	fake_world_reset();
	snprintf(when, sizeof(when), "%s#200", command);
	add_fault(&options, "%s@%s", fault, when);
	open_one(&fixture, &options, true);
	for (unsigned i = 0; i < 300; i++) {
		if (strcmp(command, "region-read") == 0)
			reg(&fixture, TD_ID);
		else
			set_reg(&fixture, TD_SCRATCH, i);
	}
	cr_expect(host_logged(&fixture.host, "is gone"), "%s@%s", fault, when);
	cr_expect_eq(reg(&fixture, TD_ID), UINT32_MAX);
	expect_gone(&fixture);
	close_one(&fixture);
}

Test(vfio_user_failures, a_server_that_lies_in_use_is_cut_off)
{
	static const char *const faults[] = {"disconnect", "vanish",        "wrong-size=-1", "wrong-size=8",
					     "wrong-id",   "wrong-command", "short=1"};
	for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		lie(faults[i], "region-read");
		lie(faults[i], "region-write");
	}
}

Test(vfio_user_failures, a_server_that_hangs_makes_ones_until_it_answers)
{
	struct fixture fixture;
	struct testdev_options options = {0};
	add_fault(&options, "%s@%s", "stall=700", "region-read#200");
	open_one(&fixture, &options, true);
	fake_set_patience(20);
	unsigned waits = 0, ones = 0;
	uint64_t started = 0;
	for (unsigned i = 0; i < 1000000; i++) {
		uint64_t since = now_ns();
		bool hangs = reg(&fixture, TD_ID) == UINT32_MAX;
		waits += now_ns() - since > 40 * UINT64_C(1000000);
		if (hangs && !ones)
			started = now_ns();
		ones += hangs;
		if (ones && !hangs)
			break;
		if (hangs)
			usleep(1000);
	}
	cr_expect_geq(ones, 2);
	cr_expect_eq(reg(&fixture, TD_ID), TD_ID_VALUE);
	cr_expect(host_logged(&fixture.host, "does not answer"));
	cr_expect(host_logged(&fixture.host, "answers again"));
	cr_expect_not(host_logged(&fixture.host, "is gone"));
	cr_expect(started != 0);
	cr_expect_leq(waits, 10, "%u accesses waited", waits);
	close_one(&fixture);
}

static void *read_and_wait(void *context)
{
	atomic_bool *done = context;
	cr_expect_eq(reg(waiting, TD_ID), UINT32_MAX);
	atomic_store(done, true);
	return NULL;
}

Test(vfio_user_failures, the_event_loop_goes_on_while_a_vcpu_waits_for_a_server)
{
	struct fixture fixture;
	struct testdev_options options = {0};
	pthread_t vcpu;
	atomic_bool done = false;
	add_fault(&options, "%s@%s", "silence", "region-read#200");
	open_one(&fixture, &options, true);
	for (unsigned i = 0; i < 1000 && servers[0].device->faults.commands[VU_REGION_READ] < 199; i++)
		reg(&fixture, TD_ID);
	fake_set_patience(3000);
	waiting = &fixture;
	cr_assert_eq(pthread_create(&vcpu, NULL, read_and_wait, &done), 0);
	usleep(100000);
	cr_expect_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_NONE);
	cr_expect_not(atomic_load(&done), "it waited with the vCPU");
	pthread_join(vcpu, NULL);
	fake_set_patience(20);
	close_one(&fixture);
}

/* The guest turns its interrupts on while its server sleeps. */
Test(vfio_user_failures, a_server_that_hung_is_told_what_it_missed)
{
	struct fixture fixture;
	struct testdev_options options = {0};
	add_fault(&options, "%s@%s", "stall=300", "set-irqs#3");
	open_one(&fixture, &options, true);
	fake_set_patience(20);
	set_reg64(&fixture, TD_MSIX_TABLE, MESSAGE_ADDRESS);
	set_reg64(&fixture, TD_MSIX_TABLE + 8, 0x44);
	guest_msix_control(&fixture, true, false);
	cr_expect(host_logged(&fixture.host, "does not answer"));
	/* The guest does nothing but wait for an interrupt. */
	for (unsigned i = 0; i < 10000 && !host_logged(&fixture.host, "answers again"); i++) {
		struct pollfd loop = {.fd = tenon_device_event_fd(fixture.device), .events = POLLIN};
		poll(&loop, 1, 1);
		if (loop.revents)
			tenon_device_next_event(fixture.device);
	}
	cr_expect(host_logged(&fixture.host, "answers again"));
	fake_set_patience(5000);
	set_reg(&fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, 0));
	cr_expect_eq(host_messages(&fixture.host, 0x44), 1);
	cr_expect_not(host_logged(&fixture.host, "is gone"));
	close_one(&fixture);
}

/* Its old DMA would go on in the memory of the next kernel. */
static void hang_over_reset(bool no_reset)
{
	struct fixture fixture;
	struct testdev_options options = {.no_reset = no_reset};
	fake_world_reset();
	add_fault(&options, "%s@%s", "silence", "region-read#200");
	open_one(&fixture, &options, true);
	fake_set_patience(20);
	for (unsigned i = 0; i < 300 && reg(&fixture, TD_ID) != UINT32_MAX; i++)
		;
	cr_expect(host_logged(&fixture.host, "does not answer"));
	cr_expect_not(host_logged(&fixture.host, "is gone"));
	int code = tenon_space_reset(fixture.space, &fixture.err);
	cr_expect(code < 0 || no_reset);
	cr_expect(host_logged(&fixture.host, "did not reset in time"));
	expect_gone(&fixture);
	close_one(&fixture);
}

Test(vfio_user_failures, a_server_that_hangs_over_a_reset_is_cut_off)
{
	hang_over_reset(false);
	hang_over_reset(true);
}

Test(vfio_user_failures, a_server_that_hangs_while_memory_comes_is_cut_off)
{
	struct fixture fixture;
	struct testdev_options options = {0};
	add_fault(&options, "%s@%s", "silence", "dma-map#2");
	open_one(&fixture, &options, true);
	fake_set_patience(40);
	const struct tenon_space_region more = {
		.size = sizeof(more), .gpa = 0x40000000, .size_bytes = RAM_BYTES, .hva = ram(), .fd = ram_file()};
	cr_expect_eq(tenon_space_add(fixture.space, &more, &fixture.err), 0, "%s", fixture.err.message);
	expect_gone(&fixture);
	close_one(&fixture);
}

Test(vfio_user_failures, a_server_that_keeps_memory_is_cut_off)
{
	struct fixture fixture;
	struct testdev_options options = {0};
	add_fault(&options, "%s@%s", "error=16", "dma-unmap");
	open_one(&fixture, &options, true);
	cr_expect_eq(tenon_space_remove(fixture.space, 0, RAM_BYTES, NULL), 0);
	expect_gone(&fixture);
	close_one(&fixture);
}

/* ---- Coming back ---- */

static void open_reconnecting(struct fixture *fixture, const struct testdev_options *options)
{
	server_start(&servers[0], options);
	space_init(fixture, 1, true);
	struct tenon_device_options device = options_for(fixture, 0);
	device.reconnect = true;
	cr_assert_eq(try_open(fixture, &device), 0, "%s", fixture->err.message);
	place(fixture);
}

Test(vfio_user_failures, a_server_that_is_back_is_picked_up_with_everything)
{
	struct fixture fixture;
	open_reconnecting(&fixture, NULL);
	use_msix(&fixture);
	const struct tenon_space_region more = {
		.size = sizeof(more), .gpa = 0x40000000, .size_bytes = RAM_BYTES, .hva = ram(), .fd = ram_file()};
	for (unsigned round = 0; round < 3; round++) {
		server_end(&servers[0], true);
		struct testdev *device = servers[0].device;
		servers[0].device = NULL;
		expect_gone(&fixture);
		for (unsigned i = 0; i < 10; i++) /* nobody listens */
			cr_expect_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_NONE);
		if (round == 0) /* what comes meanwhile is told later */
			cr_expect_eq(tenon_space_add(fixture.space, &more, NULL), 0);
		servers[0].device = device;
		cr_expect_eq(next_event(&fixture), TENON_DEVICE_EVENT_BACK);
		cr_expect(host_logged(&fixture.host, "is back"));
		cr_expect_eq(guest_config(&fixture, PCI_COMMAND, 2), 0);
		cr_expect_eq(guest_config(&fixture, PCI_BASE_ADDRESS_5, 4), 0);
		for (unsigned bar = 0; bar < TENON_DEVICE_BARS; bar++)
			cr_expect_not(fixture.host.bars[bar].enabled);
		place(&fixture);
		cr_expect_eq(reg(&fixture, TD_ID), TD_ID_VALUE);
		use_msix(&fixture);
		host_mapped(&fixture.host, MEMORY_GPA)[7] = (uint8_t)(round + 1);
		cr_expect_eq(device->memory.bytes[7], round + 1);
		cr_expect(host_ring(&fixture.host, REGISTERS_GPA + TD_DOORBELL(3), 4, 1));
		cr_expect(reg_becomes(&fixture, TD_DOORBELLS + 4 * 3, ~0u, 1));
		ram()[0x20000] = (uint8_t)(0x30 + round);
		cr_expect_eq(copy(&fixture, 0x40020000, 0x30000, 1, 0), TD_STATUS_DONE);
		cr_expect_eq(ram()[0x30000], 0x30 + round);
	}
	cr_expect_eq(reg(&fixture, TD_VIOLATIONS), 0);
	close_one(&fixture);
}

Test(vfio_user_failures, a_server_that_comes_and_goes_does_not_flood_the_log)
{
	struct fixture fixture;
	unsigned messages = 0;
	open_reconnecting(&fixture, NULL);
	for (unsigned round = 0; round < 60; round++) {
		server_end(&servers[0], true);
		cr_assert_eq(next_event(&fixture), TENON_DEVICE_EVENT_GONE);
		cr_assert_eq(next_event(&fixture), TENON_DEVICE_EVENT_BACK);
		messages += fixture.host.log_count;
		fixture.host.log_count = 0;
	}
	cr_expect_leq(messages, 65);
	close_one(&fixture);
}

Test(vfio_user_failures, another_device_in_its_place_is_not_picked_up)
{
	struct fixture fixture;
	open_reconnecting(&fixture, NULL);
	server_end(&servers[0], true);
	struct testdev *device = servers[0].device;
	close(servers[0].stop);
	servers[0].device = NULL;
	expect_gone(&fixture);
	server_start(&servers[0], &(struct testdev_options){.no_mapping = true});
	for (unsigned i = 0; i < 20; i++) {
		cr_expect_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_NONE);
		usleep(1000);
	}
	cr_expect(host_logged(&fixture.host, "another device"));
	cr_expect_eq(guest_config(&fixture, PCI_VENDOR_ID, 4), UINT32_MAX);
	close_one(&fixture);
	testdev_destroy(device);
}

Test(vfio_user_failures, a_server_that_fails_while_it_comes_back_is_tried_again)
{
	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		static const char *const faults[] = {"disconnect", "error=5", "wrong-id"};
		for (unsigned fault = 0; fault < 3; fault++) {
			struct fixture fixture;
			fake_world_reset();
			open_reconnecting(&fixture, NULL);
			server_end(&servers[0], true);
			struct testdev *device = servers[0].device;
			servers[0].device = NULL;
			expect_gone(&fixture);
			servers[0].device = device;
			add_fault(&device->options, "%s@%s", faults[fault], commands[i]);
			for (unsigned round = 0; round < 20; round++) {
				tenon_device_next_event(fixture.device);
				usleep(500);
			}
			cr_expect(strcmp(commands[i], "region-io-fds") == 0 ||
					  guest_config(&fixture, PCI_VENDOR_ID, 4) == UINT32_MAX,
				  "%s@%s", faults[fault], commands[i]);
			server_end(&servers[0], true);
			device->options.fault_count = 0;
			for (unsigned round = 0; round < 2000; round++) {
				tenon_device_next_event(fixture.device);
				if (guest_config(&fixture, PCI_VENDOR_ID, 4) != UINT32_MAX)
					break;
				usleep(1000);
			}
			place(&fixture);
			cr_expect_eq(reg(&fixture, TD_ID), TD_ID_VALUE, "%s@%s", faults[fault], commands[i]);
			close_one(&fixture);
		}
	}
}

/* ---- Kernel calls ---- */

/* Opens, is used, dies, comes back and is closed. @return failures that a function returned */
static unsigned live(unsigned failing, int error)
{
	static unsigned msix;
	struct fixture fixture;
	unsigned reported = 0;
	fake_world_reset();
	fake_fail_call(failing, error);
	server_start(&servers[0], NULL);
	space_init(&fixture, 1, true);
	struct tenon_device_options options = options_for(&fixture, 0);
	options.reconnect = true;
	int code = try_open(&fixture, &options);
	if (code < 0) {
		assert_message(&fixture.err, code);
		reported++;
	} else {
		place(&fixture);
		set_reg64(&fixture, TD_MSIX_TABLE, MESSAGE_ADDRESS);
		set_reg64(&fixture, TD_MSIX_TABLE + 8, 0x44);
		if (!failing)
			msix = guest_capability(&fixture, PCI_CAP_ID_MSIX);
		guest_config_write(&fixture, msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
		set_reg(&fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, 0));
		host_loop(&fixture.host);
		server_end(&servers[0], true);
		for (unsigned i = 0; i < 20; i++)
			tenon_device_next_event(fixture.device);
	}
	reported += fixture.host.log_count > 0;
	fixture_close(&fixture);
	server_finish(&servers[0]);
	return reported;
}

Test(vfio_user_failures, each_kernel_call_may_fail_and_leaves_nothing)
{
	live(0, 0);
	unsigned calls = fake_calls_total();
	cr_assert_gt(calls, 50);
	for (unsigned n = 1; n <= calls; n++) {
		live(n, n % 2 ? EMFILE : ENOMEM);
	}
}

Test(vfio_user_failures, each_operation_of_the_vmm_may_fail_and_leaves_nothing)
{
	live(0, 0);
	for (enum host_op op = 0; op < HOST_OPS; op++) {
		/* What cannot be taken from a guest stays mapped, which errors_test.c looks at. */
		if (op == HOST_MEMORY_UNMAP)
			continue;
		unsigned failed = 0;
		do {
			failed++;
			host_fail_any(op, failed, ENOSPC);
			cr_expect(live(0, 0) > 0 || op == HOST_INTX_LEVEL, "operation %d", (int)op);
		} while (host_fail_any(op, 0, 0));
		cr_expect(failed > 1 || op == HOST_FILE_ADD || op == HOST_INTX_LEVEL, "operation %d", (int)op);
	}
}
