// SPDX-License-Identifier: MIT
/* Interrupts into a guest: messages by irqfd and at once, IOAPIC lines, level interrupts with resampling, other processors. */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include "kvm_guest.h"

#define HANDLER 0x2000u
#define MESSAGE 0xfee00000ull

/* Switches the LAPIC on, tells, and waits. */
GUEST_CODE_64(idle, "movl $0xfee00000, %ebp\n"
		    "movl $0x1ff, 0xf0(%rbp)\n"
		    "outb %al, $0x70\n"
		    "sti\n"
		    "1: hlt\n"
		    "jmp 1b\n");

/* Handlers tell their vector. */
GUEST_CODE_64(on_40, "movb $0x40, %al\n"
		     "outb %al, $0x80\n"
		     "movl $0, 0xb0(%rbp)\n"
		     "iretq\n");

GUEST_CODE_64(on_50, "movb $0x50, %al\n"
		     "outb %al, $0x80\n"
		     "movl $0, 0xb0(%rbp)\n"
		     "iretq\n");

static void create_idle_guest(struct guest *guest, const uint8_t *code, const uint8_t *code_end)
{
	guest_create(guest, NULL, code, code_end);
	guest_enter_long_mode(guest);
	memcpy(guest->ram + HANDLER, guest_on_40, (size_t)(guest_on_40_end - guest_on_40));
	memcpy(guest->ram + HANDLER + 0x100, guest_on_50, (size_t)(guest_on_50_end - guest_on_50));
	guest_set_vector(guest, 0x40, HANDLER);
	guest_set_vector(guest, 0x50, HANDLER + 0x100);
	guest_start(guest);
	cr_assert(guest_wait(guest, &guest->write_count, 1, 10));
}

static void signal_eventfd(int fd)
{
	uint64_t one = 1;
	cr_assert_eq(write(fd, &one, sizeof(one)), (ssize_t)sizeof(one));
}

Test(kvm_interrupts, a_signalled_irqfd_becomes_its_routes_message, .timeout = 60)
{
	struct guest guest;
	create_idle_guest(&guest, guest_idle, guest_idle_end);
	struct tenon_error error;
	int gsi = -1;
	cr_assert_eq(tenon_vm_route_set(guest.vm, &gsi, MESSAGE, 0x40, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vm_route_commit(guest.vm, &error), 0, "%s", error.message);
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	cr_assert_eq(tenon_vm_irqfd_attach(guest.vm, gsi, fd, -1, &error), 0, "%s", error.message);

	for (unsigned i = 1; i <= 20; i++) {
		signal_eventfd(fd);
		cr_assert(guest_wait(&guest, &guest.write_count, 1 + i, 10));
		cr_assert_eq(guest.writes[i].value, 0x40);
	}

	/* The route changes under the irqfd. */
	cr_assert_eq(tenon_vm_route_set(guest.vm, &gsi, MESSAGE, 0x50, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vm_route_commit(guest.vm, &error), 0, "%s", error.message);
	signal_eventfd(fd);
	cr_assert(guest_wait(&guest, &guest.write_count, 22, 10));
	cr_expect_eq(guest.writes[21].value, 0x50);

	cr_assert_eq(tenon_vm_irqfd_detach(guest.vm, gsi, fd, &error), 0, "%s", error.message);
	tenon_vm_route_free(guest.vm, gsi);
	signal_eventfd(fd);
	usleep(20000);
	cr_expect_eq(guest_read_count(&guest, &guest.write_count), 22, "a detached irqfd still interrupts");
	uint64_t count = 0;
	cr_expect_eq(read(fd, &count, sizeof(count)), (ssize_t)sizeof(count));
	cr_expect_eq(count, 1, "after detaching, the eventfd keeps its count");
	close(fd);
	guest_destroy(&guest);
}

Test(kvm_interrupts, what_was_signalled_before_attaching_is_delivered, .timeout = 60)
{
	struct guest guest;
	create_idle_guest(&guest, guest_idle, guest_idle_end);
	struct tenon_error error;
	int gsi = -1;
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	signal_eventfd(fd);
	cr_assert_eq(tenon_vm_route_set(guest.vm, &gsi, MESSAGE, 0x40, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vm_route_commit(guest.vm, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vm_irqfd_attach(guest.vm, gsi, fd, -1, &error), 0, "%s", error.message);
	cr_expect(guest_wait(&guest, &guest.write_count, 2, 10));
	close(fd);
	guest_destroy(&guest);
}

Test(kvm_interrupts, a_message_is_sent_without_a_route_and_lost_without_an_addressee, .timeout = 60)
{
	struct guest guest;
	create_idle_guest(&guest, guest_idle, guest_idle_end);
	struct tenon_error error;
	cr_assert_eq(tenon_vm_msi_send(guest.vm, MESSAGE, 0x50, &error), 0, "%s", error.message);
	cr_assert(guest_wait(&guest, &guest.write_count, 2, 10));
	cr_expect_eq(guest.writes[1].value, 0x50);
	cr_expect_eq(tenon_vm_msi_send(guest.vm, MESSAGE | (77u << 12), 0x50, &error), 0, "%s", error.message);
	guest_destroy(&guest);
}

/* Pin 5: vector 0x40, level, active high, unmasked, to APIC 0. */
GUEST_CODE_64(ioapic, "movl $0xfee00000, %ebp\n"
		      "movl $0x1ff, 0xf0(%rbp)\n"
		      "movl $0xfec00000, %ebx\n"
		      "movl $0x1b, (%rbx)\n"
		      "movl $0, 0x10(%rbx)\n"
		      "movl $0x1a, (%rbx)\n"
		      "movl $0x8040, 0x10(%rbx)\n"
		      "outb %al, $0x70\n"
		      "sti\n"
		      "1: hlt\n"
		      "jmp 1b\n");

Test(kvm_interrupts, a_line_interrupts_through_the_ioapic_until_it_falls, .timeout = 60)
{
	struct guest guest;
	create_idle_guest(&guest, guest_ioapic, guest_ioapic_end);
	struct tenon_error error;
	cr_assert_eq(tenon_vm_irq_line(guest.vm, 5, true, &error), 0, "%s", error.message);
	cr_assert(guest_wait(&guest, &guest.write_count, 4, 10), "a high level interrupts again and again");
	cr_assert_eq(tenon_vm_irq_line(guest.vm, 5, false, &error), 0, "%s", error.message);
	usleep(50000);
	unsigned count = guest_read_count(&guest, &guest.write_count);
	usleep(50000);
	cr_expect_eq(guest_read_count(&guest, &guest.write_count), count);
	cr_expect_eq(tenon_vm_irq_line(guest.vm, 24, true, &error), -EINVAL);
	guest_destroy(&guest);
}

Test(kvm_interrupts, a_reset_ioapic_masks_its_pins, .timeout = 60)
{
	struct guest guest;
	create_idle_guest(&guest, guest_ioapic, guest_ioapic_end);
	struct tenon_error error;
	tenon_vcpu_pause(guest.vcpus[0], true);
	cr_assert_eq(tenon_vm_irq_line(guest.vm, 6, true, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vm_irqchip_reset(guest.vm, &error), 0, "%s", error.message);
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	cr_assert_eq(ioctl(tenon_vm_fd(guest.vm), KVM_GET_IRQCHIP, &chip), 0);
	for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++)
		cr_expect_eq(chip.chip.ioapic.redirtbl[pin].fields.mask, 1, "pin %u is open", pin);
	cr_expect_eq(chip.chip.ioapic.irr, 0);
	tenon_vcpu_resume(guest.vcpus[0]);
	cr_assert_eq(tenon_vm_irq_line(guest.vm, 5, true, &error), 0, "%s", error.message);
	usleep(20000);
	cr_expect_eq(guest_read_count(&guest, &guest.write_count), 1);
	guest_destroy(&guest);
}

Test(kvm_interrupts, the_guests_end_of_interrupt_signals_the_resample_eventfd, .timeout = 60)
{
	struct guest guest;
	create_idle_guest(&guest, guest_ioapic, guest_ioapic_end);
	guest_skip_without(&guest, KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE");
	struct tenon_error error;
	int trigger = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int resample = eventfd(0, EFD_CLOEXEC);
	cr_assert_eq(tenon_vm_irqfd_attach(guest.vm, 5, trigger, resample, &error), 0, "%s", error.message);
	for (unsigned i = 0; i < 10; i++) {
		signal_eventfd(trigger);
		uint64_t count = 0;
		cr_assert_eq(read(resample, &count, sizeof(count)), (ssize_t)sizeof(count));
		cr_assert(guest_wait(&guest, &guest.write_count, 2 + i, 10));
	}
	usleep(20000);
	cr_expect_eq(guest_read_count(&guest, &guest.write_count), 11, "one interrupt for each assertion");
	cr_assert_eq(tenon_vm_irqfd_detach(guest.vm, 5, trigger, &error), 0, "%s", error.message);
	close(resample);
	close(trigger);
	guest_destroy(&guest);
}

Test(kvm_interrupts, an_irqfd_of_an_unknown_gsi_is_refused, .timeout = 60)
{
	struct guest guest;
	create_idle_guest(&guest, guest_idle, guest_idle_end);
	struct tenon_error error;
	int fd = eventfd(0, EFD_CLOEXEC);
	cr_expect_eq(tenon_vm_irqfd_attach(guest.vm, 24, fd, -1, &error), -EINVAL);
	cr_expect_eq(tenon_vm_irqfd_attach(guest.vm, -1, fd, -1, &error), -EINVAL);
	cr_expect_lt(tenon_vm_irqfd_attach(guest.vm, 4, -1, -1, &error), 0);
	cr_expect_not_null(strstr(error.message, "GSI 4"), "%s", error.message);
	close(fd);
	guest_destroy(&guest);
}

/* The table's limit is KVM's. */
Test(kvm_interrupts, a_full_table_of_routes_commits_and_refuses_one_more, .timeout = 60)
{
	guest_skip_without_kvm();
	struct tenon_error error;
	struct tenon_vm *vm;
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	int most = ioctl(tenon_vm_fd(vm), KVM_CHECK_EXTENSION, KVM_CAP_IRQ_ROUTING) - TENON_VM_IOAPIC_PINS;
	for (int i = 0; i < most; i++) {
		int gsi = -1;
		cr_assert_eq(tenon_vm_route_set(vm, &gsi, MESSAGE, 0x40, &error), 0, "%s", error.message);
		cr_assert_eq(gsi, TENON_VM_IOAPIC_PINS + i);
	}
	int gsi = -1;
	cr_expect_eq(tenon_vm_route_set(vm, &gsi, MESSAGE, 0x40, &error), -ENOSPC);
	cr_expect_eq(gsi, -1);
	cr_expect_eq(tenon_vm_route_commit(vm, &error), 0, "%s", error.message);
	tenon_vm_route_free(vm, 100);
	cr_expect_eq(tenon_vm_route_set(vm, &gsi, MESSAGE, 0x40, &error), 0);
	cr_expect_eq(gsi, 100, "a freed GSI is used again");
	cr_expect_eq(tenon_vm_route_commit(vm, &error), 0, "%s", error.message);
	tenon_vm_destroy(vm);
}

/* INIT, then SIPI with vector 3: the other processor starts at 0x3000 in real mode. */
GUEST_CODE_32(start_other, "movl $0x1ff, 0xfee000f0\n"
			   "movl $0x01000000, 0xfee00310\n"
			   "movl $0x4500, 0xfee00300\n"
			   "movl $0x01000000, 0xfee00310\n"
			   "movl $0x4603, 0xfee00300\n"
			   "1: hlt\n"
			   "jmp 1b\n");

Test(kvm_interrupts, a_processor_starts_another, .timeout = 60)
{
	static const uint8_t real_mode[] = {0xb0, 0x33, 0xe6, 0x80,
					    0xf4, 0xeb, 0xfd}; /* mov al, 0x33; out 0x80, al; hlt; jmp */
	struct guest guest;
	guest_create(&guest, NULL, guest_start_other, guest_start_other_end);
	memcpy(guest.ram + 0x3000, real_mode, sizeof(real_mode));
	guest_add_vcpu(&guest);
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 1, 10));
	cr_expect_eq(guest.writes[0].value, 0x33);
	cr_expect_eq(guest.stop_count, 0, "%s", guest.stop_message);
	guest_destroy(&guest);
}
