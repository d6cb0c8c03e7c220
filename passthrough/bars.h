/* SPDX-License-Identifier: MIT */
/*
 * The guest's base address registers: sizing, placement, and the direct mappings behind them. The guest's addresses never
 * reach the device; the host's BARs stay where they are.
 */
#ifndef BARS_H
#define BARS_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/device.h>

#include "bells.h"
#include "transport.h"

struct tenon_device;

struct bar {
	struct transport_region region;
	void *hva; /* reserved address space of the whole BAR; areas are mapped over it. NULL: all trapped */
	uint64_t reserved_bytes;
	struct tenon_bar_placement placed;      /* as the VMM was last told */
	uint64_t area_gpa[TRANSPORT_AREAS_MAX]; /* where the guest sees each area right now; 0: nowhere */
	uint64_t peer_gpa[TRANSPORT_AREAS_MAX]; /* where other devices reach each area right now; 0: nowhere */
	bool refused, peers_refused;            /* since it was placed: not to be tried again there */
	bool peers_told;                        /* that it is out of reach somewhere: once is enough */
	bool stuck_told;                        /* that something cannot be taken back */
	struct bells bells;
};

struct bars {
	struct bar bar[TENON_DEVICE_BARS + 1]; /* the last: the expansion ROM, which always traps */
	bool trapped;                          /* the guest's every access must be seen */
};

/** Queries the BARs, gives the config space its registers and maps what can be mapped. After config_init and rom_init. */
int bars_init(struct tenon_device *device, struct tenon_error *err);
void bars_finish(struct tenon_device *device);

/** Withdraws what `command` and the power state no longer decode, or what moved. Before the device is told. */
void bars_withdraw(struct tenon_device *device);
/** Places what is decoded now. After the device was told. */
void bars_place(struct tenon_device *device);

/** Brings what the guest reaches without a trap to what it may reach now, where something else than its registers changed. */
void bars_update(struct tenon_device *device);
/** Maps the regions anew, at a device that came back, over what they were. The guest does not see them. */
int bars_map_again(struct tenon_device *device, struct tenon_error *err);

/** Whether the guest may reach placed BARs without a trap. */
void bars_direct(struct tenon_device *device, bool direct);

/** The guest may access the BAR's space now. */
bool bars_decoded(const struct tenon_device *device, unsigned bar);

#endif
