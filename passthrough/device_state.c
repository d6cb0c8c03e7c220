// SPDX-License-Identifier: MIT
/*
 * Saves what the library emulates of a device, and gives it to another of its kind, which is stopped and has its own data already. What
 * is loaded goes through the doors that a guest's writes go through, so it can do no more than a guest. The order is one that a driver
 * could have: what has no effect, messages, COMMAND, and the power state at the end.
 *
 * Interrupts that the guest has not got yet: their eventfds are made with a count, because a write to one waits when a server that
 * holds it wants that.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/migration.h>

#include "device.h"
#include "device_state.h"
#include "kernel.h"
#include "uapi.h"

#define STATE_MS 10000u /* for all that the device is asked and told; the guest stands meanwhile */

/* ---- Saving ---- */

static uint16_t pass_mask(const struct config *config, unsigned at)
{
	return at ? (uint16_t)(config->pass[at] | config->pass[at + 1] << 8) : 0;
}

/* Nothing is asked of the device, whose data may be on its way. */
static void save_config(const struct tenon_device *device, struct device_state *state)
{
	const struct config *config = &device->config;
	state->config_bytes = config->size_bytes;
	for (unsigned i = 0; i < config->size_bytes; i++)
		state->config[i] = config->value[i] & config->write[i];
	for (unsigned i = 0; i < 2; i++)
		state->device_control[i] =
			config->control_written[i] & pass_mask(config, config_device_control(config, i));
	state->vpd_address = config->vpd_asked;
	state->vpd_address_low = config->vpd_address_low;
}

/*
 * The line is asserted when the guest has it so, or is about to; and when the device asserts it, which is asked where it may be: in other
 * states it asserts it again by itself, when it runs.
 */
static int save_intx(struct tenon_device *device, struct device_state *state)
{
	const struct interrupts *interrupts = &device->interrupts;
	uint8_t status[2] = {0};
	int code = 0;
	if (interrupts->mode != INTERRUPT_INTX)
		return 0;
	if (!device_migration_is_moving(device))
		code = device->transport->ops->region_read(device->transport, VFIO_PCI_CONFIG_REGION_INDEX, PCI_STATUS,
							   status, sizeof(status));
	state->intx_asserted = interrupts->intx_waiting || kernel_eventfd_pending(interrupts->intx_trigger) ||
			       status[0] & PCI_STATUS_INTERRUPT;
	return code;
}

static void save_messages(const struct tenon_device *device, struct device_state *state)
{
	const struct interrupts *interrupts = &device->interrupts;
	state->mode = (uint8_t)interrupts->mode;
	state->vector_count = interrupts->vector_count;
	for (unsigned i = 0; i < interrupts->vector_count; i++) {
		const struct vector *vector = &interrupts->vectors[i];
		state->vectors[i] = (uint8_t)((vector->armed ? STATE_VECTOR_ARMED : 0) |
					      (vector_pending(vector) ? STATE_VECTOR_PENDING : 0));
	}
	state->msix_count = interrupts->msix.count;
	if (state->msix_count)
		memcpy(state->msix_table, interrupts->msix_table, (size_t)state->msix_count * PCI_MSIX_ENTRY_SIZE);
}

static bool answers(const struct tenon_device *device)
{
	return !device->remote.lost && device->transport->health == TRANSPORT_WELL;
}

static int fail_silent(const struct tenon_device *device, struct tenon_error *err)
{
	return tenon_fail(err, -EIO,
			  "%s: the device does not answer; see what its server does, or the host's kernel log",
			  device->address.name);
}

static int gather(struct tenon_device *device, struct device_state *state, struct tenon_error *err)
{
	state_identify(device, state->identity);
	save_config(device, state);
	save_messages(device, state);
	int code = answers(device) ? save_intx(device, state) : -EIO;
	return code < 0 ? fail_silent(device, err) : 0;
}

static int save(struct tenon_device *device, void **data, size_t *bytes, struct tenon_error *err)
{
	struct device_state *state = calloc(1, sizeof(*state));
	if (!state)
		return tenon_fail(err, -ENOMEM, "%s: cannot save its state: out of memory; free some memory",
				  device->address.name);
	int code = gather(device, state, err);
	if (code == 0)
		code = state_encode(state, device->address.name, data, bytes, err);
	free(state);
	return code;
}

static void enter(struct tenon_device *device)
{
	pthread_mutex_lock(&device->lock);
	remote_begin(device, STATE_MS);
}

static void leave(struct tenon_device *device)
{
	remote_end(device);
	pthread_mutex_unlock(&device->lock);
}

int tenon_device_state_save(struct tenon_device *device, void **data, size_t *bytes, struct tenon_error *err)
{
	if (!device || !data || !bytes)
		return tenon_fail(err, -EINVAL, "device: nothing to save, or no place for it; pass all of them");
	enter(device);
	int code = save(device, data, bytes, err);
	leave(device);
	return code;
}

/* ---- Loading: what no guest's writes could have made ---- */

static uint16_t loaded16(const struct device_state *state, unsigned offset)
{
	return (uint16_t)(state->config[offset] | state->config[offset + 1] << 8);
}

static uint32_t loaded32(const struct device_state *state, unsigned offset)
{
	return loaded16(state, offset) | (uint32_t)loaded16(state, offset + 2) << 16;
}

static bool is_config_possible(const struct config *config, const struct device_state *state)
{
	for (unsigned i = 0; i < config->size_bytes; i++) {
		if (state->config[i] & ~config->write[i])
			return false;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (state->device_control[i] & ~pass_mask(config, config_device_control(config, i)))
			return false;
	}
	/* Reset bits read zero. */
	if ((config->pcie && state->config[config->pcie + PCI_EXP_DEVCTL + 1] & PCI_EXP_DEVCTL_BCR_FLR >> 8) ||
	    (config->af && state->config[config->af + PCI_AF_CTRL] & PCI_AF_CTRL_FLR))
		return false;
	if ((!config->vpd && (state->vpd_address || state->vpd_address_low)) ||
	    (state->vpd_address && !(state->vpd_address & PCI_VPD_ADDR_F)))
		return false;
	if (!config->pm)
		return true;
	uint16_t abilities = config_value16(config, config->pm + PCI_PM_PMC);
	uint16_t power = loaded16(state, config->pm + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK;
	return !(power == 1 && !(abilities & PCI_PM_CAP_D1)) && !(power == 2 && !(abilities & PCI_PM_CAP_D2));
}

static bool is_table_possible(const struct device_state *state)
{
	for (unsigned i = 0; i < state->msix_count; i++) {
		const uint8_t *entry = state->msix_table + (size_t)i * PCI_MSIX_ENTRY_SIZE;
		const uint8_t *control = entry + PCI_MSIX_ENTRY_VECTOR_CTRL;
		if (entry[PCI_MSIX_ENTRY_LOWER_ADDR] & 3 || control[0] & ~PCI_MSIX_ENTRY_CTRL_MASKBIT || control[1] ||
		    control[2] || control[3])
			return false;
	}
	return true;
}

static enum interrupt_mode message_mode(const struct tenon_device *device, const struct device_state *state)
{
	const struct config *config = &device->config;
	if (state->msix_count && loaded16(state, config->msix + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_ENABLE)
		return INTERRUPT_MSIX;
	if (device->interrupts.msi_count && loaded16(state, config->msi + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE)
		return INTERRUPT_MSI;
	return INTERRUPT_NONE;
}

static bool are_interrupts_possible(const struct tenon_device *device, const struct device_state *state)
{
	enum interrupt_mode messages = message_mode(device, state);
	bool intx = state->mode == INTERRUPT_INTX && device->interrupts.intx_pin && messages == INTERRUPT_NONE &&
		    loaded16(state, PCI_COMMAND) & (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	if (state->vector_count != device->interrupts.vector_count || (!intx && state->mode != messages) ||
	    (!intx && state->intx_asserted))
		return false;
	for (unsigned i = 0; i < state->vector_count; i++) {
		uint8_t vector = state->vectors[i];
		if (vector && (messages == INTERRUPT_NONE || !(vector & STATE_VECTOR_ARMED) ||
			       vector & ~(STATE_VECTOR_ARMED | STATE_VECTOR_PENDING)))
			return false;
	}
	return true;
}

static int check(const struct tenon_device *device, const struct device_state *state, struct tenon_error *err)
{
	int code = state_check_identity(device, state->identity, err);
	if (code < 0)
		return code;
	const char *wrong = !is_config_possible(&device->config, state) ? "config space"
			    : !is_table_possible(state)                 ? "MSI-X table"
			    : !are_interrupts_possible(device, state)   ? "interrupts"
									: NULL;
	if (wrong)
		return tenon_fail(err, -EINVAL,
				  "%s: what is to be loaded is no state of a device: its %s cannot be; save it again",
				  device->address.name, wrong);
	return 0;
}

/* ---- Loading: what a guest's writes make ---- */

/* Registers without behaviour, and those of messages but for the registers that turn them on. */
static void write_quiet(struct tenon_device *device, const struct device_state *state)
{
	const struct config *config = &device->config;
	for (unsigned i = 0; i < config->size_bytes; i++) {
		bool quiet = config->hook[i] == CONFIG_HOOK_NONE && !config->pass[i];
		bool message = config->hook[i] == CONFIG_HOOK_MSI && i - config->msi >= PCI_MSI_ADDRESS_LO;
		if (config->write[i] && (quiet || message))
			config_write(device, i, 1, state->config[i]);
	}
}

/* What goes to the device, too, beside the kernel's or the library's bits. */
static void write_device(struct tenon_device *device, const struct device_state *state)
{
	struct config *config = &device->config;
	for (unsigned i = 0; i < 2; i++) {
		unsigned at = config_device_control(config, i);
		if (at)
			config_write(device, at, 2, loaded16(state, at) | state->device_control[i]);
	}
	if (!config->vpd)
		return;
	/* A read that was under way, or whose data was not fetched, is made again. */
	if (state->vpd_address & PCI_VPD_ADDR_F)
		config_write(device, config->vpd + PCI_VPD_ADDR, 2, state->vpd_address & PCI_VPD_ADDR_MASK);
	config->vpd_address_low = state->vpd_address_low;
}

static void write_bars(struct tenon_device *device, const struct device_state *state)
{
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++)
		config_write(device, PCI_BASE_ADDRESS_0 + 4 * i, 4, loaded32(state, PCI_BASE_ADDRESS_0 + 4 * i));
	config_write(device, PCI_ROM_ADDRESS, 4, loaded32(state, PCI_ROM_ADDRESS));
}

/* @param at  of an MSI or MSI-X capability, whose control register is at the same place; 0: none */
static void write_control(struct tenon_device *device, const struct device_state *state, unsigned at)
{
	_Static_assert(PCI_MSI_FLAGS == PCI_MSIX_FLAGS, "message control");
	if (at)
		config_write(device, at + PCI_MSI_FLAGS, 2, loaded16(state, at + PCI_MSI_FLAGS));
}

/*
 * MSI-X goes before MSI, so that no vector is set up for a kind that does not stay; but what is off goes first, because a write to
 * either's control delivers what came until then.
 */
static void write_messages(struct tenon_device *device, const struct device_state *state)
{
	struct interrupts *interrupts = &device->interrupts;
	const struct config *config = &device->config;
	const struct msix_layout *msix = &interrupts->msix;
	for (unsigned i = 0; i < state->msix_count; i++) {
		uint64_t at = (uint64_t)i * PCI_MSIX_ENTRY_SIZE;
		msix_write(device, msix->table_bar, msix->table_offset + at, state->msix_table + at, 8);
		msix_write(device, msix->table_bar, msix->table_offset + at + 8, state->msix_table + at + 8, 8);
	}
	for (unsigned i = 0; i < state->vector_count; i++) {
		interrupts->vectors[i].kept = state->vectors[i] & STATE_VECTOR_ARMED;
		interrupts->vectors[i].came = state->vectors[i] & STATE_VECTOR_PENDING;
	}
	bool msi_on = config->msi && loaded16(state, config->msi + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE;
	if (!msi_on)
		write_control(device, state, config->msi);
	write_control(device, state, config->msix);
	if (msi_on)
		write_control(device, state, config->msi);
}

/*
 * INTx that is on stays on when the guest sets the disable bit, but does not come on with it. KVM raises the line as soon as it has the
 * eventfd, so one that is held back waits for the device, which still asserts.
 */
static void write_command(struct tenon_device *device, const struct device_state *state)
{
	struct interrupts *interrupts = &device->interrupts;
	uint16_t command = loaded16(state, PCI_COMMAND);
	bool disabled = command & PCI_COMMAND_INTX_DISABLE;
	interrupts->intx_came = state->intx_asserted && (!disabled || interrupts->intx_trapped);
	if (state->mode == INTERRUPT_INTX && disabled)
		config_write(device, PCI_COMMAND, 2, command & ~(uint32_t)PCI_COMMAND_INTX_DISABLE);
	config_write(device, PCI_COMMAND, 2, command);
	interrupts->intx_came = false;
}

static int check_loaded(struct tenon_device *device, const struct device_state *state, struct tenon_error *err)
{
	static const char *const kinds[] = {"none", "INTx", "MSI", "MSI-X"};
	const struct interrupts *interrupts = &device->interrupts;
	if (!answers(device))
		return fail_silent(device, err);
	if (interrupts->mode != state->mode && state->mode != INTERRUPT_NONE) /* which it can be for want of INTx */
		return tenon_fail(err, -EIO,
				  "%s: the state to be loaded has %s interrupts, which cannot be turned on here; see "
				  "what was logged before",
				  device->address.name, kinds[state->mode]);
	for (unsigned i = 0; i < state->vector_count; i++) {
		if (state->vectors[i] & STATE_VECTOR_ARMED && !interrupts->vectors[i].armed)
			return tenon_fail(err, -ENOSPC,
					  "%s: the state to be loaded uses %s vector %u, which cannot be had here; "
					  "free interrupt vectors on this host, or raise the limit of open files",
					  device->address.name, kinds[state->mode], i);
	}
	return 0;
}

static int apply(struct tenon_device *device, const struct device_state *state, struct tenon_error *err)
{
	const struct config *config = &device->config;
	device->reset.used = device->reset.dirty = true;
	write_quiet(device, state);
	write_device(device, state);
	write_bars(device, state);
	write_messages(device, state);
	write_command(device, state);
	if (config->pm && loaded16(state, config->pm + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK)
		config_write(device, config->pm + PCI_PM_CTRL, 2, loaded16(state, config->pm + PCI_PM_CTRL));
	return check_loaded(device, state, err);
}

static int load(struct tenon_device *device, const struct device_state *state, struct tenon_error *err)
{
	if (!answers(device))
		return fail_silent(device, err);
	if (device->reset.used)
		return tenon_fail(err, -EBUSY,
				  "%s: the guest has used the device already; load a state into one that was just "
				  "opened or reset",
				  device->address.name);
	if (device_migration_is_moving(device))
		return tenon_fail(err, -EINVAL,
				  "%s: its data is still on its way, and it must not be touched; let it go to STOP "
				  "first",
				  device->address.name);
	int code = check(device, state, err);
	return code < 0 ? code : apply(device, state, err);
}

int tenon_device_state_load(struct tenon_device *device, const void *data, size_t bytes, struct tenon_error *err)
{
	if (!device || !data)
		return tenon_fail(err, -EINVAL, "device: nothing to load, or no device for it; pass both");
	struct device_state *state = malloc(sizeof(*state));
	if (!state)
		return tenon_fail(err, -ENOMEM, "%s: cannot load its state: out of memory; free some memory",
				  device->address.name);
	int code = state_decode(data, bytes, device->address.name, state, err);
	if (code == 0) {
		enter(device);
		code = load(device, state, err);
		leave(device);
	}
	free(state);
	return code;
}
