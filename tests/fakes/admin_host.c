// SPDX-License-Identifier: MIT
/* The made-up host's folder, and the model of the kernel behind its writable files. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "admin_host.h"

#define NAMES_MAX  16
#define WRITES_MAX 256

static struct {
	char root[64];
	unsigned next_vfio;
	struct {
		char name[64], alias[160];
	} modules[NAMES_MAX];
	unsigned module_count;
	char refusing[64], claimed[64];
	char fail_part[128];
	unsigned fail_in;
	int fail_error;
	char writes[WRITES_MAX][160];
	unsigned write_count;
} world;

static void full(char path[PATH_MAX], const char *below)
{
	snprintf(path, PATH_MAX, "%s%s", world.root, below);
}

static void make_parents(const char *path)
{
	char copy[PATH_MAX];
	snprintf(copy, sizeof(copy), "%s", path);
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(copy, 0755);
		*slash = '/';
	}
}

void fake_bytes(const char *path, const void *bytes, unsigned count)
{
	char where[PATH_MAX];
	full(where, path);
	make_parents(where);
	FILE *file = fopen(where, "w");
	cr_assert(file, "%s", where);
	cr_assert_eq(fwrite(bytes, 1, count, file), count);
	fclose(file);
}

void fake_file(const char *path, const char *format, ...)
{
	char *text;
	va_list args;
	va_start(args, format);
	int length = vasprintf(&text, format, args);
	va_end(args);
	cr_assert_geq(length, 0);
	fake_bytes(path, text, (unsigned)length);
	free(text);
}

void fake_folder(const char *path)
{
	char where[PATH_MAX];
	full(where, path);
	make_parents(where);
	mkdir(where, 0755);
}

void fake_raw_link(const char *path, const char *target)
{
	char where[PATH_MAX];
	full(where, path);
	make_parents(where);
	unlink(where);
	cr_assert_eq(symlink(target, where), 0, "%s", where);
}

void fake_link(const char *path, const char *target)
{
	char to[PATH_MAX];
	full(to, target);
	fake_raw_link(path, to);
}

void fake_remove(const char *path)
{
	char command[PATH_MAX + 16], where[PATH_MAX];
	full(where, path);
	snprintf(command, sizeof(command), "rm -rf '%s'", where);
	cr_assert_eq(system(command), 0);
}

bool fake_has(const char *path)
{
	char where[PATH_MAX];
	struct stat status;
	full(where, path);
	return lstat(where, &status) == 0;
}

const char *fake_read(const char *path)
{
	static char line[512];
	char where[PATH_MAX];
	full(where, path);
	line[0] = '\0';
	FILE *file = fopen(where, "r");
	if (file) {
		if (!fgets(line, sizeof(line), file))
			line[0] = '\0';
		fclose(file);
	}
	line[strcspn(line, "\n")] = '\0';
	return line;
}

const char *fake_path(const char *bdf, const char *below)
{
	static char paths[4][PATH_MAX];
	static unsigned turn;
	char link[PATH_MAX], real[PATH_MAX];
	char *path = paths[turn++ % 4];
	snprintf(link, sizeof(link), "%s/sys/bus/pci/devices/%s", world.root, bdf);
	cr_assert(realpath(link, real), "%s", link);
	snprintf(path, PATH_MAX, "%s%s", real + strlen(world.root), below);
	return path;
}

void fake_iommu(uint64_t ecap)
{
	fake_file("/sys/devices/virtual/iommu/dmar0/intel-iommu/ecap", "%llx\n", (unsigned long long)ecap);
	fake_link("/sys/class/iommu/dmar0", "/sys/devices/virtual/iommu/dmar0");
	fake_folder("/sys/kernel/iommu_groups");
}

void fake_driver(const char *name)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s", name);
	fake_folder(path);
}

void fake_driver_refuses(const char *name)
{
	snprintf(world.refusing, sizeof(world.refusing), "%s", name);
}

void fake_module(const char *name, const char *alias)
{
	cr_assert_lt(world.module_count, NAMES_MAX);
	snprintf(world.modules[world.module_count].name, sizeof(world.modules[0].name), "%s", name);
	snprintf(world.modules[world.module_count++].alias, sizeof(world.modules[0].alias), "%s", alias ? alias : "");
}

static void attach(const char *bdf, const char *driver)
{
	char path[PATH_MAX], target[PATH_MAX];
	snprintf(target, sizeof(target), "/sys/bus/pci/drivers/%s", driver);
	fake_link(fake_path(bdf, "/driver"), target);
	if (!strstr(driver, "vfio"))
		return;
	snprintf(path, sizeof(path), "%s/vfio%u/dev", fake_path(bdf, "/vfio-dev"), world.next_vfio);
	fake_file(path, "509:%u\n", world.next_vfio);
	snprintf(path, sizeof(path), "/dev/vfio/devices/vfio%u", world.next_vfio++);
	fake_file(path, "%s", "");
	snprintf(path, sizeof(path), "%s/iommu_group", fake_path(bdf, ""));
	char group[PATH_MAX];
	full(target, path);
	ssize_t length = readlink(target, group, sizeof(group) - 1);
	if (length > 0) {
		group[length] = '\0';
		snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(group, '/'));
		fake_file(path, "%s", "");
	}
}

static void detach(const char *bdf)
{
	fake_remove(fake_path(bdf, "/driver"));
	fake_remove(fake_path(bdf, "/vfio-dev"));
	fake_remove(fake_path(bdf, "/block"));
	fake_remove(fake_path(bdf, "/net"));
}

static bool has_driver(const char *name)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s", name);
	return name[0] && fake_has(path);
}

static void store_hex(const char *bdf, const char *file, unsigned value, int digits)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", fake_path(bdf, ""), file);
	fake_file(path, "0x%0*x\n", digits, value);
}

static void make_config(const struct fake_pci *device)
{
	bool bridge = device->class_code >> 8 == 0x0604;
	unsigned secondary = 0;
	if (bridge) {
		sscanf(device->bdf, "%*x:%*x:%x", &secondary);
		secondary = secondary + 1; /* port 00:NN.0 leads to bus NN + 1 */
	}
	uint8_t config[256] = {0};
	config[0] = 0x86;
	config[1] = 0x80;
	config[6] = 0x10; /* a capability list */
	config[0x0e] = bridge ? 1 : 0;
	config[0x19] = (uint8_t)secondary;
	config[0x34] = 0x40;
	config[0x40] = 0x10; /* PCI Express */
	config[0x41] = 0x60;
	config[0x42] = bridge ? 0x42 : 0x02;
	config[0x60] = 0x11; /* MSI-X, 17 vectors */
	config[0x62] = 16;
	fake_bytes(fake_path(device->bdf, "/config"), config, sizeof(config));
}

void fake_pci(const struct fake_pci *device)
{
	char path[PATH_MAX], link[PATH_MAX];
	if (device->above)
		snprintf(path, sizeof(path), "%s/%s", fake_path(device->above, ""), device->bdf);
	else
		snprintf(path, sizeof(path), "/sys/devices/pci%.7s/%s", device->bdf, device->bdf);
	fake_folder(path);
	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s", device->bdf);
	fake_link(link, path);
	store_hex(device->bdf, "vendor", 0x8086, 4);
	store_hex(device->bdf, "device", 0x1533, 4);
	store_hex(device->bdf, "class", device->class_code, 6);
	fake_file(fake_path(device->bdf, "/numa_node"), "-1\n");
	fake_file(fake_path(device->bdf, "/modalias"), "pci:v00008086d00001533sv00000000sd00000000bc%02Xsc%02Xi%02X\n",
		  device->class_code >> 16, device->class_code >> 8 & 0xff, device->class_code & 0xff);
	fake_file(fake_path(device->bdf, "/driver_override"), "(null)\n");
	fake_file(fake_path(device->bdf, "/reset_method"), "flr bus\n");
	fake_file(fake_path(device->bdf, "/resource"), "0x00000000fe000000 0x00000000fe003fff 0x0000000000140204\n"
						       "0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
	fake_link(fake_path(device->bdf, "/subsystem"), "/sys/bus/pci");
	make_config(device);
	if (device->group >= 0) {
		snprintf(link, sizeof(link), "/sys/kernel/iommu_groups/%d", device->group);
		fake_folder(link);
		fake_link(fake_path(device->bdf, "/iommu_group"), link);
		fake_link(fake_path(device->bdf, "/iommu"), "/sys/devices/virtual/iommu/dmar0");
	}
	if (device->vfs_total) {
		fake_file(fake_path(device->bdf, "/sriov_totalvfs"), "%u\n", device->vfs_total);
		fake_file(fake_path(device->bdf, "/sriov_numvfs"), "0\n");
		fake_file(fake_path(device->bdf, "/sriov_drivers_autoprobe"), "1\n");
	}
	if (device->driver) {
		fake_driver(device->driver);
		fake_file(fake_path(device->bdf, "/.home"), "%s\n", device->driver);
		attach(device->bdf, device->driver);
	}
}

void fake_config(const char *bdf, unsigned offset, const void *bytes, unsigned count)
{
	char where[PATH_MAX];
	full(where, fake_path(bdf, "/config"));
	FILE *file = fopen(where, "r+");
	cr_assert(file);
	fseek(file, offset, SEEK_SET);
	cr_assert_eq(fwrite(bytes, 1, count, file), count);
	fclose(file);
}

static void make_block(const char *folder, const char *name, unsigned minor)
{
	char path[PATH_MAX], link[PATH_MAX];
	snprintf(path, sizeof(path), "%s/dev", folder);
	fake_file(path, "259:%u\n", minor);
	snprintf(path, sizeof(path), "%s/subsystem", folder);
	fake_link(path, "/sys/class/block");
	snprintf(link, sizeof(link), "/sys/class/block/%s", name);
	fake_link(link, folder);
}

void fake_disk(const char *bdf, const char *name, unsigned minor)
{
	char folder[PATH_MAX], part[PATH_MAX], path[PATH_MAX], part_name[64];
	fake_folder("/sys/class/block");
	snprintf(folder, sizeof(folder), "%s/%s", fake_path(bdf, "/block"), name);
	make_block(folder, name, minor);
	snprintf(part_name, sizeof(part_name), "%sp1", name);
	snprintf(part, sizeof(part), "%.3000s/%s", folder, part_name);
	make_block(part, part_name, minor + 1);
	snprintf(path, sizeof(path), "%.4000s/partition", part);
	fake_file(path, "1\n");
}

void fake_interface(const char *bdf, const char *name, unsigned flags)
{
	char path[PATH_MAX];
	fake_folder("/sys/class/net");
	snprintf(path, sizeof(path), "%s/%s/flags", fake_path(bdf, "/net"), name);
	fake_file(path, "0x%x\n", flags);
	snprintf(path, sizeof(path), "%s/%s/subsystem", fake_path(bdf, "/net"), name);
	fake_link(path, "/sys/class/net");
}

void fake_open(unsigned pid, const char *name, const char *node)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	fake_file(path, "%s\n", name);
	snprintf(path, sizeof(path), "/proc/%u/fd/3", pid);
	fake_raw_link(path, node);
}

void fake_claim(const char *node)
{
	snprintf(world.claimed, sizeof(world.claimed), "%s", node);
}

void fake_fail_write(const char *part, unsigned nth, int error)
{
	snprintf(world.fail_part, sizeof(world.fail_part), "%s", part);
	world.fail_in = nth;
	world.fail_error = error;
}

unsigned fake_writes(const char *part)
{
	unsigned count = 0;
	for (unsigned i = 0; i < world.write_count; i++)
		count += strstr(world.writes[i], part) != NULL;
	return count;
}

static bool has_bound(const char *bdf)
{
	return fake_has(fake_path(bdf, "/driver"));
}

static int probe(const char *bdf)
{
	if (has_bound(bdf))
		return 0;
	const char *override = fake_read(fake_path(bdf, "/driver_override"));
	char wanted[64];
	bool overridden = override[0] && strcmp(override, "(null)") != 0;
	snprintf(wanted, sizeof(wanted), "%s", overridden ? override : fake_read(fake_path(bdf, "/.home")));
	if (has_driver(wanted) && strcmp(wanted, world.refusing) != 0)
		attach(bdf, wanted);
	return 0;
}

static void make_vf(const char *pf, unsigned index)
{
	char bdf[24], path[PATH_MAX];
	unsigned bus;
	sscanf(pf, "%*x:%x", &bus);
	snprintf(bdf, sizeof(bdf), "%.4s:%02x:10.%u", pf, bus, index);
	char above[24];
	snprintf(path, sizeof(path), "%s", fake_path(pf, ""));
	*strrchr(path, '/') = '\0';
	snprintf(above, sizeof(above), "%.23s", strrchr(path, '/') + 1);
	char home[64];
	snprintf(home, sizeof(home), "%s", fake_read(fake_path(pf, "/.home")));
	fake_pci(&(struct fake_pci){.bdf = bdf,
				    .above = strncmp(above, "pci", 3) == 0 ? NULL : above,
				    .class_code = 0x010802,
				    .group = 100 + (int)index});
	fake_file(fake_path(bdf, "/.home"), "%s\n", home);
	fake_link(fake_path(bdf, "/physfn"), fake_path(pf, ""));
	snprintf(path, sizeof(path), "%s/virtfn%u", fake_path(pf, ""), index);
	fake_link(path, fake_path(bdf, ""));
	if (strcmp(fake_read(fake_path(pf, "/sriov_drivers_autoprobe")), "1") == 0 && has_driver(home))
		attach(bdf, home);
}

static int set_vfs(const char *pf, unsigned count)
{
	unsigned now = (unsigned)atoi(fake_read(fake_path(pf, "/sriov_numvfs")));
	char bdf[24], path[PATH_MAX];
	unsigned bus;
	sscanf(pf, "%*x:%x", &bus);
	if (!has_bound(pf))
		return -ENOENT;
	if (now && count)
		return -EBUSY;
	for (unsigned i = 0; i < now; i++) {
		snprintf(bdf, sizeof(bdf), "%.4s:%02x:10.%u", pf, bus, i);
		fake_remove(fake_path(bdf, ""));
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", bdf);
		fake_remove(path);
		snprintf(path, sizeof(path), "%s/virtfn%u", fake_path(pf, ""), i);
		fake_remove(path);
	}
	fake_file(fake_path(pf, "/sriov_numvfs"), "%u\n", count);
	for (unsigned i = 0; i < count; i++)
		make_vf(pf, i);
	return 0;
}

static int kernel_write(const struct host *host, const char *path, const char *text)
{
	char driver[64], file[64], bdf[24];
	cr_assert_lt(world.write_count, WRITES_MAX);
	snprintf(world.writes[world.write_count++], sizeof(world.writes[0]), "%s %.60s", path, text);
	if (world.fail_in && strstr(path, world.fail_part) && --world.fail_in == 0)
		return -world.fail_error;
	if (strcmp(path, "/sys/bus/pci/drivers_probe") == 0)
		return probe(text);
	if (sscanf(path, "/sys/bus/pci/drivers/%63[^/]/%63s", driver, file) == 2) {
		char now[PATH_MAX], link[PATH_MAX];
		if (!has_driver(driver))
			return -ENOENT;
		full(link, fake_path(text, "/driver"));
		ssize_t length = readlink(link, now, sizeof(now) - 1);
		if (strcmp(file, "bind") == 0) {
			if (length >= 0 || strcmp(driver, world.refusing) == 0)
				return -ENODEV;
			attach(text, driver);
			return 0;
		}
		now[length < 0 ? 0 : length] = '\0';
		if (length < 0 || strcmp(strrchr(now, '/') + 1, driver) != 0)
			return -ENODEV;
		detach(text);
		return 0;
	}
	if (sscanf(path, "/sys/bus/pci/devices/%23[^/]/%63s", bdf, file) != 2 || !fake_has(path))
		return -ENOENT;
	if (strcmp(file, "driver_override") == 0) {
		fake_file(fake_path(bdf, "/driver_override"), "%s\n", strcmp(text, "\n") == 0 ? "(null)" : text);
		return 0;
	}
	if (strcmp(file, "sriov_numvfs") == 0)
		return set_vfs(bdf, (unsigned)atoi(text));
	char below[80];
	snprintf(below, sizeof(below), "/%s", file);
	fake_file(fake_path(bdf, below), "%s\n", text);
	return 0;
}

static int kernel_load_module(const struct host *host, const char *name)
{
	for (unsigned i = 0; i < world.module_count; i++) {
		if (strcmp(world.modules[i].name, name) == 0 || strcmp(world.modules[i].alias, name) == 0) {
			fake_driver(world.modules[i].name);
			return 0;
		}
	}
	return -ENOENT;
}

static bool kernel_claimed(const struct host *host, const char *node)
{
	return world.claimed[0] && strcmp(node, world.claimed) == 0;
}

struct host fake_host = {
	.root = world.root, .write = kernel_write, .load_module = kernel_load_module, .claimed = kernel_claimed};

void fake_host_create(void)
{
	memset(&world, 0, sizeof(world));
	snprintf(world.root, sizeof(world.root), "/tmp/tenon-admin-XXXXXX");
	cr_assert(mkdtemp(world.root));
	fake_folder("/sys/bus/pci/devices");
	fake_folder("/sys/bus/pci/drivers");
	fake_folder("/proc");
	fake_file("/proc/self/mountinfo", "%s", "");
	fake_file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
}

void fake_host_destroy(void)
{
	fake_remove("");
}
