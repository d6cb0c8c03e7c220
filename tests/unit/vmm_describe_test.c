// SPDX-License-Identifier: MIT
/* Machines as they describe themselves to each other: each thing that a guest relies on and that differs is named, with what to do. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture_file.h"
#include "layout.h"
#include "migrate/describe.h"
#include "migrate/profile.h"

/* ---- Profiles: a device on the root bus, one behind a port, an empty port, and a bridge with one ---- */

static struct profile source, here, got;

static void make(struct profile *profile)
{
	static const uint8_t cpuid[] = {0x00, 0x7f, 0x80, 0xff};
	*profile = (struct profile){
		.memory = {{0, 1ull << 30}, {LAYOUT_RAM_ABOVE_4G, 1ull << 30}},
		.memory_count = 2,
		.cpus = 4,
		.address_bits = 46,
		.cpuid = malloc(sizeof(cpuid)),
		.cpuid_bytes = sizeof(cpuid),
		.rom_bytes = 0x10000,
		.rom_sum = 0xfedcba9876543210,
		.exit_device = true,
		.layout = 1,
		.buses = 5,
		.bridges = {{.device = 3, .slot = true, .isolated = true, .bus_reset = true},
			    {.device = 4, .slot = true},
			    {.device = 5, .conventional = true, .bus_reset = true}},
		.bridge_count = 3,
		.device_count = 3,
	};
	cr_assert(profile->cpuid);
	memcpy(profile->cpuid, cpuid, sizeof(cpuid));
	for (unsigned i = 0; i < 3; i++) {
		struct profile_device *device = &profile->devices[i];
		snprintf(device->name, sizeof(device->name), "0000:%02x:00.0", 0x10 + i);
		device->device = i ? 2 + i + (i == 2) : 2;
		device->bridge = i > 0;
		device->devfn = i == 2 ? 0x21 : 0;
		device->vendor_id = 0x8086;
		device->device_id = (uint16_t)(0x1000 + i);
		device->subsystem_vendor_id = 0x1af4;
		device->subsystem_id = 0x1100;
		device->class_code = 0x020000;
		device->pcie = i < 2;
		device->intx_pin = 1;
		device->msi_vectors = 32;
		device->msix_vectors = 2048;
		device->bars[0] =
			(struct profile_bar){.size_bytes = 1ull << 40, .is_64bit = true, .prefetchable = true};
		device->bars[5] = (struct profile_bar){.size_bytes = 32, .io = true};
		device->rom_bytes = 0x80000;
		device->migratable = device->p2p = device->pre_copy = true;
	}
}

static void make_both(void)
{
	make(&source);
	make(&here);
	got = (struct profile){0};
}

static void finish_both(void)
{
	profile_finish(&source);
	profile_finish(&here);
	profile_finish(&got);
}

TestSuite(profile, .init = make_both, .fini = finish_both);

Test(profile, comes_back_from_its_text)
{
	struct tenon_error err = {0};
	char *text = NULL, *again = NULL;
	cr_assert_eq(profile_write(&source, &text, &err), 0, "%s", err.message);
	cr_assert_eq(profile_read(text, strlen(text), &got, &err), 0, "%s", err.message);
	cr_assert_eq(profile_write(&got, &again, &err), 0, "%s", err.message);
	cr_expect_str_eq(text, again);
	cr_expect_eq(profile_compare(&got, &here, NULL, &err), 0, "%s", err.message);
	cr_expect_eq(got.rom_sum, here.rom_sum);
	cr_assert_eq(got.cpuid_bytes, here.cpuid_bytes);
	cr_expect_arr_eq((uint8_t *)got.cpuid, (uint8_t *)here.cpuid, here.cpuid_bytes);
	cr_expect(strstr(text, "\"tenon\":\""), "%s", text);
	free(text);
	free(again);
}

/* tests/fixtures/README.md. The text has the name of the version that wrote it, so that another version's is not the same. */
Test(profile, of_version_1_is_read)
{
	static struct fixture_file file;
	struct tenon_error err = {0};
	char *text = NULL, *again = NULL;
	cr_assert_eq(profile_write(&source, &text, &err), 0, "%s", err.message);
	fixture_make("v1/description", text, strlen(text));
	fixture_read("v1/description", &file);
	cr_assert_eq(profile_read((const char *)file.data, file.bytes, &got, &err), 0, "%s", err.message);
	cr_expect_eq(profile_compare(&got, &here, NULL, &err), 0, "%s", err.message);
	cr_assert_eq(profile_write(&got, &again, &err), 0, "%s", err.message);
	cr_expect_str_eq(text, again);
	free(text);
	free(again);
}

Test(profile, of_the_largest_machine_fits)
{
	struct tenon_error err = {0};
	char *text = NULL;
	free(source.cpuid);
	source.cpuid_bytes = PROFILE_CPUID_MAX;
	source.cpuid = calloc(1, PROFILE_CPUID_MAX);
	cr_assert(source.cpuid);
	for (unsigned i = 0; i < SLOTS_MAX; i++) {
		source.devices[i] = source.devices[0];
		memset(source.devices[i].name, 'x', PROFILE_ADDRESS_MAX - 1);
	}
	for (unsigned i = 0; i < PCI_BRIDGES_MAX; i++)
		source.bridges[i] = source.bridges[0];
	source.device_count = SLOTS_MAX;
	source.bridge_count = PCI_BRIDGES_MAX;
	cr_assert_eq(profile_write(&source, &text, &err), 0, "%s", err.message);
	cr_expect_leq(strlen(text), PROFILE_TEXT_MAX);
	cr_expect_eq(profile_read(text, strlen(text), &got, &err), 0, "%s", err.message);
	cr_expect_eq(got.device_count, SLOTS_MAX);
	free(text);
}

/* ---- Differences ---- */

static void expect(const char *message)
{
	struct tenon_error err = {0};
	cr_expect_eq(profile_compare(&source, &here, NULL, &err), -EINVAL, "%s", message);
	cr_expect(strncmp(err.message, message, strlen(message)) == 0, "\n%s\nis not\n%s", err.message, message);
	cr_expect(strstr(err.message, "; "), "what to do: %s", err.message);
	cr_expect(!strstr(err.message, " more difference"), "%s", err.message);
	finish_both();
	make_both();
}

Test(profile, differences_of_the_machine_are_named)
{
	here.memory[1].size_bytes >>= 1;
	expect("memory: the source has 2048 MiB, this machine 1536; start it with --memory 2048M");
	here.memory[0].size_bytes += 1 << 20;
	here.memory[1].size_bytes -= 1 << 20;
	expect("memory: it is not at the same guest addresses");
	here.memory[1].first <<= 1;
	expect("memory: it is not at the same guest addresses");
	here.cpus = 2;
	expect("CPUs: the source has 4, this machine 2; start it with --cpus 4");
	here.address_bits = 39;
	expect("CPUs: the source's guest has physical addresses of 46 bits, this host's CPUs 39;");
	here.rom_bytes = 0;
	expect("firmware: the source has one, this machine none; start it with the source's --firmware");
	source.rom_bytes = 0;
	expect("firmware: the source has none, this machine one; start it without --firmware");
	here.rom_bytes = 0x8000;
	expect("firmware: the source's has 65536 bytes and checksum fedcba9876543210, this machine's 32768 and");
	here.rom_sum = 1;
	expect("firmware: the source's has 65536 bytes and checksum fedcba9876543210, this machine's 65536 and "
	       "0000000000000001;");
	here.exit_device = false;
	expect("exit device: the source has one, this machine none; start this machine with --exit-device");
	source.exit_device = false;
	expect("exit device: the source has none, this machine one; start this machine without --exit-device");
	here.layout = 2;
	expect("guest addresses: the source has those of version 1, this machine of 2;");
	here.buses = 4;
	expect("PCI buses: the source has 5, this machine 4; start it with as many --device and --hotplug-ports");
}

Test(profile, differences_of_bridges_are_named)
{
	here.bridge_count = 2;
	expect("conventional bridge 00:05.0: is at the source, and not here; start this machine with the device behind "
	       "it as --device ADDRESS,slot=5,");
	here.bridges[1] = here.bridges[2];
	here.bridge_count = 2;
	expect("root port 00:04.0: is at the source, and not here; start this machine with the device behind it as "
	       "--device ADDRESS,port=4, or with --hotplug-ports");
	source.bridges[1] = source.bridges[2];
	source.bridge_count = 2;
	expect("root port 00:04.0: is here, and not at the source;");
	here.bridges[2].conventional = false;
	expect("00:05.0: is a conventional bridge at the source and a root port here;");
	here.bridges[0].slot = false;
	expect("root port 00:03.0: a hot-plug slot at the source, and not here;");
	source.bridges[0].isolated = false;
	expect("root port 00:03.0: access control (ACS) here, and not at the source;");
	here.bridges[1].ari = true;
	expect("root port 00:04.0: function numbers above 7 (ARI) here, and not at the source;");
	here.bridges[0].bus_reset = false;
	expect("root port 00:03.0: the source's guest may reset its bus, and this host cannot do that;");
}

Test(profile, a_bus_reset_that_is_only_here_is_no_difference)
{
	struct tenon_error err = {0};
	source.bridges[0].bus_reset = false;
	cr_expect_eq(profile_compare(&source, &here, NULL, &err), 0, "%s", err.message);
}

Test(profile, differences_of_devices_are_named)
{
	here.device_count = 2;
	expect("device at 00:05.0 > 04.1: the source has 0000:12:00.0 there, this machine nothing; start it with "
	       "--device ADDRESS,slot=5");
	here.devices[1] = here.devices[2];
	here.device_count = 2;
	expect("device at 00:03.0 > 00.0: the source has 0000:11:00.0 there, this machine nothing; start it with "
	       "--device ADDRESS,port=3");
	source.device_count = 2;
	expect("device 0000:12:00.0 at 00:05.0 > 04.1: the source has nothing there; start this machine without it");
	here.devices[0].vendor_id = 0x15b3;
	expect("device 0000:10:00.0 at 00:02.0: the vendor id is 0x8086 at the source (0000:10:00.0), and 0x15b3 "
	       "here;");
	here.devices[0].device_id = 1;
	expect("device 0000:10:00.0 at 00:02.0: the device id is 0x1000 at the source");
	here.devices[0].subsystem_vendor_id = 1;
	expect("device 0000:10:00.0 at 00:02.0: the subsystem vendor id is 0x1af4 at the source");
	here.devices[0].subsystem_id = 1;
	expect("device 0000:10:00.0 at 00:02.0: the subsystem id is 0x1100 at the source");
	here.devices[0].class_code = 0x010802;
	expect("device 0000:10:00.0 at 00:02.0: the class is 0x20000 at the source (0000:10:00.0), and 0x10802 here;");
	here.devices[0].pcie = false;
	expect("device 0000:10:00.0 at 00:02.0: its being PCI Express is 0x1 at the source");
	here.devices[0].intx_pin = 2;
	expect("device 0000:10:00.0 at 00:02.0: the interrupt pin is 0x1 at the source");
	here.devices[0].msi_vectors = 1;
	expect("device 0000:10:00.0 at 00:02.0: the number of MSI vectors is 0x20 at the source");
	here.devices[0].msix_vectors = 1;
	expect("device 0000:10:00.0 at 00:02.0: the number of MSI-X vectors is 0x800 at the source");
	here.devices[0].bars[0].size_bytes = 0x1000;
	expect("device 0000:10:00.0 at 00:02.0: the size of BAR 0 is 0x10000000000 at the source (0000:10:00.0), and "
	       "0x1000 here;");
	here.devices[0].bars[0].prefetchable = false;
	expect("device 0000:10:00.0 at 00:02.0: the kind of BAR 0 is 0xc at the source");
	here.devices[0].bars[0].is_64bit = false;
	expect("device 0000:10:00.0 at 00:02.0: the kind of BAR 0 is 0xc at the source");
	here.devices[0].bars[5].io = false;
	expect("device 0000:10:00.0 at 00:02.0: the kind of BAR 5 is 0x1 at the source");
	here.devices[0].rom_bytes = 0;
	expect("device 0000:10:00.0 at 00:02.0: the size of its expansion ROM is 0x80000 at the source");
}

Test(profile, a_device_that_cannot_be_loaded_here_is_named_with_its_reason)
{
	here.devices[1].migratable = false;
	strcpy(here.devices[1].why, "its driver cannot save it; use another");
	expect("device 0000:11:00.0 at 00:03.0 > 00.0: cannot be loaded: its driver cannot save it; use another");
	here.devices[1].p2p = false;
	expect("device 0000:11:00.0 at 00:03.0 > 00.0: cannot stop its DMA while the others still answer");
}

Test(profile, what_each_host_may_have_of_its_own_is_no_difference)
{
	struct tenon_error err = {0};
	struct profile_device first = here.devices[0];
	strcpy(here.devices[2].name, "vfio-user:/run/other.sock");
	here.devices[0].pre_copy = false;
	here.address_bits = 52;
	here.devices[0] = here.devices[2]; /* the order in which they are listed */
	here.devices[2] = first;
	cr_expect_eq(profile_compare(&source, &here, NULL, &err), 0, "%s", err.message);
	source.device_count = here.device_count = 1; /* alone: nobody to answer */
	here.devices[0] = source.devices[0];
	here.devices[0].p2p = false;
	cr_expect_eq(profile_compare(&source, &here, NULL, &err), 0, "%s", err.message);
}

Test(profile, the_first_difference_is_told_and_the_others_are_counted)
{
	struct tenon_error err = {0};
	here.cpus = 1;
	cr_expect_eq(profile_compare(&source, &here, "CPU: feature x is missing; go elsewhere", &err), -EINVAL);
	cr_expect(strstr(err.message, "--cpus 4 (and 1 more difference)"), "%s", err.message);
	here.buses = 1;
	here.exit_device = false;
	cr_expect_eq(profile_compare(&source, &here, NULL, &err), -EINVAL);
	cr_expect(strstr(err.message, "--cpus 4 (and 2 more differences)"), "%s", err.message);
	here.cpus = 4;
	cr_expect_eq(profile_compare(&source, &here, "CPU: feature x is missing; go elsewhere", &err), -EINVAL);
	cr_expect_str_eq(err.message, "CPU: feature x is missing; go elsewhere (and 2 more differences)");
}

/* ---- Texts that are none ---- */

static void refuse(const char *text, size_t bytes, const char *why)
{
	struct tenon_error err = {0};
	int code = profile_read(text, bytes, &got, &err);
	cr_expect_lt(code, 0, "%s", why);
	cr_expect(strstr(err.message, why), "\n%s\nis not\n%s", err.message, why);
	cr_expect_null(got.cpuid);
}

/* The text of `source` with one thing in place of another. */
static void refuse_changed(const char *from, const char *to, const char *why)
{
	char *text = NULL, changed[1 << 16];
	cr_assert_eq(profile_write(&source, &text, NULL), 0);
	const char *at = strstr(text, from);
	cr_assert(at, "%s in %s", from, text);
	snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	refuse(changed, strlen(changed), why);
	free(text);
}

Test(profile, texts_of_other_formats_are_refused_by_their_number)
{
	refuse_changed("\"format\":1", "\"format\":2", "is of format 2, and this tenon knows 1; use");
}

Test(profile, texts_with_wrong_members_are_refused_by_name)
{
	refuse_changed("\"format\":1,", "", "\"format\" is missing");
	refuse_changed("\"format\":1,", "\"format\":\"1\",", "\"format\" is missing, or not");
	refuse_changed("\"cpus\":4", "\"cpus\":-4", "\"cpus\" is");
	refuse_changed("\"cpus\":4", "\"cpus\":4.5", "\"cpus\" is");
	refuse_changed("\"cpus\":4", "\"cpus\":99999999999999999999", "\"cpus\" is");
	refuse_changed("\"address_bits\":46", "\"address_bits\":65", "\"address_bits\" is");
	refuse_changed("\"memory\":[", "\"memory\":[{\"first\":0,\"bytes\":0},", "\"memory\" is");
	refuse_changed("\"memory\":[", "\"memory\":[1,", "\"memory\" is");
	refuse_changed("\"bytes\":1073741824", "\"bytes\":1e9", "\"bytes\" is");
	refuse_changed("\"exit_device\":true", "\"exit_device\":1", "\"exit_device\" is");
	refuse_changed("\"sum\":\"fedc", "\"sum\":\"fed", "\"sum\" is");
	refuse_changed("\"sum\":\"fedc", "\"sum\":\"fed-", "\"sum\" is");
	refuse_changed("\"bridges\":[", "\"bridges\":[null,", "\"bridges\" is");
	refuse_changed("\"function\":0", "\"function\":8", "\"function\" is");
	refuse_changed("\"name\":\"0000", "\"name\":\"\\u001b[2J", "\"name\" is");
	refuse_changed("\"name\":\"0000", "\"name\":\"\\u0000", "\"name\" is");
	refuse_changed("\"name\":\"0000",
		       "\"name\":\"0123456789012345678901234567890123456789012345678901234567890123456789",
		       "\"name\" is");
	refuse_changed("\"devfn\":0", "\"devfn\":256", "\"devfn\" is");
	refuse_changed("\"vendor_id\":32902", "\"vendor_id\":65536", "\"vendor_id\" is");
	refuse_changed("\"bars\":[", "\"bars\":[{},", "\"bars\" is");
	refuse_changed("\"cpuid\":\"007f80ff\"", "\"cpuid\":\"007f80f\"", "\"cpuid\" is");
	refuse_changed("\"cpuid\":\"007f80ff\"", "\"cpuid\":\"007f80fg\"", "\"cpuid\" is");
	refuse_changed("\"cpuid\":\"007f80ff\"", "\"cpuid\":\"007f80f\\u0000\"", "\"cpuid\" is");
}

Test(profile, what_later_versions_add_is_no_matter)
{
	struct tenon_error err = {0};
	char *text = NULL, changed[1 << 16];
	cr_assert_eq(profile_write(&source, &text, NULL), 0);
	snprintf(changed, sizeof(changed), "{\"more\":[{\"a\":1}],%s", text + 1);
	cr_expect_eq(profile_read(changed, strlen(changed), &got, &err), 0, "%s", err.message);
	free(text);
}

Test(profile, texts_that_are_no_object_are_refused)
{
	static char large[PROFILE_TEXT_MAX + 1];
	char *text = NULL;
	memset(large, '[', sizeof(large));
	refuse("", 0, "0 bytes");
	refuse(large, sizeof(large), "bytes");
	refuse(large, PROFILE_TEXT_MAX, "no JSON object: nesting too deep");
	refuse("[]", 2, "no JSON object: something else");
	refuse("{} {}", 5, "no JSON object");
	refuse("{}\0{}", 5, "no JSON object");
	refuse("{\"a\":\"\xff\"}", 9, "no JSON object");
	cr_assert_eq(profile_write(&source, &text, NULL), 0);
	for (size_t bytes = 1; bytes < strlen(text); bytes++)
		refuse(text, bytes, "it ends too early");
	free(text);
}

/* ---- Machines, whose CPUs and devices are made up ---- */

struct made_up {
	struct machine machine;
	struct run_options options;
	struct assigned assigned[2];
	uint8_t rom[4096];
};

static struct made_up machine;
static struct tenon_device_info infos[2];
static bool lacks_feature;

unsigned __wrap_cpu_model_physical_bits(const struct cpu_model *model);
int __wrap_tenon_vcpu_cpuid_pack(struct tenon_vcpu *vcpu, void **data, size_t *bytes, struct tenon_error *err);
int __wrap_tenon_vcpu_cpuid_compare(struct tenon_vcpu *vcpu, const void *packed, size_t bytes, struct tenon_error *err);
const struct tenon_device_info *__wrap_tenon_device_info(const struct tenon_device *device);
int __wrap_tenon_device_migration_info(struct tenon_device *device, struct tenon_migration_info *info,
				       struct tenon_error *err);

unsigned __wrap_cpu_model_physical_bits(const struct cpu_model *model)
{
	return 40;
}

int __wrap_tenon_vcpu_cpuid_pack(struct tenon_vcpu *vcpu, void **data, size_t *bytes, struct tenon_error *err)
{
	*data = strdup("GenuineTenon");
	*bytes = strlen("GenuineTenon");
	return *data ? 0 : -ENOMEM;
}

int __wrap_tenon_vcpu_cpuid_compare(struct tenon_vcpu *vcpu, const void *packed, size_t bytes, struct tenon_error *err)
{
	cr_assert_eq(bytes, strlen("GenuineTenon"));
	cr_assert_eq(memcmp(packed, "GenuineTenon", bytes), 0);
	return lacks_feature ? tenon_fail(err, -ENOTSUP, "CPU: lacks avx512f; use a host that has it") : 0;
}

const struct tenon_device_info *__wrap_tenon_device_info(const struct tenon_device *device)
{
	return &infos[(uintptr_t)device - 1];
}

int __wrap_tenon_device_migration_info(struct tenon_device *device, struct tenon_migration_info *info,
				       struct tenon_error *err)
{
	cr_assert_eq(info->size, sizeof(*info));
	info->migratable = info->p2p = true;
	return 0;
}

static void make_machine(void)
{
	const struct pci_bridge_options port = {.kind = PCI_BRIDGE_ROOT_PORT, .number = 1, .slot = true};
	const struct pci_bridge_ops none = {.msi = NULL};
	struct slots *slots = &machine.machine.slots;
	machine.options.cpus = 2;
	machine.machine.options = &machine.options;
	machine.machine.memory.part_count = 1;
	machine.machine.memory.parts[0].size_bytes = 512 << 20;
	machine.machine.rom = (struct rom){machine.rom, sizeof(machine.rom)};
	machine.machine.pci.bus_count = 3;
	slots->count = 2;
	for (unsigned i = 0; i < 2; i++) {
		struct slot *slot = &slots->slot[i];
		snprintf(infos[i].address, sizeof(infos[i].address), "0000:0%u:00.0", i);
		infos[i].vendor_id = 0x1b36;
		infos[i].bars[2] = (struct tenon_bar_info){.size_bytes = 0x4000, .is_64bit = true};
		machine.assigned[i].device = (struct tenon_device *)(uintptr_t)(i + 1);
		*slot = (struct slot){
			.slots = slots, .leader = slot, .device = 1 + i, .assigned = &machine.assigned[i]};
	}
	cr_assert_eq(pci_bridge_create(&port, &none, &slots->slot[1].bridge, NULL), 0);
}

static void finish_machine(void)
{
	pci_bridge_destroy(machine.machine.slots.slot[1].bridge);
}

TestSuite(describe, .init = make_machine, .fini = finish_machine);

Test(describe, a_machine_accepts_one_like_itself)
{
	struct tenon_error err = {0};
	char *text = NULL;
	cr_assert_eq(machine_describe(&machine.machine, &text, &err), 0, "%s", err.message);
	cr_expect_eq(machine_accept(&machine.machine, text, strlen(text), &err), 0, "%s", err.message);
	free(text);
}

Test(describe, a_machine_without_firmware_accepts_one_without)
{
	struct tenon_error err = {0};
	char *text = NULL;
	machine.machine.rom = (struct rom){0};
	cr_assert_eq(machine_describe(&machine.machine, &text, &err), 0, "%s", err.message);
	cr_expect_eq(machine_accept(&machine.machine, text, strlen(text), &err), 0, "%s", err.message);
	free(text);
}

static void expect_difference(const char *text, const char *message)
{
	struct tenon_error err = {0};
	cr_expect_lt(machine_accept(&machine.machine, text, strlen(text), &err), 0, "%s", message);
	cr_expect(strstr(err.message, message), "%s", err.message);
}

Test(describe, what_changes_in_a_machine_is_a_difference)
{
	struct slot *slot = machine.machine.slots.slot;
	char *text = NULL;
	cr_assert_eq(machine_describe(&machine.machine, &text, NULL), 0);
	lacks_feature = true;
	expect_difference(text, "CPU: lacks avx512f; use a host that has it");
	lacks_feature = false;
	machine.rom[77] ^= 1;
	expect_difference(text, "firmware: the source's has 4096 bytes and checksum");
	machine.rom[77] ^= 1;
	machine.machine.memory.parts[0].size_bytes <<= 1;
	expect_difference(text, "memory: the source has 512 MiB, this machine 1024;");
	machine.machine.memory.parts[0].size_bytes >>= 1;
	machine.options.exit_device = true;
	expect_difference(text, "exit device: the source has none");
	machine.options.exit_device = false;
	infos[1].bars[2].size_bytes <<= 1;
	expect_difference(text, "device 0000:01:00.0 at 00:02.0 > 00.0: the size of BAR 2 is 0x4000 at the source");
	infos[1].bars[2].size_bytes >>= 1;
	slot[1].assigned = NULL;
	expect_difference(text, "device at 00:02.0 > 00.0: the source has 0000:01:00.0 there, this machine nothing;");
	slot[1].assigned = &machine.assigned[1];
	expect_difference("{}", "\"format\" is missing");
	cr_expect_eq(machine_accept(&machine.machine, text, strlen(text), NULL), 0);
	free(text);
}
