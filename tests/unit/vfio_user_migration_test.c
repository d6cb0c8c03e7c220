// SPDX-License-Identifier: MIT
/*
 * A vfio-user device moves: its features, its data, and the pages that are written for it, with the test device at the other end, and
 * with servers that speak otherwise or lie.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <tenon/migration.h>

#include "descriptors.h"
#include "space_users.h"
#include "users_dirty.h"
#include "vfio_user_fixture.h"
#include "vfio_user_migration.h"
#include "vfio_user_socket.h"

TestSuite(vfio_user_migration, .init = fake_world_reset, .timeout = 120);
TestSuite(vfio_user_migration_server, .init = fake_world_reset, .timeout = 60);

#define PAGE 4096u

static void set_state(struct fixture *fixture, enum tenon_migration_state state)
{
	int code = tenon_device_migration_set(fixture->device, state, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
}

/* ---- What it can ---- */

static struct tenon_migration_info info_of(const struct testdev_options *options)
{
	struct fixture fixture;
	struct tenon_migration_info info = {.size = sizeof(info)};
	fake_world_reset();
	open_one(&fixture, options, true);
	cr_assert_eq(tenon_device_migration_info(fixture.device, &info, NULL), 0);
	close_one(&fixture);
	return info;
}

Test(vfio_user_migration, tells_what_its_server_can)
{
	struct tenon_migration_info info = info_of(NULL);
	cr_expect(info.migratable && info.p2p && info.pre_copy);
	cr_expect_eq(info.dirty, TENON_DIRTY_DEVICE);
	cr_expect_str_empty(info.why);
	info = info_of(&(struct testdev_options){.no_p2p = true});
	cr_expect(info.migratable && !info.p2p && info.pre_copy);
	info = info_of(&(struct testdev_options){.no_pre_copy = true});
	cr_expect(info.migratable && info.p2p && !info.pre_copy);
	info = info_of(&(struct testdev_options){.no_logging = true});
	cr_expect(info.migratable);
	cr_expect_eq(info.dirty, TENON_DIRTY_NONE);
	cr_expect_neq(info.why[0], 0);
	info = info_of(&(struct testdev_options){.no_migration = true});
	cr_expect_not(info.migratable);
}

/* ---- From one to another ---- */

static void open_pair(struct fixture *from, struct fixture *to, const struct testdev_options *options)
{
	server_start(&servers[0], options);
	server_start(&servers[1], options);
	space_init(from, 1, true);
	space_init(to, 1, true);
	const struct tenon_device_options first = options_for(from, 0), second = options_for(to, 1);
	cr_assert_eq(try_open(from, &first), 0, "%s", from->err.message);
	cr_assert_eq(try_open(to, &second), 0, "%s", to->err.message);
	place(from);
}

static void close_pair(struct fixture *from, struct fixture *to)
{
	from->host.device = NULL;
	tenon_device_close(from->device);
	tenon_space_destroy(from->space);
	fixture_close(to);
	server_finish(&servers[0]);
	server_finish(&servers[1]);
}

/* @return bytes that went over */
static uint64_t carry(struct fixture *from, struct fixture *to, size_t piece)
{
	static uint8_t data[1 << 20];
	uint64_t total = 0;
	for (int64_t got = 1; got > 0; total += (uint64_t)got) {
		got = tenon_device_migration_read(from->device, data, piece, &from->err);
		cr_assert_geq(got, 0, "%s", from->err.message);
		cr_assert_leq(got, (int64_t)piece);
		if (got)
			cr_assert_eq(tenon_device_migration_write(to->device, data, (size_t)got, &to->err), 0, "%s",
				     to->err.message);
	}
	return total;
}

static void carry_state(struct fixture *from, struct fixture *to)
{
	void *data;
	size_t bytes;
	cr_assert_eq(tenon_device_state_save(from->device, &data, &bytes, &from->err), 0, "%s", from->err.message);
	cr_assert_eq(tenon_device_state_load(to->device, data, bytes, &to->err), 0, "%s", to->err.message);
	free(data);
}

static void arm(struct fixture *fixture, unsigned vector, uint32_t data, bool masked)
{
	set_reg64(fixture, TD_MSIX_TABLE + 16 * vector, MESSAGE_ADDRESS);
	set_reg64(fixture, TD_MSIX_TABLE + 16 * vector + 8, (uint64_t)masked << 32 | data);
}

static void moves(const struct testdev_options *options, size_t piece)
{
	struct fixture from, to;
	fake_world_reset();
	open_pair(&from, &to, options);
	set_reg64(&from, TD_SCRATCH, 0x1122334455667788);
	memset(host_mapped(&from.host, MEMORY_GPA), 0x5a, PAGE);
	arm(&from, 3, 0x103, false);
	arm(&from, 4, 0x104, true);
	guest_msix_control(&from, true, false);
	set_reg(&from, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, 3)); /* the event loop does not come to it here */
	set_reg(&from, TD_BLOCK_CHANGE, 3);

	uint32_t block = reg(&from, TD_BLOCK_CHECKSUM);
	set_state(&to, TENON_MIGRATION_RESUMING);
	uint64_t pre_copied = 0;
	if (!options || !options->no_pre_copy) {
		set_state(&from, TENON_MIGRATION_PRE_COPY);
		pre_copied = carry(&from, &to, piece);
		cr_expect_geq(pre_copied, servers[0].device->migration.block_bytes);
	}
	set_state(&from, TENON_MIGRATION_STOP_COPY);
	cr_expect_geq(carry(&from, &to, piece), TD_MEMORY_BYTES);
	set_state(&to, TENON_MIGRATION_STOP);
	carry_state(&from, &to);
	for (unsigned at = 0; at < 4096; at += 4)
		cr_assert_eq(guest_config(&from, at, 4), guest_config(&to, at, 4), "config space at 0x%x", at);
	set_state(&to, TENON_MIGRATION_RUNNING);

	cr_expect_eq(guest_bar(&to, TD_BAR_REGISTERS, TD_SCRATCH, 8), 0x1122334455667788);
	cr_expect_eq(reg(&to, TD_BLOCK_CHECKSUM), block);
	cr_assert_not_null(host_mapped(&to.host, MEMORY_GPA));
	cr_expect_eq(host_mapped(&to.host, MEMORY_GPA)[PAGE - 1], 0x5a);
	cr_expect_eq(host_messages(&to.host, 0x103), 1, "an interrupt is lost, or comes twice");
	set_reg(&to, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, 3));
	cr_expect_eq(host_messages(&to.host, 0x103), 2);
	set_reg(&to, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, 4));
	cr_expect_eq(host_messages(&to.host, 0x104), 0);
	set_reg64(&to, TD_MSIX_TABLE + 16 * 4 + 8, 0x104);
	cr_expect_eq(host_messages(&to.host, 0x104), 1);
	cr_expect_eq(reg(&to, TD_VIOLATIONS), 0, "kinds %x", reg(&to, TD_VIOLATION_KINDS));
	set_state(&from, TENON_MIGRATION_STOP);
	cr_expect_eq(servers[0].device->journal.count, 0, "the device that stopped was touched");
	close_pair(&from, &to);
}

Test(vfio_user_migration, moves_with_all_that_it_has)
{
	moves(NULL, 1 << 20);
}

Test(vfio_user_migration, moves_in_small_pieces)
{
	moves(NULL, 1000);
}

Test(vfio_user_migration, moves_in_messages_as_large_as_its_server_takes)
{
	moves(&(struct testdev_options){.data_bytes = 8192}, 1 << 20);
}

Test(vfio_user_migration, moves_without_pre_copy_and_p2p)
{
	moves(&(struct testdev_options){.no_pre_copy = true, .no_p2p = true}, 65536);
}

Test(vfio_user_migration, goes_on_at_the_source_when_it_does_not_move)
{
	struct fixture fixture;
	open_one(&fixture, NULL, true);
	arm(&fixture, 3, 0x103, false);
	guest_msix_control(&fixture, true, false);
	set_state(&fixture, TENON_MIGRATION_STOP_COPY);
	void *data;
	size_t bytes;
	cr_assert_eq(tenon_device_state_save(fixture.device, &data, &bytes, NULL), 0);
	free(data);
	set_state(&fixture, TENON_MIGRATION_RUNNING);
	set_reg(&fixture, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, 3));
	cr_expect_eq(host_messages(&fixture.host, 0x103), 1);
	cr_expect_eq(reg(&fixture, TD_VIOLATIONS), 0);
	close_one(&fixture);
}

Test(vfio_user_migration, says_how_much_is_left)
{
	struct fixture fixture;
	static uint8_t data[1 << 20];
	uint64_t initial, dirty, size;
	open_one(&fixture, NULL, true);
	set_state(&fixture, TENON_MIGRATION_PRE_COPY);
	cr_assert_eq(tenon_device_migration_pre_copy(fixture.device, &initial, &dirty, NULL), 0);
	cr_expect_geq(initial, servers[0].device->migration.block_bytes);
	cr_expect_eq(dirty, 0);
	while (tenon_device_migration_read(fixture.device, data, sizeof(data), NULL) > 0)
		;
	cr_assert_eq(tenon_device_migration_pre_copy(fixture.device, &initial, &dirty, NULL), 0);
	cr_expect_eq(initial, 0, "it is all there");
	cr_expect_eq(dirty, 0);
	set_reg(&fixture, TD_BLOCK_CHANGE, 2);
	cr_assert_eq(tenon_device_migration_pre_copy(fixture.device, &initial, &dirty, NULL), 0);
	cr_expect_eq(initial, 0);
	cr_expect(dirty >= 2 * PAGE && dirty < 3 * PAGE, "%llu", (unsigned long long)dirty);
	cr_assert_eq(tenon_device_migration_size(fixture.device, &size, NULL), 0);
	cr_expect_gt(size, TD_MEMORY_BYTES);
	/* Another session starts afresh. */
	set_state(&fixture, TENON_MIGRATION_RUNNING);
	set_state(&fixture, TENON_MIGRATION_PRE_COPY);
	cr_assert_eq(tenon_device_migration_pre_copy(fixture.device, &initial, &dirty, NULL), 0);
	cr_expect_gt(initial, 0);
	close_one(&fixture);
}

/* ---- Written pages ---- */

#define RAM_WORDS (RAM_BYTES / PAGE / 64)

static unsigned count_bits(const uint64_t *bitmap)
{
	unsigned count = 0;
	for (unsigned i = 0; i < RAM_WORDS; i++)
		count += (unsigned)__builtin_popcountll(bitmap[i]);
	return count;
}

static bool has(const uint64_t *bitmap, uint64_t address)
{
	return bitmap[address / PAGE / 64] >> address / PAGE % 64 & 1;
}

static void fetch(struct fixture *fixture, uint64_t *bitmap)
{
	memset(bitmap, 0, RAM_WORDS * sizeof(bitmap[0]));
	int code = tenon_space_dirty_fetch(fixture->space, 0, RAM_BYTES, bitmap, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
}

static void logs(const struct testdev_options *options, bool shared)
{
	struct fixture fixture;
	uint64_t bitmap[RAM_WORDS];
	fake_world_reset();
	open_one(&fixture, options, shared);
	cr_assert_eq(copy(&fixture, 0x10000, 0x30000, PAGE, 0), TD_STATUS_DONE);
	cr_assert_eq(tenon_space_dirty_start(fixture.space, &fixture.err), 0, "%s", fixture.err.message);
	fetch(&fixture, bitmap);
	cr_expect_eq(count_bits(bitmap), 0, "what was written before");
	/* The last byte of a page and the first of the next; and the last page. */
	cr_assert_eq(copy(&fixture, 0x10000, 0x41fff, 2, 0), TD_STATUS_DONE);
	cr_assert_eq(copy(&fixture, 0x10000, RAM_BYTES - 8, 8, 0), TD_STATUS_DONE);
	fetch(&fixture, bitmap);
	cr_expect(has(bitmap, 0x41000) && has(bitmap, 0x42000) && has(bitmap, RAM_BYTES - PAGE));
	cr_expect_eq(count_bits(bitmap), 3);
	fetch(&fixture, bitmap);
	cr_expect_eq(count_bits(bitmap), 0, "they are told twice");
	tenon_space_dirty_stop(fixture.space);
	close_one(&fixture);
}

Test(vfio_user_migration, tells_which_pages_its_server_has_written)
{
	logs(NULL, true);
}

Test(vfio_user_migration, tells_which_pages_were_written_for_its_server)
{
	logs(NULL, false);
	logs(&(struct testdev_options){.no_logging = true}, false);
}

Test(vfio_user_migration, asks_for_bitmaps_in_messages_as_large_as_its_server_takes)
{
	logs(&(struct testdev_options){.data_bytes = 48}, true);
}

Test(vfio_user_migration, logs_memory_that_comes_later)
{
	struct fixture fixture;
	const uint64_t at = 0x40000000;
	uint64_t bitmap[RAM_WORDS] = {0};
	open_one(&fixture, NULL, false);
	cr_assert_eq(tenon_space_dirty_start(fixture.space, &fixture.err), 0, "%s", fixture.err.message);
	const struct tenon_space_region more = {.size = sizeof(more), .gpa = at, .size_bytes = RAM_BYTES, .hva = ram()};
	cr_assert_eq(tenon_space_add(fixture.space, &more, NULL), 0);
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, at, RAM_BYTES, bitmap, NULL), 0);
	memset(bitmap, 0, sizeof(bitmap));
	cr_assert_eq(copy(&fixture, 0x10000, at + 0x50000, 16, 0), TD_STATUS_DONE);
	cr_assert_eq(tenon_space_dirty_fetch(fixture.space, at, RAM_BYTES, bitmap, NULL), 0);
	cr_expect(has(bitmap, 0x50000));
	cr_expect_eq(count_bits(bitmap), 1);
	cr_assert_eq(tenon_space_remove(fixture.space, at, RAM_BYTES, NULL), 0);
	close_one(&fixture);
}

/* The three functions alone: parts of a region, over its words' borders. */
Test(vfio_user_migration, fetches_parts_of_a_region)
{
	struct space_users users = {0};
	static uint8_t memory[200 * PAGE];
	uint64_t bitmap[4] = {0};
	space_users_init(&users);
	const struct tenon_space_region region = {
		.size = sizeof(region), .gpa = 0x100000, .size_bytes = sizeof(memory), .hva = memory};
	cr_assert_eq(space_users_add(&users, &region, NULL, NULL), 0);
	const struct vu_memory access = space_users_memory(&users);
	cr_assert_eq(space_users_dirty_start(&users, NULL), 0);
	cr_assert_eq(access.write(access.context, 0x100000 + 60 * PAGE, memory, 10 * PAGE), 0);
	cr_assert_lt(access.write(access.context, 0x100000 + 199 * PAGE, memory, 2 * PAGE), 0, "beyond its end");
	space_users_dirty_fetch(&users, 0x100000 + 62 * PAGE, 4 * PAGE, bitmap);
	cr_expect_eq(bitmap[0], 0xf);
	memset(bitmap, 0, sizeof(bitmap));
	space_users_dirty_fetch(&users, 0x100000 - 3 * PAGE, 203 * PAGE, bitmap);
	cr_expect_eq(bitmap[0], UINT64_C(1) << 63, "page 60 is bit 63, where the range begins three pages before");
	cr_expect_eq(bitmap[1], 1u | 0xfu << 5, "%llx", (unsigned long long)bitmap[1]);
	cr_expect_eq(bitmap[2] | bitmap[3], 0, "of a write that failed");
	space_users_dirty_stop(&users);
	cr_assert_eq(access.write(access.context, 0x100000, memory, PAGE), 0);
	space_users_dirty_fetch(&users, 0x100000, 200 * PAGE, bitmap);
	cr_expect_eq(bitmap[0] & 1, 0, "without a log");
	space_users_finish(&users);
}

/* ---- Servers that fail ---- */

static void fails(const char *fault, int code, bool lost)
{
	struct fixture fixture;
	struct testdev_options options = {0};
	static uint8_t data[8192];
	cr_assert_eq(fault_parse(fault, &options.faults[options.fault_count++], NULL), 0, "%s", fault);
	open_one(&fixture, &options, true);
	struct tenon_error err = {0};
	int got = tenon_device_migration_set(fixture.device, TENON_MIGRATION_PRE_COPY, &err);
	if (got == 0)
		got = (int)tenon_device_migration_read(fixture.device, data, sizeof(data), &err);
	cr_expect_eq(got, code, "%s: %d: %s", fault, got, err.message);
	if (got < 0)
		assert_message(&err, got);
	cr_expect_eq(reg(&fixture, TD_ID) == UINT32_MAX, lost, "%s: %x", fault, reg(&fixture, TD_ID));
	close_one(&fixture);
}

Test(vfio_user_migration, a_server_that_lies_is_cut_off)
{
	static const char *const lies[] = {"wrong-size=-1", "wrong-size=1",  "wrong-size=100000",
					   "wrong-id",      "wrong-command", "disconnect"};
	static const char *const commands[] = {"feature", "feature#2", "mig-data-read"};
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		for (unsigned j = 0; j < sizeof(commands) / sizeof(commands[0]); j++) {
			char fault[64];
			snprintf(fault, sizeof(fault), "%s@%s", lies[i], commands[j]);
			fake_world_reset();
			fails(fault, -ENOTCONN, true);
		}
	}
}

Test(vfio_user_migration, a_server_that_refuses_keeps_its_device)
{
	fails("error=5@feature", -EIO, false);
	fake_world_reset();
	fails("error=16@feature#2", -EBUSY, false);
	fake_world_reset();
	fails("error=5@mig-data-read", -EIO, false);
}

/* It may be at it for seconds, but not for ever. */
Test(vfio_user_migration, a_server_that_never_answers_is_not_waited_for)
{
	fake_set_patience(500);
	fails("silence@feature#2", -ETIMEDOUT, true);
	fake_world_reset();
	fake_set_patience(500);
	fails("silence@mig-data-read", -ETIMEDOUT, true);
}

Test(vfio_user_migration, a_device_that_is_gone_has_no_state_and_takes_none)
{
	struct fixture fixture;
	struct tenon_error err;
	void *data = NULL, *again = NULL;
	size_t bytes, again_bytes;
	open_one(&fixture, NULL, true);
	cr_assert_eq(tenon_device_state_save(fixture.device, &data, &bytes, NULL), 0);
	cr_assert_eq(tenon_space_reset(fixture.space, NULL), 0);
	server_end(&servers[0], true);
	assert_message(&err, tenon_device_migration_set(fixture.device, TENON_MIGRATION_STOP, &err));
	assert_message(&err, tenon_device_state_save(fixture.device, &again, &again_bytes, &err));
	cr_expect_eq(err.code, -EIO);
	cr_expect_null(again);
	assert_message(&err, tenon_device_state_load(fixture.device, data, bytes, &err));
	cr_expect_eq(err.code, -EIO);
	free(data);
	close_one(&fixture);
}

/* ---- Servers of other kinds ---- */

/* A server that answers what a test says. */
struct script {
	void (*answer)(struct script *script, const struct vu_header *header, const uint8_t *payload);
	int fd, client; /* the server's end, and the client's until it connects */
	int twin, twin_client;
	pthread_t thread;
	struct vu_socket *socket;
	struct vu_migration_peer peer;
	uint8_t memory[2 * PAGE]; /* what the server may write */
	unsigned writes;
};

static struct script script;

static void reply(const struct script *self, const struct vu_header *to, const void *payload, size_t bytes)
{
	uint8_t message[8192];
	const struct vu_header header = {.id = to->id,
					 .command = to->command,
					 .bytes = (uint32_t)(sizeof(header) + bytes),
					 .flags = VU_TYPE_REPLY};
	memcpy(message, &header, sizeof(header));
	if (bytes)
		memcpy(message + sizeof(header), payload, bytes);
	cr_assert_eq(send(self->fd, message, header.bytes, MSG_NOSIGNAL), (ssize_t)header.bytes);
}

static void reply_error(const struct script *self, const struct vu_header *to, uint32_t error)
{
	const struct vu_header header = {.id = to->id,
					 .command = to->command,
					 .bytes = sizeof(header),
					 .flags = VU_TYPE_REPLY | VU_FLAG_ERROR,
					 .error = error};
	cr_assert_eq(send(self->fd, &header, sizeof(header), MSG_NOSIGNAL), (ssize_t)sizeof(header));
}

/* With a socket for the server's own commands. */
static void greet(const struct script *self, const struct vu_header *to)
{
	static const char text[] = "{\"capabilities\":{\"max_data_xfer_size\":4096,"
				   "\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}";
	const struct vu_version version = {.major = VU_MAJOR, .minor = VU_MINOR};
	uint8_t message[sizeof(struct vu_header) + sizeof(version) + sizeof(text)];
	const struct vu_header header = {
		.id = to->id, .command = to->command, .bytes = sizeof(message), .flags = VU_TYPE_REPLY};
	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), &version, sizeof(version));
	memcpy(message + sizeof(header) + sizeof(version), text, sizeof(text));
	union descriptors room;
	struct iovec part = {.iov_base = message, .iov_len = sizeof(message)};
	struct msghdr parts = {.msg_iov = &part, .msg_iovlen = 1};
	descriptors_attach(&parts, &room, &self->twin_client, 1);
	cr_assert_eq(sendmsg(self->fd, &parts, MSG_NOSIGNAL), (ssize_t)sizeof(message));
}

static void *run_script(void *context)
{
	struct script *self = context;
	static uint8_t payload[8192];
	struct vu_header header;
	while (recv(self->fd, &header, sizeof(header), MSG_WAITALL) == (ssize_t)sizeof(header)) {
		size_t bytes = header.bytes - sizeof(header);
		if (bytes > sizeof(payload) || (bytes && recv(self->fd, payload, bytes, MSG_WAITALL) != (ssize_t)bytes))
			break;
		if (header.command == VU_VERSION)
			greet(self, &header);
		else
			self->answer(self, &header, payload);
	}
	return NULL;
}

static int connect_script(const char *path)
{
	return script.client;
}

static int script_read(void *context, uint64_t address, void *data, size_t bytes)
{
	return -EFAULT;
}

static int script_write(void *context, uint64_t address, const void *data, size_t bytes)
{
	struct script *self = context;
	if (address + bytes > sizeof(self->memory))
		return -EFAULT;
	memcpy(self->memory + address, data, bytes);
	self->writes++;
	return 0;
}

static struct vu_migration_peer *start_script(void (*answer)(struct script *script, const struct vu_header *header,
							     const uint8_t *payload))
{
	int main_pair[2], twin_pair[2];
	memset(&script, 0, sizeof(script));
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, main_pair), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, twin_pair), 0);
	script.answer = answer;
	script.fd = main_pair[0];
	script.client = main_pair[1];
	script.twin = twin_pair[0];
	script.twin_client = twin_pair[1];
	fake_on_connect(connect_script);
	cr_assert_eq(pthread_create(&script.thread, NULL, run_script, &script), 0);
	const struct vu_memory memory = {.read = script_read, .write = script_write, .context = &script};
	struct tenon_error err;
	cr_assert_eq(vu_socket_connect("/run/x", 0, &memory, &script.socket, &err), 0, "%s", err.message);
	script.peer = (struct vu_migration_peer){.socket = script.socket, .name = "x"};
	return &script.peer;
}

static void end_script(void)
{
	vu_socket_destroy(script.socket);
	pthread_join(script.thread, NULL);
	close(script.fd);
	close(script.twin);
	close(script.twin_client);
}

/* Cut off, and with a reason that says so. */
static void expect_lie(int64_t code, const struct tenon_error *err, const char *lie)
{
	cr_expect_eq(code, -ENOTCONN, "%s: %lld", lie, (long long)code);
	assert_message(err, (int)code);
	cr_expect(strstr(err->message, lie), "%s", err->message);
	cr_expect_not_null(vu_socket_ended(script.socket));
}

/* ---- Data ---- */

static void pad(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	uint8_t answer[sizeof(struct vu_mig_data) + 100] = {0};
	const struct vu_mig_data head = {.argsz = sizeof(head) + 10, .bytes = 10};
	memcpy(answer, &head, sizeof(head));
	memset(answer + sizeof(head), 0x77, 10);
	reply(self, header, answer, sizeof(answer));
}

Test(vfio_user_migration_server, a_reply_that_is_padded_holds_what_it_says)
{
	uint8_t data[100];
	struct vu_migration_peer *peer = start_script(pad);
	cr_expect_eq(vu_migration_read(peer, data, sizeof(data), NULL), 10);
	cr_expect(data[0] == 0x77 && data[9] == 0x77);
	end_script();
}

static void claim_more(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	uint8_t answer[sizeof(struct vu_mig_data) + 100] = {0};
	const struct vu_mig_data head = {.argsz = sizeof(head) + 4096, .bytes = 4096};
	memcpy(answer, &head, sizeof(head));
	reply(self, header, answer, sizeof(answer));
}

Test(vfio_user_migration_server, more_data_than_asked_for_is_a_lie)
{
	uint8_t data[100];
	struct tenon_error err;
	struct vu_migration_peer *peer = start_script(claim_more);
	expect_lie(vu_migration_read(peer, data, sizeof(data), &err), &err, "more data than it was asked for");
	end_script();
}

static void claim_unsent(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	const struct vu_mig_data head = {.argsz = sizeof(head) + 50, .bytes = 50};
	reply(self, header, &head, sizeof(head));
}

Test(vfio_user_migration_server, less_data_than_it_says_is_a_lie)
{
	uint8_t data[100];
	struct tenon_error err;
	struct vu_migration_peer *peer = start_script(claim_unsent);
	expect_lie(vu_migration_read(peer, data, sizeof(data), &err), &err, "less data than it says");
	end_script();
}

static void count_request(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	struct vu_mig_data head;
	memcpy(&head, payload, sizeof(head));
	self->writes = head.argsz == sizeof(head) + head.bytes ? head.bytes : 0;
	reply(self, header, NULL, 0);
}

/* libvfio-user checks argsz against what comes. */
Test(vfio_user_migration_server, data_goes_in_messages_as_large_as_it_takes)
{
	static uint8_t data[10000];
	struct vu_migration_peer *peer = start_script(count_request);
	cr_expect_eq(vu_migration_write(peer, data, sizeof(data), NULL), 4096);
	cr_expect_eq(script.writes, 4096);
	cr_expect_eq(vu_migration_write(peer, data, 7, NULL), 7);
	cr_expect_eq(script.writes, 7);
	end_script();
}

/* ---- Features ---- */

/* As libvfio-user: EINVAL for what it lacks, and it has all but the size of the data. */
static void lack_sizes(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	struct vu_feature feature;
	memcpy(&feature, payload, sizeof(feature));
	if ((feature.flags & VU_FEATURE_NUMBER) == VU_FEATURE_STATE_BYTES ||
	    (feature.flags & VU_FEATURE_NUMBER) > VU_FEATURE_STATE_BYTES)
		reply_error(self, header, EINVAL);
	else if (feature.flags & VU_FEATURE_PROBE)
		reply(self, header, payload, sizeof(feature));
	else
		reply_error(self, header,
			    (feature.flags & VU_FEATURE_NUMBER) == VU_FEATURE_LOG_REPORT ? EOPNOTSUPP : EINVAL);
}

/* As struct vfio_device_feature. */
struct argument {
	uint32_t argsz, flags;
	uint64_t data[4];
};

static int ask(struct vu_migration_peer *peer, struct argument *argument, struct tenon_error *err)
{
	return vu_migration_feature(peer, (struct vfio_device_feature *)argument, err);
}

static struct argument feature_of(uint32_t flags)
{
	return (struct argument){.argsz = sizeof(struct argument), .flags = flags};
}

Test(vfio_user_migration_server, a_feature_that_is_missing_is_told_from_one_that_fails)
{
	struct tenon_error err;
	struct vu_migration_peer *peer = start_script(lack_sizes);
	struct argument argument = feature_of(VU_FEATURE_GET | VU_FEATURE_STATE_BYTES);
	assert_message(&err, ask(peer, &argument, &err));
	cr_expect_eq(err.code, -ENOTTY);
	argument = feature_of(VU_FEATURE_PROBE | VU_FEATURE_STATE_BYTES);
	cr_expect_eq(ask(peer, &argument, NULL), -ENOTTY);
	argument = feature_of(VU_FEATURE_PROBE | VU_FEATURE_SET | VU_FEATURE_LOG_START);
	cr_expect_eq(ask(peer, &argument, NULL), 0);
	argument = feature_of(VU_FEATURE_SET | VU_FEATURE_STATE);
	assert_message(&err, ask(peer, &argument, &err));
	cr_expect_eq(err.code, -EINVAL, "%s", err.message);
	argument = feature_of(VU_FEATURE_GET | 1234);
	cr_expect_eq(ask(peer, &argument, NULL), -ENOTTY, "one that nobody knows");
	uint64_t bitmap = 0;
	argument = feature_of(VU_FEATURE_GET | VU_FEATURE_LOG_REPORT);
	argument.data[1] = argument.data[2] = PAGE;
	argument.data[3] = (uintptr_t)&bitmap;
	cr_expect_eq(ask(peer, &argument, NULL), -EOPNOTSUPP);
	/* Without sizes a message may be left, until a read says that none is. */
	uint64_t initial, dirty;
	cr_expect_eq(vu_migration_pre_copy(peer, &initial, &dirty, NULL), 0);
	cr_expect(initial == 4096 && dirty == 0);
	peer->caught_up = true;
	cr_expect_eq(vu_migration_pre_copy(peer, &initial, &dirty, NULL), 0);
	cr_expect(initial == 0 && dirty == 0);
	end_script();
}

Test(vfio_user_migration_server, arguments_that_are_too_short_are_refused)
{
	static const uint32_t features[] = {VU_FEATURE_MIGRATION, VU_FEATURE_STATE, VU_FEATURE_LOG_START,
					    VU_FEATURE_LOG_REPORT, VU_FEATURE_STATE_BYTES};
	struct tenon_error err;
	struct vu_migration_peer *peer = start_script(lack_sizes);
	for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		struct argument argument = feature_of(VU_FEATURE_GET | features[i]);
		argument.argsz = sizeof(struct vfio_device_feature) + 4;
		assert_message(&err, ask(peer, &argument, &err));
		cr_expect_eq(err.code, -EINVAL);
	}
	struct argument argument = feature_of(VU_FEATURE_GET | VU_FEATURE_MIGRATION);
	argument.argsz = 4;
	cr_expect_eq(ask(peer, &argument, NULL), -EINVAL);
	end_script();
}

/* The reply, echoed, with one word of the data changed. */
static void echo(struct script *self, const struct vu_header *header, const uint8_t *payload, unsigned word,
		 uint32_t value)
{
	uint8_t answer[sizeof(struct vu_feature) + 64];
	size_t bytes = header->bytes - sizeof(*header);
	struct vu_feature feature;
	memcpy(&feature, payload, sizeof(feature));
	memcpy(answer, payload, bytes);
	if (feature.flags & VU_FEATURE_GET && !(feature.flags & VU_FEATURE_PROBE)) {
		memset(answer + bytes, 0xff, sizeof(answer) - bytes);
		bytes = feature.argsz;
	}
	memcpy(answer + 4 * (size_t)word, &value, sizeof(value));
	reply(self, header, answer, bytes);
}

static void other_feature(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	echo(self, header, payload, 1, VU_FEATURE_GET | 77);
}

static void other_state(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	echo(self, header, payload, 2, VU_STATE_ERROR);
}

static void own_file(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	echo(self, header, payload, 3, 0);
}

static void odd_pages(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	echo(self, header, payload, 2, 4097);
}

static void other_range(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	echo(self, header, payload, 2, 0x5000);
}

static void all_set(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	echo(self, header, payload, 2, 0);
}

static struct argument set_state_of(uint32_t state)
{
	struct argument argument = feature_of(VU_FEATURE_SET | VU_FEATURE_STATE);
	memcpy(argument.data, &(struct vu_state){.state = state, .data_fd = -1}, sizeof(struct vu_state));
	return argument;
}

static void feature_lies(void (*answer)(struct script *script, const struct vu_header *header, const uint8_t *payload),
			 struct argument argument, const char *lie)
{
	struct tenon_error err;
	fake_world_reset();
	struct vu_migration_peer *peer = start_script(answer);
	expect_lie(ask(peer, &argument, &err), &err, lie);
	end_script();
}

static struct argument report_of(uint64_t address, uint64_t bytes, uint64_t *bitmap)
{
	struct argument argument = feature_of(VU_FEATURE_GET | VU_FEATURE_LOG_REPORT);
	argument.data[0] = address;
	argument.data[1] = bytes;
	argument.data[2] = PAGE;
	argument.data[3] = (uintptr_t)bitmap;
	return argument;
}

Test(vfio_user_migration_server, answers_that_make_no_sense_are_lies)
{
	uint64_t bitmap = 0;
	struct argument start = feature_of(VU_FEATURE_SET | VU_FEATURE_LOG_START);
	start.data[0] = PAGE;
	feature_lies(other_feature, feature_of(VU_FEATURE_GET | VU_FEATURE_MIGRATION), "another feature");
	feature_lies(other_state, set_state_of(VU_STATE_STOP), "another migration state");
	feature_lies(other_range, feature_of(VU_FEATURE_GET | VU_FEATURE_STATE), "another migration state");
	feature_lies(odd_pages, start, "pages of a size that no page has");
	feature_lies(other_range, report_of(0, PAGE, &bitmap), "another range");
	cr_expect_eq(bitmap, 0);
}

Test(vfio_user_migration_server, a_files_number_is_never_the_servers)
{
	struct vu_state state;
	struct vu_migration_peer *peer = start_script(own_file);
	struct argument argument = set_state_of(VU_STATE_STOP);
	cr_assert_eq(ask(peer, &argument, NULL), 0);
	memcpy(&state, argument.data, sizeof(state));
	cr_expect_eq(state.data_fd, -1);
	end_script();
}

Test(vfio_user_migration_server, bits_beyond_the_range_mean_nothing)
{
	uint64_t bitmap[2] = {1, 0};
	struct vu_migration_peer *peer = start_script(all_set);
	struct argument argument = report_of(0, 3 * PAGE, bitmap);
	cr_assert_eq(ask(peer, &argument, NULL), 0);
	cr_expect_eq(bitmap[0], 7);
	cr_expect_eq(bitmap[1], 0);
	end_script();
}

static void large_bitmap(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	uint8_t answer[sizeof(struct vu_feature) + sizeof(struct vu_log_report) + 16] = {0};
	memcpy(answer, payload, header->bytes - sizeof(*header));
	reply(self, header, answer, sizeof(answer));
}

Test(vfio_user_migration_server, a_bitmap_larger_than_asked_for_is_a_lie)
{
	uint64_t bitmap = 0;
	struct tenon_error err;
	struct vu_migration_peer *peer = start_script(large_bitmap);
	struct argument argument = report_of(0, PAGE, &bitmap);
	expect_lie(ask(peer, &argument, &err), &err, "wrong size");
	end_script();
}

#define WRITES 3000u /* more than one turn does, in the same time as it takes the reply */

/* It wants no answers, so nobody waits for them but for this. */
static void write_then_stop(struct script *self, const struct vu_header *header, const uint8_t *payload)
{
	const struct {
		struct vu_header header;
		struct vu_dma_access access;
		uint64_t data;
	} one = {.header = {.id = 1,
			    .command = VU_DMA_WRITE,
			    .bytes = sizeof(one),
			    .flags = VU_TYPE_COMMAND | VU_FLAG_NO_REPLY},
		 .access = {.address = PAGE, .count = sizeof(one.data)},
		 .data = 0x99};
	static uint8_t writes[WRITES * sizeof(one)];
	for (unsigned i = 0; i < WRITES; i++)
		memcpy(writes + i * sizeof(one), &one, sizeof(one));
	cr_assert_eq(send(self->twin, writes, sizeof(writes), MSG_NOSIGNAL), (ssize_t)sizeof(writes));
	reply(self, header, payload, header->bytes - sizeof(*header));
}

Test(vfio_user_migration_server, what_a_device_wrote_before_it_stopped_is_there_when_it_has)
{
	struct vu_migration_peer *peer = start_script(write_then_stop);
	struct argument argument = set_state_of(VU_STATE_STOP);
	cr_assert_eq(ask(peer, &argument, NULL), 0);
	cr_expect_eq(script.writes, WRITES);
	cr_expect_eq(script.memory[PAGE], 0x99);
	end_script();
}
