// SPDX-License-Identifier: MIT
/* What `tenon check` makes of the self-test's lines, those of a device that lies about itself included. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "check/report.h"

#define SAID_MAX (4 << 20)

/* ---- Standard output, caught ---- */

static FILE *caught;
static int terminal;
static char said[SAID_MAX];

static void catch_output(void)
{
	caught = tmpfile();
	fflush(stdout);
	terminal = dup(STDOUT_FILENO);
	dup2(fileno(caught), STDOUT_FILENO);
}

static const char *caught_output(void)
{
	fflush(stdout);
	dup2(terminal, STDOUT_FILENO);
	close(terminal);
	rewind(caught);
	size_t count = fread(said, 1, sizeof(said) - 1, caught);
	said[count] = '\0';
	fclose(caught);
	return said;
}

static struct report_sums report_of(enum report_form form, const char *text, size_t piece, const char *trouble)
{
	size_t length = strlen(text);
	catch_output();
	struct report *report = report_create(form);
	for (size_t at = 0; at < length; at += piece)
		report_take(report, text + at, length - at < piece ? length - at : piece);
	report_end(report, trouble, 1500000000);
	struct report_sums sums = report_sums(report);
	report_destroy(report);
	caught_output();
	return sums;
}

#define DEVICE "# device 00:01.0 host 0000:3b:00.0 id 1b36:0010 class 010802 driver nvme\r\n"

static const char usual[] = "# tenon firmware 0.1.0\r\nTAP version 13\r\n" DEVICE
			    "ok 1 - 00:01.0 config ids: 1b36:0010, class 010802 # time_ns=330000\r\n"
			    "not ok 2 - 00:01.0 msi-x: vector 0 was raised and did not come # time_ns=2000000000\r\n"
			    "ok 3 - 00:01.0 msi: the device has none # SKIP\r\n"
			    "1..3\r\n# 1 devices, 1 checks failed, 5 us\r\n";

TestSuite(check_report, .timeout = 60);

Test(check_report, text_has_a_line_for_each_check_and_a_sum)
{
	struct report_sums sums = report_of(REPORT_TEXT, usual, 1, NULL);
	cr_expect_eq(sums.passed, 1);
	cr_expect_eq(sums.failed, 1);
	cr_expect_eq(sums.skipped, 1);
	cr_expect(sums.complete);
	cr_expect(strstr(said, "0000:3b:00.0  1b36:0010, class 010802, 00:01.0 in the guest; driven as nvme\n"), "%s",
		  said);
	cr_expect(strstr(said, "  ok    config ids "), "%s", said);
	cr_expect(strstr(said, "  FAIL  msi-x "), "%s", said);
	cr_expect(strstr(said, "2000.000 ms  vector 0 was raised"), "%s", said);
	cr_expect(strstr(said, "  skip  msi "), "%s", said);
	cr_expect(strstr(said, "3 checks: 1 passed, 1 failed, 1 skipped; 1.5 s"), "%s", said);
}

Test(check_report, tap_names_the_host_s_address)
{
	report_of(REPORT_TAP, usual, 7, NULL);
	cr_expect_str_eq(said,
			 "TAP version 13\n"
			 "# 0000:3b:00.0: 1b36:0010, class 010802, 00:01.0 in the guest, driver nvme\n"
			 "ok 1 - 0000:3b:00.0 config ids: 1b36:0010, class 010802 # time_ns=330000\n"
			 "not ok 2 - 0000:3b:00.0 msi-x: vector 0 was raised and did not come # time_ns=2000000000\n"
			 "ok 3 - 0000:3b:00.0 msi: the device has none # SKIP\n"
			 "1..3\n");
}

Test(check_report, json_has_the_same)
{
	report_of(REPORT_JSON, usual, 1000, NULL);
	json_object *report = json_tokener_parse(said);
	cr_assert_not_null(report, "%s", said);
	json_object *device = json_object_array_get_idx(json_object_object_get(report, "devices"), 0);
	json_object *checks = json_object_object_get(device, "checks");
	cr_assert_eq(json_object_array_length(checks), 3);
	json_object *second = json_object_array_get_idx(checks, 1);
	cr_expect_str_eq(json_object_get_string(json_object_object_get(second, "result")), "failed");
	cr_expect_eq(json_object_get_uint64(json_object_object_get(second, "time_ns")), 2000000000);
	cr_expect_null(json_object_object_get(json_object_array_get_idx(checks, 2), "time_ns"));
	cr_expect_null(json_object_object_get(report, "trouble"));
	json_object_put(report);
}

Test(check_report, self_test_that_ends_early_is_not_complete_and_its_last_words_are_shown)
{
	static const char text[] = DEVICE "ok 1 - 00:01.0 config ids: x # time_ns=1\r\n"
					  "# exception 14 (page fault) error=0 rip=41234\r\n";
	for (int form = REPORT_TEXT; form <= REPORT_TAP; form++) {
		struct report_sums sums = report_of((enum report_form)form, text, 100, "it crashed");
		cr_expect_not(sums.complete);
		cr_expect(strstr(said, "it crashed"), "%s", said);
		cr_expect(strstr(said, "exception 14 (page fault)"), "%s", said);
	}
}

Test(check_report, what_a_device_says_of_itself_cannot_make_a_failure_look_skipped)
{
	static const char text[] = DEVICE "not ok 1 - 00:01.0 dma: \"evil # SKIP\" # time_ns=5\r\n1..1\r\n";
	struct report_sums sums = report_of(REPORT_TEXT, text, 3, NULL);
	cr_expect_eq(sums.failed, 1);
	cr_expect_eq(sums.skipped, 0);
}

Test(check_report, control_characters_do_not_reach_the_terminal)
{
	static const char text[] = DEVICE "ok 1 - 00:01.0 dma: \"\033[2Jmodel\007\" # time_ns=5\r\n1..1\r\n";
	report_of(REPORT_TEXT, text, 3, NULL);
	cr_expect_null(strchr(said, '\033'));
	cr_expect_null(strchr(said, '\007'));
	cr_expect(strstr(said, "\"?[2Jmodel?\""), "%s", said);
}

Test(check_report, lines_of_no_device_and_broken_lines_count_for_nothing)
{
	static const char text[] = "ok 1 - 00:02.0 dma: of nobody # time_ns=5\r\n" DEVICE "ok\r\nok 1\r\nok 1 - \r\n"
				   "ok 1 - 00:01.0\r\nok 1 - 00:01.0 dma\r\nok 1 - 00:01.0 dma: no end\r\n"
				   "ok 1 - 00:01.0 dma: x # time_ns=\r\nnot ok\r\n# device\r\n# device 1 host\r\n";
	struct report_sums sums = report_of(REPORT_TEXT, text, 5, NULL);
	cr_expect_eq(sums.passed + sums.failed + sums.skipped, 0, "%s", said);
	cr_expect_not(sums.complete);
}

Test(check_report, any_bytes_give_a_report_that_is_json)
{
	static const char *const words[] = {"ok ",  "not ok ",   " - ",    "00:01.0", " # ",
					    "SKIP", "time_ns=",  ": ",     "\n",      "\"",
					    "\\",   "# device ", " host ", "1..",     "9999999999999999999999",
					    "\xff"};
	srand(7);
	for (unsigned round = 0; round < 200; round++) {
		static char text[65536];
		size_t used = (size_t)snprintf(text, sizeof(text), "%s", DEVICE);
		while (used + 100 < sizeof(text) && rand() % 2000) {
			const char *word = words[(size_t)rand() % (sizeof(words) / sizeof(words[0]))];
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s", word);
			if (rand() % 4 == 0)
				text[used++] = (char)(1 + rand() % 255);
			text[used] = '\0';
		}
		report_of(REPORT_JSON, text, 1 + (size_t)rand() % 5000, NULL);
		json_object *report = json_tokener_parse(said);
		cr_expect_not_null(report, "round %u", round);
		json_object_put(report);
	}
}
