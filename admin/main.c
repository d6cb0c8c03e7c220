// SPDX-License-Identifier: MIT
/* tenon-admin: the commands that prepare a host for device assignment. `tenon devices` and the others run it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <tenon/tenon.h>

#include "commands.h"

static const struct command commands[] = {
	{"devices", "[ADDRESS...]", "Lists the host's PCI devices and says which can be assigned, and how.", NULL,
	 OPTION_JSON | OPTION_ALL, 0, ARGUMENTS_MAX, command_devices},
	{"groups", "", "Lists the IOMMU groups, their members, and who blocks them.", NULL, OPTION_JSON, 0, 0,
	 command_groups},
	{"doctor", "", "Checks whether this host and this user can assign devices: IOMMU, kernel, permissions, memory.",
	 "Each finding comes with its fix. The exit status is 1 when a problem prevents assignment.",
	 OPTION_JSON | OPTION_MEMORY, 0, 0, command_doctor},
	{"topology", "", "Shows how the host's devices hang together, with their groups and what resets together.",
	 NULL, OPTION_JSON | OPTION_DOT, 0, 0, command_topology},
	{"bind", "ADDRESS...", "Takes devices from the host's drivers and gives them to vfio-pci, for a VM.",
	 "What a device had before is remembered, and tenon unbind restores it. A device that the host uses is only "
	 "taken "
	 "after a question, or with --force.",
	 OPTION_GROUP | OPTION_FORCE | OPTION_DRY_RUN | OPTION_DRIVER, 1, ARGUMENTS_MAX, command_bind},
	{"unbind", "ADDRESS...", "Gives devices back to the drivers that they had before tenon bind.", NULL,
	 OPTION_GROUP | OPTION_FORCE | OPTION_DRY_RUN, 1, ARGUMENTS_MAX, command_unbind},
	{"vf", "create PF N\nlist [PF]\ndestroy PF", "Creates, lists and destroys virtual functions (SR-IOV).",
	 "New VFs get no driver, unless --autoprobe lets the host's drivers take them; tenon bind gives them to "
	 "vfio-pci. VFs that "
	 "are in use are only destroyed with --force. Whoever owns a PF can read and change what goes through its VFs: "
	 "where the "
	 "PF itself is assigned, its user and the users of its VFs must show the same vf-token.",
	 OPTION_JSON | OPTION_AUTOPROBE | OPTION_FORCE, 1, 3, command_vf},
	{"reset", "ADDRESS...", "Resets devices that are bound to VFIO, or says with --plan what that would do.",
	 "The devices are opened as one VM would open them, so a bus reset that hits exactly them is allowed. Opening "
	 "a device "
	 "makes the kernel reset its function where it can, as every VM does; --plan does nothing beyond that.",
	 OPTION_JSON | OPTION_PLAN | OPTION_YES | OPTION_GROUP | OPTION_VF_TOKEN, 1, ARGUMENTS_MAX, command_reset},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* A closed standard stream would be taken by the next file that is opened, and output would end up in it. */
static void open_standard_streams(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

static void complain(const struct tenon_error *error)
{
	fprintf(stderr, "tenon: %s\n", error->message);
}

static int finish_output(int status)
{
	struct tenon_error error;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	tenon_fail(&error, -EIO, "standard output: cannot write: %s; send it elsewhere", strerror(errno));
	complain(&error);
	return STATUS_FAILED;
}

static int usage(void)
{
	printf("Usage: tenon COMMAND [ARGUMENT...]\nPrepares a host for device assignment.\n\nCommands:\n");
	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].about);
	printf("\ntenon COMMAND --help says more.\n");
	return finish_output(STATUS_OK);
}

static int run(const struct command *command, int argc, char **argv)
{
	struct options options;
	struct tenon_error error = {0};
	if (options_parse(command, argc, argv, &options, &error) < 0) {
		complain(&error);
		return STATUS_USAGE;
	}
	if (options.help)
		return finish_output(STATUS_OK);
	int status = command->run(&host_real, &options, &error);
	/* A command that says "no" by its status has printed why. */
	if (status != STATUS_OK && error.code)
		complain(&error);
	return finish_output(status);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	open_standard_streams();
	for (unsigned i = 0; i < COMMAND_COUNT; i++) {
		if (strcmp(name, commands[i].name) == 0)
			return run(&commands[i], argc - 1, argv + 1);
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		return usage();
	if (strcmp(name, "--version") == 0) {
		printf("tenon-admin %s\n", tenon_version());
		return finish_output(STATUS_OK);
	}
	struct tenon_error error;
	tenon_fail(&error, -EINVAL, "%.64s: no such command; tenon --help lists them", argc > 1 ? name : "(none)");
	complain(&error);
	return STATUS_USAGE;
}
