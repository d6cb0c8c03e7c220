/* SPDX-License-Identifier: MIT */
/*
 * The adapter between libtenon and KVM: implements struct tenon_host_ops on a struct tenon_vm. What is not KVM's business (where
 * trapped BAR accesses go, which GSI an INTx pin is wired to, where log lines go) the VMM fills in.
 *
 * Use: one struct tenon_vm_host per device; pass &tenon_vm_host_ops and the struct to tenon_device_open.
 */
#ifndef TENON_KVM_HOST_H
#define TENON_KVM_HOST_H

#include <tenon-kvm/vm.h>
#include <tenon/host.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tenon_vm_host {
	struct tenon_vm *vm;
	int intx_gsi[4]; /* GSI of INTA-INTD at this device's slot; < 0: not wired, INTx refused */
	void (*bar_placed)(void *context, const struct tenon_bar_placement *placement);
	void (*log)(void *context, enum tenon_log_level level, const char *message); /* may be NULL */
	void *context;
	/*
	 * Whether a BAR of this device answers in all of this range, as bar_placed last said and nothing that came first denies:
	 * a guest may put a BAR over other devices, where its memory must not be mapped. NULL: always.
	 */
	bool (*answers)(void *context, uint64_t gpa, uint64_t size_bytes);
};

extern const struct tenon_host_ops tenon_vm_host_ops;

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
