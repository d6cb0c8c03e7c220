// SPDX-License-Identifier: MIT
/*
 * Files and pipes. A file that is written has no name until it is complete and on the disk: whoever finds one may trust it. It is
 * never put in the place of another.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel.h"
#include "kernel_calls.h"

#define FILE_TIMEOUT_MS 10000 /* for pipes; files never make wait */

/* A file under way. A pipe, or a file that was passed as a descriptor, has none of this. */
struct unnamed {
	int directory;
	char *name;         /* that it is to have, in `directory` */
	char temporary[32]; /* that it has meanwhile; empty: none */
	bool committed;
};

/* ---- Making a file ---- */

static void unnamed_destroy(struct unnamed *file)
{
	if (!file)
		return;
	if (file->temporary[0])
		mcall_unlink(file->directory, file->temporary);
	if (file->directory >= 0)
		close(file->directory);
	free(file->name);
	free(file);
}

static int open_directory(const char *name, const char *path, struct unnamed *file, struct tenon_error *err)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;
	if (*base == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
		return tenon_fail(err, -EISDIR, "%s: names a directory; name a file in it", name);
	char *directory = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	file->name = strdup(base);
	if (!directory || !file->name) {
		free(directory);
		return tenon_fail(err, -ENOMEM, "%s: out of memory", name);
	}
	file->directory = mcall_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY);
	if (file->directory < 0)
		tenon_fail(err, file->directory, "%s: cannot open %s: %s; make that directory, or choose another", name,
			   directory, strerror(-file->directory));
	free(directory);
	return file->directory < 0 ? file->directory : 0;
}

static int already_there(const char *name, struct tenon_error *err)
{
	return tenon_fail(err, -EEXIST, "%s: exists, and is not overwritten; remove it, or choose another name", name);
}

/* @return a descriptor of a file without a name, or with one that nobody guesses; or -errno */
static int open_unnamed(struct unnamed *file)
{
	int fd = mcall_open(file->directory, ".", O_WRONLY | O_TMPFILE);
	/* The first is a file system without it, the second a kernel's that takes it for O_DIRECTORY. */
	if (fd != -EOPNOTSUPP && fd != -EISDIR)
		return fd;
	uint64_t random = 0;
	getrandom(&random, sizeof(random), GRND_NONBLOCK);
	snprintf(file->temporary, sizeof(file->temporary), ".tenon-%016llx", (unsigned long long)random);
	fd = mcall_open(file->directory, file->temporary, O_WRONLY | O_CREAT | O_EXCL);
	if (fd < 0)
		file->temporary[0] = '\0';
	return fd;
}

int file_create(const char *name, const char *path, struct tenon_channel **out, struct tenon_error *err)
{
	struct unnamed *file = calloc(1, sizeof(*file));
	if (!file)
		return tenon_fail(err, -ENOMEM, "%s: out of memory", name);
	file->directory = -1;
	int code = open_directory(name, path, file, err);
	if (code == 0 && mcall_exists(file->directory, file->name) == 0)
		code = already_there(name, err); /* known before all is written; the commit asks again */
	if (code < 0) {
		unnamed_destroy(file);
		return code;
	}
	int fd = open_unnamed(file);
	if (fd < 0)
		code = tenon_fail(err, fd, "%s: cannot make a file: %s; choose another place", name, strerror(-fd));
	else
		code = channel_create(&channel_output_ops, fd, name, FILE_TIMEOUT_MS, out, err);
	if (code < 0) {
		if (fd >= 0)
			close(fd);
		unnamed_destroy(file);
		return code;
	}
	(*out)->own = file;
	return 0;
}

/* ---- Commit ---- */

static int give_name(struct tenon_channel *channel, struct unnamed *file)
{
	int code;
	if (!file->temporary[0]) {
		/* Linux 6.10 lets who opened a file name it by its descriptor; older ones only by way of /proc. */
		code = mcall_link_fd(channel->fd, file->directory, file->name);
		return code == -ENOENT || code == -EPERM ? mcall_link_proc(channel->fd, file->directory, file->name)
							 : code;
	}
	code = mcall_rename_new(file->directory, file->temporary, file->name);
	if (code == -EINVAL) { /* a file system that cannot promise not to replace; a second name always is a new one */
		code = mcall_link(file->directory, file->temporary, file->name);
		if (code == 0)
			mcall_unlink(file->directory, file->temporary);
	}
	if (code == 0)
		file->temporary[0] = '\0';
	return code;
}

static int not_durable(struct tenon_channel *channel, int code, struct tenon_error *err)
{
	const char *remedy = code == -ENOSPC || code == -EDQUOT ? "free space there, or choose another file system"
								: "see the kernel's log for the disk's error";
	return tenon_fail(err, code, "%s: cannot be written to the disk: %s; %s", channel->name, strerror(-code),
			  remedy);
}

static int commit_file(struct tenon_channel *channel, struct tenon_error *err)
{
	struct unnamed *file = channel->own;
	if (file && file->committed)
		return tenon_fail(err, -EALREADY, "%s: has its name already", channel->name);
	int code = mcall_fsync(channel->fd);
	if (code == -EINVAL || code == -EROFS)
		code = 0; /* a pipe */
	if (code < 0)
		return not_durable(channel, code, err);
	if (!file)
		return 0;
	code = give_name(channel, file);
	if (code == -EEXIST)
		return already_there(channel->name, err);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot be given its name: %s; choose another place", channel->name,
				  strerror(-code));
	code = mcall_fsync(file->directory);
	if (code < 0) {
		mcall_unlink(file->directory, file->name); /* a name that a crash may take back is no name */
		return not_durable(channel, code, err);
	}
	file->committed = true;
	return 0;
}

static void close_file(struct tenon_channel *channel)
{
	unnamed_destroy(channel->own);
}

/* ---- Opening one that is there ---- */

int file_open(const char *name, const char *path, struct tenon_channel **out, struct tenon_error *err)
{
	struct stat status;
	/* O_NONBLOCK: a named pipe, which is refused below, would make wait here for who writes to it. */
	int fd = mcall_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return tenon_fail(err, fd, "%s: cannot open: %s; give the name of a file that tenon migrate wrote",
				  name, strerror(-fd));
	int code = mcall_stat(fd, &status);
	if (code < 0)
		tenon_fail(err, code, "%s: cannot be looked at: %s; give another", name, strerror(-code));
	else if (!S_ISREG(status.st_mode))
		code = tenon_fail(err, -EINVAL, "%s: not a regular file; give one, or a pipe as fd:N", name);
	else
		code = channel_create(&channel_input_ops, fd, name, FILE_TIMEOUT_MS, out, err);
	if (code < 0)
		close(fd);
	else
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	return code;
}

/* ---- Bytes ---- */

static ssize_t write_file(struct tenon_channel *channel, const struct iovec *parts, int count, short *events)
{
	return mcall_write(channel->fd, parts, count);
}

static ssize_t read_file(struct tenon_channel *channel, void *data, size_t bytes, short *events)
{
	return mcall_read(channel->fd, data, bytes);
}

static ssize_t cannot_read(struct tenon_channel *channel, void *data, size_t bytes, short *events)
{
	return -EBADF;
}

static ssize_t cannot_write(struct tenon_channel *channel, const struct iovec *parts, int count, short *events)
{
	return -EBADF;
}

const struct channel_ops channel_input_ops = {
	.kind = TENON_CHANNEL_FILE,
	.write = cannot_write,
	.read = read_file,
};

const struct channel_ops channel_output_ops = {
	.kind = TENON_CHANNEL_FILE,
	.write = write_file,
	.read = cannot_read,
	.commit = commit_file,
	.close = close_file,
};
