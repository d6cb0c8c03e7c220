// SPDX-License-Identifier: MIT
/* A /init that says so at once, then how many NVMe controllers the guest has, and waits to be killed. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static unsigned count_class(const char *wanted)
{
	unsigned count = 0;
	DIR *devices = opendir("/sys/bus/pci/devices");
	for (struct dirent *entry; devices && (entry = readdir(devices));) {
		char path[512], class[16] = "";
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", entry->d_name);
		FILE *file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(class, sizeof(class), file) && !strncmp(class, wanted, strlen(wanted)))
			count++;
		fclose(file);
	}
	return count;
}

int main(void)
{
	if (write(STDOUT_FILENO, "@init\n", 6) != 6)
		return 1;
	mount("sys", "/sys", "sysfs", 0, NULL);
	printf("@nvme=%u\n", count_class("0x010802"));
	fflush(stdout);
	for (;;)
		pause();
}
