// SPDX-License-Identifier: MIT
/*
 * The event loop of the main thread. Nothing in it blocks but the wait itself and a guest's reset, which waits for hardware;
 * vCPUs never wait for it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"

#define FLUSH_MS       1000
#define EVENTS_AT_ONCE 4 /* of one device */

enum source { SOURCE_SIGNAL, SOURCE_WAKE, SOURCE_CHARDEV, SOURCE_DEVICES };

struct loop {
	struct machine *machine;
	struct hotplug *hotplug;
	struct engine *engine;
	int epoll, signals;
	bool ended;
	int status;
};

/* Signals that the caller had ignored (nohup) stay ignored: a signalfd would report them all the same. */
static void signal_set(sigset_t *set)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
	sigemptyset(set);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction action;
		if (sigaction(signals[i], NULL, &action) < 0 || action.sa_handler != SIG_IGN)
			sigaddset(set, signals[i]);
	}
}

void loop_block_signals(void)
{
	sigset_t set;
	signal_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int watch(struct loop *loop, int fd, uint32_t source, struct tenon_error *err)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = source};
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return tenon_fail(err, -errno, "event loop: cannot watch a file: %s; report this", strerror(errno));
	return 0;
}

static int open_loop(struct loop *loop, struct tenon_error *err)
{
	struct machine *machine = loop->machine;
	sigset_t set;
	signal_set(&set);
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (loop->epoll < 0 || loop->signals < 0)
		return tenon_fail(err, -errno, "event loop: %s; raise the limit of open files (ulimit -n)",
				  strerror(errno));
	int code = watch(loop, loop->signals, SOURCE_SIGNAL, err);
	if (code == 0)
		code = watch(loop, machine->wake_fd, SOURCE_WAKE, err);
	if (code == 0 && chardev_poll_fd(machine->chardev) >= 0)
		code = watch(loop, chardev_poll_fd(machine->chardev), SOURCE_CHARDEV, err);
	return code < 0 ? code : watch(loop, machine->slots.events, SOURCE_DEVICES, err);
}

static void end(struct loop *loop, int status)
{
	if (!loop->ended)
		loop->status = status;
	loop->ended = true;
}

static void print_stats(const struct machine *machine)
{
	struct tenon_vcpu_stats stats;
	machine_stats(machine, &stats);
	uint64_t total = stats.port_reads + stats.port_writes + stats.memory_reads + stats.memory_writes + stats.kicks +
			 stats.halts + stats.dirty_ring_full + stats.other;
	dprintf(STDERR_FILENO,
		"stats: port-reads=%llu port-writes=%llu memory-reads=%llu memory-writes=%llu kicks=%llu other=%llu "
		"total=%llu\n",
		(unsigned long long)stats.port_reads, (unsigned long long)stats.port_writes,
		(unsigned long long)stats.memory_reads, (unsigned long long)stats.memory_writes,
		(unsigned long long)stats.kicks,
		(unsigned long long)(stats.other + stats.halts + stats.dirty_ring_full), (unsigned long long)total);
}

static void on_signal(struct loop *loop)
{
	struct signalfd_siginfo info;
	while (read(loop->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGUSR1)
			print_stats(loop->machine);
		else
			end(loop, RUN_SIGNALLED + (int)info.ssi_signo);
	}
}

static void reset(struct loop *loop)
{
	struct tenon_error error;
	uint64_t started = log_now_ns();
	if (loop->machine->options->no_reboot) {
		end(loop, RUN_GUEST_RESET);
		return;
	}
	/* A device comes or goes at this moment: the guest's reset waits for that, the serial port and signals do not. */
	if (!machine_try_topology(loop->machine)) {
		engine_cancel(loop->engine, NULL); /* a guest that resets is not moved */
		return;
	}
	machine_pause(loop->machine);
	int code = machine_reset(loop->machine, &error);
	machine_unlock_topology(loop->machine);
	if (code < 0) {
		log_error(&error);
		end(loop, RUN_FAILED);
		return;
	}
	hotplug_wake(loop->hotplug);
	log_step(log_now_ns() - started, "the guest's reset");
}

static void on_wake(struct loop *loop)
{
	struct machine *machine = loop->machine;
	eventfd_t count;
	if (eventfd_read(machine->wake_fd, &count) < 0)
		return;
	switch (atomic_load(&machine->stop)) {
	case MACHINE_RUNNING:
		break;
	case MACHINE_POWER_OFF:
		end(loop, RUN_POWER_OFF);
		break;
	case MACHINE_RESET:
		reset(loop);
		break;
	case MACHINE_QUIT:
	case MACHINE_MOVED:
		end(loop, RUN_POWER_OFF);
		break;
	case MACHINE_EXIT:
		end(loop, (int)machine->exit_status);
		break;
	case MACHINE_TRIPLE_FAULT:
		log_warning("the guest crashed: triple fault; its last console lines say why");
		end(loop, RUN_TRIPLE_FAULT);
		break;
	case MACHINE_FAILED:
		log_error(&machine->failure);
		end(loop, RUN_FAILED);
		break;
	}
}

static void on_chardev(struct loop *loop)
{
	unsigned events = chardev_dispatch(loop->machine->chardev);
	if (events & CHARDEV_READABLE)
		serial_receive(loop->machine->serial);
	if (events & CHARDEV_DRAINED)
		serial_transmit_ready(loop->machine->serial);
	if (events & CHARDEV_LEAVE)
		end(loop, RUN_SIGNALLED + SIGINT);
}

static void on_error(struct loop *loop, const struct assigned *assigned, unsigned index)
{
	static const char *const consequences[] = {[ON_ERROR_STOP] = "the VM ends (on-error=stop)",
						   [ON_ERROR_RESET] = "it is reset (on-error=reset)",
						   [ON_ERROR_IGNORE] = "nothing is done about it (on-error=ignore)"};
	enum on_error policy = assigned->options->on_error;
	log_warning("%s: the host saw an uncorrectable error of this device: %s; the host's kernel log has the details",
		    tenon_device_info(assigned->device)->address, consequences[policy]);
	if (policy == ON_ERROR_STOP)
		end(loop, RUN_FAILED);
	else if (policy == ON_ERROR_RESET)
		hotplug_device_event(loop->hotplug, index, HOTPLUG_EVENT_ERROR);
}

static void on_request(struct loop *loop, const struct assigned *assigned, unsigned index)
{
	const char *name = tenon_device_info(assigned->device)->address;
	if (loop->machine->slots.slot[index].removable) {
		hotplug_device_event(loop->hotplug, index, HOTPLUG_EVENT_REQUESTED);
		return;
	}
	log_warning(
		"%s: the host wants this device back, and it is in no hot-plug slot of the guest: the VM ends; with "
		"--device %s,root-port, where its resets allow that, it would go on without it",
		name, name);
	end(loop, RUN_FAILED);
}

static void on_device(struct loop *loop, unsigned index)
{
	struct assigned *assigned = slots_hold(&loop->machine->slots, index);
	enum tenon_device_event event = TENON_DEVICE_EVENT_ERROR;
	if (!assigned)
		return; /* it went while its event was on the way */
	/* What it has more of wakes the loop again: no device keeps it from the others. */
	for (unsigned i = 0; i < EVENTS_AT_ONCE && event != TENON_DEVICE_EVENT_NONE; i++) {
		event = tenon_device_next_event(assigned->device);
		switch (event) {
		case TENON_DEVICE_EVENT_NONE:
			break;
		case TENON_DEVICE_EVENT_ERROR:
			on_error(loop, assigned, index);
			break;
		case TENON_DEVICE_EVENT_REQUEST:
			on_request(loop, assigned, index);
			break;
		case TENON_DEVICE_EVENT_GONE:
			hotplug_device_event(loop->hotplug, index, HOTPLUG_EVENT_GONE);
			break;
		case TENON_DEVICE_EVENT_BACK:
			hotplug_device_event(loop->hotplug, index, HOTPLUG_EVENT_BACK);
			break;
		}
	}
	slots_release(assigned);
}

static void on_devices(struct loop *loop)
{
	struct epoll_event events[8];
	int count = epoll_wait(loop->machine->slots.events, events, 8, 0);
	for (int i = 0; i < count; i++)
		on_device(loop, events[i].data.u32);
}

static void dispatch(struct loop *loop, uint32_t source)
{
	switch (source) {
	case SOURCE_SIGNAL:
		on_signal(loop);
		break;
	case SOURCE_WAKE:
		on_wake(loop);
		break;
	case SOURCE_CHARDEV:
		on_chardev(loop);
		break;
	case SOURCE_DEVICES:
		on_devices(loop);
		break;
	}
}

static int run(struct loop *loop, struct tenon_error *err)
{
	int code = open_loop(loop, err);
	if (code == 0)
		code = loop->machine->options->incoming ? engine_incoming(loop->engine, err)
							: machine_start(loop->machine, err);
	while (code == 0 && !loop->ended) {
		struct epoll_event events[8];
		int count = epoll_wait(loop->epoll, events, 8, -1);
		if (count < 0 && errno != EINTR)
			return tenon_fail(err, -errno, "event loop: %s; report this", strerror(errno));
		for (int i = 0; i < count && !loop->ended; i++)
			dispatch(loop, events[i].data.u32);
	}
	return code;
}

int loop_run(struct machine *machine, struct hotplug *hotplug, struct engine *engine)
{
	struct loop loop = {.machine = machine, .hotplug = hotplug, .engine = engine, .epoll = -1, .signals = -1};
	struct tenon_error error;
	if (run(&loop, &error) < 0) {
		log_error(&error);
		loop.status = RUN_FAILED;
	}
	/* A vCPU may wait for memory, or for a bus reset. */
	machine_request_stop(machine, MACHINE_QUIT, 0, NULL);
	dma_memory_cancel(&machine->dma);
	machine_pause(machine);
	chardev_flush(machine->chardev, FLUSH_MS);
	if (machine->options->stats)
		print_stats(machine);
	if (loop.epoll >= 0)
		close(loop.epoll);
	if (loop.signals >= 0)
		close(loop.signals);
	return loop.status;
}
