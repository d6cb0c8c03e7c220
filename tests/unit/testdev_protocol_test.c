// SPDX-License-Identifier: MIT
/*
 * The test device's server against clients that do not keep to the protocol: every message too short, too long, out of
 * order, with wrong numbers. It answers with an error or ends the connection, and goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "link.h"
#include "testdev_client.h"

TestSuite(testdev_protocol, .timeout = 60);

static struct client client;

static void open_default(void)
{
	client_open(&client, NULL);
}

static void close_client(void)
{
	client_close(&client);
}

/* ---- Version ---- */

TestSuite(testdev_version, .timeout = 60);

static int greet_as(uint16_t major, uint16_t minor, const char *text, size_t bytes)
{
	uint8_t payload[2048];
	const struct vu_version version = {.major = major, .minor = minor};
	client_start(&client, NULL);
	memcpy(payload, &version, sizeof(version));
	memcpy(payload + sizeof(version), text, bytes);
	return client_call(&client, VU_VERSION, payload, sizeof(version) + bytes);
}

static uint16_t answered_minor(void)
{
	struct vu_version version;
	memcpy(&version, answer.payload, sizeof(version));
	cr_expect_eq(version.major, VU_MAJOR);
	return version.minor;
}

Test(testdev_version, smaller_minor_version_holds)
{
	cr_assert_eq(greet_as(0, 1, "", 0), 0);
	cr_expect_eq(answered_minor(), 1);
	close_client();
	cr_assert_eq(greet_as(0, 900, "", 0), 0);
	cr_expect_eq(answered_minor(), VU_MINOR);
	close_client();
}

Test(testdev_version, reply_has_terminated_capabilities)
{
	cr_assert_eq(greet_as(0, 1, "{}", 3), 0);
	cr_expect_eq(answer.payload[answer.bytes - 1], 0);
	const char *text = (const char *)answer.payload + sizeof(struct vu_version);
	cr_expect(strstr(text, "\"write_multiple\":true"), "%s", text);
	cr_expect(strstr(text, "\"max_msg_fds\":64"), "%s", text);
	cr_expect_null(strstr(text, "twin_socket"), "not asked for: %s", text);
	close_client();
}

Test(testdev_version, other_major_version_ends_the_connection)
{
	cr_assert_eq(greet_as(1, 0, "", 0), -EINVAL);
	cr_expect(client_dropped(&client));
	cr_expect_eq(client_leave(&client), -EPROTO);
	close_client();
}

Test(testdev_version, bad_capabilities_end_the_connection)
{
	static const char *const texts[] = {
		"{",
		"[]",
		"nonsense",
		"{\"capabilities\":3}",
		"{\"capabilities\":{\"max_msg_fds\":\"8\"}}",
		"{\"capabilities\":{\"max_data_xfer_size\":-1}}",
		"{\"capabilities\":{\"max_data_xfer_size\":4}}",
		"{\"capabilities\":{\"twin_socket\":true}}",
		"{}x",
	};
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		cr_expect_eq(greet_as(0, 1, texts[i], strlen(texts[i]) + 1), -EINVAL, "%s", texts[i]);
		cr_expect(client_dropped(&client), "%s", texts[i]);
		close_client();
	}
}

Test(testdev_version, capabilities_that_are_not_terminated_end_the_connection)
{
	cr_expect_eq(greet_as(0, 1, "{}", 2), -EINVAL);
	cr_expect(client_dropped(&client));
	close_client();
}

Test(testdev_version, message_that_is_too_short_ends_the_connection)
{
	client_start(&client, NULL);
	cr_expect_eq(client_call(&client, VU_VERSION, "\0\0", 2), -EINVAL);
	cr_expect(client_dropped(&client));
	close_client();
}

Test(testdev_version, anything_else_first_ends_the_connection)
{
	for (uint16_t command = 0; command < VU_COMMANDS; command++) {
		if (command == VU_VERSION)
			continue;
		uint8_t payload[64] = {64};
		client_start(&client, NULL);
		cr_expect_eq(client_call(&client, command, payload, sizeof(payload)), -EINVAL, "command %u", command);
		cr_expect(client_dropped(&client));
		close_client();
	}
}

Test(testdev_version, second_one_is_refused_and_changes_nothing)
{
	open_default();
	cr_expect_eq(client_greet(&client, "{}"), -EINVAL);
	cr_expect(client_alive(&client));
	close_client();
}

Test(testdev_version, file_descriptors_with_it_end_the_connection)
{
	const struct vu_version version = {.minor = 1};
	client_start(&client, NULL);
	int fd = eventfd_new();
	cr_expect_eq(client_call_fds(&client, VU_VERSION, &version, sizeof(version), &fd, 1), -EINVAL);
	close(fd);
	close_client();
}

Test(testdev_version, twin_socket_is_made_for_those_who_take_it)
{
	client_start(&client, NULL);
	cr_assert_eq(
		client_greet(&client, "{\"capabilities\":{\"max_msg_fds\":1,\"twin_socket\":{\"supported\":true}}}"),
		0);
	cr_expect_geq(client.twin, 0);
	cr_expect(client_alive(&client));
	close_client();
}

Test(testdev_version, twin_socket_is_not_made_where_the_server_has_none)
{
	client_start(&client, &(struct testdev_options){.no_twin_socket = true});
	cr_assert_eq(client_greet(&client, "{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}"), 0);
	cr_expect_lt(client.twin, 0);
	close_client();
}

/* ---- Framing ---- */

TestSuite(testdev_framing, .init = open_default, .fini = close_client, .timeout = 60);

Test(testdev_framing, message_in_single_bytes_is_one_message)
{
	const struct {
		struct vu_header header;
		struct vu_info info;
	} message = {{.id = 77, .command = VU_GET_INFO, .bytes = sizeof(message)}, {.argsz = sizeof(message.info)}};
	for (size_t i = 0; i < sizeof(message); i++)
		client_send(&client, (const uint8_t *)&message + i, 1, NULL, 0);
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_eq(answer.header.id, 77);
	cr_expect_eq(answer.header.flags, VU_TYPE_REPLY);
	cr_expect_eq(answer.bytes, sizeof(struct vu_info));
}

Test(testdev_framing, many_messages_at_once_are_answered_in_order)
{
	enum { MANY = 500 };
	const struct vu_info info = {.argsz = sizeof(info)};
	static uint8_t messages[MANY][sizeof(struct vu_header) + sizeof(struct vu_info)];
	for (unsigned i = 0; i < MANY; i++) {
		const struct vu_header header = {
			.id = (uint16_t)(3 * i), .command = VU_GET_INFO, .bytes = sizeof(messages[0])};
		memcpy(messages[i], &header, sizeof(header));
		memcpy(messages[i] + sizeof(header), &info, sizeof(info));
	}
	client_send(&client, messages, sizeof(messages), NULL, 0);
	for (unsigned i = 0; i < MANY; i++) {
		cr_assert_eq(client_receive(&client), 1);
		cr_assert_eq(answer.header.id, (uint16_t)(3 * i));
	}
}

Test(testdev_framing, file_descriptors_stay_with_their_message_when_messages_come_together)
{
	/* No fd, fd, no fd, fd, in four sends that the server may read as one. */
	int fds[2] = {eventfd_new(), eventfd_new()};
	struct {
		struct vu_header header;
		struct vu_irq_set set;
	} arm = {{.command = VU_SET_IRQS, .bytes = sizeof(arm)},
		 {.argsz = sizeof(arm.set),
		  .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		  .index = VFIO_PCI_MSIX_IRQ_INDEX,
		  .count = 1}};
	client_enable(&client);
	for (unsigned i = 0; i < 2; i++) {
		const struct vu_info info = {.argsz = sizeof(info)};
		client_post(&client, VU_GET_INFO, 0, &info, sizeof(info), NULL, 0);
		arm.header.id = (uint16_t)(1000 + i);
		arm.set.start = i;
		client_send(&client, &arm, sizeof(arm), &fds[i], 1);
	}
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(client_receive(&client), 1);
		cr_assert_eq(answer.header.flags, VU_TYPE_REPLY, "message %u", answer.header.id);
	}
	for (unsigned i = 0; i < 2; i++) {
		set_reg(&client, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, i));
		cr_expect_eq(client_wait_eventfd(fds[i]), 1);
		close(fds[i]);
	}
}

/* The same below the server, where all of it is there before the first read. */
Test(testdev_framing, file_descriptors_belong_to_the_message_that_they_were_sent_with)
{
	const struct vu_header header = {.command = VU_GET_INFO, .bytes = sizeof(header)};
	struct link link;
	int pair[2], fd = eventfd_new(), main_fd = client.fd;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(link_init(&link, pair[1], 4096), 0);
	client.fd = pair[0];
	for (unsigned i = 0; i < 6; i++)
		client_send(&client, &header, sizeof(header), &fd, i % 2);
	client.fd = main_fd;
	for (unsigned i = 0; i < 6;) {
		struct message *message;
		struct vu_header bad;
		int code = link_next(&link, &message, &bad);
		if (code == 0) {
			cr_assert_eq(link_fill(&link), 0);
			continue;
		}
		cr_assert_eq(code, 1);
		cr_expect_eq(message->fd_count, i % 2, "message %u has %u", i, message->fd_count);
		message_free(message);
		i++;
	}
	link_finish(&link);
	close(pair[0]);
	close(fd);
}

static void send_header(uint32_t bytes, uint32_t flags)
{
	const struct vu_header header = {.id = 9, .command = VU_GET_INFO, .bytes = bytes, .flags = flags};
	client_send(&client, &header, sizeof(header), NULL, 0);
}

Test(testdev_framing, size_below_the_header_ends_the_connection)
{
	send_header(15, 0);
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_eq(answer.header.error, EPROTO);
	cr_expect_eq(answer.header.id, 9);
	cr_expect(client_dropped(&client));
	cr_expect_eq(client_leave(&client), -EPROTO);
}

Test(testdev_framing, size_of_zero_ends_the_connection)
{
	send_header(0, 0);
	cr_expect(client_dropped(&client));
}

Test(testdev_framing, size_beyond_every_limit_ends_the_connection)
{
	send_header(UINT32_MAX, 0);
	cr_expect(client_dropped(&client));
	cr_expect_eq(client_leave(&client), -EPROTO);
}

Test(testdev_framing, client_that_leaves_in_the_middle_of_a_message_is_let_go)
{
	send_header(1000, 0);
	cr_expect_eq(client_leave(&client), 0);
	client_return(&client);
	cr_expect(client_alive(&client));
}

Test(testdev_framing, more_file_descriptors_than_a_message_has_are_closed)
{
	int fds[VU_FDS_MAX];
	const struct vu_info info = {.argsz = sizeof(info)};
	for (unsigned i = 0; i < VU_FDS_MAX; i++)
		fds[i] = client.stop;
	cr_expect_eq(client_call_fds(&client, VU_GET_INFO, &info, sizeof(info), fds, VU_FDS_MAX), -EINVAL);
	cr_expect(client_alive(&client));
}

Test(testdev_framing, reply_to_nothing_is_recorded_and_ignored)
{
	client_post(&client, VU_DMA_READ, VU_TYPE_REPLY, "0123456789abcdef", 16, NULL, 0);
	cr_expect_eq(client_violations(&client, TD_BAD_MESSAGE), 1);
}

Test(testdev_framing, unknown_message_type_is_recorded_and_ignored)
{
	send_header(sizeof(struct vu_header), 7);
	cr_expect_eq(client_violations(&client, TD_BAD_MESSAGE), 1);
}

Test(testdev_framing, command_without_reply_gets_none_even_if_it_fails)
{
	client_post(&client, VU_GET_INFO, VU_FLAG_NO_REPLY, "x", 1, NULL, 0);
	client_post(&client, VU_RESET, VU_FLAG_NO_REPLY, NULL, 0, NULL, 0);
	cr_expect(client_alive(&client), "the first reply is to this");
	cr_expect_eq(client.device->resets_command, 1);
}

Test(testdev_framing, client_that_reads_no_replies_does_not_stop_the_server)
{
	/* More replies than the socket and the server hold; then it must go on as the client reads. */
	enum { MANY = 64, BYTES = 256 * 1024 };
	const struct vu_region_access access = {.region = TD_BAR_MEMORY, .count = BYTES};
	client_enable(&client);
	for (unsigned i = 0; i < MANY; i++)
		client_post(&client, VU_REGION_READ, 0, &access, sizeof(access), NULL, 0);
	for (unsigned i = 0; i < MANY; i++) {
		cr_assert_eq(client_receive(&client), 1);
		cr_assert_eq(answer.bytes, sizeof(access) + BYTES);
	}
	cr_expect(client_alive(&client));
}

/* ---- Payloads ---- */

/* A sound request of each command; those without one need no payload. */
struct sample {
	uint16_t command;
	size_t fixed; /* bytes that must be there */
	size_t bytes; /* of the whole payload */
	bool exact;   /* one byte more is wrong */
	union {
		struct vu_dma_map map;
		struct vu_dma_unmap unmap;
		struct vu_info info;
		struct vu_region_info region;
		struct vu_region_io_fds io_fds;
		struct vu_irq_info irq;
		struct vu_irq_set irqs;
		struct vu_region_access access;
		struct vu_feature feature;
		struct {
			struct vu_write_multi multi;
			struct vu_one_write one;
		} writes;
		struct vu_mig_data data;
		uint8_t bytes[256];
	} payload;
};

static const struct sample samples[] = {
	{VU_DMA_MAP,
	 32,
	 32,
	 false,
	 {.map = {.argsz = 32, .flags = VU_DMA_READABLE, .address = 0x10000000, .bytes = 0x1000}}},
	{VU_GET_INFO, 16, 16, false, {.info = {.argsz = 16}}},
	{VU_GET_REGION_INFO, 32, 32, false, {.region = {.argsz = 32}}},
	{VU_GET_REGION_IO_FDS, 16, 16, false, {.io_fds = {.argsz = 1024}}},
	{VU_GET_IRQ_INFO, 16, 16, false, {.irq = {.argsz = 16}}},
	{VU_SET_IRQS,
	 20,
	 20,
	 true,
	 {.irqs = {.argsz = 20, .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, .index = 2}}},
	{VU_REGION_READ, 16, 16, false, {.access = {.region = 7, .count = 4}}},
	{VU_REGION_WRITE, 16, 20, true, {.access = {.region = 7, .offset = 0x3c, .count = 4}}},
	{VU_REGION_WRITE_MULTI,
	 32,
	 32,
	 true,
	 {.writes = {.multi = {.writes = 1}, .one = {.region = 7, .offset = 0x3c, .count = 1}}}},
	{VU_FEATURE, 8, 8, false, {.feature = {.argsz = 16, .flags = VU_FEATURE_GET | VU_FEATURE_MIGRATION}}},
};

Test(testdev_framing, every_command_too_short_is_an_error_and_nothing_more)
{
	for (unsigned i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		const struct sample *sample = &samples[i];
		for (size_t bytes = 0; bytes < sample->fixed; bytes++)
			cr_expect_eq(client_call(&client, sample->command, &sample->payload, bytes), -EINVAL,
				     "command %u with %zu bytes", sample->command, bytes);
		cr_expect_eq(client_call(&client, sample->command, &sample->payload, sample->bytes), 0,
			     "command %u as it should be", sample->command);
	}
	cr_expect(client_alive(&client));
}

Test(testdev_framing, command_whose_length_follows_from_its_numbers_must_have_it)
{
	for (unsigned i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		const struct sample *sample = &samples[i];
		if (sample->exact)
			cr_expect_eq(client_call(&client, sample->command, &sample->payload, sample->bytes + 1),
				     -EINVAL, "command %u", sample->command);
	}
	cr_expect_eq(client_call(&client, VU_RESET, "x", 1), -EINVAL);
}

Test(testdev_framing, argsz_below_the_structure_is_an_error)
{
	for (unsigned i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		struct sample sample = samples[i];
		if (sample.command == VU_REGION_READ || sample.command == VU_REGION_WRITE ||
		    sample.command == VU_REGION_WRITE_MULTI)
			continue;
		memset(sample.payload.bytes, 0, 4);
		cr_expect_eq(client_call(&client, sample.command, &sample.payload, sample.bytes), -EINVAL, "command %u",
			     sample.command);
	}
}

Test(testdev_framing, file_descriptors_beside_a_command_that_takes_none_are_refused_and_closed)
{
	for (unsigned i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		const struct sample *sample = &samples[i];
		if (sample->command == VU_DMA_MAP)
			continue;
		cr_expect_eq(
			client_call_fds(&client, sample->command, &sample->payload, sample->bytes, &client.stop, 1),
			-EINVAL, "command %u", sample->command);
	}
}

Test(testdev_framing, commands_that_do_not_exist_are_refused)
{
	static const uint16_t commands[] = {0, VU_DMA_READ, VU_DMA_WRITE, 14, VU_COMMANDS, 1000, UINT16_MAX};
	uint8_t payload[32] = {32};
	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		cr_expect_eq(client_call(&client, commands[i], payload, sizeof(payload)), -ENOTSUP, "command %u",
			     commands[i]);
	cr_expect(client_alive(&client));
}

Test(testdev_framing, indexes_that_do_not_exist_are_refused)
{
	const struct vu_region_info region = {.argsz = sizeof(region), .index = 9};
	const struct vu_irq_info irq = {.argsz = sizeof(irq), .index = 5};
	const struct vu_region_io_fds io_fds = {.argsz = 1024, .index = UINT32_MAX};
	cr_expect_eq(client_call(&client, VU_GET_REGION_INFO, &region, sizeof(region)), -EINVAL);
	cr_expect_eq(client_call(&client, VU_GET_IRQ_INFO, &irq, sizeof(irq)), -EINVAL);
	cr_expect_eq(client_call(&client, VU_GET_REGION_IO_FDS, &io_fds, sizeof(io_fds)), -EINVAL);
	cr_expect_eq(client_access(&client, VU_REGION_READ, 8, 0, 4), -EINVAL, "VGA is not implemented");
	cr_expect_eq(client_access(&client, VU_REGION_READ, 1, 0, 4), -EINVAL, "the upper half of a BAR is none");
	cr_expect_eq(client_access(&client, VU_REGION_READ, UINT32_MAX, 0, 4), -EINVAL);
}

Test(testdev_framing, accesses_beyond_a_region_are_refused)
{
	static const struct {
		uint64_t offset;
		uint32_t count;
	} cases[] = {{0x3ffe, 4},         {0x4000, 4}, {0, 0},         {UINT64_MAX, 4},
		     {UINT64_MAX - 3, 4}, {0, 0x4001}, {1ull << 32, 1}};
	client_enable(&client);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(client_access(&client, VU_REGION_READ, TD_BAR_REGISTERS, cases[i].offset, cases[i].count),
			     -EINVAL, "case %u", i);
		if (cases[i].count <= 4)
			cr_expect_eq(client_access(&client, VU_REGION_WRITE, TD_BAR_REGISTERS, cases[i].offset,
						   cases[i].count),
				     -EINVAL, "case %u", i);
	}
}

Test(testdev_framing, reads_larger_than_agreed_are_refused)
{
	cr_expect_eq(client_access(&client, VU_REGION_READ, TD_BAR_MEMORY, 0, UINT32_MAX), -EINVAL);
	cr_expect_eq(client_access(&client, VU_REGION_READ, TD_BAR_MEMORY, 0, VU_DEFAULT_DATA_BYTES + 1), -EINVAL);
}

Test(testdev_framing, rom_cannot_be_written)
{
	cr_expect_eq(client_access(&client, VU_REGION_WRITE, VFIO_PCI_ROM_REGION_INDEX, 0, 4), -EPERM);
}

Test(testdev_framing, coalesced_writes_with_wrong_counts_are_refused)
{
	struct {
		struct vu_write_multi multi;
		struct vu_one_write one[2];
	} payload = {.multi = {.writes = 3}, .one = {{.region = 7, .count = 1}, {.region = 7, .count = 1}}};
	cr_expect_eq(client_call(&client, VU_REGION_WRITE_MULTI, &payload, sizeof(payload)), -EINVAL);
	payload.multi.writes = 0;
	cr_expect_eq(client_call(&client, VU_REGION_WRITE_MULTI, &payload, sizeof(payload)), -EINVAL);
	payload.multi.writes = UINT64_MAX / sizeof(payload.one[0]) + 3; /* wraps to 2 where it is multiplied */
	cr_expect_eq(client_call(&client, VU_REGION_WRITE_MULTI, &payload, sizeof(payload)), -EINVAL);
	payload.multi.writes = 2;
	payload.one[0].count = 9;
	cr_expect_eq(client_call(&client, VU_REGION_WRITE_MULTI, &payload, sizeof(payload)), -EINVAL);
}

Test(testdev_framing, coalesced_writes_end_at_the_first_that_fails)
{
	struct {
		struct vu_write_multi multi;
		struct vu_one_write one[3];
	} payload = {.multi = {.writes = 3},
		     .one = {{.region = 7, .offset = 0x3c, .count = 1, .data = {0x55}},
			     {.region = 8, .count = 1},
			     {.region = 7, .offset = 0x3c, .count = 1, .data = {0x66}}}};
	uint64_t done;
	cr_assert_eq(client_call(&client, VU_REGION_WRITE_MULTI, &payload, sizeof(payload)), 0);
	memcpy(&done, answer.payload, sizeof(done));
	cr_expect_eq(done, 1);
	cr_expect_eq(client_read(&client, 7, 0x3c, 1), 0x55);
}

Test(testdev_framing, flags_that_must_be_zero_are_checked)
{
	const struct vu_region_io_fds flags = {.argsz = 1024, .flags = 1};
	const struct vu_region_io_fds count = {.argsz = 1024, .count = 1};
	cr_expect_eq(client_call(&client, VU_GET_REGION_IO_FDS, &flags, sizeof(flags)), -EINVAL);
	cr_expect_eq(client_call(&client, VU_GET_REGION_IO_FDS, &count, sizeof(count)), -EINVAL);
}

/* ---- Features ---- */

static int feature(uint32_t flags, const void *data, size_t bytes)
{
	uint8_t payload[512] = {0};
	const struct vu_feature head = {.argsz = sizeof(payload), .flags = flags};
	memcpy(payload, &head, sizeof(head));
	if (bytes)
		memcpy(payload + sizeof(head), data, bytes);
	return client_call(&client, VU_FEATURE, payload, sizeof(head) + bytes);
}

Test(testdev_framing, features_that_do_not_exist_are_refused_without_a_record)
{
	cr_expect_eq(feature(VU_FEATURE_GET | 0, NULL, 0), -ENOTTY);
	cr_expect_eq(feature(VU_FEATURE_PROBE | VU_FEATURE_GET | 5, NULL, 0), -ENOTTY);
	cr_expect_eq(feature(VU_FEATURE_SET | 0xffff, NULL, 0), -ENOTTY);
	cr_expect_eq(client_violations(&client, TD_BAD_MESSAGE), 0, "asking is allowed");
}

Test(testdev_framing, features_are_probed_by_method)
{
	cr_expect_eq(feature(VU_FEATURE_PROBE | VU_FEATURE_GET | VU_FEATURE_SET | VU_FEATURE_STATE, NULL, 0), 0);
	cr_expect_eq(feature(VU_FEATURE_PROBE | VU_FEATURE_SET | VU_FEATURE_MIGRATION, NULL, 0), -ENOTTY);
	cr_expect_eq(feature(VU_FEATURE_PROBE | VU_FEATURE_SET | VU_FEATURE_LOG_START, NULL, 0), 0);
	cr_expect_eq(feature(VU_FEATURE_GET | VU_FEATURE_SET | VU_FEATURE_STATE, NULL, 0), -EINVAL, "both at once");
	cr_expect_eq(feature(VU_FEATURE_STATE, NULL, 0), -EINVAL, "neither");
	cr_expect_eq(feature(1u << 20 | VU_FEATURE_GET | VU_FEATURE_STATE, NULL, 0), -EINVAL, "an unknown method");
}

Test(testdev_framing, feature_reply_that_does_not_fit_is_refused)
{
	const struct vu_feature head = {.argsz = sizeof(head) + 4, .flags = VU_FEATURE_GET | VU_FEATURE_MIGRATION};
	cr_expect_eq(client_call(&client, VU_FEATURE, &head, sizeof(head)), -EINVAL);
}

Test(testdev_framing, feature_data_that_is_too_short_is_refused)
{
	cr_expect_eq(feature(VU_FEATURE_SET | VU_FEATURE_STATE, "\2\0\0\0", 4), -EINVAL);
	cr_expect_eq(feature(VU_FEATURE_SET | VU_FEATURE_LOG_START, "\0\20\0\0\0\0\0\0", 8), -EINVAL);
	cr_expect_eq(feature(VU_FEATURE_GET | VU_FEATURE_LOG_REPORT, NULL, 0), -EINVAL);
}

Test(testdev_framing, without_migration_its_features_and_messages_are_not_there)
{
	client_close(&client);
	client_open(&client, &(struct testdev_options){.no_migration = true});
	const struct vu_mig_data read = {.argsz = 1024, .bytes = 512};
	cr_expect_eq(feature(VU_FEATURE_GET | VU_FEATURE_MIGRATION, NULL, 0), -ENOTTY);
	cr_expect_eq(feature(VU_FEATURE_SET | VU_FEATURE_LOG_STOP, NULL, 0), -ENOTTY);
	cr_expect_eq(client_call(&client, VU_MIG_DATA_READ, &read, sizeof(read)), -EINVAL);
}

/* ---- The end ---- */

Test(testdev_framing, server_ends_when_it_is_told_to)
{
	const uint64_t one = 1;
	cr_assert_eq(write(client.stop, &one, sizeof(one)), sizeof(one));
	cr_expect(client_dropped(&client));
	cr_expect_eq(client_leave(&client), -EINTR);
}

Test(testdev_framing, device_keeps_its_state_for_the_next_client)
{
	client_enable(&client);
	set_reg64(&client, TD_SCRATCH, 0x1122334455667788);
	client_leave(&client);
	client_return(&client);
	cr_expect_eq(reg64(&client, TD_SCRATCH), 0x1122334455667788);
	cr_expect_eq(reg(&client, TD_CONNECTIONS), 2);
}
