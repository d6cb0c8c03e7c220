// SPDX-License-Identifier: MIT
/* Guest writes that signal an eventfd inside the kernel and never reach user space. */
#include <errno.h>
#include <sys/eventfd.h>

#include "kvm_guest.h"

GUEST_CODE_32(doorbell, "movl $0xd0000000, %ebx\n"
			"movl $1, (%ebx)\n"
			"movl $2, (%ebx)\n"
			"movl $1, (%ebx)\n"
			"movw $7, 8(%ebx)\n"
			"movb $7, 8(%ebx)\n"
			"movw $0x600, %dx\n"
			"movb $5, %al\n"
			"outb %al, %dx\n"
			"outb %al, $0x80\n"
			"1: hlt\n"
			"jmp 1b\n");

static uint64_t count_of(int fd)
{
	uint64_t count = 0;
	return read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

Test(kvm_ioeventfd, only_the_write_asked_for_signals_and_the_others_exit, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_doorbell, guest_doorbell_end);
	int matching = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int any = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int port = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct tenon_vm_ioeventfd doorbells[] = {
		{.size = sizeof(doorbells[0]),
		 .address = GUEST_DEVICE,
		 .width_bytes = 4,
		 .match = true,
		 .value = 1,
		 .eventfd = matching},
		{.size = sizeof(doorbells[0]), .address = GUEST_DEVICE + 8, .eventfd = any},
		{.size = sizeof(doorbells[0]), .address = 0x600, .width_bytes = 1, .io = true, .eventfd = port},
	};
	guest_skip_without(&guest, KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH");
	struct tenon_error error;
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(tenon_vm_ioeventfd_attach(guest.vm, &doorbells[i], &error), 0, "%s", error.message);
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 1, 10));

	cr_expect_eq(guest.writes[0].port, 0x80, "the port write did not exit");
	cr_expect_eq(guest.device_accesses, 1, "only the value 2 exits");
	cr_expect_eq(count_of(matching), 2);
	cr_expect_eq(count_of(any), 2);
	cr_expect_eq(count_of(port), 1);

	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(tenon_vm_ioeventfd_detach(guest.vm, &doorbells[i], &error), 0, "%s", error.message);
	cr_expect_eq(tenon_vm_ioeventfd_detach(guest.vm, &doorbells[0], &error), -ENOENT);
	guest_destroy(&guest);
	close(matching);
	close(any);
	close(port);
}

Test(kvm_ioeventfd, impossible_widths_are_refused)
{
	guest_skip_without_kvm();
	struct tenon_error error;
	struct tenon_vm *vm;
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	int fd = eventfd(0, EFD_CLOEXEC);
	struct tenon_vm_ioeventfd what = {
		.size = sizeof(what), .address = 0x600, .width_bytes = 8, .io = true, .eventfd = fd};
	cr_expect_eq(tenon_vm_ioeventfd_attach(vm, &what, &error), -EINVAL);
	what.width_bytes = 3;
	cr_expect_eq(tenon_vm_ioeventfd_attach(vm, &what, &error), -EINVAL);
	what.width_bytes = 0;
	cr_expect_eq(tenon_vm_ioeventfd_attach(vm, &what, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "0x600"), "%s", error.message);
	close(fd);
	tenon_vm_destroy(vm);
}
