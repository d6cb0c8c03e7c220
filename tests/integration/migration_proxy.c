// SPDX-License-Identifier: MIT
/* One thread, which passes on what comes, a piece at a time. docs/migration-stream.md has the header. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "migration_proxy.h"

#define CONNECTIONS_MAX 32
#define HEADER_BYTES    32u
#define HEADER_TYPE     4
#define HEADER_LENGTH   20
#define TYPES           128

/* One direction of a connection. */
struct flow {
	int from, to; /* -1: ended */
	uint8_t header[HEADER_BYTES];
	unsigned have;     /* of the header */
	uint32_t left;     /* of the payload */
	uint32_t keep;     /* AMID: when so much of it is left, it is time */
	bool amid, at_end; /* something happens to the section in hand */
};

struct proxy {
	struct proxy_plan plan;
	struct sockaddr_in target;
	int listener, wake;
	char address[64];
	pthread_t thread;
	struct flow flows[2 * CONNECTIONS_MAX]; /* there, and back */
	unsigned flow_count;
	unsigned seen[TYPES];
	atomic_bool did_it;
};

static void end_connection(struct proxy *proxy, unsigned flow)
{
	struct flow *there = &proxy->flows[flow & ~1u], *back = &proxy->flows[flow | 1u];
	if (there->from < 0)
		return;
	close(there->from);
	close(there->to);
	there->from = there->to = back->from = back->to = -1;
}

static void kill_and_see(pid_t pid)
{
	siginfo_t info;
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
}

static void act(struct proxy *proxy)
{
	atomic_store(&proxy->did_it, true); /* whoever notices what it did finds this done */
	if (proxy->plan.deed == PROXY_KILL_SOURCE)
		kill_and_see(proxy->plan.source);
	if (proxy->plan.deed == PROXY_KILL_DESTINATION)
		kill_and_see(proxy->plan.destination);
	/* What was on its way with it is lost, as it is when a host goes. */
	for (unsigned i = 0; i < proxy->flow_count; i += 2)
		end_connection(proxy, i);
}

static bool pass_on(struct flow *flow, const uint8_t *data, size_t bytes)
{
	while (bytes) {
		ssize_t count = send(flow->to, data, bytes, MSG_NOSIGNAL);
		if (count <= 0)
			return false;
		data += count;
		bytes -= (size_t)count;
	}
	return true;
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* The header is whole. @return false: it happened */
static bool begin_section(struct proxy *proxy, struct flow *flow)
{
	uint32_t type = get32(flow->header + HEADER_TYPE);
	const struct proxy_plan *plan = &proxy->plan;
	flow->left = get32(flow->header + HEADER_LENGTH);
	bool it = !atomic_load(&proxy->did_it) && type < TYPES && ++proxy->seen[type] == plan->nth &&
		  type == plan->section;
	flow->have = 0;
	flow->amid = it && plan->moment == PROXY_AMID;
	flow->at_end = it && plan->moment == PROXY_AFTER;
	flow->keep = flow->left - flow->left / 2;
	if (it && plan->moment == PROXY_BEFORE) {
		act(proxy);
		return false;
	}
	if (flow->amid && flow->left == 0) {
		pass_on(flow, flow->header, HEADER_BYTES / 2);
		act(proxy);
		return false;
	}
	return pass_on(flow, flow->header, HEADER_BYTES);
}

/* @return false: this connection is over */
static bool take(struct proxy *proxy, struct flow *flow)
{
	uint8_t data[65536];
	size_t room = flow->left == 0 ? HEADER_BYTES - flow->have : flow->left;
	if (flow->amid && flow->left > flow->keep)
		room = flow->left - flow->keep;
	ssize_t count = recv(flow->from, data, room < sizeof(data) ? room : sizeof(data), 0);
	if (count <= 0)
		return false;
	if (flow->left == 0) {
		memcpy(flow->header + flow->have, data, (size_t)count);
		flow->have += (unsigned)count;
		if (flow->have < HEADER_BYTES)
			return true;
		if (!begin_section(proxy, flow))
			return false;
	} else {
		if (!pass_on(flow, data, (size_t)count))
			return false;
		flow->left -= (uint32_t)count;
	}
	if ((flow->at_end && flow->left == 0) || (flow->amid && flow->left == flow->keep)) {
		act(proxy);
		return false;
	}
	return true;
}

static void add_connection(struct proxy *proxy)
{
	int source = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
	if (source < 0)
		return;
	int destination = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool there = proxy->flow_count < 2 * CONNECTIONS_MAX &&
		     connect(destination, (struct sockaddr *)&proxy->target, sizeof(proxy->target)) == 0;
	if (!there) {
		close(source);
		close(destination);
		return;
	}
	proxy->flows[proxy->flow_count++] = (struct flow){.from = source, .to = destination};
	proxy->flows[proxy->flow_count++] = (struct flow){.from = destination, .to = source};
}

static void *run(void *argument)
{
	struct proxy *proxy = argument;
	for (;;) {
		struct pollfd polls[2 + 2 * CONNECTIONS_MAX] = {{.fd = proxy->wake, .events = POLLIN},
								{.fd = proxy->listener, .events = POLLIN}};
		unsigned count = proxy->flow_count;
		for (unsigned i = 0; i < count; i++)
			polls[2 + i] = (struct pollfd){.fd = proxy->flows[i].from, .events = POLLIN};
		if (poll(polls, 2 + count, -1) < 0)
			continue;
		if (polls[0].revents)
			return NULL;
		for (unsigned i = 0; i < count; i++) {
			if (polls[2 + i].revents && proxy->flows[i].from >= 0 && !take(proxy, &proxy->flows[i]))
				end_connection(proxy, i);
		}
		if (polls[1].revents)
			add_connection(proxy);
	}
}

struct proxy *proxy_start(const struct proxy_plan *plan, const char *target)
{
	struct proxy *proxy = calloc(1, sizeof(*proxy));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	cr_assert_not_null(proxy);
	proxy->plan = *plan;
	proxy->target = address;
	proxy->target.sin_port = htons((uint16_t)atoi(strrchr(target, ':') + 1));
	proxy->wake = eventfd(0, EFD_CLOEXEC);
	proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(proxy->listener, (struct sockaddr *)&address, sizeof(address)), 0, "%s", strerror(errno));
	cr_assert_eq(listen(proxy->listener, CONNECTIONS_MAX), 0);
	cr_assert_eq(getsockname(proxy->listener, (struct sockaddr *)&address, &length), 0);
	snprintf(proxy->address, sizeof(proxy->address), "tcp:127.0.0.1:%u", ntohs(address.sin_port));
	cr_assert_eq(pthread_create(&proxy->thread, NULL, run, proxy), 0);
	return proxy;
}

const char *proxy_address(const struct proxy *proxy)
{
	return proxy->address;
}

bool proxy_did_it(const struct proxy *proxy)
{
	return atomic_load(&proxy->did_it);
}

void proxy_stop(struct proxy *proxy)
{
	eventfd_write(proxy->wake, 1);
	pthread_join(proxy->thread, NULL);
	for (unsigned i = 0; i < proxy->flow_count; i += 2)
		end_connection(proxy, i);
	close(proxy->listener);
	close(proxy->wake);
	free(proxy);
}
