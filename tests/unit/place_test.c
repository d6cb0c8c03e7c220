// SPDX-License-Identifier: MIT
/* Where the guest sees a device, said after it was opened: what that changes of config space, and that it stays so. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "vfio_fixture.h"

TestSuite(place, .init = fake_world_reset);

#define BDF           "0000:3b:00.0"
#define MULTIFUNCTION 0x80u
#define EXTENDED      0x100u
#define ARI_VERSION_1 (PCI_EXT_CAP_ID_ARI | 1u << 16)

static void open_at(struct fixture *fixture, struct fake_device *fake, enum tenon_slot_kind slot, bool multifunction)
{
	fixture_init(fixture);
	fixture->fake = fake;
	struct tenon_device_options options = fixture_options(fixture, fake);
	options.slot = slot;
	options.multifunction = multifunction;
	int code = tenon_device_open(&options, &fixture->device, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	fixture->host.device = fixture->device;
	fake_calls_forget();
}

static int place(struct fixture *fixture, const struct tenon_device_place *place)
{
	struct tenon_device_place sized = *place;
	sized.size = sizeof(sized);
	return tenon_device_place(fixture->device, &sized, &fixture->err);
}

static void place_ari(struct fixture *fixture, uint8_t next)
{
	const struct tenon_device_place wanted = {
		.slot = TENON_SLOT_ROOT_PORT, .multifunction = true, .ari = true, .ari_next = next};
	cr_assert_eq(place(fixture, &wanted), 0, "%s", fixture->err.message);
}

static void read_all(struct fixture *fixture, uint8_t *bytes)
{
	for (unsigned offset = 0; offset < TENON_CONFIG_BYTES; offset++)
		bytes[offset] = (uint8_t)guest_config(fixture, offset, 1);
}

/* A card with config space of 4096 bytes, and no extended capability yet. */
static struct fake_device *bare_card(void)
{
	struct fake_device *fake = fake_device_add(BDF, 0x8086, 0x0d93, 3);
	fake_add_pcie(fake, 0x40);
	return fake;
}

static void add_vendor(struct fake_device *fake, unsigned at, unsigned bytes)
{
	fake_capability_extended(fake, at, PCI_EXT_CAP_ID_VNDR, 1);
	fake_config_set(fake, at + PCI_VNDR_HEADER, 4, bytes << 20 | 1);
}

static void assert_ari(struct fixture *fixture, unsigned at, uint8_t next)
{
	cr_assert_eq(guest_capability_extended(fixture, PCI_EXT_CAP_ID_ARI), at);
	cr_assert_eq(guest_config(fixture, at, 4) & 0xfffff, ARI_VERSION_1);
	cr_assert_eq(guest_config(fixture, at + PCI_ARI_CAP, 2), (uint32_t)next << 8, "it has function groups");
	cr_assert_eq(guest_config(fixture, at + PCI_ARI_CTRL, 2), 0);
}

/* ---- Slot and multi-function ---- */

/* All that the guest reads, before and after it has written all of the link's and the device's control. */
static void read_and_write(struct fixture *fixture, uint8_t *before, uint8_t *after)
{
	read_all(fixture, before);
	unsigned at = guest_capability(fixture, PCI_CAP_ID_EXP);
	guest_config_write(fixture, at + PCI_EXP_LNKCTL, 2, 0xffff);
	guest_config_write(fixture, at + PCI_EXP_LNKCTL2, 2, 0xffff);
	guest_config_write(fixture, PCI_HEADER_TYPE, 1, 0xff);
	read_all(fixture, after);
}

Test(place, config_space_is_as_if_the_device_had_been_opened_there)
{
	static uint8_t wanted[2][TENON_CONFIG_BYTES], found[2][TENON_CONFIG_BYTES];
	for (unsigned bits = 0; bits < 16; bits++) {
		const enum tenon_slot_kind from = bits & 1 ? TENON_SLOT_ROOT_BUS : TENON_SLOT_ROOT_PORT;
		const enum tenon_slot_kind to = bits & 2 ? TENON_SLOT_ROOT_BUS : TENON_SLOT_ROOT_PORT;
		struct fixture fixture;
		fake_world_reset();
		open_at(&fixture, fake_nvme(BDF), to, bits & 8);
		read_and_write(&fixture, wanted[0], wanted[1]);
		fixture_close(&fixture);

		fake_world_reset();
		open_at(&fixture, fake_nvme(BDF), from, bits & 4);
		const struct tenon_device_place there = {.slot = to, .multifunction = bits & 8};
		cr_assert_eq(place(&fixture, &there), 0, "%s", fixture.err.message);
		read_and_write(&fixture, found[0], found[1]);
		cr_assert_arr_eq(wanted[0], found[0], TENON_CONFIG_BYTES, "%x", bits);
		cr_assert_arr_eq(wanted[1], found[1], TENON_CONFIG_BYTES, "%x", bits);
		fixture_close(&fixture);
	}
}

Test(place, device_type_link_and_multifunction_bit_follow_it)
{
	struct fixture fixture;
	open_at(&fixture, fake_nvme(BDF), TENON_SLOT_ROOT_BUS, false);
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_EXP);
	for (unsigned n = 0; n < 2; n++) {
		cr_assert_eq(place(&fixture, &(struct tenon_device_place){.slot = TENON_SLOT_ROOT_PORT}), 0);
		cr_assert_eq((guest_config(&fixture, at + PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_TYPE) >> 4,
			     PCI_EXP_TYPE_ENDPOINT);
		cr_assert_neq(guest_config(&fixture, at + PCI_EXP_LNKCAP, 4), 0);
		cr_assert_eq(guest_config(&fixture, PCI_HEADER_TYPE, 1), 0);
		cr_assert_eq(place(&fixture,
				   &(struct tenon_device_place){.slot = TENON_SLOT_ROOT_BUS, .multifunction = true}),
			     0);
		cr_assert_eq((guest_config(&fixture, at + PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_TYPE) >> 4,
			     PCI_EXP_TYPE_RC_END);
		cr_assert_eq(guest_config(&fixture, at + PCI_EXP_LNKCAP, 4), 0);
		cr_assert_eq(guest_config(&fixture, PCI_HEADER_TYPE, 1), MULTIFUNCTION);
	}
	fixture_close(&fixture);
}

Test(place, legacy_endpoint_stays_one_behind_a_port)
{
	struct fake_device *fake = fake_nvme(BDF);
	fake_config_set(fake, fake->pcie + PCI_EXP_FLAGS, 2, 2 | PCI_EXP_TYPE_LEG_END << 4);
	struct fixture fixture;
	open_at(&fixture, fake, TENON_SLOT_ROOT_BUS, false);
	cr_assert_eq(place(&fixture, &(struct tenon_device_place){.slot = TENON_SLOT_ROOT_PORT}), 0);
	unsigned flags = guest_config(&fixture, guest_capability(&fixture, PCI_CAP_ID_EXP) + PCI_EXP_FLAGS, 2);
	cr_assert_eq((flags & PCI_EXP_FLAGS_TYPE) >> 4, PCI_EXP_TYPE_LEG_END);
	fixture_close(&fixture);
}

Test(place, conventional_device_has_nothing_but_the_multifunction_bit)
{
	static uint8_t before[TENON_CONFIG_BYTES], after[TENON_CONFIG_BYTES];
	struct fixture fixture;
	open_at(&fixture, fake_edu(BDF), TENON_SLOT_ROOT_BUS, false);
	read_all(&fixture, before);
	cr_assert_eq(place(&fixture, &(struct tenon_device_place){.slot = TENON_SLOT_ROOT_PORT, .multifunction = true}),
		     0);
	read_all(&fixture, after);
	before[PCI_HEADER_TYPE] |= MULTIFUNCTION;
	cr_assert_arr_eq(before, after, TENON_CONFIG_BYTES);
	fixture_close(&fixture);
}

/* A capability of version 2 may end early, and the next one begin where its registers would be. */
Test(place, capability_behind_a_short_express_capability_is_untouched)
{
	struct fake_device *fake = fake_device_add(BDF, 0x8086, 0x0d93, 3);
	fake_bar_memory(fake, 0, 0x4000, false, false);
	fake_add_msix(fake, 0x60, 1, 0, PCI_EXP_DEVCAP2_LTR, 0, 0x1000); /* where the other would have what it can do */
	uint8_t msix[PCI_CAP_MSIX_SIZEOF];
	memcpy(msix, fake->config + 0x60, sizeof(msix));
	fake_add_pcie(fake, 0x40);
	memcpy(fake->config + 0x60, msix, sizeof(msix));
	fake->config[0x60 + PCI_CAP_LIST_NEXT] = 0x40;
	struct fixture fixture;
	open_at(&fixture, fake, TENON_SLOT_ROOT_BUS, false);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_MSIX), 0x60);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_EXP), 0x40);
	cr_assert_eq(guest_config(&fixture, 0x60 + PCI_MSIX_TABLE, 4), PCI_EXP_DEVCAP2_LTR);
	fixture_close(&fixture);
}

Test(place, nothing_of_it_reaches_the_device)
{
	struct fixture fixture;
	open_at(&fixture, fake_nvme(BDF), TENON_SLOT_ROOT_BUS, false);
	place_ari(&fixture, 9);
	cr_assert_eq(fake_calls_total(), 0);
	fixture_close(&fixture);
}

/* ---- ARI ---- */

Test(place, ari_takes_the_place_of_a_hidden_head_and_the_chain_goes_on)
{
	struct fixture fixture;
	open_at(&fixture, fake_nvme(BDF), TENON_SLOT_ROOT_BUS, false);
	place_ari(&fixture, 9);
	assert_ari(&fixture, EXTENDED, 9);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_VNDR), 0x140);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_DSN), 0x1c0);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_ERR), 0);
	fixture_close(&fixture);
}

Test(place, ari_of_the_device_gives_the_guests_its_place)
{
	struct fake_device *fake = bare_card();
	fake_capability_extended(fake, EXTENDED, PCI_EXT_CAP_ID_DSN, 1);
	fake_capability_extended(fake, 0x180, PCI_EXT_CAP_ID_ARI, 1);
	fake_config_set(fake, 0x180 + PCI_ARI_CAP, 4, 0x00210503); /* the host's next function, and function groups */
	add_vendor(fake, 0x200, 0x20);
	struct fixture fixture;
	open_at(&fixture, fake, TENON_SLOT_ROOT_PORT, false);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_ARI), 0, "it is shown without being asked for");
	place_ari(&fixture, 0);
	assert_ari(&fixture, 0x180, 0);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_DSN), EXTENDED);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_VNDR), 0x200);
	fixture_close(&fixture);
}

/* The device's is in the middle of what a vendor's capability claims. */
Test(place, ari_is_never_inside_another_capability)
{
	struct fake_device *fake = bare_card();
	add_vendor(fake, EXTENDED, 0x80);
	fake_capability_extended(fake, 0x140, PCI_EXT_CAP_ID_ARI, 1);
	fake_config_set(fake, 0x148, 4, 0x11223344);
	struct fixture fixture;
	open_at(&fixture, fake, TENON_SLOT_ROOT_PORT, false);
	place_ari(&fixture, 12);
	assert_ari(&fixture, 0x180, 12);
	cr_assert_eq(guest_config(&fixture, 0x148, 4), 0x11223344);
	fixture_close(&fixture);
}

/* Its length lies in bytes that it does not claim. */
Test(place, ari_is_not_inside_a_capability_that_is_shorter_than_it_can_say)
{
	struct fake_device *fake = bare_card();
	add_vendor(fake, EXTENDED, 6);
	struct fixture fixture;
	open_at(&fixture, fake, TENON_SLOT_ROOT_PORT, false);
	place_ari(&fixture, 12);
	assert_ari(&fixture, EXTENDED + 8, 12);
	fixture_close(&fixture);
}

Test(place, ari_follows_what_the_guest_sees)
{
	struct fake_device *fake = bare_card();
	fake_capability_extended(fake, EXTENDED, PCI_EXT_CAP_ID_DSN, 1);
	fake_capability_extended(fake, 0x110, PCI_EXT_CAP_ID_ACS, 1);
	fake_config_set(fake, 0x114, 4, 0xffffffff);
	struct fixture fixture;
	open_at(&fixture, fake, TENON_SLOT_ROOT_PORT, false);
	place_ari(&fixture, 12);
	assert_ari(&fixture, 0x10c, 12); /* a serial number has 12 bytes */
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_ACS), 0);
	fixture_close(&fixture);
}

Test(place, ari_is_found_where_the_guest_has_no_other_extended_capability)
{
	struct fixture fixture;
	open_at(&fixture, bare_card(), TENON_SLOT_ROOT_PORT, false);
	place_ari(&fixture, 12);
	assert_ari(&fixture, EXTENDED, 12);
	fixture_close(&fixture);

	fake_world_reset();
	struct fake_device *fake = bare_card();
	fake_add_aer(fake, EXTENDED);
	fake_capability_extended(fake, 0x180, PCI_EXT_CAP_ID_ARI, 1);
	open_at(&fixture, fake, TENON_SLOT_ROOT_PORT, false);
	place_ari(&fixture, 12);
	assert_ari(&fixture, 0x180, 12);
	fixture_close(&fixture);
}

Test(place, ari_takes_the_last_eight_bytes_and_no_fewer)
{
	for (unsigned left = 4; left <= 8; left += 4) {
		fake_world_reset();
		struct fake_device *fake = bare_card();
		add_vendor(fake, EXTENDED, TENON_CONFIG_BYTES - EXTENDED - left);
		struct fixture fixture;
		open_at(&fixture, fake, TENON_SLOT_ROOT_PORT, false);
		static uint8_t before[TENON_CONFIG_BYTES], after[TENON_CONFIG_BYTES];
		read_all(&fixture, before);
		if (left == 8) {
			place_ari(&fixture, 12);
			assert_ari(&fixture, TENON_CONFIG_BYTES - 8, 12);
		} else {
			const struct tenon_device_place wanted = {.slot = TENON_SLOT_ROOT_BUS, .ari = true};
			int code = place(&fixture, &wanted);
			cr_assert_eq(code, -ENOSPC);
			assert_message(&fixture.err, code);
			read_all(&fixture, after);
			cr_assert_arr_eq(before, after, TENON_CONFIG_BYTES, "it was moved all the same");
		}
		fixture_close(&fixture);
	}
}

/* ---- Extended space of any content ---- */

#define SHAPES 1000

static uint64_t next_random(uint64_t *state)
{
	/* xorshift64* */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull >> 16;
}

/* Garbage, and in it a chain of a few capabilities wherever they fall: over each other, past the end, in a loop. */
static void fill_extended(struct fake_device *fake, uint64_t *state)
{
	static const uint16_t ids[] = {PCI_EXT_CAP_ID_DSN,   PCI_EXT_CAP_ID_VNDR, PCI_EXT_CAP_ID_DVSEC,
				       PCI_EXT_CAP_ID_PWR,   PCI_EXT_CAP_ID_ERR,  PCI_EXT_CAP_ID_ARI,
				       PCI_EXT_CAP_ID_SRIOV, PCI_EXT_CAP_ID_ACS,  0};
	bool zero = next_random(state) % 4 == 0;
	for (unsigned at = EXTENDED; at < TENON_CONFIG_BYTES; at += 4)
		fake_config_set(fake, at, 4, zero ? 0 : (uint32_t)next_random(state));
	unsigned at = EXTENDED, count = (unsigned)(next_random(state) % 8);
	/* Near each other at times, so that they meet. */
	unsigned reach = next_random(state) % 2 ? 0x40 : TENON_CONFIG_BYTES - EXTENDED;
	for (unsigned i = 0; i < count; i++) {
		unsigned next = i + 1 < count ? EXTENDED + (unsigned)(next_random(state) % reach & ~3u) : 0;
		fake_config_set(fake, at, 4,
				ids[next_random(state) % (sizeof(ids) / sizeof(ids[0]))] | 1u << 16 | next << 20);
		if (next_random(state) % 2 && at + 8 <= TENON_CONFIG_BYTES)
			fake_config_set(fake, at + 4, 4, (uint32_t)(next_random(state) % 0x100) << 20 | 0x8086);
		at = next ? next : at;
	}
}

/* Notes the chain's capabilities but null ones and ARI. @return how many are ARI */
static unsigned walk(const uint8_t *config, bool *there, unsigned *ari)
{
	unsigned count = 0, hops = 0;
	uint32_t header;
	for (unsigned at = EXTENDED; at; at = PCI_EXT_CAP_NEXT(header)) {
		cr_assert_lt(hops++, 1024, "the guest's extended capability list does not end");
		memcpy(&header, config + at, sizeof(header));
		if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_ARI) {
			count++;
			*ari = at;
		} else if (PCI_EXT_CAP_ID(header)) {
			there[at] = true;
		}
	}
	return count;
}

/* What the guest had is there as before, but for one link; ARI lies where it read zeros. */
static void assert_only_ari_is_new(const uint8_t *before, const uint8_t *after, unsigned shape)
{
	bool had[TENON_CONFIG_BYTES] = {false}, has[TENON_CONFIG_BYTES] = {false};
	unsigned ari = 0, links = 0;
	cr_assert_eq(walk(before, had, &ari), 0, "shape %u", shape);
	cr_assert_eq(walk(after, has, &ari), 1, "shape %u", shape);
	cr_assert_arr_eq(had, has, sizeof(had), "shape %u: a capability is lost or new", shape);
	for (unsigned at = EXTENDED; at < TENON_CONFIG_BYTES; at += 4) {
		uint32_t old, new;
		memcpy(&old, before + at, sizeof(old));
		memcpy(&new, after + at, sizeof(new));
		if (at == ari || at == ari + 4) { /* a head that only keeps a pointer is taken over */
			cr_assert_eq(at == EXTENDED ? old & 0xffff : old, 0, "shape %u: 0x%x was 0x%x", shape, at, old);
		} else if (old != new) {
			links++;
			cr_assert_eq(new >> 20, ari, "shape %u: 0x%x became 0x%x", shape, at, new);
			cr_assert((old & 0xfffff) == (new & 0xfffff) || (at == EXTENDED && old == 0),
				  "shape %u: 0x%x became 0x%x", shape, at, new);
		}
	}
	cr_assert_leq(links, 1, "shape %u", shape);
}

Test(place, ari_disturbs_nothing_whatever_the_device_has, .timeout = 120)
{
	static uint8_t before[TENON_CONFIG_BYTES], after[TENON_CONFIG_BYTES];
	uint64_t state = 5;
	for (unsigned shape = 0; shape < SHAPES; shape++) {
		fake_world_reset();
		struct fake_device *fake = bare_card();
		fill_extended(fake, &state);
		struct fixture fixture;
		open_at(&fixture, fake, TENON_SLOT_ROOT_PORT, true);
		read_all(&fixture, before);
		place_ari(&fixture, 9);
		read_all(&fixture, after);
		cr_assert_arr_eq(before, after, EXTENDED, "shape %u", shape);
		assert_only_ari_is_new(before, after, shape);
		fixture_close(&fixture);
	}
}

Test(place, ari_of_a_conventional_device_is_refused)
{
	struct fixture fixture;
	open_at(&fixture, fake_edu(BDF), TENON_SLOT_ROOT_PORT, false);
	const struct tenon_device_place wanted = {.slot = TENON_SLOT_ROOT_PORT, .multifunction = true, .ari = true};
	int code = place(&fixture, &wanted);
	cr_assert_eq(code, -ENOSPC);
	assert_message(&fixture.err, code);
	cr_assert(strstr(fixture.err.message, "256 bytes"), "%s", fixture.err.message);
	cr_assert_eq(guest_config(&fixture, PCI_HEADER_TYPE, 1), 0);
	fixture_close(&fixture);
}

Test(place, ari_goes_with_the_next_place_that_has_none)
{
	static uint8_t before[TENON_CONFIG_BYTES], after[TENON_CONFIG_BYTES];
	struct fixture fixture;
	open_at(&fixture, fake_nvme(BDF), TENON_SLOT_ROOT_PORT, false);
	read_all(&fixture, before);
	place_ari(&fixture, 9);
	place_ari(&fixture, 10);
	assert_ari(&fixture, EXTENDED, 10);
	cr_assert_eq(place(&fixture, &(struct tenon_device_place){.slot = TENON_SLOT_ROOT_PORT}), 0);
	read_all(&fixture, after);
	cr_assert_arr_eq(before, after, TENON_CONFIG_BYTES);
	fixture_close(&fixture);
}

Test(place, ari_cannot_be_written)
{
	static uint8_t before[TENON_CONFIG_BYTES], after[TENON_CONFIG_BYTES];
	struct fixture fixture;
	open_at(&fixture, fake_nvme(BDF), TENON_SLOT_ROOT_PORT, false);
	place_ari(&fixture, 9);
	read_all(&fixture, before);
	uint64_t writes = fixture.fake->config_writes;
	guest_config_write(&fixture, EXTENDED, 4, 0xffffffff);
	guest_config_write(&fixture, EXTENDED + PCI_ARI_CAP, 4, 0xffffffff);
	guest_config_write(&fixture, EXTENDED + PCI_ARI_CTRL, 1, 0xff);
	read_all(&fixture, after);
	cr_assert_arr_eq(before, after, TENON_CONFIG_BYTES);
	cr_assert_eq(fixture.fake->config_writes, writes);
	fixture_close(&fixture);
}

/* ---- Afterwards ---- */

static void reset_by_the_vm(struct fixture *fixture)
{
	cr_assert_eq(tenon_device_reset(fixture->device, NULL), 0);
}

static void reset_by_the_bus(struct fixture *fixture)
{
	cr_assert_eq(tenon_bus_reset(&fixture->device, 1, NULL), 0);
}

static void reset_by_the_function(struct fixture *fixture)
{
	guest_config_write(fixture, guest_capability(fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL, 2,
			   PCI_EXP_DEVCTL_BCR_FLR);
}

Test(place, resets_keep_it)
{
	static void (*const resets[])(struct fixture *) = {reset_by_the_vm, reset_by_the_bus, reset_by_the_function};
	static uint8_t before[TENON_CONFIG_BYTES], after[TENON_CONFIG_BYTES];
	for (unsigned i = 0; i < 3; i++) {
		fake_world_reset();
		struct fixture fixture;
		open_at(&fixture, fake_nvme(BDF), TENON_SLOT_ROOT_BUS, false);
		place_ari(&fixture, 9);
		read_all(&fixture, before);
		guest_place(&fixture);
		fixture.fake->resets = 0;
		resets[i](&fixture);
		cr_assert_eq(fixture.fake->resets, 1);
		read_all(&fixture, after);
		cr_assert_arr_eq(before, after, TENON_CONFIG_BYTES, "reset %u", i);
		fixture_close(&fixture);
	}
}

Test(place, device_works_there)
{
	struct fixture fixture;
	open_at(&fixture, fake_nvme(BDF), TENON_SLOT_ROOT_BUS, false);
	place_ari(&fixture, 9);
	guest_place(&fixture);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	guest_msix_vector(&fixture, 7, 0x77, false);
	guest_msix_control(&fixture, true, false);
	cr_assert(fake_fire(fixture.fake, 7));
	cr_assert_eq(host_messages(&fixture.host, 0x77), 1);
	fixture_close(&fixture);
}

/* Too late, but what the guest then sees is what is so. */
Test(place, device_in_use_is_switched_off_by_it)
{
	struct fixture fixture;
	open_at(&fixture, fake_nvme(BDF), TENON_SLOT_ROOT_PORT, false);
	guest_place(&fixture);
	guest_msix_vector(&fixture, 0, 0x40, false);
	guest_msix_control(&fixture, true, false);
	place_ari(&fixture, 9);
	cr_assert_eq(fixture.host.map_count + fixture.host.irqfd_count, 0);
	cr_assert_eq(guest_config(&fixture, PCI_COMMAND, 2), 0);
	cr_assert_eq(fake_config_get(fixture.fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER, 0);
	fixture_close(&fixture);
}

/* ---- The caller ---- */

Test(place, misuse_is_refused)
{
	static uint8_t before[TENON_CONFIG_BYTES], after[TENON_CONFIG_BYTES];
	struct fixture fixture;
	open_at(&fixture, fake_nvme(BDF), TENON_SLOT_ROOT_PORT, false);
	read_all(&fixture, before);
	const struct tenon_device_place good = {.size = sizeof(good), .slot = TENON_SLOT_ROOT_BUS};
	struct tenon_device_place bad[4] = {good, good, good, good};
	bad[0].size--;
	bad[1].reserved[sizeof(good.reserved) - 1] = 1;
	bad[2].slot = (enum tenon_slot_kind)(TENON_SLOT_ROOT_PORT + 1);
	bad[3].ari_next = 1;
	for (unsigned i = 0; i < 4; i++) {
		int code = tenon_device_place(fixture.device, &bad[i], &fixture.err);
		cr_assert_eq(code, -EINVAL, "case %u", i);
		assert_message(&fixture.err, code);
	}
	cr_assert_eq(tenon_device_place(NULL, &good, NULL), -EINVAL);
	cr_assert_eq(tenon_device_place(fixture.device, NULL, NULL), -EINVAL);
	read_all(&fixture, after);
	cr_assert_arr_eq(before, after, TENON_CONFIG_BYTES);
	fixture_close(&fixture);
}
