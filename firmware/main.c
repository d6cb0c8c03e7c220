// SPDX-License-Identifier: MIT
/*
 * Where C begins: reads the description, sets up interrupts, enumerates PCI and does what the command line says. Its words are
 * separated by blanks and end at " -- ".
 */
#include <string.h>

#include "console.h"
#include "groups.h"
#include "interrupts.h"
#include "machine.h"
#include "modes.h"
#include "pci.h"

void firmware_main(void);

static const struct mode {
	const char *name;
	unsigned (*run)(void);
} modes[] = {
	{"list", mode_list},       {"selftest", mode_selftest}, {"boot", mode_boot},
	{"hostile", mode_hostile}, {"load", mode_load},         {"timing", mode_timing},
};

/* The value of a word key=value; NULL: not there. *length is up to the next blank. */
static const char *word(const char *key, size_t *length)
{
	size_t key_bytes = strlen(key);
	const char *at = machine.command_line;
	while (*at) {
		size_t bytes = 0;
		while (at[bytes] && at[bytes] != ' ')
			bytes++;
		if (bytes == 2 && at[0] == '-' && at[1] == '-')
			break;
		if (bytes > key_bytes && memcmp(at, key, key_bytes) == 0 && at[key_bytes] == '=') {
			*length = bytes - key_bytes - 1;
			return at + key_bytes + 1;
		}
		at += bytes;
		while (*at == ' ')
			at++;
	}
	return NULL;
}

uint64_t word_number(const char *key, uint64_t otherwise)
{
	size_t length;
	const char *text = word(key, &length);
	uint64_t value = 0, base = 10;
	if (!text || !length)
		return otherwise;
	if (length > 2 && text[0] == '0' && text[1] == 'x') {
		base = 16;
		text += 2;
		length -= 2;
	}
	for (size_t i = 0; i < length; i++) {
		uint64_t digit = text[i] >= 'a' ? (uint64_t)(text[i] - 'a') + 10 : (uint64_t)(text[i] - '0');
		if (digit >= base) {
			print("# firmware: %s= is no number; its default %lu is used\n", key, otherwise);
			return otherwise;
		}
		value = value * base + digit;
	}
	return value;
}

const char *words_of_kernel(void)
{
	size_t length;
	const char *at = machine.command_line;
	if (!word("mode", &length))
		return at;
	for (; *at; at++) {
		if (memcmp(at, " -- ", 4) == 0)
			return at + 4;
	}
	return "";
}

static unsigned run_mode(void)
{
	size_t length;
	const char *name = word("mode", &length);
	if (!name) {
		name = machine.has_kernel ? "boot" : "list";
		length = strlen(name);
	}
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strlen(modes[i].name) == length && memcmp(modes[i].name, name, length) == 0)
			return modes[i].run();
	}
	print("# firmware: mode=%s: no such mode; give one of", name);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		print(" %s", modes[i].name);
	print("\n");
	return LAYOUT_FIRMWARE_USAGE;
}

void firmware_main(void)
{
	const char *trouble = machine_read();
	print("# tenon firmware " FIRMWARE_VERSION "\n");
	interrupts_init();
	if (!trouble) {
		uint64_t started = now_ns();
		trouble = enumerate();
		if (!trouble)
			print("# %u functions enumerated in %lu us\n", function_count, (now_ns() - started) / 1000);
	}
	if (trouble) {
		print("# firmware: the machine's description: %s\n", trouble);
		machine_end(LAYOUT_FIRMWARE_DESCRIPTION);
	}
	groups_read();
	machine_end(run_mode());
}
