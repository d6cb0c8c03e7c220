// SPDX-License-Identifier: MIT
/* What people and programs are told of a migration: numbers, lines, JSON, and the report. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/display.h"
#include "migrate/history.h"
#include "migrate/page.h"
#include "migrate/progress_json.h"
#include "migrate/report.h"
#include "migrate/units.h"

#define MIB UINT64_C(1048576)
#define MS  UINT64_C(1000000)

static struct tenon_migration_progress progress_at(enum tenon_migration_phase phase, unsigned round, uint64_t at_ms)
{
	struct tenon_migration_progress progress = {
		.size = sizeof(progress),
		.phase = phase,
		.round = round,
		.elapsed_ns = at_ms * MS,
		.ram_bytes = 1024 * MIB,
		.left_bytes = 256 * MIB,
		.sent_bytes = 900 * MIB,
		.pages = 230400,
		.zero_pages = 77,
		.dirty_per_second = 120 * MIB,
		.bytes_per_second = 1000 * MIB,
		.downtime_estimate_ns = 34 * MS,
		.device_count = 1,
		.devices = {{.name = "0000:3b:00.0",
			     .state = TENON_MIGRATION_PRE_COPY,
			     .sent_bytes = 12 * MIB,
			     .left_bytes = 3 * MIB}},
	};
	return progress;
}

static struct tenon_migration_progress progress_done(void)
{
	struct tenon_migration_progress progress = progress_at(TENON_MIGRATION_PHASE_DONE, 3, 3100);
	progress.stop_vcpus_ns = 50000;
	progress.stop_devices_ns = 3 * MS;
	progress.last_pages_ns = 12 * MS;
	progress.device_data_ns = 8 * MS;
	progress.parts_ns = 2 * MS;
	progress.commit_ns = 5 * MS;
	progress.downtime_ns = 30050000;
	progress.devices[0].state = TENON_MIGRATION_STOP_COPY;
	return progress;
}

/* ---- Numbers ---- */

Test(migrate_units, bytes_and_times_have_as_many_digits_as_are_read)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {{0, "0 B"},           {1023, "1023 B"},       {1024, "1.0 KiB"},       {1536, "1.5 KiB"},
		     {1048575, "1.0 MiB"}, {100 * MIB, "100 MiB"}, {1024 * MIB, "1.0 GiB"}, {UINT64_MAX, "16.0 EiB"}};
	static const struct {
		uint64_t ns;
		const char *text;
	} times[] = {{0, "0 ms"},
		     {50000, "0.05 ms"},
		     {34100000, "34.1 ms"},
		     {999999999, "1.0 s"},
		     {12300000000, "12.3 s"},
		     {125000000000, "2:05 min"},
		     {7260000000000, "2:01 h"}};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		cr_expect_str_eq(units_bytes(sizes[i].bytes).text, sizes[i].text);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		cr_expect_str_eq(units_time(times[i].ns).text, times[i].text);
	cr_expect_str_eq(units_moment(1284567890).text, "1.285 s");
	cr_expect_str_eq(units_rate(1536).text, "1.5 KiB/s");
}

Test(migrate_units, what_people_write_is_understood_and_nothing_else)
{
	uint64_t value;
	struct tenon_error err;
	static const struct {
		const char *text;
		uint64_t value;
	} times[] = {{"20ms", 20}, {"20", 20}, {"0.5s", 500}, {"3600s", 3600000}, {"1.5ms", 2}},
	  sizes[] = {{"1", 1},          {"500000", 500000},        {"1k", 1024},
		     {"1.5M", 1572864}, {"1G", UINT64_C(1) << 30}, {"2T", UINT64_C(2) << 40}};
	static const char *const bad_times[] = {"",      "ms",  "0",   "0ms",   "-1", "20 ms",
						"3601s", "20m", "1e3", "1.2.3", "nan"},
				 *const bad_sizes[] = {"",    "G",   "0",    "-1G",       "1GB",
						       "1 G", "1e9", "0x10", "99999999T", "inf"};
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		cr_expect_eq(units_parse_time("--t", times[i].text, &value, &err), 0, "%s", times[i].text);
		cr_expect_eq(value, times[i].value, "%s", times[i].text);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		cr_expect_eq(units_parse_bytes("--b", sizes[i].text, &value, &err), 0, "%s", sizes[i].text);
		cr_expect_eq(value, sizes[i].value, "%s", sizes[i].text);
	}
	for (size_t i = 0; i < sizeof(bad_times) / sizeof(bad_times[0]); i++) {
		cr_expect_eq(units_parse_time("--t", bad_times[i], &value, &err), -EINVAL, "%s", bad_times[i]);
		cr_expect(strstr(err.message, "--t") && strstr(err.message, "; "), "%s", err.message);
	}
	for (size_t i = 0; i < sizeof(bad_sizes) / sizeof(bad_sizes[0]); i++) {
		cr_expect_eq(units_parse_bytes("--b", bad_sizes[i], &value, &err), -EINVAL, "%s", bad_sizes[i]);
		cr_expect(strstr(err.message, "--b") && strstr(err.message, "; "), "%s", err.message);
	}
}

/* ---- JSON ---- */

Test(migrate_json, progress_comes_back_as_it_was)
{
	struct tenon_migration_progress there = progress_done(), back;
	struct tenon_error err = {0};
	there.dirty_per_second = UINT64_MAX;
	json_object *object = progress_json(&there);
	cr_assert_eq(progress_parse(object, &back, &err), 0, "%s", err.message);
	json_object_put(object);
	cr_expect_eq(memcmp(&there, &back, sizeof(there)), 0);
	for (unsigned phase = 0; phase < TENON_MIGRATION_PHASES; phase++) {
		there = progress_at((enum tenon_migration_phase)phase, phase, 1);
		there.devices[0].state = (enum tenon_migration_state)(phase % TENON_MIGRATION_STATES);
		object = progress_json(&there);
		cr_assert_eq(progress_parse(object, &back, &err), 0, "%s", err.message);
		cr_expect_eq(back.phase, phase);
		cr_expect_eq(back.devices[0].state, there.devices[0].state);
		json_object_put(object);
	}
}

static int parse_text(const char *text, struct tenon_migration_progress *progress, struct tenon_error *err)
{
	json_object *object = json_tokener_parse(text);
	cr_assert(object, "%s", text);
	int code = progress_parse(object, progress, err);
	json_object_put(object);
	return code;
}

Test(migrate_json, what_is_no_progress_is_refused_and_what_is_missing_is_zero)
{
	struct tenon_migration_progress progress;
	struct tenon_error err;
	cr_expect_eq(parse_text("{\"phase\":\"pre-copy\"}", &progress, &err), 0);
	cr_expect_eq(progress.sent_bytes + progress.device_count + progress.round, 0);
	cr_expect_eq(parse_text("{\"phase\":\"commit\",\"round\":99999999999,\"sent_bytes\":\"x\",\"left_bytes\":-1,"
				"\"devices\":{}}",
				&progress, &err),
		     0);
	cr_expect_eq(progress.round, UINT32_MAX);
	cr_expect_eq(progress.sent_bytes + progress.left_bytes + progress.device_count, 0);
	static const char *const bad[] = {"{}", "{\"phase\":7}", "{\"phase\":\"teleport\"}",
					  "{\"phase\":\"done\",\"devices\":[{\"name\":\"a\",\"state\":\"FLOATING\"}]}",
					  "{\"phase\":\"done\",\"devices\":[7]}"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(parse_text(bad[i], &progress, &err), -EINVAL, "%s", bad[i]);
		cr_expect(strstr(err.message, "; "));
	}
}

Test(migrate_json, more_devices_than_there_can_be_are_left_out)
{
	struct tenon_migration_progress progress;
	struct tenon_error err;
	json_object *object = json_object_new_object(), *devices = json_object_new_array();
	json_object_object_add(object, "phase", json_object_new_string("done"));
	for (unsigned i = 0; i < TENON_MIGRATION_DEVICES + 9; i++) {
		json_object *device = json_object_new_object();
		json_object_object_add(device, "name", json_object_new_string("a"));
		json_object_object_add(device, "state", json_object_new_string("RUNNING"));
		json_object_array_add(devices, device);
	}
	json_object_object_add(object, "devices", devices);
	cr_expect_eq(progress_parse(object, &progress, &err), 0);
	cr_expect_eq(progress.device_count, TENON_MIGRATION_DEVICES);
	json_object_put(object);
}

/* ---- Lines ---- */

static char *memory;
static size_t memory_bytes;

static FILE *open_text(void)
{
	FILE *out = open_memstream(&memory, &memory_bytes);
	cr_assert(out);
	return out;
}

Test(migrate_display, the_block_tells_phase_ram_rates_and_each_device)
{
	struct tenon_migration_progress progress = progress_at(TENON_MIGRATION_PHASE_PRE_COPY, 2, 1500);
	FILE *out = open_text();
	cr_expect_eq(display_block(&progress, "tcp:host:4444", 200, out), 5);
	fclose(out);
	cr_expect_str_eq(memory, "pre-copy, round 2  1.5 s  to tcp:host:4444\n"
				 "  RAM   [########################........]  75 %  256 MiB of 1.0 GiB left\n"
				 "  sent  900 MiB at 1000 MiB/s; the guest writes 120 MiB/s\n"
				 "  downtime about 34.0 ms if it stopped now\n"
				 "  0000:3b:00.0         PRE_COPY     12.0 MiB sent, 3.0 MiB left\n");
	free(memory);
}

Test(migrate_display, no_line_is_wider_than_the_terminal_or_moves_its_cursor)
{
	struct tenon_migration_progress progress = progress_at(TENON_MIGRATION_PHASE_PRE_COPY, 2, 1500);
	strcpy(progress.devices[0].name, "evil\x1b[2J\ndevice");
	FILE *out = open_text();
	unsigned lines = display_block(&progress, "tcp:host:4444", 20, out), found = 0;
	fclose(out);
	for (char *line = strtok(memory, "\n"); line; line = strtok(NULL, "\n"), found++) {
		cr_expect_leq(strlen(line), 20, "%s", line);
		cr_expect_null(strchr(line, '\x1b'));
	}
	cr_expect_eq(found, lines);
	free(memory);
}

Test(migrate_display, a_terminals_block_is_drawn_over_and_a_log_has_a_line_for_each_round)
{
	struct tenon_migration_progress progress = progress_at(TENON_MIGRATION_PHASE_PRE_COPY, 1, 1000);
	FILE *out = open_text();
	struct display display = {.out = out, .address = "a", .terminal = true};
	display_progress(&display, &progress);
	cr_expect_null(strchr(memory, '\x1b'));
	display_progress(&display, &progress);
	cr_expect(strstr(memory, "\x1b[5A\x1b[J"));
	size_t before = memory_bytes;
	progress.phase = TENON_MIGRATION_PHASE_DONE;
	display_progress(&display, &progress);
	cr_expect_str_eq(memory + before, "\x1b[5A\x1b[J", "the end has words of its own");
	fclose(out);
	free(memory);

	out = open_text();
	display = (struct display){.out = out, .address = "a"};
	progress.phase = TENON_MIGRATION_PHASE_PRE_COPY;
	for (unsigned i = 0; i < 7; i++) {
		progress.round = i / 3;
		progress.elapsed_ns = (1000 + 500 * i) * MS;
		progress.sent_bytes = i * 50 * MIB;
		display_progress(&display, &progress);
	}
	progress.elapsed_ns += 100 * MS;
	progress.sent_bytes += 20 * MIB;
	progress.phase = TENON_MIGRATION_PHASE_STOPPING;
	display_progress(&display, &progress);
	progress.phase = TENON_MIGRATION_PHASE_DONE;
	display_progress(&display, &progress);
	fclose(out);
	cr_expect_str_eq(
		memory,
		"   1.000 s  pre-copy\n"
		"   4.000 s  round 1: 150 MiB sent at 100 MiB/s, the guest writes 120 MiB/s, 256 MiB left, downtime "
		"about 34.0 ms\n"
		"   4.100 s  round 2: 20.0 MiB sent at 200 MiB/s, the guest writes 120 MiB/s, 256 MiB left, downtime "
		"about 34.0 ms\n"
		"   4.100 s  stopping\n");
	free(memory);
}

Test(migrate_display, the_end_tells_the_downtime_in_its_parts)
{
	struct tenon_migration_progress progress = progress_done();
	FILE *out = open_text();
	display_end(&progress, "tcp:host:4444", false, out);
	display_end(&progress, "file:/vm", true, out);
	fclose(out);
	cr_expect(strstr(memory,
			 "moved to tcp:host:4444 in 3.1 s: 900 MiB sent\nthe guest stood still for 30.1 ms: stopping "
			 "vCPUs 0.05 ms, stopping devices 3.0 ms, last pages 12.0 ms, device data 8.0 ms, machine "
			 "state 2.0 ms, commit 5.0 ms\n"),
		  "%s", memory);
	cr_expect(strstr(memory, "\nsaved to file:/vm in 3.1 s"));
	free(memory);
}

/* ---- History ---- */

static struct history history;

static void add(enum tenon_migration_phase phase, unsigned round, uint64_t at_ms, uint64_t sent, uint64_t dirty)
{
	struct tenon_migration_progress progress = progress_at(phase, round, at_ms);
	progress.sent_bytes = sent;
	progress.dirty_per_second = dirty;
	history_add(&history, &progress);
}

Test(migrate_history, phases_and_rounds_begin_where_the_ones_before_end)
{
	add(TENON_MIGRATION_PHASE_SETUP, 0, 5, 0, 0);
	add(TENON_MIGRATION_PHASE_PRE_COPY, 1, 10, 100, 0);
	add(TENON_MIGRATION_PHASE_PRE_COPY, 1, 500, 400, 0);
	add(TENON_MIGRATION_PHASE_PRE_COPY, 2, 1000, 1100, 77);
	add(TENON_MIGRATION_PHASE_STOPPING, 2, 1200, 1500, 33);
	add(TENON_MIGRATION_PHASE_DONE, 2, 1250, 1600, 33);
	cr_assert_eq(history.phase_count, 4);
	cr_expect_eq(history.phases[0].begin_ns, 0);
	for (unsigned i = 1; i < 4; i++)
		cr_expect_eq(history.phases[i].begin_ns, history.phases[i - 1].end_ns);
	cr_expect_eq(history.phases[1].end_ns, 1200 * MS);
	cr_assert_eq(history.round_count, 2);
	cr_expect_eq(history.rounds[0].begin_ns, 10 * MS);
	cr_expect_eq(history.rounds[0].end_ns, 1000 * MS);
	cr_expect_eq(history.rounds[0].sent_bytes, 1000);
	cr_expect_eq(history.rounds[0].dirty_per_second, 77);
	cr_expect_eq(history.rounds[1].end_ns, 1200 * MS);
	cr_expect_eq(history.rounds[1].sent_bytes, 400);
	cr_expect_eq(history.rounds[1].dirty_per_second, 33);
}

Test(migrate_history, the_phases_of_the_switch_are_where_its_times_say_whatever_was_seen)
{
	add(TENON_MIGRATION_PHASE_SETUP, 0, 5, 0, 0);
	add(TENON_MIGRATION_PHASE_PRE_COPY, 0, 10, 100, 0);
	add(TENON_MIGRATION_PHASE_PRE_COPY, 1, 10, 100, 0);
	add(TENON_MIGRATION_PHASE_COMMIT, 1, 3098, 100, 0);
	struct tenon_migration_progress done = progress_done();
	history_add(&history, &done);
	static const struct history_phase wanted[] = {
		{TENON_MIGRATION_PHASE_SETUP, 0, 10000000},
		{TENON_MIGRATION_PHASE_PRE_COPY, 10000000, 3069950000},
		{TENON_MIGRATION_PHASE_STOPPING, 3069950000, 3073000000},
		{TENON_MIGRATION_PHASE_STOP_COPY, 3073000000, 3095000000},
		{TENON_MIGRATION_PHASE_COMMIT, 3095000000, 3100000000},
		{TENON_MIGRATION_PHASE_DONE, 3100000000, 3100000000},
	};
	cr_assert_eq(history.phase_count, 6);
	for (unsigned i = 0; i < 6; i++) {
		cr_expect_eq(history.phases[i].phase, wanted[i].phase);
		cr_expect_eq(history.phases[i].begin_ns, wanted[i].begin_ns, "%u", i);
		cr_expect_eq(history.phases[i].end_ns, wanted[i].end_ns, "%u", i);
	}
	cr_expect_eq(history.round_count, 1, "what comes before the first round is none");
}

Test(migrate_history, phases_stay_as_seen_where_times_are_missing_wrong_or_somebody_had_to_ask)
{
	add(TENON_MIGRATION_PHASE_PRE_COPY, 1, 10, 100, 0);
	add(TENON_MIGRATION_PHASE_COMMIT, 1, 3000, 100, 0);
	add(TENON_MIGRATION_PHASE_RESOLVE, 1, 3010, 100, 0);
	struct tenon_migration_progress done = progress_done();
	history_add(&history, &done);
	cr_assert_eq(history.phase_count, 4);
	cr_expect_eq(history.phases[1].begin_ns, 3000 * MS);
	memset(&history, 0, sizeof(history));
	done.downtime_ns = 9 * done.elapsed_ns;
	history_add(&history, &done);
	cr_expect_eq(history.phase_count, 1);
	memset(&history, 0, sizeof(history));
	for (unsigned i = 0; i < 100; i++)
		add(i % 2 ? TENON_MIGRATION_PHASE_PRE_COPY : TENON_MIGRATION_PHASE_SETUP, 1, i, 0, 0);
	done = progress_done();
	history_add(&history, &done);
	cr_expect_eq(history.phase_count, HISTORY_PHASES_MAX, "no VM does this; one that does fills no more");
}

Test(migrate_history, a_migration_of_days_takes_no_more_memory)
{
	unsigned at = 0;
	for (unsigned round = 1; round <= 2 * HISTORY_ROUNDS_MAX; round++) {
		for (unsigned i = 0; i < 50; i++) {
			at++;
			add(TENON_MIGRATION_PHASE_PRE_COPY, round, at, at, 0);
		}
	}
	cr_expect_leq(history.sample_count, HISTORY_SAMPLES_MAX);
	cr_expect_gt(history.sample_count, HISTORY_SAMPLES_MAX / 4);
	for (unsigned i = 1; i < history.sample_count; i++)
		cr_assert_gt(history.samples[i].at_ns, history.samples[i - 1].at_ns);
	cr_expect_eq(history.samples[0].at_ns, MS);
	cr_expect_gt(history.samples[history.sample_count - 1].at_ns, (at - 100) * MS);
	cr_expect_eq(history.round_count + history.rounds_dropped, 2 * HISTORY_ROUNDS_MAX);
	cr_expect_eq(history.rounds[history.round_count - 1].number, 2 * HISTORY_ROUNDS_MAX);
}

/* ---- Report ---- */

/* Skips what is between two angle brackets. @return where it ends, NULL: it does not, or an attribute is wrong */
static const char *end_of_tag(const char *at)
{
	for (; *at && *at != '>'; at++) {
		if (*at == '<')
			return NULL;
		if (*at == '"' && !(at = strchr(at + 1, '"')))
			return NULL;
	}
	return *at ? at : NULL;
}

static bool is_entity(const char *at)
{
	static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
	for (unsigned i = 0; i < 5; i++) {
		if (strncmp(at, known[i], strlen(known[i])) == 0)
			return true;
	}
	return false;
}

/* Every element that begins ends, inside the one that it began in. */
static void expect_well_formed(const char *page)
{
	char open[32][24];
	unsigned depth = 0, elements = 0;
	for (const char *at = page; *at; at++) {
		if (*at == '&')
			cr_assert(is_entity(at), "%.20s", at);
		if (*at != '<' || at[1] == '!')
			continue;
		bool closes = at[1] == '/';
		const char *name = at + 1 + closes, *end = end_of_tag(name);
		size_t length = strcspn(name, " >/\n");
		cr_assert(end && length && length < sizeof(open[0]), "%.40s", at);
		if (closes) {
			cr_assert(depth && strlen(open[depth - 1]) == length &&
					  strncmp(open[depth - 1], name, length) == 0,
				  "%.40s", at);
			depth--;
		} else if (end[-1] != '/') {
			cr_assert_lt(depth, 32);
			memcpy(open[depth], name, length);
			open[depth++][length] = '\0';
			elements++;
		}
		at = end;
	}
	cr_expect_eq(depth, 0);
	cr_expect_gt(elements, 20);
}

static const char *report_of(const char *address, const char *error, bool saved)
{
	const struct report_facts facts = {.vm = "/run/vm1", .address = address, .error = error, .saved = saved};
	FILE *out = open_text();
	report_write(out, &history, &facts);
	fclose(out);
	expect_well_formed(memory);
	cr_expect_null(strstr(memory, "<script"));
	cr_expect_null(strstr(memory, "http"), "it needs nothing of the network");
	cr_expect_null(strstr(memory, "nan"));
	cr_expect_null(strstr(memory, "inf "));
	return memory;
}

static void add_all(void)
{
	add(TENON_MIGRATION_PHASE_SETUP, 0, 5, 0, 0);
	add(TENON_MIGRATION_PHASE_PRE_COPY, 1, 10, 100, 0);
	add(TENON_MIGRATION_PHASE_PRE_COPY, 2, 1500, 600 * MIB, 400 * MIB);
	add(TENON_MIGRATION_PHASE_PRE_COPY, 3, 2600, 700 * MIB, 130 * MIB);
	add(TENON_MIGRATION_PHASE_STOPPING, 3, 3000, 800 * MIB, 20 * MIB);
	add(TENON_MIGRATION_PHASE_STOP_COPY, 3, 3050, 850 * MIB, 20 * MIB);
	add(TENON_MIGRATION_PHASE_COMMIT, 3, 3090, 900 * MIB, 20 * MIB);
	struct tenon_migration_progress done = progress_done();
	history_add(&history, &done);
}

Test(migrate_report, every_phase_round_part_and_device_is_in_it)
{
	add_all();
	const char *page = report_of("tcp:host:4444", NULL, false);
	static const char *const facts[] = {
		"Migration done", "/run/vm1", "tcp:host:4444", "set-up", "pre-copy", "stopping", "stop-copy", "commit",
		/* the second round: what was sent in it, how fast, and what the guest wrote */
		("<th scope=\"row\">2</th><td>1.500 s</td><td>1.1 s</td><td>256 MiB</td><td>100 MiB</td>"
		 "<td>90.9 MiB/s</td><td>130 MiB/s</td>"),
		"stopping vCPUs</th><td>0.05 ms", "stopping devices</th><td>3.0 ms", "last pages</th><td>12.0 ms",
		"device data</th><td>8.0 ms", "machine state</th><td>2.0 ms", "commit</th><td>5.0 ms", "30.1 ms",
		"<th scope=\"row\">0000:3b:00.0</th><td>STOP_COPY</td><td>12.0 MiB</td><td>3.0 MiB</td>",
		"prefers-color-scheme:dark", "lang=\"en\"", "role=\"img\"", "<caption>", "scope=\"col\""};
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		cr_expect(strstr(page, facts[i]), "%s", facts[i]);
	for (unsigned i = 0; i < 4; i++) {
		static const char *const ids[] = {"timeline-title", "left-title", "rates-title", "downtime-title"};
		cr_expect(strstr(page, ids[i]), "%s", ids[i]);
	}
	free(memory);
}

Test(migrate_report, what_comes_from_elsewhere_is_text_and_never_markup)
{
	add_all();
	strcpy(history.last.devices[0].name, "<script>alert('1 & 2')</script>\x01");
	const char *page = report_of("file:/a\"b<c>\xff\xc3\xa9", "it <b>failed</b>", false);
	cr_expect(strstr(page, "&lt;script&gt;alert(&#39;1 &amp; 2&#39;)&lt;/script&gt;?"));
	cr_expect(strstr(page, "file:/a&quot;b&lt;c&gt;?\xc3\xa9"));
	cr_expect(strstr(page, "it &lt;b&gt;failed&lt;/b&gt;"));
	free(memory);
}

Test(migrate_report, a_failure_says_why_and_how_far_it_came)
{
	add(TENON_MIGRATION_PHASE_SETUP, 0, 5, 0, 0);
	add(TENON_MIGRATION_PHASE_PRE_COPY, 1, 10, 100, 0);
	add(TENON_MIGRATION_PHASE_FAILED, 1, 700, 100 * MIB, 0);
	const char *page = report_of("tcp:host:4444", "tcp:host:4444: Connection reset by peer; look there", false);
	cr_expect(strstr(page, "Migration failed"));
	cr_expect(strstr(page, "Connection reset by peer; look there"));
	cr_expect(strstr(page, "<th scope=\"row\">failed</th><td>0.700 s</td>"));
	cr_expect_null(strstr(page, "Downtime</h2>"), "there was none");
	free(memory);
}

Test(migrate_report, one_that_ends_before_anything_moved_is_a_page_too)
{
	const char *page = report_of("tcp:host:4444", "control socket /run/vm1: Connection refused; start it", false);
	cr_expect(strstr(page, "Migration failed"));
	cr_expect(strstr(page, "Connection refused; start it"));
	free(memory);
	struct tenon_migration_progress done = progress_done();
	history_add(&history, &done);
	page = report_of("file:/vm", NULL, true);
	cr_expect(strstr(page, "Snapshot written"));
	cr_expect(strstr(page, "The guest is saved"));
	free(memory);
}

Test(migrate_report, many_rounds_are_a_page_of_bounded_size)
{
	for (unsigned round = 1; round <= 3000; round++)
		add(TENON_MIGRATION_PHASE_PRE_COPY, round, round, round * MIB, round * MIB);
	const char *page = report_of("tcp:host:4444", NULL, false);
	cr_expect(strstr(page, "The last rounds"));
	cr_expect_lt(strlen(page), 1 << 20);
	free(memory);
}
