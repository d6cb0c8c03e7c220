/* SPDX-License-Identifier: MIT */
/*
 * The machine: a VM with its memory, CPUs, buses and devices, put together from the parts of this folder.
 *
 * Call order: create; run; destroy. All from one thread; vCPU threads call into the buses meanwhile, and the thread of hotplug.c
 * opens and closes devices.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdatomic.h>
#include <stdint.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>
#include <tenon/tenon.h>

#include "bus.h"
#include "cpu/cpu.h"
#include "devices/chardev.h"
#include "devices/power.h"
#include "devices/serial.h"
#include "dma_memory.h"
#include "loader/loader.h"
#include "memory.h"
#include "migrate/parts.h"
#include "options.h"
#include "pci/host.h"
#include "pci/placement.h"
#include "rom.h"
#include "slots.h"

/* Why the machine stopped running. The first request wins; those that other vCPUs make meanwhile are dropped. */
enum machine_stop {
	MACHINE_RUNNING,
	MACHINE_POWER_OFF,
	MACHINE_RESET,
	MACHINE_EXIT, /* the exit device was written */
	MACHINE_TRIPLE_FAULT,
	MACHINE_QUIT,  /* the control socket asked for it */
	MACHINE_MOVED, /* the guest is elsewhere, or in a file */
	MACHINE_FAILED,
};

struct machine_vcpu {
	struct tenon_vcpu *vcpu;
	struct tenon_vcpu_state *power_on;
};

struct machine {
	const struct run_options *options;
	struct loader_files files;
	struct memory memory;
	struct rom rom;
	struct tenon_vm *vm;
	struct cpu_model *cpu_model;
	struct machine_vcpu vcpus[CPU_COUNT_MAX];
	struct bus ports, mmio;
	struct pci_host pci;
	struct tenon_space *space;
	struct dma_memory dma;
	struct slots slots;
	/*
	 * The topology: held by whoever opens, closes or resets devices, for as long as that takes. The main loop never waits for it
	 * (machine_try_topology).
	 */
	pthread_mutex_t topology;
	atomic_bool topology_wanted;
	struct placement placement;
	struct chardev *chardev;
	struct serial *serial;
	int serial_irq;
	struct power power;

	atomic_bool quiet;          /* vCPUs are about to be paused: none waits for anything (migrate/quiet.h) */
	struct parts_loaded loaded; /* of a machine that comes from elsewhere */

	int wake_fd; /* eventfd: a vCPU made a request */
	_Atomic enum machine_stop stop;
	unsigned exit_status;       /* for MACHINE_EXIT */
	struct tenon_error failure; /* for MACHINE_FAILED */
};

/** Opens, checks and builds everything; the machine is ready to run. @param options borrowed until machine_destroy */
int machine_create(const struct run_options *options, struct machine **out, struct tenon_error *err);

/** Stops the vCPUs, closes the devices, frees everything. NULL and half-built machines are accepted. */
void machine_destroy(struct machine *machine);

/** Starts the vCPUs. */
int machine_start(struct machine *machine, struct tenon_error *err);

/** Pauses every vCPU and waits until all have left the guest. */
void machine_pause(struct machine *machine);

/** Asks for the machine to stop running, for a reason that the main loop acts on. From any thread; the first wins. */
void machine_request_stop(struct machine *machine, enum machine_stop stop, unsigned status, const char *message);

/** Takes the topology for as long as devices come, go or are reset. Not on the main loop. */
void machine_lock_topology(struct machine *machine);
/** @return false: somebody has it; the main loop is woken (wake_fd) once it may try again */
bool machine_try_topology(struct machine *machine);
void machine_unlock_topology(struct machine *machine);

/** What an assigned device needs of the machine. */
struct assigned_machine machine_for_devices(struct machine *machine);

/**
 * Resets every device, the interrupt controllers and CPUs, and loads the kernel again. The vCPUs are paused; they run after it. The
 * caller has the topology.
 */
int machine_reset(struct machine *machine, struct tenon_error *err);

/** VM exits of all vCPUs together. */
void machine_stats(const struct machine *machine, struct tenon_vcpu_stats *out);

#endif
