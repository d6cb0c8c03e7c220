/* SPDX-License-Identifier: MIT */
/*
 * A machine of our own for the firmware: RAM, the ROM, a PCI host, one vCPU, and functions that are models of config space. What is
 * on the host's buses is the test's: create; put functions there and describe them; run.
 */
#ifndef FIRMWARE_MACHINE_H
#define FIRMWARE_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "bus.h"
#include "description.h"
#include "memory.h"
#include "pci/bridge.h"
#include "pci/host.h"
#include "rom.h"

#define FIRMWARE_SAID_MAX 65536

struct firmware_machine {
	struct tenon_vm *vm;
	struct tenon_vcpu *vcpu;
	struct memory memory;
	struct rom rom;
	struct bus mmio;
	struct pci_host pci;
	char said[FIRMWARE_SAID_MAX]; /* a string, of what came out of the serial port */
	size_t said_bytes;
	_Atomic int status; /* what the firmware wrote to the exit port; -1: it runs */
};

extern struct firmware_machine machine;

void firmware_skip_without_kvm(void);

/** @param out  gets what is the same for all machines: memory, windows; bridges, devices and groups are the caller's to add */
void firmware_machine_create(struct description *out, unsigned bus_count, const char *command_line);

/** Runs it to its end, which must come, and takes it away. `machine.said`, `machine.pci` and the functions stay. */
void firmware_machine_run(struct description *description);

/** Config space as the guest has it. */
uint32_t firmware_config32(unsigned rid, unsigned offset);

/* ---- A function: registers whose writable bits are known ---- */

struct model {
	struct pci_function function;
	uint8_t value[4096], write[4096];
};

/** All zero, with these ids; decoding and bus mastering can be switched. */
void model_init(struct model *model, uint32_t ids);
void model_put32(uint8_t *registers, unsigned offset, uint32_t value);
void model_put_bar(struct model *model, unsigned offset, uint32_t flags, uint64_t size_bytes);
/** The address that a BAR has. */
uint64_t model_bar(const struct model *model, unsigned offset);
/** All that can be written is zero. */
void model_reset(struct model *model);

#endif
