// SPDX-License-Identifier: MIT
/* A vfio-user device in use: what the guest, the VMM and the other devices see of it while its server does what it should. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vfio_user_fixture.h"

TestSuite(vfio_user_device, .init = fake_world_reset, .timeout = 60);

Test(vfio_user_device, is_described_as_its_server_does)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	const struct tenon_device_info *info = tenon_device_info(fixture.device);
	cr_expect_str_eq(info->address, addresses[0]);
	cr_expect_str_eq(info->path, "/run/a.sock");
	cr_expect_eq(info->vendor_id, TD_VENDOR_ID);
	cr_expect_eq(info->class_code, TD_CLASS);
	cr_expect_eq(info->iommu_group, -1);
	cr_expect_eq(info->interface, TENON_INTERFACE_VFIO_USER);
	cr_expect(info->coherent && info->pcie && info->sriov_hidden && info->peer_to_peer);
	cr_expect_eq(info->msi_vectors, TD_MSI_VECTORS);
	cr_expect_eq(info->msix_vectors, TD_MSIX_VECTORS);
	cr_expect_eq(info->reset, TENON_RESET_FUNCTION);
	cr_expect_eq(info->bars[TD_BAR_REGISTERS].size_bytes, TD_REGISTERS_BYTES);
	cr_expect_eq(info->bars[TD_BAR_REGISTERS].mappable_bytes, 0);
	cr_expect_eq(info->bars[TD_BAR_MEMORY].mappable_bytes, TD_MEMORY_BYTES - TD_HOLE_BYTES);
	cr_expect_eq(info->bars[TD_BAR_PAGE].mappable_bytes, TD_PAGE_BYTES);
	cr_expect(info->bars[TD_BAR_PORTS].io);
	cr_expect_eq(info->rom_bytes, TD_ROM_BYTES);
	cr_expect_eq(tenon_space_interface(fixture.space), TENON_INTERFACE_AUTO,
		     "the kernel's interface is still open");
	cr_expect_eq(reg(&fixture, TD_RESETS_COMMAND), 1, "it was not reset when it was opened");
	close_one(&fixture);
}

Test(vfio_user_device, registers_ports_and_rom_are_its_own)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	cr_expect_eq(reg(&fixture, TD_ID), TD_ID_VALUE);
	set_reg64(&fixture, TD_SCRATCH, 0x1122334455667788);
	cr_expect_eq(guest_bar(&fixture, TD_BAR_REGISTERS, TD_SCRATCH, 8), 0x1122334455667788);
	guest_bar_write(&fixture, TD_BAR_PORTS, TD_PORT_INDEX, 4, TD_SCRATCH);
	cr_expect_eq(guest_bar(&fixture, TD_BAR_PORTS, TD_PORT_DATA, 4), 0x55667788);
	guest_config_write(&fixture, PCI_ROM_ADDRESS, 4, 0xe0400000u | PCI_ROM_ADDRESS_ENABLE);
	cr_expect_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xaa55);
	cr_expect_eq(reg(&fixture, TD_VIOLATIONS), 0);
	close_one(&fixture);
}

Test(vfio_user_device, mapped_regions_are_the_servers_memory_and_holes_trap)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	uint8_t *memory = host_mapped(&fixture.host, MEMORY_GPA);
	uint8_t *page = host_mapped(&fixture.host, PAGE_GPA);
	cr_assert(memory && page);
	cr_expect_null(host_mapped(&fixture.host, MEMORY_GPA + TD_HOLE_FIRST));
	cr_expect_null(host_mapped(&fixture.host, REGISTERS_GPA));
	memory[0x123] = 0x5a;
	page[0xfff] = 0xa5;
	cr_expect_eq(servers[0].device->memory.bytes[0x123], 0x5a);
	cr_expect_eq(guest_bar(&fixture, TD_BAR_MEMORY, 0x123, 1), 0x5a);
	cr_expect_eq(guest_bar(&fixture, TD_BAR_PAGE, 0xfff, 1), 0xa5, "its place in the file is not minded");
	guest_bar_write(&fixture, TD_BAR_MEMORY, TD_HOLE_FIRST + 8, 4, 0x12345678);
	cr_expect_eq(guest_bar(&fixture, TD_BAR_MEMORY, TD_HOLE_FIRST + 8, 4), 0x12345678);
	close_one(&fixture);
}

Test(vfio_user_device, memory_that_could_shrink_is_not_mapped)
{
	struct fixture fixture;
	fake_fail_always(FAKE_SEAL, EPERM);
	open_one(&fixture, NULL, true);
	cr_expect_eq(tenon_device_info(fixture.device)->bars[TD_BAR_MEMORY].mappable_bytes, 0);
	cr_expect_null(host_mapped(&fixture.host, MEMORY_GPA));
	guest_bar_write(&fixture, TD_BAR_MEMORY, 8, 4, 0x12345678);
	cr_expect_eq(guest_bar(&fixture, TD_BAR_MEMORY, 8, 4), 0x12345678);
	close_one(&fixture);
}

Test(vfio_user_device, all_msix_vectors_are_armed_and_fire)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	for (unsigned i = 0; i < TD_MSIX_VECTORS; i++) {
		unsigned entry = TD_MSIX_TABLE + 16 * i;
		set_reg64(&fixture, entry, MESSAGE_ADDRESS);
		set_reg64(&fixture, entry + 8, 0x100 + i);
	}
	guest_msix_control(&fixture, true, false);
	for (unsigned i = 0; i < TD_MSIX_VECTORS; i++)
		set_reg(&fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, i));
	cr_expect_eq(reg(&fixture, TD_IRQ_DELIVERED), TD_MSIX_VECTORS);
	for (unsigned i = 0; i < TD_MSIX_VECTORS; i++)
		cr_expect_eq(host_messages(&fixture.host, 0x100 + i), 1, "vector %u", i);
	guest_msix_control(&fixture, false, false);
	cr_expect_eq(servers[0].device->irqs.enabled[VFIO_PCI_MSIX_IRQ_INDEX], 0);
	cr_expect_eq(reg(&fixture, TD_VIOLATIONS), 0);
	close_one(&fixture);
}

Test(vfio_user_device, fixed_msix_vectors_work_too)
{
	struct fixture fixture;
	open_one(&fixture, &(struct testdev_options){.fixed_msix = true}, true);
	for (unsigned i = 0; i < 20; i += 3) {
		set_reg64(&fixture, TD_MSIX_TABLE + 16 * i, MESSAGE_ADDRESS);
		set_reg64(&fixture, TD_MSIX_TABLE + 16 * i + 8, 0x100 + i);
	}
	guest_msix_control(&fixture, true, false);
	for (unsigned i = 0; i < 20; i += 3)
		set_reg(&fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, i));
	for (unsigned i = 0; i < 20; i += 3)
		cr_expect_eq(host_messages(&fixture.host, 0x100 + i), 1, "vector %u", i);
	cr_expect_eq(reg(&fixture, TD_VIOLATIONS), 0);
	close_one(&fixture);
}

Test(vfio_user_device, intx_rises_and_is_unmasked_by_the_guests_end_of_interrupt)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	set_reg(&fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_INTX, 0));
	host_loop(&fixture.host);
	cr_expect(fixture.host.intx[1].level);
	set_reg(&fixture, TD_IRQ_LINE, 0);
	host_end_of_interrupt(&fixture.host, 1);
	cr_expect_not(fixture.host.intx[1].level);
	/* The unmasking is an eventfd's, which the device takes when it comes to it. */
	for (unsigned i = 0; i < 2000 && fixture.host.intx[1].edges < 2; i++) {
		set_reg(&fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_INTX, 0));
		host_loop(&fixture.host);
	}
	cr_expect_eq(fixture.host.intx[1].edges, 2);
	close_one(&fixture);
}

static void copies(bool shared)
{
	struct fixture fixture;
	open_one(&fixture, NULL, shared);
	memset(ram() + 0x10000, 0x77, 0x20000);
	memset(ram() + 0x80000, 0, 0x20000);
	uint32_t status = copy(&fixture, 0x10000, 0x80000, 0x20000, 0);
	cr_expect_eq(status, TD_STATUS_DONE, "status %x", status);
	cr_expect_eq(memcmp(ram() + 0x10000, ram() + 0x80000, 0x20000), 0);
	cr_expect_eq(!(reg(&fixture, TD_FEATURES) & TD_FEATURE_MESSAGES), shared);
	/* Beyond RAM */
	status = copy(&fixture, 0x10000, RAM_BYTES - 0x1000, 0x2000, 0);
	cr_expect(status & TD_STATUS_ERROR, "status %x", status);
	close_one(&fixture);
}

Test(vfio_user_device, copies_memory_that_it_maps)
{
	copies(true);
}

Test(vfio_user_device, copies_memory_that_it_asks_for)
{
	copies(false);
}

Test(vfio_user_device, asks_for_memory_on_its_one_socket)
{
	struct fixture fixture;
	open_one(&fixture, &(struct testdev_options){.no_twin_socket = true}, false);
	memset(ram() + 0x10000, 0x77, 0x20000);
	cr_expect_eq(copy(&fixture, 0x10000, 0x80000, 0x20000, 0), TD_STATUS_DONE);
	cr_expect_eq(memcmp(ram() + 0x10000, ram() + 0x80000, 0x20000), 0);
	close_one(&fixture);
}

Test(vfio_user_device, never_writes_memory_that_devices_may_only_read)
{
	struct fixture fixture;
	const uint64_t at = 0x10000000;
	static uint8_t *memory;
	memory = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	open_one(&fixture, NULL, true);
	const struct tenon_space_region region = {.size = sizeof(region),
						  .gpa = at,
						  .size_bytes = 0x2000,
						  .hva = memory,
						  .read_only = true,
						  .fd = ram_file()};
	cr_assert_eq(tenon_space_add(fixture.space, &region, NULL), 0);
	memset(memory, 0x42, 0x2000);
	cr_expect_eq(copy(&fixture, at, 0x80000, 0x1000, 0), TD_STATUS_DONE);
	cr_expect_eq(ram()[0x80000], 0x42, "its file went to the server, which is not what is at its address");
	cr_expect(copy(&fixture, 0x10000, at, 0x1000, 0) & TD_STATUS_ERROR);
	cr_expect_eq(memory[0], 0x42);
	cr_assert_eq(tenon_space_remove(fixture.space, at, 0x2000, NULL), 0);
	cr_expect(copy(&fixture, at, 0x80000, 0x1000, 0) & TD_STATUS_ERROR, "it is reached after it was removed");
	close_one(&fixture);
	munmap(memory, 0x2000);
}

Test(vfio_user_device, reaches_a_peers_mapped_memory)
{
	struct fixture fixtures[2];
	server_start(&servers[0], NULL);
	server_start(&servers[1], NULL);
	space_init(fixtures, 2, true);
	for (unsigned i = 0; i < 2; i++) {
		const struct tenon_device_options options = options_for(&fixtures[i], i);
		cr_assert_eq(try_open(&fixtures[i], &options), 0, "%s", fixtures[i].err.message);
	}
	place(&fixtures[0]);
	guest_config_write(&fixtures[1], PCI_BASE_ADDRESS_0, 4, 0xe1000000);
	guest_config_write(&fixtures[1], PCI_BASE_ADDRESS_2, 4, 0xe1100000);
	guest_command(&fixtures[1], PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
	memset(ram() + 0x10000, 0x99, 0x1000);
	cr_expect_eq(copy(&fixtures[0], 0x10000, 0xe1100000, 0x1000, 0), TD_STATUS_DONE);
	cr_expect_eq(servers[1].device->memory.bytes[0xfff], 0x99);
	cr_expect(copy(&fixtures[0], 0x10000, MEMORY_GPA, 0x1000, 0) & TD_STATUS_ERROR, "its own memory is no peer's");
	/* Moved away, it is not there any more. */
	guest_command(&fixtures[1], 0, PCI_COMMAND_MEMORY);
	cr_expect(copy(&fixtures[0], 0x10000, 0xe1100000, 0x1000, 0) & TD_STATUS_ERROR);
	guest_command(&fixtures[1], PCI_COMMAND_MEMORY, 0);
	cr_expect_eq(copy(&fixtures[0], 0x10000, 0xe1100000, 0x1000, 0), TD_STATUS_DONE);
	fixtures[1].host.device = NULL;
	tenon_device_close(fixtures[1].device);
	cr_expect(copy(&fixtures[0], 0x10000, 0xe1100000, 0x1000, 0) & TD_STATUS_ERROR);
	server_finish(&servers[1]);
	close_one(&fixtures[0]);
}

Test(vfio_user_device, stands_beside_a_device_of_the_kernels)
{
	struct fixture fixtures[2];
	struct fake_device *nvme = fake_nvme("0000:01:00.0");
	server_start(&servers[0], NULL);
	space_init(fixtures, 2, true);
	const struct tenon_device_options options = options_for(&fixtures[0], 0);
	cr_assert_eq(try_open(&fixtures[0], &options), 0, "%s", fixtures[0].err.message);
	const struct tenon_device_options other = fixture_options(&fixtures[1], nvme);
	cr_assert_eq(try_open(&fixtures[1], &other), 0, "%s", fixtures[1].err.message);
	cr_expect_eq(tenon_space_interface(fixtures[0].space), TENON_INTERFACE_IOMMUFD);
	place(&fixtures[0]);
	const struct tenon_space_region more = {
		.size = sizeof(more), .gpa = 0x40000000, .size_bytes = RAM_BYTES, .hva = ram(), .fd = ram_file()};
	cr_assert_eq(tenon_space_add(fixtures[0].space, &more, NULL), 0);
	cr_expect_eq(fake_dma_mappings(), 2);
	ram()[0x20000] = 0x33;
	cr_expect_eq(copy(&fixtures[0], 0x40020000, 0x30000, 1, 0), TD_STATUS_DONE);
	cr_expect_eq(ram()[0x30000], 0x33);
	cr_assert_eq(tenon_space_reset(fixtures[0].space, NULL), 0);
	fixtures[1].host.device = NULL;
	tenon_device_close(fixtures[1].device);
	cr_expect_eq(tenon_space_interface(fixtures[0].space), TENON_INTERFACE_AUTO);
	place(&fixtures[0]);
	cr_expect_eq(copy(&fixtures[0], 0x40020000, 0x30000, 1, 0), TD_STATUS_DONE);
	close_one(&fixtures[0]);
}

Test(vfio_user_device, one_that_refuses_memory_is_lost_alone)
{
	struct fixture fixtures[2];
	struct fake_device *nvme = fake_nvme("0000:01:00.0");
	struct testdev_options device = {.fault_count = 1};
	cr_assert_eq(fault_parse("error=12@dma-map#2", &device.faults[0], NULL), 0);
	server_start(&servers[0], &device);
	space_init(fixtures, 2, true);
	const struct tenon_device_options options = options_for(&fixtures[0], 0);
	cr_assert_eq(try_open(&fixtures[0], &options), 0, "%s", fixtures[0].err.message);
	const struct tenon_device_options other = fixture_options(&fixtures[1], nvme);
	cr_assert_eq(try_open(&fixtures[1], &other), 0, "%s", fixtures[1].err.message);
	const struct tenon_space_region more = {
		.size = sizeof(more), .gpa = 0x40000000, .size_bytes = RAM_BYTES, .hva = ram(), .fd = ram_file()};
	cr_expect_eq(tenon_space_add(fixtures[0].space, &more, NULL), 0);
	cr_expect_eq(fake_dma_mappings(), 2);
	cr_expect_eq(next_event(&fixtures[0]), TENON_DEVICE_EVENT_GONE);
	cr_expect(host_logged(&fixtures[0].host, "does not take the VM's memory"));
	cr_expect_eq(guest_config(&fixtures[0], PCI_VENDOR_ID, 4), UINT32_MAX);
	fixtures[1].host.device = NULL;
	tenon_device_close(fixtures[1].device);
	close_one(&fixtures[0]);
}

Test(vfio_user_device, one_that_refuses_anothers_bar_does_without)
{
	struct fixture fixtures[2];
	struct testdev_options refusing = {.fault_count = 1};
	cr_assert_eq(fault_parse("error=12@dma-map#2", &refusing.faults[0], NULL), 0);
	server_start(&servers[0], &refusing);
	server_start(&servers[1], NULL);
	space_init(fixtures, 2, true);
	for (unsigned i = 0; i < 2; i++) {
		const struct tenon_device_options options = options_for(&fixtures[i], i);
		cr_assert_eq(try_open(&fixtures[i], &options), 0, "%s", fixtures[i].err.message);
	}
	place(&fixtures[1]);
	cr_expect(host_logged(&fixtures[1].host, "out of reach"));
	unsigned windows = servers[0].device->dma.count;
	guest_command(&fixtures[1], 0, PCI_COMMAND_MEMORY);
	cr_expect_lt(servers[0].device->dma.count, windows, "those that it took are taken back");
	/* It is not told to give back what it never took: that would be the end of it. */
	cr_expect_eq(tenon_device_next_event(fixtures[0].device), TENON_DEVICE_EVENT_NONE);
	guest_command(&fixtures[1], PCI_COMMAND_MEMORY, 0);
	cr_expect_gt(servers[0].device->dma.count, windows, "it is asked anew");
	cr_expect_eq(tenon_device_next_event(fixtures[0].device), TENON_DEVICE_EVENT_NONE);
	fixtures[1].host.device = NULL;
	tenon_device_close(fixtures[1].device);
	cr_expect_eq(servers[0].device->dma.count, 1);
	server_finish(&servers[1]);
	close_one(&fixtures[0]);
}

Test(vfio_user_device, is_reset_by_the_guest_and_by_the_vmm)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	set_reg(&fixture, TD_SCRATCH, 5);
	unsigned pcie = guest_capability(&fixture, PCI_CAP_ID_EXP);
	guest_config_write(&fixture, pcie + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	place(&fixture);
	cr_expect_eq(reg(&fixture, TD_SCRATCH), 0);
	set_reg(&fixture, TD_SCRATCH, 6);
	cr_expect_eq(tenon_device_reset(fixture.device, &fixture.err), 0, "%s", fixture.err.message);
	cr_expect_eq(guest_config(&fixture, PCI_BASE_ADDRESS_5, 4), 0);
	place(&fixture);
	cr_expect_eq(reg(&fixture, TD_SCRATCH), 0);
	cr_expect_eq(reg(&fixture, TD_RESETS_COMMAND), 3);
	cr_expect_eq(reg(&fixture, TD_RESETS_FLR), 0);
	close_one(&fixture);
}

Test(vfio_user_device, is_on_no_bus_of_the_host)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	struct tenon_reset_plan plan = {.size = sizeof(plan)};
	cr_assert_eq(tenon_device_bus_reset_plan(fixture.device, &plan, NULL), 0);
	cr_expect_eq(plan.method, TENON_RESET_NONE);
	cr_expect(!plan.allowed);
	cr_expect_eq(plan.affected_count, 1);
	cr_expect(strstr(plan.why, "another process"), "%s", plan.why);
	close_one(&fixture);
}

Test(vfio_user_device, is_reset_by_its_server_when_the_guest_resets_its_bus)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	set_reg(&fixture, TD_SCRATCH, 5);
	cr_expect_eq(tenon_bus_reset(&fixture.device, 1, &fixture.err), 0, "%s", fixture.err.message);
	cr_expect_null(host_mapped(&fixture.host, MEMORY_GPA));
	cr_expect_eq(guest_config(&fixture, PCI_BASE_ADDRESS_5, 4), 0);
	place(&fixture);
	cr_expect_eq(reg(&fixture, TD_SCRATCH), 0);
	cr_expect_eq(reg(&fixture, TD_RESETS_COMMAND), 2);
	close_one(&fixture);
}

Test(vfio_user_device, one_that_its_server_cannot_reset_is_told)
{
	struct fixture fixture;
	server_start(&servers[0], &(struct testdev_options){.no_reset = true});
	space_init(&fixture, 1, true);
	struct tenon_device_options options = options_for(&fixture, 0);
	options.reset = TENON_RESET_REQUIRE;
	int code = try_open(&fixture, &options);
	cr_expect_eq(code, -EBUSY);
	assert_message(&fixture.err, code);
	options.reset = TENON_RESET_PREFER;
	cr_assert_eq(try_open(&fixture, &options), 0, "%s", fixture.err.message);
	cr_expect_eq(tenon_device_info(fixture.device)->reset, TENON_RESET_NONE);
	close_one(&fixture);
}

Test(vfio_user_device, its_server_cannot_end_the_vm_by_the_hosts_events)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	set_reg(&fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_ERR, 0));
	set_reg(&fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_REQ, 0));
	cr_expect_eq(reg(&fixture, TD_ID), TD_ID_VALUE); /* it has raised them by now */
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_NONE);
	close_one(&fixture);
}

Test(vfio_user_device, writes_are_posted_where_nothing_overtakes_them)
{
	struct fixture fixture;
	/* Without reply, so one that is waited for fails this test by its time. */
	struct testdev_options plain = {.no_mapping = true, .no_doorbell_fds = true, .fault_count = 1};
	cr_assert_eq(fault_parse("silence@region-write#9", &plain.faults[0], NULL), 0);
	open_one(&fixture, &plain, true);
	for (unsigned i = 0; i < 20; i++)
		set_reg(&fixture, TD_SCRATCH, i);
	cr_expect_eq(reg(&fixture, TD_SCRATCH), 19);
	cr_expect_not(host_logged(&fixture.host, "does not answer"));
	close_one(&fixture);
}

Test(vfio_user_device, is_assigned_once)
{
	struct fixture fixtures[2];
	server_start(&servers[0], NULL);
	space_init(fixtures, 2, true);
	const struct tenon_device_options options = options_for(&fixtures[0], 0);
	cr_assert_eq(try_open(&fixtures[0], &options), 0, "%s", fixtures[0].err.message);
	int code = try_open(&fixtures[1], &options);
	cr_expect_eq(code, -EBUSY);
	assert_message(&fixtures[1].err, code);
	close_one(&fixtures[0]);
}

Test(vfio_user_device, takes_large_configuration_in_small_pieces)
{
	struct fixture fixture;
	open_one(&fixture, &(struct testdev_options){.data_bytes = 64}, false);
	cr_expect_eq(reg(&fixture, TD_ID), TD_ID_VALUE);
	memset(ram() + 0x10000, 0x77, 0x1000);
	cr_expect_eq(copy(&fixture, 0x10000, 0x80000, 0x1000, 0), TD_STATUS_DONE);
	close_one(&fixture);
}

/* ---- Doorbells ---- */

static void rings(const struct testdev_options *options)
{
	struct fixture fixture;
	open_one(&fixture, options, true);
	cr_expect_eq(fixture.host.bell_count, TD_DOORBELL_FAST);
	cr_assert(host_ring(&fixture.host, REGISTERS_GPA + TD_DOORBELL(3), 4, 1));
	cr_expect(reg_becomes(&fixture, TD_DOORBELLS + 4 * 3, ~0u, 1));
	/* The others trap, and a width that is not theirs. */
	cr_expect_not(host_ring(&fixture.host, REGISTERS_GPA + TD_DOORBELL(TD_DOORBELL_FAST), 4, 1));
	cr_expect_not(host_ring(&fixture.host, REGISTERS_GPA + TD_DOORBELL(3), 8, 1));
	set_reg(&fixture, TD_DOORBELL(TD_DOORBELL_FAST), 1);
	cr_expect_eq(reg(&fixture, TD_DOORBELLS + 4 * TD_DOORBELL_FAST), 1);
	/* They follow the BAR. */
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, 0xe2000000);
	cr_expect_not(host_ring(&fixture.host, REGISTERS_GPA + TD_DOORBELL(3), 4, 1));
	cr_expect(host_ring(&fixture.host, 0xe2000000 + TD_DOORBELL(3), 4, 1));
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	cr_expect_eq(fixture.host.bell_count, 0);
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	cr_expect_eq(fixture.host.bell_count, TD_DOORBELL_FAST);
	close_one(&fixture);
}

Test(vfio_user_device, doorbells_ring_without_the_vmm)
{
	rings(NULL);
}

Test(vfio_user_device, doorbells_in_libvfio_users_layout_ring_too)
{
	rings(&(struct testdev_options){.long_sub_regions = true});
}

Test(vfio_user_device, doorbells_that_the_hypervisor_refuses_trap)
{
	struct fixture fixture;
	server_start(&servers[0], NULL);
	space_init(&fixture, 1, true);
	host_fail_always(&fixture.host, HOST_IOEVENTFD, ENOSPC);
	const struct tenon_device_options options = options_for(&fixture, 0);
	cr_assert_eq(try_open(&fixture, &options), 0, "%s", fixture.err.message);
	place(&fixture);
	set_reg(&fixture, TD_DOORBELL(3), 1);
	cr_expect_eq(reg(&fixture, TD_DOORBELLS + 4 * 3), 1);
	cr_expect(host_logged(&fixture.host, "doorbell"));
	close_one(&fixture);
}

Test(vfio_user_device, doorbells_stay_trapped_while_every_access_must_be_seen)
{
	struct fixture fixture;
	server_start(&servers[0], NULL);
	space_init(&fixture, 1, true);
	struct tenon_device_options options = options_for(&fixture, 0);
	options.intx = TENON_INTX_TRAPPED;
	cr_assert_eq(try_open(&fixture, &options), 0, "%s", fixture.err.message);
	place(&fixture);
	cr_expect_eq(fixture.host.bell_count, 0);
	guest_msix_control(&fixture, true, false);
	cr_expect_eq(fixture.host.bell_count, TD_DOORBELL_FAST);
	close_one(&fixture);
}
