// SPDX-License-Identifier: MIT
/* What a reset would do, whom it would hit, and that the kernel then does what the plan said, or is not even asked. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "device.h"
#include "kernel.h"
#include "vfio_fixture.h"

TestSuite(reset_plan, .init = fake_world_reset);

#define FIRST  "0000:3b:00.0"
#define SECOND "0000:3b:00.1"

/* Two functions of one slot; the second has its own host, and is opened when a test wants it. */
struct slot {
	struct fixture first;
	struct fake_device *fake, *fake2;
	struct fake_host host2;
	struct tenon_device *second;
	struct tenon_error err;
};

/* An NVMe controller without function-level reset; `method` is what the kernel has left for it. */
static struct fake_device *without_flr(const char *bdf, const char *method)
{
	struct fake_device *fake = fake_nvme(bdf);
	fake_config_set(fake, fake->pcie + PCI_EXP_DEVCAP, 4, 0);
	fake_device_reset_method(fake, method);
	return fake;
}

/* A function that claims an FLR which the kernel does not use (its quirks know that it is broken). */
static void claim_flr(struct fake_device *fake)
{
	fake_config_set(fake, fake->pcie + PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_FLR);
}

/* Two functions that only their slot's reset resets, in the same IOMMU group or not. */
static void slot_init(struct slot *slot, bool same_group)
{
	memset(slot, 0, sizeof(*slot));
	slot->fake = without_flr(FIRST, "");
	slot->fake2 = without_flr(SECOND, "");
	slot->fake->slot = slot->fake2->slot = 1;
	if (!same_group)
		slot->fake2->group = slot->fake->group + 1;
	fixture_init(&slot->first);
	slot->first.fake = slot->fake;
	host_init(&slot->host2);
}

/* From the start, through the other of the kernel's interfaces. */
static void slot_use_container(struct slot *slot)
{
	const struct tenon_space_options options = {.size = sizeof(options), .interface = TENON_INTERFACE_CONTAINER};
	tenon_space_destroy(slot->first.space);
	cr_assert_eq(tenon_space_create(&options, &slot->first.space, NULL), 0);
}

static int slot_open_with(struct slot *slot, enum tenon_reset_policy policy)
{
	struct tenon_device_options options = fixture_options(&slot->first, slot->fake);
	options.reset = policy;
	return tenon_device_open(&options, &slot->first.device, &slot->err);
}

static void slot_open(struct slot *slot)
{
	cr_assert_eq(slot_open_with(slot, TENON_RESET_PREFER), 0, "%s", slot->err.message);
	fake_journal_forget();
}

static int slot_open_second_with(struct slot *slot, enum tenon_reset_policy policy)
{
	struct tenon_device_options options = fixture_options(&slot->first, slot->fake2);
	options.host = &slot->host2;
	options.ops = &slot->host2.ops;
	options.reset = policy;
	return tenon_device_open(&options, &slot->second, &slot->err);
}

static void slot_open_both(struct slot *slot)
{
	slot_open(slot);
	cr_assert_eq(slot_open_second_with(slot, TENON_RESET_PREFER), 0, "%s", slot->err.message);
	fake_journal_forget();
	slot->fake->resets = slot->fake2->resets = 0;
	slot->fake->hot_resets = slot->fake2->hot_resets = 0;
}

static void slot_close(struct slot *slot)
{
	tenon_device_close(slot->second);
	fixture_close(&slot->first);
	cr_assert_str_empty(host_leftovers(&slot->host2), "%s", host_leftovers(&slot->host2));
}

/* A guest's driver at work on the second function. */
static void use_second(struct slot *slot)
{
	struct fixture second = {.fake = slot->fake2, .device = slot->second};
	guest_place(&second);
	guest_msix_vector(&second, 0, 0x60, false);
	guest_msix_control(&second, true, false);
}

static struct tenon_reset_plan plan_of(struct tenon_device *device)
{
	struct tenon_reset_plan plan = {.size = sizeof(plan)};
	struct tenon_error err;
	cr_assert_eq(tenon_device_reset_plan(device, &plan, &err), 0, "%s", err.message);
	cr_assert_neq(plan.why[0], '\0');
	cr_assert_geq(plan.affected_count, 1);
	cr_assert_eq(plan.affected[0].owner, TENON_RESET_OWNER_SELF);
	return plan;
}

static unsigned resets_asked_for(void)
{
	return fake_calls(FAKE_DEVICE_RESET) + fake_calls(FAKE_HOT_RESET);
}

/* What the plan said is what happens. */
static void assert_outcome(struct slot *slot, const struct tenon_reset_plan *plan)
{
	unsigned resets = slot->fake->resets, resets2 = slot->fake2->resets;
	uint64_t writes2 = slot->fake2->config_writes;
	fake_calls_forget();
	int code = tenon_device_reset(slot->first.device, &slot->err);
	if (plan->allowed) {
		cr_assert_eq(code, 0, "predicted: %s; came: %s", plan->why, slot->err.message);
		cr_assert_eq(slot->fake->resets, resets + 1);
		cr_assert_eq(slot->fake2->resets, resets2 + (plan->affected_count > 1));
		return;
	}
	assert_message(&slot->err, code);
	cr_assert(strstr(slot->err.message, plan->why), "%s", slot->err.message);
	cr_assert_eq(resets_asked_for(), 0, "the kernel was asked for what the plan does not allow");
	cr_assert_eq(slot->fake->resets, resets);
	cr_assert_eq(slot->fake2->resets, resets2);
	cr_assert_eq(slot->fake2->config_writes, writes2, "the other function was touched");
}

/* ---- The method ---- */

static struct tenon_reset_plan plan_of_method(struct fixture *fixture, const char *method)
{
	fixture_open(fixture, without_flr(FIRST, method));
	return plan_of(fixture->device);
}

Test(reset_plan, function_level_reset_comes_first_and_hits_nothing_else)
{
	struct slot slot;
	slot_init(&slot, true);
	fake_device_reset_method(slot.fake, "flr pm bus");
	slot_open(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert_eq(plan.method, TENON_RESET_FUNCTION);
	cr_assert(plan.allowed);
	cr_assert_eq(plan.affected_count, 1);
	cr_assert_str_eq(plan.affected[0].address, FIRST);
	cr_assert_str_eq(plan.affected[0].driver, "vfio-pci");
	cr_assert_eq(plan.affected[0].iommu_group, 0x3b);
	assert_outcome(&slot, &plan);
	cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 1);
	slot_close(&slot);
}

Test(reset_plan, every_method_of_the_function_itself_is_a_function_reset)
{
	static const char *const methods[] = {"af_flr pm", "device_specific bus", "acpi", "something_of_tomorrow"};
	for (unsigned i = 0; i < 4; i++) {
		fake_world_reset();
		struct fixture fixture;
		const struct tenon_reset_plan plan = plan_of_method(&fixture, methods[i]);
		cr_expect_eq(plan.method, TENON_RESET_FUNCTION, "%s", methods[i]);
		cr_expect(plan.allowed);
		fixture_close(&fixture);
	}
}

Test(reset_plan, power_cycle_is_the_last_resort)
{
	struct fixture fixture;
	const struct tenon_reset_plan plan = plan_of_method(&fixture, "pm");
	cr_assert_eq(plan.method, TENON_RESET_POWER);
	cr_assert(plan.allowed);
	cr_assert_eq(tenon_device_info(fixture.device)->reset, TENON_RESET_POWER);
	fixture_close(&fixture);
}

/* It is reset: what is said of a device that keeps its state is not said of it. */
Test(reset_plan, power_cycle_says_why_it_is_not_the_bus)
{
	struct fixture fixture;
	const struct tenon_reset_plan power = plan_of_method(&fixture, "pm");
	cr_assert(strstr(power.why, "its bus cannot be reset"), "%s", power.why);
	cr_assert(!strstr(power.why, "keeps"), "%s", power.why);
	fixture_close(&fixture);

	fake_world_reset();
	const struct tenon_reset_plan none = plan_of_method(&fixture, "");
	cr_assert(strstr(none.why, "; it keeps what its last user left in it"), "%s", none.why);
	fixture_close(&fixture);
}

/* echo > reset_method: the kernel then refuses VFIO_DEVICE_RESET, whatever config space promises. */
Test(reset_plan, methods_that_the_host_took_away_after_open_are_not_promised)
{
	struct slot slot;
	slot_init(&slot, true);
	claim_flr(slot.fake);
	fake_device_reset_method(slot.fake, "flr pm");
	slot_open(&slot);
	cr_assert_eq(plan_of(slot.first.device).method, TENON_RESET_FUNCTION);
	fake_empty_reset_method(slot.fake);
	const struct tenon_reset_plan bus = plan_of(slot.first.device);
	cr_assert_eq(bus.method, TENON_RESET_BUS);
	assert_outcome(&slot, &bus);
	slot.fake->slot = 0;
	const struct tenon_reset_plan none = plan_of(slot.first.device);
	cr_assert_eq(none.method, TENON_RESET_NONE);
	cr_assert(strstr(none.why, "reset_method"), "%s", none.why);
	assert_outcome(&slot, &none);
	slot_close(&slot);
}

Test(reset_plan, device_alone_on_its_bus_is_reset_by_it)
{
	struct fixture fixture;
	const struct tenon_reset_plan plan = plan_of_method(&fixture, "bus");
	cr_assert_eq(plan.method, TENON_RESET_BUS);
	cr_assert(plan.allowed);
	cr_assert_eq(plan.affected_count, 1);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 1);
	fixture_close(&fixture);
}

Test(reset_plan, bus_goes_before_power_cycle)
{
	struct slot slot;
	slot_init(&slot, true);
	fake_device_reset_method(slot.fake, "pm");
	slot_open_both(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert_eq(plan.method, TENON_RESET_BUS);
	cr_assert_eq(plan.affected_count, 2);
	assert_outcome(&slot, &plan);
	cr_assert_eq(slot.fake->hot_resets, 1);
	slot_close(&slot);
}

Test(reset_plan, power_cycle_goes_before_a_bus_that_is_not_ours)
{
	struct slot slot;
	slot_init(&slot, false);
	fake_device_reset_method(slot.fake, "pm");
	fake_device_driver(slot.fake2, "nvme");
	slot_open(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert_eq(plan.method, TENON_RESET_POWER);
	cr_assert(plan.allowed);
	cr_assert_eq(plan.affected_count, 1);
	cr_assert(strstr(plan.why, SECOND), "%s", plan.why);
	assert_outcome(&slot, &plan);
	slot_close(&slot);
}

Test(reset_plan, device_without_any_method_cannot_be_reset)
{
	struct fixture fixture;
	const struct tenon_reset_plan plan = plan_of_method(&fixture, "");
	cr_assert_eq(plan.method, TENON_RESET_NONE);
	cr_assert(!plan.allowed);
	int code = tenon_device_reset(fixture.device, &fixture.err);
	assert_message(&fixture.err, code);
	cr_assert_eq(resets_asked_for(), 0);
	fixture_close(&fixture);
}

/* A kernel before 5.15 has no reset_method: config space tells what it would find first. */
Test(reset_plan, older_kernel_is_understood_by_config_space)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme(FIRST);
	fake->reset_method[0] = '\0';
	fixture_open(&fixture, fake);
	cr_assert_eq(plan_of(fixture.device).method, TENON_RESET_FUNCTION);
	fake_config_set(fake, fake->pcie + PCI_EXP_DEVCAP, 4, 0);
	cr_assert_eq(plan_of(fixture.device).method, TENON_RESET_FUNCTION, "No_Soft_Reset is set: it is not by D3hot");
	fixture_close(&fixture);

	fake_world_reset();
	fake = without_flr(FIRST, "pm");
	fake->reset_method[0] = '\0';
	fake_config_set(fake, fake->pm + PCI_PM_CTRL, 2, 0);
	fixture_open(&fixture, fake);
	cr_assert_eq(plan_of(fixture.device).method, TENON_RESET_POWER);
	fixture_close(&fixture);

	fake_world_reset();
	fake = fake_edu(FIRST);
	fake->reset_method[0] = '\0';
	fake_add_af(fake, 0x60);
	fixture_open(&fixture, fake);
	cr_assert_eq(plan_of(fixture.device).method, TENON_RESET_FUNCTION);
	fixture_close(&fixture);
}

/* Binding tried "bus" and it failed: the hot reset would go the same way. */
Test(reset_plan, bus_that_failed_at_bind_is_not_promised)
{
	struct slot slot;
	slot_init(&slot, true);
	fake_device_reset_method(slot.fake, "bus");
	slot.fake->no_reset = true;
	slot.fake2->slot = 0;
	slot_open(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert_eq(plan.method, TENON_RESET_BUS);
	cr_assert(!plan.allowed);
	assert_outcome(&slot, &plan);
	slot_close(&slot);
}

/* The kernel lists methods when it finds a device, which is alone on its bus as long as the others are not found. */
Test(reset_plan, bus_that_the_kernel_names_is_no_longer_the_devices_own_when_others_are_there)
{
	for (unsigned worked = 0; worked < 2; worked++) {
		fake_world_reset();
		struct slot slot;
		slot_init(&slot, true);
		fake_device_reset_method(slot.fake, "bus");
		slot.fake->no_reset = !worked;
		slot_open(&slot);
		const struct tenon_reset_plan plan = plan_of(slot.first.device);
		cr_assert_eq(plan.method, TENON_RESET_BUS);
		cr_assert_eq(plan.affected_count, 2);
		cr_assert(plan.allowed, "%s", plan.why);
		assert_outcome(&slot, &plan);
		cr_assert_eq(fake_calls(FAKE_HOT_RESET), 1);
		slot_close(&slot);
	}
}

Test(reset_plan, own_reset_that_failed_at_bind_is_told)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme(FIRST);
	fake->no_reset = true;
	fixture_open(&fixture, fake);
	const struct tenon_reset_plan plan = plan_of(fixture.device);
	cr_assert(!plan.allowed);
	cr_assert(strstr(plan.why, "flr"), "%s", plan.why);
	cr_assert(strstr(plan.why, "failed"), "%s", plan.why);
	fixture_close(&fixture);
}

/* ---- Who has the others ---- */

/* The plan of the first function when it is not allowed for the second's sake. */
static void assert_blocked(struct slot *slot, const char *word)
{
	const struct tenon_reset_plan plan = plan_of(slot->first.device);
	cr_assert_eq(plan.method, TENON_RESET_BUS);
	cr_assert(!plan.allowed);
	cr_assert_eq(plan.affected_count, 2);
	cr_assert_str_eq(plan.affected[1].address, SECOND);
	cr_assert_str_eq(plan.affected[1].driver, slot->fake2->driver);
	cr_assert_eq(plan.affected[1].iommu_group, slot->fake2->group);
	cr_assert(strstr(plan.why, SECOND), "%s", plan.why);
	cr_assert(strstr(plan.why, word), "no %s in: %s", word, plan.why);
	cr_assert(strstr(plan.why, "; "), "no advice: %s", plan.why);
	assert_outcome(slot, &plan);
}

Test(reset_plan, sibling_of_the_space_is_hit_too)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_open_both(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert_eq(plan.method, TENON_RESET_BUS);
	cr_assert(plan.allowed);
	cr_assert_eq(plan.affected[1].owner, TENON_RESET_OWNER_SPACE);
	cr_assert(strstr(plan.why, SECOND), "%s", plan.why);
	assert_outcome(&slot, &plan);
	slot_close(&slot);
}

Test(reset_plan, the_device_itself_is_told_first)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_open_both(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.second);
	cr_assert_str_eq(plan.affected[0].address, SECOND);
	cr_assert_str_eq(plan.affected[1].address, FIRST);
	slot_close(&slot);
}

Test(reset_plan, unopened_sibling_of_our_group_does_not_block)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_open(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert(plan.allowed);
	cr_assert_eq(plan.affected[1].owner, TENON_RESET_OWNER_GROUP);
	assert_outcome(&slot, &plan);
	slot_close(&slot);
}

Test(reset_plan, unopened_sibling_of_another_group_blocks)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_open(&slot);
	assert_blocked(&slot, "not this VM's");
	slot_close(&slot);
}

Test(reset_plan, sibling_of_another_process_blocks)
{
	struct slot slot;
	slot_init(&slot, false);
	slot.fake2->open_elsewhere = true;
	slot_open(&slot);
	assert_blocked(&slot, "IOMMU group 60");
	slot_close(&slot);
}

Test(reset_plan, sibling_with_a_host_driver_blocks)
{
	struct slot slot;
	slot_init(&slot, false);
	fake_device_driver(slot.fake2, "e1000e");
	slot_open(&slot);
	assert_blocked(&slot, "the host's driver e1000e");
	slot_close(&slot);
}

Test(reset_plan, sibling_without_a_driver_blocks)
{
	struct slot slot;
	slot_init(&slot, true);
	fake_device_driver(slot.fake2, NULL);
	slot_open(&slot);
	assert_blocked(&slot, "no driver");
	slot_close(&slot);
}

Test(reset_plan, bridge_blocks)
{
	struct slot slot;
	slot_init(&slot, true);
	fake_device_bridge(slot.fake2);
	slot_open(&slot);
	assert_blocked(&slot, "bridge");
	slot_close(&slot);
}

Test(reset_plan, sibling_that_must_not_be_reset_blocks)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_open(&slot);
	cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_NEVER), 0, "%s", slot.err.message);
	assert_blocked(&slot, "reset=none");
	slot_close(&slot);
}

/* The kernel would do it: both devices are bound to one iommufd. But nobody could quiesce the other. */
Test(reset_plan, sibling_of_another_space_on_the_same_iommufd_blocks)
{
	struct slot slot;
	slot_init(&slot, false);
	tenon_space_destroy(slot.first.space);
	int iommufd = kernel_open("/dev/iommu", O_RDWR);
	const struct tenon_space_options options = {.size = sizeof(options), .iommufd = iommufd};
	struct tenon_space *other;
	cr_assert_eq(tenon_space_create(&options, &slot.first.space, NULL), 0);
	cr_assert_eq(tenon_space_create(&options, &other, NULL), 0);
	slot_open(&slot);
	struct tenon_space *mine = slot.first.space;
	slot.first.space = other;
	cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_PREFER), 0, "%s", slot.err.message);
	slot.first.space = mine;
	assert_blocked(&slot, "not this VM's");
	tenon_device_close(slot.second);
	tenon_device_close(slot.first.device);
	tenon_space_destroy(other);
	tenon_space_destroy(mine);
	kernel_close(iommufd);
	assert_nothing_left(&slot.first);
}

Test(reset_plan, all_who_block_are_counted)
{
	struct slot slot;
	slot_init(&slot, false);
	fake_device_driver(slot.fake2, "nvme");
	for (unsigned i = 2; i < 7; i++) {
		char bdf[16];
		snprintf(bdf, sizeof(bdf), "0000:3b:00.%u", i);
		struct fake_device *fake = fake_nvme(bdf);
		fake->slot = 1;
		fake->group = 0x40 + (int)i;
		if (i > 4)
			fake_device_driver(fake, NULL);
	}
	slot_open(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert_eq(plan.affected_count, 7);
	cr_assert(strstr(plan.why, "and 3 more"), "%s", plan.why);
	cr_assert(strstr(plan.why, "tenon bind 0000:3b:00.1"), "%s", plan.why);
	slot_close(&slot);
}

Test(reset_plan, virtual_function_does_not_reset_with_its_physical_one)
{
	for (unsigned container = 0; container < 2; container++) {
		fake_world_reset();
		struct slot slot;
		slot_init(&slot, true);
		fake_device_vf(slot.fake2, slot.fake);
		if (container)
			slot_use_container(&slot);
		slot_open(&slot);
		assert_blocked(&slot, "SR-IOV");
		slot_close(&slot);
	}
}

/* ---- On a container: the kernel tells groups, and wants their files ---- */

Test(reset_plan, container_siblings_of_one_group_are_reset_with_one_file)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_use_container(&slot);
	slot_open_both(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert(plan.allowed, "%s", plan.why);
	cr_assert_eq(plan.affected[1].owner, TENON_RESET_OWNER_SPACE);
	assert_outcome(&slot, &plan);
	cr_assert_eq(slot.fake2->hot_resets, 1);
	slot_close(&slot);
}

Test(reset_plan, container_siblings_of_two_groups_are_reset_with_both_files)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_use_container(&slot);
	slot_open_both(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.second);
	cr_assert(plan.allowed, "%s", plan.why);
	cr_assert_str_eq(plan.affected[0].address, SECOND);
	cr_assert_eq(plan.affected[1].owner, TENON_RESET_OWNER_SPACE);
	assert_outcome(&slot, &plan);
	slot_close(&slot);
}

Test(reset_plan, container_unopened_sibling_of_our_group_does_not_block)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_use_container(&slot);
	slot_open(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert(plan.allowed, "%s", plan.why);
	cr_assert_eq(plan.affected[1].owner, TENON_RESET_OWNER_GROUP);
	assert_outcome(&slot, &plan);
	slot_close(&slot);
}

Test(reset_plan, container_sibling_of_a_group_that_is_not_ours_blocks)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_use_container(&slot);
	slot_open(&slot);
	assert_blocked(&slot, "not this VM's");
	slot_close(&slot);
}

/* The group is ours, but the kernel wants VFIO's driver on every device that it resets. */
Test(reset_plan, container_sibling_of_our_group_without_a_vfio_driver_blocks)
{
	static const char *const drivers[] = {"", "pci-stub"};
	for (unsigned i = 0; i < 2; i++) {
		fake_world_reset();
		struct slot slot;
		slot_init(&slot, true);
		fake_device_driver(slot.fake2, drivers[i]);
		slot_use_container(&slot);
		slot_open(&slot);
		assert_blocked(&slot, i == 0 ? "no driver" : "the host's driver pci-stub");
		slot_close(&slot);
	}
}

Test(reset_plan, container_sibling_without_a_group_allows_nothing)
{
	struct slot slot;
	slot_init(&slot, false);
	slot.fake2->group = -1;
	slot_use_container(&slot);
	slot_open(&slot);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert(!plan.allowed);
	cr_assert(strstr(plan.why, strerror(EPERM)), "%s", plan.why);
	assert_outcome(&slot, &plan);
	slot_close(&slot);
}

/* ---- Every combination ---- */

struct combination {
	bool container, same_group, opened, vf;
	const char *driver, *method;
};

/* What is predicted is done; and what is predicted to be refused, the kernel would have refused. */
static void try_combination(const struct combination *what)
{
	fake_world_reset();
	struct slot slot;
	slot_init(&slot, what->same_group);
	fake_device_reset_method(slot.fake, what->method);
	if (what->vf)
		fake_device_vf(slot.fake2, slot.fake);
	fake_device_driver(slot.fake2, what->driver);
	if (what->container)
		slot_use_container(&slot);
	slot_open(&slot);
	if (what->opened)
		slot_open_second_with(&slot, TENON_RESET_PREFER); /* refused where no VFIO driver has it */

	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	assert_outcome(&slot, &plan);
	if (plan.method != TENON_RESET_BUS || !plan.allowed) {
		int fds[2];
		unsigned count = 0;
		const struct tenon_device *const devices[] = {slot.first.device, slot.second};
		for (unsigned i = 0; i < 2; i++) {
			if (devices[i] && devices[i]->member.group_fd >= 0 &&
			    (count == 0 || fds[0] != devices[i]->member.group_fd))
				fds[count++] = devices[i]->member.group_fd;
		}
		struct transport *transport = slot.first.device->transport;
		cr_assert_lt(transport->ops->hot_reset(transport, fds, count, NULL), 0,
			     "the kernel would have done it: %s %s %d%d%d%d", what->driver, what->method,
			     what->container, what->same_group, what->opened, what->vf);
	}
	slot_close(&slot);
}

Test(reset_plan, prediction_is_right_in_every_combination)
{
	static const char *const drivers[] = {"vfio-pci", "mlx5_vfio_pci", "pci-stub", "pcieport", "nvme", ""};
	for (unsigned bits = 0; bits < 32; bits++) {
		for (unsigned i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
			const struct combination what = {.container = bits & 1,
							 .same_group = bits & 2,
							 .opened = bits & 4,
							 .vf = bits & 8,
							 .method = bits & 16 ? "pm" : "",
							 .driver = drivers[i]};
			/* A group with a host's driver in it is not to be had at all. */
			if (!what.same_group || strcmp(what.driver, "nvme") != 0)
				try_combination(&what);
		}
	}
}

/* ---- Kernels that lie or fail ---- */

Test(reset_plan, list_that_makes_no_sense_allows_nothing)
{
	for (enum fake_lie lie = FAKE_LIE_COUNT_HUGE; lie <= FAKE_LIE_NOT_OWNED; lie++) {
		fake_world_reset();
		struct slot slot;
		slot_init(&slot, true);
		slot_open_both(&slot);
		slot.fake->lie = lie;
		const struct tenon_reset_plan plan = plan_of(slot.first.device);
		cr_expect(!plan.allowed, "lie %d: %s", (int)lie, plan.why);
		assert_outcome(&slot, &plan);
		slot_close(&slot);
	}
}

Test(reset_plan, growing_list_is_not_followed_for_ever)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_open(&slot);
	slot.fake->lie = FAKE_LIE_GROWING;
	fake_calls_forget();
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert(strstr(plan.why, "more than 64"), "%s", plan.why);
	cr_assert_leq(fake_calls(FAKE_HOT_RESET_INFO), 2);
	slot_close(&slot);
}

Test(reset_plan, kernel_that_does_not_tell_is_not_trusted)
{
	static const int errors[] = {EIO, EPERM, ENOTTY, EAGAIN};
	struct slot slot;
	slot_init(&slot, true);
	slot_open(&slot);
	for (unsigned i = 0; i < 4; i++) {
		fake_fail_always(FAKE_HOT_RESET_INFO, errors[i]);
		const struct tenon_reset_plan plan = plan_of(slot.first.device);
		cr_expect(!plan.allowed);
		cr_expect(strstr(plan.why, strerror(errors[i])), "%s", plan.why);
		assert_outcome(&slot, &plan);
	}
	fake_fail_always(FAKE_HOT_RESET_INFO, 0);
	cr_assert(plan_of(slot.first.device).allowed);
	slot_close(&slot);
}

Test(reset_plan, unreadable_sysfs_makes_no_wrong_promise)
{
	struct slot slot;
	slot_init(&slot, false);
	fake_device_driver(slot.fake2, "nvme");
	slot_open(&slot);
	fake_fail_always(FAKE_LINK_NAME, EACCES);
	fake_fail_always(FAKE_READ_LINE, EACCES);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert(!plan.allowed);
	assert_outcome(&slot, &plan);
	fake_fail_always(FAKE_LINK_NAME, 0);
	fake_fail_always(FAKE_READ_LINE, 0);
	slot_close(&slot);
}

/* ---- The caller ---- */

Test(reset_plan, plan_without_room_is_refused)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme(FIRST));
	struct tenon_reset_plan plan = {.size = sizeof(plan) - 1};
	int code = tenon_device_reset_plan(fixture.device, &plan, &fixture.err);
	cr_assert_eq(code, -EINVAL);
	assert_message(&fixture.err, code);
	cr_assert_eq(tenon_device_reset_plan(fixture.device, NULL, NULL), -EINVAL);
	fixture_close(&fixture);
}

Test(reset_plan, newer_caller_finds_what_is_unknown_zeroed)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme(FIRST));
	struct {
		struct tenon_reset_plan plan;
		uint64_t newer;
	} larger = {.plan.size = sizeof(larger), .newer = ~0ull};
	cr_assert_eq(tenon_device_reset_plan(fixture.device, &larger.plan, NULL), 0);
	cr_assert_eq(larger.newer, 0);
	cr_assert_eq(larger.plan.size, sizeof(larger));
	cr_assert_eq(larger.plan.method, TENON_RESET_FUNCTION);
	fixture_close(&fixture);
}

Test(reset_plan, plan_touches_nothing)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_open_both(&slot);
	uint64_t writes = slot.fake->config_writes, writes2 = slot.fake2->config_writes;
	fake_calls_forget();
	plan_of(slot.first.device);
	cr_assert_eq(resets_asked_for(), 0);
	cr_assert_eq(slot.fake->config_writes, writes);
	cr_assert_eq(slot.fake2->config_writes, writes2);
	slot_close(&slot);
}

/* ---- Policies ---- */

Test(reset_plan, required_reset_that_is_impossible_refuses_the_device)
{
	struct slot slot;
	slot_init(&slot, false);
	fake_device_driver(slot.fake2, "e1000e");
	int code = slot_open_with(&slot, TENON_RESET_REQUIRE);
	cr_assert_eq(code, -EBUSY);
	assert_message(&slot.err, code);
	static const char *const words[] = {FIRST, SECOND, "IOMMU group 60", "e1000e", ("tenon bind " SECOND)};
	for (unsigned i = 0; i < 5; i++)
		cr_expect(strstr(slot.err.message, words[i]), "no %s in: %s", words[i], slot.err.message);
	cr_assert_eq(slot.fake->hot_resets, 0);
	slot_close(&slot);
}

Test(reset_plan, required_reset_that_is_possible_lets_the_device_in)
{
	static const char *const methods[] = {"flr", "pm", "bus"};
	for (unsigned i = 0; i < 3; i++) {
		fake_world_reset();
		struct slot slot;
		slot_init(&slot, false);
		fake_device_reset_method(slot.fake, methods[i]);
		fake_device_driver(slot.fake2, "e1000e");
		if (strcmp(methods[i], "bus") == 0)
			slot.fake->slot = 2; /* alone there */
		cr_assert_eq(slot_open_with(&slot, TENON_RESET_REQUIRE), 0, "%s: %s", methods[i], slot.err.message);
		cr_assert_eq(tenon_space_check_resets(slot.first.space, NULL), 0);
		slot_close(&slot);
	}
}

Test(reset_plan, required_reset_waits_for_the_sibling_that_may_still_be_opened)
{
	struct slot slot;
	slot_init(&slot, false);
	cr_assert_eq(slot_open_with(&slot, TENON_RESET_REQUIRE), 0, "%s", slot.err.message);
	int code = tenon_space_check_resets(slot.first.space, &slot.err);
	cr_assert_eq(code, -EBUSY);
	assert_message(&slot.err, code);
	cr_assert(strstr(slot.err.message, SECOND), "%s", slot.err.message);
	cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_REQUIRE), 0, "%s", slot.err.message);
	cr_assert_eq(tenon_space_check_resets(slot.first.space, NULL), 0);
	cr_assert_eq(tenon_device_info(slot.first.device)->reset, TENON_RESET_BUS);
	slot_close(&slot);
}

Test(reset_plan, preferred_reset_that_is_impossible_is_a_warning)
{
	struct slot slot;
	slot_init(&slot, false);
	fake_device_driver(slot.fake2, "e1000e");
	slot_open(&slot);
	cr_assert(host_logged(&slot.first.host, "e1000e"));
	cr_assert_eq(slot.first.host.log_count, 1);
	cr_assert_eq(tenon_space_check_resets(slot.first.space, NULL), 0);
	cr_assert_eq(slot.first.host.log_count, 1, "warned twice");
	slot_close(&slot);
}

Test(reset_plan, preferred_reset_that_a_sibling_may_enable_is_warned_of_at_the_end)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_open(&slot);
	cr_assert_eq(slot.first.host.log_count, 0);
	cr_assert_eq(tenon_space_check_resets(slot.first.space, NULL), 0);
	cr_assert(host_logged(&slot.first.host, SECOND));
	slot_close(&slot);
}

Test(reset_plan, forbidden_reset_quiesces_only)
{
	struct slot slot;
	slot_init(&slot, true);
	fake_device_reset_method(slot.fake, "flr");
	cr_assert_eq(slot_open_with(&slot, TENON_RESET_NEVER), 0, "%s", slot.err.message);
	guest_place(&slot.first);
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert_eq(plan.method, TENON_RESET_NONE);
	cr_assert(!plan.allowed);
	fake_calls_forget();
	cr_assert_eq(tenon_device_reset(slot.first.device, &slot.err), 0);
	cr_assert_eq(tenon_space_reset(slot.first.space, &slot.err), 0);
	cr_assert_eq(resets_asked_for(), 0);
	cr_assert_eq(slot.first.host.map_count, 0);
	cr_assert_eq(fake_config_get(slot.fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER, 0);
	slot_close(&slot);
}

Test(reset_plan, unknown_policy_is_refused)
{
	struct slot slot;
	slot_init(&slot, true);
	int code = slot_open_with(&slot, (enum tenon_reset_policy)(TENON_RESET_NEVER + 1));
	cr_assert_eq(code, -EINVAL);
	assert_message(&slot.err, code);
	slot_close(&slot);
}

/* ---- At open ---- */

/* The kernel's own reset at bind did nothing. */
Test(reset_plan, device_that_only_its_slot_resets_is_reset_at_open)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_open(&slot);
	cr_assert_eq(slot.fake->hot_resets, 1);
	cr_assert_eq(slot.fake->command_at_reset & (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY), 0);
	cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_PREFER), 0);
	cr_assert_eq(slot.fake2->hot_resets, 1, "reset a second time, though nobody could use it since");
	slot_close(&slot);
}

/* Opened a second time it holds what the guest left in it: the first function's reset was before that. */
Test(reset_plan, function_that_was_used_and_closed_is_not_taken_for_reset_when_it_comes_back)
{
	for (unsigned in_use = 0; in_use < 2; in_use++) {
		fake_world_reset();
		struct slot slot;
		slot_init(&slot, true);
		slot_open_both(&slot);
		use_second(&slot);
		if (in_use)
			guest_place(&slot.first);
		tenon_device_close(slot.second);
		slot.second = NULL;
		slot.fake2->hot_resets = 0;
		cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_PREFER), 0, "%s", slot.err.message);
		cr_assert_eq(slot.fake2->hot_resets, !in_use);
		cr_assert_eq(host_logged(&slot.host2, "keeps the state of its last user"), in_use);
		slot_close(&slot);
	}
}

/* Quiescing is no reset: what was not reset is still used. */
Test(reset_plan, function_that_was_only_quiesced_is_not_taken_for_reset_when_it_comes_back)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_open(&slot);
	cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_NEVER), 0, "%s", slot.err.message);
	use_second(&slot);
	cr_assert_eq(tenon_device_reset(slot.second, NULL), 0);
	tenon_device_close(slot.second);
	slot.fake2->hot_resets = 0;
	cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_PREFER), 0, "%s", slot.err.message);
	cr_assert_eq(slot.fake2->hot_resets, 1);
	slot_close(&slot);
}

Test(reset_plan, function_that_was_used_and_reset_is_clean_when_it_comes_back)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_open_both(&slot);
	use_second(&slot);
	cr_assert_eq(tenon_space_reset(slot.first.space, NULL), 0);
	tenon_device_close(slot.second);
	slot.fake2->hot_resets = 0;
	cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_PREFER), 0, "%s", slot.err.message);
	cr_assert_eq(slot.fake2->hot_resets, 0, "reset a second time, though nobody could use it since");
	slot_close(&slot);
}

Test(reset_plan, functions_of_a_slot_are_reset_when_the_last_is_opened)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_open(&slot);
	cr_assert_eq(slot.fake->hot_resets, 0);
	cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_PREFER), 0);
	cr_assert_eq(slot.fake->hot_resets, 1);
	cr_assert_eq(slot.fake2->hot_resets, 1);
	slot_close(&slot);
}

Test(reset_plan, function_that_the_guest_uses_is_not_reset_by_the_opening_of_another)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_open(&slot);
	guest_place(&slot.first);
	cr_assert_eq(slot_open_second_with(&slot, TENON_RESET_PREFER), 0);
	cr_assert_eq(slot.fake->hot_resets, 0);
	cr_assert_not_null(host_mapped(&slot.first.host, BAR_GPA));
	cr_assert(host_logged(&slot.host2, SECOND));
	cr_assert_eq(tenon_space_reset(slot.first.space, NULL), 0);
	cr_assert_eq(slot.fake->hot_resets, 1);
	slot_close(&slot);
}

Test(reset_plan, slot_that_does_not_come_back_at_open_is_not_promised)
{
	struct slot slot;
	slot_init(&slot, true);
	slot.fake->hot_reset_error = ENOTTY;
	slot_open(&slot);
	cr_assert(host_logged(&slot.first.host, "PCI_HOT_RESET"));
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert(!plan.allowed);
	assert_outcome(&slot, &plan);
	slot_close(&slot);
}

Test(reset_plan, slot_that_does_not_come_back_at_open_fails_a_required_reset)
{
	struct slot slot;
	slot_init(&slot, true);
	slot.fake->hot_reset_error = ENOTTY;
	int code = slot_open_with(&slot, TENON_RESET_REQUIRE);
	cr_assert_eq(code, -EBUSY);
	assert_message(&slot.err, code);
	cr_assert(strstr(slot.err.message, "failed"), "%s", slot.err.message);
	slot_close(&slot);
}

/* ---- The reset ---- */

Test(reset_plan, all_that_a_bus_reset_hits_is_quiesced_before_it)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_open_both(&slot);
	guest_place(&slot.first);
	use_second(&slot);
	cr_assert_eq(slot.fake2->irq_kind, 2);
	fake_journal_forget();
	cr_assert_eq(tenon_device_reset(slot.first.device, &slot.err), 0, "%s", slot.err.message);
	const struct fake_device *const both[] = {slot.fake, slot.fake2};
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(both[i]->command_at_reset & (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY), 0);
		cr_expect_eq(both[i]->interrupts_at_reset, 0);
		cr_expect_eq(both[i]->hot_resets, 1);
	}
	int reset_at = fake_journal_find("hot reset", 0);
	cr_assert_geq(fake_journal_find("memory_unmap", 0), 0);
	cr_assert_eq(fake_journal_find("memory_unmap", reset_at), -1, "a BAR was reachable during the reset");
	cr_assert_eq(slot.first.host.map_count + slot.host2.map_count, 0);
	slot_close(&slot);
}

Test(reset_plan, sibling_in_d3_is_woken_before_it)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_open_both(&slot);
	tenon_device_config_write(slot.second, slot.fake2->pm + PCI_PM_CTRL, 2, 3);
	cr_assert_eq(slot.fake2->power, 3);
	cr_assert_eq(tenon_device_reset(slot.first.device, NULL), 0);
	cr_assert_eq(slot.fake2->power_at_reset, 0);
	slot_close(&slot);
}

Test(reset_plan, sibling_is_as_at_open_after_it)
{
	struct slot slot;
	slot_init(&slot, false);
	slot_open_both(&slot);
	uint32_t before[16], after[16];
	for (unsigned i = 0; i < 16; i++)
		before[i] = tenon_device_config_read(slot.second, 4 * i, 4);
	use_second(&slot);
	cr_assert_eq(tenon_device_reset(slot.first.device, NULL), 0);
	for (unsigned i = 0; i < 16; i++)
		after[i] = tenon_device_config_read(slot.second, 4 * i, 4);
	cr_assert_arr_eq(before, after, sizeof(before));
	cr_assert_eq(slot.host2.route_count + slot.host2.irqfd_count, 0);
	use_second(&slot);
	cr_assert(fake_fire(slot.fake2, 0));
	slot_close(&slot);
}

Test(reset_plan, busy_neighbour_is_waited_for)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_open(&slot);
	slot.fake->hot_reset_busy = 3;
	cr_assert_eq(tenon_device_reset(slot.first.device, NULL), 0);
	slot.fake->hot_reset_busy = 1000000;
	fake_calls_forget();
	int code = tenon_device_reset(slot.first.device, &slot.err);
	cr_assert_eq(code, -EBUSY);
	assert_message(&slot.err, code);
	cr_assert_leq(fake_calls(FAKE_HOT_RESET), 100);
	cr_assert(plan_of(slot.first.device).allowed, "what is busy now may be free later");
	slot_close(&slot);
}

Test(reset_plan, bus_that_fails_leaves_the_power_cycle)
{
	struct slot slot;
	slot_init(&slot, true);
	fake_device_reset_method(slot.fake, "pm");
	slot_open(&slot);
	slot.fake->hot_reset_error = ENOTTY;
	cr_assert_eq(plan_of(slot.first.device).method, TENON_RESET_BUS);
	fake_calls_forget();
	cr_assert_eq(tenon_device_reset(slot.first.device, &slot.err), 0, "%s", slot.err.message);
	cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 1);
	cr_assert(host_logged(&slot.first.host, "PCI_HOT_RESET"));
	const struct tenon_reset_plan plan = plan_of(slot.first.device);
	cr_assert_eq(plan.method, TENON_RESET_POWER);
	cr_assert(strstr(plan.why, "tried and failed"), "%s", plan.why);
	slot_close(&slot);
}

Test(reset_plan, ownership_that_changed_since_is_refused_by_the_kernel)
{
	struct slot slot;
	slot_init(&slot, true);
	slot_open(&slot);
	fake_fail_always(FAKE_HOT_RESET, EINVAL);
	int code = tenon_device_reset(slot.first.device, &slot.err);
	cr_assert_eq(code, -EINVAL);
	assert_message(&slot.err, code);
	fake_fail_always(FAKE_HOT_RESET, 0);
	cr_assert_eq(tenon_device_reset(slot.first.device, NULL), 0, "it may be ours again");
	slot_close(&slot);
}

/* ---- Of a whole space ---- */

Test(reset_plan, space_resets_each_set_once)
{
	struct slot slot;
	slot_init(&slot, false);
	fake_device_reset_method(slot.fake2, "flr");
	slot_open_both(&slot);
	fake_calls_forget();
	cr_assert_eq(tenon_space_reset(slot.first.space, &slot.err), 0, "%s", slot.err.message);
	cr_assert_eq(fake_calls(FAKE_HOT_RESET), 1);
	cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 0, "the bus reset had hit it already");
	cr_assert_eq(slot.fake->resets, 1);
	cr_assert_eq(slot.fake2->resets, 1);
	slot_close(&slot);
}

Test(reset_plan, space_quiesces_all_before_it_resets_any)
{
	struct slot slot;
	slot_init(&slot, false);
	fake_device_reset_method(slot.fake, "flr");
	fake_device_reset_method(slot.fake2, "flr");
	slot_open_both(&slot);
	guest_place(&slot.first);
	use_second(&slot);
	fake_journal_forget();
	cr_assert_eq(tenon_space_reset(slot.first.space, &slot.err), 0, "%s", slot.err.message);
	cr_assert_eq(fake_journal_count("reset 0000"), 2);
	cr_assert_eq(fake_journal_find("memory_unmap", fake_journal_find("reset 0000", 0)), -1);
	cr_assert_eq(slot.first.host.map_count + slot.host2.map_count, 0);
	slot_close(&slot);
}

Test(reset_plan, space_goes_on_after_a_failure)
{
	struct slot slot;
	slot_init(&slot, false);
	fake_device_reset_method(slot.fake, "flr");
	fake_device_reset_method(slot.fake2, "flr");
	slot_open_both(&slot);
	slot.fake->reset_error = EIO;
	use_second(&slot);
	int code = tenon_space_reset(slot.first.space, &slot.err);
	cr_assert_eq(code, -EIO);
	assert_message(&slot.err, code);
	cr_assert(strstr(slot.err.message, FIRST), "%s", slot.err.message);
	cr_assert_eq(slot.fake2->resets, 1);
	cr_assert_eq(slot.host2.map_count, 0);
	slot_close(&slot);
}

Test(reset_plan, space_without_devices_is_reset_by_nothing)
{
	struct fixture fixture;
	fixture_init(&fixture);
	cr_assert_eq(tenon_space_reset(fixture.space, NULL), 0);
	cr_assert_eq(tenon_space_check_resets(fixture.space, NULL), 0);
	fixture_close(&fixture);
}

Test(reset_plan, each_new_kernel_call_that_fails_is_survived)
{
	static const enum fake_call kinds[] = {FAKE_HOT_RESET_INFO, FAKE_HOT_RESET, FAKE_READ_LINE, FAKE_LINK_NAME};
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		for (unsigned n = 1; n < 12; n++) {
			fake_world_reset();
			struct slot slot;
			slot_init(&slot, false);
			slot_open_both(&slot);
			use_second(&slot);
			fake_fail_kind(kinds[i], n, EIO);
			int code = tenon_space_reset(slot.first.space, &slot.err);
			if (code < 0)
				assert_message(&slot.err, code);
			cr_assert_eq(slot.host2.map_count, 0);
			fake_fail_kind(kinds[i], 0, 0);
			slot_close(&slot);
		}
	}
}

/* ---- By the guest ---- */

static void write_flr(struct fixture *fixture)
{
	unsigned at = guest_capability(fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	guest_config_write(fixture, at, 2, guest_config(fixture, at, 2) | PCI_EXP_DEVCTL_BCR_FLR);
}

Test(reset_plan, guests_own_reset_never_hits_its_other_devices)
{
	struct slot slot;
	slot_init(&slot, false);
	claim_flr(slot.fake);
	slot_open_both(&slot);
	use_second(&slot);
	cr_assert(plan_of(slot.first.device).allowed);
	guest_place(&slot.first);
	fake_calls_forget();
	write_flr(&slot.first);
	cr_assert_eq(resets_asked_for(), 0);
	cr_assert_eq(slot.first.host.map_count, 0);
	cr_assert_neq(slot.host2.map_count, 0, "the other device was switched off");
	cr_assert(host_logged(&slot.first.host, "function reset"));
	slot_close(&slot);
}

/* Both are of one group, whose file on a container covers whatever of the group is open. */
Test(reset_plan, guests_own_reset_never_hits_its_other_devices_of_the_same_group)
{
	for (unsigned container = 0; container < 2; container++) {
		fake_world_reset();
		struct slot slot;
		slot_init(&slot, true);
		claim_flr(slot.fake);
		if (container)
			slot_use_container(&slot);
		slot_open_both(&slot);
		use_second(&slot);
		cr_assert(plan_of(slot.first.device).allowed);
		fake_calls_forget();
		write_flr(&slot.first);
		cr_assert_eq(resets_asked_for(), 0);
		cr_assert_eq(slot.fake2->resets, 0, "a device that the guest uses was reset under it");
		cr_assert_neq(slot.host2.map_count, 0);
		cr_assert(host_logged(&slot.first.host, "function reset"));
		slot_close(&slot);
	}
}

Test(reset_plan, guests_own_reset_may_take_the_power_cycle)
{
	struct slot slot;
	slot_init(&slot, false);
	claim_flr(slot.fake);
	fake_device_reset_method(slot.fake, "pm");
	slot_open_both(&slot);
	write_flr(&slot.first);
	cr_assert_eq(slot.fake->resets, 1);
	cr_assert_eq(slot.fake2->resets, 0);
	slot_close(&slot);
}

Test(reset_plan, guests_own_reset_may_take_a_bus_that_is_its_own)
{
	struct slot slot;
	slot_init(&slot, true);
	slot.fake2->slot = 0;
	claim_flr(slot.fake);
	slot_open(&slot);
	slot.fake->resets = 0;
	guest_place(&slot.first);
	write_flr(&slot.first);
	cr_assert_eq(slot.fake->resets, 1);
	cr_assert_eq(slot.first.host.map_count, 0);
	slot_close(&slot);
}
