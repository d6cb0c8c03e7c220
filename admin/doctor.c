// SPDX-License-Identifier: MIT
/* tenon doctor: examines the host and prints each finding with its fix. Status 1 when something prevents assignment. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "doctor.h"

#define DEFAULT_MEMORY (256ull << 20) /* as tenon run has it */

static const char *const level_words[] = {"ok", "warning", "problem"};

struct finding *finding_add(struct examination *exam, enum finding_level level, const char *topic, const char *format,
			    ...)
{
	/* The last one is written over when there are too many: the host has a node for each of hundreds of devices. */
	struct finding *finding = &exam->findings[exam->count < FINDINGS_MAX ? exam->count++ : FINDINGS_MAX - 1];
	*finding = (struct finding){.level = level, .topic = topic};
	va_list args;
	va_start(args, format);
	vsnprintf(finding->text, sizeof(finding->text), format, args);
	va_end(args);
	return finding;
}

void finding_fix(struct finding *finding, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(finding->fix, sizeof(finding->fix), format, args);
	va_end(args);
}

int exam_config(const struct examination *exam, const char *option)
{
	if (!exam->config)
		return -1;
	size_t length = strlen(option);
	for (const char *at = exam->config; (at = strstr(at, option)); at += length) {
		if ((at == exam->config || at[-1] == '\n') && at[length] == '=')
			return at[length + 1] == 'y' || at[length + 1] == 'm';
	}
	return 0;
}

static void read_kernel(struct examination *exam)
{
	host_read_line(exam->host, exam->release, sizeof(exam->release), "/proc/sys/kernel/osrelease");
	exam->config = host_read_text(exam->host, "/boot/config-%s", exam->release);
	if (!exam->config)
		exam->config = host_read_gzip(exam->host, "/proc/config.gz");
}

static int print_findings_json(const struct examination *exam, struct tenon_error *err)
{
	json_object *root = json_object_new_object(), *list = json_object_new_array();
	unsigned problems = 0;
	for (unsigned i = 0; i < exam->count; i++) {
		json_object *one = json_object_new_object();
		json_add_string(one, "level", level_words[exam->findings[i].level]);
		json_add_string(one, "topic", exam->findings[i].topic);
		json_add_string(one, "finding", exam->findings[i].text);
		json_add_string(one, "fix", exam->findings[i].fix);
		json_object_array_add(list, one);
		problems += exam->findings[i].level == FINDING_PROBLEM;
	}
	json_object_object_add(root, "memory_bytes", json_object_new_uint64(exam->memory_bytes));
	json_object_object_add(root, "problems", json_object_new_int((int)problems));
	json_object_object_add(root, "findings", list);
	return print_json(root, err);
}

static void print_findings(const struct examination *exam)
{
	unsigned counts[3] = {0};
	for (unsigned i = 0; i < exam->count; i++) {
		const struct finding *finding = &exam->findings[i];
		printf("%-8s %-22s %s\n", level_words[finding->level], finding->topic, finding->text);
		if (finding->fix[0])
			printf("%-8s %-22s fix: %s\n", "", "", finding->fix);
		counts[finding->level]++;
	}
	printf("%u ok, %u warning%s, %u problem%s\n", counts[0], counts[1], counts[1] == 1 ? "" : "s", counts[2],
	       counts[2] == 1 ? "" : "s");
}

int command_doctor(const struct host *host, const struct options *options, struct tenon_error *err)
{
	struct inventory inventory;
	int code = inventory_read(host, &inventory, err);
	if (code < 0)
		return STATUS_FAILED;
	struct examination *exam = calloc(1, sizeof(*exam));
	if (!exam) {
		inventory_finish(&inventory);
		tenon_fail(err, -ENOMEM, "cannot examine the host: out of memory; free some memory");
		return STATUS_FAILED;
	}
	exam->host = host;
	exam->inventory = &inventory;
	exam->memory_bytes = options->memory_bytes ? options->memory_bytes : DEFAULT_MEMORY;
	read_kernel(exam);
	doctor_iommu(exam);
	doctor_kernel(exam);
	doctor_access(exam);
	doctor_memory(exam);
	if (options->json)
		code = print_findings_json(exam, err);
	else
		print_findings(exam);
	bool problem = false;
	for (unsigned i = 0; i < exam->count; i++)
		problem |= exam->findings[i].level == FINDING_PROBLEM;
	free(exam->config);
	free(exam);
	inventory_finish(&inventory);
	return code < 0 || problem ? STATUS_FAILED : STATUS_OK;
}
