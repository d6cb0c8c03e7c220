// SPDX-License-Identifier: MIT
/*
 * A guest that writes anything anywhere, the same each time: nothing that belongs to the host may change in the hardware, the
 * VMM's rules hold, and nothing is left at the end.
 */
#include <pthread.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "vfio_fixture.h"

TestSuite(random, .init = fake_world_reset, .timeout = 300);

#define ACCESSES 200000

static uint64_t next(uint64_t *state)
{
	/* xorshift64* */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

/* Bits of the hardware that a guest's config writes may change; all others must be as they were. */
struct allowed {
	uint8_t bits[TENON_CONFIG_BYTES];
};

static void allow(struct allowed *allowed, unsigned offset, unsigned size_bytes, uint32_t bits)
{
	for (unsigned i = 0; i < size_bytes; i++)
		allowed->bits[offset + i] |= (uint8_t)(bits >> (8 * i));
}

static struct allowed allowed_of(const struct fake_device *fake)
{
	struct allowed allowed = {{0}};
	allow(&allowed, PCI_COMMAND, 2,
	      PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR);
	allow(&allowed, PCI_STATUS, 2, 0xf900); /* write one to clear */
	allow(&allowed, PCI_CACHE_LINE_SIZE, 2, 0xffff);
	if (fake->pm)
		allow(&allowed, fake->pm + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK);
	/* Enable bits of MSI and MSI-X change by VFIO_DEVICE_SET_IRQS, not by config writes. */
	if (fake->msi)
		allow(&allowed, fake->msi + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	if (fake->msix)
		allow(&allowed, fake->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	if (fake->pcie) {
		allow(&allowed, fake->pcie + PCI_EXP_DEVCTL, 2,
		      PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_EXT_TAG | PCI_EXP_DEVCTL_NOSNOOP_EN |
			      PCI_EXP_DEVCTL_READRQ);
		allow(&allowed, fake->pcie + PCI_EXP_DEVSTA, 2, 0x000f);
		allow(&allowed, fake->pcie + PCI_EXP_DEVCTL2, 2, 0x001f);
		allow(&allowed, 0x148, 4, ~0u); /* the vendor's own registers */
		for (unsigned offset = 0x14c; offset < 0x160; offset += 4)
			allow(&allowed, offset, 4, ~0u);
	}
	return allowed;
}

static uint64_t word(const uint8_t *bytes)
{
	uint64_t value;
	memcpy(&value, bytes, sizeof(value));
	return value;
}

static void assert_untouched(const struct fake_device *fake, const uint8_t *before, const struct allowed *allowed,
			     unsigned access)
{
	for (unsigned offset = 0; offset < fake->config_bytes; offset += 8) {
		uint64_t changed =
			(word(fake->config + offset) ^ word(before + offset)) & ~word(allowed->bits + offset);
		cr_assert_eq(changed, 0, "access %u: bits 0x%016lx of the hardware at 0x%x changed", access, changed,
			     offset);
	}
}

/* Favours what has behaviour: the header, capabilities, few values with all bits or none. */
static unsigned pick_offset(uint64_t *random, unsigned config_bytes)
{
	unsigned where = (unsigned)(next(random) % 8);
	unsigned limit = where < 3 ? 0x40 : where < 6 ? 0x100 : where == 6 ? 0x200 : config_bytes;
	return (unsigned)(next(random) % limit);
}

static uint32_t pick_value(uint64_t *random)
{
	switch (next(random) % 6) {
	case 0:
		return 0;
	case 1:
		return UINT32_MAX;
	case 2:
		return 1u << (next(random) % 32);
	default:
		return (uint32_t)next(random);
	}
}

static void config_access(struct fixture *fixture, uint64_t *random)
{
	static const unsigned sizes[] = {1, 2, 4, 4, 2, 1, 2, 3};
	unsigned size_bytes = sizes[next(random) % 8];
	unsigned offset = pick_offset(random, TENON_CONFIG_BYTES);
	if (next(random) % 8)
		offset &= ~(size_bytes == 3 ? 0 : size_bytes - 1);
	if (next(random) % 3 == 0)
		guest_config(fixture, offset, size_bytes);
	else
		guest_config_write(fixture, offset, size_bytes, pick_value(random));
}

static void bar_access(struct fixture *fixture, uint64_t *random)
{
	unsigned size_bytes = 1u << (next(random) % 4);
	unsigned bar = next(random) % 4 ? 0 : (unsigned)(next(random) % 7);
	uint64_t offset = next(random) % 0x4100;
	if (next(random) % 8)
		offset &= ~(uint64_t)(size_bytes - 1);
	if (next(random) % 2)
		guest_bar(fixture, bar, offset, size_bytes);
	else
		guest_bar_write(fixture, bar, offset, size_bytes, next(random));
}

/* Registers that the hardware would take, in extended space that belongs to no capability. */
static void add_unknown_registers(struct fake_device *fake)
{
	for (unsigned offset = 0x1d0; offset < TENON_CONFIG_BYTES; offset += 4) {
		fake_config_set(fake, offset, 4, 0x5a5a5a5a);
		fake_config_writable(fake, offset, 4, ~0u);
	}
}

static void play(struct fake_device *fake, uint64_t seed)
{
	struct fixture fixture;
	if (fake->config_bytes == TENON_CONFIG_BYTES)
		add_unknown_registers(fake);
	fixture_open(&fixture, fake);
	const struct allowed allowed = allowed_of(fake);
	uint8_t before[TENON_CONFIG_BYTES];
	memcpy(before, fake->config, sizeof(before));
	uint64_t random = seed;
	for (unsigned i = 0; i < ACCESSES; i++) {
		if (next(&random) % 4)
			config_access(&fixture, &random);
		else
			bar_access(&fixture, &random);
		if (next(&random) % 16 == 0)
			fake_fire(fake, (unsigned)(next(&random) % 64));
		if (next(&random) % 64 == 0) {
			fake_intx(fake, next(&random) % 2);
			host_run(&fixture.host);
		}
		assert_untouched(fake, before, &allowed, i);
		cr_assert_str_empty(fake_misuse(), "access %u: %s", i, fake_misuse());
	}
	/* After all that, a reset makes it a device again. */
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(guest_config(&fixture, PCI_VENDOR_ID, 2), fake_config_get(fake, PCI_VENDOR_ID, 2));
	guest_place(&fixture);
	cr_assert(fixture.host.bars[0].enabled);
	fixture_close(&fixture);
}

Test(random, guest_never_changes_host_bits_of_an_nvme_controller)
{
	play(fake_nvme("0000:3b:00.0"), 0x9e3779b97f4a7c15ull);
}

Test(random, guest_never_changes_host_bits_of_a_controller_on_an_older_kernel)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->static_msix = true;
	fake->bars[0].no_msix_cap = true;
	play(fake, 0xd1b54a32d192ed03ull);
}

Test(random, guest_never_changes_host_bits_of_a_conventional_device)
{
	play(fake_edu("0000:04:00.0"), 0x8cb92ba72f3d8dd7ull);
}

/* ---- Threads: config, BAR and reset calls on one device may come from any of them ---- */

#define THREADS         4
#define THREAD_ACCESSES 20000

struct worker {
	pthread_t thread;
	struct fixture *fixture;
	uint64_t random;
};

static void *work(void *context)
{
	struct worker *worker = context;
	for (unsigned i = 0; i < THREAD_ACCESSES; i++) {
		if (next(&worker->random) % 2)
			config_access(worker->fixture, &worker->random);
		else
			bar_access(worker->fixture, &worker->random);
		if (next(&worker->random) % 1000 == 0)
			tenon_device_reset(worker->fixture->device, NULL);
	}
	return NULL;
}

/* Says little without ThreadSanitizer, much with it. */
Test(random, threads_share_a_device)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	struct worker workers[THREADS];
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.fixture = &fixture, .random = 0x853c49e6748fea9bull + i};
		cr_assert_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(guest_config(&fixture, PCI_VENDOR_ID, 2), 0x1b36);
	fixture_close(&fixture);
}
