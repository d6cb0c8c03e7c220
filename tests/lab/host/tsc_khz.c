// SPDX-License-Identifier: MIT
/* Prints the rate of this CPU's time stamp counter in kHz, against the kernel's clock. Takes 100 ms. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

struct sample {
	uint64_t ns;
	uint64_t ticks;
};

/* The counter at the moment of a clock reading: the tightest of many pairs, as an interruption only widens them. */
static struct sample sample(void)
{
	struct sample best = {0};
	uint64_t narrowest = UINT64_MAX;
	for (int i = 0; i < 100; i++) {
		struct timespec now;
		uint64_t before = __rdtsc();
		clock_gettime(CLOCK_MONOTONIC, &now);
		uint64_t after = __rdtsc();
		if (after - before >= narrowest)
			continue;
		narrowest = after - before;
		best = (struct sample){now.tv_sec * 1000000000ull + now.tv_nsec, before + narrowest / 2};
	}
	return best;
}

int main(void)
{
	struct sample first = sample();
	usleep(100000);
	struct sample last = sample();
	printf("%llu\n", (unsigned long long)((last.ticks - first.ticks) * 1000000 / (last.ns - first.ns)));
	return 0;
}
