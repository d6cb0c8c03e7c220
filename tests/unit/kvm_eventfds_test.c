// SPDX-License-Identifier: MIT
/* irqfds, ioeventfds and VFIO files: what KVM is told, and what it is not even asked. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vm.h>

#include "kvm_fake.h"

static struct tenon_vm *vm;
static struct tenon_error error;

static void create(void)
{
	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
}

static void destroy(void)
{
	tenon_vm_destroy(vm);
	fakekvm_assert_nothing_left();
}

TestSuite(kvm_eventfds, .init = create, .fini = destroy);

Test(kvm_eventfds, an_irqfd_attaches_to_pins_and_routes_only)
{
	int fd = fakekvm_eventfd();
	cr_expect_eq(tenon_vm_irqfd_attach(vm, 24, fd, -1, &error), -EINVAL);
	cr_expect_eq(tenon_vm_irqfd_attach(vm, -1, fd, -1, &error), -EINVAL);
	int gsi = -1;
	cr_assert_eq(tenon_vm_route_set(vm, &gsi, 0xfee00000, 1, &error), 0);
	cr_assert_eq(tenon_vm_irqfd_attach(vm, gsi, fd, -1, &error), 0, "%s", error.message);
	cr_expect(fakekvm_irqfd_attached(fd, (uint32_t)gsi, -1));
	cr_expect_eq(tenon_vm_irqfd_attach(vm, 3, fd, -1, &error), -EBUSY);
	cr_expect_not_null(strstr(error.message, "already"), "%s", error.message);
	cr_assert_eq(tenon_vm_irqfd_detach(vm, gsi, fd, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_irqfd_count(), 0);
}

Test(kvm_eventfds, a_level_interrupt_needs_the_resample_capability)
{
	int trigger = fakekvm_eventfd();
	int resample = fakekvm_eventfd();
	cr_assert_eq(tenon_vm_irqfd_attach(vm, 17, trigger, resample, &error), 0, "%s", error.message);
	cr_expect(fakekvm_irqfd_attached(trigger, 17, resample));
	cr_assert_eq(tenon_vm_irqfd_detach(vm, 17, trigger, &error), 0);
	fakekvm_set_capability(KVM_CAP_IRQFD_RESAMPLE, 0);
	cr_expect_eq(tenon_vm_irqfd_attach(vm, 17, trigger, resample, &error), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_IRQFD_RESAMPLE"), "%s", error.message);
	cr_expect_eq(fakekvm_irqfd_count(), 0);
}

Test(kvm_eventfds, an_ioeventfd_is_detached_by_what_attached_it)
{
	struct tenon_vm_ioeventfd what = {.size = sizeof(what),
					  .address = 0xd0000000,
					  .width_bytes = 4,
					  .match = true,
					  .value = 7,
					  .eventfd = fakekvm_eventfd()};
	cr_assert_eq(tenon_vm_ioeventfd_attach(vm, &what, &error), 0, "%s", error.message);
	cr_expect_eq(tenon_vm_ioeventfd_attach(vm, &what, &error), -EEXIST);
	struct tenon_vm_ioeventfd other = what;
	other.value = 8;
	cr_expect_eq(tenon_vm_ioeventfd_detach(vm, &other, &error), -ENOENT);
	cr_expect_eq(fakekvm_ioeventfd_count(), 1);
	cr_expect_eq(tenon_vm_ioeventfd_detach(vm, &what, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_ioeventfd_count(), 0);
}

Test(kvm_eventfds, impossible_ioeventfds_are_refused_with_their_address)
{
	int fd = fakekvm_eventfd();
	const struct tenon_vm_ioeventfd impossible[] = {
		{.size = sizeof(impossible[0]), .address = 0x600, .width_bytes = 8, .io = true, .eventfd = fd},
		{.size = sizeof(impossible[0]), .address = 0x600, .width_bytes = 0, .io = true, .eventfd = fd},
		{.size = sizeof(impossible[0]), .address = 0x600, .width_bytes = 3, .eventfd = fd},
		{.size = sizeof(impossible[0]), .address = 0x600, .width_bytes = 0, .match = true, .eventfd = fd},
	};
	for (unsigned i = 0; i < 4; i++) {
		cr_expect_eq(tenon_vm_ioeventfd_attach(vm, &impossible[i], &error), -EINVAL, "%u", i);
		cr_expect_not_null(strstr(error.message, "0x600"), "%s", error.message);
	}
	cr_expect_eq(fakekvm_calls("KVM_IOEVENTFD"), 0);
}

Test(kvm_eventfds, any_width_needs_its_capability)
{
	struct tenon_vm_ioeventfd what = {.size = sizeof(what), .address = 0xd0000000, .eventfd = fakekvm_eventfd()};
	cr_expect_eq(tenon_vm_ioeventfd_attach(vm, &what, &error), 0, "%s", error.message);
	cr_expect_eq(tenon_vm_ioeventfd_detach(vm, &what, &error), 0);
	fakekvm_set_capability(KVM_CAP_IOEVENTFD_ANY_LENGTH, 0);
	cr_expect_eq(tenon_vm_ioeventfd_attach(vm, &what, &error), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_IOEVENTFD_ANY_LENGTH"), "%s", error.message);
}

Test(kvm_eventfds, the_vfio_device_is_created_once_and_at_first_use)
{
	int files[2] = {fakekvm_vfio_file(), fakekvm_vfio_file()};
	cr_expect_eq(fakekvm_calls("KVM_CREATE_DEVICE"), 0);
	cr_expect_eq(tenon_vm_file_remove(vm, files[0], &error), -ENOENT);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(tenon_vm_file_add(vm, files[i], &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_calls("KVM_CREATE_DEVICE"), 1);
	cr_expect_eq(fakekvm_vfio_file_count(), 2);
	cr_expect_eq(tenon_vm_file_add(vm, files[0], &error), -EEXIST);
	cr_expect_not_null(strstr(error.message, "added before"), "%s", error.message);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(tenon_vm_file_remove(vm, files[i], &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_vfio_file_count(), 0);
}

Test(kvm_eventfds, a_file_that_is_not_vfios_is_told_apart_from_a_kernel_without_the_device)
{
	cr_expect_eq(tenon_vm_file_add(vm, fakekvm_eventfd(), &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "no VFIO file"), "%s", error.message);
	cr_expect_eq(tenon_vm_file_add(vm, -1, &error), -EBADF);
	tenon_vm_destroy(vm);
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0);
	fakekvm_fail_always("KVM_CREATE_DEVICE", ENODEV);
	cr_expect_eq(tenon_vm_file_add(vm, fakekvm_vfio_file(), &error), -ENODEV);
	cr_expect_not_null(strstr(error.message, "CONFIG_KVM_VFIO"), "%s", error.message);
	fakekvm_fail_always("KVM_CREATE_DEVICE", ENOTTY);
	cr_expect_eq(tenon_vm_file_add(vm, fakekvm_vfio_file(), &error), -ENOTTY);
	cr_expect_not_null(strstr(error.message, "CONFIG_KVM_VFIO"), "%s", error.message);
}

Test(kvm_eventfds, a_kernel_that_does_not_announce_its_device_call_is_believed_by_trying)
{
	fakekvm_set_capability(KVM_CAP_DEVICE_CTRL, 0);
	cr_expect_eq(tenon_vm_file_add(vm, fakekvm_vfio_file(), &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_vfio_file_count(), 1);
}
