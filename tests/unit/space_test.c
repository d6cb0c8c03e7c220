// SPDX-License-Identifier: MIT
/* tenon_space: guest memory that devices reach, against the contract of <tenon/space.h>. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>

#include "kernel.h"
#include "vfio_fixture.h"

#define MIB 0x100000ull

TestSuite(space, .init = fake_world_reset);

static struct tenon_space_region region_at(uint64_t gpa, uint64_t size_bytes)
{
	static void *memory;
	if (!memory)
		memory =
			mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return (struct tenon_space_region){
		.size = sizeof(struct tenon_space_region), .gpa = gpa, .size_bytes = size_bytes, .hva = memory};
}

static int add(struct tenon_space *space, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	const struct tenon_space_region region = region_at(gpa, size_bytes);
	return tenon_space_add(space, &region, err);
}

/* A second device of the same VM has a host pointer of its own. */
static struct tenon_device_options other_host(struct fixture *fixture, struct fake_host *host,
					      const struct fake_device *fake)
{
	host_init(host);
	struct tenon_device_options options = fixture_options(fixture, fake);
	options.ops = &host->ops;
	options.host = host;
	return options;
}

static struct tenon_space *new_space(void)
{
	struct tenon_space *space;
	cr_assert_eq(tenon_space_create(NULL, &space, NULL), 0);
	return space;
}

Test(space, without_devices_makes_no_kernel_call)
{
	struct tenon_space *space = new_space();
	cr_assert_eq(add(space, 0, MIB, NULL), 0);
	cr_assert_eq(tenon_space_remove(space, 0, MIB, NULL), 0);
	tenon_space_destroy(space);
	cr_assert_eq(fake_calls_total(), 0);
}

Test(space, destroy_accepts_null)
{
	tenon_space_destroy(NULL);
}

Test(space, options_that_are_too_small_are_refused)
{
	struct tenon_space_options options = {.size = sizeof(options) - 1};
	struct tenon_space *space = NULL;
	struct tenon_error err = {0};
	int code = tenon_space_create(&options, &space, &err);
	cr_assert_eq(code, -EINVAL);
	assert_message(&err, code);
	cr_assert_null(space);
}

Test(space, negative_file_is_refused)
{
	const size_t size = sizeof(struct tenon_space_options);
	const struct tenon_space_options bad[] = {{.size = size, .iommufd = -1}, {.size = size, .container = -1}};
	static const char *const fields[] = {".iommufd", ".container"};
	for (unsigned i = 0; i < 2; i++) {
		struct tenon_space *space = NULL;
		struct tenon_error err = {0};
		int code = tenon_space_create(&bad[i], &space, &err);
		cr_assert_eq(code, -EINVAL);
		assert_message(&err, code);
		cr_assert(strstr(err.message, fields[i]), "%s", err.message);
		cr_assert_null(space);
	}
}

Test(space, region_with_reserved_bytes_set_is_refused)
{
	struct tenon_space *space = new_space();
	struct tenon_space_region region = region_at(0, MIB);
	region.reserved[6] = 1;
	struct tenon_error err = {0};
	int code = tenon_space_add(space, &region, &err);
	cr_assert_eq(code, -EINVAL);
	assert_message(&err, code);
	tenon_space_destroy(space);
}

Test(space, options_that_exclude_each_other_are_refused)
{
	const size_t size = sizeof(struct tenon_space_options);
	const struct tenon_space_options bad[] = {
		{.size = size, .iommufd = 7, .container = 8},
		{.size = size, .iommufd = 7, .interface = TENON_INTERFACE_CONTAINER},
		{.size = size, .container = 7, .interface = TENON_INTERFACE_IOMMUFD},
		{.size = size, .interface = (enum tenon_interface)3},
		{.size = size, .reserved = 1},
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct tenon_space *space = NULL;
		struct tenon_error err = {0};
		int code = tenon_space_create(&bad[i], &space, &err);
		cr_assert_eq(code, -EINVAL, "case %u gave %d", i, code);
		assert_message(&err, code);
		cr_assert_null(space);
	}
}

Test(space, options_of_a_newer_caller_are_accepted_when_the_rest_is_zero)
{
	struct {
		struct tenon_space_options known;
		uint64_t later;
	} options = {.known.size = sizeof(options)};
	struct tenon_space *space;
	cr_assert_eq(tenon_space_create(&options.known, &space, NULL), 0);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, options_of_a_newer_caller_that_ask_for_more_are_refused)
{
	struct {
		struct tenon_space_options known;
		uint64_t later;
	} options = {.known.size = sizeof(options), .later = 1};
	struct tenon_space *space;
	struct tenon_error err = {0};
	int code = tenon_space_create(&options.known, &space, &err);
	cr_assert(code == -E2BIG || code == -EINVAL, "got %d", code);
	assert_message(&err, code);
}

Test(space, region_of_a_file_that_cannot_be_is_refused)
{
	static const struct {
		int fd;
		uint64_t offset;
		int reserved;
	} bad[] = {{-1, 0, 0}, {3, 100, 0}, {0, 4096, 0}, {0, 0, 1}};
	struct tenon_space *space = new_space();
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct tenon_space_region region = region_at(0, MIB);
		struct tenon_error err = {0};
		region.fd = bad[i].fd;
		region.fd_offset = bad[i].offset;
		region.reserved_2 = bad[i].reserved;
		int code = tenon_space_add(space, &region, &err);
		cr_expect_eq(code, -EINVAL, "%u", i);
		assert_message(&err, code);
	}
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, region_struct_that_is_too_small_is_refused)
{
	struct tenon_space *space = new_space();
	struct tenon_space_region region = region_at(0, MIB);
	region.size = offsetof(struct tenon_space_region, fd) - 1; /* less than the first version had */
	struct tenon_error err = {0};
	int code = tenon_space_add(space, &region, &err);
	cr_assert_eq(code, -EINVAL);
	assert_message(&err, code);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, region_of_a_newer_caller_that_asks_for_more_is_refused)
{
	struct {
		struct tenon_space_region known;
		uint64_t later;
	} region = {.known = region_at(0, MIB), .later = 1};
	region.known.size = sizeof(region);
	struct tenon_space *space = new_space();
	struct tenon_error err = {0};
	int code = tenon_space_add(space, &region.known, &err);
	cr_assert(code == -E2BIG || code == -EINVAL, "got %d", code);
	assert_message(&err, code);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, misaligned_or_empty_regions_are_refused)
{
	static const struct {
		uint64_t gpa, size_bytes;
	} bad[] = {{0x800, MIB}, {0, 0x800}, {0, 0}, {UINT64_MAX - 4095, 2 * 4096}};
	struct tenon_space *space = new_space();
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct tenon_error err = {0};
		int code = add(space, bad[i].gpa, bad[i].size_bytes, &err);
		cr_assert_eq(code, -EINVAL, "case %u gave %d", i, code);
		assert_message(&err, code);
	}
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, memory_without_an_aligned_address_in_the_process_is_refused)
{
	struct tenon_space *space = new_space();
	struct tenon_space_region region = region_at(0, MIB);
	region.hva = (uint8_t *)region.hva + 16;
	cr_assert_eq(tenon_space_add(space, &region, NULL), -EINVAL);
	region.hva = NULL;
	cr_assert_eq(tenon_space_add(space, &region, NULL), -EINVAL);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, overlapping_regions_are_refused)
{
	struct tenon_space *space = new_space();
	cr_assert_eq(add(space, 4 * MIB, 4 * MIB, NULL), 0);
	static const struct {
		uint64_t gpa, size_bytes;
	} over[] = {{4 * MIB, 4 * MIB}, {7 * MIB, 2 * MIB}, {3 * MIB, 2 * MIB}, {5 * MIB, MIB}, {0, 32 * MIB}};
	for (unsigned i = 0; i < sizeof(over) / sizeof(over[0]); i++) {
		struct tenon_error err = {0};
		int code = add(space, over[i].gpa, over[i].size_bytes, &err);
		cr_assert_eq(code, -EEXIST, "case %u gave %d", i, code);
		assert_message(&err, code);
	}
	cr_assert_eq(add(space, 3 * MIB, MIB, NULL), 0);
	cr_assert_eq(add(space, 8 * MIB, MIB, NULL), 0);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, overlap_is_found_at_the_last_address_there_is)
{
	struct tenon_space *space = new_space();
	cr_assert_eq(add(space, UINT64_MAX - 2 * MIB + 1, 2 * MIB, NULL), 0);
	cr_assert_eq(add(space, UINT64_MAX - MIB + 1, MIB, NULL), -EEXIST);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, too_many_regions_are_refused_in_words)
{
	struct tenon_space *space = new_space();
	struct tenon_error err = {0};
	int code = 0;
	for (unsigned i = 0; i < 1000 && code == 0; i++)
		code = add(space, i * 2 * MIB, MIB, &err);
	cr_assert_eq(code, -ENOSPC);
	assert_message(&err, code);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, memory_added_before_the_first_device_is_mapped_when_it_joins)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert(fake_dma_reaches(fixture.fake, 0, true));
	cr_assert(fake_dma_reaches(fixture.fake, RAM_BYTES - 1, true));
	cr_assert(!fake_dma_reaches(fixture.fake, RAM_BYTES, false));
	fixture_close(&fixture);
}

Test(space, memory_added_beside_a_device_is_mapped_at_once)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(add(fixture.space, 16 * MIB, MIB, NULL), 0);
	cr_assert(fake_dma_reaches(fixture.fake, 16 * MIB, true));
	fixture_close(&fixture);
}

Test(space, removed_memory_is_out_of_reach)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(add(fixture.space, 16 * MIB, MIB, NULL), 0);
	cr_assert_eq(tenon_space_remove(fixture.space, 16 * MIB, MIB, NULL), 0);
	cr_assert(!fake_dma_reaches(fixture.fake, 16 * MIB, false));
	cr_assert(fake_dma_reaches(fixture.fake, 0, true));
	fixture_close(&fixture);
}

Test(space, only_a_region_that_was_added_can_be_removed)
{
	struct tenon_space *space = new_space();
	cr_assert_eq(add(space, 0, 2 * MIB, NULL), 0);
	struct tenon_error err = {0};
	int code = tenon_space_remove(space, 0, MIB, &err);
	cr_assert_eq(code, -ENOENT);
	assert_message(&err, code);
	cr_assert_eq(tenon_space_remove(space, MIB, MIB, NULL), -ENOENT);
	cr_assert_eq(tenon_space_remove(space, 0, 2 * MIB, NULL), 0);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, memory_that_cannot_be_unmapped_is_kept)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fake_fail_kind(FAKE_IOAS_UNMAP, 1, EBUSY);
	int code = tenon_space_remove(fixture.space, 0, RAM_BYTES, &fixture.err);
	cr_assert_eq(code, -EBUSY);
	assert_message(&fixture.err, code);
	cr_assert_eq(tenon_space_remove(fixture.space, 0, RAM_BYTES, NULL), 0);
	cr_assert(!fake_dma_reaches(fixture.fake, 0, false));
	fixture_close(&fixture);
}

Test(space, read_only_memory_cannot_be_written_by_devices)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_space_region region = region_at(16 * MIB, MIB);
	region.read_only = true;
	cr_assert_eq(tenon_space_add(fixture.space, &region, NULL), 0);
	cr_assert(fake_dma_reaches(fixture.fake, 16 * MIB, false));
	cr_assert(!fake_dma_reaches(fixture.fake, 16 * MIB, true));
	fixture_close(&fixture);
}

Test(space, memory_over_the_reserved_range_is_refused_with_the_range)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	int code = add(fixture.space, 0xfe000000, 16 * MIB, &fixture.err);
	cr_assert_eq(code, -ERANGE);
	assert_message(&fixture.err, code);
	cr_assert(strstr(fixture.err.message, "0xfee00000"), "%s", fixture.err.message);
	cr_assert(strstr(fixture.err.message, "0xfeefffff"), "%s", fixture.err.message);
	cr_assert(!fake_dma_reaches(fixture.fake, 0xfe000000, false));
	fixture_close(&fixture);
}

Test(space, memory_beyond_the_iommu_is_refused)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	int code = add(fixture.space, 0x8000000000, MIB, &fixture.err);
	cr_assert_eq(code, -ERANGE);
	assert_message(&fixture.err, code);
	cr_assert_eq(add(fixture.space, 0x8000000000 - MIB, MIB, NULL), 0);
	fixture_close(&fixture);
}

Test(space, memory_on_both_sides_of_the_reserved_range_is_mapped)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(add(fixture.space, 0xfed00000, MIB, NULL), 0);
	cr_assert_eq(add(fixture.space, 0xfef00000, MIB, NULL), 0);
	fixture_close(&fixture);
}

Test(space, device_is_refused_when_memory_that_was_there_before_overlaps_the_reserved_range)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	cr_assert_eq(add(fixture.space, 0xfe000000, 16 * MIB, NULL), 0);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, -ERANGE);
	assert_message(&fixture.err, code);
	cr_assert_eq(fake_dma_mappings(), 0);

	/* The VMM takes the memory away and tries again. */
	cr_assert_eq(tenon_space_remove(fixture.space, 0xfe000000, 16 * MIB, NULL), 0);
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	cr_assert(fake_dma_reaches(fake, 0, true));
	fixture_close(&fixture);
}

Test(space, second_device_whose_reserved_range_is_guest_memory_is_refused)
{
	struct fixture fixture;
	struct fake_device *second = fake_edu("0000:04:00.0");
	second->reserved_first = 0x100000;
	second->reserved_last = 0x1fffff;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	struct fake_host host;
	struct tenon_device_options options = other_host(&fixture, &host, second);
	struct tenon_device *device = NULL;
	int code = tenon_device_open(&options, &device, &fixture.err);
	cr_assert_eq(code, -EADDRINUSE);
	assert_message(&fixture.err, code);
	cr_assert(fake_dma_reaches(fixture.fake, 0x100000, true));
	fixture_close(&fixture);
}

Test(space, lock_limit_that_is_too_low_is_refused_with_numbers)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fake_set_memlock(8 * MIB);
	int code = add(fixture.space, 16 * MIB, 16 * MIB, &fixture.err);
	cr_assert_eq(code, -ENOMEM);
	assert_message(&fixture.err, code);
	cr_assert(strstr(fixture.err.message, "18432"), "18 MiB in KiB, the limit needed, is missing: %s",
		  fixture.err.message);
	cr_assert(strstr(fixture.err.message, "8192"), "the limit in KiB is missing: %s", fixture.err.message);
	cr_assert_eq(fake_dma_mappings(), 1);
	fixture_close(&fixture);
}

Test(space, lock_limit_is_checked_before_the_first_device_pins_anything)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	fake_set_memlock(65536);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, -ENOMEM);
	assert_message(&fixture.err, code);
	cr_assert_eq(fake_calls(FAKE_IOAS_MAP), 0);
	fixture_close(&fixture);
}

Test(space, failed_mapping_is_not_remembered)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fake_fail_kind(FAKE_IOAS_MAP, 1, ENOMEM);
	int code = add(fixture.space, 16 * MIB, MIB, &fixture.err);
	cr_assert_eq(code, -ENOMEM);
	assert_message(&fixture.err, code);
	cr_assert_eq(tenon_space_remove(fixture.space, 16 * MIB, MIB, NULL), -ENOENT);
	cr_assert_eq(add(fixture.space, 16 * MIB, MIB, NULL), 0);
	fixture_close(&fixture);
}

Test(space, partial_failure_rolls_back)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	cr_assert_eq(add(fixture.space, 16 * MIB, MIB, NULL), 0);
	cr_assert_eq(add(fixture.space, 32 * MIB, MIB, NULL), 0);
	fake_fail_kind(FAKE_IOAS_MAP, 3, ENOMEM);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, -ENOMEM);
	assert_message(&fixture.err, code);
	cr_assert_eq(fake_dma_mappings(), 0);

	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	cr_assert_eq(fake_dma_mappings(), 3);
	fixture_close(&fixture);
}

/* ---- Checking before populating ---- */

Test(space, check_accepts_what_add_would)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	const struct tenon_space_region regions[] = {region_at(16 * MIB, MIB), region_at(17 * MIB, MIB)};
	fake_calls_forget();
	int code = tenon_space_check(fixture.space, regions, 2, &fixture.err);
	cr_assert_eq(code, 0, "%s", fixture.err.message);
	cr_assert_eq(fake_calls(FAKE_IOAS_MAP), 0);
	cr_assert_eq(tenon_space_add(fixture.space, &regions[0], NULL), 0);
	fixture_close(&fixture);
}

Test(space, check_refuses_the_reserved_range)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	const struct tenon_space_region regions[] = {region_at(16 * MIB, MIB), region_at(0xfe000000, 16 * MIB)};
	int code = tenon_space_check(fixture.space, regions, 2, &fixture.err);
	cr_assert_eq(code, -ERANGE);
	assert_message(&fixture.err, code);
	fixture_close(&fixture);
}

Test(space, check_refuses_regions_that_overlap_what_is_there)
{
	struct tenon_space *space = new_space();
	cr_assert_eq(add(space, 0, MIB, NULL), 0);
	const struct tenon_space_region regions[] = {region_at(MIB, MIB), region_at(0, MIB)};
	struct tenon_error err = {0};
	int code = tenon_space_check(space, regions, 2, &err);
	cr_assert_eq(code, -EEXIST);
	assert_message(&err, code);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, check_refuses_regions_that_overlap_each_other)
{
	struct tenon_space *space = new_space();
	const struct tenon_space_region regions[] = {region_at(0, 2 * MIB), region_at(4 * MIB, MIB),
						     region_at(MIB, MIB)};
	struct tenon_error err = {0};
	int code = tenon_space_check(space, regions, 3, &err);
	cr_assert_eq(code, -EEXIST, "got %d", code);
	assert_message(&err, code);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, check_refuses_more_regions_than_there_is_room_for)
{
	enum { MANY = 1000 };
	static struct tenon_space_region regions[MANY];
	for (unsigned i = 0; i < MANY; i++)
		regions[i] = region_at(i * 2 * MIB, MIB);
	struct tenon_space *space = new_space();
	struct tenon_error err = {0};
	int code = tenon_space_check(space, regions, MANY, &err);
	cr_assert_eq(code, -ENOSPC, "got %d", code);
	assert_message(&err, code);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, check_steps_over_what_a_newer_caller_s_regions_have_more)
{
	struct {
		struct tenon_space_region known;
		uint64_t later;
	} regions[2] = {{.known = region_at(0, MIB)}, {.known = region_at(MIB, MIB)}};
	regions[0].known.size = regions[1].known.size = sizeof(regions[0]);
	struct tenon_space *space = new_space();
	cr_assert_eq(tenon_space_check(space, &regions[0].known, 2, NULL), 0);
	regions[1].known.gpa = 0x1000;
	cr_assert_eq(tenon_space_check(space, &regions[0].known, 2, NULL), -EEXIST);
	tenon_space_destroy(space);
}

Test(space, check_adds_all_regions_up_for_the_lock_limit)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fake_set_memlock(20 * MIB);
	const struct tenon_space_region regions[] = {region_at(16 * MIB, 10 * MIB), region_at(32 * MIB, 10 * MIB)};
	cr_assert_eq(tenon_space_check(fixture.space, regions, 1, NULL), 0);
	int code = tenon_space_check(fixture.space, regions, 2, &fixture.err);
	cr_assert_eq(code, -ENOMEM);
	assert_message(&fixture.err, code);
	fixture_close(&fixture);
}

/* ---- Allowed addresses, sharing ---- */

Test(space, everything_is_allowed_before_the_first_device)
{
	struct tenon_space *space = new_space();
	struct tenon_iova_range ranges[4];
	cr_assert_eq(tenon_space_allowed(space, ranges, 4, NULL), 1);
	cr_assert_eq(ranges[0].first, 0);
	cr_assert_eq(ranges[0].last, UINT64_MAX);
	tenon_space_destroy(space);
	assert_no_heap_leak();
}

Test(space, allowed_ranges_leave_the_message_window_out)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_iova_range ranges[4];
	cr_assert_eq(tenon_space_allowed(fixture.space, ranges, 4, NULL), 2);
	cr_assert_eq(ranges[0].first, 0);
	cr_assert_eq(ranges[0].last, 0xfedfffff);
	cr_assert_eq(ranges[1].first, 0xfef00000);
	cr_assert_eq(ranges[1].last, 0x7fffffffff);
	fixture_close(&fixture);
}

Test(space, number_of_allowed_ranges_may_exceed_the_room)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	struct tenon_iova_range ranges[2] = {{.first = 7}, {.first = 7}};
	cr_assert_eq(tenon_space_allowed(fixture.space, ranges, 1, NULL), 2);
	cr_assert_eq(ranges[0].last, 0xfedfffff);
	cr_assert_eq(ranges[1].first, 7);
	cr_assert_eq(tenon_space_allowed(fixture.space, NULL, 0, NULL), 2);
	fixture_close(&fixture);
}

Test(space, devices_share_one_address_space)
{
	struct fixture fixture;
	struct fake_device *second = fake_edu("0000:04:00.0");
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	struct fake_host host;
	struct tenon_device_options options = other_host(&fixture, &host, second);
	struct tenon_device *device;
	cr_assert_eq(tenon_device_open(&options, &device, NULL), 0);
	cr_assert_eq(fake_ioas_count(), 1);
	cr_assert_eq(second->ioas, fixture.fake->ioas);
	cr_assert_eq(fake_dma_mappings(), 1);
	tenon_device_close(device);
	cr_assert(fake_dma_reaches(fixture.fake, 0, true));
	fixture_close(&fixture);
}

Test(space, borrowed_iommufd_is_used_and_stays_open)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	int iommufd = kernel_open("/dev/iommu", 2);
	struct fixture fixture;
	fixture_init(&fixture);
	tenon_space_destroy(fixture.space);
	const struct tenon_space_options space_options = {.size = sizeof(space_options), .iommufd = iommufd};
	cr_assert_eq(tenon_space_create(&space_options, &fixture.space, NULL), 0);
	fake_calls_forget();
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	cr_assert_eq(fake_calls(FAKE_OPEN), 1, "the device is opened, /dev/iommu is not");
	tenon_device_close(fixture.device);
	tenon_space_destroy(fixture.space);
	cr_assert_eq(fake_ioas_count(), 0);
	cr_assert_eq(fake_open_files(), 1);
	kernel_close(iommufd);
	assert_nothing_left(&fixture);
}

Test(space, missing_iommufd_is_refused_with_the_option_that_is_missing)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_set_iommufd(false);
	struct fixture fixture;
	fixture_init(&fixture);
	tenon_space_destroy(fixture.space);
	const struct tenon_space_options space_options = {.size = sizeof(space_options),
							  .interface = TENON_INTERFACE_IOMMUFD};
	cr_assert_eq(tenon_space_create(&space_options, &fixture.space, NULL), 0);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, -ENOENT);
	assert_message(&fixture.err, code);
	cr_assert(strstr(fixture.err.message, "CONFIG_IOMMUFD"), "%s", fixture.err.message);
	fixture_close(&fixture);
}
