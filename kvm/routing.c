// SPDX-License-Identifier: MIT
/*
 * The GSI routing table: IOAPIC pins always, message routes as set. Also the two ways to interrupt without a route. The kernel
 * takes only whole tables and waits for a grace period at each, so changes are gathered until commit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_calls.h"
#include "vm_private.h"

static struct vm_route *route_at(struct tenon_vm *vm, int gsi)
{
	if (gsi < TENON_VM_IOAPIC_PINS || (unsigned)gsi - TENON_VM_IOAPIC_PINS >= vm->route_count)
		return NULL;
	struct vm_route *route = &vm->routes[gsi - TENON_VM_IOAPIC_PINS];
	return route->used ? route : NULL;
}

bool vm_route_known(struct tenon_vm *vm, int gsi)
{
	pthread_mutex_lock(&vm->routes_lock);
	bool known = (gsi >= 0 && gsi < TENON_VM_IOAPIC_PINS) || route_at(vm, gsi);
	pthread_mutex_unlock(&vm->routes_lock);
	return known;
}

/* Index of a free route, or a negative errno. */
static int free_route(struct tenon_vm *vm, struct tenon_error *err)
{
	for (unsigned i = 0; i < vm->route_count; i++) {
		if (!vm->routes[i].used)
			return (int)i;
	}
	if (vm->route_count >= vm->route_limit)
		return tenon_fail(err, -ENOSPC, "KVM: all %u message routes are in use; give the devices fewer vectors",
				  vm->route_limit);
	unsigned count = vm->route_count ? vm->route_count * 2 : 16;
	if (count > vm->route_limit)
		count = vm->route_limit;
	struct vm_route *routes = realloc(vm->routes, count * sizeof(*routes));
	if (!routes)
		return tenon_fail(err, -ENOMEM, "KVM: no memory for a table of %u message routes", count);
	memset(routes + vm->route_count, 0, (count - vm->route_count) * sizeof(*routes));
	vm->routes = routes;
	int index = (int)vm->route_count;
	vm->route_count = count;
	return index;
}

static int set_locked(struct tenon_vm *vm, int *gsi, uint64_t address, uint32_t data, struct tenon_error *err)
{
	struct vm_route *route = NULL;
	if (*gsi < 0) {
		int index = free_route(vm, err);
		if (index < 0)
			return index;
		route = &vm->routes[index];
		*gsi = index + TENON_VM_IOAPIC_PINS;
	} else {
		route = route_at(vm, *gsi);
		if (!route)
			return tenon_fail(err, -EINVAL, "KVM: GSI %d is not a message route", *gsi);
		if (route->address == address && route->data == data)
			return 0;
	}
	*route = (struct vm_route){.used = true, .address = address, .data = data};
	vm->routes_changed = true;
	return 0;
}

int tenon_vm_route_set(struct tenon_vm *vm, int *gsi, uint64_t address, uint32_t data, struct tenon_error *err)
{
	pthread_mutex_lock(&vm->routes_lock);
	int error = set_locked(vm, gsi, address, data, err);
	pthread_mutex_unlock(&vm->routes_lock);
	return error;
}

void tenon_vm_route_free(struct tenon_vm *vm, int gsi)
{
	pthread_mutex_lock(&vm->routes_lock);
	struct vm_route *route = route_at(vm, gsi);
	if (route) {
		*route = (struct vm_route){0};
		vm->routes_changed = true;
	}
	pthread_mutex_unlock(&vm->routes_lock);
}

static void fill_table(const struct tenon_vm *vm, struct kvm_irq_routing *table)
{
	for (uint32_t pin = 0; pin < TENON_VM_IOAPIC_PINS; pin++)
		table->entries[table->nr++] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin},
		};
	for (unsigned i = 0; i < vm->route_count; i++) {
		const struct vm_route *route = &vm->routes[i];
		if (!route->used)
			continue;
		table->entries[table->nr++] = (struct kvm_irq_routing_entry){
			.gsi = TENON_VM_IOAPIC_PINS + i,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {.address_lo = (uint32_t)route->address,
				  .address_hi = (uint32_t)(route->address >> 32),
				  .data = route->data},
		};
	}
}

static int commit_locked(struct tenon_vm *vm, struct tenon_error *err)
{
	if (!vm->routes_changed)
		return 0;
	size_t entries = TENON_VM_IOAPIC_PINS + vm->route_count;
	struct kvm_irq_routing *table = calloc(1, sizeof(*table) + entries * sizeof(table->entries[0]));
	if (!table)
		return tenon_fail(err, -ENOMEM, "KVM: no memory for a routing table of %zu entries", entries);
	fill_table(vm, table);
	int error = kcall_ioctl(vm->fd, KVM_SET_GSI_ROUTING, table);
	unsigned given = table->nr;
	free(table);
	if (error < 0)
		return tenon_fail(err, error, "KVM: KVM_SET_GSI_ROUTING with %u entries: %s", given, strerror(-error));
	vm->routes_changed = false;
	return 0;
}

int tenon_vm_route_commit(struct tenon_vm *vm, struct tenon_error *err)
{
	pthread_mutex_lock(&vm->routes_lock);
	int error = commit_locked(vm, err);
	pthread_mutex_unlock(&vm->routes_lock);
	return error;
}

int tenon_vm_irq_line(struct tenon_vm *vm, uint32_t gsi, bool level, struct tenon_error *err)
{
	if (gsi >= TENON_VM_IOAPIC_PINS)
		return tenon_fail(err, -EINVAL, "KVM: GSI %u has no line: the IOAPIC has %u pins", gsi,
				  TENON_VM_IOAPIC_PINS);
	struct kvm_irq_level line = {.irq = gsi, .level = level};
	int error = kcall_ioctl(vm->fd, KVM_IRQ_LINE, &line);
	if (error < 0)
		return tenon_fail(err, error, "KVM: KVM_IRQ_LINE of GSI %u: %s", gsi, strerror(-error));
	return 0;
}

int tenon_vm_irq_line_hold(struct tenon_vm *vm, uint32_t gsi, bool hold, struct tenon_error *err)
{
	int error = 0;
	if (gsi >= TENON_VM_IOAPIC_PINS)
		return tenon_vm_irq_line(vm, gsi, hold, err);
	/* KVM sees one source, whoever calls: the count is ours, and the lock keeps KVM's order the same as the count's. */
	pthread_mutex_lock(&vm->lines_lock);
	unsigned *holders = &vm->line_holders[gsi];
	if (!hold && *holders == 0)
		error = tenon_fail(err, -EINVAL, "KVM: GSI %u is released by one who does not hold it", gsi);
	else
		*holders += hold ? 1 : -1u;
	if (!error && *holders == (hold ? 1 : 0)) {
		error = tenon_vm_irq_line(vm, gsi, hold, err);
		if (error)
			*holders -= hold ? 1 : -1u;
	}
	pthread_mutex_unlock(&vm->lines_lock);
	return error;
}

int tenon_vm_msi_send(struct tenon_vm *vm, uint64_t address, uint32_t data, struct tenon_error *err)
{
	struct kvm_msi message = {
		.address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data,
	};
	int result = kcall_ioctl(vm->fd, KVM_SIGNAL_MSI, &message);
	/* KVM's answer to a message that addresses no vCPU is a bare -1, hence EPERM. A bus drops such a write silently. */
	if (result == -EPERM)
		return 0;
	if (result < 0)
		return tenon_fail(err, result, "KVM: KVM_SIGNAL_MSI: %s", strerror(-result));
	return 0;
}
