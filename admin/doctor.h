/* SPDX-License-Identifier: MIT */
/* What tenon doctor finds out about the host, and the parts of the examination, one file each. */
#ifndef DOCTOR_H
#define DOCTOR_H

#include "inventory.h"

#define FINDINGS_MAX 128

enum finding_level {
	FINDING_OK,
	FINDING_WARNING, /* works, but not as well as it could, or not for everything */
	FINDING_PROBLEM, /* keeps devices from being assigned */
};

struct finding {
	enum finding_level level;
	const char *topic; /* literal */
	char text[320];
	char fix[400]; /* a command, or what to do; "" with FINDING_OK */
};

struct examination {
	const struct host *host;
	const struct inventory *inventory;
	uint64_t memory_bytes;    /* of the VM that is planned */
	char release[NAME_BYTES]; /* kernel release */
	char *config;             /* the kernel's configuration; NULL: not found */
	struct finding findings[FINDINGS_MAX];
	unsigned count;
};

/** Adds a finding; words that do not fit are cut. */
struct finding *finding_add(struct examination *exam, enum finding_level level, const char *topic, const char *format,
			    ...) __attribute__((format(printf, 4, 5)));
/** Says how to mend the finding. */
void finding_fix(struct finding *finding, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Whether the kernel's configuration has `option` ("CONFIG_IOMMUFD") on. @return 1 yes, 0 no, -1 not known */
int exam_config(const struct examination *exam, const char *option);

void doctor_iommu(struct examination *exam);  /* units, interrupt remapping, coherency, groups */
void doctor_memory(struct examination *exam); /* limit of locked memory, huge pages */
void doctor_access(struct examination *exam); /* permissions of the nodes */
void doctor_kernel(struct examination *exam); /* VFIO, iommufd, KVM */

#endif
