// SPDX-License-Identifier: MIT
/*
 * VFIO inside the guest, without an IOMMU: a guest's own view of which devices reset together.
 *
 * nested_vfio sets                gives every assigned device to vfio-pci and prints, for each, the fact
 *                                 device.N=BDF IDENTITY OUTCOME MEMBER...; OUTCOME is "set", or the errno of having none
 * nested_vfio reset FOLDER BDF... the hot reset of the first, whose set the BDFs are: leaves a mark in the registers of each,
 *                                 makes FOLDER/ready, waits for FOLDER/go, resets, prints the facts reset ("done" or an errno) and
 *                                 marks (what is left of each: "kept" or "gone"), makes FOLDER/done, and keeps the devices until
 *                                 there is FOLDER/end
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../host/reset_set.h"
#include "guest.h"

#define DEVICES_MAX  64
#define CLASS_BRIDGE 0x06u
#define NVME_CC      0x14u
#define NVME_MARK    0x00460000u /* entry sizes, of a controller that is off */
#define NIC_RDLEN    0x2808u
#define NIC_MARK     0x1000u

static const char *subject = "nested_vfio";

struct one {
	char bdf[16];
	int group, device;
};

static void die(const char *what)
{
	printf("@failed=nested_vfio: %s: %s: %s\n", subject, what, strerror(errno));
	exit(1);
}

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	int fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static unsigned class_in_sysfs(const char *bdf)
{
	char path[64], text[16] = "";
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.15s/class", bdf);
	int fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		die(path);
	close(fd);
	return strtoul(text, NULL, 16);
}

/* Its driver, if it has another, gives it up. */
static void give_to_vfio(struct one *one, const char *bdf)
{
	char folder[64], driver[80];
	snprintf(one->bdf, sizeof(one->bdf), "%.15s", bdf);
	subject = one->bdf;
	snprintf(folder, sizeof(folder), "/sys/bus/pci/devices/%.15s", bdf);
	snprintf(driver, sizeof(driver), "%s/driver", folder);
	if (access(driver, F_OK) == 0)
		write_file(driver, "unbind", bdf);
	write_file(folder, "driver_override", "vfio-pci");
	write_file("/sys/bus/pci", "drivers_probe", bdf);
}

static void open_one(struct one *one)
{
	char path[128], target[256] = "";
	subject = one->bdf;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", one->bdf);
	if (readlink(path, target, sizeof(target) - 1) < 0)
		die(path);
	snprintf(path, sizeof(path), "/dev/vfio/noiommu-%s", strrchr(target, '/') + 1);
	one->group = open_noiommu_group(path);
	one->device = ioctl(one->group, VFIO_GROUP_GET_DEVICE_FD, one->bdf);
	if (one->device < 0)
		die("get device");
}

/* Bridges and what belongs to the machine stay. */
static unsigned find_devices(struct one *all)
{
	unsigned count = 0;
	struct dirent *entry;
	DIR *folder = opendir("/sys/bus/pci/devices");
	if (!folder)
		die("/sys/bus/pci/devices");
	while ((entry = readdir(folder)) && count < DEVICES_MAX) {
		if (entry->d_name[0] != '.' && class_in_sysfs(entry->d_name) >> 16 != CLASS_BRIDGE)
			give_to_vfio(&all[count++], entry->d_name);
	}
	closedir(folder);
	return count;
}

static void print_sets(void)
{
	static struct one all[DEVICES_MAX];
	unsigned count = find_devices(all);
	for (unsigned i = 0; i < count; i++) {
		struct reset_set set;
		open_one(&all[i]);
		printf("@device.%u=%s ", i, all[i].bdf);
		print_identity(all[i].device);
		int none = get_reset_set(all[i].device, &set);
		printf(" %s", none ? strerrorname_np(none) : "set");
		print_members(&set);
		printf("\n");
	}
	printf("@devices=%u\n", count);
}

/* A register that keeps what is written and that a reset clears. */
static unsigned mark_register(int device, uint32_t *mark)
{
	bool nvme = class_of(device) == CLASS_NVME;
	*mark = nvme ? NVME_MARK : NIC_MARK;
	return nvme ? NVME_CC : NIC_RDLEN;
}

static void leave_mark(int device)
{
	uint32_t mark;
	unsigned at = mark_register(device, &mark);
	enable_memory(device);
	region_put(device, VFIO_PCI_BAR0_REGION_INDEX, at, 4, mark);
}

static bool keeps_mark(int device)
{
	uint32_t mark;
	unsigned at = mark_register(device, &mark);
	enable_memory(device);
	return region_get(device, VFIO_PCI_BAR0_REGION_INDEX, at, 4) == mark;
}

static const char *hot_reset(const struct one *all, unsigned count)
{
	struct {
		struct vfio_pci_hot_reset request;
		int32_t groups[DEVICES_MAX];
	} reset = {.request = {.argsz = sizeof(reset), .count = count}};
	for (unsigned i = 0; i < count; i++)
		reset.groups[i] = all[i].group;
	return ioctl(all[0].device, VFIO_DEVICE_PCI_HOT_RESET, &reset) ? strerrorname_np(errno) : "done";
}

static void make_file(const char *folder, const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	if (fd < 0)
		die(path);
	close(fd);
}

static void wait_for_file(const char *folder, const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	while (access(path, F_OK))
		usleep(50000);
}

static void reset_all(const char *folder, char **bdfs, unsigned count)
{
	static struct one all[DEVICES_MAX];
	for (unsigned i = 0; i < count; i++)
		give_to_vfio(&all[i], bdfs[i]);
	for (unsigned i = 0; i < count; i++) {
		open_one(&all[i]);
		leave_mark(all[i].device);
		if (!keeps_mark(all[i].device)) {
			errno = EIO;
			die("its register does not keep the mark");
		}
	}
	make_file(folder, "ready");
	wait_for_file(folder, "go");
	printf("@reset=%s\n@marks=", hot_reset(all, count));
	for (unsigned i = 0; i < count; i++)
		printf("%s%s", i ? " " : "", keeps_mark(all[i].device) ? "kept" : "gone");
	printf("\n");
	fflush(stdout);
	make_file(folder, "done");
	wait_for_file(folder, "end");
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "sets") == 0)
		print_sets();
	else if (argc > 3 && argc - 3 <= DEVICES_MAX && strcmp(argv[1], "reset") == 0)
		reset_all(argv[2], argv + 3, argc - 3);
	else
		fprintf(stderr, "usage: nested_vfio sets | reset GO BDF...\n");
	return argc < 2;
}
