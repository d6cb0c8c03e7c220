// SPDX-License-Identifier: MIT
/*
 * The DSDT's content: processors, the PCI host bridge and the bridges on its bus, what is reserved on the board, the serial
 * port. Read it as ASL. It has no state and no hardware access of its own: every method computes its answer from its
 * arguments.
 */
#include <stdio.h>

#include "../layout.h"
#include "dsdt.h"

#define PINS        4 /* INTA to INTD; 0 to 3 in a _PRT */
#define BUS_DEVICES 32

/* _OSC status, first dword (ACPI 6.2.11) */
#define OSC_UNRECOGNIZED_UUID     0x04
#define OSC_UNRECOGNIZED_REVISION 0x08
#define OSC_CAPABILITIES_MASKED   0x10

/*
 * _OSC control field, third dword (PCI Firmware Specification 3.3, table 4-6): what the system may run natively,
 * because no firmware of this machine does. Masked are SHPC hot plug (bit 1), LTR (bit 5) and DPC (bit 7): the root
 * ports have none.
 */
#define OSC_NATIVE_HOT_PLUG      (1u << 0)
#define OSC_PME                  (1u << 2)
#define OSC_AER                  (1u << 3)
#define OSC_CAPABILITY_STRUCTURE (1u << 4)
#define OSC_GRANTED              (OSC_NATIVE_HOT_PLUG | OSC_PME | OSC_AER | OSC_CAPABILITY_STRUCTURE)

static void processors(struct aml *aml, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char name[5];
		snprintf(name, sizeof(name), "CP%02X", i & 0xff);
		AML_DEVICE(aml, name)
		{
			aml_name(aml, "_HID", aml_string("ACPI0007"));
			aml_name(aml, "_UID", aml_integer(i)); /* as in the MADT */
		}
	}
}

/*
 * PCI Firmware Specification 3.3, 4.5. The system passes a status dword, its own features and the control that it
 * wants; it gets back the control that it may take. Whether this was a query (bit 0 of the first dword) makes no
 * difference to a method that remembers nothing.
 */
static void host_bridge_osc(struct aml *aml)
{
	AML_METHOD(aml, "_OSC", 4) /* UUID, revision, count of dwords, buffer */
	{
		aml_create_dword_field(aml, aml_arg(3), 0, "CDW1");
		AML_IF(aml, aml_not_equal(aml_arg(0), aml_uuid("33db4d5b-1ff7-401c-9657-7441c03dd766")))
		{
			aml_or_into(aml, aml_path("CDW1"), OSC_UNRECOGNIZED_UUID);
			aml_return(aml, aml_arg(3));
		}
		AML_IF(aml, aml_not_equal(aml_arg(1), aml_integer(1)))
		{
			aml_or_into(aml, aml_path("CDW1"), OSC_UNRECOGNIZED_REVISION);
		}
		AML_IF(aml, aml_less(aml_arg(2), aml_integer(3))) /* asks for no control */
		{
			aml_return(aml, aml_arg(3));
		}
		aml_create_dword_field(aml, aml_arg(3), 8, "CDW3");
		aml_and_into(aml, aml_local(0), aml_path("CDW3"), OSC_GRANTED);
		AML_IF(aml, aml_not_equal(aml_local(0), aml_path("CDW3")))
		{
			aml_or_into(aml, aml_path("CDW1"), OSC_CAPABILITIES_MASKED);
		}
		aml_store(aml, aml_local(0), aml_path("CDW3"));
		aml_return(aml, aml_arg(3));
	}
}

/* A _PRT entry without a link device: the interrupt is a GSI, fixed. Its address covers all functions of the device. */
static void interrupt_route(struct aml *aml, unsigned device, unsigned pin, unsigned gsi)
{
	aml_element(aml, aml_package(aml_integer((uint64_t)device << 16 | 0xffff), aml_integer(pin), aml_integer(0),
				     aml_integer(gsi)));
}

static unsigned root_bus_gsi(unsigned device, unsigned pin)
{
	return LAYOUT_INTX_GSI + (device + pin) % PINS;
}

/*
 * A bridge drives its own pin (d + p) % 4 for pin p of device d on its secondary bus (PCI-to-PCI Bridge Architecture
 * Specification 1.2, 9.1), and that pin is routed like any other of the root bus. A link has no device but number 0
 * (PCI Express Base Specification, 7.3.1), whose functions may use all four pins. The name has device and function, as
 * one slot may have several bridges.
 */
static void pci_bridge(struct aml *aml, const struct acpi_bridge *bridge)
{
	const unsigned device_count = bridge->conventional ? BUS_DEVICES : 1;
	char name[5];
	snprintf(name, sizeof(name), "%s%02X", bridge->conventional ? "BR" : "RP",
		 (bridge->device << 3 | bridge->function) & 0xff);
	AML_DEVICE(aml, name)
	{
		aml_name(aml, "_ADR", aml_integer((uint64_t)bridge->device << 16 | bridge->function));
		AML_PACKAGE(aml, "_PRT")
		{
			for (unsigned device = 0; device < device_count; device++)
				for (unsigned pin = 0; pin < PINS; pin++)
					interrupt_route(aml, device, pin,
							root_bus_gsi(bridge->device, (device + pin) % PINS));
		}
	}
}

static uint64_t window_last(const struct acpi_window *window)
{
	return window->first + window->size_bytes - 1;
}

static void host_bridge(struct aml *aml, const struct acpi_machine *machine)
{
	AML_DEVICE(aml, "PCI0")
	{
		aml_name(aml, "_HID", aml_eisa_id("PNP0A08"));
		aml_name(aml, "_CID", aml_eisa_id("PNP0A03"));
		aml_name(aml, "_UID", aml_integer(0));
		aml_name(aml, "_SEG", aml_integer(0));
		aml_name(aml, "_BBN", aml_integer(0));
		AML_RESOURCES(aml, "_CRS")
		{
			const struct acpi_window *io = &machine->pci_io;
			const struct acpi_window *low = &machine->pci32;
			const struct acpi_window *high = &machine->pci64;
			aml_bus_numbers(aml, 0, (uint8_t)(machine->bus_count - 1));
			if (io->size_bytes)
				aml_io_window(aml, (uint16_t)io->first, (uint16_t)window_last(io));
			if (low->size_bytes)
				aml_memory32_window(aml, (uint32_t)low->first, (uint32_t)window_last(low));
			if (high->size_bytes)
				aml_memory64_window(aml, high->first, window_last(high));
		}
		host_bridge_osc(aml);
		AML_PACKAGE(aml, "_PRT")
		{
			for (unsigned device = 0; device < BUS_DEVICES; device++)
				for (unsigned pin = 0; pin < PINS; pin++)
					interrupt_route(aml, device, pin, root_bus_gsi(device, pin));
		}
		for (unsigned i = 0; i < machine->bridge_count; i++)
			pci_bridge(aml, &machine->bridges[i]);
	}
}

/* Systems use the ECAM only when some device of the board claims it (PCI Firmware Specification 3.3, 4.1.2). */
static void board_resources(struct aml *aml, unsigned bus_count)
{
	AML_DEVICE(aml, "MBRD")
	{
		aml_name(aml, "_HID", aml_eisa_id("PNP0C02"));
		aml_name(aml, "_UID", aml_integer(0));
		AML_RESOURCES(aml, "_CRS")
		{
			aml_memory32_fixed(aml, LAYOUT_ECAM, bus_count * LAYOUT_ECAM_BUS_BYTES);
			aml_io(aml, LAYOUT_SLEEP_CONTROL_PORT, LAYOUT_RESET_PORT - LAYOUT_SLEEP_CONTROL_PORT + 1);
		}
	}
}

static void serial_port(struct aml *aml)
{
	AML_DEVICE(aml, "COM1")
	{
		aml_name(aml, "_HID", aml_eisa_id("PNP0501"));
		aml_name(aml, "_UID", aml_integer(0));
		AML_RESOURCES(aml, "_CRS")
		{
			aml_io(aml, LAYOUT_SERIAL_PORT, 8);
			aml_interrupt(aml, LAYOUT_SERIAL_GSI);
		}
	}
}

static void exit_device(struct aml *aml)
{
	AML_DEVICE(aml, "EXIT")
	{
		aml_name(aml, "_HID", aml_string("TNON0001"));
		aml_name(aml, "_UID", aml_integer(0));
		AML_RESOURCES(aml, "_CRS")
		{
			aml_io(aml, LAYOUT_EXIT_PORT, 4);
		}
	}
}

void dsdt_write(const struct acpi_machine *machine, struct aml *aml)
{
	/* SLP_TYP for the sleep control register; a hardware-reduced machine has no use for the other elements. */
	aml_name(aml, "\\_S5",
		 aml_package(aml_integer(LAYOUT_SLEEP_TYPE_S5), aml_integer(0), aml_integer(0), aml_integer(0)));
	AML_SCOPE(aml, "\\_SB")
	{
		processors(aml, machine->cpu_count);
		board_resources(aml, machine->bus_count);
		serial_port(aml);
		if (machine->exit_device)
			exit_device(aml);
		host_bridge(aml, machine);
	}
}
