// SPDX-License-Identifier: MIT
/* What the library asks of its VMM, on KVM. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/host.h>

#include "kvm_fake.h"

static struct tenon_vm *vm;
static struct tenon_vm_host host;
static struct tenon_error error;
static _Alignas(4096) unsigned char memory[4096];
static unsigned placed, logged;
static char last_log[512];

static void on_bar_placed(void *context, const struct tenon_bar_placement *placement)
{
	placed += placement->bar;
}

static void on_log(void *context, enum tenon_log_level level, const char *message)
{
	logged++;
	cr_expect_eq(level, TENON_LOG_ERROR);
	strncpy(last_log, message, sizeof(last_log) - 1);
}

static void create(void)
{
	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	host = (struct tenon_vm_host){
		.vm = vm, .intx_gsi = {16, 17, -1, 19}, .bar_placed = on_bar_placed, .log = on_log};
}

static void destroy(void)
{
	tenon_vm_destroy(vm);
	fakekvm_assert_nothing_left();
}

TestSuite(kvm_host_ops, .init = create, .fini = destroy);

static const struct tenon_host_ops *ops = &tenon_vm_host_ops;

Test(kvm_host_ops, every_operation_is_there)
{
	cr_expect_eq(ops->size, sizeof(*ops));
	cr_expect(ops->file_add && ops->file_remove && ops->memory_map && ops->memory_unmap && ops->bar_placed &&
		  ops->route_set && ops->route_commit && ops->route_free && ops->irqfd_attach && ops->irqfd_detach &&
		  ops->intx_attach && ops->intx_detach && ops->intx_level && ops->log && ops->ioeventfd_attach &&
		  ops->ioeventfd_detach);
}

Test(kvm_host_ops, a_bars_memory_is_a_slot_that_is_never_logged)
{
	struct kvm_userspace_memory_region region;
	cr_assert_eq(ops->memory_map(&host, 0xd0000000, 4096, memory, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vm_dirty_log_enable(vm, true, &error), 0, "%s", error.message);
	cr_assert(fakekvm_slot_at(0xd0000000, &region));
	cr_expect_eq(region.flags, 0);
	ops->memory_unmap(&host, 0xd0000000, 4096, NULL);
	cr_expect_eq(fakekvm_slot_count(), 0);
	cr_expect_eq(logged, 0);
	cr_expect_eq(ops->memory_unmap(&host, 0xd0000000, 4096, &error), -ENOENT);
	cr_expect_not_null(strstr(error.message, "0xd0000000"), "%s", error.message);
}

static bool answers_low(void *context, uint64_t gpa, uint64_t size_bytes)
{
	(void)context;
	return gpa + size_bytes <= 0xd0001000;
}

Test(kvm_host_ops, no_memory_is_mapped_where_another_device_answers)
{
	host.answers = answers_low;
	cr_expect_eq(ops->memory_map(&host, 0xd0001000, 4096, memory, &error), -EEXIST);
	cr_expect_not_null(strstr(error.message, "0xd0001000"), "%s", error.message);
	cr_expect_eq(fakekvm_slot_count(), 0);
	cr_assert_eq(ops->memory_map(&host, 0xd0000000, 4096, memory, &error), 0, "%s", error.message);
	ops->memory_unmap(&host, 0xd0000000, 4096, NULL);
}

Test(kvm_host_ops, messages_go_by_route_and_irqfd)
{
	int route = -1;
	int fd = fakekvm_eventfd();
	struct kvm_irq_routing_entry entry;
	cr_assert_eq(ops->route_set(&host, &route, 0xfee00000, 5, &error), 0, "%s", error.message);
	cr_assert_eq(ops->route_commit(&host, &error), 0, "%s", error.message);
	cr_assert_eq(ops->irqfd_attach(&host, route, fd, &error), 0, "%s", error.message);
	cr_expect(fakekvm_irqfd_attached(fd, (uint32_t)route, -1));
	cr_expect(fakekvm_route((uint32_t)route, &entry));
	ops->irqfd_detach(&host, route, fd);
	ops->route_free(&host, route);
	cr_assert_eq(ops->route_commit(&host, &error), 0);
	cr_expect_not(fakekvm_route((uint32_t)route, &entry));
	cr_expect_eq(fakekvm_irqfd_count(), 0);
}

Test(kvm_host_ops, intx_pins_reach_the_gsi_of_the_slot)
{
	int trigger = fakekvm_eventfd();
	int resample = fakekvm_eventfd();
	cr_assert_eq(ops->intx_attach(&host, 2, trigger, resample, &error), 0, "%s", error.message);
	cr_expect(fakekvm_irqfd_attached(trigger, 17, resample));
	ops->intx_detach(&host, 2, trigger, resample);
	cr_expect_eq(fakekvm_irqfd_count(), 0);
	static const unsigned unwired[] = {0, 3, 5};
	for (unsigned i = 0; i < 3; i++) {
		cr_expect_eq(ops->intx_attach(&host, unwired[i], trigger, resample, &error), -ENXIO);
		cr_expect_not_null(strstr(error.message, "not wired"), "%s", error.message);
		ops->intx_detach(&host, unwired[i], trigger, resample);
	}
	cr_expect_eq(logged, 0);
}

Test(kvm_host_ops, line_that_devices_share_is_high_while_any_holds_it)
{
	struct tenon_vm_host other = host;
	other.intx_gsi[2] = 17; /* INTC here is INTB there */
	cr_expect_eq(ops->intx_level(&host, 2, true, &error), 0, "%s", error.message);
	cr_expect_eq(ops->intx_level(&other, 3, true, &error), 0, "%s", error.message);
	cr_expect(fakekvm_line(17));
	cr_expect_eq(ops->intx_level(&host, 2, false, &error), 0, "%s", error.message);
	cr_expect(fakekvm_line(17), "the other device still holds it");
	cr_expect_eq(ops->intx_level(&other, 3, false, &error), 0, "%s", error.message);
	cr_expect_not(fakekvm_line(17));
	cr_expect_eq(ops->intx_level(&host, 1, false, &error), -EINVAL, "a release without a hold");
	cr_expect_eq(logged, 0);
}

Test(kvm_host_ops, line_of_a_pin_that_is_not_wired_is_refused)
{
	cr_expect_eq(ops->intx_level(&host, 3, true, &error), -ENXIO);
	cr_expect_not_null(strstr(error.message, "not wired"), "%s", error.message);
}

static bool answers_nowhere(void *context, uint64_t gpa, uint64_t size_bytes)
{
	return false;
}

Test(kvm_host_ops, doorbells_are_ioeventfds_where_the_bar_answers)
{
	const struct tenon_ioeventfd bell = {
		.size = sizeof(bell), .gpa = 0xd0001000, .width_bytes = 4, .eventfd = fakekvm_eventfd()};
	cr_assert_eq(ops->ioeventfd_attach(&host, &bell, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_ioeventfd_count(), 1);
	ops->ioeventfd_detach(&host, &bell);
	cr_expect_eq(fakekvm_ioeventfd_count(), 0);
	cr_expect_eq(logged, 0);
	ops->ioeventfd_detach(&host, &bell);
	cr_expect_eq(logged, 1, "a failure that cannot be returned is logged");
	struct tenon_vm_host elsewhere = host;
	elsewhere.answers = answers_nowhere;
	cr_expect_eq(ops->ioeventfd_attach(&elsewhere, &bell, &error), -EEXIST);
	cr_expect_eq(fakekvm_ioeventfd_count(), 0);
}

Test(kvm_host_ops, files_bars_and_logs_are_passed_on)
{
	int file = fakekvm_vfio_file();
	cr_assert_eq(ops->file_add(&host, file, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_vfio_file_count(), 1);
	ops->file_remove(&host, file);
	cr_expect_eq(fakekvm_vfio_file_count(), 0);
	ops->bar_placed(&host, &(struct tenon_bar_placement){.bar = 3});
	cr_expect_eq(placed, 3);
	ops->log(&host, TENON_LOG_ERROR, "a line");
	cr_expect_str_eq(last_log, "a line");
	host.log = NULL;
	host.bar_placed = NULL;
	ops->log(&host, TENON_LOG_ERROR, "nobody listens");
	ops->bar_placed(&host, &(struct tenon_bar_placement){.bar = 3});
	cr_expect_eq(placed, 3);
}
