// SPDX-License-Identifier: MIT
/*
 * libtenon with a device of another process beside the same bytes between two bare processes: a trapped BAR read (read), a
 * write to a BAR until the guest goes on (write), and 1 GiB of memory added (map). The device is tenon-testdev, which serves SOCKET
 * and runs on PEER-CPU, as the bare peer does; this program runs on CPU. Both sides take turns within each round; a line
 * "NAME ours bare" with the medians in nanoseconds goes to stdout for each round but the first.
 *
 * The bare peers do what no implementation of the protocol can do without: one sendmsg and one recvmsg for each message, with room
 * for file descriptors where the protocol has them. They block, and look at nothing but a message's size.
 *
 * vfio_user_bench SOCKET CPU PEER-CPU ROUNDS FIGURE...
 * vfio_user_bench wake CPU PEER-CPU ROUNDS     an eventfd from one process to the other: "wake NS"
 * vfio_user_bench clocks                       the time stamp counter and CLOCK_MONOTONIC at one moment
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include <tenon/device.h>
#include <tenon/space.h>

#include "../testdev/registers.h"

#define TURN      50u /* samples of one side before it is the other's turn */
#define TURNS     20u
#define SETTLE_NS 20000
#define SLEEP_NS  500000 /* until whoever was woken is asleep again, as in the firmware */
#define RAM_BYTES (1ull << 30)
#define RAM_GPA   (4ull << 30)
#define BAR_GPA   0xe0000000u

/* Messages of the protocol, all with a header of 16 bytes: with the structure that follows, and 4 bytes of data. */
enum message { READ = 32, READ_REPLY = 36, WRITE = 36, MAP = 48, MAP_REPLY = 16, UNMAP = 40, UNMAP_REPLY = 40 };

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void pin(int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %d", cpu);
}

/* ---- The bare peers ---- */

union control {
	char bytes[CMSG_SPACE(8 * sizeof(int))];
	struct cmsghdr aligned;
};

/* @param fd  to go beside it; -1: none */
static void send_message(int socket, void *message, size_t bytes, int fd)
{
	union control control;
	struct iovec part = {.iov_base = message, .iov_len = bytes};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(sizeof(fd));
		struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(rights), &fd, sizeof(fd));
	}
	if (sendmsg(socket, &header, MSG_NOSIGNAL) != (ssize_t)bytes)
		err(1, "sendmsg");
}

/* Takes what there is. @return bytes; 0: the other side has left */
static size_t receive(int socket, void *buffer, size_t room, int *fd)
{
	union control control;
	struct iovec part = {.iov_base = buffer, .iov_len = room};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	ssize_t got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
	if (got < 0)
		err(1, "recvmsg");
	struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
	if (rights)
		memcpy(fd, CMSG_DATA(rights), sizeof(*fd));
	return (size_t)got;
}

/* The first byte of a message is its kind. Answers until the other side leaves. */
static void serve(int socket)
{
	static uint8_t buffer[1 << 16];
	void *memory = MAP_FAILED;
	int fd = -1;
	size_t bytes;
	while ((bytes = receive(socket, buffer, sizeof(buffer), &fd)) > 0) {
		/* Posted writes, which may come several at once or before a read, are not answered. */
		if (bytes % WRITE == READ) {
			send_message(socket, buffer, READ_REPLY, -1);
		} else if (bytes == MAP) {
			memory = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			close(fd);
			send_message(socket, buffer, MAP_REPLY, -1);
		} else if (bytes == UNMAP) {
			munmap(memory, RAM_BYTES);
			send_message(socket, buffer, UNMAP_REPLY, -1);
		}
	}
}

static int start_peer(int cpu)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		err(1, "socketpair");
	pid_t child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		pin(cpu);
		serve(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	return pair[0];
}

static void call(int socket, size_t request, size_t reply, int fd)
{
	uint8_t message[64] = {0};
	int none;
	send_message(socket, message, request, fd);
	if (receive(socket, message, sizeof(message), &none) != reply)
		errx(1, "the bare peer's reply has a wrong size");
}

/* ---- What libtenon asks of a VMM: nothing of it happens here ---- */

static void bar_placed(void *host, const struct tenon_bar_placement *placement)
{
}

static int route_set(void *host, int *route, uint64_t address, uint32_t data, struct tenon_error *error)
{
	*route = 0;
	return 0;
}

static int route_commit(void *host, struct tenon_error *error)
{
	return 0;
}

static void route_free(void *host, int route)
{
}

static int irqfd_attach(void *host, int route, int eventfd, struct tenon_error *error)
{
	return 0;
}

static void irqfd_detach(void *host, int route, int eventfd)
{
}

static const struct tenon_host_ops ops = {
	.size = sizeof(ops),
	.bar_placed = bar_placed,
	.route_set = route_set,
	.route_commit = route_commit,
	.route_free = route_free,
	.irqfd_attach = irqfd_attach,
	.irqfd_detach = irqfd_detach,
};

/* ---- The figures ---- */

struct bench {
	struct tenon_space *space;
	struct tenon_device *device;
	struct tenon_space_region ram;
	int peer;
};

static uint32_t read_register(struct bench *bench, unsigned offset)
{
	uint32_t value;
	tenon_device_bar_read(bench->device, TD_BAR_REGISTERS, offset, &value, sizeof(value));
	return value;
}

static void our_read(struct bench *bench)
{
	if (read_register(bench, TD_ID) != TD_ID_VALUE)
		errx(1, "the device is gone");
}

static void bare_read(struct bench *bench)
{
	call(bench->peer, READ, READ_REPLY, -1);
}

static void our_write(struct bench *bench)
{
	const uint32_t value = 1;
	tenon_device_bar_write(bench->device, TD_BAR_REGISTERS, TD_SCRATCH, &value, sizeof(value));
}

static void bare_write(struct bench *bench)
{
	uint8_t message[WRITE] = {0};
	send_message(bench->peer, message, sizeof(message), -1);
}

static void our_map(struct bench *bench)
{
	struct tenon_error error;
	if (tenon_space_add(bench->space, &bench->ram, &error))
		errx(1, "%s", error.message);
}

static void our_unmap(struct bench *bench)
{
	struct tenon_error error;
	if (tenon_space_remove(bench->space, bench->ram.gpa, bench->ram.size_bytes, &error))
		errx(1, "%s", error.message);
}

static void bare_map(struct bench *bench)
{
	call(bench->peer, MAP, MAP_REPLY, bench->ram.fd);
}

static void bare_unmap(struct bench *bench)
{
	call(bench->peer, UNMAP, UNMAP_REPLY, -1);
}

/* The clock runs during `ours` and `bare`, and stands still during what follows each. */
static const struct figure {
	const char *name;
	void (*ours)(struct bench *bench), (*after_ours)(struct bench *bench);
	void (*bare)(struct bench *bench), (*after_bare)(struct bench *bench);
} figures[] = {
	{"read", our_read, NULL, bare_read, NULL},
	/* A read makes sure that what was posted is done. */
	{"write", our_write, our_read, bare_write, bare_read},
	{"map", our_map, our_unmap, bare_map, bare_unmap},
};

static int by_size(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;
	return *a < *b ? -1 : *a > *b;
}

/* The median: what else the machine does hits few of them. */
static uint64_t median(uint64_t *samples, unsigned count)
{
	qsort(samples, count, sizeof(*samples), by_size);
	return samples[count / 2];
}

/* Until the other side is asleep again. */
static void settle(void)
{
	for (uint64_t started = now_ns(); now_ns() - started < SETTLE_NS;)
		;
}

static void sample(struct bench *bench, void (*work)(struct bench *bench), void (*after)(struct bench *bench),
		   uint64_t *samples)
{
	for (unsigned i = 0; i < TURN; i++) {
		uint64_t started = now_ns();
		work(bench);
		samples[i] = now_ns() - started;
		if (after) {
			after(bench);
			settle();
		}
	}
}

static void run_round(struct bench *bench, const struct figure *figure, int round)
{
	static uint64_t ours[TURNS * TURN], bare[TURNS * TURN];
	for (unsigned turn = 0; turn < TURNS; turn++) {
		sample(bench, figure->ours, figure->after_ours, ours + turn * TURN);
		sample(bench, figure->bare, figure->after_bare, bare + turn * TURN);
	}
	if (round)
		printf("%s %llu %llu\n", figure->name, (unsigned long long)median(ours, TURNS * TURN),
		       (unsigned long long)median(bare, TURNS * TURN));
}

static void open_all(struct bench *bench, const char *socket)
{
	struct tenon_error error;
	char address[160];
	int fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, RAM_BYTES) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		err(1, "memory");
	bench->ram = (struct tenon_space_region){
		.size = sizeof(bench->ram),
		.gpa = RAM_GPA,
		.size_bytes = RAM_BYTES,
		.hva = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
		.fd = fd,
	};
	if (bench->ram.hva == MAP_FAILED)
		err(1, "memory");
	snprintf(address, sizeof(address), "vfio-user:%s", socket);
	if (tenon_space_create(NULL, &bench->space, &error))
		errx(1, "%s", error.message);
	const struct tenon_device_options options = {
		.size = sizeof(options), .address = address, .space = bench->space, .ops = &ops};
	if (tenon_device_open(&options, &bench->device, &error))
		errx(1, "%s", error.message);
	tenon_device_config_write(bench->device, PCI_BASE_ADDRESS_0, 4, BAR_GPA);
	tenon_device_config_write(bench->device, PCI_BASE_ADDRESS_1, 4, 0);
	tenon_device_config_write(bench->device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

/* ---- An eventfd between two processes ---- */

static void measure_wake(int cpu, int peer_cpu, unsigned rounds)
{
	static uint64_t samples[10000];
	volatile uint64_t *woken = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int event = eventfd(0, EFD_CLOEXEC);
	if (woken == MAP_FAILED || event < 0)
		err(1, "eventfd");
	pid_t child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		eventfd_t count;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(peer_cpu);
		while (eventfd_read(event, &count) == 0)
			*woken = now_ns();
		_exit(1);
	}
	pin(cpu);
	for (unsigned i = 0; i < rounds; i++) {
		struct timespec asleep = {.tv_nsec = SLEEP_NS};
		nanosleep(&asleep, NULL);
		uint64_t started = now_ns(), last = *woken;
		eventfd_write(event, 1);
		while (*woken == last && now_ns() - started < 1000000000u)
			;
		samples[i] = *woken - started;
	}
	kill(child, SIGKILL);
	printf("wake %llu\n", (unsigned long long)median(samples, rounds));
}

/* The same moment by the time stamp counter and by the clock: of many readings the one that took least. */
static void print_clocks(void)
{
	uint64_t best = UINT64_MAX, ticks = 0, ns = 0;
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t before = __builtin_ia32_rdtsc(), now = now_ns(), after = __builtin_ia32_rdtsc();
		if (after - before < best) {
			best = after - before;
			ticks = before + best / 2;
			ns = now;
		}
	}
	printf("%llu %llu\n", (unsigned long long)ticks, (unsigned long long)ns);
}

int main(int argc, char **argv)
{
	struct bench bench;
	if (argc == 5 && strcmp(argv[1], "wake") == 0) {
		measure_wake(atoi(argv[2]), atoi(argv[3]), (unsigned)atoi(argv[4]) % 10000);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "clocks") == 0) {
		print_clocks();
		return 0;
	}
	if (argc < 6)
		errx(2, "usage: vfio_user_bench SOCKET CPU PEER-CPU ROUNDS FIGURE...");
	bench.peer = start_peer(atoi(argv[3]));
	pin(atoi(argv[2]));
	open_all(&bench, argv[1]);
	for (int round = 0; round <= atoi(argv[4]); round++) {
		for (int i = 5; i < argc; i++) {
			for (size_t k = 0; k < sizeof(figures) / sizeof(figures[0]); k++) {
				if (strcmp(figures[k].name, argv[i]) == 0)
					run_round(&bench, &figures[k], round);
			}
		}
	}
	tenon_device_close(bench.device);
	tenon_space_destroy(bench.space);
	return 0;
}
