// SPDX-License-Identifier: MIT
/*
 * Builds and tears down the machine, and keeps its long steps from waiting for each other.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "layout.h"
#include "log.h"
#include "machine.h"
#include "machine_boot.h"

/*
 * Up to this size guest memory is populated before the kernel is loaded: that takes less time than the devices' reset, and the
 * guest then boots on huge pages instead of faulting small ones in. Larger guests do not wait.
 */
#define SMALL_GUEST_BYTES (1ull << 30)

/* The first request wins. What it carries is stored before the loop is woken, and only read after that. */
void machine_request_stop(struct machine *machine, enum machine_stop stop, unsigned status, const char *message)
{
	enum machine_stop expected = MACHINE_RUNNING;
	if (!atomic_compare_exchange_strong(&machine->stop, &expected, stop))
		return;
	machine->exit_status = status;
	if (message)
		tenon_fail(&machine->failure, -EIO, "%s", message);
	dma_memory_stop_waiting(&machine->dma, true);
	for (unsigned i = 0; i < machine->options->cpus; i++)
		tenon_vcpu_pause(machine->vcpus[i].vcpu, false);
	eventfd_write(machine->wake_fd, 1);
}

static void power_requested(void *context, enum power_request request, unsigned status)
{
	static const enum machine_stop stops[] = {
		[POWER_OFF] = MACHINE_POWER_OFF, [POWER_RESET] = MACHINE_RESET, [POWER_EXIT] = MACHINE_EXIT};
	machine_request_stop(context, stops[request], status, NULL);
}

static void vcpu_stopped(void *context, unsigned index, enum tenon_vcpu_stop why, const char *message)
{
	static const enum machine_stop stops[] = {
		[TENON_VCPU_STOP_SHUTDOWN] = MACHINE_TRIPLE_FAULT,
		[TENON_VCPU_STOP_SYSTEM_RESET] = MACHINE_RESET,
		[TENON_VCPU_STOP_SYSTEM_OFF] = MACHINE_POWER_OFF,
		[TENON_VCPU_STOP_FAILED] = MACHINE_FAILED,
	};
	machine_request_stop(context, stops[why], 0, message);
}

static void port_read(void *context, uint16_t port, void *data, unsigned size_bytes)
{
	bus_read(&((struct machine *)context)->ports, port, data, size_bytes);
}

static void port_write(void *context, uint16_t port, const void *data, unsigned size_bytes)
{
	bus_write(&((struct machine *)context)->ports, port, data, size_bytes);
}

static void memory_read(void *context, uint64_t gpa, void *data, unsigned size_bytes)
{
	bus_read(&((struct machine *)context)->mmio, gpa, data, size_bytes);
}

static void memory_write(void *context, uint64_t gpa, const void *data, unsigned size_bytes)
{
	bus_write(&((struct machine *)context)->mmio, gpa, data, size_bytes);
}

static const struct tenon_vcpu_handlers vcpu_handlers = {
	.size = sizeof(vcpu_handlers),
	.port_read = port_read,
	.port_write = port_write,
	.memory_read = memory_read,
	.memory_write = memory_write,
	.stopped = vcpu_stopped,
};

static void serial_port_read(void *context, uint64_t offset, void *data, unsigned size_bytes)
{
	uint8_t *bytes = data;
	for (unsigned i = 0; i < size_bytes; i++)
		bytes[i] = serial_read(context, (unsigned)offset + i);
}

static void serial_port_write(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
	const uint8_t *bytes = data;
	for (unsigned i = 0; i < size_bytes; i++)
		serial_write(context, (unsigned)offset + i, bytes[i]);
}

static int create_serial(struct machine *machine, struct tenon_error *err)
{
	int code = chardev_open(machine->options->serial, &machine->chardev, err);
	if (code < 0)
		return code;
	if (strcmp(machine->options->serial, "pty") == 0) /* whose path nobody can guess */
		log_info("serial port: %s", chardev_name(machine->chardev));
	machine->serial_irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->serial_irq < 0)
		return tenon_fail(
			err, -errno,
			"serial port: cannot make its interrupt: %s; raise the limit of open files (ulimit -n)",
			strerror(errno));
	code = tenon_vm_irqfd_attach(machine->vm, LAYOUT_SERIAL_GSI, machine->serial_irq, -1, err);
	if (code == 0)
		code = serial_create(machine->chardev, machine->serial_irq, &machine->serial, err);
	if (code < 0)
		return code;
	const struct bus_range ports = {
		.first = LAYOUT_SERIAL_PORT,
		.size_bytes = 8,
		.handler = {.read = serial_port_read, .write = serial_port_write, .context = machine->serial},
	};
	return bus_add(&machine->ports, &ports, err);
}

static void chips_read(void *context, uint64_t offset, void *data, unsigned size_bytes)
{
	memset(data, 0xff, size_bytes);
}

static void chips_write(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
}

/* KVM's own: no BAR answers there, whatever the guest writes into its register. */
static int reserve_chips(struct machine *machine, struct tenon_error *err)
{
	static const struct {
		uint64_t first, size_bytes;
	} chips[] = {{LAYOUT_IOAPIC, 0x1000}, {LAYOUT_LAPIC, 0x100000}, {LAYOUT_KVM_IDENTITY_MAP, 0x4000}};
	int code = 0;
	for (unsigned i = 0; code == 0 && i < sizeof(chips) / sizeof(chips[0]); i++) {
		const struct bus_range range = {chips[i].first, chips[i].size_bytes, {chips_read, chips_write, NULL}};
		code = bus_add(&machine->mmio, &range, err);
	}
	return code;
}

/* Writes to it exit, and vanish on the bus. */
static int add_rom(struct machine *machine, struct tenon_error *err)
{
	if (!machine->rom.hva)
		return 0;
	const struct tenon_vm_memory slot = {
		.size = sizeof(slot),
		.gpa = rom_gpa(&machine->rom),
		.size_bytes = machine->rom.size_bytes,
		.hva = machine->rom.hva,
		.read_only = true,
	};
	const struct bus_range range = {slot.gpa, slot.size_bytes, {chips_read, chips_write, NULL}};
	int code = tenon_vm_memory_add(machine->vm, &slot, err);
	return code < 0 ? code : bus_add(&machine->mmio, &range, err);
}

static int create_memory(struct machine *machine, struct tenon_error *err)
{
	uint64_t needed = machine->options->kernel ? loader_memory_needed(&machine->files) : 0;
	if (machine->options->memory.size_bytes < needed)
		return tenon_fail(err, -EINVAL, "--memory: %llu MiB is too little for %s%s%s; give at least %lluM",
				  (unsigned long long)(machine->options->memory.size_bytes >> 20),
				  machine->options->kernel, machine->options->initrd ? " with " : "",
				  machine->options->initrd ? machine->options->initrd : "",
				  (unsigned long long)((needed + (1 << 20) - 1) >> 20));
	int code = memory_create(&machine->options->memory, &machine->memory, err);
	for (unsigned i = 0; code == 0 && i < machine->memory.part_count; i++) {
		const struct tenon_vm_memory slot = {
			.size = sizeof(slot),
			.gpa = machine->memory.parts[i].gpa,
			.size_bytes = machine->memory.parts[i].size_bytes,
			.hva = machine->memory.parts[i].hva,
		};
		code = tenon_vm_memory_add(machine->vm, &slot, err);
	}
	return code;
}

static bool stops(void *context)
{
	const struct machine *machine = context;
	return atomic_load(&machine->stop) != MACHINE_RUNNING || atomic_load(&machine->quiet);
}

/* Each device may get a bus of its own: which does is known when all are open, and ECAM's size sooner. */
static int create_slots(struct machine *machine, struct tenon_error *err)
{
	const struct run_options *options = machine->options;
	int code = reserve_chips(machine, err);
	if (code == 0)
		code = pci_host_init(&machine->pci, 1 + options->device_count + options->hotplug_ports, &machine->mmio,
				     err);
	machine->slots.vm = machine->vm;
	machine->slots.stops = stops;
	machine->slots.stops_context = machine;
	return code < 0 ? code : slots_create(&machine->slots, options, err);
}

struct assigned_machine machine_for_devices(struct machine *machine)
{
	return (struct assigned_machine){.space = machine->space,
					 .dma = &machine->dma,
					 .vm = machine->vm,
					 .ports = &machine->ports,
					 .memory = &machine->mmio};
}

static int create_vcpus(struct machine *machine, struct tenon_error *err)
{
	unsigned count = machine->options->cpus;
	if (count > tenon_vm_max_vcpus(machine->vm))
		return tenon_fail(err, -EINVAL, "--cpus %u: this host's KVM allows %u; give fewer", count,
				  tenon_vm_max_vcpus(machine->vm));
	int code = cpu_model_create(machine->vm, count, &machine->cpu_model, err);
	for (unsigned i = 0; code == 0 && i < count; i++) {
		struct machine_vcpu *slot = &machine->vcpus[i];
		code = tenon_vcpu_create(machine->vm, i, &vcpu_handlers, machine, &slot->vcpu, err);
		if (code == 0)
			code = cpu_init(machine->cpu_model, slot->vcpu, err);
	}
	return code;
}

struct opener {
	struct machine *machine;
	struct tenon_error error;
	int code;
};

static void *open_devices(void *argument)
{
	struct opener *opener = argument;
	struct machine *machine = opener->machine;
	const struct assigned_machine parts = machine_for_devices(machine);
	for (unsigned i = 0; opener->code == 0 && i < machine->options->device_count; i++) {
		struct slot *slot = &machine->slots.slot[i];
		uint64_t started = log_now_ns();
		opener->code = assigned_open(slot->assigned, &parts, &opener->error);
		if (opener->code < 0)
			break;
		log_step(log_now_ns() - started, "%s: opening and resetting", machine->options->devices[i].address);
		opener->code = slots_watch(&machine->slots, slot, slot->assigned, &opener->error);
	}
	if (opener->code == 0)
		opener->code = tenon_space_check_resets(machine->space, &opener->error);
	return NULL;
}

static void mapping_failed(void *context, const struct tenon_error *error)
{
	machine_request_stop(context, MACHINE_FAILED, 0, error->message);
}

/* A guest that comes from elsewhere brings its memory. */
static int load(struct machine *machine, struct loader_entry *entry, struct tenon_error *err)
{
	return machine->options->incoming ? 0 : machine_load(machine, entry, err);
}

/*
 * The long steps of start-up, side by side: one thread opens the devices (mostly waiting for their reset), others populate
 * memory, this one makes the vCPUs and loads the kernel.
 */
static int open_and_load(struct machine *machine, struct loader_entry *entry, struct tenon_error *err)
{
	if (machine->options->device_count == 0) {
		int code = create_vcpus(machine, err);
		if (code == 0 && machine->options->memory.prefault)
			code = memory_populate(&machine->memory, 0, NULL, err);
		return code < 0 ? code : load(machine, entry, err);
	}
	struct opener opener = {.machine = machine};
	pthread_t thread;
	int code = dma_memory_start(&machine->dma, err);
	if (code < 0)
		return code;
	bool threaded = pthread_create(&thread, NULL, open_devices, &opener) == 0;
	if (!threaded)
		open_devices(&opener);
	code = create_vcpus(machine, err);
	if (machine->options->memory.size_bytes <= SMALL_GUEST_BYTES)
		dma_memory_wait_populated(&machine->dma);
	if (code == 0)
		code = load(machine, entry, err);
	if (threaded)
		pthread_join(thread, NULL);
	if (code == 0 && opener.code < 0) {
		*err = opener.error;
		code = opener.code;
	}
	return code < 0 ? code : dma_memory_devices_open(&machine->dma, err);
}

/* What the user asked to have before the guest starts. */
static int wait_for_memory(struct machine *machine, struct tenon_error *err)
{
	const struct run_options *options = machine->options;
	if (options->device_count == 0 || (!options->memory.prefault && !options->dry_run))
		return 0;
	if (dma_memory_wait(&machine->dma))
		return 0;
	*err = machine->dma.error;
	return err->code;
}

/* Power-on state is kept after CPUID and MSRs are set and before boot registers are: what a reset goes back to. */
static int capture_power_on(struct machine *machine, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < machine->options->cpus; i++)
		code = tenon_vcpu_state_capture(machine->vcpus[i].vcpu, &machine->vcpus[i].power_on, err);
	return code;
}

/* A guest that comes from elsewhere brings its memory, and finds its devices untouched. */
static int power_on(struct machine *machine, const struct loader_entry *entry, struct tenon_error *err)
{
	if (machine->options->incoming) {
		machine_reset_bridges(machine);
		return 0;
	}
	int code = machine_configure(machine, err);
	return code < 0 ? code : machine_enter(machine, entry, err);
}

static int build(struct machine *machine, struct tenon_error *err)
{
	const struct run_options *options = machine->options;
	const struct tenon_vm_options vm_options = {.size = sizeof(vm_options)};
	const struct tenon_space_options space_options = {
		.size = sizeof(space_options), .iommufd = options->iommufd, .interface = options->iommu};
	struct loader_entry entry;

	machine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->wake_fd < 0)
		return tenon_fail(err, -errno, "cannot make an eventfd: %s; raise the limit of open files (ulimit -n)",
				  strerror(errno));
	int code = options->firmware ? rom_load(options->firmware, &machine->rom, err) : 0;
	if (code == 0 && options->kernel)
		code = loader_files_init(&machine->files, options->kernel, options->initrd, options->append, err);
	if (code == 0)
		code = tenon_vm_create(&vm_options, &machine->vm, err);
	if (code == 0)
		code = create_memory(machine, err);
	if (code == 0)
		code = add_rom(machine, err);
	if (code == 0)
		code = create_serial(machine, err);
	if (code == 0)
		code = power_init(&machine->power, options->exit_device, &machine->ports, err);
	if (code == 0)
		code = create_slots(machine, err);
	if (code == 0)
		code = tenon_space_create(&space_options, &machine->space, err);
	machine->dma.space = machine->space;
	if (code == 0)
		code = open_and_load(machine, &entry, err);
	if (code == 0)
		code = slots_arrange(&machine->slots, options, &machine->pci, err);
	if (code == 0)
		code = machine_place_devices(machine, err);
	if (code == 0)
		code = capture_power_on(machine, err);
	if (code == 0)
		code = power_on(machine, &entry, err);
	if (code == 0)
		code = wait_for_memory(machine, err);
	return code;
}

int machine_create(const struct run_options *options, struct machine **out, struct tenon_error *err)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	if (!machine)
		return tenon_fail(err, -ENOMEM, "out of memory; free some memory");
	machine->options = options;
	machine->serial_irq = machine->wake_fd = -1;
	machine->memory.fd = -1;
	machine->power = (struct power){.request = power_requested, .context = machine};
	machine->dma = (struct dma_memory){.memory = &machine->memory, .failed = mapping_failed, .context = machine};
	dma_memory_init(&machine->dma);
	pthread_mutex_init(&machine->topology, NULL);
	bus_init(&machine->ports, "port");
	bus_init(&machine->mmio, "address");

	int code = slots_init(&machine->slots, err);
	if (code == 0)
		code = build(machine, err);
	if (code < 0) {
		machine_destroy(machine);
		return code;
	}
	*out = machine;
	return 0;
}

void machine_destroy(struct machine *machine)
{
	if (!machine)
		return;
	/* A vCPU may wait for the mapping thread, and that thread may pause vCPUs: it ends first. */
	dma_memory_finish(&machine->dma);
	for (unsigned i = 0; i < CPU_COUNT_MAX; i++) {
		tenon_vcpu_destroy(machine->vcpus[i].vcpu);
		tenon_vcpu_state_free(machine->vcpus[i].power_on);
	}
	slots_finish(&machine->slots);
	tenon_space_destroy(machine->space);
	serial_destroy(machine->serial);
	chardev_close(machine->chardev);
	cpu_model_destroy(machine->cpu_model);
	tenon_vm_destroy(machine->vm);
	memory_destroy(&machine->memory);
	rom_finish(&machine->rom);
	loader_files_finish(&machine->files);
	if (machine->serial_irq >= 0)
		close(machine->serial_irq);
	if (machine->wake_fd >= 0)
		close(machine->wake_fd);
	bus_finish(&machine->ports);
	bus_finish(&machine->mmio);
	pci_host_finish(&machine->pci);
	free(machine);
}

int machine_start(struct machine *machine, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < machine->options->cpus; i++)
		code = tenon_vcpu_start(machine->vcpus[i].vcpu, err);
	return code;
}

void machine_pause(struct machine *machine)
{
	/* All are asked before any is waited for. */
	for (unsigned i = 0; i < machine->options->cpus; i++)
		tenon_vcpu_pause(machine->vcpus[i].vcpu, false);
	for (unsigned i = 0; i < machine->options->cpus; i++)
		tenon_vcpu_pause(machine->vcpus[i].vcpu, true);
}

void machine_lock_topology(struct machine *machine)
{
	pthread_mutex_lock(&machine->topology);
}

bool machine_try_topology(struct machine *machine)
{
	/* Wanted first: whoever unlocks it from now on tells. */
	atomic_store(&machine->topology_wanted, true);
	if (pthread_mutex_trylock(&machine->topology) != 0)
		return false;
	atomic_store(&machine->topology_wanted, false);
	return true;
}

void machine_unlock_topology(struct machine *machine)
{
	pthread_mutex_unlock(&machine->topology);
	if (atomic_load(&machine->topology_wanted))
		eventfd_write(machine->wake_fd, 1);
}

static void reset_devices(struct machine *machine)
{
	struct tenon_error error;
	if (tenon_space_reset(machine->space, &error) < 0)
		log_error(&error);
	serial_reset(machine->serial);
}

int machine_reset(struct machine *machine, struct tenon_error *err)
{
	struct loader_entry entry;
	/* A failure that came while the guest reset itself found the machine stopped already. */
	if (machine->dma.started && dma_memory_failed(&machine->dma)) {
		*err = machine->dma.error;
		return err->code;
	}
	reset_devices(machine);
	int code = tenon_vm_irqchip_reset(machine->vm, err);
	for (unsigned i = 0; code == 0 && i < machine->options->cpus; i++)
		code = tenon_vcpu_state_restore(machine->vcpus[i].vcpu, machine->vcpus[i].power_on,
						TENON_VCPU_RESTORE_RESET, err);
	if (code == 0)
		code = machine_configure(machine, err);
	if (code == 0)
		code = machine_load(machine, &entry, err);
	if (code == 0)
		code = machine_enter(machine, &entry, err);
	if (code < 0)
		return code;
	dma_memory_stop_waiting(&machine->dma, false);
	atomic_store(&machine->stop, MACHINE_RUNNING);
	for (unsigned i = 0; i < machine->options->cpus; i++)
		tenon_vcpu_resume(machine->vcpus[i].vcpu);
	return 0;
}

void machine_stats(const struct machine *machine, struct tenon_vcpu_stats *out)
{
	*out = (struct tenon_vcpu_stats){0};
	for (unsigned i = 0; i < machine->options->cpus; i++) {
		struct tenon_vcpu_stats one;
		tenon_vcpu_stats_read(machine->vcpus[i].vcpu, &one);
		out->port_reads += one.port_reads;
		out->port_writes += one.port_writes;
		out->memory_reads += one.memory_reads;
		out->memory_writes += one.memory_writes;
		out->kicks += one.kicks;
		out->halts += one.halts;
		out->dirty_ring_full += one.dirty_ring_full;
		out->other += one.other;
	}
}
