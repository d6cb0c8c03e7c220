// SPDX-License-Identifier: MIT
/* Channels that are files or pipes: a file has its name when it is whole and durable, or never. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <tenon-migration/channel.h>

#include "../fakes/descriptors.h"
#include "migration_kernel.h"

TestSuite(migration_file_channel, .timeout = 60);

#define BULK_BYTES (300u << 10)

/* ---- A folder, and what is in it ---- */

static char folder[] = "/tmp/tenon-file-XXXXXX";
static char path[64], address[80];

static void set_up(void)
{
	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/snapshot", folder);
	snprintf(address, sizeof(address), "file:%s", path);
}

static unsigned files(void)
{
	DIR *entries = opendir(folder);
	unsigned count = 0;
	while (readdir(entries))
		count++;
	closedir(entries);
	return count - 2; /* . and .. */
}

static void tear_down(void)
{
	unlink(path);
	cr_assert_eq(rmdir(folder), 0, "something is left behind");
}

static struct tenon_channel *create(void)
{
	struct tenon_channel *channel;
	struct tenon_error err;
	cr_assert_eq(tenon_channel_connect(address, NULL, &channel, &err), 0, "%s", err.message);
	return channel;
}

static int say(struct tenon_channel *channel, const char *text, struct tenon_error *err)
{
	struct iovec part = {.iov_base = (void *)text, .iov_len = strlen(text)};
	return tenon_channel_write(channel, &part, 1, err);
}

static void expect_content(const char *text)
{
	char content[64] = "";
	struct tenon_channel *channel;
	struct tenon_error err;
	cr_assert_eq(tenon_channel_open_file(address, &channel, &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_read(channel, content, strlen(text), &err), 0, "%s", err.message);
	cr_expect_str_eq(content, text);
	cr_expect_eq(tenon_channel_read_some(channel, content, 1, -1, &err), -ENODATA, "%s", err.message);
	tenon_channel_close(channel);
}

static void expect_words(int got, int code, const char *words, const struct tenon_error *err)
{
	cr_expect_eq(got, code, "%s: %d: %s", words, got, err->message);
	cr_expect(strstr(err->message, words), "%s, not: %s", words, err->message);
	cr_expect(strchr(err->message, ';') || code == -EALREADY, "%s", err->message);
}

/* ---- Whole or not at all ---- */

Test(migration_file_channel, a_file_has_its_name_when_it_is_committed, .init = set_up, .fini = tear_down)
{
	struct tenon_error err;
	struct stat status;
	unsigned open = descriptors_open();
	struct tenon_channel *channel = create();
	cr_expect_eq(tenon_channel_kind(channel), TENON_CHANNEL_FILE);
	cr_expect_str_eq(tenon_channel_name(channel), address);
	cr_expect_eq(say(channel, "all of it", &err), 0, "%s", err.message);
	cr_expect_eq(files(), 0);
	cr_assert_eq(tenon_channel_commit_file(channel, &err), 0, "%s", err.message);
	cr_assert_eq(lstat(path, &status), 0);
	cr_expect_eq(status.st_mode, S_IFREG | 0600);
	expect_words(tenon_channel_commit_file(channel, &err), -EALREADY, "already", &err);
	tenon_channel_close(channel);
	cr_expect_eq(files(), 1);
	cr_expect_eq(descriptors_open(), open);
	expect_content("all of it");
}

Test(migration_file_channel, one_that_is_not_committed_leaves_nothing, .init = set_up, .fini = tear_down)
{
	struct tenon_error err;
	struct tenon_channel *channel = create();
	cr_expect_eq(say(channel, "some of it", &err), 0, "%s", err.message);
	tenon_channel_close(channel);
	cr_expect_eq(files(), 0);
}

Test(migration_file_channel, what_exists_is_never_replaced, .init = set_up, .fini = tear_down)
{
	struct tenon_error err;
	struct tenon_channel *first = create(), *second = create(), *third;
	cr_expect_eq(say(first, "first", &err), 0);
	cr_expect_eq(say(second, "second", &err), 0);
	cr_assert_eq(tenon_channel_commit_file(first, &err), 0, "%s", err.message);
	expect_words(tenon_channel_commit_file(second, &err), -EEXIST, "not overwritten", &err);
	expect_words(tenon_channel_connect(address, NULL, &third, &err), -EEXIST, "not overwritten", &err);
	tenon_channel_close(first);
	tenon_channel_close(second);
	cr_expect_eq(files(), 1);
	expect_content("first");
}

/* A file system without files that have no name. */
static struct tenon_channel *create_named(int error)
{
	kernel_fails("open", 2, error); /* the first opens the directory */
	struct tenon_channel *channel = create();
	cr_expect(kernel_has_failed());
	kernel_is_sound();
	return channel;
}

Test(migration_file_channel, a_file_system_without_nameless_files_gets_the_same, .init = set_up, .fini = tear_down)
{
	static const int errors[] = {EOPNOTSUPP, EISDIR};
	struct tenon_error err;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct tenon_channel *channel = create_named(errors[i]), *other = create_named(errors[i]);
		cr_expect_eq(files(), 2);
		cr_expect_eq(say(channel, "all of it", &err), 0);
		if (i > 0)
			kernel_fails("rename_new", 1, EINVAL); /* and which does not know how not to replace */
		cr_expect_eq(tenon_channel_commit_file(channel, &err), 0, "%s", err.message);
		kernel_is_sound();
		expect_words(tenon_channel_commit_file(other, &err), -EEXIST, "not overwritten", &err);
		tenon_channel_close(channel);
		tenon_channel_close(other);
		cr_expect_eq(files(), 1);
		expect_content("all of it");
		unlink(path);
	}
}

Test(migration_file_channel, a_kernel_that_names_by_proc_only_gets_the_same, .init = set_up, .fini = tear_down)
{
	struct tenon_error err;
	struct tenon_channel *channel = create();
	cr_expect_eq(say(channel, "all of it", &err), 0);
	kernel_fails("link_fd", 1, ENOENT);
	cr_expect_eq(tenon_channel_commit_file(channel, &err), 0, "%s", err.message);
	kernel_is_sound();
	tenon_channel_close(channel);
	expect_content("all of it");
}

Test(migration_file_channel, a_name_that_is_not_durable_is_taken_back, .init = set_up, .fini = tear_down)
{
	struct tenon_error err;
	struct tenon_channel *channel = create();
	kernel_fails("fsync", 2, EIO); /* the first is the file's */
	expect_words(tenon_channel_commit_file(channel, &err), -EIO, "kernel's log", &err);
	kernel_is_sound();
	tenon_channel_close(channel);
	cr_expect_eq(files(), 0);
}

/* ---- No room ---- */

Test(migration_file_channel, a_full_disk_is_told_with_what_to_do, .init = set_up, .fini = tear_down)
{
	static const struct {
		int error;
		const char *words;
	} rows[] = {{ENOSPC, "free space"}, {EDQUOT, "quota"}, {EIO, "kernel's log"}};
	struct tenon_error err;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tenon_channel *channel = create();
		kernel_fails("write", 1, rows[i].error);
		expect_words(say(channel, "much", &err), -rows[i].error, rows[i].words, &err);
		kernel_is_sound();
		tenon_channel_close(channel);
		cr_expect_eq(files(), 0);
	}
	struct tenon_channel *channel = create();
	kernel_fails("fsync", 1, ENOSPC); /* file systems that find that out late */
	expect_words(tenon_channel_commit_file(channel, &err), -ENOSPC, "free space", &err);
	kernel_is_sound();
	tenon_channel_close(channel);
	cr_expect_eq(files(), 0);
}

Test(migration_file_channel, a_limit_of_the_size_of_files_is_an_error_and_no_signal, .init = set_up, .fini = tear_down)
{
	static char bulk[4096];
	struct tenon_error err;
	struct rlimit limit = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
	struct iovec part = {.iov_base = bulk, .iov_len = sizeof(bulk)};
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = 4096;
	struct tenon_channel *channel = create();
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_expect_eq(tenon_channel_write(channel, &part, 1, &err), 0, "%s", err.message);
	expect_words(say(channel, "more", &err), -EFBIG, "ulimit -f", &err);
	limit.rlim_cur = limit.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	tenon_channel_close(channel);
}

/* ---- What cannot be ---- */

Test(migration_file_channel, places_that_cannot_be_are_refused, .init = set_up, .fini = tear_down)
{
	struct tenon_channel *channel;
	struct tenon_error err;
	expect_words(tenon_channel_connect("file:/no/such/folder/x", NULL, &channel, &err), -ENOENT,
		     "make that directory", &err);
	expect_words(tenon_channel_connect("file:/tmp/", NULL, &channel, &err), -EISDIR, "name a file in it", &err);
	expect_words(tenon_channel_connect("file:..", NULL, &channel, &err), -EISDIR, "name a file in it", &err);
	expect_words(tenon_channel_connect("file:/proc/x", NULL, &channel, &err), -ENOENT, "choose another place",
		     &err);
	expect_words(tenon_channel_open_file(address, &channel, &err), -ENOENT, "No such file", &err);
	expect_words(tenon_channel_open_file("file:/tmp", &channel, &err), -EINVAL, "not a regular file", &err);
	cr_assert_eq(mkfifo(path, 0600), 0);
	expect_words(tenon_channel_open_file(address, &channel, &err), -EINVAL, "or a pipe as fd:N", &err);
	expect_words(tenon_channel_connect(address, NULL, &channel, &err), -EEXIST, "not overwritten", &err);
}

Test(migration_file_channel, one_that_is_written_is_not_read_and_the_reverse, .init = set_up, .fini = tear_down)
{
	struct tenon_channel *channel = create();
	struct tenon_error err;
	char byte;
	cr_expect_eq(tenon_channel_read(channel, &byte, 1, &err), -EBADF);
	cr_expect_eq(tenon_channel_commit_file(channel, &err), 0, "%s", err.message);
	tenon_channel_close(channel);
	cr_assert_eq(tenon_channel_open_file(address, &channel, &err), 0, "%s", err.message);
	cr_expect_eq(say(channel, "x", &err), -EBADF);
	expect_words(tenon_channel_commit_file(channel, &err), -EINVAL, "not a file that is written", &err);
	tenon_channel_end(channel);
	cr_expect_eq(tenon_channel_read(channel, &byte, 1, &err), -ECANCELED);
	tenon_channel_close(channel);
}

/* ---- Pipes and passed files ---- */

static struct tenon_channel *pass(int fd, bool for_reading)
{
	struct tenon_channel *channel;
	struct tenon_error err;
	char passed[16];
	snprintf(passed, sizeof(passed), "fd:%d", fd);
	int code = for_reading ? tenon_channel_open_file(passed, &channel, &err)
			       : tenon_channel_connect(passed, NULL, &channel, &err);
	cr_assert_eq(code, 0, "%s", err.message);
	return channel;
}

static unsigned char sent[BULK_BYTES], got[BULK_BYTES];

static void *write_bulk(void *channel)
{
	struct tenon_error err;
	struct iovec parts[] = {{sent, 1}, {sent + 1, 70000}, {sent + 70001, BULK_BYTES - 70001}};
	cr_expect_eq(tenon_channel_write(channel, parts, 3, &err), 0, "%s", err.message);
	return NULL;
}

Test(migration_file_channel, a_pipe_carries_more_than_it_holds)
{
	static const size_t pieces[] = {0, 1000};
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct tenon_error err;
		pthread_t thread;
		int fds[2];
		cr_assert_eq(pipe(fds), 0);
		struct tenon_channel *from = pass(fds[0], true), *to = pass(fds[1], false);
		for (size_t at = 0; at < BULK_BYTES; at++)
			sent[at] = (unsigned char)(at * 7 >> 2);
		memset(got, 0, sizeof(got));
		kernel_moves_at_most(pieces[i]);
		cr_assert_eq(pthread_create(&thread, NULL, write_bulk, to), 0);
		cr_expect_eq(tenon_channel_read(from, got, BULK_BYTES, &err), 0, "%s", err.message);
		pthread_join(thread, NULL);
		kernel_is_sound();
		cr_expect_arr_eq(got, sent, BULK_BYTES);
		cr_expect_eq(tenon_channel_commit_file(to, &err), 0, "%s", err.message);
		tenon_channel_close(to);
		cr_expect_eq(tenon_channel_read_some(from, got, 1, -1, &err), -ENODATA, "%s", err.message);
		tenon_channel_close(from);
	}
}

Test(migration_file_channel, a_pipe_that_nobody_reads_is_an_error_and_no_signal)
{
	struct tenon_error err;
	int fds[2];
	cr_assert_eq(pipe(fds), 0);
	struct tenon_channel *to = pass(fds[1], false);
	close(fds[0]);
	expect_words(say(to, "x", &err), -EPIPE, "other side has ended", &err);
	expect_words(say(to, "x", &err), -EPIPE, "other side has ended", &err);
	tenon_channel_close(to);
}

static void *end_main(void *channel)
{
	tenon_channel_end(channel);
	return NULL;
}

Test(migration_file_channel, another_thread_ends_the_reading_of_a_pipe)
{
	struct tenon_error err;
	pthread_t thread;
	char byte;
	int fds[2];
	cr_assert_eq(pipe(fds), 0);
	struct tenon_channel *from = pass(fds[0], true);
	cr_assert_eq(pthread_create(&thread, NULL, end_main, from), 0);
	cr_expect_eq(tenon_channel_read_some(from, &byte, 1, -1, &err), -ECANCELED, "%s", err.message);
	pthread_join(thread, NULL);
	tenon_channel_close(from);
	close(fds[1]);
}

Test(migration_file_channel, a_passed_file_is_written_where_it_stands, .init = set_up, .fini = tear_down)
{
	struct tenon_error err;
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	cr_assert_eq(write(fd, "before ", 7), 7);
	struct tenon_channel *channel = pass(fd, false);
	cr_expect_eq(say(channel, "behind", &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_commit_file(channel, &err), 0, "%s", err.message);
	tenon_channel_close(channel);
	expect_content("before behind");
}

/* ---- A kernel that fails ---- */

static int save(char *message)
{
	struct tenon_error err = {0};
	struct tenon_channel *channel = NULL;
	unlink(path);
	int code = tenon_channel_connect(address, NULL, &channel, &err);
	if (code == 0)
		code = say(channel, "all of it", &err);
	if (code == 0)
		code = tenon_channel_commit_file(channel, &err);
	tenon_channel_close(channel);
	strcpy(message, err.message);
	cr_expect_eq(files(), code == 0 ? 1 : 0, "%s", message);
	return code;
}

static int load(char *message)
{
	struct tenon_error err = {0};
	struct tenon_channel *channel = NULL;
	char word[4];
	int code = tenon_channel_open_file(address, &channel, &err);
	if (code == 0)
		code = tenon_channel_read(channel, word, sizeof(word), &err);
	tenon_channel_close(channel);
	strcpy(message, err.message);
	return code;
}

static int save_to_pipe(char *message)
{
	struct tenon_error err = {0};
	struct tenon_channel *channel = NULL;
	char passed[16];
	int fds[2];
	cr_assert_eq(pipe(fds), 0);
	snprintf(passed, sizeof(passed), "fd:%d", fds[1]);
	int code = tenon_channel_connect(passed, NULL, &channel, &err);
	if (code < 0)
		close(fds[1]);
	else
		code = say(channel, "word", &err);
	tenon_channel_close(channel);
	close(fds[0]);
	strcpy(message, err.message);
	return code;
}

Test(migration_file_channel, each_kernel_call_that_fails_is_told_of_and_leaves_nothing, .init = set_up,
     .fini = tear_down)
{
	char message[512];
	kernel_fails_in_turn(save, " exists ");
	cr_assert_eq(save(message), 0, "%s", message);
	kernel_fails_in_turn(load, "");
	kernel_fails_in_turn(save_to_pipe, " close_on_exec ");
}

static void expect_no_name(struct tenon_channel *channel)
{
	struct tenon_error err;
	expect_words(tenon_channel_commit_file(channel, &err), -EIO, "cannot be given its name", &err);
	cr_expect(kernel_has_failed());
	kernel_is_sound();
	tenon_channel_close(channel);
	cr_expect_eq(files(), 0);
}

Test(migration_file_channel, the_detours_fail_in_words_too, .init = set_up, .fini = tear_down)
{
	struct tenon_channel *channel = create();
	kernel_lacks("link_fd", EPERM);
	kernel_fails("link_proc", 1, EIO);
	expect_no_name(channel);
	channel = create_named(EOPNOTSUPP);
	kernel_fails("rename_new", 1, EIO);
	expect_no_name(channel);
	channel = create_named(EOPNOTSUPP);
	kernel_lacks("rename_new", EINVAL);
	kernel_fails("link", 1, EIO);
	expect_no_name(channel);
}
