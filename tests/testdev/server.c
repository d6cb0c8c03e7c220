// SPDX-License-Identifier: MIT
/*
 * The loop that serves a client. Messages are executed in the order in which they come, except that a command which must
 * not overtake a DMA request of the device waits, with all behind it, for the client's answer: replies are taken at once.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "commands.h"
#include "server.h"
#include "testdev.h"

#define SLACK_BYTES 8192u      /* what a message has around its data */
#define UNREAD_MAX  (4u << 20) /* of replies, before no more commands are taken */
#define HELD_MAX    256u

enum { POLL_STOP, POLL_MAIN, POLL_TWIN, POLL_UNMASK, POLL_BELLS, POLL_COUNT };

uint64_t server_data_bytes(const struct testdev *device)
{
	uint64_t ours = device->options.data_bytes ? device->options.data_bytes : VU_DEFAULT_DATA_BYTES;
	uint64_t theirs = device->session ? device->session->client.data_bytes : ours;
	return ours < theirs ? ours : theirs;
}

bool server_has_twin(const struct testdev *device)
{
	return device->session && device->session->twin.fd >= 0;
}

int server_command(struct testdev *device, struct vu_header *header, const struct vu_dma_access *access,
		   const uint8_t *data, uint32_t bytes)
{
	struct session *session = device->session;
	if (!session || session->ended)
		return -ENOTCONN;
	struct link *link = session->twin.fd >= 0 ? &session->twin : &session->main;
	if (link->out_bytes > UNREAD_MAX)
		return -EAGAIN;
	uint8_t payload[sizeof(*access) + DMA_CHUNK_MAX];
	memcpy(payload, access, sizeof(*access));
	if (bytes)
		memcpy(payload + sizeof(*access), data, bytes);
	header->bytes = (uint32_t)(sizeof(*header) + sizeof(*access) + bytes);
	int code = link_send(link, header, payload, sizeof(*access) + bytes, NULL, 0);
	if (code < 0)
		session->ended = true;
	return code;
}

/* The reply as the fault wants it. */
static void spoil(const struct fault *fault, struct vu_header *header, struct reply *reply, bool *last)
{
	size_t change = (size_t)(fault->value < 0 ? -(int64_t)fault->value : fault->value);
	switch (fault->kind) {
	case FAULT_WRONG_SIZE:
		if (fault->value < 0) {
			reply->bytes -= change < reply->bytes ? change : reply->bytes;
		} else {
			uint8_t *longer = calloc(1, reply->bytes + change);
			if (longer && reply->bytes)
				memcpy(longer, reply->payload, reply->bytes);
			free(reply->payload);
			reply->payload = longer;
			reply->bytes = longer ? reply->bytes + change : 0;
		}
		header->bytes = (uint32_t)(sizeof(*header) + reply->bytes);
		break;
	case FAULT_SHORT:
		reply->bytes -= change < reply->bytes ? change : reply->bytes;
		*last = true;
		break;
	case FAULT_WRONG_ID:
		header->id ^= 0x5555;
		break;
	case FAULT_WRONG_COMMAND:
		header->command ^= 1;
		break;
	default:
		break;
	}
}

static void send_reply(struct testdev *device, const struct message *message, int code, struct reply *reply,
		       const struct fault *fault)
{
	struct session *session = device->session;
	bool last = false;
	if (code < 0) {
		reply->bytes = 0;
		reply->fd_count = 0;
	}
	struct vu_header header = {.id = message->header.id,
				   .command = message->header.command,
				   .bytes = (uint32_t)(sizeof(header) + reply->bytes),
				   .flags = VU_TYPE_REPLY | (code < 0 ? VU_FLAG_ERROR : 0),
				   .error = code < 0 ? (uint32_t)-code : 0};
	spoil(fault, &header, reply, &last);
	for (unsigned i = 0; i < (fault->kind == FAULT_TWICE ? 2 : 1); i++) {
		if (link_send(&session->main, &header, reply->payload, reply->bytes, reply->fds, reply->fd_count) < 0)
			last = true;
	}
	session->ended |= last;
}

static void stall(struct session *session, const struct fault *fault)
{
	session->stalled_until_ns = fault->value > 0 ? now_ns() + (uint64_t)fault->value * 1000000 : UINT64_MAX;
}

/* Faults that come before the command. @return whether the command is executed */
static bool fault_before(struct testdev *device, const struct fault *fault, int *code)
{
	switch (fault->kind) {
	case FAULT_STALL:
		stall(device->session, fault);
		return true;
	case FAULT_ERROR:
		*code = -fault->value;
		return false;
	case FAULT_DISCONNECT:
		device->session->ended = true;
		return false;
	default:
		return true;
	}
}

/* Asking for what this device does not have is no misuse. */
static bool is_misuse(int code)
{
	return code != -ENOTTY && code != -ENOTSUP && code != -ENOMEM;
}

static void execute(struct testdev *device, struct message *message)
{
	struct session *session = device->session;
	struct fault fault = faults_next(device, message->header.command);
	struct reply reply = {.owned_fd = -1};
	bool greets = !session->greeted;
	uint32_t violations = device->journal.count;
	int code = 0;
	if (fault_before(device, &fault, &code))
		code = greets ? command_greet(device, message, &reply) : command_execute(device, message, &reply);
	if (session->ended) {
		reply_finish(&reply);
		return;
	}
	session->greeted |= code == 0;
	if (code < 0 && fault.kind != FAULT_ERROR && is_misuse(code) && device->journal.count == violations)
		journal_add(device, TD_BAD_MESSAGE, message->header.command, "command %u of %zu bytes and %u fds: %s",
			    message->header.command, message->bytes, message->fd_count, strerror(-code));
	if (fault.kind == FAULT_VANISH)
		session->ended = true;
	else if (fault.kind != FAULT_SILENCE && !(message->header.flags & VU_FLAG_NO_REPLY && !greets))
		send_reply(device, message, code, &reply, &fault);
	if (greets && code < 0)
		session->ended = true;
	reply_finish(&reply);
}

static bool is_stalled(const struct session *session)
{
	return session->stalled_until_ns &&
	       (session->stalled_until_ns == UINT64_MAX || now_ns() < session->stalled_until_ns);
}

/* What was held goes on as soon as the device has its answer. */
static void release_held(struct testdev *device)
{
	struct session *session = device->session;
	while (session->held && !session->ended && !is_stalled(session) &&
	       !(device->dma.pending.active && command_waits_for_dma(session->held))) {
		struct message *message = session->held;
		session->held = message->next;
		session->held_count--;
		if (!session->held)
			session->held_end = &session->held;
		execute(device, message);
		message_free(message);
	}
}

static void hold(struct session *session, struct message *message)
{
	*session->held_end = message;
	session->held_end = &message->next;
	session->held_count++;
}

/* @param twin  it came over the device's own socket, where the client only answers */
static void dispatch(struct testdev *device, struct message *message, bool twin)
{
	uint32_t type = message->header.flags & VU_TYPE_MASK;
	bool fits = type == VU_TYPE_REPLY ? message->fd_count == 0 : !twin;
	if (type > VU_TYPE_REPLY || !fits) {
		journal_add(device, TD_BAD_MESSAGE, message->header.command, "message of type %u%s", type,
			    twin ? " on the device's socket" : "");
		message_free(message);
	} else if (type == VU_TYPE_REPLY) {
		dma_reply(device, &message->header, message->payload, message->bytes);
		message_free(message);
	} else {
		hold(device->session, message);
	}
	release_held(device);
}

static bool takes_messages(const struct session *session)
{
	return !session->ended && !is_stalled(session) && session->held_count < HELD_MAX &&
	       session->main.out_bytes <= UNREAD_MAX;
}

static void refuse(struct testdev *device, const struct vu_header *bad)
{
	const struct vu_header header = {.id = bad->id,
					 .command = bad->command,
					 .bytes = sizeof(header),
					 .flags = VU_TYPE_REPLY | VU_FLAG_ERROR,
					 .error = EPROTO};
	journal_add(device, TD_BAD_MESSAGE, bad->bytes, "message of %u bytes, or its fds", bad->bytes);
	link_send(&device->session->main, &header, NULL, 0, NULL, 0);
}

/* @return 0; -ECONNRESET the client left; -EPROTO; -ENOMEM */
static int receive(struct testdev *device, bool twin, bool readable)
{
	struct session *session = device->session;
	struct link *link = twin ? &session->twin : &session->main;
	struct vu_header bad = {0};
	int code = 1;
	if (readable && takes_messages(session) && !link_has_message(link) && (code = link_fill(link)) == 0)
		code = 1;
	while (code > 0 && takes_messages(session)) {
		struct message *message = NULL;
		code = link_next(link, &message, &bad);
		if (code > 0)
			dispatch(device, message, twin);
	}
	if (code == -EPROTO)
		refuse(device, &bad);
	return code < 0 ? code : 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int timeout_ms(const struct testdev *device, bool busy)
{
	const struct session *session = device->session;
	uint64_t deadline = least(load_deadline_ns(device), migration_deadline_ns(device));
	if (busy || (takes_messages(session) && (link_has_message(&session->main) || link_has_message(&session->twin))))
		return 0;
	if (device->dma.pending.active)
		deadline = least(deadline, device->dma.pending.deadline_ns);
	if (session->stalled_until_ns)
		deadline = least(deadline, session->stalled_until_ns);
	if (deadline == UINT64_MAX)
		return -1;
	uint64_t now = now_ns();
	return deadline > now ? (int)((deadline - now) / 1000000 + 1) : 0;
}

static void fill_poll(const struct testdev *device, struct pollfd *polls, int stop)
{
	const struct session *session = device->session;
	short in = takes_messages(session) ? POLLIN : 0;
	polls[POLL_STOP] = (struct pollfd){.fd = stop, .events = POLLIN};
	polls[POLL_MAIN] = (struct pollfd){.fd = session->main.fd, .events = in | (session->main.out ? POLLOUT : 0)};
	polls[POLL_TWIN] = (struct pollfd){.fd = session->twin.fd, .events = in | (session->twin.out ? POLLOUT : 0)};
	polls[POLL_UNMASK] = (struct pollfd){.fd = device->irqs.intx_unmask, .events = POLLIN};
	polls[POLL_BELLS] = (struct pollfd){.fd = device->doorbells.poll, .events = POLLIN};
}

static void take_unmask(struct testdev *device)
{
	uint64_t count;
	/* poll() said that there is a count; the client shares the eventfd and could take it first, if it is blocking. */
	struct pollfd poll_fd = {.fd = device->irqs.intx_unmask, .events = POLLIN};
	if (poll(&poll_fd, 1, 0) == 1 && read(device->irqs.intx_unmask, &count, sizeof(count)) == sizeof(count))
		irqs_unmask(device);
}

/* One round. @return 0; -EINTR, -ECONNRESET, -EPROTO or -ENOMEM: the end */
static int serve_once(struct testdev *device, int stop, bool *busy)
{
	struct session *session = device->session;
	struct pollfd polls[POLL_COUNT];
	fill_poll(device, polls, stop);
	if (poll(polls, POLL_COUNT, timeout_ms(device, *busy)) < 0)
		return errno == EINTR ? 0 : -ENOMEM;
	if (polls[POLL_STOP].revents & POLLIN)
		return -EINTR;
	if (session->stalled_until_ns && !is_stalled(session))
		session->stalled_until_ns = 0;
	if (polls[POLL_UNMASK].revents & POLLIN)
		take_unmask(device);
	if (polls[POLL_BELLS].revents & POLLIN)
		doorbells_take(device);

	int code = 0;
	if (link_flush(&session->main) < 0 || (session->twin.fd >= 0 && link_flush(&session->twin) < 0))
		code = -ECONNRESET;
	/* What the client sent before it left still counts, so its end is noticed by reading; not so when stalled. */
	if (code == 0)
		code = receive(device, true, polls[POLL_TWIN].revents);
	if (code == 0)
		code = receive(device, false, polls[POLL_MAIN].revents);
	if (code == 0 && polls[POLL_MAIN].revents & POLLHUP && !takes_messages(session))
		code = -ECONNRESET;
	if (device->dma.pending.active && now_ns() >= device->dma.pending.deadline_ns)
		dma_cancel(device, -ETIMEDOUT);
	release_held(device);

	migration_run(device);
	*busy = false;
	/* Nothing new is asked for while a command waits for the end of what was. */
	if (!session->held) {
		*busy = load_run(device);
		*busy |= copy_engine_run(device);
	}
	return code;
}

static void leave(struct testdev *device)
{
	struct session *session = device->session;
	session->ended = true;
	copy_engine_abort(device, TD_REASON_ABORT);
	dma_cancel(device, -ECANCELED);
	device->load.due = 0;
	device->dma.cancelled_count = 0;
	irqs_release(device);
	dma_unmap_all(device);
	dma_log_stop(device);
	while (session->held) {
		struct message *message = session->held;
		session->held = message->next;
		message_free(message);
	}
	link_finish(&session->main);
	link_finish(&session->twin);
	device->session = NULL;
}

int server_serve(struct testdev *device, int fd, int stop)
{
	struct session session = {.twin = {.fd = -1}};
	uint64_t data_bytes = device->options.data_bytes ? device->options.data_bytes : VU_DEFAULT_DATA_BYTES;
	bool busy = false;
	session.held_end = &session.held;
	session.client.data_bytes = data_bytes;
	device->session = &session;
	device->connections++;
	faults_reset(device);
	int code = link_init(&session.main, fd, data_bytes + SLACK_BYTES);
	while (code == 0 && !session.ended)
		code = serve_once(device, stop, &busy);
	bool greeted = session.greeted;
	leave(device);
	if (code == -ECONNRESET || (code == 0 && greeted))
		return 0;
	return code < 0 ? code : -EPROTO;
}
