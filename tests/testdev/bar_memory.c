// SPDX-License-Identifier: MIT
/*
 * Memory that is shared with the client. Touching a mapping beyond the end of its file raises SIGBUS, and the client owns
 * the files it passes: guarded_copy turns that signal into an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bar_memory.h"
#include "testdev.h"

static _Thread_local sigjmp_buf *guard;

static void on_bus_error(int number)
{
	if (guard)
		siglongjmp(*guard, 1);
	/* Not ours: as if there were no handler. */
	signal(number, SIG_DFL);
	raise(number);
}

int guarded_copy(void *target, const void *source, size_t bytes)
{
	sigjmp_buf here;
	/* Without saving the mask, which costs a system call each time; the handler's SA_NODEFER keeps it as it is. */
	if (sigsetjmp(here, 0)) {
		guard = NULL;
		return -EFAULT;
	}
	guard = &here;
	__asm__ volatile("" ::: "memory");
	memcpy(target, source, bytes);
	__asm__ volatile("" ::: "memory");
	guard = NULL;
	return 0;
}

int bar_memory_init(struct bar_memory *memory, struct tenon_error *err)
{
	struct sigaction action = {.sa_handler = on_bus_error, .sa_flags = SA_NODEFER};
	sigaction(SIGBUS, &action, NULL);
	memory->bytes = NULL;
	memory->fd = memfd_create("tenon-testdev-bars", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory->fd < 0 || ftruncate(memory->fd, MEMORY_FILE_BYTES) < 0 ||
	    fcntl(memory->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return tenon_fail(err, -errno, "test device: cannot make the BARs' memory: %s; free some memory",
				  strerror(errno));
	void *bytes = mmap(NULL, MEMORY_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	if (bytes == MAP_FAILED)
		return tenon_fail(err, -errno, "test device: cannot map the BARs' memory: %s; free some memory",
				  strerror(errno));
	memory->bytes = bytes;
	return 0;
}

void bar_memory_finish(struct bar_memory *memory)
{
	if (memory->bytes)
		munmap(memory->bytes, MEMORY_FILE_BYTES);
	if (memory->fd >= 0)
		close(memory->fd);
}

uint64_t bar_memory_sum(const struct bar_memory *memory)
{
	uint64_t sum = 0;
	for (size_t at = 0; at < MEMORY_FILE_BYTES; at += sizeof(uint64_t)) {
		uint64_t word;
		memcpy(&word, memory->bytes + at, sizeof(word));
		sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	}
	return sum;
}
