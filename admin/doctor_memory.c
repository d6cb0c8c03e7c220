// SPDX-License-Identifier: MIT
/*
 * May this process lock as much memory as the VM has, and are there huge pages for it? Source: getrlimit(2), proc(5); Linux
 * Documentation/admin-guide/mm/hugetlbpage.rst, transhuge.rst.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/capability.h>

#include "doctor.h"
#include "text.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

/* The soft limit from /proc/self/limits, in bytes; UINT64_MAX: none. @return false when it cannot be read */
static bool memlock_limit(const struct host *host, uint64_t *limit)
{
	char *text = host_read_text(host, "/proc/self/limits");
	const char *line = text ? strstr(text, "Max locked memory") : NULL;
	char word[32];
	bool found = line && sscanf(line + strlen("Max locked memory"), "%31s", word) == 1;
	if (found)
		*limit = strcmp(word, "unlimited") == 0 ? UINT64_MAX : strtoull(word, NULL, 10);
	free(text);
	return found;
}

static bool may_lock_anything(const struct host *host)
{
	char *text = host_read_text(host, "/proc/self/status");
	const char *line = text ? strstr(text, "CapEff:") : NULL;
	bool may = line && strtoull(line + strlen("CapEff:"), NULL, 16) >> CAP_IPC_LOCK & 1;
	free(text);
	return may;
}

static void check_memlock(struct examination *exam)
{
	uint64_t limit = 0;
	char needed[32], has[32];
	text_size(needed, sizeof(needed), exam->memory_bytes);
	if (may_lock_anything(exam->host)) {
		finding_add(exam, FINDING_OK, "locked memory",
			    "this user has CAP_IPC_LOCK: no limit; without it, a VM of %s needs RLIMIT_MEMLOCK of %llu "
			    "bytes",
			    needed, (unsigned long long)exam->memory_bytes);
		return;
	}
	if (!memlock_limit(exam->host, &limit)) {
		finding_fix(finding_add(exam, FINDING_WARNING, "locked memory", "/proc/self/limits cannot be read"),
			    "ulimit -l must show at least %llu, or unlimited",
			    (unsigned long long)((exam->memory_bytes + KIB - 1) / KIB));
		return;
	}
	text_size(has, sizeof(has), limit);
	if (limit >= exam->memory_bytes) {
		finding_add(exam, FINDING_OK, "locked memory", "limit %s, a VM of %s needs %llu bytes",
			    limit == UINT64_MAX ? "none" : has, needed, (unsigned long long)exam->memory_bytes);
		return;
	}
	struct finding *finding =
		finding_add(exam, FINDING_PROBLEM, "locked memory",
			    "limit %llu bytes, but a VM of %s needs %llu: devices pin all of its memory",
			    (unsigned long long)limit, needed, (unsigned long long)exam->memory_bytes);
	finding_fix(finding,
		    "in /etc/security/limits.conf (KiB, counts from the next login): USER - memlock %llu; in a systemd "
		    "unit: "
		    "LimitMEMLOCK=%llu; now: prlimit --memlock=%llu tenon run ... (as root)",
		    (unsigned long long)((exam->memory_bytes + KIB - 1) / KIB), (unsigned long long)exam->memory_bytes,
		    (unsigned long long)exam->memory_bytes);
}

static void check_pool(struct examination *exam, const char *name, uint64_t page_kib, const char *topic)
{
	uint64_t total = 0, available = 0;
	uint64_t needed = (exam->memory_bytes + page_kib * KIB - 1) / (page_kib * KIB);
	if (host_read_number(exam->host, &total, "/sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
			     (unsigned long long)page_kib) < 0) {
		finding_add(exam, FINDING_OK, topic,
			    "this kernel or CPU has none; --memory ...,hugepages=%s is not possible", name);
		return;
	}
	host_read_number(exam->host, &available, "/sys/kernel/mm/hugepages/hugepages-%llukB/free_hugepages",
			 (unsigned long long)page_kib);
	if (available >= needed)
		finding_add(exam, FINDING_OK, topic, "%llu of %llu free, the VM would need %llu",
			    (unsigned long long)available, (unsigned long long)total, (unsigned long long)needed);
	else
		finding_add(exam, FINDING_OK, topic,
			    "%llu of %llu free; --memory ...,hugepages=%s would need %llu: echo %llu > "
			    "/sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
			    (unsigned long long)available, (unsigned long long)total, name, (unsigned long long)needed,
			    (unsigned long long)(total + needed - available), (unsigned long long)page_kib);
}

/* The word in brackets of "always [madvise] never". */
static void chosen(const struct host *host, const char *file, char *word, size_t capacity)
{
	char line[160];
	snprintf(word, capacity, "unknown");
	if (host_read_line(host, line, sizeof(line), "/sys/kernel/mm/transparent_hugepage/%s", file) < 0)
		return;
	char *start = strchr(line, '['), *end = start ? strchr(start, ']') : NULL;
	if (!end)
		return;
	*end = '\0';
	snprintf(word, capacity, "%s", start + 1);
}

static void check_transparent(struct examination *exam)
{
	char enabled[24];
	if (!host_exists(exam->host, "/sys/kernel/mm/transparent_hugepage/enabled")) {
		finding_fix(finding_add(exam, FINDING_WARNING, "transparent huge pages",
					"this kernel has none, so mapping guest memory takes longer"),
			    "use --memory ...,hugepages=2M, or a kernel with CONFIG_TRANSPARENT_HUGEPAGE");
		return;
	}
	chosen(exam->host, "enabled", enabled, sizeof(enabled));
	bool good = strcmp(enabled, "never") != 0;
	struct finding *finding = finding_add(
		exam, good ? FINDING_OK : FINDING_WARNING, "transparent huge pages", "enabled: %s%s", enabled,
		good ? "; guest memory gets them" : ": guest memory gets none, so mapping it takes longer");
	if (!good)
		finding_fix(finding, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
}

static void check_available(struct examination *exam)
{
	char *text = host_read_text(exam->host, "/proc/meminfo");
	const char *line = text ? strstr(text, "MemAvailable:") : NULL;
	uint64_t available = line ? strtoull(line + strlen("MemAvailable:"), NULL, 10) * KIB : 0;
	free(text);
	if (!line)
		return;
	if (available >= exam->memory_bytes)
		finding_add(exam, FINDING_OK, "free memory", "%llu MiB", (unsigned long long)(available / MIB));
	else
		finding_fix(finding_add(exam, FINDING_PROBLEM, "free memory",
					"%llu MiB, but the VM has %llu MiB, all of which is pinned",
					(unsigned long long)(available / MIB),
					(unsigned long long)(exam->memory_bytes / MIB)),
			    "give the VM less with --memory, or end something");
}

void doctor_memory(struct examination *exam)
{
	check_available(exam);
	check_memlock(exam);
	check_pool(exam, "2M", 2048, "2 MiB pages");
	check_pool(exam, "1G", 1048576, "1 GiB pages");
	check_transparent(exam);
}
