// SPDX-License-Identifier: MIT
/*
 * The test device's migration: its states against VFIO's contract, what it does and does not do in each, the stream from one
 * device to another, and streams that are no device's.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "saved_registers.h"
#include "testdev_client.h"

#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX
#define TARGET (RAM_ADDRESS + 0x210000)

enum {
	ERROR = VU_STATE_ERROR,
	STOP = VU_STATE_STOP,
	RUNNING = VU_STATE_RUNNING,
	STOP_COPY = VU_STATE_STOP_COPY,
	RESUMING = VU_STATE_RESUMING,
	RUNNING_P2P = VU_STATE_RUNNING_P2P,
	PRE_COPY = VU_STATE_PRE_COPY,
	PRE_COPY_P2P = VU_STATE_PRE_COPY_P2P,
};

static struct client client;
static uint8_t stream[4u << 20];
static size_t stream_bytes;

static void open_enabled(void)
{
	client_open(&client, NULL);
	client_enable(&client);
	stream_bytes = 0;
}

static void close_client(void)
{
	client_close(&client);
}

static void reopen(const struct testdev_options *options)
{
	client_close(&client);
	client_open(&client, options);
	client_enable(&client);
}

TestSuite(testdev_migration, .init = open_enabled, .fini = close_client, .timeout = 60);

static void go(uint32_t state)
{
	cr_assert_eq(client_set_state(&client, state), 0, "to %s", migration_state_name(state));
	cr_assert_eq(client_state(&client), state);
}

/* ---- The way between two states ---- */

/* The states from `from` to `to`, as one digit each. */
static const char *way(uint64_t flags, uint32_t from, uint32_t to)
{
	static char digits[2 * VU_STATES];
	unsigned count = 0;
	while (from != to && count < sizeof(digits) - 1) {
		from = migration_next(flags, from, to);
		if (from == ERROR)
			return "none";
		digits[count++] = (char)('0' + from);
	}
	digits[count] = '\0';
	return digits;
}

/* By hand from <linux/vfio.h>: its arcs and its two rules. */
Test(testdev_migration, ways_are_vfio_s)
{
	const uint64_t all = VU_MIGRATION_STOP_COPY | VU_MIGRATION_P2P | VU_MIGRATION_PRE_COPY;
	static const struct {
		uint32_t from, to;
		const char *way;
	} cases[] = {
		{RUNNING, STOP, "51"},
		{RUNNING, STOP_COPY, "513"},
		{RUNNING, RESUMING, "514"},
		{RUNNING, RUNNING_P2P, "5"},
		{RUNNING, PRE_COPY, "6"},
		{RUNNING, PRE_COPY_P2P, "57"},
		{STOP, RUNNING, "52"},
		{STOP, STOP_COPY, "3"},
		{STOP, RESUMING, "4"},
		{STOP, RUNNING_P2P, "5"},
		{STOP, PRE_COPY, "526"},
		{STOP, PRE_COPY_P2P, "57"},
		{STOP_COPY, STOP, "1"},
		{STOP_COPY, RUNNING, "152"},
		{STOP_COPY, RESUMING, "14"},
		{STOP_COPY, PRE_COPY, "none"},
		{STOP_COPY, PRE_COPY_P2P, "none"},
		{STOP_COPY, RUNNING_P2P, "15"},
		{RESUMING, STOP, "1"},
		{RESUMING, RUNNING, "152"},
		{RESUMING, STOP_COPY, "13"},
		{RESUMING, PRE_COPY, "1526"},
		{RESUMING, PRE_COPY_P2P, "157"},
		{RESUMING, RUNNING_P2P, "15"},
		{RUNNING_P2P, RUNNING, "2"},
		{RUNNING_P2P, STOP, "1"},
		{RUNNING_P2P, STOP_COPY, "13"},
		{RUNNING_P2P, RESUMING, "14"},
		{RUNNING_P2P, PRE_COPY, "26"},
		{RUNNING_P2P, PRE_COPY_P2P, "7"},
		{PRE_COPY, RUNNING, "2"},
		{PRE_COPY, PRE_COPY_P2P, "7"},
		{PRE_COPY, STOP_COPY, "73"},
		{PRE_COPY, STOP, "251"},
		{PRE_COPY, RUNNING_P2P, "25"},
		{PRE_COPY, RESUMING, "2514"},
		{PRE_COPY_P2P, RUNNING_P2P, "5"},
		{PRE_COPY_P2P, PRE_COPY, "6"},
		{PRE_COPY_P2P, STOP_COPY, "3"},
		{PRE_COPY_P2P, RUNNING, "52"},
		{PRE_COPY_P2P, STOP, "51"},
		{PRE_COPY_P2P, RESUMING, "514"},
		{RUNNING, ERROR, "none"},
		{ERROR, RUNNING, "none"},
		{RUNNING, 8, "none"},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_str_eq(way(all, cases[i].from, cases[i].to), cases[i].way, "%s to %s: %s, not %s",
				 migration_state_name(cases[i].from), migration_state_name(cases[i].to),
				 way(all, cases[i].from, cases[i].to), cases[i].way);
}

Test(testdev_migration, ways_without_the_states_for_peers_leave_them_out)
{
	const uint64_t flags = VU_MIGRATION_STOP_COPY | VU_MIGRATION_PRE_COPY;
	cr_expect_str_eq(way(flags, RUNNING, STOP), "1");
	cr_expect_str_eq(way(flags, STOP, RUNNING), "2");
	cr_expect_str_eq(way(flags, PRE_COPY, STOP_COPY), "3");
	cr_expect_str_eq(way(flags, PRE_COPY, STOP), "21");
	cr_expect_str_eq(way(flags, RUNNING, STOP_COPY), "13");
	cr_expect_str_eq(way(flags, RUNNING, RUNNING_P2P), "none");
	cr_expect_str_eq(way(VU_MIGRATION_STOP_COPY, RUNNING, PRE_COPY), "none");
	cr_expect_str_eq(way(VU_MIGRATION_STOP_COPY | VU_MIGRATION_P2P, RUNNING, PRE_COPY_P2P), "none");
	cr_expect_str_eq(way(VU_MIGRATION_STOP_COPY | VU_MIGRATION_P2P, RUNNING, STOP_COPY), "513");
}

Test(testdev_migration, flags_say_what_the_device_has)
{
	static const struct {
		struct testdev_options options;
		uint64_t flags;
	} cases[] = {{{0}, 7},
		     {{.no_p2p = true}, 5},
		     {{.no_pre_copy = true}, 3},
		     {{.no_p2p = true, .no_pre_copy = true}, 1}};
	for (unsigned i = 0; i < 4; i++) {
		uint64_t flags;
		const struct vu_feature head = {.argsz = 64, .flags = VU_FEATURE_GET | VU_FEATURE_MIGRATION};
		reopen(&cases[i].options);
		cr_assert_eq(client_call(&client, VU_FEATURE, &head, sizeof(head)), 0);
		memcpy(&flags, answer.payload + sizeof(head), sizeof(flags));
		cr_expect_eq(flags, cases[i].flags);
	}
}

Test(testdev_migration, state_that_cannot_follow_is_refused_recorded_and_changes_nothing)
{
	go(STOP_COPY);
	cr_expect_eq(client_set_state(&client, PRE_COPY), -EINVAL);
	cr_expect_eq(client_set_state(&client, ERROR), -EINVAL);
	cr_expect_eq(client_set_state(&client, 77), -EINVAL);
	cr_expect_eq(client_set_state(&client, UINT32_MAX), -EINVAL);
	cr_expect_eq(client_state(&client), STOP_COPY);
	cr_expect_eq(client_violations(&client, TD_BAD_TRANSITION), 4);
}

Test(testdev_migration, reset_leads_back_to_running_from_everywhere)
{
	static const uint32_t states[] = {STOP, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P};
	for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		go(states[i]);
		cr_assert_eq(client_call(&client, VU_RESET, NULL, 0), 0);
		cr_expect_eq(client_state(&client), RUNNING);
	}
}

/* ---- The contract in each state ---- */

Test(testdev_migration, bar_access_while_stopped_or_quiescent_is_recorded_and_does_nothing)
{
	static const uint32_t states[] = {STOP, STOP_COPY, RUNNING_P2P, PRE_COPY_P2P, RESUMING};
	set_reg(&client, TD_SCRATCH, 1);
	for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if (states[i] == RESUMING)
			cr_assert_eq(client_set_state(&client, STOP), 0);
		go(states[i]);
		set_reg(&client, TD_SCRATCH, 99);
		cr_expect_eq(reg(&client, TD_SCRATCH), 0xffffffff, "in %s", migration_state_name(states[i]));
		cr_expect_eq(client_violations(&client, TD_BAD_STOPPED_ACCESS), 2 * (i + 1));
		if (states[i] != RESUMING)
			go(RUNNING);
	}
	cr_expect_eq(client.device->scratch[0], 1);
}

Test(testdev_migration, bar_access_is_allowed_while_it_runs_and_copies)
{
	go(PRE_COPY);
	cr_expect_eq(reg(&client, TD_STATE), PRE_COPY);
	cr_expect_eq(client_violations(&client, TD_BAD_STOPPED_ACCESS), 0);
}

Test(testdev_migration, config_space_and_msix_table_answer_in_every_state)
{
	go(STOP);
	cr_expect_eq(client_read(&client, CONFIG, 0, 2), TD_VENDOR_ID);
	cr_expect_eq(client_read(&client, TD_BAR_REGISTERS, TD_MSIX_TABLE + 12, 4), 1);
	client_write(&client, CONFIG, PCI_COMMAND, 7, 2);
	cr_expect_eq(client_violations(&client, TD_BAD_STOPPED_ACCESS), 0);
}

Test(testdev_migration, function_level_reset_while_stopped_is_recorded_and_not_done)
{
	set_reg(&client, TD_SCRATCH, 1);
	go(STOP);
	client_write(&client, CONFIG, 0x80 + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, 2);
	cr_expect_eq(client_violations(&client, TD_BAD_STOPPED_RESET), 1);
	cr_expect_eq(client.device->scratch[0], 1);
	cr_expect_eq(client.device->resets_flr, 0);
}

static uint8_t *map_memory(void)
{
	const struct vu_region_info info = {.argsz = 256, .index = TD_BAR_MEMORY};
	cr_assert_eq(client_call(&client, VU_GET_REGION_INFO, &info, sizeof(info)), 0);
	uint8_t *mapped = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, answer.fds[0], 0);
	cr_assert_neq(mapped, MAP_FAILED);
	return mapped;
}

Test(testdev_migration, mapped_memory_that_changes_while_stopped_is_recorded)
{
	uint8_t *memory = map_memory();
	go(STOP);
	go(RUNNING);
	cr_expect_eq(client_violations(&client, TD_BAD_STOPPED_MEMORY), 0);
	memory[5] = 1;
	go(STOP);
	memory[5] = 2;
	go(RUNNING);
	cr_expect_eq(client_violations(&client, TD_BAD_STOPPED_MEMORY), 1);
	munmap(memory, 0x1000);
}

Test(testdev_migration, memory_that_a_peer_changes_while_quiescent_is_no_breach)
{
	uint8_t *memory = map_memory();
	go(RUNNING_P2P);
	memory[5] = 2;
	go(RUNNING);
	cr_expect_eq(client_violations(&client, TD_BAD_STOPPED_MEMORY), 0);
	munmap(memory, 0x1000);
}

Test(testdev_migration, doorbell_while_stopped_is_recorded_and_one_before_it_counts)
{
	const struct vu_region_io_fds request = {.argsz = 1024};
	const uint64_t one = 1;
	cr_assert_eq(client_call(&client, VU_GET_REGION_IO_FDS, &request, sizeof(request)), 0);
	int bell = dup(answer.fds[3]);
	cr_assert_eq(write(bell, &one, sizeof(one)), sizeof(one));
	go(STOP);
	cr_expect_eq(client.device->doorbells.counts[3], 1);
	cr_assert_eq(write(bell, &one, sizeof(one)), sizeof(one));
	while (client_violations(&client, TD_BAD_STOPPED_ACCESS) == 0)
		;
	cr_expect_eq(client.device->doorbells.counts[3], 1);
	close(bell);
}

static void start_copy(uint32_t length)
{
	client_descriptor(&client, 0, 0x5a5a5a5a5a5a5a5a, TARGET, length, TD_DESC_FILL);
	set_reg64(&client, TD_LIST_ADDRESS, RAM_ADDRESS);
	set_reg(&client, TD_LIST_COUNT, 1);
	set_reg(&client, TD_CONTROL, TD_CONTROL_START);
}

/* The device's requests come by messages, so the test sees each DMA. */
Test(testdev_migration, no_dma_starts_in_a_quiescent_state_and_the_engine_goes_on_after_it)
{
	static const uint32_t states[] = {RUNNING_P2P, STOP, STOP_COPY, PRE_COPY_P2P};
	client_map_ram(&client, false);
	for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		memset(client.ram, 0, RAM_BYTES);
		start_copy(0x100000);
		go(states[i]);
		unsigned writes = client.dma_writes, reads = client.dma_reads;
		for (unsigned j = 0; j < 50; j++)
			cr_assert(client_alive(&client));
		cr_expect_eq(client.dma_writes, writes, "in %s", migration_state_name(states[i]));
		cr_expect_eq(client.dma_reads, reads);
		go(RUNNING);
		while (reg(&client, TD_STATUS) & TD_STATUS_BUSY)
			;
		cr_expect_eq(reg(&client, TD_STATUS), TD_STATUS_DONE);
		cr_expect_eq(client.ram[0x210000 + 0xfffff], 0x5a);
	}
	cr_expect_eq(client_violations(&client, TD_BAD_MESSAGE), 0);
}

Test(testdev_migration, state_change_waits_for_the_dma_under_way)
{
	client_map_ram(&client, false);
	start_copy(0x1000);
	struct vu_header request;
	uint8_t payload[16];
	cr_assert_eq(read(client.fd, &request, sizeof(request)), sizeof(request));
	cr_assert_eq(read(client.fd, payload, sizeof(payload)), sizeof(payload));
	const struct {
		struct vu_feature feature;
		struct vu_state state;
	} set = {{.argsz = sizeof(set), .flags = VU_FEATURE_SET | VU_FEATURE_STATE}, {.state = STOP}};
	uint16_t id = client_post(&client, VU_FEATURE, 0, &set, sizeof(set), NULL, 0);
	struct {
		struct vu_header header;
		uint8_t access[16];
		uint8_t data[TD_DESC_BYTES];
	} reply = {.header = request};
	memcpy(reply.access, payload, sizeof(payload));
	memcpy(reply.data, client.ram, TD_DESC_BYTES);
	reply.header.flags = VU_TYPE_REPLY;
	reply.header.bytes = sizeof(reply);
	client_send(&client, &reply, sizeof(reply), NULL, 0);
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_eq(answer.header.id, id);
	cr_expect_eq(client.dma_writes, 0, "what was fetched is not yet acted on");
	go(RUNNING);
	while (reg(&client, TD_STATUS) & TD_STATUS_BUSY)
		;
	cr_expect_eq(client.dma_writes, 1);
}

Test(testdev_migration, load_rests_while_stopped)
{
	client_map_ram(&client, true);
	set_reg64(&client, TD_LOAD_ADDRESS, TARGET);
	set_reg(&client, TD_LOAD_PAGES, 16);
	set_reg(&client, TD_LOAD_RATE, 100000);
	while (reg64(&client, TD_LOAD_WRITTEN) == 0)
		;
	go(STOP);
	uint64_t written = client.device->load.written;
	for (unsigned i = 0; i < 100; i++)
		cr_assert(client_alive(&client));
	cr_expect_eq(client.device->load.written, written);
	go(RUNNING);
	while (reg64(&client, TD_LOAD_WRITTEN) == written)
		;
}

Test(testdev_migration, no_interrupt_leaves_a_stopped_device)
{
	/* INTx is up and masked; unmasking it while the device is stopped must not signal. */
	int fd = eventfd_new();
	const struct vu_irq_set unmask = {
		.argsz = sizeof(unmask), .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, .count = 1};
	cr_assert_eq(client_arm(&client, VFIO_PCI_INTX_IRQ_INDEX, 0, &fd, 1), 0);
	set_reg(&client, TD_IRQ_LINE, 1);
	cr_expect_eq(client_wait_eventfd(fd), 1);
	go(STOP);
	cr_assert_eq(client_call(&client, VU_SET_IRQS, &unmask, sizeof(unmask)), 0);
	cr_expect_eq(eventfd_take(fd), 0);
	go(RUNNING);
	cr_expect_eq(client_wait_eventfd(fd), 1, "it comes when the device runs again");
	close(fd);
}

/* ---- The stream ---- */

/* Reads until there is no more, in requests of this size. */
static void save(uint32_t piece)
{
	for (;;) {
		struct vu_mig_data data = {.argsz = (uint32_t)sizeof(data) + piece, .bytes = piece};
		cr_assert_eq(client_call(&client, VU_MIG_DATA_READ, &data, sizeof(data)), 0);
		memcpy(&data, answer.payload, sizeof(data));
		cr_assert_eq(answer.bytes, sizeof(data) + data.bytes);
		cr_assert_eq(data.argsz, answer.bytes);
		cr_assert(stream_bytes + data.bytes <= sizeof(stream));
		memcpy(stream + stream_bytes, answer.payload + sizeof(data), data.bytes);
		stream_bytes += data.bytes;
		if (data.bytes < piece)
			return;
	}
}

static int load(const uint8_t *bytes, size_t count, size_t piece)
{
	static uint8_t payload[REPLY_BYTES_MAX];
	int code = 0;
	for (size_t done = 0; done < count && code == 0; done += piece) {
		size_t now = count - done < piece ? count - done : piece;
		const struct vu_mig_data data = {.argsz = (uint32_t)(sizeof(data) + now), .bytes = (uint32_t)now};
		memcpy(payload, &data, sizeof(data));
		memcpy(payload + sizeof(data), bytes + done, now);
		code = client_call(&client, VU_MIG_DATA_WRITE, payload, sizeof(data) + now);
	}
	return code;
}

/* The source ends, a destination of the same kind begins. */
static void move_to_destination(const struct testdev_options *options, size_t piece)
{
	client_close(&client);
	client_open(&client, options);
	go(RESUMING);
	cr_assert_eq(load(stream, stream_bytes, piece), 0);
	go(RUNNING);
}

static void change_everything(void)
{
	set_reg64(&client, TD_SCRATCH, 0x1122334455667788);
	client_write(&client, TD_BAR_MEMORY, 0x12345, 0xa5, 1);
	client_write(&client, TD_BAR_PAGE, 0x777, 0x5a, 1);
	client_write(&client, CONFIG, PCI_BASE_ADDRESS_0, 0xc0000000, 4);
	client_write(&client, TD_BAR_PORTS, TD_PORT_SCRATCH, 0xdeadbeef, 4);
	client_write(&client, TD_BAR_REGISTERS, TD_MSIX_TABLE, 0xfee01000, 4);
	client_write(&client, TD_BAR_REGISTERS, TD_DOORBELL(9), 1, 4);
	set_reg(&client, TD_BLOCK_CHANGE, 10);
	set_reg(&client, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, 33));
}

static void expect_everything(uint32_t block_checksum)
{
	cr_expect_eq(reg64(&client, TD_SCRATCH), 0x1122334455667788);
	cr_expect_eq(client_read(&client, TD_BAR_MEMORY, 0x12345, 1), 0xa5);
	cr_expect_eq(client_read(&client, TD_BAR_PAGE, 0x777, 1), 0x5a);
	cr_expect_eq(client_read(&client, CONFIG, PCI_BASE_ADDRESS_0, 4), 0xc0000004);
	cr_expect_eq(client_read(&client, TD_BAR_PORTS, TD_PORT_SCRATCH, 4), 0xdeadbeef);
	cr_expect_eq(client_read(&client, TD_BAR_REGISTERS, TD_MSIX_TABLE, 4), 0xfee01000);
	cr_expect_eq(reg(&client, TD_DOORBELLS + 4 * 9), 1);
	cr_expect_eq(reg(&client, TD_BLOCK_CHECKSUM), block_checksum);
	cr_expect_eq(reg64(&client, TD_MSIX_PBA), 1ull << 33);
}

Test(testdev_migration, device_that_is_stopped_and_copied_arrives)
{
	change_everything();
	uint32_t sum = reg(&client, TD_BLOCK_CHECKSUM);
	go(STOP_COPY);
	save(65536);
	move_to_destination(NULL, 65536);
	expect_everything(sum);
	cr_expect_eq(reg(&client, TD_VIOLATIONS), 0);
}

Test(testdev_migration, pieces_may_be_of_any_size)
{
	change_everything();
	uint32_t sum = reg(&client, TD_BLOCK_CHECKSUM);
	go(STOP_COPY);
	save(4097);
	move_to_destination(NULL, 1013);
	expect_everything(sum);
}

Test(testdev_migration, device_that_changes_while_it_is_copied_arrives)
{
	change_everything();
	go(PRE_COPY);
	save(65536);
	size_t first = stream_bytes;
	save(65536);
	cr_expect_eq(stream_bytes, first, "nothing has changed");
	set_reg(&client, TD_BLOCK_CHANGE, 3);
	set_reg(&client, TD_SCRATCH2, 8);
	save(65536);
	cr_expect_eq(stream_bytes, first + 3 * (sizeof(struct stream_record) + BLOCK_CHUNK_BYTES));
	set_reg(&client, TD_BLOCK_CHANGE, 3);
	uint32_t sum = reg(&client, TD_BLOCK_CHECKSUM);
	go(STOP_COPY);
	save(65536);
	move_to_destination(NULL, 65536);
	expect_everything(sum);
	cr_expect_eq(reg(&client, TD_SCRATCH2), 8);
}

Test(testdev_migration, size_of_the_state_and_its_rate_of_change_can_be_set)
{
	const struct testdev_options options = {.block_bytes = 1u << 20, .block_rate = 100};
	reopen(&options);
	cr_expect_eq(reg64(&client, TD_BLOCK_BYTES), 1u << 20);
	go(PRE_COPY);
	save(65536);
	size_t first = stream_bytes;
	cr_expect_gt(first, 1u << 20);
	while (stream_bytes == first) /* it changes by itself */
		save(65536);
	go(STOP_COPY);
	save(1u << 20);
	move_to_destination(&options, 65536);
	cr_expect_eq(reg64(&client, TD_BLOCK_BYTES), 1u << 20);
}

Test(testdev_migration, estimate_is_what_a_stopped_device_then_sends)
{
	uint64_t estimate;
	const struct vu_feature head = {.argsz = 64, .flags = VU_FEATURE_GET | VU_FEATURE_STATE_BYTES};
	cr_assert_eq(client_call(&client, VU_FEATURE, &head, sizeof(head)), 0);
	memcpy(&estimate, answer.payload + sizeof(head), sizeof(estimate));
	go(STOP_COPY);
	save(65536);
	cr_expect_geq(estimate, stream_bytes);
	cr_expect_leq(estimate, stream_bytes + 256);
}

Test(testdev_migration, copy_engine_and_load_go_on_at_the_destination)
{
	client_map_ram(&client, false);
	set_reg64(&client, TD_LOAD_ADDRESS, RAM_ADDRESS + 0x100000);
	set_reg(&client, TD_LOAD_PAGES, 32);
	set_reg(&client, TD_LOAD_STEP, 40);
	while (reg64(&client, TD_LOAD_WRITTEN) < 40)
		;
	start_copy(0x180000);
	while (reg64(&client, TD_COPIED_BYTES) == 0)
		;
	go(STOP_COPY);
	uint64_t done = client.device->engine.moved_bytes;
	cr_assert(done < 0x180000, "the list is not over");
	save(65536);

	/* The same memory at the destination: its pages have arrived. */
	static uint8_t arrived[RAM_BYTES];
	memcpy(arrived, client.ram, RAM_BYTES);
	client_close(&client);
	client_open(&client, NULL);
	memcpy(client.ram, arrived, RAM_BYTES);
	client_map_ram(&client, true);
	go(RESUMING);
	cr_assert_eq(load(stream, stream_bytes, 65536), 0);
	go(RUNNING);
	while (reg(&client, TD_STATUS) & TD_STATUS_BUSY)
		;
	cr_expect_eq(reg(&client, TD_STATUS), TD_STATUS_DONE);
	cr_expect_eq(reg64(&client, TD_COPIED_BYTES), 0x180000);
	cr_expect_eq(reg(&client, TD_CHECKSUM), checksum(0, client.ram + 0x210000, 0x180000));
	cr_expect_eq(client.ram[0x210000 + 0x17ffff], 0x5a);
	cr_expect_eq(reg64(&client, TD_LOAD_WRITTEN), 40);
	for (unsigned page = 0; page < 32; page++) {
		uint64_t sequence;
		set_reg(&client, TD_LOAD_PAGE, page);
		memcpy(&sequence, client.ram + 0x100000 + page * 4096 + 16, sizeof(sequence));
		cr_expect_eq(reg(&client, TD_LOAD_SEQUENCE), sequence, "page %u", page);
	}
}

Test(testdev_migration, line_that_was_up_is_up_at_the_destination)
{
	set_reg(&client, TD_IRQ_LINE, 1);
	go(STOP_COPY);
	save(65536);
	client_close(&client);
	client_open(&client, NULL);
	int fd = eventfd_new();
	go(RESUMING);
	cr_assert_eq(load(stream, stream_bytes, 65536), 0);
	go(STOP);
	cr_assert_eq(client_arm(&client, VFIO_PCI_INTX_IRQ_INDEX, 0, &fd, 1), 0);
	cr_expect_eq(eventfd_take(fd), 0, "not before it runs");
	go(RUNNING);
	cr_expect_eq(client_wait_eventfd(fd), 1);
	close(fd);
}

Test(testdev_migration, copying_that_is_given_up_leaves_a_device_that_runs)
{
	go(PRE_COPY);
	save(65536);
	go(RUNNING);
	set_reg(&client, TD_SCRATCH, 3);
	stream_bytes = 0;
	go(STOP_COPY);
	save(65536);
	move_to_destination(NULL, 65536);
	cr_expect_eq(reg(&client, TD_SCRATCH), 3, "the second session is whole");
}

Test(testdev_migration, data_moves_in_its_states_alone)
{
	const struct vu_mig_data data = {.argsz = sizeof(data) + 64, .bytes = 64};
	uint8_t write[sizeof(data) + 64] = {0};
	memcpy(write, &data, sizeof(data));
	static const uint32_t states[] = {RUNNING, STOP, RESUMING, PRE_COPY, STOP_COPY};
	for (unsigned i = 0; i < 5; i++) {
		if (states[i] != RUNNING)
			go(states[i]);
		bool saves = states[i] == PRE_COPY || states[i] == STOP_COPY;
		cr_expect_eq(client_call(&client, VU_MIG_DATA_READ, &data, sizeof(data)), saves ? 0 : -EINVAL);
		cr_expect_eq(client_call(&client, VU_MIG_DATA_WRITE, write, sizeof(write)),
			     states[i] == RESUMING ? -EBADMSG : -EINVAL);
		if (states[i] == RESUMING)
			cr_assert_eq(client_call(&client, VU_RESET, NULL, 0), 0);
	}
}

Test(testdev_migration, data_messages_with_wrong_sizes_are_refused)
{
	static const struct vu_mig_data reads[] = {{.argsz = 8, .bytes = 1},
						   {.argsz = 64, .bytes = 57},
						   {.argsz = UINT32_MAX, .bytes = UINT32_MAX - 4},
						   {.argsz = UINT32_MAX, .bytes = VU_DEFAULT_DATA_BYTES + 1},
						   {.argsz = 64, .bytes = 0}};
	go(STOP_COPY);
	for (unsigned i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
		cr_expect_eq(client_call(&client, VU_MIG_DATA_READ, &reads[i], sizeof(reads[i])), -EINVAL, "case %u",
			     i);
	cr_expect_eq(client_call(&client, VU_MIG_DATA_READ, &reads[0], 7), -EINVAL);
	cr_expect_eq(client_set_state(&client, RESUMING), 0);
	struct {
		struct vu_mig_data data;
		uint8_t bytes[8];
	} write = {{.argsz = 16, .bytes = 9}, {0}};
	cr_expect_eq(client_call(&client, VU_MIG_DATA_WRITE, &write, sizeof(write)), -EINVAL);
	write.data.bytes = 7;
	cr_expect_eq(client_call(&client, VU_MIG_DATA_WRITE, &write, sizeof(write)), -EINVAL);
	write.data.bytes = UINT32_MAX;
	cr_expect_eq(client_call(&client, VU_MIG_DATA_WRITE, &write, sizeof(write)), -EINVAL);
}

/* ---- Streams that are no device's ---- */

static void get_stream(void)
{
	change_everything();
	go(STOP_COPY);
	save(65536);
	cr_assert_eq(client_call(&client, VU_RESET, NULL, 0), 0);
}

/* The stream as it is now must not be taken. */
static void expect_refused(const char *what)
{
	go(RESUMING);
	load(stream, stream_bytes, 65536);
	cr_expect_eq(client_set_state(&client, RUNNING), -EBADMSG, "%s", what);
	cr_expect_eq(client_state(&client), ERROR, "%s", what);
	cr_expect_eq(client_set_state(&client, RUNNING), -EINVAL, "ERROR is left by reset alone");
	cr_assert_eq(client_call(&client, VU_RESET, NULL, 0), 0);
	cr_expect_eq(client_state(&client), RUNNING);
}

Test(testdev_migration, nothing_at_all_is_refused)
{
	expect_refused("no stream");
}

Test(testdev_migration, stream_that_ends_early_is_refused)
{
	get_stream();
	size_t whole = stream_bytes;
	static const size_t cuts[] = {1, 19, 20, 21, 4096, 100000};
	for (unsigned i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		stream_bytes = whole - cuts[i];
		expect_refused("cut");
	}
}

Test(testdev_migration, stream_with_one_byte_changed_is_refused_wherever_it_is)
{
	get_stream();
	for (size_t at = 0; at < stream_bytes; at += at < 64 ? 1 : 70001) {
		stream[at] ^= 1;
		expect_refused("changed");
		stream[at] ^= 1;
	}
	go(RESUMING);
	cr_expect_eq(load(stream, stream_bytes, 65536), 0, "and as it was it is taken");
}

Test(testdev_migration, bytes_behind_the_end_are_refused)
{
	get_stream();
	stream_bytes += 16;
	expect_refused("too long");
}

Test(testdev_migration, state_of_another_size_is_refused)
{
	get_stream();
	reopen(&(struct testdev_options){.block_bytes = 8192});
	expect_refused("another size");
}

/* A record in front of the rest, with a head of the test's choice. */
Test(testdev_migration, records_that_make_no_sense_are_refused)
{
	static const struct stream_record heads[] = {
		{.type = 0, .bytes = 16},
		{.type = STREAM_END + 1, .bytes = 16},
		{.type = STREAM_BLOCK, .bytes = 0},
		{.type = STREAM_BLOCK, .bytes = STREAM_BODY_MAX + 1},
		{.type = STREAM_BLOCK, .bytes = UINT32_MAX},
		{.type = STREAM_BLOCK, .bytes = 16, .offset = 65536 - 15},
		{.type = STREAM_BLOCK, .bytes = 16, .offset = UINT64_MAX - 7},
		{.type = STREAM_MEMORY, .bytes = 16, .offset = TD_MEMORY_BYTES + TD_PAGE_BYTES},
		{.type = STREAM_LOAD, .bytes = 16, .offset = 1ull << 40},
		{.type = STREAM_CONFIG, .bytes = 16},
		{.type = STREAM_CONFIG, .bytes = 4096, .offset = 1},
		{.type = STREAM_REGISTERS, .bytes = sizeof(struct saved_registers) - 1},
		{.type = STREAM_REGISTERS, .bytes = sizeof(struct saved_registers), .offset = 8},
		{.type = STREAM_IDENTITY, .bytes = sizeof(struct stream_identity)},
		{.type = STREAM_END, .bytes = 8},
		{.type = STREAM_END, .bytes = 4},
	};
	get_stream();
	size_t first = sizeof(struct stream_record) + sizeof(struct stream_identity);
	for (unsigned i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		uint8_t bad[128 + 8192] = {0};
		memcpy(bad, stream, first);
		memcpy(bad + first, &heads[i], sizeof(heads[i]));
		go(RESUMING);
		cr_expect_eq(load(bad, sizeof(bad), sizeof(bad)), -EBADMSG, "head %u", i);
		cr_expect_eq(load(stream, 64, 64), -EBADMSG, "nothing more is taken");
		cr_assert_eq(client_call(&client, VU_RESET, NULL, 0), 0);
	}
	cr_expect_eq(client_violations(&client, TD_BAD_STREAM), sizeof(heads) / sizeof(heads[0]));
}

Test(testdev_migration, registers_that_no_device_has_are_refused)
{
	static const struct saved_registers bad[] = {
		{.copying = 1, .copy_count = 0},
		{.copying = 1, .copy_count = TD_LIST_MAX + 1},
		{.copying = 1, .copy_count = 4, .copy_index = 4},
		{.copying = 1, .copy_count = 4, .fetched = 1},
		{.copying = 1, .copy_count = 4, .fetched = 1, .length = 16, .copy_position = 16},
		{.copying = 1,
		 .copy_count = 4,
		 .fetched = 1,
		 .length = 16,
		 .source = TD_MEMORY_BYTES - 15,
		 .flags = TD_DESC_FROM_MEMORY},
	};
	get_stream();
	size_t first = sizeof(struct stream_record) + sizeof(struct stream_identity);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		static uint8_t bytes[256 + sizeof(bad[0])];
		const struct stream_record head = {.type = STREAM_REGISTERS, .bytes = sizeof(bad[0])};
		memcpy(bytes, stream, first);
		memcpy(bytes + first, &head, sizeof(head));
		memcpy(bytes + first + sizeof(head), &bad[i], sizeof(bad[i]));
		go(RESUMING);
		cr_expect_eq(load(bytes, first + sizeof(head) + sizeof(bad[i]), 4096), -EBADMSG, "registers %u", i);
		cr_assert_eq(client_call(&client, VU_RESET, NULL, 0), 0);
	}
}
