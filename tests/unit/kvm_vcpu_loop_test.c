// SPDX-License-Identifier: MIT
/* The loop of a vCPU's thread: each kind of exit, and what the controlling thread wants in between. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "kvm_fake.h"

#define RECORDS 32

struct record {
	char kind; /* i, o: port; r, w: memory */
	uint64_t address;
	unsigned size_bytes;
	uint64_t value;
};

static struct tenon_vm *vm;
static struct tenon_vcpu *vcpu;
static struct tenon_error error;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct record records[RECORDS];
static unsigned record_count, stop_count;
static enum tenon_vcpu_stop stop_reason;
static char stop_message[512];
static uint8_t next_byte;
static void (*in_handler)(void);

static void record(char kind, uint64_t address, const void *data, unsigned size_bytes)
{
	pthread_mutex_lock(&lock);
	if (record_count < RECORDS) {
		records[record_count] = (struct record){.kind = kind, .address = address, .size_bytes = size_bytes};
		memcpy(&records[record_count].value, data, size_bytes);
	}
	record_count++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	if (in_handler)
		in_handler();
}

static void on_port_read(void *context, uint16_t port, void *data, unsigned size_bytes)
{
	for (unsigned i = 0; i < size_bytes; i++)
		((uint8_t *)data)[i] = next_byte++;
	record('i', port, data, size_bytes);
}

static void on_port_write(void *context, uint16_t port, const void *data, unsigned size_bytes)
{
	record('o', port, data, size_bytes);
}

static void on_memory_read(void *context, uint64_t gpa, void *data, unsigned size_bytes)
{
	for (unsigned i = 0; i < size_bytes; i++)
		((uint8_t *)data)[i] = next_byte++;
	record('r', gpa, data, size_bytes);
}

static void on_memory_write(void *context, uint64_t gpa, const void *data, unsigned size_bytes)
{
	record('w', gpa, data, size_bytes);
}

static void on_stop(void *context, unsigned index, enum tenon_vcpu_stop why, const char *message)
{
	pthread_mutex_lock(&lock);
	stop_count++;
	stop_reason = why;
	snprintf(stop_message, sizeof(stop_message), "%s", message ? message : "(none)");
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void wait_for(const unsigned *counter, unsigned least)
{
	pthread_mutex_lock(&lock);
	while (*counter < least)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

static const struct tenon_vcpu_handlers handlers = {
	.size = sizeof(handlers),
	.port_read = on_port_read,
	.port_write = on_port_write,
	.memory_read = on_memory_read,
	.memory_write = on_memory_write,
	.stopped = on_stop,
};

static void create(void)
{
	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_create(vm, 0, &handlers, NULL, &vcpu, &error), 0, "%s", error.message);
}

static void destroy(void)
{
	tenon_vcpu_destroy(vcpu);
	tenon_vm_destroy(vm);
	fakekvm_assert_nothing_left();
}

TestSuite(kvm_vcpu_loop, .init = create, .fini = destroy, .timeout = 60);

static void run(const struct fakekvm_exit *exits, unsigned count)
{
	fakekvm_script(0, exits, count);
	cr_assert_eq(tenon_vcpu_start(vcpu, &error), 0, "%s", error.message);
}

static void run_until_idle(const struct fakekvm_exit *exits, unsigned count)
{
	run(exits, count);
	fakekvm_wait_until_in_guest(0);
}

static void expect_record(unsigned i, char kind, uint64_t address, unsigned size_bytes, uint64_t value)
{
	cr_assert_gt(record_count, i);
	cr_expect_eq(records[i].kind, kind, "record %u is of kind %c", i, records[i].kind);
	cr_expect_eq(records[i].address, address, "record %u is at %#llx", i, (unsigned long long)records[i].address);
	cr_expect_eq(records[i].size_bytes, size_bytes, "record %u has %u bytes", i, records[i].size_bytes);
	cr_expect_eq(records[i].value, value, "record %u is %#llx", i, (unsigned long long)records[i].value);
}

/* ---- Ports and memory ---- */

Test(kvm_vcpu_loop, a_string_of_port_writes_calls_once_per_element)
{
	const struct fakekvm_exit exit = {
		.reason = KVM_EXIT_IO,
		.io = {.size_bytes = 2, .port = 0x300, .count = 3, .data = {1, 2, 3, 4, 5, 6}},
	};
	run_until_idle(&exit, 1);
	cr_expect_eq(record_count, 3);
	expect_record(0, 'o', 0x300, 2, 0x0201);
	expect_record(1, 'o', 0x300, 2, 0x0403);
	expect_record(2, 'o', 0x300, 2, 0x0605);
	struct tenon_vcpu_stats stats;
	tenon_vcpu_stats_read(vcpu, &stats);
	cr_expect_eq(stats.port_writes, 1, "one exit");
}

Test(kvm_vcpu_loop, a_string_of_port_reads_fills_every_element)
{
	const struct fakekvm_exit exit = {.reason = KVM_EXIT_IO,
					  .io = {.in = true, .size_bytes = 4, .port = 0x301, .count = 4}};
	next_byte = 0x10;
	run_until_idle(&exit, 1);
	cr_expect_eq(record_count, 4);
	uint8_t data[64];
	cr_expect_eq(fakekvm_completed(0, data), 1);
	for (unsigned i = 0; i < 16; i++)
		cr_expect_eq(data[i], 0x10 + i);
}

Test(kvm_vcpu_loop, memory_accesses_of_ordinary_sizes_stay_whole_even_unaligned)
{
	const struct fakekvm_exit exits[] = {
		{.reason = KVM_EXIT_MMIO,
		 .mmio = {.write = true, .gpa = 0xd0000001, .length = 4, .data = {1, 2, 3, 4}}},
		{.reason = KVM_EXIT_MMIO,
		 .mmio = {.write = true, .gpa = 0xd0000004, .length = 8, .data = {1, 2, 3, 4, 5, 6, 7, 8}}},
		{.reason = KVM_EXIT_MMIO, .mmio = {.write = true, .gpa = 0xd0000003, .length = 1, .data = {9}}},
	};
	run_until_idle(exits, 3);
	cr_expect_eq(record_count, 3);
	expect_record(0, 'w', 0xd0000001, 4, 0x04030201);
	expect_record(1, 'w', 0xd0000004, 8, 0x0807060504030201ull);
	expect_record(2, 'w', 0xd0000003, 1, 9);
}

Test(kvm_vcpu_loop, memory_accesses_of_odd_sizes_come_in_aligned_pieces)
{
	const struct fakekvm_exit exits[] = {
		{.reason = KVM_EXIT_MMIO, .mmio = {.write = true, .gpa = 0xd0000ffd, .length = 3, .data = {1, 2, 3}}},
		{.reason = KVM_EXIT_MMIO,
		 .mmio = {.write = true, .gpa = 0xd0001000, .length = 7, .data = {1, 2, 3, 4, 5, 6, 7}}},
		{.reason = KVM_EXIT_MMIO,
		 .mmio = {.write = true, .gpa = 0xd0000003, .length = 5, .data = {1, 2, 3, 4, 5}}},
	};
	run_until_idle(exits, 3);
	expect_record(0, 'w', 0xd0000ffd, 1, 1);
	expect_record(1, 'w', 0xd0000ffe, 2, 0x0302);
	expect_record(2, 'w', 0xd0001000, 4, 0x04030201);
	expect_record(3, 'w', 0xd0001004, 2, 0x0605);
	expect_record(4, 'w', 0xd0001006, 1, 7);
	expect_record(5, 'w', 0xd0000003, 1, 1);
	expect_record(6, 'w', 0xd0000004, 4, 0x05040302);
	cr_expect_eq(record_count, 7);
}

Test(kvm_vcpu_loop, lengths_that_kvm_never_gives_do_no_harm)
{
	const struct fakekvm_exit exits[] = {
		{.reason = KVM_EXIT_MMIO, .mmio = {.gpa = 0xd0000000, .length = 0}},
		{.reason = KVM_EXIT_MMIO, .mmio = {.gpa = 0xd0000000, .length = 200}},
		{.reason = KVM_EXIT_IO, .io = {.in = true, .size_bytes = 1, .port = 1, .count = 0}},
	};
	run_until_idle(exits, 3);
	cr_expect_eq(record_count, 1);
	expect_record(0, 'r', 0xd0000000, 8, 0x0706050403020100ull);
}

Test(kvm_vcpu_loop, without_handlers_reads_give_all_ones)
{
	static const struct tenon_vcpu_handlers none = {.size = sizeof(size_t)};
	struct tenon_vcpu *other = NULL;
	cr_assert_eq(tenon_vcpu_create(vm, 1, &none, NULL, &other, &error), 0, "%s", error.message);
	const struct fakekvm_exit exits[] = {
		{.reason = KVM_EXIT_IO, .io = {.size_bytes = 1, .port = 1, .count = 1}},
		{.reason = KVM_EXIT_MMIO, .mmio = {.write = true, .gpa = 0xd0000000, .length = 3}},
		{.reason = KVM_EXIT_MMIO, .mmio = {.gpa = 0xd0000000, .length = 3}},
		{.reason = KVM_EXIT_IO, .io = {.in = true, .size_bytes = 4, .port = 1, .count = 2}},
	};
	fakekvm_script(1, exits, 4);
	cr_assert_eq(tenon_vcpu_start(other, &error), 0);
	fakekvm_wait_until_in_guest(1);
	uint8_t data[64];
	cr_expect_eq(fakekvm_completed(1, data), 4);
	for (unsigned i = 0; i < 8; i++)
		cr_expect_eq(data[i], 0xff);
	tenon_vcpu_destroy(other);
}

/* ---- Ends ---- */

static void expect_stop(const struct fakekvm_exit *exit, enum tenon_vcpu_stop reason, const char *text)
{
	run(exit, 1);
	wait_for(&stop_count, 1);
	tenon_vcpu_pause(vcpu, true);
	cr_expect_eq(stop_reason, reason);
	cr_expect_not_null(strstr(stop_message, text), "%s", stop_message);
	cr_expect_null(strchr(stop_message, '\n'), "%s", stop_message);
	cr_expect_eq(stop_count, 1);
}

Test(kvm_vcpu_loop, a_triple_fault_is_a_shutdown)
{
	expect_stop(&(struct fakekvm_exit){.reason = KVM_EXIT_SHUTDOWN}, TENON_VCPU_STOP_SHUTDOWN, "(none)");
}

Test(kvm_vcpu_loop, system_events_reset_and_power_off)
{
	expect_stop(&(struct fakekvm_exit){.reason = KVM_EXIT_SYSTEM_EVENT, .detail = KVM_SYSTEM_EVENT_RESET},
		    TENON_VCPU_STOP_SYSTEM_RESET, "(none)");
	tenon_vcpu_stop(vcpu);
	stop_count = 0;
	expect_stop(&(struct fakekvm_exit){.reason = KVM_EXIT_SYSTEM_EVENT, .detail = KVM_SYSTEM_EVENT_SHUTDOWN},
		    TENON_VCPU_STOP_SYSTEM_OFF, "(none)");
	tenon_vcpu_stop(vcpu);
	stop_count = 0;
	expect_stop(&(struct fakekvm_exit){.reason = KVM_EXIT_SYSTEM_EVENT, .detail = KVM_SYSTEM_EVENT_CRASH},
		    TENON_VCPU_STOP_FAILED, "system event 3");
}

Test(kvm_vcpu_loop, an_instruction_that_kvm_cannot_emulate_is_shown_with_registers)
{
	static const uint8_t instruction[15] = {0x0f, 0x0b, 0xcc};
	fakekvm_regs(0)->rip = 0xffffffff81000000ull;
	expect_stop(&(struct fakekvm_exit){.reason = KVM_EXIT_INTERNAL_ERROR,
					   .detail = KVM_INTERNAL_ERROR_EMULATION,
					   .instruction = instruction},
		    TENON_VCPU_STOP_FAILED, "vCPU 0: KVM cannot emulate an instruction (0f 0b cc");
	cr_expect_not_null(strstr(stop_message, "rip 0xffffffff81000000"), "%s", stop_message);
	cr_expect_not_null(strstr(stop_message, "cr0 "), "%s", stop_message);
}

Test(kvm_vcpu_loop, another_internal_error_tells_its_suberror_and_data)
{
	expect_stop(&(struct fakekvm_exit){.reason = KVM_EXIT_INTERNAL_ERROR, .detail = 4}, TENON_VCPU_STOP_FAILED,
		    "suberror 4, data 0xaa 0xbb");
}

Test(kvm_vcpu_loop, a_refused_entry_tells_the_hardwares_reason)
{
	expect_stop(&(struct fakekvm_exit){.reason = KVM_EXIT_FAIL_ENTRY, .detail = 0x80000021}, TENON_VCPU_STOP_FAILED,
		    "0x80000021");
}

Test(kvm_vcpu_loop, an_unknown_exit_tells_its_number)
{
	expect_stop(&(struct fakekvm_exit){.reason = 999}, TENON_VCPU_STOP_FAILED, "reason 999");
}

Test(kvm_vcpu_loop, a_failing_KVM_RUN_tells_why)
{
	expect_stop(&(struct fakekvm_exit){.error = EFAULT}, TENON_VCPU_STOP_FAILED, "KVM_RUN: Bad address");
}

Test(kvm_vcpu_loop, harmless_exits_go_on)
{
	const struct fakekvm_exit exits[] = {
		{.reason = KVM_EXIT_HLT},  {.reason = KVM_EXIT_IRQ_WINDOW_OPEN},
		{.reason = KVM_EXIT_INTR}, {.error = EAGAIN},
		{.error = EINTR},
	};
	run_until_idle(exits, 5);
	struct tenon_vcpu_stats stats;
	tenon_vcpu_stats_read(vcpu, &stats);
	cr_expect_eq(stats.halts, 1);
	cr_expect_eq(stats.other, 1);
	cr_expect_eq(stats.kicks, 2);
	cr_expect_eq(stop_count, 0);
}

Test(kvm_vcpu_loop, a_vcpu_that_stopped_itself_stays_so_until_restored_or_restarted)
{
	const struct fakekvm_exit exit = {.reason = KVM_EXIT_SHUTDOWN};
	struct tenon_vcpu_state *state = NULL;
	cr_assert_eq(tenon_vcpu_state_capture(vcpu, &state, &error), 0, "%s", error.message);
	run(&exit, 1);
	wait_for(&stop_count, 1);
	for (unsigned i = 0; i < 10; i++) {
		tenon_vcpu_pause(vcpu, true);
		tenon_vcpu_resume(vcpu);
	}
	tenon_vcpu_kick(vcpu);
	unsigned entered = fakekvm_calls("KVM_RUN");
	usleep(10000);
	cr_expect_eq(fakekvm_calls("KVM_RUN"), entered);
	cr_expect_not(fakekvm_in_guest(0));

	cr_assert_eq(tenon_vcpu_state_restore(vcpu, state, TENON_VCPU_RESTORE_RESET, &error), 0, "%s", error.message);
	fakekvm_wait_until_in_guest(0);
	tenon_vcpu_state_free(state);

	fakekvm_script(0, &exit, 1);
	wait_for(&stop_count, 2);
	tenon_vcpu_stop(vcpu);
	cr_assert_eq(tenon_vcpu_start(vcpu, &error), 0, "%s", error.message);
	fakekvm_wait_until_in_guest(0);
}

/* ---- Wishes ---- */

Test(kvm_vcpu_loop, a_kick_leaves_the_guest_once_and_goes_back)
{
	run_until_idle(NULL, 0);
	struct tenon_vcpu_stats stats;
	tenon_vcpu_stats_read(vcpu, &stats);
	uint64_t before = stats.kicks;
	tenon_vcpu_kick(vcpu);
	do
		tenon_vcpu_stats_read(vcpu, &stats);
	while (stats.kicks == before);
	fakekvm_wait_until_in_guest(0);
	cr_expect_eq(stop_count, 0);
}

static void kick_self(void)
{
	tenon_vcpu_kick(vcpu);
}

/* The signal arrives while the thread is in the handler and is gone; immediate_exit remembers it. */
Test(kvm_vcpu_loop, a_kick_that_finds_the_vcpu_outside_the_guest_is_not_lost)
{
	const struct fakekvm_exit exit = {.reason = KVM_EXIT_IO, .io = {.size_bytes = 1, .port = 1, .count = 1}};
	in_handler = kick_self;
	run_until_idle(&exit, 1);
	struct tenon_vcpu_stats stats;
	tenon_vcpu_stats_read(vcpu, &stats);
	cr_expect_eq(stats.kicks, 1);
}

static void pause_self(void)
{
	tenon_vcpu_pause(vcpu, true);
	struct kvm_regs regs;
	cr_expect_eq(tenon_vcpu_get_regs(vcpu, &regs, &error), 0, "a handler may look at its own vCPU: %s",
		     error.message);
}

Test(kvm_vcpu_loop, a_handler_can_pause_its_own_vcpu_and_the_access_is_completed)
{
	const struct fakekvm_exit exit = {.reason = KVM_EXIT_IO,
					  .io = {.in = true, .size_bytes = 1, .port = 1, .count = 1}};
	in_handler = pause_self;
	run(&exit, 1);
	wait_for(&record_count, 1);
	tenon_vcpu_pause(vcpu, true);
	cr_expect_eq(fakekvm_completed(0, NULL), 1);
	cr_expect_not(fakekvm_in_guest(0));
	in_handler = NULL;
	tenon_vcpu_resume(vcpu);
	fakekvm_wait_until_in_guest(0);
}

Test(kvm_vcpu_loop, a_pause_completes_all_parts_of_an_access)
{
	const struct fakekvm_exit exits[] = {
		{.reason = KVM_EXIT_MMIO, .mmio = {.gpa = 0xd0000ffe, .length = 2}},
		{.reason = KVM_EXIT_MMIO, .mmio = {.gpa = 0xd0001000, .length = 2}, .detail = 1},
		{.reason = KVM_EXIT_IO, .io = {.size_bytes = 1, .port = 1, .count = 1}},
	};
	in_handler = pause_self;
	run(exits, 3);
	wait_for(&record_count, 2);
	tenon_vcpu_pause(vcpu, true);
	cr_expect_eq(fakekvm_completed(0, NULL), 2);
	cr_expect_eq(record_count, 2, "the next instruction was not run");
}

Test(kvm_vcpu_loop, stopping_completes_the_access_under_way)
{
	const struct fakekvm_exit exit = {.reason = KVM_EXIT_IO,
					  .io = {.in = true, .size_bytes = 1, .port = 1, .count = 1}};
	in_handler = pause_self;
	run(&exit, 1);
	wait_for(&record_count, 1);
	tenon_vcpu_stop(vcpu);
	cr_expect_eq(fakekvm_completed(0, NULL), 1);
}

static void *kick_many(void *argument)
{
	for (unsigned i = 0; i < 20000; i++)
		tenon_vcpu_kick(vcpu);
	return NULL;
}

Test(kvm_vcpu_loop, storms_of_pauses_and_kicks_lose_nothing)
{
	pthread_t kickers[2];
	run(NULL, 0);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&kickers[i], NULL, kick_many, NULL), 0);
	for (unsigned i = 0; i < 3000; i++) {
		tenon_vcpu_pause(vcpu, true);
		cr_assert_not(fakekvm_in_guest(0));
		tenon_vcpu_resume(vcpu);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(kickers[i], NULL);
	fakekvm_wait_until_in_guest(0);
	for (unsigned i = 0; i < 300; i++) {
		tenon_vcpu_stop(vcpu);
		tenon_vcpu_kick(vcpu);
		cr_assert_eq(tenon_vcpu_start(vcpu, &error), 0, "%s", error.message);
	}
}

Test(kvm_vcpu_loop, a_pause_before_start_starts_paused_and_stop_forgets_it)
{
	tenon_vcpu_pause(vcpu, true);
	run(NULL, 0);
	tenon_vcpu_pause(vcpu, true);
	cr_expect_eq(fakekvm_calls("KVM_RUN"), 0);
	tenon_vcpu_stop(vcpu);
	cr_assert_eq(tenon_vcpu_start(vcpu, &error), 0);
	fakekvm_wait_until_in_guest(0);
}

Test(kvm_vcpu_loop, registers_of_a_running_vcpu_are_refused_and_those_of_a_paused_one_are_not)
{
	struct kvm_regs regs;
	struct tenon_vcpu_state *state = NULL;
	cr_expect_eq(tenon_vcpu_get_regs(vcpu, &regs, &error), 0);
	run_until_idle(NULL, 0);
	cr_expect_eq(tenon_vcpu_get_regs(vcpu, &regs, &error), -EBUSY);
	cr_expect_not_null(strstr(error.message, "vCPU 0: KVM_GET_REGS: it is running"), "%s", error.message);
	cr_expect_eq(tenon_vcpu_state_capture(vcpu, &state, &error), -EBUSY);
	cr_expect_eq(tenon_vcpu_start(vcpu, &error), -EBUSY);
	tenon_vcpu_pause(vcpu, true);
	cr_expect_eq(tenon_vcpu_get_regs(vcpu, &regs, &error), 0, "%s", error.message);
	tenon_vcpu_stop(vcpu);
	cr_expect_eq(tenon_vcpu_get_regs(vcpu, &regs, &error), 0, "%s", error.message);
}

Test(kvm_vcpu_loop, a_thread_that_cannot_start_leaves_the_vcpu_as_it_was)
{
	fakekvm_fail_always("pthread_create", EAGAIN);
	cr_expect_eq(tenon_vcpu_start(vcpu, &error), -EAGAIN);
	cr_expect_not_null(strstr(error.message, "vCPU 0"), "%s", error.message);
	struct kvm_regs regs;
	cr_expect_eq(tenon_vcpu_get_regs(vcpu, &regs, &error), 0, "%s", error.message);
	tenon_vcpu_pause(vcpu, true);
	tenon_vcpu_resume(vcpu);
	fakekvm_fail_always(NULL, 0);
	cr_assert_eq(tenon_vcpu_start(vcpu, &error), 0, "%s", error.message);
	fakekvm_wait_until_in_guest(0);
}
