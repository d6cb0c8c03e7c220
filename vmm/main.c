// SPDX-License-Identifier: MIT
/* The program: picks the command and runs it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tenon-migration/migrate.h>
#include <tenon/tenon.h>

#include "admin.h"
#include "check/check.h"
#include "control/control.h"
#include "ctl.h"
#include "log.h"
#include "loop.h"
#include "machine.h"
#include "migrate/command.h"
#include "options.h"
#include "plan.h"

static const char usage[] =
	"Usage: tenon run --kernel FILE [OPTION...]\n"
	"Boots a kernel in a microVM, with host PCI devices assigned to it.\n"
	"\n"
	"Commands:\n"
	"  run          run a VM; tenon run --help lists its options\n"
	"  check        let a guest exercise a device, and report; tenon check --help lists the options\n"
	"  devices      list the host's devices and say which can be assigned, and how\n"
	"  groups       list the IOMMU groups and who blocks them\n"
	"  topology     show how the devices hang together\n"
	"  bind         take devices from the host's drivers, for a VM\n"
	"  unbind       give them back\n"
	"  doctor       check the host: IOMMU, memory limits, permissions, kernel\n"
	"  vf           create, list and destroy virtual functions (SR-IOV)\n"
	"  reset        reset a device, or say what that would do\n"
	"  migrate      move a running VM to another host with its devices, or save it; tenon migrate --help\n"
	"  ctl          ask a running VM, add and remove devices; tenon ctl --help lists what\n"
	"\n"
	"  --help       print this\n"
	"  --version    print the version\n"
	"\n"
	"First run, with an NVMe at 0000:3b:00.0 that the host can spare:\n"
	"  tenon bind 0000:3b:00.0\n"
	"  tenon run --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0' --device 0000:3b:00.0\n";

/* A closed standard stream would be taken by the next file that is opened, and the guest's console would end up in it. */
static void open_standard_streams(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

static int finish_output(struct tenon_error *err)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	return tenon_fail(err, -EIO, "standard output: cannot write: %s; send it elsewhere", strerror(errno));
}

static int print_plan(struct machine *machine, struct tenon_error *err)
{
	int code = 0;
	if (machine->options->json)
		code = plan_print_json(machine, err);
	else
		plan_print_text(machine);
	return code < 0 ? code : finish_output(err);
}

/* For what prints: --help, --version, ctl. */
static int printed(int status)
{
	struct tenon_error error;
	if (finish_output(&error) == 0)
		return status;
	log_error(&error);
	return RUN_SETUP_FAILED;
}

/* The machine with what serves it while it runs. */
static int serve(struct machine *machine, int *status, struct tenon_error *err)
{
	const char *path = machine->options->control;
	struct hotplug *hotplug = NULL;
	struct engine *engine = NULL;
	struct control *control = NULL;
	int code = hotplug_create(machine, &hotplug, err);
	if (code == 0)
		code = engine_create(machine, hotplug, &engine, err);
	if (code == 0 && path)
		code = control_create(path, machine, hotplug, engine, &control, err);
	if (code == 0)
		*status = loop_run(machine, hotplug, engine);
	engine_stop(engine); /* it may have what hotplug waits for */
	hotplug_stop(hotplug);
	control_destroy(control);
	engine_destroy(engine);
	hotplug_destroy(hotplug);
	return code;
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
		return printed(0);
	}
	log_set_quiet(options.quiet);
	loop_block_signals();

	int status = RUN_SETUP_FAILED;
	int code = machine_create(&options, &machine, &error);
	if (code == 0 && options.dry_run) {
		code = print_plan(machine, &error);
		status = code == 0 ? RUN_POWER_OFF : RUN_SETUP_FAILED;
	} else if (code == 0) {
		code = serve(machine, &status, &error);
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
	/* Of the program's own making: its descriptors are those that it was given. */
	if (strcmp(command, "migration-guardian") == 0 && argc == 3)
		return tenon_migration_guardian_main(atoi(argv[2]));
	open_standard_streams();
	if (strcmp(command, "run") == 0) {
		char name[] = "tenon run";
		argv[1] = name;
		return run(argc - 1, argv + 1);
	}
	if (strcmp(command, "ctl") == 0) {
		char name[] = "tenon ctl";
		argv[1] = name;
		return printed(ctl_main(argc - 1, argv + 1));
	}
	if (strcmp(command, "migrate") == 0) {
		char name[] = "tenon migrate";
		argv[1] = name;
		return printed(migrate_main(argc - 1, argv + 1));
	}
	if (strcmp(command, "check") == 0) {
		char name[] = "tenon check";
		argv[1] = name;
		return printed(check_main(argc - 1, argv + 1));
	}
	if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 || strcmp(command, "help") == 0) {
		fputs(usage, stdout);
		return printed(0);
	}
	if (strcmp(command, "--version") == 0) {
		printf("tenon %s\n", tenon_version());
		return printed(0);
	}
	struct tenon_error error;
	if (admin_has(command)) {
		admin_exec(argv, &error); /* comes back only when it failed */
		log_error(&error);
		return RUN_SETUP_FAILED;
	}
	if (argc < 2)
		tenon_fail(&error, -1, "no command; tenon run boots a VM, tenon --help lists the commands");
	else
		tenon_fail(&error, -1, "%s: no such command; tenon --help lists them", command);
	log_error(&error);
	return RUN_USAGE;
}
