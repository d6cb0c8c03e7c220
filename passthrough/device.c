// SPDX-License-Identifier: MIT
/*
 * tenon_device: the life of an assigned device, and the locked doors of the public API. What a register or a vector does is in
 * config.c, bars.c and interrupts.c.
 */
#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"
#include "device.h"
#include "patience.h"
#include "place.h"
#include "sized.h"
#include "space.h"

#define GUEST_MESSAGES_MAX 64
#define EVENT_WAIT_MS      10u

void device_log(struct tenon_device *device, enum tenon_log_level level, const char *format, ...)
{
	if (!device->ops->log || device->guest_messages >= GUEST_MESSAGES_MAX)
		return;
	char line[sizeof(((struct tenon_error *)NULL)->message)];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	device->ops->log(device->host, level, line);
	if (++device->guest_messages == GUEST_MESSAGES_MAX) {
		snprintf(line, sizeof(line), "%s: more than %d messages; further ones are dropped until it is reset",
			 device->address.name, GUEST_MESSAGES_MAX);
		device->ops->log(device->host, TENON_LOG_WARNING, line);
	}
}

void device_log_error(struct tenon_device *device, const struct tenon_error *error)
{
	/* Of a server that does not answer, or is gone, remote.c tells, once. */
	if (device->transport->health != TRANSPORT_WELL && (error->code == -ETIMEDOUT || error->code == -ENOTCONN))
		return;
	device_log(device, TENON_LOG_ERROR, "%s", error->message);
}

uint32_t device_hardware_config_read(struct tenon_device *device, unsigned offset, unsigned size_bytes)
{
	uint32_t value = 0;
	if (device->transport->ops->region_read(device->transport, VFIO_PCI_CONFIG_REGION_INDEX, offset, &value,
						size_bytes) < 0)
		return UINT32_MAX;
	return le32toh(value);
}

void device_hardware_config_write(struct tenon_device *device, unsigned offset, unsigned size_bytes, uint32_t value)
{
	value = htole32(value);
	int code = device->transport->ops->region_write(device->transport, VFIO_PCI_CONFIG_REGION_INDEX, offset, &value,
							size_bytes);
	if (code < 0 && device->transport->health == TRANSPORT_WELL)
		device_log(device, TENON_LOG_ERROR,
			   "%s: cannot write config space at 0x%x: %s; it refuses the value, or is gone",
			   device->address.name, offset, strerror(-code));
}

SIZED_WHOLE(struct tenon_device_options, timeout_ms);
SIZED_WHOLE(struct tenon_host_ops, ioeventfd_detach);

/* What their first versions had: never changed, whatever is appended. */
#define OPTIONS_FIRST_BYTES SIZED_THROUGH(struct tenon_device_options, timeout_ms) /* which was reserved then */
#define OPS_FIRST_BYTES     SIZED_THROUGH(struct tenon_host_ops, intx_level)

/* The options and operations as this library knows them, whatever version of it the caller was built for. */
struct known {
	struct tenon_device_options options;
	struct tenon_host_ops ops;
};

static int check_choices(const struct tenon_device_options *options, struct tenon_error *err)
{
	const struct {
		const char *field;
		unsigned value, last;
	} choices[] = {
		{".slot", options->slot, TENON_SLOT_ROOT_PORT},
		{".reset", options->reset, TENON_RESET_NEVER},
		{".sriov", options->sriov, TENON_SRIOV_READ_ONLY},
		{".rom", options->rom, TENON_ROM_FILE},
		{".intx", options->intx, TENON_INTX_TRAPPED},
		{".timeout_ms", options->timeout_ms, REMOTE_TIMEOUT_MS_MAX},
	};
	for (unsigned i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		if (choices[i].value > choices[i].last)
			return tenon_fail(err, -EINVAL, "device: %s has no choice %u; see <tenon/device.h>",
					  choices[i].field, choices[i].value);
	}
	return 0;
}

static int check_options(const struct tenon_device_options *options, struct tenon_device **out, struct known *known,
			 struct tenon_error *err)
{
	if (!out || !options || !sized_copy(&known->options, options, sizeof(known->options), OPTIONS_FIRST_BYTES) ||
	    !sized_is_zero(known->options.reserved, sizeof(known->options.reserved)))
		return tenon_fail(err, -EINVAL,
				  "device: bad options; set .size = sizeof(struct tenon_device_options), and nothing "
				  "that this library does not know");
	options = &known->options;
	if (options->cdev < 0)
		return tenon_fail(
			err, -EINVAL,
			"device: .cdev is %d, which is no open file; pass an open VFIO character device, or 0 "
			"and an address",
			options->cdev);
	if (!options->address && options->cdev == 0)
		return tenon_fail(err, -EINVAL, "device: neither an address nor an open file; set .address or .cdev");
	const struct tenon_host_ops *ops = options->ops;
	if (!options->space || !ops || !sized_copy(&known->ops, ops, sizeof(known->ops), OPS_FIRST_BYTES))
		return tenon_fail(err, -EINVAL,
				  "device: .space and .ops (with its size) are required; see <tenon/host.h>");
	ops = &known->ops;
	if (!ops->bar_placed || !ops->route_set || !ops->route_commit || !ops->route_free || !ops->irqfd_attach ||
	    !ops->irqfd_detach || !ops->memory_map != !ops->memory_unmap || !ops->file_add != !ops->file_remove ||
	    !ops->intx_attach != !ops->intx_detach || !ops->ioeventfd_attach != !ops->ioeventfd_detach)
		return tenon_fail(err, -EINVAL, "device: a required host operation is missing; see <tenon/host.h>");
	if (options->intx == TENON_INTX_TRAPPED && !ops->intx_level)
		return tenon_fail(err, -EINVAL, "device: trapped INTx needs the host operation intx_level; set it");
	return check_choices(options, err);
}

static void describe(struct tenon_device *device)
{
	struct tenon_device_info *info = &device->info;
	const struct config *config = &device->config;
	snprintf(info->address, sizeof(info->address), "%s", device->address.name);
	const char *socket = address_of_socket(&device->address);
	snprintf(info->path, sizeof(info->path), "%s", socket ? socket : device->address.path);
	info->iommu_group = device->address.group;
	info->vendor_id = config_value16(config, PCI_VENDOR_ID);
	info->device_id = config_value16(config, PCI_DEVICE_ID);
	info->subsystem_vendor_id = config_value16(config, PCI_SUBSYSTEM_VENDOR_ID);
	info->subsystem_id = config_value16(config, PCI_SUBSYSTEM_ID);
	info->class_code = config_value32(config, PCI_CLASS_REVISION) >> 8;
	info->pcie = config->size_bytes == TENON_CONFIG_BYTES;
	info->sriov_hidden = config->sriov_hidden;
}

static int build(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err)
{
	int code = config_init(device, options, err);
	if (code == 0)
		code = interrupts_init(device, err);
	if (code == 0)
		code = rom_init(device, options, err);
	if (code == 0)
		code = bars_init(device, err);
	if (code < 0)
		return code;
	memcpy(device->config.unplaced, device->config.value, sizeof(device->config.unplaced));
	const struct tenon_device_place place = {.slot = options->slot, .multifunction = options->multifunction};
	code = place_set(device, &place, err);
	if (code < 0)
		return code;
	describe(device);
	code = events_init(device, err);
	return code < 0 ? code : remote_init(device, err);
}

int tenon_device_open(const struct tenon_device_options *options, struct tenon_device **out, struct tenon_error *err)
{
	struct known known;
	int code = check_options(options, out, &known, err);
	if (code < 0)
		return code;
	options = &known.options;
	struct tenon_device *device = calloc(1, sizeof(*device));
	if (!device)
		return tenon_fail(err, -ENOMEM, "device: out of memory; free some memory");
	pthread_mutex_init(&device->lock, NULL);
	device_migration_init(device);
	device->fd = -1;
	device->events = (struct events){.error_fd = -1, .request_fd = -1, .poll_fd = -1};
	device->interrupts.intx_trigger = device->interrupts.intx_unmask = -1;
	device->interrupts.intx_policy = options->intx;
	device->space = options->space;
	device->member = (struct space_member){.device = device, .group = -1, .group_fd = -1};
	device->known_ops = known.ops;
	device->ops = &device->known_ops;
	device->host = options->host;
	device->reset.policy = options->reset;
	device->remote = (struct remote){.reconnect = options->reconnect,
					 .timeout_ms = options->timeout_ms ? options->timeout_ms : REMOTE_TIMEOUT_MS,
					 .timer = -1};
	device->member.patience_ms = device->remote.timeout_ms;

	/* Binding resets a function that the kernel can reset (vfio_pci_core_enable); reset_at_open sees to the others. */
	code = binding_open(device, options, err);
	if (code == 0)
		code = build(device, options, err);
	if (code == 0)
		code = reset_at_open(device, err);
	code = remote_check_open(device, code, err);
	if (code < 0) {
		tenon_device_close(device);
		return code;
	}
	space_enlist(device->space, &device->member);
	*out = device;
	return 0;
}

void tenon_device_close(struct tenon_device *device)
{
	if (!device)
		return;
	space_delist(device->space, &device->member);
	remote_begin(device, REMOTE_RESET_MS);
	if (device->transport && device->config.size_bytes)
		reset_quiesce(device);
	reset_before_close(device);
	interrupts_finish(device);
	remote_finish(device);
	events_finish(device);
	bars_finish(device);
	rom_finish(device);
	device_migration_finish(device);
	binding_close(device);
	pthread_mutex_destroy(&device->lock);
	free(device);
}

const struct tenon_device_info *tenon_device_info(const struct tenon_device *device)
{
	return &device->info;
}

/* A guest's access, or the event loop's look: whoever is at the other end keeps nobody waiting for long. */
static void enter(struct tenon_device *device)
{
	pthread_mutex_lock(&device->lock);
	remote_begin(device, device->remote.timeout_ms);
}

/* The event loop has other devices to look after than one whose server keeps a vCPU waiting, or that takes a second to reset. */
static bool enter_soon(struct tenon_device *device)
{
	if (!patient_lock(&device->lock, EVENT_WAIT_MS))
		return false;
	remote_begin(device, device->remote.timeout_ms);
	return true;
}

static void leave(struct tenon_device *device)
{
	remote_end(device);
	pthread_mutex_unlock(&device->lock);
}

uint32_t tenon_device_config_read(struct tenon_device *device, unsigned offset, unsigned size_bytes)
{
	enter(device);
	uint32_t value = config_read(device, offset, size_bytes);
	leave(device);
	return value;
}

void tenon_device_config_write(struct tenon_device *device, unsigned offset, unsigned size_bytes, uint32_t value)
{
	enter(device);
	device->reset.used = device->reset.dirty = true;
	config_write(device, offset, size_bytes, value);
	leave(device);
}

static bool is_bar_access(const struct tenon_device *device, unsigned bar, uint64_t offset, unsigned size_bytes)
{
	if (device->remote.lost || bar > TENON_DEVICE_ROM || size_bytes == 0 || size_bytes > 8 ||
	    !bars_decoded(device, bar))
		return false;
	uint64_t bytes = bar == TENON_DEVICE_ROM ? device->rom.size_bytes : device->info.bars[bar].size_bytes;
	return offset < bytes && size_bytes <= bytes - offset;
}

static bool bar_read(struct tenon_device *device, unsigned bar, uint64_t offset, void *data, unsigned size_bytes)
{
	if (!is_bar_access(device, bar, offset, size_bytes))
		return false;
	if (bar == TENON_DEVICE_ROM)
		return rom_read(device, offset, data, size_bytes) == 0;
	return msix_read(device, bar, offset, data, size_bytes) ||
	       device->transport->ops->region_read(device->transport, VFIO_PCI_BAR0_REGION_INDEX + bar, offset, data,
						   size_bytes) == 0;
}

void tenon_device_bar_read(struct tenon_device *device, unsigned bar, uint64_t offset, void *data, unsigned size_bytes)
{
	enter(device);
	if (!bar_read(device, bar, offset, data, size_bytes))
		memset(data, 0xff, size_bytes);
	intx_accessed(device);
	leave(device);
}

void tenon_device_bar_write(struct tenon_device *device, unsigned bar, uint64_t offset, const void *data,
			    unsigned size_bytes)
{
	enter(device);
	/* A write that the device refuses is lost, as on a bus. */
	if (bar != TENON_DEVICE_ROM && is_bar_access(device, bar, offset, size_bytes) &&
	    !msix_write(device, bar, offset, data, size_bytes))
		device->transport->ops->region_write(device->transport, VFIO_PCI_BAR0_REGION_INDEX + bar, offset, data,
						     size_bytes);
	intx_accessed(device);
	leave(device);
}

int tenon_device_event_fd(const struct tenon_device *device)
{
	return device->events.poll_fd;
}

enum tenon_device_event tenon_device_next_event(struct tenon_device *device)
{
	if (!enter_soon(device))
		return TENON_DEVICE_EVENT_NONE; /* the descriptor stays readable */
	enum tenon_device_event event = events_next(device);
	leave(device);
	return event;
}
