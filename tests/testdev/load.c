// SPDX-License-Identifier: MIT
/* The load generator. Its order over the pages is fixed by the number of pages written, so that a run can be repeated. */
#include <errno.h>
#include <string.h>

#include "testdev.h"

#define TICK_NS       UINT64_C(10000000)
#define SECOND_NS     UINT64_C(1000000000)
#define PAGES_AT_ONCE 1024

void load_reset(struct testdev *device)
{
	struct load *load = &device->load;
	uint32_t *sequence = load->sequence;
	if (load->waits)
		dma_cancel(device, -ECANCELED);
	memset(sequence, 0, TD_LOAD_PAGES_MAX * sizeof(sequence[0]));
	*load = (struct load){.rate = device->options.load_rate, .sequence = sequence};
}

static bool is_set_up(const struct load *load)
{
	return load->pages > 0 && load->pages <= TD_LOAD_PAGES_MAX && load->address % 4096 == 0;
}

void load_step(struct testdev *device, uint32_t pages)
{
	struct load *load = &device->load;
	if (!is_set_up(load))
		journal_add(device, TD_BAD_ACCESS, TD_LOAD_STEP, "load of %u pages at 0x%llx", load->pages,
			    (unsigned long long)load->address);
	else
		load->due += pages < LOAD_DUE_MAX ? pages : LOAD_DUE_MAX;
}

static uint32_t next_page(const struct load *load)
{
	uint64_t mixed = (load->written + 1) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)((mixed >> 32) % load->pages);
}

static void finish_page(struct testdev *device, int code)
{
	struct load *load = &device->load;
	load->waits = false;
	if (code == -ECANCELED)
		return; /* written again when the device goes on */
	load->due -= load->due > 0;
	if (code < 0) {
		load->faults++;
		journal_add(device, TD_BAD_DMA, load->stamp[1], "load: 0x%llx: %s", (unsigned long long)load->stamp[1],
			    strerror(-code));
		return;
	}
	load->sequence[load->writing] = (uint32_t)load->stamp[2];
	load->written++;
}

/* @return 1 done, 0 later */
static int write_page(struct testdev *device)
{
	struct load *load = &device->load;
	load->writing = next_page(load);
	uint64_t address = load->address + (uint64_t)load->writing * 4096, sequence = load->written + 1;
	const uint64_t stamp[4] = {TD_LOAD_MAGIC, address, sequence, TD_LOAD_MAGIC ^ address ^ sequence};
	memcpy(load->stamp, stamp, sizeof(stamp));
	struct dma_access access = {.address = address,
				    .data = (uint8_t *)load->stamp,
				    .bytes = sizeof(load->stamp),
				    .write = true,
				    .done = finish_page};
	int code = dma_access(device, &access);
	if (code == -EBUSY || code == -EAGAIN)
		return 0;
	load->waits = code == 0;
	if (code != 0)
		finish_page(device, code);
	return code != 0;
}

/* What the rate adds since it was looked at last; nothing for the time in which the device may not run. */
static void accrue(struct testdev *device)
{
	struct load *load = &device->load;
	uint64_t now = now_ns();
	if (!load->rate || !is_set_up(load) || !testdev_may_dma(device) || !config_space_masters(device)) {
		load->last_ns = 0;
		return;
	}
	if (load->last_ns) {
		uint64_t passed = now - load->last_ns < SECOND_NS ? now - load->last_ns : SECOND_NS;
		uint64_t total = load->carry + passed * load->rate;
		load->due += total / SECOND_NS;
		load->carry = total % SECOND_NS;
		if (load->due > LOAD_DUE_MAX)
			load->due = LOAD_DUE_MAX;
	}
	load->last_ns = now;
}

bool load_run(struct testdev *device)
{
	struct load *load = &device->load;
	accrue(device);
	for (unsigned i = 0; load->due && i < PAGES_AT_ONCE; i++) {
		if (load->waits || !testdev_may_dma(device) || !is_set_up(load))
			return false;
		if (!config_space_masters(device)) {
			journal_add(device, TD_BAD_MASTER, load->address, "load");
			load->due = 0;
		} else if (write_page(device) == 0) {
			return false;
		}
	}
	return load->due > 0;
}

uint64_t load_deadline_ns(const struct testdev *device)
{
	return device->load.last_ns ? device->load.last_ns + TICK_NS : UINT64_MAX;
}
