// SPDX-License-Identifier: MIT
/* Which pages the devices of a space write: by their own logs, their IOMMU's dirty bits, or the container's. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>

#include "vfio_fixture.h"

TestSuite(dirty, .init = fake_world_reset, .timeout = 120);

#define PAGE       4096u
#define PAGES      (RAM_BYTES / PAGE)
#define HIGH_GPA   0x100000000u
#define WORDS(n)   (((n) + 63) / 64)
#define MDEV_UUID  "11111111-2222-3333-4444-555555555555"
#define MDEV_UUID2 "11111111-2222-3333-4444-666666666666"

static struct fake_device *logging(const char *bdf)
{
	struct fake_device *fake = fake_nvme(bdf);
	fake->logging.present = true;
	return fake;
}

static struct fake_device *with_dirty_bits(const char *bdf)
{
	struct fake_device *fake = fake_nvme(bdf);
	fake->dirty_bits = true;
	return fake;
}

static struct tenon_device *open_into(struct fixture *fixture, const struct fake_device *fake, const char *address)
{
	struct tenon_device *device = NULL;
	struct tenon_device_options options = fixture_options(fixture, fake);
	options.address = address ? address : fake->bdf;
	int code = tenon_device_open(&options, &device, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	return device;
}

static struct tenon_migration_info info_of(struct fixture *fixture, struct tenon_device *device)
{
	struct tenon_migration_info info = {.size = sizeof(info)};
	cr_assert_eq(tenon_device_migration_info(device, &info, &fixture->err), 0);
	return info;
}

static void start(struct fixture *fixture)
{
	int code = tenon_space_dirty_start(fixture->space, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
}

static bool has(const uint64_t *bitmap, uint64_t page)
{
	return bitmap[page / 64] >> (page % 64) & 1;
}

static unsigned count(const uint64_t *bitmap, unsigned pages)
{
	unsigned set = 0;
	for (unsigned page = 0; page < pages; page++)
		set += has(bitmap, page);
	return set;
}

static uint64_t bitmap[WORDS(PAGES)];

/* Of the RAM at `gpa`. @return how many pages */
static unsigned fetch(struct fixture *fixture, uint64_t gpa)
{
	memset(bitmap, 0, sizeof(bitmap));
	int code = tenon_space_dirty_fetch(fixture->space, gpa, RAM_BYTES, bitmap, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	return count(bitmap, PAGES);
}

static void add_ram(struct fixture *fixture, uint64_t gpa, bool read_only)
{
	const struct tenon_space_region region = {.size = sizeof(region),
						  .gpa = gpa,
						  .size_bytes = RAM_BYTES,
						  .hva = fixture_ram(),
						  .read_only = read_only};
	int code = tenon_space_add(fixture->space, &region, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
}

static void write_page(struct fake_device *fake, uint64_t gpa)
{
	cr_assert(fake_dma_write(fake, gpa), "it does not reach 0x%llx", (unsigned long long)gpa);
}

static void vcpu(void *context)
{
	struct fixture *fixture = context;
	guest_config(fixture, 0, 4);
}

/* ---- Who knows ---- */

Test(dirty, a_device_that_logs_is_asked_rather_than_its_iommu)
{
	struct fixture fixture;
	struct fake_device *fake = with_dirty_bits("0000:3b:00.0");
	fake->logging.present = true;
	fixture_open(&fixture, fake);
	const struct tenon_migration_info info = info_of(&fixture, fixture.device);
	cr_assert_eq(info.dirty, TENON_DIRTY_DEVICE);
	start(&fixture);
	cr_assert(fake->logging.on);
	cr_assert_eq(fake_calls(FAKE_SET_TRACKING), 0);
	fixture_close(&fixture);
}

static void assert_none(struct fixture *fixture, const char *cause)
{
	fixture->fake->migration.present = true;
	const struct tenon_migration_info info = info_of(fixture, fixture->device);
	cr_assert_eq(info.dirty, TENON_DIRTY_NONE);
	cr_assert(strstr(info.why, "nobody tells which pages it writes"), "%s", info.why);
	cr_assert(strstr(info.why, cause), "%s", info.why);
	cr_assert(strstr(info.why, "; "), "%s", info.why);
	start(fixture);
	cr_assert_eq(fetch(fixture, 0), 0);
	tenon_space_dirty_stop(fixture->space);
}

Test(dirty, an_iommu_without_dirty_bits_is_said_with_what_to_do)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	assert_none(&fixture, "its IOMMU has no dirty bits");
	fixture_close(&fixture);
}

Test(dirty, a_kernel_without_the_question_has_no_dirty_bits)
{
	struct fixture fixture;
	fake_fail_always(FAKE_HW_INFO, ENOTTY);
	fixture_open(&fixture, with_dirty_bits("0000:3b:00.0"));
	assert_none(&fixture, "its IOMMU has no dirty bits");
	fixture_close(&fixture);
}

Test(dirty, a_page_table_that_cannot_be_made_costs_the_dirty_bits_only)
{
	struct fixture fixture;
	fake_fail_always(FAKE_HWPT_ALLOC, EOPNOTSUPP);
	fixture_open(&fixture, with_dirty_bits("0000:3b:00.0"));
	assert_none(&fixture, "its IOMMU has no dirty bits");
	fixture_close(&fixture);
}

Test(dirty, a_page_table_that_cannot_be_attached_is_given_back)
{
	struct fixture fixture;
	fixture_init(&fixture);
	struct fake_device *fake = with_dirty_bits("0000:3b:00.0");
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	fake_fail_kind(FAKE_ATTACH, 1, ENOMEM);
	cr_assert_eq(tenon_device_open(&options, &fixture.device, &fixture.err), -ENOMEM);
	assert_message(&fixture.err, -ENOMEM);
	cr_assert_eq(fake_hwpt_count(), 0);
	fixture_close(&fixture);
}

Test(dirty, a_mediated_device_on_iommufd_has_nobody_who_knows)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.fake = with_dirty_bits("0000:3b:00.0");
	fake_device_mediated(fixture.fake, MDEV_UUID);
	fixture.device = open_into(&fixture, fixture.fake, MDEV_UUID);
	assert_none(&fixture, "a mediated device has no IOMMU of its own");
	fixture_close(&fixture);
}

/* The kernel's mtty: a mediated device whose driver logs. */
Test(dirty, a_mediated_device_that_logs_is_asked)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.fake = logging("0000:3b:00.0");
	fixture.fake->migration.present = true;
	fake_device_mediated(fixture.fake, MDEV_UUID);
	fixture.device = open_into(&fixture, fixture.fake, MDEV_UUID);
	const struct tenon_migration_info info = info_of(&fixture, fixture.device);
	cr_assert_eq(info.dirty, TENON_DIRTY_DEVICE);
	cr_assert_str_empty(info.why);
	start(&fixture);
	write_page(fixture.fake, 7 * PAGE);
	cr_assert_eq(fetch(&fixture, 0), 1);
	fixture_close(&fixture);
}

/* ---- Devices' logs ---- */

Test(dirty, pages_that_a_device_logs_are_told_once)
{
	struct fixture fixture;
	struct fake_device *fake = logging("0000:3b:00.0");
	fixture_open(&fixture, fake);
	write_page(fake, 0);
	start(&fixture);
	cr_assert_eq(fetch(&fixture, 0), 0, "what was written before is not logged");
	write_page(fake, 3 * PAGE);
	write_page(fake, (uint64_t)(PAGES - 1) * PAGE);
	cr_assert_eq(fetch(&fixture, 0), 2);
	cr_assert(has(bitmap, 3) && has(bitmap, PAGES - 1));
	cr_assert_eq(fetch(&fixture, 0), 0);
	tenon_space_dirty_stop(fixture.space);
	cr_assert_not(fake->logging.on);
	start(&fixture);
	fixture_close(&fixture);
}

/* It would never end if the device's lock were held: the lock is not one that its holder gets twice. */
Test(dirty, a_vcpu_at_the_device_does_not_wait_for_its_report, .timeout = 20)
{
	struct fixture fixture;
	fixture_open(&fixture, logging("0000:3b:00.0"));
	start(&fixture);
	fixture.fake->slow = vcpu;
	fixture.fake->slow_context = &fixture;
	cr_assert_eq(fetch(&fixture, 0), 0);
	fixture.fake->slow = NULL;
	fixture_close(&fixture);
}

Test(dirty, bits_that_are_set_stay_set)
{
	struct fixture fixture;
	struct fake_device *fake = logging("0000:3b:00.0");
	fixture_open(&fixture, fake);
	start(&fixture);
	write_page(fake, 5 * PAGE);
	memset(bitmap, 0, sizeof(bitmap));
	bitmap[1] = 1;
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, 0, RAM_BYTES, bitmap, &fixture.err), 0);
	cr_assert_eq(count(bitmap, PAGES), 2);
	fixture_close(&fixture);
}

Test(dirty, all_devices_are_asked_each_in_its_way)
{
	struct fixture fixture;
	struct fake_device *fakes[3] = {logging("0000:3b:00.0"), with_dirty_bits("0000:3c:00.0"),
					with_dirty_bits("0000:3d:00.0")};
	fixture_open(&fixture, fakes[0]);
	struct tenon_device *second = open_into(&fixture, fakes[1], NULL), *third = open_into(&fixture, fakes[2], NULL);
	cr_assert_eq(fake_hwpt_count(), 1, "devices of one kind of IOMMU share a page table");
	start(&fixture);
	cr_assert_eq(fake_calls(FAKE_SET_TRACKING), 1);
	for (unsigned i = 0; i < 3; i++)
		write_page(fakes[i], (10 + i) * PAGE);
	cr_assert_eq(fetch(&fixture, 0), 3);
	cr_assert(has(bitmap, 10) && has(bitmap, 11) && has(bitmap, 12));
	tenon_space_dirty_stop(fixture.space);
	tenon_device_close(second);
	tenon_device_close(third);
	cr_assert_eq(fake_hwpt_count(), 0, "the last of its devices takes it");
	fixture_close(&fixture);
}

Test(dirty, devices_of_different_iommus_have_a_page_table_each)
{
	struct fixture fixture;
	struct fake_device *fakes[2] = {with_dirty_bits("0000:3b:00.0"), with_dirty_bits("0000:3c:00.0")};
	fakes[1]->iommu = 1;
	fixture_open(&fixture, fakes[0]);
	struct tenon_device *second = open_into(&fixture, fakes[1], NULL);
	cr_assert_eq(fake_hwpt_count(), 2);
	cr_assert_eq(info_of(&fixture, second).dirty, TENON_DIRTY_IOMMU);
	start(&fixture);
	write_page(fakes[0], 1 * PAGE);
	write_page(fakes[1], 2 * PAGE);
	cr_assert_eq(fetch(&fixture, 0), 2);
	tenon_device_close(second);
	cr_assert_eq(fake_hwpt_count(), 1);
	fixture_close(&fixture);
}

Test(dirty, devices_of_more_iommus_than_there_is_room_for_join_without_dirty_bits)
{
	enum { DEVICES = 16 };
	struct fixture fixture;
	struct tenon_device *devices[DEVICES] = {NULL};
	char bdf[16];
	unsigned tracked = 0;
	fixture_init(&fixture);
	for (unsigned i = 0; i < DEVICES; i++) {
		snprintf(bdf, sizeof(bdf), "0000:%02x:00.0", 0x40 + i);
		struct fake_device *fake = with_dirty_bits(bdf);
		fake->iommu = i;
		devices[i] = open_into(&fixture, fake, NULL);
		tracked += info_of(&fixture, devices[i]).dirty == TENON_DIRTY_IOMMU;
	}
	cr_assert_eq(fake_hwpt_count(), tracked);
	cr_assert(tracked > 0 && tracked < DEVICES, "%u", tracked);
	for (unsigned i = 0; i < DEVICES; i++)
		tenon_device_close(devices[i]);
	cr_assert_eq(fake_hwpt_count(), 0);
	fixture_close(&fixture);
}

Test(dirty, a_group_whose_first_device_has_no_dirty_bits_joins_without)
{
	struct fixture fixture;
	struct fake_device *fakes[2] = {with_dirty_bits("0000:3b:00.0"), with_dirty_bits("0000:3b:00.1")};
	fakes[1]->group = fakes[0]->group;
	fake_fail_kind(FAKE_HWPT_ALLOC, 1, ENOMEM);
	fixture_open(&fixture, fakes[0]);
	struct tenon_device *second = open_into(&fixture, fakes[1], NULL);
	cr_assert_eq(info_of(&fixture, second).dirty, TENON_DIRTY_NONE);
	cr_assert_eq(fake_hwpt_count(), 0);
	tenon_device_close(second);
	fixture_close(&fixture);
}

Test(dirty, a_log_covers_all_memory_that_devices_may_write)
{
	struct fixture fixture;
	struct fake_device *fake = logging("0000:3b:00.0");
	fixture_open(&fixture, fake);
	add_ram(&fixture, HIGH_GPA, false);
	add_ram(&fixture, 2 * (uint64_t)HIGH_GPA, true);
	start(&fixture);
	cr_assert_eq(fake->logging.range_count, 2, "not what is read-only");
	write_page(fake, 0);
	write_page(fake, HIGH_GPA + PAGE);
	cr_assert_eq(fetch(&fixture, 0), 1);
	cr_assert_eq(fetch(&fixture, HIGH_GPA), 1);
	cr_assert(has(bitmap, 1));
	cr_assert_eq(fetch(&fixture, 2 * (uint64_t)HIGH_GPA), 0);
	fixture_close(&fixture);
}

Test(dirty, a_device_with_room_for_few_ranges_gets_one_over_all)
{
	static const int refusals[] = {EINVAL, ENOSPC, E2BIG, EOPNOTSUPP, ENOMEM};
	for (unsigned i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		struct fixture fixture;
		fake_world_reset();
		struct fake_device *fake = logging("0000:3b:00.0");
		fake->logging.ranges_max = 1;
		fake->logging.too_many = refusals[i];
		fixture_open(&fixture, fake);
		add_ram(&fixture, HIGH_GPA, false);
		start(&fixture);
		cr_assert_eq(fake->logging.range_count, 1);
		cr_assert_eq(fake->logging.ranges[0].first, 0);
		cr_assert_eq(fake->logging.ranges[0].last, HIGH_GPA + RAM_BYTES - 1);
		write_page(fake, HIGH_GPA + 9 * PAGE);
		cr_assert_eq(fetch(&fixture, HIGH_GPA), 1);
		fixture_close(&fixture);
	}
}

Test(dirty, memory_that_comes_inside_of_what_is_logged_starts_no_log_anew)
{
	struct fixture fixture;
	struct fake_device *fake = logging("0000:3b:00.0");
	fake->logging.ranges_max = 1;
	fake->logging.too_many = ENOSPC;
	fixture_open(&fixture, fake);
	add_ram(&fixture, HIGH_GPA, false);
	start(&fixture);
	write_page(fake, PAGE);
	add_ram(&fixture, HIGH_GPA / 2, false);
	write_page(fake, HIGH_GPA / 2 + 2 * PAGE);
	cr_assert_eq(fetch(&fixture, HIGH_GPA / 2), 1);
	cr_assert_eq(fetch(&fixture, 0), 1);
	fixture_close(&fixture);
}

Test(dirty, memory_that_comes_later_is_logged_and_nothing_of_before_is_lost)
{
	struct fixture fixture;
	struct fake_device *fake = logging("0000:3b:00.0");
	fixture_open(&fixture, fake);
	start(&fixture);
	write_page(fake, PAGE);
	add_ram(&fixture, HIGH_GPA, false);
	cr_assert_eq(fetch(&fixture, 0), PAGES, "what was not fetched counts as written");
	cr_assert_eq(fetch(&fixture, 0), 0);
	cr_assert_eq(fetch(&fixture, HIGH_GPA), PAGES);
	write_page(fake, HIGH_GPA + 5 * PAGE);
	write_page(fake, 6 * PAGE);
	cr_assert_eq(fetch(&fixture, HIGH_GPA), 1);
	cr_assert_eq(fetch(&fixture, 0), 1);
	cr_assert_eq(tenon_space_remove(fixture.space, HIGH_GPA, RAM_BYTES, &fixture.err), 0);
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, HIGH_GPA, RAM_BYTES, bitmap, &fixture.err), -EINVAL);
	assert_message(&fixture.err, -EINVAL);
	add_ram(&fixture, HIGH_GPA, false);
	fixture_close(&fixture);
}

Test(dirty, what_counts_as_written_is_told_of_each_part_once)
{
	struct fixture fixture;
	uint64_t part[WORDS(PAGES)] = {0};
	fixture_open(&fixture, logging("0000:3b:00.0"));
	start(&fixture);
	add_ram(&fixture, HIGH_GPA, false);
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, 10 * PAGE, 100 * PAGE, part, &fixture.err), 0);
	cr_assert_eq(count(part, PAGES), 100);
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, 10 * PAGE, 100 * PAGE, part, &fixture.err), 0);
	cr_assert_eq(fetch(&fixture, 0), PAGES - 100);
	cr_assert_eq(fetch(&fixture, 0), 0);
	fixture_close(&fixture);
}

Test(dirty, memory_that_is_read_only_changes_no_log)
{
	struct fixture fixture;
	struct fake_device *fake = logging("0000:3b:00.0");
	fixture_open(&fixture, fake);
	start(&fixture);
	add_ram(&fixture, HIGH_GPA, true);
	cr_assert_eq(fake_journal_count("logs no more"), 0);
	cr_assert_eq(fetch(&fixture, 0), 0);
	fixture_close(&fixture);
}

Test(dirty, memory_that_is_read_only_is_never_written)
{
	struct fixture fixture;
	fixture_open(&fixture, logging("0000:3b:00.0"));
	cr_assert_eq(tenon_space_remove(fixture.space, 0, RAM_BYTES, &fixture.err), 0);
	add_ram(&fixture, HIGH_GPA, true);
	start(&fixture);
	cr_assert_eq(fetch(&fixture, HIGH_GPA), 0);
	add_ram(&fixture, 0, false);
	cr_assert_eq(fetch(&fixture, HIGH_GPA), 0, "not even where a log began anew");
	fixture_close(&fixture);
}

Test(dirty, a_space_without_memory_is_logged_once_there_is_some)
{
	struct fixture fixture;
	struct fake_device *fake = logging("0000:3b:00.0");
	fixture_open(&fixture, fake);
	cr_assert_eq(tenon_space_remove(fixture.space, 0, RAM_BYTES, &fixture.err), 0);
	start(&fixture);
	cr_assert_not(fake->logging.on);
	add_ram(&fixture, 0, false);
	cr_assert(fake->logging.on);
	fetch(&fixture, 0);
	write_page(fake, 8 * PAGE);
	cr_assert_eq(fetch(&fixture, 0), 1);
	fixture_close(&fixture);
}

Test(dirty, memory_that_a_log_cannot_take_is_refused_and_the_log_known_to_be_lost)
{
	struct fixture fixture;
	struct fake_device *fake = logging("0000:3b:00.0");
	fixture_open(&fixture, fake);
	start(&fixture);
	fake->logging.ranges_max = 1;
	fake->logging.too_many = EIO;
	const struct tenon_space_region region = {
		.size = sizeof(region), .gpa = HIGH_GPA, .size_bytes = RAM_BYTES, .hva = fixture_ram()};
	unsigned mappings = fake_dma_mappings();
	cr_assert_eq(tenon_space_add(fixture.space, &region, &fixture.err), -EIO);
	assert_message(&fixture.err, -EIO);
	cr_assert_eq(fake_dma_mappings(), mappings);
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, 0, RAM_BYTES, bitmap, &fixture.err), -ESTALE);
	assert_message(&fixture.err, -ESTALE);
	tenon_space_dirty_stop(fixture.space);
	start(&fixture);
	cr_assert_eq(fetch(&fixture, 0), 0);
	fixture_close(&fixture);
}

/* ---- Devices that come and go ---- */

Test(dirty, a_device_that_comes_while_pages_are_logged_is_told_of)
{
	struct fixture fixture;
	struct fake_device *fakes[2] = {logging("0000:3b:00.0"), logging("0000:3c:00.0")};
	fixture_open(&fixture, fakes[0]);
	start(&fixture);
	struct tenon_device *second = open_into(&fixture, fakes[1], NULL);
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, 0, RAM_BYTES, bitmap, &fixture.err), -ESTALE);
	assert_message(&fixture.err, -ESTALE);
	cr_assert(strstr(fixture.err.message, "0000:3c:00.0"), "%s", fixture.err.message);
	tenon_space_dirty_stop(fixture.space);
	start(&fixture);
	write_page(fakes[1], PAGE);
	cr_assert_eq(fetch(&fixture, 0), 1);
	tenon_device_close(second);
	fixture_close(&fixture);
}

Test(dirty, what_a_device_wrote_before_it_left_is_not_lost)
{
	for (unsigned iommu = 0; iommu < 2; iommu++) {
		struct fixture fixture;
		fake_world_reset();
		struct fake_device *fakes[2] = {logging("0000:3b:00.0"), NULL};
		fakes[1] = iommu ? with_dirty_bits("0000:3c:00.0") : logging("0000:3c:00.0");
		fixture_open(&fixture, fakes[0]);
		struct tenon_device *second = open_into(&fixture, fakes[1], NULL);
		start(&fixture);
		write_page(fakes[1], PAGE);
		tenon_device_close(second);
		cr_assert_eq(fetch(&fixture, 0), PAGES);
		cr_assert_eq(fetch(&fixture, 0), 0);
		fixture_close(&fixture);
	}
}

Test(dirty, a_space_whose_last_device_left_can_be_stopped_and_destroyed)
{
	struct fixture fixture;
	fixture_open(&fixture, with_dirty_bits("0000:3b:00.0"));
	start(&fixture);
	tenon_device_close(fixture.device);
	fixture.device = NULL;
	cr_assert_eq(fetch(&fixture, 0), PAGES);
	tenon_space_dirty_stop(fixture.space);
	start(&fixture);
	fixture_close(&fixture);
}

/* ---- The container ---- */

static void container_init(struct fixture *fixture)
{
	fake_set_iommufd(false);
	fixture_init(fixture);
}

Test(dirty, a_container_knows_what_drivers_of_mediated_devices_write)
{
	struct fixture fixture;
	container_init(&fixture);
	fixture.fake = fake_nvme("0000:3b:00.0");
	fake_device_mediated(fixture.fake, MDEV_UUID);
	fixture.device = open_into(&fixture, fixture.fake, MDEV_UUID);
	cr_assert_eq(info_of(&fixture, fixture.device).dirty, TENON_DIRTY_IOMMU);
	start(&fixture);
	write_page(fixture.fake, 70 * PAGE);
	write_page(fixture.fake, 200 * PAGE);
	cr_assert_eq(fetch(&fixture, 0), 2);
	cr_assert(has(bitmap, 70) && has(bitmap, 200));
	cr_assert_eq(fetch(&fixture, 0), 0);
	fixture_close(&fixture);
}

/* The kernel gives the bits of a whole mapping, and takes them away. */
Test(dirty, a_container_is_asked_for_parts_and_forgets_nothing)
{
	struct fixture fixture;
	container_init(&fixture);
	fixture.fake = fake_nvme("0000:3b:00.0");
	fake_device_mediated(fixture.fake, MDEV_UUID);
	fixture.device = open_into(&fixture, fixture.fake, MDEV_UUID);
	start(&fixture);
	static const uint64_t pages[] = {0, 63, 64, 99, 100, 101, PAGES - 1};
	for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		write_page(fixture.fake, pages[i] * PAGE);
	uint64_t part[WORDS(PAGES)] = {0};
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, 64 * PAGE, 37 * PAGE, part, &fixture.err), 0);
	cr_assert_eq(count(part, PAGES), 3);
	cr_assert(has(part, 0) && has(part, 99 - 64) && has(part, 100 - 64));
	cr_assert_eq(fetch(&fixture, 0), 4, "the others are still there");
	cr_assert(has(bitmap, 0) && has(bitmap, 63) && has(bitmap, 101) && has(bitmap, PAGES - 1));
	cr_assert_eq(fetch(&fixture, 0), 0);
	fixture_close(&fixture);
}

Test(dirty, a_container_takes_all_memory_of_a_device_with_an_iommu_for_written)
{
	struct fixture fixture;
	container_init(&fixture);
	fixture.fake = fake_nvme("0000:3b:00.0");
	fixture.device = open_into(&fixture, fixture.fake, NULL);
	assert_none(&fixture, "the container takes all memory for written; use iommufd");
	fixture_close(&fixture);
}

Test(dirty, beside_such_a_device_a_container_knows_nothing_of_mediated_ones_either)
{
	struct fixture fixture;
	container_init(&fixture);
	fixture.fake = fake_nvme("0000:3b:00.0");
	fake_device_mediated(fixture.fake, MDEV_UUID);
	fixture.device = open_into(&fixture, fixture.fake, MDEV_UUID);
	struct fake_device *fake = fake_nvme("0000:3c:00.0");
	struct tenon_device *second = open_into(&fixture, fake, NULL);
	assert_none(&fixture, "as long as a device with an IOMMU is in it");
	tenon_device_close(second);
	cr_assert_eq(info_of(&fixture, fixture.device).dirty, TENON_DIRTY_IOMMU);
	fixture_close(&fixture);
}

Test(dirty, a_container_of_an_old_kernel_or_of_other_pages_knows_nothing)
{
	static const unsigned page_bytes[] = {0, 65536};
	for (unsigned i = 0; i < 2; i++) {
		struct fixture fixture;
		fake_world_reset();
		container_init(&fixture);
		fake_set_dirty_page(page_bytes[i]);
		fixture.fake = fake_nvme("0000:3b:00.0");
		fake_device_mediated(fixture.fake, MDEV_UUID);
		fixture.device = open_into(&fixture, fixture.fake, MDEV_UUID);
		assert_none(&fixture, "does not tell which pages");
		fixture_close(&fixture);
	}
}

/* ---- Misuse and failures ---- */

Test(dirty, calls_out_of_order_and_ranges_that_are_none_are_refused)
{
	struct fixture fixture;
	fixture_open(&fixture, logging("0000:3b:00.0"));
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, 0, RAM_BYTES, bitmap, &fixture.err), -EINVAL);
	assert_message(&fixture.err, -EINVAL);
	tenon_space_dirty_stop(fixture.space);
	start(&fixture);
	cr_assert_eq(tenon_space_dirty_start(fixture.space, &fixture.err), -EBUSY);
	assert_message(&fixture.err, -EBUSY);
	static const uint64_t ranges[][2] = {{0, 0},
					     {1, PAGE},
					     {0, PAGE + 1},
					     {RAM_BYTES, PAGE},
					     {PAGE, RAM_BYTES},
					     {0, RAM_BYTES + PAGE},
					     {PAGE, UINT64_MAX - PAGE + 1}};
	for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		cr_assert_eq(tenon_space_dirty_fetch(fixture.space, ranges[i][0], ranges[i][1], bitmap, &fixture.err),
			     -EINVAL, "range %u", i);
		assert_message(&fixture.err, -EINVAL);
	}
	fixture_close(&fixture);
}

/* Else what it writes would be missed, though it was said that it logs. */
Test(dirty, a_device_that_cannot_be_asked_is_not_taken_for_one_that_cannot_be_logged)
{
	struct fixture fixture;
	fixture_open(&fixture, logging("0000:3b:00.0"));
	fixture.fake->migration.present = true;
	fake_fail_always(FAKE_FEATURE, EIO);
	cr_assert_eq(tenon_space_dirty_start(fixture.space, &fixture.err), -EIO);
	assert_message(&fixture.err, -EIO);
	fake_fail_always(FAKE_FEATURE, 0);
	info_of(&fixture, fixture.device); /* from now on it is known that it migrates */
	fake_fail_always(FAKE_FEATURE, EIO);
	const struct tenon_migration_info info = info_of(&fixture, fixture.device);
	fake_fail_always(FAKE_FEATURE, 0);
	cr_assert_eq(info.dirty, TENON_DIRTY_NONE);
	cr_assert(strstr(info.why, "cannot find out"), "%s", info.why);
	start(&fixture);
	fixture_close(&fixture);
}

Test(dirty, when_one_device_cannot_be_logged_none_is)
{
	struct fixture fixture;
	struct fake_device *fakes[3] = {logging("0000:3b:00.0"), with_dirty_bits("0000:3c:00.0"),
					logging("0000:3d:00.0")};
	fixture_open(&fixture, fakes[0]);
	struct tenon_device *others[2] = {open_into(&fixture, fakes[1], NULL), open_into(&fixture, fakes[2], NULL)};
	fakes[2]->logging.on = true; /* what another start left */
	cr_assert_eq(tenon_space_dirty_start(fixture.space, &fixture.err), -EINVAL);
	assert_message(&fixture.err, -EINVAL);
	cr_assert(strstr(fixture.err.message, "0000:3d:00.0"), "%s", fixture.err.message);
	cr_assert_not(fakes[0]->logging.on);
	cr_assert_eq(fake_calls(FAKE_SET_TRACKING), 2, "on, and off");
	fakes[2]->logging.on = false;
	fake_fail_kind(FAKE_SET_TRACKING, 1, ENOMEM);
	cr_assert_eq(tenon_space_dirty_start(fixture.space, &fixture.err), -ENOMEM);
	assert_message(&fixture.err, -ENOMEM);
	cr_assert(strstr(fixture.err.message, "0000:3c:00.0"), "%s", fixture.err.message);
	cr_assert_not(fakes[0]->logging.on);
	start(&fixture);
	for (unsigned i = 0; i < 2; i++)
		tenon_device_close(others[i]);
	fixture_close(&fixture);
}

/* Logging, memory that comes and goes meanwhile, and its end. @return false when somebody was told of a failure */
static bool live(struct fixture *fixture)
{
	const struct tenon_space_region region = {
		.size = sizeof(region), .gpa = HIGH_GPA, .size_bytes = RAM_BYTES, .hva = fixture_ram()};
	int code = tenon_space_dirty_start(fixture->space, &fixture->err);
	if (code == 0)
		code = tenon_space_dirty_fetch(fixture->space, 0, RAM_BYTES, bitmap, &fixture->err);
	if (code == 0)
		code = tenon_space_add(fixture->space, &region, &fixture->err);
	if (code == 0) {
		code = tenon_space_dirty_fetch(fixture->space, HIGH_GPA, RAM_BYTES, bitmap, &fixture->err);
		tenon_space_remove(fixture->space, HIGH_GPA, RAM_BYTES, NULL);
	}
	if (code < 0)
		assert_message(&fixture->err, code);
	tenon_space_dirty_stop(fixture->space);
	return code == 0;
}

/* With the calls that end things, nobody needs to hear of a failure: a log that runs on costs no correctness. */
static bool may_be_silent(const char *call, const struct fake_device *logger)
{
	return (strcmp(call, "DEVICE_FEATURE") == 0 && logger->logging.on) ||
	       strcmp(call, "HWPT_SET_DIRTY_TRACKING") == 0 || strcmp(call, "IOMMU_DIRTY_PAGES") == 0 ||
	       strcmp(call, "IOAS_UNMAP") == 0 || strcmp(call, "IOMMU_UNMAP_DMA") == 0;
}

static void fail_each(bool container)
{
	for (unsigned n = 1;; n++) {
		struct fixture fixture;
		struct tenon_device *second = NULL;
		fake_world_reset();
		fake_set_iommufd(!container);
		fixture_init(&fixture);
		fixture.fake = fake_nvme("0000:3b:00.0");
		struct fake_device *fake = container ? fake_nvme("0000:3c:00.0") : with_dirty_bits("0000:3c:00.0");
		fixture.fake->logging.present = true;
		fake_device_mediated(fixture.fake, container ? MDEV_UUID : "");
		fake_device_mediated(fake, container ? MDEV_UUID2 : "");
		fixture.device = open_into(&fixture, fixture.fake, container ? MDEV_UUID : NULL);
		second = open_into(&fixture, fake, container ? MDEV_UUID2 : NULL);
		fake_fail_call(n, EIO);
		bool whole = live(&fixture);
		char failed[64];
		snprintf(failed, sizeof(failed), "%s", fake_failed_call());
		fake_fail_call(0, 0);
		cr_assert(!whole || !failed[0] || may_be_silent(failed, fixture.fake), "nobody hears of call %u (%s)",
			  n, failed);
		tenon_space_remove(fixture.space, HIGH_GPA, RAM_BYTES, NULL);
		fixture.fake->logging.on = false; /* a stop that failed */
		cr_assert(live(&fixture), "after call %u (%s): %s", n, failed, fixture.err.message);
		tenon_device_close(second);
		fixture_close(&fixture);
		if (!failed[0]) {
			cr_assert_gt(n, 10);
			return;
		}
	}
}

Test(dirty, every_kernel_call_failed_in_turn)
{
	fail_each(false);
	fail_each(true);
}

Test(dirty, every_kernel_call_of_a_join_with_dirty_bits_failed_in_turn)
{
	for (unsigned n = 1;; n++) {
		struct fixture fixture;
		struct tenon_device *second = NULL;
		fake_world_reset();
		struct fake_device *fakes[2] = {with_dirty_bits("0000:3b:00.0"), with_dirty_bits("0000:3c:00.0")};
		fixture_open(&fixture, fakes[0]);
		const struct tenon_device_options options = fixture_options(&fixture, fakes[1]);
		fake_fail_call(n, EINVAL);
		int code = tenon_device_open(&options, &second, &fixture.err);
		bool failed = fake_failed_call()[0];
		fake_fail_call(0, 0);
		if (code < 0)
			assert_message(&fixture.err, code);
		tenon_device_close(second);
		cr_assert_leq(fake_hwpt_count(), 1, "after call %u", n);
		fixture_close(&fixture);
		if (!failed)
			break;
	}
}
