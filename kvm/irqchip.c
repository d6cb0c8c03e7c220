// SPDX-License-Identifier: MIT
/* The in-kernel IOAPIC and PIC back to power-on. Their creation is vm.c's; local APICs are part of vCPU state. */
#include <errno.h>
#include <string.h>

#include "kernel_calls.h"
#include "vm_private.h"

int tenon_vm_irqchip_reset(struct tenon_vm *vm, struct tenon_error *err)
{
	/* Lines first: KVM keeps them apart from the chip's registers, and a line left high would set a bit of the fresh IRR. */
	for (uint32_t pin = 0; pin < TENON_VM_IOAPIC_PINS; pin++) {
		int error = tenon_vm_irq_line(vm, pin, false, err);
		if (error)
			return error;
	}
	for (size_t i = 0; i < sizeof(vm->power_on) / sizeof(vm->power_on[0]); i++) {
		struct kvm_irqchip chip = vm->power_on[i];
		int error = kcall_ioctl(vm->fd, KVM_SET_IRQCHIP, &chip);
		if (error < 0)
			return tenon_fail(err, error, "KVM: KVM_SET_IRQCHIP of chip %zu: %s", i, strerror(-error));
	}
	return 0;
}
