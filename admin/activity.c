// SPDX-License-Identifier: MIT
/* Reads what goes on on the host: mounts, swap, routes, and who has which device node open. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "usage.h"

#define OPEN_NODES_MAX 65536u

struct scan {
	const struct host *host;
	struct activity *activity;
	unsigned capacity, pid;
	char folder[64];
};

/* Terminals and the like are open everywhere and belong to no device that could be given away. */
static bool is_boring(const char *node)
{
	static const char *const boring[] = {"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random",
					     "/dev/pts/", "/dev/tty",  "/dev/shm/",    "/dev/fuse"};
	for (size_t i = 0; i < sizeof(boring) / sizeof(boring[0]); i++) {
		if (strncmp(node, boring[i], strlen(boring[i])) == 0 && strncmp(node, "/dev/ttyS", 9) != 0)
			return true;
	}
	return false;
}

static void add_node(struct scan *scan, const char *node)
{
	struct activity *activity = scan->activity;
	for (unsigned i = activity->node_count; i > 0 && activity->nodes[i - 1].pid == scan->pid; i--) {
		if (strcmp(activity->nodes[i - 1].node, node) == 0)
			return;
	}
	if (activity->node_count == scan->capacity) {
		unsigned capacity = scan->capacity ? scan->capacity * 2 : 64;
		struct open_node *larger = capacity > OPEN_NODES_MAX
						   ? NULL
						   : realloc(activity->nodes, capacity * sizeof(*activity->nodes));
		if (!larger)
			return;
		activity->nodes = larger;
		scan->capacity = capacity;
	}
	struct open_node *open = &activity->nodes[activity->node_count++];
	*open = (struct open_node){.pid = scan->pid};
	snprintf(open->node, sizeof(open->node), "%s", node);
	host_read_line(scan->host, open->process, sizeof(open->process), "/proc/%u/comm", scan->pid);
}

static int check_fd(void *context, const char *name)
{
	struct scan *scan = context;
	char node[NAME_BYTES * 2];
	if (host_link_target(scan->host, node, sizeof(node), "%s/%s", scan->folder, name) == 0 &&
	    strncmp(node, "/dev/", 5) == 0 && !is_boring(node))
		add_node(scan, node);
	return 0;
}

static int check_process(void *context, const char *name)
{
	struct scan *scan = context;
	if (strspn(name, "0123456789") != strlen(name))
		return 0;
	scan->pid = (unsigned)strtoul(name, NULL, 10);
	if (scan->pid == (unsigned)getpid())
		return 0;
	snprintf(scan->folder, sizeof(scan->folder), "/proc/%u/fd", scan->pid);
	host_list(scan->host, scan->folder, check_fd, scan);
	return 0;
}

void activity_read(const struct host *host, struct activity *activity)
{
	*activity = (struct activity){
		.mounts = host_read_text(host, "/proc/self/mountinfo"),
		.swaps = host_read_text(host, "/proc/swaps"),
		.routes = host_read_text(host, "/proc/net/route"),
		.consoles = host_read_text(host, "/sys/class/tty/console/active"),
	};
	struct scan scan = {.host = host, .activity = activity};
	host_list(host, "/proc", check_process, &scan);
}

void activity_finish(struct activity *activity)
{
	free(activity->mounts);
	free(activity->swaps);
	free(activity->routes);
	free(activity->consoles);
	free(activity->nodes);
	*activity = (struct activity){0};
}
