// SPDX-License-Identifier: MIT
/*
 * Set-up and tear-down of the library's tests, and a guest's accesses. Asserts with Criterion.
 */
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "vfio_fixture.h"

void *fixture_ram(void)
{
	static void *memory;
	if (!memory) {
		memory = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		cr_assert_neq(memory, MAP_FAILED);
	}
	return memory;
}

void fixture_init(struct fixture *fixture)
{
	memset(fixture, 0, sizeof(*fixture));
	host_init(&fixture->host);
	int code = tenon_space_create(NULL, &fixture->space, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	const struct tenon_space_region region = {
		.size = sizeof(region), .gpa = 0, .size_bytes = RAM_BYTES, .hva = fixture_ram()};
	code = tenon_space_add(fixture->space, &region, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
}

struct tenon_device_options fixture_options(struct fixture *fixture, const struct fake_device *fake)
{
	return (struct tenon_device_options){
		.size = sizeof(struct tenon_device_options),
		.address = fake ? fake->bdf : NULL,
		.space = fixture->space,
		.ops = &fixture->host.ops,
		.host = &fixture->host,
		.slot = TENON_SLOT_ROOT_PORT,
	};
}

void fixture_open(struct fixture *fixture, struct fake_device *fake)
{
	fixture_init(fixture);
	fixture->fake = fake;
	const struct tenon_device_options options = fixture_options(fixture, fake);
	int code = tenon_device_open(&options, &fixture->device, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	fixture->host.device = fixture->device;
	fake_calls_forget();
	fake_journal_forget();
}

void fixture_open_placed(struct fixture *fixture, struct fake_device *fake)
{
	fixture_open(fixture, fake);
	guest_place(fixture);
	fake_calls_forget();
	fake_journal_forget();
}

void fixture_open_without_intx(struct fixture *fixture, struct fake_device *fake)
{
	fixture_open(fixture, fake);
	guest_command(fixture, PCI_COMMAND_INTX_DISABLE, 0);
	guest_place(fixture);
	fake_calls_forget();
	fake_journal_forget();
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_LEAK_CHECK 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(HAS_LEAK_CHECK)
#include <sanitizer/lsan_interface.h>

/* At exit it would be too late: the test has passed by then. */
void assert_no_heap_leak(void)
{
	cr_assert_eq(__lsan_do_recoverable_leak_check(), 0, "memory is lost");
}
#else
void assert_no_heap_leak(void)
{
}
#endif

void assert_nothing_left(const struct fixture *fixture)
{
	assert_no_heap_leak();
	cr_assert_str_empty(fake_leftovers(), "%s", fake_leftovers());
	cr_assert_str_empty(host_leftovers(&fixture->host), "%s", host_leftovers(&fixture->host));
}

void fixture_close(struct fixture *fixture)
{
	fixture->host.device = NULL;
	tenon_device_close(fixture->device);
	tenon_space_destroy(fixture->space);
	fixture->device = NULL;
	fixture->space = NULL;
	assert_nothing_left(fixture);
}

void assert_message(const struct tenon_error *err, int code)
{
	const char *text = err->message;
	cr_assert_lt(code, 0);
	cr_assert_eq(err->code, code, "code %d, but the error holds %d: %s", code, err->code, text);
	cr_assert(strstr(text, ": "), "no object before the cause: %s", text);
	cr_assert(strstr(text, "; "), "no advice: %s", text);
	cr_assert(!strchr(text, '\n'), "more than a line: %s", text);
	cr_assert_neq(text[strlen(text) - 1], '.', "a full stop: %s", text);
}

uint32_t guest_config(struct fixture *fixture, unsigned offset, unsigned size_bytes)
{
	return tenon_device_config_read(fixture->device, offset, size_bytes);
}

void guest_config_write(struct fixture *fixture, unsigned offset, unsigned size_bytes, uint32_t value)
{
	tenon_device_config_write(fixture->device, offset, size_bytes, value);
}

unsigned guest_capability(struct fixture *fixture, uint8_t id)
{
	if (!(guest_config(fixture, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
		return 0;
	unsigned at = guest_config(fixture, PCI_CAPABILITY_LIST, 1);
	for (unsigned hops = 0; at; hops++) {
		cr_assert_lt(hops, 64, "the guest's capability list does not end");
		cr_assert_geq(at, 0x40, "a capability at 0x%x, inside the header", at);
		if (guest_config(fixture, at, 1) == id)
			return at;
		at = guest_config(fixture, at + 1, 1);
	}
	return 0;
}

unsigned guest_capability_extended(struct fixture *fixture, uint16_t id)
{
	unsigned at = 0x100;
	for (unsigned hops = 0; at; hops++) {
		cr_assert_lt(hops, 1024, "the guest's extended capability list does not end");
		cr_assert_geq(at, 0x100, "an extended capability at 0x%x", at);
		uint32_t header = guest_config(fixture, at, 4);
		if (PCI_EXT_CAP_ID(header) == id && header)
			return at;
		at = PCI_EXT_CAP_NEXT(header);
	}
	return 0;
}

void guest_command(struct fixture *fixture, uint16_t set, uint16_t clear)
{
	uint32_t command = guest_config(fixture, PCI_COMMAND, 2);
	guest_config_write(fixture, PCI_COMMAND, 2, (command & ~(uint32_t)clear) | set);
}

void guest_place(struct fixture *fixture)
{
	guest_config_write(fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA);
	if (guest_config(fixture, PCI_BASE_ADDRESS_0, 4) & PCI_BASE_ADDRESS_MEM_TYPE_64)
		guest_config_write(fixture, PCI_BASE_ADDRESS_1, 4, 0);
	guest_command(fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
}

uint64_t guest_bar(struct fixture *fixture, unsigned bar, uint64_t offset, unsigned size_bytes)
{
	uint64_t value = 0;
	tenon_device_bar_read(fixture->device, bar, offset, &value, size_bytes);
	return value;
}

void guest_bar_write(struct fixture *fixture, unsigned bar, uint64_t offset, unsigned size_bytes, uint64_t value)
{
	tenon_device_bar_write(fixture->device, bar, offset, &value, size_bytes);
}

static uint64_t entry_of(unsigned vector)
{
	return FAKE_NVME_TABLE + (uint64_t)vector * PCI_MSIX_ENTRY_SIZE;
}

void guest_msix_mask(struct fixture *fixture, unsigned vector, bool masked)
{
	guest_bar_write(fixture, 0, entry_of(vector) + PCI_MSIX_ENTRY_VECTOR_CTRL, 4,
			masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

void guest_msix_vector(struct fixture *fixture, unsigned vector, uint32_t data, bool masked)
{
	guest_bar_write(fixture, 0, entry_of(vector) + PCI_MSIX_ENTRY_LOWER_ADDR, 4, MESSAGE_ADDRESS);
	guest_bar_write(fixture, 0, entry_of(vector) + PCI_MSIX_ENTRY_UPPER_ADDR, 4, 0);
	guest_bar_write(fixture, 0, entry_of(vector) + PCI_MSIX_ENTRY_DATA, 4, data);
	guest_msix_mask(fixture, vector, masked);
}

void guest_msix_control(struct fixture *fixture, bool enable, bool function_mask)
{
	unsigned at = guest_capability(fixture, PCI_CAP_ID_MSIX);
	cr_assert_neq(at, 0, "the guest finds no MSI-X capability");
	guest_config_write(fixture, at + PCI_MSIX_FLAGS, 2,
			   (enable ? PCI_MSIX_FLAGS_ENABLE : 0) | (function_mask ? PCI_MSIX_FLAGS_MASKALL : 0));
}

bool guest_msix_pending(struct fixture *fixture, unsigned vector)
{
	return guest_bar(fixture, 0, FAKE_NVME_PBA + vector / 64 * 8, 8) >> (vector % 64) & 1;
}
