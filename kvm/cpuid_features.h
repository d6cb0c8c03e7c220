/* SPDX-License-Identifier: MIT */
/* What CPUID's bits are called, and which of its numbers a guest depends on. */
#ifndef CPUID_FEATURES_H
#define CPUID_FEATURES_H

#include <stddef.h>
#include <stdint.h>

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* A register each bit of which is a feature: what a guest saw of them must be there wherever it goes on. */
struct cpuid_features {
	uint32_t function, index;
	enum cpuid_register reg;
	uint32_t ignored;      /* bits that are no features: the number of CPUs, what the guest itself switches */
	const char *names[32]; /* NULL: has none */
};

extern const struct cpuid_features cpuid_features[];
extern const size_t cpuid_features_count;

/* A number that must be at least as great as what the guest saw. */
struct cpuid_amount {
	uint32_t function, index;
	enum cpuid_register reg;
	unsigned shift, width;
	const char *name;
};

extern const struct cpuid_amount cpuid_amounts[];
extern const size_t cpuid_amounts_count;

#endif
