// SPDX-License-Identifier: MIT
/* The test device's faults on demand: each kind, when it happens, and how it is asked for. */
#include <errno.h>
#include <linux/vfio.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "testdev_client.h"

TestSuite(testdev_faults, .timeout = 60);

static struct client client;

/* A device with these faults, and the version agreed on. */
static void open_with(const char *first, const char *second)
{
	struct testdev_options options = {0};
	const char *const texts[] = {first, second};
	for (unsigned i = 0; i < 2 && texts[i]; i++)
		cr_assert_eq(fault_parse(texts[i], &options.faults[options.fault_count++], NULL), 0, "%s", texts[i]);
	client_open(&client, &options);
}

static bool is_silent(void)
{
	struct pollfd poll_fd = {.fd = client.fd, .events = POLLIN};
	return poll(&poll_fd, 1, 200) == 0;
}

static uint16_t ask(void)
{
	const struct vu_info info = {.argsz = sizeof(info)};
	return client_post(&client, VU_GET_INFO, 0, &info, sizeof(info), NULL, 0);
}

static int read_config(void)
{
	return client_access(&client, VU_REGION_READ, VFIO_PCI_CONFIG_REGION_INDEX, 0, 4);
}

Test(testdev_faults, error_is_the_reply_and_nothing_is_done)
{
	open_with("error=16@reset", NULL);
	cr_expect_eq(client_call(&client, VU_RESET, NULL, 0), -EBUSY);
	cr_expect_eq(client.device->resets_command, 0);
	cr_expect_eq(client_call(&client, VU_RESET, NULL, 0), 0, "once");
	client_close(&client);
}

Test(testdev_faults, nth_message_of_a_command_is_meant)
{
	open_with("error@region-read#3", NULL);
	cr_expect_eq(read_config(), 0);
	cr_expect(client_alive(&client));
	cr_expect_eq(read_config(), 0);
	cr_expect_eq(read_config(), -EIO);
	cr_expect_eq(read_config(), 0);
	client_close(&client);
}

Test(testdev_faults, nth_message_of_all_is_meant)
{
	open_with("error@#3", NULL);
	cr_expect(client_alive(&client));
	cr_expect_eq(read_config(), -EIO, "the version was the first");
	client_close(&client);
}

Test(testdev_faults, every_message_is_meant)
{
	client_start(&client,
		     &(struct testdev_options){.fault_count = 1, .faults = {{.kind = FAULT_ERROR, .value = EIO}}});
	cr_expect_eq(client_greet(&client, "{}"), -EIO);
	client_close(&client);
}

Test(testdev_faults, stall_ends_after_its_time)
{
	/* Both in one send, so that the server has the second one already when it stalls. */
	struct {
		struct vu_header header;
		struct vu_info info;
	} messages[2] = {{{.id = 1000, .command = VU_GET_INFO, .bytes = sizeof(messages[0])}, {.argsz = 16}},
			 {{.id = 1001, .command = VU_GET_INFO, .bytes = sizeof(messages[0])}, {.argsz = 16}}};
	open_with("stall=300@info", NULL);
	uint64_t before_ns = now_ns();
	client_send(&client, messages, sizeof(messages), NULL, 0);
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_eq(answer.header.id, 1000, "what stalls is answered; what comes next waits");
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_eq(answer.header.id, 1001);
	cr_expect_geq(now_ns() - before_ns, UINT64_C(300000000));
	client_close(&client);
}

Test(testdev_faults, stall_for_ever_lets_the_client_leave)
{
	open_with("stall@#2", NULL);
	ask();
	cr_assert_eq(client_receive(&client), 1);
	ask();
	cr_expect(is_silent());
	cr_expect_eq(client_leave(&client), 0);
	client_close(&client);
}

Test(testdev_faults, wrong_size_is_shorter_or_longer_and_framed_rightly)
{
	open_with("wrong-size=-4@info#1", "wrong-size=100@info#2");
	cr_expect_eq(client_alive(&client), true);
	cr_expect_eq(answer.bytes, sizeof(struct vu_info) - 4);
	cr_expect_eq(client_alive(&client), true);
	cr_expect_eq(answer.bytes, sizeof(struct vu_info) + 100);
	cr_expect_eq(client_alive(&client), true);
	cr_expect_eq(answer.bytes, sizeof(struct vu_info));
	client_close(&client);
}

Test(testdev_faults, wrong_size_is_never_less_than_nothing)
{
	open_with("wrong-size=-2000@info", NULL);
	cr_expect_eq(client_alive(&client), true);
	cr_expect_eq(answer.bytes, 0);
	client_close(&client);
}

Test(testdev_faults, short_reply_ends_in_the_middle)
{
	open_with("short=3@info", NULL);
	ask();
	cr_expect_eq(client_receive(&client), 0, "the end comes before the whole reply");
	client_close(&client);
}

Test(testdev_faults, reply_has_another_id)
{
	open_with("wrong-id@info", NULL);
	uint16_t id = ask();
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_neq(answer.header.id, id);
	client_close(&client);
}

Test(testdev_faults, reply_names_another_command)
{
	open_with("wrong-command@info", NULL);
	ask();
	cr_assert_eq(client_receive(&client), 1);
	cr_expect_neq(answer.header.command, VU_GET_INFO);
	client_close(&client);
}

Test(testdev_faults, silence_is_no_reply_to_what_is_done)
{
	open_with("silence@reset", NULL);
	client_post(&client, VU_RESET, 0, NULL, 0, NULL, 0);
	cr_expect(is_silent());
	cr_expect(client_alive(&client), "the next reply is to the next command");
	cr_expect_eq(client.device->resets_command, 1);
	client_close(&client);
}

Test(testdev_faults, reply_comes_twice)
{
	open_with("twice@info", NULL);
	uint16_t id = ask();
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(client_receive(&client), 1);
		cr_expect_eq(answer.header.id, id);
	}
	client_close(&client);
}

Test(testdev_faults, disconnect_comes_before_the_command)
{
	open_with("disconnect@reset", NULL);
	cr_expect_eq(client_call(&client, VU_RESET, NULL, 0), -ECONNRESET);
	cr_expect_eq(client.device->resets_command, 0);
	client_close(&client);
}

Test(testdev_faults, vanishing_comes_after_the_command)
{
	open_with("vanish@reset", NULL);
	cr_expect_eq(client_call(&client, VU_RESET, NULL, 0), -ECONNRESET);
	client_leave(&client);
	cr_expect_eq(client.device->resets_command, 1);
	client_close(&client);
}

Test(testdev_faults, new_connection_counts_from_the_start)
{
	open_with("disconnect@info#2", NULL);
	cr_expect(client_alive(&client));
	cr_expect_eq(client_alive(&client), false);
	client_leave(&client);
	client_return(&client);
	cr_expect(client_alive(&client));
	cr_expect_eq(client_alive(&client), false);
	client_close(&client);
}

Test(testdev_faults, wishes_that_make_no_sense_are_refused_with_the_reason)
{
	static const char *const texts[] = {
		"",
		"error",
		"@info",
		"error@",
		"error@nothing",
		"erro@info",
		"errors@info",
		"error=@info",
		"error=x@info",
		"error=5x@info",
		"error@info#",
		"error@info#0",
		"error@info#x",
		"error@#",
		"error@**",
	};
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct fault fault;
		struct tenon_error error = {0};
		cr_expect_eq(fault_parse(texts[i], &fault, &error), -EINVAL, "%s", texts[i]);
		cr_expect(strstr(error.message, "README.md"), "%s", error.message);
	}
}
