/* SPDX-License-Identifier: MIT */
/*
 * tenon_vm: a KVM virtual machine with the full in-kernel interrupt controllers (PIC unused, IOAPIC, LAPICs).
 *
 * Call order: create; add memory; create vCPUs (<tenon-kvm/vcpu.h>); run; stop and destroy the vCPUs; destroy.
 * Threads: every call may come from any thread; the VM locks its slots and its routing table itself.
 * Capabilities that every VM needs are refused at create with one sentence that names each that KVM lacks; the others
 * (read-only memory, dirty ring, resampled irqfds, ioeventfds of any width, the KVM-VFIO device) at use, with -ENOTSUP.
 * Source: Linux Documentation/virt/kvm/api.rst (sections are named at each call).
 */
#ifndef TENON_KVM_VM_H
#define TENON_KVM_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tenon_vm;

#define TENON_VM_IOAPIC_PINS 24 /* GSIs 0-23 are IOAPIC pins; message routes get higher numbers */

struct tenon_vm_options {
	size_t size;
	const char *path;            /* NULL: /dev/kvm */
	bool dirty_ring;             /* ask for the dirty ring instead of the dirty log; refused where KVM lacks it */
	uint32_t dirty_ring_entries; /* per vCPU, power of two; 0: 4096 */
};

/**
 * Creates the VM and its interrupt controllers. GSIs 0-23 are routed to the IOAPIC's pins, and nothing to the PIC.
 *
 * @param options  NULL: all defaults
 * @param out      owned by the caller
 */
int tenon_vm_create(const struct tenon_vm_options *options, struct tenon_vm **out, struct tenon_error *err);

/** Frees the VM; its vCPUs must be destroyed first. NULL is accepted. */
void tenon_vm_destroy(struct tenon_vm *vm);

/** The most vCPUs the VM can have: KVM_CAP_MAX_VCPUS, and at most the 255 that 8-bit APIC ids can address. */
unsigned tenon_vm_max_vcpus(const struct tenon_vm *vm);

/** /dev/kvm and the VM's file descriptor, borrowed, for calls that this header does not wrap. */
int tenon_vm_kvm_fd(const struct tenon_vm *vm);
int tenon_vm_fd(const struct tenon_vm *vm);

/* ---- Memory slots (api.rst 4.35) ---- */

struct tenon_vm_memory {
	size_t size;
	uint64_t gpa;        /* page aligned */
	uint64_t size_bytes; /* page multiple */
	void *hva;           /* borrowed until tenon_vm_memory_remove or tenon_vm_destroy */
	bool read_only;      /* guest writes exit as MMIO */
	bool log_dirty;      /* logs from the start, whatever tenon_vm_dirty_log_enable says */
	bool device;         /* not RAM, a BAR say: never logged */
};

/**
 * Adds a slot, also while vCPUs run. While logging is enabled for all (below) it is logged from the start.
 *
 * @return 0; -EINVAL not whole pages; -EEXIST when it overlaps another; -ENOSPC no slot left; or the kernel's error
 */
int tenon_vm_memory_add(struct tenon_vm *vm, const struct tenon_vm_memory *memory, struct tenon_error *err);

/** Removes the slot that was added with exactly this range; after it, no vCPU reaches the memory. @return 0 or -ENOENT */
int tenon_vm_memory_remove(struct tenon_vm *vm, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err);

/**
 * Switches dirty logging of all RAM on (every slot that is neither read-only nor a device), or off (again only slots that
 * were added with log_dirty). A failure leaves logging as it was. Off also empties the dirty rings.
 */
int tenon_vm_dirty_log_enable(struct tenon_vm *vm, bool enable, struct tenon_error *err);

/**
 * Fetches and clears the dirty log of the slot that starts at gpa (api.rst 4.8). Where pages are few compared with all, it costs
 * less than the ring: KVM gives 64 pages a word, and no vCPU waits.
 *
 * @param bitmap  one bit per 4 KiB page, in 64-bit words of the host's byte order; rounded up to whole words
 * @param words   capacity of bitmap; -ENOSPC if too small
 * @return 0; -ENOENT no slot there; -EINVAL not logged; -ENOTSUP when the VM was made with the dirty ring
 */
int tenon_vm_dirty_log_fetch(struct tenon_vm *vm, uint64_t gpa, uint64_t *bitmap, size_t words,
			     struct tenon_error *err);

/**
 * Collects the dirty rings of all vCPUs (api.rst 8.29): calls `page` for each dirty page, then lets KVM reuse the entries
 * and vCPUs whose ring was full go on. A page may come more than once. Its content may be read only after this returns, since
 * until then KVM does not notice new writes to it. The CPU may still hold back pages of a vCPU that is in the guest: pause (or
 * kick) all vCPUs first where the set must be complete. Destroying a vCPU loses what is in its ring.
 *
 * @param page  is called with the VM's lock held: must not call into the VM; NULL: the pages are dropped
 * @return the number of pages, or -errno; -ENOTSUP when the VM was made without the ring
 */
typedef void (*tenon_vm_dirty_page_fn)(void *context, uint64_t gpa);
int tenon_vm_dirty_ring_collect(struct tenon_vm *vm, tenon_vm_dirty_page_fn page, void *context,
				struct tenon_error *err);

/* ---- Interrupts (api.rst 4.52 KVM_SET_GSI_ROUTING, 4.75 KVM_IRQFD) ---- */

/** Sets the line of an IOAPIC pin. For lines without an eventfd and with one owner. */
int tenon_vm_irq_line(struct tenon_vm *vm, uint32_t gsi, bool level, struct tenon_error *err);

/**
 * Adds or removes one holder of an IOAPIC pin's line, which is high while it has any. For lines that devices share; each calls
 * with true and false in turn. Not together with tenon_vm_irq_line on the same pin.
 */
int tenon_vm_irq_line_hold(struct tenon_vm *vm, uint32_t gsi, bool hold, struct tenon_error *err);

/** Sends one message at once, without a route. One that addresses no vCPU is lost, as on hardware. */
int tenon_vm_msi_send(struct tenon_vm *vm, uint64_t address, uint32_t data, struct tenon_error *err);

/**
 * Sets a message route. *gsi < 0 takes a free GSI. The kernel learns of it at tenon_vm_route_commit; a route that did
 * not change costs nothing.
 *
 * @return 0; -ENOSPC when KVM's table is full; -EINVAL when *gsi is no route
 */
int tenon_vm_route_set(struct tenon_vm *vm, int *gsi, uint64_t address, uint32_t data, struct tenon_error *err);

/** Frees a route's GSI. Takes effect at the next commit. */
void tenon_vm_route_free(struct tenon_vm *vm, int gsi);

/**
 * Gives all changes since the last commit to the kernel in one call; none when nothing changed. After a failure the
 * kernel has the table of before, and the next commit tries again.
 */
int tenon_vm_route_commit(struct tenon_vm *vm, struct tenon_error *err);

/**
 * Signals of `eventfd` raise `gsi` inside the kernel.
 *
 * @param resample  -1: edge; else an eventfd that the guest's EOI signals after deasserting the level-triggered line
 */
int tenon_vm_irqfd_attach(struct tenon_vm *vm, int gsi, int eventfd, int resample, struct tenon_error *err);
int tenon_vm_irqfd_detach(struct tenon_vm *vm, int gsi, int eventfd, struct tenon_error *err);

/** Which guest write signals an eventfd inside the kernel (api.rst 4.59). */
struct tenon_vm_ioeventfd {
	size_t size;
	uint64_t address;     /* gpa or port */
	unsigned width_bytes; /* 1, 2, 4, 8; 0: any width (memory only) */
	bool io;              /* port space */
	bool match;           /* only this value */
	uint64_t value;
	int eventfd; /* borrowed */
};
int tenon_vm_ioeventfd_attach(struct tenon_vm *vm, const struct tenon_vm_ioeventfd *what, struct tenon_error *err);
int tenon_vm_ioeventfd_detach(struct tenon_vm *vm, const struct tenon_vm_ioeventfd *what, struct tenon_error *err);

/**
 * IOAPIC and PIC back to power-on, every line low. vCPUs must not run. Routes and irqfds stay; a line that a resampling irqfd
 * asserted falls at the guest's next end of interrupt, or when that irqfd is detached.
 */
int tenon_vm_irqchip_reset(struct tenon_vm *vm, struct tenon_error *err);

/**
 * The state of the interrupt controllers and of the guest's clock as bytes for another host: IOAPIC, PIC, kvmclock, and the PIT if
 * the caller made one. vCPUs do not run. The clock goes on from where it was: what passes between pack and unpack does not count.
 * Not part of it: routes, and lines that somebody holds or drives high. Their owners set and assert them again.
 *
 * @param data  owned by the caller: free()
 * @return 0; -EBUSY a vCPU runs; or KVM's error
 */
int tenon_vm_state_pack(struct tenon_vm *vm, void **data, size_t *bytes, struct tenon_error *err);
/**
 * Gives a VM whose vCPUs never ran the state. Untrusted input. The order: the guest's memory; this; the vCPUs' states
 * (tenon_vcpu_state_restore), by index; then the lines of those who hold any, because every line is low after this, and one that
 * was asserted before would not be noticed.
 *
 * @return 0; -EINVAL not such a state, or of a newer version: nothing was changed; -ENOTSUP naming what this KVM lacks;
 *         -EBUSY a vCPU runs; or KVM's error, after which the VM's state is undefined
 */
int tenon_vm_state_unpack(struct tenon_vm *vm, const void *data, size_t bytes, struct tenon_error *err);

/* ---- The KVM-VFIO device (Documentation/virt/kvm/devices/vfio.rst) ---- */

/**
 * Tells KVM that the VM owns this VFIO device or group file (borrowed; KVM holds its own reference); before the device is
 * bound. The KVM-VFIO device is created at first use.
 */
int tenon_vm_file_add(struct tenon_vm *vm, int fd, struct tenon_error *err);
int tenon_vm_file_remove(struct tenon_vm *vm, int fd, struct tenon_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
