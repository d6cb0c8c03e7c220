// SPDX-License-Identifier: MIT
/* The machine of migration_machine.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <criterion/criterion.h>

#include "migration_machine.h"

/* ---- Devices ---- */

static bool fails(struct test_device *device, enum device_call call)
{
	return device->fail_call == call && device->fail_at && --device->fail_at == 0;
}

static int dev_info(void *context, struct tenon_migration_info *info, struct tenon_error *err)
{
	struct test_device *device = context;
	info->migratable = device->migratable;
	info->p2p = device->p2p;
	info->pre_copy = device->pre_copy;
	info->dirty = device->dirty;
	info->why[0] = '\0';
	if (!device->migratable || device->dirty == TENON_DIRTY_NONE)
		snprintf(info->why, sizeof(info->why), "made so by the test");
	return 0;
}

static enum tenon_migration_state dev_state(void *context)
{
	return ((struct test_device *)context)->state;
}

/* The contract among peers: nobody stands while another may write to it, and the guest runs only with devices that work. */
static void check_contract(struct test_device *device)
{
	struct test_machine *machine = device->machine;
	bool writes = false, stands = false;
	for (unsigned i = 0; i < machine->device_count; i++) {
		const struct tenon_migration_rule *rule = tenon_migration_rule(machine->devices[i].state);
		writes = writes || rule->dma;
		stands = stands || !rule->answers;
		if (machine_runs(machine) && !rule->usable)
			device->violations++;
	}
	if (writes && stands)
		device->violations++;
}

static int dev_set(void *context, enum tenon_migration_state state, struct tenon_error *err)
{
	struct test_device *device = context;
	while (device->state != state) {
		int next = tenon_migration_next(device->state, state, device->p2p, device->pre_copy);
		if (next < 0)
			return tenon_fail(err, next, "device %u: no way to state %d", device->number, state);
		if (fails(device, CALL_SET))
			return tenon_fail(err, -EIO, "device %u: asked to fail on the way to %s", device->number,
					  tenon_migration_rule((enum tenon_migration_state)next)->name);
		/* A session begins; from pre-copy to stop-copy it goes on. */
		if (next == TENON_MIGRATION_PRE_COPY ||
		    (next == TENON_MIGRATION_STOP_COPY && device->state == TENON_MIGRATION_STOP))
			device->sent = 0;
		if (next == TENON_MIGRATION_RESUMING)
			device->loaded = 0;
		if (device->state == TENON_MIGRATION_RESUMING) {
			if (device->loaded != device->data_bytes)
				device->violations++;
			memcpy(device->data, device->incoming, device->data_bytes);
		}
		device->state = (enum tenon_migration_state)next;
		check_contract(device);
	}
	return 0;
}

/* While it runs half of its data can be had. */
static size_t readable(const struct test_device *device)
{
	size_t end = device->state == TENON_MIGRATION_STOP_COPY ? device->data_bytes : device->data_bytes / 2;
	return device->sent < end ? end - device->sent : 0;
}

static int64_t dev_read(void *context, void *data, size_t capacity, struct tenon_error *err)
{
	struct test_device *device = context;
	if (!tenon_migration_rule(device->state)->saves)
		device->violations++;
	if (fails(device, CALL_READ))
		return tenon_fail(err, -EIO, "device %u: asked to fail to read", device->number);
	size_t bytes = readable(device) < capacity ? readable(device) : capacity;
	if (bytes > 70000)
		bytes = 70000;
	memcpy(data, device->data + device->sent, bytes);
	device->sent += bytes;
	return (int64_t)bytes;
}

static int dev_write(void *context, const void *data, size_t bytes, struct tenon_error *err)
{
	struct test_device *device = context;
	if (!tenon_migration_rule(device->state)->loads)
		device->violations++;
	if (fails(device, CALL_WRITE))
		return tenon_fail(err, -EIO, "device %u: asked to fail to write", device->number);
	if (bytes > device->data_bytes - device->loaded)
		return tenon_fail(err, -EINVAL, "device %u: too much data", device->number);
	memcpy(device->incoming + device->loaded, data, bytes);
	device->loaded += bytes;
	return 0;
}

static int dev_pre_copy(void *context, uint64_t *initial_bytes, uint64_t *dirty_bytes, struct tenon_error *err)
{
	struct test_device *device = context;
	if (fails(device, CALL_PRE_COPY))
		return tenon_fail(err, -EIO, "device %u: asked to fail to say what is left", device->number);
	*initial_bytes = readable(device);
	*dirty_bytes = 0;
	return 0;
}

static int dev_size(void *context, uint64_t *bytes, struct tenon_error *err)
{
	struct test_device *device = context;
	*bytes = device->data_bytes - (device->pre_copy ? device->sent : 0);
	return 0;
}

static int dev_save(void *context, void **data, size_t *bytes, struct tenon_error *err)
{
	struct test_device *device = context;
	if (fails(device, CALL_SAVE))
		return tenon_fail(err, -EIO, "device %u: asked to fail to save", device->number);
	*data = strdup("emulated");
	*bytes = 8;
	return 0;
}

static int dev_load(void *context, const void *data, size_t bytes, struct tenon_error *err)
{
	struct test_device *device = context;
	if (fails(device, CALL_LOAD))
		return tenon_fail(err, -EIO, "device %u: asked to fail to load", device->number);
	device->violations += device->state != TENON_MIGRATION_STOP;
	device->has_emulated = bytes == 8 && memcmp(data, "emulated", 8) == 0;
	return device->has_emulated ? 0 : tenon_fail(err, -EINVAL, "device %u: not its state", device->number);
}

static const struct tenon_migratable_ops device_ops = {
	.size = sizeof(device_ops),
	.info = dev_info,
	.state = dev_state,
	.set = dev_set,
	.read = dev_read,
	.write = dev_write,
	.pre_copy = dev_pre_copy,
	.size_bytes = dev_size,
	.save = dev_save,
	.load = dev_load,
};

/* ---- The guest ---- */

static void write_page(struct test_machine *machine, uint32_t page)
{
	uint64_t value = atomic_fetch_add(&machine->writes, 1) + 1;
	memcpy(machine->memory + (size_t)page * TENON_MIGRATION_PAGE_BYTES + 64, &value, sizeof(value));
	__atomic_fetch_or(&machine->dirty[page / 64], 1ull << page % 64, __ATOMIC_SEQ_CST);
}

static void *guest(void *argument)
{
	struct test_machine *machine = argument;
	uint32_t page = 0;
	while (!machine->end) {
		pthread_mutex_lock(&machine->lock);
		machine->paused = machine->pause;
		machine->running = !machine->pause;
		pthread_cond_broadcast(&machine->changed);
		while (machine->pause && !machine->end)
			pthread_cond_wait(&machine->changed, &machine->lock);
		machine->paused = false;
		machine->running = !machine->end;
		pthread_mutex_unlock(&machine->lock);
		if (machine->hot_pages)
			write_page(machine, page++ % machine->hot_pages);
		const struct timespec moment = {.tv_nsec = 200000};
		nanosleep(&moment, NULL);
	}
	machine->running = false;
	return NULL;
}

bool machine_runs(const struct test_machine *machine)
{
	return machine->running;
}

static void start_guest(struct test_machine *machine)
{
	machine->running = true;
	machine->has_guest = true;
	cr_assert_eq(pthread_create(&machine->guest, NULL, guest, machine), 0);
}

void machine_settle(struct test_machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	machine->hot_pages = 0;
	pthread_mutex_unlock(&machine->lock);
	const struct timespec moment = {.tv_nsec = 20000000};
	nanosleep(&moment, NULL);
}

/* ---- The machine's own calls ---- */

static int describe(void *context, void **data, size_t *bytes, struct tenon_error *err)
{
	struct test_machine *machine = context;
	*data = strdup(machine->description);
	*bytes = strlen(machine->description);
	return 0;
}

static int accept(void *context, const void *data, size_t bytes, struct tenon_error *err)
{
	struct test_machine *machine = context;
	if (bytes == strlen(machine->description) && memcmp(data, machine->description, bytes) == 0)
		return 0;
	return tenon_fail(err, -EINVAL, "the source is a machine of another kind; start one like it");
}

static int dirty_log(void *context, bool enable, struct tenon_error *err)
{
	struct test_machine *machine = context;
	machine->logging = enable;
	return 0;
}

static int dirty_fetch(void *context, unsigned ram, uint64_t *bitmap, struct tenon_error *err)
{
	struct test_machine *machine = context;
	if (machine->fail_dirty)
		return tenon_fail(err, machine->fail_dirty, "asked to fail to fetch dirty pages");
	size_t words = MACHINE_PAGES / 2 / 64;
	for (size_t i = 0; i < words; i++)
		bitmap[i] |= __atomic_exchange_n(&machine->dirty[ram * words + i], 0, __ATOMIC_SEQ_CST);
	return 0;
}

static int pause_guest(void *context, struct tenon_error *err)
{
	struct test_machine *machine = context;
	if (machine->fail_pause)
		return tenon_fail(err, machine->fail_pause, "asked to fail to pause");
	pthread_mutex_lock(&machine->lock);
	machine->pause = true;
	while (!machine->paused)
		pthread_cond_wait(&machine->changed, &machine->lock);
	pthread_mutex_unlock(&machine->lock);
	return 0;
}

static void resume_guest(void *context)
{
	struct test_machine *machine = context;
	pthread_mutex_lock(&machine->lock);
	machine->pause = false;
	machine->running = true;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
}

static int save(void *context, tenon_migration_part_fn part, void *part_context, struct tenon_error *err)
{
	struct test_machine *machine = context;
	static uint8_t large[LARGE_PART_BYTES];
	uint32_t writes = machine->writes;
	if (machine->fail_save)
		return tenon_fail(err, machine->fail_save, "asked to fail to save");
	for (size_t i = 0; i < sizeof(large); i++)
		large[i] = (uint8_t)(i * 7);
	int code = part(part_context, "cpu", 1, &writes, sizeof(writes), err);
	return code < 0 ? code : part(part_context, "large", 2, large, machine->large_bytes, err);
}

static int load(void *context, const char *name, uint32_t version, const void *data, size_t bytes,
		struct tenon_error *err)
{
	struct test_machine *machine = context;
	const uint8_t *large = data;
	uint32_t writes;
	if (machine->fail_load)
		return tenon_fail(err, machine->fail_load, "asked to fail to load");
	if (strcmp(name, "cpu") == 0 && version == 1 && bytes == sizeof(writes)) {
		memcpy(&writes, data, sizeof(writes));
		machine->writes = writes;
		machine->parts_seen |= 1;
		return 0;
	}
	if (strcmp(name, "large") != 0 || version != 2 || bytes != machine->large_bytes)
		return tenon_fail(err, -EINVAL, "part %s is not known", name);
	for (size_t i = 0; i < bytes; i++)
		if (large[i] != (uint8_t)(i * 7))
			return tenon_fail(err, -EINVAL, "part %s is damaged", name);
	machine->parts_seen |= 2;
	return 0;
}

static int loaded(void *context, struct tenon_error *err)
{
	struct test_machine *machine = context;
	return machine->parts_seen == 3 ? 0 : tenon_fail(err, -EINVAL, "a part is missing");
}

static void start(void *context)
{
	start_guest(context);
}

static const struct tenon_migration_machine_ops machine_ops = {
	.size = sizeof(machine_ops),
	.describe = describe,
	.accept = accept,
	.dirty_log = dirty_log,
	.dirty_fetch = dirty_fetch,
	.pause = pause_guest,
	.resume = resume_guest,
	.save = save,
	.load = load,
	.loaded = loaded,
	.start = start,
};

/* ---- Its life ---- */

static void fill(struct test_machine *machine, size_t zero_from)
{
	const size_t region_pages = MACHINE_PAGES / 2;
	uint64_t random = 88172645463325252ull;
	for (size_t page = 0; page < MACHINE_PAGES; page++) {
		uint64_t *words = (uint64_t *)(machine->memory + page * TENON_MIGRATION_PAGE_BYTES);
		size_t place = page % region_pages;
		if (page % 3 == 0 || (place >= zero_from && place != region_pages - 1))
			continue;
		for (size_t i = 0; i < TENON_MIGRATION_PAGE_BYTES / 8; i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			words[i] = random;
		}
	}
	for (unsigned i = 0; i < machine->device_count; i++)
		for (size_t at = 0; at < machine->devices[i].data_bytes; at++)
			machine->devices[i].data[at] = (uint8_t)(at * 31 + i + 1);
}

void machine_init(struct test_machine *machine, unsigned device_count, bool source)
{
	const struct machine_shape large = {DEVICE_DATA_BYTES, LARGE_PART_BYTES, MACHINE_PAGES, 20};
	machine_init_small(machine, device_count, source, &large);
}

void machine_init_small(struct test_machine *machine, unsigned device_count, bool source,
			const struct machine_shape *shape)
{
	memset(machine, 0, sizeof(*machine));
	machine->memory = mmap(NULL, MACHINE_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(machine->memory, MAP_FAILED);
	pthread_mutex_init(&machine->lock, NULL);
	pthread_cond_init(&machine->changed, NULL);
	machine->device_count = device_count;
	machine->description = "a machine";
	machine->large_bytes = shape->large_bytes;
	machine->hot_pages = shape->hot_pages;
	machine->ram[0] = (struct tenon_migration_ram){0, MACHINE_RAM_BYTES / 2, machine->memory};
	machine->ram[1] = (struct tenon_migration_ram){1ull << 32, MACHINE_RAM_BYTES / 2,
						       machine->memory + MACHINE_RAM_BYTES / 2};
	for (unsigned i = 0; i < device_count; i++) {
		machine->devices[i] = (struct test_device){.machine = machine,
							   .number = i,
							   .data_bytes = shape->device_bytes,
							   .p2p = true,
							   .pre_copy = true,
							   .migratable = true,
							   .dirty = TENON_DIRTY_DEVICE,
							   .state = TENON_MIGRATION_RUNNING};
		machine->list[i].ops = &device_ops;
		machine->list[i].context = &machine->devices[i];
		snprintf(machine->list[i].name, sizeof(machine->list[i].name), "device-%u", i);
	}
	machine->what = (struct tenon_migration_machine){
		.size = sizeof(machine->what),
		.ram = machine->ram,
		.ram_count = 2,
		.devices = machine->list,
		.device_count = device_count,
		.ops = &machine_ops,
		.context = machine,
	};
	if (source) {
		fill(machine, shape->zero_from);
		start_guest(machine);
	}
}

void machine_finish(struct test_machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	machine->end = true;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	if (machine->has_guest)
		pthread_join(machine->guest, NULL);
	munmap(machine->memory, MACHINE_RAM_BYTES);
	pthread_mutex_destroy(&machine->lock);
	pthread_cond_destroy(&machine->changed);
}

bool machine_equal(const struct test_machine *one, const struct test_machine *other)
{
	bool equal = memcmp(one->memory, other->memory, MACHINE_RAM_BYTES) == 0;
	for (unsigned i = 0; i < one->device_count; i++)
		equal = equal && memcmp(one->devices[i].data, other->devices[i].data, DEVICE_DATA_BYTES) == 0;
	return equal;
}

unsigned machine_violations(const struct test_machine *machine)
{
	unsigned count = 0;
	for (unsigned i = 0; i < machine->device_count; i++)
		count += machine->devices[i].violations;
	return count;
}
