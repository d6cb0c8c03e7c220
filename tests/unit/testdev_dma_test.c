// SPDX-License-Identifier: MIT
/* The test device's DMA: windows with and without files, the copy engine, the load, the log of writes, hostile clients. */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "testdev_client.h"

#define RW (VU_DMA_READABLE | VU_DMA_WRITEABLE)

#define SOURCE (RAM_ADDRESS + 0x10000)
#define TARGET (RAM_ADDRESS + 0x210000)

static struct client client;

static void open_enabled(void)
{
	client_open(&client, NULL);
	client_enable(&client);
}

static void close_client(void)
{
	client_close(&client);
}

TestSuite(testdev_dma, .init = open_enabled, .fini = close_client, .timeout = 60);

static void reopen(const struct testdev_options *options, const char *capabilities)
{
	client_close(&client);
	client_start(&client, options);
	cr_assert_eq(client_greet(&client, capabilities), 0);
	client_enable(&client);
}

static uint8_t *ram(uint64_t address)
{
	return client.ram + (address - RAM_ADDRESS);
}

static void fill_source(size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		ram(SOURCE)[i] = (uint8_t)(i * 7 + (i >> 8));
}

static void expect_copied(uint32_t length, uint32_t status)
{
	cr_expect_eq(status, TD_STATUS_DONE, "status 0x%x", status);
	cr_expect_eq(memcmp(ram(SOURCE), ram(TARGET), length), 0);
	cr_expect_eq(reg64(&client, TD_COPIED_BYTES), length);
	cr_expect_eq(reg(&client, TD_CHECKSUM), checksum(0, ram(SOURCE), length));
}

/* ---- Windows ---- */

static int memory_file(size_t bytes)
{
	int fd = memfd_create("window", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

Test(testdev_dma, windows_that_make_no_sense_are_refused)
{
	int fd = memory_file(0x2000);
	static const struct {
		uint64_t address, bytes;
		uint32_t flags;
		bool file;
	} cases[] = {
		{0x1000, 0, RW, false},
		{UINT64_MAX - 0xfff, 0x2000, RW, false},
		{2, UINT64_MAX, RW, false},
		{0x1000, 0x1000, 0, false},
		{0x1000, 0x1000, RW | 1u << 7, false},
		{0x1000, 0x1000, RW | VU_DMA_MMAP, false},
		{0x1000, 0x1000, RW | VU_DMA_FILE_IO, false},
		{0x1000, 0x1000, RW | VU_DMA_FILE_IO | VU_DMA_MMAP, true},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_eq(client_map(&client, cases[i].address, cases[i].bytes, cases[i].flags,
					cases[i].file ? fd : -1, 0),
			     -EINVAL, "case %u", i);
	close(fd);
}

Test(testdev_dma, window_over_a_window_is_refused)
{
	cr_assert_eq(client_map(&client, 0x10000, 0x10000, RW, -1, 0), 0);
	cr_expect_eq(client_map(&client, 0x10000, 0x10000, RW, -1, 0), -EEXIST);
	cr_expect_eq(client_map(&client, 0x1f000, 0x10000, RW, -1, 0), -EEXIST);
	cr_expect_eq(client_map(&client, 0x8000, 0x8001, RW, -1, 0), -EEXIST);
	cr_expect_eq(client_map(&client, 0, UINT64_MAX, RW, -1, 0), -EEXIST);
	cr_expect_eq(client_map(&client, 0x20000, 0x1000, RW, -1, 0), 0);
	cr_expect_eq(client_map(&client, 0xf000, 0x1000, RW, -1, 0), 0);
}

Test(testdev_dma, window_at_the_end_of_the_address_space_works)
{
	cr_expect_eq(client_map(&client, UINT64_MAX - 0xfff, 0x1000, RW, -1, 0), 0);
	cr_expect_eq(client_unmap(&client, UINT64_MAX - 0xfff, 0x1000, 0), 0);
}

Test(testdev_dma, only_whole_windows_are_unmapped)
{
	cr_assert_eq(client_map(&client, 0x10000, 0x10000, RW, -1, 0), 0);
	cr_expect_eq(client_unmap(&client, 0x10000, 0x8000, 0), -ENOENT);
	cr_expect_eq(client_unmap(&client, 0x18000, 0x8000, 0), -ENOENT);
	cr_expect_eq(client_unmap(&client, 0, 0x10000, 0), -ENOENT);
	cr_expect_eq(client_unmap(&client, 0x10000, 0x10000, 0), 0);
	cr_expect_eq(answer.bytes, sizeof(struct vu_dma_unmap), "the request comes back");
	cr_expect_eq(client_unmap(&client, 0x10000, 0x10000, 0), -ENOENT);
}

Test(testdev_dma, everything_is_unmapped_at_once)
{
	client_map_ram(&client, true);
	cr_assert_eq(client_map(&client, 0x10000, 0x1000, RW, -1, 0), 0);
	cr_expect_eq(client_unmap(&client, 0x10000, 0x1000, VU_UNMAP_ALL), -EINVAL, "address and size must be zero");
	cr_assert_eq(client_unmap(&client, 0, 0, VU_UNMAP_ALL), 0);
	cr_expect_eq(client_unmap(&client, 0x10000, 0x1000, 0), -ENOENT);
	cr_expect_eq(client_unmap(&client, RAM_ADDRESS, RAM_BYTES, 0), -ENOENT);
}

Test(testdev_dma, unmap_with_wrong_numbers_is_refused)
{
	cr_assert_eq(client_map(&client, 0x10000, 0x1000, RW, -1, 0), 0);
	cr_expect_eq(client_unmap(&client, 0x10000, 0x1000, 1u << 5), -EINVAL);
	cr_expect_eq(client_unmap(&client, 0x10000, 0x1000, VU_UNMAP_ALL | VU_UNMAP_DIRTY_BITMAP), -EINVAL);
	const struct vu_dma_unmap small = {.argsz = 8, .address = 0x10000, .bytes = 0x1000};
	cr_expect_eq(client_call(&client, VU_DMA_UNMAP, &small, sizeof(small)), -EINVAL);
	for (size_t bytes = 0; bytes < sizeof(small); bytes++)
		cr_expect_eq(client_call(&client, VU_DMA_UNMAP, &small, bytes), -EINVAL, "%zu bytes", bytes);
	cr_expect_eq(client_unmap(&client, 0x10000, 0x1000, 0), 0);
}

Test(testdev_dma, file_that_cannot_be_mapped_is_refused_with_the_reason)
{
	int ends[2];
	cr_assert_eq(pipe(ends), 0);
	cr_expect_eq(client_map(&client, 0x10000, 0x1000, RW, ends[0], 0), -EACCES);
	close(ends[0]);
	close(ends[1]);
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	cr_expect_eq(client_map(&client, 0x10000, 0x1000, RW, fd, 0), -EACCES);
	cr_expect_eq(client_map(&client, 0x10000, 0x1000, VU_DMA_READABLE, fd, 0), 0);
	close(fd);
	cr_expect(client_alive(&client));
}

Test(testdev_dma, offsets_and_sizes_that_overflow_are_refused)
{
	int fd = memory_file(0x1000);
	cr_expect_neq(client_map(&client, 0x10000, 0x1000, RW, fd, UINT64_MAX - 0x7ff), 0);
	cr_expect_neq(client_map(&client, 0x10000, 0x1000, RW, fd, INT64_MAX), 0);
	cr_expect_neq(client_map(&client, 0, UINT64_MAX, RW, fd, 0), 0);
	close(fd);
	cr_expect(client_alive(&client));
}

Test(testdev_dma, two_files_for_one_window_are_refused)
{
	const struct vu_dma_map map = {.argsz = sizeof(map), .flags = RW, .address = 0x10000, .bytes = 0x1000};
	const int two[2] = {client.ram_fd, client.ram_fd};
	cr_expect_eq(client_call_fds(&client, VU_DMA_MAP, &map, sizeof(map), two, 2), -EINVAL);
}

Test(testdev_dma, number_of_windows_is_bounded)
{
	for (unsigned i = 0; i < DMA_MAPS_MAX; i++)
		cr_assert_eq(client_map(&client, (uint64_t)i * 0x2000, 0x1000, RW, -1, 0), 0);
	cr_expect_eq(client_map(&client, 1ull << 40, 0x1000, RW, -1, 0), -ENOSPC);
}

/* ---- The copy engine ---- */

static void copy_and_check(uint32_t length)
{
	fill_source(length);
	client_descriptor(&client, 0, SOURCE, TARGET, length, 0);
	expect_copied(length, client_run_list(&client, 1));
}

Test(testdev_dma, copies_in_shared_memory)
{
	client_map_ram(&client, true);
	copy_and_check(1);
	copy_and_check(4096);
	copy_and_check(0x1e0001);
	cr_expect_eq(reg(&client, TD_COPIES), 3);
	cr_expect_eq(reg(&client, TD_FEATURES) & TD_FEATURE_MESSAGES, 0);
}

Test(testdev_dma, copies_in_memory_that_is_not_shared)
{
	client_map_ram(&client, false);
	copy_and_check(200000);
	cr_expect_gt(client.dma_reads, 3, "in chunks");
	cr_expect_gt(client.dma_writes, 2);
	cr_expect(reg(&client, TD_FEATURES) & TD_FEATURE_MESSAGES);
	cr_expect_eq(client_violations(&client, TD_BAD_MESSAGE), 0);
}

Test(testdev_dma, copies_over_the_twin_socket)
{
	reopen(NULL, "{\"capabilities\":{\"max_msg_fds\":8,\"twin_socket\":{\"supported\":true}}}");
	client_map_ram(&client, false);
	copy_and_check(200000);
	cr_expect(reg(&client, TD_FEATURES) & TD_FEATURE_TWIN);
}

Test(testdev_dma, copies_in_a_file_that_is_not_mapped)
{
	cr_assert_eq(client_map(&client, RAM_ADDRESS, RAM_BYTES, RW | VU_DMA_FILE_IO, client.ram_fd, 0), 0);
	copy_and_check(100000);
	cr_expect_eq(client.dma_reads, 0);
}

Test(testdev_dma, requests_keep_to_the_client_s_largest_transfer)
{
	reopen(NULL, "{\"capabilities\":{\"max_data_xfer_size\":1000}}");
	client_map_ram(&client, false);
	copy_and_check(5000);
	cr_expect_geq(client.dma_reads, 5);
}

Test(testdev_dma, windows_may_start_inside_a_page_of_their_file)
{
	cr_assert_eq(client_map(&client, RAM_ADDRESS, RAM_BYTES - 0x1000, RW, client.ram_fd, 0x800), 0);
	const struct copy_descriptor descriptor = {.source = SOURCE, .target = TARGET, .length = 256, .flags = 0};
	memcpy(client.ram + 0x800, &descriptor, sizeof(descriptor));
	memset(ram(SOURCE) + 0x800, 0x3c, 256);
	cr_expect_eq(client_run_list(&client, 1), TD_STATUS_DONE);
	cr_expect_eq(ram(TARGET)[0x800], 0x3c);
	cr_expect_eq(ram(TARGET)[0x7ff], 0);
}

Test(testdev_dma, transfer_crosses_from_one_window_into_the_next)
{
	cr_assert_eq(client_map(&client, RAM_ADDRESS, 0x20000, RW, client.ram_fd, 0), 0);
	cr_assert_eq(client_map(&client, RAM_ADDRESS + 0x20000, RAM_BYTES - 0x20000, RW, -1, 0), 0);
	copy_and_check(0x20000);
	cr_expect_gt(client.dma_reads, 0, "the second half by messages");
}

Test(testdev_dma, scatter_list_gathers_fills_and_checks)
{
	client_map_ram(&client, true);
	fill_source(0x3000);
	client_descriptor(&client, 0, SOURCE + 0x1000, TARGET, 0x1000, 0);
	client_descriptor(&client, 1, SOURCE, TARGET + 0x1000, 0x1000, 0);
	client_descriptor(&client, 2, 0x8877665544332211, TARGET + 0x2000, 12, TD_DESC_FILL);
	client_descriptor(&client, 3, SOURCE, 0, 0x1000, TD_DESC_CHECK);
	cr_expect_eq(client_run_list(&client, 4), TD_STATUS_DONE);
	cr_expect_eq(memcmp(ram(TARGET), ram(SOURCE + 0x1000), 0x1000), 0);
	cr_expect_eq(memcmp(ram(TARGET + 0x1000), ram(SOURCE), 0x1000), 0);
	cr_expect_eq(memcmp(ram(TARGET + 0x2000), "\x11\x22\x33\x44\x55\x66\x77\x88\x11\x22\x33\x44\0", 13), 0);
	cr_expect_eq(reg(&client, TD_LIST_DONE), 4);
	uint32_t sum = checksum(checksum(0, ram(TARGET), 0x200c), ram(SOURCE), 0x1000);
	cr_expect_eq(reg(&client, TD_CHECKSUM), sum);
}

Test(testdev_dma, device_memory_is_source_and_target)
{
	client_map_ram(&client, true);
	fill_source(0x1000);
	client_descriptor(&client, 0, SOURCE, TD_MEMORY_BYTES - 0x1000, 0x1000, TD_DESC_TO_MEMORY);
	client_descriptor(&client, 1, TD_MEMORY_BYTES - 0x1000, TARGET, 0x1000, TD_DESC_FROM_MEMORY);
	cr_expect_eq(client_run_list(&client, 2), TD_STATUS_DONE);
	cr_expect_eq(memcmp(ram(SOURCE), ram(TARGET), 0x1000), 0);
	cr_expect_eq(client_read(&client, TD_BAR_MEMORY, TD_MEMORY_BYTES - 1, 1), ram(SOURCE)[0xfff]);
}

Test(testdev_dma, peer_s_bar_is_a_target_as_any_other)
{
	struct testdev *peer;
	const struct testdev_options options = {.quiet = true};
	cr_assert_eq(testdev_create(&options, &peer, NULL), 0);
	client_map_ram(&client, true);
	cr_assert_eq(client_map(&client, 0xc0000000, TD_MEMORY_BYTES, RW, peer->memory.fd, 0), 0);
	fill_source(0x1000);
	client_descriptor(&client, 0, SOURCE, 0xc0004000, 0x1000, 0);
	cr_expect_eq(client_run_list(&client, 1), TD_STATUS_DONE);
	cr_expect_eq(memcmp(peer->memory.bytes + 0x4000, ram(SOURCE), 0x1000), 0);
	testdev_destroy(peer);
}

Test(testdev_dma, end_of_a_list_raises_its_interrupt)
{
	int fd = eventfd_new();
	client_map_ram(&client, true);
	cr_assert_eq(client_arm(&client, VFIO_PCI_MSIX_IRQ_INDEX, 7, &fd, 1), 0);
	set_reg(&client, TD_COPY_IRQ, TD_IRQ(TD_IRQ_MSIX, 7));
	client_descriptor(&client, 0, 0, TARGET, 64, TD_DESC_FILL | TD_DESC_IRQ);
	client_descriptor(&client, 1, 0, TARGET, 64, TD_DESC_FILL);
	client_run_list(&client, 2);
	cr_expect_eq(client_wait_eventfd(fd), 2, "after the first one, as it asks for, and at the end");
	close(fd);
}

Test(testdev_dma, doorbell_0_starts_the_engine)
{
	client_map_ram(&client, true);
	client_descriptor(&client, 0, 0x55, TARGET, 1, TD_DESC_FILL);
	set_reg64(&client, TD_LIST_ADDRESS, RAM_ADDRESS);
	set_reg(&client, TD_LIST_COUNT, 1);
	client_write(&client, TD_BAR_REGISTERS, TD_DOORBELL(0), 1, 4);
	while (reg(&client, TD_COPIES) == 0)
		;
	cr_expect_eq(*ram(TARGET), 0x55);
}

static unsigned failed_reason(unsigned count)
{
	uint32_t status = client_run_list(&client, count);
	cr_expect_eq(status & 0xff, TD_STATUS_DONE | TD_STATUS_ERROR, "status 0x%x", status);
	return TD_STATUS_REASON(status);
}

Test(testdev_dma, descriptors_that_make_no_sense_end_the_list)
{
	static const struct copy_descriptor bad[] = {
		{.length = 0, .flags = TD_DESC_CHECK | TD_DESC_FILL},
		{.length = TD_DESC_LENGTH_MAX + 1, .flags = TD_DESC_CHECK | TD_DESC_FILL},
		{.length = 1, .flags = 1u << 31},
		{.source = TD_MEMORY_BYTES, .length = 1, .flags = TD_DESC_FROM_MEMORY | TD_DESC_CHECK},
		{.source = UINT64_MAX, .length = 2, .flags = TD_DESC_FROM_MEMORY | TD_DESC_CHECK},
		{.target = TD_MEMORY_BYTES - 1, .length = 2, .flags = TD_DESC_TO_MEMORY | TD_DESC_FILL},
		{.length = 2, .flags = TD_DESC_FROM_MEMORY | TD_DESC_FILL | TD_DESC_CHECK},
		{.length = 2, .flags = TD_DESC_TO_MEMORY | TD_DESC_CHECK | TD_DESC_FILL},
	};
	client_map_ram(&client, true);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memcpy(client.ram, &bad[i], sizeof(bad[i]));
		cr_expect_eq(failed_reason(1), TD_REASON_LIST, "case %u", i);
	}
	cr_expect_eq(failed_reason(0), TD_REASON_LIST);
	cr_expect_eq(failed_reason(TD_LIST_MAX + 1), TD_REASON_LIST);
}

Test(testdev_dma, memory_that_is_not_there_is_a_fault_with_its_address)
{
	client_map_ram(&client, true);
	client_descriptor(&client, 0, SOURCE, RAM_ADDRESS + RAM_BYTES - 16, 64, 0);
	cr_expect_eq(failed_reason(1), TD_REASON_FAULT);
	cr_expect_eq(reg64(&client, TD_FAULT_ADDRESS), RAM_ADDRESS + RAM_BYTES);
	client_descriptor(&client, 0, UINT64_MAX - 15, TARGET, 64, 0);
	cr_expect_eq(failed_reason(1), TD_REASON_FAULT);
	cr_expect_eq(client_violations(&client, TD_BAD_DMA), 2);
}

Test(testdev_dma, memory_that_may_only_be_read_is_not_written)
{
	cr_assert_eq(client_map(&client, RAM_ADDRESS, 0x200000, RW, client.ram_fd, 0), 0);
	cr_assert_eq(client_map(&client, RAM_ADDRESS + 0x200000, 0x200000, VU_DMA_READABLE, client.ram_fd, 0x200000),
		     0);
	client_descriptor(&client, 0, 0x55, TARGET, 64, TD_DESC_FILL);
	cr_expect_eq(failed_reason(1), TD_REASON_FAULT);
	cr_expect_eq(*ram(TARGET), 0);
}

Test(testdev_dma, without_bus_mastering_there_is_no_dma_and_it_is_recorded)
{
	client_map_ram(&client, true);
	client_descriptor(&client, 0, 0x55, TARGET, 64, TD_DESC_FILL);
	client_write(&client, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	cr_expect_eq(failed_reason(1), TD_REASON_MASTER);
	cr_expect_eq(client_violations(&client, TD_BAD_MASTER), 1);
	cr_expect_eq(*ram(TARGET), 0);
}

/* ---- Clients that do not answer, or lie ---- */

Test(testdev_dma, client_that_refuses_a_request_is_a_fault)
{
	client_map_ram(&client, false);
	client.dma_error = EFAULT;
	cr_expect_eq(failed_reason(1), TD_REASON_FAULT);
	cr_expect(client_alive(&client));
}

Test(testdev_dma, client_that_does_not_answer_is_given_up_and_its_late_answer_ignored)
{
	reopen(&(struct testdev_options){.dma_timeout_ms = 50}, "{\"capabilities\":{}}");
	client_map_ram(&client, false);
	client.dma_ignore = true;
	cr_expect_eq(failed_reason(1), TD_REASON_TIMEOUT);
	const struct {
		struct vu_header header;
		struct vu_dma_access access;
		uint8_t data[TD_DESC_BYTES];
	} late = {{.id = 0, .command = VU_DMA_READ, .bytes = sizeof(late), .flags = VU_TYPE_REPLY},
		  {.address = RAM_ADDRESS, .count = TD_DESC_BYTES}};
	client_send(&client, &late, sizeof(late), NULL, 0);
	cr_expect_eq(client_violations(&client, TD_BAD_MESSAGE), 0);
	client_send(&client, &late, sizeof(late), NULL, 0);
	cr_expect_eq(client_violations(&client, TD_BAD_MESSAGE), 1, "twice is too often");
	client.dma_ignore = false;
	client_descriptor(&client, 0, 0x55, TARGET, 64, TD_DESC_FILL);
	cr_expect_eq(client_run_list(&client, 1), TD_STATUS_DONE);
}

/* Starts a list, and takes the device's first request without answering it. */
static struct vu_header first_request(void)
{
	static uint8_t payload[sizeof(struct vu_dma_access) + DMA_CHUNK_MAX];
	struct vu_header header;
	client_map_ram(&client, false);
	set_reg64(&client, TD_LIST_ADDRESS, RAM_ADDRESS);
	set_reg(&client, TD_LIST_COUNT, 1);
	set_reg(&client, TD_CONTROL, TD_CONTROL_START);
	cr_assert_eq(recv(client.fd, &header, sizeof(header), MSG_WAITALL), sizeof(header));
	cr_assert_eq(header.flags, VU_TYPE_COMMAND);
	cr_assert_eq(recv(client.fd, payload, header.bytes - sizeof(header), MSG_WAITALL),
		     (ssize_t)(header.bytes - sizeof(header)));
	return header;
}

Test(testdev_dma, answers_that_do_not_fit_the_request_are_faults_and_recorded)
{
	static const struct {
		uint16_t command;
		uint32_t bytes;
		uint64_t address, count;
	} cases[] = {
		{VU_DMA_READ, 0, RAM_ADDRESS, 32},   {VU_DMA_READ, 15, RAM_ADDRESS, 32},
		{VU_DMA_READ, 16, RAM_ADDRESS, 32},  {VU_DMA_READ, 47, RAM_ADDRESS, 32},
		{VU_DMA_READ, 49, RAM_ADDRESS, 32},  {VU_DMA_READ, 48, RAM_ADDRESS + 1, 32},
		{VU_DMA_READ, 48, RAM_ADDRESS, 31},  {VU_DMA_READ, 48, RAM_ADDRESS, UINT64_MAX},
		{VU_DMA_WRITE, 48, RAM_ADDRESS, 32}, {VU_RESET, 48, RAM_ADDRESS, 32},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t message[128] = {0};
		struct vu_header header = first_request();
		const struct vu_dma_access access = {.address = cases[i].address, .count = cases[i].count};
		header.flags = VU_TYPE_REPLY;
		header.command = cases[i].command;
		header.bytes = (uint32_t)sizeof(header) + cases[i].bytes;
		memcpy(message, &header, sizeof(header));
		memcpy(message + sizeof(header), &access, sizeof(access));
		client_send(&client, message, header.bytes, NULL, 0);
		cr_expect_eq(reg(&client, TD_STATUS), TD_STATUS_DONE | TD_STATUS_ERROR | TD_REASON_FAULT << 8,
			     "case %u", i);
		cr_expect_eq(client_violations(&client, TD_BAD_MESSAGE), 1, "case %u", i);
		reopen(NULL, "{\"capabilities\":{}}");
	}
}

Test(testdev_dma, unmapping_waits_for_the_answer_and_what_comes_behind_keeps_its_order)
{
	struct vu_header request = first_request();
	const struct vu_dma_unmap unmap = {.argsz = sizeof(unmap), .address = RAM_ADDRESS, .bytes = RAM_BYTES};
	const struct vu_info info = {.argsz = sizeof(info)};
	uint16_t first = client_post(&client, VU_DMA_UNMAP, 0, &unmap, sizeof(unmap), NULL, 0);
	uint16_t second = client_post(&client, VU_GET_INFO, 0, &info, sizeof(info), NULL, 0);
	struct {
		struct vu_header header;
		struct vu_dma_access access;
		uint8_t data[TD_DESC_BYTES];
	} reply = {request, {.address = RAM_ADDRESS, .count = TD_DESC_BYTES}, {0}};
	reply.header.flags = VU_TYPE_REPLY;
	reply.header.bytes = sizeof(reply);
	client_send(&client, &reply, sizeof(reply), NULL, 0);
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_eq(answer.header.id, first);
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_eq(answer.header.id, second);
	cr_expect_eq(client_violations(&client, TD_BAD_UNMAP), 1, "the engine was at work there");
}

Test(testdev_dma, unmapping_waits_until_the_answer_is_given_up)
{
	const struct vu_dma_unmap unmap = {.argsz = sizeof(unmap), .address = RAM_ADDRESS, .bytes = RAM_BYTES};
	reopen(&(struct testdev_options){.dma_timeout_ms = 200}, "{\"capabilities\":{}}");
	uint64_t before_ns = now_ns();
	first_request();
	cr_expect_eq(client_call(&client, VU_DMA_UNMAP, &unmap, sizeof(unmap)), 0);
	cr_expect_geq(now_ns() - before_ns, UINT64_C(200000000));
	cr_expect_eq(reg(&client, TD_STATUS), TD_STATUS_DONE | TD_STATUS_ERROR | TD_REASON_TIMEOUT << 8);
}

Test(testdev_dma, reset_with_a_request_under_way_ends_the_list)
{
	struct vu_header request = first_request();
	uint16_t id = client_post(&client, VU_RESET, 0, NULL, 0, NULL, 0);
	request.flags = VU_TYPE_REPLY | VU_FLAG_ERROR;
	request.error = EIO;
	request.bytes = sizeof(request);
	client_send(&client, &request, sizeof(request), NULL, 0);
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_eq(answer.header.id, id);
	client_enable(&client);
	cr_expect_eq(reg(&client, TD_STATUS), 0);
}

Test(testdev_dma, aborting_a_list_ends_it)
{
	first_request();
	set_reg(&client, TD_CONTROL, TD_CONTROL_ABORT);
	cr_expect_eq(reg(&client, TD_STATUS), TD_STATUS_DONE | TD_STATUS_ERROR | TD_REASON_ABORT << 8);
}

Test(testdev_dma, client_that_leaves_with_a_request_under_way_is_let_go)
{
	first_request();
	cr_expect_eq(client_leave(&client), 0);
	client_return(&client);
	client_enable(&client);
	cr_expect_eq(reg(&client, TD_STATUS), TD_STATUS_DONE | TD_STATUS_ERROR | TD_REASON_ABORT << 8);
}

Test(testdev_dma, file_that_shrinks_under_a_mapping_is_a_fault_not_a_crash)
{
	client_map_ram(&client, true);
	client_descriptor(&client, 0, SOURCE, TARGET, 0x1000, 0);
	cr_assert_eq(ftruncate(client.ram_fd, 0x1000), 0);
	cr_expect_eq(failed_reason(1), TD_REASON_FAULT);
	cr_assert_eq(ftruncate(client.ram_fd, 0), 0);
	cr_expect_eq(failed_reason(1), TD_REASON_FAULT, "the list itself is gone");
	cr_assert_eq(ftruncate(client.ram_fd, RAM_BYTES), 0);
	copy_and_check(0x1000);
}

Test(testdev_dma, file_that_is_read_as_one_and_shrinks_is_a_fault)
{
	cr_assert_eq(client_map(&client, RAM_ADDRESS, RAM_BYTES, RW | VU_DMA_FILE_IO, client.ram_fd, 0), 0);
	client_descriptor(&client, 0, SOURCE, TARGET, 0x1000, 0);
	cr_assert_eq(ftruncate(client.ram_fd, 0x1000), 0);
	cr_expect_eq(failed_reason(1), TD_REASON_FAULT);
	cr_assert_eq(ftruncate(client.ram_fd, RAM_BYTES), 0);
}

Test(testdev_dma, replies_alone_are_taken_on_the_twin_socket)
{
	reopen(NULL, "{\"capabilities\":{\"max_msg_fds\":8,\"twin_socket\":{\"supported\":true}}}");
	const struct vu_header command = {.command = VU_RESET, .bytes = sizeof(command)};
	cr_assert_eq(write(client.twin, &command, sizeof(command)), sizeof(command));
	while (client_violations(&client, TD_BAD_MESSAGE) == 0)
		;
	cr_expect_eq(reg(&client, TD_RESETS_COMMAND), 0);
}

/* ---- The load ---- */

static void expect_stamp(uint64_t address, uint64_t sequence)
{
	uint64_t words[4];
	memcpy(words, ram(address), sizeof(words));
	cr_expect_eq(words[0], TD_LOAD_MAGIC);
	cr_expect_eq(words[1], address);
	cr_expect_eq(words[2], sequence);
	cr_expect_eq(words[3], words[0] ^ words[1] ^ words[2]);
}

static void step_load(uint32_t pages, uint32_t step)
{
	uint64_t before = reg64(&client, TD_LOAD_WRITTEN);
	set_reg64(&client, TD_LOAD_ADDRESS, TARGET);
	set_reg(&client, TD_LOAD_PAGES, pages);
	set_reg(&client, TD_LOAD_STEP, step);
	while (reg64(&client, TD_LOAD_WRITTEN) - before + reg(&client, TD_LOAD_FAULTS) < step)
		;
}

static void check_load(uint32_t pages, uint32_t step)
{
	unsigned written = 0;
	step_load(pages, step);
	for (unsigned page = 0; page < pages; page++) {
		set_reg(&client, TD_LOAD_PAGE, page);
		uint32_t sequence = reg(&client, TD_LOAD_SEQUENCE);
		if (sequence)
			expect_stamp(TARGET + page * 0x1000ull, sequence);
		written += sequence != 0;
	}
	cr_expect_gt(written, pages / 4);
}

Test(testdev_dma, load_stamps_pages_and_knows_the_last_stamp)
{
	client_map_ram(&client, true);
	check_load(64, 200);
}

Test(testdev_dma, load_goes_by_messages_too)
{
	client_map_ram(&client, false);
	check_load(16, 50);
	cr_expect_eq(client.dma_writes, 50);
}

Test(testdev_dma, load_runs_beside_the_copy_engine_by_messages)
{
	client_map_ram(&client, false);
	set_reg64(&client, TD_LOAD_ADDRESS, RAM_ADDRESS + 0x100000);
	set_reg(&client, TD_LOAD_PAGES, 16);
	set_reg(&client, TD_LOAD_STEP, 20);
	copy_and_check(200000);
	while (reg64(&client, TD_LOAD_WRITTEN) < 20)
		;
}

Test(testdev_dma, load_at_a_rate_keeps_writing)
{
	client_map_ram(&client, true);
	set_reg64(&client, TD_LOAD_ADDRESS, TARGET);
	set_reg(&client, TD_LOAD_PAGES, 16);
	set_reg(&client, TD_LOAD_RATE, 1000);
	while (reg64(&client, TD_LOAD_WRITTEN) < 50)
		;
	set_reg(&client, TD_LOAD_RATE, 0);
	uint64_t written = reg64(&client, TD_LOAD_WRITTEN);
	for (unsigned i = 0; i < 100; i++)
		cr_assert(client_alive(&client));
	cr_expect_leq(reg64(&client, TD_LOAD_WRITTEN), written + 1000);
}

Test(testdev_dma, load_without_memory_counts_faults)
{
	step_load(16, 5);
	cr_expect_eq(reg(&client, TD_LOAD_FAULTS), 5);
	cr_expect_eq(reg64(&client, TD_LOAD_WRITTEN), 0);
}

Test(testdev_dma, load_with_a_window_that_makes_no_sense_is_recorded)
{
	set_reg64(&client, TD_LOAD_ADDRESS, 1);
	set_reg(&client, TD_LOAD_PAGES, 16);
	set_reg(&client, TD_LOAD_STEP, 5);
	set_reg64(&client, TD_LOAD_ADDRESS, 0);
	set_reg(&client, TD_LOAD_PAGES, TD_LOAD_PAGES_MAX + 1);
	set_reg(&client, TD_LOAD_STEP, 5);
	cr_expect_eq(client_violations(&client, TD_BAD_ACCESS), 2);
}

Test(testdev_dma, load_whose_window_disappears_while_it_waits_goes_on_safely)
{
	client_map_ram(&client, false);
	client.dma_ignore = true;
	set_reg64(&client, TD_LOAD_ADDRESS, TARGET);
	set_reg(&client, TD_LOAD_PAGES, 16);
	set_reg(&client, TD_LOAD_STEP, 5);
	set_reg(&client, TD_LOAD_PAGES, 0);
	cr_assert_eq(client_leave(&client), 0);
}

/* ---- Logging ---- */

static int log_start(uint64_t page_bytes, const struct vu_log_range *ranges, uint32_t count)
{
	uint8_t payload[1024];
	const struct vu_feature head = {.argsz = sizeof(payload), .flags = VU_FEATURE_SET | VU_FEATURE_LOG_START};
	const struct vu_log_start start = {.page_bytes = page_bytes, .ranges = count};
	memcpy(payload, &head, sizeof(head));
	memcpy(payload + sizeof(head), &start, sizeof(start));
	if (count)
		memcpy(payload + sizeof(head) + sizeof(start), ranges, count * sizeof(*ranges));
	return client_call(&client, VU_FEATURE, payload, sizeof(head) + sizeof(start) + count * sizeof(*ranges));
}

static int log_stop(void)
{
	const struct vu_feature head = {.argsz = sizeof(head), .flags = VU_FEATURE_SET | VU_FEATURE_LOG_STOP};
	return client_call(&client, VU_FEATURE, &head, sizeof(head));
}

static int log_report(uint64_t address, uint64_t bytes, uint64_t page_bytes, uint64_t *words, unsigned count)
{
	const struct {
		struct vu_feature head;
		struct vu_log_report range;
	} request = {
		{.argsz = (uint32_t)(sizeof(request) + count * 8), .flags = VU_FEATURE_GET | VU_FEATURE_LOG_REPORT},
		{.address = address, .bytes = bytes, .page_bytes = page_bytes}};
	int code = client_call(&client, VU_FEATURE, &request, sizeof(request));
	if (code == 0) {
		cr_assert_eq(answer.bytes, sizeof(request) + count * 8);
		memcpy(words, answer.payload + sizeof(request), count * 8);
	}
	return code;
}

static void write_pages(unsigned first, unsigned count)
{
	client_descriptor(&client, 0, 0x55, TARGET + first * 0x1000ull, count * 0x1000, TD_DESC_FILL);
	cr_assert_eq(client_run_list(&client, 1), TD_STATUS_DONE);
}

Test(testdev_dma, log_has_what_was_written_and_clears_what_it_reports)
{
	uint64_t word;
	client_map_ram(&client, true);
	cr_assert_eq(log_start(4096, NULL, 0), 0);
	write_pages(3, 2);
	cr_assert_eq(log_report(TARGET, 0x10000, 4096, &word, 1), 0);
	cr_expect_eq(word, 3u << 3, "0x%llx", (unsigned long long)word);
	cr_assert_eq(log_report(TARGET, 0x10000, 4096, &word, 1), 0);
	cr_expect_eq(word, 0);
	cr_expect_eq(log_stop(), 0);
	cr_expect_eq(log_report(TARGET, 0x10000, 4096, &word, 1), -EINVAL, "only while it runs");
	cr_expect_eq(log_stop(), -EINVAL);
}

Test(testdev_dma, log_has_writes_by_message_too)
{
	uint64_t word;
	client_map_ram(&client, false);
	cr_assert_eq(log_start(4096, NULL, 0), 0);
	write_pages(1, 1);
	cr_assert_eq(log_report(TARGET, 0x10000, 4096, &word, 1), 0);
	cr_expect_eq(word, 2);
}

Test(testdev_dma, log_reports_in_other_page_sizes)
{
	uint64_t words[2];
	client_map_ram(&client, true);
	cr_assert_eq(log_start(4096, NULL, 0), 0);
	write_pages(5, 1);
	cr_assert_eq(log_report(TARGET, 0x10000, 0x4000, words, 1), 0);
	cr_expect_eq(words[0], 1u << 1, "in larger pages");
	write_pages(5, 1);
	cr_assert_eq(log_report(TARGET, 0x10000, 1024, words, 1), 0);
	cr_expect_eq(words[0], 0xfull << 20, "in smaller ones all that may be dirty");
	write_pages(70, 1);
	cr_assert_eq(log_report(TARGET, 0x80000, 4096, words, 2), 0);
	cr_expect_eq(words[1], 1u << 6);
}

Test(testdev_dma, log_keeps_to_its_ranges)
{
	uint64_t word;
	const struct vu_log_range range = {.address = TARGET + 0x4000, .bytes = 0x2000};
	client_map_ram(&client, true);
	cr_assert_eq(log_start(4096, &range, 1), 0);
	write_pages(0, 16);
	cr_assert_eq(log_report(TARGET, 0x10000, 4096, &word, 1), 0);
	cr_expect_eq(word, 0x30);
}

Test(testdev_dma, log_says_which_page_size_it_chose)
{
	struct vu_log_start start;
	cr_assert_eq(log_start(512, NULL, 0), 0);
	memcpy(&start, answer.payload + sizeof(struct vu_feature), sizeof(start));
	cr_expect_eq(start.page_bytes, 4096);
	cr_expect_eq(log_start(4096, NULL, 0), -EBUSY, "it runs already");
}

Test(testdev_dma, log_requests_that_make_no_sense_are_refused)
{
	uint64_t words[2];
	static const struct vu_log_range bad[] = {{.address = 0, .bytes = 0}, {.address = UINT64_MAX, .bytes = 2}};
	cr_expect_eq(log_start(0, NULL, 0), -EINVAL);
	cr_expect_eq(log_start(5000, NULL, 0), -EINVAL);
	cr_expect_eq(log_start(4096, &bad[0], 1), -EINVAL);
	cr_expect_eq(log_start(4096, &bad[1], 1), -EINVAL);
	cr_assert_eq(log_start(4096, NULL, 0), 0);
	cr_expect_eq(log_report(TARGET, 0, 4096, words, 1), -EINVAL);
	cr_expect_eq(log_report(TARGET, 0x1000, 3000, words, 1), -EINVAL);
	cr_expect_eq(log_report(UINT64_MAX, 0x1000, 4096, words, 1), -EINVAL);
	cr_expect_eq(log_report(0, UINT64_MAX, 4096, words, 1), -EINVAL, "larger than any reply");
	cr_expect_eq(log_report(TARGET, 65 * 4096, 4096, words, 1), -EINVAL, "larger than argsz");
	cr_expect_eq(log_report(0, UINT64_MAX, 1ull << 63, words, 1), 0, "two bits");
}

Test(testdev_dma, more_ranges_than_are_sent_are_refused)
{
	const struct {
		struct vu_feature head;
		struct vu_log_start start;
		struct vu_log_range range;
	} request = {{.argsz = 4096, .flags = VU_FEATURE_SET | VU_FEATURE_LOG_START},
		     {.page_bytes = 4096, .ranges = 2},
		     {.address = 0, .bytes = 4096}};
	cr_expect_eq(client_call(&client, VU_FEATURE, &request, sizeof(request)), -EINVAL);
	struct {
		struct vu_feature head;
		struct vu_log_start start;
	} many = {request.head, {.page_bytes = 4096, .ranges = UINT32_MAX}};
	cr_expect_eq(client_call(&client, VU_FEATURE, &many, sizeof(many)), -EINVAL);
}

Test(testdev_dma, unmapping_can_bring_the_log_of_the_window)
{
	struct {
		struct vu_dma_unmap unmap;
		struct vu_bitmap bitmap;
	} request = {{.argsz = sizeof(request) + 128,
		      .flags = VU_UNMAP_DIRTY_BITMAP,
		      .address = RAM_ADDRESS,
		      .bytes = RAM_BYTES},
		     {.page_bytes = 4096, .bytes = 128}};
	client_map_ram(&client, true);
	cr_expect_eq(client_call(&client, VU_DMA_UNMAP, &request, sizeof(request)), -EINVAL, "nothing is logged");
	cr_assert_eq(log_start(4096, NULL, 0), 0);
	write_pages(0, 1);
	request.bitmap.bytes = 64;
	cr_expect_eq(client_call(&client, VU_DMA_UNMAP, &request, sizeof(request)), -EINVAL, "too small");
	request.bitmap.bytes = UINT64_MAX;
	cr_expect_eq(client_call(&client, VU_DMA_UNMAP, &request, sizeof(request)), -EINVAL);
	request.bitmap.bytes = 128;
	cr_assert_eq(client_call(&client, VU_DMA_UNMAP, &request, sizeof(request)), 0);
	cr_assert_eq(answer.bytes, sizeof(request) + 128);
	unsigned page = (unsigned)((TARGET - RAM_ADDRESS) / 4096);
	cr_expect_eq(answer.payload[sizeof(request) + page / 8], 1u << page % 8);
}

Test(testdev_dma, log_of_very_many_pages_reports_each)
{
	enum { PAGES = 1000 };
	uint64_t words[PAGES / 64 + 1];
	client_map_ram(&client, true);
	cr_assert_eq(log_start(4096, NULL, 0), 0);
	client_descriptor(&client, 0, 0x55, RAM_ADDRESS + 0x1000, PAGES * 4096, TD_DESC_FILL);
	cr_assert_eq(client_run_list(&client, 1), TD_STATUS_DONE);
	cr_assert_eq(log_report(RAM_ADDRESS + 0x1000, PAGES * 4096ull, 4096, words, PAGES / 64 + 1), 0);
	for (unsigned i = 0; i < PAGES / 64; i++)
		cr_expect_eq(words[i], UINT64_MAX, "word %u", i);
	cr_expect_eq(words[PAGES / 64], (1ull << PAGES % 64) - 1, "bits beyond the range are zero");
}
