// SPDX-License-Identifier: MIT
/* The command line of `tenon run`. Wrong values are refused here, with the option's name and what it takes. */
#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "options.h"

enum {
	KEY_DRY_RUN = 256,
	KEY_JSON,
	KEY_STATS,
	KEY_EXIT_DEVICE,
	KEY_NO_REBOOT,
	KEY_SERIAL,
	KEY_IOMMUFD,
	KEY_IOMMU,
	KEY_CONTROL,
	KEY_HOTPLUG_PORTS,
	KEY_TOPOLOGY,
	KEY_FIRMWARE,
	KEY_INCOMING,
	KEY_MIGRATION_INSECURE,
	KEY_TLS_CA,
	KEY_TLS_CERT,
	KEY_TLS_KEY,
	KEY_TLS_PSK,
	KEY_TLS_PEER,
	KEY_HELP
};

static const struct argp_option argp_options[] = {
	{"kernel", 'k', "FILE", 0, "Kernel: a bzImage, or an ELF vmlinux with a PVH entry", 0},
	{"firmware", KEY_FIRMWARE, "FILE", 0,
	 "Start this ROM image at the reset vector, or 'default' for Tenon's own; a kernel is then loaded for it, not "
	 "started",
	 0},
	{"initrd", 'i', "FILE", 0, "Initial RAM disk", 0},
	{"append", 'a', "TEXT", 0, "Kernel command line", 0},
	{"memory", 'm', "SIZE[,OPTION]", 0,
	 "Guest memory, e.g. 512M or 6G (default 256M). Options: hugepages=2M|1G, prefault, shared", 0},
	{"cpus", 'c', "N", 0, "Virtual CPUs, 1 to 64 (default 1)", 0},
	{"device", 'd', "ADDRESS[,OPTION]", 0,
	 "Assign a host PCI device that is bound to vfio-pci: 0000:3b:00.0, /dev/vfio/devices/vfio3, or fd=N for an "
	 "open one; or one of another process, by its server's socket: vfio-user:PATH. May be given many times. "
	 "Options: slot=N, port=N, root-port, reset=prefer|require|none, sriov=hide|read-only, rom=on|off|FILE, "
	 "intx=auto|trapped, on-error=stop|reset|ignore, vf-token=UUID, reconnect=on|off, timeout=MS, "
	 "reset-group=NAME, dirty-tracking=require|assume-all",
	 0},
	{"iommu", KEY_IOMMU, "WHICH", 0, "Kernel interface for devices: auto (default), iommufd or container", 0},
	{"control", KEY_CONTROL, "PATH", 0, "Listen there for tenon ctl and tenon migrate", 0},
	{"incoming", KEY_INCOMING, "ADDRESS", 0,
	 "Do not boot: take over the guest that tenon migrate sends there (tcp:0.0.0.0:4444, unix:PATH, fd:N), or that "
	 "it "
	 "saved (file:PATH). Memory, CPUs, devices and kernel are given as to the VM that it comes from",
	 0},
	{"migration-insecure", KEY_MIGRATION_INSECURE, NULL, 0,
	 "Let migrations to and from other hosts go over TCP without encryption", 0},
	{"tls-ca", KEY_TLS_CA, "FILE", 0,
	 "Migrations over TCP are encrypted, and the other side shows a certificate that one of these signed (PEM)", 0},
	{"tls-cert", KEY_TLS_CERT, "FILE", 0, "This side's certificate (PEM)", 0},
	{"tls-key", KEY_TLS_KEY, "FILE", 0, "Its key (PEM)", 0},
	{"tls-psk", KEY_TLS_PSK, "FILE", 0, "Instead of certificates: a key that both sides have", 0},
	{"tls-peer", KEY_TLS_PEER, "NAME", 0,
	 "Whose certificate the other side is to show (default: of the host in the address)", 0},
	{"topology", KEY_TOPOLOGY, "WHICH", 0,
	 "How the guest's buses show what resets and isolates together: mirror (default), the host's groups, or flat, "
	 "each device alone",
	 0},
	{"hotplug-ports", KEY_HOTPLUG_PORTS, "N", 0,
	 "Empty root ports for devices that tenon ctl adds later (default 0, at most 8)", 0},
	{"iommufd", KEY_IOMMUFD, "FD", 0, "Use this open /dev/iommu", 0},
	{"serial", KEY_SERIAL, "WHERE", 0,
	 "Serial port: stdio (default; Ctrl-A X leaves), file:PATH, socket:PATH, pty or none", 0},
	{"exit-device", KEY_EXIT_DEVICE, NULL, 0,
	 "Offer a port (0x500) whose first write ends the VM; tenon exits with that status", 0},
	{"no-reboot", KEY_NO_REBOOT, NULL, 0, "End instead of rebooting when the guest resets itself (status 3)", 0},
	{"dry-run", KEY_DRY_RUN, NULL, 0, "Open and check everything, print the plan, and end", 0},
	{"json", KEY_JSON, NULL, 0, "With --dry-run: print the plan as JSON", 0},
	{"stats", KEY_STATS, NULL, 0, "Count VM exits by kind: printed at the end and at SIGUSR1", 0},
	{"quiet", 'q', NULL, 0, "Print only errors and warnings", 0},
	{"help", KEY_HELP, NULL, 0, "Print this", 0},
	{0},
};

static const char argp_doc[] = "Boots a kernel in a microVM, with host PCI devices assigned to it.\v"
			       "Exit status: 0 the guest powered off; the guest's own status with --exit-device; 1 "
			       "something could not be set up; "
			       "2 wrong usage; 3 the guest reset itself under --no-reboot; 4 the guest crashed (triple "
			       "fault); 5 the VM or a device "
			       "failed; 130 ended by SIGINT or Ctrl-A X; 143 by SIGTERM.";

struct parser {
	struct run_options *options;
	struct tenon_error *err;
};

static int parse_number(const char *name, const char *text, unsigned first, unsigned last, unsigned *out,
			struct tenon_error *err)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || value < first || value > last)
		return tenon_fail(err, -EINVAL, "%s %s: not a number from %u to %u; give one", name, text, first, last);
	*out = (unsigned)value;
	return 0;
}

struct choice {
	const char *word;
	int value;
};

/* `words` ends with a NULL word. */
static int parse_choice(const char *name, const char *text, const struct choice *words, int *out,
			struct tenon_error *err)
{
	char known[64] = "";
	for (; words->word; words++) {
		if (strcmp(text, words->word) == 0) {
			*out = words->value;
			return 0;
		}
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", known[0] ? ", " : "",
			 words->word);
	}
	return tenon_fail(err, -EINVAL, "%s=%s: not known; give one of %s", name, text, known);
}

static bool is_uuid(const char *text)
{
	static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	for (size_t i = 0; i < sizeof(shape) - 1; i++) {
		if (shape[i] == '-' ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	return text[sizeof(shape) - 1] == '\0';
}

/* What follows `key` and an equals sign, or NULL. */
static const char *value_of(const char *option, const char *key)
{
	size_t length = strlen(key);
	return strncmp(option, key, length) == 0 && option[length] == '=' ? option + length + 1 : NULL;
}

static int parse_device_choice(const char *option, struct device_options *device, bool *known, struct tenon_error *err)
{
	static const struct choice reset[] = {
		{"prefer", TENON_RESET_PREFER}, {"require", TENON_RESET_REQUIRE}, {"none", TENON_RESET_NEVER}, {NULL}};
	static const struct choice sriov[] = {{"hide", TENON_SRIOV_HIDE}, {"read-only", TENON_SRIOV_READ_ONLY}, {NULL}};
	static const struct choice intx[] = {{"auto", TENON_INTX_AUTO}, {"trapped", TENON_INTX_TRAPPED}, {NULL}};
	static const struct choice on_error[] = {
		{"stop", ON_ERROR_STOP}, {"reset", ON_ERROR_RESET}, {"ignore", ON_ERROR_IGNORE}, {NULL}};
	static const struct choice reconnect[] = {{"off", false}, {"on", true}, {NULL}};
	static const struct choice dirty[] = {{"require", false}, {"assume-all", true}, {NULL}};
	int reconnects = device->reconnect, assumes = device->assume_all_dirty;
	const struct {
		const char *key;
		const struct choice *words;
		void *out; /* every enum here is an int's size */
	} choices[] = {{"reset", reset, &device->reset},      {"sriov", sriov, &device->sriov},
		       {"intx", intx, &device->intx},         {"on-error", on_error, &device->on_error},
		       {"reconnect", reconnect, &reconnects}, {"dirty-tracking", dirty, &assumes}};
	for (unsigned i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		const char *text = value_of(option, choices[i].key);
		int value = 0;
		if (!text)
			continue;
		*known = true;
		int code = parse_choice(choices[i].key, text, choices[i].words, &value, err);
		if (code == 0)
			memcpy(choices[i].out, &value, sizeof(value));
		device->reconnect = reconnects;
		device->assume_all_dirty = assumes;
		return code;
	}
	return 0;
}

static bool is_vfio_user(const struct device_options *device)
{
	return device->address && strncmp(device->address, "vfio-user:", strlen("vfio-user:")) == 0;
}

static int parse_slot(const char *what, const char *text, struct device_options *device, struct tenon_error *err)
{
	unsigned before = device->slot;
	int code = parse_number(what, text, 1, 31, &device->slot, err);
	if (code == 0 && before && before != device->slot)
		return tenon_fail(err, -EINVAL, "--device %s: slot %u and slot %u; give one of them", device->address,
				  before, device->slot);
	return code;
}

/* A device of the host has the groups that its kernel tells. */
static int parse_reset_group(const char *name, struct device_options *device, struct tenon_error *err)
{
	device->reset_group = name;
	if (!*name)
		return tenon_fail(err, -EINVAL, "--device %s: reset-group: empty; give a name", device->address);
	if (!is_vfio_user(device))
		return tenon_fail(
			err, -EINVAL,
			"--device %s: reset-group= is for vfio-user devices; the host's kernel tells what this "
			"one resets with",
			device->address);
	return 0;
}

static int parse_device_option(const char *option, struct device_options *device, struct tenon_error *err)
{
	const char *text;
	bool known = false;
	if (strcmp(option, "root-port") == 0) {
		device->root_port = true;
		return 0;
	}
	if ((text = value_of(option, "port"))) {
		device->root_port = true;
		return parse_slot("--device: port", text, device, err);
	}
	if ((text = value_of(option, "reset-group")))
		return parse_reset_group(text, device, err);
	if ((text = value_of(option, "slot")))
		return parse_slot("--device: slot", text, device, err);
	if ((text = value_of(option, "timeout")))
		return parse_number("--device: timeout", text, 1, 10000, &device->timeout_ms, err);
	if ((text = value_of(option, "rom"))) {
		device->rom = strcmp(text, "on") == 0    ? TENON_ROM_DEVICE
			      : strcmp(text, "off") == 0 ? TENON_ROM_OFF
							 : TENON_ROM_FILE;
		device->rom_file = device->rom == TENON_ROM_FILE ? text : NULL;
		return 0;
	}
	if ((text = value_of(option, "vf-token"))) {
		device->vf_token = text;
		if (!is_uuid(text))
			return tenon_fail(err, -EINVAL,
					  "--device %s: vf-token=%s is no UUID; uuidgen makes one, to be given to the "
					  "PF and its VFs",
					  device->address, text);
		return 0;
	}
	int code = parse_device_choice(option, device, &known, err);
	if (code < 0)
		tenon_fail_wrap(err, "--device %s", device->address);
	if (known)
		return code;
	return tenon_fail(err, -EINVAL,
			  "--device %s: unknown option %s; slot=, port=, root-port, reset=, sriov=, rom=, intx=, "
			  "on-error=, vf-token=, reconnect=, timeout=, reset-group= and dirty-tracking= are known",
			  device->address, option);
}

/* One spelling for each device, so that one given in two is seen to be the same. */
static int spell_canonically(struct device_options *device, struct tenon_error *err)
{
	unsigned domain = 0, bus, slot, function;
	char rest, *full = NULL;
	int length = 0;
	if (!device->fd && strspn(device->address, "0123456789abcdefABCDEF:.") != strlen(device->address))
		return 0; /* a path, or something that the library will refuse in words */
	if (device->fd)
		length = asprintf(&full, "fd=%d", device->fd);
	else if (sscanf(device->address, "%8x:%2x:%2x.%1x%c", &domain, &bus, &slot, &function, &rest) == 4 ||
		 (domain = 0, sscanf(device->address, "%2x:%2x.%1x%c", &bus, &slot, &function, &rest) == 3))
		length = asprintf(&full, "%04x:%02x:%02x.%x", domain, bus, slot, function);
	else
		return 0;
	if (length < 0)
		return tenon_fail(err, -ENOMEM, "--device: out of memory; free some memory");
	free(device->address);
	device->address = full;
	return 0;
}

void options_finish_device(struct device_options *device)
{
	free(device->address);
	free(device->text);
	*device = (struct device_options){0};
}

int options_parse_device(const char *text, struct device_options *device, struct tenon_error *err)
{
	*device = (struct device_options){.text = strdup(text)};
	char *rest = device->text;
	const char *address = rest ? strsep(&rest, ",") : NULL;
	device->address = address ? strdup(address) : NULL;
	int code = 0;
	if (!device->address)
		code = tenon_fail(err, -ENOMEM, "--device: out of memory; free some memory");
	else if (!*address)
		code = tenon_fail(err, -EINVAL, "--device: no address; give one such as 0000:3b:00.0");
	if (code == 0 && strncmp(address, "fd=", 3) == 0) {
		unsigned fd = 0;
		code = parse_number("--device: fd", address + 3, 3, INT_MAX, &fd, err);
		device->fd = (int)fd;
	}
	for (const char *option; code == 0 && (option = strsep(&rest, ","));)
		code = parse_device_option(option, device, err);
	if (code == 0)
		code = spell_canonically(device, err);
	if (code < 0)
		options_finish_device(device);
	return code;
}

static int add_device(struct run_options *options, const char *text, struct tenon_error *err)
{
	if (options->device_count == OPTIONS_DEVICES_MAX)
		return tenon_fail(err, -ENOSPC, "--device %s: more than %d devices; assign fewer", text,
				  OPTIONS_DEVICES_MAX);
	int code = options_parse_device(text, &options->devices[options->device_count], err);
	if (code == 0)
		options->device_count++;
	return code;
}

static int parse_topology(const char *text, enum tenon_topology_mode *mode, struct tenon_error *err)
{
	static const struct choice modes[] = {{"mirror", TENON_TOPOLOGY_MIRROR}, {"flat", TENON_TOPOLOGY_FLAT}, {NULL}};
	int value = *mode;
	int code = parse_choice("--topology", text, modes, &value, err);
	*mode = (enum tenon_topology_mode)value;
	return code;
}

static int parse_iommu(const char *text, enum tenon_interface *out, struct tenon_error *err)
{
	static const struct choice words[] = {{"auto", TENON_INTERFACE_AUTO},
					      {"iommufd", TENON_INTERFACE_IOMMUFD},
					      {"container", TENON_INTERFACE_CONTAINER},
					      {NULL}};
	int value = 0;
	int code = parse_choice("--iommu", text, words, &value, err);
	if (code == 0)
		*out = (enum tenon_interface)value;
	return code;
}

/* What `tenon run` says of migrations. @return false: the key is another's */
static bool parse_migration_option(int key, const char *text, struct run_options *options)
{
	switch (key) {
	case KEY_INCOMING:
		options->incoming = text;
		return true;
	case KEY_MIGRATION_INSECURE:
		options->migration_insecure = true;
		return true;
	case KEY_TLS_CA:
		options->tls.ca = text;
		return true;
	case KEY_TLS_CERT:
		options->tls.cert = text;
		return true;
	case KEY_TLS_KEY:
		options->tls.key = text;
		return true;
	case KEY_TLS_PSK:
		options->tls.psk = text;
		return true;
	case KEY_TLS_PEER:
		options->tls.peer = text;
		return true;
	default:
		return false;
	}
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct parser *parser = state->input;
	struct run_options *options = parser->options;
	unsigned number = 0;
	int code = 0;
	switch (key) {
	case 'k':
		options->kernel = text;
		break;
	case 'i':
		options->initrd = text;
		break;
	case 'a':
		options->append = text;
		break;
	case 'm':
		code = memory_options_parse(text, &options->memory, parser->err);
		break;
	case 'c':
		code = parse_number("--cpus", text, 1, CPU_COUNT_MAX, &options->cpus, parser->err);
		break;
	case 'd':
		code = add_device(options, text, parser->err);
		break;
	case 'q':
		options->quiet = true;
		break;
	case KEY_SERIAL:
		options->serial = text;
		break;
	case KEY_IOMMUFD:
		code = parse_number("--iommufd", text, 3, INT_MAX, &number, parser->err);
		options->iommufd = (int)number;
		break;
	case KEY_IOMMU:
		code = parse_iommu(text, &options->iommu, parser->err);
		break;
	case KEY_CONTROL:
		options->control = text;
		break;
	case KEY_TOPOLOGY:
		code = parse_topology(text, &options->topology, parser->err);
		break;
	case KEY_HOTPLUG_PORTS:
		code = parse_number("--hotplug-ports", text, 0, OPTIONS_HOTPLUG_PORTS_MAX, &options->hotplug_ports,
				    parser->err);
		break;
	case KEY_FIRMWARE:
		options->firmware = text;
		break;
	case KEY_EXIT_DEVICE:
		options->exit_device = true;
		break;
	case KEY_NO_REBOOT:
		options->no_reboot = true;
		break;
	case KEY_DRY_RUN:
		options->dry_run = true;
		break;
	case KEY_JSON:
		options->json = true;
		break;
	case KEY_STATS:
		options->stats = true;
		break;
	case ARGP_KEY_ARG:
		code = tenon_fail(parser->err, -EINVAL,
				  "%s: unexpected argument; options begin with --, see tenon run --help", text);
		break;
	case KEY_HELP:
		options->help = true;
		break;
	case ARGP_KEY_ERROR:
		/* argp's own findings come without words under ARGP_NO_ERRS; ours bring theirs. */
		if (parser->err->code == 0)
			tenon_fail(parser->err, -EINVAL,
				   "%s: unknown option, or its value is missing; see tenon run --help",
				   state->argv[state->next - 1]);
		return 0;
	default:
		return parse_migration_option(key, text, options) ? 0 : ARGP_ERR_UNKNOWN;
	}
	return -code;
}

static int check(const struct run_options *options, struct tenon_error *err)
{
	if (!options->kernel && !options->firmware)
		return tenon_fail(err, -EINVAL, "--kernel: missing; give a bzImage or an ELF vmlinux");
	if (!options->kernel && options->initrd)
		return tenon_fail(err, -EINVAL, "--initrd %s: is for a kernel; add --kernel", options->initrd);
	if (options->json && !options->dry_run)
		return tenon_fail(err, -EINVAL, "--json: only the plan has a JSON form; add --dry-run");
	int code = options->incoming ? engine_address_check("--incoming", options->incoming, err) : 0;
	if (code == 0)
		code = engine_tls_check("tenon run", &options->tls, err);
	if (code < 0)
		return code;
	for (unsigned i = 0; i < options->device_count; i++) {
		for (unsigned j = 0; j < i; j++) {
			const struct device_options *a = &options->devices[i], *b = &options->devices[j];
			if (strcmp(a->address, b->address) == 0)
				return tenon_fail(err, -EINVAL, "--device %s: given twice; a device is assigned once",
						  a->address);
		}
	}
	return 0;
}

/* The server of a vfio-user device maps guest memory; without that each of its accesses would be a message. */
static bool has_vfio_user(const struct run_options *options)
{
	for (unsigned i = 0; i < options->device_count; i++) {
		if (is_vfio_user(&options->devices[i]))
			return true;
	}
	return false;
}

int options_parse(int argc, char **argv, struct run_options *options, struct tenon_error *err)
{
	static const struct argp argp = {.options = argp_options, .parser = parse_option, .doc = argp_doc};
	*options = (struct run_options){.cpus = 1, .serial = "stdio", .append = ""};
	options->memory.size_bytes = 256ull << 20;
	struct parser parser = {.options = options, .err = err};
	err->code = 0;
	/* Without its own errors, because ours take one line each; argp then prints no help by itself either. */
	error_t code = argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &parser);
	if (code == 0 && options->help)
		argp_help(&argp, stdout, ARGP_HELP_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, argv[0]);
	else if (code == 0)
		code = -check(options, err);
	options->memory.shared |= has_vfio_user(options);
	/* A firmware has no other way to say how it went. */
	options->exit_device |= options->firmware && !options->kernel;
	if (code)
		options_finish(options);
	return -code;
}

void options_finish(struct run_options *options)
{
	for (unsigned i = 0; i < options->device_count; i++)
		options_finish_device(&options->devices[i]);
	options->device_count = 0;
}
