// SPDX-License-Identifier: MIT
/* The only file that uses libpci. It is GPL, which is why this program is one of its own and libtenon never links it. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pci/pci.h>

#include "names.h"

/* From pci.ids only: asking udev as well, libpci 3.9 leaks a handle at each name that neither knows. */
#define ONLY_NAMES (PCI_LOOKUP_NO_NUMBERS | PCI_LOOKUP_NO_HWDB)

struct names {
	struct pci_access *access;
	bool broken;
};

/* libpci's own way to fail is to end the program. It calls this from below a lookup, whose caller then uses numbers. */
static jmp_buf failed;

static void give_up(char *format, ...) __attribute__((noreturn));
static void give_up(char *format, ...)
{
	longjmp(failed, 1);
}

static void say_nothing(char *format, ...)
{
}

struct names *names_open(void)
{
	struct names *names = calloc(1, sizeof(*names));
	if (!names)
		return NULL;
	names->access = pci_alloc();
	names->access->error = give_up;
	names->access->warning = say_nothing;
	names->access->debug = say_nothing;
	return names;
}

void names_close(struct names *names)
{
	if (!names)
		return;
	/* What libpci was doing when it gave up is half done: that is left to the end of the program. */
	if (!names->broken)
		pci_cleanup(names->access);
	free(names);
}

/* The database is a file like any other. */
static void make_printable(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
	}
}

/* Not inlined: nothing of the caller may live in a register across the setjmp. */
static __attribute__((noinline)) bool find(struct names *names, char *found, int capacity, int flags, int first,
					   int second)
{
	if (setjmp(failed)) {
		names->broken = true;
		return false;
	}
	return pci_lookup_name(names->access, found, capacity, flags | ONLY_NAMES, first, second) != NULL;
}

static void look_up(struct names *names, char *text, size_t capacity, int flags, int first, int second)
{
	char found[256];
	if (names && !names->broken && find(names, found, sizeof(found), flags, first, second)) {
		snprintf(text, capacity, "%s", found);
		make_printable(text);
		return;
	}
	const char *kind = flags == PCI_LOOKUP_DEVICE ? "device" : flags == PCI_LOOKUP_VENDOR ? "vendor" : "class";
	snprintf(text, capacity, "%s %04x", kind, (unsigned)(flags == PCI_LOOKUP_DEVICE ? second : first));
}

void names_class(struct names *names, const struct device *device, char *text, size_t capacity)
{
	look_up(names, text, capacity, PCI_LOOKUP_CLASS, (int)(device->class_code >> 8), 0);
}

void names_vendor(struct names *names, const struct device *device, char *text, size_t capacity)
{
	look_up(names, text, capacity, PCI_LOOKUP_VENDOR, device->vendor, 0);
}

void names_device(struct names *names, const struct device *device, char *text, size_t capacity)
{
	look_up(names, text, capacity, PCI_LOOKUP_DEVICE, device->vendor, device->device);
}
