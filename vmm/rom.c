// SPDX-License-Identifier: MIT
/* Finds, checks and reads a ROM image. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beside.h"
#include "layout.h"
#include "rom.h"

#define PAGE_BYTES 4096

/* As it is built, and as it is installed. */
static int find_default(char path[PATH_MAX], struct tenon_error *err)
{
	static const char *const places[] = {"firmware/tenon-firmware.rom", "../share/tenon/tenon-firmware.rom"};
	char folder[PATH_MAX];
	int code = beside_folder("the firmware", folder, sizeof(folder), err);
	if (code < 0)
		return code;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if ((size_t)snprintf(path, PATH_MAX, "%s%s", folder, places[i]) < PATH_MAX && access(path, F_OK) == 0)
			return 0;
	}
	return tenon_fail(err, -ENOENT,
			  "--firmware %s: tenon-firmware.rom is neither in firmware/ beside tenon in %s nor in "
			  "../share/tenon of it; install or build all of tenon, or name a file",
			  ROM_DEFAULT, folder);
}

static int check_size(const char *file, const struct stat *status, struct tenon_error *err)
{
	if (!S_ISREG(status->st_mode))
		return tenon_fail(err, -EINVAL, "--firmware %s: is no regular file; give a ROM image", file);
	if (status->st_size == 0 || status->st_size > (off_t)LAYOUT_ROM_BYTES_MAX || status->st_size % PAGE_BYTES)
		return tenon_fail(err, -EINVAL,
				  "--firmware %s: has %lld bytes; a ROM image has a multiple of %d, and %u at most",
				  file, (long long)status->st_size, PAGE_BYTES, LAYOUT_ROM_BYTES_MAX);
	return 0;
}

static int read_all(const char *file, int fd, struct rom *rom, struct tenon_error *err)
{
	uint64_t done = 0;
	while (done < rom->size_bytes) {
		ssize_t count = pread(fd, rom->hva + done, rom->size_bytes - done, (off_t)done);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return tenon_fail(err, -errno, "--firmware %s: cannot read: %s", file, strerror(errno));
		if (count == 0)
			return tenon_fail(err, -EIO, "--firmware %s: became shorter while it was read; try again",
					  file);
		done += (uint64_t)count;
	}
	return 0;
}

static int load(const char *file, int fd, struct rom *rom, struct tenon_error *err)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return tenon_fail(err, -errno, "--firmware %s: %s", file, strerror(errno));
	int code = check_size(file, &status, err);
	if (code < 0)
		return code;
	rom->size_bytes = (uint64_t)status.st_size;
	void *hva = mmap(NULL, rom->size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hva == MAP_FAILED)
		return tenon_fail(err, -errno, "--firmware %s: no memory for it: %s; free some memory", file,
				  strerror(errno));
	rom->hva = hva;
	return read_all(file, fd, rom, err);
}

int rom_load(const char *file, struct rom *rom, struct tenon_error *err)
{
	char path[PATH_MAX];
	*rom = (struct rom){0};
	if (strcmp(file, ROM_DEFAULT) == 0) {
		int code = find_default(path, err);
		if (code < 0)
			return code;
		file = path;
	}
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return tenon_fail(err, -errno, "--firmware %s: cannot open: %s; give a ROM image, or %s", file,
				  strerror(errno), ROM_DEFAULT);
	int code = load(file, fd, rom, err);
	close(fd);
	if (code < 0)
		rom_finish(rom);
	return code;
}

void rom_finish(struct rom *rom)
{
	if (rom->hva)
		munmap(rom->hva, rom->size_bytes);
	*rom = (struct rom){0};
}

uint64_t rom_gpa(const struct rom *rom)
{
	return LAYOUT_RAM_ABOVE_4G - rom->size_bytes;
}
