// SPDX-License-Identifier: MIT
/*
 * VU_FEATURE, VU_MIG_DATA_READ and VU_MIG_DATA_WRITE. Where VFIO's structures hold pointers, the messages hold what they point to.
 * Source: vfio-user Protocol Specification, "VFIO_USER_DEVICE_FEATURE" and following.
 *
 * libvfio-user differs: it answers EINVAL to a feature that it lacks, where VFIO says ENOTTY; it pads the reply to a read to the size
 * that was asked for; and it reports dirty pages only of a whole window, which goes in one message as long as that can hold it.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "vfio_user_migration.h"
#include "vfio_user_socket.h"

#define WORD_PAGES 64u /* of a bitmap's word */
#define DATA_MAX   64u /* of a feature with data of a fixed size */

/* Its features by number, in the flags of VFIO and of the protocol alike. */
_Static_assert(VFIO_DEVICE_FEATURE_GET == VU_FEATURE_GET && VFIO_DEVICE_FEATURE_SET == VU_FEATURE_SET &&
		       VFIO_DEVICE_FEATURE_PROBE == VU_FEATURE_PROBE && VFIO_DEVICE_FEATURE_MASK == VU_FEATURE_NUMBER,
	       "feature flags");
_Static_assert(sizeof(struct vfio_device_feature) == sizeof(struct vu_feature), "feature");

static int fail_lie(const struct vu_migration_peer *peer, const char *lie, struct tenon_error *err)
{
	vu_socket_end(peer->socket, lie);
	return tenon_fail(err, -ENOTCONN, "%s: the device is gone: %s; restart its server", peer->name, lie);
}

static int call(const struct vu_migration_peer *peer, struct vu_call *call, struct tenon_error *err)
{
	call->timeout_ms = VU_MIGRATION_TIMEOUT_MS;
	int code = vu_socket_call(peer->socket, call, err);
	for (unsigned i = 0; i < call->reply_fd_count; i++)
		kernel_close(call->reply_fds[i]);
	return code;
}

/* ---- Features ---- */

/* A feature's request and reply with what follows the head of each. */
struct exchange {
	const void *request; /* NULL: none */
	size_t request_bytes;
	void *reply;
	size_t reply_bytes;
	const void *more; /* of the request, behind it */
	size_t more_bytes;
	void *bitmap; /* behind the reply */
	size_t bitmap_bytes;
	bool reply_may_end; /* behind reply_bytes comes what was sent, if anything */
	bool drain;
};

static int ask(const struct vu_migration_peer *peer, uint32_t flags, const struct exchange *exchange,
	       struct tenon_error *err)
{
	uint8_t request[sizeof(struct vu_feature) + DATA_MAX], reply[sizeof(request)];
	struct vu_feature head = {.flags = flags}, answer;
	const size_t sent = sizeof(head) + exchange->request_bytes + exchange->more_bytes;
	const size_t room = sizeof(head) + exchange->reply_bytes + exchange->bitmap_bytes;
	head.argsz = (uint32_t)(sent > room ? sent : room);
	memcpy(request, &head, sizeof(head));
	if (exchange->request_bytes)
		memcpy(request + sizeof(head), exchange->request, exchange->request_bytes);
	struct vu_call message = {
		.command = VU_FEATURE,
		.request = {.head = request,
			    .head_bytes = sizeof(head) + exchange->request_bytes,
			    .data = exchange->more,
			    .data_bytes = exchange->more_bytes},
		.reply = reply,
		.reply_room = sizeof(head) + exchange->reply_bytes,
		.reply_least = exchange->reply_may_end ? sizeof(head) + exchange->reply_bytes : room,
		.reply_data = exchange->bitmap,
		.reply_data_room = exchange->bitmap_bytes,
		.drain = exchange->drain,
	};
	int code = call(peer, &message, err);
	if (code < 0)
		return code;
	memcpy(&answer, reply, sizeof(answer));
	if (answer.flags != flags)
		return fail_lie(peer, "it answers for another feature than it was asked for", err);
	if (exchange->reply_bytes)
		memcpy(exchange->reply, reply + sizeof(answer), exchange->reply_bytes);
	return 0;
}

static int probe(const struct vu_migration_peer *peer, uint32_t flags, struct tenon_error *err)
{
	const struct exchange nothing = {0};
	return ask(peer, flags, &nothing, err);
}

/* Get or set of what has a fixed size, in place. */
static int fixed(const struct vu_migration_peer *peer, struct vfio_device_feature *argument, size_t bytes,
		 struct tenon_error *err)
{
	bool set = argument->flags & VU_FEATURE_SET;
	const struct exchange exchange = {.request = argument->data,
					  .request_bytes = set ? bytes : 0,
					  .reply = argument->data,
					  .reply_bytes = bytes};
	return ask(peer, argument->flags, &exchange, err);
}

static int state(struct vu_migration_peer *peer, struct vfio_device_feature *argument, struct tenon_error *err)
{
	bool set = argument->flags & VU_FEATURE_SET;
	struct vu_state wanted, answer = {0};
	memcpy(&wanted, argument->data, sizeof(wanted));
	wanted.data_fd = -1;
	/* A device that stops has asked for all its memory before it says so, but not on the socket on which it says it. */
	const struct exchange exchange = {.request = &wanted,
					  .request_bytes = set ? sizeof(wanted) : 0,
					  .reply = &answer,
					  .reply_bytes = sizeof(answer),
					  .drain = set};
	int code = ask(peer, argument->flags, &exchange, err);
	if (code < 0)
		return code;
	if (answer.state >= VU_STATES || (set && answer.state != wanted.state))
		return fail_lie(peer, "it is in another migration state than it was told, or in none", err);
	answer.data_fd = -1; /* the server's number would be somebody's file here */
	memcpy(argument->data, &answer, sizeof(answer));
	bool goes_on = answer.state == VU_STATE_PRE_COPY || answer.state == VU_STATE_PRE_COPY_P2P;
	if (set && !goes_on)
		peer->caught_up = peer->base_known = false;
	return 0;
}

static bool is_power_of_two(uint64_t value)
{
	return value && !(value & (value - 1));
}

static int log_start(const struct vu_migration_peer *peer, struct vfio_device_feature *argument,
		     struct tenon_error *err)
{
	struct vfio_device_feature_dma_logging_control control;
	memcpy(&control, argument->data, sizeof(control));
	struct vu_log_start start = {.page_bytes = control.page_size, .ranges = control.num_ranges}, answer;
	const size_t ranges_bytes = start.ranges * sizeof(struct vu_log_range);
	_Static_assert(sizeof(struct vu_log_range) == sizeof(struct vfio_device_feature_dma_logging_range), "ranges");
	uint8_t *echo = malloc(ranges_bytes ? ranges_bytes : 1);
	if (!echo)
		return tenon_fail(err, -ENOMEM, "%s: out of memory; free some memory", peer->name);
	const struct exchange exchange = {.request = &start,
					  .request_bytes = sizeof(start),
					  .more = (const void *)(uintptr_t)control.ranges,
					  .more_bytes = ranges_bytes,
					  .reply = &answer,
					  .reply_bytes = sizeof(answer),
					  .bitmap = echo,
					  .bitmap_bytes = ranges_bytes,
					  .reply_may_end = true};
	int code = ask(peer, argument->flags, &exchange, err);
	free(echo);
	if (code < 0)
		return code;
	if (!is_power_of_two(answer.page_bytes))
		return fail_lie(peer, "it logs in pages of a size that no page has", err);
	control.page_size = answer.page_bytes;
	memcpy(argument->data, &control, sizeof(control));
	return 0;
}

/* Adds the bits of so many pages; what is set behind them means nothing. */
static void add_bits(uint64_t *to, const uint64_t *from, uint64_t pages)
{
	for (uint64_t i = 0; i < pages / WORD_PAGES; i++)
		to[i] |= from[i];
	if (pages % WORD_PAGES)
		to[pages / WORD_PAGES] |= from[pages / WORD_PAGES] & ((UINT64_C(1) << pages % WORD_PAGES) - 1);
}

static int report_piece(const struct vu_migration_peer *peer, uint32_t flags, const struct vu_log_report *range,
			uint64_t *bitmap, uint64_t words, struct tenon_error *err)
{
	struct vu_log_report answer;
	const struct exchange exchange = {.request = range,
					  .request_bytes = sizeof(*range),
					  .reply = &answer,
					  .reply_bytes = sizeof(answer),
					  .bitmap = bitmap,
					  .bitmap_bytes = words * sizeof(*bitmap)};
	int code = ask(peer, flags, &exchange, err);
	if (code == 0 && (answer.address != range->address || answer.bytes != range->bytes ||
			  answer.page_bytes != range->page_bytes))
		code = fail_lie(peer, "it reports the pages of another range than it was asked for", err);
	return code;
}

/* In pieces that a message can hold. What was reported is forgotten there, so it is added here at once. */
static int log_report(const struct vu_migration_peer *peer, struct vfio_device_feature *argument,
		      struct tenon_error *err)
{
	struct vfio_device_feature_dma_logging_report report;
	memcpy(&report, argument->data, sizeof(report));
	const size_t head = sizeof(struct vu_feature) + sizeof(struct vu_log_report);
	const uint64_t most_words = (vu_socket_data_bytes(peer->socket) - head) / sizeof(uint64_t);
	if (vu_socket_data_bytes(peer->socket) < head + sizeof(uint64_t))
		return tenon_fail(err, -EMSGSIZE,
				  "%s: its server takes messages of %llu bytes, too few for a bitmap; update it",
				  peer->name, (unsigned long long)vu_socket_data_bytes(peer->socket));
	if (!is_power_of_two(report.page_size) || !report.length || report.length - 1 > UINT64_MAX - report.iova)
		return tenon_fail(err, -EINVAL, "%s: no range of pages to report; ask for one", peer->name);
	uint64_t pages = (report.length - 1) / report.page_size + 1, left = report.length, at = report.iova;
	uint64_t *bitmap = (uint64_t *)(uintptr_t)report.bitmap;
	const uint64_t whole_words = (pages - 1) / WORD_PAGES + 1;
	uint64_t *piece = malloc((whole_words < most_words ? whole_words : most_words) * sizeof(*piece));
	if (!piece)
		return tenon_fail(err, -ENOMEM, "%s: out of memory; free some memory", peer->name);
	int code = 0;
	for (uint64_t done; code == 0 && pages; pages -= done, bitmap += most_words) {
		done = pages < most_words * WORD_PAGES ? pages : most_words * WORD_PAGES;
		const struct vu_log_report range = {.address = at,
						    .bytes = done == pages ? left : done * report.page_size,
						    .page_bytes = report.page_size};
		code = report_piece(peer, argument->flags, &range, piece, (done - 1) / WORD_PAGES + 1, err);
		if (code == 0)
			add_bits(bitmap, piece, done);
		at += range.bytes;
		left -= range.bytes;
	}
	free(piece);
	return code;
}

static int execute(struct vu_migration_peer *peer, struct vfio_device_feature *argument, struct tenon_error *err)
{
	const size_t bytes = argument->argsz - sizeof(*argument);
	switch (argument->flags & VU_FEATURE_NUMBER) {
	case VU_FEATURE_MIGRATION:
		return bytes < sizeof(struct vu_migration) ? -EINVAL
							   : fixed(peer, argument, sizeof(struct vu_migration), err);
	case VU_FEATURE_STATE_BYTES:
		return bytes < sizeof(struct vu_state_bytes)
			       ? -EINVAL
			       : fixed(peer, argument, sizeof(struct vu_state_bytes), err);
	case VU_FEATURE_STATE:
		return bytes < sizeof(struct vu_state) ? -EINVAL : state(peer, argument, err);
	case VU_FEATURE_LOG_START:
		return bytes < sizeof(struct vfio_device_feature_dma_logging_control) ? -EINVAL
										      : log_start(peer, argument, err);
	case VU_FEATURE_LOG_STOP:
		return fixed(peer, argument, 0, err);
	case VU_FEATURE_LOG_REPORT:
		return bytes < sizeof(struct vfio_device_feature_dma_logging_report) ? -EINVAL
										     : log_report(peer, argument, err);
	default:
		return -ENOTTY;
	}
}

static int fail_missing(const struct vu_migration_peer *peer, uint32_t flags, struct tenon_error *err)
{
	return tenon_fail(err, -ENOTTY, "%s: its server has no device feature %u; update it", peer->name,
			  flags & VU_FEATURE_NUMBER);
}

/* How servers say that there is no such feature, or no features at all. */
static bool is_refusal(int code)
{
	return code == -ENOTTY || code == -EINVAL || code == -ENOTSUP || code == -ENOSYS;
}

int vu_migration_feature(struct vu_migration_peer *peer, struct vfio_device_feature *argument, struct tenon_error *err)
{
	const uint32_t flags = argument->flags;
	struct tenon_error error;
	int code;
	if (argument->argsz < sizeof(*argument))
		return tenon_fail(err, -EINVAL,
				  "%s: a feature's argument has %u bytes, too few; pass all of its struct", peer->name,
				  argument->argsz);
	if (flags & VU_FEATURE_PROBE) {
		code = probe(peer, flags, &error);
		return is_refusal(code) ? fail_missing(peer, flags, err)
		       : code < 0       ? tenon_fail(err, code, "%s", error.message)
					: 0;
	}
	error = (struct tenon_error){0};
	code = execute(peer, argument, &error);
	if (code == -EINVAL && !error.code)
		return tenon_fail(err, code,
				  "%s: the argument of device feature %u has %u bytes, too few; pass all of "
				  "its struct",
				  peer->name, flags & VU_FEATURE_NUMBER, argument->argsz);
	if (code == -ENOTTY ||
	    (is_refusal(code) && is_refusal(probe(peer, (flags & VU_FEATURE_NUMBER) | VU_FEATURE_PROBE, NULL))))
		return fail_missing(peer, flags, err);
	return code < 0 ? tenon_fail(err, code, "%s", error.message) : 0;
}

/* ---- Data ---- */

static size_t at_once(const struct vu_migration_peer *peer, size_t bytes)
{
	uint64_t most = vu_socket_data_bytes(peer->socket);
	return bytes < most ? bytes : (size_t)most;
}

int64_t vu_migration_read(struct vu_migration_peer *peer, void *data, size_t capacity, struct tenon_error *err)
{
	struct vu_mig_data head = {.bytes = (uint32_t)at_once(peer, capacity)}, answer;
	if (head.bytes == 0)
		return tenon_fail(err, -EINVAL, "%s: no room for its data; pass some", peer->name);
	head.argsz = (uint32_t)sizeof(head) + head.bytes;
	struct vu_call request = {.command = VU_MIG_DATA_READ,
				  .request = {.head = &head, .head_bytes = sizeof(head)},
				  .reply = &answer,
				  .reply_room = sizeof(answer),
				  .reply_least = sizeof(answer),
				  .reply_data = data,
				  .reply_data_room = head.bytes};
	int code = call(peer, &request, err);
	if (code < 0)
		return code;
	if (answer.bytes > head.bytes)
		return fail_lie(peer, "it says to send more data than it was asked for", err);
	if (answer.bytes > request.reply_bytes - sizeof(answer))
		return fail_lie(peer, "it sends less data than it says", err);
	peer->caught_up |= answer.bytes < head.bytes;
	return answer.bytes;
}

int64_t vu_migration_write(struct vu_migration_peer *peer, const void *data, size_t bytes, struct tenon_error *err)
{
	struct vu_mig_data head = {.bytes = (uint32_t)at_once(peer, bytes)}, ignored;
	head.argsz =
		(uint32_t)sizeof(head) + head.bytes; /* the text says of the reply; libvfio-user wants it of this */
	struct vu_call request = {
		.command = VU_MIG_DATA_WRITE,
		.request = {.head = &head, .head_bytes = sizeof(head), .data = data, .data_bytes = head.bytes},
		.reply = &ignored,
		.reply_room = sizeof(ignored)};
	int code = call(peer, &request, err);
	return code < 0 ? code : (int64_t)head.bytes;
}

/* @return 0; -ENOTTY the server does not say */
static int bytes_left(struct vu_migration_peer *peer, uint64_t *bytes, struct tenon_error *err)
{
	struct {
		struct vu_feature head; /* as struct vfio_device_feature */
		struct vu_state_bytes left;
	} argument = {.head = {.argsz = sizeof(argument), .flags = VU_FEATURE_GET | VU_FEATURE_STATE_BYTES}};
	int code = vu_migration_feature(peer, (struct vfio_device_feature *)&argument, err);
	*bytes = argument.left.stop_copy_bytes;
	return code;
}

/*
 * Until a read has brought all that there was, what is left is what the other side should have first. After that it is what came since;
 * what the device tells only in STOP_COPY is not to be read now, and was left at that time, too.
 */
int vu_migration_pre_copy(struct vu_migration_peer *peer, uint64_t *initial, uint64_t *dirty, struct tenon_error *err)
{
	uint64_t left;
	struct tenon_error error;
	int code = bytes_left(peer, &left, &error);
	*initial = *dirty = 0;
	if (code == -ENOTTY) { /* a message at least, or nothing that is known */
		*initial = peer->caught_up ? 0 : vu_socket_data_bytes(peer->socket);
		return 0;
	}
	if (code < 0)
		return tenon_fail(err, code, "%s", error.message);
	if (!peer->caught_up) {
		*initial = left;
		return 0;
	}
	if (!peer->base_known || left < peer->base_bytes)
		peer->base_bytes = left;
	peer->base_known = true;
	*dirty = left - peer->base_bytes;
	return 0;
}
