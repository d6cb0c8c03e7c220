// SPDX-License-Identifier: MIT
/*
 * The static tables and the image that holds them all: placement, headers, checksums. The DSDT's content is dsdt.c's.
 */
#include <errno.h>
#include <string.h>

#include "../layout.h"
#include "aml.h"
#include "dsdt.h"
#include "format.h"
#include "tables.h"

#define TABLE_ALIGNMENT 16

static const char oem_id[6] = "TENON ";
static const char oem_table_id[8] = "TENONVM ";
static const char creator_id[4] = "TNON";

/* Tables back to back, addressed as they will be seen at LAYOUT_ACPI. */
struct image {
	uint8_t *bytes;
	size_t capacity;
	size_t used;
	bool full;
};

static uint8_t checksum(const void *bytes, size_t count)
{
	uint8_t sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += ((const uint8_t *)bytes)[i];
	return (uint8_t)-sum;
}

static void image_append(struct image *image, const void *bytes, size_t count)
{
	if (image->full || count > image->capacity - image->used) {
		image->full = true;
		return;
	}
	memcpy(image->bytes + image->used, bytes, count);
	image->used += count;
}

static struct acpi_header header(const char *signature, uint8_t revision)
{
	struct acpi_header header = {.revision = revision, .oem_revision = 1, .creator_revision = 1};
	memcpy(header.signature, signature, sizeof(header.signature));
	memcpy(header.oem_id, oem_id, sizeof(oem_id));
	memcpy(header.oem_table_id, oem_table_id, sizeof(oem_table_id));
	memcpy(header.creator_id, creator_id, sizeof(creator_id));
	return header;
}

/* @return where the table starts, for table_end */
static size_t table_begin(struct image *image, const void *first_part, size_t bytes)
{
	static const uint8_t padding[TABLE_ALIGNMENT];
	image_append(image, padding, -image->used % TABLE_ALIGNMENT);
	size_t start = image->used;
	image_append(image, first_part, bytes);
	return start;
}

/* @return the table's guest physical address */
static uint64_t table_end(struct image *image, size_t start)
{
	if (image->full)
		return 0;
	struct acpi_header header;
	memcpy(&header, image->bytes + start, sizeof(header));
	header.length = (uint32_t)(image->used - start);
	memcpy(image->bytes + start, &header, sizeof(header));
	header.checksum = checksum(image->bytes + start, header.length);
	memcpy(image->bytes + start, &header, sizeof(header));
	return LAYOUT_ACPI + start;
}

static struct acpi_gas byte_port(uint16_t port)
{
	return (struct acpi_gas){
		.space = ACPI_GAS_SYSTEM_IO, .bit_width = 8, .access_size = ACPI_GAS_ACCESS_BYTE, .address = port};
}

static uint64_t build_dsdt(struct image *image, const struct acpi_machine *machine)
{
	struct acpi_header dsdt = header("DSDT", 2); /* 2: integers have 64 bits */
	size_t start = table_begin(image, &dsdt, sizeof(dsdt));
	if (image->full)
		return 0;
	struct aml aml;
	aml_init(&aml, image->bytes + image->used, image->capacity - image->used);
	dsdt_write(machine, &aml);
	image->used += aml.used;
	image->full = aml.full;
	return table_end(image, start);
}

static uint64_t build_fadt(struct image *image, uint64_t dsdt)
{
	struct acpi_fadt fadt = {
		.header = header("FACP", 6),
		.minor_version = 4,
		.x_dsdt = dsdt,
		.iapc_boot_arch = ACPI_FADT_NO_VGA | ACPI_FADT_NO_CMOS_RTC,
		.flags = ACPI_FADT_HW_REDUCED_ACPI | ACPI_FADT_RESET_REG_SUP | ACPI_FADT_WBINVD | ACPI_FADT_PWR_BUTTON |
			 ACPI_FADT_SLP_BUTTON | ACPI_FADT_FIX_RTC | ACPI_FADT_HEADLESS,
		.reset_reg = byte_port(LAYOUT_RESET_PORT),
		.reset_value = LAYOUT_RESET_VALUE,
		.sleep_control_reg = byte_port(LAYOUT_SLEEP_CONTROL_PORT),
		.sleep_status_reg = byte_port(LAYOUT_SLEEP_STATUS_PORT),
		.hypervisor_vendor = "Tenon",
	};
	return table_end(image, table_begin(image, &fadt, sizeof(fadt)));
}

static uint64_t build_madt(struct image *image, unsigned cpu_count)
{
	/* Flags 0: no 8259s. ISA interrupt 4 is GSI 4, edge, active high, as ISA has it: needs no source override. */
	struct acpi_madt madt = {.header = header("APIC", 5), .local_apic = LAYOUT_LAPIC};
	size_t start = table_begin(image, &madt, sizeof(madt));
	for (unsigned i = 0; i < cpu_count; i++) {
		struct acpi_madt_local_apic local = {.type = ACPI_MADT_LOCAL_APIC,
						     .length = sizeof(local),
						     .processor_uid = (uint8_t)i,
						     .apic_id = (uint8_t)i,
						     .flags = ACPI_MADT_LOCAL_APIC_ENABLED};
		image_append(image, &local, sizeof(local));
	}
	struct acpi_madt_io_apic io = {.type = ACPI_MADT_IO_APIC, .length = sizeof(io), .address = LAYOUT_IOAPIC};
	image_append(image, &io, sizeof(io));
	struct acpi_madt_local_nmi nmi = {.type = ACPI_MADT_LOCAL_NMI,
					  .length = sizeof(nmi),
					  .processor_uid = ACPI_MADT_ALL_PROCESSORS,
					  .lint = 1};
	image_append(image, &nmi, sizeof(nmi));
	return table_end(image, start);
}

static uint64_t build_mcfg(struct image *image, unsigned bus_count)
{
	struct acpi_mcfg mcfg = {
		.header = header("MCFG", 1), .ecam = LAYOUT_ECAM, .last_bus = (uint8_t)(bus_count - 1)};
	return table_end(image, table_begin(image, &mcfg, sizeof(mcfg)));
}

static uint64_t build_xsdt(struct image *image, const uint64_t *tables, size_t bytes)
{
	struct acpi_header xsdt = header("XSDT", 1);
	size_t start = table_begin(image, &xsdt, sizeof(xsdt));
	image_append(image, tables, bytes);
	return table_end(image, start);
}

static void build_rsdp(struct acpi_rsdp *rsdp, uint64_t xsdt)
{
	*rsdp = (struct acpi_rsdp){.revision = 2, .length = sizeof(*rsdp), .xsdt = xsdt};
	memcpy(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature));
	memcpy(rsdp->oem_id, oem_id, sizeof(oem_id));
	rsdp->checksum = checksum(rsdp, ACPI_RSDP_CHECKSUM_BYTES);
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
}

/* Absent, or `size_bytes` from `first` on with its end at or below `limit`. */
static bool window_fits(const struct acpi_window *window, uint64_t limit)
{
	return window->size_bytes == 0 || (window->first <= limit && window->size_bytes <= limit - window->first);
}

static int check_bridges(const struct acpi_machine *machine, struct tenon_error *err)
{
	uint8_t seen[32] = {0}; /* by device, a bit for each function */
	if (machine->bridge_count > ACPI_BRIDGES_MAX)
		return tenon_fail(err, -EINVAL, "acpi: cannot describe %u bridges: at most %d are possible",
				  machine->bridge_count, ACPI_BRIDGES_MAX);
	for (unsigned i = 0; i < machine->bridge_count; i++) {
		unsigned device = machine->bridges[i].device, function = machine->bridges[i].function;
		if (device > 31 || function > 7)
			return tenon_fail(err, -EINVAL, "acpi: bridge %u: there is no device %u, function %u", i,
					  device, function);
		if (seen[device] & 1u << function)
			return tenon_fail(err, -EINVAL,
					  "acpi: bridge %u: device %u, function %u is another bridge's place", i,
					  device, function);
		seen[device] |= (uint8_t)(1u << function);
	}
	return 0;
}

static int check_machine(const struct acpi_machine *machine, struct tenon_error *err)
{
	if (machine->cpu_count < 1 || machine->cpu_count > ACPI_CPUS_MAX)
		return tenon_fail(err, -EINVAL, "acpi: cannot describe %u processors: 1 to %d are possible",
				  machine->cpu_count, ACPI_CPUS_MAX);
	if (machine->bus_count < 1 || machine->bus_count > 256)
		return tenon_fail(err, -EINVAL, "acpi: cannot describe %u PCI buses: 1 to 256 are possible",
				  machine->bus_count);
	/* Port 0 cannot be in it: the size of a full port space does not fit its descriptor. */
	if (!window_fits(&machine->pci_io, 1u << 16) || (machine->pci_io.size_bytes && machine->pci_io.first == 0))
		return tenon_fail(err, -EINVAL, "acpi: the PCI port window does not lie within ports 1 to 0xffff");
	if (!window_fits(&machine->pci32, 1ull << 32))
		return tenon_fail(err, -EINVAL, "acpi: the 32-bit PCI window ends above 4 GiB");
	if (!window_fits(&machine->pci64, UINT64_MAX))
		return tenon_fail(err, -EINVAL, "acpi: the 64-bit PCI window ends above 2^64");

	return check_bridges(machine, err);
}

int acpi_build(const struct acpi_machine *machine, uint8_t *bytes, size_t capacity, struct tenon_error *err)
{
	int result = check_machine(machine, err);
	if (result < 0)
		return result;

	memset(bytes, 0, capacity);
	struct acpi_rsdp rsdp = {0};
	struct image image = {.bytes = bytes, .capacity = capacity};
	image_append(&image, &rsdp, sizeof(rsdp)); /* its place; its content is known last */

	uint64_t dsdt = build_dsdt(&image, machine);
	const uint64_t tables[] = {
		build_fadt(&image, dsdt),
		build_madt(&image, machine->cpu_count),
		build_mcfg(&image, machine->bus_count),
	};
	build_rsdp(&rsdp, build_xsdt(&image, tables, sizeof(tables)));
	if (image.full)
		return tenon_fail(err, -E2BIG, "acpi: the tables do not fit into %zu bytes", capacity);
	memcpy(bytes, &rsdp, sizeof(rsdp));
	return (int)image.used;
}
