// SPDX-License-Identifier: MIT
/*
 * The tables are read back here by the offsets of the specification, not by the structures that wrote them, and are
 * judged by ACPICA's own tools: iasl must compile what it disassembled to the same bytes, acpiexec must evaluate every
 * name. Both tools come with Debian's package acpica-tools.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "acpi/aml.h"
#include "acpi/tables.h"
#include "layout.h"

#define HEADER_BYTES 36

/* ---- Machines ---- */

static struct acpi_machine smallest_machine(void)
{
	return (struct acpi_machine){.cpu_count = 1, .bus_count = 1};
}

static struct acpi_machine usual_machine(void)
{
	return (struct acpi_machine){
		.cpu_count = 4,
		.bus_count = 32,
		.pci_io = {LAYOUT_PCI_IO, LAYOUT_PCI_IO_BYTES},
		.pci32 = {LAYOUT_PCI32, LAYOUT_PCI32_BYTES},
		.pci64 = {1ull << 38, 1ull << 37},
		.exit_device = true,
		.bridges = {{.device = 1},
			    {.device = 6},
			    {.device = 31},
			    {.device = 6, .function = 1},
			    {.device = 6, .function = 7, .conventional = true},
			    {.device = 30, .conventional = true}},
		.bridge_count = 6,
	};
}

static struct acpi_machine largest_machine(void)
{
	struct acpi_machine machine = usual_machine();
	machine.cpu_count = ACPI_CPUS_MAX;
	machine.bus_count = 256;
	machine.bridge_count = ACPI_BRIDGES_MAX;
	for (unsigned i = 0; i < ACPI_BRIDGES_MAX; i++)
		machine.bridges[i] =
			(struct acpi_bridge){.device = 31 - i / 2, .function = 7 * (i % 2), .conventional = true};
	return machine;
}

/* ---- Reading an image ---- */

static uint8_t image[LAYOUT_ACPI_BYTES];

static void build(const struct acpi_machine *machine)
{
	struct tenon_error err = {0};
	int used = acpi_build(machine, image, sizeof(image), &err);
	cr_assert_gt(used, 0, "%s", err.message);
}

static uint64_t number(const uint8_t *bytes, unsigned count)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < count; i++)
		value |= (uint64_t)bytes[i] << (8 * i);
	return value;
}

static uint8_t sum(const uint8_t *bytes, size_t count)
{
	uint8_t total = 0;
	while (count--)
		total += *bytes++;
	return total;
}

static const uint8_t *at(uint64_t gpa)
{
	cr_assert(gpa >= LAYOUT_ACPI && gpa - LAYOUT_ACPI < sizeof(image), "%#llx is outside the image",
		  (unsigned long long)gpa);
	return image + (gpa - LAYOUT_ACPI);
}

static size_t table_length(const uint8_t *table)
{
	return number(table + 4, 4);
}

/* As firmware and systems do: RSDP, XSDT, and the DSDT through the FADT. */
static const uint8_t *find_table(const char *signature)
{
	const uint8_t *xsdt = at(number(image + 24, 8));
	if (!strcmp(signature, "XSDT"))
		return xsdt;
	for (size_t offset = HEADER_BYTES; offset < table_length(xsdt); offset += 8) {
		const uint8_t *table = at(number(xsdt + offset, 8));
		if (!memcmp(table, signature, 4))
			return table;
		if (!strcmp(signature, "DSDT") && !memcmp(table, "FACP", 4))
			return at(number(table + 140, 8));
	}
	cr_assert_fail("there is no %s", signature);
	return NULL;
}

static const char *const signatures[] = {"XSDT", "FACP", "APIC", "MCFG", "DSDT"};
#define SIGNATURE_COUNT (sizeof(signatures) / sizeof(signatures[0]))

/* ---- Static tables ---- */

Test(acpi_tables, rsdp_comes_first_and_both_its_checksums_hold)
{
	struct acpi_machine machine = usual_machine();
	build(&machine);
	cr_assert_eq(memcmp(image, "RSD PTR ", 8), 0);
	cr_assert_eq(image[15], 2, "revision");
	cr_assert_eq(sum(image, 20), 0);
	cr_assert_eq(sum(image, 36), 0);
	cr_assert_eq(number(image + 20, 4), 36);
}

Test(acpi_tables, every_table_sums_to_zero_and_none_overlaps_another)
{
	struct acpi_machine machine = largest_machine();
	build(&machine);
	static bool claimed[sizeof(image)];
	memset(claimed, true, 36);
	for (unsigned i = 0; i < SIGNATURE_COUNT; i++) {
		const uint8_t *table = find_table(signatures[i]);
		cr_assert_eq(memcmp(table, signatures[i], 4), 0);
		cr_assert_eq(sum(table, table_length(table)), 0, "%s", signatures[i]);
		for (size_t byte = 0; byte < table_length(table); byte++) {
			bool *claim = &claimed[table - image + (ptrdiff_t)byte];
			cr_assert(!*claim, "%s overlaps another table", signatures[i]);
			*claim = true;
		}
	}
}

Test(acpi_tables, fadt_is_hardware_reduced_with_reset_and_sleep_ports_and_without_legacy_devices)
{
	struct acpi_machine machine = usual_machine();
	build(&machine);
	const uint8_t *fadt = find_table("FACP");
	cr_assert_eq(table_length(fadt), 276);
	cr_assert_eq(fadt[8], 6);
	cr_assert_eq(number(fadt + 109, 2), 1 << 2 | 1 << 5, "no VGA, no CMOS RTC, and no 8042 and legacy bits");
	uint32_t flags = (uint32_t)number(fadt + 112, 4);
	cr_assert(flags & 1u << 20, "HW_REDUCED_ACPI");
	cr_assert(flags & 1u << 10, "RESET_REG_SUP");
	cr_assert(flags & 1u << 0, "WBINVD");
	cr_assert_eq(number(fadt + 132, 8), 0, "no FACS");

	const struct {
		unsigned offset, port;
	} registers[] = {{116, LAYOUT_RESET_PORT}, {244, LAYOUT_SLEEP_CONTROL_PORT}, {256, LAYOUT_SLEEP_STATUS_PORT}};
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *address = fadt + registers[i].offset;
		cr_assert_eq(number(address, 4), 1 | 8 << 8 | 1 << 24, "system I/O, 8 bits, byte access");
		cr_assert_eq(number(address + 4, 8), registers[i].port);
	}
	cr_assert_eq(fadt[128], LAYOUT_RESET_VALUE);
}

Test(acpi_tables, madt_lists_each_processor_the_io_apic_and_the_nmi_line)
{
	struct acpi_machine machine = largest_machine();
	build(&machine);
	const uint8_t *madt = find_table("APIC");
	cr_assert_eq(number(madt + 36, 4), LAYOUT_LAPIC);
	cr_assert_eq(number(madt + 40, 4), 0, "no 8259s");

	unsigned processors = 0, io_apics = 0, nmis = 0;
	for (size_t offset = 44; offset < table_length(madt); offset += madt[offset + 1]) {
		const uint8_t *entry = madt + offset;
		cr_assert_gt(entry[1], 0);
		if (entry[0] == 0) {
			cr_assert_eq(entry[1], 8);
			cr_assert_eq(entry[2], processors, "UID");
			cr_assert_eq(entry[3], processors, "APIC id");
			cr_assert_eq(number(entry + 4, 4), 1, "enabled");
			processors++;
		} else if (entry[0] == 1) {
			cr_assert_eq(entry[1], 12);
			cr_assert_eq(number(entry + 4, 4), LAYOUT_IOAPIC);
			cr_assert_eq(number(entry + 8, 4), 0, "GSI base");
			io_apics++;
		} else {
			cr_assert_eq(entry[0], 4);
			cr_assert_eq(entry[2], 0xff, "all processors");
			cr_assert_eq(entry[5], 1, "LINT1");
			nmis++;
		}
	}
	cr_assert_eq(processors, ACPI_CPUS_MAX);
	cr_assert_eq(io_apics, 1);
	cr_assert_eq(nmis, 1);
}

Test(acpi_tables, mcfg_covers_all_buses)
{
	struct acpi_machine machine = usual_machine();
	build(&machine);
	const uint8_t *mcfg = find_table("MCFG");
	cr_assert_eq(table_length(mcfg), 60);
	cr_assert_eq(number(mcfg + 44, 8), LAYOUT_ECAM);
	cr_assert_eq(number(mcfg + 52, 2), 0, "segment");
	cr_assert_eq(mcfg[54], 0);
	cr_assert_eq(mcfg[55], 31);
}

Test(acpi_tables, too_small_an_image_is_refused_at_every_size_and_not_overrun)
{
	struct acpi_machine machine = usual_machine();
	build(&machine);
	int needed = acpi_build(&machine, image, sizeof(image), NULL);
	for (int capacity = 0; capacity < needed; capacity++) {
		uint8_t *exact = malloc((size_t)capacity + 1);
		exact[capacity] = 0xa5;
		struct tenon_error err = {0};
		cr_assert_eq(acpi_build(&machine, exact, (size_t)capacity, &err), -E2BIG);
		cr_assert_eq(err.code, -E2BIG);
		cr_assert_eq(exact[capacity], 0xa5);
		free(exact);
	}
	cr_assert_eq(acpi_build(&machine, image, (size_t)needed, NULL), needed);
}

Test(acpi_tables, the_largest_machine_fits_into_its_place)
{
	struct acpi_machine machine = largest_machine();
	struct tenon_error err = {0};
	int used = acpi_build(&machine, image, sizeof(image), &err);
	cr_assert_gt(used, 0, "%s", err.message);
	cr_expect_lt((unsigned)used, LAYOUT_ACPI_BYTES * 3 / 4, "%d bytes leave little room for more", used);
}

Test(acpi_tables, a_machine_that_cannot_be_described_is_refused_with_the_reason)
{
	struct acpi_machine bad[12];
	for (unsigned i = 0; i < 12; i++)
		bad[i] = usual_machine();
	bad[0].cpu_count = 0;
	bad[1].cpu_count = ACPI_CPUS_MAX + 1;
	bad[2].bus_count = 0;
	bad[3].bus_count = 257;
	bad[4].pci_io = (struct acpi_window){0, 0x10000};
	bad[5].pci_io = (struct acpi_window){0xf000, 0x1001};
	bad[6].pci32 = (struct acpi_window){0xf0000000, 0x10000001};
	bad[7].pci64 = (struct acpi_window){UINT64_MAX - 1, 0x1000};
	bad[8].bridges[1].device = 32;
	bad[9].bridges[2] = bad[9].bridges[0];
	bad[10].bridges[3].function = 8;
	bad[11].bridge_count = ACPI_BRIDGES_MAX + 1;
	static const char *const reasons[12] = {"0 processors",
						"65 processors",
						"0 PCI buses",
						"257 PCI buses",
						"port window",
						"port window",
						"32-bit",
						"64-bit",
						"bridge 1: there is no device 32, function 0",
						"bridge 2: device 1, function 0 is another bridge's place",
						"bridge 3: there is no device 6, function 8",
						"41 bridges"};
	for (unsigned i = 0; i < 12; i++) {
		struct tenon_error err = {0};
		cr_assert_eq(acpi_build(&bad[i], image, sizeof(image), &err), -EINVAL, "case %u", i);
		cr_assert(strstr(err.message, reasons[i]), "case %u: %s", i, err.message);
	}
}

/* ---- AML ---- */

/* @return the length that a PkgLength encodes; *size is the encoding's own */
static size_t decode_package_length(const uint8_t *bytes, unsigned *size)
{
	unsigned more = bytes[0] >> 6;
	*size = 1 + more;
	if (!more)
		return bytes[0];
	size_t length = bytes[0] & 0xf;
	for (unsigned i = 0; i < more; i++)
		length |= (size_t)bytes[1 + i] << (4 + 8 * i);
	return length;
}

/* Any number of bytes but 1, in statements. */
static void fill(struct aml *aml, size_t count)
{
	if (count % 2) {
		aml_store(aml, aml_arg(0), aml_local(0));
		count -= 3;
	}
	for (; count; count -= 2)
		aml_return(aml, aml_arg(0));
}

Test(aml, block_length_takes_the_shortest_encoding_on_both_sides_of_each_boundary)
{
	static uint8_t bytes[1 << 21];
	const struct {
		size_t body; /* including a name of 4 bytes */
		unsigned size;
	} cases[] = {{4, 1}, {62, 1}, {63, 2}, {4093, 2}, {4094, 3}, {(1 << 20) - 4, 3}, {(1 << 20) - 3, 4}};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct aml aml;
		aml_init(&aml, bytes, sizeof(bytes));
		AML_DEVICE(&aml, "DEV0")
		{
			fill(&aml, cases[i].body - 4);
		}
		unsigned size;
		cr_assert_eq(decode_package_length(bytes + 2, &size), cases[i].body + cases[i].size);
		cr_assert_eq(size, cases[i].size, "body of %zu bytes", cases[i].body);
		cr_assert_eq(aml.used, 2 + size + cases[i].body);
		cr_assert_eq(memcmp(bytes + 2 + size, "DEV0", 4), 0, "the body moved up whole");
		cr_assert(!aml.full);
	}
}

Test(aml, what_does_not_fit_is_dropped_and_remembered)
{
	uint8_t bytes[16];
	memset(bytes, 0xa5, sizeof(bytes));
	struct aml aml;
	aml_init(&aml, bytes, 12);
	AML_SCOPE(&aml, "\\_SB")
	{
		aml_name(&aml, "_UID", aml_integer(0x1234));
	}
	cr_assert(aml.full);
	for (unsigned i = 12; i < sizeof(bytes); i++)
		cr_assert_eq(bytes[i], 0xa5);
}

Test(aml, terms_have_the_encodings_of_the_specification)
{
	const struct {
		struct aml_term term;
		const char *bytes;
		unsigned length;
	} cases[] = {
		{aml_integer(0), "\x00", 1},
		{aml_integer(1), "\x01", 1},
		{aml_integer(0xff), "\x0a\xff", 2},
		{aml_integer(0x100), "\x0b\x00\x01", 3},
		{aml_integer(0x10000), "\x0c\x00\x00\x01\x00", 5},
		{aml_integer(1ull << 32), "\x0e\x00\x00\x00\x00\x01\x00\x00\x00", 9},
		{aml_string("AB"),
		 "\x0d"
		 "AB",
		 4},
		{aml_eisa_id("PNP0A08"), "\x0c\x41\xd0\x0a\x08", 5},
		{aml_path("\\"), "\\\x00", 2},
		{aml_path("^X"), "^X___", 5},
		{aml_path("\\_SB.PCI0"), "\\\x2e_SB_PCI0", 10},
		{aml_path("A.B.C"),
		 "\x2f\x03"
		 "A___B___C___",
		 14},
		{aml_package(aml_integer(1), aml_integer(0)), "\x12\x04\x02\x01\x00", 5},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(cases[i].term.length, cases[i].length, "case %u", i);
		cr_assert_eq(memcmp(cases[i].term.bytes, cases[i].bytes, cases[i].length), 0, "case %u", i);
	}
}

/* ---- Interrupt routes ---- */

/* The integer at *at, and steps over it. */
static uint64_t take_integer(const uint8_t **at)
{
	uint8_t op = *(*at)++;
	if (op <= 1)
		return op;
	unsigned bytes = op == 0x0a ? 1 : op == 0x0b ? 2 : op == 0x0c ? 4 : 8;
	uint64_t value = number(*at, bytes);
	*at += bytes;
	return value;
}

/* Checks one _PRT: `devices` devices of four pins, routed as if each were at device `offset` + its own number. */
static void check_routes(const char *owner, unsigned devices, unsigned offset)
{
	const uint8_t *dsdt = find_table("DSDT");
	const uint8_t *end = dsdt + table_length(dsdt);
	const uint8_t *name = memmem(dsdt, (size_t)(end - dsdt), owner, 4);
	cr_assert(name, "there is no %s", owner);
	const uint8_t *next = memmem(name, (size_t)(end - name), "_PRT", 4);
	cr_assert(next, "%s has no _PRT", owner);

	unsigned size;
	next += 5; /* name, package */
	decode_package_length(next, &size);
	next += size;
	cr_assert_eq(*next++, devices * 4);
	for (unsigned device = 0; device < devices; device++) {
		for (unsigned pin = 0; pin < 4; pin++) {
			cr_assert_eq(*next++, 0x12);
			decode_package_length(next, &size);
			next += size;
			cr_assert_eq(*next++, 4);
			cr_assert_eq(take_integer(&next), (uint64_t)device << 16 | 0xffff);
			cr_assert_eq(take_integer(&next), pin);
			cr_assert_eq(take_integer(&next), 0, "no link device");
			cr_assert_eq(take_integer(&next), LAYOUT_INTX_GSI + (offset + device + pin) % 4,
				     "%s device %u pin %u", owner, device, pin);
		}
	}
}

Test(acpi_routes, root_bus_swizzles_all_devices)
{
	struct acpi_machine machine = usual_machine();
	build(&machine);
	check_routes("PCI0", 32, 0);
}

Test(acpi_routes, device_behind_a_root_port_uses_the_ports_pins)
{
	struct acpi_machine machine = usual_machine();
	build(&machine);
	check_routes("RP08", 1, 1);
	check_routes("RP30", 1, 6);
	check_routes("RP31", 1, 6); /* of another function of that slot: the pins are the device's */
	check_routes("RPF8", 1, 31);
}

Test(acpi_routes, each_device_behind_a_conventional_bridge_uses_the_pins_of_the_bridge_swizzled)
{
	struct acpi_machine machine = usual_machine();
	build(&machine);
	check_routes("BRF0", 32, 30);
	check_routes("BR37", 32, 6);
}

/* ---- ACPICA's judgement ---- */

static char folder[] = "/tmp/tenon-acpi-XXXXXX";
static char output[1 << 20];

static void make_folder(void)
{
	cr_assert(mkdtemp(folder), "%m");
	cr_assert_eq(chdir(folder), 0);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	return remove(path);
}

static void remove_folder(void)
{
	nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(acpica, .init = make_folder, .fini = remove_folder, .timeout = 120);

/* Runs a tool in the folder, with what it prints in `output`. @return its exit status */
static int run(const char *command)
{
	char line[1024];
	snprintf(line, sizeof(line), "%s 2>&1", command);
	FILE *pipe = popen(line, "r");
	cr_assert(pipe);
	size_t length = fread(output, 1, sizeof(output) - 1, pipe);
	output[length] = '\0';
	int status = pclose(pipe);
	cr_assert(WIFEXITED(status));
	cr_assert_neq(WEXITSTATUS(status), 127, "%s: not found; apt-get install acpica-tools", command);
	return WEXITSTATUS(status);
}

static void write_table(const char *signature, const char *path)
{
	const uint8_t *table = find_table(signature);
	FILE *file = fopen(path, "wb");
	cr_assert(file);
	cr_assert_eq(fwrite(table, 1, table_length(table), file), table_length(table));
	fclose(file);
}

/* iasl puts its own name and revision into the header, which also changes the checksum. */
static bool is_compilers_own(size_t offset)
{
	return offset == 9 || (offset >= 28 && offset < HEADER_BYTES);
}

static void check_recompiles(const char *signature, const char *options)
{
	char command[256];
	write_table(signature, "table.dat");
	cr_assert_eq(run("iasl -p table -d table.dat"), 0, "%s: %s", signature, output);
	cr_assert(!strcasestr(output, "warning") && !strcasestr(output, "error"), "%s: %s", signature, output);

	snprintf(command, sizeof(command), "iasl %s -p again table.dsl", options);
	cr_assert_eq(run(command), 0, "%s: %s", signature, output);
	cr_assert(strstr(output, " 0 Errors, 0 Warnings, 0 Remarks"), "%s: %s", signature, output);

	FILE *file = fopen("again.aml", "rb");
	cr_assert(file);
	static uint8_t again[sizeof(image)];
	size_t length = fread(again, 1, sizeof(again), file);
	fclose(file);
	const uint8_t *table = find_table(signature);
	cr_assert_eq(length, table_length(table), "%s has another length", signature);
	for (size_t i = 0; i < length; i++)
		cr_assert(again[i] == table[i] || is_compilers_own(i), "%s differs at offset %zu", signature, i);
}

static void check_machine_recompiles(struct acpi_machine machine)
{
	build(&machine);
	for (unsigned i = 0; i < SIGNATURE_COUNT; i++)
		check_recompiles(signatures[i], strcmp(signatures[i], "DSDT") ? "" : "-oa");
}

Test(acpica, smallest_machine_disassembles_and_compiles_to_the_same_bytes)
{
	check_machine_recompiles(smallest_machine());
}

Test(acpica, usual_machine_disassembles_and_compiles_to_the_same_bytes)
{
	check_machine_recompiles(usual_machine());
}

Test(acpica, largest_machine_disassembles_and_compiles_to_the_same_bytes)
{
	check_machine_recompiles(largest_machine());
}

/* Evaluates in ACPICA's interpreter; complaints of any kind fail. */
static void evaluate(const char *commands)
{
	char command[1024];
	write_table("DSDT", "dsdt.aml");
	snprintf(command, sizeof(command), "acpiexec -r -b '%s' dsdt.aml", commands);
	cr_assert_eq(run(command), 0, "%s", output);
	cr_assert(!strstr(output, "Warning") && !strstr(output, "Error") && !strstr(output, "failed"), "%s", output);
	cr_assert(strstr(output, "returned object"), "%s", output);
}

Test(acpica, every_name_evaluates)
{
	struct acpi_machine machine = usual_machine();
	build(&machine);
	evaluate("execute \\_S5; execute \\_SB.PCI0._CRS; execute \\_SB.PCI0._PRT; execute \\_SB.PCI0.RPF8._PRT;"
		 "execute \\_SB.PCI0.RP31._ADR; execute \\_SB.PCI0.BR37._ADR; execute \\_SB.PCI0.BR37._PRT;"
		 "execute \\_SB.MBRD._CRS; execute \\_SB.COM1._CRS; execute \\_SB.EXIT._CRS; execute \\_SB.CP03._UID;"
		 "execute \\_SB.PCI0._HID; execute \\_SB.PCI0._CID; execute \\_SB.PCI0._BBN; execute \\_SB.PCI0._SEG");
	unsigned results = 0;
	for (const char *at = output; (at = strstr(at, "returned object")); at++)
		results++;
	cr_assert_eq(results, 15, "%s", output);
	cr_expect(strstr(output, "0000000000060001"), "the address of a bridge has its function: %s", output);
	cr_expect(strstr(output, "0000000000060007"), "%s", output);
}

Test(acpi_tables, exit_device_is_there_only_if_asked_for)
{
	struct acpi_machine machine = usual_machine();
	machine.exit_device = false;
	build(&machine);
	const uint8_t *dsdt = find_table("DSDT");
	cr_assert(!memmem(dsdt, table_length(dsdt), "TNON0001", 8));
}

#define HOST_BRIDGE "5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66"

/* What _OSC makes of a buffer, both as acpiexec writes them. */
struct osc {
	const char *uuid;
	unsigned revision, count;
	const char *given, *answered;
};

/* In one run, as the tool takes a second to leave. */
static void check_osc(const struct osc *calls, unsigned count)
{
	struct acpi_machine machine = smallest_machine();
	build(&machine);
	char commands[900];
	size_t length = 0;
	for (unsigned i = 0; i < count; i++)
		length += (size_t)snprintf(commands + length, sizeof(commands) - length,
					   "execute \\_SB.PCI0._OSC (%s) %u %u (%s);", calls[i].uuid, calls[i].revision,
					   calls[i].count, calls[i].given);
	evaluate(commands);
	const char *at = output;
	for (unsigned i = 0; i < count; i++) {
		at = strstr(at, "[Buffer] Length");
		cr_assert(at, "%s", output);
		at = strstr(at, "0000: ") + strlen("0000: ");
		size_t answer = strlen(calls[i].answered);
		cr_assert(!memcmp(at, calls[i].answered, answer) && at[answer + 1] == ' ', "_OSC of %s is not %s: %s",
			  calls[i].given, calls[i].answered, output);
	}
}

Test(acpica, osc_grants_what_the_machine_supports_and_masks_the_rest)
{
	static const struct osc calls[] = {
		{HOST_BRIDGE, 1, 3, "00 00 00 00 1F 01 00 00 1D 00 00 00", "00 00 00 00 1F 01 00 00 1D 00 00 00"},
		{HOST_BRIDGE, 1, 3, "00 00 00 00 1F 01 00 00 14 00 00 00", "00 00 00 00 1F 01 00 00 14 00 00 00"},
		{HOST_BRIDGE, 1, 3, "00 00 00 00 1F 01 00 00 FF 01 00 00", "10 00 00 00 1F 01 00 00 1D 00 00 00"},
	};
	check_osc(calls, 3);
}

Test(acpica, osc_query_gets_the_same_answer_as_the_request_that_follows)
{
	static const struct osc calls[] = {
		{HOST_BRIDGE, 1, 3, "01 00 00 00 1F 01 00 00 3F 00 00 00", "11 00 00 00 1F 01 00 00 1D 00 00 00"},
		{HOST_BRIDGE, 1, 3, "00 00 00 00 1F 01 00 00 1D 00 00 00", "00 00 00 00 1F 01 00 00 1D 00 00 00"},
	};
	check_osc(calls, 2);
}

Test(acpica, osc_refuses_an_unknown_uuid_and_flags_an_unknown_revision)
{
	static const struct osc calls[] = {
		{"00 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66", 1, 3, "00 00 00 00 00 00 00 00 1D 00 00 00",
		 "04 00 00 00 00 00 00 00 1D 00 00 00"},
		{HOST_BRIDGE, 2, 3, "00 00 00 00 00 00 00 00 1D 00 00 00", "08 00 00 00 00 00 00 00 1D 00 00 00"},
	};
	check_osc(calls, 2);
}

Test(acpica, osc_without_a_control_field_stays_within_the_buffer)
{
	static const struct osc calls[] = {
		{HOST_BRIDGE, 1, 1, "00 00 00 00", "00 00 00 00"},
		{HOST_BRIDGE, 1, 2, "00 00 00 00 1F 01 00 00", "00 00 00 00 1F 01 00 00"},
	};
	check_osc(calls, 2);
}
