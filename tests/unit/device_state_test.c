// SPDX-License-Identifier: MIT
/* What the library emulates of a device, saved on one and loaded into another: the guest must not notice, nor a hostile state do harm. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include <tenon/migration.h>

#include "device_state.h"
#include "fixture_file.h"
#include "interrupts.h"
#include "vfio_fixture.h"

TestSuite(device_state, .init = fake_world_reset, .timeout = 60);
TestSuite(device_state_hostile, .init = fake_world_reset, .timeout = 60);

#define DEVCTL_AT  (0x80 + PCI_EXP_DEVCTL) /* of fake_nvme */
#define DEVCTL2_AT (0x80 + PCI_EXP_DEVCTL2)
#define LNKCTL_AT  (0x80 + PCI_EXP_LNKCTL)
#define MSI_AT     0xc0
#define MSIX_AT    0x40
#define PM_AT      0x60

/* A device in use, and one that was just opened on another host. */
struct pair {
	struct fixture from, to;
};

static void open_pair(struct pair *pair, struct fake_device *from, struct fake_device *to)
{
	fixture_open(&pair->from, from);
	fixture_open(&pair->to, to);
}

static void open_nvmes(struct pair *pair)
{
	open_pair(pair, fake_nvme("0000:3b:00.0"), fake_nvme("0000:3c:00.0"));
}

static void close_pair(struct pair *pair)
{
	pair->from.host.device = NULL;
	tenon_device_close(pair->from.device);
	tenon_space_destroy(pair->from.space);
	fixture_close(&pair->to);
	cr_expect_str_empty(host_leftovers(&pair->from.host));
}

struct bytes {
	void *data;
	size_t count;
};

static struct bytes save(struct fixture *fixture)
{
	struct bytes bytes = {0};
	int code = tenon_device_state_save(fixture->device, &bytes.data, &bytes.count, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	return bytes;
}

static int load(struct fixture *fixture, const struct bytes *bytes)
{
	fixture->err = (struct tenon_error){0};
	return tenon_device_state_load(fixture->device, bytes->data, bytes->count, &fixture->err);
}

static void move(struct pair *pair)
{
	struct bytes bytes = save(&pair->from);
	int code = load(&pair->to, &bytes);
	cr_assert_eq(code, 0, "%s", pair->to.err.message);
	free(bytes.data);
}

static void refuses(struct fixture *fixture, const struct bytes *bytes, int code, const char *what)
{
	cr_assert_eq(load(fixture, bytes), code, "%s: %s", what, fixture->err.message);
	assert_message(&fixture->err, code);
	cr_expect(strstr(fixture->err.message, what), "%s: %s", what, fixture->err.message);
	cr_expect_eq(fixture->host.placements, 0, "%s: something was placed", what);
}

static void assert_same_config(struct pair *pair)
{
	for (unsigned at = 0; at < 4096; at += 4) {
		uint32_t from = guest_config(&pair->from, at, 4), to = guest_config(&pair->to, at, 4);
		cr_assert_eq(from, to, "config space at 0x%x: %x became %x", at, from, to);
	}
}

static void assert_same_table(struct pair *pair)
{
	for (unsigned at = 0; at < 16 * FAKE_NVME_MSIX_VECTORS; at += 8)
		cr_assert_eq(guest_bar(&pair->from, 0, FAKE_NVME_TABLE + at, 8),
			     guest_bar(&pair->to, 0, FAKE_NVME_TABLE + at, 8), "MSI-X table at 0x%x", at);
}

/* ---- Registers ---- */

static void write_everything(struct fixture *fixture)
{
	guest_config_write(fixture, PCI_CACHE_LINE_SIZE, 1, 0x10);
	guest_config_write(fixture, PCI_LATENCY_TIMER, 1, 0x20);
	guest_config_write(fixture, PCI_INTERRUPT_LINE, 1, 11);
	guest_config_write(fixture, DEVCTL_AT, 2, PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_RELAX_EN | 0x3000);
	guest_config_write(fixture, DEVCTL2_AT, 2, 0x0006);
	guest_config_write(fixture, LNKCTL_AT, 2, PCI_EXP_LNKCTL_CCC);
	guest_config_write(fixture, PCI_ROM_ADDRESS, 4, 0xe4000000u | PCI_ROM_ADDRESS_ENABLE);
	guest_config_write(fixture, MSI_AT + PCI_MSI_ADDRESS_LO, 4, MESSAGE_ADDRESS);
	guest_config_write(fixture, MSI_AT + PCI_MSI_ADDRESS_HI, 4, 1);
	guest_config_write(fixture, MSI_AT + PCI_MSI_DATA_64, 2, 0x4321);
	guest_config_write(fixture, MSI_AT + PCI_MSI_MASK_64, 4, 0x80000001);
	guest_place(fixture);
	guest_command(fixture, PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE, 0);
	guest_msix_control(fixture, true, false);
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector += 2)
		guest_msix_vector(fixture, vector, 0x100 + vector, vector % 4);
}

Test(device_state, every_register_reads_as_before)
{
	struct pair pair;
	struct fake_device *fakes[] = {fake_nvme("0000:3b:00.0"), fake_nvme("0000:3c:00.0")};
	for (unsigned i = 0; i < 2; i++) {
		fake_add_rom(fakes[i], 0x10000, 0x8000);
		for (unsigned at = DEVCTL_AT; at <= DEVCTL2_AT; at += DEVCTL2_AT - DEVCTL_AT)
			fake_config_writable(fakes[i], at, 2, 0xffff);
	}
	open_pair(&pair, fakes[0], fakes[1]);
	write_everything(&pair.from);
	move(&pair);
	assert_same_config(&pair);
	assert_same_table(&pair);
	cr_expect(fake_config_get(fakes[1], DEVCTL_AT, 2) & PCI_EXP_DEVCTL_RELAX_EN, "not at the device");
	cr_expect_eq(fake_config_get(fakes[1], DEVCTL2_AT, 2) & PCI_EXP_DEVCTL2_COMP_TIMEOUT, 6);
	uint32_t command = fake_config_get(fakes[1], PCI_COMMAND, 2);
	cr_expect_eq(command & (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	close_pair(&pair);
}

Test(device_state, bars_and_rom_appear_in_the_guest)
{
	struct pair pair;
	struct fake_device *fakes[] = {fake_nvme("0000:3b:00.0"), fake_nvme("0000:3c:00.0")};
	for (unsigned i = 0; i < 2; i++)
		fake_add_rom(fakes[i], 0x10000, 0x8000);
	open_pair(&pair, fakes[0], fakes[1]);
	write_everything(&pair.from);
	move(&pair);
	const struct tenon_bar_placement *bar = &pair.to.host.bars[0], *rom = &pair.to.host.bars[TENON_DEVICE_ROM];
	cr_expect(bar->enabled && bar->address == BAR_GPA);
	cr_expect(rom->enabled && rom->address == 0xe4000000u);
	cr_assert_not_null(host_mapped(&pair.to.host, BAR_GPA));
	cr_expect_null(host_mapped(&pair.to.host, BAR_GPA + FAKE_NVME_TABLE));
	cr_expect_eq(guest_bar(&pair.to, TENON_DEVICE_ROM, 0, 2), 0xaa55);
	close_pair(&pair);
}

Test(device_state, io_bars_appear_in_the_guest)
{
	struct pair pair;
	open_pair(&pair, fake_serial_card("0000:05:00.0"), fake_serial_card("0000:06:00.0"));
	guest_config_write(&pair.from, PCI_BASE_ADDRESS_0, 4, 0x1000);
	guest_config_write(&pair.from, PCI_BASE_ADDRESS_1, 4, 0xe0000000);
	guest_command(&pair.from, PCI_COMMAND_IO, 0);
	move(&pair);
	cr_expect(pair.to.host.bars[0].enabled && pair.to.host.bars[0].io && pair.to.host.bars[0].address == 0x1000);
	cr_expect_not(pair.to.host.bars[1].enabled);
	assert_same_config(&pair);
	close_pair(&pair);
}

Test(device_state, a_device_that_nobody_used_moves_too)
{
	struct pair pair;
	open_nvmes(&pair);
	move(&pair);
	assert_same_config(&pair);
	cr_expect_eq(pair.to.host.placements, 0);
	guest_place(&pair.to);
	cr_expect(pair.to.host.bars[0].enabled);
	close_pair(&pair);
}

Test(device_state, a_sleeping_device_sleeps_and_wakes_up_with_all_it_had)
{
	struct pair pair;
	open_nvmes(&pair);
	write_everything(&pair.from);
	guest_config_write(&pair.from, PM_AT + PCI_PM_CTRL, 2, 3);
	move(&pair);
	assert_same_config(&pair);
	cr_expect_eq(pair.to.fake->power, 3);
	cr_expect_not(pair.to.host.bars[0].enabled);
	guest_config_write(&pair.from, PM_AT + PCI_PM_CTRL, 2, 0);
	guest_config_write(&pair.to, PM_AT + PCI_PM_CTRL, 2, 0);
	cr_expect(pair.to.host.bars[0].enabled);
	assert_same_table(&pair);
	cr_expect(fake_fire(pair.to.fake, 4));
	cr_expect_eq(host_messages(&pair.to.host, 0x104), 1);
	close_pair(&pair);
}

Test(device_state, vital_product_data_that_was_asked_for_is_asked_for_again)
{
	struct pair pair;
	struct fake_device *fakes[] = {fake_nvme("0000:3b:00.0"), fake_nvme("0000:3c:00.0")};
	for (unsigned i = 0; i < 2; i++)
		fake_add_vpd(fakes[i], 0xe8);
	open_pair(&pair, fakes[0], fakes[1]);
	guest_config_write(&pair.from, 0xe8 + PCI_VPD_ADDR, 2, 0x0010);
	move(&pair);
	assert_same_config(&pair);
	close_pair(&pair);
}

Test(device_state, a_moved_device_moves_on)
{
	struct pair pair, next;
	open_nvmes(&pair);
	write_everything(&pair.from);
	move(&pair);
	fixture_open(&next.to, fake_nvme("0000:3d:00.0"));
	next.from = pair.to;
	struct bytes first = save(&pair.from), second = save(&pair.to);
	cr_assert_eq(first.count, second.count);
	cr_expect_eq(memcmp(first.data, second.data, first.count), 0, "what was loaded is not what is saved");
	cr_expect_eq(load(&next.to, &second), 0, "%s", next.to.err.message);
	free(first.data);
	free(second.data);
	next.to.host.device = NULL;
	tenon_device_close(next.to.device);
	tenon_space_destroy(next.to.space);
	close_pair(&pair);
}

/* While its data is on its way a device is not touched, not even in config space. */
Test(device_state, a_migrating_device_is_saved_without_being_asked_and_loaded_when_it_stands)
{
	struct pair pair;
	struct fake_device *fakes[] = {fake_edu("0000:04:00.0"), fake_edu("0000:05:00.0")};
	for (unsigned i = 0; i < 2; i++)
		fakes[i]->migration = (struct fake_migration){.present = true, .p2p = true, .pre_copy = true};
	open_pair(&pair, fakes[0], fakes[1]);
	guest_place(&pair.from);
	fake_intx(fakes[0], true); /* its eventfd, which nobody has taken yet, is the library's */
	cr_assert_eq(tenon_device_migration_set(pair.from.device, TENON_MIGRATION_STOP_COPY, NULL), 0);
	cr_assert_eq(tenon_device_migration_set(pair.to.device, TENON_MIGRATION_RESUMING, NULL), 0);
	fake_calls_forget();
	struct bytes bytes = save(&pair.from);
	cr_expect_eq(fake_calls(FAKE_PREAD) + fake_calls(FAKE_PWRITE), 0, "it is accessed");
	refuses(&pair.to, &bytes, -EINVAL, "its data is still on its way");
	cr_expect_eq(fake_calls(FAKE_PREAD) + fake_calls(FAKE_PWRITE), 0, "it is accessed");
	uint8_t data[4096];
	int64_t got;
	while ((got = tenon_device_migration_read(pair.from.device, data, sizeof(data), NULL)) > 0)
		cr_assert_eq(tenon_device_migration_write(pair.to.device, data, (size_t)got, NULL), 0);
	cr_assert_eq(tenon_device_migration_set(pair.to.device, TENON_MIGRATION_STOP, NULL), 0);
	cr_assert_eq(load(&pair.to, &bytes), 0, "%s", pair.to.err.message);
	cr_assert_eq(tenon_device_migration_set(pair.to.device, TENON_MIGRATION_RUNNING, NULL), 0);
	host_loop(&pair.to.host);
	cr_expect(pair.to.host.intx[1].level);
	free(bytes.data);
	close_pair(&pair);
}

/* ---- Messages ---- */

static void open_with_messages(struct pair *pair)
{
	open_nvmes(pair);
	guest_command(&pair->from, PCI_COMMAND_INTX_DISABLE, 0);
	guest_place(&pair->from);
	guest_msix_control(&pair->from, true, false);
	for (unsigned vector = 0; vector < 4; vector++)
		guest_msix_vector(&pair->from, vector, 0x40 + vector, false);
}

Test(device_state, unmasked_vectors_are_armed_and_fire)
{
	struct pair pair;
	open_with_messages(&pair);
	move(&pair);
	cr_expect_eq(fake_vectors_armed(pair.to.fake), 4);
	cr_expect_eq(pair.to.host.irqfd_count, 0, "delivery comes with use");
	for (unsigned vector = 0; vector < 4; vector++) {
		cr_expect_eq(host_messages(&pair.to.host, 0x40 + vector), 0, "nothing fired");
		cr_expect(fake_fire(pair.to.fake, vector));
		cr_expect_eq(host_messages(&pair.to.host, 0x40 + vector), 1);
	}
	close_pair(&pair);
}

Test(device_state, vectors_in_use_have_nothing_pending)
{
	struct pair pair;
	open_with_messages(&pair);
	fake_fire(pair.from.fake, 1);
	cr_expect_eq(host_messages(&pair.from.host, 0x41), 1);
	move(&pair);
	cr_expect_eq(host_messages(&pair.to.host, 0x41), 0, "delivered twice");
	fake_fire(pair.to.fake, 1);
	cr_expect_eq(host_messages(&pair.to.host, 0x41), 1);
	close_pair(&pair);
}

/* Its first interrupt waits in its eventfd for the event loop, which did not come to it. */
Test(device_state, an_interrupt_that_is_not_delivered_yet_is_delivered_after_it)
{
	struct pair pair;
	open_with_messages(&pair);
	fake_fire(pair.from.fake, 2);
	move(&pair);
	cr_expect_eq(host_messages(&pair.to.host, 0x42), 1);
	cr_expect_eq(pair.to.host.delivered_count, 1);
	/* The source may go on, and then it is not lost there either. */
	cr_expect_eq(host_messages(&pair.from.host, 0x42), 1);
	close_pair(&pair);
}

Test(device_state, what_a_masked_vector_has_pending_stays_pending)
{
	struct pair pair;
	open_with_messages(&pair);
	fake_fire(pair.from.fake, 3);
	cr_assert_eq(host_messages(&pair.from.host, 0x43), 1);
	guest_msix_mask(&pair.from, 3, true);
	fake_fire(pair.from.fake, 3);
	cr_assert(guest_msix_pending(&pair.from, 3));
	move(&pair);
	host_loop(&pair.to.host);
	cr_expect_eq(pair.to.host.delivered_count, 0);
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++)
		cr_expect_eq(guest_msix_pending(&pair.to, vector), vector == 3, "vector %u", vector);
	guest_msix_mask(&pair.to, 3, false);
	cr_expect_eq(host_messages(&pair.to.host, 0x43), 1);
	cr_expect_not(guest_msix_pending(&pair.to, 3));
	close_pair(&pair);
}

/* A driver that frees a vector clears its entry; what comes then must neither be lost nor be forgotten at the device. */
Test(device_state, a_vector_whose_message_was_cleared_stays_armed)
{
	struct pair pair;
	open_with_messages(&pair);
	guest_msix_mask(&pair.from, 1, true);
	guest_bar_write(&pair.from, 0, FAKE_NVME_TABLE + 16, 8, 0);
	fake_fire(pair.from.fake, 1);
	move(&pair);
	cr_expect_eq(fake_vectors_armed(pair.to.fake), 4);
	cr_expect(guest_msix_pending(&pair.to, 1));
	guest_msix_vector(&pair.to, 1, 0x99, false);
	cr_expect_eq(host_messages(&pair.to.host, 0x99), 1);
	close_pair(&pair);
}

Test(device_state, the_function_mask_holds_all_back)
{
	struct pair pair;
	open_with_messages(&pair);
	guest_msix_control(&pair.from, true, true);
	fake_fire(pair.from.fake, 0);
	move(&pair);
	cr_expect_eq(host_messages(&pair.to.host, 0x40), 0);
	cr_expect(guest_msix_pending(&pair.to, 0));
	cr_expect(fake_fire(pair.to.fake, 1), "a masked vector is not armed");
	guest_msix_control(&pair.to, true, false);
	cr_expect_eq(host_messages(&pair.to.host, 0x40), 1);
	cr_expect_eq(host_messages(&pair.to.host, 0x41), 1);
	close_pair(&pair);
}

Test(device_state, a_kernel_without_dynamic_vectors_arms_all_at_once)
{
	struct pair pair;
	struct fake_device *fakes[] = {fake_nvme("0000:3b:00.0"), fake_nvme("0000:3c:00.0")};
	fakes[1]->static_msix = true;
	open_pair(&pair, fakes[0], fakes[1]);
	guest_command(&pair.from, PCI_COMMAND_INTX_DISABLE, 0);
	guest_place(&pair.from);
	guest_msix_control(&pair.from, true, false);
	guest_msix_vector(&pair.from, 64, 0x77, false);
	fake_fire(fakes[0], 64);
	move(&pair);
	cr_expect_eq(host_messages(&pair.to.host, 0x77), 1);
	close_pair(&pair);
}

static void set_msi(struct fixture *fixture, unsigned log2)
{
	guest_config_write(fixture, MSI_AT + PCI_MSI_ADDRESS_LO, 4, MESSAGE_ADDRESS);
	guest_config_write(fixture, MSI_AT + PCI_MSI_DATA_64, 2, 0x60);
	guest_config_write(fixture, MSI_AT + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | log2 << 4);
}

Test(device_state, msi_fires_and_keeps_what_is_pending)
{
	struct pair pair;
	open_nvmes(&pair);
	guest_command(&pair.from, PCI_COMMAND_INTX_DISABLE, 0);
	guest_place(&pair.from);
	set_msi(&pair.from, 3);
	guest_config_write(&pair.from, MSI_AT + PCI_MSI_MASK_64, 4, 1 << 5);
	fake_fire(pair.from.fake, 5);
	fake_fire(pair.from.fake, 6);
	move(&pair);
	assert_same_config(&pair);
	cr_expect_eq(guest_config(&pair.to, MSI_AT + PCI_MSI_PENDING_64, 4), 1u << 5);
	cr_expect_eq(host_messages(&pair.to.host, 0x66), 1);
	cr_expect_eq(host_messages(&pair.to.host, 0x65), 0);
	guest_config_write(&pair.to, MSI_AT + PCI_MSI_MASK_64, 4, 0);
	cr_expect_eq(host_messages(&pair.to.host, 0x65), 1);
	cr_expect(fake_fire(pair.to.fake, 7));
	cr_expect_eq(host_messages(&pair.to.host, 0x67), 1);
	close_pair(&pair);
}

/* ---- INTx ---- */

static bool level(struct fixture *fixture)
{
	host_loop(&fixture->host);
	return fixture->host.intx[1].level;
}

Test(device_state, an_asserted_line_is_asserted_again)
{
	struct pair pair;
	open_pair(&pair, fake_edu("0000:04:00.0"), fake_edu("0000:05:00.0"));
	guest_place(&pair.from);
	fake_intx(pair.from.fake, true);
	cr_assert(level(&pair.from));
	move(&pair);
	cr_expect(level(&pair.to), "before the device does anything");
	/* The device asserts, too, when it runs; the guest silences it, and ends the interrupt. */
	fake_intx(pair.to.fake, true);
	fake_intx(pair.to.fake, false);
	host_end_of_interrupt(&pair.to.host, 1);
	cr_expect_not(level(&pair.to));
	fake_intx(pair.to.fake, true);
	cr_expect(level(&pair.to), "the next interrupt is lost");
	close_pair(&pair);
}

Test(device_state, a_quiet_line_is_quiet)
{
	struct pair pair;
	open_pair(&pair, fake_edu("0000:04:00.0"), fake_edu("0000:05:00.0"));
	guest_place(&pair.from);
	move(&pair);
	cr_expect_not(level(&pair.to));
	fake_intx(pair.to.fake, true);
	cr_expect(level(&pair.to));
	close_pair(&pair);
}

Test(device_state, a_line_that_the_guest_disabled_stays_on_and_held)
{
	struct pair pair;
	open_pair(&pair, fake_edu("0000:04:00.0"), fake_edu("0000:05:00.0"));
	guest_place(&pair.from);
	guest_command(&pair.from, PCI_COMMAND_INTX_DISABLE, 0);
	fake_intx(pair.from.fake, true);
	move(&pair);
	cr_expect_geq(pair.to.host.intx[1].trigger, 0, "INTx is not on");
	cr_expect_not(level(&pair.to));
	fake_intx(pair.to.fake, true); /* its state is the same, when it runs */
	cr_expect_not(level(&pair.to));
	assert_same_config(&pair);
	guest_command(&pair.to, 0, PCI_COMMAND_INTX_DISABLE);
	cr_expect(level(&pair.to));
	close_pair(&pair);
}

static void open_trapped(struct fixture *fixture, struct fake_device *fake)
{
	fixture_init(fixture);
	fixture->fake = fake;
	struct tenon_device_options options = fixture_options(fixture, fake);
	options.intx = TENON_INTX_TRAPPED;
	cr_assert_eq(tenon_device_open(&options, &fixture->device, &fixture->err), 0, "%s", fixture->err.message);
	fixture->host.device = fixture->device;
}

Test(device_state, a_trapped_line_is_asserted_until_the_guest_touches_the_device)
{
	struct pair pair;
	open_trapped(&pair.from, fake_edu("0000:04:00.0"));
	open_trapped(&pair.to, fake_edu("0000:05:00.0"));
	guest_place(&pair.from);
	fake_intx(pair.from.fake, true);
	cr_assert(level(&pair.from));
	move(&pair);
	cr_expect(level(&pair.to));
	cr_expect_null(host_mapped(&pair.to.host, BAR_GPA), "accesses are not seen");
	guest_bar(&pair.to, 0, 0, 4);
	cr_expect_not(level(&pair.to));
	close_pair(&pair);
}

Test(device_state, a_line_moves_from_a_trapping_host_to_one_that_does_not)
{
	struct pair pair;
	open_trapped(&pair.from, fake_edu("0000:04:00.0"));
	fixture_open(&pair.to, fake_edu("0000:05:00.0"));
	guest_place(&pair.from);
	fake_intx(pair.from.fake, true);
	cr_assert(level(&pair.from));
	move(&pair);
	cr_expect(level(&pair.to));
	host_end_of_interrupt(&pair.to.host, 1);
	cr_expect_not(level(&pair.to));
	close_pair(&pair);
}

/* ---- Refusals ---- */

static void refuses_other(void (*change)(struct fake_device *fake), const char *what)
{
	struct pair pair;
	fake_world_reset();
	struct fake_device *fakes[] = {fake_nvme("0000:3b:00.0"), fake_nvme("0000:3c:00.0")};
	change(fakes[1]);
	open_pair(&pair, fakes[0], fakes[1]);
	write_everything(&pair.from);
	struct bytes bytes = save(&pair.from);
	refuses(&pair.to, &bytes, -EINVAL, what);
	free(bytes.data);
	close_pair(&pair);
}

static void other_vendor(struct fake_device *fake)
{
	fake_config_set(fake, PCI_VENDOR_ID, 2, 0x8086);
}

static void other_subsystem(struct fake_device *fake)
{
	fake_config_set(fake, PCI_SUBSYSTEM_ID, 2, 0x1234);
}

static void other_revision(struct fake_device *fake)
{
	fake_config_set(fake, PCI_CLASS_REVISION, 1, 0x77);
}

static void larger_bar(struct fake_device *fake)
{
	fake_bar_memory(fake, 0, 0x8000, true, false);
}

static void narrow_bar(struct fake_device *fake)
{
	fake_bar_memory(fake, 0, 0x4000, false, false);
}

static void fewer_vectors(struct fake_device *fake)
{
	fake_config_set(fake, MSIX_AT + PCI_MSIX_FLAGS, 2, 31);
}

static void moved_pba(struct fake_device *fake)
{
	fake_config_set(fake, MSIX_AT + PCI_MSIX_PBA, 4, 0x3800);
}

static void with_rom(struct fake_device *fake)
{
	fake_add_rom(fake, 0x10000, 0x8000);
}

static void more_capabilities(struct fake_device *fake)
{
	fake_add_vpd(fake, 0xe8);
}

Test(device_state, another_device_is_refused_and_what_differs_is_named)
{
	refuses_other(other_vendor, "its vendor id is 0x1b36, here it is 0x8086");
	refuses_other(other_subsystem, "its subsystem id is");
	refuses_other(other_revision, "its class and revision is");
	refuses_other(larger_bar, "its size of BAR 0 is 0x4000, here it is 0x8000");
	refuses_other(narrow_bar, "its kind of BAR 0 is");
	refuses_other(fewer_vectors, "its number of MSI-X vectors is 0x41, here it is 0x20");
	refuses_other(moved_pba, "its place of the MSI-X pending bits is");
	refuses_other(with_rom, "its size of the expansion ROM is");
	refuses_other(more_capabilities, "its layout of capabilities");
}

Test(device_state, another_place_in_the_guest_is_refused)
{
	struct pair pair;
	open_nvmes(&pair);
	struct tenon_device_place place = {.size = sizeof(place), .slot = TENON_SLOT_ROOT_PORT, .multifunction = true};
	cr_assert_eq(tenon_device_place(pair.to.device, &place, NULL), 0);
	struct bytes bytes = save(&pair.from);
	refuses(&pair.to, &bytes, -EINVAL, "its multi-function bit is");
	place = (struct tenon_device_place){.size = sizeof(place), .slot = TENON_SLOT_ROOT_BUS};
	cr_assert_eq(tenon_device_place(pair.to.device, &place, NULL), 0);
	refuses(&pair.to, &bytes, -EINVAL, "its PCI Express device type is");
	place = (struct tenon_device_place){.size = sizeof(place), .slot = TENON_SLOT_ROOT_PORT};
	cr_assert_eq(tenon_device_place(pair.to.device, &place, NULL), 0);
	cr_expect_eq(load(&pair.to, &bytes), 0, "%s", pair.to.err.message);
	free(bytes.data);
	close_pair(&pair);
}

Test(device_state, a_device_in_use_is_refused_until_it_is_reset)
{
	struct pair pair;
	open_nvmes(&pair);
	write_everything(&pair.from);
	struct bytes bytes = save(&pair.from);
	guest_config_write(&pair.to, PCI_INTERRUPT_LINE, 1, 3);
	refuses(&pair.to, &bytes, -EBUSY, "has used the device already");
	cr_assert_eq(tenon_device_reset(pair.to.device, NULL), 0);
	cr_assert_eq(load(&pair.to, &bytes), 0, "%s", pair.to.err.message);
	cr_expect_eq(load(&pair.to, &bytes), -EBUSY, "twice");
	free(bytes.data);
	close_pair(&pair);
}

Test(device_state, too_few_vectors_are_told)
{
	struct pair pair;
	struct fake_device *fakes[] = {fake_nvme("0000:3b:00.0"), fake_nvme("0000:3c:00.0")};
	fakes[1]->static_msix = true;
	fakes[1]->host_vectors = 2;
	open_pair(&pair, fakes[0], fakes[1]);
	guest_place(&pair.from);
	guest_msix_control(&pair.from, true, false);
	for (unsigned vector = 0; vector < 4; vector++)
		guest_msix_vector(&pair.from, vector, 0x40 + vector, false);
	struct bytes bytes = save(&pair.from);
	int code = load(&pair.to, &bytes);
	cr_expect_eq(code, -ENOSPC);
	assert_message(&pair.to.err, code);
	cr_expect(strstr(pair.to.err.message, "MSI-X vector 2"), "%s", pair.to.err.message);
	free(bytes.data);
	close_pair(&pair);
}

Test(device_state, bad_arguments_are_refused)
{
	struct fixture fixture;
	struct tenon_error err;
	void *data;
	size_t bytes;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	assert_message(&err, (tenon_device_state_save(NULL, &data, &bytes, &err)));
	assert_message(&err, (tenon_device_state_save(fixture.device, NULL, &bytes, &err)));
	assert_message(&err, (tenon_device_state_save(fixture.device, &data, NULL, &err)));
	assert_message(&err, (tenon_device_state_load(fixture.device, NULL, 10, &err)));
	assert_message(&err, (tenon_device_state_load(NULL, &bytes, sizeof(bytes), &err)));
	fixture_close(&fixture);
}

/* ---- Failing calls ---- */

/* Each call of the kernel's in turn: the state is whole or the failure is told, and nothing is left of it. */
Test(device_state, a_failing_call_is_told_while_it_is_saved)
{
	unsigned failed = 0;
	for (unsigned n = 1; n < 20; n++) {
		struct fixture fixture;
		void *data = NULL;
		size_t bytes;
		fake_world_reset();
		fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
		guest_place(&fixture);
		fake_fail_call(n, EIO);
		int code = tenon_device_state_save(fixture.device, &data, &bytes, &fixture.err);
		fake_fail_call(0, 0);
		if (code < 0)
			assert_message(&fixture.err, code);
		failed += code < 0;
		cr_expect_eq(code < 0, data == NULL);
		free(data);
		fixture_close(&fixture);
	}
	cr_expect_eq(failed, 1, "only INTx's status is read: %u", failed);
}

static bool load_failing(unsigned n, bool intx)
{
	struct pair pair;
	fake_world_reset();
	open_nvmes(&pair);
	if (intx)
		guest_place(&pair.from);
	else
		write_everything(&pair.from);
	fake_fire(pair.from.fake, 0);
	struct bytes bytes = save(&pair.from);
	fake_fail_call(n, EIO);
	int code = load(&pair.to, &bytes);
	bool failed = fake_failed_call()[0];
	fake_fail_call(0, 0);
	if (code < 0) {
		assert_message(&pair.to.err, code);
		cr_assert_eq(tenon_device_reset(pair.to.device, NULL), 0);
		cr_expect_eq(load(&pair.to, &bytes), 0, "not again after a reset: %s", pair.to.err.message);
	}
	free(bytes.data);
	close_pair(&pair);
	return failed;
}

Test(device_state, a_failing_call_is_told_while_it_is_loaded)
{
	for (unsigned intx = 0; intx < 2; intx++) {
		unsigned n = 1;
		while (load_failing(n, intx))
			n++;
		cr_expect_gt(n, 3, "nothing of it failed");
	}
}

/* ---- The bytes ---- */

Test(device_state, its_checksum_is_crc_32c)
{
	cr_expect_eq(state_checksum(0, "123456789", 9), 0xe3069283);
	cr_expect_eq(state_checksum(state_checksum(0, "1234", 4), "56789", 5), 0xe3069283);
}

/* What this version has saved every later one must load: tests/fixtures/README.md. */
Test(device_state, the_bytes_of_version_1_never_change)
{
	static struct device_state state, again;
	static struct fixture_file file;
	struct bytes bytes;
	for (unsigned i = 0; i < STATE_IDS; i++)
		state.identity[i] = 0x0102030405060708ull * (i + 1);
	state.identity[STATE_ID_CONFIG_BYTES] = state.config_bytes = 256;
	state.identity[STATE_ID_MSIX_VECTORS] = state.msix_count = 3;
	for (unsigned i = 0; i < 256; i++)
		state.config[i] = (uint8_t)(i ^ 0xa5);
	for (unsigned i = 0; i < 48; i++)
		state.msix_table[i] = (uint8_t)(3 * i);
	state.device_control[0] = 0x1234;
	state.device_control[1] = 0x5678;
	state.vpd_address = 0x8010;
	state.vpd_address_low = 0x11;
	state.mode = INTERRUPT_INTX;
	state.intx_asserted = true;
	state.vector_count = 3;
	memcpy(state.vectors, "\1\3\0", 3);
	cr_assert_eq(state_encode(&state, "x", &bytes.data, &bytes.count, NULL), 0);
	fixture_expect_written("v1/device-state", bytes.data, bytes.count);
	fixture_read("v1/device-state", &file);
	cr_assert_eq(state_decode(file.data, file.bytes, "x", &again, NULL), 0);
	cr_expect_eq(memcmp(&again, &state, sizeof(state)), 0);
	free(bytes.data);
}

Test(device_state, a_device_of_version_1_is_loaded)
{
	static struct fixture_file file;
	struct pair pair;
	open_with_messages(&pair);
	write_everything(&pair.from);
	struct bytes bytes = save(&pair.from);
	fixture_expect_written("v1/device-nvme", bytes.data, bytes.count);
	free(bytes.data);
	fixture_read("v1/device-nvme", &file);
	const struct bytes kept = {file.data, file.bytes};
	cr_assert_eq(load(&pair.to, &kept), 0, "%s", pair.to.err.message);
	assert_same_config(&pair);
	assert_same_table(&pair);
	close_pair(&pair);
}

/* ---- Hostile states ---- */

static void open_hostile(struct pair *pair, struct bytes *bytes)
{
	open_with_messages(pair);
	guest_msix_mask(&pair->from, 3, true);
	fake_fire(pair->from.fake, 3);
	*bytes = save(&pair->from);
}

static void close_hostile(struct pair *pair, struct bytes *bytes)
{
	cr_expect_eq(load(&pair->to, bytes), 0, "the sound one is not taken any more: %s", pair->to.err.message);
	free(bytes->data);
	close_pair(pair);
}

Test(device_state_hostile, every_cut_is_refused)
{
	struct pair pair;
	struct bytes bytes;
	open_hostile(&pair, &bytes);
	for (size_t count = 0; count < bytes.count; count++) {
		uint8_t *cut = malloc(count ? count : 1); /* so that a read beyond it shows */
		memcpy(cut, bytes.data, count);
		const struct bytes short_one = {cut, count};
		cr_assert_eq(load(&pair.to, &short_one), -EINVAL, "%zu bytes", count);
		free(cut);
	}
	uint8_t *longer = calloc(1, bytes.count + 1);
	memcpy(longer, bytes.data, bytes.count);
	const struct bytes long_one = {longer, bytes.count + 1};
	refuses(&pair.to, &long_one, -EINVAL, "goes on behind its end");
	free(longer);
	close_hostile(&pair, &bytes);
}

Test(device_state_hostile, every_flipped_bit_is_refused)
{
	struct pair pair;
	struct bytes bytes;
	open_hostile(&pair, &bytes);
	uint8_t *data = bytes.data;
	for (size_t bit = 0; bit < 8 * bytes.count; bit++) {
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_eq(load(&pair.to, &bytes), -EINVAL, "bit %zu", bit);
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	cr_expect_eq(pair.to.host.placements, 0);
	close_hostile(&pair, &bytes);
}

/* ---- Sections: type (2), zero (2), length (4), body; behind a header of 16 bytes ---- */

static size_t section_at(const uint8_t *data, unsigned index)
{
	size_t at = 16;
	for (; index; index--) {
		uint32_t length;
		memcpy(&length, data + at + 4, sizeof(length));
		at += 8 + length;
	}
	return at;
}

/* Puts a checksum and a length that agree with what is there. */
static void sign(struct bytes *bytes)
{
	uint8_t *data = bytes->data;
	uint32_t length = (uint32_t)bytes->count, sum;
	memcpy(data + 12, &length, sizeof(length));
	sum = state_checksum(0, data, bytes->count - 12);
	memcpy(data + bytes->count - 4, &sum, sizeof(sum));
}

Test(device_state_hostile, sections_in_another_order_are_refused)
{
	struct pair pair;
	struct bytes bytes;
	open_hostile(&pair, &bytes);
	const uint8_t *data = bytes.data;
	for (unsigned first = 0; first < 4; first++) {
		size_t a = section_at(data, first), b = section_at(data, first + 1), end = section_at(data, first + 2);
		struct bytes other = {malloc(bytes.count), bytes.count};
		uint8_t *to = other.data;
		memcpy(to, data, bytes.count);
		memcpy(to + a, data + b, end - b);
		memcpy(to + a + (end - b), data + a, b - a);
		sign(&other);
		refuses(&pair.to, &other, -EINVAL, "a section is not where it belongs");
		free(other.data);
	}
	close_hostile(&pair, &bytes);
}

Test(device_state_hostile, a_section_that_comes_twice_or_never_is_refused)
{
	struct pair pair;
	struct bytes bytes;
	open_hostile(&pair, &bytes);
	const uint8_t *data = bytes.data;
	for (unsigned index = 0; index < 5; index++) {
		size_t a = section_at(data, index), b = section_at(data, index + 1);
		struct bytes twice = {malloc(bytes.count + b - a), bytes.count + b - a};
		memcpy(twice.data, data, b);
		memcpy((uint8_t *)twice.data + b, data + a, bytes.count - a);
		sign(&twice);
		refuses(&pair.to, &twice, -EINVAL, "a section is not where it belongs");
		free(twice.data);
		struct bytes never = {malloc(bytes.count), bytes.count - (b - a)};
		memcpy(never.data, data, a);
		memcpy((uint8_t *)never.data + a, data + b, bytes.count - b);
		sign(&never);
		refuses(&pair.to, &never, -EINVAL, "a section is not where it belongs");
		free(never.data);
	}
	close_hostile(&pair, &bytes);
}

Test(device_state_hostile, lengths_and_versions_that_do_not_agree_are_refused)
{
	struct pair pair;
	struct bytes bytes;
	open_hostile(&pair, &bytes);
	uint8_t *data = bytes.data;
	for (unsigned index = 0; index < 6; index++) {
		static const uint32_t lengths[] = {0, 1, 0x7fffffff, UINT32_MAX};
		size_t at = section_at(data, index) + 4;
		uint8_t kept[4];
		memcpy(kept, data + at, sizeof(kept));
		for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			memcpy(data + at, &lengths[i], sizeof(lengths[i]));
			sign(&bytes);
			cr_expect_eq(load(&pair.to, &bytes), -EINVAL, "section %u, length %x", index, lengths[i]);
		}
		memcpy(data + at, kept, sizeof(kept));
	}
	data[8] = STATE_VERSION + 1;
	sign(&bytes);
	refuses(&pair.to, &bytes, -EINVAL, "another version");
	data[8] = STATE_VERSION;
	sign(&bytes);
	close_hostile(&pair, &bytes);
}

/* ---- Values that no guest could have written ---- */

static void impossible(void (*change)(struct device_state *state), const char *what)
{
	struct pair pair;
	struct bytes bytes, other;
	struct device_state *state = malloc(sizeof(*state));
	fake_world_reset();
	open_hostile(&pair, &bytes);
	cr_assert_eq(state_decode(bytes.data, bytes.count, "x", state, NULL), 0);
	change(state);
	cr_assert_eq(state_encode(state, "x", &other.data, &other.count, NULL), 0);
	free(state);
	uint64_t writes = pair.to.fake->config_writes;
	refuses(&pair.to, &other, -EINVAL, what);
	cr_expect_eq(pair.to.fake->config_writes, writes, "%s: something was written to the device", what);
	free(other.data);
	close_hostile(&pair, &bytes);
}

static void read_only_bit(struct device_state *state)
{
	state->config[PCI_VENDOR_ID] = 1;
}

static void capability_pointer(struct device_state *state)
{
	state->config[PCI_CAPABILITY_LIST] = 0x40;
}

static void function_reset(struct device_state *state)
{
	state->config[DEVCTL_AT + 1] |= PCI_EXP_DEVCTL_BCR_FLR >> 8;
}

static void control_bit(struct device_state *state)
{
	state->device_control[0] |= PCI_EXP_DEVCTL_PAYLOAD;
}

static void product_data(struct device_state *state)
{
	state->vpd_address = 4;
}

static void sleep_lightly(struct device_state *state)
{
	state->config[PM_AT + PCI_PM_CTRL] = 1; /* D1, which the device does not have */
}

static void odd_address(struct device_state *state)
{
	state->msix_table[0] |= 2;
}

static void reserved_control(struct device_state *state)
{
	state->msix_table[PCI_MSIX_ENTRY_VECTOR_CTRL + 2] = 1;
}

static void pending_unarmed(struct device_state *state)
{
	state->vectors[40] = STATE_VECTOR_PENDING;
}

static void unknown_vector(struct device_state *state)
{
	state->vectors[0] |= 4;
}

static void other_mode(struct device_state *state)
{
	state->mode = INTERRUPT_MSI;
}

static void intx_beside(struct device_state *state)
{
	state->mode = INTERRUPT_INTX;
}

static void asserted_beside(struct device_state *state)
{
	state->intx_asserted = true;
}

static void unknown_mode(struct device_state *state)
{
	state->mode = 17;
}

static void few_vectors(struct device_state *state)
{
	state->vector_count--;
}

static void intx_off(struct device_state *state)
{
	memset(state->vectors, 0, sizeof(state->vectors));
	state->config[MSIX_AT + PCI_MSIX_FLAGS + 1] = 0;
	state->config[PCI_COMMAND] = 0;
	state->mode = INTERRUPT_INTX;
}

Test(device_state_hostile, values_that_no_guest_could_have_written_are_refused)
{
	impossible(read_only_bit, "its config space cannot be");
	impossible(capability_pointer, "its config space cannot be");
	impossible(function_reset, "its config space cannot be");
	impossible(control_bit, "its config space cannot be");
	impossible(product_data, "its config space cannot be");
	impossible(sleep_lightly, "its config space cannot be");
	impossible(odd_address, "its MSI-X table cannot be");
	impossible(reserved_control, "its MSI-X table cannot be");
	impossible(pending_unarmed, "its interrupts cannot be");
	impossible(unknown_vector, "its interrupts cannot be");
	impossible(other_mode, "its interrupts cannot be");
	impossible(intx_beside, "its interrupts cannot be");
	impossible(asserted_beside, "its interrupts cannot be");
	impossible(unknown_mode, "its interrupts cannot be");
	impossible(few_vectors, "its interrupts cannot be");
	impossible(intx_off, "its interrupts cannot be");
}
