// SPDX-License-Identifier: MIT
/*
 * Runs the firmware's self-test in a VM of its own, which is another process of this program, and reports what it says. Whatever the
 * device or the guest does to that process, this one lives to tell.
 */
#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../layout.h"
#include "../log.h"
#include "../loop.h"
#include "../options.h"
#include "../rom.h"
#include "check.h"
#include "report.h"

#define TIMEOUT_DEFAULT 120
#define TIMEOUT_MAX     86400
#define WORDS_MAX       (2 * OPTIONS_DEVICES_MAX + 24)
#define NS_PER_SECOND   1000000000ull
#define MEMORY          "32M"

enum { KEY_JSON = 256, KEY_TAP, KEY_TIMEOUT, KEY_IOMMU, KEY_FIRMWARE, KEY_HELP };

struct request {
	char *devices[OPTIONS_DEVICES_MAX];
	unsigned device_count, timeout_s;
	char *iommu, *firmware;
	enum report_form form;
	bool help;
	struct tenon_error *err;
};

static const struct argp_option argp_options[] = {
	{"device", 'd', "ADDRESS[,OPTION]", 0,
	 "The device, as for tenon run; it must be bound to vfio-pci. May be given many times", 0},
	{"json", KEY_JSON, NULL, 0, "Print the report as JSON", 0},
	{"tap", KEY_TAP, NULL, 0, "Print it in the Test Anything Protocol", 0},
	{"timeout", KEY_TIMEOUT, "SECONDS", 0, "Give up after so long (default 120)", 0},
	{"iommu", KEY_IOMMU, "WHICH", 0, "As for tenon run: auto (default), iommufd or container", 0},
	{"firmware", KEY_FIRMWARE, "FILE", 0, "Another firmware than Tenon's own", 0},
	{"help", KEY_HELP, NULL, 0, "Print this", 0},
	{0},
};

static const char argp_doc[] = "Starts a small VM with the devices assigned and lets its firmware exercise them: "
			       "config space, BARs, interrupts, "
			       "reset; DMA where the firmware can drive the device (NVMe). It writes to no disk.\v"
			       "Exit status: 0 all checks passed; 1 a check failed, or the self-test did not come to "
			       "its end; 2 wrong usage; 3 the "
			       "VM could not be set up.";

static int add_device(struct request *request, char *text)
{
	struct device_options device;
	if (request->device_count == OPTIONS_DEVICES_MAX)
		return tenon_fail(request->err, -ENOSPC, "--device %s: more than %d devices; check fewer at a time",
				  text, OPTIONS_DEVICES_MAX);
	int code = options_parse_device(text, &device, request->err);
	if (code < 0)
		return code;
	options_finish_device(&device);
	request->devices[request->device_count++] = text;
	return 0;
}

static int set_timeout(struct request *request, const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);
	if (end == text || *end || text[0] == '-' || value < 1 || value > TIMEOUT_MAX)
		return tenon_fail(request->err, -EINVAL, "--timeout %s: not a number from 1 to %d; give one", text,
				  TIMEOUT_MAX);
	request->timeout_s = (unsigned)value;
	return 0;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct request *request = state->input;
	int code = 0;
	switch (key) {
	case 'd':
		code = add_device(request, text);
		break;
	case KEY_JSON:
		request->form = REPORT_JSON;
		break;
	case KEY_TAP:
		request->form = REPORT_TAP;
		break;
	case KEY_TIMEOUT:
		code = set_timeout(request, text);
		break;
	case KEY_IOMMU:
		request->iommu = text;
		break;
	case KEY_FIRMWARE:
		request->firmware = text;
		break;
	case KEY_HELP:
		request->help = true;
		break;
	case ARGP_KEY_ARG:
		code = tenon_fail(request->err, -EINVAL,
				  "%s: unexpected argument; give devices as --device %s, see tenon check --help", text,
				  text);
		break;
	case ARGP_KEY_ERROR:
		if (request->err->code == 0)
			tenon_fail(request->err, -EINVAL,
				   "%s: unknown option, or its value is missing; see tenon check --help",
				   state->argv[state->next - 1]);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return -code;
}

/* ---- The VM ---- */

/* In the child. Its messages go where ours go, its guest's words to us. */
static void become_vm(const struct request *request, int out)
{
	static char name[] = "tenon";
	char *argv[WORDS_MAX] = {name};
	unsigned count = 1;
	const char *const fixed[] = {"run",         "--firmware", request->firmware, "--append", "mode=selftest",
				     "--memory",    MEMORY,       "--serial",        "stdio",    "--quiet",
				     "--no-reboot", "--iommu",    request->iommu};
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		argv[count++] = strdup(fixed[i]);
	for (unsigned i = 0; i < request->device_count; i++) {
		argv[count++] = strdup("--device");
		argv[count++] = request->devices[i];
	}
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && dup2(out, STDOUT_FILENO) >= 0 && freopen("/dev/null", "r", stdin))
		execv("/proc/self/exe", argv);
	_exit(RUN_SETUP_FAILED);
}

/* Reads until the VM's end or the deadline. @return false: the deadline */
static bool read_all(int in, struct report *report, uint64_t deadline_ns)
{
	for (;;) {
		char bytes[4096];
		struct pollfd polled = {.fd = in, .events = POLLIN};
		uint64_t now = log_now_ns();
		if (now >= deadline_ns)
			return false;
		int ready = poll(&polled, 1, (int)((deadline_ns - now) / 1000000 + 1));
		if (ready < 0 && errno != EINTR)
			return true;
		if (ready <= 0)
			continue;
		ssize_t count = read(in, bytes, sizeof(bytes));
		if (count == 0 || (count < 0 && errno != EINTR))
			return true;
		if (count > 0)
			report_take(report, bytes, (size_t)count);
	}
}

static int wait_for(pid_t child)
{
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : RUN_SIGNALLED + WTERMSIG(status);
}

/* Why there is no result; NULL: there is one. */
static const char *trouble_of(int status, bool in_time, const struct report_sums *sums)
{
	if (!in_time)
		return "the self-test stood still and was ended; --timeout gives it more time";
	if (status == (int)LAYOUT_FIRMWARE_CRASHED)
		return "the firmware met an exception that it did not expect";
	if (status == (int)LAYOUT_FIRMWARE_DESCRIPTION || status == (int)LAYOUT_FIRMWARE_USAGE)
		return "the firmware could not begin";
	if (status != (int)LAYOUT_FIRMWARE_PASSED && status != (int)LAYOUT_FIRMWARE_FAILED)
		return "the VM ended before the self-test did";
	return sums->complete ? NULL : "the self-test did not come to its end";
}

static int run_and_report(const struct request *request, struct report *report, struct tenon_error *err)
{
	int ends[2];
	uint64_t started = log_now_ns();
	if (pipe(ends) < 0)
		return tenon_fail(err, -errno, "cannot make a pipe: %s; raise the limit of open files (ulimit -n)",
				  strerror(errno));
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		close(ends[0]);
		become_vm(request, ends[1]);
	}
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return tenon_fail(err, -errno, "cannot start the VM's process: %s; end other processes",
				  strerror(errno));
	}
	bool in_time = read_all(ends[0], report, started + request->timeout_s * NS_PER_SECOND);
	close(ends[0]);
	if (!in_time)
		kill(child, SIGKILL);
	int status = wait_for(child);
	if (in_time && status == RUN_USAGE)
		return CHECK_USAGE;
	if (in_time && status == RUN_SETUP_FAILED)
		return CHECK_IMPOSSIBLE; /* it has said why */
	struct report_sums sums = report_sums(report);
	const char *trouble = trouble_of(status, in_time, &sums);
	report_end(report, trouble, log_now_ns() - started);
	return trouble || sums.failed || status ? CHECK_FAILED : CHECK_PASSED;
}

int check_main(int argc, char **argv)
{
	static const struct argp argp = {.options = argp_options, .parser = parse_option, .doc = argp_doc};
	static char iommu[] = "auto", firmware[] = ROM_DEFAULT;
	struct tenon_error error = {0};
	struct request request = {.timeout_s = TIMEOUT_DEFAULT, .iommu = iommu, .firmware = firmware, .err = &error};
	int code = -argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &request);
	if (code == 0 && request.help) {
		argp_help(&argp, stdout, ARGP_HELP_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, argv[0]);
		return CHECK_PASSED;
	}
	if (code == 0 && request.device_count == 0)
		code = tenon_fail(&error, -EINVAL, "--device: missing; give the address of a device to check");
	if (code < 0) {
		log_error(&error);
		return CHECK_USAGE;
	}
	struct report *report = report_create(request.form);
	code = report ? run_and_report(&request, report, &error)
		      : tenon_fail(&error, -ENOMEM, "out of memory; free some memory");
	report_destroy(report);
	if (code >= 0)
		return code;
	log_error(&error);
	return CHECK_IMPOSSIBLE;
}
