// SPDX-License-Identifier: MIT
/* The legacy interface: containers and groups, and the choice between it and iommufd. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "device.h"
#include "kernel.h"
#include "space.h"
#include "vfio_fixture.h"

TestSuite(container, .init = fake_world_reset);

static void use_interface(struct fixture *fixture, enum tenon_interface interface)
{
	const struct tenon_space_options options = {.size = sizeof(options), .interface = interface};
	fixture_init(fixture);
	const struct tenon_space_region ram = {
		.size = sizeof(ram), .gpa = 0, .size_bytes = RAM_BYTES, .hva = fixture_ram()};
	tenon_space_destroy(fixture->space);
	cr_assert_eq(tenon_space_create(&options, &fixture->space, NULL), 0);
	cr_assert_eq(tenon_space_add(fixture->space, &ram, NULL), 0);
}

static int try_open(struct fixture *fixture, struct fake_device *fake, struct tenon_device **out)
{
	const struct tenon_device_options options = fixture_options(fixture, fake);
	fixture->err = (struct tenon_error){0};
	return tenon_device_open(&options, out, &fixture->err);
}

static struct tenon_device *open_device(struct fixture *fixture, struct fake_device *fake)
{
	struct tenon_device *device = NULL;
	int code = try_open(fixture, fake, &device);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	return device;
}

/* On a container. */
static void fixture_open_by_group(struct fixture *fixture, struct fake_device *fake)
{
	use_interface(fixture, TENON_INTERFACE_CONTAINER);
	fixture->fake = fake;
	fixture->device = open_device(fixture, fake);
	fixture->host.device = fixture->device;
}

static void assert_refused(struct fixture *fixture, struct fake_device *fake, int expected, const char *word)
{
	struct tenon_device *device = NULL;
	int code = try_open(fixture, fake, &device);
	cr_assert_eq(code, expected, "got %d: %s", code, fixture->err.message);
	assert_message(&fixture->err, code);
	cr_assert(strstr(fixture->err.message, word), "\"%s\" is missing: %s", word, fixture->err.message);
	cr_assert_null(device);
}

/* A second device of the same VM, with a host pointer of its own. */
static struct tenon_device *open_other(struct fixture *fixture, struct fake_host *host, struct fake_device *fake)
{
	host_init(host);
	struct tenon_device_options options = fixture_options(fixture, fake);
	options.ops = &host->ops;
	options.host = host;
	struct tenon_device *device = NULL;
	int code = tenon_device_open(&options, &device, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	return device;
}

/* ---- One device ---- */

Test(container, device_works_as_on_a_character_device)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	fixture.fake->bars[0].memory[0x14] = 0x5a;
	cr_assert_eq(guest_bar(&fixture, 0, 0x14, 1), 0x5a);
	cr_assert_eq(*(host_mapped(&fixture.host, BAR_GPA + 0x14)), 0x5a);
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 3, 0x43, false);
	fake_fire(fixture.fake, 3);
	cr_assert_eq(host_messages(&fixture.host, 0x43), 1);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert(fake_dma_reaches(fixture.fake, 0, true));
	fixture_close(&fixture);
}

Test(container, info_and_member_say_how_the_device_is_used)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	const struct tenon_device_info *info = tenon_device_info(fixture.device);
	cr_assert_eq(info->interface, TENON_INTERFACE_CONTAINER);
	cr_assert_eq(tenon_space_interface(fixture.space), TENON_INTERFACE_CONTAINER);
	cr_assert_str_eq(info->path, "/dev/vfio/59");
	cr_assert_eq(info->iommu_group, 59);
	cr_assert(info->peer_to_peer);
	const struct space_member *member = space_members(fixture.space);
	cr_assert_eq(member->device, fixture.device);
	cr_assert_eq(member->group, 59);
	cr_assert_geq(member->group_fd, 0);
	cr_assert_eq(member->device_id, 0);
	fixture_close(&fixture);
}

Test(container, member_on_iommufd_has_an_id_and_a_group_but_no_group_fd)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	const struct space_member *member = space_members(fixture.space);
	cr_assert_neq(member->device_id, 0);
	cr_assert_eq(member->group, 59);
	cr_assert_eq(member->group_fd, -1);
	cr_assert(!tenon_device_info(fixture.device)->peer_to_peer, "an IOAS maps no BARs");
	fixture_close(&fixture);
}

Test(container, hypervisor_learns_of_the_group_before_the_device_is_opened)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	int added = fake_journal_find("file_add", 0), bound = fake_journal_find("bind 0000:3b:00.0", 0);
	cr_assert_geq(added, 0);
	cr_assert_lt(added, bound);
	/* Older kernels take a group's word on coherency from its container. */
	cr_assert_lt(fake_journal_find("group 59 joins", 0), added);
	fixture_close(&fixture);
}

Test(container, ram_is_mapped_with_one_call_per_region)
{
	struct fixture fixture;
	use_interface(&fixture, TENON_INTERFACE_CONTAINER);
	const struct tenon_space_region more = {
		.size = sizeof(more), .gpa = 0x40000000, .size_bytes = 2ull << 30, .hva = fixture_ram()};
	cr_assert_eq(tenon_space_add(fixture.space, &more, NULL), 0);
	fixture.device = open_device(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(fake_calls(FAKE_DMA_MAP), 2);
	cr_assert_eq(fake_dma_mappings(), 2);
	fixture_close(&fixture);
}

Test(container, nothing_stays_mapped_when_the_last_device_goes)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fixture_open_by_group(&fixture, fake);
	tenon_device_close(fixture.device);
	cr_assert_eq(fake_dma_mappings(), 0);
	cr_assert_eq(fake_ioas_count(), 0);
	cr_assert_eq(fake_open_files(), 0);
	cr_assert_eq(tenon_space_interface(fixture.space), TENON_INTERFACE_AUTO);
	fixture.device = open_device(&fixture, fake);
	cr_assert(fake_dma_reaches(fake, 0, true));
	fixture_close(&fixture);
}

static void fail_late(enum tenon_interface interface)
{
	struct fixture fixture;
	use_interface(&fixture, interface);
	fake_fail_kind(FAKE_GET_INFO, 1, EIO);
	struct tenon_device *device = NULL;
	cr_assert_eq(try_open(&fixture, fake_nvme("0000:3b:00.0"), &device), -EIO);
	cr_assert_eq(fake_dma_mappings(), 0);
	cr_assert_eq(fake_ioas_count(), 0);
	cr_assert_eq(fake_open_files(), 0);
	fixture_close(&fixture);
}

Test(container, nothing_stays_mapped_when_the_first_device_cannot_be_opened)
{
	fail_late(TENON_INTERFACE_CONTAINER);
}

Test(container, nothing_stays_mapped_when_the_first_device_cannot_be_opened_on_iommufd)
{
	fail_late(TENON_INTERFACE_IOMMUFD);
}

Test(container, borrowed_container_is_used_and_stays_open)
{
	int container = kernel_open("/dev/vfio/vfio", 2);
	struct fixture fixture;
	fixture_init(&fixture);
	tenon_space_destroy(fixture.space);
	const struct tenon_space_options options = {.size = sizeof(options), .container = container};
	cr_assert_eq(tenon_space_create(&options, &fixture.space, NULL), 0);
	fake_calls_forget();
	fixture.device = open_device(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_device_info(fixture.device)->interface, TENON_INTERFACE_CONTAINER);
	cr_assert_eq(fake_calls(FAKE_OPEN), 1, "the group is opened, the container is not");
	tenon_device_close(fixture.device);
	tenon_space_destroy(fixture.space);
	cr_assert_eq(fake_open_files(), 1);
	kernel_close(container);
	assert_nothing_left(&fixture);
}

Test(container, passed_fd_that_is_no_container_is_refused)
{
	int eventfd = kernel_eventfd();
	struct fixture fixture;
	fixture_init(&fixture);
	tenon_space_destroy(fixture.space);
	const struct tenon_space_options options = {.size = sizeof(options), .container = eventfd};
	cr_assert_eq(tenon_space_create(&options, &fixture.space, NULL), 0);
	assert_refused(&fixture, fake_nvme("0000:3b:00.0"), -ENOTTY, "/dev/vfio/vfio");
	tenon_space_destroy(fixture.space);
	kernel_close(eventfd);
	assert_nothing_left(&fixture);
}

Test(container, one_that_somebody_uses_is_refused)
{
	struct fixture fixture;
	int container = kernel_open("/dev/vfio/vfio", 2);
	fixture_init(&fixture);
	tenon_space_destroy(fixture.space);
	const struct tenon_space_options options = {.size = sizeof(options), .container = container};
	struct tenon_space *first;
	cr_assert_eq(tenon_space_create(&options, &first, NULL), 0);
	fixture.space = first;
	fixture.device = open_device(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_space_create(&options, &fixture.space, NULL), 0);
	assert_refused(&fixture, fake_nvme("0000:04:00.0"), -EINVAL, "nobody uses");
	tenon_space_destroy(fixture.space);
	fixture.space = first;
	tenon_device_close(fixture.device);
	tenon_space_destroy(first);
	kernel_close(container);
	assert_nothing_left(&fixture);
}

/* ---- Several devices ---- */

Test(container, devices_of_several_groups_share_one_container)
{
	struct fixture fixture;
	struct fake_device *second = fake_edu("0000:04:00.0");
	struct fake_host host;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_device *other = open_other(&fixture, &host, second);
	cr_assert_eq(fake_ioas_count(), 1);
	cr_assert_eq(fake_dma_mappings(), 1);
	cr_assert_eq(second->ioas, fixture.fake->ioas);
	tenon_device_close(fixture.device);
	fixture.device = NULL;
	cr_assert(fake_dma_reaches(second, 0, true));
	tenon_device_close(other);
	fixture_close(&fixture);
}

Test(container, devices_of_one_group_share_its_file)
{
	struct fixture fixture;
	struct fake_device *second = fake_edu("0000:3b:00.1");
	struct fake_host host;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_device *other = open_other(&fixture, &host, second);
	const struct space_member *member = space_members(fixture.space);
	cr_assert_eq(member->group_fd, member->next->group_fd);
	cr_assert_eq(fake_journal_count("open group"), 1);
	cr_assert_eq(fake_journal_count("file_add"), 1, "KVM has the group already");
	tenon_device_close(fixture.device);
	fixture.device = NULL;
	cr_assert_eq(fake_journal_count("file_remove"), 0, "KVM keeps it for the other device");
	cr_assert(fake_dma_reaches(second, 0, true));
	tenon_device_close(other);
	cr_assert_eq(fake_journal_count("file_remove"), 1);
	fixture_close(&fixture);
}

/* A VMM may give the devices of a group different operations, and close them in any order. */
static void mixed_operations(bool first_has, bool close_first)
{
	fake_world_reset();
	struct fixture fixture;
	struct fake_device *fakes[] = {fake_nvme("0000:3b:00.0"), fake_edu("0000:3b:00.1")};
	struct fake_host hosts[2];
	struct tenon_device *devices[2];
	use_interface(&fixture, TENON_INTERFACE_CONTAINER);
	for (unsigned i = 0; i < 2; i++) {
		host_init(&hosts[i]);
		if (first_has != (i == 0)) {
			hosts[i].ops.file_add = NULL;
			hosts[i].ops.file_remove = NULL;
		}
		struct tenon_device_options options = fixture_options(&fixture, fakes[i]);
		options.ops = &hosts[i].ops;
		options.host = &hosts[i];
		cr_assert_eq(tenon_device_open(&options, &devices[i], &fixture.err), 0, "%s", fixture.err.message);
	}
	cr_assert_eq(fake_journal_count("file_add"), 1);
	tenon_device_close(devices[close_first ? 0 : 1]);
	tenon_device_close(devices[close_first ? 1 : 0]);
	cr_assert_eq(fake_journal_count("file_remove"), 1);
	fixture_close(&fixture);
}

Test(container, hypervisor_gets_and_loses_a_group_once_whichever_device_tells_it)
{
	mixed_operations(true, true);
	mixed_operations(true, false);
	mixed_operations(false, true);
	mixed_operations(false, false);
}

Test(container, same_device_cannot_be_assigned_twice)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fixture_open_by_group(&fixture, fake);
	assert_refused(&fixture, fake, -EBUSY, "has it already");
	fixture_close(&fixture);
}

Test(container, second_device_whose_reserved_range_is_guest_memory_is_refused)
{
	struct fixture fixture;
	struct fake_device *second = fake_edu("0000:04:00.0");
	second->reserved_first = 0x1000;
	second->reserved_last = 0x1fff;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	assert_refused(&fixture, second, -EADDRINUSE, "reserves");
	cr_assert(fake_dma_reaches(fixture.fake, 0, true));
	fixture_close(&fixture);
}

/* ---- Groups that cannot be had ---- */

Test(container, group_that_another_process_has_is_refused)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	use_interface(&fixture, TENON_INTERFACE_CONTAINER);
	fake->open_elsewhere = true;
	assert_refused(&fixture, fake, -EBUSY, "group 59 is in use");
	fixture_close(&fixture);
}

Test(container, group_whose_device_is_open_by_its_own_node_is_refused)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fixture_open(&fixture, fake);
	struct tenon_space *first = fixture.space;
	const struct tenon_space_options options = {.size = sizeof(options), .interface = TENON_INTERFACE_CONTAINER};
	cr_assert_eq(tenon_space_create(&options, &fixture.space, NULL), 0);
	assert_refused(&fixture, fake, -EBUSY, "/dev/vfio/devices");
	tenon_space_destroy(fixture.space);
	fixture.space = first;
	fixture_close(&fixture);
}

Test(container, group_with_a_host_driver_is_refused_by_the_kernel_too)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	use_interface(&fixture, TENON_INTERFACE_CONTAINER);
	fake->group_owned = true;
	assert_refused(&fixture, fake, -EBUSY, "not viable");
	fixture_close(&fixture);
}

Test(container, group_file_without_permission_is_refused)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	use_interface(&fixture, TENON_INTERFACE_CONTAINER);
	fake->open_error = EACCES;
	assert_refused(&fixture, fake, -EACCES, "/dev/vfio/59");
	fixture_close(&fixture);
}

Test(container, device_without_a_group_is_refused)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	use_interface(&fixture, TENON_INTERFACE_CONTAINER);
	fake->group = -1;
	assert_refused(&fixture, fake, -ENODEV, "IOMMU");
	fixture_close(&fixture);
}

/* Each new call once, by the words that its failure gets. */
Test(container, each_call_that_fails_is_named)
{
	static const struct {
		enum fake_call kind;
		int error;
		const char *word;
	} cases[] = {
		{FAKE_OPEN, ENOENT, "CONFIG_VFIO_CONTAINER"},
		{FAKE_OPEN, EACCES, "read-write access"},
		{FAKE_API_VERSION, ENOTTY, "VFIO_GET_API_VERSION"},
		{FAKE_GROUP_STATUS, EIO, "VFIO_GROUP_GET_STATUS"},
		{FAKE_SET_CONTAINER, EPERM, "group 59 (0000:3b:00.0 (vfio-pci)) has another owner"},
		{FAKE_SET_CONTAINER, EBUSY, "address space that a host driver gave"},
		{FAKE_SET_CONTAINER, EIO, "group 59"},
		{FAKE_SET_IOMMU, EPERM, "interrupt remapping"},
		{FAKE_SET_IOMMU, ENODEV, "CONFIG_VFIO_IOMMU_TYPE1"},
		{FAKE_IOMMU_INFO, EIO, "VFIO_IOMMU_GET_INFO"},
		{FAKE_DMA_MAP, ENOMEM, "RLIMIT_MEMLOCK"},
		{FAKE_DMA_MAP, ENOSPC, "dma_entry_limit"},
		{FAKE_DMA_MAP, EFAULT, "kernel log"},
		{FAKE_GET_DEVICE_FD, ENODEV, "tenon bind 0000:3b:00.0"},
		{FAKE_GET_DEVICE_FD, EACCES, "needs a VF token"},
		{FAKE_GET_DEVICE_FD, EIO, "kernel log"},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture fixture;
		fake_world_reset();
		struct fake_device *fake = fake_nvme("0000:3b:00.0");
		use_interface(&fixture, TENON_INTERFACE_CONTAINER);
		fake_fail_kind(cases[i].kind, 1, cases[i].error);
		assert_refused(&fixture, fake, -cases[i].error, cases[i].word);
		fixture_close(&fixture);
	}
}

/* ---- Addresses and limits ---- */

Test(container, allowed_ranges_leave_the_message_window_out)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_iova_range ranges[8];
	cr_assert_eq(tenon_space_allowed(fixture.space, ranges, 8, NULL), 2);
	cr_assert_eq(ranges[0].first, 0);
	cr_assert_eq(ranges[0].last, 0xfedfffff);
	cr_assert_eq(ranges[1].first, 0xfef00000);
	cr_assert_eq(tenon_space_allowed(fixture.space, ranges, 1, NULL), 2);
	fixture_close(&fixture);
}

Test(container, memory_over_the_reserved_range_is_refused_with_the_range)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	const struct tenon_space_region region = {
		.size = sizeof(region), .gpa = 0xfee00000, .size_bytes = 0x1000, .hva = fixture_ram()};
	int code = tenon_space_add(fixture.space, &region, &fixture.err);
	cr_assert_eq(code, -ERANGE);
	cr_assert(strstr(fixture.err.message, "0xfee00000-0xfeefffff"), "%s", fixture.err.message);
	fixture_close(&fixture);
}

Test(container, kernel_that_does_not_tell_the_allowed_addresses_is_asked_by_mapping)
{
	struct fixture fixture;
	fake_set_iova_capability(false);
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_iova_range range;
	cr_assert_eq(tenon_space_allowed(fixture.space, &range, 1, NULL), 1);
	cr_assert_eq(range.last, UINT64_MAX);
	const struct tenon_space_region region = {
		.size = sizeof(region), .gpa = 0xfee00000, .size_bytes = 0x1000, .hva = fixture_ram()};
	int code = tenon_space_add(fixture.space, &region, &fixture.err);
	assert_message(&fixture.err, code);
	cr_assert_eq(code, -EINVAL);
	fixture_close(&fixture);
}

Test(container, limit_of_mappings_is_refused_with_numbers_before_anything_is_pinned)
{
	struct fixture fixture;
	use_interface(&fixture, TENON_INTERFACE_CONTAINER);
	const struct tenon_space_region more = {
		.size = sizeof(more), .gpa = 0x40000000, .size_bytes = RAM_BYTES, .hva = fixture_ram()};
	cr_assert_eq(tenon_space_add(fixture.space, &more, NULL), 0);
	fake_set_dma_entries(1);
	fake_calls_forget();
	assert_refused(&fixture, fake_nvme("0000:3b:00.0"), -ENOSPC, "takes 1 more mappings, 2 are needed");
	cr_assert_eq(fake_calls(FAKE_DMA_MAP), 0);
	fixture_close(&fixture);
}

Test(container, check_knows_the_limit_of_mappings)
{
	struct fixture fixture;
	fake_set_dma_entries(1);
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	const struct tenon_space_region more = {
		.size = sizeof(more), .gpa = 0x40000000, .size_bytes = RAM_BYTES, .hva = fixture_ram()};
	int code = tenon_space_check(fixture.space, &more, 1, &fixture.err);
	cr_assert_eq(code, -ENOSPC);
	assert_message(&fixture.err, code);
	fixture_close(&fixture);
}

/* ---- Devices that reach each other ---- */

Test(container, bar_is_reachable_by_other_devices_where_the_guest_sees_it)
{
	struct fixture fixture;
	struct fake_device *second = fake_edu("0000:04:00.0");
	struct fake_host host;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_device *other = open_other(&fixture, &host, second);
	cr_assert(!fake_dma_reaches(second, BAR_GPA, true));
	guest_place(&fixture);
	cr_assert(fake_dma_reaches(second, BAR_GPA, true));
	cr_assert(!fake_dma_reaches(second, BAR_GPA + FAKE_NVME_TABLE, true), "the MSI-X table is nobody's");

	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA + 0x100000);
	cr_assert(!fake_dma_reaches(second, BAR_GPA, true));
	cr_assert(fake_dma_reaches(second, BAR_GPA + 0x100000, true));
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	cr_assert(!fake_dma_reaches(second, BAR_GPA + 0x100000, true));
	tenon_device_close(other);
	fixture_close(&fixture);
}

Test(container, bar_is_out_of_reach_before_it_stops_decoding)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	fake_journal_forget();
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	int unmapped = fake_journal_find("dma unmap 0xe0000000", 0);
	cr_assert_geq(unmapped, 0);
	cr_assert_lt(unmapped, fake_journal_find("memory_unmap 0xe0000000", 0));
	cr_assert_lt(unmapped, fake_journal_find("reset 0000:3b:00.0", 0));
	fixture_close(&fixture);
}

Test(container, bar_where_the_iommu_reserves_addresses_is_only_warned_of)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->reserved_first = BAR_GPA;
	fake->reserved_last = BAR_GPA + 0xfffff;
	fixture_open_by_group(&fixture, fake);
	guest_place(&fixture);
	cr_assert(host_logged(&fixture.host, "out of reach of other devices"));
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA), "the guest has it all the same");
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	fixture_close(&fixture);
}

Test(container, bar_that_the_guest_does_not_see_is_no_peer_s_either)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	host_fail_always(&fixture.host, HOST_MEMORY_MAP, EEXIST);
	guest_place(&fixture);
	cr_assert_eq(fake_dma_mappings(), 1, "RAM");
	fixture_close(&fixture);
}

Test(container, bar_that_stays_reachable_is_logged_and_withdrawn_later)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	fake_fail_kind(FAKE_DMA_UNMAP, 1, EIO);
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	cr_assert(host_logged(&fixture.host, "cannot unmap"));
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	cr_assert_eq(fake_dma_mappings(), 1, "RAM");
	fixture_close(&fixture);
}

Test(container, bar_that_stays_reachable_is_tried_again_at_the_next_write_of_command)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	fake_fail_kind(FAKE_DMA_UNMAP, 1, EIO);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA + 0x100000);
	cr_assert(fake_dma_reaches(fixture.fake, BAR_GPA, true), "the model failed nothing");
	guest_command(&fixture, 0, PCI_COMMAND_MASTER);
	cr_assert(!fake_dma_reaches(fixture.fake, BAR_GPA, true));
	cr_assert(fake_dma_reaches(fixture.fake, BAR_GPA + 0x100000, true));
	fixture_close(&fixture);
}

Test(container, bar_that_stays_reachable_is_tried_again_at_close)
{
	struct fixture fixture;
	struct fake_device *second = fake_edu("0000:04:00.0");
	struct fake_host host;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_device *other = open_other(&fixture, &host, second);
	guest_place(&fixture);
	fake_fail_kind(FAKE_DMA_UNMAP, 1, EIO);
	tenon_device_close(fixture.device);
	fixture.device = NULL;
	cr_assert(!fake_dma_reaches(second, BAR_GPA, true), "DMA reaches a device that the VM has no more");
	tenon_device_close(other);
	fixture_close(&fixture);
}

Test(container, bar_beyond_the_iommu_is_not_mapped_and_told_of_once)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, 0);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_1, 4, 0x10000);
	fake_calls_forget();
	for (unsigned i = 0; i < 20; i++) {
		guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
		cr_assert_not_null(host_mapped(&fixture.host, 0x1000000000000), "the guest has it all the same");
		guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	}
	cr_assert_eq(fake_calls(FAKE_DMA_MAP), 0);
	cr_assert(host_logged(&fixture.host, "does not allow"));
	cr_assert_eq(fixture.host.log_count, 1, "told %u times", fixture.host.log_count);
	fixture_close(&fixture);
}

Test(container, iommu_that_does_not_tell_what_it_allows_maps_no_bar)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	fake_fail_kind(FAKE_IOMMU_INFO, 1, EIO);
	guest_place(&fixture);
	cr_assert(host_logged(&fixture.host, "VFIO_IOMMU_GET_INFO"));
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	fixture_close(&fixture);
}

static bool is_peer(struct fake_device *fake, bool can_map)
{
	struct fixture fixture;
	use_interface(&fixture, TENON_INTERFACE_CONTAINER);
	if (!can_map) {
		fixture.host.ops.memory_map = NULL;
		fixture.host.ops.memory_unmap = NULL;
	}
	fixture.device = open_device(&fixture, fake);
	bool peer = tenon_device_info(fixture.device)->peer_to_peer;
	fixture_close(&fixture);
	return peer;
}

Test(container, device_whose_bars_trap_is_out_of_reach_of_others)
{
	cr_assert(is_peer(fake_nvme("0000:3b:00.0"), true));
	cr_assert_not(is_peer(fake_nvme("0000:3c:00.0"), false), "the VMM maps nothing");
	cr_assert_not(is_peer(fake_serial_card("0000:05:00.0"), true), "its BARs are smaller than a page");
}

static int add_memory(struct fixture *fixture, uint64_t gpa)
{
	const struct tenon_space_region region = {
		.size = sizeof(region), .gpa = gpa, .size_bytes = RAM_BYTES, .hva = fixture_ram()};
	return tenon_space_add(fixture->space, &region, &fixture->err);
}

Test(container, memory_over_a_bar_that_devices_reach_is_refused_as_such)
{
	struct fixture fixture;
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	int code = add_memory(&fixture, BAR_GPA);
	cr_assert_eq(code, -EEXIST);
	assert_message(&fixture.err, code);
	cr_assert(strstr(fixture.err.message, "BAR"), "%s", fixture.err.message);
	fixture_close(&fixture);
}

Test(container, memory_that_somebody_else_unmapped_is_noticed)
{
	struct fixture fixture;
	int fd = kernel_open("/dev/vfio/vfio", 2);
	const struct tenon_space_options options = {.size = sizeof(options), .container = fd};
	fixture_init(&fixture);
	tenon_space_destroy(fixture.space);
	cr_assert_eq(tenon_space_create(&options, &fixture.space, NULL), 0);
	fixture.device = open_device(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(add_memory(&fixture, 0x1000000), 0, "%s", fixture.err.message);
	struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof(unmap), .iova = 0x1000000, .size = RAM_BYTES};
	cr_assert_eq(kernel_ioctl(fd, VFIO_IOMMU_UNMAP_DMA, &unmap), 0);
	int code = tenon_space_remove(fixture.space, 0x1000000, RAM_BYTES, &fixture.err);
	cr_assert_eq(code, -EIO);
	assert_message(&fixture.err, code);
	fixture.host.device = NULL;
	tenon_device_close(fixture.device);
	fixture.device = NULL;
	kernel_close(fd);
	fixture_close(&fixture);
}

/* ---- The choice ---- */

Test(container, iommufd_is_preferred_where_there_is_both)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_device_info(fixture.device)->interface, TENON_INTERFACE_IOMMUFD);
	fixture_close(&fixture);
}

Test(container, kernel_without_iommufd_works)
{
	struct fixture fixture;
	fake_set_iommufd(false);
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_device_info(fixture.device)->interface, TENON_INTERFACE_CONTAINER);
	fixture_close(&fixture);
}

Test(container, kernel_without_character_devices_works)
{
	struct fixture fixture;
	fake_set_cdevs(false);
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_device_info(fixture.device)->interface, TENON_INTERFACE_CONTAINER);
	fixture_close(&fixture);
}

Test(container, kernel_with_neither_is_refused_with_both_options)
{
	struct fixture fixture;
	fake_set_iommufd(false);
	fake_set_container(false);
	fixture_init(&fixture);
	assert_refused(&fixture, fake_nvme("0000:3b:00.0"), -ENOENT, "CONFIG_IOMMUFD");
	cr_assert(strstr(fixture.err.message, "CONFIG_VFIO_CONTAINER"));
	fixture_close(&fixture);
}

Test(container, iommufd_that_was_asked_for_is_not_replaced)
{
	struct fixture fixture;
	fake_set_cdevs(false);
	use_interface(&fixture, TENON_INTERFACE_IOMMUFD);
	assert_refused(&fixture, fake_nvme("0000:3b:00.0"), -ENODEV, "CONFIG_VFIO_DEVICE_CDEV");
	fixture_close(&fixture);
}

Test(container, later_device_follows_the_first)
{
	struct fixture fixture;
	struct fake_host host;
	fake_set_cdevs(false);
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fake_set_cdevs(true);
	struct tenon_device *other = open_other(&fixture, &host, fake_edu("0000:04:00.0"));
	cr_assert_eq(tenon_device_info(other)->interface, TENON_INTERFACE_CONTAINER);
	tenon_device_close(other);
	fixture_close(&fixture);
}

Test(container, later_device_that_can_only_do_the_other_is_refused)
{
	struct fixture fixture;
	struct fake_device *second = fake_edu("0000:04:00.0");
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fake_set_cdevs(false);
	assert_refused(&fixture, second, -ENODEV, "as the VM's other devices are");
	fixture_close(&fixture);
}

Test(container, passed_device_beside_a_container_is_refused)
{
	struct fixture fixture;
	fake_edu("0000:04:00.0");
	int fd = kernel_open("/dev/vfio/devices/vfio0", 2);
	fixture_open_by_group(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_device_options options = fixture_options(&fixture, fixture.fake);
	options.address = NULL;
	options.cdev = fd;
	struct tenon_device *device = NULL;
	int code = tenon_device_open(&options, &device, &fixture.err);
	cr_assert_eq(code, -ENODEV, "%s", fixture.err.message);
	assert_message(&fixture.err, code);
	kernel_close(fd);
	fixture_close(&fixture);
}

Test(container, node_s_path_is_enough_to_find_the_group)
{
	struct fixture fixture;
	fake_nvme("0000:3b:00.0");
	use_interface(&fixture, TENON_INTERFACE_CONTAINER);
	struct tenon_device_options options = fixture_options(&fixture, NULL);
	options.address = "/dev/vfio/devices/vfio0";
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, 0, "%s", fixture.err.message);
	cr_assert_str_eq(tenon_device_info(fixture.device)->address, "0000:3b:00.0");
	fixture_close(&fixture);
}

/* ---- Mediated devices ---- */

#define UUID "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

static void open_mediated(enum tenon_interface interface)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_device_mediated(fake, UUID);
	use_interface(&fixture, interface);
	struct tenon_device_options options = fixture_options(&fixture, fake);
	options.address = UUID;
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, 0, "%s", fixture.err.message);
	const struct tenon_device_info *info = tenon_device_info(fixture.device);
	cr_assert_str_eq(info->address, UUID);
	cr_assert_eq(info->interface, interface);
	cr_assert(!info->coherent, "KVM finds no IOMMU that would make it so");
	fixture_close(&fixture);
}

Test(container, mediated_device_works_by_its_group)
{
	open_mediated(TENON_INTERFACE_CONTAINER);
}

Test(container, mediated_device_works_on_iommufd)
{
	open_mediated(TENON_INTERFACE_IOMMUFD);
}

/* The way that failed first is no failure: the caller's error is not written to. */
Test(container, space_that_falls_back_to_it_leaves_the_error_untouched)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fake_set_iommufd(false);
	const struct tenon_device_options options = fixture_options(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_error err = {.code = 77, .message = "untouched"};
	cr_assert_eq(tenon_device_open(&options, &fixture.device, &err), 0, "%s", err.message);
	cr_assert_eq(tenon_space_interface(fixture.space), TENON_INTERFACE_CONTAINER);
	cr_assert_eq(err.code, 77);
	cr_assert_str_eq(err.message, "untouched");
	fixture_close(&fixture);
}
