/* SPDX-License-Identifier: MIT */
/*
 * Opens and keeps the kernel and the initrd, tells the kernel's format, and says what a file is that is no kernel.
 * The formats themselves are in bzimage.c and pvh.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"

/* Files that people take for a kernel. */
struct lookalike {
	size_t offset;
	const char *magic;
	size_t magic_bytes;
	const char *what;
};

#define LOOKALIKE(at, bytes, text)                                                                                     \
	{                                                                                                              \
		.offset = (at), .magic = (bytes), .magic_bytes = sizeof(bytes) - 1, .what = (text)                     \
	}

static const struct lookalike lookalikes[] = {
	LOOKALIKE(0, "\x1f\x8b", "is gzip-compressed; unpack it with gunzip first"),
	LOOKALIKE(0,
		  "\xfd"
		  "7zXZ",
		  "is xz-compressed; unpack it with unxz first"),
	LOOKALIKE(0, "\x28\xb5\x2f\xfd", "is zstd-compressed; unpack it with unzstd first"),
	LOOKALIKE(0, "BZh", "is bzip2-compressed; unpack it with bunzip2 first"),
	LOOKALIKE(0, "\x04\x22\x4d\x18", "is lz4-compressed; unpack it with unlz4 first"),
	LOOKALIKE(0, "\x02\x21\x4c\x18", "is lz4-compressed; unpack it with unlz4 first"),
	LOOKALIKE(0, "0707", "is a cpio archive; give it as the initrd"),
	LOOKALIKE(0, "\x27\x05\x19\x56", "is a U-Boot uImage; give the bzImage that it was made from"),
	LOOKALIKE(0, "#!", "is a script"),
	LOOKALIKE(0, "QFI\xfb", "is a qcow2 disk image"),
	LOOKALIKE(56, "ARM\x64", "is a kernel for arm64; an x86-64 one is needed"),
	LOOKALIKE(56, "RSC\x05", "is a kernel for RISC-V; an x86-64 one is needed"),
	LOOKALIKE(0, "MZ", "is an EFI program without Linux's setup header; give the bzImage itself"),
	LOOKALIKE(510, "\x55\xaa", "is a boot sector or disk image, or a Linux older than 2.0"),
};

static int fail_no_kernel(const struct loader_file *kernel, const uint8_t *head, size_t head_bytes,
			  struct tenon_error *err)
{
	for (size_t i = 0; i < sizeof(lookalikes) / sizeof(lookalikes[0]); i++) {
		const struct lookalike *one = &lookalikes[i];
		if (one->offset + one->magic_bytes <= head_bytes &&
		    memcmp(head + one->offset, one->magic, one->magic_bytes) == 0)
			return tenon_fail(err, -ENOEXEC, "kernel %s: %s; give a bzImage or an ELF vmlinux",
					  kernel->name, one->what);
	}
	if (head_bytes < 4)
		return tenon_fail(err, -ENOEXEC, "kernel %s: is only %zu bytes long; give a bzImage or an ELF vmlinux",
				  kernel->name, head_bytes);
	return tenon_fail(err, -ENOEXEC,
			  "kernel %s: is neither a bzImage nor an ELF file: it starts with bytes %02x %02x %02x %02x; "
			  "give one of those",
			  kernel->name, head[0], head[1], head[2], head[3]);
}

static int file_open(struct loader_file *file, const char *role, const char *name, struct tenon_error *err)
{
	/* O_NONBLOCK: a FIFO is refused below rather than waited for. */
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return tenon_fail(err, -errno, "%s %s: cannot open: %s; check the path and its permissions", role, name,
				  strerror(errno));

	struct stat status;
	int result = 0;
	if (fstat(fd, &status) < 0)
		result = tenon_fail(err, -errno, "%s %s: cannot stat: %s; check the path and its permissions", role,
				    name, strerror(errno));
	else if (S_ISDIR(status.st_mode))
		result = tenon_fail(err, -EISDIR, "%s %s: is a directory; give a file", role, name);
	else if (!S_ISREG(status.st_mode))
		result = tenon_fail(
			err, -EINVAL,
			"%s %s: is not a regular file; a guest reset must be able to read it again, so copy it to one",
			role, name);
	else if (status.st_size == 0)
		result = tenon_fail(err, -ENOEXEC, "%s %s: is empty; copy it again", role, name);
	if (result < 0) {
		close(fd);
		return result;
	}
	*file = (struct loader_file){.name = name, .fd = fd, .size_bytes = (uint64_t)status.st_size};
	return 0;
}

static int fail_read(const struct loader_file *file, int code, uint64_t offset, struct tenon_error *err)
{
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot read: %s; check the disk it is on", file->name,
				  strerror(-code));
	return tenon_fail(err, -EIO,
			  "%s: ends at byte %" PRIu64 ", it had %" PRIu64
			  " when it was opened; start again once nobody writes to it",
			  file->name, offset, file->size_bytes);
}

int loader_file_read(const struct loader_file *file, uint64_t offset, void *buffer, uint64_t bytes,
		     struct tenon_error *err)
{
	uint8_t *at = buffer;

	for (uint64_t end = offset + bytes; offset < end;) {
		ssize_t count = pread(file->fd, at, end - offset, (off_t)offset);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return fail_read(file, count < 0 ? -errno : 0, offset, err);
		at += count;
		offset += (uint64_t)count;
	}
	return 0;
}

/*
 * From page cache to page cache inside the kernel, for shared RAM: for pages that were never touched it saves the page fault and
 * the zeroing, which is half the time. Pages that it allocates are small, so not where the host would give huge ones on a fault.
 *
 * @return bytes done, short where the kernel does not do this (private RAM, hugetlbfs, odd file systems) or the file ended
 */
static uint64_t send_to_ram(const struct loader_file *file, uint64_t offset, struct memory *memory, const uint8_t *hva,
			    uint64_t bytes)
{
	off_t from = (off_t)offset;
	uint64_t left = bytes;

	if (memory->fd < 0 || memory->transparent_huge || lseek(memory->fd, hva - memory->hva, SEEK_SET) < 0)
		return 0;
	while (left > 0) {
		ssize_t count = sendfile(memory->fd, file->fd, &from, left);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			break;
		left -= (uint64_t)count;
	}
	return bytes - left;
}

int loader_file_load(const struct loader_file *file, uint64_t offset, struct memory *memory, uint64_t gpa,
		     uint64_t bytes, struct tenon_error *err)
{
	uint8_t *hva = memory_at(memory, gpa, bytes);
	if (!hva)
		return tenon_fail(err, -EFAULT,
				  "%s: guest address 0x%" PRIx64 " is not in RAM; give the guest more memory",
				  file->name, gpa);
	uint64_t done = send_to_ram(file, offset, memory, hva, bytes);
	return loader_file_read(file, offset + done, hva + done, bytes - done, err);
}

static int kernel_parse(struct loader_files *files, struct tenon_error *err)
{
	const struct loader_file *kernel = &files->kernel;
	uint8_t head[LOADER_HEAD_BYTES];
	size_t head_bytes = kernel->size_bytes < sizeof(head) ? (size_t)kernel->size_bytes : sizeof(head);

	int result = loader_file_read(kernel, 0, head, head_bytes, err);
	if (result < 0)
		return result;
	if (bzimage_matches(head, head_bytes))
		return bzimage_parse(kernel, head, head_bytes, files->image, err);
	if (pvh_matches(head, head_bytes))
		return pvh_parse(kernel, head, head_bytes, files->image, err);
	return fail_no_kernel(kernel, head, head_bytes, err);
}

int loader_files_init(struct loader_files *files, const char *kernel, const char *initrd, const char *cmdline,
		      struct tenon_error *err)
{
	struct loader_files opened = {.cmdline = cmdline};
	int result = file_open(&opened.kernel, "kernel", kernel, err);
	if (result < 0)
		goto fail;
	if (initrd) {
		result = file_open(&opened.initrd, "initrd", initrd, err);
		if (result < 0)
			goto fail;
	}

	opened.image = calloc(1, sizeof(*opened.image));
	if (!opened.image) {
		result = tenon_fail(err, -ENOMEM, "kernel %s: out of memory; free some memory", kernel);
		goto fail;
	}
	result = kernel_parse(&opened, err);
	if (result < 0)
		goto fail;

	if (strlen(cmdline) > opened.image->cmdline_max) {
		result = tenon_fail(err, -E2BIG,
				    "command line: %zu characters, but kernel %s takes %" PRIu64 "; shorten it",
				    strlen(cmdline), kernel, opened.image->cmdline_max);
		goto fail;
	}
	*files = opened;
	return 0;

fail:
	loader_files_finish(&opened);
	return result;
}

void loader_files_finish(struct loader_files *files)
{
	if (files->kernel.name)
		close(files->kernel.fd);
	if (files->initrd.name)
		close(files->initrd.fd);
	free(files->image);
	memset(files, 0, sizeof(*files));
}
