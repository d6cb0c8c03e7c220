// SPDX-License-Identifier: MIT
/* See remote.h. Owns what the guest, the user and the VMM get to know of the other end, and when. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "device.h"
#include "kernel.h"
#include "remote.h"

#define NS_PER_MS       UINT64_C(1000000)
#define WAIT_FIRST_MS   100u
#define WAIT_LONGEST_MS 10000u
#define HEALTHY_NS      (10000 * NS_PER_MS) /* for so long it must have been back to be trusted as at first */

static bool is_remote(const struct tenon_device *device)
{
	return device->transport && device->transport->remote;
}

static int watch(struct tenon_device *device, int fd, enum event_id id, struct tenon_error *err)
{
	int code = fd < 0 ? fd : kernel_poll_add(device->events.poll_fd, fd, id, false);
	if (code < 0)
		return tenon_fail(err, code,
				  "%s: cannot watch its server: %s; raise the limit of open files (ulimit -n)",
				  device->address.name, strerror(-code));
	return 0;
}

int remote_init(struct tenon_device *device, struct tenon_error *err)
{
	struct transport *transport = device->transport;
	if (!is_remote(device))
		return 0;
	device->remote.timer = kernel_timer();
	int code = watch(device, device->remote.timer, EVENT_ID_REMOTE_TIMER, err);
	return code < 0 ? code : watch(device, transport->remote->poll_fd(transport), EVENT_ID_REMOTE, err);
}

int remote_check_open(struct tenon_device *device, int code, struct tenon_error *err)
{
	struct transport *transport = device->transport;
	if (!is_remote(device) || transport->health == TRANSPORT_WELL)
		return code;
	if (transport->health == TRANSPORT_HUNG)
		return tenon_fail(err, -ETIMEDOUT, "%s: its server does not answer; restart it, or wait",
				  device->address.name);
	return tenon_fail(err, -ENOTCONN, "%s: the device is gone: %s; restart its server", device->address.name,
			  transport->remote->reason(transport));
}

void remote_finish(struct tenon_device *device)
{
	if (device->remote.timer >= 0)
		kernel_close(device->remote.timer);
	device->remote.timer = -1;
}

void remote_begin(struct tenon_device *device, unsigned milliseconds)
{
	if (is_remote(device))
		device->transport->budget_ns = milliseconds * NS_PER_MS;
}

static void wait_longer(struct remote *remote)
{
	unsigned next_ms = remote->wait_ms ? remote->wait_ms * 2 : WAIT_FIRST_MS;
	remote->wait_ms = next_ms < WAIT_LONGEST_MS ? next_ms : WAIT_LONGEST_MS;
}

/* Whatever thread found out: the event loop goes on with it. */
static void lose(struct tenon_device *device)
{
	struct remote *remote = &device->remote;
	struct transport *transport = device->transport;
	/* No guest causes this, and the user must know; not each time of one that comes and goes. */
	if (!remote->was_back || kernel_now_ns() - remote->back_ns >= HEALTHY_NS) {
		device->guest_messages = 0;
		remote->wait_ms = 0;
	}
	device_log(device, TENON_LOG_ERROR, "%s: the device is gone, and reads as ones: %s; %s", device->address.name,
		   transport->remote->reason(transport),
		   remote->reconnect ? "restart its server: it is waited for"
				     : "restart its server and the VM, or assign it with reconnect=on");
	remote->lost = remote->gone_news = true;
	remote->hung = remote->back_news = remote->refusal_told = false;
	remote->pause_ms = remote->wait_ms;
	wait_longer(remote);
	interrupts_reset(device);
	bars_update(device);
	kernel_poll_remove(device->events.poll_fd, transport->remote->poll_fd(transport));
	kernel_timer_start(remote->timer, 1);
}

/* What it missed: whether it heard any of that is not known. @return its health after that */
static enum transport_health repeat(struct tenon_device *device)
{
	device->transport->missed = false;
	config_repeat(device);
	if (device->transport->health == TRANSPORT_WELL)
		interrupts_repeat(device);
	return device->transport->health;
}

void remote_end(struct tenon_device *device)
{
	struct remote *remote = &device->remote;
	if (!is_remote(device) || remote->lost || device->events.poll_fd < 0)
		return;
	enum transport_health health = device->transport->health;
	if (health == TRANSPORT_WELL && device->transport->missed)
		health = repeat(device);
	if (health == TRANSPORT_GONE)
		lose(device);
	else if (health == TRANSPORT_HUNG && !remote->hung)
		device_log(
			device, TENON_LOG_ERROR,
			"%s: its server does not answer, and it reads as ones until it does; see what the server does",
			device->address.name);
	else if (health == TRANSPORT_WELL && remote->hung)
		device_log(device, TENON_LOG_WARNING,
			   "%s: its server answers again; what was written meanwhile is lost", device->address.name);
	remote->hung = health == TRANSPORT_HUNG;
}

/* The device is as after power-on, and so is what the guest sees of it. */
static int return_to_guest(struct tenon_device *device, struct tenon_error *err)
{
	config_set16(device->config.value, PCI_COMMAND, 0);
	bars_withdraw(device);
	device_migration_was_reset(device);
	config_reset(device);
	int code = bars_map_again(device, err);
	if (code == 0)
		code = watch(device, device->transport->remote->poll_fd(device->transport), EVENT_ID_REMOTE, err);
	return code;
}

static void attempt(struct tenon_device *device)
{
	struct remote *remote = &device->remote;
	struct tenon_error error;
	int code = device->transport->remote->reconnect(device->transport, &error);
	if (code == 0) {
		remote_begin(device, REMOTE_RESET_MS);
		code = return_to_guest(device, &error);
		if (code < 0)
			device->transport->health = TRANSPORT_GONE;
	}
	if (code == 0) {
		remote->lost = false;
		remote->was_back = remote->back_news = true;
		remote->back_ns = kernel_now_ns();
		device_log(device, TENON_LOG_WARNING,
			   "%s: its server is back; the guest finds the device as after power-on",
			   device->address.name);
		return;
	}
	/* A server that is not there yet is no news; another one is, once. */
	if (code != -ENOENT && code != -ECONNREFUSED) {
		if (!remote->refusal_told)
			device_log(device, TENON_LOG_WARNING, "%s", error.message);
		remote->refusal_told = true;
	}
	kernel_timer_start(remote->timer, remote->wait_ms);
	wait_longer(remote);
}

enum tenon_device_event remote_run(struct tenon_device *device)
{
	struct remote *remote = &device->remote;
	if (!is_remote(device))
		return TENON_DEVICE_EVENT_NONE;
	if (!remote->lost) {
		device->transport->remote->serve(device->transport);
		remote_end(device);
	}
	if (remote->gone_news) {
		remote->gone_news = false;
		return TENON_DEVICE_EVENT_GONE;
	}
	if (remote->lost && kernel_eventfd_pending(remote->timer)) {
		kernel_timer_start(remote->timer, remote->pause_ms);
		if (remote->reconnect && !remote->pause_ms)
			attempt(device);
		remote->pause_ms = 0;
	}
	if (remote->back_news) {
		remote->back_news = false;
		return TENON_DEVICE_EVENT_BACK;
	}
	return TENON_DEVICE_EVENT_NONE;
}
