// SPDX-License-Identifier: MIT
/* The only file of the folder that touches the host: /sys, /proc, /dev, our own state in /run, modprobe, the terminal. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

#define TEXT_BYTES_MAX (8u << 20)

/* The path below the host's root. @return false when it does not fit, and then nothing has that path */
static bool full_path(const struct host *host, char path[PATH_MAX], const char *format, va_list args)
{
	size_t used = strnlen(host->root, PATH_MAX - 1);
	memcpy(path, host->root, used);
	int length = vsnprintf(path + used, PATH_MAX - used, format, args);
	return length >= 0 && (size_t)length < PATH_MAX - used;
}

#define FULL_PATH(host, format, path, otherwise)                                                                       \
	do {                                                                                                           \
		va_list args_;                                                                                         \
		va_start(args_, format);                                                                               \
		bool fits_ = full_path(host, path, format, args_);                                                     \
		va_end(args_);                                                                                         \
		if (!fits_)                                                                                            \
			return otherwise;                                                                              \
	} while (0)

static void make_printable(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			*text = '?';
	}
}

/* Reads until the end or until the buffer is full: files of sysfs may come in pieces. */
static ssize_t read_all(const char *path, char *buffer, size_t capacity)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	size_t used = 0;
	int code = 0;
	while (used < capacity) {
		ssize_t length = read(fd, buffer + used, capacity - used);
		if (length < 0 && errno == EINTR)
			continue;
		if (length <= 0) {
			code = length < 0 ? -errno : 0;
			break;
		}
		used += (size_t)length;
	}
	close(fd);
	return code < 0 ? code : (ssize_t)used;
}

ssize_t host_read(const struct host *host, void *buffer, size_t capacity, const char *format, ...)
{
	char path[PATH_MAX];
	FULL_PATH(host, format, path, -ENAMETOOLONG);
	return read_all(path, buffer, capacity);
}

static ssize_t read_line(const char *path, char *line, size_t capacity)
{
	line[0] = '\0';
	ssize_t length = read_all(path, line, capacity - 1);
	if (length < 0)
		return length;
	line[length] = '\0';
	line[strcspn(line, "\n")] = '\0';
	make_printable(line);
	return (ssize_t)strlen(line);
}

ssize_t host_read_line(const struct host *host, char *line, size_t capacity, const char *format, ...)
{
	char path[PATH_MAX];
	line[0] = '\0';
	FULL_PATH(host, format, path, -ENAMETOOLONG);
	return read_line(path, line, capacity);
}

/* The size that /proc and /sys report says nothing, so the buffer grows until the end is seen. */
static char *read_to_end(int fd)
{
	size_t capacity = 16384, used = 0;
	char *text = malloc(capacity);
	ssize_t length = -1;
	while (text && (length = read(fd, text + used, capacity - used - 1)) > 0) {
		used += (size_t)length;
		if (used < capacity - 1)
			continue;
		char *larger = capacity < TEXT_BYTES_MAX ? realloc(text, capacity * 2) : NULL;
		if (!larger)
			break;
		text = larger;
		capacity *= 2;
	}
	if (text && length < 0) {
		free(text);
		return NULL;
	}
	if (text)
		text[used] = '\0';
	return text;
}

char *host_read_text(const struct host *host, const char *format, ...)
{
	char path[PATH_MAX];
	FULL_PATH(host, format, path, NULL);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return NULL;
	char *text = read_to_end(fd);
	close(fd);
	return text;
}

char *host_read_gzip(const struct host *host, const char *path)
{
	char full[PATH_MAX];
	int ends[2];
	if ((size_t)snprintf(full, sizeof(full), "%s%s", host->root, path) >= sizeof(full) || access(full, R_OK) < 0 ||
	    pipe2(ends, O_CLOEXEC) < 0)
		return NULL;
	pid_t child = fork();
	if (child == 0) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(open("/dev/null", O_RDWR), STDERR_FILENO);
		execlp("gzip", "gzip", "-dc", "--", full, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	char *text = child > 0 ? read_to_end(ends[0]) : NULL;
	close(ends[0]);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	if (text && !text[0]) {
		free(text);
		return NULL;
	}
	return text;
}

int host_read_number(const struct host *host, uint64_t *out, const char *format, ...)
{
	char path[PATH_MAX], line[64], *end;
	FULL_PATH(host, format, path, -ENAMETOOLONG);
	ssize_t length = read_line(path, line, sizeof(line));
	if (length < 0)
		return (int)length;
	errno = 0;
	unsigned long long value = strtoull(line, &end, 0);
	if (errno || end == line || *end || line[0] == '-')
		return -EINVAL;
	*out = value;
	return 0;
}

static int link_target(const char *path, char *target, size_t capacity)
{
	ssize_t length = readlink(path, target, capacity);
	if (length < 0 || (size_t)length >= capacity) {
		target[0] = '\0';
		return length < 0 ? -errno : -ENAMETOOLONG;
	}
	target[length] = '\0';
	make_printable(target);
	return 0;
}

int host_link_target(const struct host *host, char *target, size_t capacity, const char *format, ...)
{
	char path[PATH_MAX];
	target[0] = '\0';
	FULL_PATH(host, format, path, -ENAMETOOLONG);
	return link_target(path, target, capacity);
}

int host_link_name(const struct host *host, char *name, size_t capacity, const char *format, ...)
{
	char path[PATH_MAX], target[PATH_MAX];
	name[0] = '\0';
	FULL_PATH(host, format, path, -ENAMETOOLONG);
	int code = link_target(path, target, sizeof(target));
	if (code < 0)
		return code;
	const char *slash = strrchr(target, '/');
	const char *last = slash ? slash + 1 : target;
	if (strlen(last) >= capacity)
		return -ENAMETOOLONG;
	strcpy(name, last);
	return 0;
}

int host_real_path(const struct host *host, char *path, size_t capacity, const char *format, ...)
{
	char unresolved[PATH_MAX], resolved[PATH_MAX], root[PATH_MAX] = "";
	path[0] = '\0';
	FULL_PATH(host, format, unresolved, -ENAMETOOLONG);
	if (!realpath(unresolved, resolved) || (host->root[0] && !realpath(host->root, root)))
		return -errno;
	size_t skip = strlen(root);
	if (strncmp(resolved, root, skip) != 0 || strlen(resolved + skip) >= capacity)
		return -ENAMETOOLONG;
	strcpy(path, resolved + skip);
	return 0;
}

bool host_exists(const struct host *host, const char *format, ...)
{
	char path[PATH_MAX];
	FULL_PATH(host, format, path, false);
	return access(path, F_OK) == 0;
}

bool host_is_folder(const struct host *host, const char *format, ...)
{
	char path[PATH_MAX];
	struct stat status;
	FULL_PATH(host, format, path, false);
	return lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int host_access(const struct host *host, const char *format, ...)
{
	char path[PATH_MAX];
	FULL_PATH(host, format, path, -ENAMETOOLONG);
	return access(path, R_OK | W_OK) == 0 ? 0 : -errno;
}

static int no_dot_files(const struct dirent *item)
{
	return item->d_name[0] != '.';
}

int host_list(const struct host *host, const char *path, int (*entry)(void *context, const char *name), void *context)
{
	char full[PATH_MAX];
	struct dirent **items;
	if ((size_t)snprintf(full, sizeof(full), "%s%s", host->root, path) >= sizeof(full))
		return -ENAMETOOLONG;
	int count = scandir(full, &items, no_dot_files, alphasort);
	if (count < 0)
		return -errno;
	int result = 0;
	for (int i = 0; i < count; i++) {
		if (result == 0)
			result = entry(context, items[i]->d_name);
		free(items[i]);
	}
	free(items);
	return result;
}

struct first {
	const char *prefix;
	char *name;
	size_t capacity;
};

static int match_first(void *context, const char *name)
{
	struct first *first = context;
	if (strncmp(name, first->prefix, strlen(first->prefix)) != 0 || strlen(name) >= first->capacity)
		return 0;
	strcpy(first->name, name);
	return 1;
}

bool host_first(const struct host *host, const char *path, const char *prefix, char *name, size_t capacity)
{
	struct first first = {prefix, name, capacity};
	return host_list(host, path, match_first, &first) == 1;
}

int host_write(const struct host *host, const char *text, const char *format, ...)
{
	char path[PATH_MAX];
	const struct host nowhere = {.root = ""};
	FULL_PATH(&nowhere, format, path, -ENAMETOOLONG);
	return host->write(host, path, text);
}

int host_load_module(const struct host *host, const char *name)
{
	return host->load_module(host, name);
}

bool host_claimed(const struct host *host, const char *node)
{
	return host->claimed(host, node);
}

/* In one write, which is what sysfs takes as one command. */
static int write_whole(const char *path, int flags, const char *text)
{
	int fd = open(path, flags | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	ssize_t length;
	do
		length = write(fd, text, strlen(text));
	while (length < 0 && errno == EINTR);
	int code = length < 0 ? -errno : (size_t)length < strlen(text) ? -EIO : 0;
	close(fd);
	return code;
}

static int real_write(const struct host *host, const char *path, const char *text)
{
	char full[PATH_MAX];
	if ((size_t)snprintf(full, sizeof(full), "%s%s", host->root, path) >= sizeof(full))
		return -ENAMETOOLONG;
	return write_whole(full, 0, text);
}

static int real_load_module(const struct host *host, const char *name)
{
	pid_t child = fork();
	if (child < 0)
		return -errno;
	if (child == 0) {
		/* Its own complaint would be a second line beside ours. */
		int null = open("/dev/null", O_RDWR);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execlp("modprobe", "modprobe", "--", name, (char *)NULL);
		execl("/sbin/modprobe", "modprobe", "--", name, (char *)NULL);
		_exit(127);
	}
	int status;
	while (waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOENT;
}

/*
 * An exclusive open is refused as long as anybody holds the device exclusively, partitions included. It is in nobody's way
 * for longer than this, but long enough to make a mount at the same moment fail: only bind asks, on the point of taking the
 * device away.
 */
static bool real_claimed(const struct host *host, const char *node)
{
	char full[PATH_MAX];
	struct stat status;
	if ((size_t)snprintf(full, sizeof(full), "%s%s", host->root, node) >= sizeof(full) || stat(full, &status) < 0 ||
	    !S_ISBLK(status.st_mode))
		return false;
	int fd = open(full, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == EBUSY;
	close(fd);
	return false;
}

const struct host host_real = {
	.root = "", .write = real_write, .load_module = real_load_module, .claimed = real_claimed};

static int make_folders(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		int code = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
		*slash = '/';
		if (code < 0)
			return code;
	}
	return 0;
}

int host_store(const struct host *host, const char *text, const char *folder, const char *name)
{
	char path[PATH_MAX], unfinished[PATH_MAX];
	if ((size_t)snprintf(path, sizeof(path), "%s%s/%s", host->root, folder, name) >= sizeof(path) ||
	    (size_t)snprintf(unfinished, sizeof(unfinished), "%s%s/.%s.new", host->root, folder, name) >=
		    sizeof(unfinished))
		return -ENAMETOOLONG;
	int code = make_folders(path);
	if (code == 0)
		code = write_whole(unfinished, O_CREAT | O_TRUNC, text);
	if (code == 0 && rename(unfinished, path) < 0)
		code = -errno;
	if (code < 0)
		unlink(unfinished);
	return code;
}

int host_forget(const struct host *host, const char *format, ...)
{
	char path[PATH_MAX];
	FULL_PATH(host, format, path, -ENAMETOOLONG);
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int host_lock(const struct host *host, const char *folder)
{
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof(path), "%s%s/.lock", host->root, folder) >= sizeof(path))
		return -ENAMETOOLONG;
	int code = make_folders(path);
	if (code < 0)
		return code;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX) < 0) {
		if (errno != EINTR) {
			code = -errno;
			close(fd);
			return code;
		}
	}
	return fd;
}

void host_sleep_ms(unsigned milliseconds)
{
	struct timespec pause = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
	nanosleep(&pause, NULL);
}

bool host_confirm(const char *question)
{
	char answer[16];
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return false;
	fprintf(stderr, "%s [y/N] ", question);
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}
