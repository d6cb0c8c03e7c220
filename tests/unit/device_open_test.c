// SPDX-License-Identifier: MIT
/* Opening and closing a device: what is known of it, in which order the kernel and the VMM are told, what is refused. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "kernel.h"
#include "vfio_fixture.h"

TestSuite(device_open, .init = fake_world_reset);

/* Opens with the given options and expects a refusal that leaves nothing behind. */
static void assert_refused(struct fixture *fixture, const struct tenon_device_options *options, int expected)
{
	struct tenon_device *device =
		(struct tenon_device *)fixture; /* any value: it must stay untouched or become NULL */
	int code = tenon_device_open(options, &device, &fixture->err);
	cr_assert_eq(code, expected, "got %d: %s", code, fixture->err.message);
	assert_message(&fixture->err, code);
	fixture->device = NULL;
	fixture_close(fixture);
}

static void assert_says(const struct fixture *fixture, const char *word)
{
	cr_assert(strstr(fixture->err.message, word), "\"%s\" is missing: %s", word, fixture->err.message);
}

/* ---- What is known ---- */

Test(device_open, info_describes_an_nvme_controller)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	const struct tenon_device_info *info = tenon_device_info(fixture.device);
	cr_assert_str_eq(info->address, "0000:3b:00.0");
	cr_assert_str_eq(info->path, "/dev/vfio/devices/vfio0");
	cr_assert_eq(info->iommu_group, 0x3b);
	cr_assert_eq(info->vendor_id, 0x1b36);
	cr_assert_eq(info->device_id, 0x0010);
	cr_assert_eq(info->subsystem_vendor_id, 0x1af4);
	cr_assert_eq(info->subsystem_id, 0x1100);
	cr_assert_eq(info->class_code, 0x010802);
	cr_assert(info->pcie);
	cr_assert_eq(info->intx_pin, 1);
	cr_assert_eq(info->msi_vectors, 32);
	cr_assert_eq(info->msix_vectors, 65);
	cr_assert_eq(info->reset, TENON_RESET_FUNCTION);
	cr_assert(info->sriov_hidden);
	fixture_close(&fixture);
}

Test(device_open, info_describes_bars)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	const struct tenon_bar_info *bars = tenon_device_info(fixture.device)->bars;
	cr_assert_eq(bars[0].size_bytes, 0x4000);
	cr_assert(!bars[0].io && bars[0].is_64bit && !bars[0].prefetchable);
	cr_assert_geq(bars[0].mappable_bytes, 0x2000);
	cr_assert_leq(bars[0].mappable_bytes, 0x3000, "the table's page must trap");
	for (unsigned i = 1; i < TENON_DEVICE_BARS; i++)
		cr_assert_eq(bars[i].size_bytes, 0, "BAR %u", i);
	fixture_close(&fixture);
}

Test(device_open, info_describes_a_conventional_device)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_edu("0000:04:00.0"));
	const struct tenon_device_info *info = tenon_device_info(fixture.device);
	cr_assert(!info->pcie);
	cr_assert(!info->sriov_hidden);
	cr_assert_eq(info->msi_vectors, 1);
	cr_assert_eq(info->msix_vectors, 0);
	cr_assert_eq(info->bars[0].size_bytes, 0x100000);
	cr_assert_eq(info->bars[0].mappable_bytes, 0x100000);
	fixture_close(&fixture);
}

Test(device_open, info_describes_ports_and_small_bars)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_serial_card("0000:05:00.0"));
	const struct tenon_device_info *info = tenon_device_info(fixture.device);
	cr_assert(info->bars[0].io);
	cr_assert_eq(info->bars[0].size_bytes, 32);
	cr_assert_eq(info->bars[0].mappable_bytes, 0);
	cr_assert_eq(info->bars[1].size_bytes, 256);
	cr_assert_eq(info->bars[1].mappable_bytes, 0, "a BAR below a page must trap");
	cr_assert_eq(info->intx_pin, 2);
	fixture_close(&fixture);
}

Test(device_open, device_that_cannot_be_reset_says_so)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake->no_reset = true;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(tenon_device_info(fixture.device)->reset, TENON_RESET_NONE);
	fixture_close(&fixture);
}

/* ---- Ways to name it ---- */

Test(device_open, short_address_is_enough)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	struct tenon_device_options options = fixture_options(&fixture, fake);
	options.address = "3b:00.0";
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	cr_assert_str_eq(tenon_device_info(fixture.device)->address, "0000:3b:00.0");
	fixture_close(&fixture);
}

Test(device_open, node_path_is_enough)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	struct tenon_device_options options = fixture_options(&fixture, fake);
	options.address = "/dev/vfio/devices/vfio0";
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	cr_assert_str_eq(tenon_device_info(fixture.device)->address, "0000:3b:00.0");
	fixture_close(&fixture);
}

Test(device_open, passed_fd_is_borrowed)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	int fd = kernel_open("/dev/vfio/devices/vfio0", 2);
	struct tenon_device_options options = fixture_options(&fixture, fake);
	options.address = NULL;
	options.cdev = fd;
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	cr_assert_str_eq(tenon_device_info(fixture.device)->address, "0000:3b:00.0");
	tenon_device_close(fixture.device);
	fixture.device = NULL;
	char path[64];
	cr_assert_eq(kernel_fd_path(fd, path, sizeof(path)), 0, "the caller's fd is closed");
	kernel_close(fd);
	fixture_close(&fixture);
}

Test(device_open, passed_fd_that_stays_bound_leaves_the_address_space)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	int fd = kernel_open("/dev/vfio/devices/vfio0", 2);
	struct fixture fixture;
	fixture_init(&fixture);
	struct tenon_device_options options = fixture_options(&fixture, fake);
	options.address = NULL;
	options.cdev = fd;
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	cr_assert(fake_dma_reaches(fake, 0, true));
	tenon_device_close(fixture.device);
	cr_assert(!fake_dma_reaches(fake, 0, false));
	cr_assert_eq(fake_ioas_count(), 0);
	cr_assert_neq(fake->owner, NULL, "it is bound as long as its owner has it open");
	kernel_close(fd);
	fixture.device = NULL;
	fixture_close(&fixture);
}

Test(device_open, passed_fd_that_a_failed_open_left_bound_is_refused_with_what_to_pass)
{
	fake_nvme("0000:3b:00.0");
	int fd = kernel_open("/dev/vfio/devices/vfio0", 2);
	struct fixture fixture;
	fixture_init(&fixture);
	struct tenon_device_options options = fixture_options(&fixture, NULL);
	options.cdev = fd;
	fake_fail_kind(FAKE_GET_INFO, 1, EIO);
	cr_assert_eq(tenon_device_open(&options, &fixture.device, &fixture.err), -EIO);
	cr_assert_eq(tenon_device_open(&options, &fixture.device, &fixture.err), -EBUSY);
	assert_says(&fixture, "opened anew");
	kernel_close(fd);
	fixture.device = NULL;
	fixture_close(&fixture);
}

Test(device_open, passed_fd_may_be_closed_while_the_device_is_in_use)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	int fd = kernel_open("/dev/vfio/devices/vfio0", 2);
	struct tenon_device_options options = fixture_options(&fixture, fake);
	options.address = NULL;
	options.cdev = fd;
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	kernel_close(fd);
	cr_assert_eq(guest_config(&fixture, PCI_VENDOR_ID, 2), 0x1b36);
	fixture_close(&fixture);
}

Test(device_open, passed_fd_of_unknown_origin_works)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	int fd = kernel_open("/dev/vfio/devices/vfio0", 2);
	fake_fail_always(FAKE_FD_PATH, ENOENT);
	struct tenon_device_options options = fixture_options(&fixture, fake);
	options.address = NULL;
	options.cdev = fd;
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, 0, "%s", fixture.err.message);
	cr_assert_str_eq(tenon_device_info(fixture.device)->path, "");
	cr_assert_eq(tenon_device_info(fixture.device)->iommu_group, -1);
	cr_assert_eq(tenon_device_info(fixture.device)->vendor_id, 0x1b36);
	kernel_close(fd);
	fixture_close(&fixture);
}

/* ---- Options ---- */

Test(device_open, bad_options_are_refused)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	const struct tenon_device_options good = fixture_options(&fixture, fake);
	struct tenon_host_ops no_route = fixture.host.ops, small_ops = fixture.host.ops;
	no_route.route_set = NULL;
	small_ops.size = offsetof(struct tenon_host_ops, ioeventfd_attach) - 1; /* less than the first version had */
	struct tenon_device_options bad[6] = {good, good, good, good, good, good};
	bad[0].size--;
	bad[1].space = NULL;
	bad[2].ops = NULL;
	bad[3].address = NULL;
	bad[4].ops = &small_ops;
	bad[5].ops = &no_route;
	for (unsigned i = 0; i < 6; i++) {
		struct tenon_error err = {0};
		struct tenon_device *device = NULL;
		int code = tenon_device_open(&bad[i], &device, &err);
		cr_assert_eq(code, -EINVAL, "case %u gave %d: %s", i, code, err.message);
		assert_message(&err, code);
		cr_assert_null(device);
	}
	struct tenon_device *device = NULL;
	cr_assert_eq(tenon_device_open(NULL, &device, NULL), -EINVAL);
	cr_assert_eq(tenon_device_open(&good, NULL, NULL), -EINVAL);
	fixture_close(&fixture);
}

Test(device_open, half_of_an_optional_pair_is_refused)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	struct tenon_host_ops half[3] = {fixture.host.ops, fixture.host.ops, fixture.host.ops};
	half[0].file_remove = NULL;
	half[1].memory_unmap = NULL;
	half[2].intx_detach = NULL;
	for (unsigned i = 0; i < 3; i++) {
		struct tenon_device_options options = fixture_options(&fixture, fake);
		options.ops = &half[i];
		struct tenon_error err = {0};
		int code = tenon_device_open(&options, &fixture.device, &err);
		cr_assert_eq(code, -EINVAL, "case %u gave %d", i, code);
		assert_message(&err, code);
	}
	fixture.device = NULL;
	fixture_close(&fixture);
}

/* Each field of choices, by its name in the message. */
Test(device_open, choice_that_there_is_not_is_refused)
{
	static const char *const fields[] = {".slot", ".reset", ".sriov", ".rom", ".intx"};
	for (unsigned i = 0; i < 10; i++) {
		const unsigned beyond = i / 5 ? 77 : (unsigned[]){2, 3, 2, 3, 2}[i % 5];
		fake_world_reset();
		struct fake_device *fake = fake_nvme("0000:3b:00.0");
		struct fixture fixture;
		fixture_init(&fixture);
		struct tenon_device_options options = fixture_options(&fixture, fake);
		if (i % 5 == 0)
			options.slot = (enum tenon_slot_kind)beyond;
		if (i % 5 == 1)
			options.reset = (enum tenon_reset_policy)beyond;
		if (i % 5 == 2)
			options.sriov = (enum tenon_sriov_policy)beyond;
		if (i % 5 == 3)
			options.rom = (enum tenon_rom_policy)beyond;
		if (i % 5 == 4)
			options.intx = (enum tenon_intx_policy)beyond;
		fake_calls_forget();
		int code = tenon_device_open(&options, &fixture.device, &fixture.err);
		cr_assert_eq(code, -EINVAL, "%s = %u gave %d", fields[i % 5], beyond, code);
		assert_message(&fixture.err, code);
		assert_says(&fixture, fields[i % 5]);
		cr_assert_eq(fake_calls_total(), 0);
		fixture_close(&fixture);
	}
}

Test(device_open, negative_file_is_refused_even_beside_an_address)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	for (unsigned i = 0; i < 2; i++) {
		struct fixture fixture;
		fixture_init(&fixture);
		struct tenon_device_options options = fixture_options(&fixture, fake);
		options.cdev = -1;
		if (i)
			options.address = NULL;
		int code = tenon_device_open(&options, &fixture.device, &fixture.err);
		cr_assert_eq(code, -EINVAL);
		assert_message(&fixture.err, code);
		assert_says(&fixture, ".cdev");
		fixture_close(&fixture);
	}
}

Test(device_open, reserved_bytes_must_be_zero)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	struct tenon_device_options options = fixture_options(&fixture, fake);
	options.reserved[sizeof(options.reserved) - 1] = 1;
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, -EINVAL);
	assert_message(&fixture.err, code);
	fixture_close(&fixture);
}

Test(device_open, options_of_a_newer_caller_are_accepted_when_the_rest_is_zero)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	struct {
		struct tenon_device_options known;
		uint64_t later;
	} options = {.known = fixture_options(&fixture, fake)};
	options.known.size = sizeof(options);
	cr_assert_eq(tenon_device_open(&options.known, &fixture.device, NULL), 0);
	fixture_close(&fixture);
}

Test(device_open, options_of_a_newer_caller_that_ask_for_more_are_refused)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	struct {
		struct tenon_device_options known;
		uint64_t later;
	} options = {.known = fixture_options(&fixture, fake), .later = 1};
	options.known.size = sizeof(options);
	int code = tenon_device_open(&options.known, &fixture.device, &fixture.err);
	cr_assert(code == -E2BIG || code == -EINVAL, "got %d", code);
	assert_message(&fixture.err, code);
	fixture.device = NULL;
	fixture_close(&fixture);
}

Test(device_open, optional_operations_may_be_absent)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.host.ops.file_add = NULL;
	fixture.host.ops.file_remove = NULL;
	fixture.host.ops.memory_map = NULL;
	fixture.host.ops.memory_unmap = NULL;
	fixture.host.ops.intx_attach = NULL;
	fixture.host.ops.intx_detach = NULL;
	fixture.host.ops.log = NULL;
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, 0, "%s", fixture.err.message);
	fixture.fake = fake;
	guest_place(&fixture);
	fake->bars[0].memory[0x14] = 0x5a;
	cr_assert_eq(guest_bar(&fixture, 0, 0x14, 1), 0x5a);
	fixture_close(&fixture);
}

/* ---- Order ---- */

Test(device_open, hypervisor_learns_of_the_file_before_the_device_is_bound)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	int added = fake_journal_find("file_add", 0), bound = fake_journal_find("bind", 0);
	cr_assert_geq(added, 0);
	cr_assert_gt(bound, added);
	fixture_close(&fixture);
}

/* KVM holds a reference of the file and finds it by an open descriptor: only both let the kernel close the device. */
Test(device_open, close_gives_the_device_back_for_good)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	tenon_device_close(fixture.device);
	fixture.device = NULL;
	cr_assert_geq(fake_journal_find("file_remove", 0), 0);
	cr_assert_geq(fake_journal_find("unbind 0000:3b:00.0", 0), 0, "the kernel still has the device open");
	cr_assert_null(fixture.fake->owner);
	fixture_close(&fixture);
}

Test(device_open, hypervisor_is_told_last_when_the_device_closes)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	guest_msix_vector(&fixture, 0, 0x41, false);
	guest_msix_control(&fixture, true, false);
	fake_journal_forget();
	tenon_device_close(fixture.device);
	fixture.device = NULL;
	int removed = fake_journal_find("file_remove", 0);
	cr_assert_gt(removed, fake_journal_find("irq off", 0), "interrupts must be off before");
	cr_assert_gt(removed, fake_journal_find("memory_unmap", 0), "BARs must be gone before");
	cr_assert_gt(removed, fake_journal_find("command", 0), "DMA must be off before");
	fixture_close(&fixture);
}

Test(device_open, device_is_reset_before_the_guest_has_it)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_geq(fixture.fake->resets, 1);
	cr_assert_eq(fixture.fake->command_at_reset & PCI_COMMAND_MASTER, 0);
	fixture_close(&fixture);
}

Test(device_open, guest_finds_the_device_off)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	const uint32_t on = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	cr_assert_eq(guest_config(&fixture, PCI_COMMAND, 2) & on, 0);
	cr_assert_eq(fake_config_get(fixture.fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER, 0);
	cr_assert_eq(fixture.host.map_count, 0);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_0, 4), PCI_BASE_ADDRESS_MEM_TYPE_64);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_1, 4), 0);
	fixture_close(&fixture);
}

Test(device_open, nothing_is_armed_for_a_guest_that_never_runs)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(fixture.host.route_count, 0);
	cr_assert_eq(fixture.host.irqfd_count, 0);
	fixture_close(&fixture);
}

Test(device_open, close_accepts_null)
{
	tenon_device_close(NULL);
}

Test(device_open, can_be_repeated)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	guest_msix_control(&fixture, true, false);
	fixture_close(&fixture);
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_config(&fixture, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY, 0);
	fixture_close(&fixture);
}

/* ---- Refusals ---- */

Test(device_open, absent_device_is_refused)
{
	struct fixture fixture;
	fixture_init(&fixture);
	struct tenon_device_options options = fixture_options(&fixture, fake_nvme("0000:3b:00.0"));
	options.address = "0000:77:00.0";
	assert_refused(&fixture, &options, -ENODEV);
	assert_says(&fixture, "0000:77:00.0");
}

Test(device_open, device_of_a_host_driver_is_refused)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_device_driver(fake, "nvme");
	struct fixture fixture;
	fixture_init(&fixture);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	assert_refused(&fixture, &options, -EBUSY);
	assert_says(&fixture, "nvme");
}

Test(device_open, group_that_is_not_free_is_refused_with_its_members)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fake_device *other = fake_device_add("0000:3b:00.1", 0x8086, 0x1533, fake->group);
	fake_device_driver(other, "igb");
	struct fixture fixture;
	fixture_init(&fixture);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	assert_refused(&fixture, &options, -EBUSY);
	assert_says(&fixture, "group 59");
	assert_says(&fixture, "0000:3b:00.1");
	assert_says(&fixture, "igb");
	assert_says(&fixture, "tenon bind 0000:3b:00.1");
}

Test(device_open, node_without_permission_is_refused)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->open_error = EACCES;
	struct fixture fixture;
	fixture_init(&fixture);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	assert_refused(&fixture, &options, -EACCES);
	assert_says(&fixture, "0000:3b:00.0");
	assert_says(&fixture, "/dev/vfio/devices/vfio0");
}

Test(device_open, device_that_another_process_has_is_refused)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->open_elsewhere = true;
	struct fixture fixture;
	fixture_init(&fixture);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	assert_refused(&fixture, &options, -EBUSY);
}

Test(device_open, group_that_another_process_owns_is_refused)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->group_owned = true;
	struct fixture fixture;
	fixture_init(&fixture);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	assert_refused(&fixture, &options, -EPERM);
	assert_says(&fixture, "group 59 (0000:3b:00.0 (vfio-pci))");
}

Test(device_open, group_of_a_device_given_by_its_path_is_named)
{
	struct fixture fixture;
	fake_nvme("0000:3b:00.0")->group_owned = true;
	fixture_init(&fixture);
	struct tenon_device_options options = fixture_options(&fixture, NULL);
	options.address = "/dev/vfio/devices/vfio0";
	assert_refused(&fixture, &options, -EPERM);
	assert_says(&fixture, "group 59 (");
}

/* ---- Devices that the firmware keeps for itself ---- */

static const char firmware_regions[] = "0x00000000000a0000 0x00000000000affff direct-relaxable\n"
				       "0x000000007b800000 0x000000007fffffff direct\n"
				       "0x00000000fee00000 0x00000000feefffff msi\n";
static const char usual_regions[] = "0x00000000000a0000 0x00000000000affff direct-relaxable\n"
				    "0x00000000fee00000 0x00000000feefffff msi\n";

static void refuse_firmware_s(enum tenon_interface interface, const char *regions, int expected, const char *words)
{
	fake_world_reset();
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	const struct tenon_space_options space = {.size = sizeof(space), .interface = interface};
	fake->firmware_memory = true;
	fake_set_file("/sys/kernel/iommu_groups/59/reserved_regions", regions, strlen(regions));
	fixture_init(&fixture);
	tenon_space_destroy(fixture.space);
	cr_assert_eq(tenon_space_create(&space, &fixture.space, NULL), 0);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	assert_refused(&fixture, &options, expected);
	assert_says(&fixture, words);
}

Test(device_open, device_that_the_firmware_keeps_memory_for_is_refused_as_such)
{
	refuse_firmware_s(TENON_INTERFACE_IOMMUFD, firmware_regions, -EOPNOTSUPP, "firmware keeps memory");
	refuse_firmware_s(TENON_INTERFACE_CONTAINER, firmware_regions, -EOPNOTSUPP, "firmware keeps memory");
}

Test(device_open, memory_that_the_firmware_lets_go_of_is_no_reason)
{
	refuse_firmware_s(TENON_INTERFACE_IOMMUFD, usual_regions, -EBUSY, "already open");
	refuse_firmware_s(TENON_INTERFACE_CONTAINER, usual_regions, -EINVAL, "group 59");
}

Test(device_open, reserved_regions_that_cannot_be_read_leave_the_kernel_s_reason)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fake->firmware_memory = true;
	fake_set_file("/sys/kernel/iommu_groups/59/reserved_regions", firmware_regions, strlen(firmware_regions));
	fixture_init(&fixture);
	fake_fail_kind(FAKE_PREAD, 1, EIO);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	assert_refused(&fixture, &options, -EBUSY);
	assert_says(&fixture, "already open");
}

/* ---- Locks ---- */

static void open_busy(enum tenon_interface interface, unsigned times, int expected)
{
	fake_world_reset();
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	const struct tenon_space_options space = {.size = sizeof(space), .interface = interface};
	fake->open_busy = times;
	fixture_init(&fixture);
	tenon_space_destroy(fixture.space);
	cr_assert_eq(tenon_space_create(&space, &fixture.space, NULL), 0);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	if (expected < 0) {
		assert_refused(&fixture, &options, expected);
		assert_says(&fixture, "lock");
		return;
	}
	cr_assert_eq(tenon_device_open(&options, &fixture.device, &fixture.err), 0, "%s", fixture.err.message);
	fixture_close(&fixture);
}

Test(device_open, lock_that_somebody_holds_for_a_moment_is_waited_for)
{
	open_busy(TENON_INTERFACE_IOMMUFD, 3, 0);
	open_busy(TENON_INTERFACE_CONTAINER, 3, 0);
}

Test(device_open, lock_that_somebody_keeps_is_not_waited_for_without_end)
{
	open_busy(TENON_INTERFACE_IOMMUFD, 1000, -EAGAIN);
	open_busy(TENON_INTERFACE_CONTAINER, 1000, -EAGAIN);
}

Test(device_open, host_without_interrupt_remapping_is_refused_with_what_to_turn_on)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fake_fail_kind(FAKE_BIND, 1, EPERM);
	const struct tenon_device_options options = fixture_options(&fixture, fake_nvme("0000:3b:00.0"));
	assert_refused(&fixture, &options, -EPERM);
	assert_says(&fixture, "interrupt remapping");
}

Test(device_open, same_device_cannot_be_opened_twice)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	struct fake_host host;
	host_init(&host);
	struct tenon_device_options options = fixture_options(&fixture, fixture.fake);
	options.ops = &host.ops;
	options.host = &host;
	struct tenon_device *second = NULL;
	cr_assert_eq(tenon_device_open(&options, &second, &fixture.err), -EBUSY);
	assert_message(&fixture.err, -EBUSY);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA), "the first device lost its BAR");
	cr_assert(fake_dma_reaches(fixture.fake, 0, true));
	fixture_close(&fixture);
}

Test(device_open, hypervisor_that_refuses_the_file_refuses_the_device)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	host_fail(&fixture.host, HOST_FILE_ADD, 1, ENOMEM);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	assert_refused(&fixture, &options, -ENOMEM);
}

Test(device_open, fd_that_is_no_device_is_refused)
{
	struct fixture fixture;
	fixture_init(&fixture);
	int fd = kernel_open("/dev/iommu", 2);
	struct tenon_device_options options = fixture_options(&fixture, fake_nvme("0000:3b:00.0"));
	options.address = NULL;
	options.cdev = fd;
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	assert_message(&fixture.err, code);
	kernel_close(fd);
	fixture.device = NULL;
	fixture_close(&fixture);
}

/* ---- Hostile devices ---- */

/* Opens or refuses it in words; the guest then pokes at all of it; nothing hangs, nothing stays. */
static void try_hostile(enum fake_hostility hostility)
{
	struct fake_device *fake = fake_hostile("0000:3b:00.0", hostility);
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.fake = fake;
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	if (code < 0) {
		assert_message(&fixture.err, code);
		fixture.device = NULL;
		fixture_close(&fixture);
		return;
	}
	guest_capability(&fixture, PCI_CAP_ID_MSIX);
	guest_capability_extended(&fixture, PCI_EXT_CAP_ID_SRIOV);
	guest_place(&fixture);
	for (unsigned offset = 0; offset < TENON_CONFIG_BYTES; offset += 2) {
		uint32_t value = guest_config(&fixture, offset, 2);
		guest_config_write(&fixture, offset, 2, ~value);
		guest_config_write(&fixture, offset, 2, value);
	}
	guest_place(&fixture);
	unsigned msix = guest_capability(&fixture, PCI_CAP_ID_MSIX);
	if (msix)
		guest_config_write(&fixture, msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	for (uint64_t offset = 0; offset < 0x4000; offset += 4)
		guest_bar_write(&fixture, 0, offset, 4, 0);
	for (uint64_t offset = 0; offset < 0x4000; offset += 8)
		guest_bar(&fixture, 0, offset, 8);
	fixture_close(&fixture);
}

Test(device_open, looping_capability_list_is_survived)
{
	try_hostile(FAKE_CAPABILITIES_LOOP);
}

Test(device_open, looping_extended_list_is_survived)
{
	try_hostile(FAKE_EXTENDED_LOOP);
}

Test(device_open, capability_beyond_the_end_is_survived)
{
	try_hostile(FAKE_CAPABILITY_BEYOND);
}

Test(device_open, capability_beyond_the_end_is_not_shown)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_hostile("0000:3b:00.0", FAKE_CAPABILITY_BEYOND));
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_VNDR), 0);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_PWR), 0);
	cr_assert_eq(guest_config(&fixture, 0xffc, 4), 0);
	fixture_close(&fixture);
}

Test(device_open, msix_table_outside_its_bar_is_survived)
{
	try_hostile(FAKE_TABLE_OUTSIDE_BAR);
}

Test(device_open, msix_table_in_an_absent_bar_is_survived)
{
	try_hostile(FAKE_TABLE_IN_ABSENT_BAR);
}

Test(device_open, msix_table_over_the_pending_bits_is_survived)
{
	try_hostile(FAKE_TABLE_OVER_PBA);
}

Test(device_open, huge_vector_count_is_survived)
{
	try_hostile(FAKE_COUNT_HUGE);
}

Test(device_open, capability_inside_the_header_is_survived)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->config[PCI_CAPABILITY_LIST] = 0x04;
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.fake = fake;
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	if (code == 0)
		guest_capability(&fixture, PCI_CAP_ID_MSIX);
	else
		assert_message(&fixture.err, code);
	fixture_close(&fixture);
}

Test(device_open, device_that_reads_all_ones_is_survived)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	memset(fake->config, 0xff, sizeof(fake->config));
	struct fixture fixture;
	fixture_init(&fixture);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	if (code < 0)
		assert_message(&fixture.err, code);
	tenon_device_close(code == 0 ? fixture.device : NULL);
	fixture.device = NULL;
	fake_config_set(fake, PCI_COMMAND, 2, 0);
	fixture_close(&fixture);
}
