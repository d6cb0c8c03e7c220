// SPDX-License-Identifier: MIT
/* The expansion ROM: the device's own, a file's, or none; the guest reads it and writes nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "vfio_fixture.h"

TestSuite(rom, .init = fake_world_reset);

#define ROM_GPA 0xe8000000u
#define FILE_AT "/tmp/card.rom"

static void open_with(struct fixture *fixture, struct fake_device *fake, enum tenon_rom_policy rom, const char *file)
{
	fixture_init(fixture);
	fixture->fake = fake;
	struct tenon_device_options options = fixture_options(fixture, fake);
	options.rom = rom;
	options.rom_file = file;
	int code = tenon_device_open(&options, &fixture->device, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
}

static struct fake_device *card_with_rom(uint32_t bar_bytes, uint32_t image_bytes)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_add_rom(fake, bar_bytes, image_bytes);
	return fake;
}

static void place_rom(struct fixture *fixture)
{
	guest_config_write(fixture, PCI_ROM_ADDRESS, 4, ROM_GPA | PCI_ROM_ADDRESS_ENABLE);
	guest_command(fixture, PCI_COMMAND_MEMORY, 0);
}

Test(rom, sizing_gives_the_device_s_size)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_DEVICE, NULL);
	cr_assert_eq(tenon_device_info(fixture.device)->rom_bytes, 0x10000);
	cr_assert_eq(guest_config(&fixture, PCI_ROM_ADDRESS, 4), 0);
	guest_config_write(&fixture, PCI_ROM_ADDRESS, 4, (uint32_t)PCI_ROM_ADDRESS_MASK);
	cr_assert_eq(guest_config(&fixture, PCI_ROM_ADDRESS, 4), 0xffff0000);
	fixture_close(&fixture);
}

Test(rom, device_without_one_has_none)
{
	struct fixture fixture;
	open_with(&fixture, fake_nvme("0000:3b:00.0"), TENON_ROM_DEVICE, NULL);
	cr_assert_eq(tenon_device_info(fixture.device)->rom_bytes, 0);
	guest_config_write(&fixture, PCI_ROM_ADDRESS, 4, UINT32_MAX);
	cr_assert_eq(guest_config(&fixture, PCI_ROM_ADDRESS, 4), 0);
	fixture_close(&fixture);
}

Test(rom, it_can_be_taken_away)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_OFF, NULL);
	cr_assert_eq(tenon_device_info(fixture.device)->rom_bytes, 0);
	guest_config_write(&fixture, PCI_ROM_ADDRESS, 4, UINT32_MAX);
	cr_assert_eq(guest_config(&fixture, PCI_ROM_ADDRESS, 4), 0);
	place_rom(&fixture);
	cr_assert_not(fixture.host.bars[TENON_DEVICE_ROM].enabled);
	fixture_close(&fixture);
}

Test(rom, guest_reads_the_device_s)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_DEVICE, NULL);
	place_rom(&fixture);
	cr_assert(fixture.host.bars[TENON_DEVICE_ROM].enabled);
	cr_assert_eq(fixture.host.bars[TENON_DEVICE_ROM].address, ROM_GPA);
	cr_assert_eq(fixture.host.bars[TENON_DEVICE_ROM].size_bytes, 0x10000);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xaa55);
	for (uint32_t at = 2; at < 0xc000; at += 0x2f1)
		cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, at, 1), fake_rom_byte(at), "at 0x%x", at);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0xc000, 8), UINT64_MAX);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0xffff, 2), 0xffff);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0x10000, 1), 0xff);
	cr_assert_eq(fixture.fake->rom_reads, 1, "the kernel maps the ROM at each of them");
	fixture_close(&fixture);
}

Test(rom, device_s_own_rom_register_is_never_written)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_DEVICE, NULL);
	uint32_t before = fake_config_get(fixture.fake, PCI_ROM_ADDRESS, 4);
	fake_journal_forget();
	place_rom(&fixture);
	guest_bar(&fixture, TENON_DEVICE_ROM, 0, 4);
	guest_config_write(&fixture, PCI_ROM_ADDRESS, 4, UINT32_MAX);
	cr_assert_eq(fake_config_get(fixture.fake, PCI_ROM_ADDRESS, 4), before);
	cr_assert_eq(fake_journal_find("config 0x030", 0), -1);
	fixture_close(&fixture);
}

Test(rom, writes_are_dropped)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_DEVICE, NULL);
	place_rom(&fixture);
	fake_calls_forget();
	guest_bar_write(&fixture, TENON_DEVICE_ROM, 0, 4, 0);
	cr_assert_eq(fake_calls(FAKE_PWRITE), 0);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xaa55);
	fixture_close(&fixture);
}

Test(rom, it_answers_only_while_enabled_decoded_and_awake)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_DEVICE, NULL);
	const struct tenon_bar_placement *placement = &fixture.host.bars[TENON_DEVICE_ROM];
	unsigned power = fixture.fake->pm + PCI_PM_CTRL;
	place_rom(&fixture);
	cr_assert(placement->enabled);
	guest_config_write(&fixture, PCI_ROM_ADDRESS, 4, ROM_GPA);
	cr_assert_not(placement->enabled);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xffff);
	guest_config_write(&fixture, PCI_ROM_ADDRESS, 4, ROM_GPA | PCI_ROM_ADDRESS_ENABLE);
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	cr_assert_not(placement->enabled);
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	guest_config_write(&fixture, power, 2, 3);
	cr_assert_not(placement->enabled);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xffff);
	guest_config_write(&fixture, power, 2, 0);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xaa55);
	fixture_close(&fixture);
}

Test(rom, sizing_with_decoding_on_places_nothing_at_the_top)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_DEVICE, NULL);
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	guest_config_write(&fixture, PCI_ROM_ADDRESS, 4, UINT32_MAX);
	cr_assert_not(fixture.host.bars[TENON_DEVICE_ROM].enabled);
	cr_assert_eq(guest_config(&fixture, PCI_ROM_ADDRESS, 4), 0xffff0001);
	fixture_close(&fixture);
}

Test(rom, reset_unplaces_it)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_DEVICE, NULL);
	place_rom(&fixture);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_not(fixture.host.bars[TENON_DEVICE_ROM].enabled);
	cr_assert_eq(guest_config(&fixture, PCI_ROM_ADDRESS, 4), 0);
	fixture_close(&fixture);
}

Test(rom, device_that_does_not_answer_reads_ones_and_is_asked_again_when_it_is_placed_anew)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_DEVICE, NULL);
	place_rom(&fixture);
	fake_fail_kind(FAKE_PREAD, 1, EIO);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xffff);
	fake_calls_forget();
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xffff);
	cr_assert_eq(fake_calls(FAKE_PREAD), 0, "each access asks a device that does not answer");
	guest_config_write(&fixture, PCI_ROM_ADDRESS, 4, ROM_GPA);
	place_rom(&fixture);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xaa55);
	fixture_close(&fixture);
}

/* 16 MiB in one go would hold the guest's other accesses up for long. */
Test(rom, large_one_is_read_in_pieces)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x1000000, 0xffff00), TENON_ROM_DEVICE, NULL);
	place_rom(&fixture);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xaa55);
	cr_assert_eq(fixture.fake->rom_reads, 1);
	cr_assert_leq(fixture.fake->rom_read_max, 0x10000);
	for (uint32_t at = 0xfffe; at < 0x10002; at++)
		cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, at, 1), fake_rom_byte(at), "at 0x%x", at);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0x1ffff, 2),
		     (uint64_t)fake_rom_byte(0x1ffff) | (uint64_t)fake_rom_byte(0x20000) << 8, "across two pieces");
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0xfffff8, 8), UINT64_MAX);
	cr_assert_eq(fixture.fake->rom_reads, 4);
	fixture_close(&fixture);
}

Test(rom, impossible_size_is_not_shown)
{
	struct fixture fixture;
	open_with(&fixture, card_with_rom(0x2000000, 0xc000), TENON_ROM_DEVICE, NULL);
	cr_assert_eq(tenon_device_info(fixture.device)->rom_bytes, 0);
	cr_assert(host_logged(&fixture.host, "ROM"));
	fixture_close(&fixture);
}

/* ---- From a file ---- */

static uint8_t *image(size_t bytes)
{
	uint8_t *content = malloc(bytes + 2);
	for (size_t i = 0; i < bytes + 2; i++)
		content[i] = (uint8_t)(i * 13);
	content[0] = 0x55;
	content[1] = 0xaa;
	return content;
}

Test(rom, file_takes_the_place_of_the_device_s)
{
	struct fixture fixture;
	uint8_t *content = image(70000);
	fake_set_file(FILE_AT, content, 70000);
	open_with(&fixture, card_with_rom(0x10000, 0xc000), TENON_ROM_FILE, FILE_AT);
	cr_assert_eq(tenon_device_info(fixture.device)->rom_bytes, 0x20000, "rounded up to a power of two");
	place_rom(&fixture);
	for (unsigned at = 0; at < 70000; at += 999)
		cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, at, 1), content[at]);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 70000, 4), 0xffffffff);
	cr_assert_eq(fixture.fake->rom_reads, 0);
	fixture_close(&fixture);
	free(content);
}

Test(rom, file_serves_a_device_without_a_rom)
{
	struct fixture fixture;
	uint8_t *content = image(512);
	fake_set_file(FILE_AT, content, 512);
	open_with(&fixture, fake_edu("0000:04:00.0"), TENON_ROM_FILE, FILE_AT);
	cr_assert_eq(tenon_device_info(fixture.device)->rom_bytes, 2048, "the least that a register can say");
	place_rom(&fixture);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, 0, 2), 0xaa55);
	fixture_close(&fixture);
	free(content);
}

Test(rom, largest_file_is_taken)
{
	struct fixture fixture;
	uint8_t *content = image(16u << 20);
	fake_set_file(FILE_AT, content, 16u << 20);
	open_with(&fixture, fake_edu("0000:04:00.0"), TENON_ROM_FILE, FILE_AT);
	cr_assert_eq(tenon_device_info(fixture.device)->rom_bytes, 16u << 20);
	place_rom(&fixture);
	cr_assert_eq(guest_bar(&fixture, TENON_DEVICE_ROM, (16u << 20) - 1, 1), content[(16u << 20) - 1]);
	fixture_close(&fixture);
	free(content);
}

static void assert_file_refused(const char *path, const uint8_t *content, size_t bytes, int expected)
{
	fake_world_reset();
	struct fixture fixture;
	fixture_init(&fixture);
	if (content)
		fake_set_file(FILE_AT, content, bytes);
	struct tenon_device_options options = fixture_options(&fixture, fake_nvme("0000:3b:00.0"));
	options.rom = TENON_ROM_FILE;
	options.rom_file = path;
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, expected, "%d: %s", code, fixture.err.message);
	assert_message(&fixture.err, code);
	if (path)
		cr_assert_not_null(strstr(fixture.err.message, path));
	fixture_close(&fixture);
}

Test(rom, bad_files_are_refused)
{
	uint8_t *content = image((16u << 20) + 1);
	assert_file_refused(FILE_AT, NULL, 0, -ENOENT);
	assert_file_refused(NULL, content, 512, -EINVAL);
	assert_file_refused(FILE_AT, content, 0, -EINVAL);
	assert_file_refused(FILE_AT, content, 1, -EINVAL);
	assert_file_refused(FILE_AT, content + 1, 512, -EINVAL);
	assert_file_refused(FILE_AT, content, (16u << 20) + 1, -EFBIG);
	free(content);
}

Test(rom, unreadable_file_is_refused)
{
	struct fixture fixture;
	uint8_t *content = image(512);
	fixture_init(&fixture);
	fake_set_file(FILE_AT, content, 512);
	struct tenon_device_options options = fixture_options(&fixture, fake_edu("0000:04:00.0"));
	options.rom = TENON_ROM_FILE;
	options.rom_file = FILE_AT;
	unsigned reads = 0;
	int code = 0;
	/* Whichever read it is that fails, the file's among them: refused, or the BAR is unknown, but never half open. */
	do {
		fake_fail_kind(FAKE_PREAD, ++reads, EIO);
		code = tenon_device_open(&options, &fixture.device, &fixture.err);
		if (code == 0)
			tenon_device_close(fixture.device);
		fixture.device = NULL;
	} while (fake_failed_call()[0] && !(code < 0 && strstr(fixture.err.message, FILE_AT)));
	cr_assert_eq(code, -EIO);
	assert_message(&fixture.err, code);
	fixture_close(&fixture);
	free(content);
}
