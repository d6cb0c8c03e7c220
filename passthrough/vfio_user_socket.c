// SPDX-License-Identifier: MIT
/*
 * A vfio-user connection. One call is under way at a time, so a reply is either to it, or to the one before that took too
 * long. Whoever waits also serves the server's requests, on both sockets: a server that asks for memory before it replies
 * would otherwise wait for us as we wait for it.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "patience.h"
#include "vfio_user_channel.h"
#include "vfio_user_socket.h"
#include "vfio_user_version.h"

#define DATA_BYTES (1u << 20) /* max_data_xfer_size of this client */
#define SLACK      8192u      /* what a message has around its data */
#define NS_PER_MS  UINT64_C(1000000)
/*
 * To fall asleep and be woken by a server on another CPU takes longer than most of its answers. One that does not answer in so
 * short a time is waited for asleep for some calls.
 */
#define AWAKE_NS   20000u
#define SLOW_CALLS 128u
#define TURNS_MAX  64 /* of work for the server at once, when nobody waits for it */

/* Work for the server that is done in one turn, after which the clock is looked at: bytes, and what a message costs besides. */
#define WORK_BYTES    (4u << 20)
#define MESSAGE_BYTES 4096u

/* What the poll set calls them. */
enum { ID_MAIN, ID_TWIN };

/* What the poll set reports of a channel. */
struct interest {
	bool readable, writable;
};

struct vu_socket {
	pthread_mutex_t lock;
	char name[128];
	int poll_fd; /* -1: not yet */
	struct interest watched[2];
	uint64_t work_left; /* bytes of this turn's */
	struct vu_memory memory;
	struct vu_channel main;
	struct vu_channel twin; /* the server's commands; fd -1: they come on `main` */
	struct vu_capabilities server;
	uint16_t next_id;
	struct vu_call *waiting; /* for the reply to waiting_id; NULL: nobody */
	uint16_t waiting_id;
	bool replied;
	int result;    /* of the call that was replied to */
	bool hung;     /* the reply to waiting_id did not come in time; `waiting` is NULL */
	unsigned slow; /* so many calls wait asleep */
	bool full;     /* there was no room for a command in time */
	/* Somebody waited for the lock in vain; until whoever has it lets go of it, others do not wait. */
	atomic_bool crowded;
	_Atomic(const char *) end_wish; /* why it is to end, of somebody who does not have the lock */
	bool over;
	char reason[160];
};

static void shut_down(const struct vu_socket *socket)
{
	kernel_shutdown(socket->main.fd);
	if (socket->twin.fd >= 0)
		kernel_shutdown(socket->twin.fd);
}

/* Once. What is said first is the reason. */
static void end(struct vu_socket *socket, const char *reason)
{
	const char *wish = atomic_load(&socket->end_wish);
	if (socket->over)
		return;
	socket->over = true;
	snprintf(socket->reason, sizeof(socket->reason), "%s", wish ? wish : reason);
	shut_down(socket);
}

/* What it is to the user when the socket fails: a peer that went away is seen by whoever sends or receives first. */
static void end_failed(struct vu_socket *socket, int code)
{
	end(socket, code == -EPIPE || code == -ECONNRESET ? "it closed the connection" : strerror(-code));
}

static int fail_over(const struct vu_socket *socket, struct tenon_error *err)
{
	return tenon_fail(err, -ENOTCONN, "%s: the device is gone: %s; restart its server", socket->name,
			  socket->reason);
}

/* ---- The server's requests ---- */

/* The memory's answer. @return 0, or the errno value that the server is told */
static int access_memory(struct vu_socket *socket, const struct vu_message *message, struct vu_dma_access *access,
			 uint8_t **data)
{
	const struct vu_memory *memory = &socket->memory;
	bool write = message->header.command == VU_DMA_WRITE;
	if (!write && message->header.command != VU_DMA_READ)
		return ENOTSUP;
	if (message->bytes < sizeof(*access))
		return EINVAL;
	memcpy(access, message->payload, sizeof(*access));
	if (access->count > DATA_BYTES || message->bytes != sizeof(*access) + (write ? access->count : 0))
		return EINVAL;
	socket->work_left -= access->count < socket->work_left ? access->count : socket->work_left;
	if (write)
		return -memory->write(memory->context, access->address, message->payload + sizeof(*access),
				      access->count);
	*data = malloc(access->count ? access->count : 1);
	return *data ? -memory->read(memory->context, access->address, *data, access->count) : ENOMEM;
}

static void serve_command(struct vu_socket *socket, struct vu_channel *channel, const struct vu_message *message)
{
	struct vu_dma_access access;
	if (message->header.command == VU_DMA_READ && message->header.flags & VU_FLAG_NO_REPLY) {
		end(socket, "it reads memory and wants no answer");
		return;
	}
	uint8_t *data = NULL;
	int error = access_memory(socket, message, &access, &data);
	struct vu_header header = {.id = message->header.id,
				   .command = message->header.command,
				   .flags = VU_TYPE_REPLY | (error ? VU_FLAG_ERROR : 0),
				   .error = (uint32_t)error};
	struct vu_parts parts = {0};
	if (error == 0)
		parts = (struct vu_parts){.head = &access,
					  .head_bytes = sizeof(access),
					  .data = data,
					  .data_bytes = data ? access.count : 0};
	int code = 0;
	if (!(message->header.flags & VU_FLAG_NO_REPLY))
		code = vu_channel_send(channel, &header, &parts, true);
	free(data);
	if (code < 0)
		end_failed(socket, code);
}

/* ---- Replies ---- */

/* What says something else when it comes from here is no error that a server can have. */
static int error_of(const struct vu_header *header)
{
	if (header->error == ENOTCONN || header->error == ETIMEDOUT || header->error == EMSGSIZE)
		return -EIO;
	return header->error == 0 || header->error > VU_ERROR_MAX ? -EIO : -(int)header->error;
}

static void take_reply(struct vu_socket *socket, struct vu_message *message)
{
	struct vu_call *call = socket->waiting;
	if (message->header.flags & VU_FLAG_ERROR) {
		socket->result = error_of(&message->header);
	} else if (message->bytes < call->reply_least || message->bytes > call->reply_room + call->reply_data_room) {
		end(socket, "its reply has a wrong size");
		return;
	} else if (message->fds.count > VU_FDS_ANNOUNCED) {
		end(socket, "its reply has more file descriptors than it may send");
		return;
	} else {
		socket->result = 0;
		call->reply_bytes = message->bytes;
		size_t first = message->bytes < call->reply_room ? message->bytes : call->reply_room;
		if (first)
			memcpy(call->reply, message->payload, first);
		if (message->bytes > first)
			memcpy(call->reply_data, message->payload + first, message->bytes - first);
		call->reply_fd_count = message->fds.count;
		memcpy(call->reply_fds, message->fds.fd, message->fds.count * sizeof(call->reply_fds[0]));
		message->fds.count = 0; /* they are the caller's */
	}
	socket->replied = true;
}

static void dispatch_reply(struct vu_socket *socket, struct vu_message *message)
{
	bool expected =
		(socket->hung || (socket->waiting && !socket->replied)) && message->header.id == socket->waiting_id;
	if (!expected)
		end(socket, "it replied to nothing");
	else if (socket->hung)
		socket->hung = false; /* what it says is of no use to anybody any more */
	else if (message->header.command != socket->waiting->command)
		end(socket, "its reply is to another command");
	else
		take_reply(socket, message);
}

static void dispatch(struct vu_socket *socket, struct vu_channel *channel, struct vu_message *message)
{
	uint32_t type = message->header.flags & VU_TYPE_MASK;
	socket->work_left -= MESSAGE_BYTES < socket->work_left ? MESSAGE_BYTES : socket->work_left;
	if (type == VU_TYPE_COMMAND)
		serve_command(socket, channel, message);
	else if (type == VU_TYPE_REPLY && channel == &socket->main)
		dispatch_reply(socket, message);
	else
		end(socket, "it sent a message of no kind that it may send");
	vu_fds_close(&message->fds);
}

/* ---- Input and output ---- */

/*
 * Messages that are whole, as many as this turn has time for. A request is only taken when its answer can be sent or kept, else it
 * waits here.
 */
static void take_messages(struct vu_socket *socket, struct vu_channel *channel)
{
	struct vu_message message;
	int code = 1;
	while (!socket->over && socket->work_left && vu_channel_flushed(channel) &&
	       (code = vu_channel_next(channel, &message)) > 0)
		dispatch(socket, channel, &message);
	if (code < 0)
		end(socket, "it sent a message that cannot be");
}

/* A message is there that an earlier turn had no time for. */
static bool is_waiting(const struct vu_channel *channel)
{
	return vu_channel_flushed(channel) && vu_channel_ready(channel);
}

/* What the socket is ready for. */
static void work(struct vu_socket *socket, struct vu_channel *channel, short ready)
{
	int code = 0;
	if (channel->fd < 0 || socket->over)
		return;
	if (ready & (POLLOUT | POLLHUP | POLLERR))
		code = vu_channel_flush(channel);
	if (code < 0 && code != -EAGAIN) {
		end_failed(socket, code);
		return;
	}
	take_messages(socket, channel); /* those that waited for the flush */
	if (!(ready & (POLLIN | POLLHUP | POLLERR)) || socket->over || is_waiting(channel) ||
	    !vu_channel_flushed(channel))
		return;
	code = vu_channel_fill(channel);
	if (code == 0)
		take_messages(socket, channel);
	else if (code == -EPROTO)
		end(socket, "it sent too many file descriptors");
	else if (code != -EAGAIN)
		end_failed(socket, code);
}

/* Waits until there is something to do, and does it. @param room  to send is something. @return 1; 0 time is up; -ENOTCONN */
static int turn(struct vu_socket *socket, uint64_t deadline_ns, bool room)
{
	struct vu_channel *channels[] = {&socket->main, &socket->twin};
	struct pollfd polls[2];
	bool waiting = false;
	for (unsigned i = 0; i < 2; i++) {
		bool flushed = vu_channel_flushed(channels[i]);
		polls[i] = (struct pollfd){.fd = channels[i]->fd, .events = flushed ? POLLIN : POLLOUT};
		waiting |= is_waiting(channels[i]);
	}
	if (room)
		polls[0].events |= POLLOUT;
	uint64_t now = kernel_now_ns();
	int timeout_ms = deadline_ns > now && !waiting ? (int)((deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS) : 0;
	int ready = kernel_wait(polls, 2, timeout_ms);
	if (ready < 0)
		end(socket, strerror(-ready));
	socket->work_left = WORK_BYTES;
	for (unsigned i = 0; i < 2 && ready >= 0; i++) {
		if (polls[i].revents || is_waiting(channels[i]))
			work(socket, channels[i], polls[i].revents);
	}
	if (socket->over)
		return -ENOTCONN;
	return waiting || ready > 0 || kernel_now_ns() < deadline_ns;
}

/*
 * A server that hung may be back; then there is room, and the late reply was there. A call with a time of its own has something to
 * lose, and waits for that; others fail at once.
 */
static int check_usable(struct vu_socket *socket, const struct vu_call *call, uint64_t deadline_ns,
			struct tenon_error *err)
{
	const uint64_t until_ns = call->timeout_ms ? deadline_ns : 0;
	for (bool more = true; (socket->hung || socket->full) && more && !socket->over;) {
		struct pollfd room = {.fd = socket->main.fd, .events = POLLOUT};
		if (socket->full && vu_channel_flushed(&socket->main) && kernel_wait(&room, 1, 0) > 0)
			socket->full = false;
		else
			more = turn(socket, until_ns, socket->full) > 0 && kernel_now_ns() < deadline_ns;
	}
	if (socket->over)
		return fail_over(socket, err);
	if (socket->hung || socket->full)
		return tenon_fail(err, -ETIMEDOUT, "%s: the device's server still does not answer; restart it, or wait",
				  socket->name);
	return 0;
}

/* @return 0; -ETIMEDOUT nothing was sent; -ENOTCONN, -EMSGSIZE */
static int send_command(struct vu_socket *socket, const struct vu_call *call, struct vu_header *header,
			uint64_t deadline_ns, struct tenon_error *err)
{
	int code = -EMSGSIZE;
	bool fits = call->request.data_bytes <= socket->server.data_bytes &&
		    call->request.fd_count <= socket->server.msg_fds;
	while (fits && (code = vu_channel_send(&socket->main, header, &call->request, false)) == -EAGAIN) {
		/* While waiting for room, what the server asks for must be answered: it may be why it does not read. */
		code = turn(socket, deadline_ns, true);
		if (code < 0)
			return fail_over(socket, err);
		if (kernel_now_ns() >= deadline_ns) {
			socket->full = true;
			return tenon_fail(err, -ETIMEDOUT,
					  "%s: the device's server takes no commands; restart it, or wait",
					  socket->name);
		}
	}
	if (code == -EMSGSIZE)
		return tenon_fail(
			err, code,
			"%s: command %u is more than the server takes: %llu bytes, %llu file descriptors; split it",
			socket->name, call->command, (unsigned long long)socket->server.data_bytes,
			(unsigned long long)socket->server.msg_fds);
	if (code < 0) {
		end_failed(socket, code);
		return fail_over(socket, err);
	}
	return 0;
}

/*
 * What is kept goes out when the server takes it, and what it asks for meanwhile is not looked at. A message that waits for a turn is
 * reported as room, because the socket need not have more to read. Commands of the server come on `twin`, if there is one; replies on
 * `main` are for those who wait, and the event loop does not wake up for them, but for one that is late.
 */
static struct interest interest_in(const struct vu_socket *socket, const struct vu_channel *channel)
{
	bool heard = channel == &socket->twin || socket->twin.fd < 0 || socket->hung;
	bool flushed = vu_channel_flushed(channel);
	return (struct interest){.readable = heard && flushed, .writable = !flushed || is_waiting(channel)};
}

static void watch(struct vu_socket *socket)
{
	const struct vu_channel *channels[] = {[ID_MAIN] = &socket->main, [ID_TWIN] = &socket->twin};
	for (unsigned id = 0; id < 2 && socket->poll_fd >= 0; id++) {
		struct interest *watched = &socket->watched[id];
		struct interest wanted = interest_in(socket, channels[id]);
		if (channels[id]->fd < 0 || socket->over ||
		    (wanted.readable == watched->readable && wanted.writable == watched->writable))
			continue;
		int code = kernel_poll_change(socket->poll_fd, channels[id]->fd, id, wanted.readable, wanted.writable);
		if (code < 0)
			end_failed(socket, code);
		*watched = wanted;
	}
}

static int watch_first(struct vu_socket *socket, struct tenon_error *err)
{
	int code = kernel_poll_create();
	int poll = code;
	if (code >= 0)
		code = kernel_poll_add(poll, socket->main.fd, ID_MAIN, false);
	if (code == 0 && socket->twin.fd >= 0)
		code = kernel_poll_add(poll, socket->twin.fd, ID_TWIN, false);
	socket->poll_fd = poll;
	if (code < 0)
		return tenon_fail(err, code,
				  "%s: cannot watch its socket: %s; raise the limit of open files (ulimit -n)",
				  socket->name, strerror(-code));
	socket->watched[ID_MAIN] = socket->watched[ID_TWIN] = (struct interest){.readable = true};
	watch(socket);
	return socket->over ? fail_over(socket, err) : 0;
}

static uint64_t limit_ns(const struct vu_call *call)
{
	if (call->budget_ns)
		return *call->budget_ns;
	return (call->timeout_ms ? call->timeout_ms : VU_TIMEOUT_MS) * NS_PER_MS;
}

static void spend(const struct vu_call *call, uint64_t since_ns)
{
	uint64_t spent = kernel_now_ns() - since_ns;
	*call->budget_ns -= spent < *call->budget_ns ? spent : *call->budget_ns;
}

static void wait_awake(struct vu_socket *socket, uint64_t now_ns)
{
	if (socket->slow) {
		socket->slow--;
		return;
	}
	while (!socket->replied && !socket->over) {
		kernel_relax();
		if (kernel_now_ns() - now_ns >= AWAKE_NS) {
			socket->slow = SLOW_CALLS;
			return;
		}
		socket->work_left = WORK_BYTES;
		work(socket, &socket->main, POLLIN);
	}
}

/* Whoever has the lock may wait for the server for longer than this caller has. */
static int lock_for_call(struct vu_socket *socket, const struct vu_call *call, struct tenon_error *err)
{
	bool wait = call->timeout_ms || !atomic_load(&socket->crowded);
	unsigned limit_ms = (unsigned)((limit_ns(call) + NS_PER_MS - 1) / NS_PER_MS);
	if (patient_lock(&socket->lock, wait ? limit_ms : 0))
		return 0;
	atomic_store(&socket->crowded, true);
	return tenon_fail(err, -ETIMEDOUT, "%s: the device's server is slow to answer another command; wait",
			  socket->name);
}

static void unlock(struct vu_socket *socket)
{
	watch(socket);
	atomic_store(&socket->crowded, false);
	pthread_mutex_unlock(&socket->lock);
}

/* Not for ever: a server that goes on asking is served by the event loop. */
static void drain(struct vu_socket *socket)
{
	for (unsigned i = 0; i < TURNS_MAX && turn(socket, 0, false) > 0; i++)
		;
}

static int call_locked(struct vu_socket *socket, struct vu_call *call, uint64_t deadline_ns, struct tenon_error *err)
{
	const uint64_t now_ns = kernel_now_ns();
	int code = check_usable(socket, call, deadline_ns, err);
	if (code < 0)
		return code;
	struct vu_header header = {.id = socket->next_id++, .command = call->command};
	call->reply_bytes = call->reply_fd_count = 0;
	code = send_command(socket, call, &header, deadline_ns, err);
	if (code < 0)
		return code;
	/* Not before: nobody can know yet what it is asked. */
	socket->waiting = call;
	socket->waiting_id = header.id;
	socket->replied = false;
	if (deadline_ns - now_ns > AWAKE_NS)
		wait_awake(socket, now_ns);
	while (!socket->replied && !socket->over && kernel_now_ns() < deadline_ns)
		turn(socket, deadline_ns, false);
	socket->waiting = NULL;
	if (!socket->replied) {
		if (socket->over)
			return fail_over(socket, err);
		socket->hung = true;
		return tenon_fail(err, -ETIMEDOUT,
				  "%s: the device's server does not answer command %u; restart it, or wait",
				  socket->name, call->command);
	}
	if (call->drain) {
		drain(socket);
		if (socket->over)
			return fail_over(socket, err);
	}
	if (socket->result < 0)
		return tenon_fail(err, socket->result,
				  "%s: the device's server refuses command %u: %s; see what it says", socket->name,
				  call->command, strerror(-socket->result));
	return 0;
}

int vu_socket_call(struct vu_socket *socket, struct vu_call *call, struct tenon_error *err)
{
	uint64_t since_ns = kernel_now_ns(), deadline_ns = since_ns + limit_ns(call);
	int code = lock_for_call(socket, call, err);
	if (code == 0) {
		code = call_locked(socket, call, deadline_ns, err);
		unlock(socket);
	}
	if (call->budget_ns)
		spend(call, since_ns);
	return code;
}

static int post_locked(struct vu_socket *socket, const struct vu_call *call, uint64_t deadline_ns,
		       struct tenon_error *err)
{
	int code = check_usable(socket, call, deadline_ns, err);
	if (code < 0)
		return code;
	struct vu_header header = {
		.id = socket->next_id++, .command = call->command, .flags = VU_TYPE_COMMAND | VU_FLAG_NO_REPLY};
	code = send_command(socket, call, &header, deadline_ns, err);
	/* Nobody may come for a long time who would send the rest. */
	while (code == 0 && !vu_channel_flushed(&socket->main) && !socket->over && kernel_now_ns() < deadline_ns)
		turn(socket, deadline_ns, false);
	if (code == 0 && !vu_channel_flushed(&socket->main))
		socket->full = true;
	return code == 0 && socket->over ? fail_over(socket, err) : code;
}

int vu_socket_post(struct vu_socket *socket, const struct vu_call *call, struct tenon_error *err)
{
	uint64_t since_ns = kernel_now_ns(), deadline_ns = since_ns + limit_ns(call);
	int code = lock_for_call(socket, call, err);
	if (code == 0) {
		code = post_locked(socket, call, deadline_ns, err);
		unlock(socket);
	}
	if (call->budget_ns)
		spend(call, since_ns);
	return code;
}

int vu_socket_serve(struct vu_socket *socket)
{
	/* Whoever has the lock is at it already. */
	if (pthread_mutex_trylock(&socket->lock) != 0)
		return 1;
	uint64_t done = 0;
	for (unsigned i = 0; i < TURNS_MAX && done < WORK_BYTES && turn(socket, 0, false) > 0; i++)
		done += WORK_BYTES - socket->work_left;
	int code = socket->over ? -ENOTCONN : socket->hung || socket->full;
	unlock(socket);
	return code;
}

void vu_socket_end(struct vu_socket *socket, const char *reason)
{
	/* Whoever has the lock wakes up by this, and lets go of it. */
	atomic_store(&socket->end_wish, reason);
	shut_down(socket);
	pthread_mutex_lock(&socket->lock);
	end(socket, reason);
	pthread_mutex_unlock(&socket->lock);
}

const char *vu_socket_ended(struct vu_socket *socket)
{
	pthread_mutex_lock(&socket->lock);
	const char *reason = socket->over ? socket->reason : NULL; /* it never changes again */
	pthread_mutex_unlock(&socket->lock);
	return reason;
}

/* ---- Beginning and end ---- */

static int take_twin(struct vu_socket *socket, struct vu_call *call, struct tenon_error *err)
{
	const struct vu_capabilities *server = &socket->server;
	if (!server->twin_socket)
		return 0;
	if (!server->twin_fd_present || server->twin_fd_index >= call->reply_fd_count)
		return tenon_fail(err, -EPROTO,
				  "%s: the server promises a socket for its commands and sends none; update it",
				  socket->name);
	int fd = call->reply_fds[server->twin_fd_index];
	if (!kernel_is_stream(fd))
		return tenon_fail(err, -EPROTO,
				  "%s: what the server sends for its commands is no UNIX stream socket; update it",
				  socket->name);
	call->reply_fds[server->twin_fd_index] = -1;
	if (vu_channel_init(&socket->twin, fd, DATA_BYTES + SLACK) < 0)
		return tenon_fail(err, -ENOMEM, "%s: out of memory; free some memory", socket->name);
	return 0;
}

static int check_version(struct vu_socket *socket, struct vu_call *call, struct tenon_error *err)
{
	struct vu_version version;
	struct vu_capabilities *server = &socket->server;
	memcpy(&version, call->reply, sizeof(version));
	if (version.major != VU_MAJOR || version.minor > VU_MINOR)
		return tenon_fail(err, -EPROTO,
				  "%s: the server speaks vfio-user %u.%u, this program %u.%u; update the older",
				  socket->name, version.major, version.minor, VU_MAJOR, VU_MINOR);
	int code = vu_capabilities_parse((const char *)call->reply + sizeof(version),
					 call->reply_bytes - sizeof(version), server, err);
	if (code < 0) {
		tenon_fail_wrap(err, "%s", socket->name);
		return code;
	}
	/* A register must fit, and our own buffers bound the rest. */
	if (server->data_bytes < 8)
		return tenon_fail(err, -EPROTO, "%s: the server takes at most %llu bytes at a time; update it",
				  socket->name, (unsigned long long)server->data_bytes);
	if (server->data_bytes > DATA_BYTES)
		server->data_bytes = DATA_BYTES;
	if (server->msg_fds > VU_FDS_MAX)
		server->msg_fds = VU_FDS_MAX;
	return take_twin(socket, call, err);
}

static int agree(struct vu_socket *socket, unsigned timeout_ms, struct tenon_error *err)
{
	const struct vu_version version = {.major = VU_MAJOR, .minor = VU_MINOR};
	const struct vu_capabilities ours = {.msg_fds = VU_FDS_ANNOUNCED,
					     .data_bytes = DATA_BYTES,
					     .dma_maps = VU_DEFAULT_DMA_MAPS,
					     .page_sizes = VU_DEFAULT_PAGE_SIZES,
					     .write_multiple = true,
					     .twin_socket = true};
	char text[VU_CAPABILITIES_TEXT_MAX];
	uint8_t reply[4096];
	struct vu_call call = {.command = VU_VERSION,
			       .timeout_ms = timeout_ms,
			       .request = {.head = &version, .head_bytes = sizeof(version), .data = text},
			       .reply = reply,
			       .reply_room = sizeof(reply),
			       .reply_least = sizeof(version)};
	call.request.data_bytes = vu_capabilities_format(&ours, text);
	int code = vu_socket_call(socket, &call, err);
	if (code < 0)
		return code;
	code = check_version(socket, &call, err);
	for (unsigned i = 0; i < call.reply_fd_count; i++) {
		if (call.reply_fds[i] >= 0)
			kernel_close(call.reply_fds[i]);
	}
	return code;
}

int vu_socket_adopt(int fd, const char *name, unsigned timeout_ms, const struct vu_memory *memory,
		    struct vu_socket **out, struct tenon_error *err)
{
	struct vu_socket *socket = calloc(1, sizeof(*socket));
	if (!socket) {
		kernel_close(fd);
		return tenon_fail(err, -ENOMEM, "%s: out of memory; free some memory", name);
	}
	pthread_mutex_init(&socket->lock, NULL);
	snprintf(socket->name, sizeof(socket->name), "%s", name);
	socket->memory = *memory;
	socket->twin.fd = socket->poll_fd = -1;
	socket->server = (struct vu_capabilities){.data_bytes = DATA_BYTES, .msg_fds = VU_DEFAULT_MSG_FDS};
	int code = vu_channel_init(&socket->main, fd, DATA_BYTES + SLACK);
	if (code < 0)
		tenon_fail(err, code, "%s: out of memory; free some memory", name);
	else
		code = agree(socket, timeout_ms, err);
	if (code == 0)
		code = watch_first(socket, err);
	if (code < 0)
		vu_socket_destroy(socket);
	else
		*out = socket;
	return code;
}

int vu_socket_connect(const char *path, unsigned timeout_ms, const struct vu_memory *memory, struct vu_socket **out,
		      struct tenon_error *err)
{
	int fd = kernel_connect(path, timeout_ms ? timeout_ms : VU_TIMEOUT_MS);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return tenon_fail(err, fd, "%s: no server listens there: %s; start the device's server first", path,
				  strerror(-fd));
	if (fd < 0)
		return tenon_fail(err, fd, "%s: cannot connect: %s; %s", path, strerror(-fd),
				  fd == -EAGAIN ? "its server accepts nobody; it may serve another program"
						: "give this user write access to the socket");
	return vu_socket_adopt(fd, path, timeout_ms, memory, out, err);
}

void vu_socket_destroy(struct vu_socket *socket)
{
	if (!socket)
		return;
	if (socket->poll_fd >= 0)
		kernel_close(socket->poll_fd);
	vu_channel_finish(&socket->main);
	vu_channel_finish(&socket->twin);
	pthread_mutex_destroy(&socket->lock);
	free(socket);
}

uint64_t vu_socket_data_bytes(const struct vu_socket *socket)
{
	return socket->server.data_bytes;
}

unsigned vu_socket_fds(const struct vu_socket *socket)
{
	return (unsigned)socket->server.msg_fds;
}

bool vu_socket_takes_multi(const struct vu_socket *socket)
{
	return socket->server.write_multiple;
}

uint64_t vu_socket_dma_maps(const struct vu_socket *socket)
{
	return socket->server.dma_maps;
}

uint64_t vu_socket_page_bytes(const struct vu_socket *socket)
{
	uint64_t sizes = socket->server.page_sizes;
	return sizes & -sizes;
}

int vu_socket_poll_fd(const struct vu_socket *socket)
{
	return socket->poll_fd;
}
