// SPDX-License-Identifier: MIT
/*
 * tenon-testdev: the test device as a program. It follows the conventions for backend programs in the vfio-user
 * specification (--socket-path, --fd, SIGTERM, no daemon) and prints its journal when it ends.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <poll.h>
#include <unistd.h>

#include "server.h"
#include "testdev.h"

/* Exit statuses */
enum { ENDED = 0, FAILED = 1, MISUSED = 2, BROKEN_CONTRACT = 3 };

struct arguments {
	const char *path;
	int fd; /* -1 */
	bool once;
	bool strict;
	struct testdev_options device;
};

static const char usage[] =
	"usage: tenon-testdev [OPTION...] SOCKET\n"
	"Serves an emulated PCI device by vfio-user at SOCKET until SIGTERM or SIGINT, then prints what broke the "
	"contract.\n"
	"\n"
	"  --socket-path=SOCKET, --fd=N   where to listen; or a connected socket that is there already\n"
	"  --once                         end when the first client leaves\n"
	"  --strict                       exit status 3 when anything broke the contract\n"
	"  --fault=KIND[=VALUE]@WHEN      misbehave at a message: stall, error, wrong-size, short, wrong-id,\n"
	"                                 wrong-command, silence, twice, disconnect, vanish; WHEN is COMMAND,\n"
	"                                 COMMAND#N, #N or *, as in error=5@region-read#3; may be repeated\n"
	"  --state-size=BYTES             size of the changing part of the migrated state [65536]\n"
	"  --state-rate=N                 chunks of 4 KiB of it that change in a second [0]\n"
	"  --dirty-rate=N                 pages a second that the load writes once it has a window [0]\n"
	"  --dma-timeout=MS               how long to wait for memory that is not shared [5000]\n"
	"  --data-bytes=N                 most data in one message [1048576]\n"
	"  --no-migration, --no-pre-copy, --no-p2p, --no-logging\n"
	"  --no-twin-socket, --no-mapping, --no-doorbell-fds, --no-reset, --fixed-msix, --long-sub-regions\n"
	"  --quiet                        print no line for each event\n";

enum option_id {
	OPTION_SOCKET = 256,
	OPTION_FD,
	OPTION_FAULT,
	OPTION_STATE_SIZE,
	OPTION_STATE_RATE,
	OPTION_DIRTY_RATE,
	OPTION_DMA_TIMEOUT,
	OPTION_DATA_BYTES,
	OPTION_HELP,
	OPTION_ONCE,
	OPTION_STRICT,
	OPTION_NO_MIGRATION,
	OPTION_NO_PRE_COPY,
	OPTION_NO_P2P,
	OPTION_NO_LOGGING,
	OPTION_NO_TWIN,
	OPTION_NO_MAPPING,
	OPTION_NO_BELLS,
	OPTION_NO_RESET,
	OPTION_FIXED_MSIX,
	OPTION_LONG,
	OPTION_QUIET,
};

static const struct option options[] = {
	{"socket-path", required_argument, NULL, OPTION_SOCKET},
	{"fd", required_argument, NULL, OPTION_FD},
	{"fault", required_argument, NULL, OPTION_FAULT},
	{"state-size", required_argument, NULL, OPTION_STATE_SIZE},
	{"state-rate", required_argument, NULL, OPTION_STATE_RATE},
	{"dirty-rate", required_argument, NULL, OPTION_DIRTY_RATE},
	{"dma-timeout", required_argument, NULL, OPTION_DMA_TIMEOUT},
	{"data-bytes", required_argument, NULL, OPTION_DATA_BYTES},
	{"help", no_argument, NULL, OPTION_HELP},
	{"once", no_argument, NULL, OPTION_ONCE},
	{"strict", no_argument, NULL, OPTION_STRICT},
	{"no-migration", no_argument, NULL, OPTION_NO_MIGRATION},
	{"no-pre-copy", no_argument, NULL, OPTION_NO_PRE_COPY},
	{"no-p2p", no_argument, NULL, OPTION_NO_P2P},
	{"no-logging", no_argument, NULL, OPTION_NO_LOGGING},
	{"no-twin-socket", no_argument, NULL, OPTION_NO_TWIN},
	{"no-mapping", no_argument, NULL, OPTION_NO_MAPPING},
	{"no-doorbell-fds", no_argument, NULL, OPTION_NO_BELLS},
	{"no-reset", no_argument, NULL, OPTION_NO_RESET},
	{"fixed-msix", no_argument, NULL, OPTION_FIXED_MSIX},
	{"long-sub-regions", no_argument, NULL, OPTION_LONG},
	{"quiet", no_argument, NULL, OPTION_QUIET},
	{0},
};

static bool *flag_of(struct arguments *arguments, int id)
{
	struct testdev_options *device = &arguments->device;
	switch (id) {
	case OPTION_ONCE:
		return &arguments->once;
	case OPTION_STRICT:
		return &arguments->strict;
	case OPTION_NO_MIGRATION:
		return &device->no_migration;
	case OPTION_NO_PRE_COPY:
		return &device->no_pre_copy;
	case OPTION_NO_P2P:
		return &device->no_p2p;
	case OPTION_NO_LOGGING:
		return &device->no_logging;
	case OPTION_NO_TWIN:
		return &device->no_twin_socket;
	case OPTION_NO_MAPPING:
		return &device->no_mapping;
	case OPTION_NO_BELLS:
		return &device->no_doorbell_fds;
	case OPTION_NO_RESET:
		return &device->no_reset;
	case OPTION_FIXED_MSIX:
		return &device->fixed_msix;
	case OPTION_LONG:
		return &device->long_sub_regions;
	default:
		return &device->quiet;
	}
}

static int parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *out, struct tenon_error *err)
{
	char *end;
	errno = 0;
	*out = strtoull(text, &end, 0);
	if (errno || *end || end == text || *text == '-' || *out < least || *out > most)
		return tenon_fail(err, -EINVAL, "'%s': not a number from %llu to %llu; give one", text,
				  (unsigned long long)least, (unsigned long long)most);
	return 0;
}

static int parse_fault(struct testdev_options *device, const char *text, struct tenon_error *err)
{
	if (device->fault_count == FAULTS_MAX)
		return tenon_fail(err, -EINVAL, "fault '%s': more than %d; give fewer", text, FAULTS_MAX);
	return fault_parse(text, &device->faults[device->fault_count++], err);
}

static int parse_value(struct arguments *arguments, int id, const char *text, struct tenon_error *err)
{
	struct testdev_options *device = &arguments->device;
	uint64_t number = 0;
	int code;
	switch (id) {
	case OPTION_SOCKET:
		arguments->path = text;
		return 0;
	case OPTION_FAULT:
		return parse_fault(device, text, err);
	case OPTION_FD:
		code = parse_number(text, 0, INT32_MAX, &number, err);
		arguments->fd = (int)number;
		return code;
	case OPTION_STATE_SIZE:
		return parse_number(text, BLOCK_CHUNK_BYTES, UINT64_C(1) << 32, &device->block_bytes, err);
	case OPTION_STATE_RATE:
		code = parse_number(text, 0, 1000000, &number, err);
		device->block_rate = (uint32_t)number;
		return code;
	case OPTION_DIRTY_RATE:
		code = parse_number(text, 0, 10000000, &number, err);
		device->load_rate = (uint32_t)number;
		return code;
	case OPTION_DMA_TIMEOUT:
		code = parse_number(text, 1, 3600000, &number, err);
		device->dma_timeout_ms = (uint32_t)number;
		return code;
	default:
		return parse_number(text, 4096, 64u << 20, &device->data_bytes, err);
	}
}

static int parse(int argc, char **argv, struct arguments *out, struct tenon_error *err)
{
	int id;
	opterr = 0;
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == '?' || id == ':')
			return tenon_fail(err, -EINVAL, "%s: no such option, or no value for it; --help has them",
					  argv[optind - 1]);
		if (id == OPTION_HELP) {
			fputs(usage, stdout);
			exit(ENDED);
		}
		int code = 0;
		if (id < OPTION_HELP)
			code = parse_value(out, id, optarg, err);
		else
			*flag_of(out, id) = true;
		if (code < 0)
			return code;
	}
	if (optind < argc && !out->path)
		out->path = argv[optind++];
	if (optind < argc)
		return tenon_fail(err, -EINVAL, "%s: one socket is enough; --help has the options", argv[optind]);
	if (!out->path == (out->fd < 0))
		return tenon_fail(err, -EINVAL,
				  "give a path for the socket, or --fd, not both; --help has the options");
	return 0;
}

static int listen_at(const char *path, struct tenon_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path))
		return tenon_fail(err, -ENAMETOOLONG,
				  "%s: too long for a socket; give a path of at most %zu characters", path,
				  sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		return tenon_fail(err, -errno, "%s: cannot listen: %s; %s", path, strerror(errno),
				  errno == EADDRINUSE ? "remove it if no other program listens there"
						      : "give a path in a folder that you may write to");
	return fd;
}

/* @return a client, or -EINTR */
static int wait_for_client(int listener, int stop)
{
	struct pollfd polls[] = {{.fd = stop, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
	for (;;) {
		if (poll(polls, 2, -1) < 0 && errno != EINTR)
			return -EINTR;
		if (polls[0].revents)
			return -EINTR;
		int client = polls[1].revents ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
		if (client >= 0)
			return client;
	}
}

static void serve_all(struct testdev *device, const struct arguments *arguments, int listener, int stop)
{
	int client = arguments->fd;
	while (client >= 0 || (client = wait_for_client(listener, stop)) >= 0) {
		int code = server_serve(device, client, stop);
		if (code < 0 && code != -EINTR && !arguments->device.quiet)
			fprintf(stderr,
				"tenon-testdev: the client's messages make no sense; the connection is closed\n");
		client = -1;
		if (arguments->once || code == -EINTR || listener < 0)
			return;
	}
}

static int catch_signals(void)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

int main(int argc, char **argv)
{
	struct arguments arguments = {.fd = -1};
	struct tenon_error error = {0};
	struct testdev *device = NULL;
	int listener = -1, status = MISUSED;

	if (parse(argc, argv, &arguments, &error) == 0) {
		status = FAILED;
		int stop = catch_signals();
		if (arguments.path)
			listener = listen_at(arguments.path, &error);
		if ((!arguments.path || listener >= 0) && testdev_create(&arguments.device, &device, &error) == 0) {
			if (listener >= 0) {
				printf("listening on %s\n", arguments.path);
				fflush(stdout);
			}
			serve_all(device, &arguments, listener, stop);
			journal_print(&device->journal, stdout);
			status = arguments.strict && device->journal.count ? BROKEN_CONTRACT : ENDED;
		}
	}
	if (error.code)
		fprintf(stderr, "tenon-testdev: %s\n", error.message);
	if (listener >= 0)
		unlink(arguments.path);
	testdev_destroy(device);
	return status;
}
