// SPDX-License-Identifier: MIT
/*
 * A VMM for tests. Routes and irqfds behave as KVM's: an irqfd takes its eventfd's count and delivers the committed
 * message; the KVM-VFIO device holds a reference of each file, and needs a valid descriptor to let go of it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <tenon/device.h>

#include "kernel.h"
#include "vfio_fake.h"
#include "vfio_host.h"

#define LOOP_ROUNDS 100

/* The files that "KVM" holds. It is one VM's, whatever the hosts: devices of a group share the group's file. */
static struct {
	int files[HOST_FILES];
	unsigned count;
} kvm;

static struct {
	enum host_op op;
	unsigned in;
	int error;
	bool failed;
} any;

bool host_fail_any(enum host_op op, unsigned n, int error)
{
	bool failed = any.failed;
	any.op = op;
	any.in = n;
	any.error = error;
	any.failed = false;
	return failed;
}

static int enter(struct fake_host *host, enum host_op op, struct tenon_error *err)
{
	static const char *const names[HOST_OPS] = {"file_add",    "memory_map",   "memory_unmap",
						    "route_set",   "route_commit", "irqfd_attach",
						    "intx_attach", "intx_level",   "ioeventfd_attach"};
	int error = host->always_error[op];
	host->calls[op]++;
	if (host->fail_in[op] && --host->fail_in[op] == 0)
		error = host->fail_error[op];
	if (any.in && any.op == op && --any.in == 0) {
		error = any.error;
		any.failed = true;
	}
	if (!error)
		return 0;
	fake_journal("%s fails with %d", names[op], error);
	return tenon_fail(err, -error, "host: %s failed: %s; ask the test", names[op], strerror(error));
}

void host_fail(struct fake_host *host, enum host_op op, unsigned n, int error)
{
	host->fail_in[op] = n;
	host->fail_error[op] = error;
}

void host_fail_always(struct fake_host *host, enum host_op op, int error)
{
	host->always_error[op] = error;
}

static int file_add(void *context, int fd, struct tenon_error *err)
{
	struct fake_host *host = context;
	int code = enter(host, HOST_FILE_ADD, err);
	if (code < 0)
		return code;
	for (unsigned i = 0; i < kvm.count; i++) {
		if (kvm.files[i] == fd)
			return tenon_fail(err, -EEXIST, "host: fd %d was added before; add it once", fd);
	}
	if (kvm.count == HOST_FILES)
		fake_report_misuse("file_add without end");
	if (!fake_file_hold(fd))
		return tenon_fail(err, -EBADF, "host: fd %d is not open; open it first", fd);
	fake_journal("file_add");
	kvm.files[kvm.count++] = fd;
	return 0;
}

static void file_remove(void *context, int fd)
{
	unsigned at = 0;
	fake_journal("file_remove");
	while (at < kvm.count && kvm.files[at] != fd)
		at++;
	if (at == kvm.count) {
		fake_report_misuse("file_remove of fd %d, which was not added", fd);
		return;
	}
	kvm.files[at] = kvm.files[--kvm.count];
	if (!fake_file_release(fd)) /* KVM_DEV_VFIO_FILE_DEL looks the file up by its descriptor */
		fake_report_misuse("file_remove of fd %d, which is closed: KVM holds the device until the VM ends", fd);
}

static int memory_map(void *context, uint64_t gpa, uint64_t size_bytes, void *hva, struct tenon_error *err)
{
	struct fake_host *host = context;
	int code = enter(host, HOST_MEMORY_MAP, err);
	if (code < 0)
		return code;
	if ((gpa | size_bytes | (uintptr_t)hva) % 4096 || size_bytes == 0)
		fake_report_misuse("memory_map of 0x%llx bytes at 0x%llx is not page aligned",
				   (unsigned long long)size_bytes, (unsigned long long)gpa);
	if (!fake_host_memory_mapped(hva, size_bytes))
		fake_report_misuse("memory_map at 0x%llx of memory that is no BAR", (unsigned long long)gpa);
	for (unsigned i = 0; i < host->map_count; i++) {
		if (gpa < host->maps[i].gpa + host->maps[i].size_bytes && host->maps[i].gpa < gpa + size_bytes)
			return tenon_fail(err, -EEXIST, "host: 0x%llx is taken; unmap it first",
					  (unsigned long long)gpa);
	}
	if (host->map_count == HOST_MAPS)
		return tenon_fail(err, -ENOSPC, "host: no memory slot is free; use fewer devices");
	fake_journal("memory_map 0x%llx 0x%llx", (unsigned long long)gpa, (unsigned long long)size_bytes);
	host->maps[host->map_count].gpa = gpa;
	host->maps[host->map_count].size_bytes = size_bytes;
	host->maps[host->map_count++].hva = hva;
	return 0;
}

static int memory_unmap(void *context, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	struct fake_host *host = context;
	int code = enter(host, HOST_MEMORY_UNMAP, err);
	if (code < 0)
		return code;
	fake_journal("memory_unmap 0x%llx 0x%llx", (unsigned long long)gpa, (unsigned long long)size_bytes);
	for (unsigned i = 0; i < host->map_count; i++) {
		if (host->maps[i].gpa != gpa || host->maps[i].size_bytes != size_bytes)
			continue;
		host->maps[i] = host->maps[--host->map_count];
		return 0;
	}
	fake_report_misuse("memory_unmap of 0x%llx, which was not mapped", (unsigned long long)gpa);
	return tenon_fail(err, -ENOENT, "nothing is mapped there; report this");
}

static void bar_placed(void *context, const struct tenon_bar_placement *placement)
{
	struct fake_host *host = context;
	host->placements++;
	if (placement->bar > TENON_DEVICE_ROM) {
		fake_report_misuse("BAR %u placed", placement->bar);
		return;
	}
	fake_journal("bar_placed %u %s 0x%llx", placement->bar, placement->enabled ? "on" : "off",
		     (unsigned long long)placement->address);
	host->bars[placement->bar] = *placement;
}

static struct host_route *route_of(struct fake_host *host, int route, const char *what)
{
	if (route >= 0 && route < HOST_ROUTES && host->routes[route].used)
		return &host->routes[route];
	fake_report_misuse("%s: there is no route %d", what, route);
	return NULL;
}

static int route_set(void *context, int *route, uint64_t address, uint32_t data, struct tenon_error *err)
{
	struct fake_host *host = context;
	int code = enter(host, HOST_ROUTE_SET, err);
	if (code < 0)
		return code;
	if (*route == -1) {
		int at = 0;
		while (at < HOST_ROUTES && host->routes[at].used)
			at++;
		if (at == HOST_ROUTES)
			return tenon_fail(err, -ENOSPC, "host: no route is free; use fewer vectors");
		host->routes[at] = (struct host_route){.used = true, .eventfd = -1};
		host->route_count++;
		if (host->route_count > host->route_count_max)
			host->route_count_max = host->route_count;
		*route = at;
	}
	struct host_route *self = route_of(host, *route, "route_set");
	if (self)
		self->next = (struct host_message){.address = address, .data = data};
	fake_journal("route_set %d", *route);
	return 0;
}

static int route_commit(void *context, struct tenon_error *err)
{
	struct fake_host *host = context;
	int code = enter(host, HOST_ROUTE_COMMIT, err);
	if (code < 0)
		return code;
	host_run(host); /* what was signalled before goes where it went then */
	for (unsigned i = 0; i < HOST_ROUTES; i++) {
		if (!host->routes[i].used)
			continue;
		host->routes[i].committed = host->routes[i].next;
		host->routes[i].valid = true;
	}
	fake_journal("route_commit");
	return 0;
}

static void route_free(void *context, int route)
{
	struct fake_host *host = context;
	struct host_route *self = route_of(host, route, "route_free");
	if (!self)
		return;
	if (self->eventfd >= 0)
		fake_report_misuse("route %d freed under its irqfd", route);
	*self = (struct host_route){.eventfd = -1};
	host->route_count--;
}

static void deliver(struct fake_host *host, const struct host_route *route)
{
	if (!kernel_eventfd_take(route->eventfd))
		return;
	if (host->delivered_count < HOST_MESSAGES)
		host->delivered[host->delivered_count++] = route->committed;
	fake_journal("message 0x%x", route->committed.data);
}

static int irqfd_attach(void *context, int route, int eventfd, struct tenon_error *err)
{
	struct fake_host *host = context;
	int code = enter(host, HOST_IRQFD_ATTACH, err);
	if (code < 0)
		return code;
	struct host_route *self = route_of(host, route, "irqfd_attach");
	if (!self)
		return -EINVAL;
	if (!self->valid)
		fake_report_misuse("irqfd attached to route %d, which was never committed", route);
	if (self->eventfd >= 0)
		return tenon_fail(err, -EBUSY, "host: route %d has an irqfd; detach it first", route);
	self->eventfd = eventfd;
	host->irqfd_count++;
	fake_journal("irqfd_attach %d", route);
	deliver(host, self);
	return 0;
}

static void irqfd_detach(void *context, int route, int eventfd)
{
	struct fake_host *host = context;
	struct host_route *self = route_of(host, route, "irqfd_detach");
	if (!self)
		return;
	if (self->eventfd != eventfd) {
		fake_report_misuse("irqfd_detach of fd %d from route %d, which has %d", eventfd, route, self->eventfd);
		return;
	}
	deliver(host, self); /* KVM would have taken it at the moment it was signalled */
	self->eventfd = -1;
	host->irqfd_count--;
	fake_journal("irqfd_detach %d", route);
}

static int intx_attach(void *context, unsigned pin, int trigger, int resample, struct tenon_error *err)
{
	struct fake_host *host = context;
	int code = enter(host, HOST_INTX_ATTACH, err);
	if (code < 0)
		return code;
	if (pin < 1 || pin > 4 || host->intx[pin].trigger >= 0) {
		fake_report_misuse("intx_attach of pin %u", pin);
		return -EINVAL;
	}
	host->intx[pin].trigger = trigger;
	host->intx[pin].resample = resample;
	fake_journal("intx_attach %u", pin);
	host_run(host);
	return 0;
}

static void intx_detach(void *context, unsigned pin, int trigger, int resample)
{
	struct fake_host *host = context;
	if (pin < 1 || pin > 4 || host->intx[pin].trigger != trigger || host->intx[pin].resample != resample) {
		fake_report_misuse("intx_detach of pin %u does not match", pin);
		return;
	}
	host->intx[pin].trigger = -1;
	host->intx[pin].resample = -1;
	host->intx[pin].level = false;
	fake_journal("intx_detach %u", pin);
}

static int intx_level(void *context, unsigned pin, bool asserted, struct tenon_error *err)
{
	struct fake_host *host = context;
	int code = enter(host, HOST_INTX_LEVEL, err);
	if (code < 0)
		return code;
	if (pin < 1 || pin > 4 || host->intx[pin].trigger >= 0 || host->intx[pin].level == asserted) {
		fake_report_misuse("intx_level of pin %u, %d", pin, asserted);
		return -EINVAL;
	}
	host->intx[pin].edges += asserted;
	host->intx[pin].level = asserted;
	fake_journal("intx_level %u %d", pin, asserted);
	return 0;
}

static void log_line(void *context, enum tenon_log_level level, const char *message)
{
	struct fake_host *host = context;
	fake_journal("log %s", message);
	if (strchr(message, '\n') || !message[0] || message[strlen(message) - 1] == '.')
		fake_report_misuse("log line is not one line without a full stop: %s", message);
	if (host->log_count == HOST_LOGS)
		return;
	host->logs[host->log_count].level = level;
	snprintf(host->logs[host->log_count++].text, sizeof(host->logs[0].text), "%s", message);
}

/* The library must take an eventfd back before it closes it. */
static void closing(void *context, int fd)
{
	struct fake_host *host = context;
	for (unsigned i = 0; i < HOST_ROUTES; i++) {
		if (host->routes[i].used && host->routes[i].eventfd == fd)
			fake_report_misuse("eventfd %d closed while it is the irqfd of route %u", fd, i);
	}
	for (unsigned pin = 1; pin <= 4; pin++) {
		if (host->intx[pin].trigger == fd || host->intx[pin].resample == fd)
			fake_report_misuse("eventfd %d closed while INTx pin %u uses it", fd, pin);
	}
}

static int ioeventfd_attach(void *context, const struct tenon_ioeventfd *bell, struct tenon_error *err)
{
	struct fake_host *host = context;
	int code = enter(host, HOST_IOEVENTFD, err);
	if (code < 0)
		return code;
	if (host->bell_count == HOST_BELLS)
		return tenon_fail(err, -ENOSPC, "host: no more ioeventfds; detach some");
	host->bells[host->bell_count++] = *bell;
	return 0;
}

static void ioeventfd_detach(void *context, const struct tenon_ioeventfd *bell)
{
	struct fake_host *host = context;
	unsigned at = 0;
	while (at < host->bell_count && memcmp(&host->bells[at], bell, sizeof(*bell)) != 0)
		at++;
	if (at == host->bell_count)
		fake_report_misuse("ioeventfd_detach of what was not attached, at 0x%llx",
				   (unsigned long long)bell->gpa);
	else
		host->bells[at] = host->bells[--host->bell_count];
}

bool host_ring(const struct fake_host *host, uint64_t gpa, unsigned size_bytes, uint64_t value)
{
	const uint64_t one = 1;
	for (unsigned i = 0; i < host->bell_count; i++) {
		const struct tenon_ioeventfd *bell = &host->bells[i];
		if (bell->gpa == gpa && (!bell->width_bytes || bell->width_bytes == size_bytes) &&
		    (!bell->match || bell->value == value))
			return write(bell->eventfd, &one, sizeof(one)) == sizeof(one);
	}
	return false;
}

void host_init(struct fake_host *host)
{
	memset(host, 0, sizeof(*host));
	host->ops = (struct tenon_host_ops){
		.size = sizeof(host->ops),
		.file_add = file_add,
		.file_remove = file_remove,
		.memory_map = memory_map,
		.memory_unmap = memory_unmap,
		.bar_placed = bar_placed,
		.route_set = route_set,
		.route_commit = route_commit,
		.route_free = route_free,
		.irqfd_attach = irqfd_attach,
		.irqfd_detach = irqfd_detach,
		.intx_attach = intx_attach,
		.intx_detach = intx_detach,
		.intx_level = intx_level,
		.log = log_line,
		.ioeventfd_attach = ioeventfd_attach,
		.ioeventfd_detach = ioeventfd_detach,
	};
	for (unsigned i = 0; i < HOST_ROUTES; i++)
		host->routes[i].eventfd = -1;
	for (unsigned pin = 0; pin < 5; pin++)
		host->intx[pin].trigger = host->intx[pin].resample = -1;
	fake_on_close(closing, host);
}

void host_run(struct fake_host *host)
{
	for (unsigned i = 0; i < HOST_ROUTES && host->irqfd_count; i++) {
		if (host->routes[i].used && host->routes[i].eventfd >= 0)
			deliver(host, &host->routes[i]);
	}
	for (unsigned pin = 1; pin <= 4; pin++) {
		if (host->intx[pin].trigger < 0 || !kernel_eventfd_take(host->intx[pin].trigger))
			continue;
		host->intx[pin].edges += !host->intx[pin].level;
		host->intx[pin].level = true;
	}
}

void host_loop(struct fake_host *host)
{
	host_run(host);
	struct pollfd poll_fd = {.fd = host->device ? tenon_device_event_fd(host->device) : -1, .events = POLLIN};
	for (unsigned rounds = 0; poll_fd.fd >= 0 && poll(&poll_fd, 1, 0) == 1; rounds++) {
		tenon_device_next_event(host->device);
		host_run(host);
		if (rounds == LOOP_ROUNDS) {
			fake_report_misuse("the event loop is woken again and again");
			return;
		}
	}
}

void host_end_of_interrupt(struct fake_host *host, unsigned pin)
{
	host_run(host);
	if (host->intx[pin].trigger >= 0) /* a line that intx_level drives is not lowered by it */
		host->intx[pin].level = false;
	if (host->intx[pin].resample >= 0)
		fake_eventfd_signal(host->intx[pin].resample);
	fake_kernel_run();
	host_run(host);
}

unsigned host_messages(struct fake_host *host, uint32_t data)
{
	host_loop(host);
	unsigned count = 0;
	for (unsigned i = 0; i < host->delivered_count; i++)
		count += host->delivered[i].data == data;
	return count;
}

uint8_t *host_mapped(const struct fake_host *host, uint64_t gpa)
{
	for (unsigned i = 0; i < host->map_count; i++) {
		if (gpa >= host->maps[i].gpa && gpa - host->maps[i].gpa < host->maps[i].size_bytes)
			return host->maps[i].hva + (gpa - host->maps[i].gpa);
	}
	return NULL;
}

bool host_logged(const struct fake_host *host, const char *text)
{
	for (unsigned i = 0; i < host->log_count; i++) {
		if (strstr(host->logs[i].text, text))
			return true;
	}
	return false;
}

const char *host_leftovers(const struct fake_host *host)
{
	static char text[128];
	text[0] = '\0';
	if (host->map_count)
		snprintf(text, sizeof(text), "guest still sees memory at 0x%llx",
			 (unsigned long long)host->maps[0].gpa);
	if (host->route_count)
		snprintf(text, sizeof(text), "%u message routes are not freed", host->route_count);
	if (host->irqfd_count)
		snprintf(text, sizeof(text), "%u irqfds are still attached", host->irqfd_count);
	if (host->bell_count)
		snprintf(text, sizeof(text), "%u ioeventfds are still attached", host->bell_count);
	if (kvm.count)
		snprintf(text, sizeof(text), "the hypervisor still holds fd %d", kvm.files[0]);
	for (unsigned pin = 1; pin <= 4; pin++) {
		if (host->intx[pin].trigger >= 0)
			snprintf(text, sizeof(text), "INTx pin %u is still attached", pin);
		else if (host->intx[pin].level)
			snprintf(text, sizeof(text), "INTx pin %u is still high", pin);
	}
	for (unsigned bar = 0; bar <= TENON_DEVICE_ROM; bar++) {
		if (host->bars[bar].enabled)
			snprintf(text, sizeof(text), "BAR %u is still switched on", bar);
	}
	return text;
}
