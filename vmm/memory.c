/* SPDX-License-Identifier: MIT */
/*
 * Owns guest RAM: what is behind it, the mapping and faulting it in. It knows the place of the PCI hole and nothing of KVM or
 * of what is written into RAM.
 *
 * Private memory by itself: hosts give it huge pages on the first touch, which makes populating it, and what the IOMMU and KVM
 * map of it, several times as fast. One shared mapping of one memfd where another process is to reach it; never a private
 * mapping of a file, which would be copied on pinning.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/memfd.h>

#include "layout.h"
#include "memory.h"
#include "thread.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u /* Linux 6.3 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define MIB                  (UINT64_C(1) << 20)
#define GIB                  (UINT64_C(1) << 30)
#define SMALL_GRANULE        (2 * MIB)
#define POPULATE_CHUNK       (64 * MIB)
#define POPULATE_THREADS_MAX 64u
#define POPULATE_STACK_BYTES (UINT64_C(64) << 10)

/* ---- What the host has ---- */

/* The start of a small file of /proc or /sys; "" when there is none. */
static void host_read(const char *path, char *text, size_t capacity)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, text, capacity - 1);
	if (fd >= 0)
		close(fd);
	text[length > 0 ? length : 0] = '\0';
}

static uint64_t huge_pool_read(uint64_t huge_page_bytes, const char *name)
{
	char path[96];
	char text[32];
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s", huge_page_bytes / 1024,
		 name);
	host_read(path, text, sizeof(text));
	return strtoull(text, NULL, 10);
}

/* The pool cannot back the guest: says how many pages there are and how to get as many as are missing. */
static int fail_huge_pool(const struct memory_options *options, struct tenon_error *err)
{
	uint64_t page = options->huge_page_bytes;
	uint64_t needed = options->size_bytes / page;
	uint64_t total = huge_pool_read(page, "nr_hugepages");
	uint64_t free_pages = huge_pool_read(page, "free_hugepages");
	uint64_t reserved = huge_pool_read(page, "resv_hugepages");
	uint64_t usable = free_pages > reserved ? free_pages - reserved : 0;
	const char *size = page == GIB ? "1 GiB" : "2 MiB";

	if (usable >= needed)
		return tenon_fail(err, -ENOMEM,
				  "memory: %" PRIu64 " huge pages of %s: refused, though %" PRIu64
				  " are free; a hugetlb limit of this process's cgroup is likely (hugetlb.*.max)",
				  needed, size, usable);
	return tenon_fail(err, -ENOMEM,
			  "memory: needs %" PRIu64 " huge pages of %s: the host has %" PRIu64 " free of %" PRIu64
			  "; echo %" PRIu64 " > /sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages",
			  needed, size, usable, total, total + needed - usable, page / 1024);
}

static uint64_t host_available_bytes(void)
{
	static const char key[] = "MemAvailable:";
	char text[512]; /* it is the third line */
	host_read("/proc/meminfo", text, sizeof(text));
	const char *found = strstr(text, key);
	return found ? strtoull(found + sizeof(key) - 1, NULL, 10) * 1024 : 0;
}

/* Those of private memory are on where nobody turned them off, those of shared memory are off on most hosts. */
static bool host_gives_transparent_huge(bool shared)
{
	char text[128];
	host_read(shared ? "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
			 : "/sys/kernel/mm/transparent_hugepage/enabled",
		  text, sizeof(text));
	return text[0] && !strstr(text, "[never]") && !strstr(text, "[deny]");
}

/* ---- Creation ---- */

static int memfd_make(const struct memory_options *options, struct tenon_error *err)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	if (options->huge_page_bytes == GIB)
		flags |= MFD_HUGETLB | MFD_HUGE_1GB;
	else if (options->huge_page_bytes)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;

	int fd = memfd_create("guest-ram", flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("guest-ram", flags);
	if (fd >= 0)
		return fd;

	int code = -errno;
	if (options->huge_page_bytes && (code == -ENODEV || code == -EINVAL || code == -ENOENT))
		return tenon_fail(err, code,
				  "memory: this host has no huge pages of %s; leave hugepages= out, or use %s",
				  options->huge_page_bytes == GIB ? "1 GiB" : "2 MiB",
				  options->huge_page_bytes == GIB ? "hugepages=2M" : "a kernel with CONFIG_HUGETLBFS");
	return tenon_fail(err, code, "memory: cannot create a memfd: %s", strerror(-code));
}

/* A sealed memfd of that size: whoever gets it must not take pages from under us, which would be a SIGBUS here. @return fd */
static int memfd_open(const struct memory_options *options, struct tenon_error *err)
{
	int fd = memfd_make(options, err), code = fd;
	if (fd >= 0 && ftruncate(fd, (off_t)options->size_bytes) < 0)
		code = tenon_fail(err, -errno, "memory: cannot size the memfd to %" PRIu64 " MiB: %s",
				  options->size_bytes / MIB, strerror(errno));
	else if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		code = tenon_fail(err, -errno, "memory: cannot seal the memfd: %s", strerror(errno));
	if (code < 0 && fd >= 0)
		close(fd);
	return code;
}

/*
 * Maps the file, or private memory (-1), at a multiple of `alignment`, so that host address, guest address and file offset agree
 * modulo the huge page size: only then can KVM, the IOMMU and the host's page tables use huge pages.
 */
static uint8_t *map_aligned(int fd, uint64_t size_bytes, uint64_t alignment)
{
	uint64_t reserved_bytes = size_bytes + alignment;
	uint8_t *reserved = mmap(NULL, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		return NULL;

	uint64_t head = -(uint64_t)(uintptr_t)reserved & (alignment - 1);
	uint8_t *hva = reserved + head;
	int kind = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	if (mmap(hva, size_bytes, PROT_READ | PROT_WRITE, kind | MAP_FIXED, fd, 0) == MAP_FAILED) {
		int code = errno;
		munmap(reserved, reserved_bytes);
		errno = code;
		return NULL;
	}
	if (head)
		munmap(reserved, head);
	if (alignment > head)
		munmap(hva + size_bytes, alignment - head);
	return hva;
}

static void split_around_hole(struct memory *memory)
{
	uint64_t size = memory->options.size_bytes;
	uint64_t low = size < LAYOUT_PCI32 ? size : LAYOUT_PCI32;

	memory->parts[0] = (struct memory_part){.gpa = 0, .size_bytes = low, .hva = memory->hva};
	memory->part_count = 1;
	if (size > low) {
		memory->parts[1] = (struct memory_part){
			.gpa = LAYOUT_RAM_ABOVE_4G, .size_bytes = size - low, .hva = memory->hva + low};
		memory->part_count = 2;
	}
}

int memory_create(const struct memory_options *options, struct memory *memory, struct tenon_error *err)
{
	int result = memory_options_check(options, err);
	if (result < 0)
		return result;

	uint64_t size = options->size_bytes;
	bool shared = options->shared || options->huge_page_bytes;
	struct memory built = {.options = *options, .fd = -1};
	if (shared)
		built.fd = memfd_open(options, err);
	if (shared && built.fd < 0)
		return built.fd;

	built.hva = map_aligned(built.fd, size, size >= GIB ? GIB : SMALL_GRANULE);
	if (!built.hva) {
		result = -errno;
		if (options->huge_page_bytes && result == -ENOMEM)
			fail_huge_pool(options, err);
		else
			tenon_fail(err, result,
				   "memory: cannot map %" PRIu64
				   " MiB: %s; ask for less, or raise the address space limit "
				   "(ulimit -v)",
				   size / MIB, strerror(-result));
		if (built.fd >= 0)
			close(built.fd);
		return result;
	}

	/* Advice only. A core dump of the monitor needs no guest RAM, and a child's copy of private RAM would be copied on pinning. */
	if (!options->huge_page_bytes && host_gives_transparent_huge(shared))
		built.transparent_huge = madvise(built.hva, size, MADV_HUGEPAGE) == 0;
	madvise(built.hva, size, MADV_DONTDUMP);
	madvise(built.hva, size, MADV_DONTFORK);

	split_around_hole(&built);
	*memory = built;
	return 0;
}

void memory_destroy(struct memory *memory)
{
	if (memory->hva) {
		munmap(memory->hva, memory->options.size_bytes);
		if (memory->fd >= 0)
			close(memory->fd);
	}
	memset(memory, 0, sizeof(*memory));
}

/* ---- Populating ---- */

struct populate {
	int fd;
	uint8_t *hva;
	uint64_t size_bytes;
	uint64_t chunk_bytes;
	uint64_t page_bytes;
	bool collapse;
	const atomic_bool *cancel;
	_Atomic uint64_t next;
	_Atomic int result;
};

/*
 * Fills untouched shared memory with transparent huge pages, whether or not the host gives them on a touch (it seldom does):
 * several times as fast as small pages, and the IOMMU and KVM then map it by huge entries. The kernel collapses only extents
 * that have a page already; one that is allocated in the file but mapped nowhere costs no TLB flush. Where it fails, small
 * pages do.
 */
static void collapse_range(const struct populate *job, uint64_t first, uint64_t size_bytes)
{
	for (uint64_t offset = first; offset < first + size_bytes; offset += SMALL_GRANULE)
		fallocate(job->fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)job->page_bytes);
	madvise(job->hva + first, size_bytes, MADV_COLLAPSE);
}

static int populate_range(uint8_t *hva, uint64_t size_bytes, uint64_t page_bytes)
{
	while (madvise(hva, size_bytes, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINTR || errno == EAGAIN)
			continue;
		if (errno != EINVAL)
			return -errno;
		/* Older than 5.14: a write that changes nothing, as the page may hold something. */
		for (uint64_t offset = 0; offset < size_bytes; offset += page_bytes)
			__atomic_fetch_or(hva + offset, 0, __ATOMIC_RELAXED);
		break;
	}
	return 0;
}

static void *populate_worker(void *argument)
{
	struct populate *job = argument;
	while (atomic_load(&job->result) == 0 && !(job->cancel && atomic_load(job->cancel))) {
		uint64_t offset = atomic_fetch_add(&job->next, job->chunk_bytes);
		if (offset >= job->size_bytes)
			break;
		uint64_t left = job->size_bytes - offset;
		uint64_t bytes = left < job->chunk_bytes ? left : job->chunk_bytes;
		if (job->collapse)
			collapse_range(job, offset, bytes);
		int result = populate_range(job->hva + offset, bytes, job->page_bytes);
		if (result < 0)
			atomic_store(&job->result, result);
	}
	return NULL;
}

static unsigned usable_cpus(void)
{
	cpu_set_t cpus;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return 1;
	return (unsigned)CPU_COUNT(&cpus);
}

/* Runs the job on up to `threads` threads, this one included; a thread that cannot be made is done without. */
static void populate_run(struct populate *job, unsigned threads)
{
	pthread_t helpers[POPULATE_THREADS_MAX];
	unsigned started = 0;
	while (started + 1 < threads &&
	       thread_start(&helpers[started], POPULATE_STACK_BYTES, populate_worker, job) == 0)
		started++;

	populate_worker(job);
	for (unsigned i = 0; i < started; i++)
		pthread_join(helpers[i], NULL);
}

int memory_populate(struct memory *memory, unsigned threads, const atomic_bool *cancel, struct tenon_error *err)
{
	uint64_t huge = memory->options.huge_page_bytes;
	struct populate job = {
		.fd = memory->fd,
		.hva = memory->hva,
		.size_bytes = memory->options.size_bytes,
		.chunk_bytes = huge > POPULATE_CHUNK ? huge : POPULATE_CHUNK,
		.page_bytes = huge ? huge : (uint64_t)sysconf(_SC_PAGESIZE),
		.collapse = huge == 0 && memory->fd >= 0,
		.cancel = cancel,
	};

	uint64_t chunks = (job.size_bytes + job.chunk_bytes - 1) / job.chunk_bytes;
	if (threads == 0)
		threads = usable_cpus();
	if (threads > chunks)
		threads = (unsigned)chunks;
	populate_run(&job, threads < POPULATE_THREADS_MAX ? threads : POPULATE_THREADS_MAX);

	int result = atomic_load(&job.result);
	if (result == 0)
		return 0;
	if (huge && (result == -ENOMEM || result == -EFAULT)) {
		fail_huge_pool(&memory->options, err);
		return result;
	}
	return tenon_fail(err, result,
			  "memory: cannot populate %" PRIu64 " MiB: %s; the host has %" PRIu64
			  " MiB available: ask for less, or raise the memory limit of this process's cgroup",
			  job.size_bytes / MIB, strerror(-result), host_available_bytes() / MIB);
}

/* ---- Access ---- */

void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t size_bytes)
{
	for (unsigned i = 0; i < memory->part_count; i++) {
		const struct memory_part *part = &memory->parts[i];
		if (gpa < part->gpa || gpa - part->gpa >= part->size_bytes)
			continue;
		uint64_t offset = gpa - part->gpa;
		return size_bytes <= part->size_bytes - offset ? part->hva + offset : NULL;
	}
	return NULL;
}

/* A hole of the memfd reads as zeroes already; hugetlbfs has no SEEK_DATA and says all is data. */
static void clear_shared(struct memory *memory, off_t first, off_t end)
{
	while (first < end) {
		off_t data = lseek(memory->fd, first, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			data = first;
		if (data >= end)
			break;
		off_t hole = lseek(memory->fd, data, SEEK_HOLE);
		if (hole <= data || hole > end)
			hole = end;
		memset(memory->hva + data, 0, (size_t)(hole - data));
		first = hole;
	}
}

/* Reading a private page that was never touched takes none; it shows the kernel's page of zeroes. */
static void clear_private(uint8_t *hva, uint64_t size_bytes)
{
	static const uint8_t zeroes[4096];
	while (size_bytes > 0) {
		uint64_t bytes = size_bytes < sizeof(zeroes) ? size_bytes : sizeof(zeroes);
		if (memcmp(hva, zeroes, bytes) != 0)
			memset(hva, 0, bytes);
		hva += bytes;
		size_bytes -= bytes;
	}
}

int memory_clear(struct memory *memory, uint64_t gpa, uint64_t size_bytes)
{
	uint8_t *hva = memory_at(memory, gpa, size_bytes);
	if (!hva)
		return -EFAULT;
	if (memory->fd >= 0)
		clear_shared(memory, hva - memory->hva, hva - memory->hva + (off_t)size_bytes);
	else
		clear_private(hva, size_bytes);
	return 0;
}
