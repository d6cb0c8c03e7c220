// SPDX-License-Identifier: MIT
/* Making, finding and removing the control socket. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "listener.h"

#define BACKLOG 16

static int set_path(const char *path, struct sockaddr_un *address, struct tenon_error *err)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	size_t length = strlen(path);
	if (length == 0 || length >= sizeof(address->sun_path))
		return tenon_fail(err, -ENAMETOOLONG,
				  "control socket %s: a socket's path has 1 to %zu bytes; choose another", path,
				  sizeof(address->sun_path) - 1);
	memcpy(address->sun_path, path, length);
	return 0;
}

static int connect_to(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
		return fd;
	int code = -errno;
	if (fd >= 0)
		close(fd);
	return code;
}

int control_connect(const char *path, struct tenon_error *err)
{
	struct sockaddr_un address;
	int code = set_path(path, &address, err);
	if (code == 0)
		code = connect_to(&address);
	else
		return code;
	if (code >= 0)
		return code;
	return tenon_fail(err, code, "control socket %s: %s; %s", path, strerror(-code),
			  code == -EACCES ? "run this as the user who runs the VM"
					  : "give the path that tenon run --control has, of a VM that runs");
}

/* Something has the name: whether it is a socket that its VM left behind. */
static int remove_stale(const struct sockaddr_un *address, const char *path, struct tenon_error *err)
{
	struct stat status;
	if (lstat(path, &status) < 0 || !S_ISSOCK(status.st_mode))
		return tenon_fail(err, -EEXIST, "--control %s: exists and is no socket; choose another path", path);
	int fd = connect_to(address);
	if (fd >= 0)
		close(fd);
	if (fd != -ECONNREFUSED)
		return tenon_fail(err, -EADDRINUSE, "--control %s: in use, perhaps by another VM; choose another path",
				  path);
	if (unlink(path) < 0)
		return tenon_fail(err, -errno,
				  "--control %s: cannot remove the socket of a VM that has ended: %s; remove it", path,
				  strerror(errno));
	return 0;
}

static int bind_to(int fd, const struct sockaddr_un *address, const char *path, struct tenon_error *err)
{
	/* The socket's own mode, before there is a name, becomes the file's: nobody else can connect in between. */
	if (fchmod(fd, 0600) < 0)
		return tenon_fail(err, -errno, "--control %s: cannot make it private: %s; report this", path,
				  strerror(errno));
	for (int attempt = 0;; attempt++) {
		if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
			return 0;
		int code = -errno;
		if (code != -EADDRINUSE || attempt > 0)
			return tenon_fail(err, code,
					  "--control %s: cannot make a socket there: %s; choose another path", path,
					  strerror(-code));
		code = remove_stale(address, path, err);
		if (code < 0)
			return code;
	}
}

int control_listener_open(const char *path, struct control_listener *out, struct tenon_error *err)
{
	struct sockaddr_un address;
	struct stat status;
	*out = (struct control_listener){.fd = -1, .path = path};
	int code = set_path(path, &address, err);
	if (code < 0)
		return code;
	out->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (out->fd < 0)
		return tenon_fail(err, -errno,
				  "--control %s: cannot make a socket: %s; raise the limit of open files (ulimit -n)",
				  path, strerror(errno));
	code = bind_to(out->fd, &address, path, err);
	if (code == 0 && (lstat(path, &status) < 0 || listen(out->fd, BACKLOG) < 0))
		code = tenon_fail(err, -errno, "--control %s: cannot listen: %s; choose another path", path,
				  strerror(errno));
	if (code < 0) {
		close(out->fd);
		out->fd = -1;
		return code;
	}
	out->device = status.st_dev;
	out->inode = status.st_ino;
	return 0;
}

void control_listener_close(struct control_listener *listener)
{
	struct stat status;
	if (listener->fd < 0)
		return;
	if (lstat(listener->path, &status) == 0 && status.st_dev == listener->device &&
	    status.st_ino == listener->inode)
		unlink(listener->path);
	close(listener->fd);
	listener->fd = -1;
}
