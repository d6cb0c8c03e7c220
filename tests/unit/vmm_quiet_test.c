// SPDX-License-Identifier: MIT
/* When a machine can be saved, and what keeps it from that. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "migrate/quiet.h"

static struct machine machine;
static struct run_options options;
static struct hotplug *hotplug;

static void make(void)
{
	struct tenon_error err = {0};
	machine.options = &options;
	machine.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	cr_assert_geq(machine.wake_fd, 0);
	pthread_mutex_init(&machine.topology, NULL);
	machine.dma.memory = &machine.memory;
	dma_memory_init(&machine.dma);
	cr_assert_eq(slots_init(&machine.slots, &err), 0, "%s", err.message);
	machine.slots.count = 2;
	for (unsigned i = 0; i < 2; i++) {
		struct slot *slot = &machine.slots.slot[i];
		*slot = (struct slot){.slots = &machine.slots, .leader = slot, .device = 3 + i, .devfn = (3 + i) << 3};
	}
	cr_assert_eq(chardev_open("none", &machine.chardev, &err), 0, "%s", err.message);
	cr_assert_eq(serial_create(machine.chardev, -1, &machine.serial, &err), 0, "%s", err.message);
	cr_assert_eq(hotplug_create(&machine, &hotplug, &err), 0, "%s", err.message);
	machine_lock_topology(&machine);
}

static void finish(void)
{
	machine_unlock_topology(&machine);
	hotplug_destroy(hotplug);
	serial_destroy(machine.serial);
	chardev_close(machine.chardev);
	slots_finish(&machine.slots);
	close(machine.wake_fd);
}

TestSuite(quiet, .init = make, .fini = finish, .timeout = 60);

Test(quiet, a_machine_where_nothing_happens_is_settled)
{
	struct tenon_error err = {0};
	cr_expect_eq(machine_settled(&machine, hotplug, &err), 0, "%s", err.message);
	cr_expect_eq(machine_settled(&machine, NULL, &err), 0, "%s", err.message);
}

Test(quiet, one_whose_guest_stops_is_not)
{
	static const struct {
		enum machine_stop stop;
		const char *why;
	} table[] = {
		{MACHINE_POWER_OFF, "the guest switched itself off"},
		{MACHINE_RESET, "the guest reset itself at this moment; migrate it again"},
		{MACHINE_EXIT, "the guest ended itself"},
		{MACHINE_TRIPLE_FAULT, "the guest crashed"},
		{MACHINE_QUIT, "the VM was told to end"},
		{MACHINE_FAILED, "the VM failed"},
	};
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct tenon_error err = {0};
		atomic_store(&machine.stop, table[i].stop);
		cr_expect_eq(machine_settled(&machine, hotplug, &err), -ECANCELED);
		cr_expect(strstr(err.message, table[i].why), "%s", err.message);
	}
}

Test(quiet, one_with_an_event_that_nobody_has_looked_at_is_not)
{
	struct tenon_error err = {0};
	/* Its thread wants the topology, which is held. */
	hotplug_device_event(hotplug, 1, HOTPLUG_EVENT_ERROR);
	cr_expect_eq(machine_settled(&machine, hotplug, &err), -EBUSY);
	cr_expect_str_eq(err.message, "the guest's 00:04.0: an event of its device waits to be looked at; try again");
}

Test(quiet, one_whose_memory_cannot_be_mapped_says_why)
{
	struct tenon_error err = {0};
	machine.dma.started = true;
	machine.dma.ended = true;
	tenon_fail(&machine.dma.error, -ENOMEM, "memory: cannot map it");
	cr_expect_eq(machine_settled(&machine, hotplug, &err), -ENOMEM);
	cr_expect_str_eq(err.message, "memory: cannot map it");
	machine.dma.started = false;
}

Test(quiet, a_bus_reset_that_the_guest_waits_for_is_seen)
{
	static const struct pci_function card;
	const struct pci_bridge_options conventional = {.kind = PCI_BRIDGE_CONVENTIONAL, .number = 1};
	const struct pci_bridge_ops none = {.msi = NULL};
	const struct pci_bridge_windows windows = {.io_bytes = 0};
	struct pci_bridge *bridge = NULL;
	bus_init(&machine.mmio, "memory");
	cr_assert_eq(pci_host_init(&machine.pci, 2, &machine.mmio, NULL), 0);
	cr_assert_eq(pci_bridge_create(&conventional, &none, &bridge, NULL), 0);
	cr_assert_eq(pci_bridge_plug(&machine.pci, 1, 0, false, bridge, NULL), 0);
	cr_assert_eq(pci_bridge_insert(bridge, &(struct pci_placed){0, &card}, 1, NULL), 0);
	pci_bridge_reset(bridge, &windows);
	cr_expect(!machine_wants_reset(&machine));
	/* Bridge control: the secondary bus reset bit. */
	machine.pci.root.functions[1][0]->config_write(bridge, 0x3e, 2, 0x40);
	cr_expect(machine_wants_reset(&machine));
	pci_bridge_destroy(bridge);
	pci_host_finish(&machine.pci);
	bus_finish(&machine.mmio);
}
