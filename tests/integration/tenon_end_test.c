// SPDX-License-Identifier: MIT
/*
 * How the program ends, and that it does: each exit status of tenon(1), signals in every state of the guest, and what must not be
 * left behind.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tenon_guest.h"
#include "tenon_run.h"

TestSuite(tenon_end, .init = guest_skip_without_kvm, .timeout = 180);

#define SCRIPT(text) "run", "--kernel", guest_interpreter(), "--memory", "64M", "--append", (text)

static int run_script(const char *script)
{
	return run_to_end(ARGS(SCRIPT(script), "--exit-device"));
}

/* ---- The guest ends it ---- */

Test(tenon_end, exit_device_gives_the_exit_status)
{
	static const struct {
		const char *script;
		int status;
	} cases[] = {{"xaa", 0}, {"xck", 42}, {"xpp", 255}};
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(run_script(cases[i].script), cases[i].status, "%s", cases[i].script);
}

Test(tenon_end, exit_device_is_absent_unless_asked_for)
{
	cr_expect_eq(run_to_end(ARGS(SCRIPT("xcko"))), 0, "the write goes nowhere, so it goes on to power off");
}

Test(tenon_end, power_off_ends_with_0)
{
	cr_expect_eq(run_script("o"), 0);
}

Test(tenon_end, triple_fault_ends_with_4_and_says_so)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("t")), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 4);
	cr_expect(strstr(run.complained.bytes, "triple fault"), "%s", run.complained.bytes);
	run_finish(&run);
}

Test(tenon_end, triple_fault_is_no_reset_even_without_no_reboot)
{
	cr_expect_eq(run_to_end(ARGS(SCRIPT("t"), "--no-reboot")), 4);
}

Test(tenon_end, output_before_the_end_is_not_lost)
{
	static const char *const scripts[] = {"papbpcpdo", "papbpcpdxaa", "papbpcpdt", "papbpcpdr"};
	for (unsigned i = 0; i < 4; i++) {
		struct run run;
		run_start(&run, ARGS(SCRIPT(scripts[i]), "--exit-device", "--no-reboot"), NULL);
		run_wait(&run, PATIENCE_MS);
		cr_expect_str_eq(run.said.bytes, "abcd", "%s", scripts[i]);
		run_finish(&run);
	}
}

/* ---- Reset ---- */

Test(tenon_end, reset_under_no_reboot_ends_with_3)
{
	cr_expect_eq(run_to_end(ARGS(SCRIPT("r"), "--no-reboot")), 3);
}

Test(tenon_end, reset_boots_the_same_kernel_anew_in_the_same_process)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("b"), "--exit-device"), NULL);
	for (unsigned boot = 1; boot <= 5; boot++) {
		run_expect(&run, "B1", boot);
		run_send(&run, "r");
	}
	run_expect(&run, "B1", 6);
	run_send(&run, "xah");
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 7);
	cr_expect_str_eq(run.said.bytes, "B1B1B1B1B1B1");
	run_finish(&run);
}

struct held {
	const struct run *run;
	unsigned files, threads;
};

static bool no_more_than(void *context)
{
	const struct held *held = context;
	return run_count_entries(held->run, "fd") <= held->files &&
	       run_count_entries(held->run, "task") <= held->threads;
}

Test(tenon_end, resets_pile_up_neither_files_nor_threads)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("b"), "--cpus", "4"), NULL);
	run_expect(&run, "B1", 1);
	run_send(&run, "r");
	run_expect(&run, "B1", 2); /* by then all threads that stay have started */
	struct held held = {&run, run_count_entries(&run, "fd"), run_count_entries(&run, "task")};
	for (unsigned boot = 3; boot <= 12; boot++) {
		run_send(&run, "r");
		run_expect(&run, "B1", boot);
	}
	cr_expect(run_until(no_more_than, &held), "%u files and %u threads became %u and %u", held.files, held.threads,
		  run_count_entries(&run, "fd"), run_count_entries(&run, "task"));
	run_send(&run, "o");
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	run_finish(&run);
}

/* Counts its boots in RAM that the loader does not touch; a reset is no loss of power. */
GUEST_CODE(count_boots, "incl 0x800000\n"
			"cmpl $3, 0x800000\n"
			"jae 1f\n"
			"movw $0x602, %dx\n"
			"movb $1, %al\n"
			"outb %al, %dx\n"
			"2: hlt\n"
			"jmp 2b\n"
			"1: movb 0x800000, %al\n"
			"movw $0x500, %dx\n"
			"outb %al, %dx\n"
			"jmp 2b\n");

Test(tenon_end, ram_survives_a_reset)
{
	cr_expect_eq(run_to_end(ARGS("run", "--kernel", GUEST_FILE(count_boots), "--memory", "64M", "--exit-device")),
		     3);
}

Test(tenon_end, signal_ends_a_guest_that_resets_all_the_time)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("br")), NULL);
	run_expect(&run, "B1", 3);
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 143);
	run_finish(&run);
}

/* ---- Signals ---- */

static void expect_end_by_signal(const char *script, const char *cpus, int number)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT(script), "--cpus", cpus), NULL);
	run_expect(&run, "B1", 1);
	run_signal(&run, number);
	cr_expect_eq(run_wait(&run, ENDING_MS), 128 + number, "%s", script);
	run_finish(&run);
}

Test(tenon_end, signals_end_it_whatever_the_guest_does)
{
	/* Halts, spins with interrupts off, floods the serial port, polls it. */
	static const char *const scripts[] = {"bh", "bs", "bf", "be"};
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned j = 0; j < 3; j++)
			expect_end_by_signal(scripts[i], i % 2 ? "1" : "3", numbers[j]);
	}
}

Test(tenon_end, signal_right_at_the_start_is_not_lost)
{
	for (useconds_t after_us = 0; after_us < 100000; after_us += 10000) {
		struct run run;
		run_start(&run, ARGS(SCRIPT("s")), NULL);
		usleep(after_us);
		run_signal(&run, SIGTERM);
		int status = run_wait(&run, ENDING_MS);
		cr_expect(status == 143 || status == 1000 + SIGTERM, "%d after %u us", status, after_us);
		run_finish(&run);
	}
}

Test(tenon_end, output_that_nobody_reads_does_not_hold_up_the_end)
{
	static const int numbers[] = {SIGINT, SIGTERM};
	for (unsigned i = 0; i < 2; i++) {
		struct run run;
		run_start(&run, ARGS(SCRIPT("bf")), NULL);
		run_expect(&run, "B1fff", 1);
		sleep(2); /* time to fill the pipe and the program's buffer; too little would only make the test weaker */
		run_signal(&run, numbers[i]);
		cr_expect_eq(run_wait_unread(&run, ENDING_MS), 128 + numbers[i]);
		run_finish(&run);
	}
}

/* ---- Nothing is left behind ---- */

static void make_folder(char *folder)
{
	strcpy(folder, "/tmp/tenon-end-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
}

Test(tenon_end, socket_is_removed_however_it_ends)
{
	static const struct {
		const char *script;
		int signal, status;
	} cases[] = {{"o", 0, 0},        {"xck", 0, 42},      {"t", 0, 4},       {"r", 0, 3},
		     {"s", SIGINT, 130}, {"s", SIGTERM, 143}, {"s", SIGHUP, 129}};
	char folder[32], path[64], where[80];
	make_folder(folder);
	snprintf(path, sizeof(path), "%s/serial", folder);
	snprintf(where, sizeof(where), "socket:%s", path);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct run run;
		run_start(&run, ARGS(SCRIPT(cases[i].script), "--serial", where, "--exit-device", "--no-reboot"), NULL);
		if (cases[i].signal) {
			for (unsigned tries = 0; access(path, F_OK) != 0 && tries < PATIENCE_MS / 10; tries++)
				usleep(10000);
			run_signal(&run, cases[i].signal);
		}
		cr_expect_eq(run_wait(&run, PATIENCE_MS), cases[i].status, "case %zu", i);
		cr_expect_neq(access(path, F_OK), 0, "case %zu", i);
		run_finish(&run);
	}
	cr_expect_eq(rmdir(folder), 0, "nothing else is in it");
}

Test(tenon_end, failed_set_up_leaves_nothing_and_ends_with_1)
{
	char folder[32], path[64], where[80];
	make_folder(folder);
	snprintf(path, sizeof(path), "%s/serial", folder);
	snprintf(where, sizeof(where), "socket:%s", path);
	const char *const *const cases[] = {
		ARGS("run", "--kernel", "/nowhere/vmlinuz"),
		ARGS("run", "--kernel", "/dev/null"),
		ARGS("run", "--kernel", guest_interpreter(), "--initrd", "/nowhere/initrd"),
		ARGS(SCRIPT("o"), "--serial", "file:/nowhere/log"),
		ARGS(SCRIPT("o"), "--serial", where, "--device", "/nowhere/vfio3"),
		ARGS(SCRIPT("o"), "--serial", where, "--device", "fff0:ff:1f.7"),
		ARGS(SCRIPT("o"), "--serial", where, "--device", "fd=99"),
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct run run;
		run_start(&run, cases[i], NULL);
		cr_expect_eq(run_wait(&run, PATIENCE_MS), 1, "case %zu", i);
		cr_expect_eq(strncmp(run.complained.bytes, "tenon: ", 7), 0);
		cr_expect_eq(run_count(&run.complained, "\n"), 1, "one line: %s", run.complained.bytes);
		cr_expect_eq(run.said.count, 0);
		cr_expect_neq(access(path, F_OK), 0, "case %zu", i);
		run_finish(&run);
	}
	cr_expect_eq(rmdir(folder), 0);
}

/* ---- Many CPUs ---- */

static unsigned long cpu_ticks(const struct run *run)
{
	char path[64], text[1024];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)run->pid);
	FILE *file = fopen(path, "r");
	cr_assert_not_null(file);
	cr_assert_not_null(fgets(text, sizeof(text), file));
	fclose(file);
	unsigned long user, system;
	const char *after_name = strrchr(text, ')');
	cr_assert_eq(sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
	return user + system;
}

static bool all_cpus_have_threads(void *run)
{
	return run_count_entries(run, "task") >= 65;
}

Test(tenon_end, sixty_four_cpus_start_sleep_and_end)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("bh"), "--cpus", "64", "--quiet"), NULL);
	run_expect(&run, "B1", 1);
	cr_expect(run_until(all_cpus_have_threads, &run), "%u threads", run_count_entries(&run, "task"));
	unsigned long before = cpu_ticks(&run);
	sleep(2);
	unsigned long busy = cpu_ticks(&run) - before;
	cr_expect_lt(busy, (unsigned long)sysconf(_SC_CLK_TCK),
		     "the CPUs that nobody started, or that halt, take %lu ticks", busy);
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 143);
	run_finish(&run);
}

Test(tenon_end, sixty_four_cpus_reboot)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("b"), "--cpus", "64", "--quiet"), NULL);
	run_expect(&run, "B1", 1);
	run_send(&run, "r");
	run_expect(&run, "B1", 2);
	run_send(&run, "o");
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	run_finish(&run);
}

/* ---- Without a guest ---- */

Test(tenon_usage, help_and_version_end_with_0, .timeout = 60)
{
	const char *const *const cases[] = {ARGS("--help"), ARGS("--version"), ARGS("run", "--help")};
	static const char *const expected[] = {"tenon run", "tenon ", "--exit-device"};
	for (unsigned i = 0; i < 3; i++) {
		struct run run;
		run_start(&run, cases[i], NULL);
		cr_expect_eq(run_wait(&run, PATIENCE_MS), 0, "case %u", i);
		cr_expect(strstr(run.said.bytes, expected[i]), "case %u said: %s", i, run.said.bytes);
		cr_expect_str_empty(run.complained.bytes);
		run_finish(&run);
	}
}

Test(tenon_usage, wrong_usage_ends_with_2_and_one_line, .timeout = 60)
{
	const char *const *const cases[] = {
		ARGS(NULL),
		ARGS("start"),
		ARGS("--kernel", "vmlinuz"),
		ARGS("run"),
		ARGS("run", "--kernel"),
		ARGS("run", "--kernel", "k", "--cpus", "65"),
		ARGS("run", "--kernel", "k", "--memory", "x"),
		ARGS("run", "--kernel", "k", "--frob"),
		ARGS("run", "--kernel", "k", "--json"),
		ARGS("run", "--kernel", "k", "stray"),
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct run run;
		run_start(&run, cases[i], NULL);
		cr_expect_eq(run_wait(&run, PATIENCE_MS), 2, "case %zu", i);
		cr_expect_eq(strncmp(run.complained.bytes, "tenon: ", 7), 0);
		cr_expect_eq(run_count(&run.complained, "\n"), 1, "one line: %s", run.complained.bytes);
		cr_expect(strstr(run.complained.bytes, "; "), "no advice: %s", run.complained.bytes);
		cr_expect_eq(run.said.count, 0);
		run_finish(&run);
	}
}
