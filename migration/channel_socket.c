// SPDX-License-Identifier: MIT
/* Sockets: names looked up, connections made and prepared, and bytes over them. Listening is listener.c's. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "channel.h"
#include "kernel_calls.h"
#include "tls.h"

/*
 * A host that loses power or its network says nothing. While we only wait (for READY, or for STARTED after the commit point), the
 * kernel asks after 10 s of silence, and every 5 s then; three questions without an answer end the connection: 25 s. That is
 * longer than a switch's spanning tree or a bonded link's failover takes, and short against a person's patience. Keepalive asks
 * nothing while sent bytes are unacknowledged: TCP_USER_TIMEOUT ends the connection then.
 */
#define KEEPALIVE_IDLE_S     10
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES     3
#define UNACKNOWLEDGED_MS    10000u /* beyond timeout_ms, so that a peer that is alive but slow fails by our words first */

/* Unix sockets do not tune their buffers as TCP does. As much as the system allows (net.core.wmem_max) of this. */
#define UNIX_BUFFER_BYTES (4 << 20)

#define UNIX_RETRY_MS 10

int socket_prepare(int fd, const char *name, uint32_t timeout_ms, struct tenon_error *err)
{
	int family;
	int unacknowledged_ms =
		timeout_ms > INT_MAX - UNACKNOWLEDGED_MS ? INT_MAX : (int)(timeout_ms + UNACKNOWLEDGED_MS);
	int code = mcall_get_option(fd, SOL_SOCKET, SO_DOMAIN, &family);
	if (code == 0 && family == AF_UNIX)
		code = mcall_set_option(fd, SOL_SOCKET, SO_SNDBUF, UNIX_BUFFER_BYTES);
	if (code == 0 && (family == AF_INET || family == AF_INET6)) {
		const int options[][3] = {
			{IPPROTO_TCP, TCP_NODELAY,
			 1}, /* a section ends with its last byte, and somebody waits for it */
			{IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
			{IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
			{IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
			{IPPROTO_TCP, TCP_USER_TIMEOUT, unacknowledged_ms},
			{SOL_SOCKET, SO_KEEPALIVE, 1},
		};
		for (size_t i = 0; code == 0 && i < sizeof(options) / sizeof(options[0]); i++)
			code = mcall_set_option(fd, options[i][0], options[i][1], options[i][2]);
	}
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot set an option of its socket: %s; report this", name,
				  strerror(-code));
	return 0;
}

void socket_name(const struct sockaddr_storage *address, unsigned length, char *name, size_t capacity)
{
	char host[INET6_ADDRSTRLEN];
	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(name, capacity, "tcp:%s:%u", host, ntohs(in->sin_port));
	} else if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;
		inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof(host));
		snprintf(name, capacity, "tcp:[%s]:%u", host, ntohs(in->sin6_port));
	} else {
		const struct sockaddr_un *un = (const struct sockaddr_un *)address;
		size_t bytes = length > offsetof(struct sockaddr_un, sun_path)
				       ? length - offsetof(struct sockaddr_un, sun_path)
				       : 0;
		snprintf(name, capacity, "unix:%.*s", (int)bytes, un->sun_path);
	}
}

bool socket_is_local(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;
		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}
	if (address->ss_family == AF_INET6) {
		const struct in6_addr *in = &((const struct sockaddr_in6 *)address)->sin6_addr;
		return IN6_IS_ADDR_LOOPBACK(in) || (IN6_IS_ADDR_V4MAPPED(in) && in->s6_addr[12] == IN_LOOPBACKNET);
	}
	return address->ss_family == AF_UNIX;
}

int socket_check_secure(const char *name, const struct sockaddr_storage *address,
			const struct tenon_channel_options *options, struct tenon_error *err)
{
	if (socket_is_local(address) || options->insecure)
		return 0;
	return tenon_fail(err, -EPERM,
			  "%s: the guest's memory would cross a network in the clear; use a tunnel and a loopback "
			  "address, or allow "
			  "it with --insecure",
			  name);
}

int socket_resolve(const char *name, const struct channel_address *address, bool passive, struct addrinfo **out,
		   struct tenon_error *err)
{
	char port[8];
	snprintf(port, sizeof(port), "%u", address->port);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_NUMERICSERV | AI_NUMERICHOST | (passive ? AI_PASSIVE : 0)};
	/* A number first: it needs no resolver, which a static program has to load. */
	int code = mcall_resolve(address->host, port, &hints, out);
	if (code == EAI_NONAME) {
		hints.ai_flags &= ~AI_NUMERICHOST;
		code = mcall_resolve(address->host, port, &hints, out);
	}
	if (code == 0)
		return 0;
	return tenon_fail(err, code == EAI_MEMORY ? -ENOMEM : -EHOSTUNREACH,
			  "%s: cannot find the host: %s; correct its name, or give its address", name,
			  gai_strerror(code));
}

int socket_unix_address(const char *name, const char *path, struct sockaddr_un *out, struct tenon_error *err)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	size_t length = strlen(path);
	if (length >= sizeof(out->sun_path))
		return tenon_fail(err, -ENAMETOOLONG, "%.200s: a socket's path has at most %zu bytes; choose another",
				  name, sizeof(out->sun_path) - 1);
	memcpy(out->sun_path, path, length);
	return 0;
}

/* ---- Connecting ---- */

/* @return a connected socket, or -errno */
static int connect_one(const struct sockaddr *address, unsigned length, int64_t deadline)
{
	int fd = mcall_socket(address->sa_family);
	if (fd < 0)
		return fd;
	int code = mcall_connect(fd, address, length);
	/* A Unix listener whose queue is full does not let wait for it. */
	while (code == -EAGAIN && deadline_left_ms(deadline) != 0) {
		wait_ready(-1, 0, -1, deadline_after(UNIX_RETRY_MS));
		code = mcall_connect(fd, address, length);
	}
	if (code == -EAGAIN)
		code = -ETIMEDOUT;
	if (code == -EINPROGRESS || code == -EINTR) {
		code = wait_ready(fd, POLLOUT, -1, deadline);
		int error = 0;
		if (code == 0)
			code = mcall_get_option(fd, SOL_SOCKET, SO_ERROR, &error);
		if (code == 0)
			code = -error;
	}
	if (code == 0)
		return fd;
	close(fd);
	return code;
}

static int connect_tcp(const char *name, const struct channel_address *address,
		       const struct tenon_channel_options *options, int64_t deadline, struct tenon_error *err)
{
	struct addrinfo *found;
	int code = socket_resolve(name, address, false, &found, err);
	if (code < 0)
		return code;
	int fd = -EHOSTUNREACH;
	for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
		/* Copied, because ai_addr is only as long as its family's. */
		struct sockaddr_storage storage = {0};
		memcpy(&storage, at->ai_addr, at->ai_addrlen);
		code = socket_check_secure(name, &storage, options, err);
		if (code < 0) {
			freeaddrinfo(found);
			return code;
		}
		fd = connect_one(at->ai_addr, at->ai_addrlen, deadline);
	}
	freeaddrinfo(found);
	if (fd < 0)
		return tenon_fail(err, fd, "%s: cannot connect: %s; %s", name, strerror(-fd),
				  fd == -ECONNREFUSED ? "start the destination first (tenon run --incoming)"
						      : "see whether the host is up and a firewall lets this through");
	return fd;
}

static int connect_unix(const char *name, const char *path, int64_t deadline, struct tenon_error *err)
{
	struct sockaddr_un address;
	int code = socket_unix_address(name, path, &address, err);
	if (code < 0)
		return code;
	int fd = connect_one((const struct sockaddr *)&address, sizeof(address), deadline);
	if (fd < 0)
		return tenon_fail(err, fd, "%s: cannot connect: %s; %s", name, strerror(-fd),
				  fd == -EACCES ? "run this as the user who runs the destination"
						: "start the destination first (tenon run --incoming)");
	return fd;
}

int socket_connect(const char *name, const struct channel_address *address, const struct tenon_channel_options *options,
		   struct tenon_error *err)
{
	int64_t deadline = deadline_after(options->timeout_ms);
	if (address->kind == ADDRESS_UNIX)
		return connect_unix(name, address->path, deadline, err);
	if (address->port == 0)
		return tenon_fail(err, -EINVAL, "%s: port 0 is for listening; give the port that the destination tells",
				  name);
	return connect_tcp(name, address, options, deadline, err);
}

/* ---- Bytes ---- */

static ssize_t write_socket(struct tenon_channel *channel, const struct iovec *parts, int count, short *events)
{
	return mcall_send(channel->fd, parts, (unsigned)count);
}

static ssize_t read_socket(struct tenon_channel *channel, void *data, size_t bytes, short *events)
{
	return mcall_receive(channel->fd, data, bytes);
}

const struct channel_ops channel_socket_ops = {
	.kind = TENON_CHANNEL_SOCKET,
	.write = write_socket,
	.read = read_socket,
};

int socket_channel(int fd, const char *name, uint32_t timeout_ms, struct tls_context *tls, bool connecting,
		   const char *host, struct tenon_channel **out, struct tenon_error *err)
{
	struct tenon_channel *channel;
	int code = socket_prepare(fd, name, timeout_ms, err);
	if (code == 0)
		code = channel_create(&channel_socket_ops, fd, name, timeout_ms, &channel, err);
	if (code < 0)
		return code;
	code = tls ? tls_channel_start(channel, tls, connecting, host, err) : 0;
	if (code < 0) {
		channel->fd = -1; /* stays the caller's */
		tenon_channel_close(channel);
		return code;
	}
	*out = channel;
	return 0;
}
