// SPDX-License-Identifier: MIT
/* The whole program with a device in another process: what a guest sees of it, while its server lives, dies and comes back. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tenon_guest.h"
#include "tenon_run.h"

static char folder[] = "/tmp/tenon-vfio-user-XXXXXX", path[64], address[96];
static struct run server;

static bool listens(void *context)
{
	struct stat status;
	return stat(path, &status) == 0 && S_ISSOCK(status.st_mode);
}

static void start_server(const char *option)
{
	unlink(path);
	run_start_program(&server, TENON_TESTDEV, ARGS("--quiet", path, option), NULL);
	cr_assert(run_until(listens, NULL), "the server does not listen");
}

static void end_server(int number)
{
	run_signal(&server, number);
	cr_expect_eq(run_wait(&server, ENDING_MS), number == SIGKILL ? 1000 + SIGKILL : 0, "%s",
		     server.complained.bytes);
	run_finish(&server);
}

static void setup(void)
{
	guest_skip_without_kvm();
	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
	snprintf(address, sizeof(address), "vfio-user:%s,slot=5,timeout=5000", path);
	start_server(NULL);
}

static void teardown(void)
{
	if (server.pid)
		end_server(SIGKILL);
	unlink(path);
	rmdir(folder);
}

TestSuite(tenon_vfio_user, .init = setup, .fini = teardown, .timeout = 180);

/* Device 5 in ECAM: command register, BAR 0 and its upper half. */
#define COMMAND "0xe0028004"
#define BAR0    "0xe0028010"
#define BAR1    "0xe0028014"
/* Registers of the test device */
#define ID         "0x0"
#define LIST       "0x40"
#define LIST_COUNT "0x48"
#define STATUS     "0x50"
#define DOORBELL   "0x1000"

/* Puts BAR 0 where this code reaches it, and leaves that in %ebx. */
#define SWITCH_ON                                                                                                      \
	"movl $0xd0000000, %ebx\n"                                                                                     \
	"movl %ebx, " BAR0 "\n"                                                                                        \
	"movl $0, " BAR1 "\n"                                                                                          \
	"movw $0x6, " COMMAND "\n"
#define PUT(character) "movb $'" character "', %al\n" GUEST_CALL_PUT

/* Prints the four characters that the device has in its ID register; has it fill memory, at a doorbell; prints OK. */
GUEST_CODE(fills, GUEST_STACK SWITCH_ON "movl " ID "(%ebx), %ecx\n"
					"movl $4, %edx\n"
					"2: movb %cl, %al\n"
					"pushl %edx\n" GUEST_CALL_PUT "popl %edx\n"
					"shrl $8, %ecx\n"
					"decl %edx\n"
					"jnz 2b\n"
					"movl $0x11223344, 0x200000\n" /* a pattern of 8 bytes */
					"movl $0x55667788, 0x200004\n"
					"movl $0x210000, 0x200008\n"
					"movl $0, 0x20000c\n"
					"movl $16, 0x200010\n"
					"movl $4, 0x200014\n" /* TD_DESC_FILL */
					"movl $0x200000, " LIST "(%ebx)\n"
					"movl $0, 0x44(%ebx)\n"
					"movl $1, " LIST_COUNT "(%ebx)\n"
					"movl $1, " DOORBELL "(%ebx)\n"
					"3: testl $6, " STATUS "(%ebx)\n"
					"jz 3b\n"
					"cmpl $0x55667788, 0x21000c\n"
					"jne 4f\n" PUT("O") PUT("K") "4:\n" GUEST_EXIT(7) GUEST_PUT);

/* Prints L when the device is there, G when it reads ones, then looks for it again: B. */
GUEST_CODE(waits, GUEST_STACK SWITCH_ON
	   "cmpl $0x544e5444, " ID "(%ebx)\n"
	   "jne 4f\n" PUT("L") "2: cmpl $-1, " ID "(%ebx)\n"
			       "jne 2b\n" PUT("G") "3:\n" SWITCH_ON "cmpl $0x544e5444, " ID "(%ebx)\n"
						   "jne 3b\n" PUT("B") GUEST_EXIT(7) "4:\n" PUT("?") GUEST_EXIT(8)
							   GUEST_PUT);

#define RUN(guest)                                                                                                     \
	"run", "--kernel", GUEST_FILE(guest), "--memory", "64M", "--exit-device", "--topology", "flat", "--device"

Test(tenon_vfio_user, a_guest_reads_its_registers_and_has_it_write_memory)
{
	static const char *const options[] = {NULL, "--no-doorbell-fds", "--no-twin-socket"};
	for (unsigned i = 0; i < 3; i++) {
		struct run run;
		if (i) {
			end_server(SIGTERM);
			start_server(options[i]);
		}
		run_start(&run, ARGS(RUN(fills), address), NULL);
		cr_expect_eq(run_wait(&run, PATIENCE_MS), 7, "%s", run.complained.bytes);
		cr_expect_str_eq(run.said.bytes, "DTNTOK");
		run_finish(&run);
	}
	end_server(SIGTERM);
}

Test(tenon_vfio_user, a_server_that_is_killed_makes_ones_and_one_that_returns_the_device)
{
	struct run run;
	strcat(address, ",reconnect=on");
	run_start(&run, ARGS(RUN(waits), address), NULL);
	run_expect(&run, "L", 1);
	end_server(SIGKILL);
	run_expect(&run, "G", 1);
	run_expect_complaint(&run, "is gone");
	start_server(NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 7, "%s", run.complained.bytes);
	cr_expect_str_eq(run.said.bytes, "LGB");
	run_finish(&run);
}

Test(tenon_vfio_user, the_plan_names_it)
{
	static const char *const expected[] = {"vfio-user:/tmp/", "7e4e:0001", "by vfio-user, coherent", "64 KiB"};
	struct run run;
	run_start(&run, ARGS(RUN(fills), address, "--dry-run"), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0, "%s", run.complained.bytes);
	for (size_t i = 0; i < 3; i++)
		cr_expect(strstr(run.said.bytes, expected[i]), "no %s in: %s", expected[i], run.said.bytes);
	run_finish(&run);
}

Test(tenon_vfio_user, one_that_nobody_serves_is_refused_in_a_line)
{
	struct run run;
	end_server(SIGTERM);
	unlink(path);
	run_start(&run, ARGS(RUN(fills), address), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 1);
	cr_expect(strstr(run.complained.bytes, "no server listens there"), "%s", run.complained.bytes);
	cr_expect_eq(run_count(&run.complained, "\n"), 1, "%s", run.complained.bytes);
	run_finish(&run);
}

Test(tenon_vfio_user, one_is_added_to_a_vm_that_runs)
{
	char control[96], device[96];
	struct run vm, client;
	snprintf(control, sizeof(control), "%s/control", folder);
	snprintf(device, sizeof(device), "vfio-user:%s", path);
	run_start(&vm,
		  ARGS("run", "--kernel", guest_interpreter(), "--memory", "64M", "--append", "e", "--control", control,
		       "--hotplug-ports", "1"),
		  NULL);
	run_send(&vm, "here");
	run_expect(&vm, "here", 1);
	run_start(&client, ARGS("ctl", control, "device-add", device), NULL);
	cr_expect_eq(run_wait(&client, PATIENCE_MS), 0, "%s", client.complained.bytes);
	run_finish(&client);
	run_start(&client, ARGS("ctl", control, "devices"), NULL);
	cr_expect_eq(run_wait(&client, PATIENCE_MS), 0, "%s", client.complained.bytes);
	cr_expect(strstr(client.said.bytes, device), "%s", client.said.bytes);
	run_finish(&client);
	/* Its server goes, and so does it: the port is empty again. */
	end_server(SIGKILL);
	run_expect_complaint(&vm, "is gone");
	start_server(NULL);
	run_start(&client, ARGS("ctl", control, "device-add", device), NULL);
	cr_expect_eq(run_wait(&client, PATIENCE_MS), 0, "%s", client.complained.bytes);
	run_finish(&client);
	run_start(&client, ARGS("ctl", control, "quit"), NULL);
	cr_expect_eq(run_wait(&client, PATIENCE_MS), 0, "%s", client.complained.bytes);
	run_finish(&client);
	cr_expect_eq(run_wait(&vm, ENDING_MS), 0, "%s", vm.complained.bytes);
	run_finish(&vm);
}
