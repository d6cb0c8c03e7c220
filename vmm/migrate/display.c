// SPDX-License-Identifier: MIT
/* The progress of a migration in lines of text. What comes from the VM is printed without its control characters. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "display.h"
#include "units.h"

#define BAR_CELLS     32u
#define WIDTH_DEFAULT 80u

static bool is_over(enum tenon_migration_phase phase)
{
	return phase == TENON_MIGRATION_PHASE_DONE || phase == TENON_MIGRATION_PHASE_FAILED;
}

/* ---- The block ---- */

struct block {
	FILE *out;
	unsigned width, lines;
};

/* A line that wraps would not be drawn over. */
__attribute__((format(printf, 2, 3))) static void add_line(struct block *block, const char *format, ...)
{
	char line[512];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (block->width < sizeof(line))
		line[block->width] = '\0';
	for (char *at = line; *at; at++) {
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = '?';
	}
	fprintf(block->out, "%s\n", line);
	block->lines++;
}

static double share_done(const struct tenon_migration_progress *progress)
{
	if (progress->phase == TENON_MIGRATION_PHASE_DONE)
		return 1;
	if (progress->ram_bytes == 0 || progress->phase == TENON_MIGRATION_PHASE_SETUP)
		return 0;
	double left = (double)progress->left_bytes / (double)progress->ram_bytes;
	return left < 1 ? 1 - left : 0;
}

static void add_ram(struct block *block, const struct tenon_migration_progress *progress)
{
	char bar[BAR_CELLS + 1];
	if (progress->ram_bytes == 0)
		return; /* of a destination: only the source knows */
	double share = share_done(progress);
	memset(bar, '.', BAR_CELLS);
	memset(bar, '#', (size_t)(share * BAR_CELLS));
	bar[BAR_CELLS] = '\0';
	add_line(block, "  RAM   [%s] %3u %%  %s of %s left", bar, (unsigned)(share * 100),
		 units_bytes(progress->left_bytes).text, units_bytes(progress->ram_bytes).text);
}

static void add_rates(struct block *block, const struct tenon_migration_progress *progress)
{
	add_line(block, "  sent  %s at %s; the guest writes %s", units_bytes(progress->sent_bytes).text,
		 units_rate(progress->bytes_per_second).text, units_rate(progress->dirty_per_second).text);
	if (progress->downtime_ns)
		add_line(block, "  downtime %s", units_time(progress->downtime_ns).text);
	else if (progress->downtime_estimate_ns)
		add_line(block, "  downtime about %s if it stopped now",
			 units_time(progress->downtime_estimate_ns).text);
}

static void add_device(struct block *block, const struct tenon_migration_device_progress *device)
{
	const struct tenon_migration_rule *rule = tenon_migration_rule(device->state);
	add_line(block, "  %-20s %-12s %s sent, %s left", device->name, rule ? rule->name : "unknown",
		 units_bytes(device->sent_bytes).text, units_bytes(device->left_bytes).text);
}

unsigned display_block(const struct tenon_migration_progress *progress, const char *address, unsigned width, FILE *out)
{
	struct block block = {.out = out, .width = width};
	char where[32] = "";
	if (progress->phase == TENON_MIGRATION_PHASE_PRE_COPY)
		snprintf(where, sizeof(where), ", round %u", progress->round);
	add_line(&block, "%s%s  %s%s%s", tenon_migration_phase_name(progress->phase), where,
		 units_time(progress->elapsed_ns).text, address ? "  to " : "", address ? address : "");
	add_ram(&block, progress);
	add_rates(&block, progress);
	for (unsigned i = 0; i < progress->device_count && i < TENON_MIGRATION_DEVICES; i++)
		add_device(&block, &progress->devices[i]);
	return block.lines;
}

/* ---- The lines of a log ---- */

/* Of the round that was the last thing told: what it came to the first event after it says. */
static void print_round(const struct display *display, const struct tenon_migration_progress *next)
{
	double seconds = (double)(next->elapsed_ns - display->round_ns) / 1e9;
	uint64_t sent = next->sent_bytes - display->round_sent_bytes;
	fprintf(display->out, "%10s  round %u: %s sent at %s, the guest writes %s, %s left",
		units_moment(next->elapsed_ns).text, display->last.round, units_bytes(sent).text,
		units_rate(seconds > 0 ? (uint64_t)((double)sent / seconds) : 0).text,
		units_rate(next->dirty_per_second).text, units_bytes(next->left_bytes).text);
	if (next->downtime_estimate_ns)
		fprintf(display->out, ", downtime about %s", units_time(next->downtime_estimate_ns).text);
	fputc('\n', display->out);
}

static bool is_round(const struct tenon_migration_progress *progress)
{
	return progress->phase == TENON_MIGRATION_PHASE_PRE_COPY && progress->round > 0;
}

static void print_changes(struct display *display, const struct tenon_migration_progress *progress)
{
	const struct tenon_migration_progress *last = &display->last;
	bool phase = !display->begun || last->phase != progress->phase;
	bool round = phase || last->round != progress->round;
	if (display->begun && is_round(last) && round)
		print_round(display, progress);
	if (round) {
		display->round_ns = progress->elapsed_ns;
		display->round_sent_bytes = progress->sent_bytes;
	}
	/* The end has words of its own. */
	if (phase && !is_over(progress->phase))
		fprintf(display->out, "%10s  %s\n", units_moment(progress->elapsed_ns).text,
			tenon_migration_phase_name(progress->phase));
}

/* ---- As it goes on ---- */

static unsigned terminal_width(FILE *out)
{
	struct winsize size;
	return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : WIDTH_DEFAULT;
}

static void erase(struct display *display)
{
	if (display->lines)
		fprintf(display->out, "\033[%uA\033[J", display->lines);
	display->lines = 0;
}

void display_progress(struct display *display, const struct tenon_migration_progress *progress)
{
	if (!display->terminal) {
		print_changes(display, progress);
	} else {
		erase(display);
		if (!is_over(progress->phase))
			display->lines =
				display_block(progress, display->address, terminal_width(display->out), display->out);
	}
	display->begun = true;
	display->last = *progress;
	fflush(display->out);
}

void display_note(struct display *display, const char *text)
{
	erase(display);
	fprintf(display->out, "%s\n", text);
	fflush(display->out);
}

/* ---- The end ---- */

void display_downtime(const struct tenon_migration_progress *progress, struct display_part parts[DISPLAY_PARTS])
{
	const struct display_part all[DISPLAY_PARTS] = {
		{"stopping vCPUs", progress->stop_vcpus_ns}, {"stopping devices", progress->stop_devices_ns},
		{"last pages", progress->last_pages_ns},     {"device data", progress->device_data_ns},
		{"machine state", progress->parts_ns},       {"commit", progress->commit_ns},
	};
	memcpy(parts, all, sizeof(all));
}

void display_end(const struct tenon_migration_progress *progress, const char *address, bool saved, FILE *out)
{
	struct display_part parts[DISPLAY_PARTS];
	fprintf(out, "%s to %s in %s: %s sent\n", saved ? "saved" : "moved", address,
		units_time(progress->elapsed_ns).text, units_bytes(progress->sent_bytes).text);
	if (!progress->downtime_ns)
		return;
	fprintf(out, "the guest stood still for %s: ", units_time(progress->downtime_ns).text);
	display_downtime(progress, parts);
	for (unsigned i = 0; i < DISPLAY_PARTS; i++)
		fprintf(out, "%s%s %s", i ? ", " : "", parts[i].name, units_time(parts[i].ns).text);
	fputc('\n', out);
}
