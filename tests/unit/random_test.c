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
	allow(&allowed, PCI_STATUS, 2, PCI_STATUS_INTERRUPT); /* follows its line, which the test moves */
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

/* ---- Interrupts: each is delivered once, to the message that held when nothing masked it any more ---- */

#define MODEL_VECTORS 16
#define MODEL_STEPS   100000

struct model_vector {
	uint32_t data;
	bool masked;
	bool pending; /* fired behind a mask */
	bool owed;    /* fired, or was unmasked while pending: a message to `owed_data` must come out */
	bool filled;  /* the guest has written a message */
	uint32_t owed_data;
};

struct model {
	struct fixture fixture;
	struct model_vector vectors[MODEL_VECTORS];
	bool enabled, function_mask;
	uint32_t last_data;
	unsigned fired, got; /* totals */
};

static bool is_open(const struct model *model, const struct model_vector *vector)
{
	return model->enabled && !model->function_mask && !vector->masked;
}

/* A vector fires again only after its last message is out: messages then can be told apart by their data alone. */
static void fire(struct model *model, unsigned index)
{
	struct model_vector *vector = &model->vectors[index];
	if (vector->pending || vector->owed || !vector->filled || !model->enabled)
		return;
	fake_fire(model->fixture.fake, index);
	model->fired++;
	if (is_open(model, vector)) {
		vector->owed = true;
		vector->owed_data = vector->data;
	} else {
		vector->pending = true;
	}
}

/* After the guest changed what masks a vector. */
static void unmasked(struct model *model, struct model_vector *vector)
{
	if (!vector->pending || !is_open(model, vector))
		return;
	vector->pending = false;
	vector->owed = true;
	vector->owed_data = vector->data;
}

static void take_messages(struct model *model, unsigned step)
{
	struct fake_host *host = &model->fixture.host;
	for (unsigned seen = 0; seen < host->delivered_count; seen++) {
		uint32_t data = host->delivered[seen].data;
		unsigned i = 0;
		while (i < MODEL_VECTORS && !(model->vectors[i].owed && model->vectors[i].owed_data == data))
			i++;
		cr_assert_lt(i, MODEL_VECTORS, "step %u: message 0x%x, which nobody is owed", step, data);
		model->vectors[i].owed = false;
		model->got++;
	}
	host->delivered_count = 0;
}

static void all_is_delivered(struct model *model, unsigned step)
{
	host_loop(&model->fixture.host);
	take_messages(model, step);
	for (unsigned i = 0; i < MODEL_VECTORS; i++)
		cr_assert(!model->vectors[i].owed, "step %u: vector %u: an interrupt is lost", step, i);
}

static void retarget(struct model *model, unsigned index, bool under_mask)
{
	struct model_vector *vector = &model->vectors[index];
	bool masked = vector->masked;
	uint64_t data_at = FAKE_NVME_TABLE + index * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_DATA;
	if (under_mask)
		guest_msix_mask(&model->fixture, index, true);
	vector->data = ++model->last_data;
	vector->filled = true;
	guest_bar_write(&model->fixture, 0, data_at - PCI_MSIX_ENTRY_DATA, 8, MESSAGE_ADDRESS);
	guest_bar_write(&model->fixture, 0, data_at, 4, vector->data);
	if (under_mask && !masked)
		guest_msix_mask(&model->fixture, index, false);
}

static void set_control(struct model *model, bool enabled, bool function_mask)
{
	guest_msix_control(&model->fixture, enabled, function_mask);
	model->enabled = enabled;
	model->function_mask = function_mask;
	for (unsigned i = 0; i < MODEL_VECTORS; i++) {
		if (!enabled)
			model->vectors[i].pending = false; /* the device forgets what nobody took */
		unmasked(model, &model->vectors[i]);
	}
}

static void interrupt_step(struct model *model, uint64_t *random)
{
	unsigned index = (unsigned)(next(random) % MODEL_VECTORS);
	struct model_vector *vector = &model->vectors[index];
	switch (next(random) % 16) {
	case 0:
	case 1:
	case 2:
		vector->masked = !vector->masked;
		guest_msix_mask(&model->fixture, index, vector->masked);
		unmasked(model, vector);
		break;
	case 3:
	case 4:
		retarget(model, index, true);
		break;
	case 5:
		retarget(model, index, false);
		break;
	case 6:
		set_control(model, true, next(random) % 2);
		break;
	case 7:
		if (next(random) % 8 == 0)
			set_control(model, false, false);
		else
			guest_msix_pending(&model->fixture, index);
		break;
	case 8:
		host_loop(&model->fixture.host);
		break;
	default:
		fire(model, index);
		break;
	}
}

static void play_interrupts(bool static_msix, unsigned host_vectors, uint64_t seed)
{
	static struct model model;
	memset(&model, 0, sizeof(model));
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->static_msix = static_msix;
	fake->host_vectors = host_vectors;
	fixture_open(&model.fixture, fake);
	guest_place(&model.fixture);
	for (unsigned i = 0; i < MODEL_VECTORS; i++)
		model.vectors[i].masked = true;
	uint64_t random = seed;
	for (unsigned step = 0; step < MODEL_STEPS; step++) {
		interrupt_step(&model, &random);
		host_run(&model.fixture.host);
		take_messages(&model, step);
		if (next(&random) % 32 == 0)
			all_is_delivered(&model, step);
		cr_assert_str_empty(fake_misuse(), "step %u: %s", step, fake_misuse());
	}
	all_is_delivered(&model, MODEL_STEPS);
	cr_assert_gt(model.got, MODEL_STEPS / 20, "only %u interrupts of %u came through", model.got, model.fired);
	fixture_close(&model.fixture);
}

Test(random, each_interrupt_is_delivered_once_to_the_message_of_its_time)
{
	play_interrupts(false, 0, 0x2545f4914f6cdd1dull);
	fake_world_reset();
	play_interrupts(false, 0, 0x9e3779b97f4a7c15ull);
}

Test(random, each_interrupt_is_delivered_on_an_older_kernel)
{
	play_interrupts(true, 0, 0xd1b54a32d192ed03ull);
}

/* ---- Threads: config, BAR and reset calls on one device may come from any of them ---- */

#define THREADS         4
#define THREAD_ACCESSES 20000

struct worker {
	pthread_t thread;
	bool loop; /* it is the VMM's event loop */
	struct fixture *fixture;
	uint64_t random;
};

static void *work(void *context)
{
	struct worker *worker = context;
	for (unsigned i = 0; i < THREAD_ACCESSES; i++) {
		if (worker->loop)
			tenon_device_next_event(worker->fixture->device);
		else if (next(&worker->random) % 2)
			config_access(worker->fixture, &worker->random);
		else
			bar_access(worker->fixture, &worker->random);
		if (!worker->loop && next(&worker->random) % 1000 == 0)
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
		workers[i] = (struct worker){.loop = i == 0, .fixture = &fixture, .random = 0x853c49e6748fea9bull + i};
		cr_assert_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(guest_config(&fixture, PCI_VENDOR_ID, 2), 0x1b36);
	fixture_close(&fixture);
}
