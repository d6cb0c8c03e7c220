// SPDX-License-Identifier: MIT
/* The program: picks the command and runs it. */
#include <stdio.h>
#include <string.h>

#include <tenon/tenon.h>

#include "log.h"
#include "loop.h"
#include "machine.h"
#include "options.h"
#include "plan.h"

static const char usage[] =
	"Usage: tenon run --kernel FILE [OPTION...]\n"
	"Boots a kernel in a microVM, with host PCI devices assigned to it.\n"
	"\n"
	"Commands:\n"
	"  run          run a VM; tenon run --help lists its options\n"
	"\n"
	"  --help       print this\n"
	"  --version    print the version\n"
	"\n"
	"First run, with an NVMe at 0000:3b:00.0 that is bound to vfio-pci:\n"
	"  tenon run --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0' --device 0000:3b:00.0\n";

static int print_plan(const struct machine *machine, struct tenon_error *err)
{
	if (machine->options->json)
		return plan_print_json(machine, err);
	plan_print_text(machine);
	return 0;
}

static int run(int argc, char **argv)
{
	struct run_options options;
	struct tenon_error error;
	struct machine *machine = NULL;

	if (options_parse(argc, argv, &options, &error) < 0) {
		log_error(&error);
		return RUN_USAGE;
	}
	if (options.help) {
		options_finish(&options);
		return 0;
	}
	log_set_quiet(options.quiet);
	loop_block_signals();

	int status = RUN_SETUP_FAILED;
	int code = machine_create(&options, &machine, &error);
	if (code == 0 && options.dry_run) {
		code = print_plan(machine, &error);
		status = code == 0 ? RUN_POWER_OFF : RUN_SETUP_FAILED;
	} else if (code == 0) {
		status = loop_run(machine);
	}
	if (code < 0)
		log_error(&error);
	machine_destroy(machine);
	options_finish(&options);
	return status;
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	if (strcmp(command, "run") == 0) {
		char name[] = "tenon run";
		argv[1] = name;
		return run(argc - 1, argv + 1);
	}
	if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 || strcmp(command, "help") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	if (strcmp(command, "--version") == 0) {
		printf("tenon %s\n", tenon_version());
		return 0;
	}
	struct tenon_error error;
	if (argc < 2)
		tenon_fail(&error, -1, "no command; tenon run boots a VM, tenon --help lists the commands");
	else
		tenon_fail(&error, -1, "%s: no such command; tenon --help lists them", command);
	log_error(&error);
	return RUN_USAGE;
}
