// SPDX-License-Identifier: MIT
/*
 * Predicts a reset with libtenon and does it: opens devices into one space, prints each one's plan, leaves a mark in their
 * registers, resets the first (or, with --space, all), and prints what came of it and who still has the mark.
 *
 *	resetter [--container] [--space] [--bus COUNT] [--hold] [--ask] ADDRESS[,POLICY]...
 *
 * With --bus the first COUNT devices are those on a guest's bus, which is reset; the plans printed are then those of the host's buses.
 * With --ask the kernel is asked for the first device's hot reset itself, behind the library's back, before the library is.
 * With --hold nothing is reset: it has the devices until its standard input ends, and then prints who still has the mark.
 * Each line starts with a word that says what it is: opened, refused, interface, check, plan, affected, kernel,
 * outcome, mark.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#include <tenon/tenon.h>

#define DEVICES_MAX 8
#define BAR_GPA     0xe0000000u
#define MARK        0x00460000u /* entry sizes of an NVMe controller that is off */

struct one {
	char address[64];
	enum tenon_reset_policy policy;
	struct tenon_device *device;
	int fd; /* with --ask: this program's own file of it */
};

static void ignore_placement(void *host, const struct tenon_bar_placement *placement)
{
	(void)host;
	(void)placement;
}

static int no_route(void *host, int *route, uint64_t address, uint32_t data, struct tenon_error *err)
{
	(void)host;
	(void)address;
	(void)data;
	*route = 0;
	return tenon_fail(err, -1, "resetter: has no interrupts; do not enable any");
}

static int no_commit(void *host, struct tenon_error *err)
{
	(void)host;
	return tenon_fail(err, -1, "resetter: has no interrupts; do not enable any");
}

static void no_free(void *host, int route)
{
	(void)host;
	(void)route;
}

static int no_attach(void *host, int route, int eventfd, struct tenon_error *err)
{
	(void)host;
	(void)route;
	(void)eventfd;
	return tenon_fail(err, -1, "resetter: has no interrupts; do not enable any");
}

static void no_detach(void *host, int route, int eventfd)
{
	(void)host;
	(void)route;
	(void)eventfd;
}

static void print_log(void *host, enum tenon_log_level level, const char *message)
{
	(void)host;
	(void)level;
	printf("log %s\n", message);
}

static const struct tenon_host_ops ops = {
	.size = sizeof(ops),
	.bar_placed = ignore_placement,
	.route_set = no_route,
	.route_commit = no_commit,
	.route_free = no_free,
	.irqfd_attach = no_attach,
	.irqfd_detach = no_detach,
	.log = print_log,
};

static const char *const methods[] = {"none", "function", "bus", "power"};
static const char *const owners[] = {"self", "space", "group", "other"};

/* A register of BAR 0 that keeps what is written and that a reset clears; 0: none is known. */
static unsigned mark_register(const struct tenon_device *device)
{
	switch (tenon_device_info(device)->class_code) {
	case 0x010802: /* NVMe: controller configuration */
		return 0x14;
	case 0x020000: /* e1000e: receive descriptor length of queue 0 is taken in units of 128 bytes */
		return 0x2808;
	default:
		return 0;
	}
}

static void reach(struct tenon_device *device)
{
	tenon_device_config_write(device, 0x10, 4, BAR_GPA);
	if (tenon_device_info(device)->bars[0].is_64bit)
		tenon_device_config_write(device, 0x14, 4, 0);
	tenon_device_config_write(device, 4, 2, 2);
}

static void mark(const struct one *one)
{
	unsigned at = mark_register(one->device);
	uint32_t value = at == 0x2808 ? 0x1000 : MARK;
	if (!at)
		return;
	reach(one->device);
	tenon_device_bar_write(one->device, 0, at, &value, 4);
}

static void print_mark(const struct one *one)
{
	unsigned at = mark_register(one->device);
	uint32_t value = 0;
	if (!at)
		return;
	reach(one->device);
	tenon_device_bar_read(one->device, 0, at, &value, 4);
	printf("mark %s %s\n", one->address, value == (at == 0x2808 ? 0x1000u : MARK) ? "kept" : "gone");
}

static void print_plan(const struct one *one, bool bus)
{
	struct tenon_reset_plan plan = {.size = sizeof(plan)};
	struct tenon_error error;
	int code = bus ? tenon_device_bus_reset_plan(one->device, &plan, &error)
		       : tenon_device_reset_plan(one->device, &plan, &error);
	if (code < 0) {
		printf("plan %s failed: %s\n", one->address, error.message);
		return;
	}
	printf("plan %s %s %s %s\n", one->address, methods[plan.method], plan.allowed ? "yes" : "no", plan.why);
	for (unsigned i = 0; i < plan.affected_count; i++)
		printf("affected %s %s %s %d %s\n", one->address, plan.affected[i].address,
		       owners[plan.affected[i].owner], plan.affected[i].iommu_group,
		       plan.affected[i].driver[0] ? plan.affected[i].driver : "-");
}

static int open_node(const char *address)
{
	char pattern[128], path[64];
	glob_t found;
	snprintf(pattern, sizeof(pattern), "/sys/bus/pci/devices/%s/vfio-dev/vfio*", address);
	if (glob(pattern, 0, NULL, &found) != 0)
		return 0;
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	return fd > 0 ? fd : 0;
}

static void ask_kernel(const struct one *one)
{
	struct vfio_pci_hot_reset request = {.argsz = sizeof(request)};
	int result = ioctl(one->fd, VFIO_DEVICE_PCI_HOT_RESET, &request);
	printf("kernel %s %s\n", one->address, result == 0 ? "done" : strerror(errno));
}

static bool open_one(struct one *one, struct tenon_space *space)
{
	struct tenon_error error;
	const struct tenon_device_options options = {
		.size = sizeof(options),
		.address = one->address,
		.cdev = one->fd,
		.space = space,
		.ops = &ops,
		.slot = TENON_SLOT_ROOT_PORT,
		.reset = one->policy,
	};
	if (tenon_device_open(&options, &one->device, &error) < 0) {
		printf("refused %s %s\n", one->address, error.message);
		return false;
	}
	printf("opened %s %s\n", one->address, methods[tenon_device_info(one->device)->reset]);
	return true;
}

static void parse(const char *text, struct one *one)
{
	static const char *const policies[] = {"prefer", "require", "none"};
	const char *comma = strchr(text, ',');
	snprintf(one->address, sizeof(one->address), "%.*s", (int)(comma ? comma - text : (long)strlen(text)), text);
	for (unsigned i = 0; comma && i < 3; i++) {
		if (strcmp(comma + 1, policies[i]) == 0)
			one->policy = (enum tenon_reset_policy)i;
	}
}

static void wait_for_end(void)
{
	char byte;
	printf("ready\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

/* In the kernel's trace, so that what it did for the reset stands between two lines. */
static void trace(const char *text)
{
	int fd = open("/sys/kernel/tracing/trace_marker", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("log no trace\n");
	if (fd >= 0)
		close(fd);
}

static void reset(struct one *all, struct tenon_space *space, bool whole, unsigned on_bus)
{
	struct tenon_error error = {0};
	struct tenon_device *devices[DEVICES_MAX];
	for (unsigned i = 0; i < on_bus; i++)
		devices[i] = all[i].device;
	trace("reset begins");
	int code = whole    ? tenon_space_reset(space, &error)
		   : on_bus ? tenon_bus_reset(devices, on_bus, &error)
			    : tenon_device_reset(all[0].device, &error);
	trace("reset ends");
	printf("outcome %s %s %s\n", whole ? "space" : all[0].address, code == 0 ? "done" : "refused", error.message);
}

int main(int argc, char **argv)
{
	struct tenon_space_options options = {.size = sizeof(options)};
	struct one all[DEVICES_MAX] = {0};
	unsigned count = 0, on_bus = 0;
	bool whole = false, hold = false, ask = false, complete = true;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--container") == 0)
			options.interface = TENON_INTERFACE_CONTAINER;
		else if (strcmp(argv[i], "--space") == 0)
			whole = true;
		else if (strcmp(argv[i], "--bus") == 0 && i + 1 < argc)
			on_bus = (unsigned)strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--hold") == 0)
			hold = true;
		else if (strcmp(argv[i], "--ask") == 0)
			ask = true;
		else if (count < DEVICES_MAX)
			parse(argv[i], &all[count++]);
	}

	struct tenon_space *space;
	struct tenon_error error;
	if (count == 0 || on_bus > count || tenon_space_create(&options, &space, &error) < 0) {
		fprintf(stderr, "usage: resetter [--container] [--space] [--bus COUNT] [--hold] [--ask] "
				"ADDRESS[,POLICY]...\n");
		return 2;
	}
	if (ask && options.interface != TENON_INTERFACE_CONTAINER)
		all[0].fd = open_node(all[0].address);
	for (unsigned i = 0; complete && i < count; i++)
		complete = open_one(&all[i], space);
	if (complete)
		printf("interface %s\n",
		       tenon_space_interface(space) == TENON_INTERFACE_CONTAINER ? "container" : "iommufd");
	if (complete)
		printf("check %s\n", tenon_space_check_resets(space, &error) == 0 ? "ok" : error.message);
	for (unsigned i = 0; complete && i < count; i++) {
		print_plan(&all[i], on_bus);
		mark(&all[i]);
	}
	if (complete && all[0].fd)
		ask_kernel(&all[0]);
	if (complete && hold)
		wait_for_end();
	else if (complete)
		reset(all, space, whole, on_bus);
	for (unsigned i = 0; complete && i < count; i++)
		print_mark(&all[i]);
	for (unsigned i = 0; i < count; i++)
		tenon_device_close(all[i].device);
	if (all[0].fd)
		close(all[0].fd);
	tenon_space_destroy(space);
	return complete ? 0 : 1;
}
