// SPDX-License-Identifier: MIT
/* Parses the self-test's lines and shows them. */
#include <ctype.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

#define LINE_MAX_BYTES 1024
#define DEVICES_MAX    64
#define NAME_BYTES     32
#define REMARK_BYTES   512

struct device {
	char place[8]; /* in the guest */
	char host[256];
	json_object *checks; /* borrowed from the document */
};

struct report {
	enum report_form form;
	struct report_sums sums;
	char line[LINE_MAX_BYTES];
	size_t used;
	struct device devices[DEVICES_MAX];
	unsigned device_count;
	char remark[REMARK_BYTES]; /* the firmware's last comment: of a crash, say */
	json_object *document, *list;
};

struct result {
	bool good, skipped;
	char place[8], name[64];
	const char *text;
	uint64_t time_ns;
};

struct report *report_create(enum report_form form)
{
	struct report *report = calloc(1, sizeof(*report));
	if (!report)
		return NULL;
	report->form = form;
	report->document = json_object_new_object();
	report->list = json_object_new_array();
	json_object_object_add(report->document, "devices", report->list);
	if (form == REPORT_TAP)
		puts("TAP version 13");
	return report;
}

void report_destroy(struct report *report)
{
	if (!report)
		return;
	json_object_put(report->document);
	free(report);
}

/* ---- Devices ---- */

static void add_string(json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

static void on_device(struct report *report, const char *line)
{
	struct device *device = &report->devices[report->device_count];
	char id[16], class_code[16], driver[NAME_BYTES];
	if (report->device_count == DEVICES_MAX ||
	    sscanf(line, "# device %7s host %255s id %15s class %15s driver %31s", device->place, device->host, id,
		   class_code, driver) != 5)
		return;
	report->device_count++;
	json_object *object = json_object_new_object();
	device->checks = json_object_new_array();
	add_string(object, "address", device->host);
	add_string(object, "guest_address", device->place);
	add_string(object, "id", id);
	add_string(object, "class", class_code);
	json_object_object_add(object, "driver", strcmp(driver, "none") == 0 ? NULL : json_object_new_string(driver));
	json_object_object_add(object, "checks", device->checks);
	json_object_array_add(report->list, object);
	if (report->form == REPORT_TEXT)
		printf("%s  %s, class %s, %s in the guest; %s%s\n", device->host, id, class_code, device->place,
		       strcmp(driver, "none") == 0 ? "what PCI says is checked, no driver here knows it" : "driven as ",
		       strcmp(driver, "none") == 0 ? "" : driver);
	else if (report->form == REPORT_TAP)
		printf("# %s: %s, class %s, %s in the guest, driver %s\n", device->host, id, class_code, device->place,
		       driver);
}

static const struct device *device_at(const struct report *report, const char *place)
{
	for (unsigned i = 0; i < report->device_count; i++) {
		if (strcmp(report->devices[i].place, place) == 0)
			return &report->devices[i];
	}
	return NULL;
}

/* ---- Checks ---- */

/* "3 - 01:00.0 msi-x: text # time_ns=5": what follows "ok " or "not ok ". Writes into the line. */
static bool parse_result(char *line, struct result *result)
{
	int length = 0;
	if (sscanf(line, "%*u - %7s %n", result->place, &length) != 1 || !length)
		return false;
	char *name = line + length, *colon = strstr(name, ": ");
	if (!colon || (size_t)(colon - name) >= sizeof(result->name))
		return false;
	memcpy(result->name, name, (size_t)(colon - name));
	result->name[colon - name] = '\0';
	char *text = colon + 2, *hash = NULL;
	/* The last one: what a device says of itself may contain others. */
	for (char *at = text; (at = strstr(at, " # ")); at++)
		hash = at;
	result->text = text;
	if (!hash)
		return false;
	*hash = '\0';
	result->skipped = strcmp(hash + 3, "SKIP") == 0;
	return result->skipped || sscanf(hash + 3, "time_ns=%lu", &result->time_ns) == 1;
}

static void show_text(const struct result *result)
{
	const char *verdict = result->skipped ? "skip" : result->good ? "ok  " : "FAIL";
	char took[24] = "";
	if (!result->skipped)
		snprintf(took, sizeof(took), "%.3f ms", (double)result->time_ns / 1e6);
	printf("  %s  %-28s %12s  %s\n", verdict, result->name, took, result->text);
}

static void show_tap(unsigned number, const struct result *result, const char *host)
{
	printf("%s %u - %s %s: %s # ", result->good ? "ok" : "not ok", number, host, result->name, result->text);
	if (result->skipped)
		puts("SKIP");
	else
		printf("time_ns=%lu\n", result->time_ns);
}

static void on_result(struct report *report, char *line, bool good)
{
	struct result result = {.good = good};
	struct report_sums *sums = &report->sums;
	if (!parse_result(line, &result))
		return;
	const struct device *device = device_at(report, result.place);
	if (!device)
		return;
	*(result.skipped ? &sums->skipped : good ? &sums->passed : &sums->failed) += 1;
	json_object *check = json_object_new_object();
	add_string(check, "name", result.name);
	add_string(check, "result", result.skipped ? "skipped" : good ? "passed" : "failed");
	add_string(check, "text", result.text);
	if (!result.skipped)
		json_object_object_add(check, "time_ns", json_object_new_uint64(result.time_ns));
	json_object_array_add(device->checks, check);
	if (report->form == REPORT_TEXT)
		show_text(&result);
	else if (report->form == REPORT_TAP)
		show_tap(sums->passed + sums->failed + sums->skipped, &result, device->host);
	fflush(stdout);
}

static void on_line(struct report *report, char *line)
{
	if (strncmp(line, "# device ", 9) == 0)
		on_device(report, line);
	else if (strncmp(line, "# ", 2) == 0)
		snprintf(report->remark, sizeof(report->remark), "%s", line + 2);
	else if (strncmp(line, "ok ", 3) == 0)
		on_result(report, line + 3, true);
	else if (strncmp(line, "not ok ", 7) == 0)
		on_result(report, line + 7, false);
	else if (strncmp(line, "1..", 3) == 0)
		report->sums.complete = true;
}

void report_take(struct report *report, const char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (bytes[i] == '\n') {
			report->line[report->used] = '\0';
			on_line(report, report->line);
			report->used = 0;
		} else if (bytes[i] != '\r' && report->used + 1 < sizeof(report->line)) {
			report->line[report->used++] = isprint((unsigned char)bytes[i]) ? bytes[i] : '?';
		}
	}
}

/* ---- The end ---- */

static void end_json(struct report *report, const char *trouble, uint64_t took_ns)
{
	const struct report_sums *sums = &report->sums;
	json_object_object_add(report->document, "passed", json_object_new_int((int)sums->passed));
	json_object_object_add(report->document, "failed", json_object_new_int((int)sums->failed));
	json_object_object_add(report->document, "skipped", json_object_new_int((int)sums->skipped));
	json_object_object_add(report->document, "complete", json_object_new_boolean(sums->complete));
	json_object_object_add(report->document, "trouble", trouble ? json_object_new_string(trouble) : NULL);
	json_object_object_add(report->document, "remark",
			       trouble && report->remark[0] ? json_object_new_string(report->remark) : NULL);
	json_object_object_add(report->document, "time_ns", json_object_new_uint64(took_ns));
	puts(json_object_to_json_string_ext(report->document,
					    JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
}

void report_end(struct report *report, const char *trouble, uint64_t took_ns)
{
	const struct report_sums *sums = &report->sums;
	unsigned count = sums->passed + sums->failed + sums->skipped;
	switch (report->form) {
	case REPORT_JSON:
		end_json(report, trouble, took_ns);
		break;
	case REPORT_TAP:
		if (trouble)
			printf("Bail out! %s%s%s\n", trouble, report->remark[0] ? "; the firmware's last words: " : "",
			       report->remark);
		else
			printf("1..%u\n", count);
		break;
	case REPORT_TEXT:
		if (trouble)
			printf("%s%s%s\n", trouble, report->remark[0] ? "; the firmware's last words: " : "",
			       report->remark);
		printf("%u checks: %u passed, %u failed, %u skipped; %.1f s, the VM's start and end included\n", count,
		       sums->passed, sums->failed, sums->skipped, (double)took_ns / 1e9);
		break;
	}
}

struct report_sums report_sums(const struct report *report)
{
	return report->sums;
}
