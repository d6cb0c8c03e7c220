// SPDX-License-Identifier: MIT
/*
 * The kinds of chardev: how each is opened, who its reader is, and what happens when the other end goes away.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "chardev_backend.h"
#include "chardev_terminal.h"

static int create_epoll(struct chardev *chardev, struct tenon_error *err)
{
	chardev->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (chardev->epoll_fd < 0)
		return tenon_fail(err, -errno, "%s: cannot create an epoll: %m", chardev->name);
	return 0;
}

static int fail_watch(const struct chardev *chardev, int error, struct tenon_error *err)
{
	return tenon_fail(err, error, "%s: cannot watch it: %s", chardev->name, strerror(-error));
}

static bool hung_up(int fd)
{
	struct pollfd ask = {.fd = fd};
	return poll(&ask, 1, 0) > 0 && ask.revents & (POLLHUP | POLLERR);
}

/* A full disk may get room again; what else goes wrong with an output stays wrong. */
static void close_broken_output(struct chardev *chardev, int error)
{
	if (error != -ENOSPC && error != -EDQUOT)
		chardev_close_out(chardev);
}

/* ---- none ---- */

static int open_none(struct chardev *chardev, const char *argument, struct tenon_error *err)
{
	snprintf(chardev->name, sizeof(chardev->name), "none");
	return 0;
}

static const struct chardev_backend none_backend = {.kind = "none", .open = open_none};

/* ---- stdio ---- */

static atomic_flag stdio_taken = ATOMIC_FLAG_INIT; /* a process has one */

/* One end that is closed, or that nobody reads, is as good as none. */
static int open_stdio(struct chardev *chardev, const char *argument, struct tenon_error *err)
{
	if (atomic_flag_test_and_set(&stdio_taken))
		return tenon_fail(err, -EBUSY, "stdio: already in use; choose another kind for the second console");
	chardev->holds_stdio = true;
	snprintf(chardev->name, sizeof(chardev->name), "stdio");
	/* Asked before anything is opened here, which would get the number of one that is closed. */
	bool has_in = fcntl(STDIN_FILENO, F_GETFD) >= 0, has_out = fcntl(STDOUT_FILENO, F_GETFD) >= 0;
	int result = create_epoll(chardev, err);
	if (result < 0)
		return result;

	struct stream stream;
	if (has_out && stream_inherit(&stream, STDOUT_FILENO, O_WRONLY) == 0)
		result = chardev_set_out(chardev, stream);
	if (result == 0 && has_in && stream_inherit(&stream, STDIN_FILENO, O_RDONLY) == 0) {
		chardev->is_terminal = isatty(stream.fd);
		if (chardev->is_terminal)
			terminal_take(stream.fd);
		result = chardev_set_in(chardev, stream);
	}
	return result < 0 ? fail_watch(chardev, result, err) : 0;
}

static void stdio_input_ended(struct chardev *chardev)
{
	terminal_release(); /* while its descriptor is still open */
	chardev_close_in(chardev);
	chardev->events |= CHARDEV_CLOSED;
}

static void close_stdio(struct chardev *chardev)
{
	if (!chardev->holds_stdio)
		return;
	terminal_release();
	atomic_flag_clear(&stdio_taken);
}

static const struct chardev_backend stdio_backend = {
	.kind = "stdio",
	.open = open_stdio,
	.input_ended = stdio_input_ended,
	.output_failed = close_broken_output,
	.close = close_stdio,
};

/* ---- file ---- */

static int open_file(struct chardev *chardev, const char *path, struct tenon_error *err)
{
	snprintf(chardev->name, sizeof(chardev->name), "file %s", path);
	/* O_NONBLOCK for a FIFO or a terminal. O_APPEND lets others truncate a file, to rotate logs. */
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
	if (fd < 0 && errno == ENXIO)
		return tenon_fail(err, -ENXIO, "%s: cannot open: nobody reads this FIFO; start its reader first", path);
	if (fd < 0)
		return tenon_fail(err, -errno, "%s: cannot create: %m; give a path that this user may write", path);

	struct stat status;
	int result = 0;
	if (fstat(fd, &status) == 0 && !S_ISREG(status.st_mode))
		result = create_epoll(chardev, err);
	struct stream stream = {.kind = STREAM_NONBLOCKING, .fd = fd};
	if (result < 0) {
		stream_close(&stream);
		return result;
	}
	result = chardev_set_out(chardev, stream);
	return result < 0 ? fail_watch(chardev, result, err) : 0;
}

static const struct chardev_backend file_backend = {
	.kind = "file",
	.has_argument = true,
	.open = open_file,
	.output_failed = close_broken_output,
};

/* ---- socket ---- */

static int bind_socket(struct chardev *chardev, const char *path, struct tenon_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(path);
	if (length >= sizeof(address.sun_path))
		return tenon_fail(err, -ENAMETOOLONG, "%s: cannot listen: the path of a socket has at most %zu bytes",
				  path, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, length);

	chardev->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (chardev->listen_fd < 0)
		return tenon_fail(err, -errno, "%s: cannot create a socket: %m", path);
	fchmod(chardev->listen_fd, 0600); /* before bind, so that the file never had another mode */
	if (bind(chardev->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == EADDRINUSE)
			return tenon_fail(err, -EADDRINUSE,
					  "%s: cannot listen: the path exists; remove it if no other program uses it",
					  path);
		return tenon_fail(err, -errno,
				  "%s: cannot listen: %m; give a path in a folder that this user may write", path);
	}
	return 0;
}

static int open_socket(struct chardev *chardev, const char *path, struct tenon_error *err)
{
	snprintf(chardev->name, sizeof(chardev->name), "socket %s", path);
	int result = create_epoll(chardev, err);
	if (result < 0)
		return result;
	result = bind_socket(chardev, path, err);
	if (result < 0)
		return result;

	struct stat status;
	chardev->path = strdup(path);
	if (chardev->path && lstat(path, &status) == 0) {
		chardev->path_device = status.st_dev;
		chardev->path_inode = status.st_ino;
	}
	if (!chardev->path)
		return tenon_fail(err, -ENOMEM, "%s: cannot listen: out of memory", path);
	if (listen(chardev->listen_fd, 4) < 0)
		return tenon_fail(err, -errno, "%s: cannot listen: %m", path);
	result = chardev_watch(chardev, chardev->listen_fd);
	return result < 0 ? fail_watch(chardev, result, err) : 0;
}

static void drop_client(struct chardev *chardev)
{
	chardev_close_in(chardev);
	chardev_close_out(chardev);
	chardev->events |= CHARDEV_CLOSED;
	chardev_watch(chardev, chardev->listen_fd); /* the next one may be waiting already */
}

static void accept_client(struct chardev *chardev)
{
	int fd = accept4(chardev->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0) {
		close(fd);
		return;
	}
	int in = chardev_set_in(chardev, (struct stream){.kind = STREAM_SOCKET, .fd = fd});
	int out = chardev_set_out(chardev, (struct stream){.kind = STREAM_SOCKET, .fd = copy});
	if (in < 0 || out < 0)
		drop_client(chardev);
}

static void attend_socket(struct chardev *chardev)
{
	/* A client that closed its sending side went on to listen; it is gone when it closes the rest. */
	if (chardev->out.fd >= 0 && chardev->in.fd < 0 && hung_up(chardev->out.fd))
		drop_client(chardev);
	if (chardev->out.fd < 0)
		accept_client(chardev);
}

static void socket_input_ended(struct chardev *chardev)
{
	if (hung_up(chardev->in.fd))
		drop_client(chardev);
	else
		chardev_close_in(chardev);
}

static void socket_output_failed(struct chardev *chardev, int error)
{
	drop_client(chardev);
}

static void close_socket(struct chardev *chardev)
{
	struct stat status;
	if (chardev->path && lstat(chardev->path, &status) == 0 && status.st_dev == chardev->path_device &&
	    status.st_ino == chardev->path_inode)
		unlink(chardev->path);
	free(chardev->path);
	if (chardev->listen_fd >= 0)
		close(chardev->listen_fd);
}

static const struct chardev_backend socket_backend = {
	.kind = "socket",
	.has_argument = true,
	.open = open_socket,
	.attend = attend_socket,
	.input_ended = socket_input_ended,
	.output_failed = socket_output_failed,
	.close = close_socket,
};

/* ---- pty ---- */

/*
 * Raw, or the pty would echo the guest's output back as its input. Opening and closing the other end also makes the
 * master report that it is not open, which a new pty does not do.
 */
static int prepare_slave(int master)
{
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return -errno;
	struct termios modes;
	int result = tcgetattr(slave, &modes);
	if (result == 0) {
		cfmakeraw(&modes);
		result = tcsetattr(slave, TCSANOW, &modes);
	}
	result = result < 0 ? -errno : 0;
	close(slave);
	return result;
}

static int open_pty(struct chardev *chardev, const char *argument, struct tenon_error *err)
{
	snprintf(chardev->name, sizeof(chardev->name), "pty");
	int result = create_epoll(chardev, err);
	if (result < 0)
		return result;
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (master < 0)
		return tenon_fail(err, -errno, "pty: cannot open /dev/ptmx: %m; mount devpts on /dev/pts");
	result = chardev_set_in(chardev, (struct stream){.kind = STREAM_NONBLOCKING, .fd = master});
	if (result < 0)
		return fail_watch(chardev, result, err);

	char path[64];
	int copy = -1;
	if (unlockpt(master) < 0 || prepare_slave(master) < 0 || ptsname_r(master, path, sizeof(path)) != 0 ||
	    (copy = fcntl(master, F_DUPFD_CLOEXEC, 0)) < 0)
		return tenon_fail(err, -errno, "pty: cannot set up its other end: %m; mount devpts on /dev/pts");
	snprintf(chardev->name, sizeof(chardev->name), "pty %s", path);
	result = chardev_set_out(chardev, (struct stream){.kind = STREAM_NONBLOCKING, .fd = copy});
	return result < 0 ? fail_watch(chardev, result, err) : 0;
}

/* Nothing reports that the other end was opened, so that is asked before each byte until it was. */
static bool pty_has_reader(struct chardev *chardev)
{
	if (!chardev->connected)
		chardev->connected = !hung_up(chardev->out.fd);
	return chardev->connected;
}

static void pty_left(struct chardev *chardev)
{
	if (chardev->connected)
		chardev->events |= CHARDEV_CLOSED;
	chardev->connected = false;
	chardev_discard_output(chardev);
}

static void pty_output_failed(struct chardev *chardev, int error)
{
	pty_left(chardev);
}

static const struct chardev_backend pty_backend = {
	.kind = "pty",
	.open = open_pty,
	.has_reader = pty_has_reader,
	.input_ended = pty_left,
	.output_failed = pty_output_failed,
};

const struct chardev_backend *const chardev_backends[] = {&stdio_backend,  &none_backend, &file_backend,
							  &socket_backend, &pty_backend,  NULL};
