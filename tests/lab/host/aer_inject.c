// SPDX-License-Identifier: MIT
/*
 * Injects an uncorrectable, non-fatal error (a completer abort) of a PCI Express device into the host's kernel, as if its root
 * port had reported one: aer_inject DOMAIN:BUS:DEVICE.FUNCTION. Needs the module aer_inject.
 * Source: Linux drivers/pci/pcie/aer_inject.c, which defines the structure and no header for it.
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

struct injected_error {
	uint8_t bus, device, function;
	uint32_t uncorrectable, correctable;
	uint32_t header[4];
	uint32_t domain;
};

int main(int argc, char **argv)
{
	unsigned domain, bus, device, function;
	if (argc != 2 || sscanf(argv[1], "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4) {
		fprintf(stderr, "aer_inject: give one address, such as 0000:01:00.0\n");
		return 2;
	}
	const struct injected_error error = {.bus = (uint8_t)bus,
					     .device = (uint8_t)device,
					     .function = (uint8_t)function,
					     .uncorrectable = PCI_ERR_UNC_COMP_ABORT,
					     .domain = domain};
	int fd = open("/dev/aer_inject", O_WRONLY);
	if (fd < 0 || write(fd, &error, sizeof(error)) != (ssize_t)sizeof(error)) {
		perror("aer_inject");
		return 1;
	}
	close(fd);
	return 0;
}
