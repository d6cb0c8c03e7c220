// SPDX-License-Identifier: MIT
/*
 * Does to a device's config space what firmware does, and what a hostile driver does.
 *
 * pcicfg size BDF                  sizes each BAR and the expansion ROM as firmware would: "0:0x4000 6:0x10000"
 * pcicfg acs BDF                   its PCI Express type, or "pci", and "acs" or "-" for an access control capability: "4 acs"
 * pcicfg fuzz BDF SECONDS SEED     random bytes, words and dwords all over its config space, but for the vectors of messages, which
 *                                  are ones that a guest survives; prints how many
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/pci_regs.h>

static int config;

static void die(const char *what)
{
	fprintf(stderr, "pcicfg: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint32_t get(unsigned offset, unsigned bytes)
{
	uint32_t value = 0;
	if (pread(config, &value, bytes, offset) != (ssize_t)bytes)
		die("read");
	return value;
}

static void put(unsigned offset, unsigned bytes, uint32_t value)
{
	if (pwrite(config, &value, bytes, offset) != (ssize_t)bytes)
		die("write");
}

/* What stays writable of a register; all is as before afterwards. */
static uint32_t mask_of(unsigned offset, uint32_t all)
{
	uint32_t before = get(offset, 4);
	put(offset, 4, all);
	uint32_t mask = get(offset, 4);
	put(offset, 4, before);
	if (get(offset, 4) != before) {
		fprintf(stderr, "pcicfg: register 0x%x does not take its value back\n", offset);
		exit(1);
	}
	return mask;
}

static void size(void)
{
	uint32_t command = get(PCI_COMMAND, 2);
	put(PCI_COMMAND, 2, command & ~(PCI_COMMAND_MEMORY | PCI_COMMAND_IO));
	for (unsigned bar = 0; bar < 6; bar++) {
		unsigned offset = PCI_BASE_ADDRESS_0 + 4 * bar;
		uint32_t type = get(offset, 4);
		uint64_t mask = mask_of(offset, ~0u);
		if (mask == 0)
			continue;
		unsigned number = bar;
		if (type & PCI_BASE_ADDRESS_SPACE_IO) {
			mask = (mask & ~3ull) | 0xffffffff00000000;
		} else if ((type & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64) {
			mask = (mask & ~15ull) | (uint64_t)mask_of(offset + 4, ~0u) << 32;
			bar++;
		} else {
			mask = (mask & ~15ull) | 0xffffffff00000000;
		}
		printf("%u:0x%llx ", number, (unsigned long long)(~mask + 1));
	}
	uint32_t rom = mask_of(PCI_ROM_ADDRESS, (uint32_t)PCI_ROM_ADDRESS_MASK) & (uint32_t)PCI_ROM_ADDRESS_MASK;
	if (rom)
		printf("6:0x%x", ~rom + 1);
	put(PCI_COMMAND, 2, command);
	printf("\n");
}

static unsigned find_capability(unsigned id)
{
	unsigned at = get(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST ? get(PCI_CAPABILITY_LIST, 1) : 0;
	for (unsigned seen = 0; at && get(at, 1) != id && seen < 48; seen++)
		at = get(at + PCI_CAP_LIST_NEXT, 1);
	return at;
}

static bool has_extended(unsigned id)
{
	unsigned at = PCI_CFG_SPACE_SIZE;
	for (unsigned seen = 0; at && seen < 960; seen++) {
		uint32_t header = get(at, 4);
		if (PCI_EXT_CAP_ID(header) == id)
			return true;
		at = PCI_EXT_CAP_NEXT(header);
	}
	return false;
}

static void acs(void)
{
	unsigned express = find_capability(PCI_CAP_ID_EXP);
	if (!express)
		printf("pci -\n");
	else
		printf("%u %s\n", (get(express + PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_TYPE) >> 4,
		       has_extended(PCI_EXT_CAP_ID_ACS) ? "acs" : "-");
}

static uint64_t next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

/*
 * Keeps a message of the device from being one that ends the guest, whose kernel has done nothing wrong: INIT, SMI and NMI, an
 * exception, or the vector that stops a CPU. It stays a vector that devices have, for whatever CPU.
 */
static uint32_t tame(uint32_t value, unsigned offset, unsigned bytes, unsigned data)
{
	uint8_t byte[4];
	memcpy(byte, &value, sizeof(byte));
	for (unsigned i = 0; data && i < bytes; i++) {
		if (offset + i == data)
			byte[i] = (byte[i] & 0x3f) | 0x40;
		if (offset + i == data + 1)
			byte[i] &= (uint8_t)~0x07; /* delivery mode: fixed */
	}
	memcpy(&value, byte, sizeof(value));
	return value;
}

/* Half of all writes go to the first 256 bytes, where most of what has behaviour lies. */
static void fuzz(unsigned seconds, uint64_t seed)
{
	time_t end = time(NULL) + seconds;
	unsigned long writes = 0;
	unsigned msi = find_capability(PCI_CAP_ID_MSI), data = 0;
	if (msi)
		data = msi + (get(msi + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_64BIT ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32);
	for (; time(NULL) < end; writes++) {
		unsigned bytes = 1u << next(&seed) % 3;
		unsigned offset = next(&seed) % (next(&seed) % 2 ? 256 : 4096) & ~(bytes - 1);
		uint32_t value = tame(next(&seed) % 8 ? (uint32_t)next(&seed) : ~0u, offset, bytes, data);
		/* Beyond the end of a conventional device's space there is nothing to write to. */
		if (pwrite(config, &value, bytes, offset) < 0)
			die("write");
	}
	printf("%lu\n", writes);
}

int main(int argc, char **argv)
{
	char path[128];
	if (argc < 3 || (strcmp(argv[1], "size") && strcmp(argv[1], "acs") && (strcmp(argv[1], "fuzz") || argc != 5))) {
		fprintf(stderr, "usage: pcicfg size BDF | acs BDF | fuzz BDF SECONDS SEED\n");
		return 2;
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", argv[2]);
	config = open(path, O_RDWR);
	if (config < 0)
		die(path);
	if (strcmp(argv[1], "size") == 0)
		size();
	else if (strcmp(argv[1], "acs") == 0)
		acs();
	else
		fuzz((unsigned)atoi(argv[3]), strtoull(argv[4], NULL, 0));
	return 0;
}
