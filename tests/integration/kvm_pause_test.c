// SPDX-License-Identifier: MIT
/* Kicking, pausing, resuming and stopping vCPUs that are busy: no wish is lost, and no instruction is left half done. */
#include <errno.h>
#include <stdatomic.h>
#include <dirent.h>

#include "kvm_guest.h"

#define COUNTER 0x3000u

GUEST_CODE_32(spin, "1: incl 0x3000\n"
		    "jmp 1b\n");

static void wait_for_progress(const struct guest *guest, uint32_t counter)
{
	uint32_t before = guest_read32(guest, counter);
	for (unsigned tries = 0; guest_read32(guest, counter) == before; tries++) {
		cr_assert_lt(tries, 10000, "the guest stands still");
		usleep(1000);
	}
}

static void *kick_often(void *argument)
{
	struct guest *guest = argument;
	for (unsigned i = 0; i < 3000; i++)
		tenon_vcpu_kick(guest->vcpus[0]);
	return NULL;
}

Test(kvm_pause, a_paused_vcpu_stands_still_and_a_resumed_one_goes_on, .timeout = 120)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_spin, guest_spin_end);
	guest_start(&guest);
	for (unsigned i = 0; i < 200; i++) {
		tenon_vcpu_pause(guest.vcpus[0], true);
		uint32_t before = guest_read32(&guest, COUNTER);
		if (i % 50 == 0)
			usleep(2000);
		cr_assert_eq(guest_read32(&guest, COUNTER), before);
		tenon_vcpu_resume(guest.vcpus[0]);
		if (i % 10 == 0)
			wait_for_progress(&guest, COUNTER);
	}
	guest_destroy(&guest);
}

Test(kvm_pause, storms_of_kicks_from_several_threads_lose_no_pause, .timeout = 120)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_spin, guest_spin_end);
	guest_start(&guest);
	pthread_t kickers[2];
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&kickers[i], NULL, kick_often, &guest), 0);
	for (unsigned i = 0; i < 1000; i++) {
		tenon_vcpu_pause(guest.vcpus[0], true);
		tenon_vcpu_resume(guest.vcpus[0]);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(kickers[i], NULL);
	wait_for_progress(&guest, COUNTER);

	struct tenon_vcpu_stats stats;
	tenon_vcpu_stats_read(guest.vcpus[0], &stats);
	cr_expect_gt(stats.kicks, 0);
	cr_expect_eq(guest_read_count(&guest, &guest.stop_count), 0, "%s", guest.stop_message);
	guest_destroy(&guest);
}

/* Every instruction's offset matters: see the test. */
GUEST_CODE_32(port_loop, "movw $0x40, %dx\n"  /* 0 */
			 "1: inl %dx, %eax\n" /* 4 */
			 "incl 0x3000\n"      /* 5 */
			 "jmp 1b\n");         /* 11 */

Test(kvm_pause, a_pause_completes_the_port_read_under_way, .timeout = 120)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_port_loop, guest_port_loop_end);
	guest_start(&guest);
	for (unsigned i = 0; i < 500; i++) {
		tenon_vcpu_pause(guest.vcpus[0], true);
		struct tenon_error error;
		struct kvm_regs regs;
		cr_assert_eq(tenon_vcpu_get_regs(guest.vcpus[0], &regs, &error), 0, "%s", error.message);
		uint32_t counted = guest_read32(&guest, COUNTER);
		uint32_t answered = guest.port_value;
		bool between = regs.rip == GUEST_CODE + 5;
		cr_assert_eq(answered, counted + between, "%u reads answered, %u counted, rip %#llx", answered, counted,
			     regs.rip);
		if (between)
			cr_assert_eq((uint32_t)regs.rax, answered - 1);
		tenon_vcpu_resume(guest.vcpus[0]);
		usleep(100);
	}
	tenon_vcpu_stop(guest.vcpus[0]);
	cr_expect_gt(guest.port_value, 0);
	guest_destroy(&guest);
}

GUEST_CODE_32(memory_loop, "1: movl 0xd0000000, %eax\n" /* 0 */
			   "movl %eax, 0xd0000ffe\n"    /* 5: crosses a page, so it exits twice */
			   "incl 0x3000\n"              /* 10 */
			   "jmp 1b\n");                 /* 16 */

Test(kvm_pause, a_pause_completes_a_memory_access_in_all_its_parts, .timeout = 120)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_memory_loop, guest_memory_loop_end);
	guest_start(&guest);
	wait_for_progress(&guest, COUNTER);
	for (unsigned i = 0; i < 500; i++) {
		tenon_vcpu_pause(guest.vcpus[0], true);
		struct tenon_error error;
		struct kvm_regs regs;
		cr_assert_eq(tenon_vcpu_get_regs(guest.vcpus[0], &regs, &error), 0, "%s", error.message);
		uint32_t counted = guest_read32(&guest, COUNTER);
		/* One access of the read, two of the write. */
		unsigned expected = counted * 3 + (regs.rip == GUEST_CODE + 5    ? 1
						   : regs.rip == GUEST_CODE + 10 ? 3
										 : 0);
		cr_assert_eq(guest.device_accesses, expected, "%u accesses, %u expected, rip %#llx",
			     guest.device_accesses, expected, regs.rip);
		tenon_vcpu_resume(guest.vcpus[0]);
		usleep(100);
	}
	guest_destroy(&guest);
}

Test(kvm_pause, a_vcpu_can_be_stopped_and_started_again, .timeout = 120)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_port_loop, guest_port_loop_end);
	for (unsigned i = 0; i < 50; i++) {
		guest_start(&guest);
		if (i % 2)
			usleep(500);
		tenon_vcpu_stop(guest.vcpus[0]);
		tenon_vcpu_kick(guest.vcpus[0]); /* nobody to kick: harmless */
	}
	guest_start(&guest);
	wait_for_progress(&guest, COUNTER);
	guest_destroy(&guest);
}

Test(kvm_pause, a_pause_before_start_starts_paused, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_spin, guest_spin_end);
	tenon_vcpu_pause(guest.vcpus[0], true);
	guest_start(&guest);
	tenon_vcpu_pause(guest.vcpus[0], true);
	cr_expect_eq(guest_read32(&guest, COUNTER), 0);
	tenon_vcpu_resume(guest.vcpus[0]);
	wait_for_progress(&guest, COUNTER);
	guest_destroy(&guest);
}

Test(kvm_pause, a_halted_vcpu_pauses_and_stops, .timeout = 60)
{
	GUEST_CODE_32(halt, "1: hlt\n"
			    "jmp 1b\n");
	struct guest guest;
	guest_create(&guest, NULL, guest_halt, guest_halt_end);
	guest_start(&guest);
	for (unsigned i = 0; i < 100; i++) {
		tenon_vcpu_pause(guest.vcpus[0], true);
		tenon_vcpu_resume(guest.vcpus[0]);
	}
	tenon_vcpu_stop(guest.vcpus[0]);
	guest_destroy(&guest);
}

Test(kvm_pause, processors_that_wait_to_be_started_pause_like_any, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_spin, guest_spin_end);
	guest_add_vcpu(&guest);
	guest_add_vcpu(&guest);
	guest_start(&guest);
	for (unsigned i = 0; i < 200; i++) {
		for (unsigned j = 0; j < guest.vcpu_count; j++)
			tenon_vcpu_pause(guest.vcpus[j], false);
		for (unsigned j = 0; j < guest.vcpu_count; j++)
			tenon_vcpu_pause(guest.vcpus[j], true);
		for (unsigned j = 0; j < guest.vcpu_count; j++)
			tenon_vcpu_resume(guest.vcpus[j]);
	}
	wait_for_progress(&guest, COUNTER);
	guest_destroy(&guest);
}

Test(kvm_pause, registers_of_a_running_vcpu_are_refused, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_spin, guest_spin_end);
	guest_start(&guest);
	struct tenon_error error;
	struct kvm_regs regs;
	cr_expect_eq(tenon_vcpu_get_regs(guest.vcpus[0], &regs, &error), -EBUSY);
	cr_expect_not_null(strstr(error.message, "pause it first"), "%s", error.message);
	cr_expect_eq(tenon_vcpu_start(guest.vcpus[0], &error), -EBUSY);
	guest_destroy(&guest);
}

static bool thread_exists(const char *name)
{
	bool found = false;
	DIR *tasks = opendir("/proc/self/task");
	cr_assert_not_null(tasks);
	for (struct dirent *task; !found && (task = readdir(tasks));) {
		char path[300];
		char comm[32] = "";
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
		FILE *file = fopen(path, "re");
		if (!file)
			continue;
		if (fgets(comm, sizeof(comm), file))
			comm[strcspn(comm, "\n")] = '\0';
		fclose(file);
		found = strcmp(comm, name) == 0;
	}
	closedir(tasks);
	return found;
}

Test(kvm_pause, vcpu_threads_are_named_and_end_with_stop, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_spin, guest_spin_end);
	guest_start(&guest);
	wait_for_progress(&guest, COUNTER);
	cr_expect(thread_exists("vcpu0"));
	tenon_vcpu_stop(guest.vcpus[0]);
	cr_expect_not(thread_exists("vcpu0"));
	guest_destroy(&guest);
}
