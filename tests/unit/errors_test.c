// SPDX-License-Identifier: MIT
/*
 * Failure everywhere: one story of a VM's life with three devices is told again and again, each time with another kernel
 * call, or another operation of the VMM, failing. Whatever happens, the caller gets a message or the user a line, nothing is
 * left behind, and the next run works.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "vfio_fixture.h"

TestSuite(errors, .init = fake_world_reset, .timeout = 300);

#define DEVICES 3

struct vm {
	struct tenon_space *space;
	struct fake_device *fakes[DEVICES];
	struct fake_host hosts[DEVICES];
	struct fixture devices[DEVICES]; /* for the guest's words; space and err are not used */
	unsigned reported;               /* failures that a function returned */
	const char *step;
};

/* How the devices are used, in all that follows. */
static enum tenon_interface interface;

static void check(struct vm *vm, const char *step, int code, struct tenon_error *err)
{
	vm->step = step;
	if (code >= 0)
		return;
	vm->reported++;
	cr_assert_neq(err->message[0], '\0', "%s failed with %d without a message", step, code);
	assert_message(err, code);
	*err = (struct tenon_error){0};
}

static void add_ram(struct vm *vm, uint64_t gpa)
{
	static void *memory;
	if (!memory)
		memory = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tenon_error err = {0};
	const struct tenon_space_region region = {
		.size = sizeof(region), .gpa = gpa, .size_bytes = RAM_BYTES, .hva = memory};
	check(vm, "add RAM", tenon_space_add(vm->space, &region, &err), &err);
}

static void open_device(struct vm *vm, unsigned index)
{
	struct fixture *fixture = &vm->devices[index];
	struct tenon_error err = {0};
	memset(fixture, 0, sizeof(*fixture));
	host_init(&vm->hosts[index]);
	fixture->fake = vm->fakes[index];
	const struct tenon_device_options options = {
		.size = sizeof(options),
		.address = vm->fakes[index]->bdf,
		.space = vm->space,
		.ops = &vm->hosts[index].ops,
		.host = &vm->hosts[index],
		.slot = TENON_SLOT_ROOT_PORT,
		.intx = index == 2 ? TENON_INTX_TRAPPED : TENON_INTX_AUTO,
	};
	check(vm, "open", tenon_device_open(&options, &fixture->device, &err), &err);
	vm->hosts[index].device = fixture->device;
}

static void use_msix(struct fixture *fixture)
{
	guest_place(fixture);
	guest_config_write(fixture, fixture->fake->msix + PCI_MSIX_FLAGS, 2,
			   PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	for (unsigned vector = 0; vector < 4; vector++)
		guest_msix_vector(fixture, vector, 0x40 + vector, false);
	guest_config_write(fixture, fixture->fake->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	guest_msix_mask(fixture, 2, true);
	guest_msix_vector(fixture, 2, 0x52, false);
	guest_msix_vector(fixture, 9, 0x49, false);
	fake_fire(fixture->fake, 0);
	guest_bar_write(fixture, 0, 0x14, 4, 0x460001);
	guest_bar(fixture, 0, 0x1c, 4);
	guest_bar(fixture, 0, FAKE_NVME_PBA, 8);
}

static void use_intx(struct fixture *fixture)
{
	guest_config_write(fixture, PCI_BASE_ADDRESS_0, 4, 0xd000);
	guest_command(fixture, PCI_COMMAND_IO | PCI_COMMAND_MASTER, 0);
	fake_intx(fixture->fake, true);
	guest_bar_write(fixture, 0, 3, 1, 0x80);
	guest_bar(fixture, 0, 3, 1);
	fake_intx(fixture->fake, false);
	guest_command(fixture, PCI_COMMAND_INTX_DISABLE, 0);
	guest_command(fixture, 0, PCI_COMMAND_INTX_DISABLE);
}

static void use_msi(struct fixture *fixture)
{
	/* Beside the other device's: where devices reach each other, they share one address space. */
	guest_config_write(fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA + 0x1000000);
	guest_command(fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
	fake_intx(fixture->fake, true); /* trapped, until MSI takes over */
	tenon_device_next_event(fixture->device);
	fake_intx(fixture->fake, false);
	guest_bar(fixture, 0, 0x24, 4);
	unsigned at = fixture->fake->msi;
	guest_config_write(fixture, at + PCI_MSI_ADDRESS_LO, 4, MESSAGE_ADDRESS);
	guest_config_write(fixture, at + PCI_MSI_DATA_64, 2, 0x40);
	guest_config_write(fixture, at + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	fake_fire(fixture->fake, 0);
	guest_config_write(fixture, at + PCI_MSI_DATA_64, 2, 0x41);
	guest_config_write(fixture, at + PCI_MSI_FLAGS, 2, 0);
}

/* The story. A failure ends nothing but what depends on it. */
static void live(struct vm *vm)
{
	void (*const use[DEVICES])(struct fixture * fixture) = {use_msix, use_intx, use_msi};
	struct tenon_error err = {0};
	const struct tenon_space_options options = {.size = sizeof(options), .interface = interface};
	check(vm, "create", tenon_space_create(&options, &vm->space, &err), &err);
	add_ram(vm, 0);
	for (unsigned i = 0; i < DEVICES; i++)
		open_device(vm, i);
	add_ram(vm, 0x40000000);
	for (unsigned i = 0; i < DEVICES; i++) {
		vm->step = "use";
		if (vm->devices[i].device)
			use[i](&vm->devices[i]);
		host_loop(&vm->hosts[i]);
	}
	for (unsigned i = 0; i < DEVICES; i++) {
		if (vm->devices[i].device)
			check(vm, "reset", tenon_device_reset(vm->devices[i].device, &err), &err);
	}
	for (unsigned i = 0; i < DEVICES; i++) {
		vm->step = "use after reset";
		if (vm->devices[i].device)
			use[i](&vm->devices[i]);
		host_loop(&vm->hosts[i]);
	}
	vm->step = "close";
	for (unsigned i = 0; i < DEVICES; i++) {
		vm->hosts[i].device = NULL;
		tenon_device_close(vm->devices[i].device);
	}
	tenon_space_destroy(vm->space);
}

static struct vm *new_vm(void)
{
	static struct vm vm;
	fake_world_reset();
	memset(&vm, 0, sizeof(vm));
	vm.fakes[0] = fake_nvme("0000:3b:00.0");
	vm.fakes[1] = fake_serial_card("0000:05:00.0");
	vm.fakes[2] = fake_edu("0000:04:00.0");
	if (interface == TENON_INTERFACE_CONTAINER)
		vm.fakes[2]->group = vm.fakes[1]->group;
	return &vm;
}

static unsigned lines_logged(const struct vm *vm)
{
	unsigned count = 0;
	for (unsigned i = 0; i < DEVICES; i++)
		count += vm->hosts[i].log_count;
	return count;
}

static void assert_clean(const struct vm *vm, const char *what)
{
	for (unsigned i = 0; i < DEVICES; i++)
		cr_assert_str_empty(host_leftovers(&vm->hosts[i]), "after %s: device %u: %s", what, i,
				    host_leftovers(&vm->hosts[i]));
	cr_assert_str_empty(fake_leftovers(), "after %s: %s", what, fake_leftovers());
}

/*
 * Calls whose failure nobody needs to hear of: reads and writes that a bus would also have lost, sysfs facts that are only
 * told (the group's number) or found elsewhere too (the reset method), taking away what goes with its file anyway, and a vector
 * that is delivered at once because the event loop cannot watch it. EINVAL of GET_IRQ_INFO is no failure: the
 * device lacks that kind.
 */
static bool may_be_silent(const char *call, int error)
{
	if (error == EINVAL && strcmp(call, "GET_IRQ_INFO") == 0)
		return true;
	if (interface == TENON_INTERFACE_CONTAINER &&
	    strcmp(call, "list") == 0) /* nobody asked for character devices */
		return true;
	static const char *const silent[] = {
		"pread",           "pwrite",        "link name",        "read line",
		"IOAS_UNMAP",      "IOMMU_DESTROY", "IOMMU_VFIO_IOAS",  "DETACH_IOMMUFD_PT",
		"IOMMU_UNMAP_DMA", "poll add",      "IOMMU_GET_HW_INFO"};
	for (unsigned i = 0; i < sizeof(silent) / sizeof(silent[0]); i++) {
		if (strcmp(call, silent[i]) == 0)
			return true;
	}
	return false;
}

static void assert_works_again(struct vm *vm, const char *what)
{
	fake_fail_call(0, 0);
	memset(vm->hosts, 0, sizeof(vm->hosts));
	memset(vm->devices, 0, sizeof(vm->devices));
	vm->space = NULL;
	vm->reported = 0;
	live(vm);
	cr_assert_eq(vm->reported, 0, "after %s a clean run fails", what);
	for (unsigned i = 0; i < DEVICES; i++)
		cr_assert_eq(vm->hosts[i].log_count, 0, "after %s a clean run logs: %s", what,
			     vm->hosts[i].logs[0].text);
	assert_clean(vm, what);
}

/* @return whether the n-th call existed */
static bool fail_nth_call(unsigned n, int error)
{
	struct vm *vm = new_vm();
	fake_fail_call(n, error);
	live(vm);
	const char *call = fake_failed_call();
	if (!call[0])
		return false;
	char what[128];
	snprintf(what, sizeof(what), "call %u (%s) failed with %s", n, call, strerror(error));
	assert_clean(vm, what);
	cr_assert(vm->reported || lines_logged(vm) || may_be_silent(call, error), "nobody hears that %s", what);
	assert_works_again(vm, what);
	return true;
}

static void fail_each_call(enum tenon_interface of, int error)
{
	interface = of;
	unsigned n = 1;
	while (fail_nth_call(n, error))
		n++;
	cr_assert_gt(n, 50, "the story makes only %u kernel calls", n);
	assert_no_heap_leak();
}

Test(errors, clean_run_fails_nothing)
{
	for (interface = TENON_INTERFACE_AUTO; interface <= TENON_INTERFACE_CONTAINER; interface++) {
		struct vm *vm = new_vm();
		live(vm);
		cr_assert_eq(vm->reported, 0);
		cr_assert_eq(lines_logged(vm), 0, "%s", vm->hosts[0].logs[0].text);
		assert_clean(vm, "a clean run");
	}
}

Test(errors, every_kernel_call_failed_in_turn)
{
	fail_each_call(TENON_INTERFACE_IOMMUFD, ENOMEM);
	fail_each_call(TENON_INTERFACE_CONTAINER, ENOMEM);
}

Test(errors, every_kernel_call_failed_in_turn_as_invalid)
{
	fail_each_call(TENON_INTERFACE_IOMMUFD, EINVAL);
	fail_each_call(TENON_INTERFACE_CONTAINER, EINVAL);
}

Test(errors, every_kernel_call_failed_in_turn_as_gone)
{
	fail_each_call(TENON_INTERFACE_IOMMUFD, ENODEV);
	fail_each_call(TENON_INTERFACE_CONTAINER, ENODEV);
}

/* A device that is unplugged or a kernel that is out of memory fails more than once. */
static void fail_each_kind(enum tenon_interface of)
{
	interface = of;
	struct vm *vm = new_vm();
	live(vm);
	for (enum fake_call kind = 0; kind < FAKE_CALLS; kind++) {
		vm = new_vm();
		fake_fail_always(kind, EIO);
		live(vm);
		char what[64];
		snprintf(what, sizeof(what), "all calls of kind %d failed", (int)kind);
		assert_clean(vm, what);
		fake_fail_always(kind, 0);
		assert_works_again(vm, what);
	}
	assert_no_heap_leak();
}

Test(errors, every_kernel_call_fails_from_some_point_on)
{
	fail_each_kind(TENON_INTERFACE_IOMMUFD);
	fail_each_kind(TENON_INTERFACE_CONTAINER);
}

/* Counts over all three devices: which of them the n-th call belongs to does not matter. */
static bool fail_nth_op(enum host_op op, unsigned n)
{
	struct vm *vm = new_vm();
	host_fail_any(op, n, ENOSPC);
	live(vm);
	bool existed = host_fail_any(op, 0, 0);
	if (!existed)
		return false;
	char what[64];
	snprintf(what, sizeof(what), "VMM operation %d failed at call %u", (int)op, n);
	cr_assert(vm->reported || lines_logged(vm), "nobody hears that %s", what);
	if (op == HOST_MEMORY_UNMAP) {
		/* The guest may still see that address range, but the kernel has all back. */
		cr_assert_str_empty(fake_leftovers(), "after %s: %s", what, fake_leftovers());
		assert_works_again(vm, what);
		return true;
	}
	assert_clean(vm, what);
	assert_works_again(vm, what);
	return true;
}

static void fail_each_op(enum tenon_interface of)
{
	interface = of;
	for (enum host_op op = 0; op < HOST_OPS; op++) {
		unsigned n = 1;
		if (op == HOST_IOEVENTFD) /* of devices that have doorbells: vfio_user_failures_test.c */
			continue;
		while (fail_nth_op(op, n))
			n++;
		cr_assert_gt(n, 1, "the story never calls operation %d", (int)op);
	}
	assert_no_heap_leak();
}

Test(errors, every_operation_of_the_vmm_failed_in_turn)
{
	fail_each_op(TENON_INTERFACE_IOMMUFD);
	fail_each_op(TENON_INTERFACE_CONTAINER);
}
