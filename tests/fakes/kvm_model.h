/* SPDX-License-Identifier: MIT */
/* The fake KVM's inside: what its sources share. Tests include kvm_fake.h. */
#ifndef KVM_MODEL_H
#define KVM_MODEL_H

#include <pthread.h>

#include "kvm_fake.h"

#define MODEL_FIRST_FD   1000
#define MODEL_FDS        256
#define MODEL_SLOTS      64
#define MODEL_IRQFDS     64
#define MODEL_VCPUS      8
#define MODEL_MSRS       300
#define MODEL_SCRIPT     64
#define MODEL_RUN_BYTES  12288u
#define MODEL_PORT_DATA  4096u /* where in the mapping port data lies */
#define MODEL_LVT_TIMER  0x320 /* place in the LAPIC's registers; not 0: deadline mode */
#define MODEL_MAPPINGS   32
#define MODEL_NESTED_MAX 4224
#define MODEL_XSAVE_MAX  8192
#define MODEL_MSR_TSC    0x10

enum model_kind { MODEL_FREE, MODEL_KVM, MODEL_VM, MODEL_VCPU, MODEL_VFIO_DEVICE, MODEL_EVENTFD, MODEL_VFIO_FILE };

struct model_fd {
	enum model_kind kind;
	unsigned vcpu; /* MODEL_VCPU */
};

struct model_slot {
	struct kvm_userspace_memory_region region; /* memory_size 0: free */
	uint64_t *dirty;                           /* one bit per page */
};

struct model_msr {
	uint32_t index;
	bool listed, readable, writable;
};

struct model_vcpu {
	bool exists;
	struct kvm_run *run;
	struct kvm_dirty_gfn *ring;
	uint32_t ring_dirty, ring_reset; /* indexes, as the kernel counts */

	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	uint8_t xsave[MODEL_XSAVE_MAX];
	uint64_t tsc_offset;
	bool told_paused;
	uint64_t msrs[MODEL_MSRS]; /* by place in model.msrs */
	int tsc_khz;
	bool nested;

	struct fakekvm_exit script[MODEL_SCRIPT];
	unsigned script_next, script_end;
	bool completing; /* an access exited and KVM_RUN was not entered since */
	unsigned completed;
	uint8_t completed_data[64];

	int inside; /* id of the thread in KVM_RUN, past its look at immediate_exit; 0: none */
	bool interrupted;
};

struct model {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct model_fd fds[MODEL_FDS];
	int capabilities[512];
	int api_version;
	int tsc_khz;
	struct model_msr msrs[MODEL_MSRS];
	unsigned msr_count;

	/* the VM */
	bool irqchip;
	bool vfio_device;
	uint64_t ring_bytes;
	struct model_slot slots[MODEL_SLOTS];
	struct kvm_irq_routing_entry routes[4096];
	unsigned route_count;
	struct {
		int fd; /* 0: free */
		uint32_t gsi;
		int resample;
	} irqfds[MODEL_IRQFDS];
	struct kvm_ioeventfd ioeventfds[MODEL_IRQFDS]; /* fd 0: free */
	int vfio_files[16];                            /* 0: free */
	bool lines[24];
	struct kvm_irqchip chips[3];
	uint64_t host_tsc;
	uint64_t clock_ns;
	bool has_pit;
	struct kvm_pit_state2 pit;
	uint32_t event_flags; /* those of struct kvm_vcpu_events that a capability made valid */
	struct kvm_msi message;
	struct model_vcpu vcpus[MODEL_VCPUS];

	void *mappings[MODEL_MAPPINGS];
	unsigned threads;

	/* failures and counts */
	pthread_t failing_thread;
	unsigned fail_at; /* 0: none */
	int fail_error;
	const char *fail_name;
	const char *failed;
	const char *calls[20000];
	unsigned call_count;
};

extern struct model model;

/** A free descriptor, or -EMFILE. All of these are called with the lock held. */
int model_open(enum model_kind kind, unsigned vcpu);
const struct model_fd *model_at(int fd);
void model_forget_vm(void);

int model_system_ioctl(unsigned long request, void *argument);
int model_vm_ioctl(unsigned long request, void *argument);
int model_vfio_device_ioctl(unsigned long request, void *argument);
int model_vcpu_ioctl(unsigned index, unsigned long request, void *argument);
int model_map(unsigned vcpu, size_t size_bytes, uint64_t offset, void **out);
int model_create_vcpu(unsigned index);
int model_get_msr_list(struct kvm_msr_list *list);

#endif
